"""The pictures that golden arrays are made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class View:
    """Part of a picture."""

    picture: str
    crop: tuple[int, int, int, int]
    turns: int = 0

    def cut(self) -> np.ndarray:
        image = cv2.imread(str(REPOSITORY / self.picture))
        if image is None:
            raise SystemExit(f"{self.picture} cannot be read")
        left, top, width, height = self.crop
        return np.ascontiguousarray(np.rot90(image[top : top + height, left : left + width], self.turns))


LABEL, SIGN = "examples/images/label.png", "examples/images/sign.png"
TURNED = "examples/images/upside_down.png"
RECEIPT, SLANTED = "tests/golden/pictures/receipt.png", "tests/golden/pictures/slanted.png"
STEEP, WIDE = "tests/golden/pictures/steep.png", "tests/golden/pictures/wide.png"

# Name, view, changes of the settings of detection (a side limit of 320, no windows), pictures in a batch.
CASES: tuple[tuple[str, View, dict[str, Any], int], ...] = (
    ("label", View(LABEL, (0, 0, 640, 460)), {"limit_side_len": 640}, 1),
    ("label_small", View(LABEL, (0, 0, 640, 460)), {}, 6),
    ("label_head", View(LABEL, (40, 60, 330, 210)), {}, 1),
    ("label_downwards", View(LABEL, (340, 80, 260, 320)), {}, 1),
    ("label_left_turn", View(LABEL, (40, 60, 320, 320), 1), {}, 4),
    ("label_right_turn", View(LABEL, (60, 150, 300, 240), 3), {"limit_type": "long"}, 1),
    ("label_turned", View(LABEL, (40, 60, 320, 200), 2), {}, 1),
    ("sign", View(SIGN, (0, 0, 640, 430)), {"limit_side_len": 640}, 6),
    ("sign_small", View(SIGN, (0, 0, 640, 430)), {"unclip_ratio": 2.0}, 1),
    ("sign_tall", View(SIGN, (60, 60, 200, 310)), {"limit_side_len": 256}, 1),
    ("sign_turned", View(SIGN, (0, 0, 640, 430), 2), {"limit_side_len": 480}, 1),
    ("card", View(TURNED, (0, 0, 680, 240)), {"limit_side_len": 480}, 1),
    ("card_upright", View(TURNED, (0, 0, 680, 240), 2), {"box_threshold": 0.5}, 1),
    ("card_enlarged", View(TURNED, (330, 70, 120, 60), 2), {"limit_type": "min", "limit_side_len": 128}, 1),
    ("receipt", View(RECEIPT, (0, 0, 300, 260)), {}, 6),
    ("receipt_half", View(RECEIPT, (0, 100, 300, 160)), {"limit_side_len": 224}, 1),
    ("slanted", View(SLANTED, (0, 0, 300, 260)), {}, 6),
    ("slanted_part", View(SLANTED, (20, 90, 200, 150)), {"bin_threshold": 0.2}, 1),
    ("steep", View(STEEP, (0, 0, 300, 260)), {}, 1),
    ("steep_down", View(STEEP, (0, 0, 300, 260), 1), {"box_threshold": 0.7}, 1),
    ("bricks", View(SIGN, (0, 0, 640, 40)), {}, 1),
    ("wide", View(WIDE, (0, 0, 3200, 224)), {"windows": True}, 4),
    ("tall", View(WIDE, (0, 0, 3200, 224), 3), {"windows": True, "limit_side_len": 960}, 4),
    ("strip", View(WIDE, (17, 23, 352, 20)), {"limit_side_len": 960}, 1),
)
