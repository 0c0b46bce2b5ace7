"""Writes a bundle: all of it or nothing, and never over what is not a bundle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_ocr.core.bundle import MANIFEST
from edge_ocr.errors import UsageError


@dataclass(frozen=True)
class FileEntry:
    """What the manifest says of one file."""

    sha256: str
    size_bytes: int


@dataclass
class BundleWriter:
    """The files of a bundle that is being written."""

    folder: Path
    """Where they are until the bundle is whole."""
    place: Path
    """Where they go when it is."""
    files: dict[str, FileEntry] = field(default_factory=dict)
    """By name relative to the bundle, with forward slashes; without the manifest."""

    def add(self, name: str, data: bytes, *, executable: bool = False) -> FileEntry:
        """Write one file and note its hash and size.

        Raises UsageError where it cannot be written.
        """
        self._write(name, data)
        if executable:
            (self.folder / name).chmod(0o755)
        self.files[name] = FileEntry(hashlib.sha256(data).hexdigest(), len(data))
        return self.files[name]

    def add_manifest(self, content: Mapping[str, Any]) -> None:
        """Write manifest.json, for the first time or anew: `content`, and under `files` every file added so far."""
        files = {name: {"sha256": entry.sha256, "size_bytes": entry.size_bytes} for name, entry in self.files.items()}
        text = json.dumps({**content, "files": files}, indent=2, sort_keys=True, ensure_ascii=False)
        self._write(MANIFEST, (text + "\n").encode())

    def keep_failed(self) -> Path:
        """Move the bundle beside its place, as NAME.failed, and return where it is now; an earlier one there goes.

        What is called so and is no bundle stays; the name then gets a number behind.

        Raises UsageError where it cannot be moved.
        """
        failed = self.place.with_name(f"{self.place.name}.failed")
        if failed.is_symlink() or (failed.exists() and not _is_bundle(failed)):
            failed = self.place.with_name(f"{failed.name}.{secrets.token_hex(4)}")
        with _explain_failure(failed):
            shutil.rmtree(failed, ignore_errors=True)
            self.folder.rename(failed)
        return failed

    def _write(self, name: str, data: bytes) -> None:
        with _explain_failure(name):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


@contextmanager
def open_bundle(out_dir: Path, *, force: bool = False) -> Iterator[BundleWriter]:
    """Collect files beside `out_dir` and move them there in one step when the block ends well.

    When it does not, or is interrupted, nothing is left and `out_dir` is as it was. A process that is killed outright
    leaves a folder `.NAME.xxxxxxxx.partial` beside it, which nothing reads. With `force`, an earlier bundle moves aside
    just before and comes back if the new one cannot take its place.

    Raises UsageError as `check_out_dir`, or where nothing can be written there.
    """
    place = check_out_dir(out_dir, force=force)
    partial = place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial")
    made = [folder for folder in place.parents if not folder.exists()]
    try:
        with _explain_failure(out_dir):
            partial.mkdir(parents=True)
        yield BundleWriter(partial, place)
        # Again: minutes may have passed since the first look.
        check_out_dir(out_dir, force=force)
        with _explain_failure(out_dir):
            _place(partial, place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        # The folders above it that were made for it go, too, innermost first; one with something in it stays.
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def check_out_dir(out_dir: Path, *, force: bool = False) -> Path:
    """Return the absolute place of a bundle to be written, links resolved.

    Raises UsageError where a file is in the way, or a folder that is not empty: a bundle gives way to
    `force`, any other folder never does.
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
    if not _is_bundle(place):
        raise UsageError(
            f"--out {out_dir}: the folder is not empty, and not a bundle",
            "give another --out, or empty the folder first; --force replaces bundles only",
        )
    if not force:
        raise UsageError(f"--out {out_dir}: there is a bundle already", "--force replaces it")
    return place


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


def _place(partial: Path, place: Path) -> None:
    if not (place / MANIFEST).exists():
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
        raise UsageError(f"cannot write {what}: {error.strerror}", "give another --out") from None
