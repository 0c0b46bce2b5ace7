"""Let OCRmyPDF (16 or 17) read pages with edge-ocr instead of Tesseract, which then need not be installed:

    pip install 'edge-ocr[pdf]' ocrmypdf
    ocrmypdf --plugin examples/ocrmypdf_plugin.py --pdf-renderer sandwich scan.pdf searchable.pdf

The sandwich renderer places the text of slanted and vertical lines most exactly; the others work, too. `-l` takes
Tesseract's eng, chi_sim, chi_tra and jpn, which the default models read, or one code of `edge-ocr models languages`.
`--rotate-pages` turns pages with edge-ocr's page classifier; `--deskew` measures their lines. `EDGE_OCR_PIPELINE`
names another pipeline, such as OCR-v6.
"""

from __future__ import annotations

import functools
import math
import os
import statistics
import threading
from pathlib import Path
from typing import Any

from ocrmypdf import hookimpl
from ocrmypdf.exceptions import MissingDependencyError
from ocrmypdf.pluginspec import OcrEngine, OrientationConfidence

import edge_ocr
from edge_ocr.formats import SearchablePdf, format_hocr
from edge_ocr.models.languages import LANGUAGES

# What the default models read, as Tesseract calls it; OCRmyPDF asks for eng unless it is told otherwise.
_DEFAULT = {"eng", "chi_sim", "chi_tra", "jpn"}

# OCRmyPDF turns a page if this reaches --rotate-pages-threshold, 14 by default; the classifier decides by itself.
_CERTAIN = 100.0

# A line's angle counts if it is this many times longer than high.
_LONG = 5

_lock = threading.Lock()


@functools.cache
def _load(language: str | None, with_page_angle: bool) -> edge_ocr.OcrPipeline:
    overrides = {"Recognition.return_words": "words", "Pipeline.use_page_orientation": with_page_angle}
    pipeline = os.environ.get("EDGE_OCR_PIPELINE", "OCR")
    return edge_ocr.create_pipeline(pipeline, lang=language, overrides=overrides)


def _read(path: Path, options: Any, with_page_angle: bool = False) -> edge_ocr.OcrResult:
    chosen = [language for language in options.languages if language not in _DEFAULT]
    # OCRmyPDF reads several pages at once; the models are loaded only once.
    with _lock:
        pipeline = _load(chosen[0] if chosen else None, with_page_angle)
    (result,) = pipeline.predict(path)
    return result


class EdgeOcrEngine(OcrEngine):
    """edge-ocr as an engine of OCRmyPDF."""

    def __str__(self) -> str:
        return f"edge-ocr {edge_ocr.__version__}"

    @staticmethod
    def version() -> str:
        return edge_ocr.__version__

    @staticmethod
    def creator_tag(options: Any) -> str:
        return f"edge-ocr {edge_ocr.__version__}"

    @staticmethod
    def languages(options: Any) -> set[str]:
        return {*_DEFAULT, *LANGUAGES}

    @staticmethod
    def get_orientation(input_file: Path, options: Any) -> OrientationConfidence:
        angle = _read(input_file, options, with_page_angle=True).reading.page_angle
        # OCRmyPDF turns the page counter-clockwise by this.
        return OrientationConfidence(angle=angle or 0, confidence=_CERTAIN)

    @staticmethod
    def get_deskew(input_file: Path, options: Any) -> float:
        angles = []
        for line in _read(input_file, options).reading.lines:
            across, down = line.polygon[1] - line.polygon[0], line.polygon[3] - line.polygon[0]
            if across[0] > _LONG * math.hypot(*down):
                angles.append(math.degrees(math.atan2(across[1], across[0])))
        # Clockwise angles of lines are turned back counter-clockwise.
        return statistics.median(angles) if angles else 0.0

    @staticmethod
    def generate_hocr(input_file: Path, output_hocr: Path, output_text: Path, options: Any) -> None:
        result = _read(input_file, options)
        Path(output_hocr).write_text(format_hocr(result), encoding="utf-8")
        Path(output_text).write_text("\n".join(result["rec_text"]), encoding="utf-8")

    @staticmethod
    def generate_pdf(input_file: Path, output_pdf: Path, output_text: Path, options: Any) -> None:
        result = _read(input_file, options)
        pdf = SearchablePdf(text_only=True)
        pdf.add(result, Path(input_file).read_bytes())
        pdf.save(output_pdf)
        Path(output_text).write_text("\n".join(result["rec_text"]), encoding="utf-8")


@hookimpl
def initialize(plugin_manager: Any) -> None:
    # Its check requires Tesseract.
    plugin_manager.set_blocked("ocrmypdf.builtin_plugins.tesseract_ocr")


@hookimpl
def register_options() -> dict[str, Any]:
    # OCRmyPDF 17 validates them even so.
    from ocrmypdf.builtin_plugins.tesseract_ocr import TesseractOptions

    return {"tesseract": TesseractOptions}


@hookimpl
def check_options(options: Any) -> None:
    if len(set(options.languages) - _DEFAULT) > 1:
        raise MissingDependencyError("edge-ocr reads one language at a time; give one code to -l")


@hookimpl
def get_ocr_engine(options: Any = None) -> OcrEngine:
    return EdgeOcrEngine()
