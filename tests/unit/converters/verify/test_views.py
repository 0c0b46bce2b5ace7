"""What passes make of a tensor by moving its numbers, against Paddle's definitions."""

import numpy as np
import pytest
from support.paddle_programs import act, add, build, conv, draw

from converters.verify.views import list_views


def read_views(program, **values):
    return {(name, label): view(values[name]) for name, label, view in list_views(program, values)}


def shuffle(packed, factor):
    batch, _, height, width = packed.shape
    split = packed.reshape(batch, -1, factor, factor, height, width).transpose(0, 1, 4, 2, 5, 3)
    return split.reshape(batch, -1, factor * height, factor * width)


def test_blocks_of_the_results_of_transposed_convolutions():
    deconv = {"kind": "conv2d_transpose", "stride": 2}
    ops = [conv("x", "t", "w", **deconv), add("t", "b", "u", 1), act("relu", "u", "v"), conv("v", "out", "w", **deconv)]
    program = build(ops, {"w": draw(4, 4, 2, 2), "b": draw(4)})
    small, large = draw(2, 4, 6, 10), draw(2, 4, 12, 20)
    views = read_views(program, x=draw(2, 4, 3, 5), t=small, u=small, v=small, out=large)
    assert [name for name, label in views if label == "in blocks 1"] == ["t", "u", "v", "out"]
    np.testing.assert_array_equal(shuffle(views["v", "in blocks 1"], 2), small)
    np.testing.assert_array_equal(shuffle(shuffle(views["out", "in blocks 2"], 2), 2), large)
    assert [name for name, label in views if label == "in blocks 2"] == ["out"]
    rows = views["out", "in rows of blocks 2"]
    assert rows.shape == (2, 16, 12, 5)
    np.testing.assert_array_equal(rows.reshape(2, 64, 3, 5), views["out", "in blocks 2"])


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_copies_for_upsampling(factor):
    program = build([act("nearest_interp_v2", "x", "out", scale=[float(factor)] * 2)], {})
    x, out = draw(2, 3, 2, 5), draw(2, 3, 2 * factor, 5 * factor)
    views = read_views(program, x=x, out=out)
    last = list(views)[-1][1]
    step = 2 if factor == 2 else 4
    np.testing.assert_array_equal(shuffle(views["x", last], step), x.repeat(factor, 2).repeat(factor, 3))
    copies = views["x", last.replace("channels each", "copies")]
    np.testing.assert_array_equal(copies.reshape(views["x", last].shape), views["x", last])


def test_parts_of_a_product():
    cut = ("slice", "Input=t", "Out=q", {"axes": [0], "starts": [0], "ends": [1], "decrease_axis": [0]})
    q = draw(2, 3, 7, 5)
    views = read_views(build([cut], {}, ("q",)), t=draw(3, 2, 3, 7, 5), q=q)
    places, joint = views["q", "places first"], views["q", "in one line a place"]
    np.testing.assert_array_equal(places.transpose(0, 2, 1, 3), q)
    np.testing.assert_array_equal(joint, places.reshape(2, 7, 15))


def test_others_have_none():
    ops = [conv("x", "t", "w", kind="conv2d_transpose"), act("relu", "t", "u")]
    ops.append(act("nearest_interp_v2", "u", "out", scale=[3.0, 3.0]))
    values = dict.fromkeys(("x", "t", "u", "out"), draw(1, 4, 4, 4))
    assert not read_views(build(ops, {"w": draw(4, 4, 2, 2)}), **values)
