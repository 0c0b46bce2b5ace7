"""Reads ONNX models as Paddle programs in the op set that opt 2.13 reads.

One ONNX node becomes one op if an op means the same, with the attributes that Paddle 2.4 writes: opt aborts if one is
missing. `converters.graph.passes` re-fuses operators that exporters decompose. Free dimensions (batch, height, width)
stay free.

Nodes that depend on constants alone are computed here, by ONNX's reference implementation. Computation on tensor shapes
is supported only if it ends in a Reshape: that shape becomes a constant, with 0 for a dimension that is kept and -1 for
one that follows from the others.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper

from converters.sources.onnx_constants import fold_constants
from converters.sources.onnx_files import read_onnx_model
from converters.sources.onnx_graph import HINT, OnnxGraph, name_type, show, sum_up
from converters.sources.onnx_ops import RULES, Step
from converters.sources.onnx_shapes import SHAPE_OPS, ShapeFollower
from converters.sources.program import Program
from edge_ocr.errors import ConversionError, ModelError

_INPUT_HINT = "export the model again with a float32 input of the shape N, 3, H, W"
_FOLLOWED = frozenset((*RULES, *SHAPE_OPS))
# All ops that a model may have; these three always read constants alone.
_KNOWN = _FOLLOWED | {"Constant", "ConstantOfShape", "Range"}


def import_onnx(path: Path) -> Program:
    """Return an ONNX model as a Paddle program, float32, with one input and one output.

    Raises ModelError if the file is not a readable ONNX model, or its external data is missing or outside its folder
    (`converters.sources.onnx_files`); ConversionError if its opset is not from `MIN_OPSET` to `MAX_OPSET`, its input
    has no fixed rank, or the program's op set lacks an op or a form of it, named by op, node and opset.
    """
    model = read_onnx_model(path)
    if not model.graph.node:
        raise ModelError(f"{path}: not a readable ONNX model: it has no nodes", HINT)
    graph = OnnxGraph(model, path)
    _check(graph)
    try:
        graph.constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    # Its errors for types that NumPy lacks have no common base.
    except Exception as error:
        raise ModelError(f"{path}: a constant cannot be read: {sum_up(error)}", HINT) from None
    ports = model.graph.output
    feeds = [port for port in model.graph.input if port.name not in graph.constants]
    if len(feeds) != 1 or len(ports) != 1:
        raise ConversionError(f"{path}: {len(feeds)} inputs and {len(ports)} outputs, expected one of each", HINT)
    nodes = ShapeFollower(graph).settle(fold_constants(graph, model.graph.node, _FOLLOWED))
    _feed(graph, feeds[0].name)
    for node in nodes:
        RULES[node.op_type](Step(graph, node))
    _fetch(graph, ports[0].name)
    graph.program.drop_unused()
    return graph.program


def _check(graph: OnnxGraph) -> None:
    """Raise for unknown ops and free ranks, in clearer words than ONNX's checker, then run that checker."""
    for node in graph.model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in _KNOWN:
            raise ConversionError(
                f"{graph.describe(node)}: unknown op",
                f"use only {', '.join(sorted(RULES))}",
            )
    for port in graph.model.graph.input:
        if not port.type.tensor_type.HasField("shape"):
            raise ConversionError(
                f"{graph.path}: the input {show(port.name)} has no fixed rank, expected a 4-D input", _INPUT_HINT
            )
    try:
        onnx.checker.check_model(graph.model)
    # ValidationError and Python's errors for names that are not UTF-8 have no common base.
    except Exception as error:
        raise ModelError(f"{graph.path}: not a valid ONNX model: {sum_up(error)}", HINT) from None


def _feed(graph: OnnxGraph, name: str) -> None:
    if graph.dtypes.get(name) != TensorProto.FLOAT:
        actual = name_type(graph.dtypes.get(name, 0))
        raise ConversionError(f"{graph.path}: the input {show(name)} is {actual}, expected FLOAT", _INPUT_HINT)
    graph.program.declare_list("feed")
    graph.program.insert_op(None, "feed", {"X": "feed"}, {"Out": graph.declare(name)}, {"col": 0})


def _fetch(graph: OnnxGraph, name: str) -> None:
    if name not in graph.names:
        raise ConversionError(f"{graph.path}: the output {show(name)} does not depend on the input", HINT)
    graph.program.declare_list("fetch")
    graph.program.insert_op(None, "fetch", {"X": graph.names[name]}, {"Out": "fetch"}, {"col": 0})
