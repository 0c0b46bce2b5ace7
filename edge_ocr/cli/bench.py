"""`edge-ocr bench`: count what ARM executes for each network of a bundle."""

from __future__ import annotations

import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_ocr.cli import options
from edge_ocr.cli.output import print_json, print_line, print_rows
from edge_ocr.cli.output import report as status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converters.bundle.reader import Bundle
    from converters.emulate.counts import Counts
    from converters.emulate.meter import Meter, NetworkCounts, Shape
    from converters.emulate.plugin import Cache
    from edge_ocr.models.types import Kind

_COLUMNS = ("M instructions", "M loads", "M stores", "MB read", "MB written")
# Ten times what kernels that compute right were seen to differ by.
_MOST_DIFFERENT = 1e-3
_MEAN_DIFFERENT = 1e-2

_UNITS = {"": 1, "K": 2**10, "M": 2**20}


def bench(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that edge-ocr export made.")],
    emulate: Annotated[bool, typer.Option("--emulate", help="Count on this machine; required.")] = False,
    shape: Annotated[
        list[str] | None, typer.Option(metavar="NET=HxW", help="Count only this, as det=480x320; repeatable.")
    ] = None,
    l1: Annotated[str, typer.Option(metavar="SIZE", help="Level 1 data cache.")] = "32K",
    l2: Annotated[str, typer.Option(metavar="SIZE", help="Level 2 cache.")] = "512K",
    line: Annotated[int, typer.Option(metavar="BYTES", help="Line of both.")] = 64,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Do not count bytes from memory.")] = False,
    cpu: Annotated[str, typer.Option(metavar="NAME", help="Processor that qemu emulates.")] = "max",
    cpuinfo: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A board's /proc/cpuinfo, which the library sees.")
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="How many types of ops and kernels to list.")] = 10,
    ops: Annotated[bool, typer.Option("--ops", help="List every op, not types of ops.")] = False,
    as_json: options.Json = False,
) -> None:
    """Count what ARM executes for each network of a bundle.

    Runs each network on the real Paddle-Lite library for armv8, with one thread, under an emulator that counts
    instructions, loads, stores, and the bytes that pass between a modelled cache (two levels, 8 ways, empty at the
    start) and memory. These are instructions, not device time; time on a board is measured by `./edge-ocr-lite bench`.
    By default, the shapes are 480x320 and 960x704 for det, 48x320 and 48x640 for rec, and the input shapes of cls and
    page. A library with symbols adds kernels.

    Exit codes: 0: counted. 2: invalid option. 5: no valid bundle. 9: a tool or the library is missing, or a run failed.
    """
    from converters.emulate.meter import check_shape, list_shapes, open_bundle, open_meter
    from converters.emulate.plugin import Cache
    from edge_ocr.errors import UsageError

    if not emulate:
        raise UsageError(
            "edge-ocr bench needs --emulate: it counts instructions on this machine",
            "add --emulate, or measure time on a board with ./edge-ocr-lite bench",
        )
    seen = Cache(_parse_size("--l1", l1), _parse_size("--l2", l2), line)
    cache = None if no_cache else seen
    chosen = [parse_shape(text) for text in shape or ()]
    opened = open_bundle(bundle)
    for each in chosen:
        check_shape(opened, *each)
    with open_meter(opened, cache=seen, is_modelled=not no_cache, cpu=cpu, cpuinfo=cpuinfo, report=status) as meter:
        counted = [meter.count(*each) for each in chosen or list_shapes(opened)]
    for one in counted:
        # Integers: a number between two of them may become either, and so does what follows from it.
        is_integer = one.kind in opened.computing
        diff, most = (one.mean_abs_diff, _MEAN_DIFFERENT) if is_integer else (one.max_abs_diff, _MOST_DIFFERENT)
        if diff > most:
            text = f"{one.kind} at {_format_shape(one.shape)}: the output differs from the host's by"
            mean = " on average" if is_integer else ""
            status(f"WARNING: {text} {diff:.2g}{mean}: Paddle-Lite computes it wrong on such a processor")
    if as_json:
        print_json(_describe(opened, meter, cpu, cache, counted))
    else:
        _print_tables(counted, cache, top, ops)


def _parse_size(option: str, text: str) -> int:
    from edge_ocr.errors import UsageError

    match = re.fullmatch(r"(\d{1,9})([KM]?)", text)
    if match is None:
        raise UsageError(f"{option} {text}: expected a number of bytes, such as 32K")
    return int(match[1]) * _UNITS[match[2]]


def parse_shape(text: str) -> tuple[Kind, Shape]:
    """Return network, height and width of a text such as det=480x320. Raises UsageError for any other."""
    from typing import get_args

    from edge_ocr.errors import UsageError
    from edge_ocr.models.types import Kind

    match = re.fullmatch(r"(\w+)=(\d{1,5})x(\d{1,5})", text)
    kind = next((kind for kind in get_args(Kind) if match and kind == match[1]), None)
    if match is None or kind is None:
        raise UsageError(
            f"--shape {text}: expected {'|'.join(get_args(Kind))}=HEIGHTxWIDTH", "write --shape rec=48x320"
        )
    return kind, (int(match[2]), int(match[3]))


def _describe(
    bundle: Bundle, meter: Meter, cpu: str, cache: Cache | None, counted: Sequence[NetworkCounts]
) -> dict[str, Any]:
    from converters.emulate.meter import NOTE

    return {
        "bundle": str(bundle.folder),
        "precision": bundle.precision,
        "library": str(meter.library),
        "lite_version": meter.version,
        "arch": "armv8",
        "cpu": cpu,
        "threads": 1,
        "cache": None if cache is None else asdict(cache),
        "note": NOTE,
        "networks": [
            {
                "kind": one.kind,
                "shape": [1, 3, *one.shape],
                **_name_counts(one.total, cache),
                # JSON has no infinity, which stands for another shape.
                "max_abs_diff": one.max_abs_diff if math.isfinite(one.max_abs_diff) else None,
                "outside": _name_counts(one.outside, cache),
                "types": [
                    {"type": name, "ops": count, **_name_counts(counts, cache)}
                    for name, (count, counts) in one.sum_types().items()
                ],
                "ops": [{"index": op.index, "type": op.type, **_name_counts(op.counts, cache)} for op in one.ops],
                "kernels": None if one.kernels is None else dict(one.kernels),
            }
            for one in counted
        ],
    }


def _name_counts(counts: Counts, cache: Cache | None) -> dict[str, int | None]:
    return {name: value if cache or "bytes" not in name else None for name, value in asdict(counts).items()}


def _print_tables(counted: Sequence[NetworkCounts], cache: Cache | None, top: int, ops: bool) -> None:
    from converters.emulate.meter import NOTE
    from converters.text import format_figure
    from edge_ocr.core.errors import escape_text

    heads = ("network", "shape", *_COLUMNS, "max |Δ| to the host")
    rows = [
        (one.kind, _format_shape(one.shape), *_format(one.total, cache), format_figure(one.max_abs_diff))
        for one in counted
    ]
    print_rows(heads, rows)
    for one in counted:
        print_line(f"\n{one.kind} at {_format_shape(one.shape)}, by {'op' if ops else 'type of op'}:")
        if ops:
            lines = [(str(op.index), escape_text(op.type), op.counts) for op in one.ops]
        else:
            lines = [(str(count), escape_text(name), counts) for name, (count, counts) in one.sum_types().items()][:top]
        lines.append(("", "outside", one.outside))
        total = one.total.instructions
        print_rows(
            ("#" if ops else "ops", "op", *_COLUMNS, "share"),
            [(n, name, *_format(counts, cache), f"{counts.instructions / total:.1%}") for n, name, counts in lines],
        )
        if one.kernels is not None:
            print_rows(
                ("kernel", _COLUMNS[0], "share"),
                [
                    (escape_text(name)[:100], f"{count / 1e6:.2f}", f"{count / total:.1%}")
                    for name, count in list(one.kernels.items())[:top]
                ],
            )
    print_line("")
    if cache is not None:
        sizes = f"{cache.l1_bytes // 1024} KB and {cache.l2_bytes // 1024} KB, lines of {cache.line_bytes} bytes"
        print_line(f"memory: behind a modelled cache of {sizes}, 8 ways, least recently used, empty at the start")
    print_line(f"note: {NOTE}")


def _format(counts: Counts, cache: Cache | None) -> tuple[str, ...]:
    memory = [f"{size / 1e6:.2f}" if cache else "-" for size in (counts.read_bytes, counts.written_bytes)]
    return (*(f"{count / 1e6:.2f}" for count in (counts.instructions, counts.loads, counts.stores)), *memory)


def _format_shape(shape: Shape) -> str:
    return "×".join(map(str, shape))
