"""`edge-ocr export`: convert models for a device and write them as a bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_ocr.cli import options

if TYPE_CHECKING:
    from rich.console import Console

    from converters.export import ExportReport


def export(
    target: Annotated[str, typer.Option(help="What the bundle is for: arm.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to make.")],
    pipeline: options.Pipeline = "OCR",
    det_model: options.DetModel = None,
    rec_model: options.RecModel = None,
    cls_model: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="Orientation classifier; includes it.")
    ] = None,
    with_cls: Annotated[
        bool, typer.Option("--with-cls", help="Include the classifier that finds lines upside down.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
) -> None:
    """Convert models into a bundle for a device; print its folder."""
    from rich.console import Console

    from converters.export import export_bundle
    from edge_ocr.cli.progress import show_download
    from edge_ocr.config import load_config

    named = {
        "Pipeline.text_det_model": ("--det-model", det_model),
        "Pipeline.text_rec_model": ("--rec-model", rec_model),
        "Pipeline.text_line_orientation_model": ("--cls-model", cls_model),
        # Without either option the pipeline file decides.
        "Pipeline.use_text_line_orientation": ("--with-cls", True if with_cls or cls_model else None),
    }
    config = load_config(
        pipeline,
        {path: value for path, (_, value) in named.items() if value is not None},
        {path: option for path, (option, _) in named.items()},
    )
    console = Console(stderr=True)

    def report(step: str) -> None:
        console.print(step, markup=False, highlight=False, soft_wrap=True)

    with show_download() as progress:
        done = export_bundle(target, out, config, force=force, report=report, progress=progress)
    _print_summary(console, done)
    sys.stdout.write(f"{done.out_dir}\n")


def _print_summary(console: Console, done: ExportReport) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(caption=f"target {done.target}, for Paddle-Lite {done.opt_version}")
    table.add_column("Model", overflow="fold")
    for name in ("Before MB", "After MB", "Seconds"):
        table.add_column(name, justify="right")
    for model in done.models:
        table.add_row(
            Text(f"{model.kind}: {model.name}"),
            f"{model.source_size_bytes / 1e6:.2f}",
            f"{model.size_bytes / 1e6:.2f}",
            f"{model.seconds:.2f}",
        )
    console.print(table)
