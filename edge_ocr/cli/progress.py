"""Progress of downloads, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_ocr.models.types import Progress


@contextmanager
def show_download() -> Iterator[Progress]:
    """Give a callback (done bytes, total bytes or None) that draws a bar where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done_bytes, total_bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("Fetching"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task("", total=None)

    def show(done_bytes: int, total_bytes: int | None) -> None:
        # Drawn only once something is really fetched.
        bar.start()
        bar.update(task, completed=done_bytes, total=total_bytes)

    try:
        yield show
    finally:
        bar.stop()
