"""A bundle with the classifier of pages: made from a small network that takes every page for upright."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
from support.onnx_models import make

from converters.bundle.reader import inspect_bundle
from converters.export import export_bundle
from converters.plan import ExportOptions
from converters.verify.verify import VerifyOptions, verify_bundle
from edge_ocr.config import load_config
from edge_ocr.core import LiteOCR
from edge_ocr.models.resolve import resolve_model


def make_classifier(folder, best):
    """Write a classifier that always chooses class `best`."""
    folder.mkdir()
    bias = np.where(np.arange(4) == best, 5, 0).astype(np.float32)
    weights = np.zeros((4, 3, 1, 1), np.float32)
    make(
        [
            ("GlobalAveragePool", ("x",), "mean", {}),
            ("Conv", ("mean", "weights", "bias"), "logits", {}),
            ("Reshape", ("logits", "shape"), "row", {}),
            ("Softmax", ("row",), "y", {"axis": 1}),
        ],
        {"weights": weights, "bias": bias, "shape": np.array([-1, 4], np.int64)},
        shape=("N", 3, 224, 224),
        out_rank=2,
        path=folder / "inference.onnx",
    )
    return folder


@pytest.fixture(scope="module")
def bundle(opt, default_models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    overrides = {
        "Pipeline.use_page_orientation": True,
        "Pipeline.page_orientation_model": str(make_classifier(folder / "mine", 0)),
        "PageOrientation.thresh": 0.7,
    }
    done = export_bundle("arm", folder / "bundle", load_config("OCR", overrides), ExportOptions(with_onnx=True))
    assert done.parity is not None
    assert done.parity.figures["page.turn_probs.max_abs_diff"] < 1e-4
    return done.out_dir


def test_bundle_holds_the_classifier_and_its_settings(bundle):
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    assert set(manifest["models"]) == set(manifest["onnx"]) == {"det", "rec", "page"}
    assert manifest["settings"]["page_orientation"]["threshold"] == 0.7
    assert inspect_bundle(bundle).bundle is not None
    readme = (bundle / "README.md").read_text(encoding="utf-8")
    assert "models/page.nb" in readme
    assert "models/cls.nb" not in readme


def test_a_board_reads_with_it(bundle, examples):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    reading = LiteOCR(bundle).predict(examples / "sign.png")
    assert reading.page_angle == 0
    assert len(reading.lines) == 4
    assert "page_orientation" in reading.timings_ms


def test_a_bundle_whose_pipeline_does_not_use_it_is_refused(bundle, tmp_path):
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    text = (folder / "pipeline.yaml").read_text(encoding="utf-8")
    assert text.count("use_page_orientation: true") == 1
    changed = text.replace("use_page_orientation: true", "use_page_orientation: false").encode()
    (folder / "pipeline.yaml").write_bytes(changed)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["pipeline.yaml"] = {"sha256": hashlib.sha256(changed).hexdigest(), "size_bytes": len(changed)}
    # Without it: its hash of pipeline.yaml would be another fault.
    del manifest["files"]["bom.cdx.json"]
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    failed = {check.name: check.detail for check in inspect_bundle(folder).checks if not check.passed}
    assert failed == {"page_orientation": "classifier off in pipeline.yaml, present in the bundle"}


def test_another_classifier_as_the_reference_fails(bundle, tmp_path, examples):
    other = resolve_model(make_classifier(tmp_path / "other", 2), "page")
    report = verify_bundle(bundle, VerifyOptions(images=(examples / "sign.png",)), sources={"page": other})
    assert {check.name for check in report.failures} >= {"page.turn_probs.max_abs_diff"}
