"""Weights as integers with one scale per output channel.

The runtime converts them to float32 when it loads a file, and computes with that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Precision = Literal["fp32", "int16", "int8", "auto"]
"""Precision of the weights in a .nb; `auto` is one for each layer."""

BITS: Mapping[Precision, int] = MappingProxyType({"int16": 16, "int8": 8})


@dataclass(frozen=True)
class Rounded:
    """One rounded parameter of a `.nb`."""

    values: NDArray[Any]
    """int8 or int16, in the parameter's shape; -127 to 127, or -32767 to 32767."""
    scales: NDArray[np.float32]
    """One per output channel, along `axis` of `values`."""
    axis: int
    """0 for a convolution's filter, 1 for the weights of fc."""

    @property
    def bits(self) -> int:
        """Return 8 or 16."""
        return 8 * self.values.itemsize

    def to_float(self) -> NDArray[np.float32]:
        """Return the weights as the runtime computes with them: float32, each number times its channel's scale."""
        shape = [1] * self.values.ndim
        shape[self.axis] = -1
        product: NDArray[np.float32] = self.values.astype(np.float32) * self.scales.reshape(shape)
        return product


def round_nearest(weights: NDArray[np.float32], axis: int, bits: int) -> Rounded:
    """Round float32 `weights` to 8 or 16 bits, with scales along `axis` that keep each channel's largest number.

    As opt rounds (post_quant_dynamic_pass.cc): ties away from zero. A channel of zeros has the scale 0; one with
    infinities or NaN has a scale that is not finite.
    """
    largest = np.float32(2 ** (bits - 1) - 1)
    others = tuple(other for other in range(weights.ndim) if other != axis)
    scales = np.abs(weights).max(axis=others, initial=0) / largest
    shape = [-1 if other == axis else 1 for other in range(weights.ndim)]
    with np.errstate(invalid="ignore"):
        # Any divisor keeps a channel of zeros.
        quotients = weights / np.where(scales == 0, np.float32(1), scales).reshape(shape)
        values = np.copysign(np.floor(np.abs(quotients) + np.float32(0.5)), quotients)
        # The scales of tiny numbers have few digits.
        values = np.clip(values, -largest, largest).astype(np.int8 if bits == 8 else np.int16)
    return Rounded(values, scales, axis)
