"""Child processes that cannot make the caller wait forever."""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_ocr.errors import ToolchainError

STDERR_TAIL_BYTES = 32 * 1024

_MAX_LINE_BYTES = 2**16
# How soon a process ends after a request to stop.
_STOP_POLL_S = 0.2
# How soon the end of a process is noticed.
_END_POLL_S = 0.05
# For output written before the end; a process that left the group may keep the pipes open.
_REST_TIMEOUT_S = 5.0


class EndedError(Exception):
    """The child has closed its stdout."""


class LateError(Exception):
    """The deadline has passed."""


class _Leader(subprocess.Popen[bytes]):
    """A process that leads a process group, which ends with it."""

    _has_group = True

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, end the rest of its group, and return its exit code."""
        # Until it is reaped, no other process or group can have its id.
        if not hasattr(os, "waitid"):  # macOS, before Python 3.13
            super().wait(timeout)
        elif self.returncode is None and not _wait_for_end(self.pid, timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        self.end_group()
        return super().wait()

    def end_group(self) -> None:
        """Kill it and its group, once only: later, another group may have the id. The caller then waits for it."""
        if self._has_group:
            self._has_group = False
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


def _start(command: Sequence[str], **options: Any) -> _Leader:
    # In a process group of its own, Ctrl-C does not reach it: we end it in order. A thread other than the main one does
    # not see Ctrl-C either, hence `stop` of `run_child`.
    try:
        return _Leader(list(command), stdout=subprocess.PIPE, start_new_session=True, **options)
    except OSError as error:
        raise ToolchainError(f"{command[0]} does not start: {error.strerror}") from None


class Child:
    """A process whose three pipes are served by one loop, so that nothing blocks beyond a deadline."""

    def __init__(
        self, command: Sequence[str], cwd: Path | None = None, hear: Callable[[bytes], None] = lambda said: None
    ) -> None:
        """Start `command`; `hear` receives its stderr as it comes.

        Raises ToolchainError if it does not start.
        """
        self._process = _start(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, cwd=cwd, env=make_environment()
        )
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._stdin, self._stdout, self._stderr = (pipe.fileno() for pipe in pipes if pipe is not None)
        for descriptor in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(descriptor, False)
        self._stderr_open = True
        self._stdin_open = True
        self._hear = hear
        self.tail = bytearray()
        """The end of its stderr so far."""

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    def send(self, data: bytes | memoryview, deadline: float) -> None:
        """Write all of `data`, or stop if the child no longer reads: its output or exit code then tells why.

        `deadline`, here and below, is a value of time.monotonic. Raises LateError.
        """
        view = memoryview(data)
        while view and self._stdin_open:
            self._wait(deadline, self._stdin, select.POLLOUT)
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                self.close_stdin()

    def receive(self, count: int, deadline: float) -> bytearray:
        """Return exactly `count` bytes of its stdout.

        Raises EndedError if it is closed before, LateError.
        """
        data = bytearray(count)
        done = 0
        while done < count:
            self._wait(deadline, self._stdout, select.POLLIN)
            try:
                got = os.readv(self._stdout, [memoryview(data)[done:]])
            except BlockingIOError:
                continue
            if got == 0:
                raise EndedError
            done += got
        return data

    def receive_line(self, deadline: float) -> str:
        """Return the next line of its stdout, stripped.

        Raises as `receive`.
        """
        line = bytearray()
        while not line.endswith(b"\n") and len(line) < _MAX_LINE_BYTES:
            line += self.receive(1, deadline)
        return line.decode(errors="replace").strip()

    def receive_rest(self, most: int, deadline: float) -> bytes:
        """Return the first `most` bytes of its stdout, reading until it is closed.

        Raises LateError.
        """
        data = bytearray()
        while True:
            self._wait(deadline, self._stdout, select.POLLIN)
            try:
                got = os.read(self._stdout, 65536)
            except BlockingIOError:
                continue
            if not got:
                return bytes(data)
            data += got[: most - len(data)]

    def close_stdin(self) -> None:
        """Close its stdin."""
        if self._stdin_open and self._process.stdin is not None:
            self._stdin_open = False
            self._process.stdin.close()

    def end(self, timeout_s: float) -> int:
        """Close its stdin, wait for its end, and return its exit code; kill it after `timeout_s`."""
        self.close_stdin()
        deadline = time.monotonic() + timeout_s
        with suppress(LateError):
            while self._stderr_open:
                self._wait(deadline, None, 0)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()
        return self._process.returncode

    def kill(self) -> None:
        """Kill it, with every process that it started on this machine."""
        self._process.end_group()
        self._process.wait()
        self.close_stdin()
        self._stderr_open = False
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _wait(self, deadline: float, descriptor: int | None, event: int) -> None:
        """Return when `descriptor` is ready, or after reading something from stderr."""
        poll = select.poll()
        if descriptor is not None:
            poll.register(descriptor, event)
        if self._stderr_open:
            poll.register(self._stderr, select.POLLIN)
        ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        # A child that never stops writing is late, too.
        if not ready or time.monotonic() > deadline:
            raise LateError
        if any(found == self._stderr for found, _ in ready):
            with suppress(BlockingIOError):
                got = os.read(self._stderr, 65536)
                self._stderr_open = bool(got)
                self._hear(got)
                self.tail += got
                del self.tail[:-STDERR_TAIL_BYTES]


def run_child(
    command: Sequence[str],
    timeout_s: float,
    *,
    env: Mapping[str, str],
    data: bytes = b"",
    cwd: Path | None = None,
    pass_fds: Collection[int] = (),
    join_stderr: bool = False,
    stop: threading.Event | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command with `data` as its stdin; when it ends, every process that it started on this machine ends, too.

    With `join_stderr`, the result's stdout includes stderr.

    Raises ToolchainError if it does not start; subprocess.TimeoutExpired, with its output so far; CancelledError soon
    after another thread has set `stop`.
    """
    process = _start(
        command,
        stdin=subprocess.PIPE,
        stderr=subprocess.STDOUT if join_stderr else subprocess.PIPE,
        cwd=cwd,
        env=env,
        pass_fds=pass_fds,
    )
    with process:
        try:
            said = _communicate(process, data, time.monotonic() + timeout_s, stop)
        finally:
            process.end_group()
            process.wait()
        if said is None:
            said = process.communicate(timeout=_REST_TIMEOUT_S)
            raise subprocess.TimeoutExpired(list(command), timeout_s, *said)
    return subprocess.CompletedProcess(list(command), process.returncode, *said)


def _communicate(
    process: subprocess.Popen[bytes], data: bytes, deadline: float, stop: threading.Event | None
) -> tuple[bytes, bytes] | None:
    """Return stdout and stderr of a process; None if it has not ended by `deadline`."""
    given: bytes | None = data
    while True:
        left = max(0.0, deadline - time.monotonic())
        try:
            return process.communicate(given, left if stop is None else min(left, _STOP_POLL_S))
        except subprocess.TimeoutExpired:
            given = None  # the rest is still sent
        if stop is not None and stop.is_set():
            raise CancelledError
        if time.monotonic() >= deadline:
            return None


def _wait_for_end(pid: int, timeout_s: float | None) -> bool:
    """Tell whether a child has ended within a time, without reaping it."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = 0.0005
    # ChildProcessError: somebody else has reaped it.
    with suppress(ChildProcessError):
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | (os.WNOHANG if timeout_s is not None else 0)) is None:
            left = math.inf if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            pause_s = min(2 * pause_s, left, _END_POLL_S)
            time.sleep(pause_s)
    return True


def clean_environment() -> dict[str, str]:
    """Return the environment without variables that point a child to another interpreter's packages."""
    dropped = ("VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__")
    return {name: value for name, value in os.environ.items() if name not in dropped and not name.startswith("PYTHON")}


def make_environment() -> dict[str, str]:
    """Return the environment of a child whose messages we read, in English."""
    return {**clean_environment(), "LC_ALL": "C"}


def name_end(returncode: int) -> str:
    """Return, as text, how a process ended."""
    # A shell reports a signal as 128 + its number.
    number = -returncode if returncode < 0 else returncode - 128
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"ended with exit code {returncode}"
