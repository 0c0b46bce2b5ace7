"""The content of a bundle except its manifest: models, dictionary, settings, libraries, runtime and README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from converters.bundle.android.project import add_project
from converters.bundle.board.files import add_runtime
from converters.bundle.contents import BundleContents
from converters.bundle.readme import LICENSES, write_readme
from converters.bundle.targets import Target
from converters.bundle.writer import BundleWriter
from converters.graph.charsets import list_lacking, select_classes
from converters.lite.libraries.library import RuntimeLibrary
from converters.lite.libraries.store import add_library, find_library
from converters.lite.nb.to_onnx import serialise_graph
from converters.plan import ExportedModel, ExportOptions, SourceModel
from converters.text import Report
from edge_ocr.config import PipelineConfig
from edge_ocr.core.charset import Charset
from edge_ocr.errors import ModelError
from edge_ocr.models.kinds import fit_charset
from edge_ocr.models.resolve import apply_model, check_width
from edge_ocr.models.types import Kind


def choose_charset(
    sources: tuple[SourceModel, ...], selection: str, report: Report
) -> tuple[Charset, tuple[int, ...] | None]:
    """Return the charset of the bundle, and the classes of the recogniser that it keeps; None for all.

    Raises ModelError if the recogniser does not fit its dictionary or lacks a selected character, UsageError if
    `selection` is unknown.
    """
    source = next(source for source in sources if source.model.kind == "rec")
    check_width(source.model)
    charset = _fit_charset(source)
    kept = select_classes(selection, charset, source.model.name)
    lacking = list_lacking(selection, charset)
    if lacking:
        report(f"WARNING: {source.model.name} cannot read {' '.join(lacking)}")
    if kept is None:
        return charset, None
    report(f"charset: {len(kept) - 1} characters of {selection}")
    return Charset(tuple(charset.classes[i] for i in kept)), kept


def _fit_charset(source: SourceModel) -> Charset:
    model = source.model
    class_count = source.signature.outputs[0].shape[-1]
    if class_count < 0:
        raise ModelError(
            f"{model.program}: the number of classes is not fixed, so the dictionary cannot be checked",
            "export the model again with a fixed number of classes",
        )
    charset = fit_charset(model, class_count)
    broken = [text for text in charset.classes if "\n" in text or "\r" in text]
    if broken:
        raise ModelError(
            f"the dictionary of {model.name} contains {broken[0]!r}, but dict.txt holds one character per line",
            "set Recognition.character_dict_path to the dictionary that the model was trained with",
        )
    return charset


def choose_libraries(
    target: Target, abis: Sequence[str], version: str, options: ExportOptions, report: Report
) -> dict[str, RuntimeLibrary | None]:
    """Return the Paddle-Lite library for each of its ABIs from the store on this machine; None if it has none.

    Adds `options.lite_lib`, if given, to the store first.

    Raises ModelError if a library is damaged or its version does not match.
    """
    abis = [abi for abi in abis if abi in target.platforms]
    if options.lite_lib is not None:
        added = add_library(
            options.lite_lib,
            among=[target.platforms[abi] for abi in abis],
            version=version,
            allow_version_mismatch=options.allow_version_mismatch,
            force=True,
        )
        report(f"library for {added.platform}: {options.lite_lib}, added to the store")
    libraries = {abi: find_library(target.platforms[abi], version) for abi in abis}
    for abi, library in libraries.items():
        fetch = f"edge-ocr libs fetch --platform {target.platforms[abi]} --version {version}"
        if library is None:
            report(f"no Paddle-Lite {version} library for {abi}: {fetch}")
            continue
        if not library.version_matches and not options.allow_version_mismatch:
            raise ModelError(
                f"the library for {abi} is {library.actual_version or 'of unknown version'}, expected {version}: "
                "a mismatched runtime may silently return wrong text",
                f"run {fetch} --force, or accept this library with --allow-version-mismatch",
            )
        for concern in library.concerns:
            report(f"WARNING: {abi}: {concern}")
        if target.name == "android" and library.jni_library is None:
            libraries[abi] = None
    return libraries


def settle_config(config: PipelineConfig, sources: tuple[SourceModel, ...]) -> PipelineConfig:
    """Return the settings that apply to these models."""
    for source in sources:
        config = apply_model(config, source.model)
    if config.origins["Pipeline.text_rec_batch_size"] == "default":
        # One line at a time takes the least memory.
        config = config.with_values({"Pipeline.text_rec_batch_size": 1}, "export")
    return config


def write_content(bundle: BundleWriter, contents: BundleContents) -> None:
    """Add everything except the shims, the golden picture, the SBOM and the manifest."""
    for model in contents.models:
        bundle.add(f"models/{model.source.model.kind}.nb", model.data)
    # The space class, if the model has one, gets its own line, so that devices need no rule for it.
    bundle.add("dict.txt", "".join(f"{text}\n" for text in contents.charset.classes[1:]).encode())
    if contents.options.with_onnx:
        for model in contents.models:
            kind = model.source.model.kind
            bundle.add(f"onnx/{kind}.onnx", serialise_graph(model.nb, f"{kind}.nb"))
    settings = _describe_pipeline(contents.config, contents.models)
    bundle.add("pipeline.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).encode())
    # In an Android project, only assets are inside the bundle's folder.
    add = bundle.add_around if contents.target.bundle_folder else bundle.add
    for abi, library in contents.libraries.items():
        if library is not None:
            for name, path in contents.target.place_library(abi, library).items():
                add(name, path.read_bytes())
    if contents.target.name == "arm":
        add_runtime(bundle)
    else:
        add_project(bundle, contents.abis, contents.engines)
    bundle.add("LICENSES", LICENSES.encode())
    add("README.md", write_readme(contents).encode())


def _describe_pipeline(config: PipelineConfig, exported: tuple[ExportedModel, ...]) -> dict[str, dict[str, object]]:
    """Return the settings with model names in place of folders on this machine."""
    nested = config.dump()
    names = {model.source.model.kind: model.source.model.name for model in exported}
    nested["Pipeline"]["text_det_model"] = names["det"]
    nested["Pipeline"]["text_rec_model"] = names["rec"]
    classifiers: tuple[tuple[Kind, str], ...] = (
        ("cls", "text_line_orientation_model"),
        ("page", "page_orientation_model"),
    )
    for kind, key in classifiers:
        # Without a classifier the key is still there and may hold a folder.
        nested["Pipeline"][key] = names.get(kind, Path(nested["Pipeline"][key]).name)
    # The bundle has its own dict.txt.
    nested["Recognition"]["character_dict_path"] = None
    # Settings of the host do not apply to the device.
    for section in ("Runtime", "Input"):
        del nested[section]
    del nested["Pipeline"]["device"]
    return nested
