"""The parts of the comparison of a bundle with its reference."""

from __future__ import annotations

import numpy as np
import pytest

from converters.verify import comparison
from edge_ocr.errors import NotVerifiedError


def test_the_recorder_refuses_outputs_of_another_shape():
    class Odd:
        name = "odd"

        def run(self, array):
            return np.zeros((1, 1, 2, 2), dtype=np.float32)

    recorder = comparison.Recorder(Odd(), "det", 5, "the bundle")
    with pytest.raises(NotVerifiedError, match=r"det .*\[1, 1, 2, 2\]"):
        recorder.run(np.zeros((1, 3, 32, 32), dtype=np.float32))


def test_each_input_runs_once():
    class Counting:
        name = "counting"
        runs = 0

        def run(self, array):
            self.runs += 1
            return array[:, :1]

    engine = Counting()
    recorder = comparison.Recorder(engine, "det", 5, "the bundle")
    array = np.ones((1, 3, 32, 32), dtype=np.float32)
    assert recorder.run(array) is recorder.run(array.copy())
    recorder.run(array * 2)
    assert engine.runs == 2


def test_a_page_of_many_lines_is_run_twice_but_not_kept(monkeypatch):
    class Echo:
        name = "echo"

        def run(self, array):
            return array[:, :1]

    monkeypatch.setattr(comparison, "_MAX_KEPT_BYTES", 5000)
    recorder = comparison.Recorder(Echo(), "det", 5, "the bundle")
    small, large = np.ones((1, 3, 32, 32), dtype=np.float32), np.ones((1, 3, 64, 64), dtype=np.float32)
    assert recorder.run(small) is recorder.run(small)
    assert recorder.run(large) is not recorder.run(large)


def test_fewer_classes_sum_up_to_one():
    class Fixed:
        name = "fixed"

        def run(self, array):
            return np.array([[[0.5, 0.2, 0.2, 0.1], [0, 0, 1, 0]]], dtype=np.float32)

    probs = comparison.KeptClasses(Fixed(), [0, 1, 3]).run(np.zeros(1))
    np.testing.assert_allclose(probs, [[[0.625, 0.25, 0.125], [0, 0, 0]]], rtol=1e-6)
