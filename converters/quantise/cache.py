"""Keeps measurements and rounded weights, so that the next export of the same models on the same pictures is fast."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from converters.bundle.manifest import describe_settings
from converters.lite.nb.read import NbModel
from converters.quantise.pictures import Calibration
from edge_ocr import __version__
from edge_ocr.config import PipelineConfig
from edge_ocr.core.charset import Charset
from edge_ocr.core.engines.base import count_cores
from edge_ocr.core.files import write_file
from edge_ocr.engines import FAST_ENGINES, is_installed
from edge_ocr.errors import UsageError
from edge_ocr.models.store import store_root
from edge_ocr.models.types import Kind

# Of 2 to 10 MB.
_MAX_FILES = 30

_DAMAGED = (OSError, ValueError, TypeError, EOFError, KeyError, MemoryError, NotImplementedError, zipfile.BadZipFile)


class Cache:
    """Arrays by the text that says how to make them."""

    def __init__(self, known: dict[str, NDArray[Any]]) -> None:
        self.known = known
        self.is_changed = False

    def get(self, key: str, make: Callable[[], NDArray[Any]], shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return the array for `key`; make it if it is not known with this shape and type."""
        known = self.known.get(key)
        if known is None or known.shape != shape or known.dtype != dtype:
            known = self.known[key] = make().astype(dtype)
            self.is_changed = True
        return known

    def get_number(self, key: str, measure: Callable[[], float]) -> float:
        """Return the number for `key`; measure it if it is not known."""
        return float(self.get(key, lambda: np.array(measure()), (), np.float64))


def digest(data: bytes) -> str:
    """Return a short key for `data`."""
    return hashlib.sha256(data).hexdigest()[:32]


@contextmanager
def open_cache(
    models: Mapping[Kind, NbModel], config: PipelineConfig, charset: Charset, calibration: Calibration
) -> Iterator[Cache]:
    """Yield what earlier exports measured for the same models, settings and pictures; keep what is new at the end.

    A cache that cannot be read or written costs time only.
    """
    path = store_root() / "quantise" / f"{_name(models, config, charset, calibration)}.npz"
    known: dict[str, NDArray[Any]] = {}
    with suppress(*_DAMAGED), np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
        known = dict(stored)
    cache = Cache(known)
    try:
        yield cache
    finally:
        if cache.is_changed:
            content = io.BytesIO()
            arrays: Any = cache.known
            np.savez(content, **arrays)
            with suppress(OSError, UsageError):
                write_file(path, content.getvalue())
                for old in sorted(path.parent.glob("*.npz"), key=lambda one: one.stat().st_mtime)[:-_MAX_FILES]:
                    old.unlink()


def _name(models: Mapping[Kind, NbModel], config: PipelineConfig, charset: Charset, calibration: Calibration) -> str:
    """Return a key for everything that a measurement depends on."""
    engine = next((name for name in FAST_ENGINES if is_installed(name)), "none")
    found = hashlib.sha256(f"{__version__} {engine} {count_cores()} {describe_settings(config)!r}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        found.update(source.read_bytes())
    for package in ("numpy", "onnx", "openvino", "onnxruntime"):
        with suppress(PackageNotFoundError):
            found.update(f" {package} {version(package)}".encode())
    found.update(repr(charset.classes).encode())
    for kind, nb in sorted(models.items()):
        found.update(f"{kind} {nb.blocks!r}".encode())
        for name, param in sorted(nb.params.items()):
            found.update(f"{name} {param.shape}".encode() + bytes(param.data))
    for picture in calibration.pictures:
        found.update(repr((picture.image.shape, picture.words)).encode() + picture.image.tobytes())
    return found.hexdigest()[:32]
