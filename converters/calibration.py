"""Measures, on the shipped pictures, the mean input of each layer whose weights will be rounded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from converters.bundle.pictures import find_pictures_folder
from converters.lite.graph_engines import open_graph_engines
from converters.lite.nb.read import NbModel
from converters.lite.nb.to_onnx import NbGraph
from edge_ocr.config import PipelineConfig
from edge_ocr.core.charset import Charset
from edge_ocr.core.engines.base import Engine, count_cores
from edge_ocr.core.pictures import decode_picture
from edge_ocr.core.pipeline import TextReader
from edge_ocr.models.types import Kind

# Differences in the order of summation must not change a bundle's bytes.
_DIGITS = 3


def measure_means(
    models: Mapping[Kind, NbModel], config: PipelineConfig, charset: Charset
) -> dict[str, NDArray[np.float64]]:
    """Return, by name of the weights, the mean of each input channel of every conv2d and fc of the recogniser.

    `models` are the detector and the recogniser with float32 weights. They read the pictures that ship with edge-ocr,
    so the recogniser sees the lines that the detector finds in them. Empty if it finds none.

    Raises NotVerifiedError if a graph cannot be built or no engine here runs it.
    """
    probe = _Probe(models["rec"])

    def edit(kind: Kind, graph: NbGraph) -> onnx.ModelProto:
        return probe.extend(graph) if kind == "rec" else graph.model

    with open_graph_engines(models, count_cores(), edit) as opened:
        probe.engine = opened.engines["rec"]
        reader = TextReader.build({"det": opened.engines["det"], "rec": probe}, charset, config)
        for path in _list_pictures():
            reader.read_all(decode_picture(path.read_bytes(), path.name), {})
    return probe.means


def _list_pictures() -> list[Path]:
    return sorted(path for path in find_pictures_folder().iterdir() if path.suffix in (".jpg", ".png"))


class _Probe:
    """An engine that also averages the inputs of layers."""

    name = "probe"
    engine: Engine
    """Runs what `extend` returned."""

    def __init__(self, nb: NbModel) -> None:
        self._nb = nb
        self._sizes: dict[str, int] = {}
        self._rank = 0
        self._total: NDArray[np.float64] | float = 0.0
        self._weight = 0

    def extend(self, graph: NbGraph) -> onnx.ModelProto:
        """Return the graph with one flat output, because engines return one: output, its shape, and all means."""
        model = onnx.ModelProto()
        model.CopyFrom(graph.model)
        output, nodes = model.graph.output[0], model.graph.node
        self._rank = len(output.type.tensor_type.shape.dim)
        model.graph.initializer.append(helper.make_tensor("probe_flat", TensorProto.INT64, [1], [-1]))
        nodes.append(helper.make_node("Reshape", [output.name, "probe_flat"], ["probe_output"]))
        nodes.append(helper.make_node("Shape", [output.name], ["probe_dims"]))
        nodes.append(helper.make_node("Cast", ["probe_dims"], ["probe_shape"], to=TensorProto.FLOAT))
        parts = ["probe_output", "probe_shape"]
        for op, made in zip(self._nb.blocks[0].ops, graph.ops, strict=True):
            slot = {"conv2d": "Filter", "fc": "W"}.get(op.type)
            source = made.inputs.get(op.inputs.get("Input", ("",))[0])
            if slot is None or source is None or len(op.inputs[slot]) != 1:
                continue
            weights = op.inputs[slot][0]
            if weights in self._sizes:
                continue
            shape, place, axes = self._nb.params[weights].shape, len(parts), [0, 2, 3]
            self._sizes[weights] = shape[0] if slot == "W" else shape[1] * int(op.attrs.get("groups", 1))
            if slot == "W":
                rows = helper.make_tensor(f"probe_rows_shape_{place}", TensorProto.INT64, [2], [-1, shape[0]])
                model.graph.initializer.append(rows)
                nodes.append(helper.make_node("Reshape", [source, rows.name], [f"probe_rows_{place}"]))
                source, axes = f"probe_rows_{place}", [0]
            parts.append(f"probe_{place}")
            nodes.append(helper.make_node("ReduceMean", [source], parts[-1:], axes=axes, keepdims=0))
        nodes.append(helper.make_node("Concat", parts, ["probe"], axis=0))
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info("probe", TensorProto.FLOAT, [None]))
        return model

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        flat = np.array(self.engine.run(array), dtype=np.float32)
        count = flat.size - sum(self._sizes.values())
        output, shape, means = np.split(flat, [count - self._rank, count])
        # A layer's input grows with the network's.
        self._total = self._total + means.astype(np.float64) * array.size
        self._weight += array.size
        return output.reshape(shape.astype(int))

    @property
    def means(self) -> dict[str, NDArray[np.float64]]:
        """Return the means by name of the weights; empty if the network never ran."""
        if not self._weight:
            return {}
        parts = np.split(np.asarray(self._total) / self._weight, np.cumsum(list(self._sizes.values()))[:-1])
        return {name: _shorten(part) for name, part in zip(self._sizes, parts, strict=True)}


def _shorten(values: NDArray[np.float64]) -> NDArray[np.float64]:
    step = 10.0 ** (np.floor(np.log10(np.maximum(np.abs(values).max(), 1e-30))) - _DIGITS)
    shortened: NDArray[np.float64] = np.round(values / step) * step
    return shortened
