"""Writes a bundle or a project: all of it or nothing, and never over what is neither, or is changed by its user."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.project_record import KEPT, RECORD, list_changes, read_record, write_record
from edge_ocr import __version__
from edge_ocr.core.bundle import MANIFEST, SIGNATURE
from edge_ocr.errors import UsageError


@dataclass(frozen=True)
class FileEntry:
    """What the manifest says of one file."""

    sha256: str
    size_bytes: int


@dataclass
class BundleWriter:
    """The files of a bundle that is being written, and of the project around it."""

    root: Path
    """Where they are until all is whole."""
    folder: Path
    """Of the bundle: `root`, or inside it."""
    place: Path
    """Where they go when all is whole."""
    files: dict[str, FileEntry] = field(default_factory=dict)
    """By name relative to the bundle, with forward slashes; without the manifest."""
    around: dict[str, FileEntry] = field(default_factory=dict)
    """Of the project around the bundle, by name relative to `root`."""

    def add(self, name: str, data: bytes, *, executable: bool = False) -> FileEntry:
        """Write one file and note its hash and size.

        Raises UsageError where it cannot be written.
        """
        self.files[name] = self._write(self.folder / name, data, executable)
        return self.files[name]

    def add_around(self, name: str, data: bytes, *, executable: bool = False) -> FileEntry:
        """Write one file of the project; the manifest does not list it.

        Raises UsageError where it cannot be written.
        """
        self.around[name] = self._write(self.root / name, data, executable)
        return self.around[name]

    def add_manifest(self, content: Mapping[str, Any], sign: Callable[[bytes], bytes] | None = None) -> None:
        """Write manifest.json, for the first time or anew: `content`, and under `files` every file added so far.

        With `sign`, also manifest.sig with what that returns for its bytes. Of a project, also the record of all files.
        """
        files = {name: {"sha256": entry.sha256, "size_bytes": entry.size_bytes} for name, entry in self.files.items()}
        text = json.dumps({**content, "files": files}, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        unlisted = {MANIFEST: self._write(self.folder / MANIFEST, text.encode())}
        if sign is not None:
            unlisted[SIGNATURE] = self._write(self.folder / SIGNATURE, sign(text.encode()))
        if self.folder != self.root:
            inside = self.folder.relative_to(self.root)
            entries = {(inside / name).as_posix(): entry for name, entry in {**self.files, **unlisted}.items()}
            hashes = {name: entry.sha256 for name, entry in {**entries, **self.around}.items()}
            self._write(self.root / RECORD, write_record(__version__, hashes))

    def keep_failed(self) -> Path:
        """Move all beside its place, as NAME.failed, and return where it is now; an earlier one there goes.

        What is called so and is no bundle, or is a project that was changed, stays; the name then gets a number behind.

        Raises UsageError where it cannot be moved.
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
        return FileEntry(hashlib.sha256(data).hexdigest(), len(data))


@contextmanager
def open_bundle(out_dir: Path, *, force: bool = False, inside: str = "") -> Iterator[BundleWriter]:
    """Collect files beside `out_dir` and move them there in one step when the block ends well.

    With `inside`, they are a project, and that is the folder of the bundle in it.

    When it does not, or is interrupted, nothing is left and `out_dir` is as it was. A process that is killed outright
    leaves a folder `.NAME.xxxxxxxx.partial` beside it, which nothing reads. With `force`, an earlier bundle moves aside
    just before and comes back if the new one cannot take its place; of a project, what is of this machine only stays.

    Raises UsageError as `check_out_dir`, or where nothing can be written there.
    """
    place = check_out_dir(out_dir, force=force, is_project=bool(inside))
    partial = place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial")
    made = [folder for folder in place.parents if not folder.exists()]
    try:
        with _explain_failure(out_dir):
            partial.mkdir(parents=True)
        yield BundleWriter(partial, partial / inside, place)
        # Again: minutes may have passed since the first look.
        check_out_dir(out_dir, force=force, is_project=bool(inside))
        with _explain_failure(out_dir):
            for name in KEPT if inside else ():
                _copy_along(place / name, partial / name)
            _place(partial, place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        # The folders above it that were made for it go, too, innermost first; one with something in it stays.
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def check_out_dir(out_dir: Path, *, force: bool = False, is_project: bool = False) -> Path:
    """Return the absolute place of a bundle or project to be written, links resolved.

    Raises UsageError where a file is in the way, or a folder that is not empty: a bundle gives way to another with
    `force`, a project in which nothing is its user's to another with `force`, any other folder never does.
    """
    place = Path(os.path.realpath(out_dir))
    try:
        names = [entry.name for entry in place.iterdir()]
    except FileNotFoundError:
        return place
    except OSError as error:
        raise UsageError(f"--out {out_dir}: cannot be a bundle: {error.strerror}", "give another --out") from None
    if not names:
        return place
    if force and Path.cwd().is_relative_to(place):
        # It would go on in a folder that is gone.
        raise UsageError(f"--out {out_dir}: is the folder that you are in, and would be replaced", "cd .. first")
    record = read_record(place)
    if record is not None:
        if not force or not is_project:
            hint = "--force replaces it, where you changed nothing in it" if is_project else "give another --out"
            raise UsageError(f"--out {out_dir}: there is an Android project already", hint)
        _refuse_changed(out_dir, place, record)
        return place
    if not _is_bundle(place):
        raise UsageError(
            f"--out {out_dir}: the folder is not empty, and not a bundle",
            "give another --out, or empty the folder first; --force replaces bundles only",
        )
    if is_project:
        # It may be the assets of a project of the user's.
        raise UsageError(f"--out {out_dir}: there is a bundle, expected a project or nothing", "give another --out")
    if not force:
        raise UsageError(f"--out {out_dir}: there is a bundle already", "--force replaces it")
    return place


def _refuse_changed(out_dir: Path, place: Path, record: Mapping[str, str]) -> None:
    try:
        changed = list_changes(place, record)
    except OSError as error:
        raise UsageError(
            f"--out {out_dir}: what is yours in it cannot be told: {error.filename}: {error.strerror}",
            "give another --out",
        ) from None
    if changed:
        named = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise UsageError(
            f"--out {out_dir}: --force would lose what you changed or added there: {named}",
            "export to another folder, and replace ocr/src/main/assets/edge-ocr, ocr/libs and ocr/src/main/jniLibs in "
            "yours by those",
        )


def check_zip(out_dir: Path, *, force: bool = False) -> Path:
    """Return where the archive of a bundle goes: beside it.

    Raises UsageError where there is a file already, unless `force` is given.
    """
    place = Path(os.path.realpath(out_dir))
    zip_file = place.with_name(f"{place.name}.zip")
    if zip_file.is_dir() or (zip_file.exists() and not force):
        raise UsageError(f"--zip: {zip_file} exists", "--force replaces it, if it is a file")
    return zip_file


def write_zip(folder: Path, zip_file: Path) -> None:
    """Pack a bundle into a folder called after the archive; the same files give the same bytes.

    A half archive is never seen. Stored, not compressed: weights hardly shrink, and what deflate makes of them
    depends on the machine's zlib.

    Raises UsageError where it cannot be written.
    """
    partial = zip_file.with_name(f".{zip_file.name}.{secrets.token_hex(4)}.partial")
    name = zip_file.stem
    try:
        with _explain_failure(zip_file):
            with zipfile.ZipFile(partial, "w") as archive:
                for path in sorted(folder.rglob("*")):
                    if path.is_file():
                        # The time of a ZipInfo made by hand is always the same.
                        entry = zipfile.ZipInfo(f"{name}/{path.relative_to(folder).as_posix()}")
                        entry.external_attr = (stat.S_IFREG | (0o755 if os.access(path, os.X_OK) else 0o644)) << 16
                        archive.writestr(entry, path.read_bytes())
            partial.replace(zip_file)
    finally:
        partial.unlink(missing_ok=True)


def _is_bundle(folder: Path) -> bool:
    # The name alone proves nothing: web pages have a manifest.json, too.
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "edge_ocr_version" in content


def _is_ours(folder: Path) -> bool:
    """Tell whether a folder is a bundle, or a project without a change."""
    record = read_record(folder)
    if record is None:
        return _is_bundle(folder)
    try:
        return not list_changes(folder, record)
    except OSError:
        return False


def _copy_along(source: Path, target: Path) -> None:
    if not os.path.lexists(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        # It goes to the same place, so it leads where it led.
        target.symlink_to(source.readlink())
    elif source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)


def _place(partial: Path, place: Path) -> None:
    if not place.exists() or not any(place.iterdir()):
        partial.rename(place)  # there is nothing, or an empty folder, which a rename replaces
        return
    old = partial.with_suffix(".old")
    try:
        place.rename(old)
        partial.rename(place)
    finally:
        if place.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(place)


@contextmanager
def _explain_failure(what: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write {what}: {error.strerror or error}", "give another --out") from None
