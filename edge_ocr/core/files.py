"""Writes files atomically."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from .errors import UsageError

_CHUNK_BYTES = 2**20


def hash_stream(file: IO[bytes]) -> str:
    """Return the sha256, as hex digits, of what an open file has left to read."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def write_file(path: Path, content: bytes) -> None:
    """Write a temporary file and rename it, so that readers never see a partial file; creates parent folders.

    Raises UsageError if it cannot be written.
    """
    write_files({path: content}, "free some space, or write to another disk")


def write_files(contents: Mapping[Path, bytes], hint: str) -> None:
    """Write files that belong together, all or none, each as `write_file` does; if one fails, the old files stay.

    If the process is killed, new files may be next to old ones, but each is complete, and no existing file is missing.
    Temporary files, whose names begin with a dot and end in `.part` or `.old`, may remain.

    Raises UsageError for the first file that cannot be written, with `hint` if the disk is full.
    """
    temporaries: dict[Path, Path] = {}
    backups: dict[Path, Path] = {}
    begun: list[Path] = []
    path = Path()
    try:
        for path, content in contents.items():
            temporaries[path] = _name_beside(path, "part")
            path.parent.mkdir(parents=True, exist_ok=True)
            temporaries[path].write_bytes(content)
        # A rename replaces one file atomically. For several, back up the old files first under second names.
        for path in contents if len(contents) > 1 else ():
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            backups[path] = _name_beside(path, "old")
            with suppress(FileNotFoundError):
                _back_up(path, backups[path])
        for path, temporary in temporaries.items():
            begun.append(path)
            temporary.replace(path)
    except BaseException as error:
        for replaced in begun:
            # Ctrl-C may arrive between a rename and the next line.
            if not os.path.lexists(temporaries[replaced]) and replaced in backups:
                try:
                    backups[replaced].replace(replaced)
                except FileNotFoundError:
                    # There was no old file.
                    _remove([replaced])
                except OSError:
                    # Keep the backup.
                    del backups[replaced]
        _remove(backups.values())
        if isinstance(error, OSError):
            text = explain_os_error(error)
            raise UsageError(f"cannot write {path}: {text}", hint if is_disk_full(error) else None) from None
        raise
    else:
        _remove(backups.values())
    finally:
        _remove(temporaries.values())


def _back_up(path: Path, backup: Path) -> None:
    try:
        os.link(path, backup)
    except FileNotFoundError:
        raise
    except OSError:
        # FAT and some network file systems have no hard links.
        shutil.copy2(path, backup, follow_symlinks=False)


def _name_beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{secrets.token_hex(8)}.{suffix}")


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        # It is gone after a rename, and never existed if the folder or the name is invalid.
        with suppress(OSError):
            path.unlink()


def is_disk_full(error: OSError) -> bool:
    """Return whether a write failed because the disk or the user's quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def explain_os_error(error: OSError) -> str:
    """Return the reason of a file system error, without the path."""
    if error.errno == errno.EDQUOT:
        return "disk full (your quota is used up)"
    return "disk full" if error.errno == errno.ENOSPC else error.strerror or str(error)


def choose_name(stem: str, taken: set[str]) -> str:
    """Return `stem`, with a number appended if it is in `taken`, and add it to `taken`."""
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    taken.add(name)
    return name
