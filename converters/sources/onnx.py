"""Reads ONNX models as Paddle programs in the op set that opt 2.13 reads.

One ONNX node becomes one op wherever there is one of its meaning, with the attributes that Paddle 2.4 writes: opt
aborts where one is missing. What exporters wrote out in parts is put together again by `converters.graph.passes`. Sides
that are free (batch, height, width) stay free.

What is computed from constants alone is computed here, by ONNX's own reference. Of what is computed from the shapes
of tensors only that is read which ends in a Reshape: its shape is written out with 0 for a side that is kept and -1
for the one that follows from the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from converters.sources.onnx_files import read_onnx_model
from converters.sources.program import Array, Program, make_program
from edge_ocr.errors import ConversionError, ModelError

MIN_OPSET = 11
"""Below it, Clip, Resize and their like have other forms."""
MAX_OPSET = 22
"""The newest that the oldest onnx package we admit (1.17) knows."""

_HINT = "export the model to ONNX again"
_INPUT_HINT = "export the model again with a float32 input of the shape N, 3, H, W"
_MAX_INT = 2**31 - 1
# Constants up to this many numbers are stored once a reader, so that a pass may change each.
_MAX_COPIED = 4096
# Of a message, which may hold what a damaged model has thousands of.
_MAX_WORDS = 500
# A few bytes can ask for constants of any size: so many numbers are computed of constants, and so many times those that
# the file holds. Exporters write out positions and reorder weights.
_MAX_FOLDED = 2**22
_MAX_GROWTH = 4
# Sizes inside of these do not show in their results, and no exporter leaves one on constants.
_WINDOWED = frozenset(("AveragePool", "Conv", "ConvTranspose", "MaxPool", "Resize"))


@dataclass(frozen=True)
class _Side:
    """A side of a tensor, known when the model runs."""

    tensor: str
    axis: int


Sides = tuple["_Side | int", ...]


def import_onnx(path: Path) -> Program:
    """Return an ONNX model as a Paddle program, float32, with one input and one output.

    Raises ModelError where the file is no readable ONNX model, or what it keeps in other files is missing or not its
    own (`converters.sources.onnx_files`);
    ConversionError where its opset is not one from `MIN_OPSET` to `MAX_OPSET`, its input has no fixed rank, or it has
    an op, or a form of one, that the program's op set lacks: named by op, node and opset.
    """
    return _Import(_load(path), path).run()


def _load(path: Path) -> ModelProto:
    model = read_onnx_model(path)
    if not model.graph.node:
        raise ModelError(f"{path}: not a readable ONNX model: it has no nodes", _HINT)
    return model


class _Import:
    """One model on its way."""

    def __init__(self, model: ModelProto, path: Path) -> None:
        self.path = path
        self.model = model
        opsets = {entry.domain: entry.version for entry in model.opset_import}
        self.opset = opsets.get("", opsets.get("ai.onnx", 0))
        if not MIN_OPSET <= self.opset <= MAX_OPSET:
            raise ConversionError(
                f"{path}: opset {self.opset}, expected {MIN_OPSET} to {MAX_OPSET}",
                f"export the model again with an opset from {MIN_OPSET} to {MAX_OPSET}",
            )
        self.program = make_program(str(path))
        self.constants: dict[str, Array] = {}
        self.stored = 0
        """How many numbers the file holds as constants."""
        self.folded = 0
        """How many were computed of them."""
        self.sides: dict[str, Sides] = {}
        self.shapes: dict[str, tuple[int | str, ...]] = {}
        """Of tensors that are computed: a number, or the name of a free side, "" where it has none."""
        self.dtypes: dict[str, int] = {}
        self.names: dict[str, str] = {}
        """Of tensors and constants, what the program calls them."""

    def run(self) -> Program:
        graph = self.model.graph
        self._check()
        try:
            self.constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        # What it raises for types that NumPy lacks has no common base.
        except Exception as error:
            raise ModelError(f"{self.path}: a constant cannot be read: {_sum_up(error)}", _HINT) from None
        self.stored = sum(value.size for value in self.constants.values())
        feeds = [port for port in graph.input if port.name not in self.constants]
        if len(feeds) != 1 or len(graph.output) != 1:
            raise ConversionError(
                f"{self.path}: {len(feeds)} inputs and {len(graph.output)} outputs, expected one of each", _HINT
            )
        nodes = self._settle_shapes(self._fold_constants(graph.node))
        self._feed(feeds[0].name)
        for node in nodes:
            _RULES[node.op_type](_Step(self, node))
        self._fetch(graph.output[0].name)
        self.program.drop_unused()
        return self.program

    def _check(self) -> None:
        """Raise for what ONNX's own checker would name in its words, then for what it finds."""
        for node in self.model.graph.node:
            if node.domain not in ("", "ai.onnx") or node.op_type not in _FOLDED:
                raise ConversionError(
                    f"{self.describe(node)}: this op is not among those that are imported",
                    f"known are {', '.join(sorted(_RULES))}",
                )
        for port in self.model.graph.input:
            if not port.type.tensor_type.HasField("shape"):
                raise ConversionError(
                    f"{self.path}: the input {_show(port.name)} has no fixed number of sides, expected 4", _INPUT_HINT
                )
        try:
            onnx.checker.check_model(self.model)
        # ValidationError, and what Python raises for names that are no UTF-8, have no common base.
        except Exception as error:
            raise ModelError(f"{self.path}: not a valid ONNX model: {_sum_up(error)}", _HINT) from None

    def describe(self, node: NodeProto) -> str:
        domain = f"{node.domain}." if node.domain else ""
        name = node.name or ", ".join(name for name in node.output if name)
        return f"{self.path}: {_show(f'{domain}{node.op_type} (node {name}, opset {self.opset})')}"

    def _fold_constants(self, nodes: Iterable[NodeProto]) -> list[NodeProto]:
        """Return the nodes that depend on the input; the results of the others become constants."""
        kept = []
        for node in nodes:
            inputs = [name for name in node.input if name]
            if all(name in self.constants for name in inputs):
                self._evaluate(node, inputs)
            elif node.op_type in _RULES or node.op_type in _SIDE_OPS:
                kept.append(node)
            else:
                raise ConversionError(f"{self.describe(node)}: it computes, expected a constant", _HINT)
        return kept

    def _evaluate(self, node: NodeProto, inputs: Sequence[str]) -> None:
        # As a model of its own: the reference takes a node's opset from the model.
        ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs]
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output]
        self._check_growth(node, inputs)
        graph = helper.make_graph([node], "constants", ports, results)
        opsets = [helper.make_opsetid("", self.opset)]
        try:
            model = helper.make_model(graph, opset_imports=opsets)
            values = ReferenceEvaluator(model).run(None, {name: self.constants[name] for name in inputs})
        # What the reference raises has no common base.
        except Exception as error:
            raise ModelError(f"{self.describe(node)}: cannot be computed: {_sum_up(error)}", _HINT) from None
        self.constants |= {name: np.asarray(value) for name, value in zip(node.output, values, strict=True)}

    def _check_growth(self, node: NodeProto, inputs: Sequence[str]) -> None:
        """Raise ConversionError where the results of constants would be out of all proportion to the file."""
        if node.op_type in _WINDOWED:
            raise ConversionError(
                f"{self.describe(node)}: it reads constants alone, expected what the input becomes", _HINT
            )
        small = [name for name in inputs if self.constants[name].size <= 64]
        try:
            known = [numpy_helper.from_array(self.constants[name], name) for name in small]
            ports = [_describe(name, self.constants[name]) for name in inputs if name not in small]
            results = [helper.make_empty_tensor_value_info(name) for name in node.output]
            graph = GraphProto(name="constant", node=[node], input=ports, output=results, initializer=known)
            model = ModelProto(ir_version=8, graph=graph, opset_import=[helper.make_opsetid("", self.opset)])
            found = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
            types = [port.type.tensor_type for port in found.output]
            sizes = [math.prod(dim.dim_value for dim in kind.shape.dim) for kind in types]
            is_known = all(
                kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim) for kind in types
            )
        # What the inference raises has no common base.
        except Exception as error:
            raise ModelError(f"{self.describe(node)}: cannot be computed: {_sum_up(error)}", _HINT) from None
        self.folded += sum(sizes)
        allowed = _MAX_FOLDED + _MAX_GROWTH * self.stored
        if not is_known or self.folded > allowed:
            actual = f"{self.folded} numbers" if is_known else "numbers without end"
            what = f"of constants {actual} would be computed, expected at most {allowed}"
            raise ConversionError(f"{self.describe(node)}: {what}", _HINT)

    def _infer(self, nodes: Sequence[NodeProto]) -> None:
        """Learn the shapes of all tensors that the nodes make, by ONNX's own inference."""
        graph = self.model.graph
        # Large constants give their shapes without their values.
        known = [numpy_helper.from_array(value, name) for name, value in self.constants.items() if value.size <= 64]
        inputs = [port for port in graph.input if port.name not in self.constants] + [
            _describe(name, value) for name, value in self.constants.items() if value.size > 64
        ]
        outputs = [helper.make_empty_tensor_value_info(port.name) for port in graph.output]
        inferred = GraphProto(name="shapes", node=nodes, input=inputs, output=outputs, initializer=known)
        model = ModelProto(
            ir_version=max(self.model.ir_version, 4), graph=inferred, opset_import=self.model.opset_import
        )
        try:
            found = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        # InferenceError and what the checker raises have no common base.
        except Exception as error:
            raise ModelError(f"{self.path}: its shapes do not fit together: {_sum_up(error)}", _HINT) from None
        # Some exporters call every free side "?": a name that the input has twice tells nothing.
        free = [dim.dim_param for port in inputs for dim in port.type.tensor_type.shape.dim]
        named = {name for name in free if name != "?" and free.count(name) == 1}
        for port in (*found.input, *found.value_info, *found.output):
            tensor = port.type.tensor_type
            self.dtypes[port.name] = tensor.elem_type
            if tensor.HasField("shape"):
                self.shapes[port.name] = tuple(
                    dim.dim_value if dim.HasField("dim_value") else dim.dim_param if dim.dim_param in named else ""
                    for dim in tensor.shape.dim
                )

    # --- what is computed from shapes

    def _settle_shapes(self, nodes: Sequence[NodeProto]) -> list[NodeProto]:
        """Return the nodes without those that compute on shapes, each Reshape with a constant shape."""
        while True:
            self._infer(nodes)
            self.sides.clear()
            kept: list[NodeProto] = []
            is_settled = False
            for place, node in enumerate(nodes):
                if node.op_type == "Shape" and node.input[0] not in self.shapes:
                    # The tensor lies behind a Reshape whose shape was not known to the inference.
                    if not is_settled:
                        what = f"the number of sides of {node.input[0]} is not known"
                        raise ConversionError(f"{self.describe(node)}: {what}", _HINT)
                    nodes = [*kept, *nodes[place:]]
                    break
                if self._read_sides(node):
                    # Of use again where the shapes are read once more.
                    kept.append(node)
                    continue
                settled = self._settle_reshape(node)
                is_settled |= settled is not node
                kept.append(settled)
            else:
                nodes = [node for node in kept if not any(name in self.sides for name in node.output)]
                self._infer(nodes)
                return nodes

    def _read_sides(self, node: NodeProto) -> bool:
        """Tell whether a node computes on the shapes of tensors, and learn its result."""
        source = node.input[0] if node.input else ""
        if node.op_type == "Shape":
            shape = self.shapes[source]
            bounds = slice(_read_attr(node, "start", 0), _read_attr(node, "end", None))
            sides = tuple(side if isinstance(side, int) else _Side(source, axis) for axis, side in enumerate(shape))[
                bounds
            ]
        elif not any(name in self.sides for name in (node.input[:1] if node.op_type == "Reshape" else node.input)):
            return False
        else:
            rule = _SIDE_RULES.get(node.op_type)
            found = None if rule is None else rule(self, node)
            if found is None:
                raise ConversionError(
                    f"{self.describe(node)}: it computes on the shape of a tensor in a way that is not followed", _HINT
                )
            sides = found
        self.sides[node.output[0]] = sides
        return True

    def find_sides(self, name: str) -> Sides | None:
        """Return a vector of integers, as far as it is known."""
        if name in self.sides:
            return self.sides[name]
        value = self.constants.get(name)
        if value is None or value.dtype.kind not in "iu" or value.ndim > 1:
            return None
        return tuple(max(min(int(item), _MAX_INT), -_MAX_INT) for item in value.reshape(-1))

    def _settle_reshape(self, node: NodeProto) -> NodeProto:
        """Return a Reshape whose shape is a constant; other nodes as they are."""
        if node.op_type != "Reshape" or node.input[1] in self.constants:
            return node
        source, shape = node.input
        sides = self.sides.get(shape)
        if sides is None:
            raise ConversionError(f"{self.describe(node)}: its shape is not known before the model runs", _HINT)
        settled = [self._settle_side(source, place, side) for place, side in enumerate(sides)]
        if settled.count(-1) > 1:
            raise ConversionError(f"{self.describe(node)}: more than one side is not known before it runs", _HINT)
        name = f"{node.output[0]}.shape"
        self.constants[name] = np.array(settled, np.int64)
        changed = NodeProto()
        changed.CopyFrom(node)
        changed.input[1] = name
        return changed

    def _settle_side(self, source: str, place: int, side: _Side | int) -> int:
        if isinstance(side, int):
            return side
        if side == _Side(source, place):
            return 0
        # Free sides of one name are of one length.
        own, other = self.shapes.get(source, ()), self.shapes.get(side.tensor, ())
        if place < len(own) and own[place] != "" and other[side.axis : side.axis + 1] == (own[place],):
            return 0
        return -1

    # --- the program

    def _feed(self, name: str) -> None:
        if self.dtypes.get(name) != TensorProto.FLOAT:
            actual = _name_type(self.dtypes.get(name, 0))
            raise ConversionError(f"{self.path}: the input {_show(name)} is {actual}, expected FLOAT", _INPUT_HINT)
        self.program.declare_list("feed")
        self.program.insert_op(None, "feed", {"X": "feed"}, {"Out": self.declare(name)}, {"col": 0})

    def _fetch(self, name: str) -> None:
        if name not in self.names:
            raise ConversionError(f"{self.path}: the output {_show(name)} does not depend on the input", _HINT)
        self.program.declare_list("fetch")
        self.program.insert_op(None, "fetch", {"X": self.names[name]}, {"Out": "fetch"}, {"col": 0})

    def declare(self, name: str) -> str:
        """Return what the program calls a tensor that a node makes."""
        shape = self.shapes.get(name)
        if shape is None:
            raise ConversionError(f"{self.path}: the number of sides of {_show(name)} is not known", _HINT)
        self.names[name] = self._make_name(name)
        self.program.set_shape(self.names[name], tuple(side if isinstance(side, int) else -1 for side in shape))
        return self.names[name]

    def store(self, stem: str, value: Array) -> str:
        """Return the name of a parameter with this value."""
        name = self._make_name(stem)
        self.program.set_param(name, value)
        return name

    def _make_name(self, stem: str) -> str:
        # The ops feed and fetch have variables of these names.
        return self.program.make_name(f"{stem}_" if stem in ("feed", "fetch") else stem)


def _read_attr(node: NodeProto, name: str, default: Any) -> Any:
    attr = next((attr for attr in node.attribute if attr.name == name), None)
    if attr is None:
        return default
    value = helper.get_attribute_value(attr)
    if attr.type == AttributeProto.STRING:
        return value.decode(errors="replace")
    return list(value) if attr.type in (AttributeProto.INTS, AttributeProto.FLOATS) else value


def _name_type(number: int) -> str:
    try:
        return str(TensorProto.DataType.Name(number))
    except ValueError:  # of no known type
        return f"the type {number}"


def _sum_up(said: object) -> str:
    """Return what an error says in one line that has an end."""
    text = " ".join(str(said).split())
    return _show(text if len(text) <= _MAX_WORDS else f"{text[:_MAX_WORDS]}…")


def _show(text: str) -> str:
    """Return names of a model as they may stand in a message: in one line, without what moves a terminal's cursor."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _describe(name: str, value: Array) -> Any:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


class _Step:
    """One node on its way into the program."""

    def __init__(self, model: _Import, node: NodeProto) -> None:
        self.model = model
        self.node = node

    def fail(self, what: str) -> ConversionError:
        return ConversionError(f"{self.model.describe(self.node)}: {_sum_up(what)}", _HINT)

    def attr(self, name: str, default: Any = None) -> Any:
        return _read_attr(self.node, name, default)

    def check(self, name: str, *expected: object) -> None:
        """Raise ConversionError where an attribute is there and has another value."""
        value = self.attr(name, expected[0])
        if value not in expected:
            raise self.fail(f"{name} is {value!r}, expected {' or '.join(map(repr, expected))}")

    def has(self, place: int) -> bool:
        return place < len(self.node.input) and bool(self.node.input[place])

    def is_constant(self, place: int) -> bool:
        return self.node.input[place] in self.model.constants

    def shape(self, place: int = 0) -> tuple[int | str, ...]:
        name = self.node.input[place]
        if self.is_constant(place):
            return self.model.constants[name].shape
        if name not in self.model.shapes:
            raise self.fail(f"the number of sides of {name} is not known")
        return self.model.shapes[name]

    def tensor(self, place: int = 0) -> str:
        """Return a float32 input, a parameter where it is constant."""
        name = self.node.input[place]
        if self.is_constant(place):
            return self.param(place)
        if self.model.dtypes.get(name) != TensorProto.FLOAT or name not in self.model.names:
            raise self.fail(f"{name} is no float32 tensor")
        return self.model.names[name]

    def param(self, place: int, value: Array | None = None) -> str:
        """Return a constant input as a parameter, or `value` in its place."""
        name = self.node.input[place]
        constant = self.model.constants.get(name)
        if constant is None:
            raise self.fail(f"{name} is computed, expected a constant")
        if constant.dtype != np.float32:
            raise self.fail(f"{name} is {constant.dtype}, expected float32")
        # opt changes a convolution's filter in place, whoever else reads it.
        is_filter = place == 1 and self.node.op_type in ("Conv", "ConvTranspose")
        if value is None and constant.size > _MAX_COPIED and not is_filter:
            if name not in self.model.names:
                self.model.names[name] = self.model.store(name, constant)
            return self.model.names[name]
        return self.model.store(name, constant if value is None else value)

    def ints(self, attr: str, place: int, default: list[int] | None = None) -> list[int]:
        """Return integers that are an attribute or, in newer opsets, a constant input."""
        value = self.attr(attr)
        if value is not None:
            return [int(item) for item in value]
        if self.has(place):
            constant = self.model.constants.get(self.node.input[place])
            if constant is None or constant.dtype.kind not in "iu":
                raise self.fail(f"{attr} is computed, expected a constant")
            return [max(min(int(item), _MAX_INT), -_MAX_INT) for item in constant.reshape(-1)]
        if default is None:
            raise self.fail(f"{attr} is not given")
        return default

    def number(self, place: int, default: float) -> float:
        if not self.has(place):
            return default
        constant = self.model.constants.get(self.node.input[place])
        if constant is None or constant.size != 1:
            raise self.fail(f"{self.node.input[place]} is no constant number")
        return float(constant.reshape(-1)[0])

    def axes(self, values: Iterable[int], rank: int) -> list[int]:
        axes = [value + rank if value < 0 else value for value in values]
        if not all(0 <= axis < rank for axis in axes) or len(set(axes)) < len(axes):
            raise self.fail(f"axes {axes} of a tensor with {rank} sides")
        return axes

    def give(
        self,
        op_type: str,
        inputs: Mapping[str, str | Sequence[str]],
        slot: str = "Out",
        extra: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
        **attrs: Any,
    ) -> None:
        """Put the op at the end of the program, with outputs `extra` that nobody reads, by slot with their shapes."""
        if any(self.node.output[1:]):
            raise self.fail(f"{len(self.node.output)} outputs, expected one")
        name = self.model.declare(self.node.output[0])
        self.put(op_type, inputs, name, slot, extra, **attrs)

    def put(
        self,
        op_type: str,
        inputs: Mapping[str, str | Sequence[str]],
        name: str,
        slot: str = "Out",
        extra: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
        **attrs: Any,
    ) -> None:
        outputs = {slot: name}
        for other, shape in extra.items():
            outputs[other] = self.model.program.make_name(f"{name}.{other.lower()}")
            self.model.program.set_shape(outputs[other], shape)
        try:
            self.model.program.insert_op(None, op_type, inputs, outputs, attrs)
        # Integers in Paddle's attributes have 32 bits, in ONNX's 64.
        except ValueError as error:
            raise self.fail(f"an attribute is too large: {error}") from None

    def give_with_bias(
        self, op_type: str, inputs: Mapping[str, str], bias: str | None, slot: str, **attrs: Any
    ) -> None:
        """As `give`, with one number added to each channel by an op of its own, as opt expects it."""
        if bias is None:
            self.give(op_type, inputs, slot, **attrs)
            return
        result = self.model.declare(self.node.output[0])
        raw = self.model.program.make_name(f"{result}.unbiased")
        self.model.program.set_shape(raw, self.model.program.find_shape(result) or ())
        self.put(op_type, inputs, raw, slot, **attrs)
        self.put("elementwise_add", {"X": raw, "Y": bias}, result, axis=1)


# --- sides


def _slice_sides(model: _Import, node: NodeProto) -> Sides | None:
    sides = model.find_sides(node.input[0])
    if sides is None or len(node.input) < 3:
        return None
    # The axis, by place 3, can only be the first.
    bounds: list[int | None] = []
    for place, default in ((1, None), (2, None), (4, 1)):
        value = model.constants.get(node.input[place]) if place < len(node.input) and node.input[place] else None
        if (value is None and default is None) or (value is not None and value.size != 1):
            return None
        bounds.append(default if value is None else int(value.reshape(-1)[0]))
    return sides[slice(*bounds)]


def _gather_sides(model: _Import, node: NodeProto) -> Sides | None:
    sides, indices = model.find_sides(node.input[0]), model.constants.get(node.input[1])
    if sides is None or indices is None or not all(-len(sides) <= index < len(sides) for index in indices.reshape(-1)):
        return None
    return tuple(sides[int(index)] for index in indices.reshape(-1))


def _join_sides(model: _Import, node: NodeProto) -> Sides | None:
    parts = [model.find_sides(name) for name in node.input]
    return None if None in parts else tuple(side for part in parts if part is not None for side in part)


def _keep_sides(model: _Import, node: NodeProto) -> Sides | None:
    """One number stays one number, and a vector a vector, whatever the op makes of its own shape."""
    return model.find_sides(node.input[0])


_SIDE_RULES: Mapping[str, Callable[[_Import, NodeProto], Sides | None]] = MappingProxyType(
    {
        "Cast": _keep_sides,
        "Concat": _join_sides,
        "Gather": _gather_sides,
        "Identity": _keep_sides,
        "Reshape": _keep_sides,
        "Slice": _slice_sides,
        "Squeeze": _keep_sides,
        "Unsqueeze": _keep_sides,
    }
)
_SIDE_OPS = frozenset(("Shape", *_SIDE_RULES))


# --- ops


def _keep(op_type: str, **attrs: Any) -> Callable[[_Step], None]:
    """Return the rule of an op of one tensor without attributes in ONNX."""

    def convert(step: _Step) -> None:
        step.give(op_type, {"X": step.tensor()}, **attrs)

    return convert


def _calculate(op_type: str) -> Callable[[_Step], None]:
    """Return the rule of an elementwise op of two tensors."""

    def convert(step: _Step) -> None:
        x, y = step.shape(0), step.shape(1)
        is_swapped = step.is_constant(0) or len(y) > len(x) or _is_spread(x, y)
        if is_swapped and op_type not in ("elementwise_add", "elementwise_mul"):
            raise step.fail(f"operands of the shapes {list(x)} and {list(y)}, expected the larger one first")
        big, small = (1, 0) if is_swapped else (0, 1)
        rank = len(step.shape(big))
        if len(step.shape(small)) > rank or _is_spread(step.shape(big), step.shape(small)):
            raise step.fail(f"operands of the shapes {list(x)} and {list(y)}, of which neither is the larger one")
        if not step.is_constant(small):
            step.give(op_type, {"X": step.tensor(big), "Y": step.tensor(small)}, axis=-1)
            return
        value = step.model.constants[step.node.input[small]]
        # Paddle lays the second operand on from `axis` on; in this form opt fuses it.
        axis = rank - value.ndim
        sides = list(value.shape)
        while sides and sides[0] == 1:
            sides, axis = sides[1:], axis + 1
        while sides and sides[-1] == 1:
            sides = sides[:-1]
        name = step.param(small, value.reshape(sides or [1]))
        step.give(op_type, {"X": step.tensor(big), "Y": name}, axis=axis if sides else -1)

    return convert


def _is_spread(x: Sequence[int | str], y: Sequence[int | str]) -> bool:
    """Tell whether a side of 1 in x meets a larger one, or one that is not known, in y."""
    return any(mine == 1 and other != 1 for mine, other in zip(reversed(x), reversed(y), strict=False))


def _window(step: _Step, size: Sequence[int]) -> dict[str, Any]:
    """Return strides and paddings of a window of `size` in Paddle's form."""
    strides = step.attr("strides", [1] * len(size))
    dilations = step.attr("dilations", [1] * len(size))
    auto_pad = step.attr("auto_pad", "NOTSET")
    top, left, bottom, right = step.attr("pads", [0] * 4)
    algorithm = "EXPLICIT"
    if auto_pad == "SAME_UPPER" and all(stride == 1 for stride in strides):
        # At a stride of 1 it does not depend on the picture's size.
        rest = [(side - 1) * dilation for side, dilation in zip(size, dilations, strict=True)]
        (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in rest)
    elif auto_pad == "SAME_UPPER" and all(dilation == 1 for dilation in dilations):
        # Paddle's SAME also puts the odd one behind, but knows no dilation.
        algorithm = "SAME"
    elif auto_pad == "VALID":
        top = left = bottom = right = 0
    elif auto_pad != "NOTSET":
        raise step.fail(f"auto_pad {auto_pad} with strides {strides} and dilations {dilations}")
    is_even = (top, left) == (bottom, right)
    paddings = [top, left] if is_even else [top, bottom, left, right]
    return {"strides": strides, "paddings": paddings, "padding_algorithm": algorithm}


def _filter(step: _Step) -> tuple[int, ...]:
    """Return the shape of a convolution's filters."""
    if not step.is_constant(1):
        raise step.fail("the filters are computed, expected a constant")
    shape = step.model.constants[step.node.input[1]].shape
    if len(shape) != 4 or len(step.shape()) != 4:
        raise step.fail(f"filters of the shape {list(shape)}, expected 4 sides")
    return shape


def _conv(step: _Step) -> None:
    shape, groups = _filter(step), step.attr("group", 1)
    attrs = {
        **_window(step, shape[2:]),
        "dilations": step.attr("dilations", [1, 1]),
        "groups": groups,
        "data_format": "NCHW",
    }
    is_depthwise = groups > 1 and shape[1] == 1 and shape[0] == groups
    bias = step.param(2) if step.has(2) else None
    inputs = {"Input": step.tensor(), "Filter": step.param(1)}
    step.give_with_bias("depthwise_conv2d" if is_depthwise else "conv2d", inputs, bias, "Output", **attrs)


def _conv_transpose(step: _Step) -> None:
    shape = _filter(step)
    step.check("auto_pad", "NOTSET", "VALID")
    if step.attr("output_shape"):
        raise step.fail(f"output_shape {step.attr('output_shape')}, expected none")
    added = step.attr("output_padding", [])
    attrs = {
        **_window(step, shape[2:]),
        "dilations": step.attr("dilations", [1, 1]),
        "groups": step.attr("group", 1),
        "output_padding": added if any(added) else [],
        "output_size": [],
        "data_format": "NCHW",
    }
    bias = step.param(2) if step.has(2) else None
    inputs = {"Input": step.tensor(), "Filter": step.param(1)}
    step.give_with_bias("conv2d_transpose", inputs, bias, "Output", **attrs)


def _batch_norm(step: _Step) -> None:
    step.check("training_mode", 0)
    if any(step.node.output[1:]):
        raise step.fail("more than one output, which is its form in training")
    names = {slot: step.param(place) for place, slot in enumerate(("Scale", "Bias", "Mean", "Variance"), 1)}
    channels = step.model.constants[step.node.input[1]].shape
    result = step.model.declare(step.node.output[0])
    attrs = {
        "epsilon": float(step.attr("epsilon", 1e-5)),
        "momentum": float(step.attr("momentum", 0.9)),
        "is_test": True,
        "use_global_stats": True,
        "trainable_statistics": False,
        "data_layout": "NCHW",
    }
    extra = {"SavedMean": channels, "SavedVariance": channels}
    inputs = {"X": step.tensor(), **names}
    step.put("batch_norm", inputs, result, "Y", extra, **attrs)
    # They are written where they are read from.
    op = step.model.program.ops[-1]
    for slot in ("Mean", "Variance"):
        step.model.program.set_output(op, f"{slot}Out", names[slot])


def _pool(kind: str) -> Callable[[_Step], None]:
    def convert(step: _Step) -> None:
        size = step.attr("kernel_shape")
        step.check("dilations", [1] * len(size))
        step.check("storage_order", 0)
        if len(size) != 2:
            raise step.fail(f"a window of {len(size)} sides, expected 2")
        attrs = _window(step, size)
        if step.attr("ceil_mode", 0):
            _, _, *ends = step.attr("pads", [0] * 4)
            is_behind = any(end + stride > side for end, stride, side in zip(ends, attrs["strides"], size, strict=True))
            if is_behind or attrs["padding_algorithm"] == "SAME" or step.attr("count_include_pad", 0):
                raise step.fail("ceil_mode with windows that may lie behind the picture, which are counted differently")
        _put_pool(
            step,
            kind,
            ksize=size,
            adaptive=False,
            ceil_mode=bool(step.attr("ceil_mode", 0)),
            exclusive=not step.attr("count_include_pad", 0),
            **attrs,
        )

    return convert


def _global_pool(step: _Step) -> None:
    _put_pool(
        step,
        "avg",
        ksize=[1, 1],
        adaptive=True,
        ceil_mode=False,
        exclusive=True,
        strides=[1, 1],
        paddings=[0, 0],
        padding_algorithm="EXPLICIT",
    )


def _put_pool(step: _Step, kind: str, **attrs: Any) -> None:
    if len(step.shape()) != 4:
        raise step.fail(f"a tensor of {len(step.shape())} sides, expected 4")
    inputs = {"X": step.tensor()}
    step.give("pool2d", inputs, pooling_type=kind, global_pooling=False, data_format="NCHW", **attrs)


def _reduce_mean(step: _Step) -> None:
    rank = len(step.shape())
    axes = step.axes(step.ints("axes", 1, list(range(rank))), rank)
    if not axes or len(axes) == rank:
        raise step.fail("over no side, or all of them, the pictures of a batch included")
    step.give("reduce_mean", {"X": step.tensor()}, dim=axes, keep_dim=bool(step.attr("keepdims", 1)), reduce_all=False)


def _resize(step: _Step) -> None:
    if len(step.shape()) != 4 or not step.has(2) or step.has(3):
        raise step.fail("expected 4 sides and constant scales; sizes are not followed")
    value = step.model.constants.get(step.node.input[2])
    scales = [] if value is None else [float(scale) for scale in value.reshape(-1)]
    if step.attr("axes") is not None or len(scales) != 4 or scales[:2] != [1.0, 1.0] or min(scales) <= 0:
        raise step.fail(f"scales {scales}, expected 1, 1 and those of height and width")
    mode = step.attr("mode", "nearest")
    places = step.attr("coordinate_transformation_mode", "half_pixel")
    rounding = step.attr("nearest_mode", "round_prefer_floor")
    step.check("antialias", 0)
    is_whole = all(scale.is_integer() for scale in scales)
    # At whole factors the middle of a pixel is never half-way between two, so either way reads pixel ⌊x / factor⌋.
    is_floor = (places, rounding) == ("asymmetric", "floor") or (
        is_whole and places in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round_prefer")
    )
    if mode == "nearest" and is_floor:
        op_type, method, is_aligned, align_mode = "nearest_interp_v2", "nearest", False, 1
    elif mode == "linear" and places in ("half_pixel", "align_corners", "asymmetric"):
        op_type, method = "bilinear_interp_v2", "bilinear"
        is_aligned, align_mode = places == "align_corners", int(places == "asymmetric")
    else:
        raise step.fail(f"mode {mode} with {places} and {rounding}")
    step.give(
        op_type,
        {"X": step.tensor()},
        interp_method=method,
        align_corners=is_aligned,
        align_mode=align_mode,
        scale=scales[2:],
        out_d=-1,
        out_h=-1,
        out_w=-1,
        data_layout="NCHW",
    )


def _concat(step: _Step) -> None:
    names = [step.tensor(place) for place in range(len(step.node.input))]
    (axis,) = step.axes([step.attr("axis")], len(step.shape()))
    step.give("concat", {"X": names}, axis=axis)


def _slice(step: _Step) -> None:
    starts, ends = step.ints("", 1), step.ints("", 2)
    rank = len(step.shape())
    axes = step.axes(step.ints("", 3, list(range(len(starts)))), rank)
    if any(stride != 1 for stride in step.ints("", 4, [1])):
        raise step.fail(f"steps {step.ints('', 4)}, expected 1")
    if not len(axes) == len(starts) == len(ends):
        raise step.fail(f"axes {axes}, starts {starts}, ends {ends}, expected as many of each")
    flags = [1] * len(axes)
    step.give(
        "slice", {"Input": step.tensor()}, axes=axes, starts=starts, ends=ends, infer_flags=flags, decrease_axis=[]
    )


def _squeeze(step: _Step) -> None:
    shape = step.shape()
    axes = step.axes(step.ints("axes", 1), len(shape))
    _reshape_as(step, "squeeze2", axes=axes)


def _unsqueeze(step: _Step) -> None:
    axes = step.ints("axes", 1)
    _reshape_as(step, "unsqueeze2", axes=sorted(step.axes(axes, len(step.shape()) + len(axes))))


def _transpose(step: _Step) -> None:
    rank = len(step.shape())
    _reshape_as(step, "transpose2", axis=step.attr("perm", list(reversed(range(rank)))))


def _reshape(step: _Step) -> None:
    step.check("allowzero", 0)
    shape = step.ints("", 1)
    if max(map(abs, shape), default=0) >= _MAX_INT:
        raise step.fail(f"a dimension of {_MAX_INT} or more")
    _reshape_as(step, "reshape2", shape=shape)


def _flatten(step: _Step) -> None:
    (axis,) = step.axes([step.attr("axis", 1)], len(step.shape()))
    if axis != 1:
        raise step.fail(f"axis {axis}, expected 1")
    _reshape_as(step, "reshape2", shape=[0, -1])


def _reshape_as(step: _Step, op_type: str, **attrs: Any) -> None:
    name = step.tensor()
    shape = step.model.program.find_shape(name) or ()
    step.give(op_type, {"X": name}, extra={"XShape": (0, *shape)}, **attrs)


def _cast(step: _Step) -> None:
    if step.attr("to") != TensorProto.FLOAT:
        raise step.fail(f"to {_name_type(step.attr('to'))}, expected FLOAT")
    step.give("assign", {"X": step.tensor()})


def _dropout(step: _Step) -> None:
    if step.has(2) and step.number(2, 0.0):
        raise step.fail("training_mode is set")
    step.give("assign", {"X": step.tensor()})


def _clip(step: _Step) -> None:
    least, most = step.number(1, -float(np.finfo(np.float32).max)), step.number(2, float(np.finfo(np.float32).max))
    end = float(np.finfo(np.float32).max)
    step.give("clip", {"X": step.tensor()}, min=max(least, -end), max=min(most, end))


def _pow(step: _Step) -> None:
    # Not as `pow`: Paddle-Lite's kernel shares its pointers between threads, and has NaN for powers of zero.
    power, x = step.number(1, 1.0), step.tensor()
    if power == 2:
        step.give("elementwise_mul", {"X": x, "Y": x}, axis=-1)
    elif power == 0.5:
        step.give("sqrt", {"X": x})
    elif power == 1:
        step.give("assign", {"X": x})
    else:
        raise step.fail(f"the power {power}, expected 2, 1 or 0.5, which the runtime computes right")


def _hard_sigmoid(step: _Step) -> None:
    slope, offset = float(step.attr("alpha", 0.2)), float(step.attr("beta", 0.5))
    step.give("hard_sigmoid", {"X": step.tensor()}, slope=slope, offset=offset)


def _gelu(step: _Step) -> None:
    step.check("approximate", "none")
    step.give("gelu", {"X": step.tensor()}, approximate=False)


def _softmax(step: _Step) -> None:
    rank = len(step.shape())
    (axis,) = step.axes([step.attr("axis", -1 if step.model.opset >= 13 else 1)], rank)
    if step.model.opset < 13 and axis != rank - 1:
        raise step.fail(f"over the sides from {axis} of {rank} together, expected the last one")
    step.give("softmax", {"X": step.tensor()}, axis=axis, data_format="AnyLayout")


def _matmul(step: _Step) -> None:
    if min(len(step.shape(0)), len(step.shape(1))) < 2:
        raise step.fail("a vector, expected at least 2 sides")
    step.give("matmul_v2", {"X": step.tensor(0), "Y": step.tensor(1)}, trans_x=False, trans_y=False)


def _layer_norm(step: _Step) -> None:
    shape = step.shape()
    (axis,) = step.axes([step.attr("axis", -1)], len(shape))
    if not step.has(2) or axis != len(shape) - 1:
        raise step.fail("expected one over the last side, with scale and bias")
    for place in (1, 2):
        # ONNX would spread one number; the runtime reads as many as the side has.
        size, side = step.shape(place), shape[-1]
        if len(size) != 1 or (size[0] != side if isinstance(side, int) else size[0] == 1):
            raise step.fail(f"scale and bias of {step.shape(1)} and {step.shape(2)} numbers, expected {shape[-1:]}")
    rows = math.prod(side if isinstance(side, int) else -1 for side in shape[:-1])
    inputs = {"X": step.tensor(), "Scale": step.param(1), "Bias": step.param(2)}
    attrs = {"begin_norm_axis": axis, "epsilon": float(step.attr("epsilon", 1e-5))}
    extra = {"Mean": (max(rows, -1),), "Variance": (max(rows, -1),)}
    result = step.model.declare(step.node.output[0])
    step.put("layer_norm", inputs, result, "Y", extra, **attrs)


_RULES: Mapping[str, Callable[[_Step], None]] = MappingProxyType(
    {
        "Add": _calculate("elementwise_add"),
        "AveragePool": _pool("avg"),
        "BatchNormalization": _batch_norm,
        "Cast": _cast,
        "Clip": _clip,
        "Concat": _concat,
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "Div": _calculate("elementwise_div"),
        "Dropout": _dropout,
        "Erf": _keep("erf"),
        "Flatten": _flatten,
        "Gelu": _gelu,
        "GlobalAveragePool": _global_pool,
        "HardSigmoid": _hard_sigmoid,
        "HardSwish": _keep("hard_swish", threshold=6.0, scale=6.0, offset=3.0),
        "Identity": _keep("assign"),
        "LayerNormalization": _layer_norm,
        "MatMul": _matmul,
        "MaxPool": _pool("max"),
        "Mul": _calculate("elementwise_mul"),
        "Pow": _pow,
        "ReduceMean": _reduce_mean,
        "Relu": _keep("relu"),
        "Reshape": _reshape,
        "Resize": _resize,
        "Sigmoid": _keep("sigmoid"),
        "Slice": _slice,
        "Softmax": _softmax,
        "Sqrt": _keep("sqrt"),
        "Squeeze": _squeeze,
        "Sub": _calculate("elementwise_sub"),
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
    }
)

# All that may stand in a model; what reads constants alone is computed at once.
_FOLDED = frozenset((*_RULES, *_SIDE_OPS, "Constant", "ConstantOfShape", "Range"))
