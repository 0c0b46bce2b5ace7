"""Gives convolutions the kernel sizes and strides for which Paddle-Lite has fast ARM kernels."""

from __future__ import annotations

from itertools import product

import numpy as np

from converters.graph.passes.affine import add_to_bias, find_bias, write_affine
from converters.graph.passes.patterns import insert_reshape
from converters.graph.passes.report import PassReport, make_report
from converters.graph.passes.windows import (
    Window,
    insert_conv,
    make_tensor,
    read_window,
    reads_paddings,
    take_result,
    write_window,
)
from converters.sources.program import Program, get_input

Shape = tuple[int, ...]
Paddings = tuple[int, int, int, int]

# More are those of a damaged file.
_MOST_ROWS = 65536


def fit_kernels(program: Program) -> PassReport:
    """Write convolutions that Paddle-Lite's ARM library unrolls into a matrix in forms that it computes directly.

    It has direct kernels for depthwise convolutions of 3 × 3 and 5 × 5 with equal strides of 1 or 2, and for dense ones
    of 3 × 3; for paddings that these read wrong, see `reads_paddings`. Exact in real numbers:

    - A filter may have a border of zeros if the padding grows with it: zeros add nothing. 2 × 2 becomes 3 × 3, and a
      depthwise one of any size below 5 × 5 becomes 3 × 3 or 5 × 5.
    - If the output has one row, the vertical stride is never used, so it may be the horizontal one.
    - A depthwise 7 × 7 is the sum of four 5 × 5, one for each corner of the filter: each place of the filter is in
      exactly one of them, and their paddings move the corners to where they were.
    - With strides of 2 and 1, row i of the output is row 2i of the one with stride 1: rows are split off in pairs.
    - With strides of 1 and 2, the even rows and the odd rows are those of two convolutions with stride 2, of which one
      starts a row lower, one above the other.

    Sizes in the width may be any; strides need a known height.
    """
    ops_before = program.count_ops()
    changed = 0
    for op in list(program.ops):
        window = read_window(program, op)
        if window is not None:
            changed += _fit(program, window)
    return make_report("fit_kernels", program, ops_before, changed)


def _fit(program: Program, window: Window) -> bool:
    size, strides = window.filters.shape[2:], window.strides
    if not window.is_depthwise:
        is_small = window.groups == 1 and size == (2, 2) and strides == (1, 1)
        return is_small and window.paddings in ((0, 1, 0, 1), (1, 0, 1, 0)) and _widen(program, window, 3)
    if strides == (1, 1) and size == (7, 7):
        return _quarter(program, window)
    is_row = strides[0] != strides[1] and _is_row(program, window)
    if strides in ((2, 1), (1, 2)) and size in ((3, 3), (5, 5)) and not is_row:
        return _even_strides(program, window)
    is_even = strides[0] == strides[1] and size in ((1, 1), (3, 3), (5, 5))
    if strides[1] <= 2 and max(size) <= 5 and not is_even and (strides[0] == strides[1] or is_row):
        return _widen(program, window, 3 if max(size) <= 3 else 5)
    return False


def _is_row(program: Program, window: Window) -> bool:
    """Return whether the output has a single row, also if the vertical stride were the horizontal one."""
    shape = program.find_shape(window.source)
    top, bottom, _, _ = window.paddings
    height = 0 if shape is None or len(shape) != 4 else shape[2]
    return height >= 1 and 0 <= height + top + bottom - window.filters.shape[2] < min(window.strides)


def _widen(program: Program, window: Window, size: int) -> bool:
    """Surround the filter with zeros up to size × size, and let both strides be the horizontal one."""
    top, bottom, left, right = window.paddings
    height, width = window.filters.shape[2:]
    # The padding grows by as much; it is equal on both sides if that is possible.
    above = min(max((bottom - top + size - height) // 2, 0), size - height)
    before = min(max((right - left + size - width) // 2, 0), size - width)
    filters = np.zeros((*window.filters.shape[:2], size, size), dtype=np.float32)
    filters[:, :, above : above + height, before : before + width] = window.filters
    paddings = (top + above, bottom + size - height - above, left + before, right + size - width - before)
    strides = window.strides[1:] * 2
    if window.is_depthwise and not reads_paddings(size, strides, paddings):
        return False
    write_window(program, window, filters, strides=strides, paddings=paddings)
    return True


def _quarter(program: Program, window: Window) -> bool:
    """Write a 7 × 7 as the sum of four 5 × 5."""
    shape = program.find_shape(window.result)
    top, bottom, left, right = window.paddings
    if min(window.paddings) < 2 or shape is None:
        return False
    corners = []
    for row, column in product((0, 2), (0, 2)):
        filters = window.filters[:, :, row : row + 5, column : column + 5].copy()
        # The first corner has five of the seven rows or columns, the last one the other two.
        filters[:, :, : 3 if row else 0] = 0
        filters[:, :, :, : 3 if column else 0] = 0
        corners.append((filters, (top - row, bottom - 2 + row, left - column, right - 2 + column)))
    filters, paddings = corners.pop(0)
    bias = find_bias(program, window.op)
    last, result, total = take_result(program, window, shape)
    # Under their old names, the trace would expect the whole sum of the first corner. opt folds the bias into it.
    if bias is not None:
        write_affine(program, bias.op, bias.source, program.make_name(f"{bias.param}.corner"), bias.vector)
    name = get_input(window.op, "Filter") or ""
    program.set_input(window.op, "Filter", program.make_name(f"{name}.corner"))
    write_window(program, window, filters, paddings=paddings)
    for place, (filters, paddings) in enumerate(corners):
        part = make_tensor(program, f"{result}.corner", shape)
        last = insert_conv(program, last, window.source, part, filters, groups=window.groups, paddings=paddings)
        summed = result if place == 2 else make_tensor(program, f"{result}.sum", shape)
        last = program.insert_op(last, "elementwise_add", {"X": total, "Y": part}, {"Out": summed}, {"axis": -1})
        total = summed
    return True


def _even_strides(program: Program, window: Window) -> bool:
    shape, out = program.find_shape(window.source), program.find_shape(window.result)
    top, bottom, left, right = window.paddings
    if shape is None or out is None or len(shape) != 4 or len(out) != 4 or not 1 <= shape[2] <= _MOST_ROWS:
        return False
    size = window.filters.shape[2]
    rows = shape[2] + top + bottom - size + 1
    every, lower = (top, bottom + rows % 2, left, right), (top - 1, bottom, left, right)
    if rows > 1 and window.strides == (2, 1) and reads_paddings(size, (1, 1), every):
        _split_rows(program, window, rows, out, every)
        return True
    are_read = top > 0 and all(reads_paddings(size, (2, 2), one) for one in (window.paddings, lower))
    if rows > 1 and rows % 2 == 0 and window.strides == (1, 2) and are_read:
        _interleave_rows(program, window, rows, out, lower)
        return True
    return False


def _split_rows(program: Program, window: Window, rows: int, out: Shape, paddings: Paddings) -> None:
    """Compute an even number of rows with stride 1 and keep every other one."""
    batch, channels, width = out[0], len(window.filters), out[3]
    pairs = (rows + rows % 2) // 2
    last, result, every = take_result(program, window, (batch, channels, 2 * pairs, width))
    write_window(program, window, window.filters, paddings=paddings)
    paired, shape = program.make_name(f"{result}.paired"), (batch, channels * pairs, 2, width)
    last = insert_reshape(program, last, every, [0, channels * pairs, 2, -1], shape, paired)
    halves = [make_tensor(program, f"{result}.{name}", (batch, channels * pairs, 1, width)) for name in ("even", "odd")]
    last = program.insert_op(last, "split", {"X": paired}, {"Out": halves}, {"axis": 2, "num": 2, "sections": []})
    insert_reshape(program, last, halves[0], [0, channels, pairs, -1], out, result)


def _interleave_rows(program: Program, window: Window, rows: int, out: Shape, lower: Paddings) -> None:
    """Compute even and odd rows with stride 2, and put each pair one above the other."""
    batch, channels, width = out[0], len(window.filters), out[3]
    pairs = rows // 2
    bias = find_bias(program, window.op)
    last, result, even = take_result(program, window, (batch, channels, pairs, width))
    write_window(program, window, window.filters, strides=(2, 2), paddings=window.paddings)
    odd = make_tensor(program, f"{result}.odd", (batch, channels, pairs, width))
    last = insert_conv(
        program, last, window.source, odd, window.filters, groups=channels, strides=(2, 2), paddings=lower
    )
    if bias is not None:
        add_to_bias(program, last, bias.vector)
        last = program.find_writer(odd) or last
    flat = []
    for half in (even, odd):
        flat.append(program.make_name(f"{half}.flat"))
        shape = (batch, channels * pairs, 1, width)
        last = insert_reshape(program, last, half, [0, channels * pairs, 1, -1], shape, flat[-1])
    joined = make_tensor(program, f"{result}.joined", (batch, channels * pairs, 2, width))
    last = program.insert_op(last, "concat", {"X": flat}, {"Out": joined}, {"axis": 2})
    insert_reshape(program, last, joined, [0, channels, rows, -1], out, result)
