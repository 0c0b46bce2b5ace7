"""`edge-ocr predict`: read the text of pictures."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_ocr.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from edge_ocr.errors import EdgeOcrError
    from edge_ocr.inputs import Source
    from edge_ocr.pipeline import OcrPipeline
    from edge_ocr.results import OcrResult


class Format(str, Enum):
    """How results are printed."""

    table = "table"
    text = "text"
    json = "json"
    jsonl = "jsonl"


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT…", help="Pictures, PDFs, folders, http(s) URLs, or - for a picture on standard input."
        ),
    ],
    pipeline: options.Pipeline = "OCR",
    device: options.Device = None,
    engine: options.Engine = None,
    use_hpip: Annotated[
        bool | None,
        typer.Option("--use-hpip/--no-hpip", help="Demand a fast engine, or Paddle's own.", show_default=False),
    ] = None,
    det_model: options.DetModel = None,
    rec_model: options.RecModel = None,
    orientation: options.Orientation = None,
    limit_side_len: options.LimitSideLen = None,
    limit_type: options.LimitTypeOption = None,
    text_score: options.TextScore = None,
    threads: options.Threads = None,
    settings: options.Settings = None,
    save_path: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Save each result as <name>_res.json and <name>_res.jpg into this folder."),
    ] = None,
    output_format: Annotated[
        Format | None,
        typer.Option("--format", help="table on a terminal, text (a line a text line) in a pipe.", show_default=False),
    ] = None,
) -> None:
    """Read the text of pictures.

    json prints one object for one result and an array for more; jsonl prints one object a line.
    """
    from edge_ocr.cli.progress import show_download
    from edge_ocr.errors import UsageError
    from edge_ocr.pipeline import OcrPipeline

    if save_path is not None and save_path.exists() and not save_path.is_dir():
        raise UsageError(f"--save-path {save_path} is a file", "give a folder")
    chosen = output_format or (Format.table if sys.stdout.isatty() else Format.text)
    sources, failures = _collect(inputs)
    if sources:
        config = options.load_pipeline_config(
            pipeline,
            device=device,
            engine=engine,
            det_model=det_model,
            rec_model=rec_model,
            orientation=orientation,
            limit_side_len=limit_side_len,
            limit_type=limit_type,
            text_score=text_score,
            threads=threads,
            settings=settings,
        )
        with show_download() as progress:
            reader = OcrPipeline(config, use_hpip, progress)
        _run(reader, sources, failures, _Printer(chosen), save_path)
    if failures:
        _report_failures(failures, len(sources), len(inputs))
        raise typer.Exit(failures[0][1].exit_code)


Failures = list[tuple[str, "EdgeOcrError"]]


def _collect(inputs: list[str]) -> tuple[list[Source], Failures]:
    from edge_ocr.errors import EdgeOcrError
    from edge_ocr.inputs import Source, list_sources

    sources: list[Source] = []
    failures: Failures = []
    for given in inputs:
        try:
            if given == "-":
                sources.append(Source(sys.stdin.buffer.read(), "-"))
            else:
                sources.extend(list_sources(given))
        except EdgeOcrError as error:
            failures.append((given, error))
    return sources, failures


def _run(
    reader: OcrPipeline, sources: list[Source], failures: Failures, printer: _Printer, save_path: Path | None
) -> None:
    from edge_ocr.errors import EdgeOcrError

    taken: set[str] = set()
    try:
        for source in _track(sources):
            try:
                for result in reader.predict_source(source):
                    if save_path is not None:
                        _save(result, save_path, taken)
                    with _hold_ctrl_c():
                        printer.show(result)
            except EdgeOcrError as error:
                failures.append((source.input_path or "input", error))
    finally:
        # Ctrl-C comes through here too: what is finished is printed.
        with _hold_ctrl_c():
            printer.finish()


@contextmanager
def _hold_ctrl_c() -> Iterator[None]:
    """Let a Ctrl-C wait until a result is printed whole: half of one would make an array of JSON unreadable."""
    held = False

    def hold(number: int, frame: FrameType | None) -> None:
        nonlocal held
        held = True

    before = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


def _track(sources: list[Source]) -> Iterator[Source]:
    """Walk through the sources, with a progress bar on stderr where there are several and a person is watching."""
    if len(sources) < 2 or not sys.stderr.isatty():
        yield from sources
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("Reading"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    ) as bar:
        task = bar.add_task("", total=len(sources), rate="")
        for source in sources:
            yield source
            bar.advance(task)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.1f} pictures/s" if speed else "")


def _save(result: OcrResult, folder: Path, taken: set[str]) -> None:
    """Save under the input's name; a second input of the same name gets a number, so that nothing is overwritten."""
    name, number = result.name, 2
    while name in taken:
        name, number = f"{result.name}_{number}", number + 1
    taken.add(name)
    result.save_to_json(folder / f"{name}_res.json")
    result.save_to_img(folder / f"{name}_res.jpg")


class _Printer:
    """Prints results as they come."""

    def __init__(self, output_format: Format) -> None:
        self._format = output_format
        self._shown = 0
        self._held: str | None = None

    def show(self, result: OcrResult) -> None:
        if self._format is Format.table:
            _print_table(result)
        elif self._format is Format.text:
            self._write("".join(text + "\n" for text in result["rec_text"]))
        elif self._format is Format.jsonl:
            self._write(result.to_json() + "\n")
        else:
            # Whether it is one object or an array is known when the second result comes.
            if self._held is not None:
                self._write(("[\n" if self._shown == 0 else ",\n") + self._held)
                self._shown += 1
            self._held = result.to_json(indent=4)

    def finish(self) -> None:
        if self._held is not None:
            self._write(self._held + "\n" if self._shown == 0 else f",\n{self._held}\n]\n")

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _print_table(result: OcrResult) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    title = str(result["input_path"])
    if result.page_index is not None:
        title += f", page {result.page_index + 1}"
    total_ms = sum(result.timings_ms.values())
    lines = len(result["rec_text"])
    table = Table(title=Text(title), caption=f"{lines} line{'' if lines == 1 else 's'}, {total_ms:.0f} ms")
    table.add_column("#", justify="right", style="dim")
    table.add_column("Text", overflow="fold")
    table.add_column("Score", justify="right")
    table.add_column("Top left", justify="right", style="dim")
    rows = zip(result["rec_text"], result["rec_score"], result["dt_polys"], strict=True)
    for number, (text, score, polygon) in enumerate(rows, 1):
        table.add_row(str(number), Text(text), f"{score:.3f}", f"{polygon[0][0]}, {polygon[0][1]}")
    Console().print(table)


def _report_failures(failures: Failures, read: int, given: int) -> None:
    from edge_ocr.cli.app import report_error

    for _, error in failures:
        report_error(error)
    if read + given > 2:
        sys.stderr.write(f"{len(failures)} not read.\n")
