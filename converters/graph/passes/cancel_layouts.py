"""Removes layout ops that undo each other."""

from __future__ import annotations

from collections.abc import Sequence

from converters.graph.passes.patterns import POINTWISE
from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program, get_attr, get_input, get_output, list_inputs, list_outputs


def cancel_layouts(program: Program) -> PassReport:
    """Remove pairs of transposes, or of a squeeze and an unsqueeze, that undo each other.

    Bit-exact, because values are moved, never computed:

    - Two transposes whose orders compose to the identity, and a squeeze and an unsqueeze of the same dimensions, in
      either order, return their input.
    - A squeeze of dimensions behind the channels moves past a batch norm, which treats all numbers of a channel alike,
      and past an activation, which treats all numbers alike. There it may meet the unsqueeze that undoes it.

    A layer over lines (N×C×W) is a convolution between an unsqueeze and a squeeze, then a batch norm on three
    dimensions. The 4-D batch norm then folds into the convolution, and opt fuses an activation that follows: the
    recogniser of PP-OCRv6 tiny loses 9 of 81 ops.
    """
    ops_before = program.count_ops()
    changed = 0
    while found := sum(_cancel(program, op) or _lower(program, op) for op in list(program.ops)):
        changed += found
    return make_report("cancel_layouts", program, ops_before, changed)


def _cancel(program: Program, second: Op) -> bool:
    middle, result = get_input(second, "X"), get_output(second, "Out")
    first = None if middle is None else program.find_writer(middle)
    source = None if first is None else get_input(first, "X")
    if first is None or source is None or result is None or program.find_writer(result) is not second:
        return False
    if list_inputs(first) != [source] or list_inputs(second) != [middle] or not _undoes(program, first, second):
        return False
    if not program.bypass(second, source, result):
        return False
    if program.is_unused(list_outputs(first)):
        program.remove_op(first)
    return True


def _undoes(program: Program, first: Op, second: Op) -> bool:
    if first.type == second.type == "transpose2":
        outer, inner = get_attr(second, "axis", []), get_attr(first, "axis", [])
        # An order that is not one, as in a damaged file, has an index out of range.
        return sorted(inner) == list(range(len(inner))) and [inner[i] for i in outer if i < len(inner)] == sorted(inner)
    if {first.type, second.type} != {"squeeze2", "unsqueeze2"}:
        return False
    axes = [_list_axes(program, op) for op in (first, second)]
    return axes[0] is not None and axes[0] == axes[1]


def _list_axes(program: Program, op: Op) -> list[int] | None:
    """Return the dimensions that a squeeze removes or an unsqueeze adds, counted in the larger tensor."""
    source, result = get_input(op, "X"), get_output(op, "Out")
    shapes = [program.find_shape(name) for name in (source, result) if name is not None]
    axes: Sequence[int] = get_attr(op, "axes", [])
    if len(shapes) != 2 or shapes[0] is None or shapes[1] is None:
        return None
    rank = max(len(shapes[0]), len(shapes[1]))
    found = sorted(axis + rank if axis < 0 else axis for axis in axes)
    # A squeeze keeps a dimension that is not 1: the declared shapes show that it removes all of them.
    if len(set(found)) != abs(len(shapes[0]) - len(shapes[1])) or len(set(found)) != len(found):
        return None
    # Negative axes of several unsqueezed dimensions count in tensors of growing rank.
    return found if op.type == "squeeze2" or len(axes) == 1 or min(axes) >= 0 else None


def _lower(program: Program, squeeze: Op) -> bool:
    """Move a squeeze behind its only reader, if that may be done."""
    source, middle = get_input(squeeze, "X"), get_output(squeeze, "Out")
    if squeeze.type != "squeeze2" or source is None or middle is None or list_inputs(squeeze) != [source]:
        return False
    axes, shape = _list_axes(program, squeeze), program.find_shape(source)
    reader = program.find_only_reader(middle)
    if not axes or shape is None or reader is None or program.find_writer(source) is None or len(shape) != 4:
        return False
    is_norm, is_pointwise = reader.type == "batch_norm", reader.type in POINTWISE
    slot = "Y" if is_norm else "Out"
    result = get_output(reader, slot)
    if result is None or program.find_writer(result) is not reader or get_input(reader, "X") != middle:
        return False
    if is_norm:
        if axes[0] < 2 or get_attr(reader, "data_layout", "NCHW") not in ("NCHW", "AnyLayout"):
            return False
    elif not is_pointwise or list_inputs(reader) != [middle]:
        return False
    if not program.is_unused(name for name in list_outputs(squeeze) if name != middle):
        return False
    extra = [name for name in list_outputs(squeeze) if name != middle]
    wide = program.make_name(f"{result}.unsqueezed")
    program.set_shape(wide, shape)
    program.remove_op(squeeze)
    program.set_input(reader, "X", source)
    program.set_output(reader, slot, wide)
    outputs = {"Out": result, **({"XShape": extra[0]} if extra else {})}
    program.insert_op(reader, "squeeze2", {"X": wide}, outputs, {"axes": axes})
    return True
