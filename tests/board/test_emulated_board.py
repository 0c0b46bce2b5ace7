"""Bundles on a board: Debian for arm64 under qemu, from unpacking to uninstalling."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from converters.bundle.reader import inspect_bundle
from converters.lite.graph_engines import open_graph_engines
from converters.signing import make_keys, read_private_key
from edge_ocr.core.pictures import read_picture
from edge_ocr.core.pipeline import TextReader

pytestmark = [pytest.mark.board, pytest.mark.slow]


def list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return each file with what changes when it is written: its inode and its time, in ns."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_ino, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if not path.is_dir()
    }


@dataclass(frozen=True)
class Installed:
    """A bundle on the board."""

    folder: Path
    """On the host; /mnt on the board."""
    bundle: Path
    run: Callable[..., Any]
    """Run a command in `folder`, on the board."""

    def predict(self, *arguments: str) -> dict[str, Any]:
        """Read a picture as a user would, through a link."""
        done = self.run("./ocr", "predict", "--format", "json", *arguments)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))


def unpack(board, archive: Path, folder: Path) -> Path:
    # With Python's zipfile, which minimal systems have: scripts lose their mode.
    done = board.run(folder, "python3", "-m", "zipfile", "-e", "/mnt/bundle.zip", "/mnt")
    assert done.returncode == 0, done.stderr
    return folder / "bundle"


def read_on_host(bundle: Path, picture: Path) -> Any:
    """Read a picture with the graphs that the bundle's own models make."""
    whole = inspect_bundle(bundle).bundle
    assert whole is not None
    with open_graph_engines(whole.models, threads=2) as opened:
        return TextReader.build(opened.engines, whole.charset, whole.config).read(read_picture(picture))


def compare(result: dict[str, Any], expected: Any) -> None:
    assert result["rec_text"] == [line.text for line in expected.lines]
    assert len(result["rec_text"]) > 1
    corners = np.array([line.polygon for line in expected.lines])
    assert np.abs(np.array(result["dt_polys"]) - corners).max() <= 3
    assert np.abs(np.array(result["rec_score"]) - [line.rec_score for line in expected.lines]).max() < 0.02


# --- ONNX Runtime


@pytest.fixture(scope="module")
def onnx(board, wheels, onnx_bundle, tmp_path_factory) -> Installed:
    """Unpack, refuse without --pip, install with it; the tests below continue from there, in their order."""
    folder = tmp_path_factory.mktemp("board")
    shutil.copy(onnx_bundle.zip_file, folder / "bundle.zip")
    shutil.copytree(wheels, folder / "wheels")
    bundle = unpack(board, folder / "bundle.zip", folder)
    env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/mnt/wheels"}
    before = list_files(bundle)

    refused = board.run(folder, "sh", "bundle/install.sh")
    assert (refused.returncode, refused.stdout) == (6, "")
    assert "Error: /usr/bin/python3 lacks the Python modules onnxruntime" in refused.stderr
    assert "--pip" in refused.stderr
    assert list_files(bundle) == before

    done = board.run(folder, "sh", "bundle/install.sh", "--pip", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "engine: onnxruntime (the bundle has no Paddle-Lite library for armv8)" in done.stderr
    assert "golden  ok" in done.stdout
    after = list_files(bundle)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith(".installed/") for name in after.keys() - before.keys())

    # The deployment moves it into its place afterwards.
    bundle.rename(folder / "a place")
    (folder / "a place" / "edge-ocr-lite").chmod(0o755)
    (folder / "ocr").symlink_to("a place/edge-ocr-lite")
    return Installed(folder, folder / "a place", lambda *command, **options: board.run(folder, *command, **options))


def test_a_second_installation_changes_nothing(onnx):
    before = list_files(onnx.bundle / ".installed")
    done = onnx.run("sh", "a place/install.sh", "--no-selftest")
    assert done.returncode == 0, done.stderr
    assert list_files(onnx.bundle / ".installed") == before


def test_info_shows_what_is_installed(onnx):
    done = onnx.run("./ocr", "info")
    assert done.returncode == 0, done.stderr
    info = json.loads(done.stdout)
    assert (info["abi"], info["glibc"], info["python"][:4]) == ("armv8", "2.36", "3.11")
    assert info["modules"] == {"numpy": True, "cv2": True, "pyclipper": True, "onnxruntime": True}
    assert info["engines"]["onnxruntime"] is None
    assert info["engines"]["paddle_lite"] is not None


def test_it_reads_a_picture_as_the_host_does(onnx, onnx_bundle, examples):
    # The upper lines are enough: under emulation, the whole picture takes two minutes.
    picture = onnx.folder / "label.png"
    cv2.imwrite(str(picture), read_picture(examples / "label.png")[:200])
    compare(onnx.predict("label.png"), read_on_host(onnx_bundle.out_dir, picture))


@pytest.mark.parametrize(
    ("picture", "words"), [("bad.png", "bad.png is truncated"), ("none.png", "no such file: none.png")]
)
def test_a_picture_that_cannot_be_read_has_an_exit_code(onnx, examples, picture, words):
    (onnx.folder / "bad.png").write_bytes((examples / "label.png").read_bytes()[:5000])
    done = onnx.run("./ocr", picture)
    assert (done.returncode, done.stdout) == (4, "")
    assert f"Error: {words}" in done.stderr


def test_a_damaged_bundle_is_not_installed(onnx):
    damaged = onnx.folder / "damaged"
    shutil.copytree(onnx.bundle, damaged, ignore=shutil.ignore_patterns(".installed"))
    content = bytearray((damaged / "onnx" / "rec.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "onnx" / "rec.onnx").write_bytes(content)
    python = "/mnt/a place/.installed/venv/bin/python"
    done = onnx.run("sh", "damaged/install.sh", "--python", python)
    assert done.returncode == 5, done.stderr
    assert "rec.onnx is damaged" in done.stderr
    assert not (damaged / ".installed").exists()


def test_uninstalling_leaves_the_bundle(onnx, onnx_bundle):
    for _ in range(2):
        done = onnx.run("sh", "a place/uninstall.sh")
        assert done.returncode == 0, done.stderr
    left = {name for name in list_files(onnx.bundle) if "__pycache__" not in name}
    assert left == set(list_files(onnx_bundle.out_dir))


# --- signatures, with the OpenSSL of the board


def test_the_board_distinguishes_signed_bundles(board, onnx_bundle, tmp_path):
    make_keys(tmp_path / "a.key", tmp_path / "a.pub")
    key, bundle, trust = read_private_key(tmp_path / "a.key"), tmp_path / "bundle", tmp_path / "trust"
    shutil.copytree(onnx_bundle.out_dir, bundle)
    trust.mkdir()
    (tmp_path / "a.pub").rename(trust / "a.pem")
    shutil.copy(bundle / "runtime" / "edge_ocr_lite" / "trust.py", trust)
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    model = (bundle / "models" / "rec.nb").read_bytes()

    def sign(counter: int) -> None:
        content = json.dumps({**manifest, "release": {"name": "demo", "counter": counter}}).encode()
        (bundle / "manifest.json").write_bytes(content)
        (bundle / "manifest.sig").write_bytes(key.sign(content))

    def ask() -> tuple[int, str]:
        # Alone, it also refuses files that a bundle leaves when it is used.
        env = {"EDGE_OCR_TRUST": "/mnt/trust", "PYTHONDONTWRITEBYTECODE": "1"}
        done = board.run(tmp_path, "sh", "bundle/edge-ocr-lite", "info", env=env)
        alone = board.run(tmp_path, "python3", "-I", "trust/trust.py", "check", "bundle", env=env)
        assert alone.returncode == done.returncode, done.stderr + alone.stderr
        return done.returncode, done.stderr + alone.stderr

    sign(5)
    done = ask()
    assert done == (0, "")
    # Checking a bundle does not block older ones; putting it in place does.
    assert not (trust / "seen.json").exists()
    env = {"EDGE_OCR_TRUST": "/mnt/trust"}
    settled = board.run(tmp_path, "python3", "-I", "trust/trust.py", "settle", "bundle", env=env)
    assert (settled.returncode, settled.stdout) == (0, "/mnt/trust\n"), settled.stderr
    assert json.loads((trust / "seen.json").read_bytes()) == {"demo": 5}
    sign(4)
    status, said = ask()
    assert (status, said.count("counter 4, expected 5 or more")) == (5, 2)
    sign(6)
    (bundle / "models" / "rec.nb").write_bytes(model[:-1] + b"x")
    status, said = ask()
    assert (status, said.count("sha256")) == (5, 2)
    (bundle / "models" / "rec.nb").write_bytes(model)
    (bundle / "manifest.json").write_bytes((bundle / "manifest.json").read_bytes() + b" ")
    status, said = ask()
    assert (status, said.count("manifest.sig does not fit")) == (5, 2)
    (bundle / "manifest.sig").unlink()
    status, said = ask()
    assert (status, said.count("is not signed")) == (5, 2)


# --- Paddle-Lite


@pytest.fixture(scope="module")
def library() -> Path:
    chosen = os.environ.get("EDGE_OCR_LITE_LIB")
    if not chosen:
        pytest.skip("no Paddle-Lite library: EDGE_OCR_LITE_LIB names none")
    folder = Path(chosen).parent.parent
    if not (folder / "include" / "paddle_api.h").is_file():
        pytest.skip(f"no Paddle-Lite headers: {folder / 'include'} has no paddle_api.h")
    # The folder that an archive unpacks to.
    return folder.parent


@pytest.fixture(params=["built-on-the-host", "built-on-the-board"])
def lite(request, board, library, export_with_library, tmp_path, monkeypatch) -> Installed:
    """A bundle with the real library, whose shim the cross compiler makes, or install.sh."""
    on_host = request.param == "built-on-the-host"
    if on_host and shutil.which("aarch64-linux-gnu-g++") is None:
        pytest.skip("aarch64-linux-gnu-g++ is not installed")
    if not on_host:
        monkeypatch.setenv("PATH", hide("aarch64-linux-gnu-g++", tmp_path / "bin"))
    report = export_with_library(library)
    monkeypatch.undo()
    assert (report.shims["armv8"].file is not None) == on_host
    folder = tmp_path / "board"
    folder.mkdir()
    shutil.copy(report.zip_file, folder / "bundle.zip")
    bundle = unpack(board, folder / "bundle.zip", folder)
    # Its readings are compared below; the selftest runs once.
    done = board.run(folder, "sh", "bundle/install.sh", *(["--no-selftest"] if on_host else []))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "engine: paddle_lite (armv8)" in done.stderr
    assert on_host or ("engine  ok  paddle_lite" in done.stdout and "golden  ok" in done.stdout)
    shim = Path(".installed", "lib", "armv8", "libedge_ocr_lite.so")
    assert (bundle / shim).is_file() != on_host
    bundle.rename(folder / "a place")
    (folder / "a place" / "edge-ocr-lite").chmod(0o755)
    (folder / "ocr").symlink_to("a place/edge-ocr-lite")
    return Installed(folder, folder / "a place", lambda *command, **options: board.run(folder, *command, **options))


def hide(program: str, folder: Path) -> str:
    """Make a folder with links to all programs on PATH except one."""
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for path in Path(place).glob("*") if Path(place).is_dir() else []:
            link = folder / path.name
            if path.name != program and not link.is_symlink():
                link.symlink_to(path)
    return str(folder)


def test_paddle_lite_reads_as_the_host_does(lite, examples):
    shutil.copy(examples / "sign.png", lite.folder)
    result = lite.predict("--engine", "paddle_lite", "sign.png")
    compare(result, read_on_host(lite.bundle, examples / "sign.png"))
