"""The store of Paddle-Lite libraries: adding, finding and fetching them."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import os
import re
import shutil
import tarfile
import threading

import pytest

from converters.lite.libraries import store
from converters.lite.libraries.platforms import PLATFORMS, asset_url, normalise_version
from converters.lite.libraries.store import add_library, fetch_library, find_library, list_stored, open_stored
from edge_ocr.errors import ModelError, UsageError
from edge_ocr.models import store as model_store

EXTRA = "\\nError: This model is not supported, because operator '"


def test_add_archive(write_archive, list_files, armlinux_files, home, tmp_path):
    archive = write_archive(tmp_path, armlinux_files)
    library = add_library(archive)
    folder = home / "libs" / "v2.13-rc" / "armlinux.armv8"
    assert library.folder == folder
    assert list_files(folder) == [
        "cxx/include/paddle_api.h",
        "cxx/include/paddle_place.h",
        "cxx/lib/libpaddle_light_api_shared.so",
        "source.json",
    ]
    assert library.library == library.cxx_library == folder / "cxx/lib/libpaddle_light_api_shared.so"
    assert library.include_dir == folder / "cxx/include"
    assert (library.jni_library, library.jar) == (None, None)
    assert (library.actual_version, library.version_evidence, library.version_matches) == ("v2.13-rc", "library", True)
    assert library.concerns == ()
    assert library.source == str(archive)
    record = json.loads((folder / "source.json").read_text())
    assert record["path"] == str(archive)
    assert record["archive_sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert record["version_mismatch_allowed"] is False
    assert record["date"]
    content = armlinux_files["cxx/lib/libpaddle_light_api_shared.so"]
    assert record["files"]["cxx/lib/libpaddle_light_api_shared.so"] == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
    }
    assert len(record["files"]) == 3
    assert find_library("armlinux.armv8") == find_library("armlinux.armv8", "2.13-rc") == library
    assert find_library("armlinux.armv8", "v2.12") is None
    assert find_library("android.armv8") is None
    assert list_stored() == [("v2.13-rc", "armlinux.armv8")]
    # No temporary file is left.
    assert [path.name for path in (home / "libs").iterdir()] == ["v2.13-rc"]


def test_add_android_archive(write_archive, android_files, tmp_path):
    library = add_library(write_archive(tmp_path, android_files, top=""), platform="android.armv8")
    assert library.library == library.jni_library
    assert library.library.name == "libpaddle_lite_jni.so"
    assert library.jar.name == "PaddlePredictor.jar"
    assert library.cxx_library.is_file()
    assert library.info.kind == "jni"
    assert library.cxx_runtime == library.jni_library.with_name("libc++_shared.so")
    assert library.concerns == ()
    assert "java/so/libc++_shared.so" in json.loads((library.folder / "source.json").read_text())["files"]


def test_add_plain_tar(make_tar, armlinux_files, tmp_path):
    path = tmp_path / "lite.tar"
    path.write_bytes(gzip.decompress(make_tar(armlinux_files)))
    assert add_library(path).platform == "armlinux.armv8"


@pytest.mark.parametrize("around", ["", "inference_lite_lib.armlinux.armv8"])
def test_add_folder(list_files, armlinux_files, tmp_path, around):
    for name, content in armlinux_files.items():
        path = tmp_path / "unpacked" / around / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    library = add_library(tmp_path / "unpacked")
    assert len(list_files(library.folder)) == 4
    assert json.loads((library.folder / "source.json").read_text())["archive_sha256"] is None


def test_add_folder_with_several(build, tmp_path):
    for name in ("one", "two"):
        path = tmp_path / "unpacked" / name / "cxx/lib/libpaddle_light_api_shared.so"
        path.parent.mkdir(parents=True)
        shutil.copy(build(), path)
    with pytest.raises(ModelError, match="one, two"):
        add_library(tmp_path / "unpacked")


def test_add_empty_folder(assert_store_empty, tmp_path, home):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"libpaddle_light_api_shared\.so"):
        add_library(tmp_path / "empty")
    assert_store_empty(home)


def test_add_bare_library(build, tmp_path):
    library = add_library(build("armv7hf"))
    assert library.platform == "armlinux.armv7hf"
    assert library.include_dir is None
    (concern,) = library.concerns
    assert "--include" in concern
    headers = tmp_path / "include"
    headers.mkdir()
    with pytest.raises(UsageError, match=r"paddle_api\.h"):
        add_library(build(), include_dir=headers)
    for name in ("paddle_api.h", "paddle_place.h", "readme.md"):
        (headers / name).write_text(name)
    library = add_library(build(), include_dir=headers)
    assert sorted(path.name for path in library.include_dir.iterdir()) == ["paddle_api.h", "paddle_place.h"]
    assert library.concerns == ()


def test_include_is_for_a_bare_library_only(write_archive, armlinux_files, tmp_path):
    with pytest.raises(UsageError, match="--include"):
        add_library(write_archive(tmp_path, armlinux_files), include_dir=tmp_path)


def test_add_bare_jni_library(jni):
    library = add_library(jni("armv7"))
    assert library.platform == "android.armv7"
    assert library.cxx_runtime is None
    no_jar, no_runtime = library.concerns
    assert "java/jar/PaddlePredictor.jar" in no_jar
    assert no_runtime.startswith("libpaddle_lite_jni.so needs libc++_shared.so")
    assert "c++_static" in no_runtime
    assert "edge-ocr libs add --force" in no_runtime


def test_the_store_already_has_one(build, tmp_path):
    first = add_library(build())
    with pytest.raises(UsageError, match=r"armlinux\.armv8 v2\.13-rc") as caught:
        add_library(build())
    assert "--force" in caught.value.hint
    with pytest.raises(UsageError, match=r"armlinux\.armv8 v2\.13-rc"):
        add_library(build(), platform="armlinux.armv8")
    second = add_library(build(page=65536), force=True)
    assert second.folder == first.folder
    assert second.info != first.info
    # A failed replacement keeps it.
    with pytest.raises(ModelError):
        add_library(build(texts=(EXTRA,)), force=True)
    assert find_library("armlinux.armv8") == second


@pytest.mark.parametrize("version", ["", "2", "v2.13-rc/..", "../v2.13", "latest", "v2.13-rc\n"])
def test_no_version(version, build):
    with pytest.raises(UsageError, match=re.escape(repr(version))):
        normalise_version(version)
    with pytest.raises(UsageError):
        add_library(build(), version=version)


def test_unknown_platform(tmp_path):
    for use in (find_library, open_stored, fetch_library, asset_url):
        with pytest.raises(UsageError, match=r"'armlinux\.armv9'") as caught:
            use("armlinux.armv9")
        assert "armlinux.armv7hf" in caught.value.hint
    with pytest.raises(UsageError, match="'x86'"):
        add_library(tmp_path, platform="x86")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "nothing"),
        (b"PK\x03\x04zip", "50 4b 03 04"),
        (b"!<arch>\n", "static"),
        (b"\x1f\x8bnot gzip", "gzip"),
        (gzip.compress(b"no tar" * 1000, mtime=0), "tar"),
        ({"readme": b"x"}, r"libpaddle_light_api_shared\.so"),
    ],
)
def test_invalid_paths(make_tar, assert_store_empty, tmp_path, home, content, message):
    path = tmp_path / "file"
    path.write_bytes(content if isinstance(content, bytes) else make_tar(content))
    with pytest.raises(ModelError, match=message) as caught:
        add_library(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert_store_empty(home)


def test_missing_path(tmp_path):
    with pytest.raises(ModelError, match=r"none\.tar\.gz"):
        add_library(tmp_path / "none.tar.gz")


def make_member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (make_member("../evil.so"), "path"),
        (make_member("/cxx/include/evil.h"), "path"),
        (make_member("top/../../cxx/include/evil.h"), "path"),
        (make_member("top/cxx\\include\\evil.h"), "path"),
        (make_member("top/link", tarfile.SYMTYPE, "/etc/passwd"), "plain file"),
        (make_member("top/cxx/include/link.h", tarfile.LNKTYPE, "top/demo"), "plain file"),
        (make_member("top/pipe", tarfile.FIFOTYPE), "plain file"),
        (make_member("other/cxx/include/paddle_api.h"), r"paddle_api\.h"),
    ],
)
def test_hostile_archives(write_archive, assert_store_empty, armlinux_files, tmp_path, home, member, message):
    with pytest.raises(ModelError, match=message):
        add_library(write_archive(tmp_path, armlinux_files, extra=(member,)))
    assert_store_empty(home)
    assert not (tmp_path / "evil.so").exists()


def test_archive_limits(write_archive, assert_store_empty, armlinux_files, tmp_path, home, monkeypatch):
    archive = write_archive(tmp_path, armlinux_files)
    monkeypatch.setattr(store, "MAX_MEMBERS", 5)
    with pytest.raises(ModelError, match="5 members"):
        add_library(archive)
    # As for a small file that unpacks to endless zeros.
    monkeypatch.setattr(model_store, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(ModelError, match="1000 bytes"):
        add_library(archive)
    assert_store_empty(home)


def test_truncated_archive(make_tar, assert_store_empty, armlinux_files, tmp_path, home):
    data = make_tar(armlinux_files)
    path = tmp_path / "cut.tar.gz"
    for size in range(20, len(data) - 1, len(data) // 12):
        path.write_bytes(data[:size])
        with pytest.raises(ModelError):
            add_library(path)
    assert_store_empty(home)


def test_interrupted(write_archive, assert_store_empty, armlinux_files, tmp_path, home, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "write_source", stop)
    with pytest.raises(KeyboardInterrupt):
        add_library(write_archive(tmp_path, armlinux_files))
    assert_store_empty(home)
    assert list_stored() == []


def test_store_that_cannot_be_written(build, home):
    home.write_text("a file")
    with pytest.raises(ModelError, match=str(home)):
        add_library(build())


def test_damaged_store(build):
    library = add_library(build())
    with library.library.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    with pytest.raises(ModelError, match="sha256") as caught:
        find_library("armlinux.armv8")
    assert "edge-ocr libs fetch --platform armlinux.armv8" in caught.value.hint
    library.library.unlink()
    with pytest.raises(ModelError, match="libpaddle_light_api_shared"):
        find_library("armlinux.armv8")


@pytest.mark.parametrize("record", ["{", "[]", "{}", '{"files": {"a": 1}}', '{"files": []}'])
def test_damaged_record(build, record):
    library = add_library(build())
    (library.folder / "source.json").write_text(record)
    with pytest.raises(ModelError, match=r"source\.json"):
        find_library("armlinux.armv8")


def test_placed_by_hand(build, home):
    place = home / "libs/v2.13-rc/armlinux.armv8/cxx/lib"
    place.mkdir(parents=True)
    shutil.copy(build(), place / "libpaddle_light_api_shared.so")
    library = find_library("armlinux.armv8")
    assert library.source == "placed by hand"
    shutil.copy(build(texts=("\\0v2.12",)), place / "libpaddle_light_api_shared.so")
    with pytest.raises(ModelError, match=r"v2\.12, expected v2\.13-rc"):
        find_library("armlinux.armv8")
    shutil.copy(build("armv7hf"), place / "libpaddle_light_api_shared.so")
    with pytest.raises(ModelError, match=r"armlinux\.armv7hf, expected armlinux\.armv8"):
        find_library("armlinux.armv8")


def test_library_of_the_environment(build, monkeypatch, tmp_path):
    stored = add_library(build("armv7hf"))
    path = tmp_path / "cxx/lib/mine.so"
    path.parent.mkdir(parents=True)
    shutil.copy(build(), path)
    monkeypatch.setenv("EDGE_OCR_LITE_LIB", str(path))
    library = find_library("armlinux.armv8")
    assert (library.library, library.folder, library.source) == (path, path.parent, "EDGE_OCR_LITE_LIB")
    assert library.include_dir is None
    (tmp_path / "cxx/include").mkdir()
    (tmp_path / "cxx/include/paddle_api.h").write_text("")
    assert find_library("armlinux.armv8").include_dir == tmp_path / "cxx/include"
    # For another platform, the store counts; this one alone is not in the store.
    assert find_library("armlinux.armv7hf") == stored
    assert find_library("android.armv8") is None
    assert open_stored("armlinux.armv8") is None


def test_unfit_library_of_the_environment(build, monkeypatch, tmp_path):
    add_library(build())
    monkeypatch.setenv("EDGE_OCR_LITE_LIB", str(build(texts=("\\0v2.12",))))
    with pytest.raises(ModelError, match=r"EDGE_OCR_LITE_LIB=.*v2\.12, expected v2\.13-rc"):
        find_library("armlinux.armv8")
    monkeypatch.setenv("EDGE_OCR_LITE_LIB", str(tmp_path / "none.so"))
    with pytest.raises(ModelError, match=r"EDGE_OCR_LITE_LIB=.*none\.so: .*No such file"):
        find_library("armlinux.armv8")


class Mirror:
    """A loopback server of archives: path -> body."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.requests: list[str] = []
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.requests.append(self.path)
                body = mirror.answers.get(self.path)
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def mirror(monkeypatch):
    served = Mirror()
    thread = threading.Thread(target=served.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("EDGE_OCR_LITE_URL", served.url + "/")
    yield served
    served.server.shutdown()
    served.server.server_close()
    thread.join()


ASSET = "/v2.13-rc/inference_lite_lib.armlinux.armv8.gcc.with_extra.with_cv.tar.gz"


def test_official_urls():
    base = "https://github.com/PaddlePaddle/Paddle-Lite/releases/download/v2.13-rc/inference_lite_lib."
    assert [asset_url(platform) for platform in PLATFORMS] == [
        base + "armlinux.armv8.gcc.with_extra.with_cv.tar.gz",
        base + "armlinux.armv7hf.gcc.with_extra.with_cv.tar.gz",
        base + "android.armv8.clang.c++_shared.with_extra.with_cv.tar.gz",
        base + "android.armv7.clang.c++_shared.with_extra.with_cv.tar.gz",
    ]
    assert "/v2.12/" in asset_url("android.armv7", "2.12")


def test_fetch(make_tar, mirror, armlinux_files, home):
    body = mirror.answers[ASSET] = make_tar(armlinux_files)
    reports: list[tuple[int, int | None]] = []
    library = fetch_library("armlinux.armv8", progress=lambda *report: reports.append(report))
    assert reports[-1] == (len(body), len(body))
    assert library.source == mirror.url + ASSET
    record = json.loads((library.folder / "source.json").read_text())
    assert record["url"] == mirror.url + ASSET
    assert record["archive_sha256"] == hashlib.sha256(body).hexdigest()
    # The store has it from now on.
    assert fetch_library("armlinux.armv8") == find_library("armlinux.armv8") == library
    assert mirror.requests == [ASSET]
    assert fetch_library("armlinux.armv8", force=True).concerns == ()
    assert len(mirror.requests) == 2


def test_fetched_archive_that_changed(make_tar, mirror, armlinux_files):
    mirror.answers[ASSET] = make_tar(armlinux_files)
    fetch_library("armlinux.armv8")
    mirror.answers[ASSET] = make_tar({**armlinux_files, "cxx/include/paddle_api.h": b"// changed"})
    library = fetch_library("armlinux.armv8", force=True)
    assert "sha256" in library.concerns[0]
    assert (library.include_dir / "paddle_api.h").read_bytes() == b"// changed"


def test_fetched_library_that_does_not_name_its_version(make_tar, mirror, armlinux_files, build):
    armlinux_files["cxx/lib/libpaddle_light_api_shared.so"] = build(texts=(EXTRA,)).read_bytes()
    mirror.answers[ASSET] = make_tar(armlinux_files)
    library = fetch_library("armlinux.armv8")
    assert (library.actual_version, library.version_evidence) == ("v2.13-rc", "release")
    assert library.concerns == ("the library does not name its version; it was fetched as v2.13-rc, which is assumed",)
    assert find_library("armlinux.armv8") == library


def test_fetched_library_of_another_version(make_tar, assert_store_empty, mirror, armlinux_files, build, home):
    armlinux_files["cxx/lib/libpaddle_light_api_shared.so"] = build(texts=("\\0v2.12", EXTRA)).read_bytes()
    mirror.answers[ASSET] = make_tar(armlinux_files)
    with pytest.raises(ModelError, match=r"http://127.*v2\.12, expected v2\.13-rc"):
        fetch_library("armlinux.armv8")
    assert_store_empty(home)


def test_fetched_library_for_another_machine(make_tar, assert_store_empty, mirror, armlinux_files, build, home):
    armlinux_files["cxx/lib/libpaddle_light_api_shared.so"] = build("armv7hf").read_bytes()
    mirror.answers[ASSET] = make_tar(armlinux_files)
    with pytest.raises(ModelError, match=r"armlinux\.armv7hf, expected armlinux\.armv8"):
        fetch_library("armlinux.armv8")
    assert_store_empty(home)


def test_fetch_fails(assert_store_empty, mirror, home, monkeypatch):
    with pytest.raises(ModelError, match=r"http://127.*404") as caught:
        fetch_library("armlinux.armv8")
    assert "edge-ocr libs add FILE" in caught.value.hint
    mirror.answers[ASSET] = b"no archive"
    with pytest.raises(ModelError, match="tar: truncated header"):
        fetch_library("armlinux.armv8")
    monkeypatch.setattr(model_store, "MAX_ARCHIVE_BYTES", 5)
    with pytest.raises(ModelError, match="5 bytes"):
        fetch_library("armlinux.armv8")
    assert_store_empty(home)


def test_failed_force_keeps_the_old(make_tar, mirror, armlinux_files):
    mirror.answers[ASSET] = make_tar(armlinux_files)
    library = fetch_library("armlinux.armv8")
    mirror.answers[ASSET] = b"no archive"
    with pytest.raises(ModelError):
        fetch_library("armlinux.armv8", force=True)
    assert find_library("armlinux.armv8") == library
