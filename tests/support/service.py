"""Hand-written requests, and what tests of the service check."""

from __future__ import annotations

import io
import socket
import time

HEAD = b"POST /ocr HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
"""The start of a hand-written request."""

BOUNDARY = "xXx"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def make_form(*parts: tuple[str, bytes | str, str | None], end: bool = True) -> bytes:
    """A form of parts: name, content, and the name of the file, if it is one."""
    body = io.BytesIO()
    for name, content, file in parts:
        named = "" if file is None else f'; filename="{file}"'
        body.write(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode())
        body.write(content.encode() if isinstance(content, str) else content)
        body.write(b"\r\n")
    body.write(f"--{BOUNDARY}--\r\n".encode() if end else b"")
    return body.getvalue()


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
