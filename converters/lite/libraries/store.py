"""Paddle-Lite's runtime libraries: finds them in the store, checks and adds them, fetches official releases.

A runtime of another version than opt's may read a model wrong without saying so, so a library counts for one
version. It lies in `libs/<version>/<platform>/` of the store, in the layout of Paddle-Lite's own archives, with
`source.json` beside it. No sha256 was published for those archives: they are trusted on first use over https.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal

from converters.lite.libraries.elf import (
    CXX_RUNTIME,
    Arch,
    LibraryInfo,
    LibraryKind,
    System,
    inspect_cxx_runtime,
    inspect_library,
)
from edge_ocr.errors import ModelError, UsageError
from edge_ocr.models import store as model_store
from edge_ocr.models.store import store_root
from edge_ocr.models.types import Progress

__all__ = [
    "LIBRARY_VARIABLE",
    "PLATFORMS",
    "RUNTIME_VERSION",
    "LibraryInfo",
    "Platform",
    "RuntimeLibrary",
    "add_library",
    "asset_url",
    "fetch_library",
    "find_library",
    "inspect_library",
    "list_stored",
    "normalise_version",
    "open_stored",
]

RUNTIME_VERSION = "v2.13-rc"
"""What `converters.lite.toolchain.LITE_VERSION` writes into each .nb."""

LIBRARY_VARIABLE = "EDGE_OCR_LITE_LIB"
URL_VARIABLE = "EDGE_OCR_LITE_URL"
RELEASES_URL = "https://github.com/PaddlePaddle/Paddle-Lite/releases/download"

MAX_MEMBERS = 20_000
"""Paddle-Lite's archives hold demos and their pictures, too."""

VersionEvidence = Literal["library", "release", "none"]

_AREA = "libs"
_CXX_LIBRARY = "cxx/lib/libpaddle_light_api_shared.so"
_HEADERS = "cxx/include"
_JNI_LIBRARY = "java/so/libpaddle_lite_jni.so"
_JAR = "java/jar/PaddlePredictor.jar"
_CXX_RUNTIME = f"java/so/{CXX_RUNTIME}"
# Where archives may have it.
_CXX_RUNTIMES = (_CXX_RUNTIME, f"cxx/lib/{CXX_RUNTIME}")
_LIBRARIES: Mapping[LibraryKind, str] = MappingProxyType({"cxx": _CXX_LIBRARY, "jni": _JNI_LIBRARY})
_JAVA_CLASS = "com/baidu/paddle/lite/PaddlePredictor.class"
# What apps may link with on Android 7, of https://developer.android.com/ndk/guides/stable_apis
_ANDROID_LIBRARIES = frozenset(
    f"lib{name}.so"
    for name in (
        *("EGL", "GLESv1_CM", "GLESv2", "GLESv3", "OpenMAXAL", "OpenSLES", "android", "c", "camera2ndk", "dl"),
        *("jnigraphics", "log", "m", "mediandk", "stdc++", "vulkan", "z"),
    )
)
_MAIN_HEADER = "paddle_api.h"
_SOURCE_FILE = "source.json"
_HINT_ARCHIVE = "add Paddle-Lite's archive as it was downloaded"
_VERSION = re.compile(r"v?(\d+\.\d+(?:\.\d+)?(?:-(?:rc|beta)\d*)?)")


@dataclass(frozen=True)
class Platform:
    """A kind of device that Paddle-Lite has libraries for."""

    name: str
    system: System
    arch: Arch
    build: str
    """The rest of the official archive's name. PP-OCR needs `with_extra`."""


PLATFORMS: Mapping[str, Platform] = MappingProxyType(
    {
        platform.name: platform
        for platform in (
            Platform("armlinux.armv8", "armlinux", "armv8", "gcc.with_extra.with_cv"),
            Platform("armlinux.armv7hf", "armlinux", "armv7hf", "gcc.with_extra.with_cv"),
            Platform("android.armv8", "android", "armv8", "clang.c++_shared.with_extra.with_cv"),
            Platform("android.armv7", "android", "armv7", "clang.c++_shared.with_extra.with_cv"),
        )
    }
)


@dataclass(frozen=True)
class RuntimeLibrary:
    """A Paddle-Lite library on disk that was looked into and fits its platform."""

    platform: str
    version: str
    """The version whose bundles it is for."""
    actual_version: str | None
    """Its own version; another one, or None where that is not known, only after `allow_version_mismatch`."""
    version_evidence: VersionEvidence
    """`library`: read in its bytes. `release`: they do not tell, and it was fetched as that release's."""
    folder: Path
    """Of the store; of the library itself where `EDGE_OCR_LITE_LIB` names it."""
    library: Path
    """The file that a bundle for the platform needs: Android's JNI library where there is one, else the C++ one."""
    cxx_library: Path | None
    """libpaddle_light_api_shared.so, for programs in C++."""
    include_dir: Path | None
    """With paddle_api.h, for compiling such a program."""
    jni_library: Path | None
    """libpaddle_lite_jni.so, Android's."""
    jar: Path | None
    """PaddlePredictor.jar, the classes that go with it."""
    cxx_runtime: Path | None
    """libc++_shared.so, which must go along where `info.needed` names it; None where it does not, or is missing."""
    info: LibraryInfo
    """Of `library`."""
    source: str
    """For people: where it came from."""
    concerns: tuple[str, ...]
    """What a user should know before relying on it, one sentence each; often empty."""

    @property
    def lacks_cxx_runtime(self) -> bool:
        """Whether it needs libc++_shared.so, and that is not there: an app cannot load it."""
        return CXX_RUNTIME in self.info.needed and self.cxx_runtime is None

    @property
    def version_matches(self) -> bool:
        """Whether its own version is the one it stands for; a bundle's manifest must say where not."""
        return self.actual_version == self.version


def find_library(platform: str, version: str = RUNTIME_VERSION) -> RuntimeLibrary | None:
    """Return the library for a platform and version; None where none is on this machine. Uses no network.

    `EDGE_OCR_LITE_LIB`, a library file, comes first: for the platform that it fits it is used or refused, never
    passed over; for the others the store is looked into.

    Raises UsageError for an unknown platform or version, ModelError for a library that is damaged or does not fit.
    """
    wanted, version = _find_platform(platform), normalise_version(version)
    return _open_chosen(wanted, version) or open_stored(platform, version)


def open_stored(platform: str, version: str = RUNTIME_VERSION) -> RuntimeLibrary | None:
    """Return the store's library for a platform and version; None where it has none.

    Raises as `find_library`.
    """
    wanted, version = _find_platform(platform), normalise_version(version)
    folder = _place_of(wanted, version)
    if not folder.is_dir():
        return None
    record = _read_record(folder, wanted, version)
    return _open(
        folder,
        wanted,
        version,
        where=str(folder),
        source=str(record.get("url") or record.get("path") or "placed by hand"),
        released=record.get("version_evidence") == "release",
        allow_version_mismatch=record.get("version_mismatch_allowed") is True,
    )


def list_stored() -> list[tuple[str, str]]:
    """Return version and platform of every library in the store, sorted; damaged ones, too."""
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

    `path` is an archive of Paddle-Lite's releases (.tar.gz or .tar), its unpacked folder, or a library alone, to
    which `include_dir` adds headers. Without `platform`, the library tells it; it must be one of `among`, where that
    is given. Of an archive or folder, only libraries, headers and the .jar are taken.

    Raises UsageError for unknown or needless arguments and where the store has one already (`force` replaces it);
    ModelError for what is missing, damaged, of another machine or, without `allow_version_mismatch`, of another
    version. The store is then as it was.
    """
    wanted = None if platform is None else _find_platform(platform)
    candidates = [_find_platform(name) for name in among] or list(PLATFORMS.values())
    version = normalise_version(version)
    if wanted is not None:
        _check_free(wanted, version, force)
    what = _tell_apart(path)
    if include_dir is not None and what != "library":
        raise UsageError(f"--include {include_dir}: {path} is no library file", "an archive or folder has its headers")
    with model_store.open_scratch(_AREA) as scratch:
        staged = scratch / "library"
        staged.mkdir()
        archive_sha256 = None
        if what == "archive":
            archive_sha256 = model_store.hash_file(path)
            _unpack(path, staged, scratch, where=str(path))
        elif what == "folder":
            _copy_folder(path, staged)
        else:
            _copy_library(path, staged, include_dir)
        return _store(
            staged,
            wanted or _guess_platform(staged, candidates, where=str(path)),
            version,
            where=str(path),
            origin={"path": str(path.resolve()), "archive_sha256": archive_sha256},
            released=False,
            allow_version_mismatch=allow_version_mismatch,
            force=force,
        )


def fetch_library(
    platform: str, *, version: str = RUNTIME_VERSION, force: bool = False, progress: Progress | None = None
) -> RuntimeLibrary:
    """Download the official release's library into the store, unless it is there, and return it.

    `force` fetches it anew; `progress` hears of the bytes. Where the library's bytes do not tell its version, the
    release's counts.

    Raises UsageError for an unknown platform or version, ModelError where the download fails or is not fit.
    """
    wanted, version = _find_platform(platform), normalise_version(version)
    present = None if force else open_stored(platform, version)
    if present is not None:
        return present
    url = asset_url(platform, version)
    with model_store.open_scratch(_AREA) as scratch:
        archive, staged = scratch / "archive.tar.gz", scratch / "library"
        staged.mkdir()
        try:
            sha256 = model_store.download(url, archive, progress)
        except ModelError as error:
            hint = f"download it elsewhere and: edge-ocr libs add FILE; or set {URL_VARIABLE} to a mirror"
            raise ModelError(error.message, hint) from error
        changed = _compare_with_first(_place_of(wanted, version), url, sha256)
        _unpack(archive, staged, scratch, where=url)
        library = _store(
            staged,
            wanted,
            version,
            where=url,
            origin={"url": url, "archive_sha256": sha256},
            released=True,
            allow_version_mismatch=False,
            force=force,
        )
    return replace(library, concerns=(*changed, *library.concerns))


def asset_url(platform: str, version: str = RUNTIME_VERSION, *, official: bool = False) -> str:
    """Return the URL of the official archive, under `EDGE_OCR_LITE_URL` (a mirror) or else at the official place.

    With `official`, the mirror does not count.

    Raises UsageError for an unknown platform or version.
    """
    wanted = _find_platform(platform)
    mirror = None if official else os.environ.get(URL_VARIABLE)
    base = (mirror or RELEASES_URL).rstrip("/")
    return f"{base}/{normalise_version(version)}/inference_lite_lib.{wanted.name}.{wanted.build}.tar.gz"


def normalise_version(version: str) -> str:
    """Return a version as Paddle-Lite's tags have it: `2.13-rc` is `v2.13-rc`.

    Raises UsageError for what is no version.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        raise UsageError(f"{version!r} is no Paddle-Lite version", f"such as {RUNTIME_VERSION}")
    return f"v{match[1]}"


def _find_platform(name: str) -> Platform:
    if name not in PLATFORMS:
        raise UsageError(f"unknown platform {name!r}", f"one of {', '.join(PLATFORMS)}")
    return PLATFORMS[name]


def _place_of(platform: Platform, version: str) -> Path:
    return store_root() / _AREA / version / platform.name


def _check_free(platform: Platform, version: str, force: bool) -> None:
    place = _place_of(platform, version)
    if place.exists() and not force:
        raise UsageError(f"{platform.name} {version}: there is a library already: {place}", "--force replaces it")


# --- what comes in


def _tell_apart(path: Path) -> Literal["archive", "folder", "library"]:
    if path.is_dir():
        return "folder"
    try:
        if not path.is_file():
            raise ModelError(f"{path}: there is no such file or folder", "edge-ocr libs fetch gets the official ones")
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
    """Return a file's place, from its path in an archive; None for demos, static libraries and the like."""
    # One folder may stand around everything.
    for inner in (path, PurePosixPath(*path.parts[1:])):
        if str(inner) in _CXX_RUNTIMES:
            return PurePosixPath(_CXX_RUNTIME)
        if str(inner) in (_CXX_LIBRARY, _JNI_LIBRARY, _JAR) or (str(inner.parent) == _HEADERS and inner.suffix == ".h"):
            return inner
    return None


def _unpack(archive: Path, staged: Path, scratch: Path, *, where: str) -> None:
    try:
        with archive.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        tar = scratch / "archive.tar" if compressed else archive
        if compressed:
            model_store.gunzip(archive, tar)
        model_store.unpack(tar, staged, choose=_choose, max_members=MAX_MEMBERS)
    except ModelError as error:
        raise ModelError(f"{where}: {error.message}", "get the archive again") from error


def _copy_folder(folder: Path, staged: Path) -> None:
    # The folder itself, or the one around everything in the archive.
    try:
        candidates = [folder, *sorted(folder.iterdir())]
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read: {error.strerror}", "give a folder that you may read") from error
    roots = [root for root in candidates if any((root / place).is_file() for place in _LIBRARIES.values())]
    if len(roots) > 1:
        names = ", ".join(root.name for root in roots)
        raise ModelError(f"{folder}: holds several libraries: {names}", "give one of these folders")
    root = roots[0] if roots else folder
    headers = sorted((root / _HEADERS).glob("*.h"))
    for place in reversed(_CXX_RUNTIMES):
        if (root / place).is_file():
            _copy(root / place, staged / _CXX_RUNTIME)
    for place in (_CXX_LIBRARY, _JNI_LIBRARY, _JAR, *(f"{_HEADERS}/{path.name}" for path in headers)):
        if (root / place).is_file():
            _copy(root / place, staged / place)


def _copy_library(path: Path, staged: Path, include_dir: Path | None) -> None:
    info = inspect_library(path)
    _copy(path, staged / _LIBRARIES[info.kind])
    beside = path.with_name(CXX_RUNTIME)
    if info.kind == "jni" and CXX_RUNTIME in info.needed and beside.is_file():
        _copy(beside, staged / _CXX_RUNTIME)
    if include_dir is None:
        return
    if not (include_dir / _MAIN_HEADER).is_file():
        raise UsageError(f"--include {include_dir}: has no {_MAIN_HEADER}", "give the folder of Paddle-Lite's headers")
    for header in sorted(include_dir.glob("*.h")):
        _copy(header, staged / _HEADERS / header.name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = source.open("rb")
    except OSError as error:
        raise ModelError(f"{source}: cannot be read: {error.strerror}", "give files that you may read") from error
    with file, target.open("wb") as copy:
        shutil.copyfileobj(file, copy)


def _store(
    staged: Path,
    wanted: Platform,
    version: str,
    *,
    where: str,
    origin: Mapping[str, str | None],
    released: bool,
    allow_version_mismatch: bool,
    force: bool,
) -> RuntimeLibrary:
    """Check what lies in `staged` and move it into the store."""
    _check_free(wanted, version, force or released)
    library = _open(
        staged,
        wanted,
        version,
        where=where,
        source=str(origin.get("url") or origin.get("path")),
        released=released,
        allow_version_mismatch=allow_version_mismatch,
    )
    facts = {
        "platform": wanted.name,
        "version": version,
        "actual_version": library.actual_version,
        "version_evidence": library.version_evidence,
        "version_mismatch_allowed": not library.version_matches,
    }
    model_store.write_source(staged, {**origin, **facts})
    model_store.place_folder(staged, _place_of(wanted, version), force=force)
    placed = open_stored(wanted.name, version)
    if placed is None:
        raise ModelError(f"{_place_of(wanted, version)}: vanished while it was added", "add it again")
    return placed


def _guess_platform(staged: Path, candidates: Sequence[Platform], *, where: str) -> Platform:
    infos = _inspect_all(staged, where)
    fitting = [platform for platform in candidates if all(_fits(info, platform) for info in infos)]
    if not fitting:
        names = ", ".join(platform.name for platform in candidates)
        raise ModelError(f"{where}: is for {_describe(infos)}", f"expected one of {names}")
    if len(fitting) > 1:
        names = " or ".join(platform.name for platform in fitting)
        raise UsageError(f"{where}: does not tell its system", f"give --platform {names}")
    return fitting[0]


# --- what a folder holds


def _open(
    folder: Path,
    platform: Platform,
    version: str,
    *,
    where: str,
    source: str,
    released: bool,
    allow_version_mismatch: bool,
) -> RuntimeLibrary:
    """Look into a folder's libraries and check them."""
    infos = {info.kind: info for info in _inspect_all(folder, where)}
    _check_platform(infos.values(), platform, version, where)
    found = {
        kind: folder / place
        for kind, place in (*_LIBRARIES.items(), ("jar", _JAR), ("include", _HEADERS), ("runtime", _CXX_RUNTIME))
        if (folder / place).exists()
    }
    if "jar" in found:
        _check_jar(found["jar"], where)
    return _describe_library(
        platform,
        version,
        infos,
        where=where,
        folder=folder,
        found=found,
        source=source,
        released=released,
        allow_version_mismatch=allow_version_mismatch,
    )


def _open_chosen(platform: Platform, version: str) -> RuntimeLibrary | None:
    """Return the library of EDGE_OCR_LITE_LIB; None without one, or for another platform's."""
    chosen = os.environ.get(LIBRARY_VARIABLE)
    if not chosen:
        return None
    path = Path(chosen).expanduser()
    where = f"{LIBRARY_VARIABLE}={chosen}"
    info = inspect_library(path, name=where)
    if not _fits(info, platform):
        return None
    _check_system(info, platform, where)
    found: dict[str, Path] = {info.kind: path}
    if path.with_name(CXX_RUNTIME).is_file():
        found["runtime"] = path.with_name(CXX_RUNTIME)
    # Where it still lies as in the official archive.
    headers = path.parent.parent / "include"
    if (headers / _MAIN_HEADER).is_file():
        found["include"] = headers
    return _describe_library(
        platform,
        version,
        {info.kind: info},
        where=where,
        folder=path.parent,
        found=found,
        source=LIBRARY_VARIABLE,
        released=False,
        allow_version_mismatch=False,
    )


def _describe_library(
    platform: Platform,
    version: str,
    infos: Mapping[LibraryKind, LibraryInfo],
    *,
    where: str,
    folder: Path,
    found: Mapping[str, Path],
    source: str,
    released: bool,
    allow_version_mismatch: bool,
) -> RuntimeLibrary:
    actual, evidence = _find_version(infos.values(), version, released=released)
    if actual != version and not allow_version_mismatch:
        raise _report_version(where, infos.values(), actual, version, platform)
    main: LibraryKind = "jni" if "jni" in infos else "cxx"
    runtime = found.get("runtime") if CXX_RUNTIME in infos[main].needed else None
    runtime_fits_16k = True
    if runtime is not None:
        place = f"{where}: {CXX_RUNTIME}"
        told = inspect_cxx_runtime(runtime, name=place)
        if told.arch != platform.arch:
            raise ModelError(f"{place}: is for {told.arch}, expected {platform.arch}", _HINT_ARCHIVE)
        runtime_fits_16k = told.fits_16k_pages
    library = RuntimeLibrary(
        platform=platform.name,
        version=version,
        actual_version=actual,
        version_evidence=evidence,
        folder=folder,
        library=found[main],
        cxx_library=found.get("cxx"),
        include_dir=found.get("include"),
        jni_library=found.get("jni"),
        jar=found.get("jar"),
        cxx_runtime=runtime,
        info=infos[main],
        source=source,
        concerns=(),
    )
    concerns = [*_list_concerns(library, infos)]
    if not runtime_fits_16k and platform.arch == "armv8":
        devices = _describe_16k_devices(platform)
        concerns.append(f"{CXX_RUNTIME} is not aligned to 16384 bytes: {devices} cannot load it")
    return replace(library, concerns=tuple(concerns))


def _inspect_all(folder: Path, where: str) -> list[LibraryInfo]:
    infos = []
    for kind, place in _LIBRARIES.items():
        if (folder / place).is_file():
            name = f"{where}: {place}" if where != str(folder) else str(folder / place)
            info = inspect_library(folder / place, name=name)
            if info.kind != kind:
                raise ModelError(f"{name}: is the {info.kind} library, expected the {kind} one", _HINT_ARCHIVE)
            infos.append(info)
    if not infos:
        raise ModelError(f"{where}: holds no Paddle-Lite library", f"expected {_CXX_LIBRARY} or {_JNI_LIBRARY}")
    return infos


def _fits(info: LibraryInfo, platform: Platform) -> bool:
    systems: tuple[System, ...] = ("android",) if info.kind == "jni" else ("armlinux", "android")
    return info.arch == platform.arch and info.system in (None, platform.system) and platform.system in systems


def _check_platform(infos: Iterable[LibraryInfo], platform: Platform, version: str, where: str) -> None:
    for info in infos:
        if not _fits(info, platform):
            raise ModelError(
                f"{where}: is for {_describe([info])}, expected {platform.name}",
                f"get the right one: {asset_url(platform.name, version)}",
            )
        _check_system(info, platform, where)


def _check_system(info: LibraryInfo, platform: Platform, where: str) -> None:
    if platform.system == "android" and info.linux_symbols:
        names = ", ".join(info.linux_symbols[:5])
        raise ModelError(
            f"{where}: needs {names}, which Android does not have, so no phone can load it",
            "it was not built with Android's NDK; edge-ocr libs fetch gets the official library",
        )


def _describe(infos: Iterable[LibraryInfo]) -> str:
    systems = {"armlinux": "armlinux.", "android": "android.", None: ""}
    names = {systems[info.system] + info.arch + (" (JNI)" if info.kind == "jni" else "") for info in infos}
    return " and ".join(sorted(names))


def _check_jar(jar: Path, where: str) -> None:
    try:
        with zipfile.ZipFile(jar) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(f"{where}: {_JAR} is no readable .jar: {error}", _HINT_ARCHIVE) from error
    if _JAVA_CLASS not in names:
        raise ModelError(f"{where}: {_JAR} lacks {_JAVA_CLASS}", _HINT_ARCHIVE)


def _find_version(infos: Iterable[LibraryInfo], version: str, *, released: bool) -> tuple[str | None, VersionEvidence]:
    """Return the version that the libraries of one folder tell, and by what it is known."""
    seen = [info.versions_seen for info in infos]
    told = {info.version for info in infos if info.version is not None}
    if len(told) == 1 and all(info.version is not None or not info.versions_seen for info in infos):
        return told.pop(), "library"
    if released and not any(seen):
        return version, "release"
    return None, "none"


def _report_version(
    where: str, infos: Iterable[LibraryInfo], actual: str | None, version: str, platform: Platform
) -> ModelError:
    seen = sorted({text for info in infos for text in info.versions_seen})
    if actual is not None:
        told = f"is of Paddle-Lite {actual}"
    elif seen:
        told = f"names several versions: {', '.join(seen)}"
    else:
        told = "does not tell its version"
    ways = [f"get the right one: {asset_url(platform.name, version)}"]
    if actual is not None:
        ways.append(f"for bundles of that version: --version {actual}")
    ways.append(
        "edge-ocr libs add --allow-version-mismatch takes it all the same; it may read models wrong without saying so"
    )
    return ModelError(f"{where}: {told}, expected {version}", "; ".join(ways))


def _list_concerns(library: RuntimeLibrary, infos: Mapping[LibraryKind, LibraryInfo]) -> Iterable[str]:
    platform = PLATFORMS[library.platform]
    if not library.version_matches:
        yield (
            f"VERSION MISMATCH: the library is of {library.actual_version or 'unknown version'} and is used for "
            f"{library.version}, as allowed; it may read models wrong, or abort, without saying why"
        )
    elif library.version_evidence == "release":
        yield f"the library does not tell its version; it was fetched as {library.version} and is taken for that"
    for kind, info in infos.items():
        file = PurePosixPath(_LIBRARIES[kind]).name
        if info.with_extra is False:
            yield f"{file} was built without `with_extra`: PP-OCR's models need operators that it lacks"
        elif info.with_extra is None:
            yield f"{file} does not tell whether it was built `with_extra`, which PP-OCR's models need"
        if info.soname not in (None, file):
            yield f"{file} calls itself {info.soname}; a program linked with it will look for that name"
        yield from _list_page_concerns(platform, file, info)
    if platform.system == "android" and library.jni_library is None:
        yield f"there is no {_JNI_LIBRARY}, which an Android app in Java or Kotlin needs"
    elif library.jni_library is not None and library.jar is None:
        yield f"there is no {_JAR}, the Java classes that go with the JNI library"
    if library.jni_library is not None:
        yield from _list_needed_concerns(library, infos["jni"])
    if platform.system == "armlinux" and library.include_dir is None:
        yield "there are no headers, which compiling a program for the board needs (--include DIR)"


def _list_page_concerns(platform: Platform, file: str, info: LibraryInfo) -> Iterable[str]:
    # 32-bit systems have pages of 4 KB only.
    if info.fits_16k_pages or platform.arch != "armv8":
        return
    least = min(info.segment_alignments_bytes)
    yield f"{file} is aligned to {least} bytes: {_describe_16k_devices(platform)} cannot load it (needs 16384)"


def _describe_16k_devices(platform: Platform) -> str:
    if platform.system == "android":
        return "devices with Android 15 or newer and pages of 16 KB"
    return "boards whose kernel has pages of 16 KB, such as the Raspberry Pi 5's default one,"


def _list_needed_concerns(library: RuntimeLibrary, info: LibraryInfo) -> Iterable[str]:
    """Yield what an app would have to bring along beside the JNI library."""
    name = PurePosixPath(_JNI_LIBRARY).name
    if library.lacks_cxx_runtime:
        yield (
            f"{name} needs {CXX_RUNTIME}, which did not come with it, so an app cannot load it: take the release's "
            "archive with `c++_static` in its name, whose library needs none (`edge-ocr libs add --force FILE`), or "
            "put an Android NDK's (toolchains/llvm/prebuilt/*/sysroot/usr/lib) into java/so of the unpacked archive, "
            "and `edge-ocr libs add --force` its folder"
        )
    others = sorted(set(info.needed) - _ANDROID_LIBRARIES - {CXX_RUNTIME})
    if others:
        yield f"{name} needs {', '.join(others)}, which Android does not have: the app must bring it along"


# --- source.json


def _read_record(folder: Path, platform: Platform, version: str) -> Mapping[str, object]:
    """Return a stored folder's source.json, after comparing the files with it; empty where there is none.

    Raises ModelError for a difference or an unreadable record.
    """
    record = folder / _SOURCE_FILE
    hint = f"edge-ocr libs fetch --platform {platform.name} --version {version} --force; or: edge-ocr libs add --force"
    if not record.is_file():
        return {}
    try:
        content = json.loads(record.read_bytes())
        hashes = {str(name): str(facts["sha256"]) for name, facts in content["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{record} is damaged: {error!r}", hint) from error
    for name, sha256 in hashes.items():
        model_store.check_sha256(folder / name, sha256, hint)
    return dict(content)


def _compare_with_first(folder: Path, url: str, sha256: str) -> tuple[str, ...]:
    """Return a concern where the archive at `url` is not the one that was fetched there before."""
    try:
        content = json.loads((folder / _SOURCE_FILE).read_bytes())
        before = content["archive_sha256"] if content["url"] == url else sha256
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    if before == sha256:
        return ()
    return (f"the archive at {url} has changed: sha256 was {before}, is {sha256}",)
