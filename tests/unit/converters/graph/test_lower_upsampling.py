"""Nearest upsampling as copies and `pixel_shuffle`."""

import numpy as np
import pytest
from support.paddle_programs import act, build, draw
from support.random_programs import check_pass

from converters.graph.passes.lower_upsampling import lower_upsampling

ODD = draw(2, 4, 5, 7)


def resize(source, result, scale, *, kind="nearest", inputs="", **attrs):
    attrs = {"align_corners": False, "align_mode": 1, "out_d": -1, "out_h": -1, "out_w": -1, **attrs}
    attrs |= {"interp_method": kind, "scale": scale, "data_layout": attrs.get("data_layout", "NCHW")}
    return (f"{kind}_interp_v2", f"X={source}{inputs}", f"Out={result}", attrs)


def check_equal(run, program, changed, array=ODD):
    before = run(program, array)
    assert lower_upsampling(program).changed == changed
    after = run(program, array)
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])
    return [op.type for op in program.ops if op.type not in ("feed", "fetch")]


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (3, 1), (64, 33)])
@pytest.mark.parametrize("scale", [2, 4, 8, 16])
def test_a_power_of_two(run, scale, size):
    program = build([resize("x", "out", [float(scale)] * 2)], {})
    kinds = check_equal(run, program, 1, draw(2, 4, *size))
    assert kinds == ["concat", "reshape2", "pixel_shuffle"] * (1 if scale < 8 else 2)
    assert lower_upsampling(program).changed == 0


def test_readers_and_outputs_keep_their_names(run):
    ops = [act("relu", "x", "t"), resize("t", "up", [2.0, 2.0]), act("tanh", "up", "out")]
    check_equal(run, build(ops, {}, ("out", "up", "t")), 1)


@pytest.mark.parametrize(
    "attrs",
    [
        {"scale": [1.0, 1.0]},
        {"scale": [3.0, 3.0]},
        {"scale": [2.0, 4.0]},
        {"scale": [0.5, 0.5]},
        {"scale": [2.5, 2.5]},
        {"scale": [2.0]},
        {"scale": [], "out_h": 10, "out_w": 14},
        {"scale": [2.0, 2.0], "out_h": 10, "out_w": 14},
        {"scale": [2.0, 2.0], "align_corners": True},
        {"scale": [2.0, 2.0], "data_layout": "NHWC"},
        {"scale": [2.0, 2.0], "kind": "bilinear"},
        {"scale": [2.0, 2.0], "inputs": " Scale=s"},
        {"scale": [2.0, 2.0], "inputs": " OutSize=n"},
    ],
)
def test_others_stay(attrs):
    assert lower_upsampling(build([resize("x", "out", **attrs)], {"s": [4, 4], "n": [3, 3]})).changed == 0


@pytest.mark.parametrize("shape", [(-1, -1, -1, -1), (-1, 4, -1), ()])
def test_an_unknown_number_of_channels(shape):
    program = build([act("relu", "x", "t"), resize("t", "out", [2.0, 2.0])], {}, shapes={"t": shape})
    assert lower_upsampling(program).changed == 0


def draw_necks(g):
    value = g.act("x", g.rng.choice(["assign", "relu"]))
    kept = []
    for _ in range(g.rng.choice([1, 2])):
        scale = g.rng.choice([[2.0, 2.0], [4.0, 4.0], [2.0, 2.0], [8.0, 8.0], [3.0, 3.0], [2.0, 1.0], [1.0, 1.0]])
        attrs = {"align_corners": g.maybe(0.1), "align_mode": g.rng.choice([0, 1]), "interp_method": "nearest"}
        attrs |= {"scale": scale, "out_d": -1, "out_h": -1, "out_w": -1, "data_layout": "NCHW"}
        tensors = {"Scale": g.param([2.0, 2.0])} if g.maybe(0.1) else {}
        value = g.put("nearest_interp_v2", (-1, g.array.shape[1], -1, -1), X=value, **tensors, **attrs)
        kept.append(value)
        value = g.act(value, "tanh") if g.maybe(0.5) else value
    if g.maybe(0.2):
        g.outputs.append(kept[0])
    return g.finish(value, trouble=0.4)


def test_random_necks(run):
    check_pass(run, lower_upsampling, draw_necks, [(2, 4, 3, 5), (1, 2, 4, 4), (1, 1, 1, 3)], 0.4, 0.9)
