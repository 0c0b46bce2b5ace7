"""How much of all requests is in memory: their bodies, and the files behind URLs."""

from __future__ import annotations

import threading

from edge_ocr.serving import metrics
from edge_ocr.serving.lanes import BusyError


class Budget:
    """What all requests may hold together."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Raises BusyError where there is no room, and nothing is taken then."""
        with self._lock:
            if self._bytes + count > self._most_bytes:
                raise BusyError(1)
            self._bytes += count
        metrics.BODY_BYTES.inc(count)

    def give_back(self, count: int) -> None:
        """Make room for others."""
        with self._lock:
            self._bytes -= count
        metrics.BODY_BYTES.dec(count)


class Share:
    """What one request holds, until all that have entered it have left: a thread may outlast the answer."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._bytes = 0
        self._users = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Share:
        with self._lock:
            self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
            count, self._bytes = self._bytes, 0
        self._budget.give_back(count)

    def take(self, count: int) -> None:
        """Raises BusyError where there is no room."""
        self._budget.take(count)
        with self._lock:
            self._bytes += count
