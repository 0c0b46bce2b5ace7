"""Reports how many of the documented commands ran, and why the others did not."""

from __future__ import annotations

from collections import Counter

import pytest

# A property of the test's report, as a report also comes from other processes of pytest-xdist.
NAME = "documented command"


@pytest.fixture
def record(record_property):
    """Record what happened to a command: `ran`, or why it was only parsed."""

    def note(outcome: str) -> None:
        record_property(NAME, outcome)

    return note


def pytest_terminal_summary(terminalreporter):
    reports = terminalreporter.stats.get("passed", [])
    counts = Counter(value for report in reports for name, value in report.user_properties if name == NAME)
    if not counts:
        return
    ran = counts.pop("ran", 0)
    terminalreporter.section("commands in README and docs")
    terminalreporter.line(f"{ran} ran, {sum(counts.values())} were only parsed:")
    for reason, count in sorted(counts.items()):
        terminalreporter.line(f"  {count} × {reason}")
