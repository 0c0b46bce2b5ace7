"""Requests that are written by hand, and what tests of the service look at."""

from __future__ import annotations

import socket
import time

HEAD = b"POST /ocr HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
"""How a request begins that is written by hand."""


def assert_failed(answer, status: int, *words: str) -> None:
    assert answer.status == status, answer.content[:300]
    assert set(answer.json) == {"errorCode", "errorMsg"}
    assert answer.json["errorCode"] == status
    message = answer.json["errorMsg"]
    assert len(message) < 300
    assert "\n" not in message
    for word in words:
        assert word in message


def read_to_end(client: socket.socket) -> bytes:
    """What the service says until it closes the connection; TimeoutError where it does not."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def count_bytes(service) -> float:
    text = service.ask("/metrics").content.decode()
    return next(float(row.split()[1]) for row in text.splitlines() if row.startswith("edge_ocr_body_bytes "))


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
