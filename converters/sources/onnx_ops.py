"""Converts each ONNX node to ops of a Paddle program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto

from converters.sources.onnx_graph import HINT, MAX_INT, OnnxGraph, name_type, read_attr, sum_up
from converters.sources.ops import PADDLE_OPS
from converters.sources.program import Array
from edge_ocr.errors import ConversionError

# Constants up to this many numbers are stored once for each reader, so that a pass may change each copy.
_MAX_COPIED = 4096


class Step:
    """One node while it is converted."""

    def __init__(self, model: OnnxGraph, node: NodeProto) -> None:
        self.model = model
        self.node = node

    def fail(self, what: str) -> ConversionError:
        return ConversionError(f"{self.model.describe(self.node)}: {sum_up(what)}", HINT)

    def attr(self, name: str, default: Any = None) -> Any:
        return read_attr(self.node, name, default)

    def check(self, name: str, *expected: object) -> None:
        """Raise ConversionError if an attribute is set to another value."""
        value = self.attr(name, expected[0])
        if value not in expected:
            raise self.fail(f"{name} is {value!r}, expected {' or '.join(map(repr, expected))}")

    def has(self, place: int) -> bool:
        return place < len(self.node.input) and bool(self.node.input[place])

    def is_constant(self, place: int) -> bool:
        return self.node.input[place] in self.model.constants

    def shape(self, place: int = 0) -> tuple[int | str, ...]:
        name = self.node.input[place]
        if self.is_constant(place):
            return self.model.constants[name].shape
        if name not in self.model.shapes:
            raise self.fail(f"the rank of {name} is unknown")
        return self.model.shapes[name]

    def tensor(self, place: int = 0) -> str:
        """Return the program's name of a float32 input; a constant becomes a parameter."""
        name = self.node.input[place]
        if self.is_constant(place):
            return self.param(place)
        if self.model.dtypes.get(name) != TensorProto.FLOAT or name not in self.model.names:
            raise self.fail(f"{name} is not a float32 tensor")
        return self.model.names[name]

    def param(self, place: int, value: Array | None = None) -> str:
        """Store a constant input, or `value` instead, as a parameter; return its name."""
        name = self.node.input[place]
        constant = self.model.constants.get(name)
        if constant is None:
            raise self.fail(f"{name} is computed, expected a constant")
        if constant.dtype != np.float32:
            raise self.fail(f"{name} is {constant.dtype}, expected float32")
        # opt changes a convolution's filter in place, even if other ops read it.
        is_filter = place == 1 and self.node.op_type in ("Conv", "ConvTranspose")
        if value is None and constant.size > _MAX_COPIED and not is_filter:
            if name not in self.model.names:
                self.model.names[name] = self.model.store(name, constant)
            return self.model.names[name]
        return self.model.store(name, constant if value is None else value)

    def ints(self, attr: str, place: int, default: list[int] | None = None) -> list[int]:
        """Return integers from an attribute or, in newer opsets, from a constant input."""
        value = self.attr(attr)
        if value is not None:
            return [int(item) for item in value]
        if self.has(place):
            constant = self.model.constants.get(self.node.input[place])
            if constant is None or constant.dtype.kind not in "iu":
                raise self.fail(f"{attr} is computed, expected a constant")
            return [max(min(int(item), MAX_INT), -MAX_INT) for item in constant.reshape(-1)]
        if default is None:
            raise self.fail(f"{attr} is missing")
        return default

    def number(self, place: int, default: float) -> float:
        if not self.has(place):
            return default
        constant = self.model.constants.get(self.node.input[place])
        if constant is None or constant.size != 1:
            raise self.fail(f"{self.node.input[place]} is not a constant number")
        return float(constant.reshape(-1)[0])

    def axes(self, values: Iterable[int], rank: int) -> list[int]:
        axes = [value + rank if value < 0 else value for value in values]
        if not all(0 <= axis < rank for axis in axes) or len(set(axes)) < len(axes):
            raise self.fail(f"axes {axes} do not fit a {rank}-D tensor")
        return axes

    def give(
        self,
        op_type: str,
        inputs: Mapping[str, str | Sequence[str]],
        slot: str = "Out",
        extra: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
        **attrs: Any,
    ) -> None:
        """Append the op; `extra` are the shapes, by slot, of further outputs that nothing reads."""
        if any(self.node.output[1:]):
            raise self.fail(f"{len(self.node.output)} outputs, expected one")
        name = self.model.declare(self.node.output[0])
        self.put(op_type, inputs, name, slot, extra, **attrs)

    def put(
        self,
        op_type: str,
        inputs: Mapping[str, str | Sequence[str]],
        name: str,
        slot: str = "Out",
        extra: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
        **attrs: Any,
    ) -> None:
        outputs = {slot: name}
        for other, shape in extra.items():
            outputs[other] = self.model.program.make_name(f"{name}.{other.lower()}")
            self.model.program.set_shape(outputs[other], shape)
        try:
            self.model.program.insert_op(None, op_type, inputs, outputs, attrs)
        # Paddle's integer attributes have 32 bits, ONNX's have 64.
        except ValueError as error:
            raise self.fail(f"an attribute is too large: {error}") from None

    def give_with_bias(
        self, op_type: str, inputs: Mapping[str, str], bias: str | None, slot: str, **attrs: Any
    ) -> None:
        """As `give`, with the bias added by a separate op, as opt expects."""
        if bias is None:
            self.give(op_type, inputs, slot, **attrs)
            return
        result = self.model.declare(self.node.output[0])
        raw = self.model.program.make_name(f"{result}.unbiased")
        self.model.program.set_shape(raw, self.model.program.find_shape(result) or ())
        self.put(op_type, inputs, raw, slot, **attrs)
        self.put("elementwise_add", {"X": raw, "Y": bias}, result, axis=1)


def _keep(op_type: str, step: Step) -> None:
    attrs: dict[str, Any] = {
        attr.paddle: float(step.attr(attr.onnx, attr.default)) if attr.onnx else attr.default
        for attr in PADDLE_OPS[op_type].attrs
    }
    step.give(op_type, {"X": step.tensor()}, **attrs)


def _calculate(op_type: str, step: Step) -> None:
    x, y = step.shape(0), step.shape(1)
    is_swapped = step.is_constant(0) or len(y) > len(x) or _is_spread(x, y)
    if is_swapped and op_type not in ("elementwise_add", "elementwise_mul"):
        raise step.fail(f"operands of the shapes {list(x)} and {list(y)}, expected the larger operand first")
    big, small = (1, 0) if is_swapped else (0, 1)
    rank = len(step.shape(big))
    if len(step.shape(small)) > rank or _is_spread(step.shape(big), step.shape(small)):
        raise step.fail(f"operands of the shapes {list(x)} and {list(y)}, expected one that broadcasts to the other")
    if not step.is_constant(small):
        step.give(op_type, {"X": step.tensor(big), "Y": step.tensor(small)}, axis=-1)
        return
    value = step.model.constants[step.node.input[small]]
    # `axis` is where Paddle aligns the second operand's first dimension; opt fuses this form.
    axis = rank - value.ndim
    dims = list(value.shape)
    while dims and dims[0] == 1:
        dims, axis = dims[1:], axis + 1
    while dims and dims[-1] == 1:
        dims = dims[:-1]
    name = step.param(small, value.reshape(dims or [1]))
    step.give(op_type, {"X": step.tensor(big), "Y": name}, axis=axis if dims else -1)


def _is_spread(x: Sequence[int | str], y: Sequence[int | str]) -> bool:
    """Return whether a dimension of 1 in x meets a larger or unknown one in y."""
    return any(mine == 1 and other != 1 for mine, other in zip(reversed(x), reversed(y), strict=False))


def _window(step: Step, size: Sequence[int]) -> dict[str, Any]:
    """Return Paddle's attributes for strides and paddings of a window of `size`."""
    strides = step.attr("strides", [1] * len(size))
    dilations = step.attr("dilations", [1] * len(size))
    auto_pad = step.attr("auto_pad", "NOTSET")
    top, left, bottom, right = step.attr("pads", [0] * 4)
    algorithm = "EXPLICIT"
    if auto_pad == "SAME_UPPER" and all(stride == 1 for stride in strides):
        # With a stride of 1 the padding does not depend on the input's size.
        rest = [(taps - 1) * dilation for taps, dilation in zip(size, dilations, strict=True)]
        (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in rest)
    elif auto_pad == "SAME_UPPER" and all(dilation == 1 for dilation in dilations):
        # Paddle's SAME also pads the odd one at the end, but ignores dilations.
        algorithm = "SAME"
    elif auto_pad == "VALID":
        top = left = bottom = right = 0
    elif auto_pad != "NOTSET":
        raise step.fail(f"auto_pad {auto_pad} with strides {strides} and dilations {dilations}")
    is_even = (top, left) == (bottom, right)
    paddings = [top, left] if is_even else [top, bottom, left, right]
    return {"strides": strides, "paddings": paddings, "padding_algorithm": algorithm}


def _filter(step: Step) -> tuple[int, ...]:
    """Return the shape of a convolution's filters."""
    if not step.is_constant(1):
        raise step.fail("computed filters, expected a constant")
    shape = step.model.constants[step.node.input[1]].shape
    if len(shape) != 4 or len(step.shape()) != 4:
        raise step.fail(f"filters of shape {list(shape)}, expected 4-D filters and a 4-D input")
    return shape


def _conv(step: Step) -> None:
    shape, groups = _filter(step), step.attr("group", 1)
    attrs = {
        **_window(step, shape[2:]),
        "dilations": step.attr("dilations", [1, 1]),
        "groups": groups,
        "data_format": "NCHW",
    }
    is_depthwise = groups > 1 and shape[1] == 1 and shape[0] == groups
    bias = step.param(2) if step.has(2) else None
    inputs = {"Input": step.tensor(), "Filter": step.param(1)}
    step.give_with_bias("depthwise_conv2d" if is_depthwise else "conv2d", inputs, bias, "Output", **attrs)


def _conv_transpose(step: Step) -> None:
    shape = _filter(step)
    step.check("auto_pad", "NOTSET", "VALID")
    if step.attr("output_shape"):
        raise step.fail(f"output_shape {step.attr('output_shape')}, expected none")
    added = step.attr("output_padding", [])
    attrs = {
        **_window(step, shape[2:]),
        "dilations": step.attr("dilations", [1, 1]),
        "groups": step.attr("group", 1),
        "output_padding": added if any(added) else [],
        "output_size": [],
        "data_format": "NCHW",
    }
    bias = step.param(2) if step.has(2) else None
    inputs = {"Input": step.tensor(), "Filter": step.param(1)}
    step.give_with_bias("conv2d_transpose", inputs, bias, "Output", **attrs)


def _batch_norm(step: Step) -> None:
    step.check("training_mode", 0)
    if any(step.node.output[1:]):
        raise step.fail("more than one output (training form), expected one")
    names = {slot: step.param(place) for place, slot in enumerate(("Scale", "Bias", "Mean", "Variance"), 1)}
    channels = step.model.constants[step.node.input[1]].shape
    result = step.model.declare(step.node.output[0])
    attrs = {
        "epsilon": float(step.attr("epsilon", 1e-5)),
        "momentum": float(step.attr("momentum", 0.9)),
        "is_test": True,
        "use_global_stats": True,
        "trainable_statistics": False,
        "data_layout": "NCHW",
    }
    extra = {"SavedMean": channels, "SavedVariance": channels}
    inputs = {"X": step.tensor(), **names}
    step.put("batch_norm", inputs, result, "Y", extra, **attrs)
    # Mean and Variance are updated in place.
    op = step.model.program.ops[-1]
    for slot in ("Mean", "Variance"):
        step.model.program.set_output(op, f"{slot}Out", names[slot])


def _pool(kind: str, step: Step) -> None:
    size = step.attr("kernel_shape")
    step.check("dilations", [1] * len(size))
    step.check("storage_order", 0)
    if len(size) != 2:
        raise step.fail(f"a {len(size)}-D window, expected 2-D")
    attrs = _window(step, size)
    if step.attr("ceil_mode", 0):
        _, _, *ends = step.attr("pads", [0] * 4)
        is_behind = any(end + stride > taps for end, stride, taps in zip(ends, attrs["strides"], size, strict=True))
        if is_behind or attrs["padding_algorithm"] == "SAME" or step.attr("count_include_pad", 0):
            raise step.fail(
                "ceil_mode with windows that may start in the padding, which ONNX and the runtime count differently"
            )
    _put_pool(
        step,
        kind,
        ksize=size,
        adaptive=False,
        ceil_mode=bool(step.attr("ceil_mode", 0)),
        exclusive=not step.attr("count_include_pad", 0),
        **attrs,
    )


def _global_pool(step: Step) -> None:
    _put_pool(
        step,
        "avg",
        ksize=[1, 1],
        adaptive=True,
        ceil_mode=False,
        exclusive=True,
        strides=[1, 1],
        paddings=[0, 0],
        padding_algorithm="EXPLICIT",
    )


def _put_pool(step: Step, kind: str, **attrs: Any) -> None:
    if len(step.shape()) != 4:
        raise step.fail(f"a {len(step.shape())}-D input, expected a 4-D input")
    inputs = {"X": step.tensor()}
    step.give("pool2d", inputs, pooling_type=kind, global_pooling=False, data_format="NCHW", **attrs)


def _reduce_mean(step: Step) -> None:
    rank = len(step.shape())
    axes = step.axes(step.ints("axes", 1, list(range(rank))), rank)
    if not axes or len(axes) == rank:
        raise step.fail("over no axis or all axes, including the batch")
    step.give("reduce_mean", {"X": step.tensor()}, dim=axes, keep_dim=bool(step.attr("keepdims", 1)), reduce_all=False)


def _resize(step: Step) -> None:
    if len(step.shape()) != 4 or not step.has(2) or step.has(3):
        raise step.fail("expected a 4-D input and constant scales; sizes are not supported")
    value = step.model.constants.get(step.node.input[2])
    scales = [] if value is None else [float(scale) for scale in value.reshape(-1)]
    if step.attr("axes") is not None or len(scales) != 4 or scales[:2] != [1.0, 1.0] or min(scales) <= 0:
        raise step.fail(f"scales {scales}, expected 1, 1 and the factors for height and width")
    mode = step.attr("mode", "nearest")
    places = step.attr("coordinate_transformation_mode", "half_pixel")
    rounding = step.attr("nearest_mode", "round_prefer_floor")
    step.check("antialias", 0)
    is_whole = all(scale.is_integer() for scale in scales)
    # With whole factors no coordinate is half-way between two pixels, so both forms read pixel ⌊x / factor⌋.
    is_floor = (places, rounding) == ("asymmetric", "floor") or (
        is_whole and places in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round_prefer")
    )
    if mode == "nearest" and is_floor:
        op_type, method, is_aligned, align_mode = "nearest_interp_v2", "nearest", False, 1
    elif mode == "linear" and places in ("half_pixel", "align_corners", "asymmetric"):
        op_type, method = "bilinear_interp_v2", "bilinear"
        is_aligned, align_mode = places == "align_corners", int(places == "asymmetric")
    else:
        raise step.fail(f"mode {mode} with {places} and {rounding}")
    step.give(
        op_type,
        {"X": step.tensor()},
        interp_method=method,
        align_corners=is_aligned,
        align_mode=align_mode,
        scale=scales[2:],
        out_d=-1,
        out_h=-1,
        out_w=-1,
        data_layout="NCHW",
    )


def _concat(step: Step) -> None:
    names = [step.tensor(place) for place in range(len(step.node.input))]
    (axis,) = step.axes([step.attr("axis")], len(step.shape()))
    step.give("concat", {"X": names}, axis=axis)


def _slice(step: Step) -> None:
    starts, ends = step.ints("", 1), step.ints("", 2)
    rank = len(step.shape())
    axes = step.axes(step.ints("", 3, list(range(len(starts)))), rank)
    if any(stride != 1 for stride in step.ints("", 4, [1])):
        raise step.fail(f"steps {step.ints('', 4)}, expected 1")
    if not len(axes) == len(starts) == len(ends):
        raise step.fail(f"axes {axes}, starts {starts}, ends {ends}, expected equal counts")
    flags = [1] * len(axes)
    step.give(
        "slice", {"Input": step.tensor()}, axes=axes, starts=starts, ends=ends, infer_flags=flags, decrease_axis=[]
    )


def _squeeze(step: Step) -> None:
    shape = step.shape()
    axes = step.axes(step.ints("axes", 1), len(shape))
    _reshape_as(step, "squeeze2", axes=axes)


def _unsqueeze(step: Step) -> None:
    axes = step.ints("axes", 1)
    _reshape_as(step, "unsqueeze2", axes=sorted(step.axes(axes, len(step.shape()) + len(axes))))


def _transpose(step: Step) -> None:
    rank = len(step.shape())
    _reshape_as(step, "transpose2", axis=step.attr("perm", list(reversed(range(rank)))))


def _reshape(step: Step) -> None:
    step.check("allowzero", 0)
    shape = step.ints("", 1)
    if max(map(abs, shape), default=0) >= MAX_INT:
        raise step.fail(f"a dimension of {MAX_INT} or more")
    _reshape_as(step, "reshape2", shape=shape)


def _flatten(step: Step) -> None:
    (axis,) = step.axes([step.attr("axis", 1)], len(step.shape()))
    if axis != 1:
        raise step.fail(f"axis {axis}, expected 1")
    _reshape_as(step, "reshape2", shape=[0, -1])


def _reshape_as(step: Step, op_type: str, **attrs: Any) -> None:
    name = step.tensor()
    shape = step.model.program.find_shape(name) or ()
    step.give(op_type, {"X": name}, extra={"XShape": (0, *shape)}, **attrs)


def _cast(step: Step) -> None:
    if step.attr("to") != TensorProto.FLOAT:
        raise step.fail(f"to {name_type(step.attr('to'))}, expected FLOAT")
    step.give("assign", {"X": step.tensor()})


def _dropout(step: Step) -> None:
    if step.has(2) and step.number(2, 0.0):
        raise step.fail("training_mode is set")
    step.give("assign", {"X": step.tensor()})


def _clip(step: Step) -> None:
    least, most = step.number(1, -float(np.finfo(np.float32).max)), step.number(2, float(np.finfo(np.float32).max))
    end = float(np.finfo(np.float32).max)
    step.give("clip", {"X": step.tensor()}, min=max(least, -end), max=min(most, end))


def _pow(step: Step) -> None:
    # Not `pow`: Paddle-Lite's kernel shares pointers between threads and returns NaN for powers of zero.
    power, x = step.number(1, 1.0), step.tensor()
    if power == 2:
        step.give("elementwise_mul", {"X": x, "Y": x}, axis=-1)
    elif power == 0.5:
        step.give("sqrt", {"X": x})
    elif power == 1:
        step.give("assign", {"X": x})
    else:
        raise step.fail(f"power {power}, expected 2, 1 or 0.5: the runtime computes others wrong")


def _gelu(step: Step) -> None:
    step.check("approximate", "none")
    step.give("gelu", {"X": step.tensor()}, approximate=False)


def _softmax(step: Step) -> None:
    rank = len(step.shape())
    (axis,) = step.axes([step.attr("axis", -1 if step.model.opset >= 13 else 1)], rank)
    if step.model.opset < 13 and axis != rank - 1:
        raise step.fail(f"over axes {axis} to {rank - 1} at once, expected the last axis")
    step.give("softmax", {"X": step.tensor()}, axis=axis, data_format="AnyLayout")


def _matmul(step: Step) -> None:
    if min(len(step.shape(0)), len(step.shape(1))) < 2:
        raise step.fail("a 1-D operand, expected at least 2-D operands")
    step.give("matmul_v2", {"X": step.tensor(0), "Y": step.tensor(1)}, trans_x=False, trans_y=False)


def _layer_norm(step: Step) -> None:
    shape = step.shape()
    (axis,) = step.axes([step.attr("axis", -1)], len(shape))
    if not step.has(2) or axis != len(shape) - 1:
        raise step.fail("expected one over the last axis, with scale and bias")
    for place in (1, 2):
        # ONNX would broadcast one number; the runtime reads one for each place.
        size, last = step.shape(place), shape[-1]
        if len(size) != 1 or (size[0] != last if isinstance(last, int) else size[0] == 1):
            raise step.fail(f"scale and bias of {step.shape(1)} and {step.shape(2)} numbers, expected {shape[-1:]}")
    rows = math.prod(dim if isinstance(dim, int) else -1 for dim in shape[:-1])
    inputs = {"X": step.tensor(), "Scale": step.param(1), "Bias": step.param(2)}
    attrs = {"begin_norm_axis": axis, "epsilon": float(step.attr("epsilon", 1e-5))}
    extra = {"Mean": (max(rows, -1),), "Variance": (max(rows, -1),)}
    result = step.model.declare(step.node.output[0])
    step.put("layer_norm", inputs, result, "Y", extra, **attrs)


RULES: Mapping[str, Callable[[Step], None]] = MappingProxyType(
    {
        **{op.onnx: partial(_calculate if op.is_binary else _keep, name) for name, op in PADDLE_OPS.items() if op.onnx},
        "AveragePool": partial(_pool, "avg"),
        "BatchNormalization": _batch_norm,
        "Cast": _cast,
        "Clip": _clip,
        "Concat": _concat,
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "Dropout": _dropout,
        "Flatten": _flatten,
        "Gelu": _gelu,
        "GlobalAveragePool": _global_pool,
        "LayerNormalization": _layer_norm,
        "MatMul": _matmul,
        "MaxPool": partial(_pool, "max"),
        "Pow": _pow,
        "ReduceMean": _reduce_mean,
        "Reshape": _reshape,
        "Resize": _resize,
        "Slice": _slice,
        "Softmax": _softmax,
        "Squeeze": _squeeze,
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
    }
)
