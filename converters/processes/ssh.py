"""Folders on machines that the system's ssh reaches: addresses, connections, what they say and how they fail."""

from __future__ import annotations

import io
import ipaddress
import os
import re
import shutil
import tarfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from converters.processes.child import STDERR_TAIL_BYTES, Child
from edge_ocr.errors import ModelError, ToolchainError, UsageError

CONNECT_TIMEOUT_S = 15

SSH_FAILED = 255
"""Exit code of an ssh that failed itself."""

OUR_MARK = "edge-ocr "
"""Before each line that a script of ours says; a login shell may print lines of its own."""


# --- addresses


@dataclass(frozen=True)
class SshAddress:
    """A folder on a board."""

    user: str | None
    host: str
    port: int | None
    path: str
    """Absolute, or relative to the user's home there."""

    @property
    def by_hand(self) -> str:
        """Return the command that connects by hand."""
        return f"ssh{self.port_option} {self.login}"

    @property
    def login(self) -> str:
        """Return `user@host`, or the host alone."""
        return f"{self.user}@{self.host}" if self.user else self.host

    @property
    def port_option(self) -> str:
        """Return ` -p PORT`, or nothing."""
        return "" if self.port is None else f" -p {self.port}"


_SSH_URL = re.compile(
    r"ssh://(?:(?P<user>[^@/]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^@/:\[\]]*)(?::(?P<port>[^/]*))?(?P<path>/.*)?",
    re.DOTALL,
)
_SSH_PLACE = re.compile(r"(?:(?P<user>[^@/:]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^@/:\[\]]*)(?::(?P<path>.*))?", re.DOTALL)
_SSH_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def parse_ssh(runner: str) -> SshAddress:
    """Read `ssh://[user@]host[:port]/path`; what is missing, ssh's own configuration tells.

    In the path, `%20` and the like stand for characters.

    Raises UsageError for anything else.
    """
    hint = "qemu, or such as ssh://pi@raspberrypi.local/tmp"
    match = _SSH_URL.fullmatch(runner)
    if match is None:
        raise UsageError(f"runner {runner!r}: expected qemu or ssh://[user@]host[:port]/path", hint)
    user, host, port, path = match["user"], match["host"], match["port"], match["path"] or "/"
    if user is not None and _SSH_WORD.fullmatch(user) is None:
        raise UsageError(f"runner {runner!r}: {user!r} is no user; a password has no place here", hint)
    if not host.startswith("[") and _SSH_WORD.fullmatch(host) is None:
        raise UsageError(f"runner {runner!r}: {host!r} is no host", hint)
    if port is not None and not (re.fullmatch("[0-9]{1,5}", port) and 1 <= int(port) <= 65535):
        raise UsageError(f"runner {runner!r}: port {port!r}, expected 1 to 65535", hint)
    if re.search(r"[?#]|%(?![0-9A-Fa-f]{2})", path):
        raise UsageError(f"runner {runner!r}: ?, # and % in the path are written %3F, %23 and %25", hint)
    try:
        path = unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise UsageError(f"runner {runner!r}: the path is not UTF-8", hint) from None
    if not path.isprintable() or not path.strip("/"):
        raise UsageError(f"runner {runner!r}: expected the path of a folder, actual {path!r}", hint)
    return SshAddress(user, host.strip("[]"), None if port is None else int(port), path)


def parse_place(place: str, *, port: int | None = None, default_path: str) -> SshAddress:
    """Read `[user@]host[:dir]` as scp does; `~/` before `dir` is the same as nothing.

    The path has no `/` at its end. Without `dir` it is `default_path`.

    Raises UsageError for anything else, and where `dir` is the home, the root, ends in `.` or `..` or has a colon.
    """
    what, hint = f"--ssh {place!r}", "such as pi@raspberrypi.local, or pi@raspberrypi.local:apps/ocr"
    with suppress(ValueError):
        if ipaddress.ip_address(place.rpartition("@")[2]).version == 6:
            raise UsageError(f"{what}: expected [ ] around an address of IPv6", "such as pi@[fe80::1]:apps/ocr")
    match = _SSH_PLACE.fullmatch(place)
    if match is None or place.startswith("ssh:"):
        raise UsageError(f"{what}: expected [user@]host[:dir]", f"{hint}; --port gives the port")
    user, host, path = match["user"], match["host"], match["path"] or default_path
    if user is not None and _SSH_WORD.fullmatch(user) is None:
        raise UsageError(f"{what}: {user!r} is no user", hint)
    if not host.startswith("[") and _SSH_WORD.fullmatch(host) is None:
        raise UsageError(f"{what}: {host!r} is no host", hint)
    if port is not None and not 1 <= port <= 65535:
        raise UsageError(f"--port {port}: expected 1 to 65535")
    path = path.removeprefix("~/").rstrip("/")
    # Python and ld.so take a colon for the end of a folder's name.
    if not path.isprintable() or re.search("^~|:", path) or path.rpartition("/")[2] in ("", ".", ".."):
        raise UsageError(f"{what}: expected the name of a folder without `:` or `~`, actual {match['path']!r}", hint)
    return SshAddress(user, host.strip("[]"), port, path)


# --- connections


def make_connection(address: SshAddress) -> list[str]:
    """Return the start of a command that runs another there; its exit code is the other's, or SSH_FAILED.

    Raises ToolchainError where there is no ssh.
    """
    ssh = shutil.which("ssh")
    if ssh is None:
        raise ToolchainError("ssh is missing, which reaches the board", "apt install openssh-client")
    # BatchMode: nobody is there to type a password. A connection that breaks must not look like a slow board.
    command = [ssh, "-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_TIMEOUT_S}"]
    command += ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]
    if address.port is not None:
        command += ["-p", str(address.port)]
    if address.user is not None:
        command += ["-l", address.user]
    return [*command, "--", address.host]


def explain_ssh(address: SshAddress, stderr: bytes, said: str) -> ToolchainError:
    """Return what an ssh that ended with SSH_FAILED means; `said` is of `stderr` and ends the message."""
    by_hand = address.by_hand
    if b"REMOTE HOST IDENTIFICATION HAS CHANGED" in stderr:
        return ToolchainError(f"{address.host}: its host key is not the one that ssh knows{said}", f"see: {by_hand}")
    if b"Host key verification failed" in stderr:
        return ToolchainError(
            f"{address.host}: ssh does not know its host key{said}",
            f"connect once by hand and compare its fingerprint: {by_hand}",
        )
    if b"Permission denied (" in stderr:
        return ToolchainError(
            f"{address.host}: refuses our key{said}",
            f"ssh-copy-id{address.port_option} {address.login}; this must work unasked: {by_hand}",
        )
    if re.search(rb"resolve hostname|refused|timed out|No route|unreachable", stderr):
        return ToolchainError(f"{address.host}: cannot be reached{said}", f"does this work? {by_hand}")
    return ToolchainError(f"{address.host}: the connection failed{said}", f"does this work? {by_hand}")


def receive_facts(child: Child, last: Collection[str], deadline: float) -> dict[str, str]:
    """Return what a script of ours says, lines `edge-ocr KEY VALUE`, up to the first whose key is in `last`.

    Other lines, which a login shell said, such as a greeting, or why there is no login, join `child.tail`.
    """
    facts: dict[str, str] = {}
    while facts.keys().isdisjoint(last):
        line = child.receive_line(deadline)
        if line.startswith(OUR_MARK):
            key, _, value = line.removeprefix(OUR_MARK).partition(" ")
            facts[key] = value
        else:
            child.tail += f"{line}\n".encode()
            del child.tail[:-STDERR_TAIL_BYTES]
    return facts


# --- files


class _Sender(io.RawIOBase):
    """A file for tarfile that writes to a child."""

    def __init__(self, child: Child, deadline: float) -> None:
        self._child = child
        self._deadline = deadline
        self.has_failed = False

    def write(self, data: Any) -> int:
        # When tarfile is left by an exception, Ctrl-C for one, it still writes what it holds.
        if not self.has_failed:
            self._child.send(data, self._deadline)
        return len(data)


@contextmanager
def send_archive(child: Child, deadline: float) -> Iterator[tarfile.TarFile]:
    """Yield a tar archive whose bytes go to the stdin of `child` as files are added.

    Raises LateError.
    """
    sender = _Sender(child, deadline)
    # GNU's form is the one that every tar knows.
    with tarfile.open(fileobj=sender, mode="w|", format=tarfile.GNU_FORMAT) as archive:
        try:
            yield archive
        except BaseException:
            sender.has_failed = True
            raise


def add_file(archive: tarfile.TarFile, name: str, path: Path, mode: int) -> None:
    """Add a file of this machine under `name`.

    Raises ModelError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            member = tarfile.TarInfo(name)
            member.size = os.fstat(file.fileno()).st_size
            member.mode = mode
            archive.addfile(member, file)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
