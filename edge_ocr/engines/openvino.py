"""OpenVINO on the CPU; reads Paddle and ONNX files directly."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from edge_ocr.core.engines.base import Engine
from edge_ocr.core.engines.failures import get_reason, refuse_input
from edge_ocr.devices import Precision
from edge_ocr.engines.checked import CheckedEngine
from edge_ocr.engines.compiled import open_compiled
from edge_ocr.engines.silent_openvino import ov
from edge_ocr.errors import ModelError
from edge_ocr.models.types import Kind, Model

# Compiled primitives OpenVINO keeps for shapes it has seen; its default is 5000. A recogniser has 55 a shape, and few
# shapes that come again and again: without room for them, each change costs as much as a line. Pictures have any size.
SHAPE_CACHE_CAPACITY: Mapping[Kind, int] = {"det": 16, "rec": 1024, "cls": 16}

# What OpenVINO calls a processor that has a precision. Asked for f16, one that has only bf16 would compute in bf16.
_CAPABILITIES: Mapping[Precision, str] = {"bf16": "BF16", "f16": "FP16"}

# The first array makes OpenVINO import NumPy while it holds a lock of its own: two threads there would wait for each
# other for ever. Nobody is beside the import of this module.
ov.Tensor(np.zeros(1, dtype=np.float32))


def create(model: Model, device_kind: str, device_id: int, threads: int, precision: Precision = "f32") -> Engine:
    """Load a model; it runs on the CPU whatever the device, in `precision` only a recogniser on a CPU that has it.

    Raises ModelError where OpenVINO cannot read it.
    """
    exact = OpenVinoEngine(model, threads)
    if precision == "f32" or model.kind != "rec":
        return exact
    if _CAPABILITIES[precision] not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        # It would compute in f32, and lines in doubt twice.
        return exact
    return CheckedEngine(OpenVinoEngine(model, threads, precision), exact)


class OpenVinoEngine:
    """One network on OpenVINO's CPU plugin, in float32 unless `precision` says otherwise."""

    name = "openvino"

    def __init__(self, model: Model, threads: int, precision: Precision = "f32") -> None:
        core = ov.Core()
        properties = {
            # The plugin's own default is bf16 on chips that have it, which moves the prob map by 0.39.
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "CPU_RUNTIME_CACHE_CAPACITY": SHAPE_CACHE_CAPACITY[model.kind],
            # Every process would be pinned to the same first cores: two with a thread each would share one.
            "ENABLE_CPU_PINNING": False,
        }

        def build() -> ov.CompiledModel:
            return open_compiled(
                core, model, properties, lambda: core.compile_model(core.read_model(model.program), "CPU", properties)
            )

        try:
            # In a thread that ends: OpenVINO 2026 gives the one that builds a network a stack for signals and frees it
            # with the network, but leaves it set; the next signal with a handler, such as Ctrl-C, would be a
            # segmentation fault.
            with ThreadPoolExecutor(1) as pool:
                compiled = pool.submit(build).result()
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot read {model.program}: {get_reason(error)}") from None
        self._request = compiled.create_infer_request()
        self._name = model.name
        self._kind = model.kind
        self._shapes: set[tuple[int, ...]] = set()

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one NCHW batch; the result is a view that the next run overwrites."""
        try:
            self._request.infer([array], share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise refuse_input(self._name, array, error) from None
        if array.shape not in self._shapes:
            if self._kind == "det":
                # Pictures have any size: each change leaves as much behind as the first one did.
                self._shapes.clear()
            self._shapes.add(array.shape)
            _trim_heap()
        output: NDArray[np.float32] = self._request.get_output_tensor(0).data
        return output


def _trim_heap() -> None:
    """Give back to the system what is free between blocks in use, where the C library can.

    A network that grows for a new shape leaves its old buffers behind, each too small for the next: over pictures of
    many sizes, more than all that is in use. It takes about 2 ms.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
