"""Ops that move a window over height and width: convolutions, pools and interpolations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from converters.lite.nb.builder import MAX_INT, OpRule, OpShapes, Step
from converters.lite.nb.ops import integers
from converters.lite.nb.ops.elementwise import activate


@dataclass(frozen=True)
class _Window:
    """A window over height and width, in Paddle's order."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    paddings: tuple[int, ...] | None
    """Top, bottom, left, right; None if they follow from the input's size (SAME)."""

    def to_attrs(self) -> dict[str, Any]:
        """Return its attributes for an ONNX node."""
        attrs: dict[str, Any] = {"kernel_shape": self.kernel, "strides": self.strides, "dilations": self.dilations}
        if self.paddings is None:
            return {**attrs, "auto_pad": "SAME_UPPER"}
        top, bottom, left, right = self.paddings
        return {**attrs, "pads": (top, left, bottom, right)}


def _read_window(step: Step, kernel: Sequence[int]) -> _Window:
    strides = step.read_ints("strides", 2, (1, 1))
    dilations = step.read_ints("dilations", 2, (1, 1))
    paddings = step.read_ints("paddings", None, (0, 0))
    if len(paddings) == 2:
        paddings = [paddings[0], paddings[0], paddings[1], paddings[1]]
    sizes = [*kernel, *strides, *dilations]
    if (
        len(kernel) != 2
        or len(paddings) != 4
        or not all(0 < size <= MAX_INT for size in sizes)
        or not all(0 <= padding <= MAX_INT for padding in paddings)
    ):
        step.fail(
            f"kernel {list(kernel)}, strides {strides}, dilations {dilations}, paddings {paddings}, "
            "expected 2 numbers above 0 each, and 2 or 4 paddings of at least 0"
        )
    algorithm = step.op.attrs.get("padding_algorithm", "EXPLICIT")
    if algorithm == "SAME":
        # The runtime ignores dilations with SAME.
        return _Window(tuple(kernel), tuple(strides), (1, 1), None)
    if algorithm == "VALID":
        paddings = [0, 0, 0, 0]
    return _Window(tuple(kernel), tuple(strides), tuple(dilations), tuple(paddings))


def _read_activation(step: Step) -> object:
    """Return a convolution's fused activation; other attributes about it are not reliable."""
    if step.op.attrs.get("with_act") is not True:
        return ""
    return step.op.attrs.get("act_type") or step.fail("with_act is set without act_type, expected an activation")


def _read_convolution(step: Step, *, is_transposed: bool) -> tuple[list[str], _Window, dict[str, Any]]:
    """Return the node's inputs, the window, and the node's attributes."""
    step.refuse("ResidualData", "SecondInput")
    if integers.is_computed(step):
        value = step.read_int8("Input", 4)
        filter_name, shape = integers.read_integers(step, "Filter")
    else:
        value = step.read_floats("Input", 4)
        filter_name, shape = step.read_param("Filter")
    groups = step.read_int("groups", 1)
    if len(shape) != 4 or groups < 1 or shape[0] % groups:
        step.fail(
            f"a filter of shape {list(shape)} in {groups} groups, expected 4-D, the first dimension a multiple of them"
        )
    inputs = [value.name, filter_name]
    if step.has("Bias") and not integers.is_computed(step):
        inputs.append(step.read_bias(shape[1] * groups if is_transposed else shape[0]))
    window = _read_window(step, shape[2:])
    if integers.is_computed(step) and groups > 1:
        # Measured on the library: 3 × 3 with relu and no padding is wrong, and none is faster than in floats.
        step.fail(f"8-bit integers in {groups} groups, which the runtime computes wrong at some shapes")
    return inputs, window, {"group": groups, **window.to_attrs()}


def _conv2d(step: Step) -> None:
    inputs, _, attrs = _read_convolution(step, is_transposed=False)
    scale = None
    if integers.is_computed(step):
        out = integers.scale_sums(step, integers.add_sums(step, "Conv", inputs, **attrs), "Filter", 4)
        scale = integers.read_output_scale(step, "Output")
    else:
        out = step.add("Conv", inputs, **attrs)
    activate(step, out, 4, "Output", _read_activation(step), "fuse_brelu_threshold", scale)


def _conv2d_transpose(step: Step) -> None:
    inputs, window, attrs = _read_convolution(step, is_transposed=True)
    if window.paddings is None:
        step.fail("padding_algorithm is SAME, which the runtime applies to the input's size instead of the output's")
    if step.read_ints("output_size"):
        step.fail("output_size is given, expected none")
    if step.read_ints("output_padding"):
        extra = step.read_ints("output_padding", 2)
        if not all(0 <= more < stride for more, stride in zip(extra, window.strides, strict=True)):
            step.fail(f"output_padding is {extra}, expected less than the strides {list(window.strides)}")
        attrs["output_padding"] = extra
    out = step.add("ConvTranspose", inputs, **attrs)
    activate(step, out, 4, "Output", _read_activation(step), "fuse_brelu_threshold")


def _pool2d(step: Step) -> None:
    value = step.read_floats("X", 4)
    kind = step.op.attrs.get("pooling_type")
    if kind not in ("avg", "max"):
        step.fail(f"pooling_type is {kind!r}, expected avg or max")
    ksize = step.read_ints("ksize", 2)
    if step.op.attrs.get("global_pooling") is True or (step.op.attrs.get("adaptive") is True and ksize == [1, 1]):
        step.give("GlobalAveragePool" if kind == "avg" else "GlobalMaxPool", [value.name], 4)
        return
    if step.op.attrs.get("adaptive") is True:
        step.fail(f"adaptive pooling to {ksize}, expected 1 × 1")
    window = _read_window(step, ksize)
    # The runtime ignores dilations of pools.
    attrs = {name: value for name, value in window.to_attrs().items() if name != "dilations"}
    paddings = window.paddings
    if paddings is not None and any(padding >= ksize[place // 2] for place, padding in enumerate(paddings)):
        step.fail(f"paddings {list(paddings)} for a kernel of {ksize}, expected less than the kernel")
    if paddings is None and any(stride > size for stride, size in zip(window.strides, ksize, strict=True)):
        step.fail(f"padding_algorithm SAME with strides {list(window.strides)}, expected at most the kernel's {ksize}")
    if step.op.attrs.get("ceil_mode") is True:
        ends = None if paddings is None else paddings[1::2]
        if ends is None or any(p + s > k for p, s, k in zip(ends, window.strides, ksize, strict=True)):
            step.fail(
                "ceil_mode with windows that may start in the padding, which the runtime and ONNX count differently"
            )
        attrs["ceil_mode"] = 1
    if kind == "avg" and step.op.attrs.get("exclusive") is False:
        if paddings is None or paddings[::2] != paddings[1::2] or "ceil_mode" in attrs:
            step.fail("exclusive is not set and the paddings differ: the runtime and ONNX divide by different counts")
        attrs["count_include_pad"] = 1
    step.give("AveragePool" if kind == "avg" else "MaxPool", [value.name], 4, **attrs)


def _interpolate(step: Step, **attrs: Any) -> None:
    step.refuse("SizeTensor", "OutSize", "Scale")
    value = step.read_floats("X", 4)
    scales = step.op.attrs.get("scale")
    if (
        not isinstance(scales, tuple)
        or len(scales) != 2
        # ONNX and the runtime round coordinates differently for other factors.
        or not all(isinstance(scale, float) and 0 < scale < MAX_INT and scale.is_integer() for scale in scales)
    ):
        step.fail(f"scale is {scales!r}, expected 2 whole numbers above 0")
    name = step.graph.add_constant(np.array([1, 1, *scales], dtype=np.float32), f"scales_{step.index}")
    step.give("Resize", [value.name, "", name], 4, **attrs)


def _interpolate_nearest(step: Step) -> None:
    if step.op.attrs.get("align_corners") is not False:
        step.fail("align_corners is set, expected not set")
    _interpolate(step, mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric")


def _interpolate_linear(step: Step) -> None:
    places = "asymmetric" if step.read_int("align_mode", 1) == 1 else "half_pixel"
    if step.op.attrs.get("align_corners") is True:
        places = "align_corners"
    _interpolate(step, mode="linear", coordinate_transformation_mode=places)


def _count_conv(shapes: OpShapes) -> int:
    (given,), (filters,) = shapes.inputs["Input"], shapes.inputs["Filter"]
    # `_read_convolution` has checked that groups is an integer.
    groups = shapes.op.attrs.get("groups", 1)
    if filters[1] * groups != given[1]:
        shapes.fail(f"{given[1]} channels in {groups} groups for a filter of {list(filters)}")
    return math.prod(shapes.output) * math.prod(filters[1:])


def _count_conv_transpose(shapes: OpShapes) -> int:
    (given,), (filters,) = shapes.inputs["Input"], shapes.inputs["Filter"]
    if filters[0] != given[1]:
        shapes.fail(f"{given[1]} channels for a filter of {list(filters)}")
    return math.prod(given) * math.prod(filters[1:])


_CONV = OpRule(_conv2d, _count_conv, activations=("relu", "relu6", "hard_swish"), scaled_axis=(0, 4), has_int8=True)
RULES: Mapping[str, OpRule] = MappingProxyType(
    {
        "bilinear_interp_v2": OpRule(_interpolate_linear),
        "conv2d": _CONV,
        "conv2d_transpose": OpRule(_conv2d_transpose, _count_conv_transpose, activations=("relu", "relu6")),
        # Its 8-bit kernels are slower than those for floats, and wrong at some shapes.
        "depthwise_conv2d": replace(_CONV, has_int8=False),
        "nearest_interp_v2": OpRule(_interpolate_nearest),
        "pool2d": OpRule(_pool2d),
    }
)
