"""Uncertain lines are read twice; on fake engines and on the default model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from edge_ocr import create_pipeline
from edge_ocr.engines import openvino
from edge_ocr.engines.checked import LEAST_MARGIN, CheckedEngine, measure_margins


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


def test_margin_is_that_of_the_least_certain_step():
    assert measure_margins(FAST) == pytest.approx([0.5, 0.04, 0.4], abs=1e-6)


def test_two_equally_good_classes_have_no_margin():
    assert measure_margins(make_probs([[0.5, 0.5, 0]])) == [0]


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
