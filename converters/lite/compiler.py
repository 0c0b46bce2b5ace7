"""Cross compilers for ARM, and the C++ sources that they compile."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from converters.processes.child import make_environment, name_end, run_child
from converters.text import quote_last_lines
from edge_ocr.core.engines import base
from edge_ocr.errors import NotVerifiedError, ToolchainError

Arch = Literal["armv8", "armv7hf"]
"""Architectures of boards, as in `edge-ocr export --arch`."""


COMPILE_TIMEOUT_S = 300.0


SOURCES = Path(base.__file__).with_name("lite_shim")


@dataclass(frozen=True)
class Machine:
    triplet: str
    """Debian's name: the prefix of the compiler and the folder of its libraries."""
    compiler_package: str
    libc_package: str
    qemu: str
    loader: str
    """Path of the dynamic loader, which every program for the architecture needs."""
    kernels: tuple[str, ...]
    """Output of `uname -m` on boards that may run it."""


MACHINES: Mapping[Arch, Machine] = MappingProxyType(
    {
        "armv8": Machine(
            "aarch64-linux-gnu",
            "g++-aarch64-linux-gnu",
            "libc6-arm64-cross",
            "qemu-aarch64",
            "/lib/ld-linux-aarch64.so.1",
            ("aarch64",),
        ),
        "armv7hf": Machine(
            "arm-linux-gnueabihf",
            "g++-arm-linux-gnueabihf",
            "libc6-armhf-cross",
            "qemu-arm",
            "/lib/ld-linux-armhf.so.3",
            ("armv7l", "armv8l", "aarch64"),
        ),
    }
)


def find_compiler(arch: Arch) -> str:
    """Return the path of the C++ compiler for `arch`.

    Raises NotVerifiedError, which names Debian's package, if there is none.
    """
    machine = MACHINES[arch]
    name = f"{machine.triplet}-g++"
    found = shutil.which(name)
    if found is None:
        raise NotVerifiedError(f"{name} is missing, which builds programs for {arch}", name_packages(machine))
    return found


def name_packages(machine: Machine) -> str:
    """Return, as a hint, how to install the compiler and the emulator."""
    return f"run apt install {machine.compiler_package} qemu-user-static"


def build_program(arch: Arch, library: Path, include_dir: Path, program: Path, source: Path) -> None:
    """Build `program` from `source`, which runs models through edge_ocr_lite.h on `library`.

    The program looks for the library, under its soname, in its own folder. `include_dir` holds paddle_api.h.

    Raises NotVerifiedError, with the compiler's last lines, if the build fails.
    """
    compiler = find_compiler(arch)
    # Stop at the first error: later ones follow from it.
    command = [compiler, "-std=c++11", "-O2", "-Wfatal-errors", "-I", str(SOURCES), "-I", str(include_dir)]
    command += [str(source), str(SOURCES / "edge_ocr_lite.cpp"), "-o", str(program)]
    # By name, not by path, so that a library without a soname is recorded under its file name only. Its dependencies
    # are left to the loader, whose messages are clearer than the linker's.
    command += [
        f"-L{library.parent}",
        f"-l:{library.name}",
        "-Wl,-rpath,$ORIGIN",
        "-Wl,--allow-shlib-undefined",
        "-ldl",
    ]
    run_compiler(
        command,
        f"the program for {library}",
        name_packages(MACHINES[arch]),
        "use headers and library of one release, built for GCC's standard library as `armlinux` is",
    )


def run_compiler(command: list[str], what: str, start_hint: str, build_hint: str | None = None) -> None:
    """Run a compiler, which builds `what`.

    Raises NotVerifiedError, with the compiler's last lines if it fails. The hints are for a compiler that does not
    start and for one that fails.
    """
    try:
        ended = run_child(command, COMPILE_TIMEOUT_S, env=make_environment())
    except ToolchainError as error:
        raise NotVerifiedError(error.message, start_hint) from None
    except subprocess.TimeoutExpired:
        raise NotVerifiedError(f"{command[0]} did not finish within {COMPILE_TIMEOUT_S:g} s") from None
    if ended.returncode != 0:
        raise NotVerifiedError(
            f"{what} does not build: {name_end(ended.returncode)}{quote_last_lines(ended.stderr)}", build_hint
        )


def find_sysroot(arch: Arch) -> Path:
    """Return the folder with the C library for `arch` on this machine.

    Raises NotVerifiedError, which names Debian's package, if there is none.
    """
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


def name_sysroot(machine: Machine) -> Path:
    """Return the folder in which Debian installs the C library for `machine` on other machines."""
    return Path("/usr") / machine.triplet
