"""Exact passes over a program ahead of opt; each proves in its docstring that the results stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from converters.graph.passes.drop_identities import drop_identities
from converters.graph.passes.fold_activations import fold_activations
from converters.graph.passes.fold_affine import fold_affine
from converters.graph.passes.fold_batch_norm import fold_batch_norm
from converters.graph.passes.fold_gates import fold_gates
from converters.graph.passes.fold_layer_norm import fold_layer_norm
from converters.graph.passes.fold_slices import fold_slices
from converters.graph.passes.merge_convs import merge_convs
from converters.graph.passes.prune_charset import prune_charset
from converters.graph.passes.report import PassReport
from converters.graph.passes.restore_attributes import restore_attributes
from converters.graph.passes.settle_shapes import settle_shapes
from converters.sources.program import Program
from edge_ocr.errors import ModelError

__all__ = ["PASSES", "PassReport", "prune_charset", "restore_attributes", "run_passes"]

# settle_shapes makes the conv biases of Paddle 3 visible to what comes behind it, drop_identities the neighbours.
# What ONNX exporters wrote in parts is put together before any constant in it is changed; fold_affine wants no batch
# norm between a convolution and its scales, and merge_convs wants biases where fold_affine leaves them.
PASSES: tuple[Callable[[Program], PassReport], ...] = (
    restore_attributes,
    settle_shapes,
    fold_slices,
    drop_identities,
    fold_activations,
    fold_layer_norm,
    fold_batch_norm,
    fold_affine,
    merge_convs,
    fold_gates,
)


def run_passes(
    program: Program, *, kept_classes: Sequence[int] | None = None, optimize: bool = True
) -> list[PassReport]:
    """Run the passes on a program, in place, and return what each did.

    Without `optimize` only what opt cannot do without is run, and what `kept_classes` asks for: the classes that
    a recogniser keeps, as `prune_charset` takes them.

    Raises what `prune_charset` raises, and ModelError where an attribute is of a kind that its op does not have, or a
    parameter would hold numbers that are infinite or none.
    """
    try:
        # Whatever overflows is found where it is stored.
        with np.errstate(all="ignore"):
            reports = [run(program) for run in (PASSES if optimize else (restore_attributes,))]
        if kept_classes is not None:
            reports.append(prune_charset(program, kept_classes))
    except ModelError as error:
        # What is said of an op does not know of the file.
        if error.message.startswith(program.where):
            raise
        raise ModelError(f"{program.where}: {error.message}", error.hint) from None
    return reports
