"""`edge-ocr keys`: keys that sign bundles."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_ocr.cli.help import App

app = App()


@app.callback()
def _keys() -> None:
    pass


@app.command("new")
def new(
    name: Annotated[
        Path, typer.Argument(metavar="NAME", help="Makes NAME.key, which you keep, and NAME.pub, which devices get.")
    ],
    password: Annotated[
        bool,
        typer.Option("--password", help="Ask for a password for NAME.key, or take EDGE_OCR_KEY_PASSWORD."),
    ] = False,
) -> None:
    """Make a pair of Ed25519 keys in PEM form; print the two files."""
    from converters.signing import PASSWORD_VARIABLE, make_keys
    from edge_ocr.errors import UsageError

    chosen = None
    if password:
        chosen = os.environ.get(PASSWORD_VARIABLE) or typer.prompt(
            "Password", hide_input=True, confirmation_prompt=True, err=True
        )
        if not chosen:
            raise UsageError("the password is empty", "without --password, NAME.key has none")
    # Not with_suffix: a name may have dots.
    private, public = (name.with_name(f"{name.name}.{kind}") for kind in ("key", "pub"))
    made = make_keys(private, public, chosen)
    sys.stderr.write(f"key {made}: keep {private} secret; who has it can sign bundles for your devices\n")
    sys.stdout.write(f"{private}\n{public}\n")
