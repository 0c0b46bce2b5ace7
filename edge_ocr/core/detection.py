"""Text detection with a DB network: from image to boxes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from .engines.base import Engine
from .geometry import LEAST_FILL, SLANT, fit_quad, is_slanted, join_pieces, sort_reading_order, unclip
from .imaging import plan_detection_size, prepare_detection
from .settings import DetectionSettings
from .types import BgrImage, Polygon, TextBox
from .windows import MAX_WHOLE_PIXELS, grow_box, map_large, map_windows, merge_boxes, plan_finer_scale, plan_spans

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Boxes with a shorter side below this, in pixels of the prob map, are noise; before and after unclip. PP-OCR's values.
MIN_SIDE_PX = 3
MIN_UNCLIPPED_SIDE_PX = MIN_SIDE_PX + 2


class TextDetector:
    """Finds text lines."""

    def __init__(self, engine: Engine, settings: DetectionSettings) -> None:
        self.engine = engine
        self.settings = settings

    def detect(self, image: BgrImage) -> list[TextBox]:
        """Return the boxes of the text lines in reading order; an empty list if there is no text.

        If the settings allow windows and text is too small at the side limit, the image is searched at larger scales.
        """
        settings, (height, width) = self.settings, image.shape[:2]
        size = plan_detection_size(height, width, settings)
        prob_map: NDArray[Any]
        if math.prod(size) > MAX_WHOLE_PIXELS:
            prob_map = map_large(self.engine, image, *size, settings)
        else:
            prob_map = self.engine.run(prepare_detection(image, settings))[0, 0]
        found = find_boxes(prob_map, height, width, settings)
        scale = max(prob_map.shape) / max(height, width)
        # From the coarsest to the finest.
        looks = [(scale, found)]
        while settings.windows and (finer := plan_finer_scale(image, scale, found)) is not None:
            scale = finer
            windows_map = map_windows(self.engine, image, scale, settings)
            # The limit on candidates applies to each window.
            count = math.prod(len(plan_spans(length)[1]) for length in windows_map.shape)
            many = replace(settings, max_candidates=settings.max_candidates * count)
            found = find_boxes(windows_map, height, width, many)
            looks.append((scale, [grow_box(box, height, width) for box in found]))
        _, boxes = looks.pop()
        if not looks:
            return boxes
        for coarser, seen in reversed(looks):
            boxes = merge_boxes(boxes, seen, coarser)
        return sort_reading_order(boxes)


def find_boxes(prob_map: NDArray[Any], height: int, width: int, settings: DetectionSettings) -> list[TextBox]:
    """Turn a prob map into boxes in pixels of the original `height` × `width` image.

    `prob_map`: H × W, float32 in [0, 1], or uint8 in steps of 1/255.

    DB post-processing: binarise, outline, fit a rotated rectangle, score, grow, fit again, scale. Corners are whole
    pixels inside the image. In reading order; empty if nothing passes the thresholds.
    """
    threshold = settings.bin_threshold * (255 if prob_map.dtype == np.uint8 else 1)
    bitmap = (prob_map > threshold).astype(np.uint8)
    contours, _ = cv2.findContours(bitmap, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    scale = np.array([width / prob_map.shape[1], height / prob_map.shape[0]])
    # Boxes, and those too uncertain to be more than a piece of one.
    boxes: list[TextBox] = []
    spare: list[TextBox] = []
    for contour in contours[: settings.max_candidates]:
        quad, side = fit_quad(contour.reshape(-1, 2).astype(np.float32))
        if side < MIN_SIDE_PX:
            continue
        score = score_quad(prob_map, quad)
        kept, ratio = boxes, settings.unclip_ratio
        if score < settings.box_threshold:
            kept = boxes if is_slanted(quad, SLANT) else spare
            score, fill = score_text(prob_map, quad, settings.bin_threshold)
            # The rectangle around a thin, bent line has a larger margin than the one around a straight line.
            ratio *= (1 + fill) / 2
        if score < settings.box_threshold:
            continue
        outline = unclip(quad, ratio)
        if outline is None:
            continue
        quad, side = fit_quad(outline)
        if side < MIN_UNCLIPPED_SIDE_PX:
            continue
        polygon = np.clip(np.round(quad * scale), 0, [width, height]).astype(np.float32)
        kept.append(TextBox(polygon, score))
    return sort_reading_order(join_pieces(boxes, spare, height, width))


def score_quad(prob_map: NDArray[Any], quad: Polygon) -> float:
    """Return the mean probability inside a quadrilateral of the prob map, in [0, 1]."""
    part, mask = _cover(prob_map, quad)
    return float(cv2.mean(part, mask)[0])


def score_text(prob_map: NDArray[Any], quad: Polygon, bin_threshold: float) -> tuple[float, float]:
    """Return the mean probability of the text pixels in a quadrilateral, and their share of it; both in [0, 1].

    Networks see slanted lines thin and bent, so the rectangle around one is half empty. The score is 0 if text fills
    less than `LEAST_FILL` of it.
    """
    part, mask = _cover(prob_map, quad)
    text = mask * (part > bin_threshold)
    fill = int(np.count_nonzero(text)) / max(1, int(np.count_nonzero(mask)))
    return (float(cv2.mean(part, text)[0]) if fill >= LEAST_FILL else 0.0), fill


def _cover(prob_map: NDArray[Any], quad: Polygon) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the part of the prob map around a quadrilateral, and a mask (0, 1) of its inside."""
    height, width = prob_map.shape
    left, top = np.clip(np.floor(quad.min(axis=0)), 0, [width - 1, height - 1]).astype(int)
    right, bottom = np.clip(np.ceil(quad.max(axis=0)), 0, [width - 1, height - 1]).astype(int)
    mask = np.zeros((bottom - top + 1, right - left + 1), dtype=np.uint8)
    # Corners are truncated to whole pixels, as in PP-OCR's own scoring.
    cv2.fillPoly(mask, [(quad - [left, top]).astype(np.int32)], (1,))
    part = prob_map[top : bottom + 1, left : right + 1]
    if part.dtype == np.uint8:
        part = part.astype(np.float32) / np.float32(255)
    return part, mask
