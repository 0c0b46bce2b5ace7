"""Runs the service: in this process, or in several that a parent keeps alive."""

from __future__ import annotations

import json
import math
import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import uvicorn

from edge_ocr.config import PipelineConfig, load_config
from edge_ocr.core.engines.base import count_cores
from edge_ocr.errors import UsageError
from edge_ocr.pipeline import OcrPipeline, check_models
from edge_ocr.processes import end_with_parent
from edge_ocr.serving.settings import METRICS_VARIABLE, ServeSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from edge_ocr.models import Progress

WORKER_VARIABLE = "EDGE_OCR_WORKER"
"""How the parent tells its workers what to serve; JSON."""

# uvicorn's own tells access in lines of its own; ours has more to say.
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
    config: PipelineConfig,
    settings: ServeSettings,
    *,
    host: str,
    port: int,
    workers: int = 1,
    use_hpip: bool | None = None,
    progress: Progress | None = None,
    ready: Callable[[str], object] = lambda url: None,
) -> None:
    """Serve until SIGINT or SIGTERM; requests that are under way are answered first.

    Several workers are processes that share the port; one that dies is replaced. Where `config` leaves the number of
    threads open, they share the cores. `ready` is told the address once the models are loaded.

    Raises UsageError where the port cannot be had, and what `OcrPipeline` raises.
    """
    if config.threads is None and workers > 1:
        config = config.with_values({"Runtime.threads": max(1, count_cores() // workers)}, "serve")
    with _listen(host, port) as listener, tempfile.TemporaryDirectory(prefix="edge-ocr-") as scratch:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}/"
        if workers == 1:
            pipeline = OcrPipeline(config, use_hpip, progress)
            ready(address)
            # One process counts in its memory, whatever others left in the environment.
            os.environ.pop(METRICS_VARIABLE, None)
            from edge_ocr.serving.app import create_app

            _run(create_app(pipeline, settings), listener, settings)
            return
        # Here, too: what is wrong with the models is told once.
        check_models(config, use_hpip, progress)
        ready(address)
        content = {"values": dict(config.values), "settings": asdict(settings), "use_hpip": use_hpip}
        os.environ[WORKER_VARIABLE] = json.dumps(content)
        os.environ[METRICS_VARIABLE] = scratch
        _run("edge_ocr.serving.worker:create_worker", listener, settings, factory=True, workers=workers)


def create_worker() -> FastAPI:
    """Return the application of one of several workers, as the parent says."""
    from edge_ocr.serving.app import create_app

    # Or the port would stay taken.
    end_with_parent()
    content = json.loads(os.environ[WORKER_VARIABLE])
    config = load_config("OCR", content["values"])
    return create_app(OcrPipeline(config, content["use_hpip"]), ServeSettings(**content["settings"]))


def _listen(host: str, port: int) -> socket.socket:
    if not host:
        # Such as an unset shell variable; to sockets it would mean every address.
        raise UsageError("--host is empty", "0.0.0.0 listens on every address")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"cannot listen on {host}, port {port}: {getattr(error, 'strerror', None) or error}",
            "--port names another, --host another address of this machine",
        ) from None
    # Connections inherit it. asyncio sets it where it knows that a socket is TCP, which uvicorn hides from it; without,
    # the second part of each answer waits 40 ms for the client's acknowledgement of the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _run(app: Any, listener: socket.socket, settings: ServeSettings, **options: Any) -> None:
    uvicorn.run(
        app,
        fd=listener.fileno(),
        log_config=_LOGGING,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.timeout_s),
        **options,
    )
