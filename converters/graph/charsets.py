"""Which characters a bundle reads: all that the model has, or a part."""

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
        # The 95 printable ones.
        "ascii": " " + string.digits + string.ascii_letters + string.punctuation,
        # With the signs that stand in numbers, dates, times and prices.
        "digits": string.digits + " +,-./:%",
    }
)
"""`full`, all that the model has, is not among them."""


def list_lacking(choice: str, charset: Charset) -> list[str]:
    """Return the characters of a named charset that the model lacks; empty for `full` and for files."""
    return sorted(set(NAMED_CHARSETS.get(choice, "")) - set(charset.classes))


def select_classes(choice: str, charset: Charset, model: str) -> tuple[int, ...] | None:
    """Return the classes that a bundle keeps, in the model's order, the blank first; None for all of them.

    `choice` is `full`, a name in NAMED_CHARSETS, or a file with one character a line. Of a named charset, characters
    that the model lacks are left out; a file must hold none. Of a character with several classes, all are kept; classes
    that read as "" are kept by `full` only.

    Raises UsageError for what is neither, ModelError for a file that is empty or damaged, has an empty line, a
    character twice, or one that the model lacks.
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
                "take them out of the file, or give a recognition model that has them",
            )
    else:
        raise UsageError(
            f"--charset {choice}: neither a file nor a charset", f"full, {', '.join(NAMED_CHARSETS)}, or a file"
        )
    kept = tuple(i for i, character in enumerate(charset.classes) if i == BLANK_INDEX or character in wanted)
    if len(kept) < 2:
        raise ModelError(f"--charset {choice}: {model} has none of these characters", "give another charset")
    return kept


def _read_characters(path: Path) -> tuple[str, ...]:
    """Read a list of characters that somebody wrote by hand: unlike in a dictionary, no class stands behind a line."""
    characters = read_dictionary(path)
    lines: dict[str, int] = {}
    for line, character in enumerate(characters, 1):
        if not character:
            raise ModelError(f"the dictionary {path} is empty in line {line}", "take the line out")
        if character in lines:
            raise ModelError(
                f"the dictionary {path} holds {character!r} twice, in lines {lines[character]} and {line}",
                "take one of them out",
            )
        lines[character] = line
    return characters
