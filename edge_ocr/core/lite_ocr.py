"""Reads pictures with a bundle: the Python API of boards."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .bundle import ENGINES, POWER_MODES, DeviceBundle, find_abi, find_own_bundle, open_bundle
from .constants import list_constants
from .engines.base import Engine, count_cores
from .engines.paddle_lite import PaddleLiteEngine
from .errors import InputError, ModelError, UsageError
from .pictures import convert_array, decode_picture, is_stream, name_stream, read_chunks, read_picture
from .pipeline import TextReader
from .settings import RETURN_WORDS
from .types import BgrImage, Reading

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_THREADS = 256
"""As in lite_shim/edge_ocr_lite.h."""


class LiteOCR:
    """Reads pictures with the models of a bundle. Thread-safe; threads take turns."""

    def __init__(
        self,
        bundle: str | Path | None = None,
        *,
        engine: str = "auto",
        threads: int | None = None,
        power_mode: str = "no-bind",
        trust: str | Path | None = None,
        note_release: bool = True,
    ) -> None:
        """Load the models of `bundle`, by default the bundle that contains this package.

        `engine`: `paddle_lite`, `onnxruntime`, or `auto` for the first that can run here. `threads`: all cores by
        default. `power_mode`: which cores Paddle-Lite uses, one of `POWER_MODES`. `trust`: folder with public keys
        (*.pem), one of which must have signed the bundle; by default the machine's, if it has one
        (`edge_ocr.core.trust`). `note_release`: whether to refuse older releases from now on.

        Raises UsageError for invalid options, ModelError if the bundle is damaged, not trusted or not for boards,
        ToolchainError if no engine here can run it or its signature cannot be checked.
        """
        if engine not in ("auto", *ENGINES):
            raise UsageError(f"engine {engine!r}, expected auto, {' or '.join(ENGINES)}")
        if power_mode not in POWER_MODES:
            raise UsageError(f"power mode {power_mode!r}, expected one of {', '.join(POWER_MODES)}")
        if threads is not None and not 1 <= threads <= MAX_THREADS:
            raise UsageError(f"{threads} threads, expected 1 to {MAX_THREADS}")
        self.bundle = open_bundle(
            find_own_bundle() if bundle is None else Path(bundle), None if trust is None else Path(trust)
        )
        self.engine = self.bundle.choose_engine(engine)
        """Name of the engine in use."""
        if self.engine != "paddle_lite" and power_mode != "no-bind":
            raise UsageError(f"power mode {power_mode!r}: not supported by {self.engine}", "omit it")
        self.threads = threads or count_cores()
        self.power_mode = power_mode
        if self.bundle.manifest.get("constants") != list_constants():
            raise ModelError(
                f"{self.bundle.folder} was exported for another version of this code: its constants differ",
                "use the runtime in the bundle",
            )
        started = time.perf_counter()
        self._reader = self._load()
        self.load_ms = (time.perf_counter() - started) * 1000
        """Time to load the models."""
        if note_release:
            self.bundle.note_release()
        self._lock = threading.Lock()

    def predict(
        self,
        image: str | os.PathLike[str] | bytes | BinaryIO | NDArray[Any],
        *,
        words: bool | str | None = None,
    ) -> Reading:
        """Read one picture: a path, the bytes of a file, a file open in binary mode (read from its position and left
        open), or an array (H × W × 3 BGR, H × W grey, H × W × 4 BGRA; uint8 or uint16).

        `words`: whether the lines have words, "chars" for words and characters; the default is the bundle's setting.

        Raises InputError if it is not a complete picture.
        """
        started = time.perf_counter()
        label, picture = _decode(image)
        decode_ms = (time.perf_counter() - started) * 1000
        reading = self.read(picture, label, words=words)
        return replace(reading, timings_ms={"decode": decode_ms, **reading.timings_ms})

    def read(self, image: BgrImage, label: str = "picture", *, words: bool | str | None = None) -> Reading:
        """Read a picture, H × W × 3 BGR; `label` names it in errors, `words` is that of `predict`.

        Raises InputError if it does not fit into memory.
        """
        with self._lock:
            return self._reader.read(image, label, _name_words(words))

    def _load(self) -> TextReader:
        bundle = self.bundle
        charset = bundle.read_charset()
        engines = {kind: self._load_engine(bundle, kind) for kind in bundle.kinds}
        return TextReader.build(engines, charset, bundle)

    def _load_engine(self, bundle: DeviceBundle, kind: str) -> Engine:
        model = bundle.find_model(kind, self.engine)
        if self.engine == "onnxruntime":
            from .engines.onnxruntime import OnnxRuntimeEngine

            return OnnxRuntimeEngine(model, model.name, self.threads)
        abi = find_abi()
        shim = None if abi is None else bundle.find_shim(abi)
        if abi is None or shim is None:  # choose_engine rules this out
            raise ModelError(f"{bundle.folder} has no library for this machine")
        return PaddleLiteEngine(
            model,
            library=bundle.find_library(abi),
            shim=shim,
            version=bundle.runtime_version,
            threads=self.threads,
            power_mode=self.power_mode,
        )


def _name_words(words: bool | str | None) -> str | None:
    if isinstance(words, (bool, np.bool_)):
        return "words" if words else "none"
    if words is not None and (not isinstance(words, str) or words not in RETURN_WORDS):
        raise UsageError(f"words={words!r}, expected True, False or 'chars'", "give words='chars' for characters, too")
    return words


def _decode(image: Any) -> tuple[str, BgrImage]:
    """Return the name of the picture for errors, and its pixels."""
    if isinstance(image, np.ndarray):
        return "picture", convert_array(image)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return "picture", decode_picture(bytes(image), "picture")
    if isinstance(image, (str, os.PathLike)):
        path = os.fsdecode(image)
        return path, read_picture(Path(path))
    if is_stream(image):
        label = name_stream(image) or "picture"
        try:
            content = b"".join(read_chunks(image, label))
        except MemoryError:
            raise InputError(f"{label} does not fit into memory") from None
        return label, decode_picture(content, label)
    raise InputError(
        f"cannot read {type(image).__name__} as a picture",
        "pass a path, the bytes of a file, a file open in binary mode or an array",
    )
