"""Traces of `.nb` files whose source is an ONNX model as Paddle2ONNX writes it: many copies, layers over lines."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from support.onnx_models import BN, f32, i64, make, weights

from converters.graph.passes import run_passes
from converters.lite.nb.read import parse_nb
from converters.lite.nb.to_onnx import build_graph
from converters.lite.opt import run_opt
from converters.sources.onnx import import_onnx
from converters.verify.trace import trace_model


def copy(name):
    return ("Identity", (name,), f"{name}.copy", {})


NODES = [
    # A learnable affine block.
    ("Conv", ("x", "w0"), "c0", {"pads": [1, 1, 1, 1]}),
    ("HardSwish", ("c0",), "h0", {}),
    ("Mul", ("h0", "scale"), "m0", {}),
    copy("m0"),
    ("Add", ("m0.copy", "shift"), "a0", {}),
    copy("a0"),
    # Padded, so that it takes the scale but not the shift.
    ("Conv", ("a0.copy", "w4"), "c4", {"pads": [1, 1, 1, 1]}),
    # A gate with a residual.
    ("GlobalAveragePool", ("c4",), "p0", {}),
    ("Conv", ("p0", "w1"), "c1", {}),
    ("Sigmoid", ("c1",), "s0", {}),
    ("Mul", ("c4", "s0"), "m1", {}),
    copy("m1"),
    ("Add", ("c4", "m1.copy"), "a1", {}),
    # A layer over lines; hard swish is decomposed.
    ("AveragePool", ("a1",), "p1", {"kernel_shape": [4, 2], "strides": [4, 2]}),
    ("Conv", ("p1", "w2"), "c2", {}),
    ("Squeeze", ("c2", "two"), "q0", {}),
    ("BatchNormalization", ("q0", *BN), "n0", {}),
    ("HardSigmoid", ("n0",), "g0", {"alpha": 1 / 6, "beta": 0.5}),
    ("Mul", ("n0", "g0"), "m2", {}),
    ("Transpose", ("m2",), "t0", {"perm": [0, 2, 1]}),
    ("MatMul", ("t0", "w3"), "y", {}),
]
CONSTANTS = {
    **BN,
    "w0": weights(4, 3, 3, 3),
    "w1": weights(4, 4, 1, 1),
    "w2": weights(4, 4, 1, 1),
    "w3": weights(4, 5),
    "w4": weights(4, 4, 3, 3),
    "scale": f32(1.7),
    "shift": f32(0.3),
    "two": i64(2),
}
ARRAY = np.random.default_rng(4).uniform(-1, 1, (1, 3, 4, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def exported(opt, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    source = make(NODES, CONSTANTS, opset=14, shape=("N", 3, 4, "W"), out_rank=3, path=folder / "m.onnx")
    program = import_onnx(source)
    run_passes(program)
    files = folder / "p.pdmodel", folder / "p.pdiparams"
    program.write(*files)
    nb = parse_nb(run_opt(opt.python, *files, folder / "out", valid_places="arm").read_bytes(), "m")
    return source, nb


def trace(source, nb):
    return trace_model(source, build_graph(nb, "m"), ARRAY, "fp32", nb)


def test_every_tensor_has_its_counterpart(exported):
    source, nb = exported
    assert not {"batch_norm", "unsqueeze2"} & nb.op_histogram().keys()
    found = trace(source, nb)
    assert found.first_parted is None
    assert [tensor.reference for tensor in found.tensors if not tensor.agrees] == []
    labels = {tensor.reference for tensor in found.tensors}
    # What the passes made: a factor that moved on, a raised gate, a squeeze that moved on.
    assert {"a0 / scale", "1 + s0", "m2, unsqueezed"} <= labels


def test_a_changed_weight_of_a_layer_over_lines_is_found(exported):
    source, nb = exported
    ops = nb.blocks[0].ops
    place = max(index for index, op in enumerate(ops) if op.type == "conv2d")
    name = ops[place].inputs["Filter"][0]
    data = memoryview((nb.params[name].to_array() * np.float32(1.01)).tobytes())
    changed = replace(nb, params=MappingProxyType({**nb.params, name: replace(nb.params[name], data=data)}))
    found = trace(source, changed)
    parted = found.tensors[found.first_parted]
    assert parted.index == place
    assert parted.reference in ("n0, unsqueezed", "m2, unsqueezed")
