"""`python -m edge_ocr` is `edge-ocr`."""

from edge_ocr.cli import main

main()
