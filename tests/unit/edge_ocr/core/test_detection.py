"""DB post-processing on synthetic prob maps."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from edge_ocr.config import load_config
from edge_ocr.core.detection import TextDetector, find_boxes, score_quad

SETTINGS = load_config().detection


def make_map(*blocks: tuple[int, int, int, int, float], height: int = 128, width: int = 256) -> np.ndarray:
    """A prob map with rectangles: x, y, width, height, probability."""
    prob_map = np.zeros((height, width), np.float32)
    for x, y, w, h, prob in blocks:
        prob_map[y : y + h, x : x + w] = prob
    return prob_map


def find(prob_map: np.ndarray, scale: float = 1, **changes: object) -> list:
    height, width = (round(side * scale) for side in prob_map.shape)
    return find_boxes(prob_map, height, width, replace(SETTINGS, **changes))


def test_one_block_is_one_grown_box():
    (box,) = find(make_map((50, 40, 100, 10, 0.9)))
    # The outline is that of pixel centres: 99 × 9, grown by area × 1.5 / perimeter.
    grown = 99 * 9 * 1.5 / (2 * (99 + 9))
    expected = [[50 - grown, 40 - grown], [149 + grown, 49 + grown]]
    np.testing.assert_allclose(box.polygon[[0, 2]], expected, atol=1.5)
    assert box.det_score == pytest.approx(0.9, abs=1e-6)
    assert box.polygon.dtype == np.float32


@pytest.mark.parametrize(
    "prob_map",
    [
        make_map(),
        make_map((50, 40, 100, 10, 0.3)),  # not above the bin threshold
        make_map((50, 40, 100, 10, 0.59)),  # above it, below the box threshold
        make_map((50, 40, 100, 3, 0.9)),  # 2 px between pixel centres: noise
    ],
    ids=["empty", "faint", "unsure", "thin"],
)
def test_values_below_a_threshold_give_no_box(prob_map):
    assert find(prob_map) == []


def test_thresholds_are_those_of_the_settings():
    faint = make_map((50, 40, 100, 10, 0.25))
    assert len(find(faint, bin_threshold=0.2, box_threshold=0.2)) == 1
    assert find(faint, bin_threshold=0.2, box_threshold=0.26) == []
    wide = find(make_map((50, 40, 100, 10, 0.9)), unclip_ratio=3.0)[0].polygon
    narrow = find(make_map((50, 40, 100, 10, 0.9)), unclip_ratio=1.0)[0].polygon
    assert cv2.contourArea(wide) > cv2.contourArea(narrow)


@pytest.mark.parametrize("scale", [0.5, 2, 3.7])
def test_boxes_are_in_pixels_of_the_picture(scale):
    prob_map = make_map((50, 40, 100, 20, 0.9))
    (small,), (large,) = find(prob_map), find(prob_map, scale)
    np.testing.assert_allclose(large.polygon, small.polygon * scale, atol=1 + scale)
    assert (large.polygon == np.round(large.polygon)).all()


def test_box_at_the_border_stays_inside_the_picture():
    (box,) = find(make_map((0, 0, 256, 128, 0.9)))
    np.testing.assert_array_equal(box.polygon, [[0, 0], [256, 0], [256, 128], [0, 128]])


def test_boxes_come_in_reading_order():
    blocks = [(140, 60, 80, 12, 0.9), (20, 64, 80, 12, 0.8), (60, 10, 80, 12, 0.7)]
    boxes = find(make_map(*blocks))
    assert [box.det_score for box in boxes] == pytest.approx([0.7, 0.8, 0.9])


def test_candidates_are_limited():
    blocks = [(20, y, 80, 10, 0.9) for y in (10, 50, 90)]
    assert len(find(make_map(*blocks))) == 3
    assert len(find(make_map(*blocks), max_candidates=2)) == 2


def test_turned_block_gives_a_turned_box():
    prob_map = np.zeros((200, 300), np.float32)
    corners = cv2.boxPoints(((150.0, 100.0), (160.0, 20.0), 25.0))
    cv2.fillPoly(prob_map, [corners.astype(np.int32)], 0.95)
    (box,) = find(prob_map)
    top = box.polygon[1] - box.polygon[0]
    assert np.degrees(np.arctan2(top[1], top[0])) == pytest.approx(25, abs=1.5)


def draw_bent(angle: float, half_width: float = 4) -> np.ndarray:
    """A thin and bent stroke, which fills half of the rectangle around it."""
    y, x = np.mgrid[:240, :240] - 120
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    along, off = x * cosine + y * sine, y * cosine - x * sine
    return np.where((abs(along) < 90) & (abs(off - 4 * np.sin(along / 25)) < half_width), np.float32(0.98), 0)


@pytest.mark.parametrize("angle", [-75, -60, -45, -30, 30, 45, 60, 75])
def test_slanted_line_is_scored_by_its_text(angle):
    (box,) = find(draw_bent(angle))
    assert box.det_score == pytest.approx(0.98, abs=1e-3)
    top = box.polygon[1] - box.polygon[0]
    assert np.degrees(np.arctan2(top[1], top[0])) == pytest.approx(angle, abs=2)


@pytest.mark.parametrize("angle", [0, 5, -5, 85, 90])
def test_level_and_vertical_lines_are_scored_by_their_rectangles(angle):
    assert find(draw_bent(angle)) == []


def test_slanted_noise_is_not_a_line():
    # A ring fills little of the rectangle around it.
    noise = np.zeros((240, 240), np.float32)
    cv2.ellipse(noise, (120, 120), (90, 25), 45, 0, 360, 0.98, 2)
    assert find(noise) == []
    faint = draw_bent(45) * np.float32(0.6)
    assert find(faint) == []


def test_score_is_the_mean_inside_the_quad_only():
    prob_map = make_map((0, 0, 256, 128, 0.2), (50, 40, 50, 10, 0.8))
    quad = np.array([[50, 40], [99, 40], [99, 49], [50, 49]], dtype=np.float32)
    assert score_quad(prob_map, quad) == pytest.approx(0.8, abs=1e-6)
    assert score_quad(prob_map, quad + np.array([50, 0], dtype=np.float32)) == pytest.approx(0.2, abs=1e-6)


def test_score_of_a_quad_that_leaves_the_map():
    quad = np.array([[-20, -20], [500, -20], [500, 400], [-20, 400]], dtype=np.float32)
    assert score_quad(make_map((0, 0, 256, 128, 0.5)), quad) == pytest.approx(0.5)


def test_detector_feeds_the_engine_and_scales_back():
    class Half:
        """Sees text in the left half of any input."""

        name = "half"

        def run(self, array: np.ndarray) -> np.ndarray:
            self.shape = array.shape
            prob_map = np.zeros((1, 1, *array.shape[2:]), np.float32)
            prob_map[..., : array.shape[3] // 2] = 0.9
            return prob_map

    engine = Half()
    (box,) = TextDetector(engine, SETTINGS).detect(np.zeros((1000, 2000, 3), np.uint8))
    assert engine.shape == (1, 3, 480, 960)
    assert box.polygon.min() == 0
    assert box.polygon[:, 1].max() == 1000
    assert 1000 <= box.polygon[:, 0].max() < 2000
