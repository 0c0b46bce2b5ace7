"""The forms that each op refuses."""

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


def normalise(**attrs):
    inputs = {"X": "x", "Scale": "b", "Bias": "b", "Mean": "b", "Variance": "b"}
    return make_op("batch_norm", inputs, {"Y": "y"}, **attrs)


def reshape(*sides):
    return unary("reshape2", shape=sides)


def split_in_two(**attrs):
    return make_op("split", {"X": "x"}, {"Out": ("y", "z")}, axis=1, **{"num": 0, "sections": (), **attrs})


def cut(axes, starts, ends, **attrs):
    return unary("slice", "Input", axes=axes, starts=starts, ends=ends, **attrs)


@pytest.mark.parametrize(
    ("ops", "x", "params", "words"),
    [
        # names and slots
        ([make_op("relu", {"X": "z"}, {"Out": "y"})], IN_2, {}, "X 'z'"),
        ([make_op("relu", {}, {"Out": "y"})], IN_2, {}, "0.*X.*1"),
        ([make_op("relu", {"X": ("x", "x")}, {"Out": "y"})], IN_2, {}, "2.*X.*1"),
        ([make_op("relu", {"X": "x"}, {})], IN_2, {}, "0.*Out.*1"),
        ([make_op("relu", {"X": "x"}, {"Out": ("y", "z")})], IN_2, {}, "2.*Out"),
        ([make_op("relu", {"X": "x"}, {"Out": "b"})], IN_2, FC, "Out 'b'"),
        ([SHAPE_OF_X, make_op("relu", {"X": "sides"}, {"Out": "y"})], IN_2, {}, "X"),
        ([make_op("relu", {"X": "q"}, {"Out": "y"})], IN_2, {"q": np.ones(2, np.int8)}, "'q'.*int8"),
        # convolutions
        ([make_conv()], IN_2, TWO, "Input 'x'.*2.*4"),
        ([unary("conv2d", "Input")], IN_4, TWO, r"Filter.*\[\]"),
        ([make_op("conv2d", {"Input": "x", "Filter": "x"}, {"Output": "y"})], IN_4, {}, r"Filter.*\['x'\]"),
        ([make_op("conv2d", {"Input": "x", "Filter": "w", "Bias": "x"}, {"Output": "y"})], IN_4, TWO, "Bias"),
        (
            [make_op("conv2d", {"Input": "x", "Filter": "w", "ResidualData": "x"}, {"Output": "y"})],
            IN_4,
            TWO,
            "ResidualData",
        ),
        ([make_conv()], IN_4, {**TWO, "w": np.ones((2, 2, 3), np.float32)}, r"shape \[2, 2, 3\]"),
        ([make_conv()], IN_4, {**TWO, "w": np.ones((2, 2, 3, 3), np.int64)}, "Filter"),
        ([make_conv()], IN_4, {**TWO, "b": np.ones(3, np.float32)}, r"Bias.*shape \[3\].*2"),
        ([make_conv("conv2d_transpose", groups=2)], IN_4, TWO, r"Bias.*shape \[2\].*4"),
        ([make_conv(groups=0)], IN_4, TWO, "0 groups"),
        ([make_conv(groups=-1)], IN_4, TWO, "-1 groups"),
        ([make_conv(groups=3)], IN_4, TWO, "3 groups"),
        ([make_conv(groups=1.0)], IN_4, TWO, "groups.*1.0"),
        ([make_conv(groups=True)], IN_4, TWO, "groups.*True"),
        ([make_conv(groups=2**40)], IN_4, TWO, "groups.*1099511627776"),
        ([make_conv(strides=(1,))], IN_4, TWO, "strides.*1.*2"),
        ([make_conv(strides=(0, 1))], IN_4, TWO, r"strides \[0, 1\]"),
        ([make_conv(dilations=(1, -1))], IN_4, TWO, r"dilations \[1, -1\]"),
        ([make_conv(paddings=(1, 1, 1))], IN_4, TWO, r"paddings \[1, 1, 1\]"),
        ([make_conv(paddings=(0, -1))], IN_4, TWO, r"paddings \[0, 0, -1, -1\]"),
        ([make_conv(paddings=("a", 1))], IN_4, TWO, r"paddings.*\('a', 1\)"),
        ([make_conv(paddings=(False, True))], IN_4, TWO, r"paddings.*\(False, True\)"),
        ([make_conv(paddings=(1,) * 17)], IN_4, TWO, "paddings.*17.*16"),
        ([make_conv(with_act=True)], IN_4, TWO, "with_act.*act_type"),
        ([make_conv(with_act=True, act_type="tanh")], IN_4, TWO, "'tanh'"),
        ([make_conv(with_act=True, act_type=(1, 2))], IN_4, TWO, r"\(1, 2\)"),
        ([make_conv(with_act=True, act_type="relu6", fuse_brelu_threshold=math.inf)], IN_4, TWO, "threshold.*inf"),
        (
            [make_conv(with_act=True, act_type="hard_swish", hard_swish_scale=0.0)],
            IN_4,
            TWO,
            "scale.*0",
        ),
        ([make_conv("conv2d_transpose", padding_algorithm="SAME")], IN_4, TWO, "padding_algorithm.*SAME"),
        ([make_conv("conv2d_transpose", output_size=(9, 9))], IN_4, TWO, "output_size"),
        ([make_conv("conv2d_transpose", output_padding=(1,))], IN_4, TWO, "output_padding.*1"),
        (
            [make_conv("conv2d_transpose", output_padding=(0, 1), dilations=(1, 2))],
            IN_4,
            TWO,
            r"output_padding.*\[0, 1\].*strides.*\[1, 1\]",
        ),
        ([make_conv("conv2d_transpose", output_padding=(-1, 0))], IN_4, TWO, r"output_padding.*\[-1, 0\]"),
        # pooling
        ([unary("pool2d", **{**POOL, "pooling_type": "sum"})], IN_4, {}, "pooling_type.*'sum'"),
        ([unary("pool2d", **{**POOL, "ksize": (2,)})], IN_4, {}, "ksize.*1"),
        ([unary("pool2d", **{**POOL, "ksize": (0, 2)})], IN_4, {}, r"kernel \[0, 2\]"),
        ([unary("pool2d", **POOL, adaptive=True)], IN_4, {}, r"\[2, 2\].*1.*1"),
        ([unary("pool2d", **POOL, paddings=(2, 0))], IN_4, {}, r"paddings \[2, 2, 0, 0\].*kernel.*\[2, 2\]"),
        ([unary("pool2d", **POOL, ceil_mode=True, paddings=(0, 1))], IN_4, {}, "ceil_mode"),
        ([unary("pool2d", **POOL, ceil_mode=True, padding_algorithm="SAME")], IN_4, {}, "ceil_mode"),
        ([unary("pool2d", **{**POOL, "strides": (3, 2)}, ceil_mode=True)], IN_4, {}, "ceil_mode"),
        (
            [unary("pool2d", **{**POOL, "strides": (2, 3)}, padding_algorithm="SAME")],
            IN_4,
            {},
            r"SAME.*strides \[2, 3\].*kernel.*\[2, 2\]",
        ),
        ([unary("pool2d", **POOL, exclusive=False, ceil_mode=True)], IN_4, {}, "exclusive"),
        ([unary("pool2d", **POOL, exclusive=False, paddings=(0, 1, 0, 0))], IN_4, {}, "exclusive"),
        ([unary("pool2d", **POOL, exclusive=False, padding_algorithm="SAME")], IN_4, {}, "exclusive"),
        # two tensors
        ([make_op("elementwise_add", {"X": "x", "Y": "b"}, {"Out": "y"}, axis=2)], IN_2, FC, "axis 2"),
        ([make_op("elementwise_add", {"X": "x", "Y": "b"}, {"Out": "y"}, axis=-2)], IN_2, FC, "axis -2"),
        ([make_op("elementwise_add", {"X": "x", "Y": "x"}, {"Out": "y"}, fuse_scale=True)], IN_2, {}, "fuse_scale"),
        ([make_op("fusion_elementwise_add_activation", {"X": "x", "Y": "x"}, {"Out": "y"})], IN_2, {}, "act_type"),
        (
            [make_op("fusion_elementwise_add_activation", {"X": "x", "Y": "x"}, {"Out": "y"}, act_type="tanh")],
            IN_2,
            {},
            "'tanh'",
        ),
        ([make_op("matmul_v2", {"X": "x", "Y": "b"}, {"Out": "y"})], IN_2, FC, "Y.*1.*2"),
        ([make_op("matmul_v2", {"X": "x", "Y": "w"}, {"Out": "y"}, alpha="1")], IN_2, FC, "alpha.*'1'"),
        ([SHAPE_OF_X, make_op("concat", {"X": ("x", "sides")}, {"Out": "y"})], IN_2, {}, r"\[2, 1\]"),
        ([make_op("concat", {"X": ()}, {"Out": "y"})], IN_2, {}, r"\[\]"),
        ([make_op("concat", {"X": ("x", "x"), "AxisTensor": "x"}, {"Out": "y"})], IN_2, {}, "AxisTensor"),
        ([make_op("concat", {"X": ("x", "x")}, {"Out": "y"}, axis=2)], IN_2, {}, "axis.*2.*-2.*1"),
        # one tensor
        ([unary("swish", beta=math.nan)], IN_2, {}, "beta.*nan"),
        ([unary("swish", beta=1e39)], IN_2, {}, r"beta.*1e\+39"),
        ([unary("swish", beta=True)], IN_2, {}, "beta.*True"),
        ([unary("hard_swish", scale=0.0)], IN_2, {}, "scale.*0"),
        ([unary("softmax", axis=2)], IN_2, {}, "axis.*2.*-2.*1"),
        ([unary("softmax", eleminate_success=True)], IN_2, {}, "eleminate_success"),
        ([unary("nearest_interp_v2", **NEAREST)], IN_2, {}, "X 'x'.*2.*4"),
        ([unary("nearest_interp_v2", **{**NEAREST, "align_corners": True})], IN_4, {}, "align_corners"),
        (
            [unary("nearest_interp_v2", **{**NEAREST, "scale": ()})],
            IN_4,
            {},
            r"scale.*\(\).*2",
        ),
        ([unary("nearest_interp_v2", **{**NEAREST, "scale": (2.0,)})], IN_4, {}, "2.*0"),
        ([unary("nearest_interp_v2", **{**NEAREST, "scale": 2.0})], IN_4, {}, "scale.*2.0.*2"),
        (
            [unary("nearest_interp_v2", **{**NEAREST, "scale": (2.0, 0.0)})],
            IN_4,
            {},
            "scale",
        ),
        (
            [unary("nearest_interp_v2", **{**NEAREST, "scale": (2.0, 1.5)})],
            IN_4,
            {},
            "scale",
        ),
        (
            [unary("nearest_interp_v2", **{**NEAREST, "scale": (2.0, math.nan)})],
            IN_4,
            {},
            "scale",
        ),
        (
            [make_op("nearest_interp_v2", {"X": "x", "OutSize": "x"}, {"Out": "y"}, **NEAREST)],
            IN_4,
            {},
            "OutSize",
        ),
        (
            [make_op("layer_norm", {"X": "x", "Scale": "b"}, {"Y": "y"}, begin_norm_axis=0)],
            IN_2,
            FC,
            "axes 0 .*scale",
        ),
        ([make_op("layer_norm", {"X": "x"}, {"Y": "y"}, begin_norm_axis=1)], IN_2, {}, "scale"),
        ([normalise(is_test=True)], {"x": (-1, 2)}, TWO, "X.*2-D.*3-D"),
        ([normalise(is_test=True)], {"x": (-1, 2, -1, -1, -1)}, TWO, "X.*5-D.*4-D"),
        ([normalise()], {"x": (-1, 2, -1)}, TWO, "inference"),
        ([normalise(is_test=True, data_layout="NHWC")], IN_4, TWO, "inference"),
        ([unary("reduce_mean", dim=(2,))], {"x": (-1, 2, -1)}, {}, "X.*3-D.*4-D"),
        ([unary("reduce_mean", dim=(1, 3))], IN_4, {}, r"axes \[1, 3\]"),
        (
            [make_op("layer_norm", {"X": "x", "Scale": "w"}, {"Y": "y"}, begin_norm_axis=1)],
            IN_2,
            FC,
            "Scale 'w'.*2.*1",
        ),
        ([unary("scale", scale=1.0, activation_type="leaky_relu", alpha=0.1)], IN_2, {}, "'leaky_relu'"),
        (
            [SHAPE_OF_X, make_op("scale", {"X": "sides"}, {"Out": "y"}, activation_type="relu")],
            IN_2,
            {},
            "integers.*'relu'",
        ),
        ([make_op("scale", {"X": "x", "ScaleTensor": "x"}, {"Out": "y"})], IN_2, {}, "ScaleTensor"),
        ([SHAPE_OF_X, make_op("scale", {"X": "sides"}, {"Out": "y"}, scale=0.5)], IN_2, {}, "scale"),
        ([SHAPE_OF_X, make_op("scale", {"X": "sides"}, {"Out": "y"}, bias=1e30)], IN_2, {}, "scale"),
        # fc
        ([make_fc()], IN_2, {**FC, "w": np.ones(3, np.float32)}, r"shape \[3\].*2"),
        ([make_fc(padding_weights=True)], IN_2, FC, r"\[3, 2\]"),
        ([make_fc(in_num_col_dims=0)], IN_2, FC, "2.*0"),
        ([make_fc(in_num_col_dims=2)], IN_2, FC, "in_num_col_dims.*2.*-2.*1"),
        ([make_fc(op_type="matmul")], {"x": (3,)}, FC, "1.*0"),
        ([make_fc(activation_type="hard_swish")], IN_2, FC, "'hard_swish'"),
        (
            [make_op("fc", {"Input": "x", "W": "w"}, {"Out": "y"}, activation_type="relu")],
            IN_2,
            FC,
            "'relu'.*Bias",
        ),
        ([make_fc()], IN_2, {**FC, "b": np.ones(3, np.float32)}, r"Bias.*shape \[3\].*2"),
        # shapes
        ([unary("transpose2", axis=(0,))], IN_2, {}, "axis.*1.*2"),
        ([unary("transpose2", axis=(0, 0))], IN_2, {}, r"axis.*\[0, 0\].*0.*1"),
        (
            [make_op("transpose2", {"X": "n"}, {"Out": "y"}, axis=())],
            IN_2,
            {"n": np.array(1.0, np.float32)},
            r"axis.*\[\]",
        ),
        ([reshape()], IN_2, {}, r"shape.*\[\].*2"),
        ([reshape(-1, -1)], IN_2, {}, r"shape.*\[-1, -1\]"),
        ([reshape(-2, 3)], IN_2, {}, r"shape.*\[-2, 3\]"),
        ([reshape(1, 1, 0)], IN_2, {}, r"shape.*\[1, 1, 0\]"),
        ([reshape(2**20, 2**20, -1)], IN_2, {}, r"shape.*\[1048576, 1048576, -1\]"),
        ([reshape(*[1] * 17)], IN_2, {}, "shape.*17.*16"),
        ([make_op("reshape2", {"X": "x", "Shape": "x"}, {"Out": "y"})], IN_2, {}, "Shape"),
        ([make_op("reshape2", {"X": "x", "ShapeTensor": "x"}, {"Out": "y"})], IN_2, {}, "ShapeTensor 'x'.*2"),
        ([make_op("reshape2", {"X": "x", "ShapeTensor": "b"}, {"Out": "y"})], IN_2, FC, "ShapeTensor 'b'"),
        (
            [SHAPE_OF_X, make_op("reshape2", {"X": "x", "ShapeTensor": ["sides"] * 17}, {"Out": "y"})],
            IN_2,
            {},
            "Out.*17.*16",
        ),
        ([unary("pixel_shuffle", upscale_factor=2)], IN_2, {}, "2-D.*4-D"),
        ([split_in_two(num=3)], IN_4, {}, "num is 3 for 2"),
        ([split_in_two(sections=(1, 1, 1))], IN_4, {}, r"\[1, 1, 1\] for 2"),
        ([split_in_two(sections=(1, -1))], IN_4, {}, r"\[1, -1\] for 2"),
        ([unary("pixel_shuffle", upscale_factor=0)], IN_4, {}, "upscale_factor.*0"),
        ([unary("flatten_contiguous_range", start_axis=1, stop_axis=0)], IN_2, {}, "start_axis.*1"),
        ([unary("flatten_contiguous_range", start_axis=2)], IN_2, {}, "start_axis.*2.*-2.*1"),
        ([unary("squeeze2")], IN_2, {}, r"axes.*\[\].*2"),
        ([unary("squeeze2", axes=(0, 1))], IN_2, {}, r"axes.*\[0, 1\].*2"),
        ([unary("squeeze2", axes=(2,))], IN_2, {}, "axes.*2.*-2.*1"),
        ([cut((), (), ())], IN_2, {}, "axes .*starts .*ends"),
        ([cut((0,), (0, 1), (1,))], IN_2, {}, "axes .*starts .*ends"),
        ([cut((0, 0), (0, 0), (1, 1))], IN_2, {}, r"axes \[0, 0\]"),
        ([cut((0,), (1,), (1,))], IN_2, {}, "axes .*starts .*ends"),
        ([cut((0,), (-1,), (-2,))], IN_2, {}, "axes .*starts .*ends"),
        ([cut((0,), (-1,), (0,), decrease_axis=(0,))], IN_2, {}, "axes .*starts .*ends"),
        ([cut((3,), (0,), (1,))], IN_2, {}, "axes.*3.*-2.*1"),
        ([cut((0,), (0,), (1,), decrease_axis=(5,))], IN_2, {}, "decrease_axis.*5"),
        (
            [make_op("slice", {"Input": "x", "StartsTensorList": ("x", "x")}, {"Out": "y"})],
            IN_2,
            {},
            "StartsTensorList",
        ),
        ([make_op("fill_constant", {"ShapeTensor": "x"}, {"Out": "y"})], IN_2, {}, "ShapeTensor"),
        ([fill("y", 1, dtype=21)], IN_2, {}, "dtype 21.*shape"),
        ([fill("y", 1, shape=())], IN_2, {}, r"shape \[\]"),
        ([fill("y", 1, shape=(2, 0))], IN_2, {}, r"shape \[2, 0\].*0"),
        ([fill("y", 1, shape=(2**16, 2**16))], IN_2, {}, "4294967296.*65536"),
        ([fill("y", 1, shape=(2**62,))], IN_2, {}, "0"),
        ([fill("y", 0.5)], IN_2, {}, "value.*0.5.*32"),
        ([fill("y", 1e30, dtype=3)], IN_2, {}, r"value.*1e\+30"),
        ([fill("y", math.nan, dtype=5)], IN_2, {}, "value.*nan"),
        ([fill("y", 1, dtype="5")], IN_2, {}, "dtype.*'5'"),
    ],
)
def test_mismatched_shapes_are_refused(ops, x, params, words):
    with pytest.raises(ModelError, match=words) as caught:
        build(*ops, **x, params=params)
    message = caught.value.message
    # The error names the op and its index in the program; feed is the first.
    assert message.startswith(f"test.nb: op {len(ops)} ({ops[-1].type}): ")
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        (None, "'x'.*float32"),
        (NbVar("x", "feed", False, None, None), "'x'.*float32"),
        (NbVar("x", "tensor", False, "int64", (1, 2)), "'x'.*float32"),
        (NbVar("x", "tensor", False, "float32", ()), r"'x'.*shape \[\]"),
        (NbVar("x", "tensor", False, "float32", (1, 0)), r"'x'.*shape \[1, 0\]"),
        (NbVar("x", "tensor", False, "float32", (-2, 3)), r"'x'.*shape \[-2, 3\]"),
        (NbVar("x", "tensor", False, "float32", (2**20, 2**20)), "'x'.*shape"),
        (NbVar("x", "tensor", False, "float32", (2**40,)), "'x'.*shape"),
    ],
)
def test_inputs_that_are_not_pictures_are_refused(variable, words):
    model = build_model([feed("x"), fetch("x")], {})
    block = dataclasses.replace(model.blocks[0], vars={} if variable is None else {"x": variable})
    with pytest.raises(ModelError, match=rf"test.nb: op 0 \(feed\): .*{words}"):
        build_graph(dataclasses.replace(model, blocks=(block,)), "test.nb")
