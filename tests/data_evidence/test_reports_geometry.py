"""Pictures from bug reports, which are next to the project: slanted lines, and a table on a tilted page."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "EDGE_OCR_TEST_DATA"
DATA = Path(os.environ.get(VARIABLE) or Path(__file__).parents[3] / "shared" / "data")

pytestmark = pytest.mark.skipif(
    not (DATA / "reports" / "README.md").is_file(), reason=f"no shared test data ({VARIABLE})"
)


@pytest.mark.parametrize("engine", ["openvino", "paddle"])
def test_lines_at_45_degrees_are_read(open_pipeline, judge, engine):
    (result,) = open_pipeline(engine).predict(DATA / "reports" / "rot45.png")
    texts = ["旋转页面测试第一行", "Rotated page second line", "第三行编号20250701", "第四行结束END"]
    assert list(map(judge.fold, result["rec_text"])) == list(map(judge.fold, texts))


def test_rows_of_the_tilted_table_stay_rows(open_pipeline):
    (result,) = open_pipeline().predict(DATA / "reports" / "tilt_table.png")
    assert [text[:2] for text in result["rec_text"][::2]] == ["姓名", "工号"] * 4
    assert [text[0] for text in result["rec_text"][1::2]] == ["部", "电"] * 4
    assert [text[-1] for text in result["rec_text"]] == [str(row) for row in range(4) for _ in range(4)]
