"""Runs numbered cases of a fuzz test in a separate process, with limits on memory and on the time of each case.

A program: `run_cases.py TEST_FILE FOLDER FIRST COUNT TARGET SECONDS`. The test file, loaded by its path, has `warm_up`,
`make_case(number, seeds)`, which returns the files of a case by their names, `TARGETS`, each of which is given a folder
with these files and returns how far it came, and `check_message`. Left in FOLDER are `number`, of the case that is
under way, and `summary.json`.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import json
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

# The limit for one case, which has some ten kilobytes.
MEMORY_BYTES = 512 * 2**20


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_seeds(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "seeds").iterdir())}


def write_case(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def main(test: str, place: str, first: str, count: str, target: str, seconds: str) -> None:
    from edge_ocr.errors import EdgeOcrError

    faulthandler.enable()
    module, folder = load(Path(test)), Path(place)
    seeds = read_seeds(folder)
    # Libraries load parts on first use; that must happen before memory is limited.
    module.warm_up(folder / "case", seeds)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    targets = {**module.TARGETS, **{name: target for name, (target, _) in MISBEHAVING.items()}}
    ends: Counter[str] = Counter()
    slowest, slowest_number = 0.0, -1
    with (folder / "number").open("wb", buffering=0) as under_way:
        for number in range(int(first), int(first) + int(count)):
            os.pwrite(under_way.fileno(), str(number).encode(), 0)
            write_case(folder / "case", module.make_case(number, seeds))
            faulthandler.dump_traceback_later(float(seconds), exit=True)
            started = time.perf_counter()
            try:
                ends[targets[target](folder / "case")] += 1
            except EdgeOcrError as error:
                module.check_message(error)
                ends["refused"] += 1
            if time.perf_counter() - started > slowest:
                slowest, slowest_number = time.perf_counter() - started, number
    faulthandler.cancel_dump_traceback_later()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    summary = {**ends, "slowest_seconds": slowest, "slowest_number": slowest_number, "grown_bytes": grown}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def raise_another_error(folder: Path) -> str:
    return {}["place"]


def take_memory(folder: Path) -> str:
    return str(len(bytearray(2 * MEMORY_BYTES)))


def take_time(folder: Path) -> str:
    time.sleep(60)
    return ""


def crash(folder: Path) -> str:
    faulthandler._sigsegv()
    return ""


# These misbehave on purpose, to show that it is detected.
MISBEHAVING = {
    "raise_another_error": (raise_another_error, "KeyError: 'place'"),
    "take_memory": (take_memory, "MemoryError"),
    "take_time": (take_time, r"Timeout \(0:00:01\)!"),
    "crash": (crash, "Segmentation fault"),
}

if __name__ == "__main__":
    main(*sys.argv[1:])
