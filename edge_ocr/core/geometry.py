"""Quadrilaterals: corner order, growth, reading order and perspective crops."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyclipper

from .types import BgrImage, Polygon, TextBox

if TYPE_CHECKING:
    # NumPy before 1.21, which Debian 11 has, knows no NDArray.
    from numpy.typing import NDArray

# Boxes whose top-left corners differ in y by less than this share of the median box height are one row. PP-OCR's own
# sorting takes 10 px whatever the size of the picture, which is half the height of lines of 20 px.
ROW_TOLERANCE = 0.5

# A crop this many times taller than wide is vertical text and is turned by 90°; PP-OCR's value.
VERTICAL_RATIO = 1.5

# Of a pixel: what OpenCV's tables of weights are made for. And as far from the corner as its 16 bits reach.
_STEPS = 32
_FAR = 32767 * _STEPS


def fit_quad(points: NDArray[np.float32]) -> tuple[Polygon, float]:
    """Return the smallest rotated rectangle around `points` (N × 2) as TL TR BR BL, and its shorter side."""
    rect = cv2.minAreaRect(points)
    return order_corners(cv2.boxPoints(rect).astype(np.float32)), min(rect[1])


def measure_sides(polygon: Polygon) -> tuple[float, float]:
    """Return the lengths of a polygon's upper and left side."""
    return math.dist(polygon[0], polygon[1]), math.dist(polygon[0], polygon[3])


def order_corners(corners: NDArray[np.float32]) -> Polygon:
    """Return 4 × 2 corners in the order TL TR BR BL.

    The two leftmost corners are the left side, each side is ordered by y. For a square turned by exactly 45°
    the leftmost pair is not unique; a stable sort makes the answer depend on the input order alone.
    """
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = by_x[:2], by_x[2:]
    top_left, bottom_left = left[np.argsort(left[:, 1], kind="stable")]
    top_right, bottom_right = right[np.argsort(right[:, 1], kind="stable")]
    return np.array([top_left, top_right, bottom_right, bottom_left], dtype=np.float32)


def unclip(polygon: Polygon, ratio: float) -> NDArray[np.float32] | None:
    """Grow a shrunk DB box by area × ratio / perimeter pixels on every side; return the outline (N × 2).

    None where the box has no area or the offset does not give a single outline.
    """
    area = abs(cv2.contourArea(polygon))
    perimeter = cv2.arcLength(polygon, True)
    if area == 0 or perimeter == 0:
        return None
    offset = pyclipper.PyclipperOffset()
    # Clipper works on integers: it truncates the corners to whole pixels, as PP-OCR's own post-processing does.
    offset.AddPath(polygon.astype(np.int64).tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    outlines = offset.Execute(area * ratio / perimeter)
    if len(outlines) != 1:
        return None
    return np.array(outlines[0], dtype=np.float32)


def sort_reading_order(boxes: list[TextBox]) -> list[TextBox]:
    """Return the boxes from top to bottom, and from left to right within a row.

    A row is a run of boxes whose top-left corners differ in y by less than `ROW_TOLERANCE` of the median height from
    the one before.
    """
    if not boxes:
        return []
    # Along the left side of each box: for slanted lines that is their height, not their extent.
    heights = [math.dist(box.polygon[0], box.polygon[3]) for box in boxes]
    tolerance = ROW_TOLERANCE * sorted(heights)[len(heights) // 2]
    ordered = sorted(boxes, key=lambda box: (float(box.polygon[0, 1]), float(box.polygon[0, 0])))
    for end in range(1, len(ordered)):
        for i in range(end, 0, -1):
            above, below = ordered[i - 1].polygon[0], ordered[i].polygon[0]
            if not (abs(below[1] - above[1]) < tolerance and below[0] < above[0]):
                break
            ordered[i - 1], ordered[i] = ordered[i], ordered[i - 1]
    return ordered


def crop_polygon(image: BgrImage, polygon: Polygon) -> BgrImage:
    """Cut a quadrilateral out of the image and straighten it; upright text lies horizontally afterwards.

    A crop at least `VERTICAL_RATIO` times taller than wide is turned by 90° counter-clockwise. Sides are at least 1 px.
    """
    top_left, top_right, bottom_right, bottom_left = polygon
    width = max(1, int(max(math.dist(top_left, top_right), math.dist(bottom_left, bottom_right))))
    height = max(1, int(max(math.dist(top_left, bottom_left), math.dist(top_right, bottom_right))))
    if _is_upright(polygon, image.shape[0], image.shape[1]):
        # Nothing to straighten, as for two of three lines of a scan: the warp would find each pixel where it is.
        left, top = int(top_left[0]), int(top_left[1])
        return _lay(image[top : top + height, left : left + width])
    # Only the part around the quadrilateral is handed on: OpenCV 4 refuses pictures with a side above 32766. Cubic
    # interpolation looks two pixels to each side.
    left, top = np.maximum(np.floor(polygon.min(axis=0)).astype(int) - 3, 0)
    right, bottom = np.ceil(polygon.max(axis=0)).astype(int) + 4
    part = image[top:bottom, left:right]
    corners = (polygon - [left, top]).astype(np.float32)
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    return _lay(_warp(part, cv2.getPerspectiveTransform(target, corners), height, width))


def _is_upright(polygon: Polygon, height: int, width: int) -> bool:
    """Tell whether a quadrilateral is a rectangle of whole pixels, along the sides of the image and inside it."""
    left, top = polygon[0]
    right, bottom = polygon[2]
    corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return bool(
        0 <= left < right <= width
        and 0 <= top < bottom <= height
        and np.array_equal(polygon, corners)
        and np.array_equal(polygon, np.rint(polygon))
    )


def _lay(crop: BgrImage) -> BgrImage:
    """Turn vertical text by 90° counter-clockwise."""
    if crop.shape[0] >= crop.shape[1] * VERTICAL_RATIO:
        return np.asarray(cv2.rotate(crop, cv2.ROTATE_90_COUNTERCLOCKWISE), dtype=np.uint8)
    return crop


def _warp(image: BgrImage, matrix: Any, height: int, width: int) -> BgrImage:
    """Return `height` × `width` pixels of `image`, in which `matrix` (3 × 3) finds the place of each.

    cv2.warpPerspective of OpenCV 5 differs by up to 3 of 255 from that of OpenCV 4, which boards have: enough to win or
    lose a space. Places in steps of 1/32 pixel, as in OpenCV 4, and sums in floating point are the same in both.
    """
    x, y = np.arange(width), np.arange(height)[:, np.newaxis]
    across, down, depth = (row[0] * x + row[1] * y + row[2] for row in matrix)
    scale = np.divide(_STEPS, depth, out=np.zeros_like(depth), where=depth != 0)
    # Corners of a quadrilateral without an area may be anywhere.
    places = np.rint(np.dstack([across * scale, down * scale]).clip(-_FAR, _FAR)).astype(np.int32)
    pixels, steps = places // _STEPS, places % _STEPS
    table = (steps[:, :, 1] * _STEPS + steps[:, :, 0]).astype(np.uint16)
    found = cv2.remap(
        image.astype(np.float32), pixels.astype(np.int16), table, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)
