"""Text-line orientation: which crops are upside down."""

from __future__ import annotations

import cv2
import numpy as np

from .engines.base import Engine
from .imaging import prepare_lines, resize_line
from .settings import OrientationSettings
from .types import BgrImage

# Crops per batch; the classifier's input is small and has one size.
BATCH_SIZE = 6


class OrientationClassifier:
    """Distinguishes 0° from 180°."""

    def __init__(self, engine: Engine, settings: OrientationSettings) -> None:
        self.engine = engine
        self.settings = settings

    def find_turned(self, crops: list[BgrImage]) -> tuple[list[int], list[int]]:
        """Return the indexes of the crops that are upside down, and of those that are uncertain."""
        settings = self.settings
        turned, unsure = [], []
        for start in range(0, len(crops), BATCH_SIZE):
            batch = crops[start : start + BATCH_SIZE]
            lines = [resize_line(crop, settings.image_height, settings.image_width) for crop in batch]
            # Class 1 is 180°.
            for i, prob in enumerate(self.engine.run(prepare_lines(lines, settings.image_width))[:, 1], start):
                if prob > settings.threshold:
                    turned.append(i)
                elif prob > 1 - settings.threshold:
                    unsure.append(i)
        return turned, unsure


def turn(crop: BgrImage) -> BgrImage:
    """Turn a crop by 180°."""
    return np.asarray(cv2.rotate(crop, cv2.ROTATE_180), dtype=np.uint8)
