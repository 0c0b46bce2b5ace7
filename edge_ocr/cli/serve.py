"""`edge-ocr serve`: read pictures that come over HTTP."""

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
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8080,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Processes, which share the cores; one that dies is replaced.")
    ] = 1,
    queue: Annotated[
        int, typer.Option(min=0, max=10_000, help="Requests of a worker that may wait; more get 503.")
    ] = 16,
    timeout: Annotated[float, typer.Option(min=0.1, max=3600, metavar="SECONDS", help="For a whole request.")] = 60,
    max_body_mb: Annotated[int, typer.Option(min=1, max=1024, help="Largest request.")] = 32,
    max_pixels: Annotated[
        int | None, typer.Option(metavar="N", help="Largest picture, width × height; 50 million by default.")
    ] = None,
    no_url: Annotated[bool, typer.Option("--no-url", help="Fetch no URLs; read only pictures that are sent.")] = False,
    allow_private_urls: Annotated[
        bool,
        typer.Option(
            "--allow-private-urls",
            help="Also fetch from private and loopback addresses and, without --allow-ports, any port.",
        ),
    ] = False,
    allow_ports: Annotated[
        str | None,
        typer.Option(metavar="PORT,PORT", help="Fetch from these ports, too; 80 and 443 are always allowed."),
    ] = None,
    use_hpip: options.UseHpip = None,
) -> None:
    """Serve POST /ocr: a picture gives its texts, and itself with the boxes drawn.

    curl -F image=@photo.jpg sends one; JSON, {"image": URL or Base64}, and the bytes of a picture are read, too.

    Also GET /health, /metrics (Prometheus), /openapi.json; for browsers, / and /docs. Logs are JSON lines on stderr.
    """
    from edge_ocr.cli.progress import show_download
    from edge_ocr.pipeline import PipelineSpec
    from edge_ocr.serving.settings import MAX_PIXELS, ServeSettings
    from edge_ocr.serving.worker import run_service

    # Pillow warns of odd metadata; a user cannot do anything about it.
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
        raise UsageError(f"--allow-ports {text}: expected ports from 1 to 65535", "such as --allow-ports 8080,8443")
    return tuple(ports)
