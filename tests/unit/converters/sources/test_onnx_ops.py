"""Each ONNX op against the op of the Paddle program that it becomes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper
from support.onnx_models import BN, CHANNELS, ROW, X, f32, i64, make, one, refuse, run_onnx, run_paddle, weights

from converters.graph.passes import run_passes
from converters.lite.nb.read import parse_nb
from converters.lite.nb.to_onnx import serialise_graph
from converters.lite.opt import run_opt
from converters.sources.onnx import import_onnx

CASES = {
    "conv": (one("Conv", "w", "b", pads=[1, 1, 1, 1]), {"w": weights(6, 4, 3, 3), "b": weights(6)}),
    "conv_odd_pads": (one("Conv", "w", pads=[1, 0, 2, 1], strides=[2, 1]), {"w": weights(6, 4, 3, 3)}),
    "conv_same": (one("Conv", "w", auto_pad="SAME_UPPER"), {"w": weights(6, 4, 2, 4)}),
    "conv_same_stride": (one("Conv", "w", auto_pad="SAME_UPPER", strides=[2, 2]), {"w": weights(6, 4, 3, 3)}),
    "conv_dilated": (one("Conv", "w", dilations=[2, 2], auto_pad="VALID"), {"w": weights(6, 4, 3, 3)}),
    "conv_depthwise": (one("Conv", "w", group=4, pads=[2, 2, 2, 2]), {"w": weights(4, 1, 5, 5)}),
    "conv_grouped": (one("Conv", "w", group=2), {"w": weights(6, 2, 1, 1)}),
    "conv_transpose": (
        one("ConvTranspose", "w", "b", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
        {"w": weights(4, 3, 3, 3), "b": weights(3)},
    ),
    "add_channels": (one("Add", "c"), {"c": CHANNELS}),
    "add_first": ([("Add", ("c", "x"), "y", {})], {"c": CHANNELS}),
    "add_row": (one("Add", "c"), {"c": ROW}),
    "add_number": (one("Add", "c"), {"c": np.float32(0.3)}),
    "add_itself": (one("Add", "x"), {}),
    "sub": (one("Sub", "c"), {"c": weights(4, 1, 1)}),
    "mul": (one("Mul", "c"), {"c": f32(2)}),
    "mul_gate": ([("GlobalAveragePool", ("x",), "g", {}), ("Mul", ("g", "x"), "y", {})], {}),
    "div": (one("Div", "c"), {"c": CHANNELS + 2}),
    "pow": (one("Pow", "c"), {"c": np.float32(2)}),
    "pow_half": ([("Relu", ("x",), "r", {}), ("Pow", ("r", "h"), "y", {})], {"h": np.float32(0.5)}),
    "clip_above": (one("Clip", "l", "h"), {"l": np.float32(0), "h": np.float32(np.inf)}),
    "unsqueeze_unsorted": (
        [("ReduceMean", ("x",), "r", {"axes": [1, 2], "keepdims": 0}), ("Unsqueeze", ("r", "a"), "y", {})],
        {"a": i64(2, 1)},
    ),
    "sqrt": ([("Relu", ("x",), "r", {}), ("Sqrt", ("r",), "y", {})], {}),
    "erf": (one("Erf"), {}),
    "sigmoid": (one("Sigmoid"), {}),
    "hard_sigmoid": (one("HardSigmoid", alpha=0.3, beta=0.4), {}),
    "clip": (one("Clip", "l", "h"), {"l": np.float32(-0.5), "h": np.float32(1)}),
    "clip_below": (one("Clip", "l"), {"l": np.float32(-0.5)}),
    "softmax": (one("Softmax", axis=-1), {}),
    "softmax_channels": (one("Softmax", axis=1), {}),
    "batch_norm": ([("BatchNormalization", ("x", *BN), "y", {"epsilon": 1e-3})], BN),
    "matmul": (one("MatMul", "w"), {"w": weights(12, 5)}),
    "matmul_both": ([("Transpose", ("x",), "t", {"perm": [0, 1, 3, 2]}), ("MatMul", ("x", "t"), "y", {})], {}),
    "max_pool": (one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), {}),
    "max_pool_same": (one("MaxPool", kernel_shape=[2, 2], auto_pad="SAME_UPPER"), {}),
    "average_pool": (one("AveragePool", kernel_shape=[3, 2], strides=[3, 2], pads=[1, 0, 1, 0]), {}),
    "average_pool_padded": (
        one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
        {},
    ),
    "global_pool": (one("GlobalAveragePool"), {}),
    "reduce_mean": (one("ReduceMean", axes=[2, 3]), {}),
    "reduce_mean_dropped": (
        [("ReduceMean", ("x",), "r", {"axes": [2], "keepdims": 0}), ("Unsqueeze", ("r", "a"), "y", {})],
        {"a": i64(2)},
    ),
    "resize_nearest": (
        one("Resize", "", "s", mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
        {"s": f32(1, 1, 2, 4)},
    ),
    "resize_nearest_middle": (one("Resize", "", "s", mode="nearest"), {"s": f32(1, 1, 3, 2)}),
    "resize_linear": (one("Resize", "", "s", mode="linear"), {"s": f32(1, 1, 2, 2)}),
    "resize_aligned": (
        one("Resize", "", "s", mode="linear", coordinate_transformation_mode="align_corners"),
        {"s": f32(1, 1, 2, 3)},
    ),
    "concat": ([("Relu", ("x",), "r", {}), ("Concat", ("r", "x"), "y", {"axis": -3})], {}),
    "slice": (one("Slice", "s", "e", "a"), {"s": i64(1, -3), "e": i64(2**62, -1), "a": i64(1, 3)}),
    "squeeze": (
        [
            ("ReduceMean", ("x",), "r", {"axes": [2]}),
            ("Squeeze", ("r", "a"), "q", {}),
            ("Unsqueeze", ("q", "a"), "y", {}),
        ],
        {"a": i64(2)},
    ),
    "transpose": (one("Transpose", perm=[0, 2, 3, 1]), {}),
    "transpose_all": (one("Transpose"), {}),
    "reshape": (one("Reshape", "s"), {"s": i64(0, 2, 2, -1)}),
    "identity": ([("Identity", ("x",), "i", {}), ("Relu", ("i",), "y", {})], {}),
    "cast": ([("Cast", ("x",), "i", {"to": 1}), ("Relu", ("i",), "y", {})], {}),
    "constants_are_computed": (
        [
            ("Constant", (), "c", {"value": numpy_helper.from_array(weights(1, 2, 2, 1))}),
            ("Transpose", ("c",), "t", {"perm": [0, 2, 1, 3]}),
            ("Reshape", ("t", "s"), "r", {}),
            ("Mul", ("x", "r"), "y", {}),
        ],
        {"s": i64(1, 4, 1, 1)},
    ),
}
NEWER = {
    "layer_norm": ([("LayerNormalization", ("x", "s", "b"), "y", {"axis": -1})], {"s": ROW + 1, "b": ROW}, 17),
    "hard_swish": (one("HardSwish"), {}, 17),
    "gelu": (one("Gelu"), {}, 20),
    "reduce_mean_18": (one("ReduceMean", "a"), {"a": i64(2, 3)}, 18),
    "softmax_11": (one("Softmax", axis=3), {}, 11),
    "squeeze_11": (
        [
            ("ReduceMean", ("x",), "r", {"axes": [2]}),
            ("Squeeze", ("r",), "q", {"axes": [2]}),
            ("Unsqueeze", ("q",), "y", {"axes": [2]}),
        ],
        {},
        11,
    ),
}
ALL = {name: (*case, 13) for name, case in CASES.items()} | NEWER


@pytest.mark.parametrize("name", ALL)
def test_op_computes_as_onnx_runtime(name, tmp_path):
    nodes, constants, opset = ALL[name]
    source = make(nodes, constants, opset=opset, path=tmp_path / "m.onnx")
    expected = run_onnx(source, X)
    program = import_onnx(source)
    assert program.signature.inputs[0].shape == (-1, 4, -1, -1)
    np.testing.assert_allclose(run_paddle(program, tmp_path / "p", X), expected, rtol=0, atol=5e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_op_computes_the_same_in_the_nb(name, tmp_path, opt):
    """With the passes, the real opt, and the graph that devices run."""
    nodes, constants, opset = ALL[name]
    source = make(nodes, constants, opset=opset, path=tmp_path / "m.onnx")
    program = import_onnx(source)
    run_passes(program)
    program.write(tmp_path / "m.pdmodel", tmp_path / "m.pdiparams")
    written = run_opt(opt.python, tmp_path / "m.pdmodel", tmp_path / "m.pdiparams", tmp_path / "m", valid_places="arm")
    graph = serialise_graph(parse_nb(written.read_bytes(), "m.nb"), "m")
    np.testing.assert_allclose(run_onnx(graph, X), run_onnx(source, X), rtol=0, atol=5e-6)


REFUSED = {
    "computed filters": ([("Conv", ("x", "x"), "y", {})], {}, "Conv"),
    "two numbers over": ([("Sub", ("c", "x"), "y", {})], {"c": CHANNELS}, "[1, 4, 1, 1]"),
    "power": (one("Pow", "c"), {"c": np.float32(4)}, "4.0"),
    "behind the picture": (one("MaxPool", kernel_shape=[1, 1], strides=[3, 3], ceil_mode=1), {}, "ceil_mode"),
    "mean of nothing": (one("ReduceMean", "a", noop_with_empty_axes=1), {"a": i64()}, "ReduceMean"),
    "norm of one number": (
        [("LayerNormalization", ("x", "s", "s"), "y", {})],
        {"s": f32(1)},
        "LayerNormalization",
    ),
    "both spread": (
        [
            ("ReduceMean", ("x",), "a", {"axes": [2]}),
            ("ReduceMean", ("x",), "b", {"axes": [3]}),
            ("Add", ("a", "b"), "y", {}),
        ],
        {},
        "Add",
    ),
    "lower": (one("Conv", "w", auto_pad="SAME_LOWER"), {"w": weights(4, 4, 3, 3)}, "SAME_LOWER"),
    "steps": (
        one("Slice", "s", "e", "a", "t"),
        {"s": i64(0), "e": i64(8), "a": i64(3), "t": i64(2)},
        "steps",
    ),
    "sizes": (
        [("Resize", ("x", "", "", "s"), "y", {})],
        {"s": i64(1, 4, 16, 16)},
        "Resize",
    ),
    "cubic": (one("Resize", "", "s", mode="cubic"), {"s": f32(1, 1, 2, 2)}, "cubic"),
    "allowzero": (one("Reshape", "s", allowzero=1), {"s": i64(2, 4, 8, 12)}, "allowzero"),
    "training": (
        [("Dropout", ("x", "r", "t"), "d", {}), ("Relu", ("d",), "y", {})],
        {"r": np.float32(0.5), "t": np.array(True)},
        "training_mode",
    ),
    "integers": ([("Cast", ("x",), "i", {"to": 6}), ("Cast", ("i",), "y", {"to": 1})], {}, "INT32"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_form_is_refused(name, tmp_path):
    nodes, constants, part = REFUSED[name]
    opset = {"allowzero": 14, "mean of nothing": 18, "norm of one number": 17}.get(name, 13)
    assert part in refuse(tmp_path, nodes, constants, opset=opset)


def test_softmax_of_old_opsets_over_several_axes_is_refused(tmp_path):
    assert "Softmax" in refuse(tmp_path, one("Softmax", axis=1), opset=11)
