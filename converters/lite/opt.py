"""Runs `opt_worker.py` in another interpreter, and turns its outcome into a result or an error."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.processes.child import clean_environment, name_end, run_child
from converters.processes.interpreters import ask_interpreter
from converters.text import quote_last_lines
from edge_ocr.errors import ConversionError

WORKER = Path(__file__).with_name("opt_worker.py")

CONVERT_TIMEOUT_S = 300.0

# opt prints this if it supports a model.
_SUPPORTED = b"supports this model"


@dataclass(frozen=True)
class InstalledOpt:
    """The paddlelite of an interpreter."""

    python_version: str
    wheel_version: str | None
    """Version of its paddlelite wheel; None if it has none."""
    opt_version: str | None
    """Version that its opt reports, such as `v2.13-rc`; None if paddlelite cannot be imported."""
    import_error: str | None


def describe_opt(python: Path) -> InstalledOpt:
    """Start `python` and return its version and its paddlelite.

    Raises ToolchainError if it does not start or does not answer.
    """
    return ask_interpreter(python, [str(WORKER)], InstalledOpt, data=b'{"action": "describe"}')


def check_support(
    python: Path, program: Path, params: Path, *, valid_places: str, stop: threading.Event | None = None
) -> None:
    """Check that opt has kernels for every op of a model, which takes a fraction of a conversion's time.

    Raises ConversionError, with the table that opt prints, if it has not; CancelledError once `stop` is set.
    """
    job = {"action": "check", "model": str(program), "params": str(params), "valid_places": valid_places}
    ended = _start(python, job, program, CONVERT_TIMEOUT_S, stop)
    # opt always exits with 1; only its output shows the outcome.
    if _SUPPORTED not in ended.stderr:
        raise _refuse(program, name_end(ended.returncode), ended.stderr)


def run_opt(
    python: Path,
    program: Path,
    params: Path,
    out: Path,
    *,
    valid_places: str,
    timeout_s: float = CONVERT_TIMEOUT_S,
    stop: threading.Event | None = None,
) -> Path:
    """Convert one model in a separate process and return the file that it wrote, `out` + ".nb", with float32 weights.

    Raises ConversionError, with the last lines of opt's output, if opt crashes, fails, hangs or writes nothing;
    CancelledError once `stop` is set.
    """
    job = {
        "action": "convert",
        "model": str(program),
        "params": str(params),
        "out": str(out),
        "valid_places": valid_places,
    }
    ended = _start(python, job, program, timeout_s, stop)
    if ended.returncode != 0:
        raise _refuse(program, name_end(ended.returncode), ended.stderr)
    written = Path(f"{out}.nb")
    if not written.is_file():
        raise _refuse(program, "ended normally but wrote no file", ended.stderr)
    return written


def _start(
    python: Path, job: Mapping[str, Any], program: Path, timeout_s: float, stop: threading.Event | None
) -> subprocess.CompletedProcess[bytes]:
    # -I isolates the interpreter from the caller's environment, folder and user site.
    command, data = [str(python), "-I", str(WORKER)], json.dumps(job).encode()
    try:
        return run_child(command, timeout_s, data=data, env=clean_environment(), stop=stop)
    except subprocess.TimeoutExpired as error:
        raise _refuse(program, f"did not end within {timeout_s:g} s", error.stderr or b"") from None


def _refuse(program: Path, end: str, output: bytes) -> ConversionError:
    return ConversionError(
        f"opt could not convert {program}: {end}{quote_last_lines(output)}",
        "fetch or export the model again: opt needs an inference program (.pdmodel) and its .pdiparams of one export",
    )
