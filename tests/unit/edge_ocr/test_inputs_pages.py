"""Pictures are turned upright, and every page of a file is read."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from support.pictures import (
    BLACK,
    EXPECTED,
    GREEN,
    RED,
    SETTINGS,
    decode,
    decode_all,
    encode,
    make_picture,
    refuse,
)

from edge_ocr.errors import InputError
from edge_ocr.inputs import Source


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
def test_first_frame_of_an_animation_is_read(file_format):
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
    # Cut off in the last page: the earlier ones are readable.
    walk = Source(bytes(content[: len(content) - 1500]), "x.tif").pages(SETTINGS)
    assert next(walk).image.shape == (20, 30, 3)
    assert next(walk).image.shape == (20, 31, 3)
    with pytest.raises(InputError):
        next(walk)


# Pillow only warns about a truncated header, and then fails on its missing parts.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    ("compression", "bad"), [(None, [2, 3]), ("tiff_lzw", [2])], ids=["in the pixels of a page", "before its head"]
)
def test_cut_tiff_yields_its_complete_pages(compression, bad):
    noise = np.random.default_rng(0).integers(0, 256, (4, 50, 50), dtype=np.uint8)
    pages = [Image.fromarray(grey) for grey in noise]
    content = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression=compression)
    content = content[: len(content) * 5 // 8]
    failures: dict[int, InputError] = {}
    found = list(Source(content, "x.tif").pages(SETTINGS, failures))
    assert [page.page_index for page in found] == [0, 1]
    np.testing.assert_array_equal([page.image[:, :, 0] for page in found], noise[:2])
    assert list(failures) == bad
    assert failures[2].message.startswith("page 3 of x.tif ")
    assert "later pages" in failures[bad[-1]].hint
    with pytest.raises(InputError, match=r"page 3 of x\.tif |pages 3 and 4 of x\.tif "):
        list(Source(content, "x.tif").pages(SETTINGS))
    # It has several pages, however few can be read.
    with pytest.raises(InputError, match=r"x\.tif .*pages"):
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


def test_pdf_colours_are_not_swapped(pdf):
    image = decode(pdf([Image.new("RGB", (30, 20), RED)]))
    assert image[20, 20, 2] > 200 > 60 > image[20, 20, 0]


def test_too_large_pdf_page_is_refused(pdf):
    error = refuse(pdf(make_pages(1)), max_pixels=1000)
    assert error.message.startswith("page 1 of x.bin ")
    assert "1,000 pixels at 200 dpi" in error.message
    assert "Input.max_pixels" in error.hint


@pytest.mark.parametrize(
    "junk",
    [b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n", b"\r\n", b"Content-Length: 999\r\n\r\n", b"x" * 1024],
    ids=len,
)
def test_junk_before_a_pdf_is_skipped(pdf, junk):
    content = pdf(make_pages(2))
    for image, expected in zip(decode_all(junk + content), decode_all(content), strict=True):
        np.testing.assert_array_equal(image, expected)


def test_more_junk_than_readers_skip_is_not_a_pdf(pdf):
    assert "PNG" in refuse(b"x" * 1025 + pdf(make_pages(1))).hint


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
        # Its text is after the pixels.
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
    assert error.value.message.startswith("page 2 of x.bin ")
    assert "178,956,970 pixels" in error.value.message
    assert "Input.max_pixels" in error.value.hint


def test_bad_pages_are_reported_together_or_collected(pdf):
    source = Source(spoil(pdf(make_pages(4)), 0, 1, 3), "x.bin")
    walk = source.pages(SETTINGS)
    assert next(walk).page_index == 2
    with pytest.raises(InputError, match=r"^pages 1, 2 and 4 of x\.bin .*page 1 of "):
        next(walk)
    failures: dict[int, InputError] = {}
    assert [page.page_index for page in source.pages(SETTINGS, failures)] == [2]
    assert sorted(failures) == [0, 1, 3]
    with pytest.raises(InputError, match=r"^pages 1 and 2 of picture "):
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
    for index, reason in enumerate(("out of memory", "odd")):
        assert failures[index].message.startswith(f"page {index + 1} of x.bin ")
        assert failures[index].message.endswith(f": {reason}")


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_bad_tiff_page_does_not_cost_the_others(compression):
    pages = [Image.new("L", (64 + i, 64), 40 * i) for i in range(4)]
    content = bytearray(encode(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression=compression))
    # The pixels of the second page (tag 273) are beyond the end.
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
    for index in (0, 2):
        assert failures[index].message.startswith(f"page {index + 1} of x.bin ")
        assert "100 pixels" in failures[index].message


@pytest.mark.parametrize("file_format", ["PDF", "TIFF"])
def test_source_of_a_single_page_is_refused_before_any_is_decoded(pdf, file_format, monkeypatch):
    monkeypatch.setattr("edge_ocr.inputs._draw_page", None)
    monkeypatch.setattr("edge_ocr.inputs._to_bgr", None)
    pages = make_pages(2)
    content = encode(pages[0], file_format, save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match=r"^x\.bin .*pages"):
        list(Source(content, "x.bin", single_page=True).pages(SETTINGS))


def test_pdf_that_declares_more_pages_than_it_can_hold_is_refused_at_once(pdf):
    content = pdf(make_pages(1))
    old, new = b"/Count 1", b"/Count 99999"
    assert content.count(old) == 1
    started = time.monotonic()
    error = refuse(content.replace(old, new))
    assert "99,999 pages" in error.message
    assert time.monotonic() - started < 1


def test_many_bad_pages_are_reported_in_one_short_line(pdf):
    content = pdf(make_pages(1)).replace(b"/Count 1", b"/Count 500")
    assert len(content) > 500
    listed = ", ".join(map(str, range(2, 22)))
    message = f"^pages {listed} and 479 more of x.bin .*page 2 of "
    with pytest.raises(InputError, match=message):
        list(Source(content, "x.bin").pages(SETTINGS))


def test_damaged_pdf_is_refused(pdf):
    assert "PDF" in refuse(b"%PDF-1.7\n" + b"garbage" * 50).message


def test_pdfs_are_drawn_by_one_thread_at_a_time(pdf, monkeypatch):
    # PDFium is not thread-safe, and sometimes ends the process if two threads use it.
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
                # A half-read document that is dropped is closed in between, too.
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
