"""Scripts written for PaddleX and PaddleOCR run with only their import changed; the real default models."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edge_ocr.config import load_config
from edge_ocr.core.types import Reading, TextLine, Word
from edge_ocr.errors import ConfigError, InputError, UsageError
from edge_ocr.models import store as model_store
from edge_ocr.models.types import PADDLE_CARRIER
from edge_ocr.paddleocr import _OTHER, _SETTINGS, PaddleOCR, PaddleOcrResult, _choose_models
from edge_ocr.paddlex import FIXED_ARGUMENTS, PREDICT_ARGUMENTS, translate_arguments
from edge_ocr.results import OcrResult

SIGN = ["山茶书店", "CAMELLIABOOKS&CAFE", "营业时间", "OPEN 10:00-22:00"]
# What PaddleX writes for a picture without document preprocessing.
JSON_KEYS = {
    "input_path",
    "page_index",
    "model_settings",
    "dt_polys",
    "text_det_params",
    "text_type",
    "textline_orientation_angles",
    "text_rec_score_thresh",
    "return_word_box",
    "rec_texts",
    "rec_scores",
    "rec_polys",
    "rec_boxes",
}
OWN_KEYS = ["input_path", "dt_polys", "dt_scores", "rec_text", "rec_score"]


@pytest.fixture(scope="module")
def make_ocr(default_models, tmp_path_factory) -> Callable[..., PaddleOCR]:
    def make(**arguments):
        with pytest.MonkeyPatch.context() as patch:
            if model_store.find_carrier(PADDLE_CARRIER) is not None:
                patch.setenv("EDGE_OCR_HOME", str(tmp_path_factory.mktemp("home")))
            return PaddleOCR(**arguments)

    return make


@pytest.fixture(scope="module")
def ocr(make_ocr) -> PaddleOCR:
    return make_ocr(use_doc_orientation_classify=False, use_doc_unwarping=False, use_textline_orientation=False)


def make_words_result() -> OcrResult:
    def square(left: int) -> np.ndarray:
        return np.array([[left, 10], [left + 30, 10], [left + 30, 30], [left, 30]], dtype=np.float32)

    words = (Word("ab", 0.5, square(10), ()), Word("cd", 0.75, square(50), ()))
    line = TextLine(np.array([[10, 10], [80, 10], [80, 30], [10, 30]], np.float32), 0.875, "ab cd", 0.625, words)
    reading = Reading([line], {}, page_angle=90, return_words="words")
    return OcrResult(reading, np.zeros((40, 90, 3), np.uint8), "a.png", None, "a", load_config("OCR"))


# Scripts


def test_tutorials_script_of_paddlex(open_pipeline, examples, tmp_path, capsys):
    # The pipeline is that of create_pipeline("OCR"), built once for all tests.
    output = open_pipeline().predict(str(examples / "sign.png"))
    for res in output:
        res.print()
        res.save_to_img(tmp_path)
        res.save_to_json(tmp_path)
    assert json.loads(capsys.readouterr().out)["rec_text"] == SIGN
    assert json.loads((tmp_path / "sign_res.json").read_text(encoding="utf-8"))["rec_text"] == SIGN
    assert (tmp_path / "sign_res.jpg").stat().st_size > 1000


def test_script_of_paddlex_3(open_pipeline, examples, tmp_path):
    lines = []
    for res in open_pipeline().predict(
        input=[str(examples / "sign.png"), str(examples / "label.png")],
        use_doc_orientation_classify=False,
        use_doc_unwarping=False,
        use_textline_orientation=False,
    ):
        assert "rec_texts" in res
        for text, score, box in zip(res["rec_texts"], res["rec_scores"], res["rec_boxes"].tolist(), strict=True):
            left, top, right, bottom = box
            assert left < right
            assert top < bottom
            if score > 0.9:
                lines.append(text)
        res.save_all(save_path=str(tmp_path))
        res.img["ocr_res_img"].save(tmp_path / "drawn.png")
        assert json.loads(json.dumps(res.json))["res"]["rec_texts"] == res["rec_texts"]
    assert lines[:4] == SIGN
    assert len(lines) == 4 + 15
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "drawn.png",
        "label_res.jpg",
        "label_res.json",
        "sign_res.jpg",
        "sign_res.json",
    ]


def test_script_of_paddleocr_3(ocr, examples, tmp_path, capsys):
    result = ocr.predict(str(examples / "sign.png"))
    for res in result:
        res.print()
        res.save_to_img(str(tmp_path))
        res.save_to_json(str(tmp_path))
    assert len(result) == 1
    printed = json.loads(capsys.readouterr().out)
    saved = json.loads((tmp_path / "sign_res.json").read_text(encoding="utf-8"))
    assert printed == saved == result[0].json["res"]
    assert saved.keys() == JSON_KEYS
    assert saved["rec_texts"] == SIGN


def test_script_that_draws_and_crops(ocr, examples):
    image = cv2.imread(str(examples / "sign.png"))
    (res,) = ocr.predict(image)
    for poly, box in zip(res["dt_polys"], res["rec_boxes"], strict=True):
        cv2.polylines(image, [poly.reshape(-1, 1, 2)], isClosed=True, color=(0, 0, 255), thickness=2)
        left, top, right, bottom = box.astype(int)
        assert image[top:bottom, left:right].size == 3 * (bottom - top) * (right - left)
        assert poly.tolist() == np.array(poly).tolist()
    assert res["input_path"] is None
    assert (image == (0, 0, 255)).all(axis=2).any()


def test_script_that_reads_one_by_one(ocr, examples):
    found = ocr.predict_iter([examples / "sign.png", examples / "missing.png"])
    assert next(found)["rec_texts"] == SIGN
    with pytest.raises(InputError, match=r"missing\.png"):
        next(found)


def test_script_of_paddleocr_2_calls_ocr(make_ocr, examples):
    old = make_ocr(use_angle_cls=False, det_db_box_thresh=0.5, rec_batch_num=4, cpu_threads=1, enable_mkldnn=True)
    with pytest.warns(DeprecationWarning, match="predict"):
        (res,) = old.ocr(str(examples / "sign.png"))
    assert res["rec_texts"] == SIGN
    assert res["text_det_params"]["box_thresh"] == 0.5
    assert old.pipeline.config.values["Pipeline.text_rec_batch_size"] == 4
    assert old.pipeline.config.threads == 1


# Keys and types


def test_paddlex_keys_are_read_but_not_listed(read_example):
    result = read_example("sign.png")
    assert list(result) == list(dict(result)) == OWN_KEYS
    assert "rec_texts" in result
    assert result["page_index"] is None
    assert result.get("rec_formula") is None
    with pytest.raises(KeyError):
        result["rec_formula"]
    assert result["rec_texts"] == result["rec_text"] == SIGN
    assert result["rec_scores"] == result["rec_score"]
    assert np.array(result["dt_polys"]).shape == (4, 4, 2)


def test_results_of_paddleocr_have_paddlex_keys_and_types(ocr, examples):
    (result,) = ocr.predict(examples / "sign.png")
    assert set(result) == set(dict(result)) == JSON_KEYS | {"doc_preprocessor_res"}
    assert len(result) == len(list(result))
    assert (result["rec_text"], len(result["dt_scores"])) == (SIGN, 4)
    for key in ("dt_polys", "rec_polys"):
        assert [(poly.shape, poly.dtype.name) for poly in result[key]] == [((4, 2), "int32")] * 4
    assert (result["rec_boxes"].shape, result["rec_boxes"].dtype.name) == ((4, 4), "int32")
    polys = np.array(result["rec_polys"])
    assert result["rec_boxes"].tolist() == np.hstack([polys.min(axis=1), polys.max(axis=1)]).tolist()
    assert {type(score) for score in result["rec_scores"]} == {float}
    assert result["doc_preprocessor_res"]["output_img"].shape == result.image.shape
    assert result["model_settings"] == {"use_doc_preprocessor": False, "use_textline_orientation": False}
    assert result["text_det_params"] == {
        "limit_side_len": 960,
        "limit_type": "max",
        "thresh": 0.3,
        "box_thresh": 0.6,
        "unclip_ratio": 1.5,
        "max_side_limit": 4000,
    }
    assert result["textline_orientation_angles"] == [-1] * 4


def test_results_can_be_pickled(ocr, read_example, examples):
    for result in (read_example("sign.png"), *ocr.predict(examples / "sign.png")):
        again = pickle.loads(pickle.dumps(result))
        assert again.json == result.json
        assert list(again) == list(result)


def test_empty_result_has_empty_arrays(ocr):
    (result,) = ocr.predict(np.full((80, 120, 3), 255, np.uint8))
    assert (result["rec_texts"], result["rec_scores"], result["rec_polys"]) == ([], [], [])
    assert result["rec_boxes"].shape == (0, 4)
    assert result.json["res"]["rec_boxes"] == []


def test_picture_is_the_one_that_is_saved(read_example, tmp_path):
    result = read_example("sign.png")
    picture = result.img["ocr_res_img"]
    assert isinstance(picture, Image.Image)
    saved = Image.open(result.save_to_img(tmp_path / "saved.png"))
    assert np.array_equal(np.asarray(picture), np.asarray(saved.convert("RGB")))


def test_words_and_page_angle_are_under_paddlex_names():
    result = PaddleOcrResult(make_words_result())
    assert result["text_word"] == [["ab", "cd"]]
    assert [boxes.tolist() for boxes in result["text_word_boxes"]] == [[[10, 10, 40, 30], [50, 10, 80, 30]]]
    assert result["text_word_region"][0][1] == [[50, 10], [80, 10], [80, 30], [50, 30]]
    assert result["doc_preprocessor_res"]["angle"] == 90
    content = json.loads(json.dumps(result.json))["res"]
    assert content["return_word_box"] is True
    assert content["text_word_boxes"] == [[[10, 10, 40, 30], [50, 10, 80, 30]]]
    assert content["doc_preprocessor_res"]["angle"] == 90
    assert "output_img" not in content["doc_preprocessor_res"]


def test_result_without_config_lacks_settings():
    known = make_words_result()
    result = OcrResult(known.reading, known.image, "a.png", None, "a")
    assert result["rec_texts"] == ["ab cd"]
    assert "text_det_params" in known
    assert "text_det_params" not in result


# Arguments of predict


def test_arguments_of_one_call_change_that_call_only(open_pipeline, examples):
    pipeline = open_pipeline()
    before = pipeline.config
    (strict,) = pipeline.predict(examples / "sign.png", text_rec_score_thresh=0.99, text_det_limit_side_len=None)
    assert strict["rec_texts"] == SIGN[:3]
    assert strict["text_rec_score_thresh"] == 0.99
    (small,) = pipeline.predict(
        examples / "sign.png",
        text_det_limit_side_len=320,
        text_det_limit_type="long",
        text_det_thresh=0.2,
        text_det_box_thresh=0.4,
        text_det_unclip_ratio=1.75,
        text_det_max_side_limit=4000,
    )
    assert small["text_det_params"] == {
        "limit_side_len": 320,
        "limit_type": "long",
        "thresh": 0.2,
        "box_thresh": 0.4,
        "unclip_ratio": 1.75,
        "max_side_limit": 4000,
    }
    assert pipeline.config is before


def test_line_orientation_can_be_left_out_of_one_call(make_ocr, examples, example_labels, judge):
    ocr = make_ocr(use_textline_orientation=True)
    words = example_labels["upside_down.png"]["words"]
    (without,) = ocr.predict(examples / "upside_down.png", use_textline_orientation=False)
    assert judge.match(words, without).exact == 0
    assert without["model_settings"]["use_textline_orientation"] is False
    for again in (None, True):
        (turned,) = ocr.predict(examples / "upside_down.png", use_textline_orientation=again)
        assert judge.match(words, turned).exact == len(words)
        assert "textline_orientation_angles" not in turned
    off = ocr.pipeline.derive({"Pipeline.use_text_line_orientation": False})
    (back,) = off.derive({"Pipeline.use_text_line_orientation": True}).predict(examples / "upside_down.png")
    assert judge.match(words, back).exact == len(words)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"use_doc_unwarping": True}, "use_doc_unwarping"),
        ({"use_textline_orientation": True}, "use_text_line_orientation"),
        ({"use_doc_orientation_classify": True}, "use_page_orientation"),
        ({"text_det_max_side_limit": 5000}, "4000.*5000"),
        ({"text_det_thresh": 2}, "predict: Detection.thresh.*2"),
        ({"text_det_limit_type": "short"}, "short"),
        ({"return_word_box": "yes"}, "return_word_box.*yes"),
        ({"use_textline_orientation": "no"}, "no"),
        ({"batch_sizes": 1}, "batch_sizes"),
    ],
    ids=str,
)
def test_wrong_arguments_of_predict_are_refused_at_the_call(open_pipeline, ocr, examples, arguments, match):
    for predict in (open_pipeline().predict, ocr.predict, ocr.predict_iter):
        with pytest.raises(UsageError, match=match):
            predict(examples / "sign.png", **arguments)


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("text_det_tresh", "text_det_thresh"),
        ("cls", "use_textline_orientation"),
        ("xyz", "text_det_box_thresh, text_det_unclip_ratio"),
    ],
)
def test_unknown_argument_names_the_nearest(ocr, argument, hint):
    with pytest.raises(UsageError) as caught:
        ocr.predict("a.png", **{argument: 1})
    assert hint in caught.value.hint


def test_words_of_one_call(ocr, examples):
    (result,) = ocr.predict(examples / "sign.png", return_word_box=True)
    assert result["return_word_box"] is True
    assert result["text_word"][0] == list(SIGN[0])
    for boxes, words, line in zip(result["text_word_boxes"], result["text_word"], result["rec_boxes"], strict=True):
        assert boxes.shape == (len(words), 4)
        assert (np.abs(boxes[:, [1, 3]] - line[[1, 3]]) < 20).all()
    (without,) = ocr.predict(examples / "sign.png")
    assert "text_word" not in without


def test_words_are_asked_for_by_paddlex_name():
    assert translate_arguments({"return_word_box": True}, "x") == {"Recognition.return_words": "words"}
    assert translate_arguments({"return_word_box": False}, "x") == {"Recognition.return_words": "none"}
    assert translate_arguments({"return_word_box": None, "use_doc_unwarping": False}, "x") == {}


# The constructor


@pytest.mark.parametrize("page", ["paddleocr.md", "paddleocr.zh.md"])
def test_page_lists_every_argument(repository, page):
    text = (repository / "docs" / "howto" / page).read_text(encoding="utf-8")
    listed = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", text, re.MULTILINE)
    named = {name for cell in listed for name in re.findall(r"`(\w+)`", cell)}
    assert named == {*_SETTINGS, *FIXED_ARGUMENTS, *_OTHER}
    for keys in (PREDICT_ARGUMENTS, _SETTINGS):
        assert all(f"`{key}`" in text for key in keys.values())


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"use_doc_unwarping": True}, "use_doc_unwarping"),
        ({"show_log": False}, "show_log"),
        ({"text_det_input_shape": (3, 640, 640)}, "text_det_input_shape"),
        ({"ocr_version": "PP-OCRv2"}, "PP-OCRv2"),
        ({"ocr_version": ["PP-OCRv4"]}, "PP-OCRv4"),
        ({"ocr_version": "PP-OCRv4", "lang": "fr"}, "PP-OCRv4.*French"),
        ({"ocr_version": "PP-OCRv3"}, "PP-OCRv3.*Chinese"),
        ({"lang": "klingon"}, "klingon"),
        ({"lang": 5, "ocr_version": "PP-OCRv5"}, "lang.*5"),
        ({"use_angle_cls": True, "use_textline_orientation": False}, "use_angle_cls"),
        ({"paddlex_config": {}}, "paddlex_config"),
        ({"paddlex_config": "OCR", "ocr_version": "PP-OCRv4"}, "ocr_version"),
        ({"device": "tpu"}, "tpu"),
        ({"engine": "transformers"}, "transformers"),
        ({"enable_hpi": "x"}, "enable_hpi.*x"),
        ({"rec_char_dict_path": "keys.txt"}, "rec_char_dict_path"),
        ({"det_db_thresh": 2}, "text_det_thresh: Detection.thresh.*2"),
        ({"lang": "fr", "text_recognition_model_name": "PP-OCRv4_mobile_rec"}, "lang.*text_recognition_model_name"),
    ],
    ids=str,
)
def test_wrong_arguments_of_the_constructor_are_refused(arguments, match):
    with pytest.raises(UsageError, match=match):
        PaddleOCR(**arguments)


@pytest.mark.parametrize(
    ("lang", "version", "models"),
    [
        (None, None, ("PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec")),
        ("ch", None, ("PP-OCRv6_small_det", "PP-OCRv6_small_rec")),
        ("korean", None, ("PP-OCRv5_mobile_det", "korean_PP-OCRv5_mobile_rec")),
        (None, "PP-OCRv4", ("PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec")),
        (None, "PP-OCRv5", ("PP-OCRv5_mobile_det", "PP-OCRv5_mobile_rec")),
        (None, "PP-OCRv6", ("PP-OCRv6_small_det", "PP-OCRv6_small_rec")),
        ("en", "PP-OCRv4", ("PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec")),
        ("japan", "PP-OCRv5", ("PP-OCRv5_mobile_det", "PP-OCRv5_mobile_rec")),
        ("french", "PP-OCRv5", ("PP-OCRv5_mobile_det", "latin_PP-OCRv5_mobile_rec")),
        ("french", "PP-OCRv6", ("PP-OCRv6_small_det", "PP-OCRv6_small_rec")),
        ("japan", "PP-OCRv3", ("PP-OCRv4_mobile_det", "japan_PP-OCRv3_mobile_rec")),
        ("ka", "PP-OCRv3", ("PP-OCRv4_mobile_det", "ka_PP-OCRv3_mobile_rec")),
        ("ka", None, ("PP-OCRv5_mobile_det", "ka_PP-OCRv4_rec")),
    ],
)
def test_language_and_version_choose_the_models(lang, version, models):
    config = load_config(*_choose_models(lang, version))
    assert (config.det_model, config.rec_model) == models


def test_models_come_by_name_or_folder_and_the_folder_wins(make_ocr, default_models, tmp_path, examples):
    for model in default_models.values():
        if model.kind in ("det", "rec"):
            folder = tmp_path / model.kind
            folder.mkdir()
            for path in (model.program, model.params):
                (folder / f"inference{path.suffix}").write_bytes(path.read_bytes())
    (tmp_path / "rec" / "dict.txt").write_text(
        "\n".join(default_models["PP-OCRv4_mobile_rec"].dictionary) + "\n", encoding="utf-8"
    )
    ocr = make_ocr(
        text_detection_model_dir=str(tmp_path / "det"),
        text_detection_model_name="PP-OCRv4_mobile_det",
        text_recognition_model_dir=tmp_path / "rec",
        text_recognition_model_name="PP-OCRv4_mobile_rec",
        text_rec_score_thresh=0.0,
        device="cpu",
    )
    assert ocr.pipeline.config.det_model == str(tmp_path / "det")
    assert ocr.pipeline.config.rec_model == str(tmp_path / "rec")
    assert ocr.pipeline.config.recognition.text_score == 0
    assert ocr.predict(examples / "sign.png")[0]["rec_texts"] == SIGN


def test_configuration_is_a_pipeline_file_of_edge_ocr(make_ocr, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("Detection:\n  box_thresh: 0.55\n", encoding="utf-8")
    assert make_ocr(paddlex_config=path).pipeline.config.detection.box_threshold == 0.55
    path.write_text("pipeline_name: OCR\nSubModules:\n  TextDetection:\n    thresh: 0.3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        make_ocr(paddlex_config=path)


def test_old_name_that_is_none_sets_nothing(make_ocr):
    ocr = make_ocr(det_db_thresh=None, text_det_thresh=0.25, rec_model_dir=None)
    assert ocr.pipeline.config.detection.bin_threshold == 0.25


def test_closed_one_reads_no_more(make_ocr, examples, tmp_path):
    ocr = make_ocr()
    with pytest.raises(UsageError, match=r"out\.yaml"):
        ocr.export_paddlex_config_to_yaml(tmp_path / "out.yaml")
    assert not list(Path(tmp_path).iterdir())
    ocr.close()
    ocr.close()
    with pytest.raises(UsageError, match="closed"):
        ocr.predict(examples / "sign.png")
