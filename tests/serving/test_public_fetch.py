"""Which addresses are public."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.error

import pytest

from edge_ocr.errors import InputError
from edge_ocr.serving import public_fetch
from edge_ocr.serving.public_fetch import create_public_opener, is_public


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.215.14", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.1.2.3", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "2001:db8::1", "fec0::1"),
        *(
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "2002:7f00:1::",
            "2002:a00:1::",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::7f00:1",
            "::7f00:1",
            "::ffff:0:7f00:1",
            "3fff::1",
        ),
        *("2001:0:53aa:64c:0:0:0:1", "nonsense", ""),
    ],
)
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.fixture
def lead(monkeypatch):
    """Let every name lead to the given addresses, as DNS would; returns the names that were asked for."""
    asked: list[str] = []

    def set_addresses(*addresses: str) -> list[str]:
        def find(host: str, port: int, *args: object, **options: object) -> list[tuple[object, ...]]:
            asked.append(host)
            families = {True: socket.AF_INET6, False: socket.AF_INET}
            return [
                (
                    families[":" in address],
                    socket.SOCK_STREAM,
                    6,
                    "",
                    (address, port, *((0, 0) if ":" in address else ())),
                )
                for address in addresses
            ]

        monkeypatch.setattr(public_fetch.socket, "getaddrinfo", find)
        return asked

    return set_addresses


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1", "8.8.8.8"]])
def test_name_that_leads_inside_is_refused(lead, scheme, addresses):
    asked = lead(*addresses)
    with pytest.raises(InputError, match="not public"):
        create_public_opener().open(f"{scheme}://pictures.example/a.png", timeout=5)
    assert asked == ["pictures.example"]


@pytest.fixture
def inside(monkeypatch):
    """A server on loopback that counts for public; it answers what it is told."""
    monkeypatch.setattr(public_fetch, "is_public", lambda address: address == "127.0.0.1")
    listener = socket.create_server(("127.0.0.1", 0))
    answers: list[bytes] = []
    heard: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                heard.append(client.recv(65536))
                client.sendall(answers[min(len(heard), len(answers)) - 1])

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1], answers, heard
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def test_public_name_is_fetched_by_the_address_that_was_checked(inside, monkeypatch):
    port, answers, heard = inside
    answers.append(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    found = socket.getaddrinfo
    # The second time, the name would lead elsewhere.
    turns = iter(["127.0.0.1", "127.0.0.2"])
    monkeypatch.setattr(
        public_fetch.socket,
        "getaddrinfo",
        lambda host, port, *a, **o: found(next(turns) if host == "name.example" else host, port, *a, **o),
    )
    with create_public_opener().open(f"http://name.example:{port}/a.png", timeout=5) as answer:
        assert answer.read() == b"ok"
    assert f"Host: name.example:{port}".encode() in heard[0]


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ("http://127.0.0.2/", InputError, "not public"),
        ("http://[::1]/", InputError, "not public"),
        ("ftp://127.0.0.1/a.png", urllib.error.URLError, "ftp"),
        ("file:///etc/passwd", urllib.error.HTTPError, "not allowed"),
    ],
)
def test_redirect_that_leads_inside_is_refused(inside, target, error, words):
    port, answers, heard = inside
    answers.append(f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode())
    with pytest.raises(error, match=words) as caught:
        create_public_opener().open(f"http://127.0.0.1:{port}/", timeout=5)
    if isinstance(caught.value, urllib.error.HTTPError):
        caught.value.close()
    assert len(heard) == 1


def test_server_that_drips_is_left_in_time(monkeypatch):
    monkeypatch.setattr(public_fetch, "is_public", lambda address: True)
    ended = threading.Event()

    def drip() -> None:
        client, _ = listener.accept()
        # Each of these is an answer to go on from, and none takes long.
        with client, contextlib.suppress(OSError):
            while not ended.is_set():
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip)
        thread.start()
        start = time.monotonic()
        try:
            with pytest.raises(OSError, match="timed out"):
                create_public_opener().open(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=0.5)
        finally:
            ended.set()
            thread.join(10)
        assert 0.4 < time.monotonic() - start < 5


def test_proxies_of_the_environment_are_not_asked(lead, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    lead("10.0.0.1")
    with pytest.raises(InputError, match="not public"):
        create_public_opener().open("http://pictures.example/a.png", timeout=5)
