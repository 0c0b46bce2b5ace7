"""Count what ARM executes for each network of bundles, as a Markdown table.

    edge-ocr export --target arm --no-optimize --out opt && edge-ocr export --target arm --out today
    python -m benchmarks.arm "opt alone"=opt today=today [--shape det=480x320 ...] [--no-cache]

Needs what `edge-ocr bench --emulate` needs: a Paddle-Lite library for armv8 (EDGE_OCR_LITE_LIB), Debian's qemu-user,
gcc and g++-aarch64-linux-gnu. These are instructions, not device time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from converters.emulate.counts import Counts
from converters.emulate.meter import NOTE, NetworkCounts, Shape, list_shapes, open_bundle, open_meter
from converters.emulate.plugin import Cache
from converters.text import format_figure
from edge_ocr.cli.bench import parse_shape
from edge_ocr.errors import EdgeOcrError
from edge_ocr.models.types import Kind

PAGE_LINES = 30
PAGE: tuple[tuple[Kind, Shape], tuple[Kind, Shape]] = (("det", (960, 704)), ("rec", (48, 320)))

HEADS = (
    "",
    "bundle",
    "million instructions",
    "of the first",
    "loads + stores, millions",
    "MB read + written",
    "max |Δ|",
)

Counted = Mapping[tuple[Kind, Shape], NetworkCounts]


def print_row(cells: tuple[str, ...]) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def format_counts(counts: Counts, first: Counts) -> tuple[str, ...]:
    return (
        f"{counts.instructions / 1e6:.1f}",
        f"{counts.instructions / first.instructions:.3f}",
        f"{counts.loads / 1e6:.1f} + {counts.stores / 1e6:.1f}",
        f"{counts.read_bytes / 1e6:.1f} + {counts.written_bytes / 1e6:.1f}",
    )


def list_rows(counted: Mapping[str, Counted]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of each network and shape, a row a bundle, then those of a page of 30 lines."""
    for place in dict.fromkeys(place for each in counted.values() for place in each):
        kind, (height, width) = place
        title, first = f"{kind} at {height} × {width}", None
        for name, each in counted.items():
            if place in each:
                total = each[place].total
                first = first or total
                yield title, name, *format_counts(total, first), format_figure(each[place].max_abs_diff)
                title = ""
    title, first = f"page: {PAGE[0][0]} at 960 × 704, {PAGE_LINES} lines at 48 × 320", None
    for name, each in counted.items():
        if all(place in each for place in PAGE):
            total = sum([each[PAGE[1]].total] * PAGE_LINES, each[PAGE[0]].total)
            first = first or total
            yield title, name, *format_counts(total, first), ""
            title = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--shape", action="append", metavar="NET=HxW")
    parser.add_argument("--cpu", default="max")
    parser.add_argument("--cpuinfo", type=Path)
    parser.add_argument("--no-cache", action="store_true")
    try:
        count_bundles(parser.parse_args())
    except EdgeOcrError as error:
        sys.exit(f"{error.message}\n{error.hint or ''}".strip())


def count_bundles(options: argparse.Namespace) -> None:
    cache, counted = Cache(), {}
    for text in options.bundles:
        name, _, folder = text.rpartition("=")
        bundle = open_bundle(Path(folder))
        places = [parse_shape(shape) for shape in options.shape or ()] or list_shapes(bundle)
        with open_meter(
            bundle,
            cache=cache,
            is_modelled=not options.no_cache,
            cpu=options.cpu,
            cpuinfo=options.cpuinfo,
            report=lambda step, name=name: print(f"{name}: {step}", file=sys.stderr),
        ) as meter:
            counted[name or folder] = {place: meter.count(*place) for place in places}
    print_row(HEADS)
    print("|---|---|" + "---:|" * (len(HEADS) - 2))
    for row in list_rows(counted):
        print_row(row)
    print(f"\n{NOTE}; {options.cpu}, {cache.l1_bytes // 1024} KB and {cache.l2_bytes // 1024} KB of cache")


if __name__ == "__main__":
    main()
