"""What a bundle can be made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edge_ocr.errors import UsageError


@dataclass(frozen=True)
class Target:
    """A kind of device, and what opt must be told about it."""

    name: str
    valid_places: str
    """Paddle-Lite's word for the kernels that opt may choose from."""
    summary: str


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        target.name: target
        for target in (Target("arm", valid_places="arm", summary="ARM boards with Linux, armv8 and armv7hf"),)
    }
)


def find_target(name: str) -> Target:
    """Return the target called `name`.

    Raises UsageError, listing what there is, for any other name.
    """
    if name not in TARGETS:
        known = "; ".join(f"{target.name} ({target.summary})" for target in TARGETS.values())
        raise UsageError(f"unknown target {name!r}", f"targets: {known}")
    return TARGETS[name]
