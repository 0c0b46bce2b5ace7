"""Names to addresses, within a time limit."""

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

# The system's own resolver knows hosts files, mDNS and the like, but a call of it cannot be ended; a process can.
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
    """Where a socket can connect to."""

    family: int
    place: tuple[Any, ...]
    """IP address in its text form, port, and for IPv6 what else sockets want."""


class Resolver:
    """Asks the system for the addresses of names. Safe to use from several threads.

    The asking is done by small processes (11 MB each), one for each name that is asked for at the same time; they are
    kept, and end with this process. One that has not answered in time is killed.
    """

    def __init__(self) -> None:
        self._idle: list[subprocess.Popen[bytes]] = []
        self._pid = os.getpid()
        self._lock = threading.Lock()
        weakref.finalize(self, _end_all, self._idle)

    def find(self, host: str, port: int, until: float) -> list[Address]:
        """Return the addresses of a name, best first, at the latest when `time.monotonic()` is `until`.

        Raises TimeoutError where that is too late, OSError where there are none.
        """
        try:
            # Needs no asking.
            numeric = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except (OSError, ValueError):
            pass
        else:
            return [Address(family, place) for family, _, _, _, place in numeric]
        if len(host) > 255:
            raise OSError("the name of the host is too long")
        question = json.dumps([host, port]).encode() + b"\n"
        while True:
            process, is_new = self._take()
            try:
                answer = _ask(process, question, until)
            except (BrokenPipeError, EOFError):
                _end(process)
                if is_new:
                    raise OSError("the process that asks for addresses has died") from None
                # It died while nobody needed it.
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
        """End the processes that nobody waits for."""
        with self._lock:
            _end_all(self._idle)

    def _take(self) -> tuple[subprocess.Popen[bytes], bool]:
        with self._lock:
            if self._pid != os.getpid():
                # After a fork: they are the other process's.
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
            # A Ctrl-C at the terminal is not for it.
            start_new_session=True,
        )
        return process, True


def _ask(process: subprocess.Popen[bytes], question: bytes, until: float) -> Any:
    """Raises TimeoutError; BrokenPipeError or EOFError where the process has ended."""
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
