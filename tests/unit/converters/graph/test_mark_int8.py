"""Marks for 8-bit kernels: what the pass inserts, what the real opt makes of it, and what it refuses."""

import math

import numpy as np
import pytest
from support.nb_files import round_weights
from support.nb_programs import open_session
from support.paddle_programs import act, add, build, conv, draw, list_types

from converters.graph.passes.mark_int8 import mark_int8
from converters.lite.nb.read import parse_nb, read_nb
from converters.lite.nb.to_onnx import build_graph
from converters.lite.nb.write import edit_nb
from converters.lite.opt import run_opt
from converters.sources.program import get_input, list_inputs
from edge_ocr.errors import ModelError

INPUT = "fake_quantize_dequantize_moving_average_abs_max"
WEIGHTS = "fake_channel_wise_quantize_dequantize_abs_max"


def make_program():
    """x + shift -> w0, relu -> w1 and w2 -> their sum; d is depthwise."""
    ops = [
        add("x", "shift", "moved", 1),
        conv("moved", "a", "w0"),
        act("relu", "a", "b"),
        conv("b", "c", "w1"),
        conv("b", "d", "w2", pad=1),
        conv("d", "e", "d0", kind="depthwise_conv2d", pad=1, groups=4),
        add("c", "e", "out"),
    ]
    params = {"shift": draw(4), "w0": draw(4, 4, 1, 1), "w1": draw(4, 4, 1, 1), "w2": draw(4, 4, 3, 3)}
    return build(ops, {**params, "d0": draw(4, 1, 3, 3)})


def make_product(*, has_bias=True, rows=(5,)):
    product = ("matmul_v2", "X=x Y=w", "Out=y", {"trans_x": False, "trans_y": False})
    ops = [product, add("y", "b", "out")] if has_bias else [product, act("relu", "y", "out")]
    params = {"w": draw(4, 6), "b": draw(6)} if has_bias else {"w": draw(4, 6)}
    return build(ops, params, shape=(-1, *rows, 4), shapes={"y": (-1, *rows, 6), "out": (-1, *rows, 6)})


@pytest.fixture
def convert(opt, tmp_path):
    def convert(program):
        files = (tmp_path / "m.pdmodel", tmp_path / "m.pdiparams")
        program.write(*files)
        return read_nb(run_opt(opt.python, *files, tmp_path / "m", valid_places="arm"))

    return convert


def list_kernels(nb):
    ops = [op for op in nb.blocks[0].ops if op.type not in ("feed", "fetch")]
    return [f"{op.type} {op.kernel.alias}" for op in ops]


def test_a_tensor_is_rounded_once_for_all_its_readers():
    program = make_program()
    weights = program.params["w1"]
    report = mark_int8(program, {"w1": 2.0, "w2": 3.0})
    assert (report.changed, report.ops_after - report.ops_before) == (2, 3)
    assert list_types(program).count(INPUT) == 1
    assert list_types(program).count(WEIGHTS) == 2
    (rounding,) = (op for op in program.ops if op.type == INPUT)
    # Both convolutions read the one result, the ReLU's other readers its floats; the larger range holds.
    assert get_input(rounding, "X") == "b"
    assert program.params[get_input(rounding, "InScale")].tolist() == [3.0]
    readers = [op for op in program.ops if "b.int8" in list_inputs(op)]
    assert [op.type for op in readers] == ["conv2d", "conv2d"]
    assert program.params["w1"] is weights
    assert program.params["w1.absmax"].tolist() == np.abs(weights).max(axis=(1, 2, 3)).tolist()


def test_ops_are_in_execution_order():
    program = make_program()
    mark_int8(program, {"w0": 1.0, "w1": 2.0, "w2": 3.0})
    written = {"x", "feed", *program.params}
    for op in program.ops:
        assert set(list_inputs(op)) <= written
        written.update(name for slot in op.outputs for name in slot.arguments)


def test_a_channel_of_zeros_has_a_scale():
    program = make_program()
    weights = program.params["w0"].copy()
    weights[1] = 0
    program.set_param("w0", weights)
    mark_int8(program, {"w0": 1.0})
    assert program.params["w0.absmax"][1] == 1
    assert program.params["w0.absmax"].min() > 0


def test_opt_gives_marked_convolutions_8_bit_kernels(convert):
    program = make_program()
    mark_int8(program, {"w0": 4.0, "w1": 3.0, "w2": 3.0})
    nb = convert(program)
    assert sorted(list_kernels(nb)) == [
        "calib fp32_to_int8",
        "conv2d fp32_out",
        "conv2d fp32_out",
        "conv2d int8_out",
        "depthwise_conv2d def",
        "elementwise_add def",
        "elementwise_add def",
    ]
    assert {name for name, param in nb.params.items() if param.dtype == "int8"} == {"w0", "w1", "w2"}
    first = next(op for op in nb.blocks[0].ops if "w0" in op.inputs.get("Filter", ()))
    assert first.attrs["Input0_scale"] == pytest.approx((4 / 127,))
    assert first.attrs["Output0_scale"] == pytest.approx((3 / 127,))


def test_opt_computes_a_product_with_bias_in_8_bits(convert):
    program = make_product()
    mark_int8(program, {"w": 2.0})
    nb = convert(program)
    assert list_kernels(nb) == ["calib fp32_to_int8", "fc fp32out"]
    assert nb.params["w"].dtype == "int8"


def test_opt_keeps_given_integers(convert):
    """Also in channels without a weight of ±127, and with weights of zero."""
    program = make_program()
    integers = np.random.default_rng(3).integers(-100, 101, (4, 4, 3, 3))
    integers[2] = 0
    scales = np.array([0.1, 3e-5, 0.7, 1 / 3], np.float32)
    program.set_param("w2", (integers * scales[:, None, None, None]).astype(np.float32))
    mark_int8(program, {"w2": 3.0}, {"w2": scales})
    nb = convert(program)
    np.testing.assert_array_equal(nb.params["w2"].to_array(), integers)
    op = next(op for op in nb.blocks[0].ops if "w2" in op.inputs.get("Filter", ()))
    np.testing.assert_allclose(op.attrs["Filter0_scale"], scales, rtol=1e-6)


def test_other_weights_of_the_file_may_be_stored_as_integers(convert, tmp_path):
    program = make_program()
    mark_int8(program, {"w2": 3.0})
    nb = convert(program)
    rounded = round_weights(nb, 16)
    assert rounded.keys() == {"w0", "w1"}
    edited = parse_nb(edit_nb((tmp_path / "m.nb").read_bytes(), rounded))
    assert {name: param.dtype for name, param in edited.params.items() if name[0] == "w"} == {
        "w0": "int16", "w1": "int16", "w2": "int8"
    }  # fmt: skip
    array = draw(1, 4, 6, 7)
    graphs = [open_session(build_graph(one)).run(None, {"x": array})[0] for one in (nb, edited)]
    # At most a few inputs of the 8-bit convolution move by one of 127 steps.
    assert 0 < np.abs(graphs[0] - graphs[1]).max() < 0.5
    assert np.abs(graphs[0] - graphs[1]).mean() < 0.01


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_ranges_that_no_scale_covers_are_refused(value):
    with pytest.raises(ModelError, match=f"'w0'.*{value}"):
        mark_int8(make_program(), {"w0": value})


@pytest.mark.parametrize(
    ("name", "words"), [("nothing", "'nothing'"), ("shift", "'shift'.*elementwise_add"), ("b", "'b'")]
)
def test_names_of_no_filter_are_refused(name, words):
    with pytest.raises(ModelError, match=words):
        mark_int8(make_program(), {name: 1.0})


def test_depthwise_convolutions_are_refused():
    with pytest.raises(ModelError, match=r"'d0'.*depthwise_conv2d"):
        mark_int8(make_program(), {"d0": 1.0})


def test_convolutions_in_groups_are_refused():
    program = build([conv("x", "out", "w", groups=2)], {"w": draw(4, 2, 1, 1)})
    with pytest.raises(ModelError, match=r"'w'.* 2 groups, expected 1"):
        mark_int8(program, {"w": 1.0})


def test_a_product_without_bias_is_refused():
    with pytest.raises(ModelError, match=r"'w'.*matmul_v2"):
        mark_int8(make_product(has_bias=False), {"w": 1.0})


def test_a_product_of_one_row_per_picture_is_refused():
    with pytest.raises(ModelError, match=r"'w'.*one row"):
        mark_int8(make_product(rows=()), {"w": 1.0})


@pytest.mark.parametrize(
    "scales", [[1, 1, 1], [1, 1, 1, 0], [1, 1, math.nan, 1], [1e-3, 1, 1, 1]], ids=["count", "zero", "nan", "small"]
)
def test_scales_that_do_not_fit_are_refused(scales):
    with pytest.raises(ModelError, match="'w0'"):
        mark_int8(make_program(), {"w0": 1.0}, {"w0": np.array(scales, np.float32)})


def test_a_refused_plan_changes_nothing():
    program = make_program()
    before = program.to_bytes()
    with pytest.raises(ModelError):
        mark_int8(program, {"w1": 1.0, "nothing": 1.0})
    assert program.to_bytes() == before
