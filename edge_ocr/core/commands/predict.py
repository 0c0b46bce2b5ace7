"""`edge-ocr-lite predict`: read the text in pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2

from ..errors import EdgeOcrError, UsageError
from ..files import choose_name, write_files
from ..lite_ocr import LiteOCR
from ..pictures import decode_picture, list_pictures, read_picture
from ..report import explain_empty, format_json
from ..types import BgrImage, Reading
from . import report_error

_BOX_COLOUR = (0, 160, 0)
_WORD_COLOUR = (200, 90, 0)
_CHARACTER_COLOUR = (200, 200, 120)
_JPEG_QUALITY = 92


def run(options: argparse.Namespace) -> int:
    """Read every picture; return the exit code of the first failure, or 0."""
    if options.save_path is not None and options.save_path.exists() and not options.save_path.is_dir():
        raise UsageError(f"--save-path {options.save_path} is a file", "give a folder")
    failures: list[EdgeOcrError] = []
    sources = list(_list_sources(options.images, failures))
    # Given one picture, not a folder, users expect one object.
    single = len(options.images) == 1 and sources in ([], [None], [Path(options.images[0])])
    results: list[dict[str, Any]] = []
    if sources:
        reader = LiteOCR(options.bundle, engine=options.engine, threads=options.threads, power_mode=options.power_mode)
        taken: set[str] = set()
        for source in sources:
            try:
                result = _read(reader, source, options, taken)
            except EdgeOcrError as error:
                failures.append(error)
                continue
            if options.format == "json":
                results.append(result)
            else:
                _write_result(result, options.format, titled=not single)
    if options.format == "json" and (results or not single):
        _write(format_json(results[0] if single else results, indent=2))
    for failure in failures:
        report_error(failure)
    if failures and len(sources) > 1:
        sys.stderr.write(f"{len(failures)} not read or not saved.\n")
    return failures[0].exit_code if failures else 0


def _list_sources(images: list[str], failures: list[EdgeOcrError]) -> Iterator[Path | None]:
    """Yield each picture; None is standard input."""
    for given in images:
        try:
            # An empty string, such as an unset shell variable, would mean the current folder.
            if given == "":
                raise UsageError("the path is empty")
            yield from [None] if given == "-" else list_pictures(Path(given))
        except EdgeOcrError as error:
            failures.append(error)


def _read(reader: LiteOCR, source: Path | None, options: argparse.Namespace, taken: set[str]) -> dict[str, Any]:
    image = decode_picture(sys.stdin.buffer.read(), "standard input") if source is None else read_picture(source)
    input_path = "-" if source is None else str(source)
    reading = reader.read(image, input_path, words=options.words)
    result = reading.describe(input_path)
    folder: Path | None = options.save_path
    if folder is not None:
        picture = _draw(image, reading)
        name = choose_name("stdin" if source is None else source.stem, taken)
        text = format_json(result, indent=4) + "\n"
        # Names that are not UTF-8 have surrogates, which become escapes that JSON allows.
        content = text.encode("utf-8", "backslashreplace")
        paths = {folder / f"{name}_res.json": content, folder / f"{name}_res.jpg": picture}
        write_files(paths, "free some space, or give another --save-path")
    if not reading.lines:
        bundle, label = reader.bundle, "standard input" if source is None else input_path
        note = explain_empty(
            label,
            image.shape[:2],
            reading,
            bundle.detection,
            bundle.recognition.text_score,
            has_orientation="cls" in bundle.kinds,
            on_board=True,
        )
        sys.stderr.write(f"{note}\n")
    return result


def _draw(image: BgrImage, reading: Reading) -> bytes:
    """Return the picture with its boxes, as a JPEG file."""
    canvas = image.copy()
    words = [word for line in reading.lines for word in line.words or ()]
    characters = [one for word in words for one in word.characters] if reading.return_words == "chars" else []
    width = max(1, round(max(canvas.shape[:2]) / 600))
    for parts, colour, thickness in (
        (characters, _CHARACTER_COLOUR, 1),
        (words, _WORD_COLOUR, max(1, width // 2)),
        (reading.lines, _BOX_COLOUR, width),
    ):
        outlines = [part.polygon.round().astype("int32").reshape(-1, 1, 2) for part in parts]
        cv2.polylines(canvas, outlines, True, colour, thickness, cv2.LINE_AA)
    try:
        done, content = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    except cv2.error:
        done = False
    if not done:
        height, width = image.shape[:2]
        raise UsageError(f"a picture of {width}×{height} cannot be saved as JPEG", "leave --save-path out")
    return bytes(content.tobytes())


def _write_result(result: dict[str, Any], style: str, *, titled: bool) -> None:
    if style == "jsonl":
        _write(format_json(result))
        return
    title = [f"{result['input_path']}:"] if titled else []
    _write("\n".join([*title, *result["rec_text"]]))


def _write(text: str) -> None:
    if text:
        # Flush, so that the reader of a pipe gets each result at once.
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
