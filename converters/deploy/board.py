"""The board's side of a deployment: a new folder beside the place of a bundle, and what is done in it over ssh."""

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
"""For the installer, where pip may fetch, and for measuring."""
SWITCH_TIMEOUT_S = 600.0
"""A slow card may first have much to write."""
CLOSE_TIMEOUT_S = 5.0
REMOVE_TIMEOUT_S = 60.0

_KEEPER = Path(__file__).with_name("keeper.sh")
_OWNERSHIP = Path(ownership.__file__)
_PROGRAMS = ("edge-ocr-lite", "install.sh", "uninstall.sh")
_MAX_OUTPUT_BYTES = 2**20
_MAX_LINE = 2000

# What a command of ours that ended with a code means there, it means here.
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
# Runs a command in a folder there. The keeper knows by the file what to end. 255 would be taken for ssh's own failure.
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
    """The place of a bundle on a machine that ssh reaches, and a new folder beside it.

    One connection, the keeper, stays open; when it closes, what runs there for us ends, and the new folder goes.
    """

    def __init__(self, address: SshAddress, python: str, report: Report) -> None:
        """Connect; `python` is the name or path of the one there that its version is asked of.

        Raises ToolchainError where there is no ssh.
        """
        self._address = address
        self.host = address.host
        self.python = python
        """Name or path there."""
        self._report = report
        self._connection = make_connection(address)
        self._token = secrets.token_hex(4)
        self._made = False
        self._free_bytes: int | None = None
        self._needed_bytes = 0
        self.place = address.path
        """Absolute, and where links lead, once it is open."""
        self.machine = ""
        """What `uname -m` says."""
        self.facts: Machine | None = None
        """Of its Python; None where that does not tell."""
        self.python_version = ""
        """Empty where there is no such Python."""
        self.replaces = False
        """Whether a bundle is there."""
        script = _KEEPER.read_text(encoding="utf-8")
        self._keeper = self._start(script, "keeper", address.path, self._token, python)

    @property
    def _new(self) -> str:
        return f"{self.place}.new-{self._token}"

    def open(self, needed_bytes: int) -> None:
        """Make the new folder, and find out whether the bundle fits.

        Raises ToolchainError where the board cannot be reached or lacks tar or Python, UsageError for a place that is
        not a bundle's, that cannot be written or that has not `needed_bytes` free.
        """
        self._needed_bytes = needed_bytes
        with self._watch("make a folder", 4 * CONNECT_TIMEOUT_S) as deadline:
            facts = self._ask("ready", deadline)
        self._made = True
        self.machine, self.python_version = (clean_text(facts.get(key, "")) for key in ("machine", "python"))
        self.facts = _read_facts(facts.get("facts", ""))
        self.replaces = "replaces" in facts
        # Blocks of 1024 bytes: all, used, free, then how full it is. The name of the file system may have blanks.
        match = re.search(r" (\d+) +\d+% ", facts.get("free", ""))
        room = "room unknown"
        if match is not None:
            self._free_bytes = int(match[1]) * 1024
            room = f"{self._free_bytes / 1e6:.0f} MB free"
        self._report(f"{self._address.host}: {self.machine}, Python {self.python_version or 'missing'}, {room}")
        if "left" in facts:
            left = clean_text(facts["left"])
            files = "; files of yours may be in it" if ".old-" in left else ""
            self._report(f"WARNING: {left} is there, of a deployment that runs or was cut off{files}")
        if not self.python_version:
            raise ToolchainError(
                f"{self._address.host}: there is no {self.python} that starts",
                f"{self._address.by_hand} sudo apt install python3; or --python names another",
            )
        if self._free_bytes is not None and self._free_bytes < needed_bytes:
            raise self._refuse_full()

    def copy(self, files: Mapping[str, Path]) -> None:
        """Copy `files`, by their names there, into the new folder.

        Raises ModelError for a file that cannot be read, UsageError where the disk there is full, ToolchainError.
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
        """Run the installer in the new folder; it ends with the selftest.

        Raises as `run`.
        """
        self._run_ours("install.sh", self._new, ["sh", "-c", 'exec sh ./install.sh "$@" >&2', "install.sh", *arguments])

    def check_old(self, written: Collection[str], *, force: bool = False) -> None:
        """Look what the user has in the bundle that is there, which is to give way to the files `written`.

        Raises UsageError, naming it, where something would be lost, unless `force` is given; as `run`.
        """
        if self.replaces:
            self._sort_out("ask", self.place, force=force, written=written)

    def switch(self, *, force: bool = False) -> list[str]:
        """Put the new folder in place, with what is the user's in the old one; return notes.

        The old one stays beside it where something would be lost: with `force`, or where that came while it switched.

        Raises as `check_old`; UsageError where it cannot be renamed. The old bundle is then there as before.
        """
        kept, lost = self._sort_out("take", self.place, force=force)
        with self._watch("put the bundle in place", SWITCH_TIMEOUT_S) as deadline:
            self._keeper.send(b"switch\n", deadline)
            facts = self._ask("switched", deadline)
        self._made = False
        host, notes = self._address.host, []
        if kept:
            notes.append(f"kept {kept} {'file' if kept == 1 else 'files'} of yours")
        if "old" not in facts:
            return notes
        old = clean_text(facts["old"])
        try:
            # What has come since, or was changed since.
            lost = lost or self._sort_out("again", facts["old"], force=True)[1]
        except EdgeOcrError as error:
            return [*notes, f"{old} on {host} stays: {error.message}"]
        if lost:
            return [*notes, f"{old} on {host} stays, as you changed or added there what is not in the new one: {lost}"]
        with self._watch("remove the old bundle", SWITCH_TIMEOUT_S) as deadline:
            self._keeper.send(b"clear\n", deadline)
            facts = self._ask("cleared", deadline)
        if "left" in facts:
            notes.append(f"could not remove {clean_text(facts['left'])} on {host}")
        return notes

    def run_beside(self, name: str, program: Path, *arguments: str) -> bytes:
        """Run a Python program of this machine, which needs no bundle, there; return its stdout.

        `name` is what it is called in errors.

        Raises as `run`.
        """
        # Small servers take no command as long as a program. -I: no module of a folder there comes first.
        command = [self.python, "-I", "-", *arguments]
        return self._run_ours(name, self._new if self._made else self.place, command, program.read_bytes())

    def run(self, name: str, command: Sequence[str]) -> bytes:
        """Run a command of the bundle that is in place, called `name` in errors, and return its stdout.

        Raises the class of its exit code with the error that it wrote; ToolchainError where it ended in another way.
        """
        return self._run_ours(name, self.place, command)

    def close(self) -> None:
        """End the keeper, which removes what is not in place."""
        self._keeper.close_stdin()
        tidied = not self._made
        if self._made:
            with suppress(EndedError, LateError):
                receive_facts(self._keeper, ["tidied"], time.monotonic() + REMOVE_TIMEOUT_S)
                tidied = True
        self._keeper.end(CLOSE_TIMEOUT_S)
        if not tidied:
            self._report(f"WARNING: could not make sure that {self._new} on {self._address.host} is gone")

    def _sort_out(self, stage: str, old: str, *, force: bool, written: Collection[str] = ()) -> tuple[int, str]:
        """Apply the rule of `ownership` there; return how many files were kept, and what would be lost."""
        settings = {"manifest": MANIFEST, "ours": OURS, "dropped": DROPPED, "written": sorted(written)}
        new = self._new if self._made else self.place
        said = self.run_beside("ownership", _OWNERSHIP, stage, old, new, json.dumps(settings))
        count, _, named = clean_text(said.decode(errors="replace").strip(), _MAX_LINE).partition(" ")
        if not count.isdecimal():
            raise ToolchainError(f"{self._address.host}: what is yours in {old} cannot be told: it said {said[:200]!r}")
        if named and not force:
            raise UsageError(
                f"{self._address.host}: what you changed or added in {self.place} would be lost: {named}",
                "move that elsewhere there; or --force leaves the whole old bundle beside the new one",
            )
        return int(count), named

    def _start(self, script: str, *arguments: str, hear: Callable[[bytes], None] = lambda said: None) -> Child:
        return Child([*self._connection, shlex.join(["sh", "-c", script, *arguments])], hear=hear)

    def _ask(self, last: str, deadline: float) -> dict[str, str]:
        """Return what the keeper says up to `last`."""
        facts = receive_facts(self._keeper, [last, "refused"], deadline)
        self.place = facts.get("place", self.place)
        if "restored" in facts:
            old, place = clean_text(facts["restored"]), clean_text(self.place)
            self._report(f"WARNING: a deployment was cut off before: the bundle {old} is {place} again")
        if "refused" in facts:
            # Behind it, nothing of ours is there any more.
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
                f"{host}: {place} is there and is not a bundle, so it is not replaced",
                f"name another folder: --ssh {shlex.quote(f'{named}:DIR')}",
            )
        if reason == "parent":
            # Two shells read it: the one here, and the one there.
            make = shlex.quote(shlex.join(["mkdir", "-p", "--", parent]))
            return UsageError(f"{host}: there is no folder {parent} for {place}", f"{by_hand} {make}")
        if reason == "home":
            return UsageError(
                f"{host}: the user has no home there{said}", f"--ssh {shlex.quote(f'{named}:/ABSOLUTE/DIR')}"
            )
        if reason == "tar":
            return ToolchainError(f"{host}: tar is missing there", f"{by_hand} sudo apt install tar")
        if reason == "unwritable":
            return UsageError(f"{host}: cannot write in {parent or '/'}{said}", "name a folder where you may write")
        if reason == "switch":
            return UsageError(f"{host}: {place} could not be renamed{said}", "is something mounted there?")
        return ToolchainError(f"{host}: refused: {clean_text(reason)}{said}", f"does this work? {by_hand}")

    def _refuse_full(self) -> UsageError:
        free = "" if self._free_bytes is None else f", {self._free_bytes / 1e6:.1f} MB were free"
        return UsageError(
            f"{self._address.host}: no room for {self.place}: it needs {self._needed_bytes / 1e6:.1f} MB{free}",
            f"{self._address.by_hand} df -h",
        )

    @contextmanager
    def _run(
        self, doing: str, timeout_s: float, folder: str, command: Sequence[str], listener: _Listener | None = None
    ) -> Iterator[tuple[Child, float]]:
        """Yield a command there and its deadline; it is ended in any case."""
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
        # The new folder is gone, or has another name, by the time anybody does what is said.
        listener = _Listener(lambda line: self._report(line.replace(self._new, self.place)))
        with self._run(f"run {name}", RUN_TIMEOUT_S, folder, command, listener) as (child, deadline):
            child.send(data, deadline)
            child.close_stdin()
            said = child.receive_rest(_MAX_OUTPUT_BYTES, deadline)
            status = child.end(CLOSE_TIMEOUT_S)
        if status == 0:
            # Before the mark, a login shell may have greeted.
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
        """Yield a deadline; the ways in which the keeper can fail to answer become errors."""
        what = f"{self._address.host}: could not {doing} for {self.place}"
        try:
            yield time.monotonic() + timeout_s
        except LateError:
            raise ToolchainError(f"{what} within {timeout_s:g} s{self._quote(self._keeper)}") from None
        except EndedError:
            better = self._explain(self._keeper.end(CLOSE_TIMEOUT_S), self._keeper)
            raise better or ToolchainError(
                f"{what}{self._quote(self._keeper)}", f"does this work? {self._address.by_hand}"
            ) from None

    def _explain(self, status: int, child: Child) -> ToolchainError | None:
        """Return the error for an ssh that failed itself; None where the command at its other end did."""
        if status != SSH_FAILED:
            return None
        return explain_ssh(self._address, bytes(child.tail), self._quote(child))

    def _quote(self, child: Child) -> str:
        """Return the last line that it wrote to stderr, as the end of a message."""
        return quote_last_line(child.tail.rpartition(f"{_BEGINS}\n".encode())[2])


def _read_facts(said: str) -> Machine | None:
    try:
        facts = json.loads(said)
        machine, bits = str(facts["machine"]), int(facts["bits"])
        return Machine(
            name_abi(machine, bits == 64, str(facts["multiarch"])),
            f"{machine} with a Python of {bits} bits",
            None if facts["glibc"] is None else str(facts["glibc"]),
            str(facts["python"]),
            bool(facts["has_onnxruntime"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


@contextmanager
def open_board(address: SshAddress, python: str, needed_bytes: int, report: Report) -> Iterator[Board]:
    """Yield a board with a new folder; whatever the end is, what is then not in place goes.

    Raises as `Board` and `Board.open`.
    """
    board = Board(address, python, report)
    try:
        board.open(needed_bytes)
        yield board
    finally:
        board.close()


class _Listener:
    """Hears the stderr of a command there: tells its lines on as they come, but for the error that it ends with."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._rest = b""
        self._begun = False
        self.error: str | None = None
        """The first: those behind it follow from it."""
        self.hint: str | None = None

    def hear(self, said: bytes) -> None:
        *lines, self._rest = (self._rest + said).split(b"\n")
        for raw in lines:
            line = clean_text(raw.decode(errors="replace").rstrip(), _MAX_LINE)
            # Before, a server may greet.
            if not self._begun:
                self._begun = line == _BEGINS
            elif line.startswith("Error: "):
                self.error = self.error or line.removeprefix("Error: ")
            elif line.startswith("Hint: "):
                self.hint = self.hint or line.removeprefix("Hint: ")
            else:
                self._report(line)
