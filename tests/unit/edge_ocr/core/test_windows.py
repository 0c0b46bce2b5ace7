"""Detection in windows: their places, when they are used, and what they find; on a fake engine."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from edge_ocr.config import load_config
from edge_ocr.core import windows
from edge_ocr.core.detection import TextDetector, find_boxes
from edge_ocr.core.imaging import prepare_detection
from edge_ocr.core.types import TextBox
from edge_ocr.core.windows import (
    LARGE_WINDOW_SIDE,
    MAX_WHOLE_PIXELS,
    WINDOW_OVERLAP,
    WINDOW_SIDE,
    grow_box,
    has_fine_print,
    map_windows,
    merge_boxes,
    plan_finer_scale,
    plan_spans,
)

SETTINGS = load_config().detection


class InkEngine:
    """Takes dark pixels for text if there are `least` rows of them; records the input shapes."""

    name = "ink"

    def __init__(self, least: int = 1) -> None:
        self.least = least
        self.shapes: list[tuple[int, ...]] = []

    def run(self, array: np.ndarray) -> np.ndarray:
        self.shapes.append(array.shape)
        ink = (array[0, 1] < 1).astype(np.uint8)
        if self.least > 1:
            ink = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((self.least, 1), np.uint8))
        return ink[np.newaxis, np.newaxis].astype(np.float32)


def make_page(height: int, width: int, *bars: tuple[int, int, int, int]) -> np.ndarray:
    """A white page with dark bars: x, y, width, height."""
    page = np.full((height, width, 3), 255, np.uint8)
    for x, y, w, h in bars:
        page[y : y + h, x : x + w] = 40
    return page


def make_box(x: float, y: float, width: float, height: float) -> TextBox:
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
    return TextBox(np.array(corners, np.float32), 0.9)


# Places


@pytest.mark.parametrize("length", [1, 31, 32, 500, 959, 960, 961, 1700, 1792, 1793, 2600, 9000, 17736])
def test_windows_cover_an_axis(length):
    size, spans = plan_spans(length)
    assert size % 32 == 0
    assert size <= WINDOW_SIDE
    assert [spans[0].first, spans[-1].end] == [0, length]
    assert all(before.end == after.first for before, after in itertools.pairwise(spans))
    for before, after in itertools.pairwise(spans):
        shared = before.start + size - after.start
        assert shared >= WINDOW_OVERLAP
        # The part of the map that counts is well inside its window.
        assert before.start + size - before.end >= WINDOW_OVERLAP // 2
        assert after.first - after.start >= WINDOW_OVERLAP // 2
    assert len(spans) == 1 or spans[-1].start + size == length


@pytest.mark.parametrize("size", [(40, 70), (960, 960), (1000, 1300), (2500, 601)])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_windows_make_one_map(size, scale):
    random = np.random.default_rng(5)
    page = make_page(*size, *[(*random.integers(0, min(size), 2), 60, 40) for _ in range(30)])
    engine = InkEngine()
    found = map_windows(engine, page, scale, SETTINGS)
    reduced = cv2.resize(page, (round(size[1] * scale), round(size[0] * scale)), interpolation=cv2.INTER_LINEAR)
    whole = InkEngine().run(windows.normalize_detection(reduced, SETTINGS))
    assert found.dtype == np.uint8
    assert np.array_equal(found, 255 * whole[0, 0].astype(np.uint8))
    # One window at a time, all of one shape.
    assert len(set(engine.shapes)) <= 1
    assert all(shape[0] == 1 and max(shape[2:]) <= WINDOW_SIDE for shape in engine.shapes)


def test_large_inputs_are_computed_in_windows_whatever_the_settings():
    # Across every seam: of the rows and of the columns.
    page = make_page(2400, 3200, *((40, y, 3100, 60) for y in range(40, 2300, 150)))
    settings = replace(SETTINGS, windows=False, limit_type="max", limit_side_len=4000)
    engine, whole = InkEngine(), InkEngine()
    boxes = TextDetector(engine, settings).detect(page)
    assert len(engine.shapes) > 1
    assert len(set(engine.shapes)) == 1
    assert max(engine.shapes[0]) <= LARGE_WINDOW_SIDE
    expected = find_boxes(whole.run(prepare_detection(page, settings))[0, 0], 2400, 3200, settings)
    assert whole.shapes == [(1, 3, 2400, 3200)]
    assert places(boxes) == places(expected)
    assert len(boxes) == 16


def test_inputs_up_to_the_limit_are_computed_whole():
    side = math.isqrt(MAX_WHOLE_PIXELS)
    page = make_page(side, side, (100, 100, 300, 40))
    settings = replace(SETTINGS, windows=False, limit_type="max", limit_side_len=side)
    engine = InkEngine()
    TextDetector(engine, settings).detect(page)
    TextDetector(engine, replace(settings, limit_side_len=4000)).detect(np.vstack([page, page[:64]]))
    assert engine.shapes[0] == (1, 3, side, side)
    # The other window is blank.
    assert engine.shapes[1:] == [(1, 3, 832, side)]


def test_faint_text_in_a_large_input_is_not_blank():
    side = math.isqrt(MAX_WHOLE_PIXELS) + 32
    page = make_page(side, side, (100, 100, 300, 40))
    page = np.where(page == 255, 255, 249).astype(np.uint8)
    engine = InkEngine()
    TextDetector(engine, replace(SETTINGS, windows=False, limit_type="max", limit_side_len=4000)).detect(page)
    assert len(engine.shapes) == 1
    assert map_windows(engine, page, 1.0, SETTINGS).any() is np.False_


def test_blank_windows_are_not_run():
    engine = InkEngine()
    page = make_page(300, 5000, (100, 50, 300, 20))
    page += np.random.default_rng(1).integers(0, 2, page.shape, dtype=np.uint8)  # 255 + 1 is 0: two specks of noise
    page[page == 0] = 255
    assert map_windows(engine, page, 1.0, SETTINGS).any()
    assert len(engine.shapes) == 1


# Use


def test_pictures_that_need_no_windows_are_searched_once():
    engine = InkEngine()
    page = make_page(1500, 900, *[(50, 60 * i + 20, 700, 24) for i in range(20)])
    (shape,) = {len(TextDetector(engine, replace(SETTINGS, windows=on)).detect(page)) for on in (True, False)}
    assert shape == 20
    assert len(engine.shapes) == 2


def test_small_text_is_searched_in_windows():
    # 20 px of 6000 become 3 px at a side limit of 960, too few for this engine.
    bars = [(100, 100 * i + 30, 1000, 20) for i in range(59)]
    page = make_page(6000, 1300, *bars)
    engine = InkEngine(least=4)
    assert TextDetector(engine, replace(SETTINGS, windows=False)).detect(page) == []
    found = TextDetector(engine, SETTINGS).detect(page)
    assert len(found) == len(bars)
    # In reading order, around their bars, and complete across seams.
    for box, (x, y, w, h) in zip(found, bars, strict=True):
        left, top = box.polygon[0]
        right, bottom = box.polygon[2]
        assert (left < x, top < y, right > x + w - 1, bottom > y + h - 1) == (True,) * 4
        assert (right - left < w + 50, bottom - top < h + 50) == (True, True)


def test_each_window_may_have_as_many_candidates_as_a_picture():
    page = make_page(6000, 800, *[(100, 60 * i + 10, 500, 20) for i in range(99)])
    settings = replace(SETTINGS, max_candidates=40)
    assert len(TextDetector(InkEngine(least=5), settings).detect(page)) == 99


@pytest.mark.parametrize(
    ("scale", "height", "finer"),
    [
        (1.0, 4, None),  # enlarging does not help
        (0.95, 4, None),
        (0.8, 30, None),
        (0.5, 31, None),  # 15.5 px
        (0.5, 29, 1.0),  # 14.5 px
        (0.25, 50, 0.52),  # 12.5 px become 26
        (0.15, 200, windows.VISIBLE_SCALE),  # large boxes say nothing about small text
        (0.15, 20, windows.VISIBLE_SCALE),
    ],
)
def test_the_next_scale(scale, height, finer):
    blank = np.full((50, 50, 3), 255, np.uint8)
    boxes = [make_box(0, 0, 300, height)] * 5
    found = plan_finer_scale(blank, scale, boxes)
    assert found == (None if finer is None else pytest.approx(finer))


def test_fine_print_outside_all_boxes_decides():
    page = make_page(800, 800, *[(x, y, 2, 10) for x in range(100, 500, 5) for y in range(100, 300, 20)])
    assert has_fine_print(page, [])
    assert has_fine_print(page, [make_box(100, 500, 400, 60)])
    # Found lines do not count; a box too high for such strokes is several lines.
    assert not has_fine_print(page, [make_box(95, 98 + 20 * i, 410, 14) for i in range(10)])
    assert has_fine_print(page, [make_box(95, 95, 410, 210)])
    heading = [make_box(0, 500, 300, 80)] * 5
    for scale, finer in ((0.1, 0.36), (0.25, 0.36), (windows.VISIBLE_SCALE, 1.0), (0.6, 1.0)):
        assert plan_finer_scale(page, scale, []) == plan_finer_scale(page, scale, heading) == finer
    assert plan_finer_scale(page, 0.61, heading) is None
    blank = np.full((800, 800, 3), 255, np.uint8)
    assert plan_finer_scale(blank, 0.25, []) is None
    assert plan_finer_scale(blank, 0.19, []) == windows.VISIBLE_SCALE


def test_fine_print_is_found_in_every_strip_and_corner():
    for top, left in ((0, 0), (1500, 0), (0, 800), (1500, 800), (700, 400)):
        page = make_page(1700, 1000, *[(left + x, top + y, 2, 10) for x in range(0, 160, 5) for y in range(0, 160, 20)])
        assert has_fine_print(page, []), (top, left)


def test_large_shapes_are_not_fine_print():
    assert not has_fine_print(make_page(800, 800, *[(x, 100, 40, 600) for x in range(100, 700, 80)]), [])
    assert not has_fine_print(np.full((15, 4000, 3), 255, np.uint8), [])


# Merging


def test_boxes_grow_by_a_share_of_their_height():
    box = grow_box(make_box(100, 50, 200, 50), 400, 600)
    np.testing.assert_array_equal(box.polygon, make_box(94, 44, 212, 62).polygon)
    inside = grow_box(make_box(0, 0, 600, 50), 55, 600).polygon
    np.testing.assert_array_equal(inside, make_box(0, 0, 600, 55).polygon)
    assert np.isfinite(grow_box(make_box(7, 7, 0, 0), 9, 9).polygon).all()


def places(boxes: list[TextBox]) -> list[list[float]]:
    return sorted(box.polygon[0].tolist() for box in boxes)


def test_boxes_found_only_at_a_coarser_scale_are_kept():
    fine = [make_box(10, 10, 200, 20)]
    coarse = [make_box(12, 12, 190, 18), make_box(8, 60, 210, 30)]
    assert places(merge_boxes(fine, coarse, 1.0)) == [[8, 60], [10, 10]]
    assert places(merge_boxes([], coarse, 1.0)) == places(coarse)
    assert places(merge_boxes(fine, [], 1.0)) == places(fine)


def test_uncertain_boxes_must_not_touch_known_ones():
    fine = [make_box(10, 10, 200, 20)]
    beside = [make_box(180, 24, 60, 20)]
    assert places(merge_boxes(fine, beside, 0.9)) == [[10, 10]]
    assert places(merge_boxes(fine, beside, 1.0)) == [[10, 10], [180, 24]]
    assert places(merge_boxes(fine, [make_box(211, 31, 60, 20)], 0.1)) == [[10, 10], [211, 31]]


def test_small_lines_that_a_coarser_scale_merged_stay():
    fine = [make_box(10, 10 + 30 * i, 200, 20) for i in range(7)]
    assert places(merge_boxes(fine, [make_box(8, 8, 204, 210)], 1.0)) == places(fine)


def test_large_text_broken_at_a_finer_scale_comes_from_the_coarser_one():
    pieces = [make_box(0, 0, 300, 190), make_box(320, 5, 200, 150)]
    whole = [make_box(0, 0, 520, 200)]
    assert places(merge_boxes(pieces, whole, 0.1)) == [[0, 0]]
    (kept,) = merge_boxes(pieces[:1], whole, 0.1)
    assert kept is whole[0]
    # It does not count if it was hardly visible at its scale, or if one box covers nearly all of it.
    assert places(merge_boxes(pieces, whole, 0.09)) == places(pieces)
    (kept,) = merge_boxes([make_box(0, 0, 430, 190)], whole, 0.5)
    assert kept is not whole[0]


def test_headings_and_small_print_are_found_once_each():
    class BreakingEngine(InkEngine):
        """Sees text from 7 rows on, and breaks text higher than 60."""

        def run(self, array):
            found = cv2.morphologyEx(super().run(array)[0, 0], cv2.MORPH_CLOSE, np.ones((1, 9), np.uint8))
            high = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((60, 1), np.uint8))
            high[:, ::97] = 0
            return np.where(cv2.dilate(high, np.ones((1, 3))) > 0, high, found)[np.newaxis, np.newaxis]

    headings = [(100, 100, 900, 80), (100, 1000, 700, 90)]
    small = [(100, 300 + 40 * i, 600, 12) for i in range(12)]
    strokes = [(x, y, 2, h) for left, y, w, h in small for x in range(left, left + w, 5)]
    page = make_page(1800, 2200, *headings, *strokes)
    assert len(TextDetector(BreakingEngine(least=7), replace(SETTINGS, windows=False)).detect(page)) == 2
    found = TextDetector(BreakingEngine(least=7), SETTINGS).detect(page)
    wanted = sorted([*headings, *small], key=lambda bar: bar[1])
    assert len(found) == len(wanted)
    for box, (x, y, w, _) in zip(found, wanted, strict=True):
        left, top = box.polygon[0]
        assert (abs(left - x) < 90, abs(top - y) < 90, box.polygon[1, 0] > x + w - 10) == (True,) * 3
