"""The content of a bundle except its manifest: models, dictionary, settings, libraries, runtime and README."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from converters.bundle.android.project import add_project
from converters.bundle.board.files import add_runtime
from converters.bundle.readme import LICENSES, write_readme
from converters.graph.charsets import list_lacking, select_classes
from converters.lite.nb.to_onnx import serialise_graph
from converters.text import Report
from edge_ocr.core.charset import Charset
from edge_ocr.errors import ModelError
from edge_ocr.models.kinds import fit_charset
from edge_ocr.models.resolve import apply_model, check_width

if TYPE_CHECKING:
    from converters.bundle.contents import BundleContents
    from converters.bundle.writer import BundleWriter
    from converters.plan import ExportedModel, SourceModel
    from edge_ocr.config import PipelineConfig


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
        add_project(bundle, tuple(contents.libraries))
    bundle.add("LICENSES", LICENSES.encode())
    add("README.md", write_readme(contents).encode())


def _describe_pipeline(config: PipelineConfig, exported: tuple[ExportedModel, ...]) -> dict[str, dict[str, object]]:
    """Return the settings with model names in place of folders on this machine."""
    nested = config.dump()
    names = {model.source.model.kind: model.source.model.name for model in exported}
    nested["Pipeline"]["text_det_model"] = names["det"]
    nested["Pipeline"]["text_rec_model"] = names["rec"]
    # Without a classifier the key is still there and may hold a folder.
    unused = Path(nested["Pipeline"]["text_line_orientation_model"]).name
    nested["Pipeline"]["text_line_orientation_model"] = names.get("cls", unused)
    # The bundle has its own dict.txt.
    nested["Recognition"]["character_dict_path"] = None
    # Settings of the host do not apply to the device.
    for section in ("Runtime", "Input"):
        del nested[section]
    del nested["Pipeline"]["device"]
    return nested
