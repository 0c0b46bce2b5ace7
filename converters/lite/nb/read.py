"""Reads and normalises `.nb`, the file that Paddle-Lite's opt writes (little-endian, meta version 2).

u16 meta_version · char[16] opt_version · u64 topology_size · topology ·
u16 params_version · u16 meta_size · u16 header_size · u16 params_count · u32 max_tensor_size ·
params_count × (u32 total_size · total_size bytes: u32 offset · ParamDesc)

Topology (a ProgramDesc) and each ParamDesc are separate FlatBuffers, see `converters.lite.nb.schema`. Files are
untrusted: any bytes are either read or refused with a ModelError.
"""

from __future__ import annotations

import math
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.lite.nb.schema import (
    ATTR_FIELDS,
    DTYPE_SIZES,
    DTYPES,
    HINT,
    LOD_TENSOR,
    VAR_KINDS,
    FlatBuffer,
    FlatTable,
    shorten,
)
from edge_ocr.errors import ModelError

META_VERSION = 2

# PP-OCR programs take a third of a megabyte. In memory they take some tens of times more.
TOPOLOGY_LIMIT_BYTES = 8 * 2**20

# How often a program may read an object on average. In files of `converters.lite.nb.write` it is up to 6 times, because
# ops share equal attributes.
_SHARING = 16

# Far more than tensors have, but few enough to multiply.
MAX_RANK = 16

_HEAD = struct.Struct("<H16sQ")
_PARAMS = struct.Struct("<HHHHI")
_RECORD = struct.Struct("<I")
_PARAMS_HEADER_SIZE = 6
_VERSION = slice(2, 18)

_KERNEL_ATTR = "__@kernel_type_attr@__"
METHOD_ATTR = "quantization_type"
BITS_ATTR = "quantize_weight_bits"
SCALE_SUFFIX = "_quant_scale"

# TargetType, PrecisionType and DataLayoutType of Paddle-Lite's paddle_place.h, by value.
_TARGETS = (
    "unknown", "host", "x86", "cuda", "arm", "opencl", "any", "fpga", "npu", "xpu", "bm", "mlu", "rknpu", "apu",
    "ascend", "imagination", "intel_fpga", "metal", "nnadapter",
)  # fmt: skip
_PRECISIONS = (
    "unknown", "float", "int8", "int32", "any", "fp16", "bool", "int64", "int16", "uint8", "fp64",
)  # fmt: skip
_LAYOUTS = (
    "unknown", "nchw", "any", "nhwc", "image_default", "image_folder", "image_nw", "metal_array", "metal_texture",
)  # fmt: skip

_NO_NB_HINT = "give a .nb file that Paddle-Lite's opt 2.10 or newer wrote"


@dataclass(frozen=True)
class NbHeader:
    """The fixed fields of a `.nb`."""

    meta_version: int
    opt_version: str
    """Such as `v2.13-rc`. A runtime of another version may silently compute wrong results."""
    topology_size_bytes: int
    params_count: int
    max_tensor_size_bytes: int


@dataclass(frozen=True)
class Kernel:
    """The implementation that opt chose for an op."""

    alias: str
    """`def`, or the name of one of several kernels for the same place."""
    target: str
    """Such as `arm` or `host`."""
    precision: str
    layout: str


@dataclass(frozen=True)
class Quantisation:
    """How the parameters of an op are stored."""

    method: str
    """Such as `post_weight_channel_wise_abs_max`."""
    bits: int
    scales: Mapping[str, tuple[float, ...]]
    """By parameter name: one factor per output channel."""


@dataclass(frozen=True, slots=True)
class NbVar:
    """A variable of a block; opt lets several tensors share one to save memory."""

    name: str
    kind: str
    """`tensor`, `feed`, `fetch`, or another kind of Paddle's variables."""
    persistable: bool
    dtype: str | None
    """NumPy's name; None for parameters, whose NbParam has it, and for variables that are not tensors."""
    shape: tuple[int, ...] | None
    """-1 for a free dimension."""


@dataclass(frozen=True, slots=True)
class NbOp:
    """One op of a block."""

    type: str
    inputs: Mapping[str, tuple[str, ...]]
    """By slot name: names of variables and parameters."""
    outputs: Mapping[str, tuple[str, ...]]
    attrs: Mapping[str, Any]
    """A number, text, bool, or a tuple of these."""

    @property
    def kernel(self) -> Kernel | None:
        """The kernel that opt chose; None if the op has none or an unknown one."""
        parts = str(self.attrs.get(_KERNEL_ATTR, "")).split("/")
        if len(parts) != 5:
            return None
        names = [
            known[int(part)] if part.isascii() and part.isdigit() and len(part) < 4 and int(part) < len(known) else None
            for part, known in zip(parts[2:], (_TARGETS, _PRECISIONS, _LAYOUTS), strict=True)
        ]
        target, precision, layout = names
        if target is None or precision is None or layout is None:
            return None
        return Kernel(parts[1], target, precision, layout)

    @property
    def quantisation(self) -> Quantisation | None:
        """How its parameters are quantised; None if they are not."""
        bits = self.attrs.get(BITS_ATTR)
        if not isinstance(bits, int):
            return None
        scales = {
            name.removesuffix(SCALE_SUFFIX): value
            for name, value in self.attrs.items()
            if name.endswith(SCALE_SUFFIX) and isinstance(value, tuple)
        }
        return Quantisation(str(self.attrs.get(METHOD_ATTR, "")), bits, MappingProxyType(scales))


@dataclass(frozen=True)
class NbBlock:
    """A block of the program; the first one is the main program."""

    index: int
    parent_index: int
    """-1 for the first one."""
    vars: Mapping[str, NbVar]
    ops: tuple[NbOp, ...]


@dataclass(frozen=True)
class NbParam:
    """A parameter."""

    name: str
    dtype: str
    """NumPy's name; int8 and int16 hold quantised values."""
    shape: tuple[int, ...]
    data: memoryview
    """Read-only view of the file's bytes: little-endian, C order."""

    @property
    def count(self) -> int:
        """Return the number of its elements."""
        return math.prod(self.shape)

    def to_array(self) -> NDArray[Any]:
        """Return its values, of `dtype` and `shape`, as a read-only view of the file's bytes."""
        dtype: np.dtype[Any] = np.dtype(self.dtype).newbyteorder("<")
        return np.frombuffer(self.data, dtype).reshape(self.shape)


@dataclass(frozen=True)
class NbModel:
    """The content of a `.nb`."""

    size_bytes: int
    header: NbHeader
    program_version: int
    """Version of the Paddle that saved the source model, such as 2004001 for 2.4.1; 0 if the file does not say."""
    blocks: tuple[NbBlock, ...]
    params: Mapping[str, NbParam]
    inputs: tuple[NbVar, ...]
    outputs: tuple[NbVar, ...]

    def op_histogram(self) -> dict[str, int]:
        """Return the number of ops of each type in all blocks, including `feed` and `fetch`, most frequent first."""
        counts = Counter(op.type for block in self.blocks for op in block.ops)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def read_header(path: Path) -> NbHeader:
    """Read the header of `path` and check that the file is complete.

    Raises ModelError if it is missing, damaged or another kind of file.
    """
    return parse_header(_read_file(path), str(path))


def read_nb(path: Path) -> NbModel:
    """Read all of `path`; the parameters are views of its bytes.

    Raises ModelError if it is missing, damaged or another kind of file.
    """
    return parse_nb(_read_file(path), str(path))


def parse_header(data: bytes, where: str = ".nb") -> NbHeader:
    """Return the header of a complete file; `where` names it in errors.

    Raises ModelError if a field is not what opt writes, or the sizes do not add up to the file's.
    """
    opt_version, topology_size = _parse_head(data, where)
    position = _HEAD.size + topology_size
    if position + _PARAMS.size > len(data):
        raise ModelError(f"{where}: truncated: {len(data)} bytes, expected at least {position + _PARAMS.size}", HINT)
    version, meta_size, header_size, params_count, max_tensor_size = _PARAMS.unpack_from(data, position)
    if (version, meta_size, header_size) != (0, 0, _PARAMS_HEADER_SIZE):
        raise ModelError(
            f"{where}: damaged at byte {position}: parameters of version {version} with meta data of {meta_size} "
            f"bytes and a header of {header_size} bytes, expected 0, 0 and {_PARAMS_HEADER_SIZE}",
            HINT,
        )
    position += _PARAMS.size
    for index in range(params_count):
        if position + _RECORD.size > len(data):
            raise ModelError(f"{where}: truncated in parameter {index} of {params_count}", HINT)
        position += _RECORD.size + _RECORD.unpack_from(data, position)[0]
    if position != len(data):
        raise ModelError(f"{where}: damaged or truncated: {len(data)} bytes, expected {position}", HINT)
    return NbHeader(META_VERSION, opt_version, topology_size, params_count, max_tensor_size)


def parse_nb(data: bytes, where: str = ".nb") -> NbModel:
    """Return the content of a complete file, as `read_nb`; `where` names it in errors."""
    header = parse_header(data, where)
    view = memoryview(data).toreadonly()
    program = open_program(view, header, where)
    version = program.read("version")
    program_version = 0 if version is None else version.read("version")
    blocks = tuple(map(_read_block, program.read("blocks")))
    if not blocks:
        raise program.fail("blocks", "no block, expected at least 1")
    return NbModel(
        size_bytes=len(data),
        header=header,
        program_version=program_version,
        blocks=blocks,
        params=_index(_read_params(view, header, where), where),
        inputs=_list_ports(blocks[0], "feed", where),
        outputs=_list_ports(blocks[0], "fetch", where),
    )


def open_program(view: memoryview, header: NbHeader, where: str) -> FlatTable:
    """Return the ProgramDesc of a file whose header has been read. Raises ModelError if it is too large or damaged."""
    if header.topology_size_bytes > TOPOLOGY_LIMIT_BYTES:
        raise ModelError(
            f"{where}: damaged at byte {_VERSION.stop}: a program of {header.topology_size_bytes} bytes, "
            f"expected at most {TOPOLOGY_LIMIT_BYTES}",
            HINT,
        )
    topology = view[_HEAD.size : _HEAD.size + header.topology_size_bytes]
    limit = min(_SHARING * len(topology), 2 * TOPOLOGY_LIMIT_BYTES)
    return FlatBuffer(topology, _HEAD.size, where, limit).read_root("ProgramDesc")


def list_records(view: memoryview, header: NbHeader) -> Iterator[tuple[int, memoryview]]:
    """Yield where each parameter's record starts, after its size, and the record."""
    position = _HEAD.size + header.topology_size_bytes + _PARAMS.size
    for _ in range(header.params_count):
        (total_size,) = _RECORD.unpack_from(view, position)
        position += _RECORD.size
        yield position, view[position : position + total_size]
        position += total_size


def join_nb(data: bytes, topology: bytes, records: Sequence[bytes], max_tensor_size_bytes: int) -> bytes:
    """Return the file `data` with another program and other records of parameters."""
    meta_version, version_field, _ = _HEAD.unpack_from(data)
    parts = [_HEAD.pack(meta_version, version_field, len(topology)), topology]
    parts.append(_PARAMS.pack(0, 0, _PARAMS_HEADER_SIZE, len(records), max_tensor_size_bytes))
    for record in records:
        parts += [_RECORD.pack(len(record)), record]
    return b"".join(parts)


def normalise(data: bytes, where: str = ".nb") -> bytes:
    """Zero the bytes after the version's NUL, where opt leaves uninitialised memory.

    Two exports of one model then give the same bytes. Raises ModelError as `parse_header`.
    """
    version = parse_header(data, where).opt_version.encode("ascii")
    field = version.ljust(_VERSION.stop - _VERSION.start, b"\0")
    return data[: _VERSION.start] + field + data[_VERSION.stop :]


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
            # Do not read large foreign files into memory.
            _parse_head(head, str(path))
            return head + file.read()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}", "give a .nb file or a bundle's folder") from None


def _parse_head(data: bytes, where: str) -> tuple[str, int]:
    """Return the version of opt and the size of the topology."""
    if len(data) < _HEAD.size:
        raise ModelError(f"{where}: not a .nb file: {len(data)} bytes, expected at least {_HEAD.size}", _NO_NB_HINT)
    meta_version, version_field, topology_size = _HEAD.unpack_from(data)
    if meta_version != META_VERSION:
        raise ModelError(f"{where}: not a .nb file: meta version {meta_version}, expected {META_VERSION}", _NO_NB_HINT)
    text, end, _ = version_field.partition(b"\0")
    if not end or not re.fullmatch(rb"v?\d+\.\d+[\w.+-]*", text):
        raise ModelError(
            f"{where}: not a .nb file: the version field is {version_field!r}, expected opt's version", HINT
        )
    return text.decode("ascii"), topology_size


def _read_block(table: FlatTable) -> NbBlock:
    variables: dict[str, NbVar] = {}
    for described in table.read("vars"):
        variable = _read_var(described)
        if variables.setdefault(variable.name, variable) is not variable:
            raise described.fail("name", f"{variable.name!r} occurs twice")
    return NbBlock(
        index=table.read("idx"),
        parent_index=table.read("parent_idx"),
        vars=MappingProxyType(variables),
        ops=tuple(map(_read_op, table.read("ops"))),
    )


def _read_var(table: FlatTable) -> NbVar:
    described = table.read("type")
    kind = VAR_KINDS.get(described.read("type"))
    if kind is None:
        raise described.fail("type", f"{described.read('type')}, expected one of {list(VAR_KINDS)}")
    dtype, shape = None, None
    lod_tensor = described.read("lod_tensor")
    if lod_tensor is not None:
        tensor = lod_tensor.read("tensor")
        dtype, shape = _read_dtype(tensor), _read_shape(tensor, "dims")
    return NbVar(table.read("name"), kind, table.read("persistable"), dtype, shape)


def _read_dtype(table: FlatTable) -> str:
    value = table.read("data_type")
    if value not in DTYPES:
        raise table.fail("data_type", f"{value}, expected one of {list(DTYPES)}")
    return DTYPES[value]


def _read_shape(table: FlatTable, field: str) -> tuple[int, ...]:
    shape: tuple[int, ...] = table.read(field)
    if len(shape) > MAX_RANK:
        raise table.fail(field, f"{len(shape)} dimensions, expected at most {MAX_RANK}")
    return shape


def _read_op(table: FlatTable) -> NbOp:
    attrs: dict[str, Any] = {}
    for described in table.read("attrs"):
        name = described.read("name")
        if name in attrs:
            raise described.fail("name", f"{name!r} occurs twice")
        attrs[name] = _read_attr(described)
    return NbOp(
        table.read("type"), _read_slots(table, "inputs"), _read_slots(table, "outputs"), MappingProxyType(attrs)
    )


def _read_attr(table: FlatTable) -> Any:
    kind = table.read("type")
    field = ATTR_FIELDS.get(kind)
    if field is None:
        raise table.fail("type", f"{kind}, expected one of {list(ATTR_FIELDS)}")
    value = table.read(field)
    # opt omits an empty text.
    return "" if value is None else value


def _read_slots(table: FlatTable, field: str) -> Mapping[str, tuple[str, ...]]:
    slots: dict[str, tuple[str, ...]] = {}
    for slot in table.read(field):
        name = slot.read("parameter")
        if name in slots:
            raise slot.fail("parameter", f"{name!r} occurs twice")
        slots[name] = slot.read("arguments")
    return MappingProxyType(slots)


def _read_params(view: memoryview, header: NbHeader, where: str) -> Iterator[NbParam]:
    """Yield the parameters; `parse_header` has checked that their records are inside the file."""
    for index, (position, record) in enumerate(list_records(view, header)):
        place = f"{where}: damaged at byte {position} (parameter {index} of {header.params_count})"
        if len(record) < _RECORD.size:
            raise ModelError(f"{place}: a record of {len(record)} bytes, expected at least {_RECORD.size}", HINT)
        (offset,) = _RECORD.unpack_from(record)
        if offset != _RECORD.size:
            raise ModelError(f"{place}: offset {offset}, expected {_RECORD.size}", HINT)
        yield _read_param(open_param(position, record, where), header)


def open_param(position: int, record: memoryview, where: str) -> FlatTable:
    """Return the ParamDesc of a record that starts at byte `position` of the file."""
    return FlatBuffer(record[_RECORD.size :], position + _RECORD.size, where).read_root("ParamDesc")


def _read_param(table: FlatTable, header: NbHeader) -> NbParam:
    kind = table.read("variable_type")
    if kind != LOD_TENSOR:
        raise table.fail("variable_type", f"{kind}, expected {LOD_TENSOR}")
    name = table.read("name")
    tensor = table.read("variable")
    dtype, shape, data = _read_dtype(tensor), _read_shape(tensor, "dim"), tensor.read("data")
    if any(size < 0 for size in shape):
        raise tensor.fail("dim", f"{name!r} has the shape {list(shape)}, expected no negative dimension")
    # NumPy refuses a 0 next to huge dimensions, and no op needs an empty parameter.
    if 0 in shape:
        raise tensor.fail("dim", f"{name!r} has the shape {list(shape)}, expected no dimension of 0")
    size_bytes = math.prod(shape) * DTYPE_SIZES[dtype]
    if len(data) != size_bytes:
        raise tensor.fail(
            "data", f"{name!r} has {len(data)} bytes, expected {size_bytes} for {dtype} of shape {list(shape)}"
        )
    # The runtime allocates the header's size to read each parameter.
    if len(data) > header.max_tensor_size_bytes:
        raise tensor.fail(
            "data", f"{name!r} has {len(data)} bytes, expected at most the header's {header.max_tensor_size_bytes}"
        )
    return NbParam(name, dtype, shape, data)


def _index(params: Iterator[NbParam], where: str) -> Mapping[str, NbParam]:
    by_name: dict[str, NbParam] = {}
    for param in params:
        if by_name.setdefault(param.name, param) is not param:
            name = shorten(repr(param.name))
            raise ModelError(f"{where}: damaged: parameter {name} occurs twice, expected once", HINT)
    return MappingProxyType(by_name)


def _list_ports(block: NbBlock, op_type: str, where: str) -> tuple[NbVar, ...]:
    """Return the program's inputs (`feed`) or outputs (`fetch`), in column order."""
    ports: dict[int, NbVar] = {}
    for op in block.ops:
        if op.type != op_type:
            continue
        names = op.outputs.get("Out", ()) if op_type == "feed" else op.inputs.get("X", ())
        column = op.attrs.get("col", 0)
        variable = block.vars.get(names[0]) if names else None
        if variable is None or not isinstance(column, int) or column in ports:
            raise ModelError(
                f"{where}: damaged: {op_type} of {shorten(str(list(names)))} in column {shorten(repr(column))}, "
                "expected one variable per column",
                HINT,
            )
        ports[column] = variable
    return tuple(ports[column] for column in sorted(ports))
