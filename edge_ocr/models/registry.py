"""The registry: the models that edge-ocr knows by name, and where their files come from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edge_ocr.models.types import ONNX_CARRIER, PIR_RELEASE, CarriedFile, ModelSpec


def _carry(folder: str, pdmodel: str, pdiparams: str) -> tuple[CarriedFile, ...]:
    return (
        CarriedFile("inference.pdmodel", f"models/{folder}/inference.pdmodel", pdmodel),
        CarriedFile("inference.pdiparams", f"models/{folder}/inference.pdiparams", pdiparams),
    )


# The dictionary of the Chinese PP-OCRv4 models and their relatives.
DEFAULT_DICTIONARY = CarriedFile(
    "ppocr_keys_v1.txt",
    "ch_ppocr_rec/ppocr_keys_v1.txt",
    "28b2362ad4ab2dc38769aa72feb535e3a9ddb3fd2a7585a05920e6393b1dc7f7",
)
DICTIONARY_MODEL = "PP-OCRv4_mobile_rec"

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
# PostProcess in configs/det/PP-OCRv6/PP-OCRv6_{small,medium}_det.yml at the models' release, and in the inference.yml
# published with PP-OCRv6_small_det. Later configs have PP-OCRv5's values, with which PP-OCRv6 small reads fewer lines.
# PP-OCRv6_tiny_det.yml has a different box_thresh.
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
    """Return a PP-OCRv5 or v6 row: in PIR format, with its own dictionary."""
    is_det = name.endswith("_det")
    return ModelSpec(
        name,
        "det" if is_det else "rec",
        _DET_SHAPE if is_det else _REC_SHAPE,
        carried=carried,
        carrier=ONNX_CARRIER,
        archive=f"{name}_infer.tar",
        release=PIR_RELEASE,
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
        DICTIONARY_MODEL,
        "rec",
        _REC_SHAPE,
        DEFAULT_DICTIONARY.name,
        (
            *_carry(
                "ch_PP-OCRv4_rec_infer",
                "bf78f3898a004615e69c676259d8171bd7ae99000653b41fd72aaa36ae8bd304",
                "a6dbfa63e7ee161688523c954e9e293f77dc24044db81e836ff9c7f103fd191a",
            ),
            DEFAULT_DICTIONARY,
        ),
        "PP-OCRv4_mobile_rec_infer.tar",
    ),
    ModelSpec("PP-OCRv4_server_det", "det", _DET_SHAPE, archive="PP-OCRv4_server_det_infer.tar"),
    ModelSpec(
        "PP-OCRv4_server_rec", "rec", _REC_SHAPE, DEFAULT_DICTIONARY.name, archive="PP-OCRv4_server_rec_infer.tar"
    ),
    ModelSpec("ch_SVTRv2_rec", "rec", _REC_SHAPE, DEFAULT_DICTIONARY.name, archive="ch_SVTRv2_rec_infer.tar"),
    ModelSpec("ch_RepSVTR_rec", "rec", _REC_SHAPE, DEFAULT_DICTIONARY.name, archive="ch_RepSVTR_rec_infer.tar"),
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
