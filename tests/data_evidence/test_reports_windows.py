"""Pictures from bug reports, which are next to the project: a long page, strips, and text that touches the edge."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

VARIABLE = "EDGE_OCR_TEST_DATA"
DATA = Path(os.environ.get(VARIABLE) or Path(__file__).parents[3] / "shared" / "data")

pytestmark = pytest.mark.skipif(
    not (DATA / "reports" / "README.md").is_file(), reason=f"no shared test data ({VARIABLE})"
)


@pytest.mark.slow
def test_every_line_of_a_long_page_is_read(open_pipeline):
    (result,) = open_pipeline().predict(DATA / "reports" / "web1280x9000.png")
    texts = [text.replace(" ", "") for text in result["rec_text"]]
    assert len(texts) == 280
    right = [re.fullmatch(rf"第{number:03}条消息内容订单\d{{5}}", text) for number, text in enumerate(texts)]
    assert sum(match is not None for match in right) >= 0.98 * 280


STRIP = "服务承诺不提供不得分二零二五年七月一日起执行本办法编号ABC123"


@pytest.mark.parametrize(
    ("name", "text"), [("s22_12.png", STRIP), ("s14_0.png", STRIP), ("edge.png", "紧贴边缘文字ABC")]
)
def test_strips_are_read_completely(open_pipeline, judge, name, text):
    (result,) = open_pipeline().predict(DATA / "reports" / name)
    assert list(map(judge.fold, result["rec_text"])) == [judge.fold(text)]
