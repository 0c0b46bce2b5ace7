"""Checks a Paddle-Lite library on disk: does it fit a platform and a version, and what should its user know?"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal

from converters.lite.libraries.elf import (
    CXX_RUNTIME,
    LibraryInfo,
    LibraryKind,
    System,
    inspect_cxx_runtime,
    inspect_library,
)
from converters.lite.libraries.platforms import Platform, asset_url
from edge_ocr.errors import ModelError, UsageError

VersionEvidence = Literal["library", "release", "none"]

# The layout of Paddle-Lite's own archives, which the store keeps.
CXX_LIBRARY = "cxx/lib/libpaddle_light_api_shared.so"
HEADERS = "cxx/include"
MAIN_HEADER = "paddle_api.h"
JNI_LIBRARY = "java/so/libpaddle_lite_jni.so"
JAR = "java/jar/PaddlePredictor.jar"
PLACED_CXX_RUNTIME = f"java/so/{CXX_RUNTIME}"
LIBRARIES: Mapping[LibraryKind, str] = MappingProxyType({"cxx": CXX_LIBRARY, "jni": JNI_LIBRARY})

_JAVA_CLASS = "com/baidu/paddle/lite/PaddlePredictor.class"
# What apps may link with on Android 7, from https://developer.android.com/ndk/guides/stable_apis
_ANDROID_LIBRARIES = frozenset(
    f"lib{name}.so"
    for name in (
        *("EGL", "GLESv1_CM", "GLESv2", "GLESv3", "OpenMAXAL", "OpenSLES", "android", "c", "camera2ndk", "dl"),
        *("jnigraphics", "log", "m", "mediandk", "stdc++", "vulkan", "z"),
    )
)
_HINT_ARCHIVE = "add Paddle-Lite's archive as it was downloaded"


@dataclass(frozen=True)
class Wanted:
    """What a library is checked against."""

    platform: Platform
    version: str
    where: str
    """The library's name in errors."""
    source: str
    """Where it came from, as text."""
    released: bool = False
    """Whether it came with the official release of `version`."""
    allow_version_mismatch: bool = False


@dataclass(frozen=True)
class RuntimeLibrary:
    """A Paddle-Lite library on disk that was checked and fits its platform."""

    platform: str
    version: str
    """The version whose bundles it is for."""
    actual_version: str | None
    """Its own version; differs from `version`, or is None (unknown), only with `allow_version_mismatch`."""
    version_evidence: VersionEvidence
    """`library`: read from its bytes. `release`: its bytes name no version, but it came with that release."""
    folder: Path
    """The store's folder; the library's own folder if `EDGE_OCR_LITE_LIB` names it."""
    library: Path
    """The file that a bundle for the platform needs: Android's JNI library if there is one, else the C++ one."""
    cxx_library: Path | None
    """libpaddle_light_api_shared.so, for programs in C++."""
    include_dir: Path | None
    """Folder with paddle_api.h, for compiling such a program."""
    jni_library: Path | None
    """libpaddle_lite_jni.so, for Android."""
    jar: Path | None
    """PaddlePredictor.jar, the Java classes for the JNI library."""
    cxx_runtime: Path | None
    """libc++_shared.so, if `info.needed` names it and it is present."""
    info: LibraryInfo
    """Facts about `library`."""
    source: str
    """Where it came from, as text."""
    concerns: tuple[str, ...]
    """What a user should know before relying on it, one sentence each; often empty."""

    @property
    def lacks_cxx_runtime(self) -> bool:
        """Whether it needs libc++_shared.so, which is missing: an app cannot load it."""
        return CXX_RUNTIME in self.info.needed and self.cxx_runtime is None

    @property
    def version_matches(self) -> bool:
        """Whether its own version is the one that it is used for."""
        return self.actual_version == self.version


def open_folder(folder: Path, wanted: Wanted) -> RuntimeLibrary:
    """Check the libraries in a folder with the layout of Paddle-Lite's archives.

    Raises ModelError if there is none, or if one is damaged or does not fit.
    """
    infos = {info.kind: info for info in _inspect_all(folder, wanted.where)}
    for info in infos.values():
        if not fits(info, wanted.platform):
            raise ModelError(
                f"{wanted.where}: is for {_describe([info])}, expected {wanted.platform.name}",
                f"get the right one: {asset_url(wanted.platform.name, wanted.version)}",
            )
    found = {
        kind: folder / place
        for kind, place in (*LIBRARIES.items(), ("jar", JAR), ("include", HEADERS), ("runtime", PLACED_CXX_RUNTIME))
        if (folder / place).exists()
    }
    if "jar" in found:
        _check_jar(found["jar"], wanted.where)
    return _open(folder, found, infos, wanted)


def open_file(path: Path, wanted: Wanted) -> RuntimeLibrary | None:
    """Check a library file, with the headers and the C++ runtime next to it; None if it is for another platform.

    Raises ModelError if it is damaged or does not fit.
    """
    info = inspect_library(path, name=wanted.where)
    if not fits(info, wanted.platform):
        return None
    found: dict[str, Path] = {info.kind: path}
    if path.with_name(CXX_RUNTIME).is_file():
        found["runtime"] = path.with_name(CXX_RUNTIME)
    # In an unpacked official archive.
    headers = path.parent.parent / "include"
    if (headers / MAIN_HEADER).is_file():
        found["include"] = headers
    return _open(path.parent, found, {info.kind: info}, wanted)


def guess_platform(folder: Path, candidates: Sequence[Platform], *, where: str) -> Platform:
    """Return the platform that the libraries in a folder are for.

    Raises ModelError if that is none of `candidates`, UsageError if the libraries fit several.
    """
    infos = _inspect_all(folder, where)
    fitting = [platform for platform in candidates if all(fits(info, platform) for info in infos)]
    if not fitting:
        names = ", ".join(platform.name for platform in candidates)
        raise ModelError(f"{where}: is for {_describe(infos)}, expected one of {names}", "add the right one")
    if len(fitting) > 1:
        names = " or ".join(platform.name for platform in fitting)
        raise UsageError(f"{where}: does not say which system it is for", f"give --platform {names}")
    return fitting[0]


def fits(info: LibraryInfo, platform: Platform) -> bool:
    """Tell whether a library is for a platform; one that does not name its system fits all systems."""
    systems: tuple[System, ...] = ("android",) if info.kind == "jni" else ("armlinux", "android")
    return info.arch == platform.arch and info.system in (None, platform.system) and platform.system in systems


def _open(
    folder: Path, found: Mapping[str, Path], infos: Mapping[LibraryKind, LibraryInfo], wanted: Wanted
) -> RuntimeLibrary:
    platform, where = wanted.platform, wanted.where
    for info in infos.values():
        if platform.system == "android" and info.linux_symbols:
            names = ", ".join(info.linux_symbols[:5])
            raise ModelError(
                f"{where}: needs {names}, which Android does not have, so no phone can load it",
                "build it with Android's NDK, or run edge-ocr libs fetch for the official library",
            )
    actual, evidence = _find_version(infos.values(), wanted)
    if actual != wanted.version and not wanted.allow_version_mismatch:
        raise _report_version(infos.values(), actual, wanted)
    main: LibraryKind = "jni" if "jni" in infos else "cxx"
    runtime = found.get("runtime") if CXX_RUNTIME in infos[main].needed else None
    runtime_fits_16k = True
    if runtime is not None:
        place = f"{where}: {CXX_RUNTIME}"
        facts = inspect_cxx_runtime(runtime, name=place)
        if facts.arch != platform.arch:
            raise ModelError(f"{place}: is for {facts.arch}, expected {platform.arch}", _HINT_ARCHIVE)
        runtime_fits_16k = facts.fits_16k_pages
    library = RuntimeLibrary(
        platform=platform.name,
        version=wanted.version,
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
        source=wanted.source,
        concerns=(),
    )
    concerns = [*_list_concerns(library, platform, infos)]
    if not runtime_fits_16k and platform.arch == "armv8":
        devices = _describe_16k_devices(platform)
        concerns.append(f"{CXX_RUNTIME} is not aligned to 16384 bytes: {devices} cannot load it")
    return replace(library, concerns=tuple(concerns))


def _inspect_all(folder: Path, where: str) -> list[LibraryInfo]:
    infos = []
    for kind, place in LIBRARIES.items():
        if (folder / place).is_file():
            name = f"{where}: {place}" if where != str(folder) else str(folder / place)
            info = inspect_library(folder / place, name=name)
            if info.kind != kind:
                raise ModelError(f"{name}: is the {info.kind} library, expected the {kind} one", _HINT_ARCHIVE)
            infos.append(info)
    if not infos:
        raise ModelError(f"{where}: contains neither {CXX_LIBRARY} nor {JNI_LIBRARY}", _HINT_ARCHIVE)
    return infos


def _describe(infos: Iterable[LibraryInfo]) -> str:
    systems = {"armlinux": "armlinux.", "android": "android.", None: ""}
    names = {systems[info.system] + info.arch + (" (JNI)" if info.kind == "jni" else "") for info in infos}
    return " and ".join(sorted(names))


def _check_jar(jar: Path, where: str) -> None:
    try:
        with zipfile.ZipFile(jar) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(f"{where}: cannot read {JAR}: {error}", _HINT_ARCHIVE) from error
    if _JAVA_CLASS not in names:
        raise ModelError(f"{where}: {JAR} lacks {_JAVA_CLASS}", _HINT_ARCHIVE)


# --- versions


def _find_version(infos: Iterable[LibraryInfo], wanted: Wanted) -> tuple[str | None, VersionEvidence]:
    """Return the version of the libraries in one folder (None if unknown) and the evidence for it."""
    seen = [info.versions_seen for info in infos]
    told = {info.version for info in infos if info.version is not None}
    if len(told) == 1 and all(info.version is not None or not info.versions_seen for info in infos):
        return told.pop(), "library"
    if wanted.released and not any(seen):
        return wanted.version, "release"
    return None, "none"


def _report_version(infos: Iterable[LibraryInfo], actual: str | None, wanted: Wanted) -> ModelError:
    seen = sorted({text for info in infos for text in info.versions_seen})
    if actual is not None:
        told = f"is Paddle-Lite {actual}"
    elif seen:
        told = f"names several versions: {', '.join(seen)}"
    else:
        told = "does not name its version"
    ways = [f"get the right one: {asset_url(wanted.platform.name, wanted.version)}"]
    if actual is not None:
        ways.append(f"or make bundles for that version: --version {actual}")
    ways.append("or use it anyway: edge-ocr libs add --allow-version-mismatch (it may return wrong text silently)")
    return ModelError(f"{wanted.where}: {told}, expected {wanted.version}", "; ".join(ways))


# --- concerns


def _list_concerns(
    library: RuntimeLibrary, platform: Platform, infos: Mapping[LibraryKind, LibraryInfo]
) -> Iterator[str]:
    if not library.version_matches:
        yield (
            f"VERSION MISMATCH: the library is {library.actual_version or 'of unknown version'} but is used for "
            f"{library.version}, as you allowed; it may return wrong text, or abort, without saying why"
        )
    elif library.version_evidence == "release":
        yield f"the library does not name its version; it was fetched as {library.version}, which is assumed"
    for kind, info in infos.items():
        file = PurePosixPath(LIBRARIES[kind]).name
        if info.with_extra is False:
            yield f"{file} was built without `with_extra`, so it lacks operators that PP-OCR's models need"
        elif info.with_extra is None:
            yield f"{file} does not show whether it was built `with_extra`, which PP-OCR's models need"
        if info.soname not in (None, file):
            yield f"{file} has the soname {info.soname}; a program linked with it will look for that name"
        # 32-bit systems have pages of 4 KB only.
        if not info.fits_16k_pages and platform.arch == "armv8":
            least, devices = min(info.segment_alignments_bytes), _describe_16k_devices(platform)
            yield f"{file} is aligned to {least} bytes: {devices} cannot load it (needs 16384)"
    if platform.system == "android" and library.jni_library is None:
        yield f"{JNI_LIBRARY} is missing, which an Android app in Java or Kotlin needs"
    elif library.jni_library is not None and library.jar is None:
        yield f"{JAR} is missing, the Java classes for the JNI library"
    if library.jni_library is not None:
        yield from _list_needed_concerns(library, infos["jni"])
    if platform.system == "armlinux" and library.include_dir is None:
        yield "the headers are missing, which compiling a program for the board needs (--include DIR)"


def _describe_16k_devices(platform: Platform) -> str:
    if platform.system == "android":
        return "devices with Android 15 or newer and pages of 16 KB"
    return "boards whose kernel uses pages of 16 KB, such as the Raspberry Pi 5's default one,"


def _list_needed_concerns(library: RuntimeLibrary, info: LibraryInfo) -> Iterator[str]:
    """Yield what an app must contain in addition to the JNI library."""
    name = PurePosixPath(JNI_LIBRARY).name
    if library.lacks_cxx_runtime:
        yield (
            f"{name} needs {CXX_RUNTIME}, which is missing, so an app cannot load it: use the release's archive with "
            "`c++_static` in its name, whose library does not need it (`edge-ocr libs add --force FILE`), or copy the "
            "one of an Android NDK (toolchains/llvm/prebuilt/*/sysroot/usr/lib) into java/so of the unpacked archive "
            "and run `edge-ocr libs add --force` on that folder"
        )
    others = sorted(set(info.needed) - _ANDROID_LIBRARIES - {CXX_RUNTIME})
    if others:
        yield f"{name} needs {', '.join(others)}, which Android does not have: the app must contain it"
