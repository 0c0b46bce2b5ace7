"""Settings of the service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Prometheus's variable for the folder that several workers share."""

MAX_PIXELS = 50_000_000
"""Default limit for a picture: two of this size take about 0.6 GB while they are processed."""


@dataclass(frozen=True)
class ServeSettings:
    """Limits of one worker. The pipeline's `Input` section limits single pictures."""

    max_body_bytes: int = 32 * 2**20
    """Limit for a request body; Base64 makes a picture a third larger."""
    timeout_s: float = 60.0
    """Limit for a whole request, from its headers to its response."""
    queue: int = 16
    """Number of requests that may wait."""
    allow_urls: bool = True
    allow_private_urls: bool = False
    """Whether URLs may lead to private, loopback, link-local and other addresses that are not public."""
    allow_ports: Sequence[int] | None = None
    """Allowed ports of URLs besides 80 and 443. None: no others; any, if private URLs are allowed."""
