"""Shared by all tests: pipelines that are built once, and how readings are held against labels."""

from __future__ import annotations

import contextlib
import json
import platform
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from converters.opt import describe_interpreter
from converters.toolchain import LITE_VERSION, OptToolchain, find_opt_interpreter, find_wheel, list_interpreters
from edge_ocr import OcrPipeline, OcrResult, create_pipeline, model_store
from edge_ocr.errors import ToolchainError
from edge_ocr.models import locate_model

DEFAULT_MODELS = ("PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec", "ch_ppocr_mobile_v2_cls")


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parent.parent


def _starts(python: Path) -> bool:
    with contextlib.suppress(ToolchainError):
        return bool(describe_interpreter(python))
    return False


@pytest.fixture(scope="session")
def opt() -> OptToolchain:
    """The real opt tool; skips where this machine has no Python that its wheels are for, and none can be fetched."""
    if platform.machine() != "x86_64":
        pytest.skip("no opt: paddlelite has no wheel for this machine")
    try:
        return find_opt_interpreter()
    except ToolchainError:
        if any(map(_starts, list_interpreters(find_wheel(LITE_VERSION)))):
            raise
        pytest.skip("no opt: this machine has no Python 3.8 to 3.10, and uv could not fetch one")


@pytest.fixture(scope="session")
def examples(repository) -> Path:
    return repository / "examples" / "images"


@pytest.fixture(scope="session")
def default_models(tmp_path_factory):
    """Skips where the default models are not on this machine; nothing is fetched by tests."""
    with pytest.MonkeyPatch.context() as patch:
        if model_store.find_carrier() is not None:
            # Whatever lies in the user's own store is no part of the tests.
            patch.setenv("EDGE_OCR_HOME", str(tmp_path_factory.mktemp("home")))
        found = {name: locate_model(name) for name in DEFAULT_MODELS}
        missing = [name for name, model in found.items() if model is None]
        if missing:
            pytest.skip(f"models not on this machine: {', '.join(missing)}")
        return found


@pytest.fixture(scope="session")
def open_pipeline(default_models, tmp_path_factory) -> Callable[..., OcrPipeline]:
    """Build a pipeline, or return the one that was built with the same arguments."""
    built: dict[str, OcrPipeline] = {}

    def build(engine: str = "openvino", **overrides: Any) -> OcrPipeline:
        # Keyword names cannot hold dots: Detection__thresh is Detection.thresh.
        paths = {name.replace("__", "."): value for name, value in overrides.items()}
        key = json.dumps([engine, paths], sort_keys=True)
        if key not in built:
            with pytest.MonkeyPatch.context() as patch:
                if model_store.find_carrier() is not None:
                    patch.setenv("EDGE_OCR_HOME", str(tmp_path_factory.mktemp("home")))
                built[key] = create_pipeline(engine=engine, overrides=paths)
        return built[key]

    return build


@pytest.fixture(scope="session")
def read_example(open_pipeline, examples) -> Callable[..., OcrResult]:
    """Read a picture of `examples/images`, once for each set of arguments."""
    read: dict[str, OcrResult] = {}

    def read_picture(picture: str, engine: str = "openvino", **overrides: Any) -> OcrResult:
        key = json.dumps([picture, engine, overrides], sort_keys=True)
        if key not in read:
            (read[key],) = open_pipeline(engine, **overrides).predict(examples / picture)
        return read[key]

    return read_picture


@dataclass(frozen=True)
class Match:
    """How a result fits its labels."""

    wanted: int
    """Labelled lines that count."""
    found: int
    """Of these, met by a box at IoU 0.5."""
    exact: int
    """Of these, read without a mistake (NFKC-folded, lower-case, without spaces)."""
    spurious: int
    """Boxes that meet no label."""


class Judge:
    """Holds results against labels, by the same rules as the shared `score.py`."""

    @staticmethod
    def fold(text: str) -> str:
        return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if not c.isspace())

    @staticmethod
    def measure_iou(a: Any, b: Any) -> float:
        hulls = [cv2.convexHull(np.array(polygon, dtype=np.float32)) for polygon in (a, b)]
        shared = cv2.intersectConvexConvex(*hulls)[0]
        union = sum(map(cv2.contourArea, hulls)) - shared
        return float(shared / union) if union else 0.0

    def match(self, words: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> Match:
        taken: set[int] = set()
        wanted = found = exact = 0
        for word in words:
            overlaps = {
                i: self.measure_iou(word["poly"], polygon)
                for i, polygon in enumerate(result["dt_polys"])
                if i not in taken
            }
            best = max(overlaps, key=overlaps.__getitem__, default=None)
            hit = best is not None and overlaps[best] >= 0.5
            if hit:
                taken.add(best)
            if word.get("ignore"):
                continue
            wanted += 1
            found += hit
            exact += hit and self.fold(word["text"]) == self.fold(result["rec_text"][best])
        return Match(wanted, found, exact, len(result["dt_polys"]) - len(taken))

    def count_texts(self, words: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> int:
        """How many of the texts stand somewhere in what was read."""
        whole = "".join(map(self.fold, result["rec_text"]))
        return sum(self.fold(word["text"]) in whole for word in words)

    @staticmethod
    def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
        """Assert that two results have the same texts in the same order; return how far corners are apart, in px."""
        assert a["rec_text"] == b["rec_text"]
        if not a["dt_polys"]:
            return 0.0
        return float(np.abs(np.array(a["dt_polys"]) - np.array(b["dt_polys"])).max())


@pytest.fixture(scope="session")
def judge() -> Judge:
    return Judge()


def read_labels(folder: Path) -> dict[str, dict[str, Any]]:
    rows = map(json.loads, (folder / "gt.jsonl").read_text(encoding="utf-8").splitlines())
    return {row["image"]: row for row in rows}


@pytest.fixture(scope="session")
def example_labels(examples) -> dict[str, dict[str, Any]]:
    return read_labels(examples)
