"""Re-fuses layer norms that an exporter decomposed into nine ops."""

from __future__ import annotations

import numpy as np

from converters.graph.passes.patterns import find_inner, get_result, read_number
from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program, get_attr, get_input, list_inputs

# The largest that Paddle's op accepts.
_MAX_EPSILON = float(np.float32(1e-3))
# Its number in framework.proto.
_FLOAT32 = 5


def fold_layer_norm(program: Program) -> PassReport:
    """Turn d / √(mean(d²) + ε) · scale + bias with d = x - mean(x) into `layer_norm`.

    Exact in real numbers: it is the definition of a layer norm over the last axis, the axis of both means, scale and
    bias. Other ops may not read the intermediate results. The op does not accept an ε above 0.001.
    Nine ops become one.
    """
    ops_before = program.count_ops()
    changed = sum(_fold(program, op) for op in list(program.ops))
    return make_report("fold_layer_norm", program, ops_before, changed)


def _fold(program: Program, last: Op) -> bool:
    shifted = _read_vector(program, last, "elementwise_add")
    scaling = None if shifted is None else find_inner(program, shifted[0], "elementwise_mul")
    scaled = None if scaling is None else _read_vector(program, scaling, "elementwise_mul")
    division = None if scaled is None else find_inner(program, scaled[0], "elementwise_div")
    root = None if division is None else find_inner(program, get_input(division, "Y"), "sqrt")
    raising = None if root is None else find_inner(program, get_input(root, "X"), "elementwise_add")
    raised = None if raising is None else read_number(program, raising, "elementwise_add")
    variance = None if raised is None else find_inner(program, raised[0], "reduce_mean")
    power = None if variance is None else _find_square(program, get_input(variance, "X"))
    if division is None or power is None or shifted is None or scaled is None or raised is None:
        return False
    centred = get_input(division, "X")
    difference = None if centred is None else program.find_writer(centred)
    if difference is None or difference.type != "elementwise_sub" or get_input(power, "X") != centred:
        return False
    x = get_input(difference, "X")
    mean = find_inner(program, get_input(difference, "Y"), "reduce_mean")
    group = [scaling, division, root, raising, variance, power, difference, mean]
    readers = program.list_readers(get_result(difference))
    if mean is None or x is None or get_input(mean, "X") != x or program.find_writer(x) is None:
        return False
    if len(readers) != 2 or not all(any(reader is op for op in (power, division)) for reader in readers):
        return False
    shape = program.find_shape(x)
    rank = 0 if shape is None else len(shape)
    if rank < 2 or not all(variance is not None and _is_over_last(op, rank) for op in (mean, variance)):
        return False
    if any(program.params[name].shape != (shape or ())[-1:] for name in (scaled[1], shifted[1])):
        return False
    if not 0 <= raised[1] <= _MAX_EPSILON:
        return False
    result = get_result(last)
    outputs = {"Y": result}
    for slot in ("Mean", "Variance"):
        outputs[slot] = program.make_name(f"{result}.{slot.lower()}")
        program.set_shape(outputs[slot], (-1,))
    inputs = {"X": x, "Scale": scaled[1], "Bias": shifted[1]}
    program.insert_op(last, "layer_norm", inputs, outputs, {"begin_norm_axis": rank - 1, "epsilon": raised[1]})
    for op in (last, *group):
        program.remove_op(op)
    return True


def _read_vector(program: Program, op: Op, op_type: str) -> tuple[str, str] | None:
    """Return tensor and parameter of an op that broadcasts a vector along the last axis."""
    x, y = get_input(op, "X"), get_input(op, "Y")
    if op.type != op_type or x is None or y is None or x in program.params or not program.owns_param(op, y):
        return None
    rank = len(program.find_shape(x) or ())
    return (x, y) if program.params[y].ndim == 1 and get_attr(op, "axis", -1) in (-1, rank - 1) else None


def _find_square(program: Program, name: str | None) -> Op | None:
    """Return the op that squares a tensor, its X, as a power or a product."""
    power = find_inner(program, name, "pow")
    if power is not None:
        return power if get_attr(power, "factor") == 2 and len(list_inputs(power)) == 1 else None
    product = find_inner(program, name, "elementwise_mul")
    is_square = product is not None and get_input(product, "X") == get_input(product, "Y")
    return product if is_square else None


def _is_over_last(op: Op, rank: int) -> bool:
    is_kept = get_attr(op, "keep_dim", False) and not get_attr(op, "reduce_all", False)
    # Newer Paddle may read the axis from a tensor, unknown here. A dtype of -1 means the input's.
    is_plain = len(list_inputs(op)) == 1 and get_attr(op, "out_dtype", -1) in (-1, _FLOAT32)
    return bool(is_kept) and is_plain and get_attr(op, "dim") in ([-1], [rank - 1])
