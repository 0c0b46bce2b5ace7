"""Render receipt-like pages of about 50 text lines with ground truth, for benchmarks.host.

    python -m benchmarks.render_receipts --out DIR [--pages 20]

Pages are JPEGs 600 to 1000 px wide, like good photos: slightly rotated, unevenly lit, a little soft. `gt.jsonl` has the
format of examples/render_images.py. Two runs on one machine write the same bytes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from examples.render_images import (
    OVERSAMPLING,
    SANS,
    SERIF,
    Picture,
    Sheet,
    format_money,
    get_ink,
    lay_down,
    light,
    make_noise,
    paint_paper,
    print_on,
    project,
    take_photo,
)

SEED = 20261122
SHOPS = (
    "HARBOUR HARDWARE",
    "LIM BROTHERS TRADING",
    "NORTHGATE STATIONERY",
    "KOPI CORNER CAFE",
    "云溪便利店",
    "山茶超市",
)
STREETS = ("Jalan Kenari", "Mill Lane", "Station Road", "Persiaran Selasih", "桂花路", "Quay Street")
ITEMS = (
    "A4 Copy Paper 80g",
    "Ballpoint Pen Blue",
    "LED Bulb 9W E27",
    "Paint Brush 2 in",
    "Masking Tape 24mm",
    "Hex Bolt M8x40",
    "Extension Cord 5m",
    "White Coffee Hot",
    "Toast w/ Egg",
    "Nasi Lemak Special",
    "Mineral Water 500ml",
    "PVC Pipe 20mm",
    "Cable Tie 200mm",
    "AA Battery 4pcs",
    "全麦面包",
    "鲜牛奶 950ml",
    "茉莉花茶",
    "原味酸奶",
    "苏打饼干",
    "洗衣液 2kg",
)
FOOTERS = (
    "Goods sold are not returnable",
    "Please keep this receipt",
    "Thank you, please come again",
    "Prices include 6% tax",
    "谢谢惠顾",
    "www.example.com",
)


def print_page(rng: np.random.Generator) -> Sheet:
    """A flat receipt, OVERSAMPLING times the size of its picture."""
    body = int(rng.integers(19, 25)) * OVERSAMPLING
    width = int(rng.integers(560, 920)) * OVERSAMPLING
    row, margin = round(1.55 * body), round(1.6 * body)
    items = int(rng.integers(5, 9))
    font = str(rng.choice([SANS, SERIF]))
    sheet = Sheet(width, row * (25 + 2 * items))
    left, middle, right = margin, width // 2, width - margin
    y = 1.5 * row

    def write(*runs: tuple[str, float, str], size: float = 1.0, bold: float = 0) -> None:
        nonlocal y
        for text, x, anchor in runs:
            sheet.write(text, x, y, round(size * body), anchor=anchor, font=font, bold=bold)
        y += row * max(size, 1.0)

    def number(digits: int) -> str:
        return "".join(map(str, rng.integers(0, 10, digits)))

    def rule() -> None:
        nonlocal y
        sheet.rule(y, margin, dash=6 * OVERSAMPLING)
        y += 0.8 * row

    write((str(rng.choice(SHOPS)), middle, "mm"), size=1.5, bold=1)
    write((f"No. {rng.integers(1, 200)}, {rng.choice(STREETS)}", middle, "mm"))
    write((f"Tel: 0{number(2)}-{number(7)}", middle, "mm"))
    write((f"GST ID: {number(12)}", middle, "mm"))
    write(("TAX INVOICE", middle, "mm"), bold=1)
    rule()
    write((f"Bill No: {number(6)}", left, "lm"), (f"Counter {rng.integers(1, 10)}", right, "rm"))
    date = f"{rng.integers(1, 29):02}/{rng.integers(1, 13):02}/2026"
    write((f"Date: {date}", left, "lm"), (f"{rng.integers(8, 22):02}:{number(1)}{rng.integers(0, 10)}", right, "rm"))
    rule()
    write(("Item", left, "lm"), ("Qty", round(0.66 * width), "mm"), ("Amount", right, "rm"))
    total = 0
    for index in rng.permutation(len(ITEMS))[:items]:
        quantity, price = int(rng.integers(1, 9)), int(rng.integers(80, 9000))
        total += quantity * price
        write((ITEMS[index], left, "lm"))
        each = f"{number(8)} @ {format_money(price)}"
        write(
            (each, left, "lm"),
            (f"x{quantity}", round(0.66 * width), "mm"),
            (format_money(quantity * price), right, "rm"),
        )
    rule()
    cash = -(-total // 5000) * 5000
    write(("Subtotal", left, "lm"), (format_money(total), right, "rm"))
    write(("TOTAL RM", left, "lm"), (format_money(total), right, "rm"), size=1.3, bold=1)
    write(("Cash", left, "lm"), (format_money(cash), right, "rm"))
    write(("Change", left, "lm"), (format_money(cash - total), right, "rm"))
    rule()
    for footer in rng.permutation(len(FOOTERS))[:4]:
        write((FOOTERS[footer], middle, "mm"))
    # Cut the paper after the last line.
    sheet.height = round(y + row)
    sheet.ink = sheet.ink.crop((0, 0, width, sheet.height))
    return sheet


def render_page(rng: np.random.Generator) -> Picture:
    sheet = print_page(rng)
    height, width = sheet.height, sheet.width
    paper = paint_paper(rng, height, width, (238, 244, 246))
    wear = rng.uniform(0.7, 0.9) + 0.15 * make_noise(rng, height, width, (260, 180))
    printed = print_on(paper, get_ink(sheet) * np.clip(wear, 0, 1), (64, 56, 54)).astype(np.float32)
    border = 20 * OVERSAMPLING
    scene_height, scene_width = height + 2 * border, width + 2 * border
    table = np.full((scene_height, scene_width, 3), rng.uniform(120, 215), np.float32)
    # Move each corner: rotated by up to a degree, and not quite a rectangle.
    ends = np.array([[0, 0], [width, 0], [width, height], [0, height]]) + border
    corners = tuple(map(tuple, ends + rng.uniform(-0.012, 0.012, (4, 2)) * width))
    scene, matrix = lay_down(table, printed, np.ones((height, width), np.float32), corners, (6, 8, 8, 0.4))
    bright = (float(rng.random()), float(rng.random()))
    scene = scene * light(scene_height, scene_width, bright, 0.25)[..., None]
    return take_photo(rng, scene, rng.uniform(0.4, 0.9), rng.uniform(0.5, 2.5)), project(sheet.words, matrix)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pages", type=int, default=20)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for page in range(options.pages):
        rng = np.random.default_rng([SEED, page])
        photo, words = render_page(rng)
        path = options.out / f"receipt_{page:02}.jpg"
        if not cv2.imwrite(str(path), photo, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(75, 93))]):
            raise SystemExit(f"cannot write {path}")
        truth = [{"poly": np.round(word.poly.astype(float), 1).tolist(), "text": word.text} for word in words]
        rows.append(json.dumps({"image": path.name, "words": truth}, ensure_ascii=False))
        print(f"{path}: {photo.shape[1]}x{photo.shape[0]}, {len(words)} lines")
    (options.out / "gt.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
