"""The protocol that every engine follows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Engine(Protocol):
    """One network, ready to run."""

    name: str
    """Of the engine, such as `openvino`."""

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on one NCHW batch and return its one output.

        The returned array may be a view of the engine's own buffer, good until the next run.
        """
        ...


def count_cores() -> int:
    """Return how many cores this process may use, which in containers are fewer than the machine has."""
    # Not every system can tell.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
