"""`edge-ocr doctor`: list what is installed, what is missing, and how to get it."""

from __future__ import annotations

import shutil
import sys
import textwrap
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from edge_ocr.cli import options
from edge_ocr.cli.output import paint, print_json, print_line, print_rows

_INDENT = 11


@dataclass(frozen=True)
class Finding:
    """One thing that `doctor` looks for."""

    area: str
    name: str
    found: str | None
    """Version or path; None if it is missing."""
    remedy: str
    """How to get it."""


def doctor(as_json: options.Json = False) -> None:
    """List what is installed, what is missing, and how to get it."""
    findings = [*_find_engines(), *_find_models(), *_find_tools()]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    elif sys.stdout.isatty():
        _print_by_area(findings)
    else:
        rows = [(each.area, each.name, each.found or f"missing: {each.remedy}") for each in findings]
        print_rows(("area", "name", "found"), rows, heading=False)


def _print_by_area(findings: list[Finding]) -> None:
    """Print a block for each area; a text that does not fit next to its name goes on the next line."""
    columns, home = shutil.get_terminal_size().columns, str(Path.home())
    for area, group in groupby(findings, key=lambda finding: finding.area):
        print_line(paint(area.capitalize(), bold=True))
        for finding in group:
            mark = paint("ok     ", fg="green") if finding.found else paint("missing", fg="yellow")
            text = (finding.found or finding.remedy).replace(home, "~")
            line = f"{finding.name:24}  {text}"
            if len(line) <= columns - _INDENT:
                print_line(f"  {mark}  {line}")
                continue
            print_line(f"  {mark}  {finding.name}")
            # Do not break paths and commands, so that they can be copied.
            for part in textwrap.wrap(text, columns - _INDENT, break_long_words=False, break_on_hyphens=False):
                print_line(" " * _INDENT + part)


def _find_engines() -> list[Finding]:
    import platform

    packages = {"openvino": "openvino", "paddle": "paddlepaddle", "onnxruntime": "onnxruntime", "pdf": "pypdfium2"}
    extras = {"onnxruntime": "edge-ocr[onnx]", "pdf": "edge-ocr[pdf]"}
    system = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    findings = [Finding("host", "python", system, "")]
    for name, package in packages.items():
        found = _find_version(package)
        findings.append(Finding("host", name, found, f"pip install '{extras.get(name, package)}'"))
    from edge_ocr.drawing import find_font
    from edge_ocr.errors import EdgeOcrError

    remedy = "pip install 'edge-ocr[fonts]', or apt-get install fonts-noto-cjk"
    try:
        font = find_font()
    except EdgeOcrError as error:
        font, remedy = None, error.message
    findings.append(Finding("host", "font for Chinese", str(font) if font else None, remedy))
    return findings


def _find_version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _find_models() -> list[Finding]:
    """Return the models on this machine and those of the default pipeline; the others only as a number."""
    from edge_ocr.config import load_config
    from edge_ocr.errors import EdgeOcrError
    from edge_ocr.models.registry import REGISTRY
    from edge_ocr.models.resolve import locate_model

    config = load_config()
    needed = {config.det_model, config.rec_model, config.cls_model}
    if config.use_page_orientation:
        needed.add(config.page_model)
    findings = []
    for name in REGISTRY:
        found, remedy, is_damaged = None, f"edge-ocr models pull {name}", False
        try:
            model = locate_model(name)
            found = model.source if model else None
        except EdgeOcrError as error:
            remedy, is_damaged = f"{error.message}; edge-ocr models pull {name} --force", True
        if found is not None or is_damaged or name in needed:
            findings.append(Finding("models", name, found, remedy))
    others = f"{len(REGISTRY) - len(findings)}, fetched on first use (edge-ocr models list)"
    return [*findings, Finding("models", "others", others, "")]


def _find_tools() -> list[Finding]:
    import os

    from converters.lite.toolchain import describe_toolchain
    from converters.sources.pir import describe_paddle2onnx

    findings = [Finding("export", "opt (paddlelite)", *describe_toolchain())]
    findings.append(Finding("export", "paddle2onnx (for PIR models)", *describe_paddle2onnx()))
    programs = {
        "uv": ("export", "pip install uv"),
        "aarch64-linux-gnu-g++": ("boards", "apt-get install g++-aarch64-linux-gnu"),
        "arm-linux-gnueabihf-g++": ("boards", "apt-get install g++-arm-linux-gnueabihf"),
        "qemu-aarch64-static": ("verify", "apt-get install qemu-user-static"),
        "qemu-arm-static": ("verify", "apt-get install qemu-user-static"),
        "qemu-aarch64": ("bench", "apt-get install qemu-user"),
        "ssh": ("deploy", "apt-get install openssh-client"),
        "adb": ("android", "apt-get install adb, or Android's platform tools"),
        "java": ("android", "apt-get install openjdk-17-jdk"),
    }
    for name, (area, remedy) in programs.items():
        place = _find_uv() if name == "uv" else shutil.which(name)
        findings.append(Finding(area, name, place, remedy))
    remedy = "install Android's command-line tools and set ANDROID_HOME to the SDK folder"
    findings.append(Finding("android", "ANDROID_HOME", os.environ.get("ANDROID_HOME"), remedy))
    return findings


def _find_uv() -> str | None:
    from edge_ocr.errors import ModelError
    from edge_ocr.models.store import find_uv

    try:
        return find_uv()
    except ModelError:
        return None
