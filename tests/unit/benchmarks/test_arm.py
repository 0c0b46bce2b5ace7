"""benchmarks.arm: the rows of its table."""

from __future__ import annotations

from benchmarks.arm import list_rows
from converters.emulate.counts import Counts
from converters.emulate.meter import NetworkCounts

DET, REC = ("det", (960, 704)), ("rec", (48, 320))


def make(place, instructions):
    total = Counts(instructions, 2_000_000, 1_000_000, 500_000, 100_000)
    return NetworkCounts(*place, total, Counts(), (), None, 2e-5)


def test_rows_compare_with_the_first_bundle_and_sum_up_a_page():
    first = {DET: make(DET, 200_000_000), REC: make(REC, 10_000_000)}
    second = {DET: make(DET, 100_000_000), REC: make(REC, 10_000_000)}
    third = {REC: make(REC, 5_000_000)}
    rows = list(list_rows({"opt alone": first, "today": second, "rec only": third}))
    assert rows[:2] == [
        ("det at 960 × 704", "opt alone", "200.0", "1.000", "2.0 + 1.0", "0.5 + 0.1", "2.0e-05"),
        ("", "today", "100.0", "0.500", "2.0 + 1.0", "0.5 + 0.1", "2.0e-05"),
    ]
    assert [row[1:4] for row in rows[2:5]] == [
        ("opt alone", "10.0", "1.000"),
        ("today", "10.0", "1.000"),
        ("rec only", "5.0", "0.500"),
    ]
    assert [row[1:5] for row in rows[5:]] == [
        ("opt alone", "500.0", "1.000", "62.0 + 31.0"),
        ("today", "400.0", "0.800", "62.0 + 31.0"),
    ]
