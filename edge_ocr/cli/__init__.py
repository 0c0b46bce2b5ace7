"""The command line: one thin file for each command."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from collections.abc import Sequence


def main() -> None:
    """Run the command line."""
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Print escapes, not an error, for characters that the encoding of the terminal lacks.
            sys.stdout.reconfigure(errors="backslashreplace")
        # Like Ctrl-C, these signals must leave no half-written file and no child process. nohup ignores SIGHUP.
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, frame: sys.exit(128 + number))
        # Imported here to catch Ctrl-C while the modules load.
        if is_plain(sys.argv[1:]):
            from edge_ocr.cli.reading import read_plain

            sys.exit(read_plain(sys.argv[2:]))
        from edge_ocr.cli.app import make_app

        make_app(*sys.argv[1:2])()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        # Python would look for garbage among all objects several times, a tenth of the time for one picture.
        gc.freeze()


def is_plain(arguments: Sequence[str]) -> bool:
    """Return whether the arguments are `predict` and its inputs, without any option.

    Typer and its parts take 0.15 s to load, and are not needed then. On Windows, Typer expands patterns such as *.jpg.
    """
    return (
        os.name != "nt"
        and len(arguments) > 1
        and arguments[0] == "predict"
        and not any(argument.startswith("-") for argument in arguments)
    )
