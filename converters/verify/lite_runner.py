"""Runs .nb models on a real Paddle-Lite library for ARM: under qemu on this machine, or on a board over ssh."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from converters.lite.compiler import COMPILE_TIMEOUT_S, MACHINES, SOURCES, Arch, find_compiler, name_packages
from converters.lite.libraries.elf import inspect_library
from converters.processes.child import make_environment, name_end, run_child
from converters.processes.ssh import parse_ssh
from converters.text import Report
from converters.verify.lite_board import name_sysroot, open_board
from converters.verify.lite_process import (
    PROGRAM,
    RUN_TIMEOUT_S,
    START_TIMEOUT_S,
    LiteProcess,
    explain_nothing,
    quote_last,
    refuse_version,
)
from edge_ocr.core.lite_ocr import MAX_THREADS
from edge_ocr.errors import ModelError, NotVerifiedError, ToolchainError, UsageError

_Name = TypeVar("_Name", bound=str)


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
    address = None if runner == "qemu" else parse_ssh(runner)
    if not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"{threads} threads, expected 1 to {MAX_THREADS}")
    for model in models.values():
        if not model.is_file():
            raise ModelError(f"{model}: no such file")
    needed_name = _check_library(library, arch, expected_version)
    with ExitStack() as stack:
        # Steps that often fail come before steps that take long.
        emulator = _find_emulator(arch) if address is None else []
        board = None if address is None else stack.enter_context(open_board(address, arch, report))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-ocr-")))
        report(f"building {PROGRAM} for {arch}")
        program = build_program(arch, library.resolve(), include_dir, folder)
        if board is None:
            (folder / needed_name).symlink_to(library.resolve())
            place, explain = f"under {Path(emulator[0]).name}", explain_nothing
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
    """Return the name under which a program that is linked with the library looks it up."""
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


def build_program(arch: Arch, library: Path, include_dir: Path, folder: Path) -> Path:
    """Build the program that serves a model on `library`, as `folder`/edge-ocr-lite-serve, and return its path.

    The program looks for the library, under its soname, in its own folder. `include_dir` holds paddle_api.h.

    Raises NotVerifiedError, with the compiler's last lines, if the build fails.
    """
    compiler = find_compiler(arch)
    program = folder / PROGRAM
    # Stop at the first error: later ones follow from it.
    command = [compiler, "-std=c++11", "-O2", "-Wfatal-errors", "-I", str(SOURCES), "-I", str(include_dir)]
    command += [str(SOURCES / "lite_serve.cpp"), str(SOURCES / "edge_ocr_lite.cpp"), "-o", str(program)]
    # By name, not by path, so that a library without a soname is recorded under its file name only. Its dependencies
    # are left to the loader, whose messages are clearer than the linker's.
    command += [f"-L{library.parent}", f"-l:{library.name}", "-Wl,-rpath,$ORIGIN", "-Wl,--allow-shlib-undefined"]
    try:
        ended = run_child(command, COMPILE_TIMEOUT_S, env=make_environment())
    except ToolchainError as error:
        raise NotVerifiedError(error.message, name_packages(MACHINES[arch])) from None
    except subprocess.TimeoutExpired:
        raise NotVerifiedError(f"{compiler} did not finish within {COMPILE_TIMEOUT_S:g} s") from None
    if ended.returncode != 0:
        raise NotVerifiedError(
            f"the program for {library} does not build: {name_end(ended.returncode)}{quote_last(ended.stderr)}",
            "use headers and library of one release, built for GCC's standard library as `armlinux` is",
        )
    return program


def _find_emulator(arch: Arch) -> list[str]:
    """Return the command prefix that runs programs for `arch` on this machine."""
    machine = MACHINES[arch]
    qemu = shutil.which(f"{machine.qemu}-static") or shutil.which(machine.qemu)
    if qemu is None:
        raise NotVerifiedError(f"{machine.qemu}-static is missing: it runs programs for {arch}", name_packages(machine))
    return [qemu, "-L", str(_find_sysroot(arch))]


def _find_sysroot(arch: Arch) -> Path:
    machine = MACHINES[arch]
    candidates = [name_sysroot(machine)]
    with suppress(ToolchainError, subprocess.TimeoutExpired):
        said = run_child([find_compiler(arch), "-print-sysroot"], 60, env=make_environment())
        # Debian's compilers print "/", which would select this machine's loader.
        candidates += [Path(line) for line in said.stdout.decode(errors="replace").splitlines() if line.strip("/ ")]
    for folder in candidates:
        if Path(f"{folder}{machine.loader}").exists():
            return folder
    looked = ", ".join(f"{folder}{machine.loader}" for folder in candidates)
    raise NotVerifiedError(f"no C library for {arch}: looked for {looked}", f"apt install {machine.libc_package}")
