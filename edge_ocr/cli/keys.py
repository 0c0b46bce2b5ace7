"""`edge-ocr keys`: make the keys that sign bundles."""

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
    name: Annotated[Path, typer.Argument(metavar="NAME", help="Makes NAME.key and NAME.pub.")],
    password: Annotated[
        bool,
        typer.Option("--password", help="Protect NAME.key with a password."),
    ] = False,
) -> None:
    """Make an Ed25519 key pair and print the names of its two files.

    Keep NAME.key secret and give NAME.pub to the devices; both are in PEM form. The password is asked for, or taken
    from EDGE_OCR_KEY_PASSWORD.
    """
    from converters.signing import PASSWORD_VARIABLE, make_keys
    from edge_ocr.errors import UsageError

    chosen = None
    if password:
        chosen = os.environ.get(PASSWORD_VARIABLE) or typer.prompt(
            "Password", hide_input=True, confirmation_prompt=True, err=True
        )
        if not chosen:
            raise UsageError("the password is empty", "type one, or leave --password out")
    # Not with_suffix, as a name may have dots.
    private, public = (name.with_name(f"{name.name}.{kind}") for kind in ("key", "pub"))
    made = make_keys(private, public, chosen)
    sys.stderr.write(f"key {made}: keep {private} secret: anyone who has it can sign bundles for your devices\n")
    sys.stdout.write(f"{private}\n{public}\n")
