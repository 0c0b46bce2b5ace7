"""The state of an import: what is known about the tensors of an ONNX model, and the program so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from converters.sources.program import Array, make_program
from edge_ocr.core.errors import escape_text
from edge_ocr.errors import ConversionError, ModelError

MIN_OPSET = 11
"""Older opsets have other forms of Clip, Resize and others."""
MAX_OPSET = 22
"""The newest opset of onnx 1.17."""

HINT = "export the model to ONNX again"
MAX_INT = 2**31 - 1
# A damaged model may put thousands of characters into a message.
_MAX_WORDS = 500
# More numbers than any shape has. Shape inference gets only the shapes of larger constants.
_MAX_VALUES = 64


class OnnxGraph:
    """One ONNX model during its import."""

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
        self.shapes: dict[str, tuple[int | str, ...]] = {}
        """By computed tensor: each dimension as a number, or as the name of a free one ("" if it has none)."""
        self.dtypes: dict[str, int] = {}
        self.names: dict[str, str] = {}
        """By tensor or constant: its name in the program."""

    def describe(self, node: NodeProto) -> str:
        domain = f"{node.domain}." if node.domain else ""
        name = node.name or ", ".join(name for name in node.output if name)
        return f"{self.path}: {show(f'{domain}{node.op_type} (node {name}, opset {self.opset})')}"

    def learn_shapes(self, nodes: Sequence[NodeProto]) -> None:
        """Infer the shapes of all tensors that the nodes compute."""
        inputs = [port for port in self.model.graph.input if port.name not in self.constants]
        outputs = [port.name for port in self.model.graph.output]
        try:
            found = infer_shapes(nodes, inputs, outputs, self.constants, self.opset)
        # InferenceError and the checker's errors have no common base.
        except Exception as error:
            raise ModelError(f"{self.path}: mismatched shapes: {sum_up(error)}", HINT) from None
        # Some exporters name every free dimension "?": a name that occurs twice does not identify one.
        free = [dim.dim_param for port in inputs for dim in port.type.tensor_type.shape.dim]
        named = {name for name in free if name != "?" and free.count(name) == 1}
        for name, tensor in found.items():
            self.dtypes[name] = tensor.elem_type
            if tensor.HasField("shape"):
                self.shapes[name] = tuple(
                    dim.dim_value if dim.HasField("dim_value") else dim.dim_param if dim.dim_param in named else ""
                    for dim in tensor.shape.dim
                )

    def declare(self, name: str) -> str:
        """Declare a tensor that a node computes; return its name in the program."""
        shape = self.shapes.get(name)
        if shape is None:
            raise ConversionError(f"{self.path}: the rank of {show(name)} is unknown", HINT)
        self.names[name] = self._make_name(name)
        self.program.set_shape(self.names[name], tuple(dim if isinstance(dim, int) else -1 for dim in shape))
        return self.names[name]

    def store(self, stem: str, value: Array) -> str:
        """Store a parameter with this value; return its name."""
        name = self._make_name(stem)
        self.program.set_param(name, value)
        return name

    def _make_name(self, stem: str) -> str:
        # The ops feed and fetch use variables with these names.
        return self.program.make_name(f"{stem}_" if stem in ("feed", "fetch") else stem)


def read_attr(node: NodeProto, name: str, default: Any) -> Any:
    attr = next((attr for attr in node.attribute if attr.name == name), None)
    if attr is None:
        return default
    value = helper.get_attribute_value(attr)
    if attr.type == AttributeProto.STRING:
        return value.decode(errors="replace")
    return list(value) if attr.type in (AttributeProto.INTS, AttributeProto.FLOATS) else value


def name_type(number: int) -> str:
    try:
        return str(TensorProto.DataType.Name(number))
    except ValueError:
        return f"the type {number}"


def sum_up(said: object) -> str:
    """Return an error's text as one line of limited length."""
    text = " ".join(str(said).split())
    return show(text if len(text) <= _MAX_WORDS else f"{text[:_MAX_WORDS]}…")


def show(text: str) -> str:
    """Return a model's text safe for a message: one line, without control characters for the terminal."""
    return escape_text(text)


def infer_shapes(
    nodes: Sequence[NodeProto],
    inputs: Iterable[ValueInfoProto],
    outputs: Iterable[str],
    constants: Mapping[str, Array],
    opset: int,
) -> dict[str, Any]:
    """Return type and shape (TypeProto.Tensor) of each tensor that has one, by ONNX's own inference.

    Raises the inference's errors, which have no common base, if shapes do not match.
    """
    small = [numpy_helper.from_array(value, name) for name, value in constants.items() if value.size <= _MAX_VALUES]
    large = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in constants.items()
        if value.size > _MAX_VALUES
    ]
    graph = GraphProto(name="shapes", node=nodes, input=[*inputs, *large], initializer=small)
    graph.output.extend(map(helper.make_empty_tensor_value_info, outputs))
    model = ModelProto(ir_version=8, graph=graph, opset_import=[helper.make_opsetid("", opset)])
    found = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    return {port.name: port.type.tensor_type for port in (*found.input, *found.value_info, *found.output)}
