"""The store of Paddle-Lite's runtime libraries: finds and adds them, and fetches official releases.

A runtime whose version is not opt's may return wrong text silently, so a library counts for one version only. It is in
`libs/<version>/<platform>/` of the store, in the layout of Paddle-Lite's own archives, with a `source.json`. No sha256
was published for those archives: they are trusted on first use over https.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

from converters.lite.libraries.elf import CXX_RUNTIME, inspect_library
from converters.lite.libraries.library import (
    CXX_LIBRARY,
    HEADERS,
    JAR,
    JNI_LIBRARY,
    LIBRARIES,
    MAIN_HEADER,
    PLACED_CXX_RUNTIME,
    RuntimeLibrary,
    Wanted,
    guess_platform,
    open_file,
    open_folder,
)
from converters.lite.libraries.platforms import (
    PLATFORMS,
    RUNTIME_VERSION,
    URL_VARIABLE,
    Platform,
    asset_url,
    find_platform,
    normalise_version,
)
from edge_ocr.errors import ModelError, UsageError
from edge_ocr.models.store import (
    check_sha256,
    download,
    gunzip,
    hash_file,
    open_scratch,
    place_folder,
    store_root,
    unpack,
    write_source,
)
from edge_ocr.models.types import Progress

LIBRARY_VARIABLE = "EDGE_OCR_LITE_LIB"

MAX_MEMBERS = 20_000
"""Paddle-Lite's archives contain demos and their pictures, too."""

_AREA = "libs"
# Its possible paths in an archive.
_CXX_RUNTIMES = (PLACED_CXX_RUNTIME, f"cxx/lib/{CXX_RUNTIME}")
_SOURCE_FILE = "source.json"


def find_library(platform: str, version: str = RUNTIME_VERSION) -> RuntimeLibrary | None:
    """Return the library for a platform and version; None if this machine has none. Uses no network.

    The library file in `EDGE_OCR_LITE_LIB` comes first: for the platform that it fits, it is used or refused, never
    skipped. Other platforms come from the store.

    Raises UsageError for an unknown platform or version, ModelError for a library that is damaged or does not fit.
    """
    chosen = os.environ.get(LIBRARY_VARIABLE)
    if chosen:
        where = f"{LIBRARY_VARIABLE}={chosen}"
        wanted = Wanted(find_platform(platform), normalise_version(version), where, LIBRARY_VARIABLE)
        library = open_file(Path(chosen).expanduser(), wanted)
        if library is not None:
            return library
    return open_stored(platform, version)


def open_stored(platform: str, version: str = RUNTIME_VERSION) -> RuntimeLibrary | None:
    """Return the store's library for a platform and version; None if it has none.

    Raises as `find_library`.
    """
    found, version = find_platform(platform), normalise_version(version)
    folder = _place_of(found, version)
    if not folder.is_dir():
        return None
    record = _read_record(folder, found, version)
    wanted = Wanted(
        found,
        version,
        where=str(folder),
        source=str(record.get("url") or record.get("path") or "placed by hand"),
        released=record.get("version_evidence") == "release",
        allow_version_mismatch=record.get("version_mismatch_allowed") is True,
    )
    return open_folder(folder, wanted)


def list_stored() -> list[tuple[str, str]]:
    """Return version and platform of every library in the store, sorted, including damaged ones."""
    area = store_root() / _AREA
    found = [(folder.parent.name, folder.name) for folder in area.glob("*/*") if folder.is_dir()]
    return sorted(pair for pair in found if pair[0].startswith("v") and pair[1] in PLATFORMS)


def add_library(
    path: Path,
    *,
    platform: str | None = None,
    among: Collection[str] = (),
    version: str = RUNTIME_VERSION,
    include_dir: Path | None = None,
    allow_version_mismatch: bool = False,
    force: bool = False,
) -> RuntimeLibrary:
    """Put a library into the store, for bundles of `version`.

    `path` is an archive of Paddle-Lite's releases (.tar.gz or .tar), its unpacked folder, or a library file, for which
    `include_dir` gives the headers. By default, the library itself names its platform, which must be one of `among` if
    that is not empty. Only libraries, headers and the .jar are copied from an archive or folder.

    Raises UsageError for unknown or needless arguments, and if the store already has one (`force` replaces it);
    ModelError for a library that is missing, damaged or for another machine, or, without `allow_version_mismatch`, has
    another version. The store is then unchanged.
    """
    wanted = None if platform is None else find_platform(platform)
    candidates = [find_platform(name) for name in among] or list(PLATFORMS.values())
    version = normalise_version(version)
    if wanted is not None:
        _check_free(wanted, version, force)
    what = _tell_apart(path)
    if include_dir is not None and what != "library":
        raise UsageError(f"--include {include_dir}: {path} is not a library file", "leave --include out")
    with open_scratch(_AREA) as scratch:
        staged = scratch / "library"
        staged.mkdir()
        archive_sha256 = None
        if what == "archive":
            archive_sha256 = hash_file(path)
            _unpack(path, staged, scratch, where=str(path))
        elif what == "folder":
            _copy_folder(path, staged)
        else:
            _copy_library(path, staged, include_dir)
        checked = Wanted(
            wanted or guess_platform(staged, candidates, where=str(path)),
            version,
            where=str(path),
            source=str(path.resolve()),
            allow_version_mismatch=allow_version_mismatch,
        )
        return _store(staged, checked, {"path": checked.source, "archive_sha256": archive_sha256}, force=force)


def fetch_library(
    platform: str, *, version: str = RUNTIME_VERSION, force: bool = False, progress: Progress | None = None
) -> RuntimeLibrary:
    """Download the official release's library into the store and return it; one that is there is not downloaded again.

    With `force`, it is. `progress` receives the bytes so far. If the library's bytes do not name its version, the
    release's version is assumed.

    Raises UsageError for an unknown platform or version, ModelError if the download fails or does not fit.
    """
    wanted, version = find_platform(platform), normalise_version(version)
    present = None if force else open_stored(platform, version)
    if present is not None:
        return present
    url = asset_url(platform, version)
    with open_scratch(_AREA) as scratch:
        archive, staged = scratch / "archive.tar.gz", scratch / "library"
        staged.mkdir()
        try:
            sha256 = download(url, archive, progress)
        except ModelError as error:
            hint = f"download it elsewhere and run edge-ocr libs add FILE, or set {URL_VARIABLE} to a mirror"
            raise ModelError(error.message, hint) from error
        changed = _compare_with_first(_place_of(wanted, version), url, sha256)
        _unpack(archive, staged, scratch, where=url)
        checked = Wanted(wanted, version, where=url, source=url, released=True)
        library = _store(staged, checked, {"url": url, "archive_sha256": sha256}, force=force)
    return replace(library, concerns=(*changed, *library.concerns))


def _place_of(platform: Platform, version: str) -> Path:
    return store_root() / _AREA / version / platform.name


def _check_free(platform: Platform, version: str, force: bool) -> None:
    place = _place_of(platform, version)
    if place.exists() and not force:
        raise UsageError(
            f"{platform.name} {version}: the store already has a library: {place}", "replace it with --force"
        )


# --- what comes in


def _tell_apart(path: Path) -> Literal["archive", "folder", "library"]:
    if path.is_dir():
        return "folder"
    try:
        if not path.is_file():
            raise ModelError(f"{path}: no such file or folder", "run edge-ocr libs fetch for the official ones")
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}", "give a file that you may read") from error
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        return "archive"
    if head.startswith((b"\x7fELF", b"!<arch>\n", b"!<thin>\n")):
        return "library"
    raise ModelError(
        f"{path}: is neither a .tar.gz nor a shared library: starts with {head[:4].hex(' ') or 'nothing'}",
        "give an archive of Paddle-Lite's releases as it was downloaded, its unpacked folder, or a library",
    )


def _choose(path: PurePosixPath) -> PurePosixPath | None:
    """Return a file's place in the store, from its path in an archive; None for demos, static libraries etc."""
    # The archive may hold everything in one folder.
    for inner in (path, PurePosixPath(*path.parts[1:])):
        if str(inner) in _CXX_RUNTIMES:
            return PurePosixPath(PLACED_CXX_RUNTIME)
        if str(inner) in (CXX_LIBRARY, JNI_LIBRARY, JAR) or (str(inner.parent) == HEADERS and inner.suffix == ".h"):
            return inner
    return None


def _unpack(archive: Path, staged: Path, scratch: Path, *, where: str) -> None:
    try:
        with archive.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        tar = scratch / "archive.tar" if compressed else archive
        if compressed:
            gunzip(archive, tar)
        unpack(tar, staged, choose=_choose, max_members=MAX_MEMBERS)
    except ModelError as error:
        raise ModelError(f"{where}: {error.message}", "download the archive again") from error


def _copy_folder(folder: Path, staged: Path) -> None:
    # The archive may hold everything in one folder.
    try:
        candidates = [folder, *sorted(folder.iterdir())]
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read: {error.strerror}", "give a folder that you may read") from error
    roots = [root for root in candidates if any((root / place).is_file() for place in LIBRARIES.values())]
    if len(roots) > 1:
        names = ", ".join(root.name for root in roots)
        raise ModelError(f"{folder}: contains several libraries: {names}", "give one of these folders")
    root = roots[0] if roots else folder
    headers = sorted((root / HEADERS).glob("*.h"))
    for place in reversed(_CXX_RUNTIMES):
        if (root / place).is_file():
            _copy(root / place, staged / PLACED_CXX_RUNTIME)
    for place in (CXX_LIBRARY, JNI_LIBRARY, JAR, *(f"{HEADERS}/{path.name}" for path in headers)):
        if (root / place).is_file():
            _copy(root / place, staged / place)


def _copy_library(path: Path, staged: Path, include_dir: Path | None) -> None:
    info = inspect_library(path)
    _copy(path, staged / LIBRARIES[info.kind])
    beside = path.with_name(CXX_RUNTIME)
    if info.kind == "jni" and CXX_RUNTIME in info.needed and beside.is_file():
        _copy(beside, staged / PLACED_CXX_RUNTIME)
    if include_dir is None:
        return
    if not (include_dir / MAIN_HEADER).is_file():
        raise UsageError(f"--include {include_dir}: has no {MAIN_HEADER}", "give the folder of Paddle-Lite's headers")
    for header in sorted(include_dir.glob("*.h")):
        _copy(header, staged / HEADERS / header.name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = source.open("rb")
    except OSError as error:
        raise ModelError(f"{source}: cannot be read: {error.strerror}", "give files that you may read") from error
    with file, target.open("wb") as copy:
        shutil.copyfileobj(file, copy)


def _store(staged: Path, wanted: Wanted, origin: Mapping[str, str | None], *, force: bool) -> RuntimeLibrary:
    """Check the library in `staged` and move it into the store."""
    platform, version = wanted.platform, wanted.version
    _check_free(platform, version, force or wanted.released)
    library = open_folder(staged, wanted)
    facts = {
        "platform": platform.name,
        "version": version,
        "actual_version": library.actual_version,
        "version_evidence": library.version_evidence,
        "version_mismatch_allowed": not library.version_matches,
    }
    write_source(staged, {**origin, **facts})
    place_folder(staged, _place_of(platform, version), force=force)
    placed = open_stored(platform.name, version)
    if placed is None:
        raise ModelError(f"{_place_of(platform, version)}: vanished while it was added", "add it again")
    return placed


# --- source.json


def _read_record(folder: Path, platform: Platform, version: str) -> Mapping[str, object]:
    """Return a stored folder's source.json after comparing the files with it; empty if there is none.

    Raises ModelError if a file differs or the record cannot be read.
    """
    record = folder / _SOURCE_FILE
    hint = (
        f"run edge-ocr libs fetch --platform {platform.name} --version {version} --force, or edge-ocr libs add --force"
    )
    if not record.is_file():
        return {}
    try:
        content = json.loads(record.read_bytes())
        hashes = {str(name): str(facts["sha256"]) for name, facts in content["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{record} is damaged: {error!r}", hint) from error
    for name, sha256 in hashes.items():
        check_sha256(folder / name, sha256, hint)
    return dict(content)


def _compare_with_first(folder: Path, url: str, sha256: str) -> tuple[str, ...]:
    """Return a concern if the archive at `url` is not the one that was fetched from there before."""
    try:
        content = json.loads((folder / _SOURCE_FILE).read_bytes())
        before = content["archive_sha256"] if content["url"] == url else sha256
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    if before == sha256:
        return ()
    return (f"the archive at {url} has changed: sha256 was {before}, is {sha256}",)
