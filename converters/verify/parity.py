"""How close an exported model is to its source: figures, their tolerances, and the checks."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from converters.lite.nb.rounded import Precision
from converters.report import Check, ClassDiff, ImageParity, Layer, LinePair, TensorDiff, Truth
from converters.text import format_figure
from edge_ocr.core.types import Polygon, TextLine
from edge_ocr.models.kinds import TENSOR_NAMES
from edge_ocr.models.types import Kind

Limit = Literal["at most", "at least"]

MATCH_IOU = 0.5
"""Two boxes with at least this IoU are the same line; the usual value in text detection."""


# The figure that a bundle's promise is about.
_PROMISED = {"exact_lines": "accuracy.exact_drop", "changed_lines": "texts.equal_share"}


@dataclass(frozen=True)
class Tolerance:
    """The limit of a figure."""

    layer: Layer
    figure: str
    limit: Limit
    values: Mapping[Precision, float]
    """By precision of the weights; a figure has no limit for other precisions."""
    reason: str
    computing: float | None = None
    """For layers that compute in int8, if it is not the value for int8."""

    def find_limit(
        self, precision: Precision, promise: Mapping[str, Any] | None, computing: Collection[Kind]
    ) -> float | None:
        """Return the limit for a bundle whose networks `computing` have layers that compute in int8.

        A promise of its manifest takes the place of the value here.
        """
        if promise is not None and self.figure == _PROMISED[promise["measure"]]:
            most = float(promise["max_drop"])
            return most if self.limit == "at most" else 1 - most
        if self.computing is not None and self.figure.split(".")[0] in computing:
            return self.computing
        return self.values.get("int8" if precision == "auto" else precision)


# README and report print these numbers from here. Unless every line or box must match, one may differ out of four or
# more. "Measured": on the 38 pictures (about 500 lines) of three public test sets, for bundles with all passes, with
# OpenVINO on both sides.
TOLERANCES: tuple[Tolerance, ...] = (
    Tolerance(
        "tensors",
        "det.prob_map.max_abs_diff",
        "at most",
        {"fp32": 1e-4, "int16": 5e-2},
        "fp32: another order of summation changes rounding; measured 4.9e-5. int16: steep edges of the map shift; "
        "measured 1.7e-2. No limit for int8: it changes single edge pixels by up to 1 without moving boxes.",
    ),
    Tolerance(
        "tensors",
        "det.prob_map.mean_abs_diff",
        "at most",
        {"fp32": 5e-6, "int16": 2e-5, "int8": 4e-3},
        "Catches small errors everywhere; measured 1.8e-8 (on the ARM library 3.1e-7), 3.5e-6 and 9.5e-4; "
        "with PP-OCRv6 small 9.2e-9, 1.3e-5 and 2.3e-3. Computing in int8 4.5e-3.",
        computing=1e-2,
    ),
    Tolerance(
        "tensors",
        "rec.probs.p90_abs_diff",
        "at most",
        {"fp32": 1e-4, "int16": 2e-2},
        "Holds for nine lines in ten: on an illegible line the network amplifies any rounding.",
    ),
    Tolerance(
        "tensors",
        "rec.probs.max_abs_diff",
        "at most",
        {"fp32": 2e-3},
        "Measured 3.0e-4. On the same lines, engines differ as much on the same file: Paddle and OpenVINO by 3.2e-4, "
        "Paddle and ONNX Runtime by 7.4e-4. No limit for rounded weights: they change uncertain steps by any amount.",
    ),
    Tolerance(
        "tensors",
        "rec.probs.mean_step_diff",
        "at most",
        {"fp32": 5e-5, "int16": 2e-3, "int8": 5e-2},
        "Sum over the classes of a step, mean over steps: catches small errors everywhere; measured 7.2e-7 (on the ARM "
        "library 9.0e-6), 1.8e-4 and 7.1e-3; computing in int8 5.7e-2.",
        computing=0.1,
    ),
    Tolerance(
        "tensors",
        "rec.log_probs.worst_class_diff",
        "at most",
        {"fp32": 2e-3, "int16": 5e-2, "int8": 1.5},
        "Mean over steps for the worst class: finds swapped characters (2 and more) even if no picture shows them; "
        "measured 1.4e-5, 6.1e-3 and 0.33; computing in int8, which moves improbable classes most, 3.3.",
        computing=5.0,
    ),
    Tolerance(
        "tensors",
        "cls.turned_probs.max_abs_diff",
        "at most",
        {"fp32": 1e-4, "int16": 2e-2, "int8": 3e-1},
        "Two classes; a line is turned from 0.9 on; measured 2.2e-6, 7.1e-4 and 7.7e-2.",
    ),
    Tolerance(
        "tensors",
        "page.turn_probs.max_abs_diff",
        "at most",
        {"fp32": 1e-4, "int16": 2e-2, "int8": 3e-1},
        "As for lines; four classes. An uncertain page is read to find out how it is turned.",
    ),
    Tolerance(
        "boxes",
        "boxes.matched_share",
        "at least",
        {"fp32": 1.0, "int16": 0.995, "int8": 0.9},
        "Share of boxes with a match on the other side at IoU 0.5; measured 1, 1 and 0.94.",
    ),
    Tolerance(
        "boxes",
        "boxes.mean_iou",
        "at least",
        {"fp32": 0.999, "int16": 0.99, "int8": 0.95},
        "Mean over matched boxes; corners are whole pixels, so one pixel matters for a small box. Measured 1, 1 and "
        "0.98.",
    ),
    Tolerance(
        "texts",
        "texts.equal_share",
        "at least",
        {"fp32": 1.0, "int16": 0.995, "int8": 0.7},
        "Share of lines with identical text; measured 1, 1 and 0.76. int8 adds or drops spaces, and changes letters "
        "that the reference guesses, too; measured against labels it is not worse (see accuracy).",
    ),
    Tolerance(
        "texts",
        "texts.one_minus_ned",
        "at least",
        {"fp32": 1.0, "int16": 0.999, "int8": 0.85},
        "1 - edit distance / longer length, mean over the lines that both sides detect.",
    ),
    Tolerance(
        "accuracy",
        "accuracy.exact_drop",
        "at most",
        {"fp32": 0.0, "int16": 0.005, "int8": 0.005},
        "The share of labelled lines that are read exactly may fall by half a percentage point.",
    ),
)


# --- comparing


def compare_arrays(reference: NDArray[np.float32], exported: NDArray[np.float32]) -> TensorDiff:
    """Compare two outputs for the same input; the difference is infinite if their shapes differ."""
    is_finite = bool(np.isfinite(exported).all())
    if reference.shape != exported.shape or not is_finite:
        return TensorDiff(math.inf, math.inf, reference.size, is_finite, (math.inf,), reference.shape[-1])
    if not reference.size:
        return TensorDiff(0.0, 0.0, 0, True, (0.0,), reference.shape[-1])
    diff = np.abs(reference.astype(np.float64) - exported)
    largest = float(diff.max())
    return TensorDiff(largest, float(diff.mean()), reference.size, True, (largest,), reference.shape[-1])


def compare_classes(reference: NDArray[np.float32], exported: NDArray[np.float32]) -> ClassDiff:
    """Compare two outputs of a recogniser, N × T × classes, class by class.

    Probabilities are clipped at 1e-30: smaller floats are too inexact to compare.
    """
    logs = [np.log(np.maximum(probs, 1e-30)) for probs in (reference, exported)]
    diff = np.abs(logs[0] - logs[1]).reshape(-1, reference.shape[-1])
    return ClassDiff(diff.sum(axis=0, dtype=np.float64), diff.shape[0])


def merge_diffs(diffs: Iterable[TensorDiff]) -> TensorDiff | None:
    """Merge the differences of several runs; None for no runs."""
    every = list(diffs)
    if not every:
        return None
    count = sum(diff.count for diff in every)
    return TensorDiff(
        max(diff.max_abs for diff in every),
        # Infinity times 0 would be NaN.
        sum(diff.mean_abs * diff.count for diff in every if diff.count) / count if count else 0.0,
        count,
        all(diff.is_finite for diff in every),
        tuple(value for diff in every for value in diff.run_maxima),
        every[0].row_size,
    )


def measure_iou(a: Polygon, b: Polygon) -> float:
    """Return the intersection over union of two convex quadrilaterals, in [0, 1]."""
    if (a.max(axis=0) < b.min(axis=0)).any() or (b.max(axis=0) < a.min(axis=0)).any():
        return 0.0
    first, second = (cv2.convexHull(np.asarray(polygon, dtype=np.float32)) for polygon in (a, b))
    shared = float(cv2.intersectConvexConvex(first, second)[0])
    union = cv2.contourArea(first) + cv2.contourArea(second) - shared
    return min(shared / union, 1.0) if union > 0 else float(np.array_equal(a, b))


def pair_lines(reference: Sequence[TextLine], exported: Sequence[TextLine]) -> tuple[LinePair, ...]:
    """Pair the lines of both sides whose boxes overlap by at least MATCH_IOU, closest pairs first.

    Returned in the order of the reference, then exported lines without a match. Every line is in exactly one pair.
    """
    found = [
        (iou, i, j)
        for i, a in enumerate(reference)
        for j, b in enumerate(exported)
        if (iou := measure_iou(a.polygon, b.polygon)) >= MATCH_IOU
    ]
    partners: dict[int, tuple[int, float]] = {}
    taken: set[int] = set()
    for iou, i, j in sorted(found, key=lambda one: (-one[0], one[1], one[2])):
        if i not in partners and j not in taken:
            partners[i] = (j, iou)
            taken.add(j)
    pairs = []
    for i, line in enumerate(reference):
        j, iou = partners.get(i, (-1, 0.0))
        pairs.append(LinePair(line, exported[j] if j >= 0 else None, iou))
    pairs += [LinePair(None, line, 0.0) for j, line in enumerate(exported) if j not in taken]
    return tuple(pairs)


def measure_similarity(a: str, b: str) -> float:
    """Return 1 - NED, i.e. 1 - edit distance / longer length; 1 for two empty texts."""
    if a == b:
        return 1.0
    row = list(range(len(b) + 1))
    for i, char in enumerate(a, 1):
        new = [i]
        for j, other in enumerate(b, 1):
            new.append(min(row[j] + 1, new[-1] + 1, row[j - 1] + (char != other)))
        row = new
    return 1 - row[-1] / max(len(a), len(b))


def fold_text(text: str) -> str:
    """Return a text in the form in which accuracy compares it: NFKC, lower case, without spaces."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).lower() if not char.isspace())


def score_truth(words: Sequence[Mapping[str, Any]], lines: Sequence[TextLine]) -> Truth:
    """Score lines against a picture's labels: `poly` (4 × 2, or None), `text`, and `ignore` if it does not count.

    A label without a polygon counts as found and exact if its text occurs anywhere in the text read.
    """
    whole = "".join(fold_text(line.text) for line in lines)
    taken: set[int] = set()
    truth = Truth(0, 0, 0, 0.0)
    for word in words:
        counts, text = not word.get("ignore"), fold_text(word["text"])
        if word.get("poly") is None:
            hit = text in whole
            truth += Truth(1, hit, hit, float(hit)) if counts else Truth(0, 0, 0, 0.0)
            continue
        polygon = np.array(word["poly"], dtype=np.float32)
        overlaps = {i: measure_iou(polygon, line.polygon) for i, line in enumerate(lines) if i not in taken}
        best = max(overlaps, key=overlaps.__getitem__, default=-1)
        hit = best >= 0 and overlaps[best] >= MATCH_IOU
        if hit:
            taken.add(best)
        if counts:
            read = fold_text(lines[best].text) if hit else ""
            truth += Truth(1, hit, hit and read == text, measure_similarity(text, read) if hit else 0.0)
    return truth


# --- figures and checks


def collect_figures(images: Sequence[ImageParity]) -> dict[str, float]:
    """Return the figures of TOLERANCES over all pictures, plus counts."""
    figures: dict[str, float] = {"images": len(images)}
    for kind, tensor in TENSOR_NAMES.items():
        diff = merge_diffs(image.tensors[kind] for image in images if kind in image.tensors)
        if diff is not None:
            figures[f"{kind}.{tensor}.max_abs_diff"] = diff.max_abs
            figures[f"{kind}.{tensor}.mean_abs_diff"] = diff.mean_abs
            if kind == "rec":
                # A mean over classes would depend on their number: nearly all probabilities are close to 0.
                figures["rec.probs.mean_step_diff"] = diff.mean_abs * diff.row_size
            figures[f"{kind}.{tensor}.p90_abs_diff"] = float(np.quantile(diff.run_maxima, 0.9, method="lower"))
    classes = [image.classes for image in images if image.classes is not None]
    if classes:
        together = sum(classes[1:], classes[0])
        figures["rec.log_probs.worst_class_diff"] = float(together.log_sums.max() / together.steps)
    boxes = [pair for image in images for pair in image.box_pairs]
    ious = [pair.iou for pair in boxes if pair.iou]
    figures["boxes.count"] = sum(pair.reference is not None for pair in boxes)
    figures["boxes.matched_share"] = len(ious) / len(boxes) if boxes else 1.0
    if ious:
        figures["boxes.mean_iou"] = float(np.mean(ious))
    texts = [pair for image in images for pair in image.text_pairs]
    figures["texts.count"] = len(texts)
    if texts:
        figures["texts.equal_share"] = sum(pair.is_equal for pair in texts) / len(texts)
    both = [pair.texts for pair in texts if pair.iou]
    if both:
        figures["texts.one_minus_ned"] = float(np.mean([measure_similarity(*pair) for pair in both]))
    truths = [image.truth for image in images if image.truth is not None]
    for side, name in enumerate(("reference", "exported")):
        total = sum((truth[side] for truth in truths), Truth(0, 0, 0, 0.0))
        if total.wanted:
            figures["accuracy.lines"] = total.wanted
            figures[f"accuracy.{name}.found_share"] = total.found / total.wanted
            figures[f"accuracy.{name}.exact_share"] = total.exact / total.wanted
            figures[f"accuracy.{name}.one_minus_ned"] = total.ned_sum / total.found if total.found else 0.0
    if "accuracy.lines" in figures:
        drop = figures["accuracy.reference.exact_share"] - figures["accuracy.exported.exact_share"]
        figures["accuracy.exact_drop"] = drop
    return figures


def check_figures(
    figures: Mapping[str, float],
    precision: Precision,
    promise: Mapping[str, Any] | None = None,
    *,
    computing: Collection[Kind] = (),
) -> list[Check]:
    """Compare every measured figure with its tolerance, and with the limit that the bundle's manifest promises.

    Bundles of precision `auto` have the tolerances of int8.
    """
    checks = []
    for tolerance in TOLERANCES:
        value, strict = figures.get(tolerance.figure), tolerance.find_limit(precision, promise, computing)
        if value is None or strict is None:
            continue
        # A promise is kept to the letter.
        is_promised = promise is not None and tolerance.figure == _PROMISED[promise["measure"]]
        limit = strict if is_promised else _allow_one(tolerance, strict, figures)
        # Never true for NaN.
        passed = value <= limit + 1e-12 if tolerance.limit == "at most" else value >= limit - 1e-12
        detail = f"{format_figure(value)}, expected {tolerance.limit} {format_figure(limit)}"
        if limit != strict:
            detail += f" (1 of {figures[_COUNTS[tolerance.figure]]:g} may differ)"
        checks.append(Check(tolerance.layer, tolerance.figure, passed, detail, value, limit))
    return checks


# Figures that are shares of lines or boxes, and the figure with their number.
_COUNTS: Mapping[str, str] = MappingProxyType(
    {
        "boxes.matched_share": "boxes.count",
        "texts.equal_share": "texts.count",
        "accuracy.exact_drop": "accuracy.lines",
    }
)


def _allow_one(tolerance: Tolerance, limit: float, figures: Mapping[str, float]) -> float:
    """Return the limit, relaxed so that one of at least four lines may differ unless every line must match."""
    count = figures.get(_COUNTS.get(tolerance.figure, ""), 0.0)
    if count < 4 or limit in (0.0, 1.0):
        return limit
    return max(limit, 1 / count) if tolerance.limit == "at most" else min(limit, 1 - 1 / count)
