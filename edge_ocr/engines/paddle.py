"""Paddle's own inference library: the reference, and the way to devices other than the CPU."""

from __future__ import annotations

import warnings
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from edge_ocr.errors import ModelError, ToolchainError
from edge_ocr.models import Model

# oneDNN keeps compiled primitives for this many input shapes; unbounded, free widths fill gigabytes.
SHAPE_CACHE_CAPACITY = 10

# Memory that Paddle sets aside on a GPU at start, MB; it grows when needed.
GPU_MEMORY_MB = 500

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
        config = paddle.inference.Config(str(model.program), str(model.params))
        config.disable_glog_info()
        config.enable_memory_optim()
        if model.format == "json":
            # PIR programs run on the new executor only, and Paddle does not choose it by itself.
            config.enable_new_ir(True)
            config.enable_new_executor(True)
        if device_kind == "cpu":
            config.disable_gpu()
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
        except Exception as error:  # pybind turns C++ errors into several classes
            raise ModelError(f"Paddle cannot read {model.program}: {_reason(error)}") from None
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one NCHW batch."""
        self._input.copy_from_cpu(array)
        self._predictor.run()
        output: NDArray[np.float32] = self._output.copy_to_cpu()
        return output


def check_device(paddle: ModuleType, kind: str, device_id: int) -> None:
    """Raise ToolchainError where this build of Paddle lacks the device; never fall back to the CPU."""
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
        raise ToolchainError(f"there is no {kind}:{device_id}: Paddle sees {available} of that kind")


def _import_paddle() -> ModuleType:
    with warnings.catch_warnings():
        # It warns of a missing ccache, which only matters to those who compile operators.
        warnings.simplefilter("ignore")
        import paddle
        import paddle.inference
    return paddle  # type: ignore[no-any-return]  # the package has no types


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "Error:" in line), lines[-1] if lines else type(error).__name__)
