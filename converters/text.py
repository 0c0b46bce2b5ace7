"""What other programs and files say, as people may read it in a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable

from edge_ocr.core.errors import escape_text


def clean_text(text: str, most: int = 200) -> str:
    """Return foreign text with what a terminal or a reader of lines would act on spelt out, and shortened."""
    shown = text if len(text) <= most else f"{text[:most]}…"
    return escape_text(shown)


def format_figure(value: float) -> str:
    """Return a figure as people read it: shares with four places, small differences as powers of ten."""
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.4g}" if not float(value).is_integer() else f"{value:g}"


LAST_LINES = 15


# Paddle-Lite puts level, time, file (its path cut from the left) and function before each line of its log, with the
# line's number behind the one or the other:
# "[F 11/22  9:19: 6.755 ...e-Lite/lite/model_parser/model_parser.cc:118 LoadCombinedParamsPb] Check failed: ..."
# "[F 11/22 12:30:26.284 lite/core/program.cc RuntimeProgram:316] no operator ..."
_LOG_PREFIX = re.compile(r"\[[IWEF] [^\]]*?([^\s/\]]+\.\w+)(:\d+)? ([^\s:\]]+)(:\d+)?\] ")


def clean_log(text: str) -> str:
    """Return lines of Paddle-Lite's log with `FILE:LINE FUNCTION: ` before each; other text stays."""
    return _LOG_PREFIX.sub(r"\1\2\4 \3: ", text)


def list_last_lines(output: bytes | bytearray, count: int = LAST_LINES) -> list[str]:
    """Return the last lines that say something: without log prefixes, blank lines, and repeats of the line before."""
    lines: list[str] = []
    for raw in output.decode(errors="replace").splitlines():
        line = clean_log(raw.strip())
        if line and lines[-1:] != [line]:
            lines.append(line)
    return lines[-count:]


def quote_last_line(output: bytes | bytearray) -> str:
    """Return the last line of what a program wrote, as the end of a message; "" for nothing."""
    return "".join(f": {clean_text(line, 500)}" for line in list_last_lines(output, 1))


def quote_last_lines(output: bytes | bytearray) -> str:
    """Return the last lines of what a program wrote, as the end of a message; "" for nothing."""
    last = "".join(f"\n  {line}" for line in list_last_lines(output))
    return last and f"; it printed last:{last}"


def sum_up(output: bytes) -> str:
    """Return what a failed tool printed in one line: the first line says what, the last why; "" for nothing."""
    lines = list_last_lines(output, 1000)
    return " … ".join(dict.fromkeys(lines[:1] + lines[-1:]))


Report = Callable[[str], None]
"""Is given each step in plain text."""
