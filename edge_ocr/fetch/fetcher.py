"""Opens http(s) URLs: one time limit covers names, connections, redirects and the body."""

from __future__ import annotations

import http.client
import math
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import IO, Any

from edge_ocr.fetch.resolver import Address, Resolver

MAX_ADDRESSES = 3
"""How many addresses of a name are tried, one after the other; they share the time that is left."""

DEFAULT_PORTS = {"http": 80, "https": 443}

_CHUNK_BYTES = 1 << 20


class TooLargeError(ValueError):
    """A response exceeds its size limit."""

    def __init__(self, max_bytes: int, announced: int | None) -> None:
        more = "more arrive" if announced is None else f"the server announces {announced}"
        super().__init__(f"expected at most {max_bytes} bytes, {more}")


class CutOffError(ValueError):
    """A connection closed before the announced end of the response."""

    def __init__(self, announced: int, actual: int) -> None:
        super().__init__(f"cut off: expected {announced} bytes, actual {actual}")
        self.announced, self.actual = announced, actual


@dataclass
class _Deadline:
    """When a download must be finished (by `time.monotonic()`), and how long its server may be silent."""

    until: float
    silence_s: float = math.inf

    def measure_left(self) -> float:
        """Return the seconds that the next step may take. Raises TimeoutError if none are left."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return min(left, self.silence_s)


class Fetcher:
    """Opens http(s) URLs and follows redirects. Thread-safe.

    `check_target` receives the host and port of each URL, redirects included. `check_address` receives the host and
    each of its IP addresses before the first connection, or "" if the host has no address. Both refuse by raising any
    exception. `use_proxies`: use the proxies of the environment (http_proxy and so on); the addresses are then the
    proxy's.
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

    def open(
        self, url: str, timeout_s: float, silence_s: float | None = None, start_s: float | None = None
    ) -> http.client.HTTPResponse:
        """Request a URL and return the response, ready to read; its status is 200 to 299.

        Names, connections, TLS, redirects and reading the body must all finish within `timeout_s`. If `silence_s` is
        given, the response must start within it (or within `start_s`), and no later pause may be longer. No thread is
        started.

        Raises URLError (which may wrap a TimeoutError), other OSError, HTTPException or ValueError, and whatever the
        checks raise.
        """
        start = time.monotonic()
        first_s = silence_s if start_s is None else start_s
        deadline = _Deadline(start + min(timeout_s, math.inf if first_s is None else first_s))
        opener = urllib.request.OpenerDirector()
        for handler in (
            *([urllib.request.ProxyHandler()] if self._use_proxies else []),
            _Handler(self, deadline),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _RedirectHandler(),
            urllib.request.UnknownHandler(),
        ):
            opener.add_handler(handler)
        # There is no handler for other schemes.
        request = urllib.request.Request(url, headers={"User-Agent": "edge-ocr"})  # noqa: S310
        answer: http.client.HTTPResponse = opener.open(request, timeout=timeout_s)
        if silence_s is not None:
            deadline.until, deadline.silence_s = start + timeout_s, silence_s
        return answer

    def close(self) -> None:
        """End the resolver's processes; new ones start when they are needed."""
        self._resolver.close()

    def check(self, request: urllib.request.Request) -> None:
        """Pass the host and port that will really be connected to to `check_target`, which may raise.

        They can differ from what the URL seems to say: urllib unquotes hosts, so http://a%3A22/ leads to port 22.
        """
        create = _HttpsConnection if request.type == "https" else _HttpConnection
        target = create(request.host, self, _Deadline(0))
        self._check_target(target.host, target.port)

    def connect(self, host: str, port: int, deadline: _Deadline) -> _Socket:
        """Connect to the first address that accepts; each gets an equal share of the time that is left.

        Raises OSError, and whatever `check_address` raises.
        """
        try:
            found = self._resolver.find(host, port, deadline.until)
        except TimeoutError:
            raise
        except OSError:
            # A caller that refuses addresses may not want to reveal which names exist.
            self._check_address(host, "")
            raise
        # Check all before trying the first: one private address makes the name private.
        for address in found:
            self._check_address(host, str(address.place[0]))
        failure: OSError | None = None
        tried = found[:MAX_ADDRESSES]
        for number, address in enumerate(tried):
            try:
                return _connect(address, deadline, deadline.measure_left() / (len(tried) - number))
            except OSError as error:
                failure = error
        raise failure or OSError(f"{host} has no address")


def _connect(address: Address, deadline: _Deadline, timeout_s: float) -> _Socket:
    sock = _Socket(address.family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(address.place)
    except BaseException:
        sock.close()
        raise
    sock.deadline = deadline
    return sock


@cache
def open_from_anywhere() -> Fetcher:
    """Return the process's fetcher for URLs that the user chose: pictures, models and libraries.

    It accepts every address and port, and uses the proxies of the environment: http_proxy, https_proxy, no_proxy.
    Pictures set one limit for the whole download (`Input.download_timeout_s`); models and libraries limit each silence
    to `edge_ocr.models.store.READ_TIMEOUT_S`. The service has a stricter fetcher: `edge_ocr.serving.public_fetch`.
    """
    return Fetcher(use_proxies=True)


def get_announced_size(answer: http.client.HTTPResponse) -> int | None:
    """Return a response's Content-Length in bytes; None if it has none."""
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def read_pieces(answer: http.client.HTTPResponse, max_bytes: int) -> Iterator[bytes]:
    """Yield the body of a response as it arrives.

    Raises TooLargeError if the body exceeds `max_bytes`, before the first piece if the server announces its size;
    CutOffError if the connection closes early; OSError or HTTPException if reading fails.
    """
    announced, done = get_announced_size(answer), 0
    if announced is not None and announced > max_bytes:
        raise TooLargeError(max_bytes, announced)
    while piece := answer.read1(_CHUNK_BYTES):
        done += len(piece)
        if done > max_bytes:
            raise TooLargeError(max_bytes, None)
        yield piece
    # read1 returns b"" at a broken connection, too.
    if announced is not None and done < announced:
        raise CutOffError(announced, done)


class _Socket(socket.socket):
    """Meets its deadline even if the server sends one byte at a time.

    A plain socket timeout restarts with each byte, so a server could hold a thread and a connection for ever.
    """

    deadline = _Deadline(math.inf)

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        self.settimeout(self.deadline.measure_left())
        return super().recv_into(*arguments, **options)

    def sendall(self, *arguments: Any, **options: Any) -> None:
        self.settimeout(self.deadline.measure_left())
        super().sendall(*arguments, **options)


class _TlsSocket(ssl.SSLSocket):
    deadline = _Deadline(math.inf)

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        self.settimeout(self.deadline.measure_left())
        return super().recv_into(*arguments, **options)

    def send(self, *arguments: Any, **options: Any) -> int:
        self.settimeout(self.deadline.measure_left())
        return super().send(*arguments, **options)


class _Handler(urllib.request.AbstractHTTPHandler):
    """Opens http and https URLs."""

    def __init__(self, fetcher: Fetcher, deadline: _Deadline) -> None:
        super().__init__()
        self._fetcher = fetcher
        self._deadline = deadline

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        # Refuses a URL without a host.
        request = self.do_request_(request)
        # Before a proxy replaces the host.
        self._fetcher.check(request)
        return request

    https_request = http_request

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        kind = _HttpsConnection if request.type == "https" else _HttpConnection
        return self.do_open(partial(kind, fetcher=self._fetcher, deadline=self._deadline), request)

    https_open = http_open


class _HttpConnection(http.client.HTTPConnection):
    # Attributes of the base class, which urllib sets if it goes through a proxy.
    _tunnel_host: str | None
    _tunnel: Callable[[], None]

    def __init__(self, host: str, fetcher: Fetcher, deadline: _Deadline, **options: Any) -> None:
        super().__init__(host, **options)
        self._fetcher = fetcher
        self._deadline = deadline

    def connect(self) -> None:
        self.sock = self._fetcher.connect(self.host, self.port, self._deadline)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tunnel_host:
            self._tunnel()


class _HttpsConnection(_HttpConnection):
    default_port = http.client.HTTPS_PORT

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self._deadline.measure_left())
        # This timeout covers the whole handshake.
        wrapped = self._fetcher._tls.wrap_socket(self.sock, server_hostname=self._tunnel_host or self.host)
        if isinstance(wrapped, _TlsSocket):
            wrapped.deadline = self._deadline
        self.sock = wrapped


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage
    ) -> Any:
        # Otherwise urllib reads the whole body, however long it is.
        fp.close()
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302
