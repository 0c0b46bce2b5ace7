"""Pictures behind URLs, on a loopback server."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from support.pictures import (
    EXPECTED,
    PNG,
    SETTINGS,
    list_all,
)

from edge_ocr.errors import InputError


@dataclass
class Answer:
    """The server's response at a path."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = -1
    """Announced length; -1: the body's own; None: none."""
    chunk: int | None = None
    pause_s: float = 0.0
    """Delay before each chunk of the body, or before the answer if there are no chunks."""
    header_pause_s: float | None = None
    """Delay before each byte of an endless header; None for complete headers."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    answers: dict[str, Answer] = {}
    stop = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers[self.path]
            if answer.chunk is None and stop.wait(answer.pause_s):
                return
            if answer.header_pause_s is not None:
                with contextlib.suppress(OSError):
                    self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
                    while not stop.wait(answer.header_pause_s):
                        self.wfile.write(b"x")
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.length is not None:
                self.send_header("Content-Length", str(len(answer.body) if answer.length == -1 else answer.length))
            self.end_headers()
            step = answer.chunk or len(answer.body) or 1
            try:
                for start in range(0, len(answer.body), step):
                    if answer.chunk is not None and stop.wait(answer.pause_s):
                        return
                    self.wfile.write(answer.body[start : start + step])
                    self.wfile.flush()
            except OSError:
                # The client has hung up, as it should.
                pass

        def log_message(self, *_: object) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def place(path: str, answer: Answer) -> str:
        answers[path] = answer
        return f"http://127.0.0.1:{running.server_port}{path}"

    yield place
    stop.set()
    running.shutdown()
    running.server_close()
    thread.join()


def fetch(url: str, **limits: object) -> np.ndarray:
    (source,) = list_all(url)
    (page,) = source.pages(replace(SETTINGS, **limits))
    return page.image


def refuse_url(url: str, **limits: object) -> InputError:
    with pytest.raises(InputError) as error:
        fetch(url, **limits)
    assert error.value.message.startswith(url)
    return error.value


@pytest.mark.parametrize("length", [-1, None], ids=["length", "no length"])
def test_url_is_read(server, length):
    np.testing.assert_array_equal(fetch(server("/a.png?b=c", Answer(body=PNG, length=length))), EXPECTED)


def test_redirect_is_followed(server):
    server("/there.png", Answer(body=PNG))
    url = server("/here", Answer(302, headers={"Location": "/there.png"}))
    np.testing.assert_array_equal(fetch(url), EXPECTED)


def test_redirect_to_a_file_is_refused(server, tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    url = server("/here", Answer(302, headers={"Location": (tmp_path / "a.png").as_uri()}))
    refuse_url(url)


def test_redirect_loop_is_refused(server):
    refuse_url(server("/round", Answer(302, headers={"Location": "/round"})))


@pytest.mark.parametrize("status", [403, 404, 500])
def test_refusal_is_passed_on(server, status):
    assert f" {status} " in refuse_url(server("/a.png", Answer(status))).message


def test_html_page_is_not_a_picture(server):
    assert "PNG" in refuse_url(server("/a.png", Answer(body=b"<html>sign in</html>"))).hint


def test_empty_body_is_refused(server):
    assert "0 bytes" in refuse_url(server("/a.png", Answer())).message


def test_announced_size_is_refused_before_the_body(server):
    url = server("/a.png", Answer(body=b"x", length=5001, chunk=1, pause_s=30))
    start = time.monotonic()
    error = refuse_url(url, max_download_bytes=5000)
    assert "Input.max_download_mb" in error.hint
    assert time.monotonic() - start < 5


def test_body_that_grows_too_large_is_refused(server):
    url = server("/a.png", Answer(body=b"x" * 300_000, length=None))
    assert "Input.max_download_mb" in refuse_url(url, max_download_bytes=100_000).hint


def test_body_of_exactly_the_limit_is_read(server):
    np.testing.assert_array_equal(fetch(server("/a.png", Answer(body=PNG)), max_download_bytes=len(PNG)), EXPECTED)


@pytest.mark.parametrize("chunk", [None, 1], ids=["silent", "one byte at a time"])
def test_slow_server_meets_the_deadline(server, chunk):
    url = server("/a.png", Answer(body=PNG, chunk=chunk, pause_s=30 if chunk is None else 0.05))
    start = time.monotonic()
    error = refuse_url(url, download_timeout_s=0.4)
    assert "0.4 s" in error.message
    assert "Input.download_timeout_s" in error.hint
    assert time.monotonic() - start < 3


def test_slow_headers_meet_the_deadline(server):
    url = server("/a.png", Answer(header_pause_s=0.05))
    start = time.monotonic()
    assert " 1 s" in refuse_url(url, download_timeout_s=1).message
    assert 0.9 < time.monotonic() - start < 2


def test_address_with_chinese_and_spaces_is_read(server):
    written = server("/%E7%85%A7%20%E7%89%87.png?q=%E4%B8%AD%20a&b=1%2B1", Answer(body=PNG))
    base = written.partition("/%E7")[0]
    np.testing.assert_array_equal(fetch(f"{base}/照 片.png?q=中 a&b=1%2B1#顶"), EXPECTED)
    # Escaped parts stay unchanged.
    np.testing.assert_array_equal(fetch(written), EXPECTED)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@127.0.0.1/a.png",
        "http://secret@127.0.0.1/a.png",
        "http://user:secret@127.0.0.1:99999/a.png",
        "http://user:secret@[bad/a.png",
        "http://user:secret/x@127.0.0.1/a.png",
    ],
)
def test_password_is_refused_and_not_repeated(url):
    (source,) = list_all(url)
    with pytest.raises(InputError) as error:
        list(source.pages(SETTINGS))
    assert "secret" not in f"{error.value.message} {error.value.hint}"


def test_connection_that_ends_early_is_refused(server):
    # Pillow would accept the partial content.
    error = refuse_url(server("/a.png", Answer(body=PNG[:-20], length=len(PNG))))
    assert f"{len(PNG) - 20} of {len(PNG)} bytes" in error.message


def test_no_server_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "refused" in refuse_url(f"http://127.0.0.1:{port}/a.png").message


@pytest.mark.parametrize("url", ["http://", "http:///a.png", "http://[::1/a.png", "http://127.0.0.1:99999/a.png"])
def test_malformed_url_is_refused(url):
    refuse_url(url)
