"""examples/ocrmypdf_plugin.py: OCRmyPDF reads scans with edge-ocr, without Tesseract and Ghostscript."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from edge_ocr.models.resolve import locate_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ocrmypdf") is None, reason="no ocrmypdf (pip install ocrmypdf)"),
]


@pytest.fixture
def run_ocrmypdf(repository, make_home, tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run OCRmyPDF with the plugin on a PDF; the result is `out.pdf` in the test's folder."""

    def run(scan: Path, *options: str) -> subprocess.CompletedProcess[str]:
        plugin = repository / "examples" / "ocrmypdf_plugin.py"
        # Neither PDF/A nor optimising, which need more programs.
        command = [sys.executable, "-m", "ocrmypdf", "--plugin", plugin, "--output-type", "pdf", "--optimize", "0"]
        return subprocess.run(
            [*command, *options, scan, tmp_path / "out.pdf"],
            env={**os.environ, "PYTHONPATH": str(repository), "EDGE_OCR_HOME": str(make_home())},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def make_scan(path: Path, picture: Image.Image) -> Path:
    picture.convert("RGB").save(path, "PDF", resolution=100)
    return path


def read_texts(path: Path) -> list[str]:
    pypdfium2 = pytest.importorskip("pypdfium2")
    document = pypdfium2.PdfDocument(path)
    try:
        return ["".join(line.split()) for line in document[0].get_textpage().get_text_range().splitlines()]
    finally:
        document.close()


@pytest.mark.parametrize("renderer", ["sandwich", "auto"])
def test_scan_can_be_searched(run_ocrmypdf, examples, read_example, tmp_path, renderer):
    done = run_ocrmypdf(make_scan(tmp_path / "scan.pdf", Image.open(examples / "sign.png")), "--pdf-renderer", renderer)
    assert done.returncode == 0, done.stderr[-3000:]
    expected = {"".join(text.split()) for text in read_example("sign.png")["rec_text"]}
    assert len(expected) == 4
    # Texts next to each other are in one line or two.
    found = "".join(read_texts(tmp_path / "out.pdf"))
    assert all(text in found for text in expected)
    assert len(found) == len("".join(expected))


def test_tilted_scan_is_deskewed(run_ocrmypdf, examples, open_pipeline, tmp_path):
    tilted = Image.open(examples / "sign.png").convert("RGB").rotate(5, expand=True, fillcolor="white")
    done = run_ocrmypdf(make_scan(tmp_path / "scan.pdf", tilted), "--deskew", "--pdf-renderer", "sandwich")
    assert done.returncode == 0, done.stderr[-3000:]
    rises = {}
    for name in ("scan.pdf", "out.pdf"):
        (result,) = open_pipeline().predict(tmp_path / name)
        polygon = result.reading.lines[[text.startswith("CAMELLIA") for text in result["rec_text"]].index(True)].polygon
        rises[name] = abs(float((polygon[1] - polygon[0])[1]))
    assert rises["out.pdf"] < 0.2 * rises["scan.pdf"]


def test_turned_page_is_turned_back(run_ocrmypdf, examples, tmp_path):
    if locate_model("PP-LCNet_x1_0_doc_ori") is None:
        pytest.skip("model not on this machine: PP-LCNet_x1_0_doc_ori")
    pypdfium2 = pytest.importorskip("pypdfium2")
    # Clockwise, and by a quarter, so that the other way would not do.
    turned = Image.open(examples / "receipt.jpg").rotate(-90, expand=True)
    done = run_ocrmypdf(make_scan(tmp_path / "scan.pdf", turned), "--rotate-pages", "--pdf-renderer", "sandwich")
    assert done.returncode == 0, done.stderr[-3000:]
    document = pypdfium2.PdfDocument(tmp_path / "out.pdf")
    assert document[0].get_rotation() == 270
    document.close()
    assert any(text.startswith("山茶书店") for text in read_texts(tmp_path / "out.pdf"))


def test_several_languages_are_refused(run_ocrmypdf, examples, tmp_path):
    done = run_ocrmypdf(make_scan(tmp_path / "scan.pdf", Image.open(examples / "sign.png")), "-l", "ru+el")
    assert done.returncode != 0
    assert "one language at a time" in done.stderr
    assert not (tmp_path / "out.pdf").exists()
