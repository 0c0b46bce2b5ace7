"""The `edge-ocr` command: its subcommands."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated

import typer

from edge_ocr import __version__
from edge_ocr.cli.errors import ErrorMappingGroup
from edge_ocr.cli.help import App

# The panel of each command, and the help of each group of commands; each is in the module of its name.
_COMMANDS = {
    "predict": "Read",
    "serve": "Read",
    "export": "Convert",
    "verify": "Convert",
    "deploy": "Convert",
    "inspect": "Convert",
    "bench": "Convert",
    "doctor": "Set up",
}
_GROUPS = {
    "models": "List, download and locate models.",
    "libs": "List, add and download Paddle-Lite's runtime libraries.",
    "keys": "Make the keys that sign bundles.",
    "config": "List, show and copy pipeline files.",
}


def make_app(name: str | None = None) -> App:
    """Return the app with all commands. If one has this name, only that one is loaded, in a third of the time."""
    app = App(
        name="edge-ocr",
        cls=ErrorMappingGroup,
        help="Read text in pictures, and run the same models on phones and ARM boards.",
        # Typer's tracebacks print local variables; keep Python's plain ones.
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    names = [*_COMMANDS, *_GROUPS]
    for each in [name] if name in names else names:
        module = import_module(f"edge_ocr.cli.{each}")
        if each in _COMMANDS:
            app.command(each, rich_help_panel=_COMMANDS[each])(getattr(module, each))
        else:
            app.add_typer(module.app, name=each, help=_GROUPS[each], rich_help_panel="Set up")
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"edge-ocr {__version__}\n")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print a traceback with each error.")] = False,
) -> None:
    pass
