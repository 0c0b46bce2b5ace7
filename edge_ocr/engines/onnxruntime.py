"""ONNX Runtime on the host: creates the engine of boards for a host's model."""

from __future__ import annotations

from edge_ocr.core.engines.onnxruntime import OnnxRuntimeEngine
from edge_ocr.models.types import Model


def create(model: Model, device_kind: str, device_id: int, threads: int) -> OnnxRuntimeEngine:
    """Load a model; it always runs on the CPU.

    Raises ModelError if ONNX Runtime cannot read it.
    """
    return OnnxRuntimeEngine(model.program, model.name, threads)
