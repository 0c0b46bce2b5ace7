"""Runs paddle2onnx inside an interpreter that has it; `converters.sources.pir` starts this file, nothing imports it.

It uses Python 3.10, the standard library, paddle and paddle2onnx only, as that interpreter has nothing else.
`describe` prints one line of JSON, `convert PROGRAM PARAMS OUT OPSET` writes a model.
"""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

NO_PADDLE2ONNX = 3


def describe() -> dict[str, Any]:
    """Print the versions of Python, paddle and paddle2onnx without importing them, which takes seconds."""
    versions: dict[str, str | None] = {}
    for package in ("paddle2onnx", "paddlepaddle", "onnx"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {"python_version": platform.python_version(), "versions": versions}


def disable_core_dumps() -> None:
    """Disable core files: paddle2onnx aborts on an unsupported op."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def convert(program: str, params: str, out: str, opset: str) -> None:
    """Write a PIR program as ONNX; an op that paddle2onnx lacks aborts the process."""
    disable_core_dumps()
    try:
        import paddle
        import paddle2onnx
    except Exception as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
        sys.exit(NO_PADDLE2ONNX)
    paddle.disable_signal_handler()  # Paddle would print a page about an abort.
    # The default optimize_tool, polygraphy, would silently install packages from another index.
    paddle2onnx.export(program, params, out, opset_version=int(opset), optimize_tool="None")


if __name__ == "__main__":
    if sys.argv[1] == "describe":
        sys.stdout.write(json.dumps(describe()) + "\n")
    else:
        convert(*sys.argv[2:])
