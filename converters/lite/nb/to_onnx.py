"""`.nb` to ONNX: the graph that a device runs, in a form that any host engine runs, too.

Each op becomes what Paddle-Lite's ARM kernels compute for it (`lite/operators` of Paddle-Lite 2.13), the fused
activation included. Weights are dequantised as the runtime does when it loads a model. opt lets several tensors share
one variable; here each gets a name of its own. Height, width and batch stay as free as they are in the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import helper

from converters.lite.nb.builder import INTEGERS, GraphBuilder, GraphOp, GraphTensor, Step
from converters.lite.nb.ops import OPS
from converters.lite.nb.read import NbModel
from converters.lite.nb.schema import shorten
from edge_ocr.errors import ModelError

# The first with LayerNormalization; what needs a newer one is not used.
OPSET = 17
_IR_VERSION = 8

# Half of what protobuf holds in one message; PP-OCR's server models have a tenth of it.
_MAX_PARAM_BYTES = 2**30

# PP-OCR's programs have a few hundred. Each takes some kilobytes on its way through the checker.
_MAX_OPS = 20_000


@dataclass(frozen=True)
class NbGraph:
    """A `.nb` as ONNX."""

    model: onnx.ModelProto
    tensors: tuple[GraphTensor, ...]
    """Of floats, in the order of the program."""
    ops: tuple[GraphOp, ...]
    """One for each op of the program."""


def build_graph(model: NbModel, name: str = "nb") -> NbGraph:
    """Return `model` as ONNX, opset 17; `name` names the graph, and the model in errors.

    Raises ModelError, naming the op, for one that is not known here, or that its own inputs do not fit.
    """
    if len(model.blocks) != 1:
        raise ModelError(f"{name}: {len(model.blocks)} blocks, expected 1: branches and loops are not converted")
    if len(model.blocks[0].ops) > _MAX_OPS:
        raise ModelError(f"{name}: {len(model.blocks[0].ops)} ops, expected at most {_MAX_OPS}")
    size_bytes = sum(param.count * (8 if param.dtype in INTEGERS else 4) for param in model.params.values())
    if size_bytes > _MAX_PARAM_BYTES:
        raise ModelError(f"{name}: {size_bytes} bytes of parameters in ONNX, expected at most {_MAX_PARAM_BYTES}")
    builder = GraphBuilder(model, name)
    steps = []
    for index, op in enumerate(model.blocks[0].ops):
        rule = OPS.get(op.type)
        if rule is None:
            raise ModelError(
                f"{name}: op {index}: {shorten(repr(op.type))} is not known, so the graph cannot be built",
                "report it with the model's name; the ops that are known stand in converters/lite/nb/ops",
            )
        steps.append(Step(builder, index, op, rule))
        steps[-1].check()
    for step in steps:
        step.note_scales()
    ops = tuple(step.run() for step in steps)
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
    return NbGraph(made, tuple(builder.tensors), ops)


def serialise_graph(model: NbModel, name: str) -> bytes:
    """Return `build_graph` as the bytes of an ONNX file, the same each time.

    Raises as `build_graph`.
    """
    data: bytes = build_graph(model, name).model.SerializeToString(deterministic=True)
    return data
