"""What the formats share: a document that grows page by page, and text that XML can hold."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from edge_ocr.results import OcrResult

# Characters that XML 1.0 does not allow, and unpaired surrogates, which Python has for file names that are not UTF-8.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Document(Protocol):
    """A document of any number of pages: the texts that `add` and `finish` return, one after the other."""

    def add(self, result: OcrResult) -> str:
        """Return what the document has for a page, and before it; "" if that comes with the end."""
        ...

    def finish(self) -> str:
        """Return the rest of the document, which is then valid even if it has no pages."""
        ...


def join_pages(document: Document, results: OcrResult | Iterable[OcrResult]) -> str:
    """Return the document of all results."""
    pages = [results] if isinstance(results, OcrResult) else results
    return "".join([*map(document.add, pages), document.finish()])


def clean(text: str) -> str:
    """Return a text with a replacement character (�) for each character that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)


def name_input(result: OcrResult) -> str:
    """Return the path of a result's picture as it was given, or the name of the result."""
    return clean(str(result["input_path"] or result.name))
