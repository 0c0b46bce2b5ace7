"""Which addresses are public, and which ports are fetched from."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from edge_ocr.config import load_config
from edge_ocr.errors import InputError
from edge_ocr.fetch.resolver import Address, Resolver
from edge_ocr.inputs import download
from edge_ocr.serving import public_fetch
from edge_ocr.serving.public_fetch import create_fetcher, is_public
from edge_ocr.serving.settings import ServeSettings


def get(url: str, **settings: object) -> bytes:
    fetcher = create_fetcher(ServeSettings(**settings))
    try:
        return download(url, replace(load_config().input, download_timeout_s=5), fetcher)
    finally:
        fetcher.close()


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "168.63.129.15",
        "192.0.1.1",
        "93.184.215.14",
        "2606:4700:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ],
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
        *("168.63.129.16", "192.0.0.192", "192.0.0.255", "::ffff:168.63.129.16", "64:ff9b::c000:c0"),
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
        def find(self: Resolver, host: str, port: int, until: float) -> list[Address]:
            asked.append(host)
            return [
                Address(socket.AF_INET6 if ":" in address else socket.AF_INET, (address, port)) for address in addresses
            ]

        monkeypatch.setattr(Resolver, "find", find)
        return asked

    return set_addresses


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1", "8.8.8.8"]])
def test_name_that_leads_inside_is_refused(lead, scheme, addresses):
    asked = lead(*addresses)
    with pytest.raises(InputError, match=r"pictures\.example .*public"):
        get(f"{scheme}://pictures.example/a.png")
    assert asked == ["pictures.example"]


def test_internal_names_look_like_unknown_ones(lead, monkeypatch):
    lead("10.0.0.1")
    with pytest.raises(InputError) as there:
        get("http://name.example/")

    def fail(*_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(Resolver, "find", fail)
    with pytest.raises(InputError) as missing:
        get("http://name.example/")
    assert (missing.value.message, missing.value.hint) == (there.value.message, there.value.hint)
    with pytest.raises(InputError, match="Name or service not known"):
        get("http://name.example/", allow_private_urls=True)


@dataclass
class Site:
    """A server on loopback that counts as public."""

    port: int
    answers: list[bytes] = field(default_factory=list)
    """Its responses in order; the last one is repeated."""
    heard: list[bytes] = field(default_factory=list)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def inside(monkeypatch) -> Iterator[Site]:
    monkeypatch.setattr(public_fetch, "is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setenv("no_proxy", "*")
    listener = socket.create_server(("127.0.0.1", 0))
    site = Site(listener.getsockname()[1])

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    site.heard.append(client.recv(65536))
                    client.sendall(site.answers[min(len(site.heard), len(site.answers)) - 1])

    thread = threading.Thread(target=serve)
    thread.start()
    yield site
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def redirect(target: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()


def test_public_name_is_fetched_by_the_address_that_was_checked(inside, lead, monkeypatch):
    inside.answers.append(OK)
    asked = lead("127.0.0.1")
    assert get(f"http://name.example:{inside.port}/a.png", allow_ports=(inside.port,)) == b"ok"
    # Once: the second time, the name might lead elsewhere.
    assert asked == ["name.example"]
    assert f"Host: name.example:{inside.port}".encode() in inside.heard[0]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://127.0.0.2/", "not public"),
        ("http://[::1]/", "not public"),
        ("ftp://127.0.0.1/a.png", "ftp"),
        ("file:///etc/passwd", "not allowed"),
    ],
)
def test_redirect_that_leads_inside_is_refused(inside, target, words):
    inside.answers.append(redirect(target))
    with pytest.raises(InputError, match=words):
        get(f"http://127.0.0.1:{inside.port}/", allow_ports=[inside.port])
    assert len(inside.heard) == 1


def test_other_ports_are_refused_before_any_request(inside, lead):
    asked = lead("127.0.0.1")
    with pytest.raises(InputError, match=f"port {inside.port} of name.example .* 80, 443") as caught:
        get(f"http://name.example:{inside.port}/")
    assert f"--allow-ports {inside.port}" in caught.value.hint
    with pytest.raises(InputError, match="80, 443, 8443"):
        get(f"https://name.example:{inside.port}/", allow_ports=[8443])
    assert (asked, inside.heard) == ([], [])


def test_redirect_to_another_port_is_refused(inside):
    inside.answers.append(redirect("http://127.0.0.1:22/"))
    with pytest.raises(InputError, match=r"port 22 of 127\.0\.0\.1"):
        get(f"http://127.0.0.1:{inside.port}/", allow_ports=[inside.port])


@pytest.mark.parametrize("host", ["127.0.0.1%3A{}", "127.0.0.1%3a{}"])
def test_port_that_is_quoted_is_one(inside, host):
    for scheme in ("http", "https"):
        with pytest.raises(InputError, match=f"port {inside.port} of "):
            get(f"{scheme}://{host.format(inside.port)}/a.png")
    assert inside.heard == []


@pytest.mark.parametrize("url", ["http:///a.png", "https://:80/a.png", "http://%3A80/"])
def test_url_without_a_host_is_refused(url):
    with pytest.raises(InputError):
        get(url)


def test_redirect_to_a_port_that_is_quoted_is_refused(inside):
    inside.answers.append(redirect("http://127.0.0.1%3A22/"))
    with pytest.raises(InputError, match=r"port 22 of 127\.0\.0\.1"):
        get(f"http://127.0.0.1:{inside.port}/", allow_ports=[inside.port])


@pytest.mark.parametrize("url", ["http://name.example/a", "https://name.example/a", "http://name.example:443/a"])
def test_usual_ports_are_allowed(lead, url):
    # The address is at fault.
    lead("10.0.0.1")
    for ports in (None, [8080]):
        with pytest.raises(InputError, match="public"):
            get(url, allow_ports=ports)


def test_private_urls_allow_any_port_unless_ports_are_named(inside, monkeypatch):
    monkeypatch.setattr(public_fetch, "is_public", lambda address: False)
    inside.answers.append(OK)
    url = f"http://127.0.0.1:{inside.port}/"
    assert get(url, allow_private_urls=True) == b"ok"
    assert get(url, allow_private_urls=True, allow_ports=[inside.port]) == b"ok"
    with pytest.raises(InputError, match=f"port {inside.port}"):
        get(url, allow_private_urls=True, allow_ports=[8080])


def test_proxies_of_the_environment_are_not_used(lead, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    lead("10.0.0.1")
    with pytest.raises(InputError, match="public"):
        get("http://pictures.example/a.png")
