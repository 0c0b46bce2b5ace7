"""The `edge-ocr` command: its subcommands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edge_ocr import __version__
from edge_ocr.cli import config, deploy, doctor, export, inspect, keys, libs, models, predict, serve, verify
from edge_ocr.cli.errors import ErrorMappingGroup

app = typer.Typer(
    name="edge-ocr",
    cls=ErrorMappingGroup,
    help="Read text in pictures, and take the same models to phones and ARM boards.",
    no_args_is_help=True,
    # Typer's own tracebacks print local variables; ours is Python's plain one, and only for bugs.
    pretty_exceptions_enable=False,
    # Help by Rich loads a Markdown parser and a syntax highlighter first: half a second against a tenth.
    rich_markup_mode=None,
)
app.command("predict")(predict.predict)
app.command("serve")(serve.serve)
app.command("export")(export.export)
app.command("verify")(verify.verify)
app.command("deploy")(deploy.deploy)
app.command("inspect")(inspect.inspect)
app.add_typer(models.app, name="models", help="List, fetch and locate models.")
app.add_typer(libs.app, name="libs", help="List, add and fetch Paddle-Lite's runtime libraries.")
app.add_typer(keys.app, name="keys", help="Make keys that sign bundles.")
app.add_typer(config.app, name="config", help="Show and copy pipeline files.")
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"edge-ocr {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print a traceback with every error.")] = False,
) -> None:
    pass
