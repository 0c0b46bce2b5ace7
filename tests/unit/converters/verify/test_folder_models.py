"""Bundles of users' folders whose `inference.yml` has the name of an official model."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from converters.bundle.pictures import find_pictures_folder
from converters.export import export_bundle
from converters.plan import ExportOptions
from converters.verify.verify import VerifyOptions, verify_bundle
from edge_ocr.config import load_config
from edge_ocr.errors import NotVerifiedError
from edge_ocr.models.resolve import resolve_model

OPTIONS = VerifyOptions(images=(find_pictures_folder() / "sign.png",))
# In the registry, but not in the folders: these hold other weights.
NAMES = {"det": "PP-OCRv6_tiny_det", "rec": "PP-OCRv6_tiny_rec"}


@pytest.fixture(scope="module")
def home(make_home):
    return make_home()


@pytest.fixture(autouse=True)
def own_store(home, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_HOME", str(home))
    monkeypatch.delenv("EDGE_OCR_LITE_LIB", raising=False)

    def refuse(*arguments, **options):
        pytest.fail(f"the network was asked for {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def made(opt, home, tmp_path_factory):
    """Return the folder with the models, and the bundle of them."""
    folder = tmp_path_factory.mktemp("own")
    for kind, name in NAMES.items():
        model = resolve_model(f"PP-OCRv4_mobile_{kind}", kind)
        (folder / kind).mkdir()
        for path in (model.program, model.params):
            shutil.copyfile(path, folder / kind / path.name)
        (folder / kind / "inference.yml").write_text(f"Global:\n  model_name: {name}\n", encoding="utf-8")
        if model.dictionary is not None:
            lines = "".join(f"{text}\n" for text in model.dictionary)
            (folder / kind / "dict.txt").write_text(lines, encoding="utf-8")
    overrides = {f"Pipeline.text_{kind}_model": str(folder / kind) for kind in NAMES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_OCR_HOME", str(home))
        report = export_bundle("arm", folder / "bundle", load_config("OCR", overrides), ExportOptions(verify=False))
    return folder, report.out_dir


def test_the_manifest_has_the_name_and_no_path(made, export):
    folder, bundle = made
    text = (bundle / "manifest.json").read_text(encoding="utf-8")
    sources = {kind: model["source"] for kind, model in json.loads(text)["models"].items()}
    assert {kind: (source["name"], source["origin"]) for kind, source in sources.items()} == {
        kind: (name, "folder") for kind, name in NAMES.items()
    }
    assert str(folder) not in text
    official = json.loads((export().out_dir / "manifest.json").read_text(encoding="utf-8"))
    assert {model["source"]["origin"] for model in official["models"].values()} == {"registry"}


def test_the_folder_is_the_reference(made):
    assert verify_bundle(made[1], OPTIONS).passed


def test_on_another_machine_the_folder_must_be_given(made, make_home, monkeypatch):
    folder, bundle = made
    monkeypatch.setenv("EDGE_OCR_HOME", str(make_home()))
    with pytest.raises(NotVerifiedError, match=NAMES["det"]) as caught:
        verify_bundle(bundle, OPTIONS)
    assert "--det-model" in caught.value.hint
    models = {kind: str(folder / kind) for kind in NAMES}
    assert verify_bundle(bundle, VerifyOptions(images=OPTIONS.images, models=models)).passed
    with pytest.raises(NotVerifiedError, match=NAMES["rec"]):
        verify_bundle(bundle, VerifyOptions(images=OPTIONS.images, models={"det": models["det"]}))


@pytest.mark.parametrize("change", ["moved", "changed"])
def test_a_folder_that_is_no_longer_the_same(made, change):
    folder, bundle = made
    if change == "moved":
        (folder / "det").rename(folder / "elsewhere")
    else:
        weights = Path(folder, "det", "inference.pdiparams")
        saved = weights.read_bytes()
        weights.write_bytes(saved[:-1] + bytes([saved[-1] ^ 1]))
    try:
        with pytest.raises(NotVerifiedError, match=r"inference\.pdiparams"):
            verify_bundle(bundle, OPTIONS)
    finally:
        if change == "moved":
            (folder / "elsewhere").rename(folder / "det")
        else:
            weights.write_bytes(saved)
    assert verify_bundle(bundle, OPTIONS).passed


def test_a_manifest_without_origin_names_the_registry(made, tmp_path):
    bundle = Path(shutil.copytree(made[1], tmp_path / "bundle"))
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    for model in manifest["models"].values():
        del model["source"]["origin"]
        model["source"]["name"] = "no such model"
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(NotVerifiedError, match="no such model"):
        verify_bundle(bundle, OPTIONS)


def test_a_store_that_cannot_be_written_stops_no_export(home, tmp_path, monkeypatch):
    from converters.sources.folders import find_folder, remember_folder

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path / "file"))
    remember_folder({"a": "b"}, tmp_path)
    assert find_folder({"a": "b"}) is None
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path))
    remember_folder({"a": "b"}, tmp_path)
    assert find_folder({"a": "b"}) == tmp_path
    assert find_folder({"a": "c"}) is None
