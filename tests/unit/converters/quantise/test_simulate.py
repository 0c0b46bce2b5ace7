"""Graphs with other weights and rounded inputs."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.nb_programs import build_model, draw, feed, fetch, make_op, open_session

from converters.lite.nb.to_onnx import build_graph
from converters.quantise.simulate import simulate
from edge_ocr.errors import ModelError

CONV = {"strides": (1, 1), "paddings": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1}
PARAMS = {"w": draw(4, 3, 1, 1), "c": draw(4), "v": draw(4, 3, 1, 1, seed=1), "u": draw(4, 5, seed=2), "b": draw(5)}


def make_program():
    """Two convolutions of one tensor, added, and fc."""
    return build_model(
        [
            feed("x"),
            make_op("relu", {"X": "x"}, {"Out": "a"}),
            make_op("conv2d", {"Input": "a", "Filter": "w", "Bias": "c"}, {"Output": "p"}, **CONV),
            make_op("conv2d", {"Input": "a", "Filter": "v"}, {"Output": "q"}, **CONV),
            make_op("elementwise_add", {"X": "p", "Y": "q"}, {"Out": "s"}, axis=-1),
            make_op("transpose2", {"X": "s"}, {"Out": "r"}, axis=(0, 2, 3, 1)),
            make_op("fc", {"Input": "r", "W": "u", "Bias": "b"}, {"Out": "y"}, op_type="matmul_v2"),
            fetch("y"),
        ],
        {"x": (-1, 3, -1, -1)},
        PARAMS,
    )


def run(array, weights=(), biases=(), inputs=()):
    nb = make_program()
    model = simulate(build_graph(nb, "test.nb"), nb, dict(weights), dict(biases), dict(inputs))
    onnx.checker.check_model(model, full_check=True)
    (found,) = open_session(Built(model)).run(None, {"x": array})
    return found


class Built:
    def __init__(self, model):
        self.model = model


def round_input(array, absmax):
    scale = absmax / 127
    return np.clip(np.round(array / scale), -127, 127) * scale


def compute(array, inputs, w=PARAMS["w"], c=PARAMS["c"]):
    """Return what the program computes, in float64."""
    a = np.maximum(array, 0).astype(np.float64).transpose(0, 2, 3, 1)
    first, second = (round_input(a, inputs[name]) if name in inputs else a for name in ("w", "v"))
    s = first @ w[:, :, 0, 0].T + c + second @ PARAMS["v"][:, :, 0, 0].T
    return (round_input(s, inputs["u"]) if "u" in inputs else s) @ PARAMS["u"] + PARAMS["b"]


@pytest.mark.parametrize("inputs", [{}, {"w": 2.5}, {"w": 2.5, "v": 2.5}, {"w": 2.5, "v": 1.5, "u": 20.0}, {"u": 3.0}])
def test_inputs_are_rounded_and_clipped(inputs):
    array = draw(2, 3, 4, 5, seed=3)
    np.testing.assert_allclose(run(array, inputs=inputs), compute(array, inputs), rtol=0, atol=1e-4)


def test_a_scale_off_by_2_percent_is_seen():
    array = draw(2, 3, 4, 5, seed=3)
    assert np.abs(run(array, inputs={"w": 2.5}) - compute(array, {"w": 2.5 * 1.02})).max() > 1e-2


def test_parameters_are_replaced():
    array, w, c = draw(2, 3, 4, 5, seed=3), draw(4, 3, 1, 1, seed=7), draw(4, seed=8)
    found = run(array, {"w": w}, {"c": c}, {"w": 2.5})
    np.testing.assert_allclose(found, compute(array, {"w": 2.5}, w, c), rtol=0, atol=1e-4)


def test_the_graph_itself_does_not_change():
    nb = make_program()
    graph = build_graph(nb)
    before = graph.model.SerializeToString(deterministic=True)
    simulate(graph, nb, {"w": draw(4, 3, 1, 1, seed=7)}, {}, {"w": 2.5})
    assert graph.model.SerializeToString(deterministic=True) == before
    assert simulate(graph, nb, {}, {}, {}).SerializeToString(deterministic=True) == before


def test_readers_of_one_tensor_share_the_nodes_of_one_scale():
    nb = make_program()
    graph = build_graph(nb)
    counts = [
        sum(node.op_type == "Round" for node in simulate(graph, nb, {}, {}, inputs).graph.node)
        for inputs in ({"w": 2.5, "v": 2.5}, {"w": 2.5, "v": 2.0})
    ]
    assert counts == [1, 2]


def test_names_of_the_graph_are_not_taken_twice():
    params = {"a_int8_scale": draw(4, 3, 1, 1)}
    nb = build_model(
        [
            feed("a"),
            make_op("conv2d", {"Input": "a", "Filter": "a_int8_scale"}, {"Output": "a_int8_mul"}, **CONV),
            fetch("a_int8_mul"),
        ],
        {"a": (-1, 3, -1, -1)},
        params,
    )
    model = simulate(build_graph(nb), nb, {}, {}, {"a_int8_scale": 2.5})
    onnx.checker.check_model(model, full_check=True)
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    np.testing.assert_array_equal(held["a_int8_scale"], params["a_int8_scale"])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"weights": {"nothing": draw(4, 3, 1, 1)}}, "'nothing'"),
        ({"weights": {"w": draw(4, 3)}}, r"'w'.*\[4, 3\].*\(4, 3, 1, 1\)"),
        ({"biases": {"c": draw(3)}}, "'c'"),
        ({"inputs": {"c": 1.0}}, "'c'"),
        ({"inputs": {"w": 0.0}}, r"'w'.*0\.0"),
        ({"inputs": {"w": float("nan")}}, "'w'.*nan"),
        ({"inputs": {"w": -1.0}}, r"'w'.*-1\.0"),
    ],
)
def test_what_does_not_fit_is_refused(changed, words):
    with pytest.raises(ModelError, match=rf"(?s)\Atest\.nb: .*{words}"):
        run(draw(1, 3, 2, 2), **changed)
