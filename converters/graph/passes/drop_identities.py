"""Removes ops that return their input."""

from __future__ import annotations

from converters.graph.passes.patterns import read_number
from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program, get_attr, get_input, get_output, list_inputs


def drop_identities(program: Program) -> PassReport:
    """Remove dropouts at inference, multiplications by one, additions of zero, and copies.

    Exact, except for the sign of a zero:

    - `dropout` with `is_test` and `upscale_in_train` is defined as Out = X. The other implementation multiplies, so it
      stays, as does a dropout whose Mask is read.
    - `scale` with scale 1 and bias 0 computes 1·x + 0 = x bit for bit, except that x = -0.0 becomes 0.0.
    - 1·x is x bit for bit, and x + 0 is, except that -0.0 becomes 0.0. Paddle2ONNX writes a copy as an addition of 0.
    - `assign` copies a tensor that nothing writes later, so the original has the same value.

    Outputs of the program keep their names.
    """
    ops_before = program.count_ops()
    changed = sum(
        program.bypass(op, source, result)
        for op in list(program.ops)
        if (source := _find_source(program, op)) and (result := get_output(op, "Out"))
    )
    return make_report("drop_identities", program, ops_before, changed)


def _find_source(program: Program, op: Op) -> str | None:
    """Return the input that the op returns unchanged; None if it changes it."""
    for op_type, neutral in (("elementwise_mul", 1), ("elementwise_add", 0)):
        number = read_number(program, op, op_type)
        if number is not None:
            return number[0] if number[1] == neutral else None
    return get_input(op, "X") if _is_identity(op) else None


def _is_identity(op: Op) -> bool:
    if op.type == "assign":
        return True
    if op.type == "dropout":
        implementation = get_attr(op, "dropout_implementation", "downgrade_in_infer")
        return bool(get_attr(op, "is_test", False)) and implementation == "upscale_in_train"
    return (
        op.type == "scale"
        and not list_inputs(op, "ScaleTensor")
        and get_attr(op, "scale", 1.0) == 1.0
        and get_attr(op, "bias", 0.0) == 0.0
    )
