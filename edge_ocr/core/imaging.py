"""From BGR pixels to the float32 NCHW tensors that the networks take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from .settings import MAX_DETECTION_SIDE, DetectionSettings
from .types import BgrImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The detection network halves its input five times.
DETECTION_STRIDE = 32

# A picture whose shorter side is at most SMALL_SIDE, or at most STRIP_SIDE and 1/STRIP_RATIO of the other, is a word
# or a strip of text. The network needs margins: of 22 rendered strips, 9 are read exactly without a border of
# BORDER_PX, and 22 with it. Repeating the outermost pixels instead of one colour also gives 22, but of 72 strips,
# mostly cut close to their text, 63 instead of 68.
SMALL_SIDE = 64
STRIP_SIDE = 160
STRIP_RATIO = 4
BORDER_PX = 20


def plan_border(height: int, width: int) -> int:
    """Return the border in pixels that detection needs around a picture; 0 unless it is small or a strip."""
    shorter, longer = min(height, width), max(height, width)
    is_strip = shorter <= STRIP_SIDE and shorter * STRIP_RATIO <= longer
    return BORDER_PX if is_strip or shorter <= SMALL_SIDE else 0


def add_border(image: BgrImage, border: int) -> BgrImage:
    """Return the image with `border` pixels on each side, in the median colour of its outermost pixels."""
    if border == 0:
        return image
    outermost = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    # The lower median, so that the colour occurs in the picture.
    colour = np.sort(outermost, axis=0)[(len(outermost) - 1) // 2].tolist()
    framed = cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_CONSTANT, value=colour)
    return np.asarray(framed, dtype=np.uint8)


def plan_detection_size(height: int, width: int, settings: DetectionSettings) -> tuple[int, int]:
    """Return (height, width) of the detection input: scaled to the limit, each side rounded to a multiple of 32."""
    limit, longest = settings.limit_side_len, max(height, width)
    ratio = 1.0
    if settings.limit_type == "long" or (settings.limit_type == "max" and longest > limit):
        ratio = limit / longest
    elif settings.limit_type == "min" and min(height, width) < limit:
        ratio = limit / min(height, width)
    ratio = min(ratio, MAX_DETECTION_SIDE / longest)

    def fit(side: int) -> int:
        return max(round(int(side * ratio) / DETECTION_STRIDE) * DETECTION_STRIDE, DETECTION_STRIDE)

    return fit(height), fit(width)


def prepare_detection(image: BgrImage, settings: DetectionSettings) -> NDArray[np.float32]:
    """Return the detection input, 1 × 3 × H × W: resized, (x / 255 − mean) / std per BGR channel."""
    height, width = plan_detection_size(image.shape[0], image.shape[1], settings)
    if (height, width) != image.shape[:2]:
        image = resize_picture(image, width, height)
    return normalize_detection(image, settings)


def normalize_detection(image: BgrImage, settings: DetectionSettings) -> NDArray[np.float32]:
    """Return an image whose sides are multiples of 32 as the detection input."""
    return normalize_picture(image, settings.mean, settings.std)


def normalize_picture(
    image: BgrImage, means: tuple[float, float, float], stds: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Return an image, H × W × 3, as 1 × 3 × H × W: (x / 255 − mean) / std per channel, in the image's order."""
    height, width = image.shape[:2]
    mean, std = np.array(means, dtype=np.float32), np.array(stds, dtype=np.float32)
    scale, shift = 1.0 / (255.0 * std), -mean / std
    # A lookup table per channel takes a seventh of the time of arithmetic.
    tables = np.arange(256, dtype=np.uint8)[:, np.newaxis] * scale + shift
    batch = np.empty((1, 3, height, width), dtype=np.float32)
    for channel in range(3):
        cv2.LUT(cv2.extractChannel(image, channel), tables[:, channel].copy(), dst=batch[0, channel])
    return batch


def resize_line(crop: BgrImage, height: int, max_width: int | None = None) -> BgrImage:
    """Scale a text line to `height` rows, keeping its aspect ratio unless it would be wider than `max_width`."""
    width = max(1, int(np.ceil(crop.shape[1] * height / crop.shape[0])))
    width = width if max_width is None else min(max_width, width)
    return resize_picture(crop, width, height)


def prepare_lines(lines: list[BgrImage], width: int) -> NDArray[np.float32]:
    """Return N × 3 × H × `width` in [−1, 1], (x / 255 − 0.5) / 0.5, zero-padded on the right.

    All lines have the same height H and are at most `width` wide.
    """
    batch = np.zeros((len(lines), 3, lines[0].shape[0], width), dtype=np.float32)
    for slot, line in zip(batch, lines):
        slot[:, :, : line.shape[1]] = line.transpose(2, 0, 1)
        slot[:, :, : line.shape[1]] /= 127.5
        slot[:, :, : line.shape[1]] -= 1.0
    return batch


def resize_picture(image: BgrImage, width: int, height: int) -> BgrImage:
    """Scale an image with bilinear interpolation."""
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
