"""Which layers are tried in int8, and the scales of their inputs."""

import numpy as np
import pytest
from support.nb_programs import build_model, draw, feed, fetch, make_op

from converters.lite.nb.cost import compute_cost
from converters.quantise.scales import Candidate, choose_input_absmax, list_candidates, order_candidates


def count(values, span, bins=1000):
    return np.histogram(np.abs(values), bins, (0, span))[0]


def test_without_outliers_nothing_is_clipped():
    values = np.linspace(-3, 3, 10_001)
    assert choose_input_absmax(count(values, 4), 4.0) == pytest.approx(3.0, abs=0.005)


def test_rare_outliers_are_clipped():
    values = np.concatenate([np.linspace(-3, 3, 1_000_000), [50.0] * 50])
    assert choose_input_absmax(count(values, 64, 6400), 64.0) == pytest.approx(3.0, abs=0.02)


def test_common_ones_are_not():
    values = np.concatenate([np.linspace(-3, 3, 1_000_000), [50.0] * 500])
    assert choose_input_absmax(count(values, 64, 6400), 64.0) == pytest.approx(50.0, abs=0.02)


def test_zeros_alone_give_no_scale():
    for histogram in (count(np.zeros(100), 1.0), np.zeros(10, dtype=np.int64), np.zeros(0, dtype=np.int64)):
        with pytest.raises(ValueError, match="first bin"):
            choose_input_absmax(histogram, 1.0)


def conv(given, weights, out, /, op_type="conv2d", groups=1, pad=0, stride=1):
    attrs = {"strides": (stride, stride), "paddings": (pad,) * 4, "dilations": (1, 1), "groups": groups}
    return make_op(op_type, {"Input": given, "Filter": weights}, {"Output": out}, **attrs)


def test_candidates():
    shapes = {
        "first": (32, 3, 1, 1), "depthwise": (32, 1, 3, 3), "pointwise": (32, 32, 1, 1), "narrow": (32, 8, 1, 1),
        "to_narrow": (8, 32, 1, 1), "square": (32, 32, 3, 3), "wide": (32, 32, 1, 3), "shared": (32, 32, 1, 1),
        "deconv": (32, 64, 1, 1), "one_pixel": (64, 64, 1, 1), "rows": (64, 40),
        "half": (32, 32, 3, 3),
    }  # fmt: skip
    nb = build_model(
        [
            feed("x"),
            conv("x", "first", "a"),
            conv("a", "depthwise", "b", "depthwise_conv2d", 32, 1),
            conv("b", "pointwise", "c"),
            conv("c", "to_narrow", "d"),
            conv("d", "narrow", "e"),
            conv("e", "square", "f", pad=1),
            conv("f", "wide", "g"),
            conv("g", "shared", "h"),
            conv("h", "shared", "i"),
            conv("i", "half", "ii", pad=1, stride=2),
            conv("ii", "deconv", "j", "conv2d_transpose"),
            make_op("pool2d", {"X": "j"}, {"Out": "k"}, pooling_type="avg", ksize=(1, 1), global_pooling=True),
            conv("k", "one_pixel", "l"),
            make_op("transpose2", {"X": "l"}, {"Out": "m"}, axis=(0, 2, 3, 1)),
            make_op("fc", {"Input": "m", "W": "rows", "Bias": "bias"}, {"Out": "y"}, op_type="matmul_v2"),
            fetch("y"),
        ],
        {"x": (-1, 3, -1, -1)},
        {**{name: draw(*shape) for name, shape in shapes.items()}, "bias": draw(40)},
    )
    large, small = (list_candidates(nb, compute_cost(nb, {"x": (1, 3, side, side)})) for side in (40, 20))
    assert [one.weights for one in large] == ["pointwise", "square", "half", "rows"]
    assert [one.index for one in large] == [3, 6, 10, 15]
    # 3 x 3 filters do not pay on small pictures.
    assert [one.weights for one in small] == ["pointwise", "half", "rows"]
    # 40 x 40 pixels, 32 x 32 products each.
    assert large[0].gain == pytest.approx(1600 * (0.218 * 32 * 32 - 1.45 * 32 - 2 * 32))


def test_the_most_gain_for_the_least_error_comes_first():
    candidates = [Candidate("a", 1, 10.0), Candidate("b", 2, 40.0), Candidate("c", 3, 90.0), Candidate("d", 4, 10.0)]
    errors = {"a": 0.1, "b": 0.1, "c": 0.4, "d": 0.0}
    assert [one.weights for one in order_candidates(candidates, errors)] == ["d", "b", "a", "c"]
