"""Chooses the Paddle-Lite libraries of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from converters.lite.libraries.store import RuntimeLibrary, add_library, find_library
from converters.text import Report
from edge_ocr.errors import ModelError

if TYPE_CHECKING:
    from converters.bundle.targets import Target
    from converters.plan import ExportOptions


def choose_libraries(
    target: Target, abis: Sequence[str], version: str, options: ExportOptions, report: Report
) -> dict[str, RuntimeLibrary | None]:
    """Return the Paddle-Lite library for each ABI from the store on this machine; None if it has none.

    Adds `options.lite_lib`, if given, to the store first.

    Raises ModelError if a library is damaged or its version does not match.
    """
    if options.lite_lib is not None:
        added = add_library(
            options.lite_lib,
            among=[target.platforms[abi] for abi in abis],
            version=version,
            allow_version_mismatch=options.allow_version_mismatch,
            force=True,
        )
        report(f"library for {added.platform}: {options.lite_lib}, added to the store")
    libraries = {abi: find_library(target.platforms[abi], version) for abi in abis}
    for abi, library in libraries.items():
        fetch = f"edge-ocr libs fetch --platform {target.platforms[abi]} --version {version}"
        if library is None:
            report(f"no Paddle-Lite {version} library for {abi}: {fetch}")
            continue
        if not library.version_matches and not options.allow_version_mismatch:
            raise ModelError(
                f"the library for {abi} is {library.actual_version or 'of unknown version'}, expected {version}: "
                "a mismatched runtime may silently return wrong text",
                f"run {fetch} --force, or accept this library with --allow-version-mismatch",
            )
        for concern in library.concerns:
            report(f"WARNING: {abi}: {concern}")
        if target.name == "android" and library.jni_library is None:
            libraries[abi] = None
    return libraries
