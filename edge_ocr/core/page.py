"""Page orientation: how far a picture's page is turned, and back again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from .engines.base import Engine
from .imaging import normalize_picture, resize_picture
from .settings import PageOrientationSettings
from .types import BgrImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Sides of the network's input in relation to its view: the middle of a picture, at most this many times longer than
# wide. It sees a square of that; without a limit, a strip would take gigabytes once its shorter side is scaled up.
MAX_VIEW_RATIO = 2

_CODES = (None, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)


class PageClassifier:
    """Distinguishes pages that are upright from those turned by 90°, 180° and 270° clockwise."""

    def __init__(self, engine: Engine, settings: PageOrientationSettings) -> None:
        self.engine = engine
        self.settings = settings

    def find_turns(self, image: BgrImage) -> tuple[int, bool]:
        """Return how many quarter turns clockwise the page is turned, 0 to 3, and whether that is certain."""
        probs = np.asarray(self.engine.run(prepare_page(image, self.settings)))[0]
        turns = int(probs.argmax())
        return turns, bool(probs[turns] > self.settings.threshold)


def prepare_page(image: BgrImage, settings: PageOrientationSettings) -> NDArray[np.float32]:
    """Return the classifier's input, 1 × 3 × H × W, channels red, green, blue: shorter side scaled, middle cut out."""
    height, width = image.shape[:2]
    view = MAX_VIEW_RATIO * min(height, width)
    top, left = max(0, height - view) // 2, max(0, width - view) // 2
    image = image[top : top + min(height, view), left : left + min(width, view)]
    height, width = image.shape[:2]
    scale = max(settings.resize_short, settings.image_height, settings.image_width) / min(height, width)
    image = resize_picture(image, round(width * scale), round(height * scale))
    top = (image.shape[0] - settings.image_height) // 2
    left = (image.shape[1] - settings.image_width) // 2
    image = image[top : top + settings.image_height, left : left + settings.image_width, ::-1]
    return normalize_picture(image, settings.mean, settings.std)


def turn_upright(image: BgrImage, turns: int) -> BgrImage:
    """Return a picture whose page is turned by `turns` quarters clockwise with the page upright."""
    code = _CODES[turns]
    return image if code is None else np.asarray(cv2.rotate(image, code), dtype=np.uint8)


def turn_back(polygons: NDArray[np.float32], turns: int, height: int, width: int) -> NDArray[np.float32]:
    """Map polygons (… × 4 × 2) from the upright page to the picture, `height` × `width`, that `turn_upright` turned.

    The order of the corners does not change: TL is where the line begins.
    """
    x, y = polygons[..., 0], polygons[..., 1]
    places = ((x, y), (width - y, x), (width - x, height - y), (y, height - x))
    return np.stack(places[turns], axis=-1).astype(np.float32)
