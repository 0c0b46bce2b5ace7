"""Merges a 1×1 convolution into the convolution that is its only reader."""

from __future__ import annotations

import numpy as np

from converters.graph.passes.affine import add_to_bias, find_bias, is_conv, is_unpadded, respond_to, store
from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program, get_attr, get_input, get_output


def merge_convs(program: Program) -> PassReport:
    """Replace two successive convolutions, the first 1×1, by one if that needs no more weights.

    Exact in real numbers: with A[m, i] of stride 1 without padding, groups or activation,
    B*(A*x + c) = Σ_m B[o, m]·(Σ_i A[m, i]·x[i]) + B*c = (BA)*x + B*c with (BA)[o, i] = Σ_m B[o, m]·A[m, i] at each
    tap; padding of B is zeros in both forms, as A maps 0 to 0. If B is not padded, B*c is a bias (see `fold_affine`);
    if it is, the first convolution must have no bias. Fewer weights also mean fewer multiply-adds, as both count once
    per output of B.

    PP-OCRv4's detector has a 384→360→96 pair between backbone and neck: its 172,800 weights become 36,864.
    """
    ops_before = program.count_ops()
    changed = sum(_merge(program, op) for op in list(program.ops))
    return make_report("merge_convs", program, ops_before, changed)


def _merge(program: Program, first: Op) -> bool:
    source = get_input(first, "Input")
    if not _is_dense(program, first) or source is None or program.find_writer(source) is None:
        return False
    if get_attr(first, "strides") != [1, 1] or not is_unpadded(first):
        return False
    bias = find_bias(program, first)
    result = bias.result if bias is not None else get_output(first, "Output") or ""
    second = program.find_only_reader(result)
    if second is None or not _is_dense(program, second) or (bias is not None and not is_unpadded(second)):
        return False
    a = program.params[get_input(first, "Filter") or ""]
    name = get_input(second, "Filter") or ""
    b = program.params[name]
    if a.shape[2:] != (1, 1) or b.shape[1] != a.shape[0] or b.size * a.shape[1] // b.shape[1] > a.size + b.size:
        return False
    if bias is not None:
        add_to_bias(program, second, respond_to(program, second, np.broadcast_to(bias.vector, a.shape[0])))
        program.remove_op(bias.op)
    merged = np.einsum("omhw,mi->oihw", b.astype(np.float64), a[:, :, 0, 0].astype(np.float64))
    store(program, name, merged)
    program.set_input(second, "Input", source)
    program.remove_op(first)
    return True


def _is_dense(program: Program, op: Op) -> bool:
    return op.type == "conv2d" and is_conv(program, op) and get_attr(op, "groups", 1) == 1
