"""Text detection with a DB network: image to boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from .engines.base import Engine
from .geometry import fit_quad, sort_reading_order, unclip
from .imaging import prepare_detection
from .settings import DetectionSettings
from .types import BgrImage, Polygon, TextBox

if TYPE_CHECKING:
    # NumPy before 1.21, which Debian 11 has, knows no NDArray.
    from numpy.typing import NDArray

# Shorter side in pixels of the prob map below which a box is noise, before and after unclip; PP-OCR's values.
MIN_SIDE_PX = 3
MIN_UNCLIPPED_SIDE_PX = MIN_SIDE_PX + 2


class TextDetector:
    """Finds text lines."""

    def __init__(self, engine: Engine, settings: DetectionSettings) -> None:
        self.engine = engine
        self.settings = settings

    def detect(self, image: BgrImage) -> list[TextBox]:
        """Return the boxes of the text lines in reading order; an empty list where there is no text."""
        prob_map = self.engine.run(prepare_detection(image, self.settings))[0, 0]
        return find_boxes(prob_map, image.shape[0], image.shape[1], self.settings)


def find_boxes(prob_map: NDArray[np.float32], height: int, width: int, settings: DetectionSettings) -> list[TextBox]:
    """Turn a prob map (H × W, in [0, 1]) into boxes in pixels of the original `height` × `width` image.

    DB post-processing: binarise, outline, fit a rotated rectangle, score, grow, fit again, scale. Corners are whole
    pixels inside the image. In reading order; empty where nothing passes the thresholds.
    """
    bitmap = (prob_map > settings.bin_threshold).astype(np.uint8)
    contours, _ = cv2.findContours(bitmap, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    scale = np.array([width / prob_map.shape[1], height / prob_map.shape[0]])
    boxes = []
    for contour in contours[: settings.max_candidates]:
        quad, side = fit_quad(contour.reshape(-1, 2).astype(np.float32))
        if side < MIN_SIDE_PX:
            continue
        score = score_quad(prob_map, quad)
        if score < settings.box_threshold:
            continue
        outline = unclip(quad, settings.unclip_ratio)
        if outline is None:
            continue
        quad, side = fit_quad(outline)
        if side < MIN_UNCLIPPED_SIDE_PX:
            continue
        polygon = np.clip(np.round(quad * scale), 0, [width, height]).astype(np.float32)
        boxes.append(TextBox(polygon, score))
    return sort_reading_order(boxes)


def score_quad(prob_map: NDArray[np.float32], quad: Polygon) -> float:
    """Return the mean probability inside a quadrilateral of the prob map, in [0, 1]."""
    height, width = prob_map.shape
    left, top = np.clip(np.floor(quad.min(axis=0)), 0, [width - 1, height - 1]).astype(int)
    right, bottom = np.clip(np.ceil(quad.max(axis=0)), 0, [width - 1, height - 1]).astype(int)
    mask = np.zeros((bottom - top + 1, right - left + 1), dtype=np.uint8)
    # Corners are truncated to whole pixels, as PP-OCR's own scoring does.
    cv2.fillPoly(mask, [(quad - [left, top]).astype(np.int32)], (1,))
    return float(cv2.mean(prob_map[top : bottom + 1, left : right + 1], mask)[0])
