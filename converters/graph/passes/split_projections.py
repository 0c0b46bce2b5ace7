"""Splits the weights of a product whose result is only read in slices."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from converters.graph.passes.patterns import find_inner, insert_reshape
from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program, get_attr, get_input, get_output, list_inputs, list_outputs


def split_projections(program: Program) -> PassReport:
    """Replace the joint projection of queries, keys and values by one product for each.

    Exact: each number of x·W is a sum over one column of W, so cutting the columns of W, and the biases with them,
    moves numbers and changes no sum. `reshape2` counts the columns in n parts, `transpose2` puts the parts first, and
    each `slice` takes one; the product with the columns of that part, reshaped and transposed in the same way without
    the parts' dimension, is that slice.

    Paddle-Lite's slice takes 67 instructions a number, more than the product itself.
    """
    ops_before = program.count_ops()
    changed = sum(_split(program, op) for op in list(program.ops))
    return make_report("split_projections", program, ops_before, changed)


def _split(program: Program, transpose: Op) -> bool:
    joint = get_output(transpose, "Out")
    if transpose.type != "transpose2" or joint is None or program.find_writer(joint) is not transpose:
        return False
    found = _find_projection(program, transpose)
    cuts = program.list_readers(joint)
    order = get_attr(transpose, "axis", [])
    if found is None or order[:1] != [2] or sorted(order) != list(range(len(found.sizes) + 3)) or not cuts:
        return False
    if not all(_is_part(program, cut, joint, found.parts) for cut in cuts):
        return False
    for cut in list(cuts):
        program.remove_op(cut)
        _project(program, found, get_attr(cut, "starts")[0], [axis - (axis > 2) for axis in order[1:]], cut)
    for op in found.ops:
        program.remove_op(op)
    return True


@dataclass(frozen=True)
class _Projection:
    """A product x·W + b whose columns are parts × sizes."""

    ops: tuple[Op, ...]
    """Product, addition if there is one, reshape, transpose."""
    source: str
    weights: str
    terms: str | None
    parts: int
    sizes: tuple[int, ...]


def _find_projection(program: Program, transpose: Op) -> _Projection | None:
    """Return the product that a transpose reads if nothing else does."""
    reshape = find_inner(program, get_input(transpose, "X"), "reshape2")
    if reshape is None:
        return None
    value = get_input(reshape, "X")
    add = find_inner(program, value, "elementwise_add")
    matmul = find_inner(program, value if add is None else get_input(add, "X"), "matmul_v2")
    source, weights = (None, None) if matmul is None else (get_input(matmul, "X"), get_input(matmul, "Y"))
    if matmul is None or source is None or not program.owns_param(matmul, weights) or weights is None:
        return None
    if get_attr(matmul, "trans_x", False) or get_attr(matmul, "trans_y", False) or program.find_writer(source) is None:
        return None
    shape, columns = get_attr(reshape, "shape", []), program.params[weights].shape[-1]
    # The first two dimensions are x's: lines, and places in a line.
    is_whole = len(shape) > 3 and shape[:2] == [0, -1] and min(shape[2:]) > 0 and prod(shape[2:]) == columns
    if not is_whole or program.params[weights].ndim != 2 or len(program.find_shape(source) or ()) != 3:
        return None
    terms = None if add is None else get_input(add, "Y")
    if add is not None and (
        terms is None
        or not program.owns_param(add, terms)
        or program.params[terms].shape != (columns,)
        or get_attr(add, "axis", -1) not in (-1, 2)
    ):
        return None
    ops = tuple(op for op in (matmul, add, reshape, transpose) if op is not None)
    # A shape that is a tensor wins over the attribute; something may read an XShape.
    if len(list_inputs(reshape)) > 1 or not all(_has_one_result(program, op) for op in ops[-2:]):
        return None
    return _Projection(ops, source, weights, terms, shape[2], tuple(shape[3:]))


def _has_one_result(program: Program, op: Op) -> bool:
    return program.is_unused(name for name in list_outputs(op) if name != get_output(op, "Out"))


def _is_part(program: Program, cut: Op, joint: str, parts: int) -> bool:
    result, start = get_output(cut, "Out"), get_attr(cut, "starts", [])
    return (
        cut.type == "slice"
        and list_inputs(cut) == [joint]
        and result is not None
        and program.find_writer(result) is cut
        and get_attr(cut, "axes") == get_attr(cut, "decrease_axis") == [0]
        and len(start) == 1
        and 0 <= start[0] < parts
        and get_attr(cut, "ends") == [start[0] + 1]
    )


def _project(program: Program, found: _Projection, part: int, order: list[int], cut: Op) -> None:
    """Compute what `cut` took by a product of its own."""
    columns = slice(part * prod(found.sizes), (part + 1) * prod(found.sizes))
    result, last = get_output(cut, "Out") or "", found.ops[-1]

    def put(op_type: str, inputs: dict[str, str], stem: str, **attrs: int | bool) -> str:
        nonlocal last
        made = program.make_name(f"{result}.{stem}")
        program.set_shape(made, (-1, -1, prod(found.sizes)))
        last = program.insert_op(last, op_type, inputs, {"Out": made}, attrs)
        return made

    weights = program.make_name(f"{found.weights}.part{part}")
    program.set_param(weights, program.params[found.weights][:, columns])
    value = put("matmul_v2", {"X": found.source, "Y": weights}, "product", trans_x=False, trans_y=False)
    if found.terms is not None:
        terms = program.make_name(f"{found.terms}.part{part}")
        program.set_param(terms, program.params[found.terms][columns])
        value = put("elementwise_add", {"X": value, "Y": terms}, "sum", axis=2)
    shaped, unread = program.make_name(f"{result}.shaped"), program.make_name(f"{result}.xshape")
    last = insert_reshape(program, last, value, [0, -1, *found.sizes], (-1, -1, *found.sizes), shaped)
    program.set_shape(unread, (0, -1, -1, *found.sizes))
    program.insert_op(last, "transpose2", {"X": shaped}, {"Out": result, "XShape": unread}, {"axis": order})
