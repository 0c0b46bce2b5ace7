"""Words and characters of a line, and where they are: from the recogniser's time steps and the ink of the crop."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from .charset import DecodedText
from .direction import split_logically
from .geometry import is_vertical, measure_sides
from .types import BgrImage, Character, Polygon, Word

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Han, kana, their punctuation and signs of full width, but for letters and digits.
_CJK = re.compile(
    r"[\u2e80-\u303f\u3040-\u30ff\u31c0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\ufe30-\ufe4f"
    r"\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff9f\U00020000-\U0003ffff]"
)

# Measured on the 200 lines of benchmarks.words with v4 mobile: mean IoU of characters .65 without ink, .89 with it.
# A column has ink if its range of values exceeds the emptiest one's by this share of the largest difference: at 0.15,
# blurred edges of neighbours join; at 0.35, boxes of words lose some of their edges.
INK_SHARE = 0.3

# Ranges that differ by less (of 255) do not tell ink from background.
LEAST_INK = 24

# A cut between two characters moves off the middle, towards columns with less ink: all the way to one of the characters
# costs as much as this share of the largest range.
CUT_PULL = 0.25

# The ink of a character is at most this far from the middle of its time steps, in heights of the line.
REACH = 0.75


_SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)


@dataclass(frozen=True)
class Spans:
    """The N characters of a line, or of a part of it, in the order of the picture."""

    texts: list[str]
    """As the dictionary has them, with the spaces around them: together they are the line's text."""
    scores: list[float]
    """In [0, 1]."""
    edges: NDArray[np.float64]
    """N × 2, left and right end of each, in pixels of the line."""
    ink: tuple[float, float]
    """Upper and lower end of the ink, in pixels of the line."""


@dataclass(frozen=True)
class LineText:
    """What was read in a crop."""

    text: str
    """"" if nothing was read."""
    score: float
    """Mean probability of the characters, in [0, 1]; 0.0 without text."""
    spans: Spans | None = None
    """Where the characters are in the crop scaled to the network's height; None unless requested."""
    size: tuple[int, int] = (1, 1)
    """Height and width of the scaled crop in pixels."""


def find_spans(texts: Sequence[DecodedText], lines: Sequence[BgrImage], widths: Sequence[int]) -> list[Spans]:
    """Return where the characters of each line, H × W × 3, are.

    `widths`: pixels of the network's input for each line, at whose left the line is and which the time steps divide.
    """
    # All lines in one row, because NumPy's time depends more on the number of calls than on that of columns.
    rows, ink, costs, offset = [], [np.zeros(0, np.int64)], [np.zeros(0)], 0
    for line in lines:
        top, bottom = _find_rows(line)
        # With background above the ink, but without a rule below it.
        columns = measure_ink(line[max(0, top - 2) : bottom], axis=0)
        rows.append((float(top), float(bottom)))
        ink.append(find_ink(columns) + offset)
        costs.append(columns / max(int(columns.max()), 1))
        offset += len(columns)
    counts = [len(text.pieces) for text in texts]
    right = np.cumsum([line.shape[1] for line in lines])
    left = right - [line.shape[1] for line in lines]
    # From here on, arrays are over the characters of all lines.
    left, right = np.repeat(left, counts), np.repeat(right, counts)
    half_step = np.repeat([width / max(text.steps, 1) / 2 for text, width in zip(texts, widths)], counts)
    starts, ends = (np.concatenate([[], *(getattr(text, name) for text in texts)]) for name in ("starts", "ends"))
    middles = np.minimum(np.maximum(left + (starts + ends) * half_step, left + 0.5), right - 0.5)
    between = np.maximum(left + (ends + np.roll(starts, -1)) * half_step, middles)[:-1]
    cuts = _find_cuts(np.concatenate(costs), middles, np.minimum(between, middles[1:]))
    is_last = np.append(left[1:] != left[:-1], True)[: len(left)]
    most = np.where(is_last, right, np.append(cuts, 0)[: len(left)])
    least = np.where(np.roll(is_last, 1), left, np.append(0, cuts)[: len(left)])
    reach = np.repeat([REACH * line.shape[0] for line in lines], counts)
    edges = _trim(np.concatenate(ink), middles, least, most, reach) - left[:, np.newaxis]
    places = np.cumsum(counts) - counts
    return [
        _select(text, edges[place : place + count], ends)
        for text, place, count, ends in zip(texts, places, counts, rows)
    ]


def _select(text: DecodedText, edges: NDArray[np.float64], rows: tuple[float, float]) -> Spans:
    """Return the characters of a line that are not spaces."""
    pieces = text.pieces
    kept = [i for i, piece in enumerate(pieces) if piece.strip()]
    # Spaces belong to the character before them, those at the start of the line to the first one.
    starts = [0, *kept[1:], len(pieces)] if kept else [0]
    texts = ["".join(pieces[start:end]) for start, end in zip(starts, starts[1:])]
    return Spans(texts, text.scores[kept].tolist(), edges[kept], rows)


def measure_ink(line: BgrImage, axis: int) -> NDArray[np.int32]:
    """Return the range of the values in each column (`axis` 0) or row (1), 0 to 255: small without ink."""
    if axis == 1:
        # The same over the columns of the transposed line takes a twentieth of the time.
        line = np.asarray(cv2.transpose(line), dtype=np.uint8)
    blue, green, red = (line.max(axis=0) - line.min(axis=0)).T
    return np.asarray(np.maximum(np.maximum(blue, green), red), dtype=np.int32)


def find_ink(ranges: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the indexes of the columns or rows with ink; none if ink cannot be told from background."""
    least, most = int(ranges.min()), int(ranges.max())
    level = least + INK_SHARE * (most - least) if most - least >= LEAST_INK else 255
    return np.flatnonzero(ranges > level)


def _find_rows(line: BgrImage) -> tuple[int, int]:
    """Return the first row with ink and the one after the last, but for rules, such as an underline, along the line.

    All rows if ink cannot be told from background, as in a line of Chinese that is cut out tightly.
    """
    height, width, _ = line.shape
    margin = min(height // 4, width // 8)
    rows = find_ink(measure_ink(line[:, margin : width - margin], axis=1))
    return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, height)


def _find_cuts(ink: NDArray[np.float64], middles: NDArray[Any], between: NDArray[Any]) -> NDArray[Any]:
    """Return where to cut between neighbours: near the middle `between` them, where there is little `ink` (0 to 1)."""
    if len(between) == 0:
        return between
    # The columns after each middle, up to and including the next one; none if the two are less than one apart.
    ends = np.minimum(np.floor(middles).astype(np.int64) + 1, len(ink))
    counts = np.diff(ends)
    has_columns = counts > 0
    starts = (ends[:-1] - ends[0])[has_columns]
    x = np.arange(ends[0], ends[-1])
    pull = CUT_PULL / np.maximum(np.diff(middles) / 2, 0.5)
    cost = ink[ends[0] : ends[-1]] + np.abs(x - np.repeat(between, counts)) * np.repeat(pull, counts)
    cuts = between.copy()
    if len(starts):
        lowest = np.flatnonzero(cost == np.repeat(np.minimum.reduceat(cost, starts), counts[has_columns]))
        cuts[has_columns] = x[lowest[np.searchsorted(lowest, starts)]]
    return cuts


def _trim(
    ink: NDArray[np.int64], middles: NDArray[Any], least: NDArray[Any], most: NDArray[Any], reach: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the ends of the ink, indexes of columns, between the cuts `least` and `most` around each middle.

    Ink beyond `reach` does not count. Without ink, the nearer cut is as far from the middle as the other end.
    """
    first = np.searchsorted(ink, np.maximum(least, middles - reach))
    last = np.searchsorted(ink, np.minimum(most, middles + reach)) - 1
    half = np.maximum(np.minimum(np.minimum(middles - least, most - middles), reach), 0.5)
    edges = np.stack([middles - half, middles + half], axis=1)
    has_ink = first <= last
    edges[has_ink, 0] = ink[first[has_ink]]
    edges[has_ink, 1] = ink[last[has_ink]] + 1
    return edges


def find_words(spans: Spans, cjk_words: str, is_rtl: bool) -> list[list[tuple[int, str]]]:
    """Return the characters of each word as indexes in `spans` and texts, in the order in which they are read.

    Words end at spaces and between Chinese or Japanese and other writing. `cjk_words`: whether each Chinese or Japanese
    `character` is a word, or a `run` of them. `is_rtl`: whether the text runs from right to left.
    """
    order: list[tuple[int, str]] = []
    if is_rtl:
        owners = [i for i, text in enumerate(spans.texts) for _ in text]
        for start, piece in split_logically("".join(spans.texts)):
            order += [(-1 if letter.isspace() else owners[start + k], letter) for k, letter in enumerate(piece)]
    else:
        for i, text in enumerate(spans.texts):
            order += [(-1, "")] * text[0].isspace() + [(i, text.strip())] + [(-1, "")] * text[-1].isspace()
    words: list[list[tuple[int, str]]] = []
    kind: bool | None = None
    for i, text in order:
        before = kind
        kind = None if i < 0 else _CJK.match(text) is not None
        if kind is None:
            continue
        if kind is not before or (kind and cjk_words == "character"):
            words.append([])
        words[-1].append((i, text))
    return words


def place_words(
    reading: LineText,
    cjk_words: str,
    is_rtl: bool,
    polygon: Polygon,
    is_turned: bool,
    move: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    *,
    with_characters: bool,
) -> tuple[Word, ...]:
    """Return the words of a line.

    `polygon`: that of its crop; `is_turned`: whether the crop was turned by 180° after it was cut out. `move` maps
    polygons, N × 4 × 2, from there to the picture. `with_characters`: whether the words have their characters.
    """
    spans = reading.spans
    if spans is None or not spans.texts:
        return ()
    words = find_words(spans, cjk_words, is_rtl)
    height, width = reading.size
    edges = spans.edges.tolist()
    ends = [[min(edges[i][0] for i, _ in word), max(edges[i][1] for i, _ in word)] for word in words]
    parts = [*edges, *ends] if with_characters else ends
    x, y = np.array(parts) / width, np.array(spans.ink) / height
    if is_turned:
        x, y = 1 - x[:, ::-1], 1 - y[::-1]
    corners = np.empty((len(x), 4, 2), dtype=np.float32)
    if is_vertical(*measure_sides(polygon)):
        # The crop was turned counter-clockwise: its left end is the polygon's top, its top the right side.
        corners[..., 0], corners[..., 1] = 1 - y[[1, 0, 0, 1]], x[:, [0, 0, 1, 1]]
    else:
        corners[..., 0], corners[..., 1] = x[:, [0, 1, 1, 0]], y[[0, 0, 1, 1]]
    matrix = cv2.getPerspectiveTransform(_SQUARE, polygon)
    quads = move(np.asarray(cv2.perspectiveTransform(corners.reshape(1, -1, 2), matrix).reshape(-1, 4, 2), np.float32))
    placed = []
    for word, quad in zip(words, quads[len(parts) - len(ends) :]):
        scores = {i: spans.scores[i] for i, _ in word}
        characters = tuple(Character(text, scores[i], quads[i]) for i, text in word) if with_characters else ()
        text = "".join([text for _, text in word])
        placed.append(Word(text, sum(scores.values()) / len(scores), quad, characters))
    return tuple(placed)
