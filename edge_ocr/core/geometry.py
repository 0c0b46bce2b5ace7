"""Quadrilaterals: corner order, growth, reading order and perspective crops."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyclipper

from .types import BgrImage, Polygon, TextBox

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Boxes whose top-left corners differ in y by less than this share of the median box height are in one row. PP-OCR's own
# sorting uses 10 px for any picture, which is half the height of a 20 px line.
ROW_TOLERANCE = 0.5

# A crop at least this many times taller than wide is vertical text and is turned by 90°; PP-OCR's value.
VERTICAL_RATIO = 1.5

# A slanted line is at least this many times longer than high; shorter boxes have no reliable angle. SLANT: between 10°
# and 80°, as slopes. BREAKING_SLANT: between 37° and 67°, where networks, trained on level lines, break them.
SLANTED_RATIO = 3
SLANT = (0.176, 5.67)
BREAKING_SLANT = (0.75, 2.4)

# A slanted rectangle is scored by its text pixels alone if they fill at least this share; lines at 60° fill 0.4.
LEAST_FILL = 0.3

# In heights of a slanted line: the largest gap between the line and a piece of it, and the largest height of both
# together.
PIECE_GAP = 0.25
PIECE_HEIGHT = 1.4

# The tilt of a page is that of its boxes that are at least TILT_RATIO times wider than high. As slopes: below half a
# degree rows need no correction, above 11° a page was turned on purpose; boxes agree within TILT_SPREAD.
TILT_RATIO = 2
LEAST_TILT = 0.009
MAX_TILT = 0.2
TILT_SPREAD = 0.05

# Subpixel steps of OpenCV's interpolation tables, and the range of its 16-bit coordinates in these steps.
_STEPS = 32
_FAR = 32767 * _STEPS


def fit_quad(points: NDArray[np.float32]) -> tuple[Polygon, float]:
    """Return the smallest rotated rectangle around `points` (N × 2) as TL TR BR BL, and its shorter side."""
    rect = cv2.minAreaRect(points)
    return order_corners(cv2.boxPoints(rect).astype(np.float32)), min(rect[1])


def order_corners(corners: NDArray[np.float32]) -> Polygon:
    """Return 4 × 2 corners in the order TL TR BR BL.

    The two leftmost corners are the left side; each side is ordered by y. For a square turned by exactly 45° the
    leftmost pair is not unique; the stable sort makes the result depend on the input order alone.
    """
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = by_x[:2], by_x[2:]
    top_left, bottom_left = left[np.argsort(left[:, 1], kind="stable")]
    top_right, bottom_right = right[np.argsort(right[:, 1], kind="stable")]
    return np.array([top_left, top_right, bottom_right, bottom_left], dtype=np.float32)


def unclip(polygon: Polygon, ratio: float) -> NDArray[np.float32] | None:
    """Grow a shrunk DB box by area × ratio / perimeter pixels on every side; return the outline (N × 2).

    None if the box has no area or the offset does not result in a single outline.
    """
    area = abs(cv2.contourArea(polygon))
    perimeter = cv2.arcLength(polygon, True)
    if area == 0 or perimeter == 0:
        return None
    offset = pyclipper.PyclipperOffset()
    # Clipper works on integers: corners are truncated to whole pixels, as in PP-OCR's own post-processing.
    offset.AddPath(polygon.astype(np.int64).tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    outlines = offset.Execute(area * ratio / perimeter)
    if len(outlines) != 1:
        return None
    return np.array(outlines[0], dtype=np.float32)


def is_slanted(polygon: Polygon, slant: tuple[float, float]) -> bool:
    """Return whether a rectangle is a line whose absolute slope is in `slant`."""
    line = measure_line(polygon)
    least, most = slant
    return line.length >= SLANTED_RATIO * line.height and least * abs(line.dx) <= abs(line.dy) <= most * abs(line.dx)


@dataclass(frozen=True)
class Line:
    """A rectangle as a line of text: lengths of its longer and shorter side, and the longer side as a vector."""

    length: float
    height: float
    dx: float
    dy: float


def measure_line(polygon: Polygon) -> Line:
    """Return the longer and the shorter side of a rectangle."""
    (left, top), (right, right_top), _, (bottom_left, bottom) = polygon.astype(float).tolist()
    across, down = (right - left, right_top - top), (bottom_left - left, bottom - top)
    length, height = math.hypot(*across), math.hypot(*down)
    return Line(length, height, *across) if length >= height else Line(height, length, *down)


def join_pieces(boxes: list[TextBox], spare: list[TextBox], height: int, width: int) -> list[TextBox]:
    """Return the boxes with the pieces of steeply slanted lines joined; others are unchanged and keep their order.

    Pieces may also come from `spare`: boxes that are too uncertain on their own. A joined box has whole pixels inside
    the `height` × `width` image, and the score of the longer part.
    """
    lines = [*boxes, *spare]
    quads = np.array([box.polygon for box in lines], dtype=float).reshape(-1, 4, 2)
    count = len(boxes)
    i = unchanged = 0
    while unchanged < count:
        i %= count
        found = _find_piece(quads, i)
        if found is None:
            i += 1
            unchanged += 1
            continue
        k, quad = found
        polygon = np.clip(np.rint(quad), 0, [width, height]).astype(np.float32)
        lines[i] = TextBox(polygon, lines[i].det_score)
        quads[i] = polygon
        del lines[k]
        quads = np.delete(quads, k, axis=0)
        if k < count:
            count -= 1
            i -= k < i
        # The joined line may reach another piece.
        unchanged = 0
    return lines[:count]


def _find_piece(quads: NDArray[np.float64], i: int) -> tuple[int, Polygon] | None:
    """Return the index of the first piece of line `i` of `quads` (N × 4 × 2), and the rectangle around both.

    A piece is no longer than the line, reaches one of its ends, and continues its direction. None if there is none.
    """
    polygon = quads[i].astype(np.float32)
    if not is_slanted(polygon, BREAKING_SLANT):
        return None
    line = measure_line(polygon)
    direction = np.array([line.dx, line.dy]) / line.length
    gap = PIECE_GAP * line.height
    # Skip lines that are far away, which is most of a page, by one corner of each.
    x, y = (quads[:, 0] - polygon[0]).T
    along, off = x * direction[0] + y * direction[1], y * direction[0] - x * direction[1]
    reach = line.length + gap + 1
    is_close = (along >= -reach) & (along <= line.length + reach) & (np.abs(off) <= _limit_distance(line))
    close = np.flatnonzero(is_close)
    along = (quads[close] - polygon[0]) @ direction
    starts, ends = along.min(axis=1), along.max(axis=1)
    near = (ends - starts <= line.length) & (ends >= -gap) & (starts <= line.length + gap)
    for k in close[near].tolist():
        if k != i:
            quad, side = fit_quad(np.vstack([polygon, quads[k].astype(np.float32)]))
            if side <= PIECE_HEIGHT * line.height:
                return k, quad
    return None


def _limit_distance(line: Line) -> float:
    """Return the largest distance of a piece's corner from the longer side of a line.

    The corner and that side form a triangle inside the rectangle around both. Its smallest height, on its longest side,
    is at most the rectangle's shorter side, plus a pixel because OpenCV computes in 32 bits.
    """
    height = PIECE_HEIGHT * line.height + 1
    longest = 2 * line.length + PIECE_GAP * line.height
    return height * longest / math.sqrt(line.length**2 - height**2) if line.length > height else math.inf


def measure_tilt(boxes: list[TextBox]) -> float:
    """Return the slope (dy / dx) of the page that contains the boxes, up to `MAX_TILT`.

    This is the median slope of the boxes that are clearly wider than high, weighted by width. 0 if the page is level or
    steeper, or if fewer than two boxes, or less than two thirds of the weight, agree on the slope.
    """
    slopes = []
    for box in boxes:
        # Sum of the upper and the lower edge.
        top_left, top_right, bottom_right, bottom_left = box.polygon.astype(float).tolist()
        run = top_right[0] - top_left[0] + bottom_right[0] - bottom_left[0]
        rise = top_right[1] - top_left[1] + bottom_right[1] - bottom_left[1]
        height = math.dist(top_left, bottom_left) + math.dist(top_right, bottom_right)
        if run >= TILT_RATIO * height and run > 0:
            slopes.append((rise / run, run))
    slopes.sort()
    total = sum(run for _, run in slopes)
    passed = tilt = 0.0
    for slope, run in slopes:
        passed += run
        if 2 * passed >= total:
            tilt = slope
            break
    agreeing = [run for slope, run in slopes if abs(slope - tilt) <= TILT_SPREAD]
    if len(agreeing) < 2 or 3 * sum(agreeing) < 2 * total or not LEAST_TILT <= abs(tilt) <= MAX_TILT:
        return 0.0
    return tilt


def sort_reading_order(boxes: list[TextBox], right_to_left: bool = False) -> list[TextBox]:
    """Return the boxes from top to bottom, and from left to right, or right to left, within a row.

    A row is a run of boxes whose top corners, on the side where rows start, differ in y by less than `ROW_TOLERANCE` of
    the median height from the one before. If the page is tilted (`measure_tilt`), x and y are those of the page.
    """
    if not boxes:
        return []
    # Length of the left side: for slanted lines, this is the line's height and not the extent in y.
    heights = [math.dist(box.polygon[0], box.polygon[3]) for box in boxes]
    tolerance = ROW_TOLERANCE * sorted(heights)[len(heights) // 2]
    tilt = measure_tilt(boxes)
    corner, sign = (1, -1) if right_to_left else (0, 1)
    placed = []
    for box in boxes:
        x, y = box.polygon[corner].astype(float).tolist()
        placed.append((y - tilt * x, sign * (x + tilt * y), box))
    placed.sort(key=lambda place: place[:2])
    for end in range(1, len(placed)):
        for i in range(end, 0, -1):
            (above, left, _), (below, right, _) = placed[i - 1], placed[i]
            if not (abs(below - above) < tolerance and right < left):
                break
            placed[i - 1], placed[i] = placed[i], placed[i - 1]
    return [box for _, _, box in placed]


def measure_sides(polygon: Polygon) -> tuple[int, int]:
    """Return width and height of a polygon's crop before turning, at least 1 px each."""
    top_left, top_right, bottom_right, bottom_left = polygon
    width = max(1, int(max(math.dist(top_left, top_right), math.dist(bottom_left, bottom_right))))
    height = max(1, int(max(math.dist(top_left, bottom_left), math.dist(top_right, bottom_right))))
    return width, height


def is_vertical(width: int, height: int) -> bool:
    """Return whether a crop is vertical text."""
    return height >= width * VERTICAL_RATIO


def crop_polygon(image: BgrImage, polygon: Polygon) -> BgrImage:
    """Cut a quadrilateral out of the image and straighten it; upright text is horizontal afterwards.

    A crop at least `VERTICAL_RATIO` times taller than wide is turned by 90° counter-clockwise. Sides are at least 1 px.
    """
    width, height = measure_sides(polygon)
    if _is_upright(polygon, image.shape[0], image.shape[1]):
        # Nothing to straighten, as for two of three lines in a scan: the warp would not move any pixel.
        left, top = polygon[0].astype(int)
        return _lay(image[top : top + height, left : left + width])
    # Only pass on the part around the quadrilateral: OpenCV 4 refuses pictures with a side above 32766. Cubic
    # interpolation reads two pixels to each side.
    left, top = np.maximum(np.floor(polygon.min(axis=0)).astype(int) - 3, 0)
    right, bottom = np.ceil(polygon.max(axis=0)).astype(int) + 4
    part = image[top:bottom, left:right]
    corners = (polygon - [left, top]).astype(np.float32)
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    return _lay(_warp(part, cv2.getPerspectiveTransform(target, corners), height, width))


def _is_upright(polygon: Polygon, height: int, width: int) -> bool:
    """Return whether a quadrilateral is an axis-aligned rectangle of whole pixels inside the image."""
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
    if is_vertical(crop.shape[1], crop.shape[0]):
        return np.asarray(cv2.rotate(crop, cv2.ROTATE_90_COUNTERCLOCKWISE), dtype=np.uint8)
    return crop


def _warp(image: BgrImage, matrix: Any, height: int, width: int) -> BgrImage:
    """Return `height` × `width` pixels sampled from `image`; `matrix` (3 × 3) maps each pixel to its source position.

    cv2.warpPerspective of OpenCV 5 differs by up to 3 of 255 from that of OpenCV 4, which boards have; that adds or
    drops spaces. Source positions in steps of 1/32 pixel, as in OpenCV 4, and floating-point sums agree in both.
    """
    x, y = np.arange(width), np.arange(height)[:, np.newaxis]
    across, down, depth = (row[0] * x + row[1] * y + row[2] for row in matrix)
    scale = np.divide(_STEPS, depth, out=np.zeros_like(depth), where=depth != 0)
    # A quadrilateral without area may map anywhere.
    places = np.rint(np.dstack([across * scale, down * scale]).clip(-_FAR, _FAR)).astype(np.int32)
    pixels, steps = places // _STEPS, places % _STEPS
    table = (steps[:, :, 1] * _STEPS + steps[:, :, 0]).astype(np.uint16)
    found = cv2.remap(
        image.astype(np.float32), pixels.astype(np.int16), table, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)
