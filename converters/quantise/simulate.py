"""Simulates on the host what a `.nb` computes once weights are rounded and convolutions compute in int8.

A convolution that computes in int8 rounds its input with one scale for the whole tensor. Products and sums of int8 are
exact in the runtime, and nearly so in float32, so rounding the input in place is enough. Plain Mul, Round and Clip
nodes do it: engines turn QuantizeLinear into integer kernels of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from converters.lite.nb.read import NbModel, NbOp
from converters.lite.nb.to_onnx import NbGraph
from edge_ocr.errors import ModelError

LARGEST = 127
"""Int8 values run from -127 to 127; Paddle-Lite's kernels do not use -128."""

WEIGHT_SLOTS: Mapping[str, str] = {
    "conv2d": "Filter",
    "depthwise_conv2d": "Filter",
    "conv2d_transpose": "Filter",
    "fc": "W",
}
"""The op types that can compute in int8, and the slot of their weights."""


def find_weights(op: NbOp) -> str | None:
    """Return the name of the op's weights; None if its type cannot compute in int8."""
    names = op.inputs.get(WEIGHT_SLOTS.get(op.type, ""), ())
    return names[0] if len(names) == 1 else None


def simulate(
    graph: NbGraph,
    nb: NbModel,
    weights: Mapping[str, NDArray[np.float32]],
    biases: Mapping[str, NDArray[np.float32]],
    inputs: Mapping[str, float],
) -> onnx.ModelProto:
    """Return a copy of `graph`, built from `nb`, with other parameters and rounded inputs.

    `weights` and `biases` replace parameters by name, each in the parameter's shape. `inputs` holds, by name of the
    weights, the absmax of the input of each op that computes in int8: the input is divided by absmax / 127, rounded,
    clipped to ±127 and multiplied back. The result is not checked again, so that many variants can be made quickly.

    Raises ModelError if a name is not in the graph, a shape differs, or an absmax is not a number above 0.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    _replace(model, {**weights, **biases})
    _round_inputs(model, graph, nb, inputs)
    return model


def _replace(model: onnx.ModelProto, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, array in arrays.items():
        tensor = held.get(name)
        shape = None if tensor is None else tuple(tensor.dims)
        if tensor is None or shape != array.shape:
            raise ModelError(f"{model.graph.name}: {name!r} of shape {list(array.shape)}, expected {shape}")
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float32), name))


def _round_inputs(model: onnx.ModelProto, graph: NbGraph, nb: NbModel, inputs: Mapping[str, float]) -> None:
    if not inputs:
        return
    nodes = {node.name: node for node in model.graph.node}
    names = {name for node in model.graph.node for name in node.output}
    names |= {held.name for held in (*model.graph.initializer, *model.graph.input)}
    made: dict[tuple[str, float], str] = {}
    before: dict[str, list[onnx.NodeProto]] = {}
    missing = set(inputs)

    def claim(wanted: str) -> str:
        while wanted in names:
            wanted += "_"
        names.add(wanted)
        return wanted

    for op, parts in zip(nb.blocks[0].ops, graph.ops, strict=True):
        weights = find_weights(op)
        source = parts.inputs.get(op.inputs.get("Input", ("",))[0])
        if weights is None or weights not in inputs or source is None:
            continue
        missing.discard(weights)
        absmax = float(inputs[weights])
        if not (math.isfinite(absmax) and absmax > 0):
            raise ModelError(
                f"{model.graph.name}: the input of {weights!r} has the absmax {absmax}, expected a number above 0",
                "calibrate with pictures that show text",
            )
        if (source, absmax) not in made:
            added: list[onnx.NodeProto] = []
            made[source, absmax] = _add_rounding(model, added, source, absmax, claim)
            before[parts.nodes[0]] = added
        for node in parts.nodes:
            inner = nodes[node].input
            inner[:] = [made[source, absmax] if name == source else name for name in inner]
    if missing:
        raise ModelError(f"{model.graph.name}: no op with weights {min(missing)!r} can compute in int8")
    ordered = [one for node in model.graph.node for one in (*before.get(node.name, ()), node)]
    # Take the nodes by value: deleting the field invalidates references into it.
    kept = [node.SerializeToString() for node in ordered]
    del model.graph.node[:]
    model.graph.node.extend(map(onnx.NodeProto.FromString, kept))


def _add_rounding(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], source: str, absmax: float, claim: Callable[[str], str]
) -> str:
    """Append the nodes that round `source`; return the name of the result."""
    numbers = {"inverse": LARGEST / absmax, "scale": absmax / LARGEST, "low": -LARGEST, "high": LARGEST}
    names = {}
    for part, number in numbers.items():
        names[part] = claim(f"{source}_int8_{part}")
        model.graph.initializer.append(numpy_helper.from_array(np.array(number, dtype=np.float32), names[part]))
    for op_type, *more in (("Mul", "inverse"), ("Round",), ("Clip", "low", "high"), ("Mul", "scale")):
        out = claim(f"{source}_int8_{op_type.lower()}")
        nodes.append(helper.make_node(op_type, [source, *(names[part] for part in more)], [out], name=out))
        source = out
    return source
