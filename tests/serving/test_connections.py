"""Connections without a complete request are closed in time."""

from __future__ import annotations

import base64
import json
import socket
import time

import pytest
from support.service import HEAD, read_to_end

ASK_HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (b"", 0),
        (b"GE", 0),
        (HEAD, 0),
        (ASK_HEALTH, 1),
        (ASK_HEALTH + HEAD, 1),
        (ASK_HEALTH + ASK_HEALTH + HEAD, 2),
    ],
    ids=["nothing", "begun", "half", "no second", "half of the second", "half of the third"],
)
def test_connection_with_incomplete_headers_is_closed(start, sent, answers):
    service = start(header_timeout_s=0.2)
    with socket.create_connection(("127.0.0.1", service.port), 10) as client:
        client.sendall(sent)
        assert read_to_end(client).count(b"HTTP/1.1 200 ") == answers


@pytest.mark.parametrize("before", [b"", ASK_HEALTH], ids=["first", "second"])
def test_headers_that_trickle_do_not_keep_a_connection(start, before):
    service = start(header_timeout_s=0.2)
    with socket.create_connection(("127.0.0.1", service.port), 10) as client:
        client.sendall(before + HEAD)
        # One header after the other, for much longer than the limit; in the end the connection is closed.
        with pytest.raises(OSError):  # noqa: PT012  # which of the lines it is, is open
            for _ in range(200):
                client.sendall(b"X: y\r\n")
                time.sleep(0.05)


@pytest.mark.parametrize("path", ["/nothing", "/health"])
def test_an_answered_request_whose_body_trickles_does_not_keep_a_connection(start, path):
    service = start(header_timeout_s=0.2)
    with socket.create_connection(("127.0.0.1", service.port), 10) as client:
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 40")
        client.sendall(b"x")
        read_to_end(client)


def test_headers_in_time_may_be_followed_by_a_body_that_takes_longer(start, sign, gate):
    service = start(header_timeout_s=0.2)
    body = json.dumps({"image": base64.b64encode(sign).decode()}).encode()
    with socket.create_connection(("127.0.0.1", service.port), 10) as client:
        client.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:100])
        time.sleep(0.5)
        client.sendall(body[100:])
        # As may the answer.
        time.sleep(0.5)
        gate.set()
        assert read_to_end(client).startswith(b"HTTP/1.1 200 ")
