"""Words and characters of `/ocr`."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest
from support.service import FORM, assert_failed, make_form

from edge_ocr.serving.messages import OcrResultBody


def list_words(answer) -> list[list[str]]:
    return [[word["text"] for word in text["words"]] for text in answer.json["result"]["texts"]]


@pytest.mark.parametrize("how", ["words", "chars"])
def test_words_are_those_of_the_pipeline(service, sign, read_example, how):
    answer = service.read(sign, inferenceParams={"returnWordBox" if how == "words" else "returnCharBox": True})
    expected = read_example("sign.png", Recognition__return_words=how)
    texts = answer.json["result"]["texts"]
    assert [text["text"] for text in texts] == expected["rec_text"]
    assert list_words(answer) == expected["text_word"]
    for key, name in {"poly": "text_word_region", "score": "text_word_score"}.items():
        assert [[word[key] for word in text["words"]] for text in texts] == expected[name]
    words = [word for text in texts for word in text["words"]]
    assert all(("chars" in word) == (how == "chars") for word in words)
    if how == "chars":
        assert all("".join(one["text"] for one in word["chars"]) == word["text"] for word in words)
        characters = [[one for word in text["words"] for one in word["chars"]] for text in texts]
        for key, name in {"text": "text_char", "poly": "text_char_region", "score": "text_char_score"}.items():
            assert [[one[key] for one in line] for line in characters] == expected[name]


def test_words_are_there_only_if_requested(service, sign):
    plain = service.read(sign).json
    assert not any("words" in text for text in plain["result"]["texts"])
    assert service.read(sign, inferenceParams={"returnWordBox": False, "returnCharBox": None}).json == plain


def test_default_is_that_of_the_pipeline(start, open_pipeline, sign):
    service = start(open_pipeline().derive({"Recognition.return_words": "words"}))
    assert list_words(service.read(sign))
    assert list_words(service.read(sign)) == list_words(service.read(sign, inferenceParams={"returnWordBox": True}))
    for name in ("returnWordBox", "returnCharBox"):
        (text, *_) = service.read(sign, inferenceParams={name: False}).json["result"]["texts"]
        assert "words" not in text


def test_words_are_requested_in_any_way(service, sign):
    expected = service.read(sign, inferenceParams={"returnWordBox": True, "maxLongSide": 640}).json
    file = ("image", sign, "x.png")
    raw = {"content-type": "image/png"}
    side = ("maxLongSide", "640", None)
    for answer in (
        service.ask("/ocr?returnWordBox=true&maxLongSide=640", sign, headers=raw),
        service.ask("/ocr?returnWordBox=true", make_form(file, side), headers=FORM),
        service.ask("/ocr", make_form(side, file, ("returnWordBox", "true", None)), headers=FORM),
        service.ask("/ocr", make_form(side, file, ("inferenceParams", '{"returnWordBox": true}', None)), headers=FORM),
    ):
        assert answer.json == expected


@pytest.mark.parametrize("name", ["returnWordBox", "returnCharBox"])
def test_other_values_are_refused(service, sign, name):
    for value in (1, "true", [], 0.0):
        assert_failed(service.read(sign, inferenceParams={name: value}), 422, f"inferenceParams.{name}")
    for text in ("", "2", "words"):
        assert_failed(service.ask(f"/ocr?{name}={text}", sign, headers={"content-type": "image/png"}), 422, name)
    twice = service.ask(f"/ocr?{name}=true", make_form(("image", sign, "x"), (name, "true", None)), headers=FORM)
    assert_failed(twice, 422, f"{name}: given twice")


def test_answers_follow_the_document(service, sign):
    schemas = service.ask("/openapi.json").json["components"]["schemas"]
    assert set(schemas["Text"]["required"]) == {"poly", "text", "score"}
    assert set(schemas["Word"]["required"]) == {"poly", "text", "score"}
    for params in ({}, {"returnWordBox": True}, {"returnCharBox": True}):
        result = service.read(sign, inferenceParams=params).json["result"]
        OcrResultBody.model_validate(result)
        for text in result["texts"]:
            assert set(text) <= set(schemas["Text"]["properties"])
            for word in text.get("words", ()):
                assert set(word) <= set(schemas["Word"]["properties"])
                assert all(set(one) == set(schemas["Character"]["required"]) for one in word.get("chars", ()))


def test_picture_of_the_answer_has_the_words(service, sign):
    def draw(**params: bool):
        result = service.read(sign, inferenceParams=params).json["result"]
        return result, cv2.imdecode(np.frombuffer(base64.b64decode(result["image"]), np.uint8), cv2.IMREAD_COLOR)

    _, plain = draw()
    result, drawn = draw(returnWordBox=True)
    changed = np.abs(drawn.astype(int) - plain).max(axis=2) > 20
    inside = np.zeros(changed.shape, np.uint8)
    for text in result["texts"]:
        for word in text["words"]:
            cv2.fillPoly(inside, [np.array(word["poly"])], 255)
    # Only what is at a word changes.
    assert changed.sum() > 100
    assert changed[cv2.dilate(inside, np.ones((13, 13))) == 0].mean() < 1e-3
