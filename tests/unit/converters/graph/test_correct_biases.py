"""Biases that make up for rounded weights."""

import numpy as np
import pytest
from support.paddle_programs import act, add, build, conv, draw

from converters.graph.passes.correct_biases import correct_biases, round_weights

# Positive on average, as behind an activation.
X = np.abs(draw(4, 4, 8, 8, seed=3)) + 0.2
MEANS = X.mean(axis=(0, 2, 3), dtype=np.float64)


def round_all(program):
    for name, value in list(program.params.items()):
        if value.ndim > 1:
            program.set_param(name, round_weights(value, 0 if value.ndim == 4 else 1).astype(np.float32))


def measure_shift(run, make, means):
    """Return the mean difference of each output channel between the program and its rounded form."""
    wanted = run(make(), X)["out"]
    program = make()
    report = correct_biases(program, means)
    round_all(program)
    found = run(program, X)["out"]
    axes = (0, 2, 3) if found.shape[1] == 6 else (0, 1, 2)
    return report.changed, np.abs((found - wanted).mean(axis=axes)), np.abs(found - wanted).mean()


def make_conv(bias=True):
    ops = [conv("x", "t" if bias else "out", "w")]
    ops += [add("t", "b", "out", axis=1)] if bias else []
    return build(ops, {"w": draw(6, 4, 1, 1), **({"b": draw(6, seed=2)} if bias else {})})


def make_rows():
    ops = [
        ("transpose2", "X=x", "Out=r", {"axis": [0, 2, 3, 1]}),
        ("matmul_v2", "X=r Y=w", "Out=t", {"trans_x": False, "trans_y": False}),
        add("t", "b", "out"),
    ]
    shapes = {"r": (-1, -1, -1, 4), "t": (-1, -1, -1, 6)}
    return build(ops, {"w": draw(4, 6), "b": draw(6, seed=2)}, shapes=shapes)


@pytest.mark.parametrize("make", [make_conv, lambda: make_conv(bias=False), make_rows], ids=["conv", "bare", "rows"])
def test_the_mean_output_stays(run, make):
    without = measure_shift(run, make, {})
    corrected = measure_shift(run, make, {"w": MEANS})
    assert (without[0], corrected[0]) == (0, 1)
    assert without[1].max() > 1e-3
    assert corrected[1].max() < 1e-5
    assert corrected[2] < without[2]
    # The wrong means would be seen.
    assert measure_shift(run, make, {"w": -MEANS})[1].max() > without[1].max()


def test_rounding_is_that_of_opt():
    value = np.float32([[1.27, 0.0051, -0.0051, -0.0149], [0, 0, 0, 0]]).reshape(2, 4, 1, 1)
    rounded = round_weights(value, 0).reshape(2, 4)
    np.testing.assert_allclose(rounded, [[1.27, 0.01, -0.01, -0.01], [0, 0, 0, 0]], atol=1e-6)
    np.testing.assert_array_equal(round_weights(value.reshape(2, 4).T, 1).T, rounded)


@pytest.mark.parametrize(
    ("ops", "params", "shapes"),
    [
        # opt does not round these.
        ([conv("x", "out", "w", kind="depthwise_conv2d", groups=4)], {"w": draw(4, 1, 3, 3)}, {}),
        ([conv("x", "out", "w", kind="conv2d_transpose")], {"w": draw(4, 4, 2, 2)}, {}),
        # Weights that another op reads, groups, and means of another layer.
        ([conv("x", "t", "w"), conv("t", "out", "w")], {"w": draw(4, 4, 1, 1)}, {}),
        ([conv("x", "out", "w", groups=2)], {"w": draw(4, 2, 1, 1)}, {}),
        ([act("relu", "x", "t"), conv("t", "out", "w")], {"w": draw(4, 3, 1, 1)}, {}),
        # No bias, or one that is read again.
        ([("matmul_v2", "X=x Y=w", "Out=out", {})], {"w": draw(4, 4)}, {}),
        (
            [("matmul_v2", "X=x Y=w", "Out=t", {}), add("t", "b", "u"), add("u", "b", "out")],
            {"w": draw(4, 4), "b": draw(4)},
            {},
        ),
        (
            [("matmul_v2", "X=x Y=w", "Out=t", {"trans_y": True}), add("t", "b", "out")],
            {"w": draw(4, 4), "b": draw(4)},
            {},
        ),
    ],
)
def test_layers_without_a_correction_stay(ops, params, shapes):
    program = build(ops, params, shapes=shapes)
    before = program.to_bytes()
    assert correct_biases(program, {"w": MEANS}).changed == 0
    assert program.to_bytes() == before
