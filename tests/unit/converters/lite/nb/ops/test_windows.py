"""Convolutions, pools and interpolation against an independent implementation of what Paddle-Lite computes."""

import itertools
import math

import numpy as np
import pytest
from support.nb_programs import UNIT, apply, check, convolve, draw, make_conv, make_op, run

from edge_ocr.errors import ModelError


def find_same_paddings(sizes, kernel, strides):
    """Return the paddings of padding_algorithm SAME in Lite: an odd one is at the end."""
    paddings = []
    for size, k, s in zip(sizes, kernel, strides, strict=True):
        missing = max((-(-size // s) - 1) * s + k - size, 0)
        paddings += [missing // 2, missing - missing // 2]
    return paddings


@pytest.mark.parametrize(
    ("attrs", "paddings"),
    [
        ({"paddings": (1, 2)}, (1, 1, 2, 2)),
        ({"paddings": (0, 1, 2, 3)}, (0, 1, 2, 3)),
        ({"paddings": (3, 0, 1, 0), "strides": (2, 1), "dilations": (1, 2)}, (3, 0, 1, 0)),
        ({"paddings": (4, 4), "padding_algorithm": "VALID"}, (0, 0, 0, 0)),
        ({"paddings": (1, 1), "padding_algorithm": "EXPLICIT", "groups": 2}, (1, 1, 1, 1)),
        ({}, (0, 0, 0, 0)),
    ],
)
def test_convolution(attrs, paddings):
    groups = attrs.get("groups", 1)
    x, w, b = draw(2, 4, 9, 12), draw(6, 4 // groups, 3, 2, seed=1), draw(6, seed=2)
    wanted = convolve(
        x, w, b, attrs.get("strides", (1, 1)), paddings, attrs.get("dilations", (1, 1)), attrs.get("groups", 1)
    )
    check(run(x, make_conv(**attrs), params={"w": w, "b": b}), wanted)


@pytest.mark.parametrize("size", [(7, 8), (8, 7), (5, 5)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 2), (4, 4)])
def test_convolution_with_the_size_kept(size, strides):
    x, w, b = draw(1, 2, *size), draw(3, 2, 3, 2, seed=1), draw(3, seed=2)
    op = make_conv(padding_algorithm="SAME", strides=strides, paddings=(7, 7), dilations=(2, 2))
    paddings = find_same_paddings(size, (3, 2), strides)
    # The dilation matters for the paddings.
    check(run(x, op, params={"w": w, "b": b}), convolve(x, w, b, strides, paddings))


def test_depthwise_convolution_without_a_bias():
    x, w = draw(1, 4, 6, 6), draw(4, 1, 3, 3, seed=1)
    op = make_op("depthwise_conv2d", {"Input": "x", "Filter": "w"}, {"Output": "y"}, groups=4, paddings=(1, 1))
    wanted = convolve(x, w, np.zeros(4, np.float32), paddings=(1, 1, 1, 1), groups=4)
    check(run(x, op, params={"w": w}), wanted)


def test_a_2d_bias_is_a_vector():
    x, w, b = draw(1, 2, 4, 4), draw(3, 2, 1, 1, seed=1), draw(1, 3, seed=2)
    check(run(x, make_conv(), params={"w": w, "b": b}), convolve(x, w, b[0]))


def transpose_convolve(array, weights, bias, strides, paddings, dilations=(1, 1), groups=1, extra=(0, 0)):
    """Add each input, times the kernel, to the output in its place; then cut off the paddings."""
    batch, channels, *sizes = array.shape
    outs = weights.shape[1]
    full = [
        (n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(sizes, strides, dilations, weights.shape[2:], strict=True)
    ]
    top, bottom, left, right = paddings
    # The extra rows and columns are beyond the reach of the kernels, and are zero.
    canvas = np.zeros((batch, outs * groups, full[0] + extra[0], full[1] + extra[1]))
    for c, row, column in itertools.product(range(channels), *map(range, sizes)):
        first = c // (channels // groups) * outs
        for i, j in itertools.product(*map(range, weights.shape[2:])):
            place = (slice(None), slice(first, first + outs), row * strides[0] + i * dilations[0])
            canvas[(*place, column * strides[1] + j * dilations[1])] += (
                array[:, c, row, column, None] * weights[None, c, :, i, j]
            )
    cut = canvas[:, :, top : canvas.shape[2] - bottom, left : canvas.shape[3] - right]
    return (cut + bias[:, None, None]).astype(np.float32)


@pytest.mark.parametrize(
    ("attrs", "paddings"),
    [
        ({"strides": (2, 2)}, (0, 0, 0, 0)),
        ({"strides": (2, 3), "paddings": (1, 0)}, (1, 1, 0, 0)),
        ({"strides": (2, 2), "paddings": (0, 1, 1, 0)}, (0, 1, 1, 0)),
        ({"strides": (2, 2), "paddings": (1, 1), "output_padding": (1, 0)}, (1, 1, 1, 1)),
        ({"strides": (3, 3), "output_padding": (2, 1), "output_size": ()}, (0, 0, 0, 0)),
        ({"strides": (2, 1), "dilations": (1, 2), "paddings": (1, 1)}, (1, 1, 1, 1)),
        ({"strides": (2, 2), "groups": 2, "paddings": (5, 5), "padding_algorithm": "VALID"}, (0, 0, 0, 0)),
    ],
)
def test_transposed_convolution(attrs, paddings):
    groups, extra = attrs.get("groups", 1), attrs.get("output_padding", (0, 0))
    x, w, b = draw(2, 4, 4, 5), draw(4, 3, 3, 3, seed=1), draw(3 * groups, seed=2)
    wanted = transpose_convolve(x, w, b, attrs["strides"], paddings, attrs.get("dilations", (1, 1)), groups, extra)
    check(run(x, make_conv("conv2d_transpose", **attrs), params={"w": w, "b": b}), wanted)


@pytest.mark.parametrize(
    ("attrs", "function"),
    [
        ({"with_act": True, "act_type": "relu"}, lambda x: np.maximum(x, 0)),
        ({"with_act": True, "act_type": "relu6", "fuse_brelu_threshold": 2.5}, lambda x: np.clip(x, 0, 2.5)),
        ({"with_act": True, "act_type": "relu6"}, lambda x: np.clip(x, 0, 6)),
        ({"with_act": True, "act_type": "hard_swish"}, lambda x: x * np.clip(x + 3, 0, 6) / 6),
        (
            {
                "with_act": True,
                "act_type": "hard_swish",
                "hard_swish_offset": 2.0,
                "hard_swish_threshold": 5.0,
                "hard_swish_scale": 4.0,
                # Attributes of a separate activation op do not count here.
                "offset": 9.0,
            },
            lambda x: x * np.clip(x + 2, 0, 5) / 4,
        ),
        ({"with_act": False, "act_type": "relu"}, lambda x: x),
        ({"fuse_relu": True, "act_type": "relu"}, lambda x: x),
    ],
)
@pytest.mark.parametrize("op_type", ["conv2d", "depthwise_conv2d", "conv2d_transpose"])
def test_fused_activations(op_type, attrs, function):
    if op_type == "conv2d_transpose" and attrs["act_type"] == "hard_swish":
        with pytest.raises(ModelError, match=r"'hard_swish'.*\['relu', 'relu6'\]"):
            run(draw(1, 1, 2, 2), make_conv(op_type, **attrs), params=UNIT)
        return
    x = draw(1, 1, 8, 8, low=-9, high=9)
    check(run(x, make_conv(op_type, **attrs), params=UNIT), function(x))


def pool(array, kind, ksize, strides, paddings, *, ceil=False, exclusive=True):
    """As Lite's `pooling_basic`: the window is clipped at the image's edges."""
    sizes = array.shape[2:]
    counts = [
        (size - k + before + after + (s - 1 if ceil else 0)) // s + 1
        for size, k, s, before, after in zip(sizes, ksize, strides, paddings[::2], paddings[1::2], strict=True)
    ]
    out = np.empty((*array.shape[:2], *counts), np.float32)
    for row, column in itertools.product(*map(range, counts)):
        starts = [place * s - before for place, s, before in zip((row, column), strides, paddings[::2], strict=True)]
        cut = [slice(max(start, 0), min(start + k, n)) for start, k, n in zip(starts, ksize, sizes, strict=True)]
        window = array[:, :, cut[0], cut[1]].reshape(*array.shape[:2], -1)
        if kind == "max":
            out[:, :, row, column] = window.max(2)
        else:
            out[:, :, row, column] = window.sum(2) / (window.shape[2] if exclusive else math.prod(ksize))
    return out


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize(
    ("attrs", "paddings"),
    [
        ({"ksize": (2, 2), "strides": (2, 2)}, (0, 0, 0, 0)),
        ({"ksize": (3, 2), "strides": (3, 2), "paddings": (0, 0)}, (0, 0, 0, 0)),
        ({"ksize": (3, 3), "strides": (2, 1), "paddings": (1, 1)}, (1, 1, 1, 1)),
        ({"ksize": (3, 3), "strides": (2, 2), "paddings": (1, 0, 0, 2)}, (1, 0, 0, 2)),
        ({"ksize": (3, 3), "strides": (1, 1), "paddings": (2, 2), "padding_algorithm": "VALID"}, (0, 0, 0, 0)),
        ({"ksize": (2, 2), "strides": (2, 2), "ceil_mode": True}, (0, 0, 0, 0)),
        ({"ksize": (3, 3), "strides": (2, 2), "paddings": (1, 1), "ceil_mode": True}, (1, 1, 1, 1)),
        ({"ksize": (3, 3), "strides": (2, 2), "paddings": (1, 1), "ceil_mode": False, "dilations": (2, 2)}, (1,) * 4),
    ],
)
@pytest.mark.parametrize("size", [(8, 9), (7, 6)])
def test_pooling(kind, attrs, paddings, size):
    x = draw(2, 2, *size)
    found = apply(x, "pool2d", pooling_type=kind, **attrs)
    wanted = pool(x, kind, attrs["ksize"], attrs["strides"], paddings, ceil=attrs.get("ceil_mode", False))
    check(found, wanted)


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize("size", [(8, 9), (7, 6)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 1)])
def test_pooling_with_the_size_kept(kind, size, strides):
    x = draw(1, 2, *size)
    found = apply(x, "pool2d", pooling_type=kind, ksize=(3, 2), strides=strides, padding_algorithm="SAME")
    check(found, pool(x, kind, (3, 2), strides, find_same_paddings(size, (3, 2), strides)))


def test_pooling_that_counts_the_padding():
    x = draw(1, 2, 7, 8)
    attrs = {"pooling_type": "avg", "ksize": (3, 3), "strides": (2, 2), "paddings": (1, 1)}
    wanted = pool(x, "avg", (3, 3), (2, 2), (1, 1, 1, 1), exclusive=False)
    check(apply(x, "pool2d", exclusive=False, **attrs), wanted)
    assert np.abs(apply(x, "pool2d", exclusive=True, **attrs) - wanted).max() > 0.1


@pytest.mark.parametrize("attrs", [{"global_pooling": True, "paddings": (1, 1)}, {"adaptive": True}])
def test_pooling_of_everything(attrs):
    x = draw(2, 3, 5, 6)
    for kind, function in (("avg", np.mean), ("max", np.max)):
        found = apply(x, "pool2d", pooling_type=kind, ksize=(1, 1), strides=(1, 1), **attrs)
        check(found, function(x, axis=(2, 3), keepdims=True))


@pytest.mark.parametrize("scale", [(2.0, 2.0), (3.0, 1.0), (8.0, 4.0)])
def test_nearest_interpolation(scale):
    x = draw(1, 2, 6, 8)
    found = apply(x, "nearest_interp_v2", scale=scale, align_corners=False, interp_method="nearest")
    rows, columns = (
        # In float32, as Lite computes the position.
        (np.arange(int(size * np.float32(s)), dtype=np.float32) * np.float32(1 / s)).astype(int)
        for size, s in zip(x.shape[2:], scale, strict=True)
    )
    check(found, x[:, :, rows][:, :, :, columns])
