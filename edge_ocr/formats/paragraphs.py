"""Groups the lines of a page into rows and paragraphs, in reading order, by their places."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_ocr.core.geometry import is_vertical, measure_sides, measure_tilt
from edge_ocr.core.types import Reading, TextBox, TextLine
from edge_ocr.formats.shapes import is_right_to_left

# In heights of a row. ROW_OFFSET: boxes of one row differ by less in y. EXTRA_GAP: a paragraph ends where the gap
# exceeds the usual one, itself counted up to USUAL_GAP, by more. INDENT: a first line that begins this much later.
ROW_OFFSET = 0.5
EXTRA_GAP = 0.5
USUAL_GAP = 1.0
INDENT = 0.8

# A line that is this many times higher than its neighbour is a heading.
HEADING_RATIO = 1.4

# Text in columns has on each side of a gutter this many rows, of this length in heights, which fill this share of the
# column; prices next to their articles, which are to be read row by row, do not.
COLUMN_ROWS = 3
COLUMN_LENGTH = 8
COLUMN_FILL = 0.6

# In heights: room for a space and a part of the next word, which is estimated.
ROOM = 1.0


@dataclass(frozen=True)
class Row:
    """Lines next to each other, in the order in which they are read."""

    lines: tuple[TextLine, ...]
    is_ended: bool
    """The text does not run on into the next row: this row is the last, has several parts, or ends early."""


@dataclass(frozen=True)
class Paragraph:
    """Rows that belong together, at least one."""

    rows: tuple[Row, ...]

    @property
    def lines(self) -> list[TextLine]:
        """The lines of all rows."""
        return [line for row in self.rows for line in row.lines]


@dataclass(frozen=True)
class _Box:
    """One or more lines in a row, on a page that is upright, level and read from left to right."""

    lines: tuple[TextLine, ...]
    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


_Rows = list[list[_Box]]


def group_lines(reading: Reading) -> list[Paragraph]:
    """Return the paragraphs of a page in reading order; every line is in exactly one.

    Columns of running text are read one after the other; columns of short texts, as on a receipt, row by row. On pages
    of vertical lines, rows run from right to left. A few lines that run across the others come last.
    """
    vertical = [is_vertical(*measure_sides(line.polygon)) and len(line.text) > 1 for line in reading.lines]
    is_turned = 2 * sum(vertical) > len(vertical)
    along = [line for line, other in zip(reading.lines, vertical, strict=True) if other == is_turned]
    across = [line for line, other in zip(reading.lines, vertical, strict=True) if other != is_turned]
    boxes = _place(along, reading.page_angle or 0, is_turned)
    paragraphs = [
        paragraph for region in _split_columns(_find_rows(boxes)) for paragraph in _group_rows(_join_rows(region))
    ]
    return paragraphs + [Paragraph((Row((line,), True),)) for line in across]


def _place(lines: Sequence[TextLine], page_angle: int, is_turned: bool) -> list[_Box]:
    """Return a box for each line, in coordinates in which rows are level and read from left to right."""
    if not lines:
        return []
    quads = np.array([line.polygon for line in lines], dtype=float)
    x, y = quads[:, :, 0], quads[:, :, 1]
    for _ in range(page_angle // 90):
        x, y = y, -x
    tilt = measure_tilt([TextBox(np.dstack([x[i], y[i]])[0].astype(np.float32), 1.0) for i in range(len(lines))])
    if is_turned:
        # Vertical lines begin at the top, and the first is on the right.
        x, y = y, -x
    elif is_right_to_left("".join(line.text for line in lines)):
        x, tilt = -x, -tilt
    x, y = x + tilt * y, y - tilt * x
    edges = zip(x.min(axis=1), y.min(axis=1), x.max(axis=1), y.max(axis=1), strict=True)
    return [_Box((line,), *map(float, edge)) for line, edge in zip(lines, edges, strict=True)]


def _find_rows(boxes: list[_Box]) -> _Rows:
    """Return the boxes from top to bottom; those next to each other are in one row, from left to right."""
    rows: _Rows = []
    for box in sorted(boxes, key=lambda box: box.middle):
        if rows and all(_is_beside(box, other) for other in rows[-1]):
            rows[-1].append(box)
        else:
            rows.append([box])
    for row in rows:
        row.sort(key=lambda box: box.left)
    return rows


def _is_beside(box: _Box, other: _Box) -> bool:
    height = min(box.height, other.height)
    overlap = min(box.right, other.right) - max(box.left, other.left)
    return abs(box.middle - other.middle) < ROW_OFFSET * height and overlap < ROW_OFFSET * height


def _split_columns(rows: _Rows) -> list[_Rows]:
    """Return the rows in regions without columns, in reading order."""
    regions: list[_Rows] = []
    start = 0
    while start < len(rows):
        found = _find_columns(rows, start)
        if found is None:
            return [*regions, rows[start:]]
        first, end, gutter = found
        if first > start:
            regions.append(rows[start:first])
        for side in _divide(rows[first:end], gutter):
            regions += _split_columns(side)
        start = end
    return regions


def _find_columns(rows: _Rows, start: int) -> tuple[int, int, float] | None:
    """Return the first rows, as first and end, that a gutter divides into columns, and its place."""
    for first in range(start, len(rows)):
        found = [_follow(rows, first, (a.right, b.left)) for a, b in zip(rows[first], rows[first][1:], strict=False)]
        for end, gutter in sorted(found, reverse=True):
            if all(map(_is_column, _divide(rows[first:end], gutter))):
                return first, end, gutter
    return None


def _follow(rows: _Rows, first: int, gutter: tuple[float, float]) -> tuple[int, float]:
    """Return the end of the rows that a gutter, given as left and right in the first row, passes; and its middle."""
    left, right = gutter
    end = first
    for row in rows[first:]:
        low, high = left, right
        for box in row:
            if (box.left + box.right) / 2 < (left + right) / 2:
                low = max(low, box.right)
            else:
                high = min(high, box.left)
        if high - low < ROW_OFFSET * min(box.height for box in row):
            break
        left, right = low, high
        end += 1
    return end, (left + right) / 2


def _divide(rows: _Rows, gutter: float) -> tuple[_Rows, _Rows]:
    left = [[box for box in row if box.right <= gutter] for row in rows]
    right = [[box for box in row if box.right > gutter] for row in rows]
    return [row for row in left if row], [row for row in right if row]


def _is_column(rows: _Rows) -> bool:
    if len(rows) < COLUMN_ROWS:
        return False
    boxes = [box for row in rows for box in row]
    whole = max(box.right for box in boxes) - min(box.left for box in boxes)
    typical = statistics.median(max(box.right - box.left for box in row) for row in rows)
    height = statistics.median(box.height for box in boxes)
    return typical >= COLUMN_LENGTH * height and typical >= COLUMN_FILL * whole


def _join_rows(rows: _Rows) -> list[_Box]:
    return [
        _Box(
            tuple(line for box in row for line in box.lines),
            min(box.left for box in row),
            min(box.top for box in row),
            max(box.right for box in row),
            max(box.bottom for box in row),
        )
        for row in rows
    ]


def _group_rows(rows: list[_Box]) -> list[Paragraph]:
    """Return the paragraphs of a region without columns."""
    gaps = [below.top - above.bottom for above, below in itertools.pairwise(rows)]
    usual = statistics.median(gaps) if gaps else 0.0
    groups: list[list[_Box]] = []
    for i, row in enumerate(rows):
        if i == 0 or _begins_paragraph(rows, i, usual):
            groups.append([])
        groups[-1].append(row)
    return [Paragraph(tuple(Row(row.lines, _is_ended(group, i)) for i, row in enumerate(group))) for group in groups]


def _is_ended(rows: list[_Box], i: int) -> bool:
    """Return whether the text of a row does not run on into the next row of its paragraph."""
    if i + 1 == len(rows) or len(rows[i].lines) > 1:
        return True
    row, below = rows[i], rows[i + 1]
    shift = below.left - row.left
    if shift > INDENT * row.height or (i > 0 and shift < -INDENT * row.height):
        return True
    # The next row's first word, which may be a single Chinese character, had room.
    text = below.lines[0].text
    word = text.split()[0] if text.isascii() else text[:1]
    needed = len(word) / len(text) * (below.right - below.left)
    return max(row.right for row in rows) - row.right > needed + ROOM * row.height


def _begins_paragraph(rows: list[_Box], i: int, usual_gap: float) -> bool:
    above, row = rows[i - 1], rows[i]
    low, high = sorted((above.height, row.height))
    if high > HEADING_RATIO * low or row.top - above.bottom > min(usual_gap, USUAL_GAP * low) + EXTRA_GAP * low:
        return True
    # A row further left follows the first line of a paragraph.
    indent = INDENT * low
    return row.left - above.left > indent and i + 1 < len(rows) and row.left - rows[i + 1].left > indent
