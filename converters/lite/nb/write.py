"""Edits a `.nb`: stores parameters as integers, and replaces others.

opt knows one precision for a whole file. Here each parameter has its own, in the form that opt's own
post_quant_dynamic_pass writes and the runtime's LightPredictor::DequantizeWeight reads: the op that reads a parameter
has its scales, and all parameters that an op has scales for have the same width.

Equal objects of the program are written once. opt writes each attribute of each op with its name, which takes a third
of a small int8 file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

from converters.lite.nb.ops import OPS
from converters.lite.nb.read import (
    BITS_ATTR,
    METHOD_ATTR,
    SCALE_SUFFIX,
    NbParam,
    join_nb,
    list_records,
    open_param,
    open_program,
    parse_nb,
)
from converters.lite.nb.rounded import Rounded
from converters.lite.nb.schema import ATTR_FIELDS, DTYPES, SCALARS, TABLES, Field, shorten
from edge_ocr.errors import ModelError

_METHOD = "post_weight_channel_wise_abs_max"

_ATTR_TYPES: Mapping[str, int] = MappingProxyType({field: value for value, field in ATTR_FIELDS.items()})
_DATA_TYPES: Mapping[str, int] = MappingProxyType({dtype: value for value, dtype in DTYPES.items()})

# NumPy's types of the schema's scalars; `byte` is a tensor's content.
_NUMPY_TYPES: Mapping[str, str] = MappingProxyType(
    {"bool": "?", "byte": "u1", "ubyte": "u1", "int": "<i4", "long": "<i8", "float": "<f4", "double": "<f8"}
)

# The builder's names of them.
_SLOTS: Mapping[str, str] = MappingProxyType(
    {"bool": "Bool", "ubyte": "Uint8", "int": "Int32", "long": "Int64", "float": "Float32", "double": "Float64"}
)


def edit_nb(
    data: bytes,
    rounded: Mapping[str, Rounded],
    params: Mapping[str, NDArray[np.float32]] = MappingProxyType({}),
    where: str = ".nb",
) -> bytes:
    """Return the `.nb` with the parameters `rounded` stored as integers and the float32 `params` replaced, by name.

    All else stays as it is, and equal input gives equal bytes. A parameter that several ops read is dequantised for
    all of them; the first of them that the runtime dequantises for gets its scales.

    Raises ModelError if the file is damaged, or a parameter is unknown, does not fit or could not be dequantised.
    """
    model = parse_nb(data, where)
    content: dict[str, NDArray[Any]] = {}
    for name, array in params.items():
        content[name] = _check(model.params.get(name), name, array, where)
        if array.dtype != np.float32 or not np.isfinite(array).all() or name in rounded:
            raise _fail(where, name, f"{array.dtype} values, expected finite float32 for a parameter that stays float")
    for name, one in rounded.items():
        content[name] = _check(model.params.get(name), name, one.values, where)
    view = memoryview(data).toreadonly()
    program = open_program(view, model.header, where).read_stored()
    ops = [op for block in program["blocks"] for op in block.get("ops", ())]
    for name, one in rounded.items():
        _add_scales(ops, name, one, where)
    records = []
    for name, (position, record) in zip(model.params, list_records(view, model.header), strict=True):
        if name in content:
            table = open_param(position, record, where).read_stored()
            table["variable"]["data_type"] = _DATA_TYPES[content[name].dtype.name]
            table["variable"]["data"] = content[name].astype(content[name].dtype.newbyteorder("<")).tobytes()
            records.append(record[:4].tobytes() + write_flat("ParamDesc", table))
        else:
            records.append(record.tobytes())
    sizes = (content[name].nbytes if name in content else len(param.data) for name, param in model.params.items())
    return join_nb(data, write_flat("ProgramDesc", program), records, max(sizes, default=0))


def _fail(where: str, name: str, message: str) -> ModelError:
    return ModelError(f"{where}: parameter {shorten(repr(name))}: {message}")


def _check(param: NbParam | None, name: str, array: NDArray[Any], where: str) -> NDArray[Any]:
    """Return `array` if it may be the parameter's new content."""
    if param is None:
        raise _fail(where, name, "the file has none of this name")
    if param.dtype != "float32":
        raise _fail(where, name, f"holds {param.dtype}, expected float32 before it is edited")
    if param.shape != array.shape:
        raise _fail(where, name, f"new values of shape {list(array.shape)}, expected {list(param.shape)}")
    return array


def _add_scales(ops: Sequence[dict[str, Any]], name: str, one: Rounded, where: str) -> None:
    """Give the op that reads the parameter its scales."""
    readers = [op for op in ops if name in _list_inputs(op)]
    holders = [op for op in readers if op["type"] in OPS and 0 < one.values.ndim <= OPS[op["type"]].scaled_axis[1]]
    if not holders:
        types = sorted({op["type"] for op in readers})
        raise _fail(where, name, f"read by {types}, but the runtime dequantises for conv2d and fc only")
    holder = holders[0]
    axis = min(OPS[holder["type"]].scaled_axis[0], one.values.ndim - 1)
    if one.values.dtype not in (np.int8, np.int16) or one.scales.dtype != np.float32:
        raise _fail(
            where, name, f"{one.values.dtype} with scales of {one.scales.dtype}, expected int8 or int16, float32"
        )
    if one.axis != axis or one.scales.shape != (one.values.shape[axis],):
        expected = f"{one.values.shape[axis]} along axis {axis}"
        raise _fail(where, name, f"scales of shape {list(one.scales.shape)} along axis {one.axis}, expected {expected}")
    with np.errstate(all="ignore"):
        is_finite = np.isfinite(one.to_float()).all()
    if not is_finite:
        raise _fail(where, name, "the scales give numbers that are not finite")
    attrs = {attr["name"]: attr for attr in holder.get("attrs", ())}
    known = attrs.get(BITS_ATTR, {}).get("i", one.bits)
    if known != one.bits:
        raise _fail(where, name, f"{one.bits} bits, but {holder['type']} has another parameter of {known} bits")
    if any(len(slot.get("arguments", ())) > 1 for slot in holder["inputs"]):
        raise _fail(where, name, f"{holder['type']} reads several tensors in one slot, expected one")
    if attrs.get("enable_int8", {}).get("b"):
        raise _fail(where, name, f"{holder['type']} computes with it in int8")
    added: dict[str, tuple[str, Any]] = {
        METHOD_ATTR: ("s", _METHOD),
        BITS_ATTR: ("i", one.bits),
        name + SCALE_SUFFIX: ("floats", tuple(one.scales.tolist())),
    }
    for attr, (field, value) in added.items():
        attrs[attr] = {"name": attr, "type": _ATTR_TYPES[field], field: value}
    # The runtime finds attributes by binary search.
    holder["attrs"] = sorted(attrs.values(), key=lambda attr: str(attr["name"]).encode())


def _list_inputs(op: Mapping[str, Any]) -> Iterator[str]:
    for slot in op.get("inputs", ()):
        yield from slot.get("arguments", ())


def write_flat(table: str, stored: Mapping[str, Any]) -> bytes:
    """Return the buffer of a table, given as FlatTable.read_stored gives it; equal objects in it are shared."""
    writer = _Writer()
    return writer.finish(writer.add_table(table, stored))


class _Writer:
    """Writes one FlatBuffers buffer; equal objects in it are shared."""

    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(1024)
        self._written: dict[Any, int] = {}

    def finish(self, root: int) -> bytes:
        """Return the buffer, whose outermost table is at `root`."""
        self._builder.Finish(root)
        return bytes(self._builder.Output())

    def add_table(self, table: str, stored: Mapping[str, Any]) -> int:
        """Write a table, unless an equal one is there; return its place."""
        fields = [field for field in TABLES[table].values() if field.name in stored]
        values = [self._add_value(field, stored[field.name]) for field in fields]
        # Floats by their bytes: 0.0 equals -0.0.
        key = (table, *((f.slot, v.hex() if isinstance(v, float) else v) for f, v in zip(fields, values, strict=True)))
        if key not in self._written:
            self._builder.StartObject(len(TABLES[table]))
            # From the narrowest to the widest, because the buffer grows downwards: the least padding.
            for field, value in sorted(zip(fields, values, strict=True), key=lambda item: _measure(item[0])):
                # Without a default, any value is written, as the source file stores it.
                getattr(self._builder, f"Prepend{_choose_slot(field)}Slot")(field.slot, value, None)
            self._written[key] = self._builder.EndObject()
        return self._written[key]

    def _add_value(self, field: Field, value: Any) -> Any:
        """Return a scalar as it is, or the offset of another value, after writing that."""
        if field.is_vector:
            return self._add_vector(field.kind, value)
        if field.kind == "string":
            return self._add_text(value)
        return self.add_table(field.kind, value) if field.kind in TABLES else value

    def _add_text(self, text: str) -> int:
        return int(self._builder.CreateSharedString(text))

    def _add_vector(self, kind: str, values: Any) -> int:
        if kind in SCALARS:
            array = np.frombuffer(values, "u1") if kind == "byte" else np.array(values, _NUMPY_TYPES[kind])
            key: Any = (kind, array.tobytes())
            if key not in self._written:
                self._written[key] = self._builder.CreateNumpyVector(array)
            return self._written[key]
        if kind == "string":
            # OpDescView::input_vars of the runtime, which dequantises by it, takes the word behind a vector of one text
            # for the length of that text. So the text is there, as opt writes it, and not shared with others.
            key = ("texts", *values)
            offsets = [] if key in self._written else [self._builder.CreateString(value) for value in values]
        else:
            offsets = [self.add_table(kind, value) for value in values]
            key = ("tables", *offsets)
        if key not in self._written:
            self._builder.StartVector(4, len(offsets), 4)
            for offset in reversed(offsets):
                self._builder.PrependUOffsetTRelative(offset)
            self._written[key] = self._builder.EndVector()
        return self._written[key]


def _measure(field: Field) -> int:
    return SCALARS[field.kind].size if field.kind in SCALARS and not field.is_vector else 4


def _choose_slot(field: Field) -> str:
    """Return the part of the builder's method name for the field."""
    return _SLOTS[field.kind] if field.kind in SCALARS and not field.is_vector else "UOffsetTRelative"
