"""Products of matrices, normalisations and means against NumPy."""

import numpy as np
import pytest
from support.nb_programs import apply, check, draw, make_op, run


@pytest.mark.parametrize("has_bias", [True, False])
def test_layer_norm(has_bias):
    x, scale, bias = draw(2, 3, 8), draw(8, seed=1), draw(8, seed=2)
    op = make_op(
        "layer_norm",
        {"X": "x", "Scale": "scale", "Bias": ("bias",) if has_bias else ()},
        {"Y": "y", "Mean": "mean", "Variance": "variance"},
        begin_norm_axis=2,
        epsilon=0.01,
    )
    wanted = (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 0.01) * scale + has_bias * bias
    check(run(x, op, params={"scale": scale, "bias": bias}), wanted)


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 4, 5)])
@pytest.mark.parametrize("slot", ["", "s", "b", "m", "v"])
def test_batch_norm(shape, slot):
    x = draw(*shape)
    params = {name: draw(3, seed=seed, low=0.5) for seed, name in enumerate("sbmv", 1)}
    scale, bias, mean, variance = (value.reshape(3, *[1] * (len(shape) - 2)) for value in params.values())
    wanted = (x - mean) / np.sqrt(variance + 0.01) * scale + bias
    if slot:
        params[slot] = params[slot] * np.float32([1, 1, 1.01])
    op = make_op(
        "batch_norm",
        {"X": "x", "Scale": "s", "Bias": "b", "Mean": "m", "Variance": "v"},
        {"Y": "y", "MeanOut": "m", "VarianceOut": "v", "SavedMean": "sm", "SavedVariance": "sv"},
        is_test=True,
        epsilon=0.01,
    )
    difference = np.abs(run(x, op, params=params) - wanted).max(axis=(0, *range(2, x.ndim)))
    # Exactly the channel whose number was changed.
    assert (difference > 1e-3).tolist() == [False, False, bool(slot)]
    assert difference[:2].max() < 1e-5


@pytest.mark.parametrize(("axes", "keep"), [((2, 3), True), ((2,), False), ((1, 2), True), ((0,), False)])
def test_mean(axes, keep):
    x = draw(2, 3, 4, 5)
    check(apply(x, "reduce_mean", dim=axes, keep_dim=keep), x.mean(axis=axes, keepdims=keep))


@pytest.mark.parametrize(
    ("shape", "attrs", "rows"),
    [
        ((4, 6), {"in_num_col_dims": 1}, (4,)),
        ((4, 2, 3), {"in_num_col_dims": 1, "op_type": "mul"}, (4,)),
        ((4, 2, 3), {}, (4,)),
        ((2, 4, 3, 2), {"in_num_col_dims": 2}, (2, 4)),
        # For a former matmul, the first one is always set, and is ignored.
        ((2, 4, 6), {"in_num_col_dims": 1, "op_type": "matmul_v2"}, (2, 4)),
        ((2, 4, 6), {"in_num_col_dims": 1, "op_type": "matmul"}, (2, 4)),
    ],
)
def test_fully_connected(shape, attrs, rows):
    x, w, b = draw(*shape), draw(6, 5, seed=1), draw(5, seed=2)
    op = make_op("fc", {"Input": "x", "W": "w", "Bias": "b"}, {"Out": "y"}, **attrs)
    check(run(x, op, params={"w": w, "b": b}), x.reshape(*rows, 6) @ w + b)


def test_fully_connected_without_a_bias():
    x, w = draw(3, 6), draw(6, 5, seed=1)
    check(apply(x, "fc", slot="Input", inputs={"W": "w", "Bias": ()}, params={"w": w}), x @ w)


@pytest.mark.parametrize(
    ("attrs", "function"),
    [
        ({"activation_type": "relu"}, lambda x: np.maximum(x, 0)),
        ({"activation_type": "relu6", "alpha": 1.5, "fuse_brelu_threshold": 9.0}, lambda x: np.clip(x, 0, 1.5)),
        ({"activation_type": ""}, lambda x: x),
    ],
)
def test_activations_of_fully_connected(attrs, function):
    x, w, b = draw(3, 6), draw(6, 5, seed=1), draw(1, 5, seed=2)
    found = apply(x, "fc", slot="Input", inputs={"W": "w", "Bias": "b"}, params={"w": w, "b": b}, **attrs)
    check(found, function(x @ w + b))


@pytest.mark.parametrize(
    ("x_shape", "y_shape", "attrs"),
    [
        ((3, 4), (4, 5), {}),
        ((2, 3, 4), (2, 4, 5), {"trans_x": False, "trans_y": False, "alpha": 1.0}),
        ((2, 4, 3), (2, 4, 5), {"trans_x": True}),
        ((2, 6, 3, 4), (2, 6, 5, 4), {"trans_y": True, "alpha": 0.25}),
        ((4, 3), (5, 4), {"trans_x": True, "trans_y": True, "alpha": -2.0}),
        ((2, 3, 4), (4, 5), {}),
        ((3, 4), (2, 4, 5), {}),
    ],
)
def test_matrix_product(x_shape, y_shape, attrs):
    x, y = draw(*x_shape), draw(*y_shape, seed=1)
    found = apply(x, "matmul_v2", inputs={"Y": "p"}, params={"p": y}, **attrs)
    left = np.swapaxes(x, -1, -2) if attrs.get("trans_x") else x
    right = np.swapaxes(y, -1, -2) if attrs.get("trans_y") else y
    check(found, attrs.get("alpha", 1.0) * (left @ right))
