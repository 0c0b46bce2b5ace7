"""Ops that move or reshape tensors, against NumPy."""

import numpy as np
import pytest
from support.nb_programs import (
    apply,
    build,
    build_model,
    check,
    draw,
    feed,
    fetch,
    fill,
    make_op,
    open_session,
    pick,
    run,
)

from converters.lite.nb.cost import compute_cost


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concatenation(axis):
    x, p = draw(2, 3), draw(2, 3, seed=1)
    op = make_op("concat", {"X": ("x", "p", "x"), "AxisTensor": ()}, {"Out": "y"}, axis=axis)
    check(run(x, op, params={"p": p}), np.concatenate([x, p, x], axis))


@pytest.mark.parametrize(
    ("attrs", "parts"),
    [
        ({"axis": 1, "num": 2, "sections": ()}, [(0, 3), (3, 6)]),
        ({"axis": -2, "num": 0, "sections": (1, 3, 2)}, [(0, 1), (1, 4), (4, 6)]),
    ],
)
def test_split(attrs, parts):
    x = draw(2, 6, 4)
    names = [f"part{index}" for index in range(len(parts))]
    split = make_op("split", {"X": "x"}, {"Out": tuple(names)}, **attrs)
    for name, (start, stop) in zip(names, parts, strict=True):
        op = make_op("concat", {"X": (name, name)}, {"Out": "y"}, axis=0)
        check(run(x, split, op), np.concatenate([x[:, start:stop]] * 2))


def test_cost_of_a_split():
    split = make_op("split", {"X": "x"}, {"Out": ("a", "b", "y")}, axis=1, num=0, sections=(1, 3, 2))
    model = build_model([feed("x"), split, fetch("y")], {"x": (-1, -1, -1)})
    cost = compute_cost(model, {"x": (2, 6, 4)}).ops[1]
    assert (cost.read_bytes, cost.written_bytes, cost.output_shapes) == (192, 192, ((2, 1, 4), (2, 5, 4)))


def test_transposition():
    x = draw(2, 3, 4)
    check(apply(x, "transpose2", axis=(2, 0, 1)), x.transpose(2, 0, 1))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixel_shuffle(factor):
    x = draw(2, 18 * factor**2, 3, 5)
    wanted = x.reshape(2, 18, factor, factor, 3, 5).transpose(0, 1, 4, 2, 5, 3).reshape(2, 18, 3 * factor, 5 * factor)
    check(apply(x, "pixel_shuffle", upscale_factor=factor), wanted)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((0, -1), (2, 12)), ((-1,), (24,)), ((4, 0, 2), (4, 3, 2)), ((0, 0, 2, 2), (2, 3, 2, 2)), (-1, (24,))],
)
def test_reshape(shape, wanted):
    x = draw(2, 3, 4)
    check(apply(x, "reshape2", inputs={"ShapeTensor": (), "Shape": ()}, shape=shape), x.reshape(wanted))


def test_reshape_to_a_computed_shape():
    x = draw(2, 6, 5)
    ops = [
        make_op("shape", {"Input": "x"}, {"Out": "sides"}),
        pick("sides", "batch", 0),
        pick("sides", "width", 2),
        make_op("assign", {"X": "width"}, {"Out": "kept"}),
        make_op("scale", {"X": "kept"}, {"Out": "double"}, scale=2.0, bias=0.0, bias_after_scale=True),
        fill("three", 3),
        make_op("reshape2", {"X": "x", "ShapeTensor": ("batch", "three", "double")}, {"Out": "y"}, shape=(7, 7)),
    ]
    graph = build(*ops, x=(-1, 6, -1))
    # Each is known to be a single number.
    assert [node.op_type for node in graph.model.graph.node].count("Slice") == 2
    session = open_session(graph)
    for batch, width in ((2, 5), (3, 4)):
        x = draw(batch, 6, width)
        (found,) = session.run(None, {"x": x})
        check(found, x.reshape(batch, 3, 2 * width))


def test_only_the_first_number_of_a_vector_in_a_shape_counts():
    x = draw(2, 6)
    shape = {"ShapeTensor": ("sides", "six")}
    ops = [make_op("shape", {"Input": "x"}, {"Out": "sides"}), make_op("reshape2", {"X": "x", **shape}, {"Out": "y"})]
    check(run(x, *ops, params={"six": np.array([6, 9, 9], np.int32)}), x)
    (one,) = open_session(
        build(
            *ops[:1],
            make_op("reshape2", {"X": "x", "ShapeTensor": "n"}, {"Out": "y"}),
            x=(-1, 6),
            params={"n": np.array([12], np.int64)},
        )
    ).run(None, {"x": x})
    check(one, x.reshape(12))


@pytest.mark.parametrize(
    ("axes", "wanted"),
    [((0, -1), (120,)), ((1, 2), (2, 12, 5)), ((0, 1), (6, 4, 5)), ((2, 3), (2, 3, 20)), ((-3, -2), (2, 12, 5))],
)
def test_flattening(axes, wanted):
    x = draw(2, 3, 4, 5)
    found = apply(x, "flatten_contiguous_range", start_axis=axes[0], stop_axis=axes[1])
    check(found, x.reshape(wanted))


@pytest.mark.parametrize("axes", [(2,), (-2, 0), (0, 2, 2)])
def test_squeezing(axes):
    x = draw(1, 3, 1, 5)
    check(apply(x, "squeeze2", axes=axes), x.squeeze(tuple(set(axes))))


@pytest.mark.parametrize(
    ("attrs", "key"),
    [
        ({"axes": (0,), "starts": (1,), "ends": (3,)}, np.s_[1:3]),
        ({"axes": (0, 2), "starts": (-2, 0), "ends": (2**31 - 1, -1)}, np.s_[-2:, :, :-1]),
        ({"axes": (1,), "starts": (1,), "ends": (2,), "decrease_axis": (1,)}, np.s_[:, 1]),
        ({"axes": (0, 1), "starts": (2, 0), "ends": (3, 1), "decrease_axis": (0, 1)}, np.s_[2, 0]),
        ({"axes": (1,), "starts": (-1,), "ends": (0,), "decrease_axis": (1,), "infer_flags": (-1,)}, np.s_[:, -1]),
        ({"axes": (1,), "starts": (-2,), "ends": (-1,), "decrease_axis": (1,), "infer_flags": (-1,)}, np.s_[:, -2]),
    ],
)
def test_slicing(attrs, key):
    x = draw(4, 3, 5)
    check(apply(x, "slice", slot="Input", **attrs), x[key])


def test_slicing_out_a_single_number_gives_a_vector():
    x = draw(4)
    attrs = {"axes": (0,), "starts": (2,), "ends": (3,)}
    check(apply(x, "slice", slot="Input", decrease_axis=(0,), **attrs), x[2:3])
    check(apply(x, "slice", slot="Input", **attrs), x[2:3])
    x = draw(4, 3)
    attrs = {"axes": (0, 1), "starts": (2, 1), "ends": (3, 2), "decrease_axis": (0, 1)}
    check(apply(x, "slice", slot="Input", **attrs), x[2, 1:2])


def test_filling():
    x = draw(2, 3)
    # The runtime uses the number, not its text.
    ops = [
        fill("c", 0.25, dtype=5, shape=(2, 1), str_value="9"),
        make_op("elementwise_mul", {"X": "x", "Y": "c"}, {"Out": "y"}),
    ]
    check(run(x, *ops), x * 0.25)
    for shape in ((3,), 3):
        ops[0] = fill("c", 0.25, dtype=5, shape=shape)
        check(run(x, *ops), x * 0.25)
