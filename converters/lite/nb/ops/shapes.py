"""Ops that move or reshape tensors, or compute shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from converters.lite.nb.builder import MAX_INT, OpRule, OpShapes, Shape, Step, Traffic

# Programs fill shapes and factors; a small file must not ask for gigabytes.
_MAX_FILLED = 65536

# VarType_.Type of INT32, INT64 and FP32. Shapes are int64 throughout the ONNX graph.
_FILL_DTYPES: Mapping[int, type[np.int64] | type[np.float32]] = MappingProxyType(
    {2: np.int64, 3: np.int64, 5: np.float32}
)


def _concat(step: Step) -> None:
    step.refuse("AxisTensor")
    values = [step.read_variable("X", name) for name in step.list_names("X")]
    if not values or len({(value.rank, value.is_int) for value in values}) != 1:
        step.fail(
            f"tensors of ranks {[value.rank for value in values]}, expected at least one, all of one rank and type"
        )
    rank, is_int = values[0].rank, values[0].is_int
    names = [value.name for value in values]
    step.give("Concat", names, rank, is_int=is_int, axis=step.read_axis("axis", rank, 0))


def _split(step: Step) -> None:
    step.refuse("AxisTensor", "SectionsTensorList")
    value = step.read("X")
    axis = step.read_axis("axis", value.rank, 0)
    count, sections = len(step.name_outputs("Out")), step.read_ints("sections")
    inputs = [value.name]
    if sections:
        if len(sections) != count or not all(0 < size <= MAX_INT for size in sections):
            step.fail(f"sections are {sections} for {count} tensors, expected as many sizes above 0")
        inputs.append(step.graph.add_ints(sections))
    elif step.read_int("num", 0) != count or not count:
        step.fail(f"num is {step.read_int('num', 0)} for {count} tensors, expected their number")
    step.give_parts("Split", inputs, value.rank, is_int=value.is_int, axis=axis)


def _list_parts(shapes: OpShapes) -> Mapping[str, Shape]:
    """Return, as one shape, what a split writes behind its first part."""
    (whole,) = shapes.inputs["X"]
    axis = next((axis for axis, size in enumerate(shapes.output) if size != whole[axis]), 0)
    return {"Out": (*whole[:axis], whole[axis] - shapes.output[axis], *whole[axis + 1 :])}


def _transpose(step: Step) -> None:
    value = step.read("X")
    order = step.read_ints("axis", value.rank)
    if not order or sorted(order) != list(range(value.rank)):
        step.fail(f"axis is {order}, expected each of 0 to {value.rank - 1} once")
    step.give("Transpose", [value.name], value.rank, is_int=value.is_int, perm=order)


def _pixel_shuffle(step: Step) -> None:
    value = step.read_floats("X", 4)
    factor = step.read_int("upscale_factor", 1)
    if not 0 < factor <= MAX_INT:
        step.fail(f"upscale_factor is {factor}, expected above 0")
    if step.op.attrs.get("data_format", "NCHW") != "NCHW":
        step.fail(f"data_format is {step.op.attrs['data_format']!r}, expected NCHW")
    # CRD: the channel is the slowest, then the row and the column of the block.
    step.give("DepthToSpace", [value.name], 4, blocksize=factor, mode="CRD")


def _reshape(step: Step) -> None:
    value = step.read("X")
    if step.has("ShapeTensor"):
        shape, rank = step.read_numbers_of("ShapeTensor"), len(step.list_names("ShapeTensor"))
    else:
        step.refuse("Shape")
        wanted = step.read_ints("shape")
        known = math.prod(size for size in wanted if size > 0)
        if (
            not wanted
            or known > MAX_INT
            or wanted.count(-1) > 1
            or any(size < -1 or (size == 0 and place >= value.rank) for place, size in enumerate(wanted))
        ):
            step.fail(f"shape is {wanted}, which does not fit a {value.rank}-D tensor")
        shape, rank = step.graph.add_ints(wanted), len(wanted)
    step.give("Reshape", [value.name, shape], rank, is_int=value.is_int)


def _flatten(step: Step) -> None:
    value = step.read("X")
    start = step.read_axis("start_axis", value.rank, 1)
    stop = step.read_axis("stop_axis", value.rank, -1)
    if start > stop:
        step.fail(f"start_axis is {start}, expected at most stop_axis {stop}")
    shape = step.graph.add_ints([0] * start + [-1])
    if stop < value.rank - 1:
        shape = step.add("Concat", [shape, step.add("Shape", [value.name], start=stop + 1)], axis=0)
    step.give("Reshape", [value.name, shape], value.rank - (stop - start), is_int=value.is_int)


def _squeeze(step: Step) -> None:
    value = step.read("X")
    axes = sorted({step.check_axis("axes", axis, value.rank) for axis in step.read_ints("axes")})
    if not 0 < len(axes) < value.rank:
        step.fail(f"axes is {axes} for a {value.rank}-D tensor, expected at least one and not all")
    step.give("Squeeze", [value.name, step.graph.add_ints(axes)], value.rank - len(axes), is_int=value.is_int)


def _unsqueeze(step: Step) -> None:
    step.refuse("AxesTensor", "AxesTensorList")
    value = step.read("X")
    axes = step.read_ints("axes")
    rank = value.rank + len(axes)
    axes = [step.check_axis("axes", axis, rank) for axis in axes]
    if not axes or axes != sorted(set(axes)):
        step.fail(f"axes is {axes}, expected at least one, in order")
    step.give("Unsqueeze", [value.name, step.graph.add_ints(axes)], rank, is_int=value.is_int)


def _shape(step: Step) -> None:
    value = step.read("Input")
    step.give("Shape", [value.name], 1, is_int=True, shape=(value.rank,))


def _slice(step: Step) -> None:
    step.refuse("StartsTensor", "EndsTensor", "StartsTensorList", "EndsTensorList")
    value = step.read("Input")
    axes, starts, ends = (step.read_ints(name) for name in ("axes", "starts", "ends"))
    if not 0 < len(axes) == len(starts) == len(ends):
        step.fail(f"axes {axes}, starts {starts}, ends {ends}, expected equal counts")
    axes = [step.check_axis("axes", axis, value.rank) for axis in axes]
    dropped = sorted({step.check_axis("decrease_axis", axis, value.rank) for axis in step.read_ints("decrease_axis")})
    # -1 to 0 means the last place if the start was unknown when the model was saved.
    flags = step.read_ints("infer_flags", None, (1,) * len(axes))
    for place, (axis, flag) in enumerate(zip(axes, flags, strict=False)):
        if flag == -1 and (starts[place], ends[place]) == (-1, 0) and axis in dropped:
            ends[place] = MAX_INT
    if len(set(axes)) < len(axes) or any(
        end <= start if (start < 0) == (end < 0) else end == 0 for start, end in zip(starts, ends, strict=True)
    ):
        step.fail(f"axes {axes}, starts {starts}, ends {ends} select nothing or repeat an axis")
    bounds = [step.graph.add_ints(numbers) for numbers in (starts, ends, axes)]
    # Lite has no 0-D tensors: a single number stays a vector.
    shape = (1,) if len(dropped) == value.rank else None
    dropped = dropped[: value.rank - 1]
    if not dropped:
        step.give("Slice", [value.name, *bounds], value.rank, is_int=value.is_int, shape=shape)
        return
    picked = step.add("Slice", [value.name, *bounds])
    rank = value.rank - len(dropped)
    step.give("Squeeze", [picked, step.graph.add_ints(dropped)], rank, is_int=value.is_int, shape=shape)


def _fill_constant(step: Step) -> None:
    step.refuse("ShapeTensor", "ShapeTensorList", "ValueTensor")
    shape = step.read_ints("shape", None, (1,))
    # The runtime ignores str_value, which has the same number as text.
    value = step.read_number("value", 0.0)
    dtype = _FILL_DTYPES.get(step.read_int("dtype", 5))
    if dtype is None or not shape or any(not 0 < size <= _MAX_FILLED for size in shape):
        step.fail(
            f"dtype {step.op.attrs.get('dtype')!r} and shape {shape}, expected int32, int64 or float32, sizes above 0"
        )
    step.graph.filled += math.prod(shape)
    if step.graph.filled > _MAX_FILLED:
        step.fail(
            f"shape {shape} makes {step.graph.filled} filled numbers in the model, expected at most {_MAX_FILLED}"
        )
    if dtype is np.int64 and not (value.is_integer() and abs(value) <= MAX_INT):
        step.fail(f"value is {value}, expected a 32-bit integer")
    variable = step.name_output("Out")
    name = step.graph.add_constant(np.full(shape, value, dtype=dtype), variable)
    step.write("Out", name, len(shape), is_int=dtype is np.int64, shape=tuple(shape))


RULES: Mapping[str, OpRule] = MappingProxyType(
    {
        "concat": OpRule(_concat),
        "fill_constant": OpRule(_fill_constant),
        "flatten_contiguous_range": OpRule(_flatten, traffic=Traffic.VIEW),
        "pixel_shuffle": OpRule(_pixel_shuffle),
        "reshape2": OpRule(_reshape, traffic=Traffic.VIEW),
        "shape": OpRule(_shape, traffic=Traffic.OUTPUT),
        "slice": OpRule(_slice, traffic=Traffic.PART),
        "split": OpRule(_split, list_statistics=_list_parts),
        "squeeze2": OpRule(_squeeze, traffic=Traffic.VIEW),
        "transpose2": OpRule(_transpose),
        "unsqueeze2": OpRule(_unsqueeze, traffic=Traffic.VIEW),
    }
)
