"""Affine ops and convolutions that are folded into convolutions."""

import numpy as np
import pytest
from support.paddle_programs import act, add, add_sub_block, build, check_same, conv, draw, mul, pool

from converters.graph.passes.drop_identities import drop_identities
from converters.graph.passes.fold_affine import fold_affine
from converters.graph.passes.merge_convs import merge_convs
from converters.graph.passes.settle_shapes import settle_shapes

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
def test_affine_after_a_conv_is_folded(run, name, form):
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
def test_affine_before_a_conv(run, name, per_channel):
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
    # The addition before padding or a transposed conv stays; otherwise it becomes the bias.
    expected = [kind, "elementwise_add"] if folds_whole else ["elementwise_add", kind]
    assert kinds == ["hard_swish", *expected]


@pytest.mark.parametrize(("algorithm", "changed"), [("VALID", 1), ("SAME", 0)])
def test_the_padding_algorithm_decides_about_an_addition_before(run, algorithm, changed):
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
        ({"kind": "max"}, -0.5, 1),  # only the addition can move on
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
def test_pooling_over_other_axes_than_rows_and_columns_stops_all(run, between):
    ops = [
        act("relu", "x", "t0"),
        between("t0", "a", "t1", 1),
        pool("t1", "t2", ksize=[1, 3], strides=[1, 1], data_format="NHWC"),
        conv("t2", "out", "w"),
    ]
    check_same(run, fold_affine, build(ops, {"w": draw(5, 4, 1, 1), "a": draw(4)}), changed=0)


def test_fetched_tensors_stay(run):
    ops = [conv("x", "t0", "w"), mul("t0", "a", "t1"), add("t1", "b", "out")]
    params = {"w": draw(4, 4, 1, 1), "a": [1.5], "b": [0.2]}
    # The conv itself may write one output ...
    kinds = check_same(run, fold_affine, build(ops[:2], params, ("t1",)), changed=1)
    assert kinds == ["conv2d"]
    # ... but not two.
    kinds = check_same(run, fold_affine, build(ops, params, ("t1", "out")), changed=1)
    assert kinds == ["conv2d", "elementwise_add"]
    kinds = check_same(run, fold_affine, build(ops, params, ("t0", "out")), changed=0)
    assert kinds == ["conv2d", "elementwise_mul", "elementwise_add"]
    # A fetched value before a conv.
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


def test_a_scale_does_not_move_past_a_square(run):
    ops = [act("relu", "x", "t0"), mul("t0", "a", "t1"), mul("t1", "t1", "t2"), conv("t2", "out", "w")]
    check_same(run, fold_affine, build(ops, {"w": draw(4, 4, 1, 1), "a": [3]}), changed=0)
    # Nor past the product of a value and something computed from it.
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


def test_tensors_of_a_sub_block_stay():
    def build_with_sub_block(name):
        ops = [conv("x", "t0", "w"), mul("t0", "a", "t1"), act("assign", "t1", "out")]
        return add_sub_block(build(ops, {"w": draw(4, 4, 1, 1), "a": [2]}), "relu", name)

    for name in ("t0", "t1", "w"):
        assert fold_affine(build_with_sub_block(name)).changed == 0, name
    assert drop_identities(build_with_sub_block("t1")).changed == 0, "t1 would have to be called out"
    program = build_with_sub_block("x")
    assert fold_affine(program).changed == 1
    assert program.count_ops() == len(program.ops) + 1


def test_two_convs_become_one(run):
    ops = [conv("x", "t0", "v"), add("t0", "c", "t1", 1), conv("t1", "t2", "w", stride=2), add("t2", "d", "out", 1)]
    params = {"v": draw(6, 4, 1, 1), "c": draw(6), "w": draw(3, 6, 1, 1), "d": draw(3)}
    shapes = {"t0": (-1, 6, -1, -1), "t1": (-1, 6, -1, -1), "t2": (-1, 3, -1, -1)}
    program = build(ops, params, shapes=shapes)
    assert check_same(run, merge_convs, program, changed=1) == ["conv2d", "elementwise_add"]
    assert program.params["w"].shape == (3, 4, 1, 1)
    # The second conv gets a bias.
    program = build([*ops[:3], act("relu", "t2", "out")], params | {"d": [0]}, shapes=shapes)
    assert check_same(run, merge_convs, program, changed=1) == ["conv2d", "elementwise_add", "relu"]
    # Padded, and without a bias before it.
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


@pytest.mark.parametrize("place", ["ahead", "behind"])
def test_an_activation_inside_a_convolution_stops_all(place):
    attrs = {"kind": "depthwise_conv2d", "groups": 4, "fuse_relu_before_depthwise_conv": True}
    ops = [mul("x", "a", "t"), conv("t", "out", "w", **attrs)]
    if place == "behind":
        ops = [conv("x", "t", "w", **attrs), mul("t", "a", "out")]
    assert fold_affine(build(ops, {"w": draw(4, 1, 3, 3), "a": [-2]})).changed == 0
