"""What Paddle-Lite's 8-bit ARM kernels compute, in float nodes or in integer nodes.

In the first form the graph holds 8-bit integers as floats: their products and sums are whole numbers, exact below 2^24,
so that every host engine gives the same. Rounding is half away from zero, and -128 does not occur
(`math/type_trans.cc`, `math/gemm_prepacked_int8.cc`).

The second form is for ONNX Runtime. It has the same sums, because ConvInteger and MatMulInteger leave scaling and
rounding to other nodes; QLinearConv, and so QDQ, rounds every output to 8 bits. All integers are unsigned, 128 for 0:
without VNNI, x86 adds products of signed and unsigned ones in 16 bits, which overflow; and with VNNI, ONNX Runtime 1.31
took 2.5 times as long for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from converters.lite.nb.builder import OpRule, Step

LIMIT = np.float32(127)

# How the integer form stores 0.
_ZERO = 128

# Whether a kernel writes 8-bit integers; the second pair is fc's.
_ALIASES: Mapping[str, bool] = {"int8_out": True, "fp32_out": False, "int8out": True, "fp32out": False}

# The inverse of a smaller number may be infinite.
_SMALLEST = float(np.finfo(np.float32).tiny)
_MAX_FLOAT = float(np.finfo(np.float32).max)


def is_computed(step: Step) -> bool:
    """Return whether the runtime computes the op in 8-bit integers."""
    return step.op.attrs.get("enable_int8") is True


def read_output_scale(step: Step, slot: str) -> np.float32 | None:
    """Return the scale of the op's output; None if its kernel writes floats."""
    kernel = step.op.kernel
    alias = "" if kernel is None else kernel.alias
    if kernel is None or kernel.precision != "int8" or alias not in _ALIASES:
        step.fail(f"enable_int8 is set for the kernel {alias!r}, expected one of {list(_ALIASES)}")
    return read_scales(step, f"{slot}0_scale", 1)[0] if _ALIASES[alias] else None


def read_scales(step: Step, name: str, count: int) -> NDArray[np.float32]:
    """Return `count` scales from the attribute `name`."""
    value = step.op.attrs.get(name, ())
    scales = value if isinstance(value, tuple) else (value,)
    if len(scales) != count:
        step.fail(f"{name} has {len(scales)} numbers, expected {count}")
    if not all(isinstance(scale, float) and _SMALLEST <= scale <= _MAX_FLOAT for scale in scales):
        step.fail(f"the numbers in {name} are not all finite and above 0")
    return np.array(scales, dtype=np.float32)


def read_integers(step: Step, slot: str) -> tuple[str, tuple[int, ...]]:
    """Return the name and shape of an int8 parameter; the graph holds it as whole float numbers."""
    names = step.list_names(slot)
    if len(names) != 1 or names[0] not in step.graph.source.params:
        step.fail(f"{slot} is {list(names)}, expected one parameter")
    param = step.graph.source.params[names[0]]
    if param.dtype != "int8" or not param.count:
        step.fail(f"{slot} {names[0]!r} of shape {list(param.shape)} holds {param.dtype}, expected int8")
    array = param.to_array()
    # Shifted by 128, -128 to 127 become 0 to 255.
    stored = (array.astype(np.int16) + _ZERO).astype(np.uint8) if step.graph.use_integers else array.astype(np.float32)
    return step.graph.add_constant(stored, names[0]), param.shape


def add_sums(step: Step, op_type: str, inputs: Sequence[str], **attrs: Any) -> str:
    """Add a Conv or MatMul of 8-bit integers; return the name of its sums, float32."""
    if not step.graph.use_integers:
        return step.add(op_type, inputs, **attrs)
    zero = _share_zero(step)
    return step.add("Cast", [step.add(f"{op_type}Integer", [*inputs, zero, zero], **attrs)], to=onnx.TensorProto.FLOAT)


def _share_zero(step: Step) -> str:
    return step.graph.share("zero_point", np.array(_ZERO, dtype=np.uint8))


def scale_sums(step: Step, name: str, slot: str, rank: int) -> str:
    """Multiply sums of products with the scales of the input and of the weights, and add the bias.

    `slot` is that of the weights. The kernel does both in one instruction, which rounds once. Returns the name.
    """
    param = step.graph.source.params[step.list_names(slot)[0]]
    count = param.shape[0 if rank == 4 else 1]
    # Scales near the largest float give infinities, as on a device.
    with np.errstate(over="ignore"):
        scales = read_scales(step, f"{slot}0_scale", count) * read_scales(step, "Input0_scale", 1)
    shape = (count, 1, 1) if rank == 4 else (count,)
    out = step.add("Mul", [name, step.graph.add_constant(scales.reshape(shape), f"{step.op.type}_{step.index}_scales")])
    if step.has("Bias"):
        bias = step.read_bias(count)
        bias = step.add("Reshape", [bias, step.graph.add_ints(shape)]) if rank == 4 else bias
        out = step.add("Add", [out, bias])
    return out


def write_rounded(step: Step, slot: str, name: str, rank: int, scale: np.float32) -> None:
    """Divide by `scale`, round to 8 bits and write the result to `slot`."""
    if step.graph.use_integers:
        # QuantizeLinear alone would reach -128.
        cut = step.add("Max", [name, step.graph.add_float(float(-LIMIT * scale))])
        inputs = [cut, step.graph.add_float(float(scale)), _share_zero(step)]
        code = step.graph.add_node("QuantizeLinear", inputs, step.name_output(slot))
        step.write_int8(slot, code, rank, float(scale))
        return
    moved = step.add("Mul", [name, step.graph.add_float(float(np.float32(1) / scale))])
    ends = [step.graph.add_float(float(-LIMIT)), step.graph.add_float(float(LIMIT))]
    cut = step.add("Clip", [moved, *ends])
    # Half away from zero; ONNX's Round takes the even number.
    half = step.add("Add", [step.add("Abs", [cut]), step.graph.add_float(0.5)])
    whole = [step.add("Sign", [cut]), step.add("Floor", [half])]
    step.write_int8(slot, step.graph.add_node("Mul", whole, step.name_output(slot)), rank, float(scale))


def _calib(step: Step) -> None:
    kernel = step.op.kernel
    alias = "" if kernel is None else kernel.alias
    scale = np.float32(step.read_number("scale", 0.0))
    if not _SMALLEST <= scale <= _MAX_FLOAT:
        step.fail(f"scale is {scale}, expected a number above 0")
    if alias == "fp32_to_int8":
        value = step.read_floats("Input")
        write_rounded(step, "Out", value.name, value.rank, scale)
    elif alias == "int8_to_fp32":
        value = step.read_int8("Input")
        inputs = [value.name, step.graph.add_float(float(scale))]
        if step.graph.use_integers:
            step.give("DequantizeLinear", [*inputs, _share_zero(step)], value.rank)
        else:
            step.give("Mul", inputs, value.rank)
    else:
        step.fail(f"the kernel {alias!r}, expected fp32_to_int8 or int8_to_fp32")


RULES: Mapping[str, OpRule] = MappingProxyType({"calib": OpRule(_calib)})
