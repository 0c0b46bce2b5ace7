"""Draws results: the picture with its boxes on the left, the texts in their places on the right."""

from __future__ import annotations

import colorsys
import functools
import importlib.util
import itertools
import logging
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont, features

from edge_ocr.core.direction import has_right_to_left, order_logically
from edge_ocr.core.geometry import VERTICAL_RATIO
from edge_ocr.core.types import BgrImage, Character, Polygon, Reading
from edge_ocr.errors import ConfigError, InputError

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]  # RGB

logger = logging.getLogger("edge_ocr")

FONT_VARIABLE = "EDGE_OCR_FONT"
FONT_PACKAGE = "pylopdf_fonts_zh_cn"
FONT_PACKAGE_FILE = "NotoSansSC-Regular.otf"
# File name prefixes of fonts with Chinese characters, best first.
FONT_NAMES = (
    "notosanscjk",
    "notosanssc",
    "sourcehansans",
    "wqy",
    "wenquanyi",
    "droidsansfallback",
    "pingfang",
    "msyh",
    "simhei",
    "hiragino sans gb",
    "stheiti",
    "notoserifcjk",
    "notoserifsc",
    "simsun",
)
UNUSUAL_STYLES = ("bold", "italic", "oblique", "light", "thin", "black", "condensed", "medium")
FONT_SUFFIXES = (".otf", ".ttf", ".ttc")
FC_LIST_TIMEOUT_S = 3.0

# Start of the blocks of Chinese, Japanese and Korean characters.
_FIRST_CJK = "\u2e80"

# A phone's photo has 4000 px: one half would be wider than any screen, and a PNG of both would take 30 MB.
MAX_HALF_SIDE = 2000
# Opacity of the boxes and of what is drawn in them: the text under them must stay readable.
FILL_LEFT = 0.26
FILL_RIGHT = 0.10
STROKE = 0.65

# Of OpenCV's coordinates: thin lines would be uneven at whole pixels.
_FRACTION_BITS = 4


def find_font() -> Path | None:
    """Return a font file with Chinese characters; None if this machine has none.

    Tries the variable EDGE_OCR_FONT (accepted with any characters), the fonts of the system and the package
    pylopdf-fonts-zh-cn, in this order.

    Raises ConfigError if EDGE_OCR_FONT is not a readable font file.
    """
    chosen = os.environ.get(FONT_VARIABLE)
    if not chosen:
        return _find_installed_font()
    path = Path(chosen)
    hint = f"set {FONT_VARIABLE} to a .otf, .ttf or .ttc file, or unset it"
    if not path.is_file():
        raise ConfigError(f"{FONT_VARIABLE}: no such font file: {path}", hint)
    try:
        ImageFont.truetype(str(path), 12)
    except OSError as error:
        raise ConfigError(f"{FONT_VARIABLE}: cannot read the font {path}: {error}", hint) from error
    return path


def draw_result(
    image: BgrImage,
    polygons: Sequence[ArrayLike],
    texts: Sequence[str],
    scores: Sequence[float],
    strokes: Sequence[Sequence[Polygon]] = (),
) -> BgrImage:
    """Draw a picture with its boxes, and to its right a white panel with each text in the place of its box.

    `image` is uint8 H×W×3 BGR. `polygons` are 4×2 in its pixels, TL TR BR BL, and may extend beyond its border; there
    is one of `texts` and `scores` (in [0, 1]) for each. A box has the same colour in both halves. The lower its score,
    the paler a text; text in a tall box runs downwards. Control characters and line breaks become spaces. An empty text
    gives an empty box; without boxes, the result is the picture and a white panel. `strokes` are what `trace_words`
    returns: thin lines on the picture, in the colours of the boxes.

    Texts are drawn with the font of `find_font`, or another of the system that has their characters. If there is none
    for a text that is not ASCII, boxes are numbered from 1 in both halves, and such texts are not drawn; a warning says
    so once per process.

    Returns uint8 H×2W×3 BGR, scaled down if H or W exceeds 2000 px, so that the larger becomes 2000 px. The arguments
    are not changed.

    Raises InputError if the image is not uint8 H×W×3 or is empty, the lists differ in length, or a polygon is not 4×2
    or not finite; ConfigError as `find_font` does.
    """
    _check_image(image)
    quads = _check_lines(polygons, texts, scores)
    labels = [_clean_text(text) for text in texts]
    font_path = find_font()
    fonts = [_find_font_for(label, font_path) for label in labels]
    # Pillow's own font is enough for ASCII.
    foreign = [label for label, font in zip(labels, fonts, strict=True) if font is None and not label.isascii()]
    if foreign:
        _warn_no_font(any(char >= _FIRST_CJK for char in "".join(foreign)))
        for index, label in enumerate(labels):
            labels[index] = str(index + 1) if label in foreign else f"{index + 1} {label}".rstrip()

    picture, scale = _reduce(image)
    # Clip far-away corners, so that the drawing functions do not overflow.
    limit = 8 * max(picture.shape)
    quads = [np.clip(quad * np.float32(scale), -limit, limit) for quad in quads]
    colours = [_pick_colour(index) for index in range(len(quads))]
    left = _draw_boxes(picture, quads, colours, FILL_LEFT)
    _draw_strokes(left, strokes, scale)
    right = _draw_boxes(np.full_like(picture, 255), quads, colours, FILL_RIGHT)
    for index, (quad, label, score, font) in enumerate(zip(quads, labels, scores, fonts, strict=True)):
        _draw_text(right, quad, label, _pick_ink(score), font)
        if foreign:
            _draw_number(left, quad, index, colours[index])
    return np.concatenate([left, right], axis=1)


def draw_boxes(image: BgrImage, polygons: Sequence[ArrayLike], strokes: Sequence[Sequence[Polygon]] = ()) -> BgrImage:
    """Return a copy of a picture with the outlines of the boxes, in the colours of `draw_result`.

    `image` is uint8 H×W×3 BGR; `polygons` are 4×2 in its pixels and may extend beyond its border; `strokes` are those
    of `draw_result`.
    """
    picture = image.copy()
    line_width = max(1, round(max(image.shape) / 500))
    for index, polygon in enumerate(polygons):
        outline = np.rint(np.asarray(polygon, np.float32)).astype(np.int32)
        cv2.polylines(picture, [outline], True, _pick_colour(index)[::-1], line_width, cv2.LINE_AA)
    _draw_strokes(picture, strokes, 1)
    return picture


def trace_words(reading: Reading) -> list[list[Polygon]]:
    """Return the strokes that show the words of each line, in pixels of the picture.

    They are outlines of words (4×2) and, if characters were requested, borders between these (2×2). There are none if
    no words were requested.
    """
    return [
        [
            stroke
            for word in line.words or ()
            for stroke in (word.polygon, *(_list_borders(word.characters) if reading.return_words == "chars" else ()))
        ]
        for line in reading.lines
    ]


def _list_borders(characters: Sequence[Character]) -> Iterator[Polygon]:
    """Yield for each character but the last the side that faces the next one; lines may run in any direction."""
    for character, following in itertools.pairwise(characters):
        sides = np.stack([character.polygon, np.roll(character.polygon, -1, axis=0)], axis=1)
        distances = np.linalg.norm(sides.mean(axis=1) - following.polygon.mean(axis=0), axis=1)
        yield sides[distances.argmin()]


# --- Arguments ---


def _check_image(image: BgrImage) -> None:
    shape = getattr(image, "shape", None)
    dtype = getattr(image, "dtype", None)
    if shape is None or len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype != np.uint8:
        raise InputError(
            f"draw_result: expected a non-empty uint8 H×W×3 image, got {dtype} {shape}",
            "pass the picture as cv2.imread(path) returns it",
        )


def _check_lines(polygons: Sequence[ArrayLike], texts: Sequence[str], scores: Sequence[float]) -> list[Polygon]:
    counts = (len(polygons), len(texts), len(scores))
    if len(set(counts)) != 1:
        raise InputError(
            "draw_result: expected as many texts and scores as polygons, "
            f"got {counts[0]} polygons, {counts[1]} texts, {counts[2]} scores",
            "pass one text and one score for each polygon",
        )
    hint = "give the corners TL TR BR BL in pixels of the picture"
    quads = []
    for index, polygon in enumerate(polygons):
        try:
            quad = np.asarray(polygon, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(f"draw_result: polygons[{index}]: expected 4×2 numbers: {error}", hint) from error
        if quad.shape != (4, 2):
            raise InputError(f"draw_result: polygons[{index}]: expected shape (4, 2), got {quad.shape}", hint)
        if not np.isfinite(quad).all():
            raise InputError(f"draw_result: polygons[{index}]: expected finite numbers, got {quad.tolist()}", hint)
        quads.append(quad)
    return quads


def _clean_text(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _reduce(image: BgrImage) -> tuple[BgrImage, float]:
    height, width = image.shape[:2]
    scale = MAX_HALF_SIDE / max(height, width)
    if scale >= 1:
        return image, 1.0
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale


# --- Boxes ---


def _pick_colour(index: int) -> Colour:
    """Return an RGB colour; the golden ratio keeps the hues of neighbours far apart."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 0.85, 0.82)
    return round(red * 255), round(green * 255), round(blue * 255)


def _pick_ink(score: float) -> int:
    """Return the grey level of a text: black at score 1, light grey at score 0 or NaN."""
    certainty = min(1.0, max(0.0, float(score))) if score == score else 0.0
    return round(170 * (1 - certainty))


def _draw_boxes(base: BgrImage, quads: Sequence[Polygon], colours: Sequence[Colour], opacity: float) -> BgrImage:
    """Return a copy of `base` (BGR) with translucent boxes."""
    picture = Image.fromarray(np.ascontiguousarray(base[..., ::-1]))
    outlines = [[(float(x), float(y)) for x, y in quad] for quad in quads]
    filled = picture.copy()
    pen = ImageDraw.Draw(filled)
    for outline, colour in zip(outlines, colours, strict=True):
        pen.polygon(outline, fill=colour)
    picture = Image.blend(picture, filled, opacity)
    pen = ImageDraw.Draw(picture)
    line_width = max(1, round(max(picture.size) / 700))
    for outline, colour in zip(outlines, colours, strict=True):
        pen.line([*outline, outline[0]], fill=colour, width=line_width)
    return np.ascontiguousarray(np.asarray(picture)[..., ::-1])


def _draw_strokes(picture: BgrImage, strokes: Sequence[Sequence[Polygon]], scale: float) -> None:
    """Draw the strokes of each line in its colour, in place; they are in pixels of `picture` divided by `scale`."""
    if not any(strokes):
        return
    places = 2**_FRACTION_BITS
    drawn = picture.copy()
    width = max(1, round(max(picture.shape) / 1400))
    limit = 8 * max(picture.shape)
    for index, line in enumerate(strokes):
        outlines = [np.rint(np.clip(stroke * scale, -limit, limit) * places).astype(np.int32) for stroke in line]
        cv2.polylines(drawn, outlines, True, _pick_colour(index)[::-1], width, cv2.LINE_AA, _FRACTION_BITS)
    cv2.addWeighted(drawn, STROKE, picture, 1 - STROKE, 0, picture)


# --- Texts ---


def _draw_text(panel: BgrImage, quad: Polygon, text: str, grey: int, font_path: Path | None) -> None:
    """Write `text` into `quad` on `panel`, in place."""
    sides = np.linalg.norm(quad - np.roll(quad, -1, axis=0), axis=1)
    width, height = float(max(sides[0], sides[2])), float(max(sides[1], sides[3]))
    if not text or min(width, height) < 1:
        return
    corners = quad
    if height >= VERTICAL_RATIO * width:
        # Recognition turns such a crop counter-clockwise, so the line starts at the top right corner.
        corners, width, height = np.roll(quad, -1, axis=0), height, width
    # A box larger than the panel needs no more pixels than the panel has.
    shrink = min(1.0, MAX_HALF_SIDE / max(width, height))
    stamp = _render_line(text, max(1, round(width * shrink)), max(1, round(height * shrink)), font_path)

    x0, y0 = np.clip(np.floor(quad.min(axis=0)), 0, (panel.shape[1], panel.shape[0])).astype(int)
    x1, y1 = np.clip(np.ceil(quad.max(axis=0)) + 1, 0, (panel.shape[1], panel.shape[0])).astype(int)
    if x1 <= x0 or y1 <= y0:
        return
    stamp_height, stamp_width = stamp.shape
    source = np.array([[0, 0], [stamp_width, 0], [stamp_width, stamp_height], [0, stamp_height]], np.float32)
    target = (corners - np.array([x0, y0], np.float32)).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(source, target)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        return  # three corners on one line leave no area to write in
    cover = cv2.warpPerspective(stamp, matrix, (int(x1 - x0), int(y1 - y0)), flags=cv2.INTER_LINEAR)
    part = panel[y0:y1, x0:x1]
    opacity = np.asarray(cover, np.float32)[..., None] / 255
    part[:] = np.rint(part * (1 - opacity) + grey * opacity).astype(np.uint8)


def _render_line(text: str, width: int, height: int, font_path: Path | None) -> NDArray[np.uint8]:
    """Render one line as large as it fits: uint8 height×width, 0 for the background, 255 for the letters."""
    shaping: dict[str, Any] = {"anchor": "ls"}
    if has_right_to_left(text):
        if features.check("raqm"):
            shaping["direction"] = "rtl"
        else:
            # Pillow alone draws characters from left to right, and does not join them. The order of the picture is its
            # own inverse.
            text = order_logically(text)
    left, top, right, bottom = _load_font(font_path, height).getbbox(text, **shaping)
    # Fit the letters, not the em: detection boxes the letters. The last limit keeps a single comma from growing to the
    # height of the box.
    factor = min(0.94 * width / max(1, right - left), 0.80 * height / max(1, bottom - top), 1.15)
    font = _load_font(font_path, max(1, int(height * factor)))
    left, top, right, bottom = font.getbbox(text, **shaping)
    line = Image.new("L", (width, height), 0)
    start = ((width - left - right) / 2, (height - top - bottom) / 2)
    ImageDraw.Draw(line).text(start, text, font=font, fill=255, **shaping)
    return np.asarray(line, np.uint8)


def _draw_number(picture: BgrImage, quad: Polygon, index: int, colour: Colour) -> None:
    """Draw the number of a box on a tag at its first corner, moved inside the picture, in place."""
    height, width = picture.shape[:2]
    side = min(float(np.linalg.norm(quad[3] - quad[0])), float(np.linalg.norm(quad[1] - quad[0])))
    size = int(np.clip(0.6 * side, 9, 28))
    font = _load_font(None, size)
    text = str(index + 1)
    tag = Image.new("RGB", (round(font.getlength(text)) + 4, size + 2), colour)
    ImageDraw.Draw(tag).text((2, tag.height / 2), text, font=font, fill=(255, 255, 255), anchor="lm")
    x = int(np.clip(quad[0, 0] - tag.width, 0, max(0, width - tag.width)))
    y = int(np.clip(quad[0, 1], 0, max(0, height - tag.height)))
    part = picture[y : y + tag.height, x : x + tag.width]
    part[:] = np.asarray(tag)[: part.shape[0], : part.shape[1], ::-1]


# --- Fonts ---


@functools.lru_cache(maxsize=32)  # each font keeps a file open
def _load_font(path: Path | None, size: int) -> Font:
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(str(path), size)


@functools.cache
def _warn_no_font(is_cjk: bool) -> None:
    script, packages = (
        ("Chinese, Japanese or Korean", '`pip install "edge-ocr[fonts]"` (Chinese) or `apt-get install fonts-noto-cjk`')
        if is_cjk
        else ("other", "`apt-get install fonts-noto-core`")
    )
    logger.warning(
        "found no font with some %s characters: boxes are numbered, and texts with such characters are not drawn; "
        "run %s, or set EDGE_OCR_FONT to a font file",
        script,
        packages,
    )


def _find_font_for(text: str, preferred: Path | None) -> Path | None:
    """Return a font for a text: `preferred` if it has all characters or the user chose it, or another of the system.

    Without one, `preferred` if the text is ASCII, else None.
    """
    if text.isascii() or os.environ.get(FONT_VARIABLE) or (preferred is not None and has_glyphs(preferred, text)):
        return preferred
    return next((path for path in _list_other_fonts() if has_glyphs(path, text)), None)


@functools.cache
def _list_other_fonts() -> tuple[Path, ...]:
    """Return the fonts of the system, upright ones of regular weight first."""

    def rank(path: Path) -> tuple[bool, bool, str]:
        name = path.name.lower()
        return any(style in name for style in UNUSUAL_STYLES), "mono" in name, str(path)

    return tuple(sorted({*_list_system_fonts(), *_ask_fontconfig(":")}, key=rank))


@functools.cache
def _find_installed_font() -> Path | None:
    for path in _list_candidates():
        if has_glyphs(path, "中文识"):
            return path
    return None


def _list_candidates() -> Iterator[Path]:
    """Yield font files to try, best first; sources that are slow to search come later."""
    yield from _rank_fonts(path for path in _list_system_fonts() if _get_rank(path) < len(FONT_NAMES))
    yield from _rank_fonts(_ask_fontconfig(":lang=zh"))
    spec = importlib.util.find_spec(FONT_PACKAGE)
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent / FONT_PACKAGE_FILE


def _get_rank(path: Path) -> int:
    name = path.name.lower()
    for rank, start in enumerate(FONT_NAMES):
        if name.startswith(start):
            return rank
    return len(FONT_NAMES)


def _rank_fonts(paths: Iterable[Path]) -> list[Path]:
    """Sort by family, best first, then the regular weight, then by name so that the choice is stable."""
    return sorted(paths, key=lambda path: (_get_rank(path), "regular" not in path.name.lower(), str(path)))


def _list_font_folders() -> list[Path]:
    """Return the font folders of Linux, macOS and Windows; missing ones are harmless."""
    home = Path.home()
    folders = [
        Path("/usr/share/fonts"),
        Path("/usr/local/share/fonts"),
        home / ".local/share/fonts",
        home / ".fonts",
        Path("/System/Library/Fonts"),
        Path("/Library/Fonts"),
        home / "Library/Fonts",
    ]
    for variable, below in (("WINDIR", "Fonts"), ("LOCALAPPDATA", "Microsoft/Windows/Fonts")):
        if os.environ.get(variable):
            folders.append(Path(os.environ[variable]) / below)
    return folders


def _list_system_fonts() -> Iterator[Path]:
    for folder in _list_font_folders():
        for place, _, names in os.walk(folder):
            for name in names:
                if name.lower().endswith(FONT_SUFFIXES):
                    yield Path(place) / name


def _ask_fontconfig(pattern: str) -> list[Path]:
    """Return the fonts that fontconfig lists for a pattern; none if it is missing, too slow or fails."""
    program = shutil.which("fc-list")
    if program is None:
        return []
    try:
        listing = subprocess.run(
            [program, pattern, "file"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=FC_LIST_TIMEOUT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    # Each line is `PATH: `.
    names = (line.strip().removesuffix(":") for line in listing.splitlines())
    return [Path(name) for name in names if name.lower().endswith(FONT_SUFFIXES)]


def has_glyphs(path: Path, characters: str) -> bool:
    """Return whether a font has a glyph, other than the missing-glyph one, for each character but spaces."""
    try:
        return all(_has_glyph(path, char) for char in dict.fromkeys(characters) if not char.isspace())
    except OSError:
        return False


@functools.lru_cache(maxsize=1 << 16)
def _has_glyph(path: Path, char: str) -> bool:
    font = _load_font(path, 24)
    return _get_glyph(font, char) != _get_glyph(font, "\U0010fffd")  # a private code point that fonts leave empty


def _get_glyph(font: Font, char: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(char)
    return mask.size, bytes(mask)
