"""The table of languages, and which models `Pipeline.lang` chooses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge_ocr import create_pipeline
from edge_ocr.config import load_config
from edge_ocr.errors import ConfigError, UsageError
from edge_ocr.models.languages import LANGUAGES, RECOGNIZERS, find_language, reads
from edge_ocr.models.registry import REGISTRY

MODELS = ("Pipeline.text_det_model", "Pipeline.text_rec_model")


def choose(pipeline="OCR", **options: str) -> tuple[str, str]:
    keys = {"lang": "Pipeline.lang", "det": MODELS[0], "rec": MODELS[1]}
    values = {keys[name]: value for name, value in options.items()}
    config = load_config(pipeline, values, {keys[name]: f"--{name}" for name in options})
    return config.det_model, config.rec_model


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_models_of_a_language_are_registry_rows(language):
    assert REGISTRY[language.recognizer].kind == "rec"
    assert REGISTRY[language.detector].kind == "det"
    assert reads(language.recognizer, language)
    direction = REGISTRY[language.recognizer].settings.get("Recognition.direction", "ltr")
    assert direction == ("rtl" if language.is_right_to_left else "ltr")


def test_languages_of_every_recogniser_are_known():
    assert set(RECOGNIZERS) == {name for name, row in REGISTRY.items() if row.kind == "rec"}
    assert not [name for name in RECOGNIZERS if not any(reads(name, language) for language in LANGUAGES.values())]


@pytest.mark.parametrize("code", LANGUAGES)
def test_codes_are_iso_639_with_a_script(code):
    assert re.fullmatch(r"[a-z]{2,3}(-[A-Z][a-z]{3})?", code)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("de", "de"),
        ("DE", "de"),
        ("de-AT", "de"),
        ("pt_BR", "pt"),
        ("German", "de"),
        ("german", "de"),
        ("french", "fr"),
        ("japan", "ja"),
        ("korean", "ko"),
        ("ch", "zh"),
        ("zh-CN", "zh"),
        ("zh-TW", "zh-Hant"),
        ("zh-hant", "zh-Hant"),
        ("chinese_cht", "zh-Hant"),
        ("sr-Latn", "sr-Latn"),
        ("rs_latin", "sr-Latn"),
        ("latin", "la"),
        ("arabic", "ar"),
        ("cyrillic", "bg"),
        ("eslav", "ru"),
        ("devanagari", "hi"),
    ],
)
def test_languages_have_several_names(name, code):
    assert find_language(name).code == code


@pytest.mark.parametrize(("name", "nearest"), [("germn", "de"), ("zh-Hnt", "zh-Hant"), ("koren", "ko"), ("qq", None)])
def test_unknown_language_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(UsageError, match=name) as caught:
        find_language(name)
    assert "edge-ocr models languages" in caught.value.hint
    assert nearest is None or f" {nearest} (" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("de", ("PP-OCRv6_small_det", "PP-OCRv6_small_rec")),
        ("ja", ("PP-OCRv6_small_det", "PP-OCRv6_small_rec")),
        ("ko", ("PP-OCRv5_mobile_det", "korean_PP-OCRv5_mobile_rec")),
        ("uk", ("PP-OCRv5_mobile_det", "eslav_PP-OCRv5_mobile_rec")),
        ("bg", ("PP-OCRv5_mobile_det", "cyrillic_PP-OCRv5_mobile_rec")),
        ("fa", ("PP-OCRv5_mobile_det", "arabic_PP-OCRv5_mobile_rec")),
    ],
)
def test_language_chooses_the_models(name, models):
    assert choose(lang=name) == models
    config = load_config("OCR", {"Pipeline.lang": name}, {"Pipeline.lang": "--lang"})
    assert [config.origins[key] for key in MODELS] == ["--lang, which sets Pipeline.lang"] * 2


def test_language_is_an_argument_of_create_pipeline():
    with pytest.raises(UsageError, match=r"argument lang: .*'qq'"):
        create_pipeline(lang="qq")
    with pytest.raises(UsageError, match=r"argument lang: .*ja.*PP-OCRv4_mobile_rec.*argument overrides"):
        create_pipeline(lang="ja", overrides={"Pipeline.text_rec_model": "PP-OCRv4_mobile_rec"})


def test_without_a_language_nothing_changes():
    assert choose() == ("PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec")


def test_models_that_the_user_names_stay():
    assert choose(lang="de", det="my_det/") == ("my_det/", "PP-OCRv6_small_rec")
    assert choose(lang="de", rec="PP-OCRv6_tiny_rec") == ("PP-OCRv4_mobile_det", "PP-OCRv6_tiny_rec")
    assert choose("OCR-v6", lang="ja") == ("PP-OCRv6_small_det", "PP-OCRv6_small_rec")


@pytest.mark.parametrize("rec", ["PP-OCRv6_tiny_rec", "PP-OCRv4_mobile_rec", "my_rec/"])
def test_recogniser_that_does_not_read_the_language_is_refused(rec):
    with pytest.raises(UsageError) as caught:
        choose(lang="ja", rec=rec)
    assert all(word in caught.value.message for word in ("--lang", "--rec", "ja", rec))
    assert "PP-OCRv6_small_rec" in caught.value.hint


def test_models_of_a_users_file_stay_whatever_its_name(tmp_path, monkeypatch):
    """Relative, the file's path reads like the origin of the shipped pipeline."""
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    Path("configs/OCR.yaml").write_text("Pipeline: {text_det_model: my_det/, text_rec_model: PP-OCRv6_tiny_rec}\n")
    assert choose("configs/OCR.yaml", lang="de") == ("my_det/", "PP-OCRv6_tiny_rec")


def test_pipeline_file_may_name_language_and_models(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("Pipeline: {lang: de, text_rec_model: PP-OCRv6_tiny_rec}")
    assert choose(path) == ("PP-OCRv4_mobile_det", "PP-OCRv6_tiny_rec")
    # An option replaces the file's language, but not its models.
    assert choose(path, lang="fr") == ("PP-OCRv4_mobile_det", "PP-OCRv6_tiny_rec")
    with pytest.raises(UsageError, match="PP-OCRv6_tiny_rec"):
        choose(path, lang="ja")
    path.write_text("Pipeline: {lang: ja, text_rec_model: PP-OCRv6_tiny_rec}")
    with pytest.raises(ConfigError, match="PP-OCRv6_tiny_rec"):
        choose(path)
    path.write_text("Pipeline: {lang: ja}")
    assert choose(path) == ("PP-OCRv6_small_det", "PP-OCRv6_small_rec")
    path.write_text("Pipeline: {lang: jq}")
    with pytest.raises(ConfigError, match=r"my\.yaml: Pipeline\.lang: .*'jq'"):
        choose(path)
