"""How parameters are dequantised."""

import math

import numpy as np
import pytest
from onnx import numpy_helper
from support.nb_programs import (
    SCALES,
    build,
    build_model,
    check,
    convolve,
    draw,
    feed,
    fetch,
    make_conv,
    make_op,
    open_session,
    quantise,
    run,
)

from converters.lite.nb.to_onnx import build_graph
from edge_ocr.errors import ModelError


@pytest.mark.parametrize(("dtype", "bits"), [(np.int8, 8), (np.int16, 16)])
@pytest.mark.parametrize("method", ["post_weight_channel_wise_abs_max", "post_weight_abs_max", None])
def test_scales_of_a_convolution_are_for_the_first_axis(dtype, bits, method):
    rng = np.random.default_rng(0)
    # Three by three, so that the axis matters.
    w, b = (rng.integers(-100, 100, shape).astype(dtype) for shape in ((3, 3, 1, 1), (3,)))
    x = draw(1, 3, 4, 4)
    op = make_conv(**quantise(method, bits, w=SCALES, b=SCALES[::-1]))
    factors = np.array(SCALES, np.float32)
    weights, bias = w * factors[:, None, None, None], b * factors[::-1]
    check(run(x, op, params={"w": w, "b": b}), convolve(x, weights, bias), 1e-3)


def test_scales_of_fc_are_for_the_last_axis():
    w = np.random.default_rng(0).integers(-100, 100, (3, 3)).astype(np.int8)
    b = np.array([1, -2, 3], np.int8)
    x = draw(4, 3)
    op = make_op("fc", {"Input": "x", "W": "w", "Bias": "b"}, {"Out": "y"}, **quantise(w=SCALES, b=SCALES))
    factors = np.array(SCALES, np.float32)
    check(run(x, op, params={"w": w, "b": b}), x @ (w * factors[None, :]) + b * factors, 1e-3)


@pytest.mark.parametrize("quantised_first", [True, False])
def test_a_parameter_of_two_ops_is_dequantised_for_both(quantised_first):
    # opt stores the scales at the first op.
    w = np.random.default_rng(0).integers(-100, 100, (3, 3, 1, 1)).astype(np.int8)
    attrs = [quantise(w=SCALES), {}]
    if not quantised_first:
        attrs.reverse()
    ops = [
        make_op("conv2d", {"Input": "x", "Filter": "w"}, {"Output": "t"}, **attrs[0]),
        make_op("conv2d", {"Input": "t", "Filter": "w"}, {"Output": "y"}, **attrs[1]),
    ]
    weights, zeros = w * np.array(SCALES, np.float32)[:, None, None, None], np.zeros(3, np.float32)
    x = draw(1, 3, 2, 2, low=-0.01, high=0.01)
    check(run(x, *ops, params={"w": w}), convolve(convolve(x, weights, zeros), weights, zeros), 1e-3)
    assert len(build(*ops, params={"w": w}).model.graph.initializer) == 1


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_rounded_weights_may_stay_integers(dtype):
    rng = np.random.default_rng(0)
    shapes = {"w": (3, 3, 1, 1), "b": (3,), "v": (3, 3)}
    params = {name: rng.integers(-100, 100, shape).astype(dtype) for name, shape in shapes.items()}
    params["c"] = draw(3)
    bits = int(dtype[3:])
    ops = [
        feed("x"),
        make_op("conv2d", {"Input": "x", "Filter": "w", "Bias": "b"}, {"Output": "t"},
                **quantise(bits=bits, w=SCALES, b=SCALES[::-1])),
        make_op("conv2d", {"Input": "t", "Filter": "w"}, {"Output": "t"}),
        make_op("transpose2", {"X": "t"}, {"Out": "t"}, axis=(0, 2, 3, 1)),
        make_op("fc", {"Input": "t", "W": "v", "Bias": "c"}, {"Out": "y"}, in_num_col_dims=3,
                **quantise(bits=bits, v=SCALES)),
        fetch("y"),
    ]  # fmt: skip
    model = build_model(ops, {"x": (-1, 3, -1, -1)}, params)
    graphs = [build_graph(model, use_integers=stored) for stored in (False, True)]
    x = draw(2, 3, 4, 5)
    plain, stored = (open_session(graph).run(None, {"x": x})[0] for graph in graphs)
    np.testing.assert_array_equal(stored, plain)
    types = [
        {one.name: numpy_helper.to_array(one).dtype.name for one in graph.model.graph.initializer} for graph in graphs
    ]
    assert [types[0][name] for name in params] == ["float32"] * 4
    assert [types[1][f"{name}.integers"] for name in shapes] == [dtype] * 3
    assert types[1]["c"] == "float32"
    assert not types[1].keys() & shapes.keys()


QUANTISED_WEIGHTS = {"w": np.ones((3, 3, 1, 1), np.int8), "b": np.zeros(3, np.float32)}


@pytest.mark.parametrize(
    ("op_type", "attrs", "params", "words"),
    [
        ("conv2d", {}, {}, "'w'.*int8.*scales"),
        ("conv2d", quantise(w=()), {}, r"0 scales.*'w'.*shape \[3, 3, 1, 1\].*3"),
        ("conv2d", quantise(w=SCALES[:2]), {}, "2 scales.*'w'"),
        ("conv2d", quantise(w=(1.0, 2, 3.0)), {}, "scales.*'w'"),
        ("conv2d", quantise(w=("a", "b", "c")), {}, "scales.*'w'"),
        ("conv2d", quantise(w=(1.0, math.nan, 1.0)), {}, "scales .*'w'"),
        ("conv2d", quantise(w=(1.0, 1e300, 1.0)), {}, "scales .*'w'"),
        ("conv2d", quantise(bits=16, w=SCALES), {}, "'w'.*int8.*16"),
        ("conv2d", quantise(bits=32, w=SCALES), {"w": np.ones((3, 3, 1, 1), np.int32)}, "32"),
        ("conv2d", quantise(w=SCALES), {"w": np.ones((3, 3, 1, 1), np.float32)}, "float32"),
        ("conv2d", quantise("abs_max", w=SCALES), {}, "'w'.*int8.*scales"),
        ("conv2d", quantise(other=SCALES), {}, "'w'.*int8.*scales"),
        ("conv2d", {**quantise(w=SCALES), "quantize_weight_bits": 8.0}, {}, "'w'.*int8.*scales"),
        ("conv2d", {"enable_int8": True, **quantise(w=SCALES)}, {}, "8-bit"),
        ("conv2d", {"enable_int16": True, **quantise(w=SCALES)}, {}, "enable_int16"),
        ("conv2d_transpose", quantise(w=SCALES), {}, "'w'"),
        ("conv2d", quantise(w=SCALES), {"b": np.ones(3, np.float16)}, "'b'.*float16.*scales"),
        ("conv2d", quantise(w=SCALES), {"b": np.ones(3, np.float64)}, "'b'.*float64"),
        ("conv2d", quantise(w=SCALES), {"b": np.ones(3, np.uint8)}, "'b'.*uint8"),
        ("conv2d", quantise(w=SCALES), {"b": np.ones(3, np.bool_)}, "'b'.*bool"),
        ("conv2d", quantise(w=SCALES), {"b": np.ones(3, np.int64)}, "Bias"),
        ("conv2d", {}, {"w": np.ones((3, 3, 1, 0), np.float32)}, "'w'.*shape"),
    ],
)
def test_unsupported_quantisation_is_refused(op_type, attrs, params, words):
    with pytest.raises(ModelError, match=rf"^test.nb: op 1 \({op_type}\): .*{words}"):
        build(make_conv(op_type, **attrs), params={**QUANTISED_WEIGHTS, **params})


def test_scales_that_two_ops_have_are_refused():
    ops = [make_conv(**quantise(w=SCALES)), make_conv(**quantise(w=SCALES))]
    with pytest.raises(ModelError, match=r"op 2 \(conv2d\): scales.*'w'.*op 1"):
        build(*ops, params=QUANTISED_WEIGHTS)


def test_matmul_with_quantised_weights_is_refused():
    # opt quantises them anyway, and the runtime then reads the integers as floats.
    op = make_op("matmul_v2", {"X": "x", "Y": "w"}, {"Out": "y"}, **quantise(w=SCALES))
    with pytest.raises(ModelError, match=r"op 1 \(matmul_v2\): .*'w'"):
        build(op, x=(-1, 3), params={"w": np.ones((3, 3), np.int8)})


def test_a_product_beyond_float32_is_infinite():
    op = make_op("conv2d", {"Input": "x", "Filter": "w"}, {"Output": "y"}, **quantise(w=(3e38, 1.0, 1.0)))
    graph = build(op, params={"w": np.full((3, 3, 1, 1), 100, np.int8)}).model.graph
    assert np.isinf(numpy_helper.to_array(graph.initializer[0])[0]).all()
