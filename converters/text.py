"""Output of other programs, made fit for messages in a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable

from edge_ocr.core.errors import escape_text


def clean_text(text: str, most: int = 200) -> str:
    """Return foreign text, shortened to `most` characters, with control characters escaped."""
    shown = text if len(text) <= most else f"{text[:most]}…"
    return escape_text(shown)


def format_figure(value: float) -> str:
    """Return a number as text: four significant digits, small differences as powers of ten."""
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.4g}" if not float(value).is_integer() else f"{value:g}"


LAST_LINES = 15


# Paddle-Lite puts level, time, file (its path cut from the left) and function before each line of its log, with the
# line number after the file or after the function:
# "[F 11/22  9:19: 6.755 ...e-Lite/lite/model_parser/model_parser.cc:118 LoadCombinedParamsPb] Check failed: ..."
# "[F 11/22 12:30:26.284 lite/core/program.cc RuntimeProgram:316] no operator ..."
_LOG_PREFIX = re.compile(r"\[[IWEF] [^\]]*?([^\s/\]]+\.\w+)(:\d+)? ([^\s:\]]+)(:\d+)?\] ")


def clean_log(text: str) -> str:
    """Shorten the prefix of each line of Paddle-Lite's log to `FILE:LINE FUNCTION: `; other text is unchanged."""
    return _LOG_PREFIX.sub(r"\1\2\4 \3: ", text)


def list_last_lines(output: bytes | bytearray, count: int = LAST_LINES) -> list[str]:
    """Return the last `count` lines, without blank lines, repeats, and the prefixes of Paddle-Lite's log."""
    lines: list[str] = []
    for raw in output.decode(errors="replace").splitlines():
        line = clean_log(raw.strip())
        if line and lines[-1:] != [line]:
            lines.append(line)
    return lines[-count:]


def quote_last_line(output: bytes | bytearray) -> str:
    """Return the last line of a program's output as the end of a message; "" for no output."""
    return "".join(f": {clean_text(line, 500)}" for line in list_last_lines(output, 1))


def quote_last_lines(output: bytes | bytearray) -> str:
    """Return the last lines of a program's output as the end of a message; "" for no output."""
    last = "".join(f"\n  {line}" for line in list_last_lines(output))
    return last and f"; it printed last:{last}"


def sum_up(output: bytes) -> str:
    """Return the output of a failed tool in one line: its first line (what) and its last (why); "" for no output."""
    lines = list_last_lines(output, 1000)
    return " … ".join(dict.fromkeys(lines[:1] + lines[-1:]))


Report = Callable[[str], None]
"""Receives each step as text."""
