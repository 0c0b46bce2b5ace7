"""A bundle as a board sees it: manifest, settings, files and what can run them. Needs nothing but Python to read."""

from __future__ import annotations

import json
import mmap
import platform
import re
import struct
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import ModelError, ToolchainError
from .files import hash_stream
from .settings import DetectionSettings, OrientationSettings, RecognitionSettings
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
"""Of the manifest: 64 bytes of Ed25519. Like the manifest, it is not in the manifest's list of files."""

SCHEMA_VERSION = 2
"""Of the manifest. Raised when a device that reads the older one would do something wrong with the newer."""

ENGINES = ("paddle_lite", "onnxruntime")
"""What runs a bundle on a board, the first choice first."""

POWER_MODES = ("high", "low", "full", "no-bind", "rand-high", "rand-low")
"""Which cores Paddle-Lite computes on, in the order of its own numbers."""

LIBRARY = "libpaddle_light_api_shared.so"
SHIM = "libedge_ocr_lite.so"
"""Ours, between Python and `LIBRARY`."""

INSTALLED = ".installed"
"""Folder of the bundle with what install.sh made."""

# Characters of an error that quotes a manifest.
_MAX_REASON = 200

_Settings = TypeVar("_Settings", DetectionSettings, RecognitionSettings, OrientationSettings)


@dataclass(frozen=True)
class Machine:
    """What decides which engine runs a bundle on a machine."""

    abi: str | None
    """As `find_abi`."""
    name: str
    """For people, where there is no ABI."""
    glibc: str | None
    """As `find_glibc`."""
    python: str
    """Its path."""
    has_onnxruntime: bool
    """Whether that Python does."""


@dataclass(frozen=True)
class DeviceBundle:
    """A bundle whose manifest was read; its files are checked as they are needed."""

    folder: Path
    manifest: Mapping[str, Any]
    detection: DetectionSettings
    recognition: RecognitionSettings
    orientation: OrientationSettings
    kinds: tuple[str, ...]
    """Of its models: det, rec and often cls."""
    trust: Trust | None = None
    """By what it is trusted; None where this machine trusts no key and takes every bundle."""
    release: Release | None = None
    """As what it is trusted."""

    @property
    def runtime_version(self) -> str:
        """Return the version of Paddle-Lite that the models are for, such as `v2.13-rc`."""
        return str(self.manifest["lite"]["runtime_version"])

    def find_model(self, kind: str, engine: str) -> Path:
        """Return the file of a model for `engine`, checked.

        Raises ModelError where it is missing or damaged.
        """
        section = "onnx" if engine == "onnxruntime" else "models"
        return self.check_file(str(self.manifest[section][kind]["file"]))

    def read_charset(self) -> Charset:
        """Return the classes of the recogniser.

        Raises ModelError where the dictionary is missing, damaged or does not fit.
        """
        from .charset import Charset

        path = self.check_file(str(self.manifest["charset"]["file"]))
        try:
            # Not as text: a line may be a carriage return.
            *lines, rest = path.read_bytes().decode("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise ModelError(f"{path} is not UTF-8: {error.reason}", _EXPORT_AGAIN) from None
        if rest:
            raise ModelError(f"{path}: its last line has no end", _EXPORT_AGAIN)
        classes = ("", *lines)
        expected = self.manifest["charset"]["classes"]
        if len(classes) != expected:
            raise ModelError(f"{path} makes {len(classes)} classes, expected {expected}", _EXPORT_AGAIN)
        return Charset(classes)

    def check_file(self, name: str) -> Path:
        """Return the path of a file of the bundle that is as the manifest says.

        Raises ModelError where it is missing or damaged.
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
        except (OSError, ValueError) as error:  # ValueError: a name that no file has
            raise ModelError(
                f"{path} cannot be read: {getattr(error, 'strerror', None) or error}", _COPY_AGAIN
            ) from None
        if sha256 != entry["sha256"]:
            raise ModelError(f"{path} is damaged: its sha256 is not the manifest's", _COPY_AGAIN)
        return path

    def check_files(self) -> int:
        """Check every file and return how many there are.

        Raises ModelError for the first that is missing or damaged.
        """
        for name in sorted(self.manifest["files"]):
            self.check_file(name)
        return len(self.manifest["files"])

    def explain_engines(self) -> dict[str, str | None]:
        """Return for each engine why it cannot run the bundle on this machine; None where it can."""
        abi = find_abi()
        reasons = explain_engines(
            self.manifest,
            Machine(
                abi,
                f"{platform.machine()} with a Python of {8 * struct.calcsize('P')} bits",
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
        """Return the engine to take: `wanted`, or for `auto` the first that runs here.

        Raises ToolchainError, with all reasons, where there is none.
        """
        reasons = self.explain_engines()
        if wanted != "auto":
            reasons = {wanted: reasons[wanted]}
        for engine, reason in reasons.items():
            if reason is None:
                return engine
        found = "; ".join(f"{engine}: {reason}" for engine, reason in reasons.items())
        raise ToolchainError(
            f"nothing runs {self.folder} here: {found}",
            "on the host, `edge-ocr export` with --lite-lib puts the library into a bundle, with --with-onnx graphs "
            "for ONNX Runtime; on the board, ./install.sh completes it",
        )

    def find_library(self, abi: str) -> Path:
        """Return Paddle-Lite's library for an ABI, checked.

        Raises ModelError where it is damaged or of another version.
        """
        path = self.check_file(str(self.manifest["lite"]["libraries"][abi]["file"]))
        # Loading a model of another version may abort, so nothing is loaded to find out. The version stands in the
        # library's bytes, at the end of a string.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(f"{self.runtime_version}\0".encode()) < 0:
                raise ModelError(
                    f"{path} is not Paddle-Lite {self.runtime_version}, which the models are for: it may read them "
                    "wrong without saying so",
                    "export the bundle again with the library of that version (edge-ocr libs fetch)",
                )
        return path

    def find_shim(self, abi: str) -> Path | None:
        """Return our library beside Paddle-Lite's: the one that came along, or that install.sh built, or None.

        Nobody signed what was built: where keys are trusted, it counts only in the bundle that this code lies in.
        """
        name = self.manifest["lite"]["libraries"][abi].get("shim")
        if name is not None:
            return self.check_file(str(name))
        built = self.folder / INSTALLED / "lib" / abi / SHIM
        is_own = self.folder.resolve() == Path(__file__).resolve().parents[2]
        return built if built.is_file() and (self.trust is None or is_own) else None

    def describe_trust(self) -> str | None:
        """Tell, for people, as what it is trusted; None where every bundle is."""
        if self.trust is None or self.release is None:
            return None
        said = f"release {self.release.name}, counter {self.release.counter}, by the keys in {self.trust.folder}"
        if not self.trust.is_writable:
            said += "; that cannot be written, so counters are not recorded and older releases are taken, too"
        return said

    def note_release(self) -> None:
        """Remember that this release works here, so that no older one is taken any more."""
        if self.trust is not None and self.release is not None:
            self.trust.note(self.release)


def explain_engines(manifest: Mapping[str, Any], machine: Machine) -> dict[str, str | None]:
    """Return for each engine why it cannot run a bundle on a machine; None where it can, once it is installed there."""
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
        return f"its Paddle-Lite is {found}, the models are for {version}"
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
    """Return the bundle that this very code lies in.

    Raises ModelError where it lies in none.
    """
    folder = Path(__file__).resolve().parents[2]
    if not (folder / MANIFEST).is_file():
        raise ModelError(f"{folder} is not a bundle: there is no {MANIFEST}", "name one with --bundle")
    return folder


def open_bundle(folder: Path, trust_folder: Path | None = None) -> DeviceBundle:
    """Read the manifest of the bundle in `folder`.

    Where the machine trusts keys (`edge_ocr.core.trust`), by `trust_folder` or the folder found without, the bundle
    must be signed with one of them and not be older than one that worked (`DeviceBundle.note_release`); every file is
    then checked.

    Raises ModelError where there is none for boards, or one that is damaged, not trusted or newer than this code;
    ToolchainError where signatures cannot be checked here.
    """
    path = folder / MANIFEST
    try:
        content = read_file(path, MAX_MANIFEST_BYTES)
    except OSError as error:
        raise ModelError(f"{folder} is not a bundle: {MANIFEST}: {error.strerror}") from None
    if len(content) > MAX_MANIFEST_BYTES:
        raise ModelError(f"{path} has over {MAX_MANIFEST_BYTES} bytes: not the manifest of a bundle", _COPY_AGAIN)
    trust_folder = trust_folder or find_trust_folder()
    if trust_folder is None:
        return _parse_manifest(folder, content)
    try:
        # Before anything is made of its content.
        trust = read_trust(trust_folder)
        release = trust.check(folder, content)
        bundle = _parse_manifest(folder, content)
        bundle.check_files()
        return replace(bundle, trust=trust, release=release)
    except UntrustedError as error:
        raise ModelError(
            f"{folder} is not trusted: {error}", f"keys and counters of this machine are in {trust_folder}"
        ) from None
    except NoOpenSslError as error:
        raise ToolchainError(
            f"{folder}: its signature cannot be checked: {error}", "sudo apt install libssl3"
        ) from None


def _parse_manifest(folder: Path, content: bytes) -> DeviceBundle:
    path = folder / MANIFEST
    try:
        manifest = json.loads(content)
    # RecursionError: of a file of nothing but brackets.
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is damaged: not JSON", _COPY_AGAIN) from None
    try:
        _check_shape(manifest, {"schema_version": int, "target": str}, "")
        if manifest["schema_version"] > SCHEMA_VERSION:
            raise ModelError(
                f"{path} has schema_version {manifest['schema_version']}, this runtime knows up to {SCHEMA_VERSION}",
                "use the runtime that lies in the bundle",
            )
        if manifest["schema_version"] < SCHEMA_VERSION:
            raise ModelError(
                f"{path} has schema_version {manifest['schema_version']}, this runtime reads {SCHEMA_VERSION}",
                "use the runtime that lies in the bundle, or export it again",
            )
        if manifest["target"] != "arm":
            raise ModelError(
                f"{folder} is a bundle for {manifest['target'][:_MAX_REASON]}, expected arm",
                "export one with --target arm",
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
        tuple(kind for kind in (name.rstrip("?") for name in _MODELS) if manifest["models"].get(kind)),
    )


def _check_values(manifest: Mapping[str, Any]) -> None:
    """Raise ValueError for what has the right type and makes no sense."""
    for name in manifest["files"]:
        if name.startswith("/") or ".." in name.split("/") or "\\" in name or "\0" in name:
            raise ValueError(f"the file {name!r} leads out of the bundle")
    version = manifest["lite"]["runtime_version"]
    if re.fullmatch(r"[\w.+-]{1,60}", version, re.ASCII) is None:
        raise ValueError(f"lite.runtime_version is {version!r}")
    for abi, library in manifest["lite"]["libraries"].items():
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})*", library.get("min_glibc") or "0", re.ASCII) is None:
            raise ValueError(f"lite.libraries.{abi}.min_glibc is {library['min_glibc']!r}")
    lacking = [kind for kind in manifest["models"] if kind not in (manifest.get("onnx") or manifest["models"])]
    if lacking:
        raise ValueError(f"onnx has no {', '.join(lacking)}")
    detection = manifest["settings"]["detection"]
    if detection["limit_type"] not in ("max", "min", "long"):
        raise ValueError(f"settings.detection.limit_type is {detection['limit_type']!r}")
    for name in ("mean", "std"):
        if len(detection[name]) != 3:
            raise ValueError(f"settings.detection.{name} has {len(detection[name])} numbers, expected 3")


def _read_settings(kind: type[_Settings], values: Mapping[str, Any]) -> _Settings:
    known: dict[str, Any] = {}
    for field in fields(kind):
        value = values[field.name]
        # JSON knows no tuples.
        known[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**known)


def _describe_settings(kind: type[Any]) -> dict[str, Any]:
    shapes: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "bool": bool}
    return {field.name: shapes.get(str(field.type), [(int, float)]) for field in fields(kind)}


_MODELS = {"det": {"file": str}, "rec": {"file": str}, "cls?": {"file": str}}
_LINE = {"polygon": [[(int, float)]], "det_score": (int, float), "text": str, "rec_score": (int, float)}

# What this package reads in a manifest. A key with a question mark may be missing, or null; an asterisk is any key.
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
    },
    "golden?": {"image": str, "lines": [_LINE]},
    "files": {"*": {"sha256": str, "size_bytes": int}},
}


def _check_shape(value: Any, shape: Any, place: str) -> None:
    """Raise TypeError, naming the place, where a value of a JSON file is not of `shape`."""
    kind: Any = type(shape) if isinstance(shape, (dict, list)) else shape
    if not isinstance(value, kind):
        raise TypeError(f"{place or 'the whole'} is {json.dumps(value, ensure_ascii=False)[:60]}")
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
    """Return which of Paddle-Lite's libraries this Python could load: `armv8`, `armv7hf`, or None for neither.

    It is Python's own ABI that counts: many boards have a 32-bit system on a 64-bit kernel.
    """
    multiarch = str(sysconfig.get_config_var("MULTIARCH") or "")
    return name_abi(platform.machine(), sys.maxsize > 2**32, multiarch)


def name_abi(machine: str, is_64_bit: bool, multiarch: str) -> str | None:
    """Return the ABI of a Python from what `platform`, `sys` and `sysconfig` say of it."""
    if is_64_bit:
        return "armv8" if machine.lower() in ("aarch64", "arm64") else None
    # Where floats are passed in other registers, Debian's name ends with gnueabi.
    is_soft = multiarch.endswith("gnueabi")
    return "armv7hf" if machine.lower() in ("armv7l", "armv8l", "aarch64", "arm64") and not is_soft else None


def find_glibc() -> str | None:
    """Return the version of glibc that this Python runs on, such as `2.36`; None for another C library."""
    library, version = platform.libc_ver()
    return version if library == "glibc" else None


def order_version(version: str) -> tuple[int, ...]:
    """Return a version of numbers and dots in a form that sorts: `2.36` gives (2, 36)."""
    return tuple(map(int, version.split(".")))


def describe_machine(bundle: DeviceBundle) -> dict[str, Any]:
    """Return, in plain values, what `edge-ocr-lite info` tells."""
    modules = ("numpy", "cv2", "pyclipper", "onnxruntime")
    return {
        "bundle": str(bundle.folder),
        "edge_ocr_version": bundle.manifest["edge_ocr_version"],
        "precision": bundle.manifest["precision"],
        "abi": find_abi(),
        "python": platform.python_version(),
        "glibc": find_glibc(),
        "modules": {name: find_spec(name) is not None for name in modules},
        "engines": bundle.explain_engines(),
        "trust": bundle.describe_trust(),
    }


def iterate_files(folder: Path) -> Iterator[Path]:
    """Yield what of this package goes into a bundle: its Python files, and the sources of the shim."""
    yield from sorted(folder.rglob("*.py"))
    yield from (folder / "engines" / "lite_shim" / name for name in ("edge_ocr_lite.cpp", "edge_ocr_lite.h"))
