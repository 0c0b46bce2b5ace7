"""A stand-in for Paddle-Lite's ARM library."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

_COMPILERS = {"armv8": "aarch64-linux-gnu-g++", "armv7hf": "arm-linux-gnueabihf-g++"}
_EMULATORS = {"armv8": "qemu-aarch64-static", "armv7hf": "qemu-arm-static"}


@pytest.fixture(scope="session")
def build_library(compile_stand_in) -> Callable[..., Path]:
    def build(arch: str = "armv8", **options: str) -> Path:
        if shutil.which(_EMULATORS[arch]) is None:
            pytest.skip(f"{_EMULATORS[arch]} is not installed")
        return compile_stand_in(_COMPILERS[arch], **options)

    return build


@pytest.fixture(scope="session")
def library(build_library) -> Path:
    return build_library()


@pytest.fixture
def list_programs() -> Callable[[Path], list[str]]:
    def list_in(folder: Path) -> list[str]:
        """Return the command line of each process that runs in `folder`, which may be gone."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if str(folder) in str((process / "cwd").readlink()):
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found

    return list_in
