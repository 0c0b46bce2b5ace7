"""What a pass did."""

from __future__ import annotations

from dataclasses import dataclass

from converters.sources.program import Program


@dataclass(frozen=True)
class PassReport:
    """What one pass did to one program."""

    name: str
    ops_before: int
    """With feed and fetch, as a .nb counts them."""
    ops_after: int
    changed: int
    """How many places were changed."""


def make_report(name: str, program: Program, ops_before: int, changed: int) -> PassReport:
    """Drop what no op mentions any more, and return the report."""
    program.drop_unused()
    return PassReport(name, ops_before, program.count_ops(), changed)
