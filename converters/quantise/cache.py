"""Keeps measurements of a search, so that the next one for the same models and pictures starts from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from converters.lite.nb.read import NbModel
from converters.quantise.pictures import Calibration
from edge_ocr import __version__
from edge_ocr.core.files import write_file
from edge_ocr.errors import UsageError
from edge_ocr.models.store import store_root
from edge_ocr.models.types import Kind

# Files are small, but nobody looks at them.
_MAX_FILES = 50

# Rises when rounding or measuring changes.
_FORMAT = 1


class Cache:
    """Numbers by the text that says how to measure them."""

    def __init__(self, known: dict[str, Any]) -> None:
        self._known = known
        self.is_changed = False

    def get(self, key: str, measure: Callable[[], Any]) -> Any:
        """Return the number, or list of numbers, for `key`; measure it if it is not known."""
        if key not in self._known:
            self._known[key] = measure()
            self.is_changed = True
        return self._known[key]

    @property
    def known(self) -> Mapping[str, Any]:
        """Return everything that is known."""
        return self._known


def digest(data: bytes) -> str:
    """Return a short key for `data`."""
    return hashlib.sha256(data).hexdigest()[:32]


@contextmanager
def open_cache(models: Mapping[Kind, NbModel], calibration: Calibration) -> Iterator[Cache]:
    """Yield what earlier searches measured for these models and pictures; keep what is new, also after a failure.

    A cache that cannot be read or written costs time only.
    """
    path = store_root() / "quantise" / f"{_name(models, calibration)}.json"
    known: Any = {}
    with suppress(OSError, ValueError, RecursionError):
        known = json.loads(path.read_bytes())
    cache = Cache(known if isinstance(known, dict) else {})
    try:
        yield cache
    finally:
        if cache.is_changed:
            with suppress(OSError, UsageError):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_file(path, json.dumps(cache.known, sort_keys=True).encode())
                for old in sorted(path.parent.glob("*.json"), key=lambda one: one.stat().st_mtime)[:-_MAX_FILES]:
                    old.unlink()


def _name(models: Mapping[Kind, NbModel], calibration: Calibration) -> str:
    """Return a key for everything that a measurement depends on."""
    found = hashlib.sha256(f"{__version__} {_FORMAT}".encode())
    for package in ("numpy", "onnx", "openvino", "onnxruntime"):
        with suppress(PackageNotFoundError):
            found.update(f" {package} {version(package)}".encode())
    for kind, nb in sorted(models.items()):
        found.update(f"{kind} {nb.blocks!r}".encode())
        for name, param in sorted(nb.params.items()):
            found.update(f"{name} {param.shape}".encode() + bytes(param.data))
    for picture in calibration.pictures:
        found.update(repr((picture.image.shape, picture.words)).encode() + picture.image.tobytes())
    return found.hexdigest()[:32]
