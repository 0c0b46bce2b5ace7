"""Remembers the folders of users' models, so that a bundle can be verified without naming them again.

A bundle holds no path. The store keeps one small file per exported model in `folders/`, named after the hashes that the
manifest lists; it contains the folder's path.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from edge_ocr.core.files import write_file
from edge_ocr.errors import UsageError
from edge_ocr.models.store import store_root


def remember_folder(hashes: Mapping[str, str], folder: Path) -> None:
    """Remember the folder of a model, whose files have these sha256 by name; do nothing if the store is read-only."""
    with contextlib.suppress(OSError, UsageError):
        write_file(_name_note(hashes), f"{folder.resolve()}\n".encode())


def find_folder(hashes: Mapping[str, str]) -> Path | None:
    """Return the folder that a model with these files was last exported from; None if it is unknown or gone."""
    try:
        folder = Path(_name_note(hashes).read_text(encoding="utf-8").removesuffix("\n"))
        return folder if folder.is_absolute() and folder.is_dir() else None
    except (OSError, ValueError):
        return None


def _name_note(hashes: Mapping[str, str]) -> Path:
    digest = hashlib.sha256(json.dumps(sorted(hashes.items())).encode()).hexdigest()
    return store_root() / "folders" / f"{digest[:32]}.txt"
