"""Where words and lines are, and which way they read."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

import numpy as np

from edge_ocr.core.geometry import is_vertical, measure_sides
from edge_ocr.core.types import Polygon, TextLine, Word

# How far a baseline is above the lower edge of its line, in heights of the line: the depth of a g or p in most fonts.
DESCENT = 0.2


def list_words(line: TextLine) -> list[tuple[Word, bool]]:
    """Return the words of a line, each with whether a space follows it.

    A line without words is returned as one word, so that no position is invented.
    """
    if not line.words:
        return [(Word(line.text, line.rec_score, line.polygon, ()), False)]
    found: list[tuple[Word, bool]] = []
    place = 0
    for i, word in enumerate(line.words):
        start = line.text.find(word.text, place)
        if i:
            # A word that is not in the text: a space keeps it from growing together with the one before.
            gap = line.text[place:start] if start >= 0 else " "
            found[-1] = (found[-1][0], gap != "" and gap.isspace())
        place = start + len(word.text) if start >= 0 else place
        found.append((word, False))
    return found


def is_right_to_left(text: str) -> bool:
    """Return whether most letters of a text, such as Arabic, are written from right to left."""
    kinds = [unicodedata.bidirectional(character) for character in text]
    return kinds.count("R") + kinds.count("AL") > kinds.count("L")


def find_turns(line: TextLine) -> int:
    """Return by how many quarters clockwise a line's text is turned from its polygon: 0 reads from its left edge.

    1 reads from the upper edge down, 2 from the right edge (upside down), 3 from the lower edge up. Without words,
    lines are taken to be upright, and tall ones to read downwards.
    """
    turns = int(is_vertical(*measure_sides(line.polygon)))
    parts = [part.polygon.mean(axis=0) for word in line.words or () for part in (word.characters or (word,))]
    if len(parts) > 1:
        start, end = (line.polygon[0], line.polygon[3 if turns else 1])
        forward = float(np.dot(parts[-1] - parts[0], end - start))
        if forward != 0 and (forward < 0) != is_right_to_left(line.text):
            turns += 2
    return turns


def lay(polygon: Polygon, turns: int) -> Polygon:
    """Return the corners in the order in which the text has them: TL is where its first line of pixels begins."""
    return np.roll(polygon, -turns, axis=0)


def measure_angle(polygon: Polygon) -> float:
    """Return by how many degrees clockwise, above -180 and up to 180, a laid polygon is turned in the picture."""
    across = polygon[1] + polygon[2] - polygon[0] - polygon[3]
    return math.degrees(math.atan2(float(across[1]), float(across[0])))


def find_baseline(polygon: Polygon) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return both ends of the baseline of a laid polygon."""
    top_left, top_right, bottom_right, bottom_left = polygon.astype(float)
    start = bottom_left + DESCENT * (top_left - bottom_left)
    end = bottom_right + DESCENT * (top_right - bottom_right)
    return (float(start[0]), float(start[1])), (float(end[0]), float(end[1]))


def bound(polygons: Sequence[Polygon], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom, in whole pixels, of a box around polygons inside a height × width picture."""
    corners = np.concatenate(polygons).astype(float)
    low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
    limit = [size[1], size[0]]
    (left, top), (right, bottom) = np.clip(low, 0, limit), np.clip(high, 0, limit)
    return int(left), int(top), int(right), int(bottom)


def is_level(polygon: Polygon) -> bool:
    """Return whether a polygon is an upright rectangle, to within a pixel."""
    top_left, top_right, bottom_right, bottom_left = polygon
    off = [(top_right - top_left)[1], (bottom_right - bottom_left)[1]]
    off += [(bottom_left - top_left)[0], (bottom_right - top_right)[0]]
    return bool(max(map(abs, off)) <= 1)
