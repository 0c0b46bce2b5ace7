"""What each op refuses."""

import dataclasses
import math

import numpy as np
import pytest
from support.nb_programs import FC, SHAPE_OF_X, build, build_model, feed, fetch, fill, make_conv, make_op, unary

from converters.lite.nb.read import NbVar
from converters.lite.nb.to_onnx import build_graph
from edge_ocr.errors import ModelError

TWO = {"w": np.ones((2, 2, 3, 3), np.float32), "b": np.ones(2, np.float32)}
POOL = {"pooling_type": "avg", "ksize": (2, 2), "strides": (2, 2)}
IN_4 = {"x": (-1, 2, -1, -1)}
IN_2 = {"x": (-1, 3)}
NEAREST = {"scale": (2.0, 2.0), "align_corners": False}


def make_fc(**attrs):
    return make_op("fc", {"Input": "x", "W": "w", "Bias": "b"}, {"Out": "y"}, **attrs)


def reshape(*sides):
    return unary("reshape2", shape=sides)


def cut(axes, starts, ends, **attrs):
    return unary("slice", "Input", axes=axes, starts=starts, ends=ends, **attrs)


@pytest.mark.parametrize(
    ("ops", "x", "params", "words"),
    [
        # names and slots
        ([make_op("relu", {"X": "z"}, {"Out": "y"})], IN_2, {}, "X 'z' was not computed before"),
        ([make_op("relu", {}, {"Out": "y"})], IN_2, {}, "0 tensors for X, expected 1"),
        ([make_op("relu", {"X": ("x", "x")}, {"Out": "y"})], IN_2, {}, "2 tensors for X, expected 1"),
        ([make_op("relu", {"X": "x"}, {})], IN_2, {}, "0 tensors for Out, expected 1"),
        ([make_op("relu", {"X": "x"}, {"Out": ("y", "z")})], IN_2, {}, "2 tensors for Out"),
        ([make_op("relu", {"X": "x"}, {"Out": "b"})], IN_2, FC, "Out 'b' is a parameter"),
        ([SHAPE_OF_X, make_op("relu", {"X": "sides"}, {"Out": "y"})], IN_2, {}, "X holds integers, expected floats"),
        ([make_op("relu", {"X": "q"}, {"Out": "y"})], IN_2, {"q": np.ones(2, np.int8)}, "'q' holds int8"),
        # convolutions
        ([make_conv()], IN_2, TWO, "Input 'x' has 2 sides, expected 4"),
        ([unary("conv2d", "Input")], IN_4, TWO, r"Filter is \[\], expected one parameter"),
        ([make_op("conv2d", {"Input": "x", "Filter": "x"}, {"Output": "y"})], IN_4, {}, r"Filter is \['x'\]"),
        ([make_op("conv2d", {"Input": "x", "Filter": "w", "Bias": "x"}, {"Output": "y"})], IN_4, TWO, "Bias is"),
        (
            [make_op("conv2d", {"Input": "x", "Filter": "w", "ResidualData": "x"}, {"Output": "y"})],
            IN_4,
            TWO,
            "ResidualData is computed at run time",
        ),
        ([make_conv()], IN_4, {**TWO, "w": np.ones((2, 2, 3), np.float32)}, r"a filter of shape \[2, 2, 3\]"),
        ([make_conv()], IN_4, {**TWO, "w": np.ones((2, 2, 3, 3), np.int64)}, "Filter holds integers"),
        ([make_conv()], IN_4, {**TWO, "b": np.ones(3, np.float32)}, r"Bias has the shape \[3\], expected 2 numbers"),
        ([make_conv("conv2d_transpose", groups=2)], IN_4, TWO, r"Bias has the shape \[2\], expected 4 numbers"),
        ([make_conv(groups=0)], IN_4, TWO, "in 0 groups"),
        ([make_conv(groups=-1)], IN_4, TWO, "in -1 groups"),
        ([make_conv(groups=3)], IN_4, TWO, "in 3 groups"),
        ([make_conv(groups=1.0)], IN_4, TWO, "groups is 1.0, expected an integer"),
        ([make_conv(groups=True)], IN_4, TWO, "groups is True, expected an integer"),
        ([make_conv(groups=2**40)], IN_4, TWO, "groups is 1099511627776"),
        ([make_conv(strides=(1,))], IN_4, TWO, "strides has 1 numbers, expected 2"),
        ([make_conv(strides=(0, 1))], IN_4, TWO, r"strides \[0, 1\], .* do not fit"),
        ([make_conv(dilations=(1, -1))], IN_4, TWO, r"dilations \[1, -1\]"),
        ([make_conv(paddings=(1, 1, 1))], IN_4, TWO, r"paddings \[1, 1, 1\]"),
        ([make_conv(paddings=(0, -1))], IN_4, TWO, r"paddings \[0, 0, -1, -1\]"),
        ([make_conv(paddings=("a", 1))], IN_4, TWO, r"paddings is \('a', 1\), expected integers"),
        ([make_conv(paddings=(False, True))], IN_4, TWO, r"paddings is \(False, True\), expected integers"),
        ([make_conv(paddings=(1,) * 17)], IN_4, TWO, "paddings has 17 numbers, expected at most 16"),
        ([make_conv(with_act=True)], IN_4, TWO, "with_act is set without act_type"),
        ([make_conv(with_act=True, act_type="tanh")], IN_4, TWO, "the fused activation is 'tanh', expected one of"),
        ([make_conv(with_act=True, act_type=(1, 2))], IN_4, TWO, r"the fused activation is \(1, 2\)"),
        ([make_conv(with_act=True, act_type="relu6", fuse_brelu_threshold=math.inf)], IN_4, TWO, "threshold is inf"),
        (
            [make_conv(with_act=True, act_type="hard_swish", hard_swish_scale=0.0)],
            IN_4,
            TWO,
            "scale is 0, expected another number",
        ),
        ([make_conv("conv2d_transpose", padding_algorithm="SAME")], IN_4, TWO, "padding_algorithm is SAME"),
        ([make_conv("conv2d_transpose", output_size=(9, 9))], IN_4, TWO, "output_size is given"),
        ([make_conv("conv2d_transpose", output_padding=(1,))], IN_4, TWO, "output_padding has 1 numbers"),
        (
            [make_conv("conv2d_transpose", output_padding=(0, 1), dilations=(1, 2))],
            IN_4,
            TWO,
            r"output_padding is \[0, 1\], expected less than the strides, which are \[1, 1\]",
        ),
        ([make_conv("conv2d_transpose", output_padding=(-1, 0))], IN_4, TWO, r"output_padding is \[-1, 0\]"),
        # pooling
        ([unary("pool2d", **{**POOL, "pooling_type": "sum"})], IN_4, {}, "pooling_type is 'sum'"),
        ([unary("pool2d", **{**POOL, "ksize": (2,)})], IN_4, {}, "ksize has 1 numbers"),
        ([unary("pool2d", **{**POOL, "ksize": (0, 2)})], IN_4, {}, r"kernel \[0, 2\]"),
        ([unary("pool2d", **POOL, adaptive=True)], IN_4, {}, r"adaptive pooling to \[2, 2\], expected 1 × 1"),
        ([unary("pool2d", **POOL, paddings=(2, 0))], IN_4, {}, r"paddings \[2, 2, 0, 0\] for a kernel of \[2, 2\]"),
        ([unary("pool2d", **POOL, ceil_mode=True, paddings=(0, 1))], IN_4, {}, "ceil_mode with windows"),
        ([unary("pool2d", **POOL, ceil_mode=True, padding_algorithm="SAME")], IN_4, {}, "ceil_mode with windows"),
        ([unary("pool2d", **{**POOL, "strides": (3, 2)}, ceil_mode=True)], IN_4, {}, "ceil_mode with windows"),
        (
            [unary("pool2d", **{**POOL, "strides": (2, 3)}, padding_algorithm="SAME")],
            IN_4,
            {},
            r"SAME with strides \[2, 3\], expected at most the kernel's \[2, 2\]",
        ),
        ([unary("pool2d", **POOL, exclusive=False, ceil_mode=True)], IN_4, {}, "exclusive is not set"),
        ([unary("pool2d", **POOL, exclusive=False, paddings=(0, 1, 0, 0))], IN_4, {}, "exclusive is not set"),
        ([unary("pool2d", **POOL, exclusive=False, padding_algorithm="SAME")], IN_4, {}, "exclusive is not set"),
        # two tensors
        ([make_op("elementwise_add", {"X": "x", "Y": "b"}, {"Out": "y"}, axis=2)], IN_2, FC, "axis 2 does not fit"),
        ([make_op("elementwise_add", {"X": "x", "Y": "b"}, {"Out": "y"}, axis=-2)], IN_2, FC, "axis -2 does not fit"),
        ([make_op("elementwise_add", {"X": "x", "Y": "x"}, {"Out": "y"}, fuse_scale=True)], IN_2, {}, "fuse_scale is"),
        ([make_op("matmul_v2", {"X": "x", "Y": "b"}, {"Out": "y"})], IN_2, FC, "Y has 1 sides, expected at least 2"),
        ([make_op("matmul_v2", {"X": "x", "Y": "w"}, {"Out": "y"}, alpha="1")], IN_2, FC, "alpha is '1', expected"),
        ([SHAPE_OF_X, make_op("concat", {"X": ("x", "sides")}, {"Out": "y"})], IN_2, {}, r"tensors of \[2, 1\] sides"),
        ([make_op("concat", {"X": ()}, {"Out": "y"})], IN_2, {}, r"tensors of \[\] sides"),
        ([make_op("concat", {"X": ("x", "x"), "AxisTensor": "x"}, {"Out": "y"})], IN_2, {}, "AxisTensor is computed"),
        ([make_op("concat", {"X": ("x", "x")}, {"Out": "y"}, axis=2)], IN_2, {}, "axis is 2, expected -2 to 1"),
        # one tensor
        ([unary("swish", beta=math.nan)], IN_2, {}, "beta is nan, expected a number"),
        ([unary("swish", beta=1e39)], IN_2, {}, r"beta is 1e\+39, expected a number"),
        ([unary("swish", beta=True)], IN_2, {}, "beta is True, expected a number"),
        ([unary("hard_swish", scale=0.0)], IN_2, {}, "scale is 0"),
        ([unary("softmax", axis=2)], IN_2, {}, "axis is 2, expected -2 to 1"),
        ([unary("softmax", eleminate_success=True)], IN_2, {}, "eleminate_success is set"),
        ([unary("nearest_interp_v2", **NEAREST)], IN_2, {}, "X 'x' has 2 sides, expected 4"),
        ([unary("nearest_interp_v2", **{**NEAREST, "align_corners": True})], IN_4, {}, "align_corners is set"),
        (
            [unary("nearest_interp_v2", **{**NEAREST, "scale": ()})],
            IN_4,
            {},
            r"scale is \(\), expected 2 whole numbers",
        ),
        ([unary("nearest_interp_v2", **{**NEAREST, "scale": (2.0,)})], IN_4, {}, "expected 2 whole numbers above 0"),
        ([unary("nearest_interp_v2", **{**NEAREST, "scale": 2.0})], IN_4, {}, "scale is 2.0, expected 2 whole numbers"),
        (
            [unary("nearest_interp_v2", **{**NEAREST, "scale": (2.0, 0.0)})],
            IN_4,
            {},
            "expected 2 whole numbers above 0",
        ),
        (
            [unary("nearest_interp_v2", **{**NEAREST, "scale": (2.0, 1.5)})],
            IN_4,
            {},
            "expected 2 whole numbers above 0",
        ),
        (
            [unary("nearest_interp_v2", **{**NEAREST, "scale": (2.0, math.nan)})],
            IN_4,
            {},
            "expected 2 whole numbers above 0",
        ),
        (
            [make_op("nearest_interp_v2", {"X": "x", "OutSize": "x"}, {"Out": "y"}, **NEAREST)],
            IN_4,
            {},
            "OutSize is computed at run time",
        ),
        (
            [make_op("layer_norm", {"X": "x", "Scale": "b"}, {"Y": "y"}, begin_norm_axis=0)],
            IN_2,
            FC,
            "over the axes from 0 of 2, expected over the last one, with a scale",
        ),
        ([make_op("layer_norm", {"X": "x"}, {"Y": "y"}, begin_norm_axis=1)], IN_2, {}, "with a scale"),
        (
            [make_op("layer_norm", {"X": "x", "Scale": "w"}, {"Y": "y"}, begin_norm_axis=1)],
            IN_2,
            FC,
            "Scale 'w' has 2 sides, expected 1",
        ),
        ([unary("scale", scale=1.0, activation_type="relu")], IN_2, {}, "the fused activation 'relu' is not known"),
        ([make_op("scale", {"X": "x", "ScaleTensor": "x"}, {"Out": "y"})], IN_2, {}, "ScaleTensor is computed"),
        ([SHAPE_OF_X, make_op("scale", {"X": "sides"}, {"Out": "y"}, scale=0.5)], IN_2, {}, "integers with a scale of"),
        ([SHAPE_OF_X, make_op("scale", {"X": "sides"}, {"Out": "y"}, bias=1e30)], IN_2, {}, "integers with a scale"),
        # fc
        ([make_fc()], IN_2, {**FC, "w": np.ones(3, np.float32)}, r"weights of shape \[3\], expected 2 sides"),
        ([make_fc(padding_weights=True)], IN_2, FC, "without padding"),
        ([make_fc(in_num_col_dims=0)], IN_2, FC, "an input of 2 sides, 0 of them for rows"),
        ([make_fc(in_num_col_dims=2)], IN_2, FC, "in_num_col_dims is 2, expected -2 to 1"),
        ([make_fc(op_type="matmul")], {"x": (3,)}, FC, "an input of 1 sides, 0 of them"),
        ([make_fc(activation_type="hard_swish")], IN_2, FC, "the fused activation is 'hard_swish', expected one of"),
        (
            [make_op("fc", {"Input": "x", "W": "w"}, {"Out": "y"}, activation_type="relu")],
            IN_2,
            FC,
            "the fused activation 'relu' without Bias",
        ),
        ([make_fc()], IN_2, {**FC, "b": np.ones(3, np.float32)}, r"Bias has the shape \[3\], expected 2 numbers"),
        # shapes
        ([unary("transpose2", axis=(0,))], IN_2, {}, "axis has 1 numbers, expected 2"),
        ([unary("transpose2", axis=(0, 0))], IN_2, {}, r"axis is \[0, 0\], expected each of 0 to 1 once"),
        (
            [make_op("transpose2", {"X": "n"}, {"Out": "y"}, axis=())],
            IN_2,
            {"n": np.array(1.0, np.float32)},
            r"axis is \[\]",
        ),
        ([reshape()], IN_2, {}, r"shape is \[\], which a tensor of 2 sides cannot get"),
        ([reshape(-1, -1)], IN_2, {}, r"shape is \[-1, -1\]"),
        ([reshape(-2, 3)], IN_2, {}, r"shape is \[-2, 3\]"),
        ([reshape(1, 1, 0)], IN_2, {}, r"shape is \[1, 1, 0\]"),
        ([reshape(2**20, 2**20, -1)], IN_2, {}, r"shape is \[1048576, 1048576, -1\]"),
        ([reshape(*[1] * 17)], IN_2, {}, "shape has 17 numbers, expected at most 16"),
        ([make_op("reshape2", {"X": "x", "Shape": "x"}, {"Out": "y"})], IN_2, {}, "Shape is computed at run time"),
        ([make_op("reshape2", {"X": "x", "ShapeTensor": "x"}, {"Out": "y"})], IN_2, {}, "ShapeTensor 'x' has 2 sides"),
        ([make_op("reshape2", {"X": "x", "ShapeTensor": "b"}, {"Out": "y"})], IN_2, FC, "ShapeTensor 'b' holds floats"),
        (
            [SHAPE_OF_X, make_op("reshape2", {"X": "x", "ShapeTensor": ["sides"] * 17}, {"Out": "y"})],
            IN_2,
            {},
            "Out would have 17 sides, expected at most 16",
        ),
        ([unary("flatten_contiguous_range", start_axis=1, stop_axis=0)], IN_2, {}, "start_axis is 1, expected at most"),
        ([unary("flatten_contiguous_range", start_axis=2)], IN_2, {}, "start_axis is 2, expected -2 to 1"),
        ([unary("squeeze2")], IN_2, {}, r"axes is \[\] for 2 sides, expected one at least, and not all"),
        ([unary("squeeze2", axes=(0, 1))], IN_2, {}, r"axes is \[0, 1\] for 2 sides"),
        ([unary("squeeze2", axes=(2,))], IN_2, {}, "axes is 2, expected -2 to 1"),
        ([cut((), (), ())], IN_2, {}, "expected as many of each"),
        ([cut((0,), (0, 1), (1,))], IN_2, {}, "expected as many of each"),
        ([cut((0, 0), (0, 0), (1, 1))], IN_2, {}, "leave nothing, or name an axis twice"),
        ([cut((0,), (1,), (1,))], IN_2, {}, "leave nothing"),
        ([cut((0,), (-1,), (-2,))], IN_2, {}, "leave nothing"),
        ([cut((0,), (-1,), (0,), decrease_axis=(0,))], IN_2, {}, "leave nothing"),
        ([cut((3,), (0,), (1,))], IN_2, {}, "axes is 3, expected -2 to 1"),
        ([cut((0,), (0,), (1,), decrease_axis=(5,))], IN_2, {}, "decrease_axis is 5"),
        (
            [make_op("slice", {"Input": "x", "StartsTensorList": ("x", "x")}, {"Out": "y"})],
            IN_2,
            {},
            "StartsTensorList is computed at run time",
        ),
        ([make_op("fill_constant", {"ShapeTensor": "x"}, {"Out": "y"})], IN_2, {}, "ShapeTensor is computed"),
        ([fill("y", 1, dtype=21)], IN_2, {}, "dtype 21 and shape"),
        ([fill("y", 1, shape=())], IN_2, {}, r"shape \[\]"),
        ([fill("y", 1, shape=(2, 0))], IN_2, {}, r"shape \[2, 0\], expected numbers, and sides above 0"),
        ([fill("y", 1, shape=(2**16, 2**16))], IN_2, {}, "makes 4294967296 filled numbers, expected at most 65536"),
        ([fill("y", 1, shape=(2**62,))], IN_2, {}, "sides above 0"),
        ([fill("y", 0.5)], IN_2, {}, "value is 0.5, expected an integer of 32 bits"),
        ([fill("y", 1e30, dtype=3)], IN_2, {}, r"value is 1e\+30, expected an integer"),
        ([fill("y", math.nan, dtype=5)], IN_2, {}, "value is nan, expected a number"),
        ([fill("y", 1, dtype="5")], IN_2, {}, "dtype is '5', expected an integer"),
    ],
)
def test_what_does_not_fit_is_refused(ops, x, params, words):
    with pytest.raises(ModelError, match=words) as caught:
        build(*ops, **x, params=params)
    message = caught.value.message
    # The op at fault is named, with its place in the program; feed is the first.
    assert message.startswith(f"test.nb: op {len(ops)} ({ops[-1].type}): ")
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        (None, "the input 'x' is no tensor of float32"),
        (NbVar("x", "feed", False, None, None), "the input 'x' is no tensor of float32"),
        (NbVar("x", "tensor", False, "int64", (1, 2)), "the input 'x' is no tensor of float32"),
        (NbVar("x", "tensor", False, "float32", ()), r"the input 'x' has the shape \[\]"),
        (NbVar("x", "tensor", False, "float32", (1, 0)), r"the input 'x' has the shape \[1, 0\]"),
        (NbVar("x", "tensor", False, "float32", (-2, 3)), r"the input 'x' has the shape \[-2, 3\]"),
        (NbVar("x", "tensor", False, "float32", (2**20, 2**20)), "the input 'x' has the shape"),
        (NbVar("x", "tensor", False, "float32", (2**40,)), "the input 'x' has the shape"),
    ],
)
def test_inputs_that_are_no_pictures_are_refused(variable, words):
    model = build_model([feed("x"), fetch("x")], {})
    block = dataclasses.replace(model.blocks[0], vars={} if variable is None else {"x": variable})
    with pytest.raises(ModelError, match=rf"test.nb: op 0 \(feed\): {words}"):
        build_graph(dataclasses.replace(model, blocks=(block,)), "test.nb")
