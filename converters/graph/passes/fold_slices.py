"""Folds a squeeze into the slice before it."""

from __future__ import annotations

from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program, get_attr, get_input, get_output, list_inputs, list_outputs, set_attr


def fold_slices(program: Program) -> PassReport:
    """Replace `slice` and a `squeeze2` that is its only reader by one slice with `decrease_axis`.

    Bit-exact: `decrease_axis` drops dimensions of size 1 from the slice's result, as squeezing does. The slice must cut
    each squeezed dimension down to size 1 by constants, and at least one dimension must remain.
    """
    ops_before = program.count_ops()
    changed = sum(_fold(program, op) for op in list(program.ops) if op.type == "squeeze2")
    return make_report("fold_slices", program, ops_before, changed)


def _fold(program: Program, squeeze: Op) -> bool:
    source, result = get_input(squeeze, "X"), get_output(squeeze, "Out")
    cut = program.find_writer(source or "")
    if cut is None or source is None or result is None or cut.type != "slice":
        return False
    value = get_input(cut, "Input")
    if program.find_only_reader(source) is not squeeze or list_inputs(cut) != [value] or get_attr(cut, "decrease_axis"):
        return False
    # The tensors AxesTensor or AxesTensorList may also give the axes.
    if program.find_writer(result) is not squeeze or list_inputs(squeeze) != [source]:
        return False
    if not program.is_unused(name for name in list_outputs(squeeze) if name != result):
        return False
    rank = len(program.find_shape(source) or ())
    dropped = sorted({axis % rank for axis in get_attr(squeeze, "axes", [])}) if rank else []
    bounds = zip(get_attr(cut, "axes", []), get_attr(cut, "starts", []), get_attr(cut, "ends", []), strict=False)
    single = {axis for axis, start, end in bounds if end == start + 1 and start >= 0}
    if not dropped or not set(dropped) <= single or len(dropped) == rank:
        return False
    program.remove_op(squeeze)
    set_attr(cut, "decrease_axis", dropped)
    program.set_output(cut, "Out", result)
    return True
