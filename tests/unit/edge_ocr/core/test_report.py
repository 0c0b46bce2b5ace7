"""Readable JSON, and the advice for a picture without text."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edge_ocr.config import load_config
from edge_ocr.core.report import explain_empty, format_json
from edge_ocr.core.types import Reading

DETECTION = replace(load_config().detection, windows=False)
NOTHING = Reading([], {})
POLYGON = [[122, 112], [510, 112], [510, 220], [122, 220]]


@pytest.mark.parametrize("indent", [None, 0, 2, 4])
@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_json_is_the_same_value(indent, ensure_ascii):
    value = {
        "text": '你好 "a"\n\\ [[1, 2]]',
        "empty": [[], {}, [[]], "", None, True],
        "numbers": [1, 2.5, -1e-9],
        "polygons": [POLYGON, POLYGON],
        "tuple": (1, (2, 3)),
    }
    text = format_json(value, indent=indent, ensure_ascii=ensure_ascii)
    assert json.loads(text) == json.loads(json.dumps(value))
    assert text.isascii() == ensure_ascii


def test_a_polygon_is_on_one_line():
    assert format_json([{"a": [POLYGON, POLYGON], "b": [0.5, 0.25], "c": []}], indent=2) == (
        "[\n"
        "  {\n"
        '    "a": [\n'
        "      [[122, 112], [510, 112], [510, 220], [122, 220]],\n"
        "      [[122, 112], [510, 112], [510, 220], [122, 220]]\n"
        "    ],\n"
        '    "b": [\n'
        "      0.5,\n"
        "      0.25\n"
        "    ],\n"
        '    "c": []\n'
        "  }\n"
        "]"
    )


def test_values_without_a_polygon_are_laid_out_like_json():
    value = {"a": {"b": ["x", {}, [], ["y"]]}, "c": None}
    assert format_json(value, indent=4) == json.dumps(value, indent=4)
    assert format_json(value) == json.dumps(value)


@pytest.mark.parametrize(
    ("size", "left_out", "settings", "has_orientation", "expected"),
    [
        ((900, 900), (), {}, True, ""),
        ((900, 900), (), {}, False, "; try --orientation line (for lines upside down)"),
        (
            (9000, 1280),
            (),
            {},
            True,
            "; try --limit-side-len 4000 (the picture, 1280×9000, was scaled down to 960)",
        ),
        ((900, 961), (), {}, True, "; try --limit-side-len 961 (the picture, 961×900, was scaled down to 960)"),
        ((9000, 1280), (), {"limit_side_len": 4000}, True, ""),
        ((9000, 1280), (), {"limit_type": "min"}, True, ""),
        # It was already searched at larger scales; this one was not.
        ((9000, 1280), (), {"windows": True}, True, ""),
        (
            (2000, 1280),
            (),
            {"windows": True},
            True,
            "; try --limit-side-len 2000 (the picture, 1280×2000, was scaled down to 960)",
        ),
        ((40, 480), (), {}, True, "; try --limit-type long (enlarges the picture, 480×40, to 960)"),
        ((40, 481), (), {}, True, ""),
        ((40, 480), (), {"limit_type": "long"}, True, ""),
        ((900, 900), (0.4999,), {}, True, "; try --text-score 0.4 (1 line, at best 0.49, scored below 0.5)"),
        (
            (1000, 900),
            (0.1, 0.35),
            {},
            False,
            "; try --orientation line (for lines upside down), "
            "--text-score 0.3 (2 lines, at best 0.35, scored below 0.5), "
            "--limit-side-len 1000 (the picture, 900×1000, was scaled down to 960)",
        ),
    ],
)
def test_empty_reading_is_explained_by_what_applies(size, left_out, settings, has_orientation, expected):
    reading = replace(NOTHING, left_out=left_out)
    said = explain_empty("a.png", size, reading, replace(DETECTION, **settings), 0.5, has_orientation=has_orientation)
    assert said == f"No text found in a.png{expected}"


def test_boards_get_advice_about_the_export():
    said = explain_empty(
        "a.png", (40, 2000), Reading([], {}, (0.2,)), DETECTION, 0.5, has_orientation=False, on_board=True
    )
    assert said == (
        "No text found in a.png; try a bundle exported with --orientation line (for lines upside down), "
        "--set Recognition.text_score=0.2 (1 line, at best 0.20, scored below 0.5), "
        "--set Detection.limit_side_len=2000 (the picture, 2000×40, was scaled down to 960)"
    )
