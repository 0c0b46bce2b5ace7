"""The protocol that every engine follows."""

from __future__ import annotations

from typing import Protocol

import numpy as np
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
