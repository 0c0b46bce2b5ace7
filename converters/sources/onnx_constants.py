"""Computes at import what depends on constants alone, by ONNX's own reference."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence

import numpy as np
from onnx import NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from converters.sources.onnx_graph import HINT, OnnxGraph, infer_shapes, sum_up
from edge_ocr.errors import ConversionError, ModelError

# A few bytes can ask for constants of any size: so many numbers are computed of constants, and so many times those that
# the file holds. Exporters write out positions and reorder weights.
_MAX_FOLDED = 2**22
_MAX_GROWTH = 4
# Sizes inside of these do not show in their results, and no exporter leaves one on constants.
_WINDOWED = frozenset(("AveragePool", "Conv", "ConvTranspose", "MaxPool", "Resize"))


def fold_constants(graph: OnnxGraph, nodes: Iterable[NodeProto], followed: Container[str]) -> list[NodeProto]:
    """Return the nodes that depend on the input; the results of the others become constants of `graph`.

    Raises ConversionError if a node on the input is not one of the op types `followed`, or the constants would grow out
    of all proportion to the file; ModelError if a constant cannot be computed.
    """
    allowed = _MAX_FOLDED + _MAX_GROWTH * sum(value.size for value in graph.constants.values())
    kept, folded = [], 0
    for node in nodes:
        inputs = [name for name in node.input if name]
        if all(name in graph.constants for name in inputs):
            folded += _count_results(graph, node, inputs)
            if folded > allowed:
                what = f"of constants {folded} numbers would be computed, expected at most {allowed}"
                raise ConversionError(f"{graph.describe(node)}: {what}", HINT)
            _evaluate(graph, node, inputs)
        elif node.op_type in followed:
            kept.append(node)
        else:
            raise ConversionError(f"{graph.describe(node)}: it computes, expected a constant", HINT)
    return kept


def _count_results(graph: OnnxGraph, node: NodeProto, inputs: Sequence[str]) -> int:
    """Return how many numbers a node makes of constants."""
    if node.op_type in _WINDOWED:
        raise ConversionError(
            f"{graph.describe(node)}: it reads constants alone, expected what the input becomes", HINT
        )
    constants = {name: graph.constants[name] for name in inputs}
    try:
        found = infer_shapes([node], (), node.output, constants, graph.opset)
        shapes = [found[name].shape.dim for name in node.output if found[name].HasField("shape")]
    # What the inference raises has no common base.
    except Exception as error:
        raise ModelError(f"{graph.describe(node)}: cannot be computed: {sum_up(error)}", HINT) from None
    if len(shapes) < len(node.output) or not all(dim.HasField("dim_value") for shape in shapes for dim in shape):
        what = "of constants numbers without end would be computed"
        raise ConversionError(f"{graph.describe(node)}: {what}", HINT)
    return sum(math.prod(dim.dim_value for dim in shape) for shape in shapes)


def _evaluate(graph: OnnxGraph, node: NodeProto, inputs: Sequence[str]) -> None:
    # As a model of its own: the reference takes a node's opset from the model.
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output]
    made = helper.make_graph([node], "constants", ports, results)
    try:
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", graph.opset)])
        values = ReferenceEvaluator(model).run(None, {name: graph.constants[name] for name in inputs})
    # What the reference raises has no common base.
    except Exception as error:
        raise ModelError(f"{graph.describe(node)}: cannot be computed: {sum_up(error)}", HINT) from None
    graph.constants |= {name: np.asarray(value) for name, value in zip(node.output, values, strict=True)}
