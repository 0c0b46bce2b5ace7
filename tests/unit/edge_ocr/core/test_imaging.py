"""From pixels to network inputs."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from edge_ocr.config import load_config
from edge_ocr.core.imaging import (
    MAX_DETECTION_SIDE,
    add_border,
    plan_border,
    plan_detection_size,
    prepare_detection,
    prepare_lines,
    resize_line,
)

SETTINGS = load_config().detection


@pytest.mark.parametrize(
    ("limit_type", "limit", "size", "expected"),
    [
        ("max", 960, (480, 640), (480, 640)),
        ("max", 960, (960, 960), (960, 960)),
        ("max", 960, (1080, 1920), (544, 960)),
        ("max", 960, (1920, 1080), (960, 544)),
        # 528 is 16.5 × 32, and Python rounds halves to the even number.
        ("max", 960, (528, 896), (512, 896)),
        ("min", 736, (736, 1000), (736, 992)),
        ("min", 736, (368, 500), (736, 992)),
        ("min", 736, (1000, 2000), (992, 1984)),
        ("long", 960, (480, 240), (960, 480)),
        ("long", 960, (1920, 960), (960, 480)),
        ("max", 960, (1, 1), (32, 32)),
        ("max", 960, (3, 500), (32, 512)),
        ("max", 960, (2, 100_000), (32, 960)),
        # Never more than the limit, however thin the picture.
        ("min", 736, (10, 500), (64, 4000)),
        ("min", 736, (5000, 9000), (2208, 4000)),
    ],
)
def test_detection_size(limit_type, limit, size, expected):
    settings = replace(SETTINGS, limit_type=limit_type, limit_side_len=limit)
    assert plan_detection_size(*size, settings) == expected


def test_detection_size_of_any_picture_fits_the_network():
    generator = random.Random(1)
    for _ in range(2000):
        size = (generator.randint(1, 20_000), generator.randint(1, 20_000))
        limit_type = generator.choice(["max", "min", "long"])
        settings = replace(SETTINGS, limit_type=limit_type, limit_side_len=generator.randint(32, 8192))
        planned = plan_detection_size(*size, settings)
        assert all(side % 32 == 0 and 32 <= side <= MAX_DETECTION_SIDE for side in planned)
        if limit_type != "min":
            # Rounding to 32 may go half a step up.
            assert max(planned) <= settings.limit_side_len + 16


def test_detection_input_normalises_each_bgr_channel():
    image = np.empty((64, 96, 3), np.uint8)
    image[:] = (10, 100, 200)
    tensor = prepare_detection(image, SETTINGS)
    assert tensor.shape == (1, 3, 64, 96)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    expected = [(value / 255 - m) / s for value, m, s in zip((10, 100, 200), SETTINGS.mean, SETTINGS.std, strict=True)]
    np.testing.assert_allclose(tensor[0].reshape(3, -1), np.array(expected)[:, None].repeat(64 * 96, 1), atol=1e-5)


def test_detection_input_keeps_places():
    image = np.zeros((64, 128, 3), np.uint8)
    image[:32, 64:] = 255
    tensor = prepare_detection(image, SETTINGS)[0, 0]
    assert tensor[:32, 64:].min() > 0 > tensor[32:].max()
    assert tensor[:32, :64].max() < 0


@pytest.mark.parametrize(
    ("shape", "max_width", "width"),
    [((48, 100), 3200, 100), ((24, 100), 3200, 200), ((96, 101), 3200, 51), ((300, 1), 3200, 1), ((10, 900), 320, 320)],
)
def test_line_is_scaled_to_the_height_and_at_most_the_width(shape, max_width, width):
    assert resize_line(np.zeros((*shape, 3), np.uint8), 48, max_width).shape == (48, width, 3)


def test_lines_are_padded_with_zeros_on_the_right():
    black, white = np.zeros((48, 20, 3), np.uint8), np.full((48, 64, 3), 255, np.uint8)
    white[..., 2] = 51
    batch = prepare_lines([black, white], 64)
    assert batch.shape == (2, 3, 48, 64)
    assert batch.dtype == np.float32
    assert (batch[0, :, :, :20] == -1).all()
    assert (batch[0, :, :, 20:] == 0).all()
    assert (batch[1, :2] == 1).all()
    np.testing.assert_allclose(batch[1, 2], (51 / 255 - 0.5) / 0.5, atol=1e-6)


# Strips


@pytest.mark.parametrize(
    ("size", "border"),
    [
        ((64, 64), 20),
        ((65, 65), 0),
        ((30, 17736), 20),
        ((160, 640), 20),
        ((160, 639), 0),
        ((2000, 161), 0),
        ((1, 1), 20),
    ],
)
def test_small_pictures_and_strips_get_a_border(size, border):
    assert plan_border(*size) == plan_border(*size[::-1]) == border


def test_a_border_has_the_colour_of_the_edge():
    image = np.full((20, 90, 3), (10, 200, 90), np.uint8)
    image[5:15, 10:80] = 0
    image[0, :30] = 255
    framed = add_border(image, 20)
    assert framed.shape == (60, 130, 3)
    assert np.array_equal(framed[20:40, 20:110], image)
    framed[20:40, 20:110] = (10, 200, 90)
    assert (framed == (10, 200, 90)).all()
    assert add_border(image, 0) is image
