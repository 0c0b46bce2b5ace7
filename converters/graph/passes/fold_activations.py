"""Re-fuses activations that an exporter decomposed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from converters.graph.passes.patterns import find_inner, get_result, is_close, read_number, read_product
from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program, get_attr, get_input, list_inputs


def fold_activations(program: Program) -> PassReport:
    """Replace products of a tensor with a function of itself by the activation that they compute.

    Exact in real numbers, by definition of the ops. Constants may differ from these by one part in a million, the
    precision of float32:

    - gelu(x) = x · ½ · (1 + erf(x / √2))
    - hard_swish(x) = x · min(max(x + 3, 0), 6) / 6, the same as x · hard_sigmoid(x) with slope 1/6 and offset ½
    - swish(x) = x · sigmoid(x)

    The factors of a product may come in any order and number of ops; other ops may read only its result.
    """
    ops_before = program.count_ops()
    changed = 0
    # Backwards, so that a whole product is found before its parts.
    for op in reversed(list(program.ops)):
        if program.find_writer(get_result(op)) is op:
            changed += _fold(program, op)
    return make_report("fold_activations", program, ops_before, changed)


def _fold(program: Program, last: Op) -> bool:
    product = read_product(program, last)
    if product is None or len(product.factors) != 2:
        return False
    for x, gate in (product.factors, product.factors[::-1]):
        found = _match(program, x, gate, product.number)
        # A variable that is written again may have another value by then.
        if found is not None and program.find_writer(x) is not None:
            op_type, attrs, inner = found
            result = get_result(last)
            for op in (*product.ops, *inner):
                if op is not last:
                    program.remove_op(op)
            program.insert_op(last, op_type, {"X": x}, {"Out": result}, attrs)
            program.remove_op(last)
            return True
    return False


def _match(program: Program, x: str, gate: str, number: float) -> tuple[str, Mapping[str, Any], list[Op]] | None:
    """Return type and attributes of the activation that number · x · gate computes, and the ops of the gate."""
    sigmoid = find_inner(program, gate, "sigmoid")
    if sigmoid is not None and number == 1 and get_input(sigmoid, "X") == x:
        return "swish", {"beta": 1.0}, [sigmoid]
    hard = find_inner(program, gate, "hard_sigmoid")
    if hard is not None and number == 1 and get_input(hard, "X") == x:
        if is_close(get_attr(hard, "slope", 0.2), 1 / 6) and get_attr(hard, "offset", 0.5) == 0.5:
            return "hard_swish", _HARD_SWISH, [hard]
        return None
    clip = find_inner(program, gate, "clip")
    # The tensors Min and Max override the attributes.
    has_bounds = clip is not None and len(list_inputs(clip)) == 1
    if has_bounds and is_close(number, 1 / 6) and (get_attr(clip, "min"), get_attr(clip, "max")) == (0.0, 6.0):
        raised = find_inner(program, get_input(clip, "X"), "elementwise_add")
        if raised is not None and read_number(program, raised, "elementwise_add") == (x, 3.0):
            return "hard_swish", _HARD_SWISH, [clip, raised]
    raised = find_inner(program, gate, "elementwise_add")
    term = None if raised is None else read_number(program, raised, "elementwise_add")
    if raised is not None and term is not None and term[1] == 1 and is_close(number, 0.5):
        erf = find_inner(program, term[0], "erf")
        inner = None if erf is None else get_input(erf, "X")
        scaled = find_inner(program, inner, "elementwise_mul") or find_inner(program, inner, "elementwise_div")
        found = None if scaled is None else read_number(program, scaled, "elementwise_mul")
        if found is not None and found[0] == x and is_close(found[1], math.sqrt(0.5)):
            return "gelu", {"approximate": False}, [op for op in (raised, erf, scaled) if op is not None]
    return None


_HARD_SWISH: Mapping[str, float] = {"threshold": 6.0, "scale": 6.0, "offset": 3.0}
