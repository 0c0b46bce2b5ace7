"""The protocol of engines."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Engine(Protocol):
    """A loaded network."""

    name: str
    """Name of the engine, such as `openvino`."""

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on one NCHW batch and return its one output.

        The returned array may be a view of the engine's buffer, valid until the next run.
        """
        ...


@runtime_checkable
class StreamingEngine(Engine, Protocol):
    """A loaded network that runs on several inputs at the same time, which is faster than batches."""

    def run_each(self, arrays: Iterable[NDArray[np.float32]]) -> Generator[NDArray[np.float32], None, None]:
        """Run NCHW arrays; yield their outputs in the same order, each valid until the next one is requested."""
        ...


def count_cores() -> int:
    """Return how many cores this process may use; in containers, fewer than the machine has."""
    # Not available on every system.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
