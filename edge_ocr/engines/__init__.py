"""The host's engines, and how one is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from edge_ocr.core.engines.base import Engine
from edge_ocr.devices import Device, Precision
from edge_ocr.errors import ToolchainError, UsageError
from edge_ocr.models.types import Model, ModelFormat


@dataclass(frozen=True)
class EngineSpec:
    """Requirements and abilities of an engine."""

    module: str
    """Module that must be importable."""
    formats: tuple[ModelFormat, ...]
    """Model formats that it reads."""
    package: str
    """Package to install."""
    home: str
    """Module and name of the function or class here that creates it."""


# Fastest first (on CPUs).
ENGINES = {
    "openvino": EngineSpec("openvino", ("pdmodel", "onnx"), "openvino", "edge_ocr.engines.openvino:create"),
    "onnxruntime": EngineSpec("onnxruntime", ("onnx",), "edge-ocr[onnx]", "edge_ocr.engines.onnxruntime:create"),
    "paddle": EngineSpec("paddle", ("pdmodel", "json"), "paddlepaddle", "edge_ocr.engines.paddle:PaddleEngine"),
}

FAST_ENGINES = ("openvino", "onnxruntime")
"""Engines that `use_hpip=True` accepts. They run on the CPU."""


def is_installed(engine: str) -> bool:
    """Return whether an engine's package is installed, without importing it."""
    return find_spec(ENGINES[engine].module) is not None


def choose_engine(engine: str, model: Model, device: Device, use_hpip: bool | None) -> str:
    """Return the name of the engine for `model`.

    `auto` selects the fastest that is installed, reads the model's format and supports the device.

    Raises UsageError if options contradict each other, ToolchainError if no engine fits or it is not installed.
    """
    if engine != "auto":
        if use_hpip is not None and use_hpip != (engine in FAST_ENGINES):
            wish = "a fast engine" if use_hpip else "paddle"
            raise UsageError(f"use_hpip={use_hpip} requires {wish}, but engine is {engine}", "set only one of the two")
        candidates = [engine]
    elif use_hpip is None:
        candidates = list(ENGINES)
    else:
        candidates = list(FAST_ENGINES) if use_hpip else ["paddle"]
    reasons = []
    for name in candidates:
        spec = ENGINES[name]
        if model.format not in spec.formats:
            reasons.append(f"{name} does not read .{model.format} models")
        elif name != "paddle" and device.kind != "cpu":
            reasons.append(f"{name} runs on the CPU here, not on {device}")
        elif not is_installed(name):
            reasons.append(f"{name} is not installed (pip install '{spec.package}')")
        else:
            return name
    raise ToolchainError(
        f"no engine for {model.name} on {device}: " + "; ".join(reasons),
        "use --engine auto to select one that fits; run edge-ocr doctor to list engines",
    )


def create_engine(
    name: str,
    model: Model,
    device_kind: str,
    device_id: int,
    threads: int,
    precision: Precision = "f32",
    streaming: bool = False,
) -> Engine:
    """Load a model into an engine; with `streaming`, a recogniser becomes a StreamingEngine if the engine can.

    Raises ModelError if the engine cannot read it, ToolchainError if it lacks the device, UsageError if it does not
    support `precision`.
    """
    module, _, attribute = ENGINES[name].home.partition(":")
    create: Callable[..., Engine] = getattr(import_module(module), attribute)
    if name == "openvino":
        return create(model, device_kind, device_id, threads, precision, streaming)
    if precision not in ("f32", "auto"):
        raise UsageError(
            f"{name} computes in f32 only, not in {precision}", "use --engine openvino, or set Runtime.precision to f32"
        )
    return create(model, device_kind, device_id, threads)
