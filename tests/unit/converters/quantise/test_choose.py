"""Integers chosen for real models, and the bundles that hold them."""

import json
import shutil

import cv2
import numpy as np
import pytest

from converters.bundle.pictures import find_pictures_folder
from converters.bundle.reader import inspect_bundle
from converters.export import export_bundle
from converters.lite.nb.read import read_nb
from converters.plan import ExportOptions
from converters.quantise.choose import choose_integers
from converters.quantise.judge import Loss, open_judge
from converters.quantise.pictures import read_calibration
from converters.quantise.simulate import simulate
from converters.verify.verify import VerifyOptions, verify_bundle
from edge_ocr.config import load_config
from edge_ocr.engines import FAST_ENGINES, is_installed
from edge_ocr.errors import InputError, NotVerifiedError, ParityError, UsageError

CONFIG = load_config("OCR")


def read_manifest(bundle):
    return json.loads((bundle / "manifest.json").read_bytes())


@pytest.fixture(scope="module")
def models(export):
    """The default models as opt wrote them, with float32 weights."""
    folder = export().out_dir / "models"
    return {kind: read_nb(folder / f"{kind}.nb") for kind in ("det", "rec")}


@pytest.fixture(scope="module")
def charset(export):
    return inspect_bundle(export().out_dir).bundle.charset


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with one small picture and its texts."""
    folder = tmp_path_factory.mktemp("small")
    shutil.copy(find_pictures_folder() / "sign.png", folder)
    rows = (find_pictures_folder() / "gt.jsonl").read_text(encoding="utf-8").splitlines()
    (row,) = [row for row in rows if json.loads(row)["image"] == "sign.png"]
    (folder / "gt.jsonl").write_text(row, encoding="utf-8")
    return folder


def test_int8_is_rounded_by_what_the_layers_read(export):
    bundle = export(precision="int8").out_dir
    chosen = read_manifest(bundle)["quantisation"]
    assert chosen["pictures"] == "shipped"
    assert chosen["promise"] is None
    for layers in chosen["layers"].values():
        assert len(layers) > 30
        assert {(one["weights"], one["compute"]) for one in layers} == {("int8", "fp32")}
    figures = verify_bundle(bundle, VerifyOptions()).figures
    # Rounding to the nearest: 1.03, 0.026 and 0.00095 (PP-OCRv4 mobile).
    assert figures["rec.log_probs.worst_class_diff"] < 0.4
    assert figures["rec.probs.mean_step_diff"] < 0.012
    assert figures["det.prob_map.mean_abs_diff"] < 0.0006


def test_auto_keeps_its_limit_and_says_what_it_chose(export, tmp_path):
    done = export(precision="auto")
    chosen = read_manifest(done.out_dir)["quantisation"]
    promise = chosen["promise"]
    assert (promise["measure"], promise["max_drop"], promise["prefer"]) == ("exact_lines", 0.002, "size")
    assert promise["drop"] <= 0.002
    assert promise["lines"] > 60
    weights = [one["weights"] for layers in chosen["layers"].values() for one in layers]
    assert weights.count("int8") > 50
    assert sum(len(model.data) for model in done.models) < 5e6
    text = (done.out_dir / "README.md").read_text(encoding="utf-8")
    assert "## Integers" in text
    for layers in chosen["layers"].values():
        assert f"{len(layers)} layers." in text
    report = verify_bundle(done.out_dir)
    assert report.passed, report.failures
    assert "accuracy.exact_drop" in report.figures


def test_without_tolerance_no_line_changes(models, charset, small):
    steps = []
    options = ExportOptions(precision="auto", max_drop=0.0, calibrate=(small,))
    choices = choose_integers(models, CONFIG, charset, options, steps.append)
    assert (choices.promise.measure, choices.promise.drop) == ("changed_lines", 0.0)
    variants = {}
    with open_judge(models, CONFIG, charset, read_calibration((small,), CONFIG.input).pictures) as judge:
        for kind, choice in choices.models.items():
            weights = {name: one.to_float() for name, one in choice.rounded.items()}
            variants[kind] = simulate(judge.graphs[kind], models[kind], weights, choice.biases, choice.inputs)
        loss = judge.judge(variants)
    assert (loss.changed, loss.lines > 0) == (0, True)


def test_layers_that_compute_in_int8(opt, make_home, small, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGE_OCR_HOME", str(make_home()))
    # Weights stored as int8 alone change one of the four lines.
    options = ExportOptions(precision="int8", compute="int8", calibrate=(small,), max_drop=0.3)
    done = export_bundle("arm", tmp_path / "bundle", CONFIG, options)
    assert done.parity.passed
    chosen = read_manifest(done.out_dir)["quantisation"]
    for kind, layers in chosen["layers"].items():
        ops = read_nb(done.out_dir / "models" / f"{kind}.nb").blocks[0].ops
        computing = {
            op.inputs["Filter" if op.type == "conv2d" else "W"][0]
            for op in ops
            if op.attrs.get("enable_int8") is True and op.type in ("conv2d", "fc")
        }
        assert computing == {one["layer"] for one in layers if one["compute"] == "int8"}
        assert len(computing) > 5
        assert all(one["input_absmax"] > 0 and one["divergence"] >= 0 for one in layers if one["compute"] == "int8")
    assert "some layers also compute in 8-bit integers" in (done.out_dir / "README.md").read_text(encoding="utf-8")


def test_storage_alone_may_break_the_limit(models, charset, small, monkeypatch):
    monkeypatch.setattr("converters.quantise.choose.Loss", lambda *counts: Loss(10, 5, 10, 10, 5))
    options = ExportOptions(precision="int8", compute="int8", calibrate=(small,), max_drop=0.1)
    with pytest.raises(UsageError, match="--compute int8"):
        choose_integers(models, CONFIG, charset, options, lambda step: None)
    # All floats break such a limit, too: nothing is promised.
    options = ExportOptions(precision="auto", calibrate=(small,), max_drop=0.1)
    with pytest.raises(ParityError, match="5 of 10 lines"):
        choose_integers(models, CONFIG, charset, options, lambda step: None)


def test_few_known_texts_do_not_hide_the_others(models, charset, small, tmp_path):
    shutil.copy(small / "sign.png", tmp_path)
    row = json.loads((small / "gt.jsonl").read_text(encoding="utf-8"))
    (tmp_path / "gt.jsonl").write_text(json.dumps({**row, "words": row["words"][:1]}), encoding="utf-8")
    options = ExportOptions(precision="auto", calibrate=(tmp_path,), max_drop=0.1)
    choices = choose_integers(models, CONFIG, charset, options, lambda step: None)
    assert choices.promise.measure == "changed_lines"


def test_a_judge_sees_damage(models, charset, small):
    pictures = read_calibration((small,), CONFIG.input).pictures
    with open_judge(models, CONFIG, charset, pictures) as judge:
        same = judge.judge({"rec": judge.graphs["rec"].model})
        assert (same.changed, same.exact_drop, same.wanted > 3) == (0, 0.0, True)
        assert judge.measure_divergence("rec", judge.graphs["rec"].model) < 1e-6
        name = next(name for name, param in models["rec"].params.items() if len(param.shape) == 4)
        damaged = models["rec"].params[name].to_array() * np.float32(0.2)
        wrong = simulate(judge.graphs["rec"], models["rec"], {name: damaged}, {}, {})
        assert judge.measure_divergence("rec", wrong) > 1e-3
        assert judge.judge({"rec": wrong}).changed > 0


def test_losses():
    assert Loss(0, 0).changed_share == Loss(5, 0).exact_drop == 0.0
    assert Loss(10, 2, 8, 6, 4).changed_share == 0.2
    assert Loss(10, 2, 8, 6, 4).exact_drop == 0.25
    assert Loss(10, 2, 8, 4, 6).exact_drop == -0.25


@pytest.mark.parametrize("precision", ["int8", "auto"])
def test_a_black_picture_teaches_nothing(models, charset, tmp_path, precision):
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((200, 300, 3), np.uint8))
    options = ExportOptions(precision=precision, calibrate=(tmp_path / "black.png",))
    with pytest.raises(InputError, match="1 picture for"):
        choose_integers(models, CONFIG, charset, options, lambda step: None)


def test_without_an_engine_int8_is_rounded_to_the_nearest(models, charset, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path))
    monkeypatch.setattr("converters.lite.graph_engines.is_installed", lambda name: False)
    steps = []
    choices = choose_integers(models, CONFIG, charset, ExportOptions(precision="int8"), steps.append)
    assert any(step.startswith("WARNING: ") and "engine" in step for step in steps)
    assert choices.pictures == ""
    assert not any(model.biases for model in choices.models.values())
    with pytest.raises(NotVerifiedError, match="engine"):
        choose_integers(models, CONFIG, charset, ExportOptions(precision="auto"), steps.append)


@pytest.mark.parametrize("engine", FAST_ENGINES)
def test_engines_choose_alike(models, charset, small, monkeypatch, tmp_path, engine):
    if not is_installed(engine):
        pytest.skip(f"{engine} is not installed")
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path))
    for module in ("converters.lite.graph_engines", "converters.quantise.judge"):
        monkeypatch.setattr(f"{module}.is_installed", lambda name: name == engine)
    options = ExportOptions(precision="auto", calibrate=(small,), max_drop=0.1)
    choices = choose_integers(models, CONFIG, charset, options, lambda step: None)
    assert choices.promise.drop <= 0.1
    for choice in choices.models.values():
        assert choice.count_storage() == {"int8": len(choice.layers)}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_drop": -0.1}, "--max-drop -0.1"),
        ({"max_drop": 1.5}, "--max-drop 1.5"),
        ({"max_drop": float("nan")}, "--max-drop nan"),
        ({"compute": "int8"}, "--compute int8"),
        ({"precision": "int16", "compute": "int8"}, "--compute int8"),
        ({"calibrate": (find_pictures_folder(),)}, "--calibrate"),
        ({"precision": "int8", "compute": "int8", "optimize": False}, "--no-optimize"),
        ({"precision": "auto", "prefer": "speed", "abis": ("armv8", "armv7hf")}, "--arch armv7hf"),
    ],
)
def test_options_that_do_not_fit(tmp_path, options, named):
    with pytest.raises(UsageError, match=named):
        export_bundle("arm", tmp_path / "bundle", CONFIG, ExportOptions(**options))
    assert not (tmp_path / "bundle").exists()
