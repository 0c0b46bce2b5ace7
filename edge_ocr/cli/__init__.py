"""The command line: one thin file a command."""

from __future__ import annotations

import io
import signal
import sys


def main() -> None:
    """Run the command line."""
    try:
        # Imported here: a Ctrl-C while the modules load is one, too.
        from edge_ocr.cli.app import app

        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal of another encoding gets escapes, not an error, for what it cannot show.
            sys.stdout.reconfigure(errors="backslashreplace")
        # As Ctrl-C does, they must leave nothing half-written and no process of ours behind. Behind nohup, a terminal
        # that closes is ignored.
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, frame: sys.exit(128 + number))
        app()
    except KeyboardInterrupt:
        sys.exit(130)
