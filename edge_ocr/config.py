"""Reads a pipeline's YAML into frozen dataclasses. Defaults and Paddle's key names are defined only here."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from edge_ocr.core.settings import (
    MAX_DETECTION_SIDE,
    RETURN_WORDS,
    DetectionSettings,
    OrientationSettings,
    PageOrientationSettings,
    RecognitionSettings,
)
from edge_ocr.devices import Precision, parse_device
from edge_ocr.errors import ConfigError, EdgeOcrError, UsageError
from edge_ocr.models.languages import Language, find_language, reads

_WINDOWS = "Detection.windows"
_LANGUAGE = "Pipeline.lang"
_DETECTOR = "Pipeline.text_det_model"
_RECOGNIZER = "Pipeline.text_rec_model"


@dataclass(frozen=True)
class _Type:
    """The type of a key's value."""

    check: Callable[[Any], Any]
    """Returns a value in its final type; raises ValueError with what was expected and, as a second argument, a hint."""
    parse: Callable[[str], Any]
    """Reads the text after `KEY=`; text that it cannot read is returned unchanged, and `check` refuses it."""


def _parse_yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        # ValueError: a date or number that is valid YAML but not valid in Python.
        return text


def _parse_text(text: str) -> str:
    """Return a text without quotes around it. YAML would turn some texts into numbers or booleans."""
    if text.strip()[:1] in ("'", '"') and isinstance(quoted := _parse_yaml(text), str):
        return quoted
    return text.strip()


def _parse_number(text: str) -> Any:
    """Return an int or a float. YAML 1.1 would read 1e-1 as a text and 010 as 8."""
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _parse_list(parse_item: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            # BaseLoader keeps every item a text.
            items = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506
        except (yaml.YAMLError, RecursionError):
            return text
        if not isinstance(items, list):
            return text
        return [parse_item(item) if isinstance(item, str) else item for item in items]

    return parse


def _number(low: float, high: float, *, above: bool = False) -> _Type:
    expected = f"a number {'above' if above else 'from'} {low:g} to {high:g}"

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(expected)
        if not (low < value if above else low <= value) or not value <= high:
            raise ValueError(expected)
        return float(value)

    return _Type(check, _parse_number)


def _integer(low: int, high: int) -> _Type:
    expected = f"a whole number from {low} to {high}"

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(expected)
        return value

    return _Type(check, _parse_number)


def _choice(*names: str) -> _Type:
    def check(value: Any) -> str:
        if value not in names:
            raise ValueError("one of " + ", ".join(names))
        return str(value)

    return _Type(check, _parse_text)


def _check_text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a non-empty text")
    return value


def _check_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _check_device(value: Any) -> str:
    try:
        return str(parse_device(_check_text(value)))
    except UsageError as error:
        raise ValueError(f"a device ({error.hint or error.message})") from None


def _check_language(value: Any) -> str:
    try:
        return find_language(_check_text(value)).code
    except UsageError as error:
        raise ValueError("the code of a language", error.hint) from None


def _check_image_shape(value: Any) -> tuple[int, int, int]:
    expected = "a list [3, height, width], height and width from 8 to 4096"
    if not isinstance(value, list | tuple) or len(value) != 3 or value[0] != 3:
        raise ValueError(expected)
    if any(isinstance(side, bool) or not isinstance(side, int) or not 8 <= side <= 4096 for side in value[1:]):
        raise ValueError(expected)
    return (3, value[1], value[2])


def _optional(inner: _Type) -> _Type:
    def check(value: Any) -> Any:
        if value is None:
            return None
        try:
            return inner.check(value)
        except ValueError as error:
            raise ValueError(f"{error.args[0]}, or null", *error.args[1:]) from None

    def parse(text: str) -> Any:
        return None if _parse_yaml(text) is None else inner.parse(text)

    return _Type(check, parse)


def _three(inner: _Type) -> _Type:
    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or len(value) != 3:
            raise ValueError("a list of three numbers")
        try:
            return tuple(inner.check(item) for item in value)
        except ValueError as error:
            raise ValueError(f"a list of three, each {error}") from None

    return _Type(check, _parse_list(inner.parse))


_text = _Type(_check_text, _parse_text)
_flag = _Type(_check_flag, _parse_yaml)
_device = _Type(_check_device, _parse_text)
_language = _Type(_check_language, _parse_text)
_image_shape = _Type(_check_image_shape, _parse_list(_parse_number))


@dataclass(frozen=True)
class _Field:
    default: Any
    type: _Type


_DEFAULT_PIPELINE = "OCR"

# Each key that a pipeline YAML may have, with its default. Detection and recognition constants are those of
# PP-OCRv4 mobile as published with PaddleX 3.0.
_FIELDS: Mapping[str, _Field] = MappingProxyType(
    {
        "Global.pipeline_name": _Field("OCR", _choice("OCR")),
        _LANGUAGE: _Field(None, _optional(_language)),
        _DETECTOR: _Field("PP-OCRv4_mobile_det", _text),
        _RECOGNIZER: _Field("PP-OCRv4_mobile_rec", _text),
        "Pipeline.text_line_orientation_model": _Field("ch_ppocr_mobile_v2_cls", _text),
        "Pipeline.use_text_line_orientation": _Field(False, _flag),
        "Pipeline.page_orientation_model": _Field("PP-LCNet_x1_0_doc_ori", _text),
        "Pipeline.use_page_orientation": _Field(False, _flag),
        "Pipeline.text_rec_batch_size": _Field(8, _integer(1, 256)),
        "Pipeline.device": _Field("cpu", _device),
        "Detection.limit_side_len": _Field(960, _integer(32, MAX_DETECTION_SIDE)),
        "Detection.limit_type": _Field("max", _choice("max", "min", "long")),
        "Detection.thresh": _Field(0.3, _number(0, 1)),
        "Detection.box_thresh": _Field(0.6, _number(0, 1)),
        "Detection.unclip_ratio": _Field(1.5, _number(0, 10, above=True)),
        "Detection.max_candidates": _Field(1000, _integer(1, 100_000)),
        "Detection.mean": _Field((0.485, 0.456, 0.406), _three(_number(0, 1))),
        "Detection.std": _Field((0.229, 0.224, 0.225), _three(_number(0, 1, above=True))),
        _WINDOWS: _Field(True, _flag),
        "Recognition.character_dict_path": _Field(None, _optional(_text)),
        "Recognition.image_shape": _Field((3, 48, 320), _image_shape),
        "Recognition.text_score": _Field(0.5, _number(0, 1)),
        "Recognition.space_weight": _Field(1.0, _number(1, 1000)),
        "Recognition.direction": _Field("ltr", _choice("ltr", "rtl")),
        "Recognition.return_words": _Field("none", _choice(*RETURN_WORDS)),
        "Recognition.cjk_words": _Field("character", _choice("character", "run")),
        "Orientation.image_shape": _Field((3, 48, 192), _image_shape),
        "Orientation.thresh": _Field(0.9, _number(0, 1)),
        "PageOrientation.resize_short": _Field(256, _integer(8, 4096)),
        "PageOrientation.image_shape": _Field((3, 224, 224), _image_shape),
        "PageOrientation.mean": _Field((0.485, 0.456, 0.406), _three(_number(0, 1))),
        "PageOrientation.std": _Field((0.229, 0.224, 0.225), _three(_number(0, 1, above=True))),
        # Trained with smoothed labels, the network gives at most 0.94. Of 60 upright photos and scans, it takes none
        # for turned with more than 0.71.
        "PageOrientation.thresh": _Field(0.85, _number(0, 1)),
        "Runtime.engine": _Field("auto", _choice("auto", "openvino", "paddle", "onnxruntime")),
        "Runtime.precision": _Field("f32", _choice("f32", "bf16", "f16", "int8", "auto")),
        "Runtime.threads": _Field(None, _optional(_integer(1, 1024))),
        # Twice Pillow's MAX_IMAGE_PIXELS, above which Pillow refuses pictures.
        "Input.max_pixels": _Field(178_956_970, _integer(1, 2**31 - 1)),
        "Input.max_file_mb": _Field(1024, _integer(1, 16384)),
        "Input.max_download_mb": _Field(64, _integer(1, 4096)),
        "Input.download_timeout_s": _Field(20.0, _number(0, 3600, above=True)),
    }
)


@dataclass(frozen=True)
class InputSettings:
    """Limits on the pictures that are read."""

    max_pixels: int
    """Width × height of one picture or page."""
    max_file_bytes: int
    max_download_bytes: int
    download_timeout_s: float
    """Limit for the whole download of one URL."""


@dataclass(frozen=True)
class PipelineConfig:
    """The settings of a pipeline.

    `values` maps key paths such as `Detection.thresh` to checked values; `origins` says where each came from:
    `default`, a file, an option, or a model's inference.yml.
    """

    values: Mapping[str, Any]
    origins: Mapping[str, str]

    @property
    def det_model(self) -> str:
        return str(self.values[_DETECTOR])

    @property
    def rec_model(self) -> str:
        return str(self.values[_RECOGNIZER])

    @property
    def language(self) -> Language | None:
        name = self.values[_LANGUAGE]
        return None if name is None else find_language(name)

    @property
    def cls_model(self) -> str:
        return str(self.values["Pipeline.text_line_orientation_model"])

    @property
    def use_orientation(self) -> bool:
        return bool(self.values["Pipeline.use_text_line_orientation"])

    @property
    def page_model(self) -> str:
        return str(self.values["Pipeline.page_orientation_model"])

    @property
    def use_page_orientation(self) -> bool:
        return bool(self.values["Pipeline.use_page_orientation"])

    @property
    def device(self) -> str:
        return str(self.values["Pipeline.device"])

    @property
    def engine(self) -> str:
        return str(self.values["Runtime.engine"])

    @property
    def precision(self) -> Precision:
        return self.values["Runtime.precision"]  # type: ignore[no-any-return]  # checked by its field

    @property
    def threads(self) -> int | None:
        return self.values["Runtime.threads"]  # type: ignore[no-any-return]  # checked by its field

    @property
    def dictionary_path(self) -> Path | None:
        path = self.values["Recognition.character_dict_path"]
        return None if path is None else Path(path)

    @property
    def detection(self) -> DetectionSettings:
        values = self.values
        return DetectionSettings(
            limit_side_len=values["Detection.limit_side_len"],
            limit_type=values["Detection.limit_type"],
            bin_threshold=values["Detection.thresh"],
            box_threshold=values["Detection.box_thresh"],
            unclip_ratio=values["Detection.unclip_ratio"],
            max_candidates=values["Detection.max_candidates"],
            mean=values["Detection.mean"],
            std=values["Detection.std"],
            windows=values[_WINDOWS],
        )

    @property
    def recognition(self) -> RecognitionSettings:
        _, height, width = self.values["Recognition.image_shape"]
        return RecognitionSettings(
            image_height=height,
            min_width=width,
            batch_size=self.values["Pipeline.text_rec_batch_size"],
            text_score=self.values["Recognition.text_score"],
            direction=self.values["Recognition.direction"],
            space_weight=self.values["Recognition.space_weight"],
            return_words=self.values["Recognition.return_words"],
            cjk_words=self.values["Recognition.cjk_words"],
        )

    @property
    def orientation(self) -> OrientationSettings:
        _, height, width = self.values["Orientation.image_shape"]
        return OrientationSettings(image_height=height, image_width=width, threshold=self.values["Orientation.thresh"])

    @property
    def page_orientation(self) -> PageOrientationSettings:
        _, height, width = self.values["PageOrientation.image_shape"]
        return PageOrientationSettings(
            resize_short=self.values["PageOrientation.resize_short"],
            image_height=height,
            image_width=width,
            mean=self.values["PageOrientation.mean"],
            std=self.values["PageOrientation.std"],
            threshold=self.values["PageOrientation.thresh"],
        )

    @property
    def input(self) -> InputSettings:
        return InputSettings(
            max_pixels=self.values["Input.max_pixels"],
            max_file_bytes=self.values["Input.max_file_mb"] * 2**20,
            max_download_bytes=self.values["Input.max_download_mb"] * 2**20,
            download_timeout_s=self.values["Input.download_timeout_s"],
        )

    def dump(self) -> dict[str, dict[str, Any]]:
        """Return all values as the nested mapping of a pipeline YAML."""
        nested: dict[str, dict[str, Any]] = {}
        for path, value in self.values.items():
            section, key = path.split(".")
            nested.setdefault(section, {})[key] = list(value) if isinstance(value, tuple) else value
        return nested

    def with_values(self, overrides: Mapping[str, Any], origin: str) -> PipelineConfig:
        """Return a copy with `overrides` (key path to value); `origin` says where they came from.

        Raises UsageError for an unknown key or a value out of range, naming `origin`.
        """
        checked = {path: _checked(path, value, origin, UsageError) for path, value in overrides.items()}
        values, origins = {**self.values, **checked}, {**self.origins, **dict.fromkeys(checked, origin)}
        _obey_side_limit(values, origins, overrides)
        return PipelineConfig(MappingProxyType(values), MappingProxyType(origins))

    def with_model_settings(self, settings: Mapping[str, Any], origin: str) -> PipelineConfig:
        """Return a copy in which a model's `settings` replace defaults, but not values from a file or an option.

        Raises ConfigError for a value out of range, naming `origin`.
        """
        values, origins = dict(self.values), dict(self.origins)
        for path, value in settings.items():
            checked = _checked(path, value, origin)
            if origins[path] == "default":
                values[path], origins[path] = checked, origin
        return PipelineConfig(MappingProxyType(values), MappingProxyType(origins))


def describe_value(value: object) -> str:
    """Return a value for an error message, shortened: through aliases, a small YAML file can expand to gigabytes."""
    try:
        return reprlib.repr(value)[:200]
    except ValueError:  # an integer with more digits than Python prints
        return f"a huge {type(value).__name__}"


def find_config_folder() -> Path:
    """Return the folder of the shipped pipeline files: inside the installed package, or next to it in a checkout."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def find_config(pipeline: str | Path) -> Path:
    """Return the file of a pipeline, given as a shipped name (`OCR`) or the path of a YAML file.

    Raises ConfigError if there is no such name or file.
    """
    path = Path(pipeline)
    if path.suffix.lower() in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"no such pipeline file: {path}", "write one with: edge-ocr config get OCR --save-path .")
        return path
    shipped = find_config_folder() / f"{pipeline}.yaml"
    if path.name != str(pipeline) or not shipped.is_file():
        names = ", ".join(sorted(file.stem for file in find_config_folder().glob("*.yaml")))
        raise ConfigError(f"unknown pipeline {str(pipeline)!r}", f"give a .yaml file, or a shipped pipeline: {names}")
    return shipped


def load_config(
    pipeline: str | Path = _DEFAULT_PIPELINE,
    overrides: Mapping[str, Any] | None = None,
    override_origins: Mapping[str, str] | None = None,
) -> PipelineConfig:
    """Read a pipeline file and apply `overrides` (key path to value) to it.

    `override_origins` says where an override came from, such as `--threads`. `Pipeline.lang` chooses the models unless
    the pipeline file, other than that of `OCR`, or an override does.

    Raises ConfigError, naming `file: key.path`, for invalid YAML, unknown or repeated keys, wrong types and values out
    of range; UsageError for an invalid override; either if the recogniser does not read the language.
    """
    path = find_config(pipeline)
    shipped = path.parent == find_config_folder()
    origin = f"configs/{path.name}" if shipped else str(path)
    values = {name: field.default for name, field in _FIELDS.items()}
    origins = dict.fromkeys(_FIELDS, "default")
    for name, value in _flatten(_read_yaml(path), path).items():
        values[name], origins[name] = _checked(name, value, str(path)), origin
    _obey_side_limit(values, origins, [name for name, source in origins.items() if source != "default"])
    for name, value in (overrides or {}).items():
        source = (override_origins or {}).get(name, "option")
        values[name], origins[name] = _checked(name, value, source, UsageError), source
    _obey_side_limit(values, origins, overrides or {})
    _obey_language(values, origins, origin, is_default=shipped and path.stem == _DEFAULT_PIPELINE)
    return PipelineConfig(MappingProxyType(values), MappingProxyType(origins))


def restore_config(values: Mapping[str, Any], origins: Mapping[str, str]) -> PipelineConfig:
    """Return the config with these `values` and `origins`; lists may replace tuples, as in JSON.

    Raises ConfigError for invalid or missing values.
    """
    checked = {path: _checked(path, value, "config") for path, value in values.items()}
    if not checked.keys() == origins.keys() == _FIELDS.keys():
        raise ConfigError("config: keys are missing")
    return PipelineConfig(MappingProxyType(checked), MappingProxyType(dict(origins)))


def _obey_side_limit(values: dict[str, Any], origins: dict[str, str], given: Collection[str]) -> None:
    """Switch windows off if `given`, the keys of a file or of options, sets a side limit but not windows.

    Windows look at a picture in more detail than the limit allows.
    """
    limit = next((path for path in ("Detection.limit_side_len", "Detection.limit_type") if path in given), None)
    if limit is not None and _WINDOWS not in given:
        values[_WINDOWS], origins[_WINDOWS] = False, f"{origins[limit]}, which sets {limit}"


def _obey_language(values: dict[str, Any], origins: dict[str, str], file: str, *, is_default: bool) -> None:
    """Choose the models that read `Pipeline.lang`, in place of those of the pipeline OCR (`is_default`).

    Raises UsageError, or ConfigError if `file` sets both, if another file or an option names a recogniser that does not
    read the language.
    """
    if values[_LANGUAGE] is None:
        return
    language, recognizer = find_language(values[_LANGUAGE]), values[_RECOGNIZER]
    replaceable = ("default", file) if is_default else ("default",)
    if origins[_RECOGNIZER] in replaceable:
        chosen = {_RECOGNIZER: language.recognizer, _DETECTOR: language.detector}
        for key, name in chosen.items():
            if origins[key] in replaceable:
                values[key], origins[key] = name, f"{origins[_LANGUAGE]}, which sets {_LANGUAGE}"
    elif not reads(recognizer, language):
        error_class = ConfigError if origins[_LANGUAGE] == origins[_RECOGNIZER] == file else UsageError
        raise error_class(
            f"{origins[_LANGUAGE]}: {_LANGUAGE} is {language.code}, but {recognizer} ({origins[_RECOGNIZER]}: "
            f"{_RECOGNIZER}) is not known to read {language.name}",
            f"omit one of the two, or set {_RECOGNIZER} to {language.recognizer}",
        )


def parse_setting(setting: str, option: str) -> tuple[str, Any]:
    """Return key and value of a `KEY=VALUE` given with `option`, parsed according to the key's type.

    A name may look like a number, and a number may be written 1e-1; lists, booleans and null are written as in YAML.
    `load_config` checks key and value, this function does not.

    Raises UsageError if there is no `=`.
    """
    key, separator, text = setting.partition("=")
    if not separator:
        raise UsageError(f"{option} {setting}: expected KEY=VALUE", f"write it like {option} Detection.thresh=0.2")
    return key, _FIELDS[key].type.parse(text) if key in _FIELDS else text


def _checked(path: str, value: Any, where: str, error_class: type[EdgeOcrError] = ConfigError) -> Any:
    if path not in _FIELDS:
        raise error_class(f"{where}: unknown key {path}", _nearest(path, list(_FIELDS)))
    try:
        return _FIELDS[path].type.check(value)
    except ValueError as error:
        expected, *hints = error.args
        raise error_class(f"{where}: {path}: expected {expected}, got {describe_value(value)}", *hints) from None


def _flatten(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected sections such as Pipeline:, got {type(content).__name__}")
    sections = list(dict.fromkeys(name.split(".")[0] for name in _FIELDS))
    flat: dict[str, Any] = {}
    for section, entries in content.items():
        if section not in sections:
            raise ConfigError(f"{path}: unknown section {section}", _nearest(str(section), sections))
        if entries is None:
            continue
        if not isinstance(entries, dict):
            raise ConfigError(f"{path}: {section}: expected keys with values, got {describe_value(entries)}")
        for key, value in entries.items():
            name = f"{section}.{key}"
            if name not in _FIELDS:
                raise ConfigError(f"{path}: unknown key {name}", _nearest(name, list(_FIELDS)))
            flat[name] = value
    return flat


def _nearest(word: str, known: list[str]) -> str:
    # Compare last parts only: this finds a key in the wrong section, and a shared section does not make keys similar.
    section, _, key = word.lower().rpartition(".")
    lasts = {name: name.rpartition(".")[2].lower() for name in known}
    close = difflib.get_close_matches(key, lasts.values(), 1, 0.6)
    # Prefer the given section for a key that several have.
    found = sorted(
        (name for name in known if lasts[name] in close), key=lambda name: not name.lower().startswith(section)
    )
    return f"did you mean {found[0]}?" if found else "use one of " + ", ".join(known)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses repeated keys; PyYAML silently keeps the last one."""


def leave_base_60(loader: Any) -> None:
    """Make a loader class read 1:30 as a text, like YAML 1.2. In YAML 1.1 it is 90, and long ones take minutes."""

    def add(kind: str, construct: Callable[[Any, yaml.ScalarNode], Any]) -> None:
        def construct_number(loader: Any, node: yaml.ScalarNode) -> Any:
            text = loader.construct_scalar(node)
            return text if ":" in text else construct(loader, node)

        loader.add_constructor(f"tag:yaml.org,2002:{kind}", construct_number)

    add("int", yaml.SafeLoader.construct_yaml_int)
    add("float", yaml.SafeLoader.construct_yaml_float)


def _construct_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(
                None, None, f"key {describe_value(key)} is not a string", key_node.start_mark
            )
        if key in mapping:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is repeated", key_node.start_mark)
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


leave_base_60(_StrictLoader)
_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


def _read_yaml(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        # A SafeLoader subclass: tags in the file can only build plain values.
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read it: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {type(error).__name__}") from None
    except Exception as error:
        # PyYAML raises IndexError for `!!int ""`, KeyError for `!!bool x` and so on.
        raise ConfigError(f"{path}: not valid YAML: {type(error).__name__}: {error}") from None
