"""Marks the convolutions and products that a device computes with 8-bit integers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program, get_attr, get_input, get_output
from edge_ocr.errors import ModelError

# By op: the slots of the activation and of the weights, and the axis of the weights' output channels.
_SLOTS: Mapping[str, tuple[str, str, int]] = {
    "conv2d": ("Input", "Filter", 0),
    "matmul": ("X", "Y", 1),
    "matmul_v2": ("X", "Y", 1),
    "mul": ("X", "Y", 1),
}


def mark_int8(
    program: Program, inputs: Mapping[str, float], scales: Mapping[str, NDArray[np.float32]] = MappingProxyType({})
) -> PassReport:
    """Mark the ops whose weights `inputs` names, in place; opt then gives them 8-bit kernels.

    `inputs` maps the name of a convolution's filter, or of a product's weights, to the largest absolute value of the
    op's input; larger ones are cut off. Ops that read the same tensor share one scale: the largest of theirs. Weights
    stay float: opt rounds them to whole multiples of a scale per output channel, half away from zero. `scales` has
    these scales by name, float32; by default the largest |w| of each channel / 127. Weights that are whole multiples of
    their scale, at most 127, are stored as just these integers.

    Not exact, so not one of `PASSES`: run it after them. Depthwise convolutions are refused: in 8 bits the ARM library
    computes some of them wrong, and none with fewer instructions. So are products without a bias, which do not become
    `fc`, and of one row per picture: it is wrong once a model has run with one row and with several.

    Raises ModelError if a name is unknown, its op has no such kernel, a value is not a finite number above 0, or
    scales do not fit their weights.
    """
    ops_before = program.count_ops()
    marked = {name: _find_reader(program, name) for name in inputs}
    largest: dict[str, float] = {}
    for name, op in marked.items():
        value, source = inputs[name], get_input(op, _SLOTS[op.type][0]) or ""
        if not 0 < value < math.inf:
            raise ModelError(
                f"{program.where}: int8 for {name!r}: inputs up to {value}, expected a finite number above 0",
                "calibrate with pictures that contain text",
            )
        largest[source] = max(value, largest.get(source, 0.0))
    rounded = {source: _round_input(program, source, value) for source, value in largest.items()}
    for name, op in marked.items():
        slot, weights, axis = _SLOTS[op.type]
        program.set_input(op, slot, rounded[get_input(op, slot) or ""])
        program.set_input(op, weights, _round_weights(program, op, name, axis, scales.get(name)))
    return make_report("mark_int8", program, ops_before, len(marked))


def _find_reader(program: Program, name: str) -> Op:
    """Return the op that reads the weights `name`."""
    where, hint = f"{program.where}: int8 for {name!r}", "choose filters of dense convolutions or weights of fc"
    if not program.is_constant(name) or program.params[name].dtype != np.float32:
        raise ModelError(f"{where}: not a float32 parameter", hint)
    readers = program.list_readers(name)
    if len(readers) != 1 or readers[0].type not in _SLOTS or get_input(readers[0], _SLOTS[readers[0].type][1]) != name:
        types = [op.type for op in readers]
        raise ModelError(f"{where}: read by {types}, expected the weights of one op of {list(_SLOTS)}", hint)
    (op,) = readers
    if program.find_writer(get_input(op, _SLOTS[op.type][0]) or "") is None:
        raise ModelError(f"{where}: the input of its {op.type} is not written by one op", hint)
    if op.type == "conv2d":
        if get_attr(op, "groups", 1) != 1:
            raise ModelError(f"{where}: a convolution in {get_attr(op, 'groups', 1)} groups, expected 1", hint)
        return op
    after = program.find_only_reader(get_output(op, "Out") or "")
    is_biased = (
        after is not None and after.type == "elementwise_add" and program.is_constant(get_input(after, "Y") or "")
    )
    if program.params[name].ndim != 2 or not is_biased:
        raise ModelError(
            f"{where}: its {op.type} has no 2-D weights followed by a bias, so it does not become fc", hint
        )
    if len(program.find_shape(get_input(op, "X") or "") or ()) < 3:
        raise ModelError(f"{where}: its {op.type} has one row per picture, expected several", hint)
    return op


def _round_input(program: Program, source: str, value: float) -> str:
    """Insert the op that rounds `source`, which stays for other readers; return the name of its result."""
    scale, result = program.make_name(f"{source}.absmax"), program.make_name(f"{source}.int8")
    program.set_param(scale, np.array([value], dtype=np.float32))
    program.set_shape(result, program.find_shape(source) or ())
    program.insert_op(
        program.find_writer(source),
        "fake_quantize_dequantize_moving_average_abs_max",
        {"X": source, "InScale": scale},
        {"Out": result, "OutScale": scale},
        {"bit_length": 8, "is_test": True, "moving_rate": 0.9},
    )
    return result


def _round_weights(program: Program, op: Op, name: str, axis: int, scales: NDArray[np.float32] | None) -> str:
    """Insert the op that rounds the weights `name` in front of `op`; return the name of its result."""
    weights = program.params[name]
    scale, result = program.make_name(f"{name}.absmax"), program.make_name(f"{name}.int8")
    largest = np.abs(weights).max(axis=tuple(other for other in range(weights.ndim) if other != axis))
    # opt divides by it: any number serves a channel of zeros.
    limits = np.where(largest > 0, largest, np.float32(1)) if scales is None else scales * np.float32(127)
    # opt's integers wrap around beyond 127. It divides limits and weights in float32, so allow for its rounding.
    too_small = limits.shape != largest.shape or not np.isfinite(limits).all() or (limits <= 0).any()
    if too_small or (largest > limits * 1.003).any():
        raise ModelError(f"{program.where}: int8 for {name!r}: scales that do not cover its {len(largest)} channels")
    program.set_param(scale, limits.astype(np.float32))
    program.set_shape(result, weights.shape)
    place = next(index for index, other in enumerate(program.ops) if other is op)
    program.insert_op(
        program.ops[place - 1],
        "fake_channel_wise_quantize_dequantize_abs_max",
        {"X": name},
        {"Out": result, "OutScale": scale},
        {"bit_length": 8, "is_test": True, "quant_axis": axis},
    )
    return result
