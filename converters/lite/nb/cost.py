"""Computes the cost of a converted model for given input shapes: tensor shapes, multiply-adds, and bytes moved.

Shapes come from the ONNX graph. Each op counts:

- multiply-adds, for convolutions, `fc` and matrix products; other ops have few;
- the stored bytes of its parameters;
- the bytes of its activations, 4 per element or 1 per 8-bit integer: each input is read once, each output written
  once. A fused activation adds nothing; `feed`, `fetch` and reshapes in place move no data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from converters.lite.nb.builder import MAX_INT, OpShapes, Shape, Traffic
from converters.lite.nb.ops import OPS
from converters.lite.nb.read import NbModel
from converters.lite.nb.schema import shorten
from converters.lite.nb.to_onnx import OPSET, NbGraph, build_graph
from converters.sources.onnx_graph import infer_shapes
from edge_ocr.errors import ModelError

FLOAT_BYTES = 4


@dataclass(frozen=True)
class OpCost:
    """The cost of one op."""

    index: int
    """Its index in the program."""
    type: str
    madds: int
    param_bytes: int
    read_bytes: int
    """Activations only."""
    written_bytes: int
    """Activations only."""
    input_shapes: tuple[Shape, ...]
    """Activations only."""
    output_shapes: tuple[Shape, ...]
    is_int8: bool = False
    """Whether it computes in 8-bit integers."""


@dataclass(frozen=True)
class CostTable:
    """The cost of a program, op by op."""

    input_shapes: Mapping[str, Shape]
    output_shapes: Mapping[str, Shape]
    ops: tuple[OpCost, ...]

    @property
    def madds(self) -> int:
        """Return the multiply-adds of one run."""
        return sum(op.madds for op in self.ops)

    @property
    def param_bytes(self) -> int:
        """Return the bytes of parameters that one run reads."""
        return sum(op.param_bytes for op in self.ops)

    @property
    def read_bytes(self) -> int:
        """Return the bytes of activations that one run reads."""
        return sum(op.read_bytes for op in self.ops)

    @property
    def written_bytes(self) -> int:
        """Return the bytes of activations that one run writes."""
        return sum(op.written_bytes for op in self.ops)

    @property
    def activation_bytes(self) -> int:
        """Return the bytes of activations that one run reads and writes."""
        return self.read_bytes + self.written_bytes


def compute_cost(model: NbModel, input_shapes: Mapping[str, Sequence[int]], name: str = "nb") -> CostTable:
    """Return the cost of each op of `model` for inputs of these shapes, by name; `name` names the model in errors.

    Raises ModelError if the inputs differ from the model's; naming the op, if one is unknown or the shapes do not fit.
    """
    ports = [port.name for port in model.inputs]
    if sorted(input_shapes) != sorted(ports):
        raise ModelError(f"{name}: shapes for the inputs {sorted(input_shapes)}, expected {sorted(ports)}")
    given = {port: tuple(input_shapes[port]) for port in ports}
    graph = build_graph(model, name)
    shapes = _infer_shapes(model, graph, given)
    params = {param.name: param.shape for param in model.params.values()}
    integers = {tensor.name for tensor in graph.tensors if tensor.scale is not None}
    outputs: dict[str, Shape] = {}
    costs = []
    for index, (op, made) in enumerate(zip(model.blocks[0].ops, graph.ops, strict=True)):
        known = params | {variable: shapes[found] for variable, found in made.inputs.items()}
        slots = {} if op.type == "feed" else op.inputs
        where = f"{name}: op {index} ({op.type})"
        try:
            inputs = {slot: tuple(known[variable] for variable in variables) for slot, variables in slots.items()}
        except KeyError as error:
            raise ModelError(f"{where}: {shorten(repr(error.args[0]))} was not computed before") from None
        sizes = {variable: 1 for variable, found in made.inputs.items() if found in integers}
        size = 1 if made.output in integers else FLOAT_BYTES
        costs.append(_count(model, index, OpShapes(where, op, inputs, shapes.get(made.output or "", ())), sizes, size))
        if op.type == "fetch":
            outputs[op.inputs["X"][0]] = inputs["X"][0]
    return CostTable(MappingProxyType(given), MappingProxyType(outputs), tuple(costs))


def _count(model: NbModel, index: int, shapes: OpShapes, read_sizes: Mapping[str, int], written_size: int) -> OpCost:
    """Return the cost of an op; sizes are bytes per element, of inputs by name, 4 if missing."""
    op, rule = shapes.op, OPS[shapes.op.type]
    names = [name for slot in shapes.inputs for name in op.inputs[slot]]
    read = zip(names, (shape for found in shapes.inputs.values() for shape in found), strict=True)
    activations = [(name, shape) for name, shape in read if name not in model.params]
    written = [shapes.output] if shapes.output else []
    written += [shape for slot, shape in rule.list_statistics(shapes).items() if op.outputs.get(slot)]
    read_bytes = sum(math.prod(shape) * read_sizes.get(name, FLOAT_BYTES) for name, shape in activations)
    written_bytes = sum(map(math.prod, written)) * written_size
    if rule.traffic is Traffic.VIEW:
        read_bytes = written_bytes
        if math.prod(shapes.inputs["X"][0]) != math.prod(shapes.output):
            shapes.fail(f"an input of shape {list(shapes.inputs['X'][0])} cannot take the shape {list(shapes.output)}")
        if op.attrs.get("inplace") is True:
            read_bytes = written_bytes = 0
    elif rule.traffic is Traffic.PART:
        read_bytes = written_bytes
    elif rule.traffic is Traffic.OUTPUT:
        read_bytes = 0
    elif rule.traffic is Traffic.NONE:
        read_bytes = written_bytes = 0
    return OpCost(
        index=index,
        type=op.type,
        madds=rule.count_madds(shapes),
        param_bytes=sum(len(model.params[name].data) for name in names if name in model.params),
        read_bytes=read_bytes,
        written_bytes=written_bytes,
        input_shapes=tuple(shape for _, shape in activations),
        output_shapes=tuple(written),
        is_int8=op.attrs.get("enable_int8") is True,
    )


def _is_too_small(node: NodeProto, shape: Shape) -> bool:
    """Return whether the window of `node` is larger than an input of `shape`.

    ONNX's inference rounds towards 0, so it may return a size of 1 for it.
    """
    attrs = {attr.name: helper.get_attribute_value(attr) for attr in node.attribute}
    if node.op_type == "ConvTranspose" or "pads" not in attrs or attrs.get("ceil_mode"):
        return False
    kernel, pads, dilations = attrs["kernel_shape"], attrs["pads"], attrs.get("dilations", (1, 1))
    return any(
        size + before + after < (taps - 1) * dilation + 1
        for size, before, after, taps, dilation in zip(shape[2:], pads[:2], pads[2:], kernel, dilations, strict=True)
    )


def _infer_shapes(model: NbModel, graph: NbGraph, given: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes of all ops' outputs, by name in the graph, for inputs of the shapes `given`."""
    proto, ops = graph.model.graph, list(zip(model.blocks[0].ops, graph.ops, strict=True))
    places = [f"{proto.name}: op {index} ({op.type})" for index, (op, _) in enumerate(ops)]
    inputs = {made.output: given[op.outputs["Out"][0]] for op, made in ops if op.type == "feed"}
    ports = []
    for port in proto.input:
        declared, shape = port.type.tensor_type.shape.dim, inputs[port.name]
        if len(shape) != len(declared) or not all(
            0 < size <= MAX_INT and dim.dim_value in (0, size) for size, dim in zip(shape, declared, strict=True)
        ):
            expected = [dim.dim_value or "?" for dim in declared]
            raise ModelError(f"{proto.name}: the input {port.name!r} of shape {list(shape)}, expected {expected}")
        ports.append(helper.make_tensor_value_info(port.name, TensorProto.FLOAT, shape))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.initializer}
    try:
        found = infer_shapes(proto.node, ports, [port.name for port in proto.output], constants, OPSET)
    except onnx.shape_inference.InferenceError as error:
        # One line per node; the first error causes the others.
        text = str(error).strip().splitlines()[0]
        found_at = (place for place, (_, made) in zip(places, ops, strict=True) if made.is_named_in(text))
        reason = text.rpartition("] ")[2][:200]
        raise ModelError(f"{next(found_at, proto.name)}: mismatched shapes: {reason}") from None
    nodes = {node.name: node for node in proto.node}
    shapes: dict[str, Shape] = {name: value.shape for name, value in constants.items()}
    shapes |= {port.name: inputs[port.name] for port in proto.input}
    for place, (_, made) in zip(places, ops, strict=True):
        new = [name for name in made.outputs if name not in shapes]
        for name in new:
            dims = found[name].shape.dim if name in found else ()
            sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
            shape = tuple(size for size in sizes if size is not None and 0 < size <= MAX_INT)
            # Lite has no 0-D tensors.
            if not shape or len(shape) < len(sizes):
                raise ModelError(f"{place}: its output would have the shape {sizes}, expected 1 to {MAX_INT}")
            shapes[name] = shape
        if not new:
            continue
        for node in (nodes[name] for name in made.nodes):
            if _is_too_small(node, shapes.get(node.input[0], ())):
                given_shape = list(shapes[node.input[0]])
                raise ModelError(f"{place}: its window is larger than the input of shape {given_shape}")
    return shapes
