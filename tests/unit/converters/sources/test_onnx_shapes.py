"""Shapes computed by an ONNX model."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto
from support.onnx_models import X, i64, make, refuse, run_onnx, run_paddle

from converters.sources.onnx import import_onnx
from edge_ocr.errors import ConversionError, ModelError


def flatten_nodes(*extra):
    """Return nodes that keep batch and channels and flatten the rest, as exporters write them."""
    return [
        ("Shape", ("x",), "shape", {}),
        ("Cast", ("shape",), "wide", {"to": 7}),
        ("Slice", ("wide", "zero", "two", "zero"), "kept", {}),
        ("Concat", ("kept", "rest"), "wanted", {"axis": 0}),
        ("Reshape", ("x", "wanted"), "flat", {}),
        *extra,
    ]


SIDES = {"zero": i64(0), "one": i64(1), "two": i64(2), "three": i64(3), "rest": i64(-1), "four": i64(4)}


def test_shape_is_settled(tmp_path):
    """Flattened and transposed rows get their height and width back; the width comes from the input."""
    nodes = flatten_nodes(
        ("Gather", ("shape", "three"), "width", {}),
        ("Squeeze", ("width", "zero"), "number", {}),
        ("Unsqueeze", ("number", "zero"), "again", {}),
        ("Shape", ("flat",), "shape2", {}),
        ("Slice", ("shape2", "zero", "two", "zero"), "kept2", {}),
        ("Concat", ("kept2", "eight", "again"), "back", {"axis": 0}),
        ("Reshape", ("flat", "back"), "y", {}),
    )
    source = make(nodes, SIDES | {"eight": i64(8)}, path=tmp_path / "m.onnx")
    program = import_onnx(source)
    shapes = [list(attr.ints) for op in program.ops for attr in op.attrs if attr.name == "shape"]
    assert shapes == [[0, 4, -1], [0, 4, 8, -1]]
    np.testing.assert_array_equal(run_paddle(program, tmp_path / "p", X), X)


def test_two_free_dimensions_are_refused(tmp_path):
    nodes = flatten_nodes(
        ("Gather", ("shape", "three"), "width", {}),
        ("Gather", ("shape", "two"), "height", {}),
        ("Concat", ("kept", "height", "width"), "back", {"axis": 0}),
        ("Reshape", ("flat", "back"), "y", {}),
    )
    assert "Reshape (node" in refuse(tmp_path, nodes, SIDES)


def test_arithmetic_on_dimensions_is_refused(tmp_path):
    nodes = [
        ("Shape", ("x",), "shape", {}),
        ("Mul", ("shape", "two"), "twice", {}),
        ("Reshape", ("x", "twice"), "y", {}),
    ]
    assert "Mul (node Mul_twice, opset 13): " in refuse(tmp_path, nodes, SIDES)


def test_flattened_dimensions_stay_free(tmp_path):
    nodes = flatten_nodes(("Transpose", ("flat",), "y", {"perm": [0, 2, 1]}))
    source = make(nodes, SIDES, out_rank=3, path=tmp_path / "m.onnx")
    program = import_onnx(source)
    (reshape,) = [op for op in program.ops if op.type == "reshape2"]
    assert [list(attr.ints) for attr in reshape.attrs if attr.name == "shape"] == [[0, 4, -1]]
    assert not any(op.type in ("shape", "slice", "cast") for op in program.ops)
    for array in (X, X[:1, :, :4, :6].copy()):
        np.testing.assert_array_equal(run_paddle(program, tmp_path / "p", array), run_onnx(source, array))


def test_free_dimensions_of_one_name_are_one(tmp_path):
    """The batch size comes from the input, and the reshaped tensor is computed later."""
    nodes = [
        ("Relu", ("x",), "r", {}),
        ("Shape", ("x",), "shape", {}),
        ("Gather", ("shape", "zero"), "batch", {}),
        ("Concat", ("batch", "four", "rest"), "wanted", {"axis": 0}),
        ("Reshape", ("r", "wanted"), "y", {}),
    ]
    source = make(nodes, SIDES, out_rank=3, path=tmp_path / "m.onnx")
    np.testing.assert_array_equal(run_paddle(import_onnx(source), tmp_path / "p", X), run_onnx(source, X))


def test_free_dimensions_without_unique_names_are_not_one(tmp_path):
    """Height and width are both "?" in what older exporters write, and may differ."""
    nodes = [
        ("Relu", ("x",), "r", {}),
        ("Shape", ("x",), "shape", {}),
        ("Gather", ("shape", "three"), "width", {}),
        ("Concat", ("zero", "four", "width", "rest"), "wanted", {"axis": 0}),
        ("Reshape", ("r", "wanted"), "y", {}),
    ]
    with pytest.raises(ConversionError, match=r"Reshape \(node"):
        import_onnx(make(nodes, SIDES, shape=("N", 4, "?", "?"), path=tmp_path / "m.onnx"))


@pytest.mark.parametrize("size", [2**63, 2**64 - 1])
def test_dimensions_too_large_for_any_shape(tmp_path, size):
    nodes = [
        ("Shape", ("x",), "s", {}),
        ("Gather", ("s", "zero"), "n", {}),
        ("Cast", ("big",), "c", {"to": TensorProto.UINT64}),
        ("Concat", ("n", "big"), "to", {"axis": 0}),
        ("Reshape", ("x", "to"), "y", {}),
    ]
    constants = {"zero": i64(0), "big": np.array([size], np.uint64)}
    with pytest.raises((ConversionError, ModelError), match=r"m\.onnx: "):
        import_onnx(make(nodes, constants, path=tmp_path / "m.onnx"))
