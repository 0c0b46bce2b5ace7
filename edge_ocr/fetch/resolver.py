"""Resolves host names to addresses within a time limit."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
import weakref
from typing import Any, NamedTuple

# The system's resolver knows hosts files, mDNS and so on, but a running call cannot be cancelled; a process can.
_PROGRAM = """
import json, socket, sys
for line in sys.stdin:
    host, port = json.loads(line)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        answer = [[family, address] for family, _, _, _, address in found]
    except (OSError, ValueError) as error:
        answer = getattr(error, "strerror", None) or str(error)
    print(json.dumps(answer), flush=True)
"""

_CHUNK_BYTES = 1 << 16


class Address(NamedTuple):
    """An address that a socket can connect to."""

    family: int
    place: tuple[Any, ...]
    """IP address as text and port; for IPv6 also flow info and scope id."""


class Resolver:
    """Resolves names with the system's resolver. Thread-safe.

    The lookups run in small child processes (11 MB each), one for each concurrent lookup. They are reused and end with
    this process; one that does not answer in time is killed.
    """

    def __init__(self) -> None:
        self._idle: list[subprocess.Popen[bytes]] = []
        self._pid = os.getpid()
        self._lock = threading.Lock()
        weakref.finalize(self, _end_all, self._idle)

    def find(self, host: str, port: int, until: float) -> list[Address]:
        """Return the addresses of a name, best first, before `time.monotonic()` reaches `until`.

        Raises TimeoutError if that takes too long, OSError if there are none.
        """
        try:
            # A numeric address needs no lookup.
            numeric = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except (OSError, ValueError):
            pass
        else:
            return [Address(family, place) for family, _, _, _, place in numeric]
        if len(host) > 255:
            raise OSError("the host name is too long")
        question = json.dumps([host, port]).encode() + b"\n"
        while True:
            process, is_new = self._take()
            try:
                answer = _ask(process, question, until)
            except (BrokenPipeError, EOFError):
                _end(process)
                if is_new:
                    raise OSError("the resolver process died") from None
                # It died while idle.
                continue
            except BaseException:
                _end(process)
                raise
            with self._lock:
                self._idle.append(process)
            if isinstance(answer, str):
                raise socket.gaierror(answer)
            return [Address(family, tuple(place)) for family, place in answer]

    def close(self) -> None:
        """End the idle processes."""
        with self._lock:
            _end_all(self._idle)

    def _take(self) -> tuple[subprocess.Popen[bytes], bool]:
        with self._lock:
            if self._pid != os.getpid():
                # After a fork, they belong to the parent.
                self._idle.clear()
                self._pid = os.getpid()
            if self._idle:
                return self._idle.pop(), False
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM]
        process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Keeps a Ctrl-C at the terminal away from it.
            start_new_session=True,
        )
        return process, True


def _ask(process: subprocess.Popen[bytes], question: bytes, until: float) -> Any:
    """Return the process's answer. Raises TimeoutError; BrokenPipeError or EOFError if the process has ended."""
    if process.stdin is None or process.stdout is None:
        raise EOFError
    process.stdin.write(question)
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    answer = b""
    while not answer.endswith(b"\n"):
        left = until - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError("timed out")
        piece = os.read(process.stdout.fileno(), _CHUNK_BYTES)
        if not piece:
            raise EOFError
        answer += piece
    return json.loads(answer)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _end_all(processes: list[subprocess.Popen[bytes]]) -> None:
    while processes:
        _end(processes.pop())
