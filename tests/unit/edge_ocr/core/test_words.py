"""Where the characters of a line are, and how they form words. tests/golden has more lines and texts."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.render_words import render_lines
from benchmarks.words import convert_line, score_line
from edge_ocr import create_pipeline
from edge_ocr.core.charset import Charset, DecodedText
from edge_ocr.core.direction import order_logically
from edge_ocr.core.pipeline import TextReader
from edge_ocr.core.recognition import MAX_WIDTH, Part, join_readings
from edge_ocr.core.words import LineText, Spans, find_ink, find_spans, find_words, measure_ink, place_words

HEIGHT, STEP = 48, 8


def draw_line(width: int, strokes: list[tuple[int, int]]) -> np.ndarray:
    line = np.full((HEIGHT, width, 3), 220, np.uint8)
    for left, right in strokes:
        line[10:38, left:right] = 30
    return line


def decode(strokes: list[tuple[int, int]], width: int) -> DecodedText:
    """Return letters that the network finds at the steps in the middle of the strokes."""
    starts = np.array([(left + right) // 2 // STEP for left, right in strokes])
    pieces = [chr(ord("a") + i % 26) for i in range(len(strokes))]
    scores = np.full(len(strokes), 0.5, np.float32)
    return DecodedText("".join(pieces), 0.5, pieces, scores, starts, starts + 1, width // STEP)


def find_one(decoded: DecodedText, line: np.ndarray, width: int) -> Spans:
    (found,) = find_spans([decoded], [line], [width])
    return found


def make_spans(text: str) -> Spans:
    places = [i for i, letter in enumerate(text) if not letter.isspace()]
    starts = [0, *places[1:], len(text)] if places else [0]
    edges = np.array([[10.0 * i, 10.0 * i + 8] for i in places]).reshape(-1, 2)
    texts = [text[start:end] for start, end in pairwise(starts)]
    return Spans(texts, [0.5 + 0.1 * (i % 2) for i in places], edges, (12.0, 36.0))


def split(text: str, cjk_words: str = "character", is_rtl: bool = False) -> list[str]:
    return ["".join(letter for _, letter in word) for word in find_words(make_spans(text), cjk_words, is_rtl)]


@pytest.mark.parametrize("is_inverted", [False, True])
@pytest.mark.parametrize("gap", [3, 9, 30])
def test_characters_are_as_wide_as_their_ink(is_inverted, gap):
    strokes = [(12 + i * (24 + gap), 36 + i * (24 + gap)) for i in range(8)]
    line = draw_line(strokes[-1][1] + 10, strokes)
    found = find_one(decode(strokes, 640), 255 - line if is_inverted else line, 640)
    assert found.edges.tolist() == [list(stroke) for stroke in strokes]
    assert found.ink == (10, 38)
    assert found.scores == [0.5] * 8


def test_touching_characters_are_cut_between_their_steps():
    found = find_one(decode([(8, 32), (32, 56)], 320), draw_line(70, [(8, 56)]), 320)
    (left, cut), (other, right) = found.edges.tolist()
    assert (left, right) == (8, 56)
    assert cut == other == pytest.approx(32, abs=STEP)


def test_ink_far_from_a_character_is_not_part_of_it():
    found = find_one(decode([(60, 84)], 320), draw_line(200, [(0, 4), (60, 84), (150, 190)]), 320)
    assert found.edges.tolist() == [[60, 84]]


def test_a_rule_below_the_text_is_not_ink():
    strokes = [(12, 30), (40, 60)]
    line = draw_line(80, strokes)
    line[42:45] = 30
    found = find_one(decode(strokes, 320), line, 320)
    assert (found.edges.tolist(), found.ink) == ([[12, 30], [40, 60]], (10, 38))


@pytest.mark.parametrize("line", [draw_line(80, []), np.full((HEIGHT, 80, 3), 7, np.uint8)], ids=["blank", "dark"])
def test_without_ink_the_time_steps_decide(line):
    found = find_one(decode([(12, 30), (40, 60)], 320), line, 320)
    assert found.ink == (0, HEIGHT)
    assert found.edges.tolist() == [[pytest.approx(4), pytest.approx(36)], [pytest.approx(36), pytest.approx(68)]]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=12),
    st.integers(1, 400),
    st.integers(0, 2**32 - 1),
)
def test_any_path_gives_ordered_characters_inside_the_input(runs, width, seed):
    starts, ends, step = [], [], 0
    for gap, length in runs:
        starts.append(step + gap)
        ends.append(step := step + gap + length)
    steps = step + 1
    decoded = DecodedText(
        "x" * len(runs), 0.5, ["x"] * len(runs), np.full(len(runs), 0.5, np.float32), np.array(starts, int),
        np.array(ends, int), steps,
    )  # fmt: skip
    line = np.random.default_rng(seed).integers(0, 256, (HEIGHT, width, 3), np.uint8)
    found = find_one(decoded, line, 448)
    left, right = found.edges.T
    assert (left < right).all()
    assert (left >= 0).all()
    assert (right <= width).all()
    assert all(a <= b for a, b in pairwise(left.tolist()))


def test_lines_do_not_depend_on_each_other():
    strokes = [[(12, 30), (40, 60)], [], [(5, 25)], [(12, 30), (32, 60), (70, 90)], []]
    texts = [decode(line, 320) for line in strokes]
    lines = [draw_line(60 + 20 * i, line) for i, line in enumerate(strokes)]
    together = find_spans(texts, lines, [320] * 5)
    for text, line, found in zip(texts, lines, together, strict=True):
        alone = find_one(text, line, 320)
        assert (found.edges.tolist(), found.ink) == (alone.edges.tolist(), alone.ink)
    assert [len(found.texts) for found in together] == [2, 0, 1, 3, 0]
    assert find_spans([], [], []) == []


# Some are of several characters, one of none, two are spaces.
CLASSES = ("", "a", "é", "lj", "", " ", "\u3000", "字", "，", "(", "1")


@given(
    st.lists(st.integers(0, len(CLASSES) - 1), max_size=40),
    st.integers(1, 400),
    st.sampled_from([1.0, 30.0]),
    st.sampled_from(["character", "run"]),
    st.integers(0, 2**32 - 1),
)
@example(best=[1, 4, 5, 1], width=40, space_weight=1.0, cjk_words="run", seed=0)
def test_words_have_the_characters_of_the_text_and_end_at_its_spaces(best, width, space_weight, cjk_words, seed):
    random = np.random.default_rng(seed)
    probs = random.uniform(0, 0.1, (len(best), len(CLASSES))).astype(np.float32)
    probs[np.arange(len(best)), best] = random.uniform(0.2, 1, len(best))
    decoded = Charset(CLASSES).decode(probs, space_weight)
    line = random.integers(0, 256, (HEIGHT, width, 3), np.uint8)
    reading = LineText(decoded.text, decoded.score, find_spans([decoded], [line], [448])[0], (HEIGHT, width))
    quad = np.array([[0, 0], [width, 0], [width, HEIGHT], [0, HEIGHT]], np.float32)
    words = place_words(reading, cjk_words, False, quad, False, lambda quads: quads, with_characters=True)
    ends, texts = np.cumsum([len(word.text) for word in words]), decoded.text.split()
    assert "".join(word.text for word in words) == "".join(texts)
    assert "".join(letter.text for word in words for letter in word.characters) == "".join(texts)
    assert {*np.cumsum([len(text) for text in texts]).tolist()} <= {*ends.tolist()}
    for part in (part for word in words for part in (word, *word.characters)):
        assert 0 <= part.score <= 1
        assert (part.polygon >= -1e-3).all()
        assert (part.polygon <= quad[2] + 1e-3).all()


def test_ink_is_what_differs_in_any_channel():
    line = draw_line(40, [])
    line[10:20, 8:16, 1] = 20
    assert find_ink(measure_ink(line, axis=0)).tolist() == list(range(8, 16))
    assert find_ink(measure_ink(line, axis=1)).tolist() == list(range(10, 20))
    assert find_ink(measure_ink(draw_line(40, []), axis=1)).tolist() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two, three", ["one", "two,", "three"]),
        ("it's 3.5% (a-b)", ["it's", "3.5%", "(a-b)"]),
        ("价格12元，好", ["价", "格", "12", "元", "，", "好"]),
        ("PP-OCR识别", ["PP-OCR", "识", "别"]),
        ("１２ＡＢ！", ["１２ＡＢ", "！"]),
        ("カナ かな", ["カ", "ナ", "か", "な"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("𠮷x", ["𠮷", "x"]),
        ("", []),
    ],
)
def test_words_end_at_spaces_and_changes_of_script(text, words):
    assert split(text) == words


def test_chinese_can_be_words_of_several_characters():
    assert split("价格12元，好 AB 識別", "run") == ["价格", "12", "元，好", "AB", "識別"]


def test_right_to_left_words_are_in_the_order_of_reading():
    # The picture's order: `(12) abc` left of a Hebrew word.
    hebrew = "\u05e9\u05dc\u05d5\u05dd"
    assert split(f"12:30 {hebrew[::-1]}", is_rtl=True) == [hebrew, "12:30"]
    # The spaces between numbers are those of the text.
    assert split(f"12  34 {hebrew[::-1]}", is_rtl=True) == order_logically(f"12  34 {hebrew[::-1]}").split()
    spans = make_spans(f"12:30 {hebrew[::-1]}")
    (first, *_), (number, *_) = find_words(spans, "character", True)
    assert (first[0], number[0]) == (len(spans.texts) - 1, 0)


def place(text: str, polygon: list[list[int]], is_turned: bool = False, shift: float = 0.0):
    reading = LineText(text, 0.9, make_spans(text), (HEIGHT, 10 * len(text)))
    quad = np.array(polygon, np.float32)
    return place_words(reading, "character", False, quad, is_turned, lambda q: q + shift, with_characters=True)


def test_polygons_follow_the_line():
    first, second = place("ab cd", [[0, 0], [100, 0], [100, 48], [0, 48]])
    assert first.polygon.tolist() == [[0, 12], [36, 12], [36, 36], [0, 36]]
    assert second.polygon.round(4).tolist() == [[60, 12], [96, 12], [96, 36], [60, 36]]
    assert second.characters[1].polygon.round(4).tolist() == [[80, 12], [96, 12], [96, 36], [80, 36]]
    assert (first.text, first.characters[0].text, first.score) == ("ab", "a", pytest.approx(0.55))


def test_polygons_of_a_line_that_was_upside_down_begin_at_its_right():
    first, _ = place("ab cd", [[0, 0], [100, 0], [100, 48], [0, 48]], is_turned=True)
    assert first.polygon.tolist() == [[64, 12], [100, 12], [100, 36], [64, 36]]


def test_polygons_of_a_vertical_line_run_downwards():
    first, second = place("ab cd", [[10, 0], [58, 0], [58, 100], [10, 100]], shift=1.0)
    assert first.polygon.tolist() == [[23, 1], [47, 1], [47, 37], [23, 37]]
    assert second.polygon[0].round(4).tolist() == [23, 61]


def test_polygons_of_a_slanted_line_are_slanted():
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = np.array([[0, 0], [100, 0], [100, 48], [0, 48]]) @ turn + 100
    first, _ = place("ab cd", corners.tolist())
    expected = np.array([[0, 12], [36, 12], [36, 36], [0, 36]]) @ turn + 100
    assert np.abs(first.polygon - expected).max() < 1e-3


@pytest.mark.parametrize(
    ("texts", "before_space", "joined"),
    [
        (("ab", "", "cd"), (True, True, False), ["a", "b", " c", "d"]),
        (("ab", "字"), (True, False), ["a", "b", "字"]),
        (("é", " b"), (False, False), ["é", " b"]),
        (("a", " ", "b"), (False, False, False), ["a ", "b"]),
        (("", "ab"), (True, False), ["a", "b"]),
    ],
)
def test_parts_of_a_line_are_joined(texts, before_space, joined):
    parts = [Part(np.zeros((HEIGHT, 100, 3), np.uint8), flag) for flag in before_space]
    line = join_readings(parts, [LineText(text, 0.9, make_spans(text)) for text in texts])
    assert line.spans.texts == joined
    assert "".join(joined) == line.text
    lefts = [100 * k + 10 * i for k, text in enumerate(texts) for i, letter in enumerate(text) if letter.strip()]
    assert line.spans.edges[:, 0].tolist() == lefts
    assert line.spans.ink == (12, 36)


@pytest.fixture(scope="module")
def pipeline():
    return create_pipeline("OCR", overrides={"Recognition.return_words": "chars"})


def test_words_cover_rendered_glyphs(pipeline):
    picked = [picture for i, picture in enumerate(render_lines(40)) if i % 5 in (0, 1, 3)]
    scores = []
    for picture in picked:
        (result,) = pipeline.predict(picture.image)
        scores.append(score_line(picture.line, [convert_line(line.words) for line in result.reading.lines]).describe())
    assert len(scores) == 24
    assert np.mean([score["characters"]["iou"] for score in scores]) >= 0.8
    assert np.mean([score["words"]["iou"] for score in scores if score["words"]["iou"]]) >= 0.85
    assert min(score["characters"]["iou"] for score in scores) >= 0.6


def test_words_of_a_line_in_parts_are_where_they_are(pipeline):
    line = np.full((60, 5200, 3), 255, np.uint8)
    for i in range(26):
        cv2.putText(line, f"no {i:02d}", (20 + 200 * i, 42), 0, 1, 0, 2, cv2.LINE_AA)
    reader = pipeline._readers[0]
    read = reader.recognizer.recognize([line], locate=True)[0]
    assert read.size[1] > MAX_WIDTH
    quad = np.array([[0, 0], [5200, 0], [5200, 60], [0, 60]], np.float32)
    words = place_words(read, "run", False, quad, False, lambda q: q, with_characters=True)
    lefts = [letter.polygon[0, 0] for word in words for letter in word.characters if letter.text == "n"]
    assert lefts == pytest.approx([21 + 200 * i for i in range(26)], abs=4)


@pytest.mark.parametrize("turns", range(4))
def test_words_turn_with_the_page(pipeline, examples, turns):
    image = cv2.imread(str(examples / "sign.png"))
    reader: TextReader = pipeline._readers[0]
    upright = {word.text: word for line in reader.read(image).lines for word in line.words}
    turned = create_pipeline(
        "OCR", overrides={"Recognition.return_words": "words", "Pipeline.use_page_orientation": True}
    )
    (result,) = turned.predict(np.ascontiguousarray(np.rot90(image, -turns)))
    assert result["page_angle"] == 90 * turns
    height, width = result.image.shape[:2]
    matched = 0
    for line in result.reading.lines:
        for word in line.words:
            if word.text in upright:
                x, y = word.polygon.T
                back = [(x, y), (y, width - x), (width - x, height - y), (height - y, x)][turns]
                assert np.abs(np.stack(back, 1) - upright[word.text].polygon).max() < 4
                matched += 1
    assert matched >= 4
