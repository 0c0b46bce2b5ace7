"""Measures, on the shipped pictures, the mean input of each layer whose weights will be rounded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from converters.bundle.pictures import find_pictures_folder
from converters.lite.nb.read import NbModel
from converters.lite.nb.to_onnx import build_graph
from edge_ocr.config import PipelineConfig
from edge_ocr.core.charset import Charset
from edge_ocr.core.pictures import decode_picture
from edge_ocr.core.pipeline import TextReader
from edge_ocr.models.types import Kind

# Differences in the order of summation must not change a bundle's bytes.
_DIGITS = 3


def measure_means(
    models: Mapping[Kind, NbModel], config: PipelineConfig, charset: Charset
) -> dict[Kind, dict[str, NDArray[np.float64]]]:
    """Return, by name of the weights, the mean of each input channel of every conv2d and fc.

    `models` have float32 weights. They read the pictures that ship with edge-ocr, so the detector sees pages, and the
    recogniser the lines that it finds in them.

    Raises ModelError if a graph cannot be built.
    """
    probes: dict[Kind, _Probe] = {kind: _Probe(nb, kind) for kind, nb in models.items()}
    reader = TextReader.build(probes, charset, config)
    for path in _list_pictures():
        reader.read_all(decode_picture(path.read_bytes(), path.name), {})
    return {kind: probe.means for kind, probe in probes.items()}


def _list_pictures() -> list[Path]:
    return sorted(path for path in find_pictures_folder().iterdir() if path.suffix in (".jpg", ".png"))


class _Probe:
    """An engine that also averages the inputs of layers."""

    name = "openvino"

    def __init__(self, nb: NbModel, kind: Kind) -> None:
        from edge_ocr.engines.silent_openvino import ov

        graph = build_graph(nb, kind)
        self._names: list[str] = []
        model = onnx.ModelProto()
        model.CopyFrom(graph.model)
        for op, made in zip(nb.blocks[0].ops, graph.ops, strict=True):
            slot = {"conv2d": "Filter", "fc": "W"}.get(op.type)
            source = made.inputs.get(op.inputs.get("Input", ("",))[0])
            if slot is None or source is None or len(op.inputs[slot]) != 1:
                continue
            place, axes = len(self._names), [0, 2, 3]
            if slot == "W":
                rows = nb.params[op.inputs[slot][0]].shape[0]
                shape = helper.make_tensor(f"probe_shape_{place}", TensorProto.INT64, [2], [-1, rows])
                model.graph.initializer.append(shape)
                model.graph.node.append(helper.make_node("Reshape", [source, shape.name], [f"probe_rows_{place}"]))
                source, axes = f"probe_rows_{place}", [0]
            model.graph.node.append(helper.make_node("ReduceMean", [source], [f"probe_{place}"], axes=axes, keepdims=0))
            model.graph.output.append(helper.make_tensor_value_info(f"probe_{place}", TensorProto.FLOAT, [None]))
            self._names.append(op.inputs[slot][0])
        core = ov.Core()
        read = core.read_model(model.SerializeToString())
        self._compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self._totals: list[Any] = [0.0] * len(self._names)
        self._weight = 0

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        output, *means = (np.array(value) for value in self._compiled(array).values())
        # A layer's input grows with the network's.
        self._totals = [
            total + mean.astype(np.float64) * array.size for total, mean in zip(self._totals, means, strict=True)
        ]
        self._weight += array.size
        return np.asarray(output, dtype=np.float32)

    @property
    def means(self) -> dict[str, NDArray[np.float64]]:
        """Return the means by name of the weights; empty if the network never ran."""
        if not self._weight:
            return {}
        return {name: _shorten(total / self._weight) for name, total in zip(self._names, self._totals, strict=True)}


def _shorten(values: NDArray[np.float64]) -> NDArray[np.float64]:
    step = 10.0 ** (np.floor(np.log10(np.maximum(np.abs(values).max(), 1e-30))) - _DIGITS)
    shortened: NDArray[np.float64] = np.round(values / step) * step
    return shortened
