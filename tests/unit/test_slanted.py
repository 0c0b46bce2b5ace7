"""Slanted lines and tilted tables with the real default models, on drawn pages."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

LINES = ("本市今日天气晴朗", "Please keep this ticket", "合同编号20250701", "Total amount 1350.00")
MARGIN = 60


@pytest.fixture(scope="module")
def font_path() -> Path:
    fonts = pytest.importorskip("pylopdf_fonts_zh_cn", reason="needs the package pylopdf-fonts-zh-cn")
    return Path(fonts.__file__).parent / "NotoSansSC-Regular.otf"


@pytest.fixture(scope="module")
def draw(font_path):
    """Draw rows of texts on a white page, a column every `pitch` pixels, and turn it clockwise by degrees."""

    def draw_page(rows, size: int, angle: float, pitch: int = 0) -> np.ndarray:
        font = ImageFont.truetype(str(font_path), size)
        width = max(pitch * (len(row) - 1) + font.getlength(row[-1]) for row in rows)
        page = Image.new("RGB", (int(width) + 2 * MARGIN, int(2.2 * size * len(rows)) + 2 * MARGIN), "white")
        pen = ImageDraw.Draw(page)
        for i, row in enumerate(rows):
            for k, text in enumerate(row):
                pen.text((MARGIN + k * pitch, MARGIN + 2.2 * size * i), text, font=font, fill=(20, 20, 20))
        page = page.rotate(-angle, resample=Image.Resampling.BICUBIC, expand=True, fillcolor="white")
        return np.ascontiguousarray(np.asarray(page)[..., ::-1])

    return draw_page


def read(open_pipeline, image, **overrides):
    (result,) = open_pipeline(**overrides).predict(image)
    return result


@pytest.mark.parametrize("size", [20, 28, 40])
@pytest.mark.parametrize("angle", [0, 20, 30, 45, 60, 75, -20, -30, -45, -60, -75])
def test_slanted_lines_are_found_and_read(open_pipeline, draw, judge, angle, size):
    result = read(open_pipeline, draw([[line] for line in LINES], size, angle))
    assert sorted(map(judge.fold, result["rec_text"])) == sorted(map(judge.fold, LINES))
    for polygon in np.array(result["dt_polys"], dtype=np.float32):
        top = polygon[1] - polygon[0]
        assert np.degrees(np.arctan2(top[1], top[0])) == pytest.approx(angle, abs=6)
        assert cv2.contourArea(polygon, oriented=True) > 0


@pytest.mark.parametrize("angle", [90, -90, 85, -85])
def test_vertical_lines_need_no_classifier(open_pipeline, draw, judge, angle):
    result = read(open_pipeline, draw([[line] for line in LINES], 28, angle))
    assert sorted(map(judge.fold, result["rec_text"])) == sorted(map(judge.fold, LINES))


@pytest.mark.parametrize("angle", [0, 1, 2.5, 5, 9, -1, -2.5, -5, -9])
def test_rows_of_a_tilted_table_stay_rows(open_pipeline, draw, angle):
    rows = [[f"姓名{i}", f"部门{i}", f"工号10086{i}", f"电话5551234{i}"] for i in range(1, 5)]
    result = read(open_pipeline, draw(rows, 28, angle, pitch=290))
    assert [text[-1] for text in result["rec_text"]] == [row[0][-1] for row in rows for _ in row]
    assert [text[0] for text in result["rec_text"]] == ["姓", "部", "工", "电"] * 4
