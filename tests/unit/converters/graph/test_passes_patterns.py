"""Passes on operators that ONNX exporters decompose."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support.onnx_models import BN, ROW, ROWS, X, f32, i64, make, run_onnx, run_paddle, weights

from converters.graph.passes import run_passes
from converters.sources.onnx import import_onnx


def gelu_nodes(order, divide):
    """Return x·½·(1 + erf(x / √2)) with factors and terms in various orders."""
    scale = ("Div", ("x", "root"), "q", {}) if divide else ("Mul", ("inverse", "x"), "q", {})
    nodes = [scale, ("Erf", ("q",), "e", {}), ("Add", ("e", "one") if order % 2 else ("one", "e"), "t", {})]
    ends = [
        [("Mul", ("x", "t"), "p", {}), ("Mul", ("p", "half"), "y", {})],
        [("Mul", ("half", "x"), "p", {}), ("Mul", ("p", "t"), "y", {})],
        [("Mul", ("t", "half"), "p", {}), ("Mul", ("x", "p"), "y", {})],
    ]
    return nodes + ends[order]


GELU = {"root": np.float32(np.sqrt(2)), "inverse": np.float32(np.sqrt(0.5)), "one": f32(1), "half": np.float32(0.5)}
SWISH = [("Sigmoid", ("x",), "s", {}), ("Mul", ("x", "s"), "y", {})]
HARD = [("HardSigmoid", ("x",), "s", {"alpha": 1 / 6, "beta": 0.5}), ("Mul", ("s", "x"), "y", {})]
CLIPPED = [
    ("Add", ("x", "three"), "a", {}),
    ("Clip", ("a", "zero", "six"), "c", {}),
    ("Mul", ("x", "c"), "p", {}),
    ("Div", ("p", "six"), "y", {}),
]
CLIPPED_GATE = [*CLIPPED[:2], ("Div", ("c", "six"), "g", {}), ("Mul", ("g", "x"), "y", {})]
NUMBERS = {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)}
NORM = [
    ("ReduceMean", ("x",), "mean", {"axes": [-1]}),
    ("Sub", ("x", "mean"), "d", {}),
    ("Pow", ("d", "two"), "p", {}),
    ("ReduceMean", ("p",), "v", {"axes": [-1]}),
    ("Add", ("v", "eps"), "a", {}),
    ("Sqrt", ("a",), "r", {}),
    ("Div", ("d", "r"), "q", {}),
    ("Mul", ("q", "s"), "m", {}),
    ("Add", ("m", "b"), "y", {}),
]
NORMS = {"two": np.float32(2), "eps": np.float32(1e-6), "s": ROW + 1, "b": ROW}
FOLDED = {
    **{
        f"gelu_{order}_{divide}": (gelu_nodes(order, divide), GELU, ["gelu"])
        for order, divide in itertools.product(range(3), (False, True))
    },
    "swish": (SWISH, {}, ["swish"]),
    "hard_swish": (HARD, {}, ["hard_swish"]),
    "hard_swish_clipped": (CLIPPED, NUMBERS, ["hard_swish"]),
    "hard_swish_gate": (CLIPPED_GATE, NUMBERS, ["hard_swish"]),
    "layer_norm": (NORM, NORMS, ["layer_norm"]),
    "layer_norm_squared": (
        [("Mul", ("d", "d"), "p", {}) if node[2] == "p" else node for node in NORM],
        NORMS,
        ["layer_norm"],
    ),
    "batch_norm": (
        [("Conv", ("x", "w"), "c", {}), ("BatchNormalization", ("c", *BN), "y", {})],
        BN | {"w": weights(4, 4, 3, 3)},
        ["conv2d", "elementwise_add"],
    ),
    "batch_norm_biased": (
        [("Conv", ("x", "w", "o"), "c", {}), ("BatchNormalization", ("c", *BN), "y", {})],
        BN | {"w": weights(4, 4, 3, 3), "o": weights(4)},
        ["conv2d", "elementwise_add"],
    ),
    "batch_norm_transposed": (
        [("ConvTranspose", ("x", "w", "o"), "c", {"strides": [2, 2]}), ("BatchNormalization", ("c", *BN), "y", {})],
        BN | {"w": weights(4, 4, 2, 2), "o": weights(4)},
        ["conv2d", "elementwise_add", "pixel_shuffle"],
    ),
    "slice": (
        [
            ("Slice", ("x", "f", "t", "c"), "q", {}),
            ("Squeeze", ("q", "c"), "z", {}),
            ("Unsqueeze", ("z", "c"), "y", {}),
        ],
        {"f": i64(1), "t": i64(2), "c": i64(1)},
        ["slice", "unsqueeze2"],
    ),
    "times_one": ([("Mul", ("x", "n"), "a", {}), ("Relu", ("a",), "y", {})], {"n": f32(1)}, ["relu"]),
}


@pytest.mark.parametrize("name", FOLDED)
def test_patterns_are_fused(name, tmp_path):
    nodes, constants, expected = FOLDED[name]
    source = make(nodes, constants, shape=ROWS, path=tmp_path / "m.onnx")
    program = import_onnx(source)
    reports = run_passes(program)
    assert [op.type for op in program.ops if op.type not in ("feed", "fetch")] == expected
    assert (reports[0].ops_before, reports[-1].ops_after) == (len(import_onnx(source).ops), len(expected) + 2)
    np.testing.assert_allclose(run_paddle(program, tmp_path / "p", X), run_onnx(source, X), rtol=1e-5, atol=5e-6)


def replace(nodes, name, changed):
    return [changed if node[2] == name else node for node in nodes]


LEFT = {
    "gelu of another number": (gelu_nodes(0, True), GELU | {"root": np.float32(1.5)}, "gelu"),
    "gelu of a whole": (gelu_nodes(0, True), GELU | {"half": np.float32(0.6)}, "gelu"),
    "gelu of another tensor": (
        [("Relu", ("x",), "z", {}), *replace(gelu_nodes(0, True), "q", ("Div", ("z", "root"), "q", {}))],
        GELU,
        "gelu",
    ),
    "gate of another tensor": (
        [("Relu", ("x",), "z", {}), ("Sigmoid", ("z",), "s", {}), ("Mul", ("x", "s"), "y", {})],
        {},
        "swish",
    ),
    "hard_swish of another slope": (replace(HARD, "s", ("HardSigmoid", ("x",), "s", {})), {}, "hard_swish"),
    "hard_swish to another end": (CLIPPED, NUMBERS | {"three": np.float32(2)}, "hard_swish"),
    "gate that is read elsewhere": (
        [*SWISH[:1], ("Mul", ("x", "s"), "p", {}), ("Add", ("p", "s"), "y", {})],
        {},
        "swish",
    ),
    "norm of another mean": (
        [("Relu", ("x",), "z", {}), *replace(NORM, "mean", ("ReduceMean", ("z",), "mean", {"axes": [-1]}))],
        NORMS,
        "layer_norm",
    ),
    "norm over another side": (
        replace(
            replace(NORM, "mean", ("ReduceMean", ("x",), "mean", {"axes": [2]})),
            "v",
            ("ReduceMean", ("p",), "v", {"axes": [2]}),
        ),
        NORMS,
        "layer_norm",
    ),
    "norm whose parts are read": (
        [*NORM[:-1], ("Add", ("m", "b"), "n", {}), ("Add", ("n", "d"), "y", {})],
        NORMS,
        "layer_norm",
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_similar_patterns_are_left(name, run, tmp_path):
    nodes, constants, unwanted = LEFT[name]
    source = make(nodes, constants, shape=ROWS, path=tmp_path / "m.onnx")
    program = import_onnx(source)
    run_passes(program)
    assert unwanted not in [op.type for op in program.ops]
    # Without oneDNN, which does not add a vector along the channels here; opt and Paddle-Lite do.
    (found,) = run(program, X).values()
    np.testing.assert_allclose(found, run_onnx(source, X), rtol=1e-5, atol=5e-6)


def test_batch_norm_stays_if_its_convolution_has_other_readers(tmp_path):
    nodes = [("Conv", ("x", "w"), "c", {}), ("BatchNormalization", ("c", *BN), "n", {}), ("Add", ("n", "c"), "y", {})]
    source = make(nodes, BN | {"w": weights(4, 4, 3, 3)}, path=tmp_path / "m.onnx")
    program = import_onnx(source)
    run_passes(program)
    assert "batch_norm" in [op.type for op in program.ops]
    np.testing.assert_allclose(run_paddle(program, tmp_path / "p", X), run_onnx(source, X), rtol=1e-5, atol=5e-6)
