"""Which precision is fastest on this processor: measured once for each network, then remembered in the store."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_ocr.core.engines.base import Engine
from edge_ocr.core.files import write_file
from edge_ocr.devices import Precision
from edge_ocr.errors import ModelError, UsageError
from edge_ocr.models.types import Kind

REVISION = 3
"""Number of this way to choose; results of another are not used."""

LEAST_GAIN = 0.15
"""A lower precision must save this share of the time of f32."""

# Share of the time of f32 that reading uncertain lines again takes: 0.03 to 0.07 of the lines, more in photos, one by
# one (benchmarks/README.md).
_REPEATED = 0.1

_ROUNDS = 5

_SHAPES: Mapping[Kind, tuple[int, int, int, int]] = {"det": (1, 3, 640, 640), "rec": (1, 3, 48, 320)}
"""Shapes that are typical of a picture; other networks are not measured."""


def choose_precision(kind: Kind, engines: Mapping[Precision, Callable[[], Engine]], file: Path) -> Precision:
    """Return the precision of the fastest engine; f32 unless another saves at least `LEAST_GAIN`.

    `engines`: how to build the engine of each precision, f32 among them; others that cannot be built are left out.
    `file` holds the result for the next start; it is written if it is missing or does not fit. A read-only store is not
    an error.

    Raises ModelError if the engine of f32 cannot be built.
    """
    if kind not in _SHAPES or len(engines) == 1:
        return "f32"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(file.read_text(encoding="utf-8"))["precision"]
        for name in engines:
            if name == known:
                return name
    built: dict[Precision, Engine] = {}
    for name, build in engines.items():
        try:
            built[name] = build()
        except ModelError:
            if name == "f32":
                raise
    spent = _measure(built, _SHAPES[kind])
    exact = spent["f32"]
    cost = {name: ms if name == "f32" or kind != "rec" else ms + _REPEATED * exact for name, ms in spent.items()}
    chosen = min(cost, key=lambda name: cost[name])
    if cost[chosen] > (1 - LEAST_GAIN) * exact:
        chosen = "f32"
    with suppress(UsageError, OSError):
        text = json.dumps({"precision": chosen, "ms": {name: round(ms, 3) for name, ms in spent.items()}})
        write_file(file, f"{text}\n".encode())
    return chosen


def _measure(engines: Mapping[Precision, Engine], shape: tuple[int, int, int, int]) -> dict[Precision, float]:
    """Return the milliseconds that each engine takes for one input: the fastest of several rounds, in turn."""
    array: NDArray[np.float32] = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    spent: dict[Precision, float] = {}
    for number in range(_ROUNDS + 1):
        for name, engine in engines.items():
            started = time.perf_counter()
            engine.run(array)
            # The first run prepares the shape.
            if number:
                spent[name] = min(spent.get(name, float("inf")), (time.perf_counter() - started) * 1000)
    return spent
