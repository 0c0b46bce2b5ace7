"""Runs .nb models in a temporary folder on a board, over ssh."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from converters.lite.compiler import MACHINES, Arch, Machine, name_packages
from converters.processes.child import EndedError, LateError
from converters.processes.ssh import (
    CONNECT_TIMEOUT_S,
    OUR_MARK,
    SSH_FAILED,
    SshAddress,
    add_file,
    explain_ssh,
    make_connection,
    receive_facts,
    send_archive,
)
from converters.text import Report
from converters.verify.lite_process import CLOSE_TIMEOUT_S, PROGRAM, quote_last, start_child
from edge_ocr.errors import NotVerifiedError, ToolchainError

COPY_TIMEOUT_S = 900.0
REMOVE_TIMEOUT_S = 30.0


def name_sysroot(machine: Machine) -> Path:
    """Return the folder in which Debian installs the C library for `machine` on other machines."""
    return Path("/usr") / machine.triplet


class SshBoard:
    """A temporary folder on a machine that ssh reaches.

    One connection, the keeper, stays open. When it closes, even because this process was killed, the shell at the other
    end ends the programs and removes the folder.
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
        self._keeper = start_child([*self._connection, f"sh -c {shlex.quote(script)}"])
        self.place = f"on {address.host}"
        """Appears in errors."""

    def open(self) -> None:
        """Make the folder and find out how the machine runs programs for the architecture."""
        with self._watch("make a folder", 4 * CONNECT_TIMEOUT_S) as deadline:
            facts = receive_facts(self._keeper, ["probed"], deadline)
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
            with send_archive(self._keeper, deadline) as archive:
                for name, path in files.items():
                    add_file(archive, name, path, 0o700 if name == PROGRAM else 0o600)
            receive_facts(self._keeper, ["copied"], deadline)

    def make_command(self, model: str, threads: int) -> list[str]:
        """Return the command that serves a model on the board."""
        pid_file = shlex.quote(f"{model}.pid")
        # The inner shell becomes the program; the outer one stays, because ssh does not report a signal.
        inner = f"echo $$ >{pid_file}; exec {self._emulator}./{PROGRAM} {shlex.quote(model)} {threads}"
        outer = f"sh -c {shlex.quote(inner)}; s=$?; rm -f {pid_file}; [ $s -ne {SSH_FAILED} ] || s=254; exit $s"
        return [*self._connection, f"sh -c {shlex.quote(f'cd {shlex.quote(self._folder)} || exit 1; {outer}')}"]

    def explain(self, returncode: int, stderr: bytes) -> NotVerifiedError | None:
        """Return the error if ssh itself failed; None if the remote command failed."""
        if returncode != SSH_FAILED:
            return None
        error = explain_ssh(self._address, stderr, quote_last(stderr))
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
def open_board(address: SshAddress, arch: Arch, report: Report) -> Iterator[SshBoard]:
    report(f"connecting to {address.host}")
    board = SshBoard(address, arch)
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
            f'say() {{ echo "{OUR_MARK}$*"; }}',
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
