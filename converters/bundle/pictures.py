"""The pictures that ship with edge-ocr."""

from __future__ import annotations

from pathlib import Path

import edge_ocr


def find_pictures_folder() -> Path:
    """Return their folder, in the installed package or in a checkout."""
    package = Path(edge_ocr.__file__).parent
    installed = package / "images"
    return installed if installed.is_dir() else package.parent / "examples" / "images"
