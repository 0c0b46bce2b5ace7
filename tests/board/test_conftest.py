"""If the tests' board cannot be made, tests fail in CI and are skipped on a developer's machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture
def run_or_skip(request):
    return request.config.pluginmanager.getplugin(str(Path(__file__).with_name("conftest.py")))._run_or_skip


FAILS = [sys.executable, "-c", "import sys; sys.exit('no network')"]
HANGS = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.mark.parametrize(
    ("command", "timeout_s", "words"),
    [(FAILS, 60, "tool failed: no network"), (HANGS, 0.1, r"tool did not end in 0\.1 s")],
)
@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_tool_that_fails_is_an_error_in_ci_only(run_or_skip, monkeypatch, ci, outcome, command, timeout_s, words):
    monkeypatch.setenv("CI", ci)
    with pytest.raises((pytest.skip.Exception, pytest.fail.Exception), match=words) as caught:
        run_or_skip(command, "tool", timeout_s)
    assert caught.type is outcome


def test_a_tool_that_works_is_not_an_error(run_or_skip, monkeypatch):
    monkeypatch.setenv("CI", "true")
    run_or_skip([sys.executable, "-c", ""], "tool", 60)
