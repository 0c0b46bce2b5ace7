"""Values that the stages hand to each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BgrImage = NDArray[np.uint8]
"""H × W × 3, channels blue, green, red."""

Polygon = NDArray[np.float32]
"""4 × 2, (x, y) in pixels of the original image, corners TL TR BR BL as they lie in it,
whichever way the text reads."""


@dataclass(frozen=True)
class TextBox:
    """One detected text line."""

    polygon: Polygon
    det_score: float
    """Mean probability inside the box, in [0, 1]."""


@dataclass(frozen=True)
class TextLine:
    """One line that was detected and read."""

    polygon: Polygon
    det_score: float
    text: str
    rec_score: float
    """Mean probability of the characters, in [0, 1]."""


@dataclass(frozen=True)
class Reading:
    """What was read in one image: lines from top to bottom, left to right within a row."""

    lines: list[TextLine]
    timings_ms: dict[str, float]
    """Time spent in each stage."""
