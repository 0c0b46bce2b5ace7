import math
import os
import random
import struct
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from support.nb_files import list_weights, op, program, round_nb, round_weights, unary, write_nb
from support.nb_programs import draw, open_session

from converters.lite.nb.read import open_program, parse_header, parse_nb
from converters.lite.nb.rounded import Rounded, round_nearest
from converters.lite.nb.to_onnx import build_graph, serialise_graph
from converters.lite.nb.write import edit_nb
from converters.lite.opt import run_opt
from converters.verify.lite_runner import open_lite_engines
from edge_ocr.errors import ModelError
from edge_ocr.models.resolve import resolve_model

CONV = {"strides": (1, 1), "paddings": (0, 0), "dilations": (1, 1), "groups": 1, "padding_algorithm": "EXPLICIT"}

# Name, shape, and the axis of the scales; None if the runtime does not dequantise it.
PARAMS = {
    "w": ((4, 3, 1, 1), 0), "b": ((4,), 0), "d": ((4, 1, 1, 1), 0), "shared": ((4, 4, 1, 1), 0),
    "up": ((4, 4, 2, 2), None), "Étage": ((4, 5), 1), "last": ((5,), 0), "m": ((5, 5), None),
}  # fmt: skip


def make_values(name):
    return draw(*PARAMS[name][0], seed=sorted(PARAMS).index(name))


@cache
def make_file():
    """A file with each kind of op that has weights."""
    relu = {"act_type": "relu", "with_act": True}
    ops = [
        op("conv2d", {"Bias": "b", "Filter": "w", "Input": "x"}, {"Output": "t"}, **CONV, **relu),
        op("depthwise_conv2d", {"Filter": "d", "Input": "t"}, {"Output": "t"}, **{**CONV, "groups": 4}),
        op("conv2d", {"Filter": "shared", "Input": "t"}, {"Output": "t"}, **CONV),
        op("conv2d", {"Filter": "shared", "Input": "t"}, {"Output": "t"}, **CONV),
        op("conv2d_transpose", {"Filter": "up", "Input": "t"}, {"Output": "t"},
           **{**CONV, "strides": (2, 2)}, output_padding=(), output_size=()),
        unary("scale", "t", "t", bias=-0.0, bias_after_scale=True, scale=0.5),
        unary("transpose2", "t", "t", axis=(0, 2, 3, 1)),
        op("fc", {"Bias": "last", "Input": "t", "W": "Étage"}, {"Out": "t"}, in_num_col_dims=3),
        op("matmul_v2", {"X": "t", "Y": "m"}, {"Out": "t"}, alpha=1.0, trans_x=False, trans_y=False),
        unary("scale", "t", "y", bias=0.0, bias_after_scale=True, scale=1.0),
    ]  # fmt: skip
    described = [(name, shape, 5, make_values(name).tobytes()) for name, (shape, _) in PARAMS.items()]
    return write_nb(*program(ops, (-1, 3, -1, -1), described))


def compute(data):
    (result,) = open_session(build_graph(parse_nb(data))).run(None, {"x": draw(2, 3, 5, 4, seed=99)})
    return result


def round_one(name, bits=8):
    return {name: round_nearest(make_values(name), PARAMS[name][1], bits)}


@cache
def convert(opt, folder, kind, name):
    model = resolve_model(name, kind)
    return run_opt(opt.python, model.program, model.params, folder / kind, valid_places="arm").read_bytes()


@pytest.fixture(scope="module", params=[("cls", "ch_ppocr_mobile_v2_cls"), ("rec", "PP-OCRv4_mobile_rec")])
def real(request, opt, default_models, tmp_path_factory):
    """A file that opt made."""
    return convert(opt, tmp_path_factory.mktemp("nb"), *request.param)


def check_same(found, wanted):
    assert found.blocks == wanted.blocks
    assert (found.params, list(found.params)) == (wanted.params, list(wanted.params))
    assert (found.inputs, found.outputs) == (wanted.inputs, wanted.outputs)
    assert (found.header.opt_version, found.program_version) == (wanted.header.opt_version, wanted.program_version)


def test_a_file_edited_with_nothing_says_the_same(real):
    edited = edit_nb(real, {})
    check_same(parse_nb(edited), parse_nb(real))
    assert parse_nb(edited).header.max_tensor_size_bytes == parse_nb(real).header.max_tensor_size_bytes
    assert edit_nb(edited, {}) == edited
    # Names of attributes are written once.
    before, after = (parse_header(data).topology_size_bytes for data in (real, edited))
    assert after < 0.3 * before


def test_our_own_file_edited_with_nothing_says_the_same():
    edited = edit_nb(make_file(), {})
    check_same(parse_nb(edited), parse_nb(make_file()))
    signs = [math.copysign(1, one.attrs["bias"]) for one in parse_nb(edited).blocks[0].ops if one.type == "scale"]
    assert signs == [-1, 1]


@pytest.mark.parametrize("seed", range(30))
def test_any_mix_of_widths_is_read_as_it_was_written(seed):
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    rounded, floats, width = {}, {}, {}
    for name, (shape, axis) in PARAMS.items():
        bits = rng.choice((8, 16, None)) if axis is not None else None
        # An op has one width.
        bits = width.get({"b": "w", "last": "Étage"}.get(name), bits) if bits else None
        if bits:
            limit = 2 ** (bits - 1) - 1
            values = numbers.integers(-limit, limit, shape, endpoint=True).astype(f"int{bits}")
            rounded[name] = Rounded(values, numbers.uniform(-0.1, 0.1, shape[axis]).astype(np.float32), axis)
            width[name] = bits
        elif rng.random() < 0.5:
            floats[name] = numbers.normal(size=shape).astype(np.float32)
    data = edit_nb(make_file(), rounded, floats)
    model, full = parse_nb(data), parse_nb(make_file())
    scales = {}
    for one in model.blocks[0].ops:
        if one.quantisation is not None:
            assert one.quantisation.method == "post_weight_channel_wise_abs_max"
            assert {8 * model.params[name].to_array().itemsize for name in one.quantisation.scales} == {
                one.quantisation.bits
            }
            for name, values in one.quantisation.scales.items():
                assert name not in scales, "the runtime would dequantise it twice"
                scales[name] = np.array(values, np.float32)
    assert scales.keys() == rounded.keys()
    for name, param in model.params.items():
        if name in rounded:
            np.testing.assert_array_equal(param.to_array(), rounded[name].values, strict=True)
            np.testing.assert_array_equal(scales[name], rounded[name].scales, strict=True)
        else:
            wanted = floats.get(name, full.params[name].to_array())
            np.testing.assert_array_equal(param.to_array(), wanted, strict=True)
    assert model.header.max_tensor_size_bytes == max(len(param.data) for param in model.params.values())
    assert data == edit_nb(make_file(), rounded, floats)
    # What the runtime dequantises is what a float file with the same products computes.
    plain = {**floats, **{name: one.to_float() for name, one in rounded.items()}}
    np.testing.assert_array_equal(compute(data), compute(edit_nb(make_file(), {}, plain)))


def read_inputs(data):
    """Return the inputs of each op as the runtime's OpDescView::input_vars does, which reads past a vector's end."""
    topology = data[26 : 26 + parse_header(data).topology_size_bytes]

    def follow(position):
        return position + struct.unpack_from("<I", topology, position)[0]

    def find(table, slot):
        vtable = table - struct.unpack_from("<i", topology, table)[0]
        return follow(table + struct.unpack_from("<H", topology, vtable + 4 + 2 * slot)[0])

    def list_items(vector):
        count = struct.unpack_from("<I", topology, vector)[0]
        return [vector + 4 + 4 * index for index in range(count + 1)]

    block = follow(list_items(find(follow(0), 0))[0])
    for place in list_items(find(block, 3))[:-1]:
        names = []
        for slot in list_items(find(follow(place), 1))[:-1]:
            arguments = list_items(find(follow(slot), 1))
            names.append(topology[follow(arguments[0]) + 4 : follow(arguments[-1]) + 4].decode())
        yield [name for name in names if name]


def list_inputs(data):
    return [[name for names in one.inputs.values() for name in names] for one in parse_nb(data).blocks[0].ops]


def test_the_runtime_finds_the_inputs_of_each_op(real):
    # Otherwise it ends with "basic_string::_M_create", or takes integers for floats.
    data = round_nb(real, 8)
    found, wanted = list(read_inputs(data)), list_inputs(data)
    dequantised = [index for index, one in enumerate(parse_nb(data).blocks[0].ops) if one.quantisation]
    assert len(dequantised) > 10
    assert [found[index] for index in dequantised] == [wanted[index] for index in dequantised]


def test_the_onnx_of_a_rounded_file_is_small(real, request):
    limit = {"cls": 0.5, "rec": 0.35}[request.node.callspec.params["real"][0]]
    model = parse_nb(round_nb(real, 8))
    stored = serialise_graph(model, "a.nb")
    assert len(stored) < limit * len(serialise_graph(parse_nb(real), "a.nb"))
    x = draw(1, 3, 48, 192, low=-1)
    whole, small = (
        onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for data in (build_graph(model).model.SerializeToString(), stored)
    )
    assert np.ptp(whole) > 0.1
    np.testing.assert_allclose(small, whole, rtol=0, atol=1e-6)


def test_the_runtime_finds_attributes_by_binary_search(real):
    for data in (round_nb(real, 16), edit_nb(make_file(), round_one("Étage"))):
        stored = open_program(memoryview(data), parse_header(data), "a.nb").read_stored()
        for one in stored["blocks"][0]["ops"][1:-1]:
            names = [attr["name"].encode() for attr in one["attrs"]]
            # Our own file has a few attributes in another order.
            if any(name.startswith(b"quant") for name in names):
                assert names == sorted(names)


def test_weights_that_two_ops_read_have_scales_once():
    data = edit_nb(make_file(), round_one("shared"))
    found = [one.quantisation for one in parse_nb(data).blocks[0].ops if "shared" in one.inputs.get("Filter", ())]
    assert [None if one is None else list(one.scales) for one in found] == [["shared"], None]
    plain = edit_nb(make_file(), {}, {"shared": round_one("shared")["shared"].to_float()})
    np.testing.assert_array_equal(compute(data), compute(plain))


@pytest.mark.parametrize("threads", [1, 4])
def test_a_mix_of_widths_on_a_real_library(real, tmp_path, threads):
    chosen = os.environ.get("EDGE_OCR_LITE_LIB")
    if not chosen:
        pytest.skip("no Paddle-Lite library: EDGE_OCR_LITE_LIB names none")
    # The runtime dequantises depthwise convolutions and biases, too.
    model, rounded = parse_nb(real), {}
    layers = [one for one in model.blocks[0].ops if one.type in ("conv2d", "depthwise_conv2d", "fc")]
    for index, one in enumerate(layers):
        bits = (8, 16, None)[index % 3]
        for slot, axis in (("Filter", 0), ("W", 1), ("Bias", 0)):
            for name in one.inputs.get(slot, ()) if bits else ():
                rounded[name] = round_nearest(model.params[name].to_array(), axis, bits)
    path = tmp_path / "mixed.nb"
    path.write_bytes(edit_nb(real, rounded))
    model = parse_nb(path.read_bytes())
    assert {8, 16} == {one.quantisation.bits for one in model.blocks[0].ops if one.quantisation}
    x = draw(1, 3, 48, 64, low=-1)
    (wanted,) = open_session(build_graph(model)).run(None, {"x": x})
    with open_lite_engines(
        "qemu",
        {"m": path},
        library=Path(chosen),
        include_dir=Path(chosen).parent.parent / "include",
        arch="armv8",
        expected_version="v2.13-rc",
        threads=threads,
    ) as opened:
        found = opened["m"].run(x)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("rounded", "words"),
    [
        ({"nowhere": round_nearest(draw(4, 3, 1, 1), 0, 8)}, "'nowhere'"),
        ({"w": round_nearest(draw(4, 3, 1, 2), 0, 8)}, r"'w'.*\[4, 3, 1, 2\].*\[4, 3, 1, 1\]"),
        ({"w": round_nearest(draw(4, 3, 1, 1), 1, 8)}, r"'w'.*\[3\].*axis 1.*4.*axis 0"),
        ({"Étage": round_nearest(draw(4, 5), 0, 8)}, r"'Étage'.*\[4\].*axis 0.*5.*axis 1"),
        ({"w": Rounded(np.zeros((4, 3, 1, 1), np.int8), np.ones(3, np.float32), 0)}, r"'w'.*\[3\].*4"),
        ({"w": Rounded(np.zeros((4, 3, 1, 1), np.int8), np.ones(4), 0)}, "'w'.*float64"),
        ({"w": Rounded(np.zeros((4, 3, 1, 1), np.int32), np.ones(4, np.float32), 0)}, "'w'.*int32"),
        ({"w": Rounded(np.zeros((4, 3, 1, 1), np.float32), np.ones(4, np.float32), 0)}, "'w'.*float32"),
        ({"w": Rounded(np.ones((4, 3, 1, 1), np.int8), np.full(4, np.nan, np.float32), 0)}, "'w'.*finite"),
        ({"w": Rounded(np.zeros((4, 3, 1, 1), np.int8), np.full(4, np.inf, np.float32), 0)}, "'w'.*finite"),
        ({"up": round_nearest(draw(4, 4, 2, 2), 0, 8)}, "'up'.*conv2d_transpose"),
        ({"m": round_nearest(draw(5, 5), 1, 8)}, "'m'.*matmul_v2"),
        ({**round_one("w", 8), **round_one("b", 16)}, "'b'.*16 bits.*conv2d.*8 bits"),
    ],
)
def test_what_the_runtime_would_not_dequantise_is_refused(rounded, words):
    with pytest.raises(ModelError, match=rf"^a.nb: parameter {words}"):
        edit_nb(make_file(), rounded, where="a.nb")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"nowhere": draw(4)}, "'nowhere'"),
        ({"b": draw(5)}, r"'b'.*\[5\].*\[4\]"),
        ({"b": np.ones(4)}, "'b'.*float64.*float32"),
        ({"b": np.full(4, np.inf, np.float32)}, "'b'.*finite"),
        ({"w": draw(4, 3, 1, 1)}, "'w'.*float32"),
    ],
)
def test_floats_that_do_not_fit_are_refused(params, words):
    with pytest.raises(ModelError, match=rf"^a.nb: parameter {words}"):
        edit_nb(make_file(), round_one("w"), params, "a.nb")


def test_a_rounded_file_is_not_rounded_again():
    data = edit_nb(make_file(), round_one("w"))
    with pytest.raises(ModelError, match=r"'w'.*int8.*float32"):
        edit_nb(data, round_one("w"))
    # Another weight may follow.
    both = edit_nb(data, round_one("d", 16))
    assert both == edit_nb(make_file(), {**round_one("w"), **round_one("d", 16)})


@pytest.mark.parametrize(
    ("inputs", "attrs", "words"),
    [
        ({"Filter": "w", "Input": ["x", "x"]}, {}, "one slot"),
        ({"Filter": "w", "Input": "x"}, {"enable_int8": True}, "int8"),
    ],
)
def test_ops_that_the_runtime_would_misread_are_refused(inputs, attrs, words):
    data = write_nb(*program([op("conv2d", inputs, {"Output": "y"}, **attrs)], (1, 3, 4, 4), [("w", (4, 3, 1, 1))]))
    with pytest.raises(ModelError, match=rf"'w'.*{words}"):
        edit_nb(data, round_one("w"))


def test_a_scale_off_by_two_percent_or_another_bit_shows():
    one = round_one("w")["w"]
    right = compute(edit_nb(make_file(), {"w": one}))
    scaled = Rounded(one.values, (one.scales * np.float32(1.02)).astype(np.float32), 0)
    flipped = one.values.copy()
    flipped[0, 0, 0, 0] ^= 64
    for wrong in (scaled, Rounded(flipped, one.scales, 0)):
        assert np.abs(compute(edit_nb(make_file(), {"w": wrong})) - right).max() > 0.01
    assert np.abs(right - compute(make_file())).max() > 1e-4


def test_damaged_files_are_refused():
    with pytest.raises(ModelError, match="truncated"):
        edit_nb(make_file()[:-1], {})


def test_rounding_is_to_the_nearest_with_ties_away_from_zero():
    weights = np.array([[127, 2.5, -2.5, 0.49, -0.51], [0, 0, 0, 0, 0], [254, 3, -3, 1, 0.99]], np.float32)
    one = round_nearest(weights, 0, 8)
    assert one.values.tolist() == [[127, 3, -3, 0, -1], [0, 0, 0, 0, 0], [127, 2, -2, 1, 0]]
    assert (one.scales.tolist(), one.scales.dtype, one.bits) == ([1, 0, 2], np.float32, 8)
    assert round_nearest(weights.T, 1, 8).values.tolist() == one.values.T.tolist()
    wide = round_nearest(weights, 0, 16)
    assert (wide.bits, wide.values[0, 0]) == (16, 32767)
    assert np.abs(wide.to_float() - weights).max() <= 254 / 32767 / 2


def test_rounding_of_odd_numbers():
    tiny = np.float32(1e-45) * np.array([[0, -1, 190, 300], [0, 0, 0, 1]], np.float32)
    one = round_nearest(tiny, 0, 8)
    assert np.isfinite(one.to_float()).all()
    assert np.abs(one.values.astype(int)).max() <= 127
    for odd in (np.inf, -np.inf, np.nan):
        weights = make_values("w").copy()
        weights[1, 2] = odd
        with pytest.raises(ModelError, match=r"'w'.*finite"):
            edit_nb(make_file(), {"w": round_nearest(weights, 0, 16)})


def test_weights_of_conv2d_and_fc_are_rounded():
    model = parse_nb(make_file())
    assert list_weights(model) == {"w": 0, "shared": 0, "Étage": 1}
    for name, one in round_weights(model, 16).items():
        np.testing.assert_array_equal(one.values, round_nearest(make_values(name), one.axis, 16).values, strict=True)
    assert list_weights(parse_nb(round_nb(make_file(), 8))) == {}
