"""Runs one .nb model on a real Paddle-Lite library, in its own process.

A small C++ program (`edge_ocr/core/engines/lite_shim/lite_serve.cpp`, which describes the protocol) is built against
the library; each process serves one model over stdin and stdout. If Paddle-Lite fails or aborts, the error quotes what
it printed.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from converters.processes.child import Child, EndedError, LateError, name_end
from converters.text import clean_log, quote_last_lines
from edge_ocr.errors import NotVerifiedError, ToolchainError

START_TIMEOUT_S = 300.0
"""For loading a model, which takes seconds under emulation on an idle machine."""
RUN_TIMEOUT_S = 1800.0
"""For one run; under emulation the detector at 960 × 960 takes half a minute on an idle machine."""
CLOSE_TIMEOUT_S = 5.0

PROGRAM = "edge-ocr-lite-serve"

# As in edge_ocr_lite.h and lite_serve.cpp.
MAX_RANK = 8
MAX_ELEMENTS = 2**28
_MAGIC = b"EOCRLITE"
_PROTOCOL = 1
_MAX_TEXT_BYTES = 2**16


def start_child(command: Sequence[str], cwd: Path | None = None) -> Child:
    try:
        return Child(command, cwd)
    except ToolchainError as error:
        raise NotVerifiedError(error.message) from None


Explain = Callable[[int, bytes], NotVerifiedError | None]
"""Takes exit code and stderr of a process that ended early; returns a more specific error, or None."""


class LiteProcess:
    """An engine: one model on a real Paddle-Lite library, in its own process.

    The process starts with the first run, and again after a failed run. Not thread-safe. As a context manager it ends
    the process on exit.
    """

    name = "paddle-lite"

    def __init__(
        self,
        command: Sequence[str],
        model: Path,
        *,
        place: str,
        expected_version: str,
        cwd: Path | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
        run_timeout_s: float = RUN_TIMEOUT_S,
        explain: Explain | None = None,
    ) -> None:
        """Prepare to run `command`, which serves `model`; nothing starts yet.

        `place`, such as `under qemu-aarch64`, and `model` appear in errors. `expected_version` is the version that the
        library must report, such as `v2.13-rc`.
        """
        self._command = list(command)
        self._model = model
        self._place = place
        self._expected_version = expected_version
        self._cwd = cwd
        self._start_timeout_s = start_timeout_s
        self._run_timeout_s = run_timeout_s
        self._explain = explain
        self._child: Child | None = None

    def __enter__(self) -> LiteProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._kill()

    @property
    def pid(self) -> int | None:
        """Return the id of the process on this machine; None if it is not running."""
        return None if self._child is None else self._child.pid

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one NCHW batch; the result is a copy.

        Raises NotVerifiedError if the process does not start, has another version than expected, refuses the input,
        dies or times out; the message quotes what it printed last.
        """
        request = np.ascontiguousarray(array, dtype="<f4")
        if not 1 <= request.ndim <= MAX_RANK or not 1 <= request.size <= MAX_ELEMENTS:
            shape = "×".join(map(str, request.shape))
            raise NotVerifiedError(f"{self._model}: cannot run an input of {shape}, expected 1 to 2^28 elements")
        head = struct.pack(f"<I{request.ndim}q", request.ndim, *request.shape)
        try:
            child = self._child or self._start()
            with self._watch(child, self._run_timeout_s, "run") as deadline:
                child.send(head, deadline)
                child.send(request.reshape(-1).view(np.uint8).data, deadline)
                (status,) = struct.unpack("<I", child.receive(4, deadline))
                if status != 0:
                    raise self._refuse(_clean_reason(_receive_text(child, deadline)), child)
                return self._receive_array(child, deadline)
        except BaseException:
            # Also on Ctrl-C: the protocol has no way to cancel a run.
            self._kill()
            raise

    def close(self) -> None:
        """End the process, with a short grace period."""
        child, self._child = self._child, None
        if child is not None:
            child.end(CLOSE_TIMEOUT_S)

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _start(self) -> Child:
        child = self._child = start_child(self._command, self._cwd)
        with self._watch(child, self._start_timeout_s, "load") as deadline:
            # In two steps: other output, such as a login shell's greeting, may be shorter than a full header.
            magic = child.receive(len(_MAGIC), deadline)
            if magic != _MAGIC:
                raise NotVerifiedError(
                    f"{self._model} {self._place}: expected the greeting of {PROGRAM}, actual {bytes(magic)!r}",
                    "make the login shell print nothing when ssh runs a program",
                )
            protocol, status = struct.unpack("<II", child.receive(8, deadline))
            if protocol != _PROTOCOL:
                raise NotVerifiedError(f"{PROGRAM} {self._place}: protocol {protocol}, expected {_PROTOCOL}")
            text = _receive_text(child, deadline)
            if status != 0:
                raise self._refuse(_clean_reason(text), child)
        if text != self._expected_version:
            raise refuse_version(f"Paddle-Lite {self._place}", text, self._expected_version)
        return child

    def _receive_array(self, child: Child, deadline: float) -> NDArray[np.float32]:
        (rank,) = struct.unpack("<I", child.receive(4, deadline))
        if not 1 <= rank <= MAX_RANK:
            raise NotVerifiedError(f"{self._model} {self._place}: returned {rank} dimensions, expected 1 to {MAX_RANK}")
        dims = struct.unpack(f"<{rank}q", child.receive(8 * rank, deadline))
        count = 1
        for dim in dims:
            count *= dim
            if dim < 1 or count > MAX_ELEMENTS:
                raise NotVerifiedError(
                    f"{self._model} {self._place}: returned shape {dims}, which is empty or too large"
                )
        return np.frombuffer(child.receive(4 * count, deadline), dtype="<f4").reshape(dims)

    @contextmanager
    def _watch(self, child: Child, timeout_s: float, doing: Literal["load", "run"]) -> Iterator[float]:
        """Yield a deadline; turn a process that is late or ends into an error."""
        try:
            yield time.monotonic() + timeout_s
        except LateError:
            raise self._refuse(f"did not {doing} within {timeout_s:g} s{quote_last(child.tail)}", child) from None
        except EndedError:
            returncode = child.end(CLOSE_TIMEOUT_S)
            better = None if self._explain is None else self._explain(returncode, bytes(child.tail))
            if better is not None:
                raise better from None
            end = f"did not {doing}: {name_end(returncode)}{quote_last(child.tail)}"
            raise self._refuse(end, child) from None

    def _refuse(self, what: str, child: Child) -> NotVerifiedError:
        return NotVerifiedError(
            f"{self._model} {self._place}: {what}",
            _find_hint(bytes(child.tail)) or f"run edge-ocr inspect {self._model} to see its version and operators",
        )


def _receive_text(child: Child, deadline: float) -> str:
    (length,) = struct.unpack("<I", child.receive(4, deadline))
    return child.receive(min(length, _MAX_TEXT_BYTES), deadline).decode(errors="replace")


def refuse_version(what: str, actual: str, expected: str) -> NotVerifiedError:
    return NotVerifiedError(
        f"{what} is of version {actual}, expected {expected}: it may silently return wrong text",
        "get the matching library with edge-ocr libs fetch, or edge-ocr libs add FILE",
    )


def _clean_reason(text: str) -> str:
    # Paddle-Lite's exceptions begin with an empty phrase and end with a line break.
    return " ".join(clean_log(text.replace("Paddle-Lite C++ Exception:", "")).split())


def quote_last(output: bytes | bytearray) -> str:
    lines = output.decode(errors="replace").splitlines()
    # Paddle-Lite describes the processor at each start.
    return quote_last_lines("\n".join(line for line in lines if "device_info.cc" not in line).encode())


def _find_hint(stderr: bytes) -> str | None:
    if re.search(rb"version `[\w.]+' not found", stderr):
        return (
            "put a cross compiler first on PATH that is as old as the target system: its C library is older than the "
            "compiler's"
        )
    if b"error while loading shared libraries" in stderr:
        return "install the package with that library on the target system"
    if b"Permission denied" in stderr:
        return "choose a folder on a file system that is not mounted noexec"
    return None
