"""PDFs like those of public bug reports, which lie beside the project, not in it: see test_shared_data.py."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edge_ocr.errors import InputError

VARIABLE = "EDGE_OCR_TEST_DATA"
DATA = Path(os.environ.get(VARIABLE) or Path(__file__).parents[3] / "shared" / "data")
REPORTS = DATA / "reports"

pytestmark = [
    pytest.mark.skipif(not (DATA / "README.md").is_file(), reason=f"no shared test data ({VARIABLE})"),
    pytest.mark.slow,
]

PAGE = ["旋转页面测试第一行", "Rotatedpagesecondline", "第三行编号20250701", "第四行结束END"]
TOO_LARGE = f"page 2 of {REPORTS / 'mixed.pdf'} has more than 178,956,970 pixels at 200 dpi"


def squeeze(texts: list[str]) -> list[str]:
    return ["".join(text.split()) for text in texts]


@pytest.fixture(autouse=True)
def pdfium() -> None:
    pytest.importorskip("pypdfium2")


def test_pdf_after_a_byte_order_mark_and_a_line_break_is_read(open_pipeline):
    (result,) = open_pipeline().predict(REPORTS / "junk_head.pdf")
    assert result.page_index is None
    assert squeeze(result["rec_text"]) == PAGE


def test_good_pages_of_a_pdf_are_read_and_the_bad_one_is_named(open_pipeline):
    reading = open_pipeline().predict(REPORTS / "mixed.pdf")
    for index in (0, 2):
        result = next(reading)
        assert result.page_index == index
        assert squeeze(result["rec_text"]) == PAGE
    with pytest.raises(InputError) as error:
        next(reading)
    assert error.value.message == TOO_LARGE


def test_good_pages_are_written_to_a_file_once(default_models, tmp_path):
    from typer.testing import CliRunner

    from edge_ocr.cli.app import make_app

    output = tmp_path / "out.jsonl"
    for more in ([], ["--resume"]):
        done = CliRunner().invoke(make_app(), ["predict", str(REPORTS / "mixed.pdf"), "--output", str(output), *more])
        assert done.exit_code == 4
        assert f"Error: {TOO_LARGE}\n" in done.stderr
        pages = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
        assert [(page["page_index"], squeeze(page["rec_text"])) for page in pages] == [(0, PAGE), (2, PAGE)]
