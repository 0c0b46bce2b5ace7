"""The manifests of real bundles against their schema, and the schema against damaged manifests."""

import copy
import hashlib
import json

import pytest
from jsonschema import Draft202012Validator, ValidationError

from converters.bundle.android.record import locate_bundle
from converters.bundle.manifest import SCHEMA_VERSION, read_schema
from converters.export import export_bundle
from converters.lite.libraries.store import add_library
from converters.plan import ExportOptions
from edge_ocr.config import load_config

SCHEMA = read_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
REMOVED = object()


def read_manifest(report):
    return json.loads((locate_bundle(report.out_dir) / "manifest.json").read_bytes())


@pytest.fixture(scope="module")
def default(export):
    return read_manifest(export(with_cls=True, zip=True))


@pytest.fixture(scope="module")
def in_full(opt, make_home, lite_library, android_folder, tmp_path_factory):
    """Bundles with all optional parts, by target."""
    home = make_home()
    libraries = {
        "arm": [lite_library("armv8"), lite_library("armv7hf", version="v2.12")],
        "android": [android_folder("armv8", page=4096), android_folder("armv7")],
    }
    abis = {"arm": ("armv8", "armv7hf"), "android": ("arm64-v8a", "armeabi-v7a")}
    config = load_config("OCR", {"Pipeline.use_text_line_orientation": True})
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_OCR_HOME", str(home))
        patch.delenv("EDGE_OCR_LITE_LIB", raising=False)
        for target in abis:
            for library in libraries[target]:
                add_library(library, allow_version_mismatch=True)
            options = ExportOptions(
                precision="int8",
                charset="ascii",
                abis=abis[target],
                engine="both" if target == "android" else None,
                allow_version_mismatch=True,
                optimize=False,
            )
            out = tmp_path_factory.mktemp(target) / "bundle"
            made[target] = export_bundle(target, out, config, options)
    return made


def test_the_schema_is_one_and_explains_every_property():
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema_version"]["const"] == SCHEMA_VERSION

    def walk(node, path):
        if isinstance(node, dict):
            if "properties" in node and "required" in node:
                assert node["additionalProperties"] is False, path
                for name, inner in node["properties"].items():
                    text = inner.get("description", "")
                    assert text.endswith("."), f"{path}/{name} is not described"
            for name, inner in node.items():
                walk(inner, f"{path}/{name}")

    walk({"required": [], "properties": {}, **SCHEMA}, "")


def test_the_default_bundle_fits_the_schema(default):
    VALIDATOR.validate(default)
    assert default["parity"] == {"status": "not_run"}
    assert default["charset"]["selection"] == "full"


@pytest.mark.parametrize("target", ["arm", "android"])
def test_a_bundle_with_everything_fits_the_schema(in_full, target):
    report = in_full[target]
    manifest = read_manifest(report)
    VALIDATOR.validate(manifest)
    assert (manifest["target"], manifest["precision"]) == (target, "int8")
    assert sorted(manifest["models"]) == ["cls", "det", "rec"]
    assert len(manifest["lite"]["libraries"]) == 2
    for library in manifest["lite"]["libraries"].values():
        named = {library["file"]: library["sha256"], **library.get("companions", {})}
        for name, sha256 in named.items():
            assert sha256 == hashlib.sha256((report.out_dir / name).read_bytes()).hexdigest()
            # Files that are not assets of the app are not in the list.
            assert (name in manifest["files"]) == (target == "arm")
        assert len(named) == (1 if target == "arm" else 2)


def test_the_manifest_says_which_library_does_not_match(in_full):
    libraries = read_manifest(in_full["arm"])["lite"]["libraries"]
    assert (libraries["armv8"]["version"], libraries["armv8"]["version_matches"]) == ("v2.13-rc", True)
    assert (libraries["armv7hf"]["version"], libraries["armv7hf"]["version_matches"]) == ("v2.12", False)
    libraries = read_manifest(in_full["android"])["lite"]["libraries"]
    assert [libraries[abi]["fits_16k_pages"] for abi in ("arm64-v8a", "armeabi-v7a")] == [False, True]


def test_every_file_is_in_the_manifest_with_its_hash(export, in_full):
    for report in (export(with_cls=True, zip=True), *in_full.values()):
        manifest = read_manifest(report)
        out = locate_bundle(report.out_dir)
        files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
        assert files.pop("manifest.json")
        assert sorted(files) == sorted(manifest["files"])
        for name, path in files.items():
            data = path.read_bytes()
            assert manifest["files"][name] == {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}


def change(manifest, path, value):
    changed = copy.deepcopy(manifest)
    node = changed
    *parents, last = path.split(" ")
    for name in parents:
        node = node[int(name) if isinstance(node, list) else name]
    if value is REMOVED:
        del node[last]
    else:
        node[last] = value
    return changed


@pytest.mark.parametrize(
    "path",
    [
        "schema_version",
        "target",
        "files",
        "files dict.txt",
        "files models/rec.nb",
        "files README.md",
        "files dict.txt sha256",
        "lite runtime_version",
        "lite libraries armv8 url",
        "charset blank_index",
        "models rec",
        "models det input shape",
        "models cls passes 0 changed",
        "models det source files inference.pdmodel sha256",
        "parity status",
    ],
)
def test_a_missing_key_is_refused(default, path):
    with pytest.raises(ValidationError):
        VALIDATOR.validate(change(default, path, REMOVED))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema_version", 1),
        ("schema_version", 4),
        ("schema_version", "1"),
        ("target", "ios"),
        ("precision", "fp16"),
        ("precision", None),
        ("time", "2026-11-22"),
        ("lite runtime_version", "2.13-rc"),
        ("lite libraries", {}),
        ("lite libraries armv8 url", "http://mirror/lite.tar.gz"),
        ("lite libraries armv8 sha256", "0" * 64),
        ("lite libraries armv8 file", "lib/armv8/libpaddle_light_api_shared.so"),
        ("lite libraries armv8 companions", {"ocr/libs/a.jar": "0" * 64}),
        ("lite libraries arm64-v8a", {"file": None, "url": "https://a/b"}),
        ("charset sha256", "A" * 64),
        ("charset sha256", "0" * 63),
        ("charset classes", 6625.5),
        ("charset classes", 1),
        ("charset blank_index", 6624),
        ("models seg", {}),
        ("models det size_bytes", "1"),
        ("models det size_bytes", -1),
        ("models det file", "/models/det.nb"),
        ("models det file", "../det.nb"),
        ("models det input layout", "NHWC"),
        ("models det input channel_order", "RGB"),
        ("models det input shape", []),
        ("models det input shape", [-1, 3, 0, -1]),
        ("models det input dtype", "float"),
        ("models det ops feed", 0),
        ("models det kernels arm", 1),
        ("models det passes", []),
        ("models det passes 0 name", "Fold Affine"),
        ("files manifest.json", {"sha256": "0" * 64, "size_bytes": 1}),
        ("files a/../../b", {"sha256": "0" * 64, "size_bytes": 1}),
        ("files dict.txt mtime", 0),
        ("parity status", "skipped"),
        ("parity figures", {"det": 0.0}),
    ],
)
def test_a_wrong_value_or_unknown_key_is_refused(default, path, value):
    with pytest.raises(ValidationError):
        VALIDATOR.validate(change(default, path, value))


@pytest.mark.parametrize("companions", [{"../a.jar": "0" * 64}, {"ocr/libs/a.jar": "0"}, ["ocr/libs/a.jar"]])
def test_odd_companions_are_refused(in_full, companions):
    manifest = read_manifest(in_full["android"])
    assert "README.md" not in manifest["files"]
    with pytest.raises(ValidationError):
        VALIDATOR.validate(change(manifest, "lite libraries arm64-v8a companions", companions))


def test_figures_go_with_a_comparison(default):
    VALIDATOR.validate(
        change(default, "parity", {"status": "passed", "figures": {"det.prob_map.max_abs_diff": 4.2e-5}})
    )
    VALIDATOR.validate(change(default, "parity", {"status": "failed"}))
