"""The pictures that integers are chosen on."""

import json
import shutil

import pytest

from converters.bundle.pictures import find_pictures_folder
from converters.quantise.pictures import read_calibration
from edge_ocr.config import load_config
from edge_ocr.errors import InputError

SETTINGS = load_config("OCR").input


def test_shipped_pictures_have_texts():
    found = read_calibration((), SETTINGS)
    assert found.are_shipped
    assert found.label == "shipped"
    assert len(found.pictures) == 4
    assert all(picture.words for picture in found.pictures)


def test_given_pictures_have_none_unless_a_gt_jsonl_is_there(tmp_path):
    shutil.copy(find_pictures_folder() / "sign.png", tmp_path)
    found = read_calibration((tmp_path,), SETTINGS)
    assert (found.label, found.are_shipped) == ("1 given", False)
    assert found.pictures[0].words is None
    word = {"poly": None, "text": "x"}
    (tmp_path / "gt.jsonl").write_text(json.dumps({"image": "sign.png", "words": [word]}))
    assert read_calibration((tmp_path,), SETTINGS).pictures[0].words == [word]
    assert read_calibration((tmp_path / "gt.jsonl",), SETTINGS).pictures[0].words == [word]
    assert read_calibration((tmp_path / "sign.png",), SETTINGS).pictures[0].words is None


@pytest.mark.parametrize("name", ["absent.png", "absent", "absent.jsonl"])
def test_missing_pictures(tmp_path, name):
    with pytest.raises(InputError, match=name):
        read_calibration((tmp_path / name,), SETTINGS)


def test_pictures_that_need_too_much_memory(monkeypatch):
    monkeypatch.setattr("converters.quantise.pictures._MAX_BYTES", 2**20)
    with pytest.raises(InputError, match="over 0 GB"):
        read_calibration((), SETTINGS)
