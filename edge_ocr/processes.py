"""Processes that work for another, and end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def end_with_parent() -> None:
    """Let this process get a SIGTERM when the one that started it by multiprocessing has ended.

    One that is killed has no time to tell its children, and they would wait for work, with their models loaded, for
    ever. Nothing happens in a process that was started otherwise.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def is_alive(process: int) -> bool:
    """Whether there is a process of this id, were it another user's."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
