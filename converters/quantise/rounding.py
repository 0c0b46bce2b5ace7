"""Rounds weights to integers so that a layer's outputs change as little as possible on its measured inputs.

Nearest integers minimise the error of each weight, but a layer sums many. What counts is the error of its outputs:
for a channel's weights w, rounded to v, the mean over windows x of ((w − v)·x)², a quadratic form in w − v. GPTQ
(Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR 2023,
arXiv:2210.17323) rounds one weight after another and lets each next one make up for the error so far, as far as their
inputs are correlated. Here this is done in the basis of a Cholesky factor, without inverting a matrix.

Scales are those of opt: a channel's largest weight becomes the largest integer. Smaller scales, which clip, gained
nothing: chosen by channel from 0.96, 0.92 and 0.85 of it, they lower the errors by a thousandth (PP-OCRv6 tiny).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from converters.lite.nb.rounded import Rounded
from converters.quantise.statistics import LayerStatistics

Floats = NDArray[np.float64]

# Added to the variance of every input, as a share of their mean: elsewhere, inputs vary in more ways. Measured with
# PP-OCRv4 mobile, calibrated on the shipped pictures, by the layers' errors on 8 others: 0.05 is best, 0.01 and 0.1 are
# at most a few hundredths worse.
_DAMPING = 0.05

# With this many windows for each input, correlations count half. Without it, layers behind a global pool, which have
# one window a picture, are worse than with nearest integers.
_TRUSTED_WINDOWS = 0.3

_SMALLEST_SCALE = 1e-30

# Weights that are rounded before their error is passed on to all others at once.
_BLOCK = 64


def round_calibrated(
    weights: NDArray[np.float32], axis: int, bits: int, statistics: LayerStatistics, *, has_bias: bool = True
) -> tuple[Rounded, NDArray[np.float32]]:
    """Return the rounded weights, and what to add to the bias of each output channel.

    `weights` are a convolution's filter, `axis` 0, or the weights of fc, inputs × outputs, `axis` 1; `bits` is 8 or 16;
    `statistics` are of the same layer. A channel's scale is opt's: its largest weight divided by 127 or 32767.

    The correction is the mean output that rounding takes away; zero without a bias, whose layers are rounded so that
    this mean stays small. Estimated as described in this module, no channel's error is larger than that of rounding to
    nearest.

    Raises ValueError if the statistics are of a layer of another size.
    """
    groups, size = statistics.mean.shape
    rows = weights.reshape(len(weights), -1) if axis == 0 else weights.T
    if rows.shape[1] != size or len(rows) % groups:
        raise ValueError(f"statistics of {groups} groups of {size} inputs for weights of shape {weights.shape}")
    wanted = rows.reshape(groups, -1, size).astype(np.float64)
    limit = 2 ** (bits - 1) - 1
    largest = np.abs(wanted).max(axis=2, keepdims=True)
    scales = (largest / limit).astype(np.float32)
    # Of channels that are nothing; products with so small a scale may be no normal float32.
    scales[scales < _SMALLEST_SCALE] = 1
    steps = scales.astype(np.float64)
    gram = _estimate_gram(statistics, has_bias=has_bias)
    nearest = np.clip(_round(wanted / steps), -limit, limit)
    learnt = _round_learnt(wanted, steps, limit, gram)
    errors = [
        ((lost @ gram) * lost).sum(axis=2, keepdims=True)
        for lost in (wanted - nearest * steps, wanted - learnt * steps)
    ]
    best = np.where(errors[1] < errors[0], learnt, nearest)
    correction = np.zeros(len(rows), dtype=np.float32)
    if has_bias:
        correction = ((wanted - best * steps) @ statistics.mean[:, :, None]).ravel().astype(np.float32)
    values = best.reshape(rows.shape).astype(f"int{bits}")
    values = values.reshape(weights.shape) if axis == 0 else np.ascontiguousarray(values.T)
    return Rounded(values, scales.ravel(), axis), correction


def _round(values: Floats) -> Floats:
    """Round to nearest, halves away from zero, as opt does."""
    return np.copysign(np.floor(np.abs(values) + 0.5), values)


def _estimate_gram(statistics: LayerStatistics, *, has_bias: bool) -> Floats:
    """Return the expected x·xᵀ of windows x elsewhere, groups × size × size; positive definite.

    With a bias, x is without its mean, which the correction takes care of, as far as the mean is known. Few windows
    show correlations that are none, so those shrink. A detector's squeezed layers have one window a picture.
    """
    gram = statistics.gram
    if has_bias:
        square = statistics.mean[:, :, None] * statistics.mean[:, None, :]
        gram = gram - square * (1 - 1 / statistics.windows)
    size = gram.shape[-1]
    shrunk: Floats = gram * (statistics.windows / (statistics.windows + _TRUSTED_WINDOWS * size))
    variances = np.maximum(np.einsum("gii->gi", gram), 0)
    damping = variances.mean(axis=1, keepdims=True) * _DAMPING
    np.einsum("gii->gi", shrunk)[:] = variances + np.where(damping, damping, 1)
    return shrunk


def _round_learnt(wanted: Floats, steps: Floats, limit: int, gram: Floats) -> Floats:
    """Return integers, groups × channels × size.

    With e the errors of a channel's weights and gram = R·Rᵀ, R upper triangular, the output's error is |Rᵀ·e|². Its
    term i depends on the errors up to e_i only, so each weight is rounded to make its own term small.
    """
    size = wanted.shape[-1]
    # Inputs that vary most first: later ones make up for them.
    order = np.argsort(-np.einsum("gii->gi", gram), axis=1, kind="stable")
    ordered = np.take_along_axis(np.take_along_axis(gram, order[:, :, None], 1), order[:, None, :], 2)
    factor = np.linalg.cholesky(ordered[:, ::-1, ::-1])[:, ::-1, ::-1]
    # The weights first, so that a column is in one piece.
    goals = np.take_along_axis(wanted, order[:, None, :], 2).transpose(2, 0, 1).copy()
    found, lost = np.empty_like(goals), np.zeros_like(goals)
    for start in range(0, size, _BLOCK):
        end = min(start + _BLOCK, size)
        carried = np.einsum("jgo,gji->igo", lost[:start], factor[:, :start, start:end], optimize=True)
        for place in range(start, end):
            goal = goals[place] + carried[place - start] / factor[:, place, place, None]
            found[place] = np.clip(_round(goal / steps[:, :, 0]), -limit, limit)
            lost[place] = goals[place] - found[place] * steps[:, :, 0]
            carried[place - start :] += lost[place] * factor[:, place, place:end].T[:, :, None]
    integers = np.empty_like(wanted)
    np.put_along_axis(integers, np.broadcast_to(order[:, None, :], wanted.shape), found.transpose(1, 2, 0), 2)
    return integers
