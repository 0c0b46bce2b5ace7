"""`edge-ocr predict`: read the text of pictures."""

from __future__ import annotations

import signal
import sys
import warnings
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_ocr.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from rich.progress import Progress

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
    from edge_ocr.cli.app import report_error
    from edge_ocr.cli.progress import show_download
    from edge_ocr.pipeline import OcrPipeline

    chosen = output_format or (Format.table if sys.stdout.isatty() else Format.text)
    if save_path is not None:
        _make_folder(save_path)
    # Pillow warns of odd metadata; a user cannot do anything about it.
    warnings.filterwarnings("ignore", module="PIL")
    sources, failures = _collect(inputs)
    # One file, URL or stream was asked for: one object is expected, unless it has several pages.
    single = len(inputs) == 1 and not Path(inputs[0]).is_dir()
    printer = _Printer(chosen, single)
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
        failures += _run(reader, sources, printer, save_path)
    else:
        printer.finish()
    for error in failures:
        report_error(error)
    if failures:
        if len(sources) + len(inputs) > 2:
            sys.stderr.write(f"{len(failures)} not read or not saved.\n")
        raise typer.Exit(failures[0].exit_code)


def _make_folder(folder: Path) -> None:
    from edge_ocr.errors import UsageError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--save-path {folder}: {error.strerror}", "give a folder that can be written") from None


def _collect(inputs: list[str]) -> tuple[list[Source], list[EdgeOcrError]]:
    from edge_ocr.errors import EdgeOcrError
    from edge_ocr.inputs import Source, list_sources

    sources: list[Source] = []
    failures: list[EdgeOcrError] = []
    for given in inputs:
        try:
            if given == "-":
                sources.append(Source(sys.stdin.buffer, "-"))
            else:
                sources.extend(list_sources(given))
        except EdgeOcrError as error:
            failures.append(error)
    return sources, failures


def _run(reader: OcrPipeline, sources: list[Source], printer: _Printer, save_path: Path | None) -> list[EdgeOcrError]:
    """Read every source and return what failed."""
    from edge_ocr.errors import EdgeOcrError

    taken: set[str] = set()
    failures: list[EdgeOcrError] = []
    with _Bar(len(sources)) as bar:
        try:
            for source in sources:
                try:
                    for result in reader.predict_source(source, taken):
                        with bar.hide(), _hold_ctrl_c():
                            printer.show(result)
                        if save_path is not None:
                            result.save_to_json(save_path / f"{result.name}_res.json")
                            result.save_to_img(save_path / f"{result.name}_res.jpg")
                except EdgeOcrError as error:
                    failures.append(error)
                bar.advance()
        finally:
            # Ctrl-C comes through here too: what is finished is printed.
            with bar.hide(), _hold_ctrl_c():
                printer.finish()
    return failures


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


class _Bar:
    """A progress bar on stderr, where there are several pictures and a person is watching."""

    def __init__(self, total: int) -> None:
        self._bar: Progress | None = None
        self._task: Any = None
        if total < 2 or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("Reading"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=total, rate="")

    def __enter__(self) -> _Bar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self) -> None:
        if self._bar is not None:
            self._bar.advance(self._task)
            speed = self._bar.tasks[0].speed
            self._bar.update(self._task, rate=f"{speed:.1f} pictures/s" if speed else "")

    @contextmanager
    def hide(self) -> Iterator[None]:
        """Take the bar away while results are printed on the same terminal."""
        if self._bar is None or not sys.stdout.isatty():
            yield
            return
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()


class _Printer:
    """Prints results as they come."""

    def __init__(self, output_format: Format, single: bool) -> None:
        self._format = output_format
        self._single = single
        self._shown = 0
        self._held: str | None = None

    def show(self, result: OcrResult) -> None:
        if self._format is Format.table:
            _print_table(result)
        elif self._format is Format.text:
            self._write("".join(text + "\n" for text in result["rec_text"]))
        elif self._format is Format.jsonl:
            self._write(result.to_json() + "\n")
        elif self._single and self._shown == 0 and self._held is None:
            # Whether it stays alone is known when the second page comes, or none.
            self._held = result.to_json(indent=4)
        else:
            self._show_item(result.to_json(indent=4))

    def _show_item(self, text: str) -> None:
        held, self._held = self._held, None
        for item in (text,) if held is None else (held, text):
            self._write(("[\n" if self._shown == 0 else ",\n") + item)
            self._shown += 1

    def finish(self) -> None:
        if self._format is not Format.json:
            return
        if self._held is not None:
            self._write(self._held + "\n")
        elif self._shown:
            self._write("\n]\n")
        elif not self._single:
            self._write("[]\n")

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
    table = Table(caption=f"{lines} line{'' if lines == 1 else 's'}, {total_ms:.0f} ms")
    table.add_column("#", justify="right", style="dim")
    table.add_column("Text", overflow="fold")
    table.add_column("Score", justify="right")
    table.add_column("Top left", justify="right", style="dim")
    rows = zip(result["rec_text"], result["rec_score"], result["dt_polys"], strict=True)
    for number, (text, score, polygon) in enumerate(rows, 1):
        table.add_row(str(number), Text(text), f"{score:.3f}", f"{polygon[0][0]}, {polygon[0][1]}")
    console = Console()
    # A title of the table would be folded to its width, a path must stay whole.
    console.print(Text(title, "bold"), soft_wrap=True)
    console.print(table)
