"""Arrays and files of every colour mode become BGR pictures; damaged and dangerous ones are refused."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import sys
import threading
from collections import Counter

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from support.pictures import (
    BLACK,
    EXPECTED,
    RED,
    WHITE,
    decode,
    decode_all,
    encode,
    make_picture,
    refuse,
)

from edge_ocr.errors import InputError
from edge_ocr.inputs import convert_array

# Arrays


def test_arrays_that_are_accepted():
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
    # Invisible white must not make the rest dark.
    array[0, 2] = (0xFFFF, 0xFFFF, 0xFFFF, 0)
    assert convert_array(array)[0, :, 0].tolist() == [0x60, 191, 255, 255]


def test_faint_alpha_with_deep_colours_stays_faint():
    array = np.full((1, 2, 4), 0xFFFF, np.uint16)
    array[:, :, 3] = 0x0400
    array[0, 0, :3] = 0
    assert convert_array(array)[0, :, 0].tolist() == [251, 255]
    # Black ink only: alpha shows its own depth.
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
    with pytest.raises(InputError, match="H×W grey, H×W×3 BGR or H×W×4 BGRA") as error:
        convert_array(array)
    assert error.value.hint is None if hint is None else re.search(hint, error.value.hint)


@pytest.mark.parametrize("view", [np.s_[::2, ::3], np.s_[::-1], np.s_[:, ::-1], np.s_[2:5, 1:4]])
def test_views_are_read_like_copies(view):
    generator = np.random.default_rng(0)
    for shape in ((9, 12), (9, 12, 3), (9, 12, 4)):
        array = generator.integers(0, 256, shape, dtype=np.uint8)[view]
        np.testing.assert_array_equal(convert_array(array), convert_array(array.copy()))
    mirrored = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)[:, :, ::-1]
    np.testing.assert_array_equal(convert_array(mirrored), mirrored.copy())


def test_read_only_array_is_accepted():
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


def test_transparent_array_is_laid_over_white():
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
    with pytest.raises(InputError, match=f"{array.dtype} array .*{'×'.join(map(str, array.shape))}"):
        convert_array(array)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0, 3), (0, 0, 4)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_empty_array_is_refused(shape, kind):
    with pytest.raises(InputError, match="×".join(map(str, shape))):
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


def test_eps_is_not_passed_to_its_interpreter():
    content = encode(make_picture(), "EPS")
    assert "PNG" in refuse(content).hint


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


def test_transparent_palette_is_laid_over_white():
    picture = Image.new("P", (4, 1), 0)
    picture.putpalette([0, 0, 0, 120, 0, 0])
    picture.putpixel((1, 0), 1)
    assert decode(encode(picture, transparency=0)).tolist() == [[[255] * 3, [0, 0, 120], [255] * 3, [255] * 3]]


def test_transparent_colour_of_an_rgb_png_is_laid_over_white():
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
def test_a_hundredth_of_dark_pixels_does_not_make_a_picture_dark(dark_rows, paper):
    array = np.zeros((202, 10, 4), np.uint8)
    array[1:201] = 255
    array[1 : 1 + dark_rows, :, :3] = 0
    assert (convert_array(array)[[0, -1]] == paper).all()


def test_faint_pixels_do_not_choose_the_background():
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


# Damaged and dangerous


def test_empty_file_is_refused():
    assert "0 bytes" in refuse(b"").message


@pytest.mark.parametrize("content", [b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0", b"\0" * 1000])
def test_invalid_pictures_are_refused(content):
    refuse(content)


def test_text_file_is_reported_as_unsupported():
    error = refuse(b"no picture at all")
    assert "PNG" in error.hint
    assert "PDF" in error.hint


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
def test_cut_file_is_refused(file_format, part):
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    content = encode(Image.fromarray(noise), file_format)
    assert "truncated" in refuse(content[: int(len(content) * part)]).message


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_cut_file_is_reported_as_truncated(file_format):
    content = encode(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)), file_format
    )
    assert "truncated" in refuse(content[: len(content) // 2]).message


def test_flipped_bits_never_raise_anything_else():
    generator = np.random.default_rng(0)
    for file_format in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        content = encode(make_picture(), file_format)
        for _ in range(60):
            damaged = bytearray(content)
            for place in generator.integers(0, len(content), 3):
                damaged[place] ^= 1 << int(generator.integers(8))
            # Either it decodes, or it is refused with the usual error.
            with contextlib.suppress(InputError):
                decode_all(bytes(damaged), max_pixels=10**6)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
def test_too_many_pixels_are_refused(file_format):
    content = encode(make_picture(40, 20), file_format)
    assert decode(content, max_pixels=800).shape == (20, 40, 3)
    error = refuse(content, max_pixels=799)
    assert "799 pixels" in error.message
    assert "Input.max_pixels" in error.hint


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "BMP", "PPM"])
def test_more_pixels_than_pillow_allows_are_read_if_the_limit_allows(file_format, monkeypatch):
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
    # The header of the second frame, which has its size.
    place = content.rindex(b",\0\0\0\0")
    grown = content[: place + 5] + struct.pack("<HH", 400, 200) + content[place + 9 :]
    assert "800 pixels" in refuse(grown, max_pixels=800).message


def test_limits_of_several_threads_and_of_others_do_not_mix(monkeypatch):
    content = encode(make_picture())
    # Pillow itself allows up to 600.
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
