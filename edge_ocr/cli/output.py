"""What commands print: tables, lines and JSON on stdout, status on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console


def paint(text: str, stream: TextIO | None = None, **style: Any) -> str:
    """Return text in the colours of `typer.style` if the stream, by default stdout, is a terminal that shows them."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not (stream or sys.stdout).isatty()
    return text if plain else typer.style(text, **style)


def report(text: str) -> None:
    """Write a line of status to stderr."""
    sys.stderr.write(f"{text}\n")


def print_line(text: str) -> None:
    """Write a line to stdout."""
    sys.stdout.write(f"{text}\n")


def print_json(content: Any) -> None:
    """Write a value to stdout as JSON."""
    print_line(json.dumps(content, indent=2, ensure_ascii=False))


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]], *, heading: bool = True) -> None:
    """Print rows as a table on a terminal, else as tab-separated lines, with the column names first if `heading`."""
    if sys.stdout.isatty():
        print_table(columns, rows)
    else:
        for cells in [*([columns] if heading else []), *rows]:
            print_line("\t".join(cells))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], console: Console | None = None) -> None:
    """Draw a table. Wide cells are folded, not cut: a name that ends in … cannot be copied."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(*(Column(name, overflow="fold") for name in columns))
    for row in rows:
        # Text: names may look like markup.
        table.add_row(*map(Text, row))
    (console or Console()).print(table)
