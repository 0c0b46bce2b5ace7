"""What was chosen for each layer of a network, and what the choice is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from converters.lite.nb.rounded import Rounded

Storage = Literal["fp32", "int16", "int8"]
"""How a layer's weights are stored."""

Measure = Literal["exact_lines", "changed_lines"]
"""What a limit is about: the share of lines with a known text that are read exactly, or the share of lines whose text
differs from that of the float32 networks."""


@dataclass(frozen=True)
class LayerChoice:
    """The choice for one layer."""

    layer: str
    """Name of its weights in the `.nb`."""
    op_type: str
    weights: Storage
    input_absmax: float | None
    """The largest input that int8 can hold, if the layer computes in int8; None if it computes in float32."""
    divergence: float | None
    """How far the network's output moves with this layer alone in int8, as measured by `Judge.measure_divergence`;
    None if it was not measured."""
    reason: str

    @property
    def compute(self) -> str:
        """Return `int8` or `fp32`."""
        return "fp32" if self.input_absmax is None else "int8"

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the manifest."""
        entry: dict[str, Any] = {
            "layer": self.layer, "op": self.op_type, "weights": self.weights, "compute": self.compute,
        }  # fmt: skip
        if self.input_absmax is not None:
            entry["input_absmax"] = self.input_absmax
        if self.divergence is not None:
            entry["divergence"] = float(f"{self.divergence:.3g}")
        return {**entry, "reason": self.reason}


@dataclass(frozen=True)
class ModelChoice:
    """The choices for one network, and the integers that follow."""

    layers: tuple[LayerChoice, ...]
    rounded: Mapping[str, Rounded]
    """By name of the weights, for each layer that is stored as integers."""
    biases: Mapping[str, NDArray[np.float32]]
    """By name: the biases, corrected for the rounding of the weights."""

    @property
    def inputs(self) -> dict[str, float]:
        """Return the absmax of the input, by name of the weights, of each layer that computes in int8."""
        return {one.layer: one.input_absmax for one in self.layers if one.input_absmax is not None}

    def count_storage(self) -> dict[Storage, int]:
        """Return how many layers are stored in each way."""
        return dict(Counter(one.weights for one in self.layers))


@dataclass(frozen=True)
class Promise:
    """The limit that the choices keep, and on what they were measured."""

    measure: Measure
    max_drop: float
    """In [0, 1]."""
    drop: float
    """As measured; below 0 if the integers read more lines exactly."""
    lines: int
    """How many lines count."""
    changed: int
    """Lines whose text differs from that of the float32 networks."""
    compared: int
    """Of so many lines."""
    pictures: int
    prefer: str

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the manifest."""
        return {
            "measure": self.measure,
            "max_drop": self.max_drop,
            "drop": round(self.drop, 4),
            "lines": self.lines,
            "changed": self.changed,
            "compared": self.compared,
            "pictures": self.pictures,
            "prefer": self.prefer,
        }
