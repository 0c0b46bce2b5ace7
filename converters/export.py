"""From models to a bundle; the only place that orders the steps."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from converters.bundle_writer import BundleWriter, FileEntry, check_out_dir, open_bundle
from converters.nb import normalise, parse_header
from converters.opt import run_opt
from converters.program import Port, Signature, read_signature
from converters.targets import Target, find_target
from converters.toolchain import OptToolchain, find_opt_interpreter
from edge_ocr import __version__
from edge_ocr.config import PipelineConfig
from edge_ocr.core.charset import BLANK_INDEX, Charset
from edge_ocr.errors import ConversionError, ModelError
from edge_ocr.models import Kind, Model, Progress, resolve_model

SCHEMA_VERSION = 1

Report = Callable[[str], None]

# What the output of each kind of network looks like; -1 stands for any size.
_OUTPUTS: Mapping[Kind, tuple[int, ...]] = MappingProxyType(
    {"det": (-1, 1, -1, -1), "rec": (-1, -1, -1), "cls": (-1, 2)}
)


@dataclass(frozen=True)
class ExportedModel:
    """How one model came into the bundle."""

    kind: Kind
    name: str
    source_sha256: Mapping[str, str]
    """By name of the source file."""
    source_size_bytes: int
    """Program and parameters together."""
    size_bytes: int
    """Of the .nb."""
    seconds: float


@dataclass(frozen=True)
class ExportReport:
    """What an export made."""

    out_dir: Path
    target: str
    opt_version: str
    models: tuple[ExportedModel, ...]


@dataclass(frozen=True)
class _Source:
    """A model that was looked at and can be converted."""

    model: Model
    params: Path
    signature: Signature
    files: Mapping[str, FileEntry]


def export_bundle(
    target: str,
    out_dir: Path,
    config: PipelineConfig,
    *,
    force: bool = False,
    report: Report = lambda step: None,
    progress: Progress | None = None,
) -> ExportReport:
    """Convert the models of `config` for `target` and write them as a bundle to `out_dir`.

    The classifier goes along where `config.use_orientation` is set. `report` is told each step, `progress` of
    downloads. Two exports of the same files with the same opt give the same bytes.

    Raises UsageError for an unknown target or an `out_dir` that is taken, ModelError for models that are missing,
    damaged or do not fit, ToolchainError where opt cannot be had, ConversionError where opt does not take a model.
    """
    chosen = find_target(target)
    check_out_dir(out_dir, force=force)
    sources = _read_sources(config, report, progress)
    charset = _fit_charset(sources)
    report("looking for an interpreter that runs opt")
    toolchain = find_opt_interpreter(report=report)
    report(f"opt {toolchain.opt_version} on Python {toolchain.python_version} ({toolchain.origin})")

    exported: list[ExportedModel] = []
    entries: dict[str, Any] = {}
    with open_bundle(out_dir, force=force) as bundle:
        for source in sources:
            started = time.perf_counter()
            report(f"{source.model.kind}: converting {source.model.name}")
            nb = _convert(source, chosen, toolchain)
            file = f"models/{source.model.kind}.nb"
            entry = bundle.add(file, nb)
            entries[source.model.kind] = _describe_model(source, file, entry)
            exported.append(_summarise(source, entry, time.perf_counter() - started))
        report("writing the bundle")
        _write_rest(bundle, chosen, toolchain, config, sources, charset, entries)
    return ExportReport(out_dir, chosen.name, toolchain.opt_version, tuple(exported))


def _read_sources(config: PipelineConfig, report: Report, progress: Progress | None) -> tuple[_Source, ...]:
    wanted: list[tuple[Kind, str]] = [("det", config.det_model), ("rec", config.rec_model)]
    if config.use_orientation:
        wanted.append(("cls", config.cls_model))
    sources = []
    for kind, name in wanted:
        dictionary_path = config.dictionary_path if kind == "rec" else None
        model = resolve_model(name, kind, dictionary_path=dictionary_path, progress=progress)
        report(f"{kind}: {model.name} ({model.source})")
        sources.append(_read_source(model))
    return tuple(sources)


def _read_source(model: Model) -> _Source:
    if model.format == "json":
        raise ConversionError(
            f"{model.name} is in Paddle's PIR format ({model.program}); opt reads .pdmodel only",
            "export it again as .pdmodel: with PaddleOCR `python tools/export_model.py -c CONFIG "
            "-o Global.export_with_pir=False`, with PaddleX FLAGS_json_format_model=0, with plain Paddle "
            "FLAGS_enable_pir_api=0 in the environment",
        )
    if model.format != "pdmodel" or model.params is None:
        raise ConversionError(
            f"{model.name} is in {model.format.upper()} format ({model.program}); opt reads .pdmodel only",
            "give the folder of the Paddle model it was made from, with inference.pdmodel and inference.pdiparams",
        )
    signature = read_signature(model.program)
    _check_kind(model, signature)
    return _Source(model, model.params, signature, {path.name: _hash(path) for path in (model.program, model.params)})


def _check_kind(model: Model, signature: Signature) -> None:
    expected = _OUTPUTS[model.kind]
    shape = signature.outputs[0].shape
    fits = len(shape) == len(expected) and all(
        want in (-1, side) or side == -1 for want, side in zip(expected, shape, strict=True)
    )
    if not fits:
        raise ModelError(
            f"{model.name} is not a {model.kind} model: its output is {list(shape)}, expected {list(expected)} "
            "(-1: any size)",
            "are detection and recognition models exchanged?",
        )


def _hash(path: Path) -> FileEntry:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    return FileEntry(hashlib.sha256(data).hexdigest(), len(data))


def _fit_charset(sources: tuple[_Source, ...]) -> Charset:
    source = next(source for source in sources if source.model.kind == "rec")
    model = source.model
    if model.dictionary is None:
        raise ModelError(f"{model.name} has no dictionary", "set Recognition.character_dict_path")
    class_count = source.signature.outputs[0].shape[-1]
    if class_count < 0:
        raise ModelError(
            f"{model.program}: the number of classes is left open, so the dictionary cannot be checked",
            "export the model again with a fixed number of classes",
        )
    charset = Charset.fit(model.dictionary, class_count, model.name)
    broken = [text for text in charset.classes if "\n" in text or "\r" in text]
    if broken:
        raise ModelError(
            f"the dictionary of {model.name} has {broken[0]!r}, but dict.txt holds one character a line",
            "give the dictionary that the model was trained with (Recognition.character_dict_path)",
        )
    return charset


def _convert(source: _Source, target: Target, toolchain: OptToolchain) -> bytes:
    model = source.model
    with tempfile.TemporaryDirectory(prefix="edge-ocr-") as scratch:
        written = run_opt(
            toolchain.python,
            model.program,
            source.params,
            Path(scratch, model.kind),
            valid_places=target.valid_places,
        )
        data = written.read_bytes()
    try:
        header = parse_header(data, written.name)
    except ModelError as error:
        raise ConversionError(f"opt wrote a bad file from {model.program}: {error.message}") from None
    if header.opt_version != toolchain.opt_version:
        raise ConversionError(
            f"opt calls itself {toolchain.opt_version}, but wrote {header.opt_version} into {written.name}"
        )
    return normalise(data, written.name)


def _summarise(source: _Source, entry: FileEntry, seconds: float) -> ExportedModel:
    return ExportedModel(
        kind=source.model.kind,
        name=source.model.name,
        source_sha256={name: file.sha256 for name, file in source.files.items()},
        source_size_bytes=sum(file.size_bytes for file in source.files.values()),
        size_bytes=entry.size_bytes,
        seconds=seconds,
    )


def _write_rest(
    bundle: BundleWriter,
    target: Target,
    toolchain: OptToolchain,
    config: PipelineConfig,
    sources: tuple[_Source, ...],
    charset: Charset,
    models: Mapping[str, Any],
) -> None:
    # The space that a model may have behind its dictionary gets its line: a device needs no rule for it.
    characters = charset.classes[1:]
    dictionary = bundle.add("dict.txt", "".join(f"{text}\n" for text in characters).encode())
    pipeline = yaml.safe_dump(_describe_pipeline(config, sources), sort_keys=False, allow_unicode=True)
    bundle.add("pipeline.yaml", pipeline.encode())
    bundle.add_manifest(
        {
            "schema_version": SCHEMA_VERSION,
            "edge_ocr_version": __version__,
            "target": target.name,
            "lite": {
                "wheel_version": toolchain.wheel_version,
                "opt_version": toolchain.opt_version,
                # A runtime of another version reads the files silently wrong or aborts.
                "runtime_version": toolchain.opt_version,
            },
            "charset": {
                "file": "dict.txt",
                "sha256": dictionary.sha256,
                "characters": len(characters),
                "classes": len(charset.classes),
                "blank_index": BLANK_INDEX,
            },
            "models": models,
        }
    )


def _describe_model(source: _Source, file: str, entry: FileEntry) -> dict[str, Any]:
    return {
        "file": file,
        **asdict(entry),
        "source": {
            "name": source.model.name,
            "files": {name: asdict(of_file) for name, of_file in source.files.items()},
        },
        "input": {
            **_describe_port(source.signature.inputs[0]),
            "layout": "NCHW",
            "channel_order": "BGR",
        },
        "output": _describe_port(source.signature.outputs[0]),
    }


def _describe_port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "shape": list(port.shape), "dtype": port.dtype}


def _describe_pipeline(config: PipelineConfig, sources: tuple[_Source, ...]) -> dict[str, dict[str, Any]]:
    """Return the settings in force for these models, with names where the user's file has folders of this machine."""
    for source in sources:
        config = config.with_model_settings(source.model.settings, f"inference.yml of {source.model.name}")
    nested = config.dump()
    names = {source.model.kind: source.model.name for source in sources}
    nested["Pipeline"]["text_det_model"] = names["det"]
    nested["Pipeline"]["text_rec_model"] = names["rec"]
    # Without the classifier the key still stands there, and may still hold a folder.
    unused = Path(nested["Pipeline"]["text_line_orientation_model"]).name
    nested["Pipeline"]["text_line_orientation_model"] = names.get("cls", unused)
    # The bundle's own dict.txt holds it.
    nested["Recognition"]["character_dict_path"] = None
    return nested
