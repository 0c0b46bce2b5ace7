"""Small pictures, and how they are decoded."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from edge_ocr.config import load_config
from edge_ocr.errors import InputError
from edge_ocr.inputs import Source, list_sources

SETTINGS = load_config().input
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def make_picture(width: int = 40, height: int = 20) -> Image.Image:
    """White, with a red corner top left and a blue one bottom right: no turn or mirror looks the same."""
    picture = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 9, 9), fill=RED)
    draw.rectangle((width - 5, height - 5, width, height), fill=BLUE)
    return picture


EXPECTED = np.asarray(make_picture())[:, :, ::-1]


def encode(picture: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


PNG = encode(make_picture())


def decode_all(content: bytes, **limits: object) -> list[np.ndarray]:
    return [page.image for page in Source(content, "x.bin").pages(replace(SETTINGS, **limits))]


def decode(content: bytes, **limits: object) -> np.ndarray:
    (image,) = decode_all(content, **limits)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    return image


def refuse(content: bytes, **limits: object) -> InputError:
    with pytest.raises(InputError) as error:
        decode_all(content, **limits)
    assert error.value.message.startswith(("x.bin", "page ", "a picture"))
    assert "\n" not in error.value.message
    return error.value


def list_all(value: object) -> list[Source]:
    return list(list_sources(value))
