from __future__ import annotations

import json
import math

import numpy as np
import pytest

from converters.report import ImageParity, ParityReport, TensorDiff, Truth
from converters.verify import parity
from converters.verify.parity import (
    check_figures,
    collect_figures,
    compare_arrays,
    compare_classes,
    measure_iou,
    measure_similarity,
    merge_diffs,
    pair_lines,
    score_truth,
)
from edge_ocr.core.types import TextLine

IMAGE = np.zeros((40, 100, 3), dtype=np.uint8)


def box(x: float, y: float, width: float = 40, height: float = 10) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], dtype=np.float32)


def line(x: float, y: float, text: str) -> TextLine:
    return TextLine(box(x, y), 0.9, text, 0.9)


def compare(reference: list[TextLine], exported: list[TextLine], truth=None) -> ImageParity:
    pairs = pair_lines(reference, exported)
    tensors = {"det": compare_arrays(np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 4, 4)))}
    return ImageParity("a.png", IMAGE, tensors, pairs, tuple(pair for pair in pairs if any(pair.texts)), truth)


def report(image: ImageParity, precision: str = "fp32") -> ParityReport:
    figures = collect_figures([image])
    checks = tuple(check_figures(figures, precision))
    return ParityReport("b", "arm", precision, "v2.13-rc", "0.1", "graph", "det", checks, (image,), figures)


# --- arrays


def test_arrays_differ_by_the_largest_and_the_mean():
    a, b = np.zeros((2, 2), dtype=np.float32), np.array([[0, 0.5], [0, -1]], dtype=np.float32)
    assert compare_arrays(a, b) == TensorDiff(1.0, 0.375, 4, True, (1.0,), 2)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_is_an_infinite_difference(value):
    diff = compare_arrays(np.zeros(3, dtype=np.float32), np.array([0, value, 0], dtype=np.float32))
    assert not diff.is_finite
    assert diff.max_abs == diff.mean_abs == math.inf


def test_another_shape_is_an_infinite_difference():
    assert compare_arrays(np.zeros(3), np.zeros((3, 1))).max_abs == math.inf


def test_runs_are_merged_by_their_sizes():
    merged = merge_diffs([compare_arrays(np.zeros(1), np.ones(1)), compare_arrays(np.zeros(3), np.zeros(3))])
    assert merged == TensorDiff(1.0, 0.25, 4, True, (1.0, 0.0), 1)
    assert merge_diffs([]) is None


def test_an_infinite_run_stays_infinite_among_others():
    merged = merge_diffs([compare_arrays(np.zeros(1), np.array([math.nan])), compare_arrays(np.zeros(3), np.zeros(3))])
    assert merged is not None
    assert merged.mean_abs == math.inf
    assert not merged.is_finite


# --- boxes and lines


@pytest.mark.parametrize(
    ("other", "iou"),
    [(box(0, 0), 1.0), (box(20, 0), 1 / 3), (box(40, 0), 0.0), (box(0, 100), 0.0), (box(10, 2, 20, 5), 0.25)],
)
def test_iou(other, iou):
    assert measure_iou(box(0, 0), other) == pytest.approx(iou, abs=1e-5)
    assert measure_iou(other, box(0, 0)) == pytest.approx(iou, abs=1e-5)


def test_iou_of_turned_boxes():
    diamond = np.array([[20, -15], [40, 5], [20, 25], [0, 5]], dtype=np.float32)
    assert 0 < measure_iou(box(0, 0), diamond) < 1


def test_the_closest_boxes_are_paired():
    # The second of the exported lines meets both, and is closer to the second of the reference.
    pairs = pair_lines([line(0, 0, "a"), line(4, 0, "b")], [line(5, 0, "c"), line(1, 0, "d")])
    assert [pair.texts for pair in pairs] == [("a", "d"), ("b", "c")]


def test_every_line_is_in_one_pair():
    pairs = pair_lines([line(0, 0, "a"), line(0, 20, "b")], [line(0, 0, "a"), line(0, 50, "c"), line(0, 1, "d")])
    assert [pair.texts for pair in pairs] == [("a", "a"), ("b", ""), ("", "c"), ("", "d")]
    assert [pair.is_equal for pair in pairs] == [True, False, False, False]
    assert [pair.iou > 0 for pair in pairs] == [True, False, False, False]


def test_nothing_on_both_sides_has_no_pairs():
    assert pair_lines([], []) == ()


@pytest.mark.parametrize(
    ("a", "b", "similarity"),
    [
        ("", "", 1),
        ("abc", "abc", 1),
        ("abc", "", 0),
        ("abc", "abd", 2 / 3),
        ("ab", "ba", 0),
        ("日期", "日期 DATE", 2 / 7),
    ],
)
def test_similarity(a, b, similarity):
    assert measure_similarity(a, b) == pytest.approx(similarity)
    assert measure_similarity(b, a) == pytest.approx(similarity)


# --- truth


def test_truth_counts_found_and_exact_lines():
    words = [
        {"poly": box(0, 0).tolist(), "text": "Ａ b"},
        {"poly": box(0, 20).tolist(), "text": "cd"},
        {"poly": box(0, 80).tolist(), "text": "gone"},
        {"poly": box(0, 60).tolist(), "text": "x", "ignore": True},
    ]
    lines = [line(0, 0, "aB"), line(1, 20, "ce"), line(0, 60, "y")]
    assert score_truth(words, lines) == Truth(wanted=3, found=2, exact=1, ned_sum=1.5)


def test_truth_without_boxes_is_searched_in_the_whole_text():
    words = [{"poly": None, "text": "world he"}, {"poly": None, "text": "missing"}]
    assert score_truth(words, [line(0, 0, "wor"), line(0, 20, "ld Here")]) == Truth(2, 1, 1, 1.0)


def test_a_line_counts_for_one_label_only():
    words = [{"poly": box(0, 0).tolist(), "text": "a"}, {"poly": box(1, 0).tolist(), "text": "a"}]
    assert score_truth(words, [line(0, 0, "a")]).found == 1


# --- figures, tolerances and the verdict


def test_equal_sides_pass():
    done = report(compare([line(0, 0, "a")], [line(0, 0, "a")]))
    assert done.passed
    assert done.figures["texts.equal_share"] == done.figures["boxes.matched_share"] == 1


@pytest.mark.parametrize(
    ("exported", "failing"),
    [
        ([line(0, 0, "b")], {"texts.equal_share", "texts.one_minus_ned"}),
        ([], {"boxes.matched_share", "texts.equal_share"}),
        ([line(0, 0, "a"), line(0, 20, "b")], {"boxes.matched_share", "texts.equal_share"}),
        ([line(1, 0, "a")], {"boxes.mean_iou"}),
    ],
)
def test_differences_fail(exported, failing):
    done = report(compare([line(0, 0, "a")], exported))
    assert not done.passed
    assert {check.name for check in done.failures} == failing


def test_a_report_without_pictures_has_not_passed():
    assert not ParityReport("b", "arm", "fp32", "v", "0", "graph", "", (), (), {}).passed


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_never_passes(value):
    checks = check_figures({"det.prob_map.max_abs_diff": value, "boxes.mean_iou": math.nan}, "fp32")
    assert [check.passed for check in checks] == [False, False]


def test_each_tolerance_is_a_bound():
    for tolerance in parity.TOLERANCES:
        for precision, limit in tolerance.values.items():
            step = 1e-6 * max(limit, 1e-3)
            off = limit + step if tolerance.limit == "at most" else limit - step
            figures = dict.fromkeys(("accuracy.lines", "boxes.count", "texts.count"), 1e9)
            assert all(check.passed for check in check_figures({**figures, tolerance.figure: limit}, precision))
            assert not all(check.passed for check in check_figures({**figures, tolerance.figure: off}, precision))


def test_tolerances_grow_with_the_loss_of_precision():
    for tolerance in parity.TOLERANCES:
        values = [tolerance.values[name] for name in ("fp32", "int16", "int8") if name in tolerance.values]
        assert values == sorted(values, reverse=tolerance.limit == "at least")
        assert tolerance.reason


def test_accuracy_may_fall_by_one_line_if_lines_are_few():
    image = compare([line(0, 0, "a")], [line(0, 0, "a")], truth=(Truth(20, 20, 20, 20.0), Truth(20, 20, 19, 19.5)))
    assert report(image, "int8").passed
    image = compare([line(0, 0, "a")], [line(0, 0, "a")], truth=(Truth(20, 20, 20, 20.0), Truth(20, 20, 18, 19.0)))
    assert [check.name for check in report(image, "int8").failures] == ["accuracy.exact_drop"]


def test_one_line_of_a_few_may_differ_if_weights_are_rounded():
    lines = [line(0, 20 * row, "a") for row in range(4)]
    image = compare(lines, [*lines[:3], line(0, 60, "ab")])
    assert report(image, "int16").figures["texts.equal_share"] < 0.995
    assert "texts.equal_share" not in {check.name for check in report(image, "int16").failures}
    assert "texts.equal_share" in {check.name for check in report(image, "fp32").failures}


@pytest.mark.parametrize("precision", ["fp32", "int16", "int8"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_lines_must_not_be_lost(precision, count):
    lines = [line(0, 20 * row, "a") for row in range(count)]
    assert not report(compare(lines, lines[1:]), precision).passed


def test_classes_are_compared_by_their_logarithms():
    a, b = np.full((1, 2, 3), 0.5, dtype=np.float32), np.full((1, 2, 3), 0.5, dtype=np.float32)
    b[0, 1, 2] = 0.5 / np.e
    a[0, 0, 0], b[0, 0, 0] = 0.0, 1e-38
    diff = compare_classes(a, b)
    np.testing.assert_allclose(diff.log_sums, [0, 0, 1], atol=1e-6)
    assert diff.steps == 2
    assert (diff + diff).steps == 4


def test_json_holds_what_was_found():
    image = compare([line(0, 0, "a"), line(0, 20, "b")], [line(0, 0, "a")], truth=(Truth(2, 2, 2, 2.0),) * 2)
    content = json.loads(json.dumps(report(image).to_json(), allow_nan=False))
    assert content["status"] == "failed"
    assert content["images"][0]["differing"] == [{"reference": "b", "exported": "", "iou": 0.0}]
    assert content["images"][0]["boxes"] == {"reference": 2, "exported": 1}
    assert content["figures"]["accuracy.lines"] == 2
    assert {"layer", "name", "passed", "detail", "value", "limit"} == set(content["checks"][0])


def test_json_has_no_infinity():
    tensors = {"det": compare_arrays(np.zeros(3), np.full(3, math.nan))}
    image = ImageParity("a.png", IMAGE, tensors, (), ())
    content = json.dumps(report(image).to_json(), allow_nan=False)
    assert '"finite": false' in content
