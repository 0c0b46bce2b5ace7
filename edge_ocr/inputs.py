"""Turns everything that `predict` accepts into BGR images."""

from __future__ import annotations

import http.client
import io
import itertools
import os
import re
import sys
import threading
import urllib.error
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from edge_ocr.config import InputSettings
from edge_ocr.core.pictures import (
    check_length,
    convert_array,
    decode_picture,
    flatten_alpha,
    is_stream,
    name_stream,
    read_chunks,
)
from edge_ocr.core.types import BgrImage
from edge_ocr.errors import InputError, ToolchainError
from edge_ocr.fetch.fetcher import CutOffError, Fetcher, TooLargeError, open_from_anywhere, read_pieces

# Only decoders that read pixels: others in Pillow start programs (EPS) or follow references.
# Those that Pillow always loads come first: trying others loads all of its plugins, which takes 30 ms.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "AVIF", "JPEG2000", "TIFF", "WEBP")

_SUFFIXES_TEXT = ".avif .bmp .gif .jp2 .jpeg .jpg .pbm .pdf .pgm .png .pnm .ppm .tif .tiff .webp"

SUFFIXES = frozenset(_SUFFIXES_TEXT.split())
"""Suffixes of the files in a folder that count as pictures, in upper or lower case."""

# In the error for a file with unreadable pages.
_MAX_LISTED_PAGES = 20

# Resolution of rendered PDF pages: a line of 10 pt text is then 28 px high.
PDF_DPI = 200


@dataclass(frozen=True)
class Page:
    """One image to read."""

    image: BgrImage
    page_index: int | None
    """From 0 in a file with several pages; None in a file with one."""


@dataclass(frozen=True)
class Source:
    """One file, URL, bytes object, array or Pillow image; it is decoded when its pages are iterated."""

    data: Path | str | bytes | BinaryIO | NDArray[Any] | Image.Image
    input_path: str | None
    """The path or URL as given, or the path of an open file; None for data in memory."""
    single_page: bool = False
    """Refuse a file with several pages before decoding any."""

    def pages(self, settings: InputSettings, failures: dict[int, InputError] | None = None) -> Iterator[Page]:
        """Decode the pages one by one, skipping those that cannot be read.

        `failures`, if given, receives the error of each skipped page, by index.

        Raises InputError if the data cannot be read or is not a whole picture; without `failures`, also after the last
        page if any was skipped.
        """
        bad: dict[int, InputError] = {} if failures is None else failures
        yield from self._decode(settings, bad)
        if failures is None and bad:
            raise join_failures(bad, self.input_path)

    def load(self, settings: InputSettings) -> bytes:
        """Return the bytes of the file; the data must not be an array or a Pillow image.

        Raises InputError if they cannot be read.
        """
        label = self.input_path or "picture"
        if isinstance(self.data, str):
            content = download(self.data, settings)
        elif isinstance(self.data, Path):
            content = _read_file(self.data, settings)
        elif isinstance(self.data, bytes):
            content = self.data
        else:
            content = read_stream(cast(BinaryIO, self.data), label, settings)
        if not content:
            raise InputError(f"{label} is empty (0 bytes)")
        return content

    def _decode(self, settings: InputSettings, failures: dict[int, InputError]) -> Iterator[Page]:
        label = self.input_path or "picture"
        if isinstance(self.data, np.ndarray):
            yield Page(convert_array(self.data), None)
            return
        if isinstance(self.data, Image.Image):
            yield Page(_convert_image(self.data, label, settings), None)
            return
        content = self.load(settings)
        decode = _decode_pdf if is_pdf(content) else _decode
        yield from decode(content, label, settings, self.single_page, failures)


def name_page(label: str, page_index: int) -> str:
    """Return the name of a page in error messages."""
    return f"page {page_index + 1} of {label}"


def join_failures(failures: Mapping[int, InputError], input_path: str | None) -> InputError:
    """Return one error for the unreadable pages of a file; `failures` has the error of each, by index, at least one."""
    numbers = [str(index + 1) for index in sorted(failures)]
    first = failures[min(failures)]
    if len(numbers) == 1:
        return first
    if len(numbers) > _MAX_LISTED_PAGES:
        numbers = [*numbers[:_MAX_LISTED_PAGES], f"{len(numbers) - _MAX_LISTED_PAGES:,} more"]
    listed = f"{', '.join(numbers[:-1])} and {numbers[-1]}"
    label = input_path or "picture"
    return InputError(f"pages {listed} of {label} cannot be read; the first: {first.message}", first.hint)


def list_sources(value: Any) -> Iterator[Source]:
    """Yield a source for each picture in `value`.

    `value` is an array, a Pillow image, a path, an http(s) URL, a folder, bytes, an open binary file, {"img": …}, or an
    iterable of these. A folder gives its own pictures, sorted by name, not those of folders below it.

    Raises InputError for a missing file, a folder without pictures, a file open as text, or any other type.
    """
    if isinstance(value, np.ndarray | Image.Image):
        yield Source(value, None)
    elif isinstance(value, bytes | bytearray | memoryview):
        yield Source(bytes(value), None)
    elif isinstance(value, Mapping):
        if set(value) != {"img"}:
            raise InputError(f'expected a dict with the single key "img", got {sorted(map(str, value))}')
        yield from list_sources(value["img"])
    elif isinstance(value, str) and re.match(r"https?://", value, re.IGNORECASE):
        yield Source(value, value)
    elif isinstance(value, str | os.PathLike):
        yield from _list_path(os.fsdecode(value))
    elif is_stream(value):
        yield Source(value, name_stream(value))
    elif isinstance(value, Iterable):
        for item in value:
            yield from list_sources(item)
    else:
        raise InputError(
            f"cannot read {type(value).__name__} as a picture",
            "give an array, a Pillow image, a path, a URL, a folder, bytes, an open binary file, {'img': …} or a list "
            "of these",
        )


def _list_path(value: str) -> Iterator[Source]:
    # Path(""), for instance from an unset shell variable, is the current folder.
    if value == "":
        raise InputError("the path is empty")
    path = Path(value)
    try:
        if not path.is_dir():
            if not path.exists():
                raise InputError(f"no such file: {value}")
            found = [path]
        else:
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    except OSError as error:  # such as a name that is too long, or a folder without permission
        raise InputError(f"{value} cannot be read: {error.strerror or error}") from None
    if found == [path]:
        yield Source(path, value)
        return
    if not found:
        raise InputError(f"no pictures in folder {value}", f"give a folder with {_SUFFIXES_TEXT}")
    for file in found:
        yield Source(file, str(file))


def name_source(input_path: str | None) -> str:
    """Return a file name without suffix for the results of an input; `image` if it has no name."""
    if input_path is None:
        return "image"
    if input_path == "-":
        return "stdin"
    if re.match(r"https?://", input_path, re.IGNORECASE):
        # A URL must not bring a path or odd characters into the file system.
        try:
            path = urlsplit(input_path).path
        except ValueError:  # not a valid URL, which reading it reports
            path = ""
        last = unquote(path).replace("\\", "/").rsplit("/", 1)[-1]
        return re.sub(r"[^\w.-]", "_", Path(last).stem).strip(".") or "image"
    return Path(input_path).stem or "image"


def download(
    url: str,
    settings: InputSettings,
    fetcher: Fetcher | None = None,
    take: Callable[[int], object] = lambda count: None,
) -> bytes:
    """Download an http(s) URL into memory. The default fetcher accepts every address (`open_from_anywhere`).

    `take` receives the size in bytes of each piece before it is stored; it may refuse by raising any exception.

    Raises InputError if the server refuses, the whole download takes longer than `download_timeout_s`, or the file
    exceeds `max_download_bytes`.
    """
    address = _encode_url(url)
    try:
        with (fetcher or open_from_anywhere()).open(address, settings.download_timeout_s) as answer:
            # Unlike a bytearray, BytesIO gives out its content without a copy.
            content = io.BytesIO()
            for piece in read_pieces(answer, settings.max_download_bytes):
                take(len(piece))
                content.write(piece)
            return content.getvalue()
    except TooLargeError:
        raise InputError(
            f"{url} is larger than {settings.max_download_bytes / 2**20:g} MB",
            "raise the limit with --set Input.max_download_mb=N",
        ) from None
    except CutOffError as error:
        raise InputError(
            f"{url}: the connection broke after {error.actual:,} of {error.announced:,} bytes", "try again"
        ) from None
    except urllib.error.HTTPError as error:
        # Unclosed, it keeps the connection open.
        error.close()
        # For a redirect loop, the reason has several lines.
        said = " ".join(str(error.reason).split())
        raise InputError(f"{url}: the server answered {error.code} {said}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise InputError(
                f"{url} took longer than {settings.download_timeout_s:g} s",
                "raise the limit with --set Input.download_timeout_s=N",
            ) from None
        raise InputError(f"{url} cannot be downloaded: {reason}") from None
    except MemoryError:
        raise InputError(f"{url} does not fit into memory") from None


def _encode_url(url: str) -> str:
    """Return the URL in ASCII; users paste Chinese characters and spaces."""
    try:
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            raise InputError("a URL with a user or password is not supported", "download the picture and give the file")
        host = (parts.hostname or "").encode("idna").decode()
        host = f"[{host}]" if ":" in host else host
        netloc = host if parts.port is None else f"{host}:{parts.port}"
    except ValueError as error:
        raise InputError(
            "the address is not a valid URL" if "@" in url else f"{url} is not a valid URL: {error}"
        ) from None
    safe = "/%:@!$&'()*+,;=~?"
    return urlunsplit((parts.scheme, netloc, quote(parts.path, safe), quote(parts.query, safe), ""))


def read_stream(stream: BinaryIO, label: str, settings: InputSettings) -> bytes:
    """Read a stream from its current position to its end.

    Raises InputError if it exceeds `max_file_bytes` or cannot be read.
    """
    content = bytearray()
    for chunk in read_chunks(stream, label):
        content += chunk
        if len(content) > settings.max_file_bytes:
            raise InputError(
                f"{label} is larger than {settings.max_file_bytes / 2**20:g} MB",
                "raise the limit with --set Input.max_file_mb=N",
            )
    return bytes(content)


def _read_file(path: Path, settings: InputSettings) -> bytes:
    try:
        if not path.is_file():
            raise InputError(f"{path} is not a regular file")
        with path.open("rb") as file:
            return read_stream(file, str(path), settings)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise InputError(f"{path} does not fit into memory") from None


# Rows of a picture that are converted at a time.
_STRIP_ROWS = 256

# The limit for the picture that this thread is decoding.
_max_pixels = ContextVar[int | None]("max_pixels", default=None)

_check_by_pillow = Image._decompression_bomb_check


def _check_pixels(size: tuple[int, int], **options: Any) -> None:
    """Refuse a picture above this thread's limit; without one, apply Pillow's own limit for other users."""
    limit = _max_pixels.get()
    if limit is None:
        _check_by_pillow(size, **options)
    elif max(1, size[0]) * max(1, size[1]) > limit:
        raise Image.DecompressionBombError


# Patched once: `Image.MAX_IMAGE_PIXELS` is one number for all threads of a process, those of others included.
Image._decompression_bomb_check = _check_pixels


@contextmanager
def _limit_pixels(max_pixels: int) -> Iterator[None]:
    """Let Pillow decode up to `max_pixels` in this thread, whether above or below its own limit."""
    token = _max_pixels.set(max_pixels)
    try:
        yield
    finally:
        _max_pixels.reset(token)


def _decode(
    content: bytes, label: str, settings: InputSettings, single_page: bool, failures: dict[int, InputError]
) -> Iterator[Page]:
    limit = settings.max_pixels
    # Each page of a TIFF has its own size; opening the file checks the first only.
    opening_limit = sys.maxsize if content.startswith((b"II", b"MM")) else limit
    with _explain_errors(content, label, limit), _limit_pixels(opening_limit):
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
        # Frames of a TIFF are pages; of an animated GIF or WebP, only the first is read. Pages are not counted: that
        # would read every header, and one bad header would cost the whole file.
        has_pages = picture.format == "TIFF" and getattr(picture, "is_animated", False)
        if not has_pages:
            _check_size(picture, label, limit)
            check_length(content, label)
        if picture.format == "GIF" and getattr(picture, "n_frames", 1) > 1:
            # A second frame far larger than the first is an old attack.
            picture.seek(1)
            _check_size(picture, label, limit)
            picture.seek(0)
    with picture:
        if not has_pages:
            with _explain_errors(content, label, limit), _limit_pixels(limit):
                # Pillow keeps the upper 8 of 16 bits per channel, which loses 10 or 12-bit content.
                has_lost_bits = _has_deep_colours(picture) and _is_dark(picture)
                image = decode_picture(content, label) if has_lost_bits else _to_bgr(picture, label)
            yield Page(image, None)
            return
        if single_page:
            raise _refuse_pages(label)
        for index in itertools.count():
            name = name_page(label, index)
            try:
                with _explain_errors(content, name, limit), _limit_pixels(limit):
                    if not _find_page(picture, index):
                        return
            except InputError as error:
                # A page's header gives the position of the next.
                failures[index] = InputError(error.message, "check the file: its later pages cannot be found")
                return
            try:
                with _explain_errors(content, name, limit), _limit_pixels(limit):
                    _check_size(picture, name, limit)
                    check_length(content, name, index)
                    image = _to_bgr(picture, name)
            except InputError as error:
                failures[index] = error
                continue
            yield Page(image, index)


def _find_page(picture: ImageFile, index: int) -> bool:
    """Read the header of a page of a TIFF; return False after the last page."""
    try:
        picture.seek(index)
    except EOFError:
        return False
    return True


def _has_deep_colours(picture: ImageFile) -> bool:
    """Return whether the file of a picture that is not loaded yet has 16 bits per channel."""
    raw_modes = [tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0] for tile in picture.tile]
    return picture.mode in ("LA", "RGB", "RGBA") and any(";16" in str(raw_mode) for raw_mode in raw_modes)


def _is_dark(picture: ImageFile) -> bool:
    """Return whether every colour value is in the lower half of its range; alpha does not count."""
    colours = np.asarray(picture)[:, :, : 1 if picture.mode == "LA" else 3]
    return int(colours.max()) < 128


def _refuse_pages(label: str) -> InputError:
    return InputError(f"{label} has several pages, expected one", "send one page at a time")


def _convert_image(picture: Image.Image, label: str, settings: InputSettings) -> BgrImage:
    """Return the same as for a file with this Pillow image, which is not changed."""
    limit = settings.max_pixels
    if 0 in picture.size:
        raise InputError(f"{label} is empty (size {picture.width}×{picture.height})")
    with _explain_errors(b"", label, limit), _limit_pixels(limit):
        _check_size(picture, label, limit)
        return _to_bgr(ImageOps.exif_transpose(picture), label)


def _check_size(picture: Image.Image, label: str, max_pixels: int) -> None:
    if picture.width * picture.height > max_pixels:
        raise _refuse_size(label, max_pixels)


def _refuse_size(label: str, max_pixels: int) -> InputError:
    return InputError(f"{label} has more than {max_pixels:,} pixels", "raise the limit with --set Input.max_pixels=N")


# First bytes of formats whose decoders do not distinguish a truncated file from another format.
_MAGICS = (b"II*\0", b"MM\0*", b"RIFF", b"\0\0\0\x0cjP", b"GIF8", b"\xff\xd8\xff", b"\x89PNG", b"BM")


@contextmanager
def _explain_errors(content: bytes, label: str, max_pixels: int) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise _refuse_size(label, max_pixels) from None
    except UnidentifiedImageError:
        if content.startswith(_MAGICS) or content[4:8] == b"ftyp":
            raise InputError(f"{label} is truncated or damaged") from None
        formats = ", ".join((*FORMATS, "PDF"))
        raise InputError(f"{label} is not a supported picture", f"use one of these formats: {formats}") from None
    except MemoryError:
        raise InputError(f"{label} does not fit into memory") from None
    except Exception as error:  # decoders raise many types for damaged files
        if "truncated" in str(error).lower() or isinstance(error, EOFError):
            raise InputError(f"{label} is truncated: {error}") from None
        raise InputError(f"{label} is truncated or damaged: {error}") from None


def _to_bgr(picture: Image.Image, label: str) -> BgrImage:
    """Return the picture upright; `picture` may be changed."""
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I"):
        # Grey with up to 16 bits, which Pillow calls I;16 or widens to 32-bit I.
        return convert_array(np.clip(np.asarray(picture), 0, 0xFFFF).astype(np.uint16))
    if picture.mode == "F":
        raise InputError(f"{label} has floating-point pixels, whose range is unknown", "convert it to 8 or 16 bits")
    if picture.has_transparency_data:
        rgba = np.asarray(picture.convert("RGBA"))
        return flatten_alpha(cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))
    image = np.empty((picture.height, picture.width, 3), np.uint8)
    # In strips: Pillow's own copies of the whole would take more memory than the picture.
    for top in range(0, picture.height, _STRIP_ROWS):
        strip = image[top : top + _STRIP_ROWS]
        rgb = np.asarray(picture.crop((0, top, picture.width, top + len(strip))).convert("RGB"))
        strip[:] = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return image


_PDF_HEAD = b"%PDF-"

# PDF readers accept up to this many bytes before the header, such as a byte order mark.
_MAX_PDF_OFFSET = 1024


def is_pdf(content: bytes) -> bool:
    """Return whether the bytes of a file are a PDF, rather than a picture."""
    place = content.find(_PDF_HEAD, 0, _MAX_PDF_OFFSET + len(_PDF_HEAD))
    if place <= 0:
        return place == 0
    # A picture may mention a PDF in its metadata.
    try:
        Image.open(io.BytesIO(content), formats=FORMATS).close()
    except UnidentifiedImageError:
        return True
    except Exception:  # a damaged picture, which its decoder reports
        return False
    return False


def _decode_pdf(
    content: bytes, label: str, settings: InputSettings, single_page: bool, failures: dict[int, InputError]
) -> Iterator[Page]:
    try:
        import pypdfium2
    except ImportError:
        raise ToolchainError(
            f"{label} is a PDF, and pypdfium2 is not installed", "run pip install 'edge-ocr[pdf]'"
        ) from None
    with _explain_pdf_errors(f"{label} is not a valid PDF", pypdfium2.PdfiumError):
        document = pypdfium2.PdfDocument(content)
        pages = len(document)
    try:
        if pages == 0:
            raise InputError(f"{label} has no pages")
        # Each page needs a few bytes; a false number could keep us busy for hours.
        if pages > len(content):
            raise InputError(f"{label} is damaged: it declares {pages:,} pages in {len(content):,} bytes")
        if pages > 1 and single_page:
            raise _refuse_pages(label)
        for index in range(pages):
            name = name_page(label, index)
            try:
                with _explain_pdf_errors(f"{name} cannot be rendered", pypdfium2.PdfiumError):
                    image = _draw_page(document, index, name, settings)
            except InputError as error:
                if pages == 1:
                    raise
                failures[index] = error
                continue
            yield Page(image, index if pages > 1 else None)
    finally:
        with _pdfium_lock:
            document.close()


# Only one thread at a time may use PDFium, even for different documents. Reentrant, because the garbage collector may
# close the document of an abandoned generator while the lock is held.
_pdfium_lock = threading.RLock()


@contextmanager
def _explain_pdf_errors(what: str, error_class: type[Exception]) -> Iterator[None]:
    try:
        with _pdfium_lock:
            yield
    except error_class as error:
        raise InputError(f"{what}: {error}") from None
    except MemoryError:
        raise InputError(f"{what}: out of memory") from None


def _draw_page(document: Any, index: int, name: str, settings: InputSettings) -> BgrImage:
    page = document[index]
    scale = PDF_DPI / 72
    try:
        if page.get_width() * page.get_height() * scale**2 > settings.max_pixels:
            raise InputError(
                f"{name} has more than {settings.max_pixels:,} pixels at {PDF_DPI} dpi",
                "raise the limit with --set Input.max_pixels=N",
            )
        bitmap = page.render(scale=scale)
        try:
            # Copied, because closing the bitmap frees its memory.
            return convert_array(bitmap.to_numpy().copy())
        finally:
            bitmap.close()
    finally:
        page.close()


def find_text(content: bytes, page_index: int) -> Callable[[tuple[float, float, float, float]], bool]:
    """Return a function that tells whether a box on a page of a PDF has text: (left, bottom, right, top) in points."""
    import pypdfium2

    with _pdfium_lock:
        document = pypdfium2.PdfDocument(content)
        page = document[page_index]
        text_page = page.get_textpage()
        boxes = np.array([text_page.get_charbox(i) for i in range(text_page.count_chars())], dtype=float)
        text_page.close()
        page.close()
        document.close()
    low, high = boxes.reshape(-1, 2, 2).transpose(1, 0, 2)

    def has_text(box: tuple[float, float, float, float]) -> bool:
        return bool(((low < box[2:]) & (high > box[:2])).all(axis=1).any())

    return has_text
