"""Hand-written requests, and what tests of the service check."""

from __future__ import annotations

import socket
import time

HEAD = b"POST /ocr HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
"""The start of a hand-written request."""


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
    """Return what the service sends until it closes the connection; TimeoutError if it does not."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def count_bytes(service) -> float:
    text = service.ask("/metrics").content.decode()
    return next(float(row.split()[1]) for row in text.splitlines() if row.startswith("edge_ocr_body_bytes "))


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
