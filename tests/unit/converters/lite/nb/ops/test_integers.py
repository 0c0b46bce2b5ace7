"""What 8-bit kernels compute, compared with integers of NumPy and with Paddle-Lite itself."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.nb_programs import build, build_model, convolve, draw, feed, fetch, make_op, open_session, run
from support.paddle_programs import act, add, conv
from support.paddle_programs import build as build_program

from converters.graph.passes.mark_int8 import mark_int8
from converters.lite.nb.cost import compute_cost
from converters.lite.nb.read import read_nb
from converters.lite.nb.to_onnx import build_graph
from converters.lite.opt import run_opt
from converters.verify.lite_runner import open_lite_engines
from edge_ocr.errors import ModelError

KERNEL = "__@kernel_type_attr@__"
STEP = 0.05
WEIGHT_STEPS = (0.01, 0.02, 0.005)
OUT_STEP = 0.0417


def calib(source, result, alias="fp32_to_int8", scale=STEP):
    return make_op("calib", {"Input": source}, {"Out": result}, **{KERNEL: f"calib/{alias}/4/2/1"}, scale=scale)


def int8_op(op_type="conv2d", alias="fp32_out", slots=("Input", "Filter", "Output"), source="q", bias="b", **attrs):
    given, weights, out = slots
    inputs = {given: source, weights: "w", **({"Bias": bias} if bias else {})}
    known = {"enable_int8": True, f"{given}0_scale": (STEP,), f"{weights}0_scale": WEIGHT_STEPS}
    if alias.startswith("int8"):
        known[f"{out}0_scale"] = (OUT_STEP,)
    return make_op(op_type, inputs, {out: "y"}, **{KERNEL: f"{op_type}/{alias}/4/2/1"}, **known, **attrs)


def quantise(array, scale):
    """Round half away from zero, as the kernels do."""
    moved = np.clip(array * np.float32(1 / scale), -127, 127)
    return np.sign(moved) * np.floor(np.abs(moved) + 0.5)


PARAMS = {
    "w": np.random.default_rng(1).integers(-127, 128, (3, 3, 1, 1)).astype(np.int8),
    "b": np.array([0.5, -0.5, 0], np.float32),
}


def test_ties_are_rounded_away_from_zero_and_numbers_are_limited():
    array = np.array([[0.25, 0.75, -0.25, -0.75, 0.2499, 63.4, 1e9, -1e9, -64.0, 0]], np.float32)
    found = run(array, calib("x", "y", scale=0.5), calib("y", "z", "int8_to_fp32", 0.5), output="z")
    assert (found / 0.5).tolist() == [[1, 2, -1, -2, 0, 127, 127, -127, -127, 0]]


def test_a_convolution_sums_integers_and_scales_the_sums():
    array = draw(2, 3, 4, 5)
    found = run(array, calib("x", "q"), int8_op(), params=PARAMS)
    sums = convolve(quantise(array, STEP), PARAMS["w"].astype(np.float64), np.zeros(3))
    wanted = sums * (np.array(WEIGHT_STEPS) * STEP)[:, None, None] + PARAMS["b"][:, None, None]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["", "relu", "hard_swish"])
def test_an_8_bit_output_is_rounded_after_the_activation(kind):
    array = draw(1, 3, 6, 7)
    attrs = {"with_act": True, "act_type": kind} if kind else {}
    ops = [calib("x", "q"), int8_op(alias="int8_out", **attrs), calib("y", "z", "int8_to_fp32", OUT_STEP)]
    found = run(array, *ops, params=PARAMS, output="z")
    plain = run(array, calib("x", "q"), int8_op(**attrs), params=PARAMS)
    np.testing.assert_allclose(found, quantise(plain, OUT_STEP) * OUT_STEP, rtol=1e-6)
    assert len(np.unique(found)) > 20


def test_fc_scales_its_columns():
    array = draw(1, 4, 3)
    weights = PARAMS["w"][:, :, 0, 0]
    op = int8_op("fc", "fp32out", ("Input", "W", "Out"), in_num_col_dims=2)
    found = run(array, calib("x", "q"), op, params={"w": weights, "b": PARAMS["b"]})
    wanted = quantise(array, STEP) @ weights * (np.array(WEIGHT_STEPS) * STEP) + PARAMS["b"]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["Input0_scale", "Filter0_scale"])
def test_a_scale_off_by_two_percent_shows(name):
    array, op = draw(1, 3, 6, 7), int8_op()
    changed = make_op(op.type, op.inputs, op.outputs, **{**op.attrs, name: tuple(v * 1.02 for v in op.attrs[name])})
    right, wrong = (run(array, calib("x", "q"), one, params=PARAMS) for one in (op, changed))
    assert np.abs(right - wrong).max() > 0.005 * np.abs(right).max()


def change(op, **attrs):
    return make_op(op.type, op.inputs, op.outputs, **{**op.attrs, **attrs})


@pytest.mark.parametrize(
    ("ops", "words"),
    [
        ([int8_op(source="x")], "op 1 .conv2d.: Input .*8-bit"),
        ([calib("x", "q"), make_op("relu", {"X": "q"}, {"Out": "y"})], "op 2 .relu.: X holds integers"),
        ([calib("x", "q"), calib("q", "y")], "op 2 .calib.: Input holds integers"),
        ([calib("x", "y", "int8_to_fp32")], "op 1 .calib.: Input .*8-bit"),
        ([calib("x", "y", "fp32_to_int32")], "op 1 .calib.: .*'fp32_to_int32'"),
        ([calib("x", "y", scale=0.0)], "op 1 .calib.: scale is 0"),
        ([calib("x", "q"), int8_op(alias="def")], "op 2 .conv2d.: .*'def'"),
        ([calib("x", "q"), change(int8_op(), Filter0_scale=(0.1,))], "op 2 .conv2d.: Filter0_scale has 1 .*3"),
        ([calib("x", "q"), change(int8_op(), Input0_scale=(0.0,))], "op 2 .conv2d.: .*Input0_scale"),
        ([calib("x", "q"), change(int8_op(alias="int8_out"), Output0_scale=())], "op 2 .conv2d.: Output0_scale has 0"),
        ([calib("x", "q"), change(int8_op(), groups=3)], "op 2 .conv2d.: .*3 groups"),
        ([calib("x", "q"), int8_op("depthwise_conv2d")], "op 2 .depthwise_conv2d.: enable_int8"),
        ([calib("x", "q"), int8_op("conv2d_transpose")], "op 2 .conv2d_transpose.: enable_int8"),
        ([calib("x", "q"), int8_op("matmul_v2", "def", ("X", "Y", "Out"))], "op 2 .matmul_v2.: enable_int8"),
        ([calib("x", "q"), change(int8_op(), enable_int16=True)], "op 2 .conv2d.: enable_int16"),
    ],
)
def test_programs_that_the_runtime_does_not_compute_right_are_refused(ops, words):
    weights = PARAMS["w"] if "groups" not in words else PARAMS["w"][:, :1]
    with pytest.raises(ModelError, match=words):
        build(*ops, params={**PARAMS, "w": weights})


def test_fc_of_one_row_per_picture_is_refused():
    """Measured on the library: after a run with several rows it is wrong for one, and the other way round."""
    op = int8_op("fc", "fp32out", ("Input", "W", "Out"), in_num_col_dims=1)
    with pytest.raises(ModelError, match=r"op 2 .fc.: .*one row"):
        build(calib("x", "q"), op, x=(-1, 3), params={"w": PARAMS["w"][:, :, 0, 0], "b": PARAMS["b"]})


def test_float_weights_of_an_8_bit_kernel_are_refused():
    with pytest.raises(ModelError, match=r"op 2 .conv2d.: Filter 'w' .*float32, expected int8"):
        build(calib("x", "q"), int8_op(), params={**PARAMS, "w": PARAMS["w"].astype(np.float32)})


def test_integer_nodes_have_the_same_sums():
    """For ONNX Runtime; the file holds bytes."""
    rng = np.random.default_rng(5)
    params = {**PARAMS, "v": rng.integers(-127, 128, (3, 3)).astype(np.int8)}
    product = make_op(
        "fc",
        {"Input": "turned", "W": "v", "Bias": "b"},
        {"Out": "z"},
        **{KERNEL: "fc/fp32out/4/2/1", "enable_int8": True, "Input0_scale": (0.031,), "W0_scale": WEIGHT_STEPS},
        in_num_col_dims=3,
    )
    turn = make_op("transpose2", {"X": "back"}, {"Out": "moved"}, axis=(0, 2, 3, 1))
    ops = [
        feed("x"),
        calib("x", "q"),
        int8_op(alias="int8_out", with_act=True, act_type="hard_swish"),
        calib("y", "back", "int8_to_fp32", OUT_STEP),
        turn,
        calib("moved", "turned", scale=0.031),
        product,
        fetch("z"),
    ]
    model = build_model(ops, {"x": (-1, 3, -1, -1)}, params)
    graphs = [build_graph(model, use_integers=use) for use in (False, True)]
    array = draw(2, 3, 9, 8)
    plain, whole = (open_session(graph).run(None, {"x": array})[0] for graph in graphs)
    np.testing.assert_allclose(whole, plain, rtol=0, atol=1e-5)
    types = {node.op_type for node in graphs[1].model.graph.node}
    assert {"ConvInteger", "MatMulInteger", "QuantizeLinear", "DequantizeLinear"} <= types
    stored = {one.name: onnx.numpy_helper.to_array(one).dtype.name for one in graphs[1].model.graph.initializer}
    assert (stored["w"], stored["v"], stored["b"]) == ("uint8", "uint8", "float32")


def test_8_bit_tensors_cost_a_byte_per_element():
    ops = [feed("x"), calib("x", "q"), int8_op(alias="int8_out"), calib("y", "z", "int8_to_fp32"), fetch("z")]
    model = build_model(ops, {"x": (1, 3, 8, 8)}, PARAMS)
    _, rounding, convolution, back, _ = compute_cost(model, {"x": (1, 3, 8, 8)}).ops
    size = 3 * 8 * 8
    assert (rounding.read_bytes, rounding.written_bytes) == (4 * size, size)
    assert (convolution.read_bytes, convolution.written_bytes, convolution.param_bytes) == (size, size, 9 + 3 * 4)
    assert (back.read_bytes, back.written_bytes) == (size, 4 * size)
    assert [op.is_int8 for op in (rounding, convolution, back)] == [False, True, False]


# --- the library itself


@pytest.fixture
def run_library(tmp_path):
    """Run .nb files, by name, on Paddle-Lite for armv8, emulated."""
    chosen = os.environ.get("EDGE_OCR_LITE_LIB")
    if not chosen:
        pytest.skip("no Paddle-Lite library: EDGE_OCR_LITE_LIB names none")
    include = Path(chosen).resolve().parent.parent / "include"

    def run_library(models, array, threads):
        options = {"library": Path(chosen), "include_dir": include, "arch": "armv8", "expected_version": "v2.13-rc"}
        with open_lite_engines("qemu", models, threads=threads, **options) as engines:
            return {name: engine.run(array) for name, engine in engines.items()}

    return run_library


def make_chain(kind, channels, **attrs):
    """An addition in floats, and two convolutions, the first with 8-bit output."""
    rng = np.random.default_rng(channels)
    last = [act(kind, "b", "c")] if kind else []
    size = 3 if attrs else 1
    params = {
        "shift": rng.uniform(-1, 1, 3),
        "first": rng.normal(0, 0.6, (channels, 3, size, size)),
        "bias": rng.uniform(-1, 1, channels),
        "second": rng.normal(0, 0.3, (3, channels, 1, 1)),
    }
    ops = [add("x", "shift", "moved", 1), conv("moved", "a", "first", **attrs), add("a", "bias", "b", 1), *last]
    shapes = dict.fromkeys("abc", (-1, channels, -1, -1)) | {"moved": (-1, 3, -1, -1), "out": (-1, 3, -1, -1)}
    return build_program(
        [*ops, conv("c" if kind else "b", "out", "second")], params, shape=(-1, 3, -1, -1), shapes=shapes
    )


CHAINS = {
    "1x1": make_chain("", 10),
    "1x1 relu": make_chain("relu", 24),
    "1x1 hard_swish": make_chain("hard_swish", 17),
    "3x3": make_chain("relu", 16, pad=1),
    "3x3 stride 2": make_chain("hard_swish", 8, pad=1, stride=2),
}


def test_the_graph_computes_as_the_real_library(opt, run_library, tmp_path):
    """With several threads, too. Sums are equal; an output near a tie may be one step off."""
    models = {}
    for name, program in CHAINS.items():
        mark_int8(program, {"first": 4.0, "second": 3.0})
        files = [tmp_path / f"{name}{suffix}" for suffix in (".pdmodel", ".pdiparams")]
        program.write(*files)
        models[name] = run_opt(opt.python, *files, tmp_path / name, valid_places="arm")
    array = draw(1, 3, 17, 23)
    for threads in (1, 4):
        found = run_library(models, array, threads)
        for name, file in models.items():
            nb = read_nb(file)
            assert [op.kernel.alias for op in nb.blocks[0].ops if op.type == "conv2d"] == ["int8_out", "fp32_out"]
            (wanted,) = open_session(build_graph(nb)).run(None, {"x": array})
            differs = np.abs(found[name] - wanted) > 1e-4
            assert differs.mean() < 1e-3, name
