"""The protocol of engines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Engine(Protocol):
    """A loaded network."""

    name: str
    """Name of the engine, such as `openvino`."""

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on one NCHW batch and return its one output.

        The returned array may be a view of the engine's buffer, valid until the next run in the same thread.
        """
        ...


def count_cores() -> int:
    """Return how many cores this process may use; in containers, fewer than the machine has."""
    # Not available on every system.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
