"""Turns the error of a command into its exit code."""

from __future__ import annotations

from typing import Any

import typer

from edge_ocr.cli.help import Group
from edge_ocr.core.commands import map_errors


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
