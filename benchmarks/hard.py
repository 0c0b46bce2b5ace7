"""Compare what edge-ocr and a peer find on the pictures of benchmarks.render_hard, as a table for each kind.

    python -m benchmarks.hard --images DIR [--kinds tall,strips] [--systems edge-ocr,rapidocr] [--by-picture]

DIR has a folder with a `gt.jsonl` for each kind. Each system reads a folder in its own process, as in benchmarks.host,
with the same names of systems. A ground-truth line is found if a box that overlaps it (IoU ≥ 0.3) has a similar text
(1-NED ≥ 0.5). No box counts twice; the most similar pairs are matched first. It is exact if the text is equal apart
from spaces, case and Unicode width. Extra lines are those that match no ground truth.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.host import (
    describe,
    describe_machine,
    find_interpreter,
    format_cell,
    make_lines,
    print_table,
    read_labels,
    run_system,
)
from benchmarks.render_hard import KINDS
from converters.verify.parity import fold_text, measure_iou, measure_similarity
from edge_ocr.core.pictures import list_pictures
from edge_ocr.core.types import TextLine
from edge_ocr.errors import EdgeOcrError

SYSTEMS = ("edge-ocr", "edge-ocr:1600", "edge-ocr:4000", "edge-ocr:v6", "rapidocr")
MEETING_IOU = 0.3
"""Lower than for box accuracy: the outline of a line without ascenders is half as high as a detector's box."""
ALIKE = 0.5

ROWS = {
    "wanted": ("ground-truth lines", "{:d}"),
    "found": ("found", "{:d}"),
    "exact": ("exact", "{:d}"),
    "extra": ("extra", "{:d}"),
    "whole": ("pictures read exactly", "{:d}"),
    "in_order": ("pictures in order", "{:d}"),
    "similarity": ("whole text, 1-NED", "{:.4f}"),
    "median_ms": ("median ms", "{:.0f}"),
    "cpu_ms": ("CPU, median ms", "{:.0f}"),
    "peak_mb": ("peak MB", "{:.0f}"),
}
# Wall-clock time and CPU time, which depends less on other programs: key of host_worker, key of ROWS.
SPENT = {"ms": "median_ms", "cpu_ms": "cpu_ms"}
# Figures that only apply to these kinds.
ONLY = {"whole": ("strips",), "in_order": ("tilted",), "similarity": ("ticker",)}


@dataclass(frozen=True)
class Score:
    """How one picture was read."""

    wanted: int
    found: int
    exact: int
    extra: int
    """Lines that match no ground truth."""
    in_order: bool
    """Every line is found, in the order of the ground truth."""
    whole: bool
    """The whole text, in order, is that of the ground truth."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="output of benchmarks.render_hard")
    parser.add_argument("--kinds", default=",".join(KINDS), help="default: %(default)s")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--by-picture", action="store_true", help="also print the lines found on each picture")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON of all runs")
    options = parser.parse_args()
    try:
        compare(options)
    except EdgeOcrError as error:
        raise SystemExit(f"{error.message}\n{error.hint or ''}") from None


def compare(options: argparse.Namespace) -> None:
    systems = options.systems.split(",")
    content = {"date": str(date.today()), "machine": describe_machine(), "threads": options.threads}
    print(f"{describe(content)}, load before the start {os.getloadavg()[0]:.1f}.")
    kept: dict[str, Any] = {}
    for kind in options.kinds.split(","):
        pictures = list_pictures(options.images / kind)
        labels = read_labels(options.images / kind / "gt.jsonl", required=True)
        runs = {}
        for system in systems:
            print(f"{system} reads {kind}", file=sys.stderr)
            runs[system] = attempt(system, pictures, options.threads)
        report(kind, pictures, labels, runs, by_picture=options.by_picture)
        sys.stdout.flush()  # a kind takes minutes
        kept[kind] = runs
    if options.out:
        options.out.write_text(json.dumps({**content, "runs": kept}, ensure_ascii=False) + "\n", encoding="utf-8")


def attempt(system: str, pictures: Sequence[Path], threads: int) -> dict[str, Any]:
    """Return the result of `run_system`, or only `error` if the system cannot run."""
    try:
        return run_system(system, find_interpreter(system), pictures, threads, keep_going=True)
    except EdgeOcrError as error:
        return {"error": error.message}


# --- scores


def match_lines(words: Sequence[Mapping[str, Any]], lines: Sequence[TextLine]) -> list[int]:
    """Return the index in `lines` of each ground-truth word (`poly`, `text`), -1 if it was not found."""
    pairs = []
    for i, word in enumerate(words):
        polygon, text = np.array(word["poly"], dtype=np.float32), fold_text(word["text"])
        for j, line in enumerate(lines):
            iou = measure_iou(polygon, line.polygon)
            if iou >= MEETING_IOU and (alike := measure_similarity(text, fold_text(line.text))) >= ALIKE:
                pairs.append((-alike, -iou, i, j))
    places, taken = [-1] * len(words), set()
    for _, _, i, j in sorted(pairs):
        if places[i] < 0 and j not in taken:
            places[i] = j
            taken.add(j)
    return places


def score_picture(words: Sequence[Mapping[str, Any]], lines: Sequence[TextLine]) -> Score:
    places = match_lines(words, lines)
    found = sum(place >= 0 for place in places)
    return Score(
        wanted=len(words),
        found=found,
        exact=sum(
            place >= 0 and fold_text(word["text"]) == fold_text(lines[place].text)
            for word, place in zip(words, places, strict=True)
        ),
        extra=len(lines) - found,
        in_order=found == len(words) and all(a < b for a, b in pairwise(places)),
        whole=join_text(word["text"] for word in words) == join_text(line.text for line in lines),
    )


def join_text(texts: Iterable[str]) -> str:
    return "".join(map(fold_text, texts))


def summarise(
    run: Mapping[str, Any], labels: Mapping[str, Sequence[Mapping[str, Any]]], kind: str
) -> tuple[dict[str, Any], dict[str, Score]]:
    """Return the figures of ROWS for a kind, and the score of each picture.

    A picture on which the system failed counts as one without lines and has no score. If all failed, only `wanted` is
    returned.
    """
    read = {image["image"]: image["lines"] for image in run.get("images", ()) if "error" not in image}
    scores = {name: score_picture(labels[name], make_lines(rows)) for name, rows in read.items()}
    figures: dict[str, Any] = {"wanted": sum(map(len, labels.values()))}
    if scores:
        for key in ("found", "exact", "extra", "whole", "in_order"):
            figures[key] = sum(getattr(score, key) for score in scores.values())
        if kind in ONLY["similarity"]:
            pairs = ((join_text(each["text"] for each in rows) for rows in (labels[name], read[name])) for name in read)
            figures["similarity"] = sum(measure_similarity(*pair) for pair in pairs) / len(labels)
        for key, figure in SPENT.items():
            figures[figure] = float(np.median([image[key] for image in run["images"] if key in image]))
        figures["peak_mb"] = run["peak_mb"]
    return {key: value for key, value in figures.items() if kind in ONLY.get(key, (kind,))}, scores


# --- tables


def report(
    kind: str,
    pictures: Sequence[Path],
    labels: Mapping[str, Sequence[Mapping[str, Any]]],
    runs: Mapping[str, Mapping[str, Any]],
    *,
    by_picture: bool,
) -> None:
    """Print the Markdown tables of a kind, then the failures."""
    figures, scores = {}, {}
    for system, run in runs.items():
        figures[system], scores[system] = summarise(run, labels, kind)
    told = [key for key in ROWS if any(key in each for each in figures.values())]
    rows = {system: [format_cell(ROWS[key][1], each.get(key)) for key in told] for system, each in figures.items()}
    print(f"\n{kind}, {len(pictures)} pictures:\n")
    print_table("", [ROWS[key][0] for key in told], rows)
    if kind == "tall":
        for key, title in (("ms", "ms per megapixel"), ("cpu_ms", "CPU ms per megapixel")):
            print_table(title, list(runs), measure_speed(pictures, runs, key))
    if by_picture:
        found = {
            name: [str(len(words)), *(format_cell("{0.found}", each.get(name)) for each in scores.values())]
            for name, words in labels.items()
        }
        print_table("found", ["of", *runs], found)
    for system, run in runs.items():
        failed = [run] if "error" in run else [image for image in run["images"] if "error" in image]
        for each in failed:
            print(f"{system}, {each.get('image', kind)}: {' '.join(each['error'].split())}")


def measure_speed(pictures: Sequence[Path], runs: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, list[str]]:
    """Return each picture's milliseconds per megapixel, by system: constant if time is linear in height."""
    spent = {
        system: {image["image"]: image.get(key) for image in run.get("images", ())} for system, run in runs.items()
    }
    table = {}
    for path in pictures:
        with Image.open(path) as picture:
            megapixels = picture.width * picture.height / 1e6
        cells = [each.get(path.name) for each in spent.values()]
        table[path.name] = [format_cell("{:.0f}", ms and ms / megapixels) for ms in cells]
    return table


if __name__ == "__main__":
    main()
