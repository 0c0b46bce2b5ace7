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
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from edge_ocr import OcrPipeline
from edge_ocr.serving.app import create_app
from edge_ocr.serving.settings import ServeSettings


@dataclass
class Answer:
    """What the service said."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class Service:
    """A service that runs."""

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


@pytest.fixture
def start(open_pipeline) -> Iterator[Callable[..., Service]]:
    """Start services in threads of this process; they end with the test."""
    running: list[tuple[uvicorn.Server, threading.Thread, socket.socket]] = []

    def run(pipeline: OcrPipeline | None = None, **settings: Any) -> Service:
        app = create_app(pipeline or open_pipeline(), ServeSettings(**settings))
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread, listener))
        deadline = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < deadline, "the service did not start"
            time.sleep(0.01)
        return Service(listener.getsockname()[1])

    yield run
    for server, _, _ in running:
        server.should_exit = True
    for _, thread, listener in running:
        thread.join(30)
        listener.close()
        assert not thread.is_alive()
