"""The HTTP service: `POST /ocr`, its pages, limits and workers."""
