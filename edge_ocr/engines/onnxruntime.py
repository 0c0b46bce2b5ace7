"""ONNX Runtime on the CPU, for models in ONNX format."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_ocr.engines.failures import get_reason, refuse_input
from edge_ocr.errors import ModelError
from edge_ocr.models import Model


class OnnxRuntimeEngine:
    """One network on ONNX Runtime's CPU provider."""

    name = "onnxruntime"

    def __init__(self, model: Model, device_kind: str, device_id: int, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # The arena keeps the largest size ever seen for every shape; pictures have many.
        options.enable_cpu_mem_arena = False
        try:
            self._session = ort.InferenceSession(
                str(model.program), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own exception classes share no base but Exception
            raise ModelError(f"ONNX Runtime cannot read {model.program}: {get_reason(error)}") from None
        self._name = model.name
        self._input = self._session.get_inputs()[0].name

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one NCHW batch."""
        try:
            output: NDArray[np.float32] = self._session.run(None, {self._input: array})[0]
        except Exception as error:  # its own exception classes share no base but Exception
            raise refuse_input(self._name, array, error) from None
        return output
