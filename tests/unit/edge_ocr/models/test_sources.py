"""A model's sources in order: published files, wheels, archives; what fails, and what is stored."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import socket

import pytest
from support.models import fake_uv, list_store, make_folder, make_tar

from edge_ocr.errors import ModelError
from edge_ocr.models import resolve as model_resolve
from edge_ocr.models import store as model_store
from edge_ocr.models.resolve import locate_model, pull_model, resolve_model
from edge_ocr.models.types import Archive, Carrier, ModelSpec, Published, SourceFile, Wheel

CARRIER = Carrier("a_carrier", "a-carrier", "1.2", is_dependency=False)
PUBLISHED_PATH = "/v3.10.0/onnx/a_det.onnx"
pytestmark = pytest.mark.usefixtures("home")


def hash_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# Two conversions of one model.
PUBLISHED, CARRIED = b"published", b"from the wheel"


def make_row(name: str) -> ModelSpec:
    published = Published((SourceFile("inference.onnx", f"onnx/{name}.onnx", hash_bytes(PUBLISHED)),))
    wheel = Wheel(CARRIER, (SourceFile("inference.onnx", f"models/{name}.onnx", hash_bytes(CARRIED)),))
    return ModelSpec(name, "det", (3, None, None), (published, wheel, Archive(f"{name}_infer.tar", "paddle9")))


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    rows = {name: make_row(name) for name in ("a_det", "b_det")}
    monkeypatch.setattr(model_resolve, "REGISTRY", rows)
    return rows


@pytest.fixture
def server(mirror, monkeypatch):
    """The published addresses, with nothing in it."""
    monkeypatch.delenv("EDGE_OCR_MODEL_URL")
    monkeypatch.setattr(model_store, "PUBLISHED_URL", mirror.url)
    monkeypatch.setattr(model_store, "ARCHIVE_URL", mirror.url)
    return mirror


@pytest.fixture
def package(tmp_path):
    return make_folder(tmp_path / "a_carrier/models", {f"{name}.onnx": CARRIED for name in ("a_det", "b_det")}).parent


def read_record(home) -> dict[str, object]:
    return json.loads((home / "models/a_det/source.json").read_text())


def test_the_published_file_comes_first(server, monkeypatch, home):
    commands = fake_uv(monkeypatch, None)
    server.answers[PUBLISHED_PATH] = (200, len(PUBLISHED), PUBLISHED)
    reports = []
    model = resolve_model("a_det", "det", progress=lambda *report: reports.append(report))
    assert (model.format, model.program.read_bytes()) == ("onnx", PUBLISHED)
    assert reports[-1] == (len(PUBLISHED), len(PUBLISHED))
    record = read_record(home)
    assert record["source"] == "RapidOCR v3.10.0"
    assert record["urls"] == {"inference.onnx": server.url + PUBLISHED_PATH}
    assert (server.requests, commands, list_store(home)) == ([PUBLISHED_PATH], [], ["a_det"])


@pytest.fixture
def silent_url():
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("failure", ["404", "500", "refused", "silent", "sha256", "cut off"])
def test_what_fails_is_named_and_the_wheel_follows(server, package, silent_url, monkeypatch, home, caplog, failure):
    url, answer, reason = {
        "404": (server.url, (404, 0, b""), "HTTP 404"),
        "500": (server.url, (500, 0, b""), "HTTP 500"),
        "refused": ("http://127.0.0.1:9", None, "Connection refused"),
        "silent": (silent_url, None, "timed out"),
        "sha256": (server.url, (200, 5, b"other"), f"{hash_bytes(PUBLISHED)}, .*{hash_bytes(b'other')}"),
        "cut off": (server.url, (200, 9, b"publ"), "expected 9 bytes, actual 4"),
    }[failure]
    monkeypatch.setattr(model_store, "PUBLISHED_URL", url)
    monkeypatch.setattr(model_store, "START_TIMEOUT_S", 0.3)
    server.answers[PUBLISHED_PATH] = answer or (404, 0, b"")
    commands = fake_uv(monkeypatch, package)
    with caplog.at_level(logging.WARNING):
        model = pull_model("a_det")
    assert model.program.read_bytes() == CARRIED
    assert read_record(home)["source"] == "package a-carrier 1.2"
    assert len(commands) == 1
    (line,) = caplog.messages
    assert re.search(f"^a_det: .*{url}{PUBLISHED_PATH}.*{reason}.* package a-carrier 1.2$", line)
    # The wheel has the other one, too.
    assert list_store(home) == ["a_det", "b_det"]


def test_the_archive_comes_last(server, monkeypatch, home, caplog):
    fake_uv(monkeypatch, None, code=1, stderr="no index")
    server.answers["/paddle9/a_det_infer.tar"] = (200, None, make_tar({"inference.onnx": b"official"}))
    assert pull_model("a_det").program.read_bytes() == b"official"
    record = read_record(home)
    assert (record["source"], record["url"]) == (
        "archive paddle9/a_det_infer.tar",
        f"{server.url}/paddle9/a_det_infer.tar",
    )
    assert len(caplog.messages) == 2


def test_one_error_names_every_source(server, monkeypatch, home):
    output = "error: no\n  cause: index of https://me:s3cret@index.example/simple\n"
    fake_uv(monkeypatch, None, code=1, stderr=output)
    server.answers[PUBLISHED_PATH] = (200, 5, b"other")
    with pytest.raises(ModelError, match=rf"^[^\n]*a_det: .*{PUBLISHED_PATH} .*{hash_bytes(b'other')}; ") as caught:
        resolve_model("a_det", "det")
    assert re.search(r"a-carrier==1\.2: no: index .*; .*/paddle9/a_det_infer\.tar: HTTP 404", caught.value.message)
    assert "EDGE_OCR_MODEL_URL" in caught.value.hint
    # For --debug.
    assert str(caught.value.__cause__) == output.replace("me:s3cret", "****")
    assert list_store(home) == []


def test_a_failed_force_keeps_the_old(server, monkeypatch, home):
    fake_uv(monkeypatch, None, code=1)
    server.answers[PUBLISHED_PATH] = (200, len(PUBLISHED), PUBLISHED)
    pull_model("a_det")
    server.answers[PUBLISHED_PATH] = (200, 5, b"other")
    with pytest.raises(ModelError):
        pull_model("a_det", force=True)
    assert locate_model("a_det").program.read_bytes() == PUBLISHED


def test_one_of_several_files_is_missing(server, package, rows, monkeypatch, home):
    files = (*rows["a_det"].sources[0].files, SourceFile("inference.yml", "onnx/a_det.yml", hash_bytes(b"")))
    monkeypatch.setitem(rows, "a_det", ModelSpec("a_det", "det", (3, None, None), (Published(files),)))
    server.answers[PUBLISHED_PATH] = (200, len(PUBLISHED), PUBLISHED)
    with pytest.raises(ModelError, match=r"/v3\.10\.0/onnx/a_det\.yml: HTTP 404"):
        pull_model("a_det")
    assert list_store(home) == []
    server.answers["/v3.10.0/onnx/a_det.yml"] = (200, 0, b"")
    folder = pull_model("a_det").program.parent
    assert sorted(path.name for path in folder.iterdir()) == ["inference.onnx", "inference.yml", "source.json"]


def test_stored_files_are_checked_against_their_source(server, package, monkeypatch):
    fake_uv(monkeypatch, package)
    path = pull_model("a_det").program
    path.write_bytes(PUBLISHED)
    with pytest.raises(ModelError, match=f"expected {hash_bytes(CARRIED)}, actual {hash_bytes(PUBLISHED)}") as caught:
        locate_model("a_det")
    assert "edge-ocr models pull a_det --force" in caught.value.hint
    # Placed by hand, any conversion of the row will do.
    (path.parent / "source.json").unlink()
    assert locate_model("a_det").program == path
    path.write_bytes(b"other")
    with pytest.raises(ModelError, match=f"{hash_bytes(PUBLISHED)} or {hash_bytes(CARRIED)}, .*{hash_bytes(b'other')}"):
        locate_model("a_det")


def test_files_of_the_archive_placed_by_hand(home):
    """Their sha256 is not known, so nothing is checked."""
    make_folder(home / "models/a_det", {"inference.json": b"{}", "inference.pdiparams": b"weights"})
    assert locate_model("a_det").format == "json"


def test_installed_package_of_the_right_version_needs_no_network(server, package, monkeypatch, home):
    monkeypatch.setattr(model_store, "find_carrier", lambda carrier: (package, carrier.version))
    assert pull_model("a_det").program.read_bytes() == CARRIED
    assert (server.requests, list_store(home)) == ([], ["a_det"])


# --- a mirror


def test_a_copy_of_the_store_is_a_mirror(server, mirror, monkeypatch, home, tmp_path):
    server.answers[PUBLISHED_PATH] = (200, len(PUBLISHED), PUBLISHED)
    pull_model("a_det")
    shutil.rmtree(home)
    monkeypatch.setenv("EDGE_OCR_MODEL_URL", mirror.url + "/")
    mirror.answers = {"/a_det/inference.onnx": (200, len(PUBLISHED), PUBLISHED)}
    commands = fake_uv(monkeypatch, None)
    assert pull_model("a_det").program.read_bytes() == PUBLISHED
    assert read_record(home)["urls"] == {"inference.onnx": f"{mirror.url}/a_det/inference.onnx"}
    # Archives first, as mirrors have always had them, and the public addresses not at all.
    assert mirror.requests[1:] == ["/a_det_infer.tar", "/a_det/inference.onnx"]
    assert commands == []
    # The store may have had it from the wheel.
    mirror.answers = {"/a_det/inference.onnx": (200, len(CARRIED), CARRIED)}
    assert pull_model("a_det", force=True).program.read_bytes() == CARRIED
    assert read_record(home)["source"] == "package a-carrier 1.2"
    assert commands == []


def test_what_a_mirror_does_not_have_is_not_worth_a_line(mirror, package, monkeypatch, caplog):
    fake_uv(monkeypatch, package)
    assert pull_model("a_det").program.read_bytes() == CARRIED
    assert caplog.messages == []
    assert mirror.requests == ["/a_det_infer.tar", "/a_det/inference.onnx", "/a_det/inference.onnx"]


def test_a_mirror_has_no_other_bytes(mirror, package, monkeypatch, home, caplog):
    mirror.answers["/a_det/inference.onnx"] = (200, 5, b"other")
    fake_uv(monkeypatch, package)
    assert pull_model("a_det").program.read_bytes() == CARRIED
    assert any("/a_det/inference.onnx" in line and hash_bytes(b"other") in line for line in caplog.messages)


def test_archive_with_known_files(server, rows, monkeypatch, home):
    """PaddlePaddle's archives of ONNX hold the program of Paddle, too, without its parameters."""
    onnx, yml = b"onnx", b"Global: {model_name: a_det}\n"
    files = (SourceFile("inference.onnx", "", hash_bytes(onnx)), SourceFile("inference.yml", "", hash_bytes(yml)))
    archive = Archive("a_det_onnx_infer.tar", "paddle9", files)
    monkeypatch.setitem(rows, "a_det", ModelSpec("a_det", "det", (3, None, None), (archive,)))
    content = {"inference.onnx": onnx, "inference.yml": yml, "inference.json": b"{}"}
    server.answers["/paddle9/a_det_onnx_infer.tar"] = (200, None, make_tar({**content, "inference.yml": b"other: 1"}))
    with pytest.raises(
        ModelError, match=rf"the archive/inference\.yml .*{hash_bytes(yml)}, .*{hash_bytes(b'other: 1')}"
    ):
        pull_model("a_det")
    server.answers["/paddle9/a_det_onnx_infer.tar"] = (200, None, make_tar(content))
    model = pull_model("a_det")
    assert (model.format, model.program.read_bytes()) == ("onnx", onnx)
