"""The fastest precision is measured once."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_ocr.engines import fastest
from edge_ocr.engines.fastest import choose_precision
from edge_ocr.errors import ModelError


class Counting:
    """An engine that counts its runs."""

    name = "counting"

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, array: np.ndarray) -> np.ndarray:
        self.shapes.append(array.shape)
        return array


@pytest.fixture
def choose(monkeypatch, tmp_path):
    """Return a function that chooses among engines that take so many milliseconds."""

    def run(kind="rec", file=tmp_path / "compiled" / "result.json", **spent):
        measured = []

        def measure(engines, shape):
            measured.append(shape)
            return {name: spent[name] for name in engines}

        monkeypatch.setattr(fastest, "_measure", measure)
        return choose_precision(kind, dict.fromkeys(spent, Counting), file), bool(measured)

    return run


@pytest.mark.parametrize(
    ("kind", "spent", "expected"),
    [
        ("rec", {"f32": 10, "bf16": 6, "int8": 5}, "int8"),
        ("rec", {"f32": 10, "bf16": 6, "int8": 6.1}, "bf16"),
        ("rec", {"f32": 10, "bf16": 12}, "f32"),
        # Too little to gain.
        ("det", {"f32": 10, "bf16": 8.6}, "f32"),
        ("det", {"f32": 10, "bf16": 8.4}, "bf16"),
        # Uncertain lines are read twice.
        ("rec", {"f32": 10, "bf16": 7.6}, "f32"),
        ("rec", {"f32": 10, "bf16": 7.4}, "bf16"),
    ],
)
def test_the_fastest_that_is_worth_it(choose, kind, spent, expected):
    assert choose(kind, **spent) == (expected, True)


@pytest.mark.parametrize(("kind", "spent"), [("cls", {"f32": 10, "bf16": 1}), ("rec", {"f32": 10})])
def test_nothing_to_choose_is_not_measured(choose, kind, spent):
    assert choose(kind, **spent) == ("f32", False)


def test_a_result_is_remembered(choose, tmp_path):
    assert choose(f32=10, bf16=5) == ("bf16", True)
    (file,) = (tmp_path / "compiled").iterdir()
    assert json.loads(file.read_text())["ms"] == {"f32": 10, "bf16": 5}
    assert choose(f32=10, bf16=50) == ("bf16", False)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"precision": "f64"}', '{"precision": null}', "\x00"])
def test_a_damaged_result_is_measured_again(choose, tmp_path, content):
    file = tmp_path / "result.json"
    file.write_text(content)
    assert choose(file=file, f32=10, bf16=5) == ("bf16", True)
    assert json.loads(file.read_text())["precision"] == "bf16"


def test_a_store_that_cannot_be_written_is_no_error(choose, tmp_path):
    (tmp_path / "file").write_text("")
    assert choose(file=tmp_path / "file" / "result.json", f32=10, bf16=5) == ("bf16", True)


def test_an_engine_that_cannot_be_built_is_left_out(monkeypatch, tmp_path):
    def fail():
        raise ModelError("broken")

    monkeypatch.setattr(fastest, "_measure", lambda engines, shape: dict.fromkeys(engines, 10.0))
    file = tmp_path / "result.json"
    assert choose_precision("rec", {"f32": Counting, "int8": fail}, file) == "f32"
    file.unlink()
    with pytest.raises(ModelError, match="broken"):
        choose_precision("rec", {"f32": fail, "int8": Counting}, file)


def test_engines_run_in_turn_on_the_same_input():
    engines = {"f32": Counting(), "bf16": Counting()}
    spent = fastest._measure(engines, (1, 3, 8, 8))
    assert set(spent) == set(engines)
    assert engines["f32"].shapes == engines["bf16"].shapes == [(1, 3, 8, 8)] * (fastest._ROUNDS + 1)
