"""Runs Paddle-Lite's opt in an interpreter that has paddlelite; started by `converters.lite.opt`, never imported.

It needs only Python 3.7 and paddlelite, because that interpreter lacks this project. It reads one job as JSON from
stdin and answers with one line of JSON on stdout. All output of opt, including that of its C++ code, is sent to stderr.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any


def find_wheel_version() -> str | None:
    """Return the version of the installed paddlelite wheel."""
    # importlib.metadata came with Python 3.8.
    for folder in sys.path:
        for entry in Path(folder).glob("paddlelite-*.dist-info"):
            return entry.name[len("paddlelite-") : -len(".dist-info")]
    return None


def describe() -> dict[str, Any]:
    """Return the versions of this Python and of its opt, if any."""
    answer: dict[str, Any] = {
        "python_version": platform.python_version(),
        "wheel_version": find_wheel_version(),
        "opt_version": None,
        "import_error": None,
    }
    try:
        import paddlelite.lite as lite

        answer["opt_version"] = lite.Opt().version()
    except Exception as error:
        answer["import_error"] = f"{type(error).__name__}: {error}"
    return answer


def open_opt(job: dict[str, Any]) -> Any:
    """Return opt with the job's model."""
    import paddlelite.lite as lite

    opt = lite.Opt()
    opt.set_model_file(job["model"])
    opt.set_param_file(job["params"])
    opt.set_model_type("naive_buffer")
    opt.set_valid_places(job["valid_places"])
    return opt


def check(job: dict[str, Any]) -> dict[str, Any]:
    """Let opt list the ops of a model and print whether it supports them all; opt then ends the process."""
    open_opt(job).check_if_model_supported(True)
    return {}


def convert(job: dict[str, Any]) -> dict[str, Any]:
    """Convert a .pdmodel and its .pdiparams to `job["out"]` + ".nb"; a bad model aborts the process."""
    opt = open_opt(job)
    opt.set_optimize_out(job["out"])
    opt.run()
    return {"out": job["out"] + ".nb", "opt_version": opt.version()}


def disable_core_dumps() -> None:
    """Keep crashes from leaving a core file: opt refuses a model by crashing."""
    try:
        import resource
    except ImportError:  # Windows writes no core files
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def main() -> None:
    """Run the job on stdin."""
    answers = os.dup(1)
    os.dup2(2, 1)
    disable_core_dumps()
    job = json.load(sys.stdin)
    actions = {"describe": lambda job: describe(), "check": check, "convert": convert}
    answer = actions[job["action"]](job)
    os.write(answers, (json.dumps(answer) + "\n").encode())


if __name__ == "__main__":
    main()
