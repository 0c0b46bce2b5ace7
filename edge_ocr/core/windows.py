"""Detection of large pictures in overlapping windows: their scale, their places, and how boxes are merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .engines.base import Engine
from .geometry import measure_line
from .imaging import DETECTION_STRIDE, normalize_detection, resize_picture
from .settings import DetectionSettings
from .types import BgrImage, Polygon, TextBox

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Longest side of a window, and overlap of neighbours, in pixels that the network sees. A line up to half as high as the
# overlap is complete in one of them.
WINDOW_SIDE = 960
WINDOW_OVERLAP = 128

# A detection input with more pixels is computed in windows, whatever the settings: the memory of the network grows with
# its input, to 2.5 GB for 4000 × 3000. These windows and their overlap are larger: the text may be large, too.
MAX_WHOLE_PIXELS = 1280 * 1280
LARGE_WINDOW_SIDE = 1280
LARGE_WINDOW_OVERLAP = 320

# A window whose values all differ by less than this is blank, and the network does not run.
BLANK_RANGE = 8

# If the lower quartile of the box heights, as the network sees them, is below SMALL_BOX_PX, text is too small to be
# detected completely, and the scale is increased to make it LEGIBLE_BOX_PX. Measured with PP-OCRv4 mobile at 960: pages
# of 7 to 11 pt have 11 to 17, receipts 18 to 21, a phone's screen 17, reduced photos 15 and more.
SMALL_BOX_PX = 15.0
LEGIBLE_BOX_PX = 26.0

# At VISIBLE_SCALE most text of 14 px and more gives boxes; at 0.25 most gives none. Below BLIND_SCALE most text of
# 24 px gives none, so such a picture is always searched again.
VISIBLE_SCALE = 0.36
BLIND_SCALE = 0.2

# Up to this scale, at which text of 10 px is 6 px high, a picture is searched again for fine print outside all boxes.
PRINT_SCALE = 0.6

# From ENOUGH_SCALE on, a larger scale does not help. A scale of at least WHOLE_SCALE is rounded up to 1.
ENOUGH_SCALE = 0.9
WHOLE_SCALE = 0.75

# Boxes from windows grow by this share of their height on each side. Close to a picture's own scale, the network draws
# text more tightly than at a reduced scale, and the recogniser misses the outermost strokes: of the lines on 18 pages
# of small print, 87 % are read exactly without this, 97 % with it, 93 % at a side limit of 960.
WINDOW_MARGIN = 0.12

# A box from a coarser scale is dropped if finer boxes cover at least COVERED_SHARE of it. If it was at least
# CLEAR_BOX_PX high at its scale, it replaces pieces that are more than half as high: at larger scales the network
# breaks large text. A single box at least SAME_LINE of its length is the same line and is kept.
COVERED_SHARE = 0.3
CLEAR_BOX_PX = 20.0
SAME_LINE = 0.8

# A pixel of a stroke up to 3 px wide differs by STROKE_CONTRAST from the pixels 2 px to its left and right. In a tile
# of fine print, at least STROKE_SHARE of the pixels do (straight edges reach a quarter); a picture with a few such
# lines has TILE_SHARE of such tiles. Measured: three lines of grey 14 px text on 3840 × 2160 have 0.0007 and more; of
# eight photos enlarged 2.5 times, seven have at most 0.0001, and one with small print 0.0007.
STROKE_CONTRAST = 48
STROKE_SHARE = 0.3
TILE_SIDE = 16
TILE_SHARE = 0.0005
_STRIP_ROWS = 32 * TILE_SIDE

# Higher boxes, in pixels of the picture, do not cover fine print: they may be paragraphs mistaken for a line.
FINE_BOX_PX = 64.0


@dataclass(frozen=True)
class Span:
    """Where a window starts along one axis, and which part of the map it fills: seams halve each overlap."""

    start: int
    first: int
    end: int


def plan_spans(length: int, window_side: int = WINDOW_SIDE, overlap: int = WINDOW_OVERLAP) -> tuple[int, list[Span]]:
    """Return the size of the windows along an axis of `length` pixels, a multiple of 32, and their places.

    All have one size, so that the network sees one shape. The only window of a short axis may be longer than the axis.
    """
    count = 1
    if length > window_side:
        count = -(-(length - overlap) // (window_side - overlap))
    size = -(-(length + (count - 1) * overlap) // count)
    size = -(-size // DETECTION_STRIDE) * DETECTION_STRIDE
    starts = [i * (length - size) // (count - 1) for i in range(count)] if count > 1 else [0]
    seams = [(start + size + after) // 2 for start, after in zip(starts, starts[1:])]
    return size, [Span(*span) for span in zip(starts, [0, *seams], [*seams, length])]


def map_windows(engine: Engine, image: BgrImage, scale: float, settings: DetectionSettings) -> NDArray[np.uint8]:
    """Return the prob map (H × W) of `image` reduced by `scale`, computed window by window.

    uint8 in steps of 1/255, so that the map of a large picture takes a third of the picture's memory.
    """
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return _map_spans(engine, image, plan_spans(height), plan_spans(width), settings, BLANK_RANGE)


def map_large(
    engine: Engine, image: BgrImage, height: int, width: int, settings: DetectionSettings
) -> NDArray[np.uint8]:
    """Return the prob map (`height` × `width`) of `image` resized to that, as `map_windows` does, in larger windows.

    As nothing else may look at them, windows with faint text are not blank.
    """
    vertical, horizontal = (plan_spans(side, LARGE_WINDOW_SIDE, LARGE_WINDOW_OVERLAP) for side in (height, width))
    return _map_spans(engine, image, vertical, horizontal, settings, 1)


def _map_spans(
    engine: Engine,
    image: BgrImage,
    vertical: tuple[int, list[Span]],
    horizontal: tuple[int, list[Span]],
    settings: DetectionSettings,
    blank_range: int,
) -> NDArray[np.uint8]:
    """Return the prob map of `image` resized to the lengths that were given to `plan_spans`.

    It is 0 where all values of a window differ by less than `blank_range`.
    """
    (rows, downs), (columns, acrosses) = vertical, horizontal
    height, width = downs[-1].end, acrosses[-1].end
    if (height, width) != image.shape[:2]:
        image = resize_picture(image, width, height)
    prob_map: NDArray[np.uint8] = np.zeros((height, width), dtype=np.uint8)
    for down in downs:
        for across in acrosses:
            window = image[down.start : down.start + rows, across.start : across.start + columns]
            if int(window.max()) - int(window.min()) < blank_range:
                continue
            missing = rows - window.shape[0], columns - window.shape[1]
            if any(missing):
                window = np.pad(window, ((0, missing[0]), (0, missing[1]), (0, 0)), "edge")
            probs = engine.run(normalize_detection(window, settings))[0, 0]
            part = np.nan_to_num(probs[down.first - down.start :, across.first - across.start :])
            part = part[: down.end - down.first, : across.end - across.first].clip(0, 1)
            prob_map[down.first : down.end, across.first : across.end] = np.rint(part * 255)
    return prob_map


def plan_finer_scale(image: BgrImage, scale: float, boxes: list[TextBox]) -> float | None:
    """Return the scale, at most 1, at which `image` must be searched again; None if `scale` is sufficient.

    `boxes` are those found at `scale`.
    """
    if scale > ENOUGH_SCALE:
        return None
    heights = sorted(measure_line(box.polygon).height * scale for box in boxes)
    low = heights[len(heights) // 4] if heights else SMALL_BOX_PX
    if scale >= BLIND_SCALE and low < SMALL_BOX_PX:
        finer = scale * LEGIBLE_BOX_PX / low
    elif scale < BLIND_SCALE or (scale <= PRINT_SCALE and has_fine_print(image, boxes)):
        # VISIBLE_SCALE shows how large the text is; if it shows none, continue at the picture's own scale.
        finer = VISIBLE_SCALE if scale < VISIBLE_SCALE else 1.0
    else:
        return None
    return finer if finer < WHOLE_SCALE else 1.0


def has_fine_print(image: BgrImage, boxes: list[TextBox]) -> bool:
    """Return whether an image, H × W × 3, has strokes as thin and dense as text of 12 to 24 px outside the boxes.

    Most photos are too soft for that at full size.
    """
    rows, columns = (side // TILE_SIDE for side in image.shape[:2])
    if rows == 0 or columns == 0:
        return False
    kernel = np.array([[-1, 0, 2, 0, -1]], dtype=np.float32)
    found = []
    # In strips: for a large picture at once, the arrays would take several times its memory.
    for top in range(0, rows * TILE_SIDE, _STRIP_ROWS):
        green = cv2.extractChannel(image[top : min(top + _STRIP_ROWS, rows * TILE_SIDE)], 1)
        contrast = cv2.filter2D(green, cv2.CV_16S, kernel, borderType=cv2.BORDER_REPLICATE)
        strokes = (np.abs(contrast) >= 2 * STROKE_CONTRAST)[:, : columns * TILE_SIDE]
        counts = strokes.reshape(-1, TILE_SIDE, columns, TILE_SIDE).sum(axis=(1, 3))
        tiles = np.argwhere(counts >= STROKE_SHARE * TILE_SIDE**2)
        tiles[:, 0] += top // TILE_SIDE
        found.append(tiles)
    # Centres of the tiles, as (x, y).
    centres = (np.concatenate(found)[:, ::-1] * TILE_SIDE + TILE_SIDE / 2).astype(np.float32)
    for box in boxes:
        if measure_line(box.polygon).height <= FINE_BOX_PX:
            centres = centres[~_contain(_expand(box.polygon, TILE_SIDE)[np.newaxis], centres)]
    return bool(len(centres) >= TILE_SHARE * rows * columns)


def _expand(polygon: Polygon, margin: float) -> Polygon:
    """Return a rectangle grown by `margin` pixels on each side."""
    sides = (polygon[[1, 3]] - polygon[0]).astype(float)
    across, down = (side * margin / max(float(np.hypot(*side)), 1.0) for side in sides)
    corners = polygon + np.array([-across - down, across - down, across + down, down - across])
    return np.asarray(corners, dtype=np.float32)


def grow_box(box: TextBox, height: int, width: int) -> TextBox:
    """Grow a box on each side by `WINDOW_MARGIN` of its height; the result has whole pixels inside the image."""
    polygon = _expand(box.polygon, WINDOW_MARGIN * measure_line(box.polygon).height)
    return TextBox(np.clip(np.round(polygon), 0, [width, height]).astype(np.float32), box.det_score)


def merge_boxes(fine: list[TextBox], coarse: list[TextBox], scale: float) -> list[TextBox]:
    """Merge boxes of a finer scale with those of a coarser one, `scale`, that show other text; in no particular order.

    A coarser box is kept if finer ones do not cover it (or touch it, unless it is clear). If it is clear, it replaces
    its pieces among the finer boxes. Small lines that it mistook for one line are not pieces.
    """
    if not fine:
        return list(coarse)
    quads = np.stack([box.polygon for box in fine])
    centres = quads.mean(axis=1)
    areas = np.array([_measure_area(quad) for quad in quads])
    lines = [measure_line(quad) for quad in quads]
    least, most = quads.min(axis=1), quads.max(axis=1)
    heights, lengths = np.array([line.height for line in lines]), np.array([line.length for line in lines])
    is_replaced = np.zeros(len(fine), dtype=bool)
    kept = []
    for box in coarse:
        inside = _contain(box.polygon[np.newaxis], centres)
        line = measure_line(box.polygon)
        pieces = lengths[inside & (heights > line.height / 2)]
        is_broken = len(pieces) > 1 or (len(pieces) == 1 and bool(pieces[0] < SAME_LINE * line.length))
        is_clear = line.height * scale >= CLEAR_BOX_PX
        touched = (least < box.polygon.max(axis=0)) & (most > box.polygon.min(axis=0))
        if is_clear and is_broken:
            is_replaced |= inside
            kept.append(box)
        elif not (
            areas[inside].sum() >= COVERED_SHARE * _measure_area(box.polygon)
            or _contain(quads, box.polygon.mean(axis=0)).any()
            or (not is_clear and touched.all(axis=1).any())
        ):
            kept.append(box)
    return [box for box, is_gone in zip(fine, is_replaced) if not is_gone] + kept


def _contain(quads: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return whether each convex quadrilateral (N × 4 × 2) contains its point (N × 2); either N may be 1."""
    edges = np.roll(quads, -1, axis=1) - quads
    ways = points.reshape(-1, 1, 2) - quads
    turns = edges[..., 0] * ways[..., 1] - edges[..., 1] * ways[..., 0]
    return np.asarray((turns >= 0).all(axis=1) | (turns <= 0).all(axis=1))


def _measure_area(polygon: Polygon) -> float:
    return abs(cv2.contourArea(polygon))
