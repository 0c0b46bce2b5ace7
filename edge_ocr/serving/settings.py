"""What whoever runs the service decides about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Prometheus's own: the folder in which several workers count together."""

MAX_PIXELS = 50_000_000
"""Of a picture, unless the user says otherwise: two of them take some 0.6 GB while they are worked on."""


@dataclass(frozen=True)
class ServeSettings:
    """Limits of one worker. Those of a single picture are in the pipeline's `Input` section."""

    max_body_bytes: int = 32 * 2**20
    """Of a request; Base64 makes a picture a third larger."""
    timeout_s: float = 60.0
    """From the whole request to its answer."""
    queue: int = 16
    """Requests that may wait while one is worked on."""
    allow_urls: bool = True
    allow_private_urls: bool = False
    """Whether URLs may lead to private, loopback, link-local and other addresses that are not public."""
    allow_ports: Sequence[int] | None = None
    """Ports of URLs beside 80 and 443. None: no others, or any where private URLs are allowed."""
