"""Expected results of detection inputs that are computed in large windows: places, and maps of a drawn network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, astuple
from typing import Any

import numpy as np
from golden_cases import WIDE, View

from edge_ocr.config import load_config
from edge_ocr.core.windows import LARGE_WINDOW_OVERLAP, LARGE_WINDOW_SIDE, map_large, plan_spans

# Every n-th row and column of a map is kept.
MAP_STRIDE = 7


class PlaceEngine:
    """A network whose output shows dark pixels, and where in its input each pixel is; records the input shapes."""

    name = "place"

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, array: np.ndarray) -> np.ndarray:
        self.shapes.append(array.shape)
        rows, columns = np.mgrid[0 : array.shape[2], 0 : array.shape[3]]
        levels = (3 * columns + 5 * rows) % 101 + 150 * (array[0, 1] < 0)
        return ((levels + 0.25) / 255).astype(np.float32)[np.newaxis, np.newaxis]


def expect_large_spans() -> Iterator[dict[str, Any]]:
    for length in (32, 1248, 1280, 1312, 2240, 2272, 3200, 3232, 4000):
        size, spans = plan_spans(length, LARGE_WINDOW_SIDE, LARGE_WINDOW_OVERLAP)
        yield {"length": length, "size": size, "spans": [astuple(span) for span in spans]}


def expect_large_maps(made: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Yield inputs with windows side by side, and one above the other."""
    for i, (view, (height, width)) in enumerate(
        ((View(WIDE, (0, 0, 3200, 224)), (320, 5376)), (View(WIDE, (0, 0, 800, 224), 1), (2336, 800)))
    ):
        engine, name = PlaceEngine(), f"large_{i}"
        prob_map = map_large(engine, view.cut(), height, width, load_config("OCR").detection)
        made[name] = prob_map[::MAP_STRIDE, ::MAP_STRIDE]
        yield {
            **asdict(view),
            "name": name,
            "height": height,
            "width": width,
            "stride": MAP_STRIDE,
            "runs": engine.shapes,
        }
