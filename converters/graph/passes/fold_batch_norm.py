"""Folds batch norms into the convolutions before them."""

from __future__ import annotations

import numpy as np

from converters.graph.passes.affine import count_outputs, find_bias, is_conv, scale_outputs, store, write_affine
from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program, get_attr, get_input, get_output, list_inputs, list_outputs


def fold_batch_norm(program: Program) -> PassReport:
    """Fold a batch norm after a convolution, and the bias between them, into the filters and one bias.

    Exact in real numbers: at inference y = (x - mean) / √(variance + ε) · scale + bias is x · a + b with one a and b
    per channel. A convolution is linear in its filters, so they absorb a, and (x + c) · a + b = x · a + (c · a + b).
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
    if program.find_writer(result) is not norm or not all(_is_statistic(program, norm, name) for name in names):
        return False
    if not get_attr(norm, "is_test", False) or get_attr(norm, "data_layout", "NCHW") not in ("NCHW", "AnyLayout"):
        return False
    # Then it uses the batch's mean and variance, even with is_test.
    if get_attr(norm, "trainable_statistics", False) and not get_attr(norm, "use_global_stats", False):
        return False
    # Mean and Variance are also outputs; nothing may read its other outputs.
    if not program.is_unused(set(list_outputs(norm)) - {result, *names}) or list_inputs(norm, "MomentumTensor"):
        return False
    if get_attr(norm, "fuse_with_relu", False):
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
    variance = variance + get_attr(norm, "epsilon", 1e-5)
    if {len(vector) for vector in (scale, shift, mean, variance)} != {count_outputs(program, conv)}:
        return False
    if not (variance > 0).all():
        return False
    factor = scale / np.sqrt(variance)
    term = shift - mean * factor
    scale_outputs(program, conv, factor)
    if bias is None:
        name = program.make_name(f"{result}.bias")
        store(program, name, term)
        program.insert_op(norm, "elementwise_add", {"X": source, "Y": name}, {"Out": result}, {"axis": 1})
        program.remove_op(norm)
    else:
        write_affine(program, bias.op, bias.source, bias.param, bias.vector * factor + term)
        program.remove_op(norm)
        program.set_output(bias.op, "Out", result)
    return True


def _is_statistic(program: Program, norm: Op, name: str | None) -> bool:
    """Return whether `name` is a parameter that keeps its value, even if the batch norm itself writes it back."""
    return (
        name is not None
        and name in program.params
        and program.params[name].dtype == np.float32
        and all(writer is norm for writer in program.list_writers(name))
        and not program.is_in_sub_block(name)
    )
