"""Passes that write ops in the forms that ARM kernels are fast for: what they change, and what must stay."""

import numpy as np
import pytest
from support.paddle_programs import act, add, add_sub_block, build, check_same, conv, draw, list_types, mul, pool

from converters.graph.passes.fit_kernels import fit_kernels
from converters.graph.passes.lower_pools import lower_pools
from converters.graph.passes.widen_numbers import widen_numbers
from converters.graph.passes.windows import reads_paddings
from converters.sources.program import get_attr

X = draw(2, 4, 8, 8, seed=7)
# Odd and even widths; the height is known, as that of a line is.
LINE = draw(2, 4, 12, 9, seed=3)
LINE_SHAPE = (-1, 4, 12, -1)


# --- widen_numbers


@pytest.mark.parametrize("number", [draw(1), draw(1, 1, 1, 1), np.float32(0.3)], ids=["1", "1111", "0-D"])
@pytest.mark.parametrize("make", [add, mul])
def test_one_number_becomes_a_vector(run, make, number):
    program = build([act("relu", "x", "t"), make("t", "n", "out")], {"n": number})
    assert check_same(run, widen_numbers, program, changed=1) == ["relu", make("a", "b", "c")[0]]
    (name,) = {argument for op in program.ops for slot in op.inputs for argument in slot.arguments} & set(
        program.params
    )
    np.testing.assert_array_equal(program.params[name], np.repeat(np.float32(number).reshape(-1), 4))


def test_two_ops_that_share_a_number(run):
    program = build([act("relu", "x", "t"), add("t", "n", "u"), mul("n", "u", "out")], {"n": draw(1)})
    check_same(run, widen_numbers, program, changed=2)


@pytest.mark.parametrize(
    ("value", "sides"),
    [
        # It is a vector.
        (draw(4, 1, 1), (-1, 4, -1, -1)),
        # The number of channels is not known.
        (draw(1), (-1, -1, -1, -1)),
        # One channel: still one number.
        (draw(1), (-1, 1, -1, -1)),
        (draw(1), (-1, 4, -1)),
    ],
)
def test_other_additions_stay(value, sides):
    program = build([act("relu", "x", "t"), add("t", "n", "out")], {"n": value}, shapes={"t": sides})
    assert widen_numbers(program).changed == 0


# --- lower_pools


def mean(source, result, **attrs):
    return (
        "reduce_mean",
        f"X={source}",
        f"Out={result}",
        {"dim": [2, 3], "keep_dim": True, "reduce_all": False, **attrs},
    )


@pytest.mark.parametrize("dim", [[2, 3], [-1, -2]])
def test_a_mean_becomes_a_global_pool(run, dim):
    program = build([act("relu", "x", "t"), mean("t", "out", dim=dim)], {}, shapes={"out": (-1, 4, 1, 1)})
    assert check_same(run, lower_pools, program, changed=1) == ["relu", "pool2d"]


@pytest.mark.parametrize("attrs", [{"dim": [3]}, {"dim": [1, 2]}, {"keep_dim": False}, {"reduce_all": True}])
def test_other_means_stay(attrs):
    assert lower_pools(build([act("relu", "x", "t"), mean("t", "out", **attrs)], {})).changed == 0


@pytest.mark.parametrize("strides", [[3, 2], [1, 1], [2, 3]])
def test_an_average_becomes_a_convolution(run, strides):
    program = build([act("relu", "x", "t"), pool("t", "out", ksize=[3, 2], strides=strides)], {})
    assert check_same(run, lower_pools, program, changed=1) == ["relu", "depthwise_conv2d"]


MAX = {"kind": "max", "ksize": [2, 2], "strides": [1, 1], "paddings": [0, 1, 0, 1]}


@pytest.mark.parametrize("before", ["relu", "sigmoid"])
def test_a_maximum_of_neighbours_is_computed_from_moved_ones(run, before):
    program = build([act(before, "x", "t"), pool("t", "u", **MAX), act("relu", "t", "v"), add("u", "v", "out")], {})
    reference = run(program, X)["out"]
    assert lower_pools(program).changed == 1
    moves = ["depthwise_conv2d", "elementwise_max"] * 2
    assert list_types(program)[1:-1] == [before, *moves, "relu", "elementwise_add"]
    # To the bit.
    np.testing.assert_array_equal(run(program, X)["out"], reference)


@pytest.mark.parametrize(
    ("before", "attrs"),
    [
        # A padded window of negative numbers has a negative maximum, not zero.
        ("hard_swish", {}),
        ("relu", {"paddings": [1, 0, 1, 0]}),
        ("relu", {"paddings": [0, 0]}),
        ("relu", {"strides": [2, 2]}),
        ("relu", {"ksize": [3, 3]}),
        ("relu", {"padding_algorithm": "SAME"}),
        ("relu", {"kind": "avg", "ksize": [3, 2], "paddings": [1, 1]}),
        ("relu", {"kind": "avg", "ksize": [3, 2], "paddings": [0, 0], "ceil_mode": True}),
        ("relu", {"kind": "avg", "ksize": [2, 2], "paddings": [0, 0], "strides": [2, 2]}),
        ("relu", {"kind": "avg", "ksize": [3, 2], "paddings": [0, 0], "global_pooling": True}),
        ("relu", {"kind": "avg", "ksize": [3, 2], "paddings": [0, 0], "data_format": "NHWC"}),
    ],
)
def test_other_pools_stay(before, attrs):
    assert lower_pools(build([act(before, "x", "t"), pool("t", "out", **{**MAX, **attrs})], {})).changed == 0


def test_a_maximum_over_negative_numbers_would_change(run):
    """Shows that the condition is needed: the same edit behind an activation with negative results is wrong."""
    ops = [act("relu", "x", "t"), pool("t", "out", **MAX)]
    program = build(ops, {})
    lower_pools(program)
    program.ops[1].type = "tanh"
    reference = run(build([act("tanh", "x", "t"), *ops[1:]], {}), X - 3)["out"]
    assert np.abs(run(program, X - 3)["out"] - reference).max() > 0.1


# --- fit_kernels


def depthwise(source, result, weight, *, pads, strides=(1, 1), **attrs):
    attrs = {"strides": list(strides), "paddings": list(pads), **attrs}
    return conv(source, result, weight, kind="depthwise_conv2d", groups=4, **attrs)


@pytest.mark.parametrize("size", [(1, 5), (5, 1), (3, 5), (4, 4), (1, 3), (2, 2), (2, 3)])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (2, 2, 1, 1), (0, 1, 1, 2)])
def test_small_depthwise_filters_grow(run, size, pads):
    program = build([act("relu", "x", "t"), depthwise("t", "out", "w", pads=pads)], {"w": draw(4, 1, *size)})
    assert check_same(run, fit_kernels, program, changed=1) == ["relu", "depthwise_conv2d"]
    assert program.params["w"].shape[2:] == ((3, 3) if max(size) <= 3 else (5, 5))


def test_equal_paddings_stay_equal():
    program = build([act("relu", "x", "t"), depthwise("t", "out", "w", pads=(0, 0, 2, 2))], {"w": draw(4, 1, 1, 5)})
    fit_kernels(program)
    assert get_attr(program.ops[2], "paddings") == [2, 2, 2, 2]


@pytest.mark.parametrize("width", [8, 9])
@pytest.mark.parametrize(("size", "strides"), [((3, 2), (3, 2)), ((3, 3), (2, 1)), ((2, 3), (3, 1)), ((3, 5), (1, 2))])
def test_a_single_row_has_no_vertical_stride(run, size, strides, width):
    sides = (-1, 4, 3, -1)
    ops = [act("relu", "x", "t"), depthwise("t", "out", "w", strides=strides, pads=(0, 0))]
    program = build(ops, {"w": draw(4, 1, *size)}, shape=sides, shapes={"t": sides})
    is_row = size[0] == 3
    check_same(run, fit_kernels, program, changed=int(is_row), array=draw(2, 4, 3, width))
    assert list(get_attr(program.ops[2], "strides")) == ([strides[1]] * 2 if is_row else list(strides))


@pytest.mark.parametrize("pads", [(0, 1, 0, 1), (1, 0, 1, 0)])
def test_a_dense_filter_of_2x2_grows(run, pads):
    ops = [act("relu", "x", "t"), conv("t", "u", "w", paddings=list(pads)), act("relu", "u", "out")]
    program = build(ops, {"w": draw(6, 4, 2, 2)}, shapes={"u": (-1, 6, -1, -1), "out": (-1, 6, -1, -1)})
    check_same(run, fit_kernels, program, changed=1)
    assert program.params["w"].shape == (6, 4, 3, 3)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("pads", [(3, 3, 3, 3), (2, 4, 3, 2)])
def test_a_filter_of_7x7_becomes_four(run, has_bias, pads):
    ops = [act("relu", "x", "t"), depthwise("t", "u", "w", pads=pads)]
    ops += [add("u", "b", "v", axis=1)] if has_bias else [act("relu", "u", "v")]
    program = build([*ops, act("tanh", "v", "out")], {"w": draw(4, 1, 7, 7) / 7, "b": draw(4)})
    kinds = check_same(run, fit_kernels, program, changed=1)
    corners = ["depthwise_conv2d", "elementwise_add"] * 3
    first = ["relu", "depthwise_conv2d"]
    assert kinds == [*first, *(["elementwise_add", *corners] if has_bias else [*corners, "relu"]), "tanh"]


@pytest.mark.parametrize("width", [8, 9])
@pytest.mark.parametrize("height", [11, 12])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("size", [3, 5])
def test_a_stride_of_rows_keeps_every_other_row(run, size, has_bias, height, width):
    pad = size // 2
    ops = [act("relu", "x", "t"), depthwise("t", "u", "w", strides=(2, 1), pads=(pad, pad))]
    ops += [add("u", "b", "v", axis=1)] if has_bias else []
    ops += [act("hard_swish", "v" if has_bias else "u", "out")]
    sides = (-1, 4, height, -1)
    program = build(ops, {"w": draw(4, 1, size, size), "b": draw(4)}, shape=sides, shapes=dict.fromkeys("tuv", sides))
    kinds = check_same(run, fit_kernels, program, changed=1, array=draw(2, 4, height, width))
    split = ["reshape2", "split", "reshape2", "hard_swish"]
    assert kinds == ["relu", "depthwise_conv2d", *(["elementwise_add"] if has_bias else []), *split]


@pytest.mark.parametrize("width", [8, 9])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("size", [3, 5])
def test_a_stride_of_columns_interleaves_rows(run, size, has_bias, width):
    pad = size // 2
    ops = [act("relu", "x", "t"), depthwise("t", "u", "w", strides=(1, 2), pads=(pad, pad))]
    ops += [add("u", "b", "v", axis=1)] if has_bias else []
    ops += [act("hard_swish", "v" if has_bias else "u", "out")]
    shapes = dict.fromkeys("tuv", LINE_SHAPE)
    program = build(ops, {"w": draw(4, 1, size, size), "b": draw(4)}, shape=LINE_SHAPE, shapes=shapes)
    kinds = check_same(run, fit_kernels, program, changed=1, array=LINE[..., :width])
    assert kinds.count("depthwise_conv2d") == 2
    assert kinds[-5:] == ["reshape2", "reshape2", "concat", "reshape2", "hard_swish"]


@pytest.mark.parametrize(
    ("size", "attrs"),
    [
        ((3, 3), {"pads": (1, 1)}),
        ((5, 5), {"pads": (2, 2), "strides": (2, 2)}),
        ((7, 7), {"pads": (1, 1)}),
        ((7, 7), {"pads": (3, 3), "strides": (2, 2)}),
        ((1, 7), {"pads": (0, 3)}),
        ((1, 5), {"pads": (0, 2), "dilations": [1, 2]}),
        ((1, 5), {"pads": (0, 2), "padding_algorithm": "SAME"}),
        ((3, 3), {"pads": (0, 0), "strides": (1, 2)}),
        ((3, 3), {"pads": (1, 1), "strides": (3, 1)}),
    ],
)
def test_other_depthwise_convolutions_stay(size, attrs):
    ops = [act("relu", "x", "t"), depthwise("t", "out", "w", **attrs)]
    program = build(ops, {"w": draw(4, 1, *size)}, shape=LINE_SHAPE, shapes={"t": LINE_SHAPE})
    assert fit_kernels(program).changed == 0


def test_a_stride_of_rows_needs_a_known_height():
    ops = [act("relu", "x", "t"), depthwise("t", "out", "w", strides=(2, 1), pads=(1, 1))]
    assert fit_kernels(build(ops, {"w": draw(4, 1, 3, 3)})).changed == 0


def test_an_odd_number_of_rows_is_not_interleaved():
    sides = (-1, 4, 11, -1)
    ops = [act("relu", "x", "t"), depthwise("t", "out", "w", strides=(1, 2), pads=(1, 1))]
    assert fit_kernels(build(ops, {"w": draw(4, 1, 3, 3)}, shape=sides, shapes={"t": sides})).changed == 0


@pytest.mark.parametrize(
    "attrs", [{"pad": 0}, {"pad": 1}, {"paddings": [0, 1, 0, 1], "strides": [2, 2]}, {"groups": 2}]
)
def test_other_dense_convolutions_stay(attrs):
    weight = draw(4, 4 // attrs.get("groups", 1), 2, 2)
    assert fit_kernels(build([act("relu", "x", "t"), conv("t", "out", "w", **attrs)], {"w": weight})).changed == 0


# Forms for which `fit_kernels` would need paddings that a 3 × 3 kernel of Paddle-Lite reads wrong.
MISREAD = [
    ((3, 3), (1, 2), (1, 1, 0, 0), 12),
    ((3, 3), (1, 2), (1, 1, 0, 1), 12),
    ((3, 3), (2, 1), (1, 0, 1, 0), 5),
    ((2, 2), (2, 2), (0, 0, 0, 0), 12),
    ((2, 3), (2, 2), (0, 0, 0, 0), 12),
]


@pytest.mark.parametrize(("size", "strides", "pads", "height"), MISREAD)
def test_paddings_that_the_library_misreads_are_avoided(size, strides, pads, height):
    sides = (-1, 4, height, -1)
    ops = [act("relu", "x", "t"), depthwise("t", "out", "w", strides=strides, pads=pads)]
    program = build(ops, {"w": draw(4, 1, *size)}, shape=sides, shapes={"t": sides})
    assert fit_kernels(program).changed == 0


@pytest.mark.parametrize(
    ("strides", "pads", "is_read"),
    [
        ((2, 2), (0, 1, 0, 0), False),
        ((2, 2), (0, 1, 0, 1), False),
        ((2, 2), (0, 1, 1, 1), True),
        ((2, 2), (0, 0, 0, 1), True),
        ((1, 1), (1, 0, 1, 0), False),
        ((1, 1), (1, 1, 1, 0), False),
        ((1, 1), (1, 0, 1, 1), True),
        ((1, 1), (1, 2, 1, 0), True),
    ],
)
def test_paddings_that_the_library_reads(strides, pads, is_read):
    assert reads_paddings(3, strides, pads) is is_read
    assert reads_paddings(5, strides, pads)


@pytest.mark.parametrize(
    ("apply", "ops", "shapes"),
    [
        (lower_pools, [pool("t", "out", ksize=[0, 3])], {}),
        (lower_pools, [pool("t", "out", ksize=[100000, 3000000])], {}),
        (lower_pools, [pool("t", "out", ksize=[3, 2], strides=[0, 0])], {}),
        (lower_pools, [pool("t", "out", ksize=[3, 2])], {"t": (-1, 2**40, -1, -1)}),
        (widen_numbers, [add("t", "n", "out")], {"t": (-1, 2**40, -1, -1)}),
        (fit_kernels, [depthwise("t", "out", "w", strides=(2, 1), pads=(1, 1))], {"out": (-1, 4)}),
        (fit_kernels, [depthwise("t", "out", "w", strides=(2, 1), pads=(1, 1))], {"t": (-1, 4, 2**62, -1)}),
        (fit_kernels, [depthwise("t", "out", "w", strides=(2, 1), pads=(2**31 - 1, 1))], {}),
        (fit_kernels, [depthwise("t", "out", "w", strides=(2, 0), pads=(1, 1))], {}),
    ],
)
def test_sizes_of_damaged_files_stay(apply, ops, shapes):
    params = {"n": draw(1), "w": draw(4, 1, 3, 3)}
    program = build([act("relu", "x", "t"), *ops], params, shapes={"t": LINE_SHAPE, **shapes})
    assert apply(program).changed == 0


def test_filters_that_others_read_stay():
    ops = [act("relu", "x", "t"), depthwise("t", "u", "w", pads=(0, 2)), depthwise("u", "out", "w", pads=(0, 2))]
    assert fit_kernels(build(ops, {"w": draw(4, 1, 1, 5)})).changed == 0


def test_filters_that_a_sub_block_reads_stay():
    ops = [act("relu", "x", "t"), depthwise("t", "out", "w", pads=(0, 2))]
    assert fit_kernels(add_sub_block(build(ops, {"w": draw(4, 1, 1, 5)}), "relu", "w")).changed == 0
