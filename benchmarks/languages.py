"""Measure how recognisers read languages, and how many spaces they lose, on lines rendered with given fonts.

    python -m benchmarks.languages --fonts FILE ... --model NAME=DET,REC ... [--lang CODE ...]

Lines are 3 to 9 words (8 to 24 Japanese characters) from the sentences in languages.txt, 24 to 40 px high, in each
given font that has every character of the language. Recognition reads each line from its own picture; `pages` are
drawn from 20 lines each and read with detection. DET and REC are registry names or folders.

A line is exact if its text is equal, spaces included. A space is lost if the cheapest alignment of both texts has
nothing, or another character, in its place; it is extra if the alignment has a space where the truth has none.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edge_ocr import create_pipeline
from edge_ocr.core.types import BgrImage
from edge_ocr.drawing import has_glyphs

SENTENCES = Path(__file__).with_name("languages.txt")
SEED = 20261129
LINES_PER_PAGE = 20
PAGE_WIDTH = 1400


@dataclass
class Count:
    """What was read of some lines."""

    lines: int = 0
    exact: int = 0
    similarity: float = 0.0
    spaces: int = 0
    lost: int = 0
    extra: int = 0

    def add(self, truth: str, text: str) -> None:
        distance, lost, extra = align(truth, text)
        self.lines += 1
        self.exact += truth == text
        self.similarity += 1 - distance / max(len(truth), len(text), 1)
        self.spaces += truth.count(" ")
        self.lost += lost
        self.extra += extra

    def describe(self) -> dict[str, float]:
        return {
            "exact": self.exact / max(self.lines, 1),
            "1-NED": self.similarity / max(self.lines, 1),
            "lost_spaces": self.lost / max(self.spaces, 1),
            "extra_spaces": self.extra / max(self.spaces, 1),
        }


def align(truth: str, text: str) -> tuple[int, int, int]:
    """Return the edit distance, and how many spaces of `truth` are lost and of `text` are extra.

    Of all cheapest alignments, one with the fewest lost and extra spaces counts.
    """
    # Per cell: distance, lost and extra, in the order of preference.
    row = [(i, 0, text[:i].count(" ")) for i in range(len(text) + 1)]
    for wanted in truth:
        is_space = int(wanted == " ")
        previous, row = row, [(row[0][0] + 1, row[0][1] + is_space, row[0][2])]
        for i, found in enumerate(text):
            changed = int(wanted != found)
            up, left, corner = previous[i + 1], row[i], previous[i]
            row.append(
                min(
                    (up[0] + 1, up[1] + is_space, up[2]),
                    (left[0] + 1, left[1], left[2] + (found == " ")),
                    (corner[0] + changed, corner[1] + changed * is_space, corner[2] + changed * (found == " ")),
                )
            )
    return row[-1]


def read_sentences(path: Path = SENTENCES) -> dict[str, list[str]]:
    """Return the sentences of each language code."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("[") and line.endswith("]"):
            found[line[1:-1]] = []
        elif line and not line.startswith("#"):
            list(found.values())[-1].append(line)
    return found


def make_lines(sentences: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """Return `count` lines of neighbouring words; of characters if the language has no spaces."""
    if any(" " in sentence for sentence in sentences):
        units, joint, (least, most) = " ".join(sentences).split(" "), " ", (3, 9)
    else:
        units, joint, (least, most) = list("".join(sentences)), "", (8, 24)
    lines = []
    for _ in range(count):
        length = int(rng.integers(least, most + 1))
        start = int(rng.integers(0, len(units) - length))
        lines.append(joint.join(units[start : start + length]))
    return lines


@dataclass(frozen=True)
class Print:
    """How lines are drawn."""

    sizes_px: tuple[int, int] = (24, 40)
    """Least and largest em."""
    gap: float = 1
    """Width of spaces, in those of the font."""
    margin: float = 0.2
    """Room around a line, in ems; 0.2 is about what detection leaves."""


def draw_line(text: str, font_path: Path, style: Print, rng: np.random.Generator) -> BgrImage:
    """Return the picture of a line."""
    gap = style.gap
    size = int(rng.integers(style.sizes_px[0], style.sizes_px[1] + 1))
    font = ImageFont.truetype(str(font_path), size)
    left, top, right, bottom = font.getbbox(text)
    lost = text.count(" ") * (1 - gap) * font.getlength(" ")
    margin = round(style.margin * size)
    paper, ink = int(rng.integers(225, 256)), int(rng.integers(0, 70))
    picture = Image.new("L", (round(right - left - lost) + 2 * margin, round(bottom - top) + 2 * margin), paper)
    x, pen = margin - left, ImageDraw.Draw(picture)
    # Whole lines with the font's own spaces keep its kerning.
    for word in [text] if gap == 1 else text.split(" "):
        pen.text((x, margin - top), word, fill=ink, font=font)
        x += font.getlength(word) + gap * font.getlength(" ")
    return np.ascontiguousarray(np.asarray(picture.convert("RGB"), np.uint8))


def draw_page(pictures: Iterable[BgrImage]) -> BgrImage:
    """Return a white page with the pictures one below the other."""
    kept = list(pictures)
    height = sum(picture.shape[0] + 12 for picture in kept) + 80
    page = np.full((height, max(PAGE_WIDTH, *(picture.shape[1] + 120 for picture in kept)), 3), 255, np.uint8)
    top = 40
    for picture in kept:
        page[top : top + picture.shape[0], 60 : 60 + picture.shape[1]] = np.where(picture > 200, 255, picture)
        top += picture.shape[0] + 12
    return page


def main() -> None:
    """Print a table, and write the figures and wrong lines as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fonts", nargs="+", type=Path, required=True, metavar="FILE")
    parser.add_argument("--model", action="append", required=True, metavar="NAME=DET,REC")
    parser.add_argument("--lang", action="append", metavar="CODE")
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--pages", type=int, default=10)
    parser.add_argument("--size", nargs=2, type=int, default=(24, 40), metavar="PX", help="least and largest em")
    parser.add_argument("--gap", type=float, default=1, help="width of spaces, in those of the font")
    parser.add_argument("--margin", type=float, default=0.2, help="room around a line, in ems")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and wrong lines here")
    options = parser.parse_args()
    style = Print(tuple(options.size), options.gap, options.margin)
    sentences = read_sentences()
    codes = options.lang or list(sentences)
    drawn: dict[str, tuple[list[str], list[BgrImage]]] = {}
    for code in codes:
        fonts = [path for path in options.fonts if has_glyphs(path, "".join(sentences[code]))]
        if not fonts:
            parser.error(f"{code}: none of the fonts has all its characters")
        rng = np.random.default_rng(SEED)
        lines = make_lines(sentences[code], options.lines, rng)
        pictures = [draw_line(line, fonts[i % len(fonts)], style, rng) for i, line in enumerate(lines)]
        drawn[code] = lines, pictures
        print(f"{code}: {', '.join(path.stem for path in fonts)}", flush=True)
    print("| model | language | lines exact | 1-NED | lost spaces | extra spaces | lines of pages exact |", flush=True)
    print("|---|---|---:|---:|---:|---:|---:|", flush=True)
    report = []
    for model in options.model:
        name, _, files = model.partition("=")
        det, _, rec = files.partition(",")
        pipeline = create_pipeline(
            overrides={"Pipeline.text_det_model": det, "Pipeline.text_rec_model": rec, "Recognition.text_score": 0}
        )
        recognizer = pipeline._readers[0].recognizer
        for code, (lines, pictures) in drawn.items():
            count, wrong = Count(), []
            for truth, line in zip(lines, recognizer.recognize(pictures), strict=True):
                count.add(truth, line.text)
                if truth != line.text:
                    wrong.append([truth, line.text])
            found = wanted = 0
            for page in range(options.pages):
                part = slice(page * LINES_PER_PAGE, (page + 1) * LINES_PER_PAGE)
                (result,) = pipeline.predict(draw_page(pictures[part]))
                found += (Counter(lines[part]) & Counter(result["rec_text"])).total()
                wanted += len(lines[part])
            figures = {**count.describe(), "pages_exact": found / max(wanted, 1)}
            report.append({"model": name, "lang": code, **figures, "wrong": wrong})
            cells = [f"{figures['exact']:.1%}", f"{figures['1-NED']:.4f}"]
            # Japanese has no spaces to lose.
            cells += [f"{figures[key]:.1%}" if count.spaces else "–" for key in ("lost_spaces", "extra_spaces")]
            print(f"| {name} | {code} | {' | '.join(cells)} | {figures['pages_exact']:.1%} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
