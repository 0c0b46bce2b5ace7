"""Selects the characters that a bundle reads: all of the model's, or some."""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from edge_ocr.core.charset import BLANK_INDEX, Charset
from edge_ocr.errors import ModelError, UsageError
from edge_ocr.models.folder import read_dictionary

NAMED_CHARSETS: Mapping[str, str] = MappingProxyType(
    {
        # The 95 printable characters.
        "ascii": " " + string.digits + string.ascii_letters + string.punctuation,
        # Digits, and the signs in numbers, dates, times and prices.
        "digits": string.digits + " +,-./:%",
    }
)
"""Without `full`, which is all characters of the model."""


def list_lacking(choice: str, charset: Charset) -> list[str]:
    """Return the characters of a named charset that the model lacks; empty for `full` and for files."""
    return sorted(set(NAMED_CHARSETS.get(choice, "")) - set(charset.classes))


def select_classes(choice: str, charset: Charset, model: str) -> tuple[int, ...] | None:
    """Return the classes that a bundle keeps, in the model's order, the blank first; None for all of them.

    `choice` is `full`, a name in NAMED_CHARSETS, or a file with one character per line. Characters that the model lacks
    are skipped in a named charset and refused in a file. All classes of a character are kept; only `full` keeps classes
    that read as "".

    Raises UsageError if `choice` is none of these; ModelError if the file is empty or damaged, or has an empty line, a
    duplicate, or a character that the model lacks.
    """
    if choice == "full":
        return None
    if choice in NAMED_CHARSETS:
        wanted = set(NAMED_CHARSETS[choice])
    elif Path(choice).is_file():
        characters = _read_characters(Path(choice))
        wanted = set(characters)
        lacking = [character for character in characters if character not in charset.classes]
        if lacking:
            shown = " ".join(map(repr, lacking[:20])) + (f" and {len(lacking) - 20} more" if len(lacking) > 20 else "")
            raise ModelError(
                f"{choice}: {model} cannot read {len(lacking)} of these characters: {shown}",
                "remove them from the file, or choose a recognition model that has them",
            )
    else:
        raise UsageError(
            f"--charset {choice}: neither a file nor a charset", f"use full, {', '.join(NAMED_CHARSETS)}, or a file"
        )
    kept = tuple(i for i, character in enumerate(charset.classes) if i == BLANK_INDEX or character in wanted)
    if len(kept) < 2:
        raise ModelError(f"--charset {choice}: {model} has none of these characters", "choose another charset")
    return kept


def _read_characters(path: Path) -> tuple[str, ...]:
    """Read a user's list of characters; unlike in a dictionary, lines are not classes, so all must differ."""
    characters = read_dictionary(path)
    lines: dict[str, int] = {}
    for line, character in enumerate(characters, 1):
        if not character:
            raise ModelError(f"the dictionary {path} is empty in line {line}", "remove the line")
        if character in lines:
            raise ModelError(
                f"the dictionary {path} holds {character!r} twice, in lines {lines[character]} and {line}",
                "remove one of them",
            )
        lines[character] = line
    return characters
