"""Removes classes from a recogniser."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Op, Program, get_attr, get_input, list_inputs
from edge_ocr.core.charset import BLANK_INDEX
from edge_ocr.errors import ModelError, UsageError

_HINT = "export it with all of its characters: they cannot be pruned"


def prune_charset(program: Program, kept: Sequence[int]) -> PassReport:
    """Keep only the classes `kept` of a network that ends in one matmul, bias and softmax, in that order.

    Bias and softmax may be missing.

    `kept` are distinct indices of the network's classes, the blank first. The report counts the removed classes.

    Exact: column j of x·W + b depends on column j of W and on b[j] alone, so each kept logit is computed
    from the same numbers. The softmax over kept classes, exp(l[j]) / Σ_kept exp(l[k]), is the original probability
    divided by the sum of the kept ones: order, ratios and best path stay, and the probability of removed characters is
    distributed among them.

    Raises UsageError if `kept` is not such a list, ModelError if the network ends in another way.
    """
    ops_before = program.count_ops()
    results, matmul, bias = _find_classifier(program)
    weight = get_input(matmul, "Y") or ""
    value = program.params[weight]
    axis = 0 if _is_transposed(matmul) else 1
    classes = value.shape[axis]
    _check_kept(kept, classes)
    chosen = np.asarray(kept, dtype=np.intp)
    program.set_param(weight, value.take(chosen, axis))
    if bias is not None:
        program.set_param(bias, program.params[bias].take(chosen, -1))
    for name in results:
        shape = program.find_shape(name)
        if shape:
            program.set_shape(name, (*shape[:-1], len(chosen)))
    return make_report("prune_charset", program, ops_before, classes - len(chosen))


def _find_classifier(program: Program) -> tuple[list[str], Op, str | None]:
    """Return the tensors whose last axis is the classes, the matmul that writes the first, and its bias."""
    fetched = [name for op in program.ops if op.type == "fetch" for name in list_inputs(op)]
    if len(fetched) != 1:
        raise ModelError(f"{program.where}: {len(fetched)} outputs, expected 1", _HINT)
    results: list[str] = []
    bias: str | None = None
    name: str | None = fetched[0]
    while name is not None:
        op = program.find_writer(name)
        if op is None or program.find_only_reader(name) is None:
            break
        results.append(name)
        shape = program.find_shape(name) or ()
        # Backwards: softmax, if there is one, is the last op.
        if op.type == "softmax" and len(results) == 1 and get_attr(op, "axis", -1) in (-1, len(shape) - 1):
            name = get_input(op, "X")
        elif op.type == "elementwise_add" and bias is None:
            name, bias = get_input(op, "X"), get_input(op, "Y")
            if not program.owns_param(op, bias) or program.params[bias or ""].shape != shape[-1:]:
                break
            if not shape or get_attr(op, "axis", -1) not in (-1, len(shape) - 1):
                break
        elif op.type in ("matmul", "matmul_v2", "mul"):
            weight = get_input(op, "Y")
            if not program.owns_param(op, weight) or program.params[weight or ""].ndim != 2:
                break
            classes = program.params[weight or ""].shape[0 if _is_transposed(op) else 1]
            if bias is not None and program.params[bias].shape != (classes,):
                break
            return results, op, bias
        else:
            break
    raise ModelError(f"{program.where}: does not end in matmul, bias and softmax, as a recogniser does", _HINT)


def _is_transposed(matmul: Op) -> bool:
    return bool(get_attr(matmul, "trans_y", False) or get_attr(matmul, "transpose_Y", False))


def _check_kept(kept: Sequence[int], classes: int) -> None:
    if not kept or kept[0] != BLANK_INDEX:
        raise UsageError(f"the blank, class {BLANK_INDEX}, must be the first of the kept classes")
    if len(kept) < 2:
        raise UsageError("only the blank class would be kept", "choose at least one character that the model has")
    if len(set(kept)) != len(kept):
        double = next(index for place, index in enumerate(kept) if index in kept[:place])
        raise UsageError(f"class {double} is kept twice")
    outside = [index for index in kept if not 0 <= index < classes]
    if outside:
        raise UsageError(f"class {outside[0]} is not one of the {classes} of the model")
