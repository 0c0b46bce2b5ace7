"""ONNX models of a few nodes, and what they compute as ONNX and as Paddle programs."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.sources.onnx import import_onnx
from edge_ocr.engines.paddle import PaddleEngine
from edge_ocr.errors import ConversionError
from edge_ocr.models.resolve import resolve_model

RANDOM = np.random.default_rng(3)
FREE = ("N", 4, "H", "W")
ROWS = ("N", 4, "H", 12)


def make(nodes, constants=None, *, opset=13, shape=FREE, out_rank=4, path=None):
    """Return the path of a model from `x` to `y`; each node is (op, inputs, output, attributes)."""
    graph = helper.make_graph(
        [helper.make_node(op, list(inputs), [out], name=f"{op}_{out}", **attrs) for op, inputs, out, attrs in nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * out_rank)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path


def weights(*shape):
    return RANDOM.uniform(-0.5, 0.5, shape).astype(np.float32)


def run_onnx(source, array):
    options = onnxruntime.SessionOptions()
    # Without optimisation: its fusion treats any power in a layer norm as a square.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: array})[0]


def run_paddle(program, folder, array):
    folder.mkdir(exist_ok=True)
    program.write(folder / "inference.pdmodel", folder / "inference.pdiparams")
    return PaddleEngine(resolve_model(folder, "det"), "cpu", 0, 1).run(array)


X = RANDOM.uniform(-2, 2, (2, 4, 8, 12)).astype(np.float32)
CHANNELS = weights(1, 4, 1, 1)
ROW = weights(12)
BN = {"s": weights(4) + 1, "b": weights(4), "m": weights(4), "v": weights(4) + 1}
PAIR = np.array([1, 1], np.int64)


def f32(*values):
    return np.array(values, np.float32)


def i64(*values):
    return np.array(values, np.int64)


def one(op, *inputs, **attrs):
    return [(op, ("x", *inputs), "y", attrs)]


def refuse(tmp_path, nodes, constants=None, error=ConversionError, **options):
    with pytest.raises(error) as caught:
        import_onnx(make(nodes, constants, path=tmp_path / "m.onnx", **options))
    assert str(tmp_path / "m.onnx") in caught.value.message
    assert caught.value.hint
    return caught.value.message
