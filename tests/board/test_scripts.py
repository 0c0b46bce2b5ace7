"""The files of a bundle around its runtime: modes, shells, and the example of a systemd unit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import converters.bundle.board
from converters.bundle.board.files import SCRIPTS, SERVICE

FOLDER = Path(converters.bundle.board.__file__).parent


def test_modes_and_shells():
    found = {path.name for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".py"}
    assert found == {*SCRIPTS, SERVICE}
    for name in SCRIPTS:
        assert os.access(FOLDER / name, os.X_OK), name
        assert (FOLDER / name).read_bytes().startswith(b"#!/bin/sh\n")


def test_shellcheck_has_nothing_to_say():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    scripts = [FOLDER / name for name in SCRIPTS]
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_service_that_is_stopped_has_not_failed():
    """The command ends with this code at SIGTERM."""
    lines = (FOLDER / SERVICE).read_text(encoding="utf-8").splitlines()
    assert f"SuccessExitStatus={128 + signal.SIGTERM}" in lines


def test_systemd_understands_the_service(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / SERVICE
    text = (FOLDER / SERVICE).read_text(encoding="utf-8")
    unit.write_text(text.replace("/opt/edge-ocr-lite/edge-ocr-lite", sys.executable), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
