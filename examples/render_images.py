"""Render every picture in this repository, with ground truth, so that all are free to use.

    pip install edge-ocr pylopdf-fonts-zh-cn
    python examples/render_images.py [--out examples/images]

The font package contains Noto Sans SC and Noto Serif SC (SIL Open Font License); edge-ocr installs Pillow, NumPy and
OpenCV. The shop, the street and the device do not exist. Two runs on one machine write the same bytes.

`gt.jsonl` has one row per picture: `{"image": name, "words": [{"poly": [[x, y] * 4], "text": str}]}`. `poly` is in
pixels of the picture, in the order of a text detector: top left, top right, bottom right, bottom left as seen in the
picture, whatever the direction of the text.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

FloatArray = npt.NDArray[np.floating]
Point = tuple[float, float]
Quad = tuple[Point, Point, Point, Point]
Colour = tuple[int, int, int]  # BGR

FONT_PACKAGE = "pylopdf_fonts_zh_cn"
SANS = "NotoSansSC-Regular.otf"
SERIF = "NotoSerifSC-Regular.otf"
# Scenes are painted at twice the size and then halved, so that letters have soft edges, as from a lens.
OVERSAMPLING = 2


def find_font(name: str) -> Path:
    spec = importlib.util.find_spec(FONT_PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit("the fonts are missing: pip install pylopdf-fonts-zh-cn")
    return Path(spec.origin).parent / name


@dataclass
class Word:
    poly: FloatArray  # 4x2
    text: str


@dataclass
class Sheet:
    """A flat object with print on it. `ink` is 0 for blank and 255 for printed."""

    width: int
    height: int
    words: list[Word] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ink = Image.new("L", (self.width, self.height), 0)
        self.pen = ImageDraw.Draw(self.ink)

    def write(
        self,
        text: str,
        x: float,
        y: float,
        size: int,
        *,
        anchor: str = "lm",
        font: str = SANS,
        bold: float = 0,
        fill: int = 255,
        downwards: bool = False,
    ) -> None:
        """Print one run of text and record its polygon. `downwards` rotates it by 90 degrees clockwise."""
        face = ImageFont.truetype(str(find_font(font)), size)
        left, top, right, bottom = self.pen.textbbox((0, 0), text, font=face, anchor=anchor, stroke_width=bold)
        if downwards:
            stamp = Image.new("L", (round(right - left), round(bottom - top)), 0)
            pen = ImageDraw.Draw(stamp)
            pen.text((-left, -top), text, font=face, anchor=anchor, fill=255, stroke_width=bold)
            stamp = stamp.transpose(Image.Transpose.ROTATE_270)
            x0, y0 = float(round(x - stamp.width / 2)), float(round(y - stamp.height / 2))
            x1, y1 = x0 + stamp.width, y0 + stamp.height
            self.ink.paste(fill, (int(x0), int(y0)), stamp)
        else:
            self.pen.text((x, y), text, font=face, anchor=anchor, fill=fill, stroke_width=bold)
            x0, y0, x1, y1 = x + left, y + top, x + right, y + bottom
        pad = 0.08 * size
        outline = [[x0 - pad, y0 - pad], [x1 + pad, y0 - pad], [x1 + pad, y1 + pad], [x0 - pad, y1 + pad]]
        self.words.append(Word(np.array(outline, np.float32), text))

    def rule(self, y: float, margin: int, dash: int = 0) -> None:
        """A horizontal line, dashed where `dash` gives the length of a stroke."""
        if dash == 0:
            self.pen.line((margin, y, self.width - margin, y), fill=255, width=3)
            return
        for x in range(margin, self.width - margin, 2 * dash):
            self.pen.line((x, y, x + dash, y), fill=190, width=3)


# --- Surfaces: float32 BGR in 0..255 ---


def make_noise(rng: np.random.Generator, height: int, width: int, cell: tuple[float, float]) -> FloatArray:
    """Smooth noise in 0..1 with features of about `cell` = (vertical, horizontal) pixels."""
    rows, columns = int(height / cell[0]) + 3, int(width / cell[1]) + 3
    coarse = rng.random((rows, columns), dtype=np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(fine, 0, 1).astype(np.float32)


def blend(dark: Colour, light: Colour, amount: FloatArray) -> FloatArray:
    low, high = np.array(dark, np.float32), np.array(light, np.float32)
    return (low + (high - low) * amount[..., None]).astype(np.float32)


def blur(image: FloatArray, sigma: float) -> FloatArray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def shift(image: FloatArray, dy: int, dx: int) -> FloatArray:
    """Shift a picture; its edge pixels fill the gap."""
    move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    size = (image.shape[1], image.shape[0])
    moved = cv2.warpAffine(image, move, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def paint_wood(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """A table with planks from top to bottom."""
    table = np.empty((height, width, 3), np.float32)
    plank = 430
    for left in range(-170, width, plank):
        x0, x1 = max(left, 0), min(left + plank, width)
        w = x1 - x0
        bend = 90 * make_noise(rng, height, w, (700, 200)) + 14 * make_noise(rng, height, w, (160, 60))
        across = np.arange(w, dtype=np.float32)[None, :] + bend
        rings = 0.5 + 0.5 * np.sin(across / 9.0 + 3 * make_noise(rng, height, w, (900, 90)))
        fibres = make_noise(rng, height, w, (240, 3))
        pores = make_noise(rng, height, w, (60, 2)) ** 6
        tone = 0.30 * rings + 0.34 * fibres + 0.36 * make_noise(rng, height, w, (900, 120)) - 0.35 * pores
        tone += rng.uniform(-0.10, 0.10)
        table[:, x0:x1] = blend((34, 52, 82), (92, 132, 176), np.clip(tone, 0, 1))
        table[:, x0 : x0 + 5] *= 0.45
        table[:, x0 + 5 : x0 + 9] *= 1.12
    return table


def paint_bricks(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """A whitewashed brick wall."""
    tone = np.full((height, width), 0.30, np.float32)
    brick_h, brick_w, joint = 76, 236, 9
    for row, y in enumerate(range(-30, height, brick_h)):
        for x in range(-brick_w + (row % 2) * brick_w // 2 - 40, width, brick_w):
            top_left = (x + joint + int(rng.integers(0, 4)), y + joint + int(rng.integers(0, 3)))
            bottom_right = (x + brick_w - int(rng.integers(0, 4)), y + brick_h - int(rng.integers(0, 3)))
            cv2.rectangle(tone, top_left, bottom_right, float(rng.uniform(0.56, 0.86)), -1)
    tone = blur(tone, 2.5)
    height_map = tone + 0.10 * make_noise(rng, height, width, (14, 18)) + 0.08 * make_noise(rng, height, width, (4, 4))
    # Light from the upper left: surfaces that face it are brighter.
    relief = height_map - shift(height_map, 4, 4)
    stains = make_noise(rng, height, width, (260, 160))
    shade = 0.75 * height_map + 0.9 * relief + 0.22 * stains
    return blend((112, 122, 134), (206, 216, 226), np.clip(shade, 0, 1))


def paint_plastic(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """The dark, grained housing of a device, with a row of vents."""
    grain = blur(rng.random((height, width), dtype=np.float32), 1.6)
    relief = (grain - shift(grain, 2, 2)) * 4
    tone = np.clip(0.45 + relief + 0.1 * make_noise(rng, height, width, (300, 300)), 0, 1)
    case = blend((44, 42, 40), (88, 84, 82), tone)
    for y in range(-20, 96, 34):
        for x in range(40, width - 40, 190):
            slot = np.zeros((height, width), np.float32)
            cv2.line(slot, (x + 20, y), (x + 150, y), 1.0, 15, cv2.LINE_AA)
            rim = np.clip(shift(slot, 3, 0) - slot, 0, 1)
            case = case * (1 - 0.75 * slot[..., None]) + 34 * rim[..., None]
    return case


def paint_paper(rng: np.random.Generator, height: int, width: int, colour: Colour) -> FloatArray:
    fibres = make_noise(rng, height, width, (3, 5)) * 0.5 + make_noise(rng, height, width, (9, 7)) * 0.5
    clouds = make_noise(rng, height, width, (400, 300))
    shade = 0.985 + 0.02 * (fibres - 0.5) + 0.03 * (clouds - 0.5)
    return np.array(colour, np.float32) * shade[..., None]


def print_on(surface: FloatArray, ink: FloatArray, colour: Colour) -> FloatArray:
    """`ink` is 0..1."""
    return surface * (1 - ink[..., None]) + np.array(colour, np.float32) * ink[..., None]


def get_ink(sheet: Sheet) -> FloatArray:
    return np.asarray(sheet.ink, np.float32) / 255


# --- The camera ---


def lay_down(
    background: FloatArray,
    surface: FloatArray,
    mask: FloatArray,
    corners: Quad,
    shadow: tuple[int, int, float, float],
) -> tuple[FloatArray, npt.NDArray[np.float64]]:
    """Put a flat surface into a scene, its corners at `corners`, with a shadow of (dx, dy, blur, strength).

    Returns the scene and the perspective matrix from the surface to it.
    """
    height, width = background.shape[:2]
    h, w = surface.shape[:2]
    source = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    matrix = np.asarray(cv2.getPerspectiveTransform(source, np.array(corners, np.float32)), np.float64)
    flags = cv2.INTER_CUBIC
    cover = np.asarray(cv2.warpPerspective(mask, matrix, (width, height), flags=flags), np.float32)
    cover = np.clip(cover, 0, 1)[..., None]
    laid = cv2.warpPerspective(surface, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    dx, dy, softness, strength = shadow
    far = blur(shift(cover[..., 0], dy, dx), softness)[..., None]
    near = blur(cover[..., 0], 5)[..., None]  # the thin dark line where the edge touches
    ground = background * (1 - strength * far) * (1 - 0.35 * near)
    return (ground * (1 - cover) + laid * cover).astype(np.float32), matrix


def light(height: int, width: int, bright: Point, fall: float) -> FloatArray:
    """Light of a lamp or window: 1 at `bright` (as a share of width and height), `1 - fall` in the far corner."""
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot(xs / width - bright[0], ys / height - bright[1])
    return np.asarray(1 - fall * np.clip(distance / 1.2, 0, 1) ** 1.4, np.float32)


def take_photo(rng: np.random.Generator, scene: FloatArray, focus_sigma: float, grain: float) -> npt.NDArray[np.uint8]:
    """Halve the scene; add the blur of the lens and the noise of the sensor (more in the shadows)."""
    height, width = scene.shape[0] // OVERSAMPLING, scene.shape[1] // OVERSAMPLING
    photo = cv2.resize(np.clip(scene, 0, 255), (width, height), interpolation=cv2.INTER_AREA)
    photo = blur(np.asarray(photo, np.float32), focus_sigma)
    luma = blur(rng.standard_normal((height, width)).astype(np.float32), 0.6)[..., None]
    chroma = blur(rng.standard_normal((height, width, 3)).astype(np.float32), 1.2)
    dark = 1.5 - photo.mean(axis=2, keepdims=True) / 255
    photo = photo + grain * dark * (1.6 * luma + 1.2 * chroma)
    return np.asarray(np.clip(np.rint(photo), 0, 255), np.uint8)


def project(words: list[Word], matrix: npt.NDArray[np.float64]) -> list[Word]:
    found = []
    for word in words:
        moved = cv2.perspectiveTransform(word.poly[None].astype(np.float64), matrix)[0] / OVERSAMPLING
        found.append(Word(moved.astype(np.float32), word.text))
    return found


def turn_around(photo: npt.NDArray[np.uint8], words: list[Word]) -> tuple[npt.NDArray[np.uint8], list[Word]]:
    """Rotate a picture by 180 degrees and reorder the corners, so that the first is the top left one."""
    size = np.array([photo.shape[1], photo.shape[0]], np.float32)
    turned = [Word((size - word.poly)[[2, 3, 0, 1]], word.text) for word in words]
    return np.ascontiguousarray(photo[::-1, ::-1]), turned


# --- The four pictures ---

Picture = tuple[npt.NDArray[np.uint8], list[Word]]

RECEIPT_ITEMS = (
    ("拿铁咖啡 Caffe Latte", 2, 2800),
    ("抹茶蛋糕 Matcha Cake", 1, 3200),
    ("牛角面包 Croissant", 3, 1500),
    ("桂花乌龙 Oolong Tea", 1, 2400),
    ("海盐饼干 Sea Salt Cookie", 2, 1500),
    ("笔记本 Notebook A5", 1, 3850),
    ("明信片 Postcard", 4, 500),
)


def format_money(cents: int) -> str:
    return f"{cents / 100:.2f}"


def draw_barcode(sheet: Sheet, digits: str, x: int, y: int, module: int, height: int) -> None:
    """EAN-13 (ISO/IEC 15420); `digits` includes the check digit."""
    odd = [f"{code:07b}" for code in (0x0D, 0x19, 0x13, 0x3D, 0x23, 0x31, 0x2F, 0x3B, 0x37, 0x0B)]
    # The first digit is encoded in the parity of the six left ones (1 is even).
    parity = [f"{code:06b}" for code in (0x00, 0x0B, 0x0D, 0x0E, 0x13, 0x19, 0x1C, 0x15, 0x16, 0x1A)]
    flip = str.maketrans("01", "10")
    right = [code.translate(flip) for code in odd]
    even = [code[::-1] for code in right]
    bits = "101"
    for digit, side in zip(digits[1:7], parity[int(digits[0])], strict=True):
        bits += (even if side == "1" else odd)[int(digit)]
    bits += "01010" + "".join(right[int(digit)] for digit in digits[7:]) + "101"
    for index, bit in enumerate(bits):
        if bit == "1":
            sheet.pen.rectangle((x + index * module, y, x + (index + 1) * module - 1, y + height), fill=255)


def print_receipt() -> Sheet:
    sheet = Sheet(1000, 1830)
    left, right, centre, body = 70, 930, 500, 37
    sheet.write("山茶书店咖啡", centre, 112, 84, anchor="mm", bold=1.5)
    sheet.write("CAMELLIA BOOKS & CAFE", centre, 196, 46, anchor="mm")
    sheet.write("云溪市桂花路18号", centre, 258, 38, anchor="mm")
    sheet.write("TEL: 0571-5550-0137", centre, 312, 38, anchor="mm")
    sheet.rule(354, left, dash=12)
    sheet.write("单号 No. 20260314-0082", left, 396, body)
    sheet.write("收银 03", right, 396, body, anchor="rm")
    sheet.write("2026-03-14", left, 450, body)
    sheet.write("15:42:07", right, 450, body, anchor="rm")
    sheet.rule(492, left, dash=12)
    quantity_x = 660
    sheet.write("品名 Item", left, 532, body)
    sheet.write("数量", quantity_x, 532, body, anchor="mm")
    sheet.write("金额 CNY", right, 532, body, anchor="rm")
    y = 592
    for name, quantity, price in RECEIPT_ITEMS:
        sheet.write(name, left, y, body)
        sheet.write(f"x{quantity}", quantity_x, y, body, anchor="mm")
        sheet.write(format_money(quantity * price), right, y, body, anchor="rm")
        y += 56
    sheet.rule(y - 10, left, dash=12)
    subtotal = sum(quantity * price for _, quantity, price in RECEIPT_ITEMS)
    discount = subtotal // 10
    total = subtotal - discount
    y += 34
    for label, amount in (("小计 Subtotal", subtotal), ("会员折扣 Member 10%", -discount)):
        sheet.write(label, left, y, body)
        sheet.write(format_money(amount), right, y, body, anchor="rm")
        y += 56
    y += 14
    sheet.write("合计 TOTAL", left, y, 56, bold=1)
    sheet.write("¥" + format_money(total), right, y, 56, anchor="rm", bold=1)
    y += 72
    for label, amount in (("现金 Cash", 30000), ("找零 Change", 30000 - total)):
        sheet.write(label, left, y, body)
        sheet.write(format_money(amount), right, y, body, anchor="rm")
        y += 56
    sheet.rule(y - 10, left, dash=12)
    y += 34
    for line in ("七日内凭小票退换", "Returns within 7 days with receipt", "谢谢惠顾，欢迎再来！"):
        sheet.write(line, centre, y, body, anchor="mm")
        y += 54
    draw_barcode(sheet, "6901234567892", 215, y, 6, 118)
    sheet.write("6901234567892", centre, y + 148, 38, anchor="mm")
    return sheet


def render_receipt(rng: np.random.Generator) -> Picture:
    sheet = print_receipt()
    height, width = sheet.height, sheet.width
    paper = paint_paper(rng, height, width, (236, 243, 246))
    # A thermal head prints unevenly: cloudy, and weaker along a few columns.
    wear = (
        0.80 + 0.16 * make_noise(rng, height, width, (220, 140)) + 0.10 * (make_noise(rng, height, width, (3, 3)) - 0.5)
    )
    for column in rng.integers(80, width - 80, 5):
        wear[:, column : column + 3] *= 0.82
    printed = print_on(paper, get_ink(sheet) * np.clip(wear, 0, 1), (62, 52, 50))
    # The receipt was folded once and is still curled.
    ys = np.arange(height, dtype=np.float32)
    fold = height * 0.47
    shading = 1 - 0.055 * np.exp(-np.clip(ys - fold, 0, None) / 150) * (ys >= fold)
    shading += 0.030 * np.exp(-np.clip(fold - ys, 0, None) / 110) * (ys < fold)
    shading -= 0.10 * np.exp(-(height - ys) / 130)
    xs = np.arange(width, dtype=np.float32)
    curl = 1 - 0.05 * np.exp(-xs / 60) - 0.08 * np.exp(-(width - xs) / 90)
    printed = printed * (shading[:, None] * curl[None, :])[..., None].astype(np.float32)
    crumple = blur(make_noise(rng, height, width, (120, 150)), 20)
    relief = crumple - shift(crumple, 12, 16)
    printed = printed * (1 + 0.45 * relief[..., None])
    # The cutter of the printer leaves a jagged edge.
    mask = np.ones((height, width), np.float32)
    for x in range(0, width, 20):
        for top, edge in ((True, 0), (False, height)):
            tooth = np.array([[x, edge], [x + 20, edge], [x + 10, edge + (11 if top else -11)]], np.int32)
            cv2.fillPoly(mask, [tooth], 0.0)
    table = blur(paint_wood(rng, 2200, 1440), 2.2)
    corners = ((196.0, 92.0), (1288.0, 62.0), (1342.0, 2074.0), (100.0, 2054.0))
    scene, matrix = lay_down(table, printed.astype(np.float32), mask, corners, (20, 26, 24, 0.5))
    lamp = light(2200, 1440, (0.25, 0.12), 0.36)
    # The shadow of the photographer.
    person = np.zeros((2200, 1440), np.float32)
    cv2.ellipse(person, (1420, 2150), (620, 900), 24, 0, 360, 1.0, -1)
    small = np.asarray(cv2.resize(person, (360, 550)), np.float32)
    lamp *= 1 - 0.20 * cv2.resize(blur(small, 30), (1440, 2200))
    scene = scene * lamp[..., None] * np.array((0.96, 1.0, 1.03), np.float32)
    return take_photo(rng, scene, 0.65, 2.6), project(sheet.words, matrix)


def render_sign(rng: np.random.Generator) -> Picture:
    sheet = Sheet(1120, 520)
    sheet.write("山茶书店", 560, 176, 210, anchor="mm", font=SERIF, bold=3)
    sheet.write("CAMELLIA BOOKS & CAFE", 560, 346, 66, anchor="mm", font=SERIF, bold=1)
    sheet.write("营业时间", 196, 440, 50, font=SANS)
    sheet.write("OPEN 10:00-22:00", 924, 440, 50, anchor="rm", font=SANS)
    for inset, thickness in ((26, 5), (38, 2)):
        box = (inset, inset, sheet.width - inset, sheet.height - inset)
        sheet.pen.rounded_rectangle(box, 22, outline=255, width=thickness)
    height, width = sheet.height, sheet.width
    streaks = make_noise(rng, height, width, (4, 500))
    board = blend(
        (44, 58, 22),
        (62, 80, 36),
        np.clip(0.5 * streaks + 0.5 * make_noise(rng, height, width, (200, 260)), 0, 1),
    )
    ink = get_ink(sheet)
    # The letters are raised: a lit rim at the upper left, a shadow at the lower right.
    cast = blur(shift(ink, 7, 6), 3)
    board = board * (1 - 0.6 * np.clip(cast - ink, 0, 1)[..., None])
    board = print_on(board, ink, (178, 216, 234))
    rim = np.clip(ink - shift(ink, 3, 3), 0, 1)
    board = board + 34 * rim[..., None]
    ys, xs = np.mgrid[0:height, 0:width]
    edge = np.minimum(np.minimum(xs, width - 1 - xs), np.minimum(ys, height - 1 - ys)).astype(np.float32)
    board = np.where(edge[..., None] < 12, board * 0.55 + 18, board)
    bolts = ((60, 60), (width - 60, 60), (60, height - 60), (width - 60, height - 60))
    for bolt in bolts:
        cv2.circle(board, bolt, 11, (96.0, 108.0, 112.0), -1, cv2.LINE_AA)
        cv2.circle(board, (bolt[0] - 3, bolt[1] - 3), 4, (190.0, 200.0, 205.0), -1, cv2.LINE_AA)
    wall = blur(paint_bricks(rng, 860, 1280), 1.2)
    corners = ((112.0, 150.0), (1196.0, 104.0), (1180.0, 716.0), (128.0, 664.0))
    mask = np.ones((height, width), np.float32)
    scene, matrix = lay_down(wall, board.astype(np.float32), mask, corners, (30, 42, 13, 0.52))
    # Sun through a tree: soft, warm spots on everything.
    leaves = 0.6 * make_noise(rng, 860, 1280, (110, 120)) + 0.4 * make_noise(rng, 860, 1280, (38, 44))
    sun = blur(np.clip((leaves - 0.44) * 7, 0, 1).astype(np.float32), 9)
    glow = np.stack([0.70 + 0.24 * sun, 0.68 + 0.34 * sun, 0.66 + 0.42 * sun], axis=-1)
    scene = scene * glow * light(860, 1280, (0.2, 0.0), 0.22)[..., None]
    return take_photo(rng, scene, 0.6, 0.5), project(sheet.words, matrix)


def print_label() -> Sheet:
    sheet = Sheet(1040, 640)
    sheet.pen.rectangle((0, 0, 1040, 124), fill=255)
    sheet.write("KESTREL GATEWAY", 44, 62, 66, bold=1.5, fill=0)
    sheet.write("KG-410A", 996, 62, 54, anchor="rm", fill=0)
    rows = (
        ("P/N", "71-20938-03"),
        ("S/N", "4C7F29A0183"),
        ("MAC", "02:1A:7D:33:0E:91"),
        ("PWR", "12V DC 1.5A"),
        ("REV", "B2"),
    )
    for index, (name, value) in enumerate(rows):
        y = 178 + index * 72
        sheet.write(name, 44, y, 42)
        sheet.write(value, 196, y, 46, bold=0.6)
    sheet.rule(528, 40)
    sheet.write("For indoor use only", 44, 580, 40)
    sheet.write("2026-W11", 760, 580, 40, anchor="rm")
    # The code encodes the printed digits.
    code = cv2.QRCodeEncoder.create().encode("KG-410A 71-20938-03 4C7F29A0183")
    code = cv2.resize(code, None, fx=6, fy=6, interpolation=cv2.INTER_NEAREST)
    sheet.ink.paste(Image.fromarray(255 - code), (820 - code.shape[1] // 2, 190))
    sheet.write("CAL PASS 0426-7", 984, 336, 42, downwards=True)
    return sheet


def render_label(rng: np.random.Generator) -> Picture:
    sheet = print_label()
    height, width = sheet.height, sheet.width
    # Brushed metal foil.
    brushed = make_noise(rng, height, width, (2, 260)) * 0.6 + make_noise(rng, height, width, (2, 60)) * 0.4
    foil = blend((186, 188, 190), (226, 228, 230), brushed)
    sheen = np.exp(-((np.arange(width, dtype=np.float32) - 330) ** 2) / (2 * 210.0**2))
    foil = foil * (0.90 + 0.14 * sheen)[None, :, None].astype(np.float32)
    ink = get_ink(sheet) * (0.93 + 0.05 * make_noise(rng, height, width, (3, 3)))
    # One scratch, and dust.
    cv2.line(ink, (560, 596), (742, 500), 0.35, 2, cv2.LINE_AA)
    foil = print_on(foil, ink.astype(np.float32), (34, 30, 28))
    rounded = Image.new("L", (width, height), 0)
    ImageDraw.Draw(rounded).rounded_rectangle((0, 0, width - 1, height - 1), 30, fill=255)
    mask = np.asarray(rounded, np.float32) / 255
    case = paint_plastic(rng, 920, 1280)
    corners = ((108.0, 176.0), (1150.0, 130.0), (1186.0, 784.0), (122.0, 822.0))
    scene, matrix = lay_down(case, foil.astype(np.float32), mask, corners, (3, 4, 4, 0.5))
    for _ in range(90):
        spot = (int(rng.integers(0, 1280)), int(rng.integers(0, 920)))
        cv2.circle(scene, spot, int(rng.integers(1, 3)), (150.0, 152.0, 154.0), -1, cv2.LINE_AA)
    scene = scene * light(920, 1280, (0.3, 0.1), 0.42)[..., None] * np.array((1.02, 1.0, 0.97), np.float32)
    return take_photo(rng, scene, 0.6, 0.5), project(sheet.words, matrix)


def render_upside_down(rng: np.random.Generator) -> Picture:
    sheet = Sheet(1180, 300)
    sheet.write("请把这张卡片转过来 Turn me around", 590, 150, 62, anchor="mm", font=SERIF, bold=0.6)
    height, width = sheet.height, sheet.width
    card = print_on(paint_paper(rng, height, width, (226, 238, 243)), get_ink(sheet) * 0.92, (58, 44, 40))
    ys = np.arange(height, dtype=np.float32)
    card = card * (1 - 0.06 * np.exp(-ys / 40))[:, None, None]
    ground = blend((112, 98, 84), (140, 126, 110), make_noise(rng, 480, 1360, (5, 5)))
    weave = 1 + 0.05 * (np.indices((480, 1360)).sum(axis=0) // 4 % 2)
    ground = blur(ground * weave[..., None].astype(np.float32), 1.0)
    corners = ((84.0, 92.0), (1266.0, 70.0), (1284.0, 378.0), (76.0, 396.0))
    scene, matrix = lay_down(
        ground, card.astype(np.float32), np.ones((height, width), np.float32), corners, (10, 14, 11, 0.45)
    )
    scene = scene * light(480, 1360, (0.8, 0.1), 0.34)[..., None] * np.array((0.95, 1.0, 1.04), np.float32)
    return turn_around(take_photo(rng, scene, 0.6, 0.5), project(sheet.words, matrix))


PICTURES: dict[str, Callable[[np.random.Generator], Picture]] = {
    "receipt.jpg": render_receipt,
    "sign.png": render_sign,
    "label.png": render_label,
    "upside_down.png": render_upside_down,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Render the pictures in this repository.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    folder: Path = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed, (name, render) in enumerate(PICTURES.items()):
        photo, words = render(np.random.default_rng(20260314 + seed))
        options = [cv2.IMWRITE_JPEG_QUALITY, 84] if name.endswith(".jpg") else [cv2.IMWRITE_PNG_COMPRESSION, 9]
        if not cv2.imwrite(str(folder / name), photo, options):
            raise SystemExit(f"cannot write {folder / name}")
        truth = [{"poly": np.round(word.poly.astype(float), 1).tolist(), "text": word.text} for word in words]
        rows.append(json.dumps({"image": name, "words": truth}, ensure_ascii=False))
        print(f"{folder / name}: {photo.shape[1]}x{photo.shape[0]}, {len(words)} words")
    (folder / "gt.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
