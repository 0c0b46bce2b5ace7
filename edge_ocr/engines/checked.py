"""Recognition at low precision with nearly the results of full precision: uncertain lines are read twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from edge_ocr.core.charset import BLANK_INDEX
from edge_ocr.core.engines.base import Engine, StreamingEngine

LEAST_MARGIN = 0.05
"""Lead of a step's best class below which the second may be the right one. Lines read exactly, of 2446, in f32, with
this limit, and with 0.1: PP-OCRv4 mobile in int8 2127, 2121, 2126; PP-OCRv6 tiny 2114, 2114, 2112; small 2321, 2319,
2321. Six tenths as many lines are read again.
"""


class CheckedEngine:
    """A recogniser on two engines: `fast` reads each line, `exact` repeats uncertain ones."""

    def __init__(self, fast: Engine, exact: Engine) -> None:
        self.name = fast.name
        self._fast = fast
        self._exact = exact

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch of lines; returns probs, N × T × classes."""
        return self._check(array, self._fast.run(array))

    def _check(self, array: NDArray[np.float32], probs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probs of a batch, after those of uncertain lines were replaced in place."""
        if probs.ndim != 3:
            # Not a recogniser; the caller checks the shape.
            return probs
        # One by one, to keep the number of shapes small.
        for i in np.flatnonzero(find_uncertain(probs)):
            probs[i] = self._exact.run(array[i : i + 1])[0]
        return probs


class CheckedStreams(CheckedEngine):
    """The same, with a fast engine that runs several lines at the same time."""

    def __init__(self, fast: StreamingEngine, exact: Engine) -> None:
        super().__init__(fast, exact)
        self._streams = fast

    def run_each(self, arrays: Iterable[NDArray[np.float32]]) -> Generator[NDArray[np.float32], None, None]:
        """Run batches of lines; yield the probs of each, N × T × classes, in the same order."""
        begun: deque[NDArray[np.float32]] = deque()

        def begin() -> Iterator[NDArray[np.float32]]:
            for array in arrays:
                begun.append(array)
                yield array

        with closing(self._streams.run_each(begin())) as outputs:
            for probs in outputs:
                yield self._check(begun.popleft(), probs)


def find_uncertain(probs: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return for each line (N × T × classes) whether a second class within `LEAST_MARGIN` would change its text.

    Each step is changed on its own; spaces that `space_weight` adds are not considered. Most small margins are where a
    character begins or ends, next to a step that is certain of it: whether it takes one step more does not change the
    text. A line with NaN is uncertain.
    """
    best = probs.argmax(axis=2)[:, :, np.newaxis]
    lead = np.take_along_axis(probs, best, axis=2)
    # In place and restored: a copy takes a megabyte per line and more time than everything else.
    np.put_along_axis(probs, best, np.float32(-np.inf), axis=2)
    second = probs.argmax(axis=2)[:, :, np.newaxis]
    margins = (lead - np.take_along_axis(probs, second, axis=2))[:, :, 0]
    np.put_along_axis(probs, best, lead, axis=2)
    uncertain: NDArray[np.bool_] = np.isnan(margins).any(axis=1)
    classes = best[:, :, 0].tolist()
    for line, step in np.argwhere(margins < LEAST_MARGIN).tolist():
        before, chosen, after = [BLANK_INDEX, *classes[line], BLANK_INDEX][step : step + 3]
        if _read_steps(before, chosen, after) != _read_steps(before, int(second[line, step, 0]), after):
            uncertain[line] = True
    return uncertain


def _read_steps(before: int, step: int, after: int) -> list[int]:
    """Return the classes that a step and the one after it add to a text."""
    pairs = (before, step), (step, after)
    return [now for earlier, now in pairs if now not in (earlier, BLANK_INDEX)]
