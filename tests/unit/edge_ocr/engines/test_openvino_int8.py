"""Layers that compute in int8 on OpenVINO."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from edge_ocr.engines.openvino_graph import simplify
from edge_ocr.engines.openvino_int8 import TABLE, find_ranges, list_inputs, quantise

RNG = np.random.default_rng(3)
LINE = RNG.uniform(-1, 1, (1, 3, 48, 192)).astype(np.float32)


def make_network() -> ov.Model:
    source = op.parameter([-1, 4, -1, -1], ov.Type.f32)
    source.output(0).set_names({"in"})
    inner = op.relu(source)
    inner.output(0).set_names({"inner"})
    weights = op.constant(RNG.normal(0, 1, (8, 4, 3, 3)).astype(np.float32))
    return ov.Model([op.result(op.convolution(inner, weights, [1, 1], [1, 1], [1, 1], [1, 1]))], [source], "network")


def run(model: ov.Model, array: np.ndarray) -> np.ndarray:
    return ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([array])[0].copy()


def count_ops(model: ov.Model) -> Counter[str]:
    return Counter(node.get_type_name() for node in model.get_ops())


def test_a_layer_is_rounded_to_8_bits():
    model, array = make_network(), RNG.uniform(0, 1, (1, 4, 9, 9)).astype(np.float32)
    exact = run(model, array)
    quantise(model, {"inner": (0.0, 1.0)})
    assert count_ops(model)["FakeQuantize"] == 2
    differences = np.abs(run(model, array) - exact)
    assert 0 < differences.max() < 0.05 * np.abs(exact).max()


def test_values_outside_the_range_are_clipped():
    model = make_network()
    quantise(model, {"inner": (0.0, 1.0)})
    ones = np.ones((1, 4, 5, 5), dtype=np.float32)
    np.testing.assert_allclose(run(model, 7 * ones), run(model, ones), atol=1e-5)


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-0.17, 3.1), (-2.0, 0.3)])
def test_zero_stays_zero(ends):
    # Otherwise padding would add to the edges.
    model = make_network()
    quantise(model, {"inner": ends})
    assert not run(model, np.zeros((1, 4, 5, 5), dtype=np.float32)).any()


def test_an_unknown_tensor_is_refused():
    with pytest.raises(KeyError, match="other"):
        quantise(make_network(), {"other": (0.0, 1.0)})


def test_ranges_are_those_of_the_exact_file(default_models, tmp_path):
    model = default_models["PP-OCRv4_mobile_rec"]
    assert len(find_ranges(model) or ()) == 9
    other = tmp_path / "inference.pdmodel"
    other.write_bytes(model.program.read_bytes() + b"\n")
    assert find_ranges(replace(model, program=other)) is None
    assert find_ranges(default_models["PP-OCRv4_mobile_det"]) is None


def test_the_default_recogniser_in_int8(default_models):
    model = default_models["PP-OCRv4_mobile_rec"]
    network = ov.Core().read_model(model.program)
    simplify(network)
    exact = run(network, LINE)
    ranges = find_ranges(model)
    assert ranges is not None
    assert set(ranges) <= set(list_inputs(network))
    quantise(network, ranges)
    assert count_ops(network)["FakeQuantize"] == 18
    assert 0 < np.abs(run(network, LINE) - exact).mean() < 1e-4


def test_ranges_in_the_table_are_ranges():
    for known in json.loads(TABLE.read_text(encoding="utf-8")).values():
        assert known["inputs"]
        assert all(low <= 0 < high for low, high in known["inputs"].values()), known["name"]
