"""Recognisers that compute some of their layers in int8 on OpenVINO: which layers, and the ranges of their inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ocr.engines.silent_openvino import ov
from edge_ocr.errors import ModelError
from edge_ocr.models.store import hash_file
from edge_ocr.models.types import Model

REVISION = 1
"""Number of this way to round; networks that were compiled with another are not reused."""

Ranges = Mapping[str, tuple[float, float]]
"""Least and greatest value that int8 can hold, by name of the tensor; other values are clipped."""

TABLE = Path(__file__).with_name("int8.json")
"""Written by `python -m benchmarks.int8`."""

# Steps of an activation and of a weight: OpenVINO computes in int8 what is rounded to so many.
_INPUT_LEVELS = 256
_WEIGHT_LEVELS = 255

_PRODUCTS = ("Convolution", "MatMul")


@cache
def _read_table() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return content


def find_ranges(model: Model) -> Ranges | None:
    """Return the ranges of a network that is known to read well in int8; None for others, whatever they are called."""
    if model.kind != "rec":
        return None
    known = _read_table().get(name_network(model))
    return None if known is None else {name: (low, high) for name, (low, high) in known["inputs"].items()}


def name_network(model: Model) -> str:
    """Return the key of a network in the table: the hashes of its files."""
    return "-".join(hash_file(path) for path in (model.program, model.params) if path is not None)


def list_inputs(model: ov.Model) -> dict[str, list[ov.Node]]:
    """Return the products with constant weights, by the name of the tensor that they read."""
    found: dict[str, list[ov.Node]] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() in _PRODUCTS and node.input_value(1).get_node().get_type_name() == "Constant":
            source = node.input_value(0)
            if source.get_names() and source.get_node().get_type_name() != "Parameter":
                found.setdefault(min(source.get_names()), []).append(node)
    return found


def quantise(model: ov.Model, ranges: Ranges) -> None:
    """Round the inputs and weights of the products that read the tensors of `ranges`, so that they compute in int8.

    Raises ModelError if no product reads such a tensor.
    """
    products = list_inputs(model)
    missing = sorted(set(ranges) - set(products))
    if missing:
        raise ModelError(
            f"int8 is not possible with OpenVINO {ov.get_version()}: no layer reads {', '.join(missing)}",
            "set Runtime.precision to f32 or auto",
        )
    for name, (low, high) in ranges.items():
        for node in products[name]:
            source, weights = node.input_value(0), node.input_value(1).get_node().data
            rounded = _round(source, *_align(low, high), _INPUT_LEVELS)
            largest = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
            largest = np.maximum(largest, np.finfo(np.float32).tiny).astype(np.float32)
            kernel = _round(ov.opset13.constant(weights).output(0), -largest, largest, _WEIGHT_LEVELS)
            node.input(0).replace_source_output(rounded.output(0))
            node.input(1).replace_source_output(kernel.output(0))
    model.validate_nodes_and_infer_types()


def _align(low: float, high: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a range of 255 steps around [low, high] in which 0 is a step: padding must stay 0."""
    step = (high - low) / (_INPUT_LEVELS - 1)
    zero = round(-low / step)
    low, high = -zero * step, (_INPUT_LEVELS - 1 - zero) * step
    return np.array([low], dtype=np.float32), np.array([high], dtype=np.float32)


def _round(value: ov.Output, low: NDArray[np.float32], high: NDArray[np.float32], levels: int) -> ov.Node:
    ends = [ov.opset13.constant(np.reshape(end, end.shape if end.ndim > 1 else [])) for end in (low, high)]
    return ov.opset13.fake_quantize(value, *ends, *ends, levels)
