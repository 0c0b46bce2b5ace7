"""Layers that compute in int8 on OpenVINO."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from benchmarks.int8 import collect_lines
from edge_ocr.engines.openvino_graph import simplify
from edge_ocr.engines.openvino_int8 import TABLE, find_ranges, quantise
from edge_ocr.errors import ModelError
from edge_ocr.models.registry import REGISTRY

RNG = np.random.default_rng(3)


def make_network() -> ov.Model:
    source = op.parameter([-1, 4, -1, -1], ov.Type.f32)
    source.output(0).set_names({"in"})
    inner = op.relu(source)
    inner.output(0).set_names({"inner"})
    weights = op.constant(RNG.normal(0, 1, (8, 4, 3, 3)).astype(np.float32))
    return ov.Model([op.result(op.convolution(inner, weights, [1, 1], [1, 1], [1, 1], [1, 1]))], [source], "network")


def run(model: ov.Model, array: np.ndarray) -> np.ndarray:
    return ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([array])[0].copy()


def read(model: ov.Model, line: np.ndarray) -> list[int]:
    """Return the classes of a line, without blanks."""
    best = run(model, line)[0].argmax(axis=1)
    return [int(step) for step, before in zip(best, [0, *best[:-1]], strict=True) if step not in (0, before)]


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
    with pytest.raises(ModelError, match="no layer reads other"):
        quantise(make_network(), {"other": (0.0, 1.0)})


def test_ranges_are_those_of_the_exact_file(default_models, tmp_path):
    model = default_models["PP-OCRv4_mobile_rec"]
    assert len(find_ranges(model) or ()) == 9
    for field in ("program", "params"):
        other = tmp_path / field
        other.write_bytes(getattr(model, field).read_bytes() + b"\n")
        assert find_ranges(replace(model, **{field: other})) is None
    assert find_ranges(default_models["PP-OCRv4_mobile_det"]) is None


@pytest.mark.parametrize(("scale", "least", "most"), [(1, 0.9, 1), (0.1, 0, 0.5)], ids=["known", "too narrow"])
def test_the_default_recogniser_reads_in_int8(default_models, examples, scale, least, most):
    model = default_models["PP-OCRv4_mobile_rec"]
    lines = collect_lines(model.name, [examples / "receipt.jpg"])
    assert len(lines) > 40
    network = ov.Core().read_model(model.program)
    simplify(network)
    exact = [read(network, line) for line in lines]
    ranges = find_ranges(model)
    assert ranges is not None
    quantise(network, {name: (scale * low, scale * high) for name, (low, high) in ranges.items()})
    assert count_ops(network)["FakeQuantize"] == 18
    rounded = [read(network, line) for line in lines]
    assert least <= np.mean([a == b for a, b in zip(exact, rounded, strict=True)]) <= most


def test_ranges_in_the_table_are_ranges():
    for key, known in json.loads(TABLE.read_text(encoding="utf-8")).items():
        assert known["inputs"]
        published = {file.sha256 for source in REGISTRY[known["name"]].sources for file in source.files}
        assert published.issuperset(key.split("-"))
        assert all(low <= 0 < high for low, high in known["inputs"].values()), known["name"]
