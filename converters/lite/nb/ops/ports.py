"""The program's inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import onnx
from onnx import TensorProto, helper

from converters.lite.nb.builder import MAX_INT, OpRule, Step, Traffic, Value
from converters.lite.nb.read import NbVar

_DTYPES = MappingProxyType({"float32": TensorProto.FLOAT})


def _make_port(name: str, variable: NbVar, shape: Sequence[int]) -> onnx.ValueInfoProto:
    free = {0: "batch", 2: "height", 3: "width"}
    dims = [free.get(place, f"side_{place}") if size == -1 else size for place, size in enumerate(shape)]
    return helper.make_tensor_value_info(name, _DTYPES[variable.dtype or ""], dims)


def _feed(step: Step) -> None:
    name = step.name_output("Out")
    variable = step.graph.source.blocks[0].vars.get(name)
    if variable is None or variable.shape is None or variable.dtype not in _DTYPES:
        step.fail(f"the input {name!r} is not a float32 tensor")
    sizes = [size for size in variable.shape if size != -1]
    if not variable.shape or not all(0 < size <= MAX_INT for size in sizes) or math.prod(sizes) > MAX_INT:
        step.fail(f"the input {name!r} has the shape {list(variable.shape)}, expected positive or free dimensions")
    claimed = step.graph.claim(name)
    step.graph.inputs.append((step.read_int("col", 0), _make_port(claimed, variable, variable.shape)))
    step.graph.values[name] = Value(claimed, len(variable.shape))
    step.outputs.append(claimed)


def _fetch(step: Step) -> None:
    value = step.read_floats("X")
    # A new name, because an output may be fetched twice or be an input.
    out = step.graph.add_node("Identity", [value.name], f"{step.list_names('X')[0]}_fetched")
    port = helper.make_tensor_value_info(out, TensorProto.FLOAT, [None] * value.rank)
    step.graph.outputs.append((step.read_int("col", 0), port))


RULES: Mapping[str, OpRule] = MappingProxyType(
    {"feed": OpRule(_feed, traffic=Traffic.NONE), "fetch": OpRule(_fetch, traffic=Traffic.NONE)}
)
