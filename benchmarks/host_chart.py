"""Draw the figures of benchmarks.host: a panel for each folder, a bar for each system, divided into stages."""

from __future__ import annotations

from collections.abc import Mapping
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
    "rec pre": "#ffd8a8",
    "rec infer": "#f08c2e",
    "rec post": "#b4560a",
    "rec": "#e5b143",
    "other": "#d0d7de",
}
SCALE = 2
WIDTH, LEFT, RIGHT, BAR, GAP = 1000, 170, 150, 30, 12


def draw_chart(panels: Mapping[str, Mapping[str, Mapping[str, Any]]], caption: str, path: Path) -> None:
    """Write a PNG. `panels`: folder → system → what `summarise` returns; the first system is the one that the others
    are compared with.
    """
    height = 100 + sum(56 + len(systems) * (BAR + GAP) for systems in panels.values())
    image = Image.new("RGB", (WIDTH * SCALE, height * SCALE), "white")
    pen = ImageDraw.Draw(image)

    def write(text: str, x: float, y: float, size: int = 15, anchor: str = "lm", fill: str = "#1f2328") -> float:
        font = ImageFont.load_default(size * SCALE)
        pen.text((x * SCALE, y * SCALE), text, font=font, anchor=anchor, fill=fill)
        return pen.textlength(text, font=font) / SCALE

    def fill(x0: float, y0: float, x1: float, y1: float, colour: str) -> None:
        pen.rectangle([round(side * SCALE) for side in (x0, y0, x1, y1)], fill=colour)

    y = 16.0
    for folder, systems in panels.items():
        y += 16
        write(f"{folder}: median ms per picture", 16, y, 18)
        y += 28
        base = next(iter(systems.values()))["median_ms"]
        scale = (WIDTH - LEFT - RIGHT) / max(figures["median_ms"] for figures in systems.values())
        for system, figures in systems.items():
            write(system, LEFT - 10, y + BAR / 2, anchor="rm")
            # The bar has the length of the median and is divided in proportion to the stages' means.
            total, x = sum(figures["stages_ms"].values()), float(LEFT)
            for stage, spent in figures["stages_ms"].items():
                width = spent / total * figures["median_ms"] * scale
                fill(x, y, x + width, y + BAR, COLOURS[stage])
                x += width
            ratio = figures["median_ms"] / base
            write(f"{figures['median_ms']:.0f}" + (f"  ({ratio:.1f} x)" if ratio != 1 else ""), x + 8, y + BAR / 2)
            y += BAR + GAP
        y += 12
    x = 16.0
    drawn = {stage for systems in panels.values() for figures in systems.values() for stage in figures["stages_ms"]}
    for stage, colour in COLOURS.items():
        if stage in drawn:
            fill(x, y + 8, x + 12, y + 20, colour)
            x += 30 + write(stage, x + 16, y + 14, 13)
    write(caption, 16, y + 42, 13, fill="#59636e")
    image.save(path, optimize=True)
