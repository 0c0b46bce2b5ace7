"""The order of characters in text that runs from right to left.

Networks return characters from left to right, in the order of the picture. PaddleOCR's label decoding turns that text
around for Arabic and keeps numbers and Latin words (`pred_reverse`); PaddleX 3 uses the Unicode bidirectional algorithm
instead, which also mirrors brackets. This is its inverse for one line of a right-to-left page.
"""

from __future__ import annotations

import re
from types import MappingProxyType

# Ranges instead of properties, so that every language's regular expressions agree: Hebrew and Arabic without their
# digits; digits; Latin, Greek and Cyrillic letters.
_RTL = r"\u0590-\u065f\u066d-\u06ef\u06fa-\u08ff\ufb1d-\ufdff\ufe70-\ufefc"
_DIGIT = r"0-9\u0660-\u0669\u06f0-\u06f9"
_LTR = r"A-Za-z\u00aa\u00b5\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02b8\u0370-\u052f"

_PIECES = re.compile(
    # Words, and what is between them, with numbers next to them.
    rf"(?:[{_DIGIT}][^{_RTL}{_LTR}]*)?[{_LTR}](?:[^{_RTL}]*[{_LTR}{_DIGIT}])?[+#%]*"
    # A number with its separators, as in dates and telephone numbers, and signs that touch it.
    rf"|(?:(?<![^ ])[-+#$£€])?[{_DIGIT}]+(?:[-+.,:/ \u066b\u066c][{_DIGIT}]+)*[%\u066a\u00b0]?"
    r"|.",
    re.DOTALL,
)
_HAS_RTL = re.compile(f"[{_RTL}]")
_MIRRORED = MappingProxyType(dict(zip("()[]{}<>«»‹›", ")(][}{><»«›‹")))


def has_right_to_left(text: str) -> bool:
    """Return whether a text has Hebrew or Arabic letters."""
    return _HAS_RTL.search(text) is not None


def order_logically(text: str) -> str:
    """Return a line in the order in which it is read and typed; `text` has the order of the picture, left to right.

    Numbers and words of left-to-right letters keep their order, with all that is between such words; brackets around
    right-to-left text are mirrored. A line without right-to-left letters is unchanged.
    """
    return "".join(piece for _, piece in split_logically(text))


def split_logically(text: str) -> list[tuple[int, str]]:
    """Return the pieces of a line in the order of `order_logically`, each with its place in `text`."""
    if not has_right_to_left(text):
        return [(0, text)]
    pieces = [(piece.start(), piece.group()) for piece in _PIECES.finditer(text)]
    return [(start, _MIRRORED.get(piece, piece)) for start, piece in reversed(pieces)]
