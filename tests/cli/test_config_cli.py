"""`edge-ocr config`: the shipped files, and the settings in force."""

from __future__ import annotations

import json

import pytest

from edge_ocr.config import find_config, find_config_folder, load_config

SHIPPED = sorted(path.stem for path in find_config_folder().glob("*.yaml"))


def test_list_has_every_shipped_pipeline_with_its_models(cli):
    done = cli("config", "list")
    assert (done.code, done.err) == (0, "")
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [row[0] for row in rows] == SHIPPED
    assert ["OCR", "PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec", "-", "-"] in rows
    for name, *models in rows:
        config = load_config(name)
        assert models[:2] == [config.det_model, config.rec_model]
    listed = json.loads(cli("config", "list", "--json").out)
    assert [list(row) for row in listed] == [["name", "det_model", "rec_model", "cls_model", "page_model"]] * len(
        SHIPPED
    )
    assert [[value or "-" for value in row.values()] for row in listed] == rows


def test_list_names_the_classifier_of_a_pipeline_that_uses_it(cli, tmp_path, monkeypatch):
    (tmp_path / "Mine.yaml").write_text("Pipeline: {use_text_line_orientation: true}\n")
    monkeypatch.setattr("edge_ocr.config.find_config_folder", lambda: tmp_path)
    done = cli("config", "list")
    assert done.out == "Mine\tPP-OCRv4_mobile_det\tPP-OCRv4_mobile_rec\tch_ppocr_mobile_v2_cls\t-\n"


def test_get_prints_the_shipped_file(cli):
    done = cli("config", "get", "OCR")
    assert (done.code, done.err) == (0, "")
    assert done.out == find_config("OCR").read_text(encoding="utf-8")


def test_get_writes_a_file_that_loads(cli, tmp_path):
    done = cli("config", "get", "OCR", "--save-path", tmp_path / "new")
    path = tmp_path / "new" / "OCR.yaml"
    assert (done.code, done.out) == (0, f"{path}\n")
    assert load_config(path).values == load_config("OCR").values


def test_get_overwrites_only_with_force(cli, tmp_path):
    path = tmp_path / "OCR.yaml"
    path.write_text("mine")
    done = cli("config", "get", "OCR", "--save-path", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert f"{path} exists" in done.err
    assert "--force" in done.err
    assert path.read_text() == "mine"
    assert cli("config", "get", "OCR", "--save-path", tmp_path, "--force").code == 0
    assert path.read_text(encoding="utf-8") == find_config("OCR").read_text(encoding="utf-8")


def test_get_into_a_file_is_refused(cli, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = cli("config", "get", "OCR", "--save-path", tmp_path / "file")
    assert done.code == 2
    assert "cannot write" in done.err


@pytest.mark.parametrize("arguments", [("get", "nix"), ("show", "--pipeline", "nix")])
def test_unknown_pipeline(cli, arguments):
    done = cli("config", *arguments)
    assert (done.code, done.out) == (3, "")
    assert "unknown pipeline 'nix'" in done.err
    assert "OCR" in done.err


def test_show_names_the_origin_of_each_value(cli, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("Detection: {thresh: 0.2, box_thresh: 0.5}\n")
    options = ["--pipeline", path, "--threads", "3", "--set", "Detection.box_thresh=0.7"]
    rows = json.loads(cli("config", "show", *options, "--json").out)
    assert set(rows) == set(load_config().values)
    assert rows["Detection.thresh"] == {"value": 0.2, "from": str(path)}
    assert rows["Detection.box_thresh"] == {"value": 0.7, "from": "--set"}
    assert rows["Runtime.threads"] == {"value": 3, "from": "--threads"}
    assert rows["Detection.unclip_ratio"] == {"value": 1.5, "from": "default"}


def test_named_option_wins_over_set(cli):
    rows = json.loads(cli("config", "show", "--set", "Runtime.threads=5", "--threads", "3", "--json").out)
    assert rows["Runtime.threads"] == {"value": 3, "from": "--threads"}


def test_set_may_reset_a_value(cli, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("Runtime: {threads: 4}\n")
    rows = json.loads(cli("config", "show", "--pipeline", path, "--set", "Runtime.threads=null", "--json").out)
    assert rows["Runtime.threads"] == {"value": None, "from": "--set"}


def test_set_is_read_by_the_type_of_the_key(cli, write_recognizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recognizer(tmp_path / "2024", classes=4, dictionary="a\nb\n")
    options = ["--set", "Pipeline.text_rec_model=2024", "--set", "Detection.thresh=1e-1"]
    done = cli("config", "show", *options, "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)
    assert rows["Pipeline.text_rec_model"] == {"value": "2024", "from": "--set"}
    assert rows["Detection.thresh"] == {"value": 0.1, "from": "--set"}
    assert rows["Recognition.image_shape"] == {"value": [3, 32, 320], "from": "input of 2024"}


def test_show_in_a_pipe_is_a_line_a_key(cli):
    done = cli("config", "show")
    assert (done.code, done.err) == (0, "")
    lines = [line.split("\t") for line in done.out.splitlines()]
    assert [line[0] for line in lines] == list(load_config().values)
    assert ["Detection.thresh", "0.3", "default"] in lines
    assert ["Pipeline.device", '"cpu"', "configs/OCR.yaml"] in lines


def test_show_names_the_models_own_settings(cli, tmp_path):
    folder = tmp_path / "det"
    folder.mkdir()
    (folder / "inference.pdmodel").write_bytes(b"x")
    (folder / "inference.pdiparams").write_bytes(b"x")
    (folder / "inference.yml").write_text("PostProcess: {name: DBPostProcess, thresh: 0.25}\n")
    rows = json.loads(cli("config", "show", "--det-model", folder, "--json").out)
    assert rows["Detection.thresh"]["value"] == 0.25
    assert "inference.yml" in rows["Detection.thresh"]["from"]


def test_show_of_a_model_that_is_not_here_fetches_nothing(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path))
    # No server listens there.
    monkeypatch.setenv("EDGE_OCR_MODEL_URL", "http://127.0.0.1:9")
    done = cli("config", "show", "--det-model", "PP-OCRv4_server_det", "--json")
    assert done.code == 0
    assert json.loads(done.out)["Pipeline.text_det_model"]["value"] == "PP-OCRv4_server_det"


@pytest.mark.parametrize(
    ("options", "code"),
    [(["--set", "x"], 2), (["--threads", "0"], 2), (["--set", "Detection.nix=1"], 2), (["--rec-model", "nix"], 5)],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_options(cli, options, code):
    done = cli("config", "show", *options)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith(("Error: ", "Usage"))


def test_language_chooses_models_without_fetching_them(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path))
    rows = json.loads(cli("config", "show", "--lang", "arabic", "--json").out)
    assert rows["Pipeline.lang"] == {"value": "ar", "from": "--lang"}
    assert rows["Pipeline.text_rec_model"]["value"] == "arabic_PP-OCRv5_mobile_rec"
    assert rows["Recognition.direction"]["value"] == "rtl"


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("config show", ["--lang", "germn"], ["'germn'", "de (German)", "edge-ocr models languages"]),
        ("predict x.png", ["--lang", "qq"], ["'qq'", "edge-ocr models languages"]),
        ("serve", ["--lang", "qq"], ["'qq'", "edge-ocr models languages"]),
        ("export --target arm --out x", ["--lang", "qq"], ["'qq'", "edge-ocr models languages"]),
        (
            "predict x.png",
            ["--lang", "ja", "--rec-model", "PP-OCRv6_tiny_rec"],
            ["--lang", "--rec-model", "PP-OCRv6_small_rec"],
        ),
    ],
)
def test_language_that_is_unknown_or_not_read_is_refused(cli, command, options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").touch()
    done = cli(*command.split(), *options)
    assert (done.code, done.out) == (2, "")
    assert [word for word in words if word not in done.err] == []


def test_letters_that_no_recogniser_has_are_reported(cli):
    done = cli("config", "show", "--lang", "vi")
    assert "Vietnamese" in done.err
    assert "tone marks" in done.err
    assert cli("config", "show", "--lang", "de").err == ""
