"""Classes that are removed from a recogniser."""

import numpy as np
import pytest
from support.paddle_programs import act, add, build, draw

from converters.graph.passes.prune_charset import prune_charset
from edge_ocr.errors import ModelError, UsageError


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
        ([], "class 0"),
        ([1, 0], "class 0"),
        ([0], "blank"),
        ([0, 2, 3, 2], "class 2"),
        ([0, 5], "class 5 .*5"),
        ([0, -1], "class -1 .*5"),
    ],
)
def test_classes_that_cannot_be_kept(kept, words):
    with pytest.raises(UsageError, match=words):
        prune_charset(build_classifier(), kept)


@pytest.mark.parametrize("options", [{"tail": "sigmoid"}, {"biased": False}])
def test_only_recognisers_are_pruned(options):
    with pytest.raises(ModelError, match="matmul"):
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
    with pytest.raises(ModelError, match="matmul"):
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
    with pytest.raises(ModelError, match="matmul"):
        prune_charset(program, [0, 1])
    program = build(ops[:1], {"w": draw(4, 4)}, ("t0", "x"), shape=(-1, -1, 4), shapes=shapes)
    with pytest.raises(ModelError, match=r"2 .*1"):
        prune_charset(program, [0, 1])


def test_a_bias_of_another_length_than_the_classes_is_not_pruned():
    program = build_classifier()
    program.set_param("w", draw(4, 7))
    with pytest.raises(ModelError, match="matmul"):
        prune_charset(program, [0, 1])
