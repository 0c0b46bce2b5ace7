"""The HTML report of a comparison: the verdict, the checks, and the differences on each picture."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

import cv2
import numpy as np
from numpy.typing import NDArray

from converters.report import Check, ImageParity, Layer, LinePair, ParityReport
from converters.verify.parity import TOLERANCES
from converters.verify.report.page import clean_text, count_things, show_figure, show_verdict, write_page, write_table
from converters.verify.report.trace import write_trace
from edge_ocr import __version__
from edge_ocr.core.types import BgrImage, TextLine
from edge_ocr.models.kinds import TENSOR_NAMES

MAX_PICTURES = 30
"""Pictures shown in full; the rest are rows of a table."""

# Keeps the page small enough for mail and CI artefacts: base64 adds a third, and tables come on top.
_PICTURE_BYTES = 6_000_000
# Longest side in px and JPEG quality; the first step that fits into its share of the bytes is used.
_JPEG_STEPS = ((900, 85), (900, 70), (720, 65), (560, 55), (400, 45))
_MAX_ROWS = 300
# More identical lines than this are collapsed.
_FEW_LINES = 8

# RGB, from Okabe and Ito's palette, which colour-blind people can tell apart.
_EQUAL_COLOUR = (0, 114, 178)
_DIFFERENT_COLOUR = (213, 70, 0)

_SIDES = ("reference", "exported")

_MEANINGS: dict[Layer, str] = {
    "signature": "The bundle is unsigned, or differs from what the owner of the trusted key signed. Do not use it.",
    "files": "A file of the bundle is missing, damaged or differs from the manifest, so its results cannot be trusted. "
    "Export the bundle again.",
    "dictionary": "The dictionary does not match the recogniser: its classes map to the wrong characters, and texts "
    "become gibberish.",
    "models": "A network differs from the manifest's entry, or cannot run.",
    "tensors": "For the same input, a network's output differs from its source's by more than rounding explains: the "
    "conversion changed its weights or its graph.",
    "boxes": "Lines of text are detected in other places, or on one side only.",
    "texts": "Lines are read differently from the reference.",
    "accuracy": "Measured against the labels, the exported models read fewer lines exactly than the reference.",
}

_ACCURACY = {
    "found_share": "share of lines found",
    "exact_share": "share of lines read exactly",
    "one_minus_ned": "similarity of the texts of found lines (1 − NED)",
}


_ABOUT_TRACES = """\
<p class="soft">The relative difference between each op's output and its counterpart in the reference. A dot or a cross
is the op alone, run on the reference's inputs; the line includes all ops before it. Where the conversion fused several
ops into one, there may be no counterpart: such an op does not agree, although nothing is wrong with it.</p>
"""


def write_report(report: ParityReport) -> str:
    """Return a self-contained HTML page without scripts; the same report always gives the same page.

    Text from files is escaped, and invisible characters are shown by their code. The worst pictures come first. All are
    reduced, down to 400 px, to keep the page below about 10 MB.
    """
    verdict = "PASSED" if report.passed else "FAILED"
    traces = "".join(write_trace(kind, trace) for kind, trace in report.traces.items())
    if traces:
        traces = _ABOUT_TRACES + traces
    sections = {
        "What failed": _write_failures(report.failures),
        "All checks": _write_checks(report.checks),
        "Accuracy against the labels": _write_accuracy(report),
        "Pictures, worst first": _write_images(report.images),
        "Op by op: each network on its worst picture": traces,
        "Notes": "".join(f"<p>{clean_text(note)}</p>\n" for note in report.notes),
        "Versions, and how to repeat this": _write_ending(report),
    }
    kept = [(name, content) for name, content in sections.items() if content]
    links = " · ".join(f'<a href="#part-{i}">{name}</a>' for i, (name, _) in enumerate(kept))
    parts = "".join(f'<h2 id="part-{i}">{name}</h2>\n{content}' for i, (name, content) in enumerate(kept))
    body = f"{_write_verdict(report, verdict)}<nav>{links}</nav>\n<main>\n{parts}</main>\n"
    return write_page(f"{verdict}: {clean_text(report.bundle)} – edge-ocr verify", body)


# --- verdict and checks


def _write_verdict(report: ParityReport, verdict: str) -> str:
    pictures = count_things(len(report.images), "picture")
    lines = [pair for image in report.images for pair in image.text_pairs]
    if report.passed:
        sentence = f"On {pictures}, the exported models match the reference within the tolerances below."
    elif not report.images:
        sentence = "The networks did not run on any picture, so their results were not compared with the reference's."
    else:
        differing = sum(image.badness[0] > 0 for image in report.images)
        checks = count_things(len(report.checks), "check")
        sentence = f"{len(report.failures)} of {checks} failed. Boxes or texts differ on {differing} of {pictures}."
    if lines:
        sentence += f" Identical lines: {sum(pair.is_equal for pair in lines)} of {len(lines)}."
    facts = {
        "bundle": report.bundle,
        "target": report.target,
        "precision": report.precision,
        "Paddle-Lite": report.lite_version,
        "run by": report.runner,
        "compared with": report.reference,
    }
    rows = "".join(f"<dt>{name}</dt><dd>{clean_text(value)}</dd>" for name, value in facts.items())
    sign = "✓" if report.passed else "✗"
    return f'<header class="{verdict.lower()}"><h1>{sign} {verdict}</h1>\n<p>{sentence}</p>\n<dl>{rows}</dl></header>\n'


def _write_failures(failures: Sequence[Check]) -> str:
    parts = []
    for layer in dict.fromkeys(check.layer for check in failures):
        items = [
            f"<li><code>{clean_text(check.name)}</code>: {clean_text(check.detail)}</li>"
            for check in failures
            if check.layer == layer
        ]
        parts.append(
            f'<div class="failure"><h3>✗ {layer}</h3><p>{_MEANINGS[layer]}</p><ul>{"".join(items)}</ul></div>\n'
        )
    return "".join(parts)


def _write_checks(checks: Sequence[Check]) -> str:
    tolerances = {tolerance.figure: tolerance for tolerance in TOLERANCES}
    rows = []
    for check in checks:
        tolerance = tolerances.get(check.name)
        found, expected, reason = clean_text(check.detail), "–", "–"
        if tolerance is not None and check.value is not None and check.limit is not None:
            found, expected = show_figure(check.value), f"{tolerance.limit} {show_figure(check.limit)}"
            reason = clean_text(tolerance.reason)
        verdict = show_verdict(check.passed, "passed" if check.passed else "failed")
        rows.append((verdict, check.layer, f"<code>{clean_text(check.name)}</code>", found, expected, reason))
    caption = "“Measured” values are for fp32, int16 and int8, in this order."
    return write_table(("result", "layer", "figure", "found", "tolerance", "why"), rows, caption)


def _write_accuracy(report: ParityReport) -> str:
    figures = report.figures
    if "accuracy.lines" not in figures:
        return ""
    rows = []
    for figure, name in _ACCURACY.items():
        reference, exported = (figures.get(f"accuracy.{side}.{figure}", math.nan) for side in _SIDES)
        rows.append((name, f"{reference:.4f}", f"{exported:.4f}", f"{exported - reference:+.4f}"))
    caption = f"Over {count_things(round(figures['accuracy.lines']), 'labelled line')}; higher is better."
    head = ("figure", *_SIDES, "difference")
    return write_table(head, rows, caption, head[1:])


def _write_ending(report: ParityReport) -> str:
    return f"""\
<p>The bundle was made by edge-ocr {clean_text(report.edge_ocr_version)} for Paddle-Lite
{clean_text(report.lite_version)}, and verified by edge-ocr {__version__}.</p>
<p>Run <code>edge-ocr verify BUNDLE --report report.html</code> to make this page again; add <code>--images</code> to
use your own pictures, and <code>--gt</code> for their labels.</p>
"""


# --- pictures


@dataclass(frozen=True)
class _Row:
    """A pair of boxes with the texts shown for them."""

    number: int
    pair: LinePair

    @property
    def differs(self) -> bool:
        return self.pair.iou == 0 or not self.pair.is_equal


def _number_lines(image: ImageParity) -> tuple[_Row, ...]:
    """Number every box; its text is "" if it scores too low to be shown."""
    shown: dict[tuple[int, bytes], list[TextLine]] = {}
    for pair in image.text_pairs:
        for side, line in enumerate((pair.reference, pair.exported)):
            if line is not None:
                shown.setdefault((side, line.polygon.tobytes()), []).append(line)

    def show(side: int, line: TextLine | None) -> TextLine | None:
        if line is None:
            return None
        lines = shown.get((side, line.polygon.tobytes()))
        return lines.pop(0) if lines else replace(line, text="")

    pairs = [LinePair(show(0, pair.reference), show(1, pair.exported), pair.iou) for pair in image.box_pairs]
    return tuple(_Row(number, pair) for number, pair in enumerate(pairs, 1))


def _write_images(images: Sequence[ImageParity]) -> str:
    if not images:
        return "<p>No picture was compared.</p>\n"
    ordered = sorted(images, key=lambda image: image.badness, reverse=True)
    full, rest = ordered[:MAX_PICTURES], ordered[MAX_PICTURES:]
    share = _PICTURE_BYTES // (2 * len(full))
    text = """\
<p class="key">Boxes: <b class="equal">thin and blue</b> if both sides are the same; <b class="different">thick and
orange</b> if the text differs or the other side has no such box. Their numbers refer to the table below each picture,
which <mark>marks</mark> characters that differ; <mark></mark> shows that the other side has an extra character.</p>
"""
    text += "".join(_write_image(image, share) for image in full)
    if not rest:
        return text
    head = ("picture", "lines that differ", "of", *(f"{kind}, max |Δ|" for kind in TENSOR_NAMES))
    rows = []
    for image in rest:
        lines = _number_lines(image)
        sizes = [show_figure(image.tensors[kind].max_abs) if kind in image.tensors else "–" for kind in TENSOR_NAMES]
        different = str(sum(row.differs for row in lines))
        rows.append((clean_text(image.name), different, str(len(lines)), *sizes))
    caption = f"The worst {MAX_PICTURES} of {len(images)} pictures are shown in full above; these are the rest."
    table = write_table(head, rows, caption, head[1:])
    return f"{text}<h3>{count_things(len(rest), 'more picture')}</h3>\n{table}"


def _write_image(image: ImageParity, share: int) -> str:
    rows = _number_lines(image)
    name = clean_text(image.name)
    figures = []
    for side, whose in enumerate(_SIDES):
        picture, width, height = _encode_picture(image.image, rows, side, share)
        count = sum((row.pair.reference, row.pair.exported)[side] is not None for row in rows)
        alt = f"{name} with the boxes of the {whose} models: {count_things(count, 'box', 'boxes')}"
        source = f"data:image/jpeg;base64,{picture}"
        figures.append(
            f'<figure><figcaption>{whose}</figcaption><img src="{source}" width="{width}" height="{height}" '
            f'alt="{alt}"></figure>\n'
        )
    different = sum(row.differs for row in rows)
    # Not the failure sign: the difference may be within the tolerance.
    state = (
        f'<b class="different">≠ {different} of {len(rows)} differ</b>'
        if different
        else show_verdict(True, "all identical")
    )
    return (
        f'<section><h3>{name} · {state}</h3>\n<div class="pair">{"".join(figures)}</div>\n'
        f"{_write_rows(rows)}{_write_tensors(image)}</section>\n"
    )


def _write_tensors(image: ImageParity) -> str:
    truth = ""
    if image.truth is not None:
        sides = [
            f"{whose} {one.found} found, {one.exact} exact" for whose, one in zip(_SIDES, image.truth, strict=True)
        ]
        truth = f"<p>{count_things(image.truth[0].wanted, 'labelled line')}: {'; '.join(sides)}.</p>\n"
    rows = [
        (
            f"<code>{kind}.{TENSOR_NAMES[kind]}</code>",
            show_figure(diff.max_abs),
            show_figure(diff.mean_abs),
            f"{diff.count:,}",
            "yes" if diff.is_finite else '<span class="no">no</span>',
        )
        for kind, diff in image.tensors.items()
    ]
    head = ("output", "max |Δ|", "mean |Δ|", "values", "all finite")
    return truth + (write_table(head, rows, numbers=head[1:4]) if rows else "")


def _write_rows(rows: Sequence[_Row]) -> str:
    if not rows:
        return '<p class="soft">Neither side found text.</p>\n'
    text = ""
    for differs, title in ((True, "Lines that differ"), (False, "Identical lines")):
        chosen = [row for row in rows if row.differs == differs]
        table = _write_lines(chosen[:_MAX_ROWS])
        title += f": {len(chosen)}" + (f" (the first {_MAX_ROWS} are shown)" if len(chosen) > _MAX_ROWS else "")
        if chosen:
            is_open = "" if not differs and len(rows) > _FEW_LINES else " open"
            text += f"<details{is_open}><summary>{title}</summary>\n{table}</details>\n"
    return text


def _write_lines(rows: Sequence[_Row]) -> str:
    cells = []
    for row in rows:
        sides = (row.pair.reference, row.pair.exported)
        read = " → ".join("–" if line is None else f"{line.rec_score:.3f}" for line in sides)
        found = " → ".join("–" if line is None else f"{line.det_score:.3f}" for line in sides)
        iou = f"{row.pair.iou:.3f}" if row.pair.iou else "–"
        cells.append((str(row.number), *_compare_texts(row.pair), read, found, iou))
    head = ("line", *_SIDES, "rec score", "det score", "IoU")
    return write_table(head, cells, numbers=head[3:])


def _compare_texts(pair: LinePair) -> tuple[str, str]:
    """Return both texts as HTML, with differences marked."""
    texts = pair.texts
    marked = ["", ""]
    for tag, *spans in SequenceMatcher(None, *texts, autojunk=False).get_opcodes():
        for side in (0, 1):
            part = clean_text(texts[side][spans[2 * side] : spans[2 * side + 1]])
            marked[side] += part if tag == "equal" else f"<mark>{part}</mark>"

    def show(side: int, line: TextLine | None) -> str:
        if line is None:
            return '<span class="no">no line found</span>'
        if not line.text:
            return '<span class="soft">no text, or its score is too low</span>'
        # If the other side has no text, everything differs, and marks would only make it harder to read.
        content = marked[side] if all(texts) else clean_text(line.text)
        return f'<span class="text"><bdi lang="{_guess_language(line.text)}">{content}</bdi></span>'

    return show(0, pair.reference), show(1, pair.exported)


def _guess_language(text: str) -> str:
    # Fonts draw the same character differently for Chinese and Japanese; "" means that the language is unknown.
    if re.search("[\u3041-\u30ff]", text):
        return "ja"
    return "zh" if re.search("[\u3400-\u9fff]", text) else ""


def _encode_picture(image: BgrImage, rows: Sequence[_Row], side: int, share: int) -> tuple[str, int, int]:
    """Return a JPEG of at most `share` bytes (more if the smallest step needs more) as base64, its width and height."""
    for longest, quality in _JPEG_STEPS:
        picture = _draw_boxes(image, rows, side, longest)
        data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(data) <= share:
            break
    return base64.b64encode(data).decode("ascii"), picture.shape[1], picture.shape[0]


def _draw_boxes(image: BgrImage, rows: Sequence[_Row], side: int, longest: int) -> BgrImage:
    """Return the picture, at most `longest` px on its longer side, with the boxes of one side and their numbers."""
    height, width = image.shape[:2]
    # Small pictures are enlarged up to twice: the numbers have a fixed size and would cover the lines.
    scale = min(2.0, longest / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = np.asarray(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8
    )
    # Boxes that differ are drawn last, on top.
    for row in sorted(rows, key=lambda row: row.differs):
        line = (row.pair.reference, row.pair.exported)[side]
        if line is None:
            continue
        red, green, blue = _DIFFERENT_COLOUR if row.differs else _EQUAL_COLOUR
        colour = (blue, green, red)
        # OpenCV draws with 32-bit integers; the clipped corners are still far outside.
        corners = np.rint(np.clip(line.polygon * scale, -20000, 20000)).astype(np.int32)
        cv2.polylines(picture, [corners], True, colour, 2 if row.differs else 1, cv2.LINE_AA)
        _draw_number(picture, str(row.number), corners, colour)
    return picture


def _draw_number(picture: BgrImage, text: str, corners: NDArray[np.int32], colour: tuple[int, int, int]) -> None:
    """Draw a number tag to the left of a box's first corner, in place."""
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
    x = int(np.clip(corners[0, 0] - width - 4, 0, max(0, picture.shape[1] - width - 4)))
    y = int(np.clip(corners[0, 1], 0, max(0, picture.shape[0] - height - 4)))
    cv2.rectangle(picture, (x, y), (x + width + 3, y + height + 3), colour, cv2.FILLED)
    cv2.putText(picture, text, (x + 2, y + height + 2), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
