"""Render pictures on which OCR pipelines lose text, with ground truth, for benchmarks.hard.

    python -m benchmarks.render_hard --out DIR [--kinds tall,strips]

Each kind gets a folder: `tall` web pages and screenshots, `wide` panoramas, `ticker` lines, `strips` of one line with
little or no margin, `slanted` lines, `tilted` tables, `documents` with small print, and `screens` and photos in which
text is small, rare or absent. Each has a `gt.jsonl` in reading order, in the format of examples/render_images.py. Two
runs on one machine write the same bytes.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from examples.render_images import (
    OVERSAMPLING,
    SANS,
    SERIF,
    Colour,
    Picture,
    Sheet,
    Word,
    blend,
    blur,
    find_font,
    get_ink,
    lay_down,
    light,
    make_noise,
    paint_bricks,
    paint_paper,
    paint_wood,
    print_on,
    project,
    take_photo,
)

SEED = 20261201
WHITE: Colour = (255, 255, 255)
BLACK: Colour = (26, 24, 22)
SLANTS = (-60, -45, -30, 30, 45, 60)
TILTS = (-9.0, -5.0, -2.5, 2.5, 5.0, 9.0)
STRIP_SIZES, STRIP_MARGINS = (12, 16, 20, 24, 28, 32), (0, 4, 12)
A4_INCHES = (8.27, 11.69)

# A sentence takes one of each.
PARTS = {
    "zh": (
        ("市图书馆", "港口调度室", "气象观测站", "老城菜市场", "南山植物园", "地铁运营处", "县水务公司", "社区医院"),
        ("今天公布了", "正在检查", "重新登记了", "计划更换", "已经收到", "下周开放", "暂时停用", "仔细核对了"),
        ("夜间班车时刻表", "三号仓库的钥匙", "雨水管道图纸", "第二季度账目", "屋顶照明设备", "新到的茶叶样品"),
        ("请于周五前答复", "费用另行通知", "欢迎电话咨询", "附近居民表示满意", "结果贴在门口", "其余事项不变"),
    ),
    "en": (
        ("The harbour office", "A local bakery", "Our night shift", "The county museum", "Every second train"),
        ("has published", "will replace", "is still checking", "quietly removed", "asked for", "plans to repaint"),
        ("the winter timetable", "a box of spare keys", "all drainage maps", "the old lighting", "twelve oak benches"),
        ("please reply by Friday", "costs are shared later", "visitors are welcome", "nothing else changes"),
    ),
}
LABELS = ("青石桥", "东门渡口", "海棠巷", "Pier 9", "云杉林", "Gate B", "望江亭", "Mill End", "北屏山", "South Lock")
GOODS = ("铜", "棉花", "原油", "玉米", "Silver", "白糖", "Cocoa", "焦炭", "Rubber", "大豆", "Nickel", "甲醇")
NAMES = ("林晓", "周子安", "许明月", "高远", "沈知秋", "何川", "陆青", "方亦舒")
TEAMS = ("采购组", "质检科", "仓储部", "运输队", "设计室", "财务处", "法务组", "客服部")
WORDS = {"zh": ("出口", "请勿停车", "鲜花", "开放"), "en": ("EXIT", "NO PARKING", "FLOWERS", "OPEN")}


# --- texts


def say(rng: np.random.Generator, language: str) -> str:
    subject, verb, thing, tail = (str(rng.choice(part)) for part in PARTS[language])
    return f"{subject}{verb}{thing}，{tail}。" if language == "zh" else f"{subject} {verb} {thing}; {tail}."


def pick_language(rng: np.random.Generator) -> str:
    return str(rng.choice(list(PARTS)))


def make_digits(rng: np.random.Generator, count: int) -> str:
    return "".join(map(str, rng.integers(0, 10, count)))


def load_face(size: int, font: str = SANS) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(find_font(font)), size)


def break_lines(text: str, language: str, face: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break a text into lines of at most `width`: between words, in Chinese not before a punctuation mark."""
    join = "" if language == "zh" else " "
    lines = [""]
    for token in list(text) if language == "zh" else text.split(" "):
        longer = f"{lines[-1]}{join}{token}" if lines[-1] else token
        if face.getlength(longer) > width and lines[-1] and token not in tuple("，。).; "):
            lines.append(token)
        else:
            lines[-1] = longer
    return lines


# --- from sheets to pictures


def show(sheet: Sheet, paper: Image.Image | Colour, ink: Colour = BLACK) -> Picture:
    """Return the sheet as a screen shows it, on one colour or on a BGR picture."""
    size = (sheet.width, sheet.height)
    ground = paper if isinstance(paper, Image.Image) else Image.new("RGB", size, paper)
    pixels = np.array(Image.composite(Image.new("RGB", size, ink), ground, sheet.ink))
    return clip_words(pixels, sheet.words)


def clip_words(pixels: np.ndarray, words: list[Word]) -> Picture:
    """Clip the ground truth to the picture: outlines are a little larger than the print."""
    most = [pixels.shape[1], pixels.shape[0]]
    return pixels, [Word(np.clip(word.poly, 0, most).astype(np.float32), word.text) for word in words]


def turn(picture: Picture, degrees: float, paper: Colour) -> Picture:
    """Rotate a picture clockwise about its centre; it grows so that nothing is cut off."""
    pixels, words = picture
    height, width = pixels.shape[:2]
    matrix = np.eye(3)
    matrix[:2] = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1)
    across, down = np.abs(matrix[0, :2]), np.abs(matrix[1, :2])
    size = (int(np.ceil(across @ [width, height])), int(np.ceil(down @ [width, height])))
    matrix[:2, 2] += [(size[0] - width) / 2, (size[1] - height) / 2]
    turned = cv2.warpAffine(pixels, matrix[:2], size, flags=cv2.INTER_CUBIC, borderValue=paper)
    return clip_words(np.asarray(turned, np.uint8), move_words(words, matrix))


def move_words(words: list[Word], matrix: np.ndarray) -> list[Word]:
    """`project` for scenes that are not painted with OVERSAMPLING."""
    return project(words, np.diag((OVERSAMPLING, OVERSAMPLING, 1.0)) @ matrix)


def add_grain(rng: np.random.Generator, scene: np.ndarray, sigma: float, grain: float) -> np.ndarray:
    """Add blur and noise of a camera; needs a seventh of the memory of `take_photo`."""
    photo = blur(scene, sigma) + grain * rng.standard_normal(scene.shape[:2], dtype=np.float32)[..., None]
    return np.asarray(np.clip(np.rint(photo), 0, 255), np.uint8)


# --- tall


def render_web(rng: np.random.Generator, width: int = 1280, height: int = 9000, size: int = 16) -> Picture:
    """A text at every second line height, from top to bottom."""
    sheet = Sheet(width, height)
    for index in range((height - 40) // (2 * size)):
        text = f"{index + 1}. {say(rng, pick_language(rng))} {make_digits(rng, 4)}"
        sheet.write(text, 3 * size, 20 + size * (2 * index + 1), size)
    return show(sheet, WHITE)


def render_article(rng: np.random.Generator, width: int, height: int, sizes: tuple[int, ...]) -> Picture:
    """Headings and paragraphs as on a phone, a line about every 90 px."""
    sheet = Sheet(width, height)
    y, margin, step = 75, width // 20, 90
    while y < height - step:
        size, language = int(rng.choice(sizes)), pick_language(rng)
        text = " ".join(say(rng, language) for _ in range(3)).replace("。 ", "。")
        for line in break_lines(text, language, load_face(size), width - 2 * margin):
            if y < height - step // 2:
                sheet.write(line, margin, y, size)
            y += step
    return show(sheet, (246, 250, 251))


def render_chat(rng: np.random.Generator, width: int, height: int, sizes: tuple[int, ...]) -> Picture:
    """Messages in bubbles on both sides."""
    sheet = Sheet(width, height)
    ground = Image.new("RGB", (width, height), (237, 237, 237))
    pen = ImageDraw.Draw(ground)
    y, margin, step = 75, width // 18, 78
    while y < height - 4 * step:
        size, language = int(rng.choice(sizes)), pick_language(rng)
        mine = bool(rng.integers(0, 2))
        lines = break_lines(say(rng, language), language, load_face(size), 0.66 * width)
        left = width - margin - max(load_face(size).getlength(line) for line in lines) if mine else margin
        top, bottom = y - 0.9 * size, y + step * (len(lines) - 1) + 0.9 * size
        right = width - margin if mine else left + max(load_face(size).getlength(line) for line in lines)
        box = (left - 0.6 * size, top, right + 0.6 * size, bottom)
        pen.rounded_rectangle(box, size // 2, fill=(140, 232, 149) if mine else WHITE)
        for line in lines:
            sheet.write(line, left, y, size)
            y += step
        y += step // 2
    return show(sheet, ground)


def render_tall(rng: np.random.Generator) -> Iterator[tuple[str, Picture]]:
    for height in (3000, 6000, 9000, 12000):
        yield f"web_1280x{height:05}.png", render_web(rng, 1280, height)
    yield "article_1080x12000.png", render_article(rng, 1080, 12000, (36, 40, 44, 48))
    yield "chat_1080x12000.png", render_chat(rng, 1080, 12000, (36, 40, 44, 48))
    yield "phone_1080x02400.png", render_chat(rng, 1080, 2400, (40,))


# --- wide, ticker, strips


def render_panorama(rng: np.random.Generator, width: int, height: int, columns: int) -> Picture:
    """Labels in nine rows on a darkening sky."""
    sheet = Sheet(width, height)
    for row, column in product(range(9), range(columns)):
        x = (column + 0.08) * width / columns + rng.integers(0, 40)
        text = f"{rng.choice(LABELS)} {rng.choice(list('ABCDEFGH'))}{make_digits(rng, 4)}"
        sheet.write(text, float(x), (row + 0.5) * height / 9, int(rng.integers(22, 31)))
    ramp = np.linspace(1, 0, height, dtype=np.float32)[:, None] * np.ones(width, np.float32)
    sky = blend((214, 226, 232), (246, 244, 240), np.clip(ramp + 0.1 * make_noise(rng, height, width, (90, 300)), 0, 1))
    return show(sheet, Image.fromarray(sky.astype(np.uint8)))


def render_wide(rng: np.random.Generator) -> Iterator[tuple[str, Picture]]:
    yield "panorama_08000x600.png", render_panorama(rng, 8000, 600, 19)
    yield "panorama_15000x600.png", render_panorama(rng, 15000, 600, 36)


def render_line_of_items(rng: np.random.Generator, width: int, height: int, count: int, size: int) -> Picture:
    """One line of evenly spaced items, up to both edges."""
    face = load_face(size)
    items = [
        f"{rng.choice(GOODS)} {rng.integers(800, 90000)} {rng.choice(['+', '-'])}{rng.integers(1, 600) / 100:.2f}%"
        for _ in range(count)
    ]
    gap = (width - sum(map(face.getlength, items))) / (count + 1)
    sheet, x = Sheet(width, height), gap
    for item in items:
        sheet.write(item, x, height / 2, size)
        x += face.getlength(item) + gap
    return show(sheet, (48, 30, 16), (120, 214, 250))


def render_ticker(rng: np.random.Generator) -> Iterator[tuple[str, Picture]]:
    yield "ticker_17736x60.png", render_line_of_items(rng, 17736, 60, 60, 28)
    yield "ticker_09000x40.png", render_line_of_items(rng, 9000, 40, 36, 20)


def render_strip(
    rng: np.random.Generator, size: int, margin: int, paper: Colour = WHITE, ink: Colour = BLACK
) -> Picture:
    """One line of Chinese, Latin and digits, with `margin` pixels between ink and edge."""
    subject, verb, thing, _ = (str(rng.choice(part)) for part in PARTS["zh"])
    code = "".join(map(str, rng.choice(list("ABDEFHKMNPRTX"), 3)))
    text = f"{subject}{verb}{thing}编号{code}{make_digits(rng, 4)}共{rng.integers(2, 60)}项"
    left, top, right, bottom = load_face(size).getbbox(text)
    sheet = Sheet(round(right - left) + 2 * margin, round(bottom - top) + 2 * margin)
    sheet.write(text, margin - left, margin - top, size, anchor="la")
    return show(sheet, paper, ink)


def render_strips(rng: np.random.Generator) -> Iterator[tuple[str, Picture]]:
    for size, margin in product(STRIP_SIZES, STRIP_MARGINS):
        yield f"strip_{size}px_margin{margin:02}.png", render_strip(rng, size, margin)
    for size, margin in product((14, 22), (0, 8)):
        yield (
            f"strip_{size}px_margin{margin:02}_dark.png",
            render_strip(rng, size, margin, (52, 38, 30), (238, 240, 242)),
        )


# --- slanted, tilted


def render_slant(rng: np.random.Generator, degrees: float) -> Picture:
    """Two lines of Chinese and two of English, all rotated."""
    sheet = Sheet(960, 460)
    for index in range(4):
        parts = PARTS["en" if index % 2 else "zh"]
        text = (" " if index % 2 else "").join(str(rng.choice(part)) for part in parts[:3])
        if not index % 2:
            text += make_digits(rng, 6)
        sheet.write(text, 50, 65 + 110 * index, 36 if index % 2 == 0 else 30)
    return turn(show(sheet, WHITE), degrees, WHITE)


def render_slanted(rng: np.random.Generator) -> Iterator[tuple[str, Picture]]:
    for degrees in SLANTS:
        yield f"slanted_{degrees:+}.png", render_slant(rng, degrees)


def render_table(rng: np.random.Generator, rows: int, degrees: float, ruled: bool) -> Picture:
    """A table of four columns, with lines around its cells if it is `ruled`."""
    column, row, margin = 285, int(rng.integers(52, 72)), 40
    sheet = Sheet(4 * column + 2 * margin, rows * row + 2 * margin)
    for index in range(rows):
        cells = (
            f"{rng.choice(NAMES)}{index + 1}",
            f"{rng.choice(TEAMS)}{rng.integers(1, 10)}楼",
            f"No.{make_digits(rng, 5)}",
            f"0{make_digits(rng, 2)}-{make_digits(rng, 7)}",
        )
        for number, cell in enumerate(cells):
            sheet.write(cell, margin + 18 + number * column, margin + (index + 0.5) * row, 26)
    if ruled:
        for index in range(rows + 1):
            y = margin + index * row
            sheet.pen.line((margin, y, margin + 4 * column, y), fill=150, width=2)
        for number in range(5):
            x = margin + number * column
            sheet.pen.line((x, margin, x, margin + rows * row), fill=150, width=2)
    return turn(show(sheet, WHITE), degrees, WHITE)


def render_tilted(rng: np.random.Generator) -> Iterator[tuple[str, Picture]]:
    for degrees, rows in product(TILTS, range(4, 9)):
        yield f"table_{rows}rows_{degrees:+}.png", render_table(rng, rows, degrees, ruled=rows % 2 == 1)


# --- documents


def write_column(
    rng: np.random.Generator, sheet: Sheet, language: str, box: tuple[float, float, float, float], size: int, font: str
) -> None:
    """Fill a box (left, top, right, bottom) with paragraphs of `size` pixels."""
    left, y, right, bottom = box
    face, step = load_face(size, font), 1.5 * size
    while y < bottom - 2 * step:
        text = ("" if language == "zh" else " ").join(say(rng, language) for _ in range(rng.integers(3, 7)))
        text = f"{text[:-1]} ({make_digits(rng, 3)})."
        for line in break_lines(text, language, face, right - left):
            if y < bottom:
                sheet.write(line, left, y + step / 2, size, font=font)
            y += step
        y += 0.7 * step


def print_page(
    rng: np.random.Generator, width: int, height: int, size: int, columns: int, language: str, newspaper: bool
) -> Sheet:
    """A page with a heading above its columns; a newspaper also has a masthead and lines."""
    sheet = Sheet(width, height)
    margin, font = width // 14, SERIF if newspaper or language == "en" else SANS
    top = margin + 4 * size
    if newspaper:
        name = "桂花晚报" if language == "zh" else "The Quay Gazette"
        sheet.write(name, width / 2, top, 5 * size, anchor="mm", font=font, bold=1)
        sheet.rule(top + 4 * size, margin)
        top += 6 * size
    heading = "".join(str(rng.choice(part)) for part in PARTS[language][:1])
    heading += "年度工作说明" if language == "zh" else ": a short report"
    sheet.write(heading, width / 2, top, round(2.2 * size), anchor="mm", font=font, bold=0.5)
    top += 3 * size
    gap = 2.5 * size
    each = (width - 2 * margin - gap * (columns - 1)) / columns
    for column in range(columns):
        left = margin + column * (each + gap)
        write_column(rng, sheet, language, (left, top, left + each, height - margin), size, font)
        if newspaper and column:
            x = round(left - gap / 2)
            sheet.pen.line((x, top, x, height - margin), fill=140, width=2)
    return sheet


def render_document(
    rng: np.random.Generator, dpi: int, points: int, columns: int, language: str, newspaper: bool
) -> Picture:
    """An A4 page: clean, as a program writes it, or a scanned newspaper."""
    scale = OVERSAMPLING if newspaper else 1
    width, height = (scale * round(side * dpi) for side in A4_INCHES)
    sheet = print_page(rng, width, height, round(scale * points * dpi / 72), columns, language, newspaper)
    if not newspaper:
        return show(sheet, WHITE)
    paper = paint_paper(rng, height, width, (206, 218, 224))
    printed = print_on(paper, 0.85 * get_ink(sheet), (60, 56, 54))
    return clip_words(take_photo(rng, printed, 0.45, 1.5), project(sheet.words, np.eye(3)))


def render_documents(rng: np.random.Generator) -> Iterator[tuple[str, Picture]]:
    for (i, dpi), columns, (j, points) in product(enumerate((120, 150, 200)), (1, 2), enumerate((7, 9, 11))):
        language, newspaper = ("zh", "en")[(i + columns + j) % 2], (i + j) % 2 == 1
        kind = "newspaper" if newspaper else "paper"
        name = f"{kind}_{language}_{dpi}dpi_{points}pt_{columns}col." + ("jpg" if newspaper else "png")
        yield name, render_document(rng, dpi, points, columns, language, newspaper)


# --- screens


def render_desktop(rng: np.random.Generator, width: int, height: int, dark: bool) -> Picture:
    """A program with a list on the left, headings and small print on the right."""
    sheet = Sheet(width, height)
    ground = Image.new("RGB", (width, height), (44, 38, 36) if dark else (250, 249, 248))
    pen = ImageDraw.Draw(ground)
    pen.rectangle((0, 0, width, 40), fill=(70, 60, 56) if dark else (230, 226, 222))
    pen.rectangle((0, 40, 300, height), fill=(56, 48, 46) if dark else (242, 240, 238))
    sheet.write(f"Stock {make_digits(rng, 4)} - 库存管理", 20, 20, 16)
    for index in range((height - 100) // 34):
        sheet.write(f"{rng.choice(LABELS)} {make_digits(rng, 3)}", 24, 70 + 34 * index, int(rng.integers(14, 17)))
    columns = max(1, (width - 340) // 760)
    for column in range(columns):
        left, y = 340 + column * (width - 340) // columns, 90
        while y < height - 60:
            language = pick_language(rng)
            subject, _, thing, _ = (str(rng.choice(part)) for part in PARTS[language])
            sheet.write(f"{subject}：{thing}" if language == "zh" else subject, left, y, int(rng.integers(30, 46)))
            y += 56
            for _ in range(rng.integers(4, 9)):
                if y < height - 30:
                    sheet.write(f"{say(rng, language)} {make_digits(rng, 4)}", left, y, int(rng.integers(14, 19)))
                y += 32
            y += 40
    return show(sheet, ground, (226, 228, 230) if dark else BLACK)


def render_page_photo(rng: np.random.Generator, width: int, height: int) -> Picture:
    """A printed page on a table, seen from above."""
    size = height // 110
    sheet = print_page(rng, round(0.78 * height), round(0.95 * height), size, 2, "zh", newspaper=False)
    page = print_on(paint_paper(rng, sheet.height, sheet.width, (238, 243, 245)), 0.9 * get_ink(sheet), (52, 48, 46))
    left, top = (width - sheet.width) / 2, (height - sheet.height) / 2
    ends = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (sheet.width, sheet.height) + (left, top)
    corners = tuple(map(tuple, ends + rng.uniform(-0.012, 0.012, (4, 2)) * height))
    table = blur(paint_wood(rng, height, width), 2)
    mask = np.ones((sheet.height, sheet.width), np.float32)
    scene, matrix = lay_down(table, page.astype(np.float32), mask, corners, (12, 16, 14, 0.45))
    scene = scene * light(height, width, (0.3, 0.1), 0.25)[..., None]
    return clip_words(add_grain(rng, scene, 0.7, 2.5), move_words(sheet.words, matrix))


def render_wall(rng: np.random.Generator, width: int, height: int) -> Picture:
    """Large words on a wall of bricks."""
    sheet = Sheet(width, height)
    for index, (x, y) in enumerate(((0.25, 0.25), (0.7, 0.3), (0.3, 0.7), (0.72, 0.75))):
        word = str(rng.choice(WORDS["en" if index % 2 else "zh"]))
        sheet.write(word, x * width, y * height, height // 12, anchor="mm", bold=height / 750)
    wall = print_on(blur(paint_bricks(rng, height, width), 1.5), 0.9 * get_ink(sheet), (60, 44, 150))
    scene = wall * light(height, width, (0.2, 0.0), 0.3)[..., None]
    return clip_words(add_grain(rng, scene, 0.9, 3), sheet.words)


def render_scenery(rng: np.random.Generator, width: int, height: int) -> Picture:
    """Hills, clouds and pebbles, and no text."""
    clouds = 0.6 * make_noise(rng, height, width, (400, 700)) + 0.4 * make_noise(rng, height, width, (120, 200))
    scene = blend((200, 150, 90), (245, 235, 225), clouds)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    for depth, tone in enumerate((150, 110, 70)):
        ridge = height * (0.5 + 0.14 * depth) + 0.08 * height * np.sin(xs / width * (5 + 3 * depth) + rng.uniform(0, 6))
        scene[ys > ridge] = (tone * 0.7, tone, tone * 0.8)
    for _ in range(160):
        at = (int(rng.integers(0, width)), int(rng.integers(int(0.85 * height), height)))
        axes = (int(rng.integers(4, 4 + width // 60)), int(rng.integers(3, 3 + height // 90)))
        cv2.ellipse(scene, at, axes, float(rng.uniform(-20, 20)), 0, 360, (float(rng.integers(60, 170)),) * 3, -1)
    return add_grain(rng, scene, 2, 5), []


def render_screens(rng: np.random.Generator) -> Iterator[tuple[str, Picture]]:
    yield "desktop_1920x1080.png", render_desktop(rng, 1920, 1080, dark=False)
    yield "desktop_1920x1080_dark.png", render_desktop(rng, 1920, 1080, dark=True)
    yield "desktop_3840x2160.png", render_desktop(rng, 3840, 2160, dark=False)
    yield "photo_page_4000x3000.jpg", render_page_photo(rng, 4000, 3000)
    yield "photo_words_4000x3000.jpg", render_wall(rng, 4000, 3000)
    yield "photo_no_text_4000x3000.jpg", render_scenery(rng, 4000, 3000)


KINDS: dict[str, Callable[[np.random.Generator], Iterator[tuple[str, Picture]]]] = {
    "tall": render_tall,
    "wide": render_wide,
    "ticker": render_ticker,
    "strips": render_strips,
    "slanted": render_slanted,
    "tilted": render_tilted,
    "documents": render_documents,
    "screens": render_screens,
}


def write_kind(kind: str, folder: Path) -> None:
    """Write the pictures of a kind and their ground truth."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    # Each kind is the same whether it is rendered alone or with others.
    for name, (pixels, words) in KINDS[kind](np.random.default_rng([SEED, zlib.crc32(kind.encode())])):
        options = [cv2.IMWRITE_JPEG_QUALITY, 90] if name.endswith(".jpg") else [cv2.IMWRITE_PNG_COMPRESSION, 6]
        if not cv2.imwrite(str(folder / name), pixels, options):
            raise SystemExit(f"cannot write {folder / name}")
        truth = [{"poly": np.round(word.poly.astype(float), 1).tolist(), "text": word.text} for word in words]
        rows.append(json.dumps({"image": name, "words": truth}, ensure_ascii=False))
        print(f"{folder / name}: {pixels.shape[1]}x{pixels.shape[0]}, {len(words)} lines")
    (folder / "gt.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="parent of the folders of all kinds")
    parser.add_argument("--kinds", default=",".join(KINDS), help="default: %(default)s")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    for kind in kinds:
        if kind not in KINDS:
            parser.error(f"unknown kind {kind}, expected one of {', '.join(KINDS)}")
    for kind in kinds:
        write_kind(kind, options.out / kind)


if __name__ == "__main__":
    main()
