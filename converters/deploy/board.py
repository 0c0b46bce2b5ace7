"""The board's side of a deployment: a new folder next to the bundle's place, and the commands run there over ssh."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from converters.bundle import ownership
from converters.bundle.writer import DROPPED, OURS
from converters.processes.child import Child, EndedError, LateError, name_end
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
from converters.text import Report, clean_text, quote_last_line
from edge_ocr.core.bundle import MANIFEST, Machine, name_abi
from edge_ocr.errors import (
    ConfigError,
    ConversionError,
    EdgeOcrError,
    InputError,
    ModelError,
    NotVerifiedError,
    ParityError,
    ToolchainError,
    UsageError,
)

COPY_TIMEOUT_S = 1800.0
RUN_TIMEOUT_S = 3600.0
"""For the installer, where pip may download, and for measuring."""
SWITCH_TIMEOUT_S = 600.0
"""A slow SD card may have a lot to write first."""
CLOSE_TIMEOUT_S = 5.0
REMOVE_TIMEOUT_S = 60.0

_KEEPER = Path(__file__).with_name("keeper.sh")
_OWNERSHIP = Path(ownership.__file__)
_PROGRAMS = ("edge-ocr-lite", "install.sh", "uninstall.sh")
_MAX_OUTPUT_BYTES = 2**20
_MAX_LINE = 2000

# Our commands on the board use the same exit codes.
_ERRORS: Mapping[int, type[EdgeOcrError]] = MappingProxyType(
    {
        error.exit_code: error
        for error in (
            UsageError,
            ConfigError,
            InputError,
            ModelError,
            ToolchainError,
            ConversionError,
            ParityError,
            NotVerifiedError,
        )
    }
)

_BEGINS = f"{OUR_MARK}begins"
# Runs a command in a folder there. The file tells the keeper what to end. 255 would look like a failure of ssh itself.
_JOB = f"""\
cd "$1" || exit 1
shift
read -r _ _ _ _ group _ </proc/$$/stat
echo "$group" >.deploy-job || exit 1
echo "{_BEGINS}"
echo "{_BEGINS}" >&2
"$@"
status=$?
rm -f .deploy-job
[ $status -ne {SSH_FAILED} ] || status=254
exit $status"""


class Board:
    """The place of a bundle on a machine that ssh reaches, and a new folder next to it.

    One connection, the keeper, stays open. When it closes, it ends what we run there and removes the new folder.
    """

    def __init__(self, address: SshAddress, python: str, report: Report) -> None:
        """Connect; `python` is the name or path of the board's Python.

        Raises ToolchainError if this machine has no ssh.
        """
        self._address = address
        self.host = address.host
        self.python = python
        """Name or path on the board."""
        self._report = report
        self._connection = make_connection(address)
        self._token = secrets.token_hex(4)
        self._made = False
        self._free_bytes: int | None = None
        self._needed_bytes = 0
        self.place = address.path
        """Absolute and with links resolved once the board is open."""
        self.machine = ""
        """Output of `uname -m`."""
        self.facts: Machine | None = None
        """Facts about its Python; None if it does not report them."""
        self.python_version = ""
        """Empty if there is no such Python."""
        self.replaces = False
        """Whether an existing bundle will be replaced."""
        script = _KEEPER.read_text(encoding="utf-8")
        self._keeper = self._start(script, "keeper", address.path, self._token, python)

    @property
    def _new(self) -> str:
        return f"{self.place}.new-{self._token}"

    def open(self, needed_bytes: int) -> None:
        """Make the new folder, and check that the bundle fits.

        Raises ToolchainError if the board cannot be reached or lacks tar or Python; UsageError if the place holds
        something else than a bundle, cannot be written, or has less than `needed_bytes` free.
        """
        self._needed_bytes = needed_bytes
        with self._watch("make a folder", 4 * CONNECT_TIMEOUT_S) as deadline:
            facts = self._ask("ready", deadline)
        self._made = True
        self.machine, self.python_version = (clean_text(facts.get(key, "")) for key in ("machine", "python"))
        self.facts = _read_facts(facts.get("facts", ""))
        self.replaces = "replaces" in facts
        # In blocks of 1024 bytes: total, used, free, then the share in use. The file system's name may contain spaces.
        match = re.search(r" (\d+) +\d+% ", facts.get("free", ""))
        room = "free space unknown"
        if match is not None:
            self._free_bytes = int(match[1]) * 1024
            room = f"{self._free_bytes / 1e6:.0f} MB free"
        self._report(f"{self._address.host}: {self.machine}, Python {self.python_version or 'missing'}, {room}")
        if "left" in facts:
            left = clean_text(facts["left"])
            files = "; it may contain files of yours" if ".old-" in left else ""
            self._report(f"WARNING: {left} belongs to a deployment that is running or was interrupted{files}")
        if not self.python_version:
            raise ToolchainError(
                f"{self._address.host}: {self.python} is missing or does not start",
                f"run {self._address.by_hand} sudo apt install python3, or name another with --python",
            )
        if self._free_bytes is not None and self._free_bytes < needed_bytes:
            raise self._refuse_full()

    def copy(self, files: Mapping[str, Path]) -> None:
        """Copy `files`, by their names on the board, into the new folder.

        Raises ModelError for a file that cannot be read, UsageError if the board's disk is full, ToolchainError for any
        other failure.
        """
        with self._run("copy the files", COPY_TIMEOUT_S, self._new, ["tar", "-xmf", "-"]) as (child, deadline):
            with send_archive(child, deadline) as archive:
                for name, path in files.items():
                    add_file(archive, name, path, 0o755 if name in _PROGRAMS else 0o644)
            child.close_stdin()
            child.receive_rest(0, deadline)
            status = child.end(CLOSE_TIMEOUT_S)
        if status != 0:
            if b"No space left" in child.tail:
                raise self._refuse_full()
            raise self._explain(status, child) or ToolchainError(
                f"{self._address.host}: could not copy the files to {self.place}{self._quote(child)}"
            )

    def install(self, arguments: Sequence[str]) -> None:
        """Run the installer in the new folder, which ends with the self-test.

        Raises as `run`.
        """
        self._run_ours("install.sh", self._new, ["sh", "-c", 'exec sh ./install.sh "$@" >&2', "install.sh", *arguments])

    def check_old(self, written: Collection[str], *, force: bool = False) -> None:
        """Check that replacing the existing bundle by the files `written` loses none of the user's files.

        Raises UsageError, with their names, if it would, unless `force` is given; also as `run`.
        """
        if self.replaces:
            self._sort_out("ask", self.place, force=force, written=written)

    def switch(self, *, force: bool = False) -> list[str]:
        """Put the new folder in place, with the user's files of the old one; return notes.

        The old bundle is kept next to the new one if files would be lost: with `force`, or if they came during the
        switch.

        Raises as `check_old`; UsageError if a folder cannot be renamed. The old bundle is then unchanged.
        """
        kept, lost = self._sort_out("take", self.place, force=force)
        with self._watch("put the bundle in place", SWITCH_TIMEOUT_S) as deadline:
            self._keeper.send(b"switch\n", deadline)
            facts = self._ask("switched", deadline)
        self._made = False
        host, notes = self._address.host, []
        if kept:
            notes.append(f"kept {kept} of your files")
        if "old" not in facts:
            return notes
        old = clean_text(facts["old"])
        try:
            # Files that were added or changed since.
            lost = lost or self._sort_out("again", facts["old"], force=True)[1]
        except EdgeOcrError as error:
            return [*notes, f"kept {old} on {host}: {error.message}"]
        if lost:
            return [*notes, f"kept {old} on {host}: you changed or added files that the new bundle lacks: {lost}"]
        with self._watch("remove the old bundle", SWITCH_TIMEOUT_S) as deadline:
            self._keeper.send(b"clear\n", deadline)
            facts = self._ask("cleared", deadline)
        if "left" in facts:
            notes.append(f"could not remove {clean_text(facts['left'])} on {host}")
        return notes

    def run_beside(self, name: str, program: Path, *arguments: str) -> bytes:
        """Run a Python program of this machine on the board, without a bundle; return its stdout.

        `name` is its name in errors.

        Raises as `run`.
        """
        # Small servers do not accept a command as long as a program. -I: import nothing from the current folder.
        command = [self.python, "-I", "-", *arguments]
        return self._run_ours(name, self._new if self._made else self.place, command, program.read_bytes())

    def run(self, name: str, command: Sequence[str]) -> bytes:
        """Run a command of the bundle that is in place and return its stdout; `name` is its name in errors.

        Raises the class of its exit code with the error that it wrote; ToolchainError for any other failure.
        """
        return self._run_ours(name, self.place, command)

    def close(self) -> None:
        """End the keeper, which removes the new folder if it is not in place."""
        self._keeper.close_stdin()
        tidied = not self._made
        if self._made:
            with suppress(EndedError, LateError):
                receive_facts(self._keeper, ["tidied"], time.monotonic() + REMOVE_TIMEOUT_S)
                tidied = True
        self._keeper.end(CLOSE_TIMEOUT_S)
        if not tidied:
            self._report(f"WARNING: {self._new} on {self._address.host} may not have been removed")

    def _sort_out(self, stage: str, old: str, *, force: bool, written: Collection[str] = ()) -> tuple[int, str]:
        """Apply the rule of `ownership` there; return the number of files kept, and the names of those at risk."""
        settings = {"manifest": MANIFEST, "ours": OURS, "dropped": DROPPED, "written": sorted(written)}
        new = self._new if self._made else self.place
        said = self.run_beside("ownership", _OWNERSHIP, stage, old, new, json.dumps(settings))
        count, _, named = clean_text(said.decode(errors="replace").strip(), _MAX_LINE).partition(" ")
        if not count.isdecimal():
            raise ToolchainError(f"{self._address.host}: unclear which files in {old} are yours: got {said[:200]!r}")
        if named and not force:
            raise UsageError(
                f"{self._address.host}: files that you changed or added in {self.place} would be lost: {named}",
                "move them elsewhere there, or keep the whole old bundle next to the new one with --force",
            )
        return int(count), named

    def _start(self, script: str, *arguments: str, hear: Callable[[bytes], None] = lambda said: None) -> Child:
        return Child([*self._connection, shlex.join(["sh", "-c", script, *arguments])], hear=hear)

    def _ask(self, last: str, deadline: float) -> dict[str, str]:
        """Return the facts that the keeper sends, up to the key `last`."""
        facts = receive_facts(self._keeper, [last, "refused"], deadline)
        self.place = facts.get("place", self.place)
        if "restored" in facts:
            old, place = clean_text(facts["restored"]), clean_text(self.place)
            self._report(f"WARNING: an earlier deployment was interrupted: moved its bundle {old} back to {place}")
        if "refused" in facts:
            # The keeper has removed everything of ours by now.
            self.close()
            self._made = False
            raise self._describe_refusal(facts["refused"])
        return facts

    def _describe_refusal(self, reason: str) -> EdgeOcrError:
        host, place, said = self._address.host, clean_text(self.place), self._quote(self._keeper)
        by_hand = self._address.by_hand
        parent = place.rpartition("/")[0]
        named = f"[{host}]" if ":" in host else host
        if self._address.user is not None:
            named = f"{self._address.user}@{named}"
        if reason == "foreign":
            return UsageError(
                f"{host}: {place} exists and is not a bundle, so it is not replaced",
                f"choose another folder: --ssh {shlex.quote(f'{named}:DIR')}",
            )
        if reason == "parent":
            # Quoted twice, for the shell here and the one there.
            make = shlex.quote(shlex.join(["mkdir", "-p", "--", parent]))
            return UsageError(f"{host}: the folder {parent} for {place} does not exist", f"run {by_hand} {make}")
        if reason == "home":
            return UsageError(
                f"{host}: the user has no home{said}", f"give a path: --ssh {shlex.quote(f'{named}:/ABSOLUTE/DIR')}"
            )
        if reason == "tar":
            return ToolchainError(f"{host}: tar is missing there", f"run {by_hand} sudo apt install tar")
        if reason == "unwritable":
            return UsageError(f"{host}: cannot write in {parent or '/'}{said}", "choose a folder where you may write")
        if reason == "switch":
            return UsageError(f"{host}: cannot rename {place}{said}", "check whether something is mounted there")
        return ToolchainError(f"{host}: refused: {clean_text(reason)}{said}", f"check that this works: {by_hand}")

    def _refuse_full(self) -> UsageError:
        free = "" if self._free_bytes is None else f", {self._free_bytes / 1e6:.1f} MB were free"
        return UsageError(
            f"{self._address.host}: no space for {self.place}: it needs {self._needed_bytes / 1e6:.1f} MB{free}",
            f"free some space there ({self._address.by_hand} df -h shows it)",
        )

    @contextmanager
    def _run(
        self, doing: str, timeout_s: float, folder: str, command: Sequence[str], listener: _Listener | None = None
    ) -> Iterator[tuple[Child, float]]:
        """Yield a command there, which is ended in any case, and its deadline."""
        hear = (listener or _Listener(lambda line: None)).hear
        child = self._start(_JOB, "job", folder, *command, hear=hear)
        try:
            yield child, time.monotonic() + timeout_s
        except LateError:
            said = self._quote(child)
            raise ToolchainError(f"{self._address.host}: could not {doing} within {timeout_s:g} s{said}") from None
        finally:
            child.kill()

    def _run_ours(self, name: str, folder: str, command: Sequence[str], data: bytes = b"") -> bytes:
        # By the time that anybody reads this, the new folder has another name or is gone.
        listener = _Listener(lambda line: self._report(line.replace(self._new, self.place)))
        with self._run(f"run {name}", RUN_TIMEOUT_S, folder, command, listener) as (child, deadline):
            child.send(data, deadline)
            child.close_stdin()
            said = child.receive_rest(_MAX_OUTPUT_BYTES, deadline)
            status = child.end(CLOSE_TIMEOUT_S)
        if status == 0:
            # A login shell may print a greeting before the mark.
            return said.partition(f"{_BEGINS}\n".encode())[2]
        better = self._explain(status, child)
        if better is not None:
            raise better
        what = listener.error or f"{name}: {name_end(status)}{self._quote(child)}"
        message = f"{self._address.host}: {what}".replace(self._new, self.place)
        hint = listener.hint and listener.hint.replace("./install.sh", "edge-ocr deploy")
        raise _ERRORS.get(status, ToolchainError)(message, hint)

    @contextmanager
    def _watch(self, doing: str, timeout_s: float) -> Iterator[float]:
        """Yield a deadline; turn each way in which the keeper can fail to answer into an error."""
        what = f"{self._address.host}: could not {doing} for {self.place}"
        try:
            yield time.monotonic() + timeout_s
        except LateError:
            raise ToolchainError(f"{what} within {timeout_s:g} s{self._quote(self._keeper)}") from None
        except EndedError:
            better = self._explain(self._keeper.end(CLOSE_TIMEOUT_S), self._keeper)
            raise better or ToolchainError(
                f"{what}{self._quote(self._keeper)}", f"check that this works: {self._address.by_hand}"
            ) from None

    def _explain(self, status: int, child: Child) -> ToolchainError | None:
        """Return the error if ssh itself failed; None if the command on the board did."""
        if status != SSH_FAILED:
            return None
        return explain_ssh(self._address, bytes(child.tail), self._quote(child))

    def _quote(self, child: Child) -> str:
        """Return the last line of its stderr as the end of a message."""
        return quote_last_line(child.tail.rpartition(f"{_BEGINS}\n".encode())[2])


def _read_facts(said: str) -> Machine | None:
    try:
        facts = json.loads(said)
        machine, bits = str(facts["machine"]), int(facts["bits"])
        return Machine(
            name_abi(machine, bits == 64, str(facts["multiarch"])),
            f"{machine} with {bits}-bit Python",
            None if facts["glibc"] is None else str(facts["glibc"]),
            str(facts["python"]),
            bool(facts["has_onnxruntime"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


@contextmanager
def open_board(address: SshAddress, python: str, needed_bytes: int, report: Report) -> Iterator[Board]:
    """Yield a board with a new folder, which is removed in the end unless it was put in place.

    Raises as `Board` and `Board.open`.
    """
    board = Board(address, python, report)
    try:
        board.open(needed_bytes)
        yield board
    finally:
        board.close()


class _Listener:
    """Reads the stderr of a command there: reports its lines as they come, except the error that it ends with."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._rest = b""
        self._begun = False
        self.error: str | None = None
        """The first error; later ones follow from it."""
        self.hint: str | None = None

    def hear(self, said: bytes) -> None:
        *lines, self._rest = (self._rest + said).split(b"\n")
        for raw in lines:
            line = clean_text(raw.decode(errors="replace").rstrip(), _MAX_LINE)
            # A server may print a greeting before the mark.
            if not self._begun:
                self._begun = line == _BEGINS
            elif line.startswith("Error: "):
                self.error = self.error or line.removeprefix("Error: ")
            elif line.startswith("Hint: "):
                self.hint = self.hint or line.removeprefix("Hint: ")
            else:
                self._report(line)
