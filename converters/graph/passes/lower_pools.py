"""Writes pools that Paddle-Lite computes element by element in faster forms."""

from __future__ import annotations

import numpy as np

from converters.graph.passes.affine import is_channels_first, is_unpadded
from converters.graph.passes.report import PassReport, make_report
from converters.graph.passes.windows import insert_conv, make_tensor
from converters.sources.program import Op, Program, get_attr, get_input, get_output, list_inputs

_MOST_CHANNELS = 65536
_NOT_NEGATIVE = frozenset(("relu", "relu6", "sigmoid", "hard_sigmoid"))


def lower_pools(program: Program) -> PassReport:
    """Write three kinds of pools, which PP-OCR's networks have, as ops with vectorised ARM kernels.

    - A mean over height and width that keeps both is a global average pool: exact in real numbers, as only the order
      of the additions differs. An element of the input takes half an instruction instead of seven.
    - An average pool without padding, of unequal sides, is a depthwise convolution with 1/n at each of its n places:
      exact in real numbers. The recognisers average 3 × 2 numbers, which took 1090 instructions each.
    - A maximum over 2 × 2 neighbours, stride 1, padded at the bottom and at the right, is max(m, m moved up) with m =
      max(x, x moved left). Moving is a depthwise convolution with a single 1, which fills up with zeros. The pool has
      nothing there instead; as x is the output of an activation that is never negative, and each window has one number
      of x at least, a zero changes no maximum. Bit-exact for finite numbers; 12 instructions for a number instead of
      450.

    A global average pool and pools of other sizes stay.
    """
    ops_before = program.count_ops()
    changed = sum(_lower_mean(program, op) or _lower_pool(program, op) for op in list(program.ops))
    return make_report("lower_pools", program, ops_before, changed)


def _lower_mean(program: Program, op: Op) -> bool:
    source, result = get_input(op, "X"), get_output(op, "Out")
    if op.type != "reduce_mean" or source is None or result is None or get_attr(op, "reduce_all", False):
        return False
    if program.find_writer(result) is not op or program.find_writer(source) is None:
        return False
    shape = program.find_shape(source)
    axes = sorted(axis % 4 for axis in get_attr(op, "dim", [0]))
    if shape is None or len(shape) != 4 or axes != [2, 3] or not get_attr(op, "keep_dim", False):
        return False
    attrs = {
        "pooling_type": "avg",
        "ksize": [1, 1],
        "global_pooling": True,
        "strides": [1, 1],
        "paddings": [0, 0],
        "exclusive": True,
        "adaptive": False,
        "ceil_mode": False,
        "padding_algorithm": "EXPLICIT",
        "data_format": "NCHW",
    }
    program.insert_op(op, "pool2d", {"X": source}, {"Out": result}, attrs)
    program.remove_op(op)
    return True


def _lower_pool(program: Program, op: Op) -> bool:
    source, result = get_input(op, "X"), get_output(op, "Out")
    shape = None if source is None else program.find_shape(source)
    if op.type != "pool2d" or source is None or result is None or shape is None or len(shape) != 4:
        return False
    # The convolution of one channel is not a depthwise one; more channels are those of a damaged file.
    if not 2 <= shape[1] <= _MOST_CHANNELS:
        return False
    if get_attr(op, "global_pooling", False) or get_attr(op, "adaptive", False) or get_attr(op, "ceil_mode", False):
        return False
    if not is_channels_first(op) or list_inputs(op) != [source] or program.find_writer(result) is not op:
        return False
    if program.find_writer(source) is None:
        return False
    kind, ksize = get_attr(op, "pooling_type"), get_attr(op, "ksize", [0])
    strides = get_attr(op, "strides", [1, 1])
    if len(ksize) != 2 or len(strides) != 2 or min(strides) < 1 or not 1 <= min(ksize) <= max(ksize) <= 16:
        return False
    if kind == "avg" and is_unpadded(op) and ksize[0] != ksize[1]:
        return _lower_average(program, op, source, result, shape[1])
    if kind == "max" and [*ksize, *strides] == [2, 2, 1, 1] and _is_padded_behind(op):
        return _lower_maximum(program, op, source, result, shape[1])
    return False


def _lower_average(program: Program, op: Op, source: str, result: str, channels: int) -> bool:
    height, width = get_attr(op, "ksize", [0, 0])
    filters = np.full((channels, 1, height, width), 1 / (height * width), dtype=np.float32)
    insert_conv(program, op, source, result, filters, groups=channels, strides=get_attr(op, "strides", [1, 1]))
    program.remove_op(op)
    return True


def _is_padded_behind(op: Op) -> bool:
    algorithm, paddings = get_attr(op, "padding_algorithm", "EXPLICIT"), get_attr(op, "paddings", [0])
    return bool(algorithm == "EXPLICIT" and paddings == [0, 1, 0, 1])


def _lower_maximum(program: Program, op: Op, source: str, result: str, channels: int) -> bool:
    writer, shape = program.find_writer(source), program.find_shape(source)
    if writer is None or writer.type not in _NOT_NEGATIVE or shape is None:
        return False
    last = op
    for row, column, largest in ((1, 2, make_tensor(program, f"{result}.rows", shape)), (2, 1, result)):
        filters = np.zeros((channels, 1, 3, 3), dtype=np.float32)
        filters[:, :, row, column] = 1
        moved = make_tensor(program, f"{largest}.moved", shape)
        last = insert_conv(program, last, source, moved, filters, groups=channels, paddings=(1, 1, 1, 1))
        last = program.insert_op(last, "elementwise_max", {"X": source, "Y": moved}, {"Out": largest}, {"axis": -1})
        source = largest
    program.remove_op(op)
    return True
