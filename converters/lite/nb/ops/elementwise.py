"""Elementwise ops, and the activations that opt fuses into other ops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from converters.lite.nb.builder import MAX_INT, OpRule, Step
from converters.lite.nb.ops import integers
from converters.sources.ops import PADDLE_OPS, PaddleOp


def activate(
    step: Step, name: str, rank: int, slot: str, kind: object, limit: str, scale: np.float32 | None = None
) -> None:
    """Write `name` to `slot` after the fused activation `kind`, if there is one.

    `limit` is the attribute with the upper bound of relu6. With `scale`, the result is rounded to 8 bits.
    """
    last = _list_activation(step, name, kind, limit) if kind else None
    if scale is not None:
        integers.write_rounded(step, slot, name if last is None else step.add(*last), rank, scale)
    elif last is None:
        step.write(slot, name, rank)
    else:
        step.give(*last, rank, slot)


def _list_activation(step: Step, name: str, kind: object, limit: str) -> tuple[str, list[str]]:
    """Return the type and the inputs of the last node of a fused activation, after its other nodes are added."""
    if kind not in step.rule.activations:
        step.fail(f"the fused activation is {kind!r}, expected one of {list(step.rule.activations)}")
    if kind == "relu":
        return "Relu", [name]
    if kind == "relu6":
        ends = [step.graph.add_float(0.0), step.graph.add_float(step.read_number(limit, 6.0))]
        return "Clip", [name, *ends]
    return _list_hard_swish(step, name, "hard_swish_")


def _list_hard_swish(step: Step, name: str, prefix: str = "") -> tuple[str, list[str]]:
    """Return the last node of x · min(max(x + offset, 0), threshold) / scale, as `_list_activation`."""
    attrs = PADDLE_OPS["hard_swish"].attrs
    numbers = {attr.paddle: step.read_number(f"{prefix}{attr.paddle}", attr.default) for attr in attrs}
    offset, threshold, scale = (numbers[name] for name in ("offset", "threshold", "scale"))
    if all(numbers[attr.paddle] == attr.default for attr in attrs):
        return "HardSwish", [name]
    if scale == 0:
        step.fail("scale is 0, expected a number other than 0")
    moved = step.add("Add", [name, step.graph.add_float(offset)])
    cut = step.add("Clip", [moved, step.graph.add_float(0.0), step.graph.add_float(threshold)])
    return "Div", [step.add("Mul", [name, cut]), step.graph.add_float(scale)]


def _calculate(op: PaddleOp, step: Step, *, kind: object = "") -> None:
    """Compute X with Y, then the fused activation `kind`."""
    if step.op.attrs.get("fuse_scale") is True:
        step.fail("fuse_scale is set, expected no fused scale")
    x, y = step.read_floats("X"), step.read_floats("Y")
    big, small = (x, y) if x.rank >= y.rank else (y, x)
    axis = step.read_int("axis", -1)
    axis = big.rank - small.rank if axis == -1 else axis
    behind = big.rank - small.rank - axis
    if axis < 0 or behind < 0:
        step.fail(f"axis {axis} does not fit a {x.rank}-D and a {y.rank}-D tensor")
    names = {value: value.name for value in (x, y)}
    if behind:
        axes = step.graph.add_ints(range(small.rank, small.rank + behind))
        names[small] = step.add("Unsqueeze", [small.name, axes])
    if kind:
        activate(step, step.add(op.onnx, [names[x], names[y]]), big.rank, "Out", kind, "")
    else:
        step.give(op.onnx, [names[x], names[y]], big.rank)


def _calculate_fused(op: PaddleOp, step: Step) -> None:
    _calculate(op, step, kind=step.op.attrs.get("act_type") or step.fail("no act_type, expected an activation"))


def _keep(op: PaddleOp, step: Step) -> None:
    value = step.read_floats("X")
    attrs: dict[str, Any] = {attr.onnx: step.read_number(attr.paddle, attr.default) for attr in op.attrs}
    step.give(op.onnx, [value.name], value.rank, **attrs)


def _assign(step: Step) -> None:
    value = step.read("X")
    if value.is_int:
        # Without a node, because ONNX's inference does not follow numbers through Identity.
        step.write("Out", value.name, value.rank, is_int=True, shape=value.shape)
    else:
        step.give("Identity", [value.name], value.rank)


def _hard_swish(step: Step) -> None:
    value = step.read_floats("X")
    step.give(*_list_hard_swish(step, value.name), value.rank)


def _swish(step: Step) -> None:
    value = step.read_floats("X")
    beta, inner = step.read_number("beta", 1.0), value.name
    if beta != 1:
        inner = step.add("Mul", [inner, step.graph.add_float(beta)])
    step.give("Mul", [value.name, step.add("Sigmoid", [inner])], value.rank)


def _gelu(step: Step) -> None:
    value = step.read_floats("X")
    if step.op.attrs.get("approximate") is True:
        step.fail("approximate is set, expected the exact form")
    # ONNX has Gelu only from opset 20 on.
    erf = step.add("Erf", [step.add("Mul", [value.name, step.graph.add_float(math.sqrt(0.5))])])
    half = step.add("Mul", [value.name, step.graph.add_float(0.5)])
    step.give("Mul", [half, step.add("Add", [erf, step.graph.add_float(1.0)])], value.rank)


def _clip(step: Step) -> None:
    step.refuse("Min", "Max")
    value = step.read_floats("X")
    ends = [step.graph.add_float(step.read_number(name, 0.0)) for name in ("min", "max")]
    step.give("Clip", [value.name, *ends], value.rank)


def _scale(step: Step) -> None:
    step.refuse("ScaleTensor")
    value = step.read("X")
    scale, bias = step.read_number("scale", 1.0), step.read_number("bias", 0.0)
    kind = step.op.attrs.get("activation_type")
    if kind and value.is_int:
        step.fail(f"integers with the fused activation {kind!r}, expected none")
    # scale · x + bias, or scale · (x + bias)
    parts = [("Mul", scale, 1.0), ("Add", bias, 0.0)]
    if step.op.attrs.get("bias_after_scale", True) is False:
        parts.reverse()
    parts = [part for part in parts if part[1] != part[2]] or [("Mul", 1.0, 1.0)]
    name = value.name
    for place, (op_type, number, _) in enumerate(parts):
        if value.is_int:
            if not number.is_integer() or abs(number) > MAX_INT:
                step.fail(f"integers with a scale of {scale} and a bias of {bias}, expected 32-bit integers")
            constant = step.graph.add_ints([int(number)])
        else:
            constant = step.graph.add_float(number)
        if place == len(parts) - 1 and not kind:
            step.give(op_type, [name, constant], value.rank, is_int=value.is_int, shape=value.shape)
        else:
            name = step.add(op_type, [name, constant])
    if kind:
        activate(step, name, value.rank, "Out", kind, "alpha")


RULES: Mapping[str, OpRule] = MappingProxyType(
    {
        **{
            name: OpRule(partial(_calculate if op.is_binary else _keep, op))
            for name, op in PADDLE_OPS.items()
            if op.onnx
        },
        # The kernels compute other activations, too, but opt fuses none of them for ARM.
        **{
            f"fusion_{name}_activation": OpRule(partial(_calculate_fused, PADDLE_OPS[name]), activations=("relu",))
            for name in ("elementwise_add", "elementwise_mul", "elementwise_sub")
        },
        "assign": OpRule(_assign),
        "clip": OpRule(_clip),
        "gelu": OpRule(_gelu),
        "hard_swish": OpRule(_hard_swish),
        "scale": OpRule(_scale, activations=("relu", "relu6")),
        "swish": OpRule(_swish),
    }
)
