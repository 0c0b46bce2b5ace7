"""Engines of the host, and the choice among them."""

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
    """What an engine needs and can."""

    module: str
    """To be installed."""
    formats: tuple[ModelFormat, ...]
    """Of models that it reads."""
    package: str
    """What to install."""
    home: str
    """Module and name of ours that makes it."""


# Fastest first (on CPUs).
ENGINES = {
    "openvino": EngineSpec("openvino", ("pdmodel", "onnx"), "openvino", "edge_ocr.engines.openvino:create"),
    "onnxruntime": EngineSpec("onnxruntime", ("onnx",), "edge-ocr[onnx]", "edge_ocr.engines.onnxruntime:create"),
    "paddle": EngineSpec("paddle", ("pdmodel", "json"), "paddlepaddle", "edge_ocr.engines.paddle:PaddleEngine"),
}

FAST_ENGINES = ("openvino", "onnxruntime")
"""What `use_hpip=True` accepts. They run on the CPU."""


def is_installed(engine: str) -> bool:
    """Tell whether an engine's package is there, without importing it."""
    return find_spec(ENGINES[engine].module) is not None


def choose_engine(engine: str, model: Model, device: Device, use_hpip: bool | None) -> str:
    """Return the name of the engine that is to run `model`.

    `auto` takes the fastest that is installed, reads the model's format and serves the device.

    Raises UsageError where options contradict each other, ToolchainError where the engine is not installed.
    """
    if engine != "auto":
        if use_hpip is not None and use_hpip != (engine in FAST_ENGINES):
            wish = "a fast engine" if use_hpip else "paddle"
            raise UsageError(f"use_hpip={use_hpip} asks for {wish}, engine for {engine}", "give one of the two")
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
        "--engine auto takes what fits; edge-ocr doctor lists engines",
    )


def create_engine(
    name: str, model: Model, device_kind: str, device_id: int, threads: int, precision: Precision = "f32"
) -> Engine:
    """Load a model into an engine.

    Raises ModelError where the engine cannot read it, ToolchainError where it lacks the device, UsageError for a
    `precision` that it does not compute in.
    """
    module, _, attribute = ENGINES[name].home.partition(":")
    create: Callable[..., Engine] = getattr(import_module(module), attribute)
    if precision == "f32":
        return create(model, device_kind, device_id, threads)
    if name != "openvino":
        raise UsageError(
            f"{name} computes in f32 here, not in {precision}", "--engine openvino, or Runtime.precision=f32"
        )
    return create(model, device_kind, device_id, threads, precision)
