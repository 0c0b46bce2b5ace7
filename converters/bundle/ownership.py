"""Which files in an exported folder belong to its user, and what happens to them when another export replaces it.

The same rule holds for bundles and projects here and for bundles on boards. An export lists its files with their
sha256, in a bundle's manifest (`files`) or in a project's record:

- A listed file that is unchanged is ours, and is replaced.
- A listed file that was changed is the user's, and so is a file at a path that the new export writes. Replacing the
  folder would lose them.
- Everything else is the user's, and is kept as it is, including links, pipes and empty folders.

Files that appear when the folder is used belong to nobody, and are dropped. `edge-ocr deploy` runs this file on boards,
so it needs only Python 3.9, and its caller gives all file names.
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
"""Key in a manifest: the sha256 of its content with this value empty. It shows whether the manifest was edited."""

_MOUNTS = Path("/proc/self/mountinfo")
_SEAL_LINE = re.compile(rb'(?<=^  "manifest_sha256": ")[^"\n]*', re.MULTILINE)
_CHUNK_BYTES = 2**20
_MOST_NAMES = 5


@dataclass
class Contents:
    """The user's files in a folder, by paths relative to it with forward slashes."""

    kept: list[str] = field(default_factory=list)
    """To be kept: files, links, and folders that contain only the user's files."""
    lost: list[str] = field(default_factory=list)
    """Files that a replacement would lose."""


def find_manifest_sha256(content: bytes) -> str:
    """Return the sha256 of a manifest's content; "" if its seal shows that it was edited.

    Older exports wrote no seal; without one, the manifest counts as unchanged.
    """
    seal = _SEAL_LINE.search(content)
    unsealed = content if seal is None else content[: seal.start()] + content[seal.end() :]
    is_broken = SEAL.encode() in content and (
        seal is None or hashlib.sha256(unsealed).hexdigest().encode() != seal.group()
    )
    return "" if is_broken else hashlib.sha256(content).hexdigest()


def read_listed(folder: Path, manifest: str) -> dict[str, str]:
    """Return the sha256, by name, of the files that an export wrote into the bundle `folder`, including `manifest`.

    Raises OSError or ValueError if the folder has no readable manifest of a bundle.
    """
    content = (folder / manifest).read_bytes()
    try:
        parsed = json.loads(content)
    except RecursionError:  # a file full of brackets
        raise ValueError("too deep") from None
    # The name alone proves nothing: web apps have a manifest.json, too.
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
    """Sort the files in an exported folder. Links are not followed, and the user's files are not read.

    `listed` are the files that the export wrote; `ours` too, but without a sha256. `dropped` are the folders that
    belong to nobody. `written` are the files that the new export writes, as far as known.

    Raises OSError for files that cannot be read, and if something is mounted in the folder: a mount can be neither
    linked nor renamed, and removing the folder would empty it.
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
                # A link may show the right content, but its target is the user's.
                if not entry.is_file(follow_symlinks=False) or _hash(entry.path) != listed[name]:
                    contents.lost.append(name)
            elif name in written or name in shared:
                contents.lost.append(name)
            else:
                contents.kept.append(name)

    sort("")
    return contents


def list_written(folder: Path) -> list[str]:
    """Return the names of all files and links in a folder; links are not followed."""
    found = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]  # noqa: PTH114, PTH118
        found += [Path(parent, name).relative_to(folder).as_posix() for name in (*files, *links)]
    return found


def take_along(source: Path, target: Path, names: Collection[str]) -> tuple[int, list[str]]:
    """Link the files `names` of `source` into `target`; existing files in `target` stay.

    If the file system has no hard links, they are copied. Returns the number of files and links, and the names of those
    that were skipped because `target` has something else there.

    Raises OSError for a file that can be neither linked nor copied.
    """
    count, in_the_way = 0, list[Path]()
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        count += _link(source / name, target / name, in_the_way)
    return count, [path.relative_to(target).as_posix() for path in in_the_way]


def has_all(source: Path, target: Path, names: Collection[str]) -> bool:
    """Tell whether `target` has all the files `names` of `source`, or copies of them.

    Raises OSError for a file that cannot be read.
    """
    leaves = [leaf for name in names for leaf in _list_leaves(source / name)]
    return all(_is_same(leaf, target / leaf.relative_to(source)) for leaf in leaves)


def name_some(names: Collection[str]) -> str:
    """Return the first few names, and the number of the others, as text."""
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
        with suppress(PermissionError):  # we may not be the owner
            found = source.stat()
            os.chown(target, found.st_uid, found.st_gid)
        shutil.copystat(source, target)
        return count
    if not os.path.lexists(target):
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            # Both are in one folder, so only a mount can put them on different file systems.
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
    """Tell whether two paths are the same file, or have the same content or target; False if `other` is missing."""
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
    """Return the mount points in or on a folder; none if the system does not list them."""
    place = os.path.realpath(folder)
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return []
    # The fifth field, in which spaces and some other characters are octal escapes.
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
    """Apply the rule to the bundle `old` on a board; print the number of files kept, then the names of those at risk.

    `stage` is one of three: `ask` only looks. `take` links the user's files into the new bundle in folder `new`.
    `again` does so once `new` is in place, for files that were added since; files that were changed since would be lost
    with `old`. `settings` is a JSON object with `manifest`, `ours`, `dropped` and `written`, as above.
    """
    given = json.loads(settings)
    # The keeper replaces a folder without a manifest only if it is empty; after that, files may have come or gone.
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
        sys.stderr.write(f"Error: cannot find out which files in the bundle there are yours: {named}\n")
        if isinstance(problem, OSError) and problem.errno == errno.EXDEV:
            sys.stderr.write("Hint: unmount it, or deploy to another folder\n")
        sys.exit(2)  # the exit code of UsageError
