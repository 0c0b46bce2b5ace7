"""Writes a bundle or a project: all of it or nothing, and never over any other folder.

`converters.bundle.ownership` decides which files in a replaced folder are the user's, and what happens to them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.bundle.android.record import RECORD, list_tools_folders, read_record, write_record
from converters.bundle.ownership import (
    SEAL,
    Contents,
    has_all,
    list_written,
    name_some,
    read_listed,
    sort_out,
    take_along,
)
from converters.plan import FileEntry
from converters.text import Report
from edge_ocr import __version__
from edge_ocr.core.bundle import INSTALLED, MANIFEST, SIGNATURE
from edge_ocr.core.files import hash_stream
from edge_ocr.errors import UsageError

OURS = (SIGNATURE, ".deploy-job")
"""Files of a bundle that its manifest does not list; `edge-ocr deploy` writes the second."""

DROPPED = (INSTALLED, f"{INSTALLED}.new", f"{INSTALLED}.old")
"""Folders that install.sh makes in a bundle."""

# From linux/fs.h and fcntl.h.
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


@dataclass
class BundleWriter:
    """The files of a bundle that is being written, and of the project around it."""

    root: Path
    """Their folder until all are written."""
    folder: Path
    """Folder of the bundle: `root`, or inside it."""
    place: Path
    """Their final folder."""
    files: dict[str, FileEntry] = field(default_factory=dict)
    """Files of the bundle by relative path with forward slashes, without the manifest."""
    around: dict[str, FileEntry] = field(default_factory=dict)
    """Files of the project around the bundle, by path relative to `root`."""

    def add(self, name: str, data: bytes, *, executable: bool = False) -> FileEntry:
        """Write one file and record its hash and size.

        Raises UsageError if it cannot be written.
        """
        self.files[name] = self._write(self.folder / name, data, executable)
        return self.files[name]

    def add_around(self, name: str, data: bytes, *, executable: bool = False) -> FileEntry:
        """Write one file of the project, which the manifest does not list.

        Raises UsageError if it cannot be written.
        """
        self.around[name] = self._write(self.root / name, data, executable)
        return self.around[name]

    def add_manifest(self, content: Mapping[str, Any], sign: Callable[[bytes], bytes] | None = None) -> None:
        """Write or rewrite manifest.json: `content`, and under `files` every file added so far.

        With `sign`, also write manifest.sig, the signature that it returns for the manifest's bytes. For a project,
        also write the record of all its files.
        """
        files = {name: {"sha256": entry.sha256, "size_bytes": entry.size_bytes} for name, entry in self.files.items()}
        unsealed = {**content, "files": files, SEAL: ""}
        text = _dump({**unsealed, SEAL: hashlib.sha256(_dump(unsealed)).hexdigest()})
        unlisted = {MANIFEST: self._write(self.folder / MANIFEST, text)}
        if sign is not None:
            unlisted[SIGNATURE] = self._write(self.folder / SIGNATURE, sign(text))
        if self.folder != self.root:
            inside = self.folder.relative_to(self.root)
            entries = {(inside / name).as_posix(): entry for name, entry in {**self.files, **unlisted}.items()}
            hashes = {name: entry.sha256 for name, entry in {**entries, **self.around}.items()}
            self._write(self.root / RECORD, write_record(__version__, hashes))

    def keep_failed(self) -> Path:
        """Move the result to NAME.failed next to its place, replacing an earlier one, and return the new path.

        Anything else of that name, or one that contains the user's files, stays; the new name then gets a suffix.

        Raises UsageError if it cannot be moved.
        """
        failed = self.place.with_name(f"{self.place.name}.failed")
        if failed.is_symlink() or (failed.exists() and not _is_ours(failed)):
            failed = self.place.with_name(f"{failed.name}.{secrets.token_hex(4)}")
        with _explain_failure(failed):
            shutil.rmtree(failed, ignore_errors=True)
            self.root.rename(failed)
        return failed

    def _write(self, path: Path, data: bytes, executable: bool = False) -> FileEntry:
        with _explain_failure(path.relative_to(self.root)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            if executable:
                path.chmod(0o755)
        return FileEntry.describe(data)


@contextmanager
def open_bundle(
    out_dir: Path, *, force: bool = False, inside: str = "", report: Report = lambda step: None
) -> Iterator[BundleWriter]:
    """Collect files next to `out_dir`, and move them there in one step when the block succeeds.

    With `inside`, the files are a project, and `inside` is the path of the bundle in it.

    If the block fails or is interrupted, nothing is left behind and `out_dir` is unchanged. A killed process leaves a
    folder next to it, which `put_back` removes. With `force`, an earlier bundle is replaced, and the user's files in it
    are kept in the new one. `report` receives what was kept or could not be removed.

    Raises UsageError as `check_out_dir`, or if nothing can be written there.
    """
    place = Path(os.path.realpath(out_dir))
    partial = place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial")
    made = [folder for folder in place.parents if not folder.exists()]
    is_placed = False
    try:
        with _explain_failure(out_dir):
            place.parent.mkdir(parents=True, exist_ok=True)
        check_out_dir(out_dir, force=force, is_project=bool(inside))
        with _explain_failure(out_dir):
            partial.mkdir()
        # The lock tells `put_back` that we are alive, also once the folder is in its place.
        with _lock(partial):
            yield BundleWriter(partial, partial / inside, place)
            # Again, because minutes may have passed since the first check.
            kept = _look_at(out_dir, force, bool(inside), list_written(partial))
            try:
                count, in_the_way = take_along(place, partial, kept)
            except OSError as error:
                named = f"{error.filename}: {error.strerror}"
                raise UsageError(f"--out {out_dir}: cannot keep {named}", "give another --out") from None
            if in_the_way:  # names that differ only in case, on a file system that ignores it
                raise _refuse_loss(out_dir, in_the_way, is_project=bool(inside))
            with _explain_failure(out_dir):
                old = _switch(partial, place)
            is_placed = True
            if count:
                report(f"kept {count} of your files: {name_some(kept)}")
                if (place / inside / SIGNATURE).exists():
                    report("WARNING: they are not signed, so verify --trusted refuses the bundle; deploy skips them")
            if old is not None:
                _remove_old(old, place, report)
    finally:
        if not is_placed:
            shutil.rmtree(partial, ignore_errors=True)
        # Also remove the parent folders made for it, innermost first; one that is not empty stays.
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def check_out_dir(
    out_dir: Path, *, force: bool = False, is_project: bool = False, written: Collection[str] = ()
) -> Path:
    """Return the absolute path, links resolved, of a bundle or project to be written.

    `written` are the files that will be in it, as far as known.

    Raises UsageError if a file or a folder that is not empty is in the way. With `force`, a bundle may replace a bundle
    and a project a project, unless the user's files would be lost; no other folder is ever replaced.
    """
    _look_at(out_dir, force, is_project, written)
    return Path(os.path.realpath(out_dir))


def _look_at(out_dir: Path, force: bool, is_project: bool, written: Collection[str] = ()) -> list[str]:
    """Check a place as `check_out_dir`, also for conflicts with `written`; return the names of files to be kept."""
    place = Path(os.path.realpath(out_dir))
    try:
        names = [entry.name for entry in place.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"--out {out_dir}: cannot become a bundle: {error.strerror}", "give another --out") from None
    if not names:
        return []
    if force and Path.cwd().is_relative_to(place):
        # The shell would continue in a folder that is gone.
        raise UsageError(f"--out {out_dir}: is your current folder, which would be replaced", "run cd .. first")
    if _read_rule(place) is None:
        raise UsageError(
            f"--out {out_dir}: the folder is neither empty nor a bundle",
            "give another --out, or empty the folder first; --force replaces bundles only",
        )
    is_there = "an Android project" if read_record(place) is not None else "a bundle"
    if is_project != (is_there != "a bundle"):
        # The bundle may be the assets of a user's project.
        wanted = "a project" if is_project else "a bundle"
        raise UsageError(f"--out {out_dir}: is {is_there}, expected {wanted} or nothing", "give another --out")
    if not force:
        raise UsageError(
            f"--out {out_dir}: is {is_there} already", "replace it with --force; files that you added stay"
        )
    try:
        contents = _sort_out(place, written)
    except OSError as error:
        raise UsageError(
            f"--out {out_dir}: cannot find out which files are yours: {error.filename}: {error.strerror}",
            "give another --out",
        ) from None
    if contents.lost:
        raise _refuse_loss(out_dir, contents.lost, is_project=is_project)
    return contents.kept


def _refuse_loss(out_dir: Path, lost: Collection[str], *, is_project: bool) -> UsageError:
    return UsageError(
        f"--out {out_dir}: --force would overwrite files that you changed or added: {name_some(lost)}",
        "export to another folder, then copy ocr/src/main/assets/edge-ocr, ocr/libs and ocr/src/main/jniLibs from there"
        if is_project
        else "move them elsewhere, or give another --out; change settings with --pipeline FILE.yaml or --set instead",
    )


def _read_rule(folder: Path) -> tuple[Mapping[str, str], Collection[str], Collection[str]] | None:
    """Return the arguments of `sort_out` for a bundle or project; None for any other folder."""
    record = read_record(folder)
    if record is not None:
        return record, (RECORD,), list_tools_folders(record)
    try:
        return read_listed(folder, MANIFEST), OURS, DROPPED
    except (OSError, ValueError):
        return None


def _sort_out(folder: Path, written: Collection[str] = ()) -> Contents:
    rule = _read_rule(folder)
    return Contents(lost=["."]) if rule is None else sort_out(folder, *rule, written)


def _is_ours(folder: Path) -> bool:
    """Tell whether a folder is a bundle or project without the user's files."""
    try:
        return not folder.is_symlink() and _sort_out(folder) == Contents()
    except OSError:
        return False


# --- switching


def put_back(out_dir: Path, *, report: Report = lambda step: None) -> None:
    """Clean up after killed exports to `out_dir`: move an old bundle back, and remove unfinished folders.

    Does nothing if another export to it runs, or may run. `report` receives what was done.
    """
    place = Path(os.path.realpath(out_dir))
    pattern = re.compile(rf"\.{re.escape(place.name)}(\.zip)?\.[0-9a-f]{{8}}\.(partial|old)")
    with contextlib.suppress(OSError), contextlib.ExitStack() as locks:
        left = sorted(path for path in place.parent.iterdir() if pattern.fullmatch(path.name))
        if not left:
            return
        named = ", ".join(map(str, left))
        # Another export's folder is one of these: it may have been put in place just now.
        for folder in (*left, place):
            if folder.is_symlink() or not folder.is_dir():
                continue
            problem = locks.enter_context(_lock(folder))
            if isinstance(problem, BlockingIOError):
                report(f"{named}: belongs to another export, which is running")
                return
            if problem is not None:
                report(
                    f"WARNING: {named}: from an export that was interrupted or still runs; cannot tell which, because "
                    f"{folder} cannot be locked: {problem.strerror}"
                )
                return
        old = [path for path in left if path.suffix == ".old" and _read_rule(path) is not None]
        is_vacant = not os.path.lexists(place) or (place.is_dir() and not any(place.iterdir()))
        # If there are several, it is unknown which was the last.
        if is_vacant and len(old) == 1:
            old[0].rename(place)
            left.remove(old[0])
            report(f"WARNING: an earlier export was interrupted: moved {old[0]} back to {place}")
        for path in left:
            # An unfinished export has only copies of the user's files.
            if path.suffix == ".old" and (is_vacant or not _is_spare(path, place)):
                report(f"WARNING: {path} is from an interrupted export and may contain files of yours")
            else:
                _remove(path)
                report(f"removed {path}, left by an interrupted export")


def _is_spare(old: Path, place: Path) -> bool:
    """Tell whether all the user's files in a bundle that was moved away are also in the one that replaced it."""
    try:
        contents = _sort_out(old)
        return not old.is_symlink() and not contents.lost and has_all(old, place, contents.kept)
    except OSError:
        return False


def _switch(partial: Path, place: Path) -> Path | None:
    """Put a folder in the place of another; return the new path of the other, None if there was none."""
    if not place.exists() or not any(place.iterdir()):
        partial.rename(place)  # a rename replaces an empty folder
        return None
    old = partial.with_suffix(".old")
    # Renamed before the exchange, so that `put_back` finds the old bundle under this name at any time.
    partial.rename(old)
    if _exchange(old, place):
        return old
    old.rename(partial)
    # Between the two renames the place is empty; if we are killed then, `put_back` repairs it.
    try:
        place.rename(old)
        partial.rename(place)
    except BaseException:
        if old.exists() and not os.path.lexists(place):
            old.rename(place)
        raise
    return old


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; return whether system and file system support that."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, TypeError, AttributeError):
        return False
    paths = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    return int(renameat2(*paths, _RENAME_EXCHANGE)) == 0


def _remove_old(old: Path, place: Path, report: Report) -> None:
    try:
        # Files that were added or changed since the last check.
        contents = _sort_out(old)
        _, in_the_way = take_along(old, place, contents.kept)
        lost = [*contents.lost, *in_the_way]
        if lost:
            why = f"you changed or added files that the new one lacks: {name_some(lost)}"
            report(f"WARNING: kept the previous bundle as {old}: {why}")
        else:
            _remove(old)
    except OSError as error:
        report(f"WARNING: kept the previous bundle as {old}: {error.filename}: {error.strerror}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextmanager
def _lock(folder: Path) -> Iterator[OSError | None]:
    """Lock a folder, wherever it is moved; yield None, or why it cannot be locked (BlockingIOError: locked already).

    The lock ends with the process.
    """
    problem, descriptor = None, -1
    try:
        import fcntl  # not on Windows

        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        problem = OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    except OSError as error:  # NFS may lock only files open for writing, which a folder cannot be
        problem = error
    try:
        yield problem
    finally:
        if descriptor >= 0:
            os.close(descriptor)


# --- the archive


def check_zip(out_dir: Path, *, force: bool = False) -> Path:
    """Return the path of a bundle's archive, next to the bundle.

    Raises UsageError if a file is there, unless `force` is given and it is the unchanged archive of an export.
    """
    place = Path(os.path.realpath(out_dir))
    zip_file = place.with_name(f"{place.name}.zip")
    if not os.path.lexists(zip_file):
        return zip_file
    if not force:
        raise UsageError(f"--zip: {zip_file} exists", "replace it with --force, if an export wrote it")
    problem = "a link" if zip_file.is_symlink() else _find_stranger(zip_file)
    if problem:
        raise UsageError(f"--zip: {zip_file} is not an unchanged archive of an export: {problem}", "move it elsewhere")
    return zip_file


def _find_stranger(zip_file: Path) -> str:
    """Return why a file is not the unchanged archive of an export; "" if it is."""
    try:
        with zipfile.ZipFile(zip_file) as archive, tempfile.TemporaryDirectory(prefix="edge-ocr-") as scratch:
            names = [name.partition("/")[2] for name in archive.namelist()]
            tops = {name.partition("/")[0] for name in archive.namelist()}
            for name in {RECORD, MANIFEST}.intersection(names):
                Path(scratch, name).write_bytes(archive.read(f"{min(tops)}/{name}"))
            rule = _read_rule(Path(scratch))
            if rule is None or len(tops) != 1:
                return "it contains no manifest of a bundle"
            listed, ours, _ = rule
            for name in names:
                with archive.open(f"{min(tops)}/{name}") as file:
                    if name not in ours and hash_stream(file) != listed.get(name):
                        return name
    except (OSError, ValueError, RuntimeError, NotImplementedError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        return str((isinstance(error, OSError) and error.strerror) or error)
    return ""


def write_zip(folder: Path, zip_file: Path) -> None:
    """Pack a bundle into an archive, in a folder of the archive's name; the same files give the same bytes.

    The archive appears in one step. It is not compressed: weights hardly shrink, and the result of deflate depends on
    the machine's zlib.

    Raises UsageError if it cannot be written.
    """
    partial = zip_file.with_name(f".{zip_file.name}.{secrets.token_hex(4)}.partial")
    name = zip_file.stem
    try:
        with _explain_failure(zip_file):
            with zipfile.ZipFile(partial, "w") as archive:
                for path in sorted(folder.rglob("*")):
                    if path.is_file():
                        # A ZipInfo made by hand always has the same time.
                        entry = zipfile.ZipInfo(f"{name}/{path.relative_to(folder).as_posix()}")
                        entry.external_attr = (stat.S_IFREG | (0o755 if os.access(path, os.X_OK) else 0o644)) << 16
                        archive.writestr(entry, path.read_bytes())
            partial.replace(zip_file)
    finally:
        partial.unlink(missing_ok=True)


def _dump(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


@contextmanager
def _explain_failure(what: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write {what}: {error.strerror or error}", "give another --out") from None
