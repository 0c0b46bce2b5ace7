"""Turns errors into exit codes: those of a whole command, and those of inputs that it could not read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer

from edge_ocr.cli.help import Group
from edge_ocr.core.commands import map_errors, report_error
from edge_ocr.errors import EdgeOcrError


class ErrorMappingGroup(Group):
    """Runs a subcommand and ends with the exit code of its error."""

    def invoke(self, ctx: Any) -> Any:
        result = None

        def run() -> int:
            nonlocal result
            result = super(ErrorMappingGroup, self).invoke(ctx)
            return 0

        exit_code = map_errors(run, with_traceback=ctx.params.get("debug", False))
        if exit_code:
            raise typer.Exit(exit_code)
        return result


def exit_for_failures(failures: Sequence[EdgeOcrError], *, counted: bool) -> None:
    """Report every failure and exit with the code of the first; return if there is none.

    `counted` also prints how many there were.
    """
    for error in failures:
        report_error(error)
    if failures:
        if counted:
            sys.stderr.write(f"{len(failures)} not read or not saved.\n")
        raise typer.Exit(failures[0].exit_code)
