"""What other programs and files say, as people may read it in a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def clean_text(text: str, most: int = 200) -> str:
    """Return foreign text with what a terminal or a reader of lines would act on spelt out, and shortened."""
    shown = text if len(text) <= most else f"{text[:most]}…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)


def format_figure(value: float) -> str:
    """Return a figure as people read it: shares with four places, small differences as powers of ten."""
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.4g}" if not float(value).is_integer() else f"{value:g}"


LAST_LINES = 15


# glog puts level, date, time, thread and a path cut from the left before each line:
# "[F 11/22  9:19: 6.755 ...e-Lite/lite/model_parser/model_parser.cc:118 LoadCombinedParamsPb] Check failed: ..."
_GLOG_PREFIX = re.compile(r"^\[([IWEF])\s.*?([^\s/]+:\d+) (\S+)\] ")


def list_last_lines(output: bytes, count: int = LAST_LINES) -> list[str]:
    """Return the last lines that say something: without log prefixes, blank lines, and repeats of the line before."""
    lines: list[str] = []
    for raw in output.decode(errors="replace").splitlines():
        line = _GLOG_PREFIX.sub(r"\1 \2 \3: ", raw.strip())
        if line and lines[-1:] != [line]:
            lines.append(line)
    return lines[-count:]


def sum_up(output: bytes) -> str:
    """Return what a failed tool printed in one line: the first line says what, the last why; "" for nothing."""
    lines = list_last_lines(output, 1000)
    return " … ".join(dict.fromkeys(lines[:1] + lines[-1:]))


Report = Callable[[str], None]
"""Is given each step in plain text."""
