"""Downloads from a mirror into the store, hostile archives, and where the store is."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.models import (
    FILES,
    NAME,
    list_store,
    make_folder,
    make_tar,
    needs_carrier,
    refuse,
)

from edge_ocr.errors import ModelError
from edge_ocr.models import store as model_store
from edge_ocr.models.resolve import locate_model, pull_model, resolve_model

pytestmark = pytest.mark.usefixtures("home")


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
    # The store has it from now on.
    assert resolve_model(NAME, "det") == locate_model(NAME) == pull_model(NAME) == model
    assert len(mirror.requests) == 1


@pytest.mark.parametrize("folder", ["", "./", "./model/", "model/"])
def test_archive_with_and_without_a_folder(mirror, folder):
    mirror.serve(NAME, make_tar(FILES, folder))
    assert pull_model(NAME).params.read_bytes() == FILES["inference.pdiparams"]


def test_record_in_an_archive_is_ignored(mirror, home):
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
    with pytest.raises(ModelError, match=r"inference\.pdiparams .*7000 bytes, .*5 bytes"):
        resolve_model(NAME, "det")
    path.unlink()
    with pytest.raises(ModelError, match=r"inference\.pdiparams .*7000 bytes, .*no file"):
        resolve_model(NAME, "det")


@pytest.mark.parametrize("record", ["{", "[]", '{"files": {"a": 1}}', '{"files": {"a": {"size_bytes": "x"}}}'])
def test_damaged_record(home, record):
    make_folder(home / "models" / NAME, {**FILES, "source.json": record})
    with pytest.raises(ModelError, match=r"source\.json") as e:
        locate_model(NAME)
    assert f"edge-ocr models pull {NAME} --force" in e.value.hint


def test_folder_placed_by_hand(home):
    make_folder(home / "models" / NAME, FILES)
    assert resolve_model(NAME, "det").source == f"store {home / 'models' / NAME}"


@pytest.mark.parametrize(
    "stray", [[], [".DS_Store"], ["inference.pdiparams", "inference.yml"], ["source.json"]], ids=str
)
def test_folder_without_a_program_in_the_store_is_ignored(home, mirror, stray):
    make_folder(home / "models" / NAME, dict.fromkeys(stray, b"x"))
    assert not model_store.is_stored(NAME)
    assert locate_model(NAME) is None
    mirror.serve(NAME, make_tar(FILES))
    assert resolve_model(NAME, "det").program.read_bytes() == b"program"


def test_http_error(mirror, home):
    refuse(mirror, home, "HTTP 404")


def test_no_server_listens(mirror, home, monkeypatch):
    mirror.url = "http://127.0.0.1:9"
    monkeypatch.setenv("EDGE_OCR_MODEL_URL", mirror.url + "/")
    refuse(mirror, home, "Connection refused")


@pytest.mark.parametrize("url", ["file:///etc", "ftp://127.0.0.1", "nonsense"])
def test_other_schemes(mirror, home, monkeypatch, url):
    mirror.url = url
    monkeypatch.setenv("EDGE_OCR_MODEL_URL", url)
    refuse(mirror, home, r"http\(s\)")


def test_truncated_download(mirror, home):
    body = make_tar(FILES)
    mirror.serve(NAME, body[:5000], length=len(body))
    refuse(mirror, home, f"expected {len(body)} bytes, actual 5000")


def test_truncated_without_announced_length(mirror, home):
    mirror.serve(NAME, make_tar(FILES)[:5000], length=None)
    refuse(mirror, home, "archive.*(tar|cut off)")


def test_too_large_is_refused_before_and_while_reading(mirror, home, monkeypatch):
    monkeypatch.setattr(model_store, "MAX_ARCHIVE_BYTES", 1000)
    mirror.serve(NAME, make_tar(FILES))
    refuse(mirror, home, f"1000 bytes.* {len(make_tar(FILES))}")
    mirror.serve(NAME, make_tar(FILES), length=None)
    refuse(mirror, home, "1000 bytes, more")


def test_silent_server(mirror, home, monkeypatch):
    monkeypatch.setattr(model_store, "READ_TIMEOUT_S", 0.2)
    mirror.delay_s = 0.6
    mirror.serve(NAME, make_tar(FILES))
    refuse(mirror, home, "timed out")


def test_slow_server(mirror, home, monkeypatch):
    monkeypatch.setattr(model_store, "DOWNLOAD_TIMEOUT_S", 0.3)
    mirror.delay_s = 0.6
    mirror.serve(NAME, make_tar(FILES))
    refuse(mirror, home, "timed out")


def test_redirect_away_from_https(mirror, monkeypatch, tmp_path):
    # This check does not need a TLS server: the answer is simulated.
    answer = io.BytesIO(b"body")
    answer.geturl = lambda: "http://127.0.0.1/x"  # type: ignore[attr-defined]
    fetcher = SimpleNamespace(open=lambda *_: contextlib.nullcontext(answer))
    monkeypatch.setattr(model_store, "open_from_anywhere", lambda: fetcher)
    with pytest.raises(ModelError, match="https to http://127"):
        model_store.download("https://127.0.0.1/x", tmp_path / "x", None)
    assert not (tmp_path / "x").exists()


def test_interrupt_leaves_nothing(mirror, home):
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
    with pytest.raises(ModelError, match=re.escape(str(tmp_path / "file"))) as e:
        pull_model(NAME)
    assert "EDGE_OCR_HOME" in e.value.hint


def test_leftovers_of_a_killed_process_are_removed_after_a_day(mirror, home):
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


def test_concurrent_placing_leaves_one_complete_folder(home, tmp_path):
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


def test_hash_is_computed_again_after_a_change(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert model_store.hash_file(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"three")
    assert model_store.hash_file(path) == hashlib.sha256(b"three").hexdigest()


# --- hostile archives


def make_member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", size: int = 0) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member.tobuf(tarfile.GNU_FORMAT) + b"\0" * (-(-size // 512) * 512 if size < 10_000 else 0)


@pytest.mark.parametrize(
    ("member", "match"),
    [
        (make_member("../evil", size=4), r" \.\./evil, .*outside"),
        (make_member("model/../../evil", size=4), "evil, .*outside"),
        (make_member("/evil", size=4), " /evil, .*outside"),
        (make_member("model\\..\\evil", size=4), "evil, .*outside"),
        (make_member("C:evil", size=4), "evil, .*outside"),
        (make_member("a/b/evil", size=4), "a/b/evil.*folder"),
        (make_member("model/link", tarfile.SYMTYPE, link="/etc/passwd"), "model/link, .*plain"),
        (make_member("model/link", tarfile.LNKTYPE, link="/etc/passwd"), "model/link, .*plain"),
        (make_member("model/device", tarfile.CHRTYPE), "model/device, .*plain"),
        (make_member("model/disk", tarfile.BLKTYPE), "model/disk, .*plain"),
        (make_member("model/fifo", tarfile.FIFOTYPE), "model/fifo, .*plain"),
        (make_member("model/bomb", size=3 * 2**30), "2147483648 bytes"),
        (make_member("model/a", size=4) + make_member("a", size=4), " a twice"),
        (b"".join(make_member(f"model/{i}") for i in range(101)), "100 members"),
        (b"no tar at all", "valid tar"),
        (b"", "valid tar"),
        (make_member("model/readme.txt", size=4), "archive contains no model"),
        (make_member("model/inference.pdmodel", size=4), r"archive .*inference\.pdiparams"),
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
    refuse(mirror, home, "2147483648 bytes|plain")


def test_many_small_files_count_together(mirror, home, monkeypatch):
    monkeypatch.setattr(model_store, "MAX_UNPACKED_BYTES", 7001)
    mirror.serve(NAME, make_tar(FILES))
    refuse(mirror, home, "7001 bytes")


# --- where the store is


def test_store_root_follows_the_environment(monkeypatch, tmp_path):
    assert model_store.store_root() == tmp_path / "home"
    # Shells expand ~, and a folder may have that name.
    monkeypatch.setenv("EDGE_OCR_HOME", "~/models")
    assert model_store.store_root() == Path("~/models")
    monkeypatch.setenv("EDGE_OCR_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert model_store.store_root() == tmp_path / "cache" / "edge-ocr"
