"""Uncertain lines are read twice; on fake engines and on the default model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from edge_ocr import create_pipeline
from edge_ocr.core.charset import Charset
from edge_ocr.engines import openvino
from edge_ocr.engines.checked import LEAST_MARGIN, CheckedEngine, find_uncertain


class FixedEngine:
    """Returns for each line the probs that its first pixel selects, in a buffer that the next run overwrites."""

    def __init__(self, table: np.ndarray) -> None:
        self.name = "fixed"
        self.lines: list[int] = []
        self._table = table
        self._buffer = np.empty_like(table)

    def run(self, array: np.ndarray) -> np.ndarray:
        numbers = array[:, 0, 0, 0].astype(int)
        self.lines += numbers.tolist()
        self._buffer[: len(numbers)] = self._table[numbers]
        return self._buffer[: len(numbers)]


def make_probs(*lines: list[list[float]]) -> np.ndarray:
    return np.array(lines, np.float32)


FAST = make_probs([[0.9, 0.1, 0], [0.2, 0.7, 0.1]], [[0.9, 0.1, 0], [0.48, 0.52, 0]], [[0, 0.3, 0.7], [1, 0, 0]])


SURE = [0, 0, 1.0]
NEAR = {"blank": [0.52, 0, 0.48], "character": [0.48, 0, 0.52], "another": [0, 0.48, 0.52]}


def test_the_least_certain_step_decides():
    assert find_uncertain(FAST).tolist() == [False, True, False]


def test_two_equally_good_classes_are_uncertain():
    assert find_uncertain(make_probs([[0.5, 0.5, 0]])).all()


@pytest.mark.parametrize("near", ["blank", "character"])
def test_a_longer_character_is_the_same_text(near):
    blank = [1.0, 0, 0]
    assert not find_uncertain(make_probs([blank, NEAR[near], SURE], [SURE, NEAR[near], blank])).any()


@pytest.mark.parametrize("near", ["blank", "character"])
def test_a_gap_between_two_equal_characters_is_not(near):
    assert find_uncertain(make_probs([SURE, NEAR[near], SURE])).all()


@pytest.mark.parametrize("near", ["blank", "character"])
def test_a_character_of_one_step_is_not(near):
    blank = [1.0, 0, 0]
    assert find_uncertain(make_probs([blank, NEAR[near], blank], [[0, 1.0, 0], NEAR[near], blank])).all()


def test_another_character_beside_the_same_is_not():
    # "b" or "ab".
    assert find_uncertain(make_probs([NEAR["another"], SURE])).all()


def test_a_step_between_two_characters_may_belong_to_either():
    assert not find_uncertain(make_probs([[0, 1.0, 0], NEAR["another"], SURE])).any()


@pytest.mark.parametrize("margin", [LEAST_MARGIN * 0.9, LEAST_MARGIN * 1.1])
def test_only_margins_below_the_limit_count(margin):
    found = find_uncertain(make_probs([[0.5 - margin / 2, 0, 0.5 + margin / 2]]))
    assert found.all() == (margin < LEAST_MARGIN)


def test_finding_them_changes_nothing():
    probs = FAST.copy()
    find_uncertain(probs)
    assert np.array_equal(probs, FAST)


@pytest.mark.parametrize("seed", range(4))
def test_lines_that_are_certain_read_the_same_with_any_second_class(seed):
    charset = Charset(("", "a", "b"))
    logits = np.random.default_rng(seed).normal(0, 2, (400, 5, 3)).astype(np.float32)
    probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    uncertain = find_uncertain(probs)
    for line, is_uncertain in zip(probs, uncertain, strict=True):
        order = line.argsort(axis=1)
        text, texts = charset.decode(line).text, set()
        for t in np.flatnonzero(np.diff(np.take_along_axis(line, order, 1)[:, 1:])[:, 0] < LEAST_MARGIN):
            other = line.copy()
            other[t, order[t, 1]] = 2
            texts.add(charset.decode(other).text)
        assert (texts - {text} != set()) == is_uncertain
    assert 0 < uncertain.mean() < 1


def test_only_lines_in_doubt_are_read_again():
    fast, exact = FixedEngine(FAST), FixedEngine(np.zeros_like(FAST) + 0.25)
    probs = CheckedEngine(fast, exact).run(np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1))
    assert exact.lines == [1]
    assert np.array_equal(probs[[0, 2]], FAST[[0, 2]])
    assert (probs[1] == 0.25).all()


def test_nan_is_read_again():
    broken, exact = FixedEngine(np.full_like(FAST, np.nan)), FixedEngine(FAST)
    assert np.array_equal(CheckedEngine(broken, exact).run(np.zeros((1, 1, 1, 1), np.float32)), FAST[:1])


def test_output_of_another_shape_is_returned_unchanged():
    fast, exact = FixedEngine(np.ones((1, 2), np.float32)), FixedEngine(FAST)
    assert CheckedEngine(fast, exact).run(np.zeros((1, 1, 1, 1), np.float32)).shape == (1, 2)


def test_nothing_in_doubt_is_read_once():
    fast, exact = FixedEngine(FAST), FixedEngine(FAST)
    CheckedEngine(fast, exact).run(np.zeros((1, 1, 1, 1), np.float32))
    assert (fast.lines, exact.lines) == ([0], [])
    assert LEAST_MARGIN < 0.5


class StoredNetwork:
    """In the place of a network: `asked` lists the precisions that were built."""

    name = "openvino"
    asked: ClassVar[list[str]] = []

    def __init__(self, model: object, threads: int, precision: str = "f32") -> None:
        self.asked.append(precision)


@pytest.fixture
def build(monkeypatch):
    """Return a function that creates an engine on a processor with some capabilities."""
    monkeypatch.setattr(openvino, "OpenVinoEngine", StoredNetwork)
    monkeypatch.setattr(StoredNetwork, "asked", [])

    def run(capabilities, kind, precision, ranges=None):
        monkeypatch.setattr(openvino, "_list_capabilities", lambda: capabilities)
        monkeypatch.setattr(openvino, "find_ranges", lambda model: ranges)
        return openvino.create(SimpleNamespace(kind=kind), "cpu", 0, 1, precision)

    return run


@pytest.mark.parametrize(
    ("capabilities", "precision", "computed"),
    [
        (["BF16", "FP32"], "bf16", ["bf16", "f32"]),
        (["BF16", "FP32"], "f16", ["f32"]),
        (["FP16", "FP32"], "f16", ["f16", "f32"]),
        (["FP16", "FP32"], "bf16", ["f32"]),
        (["BF16", "FP16", "FP32"], "f16", ["f16", "f32"]),
        (["FP32"], "bf16", ["f32"]),
        (["BF16", "FP16", "FP32"], "f32", ["f32"]),
        (["INT8", "FP32"], "int8", ["f32"]),
        (["INT8", "BF16", "FP32"], "int8", ["bf16", "f32"]),
    ],
)
def test_each_precision_needs_a_processor_that_has_it(build, capabilities, precision, computed):
    engine = build(capabilities, "rec", precision)
    assert StoredNetwork.asked == computed
    assert isinstance(engine, CheckedEngine) == (len(computed) == 2)


def test_int8_is_for_networks_with_known_ranges(build):
    assert isinstance(build(["INT8", "FP32"], "rec", "int8", {"x": (0, 1)}), CheckedEngine)
    assert StoredNetwork.asked == ["int8", "f32"]
    StoredNetwork.asked.clear()
    build(["FP32"], "rec", "int8", {"x": (0, 1)})
    assert StoredNetwork.asked == ["f32"]


@pytest.mark.parametrize(("kind", "computed"), [("det", ["bf16"]), ("cls", ["f32"]), ("page", ["f32"])])
def test_other_networks_are_not_checked(build, kind, computed):
    assert not isinstance(build(["BF16", "INT8", "FP32"], kind, "int8"), CheckedEngine)
    assert StoredNetwork.asked == computed


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_lower_precisions_read_as_f32_does(examples, precision):
    """On a processor without bf16, both bf16 and the detector are f32."""
    (expected,) = create_pipeline().predict(examples / "receipt.jpg")
    (read,) = create_pipeline(overrides={"Runtime.precision": precision}).predict(examples / "receipt.jpg")
    shifts = np.abs(np.array(read["dt_polys"]) - np.array(expected["dt_polys"])).max(axis=(1, 2))
    assert np.percentile(shifts, 90) <= 2
    assert sum(a == b for a, b in zip(read["rec_text"], expected["rec_text"], strict=True)) >= 45
