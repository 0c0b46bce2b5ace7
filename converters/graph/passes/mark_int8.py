"""Marks the convolutions and products that a device computes with 8-bit integers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program, get_input
from edge_ocr.errors import ModelError

# Slots of the activation and of the weights, and the weights' axis of output channels.
_SLOTS: Mapping[str, tuple[str, str, int]] = {
    "conv2d": ("Input", "Filter", 0),
    "depthwise_conv2d": ("Input", "Filter", 0),
    "mul": ("X", "Y", 1),
    "matmul": ("X", "Y", 1),
    "matmul_v2": ("X", "Y", 1),
}


def mark_int8(
    program: Program,
    inputs: Mapping[str, float],
    largest: Mapping[str, NDArray[np.float32]] = MappingProxyType({}),
) -> PassReport:
    """Mark the ops whose weights `inputs` names, in place; opt then gives them int8 kernels.

    `inputs` maps the name of a filter, or of a product's second factor, to the largest absolute value that the op's
    input takes; larger ones are cut off. Ops that read one tensor share one scale, the largest of theirs. Weights stay
    float: opt rounds `w * 127 / absmax` of each output channel. By name, `largest` may
    hold what becomes 127 in each channel, in place of the largest weight.

    Not exact, so not part of `PASSES`: run it after them.

    Raises ModelError if a name is unknown, its op has no int8 kernel, or a value is not a finite number above 0.
    """
    ops_before = program.count_ops()
    marked = [(_find_reader(program, name), name, _check(program, name, value)) for name, value in inputs.items()]
    values: dict[str, float] = {}
    for op, _, value in marked:
        source = get_input(op, _SLOTS[op.type][0]) or ""
        values[source] = max(value, values.get(source, 0.0))
    rounded = {source: _round_input(program, source, value) for source, value in values.items()}
    for op, name, _ in marked:
        slot, weights, axis = _SLOTS[op.type]
        program.set_input(op, slot, rounded[get_input(op, slot) or ""])
        program.set_input(op, weights, _round_weights(program, op, name, axis, largest.get(name)))
    return make_report("mark_int8", program, ops_before, len(marked))


def _find_reader(program: Program, name: str) -> Op:
    where = f"{program.where}: int8 for {name!r}"
    readers = program.list_readers(name)
    if not program.is_constant(name) or program.params[name].dtype != np.float32:
        raise ModelError(f"{where}: not a float32 parameter", "name filters as inspect prints them")
    if len(readers) != 1 or readers[0].type not in _SLOTS or get_input(readers[0], _SLOTS[readers[0].type][1]) != name:
        types = [op.type for op in readers]
        raise ModelError(f"{where}: read by {types}, expected the weights of one op of {sorted(_SLOTS)}")
    return readers[0]


def _check(program: Program, name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ModelError(
            f"{program.where}: int8 for {name!r}: inputs up to {value}, expected a finite number above 0",
            "calibrate with pictures that contain text",
        )
    return value


def _round_input(program: Program, source: str, value: float) -> str:
    """Insert the op that rounds `source`, which stays for other readers; return the name of its result."""
    scale, result = program.make_name(f"{source}.absmax"), program.make_name(f"{source}.int8")
    program.set_param(scale, np.array([value], dtype=np.float32))
    program.set_shape(result, program.find_shape(source) or ())
    writer = program.find_writer(source)
    if writer is None:
        raise ModelError(f"{program.where}: int8 for the reader of {source!r}: not written by one op")
    program.insert_op(
        writer,
        "fake_quantize_dequantize_moving_average_abs_max",
        {"X": source, "InScale": scale},
        {"Out": result, "OutScale": scale},
        {"bit_length": 8, "is_test": True, "moving_rate": 0.9},
    )
    return result


def _round_weights(program: Program, op: Op, name: str, axis: int, largest: NDArray[np.float32] | None) -> str:
    """Insert the op that rounds the weights `name` in front of `op`; return the name of its result."""
    weights = program.params[name]
    scale, result = program.make_name(f"{name}.absmax"), program.make_name(f"{name}.int8")
    if largest is None:
        largest = np.abs(weights).max(axis=tuple(a for a in range(weights.ndim) if a != axis))
    # opt divides by the scale: a channel of zeros gets any other.
    program.set_param(scale, np.where(largest > 0, largest, np.float32(1)))
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
