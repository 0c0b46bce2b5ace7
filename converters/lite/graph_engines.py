"""Runs the models of a bundle on this machine, as ONNX graphs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import onnx

from converters.lite.nb.read import NbModel
from converters.lite.nb.to_onnx import NbGraph, build_graph
from edge_ocr.core.engines.base import Engine
from edge_ocr.engines import FAST_ENGINES, create_engine, is_installed
from edge_ocr.errors import EdgeOcrError, NotVerifiedError
from edge_ocr.models.types import Kind, Model


@dataclass(frozen=True)
class GraphEngines:
    """The loaded models of a bundle."""

    name: str
    """Name of the engine that runs them."""
    graphs: Mapping[Kind, NbGraph]
    engines: Mapping[Kind, Engine]


@contextmanager
def open_graph_engines(
    models: Mapping[Kind, NbModel], threads: int, edit: Callable[[Kind, NbGraph], onnx.ModelProto] | None = None
) -> Iterator[GraphEngines]:
    """Yield an engine for each model; temporary files are removed at the end.

    `edit` returns what runs in place of a graph.

    Raises NotVerifiedError if a graph cannot be built or no engine here runs it.
    """
    name = next((name for name in FAST_ENGINES if is_installed(name)), None)
    if name is None:
        raise NotVerifiedError("no engine for ONNX is installed", "pip install openvino, or edge-ocr[onnx]")
    graphs: dict[Kind, NbGraph] = {}
    engines: dict[Kind, Engine] = {}
    with tempfile.TemporaryDirectory(prefix="edge-ocr-") as scratch:
        for kind, nb in models.items():
            path = Path(scratch) / f"{kind}.onnx"
            model = Model(f"{kind}.nb", kind, "onnx", path, None, None, MappingProxyType({}), "the bundle")
            try:
                graphs[kind] = build_graph(nb, model.name)
                built = graphs[kind].model if edit is None else edit(kind, graphs[kind])
                path.write_bytes(built.SerializeToString())
                engines[kind] = create_engine(name, model, "cpu", 0, threads)
            except EdgeOcrError as error:
                raise NotVerifiedError(f"the bundle cannot run here: {error.message}", error.hint) from None
            except OSError as error:
                raise NotVerifiedError(f"cannot write the graph to {scratch}: {error.strerror}") from None
        yield GraphEngines(name, graphs, engines)
