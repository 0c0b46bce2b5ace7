"""Lists the tensors that passes make of a source tensor by moving its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from converters.graph.passes.lower_upsampling import STEPS
from converters.sources.ops import PADDLE_OPS
from converters.sources.program import Program, get_attr, list_inputs, list_outputs

Floats = NDArray[np.float32]

View = Callable[[Floats], Floats]
"""Moves or repeats the numbers of a tensor."""


def list_views(program: Program, values: Mapping[str, Floats]) -> Iterator[tuple[str, str, View]]:
    """Yield the name of a source tensor, what a pass makes of it, for labels, and the function that does so.

    `values` are the tensors of one run by name. `lower_deconvs` makes a picture's blocks of 2×2, `lower_upsampling`
    makes copies, and `split_projections` makes a part of a product before it is transposed.
    """
    depths: dict[str, int] = {}
    for op in program.ops:
        sources = [name for name in list_inputs(op) if name in values]
        results = [name for name in list_outputs(op) if name in values]
        if not sources or not results:
            continue
        source, result = sources[0], results[0]
        shape = values[result].shape
        if op.type == "conv2d_transpose" and get_attr(op, "strides") == [2, 2]:
            depths[result] = min(depths.get(source, 0) + 1, 2)
        elif op.type in PADDLE_OPS and PADDLE_OPS[op.type].is_fusable and values[source].shape == shape:
            depths[result] = depths.get(source, 0) if len(sources) == 1 else 0
        elif op.type == "nearest_interp_v2" and values[source].ndim == 4:
            yield from _list_copies(source, get_attr(op, "scale"))
        elif op.type in ("slice", "squeeze2") and len(shape) == 4:
            yield result, "places first", partial(np.transpose, axes=(0, 2, 1, 3))
            yield result, "in one line a place", _join_heads
        for times in range(1, depths.get(result, 0) + 1):
            if len(shape) == 4 and shape[2] % 2**times == shape[3] % 2**times == 0:
                yield result, f"in blocks {times}", partial(_pack, times=times)
                yield result, f"in rows of blocks {times}", partial(_pack, times=times, as_rows=True)


def _list_copies(name: str, scale: object) -> Iterator[tuple[str, str, View]]:
    factor = scale[0] if isinstance(scale, list) and scale else 0
    before = 1
    for step in STEPS.get(factor, ()):
        if before > 1:
            yield name, f"{before} times larger", partial(_enlarge, factor=before)
        yield name, f"{before} times larger, {step * step} copies", partial(_copy, factor=before, count=step * step)
        yield name, f"{before} times larger, {step * step} channels each", partial(_spread, factor=before, step=step)
        before *= step


def _pack(value: Floats, times: int, *, as_rows: bool = False) -> Floats:
    """Return `value` with the numbers of each 2×2 block as four channels, `times` times."""
    for _ in range(times):
        batch, channels, height, width = value.shape
        blocks = value.reshape(batch, channels, height // 2, 2, width // 2, 2).transpose(0, 1, 3, 5, 2, 4)
        value = blocks.reshape(batch, 4 * channels, height // 2, width // 2)
    batch, channels, height, width = value.shape
    return value.reshape(batch, channels // 4, 4 * height, width) if as_rows else value


def _enlarge(value: Floats, factor: int) -> Floats:
    return value.repeat(factor, axis=2).repeat(factor, axis=3)


def _copy(value: Floats, factor: int, count: int) -> Floats:
    return np.concatenate([_enlarge(value, factor)] * count, axis=2)


def _spread(value: Floats, factor: int, step: int) -> Floats:
    return _enlarge(value, factor).repeat(step * step, axis=1)


def _join_heads(value: Floats) -> Floats:
    return value.transpose(0, 2, 1, 3).reshape(value.shape[0], value.shape[2], -1)
