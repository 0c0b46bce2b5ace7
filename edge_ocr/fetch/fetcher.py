"""Files behind http(s) URLs, with one time limit for all that it takes to get them."""

from __future__ import annotations

import http.client
import math
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import IO, Any

from edge_ocr.fetch.resolver import Address, Resolver

MAX_ADDRESSES = 3
"""Of a name, tried one after the other; they share the time that is left."""

DEFAULT_PORTS = {"http": 80, "https": 443}

_CHUNK_BYTES = 1 << 20


class TooLargeError(ValueError):
    """An answer has more bytes than it may have."""

    def __init__(self, max_bytes: int, announced: int | None) -> None:
        more = "more arrive" if announced is None else f"the server announces {announced}"
        super().__init__(f"expected at most {max_bytes} bytes, {more}")


class CutOffError(ValueError):
    """A connection ended before the announced end of the answer."""

    def __init__(self, announced: int, actual: int) -> None:
        super().__init__(f"cut off: expected {announced} bytes, actual {actual}")
        self.announced, self.actual = announced, actual


@dataclass
class _Deadline:
    """When a download must be done, by `time.monotonic()`, and how long its server may be silent."""

    until: float
    silence_s: float = math.inf

    def measure_left(self) -> float:
        """Return the seconds that the next step may take. Raises TimeoutError if none are left."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return min(left, self.silence_s)


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

    def open(self, url: str, timeout_s: float, silence_s: float | None = None) -> http.client.HTTPResponse:
        """Ask for a URL; return an answer to read from, whose status is 200 to 299.

        Everything, the reading included, ends `timeout_s` from now: names, connections, TLS, redirects and answers.
        With `silence_s`, the answer must begin within this time, and no later pause may be longer. No thread is
        started.

        Raises URLError, which may hold a TimeoutError, other OSError, HTTPException or ValueError, and what the checks
        raise.
        """
        start = time.monotonic()
        deadline = _Deadline(start + min(timeout_s, math.inf if silence_s is None else silence_s))
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
        # Of other schemes, there is no handler.
        request = urllib.request.Request(url, headers={"User-Agent": "edge-ocr"})  # noqa: S310
        answer: http.client.HTTPResponse = opener.open(request, timeout=timeout_s)
        if silence_s is not None:
            deadline.until, deadline.silence_s = start + timeout_s, silence_s
        return answer

    def close(self) -> None:
        """End the processes that ask for addresses; others are started when they are needed."""
        self._resolver.close()

    def check(self, request: urllib.request.Request) -> None:
        """Raise where the host and port that will be connected to are refused.

        They are not what the URL seems to say: urllib unquotes hosts, and http://a%3A22/ leads to port 22.
        """
        create = _HttpsConnection if request.type == "https" else _HttpConnection
        target = create(request.host, self, _Deadline(0))
        self._check_target(target.host, target.port)

    def connect(self, host: str, port: int, deadline: _Deadline) -> _Socket:
        """Connect to the first address that answers; each gets an even share of the time that is left.

        Raises OSError, and what `check_address` raises.
        """
        try:
            found = self._resolver.find(host, port, deadline.until)
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
    """Return the fetcher for URLs that the user names: pictures, models, libraries. Opened once in a process.

    It refuses no address or port, and asks the proxies of the environment: http_proxy, https_proxy, no_proxy.
    """
    return Fetcher(use_proxies=True)


def get_announced_size(answer: http.client.HTTPResponse) -> int | None:
    """Return the size in bytes that an answer announces; None if it announces none."""
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def read_pieces(answer: http.client.HTTPResponse, max_bytes: int) -> Iterator[bytes]:
    """Yield the body of an answer as it arrives, at most `max_bytes` of it.

    Raises TooLargeError if there is more, before the first piece if the server announces it; CutOffError if the
    connection ends early; and OSError or HTTPException.
    """
    announced, done = get_announced_size(answer), 0
    if announced is not None and announced > max_bytes:
        raise TooLargeError(max_bytes, announced)
    while piece := answer.read1(_CHUNK_BYTES):
        done += len(piece)
        if done > max_bytes:
            raise TooLargeError(max_bytes, None)
        yield piece
    # read1 takes a connection that breaks off for the end.
    if announced is not None and done < announced:
        raise CutOffError(announced, done)


class _Socket(socket.socket):
    """Ends in time even where one byte comes after the other.

    A timeout starts anew with each, and a server could keep a thread and a connection for as long as it likes.
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
        # It refuses a URL without a host.
        request = self.do_request_(request)
        # Before a proxy takes the place of the host.
        self._fetcher.check(request)
        return request

    https_request = http_request

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        def create(host: str, /, **options: Any) -> http.client.HTTPConnection:
            return _HttpConnection(host, self._fetcher, self._deadline, **options)

        return self.do_open(create, request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        def create(host: str, /, **options: Any) -> http.client.HTTPConnection:
            return _HttpsConnection(host, self._fetcher, self._deadline, **options)

        return self.do_open(create, request)


class _HttpConnection(http.client.HTTPConnection):
    # The base's own, set by urllib where it goes through a proxy.
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
        # The timeout is for the handshake as a whole.
        wrapped = self._fetcher._tls.wrap_socket(self.sock, server_hostname=self._tunnel_host or self.host)
        if isinstance(wrapped, _TlsSocket):
            wrapped.deadline = self._deadline
        self.sock = wrapped


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage
    ) -> Any:
        # It would be read whole, however long it is.
        fp.close()
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302
