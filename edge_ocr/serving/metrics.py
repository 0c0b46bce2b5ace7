"""What the service counts, for Prometheus."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from edge_ocr.processes import is_alive
from edge_ocr.serving.settings import METRICS_VARIABLE

REQUESTS = Counter("edge_ocr_requests", "Answered requests.", ["path", "status"])
REQUEST_SECONDS = Histogram(
    "edge_ocr_request_seconds",
    "From a request to its answer.",
    ["path"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
STAGE_SECONDS = Histogram(
    "edge_ocr_stage_seconds",
    "Time of one stage of a reading.",
    ["stage"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
LINES = Counter("edge_ocr_lines", "Lines that were read.")
BODY_BYTES = Gauge("edge_ocr_body_bytes", "Of requests, in memory.", multiprocess_mode="livesum")
WAITING = Gauge("edge_ocr_pictures_in_work", "Pictures that wait or are worked on.", multiprocess_mode="livesum")


def collect() -> bytes:
    """Return all figures, those of every worker together, as text."""
    folder = os.environ.get(METRICS_VARIABLE)
    if folder is None:
        return generate_latest()
    for file in Path(folder).glob("gauge_live*_*.db"):
        worker = int(file.stem.rpartition("_")[2])
        if not is_alive(worker):
            # Another worker may be at it.
            with suppress(FileNotFoundError):
                mark_process_dead(worker, folder)  # type: ignore[no-untyped-call]  # theirs
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]  # theirs
    return generate_latest(registry)
