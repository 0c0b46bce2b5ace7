"""Corner order, growth, reading order and crops."""

from __future__ import annotations

import itertools
import math
import random

import cv2
import numpy as np
import pytest

from edge_ocr.core import geometry
from edge_ocr.core.geometry import (
    crop_polygon,
    fit_quad,
    join_pieces,
    measure_tilt,
    order_corners,
    sort_reading_order,
    unclip,
)
from edge_ocr.core.types import TextBox


def make_box(x: float, y: float, width: float = 50, height: float = 20) -> TextBox:
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
    return TextBox(np.array(corners, dtype=np.float32), 0.9)


def make_picture(height: int, width: int) -> np.ndarray:
    """A picture in which every pixel encodes its position."""
    y, x = np.mgrid[:height, :width]
    return np.dstack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x + y) % 256]).astype(np.uint8)


SLANTED = [[10, 20], [110, 30], [105, 62], [7, 50]]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_corner_order_does_not_depend_on_the_input_order(order):
    corners = np.array(SLANTED, dtype=np.float32)
    np.testing.assert_array_equal(order_corners(corners[list(order)]), corners)


@pytest.mark.parametrize("angle", range(0, 180, 9))
def test_ordered_corners_go_round_once_and_clockwise(angle):
    # On a screen, where y grows downwards, TL TR BR BL is clockwise: the signed area is positive.
    corners = cv2.boxPoints(((200.0, 150.0), (120.0, 30.0), angle))
    ordered = order_corners(corners)
    assert cv2.contourArea(ordered, oriented=True) == pytest.approx(3600, rel=1e-4)
    left, right = ordered[[0, 3], 0].mean(), ordered[[1, 2], 0].mean()
    assert left < right


def test_square_on_its_corner_keeps_all_corners():
    diamond = np.array([[10, 0], [20, 10], [10, 20], [0, 10]], dtype=np.float32)
    for order in itertools.permutations(range(4)):
        ordered = order_corners(diamond[list(order)])
        assert cv2.contourArea(ordered) == pytest.approx(200)


def test_fitted_rectangle_of_turned_points_has_their_sides():
    corners = cv2.boxPoints(((100.0, 80.0), (90.0, 24.0), 17.0))
    inside = np.array([corners.mean(axis=0)])
    quad, side = fit_quad(np.vstack([corners, inside]).astype(np.float32))
    assert side == pytest.approx(24, abs=1e-3)
    np.testing.assert_allclose(quad, order_corners(corners), atol=1e-3)


@pytest.mark.parametrize("ratio", [1.0, 1.5, 3.0])
def test_unclip_moves_every_side_out_by_area_times_ratio_over_perimeter(ratio):
    box = make_box(100, 100, 200, 20).polygon
    offset = 200 * 20 * ratio / (2 * 220)
    outline = unclip(box, ratio)
    # Clipper returns whole pixels.
    np.testing.assert_allclose(outline.min(axis=0), [100 - offset, 100 - offset], atol=1)
    np.testing.assert_allclose(outline.max(axis=0), [300 + offset, 120 + offset], atol=1)


@pytest.mark.parametrize("corners", [[[5, 5]] * 4, [[0, 3], [9, 3], [9, 3], [0, 3]]], ids=["point", "line"])
def test_unclip_of_a_box_without_area_returns_none(corners):
    assert unclip(np.array(corners, dtype=np.float32), 1.5) is None


def test_reading_order_is_rows_from_the_top_then_left_to_right():
    # Boxes are 20 px high: within 10 px of the one before counts as the same row; 10 px does not.
    rows = [
        [make_box(10, 104), make_box(100, 100), make_box(200, 109)],
        [make_box(300, 120), make_box(400, 121)],
        [make_box(5, 200)],
    ]
    expected = [box for row in rows for box in row]
    for seed in range(20):
        shuffled = expected.copy()
        random.Random(seed).shuffle(shuffled)
        assert sort_reading_order(shuffled) == expected
    assert sort_reading_order([]) == []


@pytest.mark.parametrize("scale", [3, 10])
def test_reading_order_does_not_depend_on_scale(scale):
    generator = np.random.default_rng(0)
    for _ in range(30):
        places = generator.integers(0, (600, 120, 12), (25, 3))
        boxes = [(int(x), int(y), 50, 14 + int(more)) for x, y, more in places]
        orders = []
        for factor in (1, scale):
            drawn = [make_box(*(factor * number for number in box)) for box in boxes]
            numbers = {id(box): i for i, box in enumerate(drawn)}
            orders.append([numbers[id(box)] for box in sort_reading_order(drawn)])
        assert orders[0] == orders[1]


def test_lines_of_small_print_are_separate_rows():
    # 9 px apart and 8 px high; with 10 px for every picture they would be one row.
    upper, lower = make_box(100, 100, height=8), make_box(10, 109, height=8)
    assert sort_reading_order([lower, upper]) == [upper, lower]


def test_boxes_ten_pixels_apart_are_two_rows():
    upper, lower = make_box(100, 100), make_box(10, 110)
    assert sort_reading_order([lower, upper]) == [upper, lower]
    lower = make_box(10, 109)
    assert sort_reading_order([lower, upper]) == [lower, upper]


def turn_box(box: TextBox, angle: float) -> TextBox:
    """Turn a box clockwise around the origin, by degrees, to whole pixels."""
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turned = np.rint(box.polygon @ np.array([[cosine, sine], [-sine, cosine]]) + 400)
    return TextBox(turned.astype(np.float32), box.det_score)


def make_table(angle: float, *, columns: int = 4) -> list[TextBox]:
    """Boxes of a table in reading order, on a page that is turned clockwise."""
    return [turn_box(make_box(290 * (i % columns), 60 * (i // columns), 140, 28), angle) for i in range(4 * columns)]


@pytest.mark.parametrize("angle", [0, 0.4, 1, 2.5, 5, 10, -0.4, -1, -2.5, -5, -10])
def test_reading_order_follows_the_tilt_of_the_page(angle):
    table = make_table(angle)
    for seed in range(10):
        shuffled = table.copy()
        random.Random(seed).shuffle(shuffled)
        assert sort_reading_order(shuffled) == table


@pytest.mark.parametrize("angle", [0.6, 3, 10, -0.6, -3, -10])
def test_tilt_is_the_slope_of_the_boxes(angle):
    assert measure_tilt(make_table(angle)) == pytest.approx(np.tan(np.radians(angle)), abs=0.005)


def test_a_few_odd_boxes_do_not_change_the_tilt():
    table = make_table(3)
    odd = [turn_box(make_box(0, 300 + 50 * i, 120, 28), angle) for i, angle in enumerate((-20, 15, 40))]
    assert measure_tilt([*odd, *table]) == pytest.approx(np.tan(np.radians(3)), abs=0.005)


@pytest.mark.parametrize(
    "boxes",
    [
        [],
        make_table(3)[:1],
        make_table(0.4),
        make_table(15),
        # Columns of vertical text, and boxes that are hardly wider than high.
        [turn_box(make_box(60 * i, 0, 28, 300), 3) for i in range(6)],
        [turn_box(make_box(60 * i, 0, 40, 28), 3) for i in range(6)],
        # Angles as on packaging.
        [turn_box(make_box(0, 50 * i, 140, 28), angle) for i, angle in enumerate((-30, -12, 3, 5, 19, 33))],
    ],
    ids=["none", "one", "level", "steep", "vertical", "short", "mixed"],
)
def test_no_tilt_without_evidence(boxes):
    assert measure_tilt(boxes) == 0


def make_line(angle: float, start: float, end: float, off: float = 0, height: float = 30) -> TextBox:
    """A box along a direction through (400, 400), from `start` to `end` on it, with ordered corners."""
    box = turn_box(make_box(start, off - height / 2, end - start, height), angle)
    return TextBox(order_corners(box.polygon), (end - start) / 1000)


def join(*boxes: TextBox, spare: tuple[TextBox, ...] = ()) -> list[TextBox]:
    return join_pieces(list(boxes), list(spare), 800, 800)


@pytest.mark.parametrize("angle", [-60, -45, 45, 60])
def test_pieces_of_a_slanted_line_are_joined(angle):
    whole, level = make_line(angle, -150, 200), make_box(10, 10)
    pieces = [make_line(angle, 80, 200), make_line(angle, -150, 20), make_line(angle, 10, 90)]
    for order in itertools.permutations(pieces):
        found, untouched = join(*order, level)
        np.testing.assert_allclose(found.polygon, whole.polygon, atol=3)
        assert (found.polygon == np.rint(found.polygon)).all()
        assert untouched is level
        assert found.det_score in (pieces[0].det_score, pieces[1].det_score)


def test_an_uncertain_box_counts_only_as_a_piece():
    line, end = make_line(50, -150, 100), make_line(50, 95, 130)
    (found,) = join(line, spare=(end, make_line(50, 170, 200)))
    np.testing.assert_allclose(found.polygon, make_line(50, -150, 130).polygon, atol=3)
    assert join(spare=(end,)) == []


@pytest.mark.parametrize(
    "boxes",
    [
        (make_line(0, -150, 0), make_line(0, -5, 100)),
        (make_line(20, -150, 0), make_line(20, -5, 100)),
        (make_line(75, -150, 0), make_line(75, -5, 100)),
        (make_line(45, -150, 0), make_line(45, 20, 100)),
        (make_line(45, -150, 0), make_line(45, -5, 100, off=32)),
        (make_line(45, -150, 0), make_line(45, -120, -10, off=32)),
        (make_line(45, -150, 0), make_line(-45, -20, 60)),
        (make_line(45, -150, 0), make_line(45, -20, 30, height=60)),
        (make_line(45, -30, 30), make_line(45, 25, 60)),
    ],
    ids=["level", "slight", "nearly vertical", "apart", "next line", "beside", "across", "higher", "short"],
)
def test_boxes_that_are_not_pieces_stay_apart(boxes):
    assert join(*boxes) == list(boxes)


def make_slanted_page(angle: float) -> list[TextBox]:
    """24 broken lines, their pieces shuffled and slightly displaced."""
    rng = np.random.default_rng(round(angle) % 360)
    boxes = []
    for off in range(-360, 360, 30):
        ends = np.cumsum(rng.uniform(60, 110, 6)) - 300 + rng.uniform(-20, 20)
        for start, end in itertools.pairwise(ends):
            box = make_line(angle, start, end - rng.uniform(-5, 15), off + rng.normal(0, 3), 22)
            boxes.append(TextBox(np.rint(box.polygon), box.det_score))
    return [boxes[i] for i in rng.permutation(len(boxes))]


@pytest.mark.parametrize("angle", [-62, -45, 39, 45, 51])
def test_boxes_too_far_from_a_line_are_not_fitted(angle, monkeypatch):
    boxes = make_slanted_page(angle)
    fits = []
    monkeypatch.setattr(geometry, "fit_quad", lambda points: fits.append(1) or fit_quad(points))
    found = join_pieces(boxes[20:], boxes[:20], 800, 800)
    few = len(fits)
    assert len(found) < len(boxes) - 40
    monkeypatch.setattr(geometry, "_limit_distance", lambda line: math.inf)
    expected = join_pieces(boxes[20:], boxes[:20], 800, 800)
    assert few < (len(fits) - few) / 3
    assert [box.det_score for box in found] == [box.det_score for box in expected]
    np.testing.assert_array_equal([box.polygon for box in found], [box.polygon for box in expected])


def test_joined_boxes_stay_in_the_picture():
    pieces = make_line(45, -550, -400), make_line(45, -410, -300, off=8)
    assert min(piece.polygon.min() for piece in pieces) >= 0
    assert fit_quad(np.vstack([piece.polygon for piece in pieces]))[0].min() < -0.5
    (found,) = join(*pieces)
    assert found.polygon.min() == 0


def test_crop_of_an_upright_box_is_that_part_of_the_picture():
    picture = make_picture(120, 200)
    crop = crop_polygon(picture, make_box(30, 40, 60, 20).polygon)
    np.testing.assert_array_equal(crop, picture[40:60, 30:90])


def test_upright_boxes_are_cut_as_by_the_warp():
    """Also at the edges of the picture, where the warp reads pixels beyond it."""
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (60, 90, 3), np.uint8)
    boxes = [(0, 0, 90, 60), (0, 0, 1, 1), (89, 59, 90, 60), (0, 20, 90, 40), (30, 0, 60, 60)]
    boxes += [(x, y, x + w, y + h) for x, y, w, h in rng.integers(1, 31, (200, 4)).tolist() if y + h <= 60]
    for left, top, right, bottom in boxes:
        polygon = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
        nearly = polygon + np.float32([[0, 0], [0, 0], [1e-4, 0], [0, 0]])
        assert np.array_equal(crop_polygon(image, polygon), crop_polygon(image, nearly)), polygon


def test_crop_does_not_change_the_picture():
    picture = make_picture(50, 50)
    before = picture.copy()
    crop_polygon(picture, make_box(5, 5, 30, 10).polygon)
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("angle", [-60, -30, -5, 12, 44, 80])
def test_crop_straightens_a_turned_line(angle):
    line = np.full((40, 200, 3), 255, np.uint8)
    cv2.putText(line, "Straight 42", (8, 29), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (0, 0, 0), 2, cv2.LINE_AA)
    line = cv2.GaussianBlur(line, (0, 0), 1)
    matrix = cv2.getRotationMatrix2D((100, 20), angle, 1)
    matrix[:, 2] += [100, 130]
    turned = cv2.warpAffine(line, matrix, (400, 300), flags=cv2.INTER_CUBIC, borderValue=(255, 255, 255))
    corners = np.array([[0, 0], [200, 0], [200, 40], [0, 40]], dtype=np.float32)
    crop = crop_polygon(turned, (corners @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32))
    # Sides are whole pixels, truncated.
    height, width = crop.shape[:2]
    assert 39 <= height <= 40
    assert 199 <= width <= 200
    difference = np.abs(crop.astype(int) - cv2.resize(line, (width, height)))
    # Nearest-neighbour pixels differ by 4.6.
    assert difference.mean() < 3


def test_tall_crop_is_turned_counter_clockwise():
    picture = make_picture(100, 100)
    crop = crop_polygon(picture, make_box(10, 20, 20, 30).polygon)
    np.testing.assert_array_equal(crop, np.rot90(picture[20:50, 10:30]))


def test_crop_just_below_the_vertical_ratio_is_not_turned():
    crop = crop_polygon(make_picture(100, 100), make_box(10, 20, 20, 29).polygon)
    assert crop.shape == (29, 20, 3)


@pytest.mark.parametrize(
    "corners",
    [[[3, 3]] * 4, [[0, 0], [40, 0], [40, 0], [0, 0]], [[0, 0], [0.4, 0], [0.4, 0.4], [0, 0.4]]],
    ids=["point", "line", "below a pixel"],
)
def test_crop_of_a_tiny_box_has_a_pixel(corners):
    crop = crop_polygon(make_picture(50, 50), np.array(corners, dtype=np.float32))
    assert crop.size > 0
    assert crop.dtype == np.uint8


def test_crop_far_to_the_right_of_a_very_wide_picture():
    # OpenCV's remapping counts in 16 bits.
    picture = np.zeros((20, 40_000, 3), np.uint8)
    picture[:, 38_000:38_100] = make_picture(20, 100)
    crop = crop_polygon(picture, make_box(38_000, 0, 100, 20).polygon)
    np.testing.assert_array_equal(crop, picture[:, 38_000:38_100])


def test_crop_at_the_far_corner_of_a_very_wide_picture():
    picture = np.zeros((20, 40_000, 3), np.uint8)
    picture[5:, 39_900:] = make_picture(15, 100)
    crop = crop_polygon(picture, make_box(39_900, 5, 100, 15).polygon)
    np.testing.assert_array_equal(crop, picture[5:, 39_900:])


def weigh_cubic(part: np.ndarray) -> np.ndarray:
    """Weights of four neighbours for a position `part` after the second; OpenCV's A = −0.75."""
    a = -0.75
    far, near = 1 + part, part
    first = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a
    second = ((a + 2) * near - (a + 3)) * near * near + 1
    third = ((a + 2) * (1 - near) - (a + 3)) * (1 - near) ** 2 + 1
    return np.stack([first, second, third, 1 - first - second - third], axis=-1)


def test_a_crop_does_not_depend_on_the_version_of_opencv():
    # OpenCV 4 and 5 transform differently; the same sums without OpenCV must give the same pixels.
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (60, 120, 3), dtype=np.uint8), (0, 0), 1)
    polygon = np.array([[20, 12], [100, 20], [98, 43], [18, 35]], np.float32)
    crop = crop_polygon(image, polygon)
    height, width = crop.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, polygon)
    places = np.stack([*np.meshgrid(np.arange(width), np.arange(height)), np.ones((height, width))], axis=-1) @ matrix.T
    places = np.rint(places[..., :2] / places[..., 2:] * 32) / 32
    whole = np.floor(places).astype(int)
    across, down = np.moveaxis(weigh_cubic(places - whole), 2, 0)
    expected = np.zeros(crop.shape)
    for row in range(4):
        for column in range(4):
            found = image[whole[..., 1] + row - 1, whole[..., 0] + column - 1]
            expected += found * (down[..., row] * across[..., column])[..., np.newaxis]
    difference = np.abs(crop - np.clip(np.rint(expected), 0, 255))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001
