"""`.nb` to ONNX: the graph that a device runs, in a form that any host engine runs, too.

Each op becomes what Paddle-Lite's ARM kernels compute for it (`lite/operators` of Paddle-Lite 2.13), the fused
activation included. Weights are dequantised as the runtime does when it loads a model. opt lets several tensors share
one variable; here each gets a name of its own. Height, width and batch stay as free as they are in the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from converters.lite.nb.read import MAX_RANK, NbModel, NbOp, NbVar
from converters.lite.nb.schema import shorten
from edge_ocr.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The first with LayerNormalization; what needs a newer one is not used.
OPSET = 17
_IR_VERSION = 8

# Half of what protobuf holds in one message; PP-OCR's server models have a tenth of it.
_MAX_PARAM_BYTES = 2**30

# PP-OCR's programs have a few hundred. Each takes some kilobytes on its way through the checker.
_MAX_OPS = 20_000

# What is filled are shapes and factors; a file must not ask for gigabytes by a few numbers.
_MAX_FILLED = 65536

_MAX_INT = 2**31 - 1
_MAX_FLOAT = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class GraphTensor:
    """What one op of the `.nb` gives."""

    index: int
    """Of the op in the program."""
    op_type: str
    variable: str
    """Its name in the file, which other tensors may have, too."""
    name: str
    """Its name in the ONNX graph, which no other has."""


@dataclass(frozen=True)
class NbGraph:
    """A `.nb` as ONNX."""

    model: onnx.ModelProto
    tensors: tuple[GraphTensor, ...]
    """Of floats, in the order of the program."""


def build_graph(model: NbModel, name: str = "nb") -> NbGraph:
    """Return `model` as ONNX, opset 17; `name` names the graph, and the model in errors.

    Raises ModelError, naming the op, for one that is not known here, or that its own inputs do not fit.
    """
    if len(model.blocks) != 1:
        raise ModelError(f"{name}: {len(model.blocks)} blocks, expected 1: branches and loops are not converted")
    if len(model.blocks[0].ops) > _MAX_OPS:
        raise ModelError(f"{name}: {len(model.blocks[0].ops)} ops, expected at most {_MAX_OPS}")
    size_bytes = sum(param.count * (8 if param.dtype in _INTEGERS else 4) for param in model.params.values())
    if size_bytes > _MAX_PARAM_BYTES:
        raise ModelError(f"{name}: {size_bytes} bytes of parameters in ONNX, expected at most {_MAX_PARAM_BYTES}")
    builder = _Builder(model, name)
    steps = [_Step(builder, index, op) for index, op in enumerate(model.blocks[0].ops)]
    for step in steps:
        step.check()
    for step in steps:
        step.note_scales()
    for step in steps:
        step.run()
    # The columns of feed and fetch are the order that a runtime's user knows.
    inputs = [port for _, port in sorted(builder.inputs, key=lambda item: item[0])]
    outputs = [port for _, port in sorted(builder.outputs, key=lambda item: item[0])]
    if not inputs or not outputs:
        raise ModelError(f"{name}: {len(inputs)} inputs and {len(outputs)} outputs, expected at least 1 of each")
    graph = helper.make_graph(builder.nodes, name, inputs, outputs, builder.initializers)
    opsets = [helper.make_opsetid("", OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="edge-ocr")
    try:
        onnx.checker.check_model(made, full_check=True)
    # The inference of shapes has an error of its own that is no ValidationError.
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{name}: the graph does not hold together: {reason}") from None
    return NbGraph(made, tuple(builder.tensors))


def serialise_graph(model: NbModel, name: str) -> bytes:
    """Return `build_graph` as the bytes of an ONNX file, the same each time.

    Raises as `build_graph`.
    """
    data: bytes = build_graph(model, name).model.SerializeToString(deterministic=True)
    return data


@dataclass(frozen=True)
class _Value:
    """One tensor of the ONNX graph."""

    name: str
    rank: int
    is_int: bool = False
    shape: tuple[int, ...] | None = None
    """Where it is known whatever the input: that of constants, foremost."""


@dataclass
class _Builder:
    """The ONNX graph so far."""

    source: NbModel
    where: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[tuple[int, onnx.ValueInfoProto]] = field(default_factory=list)
    """With their columns."""
    outputs: list[tuple[int, onnx.ValueInfoProto]] = field(default_factory=list)
    tensors: list[GraphTensor] = field(default_factory=list)
    values: dict[str, _Value] = field(default_factory=dict)
    """By name of the file: what the variable holds now."""
    scales: dict[str, _Step] = field(default_factory=dict)
    """By name of the parameter: the step of the op that has its scales."""
    filled: int = 0
    """How many numbers the file asked for without holding them."""
    names: dict[str, int] = field(default_factory=dict)
    """All that are taken, with the last number that was put behind each."""
    shared: dict[str, str] = field(default_factory=dict)
    """Constants of ours that several nodes use, by what they hold."""

    def claim(self, wanted: str) -> str:
        """Return `wanted`, or where that is taken, `wanted` with a number."""
        # Without a name an output counts as left out.
        wanted = wanted or "unnamed"
        # Counted on from the last time: programs may write to one variable all the time.
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
        """Return the name of a constant of int64, the same one for the same values."""
        return self._share("ints_" + "_".join(map(str, values)), np.array(values, dtype=np.int64))

    def add_float(self, value: float) -> str:
        """Return the name of a constant of float32 without sides, the same one for the same value."""
        return self._share(f"float_{value!r}", np.array(value, dtype=np.float32))

    def _share(self, wanted: str, array: NDArray[Any]) -> str:
        # The file may have used the name, so the name alone does not tell that the constant is there.
        if wanted not in self.shared:
            self.shared[wanted] = self.add_constant(array, wanted)
        return self.shared[wanted]


@dataclass
class _Step:
    """One op on its way into the graph."""

    graph: _Builder
    index: int
    op: NbOp

    def check(self) -> None:
        """Fail where the op is not known, or computes with other numbers than floats."""
        if self.op.type not in _RULES:
            raise ModelError(
                f"{self.graph.where}: op {self.index}: {shorten(repr(self.op.type))} is not known, so the graph "
                "cannot be built",
                "report it with the model's name; the ops that are known stand in converters/lite/nb/to_onnx.py",
            )
        for name in ("enable_int8", "enable_int16"):
            if self.op.attrs.get(name) is True:
                self.fail(f"{name} is set: the runtime computes it with integers, expected floats")

    def note_scales(self) -> None:
        """Note which parameters the op has scales for: whatever op reads them, the runtime dequantises them first."""
        quantisation = self.op.quantisation
        if quantisation is None or quantisation.method not in _METHODS:
            return
        read = {name for names in self.op.inputs.values() for name in names}
        for name in quantisation.scales:
            if name not in read or name not in self.graph.source.params:
                continue
            first = self.graph.scales.setdefault(name, self)
            if first is not self:
                self.fail(f"scales for {name!r}, which op {first.index} has, too: the runtime would apply both")

    def run(self) -> None:
        """Add the op to the graph."""
        _RULES[self.op.type](self)

    def fail(self, message: str) -> NoReturn:
        raise ModelError(f"{self.graph.where}: op {self.index} ({self.op.type}): {shorten(message)}")

    # --- what the op reads

    def list_names(self, slot: str) -> tuple[str, ...]:
        return self.op.inputs.get(slot, ())

    def has(self, slot: str) -> bool:
        return bool(self.list_names(slot))

    def refuse(self, *slots: str) -> None:
        """Fail where one of `slots` is in use: the value of an attribute that is computed at run time."""
        for slot in slots:
            if self.has(slot):
                self.fail(f"{slot} is computed at run time, expected an attribute")

    def read(self, slot: str, rank: int | None = None) -> _Value:
        names = self.list_names(slot)
        if len(names) != 1:
            self.fail(f"{len(names)} tensors for {slot}, expected 1")
        return self.read_variable(slot, names[0], rank)

    def read_variable(self, slot: str, name: str, rank: int | None = None) -> _Value:
        value = self.graph.values.get(name)
        if value is None and name in self.graph.source.params:
            value = self.load_param(name)
        if value is None:
            self.fail(f"{slot} {name!r} was not computed before")
        if rank is not None and value.rank != rank:
            self.fail(f"{slot} {name!r} has {value.rank} sides, expected {rank}")
        return value

    def read_floats(self, slot: str, rank: int | None = None) -> _Value:
        value = self.read(slot, rank)
        if value.is_int:
            self.fail(f"{slot} holds integers, expected floats")
        return value

    def read_numbers_of(self, slot: str) -> str:
        """Return the name of a vector of int64: the first number of each tensor in `slot`, as the runtime takes it."""
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
        """Return the name and shape of a parameter of floats."""
        names = self.list_names(slot)
        if len(names) != 1 or names[0] not in self.graph.source.params:
            self.fail(f"{slot} is {list(names)}, expected one parameter")
        value = self.read_floats(slot)
        return value.name, value.shape or ()

    def read_bias(self, count: int) -> str:
        """Return the name of the vector in `Bias`, one number an output channel."""
        name, shape = self.read_param("Bias")
        if math.prod(shape) != count:
            self.fail(f"Bias has the shape {list(shape)}, expected {count} numbers")
        return name if len(shape) == 1 else self.add("Reshape", [name, self.graph.add_ints([-1])])

    def load_param(self, name: str) -> _Value:
        array = self.dequantise(name)
        value = _Value(self.graph.add_constant(array, name), array.ndim, array.dtype == np.int64, array.shape)
        self.graph.values[name] = value
        return value

    def dequantise(self, name: str) -> NDArray[Any]:
        """Return a parameter as the runtime holds it after loading: floats of 32 bits, or int64 for shapes.

        Follows LightPredictor::DequantizeWeight: each number times the scale of its output channel, which is the first
        axis of a convolution's filter and the last of fc's weights.
        """
        param = self.graph.source.params[name]
        if not param.count:
            self.fail(f"the parameter {name!r} of shape {list(param.shape)} holds nothing")
        array = param.to_array()
        holder = self.graph.scales.get(name)
        if holder is None:
            if param.dtype in _INTEGERS:
                return array.astype(np.int64)
            if param.dtype != "float32":
                self.fail(f"the parameter {name!r} holds {param.dtype}, and no op has scales for it")
            return array
        return holder.multiply(name, array)

    def multiply(self, name: str, array: NDArray[Any]) -> NDArray[np.float32]:
        """Return the parameter `name`, which holds `array`, times the scales that this op has for it."""
        quantisation = self.op.quantisation
        axis, most_sides = _SCALED_AXES.get(self.op.type, (0, 0))
        if quantisation is None or not 0 < array.ndim <= most_sides:
            self.fail(f"the parameter {name!r} is quantised, but the runtime dequantises it for conv2d and fc only")
        if quantisation.bits not in (8, 16) or array.dtype.name != f"int{quantisation.bits}":
            self.fail(f"the parameter {name!r} holds {array.dtype.name}, expected integers of {quantisation.bits} bits")
        axis = min(axis, array.ndim - 1)
        scales = quantisation.scales[name]
        if len(scales) != array.shape[axis]:
            self.fail(f"{len(scales)} scales for {name!r} of shape {list(array.shape)}, expected {array.shape[axis]}")
        if not all(isinstance(scale, float) and abs(scale) <= _MAX_FLOAT for scale in scales):
            self.fail(f"the scales for {name!r} are not all numbers")
        factors = np.array(scales, dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(array.ndim)])
        # A scale near the largest float gives infinities, on a device as here.
        with np.errstate(over="ignore"):
            product: NDArray[np.float32] = array.astype(np.float32) * factors
        return product

    def read_int(self, name: str, default: int) -> int:
        value = self.op.attrs.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not -_MAX_INT <= value <= _MAX_INT:
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
        # A bool is an int, but NumPy takes no shape of it.
        if any(type(number) is not int or not -(2**63) <= number < 2**63 for number in numbers):
            self.fail(f"{name} is {value!r}, expected integers")
        return list(numbers)

    def read_axis(self, name: str, rank: int, default: int) -> int:
        return self.check_axis(name, self.read_int(name, default), rank)

    def check_axis(self, name: str, axis: int, rank: int) -> int:
        if not -rank <= axis < rank:
            self.fail(f"{name} is {axis}, expected {-rank} to {rank - 1}")
        return axis % rank

    # --- what it gives

    def name_output(self, slot: str) -> str:
        names = self.op.outputs.get(slot, ())
        if len(names) != 1:
            self.fail(f"{len(names)} tensors for {slot}, expected 1")
        if names[0] in self.graph.source.params:
            self.fail(f"{slot} {names[0]!r} is a parameter, which the next run would need as it was")
        return names[0]

    def write(
        self, slot: str, name: str, rank: int, *, is_int: bool = False, shape: tuple[int, ...] | None = None
    ) -> None:
        if rank > MAX_RANK:
            self.fail(f"{slot} would have {rank} sides, expected at most {MAX_RANK}")
        variable = self.name_output(slot)
        self.graph.values[variable] = _Value(name, rank, is_int, shape)
        if not is_int:
            self.graph.tensors.append(GraphTensor(self.index, self.op.type, variable, name))

    def add(self, op_type: str, inputs: Sequence[str], **attrs: Any) -> str:
        """Add a node that stands for a part of the op."""
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
        """Add the node whose output is the op's own."""
        name = self.graph.add_node(op_type, inputs, self.name_output(slot), **attrs)
        self.write(slot, name, rank, is_int=is_int, shape=shape)

    def activate(self, name: str, rank: int, slot: str, kind: object, limit: str) -> None:
        """Write `name` to `slot`, behind the fused activation `kind`; empty for none.

        `limit` names the attribute that has the upper end of relu6.
        """
        if not kind:
            self.write(slot, name, rank)
        elif kind not in _ACTIVATIONS[self.op.type]:
            self.fail(f"the fused activation is {kind!r}, expected one of {list(_ACTIVATIONS[self.op.type])}")
        elif kind == "relu":
            self.give("Relu", [name], rank, slot)
        elif kind == "relu6":
            ends = [self.graph.add_float(0.0), self.graph.add_float(self.read_number(limit, 6.0))]
            self.give("Clip", [name, *ends], rank, slot)
        else:
            self.give_hard_swish(name, rank, slot, "hard_swish_")

    def give_hard_swish(self, name: str, rank: int, slot: str, prefix: str = "") -> None:
        """Write x · min(max(x + offset, 0), threshold) / scale."""
        offset = self.read_number(f"{prefix}offset", 3.0)
        threshold = self.read_number(f"{prefix}threshold", 6.0)
        scale = self.read_number(f"{prefix}scale", 6.0)
        if (offset, threshold, scale) == (3.0, 6.0, 6.0):
            self.give("HardSwish", [name], rank, slot)
            return
        if scale == 0:
            self.fail("scale is 0, expected another number")
        moved = self.add("Add", [name, self.graph.add_float(offset)])
        cut = self.add("Clip", [moved, self.graph.add_float(0.0), self.graph.add_float(threshold)])
        self.give("Div", [self.add("Mul", [name, cut]), self.graph.add_float(scale)], rank, slot)


# What the runtime dequantises; an op that does not tell its method ("") counts by its number of bits.
_METHODS = ("", "post_weight_abs_max", "post_weight_channel_wise_abs_max")

# The runtime's rule for which axis of a quantised parameter the scales belong to, and of how many sides at most.
_SCALED_AXES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"conv2d": (0, 4), "depthwise_conv2d": (0, 4), "fc": (1, 2)}
)

_INTEGERS = ("int32", "int64")

# What opt fuses for ARM and the runtime's kernels compute.
_ACTIVATIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "conv2d": ("relu", "relu6", "hard_swish"),
        "depthwise_conv2d": ("relu", "relu6", "hard_swish"),
        "conv2d_transpose": ("relu", "relu6"),
        "fc": ("relu", "relu6"),
    }
)

_DTYPES = MappingProxyType({"float32": TensorProto.FLOAT})


def _make_port(name: str, variable: NbVar, shape: Sequence[int]) -> onnx.ValueInfoProto:
    free = {0: "batch", 2: "height", 3: "width"}
    sides = [free.get(place, f"side_{place}") if side == -1 else side for place, side in enumerate(shape)]
    return helper.make_tensor_value_info(name, _DTYPES[variable.dtype or ""], sides)


def _feed(step: _Step) -> None:
    name = step.name_output("Out")
    variable = step.graph.source.blocks[0].vars.get(name)
    if variable is None or variable.shape is None or variable.dtype not in _DTYPES:
        step.fail(f"the input {name!r} is no tensor of float32")
    sides = [side for side in variable.shape if side != -1]
    if not variable.shape or not all(0 < side <= _MAX_INT for side in sides) or math.prod(sides) > _MAX_INT:
        step.fail(f"the input {name!r} has the shape {list(variable.shape)}")
    claimed = step.graph.claim(name)
    step.graph.inputs.append((step.read_int("col", 0), _make_port(claimed, variable, variable.shape)))
    step.graph.values[name] = _Value(claimed, len(variable.shape))


def _fetch(step: _Step) -> None:
    value = step.read_floats("X")
    # A name of its own: an output may be fetched twice, and may be an input.
    out = step.graph.add_node("Identity", [value.name], f"{step.list_names('X')[0]}_fetched")
    port = helper.make_tensor_value_info(out, TensorProto.FLOAT, [None] * value.rank)
    step.graph.outputs.append((step.read_int("col", 0), port))


@dataclass(frozen=True)
class _Window:
    """What slides over two sides; pairs and fours as Paddle has them."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    paddings: tuple[int, ...] | None
    """Top, bottom, left, right; None where they follow from the size of the input (SAME)."""

    def to_attrs(self) -> dict[str, Any]:
        """Return it as attributes of an ONNX node."""
        attrs: dict[str, Any] = {"kernel_shape": self.kernel, "strides": self.strides, "dilations": self.dilations}
        if self.paddings is None:
            return {**attrs, "auto_pad": "SAME_UPPER"}
        top, bottom, left, right = self.paddings
        return {**attrs, "pads": (top, left, bottom, right)}


def _read_window(step: _Step, kernel: Sequence[int]) -> _Window:
    strides = step.read_ints("strides", 2, (1, 1))
    dilations = step.read_ints("dilations", 2, (1, 1))
    paddings = step.read_ints("paddings", None, (0, 0))
    if len(paddings) == 2:
        paddings = [paddings[0], paddings[0], paddings[1], paddings[1]]
    sizes = [*kernel, *strides, *dilations]
    if (
        len(kernel) != 2
        or len(paddings) != 4
        or not all(0 < size <= _MAX_INT for size in sizes)
        or not all(0 <= padding <= _MAX_INT for padding in paddings)
    ):
        step.fail(f"kernel {list(kernel)}, strides {strides}, dilations {dilations}, paddings {paddings} do not fit")
    algorithm = step.op.attrs.get("padding_algorithm", "EXPLICIT")
    if algorithm == "SAME":
        # The runtime drops the dilation along with the paddings.
        return _Window(tuple(kernel), tuple(strides), (1, 1), None)
    if algorithm == "VALID":
        paddings = [0, 0, 0, 0]
    return _Window(tuple(kernel), tuple(strides), tuple(dilations), tuple(paddings))


def _read_activation(step: _Step) -> object:
    """Return the activation that a convolution ends with, which its other attributes about it do not tell."""
    if step.op.attrs.get("with_act") is not True:
        return ""
    return step.op.attrs.get("act_type") or step.fail("with_act is set without act_type, expected an activation")


def _read_convolution(step: _Step, *, is_transposed: bool) -> tuple[list[str], _Window, dict[str, Any]]:
    """Return the inputs of the node, the window, and the attributes."""
    step.refuse("ResidualData", "SecondInput")
    value = step.read_floats("Input", 4)
    filter_name, shape = step.read_param("Filter")
    groups = step.read_int("groups", 1)
    if len(shape) != 4 or groups < 1 or shape[0] % groups:
        step.fail(f"a filter of shape {list(shape)} in {groups} groups, expected 4 sides, the first one for all groups")
    inputs = [value.name, filter_name]
    if step.has("Bias"):
        inputs.append(step.read_bias(shape[1] * groups if is_transposed else shape[0]))
    window = _read_window(step, shape[2:])
    return inputs, window, {"group": groups, **window.to_attrs()}


def _conv2d(step: _Step) -> None:
    inputs, _, attrs = _read_convolution(step, is_transposed=False)
    out = step.add("Conv", inputs, **attrs)
    step.activate(out, 4, "Output", _read_activation(step), "fuse_brelu_threshold")


def _conv2d_transpose(step: _Step) -> None:
    inputs, window, attrs = _read_convolution(step, is_transposed=True)
    if window.paddings is None:
        step.fail("padding_algorithm is SAME, which the runtime takes for the size of the input, not the output")
    if step.read_ints("output_size"):
        step.fail("output_size is given, expected none: the output is as large as it comes out")
    if step.read_ints("output_padding"):
        extra = step.read_ints("output_padding", 2)
        if not all(0 <= more < stride for more, stride in zip(extra, window.strides, strict=True)):
            step.fail(f"output_padding is {extra}, expected less than the strides, which are {list(window.strides)}")
        attrs["output_padding"] = extra
    out = step.add("ConvTranspose", inputs, **attrs)
    step.activate(out, 4, "Output", _read_activation(step), "fuse_brelu_threshold")


def _pool2d(step: _Step) -> None:
    value = step.read_floats("X", 4)
    kind = step.op.attrs.get("pooling_type")
    if kind not in ("avg", "max"):
        step.fail(f"pooling_type is {kind!r}, expected avg or max")
    ksize = step.read_ints("ksize", 2)
    if step.op.attrs.get("global_pooling") is True or (step.op.attrs.get("adaptive") is True and ksize == [1, 1]):
        step.give("GlobalAveragePool" if kind == "avg" else "GlobalMaxPool", [value.name], 4)
        return
    if step.op.attrs.get("adaptive") is True:
        step.fail(f"adaptive pooling to {ksize}, expected 1 × 1")
    window = _read_window(step, ksize)
    # A pool has no dilation, whatever its attributes say.
    attrs = {name: value for name, value in window.to_attrs().items() if name != "dilations"}
    paddings = window.paddings
    if paddings is not None and any(padding >= ksize[place // 2] for place, padding in enumerate(paddings)):
        step.fail(f"paddings {list(paddings)} for a kernel of {ksize}, expected less than the kernel")
    if paddings is None and any(stride > size for stride, size in zip(window.strides, ksize, strict=True)):
        step.fail(f"padding_algorithm SAME with strides {list(window.strides)}, expected at most the kernel's {ksize}")
    if step.op.attrs.get("ceil_mode") is True:
        ends = None if paddings is None else paddings[1::2]
        if ends is None or any(p + s > k for p, s, k in zip(ends, window.strides, ksize, strict=True)):
            step.fail(
                "ceil_mode with windows that may lie behind the image: the runtime and ONNX count them differently"
            )
        attrs["ceil_mode"] = 1
    if kind == "avg" and step.op.attrs.get("exclusive") is False:
        if paddings is None or paddings[::2] != paddings[1::2] or "ceil_mode" in attrs:
            step.fail("exclusive is not set, and the paddings differ: the runtime and ONNX divide by different numbers")
        attrs["count_include_pad"] = 1
    step.give("AveragePool" if kind == "avg" else "MaxPool", [value.name], 4, **attrs)


def _calculate(op_type: str) -> Callable[[_Step], None]:
    """Return the rule of an elementwise op of two tensors."""

    def convert(step: _Step) -> None:
        if step.op.attrs.get("fuse_scale") is True:
            step.fail("fuse_scale is set, which is not known")
        x, y = step.read_floats("X"), step.read_floats("Y")
        big, small = (x, y) if x.rank >= y.rank else (y, x)
        axis = step.read_int("axis", -1)
        axis = big.rank - small.rank if axis == -1 else axis
        behind = big.rank - small.rank - axis
        if axis < 0 or behind < 0:
            step.fail(f"axis {axis} does not fit tensors of {x.rank} and {y.rank} sides")
        names = {value: value.name for value in (x, y)}
        if behind:
            axes = step.graph.add_ints(range(small.rank, small.rank + behind))
            names[small] = step.add("Unsqueeze", [small.name, axes])
        step.give(op_type, [names[x], names[y]], big.rank)

    return convert


def _keep(op_type: str) -> Callable[[_Step], None]:
    """Return the rule of an op of one tensor that has no attributes."""

    def convert(step: _Step) -> None:
        value = step.read_floats("X")
        step.give(op_type, [value.name], value.rank)

    return convert


def _assign(step: _Step) -> None:
    value = step.read("X")
    step.give("Identity", [value.name], value.rank, is_int=value.is_int, shape=value.shape)


def _hard_sigmoid(step: _Step) -> None:
    value = step.read_floats("X")
    alpha, beta = step.read_number("slope", 0.2), step.read_number("offset", 0.5)
    step.give("HardSigmoid", [value.name], value.rank, alpha=alpha, beta=beta)


def _hard_swish(step: _Step) -> None:
    value = step.read_floats("X")
    step.give_hard_swish(value.name, value.rank, "Out")


def _swish(step: _Step) -> None:
    value = step.read_floats("X")
    beta, inner = step.read_number("beta", 1.0), value.name
    if beta != 1:
        inner = step.add("Mul", [inner, step.graph.add_float(beta)])
    step.give("Mul", [value.name, step.add("Sigmoid", [inner])], value.rank)


def _gelu(step: _Step) -> None:
    value = step.read_floats("X")
    if step.op.attrs.get("approximate") is True:
        step.fail("approximate is set, which is not known")
    # ONNX has an op of its own from opset 20 on.
    erf = step.add("Erf", [step.add("Mul", [value.name, step.graph.add_float(math.sqrt(0.5))])])
    half = step.add("Mul", [value.name, step.graph.add_float(0.5)])
    step.give("Mul", [half, step.add("Add", [erf, step.graph.add_float(1.0)])], value.rank)


def _clip(step: _Step) -> None:
    step.refuse("Min", "Max")
    value = step.read_floats("X")
    ends = [step.graph.add_float(step.read_number(name, 0.0)) for name in ("min", "max")]
    step.give("Clip", [value.name, *ends], value.rank)


def _batch_norm(step: _Step) -> None:
    value = step.read_floats("X", 4)
    if step.op.attrs.get("is_test") not in (True, 1) or step.op.attrs.get("data_layout", "NCHW") != "NCHW":
        step.fail("expected one at inference, with the channels second")
    names = [step.read_floats(slot, 1).name for slot in ("Scale", "Bias", "Mean", "Variance")]
    epsilon = step.read_number("epsilon", 1e-5)
    step.give("BatchNormalization", [value.name, *names], value.rank, "Y", epsilon=epsilon)


def _reduce_mean(step: _Step) -> None:
    # What the runtime's kernel is written for; of fewer sides it makes up the others.
    value = step.read_floats("X", 4)
    axes = [step.check_axis("dim", axis, value.rank) for axis in step.read_ints("dim")]
    if step.op.attrs.get("reduce_all") is True or axes not in ([0], [1], [2], [3], [0, 1], [1, 2], [2, 3]):
        step.fail(f"over the axes {axes}, which the runtime does not reduce")
    is_kept = step.op.attrs.get("keep_dim") is True
    step.give("ReduceMean", [value.name], 4 if is_kept else 4 - len(axes), axes=axes, keepdims=int(is_kept))


def _softmax(step: _Step) -> None:
    value = step.read_floats("X")
    if step.op.attrs.get("eleminate_success") is True:
        step.fail("eleminate_success is set, which is not known")
    step.give("Softmax", [value.name], value.rank, axis=step.read_axis("axis", value.rank, -1))


def _interpolate_nearest(step: _Step) -> None:
    step.refuse("SizeTensor", "OutSize", "Scale")
    value = step.read_floats("X", 4)
    scales = step.op.attrs.get("scale")
    if step.op.attrs.get("align_corners") is not False:
        step.fail("align_corners is set, expected not")
    if (
        not isinstance(scales, tuple)
        or len(scales) != 2
        # Of others, ONNX and the runtime round the place that is read in ways of their own.
        or not all(isinstance(scale, float) and 0 < scale < _MAX_INT and scale.is_integer() for scale in scales)
    ):
        step.fail(f"scale is {scales!r}, expected 2 whole numbers above 0")
    factors = np.array([1, 1, *scales], dtype=np.float32)
    name = step.graph.add_constant(factors, f"scales_{step.index}")
    step.give(
        "Resize",
        [value.name, "", name],
        4,
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )


def _interpolate_linear(step: _Step) -> None:
    step.refuse("SizeTensor", "OutSize", "Scale")
    value = step.read_floats("X", 4)
    scales = step.op.attrs.get("scale")
    if not isinstance(scales, tuple) or len(scales) != 2 or not all(isinstance(scale, float) for scale in scales):
        step.fail(f"scale is {scales!r}, expected 2 numbers")
    if not all(0 < scale < _MAX_INT and scale.is_integer() for scale in scales):
        step.fail(f"scale is {scales!r}, expected 2 whole numbers above 0")
    places = "asymmetric" if step.read_int("align_mode", 1) == 1 else "half_pixel"
    if step.op.attrs.get("align_corners") is True:
        places = "align_corners"
    factors = np.array([1, 1, *scales], dtype=np.float32)
    name = step.graph.add_constant(factors, f"scales_{step.index}")
    step.give("Resize", [value.name, "", name], 4, mode="linear", coordinate_transformation_mode=places)


def _concat(step: _Step) -> None:
    step.refuse("AxisTensor")
    values = [step.read_variable("X", name) for name in step.list_names("X")]
    if not values or len({(value.rank, value.is_int) for value in values}) != 1:
        step.fail(f"tensors of {[value.rank for value in values]} sides, expected some of one kind")
    rank, is_int = values[0].rank, values[0].is_int
    names = [value.name for value in values]
    step.give("Concat", names, rank, is_int=is_int, axis=step.read_axis("axis", rank, 0))


def _layer_norm(step: _Step) -> None:
    value = step.read_floats("X")
    axis = step.read_axis("begin_norm_axis", value.rank, 1)
    if axis != value.rank - 1 or not step.has("Scale"):
        step.fail(f"over the axes from {axis} of {value.rank}, expected over the last one, with a scale")
    inputs = [value.name, step.read_floats("Scale", 1).name]
    if step.has("Bias"):
        inputs.append(step.read_floats("Bias", 1).name)
    step.give("LayerNormalization", inputs, value.rank, "Y", axis=-1, epsilon=step.read_number("epsilon", 1e-5))


def _fc(step: _Step) -> None:
    value = step.read_floats("Input")
    weights_name, shape = step.read_param("W")
    if len(shape) != 2 or step.op.attrs.get("padding_weights"):
        step.fail(f"weights of shape {list(shape)}, expected 2 sides without padding")
    # As Lite's fc does: what was a matmul keeps all sides but the last.
    split = value.rank - 1
    if step.op.attrs.get("op_type") not in ("matmul", "matmul_v2"):
        split = step.read_axis("in_num_col_dims", value.rank, 1)
    if split < 1:
        step.fail(f"an input of {value.rank} sides, {split} of them for rows, expected at least 1 for rows")
    name = value.name
    if split < value.rank - 1:
        name = step.add("Reshape", [name, step.graph.add_ints([0] * split + [-1])])
    out = step.add("MatMul", [name, weights_name])
    kind = step.op.attrs.get("activation_type", "")
    if step.has("Bias"):
        out = step.add("Add", [out, step.read_bias(shape[1])])
    elif kind:
        step.fail(f"the fused activation {kind!r} without Bias, where the runtime leaves it out for several rows")
    step.activate(out, split + 1, "Out", kind, "alpha")


def _matmul(step: _Step) -> None:
    names, ranks = [], []
    for slot, attr in (("X", "trans_x"), ("Y", "trans_y")):
        value = step.read_floats(slot)
        if value.rank < 2:
            step.fail(f"{slot} has {value.rank} sides, expected at least 2")
        name = value.name
        if step.op.attrs.get(attr) is True:
            order = [*range(value.rank - 2), value.rank - 1, value.rank - 2]
            name = step.add("Transpose", [name], perm=order)
        names.append(name)
        ranks.append(value.rank)
    alpha = step.read_number("alpha", 1.0)
    if alpha != 1:
        step.give("Mul", [step.add("MatMul", names), step.graph.add_float(alpha)], max(ranks))
    else:
        step.give("MatMul", names, max(ranks))


def _transpose(step: _Step) -> None:
    value = step.read("X")
    order = step.read_ints("axis", value.rank)
    if not order or sorted(order) != list(range(value.rank)):
        step.fail(f"axis is {order}, expected each of 0 to {value.rank - 1} once")
    step.give("Transpose", [value.name], value.rank, is_int=value.is_int, perm=order)


def _reshape(step: _Step) -> None:
    value = step.read("X")
    if step.has("ShapeTensor"):
        shape, rank = step.read_numbers_of("ShapeTensor"), len(step.list_names("ShapeTensor"))
    else:
        step.refuse("Shape")
        wanted = step.read_ints("shape")
        known = math.prod(side for side in wanted if side > 0)
        if (
            not wanted
            or known > _MAX_INT
            or wanted.count(-1) > 1
            or any(side < -1 or (side == 0 and place >= value.rank) for place, side in enumerate(wanted))
        ):
            step.fail(f"shape is {wanted}, which a tensor of {value.rank} sides cannot get")
        shape, rank = step.graph.add_ints(wanted), len(wanted)
    step.give("Reshape", [value.name, shape], rank, is_int=value.is_int)


def _flatten(step: _Step) -> None:
    value = step.read("X")
    start = step.read_axis("start_axis", value.rank, 1)
    stop = step.read_axis("stop_axis", value.rank, -1)
    if start > stop:
        step.fail(f"start_axis is {start}, expected at most stop_axis, which is {stop}")
    shape = step.graph.add_ints([0] * start + [-1])
    if stop < value.rank - 1:
        shape = step.add("Concat", [shape, step.add("Shape", [value.name], start=stop + 1)], axis=0)
    step.give("Reshape", [value.name, shape], value.rank - (stop - start), is_int=value.is_int)


def _squeeze(step: _Step) -> None:
    value = step.read("X")
    axes = sorted({step.check_axis("axes", axis, value.rank) for axis in step.read_ints("axes")})
    if not 0 < len(axes) < value.rank:
        step.fail(f"axes is {axes} for {value.rank} sides, expected one at least, and not all")
    step.give("Squeeze", [value.name, step.graph.add_ints(axes)], value.rank - len(axes), is_int=value.is_int)


def _unsqueeze(step: _Step) -> None:
    step.refuse("AxesTensor", "AxesTensorList")
    value = step.read("X")
    axes = step.read_ints("axes")
    rank = value.rank + len(axes)
    axes = [step.check_axis("axes", axis, rank) for axis in axes]
    if not axes or axes != sorted(set(axes)):
        step.fail(f"axes is {axes}, expected one at least, in order")
    step.give("Unsqueeze", [value.name, step.graph.add_ints(axes)], rank, is_int=value.is_int)


def _shape(step: _Step) -> None:
    value = step.read("Input")
    step.give("Shape", [value.name], 1, is_int=True, shape=(value.rank,))


def _slice(step: _Step) -> None:
    step.refuse("StartsTensor", "EndsTensor", "StartsTensorList", "EndsTensorList")
    value = step.read("Input")
    axes, starts, ends = (step.read_ints(name) for name in ("axes", "starts", "ends"))
    if not 0 < len(axes) == len(starts) == len(ends):
        step.fail(f"axes {axes}, starts {starts}, ends {ends}, expected as many of each")
    axes = [step.check_axis("axes", axis, value.rank) for axis in axes]
    dropped = sorted({step.check_axis("decrease_axis", axis, value.rank) for axis in step.read_ints("decrease_axis")})
    # An end of 0 stands for the last place itself where the start was not known when the model was saved.
    flags = step.read_ints("infer_flags", None, (1,) * len(axes))
    for place, (axis, flag) in enumerate(zip(axes, flags, strict=False)):
        if flag == -1 and (starts[place], ends[place]) == (-1, 0) and axis in dropped:
            ends[place] = _MAX_INT
    if len(set(axes)) < len(axes) or any(
        end <= start if (start < 0) == (end < 0) else end == 0 for start, end in zip(starts, ends, strict=True)
    ):
        step.fail(f"axes {axes}, starts {starts}, ends {ends} leave nothing, or name an axis twice")
    bounds = [step.graph.add_ints(numbers) for numbers in (starts, ends, axes)]
    # Lite has no tensor without sides: a number picked out of everything stays a vector.
    shape = (1,) if len(dropped) == value.rank else None
    dropped = dropped[: value.rank - 1]
    if not dropped:
        step.give("Slice", [value.name, *bounds], value.rank, is_int=value.is_int, shape=shape)
        return
    picked = step.add("Slice", [value.name, *bounds])
    rank = value.rank - len(dropped)
    step.give("Squeeze", [picked, step.graph.add_ints(dropped)], rank, is_int=value.is_int, shape=shape)


def _scale(step: _Step) -> None:
    step.refuse("ScaleTensor")
    value = step.read("X")
    scale, bias = step.read_number("scale", 1.0), step.read_number("bias", 0.0)
    if step.op.attrs.get("activation_type"):
        step.fail(f"the fused activation {step.op.attrs['activation_type']!r} is not known")
    # scale · x + bias, or scale · (x + bias)
    parts = [("Mul", scale, 1.0), ("Add", bias, 0.0)]
    if step.op.attrs.get("bias_after_scale", True) is False:
        parts.reverse()
    parts = [part for part in parts if part[1] != part[2]] or [("Mul", 1.0, 1.0)]
    name = value.name
    for place, (op_type, number, _) in enumerate(parts):
        if value.is_int:
            if not number.is_integer() or abs(number) > _MAX_INT:
                step.fail(f"integers with a scale of {scale} and a bias of {bias}, expected integers of 32 bits")
            constant = step.graph.add_ints([int(number)])
        else:
            constant = step.graph.add_float(number)
        if place == len(parts) - 1:
            step.give(op_type, [name, constant], value.rank, is_int=value.is_int, shape=value.shape)
        else:
            name = step.add(op_type, [name, constant])


def _fill_constant(step: _Step) -> None:
    step.refuse("ShapeTensor", "ShapeTensorList", "ValueTensor")
    shape = step.read_ints("shape", None, (1,))
    # The runtime does not look at str_value, which has the same number as text.
    value = step.read_number("value", 0.0)
    dtype = _FILL_DTYPES.get(step.read_int("dtype", 5))
    if dtype is None or not shape or any(not 0 < side <= _MAX_FILLED for side in shape):
        step.fail(f"dtype {step.op.attrs.get('dtype')!r} and shape {shape}, expected numbers, and sides above 0")
    step.graph.filled += math.prod(shape)
    if step.graph.filled > _MAX_FILLED:
        step.fail(f"shape {shape} makes {step.graph.filled} filled numbers, expected at most {_MAX_FILLED} in a model")
    if dtype is np.int64 and not (value.is_integer() and abs(value) <= _MAX_INT):
        step.fail(f"value is {value}, expected an integer of 32 bits")
    variable = step.name_output("Out")
    name = step.graph.add_constant(np.full(shape, value, dtype=dtype), variable)
    step.write("Out", name, len(shape), is_int=dtype is np.int64, shape=tuple(shape))


# VarType_.Type of INT32, INT64 and FP32. Shapes are int64 throughout the ONNX graph.
_FILL_DTYPES: Mapping[int, type[np.int64] | type[np.float32]] = MappingProxyType(
    {2: np.int64, 3: np.int64, 5: np.float32}
)

_RULES: Mapping[str, Callable[[_Step], None]] = MappingProxyType(
    {
        "assign": _assign,
        "batch_norm": _batch_norm,
        "bilinear_interp_v2": _interpolate_linear,
        "clip": _clip,
        "concat": _concat,
        "conv2d": _conv2d,
        "conv2d_transpose": _conv2d_transpose,
        "depthwise_conv2d": _conv2d,
        "elementwise_add": _calculate("Add"),
        "elementwise_div": _calculate("Div"),
        "elementwise_mul": _calculate("Mul"),
        "elementwise_sub": _calculate("Sub"),
        "erf": _keep("Erf"),
        "fc": _fc,
        "feed": _feed,
        "fetch": _fetch,
        "fill_constant": _fill_constant,
        "flatten_contiguous_range": _flatten,
        "gelu": _gelu,
        "hard_sigmoid": _hard_sigmoid,
        "hard_swish": _hard_swish,
        "layer_norm": _layer_norm,
        "matmul_v2": _matmul,
        "nearest_interp_v2": _interpolate_nearest,
        "pool2d": _pool2d,
        "reduce_mean": _reduce_mean,
        "relu": _keep("Relu"),
        "reshape2": _reshape,
        "scale": _scale,
        "shape": _shape,
        "sigmoid": _keep("Sigmoid"),
        "slice": _slice,
        "softmax": _softmax,
        "sqrt": _keep("Sqrt"),
        "squeeze2": _squeeze,
        "swish": _swish,
        "transpose2": _transpose,
        "unsqueeze2": _unsqueeze,
    }
)
