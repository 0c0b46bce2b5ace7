"""Finds an interpreter that can run Paddle-Lite's opt, or makes one: its wheels end at Python 3.10."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from converters.child_process import clean_environment, run_child
from converters.opt import Interpreter, describe_interpreter
from edge_ocr.errors import ModelError, ToolchainError, UsageError
from edge_ocr.fetch_errors import UvError, mask_urls, sum_up_uv
from edge_ocr.model_store import find_uv
from edge_ocr.models import store_root

LITE_VERSION = "2.13-rc"
"""The Paddle-Lite that bundles are made for unless told otherwise."""


@dataclass(frozen=True)
class Wheel:
    """A paddlelite wheel that is tried and known to convert PP-OCR models."""

    version: str
    minors: tuple[int, ...]
    """Of the Python 3 versions it is used with, best first; the wheels cover older ones, too."""

    @property
    def pythons(self) -> str:
        """For people: which Python it needs."""
        least, most = min(self.minors), max(self.minors)
        return f"CPython 3.{least}" if least == most else f"CPython 3.{least} to 3.{most}"


# 2.9 and 2.10 abort on PP-OCRv4's recogniser.
WHEELS: Mapping[str, Wheel] = MappingProxyType(
    {
        LITE_VERSION: Wheel("2.13rc0", (10, 9, 8)),
        "2.14-rc": Wheel("2.14rc0", (7,)),
        "2.12": Wheel("2.12", (7,)),
        "2.11": Wheel("2.11", (7,)),
    }
)

PYTHON_VARIABLE = "EDGE_OCR_OPT_PYTHON"

# Written when an environment is whole; without it, the folder is the rest of an interrupted making.
READY_MARKER = "edge-ocr-ready"

UV_TIMEOUT_S = 900.0

Report = Callable[[str], None]


@dataclass(frozen=True)
class OptToolchain:
    """An interpreter whose opt was seen to answer."""

    python: Path
    python_version: str
    wheel_version: str
    """Version of the paddlelite wheel, such as `2.13rc0`."""
    opt_version: str
    """What opt calls itself and writes into each .nb, such as `v2.13-rc`; the runtime must be of this version."""
    origin: str
    """`this interpreter`, the environment variable, or `cache`."""


def find_opt_interpreter(lite_version: str = LITE_VERSION, *, report: Report = lambda step: None) -> OptToolchain:
    """Return an interpreter with paddlelite `lite_version`; make one in the cache folder where there is none.

    Looked at in this order: `EDGE_OCR_OPT_PYTHON`, which is used or refused but never passed over; this
    interpreter; an environment in the cache folder from before; a new one there, made by uv from a Python on
    PATH, one of pyenv's, or one that uv fetches.

    Raises UsageError for a Paddle-Lite version that we have no wheel for; ToolchainError, listing what was tried,
    where none of them works.
    """
    wheel = find_wheel(lite_version)
    chosen = os.environ.get(PYTHON_VARIABLE)
    if chosen:
        return _use_chosen(chosen, wheel)
    tried = _Tried()
    return _use_own(wheel, tried) or _find_ready(wheel, tried) or _make_environment(wheel, tried, report)


class _Tried(list[str]):
    """What was tried, and why each failed."""

    output = ""
    """What uv wrote the last time that it failed."""


def find_wheel(lite_version: str) -> Wheel:
    """Return the wheel of a Paddle-Lite version, such as `2.13-rc` or `v2.13-rc`.

    Raises UsageError, listing what there is, for any other version.
    """
    name = lite_version.removeprefix("v")
    if name not in WHEELS:
        known = ", ".join(f"{version} ({wheel.pythons})" for version, wheel in WHEELS.items())
        raise UsageError(f"no opt for Paddle-Lite {lite_version}", f"versions: {known}")
    return WHEELS[name]


def describe_toolchain(lite_version: str = LITE_VERSION) -> tuple[str | None, str]:
    """Tell which interpreter would run opt, without making one: None where there is none yet, and how to get it."""
    wheel = find_wheel(lite_version)
    chosen = os.environ.get(PYTHON_VARIABLE)
    try:
        if chosen:
            found: OptToolchain | None = _use_chosen(chosen, wheel)
        else:
            found = _use_own(wheel, []) or _find_ready(wheel, [])
        if found is None:
            check_platform(platform.system(), platform.machine())
    except ToolchainError as error:
        return None, f"{error.message}; {error.hint}"
    if found is None:
        return None, "edge-ocr export makes it (once, about 170 MB)"
    return f"{found.opt_version} on Python {found.python_version} ({found.origin}: {found.python})", ""


def check_platform(system: str, machine: str) -> None:
    """Raise ToolchainError unless there are paddlelite wheels for this machine that we can install.

    `system` and `machine` are what `platform.system()` and `platform.machine()` say.
    """
    if system not in ("Linux", "Darwin") or machine not in ("x86_64", "AMD64"):
        raise ToolchainError(
            f"no opt for {system} on {machine}: paddlelite wheels are for Linux and macOS on x86-64 only",
            "export on an x86-64 machine and copy the bundle, or name an interpreter that has paddlelite "
            f"in {PYTHON_VARIABLE}",
        )


def list_interpreters(wheel: Wheel) -> Iterator[Path]:
    """Yield the Pythons that may take the wheel, best first; nobody has checked that they start."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for minor in wheel.minors:
        # Each folder of PATH: the first hit is often a pyenv shim that refuses to run.
        for folder in os.get_exec_path():
            python = Path(folder) / f"python3.{minor}"
            if os.access(python, os.X_OK):
                yield python
        # uv does not look here by itself.
        yield from sorted(pyenv.glob(f"3.{minor}.*/bin/python"), key=_read_patch, reverse=True)


def _read_patch(python: Path) -> int:
    patch = python.parent.parent.name.split(".")[2]
    return int(patch) if patch.isdigit() else -1


def _use_chosen(chosen: str, wheel: Wheel) -> OptToolchain:
    hint = f"name a {wheel.pythons} with `pip install paddlelite=={wheel.version}`, or unset {PYTHON_VARIABLE}"
    path = shutil.which(chosen)
    if path is None:
        raise ToolchainError(f"{PYTHON_VARIABLE}: no such program: {chosen}", hint)
    try:
        return _check_lite(describe_interpreter(Path(path)), wheel, PYTHON_VARIABLE)
    except ToolchainError as error:
        raise ToolchainError(f"{PYTHON_VARIABLE}: {error.message}", hint) from None


def _use_own(wheel: Wheel, tried: list[str]) -> OptToolchain | None:
    # Read, not imported: a library of that age has no business in our process.
    version = None
    if importlib.util.find_spec("paddlelite") is not None:
        try:
            version = importlib.metadata.version("paddlelite")
        except importlib.metadata.PackageNotFoundError:
            version = "of unknown version"
    if version != wheel.version:
        has = f"has paddlelite {version}" if version else "has no paddlelite"
        tried.append(f"this interpreter (Python {platform.python_version()}) {has}")
        return None
    try:
        return _check_lite(describe_interpreter(Path(sys.executable)), wheel, "this interpreter")
    except ToolchainError as error:
        tried.append(f"this interpreter: {error.message}")
        return None


def _check_lite(found: Interpreter, wheel: Wheel, origin: str) -> OptToolchain:
    name = f"{found.python} (Python {found.python_version})"
    if found.wheel_version is None:
        raise ToolchainError(f"{name} has no paddlelite, expected {wheel.version}")
    if found.wheel_version != wheel.version:
        raise ToolchainError(f"{name} has paddlelite {found.wheel_version}, expected {wheel.version}")
    if found.opt_version is None:
        raise ToolchainError(f"{name} cannot import paddlelite {found.wheel_version}: {found.import_error}")
    return OptToolchain(found.python, found.python_version, found.wheel_version, found.opt_version, origin)


def _find_ready(wheel: Wheel, tried: list[str]) -> OptToolchain | None:
    for minor in wheel.minors:
        folder = _name_environment(wheel, minor)
        if not (folder / READY_MARKER).is_file():
            continue
        try:
            return _check_lite(describe_interpreter(folder / "bin" / "python"), wheel, "cache")
        except ToolchainError as error:  # its base interpreter was removed, say
            tried.append(error.message)
    return None


def _find_folder() -> Path:
    # Absolute, as uv runs inside it.
    return (store_root() / "opt").absolute()


def _name_environment(wheel: Wheel, minor: int) -> Path:
    return _find_folder() / f"{wheel.version}-py3{minor}"


def _make_environment(wheel: Wheel, tried: _Tried, report: Report) -> OptToolchain:
    check_platform(platform.system(), platform.machine())
    try:
        uv = Path(find_uv())
    except ModelError:
        raise ToolchainError("uv is missing, which makes the environment for opt", "pip install uv") from None
    folder = _find_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / f"{wheel.version}.lock", report) as lock:
            # Another process may have made it while we waited; else the complaints are already in `tried`.
            ready = _find_ready(wheel, [])
            if ready is not None:
                return ready
            for python in list_interpreters(wheel):
                minor = _check_base(python, wheel, tried)
                if minor is not None and _make_venv(uv, str(python), wheel, minor, tried, lock):
                    return _install_lite(uv, wheel, minor, tried, lock, report)
            minor = wheel.minors[0]
            report(f"no usable {wheel.pythons} found: letting uv fetch Python 3.{minor}")
            if _make_venv(uv, f"3.{minor}", wheel, minor, tried, lock):
                return _install_lite(uv, wheel, minor, tried, lock, report)
    except OSError as error:
        raise ToolchainError(
            f"cannot write the cache folder {folder}: {error.strerror}",
            "make it writable, or set EDGE_OCR_HOME to a folder that is",
        ) from None
    raise _refuse(wheel, tried)


@contextmanager
def _lock(path: Path, report: Report) -> Iterator[int]:
    """Hold `path` against other processes; the lock falls with the last process that has the file open."""
    import fcntl  # not on Windows, which check_platform has refused

    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another process that makes the environment for opt")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _check_base(python: Path, wheel: Wheel, tried: list[str]) -> int | None:
    """Return the minor version of an interpreter that an environment can be made from."""
    try:
        found = describe_interpreter(python)
    except ToolchainError as error:
        tried.append(error.message)
        return None
    minor = int(found.python_version.split(".")[1])
    if (
        found.implementation == "CPython"
        and found.bits == 64
        and found.machine in ("x86_64", "AMD64")
        and minor in wheel.minors
    ):
        return minor
    tried.append(f"{python} is {found.implementation} {found.python_version}, {found.bits} bits on {found.machine}")
    return None


def _make_venv(uv: Path, python: str, wheel: Wheel, minor: int, tried: _Tried, lock: int) -> bool:
    folder = _name_environment(wheel, minor)
    _remove(folder)
    # uv is told to fetch only where no path is given; its own search stops at the first broken pyenv shim.
    fetch = [] if os.sep in python else ["--managed-python"]
    said = _run_uv(uv, ["venv", "--no-project", *fetch, "--python", python, str(folder)], tried, lock)
    if said is None:
        return True
    tried.append(f"uv venv --python {python}: {said}")
    _remove(folder)
    return False


def _install_lite(uv: Path, wheel: Wheel, minor: int, tried: _Tried, lock: int, report: Report) -> OptToolchain:
    folder = _name_environment(wheel, minor)
    python = folder / "bin" / "python"
    package = f"paddlelite=={wheel.version}"
    # Reinstalled whatever uv finds there: an orphan of an interrupted making may just have been writing to it.
    options = ["--python", str(python), "--no-deps", "--only-binary", ":all:", "--reinstall"]
    try:
        report(f"installing paddlelite {wheel.version} for Python 3.{minor} into {folder} (once, about 170 MB)")
        said = _run_uv(uv, ["pip", "install", *options, package], tried, lock)
        if said is not None:
            tried.append(f"uv pip install {package} for Python 3.{minor}: {said}")
            raise _refuse(wheel, tried)
        toolchain = _check_lite(describe_interpreter(python), wheel, "cache")
        (folder / READY_MARKER).touch()
    except BaseException:
        _remove(folder)
        raise
    return toolchain


def _remove(folder: Path) -> None:
    # The marker goes first: a removal that is cut short must not leave a folder that looks ready.
    (folder / READY_MARKER).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _run_uv(uv: Path, arguments: list[str], tried: _Tried, lock: int) -> str | None:
    """Run uv; return None, or in one line what went wrong; what uv wrote is then in `tried.output`."""
    try:
        ended = run_child(
            [str(uv), *arguments, "--quiet"],
            UV_TIMEOUT_S,
            env=clean_environment(),
            cwd=_find_folder(),  # the settings of a project in the caller's folder are not for us
            # If we are killed, uv may go on: it holds the lock until it is done with the folder.
            pass_fds=(lock,),
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {UV_TIMEOUT_S:g} s"
    except OSError as error:
        return f"{uv} does not start: {error.strerror}"
    if ended.returncode == 0:
        return None
    text = ended.stderr.decode(errors="replace")
    tried.output = mask_urls(text)
    return sum_up_uv(text) or f"exit code {ended.returncode}"


def _refuse(wheel: Wheel, tried: _Tried) -> ToolchainError:
    # The last is what was to help; why the others did not is of less interest.
    *before, last = tried
    error = ToolchainError(
        f"no interpreter for opt (paddlelite {wheel.version}, {wheel.pythons}): {last}"
        + (f"; tried before: {'; '.join(before)}" if before else ""),
        f"check the network and uv's settings, then run this again (`uv python install 3.{wheel.minors[0]}` fetches "
        "the interpreter); without a network, set "
        f"{PYTHON_VARIABLE} to a {wheel.pythons} that has `pip install paddlelite=={wheel.version}`",
    )
    if tried.output:
        error.__cause__ = UvError(tried.output)
    return error
