"""Tab-separated values with the columns of Tesseract's `tsv`."""

from __future__ import annotations

from collections.abc import Iterable

from edge_ocr.core.types import Polygon
from edge_ocr.formats.document import join_pages
from edge_ocr.formats.paragraphs import group_lines
from edge_ocr.formats.shapes import bound, list_words
from edge_ocr.results import OcrResult

COLUMNS = [
    "level",
    "page_num",
    "block_num",
    "par_num",
    "line_num",
    "word_num",
    "left",
    "top",
    "width",
    "height",
    "conf",
    "text",
]


def format_tsv(results: OcrResult | Iterable[OcrResult]) -> str:
    """Return one table for all results, whose pages are counted from 1.

    A row is a page, block, paragraph, line or word (level 1 to 5); only words have a text and a confidence, in percent,
    which is -1 for the others. Each paragraph is a block. Texts are not quoted. Without words, each line is one word.
    """
    return join_pages(TsvDocument(), results)


class TsvDocument:
    """A table that is written page by page."""

    def __init__(self) -> None:
        self._pages = 0
        self._is_begun = False

    def add(self, result: OcrResult) -> str:
        """Return the rows of the page; the header comes before the first page."""
        head = self.finish()
        self._pages += 1
        return head + "".join("\t".join(row) + "\n" for row in _list_rows(result, self._pages))

    def finish(self) -> str:
        """Return the header if no page was added, else nothing."""
        if self._is_begun:
            return ""
        self._is_begun = True
        return "\t".join(COLUMNS) + "\n"


def _list_rows(result: OcrResult, page: int) -> Iterable[list[str]]:
    height, width = size = result.image.shape[0], result.image.shape[1]

    def make(place: tuple[int, ...], polygons: list[Polygon], confidence: str = "-1", text: str = "") -> list[str]:
        left, top, right, bottom = bound(polygons, size)
        numbers = [len(place), *place, *[0] * (5 - len(place)), left, top, right - left, bottom - top]
        return [*map(str, numbers), confidence, text]

    yield [*map(str, [1, page, 0, 0, 0, 0, 0, 0, width, height]), "-1", ""]
    for block, paragraph in enumerate(group_lines(result.reading), 1):
        polygons = [line.polygon for line in paragraph.lines]
        yield make((page, block), polygons)
        yield make((page, block, 1), polygons)
        for number, line in enumerate(paragraph.lines, 1):
            yield make((page, block, 1, number), [line.polygon])
            for word_number, (word, _) in enumerate(list_words(line), 1):
                # A tab or line break would move the columns.
                text = " ".join(word.text.split())
                place = (page, block, 1, number, word_number)
                yield make(place, [word.polygon], f"{100 * word.score:.6f}", text)
