"""Pictures behind URLs that a request names."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.service import HEAD, assert_failed, count_bytes, wait_for


@pytest.fixture
def site(sign) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            targets = {"/round": "/round", "/file": "file:///etc/passwd", "/there": "/sign.png"}
            if self.path in targets:
                self.send_response(302)
                self.send_header("Location", targets[self.path])
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            if self.path == "/sign.png":
                self.wfile.write(sign)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def no_proxy(monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.usefixtures("no_proxy")
def test_url_is_read_if_private_ones_are_allowed(start, site):
    service = start(allow_private_urls=True)
    for path in ("/sign.png", "/there"):
        answer = service.ask("/ocr", {"image": site + path})
        assert len(answer.json["result"]["texts"]) == 4


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize("path", ["/round", "/file", "/empty"])
def test_url_without_a_picture_is_refused(start, site, path):
    service = start(allow_private_urls=True)
    assert_failed(service.ask("/ocr", {"image": site + path}), 422)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/sign.png",
        "http://localhost:{port}/sign.png",
        "http://[::1]:{port}/sign.png",
        "http://[::ffff:127.0.0.1]:{port}/sign.png",
        "http://0.0.0.0:{port}/sign.png",
        "http://0x7f000001:{port}/sign.png",
        "http://2130706433:{port}/sign.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/a.png",
        "https://192.168.0.1/a.png",
    ],
)
def test_private_urls_are_refused(start, site, url):
    port = site.rpartition(":")[2]
    answer = start(allow_ports=[int(port)]).ask("/ocr", {"image": url.format(port=port)})
    assert_failed(answer, 422, "public")


def test_other_ports_are_refused(service, site):
    assert_failed(service.ask("/ocr", {"image": site + "/sign.png"}), 422, "port ", "80, 443")


def test_urls_can_be_turned_off(start, site):
    answer = start(allow_urls=False, allow_private_urls=True).ask("/ocr", {"image": site + "/sign.png"})
    assert_failed(answer, 422, "URLs")


class Slow:
    """A server that sends the start of a file, and the rest when `go` is set."""

    def __init__(self, start: bytes) -> None:
        self.go = threading.Event()
        self._start = start
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = [threading.Thread(target=self._listen)]
        self._threads[0].start()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._threads.append(threading.Thread(target=self._talk, args=(self._listener.accept()[0],)))
                self._threads[-1].start()

    def _talk(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.recv(1000)
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + self._start)
            self.go.wait(20)

    def close(self) -> None:
        self.go.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(20)


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize("stays", [True, False])
def test_files_behind_urls_are_refused_if_memory_is_full(start, open_pipeline, stays):
    # Room for the largest file, 1 MB, and a body.
    service = start(
        open_pipeline(Input__max_download_mb=1), queue=0, max_body_bytes=100_000, timeout_s=20, allow_private_urls=True
    )
    with contextlib.closing(Slow(b"x" * 800_000)) as slow:
        body = json.dumps({"image": slow.url}).encode()
        with socket.create_connection(("127.0.0.1", service.port), 20) as client:
            client.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            wait_for(lambda: count_bytes(service) == 800_000 + len(body))
            if not stays:
                client.close()
                time.sleep(0.3)
            # Even if no client waits for it: it is still in memory.
            refused = service.ask("/ocr", {"image": slow.url})
            assert_failed(refused, 503, "busy")
            assert refused.headers["retry-after"] == "1"
            assert_failed(service.ask("/ocr", {"image": "aGVsbG8="}), 422, "picture")
            slow.go.set()
            if stays:
                assert client.recv(65536).startswith(b"HTTP/1.1 422 ")
        wait_for(lambda: count_bytes(service) == 0)
        assert_failed(service.ask("/ocr", {"image": slow.url}), 422, "picture")


@pytest.mark.usefixtures("no_proxy")
def test_accepted_slow_urls_are_answered_in_time(start, open_pipeline):
    service = start(open_pipeline(Input__download_timeout_s=1), queue=16, timeout_s=3, allow_private_urls=True)
    with contextlib.closing(Slow(b"")) as slow, ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: service.ask("/ocr", {"image": slow.url}), range(24)))
    # Two rounds of eight; the third would end when the time of the request does.
    assert sorted(answer.status for answer in answers) == [422] * 16 + [503] * 8
