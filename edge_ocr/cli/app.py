"""The `edge-ocr` command: its subcommands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edge_ocr import __version__
from edge_ocr.cli import bench, config, deploy, doctor, export, inspect, keys, libs, models, predict, serve, verify
from edge_ocr.cli.errors import ErrorMappingGroup
from edge_ocr.cli.help import App

_READ, _CONVERT, _SET_UP = "Read", "Convert", "Set up"

app = App(
    name="edge-ocr",
    cls=ErrorMappingGroup,
    help="Read text in pictures, and run the same models on phones and ARM boards.",
    # Typer's tracebacks print local variables; keep Python's plain ones.
    pretty_exceptions_enable=False,
)
app.command("predict", rich_help_panel=_READ)(predict.predict)
app.command("serve", rich_help_panel=_READ)(serve.serve)
app.command("export", rich_help_panel=_CONVERT)(export.export)
app.command("verify", rich_help_panel=_CONVERT)(verify.verify)
app.command("deploy", rich_help_panel=_CONVERT)(deploy.deploy)
app.command("inspect", rich_help_panel=_CONVERT)(inspect.inspect)
app.command("bench", rich_help_panel=_CONVERT)(bench.bench)
app.command("doctor", rich_help_panel=_SET_UP)(doctor.doctor)
app.add_typer(models.app, name="models", help="List, download and locate models.", rich_help_panel=_SET_UP)
app.add_typer(
    libs.app, name="libs", help="List, add and download Paddle-Lite's runtime libraries.", rich_help_panel=_SET_UP
)
app.add_typer(keys.app, name="keys", help="Make the keys that sign bundles.", rich_help_panel=_SET_UP)
app.add_typer(config.app, name="config", help="List, show and copy pipeline files.", rich_help_panel=_SET_UP)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"edge-ocr {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print a traceback with each error.")] = False,
) -> None:
    pass
