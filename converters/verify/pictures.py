"""The pictures that a bundle is verified on, and their labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters.bundle.pictures import find_pictures_folder
from converters.text import clean_text
from edge_ocr.config import InputSettings
from edge_ocr.core.types import BgrImage
from edge_ocr.errors import InputError
from edge_ocr.inputs import list_sources

# Under emulation a line takes seconds: one picture with a few lines must do.
_SLOW_PICTURE = "sign.png"

LABELS = "gt.jsonl"


@dataclass(frozen=True)
class Picture:
    name: str
    image: BgrImage
    words: Sequence[Mapping[str, Any]] | None


def list_pictures(
    images: Sequence[str | Path], truth: Path | None, *, is_slow: bool, settings: InputSettings
) -> Iterator[Picture]:
    """Return the pictures to compare on, each decoded when needed.

    `is_slow`: by default use one small picture.

    Raises InputError if labels cannot be read or fit no picture, or if there is no picture.
    """
    labels = {} if truth is None else _read_labels(truth)
    if not images and truth is not None:
        images = [truth.parent / name for name in labels]
    elif not images and is_slow:
        images = [find_pictures_folder() / _SLOW_PICTURE]
    elif not images:
        images = sorted(path for path in find_pictures_folder().iterdir() if path.suffix in (".jpg", ".png"))
    # A list, so that a missing file is found before minutes of work.
    sources = [source for image in images for source in list_sources(image)]
    if not sources:
        raise InputError("no picture to compare on", "give pictures or folders with pictures (--images)")
    # A label names its picture by path, relative to the labels' folder, or by file name alone.
    by_path = {} if truth is None else {_resolve(truth.parent / name): name for name in labels}

    def find_words(path: Path) -> list[dict[str, Any]] | None:
        return labels.get(by_path.get(_resolve(path), path.name))

    if labels and not any(find_words(Path(str(source.input_path))) is not None for source in sources):
        raise InputError(
            f"{truth}: no labels for any of the {len(sources)} pictures", "check that `image` names the pictures"
        )

    def decode() -> Iterator[Picture]:
        for source in sources:
            path = Path(str(source.input_path))
            for page in source.pages(settings):
                name = path.name if page.page_index is None else f"{path.name}, page {page.page_index + 1}"
                yield Picture(name, page.image, find_words(path) if page.page_index is None else None)

    return decode()


def _resolve(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):  # not a path: a URL, for example
        return path


def _read_labels(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the words of each picture in a gt.jsonl."""
    try:
        # Not splitlines: texts may contain other line separators.
        rows = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"{path}: cannot be read: {reason}", "give a gt.jsonl (--gt)") from None
    labels: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        try:
            content = json.loads(row)
            name = content["image"]
            if not isinstance(name, str):
                raise TypeError("image is not a string")
            labels[name] = [_check_word(word) for word in content["words"]]
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            expected = '{"image", "words": [{"poly": [[x, y] * 4] | null, "text", "ignore"?}]}'
            reason = clean_text(repr(error))
            raise InputError(f"{path}: line {number}: {reason}, expected {expected}") from None
    return labels


# Far beyond any picture, and exact in 32-bit floats.
_MAX_COORDINATE = 1e6


def _check_word(word: Any) -> dict[str, Any]:
    poly = word["poly"]
    if poly is not None:
        points = np.array(poly, dtype=np.float64)
        if points.shape != (4, 2) or not (np.abs(points) < _MAX_COORDINATE).all():
            raise ValueError("poly is not four points")
    if not isinstance(word["text"], str):
        raise TypeError("text is not a string")
    return dict(word)
