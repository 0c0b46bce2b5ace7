"""The passes that write ops in the forms of fast ARM kernels, on random graphs: Paddle computes the same."""

from __future__ import annotations

import pytest
from support.random_programs import check_pass

from converters.graph.passes.fit_kernels import fit_kernels
from converters.graph.passes.lower_pools import lower_pools
from converters.graph.passes.widen_numbers import widen_numbers


def draw_numbers(g):
    value = "x"
    for _ in range(3):
        kind = g.rng.choice(["add", "mul", "sub", "act"])
        if kind == "act":
            value = g.act(value, g.rng.choice(["relu", "tanh"]))
        else:
            number, axis = (g.number(0.3), -1) if g.maybe(0.4) else g.vector(g.shape(value)[1])
            value = g.pair(kind, value, number, axis, swap=g.maybe(0.2) and axis == -1)
    return g.finish(value)


def draw_pools(g):
    value = g.act("x", g.rng.choice(["relu", "relu", "sigmoid", "tanh", "hard_swish"]))
    sides = (-1, g.shape(value)[1], -1, -1)
    if g.maybe(0.3):
        dim = g.rng.choice([[2, 3], [-1, -2], [3, 2], [1], [3]])
        keep = g.maybe(0.8)
        shape = [side for place, side in enumerate((-1, sides[1], 1, 1)) if keep or place not in (2, 3)]
        return g.finish(g.put("reduce_mean", shape, X=value, dim=dim, keep_dim=keep, reduce_all=g.maybe(0.1)))
    if g.maybe(0.5):
        attrs = {"pooling_type": "max", "ksize": [2, 2], "strides": [1, 1], "paddings": [0, 1, 0, 1]}
        if g.maybe(0.3):
            attrs |= g.rng.choice([{"paddings": [1, 0, 0, 1]}, {"strides": [1, 2]}, {"ksize": [3, 2]}])
    else:
        ksize, strides = ([g.rng.choice([1, 2, 3]) for _ in "hw"] for _ in "ks")
        paddings = g.rng.choice([[0, 0], [0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]) if min(ksize) > 1 else [0, 0]
        attrs = {"pooling_type": g.rng.choice(["avg", "avg", "max"]), "ksize": ksize, "strides": strides}
        attrs |= {"paddings": paddings}
    rest = {"exclusive": g.maybe(0.7), "adaptive": False, "global_pooling": g.maybe(0.1), "ceil_mode": g.maybe(0.1)}
    algorithm = g.rng.choice(["EXPLICIT"] * 6 + ["VALID", "SAME"])
    pooled = g.put("pool2d", sides, X=value, padding_algorithm=algorithm, data_format="NCHW", **attrs, **rest)
    return g.finish(g.act(pooled, "tanh"))


def draw_windows(g):
    value = g.act("x", "relu")
    shape = g.shape(value)
    channels, height = shape[1], shape[2]
    is_depthwise = g.maybe(0.8)
    if g.maybe(0.5):
        size = [g.rng.choice([3, 5, 7])] * 2
        strides, pads = g.rng.choice([[1, 1], [2, 1], [1, 2], [2, 2]]), [size[0] // 2] * 4
    else:
        size = [g.rng.choice([1, 2, 3, 5, 7]) for _ in "hw"]
        strides, pads = [1, 1], [g.rng.choice([0, 1, 2, 3]) for _ in "tblr"]
        if not is_depthwise:
            size, pads = [2, 2], g.rng.choice([[0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    if any(
        side + before + after < taps
        for side, before, after, taps in zip(shape[2:], pads[::2], pads[1::2], size, strict=True)
    ):
        pads = [3] * 4
    groups = channels if is_depthwise else 1
    attrs = {"strides": strides, "dilations": [1, 1], "groups": groups, "data_format": "NCHW"}
    attrs |= {"paddings": pads, "padding_algorithm": g.rng.choice(["EXPLICIT"] * 8 + ["VALID", "SAME"])}
    if attrs["padding_algorithm"] == "VALID" and any(a < b for a, b in zip(shape[2:], size, strict=True)):
        attrs["padding_algorithm"] = "EXPLICIT"
    filters = g.param(g.draw(channels, 1 if is_depthwise else channels, *size))
    kind = "depthwise_conv2d" if is_depthwise and g.maybe(0.8) else "conv2d"
    sides = (-1, channels, height if strides == [1, 1] and pads == [1] * 4 else -1, -1)
    value = g.put(kind, sides, slot="Output", Input=value, Filter=filters, **attrs)
    if g.maybe(0.6):
        bias, axis = g.vector(channels)
        value = g.pair("add", value, bias, axis)
    return g.finish(g.act(value, g.rng.choice(["relu", "hard_swish"])), trouble=0.3)


LINES = [(2, 4, 12, 9), (1, 3, 6, 8), (2, 4, 7, 5), (1, 1, 6, 6)]
# As in test_passes_properties.
PASSES = {
    widen_numbers: (draw_numbers, [(2, 4, 4, 5), (1, 3, 1, 7), (2, 1, 4, 4)], 0.2, 0.8),
    lower_pools: (draw_pools, [(2, 4, 6, 7), (1, 3, 3, 8), (2, 1, 5, 4)], 0.15, 0.85),
    fit_kernels: (draw_windows, LINES, 0.15, 0.85),
}


@pytest.mark.parametrize("apply", PASSES, ids=lambda apply: apply.__name__)
def test_a_pass_keeps_what_a_graph_computes(run, apply):
    check_pass(run, apply, *PASSES[apply])
