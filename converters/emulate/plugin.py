"""Finds the emulator that counts, and builds the plugin and the program with which it does."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from converters.lite.compiler import MACHINES, Arch, run_compiler
from converters.processes.child import make_environment, run_child
from edge_ocr.errors import NotVerifiedError, ToolchainError, UsageError

ARCH: Arch = "armv8"
"""The only architecture whose loads and stores the plugin knows."""

SOURCES = Path(__file__).parent

_MAX_CACHE_BYTES = 2**30


@dataclass(frozen=True)
class Cache:
    """Two levels of data cache, 8 ways each, least recently used, write back, write allocate; empty at the start."""

    l1_bytes: int = 32 * 1024
    l2_bytes: int = 512 * 1024
    line_bytes: int = 64

    def __post_init__(self) -> None:
        """Raise UsageError for sizes that the plugin cannot model."""
        if self.line_bytes not in (16, 32, 64, 128, 256):
            raise UsageError(f"a cache line of {self.line_bytes} bytes, expected 16, 32, 64, 128 or 256")
        for name, size in (("l1", self.l1_bytes), ("l2", self.l2_bytes)):
            # The library reads the sizes in KB.
            least = max(8 * self.line_bytes, 1024)
            if not least <= size <= _MAX_CACHE_BYTES or size & (size - 1):
                raise UsageError(f"{name} of {size} bytes, expected a power of two from {least} to {_MAX_CACHE_BYTES}")


def find_emulator() -> str:
    """Return the path of a qemu-aarch64 that loads plugins.

    Raises NotVerifiedError, which names Debian's package, if there is none.
    """
    name = MACHINES[ARCH].qemu
    hint = "run apt install qemu-user (qemu-user-static cannot load plugins)"
    found = shutil.which(name)
    if found is None:
        raise NotVerifiedError(f"{name} is missing: it counts what programs for {ARCH} execute", hint)
    try:
        said = run_child([found, "--help"], 60, env=make_environment(), join_stderr=True).stdout
    except (ToolchainError, subprocess.TimeoutExpired) as error:
        raise NotVerifiedError(f"{found} does not run: {error}", hint) from None
    if b"-plugin" not in said:
        raise NotVerifiedError(f"{found} cannot load plugins", hint)
    return found


def build_plugin(folder: Path) -> Path:
    """Build the plugin in `folder` and return its path.

    Raises NotVerifiedError if this machine's C compiler is missing or fails.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    hint = "run apt install gcc libc6-dev"
    if compiler is None:
        raise NotVerifiedError("cc is missing: it builds the emulator's plugin", hint)
    plugin = folder / "count.so"
    command = [compiler, "-std=c11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden"]
    run_compiler([*command, "-o", str(plugin), str(SOURCES / "count.c")], "the emulator's plugin", hint, hint)
    return plugin


def make_command(emulator: str, plugin: str, report: str, device: str, *, cpu: str, cache: Cache | None) -> list[str]:
    """Return the command prefix that runs a program for armv8 and writes its counts to `report`.

    `plugin`, `report` and the folder `device` are names in the folder in which the command runs: a comma would end a
    path. Without `cache`, nothing is modelled.

    Raises UsageError if `cpu` is not a name.
    """
    if not re.fullmatch(r"[\w.,+=-]+", cpu):
        raise UsageError(f"--cpu {cpu!r}: expected the name of a processor", "list them with qemu-aarch64 -cpu help")
    options = f"./{plugin},out={report}"
    if cache is not None:
        options += f",l1={cache.l1_bytes},l2={cache.l2_bytes},line={cache.line_bytes}"
    # The seed fixes what the C library draws at random.
    return [emulator, "-cpu", cpu, "-seed", "0", "-L", device, "-plugin", options]
