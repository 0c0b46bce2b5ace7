"""Computes the nodes that depend on constants alone, by ONNX's reference implementation."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence

import numpy as np
from onnx import NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from converters.sources.onnx_graph import HINT, OnnxGraph, infer_shapes, sum_up
from edge_ocr.errors import ConversionError, ModelError

# A few bytes can ask for constants of any size. The limit is this many numbers, plus this many times the numbers in the
# file: exporters store positions and reorder weights.
_MAX_FOLDED = 2**22
_MAX_GROWTH = 4
# The size of their results does not limit their work, and no exporter leaves one on constants.
_WINDOWED = frozenset(("AveragePool", "Conv", "ConvTranspose", "MaxPool", "Resize"))


def fold_constants(graph: OnnxGraph, nodes: Iterable[NodeProto], followed: Container[str]) -> list[NodeProto]:
    """Return the nodes that depend on the input; the results of the others become constants of `graph`.

    Raises ConversionError if another node has an op type outside `followed`, or the constants would exceed the limit;
    ModelError if a constant cannot be computed.
    """
    allowed = _MAX_FOLDED + _MAX_GROWTH * sum(value.size for value in graph.constants.values())
    kept, folded = [], 0
    for node in nodes:
        inputs = [name for name in node.input if name]
        if all(name in graph.constants for name in inputs):
            folded += _count_results(graph, node, inputs)
            if folded > allowed:
                what = f"its constants would grow to {folded} numbers, expected at most {allowed}"
                raise ConversionError(f"{graph.describe(node)}: {what}", HINT)
            _evaluate(graph, node, inputs)
        elif node.op_type in followed:
            kept.append(node)
        else:
            raise ConversionError(f"{graph.describe(node)}: it depends on the input, expected constants", HINT)
    return kept


def _count_results(graph: OnnxGraph, node: NodeProto, inputs: Sequence[str]) -> int:
    """Return how many numbers a node computes from constants."""
    if node.op_type in _WINDOWED:
        raise ConversionError(
            f"{graph.describe(node)}: it reads constants alone, expected a tensor that depends on the input", HINT
        )
    constants = {name: graph.constants[name] for name in inputs}
    try:
        found = infer_shapes([node], (), node.output, constants, graph.opset)
        shapes = [found[name].shape.dim for name in node.output if found[name].HasField("shape")]
    # The inference's errors have no common base.
    except Exception as error:
        raise ModelError(f"{graph.describe(node)}: cannot be computed: {sum_up(error)}", HINT) from None
    if len(shapes) < len(node.output) or not all(dim.HasField("dim_value") for shape in shapes for dim in shape):
        raise ConversionError(f"{graph.describe(node)}: the size of its constant result is unknown", HINT)
    return sum(math.prod(dim.dim_value for dim in shape) for shape in shapes)


def _evaluate(graph: OnnxGraph, node: NodeProto, inputs: Sequence[str]) -> None:
    # A model of its own, because the reference takes a node's opset from the model.
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output]
    made = helper.make_graph([node], "constants", ports, results)
    try:
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", graph.opset)])
        values = ReferenceEvaluator(model).run(None, {name: graph.constants[name] for name in inputs})
    # The reference's errors have no common base.
    except Exception as error:
        raise ModelError(f"{graph.describe(node)}: cannot be computed: {sum_up(error)}", HINT) from None
    graph.constants |= {name: np.asarray(value) for name, value in zip(node.output, values, strict=True)}
