"""Finds or makes Python environments for tools that cannot share ours."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from converters.processes.child import clean_environment, name_end, run_child
from converters.text import Report, sum_up
from edge_ocr.errors import ModelError, ToolchainError
from edge_ocr.fetch.reasons import UvError, mask_urls, sum_up_uv
from edge_ocr.models.store import find_uv, store_root

Found = TypeVar("Found")

DESCRIBE_TIMEOUT_S = 60.0

_DESCRIBE = """
import json, platform, struct
print(json.dumps({"python_version": platform.python_version(), "implementation": platform.python_implementation(),
                  "machine": platform.machine(), "bits": struct.calcsize("P") * 8}))
"""


@dataclass(frozen=True)
class Interpreter:
    """Facts about an interpreter."""

    python_version: str
    implementation: str
    machine: str
    bits: int


def describe_interpreter(python: Path) -> Interpreter:
    """Start `python` and return facts about it.

    Raises ToolchainError if it does not start or does not answer.
    """
    return ask_interpreter(python, ["-c", _DESCRIBE], Interpreter)


def ask_interpreter(python: Path, arguments: Sequence[str], answer: Callable[..., Found], data: bytes = b"") -> Found:
    """Run `python` with `arguments` and `data` on stdin, and pass the JSON object that it prints to `answer`.

    The interpreter is isolated from the caller's environment, folder and user site.

    Raises ToolchainError if it does not start or does not answer.
    """
    try:
        ended = run_child([str(python), "-I", *arguments], DESCRIBE_TIMEOUT_S, data=data, env=clean_environment())
    except subprocess.TimeoutExpired:
        raise ToolchainError(f"{python} does not answer within {DESCRIBE_TIMEOUT_S:g} s") from None
    if ended.returncode != 0:
        said = sum_up(ended.stderr)
        raise ToolchainError(f"{python} does not run: {name_end(ended.returncode)}" + (f": {said}" if said else ""))
    try:
        return answer(**json.loads(ended.stdout))
    except (ValueError, TypeError):
        raise ToolchainError(f"{python} is not a Python: it answered {ended.stdout[:80]!r}") from None


@dataclass(frozen=True)
class Tool:
    """A package that runs in its own interpreter, and how to make that."""

    name: str
    """Its name in messages, and that of the store's folder with its environments."""
    package: str
    version: str
    minors: tuple[int, ...]
    """Supported minor versions of Python 3, best first."""
    variable: str
    """The environment variable that names an interpreter with the package."""
    size: str
    """Size of an environment, as text."""
    platforms: tuple[tuple[str, str], ...]
    """`platform.system()` and `platform.machine()` of machines that it has wheels for."""
    places: str
    """The same, as text."""
    needs: tuple[str, ...] = ()
    """Further requirements; if empty, the package is installed without dependencies."""
    release: str = ""
    """Version of the environment if it is not that of the package; a new one is made when it changes."""

    @property
    def requirement(self) -> str:
        """Return package and version for an installer."""
        return f"{self.package}=={self.version}"

    @property
    def requirements(self) -> tuple[str, ...]:
        """Return everything to install."""
        return (self.requirement, *self.needs)

    @property
    def pythons(self) -> str:
        """Return, as text, which Python it needs."""
        least, most = min(self.minors), max(self.minors)
        return f"CPython 3.{least}" if least == most else f"CPython 3.{least} to 3.{most}"


# Written when an environment is complete; without it, the folder was left by an interruption.
READY_MARKER = "edge-ocr-ready"


UV_TIMEOUT_S = 900.0


Check = Callable[[Path, str], Found]
"""Takes an interpreter and its origin, and returns facts about it; raises ToolchainError if it lacks the tool."""


def find_interpreter(
    tool: Tool,
    check: Check[Found],
    *,
    own: Callable[[list[str]], Found | None] = lambda tried: None,
    report: Report = lambda step: None,
) -> Found:
    """Return an interpreter that has a tool; make an environment in the store if there is none.

    Tried in this order: the interpreter that the tool's variable names, which is used or refused, never skipped; the
    result of `own`, which may append to its list why there is none; an existing environment; a new one.

    Raises ToolchainError, which lists what was tried, if none of them works.
    """
    chosen = os.environ.get(tool.variable)
    if chosen:
        return _use_chosen(chosen, tool, check)
    tried = _Tried()
    return own(tried) or _find_ready(tool, check, tried) or _make_environment(tool, check, tried, report)


class _Tried(list[str]):
    """Why each attempt failed."""

    output = ""
    """Output of uv when it last failed."""


def describe_tool(
    tool: Tool, check: Check[Found], *, own: Callable[[list[str]], Found | None] = lambda tried: None
) -> tuple[Found | None, str]:
    """Return what `find_interpreter` would, without making anything; None and how to get it if there is none."""
    chosen = os.environ.get(tool.variable)
    try:
        found = _use_chosen(chosen, tool, check) if chosen else own([]) or _find_ready(tool, check, [])
        if found is None:
            check_platform(tool, platform.system(), platform.machine())
    except ToolchainError as error:
        return None, f"{error.message}; {error.hint}"
    return found, "" if found else f"edge-ocr export makes it (once, {tool.size})"


def check_platform(tool: Tool, system: str, machine: str) -> None:
    """Raise ToolchainError unless the tool has wheels for this machine.

    `system` and `machine` are the values of `platform.system()` and `platform.machine()`.
    """
    if (system, machine) not in tool.platforms:
        raise ToolchainError(
            f"no {tool.name} for {system} on {machine}: {tool.package} wheels are for {tool.places} only",
            f"export on such a machine, or set {tool.variable} to an interpreter with {tool.package}",
        )


def list_interpreters(tool: Tool) -> Iterator[Path]:
    """Yield the Pythons that may support the tool, best first, without checking that they start."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for minor in tool.minors:
        # Look in every folder of PATH: the first hit is often a pyenv shim that refuses to run.
        for folder in os.get_exec_path():
            python = Path(folder) / f"python3.{minor}"
            if os.access(python, os.X_OK):
                yield python
        # uv itself does not look here.
        yield from sorted(pyenv.glob(f"3.{minor}.*/bin/python"), key=_read_patch, reverse=True)


def _read_patch(python: Path) -> int:
    patch = python.parent.parent.name.split(".")[2]
    return int(patch) if patch.isdigit() else -1


def _use_chosen(chosen: str, tool: Tool, check: Check[Found]) -> Found:
    hint = f"name a {tool.pythons} with the packages of `{_name_install(tool)}`, or unset {tool.variable}"
    path = shutil.which(chosen)
    if path is None:
        raise ToolchainError(f"{tool.variable}: no such program: {chosen}", hint)
    try:
        return check(Path(path), tool.variable)
    except ToolchainError as error:
        raise ToolchainError(f"{tool.variable}: {error.message}", hint) from None


def _name_install(tool: Tool) -> str:
    # Quoted for the shell, which interprets < and >.
    return f"pip install {' '.join(repr(need) if set(need) & set('<>') else need for need in tool.requirements)}"


def _find_ready(tool: Tool, check: Check[Found], tried: list[str]) -> Found | None:
    for minor in tool.minors:
        folder = _name_environment(tool, minor)
        if not (folder / READY_MARKER).is_file():
            continue
        try:
            return check(folder / "bin" / "python", "cache")
        except ToolchainError as error:  # for example, its base interpreter was removed
            tried.append(error.message)
    return None


def _find_folder(tool: Tool) -> Path:
    # Absolute, as uv runs inside it.
    return (store_root() / tool.name).absolute()


def _name_environment(tool: Tool, minor: int) -> Path:
    return _find_folder(tool) / f"{tool.release or tool.version}-py3{minor}"


def _make_environment(tool: Tool, check: Check[Found], tried: _Tried, report: Report) -> Found:
    check_platform(tool, platform.system(), platform.machine())
    try:
        uv = Path(find_uv())
    except ModelError:
        raise ToolchainError(f"uv is missing, needed to set up {tool.name}", "run pip install uv") from None
    folder = _find_folder(tool)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / f"{tool.release or tool.version}.lock", tool, report) as lock:
            # Another process may have made it while we waited. Failures are already in `tried`.
            ready = _find_ready(tool, check, [])
            if ready is not None:
                return ready
            for python in list_interpreters(tool):
                minor = _check_base(python, tool, tried)
                if minor is not None and _make_venv(uv, str(python), tool, minor, tried, lock):
                    return _install(uv, tool, check, minor, tried, lock, report)
            minor = tool.minors[0]
            report(f"no usable {tool.pythons} found: letting uv fetch Python 3.{minor}")
            if _make_venv(uv, f"3.{minor}", tool, minor, tried, lock):
                return _install(uv, tool, check, minor, tried, lock, report)
    except OSError as error:
        raise ToolchainError(
            f"cannot write the cache folder {folder}: {error.strerror}",
            "make it writable, or set EDGE_OCR_HOME to a folder that is",
        ) from None
    raise _refuse(tool, tried)


@contextmanager
def _lock(path: Path, tool: Tool, report: Report) -> Iterator[int]:
    """Lock `path`, waiting for other processes; the lock ends with the last process that has the file open."""
    import fcntl  # missing on Windows, which check_platform refuses

    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"waiting for another process, which is making the environment for {tool.name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _check_base(python: Path, tool: Tool, tried: list[str]) -> int | None:
    """Return the minor version of an interpreter, or None if an environment cannot be made from it."""
    try:
        found = describe_interpreter(python)
    except ToolchainError as error:
        tried.append(error.message)
        return None
    minor = int(found.python_version.split(".")[1])
    if (
        found.implementation == "CPython"
        and found.bits == 64
        and (platform.system(), found.machine) in tool.platforms
        and minor in tool.minors
    ):
        return minor
    tried.append(f"{python} is {found.implementation} {found.python_version}, {found.bits} bits on {found.machine}")
    return None


def _make_venv(uv: Path, python: str, tool: Tool, minor: int, tried: _Tried, lock: int) -> bool:
    folder = _name_environment(tool, minor)
    _remove(folder)
    # Without a path, let uv download a Python: its own search stops at the first broken pyenv shim.
    fetch = [] if os.sep in python else ["--managed-python"]
    said = _run_uv(uv, ["venv", "--no-project", *fetch, "--python", python, str(folder)], tried, lock)
    if said is None:
        return True
    tried.append(f"uv venv --python {python}: {said}")
    _remove(folder)
    return False


def _install(uv: Path, tool: Tool, check: Check[Found], minor: int, tried: _Tried, lock: int, report: Report) -> Found:
    folder = _name_environment(tool, minor)
    python = folder / "bin" / "python"
    # Reinstall everything: an orphan of an interrupted attempt may just have written to it.
    options = ["--python", str(python), "--only-binary", ":all:", "--reinstall"]
    if not tool.needs:
        options.append("--no-deps")
    try:
        report(f"installing {tool.package} {tool.version} for Python 3.{minor} into {folder} (once, {tool.size})")
        said = _run_uv(uv, ["pip", "install", *options, *tool.requirements], tried, lock)
        if said is not None:
            tried.append(f"uv pip install {tool.requirement} for Python 3.{minor}: {said}")
            raise _refuse(tool, tried)
        found = check(python, "cache")
        (folder / READY_MARKER).touch()
    except BaseException:
        _remove(folder)
        raise
    return found


def _remove(folder: Path) -> None:
    # The marker first, so that an interrupted removal does not leave a folder that looks complete.
    (folder / READY_MARKER).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _run_uv(uv: Path, arguments: list[str], tried: _Tried, lock: int) -> str | None:
    """Run uv; return None, or in one line why it failed, with its output in `tried.output`."""
    try:
        ended = run_child(
            [str(uv), *arguments, "--quiet"],
            UV_TIMEOUT_S,
            env=clean_environment(),
            cwd=store_root().absolute(),  # ignore settings of a project in the caller's folder
            # If we are killed, uv may continue: it then holds the lock until it is done with the folder.
            pass_fds=(lock,),
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {UV_TIMEOUT_S:g} s"
    except ToolchainError as error:
        return error.message
    if ended.returncode == 0:
        return None
    text = ended.stderr.decode(errors="replace")
    tried.output = mask_urls(text)
    return sum_up_uv(text) or f"exit code {ended.returncode}"


def _refuse(tool: Tool, tried: _Tried) -> ToolchainError:
    # The last attempt first, because it was the most likely to work.
    *before, last = tried
    title = "" if tool.package == tool.name else f"{tool.package} "
    error = ToolchainError(
        f"no interpreter for {tool.name} ({title}{tool.version}, {tool.pythons}): {last}"
        + (f"; tried before: {'; '.join(before)}" if before else ""),
        f"check the network and uv's settings, then run this again (`uv python install 3.{tool.minors[0]}` downloads "
        f"the interpreter); without a network, set {tool.variable} to a {tool.pythons} with the packages of "
        f"`{_name_install(tool)}`",
    )
    if tried.output:
        error.__cause__ = UvError(tried.output)
    return error
