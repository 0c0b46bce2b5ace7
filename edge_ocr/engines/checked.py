"""Recognition at low precision with the results of full precision: uncertain lines are read twice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_ocr.core.engines.base import Engine

LEAST_MARGIN = 0.1
"""Difference of the two best classes of a step. bf16 changed 12 of 503 lines in photos; 2 have a larger margin. With
int8, more have, but as many lines are read right as in f32 (benchmarks/README.md).
"""


class CheckedEngine:
    """A recogniser on two engines: `fast` reads each line, `exact` repeats uncertain ones."""

    def __init__(self, fast: Engine, exact: Engine) -> None:
        self.name = fast.name
        self._fast = fast
        self._exact = exact

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch of lines; returns probs, N × T × classes."""
        probs = self._fast.run(array)
        if probs.ndim != 3:
            # Not a recogniser; the caller checks the shape.
            return probs
        # Not `<`: NaN counts as uncertain. One by one, to keep the number of shapes small.
        for i in np.flatnonzero(~(measure_margins(probs) >= LEAST_MARGIN)):
            probs[i] = self._exact.run(array[i : i + 1])[0]
        return probs


def measure_margins(probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the smallest lead of the best class over the steps of each line (N × T × classes)."""
    best = probs.argmax(axis=2)[:, :, np.newaxis]
    lead = np.take_along_axis(probs, best, axis=2)
    # In place and restored: a copy takes a megabyte per line and more time than everything else.
    np.put_along_axis(probs, best, np.float32(-np.inf), axis=2)
    margins: NDArray[np.float32] = (lead[:, :, 0] - probs.max(axis=2)).min(axis=1)
    np.put_along_axis(probs, best, lead, axis=2)
    return margins
