"""Recognition at a low precision that reads as the full one does: lines in doubt are read twice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_ocr.core.engines.base import Engine

LEAST_MARGIN = 0.1
"""Between the two best classes of a step. Of 503 lines of photos bf16 changed 12, and 2 of these lead by more."""


class CheckedEngine:
    """A recogniser on two engines: `fast` reads each line, `exact` again those of which it is not sure."""

    def __init__(self, fast: Engine, exact: Engine) -> None:
        self.name = fast.name
        self._fast = fast
        self._exact = exact

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch of lines; returns probs, N × T × classes."""
        probs = self._fast.run(array)
        if probs.ndim != 3:
            # No recogniser's, as whoever loads it will find.
            return probs
        # Not `<`: of what is no number, nothing is sure. One by one: few shapes, which engines like.
        for i in np.flatnonzero(~(measure_margins(probs) >= LEAST_MARGIN)):
            probs[i] = self._exact.run(array[i : i + 1])[0]
        return probs


def measure_margins(probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return for each line (of N × T × classes) by how much the best class leads at the step where it leads least."""
    best = probs.argmax(axis=2)[:, :, np.newaxis]
    lead = np.take_along_axis(probs, best, axis=2)
    # In place and back: a copy, a megabyte a line, takes longer than all the rest.
    np.put_along_axis(probs, best, np.float32(-np.inf), axis=2)
    margins: NDArray[np.float32] = (lead[:, :, 0] - probs.max(axis=2)).min(axis=1)
    np.put_along_axis(probs, best, lead, axis=2)
    return margins
