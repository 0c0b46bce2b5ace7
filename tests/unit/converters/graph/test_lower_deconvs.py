"""Transposed convolutions as 1×1 convolutions and `pixel_shuffle`."""

import numpy as np
import pytest
from support.paddle_programs import act, add, build, check_same, conv, draw
from support.random_programs import check_pass

from converters.graph.passes.lower_deconvs import lower_deconvs

ODD = draw(2, 4, 5, 7)


SHAPES = dict.fromkeys("tuv", (-1, 3, -1, -1))


def deconv(source, result, weight, **attrs):
    return conv(source, result, weight, kind="conv2d_transpose", **{"stride": 2, **attrs})


def test_one(run):
    program = build([deconv("x", "out", "w")], {"w": draw(4, 3, 2, 2)})
    assert check_same(run, lower_deconvs, program, changed=1, array=ODD) == ["conv2d", "pixel_shuffle"]
    assert lower_deconvs(program).changed == 0


def test_a_bias_and_activations_come_before_the_shuffle(run):
    ops = [deconv("x", "t", "w"), add("t", "b", "u", 1), act("relu", "u", "v"), act("sigmoid", "v", "out")]
    program = build(ops, {"w": draw(4, 3, 2, 2), "b": draw(3)}, shapes=SHAPES)
    kinds = check_same(run, lower_deconvs, program, changed=1, array=ODD)
    assert kinds == ["conv2d", "elementwise_add", "relu", "sigmoid", "pixel_shuffle"]
    # A value that is read elsewhere, or is an output, keeps its places.
    program = build(ops, {"w": draw(4, 3, 2, 2), "b": draw(3)}, ("out", "u"), shapes=SHAPES)
    kinds = check_same(run, lower_deconvs, program, changed=1, array=ODD)
    assert kinds == ["conv2d", "elementwise_add", "pixel_shuffle", "relu", "sigmoid"]


HEAD = [deconv("x", "t", "w"), add("t", "b", "u", 1), act("relu", "u", "v"), deconv("v", "y", "w2")]


@pytest.mark.parametrize("outputs", [1, 3])
def test_two_in_a_row_shuffle_once_at_the_end(run, outputs):
    params = {"w": draw(4, 3, 2, 2), "b": draw(3), "w2": draw(3, outputs, 2, 2), "b2": [0.3]}
    program = build(
        [*HEAD, add("y", "b2", "z"), act("sigmoid", "z", "out")], params, shapes={**SHAPES, "y": (-1, outputs, -1, -1)}
    )
    kinds = check_same(run, lower_deconvs, program, changed=2, array=ODD)
    lines = ["conv2d", "elementwise_add", "relu", "reshape2", "conv2d", "elementwise_add", "sigmoid"]
    assert kinds == [*lines, "reshape2", "pixel_shuffle", "pixel_shuffle"]


def test_three_in_a_row(run):
    params = {"w": draw(4, 3, 2, 2), "b": draw(3), "w2": draw(3, 3, 2, 2), "w3": draw(3, 2, 2, 2)}
    program = build([*HEAD, deconv("y", "out", "w3")], params, shapes=SHAPES)
    assert check_same(run, lower_deconvs, program, changed=3, array=ODD).count("pixel_shuffle") == 3


def test_a_picture_between_two_that_is_an_output(run):
    params = {"w": draw(4, 3, 2, 2), "b": draw(3), "w2": draw(3, 1, 2, 2)}
    kinds = check_same(run, lower_deconvs, build(HEAD, params, ("y", "v"), shapes=SHAPES), changed=2, array=ODD)
    assert kinds == ["conv2d", "elementwise_add", "relu", "pixel_shuffle", "conv2d", "pixel_shuffle"]


@pytest.mark.parametrize(
    ("size", "attrs"),
    [
        (2, {"stride": 1}),
        (3, {}),
        (2, {"pad": 1}),
        (2, {"groups": 2}),
        (2, {"dilations": [2, 2]}),
        (2, {"output_padding": [1, 1]}),
        (2, {"output_size": [11, 15]}),
        (2, {"output_size": [11, 15], "output_padding": []}),
    ],
)
def test_others_stay(run, size, attrs):
    program = build([deconv("x", "out", "w", **attrs)], {"w": draw(4, 2, size, size)})
    check_same(run, lower_deconvs, program, changed=0, array=ODD)


@pytest.mark.parametrize("attrs", [{"upscale_factor": 1}, {"upscale_factor": 2, "data_format": "NHWC"}])
def test_other_shuffles_stay_in_place(run, attrs):
    ops = [act("pixel_shuffle", "x", "t", **{"data_format": "NCHW", **attrs}), deconv("t", "out", "w")]
    channels = 4 * attrs["upscale_factor"]
    program = build(ops, {"w": draw(channels, 2, 2, 2)}, shapes={"t": (-1, channels, -1, -1)})
    kinds = check_same(run, lower_deconvs, program, changed=1, array=draw(1, 4, 4, 4))
    assert kinds == ["pixel_shuffle", "conv2d", "pixel_shuffle"]


def draw_heads(g):
    value = g.act("x", g.rng.choice(["tanh", "relu"]))
    for _ in range(g.rng.choice([1, 2, 2, 3])):
        options = g.rng.choice([{}] * 8 + [{"groups": 2}, {"pad": 1}, {"stride": 1}, {"algorithm": "SAME"}])
        options = {"size": 2, "stride": 2, "kind": "conv2d_transpose", **options}
        value = g.conv(value, g.rng.choice([2, 4]), **options)
        if g.maybe(0.6):
            vector, axis = g.vector(g.shape(value)[1])
            value = g.pair("add", value, vector, axis, swap=axis == -1 and g.maybe(0.2))
        for _ in range(g.rng.choice([0, 1, 1, 2])):
            value = g.act(value, g.rng.choice(["relu", "sigmoid", "tanh", "abs"]))
    return g.finish(value, trouble=0.4)


def test_random_heads(run):
    check_pass(run, lower_deconvs, draw_heads, [(2, 4, 3, 5), (1, 2, 4, 4), (1, 4, 3, 2)], 0.5, 0.95)


def test_rounding_is_the_only_difference(run):
    weights = np.round(draw(4, 3, 2, 2) * 4)
    program = build([deconv("x", "out", "w")], {"w": weights})
    array = np.round(ODD * 8)
    before = run(program, array)["out"]
    lower_deconvs(program)
    np.testing.assert_array_equal(run(program, array)["out"], before)
