"""Text recognition with a CTC network: crops to texts."""

from __future__ import annotations

import numpy as np

from .charset import Charset
from .engines.base import Engine
from .imaging import prepare_lines, resize_line
from .settings import RecognitionSettings
from .types import BgrImage

# Input widths are multiples of this, so that an engine sees few different shapes.
WIDTH_STEP = 64

# Widest input; longer lines are squeezed into it. PaddleX's MAX_IMG_W.
MAX_WIDTH = 3200


def plan_width(line_width: int, min_width: int) -> int:
    """Return the input width for a line that is `line_width` wide at the network's height.

    It depends on the line alone, so a line reads the same whatever else is in its batch.
    """
    return max(min_width, min(MAX_WIDTH, -(-line_width // WIDTH_STEP) * WIDTH_STEP))


class TextRecognizer:
    """Reads text lines."""

    def __init__(self, engine: Engine, charset: Charset, settings: RecognitionSettings) -> None:
        self.engine = engine
        self.charset = charset
        self.settings = settings

    def recognize(self, crops: list[BgrImage]) -> list[tuple[str, float]]:
        """Return text and score of each crop, in the order given; ("", 0.0) where nothing can be read."""
        settings = self.settings
        lines = [resize_line(crop, settings.image_height, MAX_WIDTH) for crop in crops]
        widths = [plan_width(line.shape[1], settings.min_width) for line in lines]
        order = sorted(range(len(lines)), key=lambda i: widths[i])
        readings: list[tuple[str, float]] = [("", 0.0)] * len(crops)
        start = 0
        while start < len(order):
            width = widths[order[start]]
            batch = [i for i in order[start : start + settings.batch_size] if widths[i] == width]
            probs = self.engine.run(prepare_lines([lines[i] for i in batch], width))
            for i, line_probs in zip(batch, np.asarray(probs)):
                readings[i] = self.charset.decode(line_probs)
            start += len(batch)
        return readings
