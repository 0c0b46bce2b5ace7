"""benchmarks.languages: how texts are compared, and what is drawn."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import ImageFont

from benchmarks.languages import Count, Print, align, draw_line, draw_page, make_lines, read_sentences


@pytest.fixture
def font(tmp_path):
    path = tmp_path / "font.ttf"
    source = ImageFont.load_default(12).path
    assert isinstance(source, io.BytesIO)
    path.write_bytes(source.getvalue())
    return path


@pytest.mark.parametrize(
    ("truth", "text", "expected"),
    [
        ("a b c", "a b c", (0, 0, 0)),
        ("a b c", "ab c", (1, 1, 0)),
        ("a b c", "abc", (2, 2, 0)),
        ("ab c", "a b c", (1, 0, 1)),
        ("a b", "a-b", (1, 1, 0)),
        ("a b", "xxx", (3, 1, 0)),
        # A letter that moved, not the space.
        ("ab cd", "a bcd", (2, 0, 0)),
        ("", "a b", (3, 0, 1)),
        ("a b", "", (3, 1, 0)),
    ],
)
def test_spaces_are_counted_in_the_cheapest_alignment(truth, text, expected):
    assert align(truth, text) == expected


def test_figures_are_shares_of_lines_and_of_spaces():
    count = Count()
    count.add("a b c d", "a b c d")
    count.add("a b", "ab")
    figures = count.describe()
    assert figures == {"exact": 0.5, "1-NED": pytest.approx(1 - 1 / 6), "lost_spaces": 0.25, "extra_spaces": 0}


def test_each_language_has_forty_sentences():
    sentences = read_sentences()
    assert list(sentences) == ["en", "de", "it", "fr", "vi", "ja"]
    assert {code: len(lines) for code, lines in sentences.items()} == dict.fromkeys(sentences, 40)
    assert all(line == line.strip() and "  " not in line for lines in sentences.values() for line in lines)


def test_lines_are_pieces_of_the_sentences():
    rng = np.random.default_rng(1)
    for line in make_lines(["one two three four", "five six seven eight nine ten"], 20, rng):
        assert f" {line} " in " one two three four five six seven eight nine ten "
        assert 3 <= len(line.split(" ")) <= 9
    japanese = make_lines(["日本語" * 20], 20, rng)
    assert {8, 24} >= {min(map(len, japanese)), 8}
    assert all(8 <= len(line) <= 24 for line in japanese)


def test_gap_changes_the_width_of_spaces_only(font):
    def draw(text: str, gap: float) -> np.ndarray:
        return draw_line(text, font, Print((40, 40), gap), np.random.default_rng(3))

    whole, narrow, wide = (draw("ab cd", gap).shape for gap in (1, 0.5, 2))
    assert narrow[1] < whole[1] < wide[1]
    assert narrow[0] == whole[0] == wide[0]
    assert draw("abcd", 0.5).shape == draw("abcd", 1).shape


def test_page_has_every_line(font):
    rng = np.random.default_rng(4)
    pictures = [draw_line(text, font, Print(), rng) for text in ("one", "two")]
    page = draw_page(pictures)
    dark = (page < 128).any(axis=(1, 2))
    assert int(np.diff(dark.astype(int)).clip(0).sum()) == 2
