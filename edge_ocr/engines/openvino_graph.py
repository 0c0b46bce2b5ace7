"""Rewrites networks before OpenVINO compiles them: the same results, but for rounding, with less work."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_ocr.engines.silent_openvino import ov

REVISION = 1
"""Number of these rewrites; networks that were compiled with others are not reused."""

# Side of a kernel that does not overlap itself: each pixel becomes a block of this size.
_BLOCK = 2


class _Upscaling(NamedTuple):
    """A transposed convolution that turns each pixel into a block of 2 × 2, and the bias that is added to it."""

    source: ov.Output
    weights: NDArray[np.float32]
    """Inputs × outputs × 2 × 2."""
    bias: NDArray[np.float32]
    """One number per output."""


def simplify(model: ov.Model) -> None:
    """Rewrite a network in place. A network that has none of the patterns computes as before.

    Raises RuntimeError if OpenVINO cannot read it.
    """
    # What compiling does first in any case: Paddle's and ONNX's ops become the same few.
    from openvino._offline_transformations import apply_moc_transformations

    apply_moc_transformations(model, cf=True)
    _rewrite_head(model)
    _fold_gates(model)
    _split_concats(model)
    model.validate_nodes_and_infer_types()


def _rewrite_head(model: ov.Model) -> None:
    """Compute the last layers of a DB head at a quarter of the output's size.

    They turn each pixel into 2 × 2, twice, and the last map has a single channel, which leaves 15 of 16 lanes of a
    vector empty: sigmoid and transposed convolutions took a fifth of PP-OCRv6 tiny's time. As no block overlaps
    another, two 1 × 1 convolutions give the 16 pixels of each block as channels.
    """
    if len(model.outputs) != 1:
        return
    sigmoid = _find_source(model.get_results()[0])
    second = _find_upscaling(_find_source(sigmoid)) if sigmoid.get_type_name() == "Sigmoid" else None
    if second is None or second.weights.shape[1] != 1 or second.source.get_node().get_type_name() != "Relu":
        return
    first = _find_upscaling(_find_source(second.source.get_node()))
    if first is None:
        return
    inputs, middle = first.weights.shape[:2]
    count = _BLOCK * _BLOCK
    # Channels: row and column in the first block, then the first layer's outputs.
    expand = first.weights.transpose(2, 3, 1, 0).reshape(count * middle, inputs)
    # Channels: row and column in the block of 4 × 4. Each reads the outputs of one pixel of the first block.
    reduce = np.zeros((_BLOCK, _BLOCK, _BLOCK, _BLOCK, count * middle), dtype=np.float32)
    for row in range(_BLOCK):
        for column in range(_BLOCK):
            start = (row * _BLOCK + column) * middle
            reduce[row, :, column, :, start : start + middle] = second.weights[:, 0].transpose(1, 2, 0)
    hidden = ov.opset13.relu(_convolve(first.source, expand, np.tile(first.bias, count)))
    reduce = reduce.reshape(count * count, count * middle)
    probs = ov.opset13.sigmoid(_convolve(hidden.output(0), reduce, np.repeat(second.bias, count * count)))
    _replace(sigmoid, ov.opset13.depth_to_space(probs, "blocks_first", _BLOCK * _BLOCK))


def _fold_gates(model: ov.Model) -> None:
    """Turn `x + x * gate` into `x * (gate + 1)`: one pass over `x` less."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Add":
            continue
        for scaled, other in (node.input_values(), reversed(node.input_values())):
            product = scaled.get_node()
            if product.get_type_name() != "Multiply" or len(scaled.get_target_inputs()) != 1:
                continue
            gates = [value for value in product.input_values() if value != other]
            # The gate has one value per channel; adding to it is cheap.
            if len(gates) == 1 and _is_gate(gates[0]):
                one = ov.opset13.constant(np.ones((1, 1, 1, 1), dtype=np.float32))
                _replace(node, ov.opset13.multiply(other, ov.opset13.add(gates[0], one)))
                break


def _is_gate(value: ov.Output) -> bool:
    shape = value.get_partial_shape()
    has_rank = shape.rank.is_static and len(shape) == 4
    return has_rank and shape[2:] == ov.PartialShape([1, 1]) and value.get_element_type() == ov.Type.f32


def _split_concats(model: ov.Model) -> None:
    """Turn a convolution of two maps side by side into the sum of a convolution of each: the maps need not be copied.

    More than two maps would be convolved with too few channels each to be fast.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convolution":
            continue
        concat, weights = _find_source(node), _read_constant(node.input_value(1))
        if (
            weights is None
            or concat.get_type_name() != "Concat"
            or concat.get_input_size() != 2
            or len(concat.output(0).get_target_inputs()) != 1
        ):
            continue
        facts, start, parts = node.get_attributes(), 0, []
        channels = [source.get_partial_shape()[1] for source in concat.input_values()]
        if concat.get_attributes()["axis"] != 1 or any(count.is_dynamic for count in channels):
            continue
        for source, count in zip(concat.input_values(), channels, strict=True):
            end = start + count.get_length()
            parts.append(
                ov.opset13.convolution(
                    source,
                    ov.opset13.constant(np.ascontiguousarray(weights[:, start:end])),
                    facts["strides"],
                    facts["pads_begin"],
                    facts["pads_end"],
                    facts["dilations"],
                    facts["auto_pad"],
                )
            )
            start = end
        _replace(node, ov.opset13.add(*parts))


def _find_upscaling(node: ov.Node) -> _Upscaling | None:
    """Return the transposed convolution whose bias `node` adds, if it turns pixels into blocks of 2 × 2."""
    if node.get_type_name() != "Add":
        return None
    upscaling, bias = _find_source(node), _read_constant(node.input_value(1))
    if upscaling.get_type_name() != "ConvolutionBackpropData" or bias is None or upscaling.get_input_size() != 2:
        return None
    weights, facts = _read_constant(upscaling.input_value(1)), upscaling.get_attributes()
    is_plain = (
        list(facts["strides"]) == [_BLOCK, _BLOCK]
        and list(facts["dilations"]) == [1, 1]
        and not any([*facts["pads_begin"], *facts["pads_end"], *facts["output_padding"]])
        and facts["auto_pad"] in ("explicit", "valid")
    )
    if weights is None or weights.shape[2:] != (_BLOCK, _BLOCK) or not is_plain:
        return None
    count = weights.shape[1]
    if bias.size != count or (count > 1 and bias.shape[-3:] != (count, 1, 1)):
        return None
    return _Upscaling(upscaling.input_value(0), weights, bias.reshape(-1))


def _convolve(source: ov.Output, weights: NDArray[np.float32], bias: NDArray[np.float32]) -> ov.Node:
    """Return a 1 × 1 convolution. `weights`: outputs × inputs."""
    kernel = np.ascontiguousarray(weights[:, :, np.newaxis, np.newaxis], dtype=np.float32)
    plain = ov.opset13.convolution(source, ov.opset13.constant(kernel), [1, 1], [0, 0], [0, 0], [1, 1])
    return ov.opset13.add(plain, ov.opset13.constant(bias.reshape(1, -1, 1, 1).astype(np.float32)))


def _find_source(node: ov.Node) -> ov.Node:
    return node.input_value(0).get_node()


def _read_constant(value: ov.Output) -> NDArray[np.float32] | None:
    node = value.get_node()
    if node.get_type_name() != "Constant" or node.get_element_type() != ov.Type.f32:
        return None
    data: NDArray[np.float32] = node.data
    return data


def _replace(old: ov.Node, new: ov.Node) -> None:
    """Let all readers of `old` read `new`, which takes over its names."""
    new.output(0).set_names(old.output(0).get_names())
    new.set_friendly_name(old.get_friendly_name())
    old.output(0).replace(new.output(0))
