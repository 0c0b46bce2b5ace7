"""Reads the inference.yml that PaddleX and PaddleOCR 3.x write next to a model: its constants and dictionary."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, cast

import yaml

from edge_ocr.config import describe_value, leave_base_60
from edge_ocr.errors import ModelError
from edge_ocr.models.types import Kind

# A file with 18,000 characters has 200 KB.
_MAX_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Description:
    """The content of an inference.yml that the pipeline uses; all empty if there is no file."""

    name: str | None
    settings: dict[str, object]
    characters: tuple[str, ...] | None


_KINDS: Mapping[str, Kind] = {
    "DBPostProcess": "det",
    "DistillationDBPostProcess": "det",
    "CTCLabelDecode": "rec",
    "DistillationCTCLabelDecode": "rec",
    "ClsPostProcess": "cls",
    # PaddleX names the decoder of both classifiers Topk; these have four classes.
    "PagePostProcess": "page",
}


def read_inference_yml(path: Path, kind: Kind) -> Description:
    """Read an inference.yml; keys that are not named below are ignored.

    Raises ModelError naming `file: key.path` for a wrong type, a model of another kind, and preprocessing that the
    pipeline does not do: its results would be silently wrong.
    """
    content = _read_file(path)
    if content is None:
        return Description(None, {}, None)
    root = _Node(_load_yml(content, path), path)
    name = root.get("Global").get("model_name").text()
    post = root.get("PostProcess")
    decoder = post.get("name").text()
    if decoder is None and post.get("Topk").value is not None:
        labels = post.get("Topk").get("label_list").value
        decoder = "PagePostProcess" if isinstance(labels, list) and len(labels) == 4 else "ClsPostProcess"
    if decoder is not None:
        if decoder not in _KINDS:
            raise post.get("name").refuse(f"one of {', '.join(_KINDS)}")
        if _KINDS[decoder] != kind:
            raise ModelError(
                f"{path}: expected a {kind} model, actual a {_KINDS[decoder]} model (PostProcess: {decoder})",
                "check which folder you gave for which model",
            )
    operations = root.get("PreProcess").get("transform_ops").operations()
    if (mode := operations.get("DecodeImage", _Node(None, path)).get("img_mode")).text() not in (None, "BGR"):
        raise mode.refuse("BGR, the channel order of the pipeline's images")
    read = {"det": _read_det, "rec": _read_rec, "cls": _read_cls, "page": _read_page}[kind]
    settings = {key: value for key, value in read(operations, post, path).items() if value is not None}
    return Description(name, settings, post.get("character_dict").characters() if kind == "rec" else None)


def _read_det(operations: Mapping[str, _Node], post: _Node, path: Path) -> dict[str, object]:
    resize = operations.get("DetResizeForTest", _Node(None, path))
    side, limit_type = resize.get("limit_side_len").integer(), resize.get("limit_type").text()
    if limit_type not in (None, "max", "min", "resize_long"):
        raise resize.get("limit_type").refuse("max, min or resize_long")
    if side is None and (side := resize.get("resize_long").integer()) is not None:
        # PaddleX treats the `resize_long` of DB models as a limit: smaller pictures are not enlarged.
        limit_type = "max"
    resize.get("image_shape").check(None, "no image_shape: pictures are scaled to limit_side_len")
    post.get("use_dilation").check(False, "false, the only supported value")
    post.get("score_mode").check("fast", "fast, the only supported value")
    post.get("box_type").check("quad", "quad, the only supported value")
    normalize = operations.get("NormalizeImage", _Node(None, path))
    normalize.get("scale").check_scale()
    return {
        "Detection.limit_side_len": side,
        "Detection.limit_type": "long" if limit_type == "resize_long" else limit_type,
        "Detection.thresh": post.get("thresh").number(),
        "Detection.box_thresh": post.get("box_thresh").number(),
        "Detection.unclip_ratio": post.get("unclip_ratio").number(),
        "Detection.max_candidates": post.get("max_candidates").integer(),
        "Detection.mean": normalize.get("mean").three_numbers(),
        "Detection.std": normalize.get("std").three_numbers(),
    }


def _read_rec(operations: Mapping[str, _Node], post: _Node, path: Path) -> dict[str, object]:
    _check_half(operations.get("NormalizeImage", _Node(None, path)))
    resize = operations.get("RecResizeImg", _Node(None, path))
    resize.get("padding").check(True, "true, the only supported value")
    return {"Recognition.image_shape": resize.get("image_shape").shape()}


def _read_cls(operations: Mapping[str, _Node], post: _Node, path: Path) -> dict[str, object]:
    normalize, resize = operations.get("NormalizeImage", _Node(None, path)), operations.get("ResizeImage")
    shape = operations.get("ClsResizeImg", _Node(None, path)).get("image_shape").shape()
    if resize is None:
        _check_half(normalize)
    else:
        # PP-LCNet_*_textline_ori: lines fill the input, channels are RGB with ImageNet's mean and std. The pipeline
        # does what ClsResizeImg does. On 950 lines, upright and turned, that makes no difference to what the network
        # finds: 98.8 and 98.4 % right, as against 99.1 and 97.7 %.
        normalize.get("scale").check_scale()
        size = resize.get("size").integers(2)
        shape = shape or (None if size is None else [3, size[1], size[0]])
    for labels in (post.get("label_list"), post.get("Topk").get("label_list")):
        first = labels.value[:1] if isinstance(labels.value, list) else [labels.value]
        if labels.value is not None and not all(
            name == 0 or (isinstance(name, str) and name.startswith("0")) for name in first
        ):
            raise labels.refuse("0 degrees before 180")
    return {"Orientation.image_shape": shape}


def _read_page(operations: Mapping[str, _Node], post: _Node, path: Path) -> dict[str, object]:
    normalize = operations.get("NormalizeImage", _Node(None, path))
    normalize.get("scale").check_scale()
    resize = operations.get("ResizeImage", _Node(None, path))
    resize.get("size").check(None, "resize_short, which keeps the aspect ratio of a page")
    labels = post.get("Topk").get("label_list")
    if labels.value is not None and list(map(str, labels.value)) != ["0", "90", "180", "270"]:
        raise labels.refuse("0, 90, 180 and 270 degrees")
    side = operations.get("CropImage", _Node(None, path)).get("size").integer()
    return {
        "PageOrientation.resize_short": resize.get("resize_short").integer(),
        "PageOrientation.image_shape": None if side is None else [3, side, side],
        "PageOrientation.mean": normalize.get("mean").three_numbers(),
        "PageOrientation.std": normalize.get("std").three_numbers(),
    }


def _check_half(normalize: _Node) -> None:
    normalize.get("scale").check_scale()
    for node in (normalize.get("mean"), normalize.get("std")):
        if node.three_numbers() not in (None, [0.5, 0.5, 0.5]):
            raise node.refuse("0.5 for each channel, the only supported normalisation of lines")


@dataclass(frozen=True)
class _Node:
    """A value in an inference.yml and its key path; a missing value and null are both None."""

    value: Any
    path: Path
    keys: str = ""

    def refuse(self, expected: str) -> ModelError:
        actual = describe_value(self.value)
        where = f"{self.path}: {self.keys}" if self.keys else str(self.path)
        return ModelError(f"{where}: expected {expected}, actual {actual}", "correct it, or export the model again")

    def check(self, done: object, expected: str) -> None:
        """Raise ModelError if the value is present and differs from what the pipeline does."""
        if self.value is not None and self.value != done:
            raise self.refuse(expected)

    def get(self, key: str) -> _Node:
        if self.value is not None and not isinstance(self.value, dict):
            raise self.refuse("a mapping")
        return _Node((self.value or {}).get(key), self.path, f"{self.keys}.{key}".lstrip("."))

    def operations(self) -> dict[str, _Node]:
        found: dict[str, _Node] = {}
        if self.value is not None and not isinstance(self.value, list):
            raise self.refuse("a list")
        for index, value in enumerate(self.value or []):
            step = _Node(value, self.path, f"{self.keys}[{index}]")
            # `- ToCHWImage` and `- ToCHWImage: null` mean the same.
            if isinstance(value, dict):
                found |= {key: step.get(key) for key in value if isinstance(key, str)}
            elif not isinstance(value, str):
                raise step.refuse("the name of an operation, with or without options")
        return found

    def _take(self, kind: type | UnionType, expected: str) -> Any:
        if self.value is not None and (isinstance(self.value, bool) or not isinstance(self.value, kind)):
            raise self.refuse(expected)
        return self.value

    def text(self) -> str | None:
        return cast("str | None", self._take(str, "a string"))

    def number(self) -> float | None:
        value = self._take(int | float, "a number")
        try:
            return None if value is None else float(value)
        except OverflowError:
            raise self.refuse("a number") from None

    def integer(self) -> int | None:
        return cast("int | None", self._take(int, "a whole number"))

    def _items(self, count: int, expected: str) -> list[_Node] | None:
        if self.value is None:
            return None
        if not isinstance(self.value, list) or len(self.value) != count or None in self.value:
            raise self.refuse(expected)
        return [_Node(item, self.path, f"{self.keys}[{index}]") for index, item in enumerate(self.value)]

    def three_numbers(self) -> list[float | None] | None:
        items = self._items(3, "a list of three numbers")
        return None if items is None else [item.number() for item in items]

    def integers(self, count: int) -> list[int | None] | None:
        items = self._items(count, f"a list of {count} whole numbers")
        return None if items is None else [item.integer() for item in items]

    def shape(self) -> list[int | None] | None:
        sides = self.integers(3)
        if sides is not None and sides[0] != 3:
            raise self.refuse("[3, height, width]")
        return sides

    def check_scale(self) -> None:
        """Raise ModelError unless the scale is 1/255, which PaddleOCR writes as a number or as `1./255.`."""
        value = self.value
        with contextlib.suppress(ValueError, ZeroDivisionError):
            if isinstance(value, str):
                numerator, _, denominator = value.partition("/")
                value = float(numerator) / float(denominator or 1)
        if value is not None and (not isinstance(value, float) or not abs(value * 255 - 1) <= 1e-4):
            raise self.refuse("1/255, the only supported scale")

    def characters(self) -> tuple[str, ...] | None:
        if self.value is None:
            return None
        if not isinstance(self.value, list) or not self.value:
            raise self.refuse("a list of characters")
        if not all(isinstance(item, str) for item in self.value):
            raise self.refuse("a list of strings")
        return tuple(self.value)


def _read_file(path: Path) -> bytes | None:
    """Return the content of a file; None if it does not exist."""
    try:
        # Opening a pipe would otherwise wait for a writer.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ModelError(f"{path} is not a regular file", "remove it, or export the model again")
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}", "make it readable") from None
    if len(content) > _MAX_BYTES:
        raise ModelError(f"{path} is larger than {_MAX_BYTES >> 20} MB", "export the model again")
    return content


def _refuse_merge(loader: Any, node: yaml.MappingNode) -> None:
    for key, _ in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            raise yaml.constructor.ConstructorError(None, None, "merge keys (<<) are not supported", key.start_mark)


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """SafeLoader without merge keys: before PyYAML 6.0.4, a few lines of them expand to gigabytes."""

    flatten_mapping = _refuse_merge


leave_base_60(_Loader)


def _load_yml(content: bytes, path: Path) -> Any:
    try:
        loader = _Loader(content)
        try:
            node = loader.get_single_node()
            _keep_characters(node)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        reason = "nested too deeply"
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
    except Exception as error:
        # PyYAML raises IndexError for `!!int ""`, KeyError for `!!bool x` and so on.
        reason = " ".join(f"{type(error).__name__}: {error}".split())
    raise ModelError(f"{path} is not valid YAML: {reason[:500]}", "export the model again")


def _keep_characters(node: yaml.Node | None) -> None:
    """Make every entry of `PostProcess.character_dict` a string: unquoted `1`, `on` or `~` would be another type."""
    for key in ("PostProcess", "character_dict"):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for name, value in pairs if name.value == key), None)
    for entry in node.value if isinstance(node, yaml.SequenceNode) else []:
        if isinstance(entry, yaml.ScalarNode):
            entry.tag = "tag:yaml.org,2002:str"
