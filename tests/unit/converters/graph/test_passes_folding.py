"""Each pass on small programs made for it, run by Paddle before and after."""

import warnings

import numpy as np
import pytest

from converters.graph.passes import run_passes
from converters.graph.passes.drop_identities import drop_identities
from converters.graph.passes.fold_activations import fold_activations
from converters.graph.passes.fold_affine import fold_affine
from converters.graph.passes.fold_batch_norm import fold_batch_norm
from converters.graph.passes.fold_gates import fold_gates
from converters.graph.passes.fold_layer_norm import fold_layer_norm
from converters.graph.passes.fold_slices import fold_slices
from converters.graph.passes.merge_convs import merge_convs
from converters.graph.passes.prune_charset import prune_charset
from converters.graph.passes.restore_attributes import restore_attributes
from converters.graph.passes.settle_shapes import settle_shapes
from converters.sources.program import Program, get_attr, load_framework_pb2, read_program, set_attr
from edge_ocr.errors import ModelError, UsageError

FEED, FETCH = 9, 10


@pytest.fixture(scope="module")
def inference():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import paddle.inference
    return paddle.inference


@pytest.fixture
def run(inference, tmp_path):
    def run(program, array):
        program.write(tmp_path / "p.pdmodel", tmp_path / "p.pdiparams")
        read_program(tmp_path / "p.pdmodel", tmp_path / "p.pdiparams")
        config = inference.Config(str(tmp_path / "p.pdmodel"), str(tmp_path / "p.pdiparams"))
        config.disable_glog_info()
        config.switch_ir_optim(False)
        config.disable_mkldnn()
        predictor = inference.create_predictor(config)
        predictor.get_input_handle("x").copy_from_cpu(array)
        predictor.run()
        return {name: predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()}

    return run


def build(ops, params, outputs=("out",), shape=(-1, 4, -1, -1), shapes=()):
    """Make a program from `type inputs -> outputs attrs` tuples; inputs and outputs are SLOT=name words."""
    pb = load_framework_pb2()
    desc = pb.ProgramDesc()
    desc.version.version = 2004002
    block = desc.blocks.add(idx=0, parent_idx=-1)
    for name, kind in (("feed", FEED), ("fetch", FETCH)):
        block.vars.add(name=name, persistable=True).type.type = kind
    tensors = {"x": shape, **dict(shapes)}
    feed = ("feed", "X=feed", "Out=x", {"col": 0})
    fetches = [("fetch", f"X={name}", "Out=fetch", {"col": column}) for column, name in enumerate(outputs)]
    for op_type, inputs, results, attrs in [feed, *ops, *fetches]:
        op = block.ops.add(type=op_type)
        for slots, words in ((op.inputs, inputs), (op.outputs, results)):
            for slot, names in (word.split("=") for word in words.split()):
                slots.add(parameter=slot, arguments=names.split(","))
        for name, value in attrs.items():
            set_attr(op, name, value)
        for word in results.split():
            tensors.setdefault(word.split("=")[1], (-1, 4, -1, -1))
    for name in tensors.keys() - {"fetch"}:
        var = block.vars.add(name=name)
        var.type.type = 7
        var.type.dense_tensor.tensor.data_type = 5
        var.type.dense_tensor.tensor.dims.extend(tensors[name])
    program = Program(desc, {}, "synthetic")
    for name, value in params.items():
        program.set_param(name, np.asarray(value, np.float32))
    return program


def conv(source, result, weight, *, kind="conv2d", pad=0, groups=1, stride=1, **attrs):
    attrs = {"strides": [stride] * 2, "paddings": [pad] * 2, "dilations": [1, 1], "groups": groups, **attrs}
    attrs.setdefault("padding_algorithm", "EXPLICIT")
    return (kind, f"Input={source} Filter={weight}", f"Output={result}", {"data_format": "NCHW", **attrs})


def mul(x, y, result, axis=-1):
    return ("elementwise_mul", f"X={x} Y={y}", f"Out={result}", {"axis": axis})


def add(x, y, result, axis=-1):
    return ("elementwise_add", f"X={x} Y={y}", f"Out={result}", {"axis": axis})


def act(kind, source, result, **attrs):
    defaults = {"hard_swish": {"threshold": 6.0, "scale": 6.0, "offset": 3.0}}
    return (kind, f"X={source}", f"Out={result}", {**defaults.get(kind, {}), **attrs})


def pool(source, result, kind="avg", **attrs):
    attrs = {"ksize": [2, 2], "strides": [2, 2], "paddings": [0, 0], "pooling_type": kind, **attrs}
    defaults = {"exclusive": True, "adaptive": False, "global_pooling": False, "ceil_mode": False}
    return ("pool2d", f"X={source}", f"Out={result}", {"padding_algorithm": "EXPLICIT", **defaults, **attrs})


def draw(*shape, seed=1):
    return np.random.default_rng([seed, *shape]).normal(0, 1, shape).astype(np.float32)


X = draw(2, 4, 8, 8, seed=7)


def list_types(program):
    return [op.type for op in program.ops]


def check_same(run, apply, program, *, changed, array=X):
    """Apply a pass and compare; return the program's op types without feed and fetch."""
    before = run(program, array)
    report = apply(program)
    after = run(program, array)
    assert report.changed == changed
    assert report.ops_after == len(program.ops)
    assert before.keys() == after.keys()
    for name in before:
        assert before[name].shape == after[name].shape
        np.testing.assert_allclose(after[name], before[name], rtol=0, atol=2e-5)
    return [kind for kind in list_types(program) if kind not in ("feed", "fetch")]


CONVS = {
    "dense": ({}, (6, 4, 3, 3), 6),
    "padded": ({"pad": 1, "stride": 2}, (6, 4, 3, 3), 6),
    "grouped": ({"pad": 1, "groups": 2}, (6, 2, 3, 3), 6),
    "depthwise": ({"kind": "depthwise_conv2d", "pad": 1, "groups": 4}, (4, 1, 3, 3), 4),
    "transposed": ({"kind": "conv2d_transpose", "stride": 2}, (4, 6, 2, 2), 6),
    "transposed grouped": ({"kind": "conv2d_transpose", "stride": 2, "groups": 2}, (4, 3, 3, 3), 6),
}


@pytest.mark.parametrize("form", ["number", "number first", "0-D", "axis 1", "flush right", "full rank"])
@pytest.mark.parametrize("name", CONVS)
def test_affine_behind_a_conv_is_folded(run, name, form):
    options, shape, channels = CONVS[name]
    sizes = {"number": (1,), "number first": (1,), "0-D": (), "axis 1": (channels,)}
    size = sizes.get(form, (channels, 1, 1) if form == "flush right" else (1, channels, 1, 1))
    axis = 1 if form == "axis 1" else -1
    scale = mul("a", "t1", "t2") if form == "number first" else mul("t1", "a", "t2", axis)
    ops = [conv("x", "t0", "w", **options), add("t0", "c", "t1", 1), scale, add("t2", "b", "out", axis)]
    params = {"w": draw(*shape), "c": draw(channels), "a": draw(*size), "b": draw(*size, seed=2)}
    program = build(ops, params, shapes={f"t{i}": (-1, channels, -1, -1) for i in range(3)})
    kinds = check_same(run, fold_affine, program, changed=2)
    assert kinds == [options.get("kind", "conv2d"), "elementwise_add"]
    assert program.params.keys() == {"w", "c"}


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_affine_ahead_of_a_conv(run, name, per_channel):
    options, shape, _ = CONVS[name]
    size, axis = ((4,), 1) if per_channel else ((1,), -1)
    ops = [
        act("hard_swish", "x", "t0"),
        mul("t0", "a", "t1", axis),
        add("t1", "b", "t2", axis),
        conv("t2", "out", "w", **options),
    ]
    program = build(ops, {"w": draw(*shape), "a": draw(*size), "b": draw(*size, seed=2)})
    folds_whole = name == "dense"
    kinds = check_same(run, fold_affine, program, changed=2 if folds_whole else 1)
    kind = options.get("kind", "conv2d")
    # The addition ahead of the padding or of a transposed conv stays; elsewhere it becomes the bias.
    expected = [kind, "elementwise_add"] if folds_whole else ["elementwise_add", kind]
    assert kinds == ["hard_swish", *expected]


@pytest.mark.parametrize(("algorithm", "changed"), [("VALID", 1), ("SAME", 0)])
def test_the_padding_algorithm_decides_about_an_addition_ahead(run, algorithm, changed):
    ops = [add("x", "b", "t"), conv("t", "out", "w", padding_algorithm=algorithm)]
    check_same(run, fold_affine, build(ops, {"w": draw(5, 4, 3, 3), "b": [0.7]}), changed=changed)


def test_a_change_goes_into_all_readers_or_none(run):
    params = {"v": draw(4, 4, 1, 1), "w": draw(5, 4, 3, 3), "a": [1.7], "b": [0.3]}
    head = [act("relu", "x", "t0"), mul("t0", "a", "t1"), add("t1", "b", "t2")]
    two = [conv("t2", "out", "v"), conv("t2", "out2", "w", pad=1)]
    kinds = check_same(run, fold_affine, build(head + two, params, ("out", "out2")), changed=1)
    assert kinds == ["relu", "elementwise_add", "conv2d", "conv2d"]
    other = [conv("t2", "out", "v"), act("sigmoid", "t2", "out2")]
    kinds = check_same(run, fold_affine, build(head + other, params | {"w": [1]}, ("out", "out2")), changed=0)
    assert "elementwise_mul" in kinds


def test_a_scale_passes_squeeze_and_excitation(run):
    ops = [
        act("hard_swish", "x", "t0"),
        mul("t0", "a", "t1", 1),
        add("t1", "b", "t2", 1),
        pool("t2", "p", ksize=[1, 1], adaptive=True),
        conv("p", "q", "v"),
        act("hard_sigmoid", "q", "s", slope=0.2, offset=0.5),
        mul("t2", "s", "g"),
        conv("g", "out", "w"),
    ]
    params = {"v": draw(4, 4, 1, 1), "w": draw(5, 4, 1, 1), "a": draw(4), "b": draw(4, seed=3)}
    program = build(ops, params, shapes={"s": (-1, 4, 1, 1), "p": (-1, 4, 1, 1)})
    kinds = check_same(run, fold_affine, program, changed=1)
    assert kinds.count("elementwise_mul") == 1
    assert kinds.count("elementwise_add") == 1


@pytest.mark.parametrize(
    ("options", "factor", "changed"),
    [
        ({"kind": "max"}, 0.5, 2),
        ({"kind": "max"}, -0.5, 1),  # the addition alone can move on
        ({"kind": "avg"}, -0.5, 2),
        ({"kind": "avg", "paddings": [1, 1], "exclusive": False}, 0.5, 1),
        ({"kind": "avg", "ceil_mode": True}, 0.5, 1),
    ],
)
def test_pooling_between(run, options, factor, changed):
    ops = [
        act("relu", "x", "t0"),
        mul("t0", "a", "t1"),
        add("t1", "b", "t2"),
        pool("t2", "t3", **options),
        conv("t3", "out", "w"),
    ]
    program = build(ops, {"w": draw(5, 4, 1, 1), "a": [factor], "b": [0.7]})
    check_same(run, fold_affine, program, changed=changed)


@pytest.mark.parametrize("between", [mul, add])
def test_pooling_over_other_sides_than_rows_and_columns_stops_all(run, between):
    ops = [
        act("relu", "x", "t0"),
        between("t0", "a", "t1", 1),
        pool("t1", "t2", ksize=[1, 3], strides=[1, 1], data_format="NHWC"),
        conv("t2", "out", "w"),
    ]
    check_same(run, fold_affine, build(ops, {"w": draw(5, 4, 1, 1), "a": draw(4)}), changed=0)


def test_what_is_fetched_stays(run):
    ops = [conv("x", "t0", "w"), mul("t0", "a", "t1"), add("t1", "b", "out")]
    params = {"w": draw(4, 4, 1, 1), "a": [1.5], "b": [0.2]}
    # An output may be made by the conv itself ...
    kinds = check_same(run, fold_affine, build(ops[:2], params, ("t1",)), changed=1)
    assert kinds == ["conv2d"]
    # ... but two of them are two.
    kinds = check_same(run, fold_affine, build(ops, params, ("t1", "out")), changed=1)
    assert kinds == ["conv2d", "elementwise_add"]
    kinds = check_same(run, fold_affine, build(ops, params, ("t0", "out")), changed=0)
    assert kinds == ["conv2d", "elementwise_mul", "elementwise_add"]
    # A fetched value ahead of a conv.
    ahead = [act("relu", "x", "t0"), mul("t0", "a", "t1"), conv("t1", "out", "w")]
    check_same(run, fold_affine, build(ahead, params, ("out", "t1")), changed=0)


def test_shared_parameters_stay(run):
    shared_weight = [conv("x", "t0", "w"), conv("t0", "t1", "w"), mul("t1", "a", "out")]
    check_same(run, fold_affine, build(shared_weight, {"w": draw(4, 4, 1, 1), "a": [2]}), changed=0)
    shared_bias = [
        act("relu", "x", "t0"),
        mul("t0", "a", "t1"),
        add("t1", "b", "t2"),
        conv("t2", "t3", "w", pad=1),
        act("relu", "t3", "t4"),
        add("t4", "b", "out"),
    ]
    check_same(run, fold_affine, build(shared_bias, {"w": draw(4, 4, 3, 3), "a": [2], "b": [1]}), changed=0)
    # A shared factor is only read, never changed.
    shared_scale = [conv("x", "t0", "v"), mul("t0", "a", "t1"), conv("t1", "t2", "w"), mul("t2", "a", "out")]
    params = {"v": draw(4, 4, 1, 1), "w": draw(4, 4, 1, 1), "a": [1.5]}
    assert check_same(run, fold_affine, build(shared_scale, params), changed=2) == ["conv2d", "conv2d"]


def test_a_channel_switched_off_is_not_divided_by(run):
    ops = [act("relu", "x", "t0"), mul("t0", "a", "t1", 1), add("t1", "b", "t2"), conv("t2", "out", "w", pad=1)]
    check_same(run, fold_affine, build(ops, {"w": draw(4, 4, 3, 3), "a": [1, 0, 2, 3], "b": [1]}), changed=0)


def test_a_square_takes_no_scale(run):
    ops = [act("relu", "x", "t0"), mul("t0", "a", "t1"), mul("t1", "t1", "t2"), conv("t2", "out", "w")]
    check_same(run, fold_affine, build(ops, {"w": draw(4, 4, 1, 1), "a": [3]}), changed=0)
    # Nor does a product of a value with what was made of it.
    ops = [
        act("relu", "x", "t0"),
        mul("t0", "a", "t1"),
        pool("t1", "p", ksize=[1, 1], adaptive=True),
        mul("t1", "p", "t2"),
        conv("t2", "out", "w"),
    ]
    check_same(run, fold_affine, build(ops, {"w": draw(4, 4, 1, 1), "a": [3]}), changed=0)


def test_other_affine_forms_stay(run):
    weight = draw(4, 4, 1, 1)
    along_rows = [conv("x", "t0", "w"), mul("t0", "a", "out", 2)]
    check_same(run, fold_affine, build(along_rows, {"w": weight, "a": draw(8)}), changed=0)
    spreading = [conv("x", "t0", "w"), mul("t0", "a", "out", 1)]
    program = build(spreading, {"w": draw(1, 4, 1, 1), "a": draw(4)}, shapes={"t0": (-1, 1, -1, -1)})
    check_same(run, fold_affine, program, changed=0)
    fused = [conv("x", "t0", "w", fuse_relu=True), mul("t0", "a", "out")]
    assert fold_affine(build(fused, {"w": weight, "a": [2]})).changed == 0
    infinite = [conv("x", "t0", "w"), mul("t0", "a", "out")]
    assert fold_affine(build(infinite, {"w": weight, "a": [np.inf]})).changed == 0


def test_the_bias_of_paddle_3_becomes_one_that_opt_fuses(run):
    reshape = ("reshape2", "X=c", "Out=r", {"shape": [1, 4, 1, 1]})
    program = build([conv("x", "t0", "w"), reshape, add("t0", "r", "out")], {"w": draw(4, 4, 1, 1), "c": draw(4)})
    check_same(run, settle_shapes, program, changed=1)
    assert check_same(run, fold_affine, program, changed=1) == ["conv2d", "elementwise_add"]
    assert program.params["r"].shape == (4,)
    assert fold_affine(program).changed == 0


def add_sub_block(program, op_type, source):
    desc = load_framework_pb2().ProgramDesc()
    desc.ParseFromString(program.to_bytes()[0])
    op = desc.blocks.add(idx=1, parent_idx=0).ops.add(type=op_type)
    op.inputs.add(parameter="X", arguments=[source])
    op.outputs.add(parameter="Out", arguments=["inner"])
    return Program(desc, dict(program.params), "synthetic")


def test_what_a_sub_block_touches_stays():
    def build_with_sub_block(name):
        ops = [conv("x", "t0", "w"), mul("t0", "a", "t1"), act("assign", "t1", "out")]
        return add_sub_block(build(ops, {"w": draw(4, 4, 1, 1), "a": [2]}), "relu", name)

    for name in ("t0", "t1", "w"):
        assert fold_affine(build_with_sub_block(name)).changed == 0, name
    assert drop_identities(build_with_sub_block("t1")).changed == 0, "t1 would have to be called out"
    program = build_with_sub_block("x")
    assert fold_affine(program).changed == 1
    assert program.count_ops() == len(program.ops) + 1


def test_identities_go_and_outputs_keep_their_names(run):
    ops = [
        act("dropout", "x", "t0", is_test=True, dropout_implementation="upscale_in_train", dropout_prob=0.1),
        act("assign", "t0", "t1"),
        act("relu", "t1", "t2"),
        act("scale", "t2", "out", scale=1.0, bias=0.0, bias_after_scale=True),
    ]
    assert check_same(run, drop_identities, build(ops, {}), changed=3) == ["relu"]
    half = [act("dropout", "x", "out", is_test=True, dropout_implementation="downgrade_in_infer", dropout_prob=0.5)]
    check_same(run, drop_identities, build(half, {}), changed=0)
    training = [act("dropout", "x", "t", is_test=False, dropout_implementation="upscale_in_train", dropout_prob=0.1)]
    assert drop_identities(build([*training, act("relu", "t", "out")], {})).changed == 0
    check_same(run, drop_identities, build([act("scale", "x", "out", scale=2.0, bias=0.0)], {}), changed=0)
    # What is fed cannot be made under the name of an output, and one value cannot have two names.
    check_same(run, drop_identities, build([act("assign", "x", "out")], {}), changed=0)
    twice = [act("relu", "x", "t"), act("assign", "t", "out")]
    check_same(run, drop_identities, build(twice, {}, ("t", "out")), changed=0)


def test_a_parameter_that_is_written_is_not_read_late(run):
    ops = [act("assign", "p", "t"), act("scale", "x", "p", scale=3.0, bias=0.0), add("t", "p", "out")]
    program = build(ops, {"p": X + 1}, shape=X.shape)
    assert "assign" in check_same(run, drop_identities, program, changed=0)
    # Behind the write, and with its copy an output.
    ops = [act("relu", "p", "t"), act("scale", "x", "p", scale=3.0, bias=0.0), act("assign", "p", "out")]
    program = build(ops, {"p": X + 1}, ("out", "t"), shape=X.shape)
    check_same(run, drop_identities, program, changed=0)


@pytest.mark.parametrize("user", ["op", "output", "sub-block", None])
def test_a_dropout_whose_mask_is_used_stays(user):
    attrs = {"is_test": True, "dropout_implementation": "upscale_in_train", "dropout_prob": 0.1}
    ops = [("dropout", "X=x", "Out=t Mask=m", attrs), act("relu", "t", "out")]
    if user == "op":
        ops.append(act("cast", "m", "unused"))
    program = build(ops, {}, ("out", "m") if user == "output" else ("out",))
    if user == "sub-block":
        program = add_sub_block(program, "relu", "m")
    assert drop_identities(program).changed == (user is None)


def test_attributes_are_restored_in_sub_blocks():
    program = add_sub_block(build([act("swish", "x", "out")], {}), "swish", "x")
    assert restore_attributes(program).changed == 2
    desc = load_framework_pb2().ProgramDesc.FromString(program.to_bytes()[0])
    assert get_attr(desc.blocks[0].ops[1], "beta") == 1.0
    assert get_attr(desc.blocks[1].ops[0], "beta") == 1.0
    assert restore_attributes(program).changed == 0


def fill(result, value):
    attrs = {"shape": [1], "dtype": 2, "value": float(value), "str_value": str(value), "force_cpu": True}
    return ("fill_constant", "", f"Out={result}", attrs)


def side(source, result, place):
    attrs = {"axes": [0], "starts": [place], "ends": [place + 1], "decrease_axis": [0], "infer_flags": [1]}
    return ("slice", f"Input={source}", f"Out={result}", attrs)


def reshape(source, sides, result="out"):
    return ("reshape2", f"X={source} ShapeTensor={','.join(sides)}", f"Out={result}", {"shape": [-1] * len(sides)})


def test_shapes_become_attributes(run):
    shape = ("shape", "Input=x", "Out=s", {})
    # A copied side, constants, and one that only the device knows.
    ops = [shape, side("s", "n", 0), side("s", "w", 3), fill("two", 2)]
    program = build([*ops, reshape("x", ["n", "two", "w"])], {}, shapes={"s": (4,)})
    assert settle_shapes(program).changed == 1
    assert list_types(program) == ["feed", "reshape2", "fetch"]
    assert list(program.ops[1].attrs[0].ints) == [0, 2, -1]


@pytest.mark.parametrize(
    ("sides", "settled"),
    [
        (["n", "four", "sixtyfour"], [0, 4, 64]),
        (["n", "c", "any"], [0, 0, -1]),
        (["c", "n", "sixtyfour"], None),  # both at another place than their own: two unknown
        (["h", "eight", "eight", "four"], [-1, 8, 8, 4]),
        (["h", "any"], None),  # one unknown and one -1
    ],
)
def test_sides_of_a_reshape(run, sides, settled):
    ops = [("shape", "Input=x", "Out=s", {})]
    ops += [side("s", name, place) for place, name in enumerate("nch")]
    ops += [fill(name, value) for name, value in {"four": 4, "eight": 8, "sixtyfour": 64, "any": -1}.items()]
    array = draw(8, 4, 8, 8)
    program = build([*ops, reshape("x", sides)], {}, shapes={"s": (4,)})
    if settled is None:
        assert settle_shapes(program).changed == 0
        assert "shape" in list_types(program)
        return
    assert check_same(run, settle_shapes, program, changed=1, array=array) == ["reshape2"]
    assert list(program.ops[1].attrs[0].ints) == settled


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e30", str(1 << 31)])
def test_a_side_that_is_no_number_of_32_bits_is_unknown(value):
    attrs = {"shape": [1], "dtype": 2, "value": float(value), "str_value": ""}
    ops = [("fill_constant", "", "Out=n", attrs), fill("four", 4), reshape("x", ["n", "four"])]
    program = build(ops, {})
    settle_shapes(program)
    assert get_attr(next(op for op in program.ops if op.type == "reshape2"), "shape") == [-1, 4]


def test_the_shape_of_another_tensor_is_no_copy(run):
    ops = [pool("x", "p"), ("shape", "Input=p", "Out=s", {}), side("s", "h", 2), fill("o", 0)]
    program = build([*ops, reshape("x", ["o", "o", "h", "o"])], {}, shapes={"s": (4,)})
    # Known not to be a copy, it is the unknown one.
    settle_shapes(program)
    assert list(next(op for op in program.ops if op.type == "reshape2").attrs[0].ints) == [0, 0, -1, 0]


def test_two_convs_become_one(run):
    ops = [conv("x", "t0", "v"), add("t0", "c", "t1", 1), conv("t1", "t2", "w", stride=2), add("t2", "d", "out", 1)]
    params = {"v": draw(6, 4, 1, 1), "c": draw(6), "w": draw(3, 6, 1, 1), "d": draw(3)}
    shapes = {"t0": (-1, 6, -1, -1), "t1": (-1, 6, -1, -1), "t2": (-1, 3, -1, -1)}
    program = build(ops, params, shapes=shapes)
    assert check_same(run, merge_convs, program, changed=1) == ["conv2d", "elementwise_add"]
    assert program.params["w"].shape == (3, 4, 1, 1)
    # The second one without a bias gets one.
    program = build([*ops[:3], act("relu", "t2", "out")], params | {"d": [0]}, shapes=shapes)
    assert check_same(run, merge_convs, program, changed=1) == ["conv2d", "elementwise_add", "relu"]
    # Padded, and no bias ahead.
    program = build([ops[0], conv("t0", "out", "w", pad=1)], {"v": params["v"], "w": draw(3, 6, 3, 3)}, shapes=shapes)
    assert check_same(run, merge_convs, program, changed=1) == ["conv2d"]


@pytest.mark.parametrize(
    ("first", "second", "between"),
    [
        ({"weight": (2, 4, 1, 1)}, {"weight": (8, 2, 1, 1)}, None),  # a bottleneck: 24 weights would become 32
        ({"weight": (4, 4, 1, 1)}, {"weight": (4, 4, 3, 3), "pad": 1}, "bias"),
        ({"weight": (4, 4, 1, 1)}, {"weight": (4, 4, 1, 1)}, "relu"),
        ({"weight": (4, 4, 1, 1), "stride": 2}, {"weight": (4, 4, 1, 1)}, None),
        ({"weight": (4, 4, 1, 1), "pad": 1}, {"weight": (4, 4, 1, 1)}, None),
        ({"weight": (4, 4, 3, 3)}, {"weight": (4, 4, 1, 1)}, None),
        ({"weight": (4, 4, 1, 1)}, {"weight": (4, 2, 1, 1), "groups": 2}, None),
        ({"weight": (4, 2, 1, 1), "groups": 2}, {"weight": (4, 4, 1, 1)}, None),
    ],
)
def test_convs_that_stay_two(run, first, second, between):
    first, second = dict(first), dict(second)
    params = {"v": draw(*first.pop("weight")), "w": draw(*second.pop("weight")), "c": [0.5]}
    middle = {None: [], "bias": [add("t0", "c", "t1")], "relu": [act("relu", "t0", "t1")]}[between]
    ops = [conv("x", "t0", "v", **first), *middle, conv("t1" if middle else "t0", "out", "w", **second)]
    channels = params["v"].shape[0]
    program = build(ops, params, shapes={"t0": (-1, channels, -1, -1), "t1": (-1, channels, -1, -1)})
    check_same(run, merge_convs, program, changed=0)


def test_a_fetched_value_between_two_convs_keeps_them(run):
    ops = [conv("x", "t0", "v"), conv("t0", "out", "w")]
    params = {"v": draw(4, 4, 1, 1), "w": draw(4, 4, 1, 1)}
    check_same(run, merge_convs, build(ops, params, ("t0", "out")), changed=0)


def gate(*, first=False, size=(1, 1)):
    pooling = pool("x", "p", ksize=list(size), adaptive=True)
    product = mul("s", "x", "m") if first else mul("x", "s", "m")
    return [pooling, act("sigmoid", "p", "s"), product, add("x", "m", "out")]


def test_a_gate_takes_the_residual(run):
    shapes = {"s": (-1, 4, 1, 1)}
    kinds = check_same(run, fold_gates, build(gate(), {}, shapes=shapes), changed=1)
    assert kinds == ["pool2d", "sigmoid", "scale", "elementwise_mul"]
    check_same(run, fold_gates, build([*gate()[:3], add("m", "x", "out")], {}, shapes=shapes), changed=1)
    check_same(run, fold_gates, build(gate(first=True), {}, shapes=shapes), changed=0)
    check_same(run, fold_gates, build(gate(), {}, ("out", "m"), shapes=shapes), changed=0)
    check_same(run, fold_gates, build(gate(size=(8, 8)), {}, shapes={"s": (-1, 4, 8, 8)}), changed=0)
    other = [*gate()[:3], act("relu", "x", "y"), add("y", "m", "out")]
    check_same(run, fold_gates, build(other, {}, shapes=shapes), changed=0)


def build_classifier(*, transposed=False, tail="softmax", biased=True):
    weight = draw(5, 4, seed=3) if transposed else draw(4, 5, seed=3)
    ops = [
        ("matmul_v2", "X=x Y=w", "Out=t0", {"trans_x": False, "trans_y": transposed}),
        add("t0", "c", "t1") if biased else act("relu", "t0", "t1"),
        act(tail, "t1", "out", **({"axis": -1} if tail == "softmax" else {})),
    ]
    shapes = {"t0": (-1, -1, 5), "t1": (-1, -1, 5), "out": (-1, -1, 5)}
    return build(ops, {"w": weight, "c": draw(5)}, shape=(-1, -1, 4), shapes=shapes)


@pytest.mark.parametrize("transposed", [False, True])
def test_pruned_classes_are_the_softmax_over_those_kept(run, transposed):
    array, kept = draw(2, 7, 4), [0, 4, 2]
    whole = run(build_classifier(transposed=transposed), array)["out"]
    program = build_classifier(transposed=transposed)
    report = prune_charset(program, kept)
    assert (report.name, report.changed, report.ops_before, report.ops_after) == ("prune_charset", 2, 5, 5)
    pruned = run(program, array)["out"]
    chosen = whole[..., kept]
    np.testing.assert_allclose(pruned, chosen / chosen.sum(-1, keepdims=True), rtol=0, atol=1e-6)
    assert [program.find_shape(name) for name in ("t0", "t1", "out")] == [(-1, -1, 3)] * 3
    assert program.params["c"].shape == (3,)


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ([], "the blank, class 0, must be the first"),
        ([1, 0], "the blank, class 0, must be the first"),
        ([0], "no class but the blank"),
        ([0, 2, 3, 2], "class 2 is kept twice"),
        ([0, 5], "class 5 is not one of the 5"),
        ([0, -1], "class -1 is not one of the 5"),
    ],
)
def test_classes_that_cannot_be_kept(kept, words):
    with pytest.raises(UsageError, match=words):
        prune_charset(build_classifier(), kept)


@pytest.mark.parametrize("options", [{"tail": "sigmoid"}, {"biased": False}])
def test_a_network_that_is_no_recogniser_is_not_pruned(options):
    with pytest.raises(ModelError, match="does not end in matmul"):
        prune_charset(build_classifier(**options), [0, 1])


SOFTMAX = {"axis": -1}


def build_tail(*tail):
    matmul = ("matmul_v2", "X=x Y=w", "Out=t0", {"trans_x": False, "trans_y": False})
    shapes = dict.fromkeys(("t0", "t1", "out"), (-1, -1, 5))
    return build([matmul, *tail], {"w": draw(4, 5), "c": draw(5)}, shape=(-1, -1, 4), shapes=shapes)


@pytest.mark.parametrize(
    "tail",
    [
        [act("softmax", "t0", "t1", **SOFTMAX), act("softmax", "t1", "out", **SOFTMAX)],
        [act("softmax", "t0", "t1", **SOFTMAX), add("t1", "c", "out")],
        [add("t0", "c", "t1", 1), act("softmax", "t1", "out", **SOFTMAX)],
        [act("softmax", "t0", "out", axis=1)],
    ],
    ids=["two softmax", "softmax ahead of the addition", "addition along time", "softmax along time"],
)
def test_another_order_at_the_end_is_not_pruned(tail):
    program = build_tail(*tail)
    before = program.to_bytes()
    with pytest.raises(ModelError, match="does not end in matmul"):
        prune_charset(program, [0, 1])
    assert program.to_bytes() == before


@pytest.mark.parametrize("axis", [-1, 2])
def test_logits_are_pruned_exactly(run, axis):
    array, kept = draw(2, 7, 4), [0, 4, 2]
    program = build_tail(add("t0", "c", "out", axis))
    whole = run(program, array)["out"]
    prune_charset(program, kept)
    np.testing.assert_allclose(run(program, array)["out"], whole[..., kept], rtol=0, atol=1e-6)


def test_pruning_needs_a_classifier_of_its_own():
    ops = [
        ("matmul_v2", "X=x Y=w", "Out=t0", {"trans_y": False}),
        ("matmul_v2", "X=t0 Y=w", "Out=out", {"trans_y": False}),
    ]
    shapes = {"t0": (-1, -1, 4), "out": (-1, -1, 4)}
    program = build(ops, {"w": draw(4, 4)}, shape=(-1, -1, 4), shapes=shapes)
    with pytest.raises(ModelError, match="does not end in matmul"):
        prune_charset(program, [0, 1])
    program = build(ops[:1], {"w": draw(4, 4)}, ("t0", "x"), shape=(-1, -1, 4), shapes=shapes)
    with pytest.raises(ModelError, match="2 outputs, expected 1"):
        prune_charset(program, [0, 1])


# --- what stands beside the attributes


@pytest.mark.parametrize(
    ("slot", "bound", "changed"), [("Max", 2.5, 0), ("Min", 1.5, 0), ("Max", 6.0, 0), (None, 0, 1)]
)
def test_bounds_of_a_clip_that_are_tensors_win(run, slot, bound, changed):
    clip = ("clip", "X=t" + (f" {slot}=bound" if slot else ""), "Out=c", {"min": 0.0, "max": 6.0})
    ops = [add("x", "three", "t"), clip, mul("x", "c", "m"), mul("m", "sixth", "out")]
    program = build(ops, {"three": [3], "sixth": [1 / 6], "bound": [bound]})
    check_same(run, fold_activations, program, changed=changed)


def batch_norm(source, result, **attrs):
    inputs = f"X={source} Scale=s Bias=b Mean=m Variance=v"
    outputs = f"Y={result} MeanOut=m VarianceOut=v SavedMean=sm SavedVariance=sv ReserveSpace=rs"
    return ("batch_norm", inputs, outputs, {"is_test": True, "epsilon": 1e-3, "data_layout": "NCHW", **attrs})


NORM = {"s": draw(4), "b": draw(4, seed=2), "m": draw(4, seed=3), "v": np.abs(draw(4, seed=4)) + 0.1}


@pytest.mark.parametrize(
    ("attrs", "changed"),
    [
        ({}, 1),
        ({"trainable_statistics": True}, 0),  # with those of the batch, that is
        ({"trainable_statistics": True, "use_global_stats": True}, 1),
        ({"is_test": False}, 0),
        ({"data_layout": "NHWC"}, 0),
        ({"fuse_with_relu": True}, 0),
    ],
)
def test_attributes_of_a_batch_norm(run, attrs, changed):
    ops = [conv("x", "t", "w", kind="conv2d"), batch_norm("t", "out", **attrs)]
    program = build(ops, {"w": draw(4, 4, 1, 1), **NORM})
    if "fuse_with_relu" in attrs:  # Paddle's own kernels only know it with oneDNN
        assert fold_batch_norm(program).changed == changed
    else:
        array = draw(2, 4, 4, 4)
        check_same(run, fold_batch_norm, program, changed=changed, array=array)


@pytest.mark.parametrize("name", NORM)
def test_statistics_that_are_written_ahead_of_a_batch_norm(run, name):
    change = act("scale", name, name, scale=1.5, bias=0.1)
    ops = [change, conv("x", "t", "w"), batch_norm("t", "out")]
    check_same(run, fold_batch_norm, build(ops, {"w": draw(4, 4, 1, 1), **NORM}), changed=0)
    inner = add_sub_block(build(ops[1:], {"w": draw(4, 4, 1, 1), **NORM}), "relu", name)
    assert fold_batch_norm(inner).changed == 0


@pytest.mark.parametrize("damage", ["short", "negative"])
def test_statistics_that_do_not_fit(damage):
    changed = {"short": {"s": draw(3)}, "negative": {"v": -draw(4) - 10}}[damage]
    program = build([conv("x", "t", "w"), batch_norm("t", "out")], {"w": draw(4, 4, 1, 1), **NORM, **changed})
    assert fold_batch_norm(program).changed == 0


def test_a_result_of_a_batch_norm_that_is_written_twice(run):
    ops = [conv("x", "t", "w"), add("t", "c", "u", 1), act("relu", "x", "out"), act("tanh", "out", "other")]
    ops.append(batch_norm("u", "out"))
    program = build(ops, {"w": draw(4, 4, 1, 1), "c": draw(4), **NORM}, ("out", "other"))
    check_same(run, fold_batch_norm, program, changed=0)


def test_one_number_of_shape_1_gives_a_tensor_of_no_dimensions_one(run):
    mean = act("reduce_mean", "x", "t", reduce_all=True, keep_dim=False, dim=[0])
    ops = [mean, mul("t", "one", "u"), act("tanh", "u", "out")]
    check_same(run, drop_identities, build(ops, {"one": [1]}, shapes={"t": ()}), changed=0)
    check_same(run, drop_identities, build(ops, {"one": 1}, shapes={"t": ()}), changed=1)


def layer_norm(epsilon, **means):
    means = {"dim": [-1], "keep_dim": True, "reduce_all": False, **means}
    ops = [
        act("relu", "x", "t"),
        act("reduce_mean", "t", "m", **means),
        ("elementwise_sub", "X=t Y=m", "Out=d", {"axis": -1}),
        mul("d", "d", "q"),
        act("reduce_mean", "q", "v", **means),
        add("v", "e", "r"),
        act("sqrt", "r", "n"),
        ("elementwise_div", "X=d Y=n", "Out=z", {"axis": -1}),
        mul("z", "s", "y"),
        add("y", "b", "out"),
    ]
    return build(ops, {"e": [epsilon], "s": draw(8), "b": draw(8, seed=2)}, shapes={"t": (-1, 4, -1, 8)})


def test_a_layer_norm_has_no_larger_epsilon_than_its_op_takes(run):
    assert check_same(run, fold_layer_norm, layer_norm(1e-3), changed=1) == ["relu", "layer_norm"]
    check_same(run, fold_layer_norm, layer_norm(0.01), changed=0)
    # As another data type the means are not those of a layer norm.
    assert fold_layer_norm(layer_norm(1e-5, out_dtype=6)).changed == 0


@pytest.mark.parametrize("place", ["ahead", "behind"])
def test_an_activation_inside_a_convolution_stops_all(place):
    attrs = {"kind": "depthwise_conv2d", "groups": 4, "fuse_relu_before_depthwise_conv": True}
    ops = [mul("x", "a", "t"), conv("t", "out", "w", **attrs)]
    if place == "behind":
        ops = [conv("x", "t", "w", **attrs), mul("t", "a", "out")]
    assert fold_affine(build(ops, {"w": draw(4, 1, 3, 3), "a": [-2]})).changed == 0


def test_parameters_that_a_sub_block_may_write_stay():
    program = build([conv("x", "t", "w"), mul("t", "a", "out")], {"w": draw(4, 4, 1, 1), "a": [2]})
    assert fold_affine(add_sub_block(program, "relu", "a")).changed == 0
    program = build([mul("x", "a", "t"), act("relu", "t", "out")], {"a": [1]})
    assert drop_identities(add_sub_block(program, "relu", "a")).changed == 0
    reshape = ("reshape2", "X=c", "Out=r", {"shape": [1, 4, 1, 1]})
    program = build([reshape, add("x", "r", "out")], {"c": draw(4)})
    assert settle_shapes(add_sub_block(program, "relu", "c")).changed == 0


@pytest.mark.parametrize("slot", ["", " AxesTensor=a", " AxesTensorList=a"])
def test_dimensions_of_a_squeeze_that_are_tensors(slot):
    cut = ("slice", "Input=x", "Out=t", {"axes": [2], "starts": [1], "ends": [2]})
    squeeze = ("squeeze2", f"X=t{slot}", "Out=out", {"axes": [2]})
    program = build([cut, squeeze], {"a": [3]})
    assert fold_slices(program).changed == (slot == "")


def test_a_bias_of_another_length_than_the_classes_is_not_pruned():
    program = build_classifier()
    program.set_param("w", draw(4, 7))
    with pytest.raises(ModelError, match="does not end in matmul"):
        prune_charset(program, [0, 1])


# --- found by tests/fuzz/test_paddle_fuzz.py: attributes of a kind that the op does not have


@pytest.mark.parametrize(
    ("op", "attribute", "value"),
    [
        (conv("t", "out", "w"), "groups", [1, 2]),
        (conv("t", "out", "w"), "groups", float("inf")),
        (conv("t", "out", "w"), "paddings", 7),
        (conv("t", "out", "w"), "paddings", ["a"]),
        (conv("t", "out", "w"), "data_format", [1]),
        (add("t", "c", "out"), "axis", "NCHW"),
        (("reshape2", "X=c", "Out=r", {"shape": [1, 4]}), "shape", 0.5),
        (("reshape2", "X=c", "Out=r", {"shape": [1, 4]}), "shape", [0.5, 8.0]),
        (("reshape2", "X=c", "Out=r", {"shape": [1, 4]}), "shape", [True, False]),
        (("squeeze2", "X=t", "Out=out", {"axes": [2]}), "axes", 2),
    ],
)
def test_an_attribute_of_another_kind_is_refused(op, attribute, value):
    cut = ("slice", "Input=x", "Out=t", {"axes": [2], "starts": [1], "ends": [2]})
    op_type, inputs, outputs, attrs = op
    attrs = {name: one for name, one in attrs.items() if name != attribute}
    ops = [cut, (op_type, inputs, outputs, attrs), act("relu", "r", "out")]
    program = build(ops[: 3 if outputs == "Out=r" else 2], {"w": draw(4, 4, 1, 1), "c": draw(4)})
    damaged = program.ops[2]
    if isinstance(value, list) and isinstance(value[0], str | bool):
        kinds = {"type": 7, "bools": value} if isinstance(value[0], bool) else {"type": 5, "strings": value}
        damaged.attrs.add(name=attribute, **kinds)
    else:
        set_attr(damaged, attribute, value)
    with pytest.raises(ModelError, match=rf"^synthetic: {op_type}: its attribute {attribute} is .*, expected one like"):
        run_passes(program)


def test_a_shape_of_another_kind_is_written_anew():
    ops = [("shape", "Input=x", "Out=s", {}), side("s", "n", 0), fill("rest", -1), reshape("x", ["n", "rest"])]
    program = build(ops, {}, shapes={"s": (4,)})
    op = next(op for op in program.ops if op.type == "reshape2")
    op.attrs[0].Clear()
    op.attrs[0].name, op.attrs[0].type, op.attrs[0].f = "shape", 1, 0.5
    assert settle_shapes(program).changed == 1
    assert get_attr(op, "shape") == [0, -1]


def test_filters_of_nothing_are_left():
    program = build([conv("x", "t", "w"), mul("t", "a", "out")], {"w": np.zeros((0, 4, 1, 1)), "a": [2]})
    assert fold_affine(program).changed == 0


@pytest.mark.parametrize(("first", "second"), [(1e30, 1e30), (np.inf, 0), (np.nan, 2)])
@pytest.mark.parametrize("between", ["", "scale", "norm"])
def test_weights_that_leave_the_range_of_float32_are_told(first, second, between):
    """Told, not warned of: what the network computes of small numbers might still have been in it."""
    ops = [conv("x", "t0", "w"), conv("t0", "out", "u")]
    if between == "scale":
        ops = [conv("x", "t0", "w"), mul("t0", "a", "out")]
    elif between == "norm":
        ops = [conv("x", "t0", "w"), batch_norm("t0", "out")]
    filters = {"w": np.full((4, 4, 1, 1), first), "u": np.full((4, 4, 1, 1), second), "a": [second]}
    program = build(ops, {**filters, **NORM, "s": np.full(4, second)}, shapes={"t0": (-1, 4, -1, -1)})
    with pytest.raises(
        ModelError, match=r"^synthetic: the parameter \w+(\.bias)? would hold numbers that are infinite"
    ) as caught:
        run_passes(program)
    assert "--no-optimize" in caught.value.hint
