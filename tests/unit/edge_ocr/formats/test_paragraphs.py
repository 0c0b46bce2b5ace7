"""Rows, paragraphs and columns by the places of lines."""

from __future__ import annotations

import random
from dataclasses import replace

import cv2
import numpy as np
from support.readings import make_box, make_line

from edge_ocr.core.page import turn_back
from edge_ocr.core.types import Reading
from edge_ocr.formats.paragraphs import group_lines


def group(lines, page_angle=None):
    paragraphs = group_lines(Reading(lines, {}, (), page_angle))
    assert sorted(id(line) for paragraph in paragraphs for line in paragraph.lines) == sorted(map(id, lines))
    return [[[line.text for line in row.lines] for row in paragraph.rows] for paragraph in paragraphs]


def make_text(names, left, top, width=600, pitch=40):
    return [make_box(name, left, top + pitch * i, width) for i, name in enumerate(names)]


def test_no_lines():
    assert group([]) == []


def test_gaps_divide_paragraphs():
    lines = make_text("abc", 50, 50) + make_text("de", 50, 250)
    assert group(lines) == [[["a"], ["b"], ["c"]], [["d"], ["e"]]]
    # Double spacing does not.
    assert group(make_text("abcd", 50, 50, pitch=60)) == [[["a"], ["b"], ["c"], ["d"]]]


def test_heading_stands_alone():
    lines = [make_box("Heading", 50, 40, 300, 60), *make_text("ab", 50, 110)]
    assert group(lines) == [[["Heading"]], [["a"], ["b"]]]


def test_indent_begins_a_paragraph():
    lines = [*make_text("abc", 50, 50), make_box("d", 100, 170, 550), *make_text("ef", 50, 210)]
    assert group(lines) == [[["a"], ["b"], ["c"]], [["d"], ["e"], ["f"]]]


def test_receipt_is_read_row_by_row():
    rows = [("Caffe Latte", "x2", "56.00"), ("Matcha Cake", "x1", "32.00"), ("Croissant", "x3", "45.00")]
    lines = [
        make_box(text, left, 50 + 40 * i, width)
        for i, row in enumerate(rows)
        for text, left, width in zip(row, (50, 400, 600), (260, 30, 70), strict=True)
    ]
    assert group(lines) == [[list(row) for row in rows]]
    for row in group_lines(Reading(lines, {}))[0].rows:
        assert row.is_ended


def test_columns_are_read_one_after_the_other():
    left, right = make_text("abcd", 50, 150, 380), make_text("efgh", 480, 150, 380)
    mixed = [line for pair in zip(left, right, strict=True) for line in pair]
    heading, end = make_box("Heading", 50, 40, 800, 60), make_box("end", 50, 400, 800)
    found = group([heading, *mixed, end])
    assert [row for paragraph in found for row in paragraph] == [[name] for name in ("Heading", *"abcdefgh", "end")]
    assert found[1:3] == [[["a"], ["b"], ["c"], ["d"]], [["e"], ["f"], ["g"], ["h"]]]


def test_columns_of_a_tilted_page():
    matrix = cv2.getRotationMatrix2D((500, 500), -6, 1)
    lines = [
        replace(line, polygon=cv2.transform(line.polygon[None], matrix)[0].astype(np.float32))
        for line in make_text("abcd", 50, 150, 380) + make_text("efgh", 480, 150, 380)
    ]
    random.Random(0).shuffle(lines)
    assert group(lines) == [[["a"], ["b"], ["c"], ["d"]], [["e"], ["f"], ["g"], ["h"]]]


def test_turned_pages_group_as_upright_ones():
    upright = make_text("abc", 50, 50) + make_text("de", 50, 250)
    for turns in range(1, 4):
        size = (1000, 700) if turns % 2 == 0 else (700, 1000)
        lines = [replace(line, polygon=turn_back(line.polygon, turns, *size)) for line in upright]
        assert group(lines, 90 * turns) == [[["a"], ["b"], ["c"]], [["d"], ["e"]]]
    assert group(lines, 0) != [[["a"], ["b"], ["c"]], [["d"], ["e"]]]


def test_vertical_lines_run_from_right_to_left():
    lines = [make_box(text, left, 50, 30, 400) for text, left in (("三行", 100), ("二行", 140), ("一行", 180))]
    stamp = make_box("level", 400, 600, 200)
    assert group([*lines, stamp]) == [[["一行"], ["二行"], ["三行"]], [["level"]]]


def test_rows_of_right_to_left_text():
    lines = [make_box("אחת", 500, 50, 200), make_box("שתיים", 100, 50, 200)]
    assert group(lines) == [[["אחת", "שתיים"]]]


def test_running_text_is_told_from_ended_rows():
    lines = [
        make_box("A row of running text that is full", 50, 50, 600),
        make_box("and ends early here", 50, 90, 350),
        make_box("while this one follows it in the list", 50, 130, 590),
    ]
    assert [row.is_ended for row in group_lines(Reading(lines, {}))[0].rows] == [False, True, True]


def test_slanted_lines_are_all_there():
    group([make_line(["steep", "line"], 100, 100, angle=angle) for angle in (0, 30, 60, -45)])
