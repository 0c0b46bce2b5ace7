"""Drawing of results, judged by the changed pixels."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont

from edge_ocr import drawing
from edge_ocr.core.types import Character, Reading, TextLine, Word
from edge_ocr.drawing import MAX_HALF_SIDE, draw_boxes, draw_result, find_font, trace_words
from edge_ocr.errors import ConfigError, InputError

GREY = 90
DARK = 60  # on the panel, letters at score 1 are darker, boxes and paper are not


@pytest.fixture(autouse=True)
def _fresh_search(monkeypatch):
    """No font chosen in the environment, nothing found or warned about by an earlier test."""
    monkeypatch.delenv("EDGE_OCR_FONT", raising=False)
    searches = (drawing._find_installed_font, drawing._list_other_fonts, drawing._warn_no_font)
    for search in searches:
        search.cache_clear()
    yield
    # A test may have replaced them.
    for search in searches:
        search.cache_clear()


@pytest.fixture
def chinese_font() -> Path:
    fonts = pytest.importorskip("pylopdf_fonts_zh_cn", reason="needs the package pylopdf-fonts-zh-cn")
    return fonts.sans_path()


@pytest.fixture
def latin_font(tmp_path) -> Path:
    """Pillow's own font as a file; it has no Chinese."""
    source = ImageFont.load_default(12).path
    assert isinstance(source, io.BytesIO)
    path = tmp_path / "latin.ttf"
    path.write_bytes(source.getvalue())
    return path


@pytest.fixture
def bare_machine(monkeypatch, tmp_path) -> Path:
    """A machine without fonts; returns its only font folder, empty, and the only folder of its PATH."""
    folder = tmp_path / "fonts"
    programs = tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    monkeypatch.setattr(drawing, "_list_font_folders", lambda: [folder])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(programs))
    return folder


def make_image(height=200, width=300):
    return np.full((height, width, 3), GREY, np.uint8)


def make_box(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


def split(drawn):
    width = drawn.shape[1] // 2
    return drawn[:, :width], drawn[:, width:]


def cut(half, x0, y0, x1, y1):
    return half[y0:y1, x0:x1]


def find_ink(panel):
    return np.argwhere(panel.max(axis=2) < DARK)


# --- What is drawn ---


def test_output_is_the_picture_and_a_panel_of_its_size():
    image = make_image()
    before = image.copy()
    drawn = draw_result(image, [make_box(20, 30, 200, 70)], ["hello"], [0.9])
    assert drawn.shape == (200, 600, 3)
    assert drawn.dtype == np.uint8
    assert np.array_equal(image, before)


def test_only_the_boxes_change():
    drawn = draw_result(make_image(), [make_box(20, 30, 200, 70)], ["hello"], [0.9])
    left, right = (half.copy() for half in split(drawn))
    for half, background in ((left, GREY), (right, 255)):
        assert (cut(half, 25, 35, 195, 65) != background).any(axis=2).mean() > 0.95
        half[28:73, 18:203] = background
        assert (half == background).all()


def test_box_has_the_same_colour_on_both_halves_and_another_than_its_neighbour():
    boxes = [make_box(20, 20, 120, 50), make_box(20, 90, 120, 120)]
    left, right = split(draw_result(make_image(), boxes, ["", ""], [1, 1]))
    assert left[20, 60].tolist() == right[20, 60].tolist()
    assert left[90, 60].tolist() == right[90, 60].tolist()
    assert left[20, 60].tolist() != left[90, 60].tolist()


def test_picture_stays_readable_under_a_box():
    image = make_image()
    image[40:60, 100:110] = 255
    left, _ = split(draw_result(image, [make_box(20, 30, 200, 70)], ["I"], [1]))
    assert int(left[50, 105].sum()) > int(left[50, 90].sum()) + 250


@pytest.mark.parametrize("text", ["Hi", "a text that is much too long for its box " * 2, "gjpqy|ÅÉ", "中文识别结果"])
def test_text_stays_inside_its_box(text, chinese_font, monkeypatch):
    monkeypatch.setattr(drawing, "find_font", lambda: chinese_font)
    box = [make_box(40, 60, 240, 100)]
    with_text, without = (draw_result(make_image(), box, [drawn], [1]) for drawn in (text, ""))
    ink = np.argwhere((with_text[:, 300:] != without[:, 300:]).any(axis=2))
    (top, left), (bottom, end) = ink.min(axis=0), ink.max(axis=0)
    assert top >= 60
    assert bottom <= 100
    assert left >= 40
    assert end <= 240


def test_text_fills_its_box(chinese_font, monkeypatch):
    monkeypatch.setattr(drawing, "find_font", lambda: chinese_font)
    _, right = split(draw_result(make_image(), [make_box(40, 60, 240, 100)], ["国国国国"], [1]))
    ink = find_ink(right)
    height, width = ink.max(axis=0) - ink.min(axis=0)
    assert height > 0.65 * 40
    assert width > 0.55 * 200


def test_small_mark_does_not_grow_to_the_height_of_its_box():
    _, right = split(draw_result(make_image(), [make_box(40, 60, 240, 100)], ["."], [1]))
    ink = find_ink(right)
    assert len(ink)
    assert np.ptp(ink[:, 0]) < 12


def test_text_in_a_tall_box_reads_downwards():
    _, right = split(draw_result(make_image(), [make_box(40, 10, 70, 190)], ["MMM..........."], [1]))
    rows, columns = find_ink(right).T
    assert np.ptp(rows) > 3 * np.ptp(columns)
    assert (rows < 70).sum() > 3 * (rows > 130).sum() > 0


def test_text_follows_a_slanted_box():
    slanted = np.array([[40, 40], [240, 120], [230, 150], [30, 70]], np.float32)
    _, right = split(draw_result(make_image(), [slanted], ["MMMMMMMMMM"], [1]))
    rows, columns = find_ink(right).T
    slope = np.polyfit(columns, rows, 1)[0]
    assert slope == pytest.approx(80 / 200, abs=0.06)


def test_low_score_is_paler():
    darkest = []
    for score in (1.0, 0.5, 0.0):
        _, right = split(draw_result(make_image(), [make_box(40, 60, 240, 100)], ["MMMM"], [score]))
        darkest.append(int(right.max(axis=2).min()))
    assert darkest[0] < darkest[1] < darkest[2] < 200


@pytest.mark.parametrize(("score", "same_as"), [(7.0, 1.0), (-1.0, 0.0), (float("nan"), 0.0)])
def test_score_out_of_range_is_drawn_as_the_nearest(score, same_as):
    box = [make_box(40, 60, 240, 100)]
    assert np.array_equal(
        draw_result(make_image(), box, ["text"], [score]), draw_result(make_image(), box, ["text"], [same_as])
    )


# --- Words ---


def make_words(*boxes, downwards=False):
    """A reading of one line; each word has two characters, halves of its box, in the direction of the line."""
    words = []
    for x0, y0, x1, y1 in boxes:
        middle = (y0 + y1) / 2 if downwards else (x0 + x1) / 2
        halves = (
            ((x0, y0, x1, middle), (x0, middle, x1, y1)) if downwards else ((x0, y0, middle, y1), (middle, y0, x1, y1))
        )
        characters = tuple(Character("x", 0.5, make_box(*half)) for half in halves)
        words.append(Word("xx", 0.5, make_box(x0, y0, x1, y1), characters))
    line = TextLine(make_box(20, 30, 200, 120), 0.5, "xx xx", 0.5, tuple(words))
    return Reading([line], {}, return_words="chars")


def test_words_are_outlined_in_the_colour_of_their_line():
    words = make_words((30, 50, 80, 100), (100, 50, 180, 100))
    strokes = trace_words(replace(words, return_words="words"))
    assert [len(line) for line in strokes] == [2]
    before, after = (draw_boxes(make_image(), [words.lines[0].polygon], drawn) for drawn in ([], strokes))
    changed = (before != after).any(axis=2)
    assert changed[50, 30:81].all()
    assert changed[100, 100:181].all()
    assert changed[50:101, 80].all()
    assert not changed[52:98, 33:78].any()
    assert not changed[:, 84:96].any()
    # A mixture of the line's colour, red, and the grey below.
    blue, green, red = after[75, 30]
    assert red > GREY > max(blue, green)
    result, panel = split(draw_result(make_image(), [words.lines[0].polygon], ["xx xx"], [0.5], strokes))
    plain, same_panel = split(draw_result(make_image(), [words.lines[0].polygon], ["xx xx"], [0.5]))
    assert ((result != plain).any(axis=2) == changed).all()
    assert (panel == same_panel).all()


@pytest.mark.parametrize("downwards", [False, True])
def test_characters_are_parted_in_the_direction_of_the_line(downwards):
    reading = make_words((40, 40, 100, 100), downwards=downwards)
    (strokes,) = trace_words(reading)
    outline, border = strokes
    assert outline.tolist() == make_box(40, 40, 100, 100).tolist()
    assert sorted(border.tolist()) == ([[40, 70], [100, 70]] if downwards else [[70, 40], [70, 100]])


def test_reading_without_words_has_no_strokes():
    line = TextLine(make_box(20, 30, 200, 120), 0.5, "xx", 0.5)
    assert trace_words(Reading([line], {})) == [[]]
    image = make_image()
    assert (draw_boxes(image, [line.polygon], [[]]) == draw_boxes(image, [line.polygon])).all()


def test_words_of_a_reduced_picture_are_in_their_place():
    strokes = [[make_box(2100, 120, 2900, 280)]]
    polygons = [make_box(2000, 100, 3000, 300)]
    plain = draw_result(make_image(400, 4000), polygons, [""], [1])
    drawn = draw_result(make_image(400, 4000), polygons, [""], [1], strokes)
    rows, columns = np.nonzero((plain != drawn).any(axis=2))
    assert (rows.min(), rows.max()) == pytest.approx((60, 140), abs=2)
    assert (columns.min(), columns.max()) == pytest.approx((1050, 1450), abs=2)


def test_words_far_outside_the_picture_are_clipped():
    draw_boxes(make_image(), [make_box(0, 0, 9, 9)], [[make_box(-1e9, -1e9, 1e9, 1e9)]])


# --- Odd input ---


def test_no_lines_leave_the_picture_and_a_white_panel():
    left, right = split(draw_result(make_image(), [], [], []))
    assert (left == GREY).all()
    assert (right == 255).all()


def test_one_pixel():
    drawn = draw_result(make_image(1, 1), [make_box(0, 0, 1, 1)], ["a"], [1])
    assert drawn.shape == (1, 2, 3)


@pytest.mark.parametrize("tag_numbers", [False, True])
@pytest.mark.parametrize(
    "polygon",
    [
        make_box(-50, -20, 80, 40),
        make_box(250, 170, 420, 260),
        make_box(0, 0, 299, 199),
        make_box(0, 0, 300, 200),
        make_box(-500, -500, -400, -450),
        make_box(900, 900, 1000, 950),
        make_box(-1e7, -1e7, 1e7, 1e7),
        make_box(-1e38, -1e38, 1e38, 1e38),
        make_box(50, 50, 50, 50),
        make_box(50, 50, 51, 51),
        make_box(20, 50, 200, 50),
        np.array([[10, 10], [50, 50], [90, 90], [10, 90]]),
        np.array([[10, 10], [90, 90], [90, 10], [10, 90]]),
        np.array([[10, 10], [20, 20], [30, 30], [40, 40]]),
        [[10, 10], [60, 10], [60, 30], [10, 30]],
    ],
)
def test_any_box_is_drawn(polygon, tag_numbers, monkeypatch):
    if tag_numbers:
        monkeypatch.setattr(drawing, "find_font", lambda: None)
    drawn = draw_result(make_image(), [polygon], ["text"], [0.5])
    assert drawn.shape == (200, 600, 3)


def test_part_of_a_box_over_the_border_is_drawn():
    left, right = split(draw_result(make_image(), [make_box(-50, -20, 80, 40)], ["MMMMMM"], [1]))
    assert (cut(left, 0, 0, 78, 38) != GREY).any(axis=2).all()
    assert len(find_ink(cut(right, 0, 0, 80, 40)))


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\x00\x1b", "\ud800"])
def test_text_without_a_letter_leaves_an_empty_box(text):
    _, right = split(draw_result(make_image(), [make_box(40, 60, 240, 100)], [text], [1]))
    assert len(find_ink(right)) == 0
    assert (cut(right, 60, 70, 200, 90) != 255).any()


@pytest.mark.parametrize("text", ["two\nlines", "two\r\nlines", "two\tlines", "\x07two\x00 lines\n"])
def test_control_characters_are_drawn_as_spaces(text):
    box = [make_box(40, 60, 240, 100)]
    assert np.array_equal(
        draw_result(make_image(), box, [text], [1]), draw_result(make_image(), box, ["two lines"], [1])
    )


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((40, MAX_HALF_SIDE), (40, 2 * MAX_HALF_SIDE)),
        ((84, 4200), (40, 2 * MAX_HALF_SIDE)),
        ((4200, 84), (MAX_HALF_SIDE, 80)),
        ((1, 9000), (1, 2 * MAX_HALF_SIDE)),
    ],
)
def test_long_side_of_a_half_is_limited(size, expected):
    assert draw_result(make_image(*size), [], [], []).shape == (*expected, 3)


def test_boxes_shrink_with_a_large_picture():
    drawn = draw_result(make_image(400, 4000), [make_box(2000, 100, 3000, 300)], ["word"], [1])
    left, right = split(drawn)
    assert (cut(left, 1005, 55, 1495, 145) != GREY).any(axis=2).all()
    assert (cut(left, 0, 0, 990, 200) == GREY).all()
    assert len(find_ink(cut(right, 1000, 50, 1500, 150)))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
        None,
    ],
)
def test_wrong_image_is_refused(image):
    with pytest.raises(InputError, match="uint8 H×W×3") as caught:
        draw_result(image, [], [], [])
    assert caught.value.hint


@pytest.mark.parametrize(
    ("polygons", "texts", "scores", "message"),
    [
        ([make_box(0, 0, 9, 9)], [], [1.0], "1 polygons, 0 texts, 1 scores"),
        ([make_box(0, 0, 9, 9)], ["a"], [], "1 polygons, 1 texts, 0 scores"),
        ([], ["a"], [1.0], "0 polygons, 1 texts, 1 scores"),
        ([np.zeros((5, 2))], ["a"], [1.0], r"polygons\[0\].*\(4, 2\), got \(5, 2\)"),
        ([[[0, 0], [1], [1, 1], [0, 1]]], ["a"], [1.0], r"polygons\[0\].*4×2 numbers"),
        ([make_box(0, 0, float("inf"), 9)], ["a"], [1.0], r"polygons\[0\].*finite"),
        ([make_box(0, 0, 9, float("nan"))], ["a"], [1.0], r"polygons\[0\].*finite"),
    ],
)
def test_mismatched_lists_are_refused(polygons, texts, scores, message):
    with pytest.raises(InputError, match=message) as caught:
        draw_result(make_image(), polygons, texts, scores)
    assert caught.value.hint


# --- Without a font ---


@pytest.fixture
def _no_font(monkeypatch):
    monkeypatch.setattr(drawing, "find_font", lambda: None)
    monkeypatch.setattr(drawing, "_list_other_fonts", lambda: ())


BOXES = (make_box(60, 20, 200, 50), make_box(60, 90, 200, 120))


@pytest.mark.usefixtures("_no_font")
def test_boxes_are_numbered_on_both_halves():
    left, right = split(draw_result(make_image(), list(BOXES), ["山茶", "书店"], [1, 1]))
    tags = [cut(left, 30, y, 60, y + 30) for y in (20, 90)]
    digits = [tag.min(axis=2) > 200 for tag in tags]  # white on the colour of the box
    assert digits[0].any()
    assert digits[1].any()
    assert not np.array_equal(*digits)
    places = [cut(right, 70, y + 2, 190, y + 28).max(axis=2) < DARK for y in (20, 90)]
    assert places[0].any()
    assert places[1].any()
    assert not np.array_equal(*places)  # 1 and 2


@pytest.mark.usefixtures("_no_font")
def test_only_ascii_texts_are_drawn_without_a_font():
    def draw(text):
        return draw_result(make_image(), [BOXES[0]], [text], [1])

    assert np.array_equal(draw("山茶"), draw("书店"))
    assert not np.array_equal(draw("shop"), draw("book"))
    assert not np.array_equal(draw("shop"), draw(""))


@pytest.mark.usefixtures("_no_font")
@pytest.mark.parametrize("texts", [[], ["", ""], ["shop", "book 7"]], ids=str)
def test_ascii_needs_neither_numbers_nor_a_warning(caplog, texts):
    boxes = list(BOXES[: len(texts)])
    with caplog.at_level(logging.WARNING, logger="edge_ocr"):
        left, _ = split(draw_result(make_image(), boxes, texts, [1] * len(texts)))
    assert not caplog.records
    assert (cut(left, 0, 0, 58, 200) == GREY).all()  # no number next to the boxes


@pytest.mark.usefixtures("_no_font")
def test_number_of_a_box_over_the_border_stays_visible():
    for box, corner in ((make_box(-5, -5, 100, 30), (0, 0)), (make_box(320, 210, 400, 240), (270, 170))):
        left, _ = split(draw_result(make_image(), [box], ["山"], [1]))
        assert (cut(left, *corner, corner[0] + 30, corner[1] + 30).min(axis=2) > 200).any()


@pytest.mark.usefixtures("_no_font")
def test_missing_font_is_reported_once(caplog):
    with caplog.at_level(logging.WARNING, logger="edge_ocr"):
        for _ in range(3):
            draw_result(make_image(), [BOXES[0]], ["山茶"], [1])
    assert len(caplog.records) == 1
    assert 'pip install "edge-ocr[fonts]"' in caplog.text
    assert "apt-get install fonts-noto-cjk" in caplog.text


def test_font_is_no_reason_to_warn(caplog, chinese_font, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_FONT", str(chinese_font))
    with caplog.at_level(logging.WARNING, logger="edge_ocr"):
        left, _ = split(draw_result(make_image(), [BOXES[0]], ["山茶"], [1]))
    assert not caplog.records
    assert (cut(left, 0, 0, 58, 200) == GREY).all()  # no number next to the box


@pytest.mark.usefixtures("_no_font")
@pytest.mark.parametrize(("text", "package"), [("한국", "fonts-noto-cjk"), ("ไทย", "fonts-noto-core")])
def test_warning_names_the_package_for_the_script(caplog, text, package):
    with caplog.at_level(logging.WARNING, logger="edge_ocr"):
        draw_result(make_image(), [BOXES[0]], [text], [1])
    assert f"apt-get install {package}`" in caplog.text


# --- Fonts of other scripts ---


@pytest.fixture
def other_font(chinese_font, bare_machine) -> Path:
    """A font that has Chinese, but whose name does not say so."""
    path = bare_machine / "plain.otf"
    path.symlink_to(chinese_font)
    return path


def test_each_text_gets_a_font_that_has_its_characters(other_font, latin_font):
    assert find_font() is None
    for preferred in (None, latin_font):
        assert drawing._find_font_for("cafe", preferred) == preferred
        assert drawing._find_font_for("山茶 cafe", preferred) == other_font
        assert drawing._find_font_for("山茶 שלום", preferred) is None
    assert drawing._find_font_for("山茶", other_font) == other_font


def test_only_texts_without_a_font_are_numbers(other_font, caplog):
    def draw(*texts):
        return split(draw_result(make_image(), list(BOXES), texts, [1, 1]))

    with caplog.at_level(logging.WARNING, logger="edge_ocr"):
        left, right = draw("山茶", "cafe")
    assert not caplog.records
    assert (cut(left, 0, 0, 58, 200) == GREY).all()
    assert not np.array_equal(right, draw("书店", "cafe")[1])
    numbered = draw("山茶", "שלום")[1]
    assert np.array_equal(numbered, draw("山茶", "ברכה")[1])
    assert not np.array_equal(numbered, draw("书店", "שלום")[1])


def test_chosen_font_draws_everything(latin_font, other_font, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_FONT", str(latin_font))
    assert drawing._find_font_for("山茶", latin_font) == latin_font


def test_fonts_of_the_usual_style_come_first(latin_font, bare_machine):
    for name in ("A-Bold.ttf", "B-Mono.ttf", "C-Italic.otf", "D.ttf", "E.txt"):
        (bare_machine / name).symlink_to(latin_font)
    found = [path.name for path in drawing._list_other_fonts()]
    assert found == ["D.ttf", "B-Mono.ttf", "A-Bold.ttf", "C-Italic.otf"]


def test_right_to_left_text_is_drawn_from_the_right_without_a_shaper(latin_font, monkeypatch):
    monkeypatch.setattr(drawing.features, "check", lambda name: False)
    drawn = drawing._render_line("אב 12", 200, 40, latin_font)
    monkeypatch.setattr(drawing, "has_right_to_left", lambda text: False)
    assert np.array_equal(drawn, drawing._render_line("12 בא", 200, 40, latin_font))
    assert not np.array_equal(drawn, drawing._render_line("אב 12", 200, 40, latin_font))


# --- Finding a font ---


def test_chosen_font_wins_and_need_not_show_chinese(latin_font, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_FONT", str(latin_font))
    assert find_font() == latin_font


def test_missing_chosen_font_is_refused(tmp_path, monkeypatch):
    for path in (tmp_path / "none.ttf", tmp_path):
        monkeypatch.setenv("EDGE_OCR_FONT", str(path))
        with pytest.raises(ConfigError, match="EDGE_OCR_FONT: ") as caught:
            draw_result(make_image(), [], [], [])
        assert caught.value.hint


def test_chosen_file_that_is_not_a_font_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "text.ttf"
    path.write_text("not a font")
    monkeypatch.setenv("EDGE_OCR_FONT", str(path))
    with pytest.raises(ConfigError, match="EDGE_OCR_FONT: "):
        find_font()


def test_empty_variable_counts_as_unset(bare_machine, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_FONT", "")
    assert find_font() is None


def test_bare_machine_has_no_font(bare_machine):
    assert find_font() is None


def test_package_is_the_last_resort(chinese_font, bare_machine, monkeypatch):
    spec = importlib.machinery.ModuleSpec("fonts", None, origin=str(chinese_font.parent / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert find_font() == chinese_font
    drawing._find_installed_font.cache_clear()
    system_font = bare_machine / "NotoSansCJK-Regular.ttc"
    system_font.symlink_to(chinese_font)
    assert find_font() == system_font


def test_better_family_wins_then_the_regular_weight(chinese_font, bare_machine):
    deep = bare_machine / "opentype" / "noto"
    deep.mkdir(parents=True)
    for path in (bare_machine / "simhei.ttf", deep / "NotoSansCJK-Bold.ttc", deep / "NotoSansCJK-Regular.ttc"):
        path.symlink_to(chinese_font)
    assert find_font() == deep / "NotoSansCJK-Regular.ttc"


def test_font_that_does_not_show_chinese_is_passed_over(latin_font, chinese_font, bare_machine):
    (bare_machine / "NotoSansCJK-Regular.ttc").symlink_to(latin_font)
    (bare_machine / "NotoSansSC-Regular.otf").write_bytes(b"damaged")
    assert find_font() is None
    drawing._find_installed_font.cache_clear()
    good = bare_machine / "wqy-zenhei.ttc"
    good.symlink_to(chinese_font)
    assert find_font() == good


def test_font_of_an_unknown_name_is_not_guessed_at(chinese_font, bare_machine):
    (bare_machine / "unheard-of.ttf").symlink_to(chinese_font)
    assert find_font() is None


def write_fc_list(bare_machine, body):
    program = bare_machine.parent / "bin" / "fc-list"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


posix_only = pytest.mark.skipif(os.name != "posix", reason="needs a shell for a stand-in of fc-list")


@posix_only
def test_fontconfig_knows_fonts_of_other_names(chinese_font, bare_machine, tmp_path):
    hidden = tmp_path / "elsewhere: 1.otf"
    hidden.symlink_to(chinese_font)
    write_fc_list(bare_machine, f'[ "$*" = ":lang=zh file" ] && echo "{tmp_path}/a.pcf.gz: " && echo "{hidden}: "')
    assert find_font() == hidden


@posix_only
@pytest.mark.parametrize("body", ["exit 1", "kill -9 $$", "printf '\\377\\n'", "echo /no/such/font.ttf:", ":"])
def test_fontconfig_that_fails_is_passed_over(body, bare_machine):
    write_fc_list(bare_machine, body)
    assert find_font() is None


@posix_only
def test_fontconfig_that_hangs_is_given_up(bare_machine, monkeypatch):
    monkeypatch.setattr(drawing, "FC_LIST_TIMEOUT_S", 0.2)
    write_fc_list(bare_machine, f"exec {sys.executable} -c 'import time; time.sleep(30)'")
    assert find_font() is None
