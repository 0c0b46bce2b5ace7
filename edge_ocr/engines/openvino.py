"""OpenVINO on the CPU; reads Paddle and ONNX files directly."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edge_ocr.core.engines.base import Engine
from edge_ocr.core.engines.failures import get_reason, refuse_input
from edge_ocr.devices import Precision
from edge_ocr.engines import fastest
from edge_ocr.engines.checked import CheckedEngine, CheckedStreams
from edge_ocr.engines.compiled import name_result, open_compiled
from edge_ocr.engines.openvino_graph import simplify
from edge_ocr.engines.openvino_int8 import REVISION, find_ranges, quantise
from edge_ocr.engines.silent_openvino import ov
from edge_ocr.errors import ModelError
from edge_ocr.models.types import Kind, Model

# How many compiled primitives OpenVINO caches for known shapes; its default is 5000. A recogniser has 55 per shape and
# few shapes that recur: without room for them, each change costs as much as a line. Detection inputs have any size.
SHAPE_CACHE_CAPACITY: Mapping[Kind, int] = {"det": 16, "rec": 1024, "cls": 16, "page": 1}

# Lines that are read at the same time, each by its share of the threads. In batches, all threads wait for each other in
# each layer: int8 takes 1.1 to 1.3 times as long with two, 1.2 to 1.45 times at first (benchmarks/README.md).
MAX_STREAMS = 4

# Each stream has its own cache.
STREAM_CACHE_CAPACITY = 512

# Networks of a parent process, see `_open_again`.
_abandoned: list[object] = []

# After how many new shapes free memory is returned to the system. After each one, the next picture would need it again,
# which takes up to a tenth of the time.
TRIM_EVERY = 8

# OpenVINO's names for processors' precisions. If f16 is requested, a processor with only bf16 would compute in bf16.
_CAPABILITIES: Mapping[Precision, str] = {"bf16": "BF16", "f16": "FP16", "int8": "INT8"}

# The first array makes OpenVINO import NumPy while it holds a lock, so two threads could deadlock. During the import of
# this module there is only one.
ov.Tensor(np.zeros(1, dtype=np.float32))


def create(
    model: Model,
    device_kind: str,
    device_id: int,
    threads: int,
    precision: Precision = "f32",
    streaming: bool = False,
) -> Engine:
    """Load a model; it always runs on the CPU. With `streaming`, a recogniser is a StreamingEngine.

    Other precisions than f32 apply to detectors and recognisers. A precision that the processor or the network does not
    have is f32 (int8: bf16, if the processor has that); `auto` is the fastest, see `edge_ocr.engines.fastest`.

    Raises ModelError if OpenVINO cannot read it.
    """
    streaming = streaming and model.kind == "rec"
    build = StreamingOpenVinoEngine if streaming else OpenVinoEngine
    if precision != "f32":
        names = _list_precisions(model)
        if precision == "auto":
            engines = {name: partial(build, model, threads, name) for name in names}
            file = name_result(model, threads, streaming, names, find_ranges(model), fastest.REVISION)
            precision = fastest.choose_precision(model.kind, engines, file)
        elif precision == "int8" and "int8" not in names:
            precision = "bf16"
        # It would compute in f32, and uncertain lines twice.
        precision = precision if precision in names else "f32"
    engine = build(model, threads, precision)
    if precision == "f32" or model.kind != "rec":
        return engine
    exact = OpenVinoEngine(model, threads)
    return (
        CheckedStreams(engine, exact) if isinstance(engine, StreamingOpenVinoEngine) else CheckedEngine(engine, exact)
    )


def _list_precisions(model: Model) -> list[Precision]:
    """Return the precisions in which a network can compute on this processor."""
    if model.kind not in ("det", "rec"):
        return ["f32"]
    capabilities = _list_capabilities()
    found = [name for name, capability in _CAPABILITIES.items() if capability in capabilities]
    return ["f32", *(name for name in found if name != "int8" or find_ranges(model) is not None)]


def _list_capabilities() -> list[str]:
    found: list[str] = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return found


class OpenVinoEngine:
    """One network on OpenVINO's CPU plugin, in float32 unless `precision` says otherwise."""

    name = "openvino"

    def __init__(self, model: Model, threads: int, precision: Precision = "f32", streams: int = 1) -> None:
        core = ov.Core()
        ranges = find_ranges(model) if precision == "int8" else None
        properties = {
            # The plugin's default is bf16 on processors that support it, which changes the prob map by up to 0.39.
            "INFERENCE_PRECISION_HINT": precision if precision != "int8" else _name_rest(),
            # By default it rounds the inputs of products whose weights are stored as integers to 8 bits, which changes
            # the probabilities of PP-OCRv4 mobile by up to 0.012.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            "CPU_RUNTIME_CACHE_CAPACITY": SHAPE_CACHE_CAPACITY[model.kind] if streams == 1 else STREAM_CACHE_CAPACITY,
            # Every process would be pinned to the same cores, so that two single-threaded ones would share one.
            "ENABLE_CPU_PINNING": False,
        }

        def compile_model() -> ov.CompiledModel:
            network = core.read_model(model.program)
            simplify(network)
            if ranges is not None:
                quantise(network, ranges)
            return core.compile_model(network, "CPU", properties)

        def build() -> tuple[ov.CompiledModel, NDArray[np.uint8] | None]:
            return open_compiled(core, model, properties, compile_model, ranges and [REVISION, ranges])

        try:
            # In a temporary thread: OpenVINO 2026 gives the thread that builds a network a signal stack and frees it
            # with the network but leaves it set, so that the next handled signal, such as Ctrl-C, would be a
            # segmentation fault.
            with ThreadPoolExecutor(1) as pool:
                compiled, weights = pool.submit(build).result()
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot read {model.program}: {get_reason(error)}") from None
        self._request = compiled.create_infer_request()
        self._compiled = compiled
        # After the others, so that it is also released after them.
        self._weights = weights
        self._name = model.name
        self._kind = model.kind
        self._shapes: set[tuple[int, ...]] = set()
        self._changes = 0

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one NCHW batch; the result is a view that the next run overwrites."""
        try:
            self._request.infer([array], share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise refuse_input(self._name, array, error) from None
        self._count_shape(array.shape)
        output: NDArray[np.float32] = self._request.get_output_tensor(0).data
        return output

    def _count_shape(self, shape: tuple[int, ...]) -> None:
        if shape in self._shapes:
            return
        if self._kind == "det":
            # Pictures have any size, and each change leaves as much memory behind as the first.
            self._shapes.clear()
        self._shapes.add(shape)
        if self._changes % TRIM_EVERY == 0:
            _trim_heap()
        self._changes += 1


class StreamingOpenVinoEngine(OpenVinoEngine):
    """A network that runs on several inputs at the same time, in threads of OpenVINO."""

    def __init__(self, model: Model, threads: int, precision: Precision = "f32") -> None:
        self._arguments = model, threads, precision, count_streams(threads)
        self._open()

    def _open(self) -> None:
        super().__init__(*self._arguments)
        self._process = os.getpid()
        # One more than streams, so that none is idle while a result is used.
        count = int(self._compiled.get_property("NUM_STREAMS")) + 1
        self._requests = [self._request, *(self._compiled.create_infer_request() for _ in range(count - 1))]

    def _open_again(self) -> None:
        """Load the network again in a process that was forked, which does not have the threads."""
        if os.getpid() != self._process:
            # Releasing the old one would wait for its threads.
            _abandoned.append((self._compiled, self._requests, self._weights))
            self._open()

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one NCHW batch; the result is a view that the next run overwrites."""
        self._open_again()
        return super().run(array)

    def run_each(self, arrays: Iterable[NDArray[np.float32]]) -> Generator[NDArray[np.float32], None, None]:
        """Run NCHW arrays; yield their outputs in the same order, each valid until the next one is requested."""
        self._open_again()
        idle = list(self._requests)
        busy: deque[tuple[ov.InferRequest, NDArray[np.float32]]] = deque()
        try:
            for array in arrays:
                if not idle:
                    yield self._finish(*busy[0])
                    idle.append(busy.popleft()[0])
                request = idle.pop()
                try:
                    request.start_async([array], share_inputs=True)
                except RuntimeError as error:
                    raise refuse_input(self._name, array, error) from None
                busy.append((request, array))
            while busy:
                yield self._finish(*busy[0])
                busy.popleft()
        finally:
            # After an error, or if not all results were wanted: the inputs must live as long as the requests run.
            for request, _ in busy:
                with suppress(RuntimeError):
                    request.wait()

    def _finish(self, request: ov.InferRequest, array: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            request.wait()
        except RuntimeError as error:
            raise refuse_input(self._name, array, error) from None
        self._count_shape(array.shape)
        output: NDArray[np.float32] = request.get_output_tensor(0).data
        return output


def count_streams(threads: int) -> int:
    """Return how many streams share the threads: each has the same number, and as few as possible are left over."""
    return threads if threads <= MAX_STREAMS else max((MAX_STREAMS, MAX_STREAMS - 1), key=lambda n: threads // n * n)


def _name_rest() -> str:
    """Return the precision of the layers that do not compute in int8."""
    return "bf16" if _CAPABILITIES["bf16"] in _list_capabilities() else "f32"


def _trim_heap() -> None:
    """Return free heap memory between used blocks to the system, if the C library can.

    A network that grows for a new shape leaves its old buffers behind, each too small for the next; over pictures of
    many sizes, they exceed the memory in use. This takes about 2 ms.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
