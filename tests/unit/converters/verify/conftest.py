"""A stand-in for Paddle-Lite's ARM library."""

from __future__ import annotations

import shutil
from collections.abc import Callable
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
