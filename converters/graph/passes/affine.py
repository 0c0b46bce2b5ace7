"""Reads and changes convolutions and channel-wise affine ops.

Tensors are N×C×H×W; `vector` is always float64 of length 1 or C.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converters.sources.program import Array, Op, Program, get_attr, get_input, get_output, set_attr
from edge_ocr.errors import ModelError

Vector = NDArray[np.float64]

CONVS = frozenset(("conv2d", "depthwise_conv2d", "conv2d_transpose", "depthwise_conv2d_transpose"))

_SLOTS = frozenset(("Input", "Filter"))
# Attributes that apply an activation after or before a convolution.
_FUSED = ("with_act", "fuse_relu", "fuse_activation", "fuse_relu_before_depthwise_conv")


@dataclass(frozen=True)
class Affine:
    """An elementwise op, result = source · vector or source + vector, with one factor or term per channel."""

    op: Op
    source: str
    result: str
    param: str
    is_scale: bool
    vector: Vector


def read_affine(program: Program, op: Op) -> Affine | None:
    """Return what an elementwise_mul or elementwise_add with a parameter computes; None for any other op."""
    if op.type not in ("elementwise_mul", "elementwise_add"):
        return None
    is_scale = op.type == "elementwise_mul"
    x, y, result = get_input(op, "X"), get_input(op, "Y"), get_output(op, "Out")
    if x is None or y is None or result is None or (x in program.params) == (y in program.params):
        return None
    source, param = (y, x) if x in program.params else (x, y)
    shape, value = program.find_shape(source), program.params[param]
    if shape is None or len(shape) != 4 or value.dtype != np.float32 or not np.isfinite(value).all():
        return None
    if not program.is_constant(param) or program.find_writer(source) is None or program.find_writer(result) is not op:
        return None
    vector = _read_vector(value, get_attr(op, "axis", -1), shape[1], param == x)
    return None if vector is None else Affine(op, source, result, param, is_scale, vector)


def _read_vector(value: Array, axis: int, channels: int, is_first: bool) -> Vector | None:
    if value.size == 1 and value.ndim <= 4:
        return value.reshape(1).astype(np.float64)
    # `axis` is where Paddle aligns the lower-rank operand's first dimension; -1 aligns the last ones.
    if value.ndim < 4:
        if is_first:
            return None
        start = 4 - value.ndim if axis == -1 else axis
        if not 0 <= start <= 4 - value.ndim:
            return None
        value = value.reshape((1,) * start + value.shape + (1,) * (4 - start - value.ndim))
    if value.ndim != 4 or value.shape != (1, channels, 1, 1):
        return None
    return value.reshape(channels).astype(np.float64)


def store(program: Program, name: str, value: NDArray[np.float64]) -> None:
    """Round a computed parameter to float32, once, and store it.

    Raises ModelError if a number leaves the range of float32.
    """
    with np.errstate(all="ignore"):
        rounded = value.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise ModelError(
            f"{program.where}: the parameter {name} would become infinite or NaN",
            "check the weights, or export the model unchanged with --no-optimize",
        )
    program.set_param(name, rounded)


def write_affine(program: Program, op: Op, source: str, param: str, vector: Vector) -> None:
    """Rewrite `op` in the affine form that opt fuses: the parameter second and 1-D."""
    store(program, param, vector)
    program.set_input(op, "X", source)
    program.set_input(op, "Y", param)
    set_attr(op, "axis", 1 if len(vector) > 1 else -1)


def is_conv(program: Program, op: Op | None) -> bool:
    """Return whether `op` is a plain N×C×H×W convolution whose float32 weights nothing else uses."""
    if op is None or op.type not in CONVS:
        return False
    name = get_input(op, "Filter")
    return (
        program.owns_param(op, name)
        and name is not None
        and program.params[name].ndim == 4
        and program.params[name].size > 0
        and program.params[name].shape[0] % _count_groups(op) == 0
        and all(not slot.arguments or slot.parameter in _SLOTS for slot in op.inputs)
        and is_channels_first(op)
        and not any(get_attr(op, name) for name in _FUSED)
        and program.find_writer(get_output(op, "Output") or "") is op
    )


def is_channels_first(op: Op) -> bool:
    """Return whether a convolution or pooling reads its input as N×C×H×W."""
    return get_attr(op, "data_format", "NCHW") in ("NCHW", "AnyLayout")


def is_unpadded(op: Op) -> bool:
    """Return whether a convolution or pooling has no padding."""
    algorithm = get_attr(op, "padding_algorithm", "EXPLICIT")
    return algorithm == "VALID" or (algorithm == "EXPLICIT" and not any(get_attr(op, "paddings", [0])))


def count_outputs(program: Program, conv: Op) -> int:
    """Return a convolution's number of output channels."""
    shape = program.params[get_input(conv, "Filter") or ""].shape
    return int(shape[1] * _count_groups(conv) if _is_transposed(conv) else shape[0])


def count_inputs(program: Program, conv: Op) -> int:
    """Return a convolution's number of input channels."""
    shape = program.params[get_input(conv, "Filter") or ""].shape
    return int(shape[0] if _is_transposed(conv) else shape[1] * _count_groups(conv))


def scale_outputs(program: Program, conv: Op, vector: Vector) -> None:
    """Multiply each output channel's filter."""
    view = _view_filter(program, conv)
    outputs = np.broadcast_to(vector, view.shape[0] * view.shape[1])
    _write_filter(program, conv, view * outputs.reshape(view.shape[0], view.shape[1], 1, 1, 1))


def scale_inputs(program: Program, conv: Op, vector: Vector) -> None:
    """Multiply each input channel's part of the filters."""
    view = _view_filter(program, conv)
    inputs = np.broadcast_to(vector, view.shape[0] * view.shape[2])
    _write_filter(program, conv, view * inputs.reshape(view.shape[0], 1, view.shape[2], 1, 1))


def respond_to(program: Program, conv: Op, vector: Vector) -> Vector:
    """Return what `vector`, added to the input of an unpadded plain convolution, adds to each output channel."""
    view = _view_filter(program, conv)
    inputs = np.broadcast_to(vector, view.shape[0] * view.shape[2]).reshape(view.shape[0], view.shape[2])
    response: Vector = np.einsum("goihw,gi->go", view, inputs).reshape(-1)
    return response


def find_bias(program: Program, conv: Op) -> Affine | None:
    """Return a convolution's bias: an addition of an unshared parameter that is the only reader of its output."""
    reader = program.find_only_reader(get_output(conv, "Output") or "")
    bias = None if reader is None else read_affine(program, reader)
    if bias is None or bias.is_scale or not program.owns_param(bias.op, bias.param):
        return None
    return bias if len(bias.vector) in (1, count_outputs(program, conv)) else None


def add_to_bias(program: Program, conv: Op, vector: Vector) -> None:
    """Add to a convolution's bias, or insert one."""
    bias = find_bias(program, conv)
    channels = count_outputs(program, conv)
    if bias is not None:
        write_affine(program, bias.op, bias.source, bias.param, np.broadcast_to(bias.vector + vector, channels))
        return
    result = get_output(conv, "Output") or ""
    name = program.make_name(f"{get_input(conv, 'Filter')}.bias")
    raw = program.make_name(f"{result}.unbiased")
    program.set_shape(raw, program.find_shape(result) or ())
    store(program, name, np.broadcast_to(vector, channels))
    program.set_output(conv, "Output", raw)
    attrs = {"axis": 1}
    program.insert_op(conv, "elementwise_add", {"X": raw, "Y": name}, {"Out": result}, attrs)


def _count_groups(conv: Op) -> int:
    return max(int(get_attr(conv, "groups", 1)), 1)


def _is_transposed(conv: Op) -> bool:
    return "transpose" in str(conv.type)


def _view_filter(program: Program, conv: Op) -> NDArray[np.float64]:
    """Return the filters as float64, groups × outputs × inputs × height × width, counted within each group."""
    value = program.params[get_input(conv, "Filter") or ""].astype(np.float64)
    view = value.reshape(_count_groups(conv), -1, *value.shape[1:])
    return view.swapaxes(1, 2) if _is_transposed(conv) else view


def _write_filter(program: Program, conv: Op, view: NDArray[np.float64]) -> None:
    name = get_input(conv, "Filter") or ""
    value = view.swapaxes(1, 2) if _is_transposed(conv) else view
    store(program, name, value.reshape(program.params[name].shape))
