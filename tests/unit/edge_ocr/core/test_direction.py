"""Right-to-left text: the order of characters, and what stays left to right. tests/golden has more texts."""

from __future__ import annotations

import itertools

import pytest

from edge_ocr.core.direction import order_logically


def show(text: str) -> str:
    """Name the characters, which terminals would reorder."""
    return " ".join(f"{ord(character):x}" for character in text)


ARABIC, HEBREW = "\u0645\u0631\u062d\u0628\u0627", "\u05e9\u05dc\u05d5\u05dd"
CASES = [
    # Logical order first, then that of the picture.
    (ARABIC, ARABIC[::-1]),
    (HEBREW, HEBREW[::-1]),
    (f"{ARABIC} {ARABIC}.", f".{ARABIC[::-1]} {ARABIC[::-1]}"),
    (f"{ARABIC} 12:30", f"12:30 {ARABIC[::-1]}"),
    (f"{ARABIC} 05/12/2024 {ARABIC}", f"{ARABIC[::-1]} 05/12/2024 {ARABIC[::-1]}"),
    (f"{ARABIC} 1,234.50", f"1,234.50 {ARABIC[::-1]}"),
    (f"{ARABIC} 50%", f"50% {ARABIC[::-1]}"),
    (f"{ARABIC} 50%", f"%50 {ARABIC[::-1]}"),
    (f"{ARABIC} -5", f"-5 {ARABIC[::-1]}"),
    (f"5-{ARABIC}", f"{ARABIC[::-1]}-5"),
    (f"{ARABIC} \u0662\u0660\u0662\u0664", f"\u0662\u0660\u0662\u0664 {ARABIC[::-1]}"),
    (f"{ARABIC} \u0663\u066b\u0665", f"\u0663\u066b\u0665 {ARABIC[::-1]}"),
    (f"{ARABIC} Edge OCR 2.0 {ARABIC}", f"{ARABIC[::-1]} Edge OCR 2.0 {ARABIC[::-1]}"),
    (f"{ARABIC} 3 x 4 Größe", f"3 x 4 Größe {ARABIC[::-1]}"),
    (f"{ARABIC} a@b.org", f"a@b.org {ARABIC[::-1]}"),
    (f"({ARABIC}) [{ARABIC}] «{ARABIC}»", f"«{ARABIC[::-1]}» [{ARABIC[::-1]}] ({ARABIC[::-1]})"),
    (f"{ARABIC} f(x) = y", f"f(x) = y {ARABIC[::-1]}"),
]


@pytest.mark.parametrize(("logical", "visual"), CASES)
def test_text_gets_the_order_in_which_it_is_read(logical, visual):
    assert show(order_logically(visual)) == show(logical)


@pytest.mark.parametrize("text", ["", "abc", "12 34 (5)", "<a> [b]", "Größe 中文 «x»", "\u0662\u0663"])
def test_lines_without_right_to_left_letters_stay(text):
    assert order_logically(text) == text


def test_no_character_is_lost_or_added():
    for pieces in itertools.permutations((ARABIC, "(", "12.", " -%", "ab c", "\n𠮷", "\u0661"), 5):
        text = "".join(pieces)
        mirrored = order_logically(text).translate(str.maketrans("()", "(("))
        assert sorted(mirrored) == sorted(text), show(text)
