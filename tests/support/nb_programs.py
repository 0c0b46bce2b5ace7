"""Programs of a `.nb` in memory, and the results of their graphs."""

from __future__ import annotations

import numpy as np
import onnxruntime

from converters.lite.nb.read import NbBlock, NbHeader, NbModel, NbOp, NbParam, NbVar
from converters.lite.nb.to_onnx import build_graph


def make_op(op_type, inputs, outputs, /, **attrs):
    def to_slots(named):
        return {slot: (names,) if isinstance(names, str) else tuple(names) for slot, names in named.items()}

    return NbOp(op_type, to_slots(inputs), to_slots(outputs), attrs)


def to_param(name, array):
    array = np.asarray(array)
    return NbParam(name, array.dtype.name, array.shape, memoryview(array.tobytes()))


def feed(name, column=0):
    return make_op("feed", {"X": "feed"}, {"Out": name}, col=column)


def fetch(name, column=0):
    return make_op("fetch", {"X": name}, {"Out": "fetch"}, col=column)


def build_model(ops, inputs, params=()):
    """Make a program of `ops`, feed and fetch included; `inputs` are their shapes by name."""
    variables = {name: NbVar(name, "tensor", False, "float32", tuple(shape)) for name, shape in dict(inputs).items()}
    return NbModel(
        size_bytes=0,
        header=NbHeader(2, "v2.13-rc", 0, len(params), 0),
        program_version=0,
        blocks=(NbBlock(0, -1, variables, tuple(ops)),),
        params={name: to_param(name, array) for name, array in dict(params).items()},
        inputs=tuple(variables.values()),
        outputs=(),
    )


def build(*ops, x=(-1, 3, -1, -1), params=(), output="y"):
    """Build the graph of `ops` between the input x and an output."""
    return build_graph(build_model([feed("x"), *ops, fetch(output)], {"x": x}, params), "test.nb")


def open_session(graph):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(array, *ops, params=(), output="y"):
    """Run `ops` on `array`; all dimensions of the input are free."""
    graph = build(*ops, x=(-1,) * array.ndim, params=params, output=output)
    (result,) = open_session(graph).run(None, {"x": array})
    return result


def apply(array, op_type, /, *, slot="X", out="Out", params=(), inputs=(), **attrs):
    """Run one op, which reads `array` in `slot`."""
    op = make_op(op_type, {slot: "x", **dict(inputs)}, {out: "y"}, **attrs)
    return run(array, op, params=params)


def draw(*shape, seed=0, low=-3.0, high=3.0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def check(found, wanted, atol=1e-5):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


def pad(array, paddings, value=0.0):
    top, bottom, left, right = paddings
    return np.pad(array, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def list_windows(array, kernel, strides, dilations=(1, 1)):
    """Return the windows, of shape N, C, rows, columns, kernel rows, kernel columns."""
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(array, reach, axis=(2, 3))
    return windows[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]


def convolve(array, weights, bias, strides=(1, 1), paddings=(0, 0, 0, 0), dilations=(1, 1), groups=1):
    windows = list_windows(pad(array, paddings), weights.shape[2:], strides, dilations)
    outputs = []
    for part, kernels in zip(np.split(windows, groups, 1), np.split(weights, groups), strict=True):
        outputs.append(np.einsum("nchwij,ocij->nohw", part, kernels))
    return np.concatenate(outputs, 1) + bias[:, None, None]


def make_conv(op_type="conv2d", **attrs):
    return make_op(op_type, {"Input": "x", "Filter": "w", "Bias": "b"}, {"Output": "y"}, **attrs)


# 1 × 1 with a weight of 1: the output is the activation.
UNIT = {"w": np.ones((1, 1, 1, 1), np.float32), "b": np.zeros(1, np.float32)}


def fill(name, value, dtype=2, shape=(1,), **attrs):
    return make_op("fill_constant", {}, {"Out": name}, shape=shape, value=float(value), dtype=dtype, **attrs)


def pick(source, name, place):
    """Pick one number of a vector, as programs do with shapes."""
    attrs = {"axes": (0,), "starts": (place,), "ends": (place + 1,), "decrease_axis": (0,), "infer_flags": (1,)}
    return make_op("slice", {"Input": source}, {"Out": name}, **attrs)


SCALES = (0.5, 0.25, 2.0)


def quantise(method="post_weight_channel_wise_abs_max", bits=8, **scales):
    attrs = {f"{name}_quant_scale": value for name, value in scales.items()}
    return {**attrs, "quantize_weight_bits": bits, **({} if method is None else {"quantization_type": method})}


FC = {"w": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32)}


def unary(op_type, slot="X", **attrs):
    return make_op(op_type, {slot: "x"}, {"Out": "y"}, **attrs)


SHAPE_OF_X = make_op("shape", {"Input": "x"}, {"Out": "sides"})
