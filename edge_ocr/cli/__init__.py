"""The command line: one thin file for each command."""

from __future__ import annotations

import io
import signal
import sys


def main() -> None:
    """Run the command line."""
    try:
        # Imported here to catch Ctrl-C while the modules load.
        from edge_ocr.cli.app import app

        if isinstance(sys.stdout, io.TextIOWrapper):
            # Print escapes, not an error, for characters that the encoding of the terminal lacks.
            sys.stdout.reconfigure(errors="backslashreplace")
        # Like Ctrl-C, these signals must leave no half-written file and no child process. nohup ignores SIGHUP.
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, frame: sys.exit(128 + number))
        app()
    except KeyboardInterrupt:
        sys.exit(130)
