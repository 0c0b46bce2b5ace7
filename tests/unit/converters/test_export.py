import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

import edge_ocr.core
from converters.bundle.targets import TARGETS, find_target
from converters.bundle.writer import open_bundle
from converters.export import export_bundle
from converters.graph.charsets import select_classes
from converters.graph.passes import PASSES, run_passes
from converters.lite.libraries.platforms import PLATFORMS, asset_url
from converters.lite.nb.cost import compute_cost
from converters.lite.nb.read import read_nb
from converters.lite.toolchain import PYTHON_VARIABLE, find_wheel
from converters.plan import ExportOptions
from converters.processes.interpreters import list_interpreters
from converters.sources.program import Program, read_program
from edge_ocr.config import load_config
from edge_ocr.core.bundle import iterate_files
from edge_ocr.core.charset import Charset
from edge_ocr.errors import ConversionError, ModelError, ToolchainError, UsageError
from edge_ocr.models.resolve import apply_model, resolve_model


@pytest.fixture
def no_opt(monkeypatch, tmp_path):
    """Makes the search for opt fail, so that other errors must come from earlier steps."""
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


def count_ops(report):
    return {
        model.source.model.kind: sum(model.nb.op_histogram().values())
        for model in report.models
        if model.source.model.kind != "cls"
    }


def list_all(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_targets():
    assert find_target("arm").valid_places == find_target("android").valid_places == "arm"
    assert all(name == target.name for name, target in TARGETS.items())
    with pytest.raises(UsageError, match="'x86'") as caught:
        find_target("x86")
    assert "arm (" in caught.value.hint


def test_engines():
    android, board = find_target("android"), find_target("arm")
    assert android.choose_engines(None, has_lite_lib=False) == ("onnxruntime",)
    assert android.choose_engines(None, has_lite_lib=True) == ("paddle_lite",)
    assert android.choose_engines("both", has_lite_lib=True) == ("onnxruntime", "paddle_lite")
    assert board.choose_engines(None, has_lite_lib=True) == ()
    with pytest.raises(UsageError, match="--lite-lib: not used"):
        android.choose_engines("onnxruntime", has_lite_lib=True)
    with pytest.raises(UsageError, match="--engine both: not for --target arm"):
        board.choose_engines("both", has_lite_lib=False)


def test_abis():
    assert find_target("arm").choose_abis(()) == ("armv8",)
    android = find_target("android")
    assert android.choose_abis((), ("paddle_lite",)) == ("arm64-v8a",)
    assert android.choose_abis((), ("onnxruntime", "paddle_lite")) == ("arm64-v8a", "x86_64")
    assert android.choose_abis(("x86",), ("onnxruntime",)) == ("x86",)
    with pytest.raises(UsageError, match="--abi x86_64,x86: Paddle-Lite has no library"):
        android.choose_abis(("x86_64", "x86"), ("onnxruntime", "paddle_lite"))
    with pytest.raises(UsageError, match="--abi x86_64: Paddle-Lite has no library") as caught:
        android.choose_abis(("x86_64",), ("paddle_lite",))
    assert "--engine onnxruntime" in caught.value.hint
    assert find_target("arm").choose_abis(("armv7hf", "armv8", "armv7hf")) == ("armv7hf", "armv8")
    assert {name for target in TARGETS.values() for name in target.platforms.values()} == set(PLATFORMS)
    with pytest.raises(UsageError, match=r"--abi armv8: .*android") as caught:
        find_target("android").choose_abis(("arm64-v8a", "armv8"))
    assert "arm64-v8a, armeabi-v7a" in caught.value.hint


def test_export_of_the_shipped_models(export, det, rec):
    report = export(with_cls=True, zip=True)
    out = report.out_dir
    models = ["models/cls.nb", "models/det.nb", "models/rec.nb"]
    core = Path(edge_ocr.core.__file__).parent
    runtime = [f"runtime/edge_ocr_lite/{path.relative_to(core).as_posix()}" for path in iterate_files(core)]
    scripts = ["edge-ocr-lite", "edge-ocr-lite.service", "install.sh", "uninstall.sh"]
    own = ["LICENSES", "README.md", "bom.cdx.json", "dict.txt", "golden.png", "manifest.json", "pipeline.yaml"]
    names = sorted([*own, *models, *runtime, *scripts])
    assert list_all(out) == names
    assert sum(path.stat().st_size for path in (out / "runtime").rglob("*.py")) <= 217_500
    assert [os.access(out / name, os.X_OK) for name in scripts] == [True, False, True, True]
    assert list_all(out.parent) == sorted(["bundle.zip", *(f"bundle/{name}" for name in names)])
    assert [model.source.model.kind for model in report.models] == ["det", "rec", "cls"]
    assert report.opt_version == "v2.13-rc"

    manifest = json.loads((out / "manifest.json").read_bytes())
    assert (manifest["schema_version"], manifest["target"], manifest["precision"]) == (3, "arm", "fp32")
    assert manifest["lite"] == {
        "wheel_version": "2.13rc0",
        "opt_version": "v2.13-rc",
        "runtime_version": "v2.13-rc",
        "libraries": {"armv8": {"file": None, "url": asset_url("armlinux.armv8", official=True)}},
    }
    for model in report.models:
        entry = manifest["models"][model.source.model.kind]
        assert (out / entry["file"]).read_bytes() == model.data
        assert manifest["files"][entry["file"]] == {"sha256": entry["sha256"], "size_bytes": len(model.data)}
        nb = read_nb(out / entry["file"])
        assert nb.header.opt_version == manifest["lite"]["runtime_version"]
        assert entry["ops"] == dict(nb.op_histogram())
        assert entry["input"]["name"] == nb.inputs[0].name
        assert tuple(entry["output"]["shape"]) == nb.outputs[0].shape
        assert [step["name"] for step in entry["passes"]] == [run.__name__ for run in PASSES]
        ops = [(step["ops_before"], step["ops_after"]) for step in entry["passes"]]
        assert all(before[1] == after[0] for before, after in pairwise(ops))
        assert sum(entry["kernels"].values()) <= sum(entry["ops"].values())
    assert manifest["models"]["rec"]["input"]["shape"] == [-1, 3, 48, -1]
    files = manifest["models"]["det"]["source"]["files"]
    assert {name: file["sha256"] for name, file in files.items()} == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (det.program, det.params)
    }
    assert report.models[0].source.size_bytes == sum(path.stat().st_size for path in (det.program, det.params))

    lines = (out / "dict.txt").read_bytes().decode().split("\n")
    assert lines.pop() == ""
    assert lines == [*rec.dictionary, " "]
    assert manifest["charset"]["characters"] == len(lines) == 6624
    assert manifest["charset"]["classes"] == manifest["charset"]["source_classes"] == 6625
    # One line at a time, unless a pipeline file sets another number.
    config = load_config("OCR", {"Pipeline.use_text_line_orientation": True, "Pipeline.text_rec_batch_size": 1})
    config = apply_model(config, resolve_model("PP-OCRv4_mobile_rec", "rec"))
    assert load_config(out / "pipeline.yaml").values == config.values


def test_the_readme_of_a_bundle_is_its_own(export):
    report = export(with_cls=True, zip=True)
    text = (report.out_dir / "README.md").read_text(encoding="utf-8")
    for words in (
        "boards with ARM Linux",
        "**Paddle-Lite v2.13-rc**",
        "32-bit floats",
        "Characters: 6624",
        " | ch_ppocr_mobile_v2_cls | ",
        "edge-ocr libs fetch --platform armlinux.armv8 --version v2.13-rc",
    ):
        assert words in text
    for name in re.findall(r"^\| `(\S+)` \|", text, re.MULTILINE):
        assert (report.out_dir / name).exists(), name


def test_the_readme_explains_spaces_and_direction(opt, default_models, tmp_path):
    text = ("`Recognition.space_weight`", "`Recognition.direction`")
    for name, changes in (
        ("plain", {}),
        ("changed", {"Recognition.space_weight": 3.0, "Recognition.direction": "rtl"}),
    ):
        done = export_bundle("arm", tmp_path / name, load_config("OCR", changes), ExportOptions(verify=False))
        readme = (done.out_dir / "README.md").read_text(encoding="utf-8")
        assert [words in readme for words in text] == [bool(changes)] * 2


def test_the_readme_of_a_project_names_a_folder_by_its_model(opt, make_home, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGE_OCR_HOME", str(make_home()))
    monkeypatch.delenv("EDGE_OCR_LITE_LIB", raising=False)
    model = resolve_model("PP-OCRv4_mobile_det", "det")
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in (model.program, model.params):
        shutil.copy(path, folder / path.name)
    config = load_config("OCR", {"Pipeline.text_det_model": str(folder), "Pipeline.use_text_line_orientation": True})
    done = export_bundle(
        "android", tmp_path / "app", config, ExportOptions(charset="digits", engine="both", verify=False)
    )
    readme = (done.out_dir / "README.md").read_text(encoding="utf-8")
    assert (
        "--det-model 'DIR of mine' --rec-model PP-OCRv4_mobile_rec --cls-model ch_ppocr_mobile_v2_cls"
        " --charset digits --orientation line --force --out THIS_FOLDER"
    ) in readme


# The Evidence table of the export: the gain of fewer ops, smaller weights and fewer characters.


def test_ops_stay_few(export):
    plain, folded = export(optimize=False), export(with_cls=True, zip=True)
    assert count_ops(plain) == {"det": 243, "rec": 266}
    # 19 of them take the place of slow ops: several copies and shuffles for one upsampling.
    assert count_ops(folded)["det"] <= 140 + 19
    assert count_ops(folded)["rec"] <= 159


def test_activation_bytes_are_a_third_less(export):
    def count(report):
        nb = report.models[0].nb
        return compute_cost(nb, {nb.inputs[0].name: (1, 3, 960, 960)}).activation_bytes

    assert count(export(with_cls=True, zip=True)) <= 0.65 * count(export(optimize=False))


@pytest.mark.parametrize(
    ("options", "limit_mb"),
    [
        ({"with_cls": True, "zip": True}, 15.4),
        ({"precision": "int16"}, 8.2),
        ({"precision": "int8"}, 4.6),
        ({"precision": "int8", "charset": "ascii"}, 3.8),
    ],
)
def test_models_stay_small(export, options, limit_mb):
    report = export(**options)
    assert report.precision == options.get("precision", "fp32")
    size_bytes = sum(len(model.data) for model in report.models if model.source.model.kind != "cls")
    assert size_bytes <= limit_mb * 1e6
    bits = {"fp32": None, "int16": 16, "int8": 8}[report.precision]
    for model in report.models:
        found = {op.quantisation.bits for block in model.nb.blocks for op in block.ops if op.quantisation}
        assert found == ({bits} if bits else set())


def test_without_optimize_only_what_opt_needs_is_done(export):
    manifest = json.loads((export(optimize=False).out_dir / "manifest.json").read_bytes())
    for model in manifest["models"].values():
        assert [step["name"] for step in model["passes"]] == ["restore_attributes", "keep_scales"]


def test_an_ascii_bundle_is_consistent(export, rec):
    report = export(precision="int8", charset="ascii")
    manifest = json.loads((report.out_dir / "manifest.json").read_bytes())
    lines = (report.out_dir / "dict.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert sorted(lines) == [chr(code) for code in range(32, 127)]
    charset = manifest["charset"]
    assert (charset["characters"], charset["classes"], charset["source_classes"]) == (95, 96, 6625)
    assert charset["selection"] == "ascii"
    assert charset["sha256"] == hashlib.sha256((report.out_dir / "dict.txt").read_bytes()).hexdigest()
    assert manifest["models"]["rec"]["output"]["shape"][-1] == 96
    pruning = manifest["models"]["rec"]["passes"][-1]
    assert (pruning["name"], pruning["changed"]) == ("prune_charset", 6625 - 96)

    nb = read_nb(report.out_dir / "models" / "rec.nb")
    (shape,) = compute_cost(nb, {nb.inputs[0].name: (1, 3, 48, 320)}).output_shapes.values()
    assert shape == (1, 40, 96)
    # The remaining columns are those of dict.txt's characters, in its order.
    op = [op for op in nb.blocks[0].ops if op.type == "fc"][-1]
    (name,) = op.inputs["W"]
    scales = np.array(op.quantisation.scales[name])
    source = read_program(rec.program, rec.params).params[name]
    classes = ["", *rec.dictionary, " "]
    expected = source[:, [0, *map(classes.index, lines)]]
    steps = np.abs(nb.params[name].to_array() * scales - expected) / scales
    # Rounded to make up for each other's errors, so not always to the nearest.
    assert steps.max() < 6
    assert steps.mean() < 0.5


def test_a_pruned_recogniser_reads_the_ascii_lines_of_a_sign(export, rec, tmp_path, open_pipeline, read_example):
    dictionary = export(precision="int8", charset="ascii").out_dir / "dict.txt"
    program = read_program(rec.program, rec.params)
    run_passes(program, kept_classes=select_classes("ascii", Charset(("", *rec.dictionary, " ")), rec.name))
    program.write(tmp_path / "inference.pdmodel", tmp_path / "inference.pdiparams")
    pruned = open_pipeline(
        "paddle", Pipeline__text_rec_model=str(tmp_path), Recognition__character_dict_path=str(dictionary)
    )

    def read_lines(result):
        return dict(zip((str(polygon) for polygon in result["dt_polys"]), result["rec_text"], strict=True))

    full = read_lines(read_example("sign.png", "paddle"))
    (result,) = pruned.predict(Path(__file__).parents[3] / "examples" / "images" / "sign.png")
    found = read_lines(result)
    wanted = {polygon: text for polygon, text in full.items() if text.isascii()}
    # A single pixel can add or drop a space.
    assert sorted(text.replace(" ", "") for text in wanted.values()) == ["CAMELLIABOOKS&CAFE", "OPEN10:00-22:00"]
    assert len(wanted) < len(full)
    assert wanted.items() <= found.items()
    assert all(text.isascii() for text in found.values())


def test_a_file_of_characters_is_what_the_bundle_reads(opt, tmp_path, rec):
    file = tmp_path / "my characters.txt"
    file.write_text("店\n书\nA\n", encoding="utf-8")
    export_bundle("arm", tmp_path / "bundle", configure(), ExportOptions(charset=str(file)))
    in_order = sorted("店书A", key=rec.dictionary.index)
    assert (tmp_path / "bundle" / "dict.txt").read_text(encoding="utf-8") == "".join(f"{c}\n" for c in in_order)
    text = (tmp_path / "bundle" / "manifest.json").read_text(encoding="utf-8")
    assert json.loads(text)["charset"]["selection"] == "my characters.txt"
    assert str(tmp_path) not in text


def test_characters_that_the_model_lacks_stop_the_export(no_opt, tmp_path):
    file = tmp_path / "characters.txt"
    file.write_text("A\n\N{SNOWMAN}\n", encoding="utf-8")
    with pytest.raises(ModelError, match=r"PP-OCRv4_mobile_rec .* 1 .*: '\N{SNOWMAN}'"):
        export_bundle("arm", tmp_path / "bundle", configure(), ExportOptions(charset=str(file)))


def test_an_archive_is_not_replaced_if_its_bundle_cannot_be(opt, tmp_path):
    out, options = tmp_path / "bundle", ExportOptions(zip=True, verify=False, force=True)
    archive = export_bundle("arm", out, configure(), options).zip_file.read_bytes()
    # Whether that is a conflict is known only once the new bundle exists.
    (out / "onnx").write_text("mine")
    with pytest.raises(UsageError, match=r"--force .*: onnx$"):
        export_bundle("arm", out, configure(), replace(options, with_onnx=True))
    assert out.with_name("bundle.zip").read_bytes() == archive
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "bundle.zip"]


def test_the_folder_of_a_running_export_is_reported_once(opt, tmp_path):
    out, steps = tmp_path / "bundle", []

    def race():
        with open_bundle(out):
            export_bundle("arm", out, configure(), ExportOptions(verify=False), report=steps.append)

    with pytest.raises(UsageError, match="a bundle"):
        race()
    assert len([step for step in steps if "another export" in step]) == 1


def test_two_exports_differ_in_no_byte(export, opt, make_home, tmp_path, monkeypatch):
    first = export(with_cls=True, zip=True, verify=True)
    monkeypatch.setenv("EDGE_OCR_HOME", str(make_home()))
    # The bundle must not contain this machine's mirror.
    monkeypatch.setenv("EDGE_OCR_LITE_URL", "https://mirror.example/lite")
    config = load_config("OCR", {"Pipeline.use_text_line_orientation": True})
    second = export_bundle("arm", tmp_path / "elsewhere" / "bundle", config, ExportOptions(zip=True))
    assert list_all(first.out_dir) == list_all(second.out_dir)
    for name in list_all(first.out_dir):
        assert (first.out_dir / name).read_bytes() == (second.out_dir / name).read_bytes(), name
    assert first.zip_file.read_bytes() == second.zip_file.read_bytes()
    with zipfile.ZipFile(second.zip_file) as archive:
        assert sorted(archive.namelist()) == [f"bundle/{name}" for name in list_all(second.out_dir)]
        assert archive.read("bundle/models/det.nb") == first.models[0].data


def test_a_bundle_holds_no_path_of_its_models(opt, tmp_path, det, rec):
    models = {"det": copy_model(det, tmp_path / "my_det"), "rec": copy_model(rec, tmp_path / "my_rec")}
    out = tmp_path / "bundle"
    export_bundle("arm", out, configure(**models))
    for name in list_all(out):
        assert str(tmp_path).encode() not in (out / name).read_bytes(), name
    pipeline = yaml.safe_load((out / "pipeline.yaml").read_bytes())
    assert pipeline["Pipeline"]["text_det_model"] == "my_det"
    assert pipeline["Pipeline"]["use_text_line_orientation"] is False


@pytest.mark.parametrize(("version", "wheel"), [("2.14-rc", "2.14rc0"), ("2.12", "2.12"), ("v2.11", "2.11")])
def test_export_for_other_versions(opt, tmp_path, version, wheel):
    if not any(True for _ in list_interpreters(find_wheel(version))):
        pytest.skip(f"no CPython 3.7 here, which opt {version} needs")
    out = tmp_path / "bundle"
    export_bundle("arm", out, configure(), ExportOptions(lite_version=version))
    lite = json.loads((out / "manifest.json").read_bytes())["lite"]
    expected = f"v{version.removeprefix('v')}"
    assert (lite["wheel_version"], lite["opt_version"], lite["runtime_version"]) == (wheel, expected, expected)
    assert f"/{expected}/" in lite["libraries"]["armv8"]["url"]
    for kind in ("det", "rec"):
        assert read_nb(out / "models" / f"{kind}.nb").header.opt_version == expected
    assert f"--version {expected}`" in (out / "README.md").read_text(encoding="utf-8")


def test_an_unknown_version_is_refused_before_any_work(no_opt, tmp_path):
    with pytest.raises(UsageError, match=r"Paddle-Lite 2\.9$") as caught:
        export_bundle("arm", tmp_path / "bundle", configure(det="no-such-model"), ExportOptions(lite_version="2.9"))
    for words in ("2.13-rc (CPython 3.8 to 3.10)", "2.14-rc (CPython 3.7)", "2.12 (", "2.11 ("):
        assert words in caught.value.hint


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
    with pytest.raises(ModelError, match=r"6621 characters .* 6625"):
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
        ("inference.json", "inference.json", "Global.export_with_pir=False"),
        ("inference.onnx", "inference.onnx", "ONNX"),
    ],
)
def test_damaged_models_of_other_formats_are_refused_before_any_work(no_opt, tmp_path, name, words, hint):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / name).write_bytes(b"{}")
    if name == "inference.json":
        (folder / "inference.pdiparams").write_bytes(b"")
    with pytest.raises(ModelError, match=words) as caught:
        export_bundle("arm", tmp_path / "bundle", configure(det=folder))
    assert hint in caught.value.hint
    assert not (tmp_path / "bundle").exists()


def test_exchanged_models_are_refused_before_any_work(no_opt, tmp_path, det, rec):
    folder = copy_model(rec, tmp_path / "my_rec")
    with pytest.raises(ModelError, match="my_rec is not a det model"):
        export_bundle("arm", tmp_path / "bundle", configure(det=folder))
    folder = copy_model(det, tmp_path / "my_det")
    with pytest.raises(ModelError, match="my_det is not a rec model"):
        export_bundle("arm", tmp_path / "bundle", configure(rec=folder))


@pytest.mark.parametrize("kept_bytes", [0, 1, 100, 20_000, -1000])
def test_a_truncated_program_is_refused_before_any_work(no_opt, tmp_path, det, kept_bytes):
    folder = copy_model(det, tmp_path / "my_det")
    (folder / "inference.pdmodel").write_bytes(det.program.read_bytes()[:kept_bytes])
    with pytest.raises(ModelError, match=r"inference\.pdmodel(:| is) ") as caught:
        export_bundle("arm", tmp_path / "bundle", configure(det=folder))
    assert caught.value.hint
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-1], r"\d+ bytes, \d+ .*, at byte \d+"),
        (lambda data: data[:1000], r"inference\.pdiparams"),
        (lambda data: data + b"\0", r"bytes, expected 4692937"),
        (lambda data: bytes(len(data)), r", at byte 0"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_before_any_work(no_opt, tmp_path, det, change, words):
    folder = copy_model(det, tmp_path / "my_det")
    (folder / "inference.pdiparams").write_bytes(change(det.params.read_bytes()))
    with pytest.raises(ModelError, match=words) as caught:
        export_bundle("arm", tmp_path / "bundle", configure(det=folder))
    assert str(folder / "inference.pdiparams") in caught.value.message


def test_parameters_of_another_model_are_refused_before_any_work(no_opt, tmp_path, det, rec):
    folder = copy_model(det, tmp_path / "my_det")
    shutil.copy(rec.params, folder / "inference.pdiparams")
    with pytest.raises(ModelError, match=r"float32 \[.*\], expected float32 \[.*\], at byte 0"):
        export_bundle("arm", tmp_path / "bundle", configure(det=folder))


def test_the_order_is_target_place_models_toolchain(no_opt, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(UsageError, match="'x86'"):
        export_bundle("x86", tmp_path / "taken", configure(det="no-such-model"))
    with pytest.raises(UsageError, match="taken: "):
        export_bundle("arm", tmp_path / "taken", configure(det="no-such-model"))
    with pytest.raises(ModelError, match="no-such-model"):
        export_bundle("arm", tmp_path / "bundle", configure(det="no-such-model"))
    with pytest.raises(ToolchainError, match="no-such-python"):
        export_bundle("arm", tmp_path / "bundle", configure())
    assert not (tmp_path / "bundle").exists()


def test_an_unsupported_op_is_refused_before_any_conversion(opt, tmp_path, det, monkeypatch):
    folder = copy_model(det, tmp_path / "my_det")
    data = det.program.read_bytes().replace(b"hard_swish", b"hard_swosh")
    (folder / "inference.pdmodel").write_bytes(data)
    log = tmp_path / "jobs"
    log.mkdir()
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncat > "{log}/$$"\nexec "{opt.python}" "$@" < "{log}/$$"\n')
    python.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(python))
    out = tmp_path / "out" / "bundle"
    with pytest.raises(ConversionError, match="hard_swosh") as caught:
        export_bundle("arm", out, configure(det=folder))
    assert str(folder / "inference.pdmodel") in caught.value.message
    assert re.search(r"\n  hard_sigmoid +Y +Y\n", caught.value.message), "opt's table of ops"
    assert not out.parent.exists()
    actions = [json.loads(job.read_bytes())["action"] for job in log.iterdir()]
    assert set(actions) == {"describe", "check"}


def test_a_conversion_that_fails_leaves_nothing(opt, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\njob=$(cat)\ncase "$job" in *\\"convert\\"*) echo out of luck >&2; kill -SEGV $$;; esac\n'
        f'printf %s "$job" | exec "{opt.python}" "$@"\n'
    )
    python.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(python))
    out = tmp_path / "out" / "bundle"
    with pytest.raises(ConversionError, match=r"PP-OCRv4_\w+/inference\.pdmodel: .*SIGSEGV.*\n.*out of"):
        export_bundle("arm", out, configure())
    assert not out.parent.exists()


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for one of two models."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mount: a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_at_the_bundle_leaves_nothing(opt, small_disk):
    with pytest.raises(UsageError, match=r"models/rec\.nb: No space left on device"):
        export_bundle("arm", small_disk / "bundle", configure())
    assert list(small_disk.iterdir()) == []


def test_a_full_scratch_disk_is_named_and_leaves_nothing(opt, tmp_path, small_disk, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with pytest.raises(UsageError, match=rf"{small_disk}/.*: No space left") as caught:
        export_bundle("arm", tmp_path / "out" / "bundle", configure())
    assert "TMPDIR" in caught.value.hint
    assert not (tmp_path / "out").exists()
    assert list(small_disk.iterdir()) == []


def test_a_program_that_cannot_be_written_is_no_bug(opt, tmp_path, monkeypatch):
    def write(self, program, params):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Program, "write", write)
    with pytest.raises(UsageError, match=r"PP-OCRv4_mobile_det .*No space left"):
        export_bundle("arm", tmp_path / "out" / "bundle", configure())
    assert not (tmp_path / "out").exists()
