"""Dictionaries against class counts; CTC decoding."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edge_ocr.core.charset import BLANK_INDEX, Charset
from edge_ocr.errors import ModelError


def make_probs(*steps: tuple[int, float], classes: int = 5) -> np.ndarray:
    probs = np.zeros((len(steps), classes), np.float32)
    for step, (index, prob) in enumerate(steps):
        probs[step] = (1 - prob) / (classes - 1)
        probs[step, index] = prob
    return probs


def test_space_is_added_if_the_model_has_one_class_more():
    assert Charset.fit("ab", 4, "m").classes == ("", "a", "b", " ")
    assert Charset.fit("ab", 3, "m").classes == ("", "a", "b")


def test_blank_is_the_first_class():
    assert Charset.fit("ab", 3, "m").classes[BLANK_INDEX] == ""


def test_empty_entries_and_repeats_are_classes():
    charset = Charset.fit(["a", "", "b", "a"], 5, "m")
    assert charset.classes == ("", "a", "", "b", "a")
    # An empty class separates two equal characters, as the blank does.
    assert charset.decode(make_probs(*[(i, 0.9) for i in (1, 2, 1, 4, 3)])).text == "aaab"
    assert Charset.fit(["a", "", "b", "a"], 6, "m").classes == ("", "a", "", "b", "a", " ")


@pytest.mark.parametrize(
    ("dictionary", "class_count", "classes"),
    [
        (["a", "b", ""], 3, ("", "a", "b")),
        # Both fit: "" for the last class, or a space. Losing a space is worse.
        (["a", "b", ""], 4, ("", "a", "b", " ")),
        (["a", "b", ""], 5, ("", "a", "b", "", " ")),
        (["a", "", "b", "", "", ""], 4, ("", "a", "", "b")),
        (["a", "", "b", "", "", ""], 5, ("", "a", "", "b", " ")),
        (["a", "", "b", "", "", ""], 7, ("", "a", "", "b", "", "", "")),
        (["a", "", "b", "", "", ""], 8, ("", "a", "", "b", "", "", "", " ")),
    ],
)
def test_empty_entries_at_the_end_are_classes_if_the_count_fits(dictionary, class_count, classes):
    assert Charset.fit(dictionary, class_count, "m").classes == classes


@pytest.mark.parametrize("class_count", [3, 6, 9])
def test_unfit_dictionary_with_empty_entries_is_refused_with_every_number(class_count):
    with pytest.raises(ModelError) as error:
        Charset.fit(["a", "", "b", "", "", ""], class_count, "my_rec")
    assert re.findall(r"\d+", error.value.message) == ["6", "7", "8", "4", "5", "3", str(class_count)]
    assert "my_rec" in error.value.message


@pytest.mark.parametrize("class_count", [2, 5, 6625])
def test_unfit_dictionary_is_refused_with_both_numbers(class_count):
    with pytest.raises(ModelError) as error:
        Charset.fit("ab", class_count, "my_rec")
    assert re.findall(r"\d+", error.value.message) == ["2", "3", "4", str(class_count)]
    assert "my_rec" in error.value.message
    assert "character_dict_path" in error.value.hint


@pytest.mark.parametrize(
    ("indexes", "text"),
    [
        ([1, 2, 3], "abc"),
        ([1, 1, 2, 2, 2], "ab"),
        ([1, 0, 1], "aa"),
        ([0, 1, 1, 0, 0, 1, 2, 0], "aab"),
        ([1, 2, 1], "aba"),
        ([1, 4, 1], "a a"),
        ([0, 0, 0], ""),
        ([0], ""),
        ([3], "c"),
    ],
)
def test_decoding_drops_repeats_then_blanks(indexes, text):
    charset = Charset.fit("abc", 5, "m")
    assert charset.decode(make_probs(*[(i, 0.9) for i in indexes])).text == text


def test_score_is_the_mean_of_what_is_kept():
    charset = Charset.fit("abc", 5, "m")
    # The repeat (0.5) and the blanks (0.99) do not count.
    decoded = charset.decode(make_probs((0, 0.99), (1, 0.8), (1, 0.5), (0, 0.99), (2, 0.6)))
    assert (decoded.text, decoded.pieces) == ("ab", ["a", "b"])
    assert decoded.score == pytest.approx(0.7, abs=1e-6)
    assert type(decoded.score) is float


def test_decoded_text_has_the_steps_of_its_characters():
    charset = Charset.fit("abc", 5, "m")
    decoded = charset.decode(make_probs(*[(i, 0.9 - 0.1 * k) for k, i in enumerate((1, 1, 0, 2, 2, 2, 3))]))
    assert (decoded.starts.tolist(), decoded.ends.tolist(), decoded.steps) == ([0, 3, 6], [2, 6, 7], 7)
    assert decoded.scores == pytest.approx([0.9, 0.6, 0.3])


def test_empty_text_scores_zero():
    decoded = Charset.fit("abc", 5, "m").decode(make_probs((0, 0.9)))
    assert (decoded.text, decoded.score, decoded.pieces) == ("", 0.0, [])


@pytest.mark.parametrize(("weight", "text"), [(1, "ab"), (4, "ab"), (7, "a b"), (1000, "a b")])
def test_a_space_that_is_less_probable_than_the_blank_may_count(weight, text):
    charset = Charset.fit("abc", 5, "m")
    probs = make_probs((1, 0.9), (0, 0.8), (0, 0.99), (2, 0.9))
    probs[1, 4] = 0.15
    decoded = charset.decode(probs, weight)
    assert decoded.text == text
    # The space does not count.
    assert decoded.score == pytest.approx(0.9)


# In `steps`, "-" is a blank that the weight makes a space, and "." one that stays a blank.
@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ("a-b", "a b"),
        ("a-.-b", "a b"),
        ("a-a", "a a"),
        ("-a", "a"),
        (".-.a", "a"),
        ("a-", "a"),
        ("a.-.", "a"),
        ("--", ""),
        ("a -b", "a b"),
        ("a- b", "a b"),
        ("a.-. .-.b", "a b"),
        ("a -. b", "a  b"),
        ("- a -", " a "),
        ("a-\u3000b", "a\u3000b"),
    ],
)
def test_a_space_counts_only_between_two_characters(steps, text):
    charset = Charset.fit("ab\u3000", 5, "m")
    indexes = [charset.classes.index(step) if step not in ".-" else BLANK_INDEX for step in steps]
    probs = make_probs(*[(index, 0.6 + 0.03 * i) for i, index in enumerate(indexes)])
    probs[[i for i, step in enumerate(steps) if step == "-"], 4] = 0.3
    decoded = charset.decode(probs, 5)
    assert decoded.text == text
    assert decoded.score == charset.decode(probs).score


def test_a_space_never_replaces_a_character():
    charset = Charset.fit("abc", 5, "m")
    probs = make_probs((1, 0.5), (2, 0.4))
    probs[:, 4] = 0.3
    assert charset.decode(probs, 1000).text == "ab"


def test_charset_without_a_space_ignores_its_weight():
    probs = make_probs((1, 0.9), (0, 0.5), (3, 0.9), classes=4)
    assert Charset.fit("abc", 4, "m").decode(probs, 1000).text == "ac"


def test_decoding_does_not_change_the_probs():
    probs = make_probs((1, 0.8), (1, 0.5), (0, 0.9))
    before = probs.copy()
    Charset.fit("abc", 5, "m").decode(probs)
    np.testing.assert_array_equal(probs, before)


def test_scores_do_not_exceed_one():
    probs = np.array([[0, np.nextafter(np.float32(1), np.float32(2))]] * 3, np.float32)
    decoded = Charset(("", "a")).decode(probs)
    assert (decoded.score, decoded.scores.tolist()) == (1, [1])
