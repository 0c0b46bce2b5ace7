"""Text recognition with a CTC network: crops to texts."""

from __future__ import annotations

import numpy as np

from .charset import Charset
from .engines.base import Engine
from .errors import ModelError
from .imaging import prepare_lines, resize_line
from .settings import RecognitionSettings
from .types import BgrImage

# Input widths are multiples of this, so that an engine sees few different shapes.
WIDTH_STEP = 64

# Lines together are at most this wide, in pixels: more at a time gains nothing on a CPU.
BATCH_WIDTH = 1280

# Widest input; longer lines are squeezed into it. PaddleX's MAX_IMG_W.
MAX_WIDTH = 3200


def plan_width(line_width: int, min_width: int) -> int:
    """Return the input width for a line that is `line_width` wide at the network's height.

    It depends on the line alone, so a line reads the same whatever else is in its batch.
    """
    return max(min_width, min(MAX_WIDTH, -(-line_width // WIDTH_STEP) * WIDTH_STEP))


def plan_batches(widths: list[int], batch_size: int) -> list[list[int]]:
    """Return the indices of the lines to run together, given the input width of each.

    Those of one batch have one width. Batches have 1, 2, 4, 8 … lines, at most `batch_size`: each shape that an engine
    meets for the first time costs it a lot.
    """
    order = sorted(range(len(widths)), key=lambda i: widths[i])
    batches = []
    start = 0
    while start < len(order):
        width = widths[order[start]]
        alike = sum(widths[i] == width for i in order[start : start + batch_size])
        size = min(alike, max(1, BATCH_WIDTH // width))
        size = 1 << (size.bit_length() - 1)
        batches.append(order[start : start + size])
        start += size
    return batches


class TextRecognizer:
    """Reads text lines."""

    def __init__(self, engine: Engine, charset: Charset, settings: RecognitionSettings) -> None:
        self.engine = engine
        self.charset = charset
        self.settings = settings

    def recognize(self, crops: list[BgrImage]) -> list[tuple[str, float]]:
        """Return text and score of each crop, in the order given; ("", 0.0) where nothing can be read.

        Raises ModelError where the network does not run, or does not give a result for each line.
        """
        settings = self.settings
        lines = [resize_line(crop, settings.image_height, MAX_WIDTH) for crop in crops]
        widths = [plan_width(line.shape[1], settings.min_width) for line in lines]
        readings: list[tuple[str, float]] = [("", 0.0)] * len(crops)
        for batch in plan_batches(widths, settings.batch_size):
            probs = np.asarray(self.engine.run(prepare_lines([lines[i] for i in batch], widths[batch[0]])))
            if len(probs) != len(batch):
                raise ModelError(
                    f"the recognition model gives {len(probs)} results for {len(batch)} lines",
                    "Pipeline.text_rec_batch_size: 1 reads them one by one",
                )
            for i, line_probs in zip(batch, probs):
                readings[i] = self.charset.decode(line_probs)
        return readings
