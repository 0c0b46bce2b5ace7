"""Reads, edits and writes `.pdmodel` programs with their `.pdiparams`, without Paddle.

A `.pdmodel` is a protobuf, `ProgramDesc`. A `.pdiparams` holds the persistable variables sorted by name, each
`u32 version=0 · u64 lod_level=0 · u32 version=0 · i32 n · n bytes VarType.TensorDesc · raw data`, little-endian
without gaps; only the program holds the names.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_ocr.errors import ModelError
from edge_ocr.models.input_size import load_framework_pb2

_HINT = "fetch or export the model again"

# By their numbers in framework.proto. NumPy has no BF16.
_DTYPES: Mapping[int, np.dtype[Any]] = {
    number: np.dtype(name)
    for number, name in (
        (0, "bool"),
        (1, "<i2"),
        (2, "<i4"),
        (3, "<i8"),
        (4, "<f2"),
        (5, "<f4"),
        (6, "<f8"),
        (20, "uint8"),
        (21, "int8"),
    )
}
_DENSE_TENSOR = 7
# Persistable variables without content: feed and fetch lists, readers, RAW.
_NOT_STORED = frozenset((9, 10, 15, 17))

# The field that holds the value, by AttrType.
_ATTR_FIELDS: Mapping[int, str] = {
    0: "i", 1: "f", 2: "s", 3: "ints", 4: "floats", 5: "strings", 6: "b", 7: "bools", 8: "block_idx", 9: "l",
    10: "blocks_idx", 11: "longs", 12: "float64s", 13: "var_name", 14: "vars_name", 15: "float64",
}  # fmt: skip
_INT, _FLOAT, _STRING, _INTS, _FLOATS, _BOOLEAN = 0, 1, 2, 3, 4, 6

_RECORD_HEAD = struct.Struct("<IQIi")

Op = Any
"""An OpDesc message."""
Array = NDArray[Any]


@dataclass(frozen=True)
class Port:
    """One input or output tensor of a program."""

    name: str
    shape: tuple[int, ...]
    """-1 for a free dimension."""
    dtype: str
    """NumPy's name."""


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a program."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def read_signature(program: Path) -> Signature:
    """Return the inputs and outputs of a `.pdmodel`, in the order of their columns.

    Raises ModelError if the file is not a Paddle program.
    """
    return _describe_ports(_read_desc(program), str(program))


def _describe_ports(desc: Any, where: str) -> Signature:
    framework = load_framework_pb2()
    block = desc.blocks[0]
    variables = {variable.name: variable.type.dense_tensor.tensor for variable in block.vars}
    dtypes = {
        framework.VarType.FP16: "float16",
        framework.VarType.FP32: "float32",
        framework.VarType.INT32: "int32",
        framework.VarType.INT64: "int64",
        framework.VarType.UINT8: "uint8",
    }

    def read_ports(op_type: str, slots: str) -> tuple[Port, ...]:
        ports: dict[int, Port] = {}
        for op in block.ops:
            if op.type != op_type:
                continue
            column = next((attr.i for attr in op.attrs if attr.name == "col"), 0)
            for name in (argument for slot in getattr(op, slots)[:1] for argument in slot.arguments[:1]):
                tensor = variables.get(name)
                dtype = None if tensor is None else dtypes.get(tensor.data_type)
                if tensor is None or dtype is None:
                    raise ModelError(f"{where}: {op_type} {name!r} has no tensor with a supported type", _HINT)
                ports[column] = Port(name, tuple(tensor.dims), dtype)
        if not ports:
            raise ModelError(f"{where}: not an inference program: it has no {op_type}", _HINT)
        return tuple(ports[column] for column in sorted(ports))

    return Signature(read_ports("feed", "outputs"), read_ports("fetch", "inputs"))


class Program:
    """A program and its parameters, edited in place.

    `ops` are the main block's OpDesc messages in execution order; edit them only through the methods here, which keep
    track of readers and writers. `params` are the persistable tensors by name; arrays that were read from the file are
    read-only views, so passes store new arrays.
    """

    def __init__(self, desc: Any, params: dict[str, Array], where: str) -> None:
        self._desc = desc
        self.params = params
        self.where = where
        """The path of the .pdmodel, for errors."""
        block = desc.blocks[0]
        self.ops: list[Op] = list(block.ops)
        self._vars: dict[str, Any] = {var.name: var for var in block.vars}
        self.sub_ops: list[Op] = [op for sub_block in list(desc.blocks)[1:] for op in sub_block.ops]
        """The ops of other blocks: change only their attributes."""
        self._in_sub_blocks = {name for op in self.sub_ops for name in (*list_inputs(op), *list_outputs(op))} | {
            var.name for sub_block in list(desc.blocks)[1:] for var in sub_block.vars
        }
        self._readers: dict[str, list[Op]] = {}
        self._writers: dict[str, list[Op]] = {}
        for op in self.ops:
            self._link(op)

    @property
    def signature(self) -> Signature:
        """Return the program's inputs and outputs.

        Raises ModelError if it has no feed or fetch.
        """
        block = load_framework_pb2().BlockDesc(ops=self.ops, vars=self._vars.values())
        return _describe_ports(load_framework_pb2().ProgramDesc(blocks=[block]), self.where)

    def count_ops(self) -> int:
        """Return the number of ops in all blocks, including feed and fetch."""
        return len(self.ops) + len(self.sub_ops)

    def find_shape(self, name: str) -> tuple[int, ...] | None:
        """Return the declared shape of a tensor, -1 for a free dimension; None if it is not declared."""
        var = self._vars.get(name)
        if var is None or var.type.type != _DENSE_TENSOR:
            return None
        return tuple(var.type.dense_tensor.tensor.dims)

    def list_readers(self, name: str) -> list[Op]:
        """Return the ops of the main block that read `name`, including fetch."""
        return self._readers.get(name, [])

    def list_writers(self, name: str) -> list[Op]:
        """Return the ops of the main block that write `name`."""
        return self._writers.get(name, [])

    def find_writer(self, name: str) -> Op | None:
        """Return the only op that writes `name`; None if none or several do, or a sub-block uses it."""
        writers = self.list_writers(name)
        return writers[0] if len(writers) == 1 and name not in self._in_sub_blocks else None

    def find_only_reader(self, name: str) -> Op | None:
        """Return the only reader of the tensor `name` if it reads it once and no sub-block uses it; else None."""
        readers = self.list_readers(name)
        if len(readers) != 1 or self.find_writer(name) is None or list_inputs(readers[0]).count(name) != 1:
            return None
        return readers[0]

    def is_fetched(self, name: str) -> bool:
        """Return whether `name` is an output of the program."""
        return any(op.type == "fetch" for op in self.list_readers(name))

    def is_constant(self, name: str) -> bool:
        """Return whether `name` is a parameter that keeps its stored value while the program runs."""
        return name in self.params and not self.list_writers(name) and not self.is_in_sub_block(name)

    def is_in_sub_block(self, name: str) -> bool:
        """Return whether an op outside the main block reads or writes `name`."""
        return name in self._in_sub_blocks

    def is_unused(self, names: Iterable[str]) -> bool:
        """Return whether nothing reads any of the tensors `names`."""
        return not any(self.list_readers(name) or name in self._in_sub_blocks for name in names)

    def owns_param(self, op: Op, name: str | None) -> bool:
        """Return whether `name` is a float32 parameter that nothing writes and only `op` reads, once."""
        return (
            name is not None
            and self.is_constant(name)
            and self.params[name].dtype == np.float32
            and [reader is op for reader in self.list_readers(name)] == [True]
            and list_inputs(op).count(name) == 1
        )

    def set_param(self, name: str, value: Array) -> None:
        """Store and declare a new or existing parameter."""
        # ascontiguousarray would turn a 0-D array into a 1-D one.
        value = np.asarray(value, order="C")
        var = self._declare(name)
        var.persistable = True
        tensor = var.type.dense_tensor.tensor
        tensor.data_type = next(number for number, dtype in _DTYPES.items() if dtype == value.dtype)
        del tensor.dims[:]
        tensor.dims.extend(value.shape)
        self.params[name] = value

    def set_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Declare the shape of a tensor that is not a parameter; a new one is float32."""
        tensor = self._declare(name).type.dense_tensor.tensor
        del tensor.dims[:]
        tensor.dims.extend(shape)

    def declare_list(self, op_type: Literal["feed", "fetch"]) -> None:
        """Declare the list that feed reads or fetch writes; its name is the op's."""
        var = self._declare(op_type)
        var.type.Clear()
        # FEED_MINIBATCH and FETCH_LIST
        var.type.type = 9 if op_type == "feed" else 10
        var.persistable = True

    def make_name(self, stem: str) -> str:
        """Return an unused name: `stem`, or `stem` with a number appended."""
        name, number = stem, 0
        while name in self._vars or name in self._in_sub_blocks:
            number += 1
            name = f"{stem}_{number}"
        return name

    def insert_op(
        self,
        after: Op | None,
        op_type: str,
        inputs: Mapping[str, str | Sequence[str]],
        outputs: Mapping[str, str | Sequence[str]],
        attrs: Mapping[str, Any],
    ) -> Op:
        """Insert a new op after another one, or at the end, and return it; its variables must be declared."""
        op = load_framework_pb2().OpDesc(type=op_type)
        for slot, names in inputs.items():
            op.inputs.add(parameter=slot, arguments=[names] if isinstance(names, str) else names)
        for slot, names in outputs.items():
            op.outputs.add(parameter=slot, arguments=[names] if isinstance(names, str) else names)
        for name, value in attrs.items():
            set_attr(op, name, value)
        self.ops.insert(len(self.ops) if after is None else self._find_index(after) + 1, op)
        self._link(op)
        return op

    def remove_op(self, op: Op) -> None:
        """Remove an op; `drop_unused` removes variables that only it used."""
        del self.ops[self._find_index(op)]
        self._unlink(op)

    def set_input(self, op: Op, slot: str, name: str | None) -> None:
        """Make `name` the only argument of an input slot; None empties the slot."""
        self._set_slot(op, op.inputs, slot, name)

    def set_output(self, op: Op, slot: str, name: str) -> None:
        """Make `name` the only argument of an output slot."""
        self._set_slot(op, op.outputs, slot, name)

    def rename_inputs(self, old: str, new: str) -> None:
        """Make the ops of the main block that read `old` read `new` instead."""
        for op in list(self.list_readers(old)):
            self._unlink(op)
            _rename(op.inputs, old, new)
            self._link(op)

    def bypass(self, op: Op, source: str, result: str) -> bool:
        """Remove an op whose `result` equals its input `source`; return False and change nothing if it must stay.

        The names of program outputs are kept: the writer of `source` then writes `result` itself.
        """
        if self.find_writer(result) is not op or source in self._in_sub_blocks:
            return False
        # A parameter that an op writes changes its value while the program runs.
        if source in self.params and self.list_writers(source):
            return False
        # Something may read another output of the op, such as a dropout's Mask.
        if not self.is_unused(name for name in list_outputs(op) if name != result):
            return False
        if not self.is_fetched(result):
            # Readers of the result would see a later value of the source.
            if source not in self.params and self.find_writer(source) is None:
                return False
            self.remove_op(op)
            self.rename_inputs(result, source)
            return True
        maker = self.find_writer(source)
        if maker is None or maker.type == "feed" or self.is_fetched(source):
            return False
        self.remove_op(op)
        self.rename_inputs(source, result)
        self._unlink(maker)
        _rename(maker.outputs, source, result)
        self._link(maker)
        return True

    def drop_unused(self) -> None:
        """Remove the variables and parameters of the main block that no op uses."""
        used = self._in_sub_blocks.union(*(map(list_inputs, self.ops)), *(map(list_outputs, self.ops)))
        self._vars = {name: var for name, var in self._vars.items() if name in used}
        self.params = {name: value for name, value in self.params.items() if name in used}

    def to_bytes(self) -> tuple[bytes, bytes]:
        """Return the content of the .pdmodel and of the .pdiparams."""
        desc = load_framework_pb2().ProgramDesc()
        desc.CopyFrom(self._desc)
        block = desc.blocks[0]
        del block.ops[:], block.vars[:]
        block.ops.extend(self.ops)
        block.vars.extend(self._vars.values())
        return desc.SerializeToString(), b"".join(_pack_params(self.params))

    def write(self, program: Path, params: Path) -> None:
        """Write both files, not atomically: use a scratch folder."""
        desc, values = self.to_bytes()
        program.write_bytes(desc)
        params.write_bytes(values)

    def _declare(self, name: str) -> Any:
        if name not in self._vars:
            var = load_framework_pb2().VarDesc(name=name)
            var.type.type = _DENSE_TENSOR
            var.type.dense_tensor.tensor.data_type = 5
            self._vars[name] = var
        return self._vars[name]

    def _set_slot(self, op: Op, slots: Any, slot: str, name: str | None) -> None:
        self._unlink(op)
        found = next((entry for entry in slots if entry.parameter == slot), None)
        entry = slots.add(parameter=slot) if found is None else found
        entry.arguments[:] = [] if name is None else [name]
        self._link(op)

    def _find_index(self, op: Op) -> int:
        # list.index compares by value, but equal messages may be different ops.
        return next(index for index, other in enumerate(self.ops) if other is op)

    def _link(self, op: Op) -> None:
        for links, names in ((self._readers, list_inputs(op)), (self._writers, list_outputs(op))):
            for name in dict.fromkeys(names):
                links.setdefault(name, []).append(op)

    def _unlink(self, op: Op) -> None:
        for links, names in ((self._readers, list_inputs(op)), (self._writers, list_outputs(op))):
            for name in dict.fromkeys(names):
                links[name] = [other for other in links[name] if other is not op]


def make_program(where: str) -> Program:
    """Return a program without ops; `where` names its source file in errors."""
    desc = load_framework_pb2().ProgramDesc()
    # Paddle 2.4.2, which saved the PP-OCRv4 models and whose op set opt 2.13 reads.
    desc.version.version = 2004002
    desc.blocks.add(idx=0, parent_idx=-1)
    return Program(desc, {}, where)


def read_program(program: Path, params: Path) -> Program:
    """Read a `.pdmodel` and its `.pdiparams`, without allocating more than the size of the files.

    Raises ModelError, naming file and variable, if one is damaged or they do not belong together.
    """
    desc = _read_desc(program)
    try:
        data = params.read_bytes()
    except OSError as error:
        raise ModelError(f"{params}: cannot be read: {error.strerror}", _HINT) from None
    stored = {
        var.name: var
        for block in desc.blocks
        for var in block.vars
        if var.persistable and var.type.type not in _NOT_STORED
    }
    values: dict[str, Array] = {}
    position = 0
    for name in sorted(stored):
        values[name], position = _read_param(data, position, stored[name], f"{params}: {name}")
    if position != len(data):
        raise ModelError(
            f"{params}: {len(data)} bytes, expected {position}: not the parameters of {program}",
            "pass the .pdmodel and .pdiparams of one export",
        )
    return Program(desc, values, str(program))


def get_input(op: Op, slot: str) -> str | None:
    """Return the only argument of an input slot; None if there is none or there are several."""
    return _get_slot(op.inputs, slot)


def get_output(op: Op, slot: str) -> str | None:
    """Return the only argument of an output slot; None if there is none or there are several."""
    return _get_slot(op.outputs, slot)


def list_inputs(op: Op, slot: str | None = None) -> list[str]:
    """Return the names that an op reads, in one slot or in all."""
    return [name for entry in op.inputs if slot in (None, entry.parameter) for name in entry.arguments]


def list_outputs(op: Op) -> list[str]:
    """Return the names that an op writes."""
    return [name for entry in op.outputs for name in entry.arguments]


def get_attr(op: Op, name: str, default: Any = None) -> Any:
    """Return an attribute as bool, int, float, str or a list of them; `default` if the op has none.

    Raises ModelError if the attribute's type differs from the default's, as in a damaged file.
    """
    for attr in op.attrs:
        if attr.name == name:
            field = _ATTR_FIELDS.get(attr.type)
            if field is None:
                return default
            found = getattr(attr, field)
            value = found if isinstance(found, (bool, int, float, str, bytes)) else list(found)
            if default is not None and not _is_of_kind(value, default):
                raise ModelError(
                    f"{op.type}: its attribute {name} is {str(value)[:80]!r}, expected a value like {default!r}", _HINT
                )
            return value
    return default


def _is_of_kind(value: Any, default: Any) -> bool:
    if isinstance(default, list):
        # NumPy does not accept bools as sizes.
        return isinstance(value, list) and all(type(item) is int for item in value)
    if isinstance(default, str):
        return isinstance(value, str)
    return isinstance(value, int if isinstance(default, int) and not isinstance(default, bool) else (int, float))


def set_attr(op: Op, name: str, value: bool | int | float | str | list[int] | list[float]) -> None:
    """Set an attribute, keeping its type; a new one gets the type of `value`, an empty list is one of integers."""
    attr = next((attr for attr in op.attrs if attr.name == name), None)
    if attr is None:
        attr = op.attrs.add(name=name)
        floats = isinstance(value, list) and any(isinstance(item, float) for item in value)
        types = ((bool, _BOOLEAN), (int, _INT), (float, _FLOAT), (str, _STRING), (list, _FLOATS if floats else _INTS))
        attr.type = next(number for kind, number in types if isinstance(value, kind))
    try:
        _assign(attr, value)
    except (AttributeError, TypeError):  # another type, as in a damaged file
        op.attrs.remove(attr)
        set_attr(op, name, value)


def _assign(attr: Any, value: Any) -> None:
    field = _ATTR_FIELDS[attr.type]
    if isinstance(value, list):
        getattr(attr, field)[:] = value
    else:
        setattr(attr, field, value)


def _get_slot(slots: Any, slot: str) -> str | None:
    names = [name for entry in slots if entry.parameter == slot for name in entry.arguments]
    return names[0] if len(names) == 1 else None


def _rename(slots: Any, old: str, new: str) -> None:
    for slot in slots:
        slot.arguments[:] = [new if name == old else name for name in slot.arguments]


def _read_desc(program: Path) -> Any:
    desc = load_framework_pb2().ProgramDesc()
    try:
        desc.ParseFromString(program.read_bytes())
    except OSError as error:
        raise ModelError(f"{program}: cannot be read: {error.strerror}", _HINT) from None
    except Exception as error:  # google.protobuf.message.DecodeError; the package comes with paddle
        raise ModelError(f"{program}: not a Paddle program: {error}", _HINT) from None
    if not desc.blocks:
        raise ModelError(f"{program}: not a Paddle program: it has no block", _HINT)
    # The parser accepts missing fields and wrong UTF-8, but reading or writing them later fails.
    if not desc.IsInitialized():
        missing = desc.FindInitializationErrors()[0]
        raise ModelError(f"{program}: not a Paddle program: {missing} is missing", _HINT)
    damaged = next((name for name in _list_names(desc) if not isinstance(name, str)), None)
    if damaged is not None:
        raise ModelError(f"{program}: not a Paddle program: the name {damaged!r} is not UTF-8", _HINT)
    return desc


def _list_names(desc: Any) -> Iterator[str | bytes]:
    """Return all names in a program; protobuf returns names that are not UTF-8 as bytes."""
    for block in desc.blocks:
        yield from (var.name for var in block.vars)
        for op in block.ops:
            yield op.type
            yield from (attr.name for attr in op.attrs)
            for slot in (*op.inputs, *op.outputs):
                yield slot.parameter
                yield from slot.arguments


def _read_param(data: bytes, position: int, var: Any, where: str) -> tuple[Array, int]:
    """Return one record's tensor as a view of `data`, and the position of the next record."""

    def refuse(what: str) -> ModelError:
        return ModelError(f"{where}: {what}, at byte {position}", "pass the .pdmodel and .pdiparams of one export")

    start = position + _RECORD_HEAD.size
    if start > len(data):
        raise refuse(f"the file ends after {len(data)} bytes")
    version, lod_level, tensor_version, desc_size = _RECORD_HEAD.unpack_from(data, position)
    if (version, lod_level, tensor_version) != (0, 0, 0) or not 0 < desc_size <= len(data) - start:
        raise refuse("no parameter starts here")
    tensor = load_framework_pb2().VarType.TensorDesc()
    try:
        tensor.ParseFromString(data[start : start + desc_size])
    except Exception:  # google.protobuf.message.DecodeError
        raise refuse("no parameter starts here") from None
    start += desc_size
    dims = tuple(tensor.dims)
    dtype = _DTYPES.get(tensor.data_type)
    declared = var.type.dense_tensor.tensor
    if var.type.type != _DENSE_TENSOR or dtype is None:
        raise refuse(f"a parameter of an unsupported type (variable {var.type.type}, data {tensor.data_type})")
    if tensor.data_type != declared.data_type or dims != tuple(declared.dims):
        expected = _DTYPES.get(declared.data_type, declared.data_type)
        raise refuse(f"{dtype} {list(dims)}, expected {expected} {list(declared.dims)}")
    # Python's integers do not overflow.
    size = prod(dims) * dtype.itemsize
    if min(dims, default=0) < 0 or size > len(data) - start:
        raise refuse(f"{dtype} {list(dims)} needs {size} bytes, {len(data) - start} are left")
    try:
        return np.frombuffer(data, dtype, prod(dims), start).reshape(dims), start + size
    except ValueError:  # more dimensions than NumPy supports, or huge ones next to a 0
        raise refuse(f"{len(dims)} dimensions, {str(list(dims))[:80]}, are not a shape") from None


def _pack_params(params: Mapping[str, Array]) -> Iterator[bytes]:
    numbers = {dtype: number for number, dtype in _DTYPES.items()}
    for name in sorted(params):
        value = params[name]
        tensor = load_framework_pb2().VarType.TensorDesc(data_type=numbers[value.dtype], dims=value.shape)
        desc = tensor.SerializeToString()
        yield _RECORD_HEAD.pack(0, 0, 0, len(desc))
        yield desc
        yield value.tobytes()
