"""ONNX Runtime on the CPU, for models in ONNX format; optional on boards, and imported only when used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError
from .failures import get_reason, refuse_input

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class OnnxRuntimeEngine:
    """One network on ONNX Runtime's CPU provider."""

    name = "onnxruntime"

    def __init__(self, path: Path, name: str, threads: int) -> None:
        """Load the model in `path`; `name` names it in errors.

        Raises ModelError if ONNX Runtime cannot read it.
        """
        # From 1.29 on, it otherwise sends usage data.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # The arena keeps the peak size of every shape, and pictures have many shapes.
        options.enable_cpu_mem_arena = False
        try:
            self._session = ort.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own exception classes share no base but Exception
            raise ModelError(f"ONNX Runtime cannot read {path}: {get_reason(error)}") from None
        self._name = name
        self._input = self._session.get_inputs()[0].name

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one NCHW batch."""
        try:
            output: NDArray[np.float32] = self._session.run(None, {self._input: array})[0]
        except Exception as error:  # its own exception classes share no base but Exception
            raise refuse_input(self._name, array, error) from None
        return output
