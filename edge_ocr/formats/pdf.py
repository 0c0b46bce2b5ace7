"""PDFs that can be searched: pages as they are, with the text over them, invisible."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

from edge_ocr.core.files import write_file
from edge_ocr.core.types import BgrImage, TextLine, Word
from edge_ocr.errors import InputError, ToolchainError, UsageError
from edge_ocr.formats.glyphless import GLYPH_WIDTH, UNITS_PER_EM, GlyphlessFont
from edge_ocr.formats.paragraphs import group_lines
from edge_ocr.formats.shapes import DESCENT, find_turns, is_right_to_left, lay, list_words
from edge_ocr.inputs import FORMATS, PDF_DPI, find_text, is_pdf
from edge_ocr.results import JPEG_QUALITY, OcrResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    """2 × 3, from pixels of the picture, y down, to points of the page, y up."""

# Formats that lose detail, whose pictures are encoded as JPEG if they cannot be taken as they are.
_LOSSY = ("AVIF", "JPEG", "JPEG2000", "MPO", "WEBP")

# Resolutions outside of this are not those of a scan: cameras and programs write 72 if they know none.
_DPI = (73, 4800)

# Pages have at most this many points a side (PDF 32000, C.2).
_MAX_POINTS = 14400

# The Exif tag that says how a picture is to be turned.
_ORIENTATION = 0x0112

# In heights of a line: the least width of a space, wide enough for readers that go by gaps; the widest gap between
# words without a space that still belongs to the first of them.
_LEAST_SPACE = 0.25
_CLOSED_GAP = 1.0

# poppler begins a word where the baseline of a character differs by 0.5 pt from that of the first.
_MAX_DRIFT = 0.3


class SearchablePdf:
    """A PDF of the pages of results, in the order in which they are added, whose text can be searched and copied."""

    def __init__(self, *, text_only: bool = False) -> None:
        """Begin a PDF without pages.

        `text_only`: leave out the pictures, for programs that put the text over pages of their own.

        Raises ToolchainError if pikepdf or pypdfium2 is not installed.
        """
        try:
            import pikepdf
            import pypdfium2  # noqa: F401 - find_text needs it, but only at the first page
        except ImportError as error:
            raise ToolchainError(
                f"writing a PDF needs {error.name}, which is not installed", "run pip install 'edge-ocr[pdf]'"
            ) from None
        self._library = pikepdf
        self._text_only = text_only
        self._pdf: Any = None
        self._font = GlyphlessFont()
        self._font_object: Any = None
        self._source: tuple[bytes, int] | None = None
        self._file: tuple[str, bytes] | None = None

    def __len__(self) -> int:
        return 0 if self._pdf is None else len(self._pdf.pages)

    def add(self, result: OcrResult, content: bytes | None = None) -> None:
        """Add the page of a result.

        `content`: the file that the result was read from. All pages of a PDF are kept as they are, with bookmarks and
        metadata if it is the first file; words are left out where a page has text already. A JPEG is taken as it is
        unless it is turned. By default, that is the file at the result's `input_path`; if there is none, such as for
        an array, the picture is taken from the result. Pages have the resolution that the file gives, or 200 dpi.

        Raises InputError if the PDF cannot be changed.
        """
        index = result.page_index or 0
        content = self._read_file(result) if content is None else content
        if content is not None and is_pdf(content):
            page = self._find_page(content, result)
            matrix, has_text = _map_page(page, result.image), find_text(content, index)
        else:
            page, matrix, drawing = self._add_picture(result.image, content, index)
            has_text = None
        # The file may be one of ours, with a font of this name.
        taken = page.resources.get("/Font", {})
        names = (f"/F{number}" for number in itertools.count(1))
        name = next(name for name in names if name not in taken)
        page.add_resource(self._font_object, self._library.Name.Font, self._library.Name(name))
        lines = [line for paragraph in group_lines(result.reading) for line in paragraph.lines]
        layer = _write_layer(lines, matrix, name, self._font, has_text)
        if has_text is None:
            # As a stream, not an array of one: OCRmyPDF reads nothing else.
            page.obj["/Contents"] = self._pdf.make_stream(layer + drawing)
        else:
            # Before the page's own content, which may leave other coordinates behind; nobody sees the order.
            page.contents_add(layer, prepend=True)

    def _read_file(self, result: OcrResult) -> bytes | None:
        """Return the file that a result was read from; the same bytes for all pages."""
        path = result["input_path"]
        if path is None or not Path(path).is_file():
            return None
        if self._file is None or self._file[0] != path or not result.page_index:
            self._file = (path, Path(path).read_bytes())
        return self._file[1]

    def to_bytes(self) -> bytes:
        """Return the PDF.

        Raises UsageError if it has no pages.
        """
        if self._pdf is None:
            raise UsageError("a PDF needs at least one page", "add a result")
        self._font.fill(self._font_object, self._pdf)
        file = io.BytesIO()
        self._pdf.save(file, deterministic_id=True)
        return file.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the PDF to a file, whole or not at all.

        Raises UsageError if it has no pages or cannot be written.
        """
        write_file(Path(path), self.to_bytes())

    def _begin(self, pdf: Any) -> None:
        self._pdf = pdf
        self._font_object = pdf.make_indirect(self._library.Dictionary())

    def _find_page(self, content: bytes, result: OcrResult) -> Any:
        """Return the page of a PDF, all of whose pages are added at the first."""
        if self._source is None or self._source[0] is not content:
            try:
                pdf = self._library.open(io.BytesIO(content))
                count = len(self)
                if self._pdf is None:
                    self._begin(pdf)
                else:
                    self._pdf.pages.extend(pdf.pages)
            except self._library.PdfError as error:
                label = result["input_path"] or "PDF"
                raise InputError(f"{label} cannot be copied: {error}", "repair the PDF with qpdf") from None
            self._source = (content, count)
        return self._pdf.pages[self._source[1] + (result.page_index or 0)]

    def _add_picture(self, image: BgrImage, content: bytes | None, index: int) -> tuple[Any, Matrix, bytes]:
        """Return a new page, the map from pixels to its points, and the operators that draw the picture."""
        pikepdf = self._library
        if self._pdf is None:
            self._begin(pikepdf.new())
        height, width = image.shape[:2]
        file = _PictureFile.open(content, index)
        scale = 72 / max(file.dpi, max(height, width) * 72 / _MAX_POINTS)
        across, down = round(width * scale, 4), round(height * scale, 4)
        page = self._pdf.add_blank_page(page_size=(across, down))
        matrix = np.array([[across / width, 0, 0], [0, -down / height, down]])
        if self._text_only:
            return page, matrix, b""
        data, values = _encode(image, file)
        picture = pikepdf.Stream(self._pdf, data)
        for key, value in {"Type": "/XObject", "Subtype": "/Image", "Width": width, "Height": height, **values}.items():
            picture[f"/{key}"] = _convert(pikepdf, value)
        page.add_resource(picture, pikepdf.Name.XObject, pikepdf.Name.Picture)
        return page, matrix, f"q {across} 0 0 {down} 0 0 cm /Picture Do Q\n".encode()


def _convert(pikepdf: Any, value: Any) -> Any:
    """Return a value for pikepdf: names are written as strings with a slash."""
    if isinstance(value, str):
        return pikepdf.Name(value)
    if isinstance(value, dict):
        return pikepdf.Dictionary({f"/{key}": _convert(pikepdf, item) for key, item in value.items()})
    return value


@dataclass(frozen=True)
class _PictureFile:
    """What the file of a picture says of it; without a file, nothing."""

    content: bytes = b""
    kind: str | None = None
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    """Width and height, before it is turned upright."""
    is_upright: bool = True
    dpi: float = PDF_DPI

    @staticmethod
    def open(content: bytes | None, index: int) -> _PictureFile:
        """Read the header of a page of a file that has been read as a picture before."""
        if content is None:
            return _PictureFile()
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            picture.seek(index)
            found = float(picture.info.get("dpi", (0, 0))[0])
            dpi = found if _DPI[0] <= found <= _DPI[1] else PDF_DPI
            is_upright = picture.getexif().get(_ORIENTATION, 1) == 1
            return _PictureFile(content, picture.format, picture.mode, picture.size, is_upright, dpi)


def _encode(image: BgrImage, file: _PictureFile) -> tuple[bytes, dict[str, Any]]:
    """Return a picture's data, and its entries in an image's dictionary."""
    is_whole = file.is_upright and file.size == (image.shape[1], image.shape[0])
    if file.kind == "JPEG" and file.mode in ("L", "RGB") and is_whole:
        return file.content, _describe_jpeg(file.mode == "L")
    is_grey = bool((image[:, :, 0] == image[:, :, 1]).all() and (image[:, :, 1] == image[:, :, 2]).all())
    shown = image[:, :, 0] if is_grey else image
    if file.kind in _LOSSY:
        _, jpeg = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return jpeg.tobytes(), _describe_jpeg(is_grey)
    is_bilevel = is_grey and not ((shown > 0) & (shown < 255)).any()
    options = [cv2.IMWRITE_PNG_BILEVEL, 1] if is_bilevel else [cv2.IMWRITE_PNG_COMPRESSION, 6]
    _, png = cv2.imencode(".png", np.ascontiguousarray(shown), options)
    bits, colours = 1 if is_bilevel else 8, 1 if is_grey else 3
    # A PNG's data is what a PDF calls Flate with the predictors of PNG.
    predictor = {"Predictor": 15, "Colors": colours, "BitsPerComponent": bits, "Columns": image.shape[1]}
    values = {"ColorSpace": "/DeviceGray" if is_grey else "/DeviceRGB", "BitsPerComponent": bits}
    return _join_png(png.tobytes()), {**values, "Filter": "/FlateDecode", "DecodeParms": predictor}


def _describe_jpeg(is_grey: bool) -> dict[str, Any]:
    colours = "/DeviceGray" if is_grey else "/DeviceRGB"
    return {"ColorSpace": colours, "BitsPerComponent": 8, "Filter": "/DCTDecode"}


def _join_png(png: bytes) -> bytes:
    """Return the compressed pixels of a PNG file."""
    pieces, place = [], 8
    while place < len(png):
        length = int.from_bytes(png[place : place + 4], "big")
        if png[place + 4 : place + 8] == b"IDAT":
            pieces.append(png[place + 8 : place + 8 + length])
        place += length + 12
    return b"".join(pieces)


def _map_page(page: Any, image: BgrImage) -> Matrix:
    """Return the map from a picture of a whole page, rendered upright, to the page's points."""
    x0, y0, x1, y1 = (float(value) for value in page.cropbox)
    media = [float(value) for value in page.mediabox]
    # Only what both boxes contain is shown.
    left, right = max(min(x0, x1), min(media[::2])), min(max(x0, x1), max(media[::2]))
    bottom, top = max(min(y0, y1), min(media[1::2])), min(max(y0, y1), max(media[1::2]))
    height, width = image.shape[:2]
    across, down = right - left, top - bottom
    turns = int(page.get("/Rotate", 0)) // 90 % 4
    # Columns: what a pixel to the right and one down add; where the picture's upper left corner is.
    corners = {
        0: ((across / width, 0), (0, -down / height), (left, top)),
        1: ((0, down / width), (across / height, 0), (left, bottom)),
        2: ((-across / width, 0), (0, down / height), (right, bottom)),
        3: ((0, -down / width), (-across / height, 0), (right, top)),
    }
    return np.array(corners[turns]).T


def _write_layer(
    lines: list[TextLine],
    matrix: Matrix,
    font_name: str,
    font: GlyphlessFont,
    has_text: Callable[[tuple[float, float, float, float]], bool] | None,
) -> bytes:
    """Return the operators that write every word invisibly at its place."""
    operators = ["q", "BT", "3 Tr"]
    for line in lines:
        turns = find_turns(line)
        words = [
            (word, has_space, _map(lay(word.polygon, turns), matrix))
            for word, has_space in list_words(line)
            if word.text.strip()
        ]
        if has_text is not None:
            words = [item for item in words if not has_text(_shrink(item[2]))]
        operators += _write_line(words, font_name, font)
    return "\n".join([*operators, "ET", "Q", ""]).encode("ascii")


def _map(polygon: NDArray[np.float32], matrix: Matrix) -> Matrix:
    return polygon.astype(float) @ matrix[:, :2].T + matrix[:, 2]


def _shrink(quad: Matrix) -> tuple[float, float, float, float]:
    """Return left, bottom, right and top of the inner half of a box, which neighbours do not reach."""
    low, high = quad.min(axis=0), quad.max(axis=0)
    (left, bottom), (right, top) = low + (high - low) / 4, high - (high - low) / 4
    return float(left), float(bottom), float(right), float(top)


def _write_line(words: list[tuple[Word, bool, Matrix]], font_name: str, font: GlyphlessFont) -> list[str]:
    if not words:
        return []
    quads = np.array([quad for _, _, quad in words])
    # One direction and size for the whole line, or readers would take its words for separate ones.
    middles = (quads[:, :2] + quads[:, [3, 2]]) / 2
    across = middles[:, 1].sum(axis=0) - middles[:, 0].sum(axis=0)
    along = across / (math.hypot(*across) or 1.0)
    up = np.array([-along[1], along[0]])
    size = max(float(np.mean((quads[:, 0] + quads[:, 1] - quads[:, 2] - quads[:, 3]) @ up)) / 2, 0.1)
    operators = [f"{font_name} {size:.3f} Tf"]
    spans = [(float((quad @ along).min()), float((quad @ along).max())) for quad in quads]
    # poppler breaks words whose characters are not level; a whole word as one glyph stays whole.
    is_slanted = float(min(abs(along))) * max(end - start for start, end in spans) > _MAX_DRIFT
    for i, (word, has_space, quad) in enumerate(words):
        start, end = spans[i]
        baseline = float(((quad[2] + quad[3]) / 2) @ up) + DESCENT * size
        text = word.text[::-1] if is_right_to_left(word.text) else word.text
        parts = [text] if is_slanted else list(text)
        space = None
        if i + 1 < len(words):
            after = spans[i + 1]
            is_before = after[0] < start
            gap = start - after[1] if is_before else after[0] - end
            if has_space:
                width = max(gap, _LEAST_SPACE * size)
                space = (after[1] if is_before else end, width)
            elif not is_before and 0 < gap < _CLOSED_GAP * size:
                end += gap
        operators.append(_place(along, up, start, baseline, end - start, size, parts, font))
        if space is not None:
            operators.append(_place(along, up, space[0], baseline, space[1], size, [" "], font))
    return operators


def _place(
    along: Matrix,
    up: Matrix,
    start: float,
    baseline: float,
    width: float,
    size: float,
    parts: list[str],
    font: GlyphlessFont,
) -> str:
    """Return the operators that write a text from a place on, in points along and above the origin, with that width."""
    x, y = along * start + up * baseline
    stretch = 100 * max(width, 0.01) / (len(parts) * size * GLYPH_WIDTH / UNITS_PER_EM)
    turn = " ".join(f"{value:.6f}" for value in (*along, *up))
    return f"{stretch:.4f} Tz {turn} {x:.3f} {y:.3f} Tm {font.encode(parts)} Tj"
