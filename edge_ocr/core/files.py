"""Files that are whole or not there."""

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
    """Write beside the target and rename, so that a reader never sees half a file; folders above it are made.

    Raises UsageError where it cannot be written.
    """
    write_files({path: content}, "free some space, or write to another disk")


def write_files(contents: Mapping[Path, bytes], hint: str) -> None:
    """Write files that belong together, all or none, each as `write_file` does; where one fails, older ones stay.

    A process that is killed meanwhile may leave new ones beside old ones, but each is whole and in its place if it was
    there; and temporary files, whose names begin with a dot and end in `.part` and `.old`.

    Raises UsageError for the first that cannot be written, with `hint` where the disk is full.
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
        # A rename replaces one file at once. Of several, the older ones get a second name first, and keep theirs.
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
            # Ctrl-C may come between a rename and the next line.
            if not os.path.lexists(temporaries[replaced]) and replaced in backups:
                try:
                    backups[replaced].replace(replaced)
                except FileNotFoundError:
                    # There was none.
                    _remove([replaced])
                except OSError:
                    # It stays under its second name.
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
        # FAT and some network disks have no hard links.
        shutil.copy2(path, backup, follow_symlinks=False)


def _name_beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{secrets.token_hex(8)}.{suffix}")


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        # Gone after a rename; where the folder is none, or the name too long, it never was.
        with suppress(OSError):
            path.unlink()


def is_disk_full(error: OSError) -> bool:
    """Tell whether a file could not be written for want of space, or of a user's share of it."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def explain_os_error(error: OSError) -> str:
    """Return the reason of an error of the file system, without the path."""
    if error.errno == errno.EDQUOT:
        return "disk full (your quota is used up)"
    return "disk full" if error.errno == errno.ENOSPC else error.strerror or str(error)


def choose_name(stem: str, taken: set[str]) -> str:
    """Return `stem`, with a number behind where it is in `taken`, and put it there."""
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    taken.add(name)
    return name
