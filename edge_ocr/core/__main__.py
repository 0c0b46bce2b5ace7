"""`python -m edge_ocr_lite`, what the bundle's `edge-ocr-lite` starts."""

from __future__ import annotations

import sys

from .commands import main

if __name__ == "__main__":
    sys.exit(main())
