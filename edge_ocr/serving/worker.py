"""Runs the service in this process, or in several workers that a parent keeps alive."""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from edge_ocr.errors import EdgeOcrError, UsageError
from edge_ocr.pipeline import PipelineSpec
from edge_ocr.processes import end_with_parent, is_alive
from edge_ocr.serving.connections import TimedProtocol
from edge_ocr.serving.settings import METRICS_VARIABLE, ServeSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from edge_ocr.models.types import Progress

logger = logging.getLogger("edge_ocr.serving")

WORKER_VARIABLE = "EDGE_OCR_WORKER"
"""Variable with the workers' pipeline and settings, as JSON."""

MAX_FAILED_STARTS = 3
"""Number of successive workers that may end before they are ready until the service gives up."""

# File in the parent's folder that says why it was ended.
_GIVEN_UP = "given_up"

SILENT_S = 30
"""How long a worker may be silent until it is replaced, which loses its requests. uvicorn's default of 5 s is too short
on a busy machine."""

UNREAD_MS = 60_000
"""How long a client may leave a response unread."""

# Our log line for each request replaces uvicorn's access log.
_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "edge_ocr.serving.frame.JsonFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "loggers": {
        name: {"handlers": ["stderr"], "level": "INFO", "propagate": False} for name in ("uvicorn", "edge_ocr")
    },
}


def run_service(
    spec: PipelineSpec,
    settings: ServeSettings,
    *,
    host: str,
    port: int,
    workers: int = 1,
    progress: Progress | None = None,
    ready: Callable[[str], object] = lambda url: None,
) -> None:
    """Serve until SIGINT or SIGTERM; requests in progress are answered first.

    Several workers are processes that share the port; one that dies is replaced. They share the cores unless `spec`
    sets the number of threads. `ready` receives the address once the models are loaded.

    Raises UsageError if it cannot listen on the port, and what `OcrPipeline` raises, here or in each worker.
    """
    spec = spec.share_cores(workers, "--workers")
    with _listen(host, port) as listener, tempfile.TemporaryDirectory(prefix="edge-ocr-") as scratch:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}/"
        if workers == 1:
            pipeline = spec.build(progress)
            ready(address)
            # A single process keeps its metrics in memory, whatever the environment says.
            os.environ.pop(METRICS_VARIABLE, None)
            from edge_ocr.serving.app import create_app

            uvicorn.run(create_app(pipeline, settings), **_list_options(listener, settings))
            return
        # Also in the parent, so that a faulty model is reported once.
        spec.build(progress)
        ready(address)
        os.environ[WORKER_VARIABLE] = json.dumps({"spec": spec.to_json(), "settings": asdict(settings)})
        os.environ[METRICS_VARIABLE] = scratch
        app = "edge_ocr.serving.worker:create_worker"
        uvicorn.run(app, factory=True, workers=workers, **_list_options(listener, settings))
        if (Path(scratch) / _GIVEN_UP).exists():
            # Reports a fault as at the start; faults of workers only, such as a lack of memory, are in the log.
            spec.build(progress)
            raise EdgeOcrError(
                f"{MAX_FAILED_STARTS} workers in a row ended before they were ready",
                "see the log for the reason; use fewer --workers if memory is short",
            )


def create_worker() -> FastAPI:
    """Return the application of one of several workers, configured by WORKER_VARIABLE.

    Ends the process on failure, and after MAX_FAILED_STARTS failures in a row also the parent: uvicorn would start new
    workers for ever.
    """
    from edge_ocr.serving.app import create_app

    # Otherwise an orphaned worker keeps the port.
    end_with_parent()
    folder = Path(os.environ[METRICS_VARIABLE])
    failed = [file for file in folder.glob("*.starting") if not is_alive(int(file.stem))]
    if len(failed) >= MAX_FAILED_STARTS:
        (folder / _GIVEN_UP).touch()
        parent = multiprocessing.parent_process()
        if parent is not None and parent.pid is not None:
            os.kill(parent.pid, signal.SIGTERM)
        raise SystemExit(1)
    starting = folder / f"{os.getpid()}.starting"
    starting.touch()
    content = json.loads(os.environ[WORKER_VARIABLE])
    try:
        pipeline = PipelineSpec.from_json(content["spec"]).build()
    except EdgeOcrError as error:
        logger.error("worker cannot start", extra={"facts": {"reason": error.message}})
        raise SystemExit(1) from None
    except Exception:
        logger.exception("worker cannot start")
        raise SystemExit(1) from None
    app = create_app(pipeline, ServeSettings(**content["settings"]))
    for file in (*failed, starting):
        file.unlink(missing_ok=True)
    return app


def _listen(host: str, port: int) -> socket.socket:
    if not host:
        # For instance from an unset shell variable; sockets would listen on every address.
        raise UsageError("--host is empty", "give an address; 0.0.0.0 listens on every address")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"cannot listen on {host}, port {port}: {getattr(error, 'strerror', None) or error}",
            "give another --port, or another address of this machine with --host",
        ) from None
    # Connections inherit it. asyncio does not set it, because uvicorn hides that the socket is TCP. Without it, the
    # second part of each response waits 40 ms for the acknowledgement of the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Otherwise a client that never reads its response keeps the connection for ever.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
    return listener


def _list_options(listener: socket.socket, settings: ServeSettings) -> dict[str, Any]:
    """Return the options for uvicorn."""
    return {
        "fd": listener.fileno(),
        "http": TimedProtocol,
        "log_config": _LOGGING,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": math.ceil(settings.timeout_s),
        "timeout_worker_healthcheck": SILENT_S,
    }
