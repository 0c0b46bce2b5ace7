"""Finds interpreters for the tools that cannot share ours, or makes them: opt, whose wheels end at Python 3.10."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from converters.lite.opt import describe_opt
from converters.processes.interpreters import Tool, describe_tool, find_interpreter
from converters.text import Report
from edge_ocr.errors import ToolchainError, UsageError

LITE_VERSION = "2.13-rc"
"""The default Paddle-Lite version of bundles."""


PYTHON_VARIABLE = "EDGE_OCR_OPT_PYTHON"

_Wheel = partial(
    Tool,
    "opt",
    "paddlelite",
    variable=PYTHON_VARIABLE,
    size="about 170 MB",
    platforms=(("Linux", "x86_64"), ("Linux", "AMD64"), ("Darwin", "x86_64"), ("Darwin", "AMD64")),
    places="Linux and macOS on x86-64",
)

# Versions that were tried and convert PP-OCR models, each with its minor versions of Python, the preferred one first.
# 2.9 and 2.10 abort on PP-OCRv4's recogniser.
WHEELS: Mapping[str, Tool] = MappingProxyType(
    {
        LITE_VERSION: _Wheel("2.13rc0", (10, 9, 8)),
        "2.14-rc": _Wheel("2.14rc0", (7,)),
        "2.12": _Wheel("2.12", (7,)),
        "2.11": _Wheel("2.11", (7,)),
    }
)


@dataclass(frozen=True)
class OptToolchain:
    """An interpreter whose opt was tested and works."""

    python: Path
    python_version: str
    wheel_version: str
    """Version of the paddlelite wheel, such as `2.13rc0`."""
    opt_version: str
    """Version that opt reports and writes into each .nb, such as `v2.13-rc`; the runtime must have the same."""
    origin: str
    """`this interpreter`, the environment variable, or `cache`."""


def find_opt_interpreter(lite_version: str = LITE_VERSION, *, report: Report = lambda step: None) -> OptToolchain:
    """Return an interpreter with paddlelite `lite_version`; make one in the cache folder if there is none.

    Tried in this order: `EDGE_OCR_OPT_PYTHON`, which is used or refused, never skipped; this interpreter; an existing
    environment in the cache folder; a new one there, made by uv from a Python on PATH, from one of pyenv's, or from one
    that uv downloads.

    Raises UsageError for a Paddle-Lite version without a known wheel; ToolchainError, which lists what was tried, if
    none of them works.
    """
    wheel = find_wheel(lite_version)
    return find_interpreter(wheel, partial(_check_lite, wheel), own=partial(_use_own, wheel), report=report)


def find_wheel(lite_version: str) -> Tool:
    """Return the wheel of a Paddle-Lite version, such as `2.13-rc` or `v2.13-rc`.

    Raises UsageError, which lists the known versions, for any other version.
    """
    name = lite_version.removeprefix("v")
    if name not in WHEELS:
        known = ", ".join(f"{version} ({wheel.pythons})" for version, wheel in WHEELS.items())
        raise UsageError(f"no opt for Paddle-Lite {lite_version}", f"choose one of: {known}")
    return WHEELS[name]


def describe_toolchain(lite_version: str = LITE_VERSION) -> tuple[str | None, str]:
    """Return, as text, which interpreter would run opt, without making one; None and how to get it if there is none."""
    wheel = find_wheel(lite_version)
    found, remedy = describe_tool(wheel, partial(_check_lite, wheel), own=partial(_use_own, wheel))
    if found is None:
        return None, remedy
    return f"{found.opt_version} on Python {found.python_version} ({found.origin}: {found.python})", ""


def _use_own(wheel: Tool, tried: list[str]) -> OptToolchain | None:
    # Do not import it: a library that old must not be loaded into this process.
    version = None
    if importlib.util.find_spec("paddlelite") is not None:
        try:
            version = importlib.metadata.version("paddlelite")
        except importlib.metadata.PackageNotFoundError:
            version = "of unknown version"
    if version != wheel.version:
        has = f"has paddlelite {version}" if version else "has no paddlelite"
        tried.append(f"this interpreter (Python {platform.python_version()}) {has}")
        return None
    try:
        return _check_lite(wheel, Path(sys.executable), "this interpreter")
    except ToolchainError as error:
        tried.append(f"this interpreter: {error.message}")
        return None


def _check_lite(wheel: Tool, python: Path, origin: str) -> OptToolchain:
    found = describe_opt(python)
    name = f"{python} (Python {found.python_version})"
    if found.wheel_version is None:
        raise ToolchainError(f"{name} has no paddlelite, expected {wheel.version}")
    if found.wheel_version != wheel.version:
        raise ToolchainError(f"{name} has paddlelite {found.wheel_version}, expected {wheel.version}")
    if found.opt_version is None:
        raise ToolchainError(f"{name} cannot import paddlelite {found.wheel_version}: {found.import_error}")
    return OptToolchain(python, found.python_version, found.wheel_version, found.opt_version, origin)
