"""Converts a `.nb` to ONNX: the graph that a device runs, for any host engine.

Each op becomes what Paddle-Lite's ARM kernels compute (`lite/operators` of Paddle-Lite 2.13), including its fused
activation. Weights are dequantised as the runtime does on loading. opt lets several tensors share one variable; here
each has a unique name. Free dimensions (height, width, batch) stay free.
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

# The first opset with LayerNormalization; no newer op is used.
OPSET = 17
_IR_VERSION = 8

# Half of protobuf's limit for a message; PP-OCR's server models need a tenth of it.
_MAX_PARAM_BYTES = 2**30

# PP-OCR's programs have a few hundred. The checker needs some kilobytes per op.
_MAX_OPS = 20_000


@dataclass(frozen=True)
class NbGraph:
    """A `.nb` as ONNX."""

    model: onnx.ModelProto
    tensors: tuple[GraphTensor, ...]
    """The float outputs, in program order."""
    ops: tuple[GraphOp, ...]
    """One per op of the program."""


def build_graph(model: NbModel, name: str = "nb", *, use_integers: bool = False) -> NbGraph:
    """Return `model` as ONNX, opset 17; `name` names the graph, and the model in errors.

    Rounded weights are float32, and what the device computes in 8-bit integers are float nodes, which all engines
    compute alike. With `use_integers`, for ONNX Runtime, weights are integers that the graph multiplies by their
    scales, and nodes compute in integers: smaller and faster, but ties are rounded to even.

    Raises ModelError, naming the op, if one is unknown or its inputs do not fit.
    """
    if len(model.blocks) != 1:
        raise ModelError(f"{name}: {len(model.blocks)} blocks, expected 1: branches and loops are not supported")
    if len(model.blocks[0].ops) > _MAX_OPS:
        raise ModelError(f"{name}: {len(model.blocks[0].ops)} ops, expected at most {_MAX_OPS}")
    size_bytes = sum(param.count * (8 if param.dtype in INTEGERS else 4) for param in model.params.values())
    if size_bytes > _MAX_PARAM_BYTES:
        raise ModelError(f"{name}: {size_bytes} bytes of parameters in ONNX, expected at most {_MAX_PARAM_BYTES}")
    builder = GraphBuilder(model, name, use_integers)
    steps = []
    for index, op in enumerate(model.blocks[0].ops):
        rule = OPS.get(op.type)
        if rule is None:
            raise ModelError(
                f"{name}: op {index}: {shorten(repr(op.type))} is an unknown op",
                "report it with the model's name (converters/lite/nb/ops lists the known ops)",
            )
        steps.append(Step(builder, index, op, rule))
        steps[-1].check()
    for step in steps:
        step.note_scales()
    ops = tuple(step.run() for step in steps)
    # The columns of feed and fetch define the order at run time.
    inputs = [port for _, port in sorted(builder.inputs, key=lambda item: item[0])]
    outputs = [port for _, port in sorted(builder.outputs, key=lambda item: item[0])]
    if not inputs or not outputs:
        raise ModelError(f"{name}: {len(inputs)} inputs and {len(outputs)} outputs, expected at least 1 of each")
    graph = helper.make_graph(builder.nodes, name, inputs, outputs, builder.initializers)
    opsets = [helper.make_opsetid("", OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="edge-ocr")
    try:
        onnx.checker.check_model(made, full_check=True)
    # InferenceError is not a ValidationError.
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{name}: the graph is not valid: {reason}") from None
    return NbGraph(made, tuple(builder.tensors), ops)


def serialise_graph(model: NbModel, name: str) -> bytes:
    """Return `build_graph` as the bytes of an ONNX file, the same each time; rounded weights are integers in it.

    Raises what `build_graph` raises.
    """
    data: bytes = build_graph(model, name, use_integers=True).model.SerializeToString(deterministic=True)
    return data
