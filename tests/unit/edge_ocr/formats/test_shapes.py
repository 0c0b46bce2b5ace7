"""Words with the spaces between them, and the direction of lines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.readings import make_box, make_line

from edge_ocr.core.types import Word
from edge_ocr.formats.shapes import bound, find_baseline, find_turns, is_level, lay, list_words, measure_angle


def test_spaces_are_those_of_the_text():
    line = replace(make_line(["山", "茶", "OPEN", "10:00"], 0, 0), text="山茶OPEN 10:00")
    assert [(word.text, space) for word, space in list_words(line)] == [
        ("山", False),
        ("茶", False),
        ("OPEN", True),
        ("10:00", False),
    ]


def test_word_that_is_not_in_the_text_stays_apart():
    line = replace(make_line(["ab", "cd"], 0, 0), text="abXX")
    assert [space for _, space in list_words(line)] == [True, False]


@pytest.mark.parametrize("words", [None, ()])
def test_line_without_words_is_one_word(words):
    line = replace(make_line(["two", "words"], 0, 0), words=words)
    assert list_words(line) == [(Word("two words", line.rec_score, line.polygon, ()), False)]


@pytest.mark.parametrize("turns", range(4))
def test_direction_is_that_of_the_characters(turns):
    line = make_line(["turned"], 500, 500, angle=90 * turns, turns=turns)
    assert find_turns(line) == turns
    laid = lay(line.polygon, turns)
    assert np.allclose(laid[0], [500, 500])
    assert measure_angle(laid) % 360 == pytest.approx(90 * turns, abs=0.01)


def test_right_to_left_text_is_not_upside_down():
    line = make_line(["abc", "def"], 0, 0)
    hebrew = tuple(replace(word, text="שלום", characters=()) for word in reversed(line.words))
    assert find_turns(replace(line, text="שלום שלום", words=hebrew)) == 0
    assert find_turns(replace(line, text="latin text", words=hebrew)) == 2


def test_tall_line_without_words_reads_downwards():
    assert find_turns(make_box("竖排", 0, 0, 30, 90)) == 1
    assert find_turns(make_box("横", 0, 0, 30, 30)) == 0


def test_baseline_is_a_fifth_above_the_lower_edge():
    assert find_baseline(make_box("g", 10, 20, 100, 50).polygon) == ((10, 60), (110, 60))


def test_boxes_end_at_the_picture():
    assert bound([make_box("a", -5, 10.4, 50, 200).polygon], (100, 40)) == (0, 10, 40, 100)


def test_only_upright_rectangles_are_level():
    assert is_level(make_box("a", 0, 0, 100).polygon)
    assert not is_level(make_line(["slanted"], 0, 0, angle=2).polygon)
