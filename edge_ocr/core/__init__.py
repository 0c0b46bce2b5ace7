"""What host and boards share: detection, recognition, geometry, and a board's command and API.

Needs numpy, opencv and pyclipper only. A bundle for boards has a copy of it all, called `edge_ocr_lite`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lite_ocr import LiteOCR

__all__ = ["LiteOCR"]


def __getattr__(name: str) -> object:
    # Not before it is asked for: the command's --help needs neither NumPy nor OpenCV.
    if name in __all__:
        from .lite_ocr import LiteOCR

        return LiteOCR
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
