"""ONNX Runtime on the host: the engine that boards have, for a model of the host."""

from __future__ import annotations

from edge_ocr.core.engines.onnxruntime import OnnxRuntimeEngine
from edge_ocr.models.types import Model


def create(model: Model, device_kind: str, device_id: int, threads: int) -> OnnxRuntimeEngine:
    """Load a model; it runs on the CPU whatever the device.

    Raises ModelError where ONNX Runtime cannot read it.
    """
    return OnnxRuntimeEngine(model.program, model.name, threads)
