"""PaddleX 3's names: what its `predict` takes and what its OCR results hold, in terms of edge-ocr.

Names and types are those of paddlex/inference/pipelines/ocr/{pipeline,result}.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from edge_ocr.config import PipelineConfig, describe_value
from edge_ocr.core.settings import MAX_DETECTION_SIDE
from edge_ocr.core.types import BgrImage
from edge_ocr.errors import UsageError

PREDICT_ARGUMENTS: Mapping[str, str] = MappingProxyType(
    {
        "use_doc_orientation_classify": "Pipeline.use_page_orientation",
        "use_textline_orientation": "Pipeline.use_text_line_orientation",
        "text_det_limit_side_len": "Detection.limit_side_len",
        "text_det_limit_type": "Detection.limit_type",
        "text_det_thresh": "Detection.thresh",
        "text_det_box_thresh": "Detection.box_thresh",
        "text_det_unclip_ratio": "Detection.unclip_ratio",
        "text_rec_score_thresh": "Recognition.text_score",
        "return_word_box": "Recognition.return_words",
    }
)
"""The arguments of `predict` and the settings that they change."""

FIXED_ARGUMENTS: Mapping[str, tuple[Any, str]] = MappingProxyType(
    {
        "use_doc_unwarping": (False, "straighten the page before reading it, and give False"),
        "text_det_max_side_limit": (MAX_DETECTION_SIDE, "omit it; text_det_limit_side_len may be lower"),
    }
)
"""Arguments of `predict` of which edge-ocr supports one value only: that value and a hint."""

# What to do instead of arguments that nothing here resembles, some of PaddleOCR 2.
_HINTS = {
    "batch_size": "omit it: pictures are read one by one",
    "rec_char_dict_path": "set Recognition.character_dict_path in a pipeline file, and give that as paddlex_config",
    "cls": "give use_textline_orientation",
    "show_log": "omit it: edge-ocr does not print that log",
    "text_det_input_shape": "give text_det_limit_side_len",
    "use_gpu": "give device: gpu:0 or cpu",
}

# PaddleX returns words or nothing.
_WORDS = {True: "words", False: "none"}

_DETECTION = ("limit_side_len", "limit_type", "thresh", "box_thresh", "unclip_ratio")
_WORD_KEYS = ("text_word", "text_word_boxes")


def translate_arguments(
    arguments: Mapping[str, Any],
    call: str,
    settings: Mapping[str, str] = PREDICT_ARGUMENTS,
    other: Collection[str] = (),
) -> dict[str, Any]:
    """Return what `arguments` set, by key path; those that are None set nothing.

    `call` names the function in errors, `settings` maps its arguments to key paths. `other` names arguments that it
    takes care of itself.

    Raises UsageError for an unknown argument, and for one whose value edge-ocr does not support. Other values are not
    checked.
    """
    overrides: dict[str, Any] = {}
    for name, value in arguments.items():
        if name not in settings and name not in FIXED_ARGUMENTS and name not in other:
            raise UsageError(f"{call}: unknown argument {name}", _suggest(name, [*settings, *FIXED_ARGUMENTS, *other]))
        if value is None:
            continue
        if name in FIXED_ARGUMENTS:
            supported, hint = FIXED_ARGUMENTS[name]
            if value != supported:
                raise UsageError(f"{call}: {name}: expected {supported}, got {describe_value(value)}", hint)
        elif name == "return_word_box":
            if not isinstance(value, bool):
                raise UsageError(f"{call}: {name}: expected True or False, got {describe_value(value)}")
            overrides[settings[name]] = _WORDS[value]
        elif name in settings:
            overrides[settings[name]] = value
    return overrides


def _suggest(name: str, known: list[str]) -> str:
    if name in _HINTS:
        return _HINTS[name]
    close = difflib.get_close_matches(name, known, 1, 0.6)
    return f"did you mean {close[0]}?" if close else f"omit it, or use one of {', '.join(known)}"


def describe_settings(config: PipelineConfig) -> dict[str, Any]:
    """Return the keys of PaddleX's result that tell the settings."""
    return {
        "model_settings": {
            "use_doc_preprocessor": config.use_page_orientation,
            "use_textline_orientation": config.use_orientation,
        },
        "text_det_params": {
            **{name: config.values[f"Detection.{name}"] for name in _DETECTION},
            "max_side_limit": MAX_DETECTION_SIDE,
        },
        "text_type": "general",
        "text_rec_score_thresh": config.recognition.text_score,
    }


def describe_result(values: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result as JSON values under PaddleX's keys: the content of `result.json["res"]`.

    `values` are those of an `OcrResult`, `settings` those of `describe_settings`, or empty.
    """
    polygons = values["dt_polys"]
    result: dict[str, Any] = {"input_path": values["input_path"], "page_index": values.get("page_index"), **settings}
    if "page_angle" in values:
        result["doc_preprocessor_res"] = {
            "input_path": values["input_path"],
            "page_index": values.get("page_index"),
            "model_settings": {"use_doc_orientation_classify": True, "use_doc_unwarping": False},
            "angle": values["page_angle"],
        }
    if settings and not settings["model_settings"]["use_textline_orientation"]:
        result["textline_orientation_angles"] = [-1] * len(polygons)
    result["dt_polys"] = polygons
    result["return_word_box"] = "text_word" in values
    result["rec_texts"] = values["rec_text"]
    result["rec_scores"] = values["rec_score"]
    result["rec_polys"] = polygons
    corners = np.array(polygons, np.int32).reshape(-1, 4, 2)
    result["rec_boxes"] = np.hstack([corners.min(axis=1), corners.max(axis=1)]).tolist()
    return {**result, **{key: values[key] for key in _WORD_KEYS if key in values}}


def add_arrays(result: Mapping[str, Any], values: Mapping[str, Any], image: BgrImage) -> dict[str, Any]:
    """Return what PaddleX's result holds in memory: arrays for lists of numbers, and the picture.

    `result` is that of `describe_result`, `values` those of an `OcrResult`. `dt_polys` and `rec_polys` are lists of
    4 × 2, `rec_boxes` is N × 4, and `text_word_boxes` a list of K × 4, all int32; OpenCV draws no int16, which PaddleX
    has.
    """
    polygons = list(np.array(result["dt_polys"], np.int32).reshape(-1, 4, 2))
    arrays: dict[str, Any] = {
        "dt_polys": polygons,
        "rec_polys": list(polygons),
        "rec_boxes": np.array(result["rec_boxes"], np.int32).reshape(-1, 4),
        "doc_preprocessor_res": {**result.get("doc_preprocessor_res", {}), "output_img": image},
    }
    if "text_word" in values:
        arrays["text_word_region"] = values["text_word_region"]
        arrays["text_word_boxes"] = [np.array(line, np.int32).reshape(-1, 4) for line in values["text_word_boxes"]]
    return {**result, **arrays}
