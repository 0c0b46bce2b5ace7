"""The `edge-ocr` command: its subcommands, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from edge_ocr import __version__
from edge_ocr.cli import config, deploy, doctor, export, inspect, keys, libs, models, predict, serve, verify
from edge_ocr.core.commands import report_error
from edge_ocr.errors import EdgeOcrError, UsageError

INTERRUPTED = 130


class _ErrorMappingGroup(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            # A pipe that was closed early shows itself here, not after everything.
            sys.stdout.flush()
            return result
        except EdgeOcrError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            report_error(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as interrupt:
            # A command may say what was done until then.
            told = f": {interrupt}" if interrupt.args else ""
            sys.stderr.write(f"\nInterrupted{told}.\n")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader (`head`, a pager) has gone; stdout must not complain again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except OSError as error:
            # What commands do not foresee: a full disk behind stdout, a path that no file system takes.
            if ctx.params.get("debug"):
                traceback.print_exc()
            what = f": {error.filename}" if error.filename else ""
            report_error(UsageError(f"{error.strerror or error}{what}"))
            # stdout must not complain again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(UsageError.exit_code) from None


app = typer.Typer(
    name="edge-ocr",
    cls=_ErrorMappingGroup,
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
