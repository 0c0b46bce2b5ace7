"""Connections on which no request comes: they are closed in time."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class TimedProtocol(H11Protocol):
    """Closes a connection on which the headers of a request, the first included, take too long.

    The limit is uvicorn's own for connections that wait for another request, `timeout_keep_alive`. uvicorn counts from
    an answer to the next byte only: who sends half of the headers, or nothing, would keep the connection for ever.
    """

    _awaiting_headers: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as theirs
        super().connection_made(transport)
        self._time_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._time_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timing()

    def _time_headers(self) -> None:
        # Of an answered request, what still comes is no reason to stay: uvicorn's own clock stops at any byte.
        if self.conn.their_state is not h11.IDLE and self.conn.our_state is not h11.DONE:
            self._stop_timing()
        elif self._awaiting_headers is None:
            self._awaiting_headers = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _stop_timing(self) -> None:
        if self._awaiting_headers is not None:
            self._awaiting_headers.cancel()
            self._awaiting_headers = None
