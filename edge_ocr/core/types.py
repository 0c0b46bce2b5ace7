"""Values that the stages pass to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    BgrImage = NDArray[np.uint8]
    """H × W × 3, channels blue, green, red."""

    Polygon = NDArray[np.float32]
    """4 × 2, (x, y) in pixels of the original image; corners TL TR BR BL by their place in the upright page,
    whichever way the text reads."""
else:
    # NumPy before 1.21, which Debian 11 has, lacks NDArray; so all modules of this package import it for types only.
    BgrImage = Polygon = np.ndarray


@dataclass(frozen=True)
class TextBox:
    """One detected text line."""

    polygon: Polygon
    det_score: float
    """Mean probability inside the box, in [0, 1]."""


@dataclass(frozen=True)
class TextLine:
    """One detected and recognised line."""

    polygon: Polygon
    det_score: float
    text: str
    rec_score: float
    """Mean probability of the characters, in [0, 1]."""


@dataclass(frozen=True)
class Reading:
    """The result for one image: lines from top to bottom, and within a row in the direction of the text."""

    lines: list[TextLine]
    timings_ms: dict[str, float]
    """Time spent in each stage."""
    left_out: tuple[float, ...] = ()
    """`rec_score` of each line that has text but is not in `lines`, because it scores below `text_score`."""
    page_angle: int | None = None
    """How far the page is turned clockwise in the picture: 0, 90, 180 or 270 degrees; None if that was not examined."""

    def describe(self, input_path: str | None) -> dict[str, Any]:
        """Return the reading as JSON values, under the keys that every interface of edge-ocr uses.

        `input_path`, `dt_polys` (N × 4 × 2 whole pixels), `dt_scores`, `rec_text`, `rec_score` (N each), and
        `page_angle` unless it is None.
        """
        return {
            "input_path": input_path,
            "dt_polys": [line.polygon.astype(int).tolist() for line in self.lines],
            "dt_scores": [line.det_score for line in self.lines],
            "rec_text": [line.text for line in self.lines],
            "rec_score": [line.rec_score for line in self.lines],
            **({} if self.page_angle is None else {"page_angle": self.page_angle}),
        }
