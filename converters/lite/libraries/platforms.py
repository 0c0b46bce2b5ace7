"""The platforms and versions that Paddle-Lite has libraries for, and where its official archives are."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from converters.lite.libraries.elf import Arch, System
from edge_ocr.errors import UsageError

RUNTIME_VERSION = "v2.13-rc"
"""What `converters.lite.toolchain.LITE_VERSION` writes into each .nb."""

URL_VARIABLE = "EDGE_OCR_LITE_URL"
RELEASES_URL = "https://github.com/PaddlePaddle/Paddle-Lite/releases/download"

_VERSION = re.compile(r"v?(\d+\.\d+(?:\.\d+)?(?:-(?:rc|beta)\d*)?)")


@dataclass(frozen=True)
class Platform:
    """A kind of device that Paddle-Lite has libraries for."""

    name: str
    system: System
    arch: Arch
    build: str
    """The rest of the official archive's name. PP-OCR needs `with_extra`."""


PLATFORMS: Mapping[str, Platform] = MappingProxyType(
    {
        platform.name: platform
        for platform in (
            Platform("armlinux.armv8", "armlinux", "armv8", "gcc.with_extra.with_cv"),
            Platform("armlinux.armv7hf", "armlinux", "armv7hf", "gcc.with_extra.with_cv"),
            Platform("android.armv8", "android", "armv8", "clang.c++_shared.with_extra.with_cv"),
            Platform("android.armv7", "android", "armv7", "clang.c++_shared.with_extra.with_cv"),
        )
    }
)


def find_platform(name: str) -> Platform:
    """Return the platform called `name`.

    Raises UsageError for an unknown name.
    """
    if name not in PLATFORMS:
        raise UsageError(f"unknown platform {name!r}", f"choose one of {', '.join(PLATFORMS)}")
    return PLATFORMS[name]


def normalise_version(version: str) -> str:
    """Return a version in the form of Paddle-Lite's tags: `2.13-rc` becomes `v2.13-rc`.

    Raises UsageError for anything that is not a version.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        raise UsageError(f"{version!r} is not a Paddle-Lite version", f"give one like {RUNTIME_VERSION}")
    return f"v{match[1]}"


def asset_url(platform: str, version: str = RUNTIME_VERSION, *, official: bool = False) -> str:
    """Return the URL of the official archive; with `official`, the mirror in `EDGE_OCR_LITE_URL` is ignored.

    Raises UsageError for an unknown platform or version.
    """
    wanted = find_platform(platform)
    mirror = None if official else os.environ.get(URL_VARIABLE)
    base = (mirror or RELEASES_URL).rstrip("/")
    return f"{base}/{normalise_version(version)}/inference_lite_lib.{wanted.name}.{wanted.build}.tar.gz"
