"""Converts files and arrays to BGR images."""

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
"""Suffixes, in any case, of files that a board reads as pictures; every build of OpenCV supports them."""

# Transparent pictures are laid over white, or over black if all that is visible is light (a logo for dark pages). This
# is the brightness, 0 to 255, that all but the darkest 1 % must reach for that.
LIGHT_ON_TRANSPARENT = 192

_CHUNK_BYTES = 1 << 20


def list_pictures(path: Path) -> list[Path]:
    """Return the pictures directly in a folder, sorted by name; or the given file itself.

    Raises InputError if the file is missing or the folder has no pictures.
    """
    try:
        if not path.is_dir():
            if not path.exists():
                hint = "download it first (curl -O): a board reads files only" if ":/" in str(path) else None
                raise InputError(f"no such file: {path}", hint)
            return [path]
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    except OSError as error:  # the name is too long, or access is denied
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    if not found:
        raise InputError(f"no pictures in folder {path}", "looked for " + " ".join(sorted(SUFFIXES)))
    return found


def read_picture(path: Path) -> BgrImage:
    """Return the picture in a file, upright, H × W × 3 BGR.

    Raises InputError if the file is missing or is not a complete picture.
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
    """Return whether `value` is an open file or file-like."""
    return callable(getattr(value, "read", None))


def name_stream(stream: object) -> str | None:
    """Return the path of an open file; None if it has none (in memory, for example) or its name is not a file."""
    name = getattr(stream, "name", None)
    if isinstance(name, str):
        with suppress(OSError, ValueError):  # too long for the file system
            return name if Path(name).is_file() else None
    return None


def read_chunks(stream: Any, label: str) -> Iterator[bytes]:
    """Yield the content of a binary stream from its current position; it stays open.

    Raises InputError if it is a text stream, cannot be read, or is already at its end.
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
    except UnicodeError:  # a wrapper around a text file, such as tempfile's
        raise InputError(f"{label} is open as text, expected a binary file", hint) from None
    except (OSError, ValueError) as error:  # closed, or open for writing only
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{label} cannot be read: {reason}") from None
    if empty and _is_behind_start(stream):
        raise InputError(f"{label}: nothing left to read, the file is at its end", "go back to its start with seek(0)")


def _is_behind_start(stream: Any) -> bool:
    with suppress(AttributeError, OSError, ValueError):  # a pipe has no position
        return bool(stream.tell() > 0)
    return False


def decode_picture(content: bytes, label: str) -> BgrImage:
    """Decode the content of a picture file with OpenCV, upright, H × W × 3 BGR. `label` names it in errors.

    Raises InputError if it is not a complete picture, has several pages or does not fit into memory.
    """
    if not content:
        raise InputError(f"{label} is empty (0 bytes)")
    if _has_more_pages(content):
        raise InputError(f"{label} has several pages; a board reads single pages only", "split it with tiffsplit")
    # OpenCV fills in the rest of a truncated picture and reports that on stderr only.
    is_cut_png = content.startswith(_PNG) and b"IEND" not in content
    if is_cut_png or (content.startswith(_JPEG) and _is_cut_jpeg(content)):
        raise InputError(f"{label} is truncated")
    check_length(content, label)
    try:
        # The only mode that keeps transparency and depth. It ignores the EXIF orientation, which other modes apply for
        # some formats and versions.
        image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        if image is not None:
            return _turn_upright(_convert(image, content), _read_orientation(_find_exif(content)))
    except InputError as error:
        raise InputError(f"{label}: {error.message}", error.hint) from None
    except (MemoryError, cv2.error) as error:
        # OpenCV raises cv2.error if memory is short or the picture exceeds its pixel limit.
        reason = " ".join(str(error).split()) or "out of memory"
        raise InputError(f"{label} cannot be decoded: {reason}") from None
    raise InputError(f"{label} is damaged or not a supported picture")


def _convert(image: NDArray[Any], content: bytes) -> BgrImage:
    # In most BMP files the fourth channel is unused and all zero.
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
    """Return whether a TIFF file has a second page, which OpenCV would ignore."""
    if content[:4] not in _TIFF:
        return False
    order: Literal["little", "big"] = "little" if content.startswith(b"II") else "big"
    first = int.from_bytes(content[4:8], order)
    end = first + 2 + 12 * int.from_bytes(content[first : first + 2], order)
    return any(content[end : end + 4])


# The most pixels, or bytes of pixels, that one byte of a file can hold: deflate gives 258 bytes for 2 bits, LZW 4096
# for 12 bits. In JPEG, a block of 64 samples takes at least one bit, and one component has a sample for every four
# pixels or more.
_PER_BYTE_OF_DEFLATE, _PER_BYTE_OF_LZW, _PIXELS_PER_BYTE_OF_JPEG = 1032, 2731, 2048

# By TIFF's compression numbers: none, LZW, deflate (twice), PackBits. Fax and newer ones have no such limit.
_PER_BYTE_OF_TIFF = {1: 1, 5: _PER_BYTE_OF_LZW, 8: _PER_BYTE_OF_DEFLATE, 32946: _PER_BYTE_OF_DEFLATE, 32773: 64}

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}

# SOF0 to SOF2, which use Huffman codes. Arithmetic coding has no such limit.
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)

# At least one blank or comment.
_PNM_GAP = rb"(?=[\s#])\s*(?:#[^\n]*\n\s*)*"
_PNM_START = re.compile(rb"P[1-6][\s#]")
_PNM_HEAD = re.compile(rb"P([1-6])" + _PNM_GAP + rb"(\d{1,9})" + _PNM_GAP + rb"(\d{1,9})")
# The size must be within these first bytes: searching megabytes of comments takes gigabytes of memory.
_PNM_HEAD_BYTES = 1 << 16


def check_length(content: bytes, label: str, page_index: int = 0) -> None:
    """Raise InputError if a file is too short for its declared size, because decoders allocate memory for that first.

    Checks BMP, GIF, JPEG, PNG, PNM and a page of TIFF, and the tiles of JPEG 2000. In other formats, such as WebP and
    AVIF, a few bytes can be a blank picture of any size.
    """
    if content.startswith(_PNG):
        for _, start, end in _walk_png(content):
            if end > len(content):
                raise InputError(
                    f"{label} is truncated or damaged: the PNG chunk at byte {start:,} needs {end - start:,} bytes"
                )
    if len(content) > _PNM_HEAD_BYTES and _PNM_START.match(content):
        head = _PNM_HEAD.match(content, 0, _PNM_HEAD_BYTES)
        # At the very end, the number may be cut off.
        if head is None or head.end() == _PNM_HEAD_BYTES:
            raise InputError(f"{label} is damaged: its size is not in its first {_PNM_HEAD_BYTES:,} bytes")
    width, height, bytes_needed = _read_declared(content, page_index)
    if bytes_needed > len(content):
        raise InputError(
            f"{label} is truncated or damaged: {width:,}×{height:,} pixels cannot be in {len(content):,} bytes"
        )


def _read_declared(content: bytes, page_index: int) -> tuple[int, int, float]:
    """Return width, height and the fewest bytes that a file needs for them; zeros if unknown."""
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
    # 0, 3, 6: uncompressed, without and with masks. Compressed files may end early.
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
        # SHORT or LONG; for several values, the offset of the first.
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
    # A blank tile is two headers only; decoders allocate kilobytes for each.
    tiles = max(-(-(right - left) // tile_width), 0) * max(-(-(bottom - top) // tile_height), 0)
    return right, bottom, 14 * tiles


def _walk_png(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of each chunk's data, up to the first one whose end is beyond the file."""
    place, kind = len(_PNG), b""
    while place + 8 <= len(content) and kind != b"IEND":
        size, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        yield kind, place + 8, place + 8 + size
        place += 12 + size


def _is_cut_jpeg(content: bytes) -> bool:
    """Return whether the end marker is missing after the last header; previews inside headers have one, too."""
    for marker, start, _ in _walk_jpeg(content):
        if marker == _START_OF_SCAN:
            return content.find(b"\xff\xd9", start) < 0
    return True


def _walk_jpeg(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each header, up to the one before the pixels."""
    place = 2
    # Like decoders, skip bytes between headers.
    while 0 <= (place := content.find(b"\xff", place)) < len(content) - 1:
        marker = content[place + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # not a header: fill, stuffing, restarts
            place += 1
            continue
        start, place = place + 4, place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        yield marker, start, place
        if marker == _START_OF_SCAN:
            return


def _find_exif(content: bytes) -> bytes:
    """Return the EXIF block of a JPEG, PNG or WebP file; for TIFF, OpenCV's decoder applies it itself."""
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
    """Return the orientation, 1 to 8, from an EXIF block, which has the layout of a TIFF file; 1 is upright."""
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
    """Convert an array of up to 16 bits, H × W or H × W × 1, 3 or 4 channels, to 8 bits; it must not be empty.

    Scanners and cameras often use only 10 or 12 bits; the brightest value shows how many. All colours are shifted by
    the same number of bits, to keep hues. Alpha is shifted by the brightest of all four channels: it may have 16 bits
    while colours have 12.
    """
    if array.ndim == 2 or array.shape[2] != 4:
        return (array >> _count_spare_bits(array)).astype(np.uint8)
    alpha = array[:, :, 3:]
    # Invisible pixels do not count; they may be white.
    colours = np.where(alpha > 0, array[:, :, :3], 0)
    of_colours = _count_spare_bits(colours)
    of_alpha = max(of_colours, _count_spare_bits(alpha))
    return np.concatenate([colours >> of_colours, alpha >> of_alpha], axis=2).astype(np.uint8)


def _count_spare_bits(array: NDArray[np.uint16]) -> int:
    return max(int(array.max()).bit_length() - 8, 0)


def convert_array(array: NDArray[Any]) -> BgrImage:
    """Check an array and return it as H × W × 3 BGR uint8.

    Accepts uint8 or uint16 (scaled to 8 bits; 10 or 12 used bits to the full range): H × W or H × W × 1 grey,
    H × W × 3 BGR, H × W × 4 BGRA (laid over white, or over black if all that is visible is light). The result shares no
    memory with the array.

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
    """Return a hint for an array that is not accepted; None without a good guess."""
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
    return "pass array.astype(numpy.uint8) if values are from 0 to 255" if array.dtype.kind in "iu" else None


def flatten_alpha(bgra: NDArray[Any]) -> BgrImage:
    """Lay an H × W × 4 BGRA picture over white, or over black if all that is visible is light."""
    alpha = bgra[:, :, 3:]
    visible = bgra[:, :, :3].max(axis=2)[alpha[:, :, 0] > 127]
    light = visible.size > 0 and float(np.percentile(visible, 1)) >= LIGHT_ON_TRANSPARENT
    # 16 bits are enough for 255 × 255 + 127.
    flat = bgra[:, :, :3] * alpha.astype(np.uint16)
    if not light:
        flat += 255 * (255 - alpha.astype(np.uint16))
    flat += 127
    flat //= 255
    return flat.astype(np.uint8)
