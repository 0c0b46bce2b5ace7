"""What a board's processor is, and what Paddle-Lite 2.13 makes of it. Requires only Python."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")

_ARM = 0x41
# By implementer and part; arch/arm64/include/asm/cputype.h of Linux and sys-utils/lscpu-arm.c of util-linux.
_NAMES: dict[int, dict[int, str]] = {
    _ARM: {
        **{0xC05: "Cortex-A5", 0xC07: "Cortex-A7", 0xC08: "Cortex-A8", 0xC09: "Cortex-A9", 0xC0F: "Cortex-A15"},
        **{0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72"},
        **{0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77"},
        **{0xD40: "Neoverse-V1", 0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510"},
        **{0xD47: "Cortex-A710", 0xD48: "Cortex-X2", 0xD49: "Neoverse-N2", 0xD4B: "Cortex-A78C", 0xD80: "Cortex-A520"},
        **{0xD81: "Cortex-A720"},
    },
    0x48: {0xD40: "Cortex-A76 by HiSilicon"},
    0x4E: {0x003: "NVIDIA Denver 2", 0x004: "NVIDIA Carmel"},
    0x51: {0x802: "Kryo 3xx Gold", 0x803: "Kryo 3xx Silver", 0x804: "Kryo 4xx Gold", 0x805: "Kryo 4xx Silver"},
}

# get_cpu_arch() in lite/core/device_info.cc of v2.13-rc knows cores by part alone. Dot products take every core:
# has_dot() in device_info.h; fp16 takes one: has_fp16(). It knows some chips by name, too, to the same effect.
_LITE_DOT = frozenset((0x803, 0x804, 0x805, 0xD05, 0xD0D, 0xD40, 0xD41, 0xD44, 0xD46, 0xD47, 0xD48))
_LITE_FP16 = _LITE_DOT - {0xD46} | {0x802, 0xD0A}

# Linux's names (Documentation/arch/arm64/elf_hwcaps.rst), and ours.
_FEATURES = {"asimddp": "dot products", "asimdhp": "fp16", "i8mm": "int8 matrix products", "sve": "SVE"}


@dataclass(frozen=True)
class Processor:
    """A processor, and what Paddle-Lite 2.13 makes of it."""

    cores: Mapping[str, int]
    """How many of each, by name."""
    features: Sequence[str]
    """Those that matter here, by their names in /proc/cpuinfo."""
    has_dot: bool | None
    """Whether it has int8 dot products; None if the system does not say, as 32-bit ones before Linux 6.2."""
    lite_dot: bool
    """Whether Paddle-Lite uses dot products in kernels that compute in int8."""
    lite_fp16: bool
    """Whether Paddle-Lite computes in fp16 if it was built for that, unlike the official libraries."""
    unlisted: Sequence[str]
    """The cores that keep Paddle-Lite from using dot products."""

    def describe(self) -> tuple[str, str]:
        """Return one line about the processor, and one about Paddle-Lite on it."""
        cores = ", ".join(f"{count} × {name}" for name, count in self.cores.items())
        has = [text for name, text in _FEATURES.items() if name in self.features]
        if not self.has_dot:
            has.insert(0, "dot products unknown" if self.has_dot is None else "no dot products")
        lite = "int8 kernels use dot products" if self.lite_dot else "no dot products in int8 kernels"
        if self.lite_dot and self.has_dot is False:
            lite += ", which this processor lacks: models that compute in int8 crash"
        elif not self.lite_dot and self.has_dot is not False:
            lite += f", because its list lacks {', '.join(self.unlisted)}"
        lite += "; fp16 only in a library built for it" if self.lite_fp16 else "; no fp16"
        return f"processor: {cores}; {', '.join(has)}", f"Paddle-Lite 2.13: {lite}"


def read_processor() -> Processor | None:
    """Return this machine's processor; None if it is not ARM's, or if the system does not describe it."""
    try:
        return parse_processor(_CPUINFO.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None


def parse_processor(cpuinfo: str) -> Processor | None:
    """Return the processor that the text of /proc/cpuinfo describes; None if that names no ARM core."""
    implementer, listed, parts, features = 0, 0, [], None
    for line in cpuinfo.splitlines():
        key, value = (text.strip() for text in line.partition(":")[::2])
        listed += key == "processor"
        if key == "CPU implementer":
            implementer = _read_hex(value)
        elif key == "CPU part":
            parts.append((implementer, _read_hex(value)))
        elif key == "Features":
            words = frozenset(value.split())
            features = words if features is None else features & words
    if not parts:
        return None
    # Old systems list the last part once; Paddle-Lite, too, gives it to the cores that follow.
    parts += parts[-1:] * (listed - len(parts))
    features = features or frozenset()
    has_dot = True if "asimddp" in features else False if "asimd" in features else None
    unlisted = dict.fromkeys(f"{_name(*core)} (part 0x{core[1]:03x})" for core in parts if core[1] not in _LITE_DOT)
    return Processor(
        cores=dict(Counter(_name(*core) for core in parts)),
        features=[name for name in _FEATURES if name in features],
        has_dot=has_dot,
        lite_dot=not unlisted,
        lite_fp16=any(part in _LITE_FP16 for _, part in parts),
        unlisted=list(unlisted),
    )


def _read_hex(text: str) -> int:
    return int(text, 16) if re.fullmatch(r"(0x)?[0-9a-fA-F]{1,8}", text) else 0


def _name(implementer: int, part: int) -> str:
    return _NAMES.get(implementer, {}).get(part) or f"unknown core of implementer 0x{implementer:02x}"
