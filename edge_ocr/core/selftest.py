"""Does this machine read the bundle's golden picture as the host did?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import ModelError, ParityError
from .types import Reading

MAX_CORNER_PX = 3.0
"""How far corners may lie apart: another engine's rounding can move the outline of a box by a pixel of the prob map."""
MAX_SCORE_DIFF = 0.02


def compare_golden(reading: Reading, golden: Mapping[str, Any]) -> str:
    """Hold a reading of the golden picture against the manifest's lines; return in words how near it is.

    Raises ParityError, naming the first line that differs; ModelError for lines that are none.
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
            raise ModelError(f"{golden['image']}: the manifest has no four corners for {line.text!r}", _HINT)
        scores = (line.det_score - other["det_score"], line.rec_score - other["rec_score"])
        # NumPy's maximum, unlike Python's, hands on what is not a number.
        corner = float(np.max([corner, *np.hypot(*(line.polygon - np.array(polygon)).T)]))
        score = float(np.max([score, *np.abs(scores)]))
    if not (corner <= MAX_CORNER_PX and score <= MAX_SCORE_DIFF):
        raise ParityError(
            f"{golden['image']}: corners are {corner:.1f} px off, expected at most {MAX_CORNER_PX:g}; "
            f"scores {score:.4f}, expected at most {MAX_SCORE_DIFF:g}",
            _HINT,
        )
    return f"{len(wanted)} lines read as expected, corners within {corner:.1f} px, scores within {score:.4f}"


_HINT = "library and models may not belong together: export the bundle again, and copy all of it"
