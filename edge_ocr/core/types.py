"""Values that the stages hand to each other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BgrImage = NDArray[np.uint8]
"""H × W × 3, channels blue, green, red."""

Polygon = NDArray[np.float32]
"""4 × 2, (x, y) in pixels of the original image, corners TL TR BR BL as the text is read."""


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


@dataclass
class StageTimings:
    """Milliseconds spent in each stage for one image."""

    stages_ms: dict[str, float] = field(default_factory=dict)

    @property
    def total_ms(self) -> float:
        return sum(self.stages_ms.values())


@dataclass(frozen=True)
class Reading:
    """What was read in one image: lines from top to bottom, left to right within a row."""

    lines: list[TextLine]
    timings: StageTimings
