"""Computes the shapes of reshapes at export instead of on the device."""

from __future__ import annotations

from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import (
    Array,
    Op,
    Program,
    get_attr,
    get_input,
    get_output,
    list_inputs,
    list_outputs,
    set_attr,
)

# Without side effects, so they are removed if nothing reads their output.
_PURE = frozenset(("shape", "slice", "fill_constant", "cast"))


def settle_shapes(program: Program) -> PassReport:
    """Write the shapes of `reshape2` into its attribute, and reshape parameters at once.

    Bit-exact, because values are moved, never computed:

    - `ShapeTensor` lists a shape dimension by dimension. Dimensions from `fill_constant` are known. A dimension that is
      read from the shape of the op's own input, at the same place, is 0, which means "copy". At most one further
      dimension may stay unknown: as the number of elements is kept, and the product of the others is 0 only for an
      empty tensor, only one number fits, which is what -1 means. A constant -1 counts as that dimension. Ops that
      computed dimensions are removed if nothing else reads them.
    - A `reshape2` of a parameter gives the same values in each run, so it becomes a parameter. Paddle 3 writes each
      conv bias in this way, and opt would then fuse neither bias nor batch norm.
    """
    ops_before = program.count_ops()
    changed = 0
    for op in list(program.ops):
        if op.type == "reshape2":
            changed += _settle(program, op) + _fold(program, op)
    _drop_dead(program)
    return make_report("settle_shapes", program, ops_before, changed)


def _settle(program: Program, op: Op) -> bool:
    names = list_inputs(op, "ShapeTensor")
    if not names or list_inputs(op, "Shape"):
        return False
    dims = [_find_dim(program, op, place, name) for place, name in enumerate(names)]
    unknown = [place for place, dim in enumerate(dims) if dim is None]
    free = [place for place, dim in enumerate(dims) if dim == -1]
    if len(unknown) + len(free) > 1:
        return False
    set_attr(op, "shape", [-1 if dim is None else dim for dim in dims])
    program.set_input(op, "ShapeTensor", None)
    return True


def _find_dim(program: Program, op: Op, place: int, name: str) -> int | None:
    maker = program.find_writer(name)
    if maker is None:
        return None
    if maker.type == "fill_constant":
        return _read_constant(maker)
    if maker.type != "slice" or get_attr(maker, "axes") != [0] or get_attr(maker, "starts") != [place]:
        return None
    source = get_input(maker, "Input")
    shape = program.find_writer(source or "")
    own = get_input(op, "X")
    if (
        shape is not None
        and shape.type == "shape"
        and list_inputs(maker) == [source]
        and get_attr(maker, "ends") == [place + 1]
        and get_input(shape, "Input") == own
        and own is not None
        and (program.is_constant(own) or program.find_writer(own) is not None)
    ):
        return 0
    return None


def _read_constant(op: Op) -> int | None:
    inputs = list_inputs(op)
    value = get_attr(op, "str_value") or get_attr(op, "value")
    if inputs or get_attr(op, "shape") not in ([], [1]):
        return None
    try:
        dim = int(value)
    except (OverflowError, TypeError, ValueError):  # OverflowError: infinity
        return None
    # The attribute has 32 bits.
    return dim if abs(dim) < 1 << 31 else None


def _fold(program: Program, op: Op) -> bool:
    source, result = get_input(op, "X"), get_output(op, "Out")
    if source is None or result is None or not program.is_constant(source) or program.find_writer(result) is not op:
        return False
    if program.is_fetched(result) or list_inputs(op) != [source]:
        return False
    if not program.is_unused(name for name in list_outputs(op) if name != result):
        return False
    value = _reshape(program.params[source], get_attr(op, "shape", []))
    if value is None:
        return False
    program.remove_op(op)
    program.set_param(result, value)
    return True


def _reshape(value: Array, shape: list[int]) -> Array | None:
    """Return `value` reshaped by Paddle's rules; None if `shape` does not fit."""
    if any(dim == 0 and place >= value.ndim for place, dim in enumerate(shape)):
        return None
    try:
        return value.reshape([value.shape[place] if dim == 0 else dim for place, dim in enumerate(shape)])
    except ValueError:
        return None


def _drop_dead(program: Program) -> None:
    # Backwards, so that ops that only a dropped op read are dropped, too.
    for op in reversed(list(program.ops)):
        result = get_output(op, "Out")
        if (
            op.type in _PURE
            and result is not None
            and not program.list_readers(result)
            and program.find_writer(result) is op
        ):
            program.remove_op(op)
