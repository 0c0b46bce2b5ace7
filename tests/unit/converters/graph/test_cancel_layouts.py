"""The pass that cancels layout ops: layers over lines, and what must stay."""

import numpy as np
import pytest
from support.paddle_programs import act, add_sub_block, build, check_same, conv, draw

from converters.graph.passes import run_passes
from converters.graph.passes.cancel_layouts import cancel_layouts

X = draw(2, 4, 1, 8, seed=7)
FLAT = (-1, 4, -1)
NORM = {"s": draw(4, seed=2), "b": draw(4, seed=3), "m": draw(4, seed=4), "v": np.abs(draw(4, seed=5)) + 0.5}


def move(kind, source, result, axes):
    attr = "axis" if kind == "transpose2" else "axes"
    return (kind, f"X={source}", f"Out={result} XShape={result}.xshape", {attr: axes})


def norm(source, result):
    inputs = f"X={source} Scale=s Bias=b Mean=m Variance=v"
    outputs = f"Y={result} MeanOut=m VarianceOut=v SavedMean=sm SavedVariance=sv"
    return ("batch_norm", inputs, outputs, {"is_test": True, "epsilon": 1e-3, "data_layout": "NCHW"})


def make_line_layers():
    """Return the end of a recogniser: two convolutions over lines, each with a batch norm on three dimensions."""
    ops = [
        act("relu", "x", "t0"),
        move("squeeze2", "t0", "t1", [2]),
        move("transpose2", "t1", "t2", [0, 2, 1]),
        move("transpose2", "t2", "t3", [0, 2, 1]),
        move("unsqueeze2", "t3", "t4", [2]),
        conv("t4", "t5", "w1", pad=1),
        move("squeeze2", "t5", "t6", [-2]),
        norm("t6", "t7"),
        act("hard_swish", "t7", "t8"),
        move("unsqueeze2", "t8", "t9", [-2]),
        conv("t9", "t10", "w2"),
        move("squeeze2", "t10", "t11", [2]),
        act("hard_swish", "t11", "t12"),
        move("transpose2", "t12", "out", [0, 2, 1]),
    ]
    shapes = dict.fromkeys(("t1", "t3", "t6", "t7", "t8", "t11", "t12"), FLAT) | {"t2": (-1, -1, 4)}
    weights = {"w1": draw(4, 4, 3, 3, seed=8), "w2": draw(4, 4, 1, 1, seed=9)}
    return build(ops, {**weights, **NORM}, shapes=shapes)


def test_layers_over_lines(run):
    kinds = check_same(run, cancel_layouts, make_line_layers(), changed=6, array=X)
    assert kinds == [
        "relu",
        "conv2d",
        "batch_norm",
        "hard_swish",
        "conv2d",
        "hard_swish",
        "squeeze2",
        "transpose2",
    ]


def test_their_batch_norm_folds(run):
    program = make_line_layers()
    before = run(program, X)["out"]
    run_passes(program)
    assert [op.type for op in program.ops[1:-1]] == [
        "relu",
        "conv2d",
        "elementwise_add",
        "hard_swish",
        "conv2d",
        "hard_swish",
        "squeeze2",
        "transpose2",
    ]
    np.testing.assert_allclose(run(program, X)["out"], before, rtol=0, atol=2e-5)
    name = next(name for name in program.params if name.endswith(".bias"))
    program.set_param(name, program.params[name] + np.float32(0.01))
    assert np.abs(run(program, X)["out"] - before).max() > 1e-3


def unsqueeze_again(*between):
    ops = [act("relu", "x", "t0"), move("squeeze2", "t0", "t1", [2]), *between]
    return [*ops, move("unsqueeze2", "t2", "t3", [2]), act("tanh", "t3", "out")]


FLAT_ONES = {"t1": FLAT, "t2": FLAT}


def test_a_squeeze_whose_shape_is_read_stays():
    ops = [*unsqueeze_again(act("relu", "t1", "t2")), act("cast", "t1.xshape", "y")]
    assert cancel_layouts(build(ops, {}, shapes=FLAT_ONES)).changed == 0
    assert cancel_layouts(build(ops[:-1], {}, shapes=FLAT_ONES)).changed == 2


def test_a_value_that_is_written_again_is_not_read_late(run):
    again = ("scale", "X=x", "Out=t0", {"scale": 3.0, "bias": 0.0})
    program = build(unsqueeze_again(again, act("relu", "t1", "t2")), {}, shapes=FLAT_ONES)
    check_same(run, cancel_layouts, program, changed=0, array=X)


@pytest.mark.parametrize(
    ("axes", "shapes"),
    [
        # The declared shapes do not say that the dimension was 1.
        ([2], {"t1": (-1, 4, 1, -1), "t2": (-1, 4, 1, -1)}),
        # Two dimensions in one step.
        ([2, 3], FLAT_ONES),
        ([], FLAT_ONES),
    ],
)
def test_squeezes_that_may_keep_a_dimension_stay(axes, shapes):
    ops = [
        act("relu", "x", "t0"),
        move("squeeze2", "t0", "t1", axes),
        act("relu", "t1", "t2"),
        act("tanh", "t2", "out"),
    ]
    assert cancel_layouts(build(ops, {}, shapes=shapes)).changed == 0


def test_values_of_sub_blocks_stay():
    ops = unsqueeze_again(act("relu", "t1", "t2"))
    assert cancel_layouts(add_sub_block(build(ops, {}, shapes=FLAT_ONES), "relu", "t1")).changed == 0


def test_a_transpose_of_a_damaged_order_stays():
    ops = [
        act("relu", "x", "t0"),
        move("transpose2", "t0", "t1", [0, 0, 9, 3]),
        move("transpose2", "t1", "out", [0, 9, 2, 3]),
    ]
    assert cancel_layouts(build(ops, {})).changed == 0
