"""Mean inputs of layers, and the bundles whose biases they correct."""

import json

import cv2
import numpy as np
import pytest
from support.nb_programs import build_model, draw, feed, fetch, make_op

from converters.calibration import _Probe
from converters.export import export_bundle
from converters.lite.graph_engines import open_graph_engines
from converters.plan import ExportOptions
from converters.verify.verify import VerifyOptions, verify_bundle
from edge_ocr.config import load_config
from edge_ocr.engines import FAST_ENGINES, is_installed


def allow_engines(monkeypatch, *names):
    monkeypatch.setattr("converters.lite.graph_engines.is_installed", lambda name: name in names and is_installed(name))


@pytest.mark.parametrize("engine", FAST_ENGINES)
def test_means_of_inputs(monkeypatch, engine):
    pytest.importorskip(engine, reason=f"{engine} is not installed")
    allow_engines(monkeypatch, engine)
    conv = {"strides": (1, 1), "paddings": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1}
    nb = build_model(
        [
            feed("x"),
            make_op("relu", {"X": "x"}, {"Out": "a"}),
            make_op("conv2d", {"Input": "a", "Filter": "w"}, {"Output": "c"}, **conv),
            make_op("transpose2", {"X": "c"}, {"Out": "r"}, axis=(0, 2, 3, 1)),
            make_op("fc", {"Input": "r", "W": "v", "Bias": "b"}, {"Out": "y"}, op_type="matmul_v2"),
            fetch("y"),
        ],
        {"x": (-1, 3, -1, -1)},
        {"w": draw(4, 3, 1, 1), "v": draw(4, 5, seed=1), "b": draw(5, seed=2)},
    )
    probe = _Probe(nb)
    assert probe.means == {}
    arrays = draw(1, 3, 4, 6, seed=3), draw(2, 3, 4, 10, seed=4)
    with open_graph_engines({"rec": nb}, 1, lambda kind, graph: probe.extend(graph)) as opened:
        assert opened.name == engine
        probe.engine = opened.engines["rec"]
        outputs = [probe.run(array) for array in arrays]
    inputs = [np.maximum(array, 0) for array in arrays]
    weights = nb.params["w"].to_array()[:, :, 0, 0]
    rows = [np.einsum("nihw,oi->nhwo", array, weights) for array in inputs]
    for found, given in zip(outputs, rows, strict=True):
        wanted = given @ nb.params["v"].to_array() + nb.params["b"].to_array()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)
    # The larger picture counts for more. Means have a few digits.
    pixels = np.concatenate([array.transpose(0, 2, 3, 1).reshape(-1, 3) for array in inputs])
    np.testing.assert_allclose(probe.means["w"], pixels.mean(0), rtol=0, atol=2e-3)
    stacked = np.concatenate([array.reshape(-1, 4) for array in rows])
    np.testing.assert_allclose(probe.means["v"], stacked.mean(0), rtol=0, atol=2e-3)
    assert np.abs(probe.means["w"] - np.concatenate([array.mean((0, 2, 3)) for array in inputs]).mean()).max() > 2e-3


def test_biases_of_a_bundle_are_corrected(export):
    bundle = export(precision="int8").out_dir
    models = json.loads((bundle / "manifest.json").read_bytes())["models"]
    passes = {entry["name"]: entry["changed"] for entry in models["rec"]["passes"]}
    assert list(passes)[-1] == "correct_biases"
    assert passes["correct_biases"] > 20
    assert models["det"]["passes"][-1]["name"] != "correct_biases"
    figures = verify_bundle(bundle, VerifyOptions()).figures
    # Without the correction: 1.03 and 0.026 (PP-OCRv4 mobile).
    assert figures["rec.log_probs.worst_class_diff"] < 0.8
    assert figures["rec.probs.mean_step_diff"] < 0.02


def export_int8(tmp_path):
    """Return what is reported about the biases, and the names of the recogniser's passes."""
    steps = []
    options = ExportOptions(precision="int8", verify=False)
    done = export_bundle("arm", tmp_path / "bundle", load_config("OCR"), options, report=steps.append)
    assert sorted(step.split(",")[0] for step in steps if ": opt," in step) == ["det: opt", "rec: opt"]
    manifest = json.loads((done.out_dir / "manifest.json").read_bytes())
    passes = [entry["name"] for entry in manifest["models"]["rec"]["passes"]]
    return [step for step in steps if "biases are" in step], passes


def test_without_an_engine_biases_stay(opt, default_models, monkeypatch, tmp_path):
    allow_engines(monkeypatch)
    steps, passes = export_int8(tmp_path)
    assert steps == ["biases are not corrected: no engine for ONNX is installed"]
    assert "correct_biases" not in passes


def test_without_lines_biases_stay(opt, default_models, monkeypatch, tmp_path):
    blank = tmp_path / "blank.png"
    blank.write_bytes(cv2.imencode(".png", np.full((64, 64, 3), 255, np.uint8))[1].tobytes())
    monkeypatch.setattr("converters.calibration._list_pictures", lambda: [blank])
    steps, passes = export_int8(tmp_path)
    assert steps == ["no text line was found on the shipped pictures; biases are not corrected"]
    assert "correct_biases" not in passes


def test_onnx_runtime_measures_too(opt, default_models, monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    allow_engines(monkeypatch, "onnxruntime")
    steps, passes = export_int8(tmp_path)
    assert steps == []
    assert passes[-1] == "correct_biases"


def test_floats_and_unedited_graphs_have_none(export):
    for options in ({}, {"precision": "int16"}, {"precision": "int8", "optimize": False}):
        models = json.loads((export(**options).out_dir / "manifest.json").read_bytes())["models"]
        assert not any(entry["name"] == "correct_biases" for model in models.values() for entry in model["passes"])
