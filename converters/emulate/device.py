"""The device that a program finds under the emulator, in place of this machine.

Paddle-Lite chooses kernels by the parts in /proc/cpuinfo and the sizes of its blocks by the caches in /sys
(lite/core/device_info.cc): with those of this machine, counts would differ from machine to machine. qemu takes a file
from the folder in its option -L if it is there, else from this machine.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from converters.emulate.plugin import ARCH, Cache
from converters.lite.compiler import find_sysroot
from edge_ocr.errors import InputError, UsageError

_MAX_CPUINFO_BYTES = 2**20

# Part numbers (MIDR_EL1) from Arm's technical reference manuals, keyed by qemu's names. `max` is not a real processor.
_PARTS = {
    "cortex-a35": 0xD04,
    "cortex-a53": 0xD03,
    "cortex-a57": 0xD07,
    "cortex-a72": 0xD08,
    "cortex-a76": 0xD0B,
    "neoverse-n1": 0xD0C,
}

# As many as Paddle-Lite looks for.
_CACHE_INDEXES = 10


def make_device(folder: Path, cpu: str, cpuinfo: Path | None, cache: Cache) -> None:
    """Fill `folder` for qemu's option -L: the C library for armv8, and the processor's description.

    All cores are alike and have the caches of `cache`. `cpuinfo` is a copy of a board's /proc/cpuinfo; by default it
    names the part of `cpu`.

    Raises InputError if `cpuinfo` cannot be read, UsageError if it is not from an ARM processor, NotVerifiedError if
    there is no C library.
    """
    for entry in find_sysroot(ARCH).iterdir():
        # Some toolchains have these folders, which are made here.
        if entry.name not in ("proc", "sys"):
            (folder / entry.name).symlink_to(entry)
    text = _describe_cores(cpu) if cpuinfo is None else _read_cpuinfo(cpuinfo)
    (folder / "proc").mkdir()
    (folder / "proc" / "cpuinfo").write_text(text, encoding="utf-8")
    # A core that is missing here would be taken from this machine.
    count = max(os.cpu_count() or 1, _count_parts(text))
    system = folder / "sys" / "devices" / "system" / "cpu"
    core = system / "cpu0"
    files = {"uevent": "", "online": "1", "cpufreq/cpuinfo_max_freq": "1000000", "cpufreq/cpuinfo_min_freq": "1000000"}
    files["cpufreq/stats/time_in_state"] = "1000000 0"
    sizes = {0: (1, cache.l1_bytes), 1: (1, cache.l1_bytes), 2: (2, cache.l2_bytes)}
    for index in range(_CACHE_INDEXES):
        level, size = sizes.get(index, (0, 0))
        files[f"cache/index{index}/level"] = str(level)
        files[f"cache/index{index}/size"] = f"{size // 1024}K"
    for name, content in files.items():
        (core / name).parent.mkdir(parents=True, exist_ok=True)
        (core / name).write_text(f"{content}\n", encoding="ascii")
    (system / "online").write_text(f"0-{count - 1}\n" if count > 1 else "0\n", encoding="ascii")
    for number in range(1, count):
        (system / f"cpu{number}").symlink_to("cpu0")


def _describe_cores(cpu: str) -> str:
    part = _PARTS.get(cpu)
    return "processor\t: 0\n" + ("" if part is None else f"CPU implementer\t: 0x41\nCPU part\t: {part:#x}\n")


def _count_parts(cpuinfo: str) -> int:
    return len(re.findall(r"^CPU part\t: 0x[0-9a-f]{1,4}\r?$", cpuinfo, re.MULTILINE))


def _read_cpuinfo(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_CPUINFO_BYTES).decode(errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", "copy /proc/cpuinfo from a board") from None
    if not _count_parts(text):
        raise UsageError(f"--cpuinfo {path}: names no `CPU part`", "copy /proc/cpuinfo from an ARM board")
    return text
