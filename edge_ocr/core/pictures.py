"""From files and arrays to BGR images."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from .errors import InputError
from .types import BgrImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = frozenset([".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"])
"""Files of a folder that a board takes as pictures, in any case; what every build of OpenCV reads."""

# Transparent pictures are laid over white, unless everything visible is itself light (a logo for dark pages): then over
# black. Brightness, 0 to 255, that all but the darkest hundredth must reach.
LIGHT_ON_TRANSPARENT = 192

_CHUNK_BYTES = 1 << 20


def list_pictures(path: Path) -> list[Path]:
    """Return the pictures in a folder, by name, without those of folders below it; or the one file that is named.

    Raises InputError for a file that is not there and a folder without pictures.
    """
    try:
        if not path.is_dir():
            if not path.exists():
                hint = "a board reads files: curl -O fetches one" if ":/" in str(path) else None
                raise InputError(f"no such file: {path}", hint)
            return [path]
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    except OSError as error:  # a name too long, a folder that may not be entered
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    if not found:
        raise InputError(f"no pictures in folder {path}", "looked for " + " ".join(sorted(SUFFIXES)))
    return found


def read_picture(path: Path) -> BgrImage:
    """Return the picture in a file, upright, H × W × 3 BGR.

    Raises InputError where there is none, or not a whole one.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path} is not a regular file" if path.exists() else f"no such file: {path}")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise InputError(f"{path} does not fit into memory") from None
    return decode_picture(content, str(path))


def is_stream(value: object) -> bool:
    """Tell whether `value` is an open file, or reads like one."""
    return callable(getattr(value, "read", None))


def name_stream(stream: object) -> str | None:
    """Return the path of an open file; None where it has none, such as in memory, or its name is no file."""
    name = getattr(stream, "name", None)
    if isinstance(name, str):
        with suppress(OSError, ValueError):  # too long for the file system
            return name if Path(name).is_file() else None
    return None


def read_chunks(stream: Any, label: str) -> Iterator[bytes]:
    """Yield what a binary stream holds, from its current position to its end; it stays open.

    Raises InputError for a stream of text, one that cannot be read, and one that is at its end already.
    """
    empty = True
    hint = 'open the file in binary mode: open(path, "rb")'
    if isinstance(stream, io.TextIOBase):
        raise InputError(f"{label} is open as text, expected a binary file", hint)
    try:
        # In pieces: one read of the most that a caller allows would reserve it all.
        while chunk := stream.read(_CHUNK_BYTES):
            if not isinstance(chunk, (bytes, bytearray)):
                raise InputError(f"{label}: its read() returns {type(chunk).__name__}, expected bytes", hint)
            empty = False
            yield bytes(chunk)
    except UnicodeError:  # a wrapper round a text file, such as tempfile's
        raise InputError(f"{label} is open as text, expected a binary file", hint) from None
    except (OSError, ValueError) as error:  # a closed file, or one open for writing only
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{label} cannot be read: {reason}") from None
    if empty and _is_behind_start(stream):
        raise InputError(f"{label}: nothing is left to read, the file is at its end", "go back to its start: seek(0)")


def _is_behind_start(stream: Any) -> bool:
    with suppress(AttributeError, OSError, ValueError):  # a pipe has no position
        return bool(stream.tell() > 0)
    return False


def decode_picture(content: bytes, label: str) -> BgrImage:
    """Return the picture in a file's `content`, upright, H × W × 3 BGR; OpenCV decodes it. `label` names it in errors.

    Raises InputError for what is not a whole picture, has several pages or does not fit into memory.
    """
    if not content:
        raise InputError(f"{label} is empty (0 bytes)")
    if _has_more_pages(content):
        raise InputError(f"{label} has several pages; a board reads pictures of one", "tiffsplit takes them apart")
    # OpenCV fills up a picture that was cut off, and says so on stderr only.
    is_cut_png = content.startswith(_PNG) and b"IEND" not in content
    if is_cut_png or (content.startswith(_JPEG) and _is_cut_jpeg(content)):
        raise InputError(f"{label} is truncated")
    check_length(content, label)
    try:
        # The only mode that keeps transparency and depth. It turns no photo as the camera says, which other modes do
        # for some formats, and not in every version.
        image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        if image is not None:
            return _turn_upright(_convert(image, content), _read_orientation(_find_exif(content)))
    except InputError as error:
        raise InputError(f"{label}: {error.message}", error.hint) from None
    except (MemoryError, cv2.error) as error:
        # OpenCV says so for want of memory, and for more pixels than it is allowed.
        reason = " ".join(str(error).split()) or "out of memory"
        raise InputError(f"{label} cannot be decoded: {reason}") from None
    raise InputError(f"{label} is not a picture that can be read, or damaged")


def _convert(image: NDArray[Any], content: bytes) -> BgrImage:
    # Of most BMP files the fourth channel is nothing at all.
    if content.startswith(b"BM") and image.ndim == 3 and image.shape[2] == 4 and not image[:, :, 3].any():
        image = image[:, :, :3]
    return convert_array(image)


_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*")
_JPEG_2000 = (b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")
_JPEG_2000_SIZE = b"\xff\x4f\xff\x51"
_START_OF_SCAN, _APP1 = 0xDA, 0xE1


def _has_more_pages(content: bytes) -> bool:
    """Tell whether a TIFF file has a second page, of which OpenCV would say nothing."""
    if content[:4] not in _TIFF:
        return False
    order: Literal["little", "big"] = "little" if content.startswith(b"II") else "big"
    first = int.from_bytes(content[4:8], order)
    end = first + 2 + 12 * int.from_bytes(content[first : first + 2], order)
    return any(content[end : end + 4])


# Pixels, or bytes of them, that a byte of a file can hold at most: deflate gives 258 bytes for 2 bits, LZW 4096 for 12
# bits. Of JPEG, a block of 64 pixels has a bit at least, of the component that has most of them: a quarter or more.
_PER_BYTE_OF_DEFLATE, _PER_BYTE_OF_LZW, _PIXELS_PER_BYTE_OF_JPEG = 1032, 2731, 2048

# By TIFF's numbers: none, LZW, JPEG, deflate (twice), PackBits. Fax and newer ones have no such limit.
_PER_BYTE_OF_TIFF = {1: 1, 5: _PER_BYTE_OF_LZW, 8: _PER_BYTE_OF_DEFLATE, 32946: _PER_BYTE_OF_DEFLATE, 32773: 64}

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}

# SOF0 to SOF2: those with Huffman codes. Arithmetic coding has no such limit.
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)

# Blanks and comments, at least one.
_PNM_GAP = rb"(?=[\s#])\s*(?:#[^\n]*\n\s*)*"
_PNM_START = re.compile(rb"P[1-6][\s#]")
_PNM_HEAD = re.compile(rb"P([1-6])" + _PNM_GAP + rb"(\d{1,9})" + _PNM_GAP + rb"(\d{1,9})")
# Behind more than that, a size is not looked for: of megabytes of comments, the search takes gigabytes.
_PNM_HEAD_BYTES = 1 << 16


def check_length(content: bytes, label: str, page_index: int = 0) -> None:
    """Raise InputError where a file is too short for what it declares: decoders reserve memory for that first.

    Looks at BMP, GIF, JPEG, PNG, PNM and TIFF (of which at a page), and at the tiles of JPEG 2000. Else a blank picture
    of any size can be a few bytes, as in WebP and AVIF.
    """
    if content.startswith(_PNG):
        for _, start, end in _walk_png(content):
            if end > len(content):
                raise InputError(
                    f"{label} is truncated or damaged: a chunk of {end - start:,} bytes begins at byte {start:,}"
                )
    if len(content) > _PNM_HEAD_BYTES and _PNM_START.match(content):
        head = _PNM_HEAD.match(content, 0, _PNM_HEAD_BYTES)
        # At the very end, there may be more digits.
        if head is None or head.end() == _PNM_HEAD_BYTES:
            raise InputError(f"{label} is damaged: its size is not in its first {_PNM_HEAD_BYTES:,} bytes")
    width, height, bytes_needed = _read_declared(content, page_index)
    if bytes_needed > len(content):
        raise InputError(
            f"{label} is truncated or damaged: {width:,}×{height:,} pixels cannot be in {len(content):,} bytes"
        )


def _read_declared(content: bytes, page_index: int) -> tuple[int, int, float]:
    """Return width, height and the least bytes that a file must have for them; zeros where nothing is known."""
    with suppress(struct.error):  # a file shorter than its header
        if content.startswith(_PNG):
            width, height, depth, colour = struct.unpack_from(">IIBB", content, 16)
            return width, height, width * height * depth * _PNG_CHANNELS.get(colour, 1) / 8 / _PER_BYTE_OF_DEFLATE
        if content.startswith(_JPEG):
            for marker, start, _ in _walk_jpeg(content):
                if marker in _HUFFMAN_FRAMES:
                    height, width = struct.unpack_from(">HH", content, start + 1)
                    return width, height, width * height / _PIXELS_PER_BYTE_OF_JPEG
        if content[:4] == b"GIF8":
            width, height = struct.unpack_from("<HH", content, 6)
            return width, height, width * height / _PER_BYTE_OF_LZW
        if content.startswith(b"BM"):
            return _read_bmp(content)
        if content[:4] in _TIFF:
            return _read_tiff(content, page_index)
        if content.startswith(_JPEG_2000):
            return _read_jpeg_2000(content)
        match = _PNM_HEAD.match(content, 0, _PNM_HEAD_BYTES)
        if match:
            width, height = int(match[2]), int(match[3])
            return width, height, width * height / (8 if match[1] == b"4" else 1)
    return 0, 0, 0


def _read_bmp(content: bytes) -> tuple[int, int, float]:
    (head,) = struct.unpack_from("<I", content, 14)
    if head < 40:
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", content, 18)
    # 0, 3, 6: none, and none with masks. Other files may end early.
    return width, abs(height), width * abs(height) * bits / 8 if compression in (0, 3, 6) else 0


def _read_tiff(content: bytes, page_index: int) -> tuple[int, int, float]:
    order = "<" if content.startswith(b"II") else ">"
    (place,) = struct.unpack_from(f"{order}I", content, 4)
    for _ in range(page_index):
        (count,) = struct.unpack_from(f"{order}H", content, place)
        (place,) = struct.unpack_from(f"{order}I", content, place + 2 + 12 * count)
    # Width, height, bits of a sample, compression, samples of a pixel.
    found = {256: 0, 257: 0, 258: 1, 259: 1, 277: 1}
    (count,) = struct.unpack_from(f"{order}H", content, place)
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", content, entry)
        # SHORT or LONG; of several bits of samples, the place of the first.
        if tag in found and kind in (3, 4):
            where = entry + 8
            if values * (2 if kind == 3 else 4) > 4:
                (where,) = struct.unpack_from(f"{order}I", content, where)
            (found[tag],) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", content, where)
    width, height, bits, compression, samples = found.values()
    if compression == 7:
        return width, height, width * height / _PIXELS_PER_BYTE_OF_JPEG
    per_byte = _PER_BYTE_OF_TIFF.get(compression)
    return width, height, width * height * bits * samples / 8 / per_byte if per_byte else 0


def _read_jpeg_2000(content: bytes) -> tuple[int, int, float]:
    place = content.find(_JPEG_2000_SIZE)
    if place < 0:
        return 0, 0, 0
    right, bottom, _, _, tile_width, tile_height, left, top = struct.unpack_from(">8I", content, place + 8)
    if not tile_width or not tile_height:
        return 0, 0, 0
    # A blank tile has its two headers and no more; decoders keep kilobytes for each.
    tiles = max(-(-(right - left) // tile_width), 0) * max(-(-(bottom - top) // tile_height), 0)
    return right, bottom, 14 * tiles


def _walk_png(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of each chunk's data, up to the first that ends behind the file; its end is not it."""
    place, kind = len(_PNG), b""
    while place + 8 <= len(content) and kind != b"IEND":
        size, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        yield kind, place + 8, place + 8 + size
        place += 12 + size


def _is_cut_jpeg(content: bytes) -> bool:
    """Tell whether the end is missing behind the last header; a preview inside a header has an end, too."""
    for marker, start, _ in _walk_jpeg(content):
        if marker == _START_OF_SCAN:
            return content.find(b"\xff\xd9", start) < 0
    return True


def _walk_jpeg(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each header, up to the first that pixels follow."""
    place = 2
    # Decoders, too, skip what is between headers.
    while 0 <= (place := content.find(b"\xff", place)) < len(content) - 1:
        marker = content[place + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # no header: filling, stuffing, restarts
            place += 1
            continue
        start, place = place + 4, place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        yield marker, start, place
        if marker == _START_OF_SCAN:
            return


def _find_exif(content: bytes) -> bytes:
    """Return the EXIF block of a JPEG, PNG or WebP file; of a TIFF file, OpenCV's decoder heeds it itself."""
    head = b"Exif\0\0"
    if content.startswith(_JPEG):
        for marker, start, end in _walk_jpeg(content):
            if marker == _APP1 and content.startswith(head, start):
                return content[start + len(head) : end]
    elif content.startswith(_PNG):
        for kind, start, end in _walk_png(content):
            if kind == b"eXIf":
                return content[start:end]
    elif content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        place = 12
        while place < len(content):
            size = int.from_bytes(content[place + 4 : place + 8], "little")
            if content[place : place + 4] == b"EXIF":
                block = content[place + 8 : place + 8 + size]
                return block[len(head) :] if block.startswith(head) else block
            place += 8 + size + size % 2
    return b""


def _read_orientation(exif: bytes) -> int:
    """Return how a camera was held, 1 to 8, from an EXIF block, which is laid out like a TIFF file; 1 is upright."""
    order: Literal["little", "big"] = "little" if exif.startswith(b"II") else "big"

    def read(place: int, size: int) -> int:
        return int.from_bytes(exif[place : place + size], order)

    first = read(4, 4)
    for entry in range(first + 2, first + 2 + 12 * read(first, 2), 12):
        if read(entry, 2) == 0x0112:
            value = read(entry + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1


def _turn_upright(image: BgrImage, orientation: int) -> BgrImage:
    if orientation > 4:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def narrow_depth(array: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return an array of up to 16 bits, H × W or H × W × 1, 3 or 4 channels, in 8. Empty arrays are not taken.

    Scanners and cameras often fill 10 or 12 of them: the brightest value tells. Colours are shifted by the same number
    of bits, so that hues stay. For alpha, the brightest of all four channels tells: it may have 16 bits beside colours
    of 12.
    """
    if array.ndim == 2 or array.shape[2] != 4:
        return (array >> _count_spare_bits(array)).astype(np.uint8)
    alpha = array[:, :, 3:]
    # What nobody sees does not count; it may be white.
    colours = np.where(alpha > 0, array[:, :, :3], 0)
    of_colours = _count_spare_bits(colours)
    of_alpha = max(of_colours, _count_spare_bits(alpha))
    return np.concatenate([colours >> of_colours, alpha >> of_alpha], axis=2).astype(np.uint8)


def _count_spare_bits(array: NDArray[np.uint16]) -> int:
    return max(int(array.max()).bit_length() - 8, 0)


def convert_array(array: NDArray[Any]) -> BgrImage:
    """Check an array and return it as H × W × 3 BGR uint8.

    Takes uint8 or uint16 (scaled to 8 bits, 10 or 12 bits to the full range): H × W or H × W × 1 grey, H × W × 3 BGR,
    H × W × 4 BGRA, laid over white, or over black where all that is visible is light. The result shares no memory with
    the array.

    Raises InputError for other types and shapes, and for empty arrays.
    """
    shape, kind = "×".join(map(str, array.shape)), array.dtype
    has_form = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if kind not in (np.uint8, np.uint16) or not has_form:
        raise InputError(
            f"cannot read a {kind} array of shape {shape}, expected uint8 or uint16, H×W grey, H×W×3 BGR or H×W×4 BGRA",
            _advise_conversion(array),
        )
    if array.size == 0:
        raise InputError(f"the array is empty (shape {shape})")
    if kind == np.uint16:
        array = narrow_depth(array)
    if array.ndim == 2 or array.shape[2] == 1:
        return np.asarray(cv2.cvtColor(array, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    if array.shape[2] == 4:
        return flatten_alpha(array)
    return np.array(array, order="C")


def _advise_conversion(array: NDArray[Any]) -> str | None:
    """Return a hint for an array that is not taken; None where nothing can be guessed."""
    if array.ndim == 4:
        return "pass the pictures one by one: list(array)"
    if array.ndim == 3 and array.shape[2] == 2:
        return "pass grey without alpha: array[:, :, 0]"
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        return "put the channels last: array.transpose(1, 2, 0)"
    if array.ndim not in (2, 3):
        return None
    if array.dtype.kind == "f":
        return (
            "pass values from 0 to 1 as (array * 255).astype(numpy.uint8), from 0 to 255 as array.astype(numpy.uint8)"
        )
    if array.dtype.kind == "b":
        return "pass array.astype(numpy.uint8) * 255"
    return "pass array.astype(numpy.uint8) where the values are from 0 to 255" if array.dtype.kind in "iu" else None


def flatten_alpha(bgra: NDArray[Any]) -> BgrImage:
    """Lay an H × W × 4 BGRA picture over white, or over black where all that is visible is light."""
    alpha = bgra[:, :, 3:]
    visible = bgra[:, :, :3].max(axis=2)[alpha[:, :, 0] > 127]
    light = visible.size > 0 and float(np.percentile(visible, 1)) >= LIGHT_ON_TRANSPARENT
    # In 16 bits: 255 × 255 + 127 still fits.
    flat = bgra[:, :, :3] * alpha.astype(np.uint16)
    if not light:
        flat += 255 * (255 - alpha.astype(np.uint16))
    flat += 127
    flat //= 255
    return flat.astype(np.uint8)
