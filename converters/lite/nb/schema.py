"""The FlatBuffers tables inside a `.nb`, and a reader for untrusted files.

Field names and their order are those of Paddle-Lite's `framework.fbs` and `param.fbs`; a field's slot is its
place in the order. The `flatbuffers` package is not used: it follows every offset, wraps negative indices around and
does not check the buffer's end, so each access would need a check, and an access itself is one `struct.unpack_from`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from edge_ocr.errors import ModelError

HINT = "export the model again with Paddle-Lite's opt 2.10 or newer"

SCALARS: Mapping[str, struct.Struct] = MappingProxyType(
    {
        "bool": struct.Struct("<?"),
        "byte": struct.Struct("<b"),
        "ubyte": struct.Struct("<B"),
        "int": struct.Struct("<i"),
        "long": struct.Struct("<q"),
        "float": struct.Struct("<f"),
        "double": struct.Struct("<d"),
    }
)
# A file's text in a message may be megabytes long.
_MAX_MESSAGE = 400

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")


@dataclass(frozen=True)
class Field:
    """One field of a table."""

    name: str
    slot: int
    kind: str
    """A scalar, `string`, or the name of a table."""
    is_vector: bool
    is_required: bool
    default: Any
    """The value of an absent field: a scalar, () for a vector, None for a string or table."""


def _table(**fields: str) -> Mapping[str, Field]:
    """Return the fields of a table from `name="type"`: `[type]` is a vector, a trailing `!` marks a required field."""
    made = {}
    for slot, (name, text) in enumerate(fields.items()):
        text, _, default_text = text.partition("=")
        kind = text.rstrip("!")
        is_vector = kind.startswith("[")
        kind = kind.strip("[]")
        default: Any = None
        if is_vector:
            default = ()
        elif kind in SCALARS:
            default = SCALARS[kind].unpack(bytes(SCALARS[kind].size))[0]
        if default_text:
            default = int(default_text)
        made[name] = Field(name, slot, kind, is_vector, text.endswith("!"), default)
    return MappingProxyType(made)


# No table contains itself, directly or indirectly, so the schema limits the depth.
TABLES: Mapping[str, Mapping[str, Field]] = MappingProxyType(
    {
        "ProgramDesc": _table(blocks="[BlockDesc]", version="Version", op_compatible_map="OpCompatibleMap"),
        "Version": _table(version="long"),
        "OpCompatibleMap": _table(pair="[OpCompatiblePair]", default_required_version="string"),
        "OpCompatiblePair": _table(op_name="string!", compatible_info="CompatibleInfo!"),
        "CompatibleInfo": _table(version="string!", type="int"),
        "BlockDesc": _table(idx="int", parent_idx="int", vars="[VarDesc]", ops="[OpDesc]", forward_block_idx="int=-1"),
        "VarDesc": _table(name="string!", type="VarType!", persistable="bool", need_check_feed="bool"),
        "VarType": _table(
            type="int",
            selected_rows="TensorDesc",
            lod_tensor="LoDTensor",
            tensor_array="LoDTensor",
            reader="ReaderDesc",
            tuple="Tuple",
        ),
        "TensorDesc": _table(data_type="int", dims="[long]"),
        "LoDTensor": _table(tensor="TensorDesc!", lod_level="int"),
        "ReaderDesc": _table(lod_tensor="[LoDTensor]"),
        "Tuple": _table(element_type="[int]"),
        "OpDesc": _table(type="string!", inputs="[Var]", outputs="[Var]", attrs="[Attr]", is_target="bool"),
        "Var": _table(parameter="string!", arguments="[string]"),
        "Attr": _table(
            name="string!",
            type="int",
            i="int",
            f="float",
            s="string",
            ints="[int]",
            floats="[float]",
            strings="[string]",
            b="bool",
            bools="[bool]",
            block_idx="int",
            l="long",
            blocks_idx="[int]",
            longs="[long]",
            float64="double",
            float64s="[double]",
        ),
        "ParamDesc": _table(version="VersionDesc", name="string!", variable_type="ubyte", variable="LoDTensorData!"),
        "VersionDesc": _table(version="int", model_version="int"),
        "LoDTensorData": _table(lod_level="int", lod="[long]", dim="[long]", data_type="int", data="[byte]"),
    }
)

# The only member of the union ParamDesc.variable.
LOD_TENSOR = 1

# The field of Attr, by AttrType.
ATTR_FIELDS: Mapping[int, str] = MappingProxyType(
    {
        0: "i",
        1: "f",
        2: "s",
        3: "ints",
        4: "floats",
        5: "strings",
        6: "b",
        7: "bools",
        8: "block_idx",
        9: "l",
        10: "blocks_idx",
        11: "longs",
        12: "float64s",
        15: "float64",
    }
)

# VarType_.Type of a tensor's elements; NumPy's names.
DTYPES: Mapping[int, str] = MappingProxyType(
    {
        0: "bool",
        1: "int16",
        2: "int32",
        3: "int64",
        4: "float16",
        5: "float32",
        6: "float64",
        20: "uint8",
        21: "int8",
    }
)
DTYPE_SIZES: Mapping[str, int] = MappingProxyType(
    {
        "bool": 1,
        "int16": 2,
        "int32": 4,
        "int64": 8,
        "float16": 2,
        "float32": 4,
        "float64": 8,
        "uint8": 1,
        "int8": 1,
    }
)

# VarType_.Type of a variable.
VAR_KINDS: Mapping[int, str] = MappingProxyType(
    {
        7: "tensor",
        8: "selected_rows",
        9: "feed",
        10: "fetch",
        11: "step_scopes",
        12: "lod_rank_table",
        13: "tensor_array",
        14: "place_list",
        15: "reader",
        17: "raw",
        18: "tuple",
        19: "size_t",
    }
)


def shorten(text: str) -> str:
    """Return `text`, cut off if it is too long for a message."""
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}…"


class FlatBuffer:
    """One FlatBuffers buffer of a file.

    Every offset is checked against the buffer's end before it is followed. Objects may be shared, so a small buffer
    could describe an enormous tree. Therefore the bytes of all objects read, counted each time, are limited.
    """

    def __init__(self, data: memoryview, start: int, where: str, limit_bytes: int | None = None) -> None:
        """Hold `data`, which starts at byte `start` of the file; `where` names the file in errors.

        Objects of `limit_bytes` may be read, by default of twice the buffer.
        """
        self._data = data
        self._start = start
        self._where = where
        self._limit = self._budget = 2 * len(data) if limit_bytes is None else limit_bytes

    def read_root(self, table: str) -> FlatTable:
        """Return the outermost table. Raises ModelError if it is damaged, as do all reads from it."""
        self._claim(0, _U32.size, table)
        return self._read_table(self._follow(0, table), table)

    def fail(self, position: int, place: str, message: str) -> ModelError:
        """Return the error for damage at byte `position` of the buffer."""
        where = f"{self._where}: damaged at byte {self._start + position} ({place})"
        return ModelError(f"{where}: {shorten(message)}", HINT)

    def read_field(self, table: FlatTable, field: Field, offset: int) -> Any:
        """Return the field that is `offset` bytes after the start of `table`."""
        place = f"{table.name}.{field.name}"
        is_inline = field.kind in SCALARS and not field.is_vector
        last = table.size_bytes - (SCALARS[field.kind].size if is_inline else _U32.size)
        if not _I32.size <= offset <= last:
            raise self.fail(table.position, place, f"byte {offset} of the table, expected {_I32.size} to {last}")
        position = table.position + offset
        if is_inline:
            return SCALARS[field.kind].unpack_from(self._data, position)[0]
        target = self._follow(position, place)
        if field.is_vector:
            return self._read_vector(target, field.kind, place)
        return self._read_text(target, place) if field.kind == "string" else self._read_table(target, field.kind)

    def _claim(self, position: int, size_bytes: int, place: str) -> None:
        """Check that an object is inside the buffer, and count its bytes."""
        room = len(self._data) - position
        if size_bytes > room:
            raise self.fail(position, place, f"{size_bytes} bytes long, expected at most {max(room, 0)}")
        self._budget -= size_bytes
        if self._budget < 0:
            raise self.fail(position, place, f"objects overlap: over {self._limit} bytes in {len(self._data)}")

    def _follow(self, position: int, place: str) -> int:
        """Return the target of the offset at `position`, whose four bytes have been checked."""
        offset = int(_U32.unpack_from(self._data, position)[0])
        last = len(self._data) - position - 1
        if not 0 < offset <= last:
            raise self.fail(position, place, f"offset {offset}, expected 1 to {last}")
        return position + offset

    def _read_table(self, position: int, table: str) -> FlatTable:
        self._claim(position, _I32.size, table)
        vtable = position - int(_I32.unpack_from(self._data, position)[0])
        last = len(self._data) - 2 * _U16.size
        if not 0 <= vtable <= last:
            raise self.fail(position, table, f"vtable at byte {vtable} of the buffer, expected 0 to {last}")
        vtable_size, size = struct.unpack_from("<HH", self._data, vtable)
        room = len(self._data) - vtable
        if not 2 * _U16.size <= vtable_size <= room or vtable_size % 2:
            raise self.fail(vtable, table, f"vtable of {vtable_size} bytes, expected an even number from 4 to {room}")
        if size < _I32.size:
            raise self.fail(vtable, table, f"table of {size} bytes, expected at least {_I32.size}")
        self._claim(position + _I32.size, size - _I32.size, table)
        # A newer opt may write more fields.
        count = min(vtable_size // _U16.size - 2, len(TABLES[table]))
        slots = struct.unpack_from(f"<{count}H", self._data, vtable + 2 * _U16.size)
        return FlatTable(self, table, position, size, slots)

    def _read_vector(self, position: int, kind: str, place: str) -> tuple[Any, ...] | memoryview | Iterator[FlatTable]:
        count = self._read_count(position, place)
        start = position + _U32.size
        if kind in SCALARS:
            self._claim(start, count * SCALARS[kind].size, place)
            if kind == "byte":
                return self._data[start : start + count]
            return struct.unpack_from(f"<{count}{SCALARS[kind].format[1:]}", self._data, start)
        self._claim(start, count * _U32.size, place)
        targets = (self._follow(start + index * _U32.size, place) for index in range(count))
        if kind == "string":
            return tuple(self._read_text(target, place) for target in targets)
        return (self._read_table(target, kind) for target in targets)

    def _read_text(self, position: int, place: str) -> str:
        count = self._read_count(position, place)
        start = position + _U32.size
        # The length does not count the NUL after the text.
        self._claim(start, count + 1, place)
        try:
            return str(self._data[start : start + count], "utf-8")
        except UnicodeDecodeError:
            text = bytes(self._data[start : start + min(count, 40)])
            raise self.fail(position, place, f"text {text!r}, expected UTF-8") from None

    def _read_count(self, position: int, place: str) -> int:
        self._claim(position, _U32.size, place)
        return int(_U32.unpack_from(self._data, position)[0])


@dataclass(frozen=True, slots=True)
class FlatTable:
    """One table of a buffer; fields are read on demand."""

    buffer: FlatBuffer
    name: str
    position: int
    """Its start in the buffer; all its `size_bytes` have been checked."""
    size_bytes: int
    slots: tuple[int, ...]
    """The fields' offsets from the start in bytes; 0 for an absent field."""

    def read(self, name: str) -> Any:
        """Return a field: a number, text, table, tuple of numbers or texts, `[byte]` as a view, tables as an iterator.

        Raises ModelError if it is damaged, or absent but required.
        """
        field = TABLES[self.name][name]
        offset = self.slots[field.slot] if field.slot < len(self.slots) else 0
        if offset:
            return self.buffer.read_field(self, field, offset)
        if field.is_required:
            raise self.fail(name, "absent, expected a value")
        return field.default

    def read_stored(self) -> dict[str, Any]:
        """Return the fields that the file stores, as `read`, with tables and lists of tables as such dictionaries."""
        stored: dict[str, Any] = {}
        for field, slot in zip(TABLES[self.name].values(), self.slots, strict=False):
            if not slot:
                continue
            value = self.read(field.name)
            if field.kind in TABLES:
                value = [table.read_stored() for table in value] if field.is_vector else value.read_stored()
            stored[field.name] = value
        return stored

    def fail(self, field: str, message: str) -> ModelError:
        """Return the error for one of its fields."""
        return self.buffer.fail(self.position, f"{self.name}.{field}", message)
