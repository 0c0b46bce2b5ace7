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
        # As Ctrl-C does, it must leave nothing half-written behind.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        app()
    except KeyboardInterrupt:
        sys.exit(130)
