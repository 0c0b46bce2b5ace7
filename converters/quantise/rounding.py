"""Rounds weights to integers so that a layer's outputs change as little as possible on its measured inputs.

Nearest integers minimise the error of each weight, but a layer sums many. What counts is the error of its outputs:
for a channel's weights w, rounded to v, the mean over windows x of ((w − v)·x)², a quadratic form in w − v. GPTQ
(Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR 2023,
arXiv:2210.17323) rounds one weight after another and lets each next one make up for the error so far, as far as their
inputs are correlated. Here this is done in the basis of a Cholesky factor, without inverting a matrix.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from converters.lite.nb.rounded import Rounded
from converters.quantise.statistics import LayerStatistics

Floats = NDArray[np.float64]

# Shares of a channel's largest weight that become the largest integer. Less clips single weights and rounds all others
# more finely.
_CLIPS = (1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.75, 0.7, 0.65)

# Added to the variance of every input, as a share of their mean: elsewhere, inputs vary in more ways.
_DAMPING = 0.01

# Weights that are rounded before their error is passed on to all others at once.
_BLOCK = 64
MEANSHARE = 1.0
PRIOR = 1.0


def round_calibrated(
    weights: NDArray[np.float32], axis: int, bits: int, statistics: LayerStatistics
) -> tuple[Rounded, NDArray[np.float32]]:
    """Return the rounded weights, and what to add to the bias of each output channel.

    `weights` are a convolution's filter, `axis` 0, or the weights of fc, inputs × outputs, `axis` 1; `bits` is 8 or 16;
    `statistics` are of the same layer. The correction is the mean output that rounding takes away. For every channel,
    the variance of the error that remains is at most that of rounding to nearest with the largest weight as 127.

    Raises ValueError if the statistics are of a layer of another size.
    """
    groups, size = statistics.mean.shape
    rows = weights.reshape(len(weights), -1) if axis == 0 else weights.T
    if rows.shape[1] != size or len(rows) % groups:
        raise ValueError(f"statistics of {groups} groups of {size} inputs for weights of shape {weights.shape}")
    wanted = rows.reshape(groups, -1, size).astype(np.float64)
    centred = _spread_variance(statistics)
    limit = 2 ** (bits - 1) - 1
    largest = np.abs(wanted).max(axis=2, keepdims=True)
    order, factor = _factorise(centred)
    best = scales = least = None
    for learns, clips in ((False, (1.0,)), (True, _CLIPS if bits == 8 else (1.0,))):
        for clip in clips:
            # The runtime multiplies by float32.
            steps = np.where(largest, largest * (clip / limit), 1).astype(np.float32).astype(np.float64)
            if learns:
                found = _round_learnt(wanted, steps, limit, order, factor)
            else:
                found = np.clip(_round(wanted / steps), -limit, limit)
            lost = wanted - found * steps
            error = ((lost @ centred) * lost).sum(axis=2, keepdims=True)
            if best is None:
                best, scales, least = found, steps, error
            better = error < least
            best, scales, least = (np.where(better, *pair) for pair in ((found, best), (steps, scales), (error, least)))
    correction = ((wanted - best * scales) @ statistics.mean[:, :, None]).ravel().astype(np.float32)
    values = best.reshape(rows.shape).astype(f"int{bits}")
    values = values.reshape(weights.shape) if axis == 0 else np.ascontiguousarray(values.T)
    return Rounded(values, scales.ravel().astype(np.float32), axis), correction


def _round(values: Floats) -> Floats:
    """Round to nearest, halves away from zero, as opt does."""
    return np.copysign(np.floor(np.abs(values) + 0.5), values)


def _spread_variance(statistics: LayerStatistics) -> Floats:
    """Return the covariance of the inputs, as far as the windows are enough to tell it: groups × size × size.

    Few windows show correlations that are none. A mean of few is uncertain, too.
    """
    count, size = statistics.windows, statistics.mean.shape[-1]
    square = statistics.mean[:, :, None] * statistics.mean[:, None, :]
    covariance: Floats = statistics.gram - square * (1 - 1 / max(count, 1) * MEANSHARE)
    shrunk = covariance * (count / (count + PRIOR * size))
    variances = np.maximum(np.einsum("gii->gi", covariance), 0)
    damping = variances.mean(axis=1, keepdims=True) * _DAMPING
    np.einsum("gii->gi", shrunk)[:] = variances + np.where(damping, damping, 1)
    return shrunk


def _factorise(gram: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return in which order to round, and the upper triangular R with R·Rᵀ = gram, damped, in that order."""
    # Inputs that vary most first: later ones make up for them.
    order = np.argsort(-np.einsum("gii->gi", gram), axis=1, kind="stable")
    ordered = np.take_along_axis(np.take_along_axis(gram, order[:, :, None], 1), order[:, None, :], 2)
    return order, np.linalg.cholesky(ordered[:, ::-1, ::-1])[:, ::-1, ::-1]


def _round_learnt(wanted: Floats, steps: Floats, limit: int, order: NDArray[np.int64], factor: Floats) -> Floats:
    """Return groups × channels × size integers.

    With e = w − v, the error is |Rᵀ·e|². Its term i depends on the errors up to e_i only, so each weight is rounded to
    make its own term small.
    """
    size = wanted.shape[-1]
    goals = np.take_along_axis(wanted, order[:, None, :], 2)
    found, lost = np.empty_like(goals), np.zeros_like(goals)
    for start in range(0, size, _BLOCK):
        end = min(start + _BLOCK, size)
        carried = lost[:, :, :start] @ factor[:, :start, start:end]
        for place in range(start, end):
            goal = goals[:, :, place] + carried[:, :, place - start] / factor[:, place, place, None]
            found[:, :, place] = np.clip(_round(goal / steps[:, :, 0]), -limit, limit)
            lost[:, :, place] = goals[:, :, place] - found[:, :, place] * steps[:, :, 0]
            carried[:, :, place - start :] += lost[:, :, place, None] * factor[:, place, None, place:end]
    integers = np.empty_like(found)
    np.put_along_axis(integers, np.broadcast_to(order[:, None, :], found.shape), found, 2)
    return integers
