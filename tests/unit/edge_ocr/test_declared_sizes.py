"""Small files that declare huge pictures: host and board reserve no memory for what cannot be in the file."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import time
import zlib
from contextlib import suppress

import cv2
import numpy as np
import pytest
from PIL import Image

from edge_ocr.core.pictures import check_length
from edge_ocr.errors import InputError

# The memory that a file of a few hundred bytes may take; a picture of SIDE × SIDE has 500 MB.
BOUND_MB = 32
# Just below the limit on pixels.
SIDE = 13_000

MEASURE = """
import json, sys
from pathlib import Path
from edge_ocr.core.commands import MAX_PIXELS
import os
os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MAX_PIXELS)
from edge_ocr.config import load_config
from edge_ocr.core.pictures import decode_picture
from edge_ocr.errors import InputError
from edge_ocr.inputs import Source

def read_status(key):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024

settings = load_config("OCR").input
readers = {
    "host": lambda content: list(Source(content, None).pages(settings)),
    "board": lambda content: decode_picture(content, "case"),
}
warm, *cases = sys.argv[1:]
for read in readers.values():
    read(Path(warm).read_bytes())
before = read_status("VmSize")
for case in cases:
    for name, read in readers.items():
        try:
            read(Path(case).read_bytes())
            end = "read"
        except InputError as error:
            end = error.message
        print(json.dumps([Path(case).name, name, end, read_status("VmPeak") - before]), flush=True)
"""


def encode(kind: str, mode: str = "RGB", **options: object) -> bytearray:
    stream = io.BytesIO()
    Image.new(mode, (32, 32), 255).save(stream, kind, **options)
    return bytearray(stream.getvalue())


def write_png(side: int, depth: int, colour: int, data_size: int | None = None) -> bytes:
    def chunk(kind: bytes, data: bytes, size: int | None = None) -> bytes:
        return struct.pack(">I", len(data) if size is None else size) + kind + data + crc(kind + data)

    def crc(data: bytes) -> bytes:
        return struct.pack(">I", zlib.crc32(data))

    head = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            chunk(b"IDAT", zlib.compress(bytes(64)), data_size),
            chunk(b"IEND", b""),
        ]
    )


def write_jpeg(side: int, progressive: bool) -> bytes:
    content = encode("JPEG", progressive=progressive)
    struct.pack_into(">HH", content, content.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5, side, side)
    return bytes(content)


def write_tiff(side: int, compression: str | None) -> bytes:
    content = encode("TIFF", compression=compression)
    (place,) = struct.unpack_from("<I", content, 4)
    for entry in range(place + 2, place + 2 + 12 * content[place], 12):
        if struct.unpack_from("<H", content, entry)[0] in (256, 257, 278):
            struct.pack_into("<HII", content, entry + 2, 4, 1, side)
    return bytes(content)


def write_gif(side: int) -> bytes:
    content = encode("GIF")
    for place in (6, content.index(b"\x2c\0\0\0\0") + 5):
        struct.pack_into("<HH", content, place, side, side)
    return bytes(content)


def write_bmp(side: int) -> bytes:
    content = encode("BMP")
    struct.pack_into("<ii", content, 18, side, -side)
    return bytes(content)


def write_jpeg_2000(side: int) -> bytes:
    # Its one tile stays 32 × 32.
    content = encode("JPEG2000")
    place = content.index(b"\xff\x4f\xff\x51") + 8
    struct.pack_into(">II", content, place, side, side)
    struct.pack_into(">II", content, content.index(b"ihdr") + 4, side, side)
    return bytes(content)


def make_liars(side: int) -> dict[str, bytes]:
    return {
        "rgb.png": write_png(side, 8, 2),
        "1 bit.png": write_png(side, 1, 0),
        "16 bit.png": write_png(side, 16, 6),
        "palette.png": write_png(side, 4, 3),
        "plain.jpg": write_jpeg(side, False),
        "progressive.jpg": write_jpeg(side, True),
        "a.gif": write_gif(side),
        "a.bmp": write_bmp(side),
        "a.ppm": b"P6\n# a word\n%d %d\n255\n" % (side, side) + bytes(80),
        "a.pgm": b"P5 %d %d 255\n" % (side, side) + bytes(80),
        "a.pbm": b"P4\n%d %d\n" % (side, side) + bytes(80),
        **{f"{name}.tif": write_tiff(side, name) for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")},
        "jpeg.tif": write_tiff(side, "jpeg"),
        "tiles.jp2": write_jpeg_2000(side),
        "whole chunk.png": write_png(32, 8, 2, 2**31 - 1),
    }


@pytest.mark.parametrize("side", [SIDE, 60_000])
def test_a_small_file_that_declares_a_huge_picture_takes_little_memory(tmp_path, repository, side):
    liars = make_liars(side)
    for name, content in liars.items():
        (tmp_path / name).write_bytes(content)
        assert len(content) < 5000
    (tmp_path / "warm").write_bytes(write_jpeg(32, False))
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, "warm", *liars]
    env = {**os.environ, "PYTHONPATH": str(repository)}
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    rows = list(map(json.loads, ended.stdout.splitlines()))
    assert len(rows) == 2 * len(liars)
    assert [row for row in rows if row[3] > BOUND_MB or row[2] == "read"] == []


def test_a_truncated_file_is_reported_with_numbers():
    with pytest.raises(InputError, match=r"^x is truncated or damaged: 13,000×13,000 pixels cannot be in 69 bytes$"):
        check_length(write_png(SIDE, 8, 2), "x")
    with pytest.raises(InputError, match=r"^x is truncated or damaged: .* byte 41 needs 2,147,483,647 bytes$"):
        check_length(write_png(32, 8, 2, 2**31 - 1), "x")


BLANK = [("PNG", {}), ("PNG", {"optimize": True}), ("JPEG", {"quality": 1, "optimize": True}), ("GIF", {}), ("BMP", {}),
         ("JPEG", {"quality": 1, "progressive": True, "subsampling": "4:2:0"}), ("PPM", {}), ("TIFF", {}),
         ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"compression": "tiff_adobe_deflate"}),
         ("TIFF", {"compression": "packbits"}), ("TIFF", {"compression": "group4"}), ("JPEG2000", {}),
         ("JPEG2000", {"tile_size": (128, 128)})]  # fmt: skip


# The encoder's maximum.
MODES = [
    (kind, options, mode)
    for kind, options in BLANK
    for mode in ("1", "L", "RGB")
    if (mode == "1" or options.get("compression") != "group4") and (mode != "1" or kind != "JPEG2000")
]


@pytest.mark.parametrize(("kind", "options", "mode"), MODES)
@pytest.mark.parametrize("size", [(1, 1), (5000, 4000), (20_000, 1), (1, 20_000)])
def test_blank_pictures_are_never_too_small(kind, options, mode, size):
    stream = io.BytesIO()
    Image.new(mode, size, 1 if mode == "1" else "white").save(stream, kind, **options)
    check_length(stream.getvalue(), "x")


@pytest.mark.parametrize("blank", [b" ", b"#\n", b" # a word\n"])
def test_an_endless_header_is_refused_at_once(blank):
    content = b"P6" + blank * (4_000_000 // len(blank)) + b"16 8 255 " + bytes(384)
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"^x is damaged: its size is not in its first 65,536 bytes$"):
        check_length(content, "x")
    assert time.perf_counter() - start < 0.1


@pytest.mark.parametrize("cut", range(5))
def test_a_size_after_a_long_header_is_read(cut):
    content = b"P5" + b" " * (65_536 - 8 - cut) + b"1 60000000 255 " + bytes(70)
    with pytest.raises(InputError, match="damaged: "):
        check_length(content, "x")
    check_length(b"P5 # a word\n#\n\n 8 # more\n8 255\n" + bytes(64), "x")


def test_each_page_of_a_tiff_is_checked():
    from edge_ocr.config import load_config
    from edge_ocr.inputs import Source

    stream = io.BytesIO()
    pages = [Image.new("L", (32 + index, 32), 255) for index in range(3)]
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    content = stream.getvalue()
    for index in range(3):
        check_length(content, "x", index)
    # Only the second is 33 wide.
    entry = struct.pack("<HHIHH", 256, 3, 1, 33, 0)
    assert content.count(entry) == 1
    content = content.replace(entry, struct.pack("<HHII", 256, 4, 1, 5_000_000))
    failures: dict[int, InputError] = {}
    read = list(Source(content, "a.tif").pages(load_config("OCR").input, failures))
    assert [page.page_index for page in read] == [0, 2]
    assert failures[1].message.startswith("page 2 of a.tif is truncated or damaged: 5,000,000×32 pixels cannot be in ")


@pytest.mark.parametrize("cut", range(0, 64, 3))
def test_a_truncated_header_is_left_to_the_decoder(cut):
    for content in make_liars(SIDE).values():
        if not content.startswith((b"\x89PNG", b"P")):
            check_length(content[:8], "x")
        with suppress(InputError):
            check_length(content[:cut], "x")


def test_garbage_between_the_headers_of_a_jpeg_hides_nothing():
    content = write_jpeg(SIDE, False)
    place = content.index(b"\xff\xc0")
    with pytest.raises(InputError, match="truncated or damaged"):
        check_length(content[:place] + b"garbage" + content[place:], "x")
    good = cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    check_length(good, "x")
