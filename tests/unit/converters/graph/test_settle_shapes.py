"""Shapes of reshapes that are known at export."""

import pytest
from support.paddle_programs import build, check_same, draw, list_types, pool

from converters.graph.passes.settle_shapes import settle_shapes
from converters.sources.program import get_attr


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
    # A copied dimension, constants, and one that only the device knows.
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
        (["c", "n", "sixtyfour"], None),  # both in another place: two unknown
        (["h", "eight", "eight", "four"], [-1, 8, 8, 4]),
        (["h", "any"], None),  # one unknown and one -1
    ],
)
def test_dimensions_of_a_reshape(run, sides, settled):
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
def test_a_dimension_beyond_32_bits_is_unknown(value):
    attrs = {"shape": [1], "dtype": 2, "value": float(value), "str_value": ""}
    ops = [("fill_constant", "", "Out=n", attrs), fill("four", 4), reshape("x", ["n", "four"])]
    program = build(ops, {})
    settle_shapes(program)
    assert get_attr(next(op for op in program.ops if op.type == "reshape2"), "shape") == [-1, 4]


def test_the_shape_of_another_tensor_is_not_a_copy(run):
    ops = [pool("x", "p"), ("shape", "Input=p", "Out=s", {}), side("s", "h", 2), fill("o", 0)]
    program = build([*ops, reshape("x", ["o", "o", "h", "o"])], {}, shapes={"s": (4,)})
    # It is not a copy, so it is the unknown one.
    settle_shapes(program)
    assert list(next(op for op in program.ops if op.type == "reshape2").attrs[0].ints) == [0, 0, -1, 0]


def test_a_shape_of_another_type_is_rewritten():
    ops = [("shape", "Input=x", "Out=s", {}), side("s", "n", 0), fill("rest", -1), reshape("x", ["n", "rest"])]
    program = build(ops, {}, shapes={"s": (4,)})
    op = next(op for op in program.ops if op.type == "reshape2")
    op.attrs[0].Clear()
    op.attrs[0].name, op.attrs[0].type, op.attrs[0].f = "shape", 1, 0.5
    assert settle_shapes(program).changed == 1
    assert get_attr(op, "shape") == [0, -1]
