import math
import re
from collections import Counter
from functools import cache

import pytest
from support.nb_programs import make_op

from converters.lite.nb.cost import compute_cost
from converters.lite.nb.read import NbBlock, NbHeader, NbModel, NbParam, NbVar, read_nb
from converters.lite.opt import run_opt
from edge_ocr.errors import ModelError
from edge_ocr.models.resolve import resolve_model

MODELS = {"det": "PP-OCRv4_mobile_det", "rec": "PP-OCRv4_mobile_rec", "cls": "ch_ppocr_mobile_v2_cls"}


def build_model(*ops, params=(), output="y", shape=(-1,) * 4):
    x = NbVar("x", "tensor", False, "float32", shape)
    ops = (make_op("feed", {"X": "feed"}, {"Out": "x"}), *ops, make_op("fetch", {"X": output}, {"Out": "fetch"}))
    return NbModel(
        size_bytes=0,
        header=NbHeader(2, "v2.13-rc", 0, 0, 0),
        program_version=0,
        blocks=(NbBlock(0, -1, {"x": x}, ops),),
        params={
            name: NbParam(name, "float32", shape, memoryview(bytes(4 * math.prod(shape))))
            for name, shape in dict(params).items()
        },
        inputs=(x,),
        outputs=(NbVar(output, "tensor", False, "float32", None),),
    )


def run(shape, *ops, params=(), output="y"):
    """Return the cost of the ops between feed and fetch."""
    return compute_cost(build_model(*ops, params=params, output=output, shape=(-1,) * len(shape)), {"x": shape})


def infer(given, op_type, /, *, slot="X", out="Out", **attrs):
    """Return the output shape of one op with one input."""
    return run(given, make_op(op_type, {slot: "x"}, {out: "y"}, **attrs)).output_shapes["y"]


def fill(name, value):
    return make_op("fill_constant", {}, {"Out": name}, shape=(1,), str_value=str(value), value=float(value), dtype=2)


def make_conv(**attrs):
    return make_op("conv2d", {"Input": "x", "Filter": "w", "Bias": "b"}, {"Output": "y"}, **attrs)


def make_interpolation(**attrs):
    return make_op("nearest_interp_v2", {"X": "x"}, {"Out": "y"}, align_corners=False, **attrs)


def test_a_convolution_counted_by_hand():
    table = run(
        (2, 3, 10, 12),
        make_conv(strides=(2, 2), paddings=(1, 1), dilations=(1, 1), groups=1, with_act=True, act_type="relu"),
        params={"w": (8, 3, 3, 3), "b": (8,)},
    )
    # (10 + 2 - 3) // 2 + 1 = 5 and (12 + 2 - 3) // 2 + 1 = 6; each output is a sum of 3 × 3 × 3 products.
    assert table.output_shapes == {"y": (2, 8, 5, 6)}
    conv = table.ops[1]
    assert conv.madds == table.madds == 2 * 8 * 5 * 6 * 27
    assert conv.param_bytes == table.param_bytes == 4 * (8 * 27 + 8)
    assert conv.read_bytes == table.read_bytes == 4 * 2 * 3 * 10 * 12
    assert conv.written_bytes == table.written_bytes == 4 * 2 * 8 * 5 * 6
    assert table.activation_bytes == table.read_bytes + table.written_bytes
    assert (conv.input_shapes, conv.output_shapes) == (((2, 3, 10, 12),), ((2, 8, 5, 6),))
    assert [op.read_bytes + op.written_bytes for op in (table.ops[0], table.ops[2])] == [0, 0]


def test_a_depthwise_convolution_counted_by_hand():
    op = make_op(
        "depthwise_conv2d", {"Input": "x", "Filter": "w"}, {"Output": "y"}, strides=(2, 1), paddings=(2, 2), groups=4
    )
    table = run((1, 4, 9, 9), op, params={"w": (4, 1, 5, 5)})
    assert table.output_shapes["y"] == (1, 4, 5, 9)
    assert table.madds == 4 * 5 * 9 * 25


def test_a_transposed_convolution_counted_by_hand():
    op = make_op("conv2d_transpose", {"Input": "x", "Filter": "w"}, {"Output": "y"}, strides=(2, 2), paddings=(0, 0))
    table = run((1, 6, 5, 7), op, params={"w": (6, 4, 2, 2)})
    assert table.output_shapes["y"] == (1, 4, 10, 14)
    # Each input takes part in 4 channels × 2 × 2 products.
    assert table.madds == 6 * 5 * 7 * 16


@pytest.mark.parametrize(
    ("attrs", "sides"),
    [
        ({"paddings": (1, 2, 0, 0)}, (11, 8)),
        ({"dilations": (2, 3)}, (6, 4)),
        ({"strides": (3, 3), "padding_algorithm": "SAME", "paddings": (9, 9)}, (4, 4)),
        ({"padding_algorithm": "VALID", "paddings": (9, 9)}, (8, 8)),
    ],
)
def test_padding_and_dilation(attrs, sides):
    table = run((1, 1, 10, 10), make_conv(**attrs), params={"w": (1, 1, 3, 3), "b": (1,)})
    assert table.output_shapes["y"] == (1, 1, *sides)


@pytest.mark.parametrize(
    ("attrs", "sides"),
    [
        ({"ksize": (3, 2), "strides": (3, 2), "paddings": (0, 0)}, (3, 5)),
        ({"ksize": (3, 2), "strides": (3, 2), "paddings": (0, 0), "ceil_mode": True}, (4, 6)),
        ({"ksize": (1, 1), "global_pooling": True}, (1, 1)),
        ({"ksize": (1, 1), "adaptive": True}, (1, 1)),
    ],
)
def test_pooling(attrs, sides):
    assert infer((1, 2, 10, 11), "pool2d", pooling_type="max", **attrs) == (1, 2, *sides)


@pytest.mark.parametrize(
    ("x", "w", "axis", "shape"),
    [
        ((2, 3, 4, 5), (1,), -1, (2, 3, 4, 5)),
        ((2, 3, 4, 5), (3, 1, 1), -1, (2, 3, 4, 5)),
        ((2, 3, 4, 5), (3,), 1, (2, 3, 4, 5)),
        ((2, 3, 1, 1), (2, 3, 4, 5), -1, (2, 3, 4, 5)),
        ((3,), (2, 3), -1, (2, 3)),
    ],
)
def test_elementwise_broadcasts(x, w, axis, shape):
    op = make_op("elementwise_add", {"X": "x", "Y": "w"}, {"Out": "y"}, axis=axis)
    table = run(x, op, params={"w": w})
    assert table.output_shapes["y"] == shape
    assert (table.madds, table.param_bytes) == (0, 4 * math.prod(w))
    assert table.activation_bytes == 4 * (math.prod(x) + math.prod(shape))


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        (("transpose2", {"axis": (2, 0, 1)}), (4, 2, 3)),
        (("flatten_contiguous_range", {"start_axis": 1, "stop_axis": -1}), (2, 12)),
        (("unsqueeze2", {"axes": (0, -1)}), (1, 2, 3, 4, 1)),
        (("reshape2", {"shape": (0, -1)}), (2, 12)),
        (("reshape2", {"shape": (4, 0, 2)}), (4, 3, 2)),
        (("softmax", {"axis": -1}), (2, 3, 4)),
        (("hard_swish", {}), (2, 3, 4)),
        (("scale", {"scale": 0.5, "bias": 0.0}), (2, 3, 4)),
    ],
)
def test_ops_that_move_dimensions(call, shape):
    op_type, attrs = call
    assert infer((2, 3, 4), op_type, **attrs) == shape


@pytest.mark.parametrize(("axes", "shape"), [((1,), (2, 3, 1)), ((-1,), (2, 1, 3))])
def test_squeeze(axes, shape):
    assert infer((2, 1, 3, 1), "squeeze2", axes=axes) == shape


@pytest.mark.parametrize(
    ("attrs", "shape"),
    [
        ({"axes": (0,), "starts": (1,), "ends": (2,)}, (1, 6)),
        ({"axes": (0,), "starts": (1,), "ends": (2,), "decrease_axis": (0,)}, (6,)),
        ({"axes": (1,), "starts": (-4,), "ends": (2147483647,)}, (4, 4)),
        ({"axes": (0, 1), "starts": (0, 0), "ends": (1, 1), "decrease_axis": (0, 1)}, (1,)),
    ],
)
def test_slice(attrs, shape):
    assert infer((4, 6), "slice", slot="Input", **attrs) == shape


def test_slice_and_shape_read_no_more_than_they_need():
    table = run((4, 6), make_op("slice", {"Input": "x"}, {"Out": "y"}, axes=(0,), starts=(0,), ends=(1,)))
    assert (table.read_bytes, table.written_bytes) == (24, 24)
    table = run((4, 6), make_op("shape", {"Input": "x"}, {"Out": "s"}), output="x")
    assert (table.read_bytes, table.written_bytes) == (0, 8)


def test_another_shape_in_place_moves_nothing():
    attrs = {"shape": (6,)}
    moved = run((2, 3), make_op("reshape2", {"X": "x"}, {"Out": "y", "XShape": "z"}, **attrs))
    kept = run((2, 3), make_op("reshape2", {"X": "x"}, {"Out": "y", "XShape": "z"}, **attrs, inplace=True))
    assert (moved.activation_bytes, kept.activation_bytes) == (48, 0)


@pytest.mark.parametrize(
    ("op_type", "sides"),
    [("nearest_interp_v2", (6, 20)), ("bilinear_interp_v2", (6, 20))],
)
def test_interpolation(op_type, sides):
    assert infer((1, 2, 3, 5), op_type, scale=(2.0, 4.0), align_corners=False) == (1, 2, *sides)


def test_concat_and_layer_norm():
    table = run(
        (2, 3, 4),
        make_op("concat", {"X": ("x", "x", "x")}, {"Out": "c"}, axis=-2),
        make_op("layer_norm", {"X": "c", "Scale": "w", "Bias": "w"}, {"Y": "y"}, begin_norm_axis=2),
        params={"w": (4,)},
    )
    assert table.output_shapes["y"] == (2, 9, 4)
    assert table.ops[1].read_bytes == 3 * table.ops[0].output_shapes[0][0] * 12 * 4


def test_fc_and_matmul_counted_by_hand():
    fc = make_op("fc", {"Input": "x", "W": "w"}, {"Out": "f"}, in_num_col_dims=1, op_type="matmul_v2")
    product = make_op("matmul_v2", {"X": "f", "Y": "f"}, {"Out": "y"}, trans_x=False, trans_y=True)
    table = run((2, 5, 6), fc, product, params={"w": (6, 7)})
    assert table.output_shapes["y"] == (2, 5, 5)
    assert [op.madds for op in table.ops] == [0, 2 * 5 * 6 * 7, 2 * 5 * 5 * 7, 0]
    flattened = make_op("fc", {"Input": "x", "W": "w"}, {"Out": "y"}, in_num_col_dims=1, op_type="mul")
    assert run((2, 5, 6), flattened, params={"w": (30, 7)}).output_shapes["y"] == (2, 7)


def test_shapes_that_the_program_computes_are_followed():
    table = run(
        (2, 120, 1, 40),
        make_op("shape", {"Input": "x"}, {"Out": "s"}),
        make_op("slice", {"Input": "s"}, {"Out": "w"}, axes=(0,), starts=(3,), ends=(4,), decrease_axis=(0,)),
        make_op("scale", {"X": "w"}, {"Out": "w"}, scale=1.0, bias=-8.0),
        make_op("scale", {"X": "w"}, {"Out": "w"}, scale=1.0, bias=8.0),
        make_op("assign", {"X": "w"}, {"Out": "w2"}),
        fill("zero", 0),
        # opt reuses names: this `s` is not the first one.
        fill("s", 120),
        make_op("reshape2", {"X": "x", "ShapeTensor": ("zero", "w2", "s")}, {"Out": "y"}, shape=(0, -1, 120)),
    )
    assert table.output_shapes["y"] == (2, 40, 120)


def test_shapes_in_one_tensor_are_followed():
    def pick(place, name):
        return make_op("slice", {"Input": "s"}, {"Out": name}, axes=(0,), starts=(place,), ends=(place + 1,))

    table = run(
        (2, 3, 4),
        fill("a", 6),
        fill("b", -1),
        make_op("concat", {"X": ("a", "b")}, {"Out": "s"}, axis=0),
        pick(0, "p"),
        pick(1, "q"),
        make_op("reshape2", {"X": "x", "ShapeTensor": ("p", "q")}, {"Out": "y"}),
    )
    assert table.output_shapes["y"] == (6, 4)
    assert [op.output_shapes[0] for op in table.ops[3:6]] == [(2,), (1,), (1,)]


@pytest.mark.parametrize(
    ("ops", "params", "named"),
    [
        ([make_op("einsum", {"X": "x"}, {"Out": "y"})], {}, "op 1: 'einsum'"),
        ([make_op("relu", {"X": "none"}, {"Out": "y"})], {}, r"op 1 \(relu\): X 'none'"),
        ([make_op("relu", {"X": "x", "Y": "none"}, {"Out": "y"})], {}, r"op 1 \(relu\): 'none'"),
        ([make_op("relu", {}, {"Out": "y"})], {}, r"op 1 \(relu\): 0.*X"),
        ([make_op("relu", {"X": ("x", "x")}, {"Out": "y"})], {}, r"op 1 \(relu\): 2.*X"),
        ([make_conv(groups=2)], {"w": (8, 3, 3, 3), "b": (8,)}, r"op 1 \(conv2d\): 3.*2.*\[8, 3, 3, 3\]"),
        ([make_conv(groups=0)], {"w": (8, 3, 3, 3), "b": (8,)}, r"op 1 \(conv2d\).*\[8, 3, 3, 3\].*0 groups"),
        ([make_conv(groups="1")], {"w": (8, 3, 3, 3), "b": (8,)}, "groups.*'1'"),
        ([make_conv(strides=(0, 1))], {"w": (8, 3, 3, 3), "b": (8,)}, r"strides \[0, 1\]"),
        ([make_conv(strides=("1", 1))], {"w": (8, 3, 3, 3), "b": (8,)}, r"strides.*\('1', 1\)"),
        ([make_conv(strides=(1,))], {"w": (8, 3, 3, 3), "b": (8,)}, "strides.*1.*2"),
        ([make_conv(paddings=(1,) * 3)], {"w": (8, 3, 3, 3), "b": (8,)}, r"paddings \[1, 1, 1\]"),
        ([make_conv()], {"w": (8, 3, 30, 3), "b": (8,)}, r"op 1 \(conv2d\).*\[1, 8, -21, 6\]"),
        ([make_conv(strides=(9, 9))], {"w": (8, 3, 9, 9), "b": (8,)}, r"op 1 \(conv2d\).*\[1, 3, 8, 8\]"),
        ([make_conv()], {"w": (8, 3, 3), "b": (8,)}, r"op 1 \(conv2d\).*\[8, 3, 3\]"),
        (
            [make_op("conv2d_transpose", {"Input": "x", "Filter": "w"}, {"Output": "y"})],
            {"w": (5, 3, 2, 2)},
            r"op 1 \(conv2d_transpose\): 3.*\[5, 3, 2, 2\]",
        ),
        ([make_op("elementwise_mul", {"X": "x", "Y": "w"}, {"Out": "y"})], {"w": (5,)}, r"op 1 \(elementwise_mul\)"),
        ([make_op("elementwise_mul", {"X": "x", "Y": "w"}, {"Out": "y"}, axis=4)], {"w": (8,)}, "axis 4.*4.*1"),
        ([make_op("matmul_v2", {"X": "x", "Y": "w"}, {"Out": "y"})], {"w": (9, 2)}, r"op 1 \(matmul_v2\)"),
        ([make_op("fc", {"Input": "x", "W": "w"}, {"Out": "y"})], {"w": (9, 2)}, r"op 1 \(fc\)"),
        ([make_op("transpose2", {"X": "x"}, {"Out": "y"}, axis=(0, 1, 2, 2))], {}, r"axis.*\[0, 1, 2, 2\]"),
        ([make_op("reshape2", {"X": "x"}, {"Out": "y"}, shape=(7, -1))], {}, r"op 1 \(reshape2\)"),
        ([make_op("reshape2", {"X": "x"}, {"Out": "y"}, shape=(7, 2))], {}, r"op 1 \(reshape2\).*\[7, 2\]"),
        ([make_op("reshape2", {"X": "x"}, {"Out": "y"}, shape=(-1, -1))], {}, r"op 1 \(reshape2\).*\[-1, -1\]"),
        ([make_op("reshape2", {"X": "x"}, {"Out": "y"}, shape=(1,) * 9**5)], {}, "shape.*59049.*16"),
        ([make_op("reshape2", {"X": "x", "Shape": "x"}, {"Out": "y"})], {}, r"op 1 \(reshape2\): Shape"),
        ([make_op("concat", {"X": ("x", "w")}, {"Out": "y"}, axis=1)], {"w": (1, 3, 8, 9)}, r"op 1 \(concat\)"),
        ([make_op("concat", {"X": ("x",)}, {"Out": "y"}, axis=4)], {}, "axis.*4.*-4.*3"),
        ([make_op("concat", {}, {"Out": "y"})], {}, r"op 1 \(concat\)"),
        ([make_op("slice", {"Input": "x"}, {"Out": "y"}, axes=(0,), starts=(5,), ends=(6,))], {}, r"\[0, 3, 8, 8\]"),
        ([make_op("slice", {"Input": "x"}, {"Out": "y"}, axes=(0,), starts=(), ends=(6,))], {}, r"starts \[\], ends"),
        ([make_interpolation(scale=(math.nan,))], {}, r"scale.*\(nan,\)"),
        ([make_interpolation()], {}, "scale.*None"),
        ([make_op("bilinear_interp_v2", {"X": "x", "Scale": "x"}, {"Out": "y"})], {}, "op 1.*Scale"),
        ([make_op("fill_constant", {}, {"Out": "y"}, shape=(2**40,))], {}, r"\[1099511627776\]"),
        (
            [make_op("flatten_contiguous_range", {"X": "x"}, {"Out": "y"}, start_axis=2, stop_axis=1)],
            {},
            "start_axis.*2.*1",
        ),
    ],
)
def test_mismatched_shapes_are_named(ops, params, named):
    with pytest.raises(ModelError, match=named) as caught:
        run((1, 3, 8, 8), *ops, params=params)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("shape", [(0, 3), (1, 4), (1, 3, 1), (2**31, 3)])
def test_the_inputs_must_be_those_of_the_model(shape):
    model = build_model(make_op("relu", {"X": "x"}, {"Out": "y"}), shape=(-1, 3))
    with pytest.raises(ModelError, match=r"\['z'\].*\['x'\]"):
        compute_cost(model, {"z": (1, 3)})
    with pytest.raises(ModelError, match=rf"'x'.*{re.escape(str(list(shape)))}.*\['\?', 3\]"):
        compute_cost(model, {"x": shape})


@pytest.fixture(scope="session")
def convert(opt, tmp_path_factory):
    """Make the .nb of a network, by kind."""
    folder = tmp_path_factory.mktemp("nb")

    @cache
    def convert(kind):
        model = resolve_model(MODELS[kind], kind)
        return read_nb(run_opt(opt.python, model.program, model.params, folder / kind, valid_places="arm"))

    return convert


def list_products(kind, shape):
    """Return what OpenVINO says of the source: output shapes of convolutions and products, madds, the output."""
    import openvino

    model = openvino.Core().read_model(str(resolve_model(MODELS[kind], kind).program))
    model.reshape(list(shape))
    shapes, madds = Counter(), 0
    for op in model.get_ops():
        if op.get_type_name() not in ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"):
            continue
        out, first, weights = (tuple(s) for s in (op.get_output_shape(0), op.get_input_shape(0), op.get_input_shape(1)))
        shapes[out] += 1
        if op.get_type_name() == "MatMul":
            madds += math.prod(out) * first[-2 if op.get_attributes()["transpose_a"] else -1]
        elif op.get_type_name() == "ConvolutionBackpropData":
            madds += math.prod(first) * math.prod(weights[1:])
        else:
            madds += math.prod(out) * math.prod(weights[2 if op.get_type_name() == "GroupConvolution" else 1 :])
    return shapes, madds, tuple(model.outputs[0].shape)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("det", (1, 3, 960, 960)),
        ("det", (2, 3, 640, 736)),
        ("rec", (1, 3, 48, 320)),
        ("rec", (6, 3, 48, 320)),
        ("rec", (2, 3, 48, 645)),
    ],
)
def test_a_real_model_has_the_shapes_and_products_of_its_source(convert, kind, shape):
    table = compute_cost(convert(kind), {"x": shape})
    shapes, madds, output = list_products(kind, shape)
    assert list(table.output_shapes.values()) == [output]
    assert Counter(op.output_shapes[0] for op in table.ops if op.madds) == shapes
    assert table.madds == madds


def test_the_classifier_has_one_product_less_than_its_source(convert):
    table = compute_cost(convert("cls"), {"x": (6, 3, 48, 192)})
    shapes, madds, output = list_products("cls", (6, 3, 48, 192))
    assert list(table.output_shapes.values()) == [output]
    # opt merges two neighbouring 1 × 1 convolutions of 8 channels.
    merged = (6, 8, 12, 96)
    assert shapes - Counter(op.output_shapes[0] for op in table.ops if op.madds) == Counter([merged])
    assert madds - table.madds == math.prod(merged) * 8


def test_batches_cost_in_proportion(convert):
    one = compute_cost(convert("rec"), {"x": (1, 3, 48, 320)})
    six = compute_cost(convert("rec"), {"x": (6, 3, 48, 320)})
    assert six.madds == 6 * one.madds
    assert six.param_bytes == one.param_bytes
    assert six.activation_bytes == pytest.approx(6 * one.activation_bytes, rel=1e-5)


def test_totals_of_det(convert):
    model = convert("det")
    table = compute_cost(model, {"x": (1, 3, 960, 960)})
    assert len(table.ops) == 243
    assert table.madds == 5_179_215_744
    assert table.param_bytes == sum(len(param.data) for param in model.params.values()) == 4_686_020
    assert (table.read_bytes, table.written_bytes) == (1_181_994_528, 1_072_496_928)
