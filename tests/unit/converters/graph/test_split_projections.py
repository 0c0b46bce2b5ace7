"""Joint projections whose parts are sliced apart."""

import numpy as np
import pytest
from support.paddle_programs import add, build, check_same, draw
from support.random_programs import check_pass

from converters.graph.passes.split_projections import split_projections
from converters.sources.program import set_attr

PARTS, HEADS, SIZE = 3, 2, 5
COLUMNS = PARTS * HEADS * SIZE
TEXT = draw(2, 7, 4)
SHAPES = {
    "y": (-1, -1, COLUMNS),
    "z": (-1, -1, COLUMNS),
    "r": (-1, -1, PARTS, HEADS, SIZE),
    "t": (PARTS, -1, HEADS, -1, SIZE),
    **dict.fromkeys("qkv", (-1, HEADS, -1, SIZE)),
}


def cut(part, result, **attrs):
    attrs = {"axes": [0], "starts": [part], "ends": [part + 1], "decrease_axis": [0], "infer_flags": [1], **attrs}
    return ("slice", "Input=t", f"Out={result}", attrs)


def project(*cuts, outputs=("q", "k", "v"), biased=True, order=(2, 0, 3, 1, 4), **matmul):
    matmul = {"trans_x": False, "trans_y": False, **matmul}
    ops = [("matmul_v2", "X=x Y=w", "Out=y" if biased else "Out=z", matmul)]
    if biased:
        ops.append(add("y", "b", "z", 2))
    ops.append(("reshape2", "X=z", "Out=r XShape=rx", {"shape": [0, -1, PARTS, HEADS, SIZE]}))
    ops.append(("transpose2", "X=r", "Out=t XShape=tx", {"axis": list(order)}))
    ops += cuts or [cut(0, "q"), cut(1, "k"), cut(2, "v")]
    return build(ops, {"w": draw(4, COLUMNS), "b": draw(COLUMNS)}, outputs, (-1, -1, 4), SHAPES)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("order", [(2, 0, 3, 1, 4), (2, 0, 1, 3, 4), (2, 4, 3, 1, 0)])
def test_queries_keys_and_values(run, order, biased):
    program = project(order=order, biased=biased)
    kinds = check_same(run, split_projections, program, changed=1, array=TEXT)
    line = ["matmul_v2", "elementwise_add", "reshape2", "transpose2"]
    assert sorted(kinds) == sorted(3 * (line if biased else [line[0], *line[2:]]))
    assert {value.size for value in program.params.values()} <= {4 * HEADS * SIZE, HEADS * SIZE}
    assert split_projections(program).changed == 0


def test_some_parts_and_one_twice(run):
    program = project(cut(2, "q"), cut(0, "k"), cut(2, "v"))
    check_same(run, split_projections, program, changed=1, array=TEXT)
    check_same(run, split_projections, project(cut(1, "q"), outputs=("q",)), changed=1, array=TEXT)


@pytest.mark.parametrize("name", ["y", "z", "r", "t"])
def test_a_joint_value_that_is_read_stays(run, name):
    program = project(outputs=("q", "k", "v", name))
    check_same(run, split_projections, program, changed=0, array=TEXT)


@pytest.mark.parametrize(
    "attrs",
    [
        {"decrease_axis": []},
        {"axes": [2], "decrease_axis": [], "ends": [2]},
        {"ends": [3], "decrease_axis": []},
        {"starts": [-3], "ends": [-2]},
        {"axes": [0, 2], "starts": [0, 0], "ends": [1, 1], "infer_flags": [1, 1]},
    ],
)
def test_other_slices_stay(run, attrs):
    program = project(cut(1, "q"), cut(0, "k", **attrs), outputs=("q", "k"))
    check_same(run, split_projections, program, changed=0, array=TEXT)


def test_other_products_stay(run):
    check_same(run, split_projections, project(order=(0, 2, 3, 1, 4)), changed=0, array=draw(3, 7, 4))
    assert split_projections(project(trans_x=True)).changed == 0
    for name, value in (("w", draw(2, 4, COLUMNS)), ("b", draw(1)), ("b", draw(1, 1, COLUMNS))):
        program = project()
        program.set_param(name, value)
        assert split_projections(program).changed == 0
    for shape in (
        [0, 0, PARTS, HEADS, SIZE],
        [0, -1, PARTS, 0, SIZE],
        [0, -1, PARTS, HEADS],
        [0, 7, PARTS, -1, SIZE],
        [],
    ):
        program = project()
        set_attr(next(op for op in program.ops if op.type == "reshape2"), "shape", shape)
        assert split_projections(program).changed == 0


def draw_projections(g):
    batch, places, inputs = g.array.shape
    value = g.act("x", "tanh")
    parts, heads, size = g.rng.choice([(3, 2, 2), (3, 1, 4), (2, 2, 3), (3, 3, 1)])
    columns = parts * heads * size
    shape, weights = (-1, -1, columns), g.param(g.draw(inputs, columns))
    value = g.put("matmul_v2", shape, X=value, Y=weights, trans_x=False, trans_y=False)
    if g.maybe(0.7):
        terms = g.draw(*g.rng.choice([(columns,)] * 6 + [(1,), (1, 1, columns)]))
        value = g.pair("add", value, g.param(terms), g.rng.choice([-1, 2]) if terms.shape == (columns,) else -1)
    counts = g.rng.choice([[0, -1]] * 6 + [[0, 0], [-1, places], [0, places]])
    shape = (-1, -1, parts, heads, size)
    value = g.put("reshape2", shape, X=value, extra=["XShape"], shape=[*counts, *shape[2:]])
    order = g.rng.choice([[2, 0, 3, 1, 4]] * 8 + [[2, 0, 1, 3, 4], [0, 2, 3, 1, 4], [2, 1, 0, 3, 4]])
    sides = tuple(shape[axis] for axis in order)
    joint = g.put("transpose2", sides, X=value, extra=["XShape"], axis=order)
    count = parts if order[0] == 2 else batch
    results = []
    for part in g.rng.sample(range(count), g.rng.randint(1, count)):
        attrs = {"axes": [0], "starts": [part], "ends": [part + 1], "decrease_axis": [0], "infer_flags": [1]}
        attrs |= g.rng.choice([{}] * 9 + [{"starts": [part - count], "ends": [part + 1 - count or 2**31 - 1]}])
        results.append(g.act(g.put("slice", sides[1:], Input=joint, **attrs), "relu"))
    g.outputs += results
    return g.finish(results[0], trouble=0.3)


def test_random_projections(run):
    check_pass(run, split_projections, draw_projections, [(2, 5, 4), (1, 3, 4), (3, 1, 2)], 0.3, 0.8)


def test_the_numbers_are_those_of_one_product(run):
    program = project()
    for name in ("w", "b"):
        program.set_param(name, np.round(program.params[name] * 8))
    before = run(program, np.round(TEXT * 8))
    assert split_projections(program).changed == 1
    after = run(program, np.round(TEXT * 8))
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])
