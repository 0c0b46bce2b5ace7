"""Builds the ONNX graph of a `.nb` op by op."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NoReturn

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from converters.lite.nb.read import MAX_RANK, NbModel, NbOp
from converters.lite.nb.schema import shorten
from edge_ocr.errors import ModelError

Shape = tuple[int, ...]

MAX_INT = 2**31 - 1
_MAX_FLOAT = float(np.finfo(np.float32).max)

# The methods that the runtime dequantises; "" is an op without a method, judged by its bits.
_METHODS = ("", "post_weight_abs_max", "post_weight_channel_wise_abs_max")

INTEGERS = ("int32", "int64")


@dataclass(frozen=True)
class GraphTensor:
    """The output of one op of the `.nb`."""

    index: int
    """The op's index in the program."""
    op_type: str
    variable: str
    """Its name in the file, which other tensors may share."""
    name: str
    """Its unique name in the ONNX graph."""
    scale: float | None = None
    """Of a tensor of 8-bit integers: its numbers in the graph times this are the values."""


@dataclass(frozen=True)
class GraphOp:
    """The tensors and nodes of one op of the `.nb` in the ONNX graph."""

    inputs: Mapping[str, str]
    """By name in the file: the name in the graph. Without parameters."""
    outputs: tuple[str, ...]
    """The names in the graph."""
    nodes: tuple[str, ...]

    @property
    def output(self) -> str | None:
        """Return the first output's name in the graph; None if the op has no output."""
        return self.outputs[0] if self.outputs else None

    def is_named_in(self, message: str) -> bool:
        """Return whether an ONNX message is about one of its nodes."""
        return any(f"node name: {name})" in message for name in self.nodes)


@dataclass(frozen=True)
class Value:
    """One tensor of the ONNX graph."""

    name: str
    rank: int
    is_int: bool = False
    shape: tuple[int, ...] | None = None
    """Set if it is known for any input, as for constants."""
    is_int8: bool = False
    """Whether the runtime holds 8-bit integers; the graph holds them as floats, or with `use_integers` as uint8."""


@dataclass
class GraphBuilder:
    """The ONNX graph under construction."""

    source: NbModel
    where: str
    use_integers: bool = False
    """Whether rounded weights stay integers, and ops that compute in 8-bit integers become ONNX's integer ops, which
    only some engines have."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[tuple[int, onnx.ValueInfoProto]] = field(default_factory=list)
    """With their columns, which set the order."""
    outputs: list[tuple[int, onnx.ValueInfoProto]] = field(default_factory=list)
    tensors: list[GraphTensor] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    """By name in the file: the variable's current value."""
    scales: dict[str, Step] = field(default_factory=dict)
    """By parameter name: the step of the op that has its scales."""
    filled: int = 0
    """The count of numbers that fill_constant has made."""
    names: dict[str, int] = field(default_factory=dict)
    """The names in use, each with the last number appended to it."""
    shared: dict[str, str] = field(default_factory=dict)
    """Shared constants that the builder added, by content."""

    def claim(self, wanted: str) -> str:
        """Return `wanted`, with a number appended if it is in use."""
        # In ONNX an empty name means no output.
        wanted = wanted or "unnamed"
        # Continue from the last number: programs may write to one variable many times.
        name, number = wanted, self.names.get(wanted, 1)
        while name in self.names:
            number += 1
            name = f"{wanted}__{number}"
        self.names[wanted] = number
        self.names.setdefault(name, 1)
        return name

    def add_node(self, op_type: str, inputs: Sequence[str], wanted: str, **attrs: Any) -> str:
        """Add one node with one output; return the output's name."""
        out = self.claim(wanted)
        self.nodes.append(helper.make_node(op_type, list(inputs), [out], name=out, **attrs))
        return out

    def add_constant(self, array: NDArray[Any], wanted: str) -> str:
        """Add a constant; return its name."""
        name = self.claim(wanted)
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def add_ints(self, values: Sequence[int]) -> str:
        """Return the name of an int64 vector, shared between equal values."""
        return self.share("ints_" + "_".join(map(str, values)), np.array(values, dtype=np.int64))

    def add_float(self, value: float) -> str:
        """Return the name of a 0-D float32 constant, shared between equal values."""
        return self.share(f"float_{value!r}", np.array(value, dtype=np.float32))

    def share(self, wanted: str, array: NDArray[Any]) -> str:
        """Return the name of a constant that equal `wanted` share."""
        # The file may use the same name for another tensor.
        if wanted not in self.shared:
            self.shared[wanted] = self.add_constant(array, wanted)
        return self.shared[wanted]


class Traffic(Enum):
    """Which activations an op reads and writes, apart from its weights."""

    ALL = "all inputs, and the output"
    VIEW = "X and the output; nothing if the op works in place"
    PART = "as much as it writes"
    OUTPUT = "only the output"
    NONE = "nothing"


@dataclass(frozen=True)
class OpShapes:
    """The shapes at one op."""

    where: str
    """Names the model and the op in errors."""
    op: NbOp
    inputs: Mapping[str, tuple[Shape, ...]]
    """By slot, parameters included."""
    output: Shape

    def fail(self, message: str) -> NoReturn:
        raise ModelError(f"{self.where}: {message}")


@dataclass(frozen=True)
class OpRule:
    """What an op of a `.nb` means: its form in ONNX, and what it costs."""

    build: Callable[[Step], None]
    """Adds its nodes to the graph."""
    count_madds: Callable[[OpShapes], int] = lambda shapes: 0
    """Returns its multiply-adds. Raises ModelError for a mismatch of shapes that ONNX's inference ignores."""
    traffic: Traffic = Traffic.ALL
    list_statistics: Callable[[OpShapes], Mapping[str, Shape]] = lambda shapes: {}
    """Returns the shapes, by slot, of further outputs."""
    activations: tuple[str, ...] = ()
    """The activations that opt fuses into it for ARM."""
    scaled_axis: tuple[int, int] = (0, 0)
    """The axis of the scales of a quantised parameter, and the parameter's highest rank; 0 if it is not dequantised."""
    has_int8: bool = False
    """Whether `build` knows the op's 8-bit kernels, too."""


@dataclass
class Step:
    """One op while it is added to the graph."""

    graph: GraphBuilder
    index: int
    op: NbOp
    rule: OpRule
    outputs: list[str] = field(default_factory=list)
    """The names of its outputs in the graph, once they are written."""

    def check(self) -> None:
        """Fail if the runtime computes the op with integers in a way that the rule does not know."""
        for name, is_known in (("enable_int8", self.rule.has_int8), ("enable_int16", False)):
            if self.op.attrs.get(name) is True and not is_known:
                self.fail(f"{name} is set: the runtime computes it in integers, expected floats")

    def note_scales(self) -> None:
        """Record the parameters that the op has scales for; the runtime dequantises them for all readers."""
        quantisation = self.op.quantisation
        if quantisation is None or quantisation.method not in _METHODS:
            return
        read = {name for names in self.op.inputs.values() for name in names}
        for name in quantisation.scales:
            if name not in read or name not in self.graph.source.params:
                continue
            first = self.graph.scales.setdefault(name, self)
            if first is not self:
                self.fail(f"scales for {name!r}, which op {first.index} also has: the runtime would apply both")

    def run(self) -> GraphOp:
        """Add the op to the graph."""
        read = {name for names in self.op.inputs.values() for name in names} - self.graph.source.params.keys()
        inputs = {name: self.graph.values[name].name for name in read if name in self.graph.values}
        start = len(self.graph.nodes)
        self.rule.build(self)
        return GraphOp(inputs, tuple(self.outputs), tuple(node.name for node in self.graph.nodes[start:]))

    def fail(self, message: str) -> NoReturn:
        raise ModelError(f"{self.graph.where}: op {self.index} ({self.op.type}): {shorten(message)}")

    # --- inputs and attributes

    def list_names(self, slot: str) -> tuple[str, ...]:
        return self.op.inputs.get(slot, ())

    def has(self, slot: str) -> bool:
        return bool(self.list_names(slot))

    def refuse(self, *slots: str) -> None:
        """Fail if one of `slots`, a tensor in place of an attribute, is in use."""
        for slot in slots:
            if self.has(slot):
                self.fail(f"{slot} is computed at run time, expected an attribute")

    def read(self, slot: str, rank: int | None = None) -> Value:
        names = self.list_names(slot)
        if len(names) != 1:
            self.fail(f"{len(names)} tensors for {slot}, expected 1")
        return self.read_variable(slot, names[0], rank)

    def read_variable(self, slot: str, name: str, rank: int | None = None) -> Value:
        value = self.graph.values.get(name)
        if value is None and name in self.graph.source.params:
            value = self.load_param(name)
        if value is None:
            self.fail(f"{slot} {name!r} was not computed before")
        if rank is not None and value.rank != rank:
            self.fail(f"{slot} {name!r} is {value.rank}-D, expected {rank}-D")
        return value

    def read_floats(self, slot: str, rank: int | None = None) -> Value:
        value = self.read(slot, rank)
        if value.is_int or value.is_int8:
            self.fail(f"{slot} holds integers, expected floats")
        return value

    def read_int8(self, slot: str, rank: int | None = None) -> Value:
        value = self.read(slot, rank)
        if not value.is_int8:
            self.fail(f"{slot} does not hold 8-bit integers, which the op's kernel expects")
        return value

    def read_numbers_of(self, slot: str) -> str:
        """Return the name of an int64 vector: the first number of each tensor in `slot`, as the runtime reads them."""
        parts = []
        for name in self.list_names(slot):
            part = self.read_variable(slot, name, 1)
            if not part.is_int:
                self.fail(f"{slot} {name!r} holds floats, expected integers")
            if part.shape == (1,):
                parts.append(part.name)
            else:
                parts.append(self.add("Slice", [part.name, *(self.graph.add_ints([n]) for n in (0, 1, 0))]))
        return parts[0] if len(parts) == 1 else self.add("Concat", parts, axis=0)

    def read_param(self, slot: str) -> tuple[str, tuple[int, ...]]:
        """Return the name and shape of a float parameter."""
        names = self.list_names(slot)
        if len(names) != 1 or names[0] not in self.graph.source.params:
            self.fail(f"{slot} is {list(names)}, expected one parameter")
        value = self.read_floats(slot)
        return value.name, value.shape or ()

    def read_bias(self, count: int) -> str:
        """Return the name of `Bias` as a vector with one number per output channel."""
        name, shape = self.read_param("Bias")
        if math.prod(shape) != count:
            self.fail(f"Bias has the shape {list(shape)}, expected {count} numbers")
        return name if len(shape) == 1 else self.add("Reshape", [name, self.graph.add_ints([-1])])

    def load_param(self, name: str) -> Value:
        array = self.dequantise(name)
        holder = self.graph.scales.get(name) if self.graph.use_integers else None
        made = self.graph.add_constant(array, name) if holder is None else self._add_integers(name, holder)
        value = Value(made, array.ndim, array.dtype == np.int64, array.shape)
        self.graph.values[name] = value
        return value

    def _add_integers(self, name: str, holder: Step) -> str:
        """Add a rounded parameter and its conversion to float32; return the name of the result.

        ONNX Runtime folds Cast and Mul of constants when it loads a file, so that it runs the same graph as with
        float32 weights. It keeps DequantizeLinear, and replaces such products by ones with other results
        (MatMulNBits; 0.014 in a probability of PP-OCRv4 mobile).
        """
        array = self.graph.source.params[name].to_array()
        integers = self.graph.add_constant(array, f"{name}.integers")
        scales = self.graph.add_constant(holder.list_factors(name, array), f"{name}.scales")
        floats = self.graph.add_node("Cast", [integers], f"{name}.floats", to=onnx.TensorProto.FLOAT)
        return self.graph.add_node("Mul", [floats, scales], name)

    def dequantise(self, name: str) -> NDArray[Any]:
        """Return a parameter as the runtime loads it: float32, or int64 for shapes.

        Follows LightPredictor::DequantizeWeight: each number times the scale of its output channel, the first axis of a
        convolution's filter and the last axis of fc's weights.
        """
        param = self.graph.source.params[name]
        if not param.count:
            self.fail(f"the parameter {name!r} of shape {list(param.shape)} is empty")
        array = param.to_array()
        holder = self.graph.scales.get(name)
        if holder is None:
            if param.dtype in INTEGERS:
                return array.astype(np.int64)
            if param.dtype != "float32":
                self.fail(f"the parameter {name!r} holds {param.dtype}, but no op has scales for it")
            return array
        return holder.multiply(name, array)

    def multiply(self, name: str, array: NDArray[Any]) -> NDArray[np.float32]:
        """Return `array`, the values of the parameter `name`, times this op's scales for it."""
        factors = self.list_factors(name, array)
        # A scale near the largest float gives infinities, as on a device.
        with np.errstate(over="ignore"):
            product: NDArray[np.float32] = array.astype(np.float32) * factors
        return product

    def list_factors(self, name: str, array: NDArray[Any]) -> NDArray[np.float32]:
        """Return this op's scales for the parameter `name` in a shape that multiplies `array`, its values."""
        quantisation = self.op.quantisation
        axis, most_dims = self.rule.scaled_axis
        if quantisation is None or not 0 < array.ndim <= most_dims:
            self.fail(f"the parameter {name!r} is quantised, but the runtime dequantises it for conv2d and fc only")
        if quantisation.bits not in (8, 16) or array.dtype.name != f"int{quantisation.bits}":
            self.fail(f"the parameter {name!r} holds {array.dtype.name}, expected {quantisation.bits}-bit integers")
        axis = min(axis, array.ndim - 1)
        scales = quantisation.scales[name]
        if len(scales) != array.shape[axis]:
            self.fail(f"{len(scales)} scales for {name!r} of shape {list(array.shape)}, expected {array.shape[axis]}")
        if not all(isinstance(scale, float) and abs(scale) <= _MAX_FLOAT for scale in scales):
            self.fail(f"the scales for {name!r} are not all finite numbers")
        return np.array(scales, dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(array.ndim)])

    def read_int(self, name: str, default: int) -> int:
        value = self.op.attrs.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not -MAX_INT <= value <= MAX_INT:
            self.fail(f"{name} is {value!r}, expected an integer")
        return value

    def read_number(self, name: str, default: float) -> float:
        value = self.op.attrs.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MAX_FLOAT:
            self.fail(f"{name} is {value!r}, expected a number")
        return float(value)

    def read_ints(self, name: str, count: int | None = None, default: tuple[int, ...] = ()) -> list[int]:
        value = self.op.attrs.get(name, default)
        numbers = value if isinstance(value, tuple) else (value,)
        expected = f"at most {MAX_RANK}" if count is None else str(count)
        if len(numbers) > MAX_RANK or count not in (None, len(numbers)):
            self.fail(f"{name} has {len(numbers)} numbers, expected {expected}")
        # A bool is an int, but NumPy does not accept it in a shape.
        if any(type(number) is not int or not -(2**63) <= number < 2**63 for number in numbers):
            self.fail(f"{name} is {value!r}, expected integers")
        return list(numbers)

    def read_axis(self, name: str, rank: int, default: int) -> int:
        return self.check_axis(name, self.read_int(name, default), rank)

    def check_axis(self, name: str, axis: int, rank: int) -> int:
        if not -rank <= axis < rank:
            self.fail(f"{name} is {axis}, expected {-rank} to {rank - 1}")
        return axis % rank

    # --- outputs

    def name_output(self, slot: str) -> str:
        names = self.name_outputs(slot)
        if len(names) != 1:
            self.fail(f"{len(names)} tensors for {slot}, expected 1")
        return names[0]

    def name_outputs(self, slot: str) -> tuple[str, ...]:
        names = self.op.outputs.get(slot, ())
        for name in names:
            if name in self.graph.source.params:
                self.fail(f"{slot} {name!r} is a parameter, which must not change between runs")
        return names

    def write(
        self, slot: str, name: str, rank: int, *, is_int: bool = False, shape: tuple[int, ...] | None = None
    ) -> None:
        if rank > MAX_RANK:
            self.fail(f"{slot} would have {rank} dimensions, expected at most {MAX_RANK}")
        self._note(self.name_output(slot), Value(name, rank, is_int, shape))

    def write_int8(self, slot: str, name: str, rank: int, scale: float) -> None:
        """Write 8-bit integers, which times `scale` are the values that they stand for."""
        variable = self.name_output(slot)
        self.graph.values[variable] = Value(name, rank, is_int8=True)
        self.outputs.append(name)
        self.graph.tensors.append(GraphTensor(self.index, self.op.type, variable, name, scale))

    def _note(self, variable: str, value: Value) -> None:
        self.graph.values[variable] = value
        self.outputs.append(value.name)
        if not value.is_int:
            self.graph.tensors.append(GraphTensor(self.index, self.op.type, variable, value.name))

    def add(self, op_type: str, inputs: Sequence[str], **attrs: Any) -> str:
        """Add a node for a part of the op; return its output's name."""
        return self.graph.add_node(op_type, inputs, f"{self.op.type}_{self.index}", **attrs)

    def give(
        self,
        op_type: str,
        inputs: Sequence[str],
        rank: int,
        slot: str = "Out",
        *,
        is_int: bool = False,
        shape: tuple[int, ...] | None = None,
        **attrs: Any,
    ) -> None:
        """Add the node that computes the op's output."""
        name = self.graph.add_node(op_type, inputs, self.name_output(slot), **attrs)
        self.write(slot, name, rank, is_int=is_int, shape=shape)

    def give_parts(self, op_type: str, inputs: Sequence[str], rank: int, *, is_int: bool, **attrs: Any) -> None:
        """Add the node that computes all tensors of the op's output."""
        variables = self.name_outputs("Out")
        names = [self.graph.claim(variable) for variable in variables]
        self.graph.nodes.append(helper.make_node(op_type, list(inputs), names, name=names[0], **attrs))
        for variable, name in zip(variables, names, strict=True):
            self._note(variable, Value(name, rank, is_int))
