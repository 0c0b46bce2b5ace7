"""Accepts as many requests as can be answered in time, and runs them outside the event loop."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from edge_ocr.serving import metrics

T = TypeVar("T")


class BusyError(Exception):
    """The queue or the memory budget is full."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"busy, try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Lanes:
    """A bounded queue in front of a few threads."""

    def __init__(self, name: str, threads: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._threads = threads
        self._most = queue + threads
        self._count = 0
        self._lock = threading.Lock()
        # Smoothed duration of one task, for Retry-After.
        self._usual_s = 1.0

    async def run(self, work: Callable[[], T], share: AbstractContextManager[object]) -> T:
        """Run `work` in a thread, inside `share`, and return its result.

        Work that is cancelled in the queue never starts; work that has started runs to its end and counts until then.

        Raises BusyError if the queue is full, and whatever `work` raises.
        """
        with self._lock:
            if self._count >= self._most:
                raise BusyError(max(1, math.ceil(self._usual_s * self._count / self._threads)))
            self._count += 1
        metrics.WAITING.inc()
        try:
            future = self._pool.submit(self._time, work, share)
        except BaseException:
            self._leave()
            raise
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Wait for running work; cancel the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _time(self, work: Callable[[], T], share: AbstractContextManager[object]) -> T:
        start = time.monotonic()
        try:
            with share:
                return work()
        finally:
            self._usual_s += 0.2 * (time.monotonic() - start - self._usual_s)

    def _leave(self, future: Future[Any] | None = None) -> None:
        with self._lock:
            self._count -= 1
        metrics.WAITING.dec()
