"""Tells at the end how many of the documented commands ran, and why the others did not."""

from __future__ import annotations

from collections import Counter

import pytest

OUTCOMES: pytest.StashKey[list[tuple[str, str]]] = pytest.StashKey()


@pytest.fixture
def record(request):
    """Note what happened to a command: `ran`, or the reason for which it was only parsed."""

    def note(command: str, outcome: str) -> None:
        request.config.stash.setdefault(OUTCOMES, []).append((command, outcome))

    return note


def pytest_terminal_summary(terminalreporter, config):
    outcomes = config.stash.get(OUTCOMES, [])
    if not outcomes:
        return
    counts = Counter(outcome for _, outcome in outcomes)
    ran = counts.pop("ran", 0)
    terminalreporter.section("commands in README and docs")
    terminalreporter.line(f"{ran} ran, {sum(counts.values())} were only parsed:")
    for reason, count in sorted(counts.items()):
        terminalreporter.line(f"  {count} × {reason}")
