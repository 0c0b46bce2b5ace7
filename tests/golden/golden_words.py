"""Expected words: where the characters of lines are, and how they are grouped."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edge_ocr.core.charset import DecodedText
from edge_ocr.core.recognition import Part, join_readings
from edge_ocr.core.types import Word
from edge_ocr.core.words import LineText, Spans, find_spans, find_words, place_words

HEIGHT = 48


def describe_words(words: Sequence[Word]) -> list[dict[str, Any]]:
    """Return words as JSON values, polygons in pixels."""
    return [
        {**_describe_part(word), "characters": [_describe_part(character) for character in word.characters]}
        for word in words
    ]


def _describe_part(part: Any) -> dict[str, Any]:
    return {"text": part.text, "score": round(float(part.score), 5), "polygon": np.round(part.polygon, 2).tolist()}


def draw_line(width: int, strokes: Sequence[tuple[int, int]], ink: int = 30, paper: int = 220) -> np.ndarray:
    """Return a line with rectangles of ink from column to column."""
    line = np.full((HEIGHT, width, 3), paper, np.uint8)
    for left, right in strokes:
        line[10:38, left:right] = ink
    return line


def decode(path: Sequence[tuple[str, int, int]], steps: int) -> DecodedText:
    """Return a decoded text from its pieces and their first step and the step after the last."""
    pieces = [piece for piece, _, _ in path]
    starts, ends = (np.array([run[i] for run in path], np.int64) for i in (1, 2))
    scores = np.linspace(0.5, 1, len(path)).astype(np.float32)
    return DecodedText("".join(pieces), 0.75, pieces, scores, starts, ends, steps)


# Name, width of the input, decoded text, and the line.
_STROKES = [(10, 22), (26, 38), (70, 90), (92, 96)]
_FOUR = [("a", 1, 2), ("b ", 3, 5), ("c", 9, 11), ("d", 12, 13)]


def _make_lines() -> Iterator[tuple[str, int, DecodedText, np.ndarray]]:
    yield "strokes", 320, decode(_FOUR, 40), draw_line(110, _STROKES)
    yield "light", 320, decode(_FOUR, 40), draw_line(110, _STROKES, ink=200)
    yield "inverted", 320, decode(_FOUR, 40), draw_line(110, _STROKES, ink=250, paper=10)
    yield "no_ink", 320, decode(_FOUR, 40), draw_line(110, [])
    yield "too_faint", 320, decode(_FOUR, 40), draw_line(110, _STROKES, ink=205)
    underlined = draw_line(110, _STROKES)
    underlined[42:44] = 30
    yield "underlined", 320, decode(_FOUR, 40), underlined
    space = [("a", 1, 2), ("b", 3, 5), (" ", 6, 8), ("c", 9, 11), ("", 11, 12), ("d", 12, 13)]
    yield "space", 320, decode(space, 40), draw_line(110, _STROKES)
    yield "one", 320, decode([("W", 2, 4)], 40), draw_line(110, [(14, 40)])
    yield "far", 320, decode([("W", 5, 6)], 40), draw_line(110, [(0, 4), (30, 56), (100, 104)])
    yield "beyond", 320, decode([("a", 1, 2), ("b", 14, 16)], 40), draw_line(60, [(8, 20), (40, 59)])
    yield "nothing", 320, decode([], 40), draw_line(60, [(8, 20)])
    yield "spaces_only", 320, decode([(" ", 2, 3)], 40), draw_line(60, [(8, 20)])
    yield "touching", 320, decode([("a", 1, 3), ("b", 4, 6)], 40), draw_line(60, [(8, 52)])
    yield "odd_steps", 328, decode(_FOUR, 82), draw_line(110, _STROKES)
    random = np.random.default_rng(12)
    noisy = draw_line(110, _STROKES).astype(int) + random.integers(-25, 25, (HEIGHT, 110, 3))
    yield "noisy", 320, decode(_FOUR, 40), noisy.clip(0, 255).astype(np.uint8)


def expect_spans(made: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Yield where characters are."""
    for name, width, decoded, line in _make_lines():
        made[f"words_{name}"] = line
        yield {
            "name": f"words_{name}",
            "width": width,
            "pieces": decoded.pieces,
            "scores": decoded.scores.tolist(),
            "starts": decoded.starts.tolist(),
            "ends": decoded.ends.tolist(),
            "steps": decoded.steps,
            **describe_spans(find_spans([decoded], [line], [width])[0]),
        }


def describe_spans(spans: Spans) -> dict[str, Any]:
    return {
        "texts": spans.texts,
        "edges": np.round(spans.edges, 4).tolist(),
        "ink": list(spans.ink),
    }


def make_spans(text: str) -> Spans:
    """Return spans of 10 pixels for each character of a text, spaces included."""
    places = [i for i, character in enumerate(text) if not character.isspace()]
    starts = [0, *places[1:], len(text)] if places else [0]
    return Spans(
        [text[start:end] for start, end in itertools.pairwise(starts)],
        [0.9] * len(places),
        np.array([[10 * i, 10 * i + 8] for i in places], np.float64).reshape(-1, 2),
        (8.0 + len(text), 40.0),
    )


def expect_joined_spans() -> Iterator[dict[str, Any]]:
    """Yield the characters of lines that were cut into parts of 100 pixels."""
    for texts, before_space in (
        (("ab", "cd"), (True, False)),
        (("ab", "cd"), (False, False)),
        (("ab", "文"), (True, False)),
        (("ab", "", "c"), (True, True, False)),
        (("ab", "", "c"), (True, False, False)),
        (("ab", " ", "c"), (False, False, False)),
        (("", "ab"), (True, False)),
        (("a b", "c"), (False, False)),
        (("é", " b"), (True, False)),
        (("", ""), (True, False)),
    ):
        parts = [Part(np.zeros((HEIGHT, 100, 3), np.uint8), flag) for flag in before_space]
        joined = join_readings(parts, [LineText(text, 0.9, make_spans(text)) for text in texts])
        assert joined.spans is not None
        yield {
            "texts": texts,
            "before_space": before_space,
            "text": joined.text,
            "joined": describe_spans(joined.spans),
        }


WORD_TEXTS = (
    ("ltr", "one two, three"),
    ("ltr", "it's 3.5% (a-b)"),
    ("ltr", "文字識別"),
    ("ltr", "价格PP-OCRv4为12元，好。"),
    ("ltr", "カタカナ ひらがな ABC １２３！"),
    ("ltr", "한국어 문장"),
    ("ltr", "𠮷野家 x"),
    ("ltr", " a  b\u3000c "),
    ("ltr", ""),
    ("rtl", "abc (12)"),
    ("rtl", "ملاعلا ابحرم"),
    ("rtl", "PP-OCRv6 جمانرب"),
    ("rtl", "(ملاع) ابحرم"),
    ("rtl", "12:30 ةعاسلا"),
    ("rtl", "12  34 ةنس"),
)


def expect_words() -> Iterator[dict[str, Any]]:
    """Yield the words of texts in the order of the picture, and their polygons on an upright or vertical box."""
    boxes = (
        ([[20, 30], [220, 30], [220, 60], [20, 60]], False),
        ([[20, 30], [220, 70], [214, 100], [14, 60]], True),
        ([[30, 20], [60, 20], [60, 220], [30, 220]], False),
        ([[30, 20], [60, 24], [66, 220], [30, 215]], True),
    )
    for k, (direction, text) in enumerate(WORD_TEXTS):
        spans = make_spans(text)
        polygon, is_turned = boxes[k % len(boxes)]
        for cjk_words in ("character", "run"):
            is_rtl, reading = direction == "rtl", LineText(text, 0.9, spans, (HEIGHT, max(1, 10 * len(text))))
            found = find_words(spans, cjk_words, is_rtl)
            quad = np.array(polygon, np.float32)
            placed = place_words(reading, cjk_words, is_rtl, quad, is_turned, lambda quads: quads, with_characters=True)
            yield {
                "text": text,
                "direction": direction,
                "cjk_words": cjk_words,
                "polygon": polygon,
                "is_turned": is_turned,
                "words": [[[i, character] for i, character in word] for word in found],
                "placed": describe_words(placed),
            }
