"""Markdown: the text of pages in paragraphs, in reading order."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from edge_ocr.formats.document import join_pages
from edge_ocr.formats.paragraphs import Paragraph, group_lines
from edge_ocr.results import OcrResult

_SPECIAL = re.compile(r"[\\`*_{}\[\]<|~]|&(?=#?\w+;)")
# What makes a line a heading, list, quote or rule where it begins; a backslash goes before the last character.
_LEADING = re.compile(r"^(#(?=#{0,5}(?:\s|$))|[-+](?=\s|$)|[-=](?=[-=\s]*$)|>|\d{1,9}[.)](?=\s|$))")
_SOFT_HYPHEN = "\u00ad"


def format_markdown(results: OcrResult | Iterable[OcrResult]) -> str:
    """Return one document for all results, with a rule between pages.

    Rows of running text are joined, without a space between Chinese or Japanese characters, and words that are
    hyphenated at the end of a row are made whole. Other rows keep their line break.
    """
    return join_pages(MarkdownDocument(), results)


class MarkdownDocument:
    """A document that is written page by page."""

    def __init__(self) -> None:
        self._pages = 0

    def add(self, result: OcrResult) -> str:
        """Return the page, after a rule if it is not the first."""
        self._pages += 1
        paragraphs = [text for text in map(_write_paragraph, group_lines(result.reading)) if text]
        text = "\n\n".join(paragraphs) + "\n" * bool(paragraphs)
        return ("\n---\n\n" if self._pages > 1 else "") + text

    def finish(self) -> str:
        """Return nothing."""
        return ""


def _write_paragraph(paragraph: Paragraph) -> str:
    """Return the rows of a paragraph, with special characters escaped."""
    lines = [""]
    for row in paragraph.rows:
        text = " ".join(" ".join(line.text.split()) for line in row.lines).strip()
        lines[-1] = _join(lines[-1], text)
        if row.is_ended:
            lines.append("")
    # A backslash at the end of a line keeps the line break.
    return "\\\n".join(_escape(line) for line in lines if line)


def _join(text: str, added: str) -> str:
    if not text or not added:
        return text + added
    if text[-1] in f"-{_SOFT_HYPHEN}" and text[-2:-1].isalpha() and added[0].islower():
        return text[:-1] + added
    is_tight = _is_spaceless(text[-1]) and _is_spaceless(added[0])
    return text + ("" if is_tight else " ") + added


def _is_spaceless(character: str) -> bool:
    """Return whether a character is of a script without spaces: Chinese or Japanese, or their punctuation."""
    is_wide = unicodedata.east_asian_width(character) in "WF"
    return is_wide and not unicodedata.name(character, "").startswith("HANGUL")


def _escape(text: str) -> str:
    special = _SPECIAL.sub(lambda found: f"\\{found[0]}", text)
    return _LEADING.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", special)
