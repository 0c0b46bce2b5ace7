"""A self-contained HTML page: its frame, tables, and escaped text."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from converters.text import format_figure


def write_page(title: str, body: str) -> str:
    """Return a whole page around `body`; `title` and `body` are HTML.

    The style is inline, and a Content-Security-Policy forbids the page to load anything.
    """
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}</body>
</html>
"""


def clean_text(text: str) -> str:
    """Return `text` as HTML for elements and attributes; invisible characters are shown by their code.

    These include surrogates, which UTF-8 cannot encode, and controls that change the text direction.
    """
    return html.escape("".join(char if char.isprintable() else f"‹U+{ord(char):04X}›" for char in text))


def write_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", numbers: Sequence[str] = ()
) -> str:
    """Return a table, which narrow screens show as one block per row; all arguments are HTML.

    The first cell of a row is its header. `numbers`: names of the columns that hold numbers.
    """
    looks = ["number" if name in numbers else "words" for name in head]
    names = "".join(f'<th scope="col" class="{look}">{name}</th>' for name, look in zip(head, looks, strict=True))
    title = f"<caption>{caption}</caption>" if caption else ""
    lines = [f'<div class="wide"><table>{title}<thead><tr>{names}</tr></thead>\n<tbody>']
    for row in rows:
        cells: list[str] = []
        for name, look, content in zip(head, looks, row, strict=True):
            start, end = ("td", "td") if cells else ('th scope="row"', "th")
            blank = " blank" if content == "–" else ""
            cells.append(f'<{start} class="{look}{blank}" data-label="{name}"><div>{content}</div></{end}>')
        lines.append(f"<tr>{''.join(cells)}</tr>\n")
    return "".join(lines) + "</tbody></table></div>\n"


def show_figure(value: float) -> str:
    """Return a figure as readable text."""
    return format_figure(value) if math.isfinite(value) else "not finite"


def show_verdict(passed: bool, words: str) -> str:
    """Return `words` with the sign and the colour of passed or failed."""
    return f'<span class="yes">✓ {words}</span>' if passed else f'<span class="no">✗ {words}</span>'


def count_things(number: int, thing: str, things: str = "") -> str:
    """Return `1 line`, `2 lines`; `things` is the plural if it is not `thing` plus s."""
    return f"{number} {thing if number == 1 else things or f'{thing}s'}"
