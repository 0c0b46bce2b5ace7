"""Limits the memory of all requests: their bodies, and the files behind URLs."""

from __future__ import annotations

import threading

from edge_ocr.serving import metrics
from edge_ocr.serving.lanes import BusyError


class Budget:
    """Bytes that all requests together may hold."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Take `count` bytes. Raises BusyError if there is no room; nothing is taken then."""
        with self._lock:
            if self._bytes + count > self._most_bytes:
                raise BusyError(1)
            self._bytes += count
        metrics.BODY_BYTES.inc(count)

    def give_back(self, count: int) -> None:
        """Return `count` bytes."""
        with self._lock:
            self._bytes -= count
        metrics.BODY_BYTES.dec(count)


class Share:
    """Bytes that one request holds until every user has left its context: a thread may outlast the response."""

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
        """Take `count` more bytes. Raises BusyError if there is no room."""
        self._budget.take(count)
        with self._lock:
            self._bytes += count
