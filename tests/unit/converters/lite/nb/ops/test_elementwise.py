"""Elementwise ops and softmax against NumPy."""

import numpy as np
import pytest
from support.nb_programs import apply, check, draw, fill, make_op, pick, run

FUNCTIONS = {
    "elementwise_add": np.add,
    "elementwise_sub": np.subtract,
    "elementwise_mul": np.multiply,
    "elementwise_div": np.divide,
}


@pytest.mark.parametrize("op_type", list(FUNCTIONS))
@pytest.mark.parametrize(
    ("x_shape", "y_shape", "axis", "seen"),
    [
        ((2, 3, 4, 5), (2, 3, 4, 5), -1, (2, 3, 4, 5)),
        ((2, 3, 4, 5), (4, 5), -1, (1, 1, 4, 5)),
        ((2, 3, 4, 5), (3, 4), 1, (1, 3, 4, 1)),
        ((2, 3, 4, 5), (3,), 1, (1, 3, 1, 1)),
        ((2, 3, 4, 5), (2,), 0, (2, 1, 1, 1)),
        ((2, 3, 4, 5), (3, 1, 1), 1, (1, 3, 1, 1)),
        ((2, 3, 4, 5), (1,), -1, (1, 1, 1, 1)),
        ((2, 3, 1, 1), (2, 3, 4, 5), -1, (2, 3, 4, 5)),
        ((4, 5), (2, 3, 4, 5), -1, (2, 3, 4, 5)),
        ((3, 4), (2, 3, 4, 5), 1, (2, 3, 4, 5)),
        ((2, 3, 4, 5), (), -1, (1, 1, 1, 1)),
    ],
)
def test_elementwise(op_type, x_shape, y_shape, axis, seen):
    x, y = draw(*x_shape), draw(*y_shape, seed=1, low=1, high=2)
    found = apply(x, op_type, inputs={"Y": "p"}, params={"p": y}, axis=axis)
    x_seen = x.reshape(1, 3, 4, 1) if axis == 1 and len(x_shape) == 2 else x
    check(found, FUNCTIONS[op_type](x_seen, y.reshape(seen)))


@pytest.mark.parametrize("op_type", ["elementwise_add", "elementwise_mul", "elementwise_sub"])
@pytest.mark.parametrize(("y_shape", "axis", "seen"), [((2, 3, 4), -1, (2, 3, 4)), ((3,), 1, (1, 3, 1))])
def test_elementwise_with_a_fused_activation(op_type, y_shape, axis, seen):
    x, y = draw(2, 3, 4), draw(*y_shape, seed=1)
    attrs = {"axis": axis, "act_type": "relu"}
    found = apply(x, f"fusion_{op_type}_activation", inputs={"Y": "p"}, params={"p": y}, **attrs)
    check(found, np.maximum(FUNCTIONS[op_type](x, y.reshape(seen)), 0))


@pytest.mark.parametrize(
    ("op_type", "attrs", "function"),
    [
        ("relu", {}, lambda x: np.maximum(x, 0)),
        ("sigmoid", {}, lambda x: 1 / (1 + np.exp(-x))),
        ("hard_sigmoid", {"slope": 0.3, "offset": 0.4}, lambda x: np.clip(0.3 * x + 0.4, 0, 1)),
        ("hard_sigmoid", {}, lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
        ("hard_swish", {}, lambda x: x * np.clip(x + 3, 0, 6) / 6),
        ("hard_swish", {"offset": 1.0, "threshold": 4.0, "scale": 5.0}, lambda x: x * np.clip(x + 1, 0, 4) / 5),
        ("swish", {"beta": 1.0}, lambda x: x / (1 + np.exp(-x))),
        ("swish", {"beta": 1.7}, lambda x: x / (1 + np.exp(-1.7 * x))),
        ("swish", {"beta": -0.5}, lambda x: x / (1 + np.exp(0.5 * x))),
        ("assign", {}, lambda x: x),
    ],
)
def test_functions_of_one_tensor(op_type, attrs, function):
    x = draw(2, 50, low=-9, high=9)
    check(apply(x, op_type, **attrs), function(x))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, None])
def test_softmax(axis):
    x = draw(2, 3, 4)
    found = apply(x, "softmax", **({} if axis is None else {"axis": axis}))
    shares = np.exp(x)
    check(found, shares / shares.sum(-1 if axis is None else axis, keepdims=True))


@pytest.mark.parametrize(
    ("attrs", "function"),
    [
        ({"scale": 2.0, "bias": 0.5}, lambda x: 2 * x + 0.5),
        ({"scale": 2.0, "bias": 0.5, "bias_after_scale": True}, lambda x: 2 * x + 0.5),
        ({"scale": 2.0, "bias": 0.5, "bias_after_scale": False}, lambda x: 2 * (x + 0.5)),
        ({"scale": 3.0}, lambda x: 3 * x),
        ({"bias": 1.0, "bias_after_scale": False}, lambda x: x + 1),
        ({"scale": 0.0, "bias": 2.0}, lambda x: 0 * x + 2),
        ({"activation_type": ""}, lambda x: x),
        ({"bias": 0.5, "activation_type": "relu"}, lambda x: np.maximum(x + 0.5, 0)),
        ({"scale": 3.0, "bias": 0.5, "activation_type": "relu"}, lambda x: np.maximum(3 * x + 0.5, 0)),
        ({"scale": 3.0, "activation_type": "relu6", "alpha": 1.5}, lambda x: np.clip(3 * x, 0, 1.5)),
    ],
)
def test_scaling(attrs, function):
    x = draw(3, 4)
    check(apply(x, "scale", inputs={"ScaleTensor": ()}, **attrs), function(x))


@pytest.mark.parametrize(
    ("attrs", "wanted"),
    [
        ({"scale": 2.0, "bias": -1.0}, (3, 3)),
        ({"scale": 2.0, "bias": -1.0, "bias_after_scale": False}, (2, 4)),
        ({"scale": 1.0, "bias": 0.0}, (2, 3)),
    ],
)
def test_scaling_of_integers(attrs, wanted):
    x = draw(2, 3, 5)
    ops = [
        make_op("shape", {"Input": "x"}, {"Out": "sides"}),
        pick("sides", "two", 0) if wanted != (2, 4) else pick("sides", "two", 1),
        make_op("scale", {"X": "two"}, {"Out": "side"}, **attrs),
        fill("rest", -1),
        make_op("reshape2", {"X": "x", "ShapeTensor": ("side", "rest")}, {"Out": "y"}),
    ]
    number = {(3, 3): 3, (2, 4): 4, (2, 3): 2}[wanted]
    if number == 4:
        x = draw(2, 3, 10)
    check(run(x, *ops), x.reshape(number, -1))
