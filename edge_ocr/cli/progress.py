"""Progress of downloads and of reading, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn

    from edge_ocr.models.types import Progress


@contextmanager
def show_download() -> Iterator[Progress]:
    """Yield a callback (done bytes, total bytes or None) that draws a bar if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done_bytes, total_bytes: None
        return
    from rich.progress import DownloadColumn, TransferSpeedColumn

    bar = _make_bar("Downloading", DownloadColumn(), TransferSpeedColumn())
    task = bar.add_task("", total=None)

    def show(done_bytes: int, total_bytes: int | None) -> None:
        # Draw nothing until something is downloaded.
        bar.start()
        bar.update(task, completed=done_bytes, total=total_bytes)

    try:
        yield show
    finally:
        bar.stop()


class ReadingBar:
    """A progress bar on stderr if it is a terminal and there are several pictures."""

    def __init__(self, total: int | None) -> None:
        self._bar: Bar | None = None
        self._task: Any = None
        if total in (0, 1) or not sys.stderr.isatty():
            return
        from rich.progress import MofNCompleteColumn, TextColumn

        self._bar = _make_bar("Reading", MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
        self._task = self._bar.add_task("", total=total, rate="")

    def __enter__(self) -> ReadingBar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self) -> None:
        if self._bar is not None:
            self._bar.advance(self._task)
            speed = self._bar.tasks[0].speed
            self._bar.update(self._task, rate=f"{speed:.1f} pictures/s" if speed else "")

    @contextmanager
    def hide(self) -> Iterator[None]:
        """Hide the bar while results are printed on the same terminal."""
        if self._bar is None or not sys.stdout.isatty():
            yield
            return
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()


def _make_bar(title: str, *columns: ProgressColumn) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    shown = (TextColumn(title), BarColumn(), *columns, TimeRemainingColumn())
    return Progress(*shown, console=Console(stderr=True), transient=True)
