"""Cross compilers for ARM, and where the C++ that they compile is."""

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
"""Of boards; what `edge-ocr export --arch` calls them."""


COMPILE_TIMEOUT_S = 300.0


SOURCES = Path(base.__file__).with_name("lite_shim")


@dataclass(frozen=True)
class Machine:
    triplet: str
    """What Debian calls it: prefix of the compiler, name of the folder with its libraries."""
    compiler_package: str
    libc_package: str
    qemu: str
    loader: str
    """Without it, no program for the architecture starts."""
    kernels: tuple[str, ...]
    """`uname -m` of boards that may run it."""


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
    """Return the path of the C++ compiler that makes programs for `arch`.

    Raises NotVerifiedError, naming Debian's package, where there is none.
    """
    machine = MACHINES[arch]
    name = f"{machine.triplet}-g++"
    found = shutil.which(name)
    if found is None:
        raise NotVerifiedError(f"{name} is missing, which builds the program for {arch}", name_packages(machine))
    return found


def name_packages(machine: Machine) -> str:
    return f"apt install {machine.compiler_package} qemu-user-static"
