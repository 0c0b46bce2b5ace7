"""Cross compilers for ARM, and the C++ sources that they compile."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from edge_ocr.core.engines import base
from edge_ocr.errors import NotVerifiedError

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
