"""Reports the effect of a pass."""

from __future__ import annotations

from dataclasses import dataclass

from converters.sources.program import Program


@dataclass(frozen=True)
class PassReport:
    """What one pass did to one program."""

    name: str
    ops_before: int
    """Including feed and fetch, as in a .nb."""
    ops_after: int
    changed: int
    """The number of changed places."""


def make_report(name: str, program: Program, ops_before: int, changed: int) -> PassReport:
    """Drop unused variables and parameters, and return the report."""
    program.drop_unused()
    return PassReport(name, ops_before, program.count_ops(), changed)
