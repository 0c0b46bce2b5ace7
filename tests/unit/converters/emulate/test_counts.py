"""The reader of the emulator's report, intact and damaged."""

from __future__ import annotations

import re

import pytest

from converters.emulate.counts import OTHER_CODE, Counts, parse_report, parse_symbols
from edge_ocr.errors import NotVerifiedError

REPORT = """\
block -1 ff00 10
op -1 10 2 1 64 0
block 0 1000 30
block 0 10 5
op 0 35 4 3 128 64
block 1 1000 60
op 1 60 6 5 0 0
total 2 105 12 9 192 64
"""


def test_a_report_is_read():
    run = parse_report(REPORT, 2, "det.nb")
    assert run.total == Counts(105, 12, 9, 192, 64)
    assert run.outside == Counts(10, 2, 1, 64, 0)
    assert run.ops == (Counts(35, 4, 3, 128, 64), Counts(60, 6, 5, 0, 0))
    assert run.blocks == {0xFF00: 10, 0x1000: 90, 0x10: 5}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("block 0 1000 30", "block 0 1000 31", r"line 5 .* blocks"),
        ("block 0 1000 30\n", "", r"line 4 .* blocks"),
        ("op 0 35 4 3", "op 0 35 5 3", r"line 8 .* ops"),
        ("op 0 35", "op 1 35", r"line 5 .* op 1, expected 0"),
        ("block 1 1000", "block 0 1000", r"line 6 .* op 0, expected 1"),
        ("total 2", "total 3", "line 8"),
        ("total 2 105 12 9 192 64", "total 2 105 12 9 192", "line 8"),
        ("op 1 60 6 5 0 0", "op 1 60 6 5 -1 1", "line 7"),
        ("op 1 60 6 5 0 0", "op 1 3c 60", "line 7"),
        ("block 0 1000 30", "block 0 1000 30 0 0 0 0", "line 3"),
        ("block 0 1000", "block 0 1000g", "line 3"),
        ("total 2 105 12 9 192 64\n", "", "ends early, after 3"),
        ("total 2 105 12 9 192 64\n", "total 2 105 12 9 192 64\nop 2 0 0 0 0 0\n", "line 9"),
        ("block -1 ff00 10", "qemu: hello", "line 1.*qemu: hello"),
        (REPORT, "", "ends early, after 0"),
    ],
)
def test_a_damaged_report_is_refused(before, after, message):
    assert before in REPORT
    with pytest.raises(NotVerifiedError, match=f"^det.nb: .*{message}"):
        parse_report(REPORT.replace(before, after, 1), 2, "det.nb")


def test_another_number_of_ops_is_refused():
    with pytest.raises(NotVerifiedError, match=re.escape("2 ops, expected 3")):
        parse_report(REPORT, 3, "det.nb")


def test_an_op_before_the_first_is_refused():
    late = REPORT.replace("block -1 ff00 10\nop -1 10", "block -1 ff00 4010\nop -1 4010").replace(
        "total 2 105", "total 2 4105"
    )
    with pytest.raises(NotVerifiedError, match=r"det\.nb: 4010 instructions before"):
        parse_report(late, 2, "det.nb")


def test_instructions_of_functions():
    listing = "\n".join(
        [
            "0000000000000800 T paddle::lite::sgemm(int, int)",
            "0000000000000010 t _init",
            "0000000000000900 d table",
            "                 U malloc",
            "0000000000002000 W std::vector<int>::~vector()",
        ]
    )
    symbols = parse_symbols(listing)
    assert symbols == [
        (0x10, "_init"),
        (0x800, "paddle::lite::sgemm(int, int)"),
        (0x2000, "std::vector<int>::~vector()"),
    ]
    run = parse_report(REPORT, 2, "det.nb")
    # Loaded at 0: the block at ff00 is beyond its code.
    assert run.sum_kernels(symbols, 0, 0x3000) == {"paddle::lite::sgemm(int, int)": 90, OTHER_CODE: 10, "_init": 5}
    assert run.sum_kernels(symbols, 0x800, 0x3000) == {"paddle::lite::sgemm(int, int)": 90, OTHER_CODE: 15}
    assert list(run.sum_kernels(symbols, 0xFE00, 0x10000)) == [OTHER_CODE, "_init"]
    assert parse_symbols("nm: libx.so: no symbols\n") == []
