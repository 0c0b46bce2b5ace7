"""A board without a server: a program called ssh runs the board's side in a folder of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.deploy.board import open_board
from converters.processes.ssh import SshAddress
from converters.signing import make_keys

PROGRAMS = (
    "cat",
    "cp",
    "cut",
    "df",
    "grep",
    "ls",
    "mkdir",
    "mv",
    "readlink",
    "rm",
    "sed",
    "sleep",
    "sync",
    "tail",
    "tar",
    "uname",
)


@pytest.fixture(scope="session")
def bundle(export) -> Path:
    """A real bundle, which is not to be changed."""
    return export("arm", precision="int8", with_onnx=True).out_dir


@pytest.fixture
def own_bundle(bundle, tmp_path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "own"))


class FakeBoard:
    """A board whose ssh is a program on this machine."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = folder / "home"
        self.programs = folder / "programs"
        here = folder / "bin"
        for made in (self.home, self.programs, here):
            made.mkdir()
        for name in PROGRAMS:
            (self.programs / name).symlink_to(shutil.which(name) or pytest.skip(f"{name} is not installed"))
        self.use_shell("sh")
        self.use_python()
        ssh = here / "ssh"
        # Only the command, the last argument, matters.
        ssh.write_text(
            "#!/bin/sh\nfor command; do :; done\ncd /\n"
            f'HOME="{self.home}" PATH="{self.programs}" exec "{self.programs}/sh" -c "$command"\n',
            encoding="utf-8",
        )
        ssh.chmod(0o755)
        monkeypatch.setenv("PATH", f"{here}:{os.environ['PATH']}")
        self.steps: list[str] = []

    def use_shell(self, name: str) -> None:
        (self.programs / "sh").unlink(missing_ok=True)
        (self.programs / "sh").symlink_to(shutil.which(name) or pytest.skip(f"{name} is not installed"))

    def use_python(self, **facts: object) -> None:
        """Give the board this Python, which reports a board's machine."""
        facts = {
            "machine": "aarch64",
            "bits": 64,
            "multiarch": "aarch64-linux-gnu",
            "glibc": "2.36",
            "python": "/usr/bin/python3",
            "has_onnxruntime": True,
            **facts,
        }
        # python3 may be a script that searches for one.
        answer = f"cat <<'END'\n{json.dumps(facts)}\nEND\n"
        self.put("python3", f'case $2 in *onnxruntime*) {answer}exit;; esac\nexec {sys.executable} "$@"')

    def put(self, name: str, script: str) -> None:
        (self.programs / name).unlink(missing_ok=True)
        (self.programs / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (self.programs / name).chmod(0o755)

    def open(self, path: str = "ocr", needed_bytes: int = 1, python: str = "python3"):
        return open_board(SshAddress("pi", "board", None, path), python, needed_bytes, self.steps.append)

    def deploy(
        self, files: dict[str, Path], path: str = "ocr", arguments: tuple[str, ...] = (), *, force: bool = False
    ) -> list[str]:
        with self.open(path) as opened:
            opened.check_old(files, force=force)
            opened.copy(files)
            opened.install(arguments)
            return opened.switch(force=force)

    def list_home(self) -> list[str]:
        return sorted(path.name for path in self.home.iterdir())

    def read_name(self, place: Path) -> str:
        return json.loads((place / "manifest.json").read_bytes())["edge_ocr_version"]


@pytest.fixture
def board(tmp_path, monkeypatch) -> FakeBoard:
    return FakeBoard(tmp_path, monkeypatch)


@pytest.fixture
def make_files(tmp_path) -> Callable[..., dict[str, Path]]:
    """Make something that counts as a bundle there, with our own installer."""

    def make(
        install: str = "exit 0", launcher: str = "exit 0", name: str = "new", others: tuple[str, ...] = ()
    ) -> dict[str, Path]:
        folder = tmp_path / f"files of {name}"
        contents = {
            "install.sh": f"#!/bin/sh\n{install}\n",
            "edge-ocr-lite": f"#!/bin/sh\n{launcher}\n",
            "models/a b.nb": "x" * 100_000,
            **dict.fromkeys(others, name),
        }
        manifest = {
            "edge_ocr_version": name,
            "files": {
                file: {"sha256": hashlib.sha256(text.encode()).hexdigest(), "size_bytes": len(text)}
                for file, text in contents.items()
            },
            # As deep as the names of files.
            "lite": {"libraries": {"armv8": None}, "photos": {"a": 1}},
        }
        # As the exporter writes it.
        contents["manifest.json"] = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for file, content in contents.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(content, encoding="utf-8")
        return {file: folder / file for file in contents}

    return make


@pytest.fixture(scope="session")
def pairs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        make_keys(folder / f"{name}.key", folder / f"{name}.pub")
    return folder
