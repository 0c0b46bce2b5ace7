"""Runs .nb models on a real Paddle-Lite library for ARM: under qemu on this machine, or on a board over ssh."""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from converters.lite.compiler import (
    MACHINES,
    SOURCES,
    Arch,
    Machine,
    build_program,
    find_sysroot,
    name_packages,
    name_sysroot,
)
from converters.lite.libraries.elf import inspect_library
from converters.processes import ssh
from converters.processes.child import EndedError, LateError
from converters.text import Report
from converters.verify.lite_process import (
    CLOSE_TIMEOUT_S,
    PROGRAM,
    RUN_TIMEOUT_S,
    START_TIMEOUT_S,
    LiteProcess,
    quote_last,
    refuse_version,
    start_child,
)
from edge_ocr.core.lite_ocr import MAX_THREADS
from edge_ocr.errors import ModelError, NotVerifiedError, ToolchainError, UsageError

_Name = TypeVar("_Name", bound=str)

COPY_TIMEOUT_S = 900.0
REMOVE_TIMEOUT_S = 30.0


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

    `runner` is `qemu` (this machine) or `ssh://[user@]host[:port]/path`, which uses a new folder in `path` and always
    removes it at the end. `library` is a libpaddle_light_api_shared.so for `arch`, with its headers in `include_dir`;
    `expected_version` is that of the models. `report` receives each step as text, and a warning if the folder could not
    be removed.

    Raises UsageError if the runner or the number of threads is invalid, ModelError if a file is missing or damaged, and
    NotVerifiedError if the models cannot run for any other reason; the engines raise it, too.
    """
    address = None if runner == "qemu" else ssh.parse_ssh(runner)
    if not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"{threads} threads, expected 1 to {MAX_THREADS}")
    for model in models.values():
        if not model.is_file():
            raise ModelError(f"{model}: no such file")
    needed_name = check_library(library, arch, expected_version)
    with ExitStack() as stack:
        # Steps that often fail come before steps that take long.
        emulator = _find_emulator(arch) if address is None else []
        board = None if address is None else stack.enter_context(_open_board(address, arch, report))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-ocr-")))
        report(f"building {PROGRAM} for {arch}")
        program = folder / PROGRAM
        build_program(arch, library.resolve(), include_dir, program, SOURCES / "lite_serve.cpp")
        if board is None:
            (folder / needed_name).symlink_to(library.resolve())
            place, explain = f"under {Path(emulator[0]).name}", None
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


def check_library(library: Path, arch: Arch, expected_version: str) -> str:
    """Return the name under which a program that is linked with the library looks it up.

    Raises NotVerifiedError unless it is a C++ library for boards on `arch`, of `expected_version` if it says which.
    """
    info = inspect_library(library)
    if info.arch != arch or info.system == "android" or info.kind != "cxx":
        raise NotVerifiedError(
            f"{library}: is a {info.kind} library for {info.system or 'an unknown system'} on {info.arch}, expected a "
            f"cxx library for armlinux on {arch}"
        )
    if info.version is not None and info.version != expected_version:
        raise refuse_version(str(library), info.version, expected_version)
    name = info.soname or library.name
    # It becomes the name of a file next to the program.
    if not re.fullmatch(r"[\w.+-]+\.so[\w.]*", name):
        raise NotVerifiedError(f"{library}: has the soname {name!r}, expected the name of a library")
    return name


def _find_emulator(arch: Arch) -> list[str]:
    """Return the command prefix that runs programs for `arch` on this machine."""
    machine = MACHINES[arch]
    qemu = shutil.which(f"{machine.qemu}-static") or shutil.which(machine.qemu)
    if qemu is None:
        raise NotVerifiedError(f"{machine.qemu}-static is missing: it runs programs for {arch}", name_packages(machine))
    return [qemu, "-L", str(find_sysroot(arch))]


# --- over ssh


class _Board:
    """A temporary folder on a machine that ssh reaches.

    One connection, the keeper, stays open. When it closes, even because this process was killed, the shell at the other
    end ends the programs and removes the folder.
    """

    def __init__(self, address: ssh.SshAddress, arch: Arch) -> None:
        self._address = address
        self._arch = arch
        self._machine = MACHINES[arch]
        try:
            self._connection = ssh.make_connection(address)
        except ToolchainError as error:
            raise NotVerifiedError(error.message, error.hint) from None
        self._folder = f"{address.path.rstrip('/')}/edge-ocr-verify-{secrets.token_hex(8)}"
        self._emulator = ""
        self._made = False
        script = _write_keeper(self._machine, self._folder)
        self._keeper = start_child([*self._connection, f"sh -c {shlex.quote(script)}"])
        self.place = f"on {address.host}"
        """Appears in errors."""

    def open(self) -> None:
        """Make the folder and find out how the machine runs programs for the architecture."""
        with self._watch("make a folder", 4 * ssh.CONNECT_TIMEOUT_S) as deadline:
            facts = ssh.receive_facts(self._keeper, ["probed"], deadline)
        self._made = True
        actual = facts.get("machine", "unknown")
        sysroot = name_sysroot(self._machine)
        if actual in self._machine.kernels and "loader" in facts:
            return
        if "qemu" in facts and "sysroot" in facts:
            self._emulator = f"{shlex.quote(facts['qemu'])} -L {sysroot} "
            self.place += f" under {self._machine.qemu}"
        elif actual in self._machine.kernels:
            raise NotVerifiedError(
                f"{self._address.host}: is {actual} without {self._machine.loader}, so it cannot start programs for "
                f"{self._arch}",
                f"export for the ABI of its system, which is another ABI than {self._arch}",
            )
        else:
            raise NotVerifiedError(
                f"{self._address.host}: is {actual}, expected {' or '.join(self._machine.kernels)} for {self._arch}, "
                f"or a machine with {self._machine.qemu}-static and {sysroot}",
                f"on that machine (Debian or Ubuntu): {name_packages(self._machine)}",
            )

    def copy(self, files: Mapping[str, Path], report: Report) -> None:
        """Copy `files`, keyed by their names on the board."""
        size_bytes = sum(path.stat().st_size for path in files.values())
        report(f"copying {size_bytes / 1e6:.1f} MB to {self._address.host}")
        with self._watch("copy the files", COPY_TIMEOUT_S) as deadline:
            with ssh.send_archive(self._keeper, deadline) as archive:
                for name, path in files.items():
                    ssh.add_file(archive, name, path, 0o700 if name == PROGRAM else 0o600)
            ssh.receive_facts(self._keeper, ["copied"], deadline)

    def make_command(self, model: str, threads: int) -> list[str]:
        """Return the command that serves a model on the board."""
        pid_file = shlex.quote(f"{model}.pid")
        # The inner shell becomes the program; the outer one stays, because ssh does not report a signal.
        inner = f"echo $$ >{pid_file}; exec {self._emulator}./{PROGRAM} {shlex.quote(model)} {threads}"
        outer = f"sh -c {shlex.quote(inner)}; s=$?; rm -f {pid_file}; [ $s -ne {ssh.SSH_FAILED} ] || s=254; exit $s"
        return [*self._connection, f"sh -c {shlex.quote(f'cd {shlex.quote(self._folder)} || exit 1; {outer}')}"]

    def explain(self, returncode: int, stderr: bytes) -> NotVerifiedError | None:
        """Return the error if ssh itself failed; None if the remote command failed."""
        if returncode != ssh.SSH_FAILED:
            return None
        error = ssh.explain_ssh(self._address, stderr, quote_last(stderr))
        return NotVerifiedError(error.message, error.hint)

    def close(self, report: Report) -> None:
        """Remove the folder."""
        returncode = self._keeper.end(REMOVE_TIMEOUT_S)
        if self._made and returncode not in (0, _NOT_FILLED):
            said = quote_last(self._keeper.tail)
            report(f"WARNING: could not remove {self._folder} on {self._address.host}{said}")

    @contextmanager
    def _watch(self, doing: str, timeout_s: float) -> Iterator[float]:
        what = f"{self._address.host}: could not {doing} in {self._address.path}"
        try:
            yield time.monotonic() + timeout_s
        except LateError:
            raise NotVerifiedError(f"{what} within {timeout_s:g} s{quote_last(self._keeper.tail)}") from None
        except EndedError:
            returncode = self._keeper.end(CLOSE_TIMEOUT_S)
            better = self.explain(returncode, bytes(self._keeper.tail))
            raise better or NotVerifiedError(
                f"{what}{quote_last(self._keeper.tail)}",
                "choose a writable folder in which programs may run, with room for library and models",
            ) from None


@contextmanager
def _open_board(address: ssh.SshAddress, arch: Arch, report: Report) -> Iterator[_Board]:
    report(f"connecting to {address.host}")
    board = _Board(address, arch)
    try:
        board.open()
        yield board
    finally:
        board.close(report)


# Exit codes of the keeper; the programs that it starts use others.
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
            f'say() {{ echo "{ssh.OUR_MARK}$*"; }}',
            f'mkdir "$d" || exit {_NOT_MADE}',
            f"trap {shlex.quote(remove)} EXIT",
            'trap "exit 1" HUP INT TERM',
            "say machine $(uname -m)",
            f"[ -e {machine.loader} ] && say loader yes",
            find_qemu,
            f"[ -e {name_sysroot(machine)}{machine.loader} ] && say sysroot yes",
            "say probed",
            # -m: a board may have no clock to compare file times with.
            f'tar -C "$d" -xmf - || exit {_NOT_FILLED}',
            "say copied",
            "cat >/dev/null",
        )
    )
