"""URLs that lead to public addresses only: a service must not be a way into the network that it stands in."""

from __future__ import annotations

import http.client
import ipaddress
import math
import socket
import ssl
import time
import urllib.request
from typing import Any

from edge_ocr.errors import InputError

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_EXAMPLES = ipaddress.ip_network("3fff::/20")


def create_public_opener() -> urllib.request.OpenerDirector:
    """Return what opens http(s) URLs, redirects included, at public addresses; proxies are not asked.

    The address that was checked is the one connected to: a name cannot lead elsewhere the second time.

    Opening raises InputError for an address that is not public.
    """
    opener = urllib.request.OpenerDirector()
    tls = ssl.create_default_context()
    tls.sslsocket_class = _TlsSocket
    for handler in (
        _HttpHandler(),
        _HttpsHandler(context=tls),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _Socket(socket.socket):
    """Ends in time even where one byte comes after the other.

    A timeout starts anew with each, and a server could keep a thread and a connection for as long as it likes.
    """

    until = math.inf

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        self.settimeout(_measure_left(self.until))
        return super().recv_into(*arguments, **options)


class _TlsSocket(ssl.SSLSocket):
    until = math.inf

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        self.settimeout(_measure_left(self.until))
        return super().recv_into(*arguments, **options)


def _measure_left(until: float) -> float | None:
    if until == math.inf:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class _HttpConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = _connect(self.host, self.port, self.timeout)


class _HttpsConnection(http.client.HTTPSConnection):
    def __init__(self, host: str, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(host, context=tls, **options)
        self._tls = tls

    def connect(self) -> None:
        sock = _connect(self.host, self.port, self.timeout)
        try:
            wrapped = self._tls.wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise
        if isinstance(wrapped, _TlsSocket):
            wrapped.until = sock.until
        self.sock = wrapped


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpConnection, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._tls = context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        def create(host: str, /, **options: Any) -> _HttpsConnection:
            return _HttpsConnection(host, tls=self._tls, **options)

        return self.do_open(create, req)


def _connect(host: str, port: int, timeout_s: float | None) -> _Socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # All of them, before the first is tried: a name with one private address is no public name.
    if not all(is_public(address[0]) for *_, address in found):
        raise InputError(
            f"the address of {host} is not public", "send the picture as Base64, or serve with --allow-private-urls"
        )
    failure: OSError | None = None
    for *_, address in found:
        try:
            plain = socket.create_connection((str(address[0]), port), timeout_s)
        except OSError as error:
            failure = error
            continue
        sock = _Socket(plain.family, plain.type, plain.proto, plain.detach())
        sock.settimeout(timeout_s)
        if timeout_s is not None:
            sock.until = time.monotonic() + timeout_s
        return sock
    raise failure or OSError(f"{host} has no address")


def is_public(address: str | int) -> bool:
    """Whether an IP address, in its text form, is one of the internet's, also where IPv6 wraps IPv4.

    An address that cannot be understood is not.
    """
    try:
        ip = ipaddress.ip_address(str(address).partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.teredo is not None or ip.is_site_local:
            return False
        wrapped = ip.ipv4_mapped or ip.sixtofour
        # RFC 6052: translators hand these on to the IPv4 address in the last four bytes.
        if ip in ipaddress.ip_network("64:ff9b::/96"):
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
        # Only these are handed out; among the others are more ways to write IPv4 (RFC 4291 2.5.5.1, 2765, 8215), which
        # Python takes for public, as it does with the examples of RFC 9637.
        if ip not in _GLOBAL_UNICAST or ip in _EXAMPLES:
            return False
    return ip.is_global and not ip.is_multicast
