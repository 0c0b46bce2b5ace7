"""Measures the time of each stage, and memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .types import Reading

_Image = TypeVar("_Image")

_THERMAL = Path("/sys/class/thermal")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def measure(read: Callable[[_Image], Reading], images: Sequence[_Image], *, warmup: int, runs: int) -> dict[str, Any]:
    """Read all `images` `runs` times, after `warmup` readings that do not count, and return figures as JSON values.

    `stages_ms`: p50 and p95 of each stage and of all (`total`), in milliseconds; `rss_mb`: resident memory of the
    process after the warm-up (`first`), half-way (`half`), at the end (`last`) and at its peak (`peak`), in 10^6 bytes;
    `lines`: how many lines one run reads.
    """
    for index in range(warmup):
        read(images[index % len(images)])
    memory = [get_rss_mb()]
    times: dict[str, list[float]] = {}
    lines = 0
    for run in range(runs):
        for image in images:
            started = time.perf_counter()
            reading = read(image)
            total = (time.perf_counter() - started) * 1000
            for stage, spent in {**reading.timings_ms, "total": total}.items():
                times.setdefault(stage, []).append(spent)
            lines += len(reading.lines) if run == 0 else 0
            memory.append(get_rss_mb())
    return {
        "images": len(images),
        "lines": lines,
        "runs": runs,
        "warmup": warmup,
        "stages_ms": {stage: _describe(spent) for stage, spent in times.items()},
        "rss_mb": {
            "first": memory[0],
            "half": memory[len(memory) // 2],
            "last": memory[-1],
            "peak": _get_peak_mb(),
        },
    }


def get_rss_mb() -> float:
    """Return the resident memory of this process, in 10^6 bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 1e6, 1)


def _get_peak_mb() -> float:
    # Linux reports units of 1024 bytes.
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)


def read_temperature() -> float | None:
    """Return the highest temperature that the kernel reports, in °C; None if it reports none."""
    found = [_read(zone) for zone in _list(_THERMAL, "thermal_zone*/temp")]
    return max((int(text) / 1000 for text in found if text.lstrip("-").isdigit()), default=None)


def read_governor() -> str | None:
    """Return the frequency governor of the first core, such as `ondemand`; None if unknown."""
    return _read(_GOVERNOR) or None


def _list(folder: Path, pattern: str) -> Iterable[Path]:
    return folder.glob(pattern) if folder.is_dir() else ()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _describe(spent: list[float]) -> dict[str, float]:
    p50, p95 = np.percentile(spent, [50, 95])
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}
