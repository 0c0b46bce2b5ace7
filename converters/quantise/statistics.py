"""Measures, on pictures, what the inputs of each layer with weights look like."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from converters.lite.graph_engines import open_graph_engines
from converters.lite.nb.read import NbModel
from converters.lite.nb.to_onnx import NbGraph
from edge_ocr.config import PipelineConfig
from edge_ocr.core.charset import Charset
from edge_ocr.core.engines.base import Engine, count_cores
from edge_ocr.core.imaging import prepare_detection
from edge_ocr.core.pipeline import TextReader
from edge_ocr.core.types import BgrImage
from edge_ocr.errors import NotVerifiedError
from edge_ocr.models.types import Kind

BINS = 2048

# All inputs of a detector's layers are in memory at once.
_DETECTION_SIDE = 640

# Windows that a layer adds to its gram in one run, spread over all of its outputs. A recogniser runs once a line.
_MAX_WINDOWS = {"det": 8192}
_MAX_LINE_WINDOWS = 1024

# The gram of a larger window, as server models have, takes over 200 MB.
_MAX_SIZE = 5000

# The golden ratio: its multiples are spread evenly, whatever the width of a tensor.
_SPREAD = (math.sqrt(5) - 1) / 2

_SLOTS = {"conv2d": "Filter", "depthwise_conv2d": "Filter", "fc": "W"}


@dataclass(frozen=True)
class LayerStatistics:
    """The inputs of one layer. A window is what one output is computed from, in the order of a flattened filter."""

    gram: NDArray[np.float64]
    """Groups × size × size: the mean of x·xᵀ over windows x, zero padding included; size is in/groups · kh · kw."""
    mean: NDArray[np.float64]
    """Groups × size: the mean window."""
    windows: int
    """How many windows they are means of."""
    absmax: float
    """The largest magnitude of the input."""
    histogram: NDArray[np.int64]
    """How many input elements have a magnitude in each of BINS equal bins from 0 to `span`."""
    span: float
    """A power of two, above `absmax`."""


def measure_statistics(
    models: Mapping[Kind, NbModel], config: PipelineConfig, charset: Charset, pictures: Iterable[BgrImage]
) -> dict[Kind, dict[str, LayerStatistics]]:
    """Return, by kind and name of the weights, the statistics of every conv2d, depthwise_conv2d and fc.

    `models` are the models of a bundle, at least `det` and `rec`, with float32 weights. They read the pictures, so the
    recogniser sees the lines that the detector finds in them. The detector's statistics are measured on pictures of at
    most 640 pixels. A layer that never ran, or with a window of over 5000 inputs, is left out. On one machine, repeated
    measurements are equal to the bit; another processor sums in another order.

    Raises NotVerifiedError if a graph cannot be built, no engine here runs it, or an input is not finite.
    """
    probes = {kind: _Probe(nb, _MAX_WINDOWS.get(kind, _MAX_LINE_WINDOWS)) for kind, nb in models.items()}
    # The same lines whatever the batch, and less memory.
    config = config.with_values({"Pipeline.text_rec_batch_size": 1}, "calibration")
    smaller = replace(config.detection, limit_side_len=_DETECTION_SIDE, limit_type="max")
    threads = count_cores()
    with (
        open_graph_engines(models, threads) as plain,
        open_graph_engines(models, threads, lambda kind, graph: probes[kind].extend(graph)) as extended,
    ):
        taps = {kind: _Tap(engine) for kind, engine in plain.engines.items()}
        reader = TextReader.build(taps, charset, config)
        for picture in pictures:
            reader.read_all(picture, {})
            taps["det"].arrays = [prepare_detection(picture, smaller)]
            for kind, tap in taps.items():
                for array in tap.arrays:
                    probes[kind].add(extended.engines[kind].run(array))
                tap.arrays = []
    return {kind: probe.collect() for kind, probe in probes.items()}


class _Tap:
    """An engine that keeps its inputs."""

    name = "tap"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.arrays: list[NDArray[np.float32]] = []

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        self.arrays.append(np.array(array))
        return self._engine.run(array)


class _Probe:
    """The inputs of all layers of one network."""

    def __init__(self, nb: NbModel, max_windows: int) -> None:
        self._nb = nb
        self._max_windows = max_windows
        self._inputs: dict[str, _Input] = {}
        """By name in the graph."""
        self._ranks: list[int] = []
        self._layers: dict[str, _Layer] = {}
        """By name of the weights."""

    def extend(self, graph: NbGraph) -> onnx.ModelProto:
        """Return the graph with one flat output, because engines return one: the inputs' shapes, then the inputs."""
        model = onnx.ModelProto()
        model.CopyFrom(graph.model)
        nodes = {node.name: node for node in model.graph.node}
        ranks: dict[str, int] = {}
        for op, made in zip(self._nb.blocks[0].ops, graph.ops, strict=True):
            names = op.inputs.get(_SLOTS.get(op.type, ""), ())
            shape = self._nb.params[names[0]].shape if len(names) == 1 and names[0] in self._nb.params else ()
            if not shape or (len(shape) == 4 and math.prod(shape[1:]) > _MAX_SIZE):
                continue
            node = next(nodes[name] for name in made.nodes if nodes[name].op_type in ("Conv", "MatMul"))
            layer = self._layers.setdefault(names[0], _Layer(shape))
            source = node.input[0]
            if node.op_type == "Conv":
                layer.reads.setdefault(source, []).append(_Window.read(node))
                ranks[source] = 4
            else:
                # Rows of any shape: only the last dimension counts.
                layer.reads.setdefault(source, []).append(None)
                ranks.setdefault(source, 1)
        self._inputs = {name: _Input() for name in ranks}
        self._ranks = list(ranks.values())
        _give_flat(model, ranks)
        return model

    def add(self, flat: NDArray[np.float32]) -> None:
        """Add one run's output."""
        place = sum(self._ranks)
        shapes = np.split(flat[:place].astype(np.int64), np.cumsum(self._ranks)[:-1])
        values = {}
        for (name, seen), shape in zip(self._inputs.items(), shapes, strict=True):
            size = int(shape.prod())
            values[name] = flat[place : place + size].reshape(shape)
            if not np.isfinite(values[name]).all():
                raise NotVerifiedError(f"{name!r} is not finite on a calibration picture, so no scale fits it")
            seen.add(values[name])
            place += size
        for layer in self._layers.values():
            for name, windows in layer.reads.items():
                for window in windows:
                    layer.add(values[name], window, self._max_windows)

    def collect(self) -> dict[str, LayerStatistics]:
        found = {}
        for name, layer in self._layers.items():
            if layer.windows:
                seen = _merge([self._inputs[source] for source in layer.reads])
                gram, mean = (np.asarray(total / layer.windows) for total in (layer.gram, layer.total))
                found[name] = LayerStatistics(gram, mean, layer.windows, seen.absmax, seen.histogram, seen.span)
        return found


def _give_flat(model: onnx.ModelProto, ranks: Mapping[str, int]) -> None:
    """Replace the graph's output by the shapes of tensors, as floats, and their elements; a rank of 1 flattens."""
    graph = model.graph
    graph.initializer.append(helper.make_tensor("probe_flat", TensorProto.INT64, [1], [-1]))
    shapes, parts = [], []
    for place, (name, rank) in enumerate(ranks.items()):
        flat, dims, shape = (f"probe_{what}_{place}" for what in ("part", "dims", "shape"))
        graph.node.append(helper.make_node("Reshape", [name, "probe_flat"], [flat]))
        graph.node.append(helper.make_node("Shape", [name if rank > 1 else flat], [dims]))
        graph.node.append(helper.make_node("Cast", [dims], [shape], to=TensorProto.FLOAT))
        shapes.append(shape)
        parts.append(flat)
    graph.node.append(helper.make_node("Concat", [*shapes, *parts], ["probe"], axis=0))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("probe", TensorProto.FLOAT, [None]))


class _Input:
    """The magnitudes of one tensor."""

    def __init__(self) -> None:
        self.absmax = 0.0
        self.span = 2.0**-10
        self.histogram = np.zeros(BINS, dtype=np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        sizes = np.abs(values).ravel()
        self.absmax = max(self.absmax, float(sizes.max()))
        self.grow(2.0 ** (math.floor(math.log2(max(self.absmax, self.span / 2))) + 1))
        # Exact: powers of two.
        self.histogram += np.bincount((sizes * np.float32(BINS / self.span)).astype(np.int32), minlength=BINS)

    def grow(self, span: float) -> None:
        """Widen the bins until they reach to `span`."""
        while self.span < span:
            self.histogram = np.concatenate([self.histogram.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
            self.span *= 2


def _merge(inputs: Sequence[_Input]) -> _Input:
    merged = _Input()
    for one in inputs:
        merged.absmax = max(merged.absmax, one.absmax)
        merged.grow(one.span)
    for one in inputs:
        other = _Input()
        other.span, other.histogram = one.span, one.histogram
        other.grow(merged.span)
        merged.histogram = merged.histogram + other.histogram
    return merged


@dataclass(frozen=True)
class _Window:
    """The window of a convolution over a 4-D input."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int] | None
    """Top, left, bottom, right; None for SAME_UPPER."""

    @classmethod
    def read(cls, node: onnx.NodeProto) -> _Window:
        attrs: dict[str, Any] = {attr.name: helper.get_attribute_value(attr) for attr in node.attribute}
        kernel, strides, dilations = (tuple(attrs[name]) for name in ("kernel_shape", "strides", "dilations"))
        return cls(kernel, strides, dilations, tuple(attrs["pads"]) if "pads" in attrs else None)

    @property
    def area(self) -> int:
        return math.prod(self.kernel)

    def take(self, values: NDArray[np.float32], limit: int) -> NDArray[np.float32]:
        """Return at most `limit` windows of N × C × H × W, as windows × C × kh × kw."""
        height, width = values.shape[2:]
        ends = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        pads = self.pads
        if pads is None:
            lost = [
                max((math.ceil(size / stride) - 1) * stride + end - size, 0)
                for size, stride, end in zip((height, width), self.strides, ends, strict=True)
            ]
            pads = (lost[0] // 2, lost[1] // 2, lost[0] - lost[0] // 2, lost[1] - lost[1] // 2)
        if any(pads):
            values = np.pad(values, ((0, 0), (0, 0), pads[::2], pads[1::2]))
        rows, columns = (
            (size - end) // stride + 1 for size, end, stride in zip(values.shape[2:], ends, self.strides, strict=True)
        )
        n, y, x = np.unravel_index(_spread(len(values) * rows * columns, limit), (len(values), rows, columns))
        y = y[:, None] * self.strides[0] + np.arange(self.kernel[0]) * self.dilations[0]
        x = x[:, None] * self.strides[1] + np.arange(self.kernel[1]) * self.dilations[1]
        # NumPy moves the axes of the indices to the front: windows × kh × kw × C.
        taken: NDArray[np.float32] = values[n[:, None, None], :, y[:, :, None], x[:, None, :]]
        return taken.transpose(0, 3, 1, 2)


def _spread(count: int, limit: int) -> NDArray[np.int64]:
    """Return at most `limit` of the numbers below `count`, evenly spread and ascending."""
    if count <= limit:
        return np.arange(count)
    return np.unique((np.arange(limit) * _SPREAD % 1 * count).astype(np.int64))


class _Layer:
    """The windows of one parameter, which several ops may share."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.reads: dict[str, list[_Window | None]] = {}
        """By input: the windows over it; None for fc."""
        self._size = math.prod(shape[1:]) if len(shape) == 4 else shape[0]
        self.gram: NDArray[np.float64] = np.zeros(0)
        self.total: NDArray[np.float64] | float = 0.0
        self.windows = 0

    def add(self, values: NDArray[np.float32], window: _Window | None, limit: int) -> None:
        if window is None:
            rows = values.reshape(-1, self._size)
            taken = rows[_spread(len(rows), limit)]
        else:
            # A group has fewer weights, which fewer windows tell as well.
            taken = window.take(values, limit if values.shape[1] * window.area == self._size else limit // 8)
        taken = taken.reshape(len(taken), -1, self._size)
        if taken.shape[1] == 1:
            gram = (taken[:, 0].T @ taken[:, 0])[None]
        else:
            columns = np.ascontiguousarray(taken.transpose(1, 2, 0))
            gram = columns @ columns.transpose(0, 2, 1)
        if not self.windows:
            self.gram = np.zeros(gram.shape)
        self.gram += gram
        self.total = self.total + taken.sum(axis=0, dtype=np.float64)
        self.windows += len(taken)
