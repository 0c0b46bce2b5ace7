"""Reads a bundle and checks that it is complete and consistent; each fault is a failed check, not an error."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast, get_args

import jsonschema
from jsonschema.exceptions import ValidationError

from converters.bundle.android.record import locate_bundle
from converters.bundle.manifest import SBOM, describe_settings, list_hashes, read_schema
from converters.bundle.ownership import find_manifest_sha256
from converters.bundle.targets import TARGETS
from converters.lite.nb.read import NbModel, NbVar, read_nb
from converters.lite.nb.rounded import Precision
from converters.report import Check
from converters.signing import read_trusted_key
from converters.text import clean_text
from edge_ocr import __version__
from edge_ocr.config import PipelineConfig, load_config
from edge_ocr.core.bundle import INSTALLED, MANIFEST, SCHEMA_VERSION, SIGNATURE
from edge_ocr.core.charset import Charset
from edge_ocr.core.constants import list_constants
from edge_ocr.core.files import hash_stream
from edge_ocr.core.trust import (
    NoOpenSslError,
    UntrustedError,
    check_manifest,
    describe_strangers,
    list_strangers,
    name_key,
    read_signature,
)
from edge_ocr.errors import ConfigError, EdgeOcrError, ModelError, NotVerifiedError
from edge_ocr.models.types import Kind

# Exports write 40 KB.
_MAX_MANIFEST_BYTES = 16 * 2**20
# For dictionary, settings and SBOM; exports write at most 50 KB.
_MAX_TEXT_BYTES = 16 * 2**20

# A file of another precision differs in every layer.
_MAX_PROBLEMS = 3


@dataclass(frozen=True)
class Bundle:
    """A bundle that passed all checks."""

    folder: Path
    project: Path | None
    """For Android, the folder of the project around it; None if unknown."""
    manifest: Mapping[str, Any]
    """Valid according to its schema."""
    config: PipelineConfig
    """The settings in pipeline.yaml."""
    charset: Charset
    models: Mapping[Kind, NbModel]
    notes: tuple[str, ...]
    """Remarks that are not faults."""

    @property
    def precision(self) -> Precision:
        """Return the precision of the weights."""
        return cast(Precision, self.manifest["precision"])

    @property
    def computing(self) -> tuple[Kind, ...]:
        """Return the models that have layers which compute in int8."""
        return tuple(
            kind
            for kind, nb in self.models.items()
            if any(op.attrs.get("enable_int8") is True for op in nb.blocks[0].ops)
        )

    def find_model(self, kind: Kind) -> Path:
        """Return the path of the .nb of a kind of model; the bundle must have one."""
        return self.folder / str(self.manifest["models"][kind]["file"])


@dataclass(frozen=True)
class Inspection:
    """The result of checking a bundle."""

    checks: tuple[Check, ...]
    bundle: Bundle | None
    """None if a check failed."""
    manifest: Mapping[str, Any]
    """Empty if it is damaged."""


def inspect_bundle(folder: Path, trusted: Path | None = None, *, is_fresh: bool = True) -> Inspection:
    """Check manifest, files, dictionary and models of the bundle in `folder`, without running a model.

    `folder` may be an Android project, whose libraries are then checked, too. `trusted` is the file of a public key
    that must have signed the manifest. With it, files that the manifest does not list are faults, unless `is_fresh` is
    false.

    Raises ModelError if there is no bundle, NotVerifiedError for a manifest newer than this edge-ocr.
    """
    whole, folder = folder, locate_bundle(folder)
    project = whole if folder != whole else None
    content = _read_manifest(folder)
    signed = None if trusted is None else _check_signature(folder, content, trusted)
    if signed is not None and not signed.passed:
        # Read nothing that an attacker may have written.
        return Inspection((signed,), None, {})
    try:
        manifest = json.loads(content)
    # RecursionError: a file full of brackets.
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "too deep"
        return _fail_early("manifest", f"{MANIFEST} is not JSON: {reason}")
    if not isinstance(manifest, dict):
        return _fail_early("manifest", f"{MANIFEST} is not a JSON object")
    version = manifest.get("schema_version")
    if isinstance(version, int) and version > 0 and version != SCHEMA_VERSION:
        made_by = manifest.get("edge_ocr_version", "another version")
        raise NotVerifiedError(
            f"{folder / MANIFEST} has schema_version {version}, expected {SCHEMA_VERSION} (edge-ocr {__version__})",
            f"verify it with the edge-ocr that made it ({made_by}), or export it again",
        )
    problems = list(_list_schema_problems(manifest))
    if problems:
        return _fail_early("manifest", "; ".join(problems), manifest)
    checks = [] if signed is None else [signed]
    checks.append(Check("files", "manifest", True, f"schema_version {version}, valid"))
    files = list(_check_files(folder, manifest))
    checks += files
    if not all(check.passed for check in files):
        return Inspection(tuple(checks), None, manifest)
    if project is not None:
        checks += _check_libraries(project, manifest)
    for name, file, sha256 in _list_mentions(manifest):
        entry = manifest["files"].get(file)
        known = entry is not None and sha256 in (entry["sha256"], None)
        found = "matches the list of files" if known else "is not in the list of files with this sha256"
        checks.append(Check("files", name, known, f"{file} {found}"))
    constants = manifest["constants"] == list_constants()
    made_by = f"made by edge-ocr {manifest['edge_ocr_version']}, this is {__version__}"
    text = "match this edge-ocr" if constants else f"differ from those of this edge-ocr ({made_by})"
    checks.append(Check("files", "constants", constants, f"constants {text}"))
    checks += _check_sbom(folder, manifest)
    config, check = _read_config(folder, manifest)
    checks.append(check)
    charset, check = _read_charset(folder, manifest)
    checks.append(check)
    models: dict[Kind, NbModel] = {}
    for kind in get_args(Kind):
        if kind in manifest["models"]:
            model, problems = _read_model(folder, kind, manifest)
            detail = "; ".join(problems) or f"{manifest['models'][kind]['file']} matches the manifest"
            checks.append(Check("models", kind, not problems, detail))
            if model is not None:
                models[kind] = model
                checks += _check_graph(folder, kind, model, manifest)
    if config is not None:
        for kind, name, is_used in (
            ("cls", "orientation", config.use_orientation),
            ("page", "page_orientation", config.use_page_orientation),
        ):
            has = kind in manifest["models"]
            found = f"classifier {'on' if is_used else 'off'} in pipeline.yaml, "
            found += f"{'present' if has else 'absent'} in the bundle"
            checks.append(Check("models", name, has == is_used, found))
    notes = []
    if trusted is None or not is_fresh:
        notes += [f"{clean_text(name)} is not in the manifest" for name in sorted(_list_strangers(folder, manifest))]
        if not find_manifest_sha256(content):
            notes.append(f"{MANIFEST} was edited after the export")
        if trusted is None and (folder / SIGNATURE).is_file():
            notes.append("the bundle is signed; check by whom with --trusted KEY.pub")
    else:
        checks.append(_check_strangers(folder, manifest))
    if project is None and any(file for file, _ in _list_around(manifest)):
        notes.append("its Paddle-Lite libraries were not checked: give the folder of the project around it")
    bundle = None
    if config is not None and charset is not None and all(check.passed for check in checks):
        bundle = Bundle(folder, project, manifest, config, charset, models, tuple(notes))
    return Inspection(tuple(checks), bundle, manifest)


def _fail_early(name: str, detail: str, manifest: Mapping[str, Any] | None = None) -> Inspection:
    return Inspection((Check("files", name, False, detail),), None, manifest or {})


def read_choices(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return, by file name of the model and name of the weights, what the manifest in `folder` says of each layer.

    For display, and unchecked: empty if the manifest is missing or lists no layers.
    """
    try:
        manifest = json.loads(_read_manifest(folder))
        layers = manifest["quantisation"]["layers"]
        return {
            Path(manifest["models"][kind]["file"]).name: {entry["layer"]: entry for entry in entries}
            for kind, entries in layers.items()
        }
    except (EdgeOcrError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return {}


def _read_manifest(folder: Path) -> bytes:
    path = folder / MANIFEST
    hint = "give the folder that edge-ocr export made"
    try:
        with _open_file(path) as file:
            content = file.read(_MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        missing = f"there is no {MANIFEST}" if folder.is_dir() else "there is no such folder"
        raise ModelError(f"{folder} is not a bundle: {missing}", hint) from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", hint) from None
    if len(content) > _MAX_MANIFEST_BYTES:
        raise ModelError(f"{path} is not the manifest of a bundle: over {_MAX_MANIFEST_BYTES} bytes", hint)
    return content


def _open_file(path: Path) -> BinaryIO:
    """Open a regular file; refuse anything else, because reading from a pipe may never end."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115 (the caller closes it)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a file")
    return file


def _list_schema_problems(manifest: Mapping[str, Any]) -> Iterator[str]:
    found = jsonschema.Draft202012Validator(read_schema()).iter_errors(manifest)
    # The first five are enough.
    for _, error in zip(range(5), found, strict=False):
        yield _describe_problem(error)


def _describe_problem(error: ValidationError) -> str:
    place = ".".join(map(str, error.absolute_path)) or "manifest.json"
    return f"{place}: {error.message[:200]}"


def _check_files(folder: Path, manifest: Mapping[str, Any]) -> Iterator[Check]:
    """Yield a check for each file that differs from the manifest, or one for all if none does."""
    root, faults = folder.resolve(), 0
    for name in sorted(manifest["files"]):
        problem = _find_fault(root, name, manifest["files"])
        if problem:
            faults += 1
            yield Check("files", name, False, problem)
    if not faults:
        yield Check("files", "sha256", True, f"{len(manifest['files'])} files match the manifest")


def _find_fault(root: Path, name: str, files: Mapping[str, Mapping[str, Any]]) -> str:
    entry = files[name]
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            return "points outside the bundle"
        with _open_file(path) as file:
            size_bytes = os.fstat(file.fileno()).st_size
            twins = {other["sha256"]: name for name, other in files.items() if other["size_bytes"] == size_bytes}
            if not twins:
                return f"{size_bytes} bytes, expected {entry['size_bytes']}"
            actual = hash_stream(file)
    # Names that no file has, and links that lead in circles.
    except (OSError, ValueError, RuntimeError) as error:
        return f"cannot be read: {(isinstance(error, OSError) and error.strerror) or error}"
    if actual != entry["sha256"]:
        twin = twins.get(actual)
        if twin is not None:
            return f"has the content of {twin}"
        if size_bytes != entry["size_bytes"]:
            return f"{size_bytes} bytes, expected {entry['size_bytes']}"
        return f"sha256 {actual}, expected {entry['sha256']}"
    return ""


def _list_mentions(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str, str | None]]:
    """Yield each file that the manifest mentions outside `files`: what it is, its path, and its sha256 if given."""
    in_bundle = not TARGETS[manifest["target"]].bundle_folder
    for abi, library in sorted(manifest["lite"]["libraries"].items()):
        if in_bundle and library["file"] is not None:
            yield f"library for {abi}", library["file"], library["sha256"]
            if library.get("shim") is not None:
                yield f"shim for {abi}", library["shim"], None
    for kind, graph in sorted((manifest["onnx"] or {}).items()):
        yield f"graph of {kind}", graph["file"], graph["sha256"]
    if manifest["golden"] is not None:
        yield "golden picture", manifest["golden"]["image"], None


def _list_around(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield path and sha256 of each file in the project around the bundle that the manifest names."""
    if not TARGETS[manifest["target"]].bundle_folder:
        return
    for library in manifest["lite"]["libraries"].values():
        if library["file"] is not None:
            yield library["file"], library["sha256"]
            yield from library.get("companions", {}).items()


def _check_libraries(project: Path, manifest: Mapping[str, Any]) -> Iterator[Check]:
    root = project.resolve()
    for name, sha256 in sorted(set(_list_around(manifest))):
        try:
            path = (root / name).resolve()
            if not path.is_relative_to(root):
                found, detail = False, "points outside the project"
            else:
                with _open_file(path) as file:
                    actual = hash_stream(file)
                found = actual == sha256
                detail = f"{name} matches the manifest" if found else f"sha256 {actual}, expected {sha256}"
        # Names that no file has, and links that lead in circles.
        except (OSError, ValueError, RuntimeError) as error:
            found, detail = False, f"cannot be read: {(isinstance(error, OSError) and error.strerror) or error}"
        yield Check("files", name, found, detail)


def _check_graph(folder: Path, kind: Kind, model: NbModel, manifest: Mapping[str, Any]) -> Iterator[Check]:
    """Yield whether the ONNX file of a model equals its graph to the byte; nothing if the bundle has no ONNX files."""
    graph = (manifest["onnx"] or {}).get(kind)
    if graph is None:
        return
    from converters.lite.nb.to_onnx import serialise_graph

    try:
        same = (folder / graph["file"]).read_bytes() == serialise_graph(model, f"{kind}.nb")
        detail = f"{graph['file']} {'matches' if same else 'differs from'} the graph of models/{kind}.nb"
    except (EdgeOcrError, OSError) as error:
        same, detail = False, f"{graph['file']} cannot be compared: {error}"
    yield Check("models", f"{kind} as ONNX", same, detail)


def _check_sbom(folder: Path, manifest: Mapping[str, Any]) -> Iterator[Check]:
    """Yield whether the SBOM has the same hashes as the manifest; nothing if the bundle has no SBOM."""
    if SBOM not in manifest["files"]:
        return
    problem = _is_too_large(SBOM, manifest)
    expected, found = list_hashes(manifest), dict[str, Any]()
    if not problem:
        try:
            pending: list[Any] = [json.loads((folder / SBOM).read_bytes())]
            while pending:
                part = pending.pop()
                if isinstance(part, dict) and "hashes" in part:
                    found[str(part.get("bom-ref"))] = [entry["content"] for entry in part["hashes"]]
                if isinstance(part, (dict, list)):
                    pending += part.values() if isinstance(part, dict) else part
        # RecursionError: a file full of brackets.
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            problem = f"{SBOM} is not an SBOM: {error!r}"
    if not problem:
        other = sorted(name for name in expected.keys() | found if found.get(name) != [expected.get(name)])
        problem = f"{SBOM} and the manifest differ in the sha256 of {', '.join(other[:5])}" if other else ""
    yield Check("files", "SBOM", not problem, clean_text(problem) or f"{len(found)} hashes match the manifest")


def _list_strangers(folder: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        # Skip what a board creates when the bundle is used.
        if name.startswith(f"{INSTALLED}/") or "__pycache__" in name:
            continue
        if path.is_file() and name not in manifest["files"] and name not in (MANIFEST, SIGNATURE):
            yield name


def _check_signature(folder: Path, manifest: bytes, trusted: Path) -> Check:
    key = read_trusted_key(trusted)
    try:
        release = check_manifest(manifest, read_signature(folder), [key], {})
    except UntrustedError as error:
        return Check("signature", "manifest", False, str(error))
    except NoOpenSslError as error:
        raise NotVerifiedError(f"signatures cannot be checked here: {error}", "pip install cryptography") from None
    return Check(
        "signature", "manifest", True, f"by key {name_key(key)}: release {release.name}, counter {release.counter}"
    )


def _check_strangers(folder: Path, manifest: Mapping[str, Any]) -> Check:
    try:
        found = sorted(map(clean_text, list_strangers(folder, manifest["files"])))
    except OSError as error:
        return Check("signature", "files", False, f"{error.filename} cannot be read: {error.strerror}")
    return Check("signature", "files", not found, describe_strangers(found) if found else "every file is signed")


def _is_too_large(name: str, manifest: Mapping[str, Any]) -> str:
    """Return why a file is too large to be read at once; "" if it is not. Its size was checked against the manifest."""
    size_bytes = manifest["files"][name]["size_bytes"]
    return f"{name} has {size_bytes} bytes, expected at most {_MAX_TEXT_BYTES}" if size_bytes > _MAX_TEXT_BYTES else ""


def _read_config(folder: Path, manifest: Mapping[str, Any]) -> tuple[PipelineConfig | None, Check]:
    problem = _is_too_large("pipeline.yaml", manifest)
    if problem:
        return None, Check("files", "pipeline.yaml", False, problem)
    try:
        config = load_config(folder / "pipeline.yaml")
    except ConfigError as error:
        return None, Check("files", "pipeline.yaml", False, error.message)
    if describe_settings(config) != manifest["settings"]:
        detail = "its values differ from `settings` in the manifest"
        return None, Check("files", "pipeline.yaml", False, detail)
    return config, Check("files", "pipeline.yaml", True, "all keys are known and in range, and match the manifest")


def _read_charset(folder: Path, manifest: Mapping[str, Any]) -> tuple[Charset | None, Check]:
    entry = manifest["charset"]
    problem = _is_too_large(entry["file"], manifest)
    if problem:
        return None, Check("dictionary", "classes", False, problem)
    content = (folder / entry["file"]).read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        return None, Check("dictionary", "classes", False, f"{entry['file']} is not UTF-8: {error.reason}")
    lines = text.split("\n")
    ended = lines.pop() == ""
    problems = []
    if not ended:
        problems.append("its last line lacks a line break")
    if len(lines) != entry["classes"] - 1:
        problems.append(f"{len(lines)} lines, expected {entry['classes'] - 1} for {entry['classes']} classes")
    if entry["characters"] != entry["classes"] - 1:
        problems.append(f"the manifest has {entry['characters']} characters for {entry['classes']} classes")
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        problems.append("its sha256 differs from `charset` in the manifest")
    if problems:
        return None, Check("dictionary", "classes", False, f"{entry['file']}: " + "; ".join(problems))
    detail = f"{len(lines)} characters and the blank, {entry['classes']} classes"
    return Charset(("", *lines)), Check("dictionary", "classes", True, detail)


def _read_model(folder: Path, kind: Kind, manifest: Mapping[str, Any]) -> tuple[NbModel | None, list[str]]:
    """Return a model (None if unreadable) and where it differs from the manifest."""
    entry = manifest["models"][kind]
    if entry["file"] not in manifest["files"]:
        return None, [f"{entry['file']} is not in the list of files"]
    try:
        model = read_nb(folder / entry["file"])
    except ModelError as error:
        return None, [error.message]
    problems = []
    for key in ("sha256", "size_bytes"):
        if entry[key] != manifest["files"][entry["file"]][key]:
            problems.append(f"its {key} differs between `models` and `files`")
    if model.header.opt_version != manifest["lite"]["opt_version"]:
        problems.append(f"written by opt {model.header.opt_version}, expected {manifest['lite']['opt_version']}")
    for side, ports in (("input", model.inputs), ("output", model.outputs)):
        found, expected = [_describe_port(port) for port in ports], entry[side]
        # Fused ops may rename the output tensor; shape and type must match.
        if [port[1:] for port in found] != [(tuple(expected["shape"]), expected["dtype"])]:
            shapes = ", ".join(f"{dtype} {list(shape or ())}" for _, shape, dtype in found)
            problems.append(f"its {side} is {shapes or 'nothing'}, expected {expected['dtype']} {expected['shape']}")
    classes = manifest["charset"]["classes"]
    if kind == "rec" and model.outputs and (model.outputs[0].shape or (0,))[-1] != classes:
        problems.append(f"its output does not have the {classes} classes of the dictionary")
    if dict(model.op_histogram()) != entry["ops"]:
        problems.append("its ops differ from the manifest")
    return model, problems + _list_precision_problems(model, kind, manifest)


def _list_precision_problems(model: NbModel, kind: Kind, manifest: Mapping[str, Any]) -> list[str]:
    """Return where the weights of a model are not stored, or computed with, as the manifest says."""
    precision, chosen, problems = manifest["precision"], manifest.get("quantisation"), []
    if chosen is None or precision == "fp32":
        # Bundles of fp32, and those that edge-ocr made before it chose layer by layer.
        widths = {op.quantisation.bits for op in model.blocks[0].ops if op.quantisation is not None}
        wanted_widths: set[int] | None = {"fp32": set[int](), "int16": {16}, "int8": {8}}.get(precision)
        return [f"its weights have {sorted(widths) or 'no'} bits, expected {precision}"] * (widths != wanted_widths)
    listed = {one["layer"]: one for one in chosen["layers"].get(kind, ())}
    for op in model.blocks[0].ops:
        bits = 8 if op.attrs.get("enable_int8") is True else None if op.quantisation is None else op.quantisation.bits
        names = [name for slot in ("Filter", "W") for name in op.inputs.get(slot, ())]
        layer = next((listed.pop(name) for name in names if name in listed), None)
        if layer is None:
            # Other ops than these are not rounded.
            if bits is not None and op.type in ("conv2d", "fc", "depthwise_conv2d"):
                problems.append(f"the weights of {names or op.type} have {bits} bits, expected floats")
            continue
        wanted = {"fp32": None, "int16": 16, "int8": 8}[layer["weights"]]
        if bits != wanted:
            problems.append(f"the weights of {layer['layer']} have {bits or 32} bits, expected {wanted or 32}")
        if (op.attrs.get("enable_int8") is True) != (layer["compute"] == "int8"):
            problems.append(f"{layer['layer']} computes in another type than {layer['compute']}, as the manifest says")
        scale, absmax = op.attrs.get("Input0_scale"), layer.get("input_absmax")
        known = scale[0] if isinstance(scale, tuple) and scale else scale
        if absmax is not None and not (isinstance(known, float) and abs(known * 127 / absmax - 1) < 1e-3):
            problems.append(f"{layer['layer']} takes inputs up to {known} × 127, expected {absmax:g}")
        if precision in ("int16", "int8") and layer["weights"] != precision:
            problems.append(f"{layer['layer']} is stored as {layer['weights']}, expected {precision}")
    problems += [f"no op has the weights {name}, which the manifest lists" for name in listed]
    return problems[:_MAX_PROBLEMS]


def _describe_port(port: NbVar) -> tuple[str, tuple[int, ...] | None, str | None]:
    return port.name, port.shape, port.dtype
