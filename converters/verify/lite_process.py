"""Runs .nb models on a real Paddle-Lite library for ARM: under qemu on this machine, or on a board over ssh.

A small C++ program of ours (`edge_ocr/core/engines/lite_shim/lite_serve.cpp`, whose head describes the protocol) is
built against the library; one process of it serves one model through its stdin and stdout. What Paddle-Lite does to
its process, an abort included, thus becomes an error that says what it printed.
"""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from converters.lite.compiler import COMPILE_TIMEOUT_S, MACHINES, SOURCES, Arch, Machine, find_compiler, name_packages
from converters.lite.libraries.elf import inspect_library
from converters.processes.child import (
    Child,
    EndedError,
    LateError,
    make_environment,
    name_end,
    run_child,
)
from converters.processes.ssh import (
    CONNECT_TIMEOUT_S,
    OUR_MARK,
    SSH_FAILED,
    SshAddress,
    add_file,
    explain_ssh,
    make_connection,
    parse_ssh,
    receive_facts,
    send_archive,
)
from converters.text import Report, list_last_lines
from edge_ocr.errors import ModelError, NotVerifiedError, ToolchainError, UsageError

_Name = TypeVar("_Name", bound=str)

START_TIMEOUT_S = 300.0
"""For loading a model; emulated, that is seconds on an idle machine."""
RUN_TIMEOUT_S = 1800.0
"""For one run; the detector at 960 × 960 takes half a minute on an idle machine."""
COPY_TIMEOUT_S = 900.0
CLOSE_TIMEOUT_S = 5.0
REMOVE_TIMEOUT_S = 30.0

PROGRAM = "edge-ocr-lite-serve"

# As in edge_ocr_lite.h and lite_serve.cpp.
MAX_RANK = 8
MAX_ELEMENTS = 2**28
MAX_THREADS = 256
_MAGIC = b"EOCRLITE"
_PROTOCOL = 1
_MAX_TEXT_BYTES = 2**16


# --- the program


def build_program(arch: Arch, library: Path, include_dir: Path, folder: Path) -> Path:
    """Build the program that serves a model on `library`, as `folder`/edge-ocr-lite-serve, and return its path.

    It looks for the library, under its soname, beside itself. `include_dir` has the library's own paddle_api.h.

    Raises NotVerifiedError, with the compiler's last lines, where it does not build.
    """
    compiler = find_compiler(arch)
    program = folder / PROGRAM
    # The first error tells what is wrong; those after it follow from it.
    command = [compiler, "-std=c++11", "-O2", "-Wfatal-errors", "-I", str(SOURCES), "-I", str(include_dir)]
    command += [str(SOURCES / "lite_serve.cpp"), str(SOURCES / "edge_ocr_lite.cpp"), "-o", str(program)]
    # By name, not by path: what has no soname of its own is then known by its file name alone. What the library itself
    # needs is the loader's business, whose words say more than the linker's.
    command += [f"-L{library.parent}", f"-l:{library.name}", "-Wl,-rpath,$ORIGIN", "-Wl,--allow-shlib-undefined"]
    try:
        ended = run_child(command, COMPILE_TIMEOUT_S, env=make_environment())
    except OSError as error:
        raise NotVerifiedError(f"{compiler} does not start: {error.strerror}", name_packages(MACHINES[arch])) from None
    except subprocess.TimeoutExpired:
        raise NotVerifiedError(f"{compiler} did not end within {COMPILE_TIMEOUT_S:g} s") from None
    if ended.returncode != 0:
        raise NotVerifiedError(
            f"the program for {library} does not build: {name_end(ended.returncode)}{_quote_last(ended.stderr)}",
            "headers and library must be of one release; with GCC's own standard library, as for `armlinux`",
        )
    return program


def _find_emulator(arch: Arch) -> list[str]:
    """Return the start of a command that runs programs for `arch` on this machine."""
    machine = MACHINES[arch]
    qemu = shutil.which(f"{machine.qemu}-static") or shutil.which(machine.qemu)
    if qemu is None:
        raise NotVerifiedError(
            f"{machine.qemu}-static is missing, which runs programs for {arch}", name_packages(machine)
        )
    return [qemu, "-L", str(_find_sysroot(arch))]


def _find_sysroot(arch: Arch) -> Path:
    machine = MACHINES[arch]
    candidates = [_debian_sysroot(machine)]
    with suppress(OSError, subprocess.TimeoutExpired):
        said = run_child([find_compiler(arch), "-print-sysroot"], 60, env=make_environment())
        # Debian's say "/", where the loader would be that of this machine.
        candidates += [Path(line) for line in said.stdout.decode(errors="replace").splitlines() if line.strip("/ ")]
    for folder in candidates:
        if Path(f"{folder}{machine.loader}").exists():
            return folder
    looked = ", ".join(f"{folder}{machine.loader}" for folder in candidates)
    raise NotVerifiedError(f"no C library for {arch}: there is no {looked}", f"apt install {machine.libc_package}")


def _debian_sysroot(machine: Machine) -> Path:
    return Path("/usr") / machine.triplet


# --- one process


def _start_child(command: Sequence[str], cwd: Path | None = None) -> Child:
    try:
        return Child(command, cwd)
    except OSError as error:
        raise NotVerifiedError(f"{command[0]} does not start: {error.strerror}") from None


Explain = Callable[[int, bytes], NotVerifiedError | None]
"""Given exit code and stderr of a process that ended too early, return a better error than the general one, or None."""


def _explain_nothing(returncode: int, stderr: bytes) -> NotVerifiedError | None:
    return None


class LiteProcess:
    """An engine: one model on a real Paddle-Lite library, in a process of its own.

    The process starts with the first run, and anew with the run after a failed one. Not for several threads at once.
    As a context manager it ends the process when left.
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
        explain: Explain = _explain_nothing,
    ) -> None:
        """Prepare for `command`, which serves `model`; nothing starts yet.

        `place`, such as `under qemu-aarch64`, and `model` are for errors. `expected_version` is what the library must
        say of itself, such as `v2.13-rc`.
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
        """Return the id of the process on this machine; None where none is running."""
        return None if self._child is None else self._child.pid

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one NCHW batch; the result is the caller's own.

        Raises NotVerifiedError where the process does not start, is of another version than expected, refuses the
        input, dies or is late; the message has what it printed last.
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
            # Also on Ctrl-C: in the middle of a run there is nothing to say to it.
            self._kill()
            raise

    def close(self) -> None:
        """End the process; it is given a moment."""
        child, self._child = self._child, None
        if child is not None:
            child.end(CLOSE_TIMEOUT_S)

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _start(self) -> Child:
        child = self._child = _start_child(self._command, self._cwd)
        with self._watch(child, self._start_timeout_s, "load") as deadline:
            # In two steps: a foreign text, such as a greeting of a login shell, may be shorter than a hello.
            magic = child.receive(len(_MAGIC), deadline)
            if magic != _MAGIC:
                raise NotVerifiedError(
                    f"{self._model} {self._place}: expected the greeting of {PROGRAM}, actual {bytes(magic)!r}",
                    "a login shell must print nothing when a program is run over ssh",
                )
            protocol, status = struct.unpack("<II", child.receive(8, deadline))
            if protocol != _PROTOCOL:
                raise NotVerifiedError(f"{PROGRAM} {self._place}: protocol {protocol}, expected {_PROTOCOL}")
            text = _receive_text(child, deadline)
            if status != 0:
                raise self._refuse(_clean_reason(text), child)
        if text != self._expected_version:
            raise _refuse_version(f"Paddle-Lite {self._place}", text, self._expected_version)
        return child

    def _receive_array(self, child: Child, deadline: float) -> NDArray[np.float32]:
        (rank,) = struct.unpack("<I", child.receive(4, deadline))
        if not 1 <= rank <= MAX_RANK:
            raise NotVerifiedError(f"{self._model} {self._place}: gave {rank} dims, expected 1 to {MAX_RANK}")
        dims = struct.unpack(f"<{rank}q", child.receive(8 * rank, deadline))
        count = 1
        for dim in dims:
            count *= dim
            if dim < 1 or count > MAX_ELEMENTS:
                raise NotVerifiedError(f"{self._model} {self._place}: gave an output of {dims}, too large or empty")
        return np.frombuffer(child.receive(4 * count, deadline), dtype="<f4").reshape(dims)

    @contextmanager
    def _watch(self, child: Child, timeout_s: float, doing: Literal["load", "run"]) -> Iterator[float]:
        """Yield a deadline; the ways in which a process can fail to answer become errors."""
        try:
            yield time.monotonic() + timeout_s
        except LateError:
            raise self._refuse(f"did not {doing} within {timeout_s:g} s{_quote_last(child.tail)}", child) from None
        except EndedError:
            returncode = child.end(CLOSE_TIMEOUT_S)
            better = self._explain(returncode, bytes(child.tail))
            if better is not None:
                raise better from None
            end = f"did not {doing}: {name_end(returncode)}{_quote_last(child.tail)}"
            raise self._refuse(end, child) from None

    def _refuse(self, what: str, child: Child) -> NotVerifiedError:
        return NotVerifiedError(
            f"{self._model} {self._place}: {what}",
            _find_hint(bytes(child.tail)) or f"edge-ocr inspect {self._model} tells its version and operators",
        )


def _receive_text(child: Child, deadline: float) -> str:
    (length,) = struct.unpack("<I", child.receive(4, deadline))
    return child.receive(min(length, _MAX_TEXT_BYTES), deadline).decode(errors="replace")


def _refuse_version(what: str, actual: str, expected: str) -> NotVerifiedError:
    return NotVerifiedError(
        f"{what} is of version {actual}, expected {expected}: it may read the models wrong without saying so",
        "edge-ocr libs fetch, or edge-ocr libs add FILE, gets the library of that version",
    )


# Before each line of Paddle-Lite's log: "[F 11/22 12:30:26.284 lite/core/program.cc RuntimeProgram:316] ", or with
# the number behind a long path. The file's name tells the operator.
_LOG_PREFIX = re.compile(r"\[[IWEF] [^\]]*?([^\s/\]]+\.\w+)(:\d+)? (\w+)(:\d+)?\] ")


def _clean_log(text: str) -> str:
    return _LOG_PREFIX.sub(r"\1\2\4 \3: ", text)


def _clean_reason(text: str) -> str:
    # Paddle-Lite's exceptions begin with a line that says nothing, and end with a line break.
    return " ".join(_clean_log(text.replace("Paddle-Lite C++ Exception:", "")).split())


def _quote_last(output: bytes | bytearray) -> str:
    lines = output.decode(errors="replace").splitlines()
    # At each start, Paddle-Lite tells all about the processor.
    cleaned = "\n".join(_clean_log(line) for line in lines if "device_info.cc" not in line)
    last = "".join(f"\n  {line}" for line in list_last_lines(cleaned.encode()))
    return last and f"; it printed last:{last}"


def _find_hint(stderr: bytes) -> str | None:
    if re.search(rb"version `[\w.]+' not found", stderr):
        return (
            "the system that it ran on is older than the compiler here: put a cross compiler as old as that system "
            "first on PATH"
        )
    if b"error while loading shared libraries" in stderr:
        return "install the package that has that library on the system that it ran on"
    if b"Permission denied" in stderr:
        return "name a folder on a file system that is not mounted noexec"
    return None


# --- where it runs


@contextmanager
def open_lite_engines(
    runner: str,
    models: Mapping[_Name, Path],
    *,
    library: Path,
    include_dir: Path,
    arch: Arch,
    expected_version: str,
    threads: int = 2,
    start_timeout_s: float = START_TIMEOUT_S,
    run_timeout_s: float = RUN_TIMEOUT_S,
    report: Report = lambda step: None,
) -> Iterator[Mapping[_Name, LiteProcess]]:
    """Yield an engine for each of `models`, .nb files by name, that runs on `library`.

    `runner` is `qemu`, for this machine, or `ssh://[user@]host[:port]/path`: there, everything lies in a new folder in
    `path` that is removed at the end, whatever the end is. `library` is a libpaddle_light_api_shared.so for `arch` with
    its headers in `include_dir`; `expected_version` is the models'. `report` is told each step, and of a folder that
    could not be removed.

    Raises UsageError for a runner or number of threads that makes no sense, ModelError for files that are missing or
    damaged, and NotVerifiedError for whatever else keeps the models from being run; so do the engines.
    """
    address = None if runner == "qemu" else parse_ssh(runner)
    if not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"{threads} threads, expected 1 to {MAX_THREADS}")
    for model in models.values():
        if not model.is_file():
            raise ModelError(f"{model}: there is no such file")
    needed_name = _check_library(library, arch, expected_version)
    with ExitStack() as stack:
        # What can fail comes before what takes long.
        emulator = _find_emulator(arch) if address is None else []
        board = None if address is None else stack.enter_context(_open_board(address, arch, report))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-ocr-")))
        report(f"building {PROGRAM} for {arch}")
        program = build_program(arch, library.resolve(), include_dir, folder)
        if board is None:
            (folder / needed_name).symlink_to(library.resolve())
            place, explain = f"under {Path(emulator[0]).name}", _explain_nothing
            commands = {
                name: [*emulator, str(program), str(model.resolve()), str(threads)] for name, model in models.items()
            }
        else:
            remote = {name: f"{index}.nb" for index, name in enumerate(models)}
            copies = {remote[name]: model for name, model in models.items()}
            board.copy({PROGRAM: program, needed_name: library, **copies}, report)
            place, explain = board.place, board.explain
            commands = {name: board.make_command(remote[name], threads) for name in models}
        engines = {
            name: LiteProcess(
                commands[name],
                model,
                place=place,
                expected_version=expected_version,
                cwd=folder,
                start_timeout_s=start_timeout_s,
                run_timeout_s=run_timeout_s,
                explain=explain,
            )
            for name, model in models.items()
        }
        for engine in engines.values():
            stack.enter_context(engine)
        yield MappingProxyType(engines)


def _check_library(library: Path, arch: Arch, expected_version: str) -> str:
    """Return the name under which a program that was linked with the library looks for it."""
    info = inspect_library(library)
    if info.arch != arch or info.system == "android" or info.kind != "cxx":
        raise NotVerifiedError(
            f"{library}: is a {info.kind} library for {info.system or 'an unknown system'} on {info.arch}, expected a "
            f"cxx library for armlinux on {arch}"
        )
    if info.version is not None and info.version != expected_version:
        raise _refuse_version(str(library), info.version, expected_version)
    name = info.soname or library.name
    # It becomes the name of a file beside the program.
    if not re.fullmatch(r"[\w.+-]+\.so[\w.]*", name):
        raise NotVerifiedError(f"{library}: has the soname {name!r}, expected the name of a library")
    return name


# --- over ssh


class _Board:
    """A folder of ours on a machine that ssh reaches.

    One connection, the keeper, stays open: when it closes, be it that we were killed, the shell at its other end ends
    the programs and removes the folder.
    """

    def __init__(self, address: SshAddress, arch: Arch) -> None:
        self._address = address
        self._arch = arch
        self._machine = MACHINES[arch]
        try:
            self._connection = make_connection(address)
        except ToolchainError as error:
            raise NotVerifiedError(error.message, error.hint) from None
        self._folder = f"{address.path.rstrip('/')}/edge-ocr-verify-{secrets.token_hex(8)}"
        self._emulator = ""
        self._made = False
        script = _write_keeper(self._machine, self._folder)
        self._keeper = _start_child([*self._connection, f"sh -c {shlex.quote(script)}"])
        self.place = f"on {address.host}"
        """For errors."""

    def open(self) -> None:
        """Make the folder, and find out how the machine runs our programs."""
        with self._watch("make a folder", 4 * CONNECT_TIMEOUT_S) as deadline:
            facts = receive_facts(self._keeper, ["probed"], deadline)
        self._made = True
        actual = facts.get("machine", "unknown")
        sysroot = _debian_sysroot(self._machine)
        if actual in self._machine.kernels and "loader" in facts:
            return
        if "qemu" in facts and "sysroot" in facts:
            self._emulator = f"{shlex.quote(facts['qemu'])} -L {sysroot} "
            self.place += f" under {self._machine.qemu}"
        elif actual in self._machine.kernels:
            raise NotVerifiedError(
                f"{self._address.host}: is {actual} without {self._machine.loader}, so programs for {self._arch} do "
                "not start there",
                f"its system is for another ABI than {self._arch}: export for the one that it has",
            )
        else:
            raise NotVerifiedError(
                f"{self._address.host}: is {actual}, expected {' or '.join(self._machine.kernels)} for {self._arch}, "
                f"or a machine with {self._machine.qemu}-static and {sysroot}",
                f"on that machine, with Debian or Ubuntu: {name_packages(self._machine)}",
            )

    def copy(self, files: Mapping[str, Path], report: Report) -> None:
        """Copy `files`, by their names there."""
        size_bytes = sum(path.stat().st_size for path in files.values())
        report(f"copying {size_bytes / 1e6:.1f} MB to {self._address.host}")
        with self._watch("copy the files", COPY_TIMEOUT_S) as deadline:
            with send_archive(self._keeper, deadline) as archive:
                for name, path in files.items():
                    add_file(archive, name, path, 0o700 if name == PROGRAM else 0o600)
            receive_facts(self._keeper, ["copied"], deadline)

    def make_command(self, model: str, threads: int) -> list[str]:
        """Return the command that serves a model there."""
        pid_file = shlex.quote(f"{model}.pid")
        # The inner shell becomes the program; the outer one stays, as ssh itself does not tell a signal.
        inner = f"echo $$ >{pid_file}; exec {self._emulator}./{PROGRAM} {shlex.quote(model)} {threads}"
        outer = f"sh -c {shlex.quote(inner)}; s=$?; rm -f {pid_file}; [ $s -ne {SSH_FAILED} ] || s=254; exit $s"
        return [*self._connection, f"sh -c {shlex.quote(f'cd {shlex.quote(self._folder)} || exit 1; {outer}')}"]

    def explain(self, returncode: int, stderr: bytes) -> NotVerifiedError | None:
        """Return the error for an ssh that failed itself; None where the command at its other end did."""
        if returncode != SSH_FAILED:
            return None
        error = explain_ssh(self._address, stderr, _quote_last(stderr))
        return NotVerifiedError(error.message, error.hint)

    def close(self, report: Report) -> None:
        """Remove the folder."""
        returncode = self._keeper.end(REMOVE_TIMEOUT_S)
        if self._made and returncode not in (0, _NOT_FILLED):
            said = _quote_last(self._keeper.tail)
            report(f"could not make sure that {self._folder} on {self._address.host} is gone{said}")

    @contextmanager
    def _watch(self, doing: str, timeout_s: float) -> Iterator[float]:
        what = f"{self._address.host}: could not {doing} in {self._address.path}"
        try:
            yield time.monotonic() + timeout_s
        except LateError:
            raise NotVerifiedError(f"{what} within {timeout_s:g} s{_quote_last(self._keeper.tail)}") from None
        except EndedError:
            returncode = self._keeper.end(CLOSE_TIMEOUT_S)
            better = self.explain(returncode, bytes(self._keeper.tail))
            raise better or NotVerifiedError(
                f"{what}{_quote_last(self._keeper.tail)}",
                "name a folder where you may write and programs may run, with room for library and models",
            ) from None


@contextmanager
def _open_board(address: SshAddress, arch: Arch, report: Report) -> Iterator[_Board]:
    report(f"connecting to {address.host}")
    board = _Board(address, arch)
    try:
        board.open()
        yield board
    finally:
        board.close(report)


# Exit codes of the keeper that the programs it starts do not have.
_NOT_MADE, _NOT_FILLED = 65, 66


def _write_keeper(machine: Machine, folder: str) -> str:
    quoted = shlex.quote(folder)
    end_programs = 'for f in "$d"/*.pid; do [ -f "$f" ] && kill -9 "$(cat "$f")"; done'
    remove = f'cd /; {end_programs}; rm -rf "$d" && [ ! -e "$d" ] || exit 1'
    find_qemu = f'for q in {machine.qemu}-static {machine.qemu}; do p=$(command -v $q) && say qemu "$p" && break; done'
    return "; ".join(
        (
            "umask 077",
            f"d={quoted}",
            f'say() {{ echo "{OUR_MARK}$*"; }}',
            f'mkdir "$d" || exit {_NOT_MADE}',
            f"trap {shlex.quote(remove)} EXIT",
            'trap "exit 1" HUP INT TERM',
            "say machine $(uname -m)",
            f"[ -e {machine.loader} ] && say loader yes",
            find_qemu,
            f"[ -e {_debian_sysroot(machine)}{machine.loader} ] && say sysroot yes",
            "say probed",
            # -m: a board may have no clock to compare times with.
            f'tar -C "$d" -xmf - || exit {_NOT_FILLED}',
            "say copied",
            "cat >/dev/null",
        )
    )
