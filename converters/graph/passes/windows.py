"""Reads and inserts convolutions, for the passes that give them the forms that Paddle-Lite has fast ARM kernels for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converters.graph.passes.affine import find_bias, is_conv
from converters.sources.program import Op, Program, get_attr, get_input, get_output, set_attr

Filters = NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """A plain convolution over N×C×H×W that is not transposed, without dilation."""

    op: Op
    source: str
    result: str
    filters: Filters
    strides: tuple[int, int]
    paddings: tuple[int, int, int, int]
    """Top, bottom, left, right."""
    groups: int

    @property
    def is_depthwise(self) -> bool:
        """Return whether each channel has one filter of its own."""
        return self.groups == len(self.filters) > 1 and self.filters.shape[1] == 1


def read_window(program: Program, op: Op) -> Window | None:
    """Return what a convolution computes; None if it is of another kind."""
    if op.type not in ("conv2d", "depthwise_conv2d") or not is_conv(program, op):
        return None
    source, result = get_input(op, "Input"), get_output(op, "Output")
    strides = get_attr(op, "strides", [1, 1])
    paddings = get_attr(op, "paddings", [0, 0])
    algorithm = get_attr(op, "padding_algorithm", "EXPLICIT")
    if algorithm == "VALID":
        paddings = [0, 0, 0, 0]
    elif algorithm != "EXPLICIT" or len(paddings) not in (2, 4):
        return None
    if len(paddings) == 2:
        paddings = [paddings[0], paddings[0], paddings[1], paddings[1]]
    if source is None or result is None or len(strides) != 2 or get_attr(op, "dilations", [1, 1]) != [1, 1]:
        return None
    # Larger paddings would be those of a damaged file.
    if program.find_writer(source) is None or min(strides) < 1 or not 0 <= min(paddings) <= max(paddings) <= 64:
        return None
    top, bottom, left, right = paddings
    filters = program.params[get_input(op, "Filter") or ""]
    groups = max(int(get_attr(op, "groups", 1)), 1)
    return Window(op, source, result, filters, (strides[0], strides[1]), (top, bottom, left, right), groups)


def reads_paddings(size: int, strides: Sequence[int], paddings: Sequence[int]) -> bool:
    """Return whether Paddle-Lite's kernel for a depthwise convolution of `size` × `size` reads these paddings right.

    Its 3 × 3 kernels with equal paddings of 0 or 1 at the top and the left do not, for narrow pictures, if more is
    missing at the bottom (stride 2) or less at the right (stride 1). Found by comparing all paddings of 0 and 1, widths
    of 3 to 40 and heights of 3 to 6 on the library v2.13-rc for armv8.
    """
    top, bottom, left, right = paddings
    if size != 3 or top != left or max(paddings) > 1:
        return True
    return right >= left if list(strides) == [1, 1] else bottom <= top


def insert_conv(
    program: Program,
    after: Op,
    source: str,
    result: str,
    filters: Filters,
    *,
    groups: int,
    strides: Sequence[int] = (1, 1),
    paddings: Sequence[int] = (0, 0, 0, 0),
) -> Op:
    """Insert a convolution of `source` after an op; `paddings` are top, bottom, left and right."""
    name = program.make_name(f"{result}.filter")
    program.set_param(name, filters)
    attrs = {
        "strides": list(strides),
        "paddings": list(paddings),
        "dilations": [1, 1],
        "groups": groups,
        "padding_algorithm": "EXPLICIT",
        "data_format": "NCHW",
    }
    op_type = "depthwise_conv2d" if groups == len(filters) > 1 else "conv2d"
    return program.insert_op(after, op_type, {"Input": source, "Filter": name}, {"Output": result}, attrs)


def write_window(
    program: Program,
    window: Window,
    filters: Filters,
    *,
    strides: Sequence[int] = (1, 1),
    paddings: Sequence[int] = (0, 0, 0, 0),
) -> None:
    """Change a convolution's filters, strides and paddings."""
    program.set_param(get_input(window.op, "Filter") or "", filters)
    set_attr(window.op, "strides", list(strides))
    set_attr(window.op, "paddings", list(paddings))
    set_attr(window.op, "padding_algorithm", "EXPLICIT")


def take_result(program: Program, window: Window, shape: Sequence[int]) -> tuple[Op, str, str]:
    """Let a convolution, or the addition of its bias, write to a new tensor of this shape.

    Returns the op that writes it, the name of its former result, which nothing writes now, and the new tensor.
    """
    bias = find_bias(program, window.op)
    op, slot, result = (window.op, "Output", window.result) if bias is None else (bias.op, "Out", bias.result)
    taken = make_tensor(program, f"{result}.taken", shape)
    program.set_output(op, slot, taken)
    if bias is not None:
        program.set_shape(window.result, tuple(shape))
    return op, result, taken


def make_tensor(program: Program, stem: str, shape: Sequence[int]) -> str:
    """Declare a new tensor and return its name."""
    name = program.make_name(stem)
    program.set_shape(name, tuple(shape))
    return name
