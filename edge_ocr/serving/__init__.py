"""The service: `POST /ocr` and what goes with it."""
