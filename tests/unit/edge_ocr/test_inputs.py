"""Everything `predict` takes, and how it becomes upright BGR pictures; pictures are made here."""

from __future__ import annotations

import contextlib
import http.server
import io
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from edge_ocr.config import load_config
from edge_ocr.errors import InputError
from edge_ocr.inputs import Source, convert_array, list_sources, name_source

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


# What may be given


def list_all(value: object) -> list[Source]:
    return list(list_sources(value))


def test_path_and_text_name_a_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(make_picture()))
    for value in (path, str(path)):
        (source,) = list_all(value)
        assert source.input_path == str(path)
        (page,) = source.pages(SETTINGS)
        np.testing.assert_array_equal(page.image, EXPECTED)
        assert page.page_index is None


def test_folder_gives_its_pictures_by_name_and_nothing_else(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.tiff", "d.pdf", "notes.txt", "no_suffix", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "e.png").write_bytes(b"x")
    found = [Path(source.input_path).name for source in list_all(tmp_path)]
    assert found == ["a.jpg", "b.PNG", "c.tiff", "d.pdf"]


def test_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="no pictures in folder") as error:
        list_all(tmp_path)
    assert ".png" in error.value.hint


@pytest.mark.parametrize("name", ["missing.png", "a\0b.png", "ftp://host/a.png", "file:///a.png"])
def test_missing_file_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        list_all(name)


def test_name_that_the_file_system_refuses():
    with pytest.raises(InputError, match="cannot be read"):
        list_all("a" * 5000)


@pytest.mark.parametrize("value", ["http://host/a.png", "HTTPS://host/a.png"])
def test_url_is_not_fetched_until_it_is_read(value):
    (source,) = list_all(value)
    assert (source.data, source.input_path) == (value, value)


def test_arrays_bytes_dicts_and_lists_of_these(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(make_picture()))
    array = np.zeros((2, 2, 3), np.uint8)
    given = [array, {"img": array}, path, [str(path), (b"bytes", {"img": [array, path]})]]
    found = [source.input_path for source in list_all(iter(given))]
    assert found == [None, None, str(path), str(path), None, None, str(path)]
    assert list_all([]) == []


def test_a_generator_is_walked_only_as_far_as_asked(tmp_path):
    def give() -> Iterator[np.ndarray]:
        yield np.zeros((2, 2), np.uint8)
        raise AssertionError("walked on")

    assert next(list_sources(give())).input_path is None


@pytest.mark.parametrize("value", [None, 3, 1.5, object(), [None], {"img": None}])
def test_other_types_are_refused(value):
    with pytest.raises(InputError, match="cannot read"):
        list_all(value)


@pytest.mark.parametrize("convert", [bytes, bytearray, memoryview, lambda content: memoryview(bytearray(content))])
def test_bytes_of_every_type_are_a_file(convert):
    (source,) = list_all(convert(encode(make_picture())))
    assert source.input_path is None
    (page,) = source.pages(SETTINGS)
    np.testing.assert_array_equal(page.image, EXPECTED)


def test_bytes_may_change_once_they_are_listed():
    content = bytearray(encode(make_picture()))
    (source,) = list_all(content)
    content[:] = bytes(len(content))
    (page,) = source.pages(SETTINGS)
    np.testing.assert_array_equal(page.image, EXPECTED)


class Named:
    """A path of another library."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def test_anything_that_names_a_path_is_one(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    (entry,) = os.scandir(tmp_path)
    for value in (Named(path), entry, [Named(path)]):
        (source,) = list_all(value)
        assert (source.data, source.input_path) == (path, str(path))
    assert [source.input_path for source in list_all(Named(tmp_path))] == [str(path)]


def test_open_file_is_read_from_where_it_is_and_left_open(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"head" + PNG)
    with path.open("rb") as file:
        file.seek(4)
        (source,) = list_all(file)
        assert source.input_path == str(path)
        (page,) = source.pages(SETTINGS)
        np.testing.assert_array_equal(page.image, EXPECTED)
        assert not file.closed
    for named in (tempfile.NamedTemporaryFile, tempfile.SpooledTemporaryFile, tempfile.TemporaryFile):
        with named() as file:
            file.write(PNG)
            file.seek(0)
            (source,) = list_all({"img": file})
            assert source.input_path == (file.name if named is tempfile.NamedTemporaryFile else None)
            (page,) = source.pages(SETTINGS)
            np.testing.assert_array_equal(page.image, EXPECTED)


@pytest.mark.parametrize("name", [None, 3, "<stdin>", "upload.png", "a\0b", "n" * 5000], ids=str)
def test_file_in_memory_has_no_path(name):
    buffer = io.BytesIO(PNG)
    if name is not None:
        buffer.name = name
    (source,) = list_all([buffer])
    assert source.input_path is None
    (page,) = source.pages(SETTINGS)
    np.testing.assert_array_equal(page.image, EXPECTED)
    assert not buffer.closed


def refuse_stream(stream: object) -> InputError:
    (source,) = list_all(stream)
    with pytest.raises(InputError) as error:
        list(source.pages(SETTINGS))
    return error.value


def test_file_open_as_text_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    with path.open() as file:
        error = refuse_stream(file)
    assert error.message == f"{path} is open as text, expected a binary file"
    assert error.hint == 'open the file in binary mode: open(path, "rb")'
    assert refuse_stream(io.StringIO("text")).message == "picture is open as text, expected a binary file"
    with tempfile.NamedTemporaryFile("w+", encoding="utf-8") as wrapped:
        Path(wrapped.name).write_bytes(PNG)
        assert "is open as text" in refuse_stream(wrapped).message
        Path(wrapped.name).write_bytes(b"ascii")
        wrapped.seek(0)
        assert "returns str, expected bytes" in refuse_stream(wrapped).message


def test_file_that_cannot_be_read_is_refused(tmp_path):
    buffer = io.BytesIO()
    assert refuse_stream(buffer).message == "picture is empty (0 bytes)"
    buffer.write(PNG)
    # As it was left by who wrote it.
    error = refuse_stream(buffer)
    assert error.message == "picture: nothing is left to read, the file is at its end"
    assert "seek(0)" in error.hint
    buffer.close()
    assert "closed file" in refuse_stream(buffer).message
    with (tmp_path / "new.png").open("wb") as file:
        assert "cannot be read: " in refuse_stream(file).message


PILLOW_FORMS: dict[str, Callable[[], Image.Image]] = {
    "RGB": make_picture,
    "RGBA": lambda: Image.merge("RGBA", [*make_picture().split(), make_picture().convert("L")]),
    "L": lambda: make_picture().convert("L"),
    "1": lambda: make_picture().convert("1"),
    "P": lambda: make_picture().quantize(8),
    "LA": lambda: make_picture().convert("LA"),
    "CMYK": lambda: make_picture().convert("CMYK"),
    "12 of 16 bits": lambda: Image.fromarray(np.linspace(0, 4095, 800).astype(np.uint16).reshape(20, 40)),
}


@pytest.mark.parametrize("name", PILLOW_FORMS)
@pytest.mark.parametrize("is_file", [False, True], ids=["in memory", "lazily opened"])
def test_pillow_image_is_taken_as_its_file_is(name, is_file):
    content = encode(PILLOW_FORMS[name](), "TIFF" if name == "CMYK" else "PNG")
    picture = Image.open(io.BytesIO(content)) if is_file else PILLOW_FORMS[name]()
    before = (picture.mode, picture.size, picture.tobytes())
    (source,) = list_all({"img": picture})
    assert source.input_path is None
    (page,) = source.pages(SETTINGS)
    np.testing.assert_array_equal(page.image, decode(content))
    assert (picture.mode, picture.size, picture.tobytes()) == before


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_pillow_image_is_turned_and_the_callers_is_not(file_format):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(make_picture(), file_format, exif=exif)
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        before = (picture.size, picture.getexif().get(0x0112), picture.tobytes())
        for _ in range(2):
            (page,) = list_all(picture)[0].pages(SETTINGS)
            np.testing.assert_array_equal(page.image, decode(content))
        assert page.image.shape == (40, 20, 3)
        assert (picture.size, picture.getexif().get(0x0112), picture.tobytes()) == before


def test_bad_pillow_image_is_refused():
    for picture, limits, words in (
        (Image.fromarray(np.zeros((4, 4), np.float32)), {}, "picture has floating-point pixels"),
        (make_picture(), {"max_pixels": 799}, "picture has more than 799 pixels"),
        (Image.open(io.BytesIO(PNG[: len(PNG) // 2])), {}, "picture is truncated"),
        (Image.new("RGB", (0, 5)), {}, r"^picture is empty \(size 0×5\)$"),
        (Image.new("RGBA", (5, 0)), {}, r"^picture is empty \(size 5×0\)$"),
    ):
        (source,) = list_all(picture)
        with pytest.raises(InputError, match=words):
            list(source.pages(replace(SETTINGS, **limits)))


@pytest.mark.parametrize("value", ["", [""], {"img": ""}], ids=str)
def test_empty_path_is_not_the_current_folder(tmp_path, monkeypatch, value):
    (tmp_path / "a.png").write_bytes(encode(make_picture()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="the path is empty"):
        list_all(value)


def test_tilde_is_left_to_the_shell(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(encode(make_picture()))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"no such file: ~/a\.png"):
        list_all("~/a.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_named_pipe_is_refused_and_not_waited_for(tmp_path):
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    outcome: list[object] = []

    def read() -> None:
        try:
            outcome.extend(next(list_sources(path)).pages(SETTINGS))
        except InputError as error:
            outcome.append(error.message)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)
    assert outcome == [f"{path} is not a regular file"]


def test_file_and_stream_above_the_limit_are_refused(tmp_path):
    content = encode(make_picture())
    path = tmp_path / "a.png"
    path.write_bytes(content)

    def read(data: Path | io.BytesIO, limit: int) -> np.ndarray:
        (page,) = Source(data, str(path)).pages(replace(SETTINGS, max_file_bytes=limit))
        return page.image

    for give in (lambda: path, lambda: io.BytesIO(content)):
        np.testing.assert_array_equal(read(give(), len(content)), EXPECTED)
        with pytest.raises(InputError, match="is larger than") as error:
            read(give(), len(content) - 1)
        assert error.value.message.startswith(str(path))
        assert "Input.max_file_mb" in error.value.hint


@pytest.mark.parametrize("value", [{}, {"image": b"x"}, {"img": b"x", "other": 1}])
def test_dict_with_other_keys_is_refused(value):
    with pytest.raises(InputError, match='one key "img"'):
        list_all(value)


# Arrays


def test_arrays_that_are_taken():
    generator = np.random.default_rng(0)
    bgr = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(convert_array(bgr), bgr)
    grey = bgr[:, :, 0]
    for array in (grey, grey[:, :, None]):
        np.testing.assert_array_equal(convert_array(array), np.dstack([grey] * 3))
    np.testing.assert_array_equal(convert_array(bgr.astype(np.uint16) * 257), bgr)
    opaque = np.dstack([bgr, np.full((5, 7), 255, np.uint8)])
    np.testing.assert_array_equal(convert_array(opaque), bgr)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_array_is_narrowed_as_its_file_is(bits):
    grey = np.linspace(0, 2**bits - 1, 800).astype(np.uint16).reshape(20, 40)
    expected = decode(encode(Image.fromarray(grey)))
    assert expected.max() == 255
    for array in (grey, grey[:, :, None], np.dstack([grey] * 3), np.dstack([grey] * 3 + [np.full_like(grey, 0xFFFF)])):
        np.testing.assert_array_equal(convert_array(array), expected)


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_deep_colour_file_is_narrowed_as_its_array_is(bits, suffix):
    colours = EXPECTED.astype(np.uint16) << (bits - 8)
    alpha = np.full((20, 40), 0xFFFF, np.uint16)
    for array in (colours, np.dstack([colours, alpha])):
        (content,) = (cv2.imencode(suffix, array)[1].tobytes(),)
        np.testing.assert_array_equal(decode(content), EXPECTED)
        np.testing.assert_array_equal(convert_array(array), EXPECTED)


def test_colours_are_narrowed_together():
    array = np.array([[[0x0100, 0x0400, 0x0FFF]]], np.uint16)
    assert convert_array(array).tolist() == [[[0x10, 0x40, 0xFF]]]


@pytest.mark.parametrize(("colour_bits", "alpha_bits"), [(12, 12), (12, 16), (16, 16)])
def test_alpha_may_be_deeper_than_colours(colour_bits, alpha_bits):
    ink, most = 0x60 << (colour_bits - 8), 2**colour_bits - 1
    array = np.full((1, 4, 4), most, np.uint16)
    array[0, :, 3] = 2**alpha_bits - 1
    array[0, 0, :3] = ink
    array[0, 1, 3] = 0x40 << (alpha_bits - 8)
    array[0, 1, :3] = 0
    # White that nobody sees must not make the rest dark.
    array[0, 2] = (0xFFFF, 0xFFFF, 0xFFFF, 0)
    assert convert_array(array)[0, :, 0].tolist() == [0x60, 191, 255, 255]


def test_faint_alpha_beside_deep_colours_stays_faint():
    array = np.full((1, 2, 4), 0xFFFF, np.uint16)
    array[:, :, 3] = 0x0400
    array[0, 0, :3] = 0
    assert convert_array(array)[0, :, 0].tolist() == [251, 255]
    # Black ink alone: alpha tells its own depth.
    array = np.zeros((1, 2, 4), np.uint16)
    array[0, 0, 3] = 0x0FFF
    assert convert_array(array)[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("array", "hint"),
    [
        (np.zeros((4, 4, 3), np.float32), r"\(array \* 255\)\.astype\(numpy\.uint8\)"),
        (np.zeros((4, 4, 3), np.int64), r"array\.astype\(numpy\.uint8\)"),
        (np.zeros((4, 4), bool), r"array\.astype\(numpy\.uint8\) \* 255"),
        (np.zeros((4, 4, 2), np.uint8), r"array\[:, :, 0\]"),
        (np.zeros((3, 40, 40), np.uint8), r"array\.transpose\(1, 2, 0\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"list\(array\)"),
        (np.zeros(4, np.uint8), None),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else "",
)
def test_refused_array_gets_a_hint_for_what_to_pass(array, hint):
    with pytest.raises(InputError, match="expected uint8 or uint16, H×W grey, H×W×3 BGR or H×W×4 BGRA") as error:
        convert_array(array)
    assert error.value.hint is None if hint is None else re.search(hint, error.value.hint)


@pytest.mark.parametrize("view", [np.s_[::2, ::3], np.s_[::-1], np.s_[:, ::-1], np.s_[2:5, 1:4]])
def test_views_are_taken_like_copies(view):
    generator = np.random.default_rng(0)
    for shape in ((9, 12), (9, 12, 3), (9, 12, 4)):
        array = generator.integers(0, 256, shape, dtype=np.uint8)[view]
        np.testing.assert_array_equal(convert_array(array), convert_array(array.copy()))
    mirrored = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)[:, :, ::-1]
    np.testing.assert_array_equal(convert_array(mirrored), mirrored.copy())


def test_read_only_array_is_taken():
    array = np.zeros((4, 4, 3), np.uint8)
    array.flags.writeable = False
    assert convert_array(array).shape == (4, 4, 3)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)], ids=str)
def test_arrays_are_copied(shape):
    array = np.full(shape, 255, np.uint8)
    image = convert_array(array)
    assert not np.shares_memory(image, array)
    assert image.flags.writeable
    assert image.flags.c_contiguous


def test_transparent_array_lies_on_white():
    array = np.zeros((1, 3, 4), np.uint8)
    array[0, 1, 3] = 51
    array[0, 2, 3] = 255
    assert convert_array(array)[0, :, 0].tolist() == [255, 204, 0]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int32),
        np.zeros((4, 4), bool),
        np.zeros(4, np.uint8),
        np.zeros((), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((3, 40, 40), np.uint8),
        np.array("text"),
        np.array([None]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_other_arrays_are_refused_with_type_and_shape(array):
    with pytest.raises(InputError, match=r"cannot read a \S+ array of shape"):
        convert_array(array)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0, 3), (0, 0, 4)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_empty_array_is_refused(shape, kind):
    with pytest.raises(InputError, match="empty"):
        convert_array(np.zeros(shape, kind))


# Colour modes


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "WEBP", "PPM", "GIF", "JPEG2000"])
def test_formats(file_format):
    if file_format == "JPEG2000":
        content = encode(make_picture(), file_format, irreversible=False)
    else:
        content = encode(make_picture(), file_format, **({"lossless": True} if file_format == "WEBP" else {}))
    np.testing.assert_array_equal(decode(content), EXPECTED)


@pytest.mark.parametrize(("file_format", "options"), [("JPEG", {"quality": 95, "subsampling": 0}), ("AVIF", {})])
def test_lossy_formats(file_format, options):
    Image.init()
    if file_format not in Image.SAVE:
        pytest.skip(f"this Pillow has no {file_format}")
    difference = np.abs(decode(encode(make_picture(), file_format, **options)).astype(int) - EXPECTED)
    assert difference.mean() < 6


def test_eps_is_not_handed_to_its_interpreter():
    content = encode(make_picture(), "EPS")
    assert "not a picture" in refuse(content).message


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_modes_look_as_their_rgb_does(mode):
    picture = make_picture().convert(mode)
    # PNG has no CMYK.
    content = encode(picture, "TIFF" if mode == "CMYK" else "PNG")
    expected = np.asarray(picture.convert("RGB"))[:, :, ::-1]
    np.testing.assert_array_equal(decode(content), expected)


def test_cmyk_jpeg_is_not_inverted():
    image = decode(encode(make_picture().convert("CMYK"), "JPEG", quality=95))
    assert image[15, 20].min() > 240
    assert image[4, 4, 2] > 200 > 60 > image[4, 4, 0]


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(file_format):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    content = encode(Image.fromarray(ramp), file_format)
    np.testing.assert_array_equal(decode(content)[0, :, 0], ramp[0] >> 8)


def test_floating_point_tiff_is_refused():
    content = encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
    assert "floating-point" in refuse(content).message


def test_transparent_palette_lies_on_white():
    picture = Image.new("P", (4, 1), 0)
    picture.putpalette([0, 0, 0, 120, 0, 0])
    picture.putpixel((1, 0), 1)
    assert decode(encode(picture, transparency=0)).tolist() == [[[255] * 3, [0, 0, 120], [255] * 3, [255] * 3]]


def test_transparent_colour_of_an_rgb_png_lies_on_white():
    picture = Image.new("RGB", (2, 1), BLACK)
    picture.putpixel((1, 0), (120, 0, 0))
    assert decode(encode(picture, transparency=BLACK)).tolist() == [[[255] * 3, [0, 0, 120]]]


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        (BLACK, 255),
        ((120, 0, 0), 255),
        ((191, 191, 191), 255),
        ((0, 191, 0), 255),
        # The brightest channel counts.
        ((0, 192, 0), 0),
        (RED, 0),
        (WHITE, 0),
        ((240, 250, 255), 0),
    ],
)
def test_ink_on_transparent_stays_visible(ink, paper):
    picture = Image.new("RGBA", (20, 10), (0, 0, 0, 0))
    ImageDraw.Draw(picture).rectangle((5, 2, 14, 7), fill=(*ink, 255))
    image = decode(encode(picture))
    assert (image[0] == paper).all()
    assert image[4, 8].tolist() == list(ink[::-1])


@pytest.mark.parametrize(("dark_rows", "paper"), [(0, 0), (1, 0), (4, 255), (100, 255)])
def test_a_hundredth_of_dark_pixels_makes_no_dark_picture(dark_rows, paper):
    array = np.zeros((202, 10, 4), np.uint8)
    array[1:201] = 255
    array[1 : 1 + dark_rows, :, :3] = 0
    assert (convert_array(array)[[0, -1]] == paper).all()


def test_what_is_hardly_visible_does_not_choose_the_ground():
    array = np.full((1, 4, 4), 255, np.uint8)
    array[0, 0] = (0, 0, 0, 127)
    assert convert_array(array)[0, :, 0].tolist() == [0, 255, 255, 255]
    array[0, 0, 3] = 128
    assert convert_array(array)[0, :, 0].tolist() == [127, 255, 255, 255]


def test_fully_transparent_picture_is_white():
    assert (decode(encode(Image.new("RGBA", (5, 5), (9, 9, 9, 0)))) == 255).all()


def test_soft_edges_are_blended():
    picture = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    picture.putpixel((1, 0), (0, 0, 0, 102))
    assert decode(encode(picture))[0, 1].tolist() == [153] * 3


# Turned, animated, many pages


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(file_format, orientation):
    stored = {
        1: lambda picture: picture,
        2: lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda picture: picture.transpose(Image.Transpose.ROTATE_180),
        4: lambda picture: picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda picture: picture.transpose(Image.Transpose.TRANSPOSE),
        6: lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
        7: lambda picture: picture.transpose(Image.Transpose.TRANSVERSE),
        8: lambda picture: picture.transpose(Image.Transpose.ROTATE_270),
    }[orientation](make_picture())
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(file_format, {})
    image = decode(encode(stored, file_format, exif=exif, **options))
    assert image.shape == EXPECTED.shape
    assert np.abs(image.astype(int) - EXPECTED).mean() < 6


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_first_frame_stands_for_an_animation(file_format):
    frames = [make_picture(), Image.new("RGB", (40, 20), GREEN), Image.new("RGB", (40, 20), BLACK)]
    options = {"lossless": True} if file_format == "WEBP" else {}
    content = encode(frames[0], file_format, save_all=True, append_images=frames[1:], duration=100, **options)
    np.testing.assert_array_equal(decode(content), EXPECTED)


def make_pages(count: int) -> list[Image.Image]:
    """Pages of one colour, each a little brighter than the one before, and of other sizes."""
    return [Image.new("RGB", (30 + i, 20), (20 * i, 20 * i, 20 * i)) for i in range(count)]


def test_every_page_of_a_tiff_is_a_picture():
    pages = make_pages(4)
    content = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    found = list(Source(content, None).pages(SETTINGS))
    assert [page.page_index for page in found] == [0, 1, 2, 3]
    assert [page.image.shape[1] for page in found] == [30, 31, 32, 33]
    assert [int(page.image.mean()) for page in found] == [0, 20, 40, 60]


def test_tiff_of_many_pages_is_opened_once(monkeypatch):
    pages = [Image.new("L", (8, 8), i % 256) for i in range(300)]
    content = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    calls, open_picture = [], Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **options: calls.append(1) or open_picture(*args, **options))
    images = decode_all(content)
    assert [int(image[0, 0, 0]) for image in images] == [i % 256 for i in range(300)]
    assert len(calls) == 1


def test_pages_are_decoded_only_when_asked_for():
    pages = make_pages(3)
    content = bytearray(encode(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    # Cut off in the last page: the ones before it can be had.
    walk = Source(bytes(content[: len(content) - 1500]), "x.tif").pages(SETTINGS)
    assert next(walk).image.shape == (20, 30, 3)
    assert next(walk).image.shape == (20, 31, 3)
    with pytest.raises(InputError):
        next(walk)


# Pillow only warns of a head that is cut off, and trips over what is missing in it.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    ("compression", "bad"), [(None, [2, 3]), ("tiff_lzw", [2])], ids=["in the pixels of a page", "before its head"]
)
def test_cut_tiff_gives_its_whole_pages(compression, bad):
    noise = np.random.default_rng(0).integers(0, 256, (4, 50, 50), dtype=np.uint8)
    pages = [Image.fromarray(grey) for grey in noise]
    content = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression=compression)
    content = content[: len(content) * 5 // 8]
    failures: dict[int, InputError] = {}
    found = list(Source(content, "x.tif").pages(SETTINGS, failures))
    assert [page.page_index for page in found] == [0, 1]
    np.testing.assert_array_equal([page.image[:, :, 0] for page in found], noise[:2])
    assert list(failures) == bad
    assert failures[2].message.startswith("page 3 of x.tif is truncated")
    assert "pages after this one" in failures[bad[-1]].hint
    with pytest.raises(InputError, match=r"page 3 of x\.tif is truncated|pages 3 and 4 of x\.tif cannot be read"):
        list(Source(content, "x.tif").pages(SETTINGS))
    # It has several pages, however few can be read.
    with pytest.raises(InputError, match="has several pages"):
        list(Source(content, "x.tif", single_page=True).pages(SETTINGS))


@pytest.fixture
def pdf() -> Callable[..., bytes]:
    pytest.importorskip("pypdfium2")

    def make(pages: list[Image.Image]) -> bytes:
        # One pixel is a point, 1/72 inch.
        return encode(pages[0], "PDF", save_all=True, append_images=pages[1:], resolution=72)

    return make


def test_every_page_of_a_pdf_is_drawn_at_200_dpi(pdf):
    found = list(Source(pdf(make_pages(3)), None).pages(SETTINGS))
    assert [page.page_index for page in found] == [0, 1, 2]
    for i, page in enumerate(found):
        assert page.image.shape[0] == pytest.approx(20 * 200 / 72, abs=1)
        assert page.image.shape[1] == pytest.approx((30 + i) * 200 / 72, abs=1)
        assert page.image[20, 20, 0] == pytest.approx(20 * i, abs=4)


def test_pdf_of_one_page_has_no_page_number(pdf):
    (page,) = Source(pdf(make_pages(1)), None).pages(SETTINGS)
    assert page.page_index is None


def test_pdf_colours_are_not_exchanged(pdf):
    image = decode(pdf([Image.new("RGB", (30, 20), RED)]))
    assert image[20, 20, 2] > 200 > 60 > image[20, 20, 0]


def test_too_large_pdf_page_is_refused(pdf):
    error = refuse(pdf(make_pages(1)), max_pixels=1000)
    assert error.message == "page 1 of x.bin has more than 1,000 pixels at 200 dpi"
    assert "Input.max_pixels" in error.hint


@pytest.mark.parametrize(
    "junk",
    [b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n", b"\r\n", b"Content-Length: 999\r\n\r\n", b"x" * 1024],
    ids=len,
)
def test_junk_before_a_pdf_is_passed_over(pdf, junk):
    content = pdf(make_pages(2))
    for image, expected in zip(decode_all(junk + content), decode_all(content), strict=True):
        np.testing.assert_array_equal(image, expected)


def test_more_junk_than_readers_take_is_no_pdf(pdf):
    assert "not a picture" in refuse(b"x" * 1025 + pdf(make_pages(1))).message


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "JPEG", "GIF"])
def test_picture_that_names_a_pdf_is_a_picture(file_format):
    options = {"comment": b"from %PDF-1.7"}
    if file_format == "PNG":
        options = {"pnginfo": PngInfo()}
        options["pnginfo"].add_text("Source", "%PDF-1.7")
    elif file_format == "TIFF":
        options = {"description": "%PDF-1.7"}
    content = encode(make_picture(), file_format, **options)
    if file_format == "TIFF":
        # Its text stands behind the pixels.
        content = encode(make_picture(8, 8), file_format, **options)
    assert 0 < content.find(b"%PDF-") < 1024
    assert decode(content).shape[2] == 3


def spoil(content: bytes, *pages: int) -> bytes:
    """Make pages of a PDF of `make_pages` too large, by their width of 30, 31 … points; nothing moves."""
    for page in pages:
        box = b"/MediaBox [ 0 0 %d.0 20.0 ]" % (30 + page)
        assert content.count(box) == 1
        content = content.replace(box, b"/MediaBox [ 0 0 9999 9999 ]")
    return content


def test_bad_pdf_page_does_not_cost_the_others(pdf):
    walk = Source(spoil(pdf(make_pages(3)), 1), "x.bin").pages(SETTINGS)
    for index in (0, 2):
        page = next(walk)
        assert page.page_index == index
        assert page.image[20, 20, 0] == pytest.approx(20 * index, abs=4)
    with pytest.raises(InputError) as error:
        next(walk)
    assert error.value.message == "page 2 of x.bin has more than 178,956,970 pixels at 200 dpi"
    assert "Input.max_pixels" in error.value.hint


def test_bad_pages_are_told_together_or_put_aside(pdf):
    source = Source(spoil(pdf(make_pages(4)), 0, 1, 3), "x.bin")
    walk = source.pages(SETTINGS)
    assert next(walk).page_index == 2
    with pytest.raises(InputError, match=r"^pages 1, 2 and 4 of x\.bin cannot be read; the first: page 1 of "):
        next(walk)
    failures: dict[int, InputError] = {}
    assert [page.page_index for page in source.pages(SETTINGS, failures)] == [2]
    assert sorted(failures) == [0, 1, 3]
    with pytest.raises(InputError, match=r"^pages 1 and 2 of picture cannot"):
        list(Source(spoil(pdf(make_pages(2)), 0, 1), None).pages(SETTINGS))


def test_pdf_page_that_cannot_be_drawn_does_not_cost_the_others(pdf, monkeypatch):
    import pypdfium2

    draw, calls = pypdfium2.PdfPage.render, []

    def fail(page: object, **options: object) -> object:
        calls.append(page)
        if len(calls) < 3:
            raise MemoryError if len(calls) == 1 else pypdfium2.PdfiumError("odd")
        return draw(page, **options)

    monkeypatch.setattr(pypdfium2.PdfPage, "render", fail)
    failures: dict[int, InputError] = {}
    (page,) = Source(pdf(make_pages(3)), "x.bin").pages(SETTINGS, failures)
    assert page.page_index == 2
    messages = ["page 1 of x.bin cannot be drawn: out of memory", "page 2 of x.bin cannot be drawn: odd"]
    assert [failures[index].message for index in range(2)] == messages


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_bad_tiff_page_does_not_cost_the_others(compression):
    pages = [Image.new("L", (64 + i, 64), 40 * i) for i in range(4)]
    content = bytearray(encode(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression=compression))
    # The pixels of the second page, tag 273, lie behind the end.
    entries = [match.start() for match in re.finditer(rb"\x11\x01\x04\0\x01\0\0\0", content)]
    assert len(entries) == 4
    content[entries[1] + 8 : entries[1] + 12] = b"\xff\xff\xff\x7f"
    failures: dict[int, InputError] = {}
    found = list(Source(bytes(content), "x.bin").pages(SETTINGS, failures))
    assert [(page.page_index, int(page.image[0, 0, 0])) for page in found] == [(0, 0), (2, 80), (3, 120)]
    assert list(failures) == [1]
    assert failures[1].message.startswith("page 2 of x.bin ")


def test_too_large_tiff_page_does_not_cost_the_others():
    pages = [Image.new("L", size) for size in ((40, 40), (8, 8), (40, 40), (8, 8))]
    content = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    failures: dict[int, InputError] = {}
    found = list(Source(content, "x.bin").pages(replace(SETTINGS, max_pixels=100), failures))
    assert [page.page_index for page in found] == [1, 3]
    assert [failures[index].message for index in (0, 2)] == [
        f"page {number} of x.bin has more than 100 pixels" for number in (1, 3)
    ]


@pytest.mark.parametrize("file_format", ["PDF", "TIFF"])
def test_source_of_a_single_page_is_refused_before_any_is_decoded(pdf, file_format, monkeypatch):
    monkeypatch.setattr("edge_ocr.inputs._draw_page", None)
    monkeypatch.setattr("edge_ocr.inputs._to_bgr", None)
    pages = make_pages(2)
    content = encode(pages[0], file_format, save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match=r"^x\.bin has several pages, expected one$"):
        list(Source(content, "x.bin", single_page=True).pages(SETTINGS))


def test_pdf_that_declares_more_pages_than_it_can_hold_is_refused_at_once(pdf):
    content = pdf(make_pages(1))
    old, new = b"/Count 1", b"/Count 99999"
    assert content.count(old) == 1
    started = time.monotonic()
    error = refuse(content.replace(old, new))
    assert error.message.startswith("x.bin is damaged: it declares 99,999 pages in ")
    assert time.monotonic() - started < 1


def test_many_bad_pages_are_told_in_one_short_line(pdf):
    content = pdf(make_pages(1)).replace(b"/Count 1", b"/Count 500")
    assert len(content) > 500
    listed = ", ".join(map(str, range(2, 22)))
    message = f"^pages {listed} and 479 more of x.bin cannot be read; the first: page 2 of "
    with pytest.raises(InputError, match=message):
        list(Source(content, "x.bin").pages(SETTINGS))


def test_damaged_pdf_is_refused(pdf):
    assert "not a PDF" in refuse(b"%PDF-1.7\n" + b"garbage" * 50).message


def test_pdfs_are_drawn_by_one_thread_at_a_time(pdf, monkeypatch):
    # PDFium is not thread-safe, and ends the process now and then where two threads use it.
    import pypdfium2

    content, draw = pdf(make_pages(3)), pypdfium2.PdfPage.render
    inside, most, failures = 0, 0, []

    def watch(page: object, **options: object) -> object:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.005)
        inside -= 1
        return draw(page, **options)

    def read() -> None:
        try:
            for _ in range(3):
                assert len(decode_all(content)) == 3
                # A document that is given up half read is closed in between, too.
                next(iter(Source(content, None).pages(SETTINGS)))
        except BaseException as error:
            failures.append(error)

    monkeypatch.setattr(pypdfium2.PdfPage, "render", watch)
    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert most == 1


# Damaged and dangerous


def test_empty_file_is_refused():
    assert refuse(b"").message == "x.bin is empty (0 bytes)"


@pytest.mark.parametrize("content", [b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0", b"\0" * 1000])
def test_what_is_no_picture_is_refused(content):
    refuse(content)


def test_text_file_is_said_to_be_no_picture():
    error = refuse(b"no picture at all")
    assert error.message == "x.bin is not a picture that can be read"
    assert "PNG" in error.hint
    assert "PDF" in error.hint


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
def test_cut_file_is_refused(file_format, part):
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    content = encode(Image.fromarray(noise), file_format)
    assert "is truncated" in refuse(content[: int(len(content) * part)]).message


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_cut_file_is_said_to_be_truncated(file_format):
    content = encode(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)), file_format
    )
    assert "is truncated" in refuse(content[: len(content) // 2]).message


def test_flipped_bits_never_raise_anything_else():
    generator = np.random.default_rng(0)
    for file_format in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        content = encode(make_picture(), file_format)
        for _ in range(60):
            damaged = bytearray(content)
            for place in generator.integers(0, len(content), 3):
                damaged[place] ^= 1 << int(generator.integers(8))
            # Either it decodes, or it is refused as everything else is.
            with contextlib.suppress(InputError):
                decode_all(bytes(damaged), max_pixels=10**6)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
def test_too_many_pixels_are_refused(file_format):
    content = encode(make_picture(40, 20), file_format)
    assert decode(content, max_pixels=800).shape == (20, 40, 3)
    error = refuse(content, max_pixels=799)
    assert error.message == "x.bin has more than 799 pixels"
    assert "Input.max_pixels" in error.hint


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "BMP", "PPM"])
def test_more_pixels_than_pillow_takes_are_read_where_the_limit_allows(file_format, monkeypatch):
    content = encode(make_picture(40, 20), file_format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    assert decode(content, max_pixels=800).shape == (20, 40, 3)
    refuse(content, max_pixels=799)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(content))


def test_frame_far_larger_than_the_first_is_refused_by_the_limit(monkeypatch):
    frames = [Image.new("P", (40, 20), index) for index in range(2)]
    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:])
    content = content.getvalue()
    # The head of the second frame, which says how large it is.
    place = content.rindex(b",\0\0\0\0")
    grown = content[: place + 5] + struct.pack("<HH", 400, 200) + content[place + 9 :]
    assert "more than 800 pixels" in refuse(grown, max_pixels=800).message


def test_limits_of_several_threads_and_of_others_do_not_mix(monkeypatch):
    content = encode(make_picture())
    # Pillow by itself takes up to 600.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    failures: list[str] = []

    def read(limit: int, fits: bool) -> None:
        for _ in range(300):
            try:
                decode(content, max_pixels=limit)
                failures.extend([] if fits else [f"{limit} let it through"])
            except InputError:
                failures.extend([f"{limit} refused it"] if fits else [])

    def read_by_pillow() -> None:
        for _ in range(300):
            with contextlib.suppress(Image.DecompressionBombError):
                Image.open(io.BytesIO(content))
                failures.append("Pillow let it through")

    threads = [threading.Thread(target=read, args=(limit, limit >= 800)) for limit in (10, 799, 800, 10**6, 10**9)]
    threads.append(threading.Thread(target=read_by_pillow))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert Counter(failures) == {}
    assert Image.MAX_IMAGE_PIXELS == 300


# URLs, on a loopback server


@dataclass
class Answer:
    """What the server says at a path."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = -1
    """Announced; -1 the body's own, None none."""
    chunk: int | None = None
    pause_s: float = 0.0
    """Before each chunk of the body, or before the answer where there are no chunks."""
    header_pause_s: float | None = None
    """Before each byte of a header that never ends; None for whole headers."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    answers: dict[str, Answer] = {}
    stop = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers[self.path]
            if answer.chunk is None and stop.wait(answer.pause_s):
                return
            if answer.header_pause_s is not None:
                with contextlib.suppress(OSError):
                    self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
                    while not stop.wait(answer.header_pause_s):
                        self.wfile.write(b"x")
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.length is not None:
                self.send_header("Content-Length", str(len(answer.body) if answer.length == -1 else answer.length))
            self.end_headers()
            step = answer.chunk or len(answer.body) or 1
            try:
                for start in range(0, len(answer.body), step):
                    if answer.chunk is not None and stop.wait(answer.pause_s):
                        return
                    self.wfile.write(answer.body[start : start + step])
                    self.wfile.flush()
            except OSError:
                # The client has hung up, as it should.
                pass

        def log_message(self, *_: object) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def place(path: str, answer: Answer) -> str:
        answers[path] = answer
        return f"http://127.0.0.1:{running.server_port}{path}"

    yield place
    stop.set()
    running.shutdown()
    running.server_close()
    thread.join()


def fetch(url: str, **limits: object) -> np.ndarray:
    (source,) = list_all(url)
    (page,) = source.pages(replace(SETTINGS, **limits))
    return page.image


def refuse_url(url: str, **limits: object) -> InputError:
    with pytest.raises(InputError) as error:
        fetch(url, **limits)
    assert error.value.message.startswith(url)
    return error.value


@pytest.mark.parametrize("length", [-1, None], ids=["length", "no length"])
def test_url_is_read(server, length):
    np.testing.assert_array_equal(fetch(server("/a.png?b=c", Answer(body=PNG, length=length))), EXPECTED)


def test_redirect_is_followed(server):
    server("/there.png", Answer(body=PNG))
    url = server("/here", Answer(302, headers={"Location": "/there.png"}))
    np.testing.assert_array_equal(fetch(url), EXPECTED)


def test_redirect_to_a_file_is_refused(server, tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    url = server("/here", Answer(302, headers={"Location": (tmp_path / "a.png").as_uri()}))
    refuse_url(url)


def test_redirect_in_circles_is_refused(server):
    refuse_url(server("/round", Answer(302, headers={"Location": "/round"})))


@pytest.mark.parametrize("status", [403, 404, 500])
def test_refusal_is_passed_on(server, status):
    assert f"the server answered {status}" in refuse_url(server("/a.png", Answer(status))).message


def test_page_of_html_is_no_picture(server):
    assert "not a picture" in refuse_url(server("/a.png", Answer(body=b"<html>sign in</html>"))).message


def test_empty_body_is_refused(server):
    assert "empty" in refuse_url(server("/a.png", Answer())).message


def test_announced_size_is_refused_before_the_body(server):
    url = server("/a.png", Answer(body=b"x", length=5001, chunk=1, pause_s=30))
    start = time.monotonic()
    error = refuse_url(url, max_download_bytes=5000)
    assert "is larger than" in error.message
    assert "Input.max_download_mb" in error.hint
    assert time.monotonic() - start < 5


def test_body_that_grows_too_large_is_refused(server):
    url = server("/a.png", Answer(body=b"x" * 300_000, length=None))
    assert "is larger than" in refuse_url(url, max_download_bytes=100_000).message


def test_body_of_exactly_the_limit_is_read(server):
    np.testing.assert_array_equal(fetch(server("/a.png", Answer(body=PNG)), max_download_bytes=len(PNG)), EXPECTED)


@pytest.mark.parametrize("chunk", [None, 1], ids=["silent", "one byte at a time"])
def test_slow_server_meets_the_deadline(server, chunk):
    url = server("/a.png", Answer(body=PNG, chunk=chunk, pause_s=30 if chunk is None else 0.05))
    start = time.monotonic()
    error = refuse_url(url, download_timeout_s=0.4)
    assert "took longer than 0.4 s" in error.message
    assert "Input.download_timeout_s" in error.hint
    assert time.monotonic() - start < 3


def test_slow_headers_meet_the_deadline(server):
    url = server("/a.png", Answer(header_pause_s=0.05))
    start = time.monotonic()
    assert "took longer than 1 s" in refuse_url(url, download_timeout_s=1).message
    assert 0.9 < time.monotonic() - start < 2


def test_address_with_chinese_and_spaces_is_read(server):
    written = server("/%E7%85%A7%20%E7%89%87.png?q=%E4%B8%AD%20a&b=1%2B1", Answer(body=PNG))
    base = written.partition("/%E7")[0]
    np.testing.assert_array_equal(fetch(f"{base}/照 片.png?q=中 a&b=1%2B1#顶"), EXPECTED)
    # What is written in ASCII already stays as it is.
    np.testing.assert_array_equal(fetch(written), EXPECTED)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@127.0.0.1/a.png",
        "http://secret@127.0.0.1/a.png",
        "http://user:secret@127.0.0.1:99999/a.png",
        "http://user:secret@[bad/a.png",
        "http://user:secret/x@127.0.0.1/a.png",
    ],
)
def test_password_is_refused_and_not_repeated(url):
    (source,) = list_all(url)
    with pytest.raises(InputError) as error:
        list(source.pages(SETTINGS))
    assert "secret" not in f"{error.value.message} {error.value.hint}"


def test_connection_that_ends_early_is_refused(server):
    # Pillow would make do with what is there.
    error = refuse_url(server("/a.png", Answer(body=PNG[:-20], length=len(PNG))))
    assert f"broke off after {len(PNG) - 20} of {len(PNG)} bytes" in error.message


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "cannot be fetched" in refuse_url(f"http://127.0.0.1:{port}/a.png").message


@pytest.mark.parametrize("url", ["http://", "http:///a.png", "http://[::1/a.png", "http://127.0.0.1:99999/a.png"])
def test_malformed_url_is_refused(url):
    refuse_url(url)


# Names of results


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (None, "image"),
        ("-", "stdin"),
        ("a/-", "-"),
        ("a/b/photo.jpg", "photo"),
        ("a.tar.gz", "a.tar"),
        ("http://host/a/photo.jpg?size=/x/y.png#z", "photo"),
        ("http://host/", "image"),
        ("http://host", "image"),
        ("https://host/%E7%85%A7%E7%89%87.png", "照片"),
        ("http://host/a%20b.png", "a_b"),
        ("http://[::1/a.png", "image"),
    ],
)
def test_results_are_named_after_their_input(given, name):
    assert name_source(given) == name


@pytest.mark.parametrize(
    "path", ["..", "../../x", "a/../..", "\\..\\x", ".bashrc", "a\0b", "/etc/passwd", "x" * 3, ". ."]
)
def test_no_url_names_a_place_outside_the_folder(path):
    name = name_source("http://host/" + urllib.parse.quote(path, safe=""))
    assert name
    assert not set(name) & set("/\\\0")
    assert not name.startswith(".")


_DECODE = """
import sys
from pathlib import Path
from edge_ocr.config import load_config
from edge_ocr.inputs import list_sources

def read_peak():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

(source,) = list_sources(sys.argv[1])
before = read_peak()
(page,) = source.pages(load_config().input)
print(page.image.nbytes, read_peak() - before, *page.image[-1, -1])
"""


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_large_picture_takes_not_much_more_than_its_pixels(tmp_path, suffix):
    """Pillow has four bytes a pixel, the result three; copies of the whole picture would add as much again."""
    path = tmp_path / f"large.{suffix}"
    image = np.full((6000, 5000, 3), (255, 128, 0), np.uint8)
    Image.fromarray(image).save(path)
    done = subprocess.run([sys.executable, "-c", _DECODE, path], capture_output=True, text=True, check=True)
    size, peak, *pixel = map(int, done.stdout.split())
    assert size == image.nbytes
    assert np.allclose(pixel[::-1], image[-1, -1], atol=2)
    assert peak < 2.7 * size
