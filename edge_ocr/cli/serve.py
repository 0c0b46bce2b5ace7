"""`edge-ocr serve`: an HTTP service that reads pictures."""

from __future__ import annotations

import re
import sys
import warnings
from typing import Annotated

import typer

from edge_ocr.cli import options


@options.takes_pipeline
def serve(
    chosen: options.PipelineOptions,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="0.0.0.0 admits other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0 takes a free port.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Processes, which share the cores.")] = 1,
    queue: Annotated[int, typer.Option(min=0, max=10_000, metavar="N", help="Waiting requests per worker.")] = 16,
    timeout: Annotated[float, typer.Option(min=0.1, max=3600, metavar="SECONDS", help="Limit for a request.")] = 60,
    max_body_mb: Annotated[int, typer.Option(min=1, max=1024, metavar="MB", help="Largest request.")] = 32,
    max_pixels: Annotated[
        int | None, typer.Option(metavar="N", help="Largest picture, width × height; default 50M.")
    ] = None,
    no_url: Annotated[bool, typer.Option("--no-url", help="Refuse URLs; read only uploaded pictures.")] = False,
    allow_private_urls: Annotated[
        bool, typer.Option("--allow-private-urls", help="Also fetch from private and loopback addresses.")
    ] = False,
    allow_ports: Annotated[
        str | None, typer.Option(metavar="PORT,PORT", help="Also fetch from these ports, not just 80 and 443.")
    ] = None,
    use_hpip: options.UseHpip = None,
) -> None:
    """Start an HTTP service that reads pictures.

    POST /ocr returns the texts of a picture and the picture with the boxes drawn: curl -F image=@photo.jpg sends one.
    It also takes JSON, {"image": URL or Base64}, and the bytes of a picture.

    GET /health, /metrics (Prometheus) and /openapi.json are for programs, / and /docs for browsers. Logs are JSON lines
    on stderr. A worker that dies is replaced. Requests beyond --queue get 503. --allow-private-urls also lifts the
    limit on ports, unless --allow-ports sets one.
    """
    from edge_ocr.cli.progress import show_download
    from edge_ocr.pipeline import PipelineSpec
    from edge_ocr.serving.settings import MAX_PIXELS, ServeSettings
    from edge_ocr.serving.worker import run_service

    # Pillow warns about odd metadata, which users cannot do anything about.
    warnings.filterwarnings("ignore", module="PIL")
    config = chosen.load()
    if max_pixels is not None:
        config = config.with_values({"Input.max_pixels": max_pixels}, "--max-pixels")
    elif config.origins["Input.max_pixels"] == "default":
        config = config.with_values({"Input.max_pixels": MAX_PIXELS}, "serve")
    limits = ServeSettings(
        max_body_bytes=max_body_mb * 2**20,
        timeout_s=timeout,
        queue=queue,
        allow_urls=not no_url,
        allow_private_urls=allow_private_urls,
        allow_ports=None if allow_ports is None else _parse_ports(allow_ports),
    )
    with show_download() as progress:
        run_service(
            PipelineSpec(config, use_hpip),
            limits,
            host=host,
            port=port,
            workers=workers,
            progress=progress,
            ready=lambda url: sys.stderr.write(f"serving on {url}\n"),
        )


def _parse_ports(text: str) -> tuple[int, ...]:
    from edge_ocr.errors import UsageError

    ports = [int(part) if re.fullmatch(r"[0-9]{1,5}", part.strip()) else 0 for part in text.split(",")]
    if not all(1 <= port <= 65535 for port in ports):
        raise UsageError(
            f"--allow-ports {text}: expected ports from 1 to 65535", "write them as in --allow-ports 8080,8443"
        )
    return tuple(ports)
