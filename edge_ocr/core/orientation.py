"""Text-line orientation: which crops are upside down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from .engines.base import Engine
from .imaging import normalize_picture, resize_line, resize_picture
from .settings import OrientationSettings
from .types import BgrImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
            # Class 1 is 180°.
            for i, prob in enumerate(self.engine.run(prepare_crops(batch, settings))[:, 1], start):
                if prob > settings.threshold:
                    turned.append(i)
                elif prob > 1 - settings.threshold:
                    unsure.append(i)
        return turned, unsure


def prepare_crops(crops: list[BgrImage], settings: OrientationSettings) -> NDArray[np.float32]:
    """Return the classifier's input, N × 3 × H × W, zero-padded on the right."""
    height, width = settings.image_height, settings.image_width
    batch = np.zeros((len(crops), 3, height, width), dtype=np.float32)
    for slot, crop in zip(batch, crops):
        line = resize_line(crop, height, width) if settings.keep_ratio else resize_picture(crop, width, height)
        line = line if settings.channel_order == "BGR" else line[:, :, ::-1]
        slot[:, :, : line.shape[1]] = normalize_picture(line, settings.mean, settings.std)[0]
    return batch


def turn(crop: BgrImage) -> BgrImage:
    """Turn a crop by 180°."""
    return np.asarray(cv2.rotate(crop, cv2.ROTATE_180), dtype=np.uint8)
