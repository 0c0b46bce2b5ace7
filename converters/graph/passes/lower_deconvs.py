"""Writes 2×2 transposed convolutions of stride 2 as 1×1 convolutions and `pixel_shuffle`."""

from __future__ import annotations

import numpy as np

from converters.graph.passes.affine import find_bias, is_channels_first, is_conv, is_unpadded, write_affine
from converters.graph.passes.patterns import POINTWISE, insert_reshape
from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program, get_attr, get_input, get_output, list_inputs

_POINTWISE_CONV = {
    "strides": [1, 1],
    "paddings": [0, 0],
    "dilations": [1, 1],
    "groups": 1,
    "data_format": "NCHW",
    "padding_algorithm": "EXPLICIT",
}
_SHUFFLE = {"upscale_factor": 2, "data_format": "NCHW"}


def lower_deconvs(program: Program) -> PassReport:
    """Replace 2×2 transposed convolutions of stride 2 by 1×1 convolutions with four times the outputs.

    Exact in real numbers, with the same products in the same sums:

    - The taps of such a convolution do not overlap: out[c, 2h+i, 2w+j] = Σ_k x[k, h, w]·W[k, c, i, j]. A 1×1
      convolution computes these numbers as y[4c+2i+j, h, w], and `pixel_shuffle` is defined as
      out[c, 2h+i, 2w+j] = y[4c+2i+j, h, w].
    - The bias of c and activations, which treat all numbers alike, come before the shuffle, where opt fuses them.
    - If x is itself a shuffled z, a 1×1 convolution sums over the channels k of x at one place, so it may sum before
      the places are shuffled: z[4k+p, h, w] is, without moving a number, a picture of channels k with rows (p, h).
      Its result has rows (p, h), too, so y[4c+q] at the places p is v[16c+4q+p, h, w]: the shuffle of p then works on
      the result.

    Paddle-Lite computes a transposed convolution as a product of matrices and then adds its columns up. In the head of
    PP-OCR's detectors, two in a row, the large picture between them is never made.
    """
    ops_before = program.count_ops()
    changed = sum(_lower(program, op) for op in list(program.ops))
    return make_report("lower_deconvs", program, ops_before, changed)


def _lower(program: Program, deconv: Op) -> bool:
    source = get_input(deconv, "Input")
    if source is None or program.find_writer(source) is None or not _has_separate_taps(program, deconv):
        return False
    inputs, channels = program.params[get_input(deconv, "Filter") or ""].shape[:2]
    shuffle = program.find_writer(source)
    packed = _find_packed(program, shuffle, source)
    if shuffle is not None and packed is not None:
        source = program.make_name(f"{packed}.rows")
        insert_reshape(program, shuffle, packed, [0, inputs, -1, 0], (-1, inputs, -1, -1), source)
        program.remove_op(shuffle)
    last, slot, result = _widen(program, deconv, source, 4 * channels)
    made = program.make_name(f"{result}.packed")
    program.set_shape(made, (-1, 4 * channels, -1, -1))
    program.set_output(last, slot, made)
    if packed is not None:
        whole, half = program.make_name(f"{result}.whole"), program.make_name(f"{result}.half")
        last = insert_reshape(program, last, made, [0, 16 * channels, -1, 0], (-1, 16 * channels, -1, -1), whole)
        program.set_shape(half, (-1, 4 * channels, -1, -1))
        last = program.insert_op(last, "pixel_shuffle", {"X": whole}, {"Out": half}, _SHUFFLE)
        made = half
    program.insert_op(last, "pixel_shuffle", {"X": made}, {"Out": result}, _SHUFFLE)
    return True


def _has_separate_taps(program: Program, op: Op) -> bool:
    return (
        op.type == "conv2d_transpose"
        and is_conv(program, op)
        and program.params[get_input(op, "Filter") or ""].shape[2:] == (2, 2)
        and get_attr(op, "strides") == [2, 2]
        and get_attr(op, "dilations", [1, 1]) == [1, 1]
        and get_attr(op, "groups", 1) == 1
        and is_unpadded(op)
        and not get_attr(op, "output_size")
        and not any(get_attr(op, "output_padding", [0]))
    )


def _find_packed(program: Program, shuffle: Op | None, source: str) -> str | None:
    """Return the input of a 2×2 shuffle whose result `source` is read only once."""
    if shuffle is None or shuffle.type != "pixel_shuffle" or program.find_only_reader(source) is None:
        return None
    packed = get_input(shuffle, "X")
    is_plain = get_attr(shuffle, "upscale_factor") == 2 and is_channels_first(shuffle)
    return packed if is_plain and packed is not None and program.find_writer(packed) is not None else None


def _widen(program: Program, deconv: Op, source: str, channels: int) -> tuple[Op, str, str]:
    """Replace `deconv` by its 1×1 convolution, bias and activations included.

    Return the last of these ops, its output slot, and the tensor that it wrote.
    """
    stem, result = get_input(deconv, "Filter") or "", get_output(deconv, "Output") or ""
    bias = find_bias(program, deconv)
    # Under the same names, by which the trace finds what the source computes with them.
    program.set_param(stem, program.params[stem].transpose(1, 2, 3, 0).reshape(channels, -1, 1, 1))
    conv = program.insert_op(deconv, "conv2d", {"Input": source, "Filter": stem}, {"Output": result}, _POINTWISE_CONV)
    program.remove_op(deconv)
    last, slot = conv, "Output"
    if bias is not None:
        _resize(program, result, channels)
        last, slot, result = bias.op, "Out", bias.result
        vector = np.repeat(np.broadcast_to(bias.vector, channels // 4), 4)
        write_affine(program, bias.op, bias.source, bias.param, vector)
    while (reader := program.find_only_reader(result)) is not None and reader.type in POINTWISE:
        made = get_output(reader, "Out")
        if list_inputs(reader) != [result] or made is None or program.find_writer(made) is not reader:
            break
        _resize(program, result, channels)
        last, slot, result = reader, "Out", made
    return last, slot, result


def _resize(program: Program, name: str, channels: int) -> None:
    program.set_shape(name, (-1, channels, -1, -1))
