"""What is read from an inference.yml, key by key, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.models import (
    FILES,
    make_folder,
    needs_carrier,
)

from edge_ocr.errors import ModelError
from edge_ocr.models.resolve import resolve_model
from edge_ocr.models.types import Kind, Model

pytestmark = pytest.mark.usefixtures("home")

DET_YML = """\
Global:
  model_name: PP-OCRv4_mobile_det
Hpi:
  backend_configs:
    paddle_infer:
      trt_dynamic_shapes: &id001
        x: [[1, 3, 160, 160]]
    tensorrt:
      dynamic_shapes: *id001
PreProcess:
  transform_ops:
  - DecodeImage:
      channel_first: false
      img_mode: BGR
  - DetLabelEncode: null
  - DetResizeForTest:
      resize_long: 960
  - NormalizeImage:
      mean: [0.485, 0.456, 0.406]
      order: hwc
      scale: 1./255.
      std: [0.229, 0.224, 0.225]
  - ToCHWImage
  - KeepKeys:
      keep_keys: [image, shape]
PostProcess:
  name: DBPostProcess
  thresh: 0.3
  box_thresh: 0.6
  max_candidates: 1000
  unclip_ratio: 2
"""

REC_YML = """\
Global:
  model_name: my_rec
PreProcess:
  transform_ops:
  - DecodeImage: {channel_first: false, img_mode: BGR}
  - MultiLabelEncode: {gtc_encode: NRTRLabelEncode}
  - RecResizeImg:
      image_shape: [3, 48, 320]
PostProcess:
  name: CTCLabelDecode
  character_dict:
"""

CLS_YML = """\
PreProcess:
  transform_ops:
  - ClsResizeImg:
      image_shape: [3, 80, 160]
  - NormalizeImage: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], scale: 0.00392156862745098, order: ''}
PostProcess:
  Topk:
    topk: 1
    label_list: [0_degree, 180_degree]
"""


# As published with PP-LCNet_x1_0_textline_ori and PP-LCNet_x1_0_doc_ori.
TEXTLINE_YML = """\
PreProcess:
  transform_ops:
  - ResizeImage: {size: [160, 80]}
  - NormalizeImage: {mean: [0.485, 0.456, 0.406], scale: 0.00392156862745098, std: [0.229, 0.224, 0.225]}
  - ToCHWImage: null
PostProcess:
  Topk: {topk: 1, label_list: [0_degree, 180_degree]}
"""
PAGE_YML = """\
PreProcess:
  transform_ops:
  - ResizeImage: {resize_short: 256}
  - CropImage: {size: 224}
  - NormalizeImage: {mean: [0.485, 0.456, 0.406], scale: 0.00392156862745098, std: [0.229, 0.224, 0.225]}
  - ToCHWImage: null
PostProcess:
  Topk: {topk: 1, label_list: ['0', '90', '180', '270']}
"""


def resolve_yml(tmp_path: Path, kind: Kind, text: str) -> Model:
    folder = tmp_path / "described"
    if not folder.exists():
        make_folder(folder, FILES)
    (folder / "inference.yml").write_text(text, encoding="utf-8")
    return resolve_model(folder, kind)


def test_classifiers_of_paddlex(tmp_path):
    assert resolve_yml(tmp_path, "cls", TEXTLINE_YML).settings == {"Orientation.image_shape": [3, 80, 160]}
    assert resolve_yml(tmp_path, "page", PAGE_YML).settings == {
        "PageOrientation.resize_short": 256,
        "PageOrientation.image_shape": [3, 224, 224],
        "PageOrientation.mean": [0.485, 0.456, 0.406],
        "PageOrientation.std": [0.229, 0.224, 0.225],
    }


def test_det_yml(tmp_path):
    model = resolve_yml(tmp_path, "det", DET_YML)
    assert model.name == "PP-OCRv4_mobile_det"
    assert model.settings == {
        "Detection.limit_side_len": 960,
        "Detection.limit_type": "max",
        "Detection.thresh": 0.3,
        "Detection.box_thresh": 0.6,
        "Detection.unclip_ratio": 2.0,
        "Detection.max_candidates": 1000,
        "Detection.mean": [0.485, 0.456, 0.406],
        "Detection.std": [0.229, 0.224, 0.225],
    }


@pytest.mark.parametrize(
    ("resize", "expected"),
    [
        ("null", {}),
        ("{limit_side_len: 736, limit_type: min}", {"limit_side_len": 736, "limit_type": "min"}),
        ("{limit_side_len: 960}", {"limit_side_len": 960}),
        ("{limit_side_len: 960, limit_type: resize_long}", {"limit_side_len": 960, "limit_type": "long"}),
        ("{limit_side_len: 960, limit_type: max, resize_long: 800}", {"limit_side_len": 960, "limit_type": "max"}),
    ],
)
def test_det_resize(tmp_path, resize, expected):
    text = f"PreProcess: {{transform_ops: [DetResizeForTest: {resize}]}}"
    settings = resolve_yml(tmp_path, "det", text).settings
    assert settings == {f"Detection.{key}": value for key, value in expected.items()}


def test_settings_are_valid_for_the_pipeline(tmp_path):
    config = pytest.importorskip("edge_ocr.config")
    texts: dict[Kind, str] = {"det": DET_YML, "rec": REC_YML + "  - a", "cls": CLS_YML}
    for kind, text in texts.items():
        for key, value in resolve_yml(tmp_path, kind, text).settings.items():
            config._FIELDS[key].type.check(value)


def test_cls_yml(tmp_path):
    model = resolve_yml(tmp_path, "cls", CLS_YML)
    assert model.settings == {"Orientation.image_shape": [3, 80, 160]}
    assert model.name == "described"
    text = (
        "PreProcess: {transform_ops: [ClsResizeImg: {image_shape: [3, 48, 192]}]}\nPostProcess: {name: ClsPostProcess}"
    )
    assert resolve_yml(tmp_path, "cls", text).settings == {"Orientation.image_shape": [3, 48, 192]}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("det", "PostProcess: {use_dilation: false, score_mode: fast, box_type: quad}"),
        ("rec", "PreProcess: {transform_ops: [RecResizeImg: {padding: true}]}\nPostProcess: {character_dict: [a]}"),
        (
            "rec",
            "PreProcess: {transform_ops: [NormalizeImage: {mean: [0.5, 0.5, 0.5]}]}\n"
            "PostProcess: {character_dict: [a]}",
        ),
        ("cls", "PostProcess: {label_list: ['0', '180']}"),
        ("cls", "PostProcess: {label_list: [0, 180]}"),
    ],
)
def test_supported_options_are_accepted(tmp_path, kind, text):
    assert resolve_yml(tmp_path, kind, text).settings == {}


def test_aliases_that_stand_for_gigabytes_make_no_long_message(tmp_path):
    levels = ["A0: &b0 [" + ", ".join("a" * 10) + "]"]
    levels += [f"A{i}: &b{i} [" + ", ".join([f"*b{i - 1}"] * 10) + "]" for i in range(1, 9)]
    bomb = "\n".join(levels) + "\n"
    for kind, text in (("det", "PostProcess: {thresh: *b8}"), ("cls", "PostProcess: {label_list: [*b8]}")):
        with pytest.raises(ModelError) as error:
            resolve_yml(tmp_path, kind, bomb + text)
        assert len(error.value.message) < 2000


def test_characters_stay_what_they_are(tmp_path):
    entries = [
        "'!'",
        "1",
        "007",
        "1e3",
        "true",
        "on",
        "y",
        "~",
        "null",
        "''''",
        "'#'",
        '"\\u3000"',
        "' '",
        "2001-01-01",
        "疗",
        "=",
        "<<",
    ]
    model = resolve_yml(tmp_path, "rec", REC_YML + "".join(f"  - {entry}\n" for entry in entries))
    assert model.dictionary == (
        *(
            "!",
            "1",
            "007",
            "1e3",
            "true",
            "on",
            "y",
            "~",
            "null",
            "'",
            "#",
            "\u3000",
            " ",
            "2001-01-01",
            "疗",
            "=",
            "<<",
        ),
    )
    assert model.settings == {"Recognition.image_shape": [3, 48, 320]}
    assert model.name == "my_rec"


def test_characters_as_paddleocr_dumps_them(tmp_path):
    import yaml

    characters = [chr(code) for code in (*range(0x20, 0x7F), 0xA0, 0x2028, 0x3000, 0xFEFF, 0x1F600)]
    dumped = yaml.dump({"PostProcess": {"name": "CTCLabelDecode", "character_dict": characters}}, allow_unicode=True)
    assert resolve_yml(tmp_path, "rec", dumped).dictionary == tuple(characters)


@needs_carrier
def test_empty_yml_changes_nothing(tmp_path):
    model = resolve_yml(tmp_path, "rec", "# nothing\n")
    assert (model.name, model.settings, len(model.dictionary)) == ("described", {}, 6623)


@pytest.mark.parametrize(
    ("kind", "text", "match"),
    [
        ("rec", DET_YML, r" rec .* det .*DBPostProcess"),
        ("cls", DET_YML, " cls .* det "),
        ("det", CLS_YML, " det .* cls "),
        ("det", REC_YML + "  - a", " det .* rec "),
        (
            "rec",
            "PostProcess: {name: NRTRLabelDecode}",
            r"inference\.yml: PostProcess\.name: expected one of .*actual 'NRTR",
        ),
        ("det", "- a", r"inference\.yml: expected a mapping, actual \['a'\]"),
        ("det", "Global: 1", r"inference\.yml: Global: expected a mapping, actual 1"),
        ("det", "Global: {model_name: 1}", r"inference\.yml: Global\.model_name: expected a .*, actual 1"),
        ("det", "PostProcess: {thresh: high}", r"PostProcess\.thresh: expected a number, actual 'high'"),
        ("det", "PostProcess: {box_thresh: true}", r"PostProcess\.box_thresh: expected a number, actual True"),
        ("det", "PostProcess: {max_candidates: 0.5}", r"PostProcess\.max_candidates: expected a whole number"),
        ("det", "PreProcess: {transform_ops: 3}", r"PreProcess\.transform_ops: expected a list, actual 3"),
        ("det", "PreProcess: {transform_ops: [1]}", r"PreProcess\.transform_ops\[0\]: "),
        (
            "det",
            "PreProcess: {transform_ops: [DetResizeForTest: {resize_long: x}]}",
            r"\[0\]\.DetResizeForTest\.resize_long",
        ),
        (
            "det",
            "PreProcess: {transform_ops: [DetResizeForTest: {limit_type: odd}]}",
            "expected max, min or resize_long",
        ),
        (
            "det",
            "PreProcess: {transform_ops: [NormalizeImage: {mean: [1, 2]}]}",
            r"mean: expected a list of three numbers",
        ),
        ("det", "PreProcess: {transform_ops: [NormalizeImage: {std: [1, 2, x]}]}", r"std\[2\]: expected a number"),
        ("det", "PreProcess: {transform_ops: [NormalizeImage: {std: [1, 2, null]}]}", r"std: expected a list of three"),
        ("det", "PreProcess: {transform_ops: [NormalizeImage: {scale: 1.0}]}", r"scale: expected 1/255.*actual 1\.0"),
        ("det", "PreProcess: {transform_ops: [NormalizeImage: {scale: 1/0}]}", r"scale: expected 1/255"),
        ("det", "PreProcess: {transform_ops: [NormalizeImage: {scale: __import__}]}", r"scale: expected 1/255"),
        ("det", "PreProcess: {transform_ops: [DecodeImage: {img_mode: RGB}]}", "img_mode: expected BGR.*actual 'RGB'"),
        (
            "rec",
            "PreProcess: {transform_ops: [RecResizeImg: {image_shape: [1, 32, 320]}]}",
            r"expected \[3, height, width\]",
        ),
        (
            "rec",
            "PreProcess: {transform_ops: [RecResizeImg: {image_shape: 48}]}",
            "image_shape: expected a list of 3 whole",
        ),
        ("cls", "PreProcess: {transform_ops: [ResizeImage: {size: 160}]}", r"ResizeImage\.size: expected a list of 2"),
        (
            "page",
            "PreProcess: {transform_ops: [ResizeImage: {size: [224, 224]}]}",
            r"size: expected resize_short",
        ),
        ("page", "PreProcess: {transform_ops: [NormalizeImage: {scale: 1.0}]}", r"scale: expected 1/255"),
        ("page", "PostProcess: {Topk: {label_list: ['0', '270', '180', '90']}}", r"Topk\.label_list: expected 0, 90"),
        ("cls", "PostProcess: {Topk: {label_list: ['0', '90', '180', '270']}}", "expected a cls model, actual a page"),
        ("page", "PostProcess: {Topk: {label_list: [0_degree, 180_degree]}}", "expected a page model, actual a cls"),
        ("cls", "PreProcess: {transform_ops: [NormalizeImage: {std: [0.2, 0.5, 0.5]}]}", r"expected 0\.5 "),
        ("cls", "PreProcess: {transform_ops: [NormalizeImage: {scale: 1.0}]}", r"scale: expected 1/255"),
        ("cls", "PostProcess: {label_list: ['180', '0']}", r"PostProcess\.label_list: expected 0 degrees before 180"),
        ("cls", "PostProcess: {label_list: [180, 0]}", r"PostProcess\.label_list: expected 0 degrees before 180"),
        ("cls", "PostProcess: {Topk: {label_list: [180_degree, 0_degree]}}", r"Topk\.label_list: expected 0 degrees"),
        (
            "det",
            "PreProcess: {transform_ops: [DetResizeForTest: {image_shape: [640, 640]}]}",
            r"DetResizeForTest\.image_shape: .*limit_side_len",
        ),
        ("det", "PostProcess: {use_dilation: true}", r"PostProcess\.use_dilation: .*actual True"),
        ("det", "PostProcess: {score_mode: slow}", r"PostProcess\.score_mode: .*actual 'slow'"),
        ("det", "PostProcess: {box_type: poly}", r"PostProcess\.box_type: .*actual 'poly'"),
        (
            "rec",
            "PreProcess: {transform_ops: [RecResizeImg: {padding: false}]}",
            r"RecResizeImg\.padding: .*actual False",
        ),
        (
            "rec",
            "PreProcess: {transform_ops: [NormalizeImage: {mean: [0.485, 0.456, 0.406]}]}",
            r"expected 0\.5 ",
        ),
        (
            "cls",
            "PreProcess: {transform_ops: [NormalizeImage: {mean: [0.485, 0.456, 0.406]}]}",
            r"expected 0\.5 ",
        ),
        ("rec", "PostProcess: {character_dict: []}", r"PostProcess\.character_dict: expected a list of characters"),
        ("rec", "PostProcess: {character_dict: abc}", r"PostProcess\.character_dict: expected a list of characters"),
        ("rec", "PostProcess: {character_dict: [a, [b]]}", r"PostProcess\.character_dict: .*strings"),
        ("det", "a: [", r"inference\.yml .*YAML"),
        ("det", "a: 2001-99-99", r"inference\.yml .*YAML"),
        ("det", "!!python/object/apply:os.system [true]", r"inference\.yml .*YAML"),
    ],
)
def test_unfit_yml(tmp_path, kind, text, match):
    with pytest.raises(ModelError, match=match) as e:
        resolve_yml(tmp_path, kind, text)
    assert str(tmp_path / "described" / "inference.yml") in e.value.message
    assert "\n" not in e.value.message


def test_yml_that_is_not_utf8(tmp_path):
    folder = make_folder(tmp_path / "mine", {**FILES, "inference.yml": b"a: \xff\xfe\xff"})
    with pytest.raises(ModelError, match="YAML"):
        resolve_model(folder, "det")
