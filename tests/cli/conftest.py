"""Run the command line: in this process if that is enough, else in a separate one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

START = [sys.executable, "-c", "from edge_ocr.cli import main; main()"]


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def cli() -> Callable[..., Outcome]:
    """Run a command in this process; anything but a result or an exit code is a bug and fails the test."""

    def run(*arguments: object, stdin: bytes | None = None) -> Outcome:
        from edge_ocr.cli.app import make_app

        done = CliRunner().invoke(make_app(), list(map(str, arguments)), input=stdin)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert "Traceback" not in done.stderr
        return Outcome(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def cli_env(repository) -> dict[str, str]:
    env = {**os.environ, "PYTHONPATH": str(repository), "COLUMNS": "100"}
    # If unbuffered, Python drops the rest of a write that a signal interrupts.
    env.pop("PYTHONUNBUFFERED", None)
    return env


@pytest.fixture
def cli_process(cli_env) -> Callable[..., Outcome]:
    """Run a command in a separate process."""

    def run(*arguments: object, **env: str) -> Outcome:
        command = [*START, *map(str, arguments)]
        done = subprocess.run(command, env={**cli_env, **env}, capture_output=True, timeout=120)
        out, err = done.stdout.decode(errors="surrogateescape"), done.stderr.decode(errors="surrogateescape")
        assert "Traceback" not in err
        return Outcome(done.returncode, out, err)

    return run


@pytest.fixture
def start_cli(cli_env) -> Callable[..., subprocess.Popen[bytes]]:
    """Start a command and leave it running; it is ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([*START, *map(str, arguments)], env=cli_env, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
