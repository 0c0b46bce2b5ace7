"""The service's Prometheus metrics."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from edge_ocr.processes import is_alive
from edge_ocr.serving.settings import METRICS_VARIABLE

REQUESTS = Counter("edge_ocr_requests", "Requests answered.", ["path", "status"])
REQUEST_SECONDS = Histogram(
    "edge_ocr_request_seconds",
    "Time from a request to its response.",
    ["path"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
STAGE_SECONDS = Histogram(
    "edge_ocr_stage_seconds",
    "Time of one stage of reading a picture.",
    ["stage"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
LINES = Counter("edge_ocr_lines", "Text lines read.")
BODY_BYTES = Gauge(
    "edge_ocr_body_bytes", "Bytes of request bodies and downloaded files in memory.", multiprocess_mode="livesum"
)
WAITING = Gauge("edge_ocr_pictures_in_work", "Pictures waiting or being processed.", multiprocess_mode="livesum")


def collect() -> bytes:
    """Return the metrics of all workers together as text."""
    folder = os.environ.get(METRICS_VARIABLE)
    if folder is None:
        return generate_latest()
    for file in Path(folder).glob("gauge_live*_*.db"):
        worker = int(file.stem.rpartition("_")[2])
        if not is_alive(worker):
            # Another worker may do the same.
            with suppress(FileNotFoundError):
                mark_process_dead(worker, folder)  # type: ignore[no-untyped-call]  # prometheus_client's
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]  # prometheus_client's
    return generate_latest(registry)
