"""Files behind http(s) URLs, with one time limit for all that it takes to get them."""

from __future__ import annotations

import http.client
import math
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable
from functools import cached_property
from typing import IO, Any

from edge_ocr.resolver import Address, Resolver

MAX_ADDRESSES = 3
"""Of a name, tried one after the other; they share the time that is left."""

DEFAULT_PORTS = {"http": 80, "https": 443}


class Fetcher:
    """Opens http(s) URLs and follows redirects. Safe to use from several threads.

    `check_target` is told host and port of each URL, and of each that a redirect leads to; `check_address` the host and
    the IP address of each of its addresses, before any is connected to, or "" where it has none. Either refuses by
    raising what it likes.
    `use_proxies`: those of the environment (http_proxy and so on); the addresses are then the proxy's.
    """

    def __init__(
        self,
        check_target: Callable[[str, int], object] = lambda host, port: None,
        check_address: Callable[[str, str], object] = lambda host, address: None,
        *,
        use_proxies: bool = False,
    ) -> None:
        self._check_target = check_target
        self._check_address = check_address
        self._use_proxies = use_proxies
        self._resolver = Resolver()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.sslsocket_class = _TlsSocket
        return context

    def open(self, url: str, timeout_s: float) -> http.client.HTTPResponse:
        """Ask for a URL; return an answer to read from, whose status is 200 to 299.

        Everything, the reading included, ends `timeout_s` from now: names, connections, TLS, redirects and answers.
        No thread is started.

        Raises URLError, which may hold a TimeoutError, other OSError, HTTPException or ValueError, and what the checks
        raise.
        """
        until = time.monotonic() + timeout_s
        opener = urllib.request.OpenerDirector()
        for handler in (
            *([urllib.request.ProxyHandler()] if self._use_proxies else []),
            _Handler(self, until),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _RedirectHandler(),
            urllib.request.UnknownHandler(),
        ):
            opener.add_handler(handler)
        # Of other schemes, there is no handler.
        request = urllib.request.Request(url, headers={"User-Agent": "edge-ocr"})  # noqa: S310
        answer: http.client.HTTPResponse = opener.open(request, timeout=timeout_s)
        return answer

    def close(self) -> None:
        """End the processes that ask for addresses; others are started when they are needed."""
        self._resolver.close()

    def check(self, request: urllib.request.Request) -> None:
        """Raise where the host and port that will be connected to are refused.

        They are not what the URL seems to say: urllib unquotes hosts, and http://a%3A22/ leads to port 22.
        """
        create = _HttpsConnection if request.type == "https" else _HttpConnection
        target = create(request.host, self, 0)
        self._check_target(target.host, target.port)

    def connect(self, host: str, port: int, until: float) -> _Socket:
        """Connect to the first address that answers; each gets an even share of the time that is left.

        Raises OSError, and what `check_address` raises.
        """
        try:
            found = self._resolver.find(host, port, until)
        except TimeoutError:
            raise
        except OSError:
            # Whoever refuses addresses may not want to tell which names have one.
            self._check_address(host, "")
            raise
        # All of them, before the first is tried: a name with one private address is no public name.
        for address in found:
            self._check_address(host, str(address.place[0]))
        failure: OSError | None = None
        tried = found[:MAX_ADDRESSES]
        for number, address in enumerate(tried):
            try:
                return _connect(address, until, _measure_left(until) / (len(tried) - number))
            except OSError as error:
                failure = error
        raise failure or OSError(f"{host} has no address")


def _connect(address: Address, until: float, timeout_s: float) -> _Socket:
    sock = _Socket(address.family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(address.place)
    except BaseException:
        sock.close()
        raise
    sock.until = until
    return sock


def _measure_left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class _Socket(socket.socket):
    """Ends in time even where one byte comes after the other.

    A timeout starts anew with each, and a server could keep a thread and a connection for as long as it likes.
    """

    until = math.inf

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        self.settimeout(_measure_left(self.until))
        return super().recv_into(*arguments, **options)

    def sendall(self, *arguments: Any, **options: Any) -> None:
        self.settimeout(_measure_left(self.until))
        super().sendall(*arguments, **options)


class _TlsSocket(ssl.SSLSocket):
    until = math.inf

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        self.settimeout(_measure_left(self.until))
        return super().recv_into(*arguments, **options)

    def send(self, *arguments: Any, **options: Any) -> int:
        self.settimeout(_measure_left(self.until))
        return super().send(*arguments, **options)


class _Handler(urllib.request.AbstractHTTPHandler):
    """Opens http and https URLs."""

    def __init__(self, fetcher: Fetcher, until: float) -> None:
        super().__init__()
        self._fetcher = fetcher
        self._until = until

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        # It refuses a URL without a host.
        request = self.do_request_(request)
        # Before a proxy takes the place of the host.
        self._fetcher.check(request)
        return request

    https_request = http_request

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        def create(host: str, /, **options: Any) -> http.client.HTTPConnection:
            return _HttpConnection(host, self._fetcher, self._until, **options)

        return self.do_open(create, request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        def create(host: str, /, **options: Any) -> http.client.HTTPConnection:
            return _HttpsConnection(host, self._fetcher, self._until, **options)

        return self.do_open(create, request)


class _HttpConnection(http.client.HTTPConnection):
    # The base's own, set by urllib where it goes through a proxy.
    _tunnel_host: str | None
    _tunnel: Callable[[], None]

    def __init__(self, host: str, fetcher: Fetcher, until: float, **options: Any) -> None:
        super().__init__(host, **options)
        self._fetcher = fetcher
        self._until = until

    def connect(self) -> None:
        self.sock = self._fetcher.connect(self.host, self.port, self._until)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tunnel_host:
            self._tunnel()


class _HttpsConnection(_HttpConnection):
    default_port = http.client.HTTPS_PORT

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(_measure_left(self._until))
        # The timeout is for the handshake as a whole.
        wrapped = self._fetcher._tls.wrap_socket(self.sock, server_hostname=self._tunnel_host or self.host)
        if isinstance(wrapped, _TlsSocket):
            wrapped.until = self._until
        self.sock = wrapped


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage
    ) -> Any:
        # It would be read whole, however long it is.
        fp.close()
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302
