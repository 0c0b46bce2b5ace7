"""Folders on machines that ssh reaches: addresses, connections, answers, failures and file transfer."""

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
"""Exit code of ssh if ssh itself failed."""

OUR_MARK = "edge-ocr "
"""Prefix of each line that our scripts print; a login shell may print other lines."""


# --- addresses


@dataclass(frozen=True)
class SshAddress:
    """A folder on a board."""

    user: str | None
    host: str
    port: int | None
    path: str
    """Absolute, or relative to the user's home on the board."""

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
        """Return ` -p PORT`; "" without a port."""
        return "" if self.port is None else f" -p {self.port}"


_SSH_URL = re.compile(
    r"ssh://(?:(?P<user>[^@/]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^@/:\[\]]*)(?::(?P<port>[^/]*))?(?P<path>/.*)?",
    re.DOTALL,
)
_SSH_PLACE = re.compile(r"(?:(?P<user>[^@/:]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^@/:\[\]]*)(?::(?P<path>.*))?", re.DOTALL)
_SSH_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def parse_ssh(runner: str) -> SshAddress:
    """Parse `ssh://[user@]host[:port]/path`; ssh's own configuration supplies missing parts.

    The path may contain escapes such as `%20`.

    Raises UsageError for anything else.
    """
    hint = "give qemu, or an address like ssh://pi@raspberrypi.local/tmp"
    match = _SSH_URL.fullmatch(runner)
    if match is None:
        raise UsageError(f"runner {runner!r}: expected qemu or ssh://[user@]host[:port]/path", hint)
    user, host, port, path = match["user"], match["host"], match["port"], match["path"] or "/"
    if user is not None and _SSH_WORD.fullmatch(user) is None:
        raise UsageError(f"runner {runner!r}: {user!r} is not a user name (passwords are not accepted)", hint)
    if not host.startswith("[") and _SSH_WORD.fullmatch(host) is None:
        raise UsageError(f"runner {runner!r}: {host!r} is not a host name", hint)
    if port is not None and not (re.fullmatch("[0-9]{1,5}", port) and 1 <= int(port) <= 65535):
        raise UsageError(f"runner {runner!r}: port {port!r}, expected 1 to 65535", hint)
    if re.search(r"[?#]|%(?![0-9A-Fa-f]{2})", path):
        raise UsageError(f"runner {runner!r}: ?, # and % in the path must be written %3F, %23 and %25", hint)
    try:
        path = unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise UsageError(f"runner {runner!r}: the path is not UTF-8", hint) from None
    if not path.isprintable() or not path.strip("/"):
        raise UsageError(f"runner {runner!r}: expected the path of a folder, actual {path!r}", hint)
    return SshAddress(user, host.strip("[]"), None if port is None else int(port), path)


def parse_place(place: str, *, port: int | None = None, default_path: str) -> SshAddress:
    """Parse `[user@]host[:dir]` as scp does; a leading `~/` of `dir` is dropped.

    The resulting path has no trailing `/`; without `dir`, it is `default_path`.

    Raises UsageError for anything else, and if `dir` is the home or the root, ends in `.` or `..`, or contains a colon.
    """
    what, hint = f"--ssh {place!r}", "give a place like pi@raspberrypi.local or pi@raspberrypi.local:apps/ocr"
    with suppress(ValueError):
        if ipaddress.ip_address(place.rpartition("@")[2]).version == 6:
            raise UsageError(f"{what}: expected [ ] around an IPv6 address", "give a place like pi@[fe80::1]:apps/ocr")
    match = _SSH_PLACE.fullmatch(place)
    if match is None or place.startswith("ssh:"):
        raise UsageError(f"{what}: expected [user@]host[:dir]", f"{hint}; give a port with --port")
    user, host, path = match["user"], match["host"], match["path"] or default_path
    if user is not None and _SSH_WORD.fullmatch(user) is None:
        raise UsageError(f"{what}: {user!r} is not a user name", hint)
    if not host.startswith("[") and _SSH_WORD.fullmatch(host) is None:
        raise UsageError(f"{what}: {host!r} is not a host name", hint)
    if port is not None and not 1 <= port <= 65535:
        raise UsageError(f"--port {port}: expected 1 to 65535")
    path = path.removeprefix("~/").rstrip("/")
    # For Python and ld.so, a colon separates paths.
    if not path.isprintable() or re.search("^~|:", path) or path.rpartition("/")[2] in ("", ".", ".."):
        raise UsageError(f"{what}: expected the name of a folder without `:` or `~`, actual {match['path']!r}", hint)
    return SshAddress(user, host.strip("[]"), port, path)


# --- connections


def make_connection(address: SshAddress) -> list[str]:
    """Return the start of a command that runs another one there; its exit code is that of the other, or SSH_FAILED.

    Raises ToolchainError if there is no ssh.
    """
    ssh = shutil.which("ssh")
    if ssh is None:
        raise ToolchainError("ssh is missing", "run apt install openssh-client")
    # BatchMode: nobody is there to type a password. ServerAlive: a broken connection must not look like a slow board.
    command = [ssh, "-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_TIMEOUT_S}"]
    command += ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]
    if address.port is not None:
        command += ["-p", str(address.port)]
    if address.user is not None:
        command += ["-l", address.user]
    return [*command, "--", address.host]


def explain_ssh(address: SshAddress, stderr: bytes, said: str) -> ToolchainError:
    """Return the error for an ssh that ended with SSH_FAILED; `said`, a part of `stderr`, ends the message."""
    by_hand = address.by_hand
    if b"REMOTE HOST IDENTIFICATION HAS CHANGED" in stderr:
        return ToolchainError(f"{address.host}: its host key has changed{said}", f"find out why, and run {by_hand}")
    if b"Host key verification failed" in stderr:
        return ToolchainError(
            f"{address.host}: ssh does not know its host key{said}",
            f"connect once by hand and compare the fingerprint: {by_hand}",
        )
    if b"Permission denied (" in stderr:
        return ToolchainError(
            f"{address.host}: refuses your ssh key{said}",
            f"run ssh-copy-id{address.port_option} {address.login}; this must work without a password: {by_hand}",
        )
    if re.search(rb"resolve hostname|refused|timed out|No route|unreachable", stderr):
        return ToolchainError(f"{address.host}: cannot be reached{said}", f"check that this works: {by_hand}")
    return ToolchainError(f"{address.host}: the connection failed{said}", f"check that this works: {by_hand}")


def receive_facts(child: Child, last: Collection[str], deadline: float) -> dict[str, str]:
    """Return the values that our script prints as lines `edge-ocr KEY VALUE`, up to the first key in `last`.

    Other lines, such as a login shell's greeting or the reason for a refused login, are added to `child.tail`.
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
    """A file object for tarfile that writes to a child."""

    def __init__(self, child: Child, deadline: float) -> None:
        self._child = child
        self._deadline = deadline
        self.has_failed = False

    def write(self, data: Any) -> int:
        # After an exception such as Ctrl-C, tarfile still writes its buffer.
        if not self.has_failed:
            self._child.send(data, self._deadline)
        return len(data)


@contextmanager
def send_archive(child: Child, deadline: float) -> Iterator[tarfile.TarFile]:
    """Yield a tar archive whose bytes are sent to the stdin of `child` as files are added.

    Raises LateError.
    """
    sender = _Sender(child, deadline)
    # Every tar can read GNU's format.
    with tarfile.open(fileobj=sender, mode="w|", format=tarfile.GNU_FORMAT) as archive:
        try:
            yield archive
        except BaseException:
            sender.has_failed = True
            raise


def add_file(archive: tarfile.TarFile, name: str, path: Path, mode: int) -> None:
    """Add a file of this machine under `name`.

    Raises ModelError if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            member = tarfile.TarInfo(name)
            member.size = os.fstat(file.fileno()).st_size
            member.mode = mode
            archive.addfile(member, file)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
