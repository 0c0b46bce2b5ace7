"""`edge-ocr predict`: read the text of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_ocr.cli import options
from edge_ocr.cli.reading import Format, read_inputs


@options.takes_pipeline
def predict(
    chosen: options.PipelineOptions,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Picture, PDF, folder, URL, or - for standard input."),
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Include subfolders.")] = False,
    from_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also read the inputs that FILE lists; - is stdin.")
    ] = None,
    output_format: Annotated[
        Format | None,
        typer.Option("--format", metavar="FORMAT", help="table, text, json, jsonl, md, tsv, hocr or alto."),
    ] = None,
    save_path: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Save <name>_res.json and <name>_res.jpg there.")
    ] = None,
    words: options.Words = False,
    chars: options.Chars = False,
    searchable_pdf: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write pages with their text to a new PDF.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write results to a new FILE, as JSON lines.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip inputs that are already in --output.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Processes that read, for --output.")] = 1,
    use_hpip: options.UseHpip = None,
) -> None:
    """Read the text in pictures.

    The default format is table on a terminal, else text: one line for each line of text. json prints an object for one
    result, or an array; jsonl prints one object per line. md prints paragraphs in reading order; tsv (as Tesseract's),
    hocr and alto have the place of each word. All results are one document.

    --searchable-pdf writes the pages of all inputs, with their text invisibly over them.

    Use --output for any number of pictures: each result is written as soon as it is read, and --resume continues an
    interrupted run. Give --resume with the same pipeline options: results that are already in the file are not read
    again, and nothing records which options made them.
    """
    exit_code = read_inputs(
        inputs,
        lambda: chosen.load(words, chars),
        recursive=recursive,
        from_file=from_file,
        output_format=output_format,
        save_path=save_path,
        searchable_pdf=searchable_pdf,
        output=output,
        resume=resume,
        jobs=jobs,
        use_hpip=use_hpip,
    )
    if exit_code:
        raise typer.Exit(exit_code)
