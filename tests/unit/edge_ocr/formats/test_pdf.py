"""Searchable PDFs as poppler and PDFium read them: every word at its place, and the page as it was."""

from __future__ import annotations

import io
import math
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from support.readings import make_box, make_line, make_result

from benchmarks.render_words import OVERSAMPLING, SANS, SERIF, draw_glyphs, find_font, make_text
from edge_ocr import create_pipeline
from edge_ocr.core.types import TextLine, Word
from edge_ocr.errors import InputError, UsageError
from edge_ocr.formats import SearchablePdf
from edge_ocr.results import OcrResult

pikepdf = pytest.importorskip("pikepdf", reason="pikepdf is not installed")
pypdfium2 = pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")

POINT = 200 / 72
"""Pixels a point at the resolution of pictures that have none."""


def write(*pages: tuple[OcrResult, bytes | None]) -> bytes:
    pdf = SearchablePdf()
    for result, content in pages:
        pdf.add(result, content)
    return pdf.to_bytes()


@pytest.fixture
def find_words(tmp_path) -> Callable[[bytes], list[tuple[str, np.ndarray]]]:
    """Return the words that poppler finds, with left, top, right and bottom in pixels."""
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed (apt install poppler-utils)")

    def find(content: bytes) -> list[tuple[str, np.ndarray]]:
        (tmp_path / "page.pdf").write_bytes(content)
        done = subprocess.run(
            ["pdftotext", "-bbox", tmp_path / "page.pdf", "-"], capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        found = re.findall(r'<word xMin="(.*?)" yMin="(.*?)" xMax="(.*?)" yMax="(.*?)">(.*?)</word>', done.stdout)
        return [(unescape(text), np.array(list(map(float, box))) * POINT) for *box, text in found]

    return find


def read_pdfium(content: bytes, page: int = 0) -> str:
    document = pypdfium2.PdfDocument(content)
    try:
        return document[page].get_textpage().get_text_range().replace("\r\n", "\n")
    finally:
        document.close()


def measure_offset(word: Word, found: Sequence[tuple[str, np.ndarray]]) -> float:
    """Return the largest distance of an edge from its place, in mean widths of the word's characters."""
    boxes = [box for text, box in found if text == word.text]
    assert len(boxes) == 1, word.text
    wanted = np.concatenate([word.polygon.min(axis=0), word.polygon.max(axis=0)])
    sides = [math.dist(word.polygon[0], word.polygon[1]), math.dist(word.polygon[1], word.polygon[2])]
    return float(np.abs(boxes[0] - wanted).max()) / (max(sides) / len(word.text))


LINES = {
    "latin": make_line(["Hello", "wide", "world"], 100, 100),
    "tiny": make_line(["tiny", "i"], 100, 1000, 8, gap=0.2),
    "chinese": make_line(["山茶书店", "营业时间"], 100, 200, 40),
    "outside the BMP": make_line(["𠮷野家", "𝒳𝒴", "mix"], 100, 300),
    "downwards": make_line(["竖排", "down"], 900, 100, angle=90, turns=1),
    "upwards": make_line(["up", "wards"], 800, 900, angle=270, turns=3),
    "upside down": make_line(["upside", "turned"], 700, 1200, angle=180, turns=2),
}


@pytest.mark.parametrize("kind", LINES)
def test_poppler_finds_every_word_at_its_place(find_words, kind):
    found = find_words(write((make_result(list(LINES.values())), None)))
    assert [text for text, _ in found if text in [word.text for word in LINES[kind].words]]
    assert max(measure_offset(word, found) for word in LINES[kind].words) < 0.05


def test_place_is_judged(find_words):
    line = LINES["latin"]
    moved = replace(line.words[0], polygon=line.words[0].polygon + np.float32(12))
    found = find_words(write((make_result([replace(line, words=(moved, *line.words[1:]))]), None)))
    assert measure_offset(line.words[0], found) > 0.5


@pytest.mark.parametrize("angle", [1, 3, 10, 30, -20, 44, 60])
def test_words_of_slanted_lines_stay_whole(find_words, angle):
    line = make_line(["slanted", "words", "书店"], 300, 600, angle=angle)
    found = dict(find_words(write((make_result([line]), None))))
    assert set(found) == {word.text for word in line.words}
    for word in line.words:
        # poppler has no slanted boxes: it gives one along the nearer axis, from where the baseline begins.
        axis = int(abs(angle) > 45)
        corners = word.polygon[:, axis]
        height = 30 * abs(math.sin(math.radians(angle if axis == 0 else 90 - angle)))
        start, end = found[word.text][axis], found[word.text][axis + 2]
        assert abs(start - corners.min()) < height + 1
        assert abs(end - corners.max()) < height + 1


@pytest.mark.parametrize("angle", [0, 1, 20, -35, 90])
def test_pdfium_reads_lines_in_order(angle):
    lines = [make_line(["a", "slanted", "line", "书店"], 400, 600, angle=angle), make_line(["i"], 900, 1300)]
    content = write((make_result(lines), None))
    assert read_pdfium(content).split("\n") == ["a slanted line 书店", "i"]
    document = pypdfium2.PdfDocument(content)
    text_page = document[0].get_textpage()
    left, bottom, right, top = text_page.get_charbox(len("a slanted line 书店\r\n"))
    height = document[0].get_height()
    document.close()
    box = np.array([left, height - top, right, height - bottom]) * POINT
    assert np.abs(box - [900, 1300, 900 + 0.55 * 30, 1330]).max() < 2


def test_right_to_left_text_comes_in_logical_order(find_words):
    line = make_line(["אבגד", "הוז"], 100, 100)
    # The first word is on the right.
    words = tuple(
        replace(word, text=text, characters=()) for word, text in zip(line.words[::-1], ["שלום", "עולם"], strict=False)
    )
    content = write((make_result([replace(line, text="שלום עולם", words=words)]), None))
    assert read_pdfium(content) == "שלום עולם"
    # poppler's boxes have the characters from left to right.
    found = dict(find_words(content))
    assert set(found) == {"םולש", "םלוע"}
    assert found["םולש"][0] > found["םלוע"][2]


def test_words_without_a_space_are_not_parted(find_words):
    line = make_line(["山", "茶", "Book", "店"], 100, 100, gap=0.2)
    found = find_words(write((make_result([replace(line, text="山茶Book店")]), None)))
    assert [text for text, _ in found] == ["山茶Book店"]


def test_lines_without_words_can_be_searched(find_words):
    line = make_box("no words here", 100, 100, 400)
    found = find_words(write((make_result([line], return_words="none"), None)))
    assert [text for text, _ in found] == ["no", "words", "here"]
    assert np.allclose([found[0][1][0], found[2][1][2]], [100, 500], atol=1)


def test_text_without_extent_does_no_harm(find_words):
    flat = make_box("flat", 100, 100, 0, 0)
    blank = make_box("  ", 100, 300, 100)
    odd = make_box("\ud800x", 100, 200, 100)
    write((make_result([flat, blank, odd]), None))
    write((make_result([]), None))


# --- pages


def draw(content: bytes, page: int = 0, scale: float = POINT * (1 - 1e-6)) -> np.ndarray:
    document = pypdfium2.PdfDocument(content)
    try:
        return document[page].render(scale=scale).to_numpy().copy()
    finally:
        document.close()


def make_picture(height: int = 140, width: int = 100) -> np.ndarray:
    picture = np.random.default_rng(0).integers(0, 255, (height // 20, width // 20, 3), dtype=np.uint8)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST)


def encode(picture: np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture[:, :, ::-1]).save(file, kind, **options)
    return file.getvalue()


def make_picture_result(picture: np.ndarray, lines: Sequence[TextLine] = ()) -> OcrResult:
    result = make_result(lines)
    result.image = picture
    return result


def test_text_is_invisible():
    picture = np.full((1400, 1000, 3), 255, np.uint8)
    assert draw(write((make_picture_result(picture, list(LINES.values())), None))).min() == 255


def test_jpeg_is_taken_as_it_is():
    picture = make_picture()
    jpeg = encode(picture, "JPEG", dpi=(144, 144))
    content = write((make_picture_result(cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1)), jpeg))
    with pikepdf.open(io.BytesIO(content)) as pdf:
        (image,) = pdf.pages[0].Resources.XObject.values()
        assert image.read_raw_bytes() == jpeg
        assert [float(value) for value in pdf.pages[0].mediabox] == [0, 0, 50, 70]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", None])
@pytest.mark.parametrize("mode", ["colour", "grey", "black and white"])
def test_other_pictures_lose_nothing(kind, mode):
    picture = make_picture()
    if mode != "colour":
        picture[:] = picture[:, :, :1]
    if mode == "black and white":
        picture[:] = np.where(picture < 128, 0, 255)
    content = write((make_picture_result(picture), kind and encode(picture, kind)))
    assert np.array_equal(draw(content), picture)
    with pikepdf.open(io.BytesIO(content)) as pdf:
        (image,) = pdf.pages[0].Resources.XObject.values()
        assert image.ColorSpace == ("/DeviceRGB" if mode == "colour" else "/DeviceGray")
        assert image.BitsPerComponent == (1 if mode == "black and white" else 8)


@pytest.mark.parametrize(
    ("kind", "options"), [("WEBP", {}), ("JPEG", {"exif": {0x0112: 6}})], ids=["webp", "turned jpeg"]
)
def test_lossy_pictures_become_jpegs_in_the_way_they_are_shown(kind, options):
    if "exif" in options:
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {"exif": exif}
    picture = make_picture()
    upright = cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE) if kind == "JPEG" else picture
    content = write((make_picture_result(upright), encode(picture, kind, quality=95, **options)))
    assert np.abs(draw(content).astype(int) - upright).mean() < 10
    with pikepdf.open(io.BytesIO(content)) as pdf:
        (image,) = pdf.pages[0].Resources.XObject.values()
        assert image.Filter == "/DCTDecode"


@pytest.mark.parametrize(("dpi", "expected"), [(300, 300), (72, 200), (100_000, 200)])
def test_resolution_is_that_of_the_file_if_it_makes_sense(dpi, expected):
    picture = make_picture()
    content = write((make_picture_result(picture), encode(picture, "PNG", dpi=(dpi, dpi))))
    with pikepdf.open(io.BytesIO(content)) as pdf:
        assert float(pdf.pages[0].mediabox[2]) == pytest.approx(100 * 72 / expected, rel=1e-3)


def test_page_of_a_tiff_has_its_own_resolution():
    pictures = [make_picture(), make_picture(200, 160)]
    file = io.BytesIO()
    first, second = (Image.fromarray(picture[:, :, ::-1]) for picture in pictures)
    second.encoderinfo = {"dpi": (100, 100)}
    first.save(file, "TIFF", save_all=True, append_images=[second], dpi=(150, 150))
    results = [make_picture_result(picture) for picture in pictures]
    results[0].page_index, results[1].page_index = 0, 1
    content = write(*((result, file.getvalue()) for result in results))
    with pikepdf.open(io.BytesIO(content)) as pdf:
        widths = [float(page.mediabox[2]) for page in pdf.pages]
    assert widths == [pytest.approx(48), pytest.approx(115.2)]


def test_page_is_no_larger_than_pdf_allows():
    content = write((make_picture_result(np.full((50_000, 20, 3), 255, np.uint8)), None))
    with pikepdf.open(io.BytesIO(content)) as pdf:
        assert float(pdf.pages[0].mediabox[3]) <= 14400


# --- PDFs


def make_pdf(rotate: int = 0, crop: Sequence[float] | None = None, drawing: bytes = b"") -> bytes:
    """Return a PDF of two pages with a black square in a corner, bookmarks and a title."""
    with pikepdf.new() as pdf:
        for _ in range(2):
            page = pdf.add_blank_page(page_size=(300, 400))
            page.contents_add(b"0.5 0 0 0.5 9 9 cm q 0 0 100 50 re f " + drawing)
            page.Rotate = rotate
            if crop is not None:
                page.CropBox = crop
        pdf.docinfo["/Title"] = "A title"
        with pdf.open_outline() as outline:
            outline.root.append(pikepdf.OutlineItem("Chapter", 1))
        file = io.BytesIO()
        pdf.save(file)
        return file.getvalue()


def read_pages(content: bytes, lines: Sequence[TextLine]) -> list[OcrResult]:
    """Return a result for each page of a PDF, as if these lines had been read in both."""
    results = []
    for index in range(2):
        result = make_result(lines, path="a.pdf", page_index=index)
        result.image = draw(content, index)
        results.append(result)
    return results


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", [None, [20, 30, 280, 390]], ids=["whole", "cropped"])
def test_pages_of_a_pdf_are_kept_and_their_text_is_over_them(find_words, rotate, crop):
    source = make_pdf(rotate, crop)
    line = make_line(["Hello", "world"], 100, 200)
    content = write(*((result, source) for result in read_pages(source, [line])))
    found = find_words(content)
    assert [text for text, _ in found] == ["Hello", "world"] * 2
    # In the half that shows page 1; poppler's boxes count from the corner of the media box.
    document = pypdfium2.PdfDocument(content)
    text_page = document[1].get_textpage()
    left, bottom, right, top = text_page.get_charbox(0)
    bitmap = draw(content, 1)
    position = [document[1].get_mediabox(), document[1].get_cropbox()]
    document.close()
    assert np.array_equal(bitmap, draw(source, 1))
    x0, y0, x1, y1 = position[1] if crop else position[0]
    middle = {
        0: ((left + right) / 2 - x0, y1 - (bottom + top) / 2),
        90: ((bottom + top) / 2 - y0, (left + right) / 2 - x0),
        180: (x1 - (left + right) / 2, (bottom + top) / 2 - y0),
        270: (y1 - (bottom + top) / 2, x1 - (left + right) / 2),
    }[rotate]
    assert np.array(middle) * POINT == pytest.approx([100 + 0.55 * 15, 215], abs=1.5)
    with pikepdf.open(io.BytesIO(content)) as pdf, pdf.open_outline() as outline:
        assert str(pdf.docinfo["/Title"]) == "A title"
        assert [item.title for item in outline.root] == ["Chapter"]


def test_words_that_a_page_has_are_not_written_again():
    source = make_pdf()
    result = read_pages(source, [make_line(["Hello", "world"], 100, 200)])[0]
    once = write((result, source))
    more = read_pages(once, [make_line(["Hello", "world"], 100, 200), make_line(["new"], 100, 600)])[0]
    assert read_pdfium(write((more, once))).split() == ["new", "Hello", "world"]
    assert read_pdfium(once).split() == ["Hello", "world"]


def test_pictures_and_pdfs_in_one_file():
    source = make_pdf()
    line = make_line(["Hello"], 10, 20, 20)
    picture = make_picture_result(make_picture(), [line])
    pages = [(picture, None), *((result, source) for result in read_pages(source, [line])), (picture, None)]
    for order in (pages, pages[1:]):
        content = write(*order)
        document = pypdfium2.PdfDocument(content)
        assert [page.get_textpage().get_text_range() for page in document] == ["Hello"] * len(order)
        document.close()


def test_pdf_that_cannot_be_copied():
    content = b"%PDF-1.4 damaged"
    pdf = SearchablePdf()
    with pytest.raises(InputError, match=r"a\.pdf"):
        pdf.add(make_result([], path="a.pdf"), content)
    assert len(pdf) == 0


def test_pdf_needs_a_page(tmp_path):
    with pytest.raises(UsageError, match="at least one page"):
        SearchablePdf().save(tmp_path / "a.pdf")
    assert list(tmp_path.iterdir()) == []


def test_two_runs_write_the_same(tmp_path: Path):
    page = (make_result(list(LINES.values())), None)
    assert write(page) == write(page)


def test_file_has_no_faults(tmp_path):
    content = write((make_result(list(LINES.values())), None))
    with pikepdf.open(io.BytesIO(content)) as pdf:
        assert pdf.check_pdf_syntax() == []
    assert len(content) < 12_000


def draw_page(lines: int, seed: int) -> tuple[np.ndarray, list[list[tuple[str, float, float]]]]:
    """Return a white page, and for each line its words with left and right end in pixels."""
    rng = np.random.default_rng(seed)
    page, words, y = np.full((60 * lines + 40, 900), 255.0), [], 30
    for i in range(lines):
        text = make_text(("latin", "chinese")[i % 2], rng).strip()
        ink, ends = draw_glyphs(text, find_font((SANS, SERIF)[i // 2 % 2]), 28)
        first = int(np.nanmin(ends))
        ink = ink[: ink.shape[0] // OVERSAMPLING * OVERSAMPLING, first : int(np.nanmax(ends))]
        small = cv2.resize(ink, None, fx=1 / OVERSAMPLING, fy=1 / OVERSAMPLING, interpolation=cv2.INTER_AREA)
        page[y : y + small.shape[0], 40 : 40 + small.shape[1]] -= small / 255 * 230
        places = [(word.start(), word.end()) for word in re.finditer(r"\S+", text)]
        edges = ((np.array(ends) - first) / OVERSAMPLING + 40).tolist()
        words.append([(text[a:b], edges[a][0], edges[b - 1][1]) for a, b in places])
        y += 60
    return page.astype(np.uint8), words


def test_words_that_were_read_are_within_half_a_glyph(find_words):
    page, lines = draw_page(12, 3)
    (result,) = create_pipeline("OCR", overrides={"Recognition.return_words": "words"}).predict(page)
    found = find_words(write((result, None)))
    read = set(result["rec_text"])
    offsets = []
    for words in lines:
        # The recogniser may lose a space, but what it reads right must be in its place.
        if " ".join(text for text, _, _ in words) in read:
            for text, left, right in words:
                offset = min(max(abs(b[0] - left), abs(b[2] - right)) for word, b in found if word == text)
                offsets.append(offset / ((right - left) / len(text)))
    assert len(offsets) >= 10
    assert max(offsets) < 0.5
    assert float(np.mean(offsets)) < 0.15
