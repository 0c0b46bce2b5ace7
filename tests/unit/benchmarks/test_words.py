"""benchmarks.words: where rendered characters are, and how boxes are compared."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("pylopdf_fonts_zh_cn", reason="needs the fonts of the extra `fonts`")

from benchmarks.render_words import Part, render_lines, save_pictures, split_words
from benchmarks.words import Boxes, FoundLine, align, measure_iou, score_line, score_lines


@pytest.fixture(scope="module")
def pictures():
    return list(render_lines(6))


def whole(line):
    return [FoundLine(line.characters, line.words)]


def shift(parts, distance):
    return [replace(part, polygon=part.polygon + np.float32(distance)) for part in parts]


def find_ink(image):
    """Return how far each pixel is from the paper, of which the corner is a sample."""
    grey = image.astype(float).mean(axis=2)
    return np.abs(grey - np.median(grey[:8, :8]))


def test_boxes_of_characters_contain_the_ink(pictures):
    for picture in pictures:
        ink = find_ink(picture.image)
        # Half of the ink's colour is where the edge of a letter is; noise is far weaker.
        strong = ink > 0.5 * np.percentile(ink, 99.8)
        inside = np.zeros(strong.shape, np.uint8)
        for part in picture.line.characters:
            cv2.fillConvexPoly(inside, np.rint(part.polygon).astype(np.int32), 1)
        assert strong.sum() > 100
        # Corners are rounded here.
        assert not strong[cv2.dilate(inside, np.ones((3, 3), np.uint8)) == 0].any()


def test_boxes_of_characters_touch_ink_on_both_sides(pictures):
    for picture in pictures:
        line, ink = picture.line, find_ink(picture.image)
        along = np.array(line.direction)
        strong = ink > 0.4 * np.percentile(ink, 99.8)
        ys, xs = np.nonzero(strong)
        places = np.column_stack([xs + 0.5, ys + 0.5]) @ along
        ends = [part.polygon @ along for part in (line.characters[0], line.characters[-1])]
        assert places.min() == pytest.approx(ends[0].min(), abs=1.5)
        assert places.max() == pytest.approx(ends[1].max(), abs=1.5)


def test_lines_are_the_same_each_time_and_of_all_groups(pictures):
    again = list(render_lines(6))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(pictures, again, strict=True))
    assert {"turned", "slanted", "latin", "chinese"} >= {picture.line.group for picture in pictures[:6]}
    down = pictures[0].line
    assert down.direction == pytest.approx((0, 1), abs=1e-6)
    assert down.characters[0].polygon[0, 1] < down.characters[-1].polygon[0, 1]
    # Top left is above and to the left, whichever way the text reads.
    for part in down.words:
        assert part.polygon[0] == pytest.approx(part.polygon.min(axis=0))
        assert part.polygon[2] == pytest.approx(part.polygon.max(axis=0))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ab, c", ["ab,", "c"]),
        ("第3章 Wi-Fi，好", ["第", "3", "章", "Wi-Fi", "，", "好"]),
        ("$1,234.50", ["$1,234.50"]),
    ],
)
def test_words(text, words):
    assert [text[word.start : word.stop] for word in split_words(text)] == words


def test_truth_scores_one_and_a_shift_scores_less(pictures):
    for picture in pictures:
        line = picture.line
        score = score_line(line, whole(line))
        for boxes in (score.characters, score.words, score.joined):
            figures = boxes.describe()
            assert figures["read"] == 1
            assert figures["iou"] == pytest.approx(1, abs=1e-3)
            assert figures["along"] == pytest.approx(1, abs=1e-6)
        distance = np.array(line.direction) * 0.1 * line.em
        moved = score_line(line, [FoundLine(shift(line.characters, distance), shift(line.words, distance))])
        figures = moved.characters.describe()
        assert figures["iou"] < 0.95
        assert (figures["left"], figures["right"]) == pytest.approx((0.1, 0.1), abs=1e-3)
        assert moved.words.describe()["iou"] < 1


def test_missing_and_misread_characters_do_not_count_in_means(pictures):
    line = pictures[2].line
    first, *rest = line.characters
    for characters in (rest, [Part("#", first.polygon + 500), *rest]):
        figures = score_line(line, [FoundLine(characters, ())]).characters.describe()
        assert figures["read"] == pytest.approx(len(rest) / len(line.characters))
        assert figures["iou"] == pytest.approx(1, abs=1e-3)
    nothing = score_lines([line], [[]])["all"].describe()
    assert nothing["words"]["read"] == 0
    assert nothing["words"]["iou"] is None


def test_a_word_in_parts_is_joined_but_does_not_match(pictures):
    line = pictures[2].line
    score = score_line(line, [FoundLine((), line.characters)])
    assert score.words.describe()["read"] < 1
    assert score.joined.describe()["read"] == 1
    assert score.joined.describe()["iou"] == pytest.approx(1, abs=1e-3)
    merged = Part("".join(part.text for part in line.characters), line.words[0].polygon)
    assert score_line(line, [FoundLine((), [merged])]).joined.describe()["read"] == 0


def test_parts_of_a_line_are_read_in_its_direction(pictures):
    line = pictures[1].line
    parts = [FoundLine([part], [part]) for part in line.characters]
    assert score_line(line, parts[::-1]).characters.describe()["read"] == 1


def test_align():
    assert align("abcd", "axcd") == [0, None, 2, 3]
    assert align("abc", "bc") == [None, 0, 1]
    assert align("bc", "abc") == [1, 2]
    assert align("a", "") == [None]


def test_iou_of_polygons():
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]], np.float32)
    assert measure_iou(square, square[::-1]) == pytest.approx(1)
    assert measure_iou(square, square + np.float32([1, 0])) == pytest.approx(1 / 3)
    assert measure_iou(square, square + np.float32([5, 0])) == 0
    assert measure_iou(square, np.zeros((4, 2), np.float32)) == 0
    assert Boxes(2).describe()["iou"] is None


def test_saved_pictures_have_their_truth(pictures, tmp_path):
    save_pictures(pictures[:2], tmp_path)
    rows = [json.loads(row) for row in (tmp_path / "truth.jsonl").read_text(encoding="utf-8").splitlines()]
    assert np.array_equal(cv2.imread(str(tmp_path / "001.png")), pictures[1].image)
    assert "".join(text for text, _ in rows[1]["chars"]) == pictures[1].line.text.replace(" ", "")
