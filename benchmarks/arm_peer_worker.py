"""Run one network on one peer of benchmarks.arm_peers: inside the emulator with marks, or on the host without.

    python arm_peer_worker.py PEER MODEL INPUT.npy OUTPUT.npy [MARK START END]

INPUT is NCHW float32 with N = 1. One thread, in float32 except for ncnn-fp16. The first run prepares the engine, as it
packs weights and sizes its buffers; the second is between the marks, the system calls MARK(START) and MARK(END), which
Linux does not have. Prints the version of the engine. Needs the engine and NumPy only.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

Run = Callable[[], Any]


def load_onnxruntime(model: str, values: np.ndarray) -> tuple[str, Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    feed = {given.name: values}
    return onnxruntime.__version__, lambda: session.run(None, feed)[0]


def load_ncnn(model: str, values: np.ndarray, half: bool = False) -> tuple[str, Run]:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_vulkan_compute = False
    # These store or compute in half precision; Winograd, sgemm and packing keep their defaults.
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage", "bf16_packed"):
        if not half and hasattr(net.opt, f"use_{name}"):
            setattr(net.opt, f"use_{name}", False)
    for load, path in ((net.load_param, f"{model}.param"), (net.load_model, f"{model}.bin")):
        if load(path) != 0:
            raise SystemExit(f"{path}: ncnn cannot read it")
    (given,), (taken,) = net.input_names(), net.output_names()
    # Its Mat has no batch. NumPy keeps the memory.
    image = ncnn.Mat(values[0])

    def run() -> Any:
        extractor = net.create_extractor()
        extractor.input(given, image)
        status, result = extractor.extract(taken)
        if status != 0:
            raise SystemExit(f"{model}: ncnn ended the run with {status}")
        return result

    return ncnn.__version__, run


LOADERS = {"onnxruntime": load_onnxruntime, "ncnn": load_ncnn, "ncnn-fp16": partial(load_ncnn, half=True)}


def main() -> None:
    peer, model, source, target, *marks = sys.argv[1:]
    values = np.ascontiguousarray(np.load(source), np.float32)
    version, run = LOADERS[peer](model, values)
    run()
    mark, start, end = map(int, marks or (0, 0, 0))
    syscall = ctypes.CDLL(None).syscall if marks else lambda *_: None
    arguments = [
        (ctypes.c_long(mark), ctypes.c_long(which), ctypes.c_long(0), ctypes.c_long(0)) for which in (start, end)
    ]
    syscall(*arguments[0])
    result = run()
    syscall(*arguments[1])
    np.save(target, np.array(result))
    print(version)


if __name__ == "__main__":
    main()
