"""Inspects a Paddle-Lite shared library: its machine, version, exports and layout.

The library is never run, so it may be for another machine.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from elftools.elf.constants import E_FLAGS
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elftools.elf.sections import SymbolTableSection

from edge_ocr.core.bundle import order_version
from edge_ocr.errors import ModelError

LibraryKind = Literal["cxx", "jni"]
Arch = Literal["armv8", "armv7hf", "armv7"]
System = Literal["armlinux", "android"]

PAGE_16K_BYTES = 16 * 1024
CXX_RUNTIME = "libc++_shared.so"
"""The C++ library of the NDK. It is not part of Android, so an app must contain it."""
MAX_LIBRARY_BYTES = 2**29
MAX_SYMBOLS = 2_000_000
"""Paddle-Lite exports a few thousand; a damaged table could claim any number."""

_HINT = "give libpaddle_light_api_shared.so or libpaddle_lite_jni.so as Paddle-Lite's releases ship them"
_STATIC_MAGICS = (b"!<arch>\n", b"!<thin>\n")

# The functions that a program for a board calls, and those that the Java classes need. The C++ names end before types
# of the standard library, which libstdc++ and Android's libc++ mangle differently.
_CXX_SYMBOLS: Mapping[str, str] = MappingProxyType(
    {
        "CreatePaddlePredictor<MobileConfig>": "_ZN6paddle8lite_api21CreatePaddlePredictorINS0_12MobileConfigEEE",
        "MobileConfig::set_model_from_file": "_ZN6paddle8lite_api12MobileConfig19set_model_from_fileE",
        "ConfigBase::set_threads": "_ZN6paddle8lite_api10ConfigBase11set_threadsE",
        "Tensor::Resize": "_ZN6paddle8lite_api6Tensor6ResizeE",
        "Tensor::shape": "_ZNK6paddle8lite_api6Tensor5shapeE",
    }
)
_JNI_PREFIX = "Java_com_baidu_paddle_lite_"
_JNI_SYMBOLS: Mapping[str, str] = MappingProxyType(
    {
        name: _JNI_PREFIX + name
        for name in (
            "PaddlePredictor_newCppPaddlePredictor__Lcom_baidu_paddle_lite_MobileConfig_2",
            "PaddlePredictor_run",
            "Tensor_nativeResize",
            "Tensor_getFloatData",
        )
    }
)
# The only class of `with_cv` that is exported.
_CV_PREFIX = "_ZN6paddle4lite5utils2cv15ImagePreprocess"

# Symbols of glibc, musl or libstdc++ (std::__cxx11); none is in bionic's libc, libm and libdl.map.txt.
_LINUX_SYMBOLS = re.compile(
    r"__(errno_location|ctype_\w+_loc|isoc(99|23)_\w+|libc_start_main|f?printf_chk|fdelt_chk|longjmp_chk)"
    r"|gnu_get_libc_version|pthread_cancel|pthread_setcanceltype|secure_getenv|_ZNK?St7__cxx11.*"
)
_LINUX_VERSIONS = ("GLIBC_", "GLIBCXX_", "CXXABI_")

# lite/core/program.cc has one of two messages for an unknown operator, chosen by LITE_BUILD_EXTRA. Stripping keeps
# them, and they are too long for a compiler to turn into instructions, unlike an operator's name.
_WITH_EXTRA_TEXT = b"This model is not supported, because operator '"
_WITHOUT_EXTRA_TEXT = b"which is marked with `with_extra`"

# The release's git tag, as in lite/core/version.h: a whole string, so longer texts that contain a version do not match.
_VERSION = re.compile(rb"(?<![\w./ -])v\d+\.\d+(?:\.\d+)?(?:-(?:rc|beta)\d*)?(?=\0)")
# So far, the compiler has put the commit, the other constant of version.h, right after the tag.
_COMMIT = re.compile(rb"\0[0-9a-f]{7,12}\0")


@dataclass(frozen=True)
class LibraryInfo:
    """Facts about a Paddle-Lite library, read from the file."""

    kind: LibraryKind
    """`cxx` for programs in C++, `jni` for the Java classes."""
    arch: Arch
    """armv8 is 64-bit; armv7hf passes floats in registers, armv7 (Android's) does not."""
    system: System | None
    """None if it names no C library."""
    soname: str | None
    needed: tuple[str, ...]
    """Libraries that it needs at run time (DT_NEEDED), such as libc++_shared.so."""
    linux_symbols: tuple[str, ...]
    """Symbols that it needs and that Linux's C and C++ libraries have but Android's lack, sorted. A library with such
    symbols loads on no phone."""
    version: str | None
    """Such as `v2.13-rc`; None if it contains none, or several without a way to choose."""
    versions_seen: tuple[str, ...]
    """All strings in it that look like a version, sorted."""
    segment_alignments_bytes: tuple[int, ...]
    """p_align of each PT_LOAD."""
    with_extra: bool | None
    """Whether it has all operators, which PP-OCR needs; None if unknown."""
    with_cv: bool
    """Whether it exports Paddle-Lite's own image functions, which edge-ocr does not use."""
    sha256: str
    size_bytes: int

    @property
    def fits_16k_pages(self) -> bool:
        """Whether a kernel with pages of 16 KB can load it."""
        return min(self.segment_alignments_bytes) >= PAGE_16K_BYTES


@dataclass(frozen=True)
class RuntimeInfo:
    """Facts about a libc++_shared.so."""

    arch: Arch
    fits_16k_pages: bool


def inspect_library(path: Path, *, name: str | None = None) -> LibraryInfo:
    """Inspect a library; `name` replaces the path in errors.

    Raises ModelError if it cannot be read, is damaged, is not a shared library for ARM, or lacks exports of a
    Paddle-Lite library.
    """
    where = name or str(path)
    data = _read(path, where)
    facts = _read_facts(data, where)
    symbols = facts.pop("symbols")
    version, versions_seen = find_version(data)
    return LibraryInfo(
        **facts,
        kind=_check_symbols(symbols, where),
        with_cv=any(symbol.startswith(_CV_PREFIX) for symbol in symbols),
        version=version,
        versions_seen=versions_seen,
        with_extra=_find_with_extra(data),
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
    )


def inspect_cxx_runtime(path: Path, *, name: str | None = None) -> RuntimeInfo:
    """Inspect a libc++_shared.so; `name` replaces the path in errors.

    Raises ModelError if it is damaged, is not for ARM, or is not Android's C++ library.
    """
    where = name or str(path)
    facts = _read_facts(_read(path, where), where)
    # The NDK's own inline namespace distinguishes it from every other libc++.
    if facts["soname"] != CXX_RUNTIME or not any("St6__ndk1" in symbol for symbol in facts["symbols"]):
        raise ModelError(f"{where}: is not the {CXX_RUNTIME} of an Android NDK", _HINT)
    return RuntimeInfo(facts["arch"], min(facts["segment_alignments_bytes"]) >= PAGE_16K_BYTES)


def find_version(data: bytes) -> tuple[str | None, tuple[str, ...]]:
    """Return the version in a library's bytes, and all strings that look like one.

    Among several, the one before a commit counts. The version is None if none or more than one remains.
    """
    seen: set[str] = set()
    beside_commit: set[str] = set()
    for match in _VERSION.finditer(data):
        text = match.group().decode("ascii")
        seen.add(text)
        if _COMMIT.match(data, match.end()):
            beside_commit.add(text)
    for found in (seen, beside_commit):
        if len(found) == 1:
            return next(iter(found)), tuple(sorted(seen))
    return None, tuple(sorted(seen))


def find_min_glibc(path: Path) -> str | None:
    """Return the oldest glibc that can load a library, such as `2.17`; None if it does not need glibc.

    Raises ModelError if it is damaged or not an ELF file.
    """
    data = _read(path, str(path))
    try:
        versions = [
            name.removeprefix("GLIBC_")
            for name in _iterate_needed_versions(ELFFile(io.BytesIO(data)))
            if re.fullmatch(r"GLIBC_[\d.]+", name)
        ]
        return max(versions, key=order_version, default=None)
    # pyelftools raises ELFError for what it checks, and any other exception for what it does not.
    except Exception as error:
        raise ModelError(f"{path}: is a damaged ELF file: {' '.join(str(error).split())}", _HINT) from error


def _read(path: Path, where: str) -> bytes:
    try:
        if path.is_dir():
            raise ModelError(f"{where}: is a folder, expected a library", _HINT)
        size = path.stat().st_size
        if size > MAX_LIBRARY_BYTES:
            raise ModelError(f"{where}: {size} bytes, expected at most {MAX_LIBRARY_BYTES}", _HINT)
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{where}: cannot be read: {error.strerror}", _HINT) from error


def _find_with_extra(data: bytes) -> bool | None:
    if _WITHOUT_EXTRA_TEXT in data:
        return False
    return True if _WITH_EXTRA_TEXT in data else None


def _read_facts(data: bytes, where: str) -> dict[str, Any]:
    if data.startswith(_STATIC_MAGICS):
        raise ModelError(f"{where}: is a static library, expected a shared one", _HINT)
    if not data.startswith(b"\x7fELF"):
        raise ModelError(f"{where}: is not an ELF file: starts with {data[:4].hex(' ') or 'nothing'}", _HINT)
    try:
        return _read_elf(data, where)
    except ModelError:
        raise
    # pyelftools raises ELFError for what it checks, and any other exception for what it does not.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{where}: is a damaged ELF file: {reason}", _HINT) from error


def _read_elf(data: bytes, where: str) -> dict[str, Any]:
    elf = ELFFile(io.BytesIO(data))
    arch = _read_arch(elf, where)
    if elf["e_type"] != "ET_DYN":
        raise ModelError(f"{where}: is {elf['e_type']}, expected a shared library (ET_DYN)", _HINT)
    segments = list(elf.iter_segments())
    loaded = [segment for segment in segments if segment["p_type"] == "PT_LOAD"]
    dynamic = next((segment for segment in segments if isinstance(segment, DynamicSegment)), None)
    if not loaded or dynamic is None:
        raise ModelError(f"{where}: has no PT_LOAD or no dynamic segment, expected a shared library", _HINT)
    for segment in loaded:
        end = segment["p_offset"] + segment["p_filesz"]
        if end > len(data):
            raise ModelError(f"{where}: is cut off: expected at least {end} bytes, actual {len(data)}", _HINT)
    # Any: pyelftools sets the attributes at run time.
    tags: list[Any] = list(dynamic.iter_tags())
    needed = tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED")
    symbols = list(_iterate_symbols(elf, dynamic, where))
    # A library loads without its weak symbols.
    wanted = {
        symbol.name
        for symbol in symbols
        if symbol["st_shndx"] == "SHN_UNDEF" and symbol["st_info"]["bind"] == "STB_GLOBAL"
    }
    linux_symbols = {name for name in wanted if _LINUX_SYMBOLS.fullmatch(name)}
    linux_symbols.update(name for name in _iterate_needed_versions(elf) if name.startswith(_LINUX_VERSIONS))
    return {
        "symbols": frozenset(symbol.name for symbol in symbols if _is_exported(symbol)),
        "linux_symbols": tuple(sorted(linux_symbols)),
        "arch": arch,
        "system": _read_system(elf, needed),
        "soname": next((tag.soname for tag in tags if tag.entry.d_tag == "DT_SONAME"), None),
        "needed": needed,
        "segment_alignments_bytes": tuple(int(segment["p_align"]) for segment in loaded),
    }


def _read_arch(elf: ELFFile, where: str) -> Arch:
    machine = str(elf["e_machine"]).removeprefix("EM_")
    bits = {"AARCH64": 64, "ARM": 32}.get(machine)
    if bits is None:
        raise ModelError(f"{where}: is for the machine {machine}, expected AARCH64 or ARM", _HINT)
    if elf.elfclass != bits:
        raise ModelError(f"{where}: is a {elf.elfclass}-bit file for {machine}, expected {bits}-bit", _HINT)
    if not elf.little_endian:
        raise ModelError(f"{where}: is big-endian, expected little-endian", _HINT)
    if machine == "AARCH64":
        return "armv8"
    # Linkers for hard-float ARM have set this flag since 2012; Android uses soft-float.
    return "armv7hf" if elf["e_flags"] & E_FLAGS.EF_ARM_ABI_FLOAT_HARD else "armv7"


def _read_system(elf: ELFFile, needed: tuple[str, ...]) -> System | None:
    if elf.get_section_by_name(".note.android.ident") is not None or "libc.so" in needed:
        return "android"
    # Libraries have numbers on Linux (libc.so.6), but not on Android.
    return "armlinux" if any(".so." in library for library in needed) else None


def _iterate_symbols(elf: ELFFile, dynamic: Any, where: str) -> Iterator[Any]:
    section = elf.get_section_by_name(".dynsym")
    # Without section headers, the hash table gives their number.
    table = section if isinstance(section, SymbolTableSection) else dynamic
    for count, symbol in enumerate(table.iter_symbols()):
        if count == MAX_SYMBOLS:
            raise ModelError(f"{where}: claims more than {MAX_SYMBOLS} symbols", _HINT)
        yield symbol


def _iterate_needed_versions(elf: ELFFile) -> Iterator[str]:
    """Yield the symbol versions that it needs from other libraries, such as GLIBC_2.17."""
    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            for _, needs in section.iter_versions():
                yield from (need.name for need in needs)


def _is_exported(symbol: Any) -> bool:
    return (
        symbol["st_shndx"] != "SHN_UNDEF"
        and symbol["st_info"]["bind"] in ("STB_GLOBAL", "STB_WEAK")
        and symbol["st_other"]["visibility"] in ("STV_DEFAULT", "STV_PROTECTED")
    )


def _check_symbols(symbols: frozenset[str], where: str) -> LibraryKind:
    kind: LibraryKind = "jni" if any(symbol.startswith(_JNI_PREFIX) for symbol in symbols) else "cxx"
    wanted = _JNI_SYMBOLS if kind == "jni" else _CXX_SYMBOLS
    missing = [name for name, start in wanted.items() if not any(symbol.startswith(start) for symbol in symbols)]
    if len(missing) == len(wanted):
        raise ModelError(f"{where}: is not a Paddle-Lite library: exports none of its functions", _HINT)
    if missing:
        raise ModelError(f"{where}: does not export {', '.join(missing)}", _HINT)
    return kind
