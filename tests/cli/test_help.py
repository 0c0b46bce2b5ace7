"""Help pages: a line for each command and option in 80 columns, in colour on a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess

import pytest
import typer.main
from support.processes import read_terminal

from edge_ocr.cli.app import make_app


def list_commands() -> list[str]:
    """Return every command, groups too; the first is empty: `edge-ocr` itself."""
    found, left = [], [("", typer.main.get_command(make_app()))]
    while left:
        name, command = left.pop(0)
        found.append(name)
        left += [(f"{name} {part}".strip(), below) for part, below in getattr(command, "commands", {}).items()]
    return found


@pytest.mark.parametrize("command", list_commands())
def test_each_command_and_option_has_a_line(cli, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = cli(*command.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= 80
    panels = re.findall(r"^[A-Z][a-z ]+:\n((?:  .+\n)+)", done.out, re.MULTILINE)
    rows = [line for panel in panels for line in panel.splitlines()]
    assert any("--help  " in row for row in rows)
    # A name, two spaces and a text; a long text would continue on a line that starts with more spaces.
    assert [row for row in rows if not re.match(r"  [-\[\w](?:\S| (?! ))* {2,}\S", row)] == []


def test_commands_are_grouped(cli):
    out = cli("--help").out
    for panel, first in {"Read": "predict", "Convert": "export", "Set up": "doctor"}.items():
        assert re.search(rf"^{panel}:\n  {first} ", out, re.MULTILINE)


def show_in_terminal(start_cli) -> str:
    ours, theirs = pty.openpty()
    process = start_cli("--help", stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    written = read_terminal(ours)
    assert process.wait(30) == 0
    return written.decode()


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_on_a_terminal_unless_it_is_unwanted(start_cli, cli_env, variables, coloured):
    cli_env.pop("NO_COLOR", None)
    cli_env.update({"TERM": "xterm", **variables})
    assert ("\x1b[" in show_in_terminal(start_cli)) == coloured


def test_no_colour_in_a_pipe(cli_process):
    assert "\x1b" not in cli_process("--help", TERM="xterm").out
