"""Render lines of text with a known place of every character and word.

Each glyph is drawn by itself, four times as large as in the picture, so that its ink is known; then the line is slanted
or turned, and made smaller. A character's polygon is as wide as its own ink and as high as the ink of the whole line; a
word's is as wide as the ink of its characters. Words end at spaces, and a Chinese character, as well as its
punctuation, is a word by itself.

The groups are disjoint: `turned` (by 90° clockwise, so that the line reads downwards) and `slanted` (3° to 20°, either
way) have texts of all kinds; the upright lines make a group for each kind of text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFont

from edge_ocr.core.types import BgrImage, Polygon
from examples.render_images import SANS, SERIF, find_font

FloatArray = npt.NDArray[np.float64]

SEED = 20261130
LINES = 200
OVERSAMPLING = 4
SIZES_PX = (22, 26, 30, 36, 42, 48)
MARGIN_EM = 1.5
LOW_CONTRAST = 0.15
"""Share of lines whose ink differs by 50 to 80 of 255 from the paper."""
INK = 64
"""Least coverage of a glyph's pixel, of 255, that counts as ink; the outline of a letter is at half of 255."""

KINDS = ("latin", "chinese", "mixed", "digits")
GROUPS = (*KINDS, "turned", "slanted")

LATIN_FONTS = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "DejaVuSans-Bold.ttf")
LATIN_FOLDER = Path("/usr/share/fonts/truetype/dejavu")

LATIN = (
    "the quick river carried letters from Paris to Vienna in winter while Captain Moore waited, reading an old book "
    "about trade; will his illness end before spring? Office hours: Monday to Friday (except holidays). Please return "
    "all keys, forms and signed papers to reception. Minimum filling level, hazardous jig Quality Wi-Fi iPhone William"
)
CHINESE = (
    "我们明天上午在车站见面，请带好身份证和车票。",
    "本店营业时间：上午九点至晚上八点，节假日除外。",
    "产品质量检验报告（复印件）请交到二楼办公室。",
    "一个小小的村庄，住着三十多户人家。",
    "请仔细阅读使用说明，并妥善保管发票。",
    "北京市海淀区中关村南大街",
    "他说：今天天气很好！我们去公园走走吧。",
    "工业和信息化部关于电子发票的通知",
)
MIXED = (
    "请访问 Python 官方网站下载 Windows 版本",
    "使用Wi-Fi连接打印机，型号HP LaserJet Pro",
    "订单号：AB-2041 已发货，请查收 email",
    "第3章 Machine Learning 机器学习简介",
    "会议室B2在5楼，Zoom会议ID见邮件",
    "iPhone用户请在App Store搜索下载",
    "温度25°C，湿度60%，风速3m/s",
    "张伟 (David Zhang) 产品经理 Shanghai",
)


@dataclass(frozen=True)
class Part:
    """A character or a word."""

    text: str
    polygon: Polygon


@dataclass(frozen=True)
class Line:
    """The truth of a picture."""

    text: str
    kind: str
    """Of KINDS."""
    group: str
    """Of GROUPS."""
    low_contrast: bool
    em: float
    """Size of the font in pixels."""
    direction: tuple[float, float]
    """Unit vector from left to right of the upright line."""
    characters: tuple[Part, ...]
    words: tuple[Part, ...]


@dataclass(frozen=True)
class Picture:
    """A rendered line."""

    image: BgrImage
    line: Line


def is_chinese(text: str) -> bool:
    """Say whether a character is Chinese, or punctuation of Chinese."""
    return any(
        first <= ord(text) <= last
        for first, last in ((0x3000, 0x303F), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0xFF00, 0xFFEF))
    )


def split_words(text: str) -> list[range]:
    """Return the places of each word's characters in `text`."""
    words: list[range] = []
    for i, character in enumerate(text):
        if character == " ":
            continue
        joins = i > 0 and text[i - 1] != " " and not is_chinese(character) and not is_chinese(text[i - 1])
        if joins:
            words[-1] = range(words[-1].start, i + 1)
        else:
            words.append(range(i, i + 1))
    return words


def make_text(kind: str, rng: np.random.Generator) -> str:
    """Return a line of a kind."""
    if kind == "latin":
        words = LATIN.split(" ")
        start = int(rng.integers(0, len(words) - 6))
        return " ".join(words[start : start + int(rng.integers(2, 7))])
    if kind == "chinese":
        text = CHINESE[int(rng.integers(len(CHINESE)))]
        start = int(rng.integers(0, 4))
        return text[start : start + int(rng.integers(6, 21))]
    if kind == "mixed":
        return MIXED[int(rng.integers(len(MIXED)))]
    day = f"{rng.integers(2000, 2030)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}"
    amount = f"{rng.integers(1, 100)},{rng.integers(0, 1000):03d}.{rng.integers(0, 100):02d}"
    phone = f"1{rng.integers(30, 99)} {rng.integers(1000, 10000)} {rng.integers(1000, 10000)}"
    clock = f"{rng.integers(0, 24):02d}:{rng.integers(0, 60):02d}"
    code = f"{rng.integers(0, 10**12):012d}"
    forms = (f"{day} {clock}", f"${amount}", f"{amount} {amount}", phone, f"+86 {phone}", f"{code} {day}", f"{code}")
    return forms[int(rng.integers(len(forms)))]


def choose_font(kind: str, rng: np.random.Generator) -> Path:
    fonts = [find_font(SANS), find_font(SERIF)]
    if kind in ("latin", "digits"):
        fonts += [LATIN_FOLDER / name for name in LATIN_FONTS if (LATIN_FOLDER / name).is_file()]
    return fonts[int(rng.integers(len(fonts)))]


def draw_glyphs(text: str, font_path: Path, size: int) -> tuple[npt.NDArray[np.uint8], list[tuple[float, float]]]:
    """Draw glyphs one after the other, without kerning, OVERSAMPLING times as large.

    Returns the coverage, cut to its ink from top to bottom, and the first and last column of each character's ink,
    as edges (NaN for spaces).
    """
    font = ImageFont.truetype(str(font_path), size * OVERSAMPLING, layout_engine=ImageFont.Layout.BASIC)
    room = size * OVERSAMPLING
    width = round(sum(font.getlength(character) for character in text)) + 2 * room
    ink = np.zeros((3 * room, width), np.uint8)
    pen, spans = float(room), []
    for character in text:
        mask, (left, top) = font.getmask2(character, mode="L", anchor="ls")
        if mask.size[0] and mask.size[1]:
            glyph = np.asarray(mask, np.uint8).reshape(mask.size[1], mask.size[0])
            columns = np.flatnonzero(glyph.max(axis=0) >= INK)
            x, y = round(pen) + left, 2 * room + top
            part = ink[y : y + glyph.shape[0], x : x + glyph.shape[1]]
            np.maximum(part, glyph, out=part)
            spans.append((float(x + columns[0]), float(x + columns[-1] + 1)))
        else:
            spans.append((math.nan, math.nan))
        pen += font.getlength(character)
    rows = np.flatnonzero(ink.max(axis=1) >= INK)
    return ink[rows[0] : rows[-1] + 1], spans


def place(coverage: npt.NDArray[np.uint8], size: int, angle: float) -> tuple[FloatArray, FloatArray]:
    """Turn coverage by `angle` degrees clockwise and put a margin around it.

    Returns the coverage in the picture's size, in [0, 1], and the 2 × 3 matrix from edges in `coverage` to pixels.
    """
    height, width = coverage.shape
    radians = math.radians(angle)
    turn = np.array([[math.cos(radians), -math.sin(radians)], [math.sin(radians), math.cos(radians)]])
    if angle == 90:
        turn = np.rint(turn)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float) @ turn.T
    margin = MARGIN_EM * size * OVERSAMPLING
    shift = margin - corners.min(axis=0)
    extent = np.ceil((corners.max(axis=0) + shift + margin) / OVERSAMPLING).astype(int)
    matrix = np.column_stack([turn, shift])
    # Edges of pixels are at whole numbers here, their centres in OpenCV.
    centred = matrix.copy()
    centred[:, 2] += turn @ (0.5, 0.5) - 0.5
    columns, rows = (extent * OVERSAMPLING).tolist()
    large = cv2.warpAffine(coverage, centred, (columns, rows), flags=cv2.INTER_LINEAR)
    small = cv2.resize(large, None, fx=1 / OVERSAMPLING, fy=1 / OVERSAMPLING, interpolation=cv2.INTER_AREA)
    return small.astype(float) / 255, matrix / OVERSAMPLING


def paint(coverage: FloatArray, low_contrast: bool, rng: np.random.Generator) -> BgrImage:
    """Print coverage in a colour on noisy paper, dark on light or light on dark."""
    dark = rng.random() < 0.3
    paper = float(rng.integers(20, 70) if dark else rng.integers(195, 250))
    step = float(rng.integers(50, 81) if low_contrast else rng.integers(140, 180))
    tint = rng.uniform(-8, 8, (2, 3))
    colours = np.array([[paper], [paper + step if dark else paper - step]]) + tint
    image = colours[0] + coverage[..., None] * (colours[1] - colours[0])
    image += rng.normal(0, rng.uniform(1, 5), image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def render_line(text: str, kind: str, group: str, low_contrast: bool, rng: np.random.Generator) -> Picture:
    """Render a line of a group, in a random font and size."""
    size = int(rng.choice(SIZES_PX))
    ink, spans = draw_glyphs(text, choose_font(kind, rng), size)
    angle = 90.0 if group == "turned" else 0.0
    if group == "slanted":
        angle = float(rng.uniform(3, 20) * rng.choice((-1, 1)))
    first, last = int(np.nanmin(spans)), int(np.nanmax(spans))
    coverage, matrix = place(ink[:, first:last], size, angle)

    def locate(left: float, right: float) -> Polygon:
        edges = np.array([[left, 0], [right, 0], [right, ink.shape[0]], [left, ink.shape[0]]]) - (first, 0)
        quad = edges @ matrix[:, :2].T + matrix[:, 2]
        # Corners are in the order of their place in the picture, as edge-ocr gives them.
        return (np.roll(quad, 1, axis=0) if group == "turned" else quad).astype(np.float32)

    characters = tuple(Part(text[i], locate(*span)) for i, span in enumerate(spans) if text[i] != " ")
    words = []
    for word in split_words(text):
        own = [spans[i] for i in word]
        words.append(Part(text[word.start : word.stop], locate(min(s[0] for s in own), max(s[1] for s in own))))
    direction = matrix[:, 0] / np.linalg.norm(matrix[:, 0])
    line = Line(
        text, kind, group, low_contrast, size, (float(direction[0]), float(direction[1])), characters, tuple(words)
    )
    return Picture(paint(coverage, low_contrast, rng), line)


def render_lines(count: int = LINES, seed: int = SEED) -> Iterator[Picture]:
    """Render lines: a fifth turned, a fifth slanted, as many of each kind."""
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        kind = KINDS[i // 5 % len(KINDS)]
        group = {0: "turned", 1: "slanted"}.get(i % 5, kind)
        text = make_text(kind, rng).strip()
        yield render_line(text, kind, group, bool(rng.random() < LOW_CONTRAST), rng)


def describe_line(name: str, line: Line) -> dict[str, Any]:
    """Return the truth as JSON values; polygons are 4 × 2 pixels."""

    def pair(parts: Sequence[Part]) -> list[Any]:
        return [[part.text, np.round(part.polygon.astype(float), 2).tolist()] for part in parts]

    return {
        "image": name,
        "text": line.text,
        "kind": line.kind,
        "group": line.group,
        "low_contrast": line.low_contrast,
        "em": line.em,
        "direction": [round(value, 6) for value in line.direction],
        "chars": pair(line.characters),
        "words": pair(line.words),
    }


def save_pictures(pictures: Iterable[Picture], folder: Path) -> None:
    """Write pictures as NNN.png and their truth as truth.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, picture in enumerate(pictures):
        name = f"{i:03d}.png"
        # Pillow takes red, green, blue.
        Image.fromarray(np.ascontiguousarray(picture.image[..., ::-1])).save(folder / name)
        rows.append(json.dumps(describe_line(name, picture.line), ensure_ascii=False))
    (folder / "truth.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
