"""hOCR 1.2: text with its places as XHTML (http://kba.github.io/hocr-spec/1.2/)."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree

import edge_ocr
from edge_ocr.core.types import Polygon, TextLine
from edge_ocr.formats.document import clean, join_pages, name_input
from edge_ocr.formats.paragraphs import group_lines
from edge_ocr.formats.shapes import (
    bound,
    find_baseline,
    find_turns,
    is_level,
    is_right_to_left,
    lay,
    list_words,
    measure_angle,
)
from edge_ocr.results import OcrResult

_CLASSES = "ocr_page ocr_carea ocr_par ocr_line ocrx_word"
_DOCTYPE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" '
    '"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
)


def format_hocr(results: OcrResult | Iterable[OcrResult]) -> str:
    """Return one hOCR document with a page for each result.

    Words are present if the results have them (`Recognition.return_words`), and characters if they were requested;
    without words, each line is one word.
    """
    return join_pages(HocrDocument(), results)


class HocrDocument:
    """An hOCR document that is written page by page."""

    def __init__(self) -> None:
        self._pages = 0
        self._tail = ""

    def add(self, result: OcrResult) -> str:
        """Return the page, after the head of the document if it is the first."""
        head = self._begin(result.reading.return_words == "chars")
        self._pages += 1
        return head + _serialize(_make_page(result, self._pages))

    def finish(self) -> str:
        """Return the end of the document."""
        return self._begin(False) + self._tail

    def _begin(self, has_characters: bool) -> str:
        if self._tail:
            return ""
        classes = _CLASSES + (" ocrx_cinfo" if has_characters else "")
        html = ElementTree.Element("html", {"xmlns": "http://www.w3.org/1999/xhtml"})
        head = ElementTree.SubElement(html, "head")
        ElementTree.SubElement(head, "title").text = "OCR results"
        for attributes in (
            {"http-equiv": "Content-Type", "content": "text/html; charset=utf-8"},
            {"name": "ocr-system", "content": f"edge-ocr {edge_ocr.__version__}"},
            {"name": "ocr-capabilities", "content": classes},
        ):
            ElementTree.SubElement(head, "meta", attributes)
        ElementTree.SubElement(html, "body").text = "\n"
        ElementTree.indent(html, "")
        begin, end, rest = _serialize(html).partition("</body>")
        self._tail = end + rest
        return _DOCTYPE + begin


def _serialize(element: ElementTree.Element) -> str:
    return ElementTree.tostring(element, encoding="unicode") + "\n"


def _make_page(result: OcrResult, number: int) -> ElementTree.Element:
    height, width = size = result.image.shape[0], result.image.shape[1]
    # Readers split properties at semicolons, and names at quotation marks.
    image = name_input(result).replace('"', "%22").replace(";", "%3B")
    page = ElementTree.Element("div", {"class": "ocr_page", "id": f"page_{number}"})
    page.set("title", f'image "{image}"; bbox 0 0 {width} {height}; ppageno {number - 1}')
    page.text = page.tail = "\n"
    line_number = word_number = 0
    for block, paragraph in enumerate(group_lines(result.reading), 1):
        title = _write_box([line.polygon for line in paragraph.lines], size)
        area = _add(page, "div", "ocr_carea", f"block_{number}_{block}", title)
        part = _add(area, "p", "ocr_par", f"par_{number}_{block}", title)
        if is_right_to_left("".join(line.text for line in paragraph.lines)):
            part.set("dir", "rtl")
        for line in paragraph.lines:
            line_number += 1
            span = _add(part, "span", "ocr_line", f"line_{number}_{line_number}", _describe_line(line, size))
            for word, has_space in list_words(line):
                word_number += 1
                title = f"{_write_box([word.polygon], size)}; x_wconf {round(100 * word.score)}"
                inner = _add(span, "span", "ocrx_word", f"word_{number}_{word_number}", title)
                inner.tail = " " if has_space else None
                if result.reading.return_words != "chars" or not word.characters:
                    inner.text = clean(word.text)
                    continue
                for character in word.characters:
                    cinfo = ElementTree.SubElement(inner, "span", {"class": "ocrx_cinfo"})
                    box = _write_box([character.polygon], size).replace("bbox", "x_bboxes")
                    cinfo.set("title", f"{box}; x_conf {100 * character.score:.2f}")
                    cinfo.text = clean(character.text)
            span.tail = "\n"
    return page


def _add(parent: ElementTree.Element, tag: str, kind: str, name: str, title: str) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag, {"class": kind, "id": name, "title": title})
    if kind in ("ocr_carea", "ocr_par"):
        element.text = element.tail = "\n"
    return element


def _write_box(polygons: list[Polygon], size: tuple[int, int]) -> str:
    return "bbox {} {} {} {}".format(*bound(polygons, size))


def _describe_line(line: TextLine, size: tuple[int, int]) -> str:
    """Return the properties of a line: its box, and its baseline, or its angle if it does not read to the right."""
    polygon = lay(line.polygon, find_turns(line))
    left, _, _, bottom = bound([line.polygon], size)
    properties = [_write_box([line.polygon], size)]
    if not is_level(line.polygon):
        corners = " ".join(f"{x} {y}" for x, y in line.polygon.round().clip(0).astype(int).tolist())
        properties.append(f"poly {corners}")
    angle = measure_angle(polygon)
    if abs(angle) < 45:
        (x, y), (end_x, end_y) = find_baseline(polygon)
        slope = (end_y - y) / (end_x - x)
        properties.append(f"baseline {slope:.4g} {y + slope * (left - x) - bottom:.4g}")
    else:
        # Counter-clockwise, as in Tesseract's hOCR.
        properties.append(f"textangle {round(-angle) % 360}")
    return "; ".join(properties)
