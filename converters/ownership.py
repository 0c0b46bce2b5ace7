"""Whose the files in an exported folder are, and what becomes of them where another export takes its place.

The one rule for bundles and projects here and for bundles on boards. What an export wrote is in its list, with sha256:
`files` of a bundle's manifest, or a project's record. Of that,

- what is as it was written is ours, and replaced;
- what was changed is the user's, as is a file of the user's where the new export writes one: either would be lost;
- all else is the user's, too, and kept: it is taken along as it is, be it a link, a pipe or an empty folder.

What is made in using the folder is nobody's, and dropped. `deploy_keeper.sh` runs this file on boards, so it needs
nothing but Python 3.9: what is called how is given by the caller.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

SEAL = "manifest_sha256"
"""Key of a manifest: the sha256 that its content has while this is empty. It tells whether somebody edited it."""

_SEAL_LINE = re.compile(rb'(?<=^  "manifest_sha256": ")[^"\n]*', re.MULTILINE)
_CHUNK_BYTES = 2**20
_MOST_NAMES = 5


@dataclass
class Contents:
    """What of a folder is the user's; names are relative to it, with forward slashes."""

    kept: list[str] = field(default_factory=list)
    """To be taken along: files and links, and folders with nothing but what is the user's."""
    lost: list[str] = field(default_factory=list)
    """What a replacement would lose."""


def find_manifest_sha256(content: bytes) -> str:
    """Return the sha256 that a manifest with this content has where nobody changed it.

    Without a seal, which older exports did not write, that is the content's own; where it is broken, nothing.
    """
    seal = _SEAL_LINE.search(content)
    unsealed = content if seal is None else content[: seal.start()] + content[seal.end() :]
    is_broken = SEAL.encode() in content and (
        seal is None or hashlib.sha256(unsealed).hexdigest().encode() != seal.group()
    )
    return "" if is_broken else hashlib.sha256(content).hexdigest()


def read_listed(folder: Path, manifest: str) -> dict[str, str]:
    """Return the sha256 by name of what an export wrote into the bundle `folder`, the file `manifest` included.

    Raises OSError or ValueError for a folder without a readable manifest of a bundle.
    """
    content = (folder / manifest).read_bytes()
    try:
        parsed = json.loads(content)
    except RecursionError:  # of a file of nothing but brackets
        raise ValueError("too deep") from None
    # The name alone proves nothing: web pages have a manifest.json, too.
    if not isinstance(parsed, dict) or "edge_ocr_version" not in parsed:
        raise ValueError("not the manifest of a bundle")
    files = parsed.get("files")
    entries = files.items() if isinstance(files, dict) else ()
    listed = {name: str(entry.get("sha256")) for name, entry in entries if isinstance(entry, dict)}
    return {**listed, manifest: find_manifest_sha256(content)}


def sort_out(
    folder: Path,
    listed: Mapping[str, str],
    ours: Collection[str],
    dropped: Collection[str],
    written: Collection[str] = (),
) -> Contents:
    """Tell what of an exported folder is its user's. Links are not followed, and the user's files are not read.

    `listed` is what the export wrote; `ours` is so, too, but has no sha256. `dropped` are the folders that are
    nobody's. `written` is what the new export writes, as far as that is known.

    Raises OSError for what cannot be read.
    """
    written = frozenset(written)
    shared = {parent for name in (*listed, *ours, *written) for parent in _list_parents(name)}
    contents = Contents()

    def sort(parent: str) -> None:
        with os.scandir(folder / parent) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            name = f"{parent}{entry.name}"
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder and (name in dropped or entry.name == "__pycache__"):
                continue
            if is_folder and name in shared:
                sort(f"{name}/")
            elif name in ours and entry.is_file(follow_symlinks=False):
                continue
            elif name in listed:
                # A link may show the right content, but where it leads is the user's.
                if not entry.is_file(follow_symlinks=False) or _hash(entry.path) != listed[name]:
                    contents.lost.append(name)
            elif name in written or name in shared:
                contents.lost.append(name)
            else:
                contents.kept.append(name)

    sort("")
    return contents


def list_written(folder: Path) -> list[str]:
    """Return all that is in a folder but folders, by name; links are not followed."""
    found = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]  # noqa: PTH114, PTH118
        found += [Path(parent, name).relative_to(folder).as_posix() for name in (*files, *links)]
    return found


def take_along(source: Path, target: Path, names: Collection[str]) -> int:
    """Put what is called `names` in `source` into `target`, too, as the very files; what is there already stays.

    Where the file system has no hard links, they are copies. Returns how many files and links they are.

    Raises OSError for what can be neither linked nor copied.
    """
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        _link(source / name, target / name)
    return sum(1 for name in names for _ in _list_leaves(source / name))


def hash_file(file: IO[bytes]) -> str:
    """Return the sha256 of what an open file has left."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def name_some(names: Collection[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(list(names)[:_MOST_NAMES]) + more


def _list_parents(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _link(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        if source.is_mount():
            raise OSError(errno.EXDEV, "something is mounted there", str(source))
        target.mkdir(exist_ok=True)
        for path in source.iterdir():
            _link(path, target / path.name)
        with suppress(PermissionError):  # where we are not the owner
            found = source.stat()
            os.chown(target, found.st_uid, found.st_gid)
        shutil.copystat(source, target)
    elif not os.path.lexists(target):
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if not source.is_symlink() and not source.is_file():
                raise OSError(error.errno, error.strerror, str(source)) from None
            shutil.copy2(source, target, follow_symlinks=False)


def _list_leaves(path: Path) -> Iterator[Path]:
    if path.is_dir() and not path.is_symlink():
        for inner in path.iterdir():
            yield from _list_leaves(inner)
    else:
        yield path


def _raise(error: OSError) -> None:
    raise error


def _hash(path: str) -> str:
    with Path(path).open("rb") as file:
        return hash_file(file)


def main(stage: str, old: str, new: str, settings: str) -> None:
    """Apply the rule to the bundle `old` on a board; print how many files were taken along, then what would be lost.

    Of `stage`, `ask` only looks; `take` takes along to the folder `new`, which holds what was just written; so does
    `again`, once that is in place, with what has come since. `settings` is a JSON object with `manifest`, `ours`,
    `dropped` and `written`, as above.
    """
    given = json.loads(settings)
    if not (Path(old) / given["manifest"]).exists():
        sys.stdout.write("0 \n")  # there is nothing, or an empty folder
        return
    written = given["written"] if stage == "ask" else list_written(Path(new)) if stage == "take" else ()
    listed = read_listed(Path(old), given["manifest"])
    contents = sort_out(Path(old), listed, given["ours"], given["dropped"], written)
    count = take_along(Path(old), Path(new), contents.kept) if stage != "ask" else 0
    named = "".join(c if c.isprintable() else "?" for c in name_some(contents.lost))
    sys.stdout.buffer.write(f"{count} {named}\n".encode(errors="replace"))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (OSError, ValueError) as problem:
        named = f"{problem.filename}: {problem.strerror}" if isinstance(problem, OSError) else problem
        sys.stderr.write(f"Error: what is yours in the bundle there cannot be told: {named}\n")
        sys.exit(2)  # of UsageError
