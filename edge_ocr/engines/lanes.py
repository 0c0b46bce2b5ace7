"""Threads in which a recogniser reads lines at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Lanes:
    """A fixed number of threads that share out work."""

    def __init__(self, count: int) -> None:
        self._executors = [ThreadPoolExecutor(1, f"edge-ocr-lane-{i}") for i in range(count)]

    def share(self, items: list[list[int]], work: Callable[[list[int]], None]) -> None:
        """Call `work` with each item, in all lanes at the same time, and wait.

        Every other lane begins at the end, so that in an order by size each meets few sizes. After an error, which is
        raised, no lane takes a further item.
        """
        left = deque(items)

        def work_on(take: Callable[[], list[int]]) -> None:
            while left:
                try:
                    item = take()
                except IndexError:
                    # Another lane took the last one.
                    return
                work(item)

        takes = left.popleft, left.pop
        started = [lane.submit(work_on, takes[i % 2]) for i, lane in enumerate(self._executors[: len(left)])]
        try:
            for future in started:
                future.result()
        finally:
            left.clear()
