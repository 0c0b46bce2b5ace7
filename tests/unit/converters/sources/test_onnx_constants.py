"""Computation on constants, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
from support.onnx_models import f32, i64, make, weights

from converters.sources.onnx import import_onnx
from edge_ocr.errors import ConversionError

GROWING = {
    "filled": ([("ConstantOfShape", ("s",), "c", {})], {"s": i64(1 << 20, 1 << 20)}),
    "counted": ([("Range", ("a", "b", "d"), "c", {})], {"a": np.int64(0), "b": np.int64(1 << 50), "d": np.int64(1)}),
    "spread": ([("Mul", ("a", "b"), "c", {})], {"a": np.ones((5000, 1), np.float32), "b": np.ones(5000, np.float32)}),
    "picked": ([("Gather", ("a", "b"), "c", {})], {"a": np.ones((1, 4000), np.float32), "b": np.zeros(4000, np.int64)}),
    "again and again": (
        [("ConstantOfShape", ("s",), f"c{n}", {}) for n in range(9)] + [("Identity", ("c0",), "c", {})],
        {"s": i64(1 << 19)},
    ),
}


@pytest.mark.parametrize("name", GROWING)
def test_small_files_cannot_create_huge_constants(name, tmp_path):
    nodes, constants = GROWING[name]
    source = make([*nodes, ("Mul", ("x", "c"), "y", {})], constants, path=tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match=r"m\.onnx: (ConstantOfShape|Range|Mul|Gather) .*\d+"):
        import_onnx(source)


@pytest.mark.parametrize(
    "node",
    [
        ("AveragePool", ("w",), "c", {"kernel_shape": [1, 1], "pads": [1 << 20] * 4}),
        ("Conv", ("w", "w"), "c", {"pads": [1 << 20] * 4}),
        ("Resize", ("w", "", "s"), "c", {}),
    ],
)
def test_windows_over_constants_are_refused(node, tmp_path):
    constants = {"w": weights(4, 4, 1, 1), "s": f32(1, 1, 1e5, 1e5)}
    source = make([node, ("Mul", ("x", "c"), "y", {})], constants, path=tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match=rf"m\.onnx: {node[0]} "):
        import_onnx(source)
