"""Closes connections on which no complete request headers arrive."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class TimedProtocol(H11Protocol):
    """Closes a connection if the headers of a request, the first included, take too long.

    The limit is uvicorn's `timeout_keep_alive`. uvicorn itself applies it only from a response to the next byte, so a
    client that sends nothing, or half of the headers, could keep its connection for ever. H11Protocol is not public,
    which is why pyproject.toml gives uvicorn an upper bound.
    """

    _awaiting_headers: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        super().connection_made(transport)
        self._time_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._time_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timing()

    def _time_headers(self) -> None:
        # The rest of an answered request's body must not keep the connection: any byte stops uvicorn's own timer.
        if self.conn.their_state is not h11.IDLE and self.conn.our_state is not h11.DONE:
            self._stop_timing()
        elif self._awaiting_headers is None:
            self._awaiting_headers = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _stop_timing(self) -> None:
        if self._awaiting_headers is not None:
            self._awaiting_headers.cancel()
            self._awaiting_headers = None
