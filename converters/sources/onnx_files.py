"""Reads ONNX files without opening anything outside the model's folder and without trusting sizes.

A model may keep tensors in external files. onnx has repeatedly had vulnerabilities there (links, paths, sizes), so this
module checks each tensor against its file before reading a byte, and reads it itself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from onnx import ModelProto, SparseTensorProto, TensorProto, helper

from edge_ocr.errors import ModelError

_HINT = "export the model to ONNX again"
_FILES_HINT = "keep all files of one export in one folder, as files and not as links"

# Tied tensors may share bytes of a file, but many that overlap would multiply the memory needed.
_MAX_SHARING = 4

# The field that replaces raw_data, by type; all other types use int32_data.
_FIELDS = {
    "float_data": (TensorProto.FLOAT, TensorProto.COMPLEX64),
    "double_data": (TensorProto.DOUBLE, TensorProto.COMPLEX128),
    "int64_data": (TensorProto.INT64,),
    "uint64_data": (TensorProto.UINT32, TensorProto.UINT64),
    "string_data": (TensorProto.STRING,),
}
_FIELD_OF: dict[int, str] = {data_type: name for name, data_types in _FIELDS.items() for data_type in data_types}
_PACKED: dict[int, int] = {
    getattr(TensorProto, name): bits
    for name, bits in (("UINT4", 4), ("INT4", 4), ("FLOAT4E2M1", 4), ("UINT2", 2), ("INT2", 2))
    if hasattr(TensorProto, name)
}


@dataclass(frozen=True)
class _Place:
    """The place of a tensor's bytes in an external file."""

    location: str
    offset: int
    length: int


def read_onnx_model(path: Path) -> ModelProto:
    """Return an ONNX model, including the tensors in external files.

    Each external file must be a regular file in the model's folder or below it, without links; each tensor must have
    exactly the bytes that its type and dimensions need.

    Raises ModelError, naming tensor and file, if that is not so or the file is not an ONNX model.
    """
    model = parse_onnx_model(path)
    taken: dict[str, int] = {}
    for tensor, where in _list_tensors(model, str(path)):
        if tensor.data_location != TensorProto.EXTERNAL:
            _check_size(tensor, where)
            continue
        place = _read_place(tensor, where)
        # One file may have several spellings: w.bin, ./w.bin, on some disks W.BIN.
        file = str(Path(place.location)).casefold()
        taken[file] = taken.get(file, 0) + place.length
        tensor.raw_data = _read_external(path.parent, place, taken[file], where)
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
    return model


def list_external_files(path: Path) -> dict[str, Path]:
    """Return a model's external files by their names in the model.

    Raises ModelError if the model cannot be read or names a file outside its folder.
    """
    model = parse_onnx_model(path)
    tensors = _list_tensors(model, str(path))
    places = [_read_place(tensor, at) for tensor, at in tensors if tensor.data_location == TensorProto.EXTERNAL]
    return {place.location: path.parent / place.location for place in places}


def parse_onnx_model(path: Path) -> ModelProto:
    """Return the model without its external data.

    Raises ModelError if the file is missing or not an ONNX model.
    """
    try:
        # Opening a pipe waits for a writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"{path}: not a regular file", _HINT)
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path}: {path.name} is missing", "keep all files of one export in one folder") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}", _HINT) from None
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError has no public base class
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{path}: not a readable ONNX model: {reason}", _HINT) from None
    return model


def _list_tensors(model: ModelProto, where: str) -> Iterator[tuple[TensorProto, str]]:
    """Yield each tensor with its name for errors, from any message: graphs, attributes, functions, sparse tensors."""
    waiting: list[Any] = [model]
    while waiting:
        message = waiting.pop()
        if isinstance(message, TensorProto):
            yield message, f"{where}: tensor {message.name!r}"
            continue
        if isinstance(message, SparseTensorProto):
            # Its dense form may have any size.
            raise ModelError(f"{where}: sparse tensor {message.values.name!r}: unsupported", _HINT)
        for field, value in message.ListFields():
            if field.message_type is not None:
                # A single message is not iterable.
                waiting += [value] if hasattr(value, "ListFields") else list(value)


def _count(tensor: TensorProto, where: str) -> int:
    dims = list(tensor.dims)
    if min(dims, default=0) < 0:
        raise ModelError(f"{where}: a negative dimension in {dims}", _HINT)
    # Python's integers do not overflow.
    return prod(dims)


def _count_bytes(tensor: TensorProto, where: str) -> int:
    """Return the number of bytes of a tensor's raw data."""
    count = _count(tensor, where)
    if tensor.data_type in _PACKED:
        return -(-count * _PACKED[tensor.data_type] // 8)
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError, TypeError):
        dtype = None
    if dtype is None or dtype.hasobject:
        raise ModelError(f"{where}: raw data for type {tensor.data_type}, which cannot have raw data", _HINT)
    return count * int(dtype.itemsize)


def _check_size(tensor: TensorProto, where: str) -> None:
    """Raise ModelError unless a tensor holds as much as its dimensions say."""
    if tensor.HasField("segment"):
        raise ModelError(f"{where}: a tensor segment, expected a whole tensor", _HINT)
    if tensor.HasField("raw_data"):
        expected, actual, what = _count_bytes(tensor, where), len(tensor.raw_data), "bytes"
    else:
        expected, what = _count(tensor, where), "numbers"
        if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
            expected *= 2
        elif tensor.data_type in _PACKED:
            expected = -(-expected * _PACKED[tensor.data_type] // 8)
        actual = len(getattr(tensor, _FIELD_OF.get(tensor.data_type, "int32_data")))
    if actual != expected:
        raise ModelError(f"{where}: {actual} {what}, expected {expected} for {list(tensor.dims)}", _HINT)


def _read_place(tensor: TensorProto, where: str) -> _Place:
    # protobuf returns text that is not UTF-8 as bytes.
    entries = [(str(entry.key), str(entry.value)) for entry in tensor.external_data]
    named = dict(entries)
    location = named.get("location", "")
    if len(named) < len(entries):
        raise ModelError(f"{where}: its external data has a duplicate key", _HINT)
    is_inside = not location.startswith("/") and "\\" not in location and ".." not in location.split("/")
    if not location or not location.isprintable() or not is_inside or Path(location) == Path():
        raise ModelError(f"{where}: its file {location!r} is outside the model's folder", _FILES_HINT)
    expected = _count_bytes(tensor, where)
    offset = _read_number(named.get("offset", "0"), "offset", where)
    length = _read_number(named.get("length", str(expected)), "length", where)
    if length != expected:
        raise ModelError(f"{where}: {length} bytes in {location}, expected {expected} for {list(tensor.dims)}", _HINT)
    return _Place(location, offset, length)


def _read_number(text: str, name: str, where: str) -> int:
    # int() also takes signs, blanks and underscores; 19 digits are 63 bits.
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise ModelError(f"{where}: the {name} {text[:40]!r} of its external data is not a number of bytes", _HINT)
    return int(text)


def _read_external(folder: Path, place: _Place, taken: int, where: str) -> bytes:
    """Return a tensor's bytes; `taken` counts the bytes of this file in all tensors so far, this one included."""

    def refuse(what: str, hint: str = _FILES_HINT) -> ModelError:
        return ModelError(f"{where}: {place.location}: {what}", hint)

    flags = os.O_RDONLY | os.O_CLOEXEC
    opened: list[int] = []
    try:
        opened.append(os.open(folder, flags | os.O_DIRECTORY))
        *folders, name = Path(place.location).parts
        # Opened folder by folder, so that none can become a link in between; NONBLOCK keeps a pipe from blocking.
        for part in folders:
            opened.append(os.open(part, flags | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=opened[-1]))
        opened.append(os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=opened[-1]))
        found = os.fstat(opened[-1])
        if not stat.S_ISREG(found.st_mode):
            raise refuse("not a regular file")
        if found.st_nlink > 1:
            raise refuse("a file with several names (hard links), expected one of the model's own")
        if place.offset + place.length > found.st_size:
            raise refuse(
                f"bytes {place.offset} to {place.offset + place.length}, but the file ends after {found.st_size}",
                "export the model again: the file is truncated or from another export",
            )
        if taken > _MAX_SHARING * found.st_size:
            raise refuse(f"its tensors overlap: {taken} bytes of a file of {found.st_size}", _HINT)
        data = bytearray()
        while len(data) < place.length:
            piece = os.pread(opened[-1], min(place.length - len(data), 2**30), place.offset + len(data))
            if not piece:
                raise refuse("it was truncated while being read")
            data += piece
        return bytes(data)
    except FileNotFoundError:
        raise refuse("it is missing") from None
    except OSError as error:
        # ELOOP and ENOTDIR mean a link.
        raise refuse(f"it, or its folder, is a link or cannot be read: {error.strerror}") from None
    finally:
        for descriptor in opened:
            os.close(descriptor)
