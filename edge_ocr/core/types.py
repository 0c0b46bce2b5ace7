"""Values that the stages pass to each other."""

from __future__ import annotations

from collections.abc import Sequence
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
class Character:
    """One character of a line, other than a space: usually an entry of the recogniser's dictionary."""

    text: str
    score: float
    """Probability of the character, in [0, 1]."""
    polygon: Polygon
    """As high as the ink of the whole line, as wide as the character's own."""


@dataclass(frozen=True)
class Word:
    """One word of a line: characters without a space or a change between Chinese and other writing between them."""

    text: str
    score: float
    """Mean probability of the word's characters, in [0, 1]."""
    polygon: Polygon
    """As high as the ink of the whole line, as wide as the word's own."""
    characters: tuple[Character, ...]
    """In the order in which they are read; empty unless requested."""


@dataclass(frozen=True)
class TextLine:
    """One detected and recognised line."""

    polygon: Polygon
    det_score: float
    text: str
    rec_score: float
    """Mean probability of the characters, in [0, 1]."""
    words: tuple[Word, ...] | None = None
    """In the order in which they are read; None unless requested."""


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
    return_words: str = "none"
    """What each line has besides its text: `none`, `words`, or `chars`, words and characters."""

    def describe(self, input_path: str | None) -> dict[str, Any]:
        """Return the reading as JSON values, under the keys that every interface of edge-ocr uses.

        `input_path`, `dt_polys` (N × 4 × 2 whole pixels), `dt_scores`, `rec_text`, `rec_score` (N each), and
        `page_angle` unless it is None.

        If words were requested, for each line a list over its words: `text_word`, `text_word_region` (4 × 2 whole
        pixels), `text_word_boxes` ([left, top, right, bottom]) and `text_word_score`; if characters were, also
        `text_char`, `text_char_region` and `text_char_score`. The names and forms of the first three are PaddleX's.
        """
        values: dict[str, Any] = {
            "input_path": input_path,
            "dt_polys": [line.polygon.astype(int).tolist() for line in self.lines],
            "dt_scores": [line.det_score for line in self.lines],
            "rec_text": [line.text for line in self.lines],
            "rec_score": [line.rec_score for line in self.lines],
            **({} if self.page_angle is None else {"page_angle": self.page_angle}),
        }
        if self.return_words == "none":
            return values
        words = [line.words or () for line in self.lines]
        values.update(_describe_parts("text_word", words))
        values["text_word_boxes"] = [
            [[*map(min, zip(*quad)), *map(max, zip(*quad))] for quad in line] for line in values["text_word_region"]
        ]
        if self.return_words == "chars":
            values.update(
                _describe_parts("text_char", [[c for word in line for c in word.characters] for line in words])
            )
        return values


def _describe_parts(name: str, lines: Sequence[Sequence[Word | Character]]) -> dict[str, Any]:
    """Return texts, polygons in whole pixels and scores of the words or characters of each line."""
    return {
        name: [[part.text for part in line] for line in lines],
        f"{name}_region": [np.rint([part.polygon for part in line]).astype(int).tolist() for line in lines],
        f"{name}_score": [[part.score for part in line] for line in lines],
    }
