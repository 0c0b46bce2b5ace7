"""Batching of lines, orientation, and how the stages work together; on fake engines."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ocr.config import load_config
from edge_ocr.core.charset import Charset
from edge_ocr.core.orientation import BATCH_SIZE, OrientationClassifier, turn
from edge_ocr.core.pipeline import TextReader
from edge_ocr.core.recognition import (
    MAX_WIDTH,
    Part,
    TextRecognizer,
    cut_line,
    join_readings,
    plan_batches,
    plan_width,
)
from edge_ocr.core.settings import RecognitionSettings
from edge_ocr.core.types import TextBox
from edge_ocr.core.words import LineText
from edge_ocr.errors import ModelError

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class LetterEngine:
    """Reads the brightness of a line's top left pixel as a letter, with the blue channel as its score."""

    name = "letters"

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, array: np.ndarray) -> np.ndarray:
        self.shapes.append(array.shape)
        probs = np.zeros((len(array), array.shape[3] // 8, len(LETTERS) + 1), np.float32)
        probs[:, :, 0] = 1
        for line, pixels in zip(probs, array, strict=True):
            letter = 1 + round((float(pixels[2, 0, 0]) + 1) * 127.5)
            line[0] = 0
            line[0, letter] = (float(pixels[0, 0, 0]) + 1) / 2
        return probs


def make_crop(letter: str, width: int, height: int = 48, score: int = 255) -> np.ndarray:
    crop = np.zeros((height, width, 3), np.uint8)
    crop[..., 2] = LETTERS.index(letter)
    crop[..., 0] = score
    return crop


def make_recognizer(batch_size: int = 4, text_score: float = 0.5, direction: str = "ltr") -> TextRecognizer:
    settings = RecognitionSettings(
        image_height=48,
        min_width=320,
        batch_size=batch_size,
        text_score=text_score,
        direction=direction,
        space_weight=1,
        return_words="none",
        cjk_words="character",
    )
    return TextRecognizer(LetterEngine(), Charset.fit(LETTERS, 27, "letters"), settings)


@pytest.mark.parametrize(
    ("line_width", "expected"), [(1, 320), (320, 320), (321, 384), (384, 384), (385, 448), (3200, 3200), (9000, 3200)]
)
def test_input_width_is_a_bucket_that_holds_the_line(line_width, expected):
    assert plan_width(line_width, 320) == expected


def test_readings_come_in_the_order_of_the_crops():
    widths = [900, 100, 500, 40, 330, 3000, 700, 320]
    crops = [make_crop(letter, width) for letter, width in zip("quickzap", widths, strict=True)]
    for batch_size in (1, 3, 100):
        assert "".join(line.text for line in make_recognizer(batch_size).recognize(crops)) == "quickzap"


def test_batches_hold_one_width_and_no_more_lines_than_asked_for():
    recognizer = make_recognizer(batch_size=2)
    crops = [make_crop("a", width) for width in (100, 600, 200, 610, 300)]
    recognizer.recognize(crops)
    assert sorted(recognizer.engine.shapes) == [(1, 3, 48, 320), (2, 3, 48, 320), (2, 3, 48, 640)]


class LetterStreams(LetterEngine):
    """The same as a StreamingEngine; `open` says whether inputs may still be in use."""

    open = False

    def run_each(self, arrays):
        self.open = True
        try:
            for array in arrays:
                yield self.run(array)
        finally:
            self.open = False


def test_streams_read_each_line_alone_the_widest_first():
    recognizer = make_recognizer()
    recognizer.engine = LetterStreams()
    crops = [
        make_crop(letter, width)
        for letter, width in zip("quickzap", (900, 50, 400, 999, 70, 60, 330, 800), strict=True)
    ]
    assert "".join(line.text for line in recognizer.recognize(crops)) == "quickzap"
    shapes = recognizer.engine.shapes
    assert {shape[0] for shape in shapes} == {1}
    assert [shape[3] for shape in shapes] == [1024, 960, 832, 448, 384, 320, 320, 320]
    assert recognizer.recognize([]) == []


def test_streams_are_closed_after_an_error():
    recognizer = make_recognizer()
    recognizer.engine = LetterStreams()
    run = recognizer.engine.run
    recognizer.engine.run = lambda array: run(array)[:0]
    with pytest.raises(ModelError, match="0 results for 1 lines") as raised:
        recognizer.recognize([make_crop("a", 100), make_crop("b", 100)])
    # While the error, and so the frame of the generator, is still referred to.
    assert raised.tb is not None
    assert len(recognizer.engine.shapes) == 1
    assert not recognizer.engine.open


def test_batches_have_few_sizes_and_a_bounded_area():
    widths = [192] * 7 + [640] * 3 + [1280, 3200, 3200]
    batches = plan_batches(widths, 8)
    assert [len(batch) for batch in batches] == [4, 2, 1, 2, 1, 1, 1, 1]
    assert sorted(i for batch in batches for i in batch) == list(range(len(widths)))
    assert [len(batch) for batch in plan_batches([192] * 7, 3)] == [2, 2, 2, 1]
    assert plan_batches([], 8) == []


def test_fewer_results_than_lines_are_refused():
    recognizer = make_recognizer()
    run = recognizer.engine.run
    recognizer.engine.run = lambda array: run(array)[:1]
    crops = [make_crop("a", 100), make_crop("b", 100)]
    with pytest.raises(ModelError, match="1 results for 2 lines"):
        recognizer.recognize(crops)


def test_no_crops_run_nothing():
    recognizer = make_recognizer()
    assert recognizer.recognize([]) == []
    assert recognizer.engine.shapes == []


class SideEngine:
    """A classifier that uses the red of a line's top left pixel as the probability of 180°."""

    name = "side"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def run(self, array: np.ndarray) -> np.ndarray:
        self.sizes.append(len(array))
        prob = (array[:, 2, 0, 0] + 1) / 2
        return np.stack([1 - prob, prob], axis=1)


def make_classifier() -> OrientationClassifier:
    return OrientationClassifier(SideEngine(), load_config().orientation)


def shade(red: int) -> np.ndarray:
    crop = np.zeros((20, 60, 3), np.uint8)
    crop[..., 2] = red
    return crop


def test_classifier_tells_turned_from_unsure():
    # The threshold is 0.9: above it turned, below 0.1 upright, unsure between.
    reds = [0, 250, 128, 20, 235, 255, 30, 0, 255]
    turned, unsure = make_classifier().find_turned([shade(red) for red in reds])
    assert turned == [1, 4, 5, 8]
    assert unsure == [2, 6]


def test_classifier_runs_in_batches():
    classifier = make_classifier()
    classifier.find_turned([shade(0)] * (2 * BATCH_SIZE + 1))
    assert classifier.engine.sizes == [BATCH_SIZE, BATCH_SIZE, 1]
    assert make_classifier().find_turned([]) == ([], [])


def test_turn_is_half_a_circle():
    crop = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    np.testing.assert_array_equal(turn(crop), crop[::-1, ::-1])


class FixedDetector:
    def __init__(self, *places: tuple[int, int, int, int]) -> None:
        self.boxes = [
            TextBox(np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], dtype=np.float32), 0.75)
            for x, y, w, h in places
        ]

    def detect(self, image: np.ndarray) -> list[TextBox]:
        return self.boxes


class FixedClassifier:
    def __init__(self, turned: list[int], unsure: list[int]) -> None:
        self.answer = turned, unsure

    def find_turned(self, crops: list[np.ndarray]) -> tuple[list[int], list[int]]:
        return self.answer


def make_picture(*lines: tuple[str, int, str, int]) -> np.ndarray:
    """48 px lines: letter and score at the left end, letter and score when turned at the right."""
    picture = np.zeros((48 * len(lines), 200, 3), np.uint8)
    for i, (left, left_score, right, right_score) in enumerate(lines):
        picture[48 * i : 48 * i + 48, :100] = make_crop(left, 100, score=left_score)
        picture[48 * i : 48 * i + 48, 100:] = make_crop(right, 100, score=right_score)
    return picture


def read(picture: np.ndarray, classifier: FixedClassifier | None = None, text_score: float = 0.5) -> list:
    places = [(0, y, 200, 48) for y in range(0, picture.shape[0], 48)]
    reader = TextReader(FixedDetector(*places), make_recognizer(text_score=text_score), classifier)
    return reader.read(picture).lines


def test_lines_keep_their_boxes_and_scores():
    lines = read(make_picture(("a", 255, "x", 0), ("b", 204, "x", 0)))
    assert [line.text for line in lines] == ["a", "b"]
    assert [line.rec_score for line in lines] == pytest.approx([1.0, 0.8])
    assert [line.det_score for line in lines] == [0.75, 0.75]
    assert [line.polygon[0, 1] for line in lines] == [0, 48]


def test_lines_below_the_text_score_are_left_out():
    picture = make_picture(("a", 153, "x", 0), ("b", 102, "x", 0))
    assert [line.text for line in read(picture, text_score=0.5)] == ["a"]
    assert [line.text for line in read(picture, text_score=0.3)] == ["a", "b"]
    assert read(picture, text_score=0.7) == []


def test_turned_lines_are_read_turned():
    picture = make_picture(("a", 255, "x", 255), ("b", 255, "y", 255))
    assert [line.text for line in read(picture, FixedClassifier([1], []))] == ["a", "y"]


def test_unsure_line_is_turned_only_if_that_reads_clearly_better():
    picture = make_picture(("a", 204, "x", 220), ("b", 204, "y", 255), ("c", 255, "z", 204))
    lines = read(picture, FixedClassifier([], [0, 1, 2]))
    assert [line.text for line in lines] == ["a", "y", "c"]
    assert lines[1].rec_score == pytest.approx(1.0)


def test_stages_are_timed():
    reader = TextReader(FixedDetector((0, 0, 200, 48)), make_recognizer())
    timings = reader.read(make_picture(("a", 255, "x", 0))).timings_ms
    assert list(timings) == ["detection", "crop", "recognition"]
    assert all(ms >= 0 for ms in timings.values())


def test_no_boxes_give_no_lines():
    reader = TextReader(FixedDetector(), make_recognizer(), FixedClassifier([], []))
    assert reader.read(np.zeros((9, 9, 3), np.uint8)).lines == []


# Text from right to left


class PathEngine:
    """Reads each line as the same classes."""

    name = "path"

    def __init__(self, *path: int) -> None:
        self.path = path

    def run(self, array: np.ndarray) -> np.ndarray:
        return np.repeat(np.eye(5, dtype=np.float32)[np.newaxis, self.path], len(array), axis=0)


@pytest.mark.parametrize(("direction", "text"), [("ltr", "12 \u0628\u0627"), ("rtl", "\u0627\u0628 12")])
def test_characters_come_in_the_order_in_which_they_are_read(direction, text):
    settings = make_recognizer(direction=direction).settings
    charset = Charset(("", "\u0627", "\u0628", "1", "2 "))
    reader = TextRecognizer(PathEngine(3, 4, 2, 0, 1), charset, settings)
    (line,) = reader.recognize([make_crop("a", 100)])
    assert (line.text, line.score, line.spans) == (text, 1.0, None)


@pytest.mark.parametrize(("direction", "order"), [("ltr", "abcd"), ("rtl", "badc")])
def test_rows_run_in_the_direction_of_the_text(direction, order):
    places = [(0, 0, 200, 48), (300, 2, 200, 48), (0, 100, 200, 48), (300, 102, 200, 48)]
    picture = np.zeros((150, 500, 3), np.uint8)
    for letter, (x, y, width, height) in zip("abcd", places, strict=True):
        picture[y : y + height, x : x + width] = make_crop(letter, width, height)
    reader = TextReader(FixedDetector(*places), make_recognizer(direction=direction))
    assert "".join(line.text for line in reader.read(picture).lines) == order


# Lines that are too wide


def draw_line(width: int, gaps: list[tuple[int, int]]) -> np.ndarray:
    """A line of 48 rows full of ink except for the gaps (start and width)."""
    line = np.full((48, width, 3), 255, np.uint8)
    line[8:40] = 0
    for start, size in gaps:
        line[:, start : start + size] = 255
    return line


def test_lines_that_fit_are_not_cut():
    line = draw_line(MAX_WIDTH, [(1600, 40)])
    (part,) = cut_line(line)
    assert part.line is line


def test_lines_are_cut_at_their_widest_gap():
    # Three parts, near 2333 and 4667.
    line = draw_line(7000, [(2200, 4), (2500, 12), (2600, 6), (4800, 6), (4667, 3)])
    parts = cut_line(line)
    assert [part.line.shape[1] for part in parts] == [2506, 4803 - 2506, 7000 - 4803]
    assert np.array_equal(np.hstack([part.line for part in parts]), line)
    # 12 columns of 48 rows are a space, 6 are none.
    assert [part.before_space for part in parts] == [True, False, False]
    # Noise does not count as ink.
    noisy = np.clip(line.astype(int) + np.random.default_rng(1).integers(-9, 1, line.shape), 0, 255).astype(np.uint8)
    assert [part.line.shape[1] for part in cut_line(noisy)] == [part.line.shape[1] for part in parts]


def test_parts_are_joined_into_one_line():
    def join(*pieces: tuple[str, float, bool]) -> tuple[str, float]:
        parts = [Part(draw_line(9, []), before_space) for _, _, before_space in pieces]
        joined = join_readings(parts, [LineText(text, score) for text, score, _ in pieces])
        return joined.text, joined.score

    text, score = join(("one", 1.0, True), ("seven", 0.5, False))
    assert (text, score) == ("one seven", pytest.approx((3 * 1 + 5 * 0.5) / 8))
    assert join(("字", 1.0, True), ("one", 1.0, False))[0] == "字one"
    assert join(("one ", 1.0, True), ("two", 1.0, False))[0] == "one two"
    assert join(("", 0.0, True), ("two", 0.5, True), ("", 0.0, False)) == ("two", 0.5)
    assert join(("", 0.0, True), ("", 0.0, False)) == ("", 0.0)


def test_a_long_line_is_read_in_parts():
    recognizer = make_recognizer()
    # The engine reads the first pixel of each part.
    letters = [np.hstack([make_crop(letter, 2200), make_crop("z", 100)]) for letter in "abc"]
    for letter in letters:
        letter[20, :2200:2] = 200
    short = make_crop("z", 400)
    long, other = recognizer.recognize([np.hstack(letters), short])
    assert (len(long.text.replace(" ", "")), long.text[0], other.text) == (3, "a", "z")
    assert long.score == pytest.approx(1.0)
    assert all(shape[3] <= MAX_WIDTH for shape in recognizer.engine.shapes)
