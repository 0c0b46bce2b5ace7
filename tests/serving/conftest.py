"""Real servers on loopback."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from edge_ocr import OcrPipeline
from edge_ocr.serving import app as serving_app
from edge_ocr.serving.app import create_app
from edge_ocr.serving.connections import TimedProtocol
from edge_ocr.serving.settings import ServeSettings


@dataclass
class Answer:
    """The service's response."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class Service:
    """A running service."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, path: str, body: Any = None, *, method: str | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send bytes, or anything else as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"content-type": "application/json", **(headers or {})}, method=method
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())

    def read(self, content: bytes, **more: Any) -> Answer:
        return self.ask("/ocr", {"image": base64.b64encode(content).decode(), **more})


@contextmanager
def run_service(pipeline: OcrPipeline, header_timeout_s: float = 5, **settings: Any) -> Iterator[Service]:
    """Serve in a thread of this process."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = create_app(pipeline, ServeSettings(**settings))
    config = uvicorn.Config(
        app,
        http=TimedProtocol,
        log_config=None,
        access_log=False,
        timeout_keep_alive=header_timeout_s,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < deadline, "the service did not start"
            time.sleep(0.01)
        yield Service(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
        assert not thread.is_alive()


@pytest.fixture
def start(open_pipeline) -> Iterator[Callable[..., Service]]:
    """Start services that end with the test."""
    with ExitStack() as running:
        yield lambda pipeline=None, **settings: running.enter_context(
            run_service(pipeline or open_pipeline(), **settings)
        )


@pytest.fixture(scope="session")
def service(open_pipeline) -> Iterator[Service]:
    """A service shared by all tests without special needs."""
    with run_service(open_pipeline()) as running:
        yield running


@pytest.fixture(scope="session")
def sign(examples) -> bytes:
    return (examples / "sign.png").read_bytes()


@pytest.fixture
def gate(monkeypatch) -> Iterator[threading.Event]:
    """Blocks every reading until it is set."""
    opened = threading.Event()
    answer = serving_app._answer

    def wait(*arguments: object) -> object:
        assert opened.wait(30)
        return answer(*arguments)

    monkeypatch.setattr(serving_app, "_answer", wait)
    yield opened
    opened.set()
