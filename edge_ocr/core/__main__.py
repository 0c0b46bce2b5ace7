"""`python -m edge_ocr_lite`, which the `edge-ocr-lite` of a bundle starts."""

from __future__ import annotations

import sys

from .commands import main

if __name__ == "__main__":
    sys.exit(main())
