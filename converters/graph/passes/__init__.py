"""Exact passes over a program before opt; each docstring proves that the results stay the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from converters.graph.passes.cancel_layouts import cancel_layouts
from converters.graph.passes.drop_identities import drop_identities
from converters.graph.passes.fit_kernels import fit_kernels
from converters.graph.passes.fold_activations import fold_activations
from converters.graph.passes.fold_affine import fold_affine
from converters.graph.passes.fold_batch_norm import fold_batch_norm
from converters.graph.passes.fold_gates import fold_gates
from converters.graph.passes.fold_layer_norm import fold_layer_norm
from converters.graph.passes.fold_slices import fold_slices
from converters.graph.passes.keep_scales import keep_scales
from converters.graph.passes.lower_deconvs import lower_deconvs
from converters.graph.passes.lower_pools import lower_pools
from converters.graph.passes.lower_upsampling import lower_upsampling
from converters.graph.passes.merge_convs import merge_convs
from converters.graph.passes.prune_charset import prune_charset
from converters.graph.passes.report import PassReport
from converters.graph.passes.restore_attributes import restore_attributes
from converters.graph.passes.settle_shapes import settle_shapes
from converters.graph.passes.split_projections import split_projections
from converters.graph.passes.widen_numbers import widen_numbers
from converters.sources.program import Program
from edge_ocr.errors import ModelError

__all__ = ["PASSES", "PassReport", "prune_charset", "restore_attributes", "run_passes"]

# settle_shapes makes Paddle 3's conv biases visible to later passes; drop_identities makes ops adjacent. Decomposed
# operators are re-fused before any of their constants change. cancel_layouts needs whole activations, and makes batch
# norms 4-D for fold_batch_norm. fold_affine needs batch norms folded before it, folds into the convolutions that
# lower_pools makes, and leaves biases in the form that merge_convs needs. What follows gives ops the forms that ARM
# kernels are fast for; keep_scales is last because passes insert scales.
PASSES: tuple[Callable[[Program], PassReport], ...] = (
    restore_attributes,
    settle_shapes,
    fold_slices,
    drop_identities,
    fold_activations,
    fold_layer_norm,
    cancel_layouts,
    fold_batch_norm,
    lower_pools,
    fold_affine,
    merge_convs,
    fold_gates,
    split_projections,
    lower_deconvs,
    lower_upsampling,
    fit_kernels,
    widen_numbers,
    keep_scales,
)
# Without them opt refuses some models, or changes their results.
_NEEDED = (restore_attributes, keep_scales)


def run_passes(
    program: Program, *, kept_classes: Sequence[int] | None = None, optimize: bool = True
) -> list[PassReport]:
    """Run the passes on a program, in place, and return what each did.

    Without `optimize`, only the passes that opt needs run, and `prune_charset` if `kept_classes` is given (see there).

    Raises what `prune_charset` raises; ModelError if an attribute has the wrong type or a parameter would become
    infinite or NaN.
    """
    try:
        # `store` reports overflows.
        with np.errstate(all="ignore"):
            reports = [run(program) for run in (PASSES if optimize else _NEEDED)]
        if kept_classes is not None:
            reports.append(prune_charset(program, kept_classes))
    except ModelError as error:
        # Errors about an op do not name the file.
        if error.message.startswith(program.where):
            raise
        raise ModelError(f"{program.where}: {error.message}", error.hint) from None
    return reports
