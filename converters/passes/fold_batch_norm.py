"""Computes batch norms behind convolutions at export."""

from __future__ import annotations

import numpy as np

from converters.passes.affine import find_bias, is_conv, scale_outputs, write_affine
from converters.passes.report import PassReport, make_report
from converters.program import Op, Program, get_attr, get_input, get_output, list_inputs, list_outputs


def fold_batch_norm(program: Program) -> PassReport:
    """Turn a batch norm behind a convolution, and the bias between them, into the filters and one bias.

    Exact in real numbers: at inference y = (x - mean) / √(variance + ε) · scale + bias is x · a + b with one a and b
    a channel. A convolution is linear in its filters, so a goes into these, and (x + c) · a + b = x · a + (c · a + b).
    The vectors are computed in float64 and rounded once.
    """
    ops_before = program.count_ops()
    changed = sum(_fold(program, op) for op in list(program.ops) if op.type == "batch_norm")
    return make_report("fold_batch_norm", program, ops_before, changed)


def _fold(program: Program, norm: Op) -> bool:
    source, result = get_input(norm, "X"), get_output(norm, "Y")
    names = [get_input(norm, slot) for slot in ("Scale", "Bias", "Mean", "Variance")]
    if source is None or result is None or program.find_only_reader(source) is not norm:
        return False
    if not all(name in program.params and program.params[name].dtype == np.float32 for name in names):
        return False
    if not get_attr(norm, "is_test", False) or get_attr(norm, "data_layout", "NCHW") not in ("NCHW", "AnyLayout"):
        return False
    # Mean and Variance are outputs, too; what else it makes nobody may want.
    others = set(list_outputs(norm)) - {result, *names}
    if any(program.list_readers(name) for name in others) or list_inputs(norm, "MomentumTensor"):
        return False
    maker = program.find_writer(source)
    conv = maker
    if maker is not None and maker.type == "elementwise_add":
        conv = program.find_writer(get_input(maker, "X") or "")
    if conv is None or not is_conv(program, conv):
        return False
    bias = None if maker is conv else find_bias(program, conv)
    if maker is not conv and (bias is None or bias.op is not maker):
        return False
    scale, shift, mean, variance = (program.params[name or ""].astype(np.float64).reshape(-1) for name in names)
    factor = scale / np.sqrt(variance + get_attr(norm, "epsilon", 1e-5))
    term = shift - mean * factor
    scale_outputs(program, conv, factor)
    if bias is None:
        name = program.make_name(f"{result}.bias")
        program.set_param(name, term.astype(np.float32))
        program.insert_op(norm, "elementwise_add", {"X": source, "Y": name}, {"Out": result}, {"axis": 1})
        program.remove_op(norm)
    else:
        write_affine(program, bias.op, bias.source, bias.param, bias.vector * factor + term)
        program.remove_op(norm)
        program.set_output(bias.op, "Out", result)
    return True
