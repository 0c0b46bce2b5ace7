"""Reads and normalises `.nb`, the file that Paddle-Lite's opt writes (little-endian, meta version 2).

u16 meta_version · char[16] opt_version · u64 topology_size · topology ·
u16 params_version · u16 meta_size · u16 header_size · u16 params_count · u32 max_tensor_size ·
params_count × (u32 total_size · total_size bytes)
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from edge_ocr.errors import ModelError

META_VERSION = 2

_HEAD = struct.Struct("<H16sQ")
_PARAMS = struct.Struct("<HHHHI")
_RECORD = struct.Struct("<I")
_PARAMS_HEADER_SIZE = 6
_VERSION = slice(2, 18)

_HINT = "export the model again; only files of Paddle-Lite's opt 2.10 or newer are read"


@dataclass(frozen=True)
class NbHeader:
    """The fixed fields of a `.nb`."""

    meta_version: int
    opt_version: str
    """Such as `v2.13-rc`; a runtime of another version may read the file wrong without saying so."""
    topology_size_bytes: int
    params_count: int
    max_tensor_size_bytes: int


def read_header(path: Path) -> NbHeader:
    """Read the header of `path` and check that the file is whole.

    Raises ModelError where it is missing, damaged or another kind of file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}", _HINT) from None
    return parse_header(data, str(path))


def parse_header(data: bytes, where: str = ".nb") -> NbHeader:
    """Return the header of a whole file; `where` names it in errors.

    Raises ModelError where a field is not what opt writes, or the sizes do not add up to the file's.
    """
    if len(data) < _HEAD.size:
        raise ModelError(f"{where}: not a .nb file: {len(data)} bytes, expected at least {_HEAD.size}", _HINT)
    meta_version, version_field, topology_size = _HEAD.unpack_from(data)
    if meta_version != META_VERSION:
        raise ModelError(f"{where}: not a .nb file: meta version {meta_version}, expected {META_VERSION}", _HINT)
    text, end, _ = version_field.partition(b"\0")
    if not end or not re.fullmatch(rb"v?\d+\.\d+[\w.+-]*", text):
        raise ModelError(f"{where}: not a .nb file: {version_field!r} where opt's version stands", _HINT)

    position = _HEAD.size + topology_size
    if position + _PARAMS.size > len(data):
        raise ModelError(f"{where}: cut short: {len(data)} bytes, expected at least {position + _PARAMS.size}", _HINT)
    _, _, header_size, params_count, max_tensor_size = _PARAMS.unpack_from(data, position)
    if header_size != _PARAMS_HEADER_SIZE:
        raise ModelError(
            f"{where}: damaged at byte {position}: parameter header of {header_size} bytes, "
            f"expected {_PARAMS_HEADER_SIZE}",
            _HINT,
        )
    position += _PARAMS.size
    for index in range(params_count):
        if position + _RECORD.size > len(data):
            raise ModelError(f"{where}: cut short in parameter {index} of {params_count}", _HINT)
        position += _RECORD.size + _RECORD.unpack_from(data, position)[0]
    if position != len(data):
        raise ModelError(f"{where}: damaged or cut short: {len(data)} bytes, expected {position}", _HINT)
    return NbHeader(meta_version, text.decode("ascii"), topology_size, params_count, max_tensor_size)


def normalise(data: bytes, where: str = ".nb") -> bytes:
    """Zero what stands behind the version's NUL: opt leaves there whatever was in memory.

    Two exports of one model then give the same bytes. Raises ModelError as `parse_header`.
    """
    version = parse_header(data, where).opt_version.encode("ascii")
    field = version.ljust(_VERSION.stop - _VERSION.start, b"\0")
    return data[: _VERSION.start] + field + data[_VERSION.stop :]
