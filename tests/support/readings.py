"""Readings made by hand, whose words are at known places."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edge_ocr.core.types import Character, Reading, TextLine, Word
from edge_ocr.results import OcrResult

# In heights of a line: Latin letters, Chinese characters, spaces.
LATIN, WIDE, GAP = 0.55, 1.0, 0.3


def make_line(
    texts: Sequence[str], x: float, y: float, size: float = 30, *, angle: float = 0, turns: int = 0, gap: float = GAP
) -> TextLine:
    """Return a line whose text begins at (x, y), its upper left corner, and runs at an angle in degrees clockwise.

    `turns`: how many quarters clockwise the polygon is turned back, as the corners of vertical and upside-down lines
    are: TL is where it is in the picture, not where the text begins.
    """
    along = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    down = np.array([-along[1], along[0]]) * size
    place, words, ends = 0.0, [], []
    for text in texts:
        characters = []
        for letter in text:
            width = size * (WIDE if ord(letter) >= 0x2E80 else LATIN)
            characters.append(Character(letter, 0.9, make_quad(x, y, along * place, along * width, down, turns)))
            place += width
        start = ends[-1] + gap * size if ends else 0.0
        words.append(
            Word(text, 0.9, make_quad(x, y, along * start, along * (place - start), down, turns), tuple(characters))
        )
        ends.append(place)
        place += gap * size
    polygon = make_quad(x, y, along * 0, along * ends[-1], down, turns)
    return TextLine(polygon, 0.9, (" " if gap else "").join(texts), 0.9, tuple(words))


def make_quad(x: float, y: float, start: np.ndarray, across: np.ndarray, down: np.ndarray, turns: int) -> np.ndarray:
    first = np.array([x, y]) + start
    corners = np.array([first, first + across, first + across + down, first + down], dtype=np.float32)
    return np.roll(corners, turns, axis=0)


def make_box(text: str, left: float, top: float, width: float, height: float = 30) -> TextLine:
    """Return a level line without words."""
    right, bottom = left + width, top + height
    return TextLine(np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32), 0.9, text, 0.9)


def make_result(
    lines: Sequence[TextLine],
    *,
    size: tuple[int, int] = (1400, 1000),
    path: str | None = "page.png",
    page_index: int | None = None,
    return_words: str = "words",
    page_angle: int | None = None,
) -> OcrResult:
    """Return a result of a white picture, height × width."""
    reading = Reading(list(lines), {}, (), page_angle, return_words)
    image = np.full((*size, 3), 255, np.uint8)
    return OcrResult(reading, image, path, page_index, "page")
