"""Rewriting networks for OpenVINO: the same results, fewer and faster ops."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from edge_ocr.core.imaging import normalize_picture
from edge_ocr.engines.openvino_graph import simplify

RNG = np.random.default_rng(7)
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


def draw(*shape: int) -> np.ndarray:
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def take(channels: int, height: int | None = None, width: int | None = None) -> ov.Node:
    return op.parameter([-1, channels, height or -1, width or -1], ov.Type.f32)


def convolve(value, outputs, inputs, side=3, stride=1):
    pads = [side // 2] * 2
    return op.convolution(value, op.constant(draw(outputs, inputs, side, side)), [stride] * 2, pads, pads, [1, 1])


def scale_up(value, inputs, outputs, side=2, stride=2, pad=0):
    weights, pads = op.constant(draw(inputs, outputs, side, side)), [pad] * 2
    return op.add(
        op.convolution_backprop_data(value, weights, [stride] * 2, pads_begin=pads, pads_end=pads),
        op.constant(draw(1, outputs, 1, 1)),
    )


def build(source: ov.Node, *results: ov.Node) -> ov.Model:
    return ov.Model([op.result(each) for each in results], [source], "network")


def run(model: ov.Model, array: np.ndarray) -> np.ndarray:
    return ov.compile_model(model, "CPU", EXACT)([array])[0].copy()


def compare(model: ov.Model, array: np.ndarray) -> Counter[str]:
    """Check that simplifying keeps the results; return how often each op occurs afterwards."""
    before = run(model.clone(), array)
    simplify(model)
    np.testing.assert_allclose(run(model, array), before, rtol=0, atol=2e-5)
    return Counter(node.get_type_name() for node in model.get_ops())


def make_head(**second):
    source = take(3)
    inner = op.relu(scale_up(convolve(source, 5, 3), 5, 7))
    return build(source, op.sigmoid(scale_up(inner, 7, **{"outputs": 1, **second})))


def test_a_head_is_computed_at_a_quarter_of_its_size():
    ops = compare(make_head(), draw(2, 3, 12, 20))
    assert ops["DepthToSpace"] == 1
    assert ops["ConvolutionBackpropData"] == 0


def test_each_pixel_of_a_head_is_in_its_place():
    # One bright input pixel lights one block of 4 × 4.
    source = take(1)
    ones = op.constant(np.ones((1, 1, 2, 2), dtype=np.float32))
    zero = op.constant(np.zeros((1, 1, 1, 1), dtype=np.float32))
    inner = op.relu(op.add(op.convolution_backprop_data(source, ones, [2, 2]), zero))
    weights = op.constant(np.array([[[[1, 2], [3, 4]]]], dtype=np.float32))
    model = build(source, op.sigmoid(op.add(op.convolution_backprop_data(inner, weights, [2, 2]), zero)))
    simplify(model)
    picture = np.zeros((1, 1, 3, 3), dtype=np.float32)
    picture[0, 0, 1, 2] = 1
    expected = np.full((12, 12), 0.5)
    expected[4:8, 8:12] = np.tile(1 / (1 + np.exp(-np.array([[1, 2], [3, 4]]))), (2, 2))
    np.testing.assert_allclose(run(model, picture)[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    "second",
    [{"outputs": 2}, {"side": 3}, {"side": 4, "pad": 1}, {"stride": 1}],
    ids=["two maps", "kernel of 3", "kernels that overlap", "no scaling"],
)
def test_other_heads_stay(second):
    ops = compare(make_head(**second), draw(1, 3, 12, 20))
    assert ops["ConvolutionBackpropData"] == 2


@pytest.mark.parametrize("shape", [(8,), (1, 1, 1, 8)])
def test_a_bias_along_the_width_stays(shape):
    # As wide as there are channels.
    source = take(3)
    weights = op.constant(draw(5, 8, 2, 2))
    inner = op.add(
        op.convolution_backprop_data(convolve(source, 5, 3), weights, [2, 2]), op.constant(10 * draw(*shape))
    )
    ops = compare(build(source, op.sigmoid(scale_up(op.relu(inner), 8, 1))), draw(1, 3, 6, 4))
    assert ops["ConvolutionBackpropData"] == 2


def test_a_gate_and_its_sum_are_one_product():
    source = take(3)
    features = convolve(source, 8, 3)
    gate = op.sigmoid(convolve(op.reduce_mean(features, op.constant([2, 3]), keep_dims=True), 8, 8, side=1))
    ops = compare(build(source, op.add(features, op.multiply(gate, features))), draw(1, 3, 9, 10))
    # The gate plus one, which is small, has taken the place of the sum.
    assert ops["Add"] == 1
    assert ops["Multiply"] == 1


def test_products_that_are_no_gates_stay():
    source = take(3)
    features = convolve(source, 8, 3)
    other = op.sigmoid(convolve(source, 8, 3))
    model = build(source, op.add(features, op.multiply(other, features)))
    compare(model, draw(1, 3, 9, 10))
    (total,) = (node for node in model.get_ops() if node.get_type_name() == "Add")
    assert {value.get_node().get_type_name() for value in total.input_values()} == {"Convolution", "Multiply"}


def test_a_gate_in_half_precision_stays():
    source = take(3)
    features = op.convert(convolve(source, 8, 3), "f16")
    gate = op.sigmoid(op.reduce_mean(features, op.constant([2, 3]), keep_dims=True))
    total = op.convert(op.add(features, op.multiply(gate, features)), "f32")
    model = build(source, total)
    array = draw(1, 3, 9, 10)
    before = run(model.clone(), array)
    simplify(model)
    np.testing.assert_allclose(run(model, array), before, atol=1e-2)


def test_a_gate_that_is_read_twice_stays():
    source = take(3)
    features = convolve(source, 8, 3)
    gate = op.sigmoid(op.reduce_mean(features, op.constant([2, 3]), keep_dims=True))
    product = op.multiply(gate, features)
    ops = compare(build(source, op.add(op.add(features, product), op.relu(product))), draw(1, 3, 9, 10))
    assert ops["Add"] == 2


def concatenate(parts, readers=1):
    source = take(3)
    maps = [convolve(source, 4 + i, 3) for i in range(parts)]
    whole = op.concat(maps, 1)
    return build(source, *(convolve(whole, 6, sum(range(4, 4 + parts)), stride=2) for _ in range(readers)))


def test_two_maps_are_convolved_without_a_copy():
    ops = compare(concatenate(2), draw(1, 3, 14, 10))
    assert ops["Concat"] == 0
    assert ops["Convolution"] == 4


@pytest.mark.parametrize("options", [{"parts": 3}, {"parts": 2, "readers": 2}], ids=["three maps", "two readers"])
def test_other_concatenations_stay(options):
    assert compare(concatenate(**options), draw(1, 3, 14, 10))["Concat"] == 1


def test_maps_joined_along_another_axis_stay():
    source = take(3, 8, 8)
    model = build(source, convolve(op.concat([convolve(source, 4, 3), convolve(source, 4, 3)], 2), 6, 4))
    assert compare(model, draw(1, 3, 8, 8))["Concat"] == 1


def test_the_default_detector_computes_the_same(default_models, examples):
    picture = cv2.resize(cv2.imread(str(examples / "receipt.jpg")), (480, 640))
    array = normalize_picture(picture, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    ops = compare(ov.Core().read_model(default_models["PP-OCRv4_mobile_det"].program), array)
    assert ops["ConvolutionBackpropData"] == 0
    assert ops["DepthToSpace"] == 1


def test_the_default_recogniser_computes_the_same(default_models):
    array = RNG.uniform(-1, 1, (2, 3, 48, 192)).astype(np.float32)
    assert "DepthToSpace" not in compare(ov.Core().read_model(default_models["PP-OCRv4_mobile_rec"].program), array)
