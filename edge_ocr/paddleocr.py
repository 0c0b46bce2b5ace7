"""PaddleOCR 3's class on edge-ocr's pipeline, for scripts that were written for PaddleOCR.

>>> from edge_ocr.paddleocr import PaddleOCR
>>> for result in PaddleOCR(lang="en").predict("photo.jpg"):
...     print(result["rec_texts"])

Names are those of paddleocr/_pipelines/ocr.py and paddleocr/_common_args.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edge_ocr.config import describe_value, load_config
from edge_ocr.errors import UsageError
from edge_ocr.models.languages import RECOGNIZERS, find_language, reads
from edge_ocr.paddlex import PREDICT_ARGUMENTS, translate_arguments
from edge_ocr.pipeline import OcrPipeline
from edge_ocr.results import OcrResult

_LANGUAGE = "Pipeline.lang"
_RECOGNIZER = "Pipeline.text_rec_model"

# The arguments of the constructor and the settings that they change. A model's folder wins over its name.
_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        **PREDICT_ARGUMENTS,
        "text_detection_model_name": "Pipeline.text_det_model",
        "text_detection_model_dir": "Pipeline.text_det_model",
        "text_recognition_model_name": _RECOGNIZER,
        "text_recognition_model_dir": _RECOGNIZER,
        "text_recognition_batch_size": "Pipeline.text_rec_batch_size",
        "textline_orientation_model_name": "Pipeline.text_line_orientation_model",
        "textline_orientation_model_dir": "Pipeline.text_line_orientation_model",
        "doc_orientation_classify_model_name": "Pipeline.page_orientation_model",
        "doc_orientation_classify_model_dir": "Pipeline.page_orientation_model",
        "text_rec_input_shape": "Recognition.image_shape",
        "device": "Pipeline.device",
        "engine": "Runtime.engine",
        "cpu_threads": "Runtime.threads",
    }
)

# PaddleOCR's own names of before version 3.
_OLD_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "det_model_dir": "text_detection_model_dir",
        "det_limit_side_len": "text_det_limit_side_len",
        "det_limit_type": "text_det_limit_type",
        "det_db_thresh": "text_det_thresh",
        "det_db_box_thresh": "text_det_box_thresh",
        "det_db_unclip_ratio": "text_det_unclip_ratio",
        "rec_model_dir": "text_recognition_model_dir",
        "rec_batch_num": "text_recognition_batch_size",
        "use_angle_cls": "use_textline_orientation",
        "cls_model_dir": "textline_orientation_model_dir",
        "cls_batch_num": "textline_orientation_batch_size",
    }
)

# Accepted without effect: they tune how PaddlePaddle computes, or belong to unwarping, which is refused when asked for.
_WITHOUT_EFFECT = (
    "doc_unwarping_model_name",
    "doc_unwarping_model_dir",
    "textline_orientation_batch_size",
    "enable_mkldnn",
    "mkldnn_cache_capacity",
    "enable_cinn",
    "use_tensorrt",
    "precision",
)
_OTHER = ("lang", "ocr_version", "enable_hpi", "paddlex_config", *_OLD_NAMES, *_WITHOUT_EFFECT)

# The shipped pipeline of a version; None: it has recognisers in the registry, but no pipeline.
_VERSIONS: Mapping[str, str | None] = MappingProxyType(
    {"PP-OCRv3": None, "PP-OCRv4": "OCR", "PP-OCRv5": "OCR-v5", "PP-OCRv6": "OCR-v6"}
)


class PaddleOcrResult(OcrResult):
    """A result with PaddleX 3's keys and types, also when it is iterated, printed and saved; edge-ocr's keys can be
    read, too.
    """

    def __init__(self, result: OcrResult) -> None:
        """Share everything with `result`."""
        vars(self).update(vars(result))

    def __getitem__(self, key: str) -> Any:
        return self._paddlex_values[key] if key in self._paddlex_values else self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paddlex_values)

    def __len__(self) -> int:
        return len(self._paddlex_values)

    def _list_values(self) -> dict[str, Any]:
        values: dict[str, Any] = self.json["res"]
        return values


class PaddleOCR:
    """Reads pictures as PaddleOCR 3's class does, with its arguments; None is edge-ocr's own default."""

    def __init__(self, **arguments: Any) -> None:
        """Load the models.

        `lang` chooses them as `--lang` does; `ocr_version` takes those of a shipped pipeline, or those of that version
        that read `lang`. `paddlex_config` is a pipeline file of edge-ocr.

        Raises UsageError for unknown arguments and for what edge-ocr does not do; otherwise as `create_pipeline` does.
        """
        given = _rename(arguments)
        overrides = translate_arguments(given, "PaddleOCR", _SETTINGS, _OTHER)
        for name, key in _SETTINGS.items():
            # A folder comes as a str or a Path.
            if name.endswith("_dir") and given.get(name) is not None:
                overrides[key] = str(given[name])
        config = given.get("paddlex_config")
        if config is not None and not isinstance(config, str | Path):
            raise UsageError(
                f"PaddleOCR: paddlex_config: expected a file, got {describe_value(config)}",
                "write one with: edge-ocr config get OCR --save-path .",
            )
        if config is not None and given.get("ocr_version") is not None:
            raise UsageError("PaddleOCR: paddlex_config and ocr_version both choose the models", "omit one of the two")
        pipeline, chosen = _choose_models(given.get("lang"), given.get("ocr_version"))
        origins = dict.fromkeys(chosen, "argument ocr_version") | {_LANGUAGE: "argument lang"}
        origins |= {key: f"argument {name}" for name, key in _SETTINGS.items() if given.get(name) is not None}
        use_hpip = given.get("enable_hpi")
        if not (use_hpip is None or isinstance(use_hpip, bool)):
            raise UsageError(
                f"PaddleOCR: enable_hpi: expected True or False, got {describe_value(use_hpip)}", "omit it"
            )
        settings = load_config(config or pipeline, {**chosen, **overrides}, origins)
        self._pipeline: OcrPipeline | None = OcrPipeline(settings, use_hpip)

    @property
    def pipeline(self) -> OcrPipeline:
        """The pipeline that reads. Raises UsageError after `close`."""
        if self._pipeline is None:
            raise UsageError("PaddleOCR: it is closed", "make a new one")
        return self._pipeline

    def predict_iter(self, input: Any, **arguments: Any) -> Iterator[PaddleOcrResult]:
        """Read pictures one by one, as the caller requests results; arguments and errors are those of
        `OcrPipeline.predict`.
        """
        pipeline = self.pipeline
        return map(PaddleOcrResult, pipeline.predict(input, **arguments))

    def predict(self, input: Any, **arguments: Any) -> list[PaddleOcrResult]:
        """Read pictures and return all results; arguments and errors are those of `OcrPipeline.predict`."""
        return list(self.predict_iter(input, **arguments))

    def ocr(self, img: Any, **arguments: Any) -> list[PaddleOcrResult]:
        """Do what `predict` does, with a DeprecationWarning, as in PaddleOCR 3."""
        warnings.warn("PaddleOCR.ocr is deprecated: call predict", DeprecationWarning, stacklevel=2)
        return self.predict(img, **arguments)

    def close(self) -> None:
        """Let go of the models."""
        self._pipeline = None

    def export_paddlex_config_to_yaml(self, yaml_path: str | Path) -> None:
        """Raise UsageError: edge-ocr's pipeline files have another format."""
        raise UsageError(
            f"cannot write {yaml_path}: edge-ocr does not write PaddleX's configuration",
            "write a pipeline file with: edge-ocr config get OCR --save-path .",
        )


def _rename(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments under PaddleOCR 3's names. Raises UsageError if one is given under two names."""
    renamed = dict(arguments)
    for old, new in _OLD_NAMES.items():
        value = renamed.pop(old, None)
        if value is None:
            continue
        if renamed.get(new) is not None:
            raise UsageError(f"PaddleOCR: {old} and {new} are the same argument", f"omit {old}")
        renamed[new] = value
    return renamed


def _choose_models(lang: Any, version: Any) -> tuple[str, dict[str, Any]]:
    """Return the pipeline for a language and a version, either of which may be None, and what else to set.

    Raises UsageError if there is none.
    """
    # ISO 639 has kn for Kannada, and ka for Georgian.
    lang = "kn" if lang == "ka" else lang
    language = {} if lang is None else {_LANGUAGE: lang}
    if version is None or not isinstance(lang, str | None):
        # The config refuses a language that is not a text.
        return "OCR", language
    if version not in tuple(_VERSIONS):
        raise UsageError(
            f"PaddleOCR: ocr_version: unknown version {describe_value(version)}", f"use one of {', '.join(_VERSIONS)}"
        )
    pipeline = _VERSIONS[version]
    if lang is None and pipeline is not None:
        return pipeline, {}
    wanted = find_language("ch" if lang is None else lang)
    # Where the version's own recogniser reads the language, it comes before those of single languages.
    names = [name for name in RECOGNIZERS if version in name]
    if pipeline is not None:
        names.insert(0, load_config(pipeline).rec_model)
    found = next((name for name in names if reads(name, wanted)), None)
    if found is None:
        raise UsageError(
            f"PaddleOCR: no recogniser of {version} reads {wanted.name}",
            f"omit ocr_version: lang then takes {wanted.recognizer}",
        )
    return pipeline or "OCR", {**language, _RECOGNIZER: found}
