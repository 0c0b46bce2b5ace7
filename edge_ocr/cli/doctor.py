"""`edge-ocr doctor`: what is there, what is missing, and how to get it."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import Annotated

import typer


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for."""

    area: str
    name: str
    found: str | None
    """Version or place; None where it is missing."""
    remedy: str
    """How to get it."""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List what is there, what is missing, and how to get it."""
    import json

    findings = [*_find_engines(), *_find_models(), *_find_tools()]
    if as_json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=4) + "\n")
        return
    if not sys.stdout.isatty():
        for finding in findings:
            plain = finding.found or f"missing: {finding.remedy}"
            sys.stdout.write(f"{finding.area}\t{finding.name}\t{plain}\n")
        return
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    folded = [Column(title, overflow="fold") for title in ("For", "What", "Found", "How to get it")]
    table = Table(*folded)
    for finding in findings:
        state = Text(finding.found, "green") if finding.found else Text("missing", "yellow")
        table.add_row(finding.area, finding.name, state, Text("" if finding.found else finding.remedy))
    Console().print(table)


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
    from edge_ocr.errors import EdgeOcrError
    from edge_ocr.models.registry import REGISTRY
    from edge_ocr.models.resolve import locate_model

    findings = []
    for name in REGISTRY:
        found, remedy = None, f"edge-ocr models pull {name}"
        try:
            model = locate_model(name)
            found = model.source if model else None
        except EdgeOcrError as error:
            remedy = f"{error.message}; edge-ocr models pull {name} --force"
        findings.append(Finding("models", name, found, remedy))
    return findings


def _find_tools() -> list[Finding]:
    import os
    import shutil

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
        "ssh": ("deploy", "apt-get install openssh-client"),
        "adb": ("android", "apt-get install adb, or Android's platform tools"),
        "java": ("android", "apt-get install openjdk-17-jdk"),
    }
    for name, (area, remedy) in programs.items():
        place = _find_uv() if name == "uv" else shutil.which(name)
        findings.append(Finding(area, name, place, remedy))
    remedy = "install Android Studio or its command-line tools, then set ANDROID_HOME to the SDK's folder"
    findings.append(Finding("android", "ANDROID_HOME", os.environ.get("ANDROID_HOME"), remedy))
    return findings


def _find_uv() -> str | None:
    from edge_ocr.errors import ModelError
    from edge_ocr.models.store import find_uv

    try:
        return find_uv()
    except ModelError:
        return None
