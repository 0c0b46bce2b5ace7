"""Writes nearest upsampling by a whole factor as copies and `pixel_shuffle`."""

from __future__ import annotations

from converters.graph.passes.patterns import insert_reshape
from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program, get_attr, get_input, get_output, list_inputs

# In steps of 2 and 4, for which Paddle-Lite has fast kernels (lite/backends/arm/math/pixel_shuffle.cc).
STEPS = {2: (2,), 4: (4,), 8: (2, 4), 16: (4, 4)}
# The attribute of a reshape has 32 bits.
_MOST_CHANNELS = (1 << 31) // 16


def lower_upsampling(program: Program) -> PassReport:
    """Replace nearest upsampling by a factor s by s·s copies of the picture and a shuffle.

    Bit-exact, because values are moved, never computed. Upsampling by s without aligned corners is
    out[c, s·h+i, s·w+j] = x[c, h, w] for i and j below s; dividing a place by a power of two does not round. s·s copies
    of x below one another are, without moving a number, s·s channels y[s·s·c + k] = x[c] for each channel c, and
    `pixel_shuffle` is defined as out[c, s·h+i, s·w+j] = y[s·s·c + s·i+j, h, w]. Upsampling by 8 is upsampling by 2 and
    then by 4, as ⌊⌊r/4⌋/2⌋ = ⌊r/8⌋.

    Paddle-Lite upsamples number by number, computing each place anew; copying and shuffling take a fifth of the
    instructions.
    """
    ops_before = program.count_ops()
    changed = sum(_lower(program, op) for op in list(program.ops))
    return make_report("lower_upsampling", program, ops_before, changed)


def _lower(program: Program, resize: Op) -> bool:
    source, result = get_input(resize, "X"), get_output(resize, "Out")
    if resize.type != "nearest_interp_v2" or source is None or result is None:
        return False
    shape, steps = program.find_shape(source), _find_steps(resize)
    if not steps or shape is None or len(shape) != 4 or not 0 < shape[1] < _MOST_CHANNELS:
        return False
    # A factor or a size that is a tensor wins over the attribute.
    if list_inputs(resize) != [source]:
        return False
    if program.find_writer(result) is not resize or program.find_writer(source) is None:
        return False
    channels, last = shape[1], resize
    for place, factor in enumerate(steps):
        count = factor * factor
        column, packed = program.make_name(f"{result}.column"), program.make_name(f"{result}.packed")
        program.set_shape(column, (-1, channels, -1, -1))
        last = program.insert_op(last, "concat", {"X": [source] * count}, {"Out": column}, {"axis": 2})
        dims = [0, count * channels, -1, 0]
        last = insert_reshape(program, last, column, dims, (-1, count * channels, -1, -1), packed)
        source = result
        if place < len(steps) - 1:
            source = program.make_name(f"{result}.smaller")
            program.set_shape(source, (-1, channels, -1, -1))
        attrs = {"upscale_factor": factor, "data_format": "NCHW"}
        last = program.insert_op(last, "pixel_shuffle", {"X": packed}, {"Out": source}, attrs)
    program.remove_op(resize)
    return True


def _find_steps(resize: Op) -> tuple[int, ...]:
    """Return the factors whose product is that of a plain upsampling; none for any other."""
    scale = get_attr(resize, "scale")
    if get_attr(resize, "align_corners", True) or get_attr(resize, "data_layout", "NCHW") != "NCHW":
        return ()
    if not isinstance(scale, list) or len(scale) != 2 or scale[0] != scale[1]:
        return ()
    if max(get_attr(resize, name, -1) for name in ("out_h", "out_w")) > 0:
        return ()
    return STEPS.get(scale[0], ())
