"""What a converted model costs at given input shapes: every tensor's shape, multiply-adds, and bytes moved.

Counted for each op: multiply-adds of convolutions, `fc` and matrix products; the other ops have few and are
told apart by their bytes. Bytes of parameters as they are stored. Bytes of activations at 4 an element, each
input read once and each output written once; an activation function that is fused into an op adds nothing.
What moves no data counts none: `feed`, `fetch`, and ops that only give a tensor another shape in place.
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
from converters.lite.nb.to_onnx import OPSET, NbGraph, build_graph
from converters.sources.onnx_graph import infer_shapes
from edge_ocr.errors import ModelError

ELEMENT_BYTES = 4


@dataclass(frozen=True)
class OpCost:
    """What one op costs."""

    index: int
    """Its place in the program."""
    type: str
    madds: int
    param_bytes: int
    read_bytes: int
    """Of activations."""
    written_bytes: int
    """Of activations."""
    input_shapes: tuple[Shape, ...]
    """Of its activations."""
    output_shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class CostTable:
    """What a program costs, op by op."""

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


def compute_cost(model: NbModel, input_shapes: Mapping[str, Sequence[int]]) -> CostTable:
    """Count what each op of `model` costs for inputs of these shapes, by name.

    Raises ModelError, naming the op, if one is unknown or the shapes do not fit it.
    """
    names = [port.name for port in model.inputs]
    if sorted(input_shapes) != sorted(names):
        raise ModelError(f"shapes for the inputs {sorted(input_shapes)}, expected {sorted(names)}")
    given = {name: tuple(input_shapes[name]) for name in names}
    graph = build_graph(model)
    shapes = _infer_shapes(model, graph, given)
    outputs: dict[str, Shape] = {}
    costs = []
    for index, (op, made) in enumerate(zip(model.blocks[0].ops, graph.ops, strict=True)):
        found = {name: shapes[known] for name, known in made.inputs.items()}
        inputs = {
            slot: tuple(found[name] if name in found else model.params[name].shape for name in names)
            for slot, names in op.inputs.items()
            if op.type != "feed"
        }
        costs.append(_count(model, OpShapes(index, op, inputs, shapes.get(made.output or "", ()))))
        if op.type == "fetch":
            outputs[op.inputs["X"][0]] = inputs["X"][0]
    return CostTable(MappingProxyType(given), MappingProxyType(outputs), tuple(costs))


def _count(model: NbModel, shapes: OpShapes) -> OpCost:
    op, rule = shapes.op, OPS[shapes.op.type]
    names = [
        (name, shape)
        for slot in shapes.inputs
        for name, shape in zip(op.inputs[slot], shapes.inputs[slot], strict=True)
    ]
    activations = tuple(shape for name, shape in names if name not in model.params)
    written = [shapes.output] if shapes.output else []
    written += [shape for slot, shape in rule.list_statistics(shapes).items() if op.outputs.get(slot)]
    read_bytes, written_bytes = sum(map(_count_bytes, activations)), sum(map(_count_bytes, written))
    if rule.traffic is Traffic.VIEW:
        read_bytes = _count_bytes(shapes.inputs["X"][0])
        if read_bytes != written_bytes:
            shapes.fail(f"an input of shape {list(shapes.inputs['X'][0])} cannot get the shape {list(shapes.output)}")
        if op.attrs.get("inplace") is True:
            read_bytes = written_bytes = 0
    elif rule.traffic is Traffic.PART:
        read_bytes = written_bytes
    elif rule.traffic is Traffic.OUTPUT:
        read_bytes = 0
    elif rule.traffic is Traffic.NONE:
        read_bytes = written_bytes = 0
    return OpCost(
        index=shapes.index,
        type=op.type,
        madds=rule.count_madds(shapes),
        param_bytes=sum(len(model.params[name].data) for name, _ in names if name in model.params),
        read_bytes=read_bytes,
        written_bytes=written_bytes,
        input_shapes=activations,
        output_shapes=tuple(written),
    )


def _count_bytes(shape: Shape) -> int:
    return math.prod(shape) * ELEMENT_BYTES


def _is_too_small(node: NodeProto, shape: Shape) -> bool:
    """Tell whether the window of `node` fits nowhere in an input of `shape`.

    ONNX's inference rounds towards 0 and may then count one place for it.
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
    """Return the shape of what each op gives, by name in the graph, for inputs of the shapes `given`."""
    proto, ops = graph.model.graph, list(zip(model.blocks[0].ops, graph.ops, strict=True))
    inputs = {made.output: given[op.outputs["Out"][0]] for op, made in ops if op.type == "feed"}
    ports = []
    for port in proto.input:
        declared, shape = port.type.tensor_type.shape.dim, inputs[port.name]
        if len(shape) != len(declared) or not all(
            0 < size <= MAX_INT and dim.dim_value in (0, size) for size, dim in zip(shape, declared, strict=True)
        ):
            expected = [dim.dim_value or "?" for dim in declared]
            raise ModelError(f"the input {port.name!r} of shape {list(shape)}, expected {expected}")
        ports.append(helper.make_tensor_value_info(port.name, TensorProto.FLOAT, shape))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.initializer}
    try:
        found = infer_shapes(proto.node, ports, [port.name for port in proto.output], constants, OPSET)
    except onnx.shape_inference.InferenceError as error:
        # One line a node; the first one is what the others follow from.
        text = str(error).strip().splitlines()[0]
        where = (f"op {index} ({op.type})" for index, (op, made) in enumerate(ops) if made.is_named_in(text))
        reason = text.rpartition("] ")[2][:200]
        raise ModelError(f"{next(where, 'the graph')}: the shapes do not fit: {reason}") from None
    nodes = {node.name: node for node in proto.node}
    shapes: dict[str, Shape] = {name: value.shape for name, value in constants.items()}
    shapes |= {port.name: inputs[port.name] for port in proto.input}
    for index, (op, made) in enumerate(ops):
        if made.output is None or made.output in shapes:
            continue
        dims = found[made.output].shape.dim if made.output in found else ()
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
        shape = tuple(size for size in sizes if size is not None and 0 < size <= MAX_INT)
        # Lite has no tensor without dimensions.
        if not shape or len(shape) < len(sizes):
            raise ModelError(f"op {index} ({op.type}): would give the shape {sizes}, expected 1 to {MAX_INT} each")
        shapes[made.output] = shape
        for node in (nodes[name] for name in made.nodes):
            if _is_too_small(node, shapes.get(node.input[0], ())):
                given_shape = list(shapes[node.input[0]])
                raise ModelError(f"op {index} ({op.type}): its window is larger than the input of shape {given_shape}")
    return shapes
