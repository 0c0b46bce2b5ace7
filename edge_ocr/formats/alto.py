"""ALTO 4.4: text with its places as the XML of libraries and archives (https://www.loc.gov/standards/alto/)."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree

import edge_ocr
from edge_ocr.core.types import Polygon, TextLine, Word
from edge_ocr.formats.document import clean, join_pages, name_input
from edge_ocr.formats.paragraphs import group_lines
from edge_ocr.formats.shapes import bound, find_baseline, find_turns, is_level, lay, list_words, measure_angle
from edge_ocr.results import OcrResult

NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
_SCHEMA = "http://www.loc.gov/standards/alto/v4/alto-4-4.xsd"

_Element = ElementTree.Element
_add = ElementTree.SubElement


def format_alto(results: OcrResult | Iterable[OcrResult]) -> str:
    """Return one ALTO document with a page for each result.

    Words are present if the results have them (`Recognition.return_words`), and glyphs if characters were requested;
    without words, each line is one string.
    """
    return join_pages(AltoDocument(), results)


class AltoDocument:
    """An ALTO document. Its head lists every input, so all of it comes with the end."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._layout = _Element("Layout")

    def add(self, result: OcrResult) -> str:
        """Keep the page, and return nothing."""
        name = name_input(result)
        if name not in self._names:
            self._names.append(name)
        _add_page(self._layout, result, len(self._layout) + 1)
        return ""

    def finish(self) -> str:
        """Return the document."""
        root = _Element("alto", {"xmlns": NAMESPACE, "SCHEMAVERSION": "4.4"})
        root.set("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance")
        root.set("xsi:schemaLocation", f"{NAMESPACE} {_SCHEMA}")
        description = _add(root, "Description")
        _add(description, "MeasurementUnit").text = "pixel"
        source = _add(description, "sourceImageInformation")
        for name in self._names:
            _add(source, "fileName" if len(self._names) == 1 else "fileIdentifier").text = name
        processing = _add(description, "Processing", {"ID": "OCR"})
        _add(processing, "processingCategory").text = "contentGeneration"
        software = _add(processing, "processingSoftware")
        _add(software, "softwareName").text = "edge-ocr"
        _add(software, "softwareVersion").text = edge_ocr.__version__
        if len(self._layout) == 0:
            # A layout has at least one page.
            _add(self._layout, "Page", {"ID": "page_1", "PHYSICAL_IMG_NR": "1"})
        root.append(self._layout)
        ElementTree.indent(root)
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_page(layout: _Element, result: OcrResult, number: int) -> None:
    height, width = size = result.image.shape[0], result.image.shape[1]
    page = _add(layout, "Page", {"ID": f"page_{number}", "PHYSICAL_IMG_NR": str(number)})
    page.attrib.update({"HEIGHT": str(height), "WIDTH": str(width), "PROCESSINGREFS": "OCR"})
    if result.reading.page_angle:
        # Counter-clockwise.
        page.set("ROTATION", str(360 - result.reading.page_angle))
    lines = result.reading.lines
    space = _add(page, "PrintSpace", _measure([line.polygon for line in lines], size) if lines else {})
    line_number = word_number = 0
    for block_number, paragraph in enumerate(group_lines(result.reading), 1):
        block = _add(space, "TextBlock", {"ID": f"block_{number}_{block_number}"})
        block.attrib.update(_measure([line.polygon for line in paragraph.lines], size))
        angles = {round(-measure_angle(lay(line.polygon, find_turns(line)))) % 360 for line in paragraph.lines}
        if len(angles) == 1 and angles != {0}:
            block.set("ROTATION", str(angles.pop()))
        for line in paragraph.lines:
            line_number += 1
            element = _add_line(block, line, f"line_{number}_{line_number}", size)
            for word, has_space in list_words(line):
                word_number += 1
                name = f"word_{number}_{word_number}"
                _add_word(element, word, name, size, result.reading.return_words == "chars")
                if has_space:
                    _add(element, "SP")


def _measure(polygons: list[Polygon], size: tuple[int, int]) -> dict[str, str]:
    left, top, right, bottom = bound(polygons, size)
    values = {"HPOS": left, "VPOS": top, "WIDTH": right - left, "HEIGHT": bottom - top}
    return {key: str(value) for key, value in values.items()}


def _add_shape(element: _Element, polygon: Polygon) -> None:
    if not is_level(polygon):
        points = " ".join(f"{x},{y}" for x, y in polygon.round().clip(0).astype(int).tolist())
        _add(_add(element, "Shape"), "Polygon", {"POINTS": points})


def _add_line(block: _Element, line: TextLine, name: str, size: tuple[int, int]) -> _Element:
    element = _add(block, "TextLine", {"ID": name, **_measure([line.polygon], size)})
    ends = find_baseline(lay(line.polygon, find_turns(line)))
    element.set("BASELINE", " ".join(f"{x:.0f},{y:.0f}" for x, y in ends))
    _add_shape(element, line.polygon)
    return element


def _add_word(line: _Element, word: Word, name: str, size: tuple[int, int], with_glyphs: bool) -> None:
    string = _add(line, "String", {"ID": name, **_measure([word.polygon], size), "CONTENT": clean(word.text)})
    string.set("WC", f"{word.score:.4f}")
    _add_shape(string, word.polygon)
    # A glyph is one code point; dictionaries also have entries of several.
    if with_glyphs and all(len(character.text) == 1 for character in word.characters):
        for character in word.characters:
            glyph = _add(string, "Glyph", {**_measure([character.polygon], size), "CONTENT": clean(character.text)})
            glyph.set("GC", f"{character.score:.4f}")
            _add_shape(glyph, character.polygon)
