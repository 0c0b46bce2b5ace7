"""Paddle's own inference library: the reference, and the only engine for devices other than the CPU."""

from __future__ import annotations

import math
import struct
import warnings
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from edge_ocr.core.engines.failures import get_reason, refuse_input
from edge_ocr.errors import ModelError, ToolchainError
from edge_ocr.models.input_size import load_framework_pb2
from edge_ocr.models.types import Model

# oneDNN caches compiled primitives for this many input shapes; without a limit, varying widths fill gigabytes.
SHAPE_CACHE_CAPACITY = 10

# Memory in MB that Paddle reserves on a GPU at start; it grows when needed.
GPU_MEMORY_MB = 500

# Sizes of the data types of parameters.
_ITEM_BYTES = {
    "BOOL": 1,
    "INT8": 1,
    "UINT8": 1,
    "INT16": 2,
    "FP16": 2,
    "BF16": 2,
    "INT32": 4,
    "FP32": 4,
    "INT64": 8,
    "FP64": 8,
}

_WHEELS = {
    "gpu": "paddlepaddle-gpu",
    "xpu": "paddlepaddle-xpu",
    "npu": "paddlepaddle with paddle-custom-npu",
    "mlu": "paddlepaddle with paddle-custom-mlu",
}


class PaddleEngine:
    """One network on Paddle Inference."""

    name = "paddle"

    def __init__(self, model: Model, device_kind: str, device_id: int, threads: int) -> None:
        paddle = _import_paddle()
        if model.format == "pdmodel":
            _check_files(model)
        config = paddle.inference.Config(str(model.program), str(model.params))
        config.disable_glog_info()
        config.enable_memory_optim()
        if model.format == "json":
            # PIR programs require the new executor, which Paddle does not select by itself.
            config.enable_new_ir(True)
            config.enable_new_executor(True)
        if device_kind == "cpu":
            config.disable_gpu()
            if model.format == "json":
                # Paddle 3.3's oneDNN cannot run the upsampling of a PIR program.
                config.disable_mkldnn()
            else:
                config.enable_mkldnn()
                config.set_mkldnn_cache_capacity(SHAPE_CACHE_CAPACITY)
            config.set_cpu_math_library_num_threads(threads)
        else:
            check_device(paddle, device_kind, device_id)
            if device_kind == "gpu":
                config.enable_use_gpu(GPU_MEMORY_MB, device_id)
            elif device_kind == "xpu":
                config.enable_xpu()
                config.set_xpu_device_id(device_id)
            else:
                config.enable_custom_device(device_kind, device_id)
        try:
            self._predictor = paddle.inference.create_predictor(config)
        except Exception as error:  # pybind maps C++ errors to several classes
            raise ModelError(f"Paddle cannot read {model.program}: {get_reason(error)}") from None
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._name = model.name
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one NCHW batch."""
        self._input.copy_from_cpu(array)
        try:
            self._predictor.run()
        except Exception as error:  # pybind maps C++ errors to several classes
            raise refuse_input(self._name, array, error) from None
        output: NDArray[np.float32] = self._output.copy_to_cpu()
        return output


def check_device(paddle: ModuleType, kind: str, device_id: int) -> None:
    """Raise ToolchainError if this Paddle lacks the device; it never falls back to the CPU."""
    if kind == "gpu":
        built, count = paddle.device.is_compiled_with_cuda(), paddle.device.cuda.device_count
    elif kind == "xpu":
        built, count = paddle.device.is_compiled_with_xpu(), paddle.device.xpu.device_count
    else:
        built = paddle.device.is_compiled_with_custom_device(kind)

        def count() -> int:
            return sum(name.startswith(f"{kind}:") for name in paddle.device.get_available_custom_device())

    if not built:
        raise ToolchainError(
            f"this Paddle ({paddle.__version__}) is not built for {kind}",
            f"install {_WHEELS[kind]} from the Paddle project's own package index, or use --device cpu",
        )
    available = count()
    if device_id >= available:
        raise ToolchainError(
            f"no device {kind}:{device_id}: Paddle finds {available} {kind} devices", "choose another --device"
        )


def _check_files(model: Model) -> None:
    """Raise ModelError for files on which Paddle would crash, or which it would accept although they are incomplete.

    Detects files that are truncated, mixed up or have impossible sizes. Paddle can still crash this process on complete
    files with invalid ops, such as a third of those that tests/fuzz/test_paddle_fuzz.py damages: it expects programs
    that Paddle wrote.
    """
    framework_pb2 = load_framework_pb2()
    program = framework_pb2.ProgramDesc()
    try:
        program.ParseFromString(model.program.read_bytes())
        containers = (framework_pb2.VarType.FEED_MINIBATCH, framework_pb2.VarType.FETCH_LIST)
        expected = sum(
            var.persistable and var.type.type not in containers for block in program.blocks for var in block.vars
        )
    except Exception as error:  # protobuf's own class, whose name depends on the version
        raise ModelError(f"{model.program} is not a Paddle program: {error}") from None
    if not program.blocks:
        raise ModelError(f"{model.program} is not a Paddle program: it has no blocks")
    data = memoryview(model.params.read_bytes() if model.params else b"")
    position = count = 0
    try:
        while position < len(data):
            # Version, level of detail, version, then a description with its length: all little-endian.
            (length,) = struct.unpack_from("<i", data, position + 16)
            description = framework_pb2.VarType.TensorDesc.FromString(data[position + 20 : position + 20 + length])
            item = _ITEM_BYTES[framework_pb2.VarType.Type.Name(description.data_type)]
            # Either would move backwards and loop forever.
            if length < 0 or min(description.dims, default=0) < 0:
                raise ValueError(f"a negative size: {length}, {list(description.dims)}")
            position += 20 + length + math.prod(description.dims) * item
            count += 1
    except Exception as error:
        raise ModelError(f"{model.params} is damaged at byte {position:,}: {error}") from None
    if position != len(data) or count != expected:
        raise ModelError(
            f"{model.params} does not match {model.program.name}: {count} parameters in {len(data):,} bytes, expected "
            f"{expected}" + ("; it is truncated" if position > len(data) else "")
        )


def _import_paddle() -> ModuleType:
    with warnings.catch_warnings():
        # It warns of a missing ccache, which only matters for compiling operators.
        warnings.simplefilter("ignore")
        import paddle
        import paddle.inference
    return paddle  # type: ignore[no-any-return]  # the package has no types
