"""Pictures as boards decode them: OpenCV must give the pixels that Pillow gives on the host."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image

from edge_ocr.config import load_config
from edge_ocr.core.pictures import SUFFIXES, decode_picture, list_pictures, read_picture
from edge_ocr.errors import InputError
from edge_ocr.inputs import list_sources

HOST_SETTINGS = load_config("OCR").input

# Blocks of colour, with an odd size: the last column and row take the decoders' special paths.
COLOURS = np.kron(np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
RGB = Image.fromarray(COLOURS[:47, :71])
GREY = RGB.convert("L")
GREY_16 = (np.asarray(GREY).astype(np.uint16) << 8) | 0x37
RGB_16 = (np.asarray(RGB).astype(np.uint16) << 8) | 0x91
RGBA = RGB.copy()
RGBA.putalpha(GREY)
CUT_OUT = RGB.copy()
CUT_OUT.putalpha(GREY.point(lambda value: 255 if value > 100 else 0))
PALETTE = RGB.quantize(16)


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def encode_16(array: np.ndarray, suffix: str) -> bytes:
    """Colour of 16 bits, which Pillow cannot write."""
    return cv2.imencode(suffix, array)[1].tobytes()


def encode_bgrx() -> bytes:
    """A BMP like a screenshot of Windows: four bytes per pixel, the fourth unused and 0."""
    height, width = COLOURS.shape[:2]
    pixels = np.dstack([COLOURS[::-1], np.zeros((height, width), np.uint8)]).tobytes()
    head = struct.pack("<2sIHHI", b"BM", 54 + len(pixels), 0, 0, 54)
    return head + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 32, 0, len(pixels), 0, 0, 0, 0) + pixels


def hold(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def decode_on_host(content: bytes) -> np.ndarray:
    (source,) = list_sources(content)
    return next(source.pages(HOST_SETTINGS)).image


ORIENTED = {
    f"orientation {value} {form}": (lambda form=form, value=value, how=how: encode(RGB, form, **how(value)))
    for value in range(1, 9)
    for form, how in {
        "JPEG": lambda value: {"exif": hold(value), "quality": 90},
        "PNG": lambda value: {"exif": hold(value)},
        "WEBP": lambda value: {"exif": hold(value), "lossless": True},
        "TIFF": lambda value: {"tiffinfo": {0x0112: value}},
    }.items()
}
PLAIN: dict[str, Callable[[], bytes]] = {
    "JPEG 4:4:4": lambda: encode(RGB, "JPEG", subsampling=0, quality=90),
    "JPEG 4:2:2": lambda: encode(RGB, "JPEG", subsampling=1),
    "JPEG 4:2:0": lambda: encode(RGB, "JPEG", subsampling=2, quality=60),
    "JPEG progressive": lambda: encode(RGB, "JPEG", progressive=True),
    "JPEG grey": lambda: encode(GREY, "JPEG"),
    "PNG": lambda: encode(RGB, "PNG"),
    "PNG grey": lambda: encode(GREY, "PNG"),
    "PNG 1 bit": lambda: encode(RGB.convert("1"), "PNG"),
    "PNG palette": lambda: encode(PALETTE, "PNG"),
    "PNG palette, transparent": lambda: encode(PALETTE, "PNG", transparency=3),
    "PNG alpha": lambda: encode(RGBA, "PNG"),
    "PNG grey with alpha": lambda: encode(Image.merge("LA", [GREY, GREY]), "PNG"),
    "PNG light on nothing": lambda: encode(Image.merge("LA", [GREY.point(lambda _: 250), GREY]), "PNG"),
    "PNG all transparent": lambda: encode(Image.new("RGBA", (9, 5)), "PNG"),
    "PNG 16 bits": lambda: encode(Image.fromarray(GREY_16), "PNG"),
    "PNG 12 of 16 bits": lambda: encode(Image.fromarray(GREY_16 >> 4), "PNG"),
    "PNG 10 of 16 bits": lambda: encode(Image.fromarray(GREY_16 >> 6), "PNG"),
    "PNG black of 16 bits": lambda: encode(Image.fromarray(GREY_16 * 0), "PNG"),
    "PNG 3 × 16 bits": lambda: encode_16(RGB_16, ".png"),
    "PNG 4 × 16 bits": lambda: encode_16(np.dstack([RGB_16, GREY_16]), ".png"),
    "PNG 3 × 12 of 16 bits": lambda: encode_16(RGB_16 >> 4, ".png"),
    "PNG 4 × 10 of 16 bits": lambda: encode_16(np.dstack([RGB_16, GREY_16]) >> 6, ".png"),
    "TIFF 3 × 12 of 16 bits": lambda: encode_16(RGB_16 >> 4, ".tif"),
    "BMP": lambda: encode(RGB, "BMP"),
    "BMP 32 bits": lambda: encode(RGB.convert("RGBA"), "BMP"),
    "BMP 32 bits, the last unused": encode_bgrx,
    "BMP grey": lambda: encode(GREY, "BMP"),
    "BMP palette": lambda: encode(PALETTE, "BMP"),
    "BMP 1 bit": lambda: encode(RGB.convert("1"), "BMP"),
    "TIFF": lambda: encode(RGB, "TIFF"),
    "TIFF grey": lambda: encode(GREY, "TIFF"),
    "TIFF 16 bits": lambda: encode(Image.fromarray(GREY_16), "TIFF"),
    "TIFF 3 × 16 bits": lambda: encode_16(RGB_16, ".tif"),
    "TIFF fax": lambda: encode(RGB.convert("1"), "TIFF", compression="group4"),
    "TIFF LZW": lambda: encode(RGB, "TIFF", compression="tiff_lzw"),
    "TIFF palette": lambda: encode(PALETTE, "TIFF"),
    "TIFF cut out": lambda: encode(CUT_OUT, "TIFF"),
    "WebP": lambda: encode(RGB, "WEBP", lossless=True),
    "WebP lossy": lambda: encode(RGB, "WEBP", quality=80),
    "WebP alpha": lambda: encode(RGBA, "WEBP", lossless=True),
    "PPM": lambda: encode(RGB, "PPM"),
    "PGM": lambda: encode(GREY, "PPM"),
    "PBM": lambda: encode(RGB.convert("1"), "PPM"),
}


@pytest.mark.parametrize("name", [*PLAIN, *ORIENTED])
def test_a_board_decodes_as_the_host_does(name):
    content = {**PLAIN, **ORIENTED}[name]()
    np.testing.assert_array_equal(decode_picture(content, "picture"), decode_on_host(content))


def test_oriented_pictures_are_turned():
    # Without this, the test above would pass if both were wrong.
    upright = decode_picture(ORIENTED["orientation 1 PNG"](), "picture")
    for form in ("PNG", "WEBP", "TIFF"):
        turned = decode_picture(ORIENTED[f"orientation 6 {form}"](), "picture")
        np.testing.assert_array_equal(turned, np.rot90(upright, -1))
    assert decode_picture(ORIENTED["orientation 6 JPEG"](), "picture").shape == (71, 47, 3)


def test_a_cmyk_jpeg_is_within_rounding():
    content = encode(RGB.convert("CMYK"), "JPEG")
    difference = decode_picture(content, "picture").astype(int) - decode_on_host(content)
    assert np.abs(difference).max() <= 1


def test_a_board_decodes_the_examples_as_the_host_does(examples):
    pictures = list_pictures(examples)
    assert len(pictures) >= 4
    for path in pictures:
        np.testing.assert_array_equal(read_picture(path), decode_on_host(path.read_bytes()), err_msg=path.name)


# --- odd headers


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def write_exif(order: str, *, tag: int = 0x0112, value: int = 6, offset: int = 8, count: int = 1) -> bytes:
    layout = ("<" if order == "II" else ">") + "2sHIHHHIHHI"
    return struct.pack(layout, order.encode(), 42, offset, count, tag, 3, 1, value, 0, 0)


SCAN = encode(RGB, "JPEG")[2:]
UPRIGHT = decode_on_host(b"\xff\xd8" + SCAN)


@pytest.mark.parametrize(
    "head",
    [
        segment(0xE1, b"Exif\0\0" + write_exif("II")),
        segment(0xE1, b"Exif\0\0" + write_exif("MM")),
        # Editors put XMP first; OpenCV itself reads only the first segment.
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>") + segment(0xE1, b"Exif\0\0" + write_exif("II")),
        segment(0xFE, b"a comment") + segment(0xE1, b"Exif\0\0" + write_exif("MM")),
        b"\xff\xff" + segment(0xE1, b"Exif\0\0" + write_exif("II")),
    ],
    ids=["little-endian", "big-endian", "behind XMP", "behind a comment", "behind fill bytes"],
)
def test_the_orientation_is_found(head):
    np.testing.assert_array_equal(decode_picture(b"\xff\xd8" + head + SCAN, "picture"), np.rot90(UPRIGHT, -1))


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II",
        write_exif("II", value=0),
        write_exif("II", value=9),
        write_exif("MM", tag=0x0110),
        write_exif("II", offset=2**32 - 1),
        write_exif("MM", offset=20),
        write_exif("II", tag=0x0110, count=0xFFFF),
        write_exif("II")[:17],
    ],
    ids=lambda exif: exif.hex(),
)
def test_an_invalid_orientation_turns_nothing(exif):
    content = b"\xff\xd8" + segment(0xE1, b"Exif\0\0" + exif) + SCAN
    np.testing.assert_array_equal(decode_picture(content, "picture"), UPRIGHT)


# --- incomplete pictures


def preview() -> bytes:
    """A photo with a preview in its header, which has its own end marker, as cameras write them."""
    small = encode(RGB.resize((16, 12)), "JPEG")
    return b"\xff\xd8" + segment(0xE1, b"Exif\0\0" + write_exif("II", value=1) + small) + SCAN


CUT: dict[str, Callable[[], bytes]] = {
    "JPEG with a preview": preview,
    **{name: PLAIN[name] for name in ("JPEG progressive", "PNG", "PNG palette", "PNG 16 bits", "BMP", "TIFF LZW")},
    **{name: PLAIN[name] for name in ("WebP", "WebP lossy", "PPM", "PBM")},
}


@pytest.mark.parametrize("name", CUT)
def test_a_truncated_picture_is_always_refused(name):
    content = CUT[name]()
    decode_picture(content, "picture")
    places = {*range(1, len(content), max(1, len(content) // 60)), *range(len(content) - 8, len(content))}
    for place in sorted(places):
        with pytest.raises(InputError, match=r"^a\.bin "):
            pytest.fail(f"read {place} of {len(content)} bytes: {decode_picture(content[:place], 'a.bin').shape}")


def test_a_truncated_jpeg_with_a_preview_is_refused():
    content = preview()
    for place in (len(content) - 1, len(content) - 2, len(content) // 2, content.index(b"\xff\xda")):
        with pytest.raises(InputError, match=r"^photo\.jpg is truncated$"):
            decode_picture(content[:place], "photo.jpg")


@pytest.mark.parametrize("name", ["JPEG 4:2:0", "PNG", "BMP", "WebP"])
def test_bytes_after_the_end_are_ignored(name):
    content = PLAIN[name]()
    longer = content + b"more \xff\xd8\xff of it" * 20
    np.testing.assert_array_equal(decode_picture(longer, "picture"), decode_picture(content, "picture"))


@pytest.mark.parametrize("name", ["PNG", "PNG 3 × 16 bits"])
def test_a_png_with_a_changed_byte_is_refused(name):
    content = bytearray(PLAIN[name]())
    content[content.index(b"IDAT") + 20] ^= 0x55
    with pytest.raises(InputError, match=r"^picture is damaged"):
        decode_picture(bytes(content), "picture")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"^a\.bin is empty \(0 bytes\)$"),
        (b"\0", r"^a\.bin is damaged or"),
        (b"just text, and some more of it" * 9, r"^a\.bin is damaged or"),
        (b"%PDF-1.7\n", r"^a\.bin is damaged or"),
        (b"\xff\xd8\xff", r"^a\.bin is truncated$"),
        (b"\xff\xd8\xff\xe0\0", r"^a\.bin is truncated$"),
        (b"\xff\xd8" + b"\xff" * 1000, r"^a\.bin is truncated$"),
        (b"\xff\xd8\xff\xda\0\2\xff\xd9", r"^a\.bin is damaged or"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 99 + b"IEND", r"^a\.bin is damaged or"),
        (b"RIFF\0\0\0\0WEBPEXIF", r"^a\.bin is damaged or"),
        (encode(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), r"^a\.bin: cannot read a float32 array"),
        (encode(RGB, "TIFF", save_all=True, append_images=[GREY]), r"^a\.bin .*several pages"),
        # More pixels than OpenCV allows: it throws.
        (encode(RGB, "BMP")[:18] + struct.pack("<ii", 2**20, 2**20), r"^a\.bin (cannot be decoded|is damaged or)"),
    ],
    ids=lambda value: value[:12].hex() if isinstance(value, bytes) else "",
)
def test_invalid_pictures_are_refused(content, words):
    with pytest.raises(InputError, match=words) as caught:
        decode_picture(content, "a.bin")
    assert "\n" not in caught.value.message


# --- files and folders


def test_a_folder_gives_its_pictures_by_name(tmp_path):
    names = ["b.JPG", "a.png", "c.TiFf", "readme.txt", "d.gif", "e", ".png"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "f.png").mkdir()
    (tmp_path / "f.png" / "inner.png").write_bytes(b"x")
    (tmp_path / "gone.png").symlink_to("nowhere")
    assert [path.name for path in list_pictures(tmp_path)] == ["a.png", "b.JPG", "c.TiFf"]
    # A named file is read whatever its suffix.
    assert list_pictures(tmp_path / "e") == [tmp_path / "e"]
    assert len(SUFFIXES) == 11


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("f", "^no pictures in folder "),
        ("none.png", "^no such file: "),
        ("a" * 300, " cannot be read: File name too long"),
    ],
)
def test_a_folder_without_pictures_and_a_missing_file_are_reported(tmp_path, name, words):
    (tmp_path / "f").mkdir()
    with pytest.raises(InputError, match=words) as caught:
        list_pictures(tmp_path / name)
    assert (caught.value.hint or "").startswith("looked for .bmp .jpeg" if name == "f" else "")


def test_a_file_that_cannot_be_read_is_reported(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for name, words in {
        "pipe.png": "is not a regular file",
        ".": "is not a regular file",
        "none.png": "no such file",
        "a" * 300: "cannot be read: File name too long",
    }.items():
        with pytest.raises(InputError, match=words):
            read_picture(tmp_path / name)
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty\.png is empty \(0 bytes\)"):
        read_picture(tmp_path / "empty.png")
