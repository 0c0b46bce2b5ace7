"""`edge-ocr predict --format` hocr, alto, tsv and md, and `--searchable-pdf`."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.usefixtures("default_models")

SIGN = ["山茶书店", "CAMELLIABOOKS&CAFE", "营业时间", "OPEN10:00-22:00"]


@pytest.fixture
def sign(examples) -> Path:
    return examples / "sign.png"


def squeeze(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("output_format", ["hocr", "alto", "tsv", "md"])
def test_one_document_for_all_inputs(cli, sign, tmp_path, output_format):
    shutil.copy(sign, tmp_path / "copy.png")
    done = cli("predict", sign, "missing.png", tmp_path / "copy.png", "--format", output_format)
    assert done.code == 4
    text = done.out
    if output_format in ("hocr", "alto"):
        root = ElementTree.fromstring(text)
        text = "".join([*root.itertext(), *(element.get("CONTENT", " ") for element in root.iter())])
    if output_format == "tsv":
        text = "".join(row.split("\t")[11] for row in text.splitlines())
    for part in SIGN:
        assert squeeze(text).count(part) == 2
    assert done.out.count({"hocr": 'ocr_page"', "alto": "<Page ", "tsv": "level", "md": "---"}[output_format]) == (
        2 if output_format in ("hocr", "alto") else 1
    )


@pytest.mark.parametrize("output_format", ["hocr", "alto"])
def test_document_is_valid_if_nothing_is_read(cli, output_format):
    done = cli("predict", "missing.png", "--format", output_format)
    assert done.code == 4
    ElementTree.fromstring(done.out)


def test_searchable_pdf(cli, sign, tmp_path):
    pypdfium2 = pytest.importorskip("pypdfium2")
    pytest.importorskip("pikepdf", reason="pikepdf is not installed")
    Image.open(sign).convert("RGB").save(tmp_path / "scan.pdf", "PDF", resolution=100)
    out = tmp_path / "new" / "out.pdf"
    done = cli("predict", tmp_path / "scan.pdf", "-", "--searchable-pdf", out, stdin=sign.read_bytes())
    assert (done.code, done.err) == (0, "")
    assert squeeze(done.out) == "".join(SIGN) * 2
    document = pypdfium2.PdfDocument(io.BytesIO(out.read_bytes()))
    texts = [squeeze(page.get_textpage().get_text_range()) for page in document]
    document.close()
    assert len(texts) == 2
    for text in texts:
        assert all(part in text for part in SIGN)
    before = out.read_bytes()
    again = cli("predict", sign, "--searchable-pdf", out)
    assert (again.code, out.read_bytes()) == (2, before)
    assert f"{out} exists" in again.err


def test_searchable_pdf_without_pages_is_not_written(cli, tmp_path):
    pytest.importorskip("pikepdf", reason="pikepdf is not installed")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    done = cli("predict", tmp_path / "bad.png", "--searchable-pdf", tmp_path / "out.pdf")
    assert done.code == 4
    assert not (tmp_path / "out.pdf").exists()


def test_searchable_pdf_excludes_output(cli, sign, tmp_path):
    done = cli("predict", sign, "--searchable-pdf", tmp_path / "a.pdf", "--output", tmp_path / "a.jsonl")
    assert done.code == 2
    assert "--searchable-pdf and --output" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["-", "file.txt/a.pdf"])
def test_target_of_a_searchable_pdf_is_checked_first(cli, sign, tmp_path, monkeypatch, target):
    pytest.importorskip("pikepdf", reason="pikepdf is not installed")
    monkeypatch.chdir(tmp_path)
    Path("file.txt").write_text("a file, not a folder")
    done = cli("predict", sign, "--searchable-pdf", target)
    # Before anything is read and printed.
    assert (done.code, done.out) == (2, "")
    assert "--searchable-pdf" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("saves", [True, False])
def test_files_are_saved_if_nobody_reads_the_output(sign, tmp_path, saves):
    command = [sys.executable, "-m", "edge_ocr", "predict", sign, sign, *(("--save-path", tmp_path) if saves else ())]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    names = ["sign_2_res.jpg", "sign_2_res.json", "sign_res.jpg", "sign_res.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == (names if saves else [])


def test_searchable_pdf_reads_in_columns_and_is_not_written_twice(cli, tmp_path):
    pytest.importorskip("pikepdf", reason="pikepdf is not installed")
    pypdfium2 = pytest.importorskip("pypdfium2")
    page = np.full((420, 1500, 3), 255, np.uint8)
    for k, side in enumerate(("left", "right")):
        for i in range(6):
            cv2.putText(page, f"{side} column {i} of running text", (40 + 760 * k, 60 + 60 * i), 0, 1.15, 0, 2)
    cv2.imwrite(str(tmp_path / "page.png"), page)
    first, second = tmp_path / "first.pdf", tmp_path / "second.pdf"
    assert cli("predict", tmp_path / "page.png", "--searchable-pdf", first).code == 0
    assert cli("predict", first, "--searchable-pdf", second).code == 0
    texts = []
    for path in (first, second):
        document = pypdfium2.PdfDocument(path)
        text_page = document[0].get_textpage()
        texts.append([text_page.get_charbox(i) for i in range(text_page.count_chars())])
        text = text_page.get_text_range()
        document.close()
        assert text.rindex("left") < text.index("right")
    assert len(texts[0]) == len(texts[1]) > 200
