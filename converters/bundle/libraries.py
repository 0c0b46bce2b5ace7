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
    """Return the Paddle-Lite library of this machine's store for each ABI; None if there is none for it.

    The one that is given (`options.lite_lib`) is put into the store first.

    Raises ModelError if a library is damaged or of another version.
    """
    if options.lite_lib is not None:
        added = add_library(
            options.lite_lib,
            among=[target.platforms[abi] for abi in abis],
            version=version,
            allow_version_mismatch=options.allow_version_mismatch,
            force=True,
        )
        report(f"library for {added.platform}: {options.lite_lib}, now in the store")
    libraries = {abi: find_library(target.platforms[abi], version) for abi in abis}
    for abi, library in libraries.items():
        fetch = f"edge-ocr libs fetch --platform {target.platforms[abi]} --version {version}"
        if library is None:
            report(f"no Paddle-Lite {version} library for {abi}: {fetch}")
            continue
        if not library.version_matches and not options.allow_version_mismatch:
            raise ModelError(
                f"the library for {abi} is {library.actual_version or 'of unknown version'}, the bundle {version}: "
                "a runtime of another version reads models wrong without saying so",
                f"{fetch} --force gets the right one; --allow-version-mismatch takes this one all the same",
            )
        for concern in library.concerns:
            report(f"WARNING: {abi}: {concern}")
        if target.name == "android" and library.jni_library is None:
            libraries[abi] = None
    return libraries
