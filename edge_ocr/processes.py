"""Child processes that end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def end_with_parent() -> None:
    """Send this process a SIGTERM when its multiprocessing parent has ended.

    A killed parent cannot tell its children, which would wait for work for ever with their models loaded. Does nothing
    in a process that multiprocessing did not start.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def is_alive(process: int) -> bool:
    """Return whether a process with this id exists, also if it is another user's."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
