"""Paddle-Lite on ARM boards, through a small C library over its light API (lite_shim/edge_ocr_lite.h)."""

from __future__ import annotations

import ctypes
import math
import os
import weakref
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bundle import POWER_MODES
from ..errors import ModelError, ToolchainError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PaddleLiteEngine:
    """One network on Paddle-Lite. Not thread-safe.

    Releases of Paddle-Lite are built without exceptions: on any error they print the reason and call abort().
    """

    name = "paddle_lite"

    def __init__(
        self, model: Path, *, library: Path, shim: Path, version: str, threads: int, power_mode: str = "no-bind"
    ) -> None:
        """Load a .nb file.

        `library` is libpaddle_light_api_shared.so, `shim` libedge_ocr_lite.so; `version` is the version that the
        library must report. Threads and power mode apply to the whole process: those of the model that ran last.

        Raises ToolchainError if a library cannot be loaded, ModelError if Paddle-Lite refuses the model or the library
        has another version.
        """
        self._lib = _load(shim, library)
        self._label = model.name
        self._model = ctypes.c_void_p()
        self._check(
            self._lib.edge_ocr_lite_create(
                os.fsencode(model), threads, POWER_MODES.index(power_mode), ctypes.byref(self._model)
            )
        )
        # Frees the model when the engine is garbage-collected.
        self._finalizer = weakref.finalize(self, self._lib.edge_ocr_lite_destroy, self._model)
        actual = self._lib.edge_ocr_lite_get_version(self._model).decode(errors="replace")
        if actual != version:
            self.close()
            raise ModelError(
                f"{library} is Paddle-Lite {actual}, the models require {version}: it may silently return wrong text",
                "export the bundle again with the library of that version",
            )
        self.version = actual

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one NCHW batch; the result is a view of Paddle-Lite's memory that the next run overwrites.

        Raises ModelError if Paddle-Lite refuses the batch, or the engine is closed.
        """
        if not self._finalizer.alive:
            raise ModelError(f"{self._label} is closed")
        dims = (ctypes.c_int64 * array.ndim)(*array.shape)
        data = ctypes.POINTER(ctypes.c_float)()
        self._check(self._lib.edge_ocr_lite_borrow_input(self._model, 0, dims, array.ndim, ctypes.byref(data)))
        self._view(data, array.shape)[...] = array
        self._check(self._lib.edge_ocr_lite_run(self._model))
        out_dims, rank = ctypes.POINTER(ctypes.c_int64)(), ctypes.c_size_t()
        self._check(
            self._lib.edge_ocr_lite_borrow_output(
                self._model, 0, ctypes.byref(data), ctypes.byref(out_dims), ctypes.byref(rank)
            )
        )
        return self._view(data, tuple(out_dims[: rank.value]))

    def close(self) -> None:
        """Free the model; arrays that `run` returned must not be used any more."""
        self._finalizer()

    def _view(self, data: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the memory behind a pointer to floats as an array, without a copy; it keeps the engine alive."""
        # Not numpy.ctypeslib.as_array, which caches a type for every shape.
        memory: Any = (ctypes.c_float * math.prod(shape)).from_address(ctypes.addressof(data.contents))
        memory.engine = self
        array: NDArray[np.float32] = np.frombuffer(memory, dtype=np.float32).reshape(shape)
        return array

    def _check(self, status: int) -> None:
        if status != 0:
            reason = self._lib.edge_ocr_lite_get_error().decode(errors="replace")
            raise ModelError(f"{self._label}: {' '.join(reason.split())}")


@cache
def _load(shim: Path, library: Path) -> Any:
    try:
        # Before the shim, so that the shim finds it.
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        lib = ctypes.CDLL(str(shim))
    except OSError as error:
        raise ToolchainError(
            f"Paddle-Lite cannot be loaded: {error}",
            "install the missing library (apt install libgomp1 libstdc++6), or use --engine onnxruntime if this system "
            "is older than the one that Paddle-Lite was built on",
        ) from None
    model, text, status = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    floats, longs = ctypes.POINTER(ctypes.c_float), ctypes.POINTER(ctypes.c_int64)
    size = ctypes.c_size_t
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "get_error": (text, ()),
        "create": (status, (text, ctypes.c_int, ctypes.c_int, ctypes.POINTER(model))),
        "destroy": (None, (model,)),
        "get_version": (text, (model,)),
        "borrow_input": (status, (model, size, longs, size, ctypes.POINTER(floats))),
        "run": (status, (model,)),
        "borrow_output": (
            status,
            (model, size, ctypes.POINTER(floats), ctypes.POINTER(longs), ctypes.POINTER(size)),
        ),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, f"edge_ocr_lite_{name}")
        function.restype, function.argtypes = result, list(arguments)
    return lib
