"""Draw the figures of benchmarks.host: where the time goes, and accuracy against time and memory."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

COLOURS = {
    "decode": "#7d8590",
    "det pre": "#9ec5fe",
    "det infer": "#3d7dd8",
    "det post": "#1b4b91",
    "det": "#5aa9c9",
    "crop": "#3fa66b",
    "rec": "#f08c2e",
    "other": "#d0d7de",
}
SYSTEM_COLOURS = {
    "edge-ocr": "#2f6fd0",
    "rapidocr": "#f2b07b",
    "rapidocr3": "#e07b2a",
    "rapidocrlite": "#b0453f",
    "paddleocr": "#a9cf9a",
    "paddleocr3": "#4f9a4a",
    "faster-paddle": "#8a63b8",
}
"""By name without variants."""
INK, FAINT, GRID, FRONT = "#1f2328", "#59636e", "#e6e9ed", "#1f2328"

SCALE = 2
SMOOTH = 2
"""Pictures are drawn this many times as large and then reduced."""
WIDTH, MARGIN = 1000, 16
RIGHT, BAR, GAP = 150, 30, 12
# Sides of a Pareto panel, from its frame to the picture's edge.
PLOT_LEFT, PLOT_RIGHT, PLOT_TOP, PLOT_BOTTOM = 70, 24, 60, 52
# Texts of a Pareto panel; a label farther than LEADER from its disc has a line to it.
LABEL, SMALL, NOTE_GAP, PADDING, LEADER = 13, 11, 5, 4, 10

# Search for places of labels.
ORDERS, PASSES = 6, 3

Point = tuple[float, float]
Line = tuple[Point, Point]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


class Canvas:
    """A white picture. All coordinates and sizes are in units of 1 / SCALE pixel."""

    def __init__(self, height: float) -> None:
        self.scale = SCALE * SMOOTH
        self.image = Image.new("RGB", (WIDTH * self.scale, math.ceil(height) * self.scale), "white")
        self.pen = ImageDraw.Draw(self.image)

    def write(self, text: str, x: float, y: float, size: int = 15, anchor: str = "lm", fill: str = INK) -> float:
        """Return the width of the text."""
        self.pen.text((x * self.scale, y * self.scale), text, fill, ImageFont.load_default(size * self.scale), anchor)
        return measure_text(text, size)

    def fill(self, box: Box, colour: str) -> None:
        self.pen.rectangle([round(side * self.scale) for side in box], fill=colour)

    def stroke(self, points: Sequence[Point], colour: str, width: float = 1) -> None:
        scaled = [(x * self.scale, y * self.scale) for x, y in points]
        self.pen.line(scaled, fill=colour, width=round(width * self.scale), joint="curve")

    def mark(self, x: float, y: float, radius: float, colour: str) -> None:
        """Draw a disc with a white rim, so that discs on one another can be told apart."""
        for r, each in ((radius + 1, "white"), (radius, colour)):
            self.pen.ellipse([side * self.scale for side in (x - r, y - r, x + r, y + r)], fill=each)

    def save(self, path: Path) -> None:
        self.image.reduce(SMOOTH).quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            path, optimize=True
        )


def measure_text(text: str, size: int) -> float:
    return float(ImageFont.load_default(size * SCALE).getlength(text)) / SCALE


# --- stages


def draw_chart(panels: Mapping[str, Mapping[str, Mapping[str, Any]]], caption: str, path: Path) -> None:
    """Write a PNG: a panel for each folder, a bar for each system, divided into stages.

    `panels`: folder → system → what `summarise` returns; the first system is the one that the others are compared with.
    """
    canvas = Canvas(100 + sum(56 + len(systems) * (BAR + GAP) for systems in panels.values()))
    names = {system for systems in panels.values() for system in systems}
    left = MARGIN + 10 + max(measure_text(name, 15) for name in names)
    y = 16.0
    for folder, systems in panels.items():
        y += 16
        canvas.write(f"{folder}: median ms per picture", MARGIN, y, 18)
        y += 28
        base = next(iter(systems.values()))["median_ms"]
        scale = (WIDTH - left - RIGHT) / max(figures["median_ms"] for figures in systems.values())
        for system, figures in systems.items():
            canvas.write(system, left - 10, y + BAR / 2, anchor="rm")
            # The bar has the length of the median and is divided in proportion to the stages' means.
            total, x = sum(figures["stages_ms"].values()), left
            for stage, spent in figures["stages_ms"].items():
                width = spent / total * figures["median_ms"] * scale
                canvas.fill((x, y, x + width, y + BAR), COLOURS.get(stage, COLOURS["other"]))
                x += width
            ratio = figures["median_ms"] / base
            text = f"{figures['median_ms']:.0f}" + (f"  ({ratio:.1f} x)" if ratio != 1 else "")
            canvas.write(text, x + 8, y + BAR / 2)
            y += BAR + GAP
        y += 12
    x = float(MARGIN)
    drawn = {stage for systems in panels.values() for figures in systems.values() for stage in figures["stages_ms"]}
    for stage, colour in COLOURS.items():
        if stage in drawn:
            canvas.fill((x, y + 8, x + 12, y + 20), colour)
            x += 30 + canvas.write(stage, x + 16, y + 14, 13)
    canvas.write(caption, MARGIN, y + 42, 13, fill=FAINT)
    canvas.save(path)


# --- accuracy against time


def find_accuracy(figures: Mapping[str, Any]) -> float | None:
    """Return the share of lines read exactly, of texts found if no label has a box, None without labels."""
    share = figures.get("exact_share", figures.get("texts_share"))
    return None if share is None else float(share)


def find_front(points: Mapping[str, Point]) -> list[str]:
    """Return the systems that no other one dominates, fastest first. `points`: milliseconds and accuracy.

    A system dominates another one if it is as fast and as accurate, and better in one of both.
    """
    front: list[str] = []
    for name, (ms, share) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if not front or share > points[front[-1]][1] or points[front[-1]] == (ms, share):
            front.append(name)
    return front


def draw_pareto(
    panels: Mapping[str, Mapping[str, Mapping[str, Any]]],
    counts: Mapping[str, Mapping[str, int]],
    caption: str,
    path: Path,
) -> bool:
    """Write a PNG: a panel for each folder with labels, a disc for each system, and the front as a step line.

    `panels`: as for `draw_chart`; `counts`: folder → `pictures`, `lines` and `texts`, its labels with and without
    boxes. Return False, and write nothing, if no folder has labels.
    """
    shown = {
        folder: systems
        for folder, systems in panels.items()
        if all(find_accuracy(figures) is not None for figures in systems.values())
    }
    if not shown:
        return False
    heights = {folder: 260 + 12 * len(systems) for folder, systems in shown.items()}
    canvas = Canvas(sum(heights.values()) + len(shown) * (PLOT_TOP + PLOT_BOTTOM) + 84)
    top = 0.0
    for folder, systems in shown.items():
        frame = (PLOT_LEFT, top + PLOT_TOP, WIDTH - PLOT_RIGHT, top + PLOT_TOP + heights[folder])
        labels = counts[folder]
        kind, number = ("lines read exactly", labels["lines"]) if labels["lines"] else ("texts found", labels["texts"])
        canvas.write(f"{folder}: {labels['pictures']} pictures", MARGIN, top + 20, 18)
        canvas.write(f"{kind}, % of {number}", MARGIN, top + 44, SMALL + 1, fill=FAINT)
        draw_panel(canvas, systems, frame)
        top = frame[3] + PLOT_BOTTOM
    draw_key(canvas, top + 26)
    canvas.write(caption, MARGIN, top + 62, 13, fill=FAINT)
    canvas.save(path)
    return True


def draw_panel(canvas: Canvas, systems: Mapping[str, Mapping[str, Any]], frame: Box) -> None:
    points = {name: (figures["median_ms"], find_accuracy(figures) or 0.0) for name, figures in systems.items()}
    radii = {name: find_radius(figures["peak_mb"]) for name, figures in systems.items()}
    left, top, right, bottom = frame
    times, shares = zip(*points.values(), strict=True)
    # Time is logarithmic; room for discs and labels on all sides.
    room = max(0.08 * math.log(max(times) / min(times)), 0.15)
    slow, fast = math.log(max(times)) + room, math.log(min(times)) - room
    room = max(0.12 * (max(shares) - min(shares)), 0.002)
    best, worst = max(shares) + 1.8 * room, min(shares) - room

    def place(ms: float, share: float) -> Point:
        x = left + (math.log(ms) - fast) / (slow - fast) * (right - left)
        return x, bottom - (share - worst) / (best - worst) * (bottom - top)

    for tick in list_shares(worst, best):
        (_, y) = place(min(times), tick)
        canvas.stroke([(left, y), (right, y)], GRID)
        canvas.write(f"{tick * 100:.10g}", left - 8, y, SMALL + 1, "rm", FAINT)
    for tick in list_times(math.exp(fast), math.exp(slow)):
        (x, _) = place(tick, worst)
        canvas.stroke([(x, top), (x, bottom)], GRID)
        canvas.write(f"{tick:g}", x, bottom + 12, SMALL + 1, "mm", FAINT)
    canvas.stroke([(left, top), (left, bottom), (right, bottom)], FAINT)
    canvas.write("median ms per picture, logarithmic", right, bottom + 32, SMALL + 1, "rm", FAINT)

    front = find_front(points)
    steps: list[Point] = [(place(*points[front[0]])[0], bottom)]
    for name in front:
        x, y = place(*points[name])
        steps += [(x, steps[-1][1]), (x, y)]
    steps.append((right, steps[-1][1]))
    canvas.stroke(steps, FRONT, 1.5)

    discs = {name: (*place(*point), radii[name]) for name, point in points.items()}
    notes = {name: f"{figures['peak_mb']:.0f} MB" for name, figures in systems.items()}
    widths = {name: measure_text(name, LABEL) + NOTE_GAP + measure_text(notes[name], SMALL) for name in systems}
    sizes = {name: (width + 2 * PADDING, LABEL + 4.0) for name, width in widths.items()}
    boxes = place_labels(discs, sizes, frame, list(pairwise(steps)))
    # Large ones first, so that they hide none.
    for name, (x, y, radius) in sorted(discs.items(), key=lambda item: -item[1][2]):
        canvas.mark(x, y, radius, SYSTEM_COLOURS.get(name.partition(":")[0], FAINT))
    for name, (x, y, radius) in discs.items():
        end = find_nearest(boxes[name], (x, y))
        if math.dist((x, y), end) > radius + LEADER:
            canvas.stroke([(x, y), end], FAINT, 0.75)
            canvas.mark(x, y, 1.5, FAINT)
    for name, (x, y, _, low) in boxes.items():
        base = (y + low) / 2 + 0.35 * LABEL
        width = canvas.write(name, x + PADDING, base, LABEL, "ls", INK if name in front else FAINT)
        canvas.write(notes[name], x + PADDING + width + NOTE_GAP, base, SMALL, "ls", "#8a939d")


def find_radius(peak_mb: float) -> float:
    """Return the radius of a disc whose area is in proportion to the memory."""
    return 0.42 * math.sqrt(peak_mb)


def draw_key(canvas: Canvas, y: float) -> None:
    x = MARGIN + 8.0
    for peak_mb in (250, 1000, 4000):
        radius = find_radius(peak_mb)
        canvas.mark(x + radius, y, radius, "#c3cad2")
        x += 2 * radius + 6
        x += canvas.write(f"{peak_mb} MB", x, y, SMALL + 1, fill=FAINT) + 14
    text = (
        "peak memory, by area.  Line: best accuracy within a time.  Better: left and up.  The axes do not start at 0."
    )
    canvas.write(text, x, y, SMALL + 1, fill=FAINT)


def list_times(least: float, most: float) -> list[float]:
    """Return round numbers of milliseconds between both, at least three if `most` is 1.3 times `least` or more."""
    powers = [10.0**power for power in range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)]
    ticks: list[float] = []
    for digits in ((1, 2, 3, 5, 7), range(1, 10), [number / 10 for number in range(10, 100)]):
        ticks = [tick for power in powers for digit in digits if least <= (tick := round(digit * power, 9)) <= most]
        if len(ticks) >= 3:
            break
    return ticks


def list_shares(least: float, most: float) -> list[float]:
    """Return 3 to 8 round shares between both, none above 1."""
    span = most - least
    step = next(digit * 10.0**power for power in range(-6, 1) for digit in (1, 2, 5) if span <= 8 * digit * 10.0**power)
    first, last = math.ceil(least / step - 1e-9), math.floor(min(most, 1.0) / step + 1e-9)
    return [round(number * step, 9) for number in range(first, last + 1)]


# --- labels


def place_labels(
    discs: Mapping[str, tuple[float, float, float]],
    sizes: Mapping[str, Point],
    frame: Box,
    lines: Sequence[Line] = (),
) -> dict[str, Box]:
    """Return a box for the label of each disc: near it, in the frame, on no disc or other label, if possible on no
    line.

    `discs`: x, y and radius; `sizes`: width and height of each label. Where nothing is free, boxes overlap.
    """
    marks = {name: (x - r, y - r, x + r, y + r) for name, (x, y, r) in discs.items()}
    placed: dict[str, Box] = {}

    def lead(name: str, box: Box) -> Line:
        x, y, _ = discs[name]
        return (x, y), find_nearest(box, (x, y))

    def rate(name: str, box: Box, others: Mapping[str, Box]) -> float:
        leader = lead(name, box)
        outside = not (frame[0] <= box[0] and frame[1] <= box[1] and box[2] <= frame[2] and box[3] <= frame[3])
        hidden = sum(meet(box, other) for other in [*marks.values(), *others.values()])
        led = sum(cross(leader, other) for other in others.values())
        for other, theirs in others.items():
            led += cross(lead(other, theirs), box) + intersect(leader, lead(other, theirs))
        over = sum(cross(leader, mark) for other, mark in marks.items() if other != name)
        return 1e6 * outside + 1e4 * hidden + 400 * led + 250 * sum(cross(line, box) for line in lines) + 200 * over

    def place(order: Sequence[str]) -> float:
        """Fill `placed` in an order; return the cost."""
        placed.clear()
        costs = {}
        # The first pass finds a place for each, the others better ones.
        for _ in range(PASSES):
            for name in order:
                others = {other: box for other, box in placed.items() if other != name}
                costs[name] = math.inf
                for box, distance in list_boxes(discs[name], sizes[name]):
                    if distance < costs[name] and (cost := distance + rate(name, box, others)) < costs[name]:
                        costs[name], placed[name] = cost, box
        return sum(costs.values())

    chance = random.Random(0)
    orders = [chance.sample(list(discs), len(discs)) for _ in range(ORDERS)]
    place(min(orders, key=place))
    return {name: placed[name] for name in discs}


def list_boxes(disc: tuple[float, float, float], size: Point) -> Iterator[tuple[Box, float]]:
    """Yield places for a label around a disc, and their distance from it, roughly from near to far."""
    (x, y, radius), (width, height) = disc, size
    for distance in (4, 9, 15, *range(22, 400, 12)):
        for turn in range(24):
            angle = turn * math.tau / 24
            dx = math.cos(angle) * (radius + distance + width / 2)
            dy = math.sin(angle) * (radius + distance + height / 2)
            box = (x + dx - width / 2, y + dy - height / 2, x + dx + width / 2, y + dy + height / 2)
            yield box, math.dist(find_nearest(box, (x, y)), (x, y)) - radius


def find_nearest(box: Box, point: Point) -> Point:
    """Return the point of a box that is nearest to a point."""
    return min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3])


def meet(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def cross(line: Line, box: Box) -> bool:
    """Return whether a straight line enters a box."""
    (x0, y0), (x1, y1) = line
    start, end = 0.0, 1.0
    for origin, delta, low, high in ((x0, x1 - x0, box[0], box[2]), (y0, y1 - y0, box[1], box[3])):
        if delta == 0:
            if not low < origin < high:
                return False
            continue
        near, far = sorted(((low - origin) / delta, (high - origin) / delta))
        start, end = max(start, near), min(end, far)
    return start < end


def intersect(first: Line, second: Line) -> bool:
    """Return whether two straight lines cross, other than at their ends."""

    def side(line: Line, point: Point) -> float:
        (x0, y0), (x1, y1) = line
        return (x1 - x0) * (point[1] - y0) - (y1 - y0) * (point[0] - x0)

    return all(side(line, start) * side(line, end) < 0 for line, (start, end) in ((first, second), (second, first)))
