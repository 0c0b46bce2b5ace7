"""Folds channel-wise scales and additions into the convolutions around them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from converters.graph.passes.affine import (
    Affine,
    Vector,
    add_to_bias,
    count_inputs,
    count_outputs,
    find_bias,
    is_channels_first,
    is_conv,
    is_unpadded,
    read_affine,
    respond_to,
    scale_inputs,
    scale_outputs,
    write_affine,
)
from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program, get_attr, get_input, get_output, list_inputs

# Do not divide by smaller factors: training has switched such a channel off.
_SMALLEST_FACTOR = 1e-12

_Edit = Callable[[], None]


def fold_affine(program: Program) -> PassReport:
    """Fold `a·x`, `x + b` (a number, or one per channel) into neighbouring convolutions, groups and all.

    Exact in real numbers; float32 rounds the products once, and sums in another order. Writing `*` for a
    convolution with filters W[o, i], and · for a product per channel:

    1. After a convolution: a·(W*x + c) = (a·W)*x + a·c and (W*x + c) + b = W*x + (c + b), whatever the padding,
       as the padding is inside W*x. The same holds for a transposed one.
    2. A scale before it: W*(a·x) = W'*x with W'[o, i] = W[o, i]·a[i]. Padding is zeros and a·0 = 0, so it holds at the
       border too.
    3. An addition before it: W*(x + b) = W*x + W*b. Without padding each output reads a full window of b, so W*b is
       the sum of W[o, i]·b[i], a bias. With padding the border reads zeros instead of b, so W*b is not constant
       and the addition stays. In a transposed convolution the taps that an output reads depend on its place, so
       it stays too.
    4. A scale moves past the ops between it and the convolution: a·x + b = a·(x + b/a) if a ≠ 0;
       pool(a·x) = a·pool(x) for an average, and for a maximum if a > 0; (a·x)·s = a·(x·s). An addition moves
       in the same way: a·(x + b) = a·x + a·b, and pool(x + b) = pool(x) + b without padding.

    A value with several readers changes only if all of them can absorb the change, as in squeeze-and-excitation blocks
    (a pooling and the product read x). Values that are fetched or read in a sub-block, and shared parameters, stay.
    """
    ops_before = program.count_ops()
    changed = 0
    for op in list(program.ops):
        affine = read_affine(program, op)
        if affine is None:
            continue
        conv = _find_biased(program, affine)
        if conv is not None:
            changed += _tidy_bias(program, conv, affine)
        else:
            changed += _fold_back(program, affine) or _fold_forward(program, affine)
    return make_report("fold_affine", program, ops_before, changed)


def _find_biased(program: Program, affine: Affine) -> Op | None:
    """Return the convolution whose bias `affine` is."""
    conv = program.find_writer(affine.source)
    if conv is None or not is_conv(program, conv):
        return None
    bias = find_bias(program, conv)
    return conv if bias is not None and bias.op is affine.op else None


def _fold_back(program: Program, affine: Affine) -> bool:
    maker = program.find_writer(affine.source)
    if maker is None or program.find_only_reader(affine.source) is not affine.op:
        return False
    inner = read_affine(program, maker)
    conv = maker if inner is None else _find_biased(program, inner)
    if conv is None or not is_conv(program, conv) or (inner is None and not affine.is_scale):
        return False
    channels = count_outputs(program, conv)
    # Remove the op before changing weights: a refused bypass changes nothing.
    if len(affine.vector) not in (1, channels) or not program.bypass(affine.op, affine.source, affine.result):
        return False
    if not affine.is_scale:
        add_to_bias(program, conv, affine.vector)
        return True
    scale_outputs(program, conv, affine.vector)
    if inner is not None:
        _change_vector(program, maker, partial(np.multiply, np.broadcast_to(affine.vector, channels)))
    return True


def _fold_forward(program: Program, affine: Affine) -> bool:
    plan = _plan_scale if affine.is_scale else _plan_shift
    edits = plan(program, affine.result, affine.vector, set())
    # Without readers there is nothing to fold into.
    if not edits or not program.bypass(affine.op, affine.source, affine.result):
        return False
    for edit in edits:
        edit()
    return True


def _tidy_bias(program: Program, conv: Op, bias: Affine) -> bool:
    """Rewrite a convolution's bias in the form that opt fuses; return False if it has that form."""
    channels = count_outputs(program, conv)
    if program.params[bias.param].shape == (channels,) and get_input(bias.op, "Y") == bias.param:
        return False
    write_affine(program, bias.op, bias.source, bias.param, np.broadcast_to(bias.vector, channels))
    return True


def _plan_scale(program: Program, name: str, vector: Vector, seen: set[int]) -> list[_Edit] | None:
    """Return the edits that keep all readers' results when `name` is divided by `vector`; None if one has no edit."""
    if program.find_writer(name) is None:
        return None
    edits: list[_Edit] = []
    for reader, result, affine in _list_uses(program, name, seen):
        if is_conv(program, reader):
            if len(vector) not in (1, count_inputs(program, reader)):
                return None
            edits.append(partial(scale_inputs, program, reader, vector))
            continue
        if affine is not None:
            if not program.owns_param(reader, affine.param):
                return None
            if affine.is_scale:
                edits.append(partial(_change_vector, program, reader, partial(np.multiply, vector)))
                continue
            if np.abs(vector).min() < _SMALLEST_FACTOR:
                return None
            edits.append(partial(_change_vector, program, reader, partial(_divide, vector)))
        elif not _passes_scale(program, reader, name, vector):
            return None
        rest = None if result is None else _plan_scale(program, result, vector, seen)
        if rest is None:
            return None
        edits += rest
    return edits


def _plan_shift(program: Program, name: str, vector: Vector, seen: set[int]) -> list[_Edit] | None:
    """Return the edits that keep all readers' results when `name` loses `vector`; None if one has no edit."""
    if program.find_writer(name) is None:
        return None
    edits: list[_Edit] = []
    for reader, result, affine in _list_uses(program, name, seen):
        if is_conv(program, reader):
            fits = len(vector) in (1, count_inputs(program, reader))
            if not fits or "transpose" in reader.type or not is_unpadded(reader):
                return None
            edits.append(partial(_shift_inputs, program, reader, vector))
            continue
        passed = vector
        if affine is not None:
            if not affine.is_scale:
                if not program.owns_param(reader, affine.param):
                    return None
                edits.append(partial(_change_vector, program, reader, partial(np.add, vector)))
                continue
            passed = vector * affine.vector
        elif reader.type != "pool2d" or not _averages_whole_windows(reader):
            return None
        rest = None if result is None else _plan_shift(program, result, passed, seen)
        if rest is None:
            return None
        edits += rest
    return edits


def _list_uses(program: Program, name: str, seen: set[int]) -> list[tuple[Op, str | None, Affine | None]]:
    """Return the readers of `name` with their result and, if they are affine, what they compute."""
    uses = []
    for reader in program.list_readers(name):
        # An op that is reached on two paths would need two changes at once; without a result, the plan ends there.
        is_new = id(reader) not in seen
        seen.add(id(reader))
        result = get_output(reader, "Out") if is_new and list_inputs(reader).count(name) == 1 else None
        uses.append((reader, result, read_affine(program, reader)))
    return uses


def _passes_scale(program: Program, op: Op, name: str, vector: Vector) -> bool:
    if op.type == "pool2d":
        kind = get_attr(op, "pooling_type")
        return is_channels_first(op) and bool(kind == "avg" or (kind == "max" and vector.min() > 0))
    if op.type != "elementwise_mul" or get_attr(op, "axis", -1) != -1:
        return False
    if any(operand in program.params for operand in list_inputs(op)):
        return False
    shapes = [program.find_shape(operand) for operand in list_inputs(op)]
    own = program.find_shape(name)
    # A single channel of this operand would broadcast over the other's channels.
    return len(vector) == 1 or (
        own is not None
        and own[1:2] == (len(vector),)
        and all(shape is not None and len(shape) == 4 for shape in shapes)
    )


def _averages_whole_windows(pool: Op) -> bool:
    if not is_channels_first(pool):
        return False
    if get_attr(pool, "global_pooling", False) or get_attr(pool, "adaptive", False):
        return True
    return is_unpadded(pool) and not get_attr(pool, "ceil_mode", False)


def _divide(divisor: Vector, vector: Vector) -> Vector:
    return np.asarray(vector / divisor)


def _shift_inputs(program: Program, conv: Op, vector: Vector) -> None:
    add_to_bias(program, conv, respond_to(program, conv, vector))


def _change_vector(program: Program, op: Op, change: Callable[[Vector], Vector]) -> None:
    affine = read_affine(program, op)
    if affine is not None:
        write_affine(program, op, affine.source, affine.param, change(affine.vector))
