"""What `edge-ocr predict` does, without its options: Typer takes a tenth of the time of a start."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from edge_ocr.core.commands import map_errors, report_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType

    from edge_ocr.config import PipelineConfig
    from edge_ocr.errors import EdgeOcrError
    from edge_ocr.formats import SearchablePdf
    from edge_ocr.formats.document import Document
    from edge_ocr.inputs import Source
    from edge_ocr.pipeline import OcrPipeline
    from edge_ocr.results import OcrResult


class Format(str, Enum):
    """How results are printed."""

    table = "table"
    text = "text"
    json = "json"
    jsonl = "jsonl"
    md = "md"
    tsv = "tsv"
    hocr = "hocr"
    alto = "alto"


# They say where each word is.
_WITH_WORDS = (Format.tsv, Format.hocr, Format.alto)


def read_plain(inputs: Sequence[str]) -> int:
    """Run `edge-ocr predict` without options; return the exit code."""

    def run() -> int:
        from edge_ocr.config import load_config

        return read_inputs(inputs, load_config)

    return map_errors(run)


def read_inputs(
    inputs: Sequence[str] | None,
    load: Callable[[], PipelineConfig],
    *,
    recursive: bool = False,
    from_file: Path | None = None,
    output_format: Format | None = None,
    save_path: Path | None = None,
    searchable_pdf: Path | None = None,
    output: Path | None = None,
    resume: bool = False,
    jobs: int = 1,
    use_hpip: bool | None = None,
) -> int:
    """Read every input and print or save the results; the arguments are those of `edge-ocr predict`.

    `load` reads the pipeline file, after the inputs are found. Inputs that cannot be read are reported on stderr.

    Returns the exit code: 0, or that of the first input that could not be read. Raises the other errors.
    """
    from edge_ocr.cli.progress import show_download
    from edge_ocr.pipeline import OcrPipeline

    _check_options(inputs, from_file, output, resume, jobs, save_path, searchable_pdf, output_format)
    style = output_format or (Format.table if sys.stdout.isatty() else Format.text)
    if save_path is not None:
        _make_folder(save_path, "--save-path")
    # Pillow warns about odd metadata, which users cannot do anything about.
    warnings.filterwarnings("ignore", module="PIL")
    failures: list[EdgeOcrError] = []
    given = chain(inputs or (), [] if from_file is None else _read_names(from_file))
    sources: Iterable[Source] = _walk(given, recursive, failures)
    # Given one file, URL or stream, users expect one object, unless it has several pages.
    single = from_file is None and len(inputs or ()) == 1 and not Path((inputs or [""])[0]).is_dir()
    printer = _Printer(style, single)
    if output is None:
        # Missing files are found before the models load. With --output, listing all of them may take too long.
        sources = list(sources)
    if sources:
        config = load()
        if searchable_pdf is not None or style in _WITH_WORDS:
            config = _request_words(config, "--searchable-pdf" if searchable_pdf else f"--format {style.value}")
        if output is not None:
            _run_batch(sources, config, use_hpip, output, resume, jobs, failures)
        else:
            pdf = None if searchable_pdf is None else _begin_pdf(searchable_pdf)
            with show_download() as progress:
                reader = OcrPipeline(config, use_hpip, progress)
            _run(reader, list(sources), printer, save_path, pdf, failures)
            if pdf is not None and searchable_pdf is not None and len(pdf):
                pdf.save(searchable_pdf)
    else:
        printer.finish()
    return _report(failures, counted=not single)


def _report(failures: Sequence[EdgeOcrError], *, counted: bool) -> int:
    """Report every failure on stderr, `counted` also how many there were; return the exit code of the first, else 0."""
    for error in failures:
        report_error(error)
    if failures and counted:
        sys.stderr.write(f"{len(failures)} not read or not saved.\n")
    return failures[0].exit_code if failures else 0


def _check_options(
    inputs: Sequence[str] | None,
    from_file: Path | None,
    output: Path | None,
    resume: bool,
    jobs: int,
    save_path: Path | None,
    searchable_pdf: Path | None,
    output_format: Format | None,
) -> None:
    from edge_ocr.errors import UsageError

    if not inputs and from_file is None:
        raise UsageError("no INPUT given", "give a picture, or --from-file LIST")
    if output is None:
        for option, used in (("--resume", resume), ("--jobs", jobs > 1)):
            if used:
                raise UsageError(f"{option} needs --output", "add --output FILE.jsonl")
    elif save_path is not None:
        raise UsageError("--save-path and --output exclude each other", "leave one of them out")
    elif searchable_pdf is not None:
        raise UsageError("--searchable-pdf and --output exclude each other", "leave one of them out")
    elif output_format not in (None, Format.jsonl):
        raise UsageError(f"--output writes jsonl, not {output_format.value}", "leave --format out")
    if str(from_file) == "-" and "-" in (inputs or ()):
        raise UsageError(
            "standard input cannot be both a picture (-) and the list of names (--from-file -)",
            "write the list to a file and give that to --from-file",
        )
    if jobs > 1 and "-" in (inputs or ()):
        raise UsageError("--jobs cannot read a picture from standard input", "leave --jobs out")


def _make_folder(folder: Path, option: str) -> None:
    from edge_ocr.core.files import explain_os_error
    from edge_ocr.errors import UsageError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{option}: cannot make {folder}: {explain_os_error(error)}", "give a writable folder with free space"
        ) from None


def _request_words(config: PipelineConfig, option: str) -> PipelineConfig:
    """Return the config with the places of words, unless it has those of characters, too."""
    key = "Recognition.return_words"
    return config.with_values({key: "words"}, option) if config.values[key] == "none" else config


def _begin_pdf(path: Path) -> SearchablePdf:
    """Return an empty PDF, if its file can be made."""
    from edge_ocr.errors import UsageError
    from edge_ocr.formats import SearchablePdf

    if str(path) == "-":
        raise UsageError("--searchable-pdf cannot write to standard output", "give a file")
    if os.path.lexists(path):
        raise UsageError(f"{path} exists", "give another --searchable-pdf")
    _make_folder(path.parent, "--searchable-pdf")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"--searchable-pdf: {path.parent} is not writable", "give a file in another folder")
    return SearchablePdf()


def _read_names(file: Path) -> Iterator[str]:
    """Yield the non-empty lines of a file, or of standard input for `-`."""
    from edge_ocr.errors import UsageError

    try:
        # File names need not be UTF-8.
        opened = sys.stdin.buffer if str(file) == "-" else file.open("rb")
        with opened:
            for line in opened:
                name = os.fsdecode(line.rstrip(b"\r\n"))
                if name.strip():
                    # In a list, - is the name of a file.
                    yield "./-" if name == "-" else name
    except OSError as error:
        raise UsageError(f"--from-file {file}: {error.strerror}") from None


def _walk(given: Iterable[str], recursive: bool, failures: list[EdgeOcrError]) -> Iterator[Source]:
    """Yield the sources to read; add what cannot be found to `failures`."""
    from edge_ocr.errors import EdgeOcrError, InputError
    from edge_ocr.inputs import Source, list_sources

    for name in given:
        try:
            if name == "-":
                yield Source(sys.stdin.buffer, "-")
            elif recursive and Path(name).is_dir():
                from edge_ocr.batch import list_tree

                found, before = False, len(failures)
                for source in list_tree(Path(name), failures):
                    found = True
                    yield source
                if not found and len(failures) == before:
                    raise InputError(f"no pictures in folder {name} or its subfolders")
            else:
                yield from list_sources(name)
        except EdgeOcrError as error:
            failures.append(error)
        except OSError as error:
            # The name is too long, or a folder in its path cannot be entered.
            failures.append(InputError(f"{name} cannot be read: {error.strerror}"))


def _run(
    reader: OcrPipeline,
    sources: list[Source],
    printer: _Printer,
    save_path: Path | None,
    pdf: SearchablePdf | None,
    failures: list[EdgeOcrError],
) -> None:
    """Read every source; add what fails to `failures`."""
    from edge_ocr.cli.progress import ReadingBar
    from edge_ocr.errors import EdgeOcrError
    from edge_ocr.results import explain_empty_result

    taken: set[str] = set()
    with ReadingBar(len(sources)) as bar:
        try:
            for source in sources:
                try:
                    content = None
                    if pdf is not None:
                        # The PDF has the file's own pages and pictures; standard input can be read only once.
                        content = source.load(reader.config.input)
                        source = replace(source, data=content)
                    for result in reader.predict_source(source, taken):
                        with bar.hide(), _hold_ctrl_c():
                            printer.show(result, is_needed=save_path is None and pdf is None)
                            if not result.reading.lines:
                                sys.stderr.write(f"{explain_empty_result(result, reader.config)}\n")
                        if save_path is not None:
                            result.save_both(save_path)
                        if pdf is not None:
                            pdf.add(result, content)
                except EdgeOcrError as error:
                    failures.append(error)
                bar.advance()
        finally:
            # Also after Ctrl-C, so that the finished results are printed.
            with bar.hide(), _hold_ctrl_c():
                printer.finish()


def _run_batch(
    sources: Iterable[Source],
    config: PipelineConfig,
    use_hpip: bool | None,
    output: Path,
    resume: bool,
    jobs: int,
    failures: list[EdgeOcrError],
) -> None:
    """Read every source that is not in `output` yet and append the results to it."""
    from edge_ocr.batch import JsonLinesFile, read_many
    from edge_ocr.cli.progress import ReadingBar, show_download
    from edge_ocr.pipeline import find_models

    # Download once, not in each process.
    with show_download() as progress:
        find_models(config, progress)
    with JsonLinesFile(output, resume=resume) as file, ReadingBar(None) as bar:
        done = len(file.done)
        if done:
            sys.stderr.write(f"{output}: {done} done before\n")
        left = (source for source in sources if source.input_path not in file.done)
        try:
            for outcome in read_many(left, config, jobs=jobs, use_hpip=use_hpip):
                with _hold_ctrl_c():
                    file.write(outcome.lines, outcome.source.input_path)
                    # --resume tries failed inputs again.
                    if outcome.error is None:
                        done += 1
                    else:
                        failures.append(outcome.error)
                    for note in outcome.notes:
                        sys.stderr.write(f"{note}\n")
                bar.advance()
        except KeyboardInterrupt:
            inputs = "1 input is" if done == 1 else f"{done} inputs are"
            raise KeyboardInterrupt(f"{inputs} done in {output}; --resume continues with the others") from None


@contextmanager
def _hold_ctrl_c() -> Iterator[None]:
    """Delay Ctrl-C until a result is printed whole: half a result would make a JSON array unreadable."""
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


def _begin_document(output_format: Format) -> Document | None:
    if output_format is Format.md:
        from edge_ocr.formats.markdown import MarkdownDocument

        return MarkdownDocument()
    if output_format is Format.tsv:
        from edge_ocr.formats.tsv import TsvDocument

        return TsvDocument()
    if output_format is Format.hocr:
        from edge_ocr.formats.hocr import HocrDocument

        return HocrDocument()
    if output_format is Format.alto:
        from edge_ocr.formats.alto import AltoDocument

        return AltoDocument()
    return None


class _Printer:
    """Prints each result as soon as it is read."""

    def __init__(self, output_format: Format, single: bool) -> None:
        self._format = output_format
        self._single = single
        self._shown = 0
        self._held: str | None = None
        self._document = _begin_document(output_format)

    def show(self, result: OcrResult, *, is_needed: bool) -> None:
        """Print a result. If nobody reads stdout any more, raises BrokenPipeError if that `is_needed`."""
        try:
            self._show(result)
        except BrokenPipeError:
            if is_needed:
                raise
            # The results that are saved are still wanted.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)

    def _show(self, result: OcrResult) -> None:
        if self._document is not None:
            self._write(self._document.add(result))
        elif self._format is Format.table:
            _print_table(result)
        elif self._format is Format.text:
            self._write("".join(text + "\n" for text in result["rec_text"]))
        elif self._format is Format.jsonl:
            self._write(result.to_json() + "\n")
        elif self._single and self._shown == 0 and self._held is None:
            # Wait for a second page to know whether to print an object or an array.
            self._held = result.to_json(indent=4)
        else:
            self._show_item(result.to_json(indent=4))

    def _show_item(self, text: str) -> None:
        held, self._held = self._held, None
        for item in (text,) if held is None else (held, text):
            self._write(("[\n" if self._shown == 0 else ",\n") + item)
            self._shown += 1

    def finish(self) -> None:
        if self._document is not None:
            self._write(self._document.finish())
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
    words = "" if result.reading.return_words == "none" else f", {sum(map(len, result['text_word']))} words"
    table = Table(caption=f"{lines} line{'' if lines == 1 else 's'}{words}, {total_ms:.0f} ms")
    table.add_column("#", justify="right", style="dim")
    table.add_column("Text", overflow="fold")
    table.add_column("Score", justify="right")
    table.add_column("Top left", justify="right", style="dim")
    rows = zip(result["rec_text"], result["rec_score"], result["dt_polys"], strict=True)
    for number, (text, score, polygon) in enumerate(rows, 1):
        table.add_row(str(number), Text(text), f"{score:.3f}", f"{polygon[0][0]}, {polygon[0][1]}")
    console = Console()
    # The title of a table is folded to its width, but a path must stay whole.
    console.print(Text(title, "bold"), soft_wrap=True)
    console.print(table)
