"""Formats readings for the commands: readable JSON, and advice if no text was found."""

from __future__ import annotations

import json
import math
from typing import Any

from .settings import MAX_DETECTION_SIDE, DetectionSettings
from .types import Reading
from .windows import BLIND_SCALE

_OPTIONS = ("--limit-side-len {}", "--text-score {:g}", "--limit-type long", "--orientation line")
_EXPORT_OPTIONS = (
    "--set Detection.limit_side_len={}",
    "--set Recognition.text_score={:g}",
    "--set Detection.limit_type=long",
    "--orientation line",
)


def format_json(value: Any, *, indent: int | None = None, ensure_ascii: bool = False) -> str:
    """Return `json.dumps(value, indent=indent, …)`, with each polygon (a list of lists of numbers) on one line.

    Keys of dicts must be strings.
    """
    if indent is None:
        return json.dumps(value, ensure_ascii=ensure_ascii)
    return _format(value, "\n", " " * indent, ensure_ascii)


def _format(value: Any, margin: str, step: str, ensure_ascii: bool) -> str:
    """Format a value; `margin` is a line break and the indentation of the closing bracket."""
    inner = margin + step
    if isinstance(value, dict) and value:
        items = [
            f"{json.dumps(key, ensure_ascii=ensure_ascii)}: {_format(item, inner, step, ensure_ascii)}"
            for key, item in value.items()
        ]
        return "{" + inner + f",{inner}".join(items) + margin + "}"
    if isinstance(value, (list, tuple)) and value and not _is_polygon(value):
        items = [_format(item, inner, step, ensure_ascii) for item in value]
        return "[" + inner + f",{inner}".join(items) + margin + "]"
    return json.dumps(value, ensure_ascii=ensure_ascii)


def _is_polygon(value: Any) -> bool:
    return all(
        isinstance(corner, (list, tuple)) and corner and all(isinstance(number, (int, float)) for number in corner)
        for corner in value
    )


def explain_empty(
    label: str,
    size: tuple[int, int],
    reading: Reading,
    detection: DetectionSettings,
    text_score: float,
    *,
    has_orientation: bool,
    on_board: bool = False,
) -> str:
    """Return one line for a picture without text: its name, and options that may help.

    `size`: height and width of the picture in pixels. `on_board`: name options of `edge-ocr export`, because the
    board's command has no such options.
    """
    side, score, kind, orientation = _EXPORT_OPTIONS if on_board else _OPTIONS
    (height, width), longest, limit = size, max(size), detection.limit_side_len
    advice = []
    if not has_orientation:
        advice.append(f"{orientation} (for lines upside down)")
    if reading.left_out:
        # Rounded down, so that the best line reaches it.
        best, count = math.floor(max(reading.left_out) * 100) / 100, len(reading.left_out)
        lines = f"{count} line{'' if count == 1 else 's'}, at best {best:.2f}"
        advice.append(f"{score.format(math.floor(best * 10) / 10)} ({lines}, scored below {text_score:g})")
    # With windows, pictures below this scale were already searched at larger scales.
    was_larger = detection.windows and limit < BLIND_SCALE * longest
    if detection.limit_type != "min" and longest > limit and limit < MAX_DETECTION_SIDE and not was_larger:
        larger = min(longest, MAX_DETECTION_SIDE)
        advice.append(f"{side.format(larger)} (the picture, {width}×{height}, was scaled down to {limit})")
    elif detection.limit_type == "max" and longest <= limit // 2:
        advice.append(f"{kind} (enlarges the picture, {width}×{height}, to {limit})")
    what = f"No text found in {label}"
    if not advice:
        return what
    return f"{what}; try {'a bundle exported with ' if on_board else ''}{', '.join(advice)}"
