"""Compares how this machine reads the bundle's golden picture with the host's result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import ModelError, ParityError
from .types import Reading

MAX_CORNER_PX = 3.0
"""Tolerance for corners: an engine's rounding can move the outline of a box by one pixel of the prob map."""
MAX_SCORE_DIFF = 0.02


def compare_golden(reading: Reading, golden: Mapping[str, Any]) -> str:
    """Compare a reading of the golden picture with the manifest's lines; return the result in words.

    Raises ParityError, naming the first line that differs; ModelError if the manifest's lines are invalid.
    """
    expected = golden["lines"]
    texts = [line.text for line in reading.lines]
    wanted = [line["text"] for line in expected]
    if texts != wanted:
        place = next(
            (i for i, (a, b) in enumerate(zip(texts, wanted)) if a != b),
            min(len(texts), len(wanted)),
        )
        found, right = (part[place] if place < len(part) else "nothing" for part in (texts, wanted))
        raise ParityError(
            f"{golden['image']}: line {place + 1} of {len(wanted)} reads {found!r}, expected {right!r}", _HINT
        )
    corner = score = 0.0
    for line, other in zip(reading.lines, expected):
        polygon = other["polygon"]
        if [len(point) for point in polygon] != [2, 2, 2, 2]:
            raise ModelError(f"{golden['image']}: {line.text!r} in the manifest must have four corners", _HINT)
        scores = (line.det_score - other["det_score"], line.rec_score - other["rec_score"])
        # NumPy's maximum propagates NaN, unlike Python's.
        corner = float(np.max([corner, *np.hypot(*(line.polygon - np.array(polygon)).T)]))
        score = float(np.max([score, *np.abs(scores)]))
    if not (corner <= MAX_CORNER_PX and score <= MAX_SCORE_DIFF):
        raise ParityError(
            f"{golden['image']}: corners differ by {corner:.1f} px, expected at most {MAX_CORNER_PX:g}; "
            f"scores by {score:.4f}, expected at most {MAX_SCORE_DIFF:g}",
            _HINT,
        )
    return f"{len(wanted)} lines read as expected, corners within {corner:.1f} px, scores within {score:.4f}"


_HINT = "export the bundle again and copy all of it: library and models may not match"
