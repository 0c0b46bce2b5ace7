"""Downloads end in time, whatever is slow, and leave nothing behind; servers, proxies and names are real."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge_ocr.config import load_config
from edge_ocr.errors import InputError
from edge_ocr.fetch import resolver
from edge_ocr.fetch.fetcher import Fetcher, read_pieces
from edge_ocr.fetch.reasons import explain_download
from edge_ocr.inputs import download

SETTINGS = load_config().input
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    made = Fetcher()
    yield made
    made.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """Start servers on loopback that pass each connection to a function; return their ports."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(handle: Callable[[socket.socket], object], host: str = "127.0.0.1") -> int:
        listener = socket.create_server((host, 0))
        listeners.append(listener)

        def talk(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                handle(client)

        def listen() -> None:
            with contextlib.suppress(OSError):
                while True:
                    thread = threading.Thread(target=talk, args=(listener.accept()[0],), name="server")
                    threads.append(thread)
                    thread.start()

        threads.append(threading.Thread(target=listen, name="server"))
        threads[-1].start()
        return listener.getsockname()[1]

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(20)


@contextlib.contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """A slow download fails in time, and no thread continues it."""

    def list_threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name != "server"]

    before, start = list_threads(), time.monotonic()
    with pytest.raises(InputError, match=f" {seconds:g} s"):
        yield
    assert seconds * 0.8 < time.monotonic() - start < seconds + 1.8
    assert list_threads() == before


def drip(client: socket.socket, piece: bytes) -> None:
    while True:
        client.sendall(piece)
        time.sleep(0.05)


def lead(monkeypatch, *addresses: str, delay_s: float = 0) -> None:
    """Resolve every name to `addresses` after a delay, like the system's resolver."""
    code = (
        "import time, socket\n"
        f"def find(host, port, **options):\n"
        f"    time.sleep({delay_s})\n"
        f"    return [(2, 1, 6, '', (address, port)) for address in {addresses!r}]\n"
        "socket.getaddrinfo = find\n"
    )
    monkeypatch.setattr(resolver, "_PROGRAM", code + resolver._PROGRAM)


def get(fetcher: Fetcher | None, url: str, timeout_s: float = 10) -> bytes:
    return download(url, replace(SETTINGS, download_timeout_s=timeout_s), fetcher)


# --- Time


def test_names_that_take_long(fetcher, monkeypatch):
    lead(monkeypatch, "127.0.0.1", delay_s=60)
    with in_time(0.5):
        get(fetcher, "http://slow.example/", 0.5)
    # The resolver process is gone.
    assert fetcher._resolver._idle == []
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"nothing\.invalid"):
        get(fetcher, "http://nothing.invalid/")
    with pytest.raises(URLError) as caught:
        fetcher.open("http://nothing.invalid/", 10)
    assert explain_download("http://nothing.invalid/", caught.value) == "no network: DNS of nothing.invalid failed"


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x03\x20\x00"], ids=["nothing", "piece by piece"])
def test_tls_handshake_that_takes_long(fetcher, serve, said):
    def handle(client: socket.socket) -> None:
        client.recv(1000)
        client.sendall(said)
        drip(client, said[:1]) if said else client.recv(1000)

    port = serve(handle)
    with in_time(0.5):
        get(fetcher, f"https://127.0.0.1:{port}/", 0.5)


def test_redirects_share_the_time(fetcher, serve):
    asked: list[bytes] = []

    def handle(client: socket.socket) -> None:
        asked.append(client.recv(1000).split()[1])
        time.sleep(0.3)
        client.sendall(f"HTTP/1.1 302 x\r\nLocation: /{len(asked)}\r\nContent-Length: 0\r\n\r\n".encode())

    port = serve(handle)
    with in_time(1):
        get(fetcher, f"http://127.0.0.1:{port}/0", 1)
    time.sleep(0.5)
    # Each of them alone would be in time; a busy machine may send fewer.
    assert asked in ([b"/0", b"/1"], [b"/0", b"/1", b"/2"], [b"/0", b"/1", b"/2", b"/3"])


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["body", "chunks", "header", "answers to wait for"],
)
@pytest.mark.parametrize("tls", [False, True])
def test_answer_that_drips(fetcher, serve, secure, head, piece, tls):
    def handle(client: socket.socket) -> None:
        with secure(client) if tls else client as talking:
            talking.recv(1000)
            talking.sendall(head)
            drip(talking, piece)

    fetcher._tls = secure.client
    port = serve(handle)
    with in_time(0.5):
        get(fetcher, f"http{'s' * tls}://127.0.0.1:{port}/", 0.5)


def test_connections_that_take_long_share_the_time(fetcher, monkeypatch):
    # The queue is full: further connections wait.
    with contextlib.ExitStack() as opened:
        full = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = full.getsockname()[1]
        for _ in range(3):
            client = opened.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        lead(monkeypatch, "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1")
        with in_time(0.9):
            get(fetcher, f"http://full.example:{port}/", 0.9)


def test_answer_must_begin_and_continue_in_time(fetcher, serve):
    def handle(client: socket.socket) -> None:
        path = client.recv(1000).split()[1]
        if path == b"/never":
            drip(client, b"HTTP/1.1 100 Continue\r\n\r\n")
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(10):
            client.sendall(b"x")
            time.sleep(0.1)
        if path == b"/stops":
            time.sleep(2)

    url = f"http://127.0.0.1:{serve(handle)}"
    # The whole takes longer than the limit for a pause.
    with fetcher.open(f"{url}/slow", 20, 0.5) as answer:
        assert b"".join(read_pieces(answer, 100)) == b"x" * 10
    with pytest.raises(TimeoutError):
        fetcher.open(f"{url}/never", 20, 0.5)
    with fetcher.open(f"{url}/stops", 20, 0.5) as answer, pytest.raises(TimeoutError):
        list(read_pieces(answer, 100))
    with fetcher.open(f"{url}/slow", 0.5, 0.4) as answer, pytest.raises(TimeoutError):
        list(read_pieces(answer, 100))


# --- Addresses


def test_three_of_many_addresses_are_tried(fetcher, serve, monkeypatch):
    tried: list[str] = []
    connect = socket.socket.connect

    def count(self: socket.socket, place: tuple[str, int]) -> None:
        tried.append(place[0])
        connect(self, place)

    port = serve(lambda client: client.sendall(OK) if client.recv(1000) else None, "127.0.0.9")
    monkeypatch.setattr(socket.socket, "connect", count)
    addresses = [f"127.0.0.{last}" for last in range(2, 10)]
    lead(monkeypatch, *addresses)
    with pytest.raises(InputError, match="refused"):
        get(fetcher, f"http://many.example:{port}/")
    assert tried == addresses[:3]
    fetcher.close()
    monkeypatch.undo()
    lead(monkeypatch, *addresses[-2:])
    assert get(fetcher, f"http://two.example:{port}/") == b"ok"


def test_name_is_found_as_the_system_finds_it(fetcher, serve):
    port = serve(lambda client: client.sendall(OK) if client.recv(1000) else None)
    # More than once: by the same process.
    for _ in range(3):
        assert get(fetcher, f"http://localhost:{port}/") == b"ok"
    assert len(fetcher._resolver._idle) == 1


def test_process_that_dies_is_replaced(fetcher, serve):
    port = serve(lambda client: client.sendall(OK) if client.recv(1000) else None)
    assert get(fetcher, f"http://localhost:{port}/") == b"ok"
    (first,) = fetcher._resolver._idle
    os.kill(first.pid, signal.SIGKILL)
    first.wait(10)
    assert get(fetcher, f"http://localhost:{port}/") == b"ok"
    (second,) = fetcher._resolver._idle
    assert second.pid != first.pid
    fetcher.close()
    assert second.returncode == -signal.SIGKILL


def test_failing_process_is_reported(fetcher, monkeypatch):
    monkeypatch.setattr(resolver, "_PROGRAM", "raise SystemExit(1)")
    with pytest.raises(InputError, match="resolver process"):
        get(fetcher, "http://localhost/")


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a." * 200 + "example", "nothing.invalid"])
def test_names_that_do_not_exist(fetcher, host):
    with pytest.raises(InputError):
        get(fetcher, f"http://{host}/")


def test_many_threads_ask_at_once(fetcher, serve):
    port = serve(lambda client: client.sendall(OK) if client.recv(1000) else None)
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(get(fetcher, f"http://localhost:{port}/"))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"ok"] * 6
    assert 1 <= len(fetcher._resolver._idle) <= 6


def test_forked_process_has_its_own_resolver(fetcher, serve):
    port = serve(lambda client: client.sendall(OK) if client.recv(1000) else None)
    assert get(fetcher, f"http://localhost:{port}/") == b"ok"
    (first,) = fetcher._resolver._idle
    # As after a fork.
    fetcher._resolver._pid = -1
    assert get(fetcher, f"http://localhost:{port}/") == b"ok"
    (second,) = fetcher._resolver._idle
    assert second.pid != first.pid
    resolver._end(first)


# --- Redirects


def test_body_of_a_redirect_is_not_waited_for(fetcher, serve):
    def handle(client: socket.socket) -> None:
        if client.recv(1000).startswith(b"GET /there"):
            client.sendall(OK)
            return
        client.sendall(b"HTTP/1.1 302 x\r\nLocation: /there\r\n\r\n")
        drip(client, b"x" * 1000)

    port = serve(handle)
    start = time.monotonic()
    assert get(fetcher, f"http://127.0.0.1:{port}/", 3) == b"ok"
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/a.png", "file:///etc/passwd", "http://x:y@127.0.0.1:9/", "//["])
def test_redirect_to_another_scheme_is_refused(fetcher, serve, target):
    answer = f"HTTP/1.1 302 x\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()
    port = serve(lambda client: client.sendall(answer) if client.recv(1000) else None)
    with pytest.raises(InputError):
        get(fetcher, f"http://127.0.0.1:{port}/")


# --- TLS and proxies


class Secure:
    """Certificates for 127.0.0.1: makes servers' connections TLS; `client` trusts them."""

    def __init__(self, folder: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edge-ocr test")])
        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=1)
        place = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now - day, now + day
        )
        builder = builder.add_extension(place, False).add_extension(x509.BasicConstraints(True, None), True)
        file = folder / "server.pem"
        pem = serialization.Encoding.PEM
        secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(secret + builder.sign(key, hashes.SHA256()).public_bytes(pem))
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.load_cert_chain(file)
        self.client = Fetcher()._tls
        self.client.load_verify_locations(file)

    def __call__(self, client: socket.socket) -> ssl.SSLSocket:
        return self._server.wrap_socket(client, server_side=True)


@pytest.fixture(scope="module")
def secure(tmp_path_factory) -> Secure:
    return Secure(tmp_path_factory.mktemp("tls"))


def answer_safely(secure: Secure) -> Callable[[socket.socket], None]:
    def handle(client: socket.socket) -> None:
        with secure(client) as talking:
            talking.recv(1000)
            talking.sendall(OK)

    return handle


def test_https_is_fetched_and_its_certificate_checked(fetcher, serve, secure):
    url = f"https://127.0.0.1:{serve(answer_safely(secure))}/"
    with pytest.raises(InputError, match="certificate"):
        get(fetcher, url)
    fetcher._tls = secure.client
    assert get(fetcher, url) == b"ok"


@pytest.mark.parametrize("tls", [False, True])
def test_proxy_of_the_environment_is_used(serve, secure, monkeypatch, tls):
    heard: list[bytes] = []
    site = serve(answer_safely(secure))

    def handle(client: socket.socket) -> None:
        heard.append(client.recv(1000).split(b"\r\n")[0])
        if not tls:
            client.sendall(OK)
            return
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(("127.0.0.1", site)) as other:
            back = threading.Thread(
                target=lambda: [client.sendall(piece) for piece in iter(lambda: other.recv(9999), b"")]
            )
            back.start()
            with contextlib.suppress(OSError):
                for piece in iter(lambda: client.recv(9999), b""):
                    other.sendall(piece)
            other.shutdown(socket.SHUT_WR)
            back.join()

    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{serve(handle)}")
    monkeypatch.delenv("no_proxy", raising=False)
    fetcher = Fetcher(use_proxies=True)
    fetcher._tls = secure.client
    # Only the proxy needs the host's address.
    url = f"https://127.0.0.1:{site}/a" if tls else "http://pictures.example/a"
    assert get(fetcher, url) == b"ok"
    assert heard[0].startswith(f"CONNECT 127.0.0.1:{site}".encode() if tls else f"GET {url}".encode())


def test_targets_are_checked_before_any_request(serve):
    heard: list[bytes] = []
    port = serve(lambda client: heard.append(client.recv(1000)))
    seen: list[tuple[str, int]] = []

    def refuse(host: str, port: int) -> None:
        seen.append((host, port))
        raise InputError("not there")

    for url, target in [
        (f"http://127.0.0.1:{port}/", ("127.0.0.1", port)),
        ("https://a.example/", ("a.example", 443)),
        ("HTTP://A.example:0/", ("a.example", 0)),
    ]:
        with pytest.raises(InputError, match="not there"):
            get(Fetcher(refuse), url)
        assert seen.pop() == target
    assert heard == []


def test_it_leaves_no_process_behind(serve):
    """Even if it is not closed: at the end of the process."""
    import subprocess

    code = (
        "from edge_ocr.fetch.fetcher import Fetcher\n"
        "import time; fetcher = Fetcher()\n"
        "fetcher._resolver.find('localhost', 80, time.monotonic() + 20)\n"
        "print(fetcher._resolver._idle[0].pid)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, timeout=60, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not Path(f"/proc/{int(done.stdout)}").exists()
