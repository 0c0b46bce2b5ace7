"""Measure how well boxes of characters and words match the truth, on 200 lines of benchmarks.render_words.

    python -m benchmarks.words [--save DIR] [--system NAME ...] [--rapidocr PYTHON] [--json FILE]

NAME is a pipeline, `rapidocr`, or `equal`: the boxes of the `OCR` pipeline's lines, divided equally between the
characters of each. PYTHON is the interpreter of an environment with RapidOCR 3; by default, one is made.

The truth and the text that was read are aligned at the least edit distance, spaces left out. A character is read if it
is aligned to an equal one; only characters and words that were read count in means. IoU is that of polygons; `along` is
that of their extents along the line, so it ignores the height. Errors of edges are along the line, positive if the
edge is too far right (for turned lines, too far down). A word matches if its characters are aligned to equal ones that
are all of one word of the result; it is `joined` if they are all of several words. Then the hull of these is compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.peers import find_peer
from benchmarks.render_words import GROUPS, Line, Part, Picture, render_lines, save_pictures, split_words
from edge_ocr import create_pipeline
from edge_ocr.core.types import Polygon

SYSTEMS = ("OCR", "OCR-tiny", "OCR-v6", "rapidocr")


@dataclass(frozen=True)
class FoundLine:
    """What a system returned for a line, in the order in which it is read."""

    characters: Sequence[Part] = ()
    words: Sequence[Part] = ()


Read = Callable[[Sequence[Path]], list[list[FoundLine]]]


@dataclass
class Boxes:
    """How boxes match the truth."""

    total: int = 0
    ious: list[float] = field(default_factory=list)
    along: list[float] = field(default_factory=list)
    edges: list[tuple[float, float]] = field(default_factory=list)
    """Errors of the left and the right edge, in ems."""

    def add(self, truth: Polygon, found: Polygon, line: Line) -> None:
        left, right = find_extent(truth, line)
        found_left, found_right = find_extent(found, line)
        both = max(0.0, min(right, found_right) - max(left, found_left))
        self.ious.append(measure_iou(truth, found))
        self.along.append(both / (max(right - left, 1e-6) + max(found_right - found_left, 0) - both))
        self.edges.append(((found_left - left) / line.em, (found_right - right) / line.em))

    def extend(self, other: Boxes) -> None:
        self.total += other.total
        self.ious += other.ious
        self.along += other.along
        self.edges += other.edges

    def describe(self) -> dict[str, Any]:
        """Return the figures; all but `total` and `read` are None if nothing was read."""
        if not self.ious:
            return {
                "total": self.total,
                "read": 0.0,
                **dict.fromkeys(("iou", "worst", "along", "left", "right", "off")),
            }
        edges = np.array(self.edges)
        left, right = edges.mean(axis=0).tolist()
        return {
            "total": self.total,
            "read": len(self.ious) / self.total,
            "iou": float(np.mean(self.ious)),
            "worst": float(np.percentile(self.ious, 10)),
            "along": float(np.mean(self.along)),
            "left": left,
            "right": right,
            "off": float(np.abs(edges).mean()),
        }


@dataclass
class Score:
    """The boxes of some lines."""

    lines: int = 0
    characters: Boxes = field(default_factory=Boxes)
    words: Boxes = field(default_factory=Boxes)
    joined: Boxes = field(default_factory=Boxes)
    """Words, and also those that the result has in several parts."""

    def extend(self, other: Score) -> None:
        self.lines += other.lines
        self.characters.extend(other.characters)
        self.words.extend(other.words)
        self.joined.extend(other.joined)

    def describe(self) -> dict[str, Any]:
        return {
            "lines": self.lines,
            "characters": self.characters.describe(),
            "words": self.words.describe(),
            "joined": self.joined.describe(),
        }


def find_extent(polygon: Polygon, line: Line) -> tuple[float, float]:
    """Return where a box begins and ends along the line, in pixels."""
    ends = np.sort(np.asarray(polygon, float) @ line.direction)
    return float(ends[:2].mean()), float(ends[2:].mean())


def measure_iou(first: Polygon, second: Polygon) -> float:
    """Return the IoU of two convex polygons, whichever way round their corners are."""
    first, second = (cv2.convexHull(np.asarray(each, np.float32)) for each in (first, second))
    areas = cv2.contourArea(first) + cv2.contourArea(second)
    if areas <= 0:
        return 0.0
    both = cv2.intersectConvexConvex(first, second)[0]
    return float(both / (areas - both)) if areas > both else 1.0


def align(truth: str, text: str) -> list[int | None]:
    """Return, for each character of `truth`, the place of an equal one in `text` at the least edit distance."""
    costs = np.zeros((len(truth) + 1, len(text) + 1), int)
    costs[:, 0], costs[0] = np.arange(len(truth) + 1), np.arange(len(text) + 1)
    for i, wanted in enumerate(truth):
        for j, found in enumerate(text):
            costs[i + 1, j + 1] = min(costs[i, j + 1] + 1, costs[i + 1, j] + 1, costs[i, j] + (wanted != found))
    places: list[int | None] = [None] * len(truth)
    i, j = len(truth), len(text)
    while i and j:
        changed = truth[i - 1] != text[j - 1]
        if costs[i, j] == costs[i - 1, j - 1] + changed:
            i, j = i - 1, j - 1
            places[i] = None if changed else j
        elif costs[i, j] == costs[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
    return places


def spread(parts: Iterable[Part]) -> tuple[str, list[int]]:
    """Return the text of parts without spaces, and the part of each character."""
    text, owners = "", []
    for i, part in enumerate(parts):
        own = "".join(part.text.split())
        text += own
        owners += [i] * len(own)
    return text, owners


def score_line(truth: Line, result: Sequence[FoundLine]) -> Score:
    """Compare what was found in a picture with its line; several lines are read in the direction of the true one."""

    def start(line: FoundLine) -> float:
        return min((find_extent(part.polygon, truth)[0] for part in (*line.words, *line.characters)), default=0.0)

    lines = sorted(result, key=start)
    score = Score(1)
    wanted, _ = spread(truth.characters)
    characters = [part for line in lines for part in line.characters]
    text, owners = spread(characters)
    score.characters.total = len(truth.characters)
    for part, place in zip(truth.characters, align(wanted, text), strict=True):
        # A box for several characters is not one of a character.
        if place is not None and owners.count(owners[place]) == 1:
            score.characters.add(part.polygon, characters[owners[place]].polygon, truth)
    words = [part for line in lines for part in line.words]
    text, owners = spread(words)
    places = align(wanted, text)
    score.words.total = score.joined.total = len(truth.words)
    first = 0
    for word in truth.words:
        own, first = places[first : first + len(word.text)], first + len(word.text)
        if None in own:
            continue
        used = {owners[place] for place in own if place is not None}
        # None of the words may have another character.
        if own != [place for place, owner in enumerate(owners) if owner in used]:
            continue
        polygon = words[min(used)].polygon
        if len(used) == 1:
            score.words.add(word.polygon, polygon, truth)
        else:
            polygon = cv2.convexHull(np.concatenate([words[i].polygon for i in sorted(used)]).astype(np.float32))[:, 0]
            polygon = cv2.boxPoints(cv2.minAreaRect(polygon)) if len(polygon) != 4 else polygon
        score.joined.add(word.polygon, polygon, truth)
    return score


def score_lines(truths: Iterable[Line], results: Iterable[Sequence[FoundLine]]) -> dict[str, Score]:
    """Return the scores of each group, and over `all`."""
    scores = {group: Score() for group in (*GROUPS, "all")}
    for truth, result in zip(truths, results, strict=True):
        score = score_line(truth, result)
        scores[truth.group].extend(score)
        scores["all"].extend(score)
    return scores


def read_pipeline(name: str, files: Sequence[Path]) -> list[list[FoundLine]]:
    """Read pictures with a pipeline of edge-ocr."""
    pipeline = create_pipeline(name, overrides={"Recognition.return_words": "chars"})
    found = []
    for file in files:
        (result,) = pipeline.predict(file)
        found.append([convert_line(line.words or ()) for line in result.reading.lines])
    return found


def convert_line(words: Iterable[Any]) -> FoundLine:
    kept = tuple(words)
    return FoundLine(
        [Part(each.text, each.polygon) for word in kept for each in word.characters],
        [Part(word.text, word.polygon) for word in kept],
    )


def read_equal(files: Sequence[Path]) -> list[list[FoundLine]]:
    """Divide the lines that OCR finds equally between their characters, spaces included."""
    pipeline = create_pipeline("OCR")
    found = []
    for file in files:
        (result,) = pipeline.predict(file)
        found.append([divide_line(line.text, line.polygon) for line in result.reading.lines])
    return found


def divide_line(text: str, polygon: Polygon) -> FoundLine:
    corners = np.asarray(polygon, float)
    height, width = np.linalg.norm(corners[3] - corners[0]), np.linalg.norm(corners[1] - corners[0])
    if height >= 1.5 * width:
        # Read downwards: the text's top is at the right.
        corners = np.roll(corners, -1, axis=0)
    (top_left, top_right, bottom_right, bottom_left), count = corners, len(text)

    def cut(first: int, last: int) -> Polygon:
        top, bottom = top_right - top_left, bottom_right - bottom_left
        ends = first / count, last / count
        points = [top_left + top * ends[0], top_left + top * ends[1]]
        return np.array([*points, bottom_left + bottom * ends[1], bottom_left + bottom * ends[0]], np.float32)

    return FoundLine(
        [Part(each, cut(i, i + 1)) for i, each in enumerate(text) if each != " "],
        [Part(text[word.start : word.stop], cut(word.start, word.stop)) for word in split_words(text)],
    )


def read_rapidocr(python: Path, files: Sequence[Path], models: Mapping[str, str]) -> list[list[FoundLine]]:
    """Read pictures with RapidOCR, in its own environment."""
    job = json.dumps({"files": [str(file) for file in files], "models": dict(models)})
    worker = Path(__file__).with_name("words_worker.py")
    done = subprocess.run([str(python), str(worker)], input=job, stdout=subprocess.PIPE, text=True, check=True)
    return [
        [
            FoundLine(
                [Part(text, np.array(polygon, np.float32)) for text, polygon in line["characters"]],
                [Part(text, np.array(polygon, np.float32)) for text, polygon in line["words"]],
            )
            for line in json.loads(row)
        ]
        for row in done.stdout.splitlines()
    ]


def print_table(reports: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Print a Markdown table with a row for each system and group."""

    def show(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    print(
        "| system | group | characters read | IoU | along | left, em | right, em | words matched | IoU | along ", end=""
    )
    print("| joined, matched | IoU |\n|---|---|" + "---:|" * 10)
    for system, groups in reports.items():
        for group, report in groups.items():
            characters, words, joined = report["characters"], report["words"], report["joined"]
            cells = [show(characters["read"], ".1%"), show(characters["iou"], ".3f"), show(characters["along"], ".3f")]
            cells += [show(characters["left"], "+.3f"), show(characters["right"], "+.3f")]
            cells += [show(words["read"], ".1%"), show(words["iou"], ".3f"), show(words["along"], ".3f")]
            cells += [show(joined["read"], ".1%"), show(joined["iou"], ".3f")]
            print(f"| {system} | {group} | {' | '.join(cells)} |")
    sys.stdout.flush()


def main() -> None:
    """Print a table, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", type=Path, metavar="DIR", help="keep the pictures and their truth here")
    parser.add_argument("--system", action="append", metavar="NAME", help=f"default: {', '.join(SYSTEMS)}")
    parser.add_argument("--rapidocr", type=Path, metavar="PYTHON", help="interpreter of its environment")
    parser.add_argument(
        "--rapidocr-param", action="append", default=[], metavar="KEY=VALUE", help="such as Rec.model_path=FILE"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, not below the table")
    options = parser.parse_args()
    pictures: list[Picture] = list(render_lines())
    reports = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.save or Path(scratch)
        save_pictures(pictures, folder)
        files = [folder / f"{i:03d}.png" for i in range(len(pictures))]
        for system in options.system or SYSTEMS:
            if system == "rapidocr":
                python = options.rapidocr or find_peer("rapidocr3")
                models = dict(param.split("=", 1) for param in options.rapidocr_param)
                results = read_rapidocr(python, files, models)
            elif system == "equal":
                results = read_equal(files)
            else:
                results = read_pipeline(system, files)
            scores = score_lines((picture.line for picture in pictures), results)
            reports[system] = {group: score.describe() for group, score in scores.items() if score.lines}
    print_table(reports)
    text = json.dumps(reports, ensure_ascii=False, indent=1)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
