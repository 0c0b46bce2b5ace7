"""Files that are whole or not there."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from .errors import UsageError


def write_file(path: Path, content: bytes) -> None:
    """Write beside the target and rename, so that a reader never sees half a file; folders above it are made.

    Raises UsageError where it cannot be written.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        # Gone after a rename; where the folder is none, or the name too long, it never was.
        with suppress(OSError):
            temporary.unlink()


def choose_name(stem: str, taken: set[str]) -> str:
    """Return `stem`, with a number behind where it is in `taken`, and put it there."""
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    taken.add(name)
    return name
