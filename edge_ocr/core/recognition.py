"""Text recognition with a CTC network: from crops to texts."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from .charset import Charset, DecodedText
from .direction import order_logically
from .engines.base import Engine, StreamingEngine
from .errors import ModelError
from .imaging import prepare_lines, resize_line
from .settings import RecognitionSettings
from .types import BgrImage
from .words import LineText, Spans, find_spans, measure_ink

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Input widths are multiples of this, so that engines see few different shapes.
WIDTH_STEP = 64

# Largest total width of the lines in a batch, in pixels: more does not help on a CPU.
BATCH_WIDTH = 1280

# Widest input, PaddleX's MAX_IMG_W. Wider lines are cut into parts.
MAX_WIDTH = 3200

# Largest width of a part if gaps between characters are in the right places, and how far a cut may move to find one.
PART_WIDTH = 2400
CUT_REACH = 400

# A cut is in the middle of the columns that are within CUT_RANGE of the emptiest within reach; if they are at least
# SPACE_RATIO of the height wide, there is a space between Latin letters.
CUT_RANGE = 32
SPACE_RATIO = 0.2


@dataclass(frozen=True)
class Part:
    """A piece of a line, and whether a space may follow it."""

    line: BgrImage
    before_space: bool


def cut_line(line: BgrImage) -> list[Part]:
    """Cut a line that is wider than `MAX_WIDTH` at gaps between its characters; other lines stay whole."""
    height, width = line.shape[:2]
    if width <= MAX_WIDTH:
        return [Part(line, False)]
    ink = measure_ink(line, axis=0)
    count = -(-width // PART_WIDTH)
    parts, start = [], 0
    for i in range(1, count):
        near = i * width // count - CUT_REACH
        reach = ink[near : near + 2 * CUT_REACH]
        first, end = _find_widest_run(reach <= int(reach.min()) + CUT_RANGE)
        cut = near + (first + end) // 2
        parts.append(Part(line[:, start:cut], end - first >= SPACE_RATIO * height))
        start = cut
    return [*parts, Part(line[:, start:], False)]


def _find_widest_run(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """Return start and end of the longest run of true values, the first of several."""
    steps = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    starts, ends = steps[::2], steps[1::2]
    widest = int((ends - starts).argmax())
    return int(starts[widest]), int(ends[widest])


def join_readings(parts: list[Part], readings: list[LineText]) -> LineText:
    """Return what was read in a line from what was in its parts; the score is the mean over the characters."""
    if len(parts) == 1:
        (only,) = readings
        return replace(only, score=only.score if only.text else 0.0, size=parts[0].line.shape[:2])
    text, total, count, before_space, left = "", 0.0, 0, False, 0
    spans: Spans | None = None
    for part, reading in zip(parts, readings):
        piece, score = reading.text, reading.score
        if text and piece and before_space and (text[-1] + piece[0]).isascii() and " " not in text[-1] + piece[0]:
            piece = " " + piece
        text += piece
        total += score * len(reading.text)
        count += len(reading.text)
        before_space = part.before_space
        if reading.spans is not None:
            spans = reading.spans if spans is None else _join_spans(spans, reading.spans, piece, left)
        left += part.line.shape[1]
    return LineText(text, total / max(count, 1), spans, (parts[0].line.shape[0], left))


def _join_spans(before: Spans, spans: Spans, text: str, left: int) -> Spans:
    """Return the characters of a line and of its next part, which begins at `left` and adds `text` to the line's."""
    if not spans.texts:
        return replace(before, texts=[*before.texts[:-1], before.texts[-1] + text]) if before.texts else before
    (top, bottom), (other_top, other_bottom) = before.ink if before.texts else spans.ink, spans.ink
    # With the space that was added before them.
    first = text[: len(text) - sum(map(len, spans.texts[1:]))]
    return Spans(
        [*before.texts, first, *spans.texts[1:]],
        before.scores + spans.scores,
        np.concatenate([before.edges, spans.edges + left]),
        (min(top, other_top), max(bottom, other_bottom)),
    )


def plan_width(line_width: int, min_width: int) -> int:
    """Return the input width for a line that is `line_width` wide at the network's height.

    It depends on the line alone, so the rest of the batch does not change how a line reads.
    """
    return max(min_width, min(MAX_WIDTH, -(-line_width // WIDTH_STEP) * WIDTH_STEP))


def plan_batches(widths: list[int], batch_size: int) -> list[list[int]]:
    """Return the indexes of the lines in each batch, given the input width of each line.

    Lines of one batch have the same width. Batches have 1, 2, 4, 8 … lines, at most `batch_size`, because each new
    shape is expensive for an engine.
    """
    order = sorted(range(len(widths)), key=lambda i: widths[i])
    batches = []
    start = 0
    while start < len(order):
        width = widths[order[start]]
        alike = sum(widths[i] == width for i in order[start : start + batch_size])
        size = min(alike, max(1, BATCH_WIDTH // width))
        size = 1 << (size.bit_length() - 1)
        batches.append(order[start : start + size])
        start += size
    return batches


class TextRecognizer:
    """Reads text lines."""

    def __init__(self, engine: Engine, charset: Charset, settings: RecognitionSettings) -> None:
        self.engine = engine
        self.charset = charset
        self.settings = settings

    def recognize(self, crops: list[BgrImage], *, locate: bool = False) -> list[LineText]:
        """Return what was read in each crop, in the given order; with `locate`, also where the characters are.

        The characters of a text are in logical order: the first is the one that is read first.

        Raises ModelError if the network does not run, or does not return a result for each line.
        """
        settings = self.settings
        cuts = [cut_line(resize_line(crop, settings.image_height)) for crop in crops]
        readings = iter(self._read([part.line for parts in cuts for part in parts], locate))
        lines = [join_readings(parts, list(islice(readings, len(parts)))) for parts in cuts]
        if settings.direction == "rtl":
            return [replace(line, text=order_logically(line.text)) for line in lines]
        return lines

    def _read(self, lines: list[BgrImage], locate: bool) -> list[LineText]:
        settings = self.settings
        widths = [plan_width(line.shape[1], settings.min_width) for line in lines]
        found: list[DecodedText | None] = [None] * len(lines)
        with closing(self._run(lines, widths)) as outputs:
            for batch, probs in outputs:
                if len(probs) != len(batch):
                    raise ModelError(
                        f"the recognition model returns {len(probs)} results for {len(batch)} lines",
                        "set Pipeline.text_rec_batch_size: 1 to read one line at a time",
                    )
                for i, line_probs in zip(batch, probs):
                    found[i] = self.charset.decode(line_probs, settings.space_weight)
        texts = [text for text in found if text is not None]
        spans = find_spans(texts, lines, widths) if locate else [None] * len(texts)
        return [LineText(text.text, text.score, places) for text, places in zip(texts, spans)]

    def _run(
        self, lines: list[BgrImage], widths: list[int]
    ) -> Generator[tuple[list[int], NDArray[np.float32]], None, None]:
        """Yield the indexes of the lines in each batch, and its probs."""
        engine = self.engine
        if isinstance(engine, StreamingEngine):
            # The widest first: none is left to wait for at the end.
            order = sorted(range(len(lines)), key=lambda i: -widths[i])
            with closing(engine.run_each(prepare_lines([lines[i]], widths[i]) for i in order)) as outputs:
                for i, probs in zip(order, outputs):
                    yield [i], probs
        else:
            for batch in plan_batches(widths, self.settings.batch_size):
                yield batch, np.asarray(engine.run(prepare_lines([lines[i] for i in batch], widths[batch[0]])))
