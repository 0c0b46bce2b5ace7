"""Writes additions and multiplications by one number as ones by a vector."""

from __future__ import annotations

import numpy as np

from converters.graph.passes.affine import read_affine, write_affine
from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program


def widen_numbers(program: Program) -> PassReport:
    """Repeat the one number that an op adds to, or multiplies with, an N×C×H×W tensor: once per channel.

    Bit-exact: each element meets the same number as before, in the same op.

    Paddle-Lite's ARM kernels broadcast one number in a loop over single elements, 40 instructions each; a vector along
    the channels takes the vectorised kernel, with about one instruction for each element. A `scale` op takes no fewer.
    """
    ops_before = program.count_ops()
    changed = sum(_widen(program, op) for op in program.ops)
    return make_report("widen_numbers", program, ops_before, changed)


def _widen(program: Program, op: Op) -> bool:
    affine = read_affine(program, op)
    shape = None if affine is None else program.find_shape(affine.source)
    # One channel stays one number; more than these are those of a damaged file.
    if affine is None or shape is None or len(affine.vector) != 1 or not 2 <= shape[1] <= 65536:
        return False
    # Other ops may read the number. Under its own name, the trace finds it in the source.
    is_owned = program.owns_param(op, affine.param)
    name = affine.param if is_owned else program.make_name(f"{affine.param}.widened")
    write_affine(program, op, affine.source, name, np.repeat(affine.vector, shape[1]))
    return True
