"""Mean inputs of layers, and the bundles whose biases they correct."""

import json

import numpy as np
from support.nb_programs import build_model, draw, feed, fetch, make_op

from converters.calibration import _Probe
from converters.verify.verify import VerifyOptions, verify_bundle


def test_means_of_inputs():
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
    probe = _Probe(nb, "rec")
    assert probe.means == {}
    arrays = draw(1, 3, 4, 6, seed=3), draw(2, 3, 4, 10, seed=4)
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


def test_floats_and_unedited_graphs_have_none(export):
    for options in ({}, {"precision": "int16"}, {"precision": "int8", "optimize": False}):
        models = json.loads((export(**options).out_dir / "manifest.json").read_bytes())["models"]
        assert not any(entry["name"] == "correct_biases" for model in models.values() for entry in model["passes"])
