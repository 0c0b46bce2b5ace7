"""What the emulator counted, and the reader of its report, which `count.c` describes."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from edge_ocr.errors import NotVerifiedError


@dataclass(frozen=True)
class Counts:
    """What a piece of a run executed."""

    instructions: int = 0
    loads: int = 0
    """Instructions that read memory."""
    stores: int = 0
    """Instructions that write memory."""
    read_bytes: int = 0
    """What the cache model fetched from memory; 0 without one."""
    written_bytes: int = 0
    """What the cache model wrote back to memory; 0 without one."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Counts)))


@dataclass(frozen=True)
class RunCounts:
    """What one run of a network executed."""

    total: Counts
    outside: Counts
    """Before the first op; `total` is this and all ops."""
    ops: tuple[Counts, ...]
    """In the order of execution."""
    blocks: Mapping[int, int]
    """Instructions by the address of the block of code that they belong to."""

    def sum_kernels(self, symbols: Sequence[tuple[int, str]], start: int, end: int) -> dict[str, int]:
        """Return the instructions of each function, most first, of a library that is loaded from `start` to `end`.

        `symbols` are address and name, sorted.
        """
        addresses = [address for address, _ in symbols]
        found: Counter[str] = Counter()
        for address, instructions in self.blocks.items():
            place = bisect_right(addresses, address - start) - 1
            found[symbols[place][1] if start <= address < end and place >= 0 else OTHER_CODE] += instructions
        return dict(found.most_common())


OTHER_CODE = "(outside the library)"

# With v2.13-rc it is about 1500 for every network. More is an op: the emulator then took its end for its beginning.
_MOST_OUTSIDE = 3000

_RECORD = re.compile(r"(total|op|block) (-1|\d{1,9}) (?:([0-9a-f]{1,16}) (\d{1,19})|(\d{1,19}(?: \d{1,19}){4}))")


def parse_report(text: str, op_count: int, name: str) -> RunCounts:
    """Read the report of one run of `op_count` ops; `name` appears in errors.

    Raises NotVerifiedError if it is damaged, incomplete, or for another number of ops.
    """
    ops: list[Counts] = []
    blocks: Counter[int] = Counter()
    total, pending = None, 0
    for number, line in enumerate(text.splitlines(), 1):
        match = _RECORD.fullmatch(line)
        kind, index = (match[1], int(match[2])) if match else ("", 0)
        if match is None or (kind == "block") != (match[5] is None) or total is not None:
            raise NotVerifiedError(f"{name}: line {number} of the emulator's report is damaged: {line[:80]!r}")
        if kind == "total":
            total = Counts(*map(int, match[5].split()))
            if index != len(ops) - 1 or sum(ops, Counts()) != total:
                raise NotVerifiedError(f"{name}: line {number} of the emulator's report is not the sum of its ops")
            continue
        if index != len(ops) - 1:
            raise NotVerifiedError(
                f"{name}: line {number} of the emulator's report has op {index}, expected {len(ops) - 1}"
            )
        if kind == "block":
            blocks[int(match[3], 16)] += int(match[4])
            pending += int(match[4])
            continue
        ops.append(Counts(*map(int, match[5].split())))
        if ops[-1].instructions != pending:
            raise NotVerifiedError(f"{name}: line {number} of the emulator's report is not the sum of its blocks")
        pending = 0
    if total is None:
        raise NotVerifiedError(f"{name}: the emulator's report ends early, after {len(ops)} records of ops")
    if len(ops) != op_count + 1:
        raise NotVerifiedError(f"{name}: the emulator counted {len(ops) - 1} ops, expected {op_count}")
    if op_count and ops[0].instructions > _MOST_OUTSIDE:
        raise NotVerifiedError(
            f"{name}: {ops[0].instructions} instructions before the first op, expected at most {_MOST_OUTSIDE}: the "
            "code between ops was not found",
            "use the official library, or one that its compiler built",
        )
    return RunCounts(total, ops[0], tuple(ops[1:]), blocks)


def parse_symbols(listing: str) -> list[tuple[int, str]]:
    """Return address and name of each function in the output of `nm -C`, sorted."""
    found = (re.fullmatch(r"([0-9a-f]{8,16}) [tTwW] (.+)", line) for line in listing.splitlines())
    return sorted((int(match[1], 16), match[2]) for match in found if match)
