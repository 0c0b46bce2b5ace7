"""Turns Paddle's PIR programs (inference.json) into ONNX: runs paddle2onnx in a process of its own.

It aborts where it lacks an op, and where parameters are missing it writes a model without them and ends well, so each
of its ends is looked at here.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from converters.child_process import make_environment, name_end, run_child
from converters.opt import CONVERT_TIMEOUT_S, list_last_lines
from edge_ocr.errors import ConversionError, ModelError, ToolchainError

REEXPORT_HINT = (
    "export it again as .pdmodel: with PaddleOCR `python tools/export_model.py -c CONFIG "
    "-o Global.export_with_pir=False`, with PaddleX FLAGS_json_format_model=0, with plain Paddle "
    "FLAGS_enable_pir_api=0 in the environment"
)

OPSET = 17
"""The first that has HardSwish (14) and LayerNormalization (17), which are else written out in parts."""

_NO_PADDLE2ONNX = 3

# optimize_tool: its default, polygraphy, would install packages of another index behind the user's back.
_WORKER = f"""
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
except ImportError:  # Windows writes no core files
    pass
try:
    import paddle
    import paddle2onnx
except Exception as error:
    print(f"{{type(error).__name__}}: {{error}}")
    sys.exit({_NO_PADDLE2ONNX})
paddle.disable_signal_handler()  # it prints a page about an abort
program, params, out = sys.argv[1:]
paddle2onnx.export(program, params, out, opset_version={OPSET}, optimize_tool="None")
"""

_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")

# It says these whether or not the model came out well.
_PROGRESS = re.compile(r"\[INFO\]|Start parsing|Use opset_version|is exported as ONNX|^\[Paddle2ONNX\]$")

# Dialect 1 is that of Paddle's ops; it has attributes and types, too.
_OP = re.compile(r'"#": "1\.(?![at]_)(\w+)"')


def convert_pir(program: Path, params: Path, out: Path, *, timeout_s: float = CONVERT_TIMEOUT_S) -> Path:
    """Write a PIR program with its parameters as an ONNX model of opset `OPSET`, float32, to `out` and return `out`.

    Sides that are free in the program stay free. `out` is written whole or not at all.

    Raises ModelError where the files cannot be read, ToolchainError where this interpreter has no paddle2onnx that
    starts, ConversionError with what it printed last where it crashes, fails, hangs or leaves something out.
    """
    text = _read(program)
    if not os.access(params, os.R_OK):
        raise ModelError(f"{params}: cannot be read", "keep the files of one export in one folder")
    with tempfile.TemporaryDirectory(prefix="edge-ocr-") as scratch:
        copy, made = Path(scratch, "inference.json"), Path(scratch, "inference.onnx")
        copy.write_text(text, encoding="utf-8")
        command = [sys.executable, "-W", "ignore", "-c", _WORKER, str(copy), str(params.absolute()), str(made)]
        try:
            ended = run_child(
                command,
                timeout_s,
                # Flags that a user set for another export would reach Paddle.
                env={name: value for name, value in make_environment().items() if not name.startswith("FLAGS_")},
                cwd=Path(scratch),  # Python looks there for modules
                join_stderr=True,
            )
        except OSError as error:
            raise ToolchainError(f"{sys.executable} does not start: {error.strerror}") from None
        except subprocess.TimeoutExpired as error:
            raise _refuse(program, text, f"did not end within {timeout_s:g} s", error.stdout or b"") from None
        if ended.returncode == _NO_PADDLE2ONNX:
            raise _refuse_interpreter(program, ended.stdout)
        if ended.returncode != 0:
            raise _refuse(program, text, name_end(ended.returncode), ended.stdout)
        # It ends well and writes a model, be it an empty one, when parameters do not fit.
        if b"[ERROR]" in ended.stdout or not made.is_file() or made.stat().st_size == 0:
            raise _refuse(program, text, "the result is not whole", ended.stdout)
        shutil.move(made, out)
    return out


def _read(program: Path) -> str:
    try:
        content = json.loads(program.read_bytes(), object_hook=_narrow_scales)
    except OSError as error:
        raise ModelError(f"{program}: cannot be read: {error.strerror}", REEXPORT_HINT) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{program}: not a readable PIR program: {error}", REEXPORT_HINT) from None
    code = content.get("base_code") if isinstance(content, dict) else None
    if not isinstance(code, dict) or code.get("magic") != "pir":
        raise ModelError(f"{program}: not a PIR program: it does not say so in base_code.magic", REEXPORT_HINT)
    return json.dumps(content)


def _narrow_scales(item: dict[str, Any]) -> dict[str, Any]:
    """Let the factors of an interpolation be of single precision.

    Paddle writes them as doubles since 3.3; paddle2onnx 2.1 takes singles only, which is also what ONNX stores.

    Raises ValueError for factors that are no numbers in Paddle's form.
    """
    if str(item.get("#")).endswith("_interp") and isinstance(item.get("A"), list):
        for attribute in item["A"]:
            if isinstance(attribute, dict) and attribute.get("N") == "scale":
                kind = attribute.get("AT")
                values = kind.get("D", []) if isinstance(kind, dict) else None
                if isinstance(values, int | float):
                    continue
                if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
                    raise ValueError(
                        f"{item['#']}: its scale is {json.dumps(kind)[:100]}, expected an array of numbers"
                    )
                for value in values:
                    if value.get("#") == "0.a_f64":
                        value["#"] = "0.a_f32"
    return item


def _refuse_interpreter(program: Path, output: bytes) -> ToolchainError:
    said = " ".join(list_last_lines(output, 1))
    return ToolchainError(
        f"{program} is in Paddle's PIR format, and paddle2onnx, which reads it, does not start on Python "
        f"{platform.python_version()} ({sys.executable}): {said}",
        f"pip install 'edge-ocr[pir]' (for CPython 3.10 to 3.12, with paddlepaddle 3.2 or newer); or {REEXPORT_HINT}",
    )


def _refuse(program: Path, text: str, end: str, output: bytes) -> ConversionError:
    lines = [line for line in list_last_lines(_COLOUR.sub(b"", output)) if not _PROGRESS.search(line)]
    if b"unsupported operators" in output:
        # It does not say which.
        lines.append(f"the program's ops: {', '.join(sorted(set(_OP.findall(text))))}")
    said = "".join(f"\n  {line}" for line in lines)
    return ConversionError(
        f"paddle2onnx could not convert {program}: {end}" + (f"; it says:{said}" if said else ""), REEXPORT_HINT
    )
