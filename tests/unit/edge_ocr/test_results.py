"""Results as a mapping, printed and saved; the results are synthetic."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ocr.config import load_config
from edge_ocr.core.types import Character, Reading, TextLine, Word
from edge_ocr.errors import UsageError
from edge_ocr.results import IMAGE_SUFFIXES, OcrResult, explain_empty_result

KEYS = ["input_path", "dt_polys", "dt_scores", "rec_text", "rec_score"]


def make_line(text: str, y: float) -> TextLine:
    polygon = np.array([[10, y], [90, y], [90, y + 20], [10, y + 20]], dtype=np.float32)
    return TextLine(polygon, 0.875, text, 0.75)


def make_result(
    *texts: str,
    input_path: str | None = "folder/photo.png",
    page_index: int | None = None,
    name: str = "photo",
    size: tuple[int, int] = (100, 120),
) -> OcrResult:
    lines = [make_line(text, 10.0 + 30 * i) for i, text in enumerate(texts)]
    timings = {"decode": 1.0, "detection": 2.0}
    return OcrResult(Reading(lines, timings), np.full((*size, 3), 255, np.uint8), input_path, page_index, name)


def list_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_result_is_a_mapping_with_the_tutorials_keys():
    result = make_result("你好", "b")
    assert isinstance(result, Mapping)
    assert list(result) == KEYS
    assert len(result) == 5
    assert dict(result) == {
        "input_path": "folder/photo.png",
        "dt_polys": [[[10, 10], [90, 10], [90, 30], [10, 30]], [[10, 40], [90, 40], [90, 60], [10, 60]]],
        "dt_scores": [0.875, 0.875],
        "rec_text": ["你好", "b"],
        "rec_score": [0.75, 0.75],
    }
    with pytest.raises(KeyError):
        result["text"]


def test_page_number_is_a_key_if_there_are_several_pages():
    result = make_result("a", page_index=1)
    assert list(result) == [*KEYS, "page_index"]
    assert result["page_index"] == result.page_index == 1
    assert json.loads(result.to_json())["page_index"] == 1
    assert make_result("a").page_index is None


@pytest.mark.parametrize("how", ["none", "words", "chars"])
def test_words_and_characters_are_keys_and_drawn(tmp_path, how):
    box = np.array([[12, 12], [30, 12], [30, 28], [12, 28]], np.float32)
    words = (Word("a", 0.5, box, (Character("a", 0.5, box),)),)
    line = replace(make_line("a", 10), words=None if how == "none" else words)
    result = OcrResult(Reading([line], {}, return_words=how), make_result().image, None, None, "x")
    keys = {"none": [], "words": ["text_word", "text_word_boxes"], "chars": ["text_word", "text_char"]}[how]
    assert {key.split("_region")[0] for key in result} >= {*KEYS, *keys}
    assert ("text_char" in result, "text_word" in result) == (how == "chars", how != "none")
    if how != "none":
        assert result["text_word"] == [["a"]]
        assert json.loads(result.to_json(indent=4))["text_word_region"] == [[box.tolist()]]
    plain = make_result("a").save_to_img(tmp_path / "plain.png").read_bytes()
    assert (result.save_to_img(tmp_path / "words.png").read_bytes() == plain) == (how == "none")


def test_values_are_plain():
    result = make_result("a")
    (polygon,) = result["dt_polys"]
    assert {type(number) for corner in polygon for number in corner} == {int}
    assert type(result["dt_scores"][0]) is type(result["rec_score"][0]) is float
    assert json.loads(json.dumps(dict(result))) == dict(result)


def test_no_text_gives_empty_lists():
    result = make_result(input_path=None)
    assert dict(result) == {"input_path": None, "dt_polys": [], "dt_scores": [], "rec_text": [], "rec_score": []}


def test_timings_are_given_as_a_copy():
    result = make_result()
    assert result.timings_ms == {"decode": 1.0, "detection": 2.0}
    result.timings_ms["decode"] = 9
    assert result.timings_ms["decode"] == 1.0


def test_repr_is_one_short_line():
    assert repr(make_result("a", "b")) == "<OcrResult folder/photo.png: 2 lines>"
    assert repr(make_result(input_path=None, name="image")) == "<OcrResult image: 0 lines>"


@pytest.mark.parametrize("indent", [None, 4])
@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_print_writes_json(capsys, indent, ensure_ascii):
    result = make_result("你好")
    result.print(format_json=True, indent=indent, ensure_ascii=ensure_ascii)
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == dict(result)
    assert ("你好" in out) != ensure_ascii
    assert (out.count("\n") == 1) == (indent is None)


def test_polygons_are_printed_and_saved_on_one_line_each(capsys, tmp_path):
    result = make_result("a", "b")
    result.print(indent=4)
    printed = capsys.readouterr().out
    saved = result.save_to_json(tmp_path, indent=2).read_text(encoding="utf-8")
    for text, margin in ((printed, " " * 8), (saved, " " * 4)):
        assert json.loads(text) == dict(result)
        assert f"\n{margin}[[10, 10], [90, 10], [90, 30], [10, 30]],\n" in text
        assert f"\n{margin}[[10, 40], [90, 40], [90, 60], [10, 60]]\n" in text


@pytest.mark.parametrize(
    ("input_path", "page_index", "label"),
    [("a/b.png", None, "a/b.png"), ("a.pdf", 1, "page 2 of a.pdf"), ("-", None, "standard input"), (None, None, "x")],
)
def test_empty_result_is_explained_by_the_config(input_path, page_index, label):
    result = make_result(input_path=input_path, page_index=page_index, name="x", size=(500, 1000))
    said = explain_empty_result(result, load_config())
    assert label in said
    assert "--orientation" in said
    assert "--limit-side-len 1000 (the picture, 1000×500, was scaled down to 960)" in said
    settings = {"Pipeline.use_text_line_orientation": True, "Detection.limit_side_len": 1000}
    assert explain_empty_result(result, load_config(overrides=settings)) == f"No text found in {label}"


def test_print_without_json_is_a_python_dict_on_one_line(capsys):
    make_result("你好").print(format_json=False)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.startswith("{'input_path': 'folder/photo.png'")


def test_json_goes_into_a_folder_under_the_inputs_name(tmp_path):
    result = make_result("你好")
    path = result.save_to_json(tmp_path / "new" / "folder", indent=2)
    assert path == tmp_path / "new" / "folder" / "photo_res.json"
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == dict(result)
    assert '\n  "rec_text"' in text
    assert "你好" in text
    assert list_files(path.parent) == ["photo_res.json"]


def test_json_goes_into_a_named_file(tmp_path):
    path = make_result("你好").save_to_json(str(tmp_path / "out.JSON"), indent=None, ensure_ascii=True)
    assert path == tmp_path / "out.JSON"
    assert path.read_text().isascii()


def test_picture_goes_into_a_folder(tmp_path):
    path = make_result("abc").save_to_img(str(tmp_path))
    assert path == tmp_path / "photo_res.jpg"
    picture = cv2.imread(str(path))
    # The picture on the left, the texts next to it.
    assert picture.shape[0] == 100
    assert picture.shape[1] > 120


@pytest.mark.parametrize("suffix", [*IMAGE_SUFFIXES, ".PNG"])
def test_picture_goes_into_a_named_file_of_any_kind(tmp_path, capfd, suffix):
    path = make_result("abc").save_to_img(tmp_path / f"out{suffix}")
    assert cv2.imread(str(path)).shape[0] == 100
    # OpenCV would warn about options that are not for this format.
    assert capfd.readouterr() == ("", "")


def test_picture_without_text_is_saved_too(tmp_path):
    assert cv2.imread(str(make_result().save_to_img(tmp_path))) is not None


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (20, 70_000), (70_000, 20)])
def test_odd_sizes_are_saved(tmp_path, size):
    path = make_result(size=size).save_to_img(tmp_path)
    assert cv2.imread(str(path)) is not None


def test_input_in_the_same_folder_is_not_overwritten(tmp_path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"the picture")
    result = make_result("a", input_path=str(photo))
    result.save_to_img(tmp_path)
    result.save_to_json(tmp_path)
    assert photo.read_bytes() == b"the picture"
    assert list_files(tmp_path) == ["photo.jpg", "photo_res.jpg", "photo_res.json"]


def test_older_result_is_replaced(tmp_path):
    make_result("old").save_to_json(tmp_path)
    make_result("new").save_to_json(tmp_path)
    assert json.loads((tmp_path / "photo_res.json").read_text())["rec_text"] == ["new"]


@pytest.mark.parametrize(("method", "name"), [("save_to_json", "out.txt"), ("save_to_img", "out.json")])
def test_file_with_another_suffix_is_not_a_folder(tmp_path, method, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=rf"{name}: .*file$"):
        getattr(make_result("a"), method)(tmp_path / name)
    assert (tmp_path / name).read_text() == "mine"


def test_missing_path_with_an_unknown_suffix_is_a_folder(tmp_path):
    assert make_result("a").save_to_json(tmp_path / "v1.2") == tmp_path / "v1.2" / "photo_res.json"


def test_folder_with_the_suffix_of_a_file_is_a_folder(tmp_path):
    (tmp_path / "run.json").mkdir()
    assert make_result("a").save_to_json(tmp_path / "run.json") == tmp_path / "run.json" / "photo_res.json"


@pytest.mark.parametrize("method", ["save_to_json", "save_to_img"])
def test_folder_in_the_place_of_a_file_is_refused_and_nothing_is_left(tmp_path, method):
    for name in ("photo_res.json", "photo_res.jpg"):
        (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match="cannot write"):
        getattr(make_result("a"), method)(tmp_path)
    assert list_files(tmp_path) == ["photo_res.jpg", "photo_res.json"]


@pytest.mark.parametrize("place", ["file/photo.json", "file/below/photo.json", "n" * 300 + ".json"])
def test_impossible_place_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="cannot write"):
        make_result("a").save_to_json(tmp_path / place)
    assert (tmp_path / "file").read_text() == "mine"
    assert list_files(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="cannot write"):
        make_result("a").save_to_json(tmp_path)
    assert list_files(tmp_path) == []


def test_failed_write_leaves_the_older_result(tmp_path, monkeypatch):
    make_result("old").save_to_json(tmp_path)

    def fill_disk(self: Path, content: bytes) -> None:
        with self.open("wb") as file:
            file.write(content[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_disk)
    with pytest.raises(UsageError, match="disk full"):
        make_result("new").save_to_json(tmp_path)
    monkeypatch.undo()
    assert json.loads((tmp_path / "photo_res.json").read_text())["rec_text"] == ["old"]
    assert list_files(tmp_path) == ["photo_res.json"]


def test_both_files_are_saved_as_each_alone(tmp_path):
    result = make_result("你好")
    paths = result.save_both(tmp_path / "both")
    assert paths == (tmp_path / "both" / "photo_res.json", tmp_path / "both" / "photo_res.jpg")
    assert paths[0].read_bytes() == result.save_to_json(tmp_path / "alone").read_bytes()
    assert paths[1].read_bytes() == result.save_to_img(tmp_path / "alone").read_bytes()
    assert list_files(tmp_path / "both") == ["photo_res.jpg", "photo_res.json"]


def test_name_that_is_no_utf8_is_kept_as_escapes(tmp_path):
    name = os.fsdecode(b"\xce\xd2.png")
    path = make_result("a", input_path=name).save_to_json(tmp_path / "out.json")
    assert json.loads(path.read_text(encoding="utf-8"))["input_path"] == name
