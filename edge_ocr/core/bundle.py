"""A bundle on a board: manifest, settings, files, and the engines that can run it. Requires only Python."""

from __future__ import annotations

import json
import mmap
import platform
import re
import struct
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import ModelError, ToolchainError
from .files import hash_stream
from .processor import read_processor
from .settings import (
    RETURN_WORDS,
    DetectionSettings,
    OrientationSettings,
    PageOrientationSettings,
    RecognitionSettings,
)
from .trust import (
    MAX_MANIFEST_BYTES,
    NoOpenSslError,
    Release,
    Trust,
    UntrustedError,
    find_trust_folder,
    read_file,
    read_trust,
)

if TYPE_CHECKING:
    from .charset import Charset

MANIFEST = "manifest.json"

SIGNATURE = "manifest.sig"
"""Ed25519 signature of the manifest, 64 bytes. Like the manifest, it is not in the manifest's list of files."""

SCHEMA_VERSION = 3
"""Version of the manifest's schema. Increased if a device that knows only the older schema would misread the newer."""

ENGINES = ("paddle_lite", "onnxruntime")
"""Engines for boards, in order of preference."""

POWER_MODES = ("high", "low", "full", "no-bind", "rand-high", "rand-low")
"""Which cores Paddle-Lite uses, in the order of its enum."""

LIBRARY = "libpaddle_light_api_shared.so"
SHIM = "libedge_ocr_lite.so"
"""The edge-ocr library between Python and `LIBRARY`."""

INSTALLED = ".installed"
"""Folder in the bundle with the files that install.sh creates."""

# Longest quote from a manifest in an error, in characters.
_MAX_REASON = 200

_Settings = TypeVar("_Settings", DetectionSettings, RecognitionSettings, OrientationSettings, PageOrientationSettings)


@dataclass(frozen=True)
class Machine:
    """The facts that decide which engine runs a bundle on a machine."""

    abi: str | None
    """As `find_abi`."""
    name: str
    """Description for errors, used if there is no ABI."""
    glibc: str | None
    """As `find_glibc`."""
    python: str
    """Path of the Python interpreter."""
    has_onnxruntime: bool
    """Whether that Python has ONNX Runtime."""


@dataclass(frozen=True)
class DeviceBundle:
    """A bundle whose manifest is valid; its files are checked when they are needed."""

    folder: Path
    manifest: Mapping[str, Any]
    detection: DetectionSettings
    recognition: RecognitionSettings
    orientation: OrientationSettings
    page_orientation: PageOrientationSettings
    kinds: tuple[str, ...]
    """Kinds of its models: det, rec and often cls and page."""
    trust: Trust | None = None
    """The keys that this machine trusts; None if it accepts every bundle."""
    release: Release | None = None
    """The signed release; None if `trust` is."""

    @property
    def runtime_version(self) -> str:
        """Return the version of Paddle-Lite that the models require, such as `v2.13-rc`."""
        return str(self.manifest["lite"]["runtime_version"])

    def find_model(self, kind: str, engine: str) -> Path:
        """Return the checked file of a model for `engine`.

        Raises ModelError if it is missing or damaged.
        """
        section = "onnx" if engine == "onnxruntime" else "models"
        return self.check_file(str(self.manifest[section][kind]["file"]))

    def read_charset(self) -> Charset:
        """Return the classes of the recogniser.

        Raises ModelError if the dictionary is missing, damaged or does not match the model.
        """
        from .charset import Charset

        path = self.check_file(str(self.manifest["charset"]["file"]))
        try:
            # Not in text mode: a character may be a carriage return.
            *lines, rest = path.read_bytes().decode("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise ModelError(f"{path} is not UTF-8: {error.reason}", _EXPORT_AGAIN) from None
        if rest:
            raise ModelError(f"{path}: the last line has no line break", _EXPORT_AGAIN)
        classes = ("", *lines)
        expected = self.manifest["charset"]["classes"]
        if len(classes) != expected:
            raise ModelError(f"{path} defines {len(classes)} classes, expected {expected}", _EXPORT_AGAIN)
        return Charset(classes)

    def check_file(self, name: str) -> Path:
        """Check a file against the manifest and return its path.

        Raises ModelError if it is missing or damaged.
        """
        path = self.folder / name
        entry = self.manifest["files"].get(name)
        if entry is None:
            raise ModelError(f"{name} is not in the manifest of {self.folder}", _EXPORT_AGAIN)
        try:
            size_bytes = path.stat().st_size
            if size_bytes != entry["size_bytes"]:
                raise ModelError(f"{path} has {size_bytes} bytes, expected {entry['size_bytes']}", _COPY_AGAIN)
            with path.open("rb") as file:
                sha256 = hash_stream(file)
        except (OSError, ValueError) as error:  # ValueError: an invalid file name
            raise ModelError(
                f"{path} cannot be read: {getattr(error, 'strerror', None) or error}", _COPY_AGAIN
            ) from None
        if sha256 != entry["sha256"]:
            raise ModelError(f"{path} is damaged: its sha256 differs from the manifest's", _COPY_AGAIN)
        return path

    def check_files(self) -> int:
        """Check every file and return their number.

        Raises ModelError for the first file that is missing or damaged.
        """
        for name in sorted(self.manifest["files"]):
            self.check_file(name)
        return len(self.manifest["files"])

    def explain_engines(self) -> dict[str, str | None]:
        """Return the reason why each engine cannot run the bundle on this machine; None if it can."""
        abi = find_abi()
        reasons = explain_engines(
            self.manifest,
            Machine(
                abi,
                f"{platform.machine()} with {8 * struct.calcsize('P')}-bit Python",
                find_glibc(),
                sys.executable,
                find_spec("onnxruntime") is not None,
            ),
        )
        if reasons["paddle_lite"] is None and abi is not None:
            has_shim = self.manifest["lite"]["libraries"][abi].get("shim") is not None
            if not has_shim and not (self.folder / INSTALLED / "lib" / abi / SHIM).is_file():
                reasons["paddle_lite"] = f"{SHIM} is not built yet (./install.sh)"
        return reasons

    def choose_engine(self, wanted: str) -> str:
        """Return the engine to use: `wanted`, or for `auto` the first that can run here.

        Raises ToolchainError, with all reasons, if there is none.
        """
        reasons = self.explain_engines()
        if wanted != "auto":
            reasons = {wanted: reasons[wanted]}
        for engine, reason in reasons.items():
            if reason is None:
                return engine
        found = "; ".join(f"{engine}: {reason}" for engine, reason in reasons.items())
        raise ToolchainError(
            f"no engine can run {self.folder} here: {found}",
            "run ./install.sh on the board, or export again on the host with --lite-lib (adds the library) or "
            "--with-onnx (adds graphs for ONNX Runtime)",
        )

    def find_library(self, abi: str) -> Path:
        """Return the checked Paddle-Lite library for an ABI.

        Raises ModelError if it is damaged or its version does not match.
        """
        path = self.check_file(str(self.manifest["lite"]["libraries"][abi]["file"]))
        # Loading a model of another version may abort, so search the library's bytes, which contain the version at the
        # end of a string.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(f"{self.runtime_version}\0".encode()) < 0:
                raise ModelError(
                    f"{path} is not Paddle-Lite {self.runtime_version}, which the models require: it may silently "
                    "return wrong text",
                    "export the bundle again with the library of that version (edge-ocr libs fetch)",
                )
        return path

    def find_shim(self, abi: str) -> Path | None:
        """Return the edge-ocr library for Paddle-Lite: the bundle's, or the one that install.sh built, or None.

        A built library is not signed. If this machine trusts keys, it is used only in the bundle that holds this code.
        """
        name = self.manifest["lite"]["libraries"][abi].get("shim")
        if name is not None:
            return self.check_file(str(name))
        built = self.folder / INSTALLED / "lib" / abi / SHIM
        is_own = self.folder.resolve() == Path(__file__).resolve().parents[2]
        return built if built.is_file() and (self.trust is None or is_own) else None

    def describe_trust(self) -> str | None:
        """Describe why the bundle is trusted; None if this machine accepts every bundle."""
        if self.trust is None or self.release is None:
            return None
        said = f"release {self.release.name}, counter {self.release.counter}, by the keys in {self.trust.folder}"
        if not self.trust.is_writable:
            said += "; this folder is read-only, so counters are not recorded and older releases are accepted, too"
        return said

    def note_release(self) -> None:
        """Record that this release works here, so that older ones are refused from now on."""
        if self.trust is not None and self.release is not None:
            self.trust.note(self.release)


def explain_engines(manifest: Mapping[str, Any], machine: Machine) -> dict[str, str | None]:
    """Return the reason why each engine cannot run a bundle on a machine; None if it can, once installed there."""
    return {
        "paddle_lite": _explain_lite(manifest, machine),
        "onnxruntime": _explain_onnxruntime(manifest, machine),
    }


def _explain_lite(manifest: Mapping[str, Any], machine: Machine) -> str | None:
    libraries, abi, glibc = manifest["lite"]["libraries"], machine.abi, machine.glibc
    if abi is None or abi not in libraries:
        return f"the bundle is for {', '.join(libraries)}, this machine is {abi or machine.name}"
    if libraries[abi].get("file") is None:
        return f"the bundle has no Paddle-Lite library for {abi}"
    if not libraries[abi].get("version_matches"):
        version = manifest["lite"]["runtime_version"]
        found = str(libraries[abi].get("version"))[:_MAX_REASON]
        return f"its Paddle-Lite is {found}, the models require {version}"
    needed = libraries[abi].get("min_glibc")
    if glibc is None:
        return "it needs glibc, this system has another C library"
    if needed and order_version(glibc) < order_version(needed):
        return f"it needs glibc {needed}, this system has {glibc}"
    return None


def _explain_onnxruntime(manifest: Mapping[str, Any], machine: Machine) -> str | None:
    if manifest.get("onnx") is None:
        return "the bundle has no ONNX graphs"
    if not machine.has_onnxruntime:
        return f"onnxruntime is not installed for {machine.python}"
    return None


_EXPORT_AGAIN = "export the bundle again"
_COPY_AGAIN = "copy the bundle again"


def find_own_bundle() -> Path:
    """Return the bundle that contains this code.

    Raises ModelError if there is none.
    """
    folder = Path(__file__).resolve().parents[2]
    if not (folder / MANIFEST).is_file():
        raise ModelError(f"{folder} is not a bundle: there is no {MANIFEST}", "name one with --bundle")
    return folder


def open_bundle(folder: Path, trust_folder: Path | None = None) -> DeviceBundle:
    """Read the manifest of the bundle in `folder`.

    If the machine trusts keys (in `trust_folder`, or see `edge_ocr.core.trust`), one of them must have signed the
    bundle, no newer release may have been recorded (`DeviceBundle.note_release`), and every file is checked.

    Raises ModelError if there is no bundle for boards, or it is damaged, not trusted or newer than this code;
    ToolchainError if signatures cannot be checked here.
    """
    path = folder / MANIFEST
    try:
        content = read_file(path, MAX_MANIFEST_BYTES)
    except OSError as error:
        raise ModelError(f"{folder} is not a bundle: {MANIFEST}: {error.strerror}") from None
    if len(content) > MAX_MANIFEST_BYTES:
        raise ModelError(f"{path} has more than {MAX_MANIFEST_BYTES} bytes: not a bundle's manifest", _COPY_AGAIN)
    trust_folder = trust_folder or find_trust_folder()
    if trust_folder is None:
        return _parse_manifest(folder, content)
    try:
        # Before its content is used.
        trust = read_trust(trust_folder)
        release = trust.check(folder, content)
        bundle = _parse_manifest(folder, content)
        bundle.check_files()
        return replace(bundle, trust=trust, release=release)
    except UntrustedError as error:
        raise ModelError(
            f"{folder} is not trusted: {error}", f"see this machine's keys and counters in {trust_folder}"
        ) from None
    except NoOpenSslError as error:
        raise ToolchainError(
            f"{folder}: its signature cannot be checked: {error}", "sudo apt install libssl3"
        ) from None


def _parse_manifest(folder: Path, content: bytes) -> DeviceBundle:
    path = folder / MANIFEST
    try:
        manifest = json.loads(content)
    # RecursionError: a file of nothing but brackets.
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is damaged: not JSON", _COPY_AGAIN) from None
    try:
        _check_shape(manifest, {"schema_version": int, "target": str}, "")
        version = manifest["schema_version"]
        if version != SCHEMA_VERSION:
            again = "" if version > SCHEMA_VERSION else ", or export it again"
            raise ModelError(
                f"{path} has schema_version {version}, this runtime reads {SCHEMA_VERSION}",
                f"use the runtime in the bundle{again}",
            )
        if manifest["target"] != "arm":
            raise ModelError(
                f"{folder} is a bundle for {manifest['target'][:_MAX_REASON]}, expected arm",
                "export a bundle with --target arm",
            )
        _check_shape(manifest, _SHAPE, "")
        _check_values(manifest)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path} is damaged: {str(error)[:_MAX_REASON]}", _COPY_AGAIN) from None
    settings = manifest["settings"]
    return DeviceBundle(
        folder,
        manifest,
        _read_settings(DetectionSettings, settings["detection"]),
        _read_settings(RecognitionSettings, settings["recognition"]),
        _read_settings(OrientationSettings, settings["orientation"]),
        _read_settings(PageOrientationSettings, settings["page_orientation"]),
        tuple(kind for kind in (name.rstrip("?") for name in _MODELS) if manifest["models"].get(kind)),
    )


def _check_values(manifest: Mapping[str, Any]) -> None:
    """Raise ValueError for an invalid value of the right type."""
    for name in manifest["files"]:
        if name.startswith("/") or ".." in name.split("/") or "\\" in name or "\0" in name:
            raise ValueError(f"the file {name!r} is outside the bundle")
    version = manifest["lite"]["runtime_version"]
    if re.fullmatch(r"[\w.+-]{1,60}", version, re.ASCII) is None:
        raise ValueError(f"lite.runtime_version is {version!r}")
    for abi, library in manifest["lite"]["libraries"].items():
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})*", library.get("min_glibc") or "0", re.ASCII) is None:
            raise ValueError(f"lite.libraries.{abi}.min_glibc is {library['min_glibc']!r}")
    lacking = [kind for kind in manifest["models"] if kind not in (manifest.get("onnx") or manifest["models"])]
    if lacking:
        raise ValueError(f"onnx has no {', '.join(lacking)}")
    settings = manifest["settings"]
    if settings["detection"]["limit_type"] not in ("max", "min", "long"):
        raise ValueError(f"settings.detection.limit_type is {settings['detection']['limit_type']!r}")
    for name, allowed in _CHOICES.items():
        if settings["recognition"][name] not in allowed:
            raise ValueError(f"settings.recognition.{name} is {settings['recognition'][name]!r}")
    for stage in ("detection", "page_orientation"):
        for name in ("mean", "std"):
            if len(settings[stage][name]) != 3:
                raise ValueError(f"settings.{stage}.{name} has {len(settings[stage][name])} numbers, expected 3")


_CHOICES = {
    "direction": ("ltr", "rtl"),
    "return_words": RETURN_WORDS,
    "cjk_words": ("character", "run"),
}


def _read_settings(kind: type[_Settings], values: Mapping[str, Any]) -> _Settings:
    known: dict[str, Any] = {}
    for field in fields(kind):
        value = values[field.name]
        # JSON has no tuples.
        known[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**known)


def _describe_settings(kind: type[Any]) -> dict[str, Any]:
    shapes: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "bool": bool}
    return {field.name: shapes.get(str(field.type), [(int, float)]) for field in fields(kind)}


_MODELS = {"det": {"file": str}, "rec": {"file": str}, "cls?": {"file": str}, "page?": {"file": str}}
_LINE = {"polygon": [[(int, float)]], "det_score": (int, float), "text": str, "rec_score": (int, float)}

# The parts of a manifest that this package reads. A key with a question mark may be missing or null; an asterisk means
# any key.
_SHAPE: dict[str, Any] = {
    "edge_ocr_version": str,
    "precision": str,
    "lite": {"runtime_version": str, "libraries": {"*": {"file?": str, "shim?": str, "min_glibc?": str}}},
    "charset": {"file": str, "classes": int},
    "models": _MODELS,
    "onnx?": _MODELS,
    "settings": {
        "detection": _describe_settings(DetectionSettings),
        "recognition": _describe_settings(RecognitionSettings),
        "orientation": _describe_settings(OrientationSettings),
        "page_orientation": _describe_settings(PageOrientationSettings),
    },
    "golden?": {"image": str, "lines": [_LINE]},
    "files": {"*": {"sha256": str, "size_bytes": int}},
}


def _check_shape(value: Any, shape: Any, place: str) -> None:
    """Raise TypeError, naming the place, if a JSON value does not have `shape`."""
    kind: Any = type(shape) if isinstance(shape, (dict, list)) else shape
    if not isinstance(value, kind):
        raise TypeError(f"{place or 'the file'} is {json.dumps(value, ensure_ascii=False)[:60]}")
    if isinstance(shape, list):
        for index, item in enumerate(value):
            _check_shape(item, shape[0], f"{place}[{index}]")
    elif isinstance(shape, dict):
        for name, inner in shape.items():
            key, is_optional = name.rstrip("?"), name.endswith("?")
            for found in value if key == "*" else (key,):
                where = f"{place}.{found}".lstrip(".")
                if is_optional and value.get(found) is None:
                    continue
                if found not in value:
                    raise TypeError(f"{where} is missing")
                _check_shape(value[found], inner, where)


def find_abi() -> str | None:
    """Return the ABI of the libraries that this Python can load: `armv8`, `armv7hf`, or None for neither.

    Python's own ABI counts: many boards run a 32-bit system on a 64-bit kernel.
    """
    multiarch = str(sysconfig.get_config_var("MULTIARCH") or "")
    return name_abi(platform.machine(), sys.maxsize > 2**32, multiarch)


def name_abi(machine: str, is_64_bit: bool, multiarch: str) -> str | None:
    """Return the ABI of a Python from the values of `platform`, `sys` and `sysconfig`."""
    if is_64_bit:
        return "armv8" if machine.lower() in ("aarch64", "arm64") else None
    # Debian's name ends with gnueabi if floats are passed in integer registers.
    is_soft = multiarch.endswith("gnueabi")
    return "armv7hf" if machine.lower() in ("armv7l", "armv8l", "aarch64", "arm64") and not is_soft else None


def find_glibc() -> str | None:
    """Return the glibc version that this Python runs on, such as `2.36`; None for another C library."""
    library, version = platform.libc_ver()
    return version if library == "glibc" else None


def order_version(version: str) -> tuple[int, ...]:
    """Return a version of numbers and dots in a form that sorts: `2.36` gives (2, 36)."""
    return tuple(map(int, version.split(".")))


def describe_machine(bundle: DeviceBundle) -> dict[str, Any]:
    """Return the content of `edge-ocr-lite info` as JSON values."""
    modules = ("numpy", "cv2", "pyclipper", "onnxruntime")
    processor = read_processor()
    return {
        "bundle": str(bundle.folder),
        "edge_ocr_version": bundle.manifest["edge_ocr_version"],
        "precision": bundle.manifest["precision"],
        "abi": find_abi(),
        "python": platform.python_version(),
        "glibc": find_glibc(),
        "processor": None if processor is None else asdict(processor),
        "modules": {name: find_spec(name) is not None for name in modules},
        "engines": bundle.explain_engines(),
        "trust": bundle.describe_trust(),
    }


def iterate_files(folder: Path) -> Iterator[Path]:
    """Yield the files of this package that a bundle contains: Python files, and the sources of the shim."""
    yield from sorted(folder.rglob("*.py"))
    yield from (folder / "engines" / "lite_shim" / name for name in ("edge_ocr_lite.cpp", "edge_ocr_lite.h"))
