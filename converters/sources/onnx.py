"""Reads ONNX models as Paddle programs in the op set that opt 2.13 reads.

One ONNX node becomes one op wherever there is one of its meaning, with the attributes that Paddle 2.4 writes: opt
aborts where one is missing. What exporters wrote out in parts is put together again by `converters.graph.passes`. Sides
that are free (batch, height, width) stay free.

What is computed from constants alone is computed here, by ONNX's own reference. Of what is computed from the shapes
of tensors only that is read which ends in a Reshape: its shape is written out with 0 for a side that is kept and -1
for the one that follows from the others.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper

from converters.sources.onnx_constants import fold_constants
from converters.sources.onnx_files import read_onnx_model
from converters.sources.onnx_graph import HINT, OnnxGraph, name_type, show, sum_up
from converters.sources.onnx_ops import RULES, Step
from converters.sources.onnx_shapes import SIDE_OPS, ShapeFollower
from converters.sources.program import Program
from edge_ocr.errors import ConversionError, ModelError

_INPUT_HINT = "export the model again with a float32 input of the shape N, 3, H, W"
_FOLLOWED = frozenset((*RULES, *SIDE_OPS))
# All that may be in a model; what reads constants alone is computed at once.
_KNOWN = _FOLLOWED | {"Constant", "ConstantOfShape", "Range"}


def import_onnx(path: Path) -> Program:
    """Return an ONNX model as a Paddle program, float32, with one input and one output.

    Raises ModelError where the file is no readable ONNX model, or what it keeps in other files is missing or not its
    own (`converters.sources.onnx_files`);
    ConversionError where its opset is not one from `MIN_OPSET` to `MAX_OPSET`, its input has no fixed rank, or it has
    an op, or a form of one, that the program's op set lacks: named by op, node and opset.
    """
    model = read_onnx_model(path)
    if not model.graph.node:
        raise ModelError(f"{path}: not a readable ONNX model: it has no nodes", HINT)
    graph = OnnxGraph(model, path)
    _check(graph)
    try:
        graph.constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    # What it raises for types that NumPy lacks has no common base.
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
    """Raise for what ONNX's own checker would name in its words, then for what it finds."""
    for node in graph.model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in _KNOWN:
            raise ConversionError(
                f"{graph.describe(node)}: this op is not among those that are imported",
                f"known are {', '.join(sorted(RULES))}",
            )
    for port in graph.model.graph.input:
        if not port.type.tensor_type.HasField("shape"):
            raise ConversionError(
                f"{graph.path}: the input {show(port.name)} has no fixed number of sides, expected 4", _INPUT_HINT
            )
    try:
        onnx.checker.check_model(graph.model)
    # ValidationError, and what Python raises for names that are no UTF-8, have no common base.
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
