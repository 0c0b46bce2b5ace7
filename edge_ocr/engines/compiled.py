"""Caches networks that OpenVINO compiled on disk, so that later processes start faster."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_ocr.core.files import write_file
from edge_ocr.engines.openvino_graph import REVISION
from edge_ocr.engines.silent_openvino import ov
from edge_ocr.errors import UsageError
from edge_ocr.models.store import hash_file, store_root
from edge_ocr.models.types import Model

FOLDER = "compiled"
"""Folder in the store; may be deleted at any time."""

MAX_FILES = 16
"""How many networks, and results of measurements. The default models take two networks, 16 MB together, and up to five
with the precision `auto`; the least recently used are deleted.
"""

_DIGEST_BYTES = 32


def open_compiled(
    core: ov.Core,
    model: Model,
    properties: Mapping[str, object],
    compile_model: Callable[[], ov.CompiledModel],
    changes: object = None,
) -> tuple[ov.CompiledModel, NDArray[np.uint8] | None]:
    """Return the network from disk, or else compile it with `compile_model` and store it.

    The second value is the content of the file, in which the network has its weights: keep it as long as the network.
    None if the network was compiled.

    A file is valid for the exact model, its rewriting and `changes`, this version of OpenVINO, this processor and
    `properties`, and only if its checksum matches: a damaged network could silently return wrong text. ONNX with
    weights in other files is not cached. A read-only store is not an error.

    Raises what `compile_model` raises.
    """
    if _has_weights_elsewhere(model):
        return compile_model(), None
    file = store_root() / FOLDER / f"{_name(core, model, properties, changes)}.blob"
    imported = _import(core, file, properties)
    if imported is not None:
        return imported
    compiled = compile_model()
    content = compiled.export_model().getvalue()
    with suppress(UsageError, OSError):
        # The blob first, so that its weights are aligned in memory.
        write_file(file, content + hashlib.sha256(content).digest())
        _prune(file.parent)
    return compiled, None


def _has_weights_elsewhere(model: Model) -> bool:
    """Return whether an ONNX file may refer to other files for its weights, under the key `location`."""
    try:
        return model.format == "onnx" and b"location" in model.program.read_bytes()
    except OSError:
        # Compiling it reports the error.
        return True


def name_result(model: Model, *facts: object) -> Path:
    """Return the file that remembers which precision is fastest: for this model and processor, and these facts."""
    return store_root() / FOLDER / f"{_name(ov.Core(), model, {}, facts)}.json"


def _name(core: ov.Core, model: Model, properties: Mapping[str, object], changes: object) -> str:
    files = [hash_file(path) for path in (model.program, model.params) if path is not None]
    processor = [str(core.get_property("CPU", name)) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    facts = [ov.get_version(), REVISION, files, processor, sorted(properties.items()), changes]
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()


def _import(
    core: ov.Core, file: Path, properties: Mapping[str, object]
) -> tuple[ov.CompiledModel, NDArray[np.uint8]] | None:
    """Return the network of a file, and the file's content; None if it is unusable."""
    try:
        # Not mapped: a file that is cut off while a process uses it would end the process.
        content = np.fromfile(file, dtype=np.uint8)
    except OSError:
        return None
    blob, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(blob.data).digest() != digest.tobytes():
        return None
    with suppress(OSError):
        file.touch()
    try:
        # From a stream, it would copy the weights.
        return core.import_model(ov.Tensor(blob, shared_memory=True), "CPU", dict(properties)), content
    except RuntimeError:
        # Whatever the reason, compile the model instead.
        return None


def _prune(folder: Path) -> None:
    for suffix in (".blob", ".json"):
        files = sorted(folder.glob(f"*{suffix}"), key=lambda file: file.stat().st_mtime, reverse=True)
        for file in files[MAX_FILES:]:
            file.unlink()
