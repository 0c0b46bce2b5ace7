"""Help pages: one line for each command and option, in colour on a terminal.

Typer's coloured help loads Rich and a Markdown parser first, which nearly doubles the time until help is on screen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from edge_ocr.cli.output import paint

# Typer's own text does not fit on one line.
_SHORTER = {"show_completion": "Print completion for the current shell, to copy it."}

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Page:
    """Writes the help of a command or group; a panel for each `rich_help_panel`, all columns aligned."""

    def format_usage(self: Any, ctx: Any, formatter: Any) -> None:
        names = [_name_argument(param) for param in self.get_params(ctx) if param.param_type_name == "argument"]
        pieces = [self.options_metavar, *names, *(["COMMAND"] if isinstance(self, TyperGroup) else [])]
        formatter.write_usage(ctx.command_path, " ".join(pieces), prefix=paint("Usage:", bold=True) + " ")

    def format_options(self: Any, ctx: Any, formatter: Any) -> None:
        for items in (_list_commands(self, ctx), _list_params(self, ctx)):
            panels: dict[str, list[tuple[str, str]]] = {}
            for panel, name, text in items:
                panels.setdefault(panel, []).append((name, text))
            width = max((len(name) for rows in panels.values() for name, _ in rows), default=0)
            for panel, rows in panels.items():
                with formatter.section(paint(panel, bold=True)):
                    formatter.write_dl([(paint(name.ljust(width), fg="cyan"), text) for name, text in rows])


class Command(_Page, TyperCommand):
    """A command with such a help page."""


class Group(_Page, TyperGroup):
    """A group of commands with such a help page."""


class App(typer.Typer):
    """A Typer whose commands have such help pages."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"cls": Group, "no_args_is_help": True, "rich_markup_mode": None, **settings})

    def command(self, name: str | None = None, **settings: Any) -> Callable[[_Function], _Function]:
        """Register a command, as Typer does."""
        return super().command(name, **{"cls": Command, **settings})


def _list_commands(group: Any, ctx: Any) -> Iterator[tuple[str, str, str]]:
    for name in group.list_commands(ctx) if isinstance(group, TyperGroup) else ():
        command: Any = group.get_command(ctx, name)
        summary = (command.help or "").partition("\n\n")[0]
        yield command.rich_help_panel or "Commands", name, " ".join(summary.split())


def _list_params(command: Any, ctx: Any) -> Iterator[tuple[str, str, str]]:
    for param in command.get_params(ctx):
        if param.hidden:
            continue
        text = _SHORTER.get(param.name, param.help or "")
        if param.param_type_name == "argument":
            yield "Arguments", _name_argument(param), text
            continue
        if param.required:
            text += " [required]"
        elif param.show_default and param.default not in (None, False):
            # A flag, a member of an enumeration, or a plain value.
            default = "on" if param.default is True else getattr(param.default, "value", param.default)
            text += f" [default: {default}]"
        yield param.rich_help_panel or "Options", _name_option(param), text


def _name_argument(param: Any) -> str:
    name = param.metavar or param.name.upper()
    return (name if param.required else f"[{name}]") + ("" if param.nargs == 1 else "...")


def _name_option(param: Any) -> str:
    # Short names first.
    names = ", ".join(sorted(param.opts, key=len))
    if param.secondary_opts:
        yes, no = param.opts[-1], param.secondary_opts[-1]
        return f"--[no-]{yes[2:]}" if no == f"--no-{yes[2:]}" else f"{yes}/{no}"
    return names if param.is_flag else f"{names} {param.metavar or param.name.upper()}"
