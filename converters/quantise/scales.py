"""Chooses which layers to try in int8, in which order, and the scales of their inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from converters.lite.nb.cost import CostTable, OpCost
from converters.lite.nb.read import NbModel, NbOp
from converters.quantise.simulate import find_weights

COVERED_SHARE = 0.9999
"""The share of an input's elements that its scale covers; the rest is clipped."""

# By side and stride of the filter: the instructions that int8 saves per multiply-add, per output and per input, less
# those that round the input. Fitted to what an emulator counts on Paddle-Lite 2.13 for armv8 with dot products: within
# 22 % of each of 75 layers with 1 × 1 filters of PP-OCRv4 and v6 tiny, and 10 % of 7 layers with 3 × 3 filters. In
# float32, those with stride 1 need few products (Winograd).
_SAVED: Mapping[tuple[int, int], tuple[float, float, float]] = MappingProxyType(
    {(1, 1): (0.218, -1.45, -2.0), (3, 1): (0.0, 10.7, 2.8), (3, 2): (0.245, 0.0, -5.7)}
)

# With fewer outputs per channel, 3 × 3 filters with stride 1 take more instructions in int8: 1.4 times as many as in
# float32 with 150, 1.5 times with 600, and 0.74 with 2400.
_LEAST_PIXELS = 1200


@dataclass(frozen=True)
class Candidate:
    """A layer that may compute in int8."""

    weights: str
    """The name of its weights."""
    index: int
    """Its op's index in the program."""
    gain: float
    """The estimated instructions saved in one run, at the shapes of the cost table."""


def choose_input_absmax(histogram: NDArray[np.int64], span: float) -> float:
    """Return the absmax with which a layer's input is rounded: the magnitude that COVERED_SHARE of it stay within.

    `histogram` counts the elements with a magnitude in each of equal bins from 0 to `span`. A few outliers would cost
    all other elements their precision.

    Raises ValueError if no element is above the first bin: there is nothing to choose a scale from.
    """
    counts = np.cumsum(histogram)
    if not counts.size or counts[-1] == counts[0]:
        raise ValueError("no elements above the first bin, expected the magnitudes of a layer's input")
    covered = int(np.searchsorted(counts, COVERED_SHARE * counts[-1]))
    return float(span * (covered + 1) / histogram.size)


def list_candidates(nb: NbModel, cost: CostTable) -> tuple[Candidate, ...]:
    """Return the layers of `nb` worth trying in int8, in program order.

    Not among them: the network's first layer and depthwise convolutions, which change the output most and save least;
    layers that would become slower, such as those on one pixel; transposed convolutions; and weights that several ops
    read. `cost` is of `nb` at typical shapes.
    """
    names = [find_weights(op) for op in nb.blocks[0].ops]
    first = next((name for name in names if name is not None), None)
    found = []
    for (index, op), weights, row in zip(enumerate(nb.blocks[0].ops), names, cost.ops, strict=True):
        if weights is None or weights == first or names.count(weights) > 1:
            continue
        gain = _estimate_gain(op, row, nb.params[weights].shape)
        if gain > 0:
            found.append(Candidate(weights, index, gain))
    return tuple(found)


def order_candidates(candidates: Sequence[Candidate], errors: Mapping[str, float]) -> list[Candidate]:
    """Return the candidates in the order in which a search should add them: the most gain for the least error first.

    `errors` holds, by name of the weights, how much the output changes if that layer alone computes in int8. Errors of
    different layers add up like independent noise, so their squares count.
    """
    return sorted(candidates, key=lambda one: (errors[one.weights] ** 2 / one.gain, one.index))


def _estimate_gain(op: NbOp, row: OpCost, shape: tuple[int, ...]) -> float:
    """Return the instructions that int8 saves; 0 if the layer is not to be tried."""
    (given,), (output,) = row.input_shapes, row.output_shapes
    kind, least = (1, 1), 1
    if op.type == "conv2d":
        strides = op.attrs.get("strides")
        if shape[2] != shape[3] or op.attrs.get("groups", 1) != 1 or strides not in ((1, 1), (2, 2)):
            return 0.0
        kind = shape[2], strides[0]
        # One pixel is the gate of a squeeze-and-excitation block: little work.
        least = _LEAST_PIXELS if kind == (3, 1) else 2
    elif op.type != "fc" or len(given) < 3 or not op.inputs.get("Bias"):
        # As `mark_int8` demands.
        return 0.0
    if kind not in _SAVED or math.prod(output[2:]) < least:
        return 0.0
    per_madd, per_output, per_input = _SAVED[kind]
    return max(per_madd * row.madds + per_output * math.prod(output) + per_input * math.prod(given), 0.0)
