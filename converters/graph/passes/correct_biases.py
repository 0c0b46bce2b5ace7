"""Corrects the biases of layers whose weights opt rounds to 8 bits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from converters.graph.passes.affine import add_to_bias, is_conv, store
from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program, get_attr, get_input, get_output

# The scale of a channel's weights is their largest magnitude divided by this (Paddle-Lite 2.13,
# lite/core/optimizer/mir/post_quant_dynamic_pass.cc).
_STEPS = 127


def correct_biases(program: Program, means: Mapping[str, NDArray[np.float64]]) -> PassReport:
    """Add to each bias what rounding the weights takes from the output on average.

    `means` holds, by name of the weights, the mean of each input channel. Run it last: it predicts the rounded weights,
    so no weight may change after it.

    Not exact, like rounding itself, but never further from the model on average: rounded weights W' give
    W*x - W'*x = (W - W')*x, whose mean over inputs is (W - W')*mean(x). Inputs of most layers are positive on average,
    behind ReLU, GELU or hard swish, so this mean is as large as the deviation around it. Nothing is added to the
    network. At the border of a padded convolution the correction is too large.
    """
    ops_before = program.count_ops()
    changed = sum(_correct(program, op, means) for op in list(program.ops))
    return make_report("correct_biases", program, ops_before, changed)


def round_weights(value: NDArray[np.float32], axis: int) -> NDArray[np.float64]:
    """Return weights as the runtime computes with them after 8-bit rounding, with one scale per index of `axis`."""
    axes = tuple(other for other in range(value.ndim) if other != axis)
    scale = np.abs(value).max(axis=axes, keepdims=True).astype(np.float64) / _STEPS
    scale[scale == 0] = 1
    steps = value / scale
    rounded: NDArray[np.float64] = np.copysign(np.floor(np.abs(steps) + 0.5), steps) * scale
    return rounded


def _correct(program: Program, op: Op, means: Mapping[str, NDArray[np.float64]]) -> bool:
    # opt rounds these only: neither depthwise nor transposed convolutions.
    if op.type == "conv2d":
        name = get_input(op, "Filter") or ""
        if name not in means or not is_conv(program, op) or get_attr(op, "groups", 1) != 1:
            return False
        lost = (program.params[name] - round_weights(program.params[name], 0)).sum(axis=(2, 3))
        if lost.shape[1:] != means[name].shape:
            return False
        add_to_bias(program, op, lost @ means[name])
        return True
    if op.type not in ("matmul", "matmul_v2", "mul"):
        return False
    name, result = get_input(op, "Y") or "", get_output(op, "Out") or ""
    add = program.find_only_reader(result)
    bias = None if add is None or add.type != "elementwise_add" else get_input(add, "Y")
    if name not in means or not program.owns_param(op, name) or add is None or not program.owns_param(add, bias):
        return False
    weights, term = program.params[name], program.params[bias or ""]
    is_plain = not any(get_attr(op, attr, False) for attr in ("trans_x", "trans_y", "transpose_X", "transpose_Y"))
    if not is_plain or weights.ndim != 2 or weights.shape != (*means[name].shape, *term.shape):
        return False
    store(program, bias or "", term + means[name] @ (weights - round_weights(weights, 1)))
    return True
