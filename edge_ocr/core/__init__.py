"""Code that host and boards share: detection, recognition, geometry, and the command and API of boards.

Requires numpy, opencv and pyclipper only. A bundle for boards contains a copy, called `edge_ocr_lite`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lite_ocr import LiteOCR

__all__ = ["LiteOCR"]


def __getattr__(name: str) -> object:
    # Imported on demand, so that the command's --help needs neither NumPy nor OpenCV.
    if name in __all__:
        from .lite_ocr import LiteOCR

        return LiteOCR
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
