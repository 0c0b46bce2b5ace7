"""Results in formats that other tools read: hOCR, ALTO, Tesseract's TSV, Markdown and PDFs that can be searched.

>>> from edge_ocr.formats import format_hocr
>>> pipeline = create_pipeline("OCR", overrides={"Recognition.return_words": "words"})
>>> hocr = format_hocr(pipeline.predict("photo.jpg"))
"""

from edge_ocr.formats.alto import format_alto
from edge_ocr.formats.hocr import format_hocr
from edge_ocr.formats.markdown import format_markdown
from edge_ocr.formats.pdf import SearchablePdf
from edge_ocr.formats.tsv import format_tsv

__all__ = ["SearchablePdf", "format_alto", "format_hocr", "format_markdown", "format_tsv"]
