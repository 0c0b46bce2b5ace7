"""Writes x + x·s as x·(1 + s), where s has one number per channel."""

from __future__ import annotations

from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program, get_attr, get_input, get_output, list_inputs


def fold_gates(program: Program) -> PassReport:
    """Turn the residual of a squeeze-and-excitation block into a scale of its N×C×1×1 gate.

    Exact in real numbers: x + x·s = x·(1 + s), with one rounding less. The number of ops stays, but the addition, which
    read two feature maps and wrote a third, becomes one on C numbers. PP-OCRv4's detector has eight such maps in its
    neck, up to a quarter of the picture's height and width with 96 channels.
    """
    ops_before = program.count_ops()
    changed = sum(_fold(program, op) for op in list(program.ops))
    return make_report("fold_gates", program, ops_before, changed)


def _fold(program: Program, add: Op) -> bool:
    if add.type != "elementwise_add" or get_attr(add, "axis", -1) != -1:
        return False
    operands = list_inputs(add)
    total = get_output(add, "Out")
    for product in operands:
        mul = program.find_writer(product)
        if mul is None or mul.type != "elementwise_mul" or program.find_only_reader(product) is not add:
            continue
        x, gate = get_input(mul, "X"), get_input(mul, "Y")
        # Only in this order: if the second operand has one value per channel, the product has x's shape.
        if total is None or x is None or gate is None or x not in operands or get_attr(mul, "axis", -1) != -1:
            continue
        maker = program.find_writer(gate)
        shape, gate_shape = program.find_shape(x), program.find_shape(gate)
        if maker is None or shape is None or gate_shape is None or program.find_writer(x) is None:
            continue
        if len(shape) != 4 or len(gate_shape) != 4 or gate_shape[1:] != (shape[1], 1, 1) or shape[1] < 1:
            continue
        if program.find_writer(total) is not add:
            continue
        raised = program.make_name(f"{gate}.raised")
        program.set_shape(raised, gate_shape)
        attrs = {"scale": 1.0, "bias": 1.0, "bias_after_scale": True}
        program.insert_op(maker, "scale", {"X": gate}, {"Out": raised}, attrs)
        program.set_input(mul, "Y", raised)
        program.remove_op(add)
        program.set_output(mul, "Out", total)
        return True
    return False
