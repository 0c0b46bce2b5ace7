import json
import platform
import shutil

import pytest
import yaml

from converters.export import export_bundle
from converters.nb import read_header
from converters.targets import TARGETS, find_target
from converters.toolchain import PYTHON_VARIABLE, find_opt_interpreter
from edge_ocr.config import load_config
from edge_ocr.errors import ConversionError, ModelError, ToolchainError, UsageError
from edge_ocr.models import resolve_model


@pytest.fixture(scope="session")
def opt():
    if platform.machine() != "x86_64":
        pytest.skip("paddlelite has no wheel for this machine")
    return find_opt_interpreter()


@pytest.fixture
def no_opt(monkeypatch, tmp_path):
    """Makes the search for opt fail, so that an error seen is one from before that step."""
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "no-such-python"))


@pytest.fixture(scope="module")
def det():
    return resolve_model("PP-OCRv4_mobile_det", "det")


@pytest.fixture(scope="module")
def rec():
    return resolve_model("PP-OCRv4_mobile_rec", "rec")


def configure(**models):
    keys = {"det": "text_det_model", "rec": "text_rec_model", "cls": "text_line_orientation_model"}
    overrides = {f"Pipeline.{keys[kind]}": str(folder) for kind, folder in models.items()}
    if "cls" in models:
        overrides["Pipeline.use_text_line_orientation"] = True
    return load_config("OCR", overrides)


def copy_model(model, folder):
    folder.mkdir()
    shutil.copy(model.program, folder / "inference.pdmodel")
    shutil.copy(model.params, folder / "inference.pdiparams")
    return folder


def list_all(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_targets():
    assert find_target("arm").valid_places == "arm"
    assert all(name == target.name for name, target in TARGETS.items())
    with pytest.raises(UsageError, match="unknown target 'x86'") as caught:
        find_target("x86")
    assert "arm (ARM boards" in caught.value.hint


def test_export_of_the_shipped_models(opt, tmp_path, det, rec):
    out = tmp_path / "bundle"
    steps = []
    config = configure(cls="ch_ppocr_mobile_v2_cls")
    report = export_bundle("arm", out, config, report=steps.append)
    names = ["dict.txt", "manifest.json", "models/cls.nb", "models/det.nb", "models/rec.nb", "pipeline.yaml"]
    assert list_all(out) == names
    assert [model.kind for model in report.models] == ["det", "rec", "cls"]
    assert report.opt_version == "v2.13-rc"
    assert any(step.startswith("rec: converting") for step in steps)

    manifest = json.loads((out / "manifest.json").read_bytes())
    assert manifest["schema_version"] == 1
    assert manifest["target"] == "arm"
    assert manifest["lite"] == {
        "wheel_version": "2.13rc0",
        "opt_version": "v2.13-rc",
        "runtime_version": "v2.13-rc",
    }
    assert sorted([*manifest["files"], "manifest.json"]) == names
    for model in report.models:
        entry = manifest["models"][model.kind]
        assert (out / entry["file"]).stat().st_size == entry["size_bytes"] == model.size_bytes
        assert manifest["files"][entry["file"]]["sha256"] == entry["sha256"]
        assert {name: file["sha256"] for name, file in entry["source"]["files"].items()} == model.source_sha256
        assert read_header(out / entry["file"]).opt_version == manifest["lite"]["runtime_version"]
    assert manifest["models"]["rec"]["input"]["shape"] == [-1, 3, 48, -1]
    assert report.models[0].source_size_bytes == det.program.stat().st_size + det.params.stat().st_size

    lines = (out / "dict.txt").read_bytes().decode().split("\n")
    assert lines.pop() == ""
    assert lines == [*rec.dictionary, " "]
    assert manifest["charset"]["characters"] == len(lines) == 6624
    assert manifest["charset"]["classes"] == 6625
    assert load_config(out / "pipeline.yaml").values == config.values


def test_two_exports_differ_in_no_byte_and_hold_no_path(opt, tmp_path, det, rec):
    models = {"det": copy_model(det, tmp_path / "my_det"), "rec": copy_model(rec, tmp_path / "my_rec")}
    bundles = [tmp_path / "a", tmp_path / "elsewhere" / "b"]
    for out in bundles:
        export_bundle("arm", out, configure(**models))
    assert list_all(bundles[0]) == list_all(bundles[1])
    for name in list_all(bundles[0]):
        data = (bundles[0] / name).read_bytes()
        assert data == (bundles[1] / name).read_bytes(), name
        assert str(tmp_path).encode() not in data, name
    pipeline = yaml.safe_load((bundles[0] / "pipeline.yaml").read_bytes())
    assert pipeline["Pipeline"]["text_det_model"] == "my_det"
    assert pipeline["Pipeline"]["use_text_line_orientation"] is False


def test_settings_of_a_model_reach_the_bundle(opt, tmp_path, det):
    folder = copy_model(det, tmp_path / "my_det")
    (folder / "inference.yml").write_text("PostProcess: {name: DBPostProcess, thresh: 0.25}\n")
    export_bundle("arm", tmp_path / "bundle", configure(det=folder))
    pipeline = yaml.safe_load((tmp_path / "bundle" / "pipeline.yaml").read_bytes())
    assert pipeline["Detection"]["thresh"] == 0.25


def test_a_dictionary_of_the_users_is_checked_and_written(no_opt, tmp_path, rec):
    short = tmp_path / "short.txt"
    short.write_text("\n".join(rec.dictionary[:-2]), encoding="utf-8")
    config = load_config("OCR", {"Recognition.character_dict_path": str(short)})
    with pytest.raises(ModelError, match=r"6621 characters .* the model has 6625"):
        export_bundle("arm", tmp_path / "bundle", config)


def test_a_dictionary_that_holds_its_space_gives_the_same_dict(opt, tmp_path, rec):
    full = tmp_path / "full.txt"
    full.write_text("\n".join([*rec.dictionary, " "]) + "\n", encoding="utf-8")
    config = load_config("OCR", {"Recognition.character_dict_path": str(full)})
    export_bundle("arm", tmp_path / "bundle", config)
    assert (tmp_path / "bundle" / "dict.txt").read_bytes() == full.read_bytes()
    assert str(tmp_path) not in (tmp_path / "bundle" / "pipeline.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("inference.json", "PIR format", "Global.export_with_pir=False"),
        ("inference.onnx", "ONNX format", r"inference\.pdmodel"),
    ],
)
def test_other_formats_are_refused_before_any_work(no_opt, tmp_path, name, words, hint):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / name).write_bytes(b"{}")
    (folder / "inference.pdiparams").write_bytes(b"")
    if name == "inference.onnx":
        (folder / "inference.pdiparams").unlink()
    with pytest.raises(ConversionError, match=words) as caught:
        export_bundle("arm", tmp_path / "bundle", configure(det=folder))
    assert hint.replace("\\", "") in caught.value.hint
    assert not (tmp_path / "bundle").exists()


def test_exchanged_models_are_refused_before_any_work(no_opt, tmp_path, det, rec):
    folder = copy_model(rec, tmp_path / "my_rec")
    with pytest.raises(ModelError, match="my_rec is not a det model"):
        export_bundle("arm", tmp_path / "bundle", configure(det=folder))
    folder = copy_model(det, tmp_path / "my_det")
    with pytest.raises(ModelError, match="my_det is not a rec model"):
        export_bundle("arm", tmp_path / "bundle", configure(rec=folder))


def test_an_unreadable_program_is_refused_before_any_work(no_opt, tmp_path, det):
    folder = copy_model(det, tmp_path / "my_det")
    (folder / "inference.pdmodel").write_bytes(det.program.read_bytes()[:20000])
    with pytest.raises(ModelError, match=r"inference\.pdmodel: not a Paddle program"):
        export_bundle("arm", tmp_path / "bundle", configure(det=folder))


def test_the_order_is_target_place_models_toolchain(no_opt, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(UsageError, match="unknown target"):
        export_bundle("x86", tmp_path / "taken", configure(det="no-such-model"))
    with pytest.raises(UsageError, match="not empty"):
        export_bundle("arm", tmp_path / "taken", configure(det="no-such-model"))
    with pytest.raises(ModelError, match="no-such-model"):
        export_bundle("arm", tmp_path / "bundle", configure(det="no-such-model"))
    with pytest.raises(ToolchainError, match="no such program"):
        export_bundle("arm", tmp_path / "bundle", configure())
    assert not (tmp_path / "bundle").exists()


def test_a_model_that_opt_refuses_leaves_nothing(opt, tmp_path, det):
    folder = copy_model(det, tmp_path / "my_det")
    data = det.program.read_bytes().replace(b"hard_swish", b"hard_swosh")
    (folder / "inference.pdmodel").write_bytes(data)
    out = tmp_path / "out" / "bundle"
    with pytest.raises(ConversionError, match="hard_swosh"):
        export_bundle("arm", out, configure(det=folder))
    assert list(out.parent.iterdir()) == []
