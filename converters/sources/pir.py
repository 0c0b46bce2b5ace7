"""Converts Paddle's PIR programs (inference.json) to ONNX with paddle2onnx in a separate interpreter.

paddle2onnx aborts on an unsupported op; if parameters are missing, it writes a model without them and exits with 0. So
this module checks every outcome.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.processes.child import make_environment, name_end, run_child
from converters.processes.interpreters import Tool, ask_interpreter, describe_tool, find_interpreter
from converters.text import Report, list_last_lines
from edge_ocr.errors import ConversionError, ModelError, ToolchainError

REEXPORT_HINT = (
    "export it again as .pdmodel: with PaddleOCR `python tools/export_model.py -c CONFIG "
    "-o Global.export_with_pir=False`, with PaddleX FLAGS_json_format_model=0, with plain Paddle "
    "FLAGS_enable_pir_api=0 in the environment"
)

OPSET = 17
"""The first opset with HardSwish (14) and LayerNormalization (17), which are decomposed otherwise."""

TOOL = Tool(
    "paddle2onnx",
    "paddle2onnx",
    "2.1.0",
    (12, 11, 10),
    variable="EDGE_OCR_PADDLE2ONNX_PYTHON",
    size="about 230 MB to fetch, 900 MB on disk",
    platforms=(("Linux", "x86_64"), ("Darwin", "arm64")),
    places="Linux on x86-64 and macOS on arm64",
    # It imports setuptools and packaging without declaring them; the others' requirements have no upper bound.
    needs=("paddlepaddle==3.3.1", "onnx==1.17.0", "setuptools", "packaging", "numpy<3", "protobuf<8"),
    release="2.1.0-paddle3.3.1",
)
"""In a separate environment because it pins onnx 1.17, which follows links in external data out of a model's folder
(CVE-2026-27489, -34446, -34447). No user input reaches that reader: a PIR program is JSON without external data, its
parameters are one file of raw numbers, and onnx 1.17 only writes there."""

_WORKER = Path(__file__).with_name("pir_worker.py")
_NO_PADDLE2ONNX = 3
CONVERT_TIMEOUT_S = 300.0

_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")

# It prints these lines whether it succeeds or not.
_PROGRESS = re.compile(r"\[INFO\]|Start parsing|Use opset_version|is exported as ONNX|^\[Paddle2ONNX\]$")

# Dialect 1 has Paddle's ops, but also attributes (a_) and types (t_).
_OP = re.compile(r'"#": "1\.(?![at]_)(\w+)"')


@dataclass(frozen=True)
class Paddle2Onnx:
    """An interpreter with paddle2onnx."""

    python: Path
    python_version: str
    version: str
    paddle_version: str
    origin: str
    """The environment variable, or `cache`."""


def find_paddle2onnx(*, report: Report = lambda step: None) -> Paddle2Onnx:
    """Return an interpreter with paddle2onnx; if there is none, create an environment from Python 3.10 to 3.12.

    If `EDGE_OCR_PADDLE2ONNX_PYTHON` is set, only that interpreter is tried.

    Raises ToolchainError, listing what was tried, if there is none.
    """
    return find_interpreter(TOOL, _check, report=report)


def describe_paddle2onnx() -> tuple[str | None, str]:
    """Return the interpreter that would run paddle2onnx and what it is, or None and how to get one."""
    found, remedy = describe_tool(TOOL, _check)
    if found is None:
        return None, f"{remedy}; only PIR models need it"
    about = f"{found.version} with paddle {found.paddle_version} on Python {found.python_version}"
    return f"{about} ({found.origin}: {found.python})", ""


def _check(python: Path, origin: str) -> Paddle2Onnx:
    python_version, versions = ask_interpreter(
        python, [str(_WORKER), "describe"], lambda python_version, versions: (python_version, dict(versions))
    )
    name = f"{python} (Python {python_version})"
    if versions.get("paddle2onnx") != TOOL.version:
        has = f"paddle2onnx {versions['paddle2onnx']}" if versions.get("paddle2onnx") else "no paddle2onnx"
        raise ToolchainError(f"{name} has {has}, expected {TOOL.version}")
    if not versions.get("paddlepaddle"):
        raise ToolchainError(f"{name} has no paddlepaddle")
    return Paddle2Onnx(python, python_version, TOOL.version, versions["paddlepaddle"], origin)


def convert_pir(
    program: Path,
    params: Path,
    out: Path,
    *,
    timeout_s: float = CONVERT_TIMEOUT_S,
    report: Report = lambda step: None,
) -> Path:
    """Write a PIR program with its parameters as an ONNX model of opset `OPSET`, float32, to `out` and return `out`.

    Free dimensions of the program stay free. `out` is written completely or not at all. `report` receives a text if an
    environment for paddle2onnx is created.

    Raises ModelError if the files cannot be read, ToolchainError if no paddle2onnx starts, ConversionError with its
    last output if it crashes, fails, hangs or leaves something out.
    """
    text = _read(program)
    if not os.access(params, os.R_OK):
        raise ModelError(f"{params}: cannot be read", "keep all files of one export in one folder")
    python = find_paddle2onnx(report=report).python
    with tempfile.TemporaryDirectory(prefix="edge-ocr-") as scratch:
        copy, made = Path(scratch, "inference.json"), Path(scratch, "inference.onnx")
        copy.write_text(text, encoding="utf-8")
        # -I isolates the interpreter from the caller's environment, folder and user site.
        command = [str(python), "-I", "-W", "ignore", str(_WORKER), "convert"]
        command += [str(copy), str(params.absolute()), str(made), str(OPSET)]
        # Paddle would read flags that the user set for another export.
        env = {name: value for name, value in make_environment().items() if not name.startswith("FLAGS_")}
        try:
            ended = run_child(command, timeout_s, env=env, cwd=Path(scratch), join_stderr=True)
        except subprocess.TimeoutExpired as error:
            raise _refuse(program, text, f"did not end within {timeout_s:g} s", error.stdout or b"") from None
        if ended.returncode == _NO_PADDLE2ONNX:
            raise _refuse_interpreter(program, python, ended.stdout)
        if ended.returncode != 0:
            raise _refuse(program, text, name_end(ended.returncode), ended.stdout)
        # If parameters do not fit, it exits with 0 and writes a model, even an empty one.
        if b"[ERROR]" in ended.stdout or not made.is_file() or made.stat().st_size == 0:
            raise _refuse(program, text, "the result is incomplete", ended.stdout)
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
        raise ModelError(f"{program}: not a PIR program: base_code.magic does not say so", REEXPORT_HINT)
    return json.dumps(content)


def _narrow_scales(item: dict[str, Any]) -> dict[str, Any]:
    """Convert the factors of interpolations to single precision.

    Since 3.3 Paddle writes them as doubles; paddle2onnx 2.1 accepts only singles, which is also what ONNX stores.

    Raises ValueError if the factors are not numbers in Paddle's form.
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


def _refuse_interpreter(program: Path, python: Path, output: bytes) -> ToolchainError:
    said = " ".join(list_last_lines(output, 1))
    return ToolchainError(
        f"{program} is in Paddle's PIR format, but paddle2onnx, which converts it, does not start in {python}: {said}",
        f"delete its environment so that it is created again, or correct {TOOL.variable}; or {REEXPORT_HINT}",
    )


def _refuse(program: Path, text: str, end: str, output: bytes) -> ConversionError:
    lines = [line for line in list_last_lines(_COLOUR.sub(b"", output)) if not _PROGRESS.search(line)]
    if b"unsupported operators" in output:
        # Its message does not name them.
        lines.append(f"the program's ops: {', '.join(sorted(set(_OP.findall(text))))}")
    said = "".join(f"\n  {line}" for line in lines)
    return ConversionError(
        f"paddle2onnx could not convert {program}: {end}" + (f"; it says:{said}" if said else ""), REEXPORT_HINT
    )
