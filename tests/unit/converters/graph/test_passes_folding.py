"""Passes that fold activations, norms, gates and attributes."""

import numpy as np
import pytest
from support.paddle_programs import X, act, add, add_sub_block, build, check_same, conv, draw, mul, pool

from converters.graph.passes import run_passes
from converters.graph.passes.drop_identities import drop_identities
from converters.graph.passes.fold_activations import fold_activations
from converters.graph.passes.fold_affine import fold_affine
from converters.graph.passes.fold_batch_norm import fold_batch_norm
from converters.graph.passes.fold_gates import fold_gates
from converters.graph.passes.fold_layer_norm import fold_layer_norm
from converters.graph.passes.fold_slices import fold_slices
from converters.graph.passes.restore_attributes import restore_attributes
from converters.graph.passes.settle_shapes import settle_shapes
from converters.sources.program import get_attr, load_framework_pb2, set_attr
from edge_ocr.errors import ModelError


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
    # A fed tensor cannot be written under an output's name, and one value cannot have two names.
    check_same(run, drop_identities, build([act("assign", "x", "out")], {}), changed=0)
    twice = [act("relu", "x", "t"), act("assign", "t", "out")]
    check_same(run, drop_identities, build(twice, {}, ("t", "out")), changed=0)


def test_a_parameter_that_is_written_is_not_read_late(run):
    ops = [act("assign", "p", "t"), act("scale", "x", "p", scale=3.0, bias=0.0), add("t", "p", "out")]
    program = build(ops, {"p": X + 1}, shape=X.shape)
    assert "assign" in check_same(run, drop_identities, program, changed=0)
    # After the write, and with its copy as an output.
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
        ({"trainable_statistics": True}, 0),  # with those of the batch
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
def test_statistics_that_are_written_before_a_batch_norm(run, name):
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
    # Means in another data type are not those of a layer norm.
    assert fold_layer_norm(layer_norm(1e-5, out_dtype=6)).changed == 0


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
def test_an_attribute_of_another_type_is_refused(op, attribute, value):
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
    with pytest.raises(ModelError, match=rf"^synthetic: {op_type}: its attribute {attribute} "):
        run_passes(program)


def test_empty_filters_are_left():
    program = build([conv("x", "t", "w"), mul("t", "a", "out")], {"w": np.zeros((0, 4, 1, 1)), "a": [2]})
    assert fold_affine(program).changed == 0


@pytest.mark.parametrize(("first", "second"), [(1e30, 1e30), (np.inf, 0), (np.nan, 2)])
@pytest.mark.parametrize("between", ["", "scale", "norm"])
def test_weights_that_leave_the_range_of_float32_are_reported(first, second, between):
    """An error, not a warning: results for small numbers might still have been finite."""
    ops = [conv("x", "t0", "w"), conv("t0", "out", "u")]
    if between == "scale":
        ops = [conv("x", "t0", "w"), mul("t0", "a", "out")]
    elif between == "norm":
        ops = [conv("x", "t0", "w"), batch_norm("t0", "out")]
    filters = {"w": np.full((4, 4, 1, 1), first), "u": np.full((4, 4, 1, 1), second), "a": [second]}
    program = build(ops, {**filters, **NORM, "s": np.full(4, second)}, shapes={"t0": (-1, 4, -1, -1)})
    with pytest.raises(ModelError, match=r"^synthetic: the parameter \w+(\.bias)? ") as caught:
        run_passes(program)
    assert "--no-optimize" in caught.value.hint
