"""Whose the files in an exported folder are, and what becomes of them where another export takes its place.

The one rule for bundles and projects here and for bundles on boards. What an export wrote is in its list, with sha256:
`files` of a bundle's manifest, or a project's record. Of that,

- what is as it was written is ours, and replaced;
- what was changed is the user's, as is a file of the user's where the new export writes one: either would be lost;
- all else is the user's, too, and kept: it is taken along as it is, be it a link, a pipe or an empty folder.

What is made in using the folder is nobody's, and dropped. `deploy/keeper.sh` runs this file on boards, so it needs
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

SEAL = "manifest_sha256"
"""Key of a manifest: the sha256 that its content has while this is empty. It tells whether somebody edited it."""

_MOUNTS = Path("/proc/self/mountinfo")
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

    Raises OSError for what cannot be read, and where something is mounted: that can be neither linked nor renamed, and
    what removes the folder would empty it.
    """
    for mounted in _list_mounts(folder):
        raise _refuse_mount(mounted)
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


def take_along(source: Path, target: Path, names: Collection[str]) -> tuple[int, list[str]]:
    """Put what is called `names` in `source` into `target`, too, as the very files; what is there already stays.

    Where the file system has no hard links, they are copies. Returns how many files and links they are, and the names
    of those that were not taken along, as `target` has something else there.

    Raises OSError for what can be neither linked nor copied.
    """
    count, in_the_way = 0, list[Path]()
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        count += _link(source / name, target / name, in_the_way)
    return count, [path.relative_to(target).as_posix() for path in in_the_way]


def has_all(source: Path, target: Path, names: Collection[str]) -> bool:
    """Tell whether `target` has all that is called `names` in `source`, be it copies.

    Raises OSError for what cannot be read.
    """
    leaves = [leaf for name in names for leaf in _list_leaves(source / name)]
    return all(_is_same(leaf, target / leaf.relative_to(source)) for leaf in leaves)


def name_some(names: Collection[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(list(names)[:_MOST_NAMES]) + more


def _list_parents(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _link(source: Path, target: Path, in_the_way: list[Path]) -> int:
    if _is_folder(source):
        if os.path.lexists(target) and not _is_folder(target):
            in_the_way.append(target)
            return 0
        target.mkdir(exist_ok=True)
        count = sum(_link(path, target / path.name, in_the_way) for path in source.iterdir())
        with suppress(PermissionError):  # where we are not the owner
            found = source.stat()
            os.chown(target, found.st_uid, found.st_gid)
        shutil.copystat(source, target)
        return count
    if not os.path.lexists(target):
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            # Both lie in one folder, so the file systems differ where something is mounted.
            if error.errno == errno.EXDEV:
                raise _refuse_mount(str(source)) from None
            if not source.is_symlink() and not source.is_file():
                raise OSError(error.errno, error.strerror, str(source)) from None
            shutil.copy2(source, target, follow_symlinks=False)
    elif not _is_same(source, target):
        in_the_way.append(target)
        return 0
    return 1


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_same(one: Path, other: Path) -> bool:
    """Tell whether two are one file or link, or have the same content; where there is no `other`, they are not."""
    if not os.path.lexists(other):
        return False
    found = one.lstat(), other.lstat()
    if os.path.samestat(*found):
        return True
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    if not one.is_file() or not other.is_file() or found[0].st_size != found[1].st_size:
        return False
    return _hash(str(one)) == _hash(str(other))


def _list_mounts(folder: Path) -> list[str]:
    """Return where something is mounted in a folder, or on it; nothing where the system does not tell."""
    place = os.path.realpath(folder)
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return []
    # The fifth field, with blanks and the like in octal.
    fields = [re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), line.split(b" ")[4]) for line in lines]
    points = map(os.fsdecode, fields)
    return [point for point in points if point == place or point.startswith(f"{place}/")]


def _refuse_mount(place: str) -> OSError:
    return OSError(errno.EXDEV, "something is mounted there", place)


def _list_leaves(path: Path) -> Iterator[Path]:
    if _is_folder(path):
        for inner in path.iterdir():
            yield from _list_leaves(inner)
    else:
        yield path


def _raise(error: OSError) -> None:
    raise error


def _hash(path: str) -> str:
    # As edge_ocr.core.files does; this file runs alone on boards.
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def main(stage: str, old: str, new: str, settings: str) -> None:
    """Apply the rule to the bundle `old` on a board; print how many files were taken along, then what would be lost.

    Of `stage`, `ask` only looks; `take` takes along to the folder `new`, which holds what was just written; so does
    `again`, once that is in place, with what has come since: what was changed since, too, would then be lost with
    `old`. `settings` is a JSON object with `manifest`, `ours`, `dropped` and `written`, as above.
    """
    given = json.loads(settings)
    # What has no manifest, the keeper does not replace, unless it is empty. Once it has, that may be gone since.
    if not (Path(old) / given["manifest"]).exists() and (stage != "again" or not any(Path(old).iterdir())):
        sys.stdout.write("0 \n")
        return
    written = given["written"] if stage == "ask" else list_written(Path(new)) if stage == "take" else ()
    listed = read_listed(Path(old), given["manifest"])
    contents = sort_out(Path(old), listed, given["ours"], given["dropped"], written)
    count, in_the_way = (0, []) if stage == "ask" else take_along(Path(old), Path(new), contents.kept)
    named = "".join(c if c.isprintable() else "?" for c in name_some([*contents.lost, *in_the_way]))
    sys.stdout.buffer.write(f"{count} {named}\n".encode(errors="replace"))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (OSError, ValueError) as problem:
        named = f"{problem.filename}: {problem.strerror}" if isinstance(problem, OSError) else problem
        sys.stderr.write(f"Error: what is yours in the bundle there cannot be told: {named}\n")
        if isinstance(problem, OSError) and problem.errno == errno.EXDEV:
            sys.stderr.write("Hint: unmount it, or deploy to another folder\n")
        sys.exit(2)  # of UsageError
