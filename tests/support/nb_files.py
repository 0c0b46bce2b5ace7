"""`.nb` files, described as Python values and written without the product's writer."""

from __future__ import annotations

import struct

from converters.lite.nb.read import NbModel, parse_nb
from converters.lite.nb.rounded import Rounded, round_nearest
from converters.lite.nb.schema import ATTR_FIELDS, DTYPE_SIZES, DTYPES, TABLES
from converters.lite.nb.write import edit_nb

_SCALARS = {"bool": "<?", "byte": "<b", "ubyte": "<B", "int": "<i", "long": "<q", "float": "<f", "double": "<d"}


def write_table(out, name, values):
    """Append a FlatBuffers table and what it refers to; the vtable is after the table."""
    fields = [field for field in TABLES[name].values() if field.name in values]
    inline = {field.name: field.kind in _SCALARS and not field.is_vector for field in fields}
    places, size = {}, 4
    for field in fields:
        places[field.name] = size
        size += struct.calcsize(_SCALARS[field.kind]) if inline[field.name] else 4
    slots = [0] * (max((field.slot for field in fields), default=-1) + 1)
    for field in fields:
        slots[field.slot] = places[field.name]
    start = len(out)
    out += struct.pack("<i", -size) + bytes(size - 4)
    out += struct.pack(f"<{len(slots) + 2}H", 4 + 2 * len(slots), size, *slots)
    for field in fields:
        place, value = start + places[field.name], values[field.name]
        if inline[field.name]:
            struct.pack_into(_SCALARS[field.kind], out, place, value)
            continue
        struct.pack_into("<I", out, place, len(out) - place)
        if not field.is_vector:
            write_object(out, field.kind, value)
            continue
        out += struct.pack("<I", len(value))
        if field.kind in _SCALARS:
            out += (
                value if isinstance(value, bytes) else struct.pack(f"<{len(value)}{_SCALARS[field.kind][1:]}", *value)
            )
            continue
        first = len(out)
        out += bytes(4 * len(value))
        for index, one in enumerate(value):
            struct.pack_into("<I", out, first + 4 * index, len(out) - first - 4 * index)
            write_object(out, field.kind, one)


def write_object(out, kind, value):
    if kind == "string":
        text = value.encode()
        out += struct.pack("<I", len(text)) + text + b"\0"
    else:
        write_table(out, kind, value)


def write_flat(name, values):
    out = bytearray(struct.pack("<I", 4))
    write_table(out, name, values)
    return bytes(out)


def write_nb(program, params):
    topology = write_flat("ProgramDesc", program)
    records = [struct.pack("<I", 4) + write_flat("ParamDesc", param) for param in params]
    return b"".join(
        [
            struct.pack("<H16sQ", 2, b"v2.13-rc", len(topology)),
            topology,
            struct.pack("<HHHHI", 0, 0, 6, len(records), 2**16),
            *(struct.pack("<I", len(record)) + record for record in records),
        ]
    )


def to_attr(name, value):
    """Describe an attribute in the type that opt gives it."""
    kind = {bool: 6, int: 0, float: 1, str: 2}.get(type(value))
    if kind is None:
        kind = 4 if value and isinstance(value[0], float) else 3
    return {"name": name, "type": kind, ATTR_FIELDS[kind]: value}


def op(op_type, inputs, outputs, /, **attrs):
    def to_slots(named):
        return [
            {"parameter": slot, "arguments": [names] if isinstance(names, str) else list(names)}
            for slot, names in named.items()
        ]

    described = [to_attr(name, value) for name, value in attrs.items()]
    return {"type": op_type, "inputs": to_slots(inputs), "outputs": to_slots(outputs), "attrs": described}


def unary(op_type, source, result, /, *, slot="X", **attrs):
    return op(op_type, {slot: source}, {"Out": result}, **attrs)


def param(name, dim, dtype=5, data=None):
    """Describe a parameter; without `data` it holds zeros."""
    count = DTYPE_SIZES[DTYPES[dtype]]
    for side in dim:
        count *= side
    variable = {"dim": list(dim), "data_type": dtype, "data": bytes(count) if data is None else data}
    return {"name": name, "variable_type": 1, "variable": variable}


def program(ops, x, params):
    """Describe a file: what takes x, goes through `ops` and gives y."""
    tensor = {"tensor": {"data_type": 5, "dims": list(x)}}
    variables = [
        {"name": "x", "type": {"type": 7, "lod_tensor": tensor}},
        {"name": "y", "type": {"type": 7, "lod_tensor": tensor}},
        {"name": "feed", "type": {"type": 9}, "persistable": True},
    ]
    ends = [op("feed", {"X": "feed"}, {"Out": "x"}, col=0), op("fetch", {"X": "y"}, {"Out": "fetch"}, col=0)]
    block = {"idx": 0, "parent_idx": -1, "vars": variables, "ops": [ends[0], *ops, ends[1]]}
    return {"blocks": [block], "version": {"version": 2004001}}, [param(*each) for each in params]


def round_nb(data, bits):
    """Return a `.nb` with all weights of conv2d and fc rounded."""
    return edit_nb(data, round_weights(parse_nb(data), bits))


# The slot, the rank and the axis of the scales. opt rounds these types, and not depthwise convolutions
# (post_quant_dynamic_pass.cc); of what else it rounds, the runtime dequantises nothing that is in our graphs.
_WEIGHTS = {"conv2d": ("Filter", 4, 0), "fc": ("W", 2, 1)}


def list_weights(model: NbModel) -> dict[str, int]:
    """Return, by name, the axis of the output channels of all float32 weights of conv2d and fc."""
    weights = {}
    for block in model.blocks:
        for op in block.ops:
            slot, rank, axis = _WEIGHTS.get(op.type, ("", 0, 0))
            for name in op.inputs.get(slot, ()):
                param = model.params.get(name)
                if param is not None and param.dtype == "float32" and len(param.shape) == rank:
                    weights[name] = axis
    return weights


def round_weights(model: NbModel, bits: int) -> dict[str, Rounded]:
    """Return `round_nearest` of all `list_weights`, by name."""
    return {
        name: round_nearest(model.params[name].to_array(), axis, bits) for name, axis in list_weights(model).items()
    }
