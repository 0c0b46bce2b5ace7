"""`edge-ocr libs`: list, add and download Paddle-Lite's runtime libraries."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from edge_ocr.cli import options
from edge_ocr.cli.help import App
from edge_ocr.cli.output import paint, print_json, print_line, print_rows, report

if TYPE_CHECKING:
    from converters.lite.libraries.library import RuntimeLibrary

app = App()


class _Row(TypedDict):
    version: str
    platform: str
    library: str | None
    size_bytes: int | None
    soname: str | None
    fits_16k_pages: bool | None
    actual_version: str | None
    source: str
    concerns: list[str]


_Version = Annotated[
    str | None, typer.Option("--version", metavar="VERSION", help="Paddle-Lite version; default 2.13-rc.")
]


@app.command("list")
def list_libraries(
    as_json: options.Json = False,
) -> None:
    """List the libraries on this machine.

    Prints a table on a terminal, else tab-separated lines. Uses no network.
    """
    rows = _collect_rows()
    if as_json:
        print_json(rows)
    else:
        print_rows(_COLUMNS, list(map(_format, rows)))


@app.command("add")
def add_library(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="Paddle-Lite archive, its folder, or a .so."),
    ],
    platform: Annotated[
        str | None, typer.Option(metavar="PLATFORM", help="Refuse libraries for other platforms.")
    ] = None,
    version: _Version = None,
    include: Annotated[Path | None, typer.Option("--include", metavar="DIR", help="Headers of a .so.")] = None,
    allow_version_mismatch: Annotated[
        bool,
        typer.Option("--allow-version-mismatch", help="Accept a library that may return wrong text."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a stored library.")] = False,
) -> None:
    """Check a library and add it to the store.

    Prints platform and folder, tab-separated. The store is in EDGE_OCR_HOME, by default the user's cache folder.
    """
    from converters.lite.libraries import store
    from converters.lite.libraries.platforms import RUNTIME_VERSION

    library = store.add_library(
        path,
        platform=platform,
        version=version or RUNTIME_VERSION,
        include_dir=include,
        allow_version_mismatch=allow_version_mismatch,
        force=force,
    )
    _warn(library)
    print_line(f"{library.platform}\t{library.folder}")


@app.command("fetch")
def fetch_libraries(
    platforms: Annotated[
        list[str] | None,
        typer.Option("--platform", metavar="PLATFORM", help="Platform, repeatable; all by default."),
    ] = None,
    version: _Version = None,
    force: Annotated[bool, typer.Option("--force", help="Download stored libraries again.")] = False,
) -> None:
    """Download official libraries into the store.

    Platforms: armlinux.armv8, armlinux.armv7hf, android.armv8, android.armv7. Prints platform and folder of each,
    tab-separated, and stops at the first that cannot be downloaded. EDGE_OCR_LITE_URL names a mirror of the releases.
    """
    from converters.lite.libraries.platforms import PLATFORMS, RUNTIME_VERSION, asset_url
    from converters.lite.libraries.store import fetch_library
    from edge_ocr.cli.progress import show_download

    wanted = list(dict.fromkeys(platforms or PLATFORMS))
    version = version or RUNTIME_VERSION
    # Refuse unknown names before downloading anything.
    urls = {platform: asset_url(platform, version) for platform in wanted}
    for platform, url in urls.items():
        report(f"{platform}: {url}")
        with show_download() as progress:
            library = fetch_library(platform, version=version, force=force, progress=progress)
        _warn(library)
        print_line(f"{platform}\t{library.folder}")


@app.command("path")
def print_path(
    platform: Annotated[str, typer.Argument(metavar="PLATFORM", help="Platform, such as armlinux.armv8.")],
    version: _Version = None,
) -> None:
    """Print the folder of a library.

    Downloads nothing. EDGE_OCR_LITE_LIB names a library file that is used instead of the store for its platform.
    """
    from converters.lite.libraries.platforms import RUNTIME_VERSION, normalise_version
    from converters.lite.libraries.store import find_library
    from edge_ocr.errors import ModelError

    wanted = normalise_version(version or RUNTIME_VERSION)
    library = find_library(platform, wanted)
    if library is None:
        raise ModelError(
            f"the library for {platform} {wanted} is not on this machine",
            f"run edge-ocr libs fetch --platform {platform} --version {wanted}",
        )
    _warn(library)
    print_line(str(library.folder))


_COLUMNS = ["version", "platform", "library", "size MB", "SONAME", "16 KB pages", "source"]


def _warn(library: RuntimeLibrary) -> None:
    for concern in library.concerns:
        text = f"Warning: {concern}"
        report(text if library.version_matches else paint(text, sys.stderr, fg="red", bold=True))


def _collect_rows() -> list[_Row]:
    from converters.lite.libraries.store import list_stored, open_stored
    from edge_ocr.errors import ModelError

    rows: list[_Row] = []
    for version, platform in list_stored():
        try:
            library = open_stored(platform, version)
            if library is not None:
                rows.append(_describe(version, platform, library))
        except ModelError as error:
            # A damaged library must not hide the others.
            rows.append(_describe(version, platform, None, error.message))
    return rows


def _describe(version: str, platform: str, library: RuntimeLibrary | None, *damage: str) -> _Row:
    info = library.info if library else None
    return {
        "version": version,
        "platform": platform,
        "library": library.library.name if library else None,
        "size_bytes": info.size_bytes if info else None,
        "soname": info.soname if info else None,
        "fits_16k_pages": info.fits_16k_pages if info else None,
        "actual_version": library.actual_version if library else None,
        "source": library.source if library else "damaged",
        "concerns": list(library.concerns if library else damage),
    }


def _format(row: _Row) -> list[str]:
    version = row["version"]
    if row["library"] is not None and row["actual_version"] != version:
        version += f" (is {row['actual_version'] or 'unknown'})"
    size = "-" if row["size_bytes"] is None else f"{row['size_bytes'] / 1e6:.1f}"
    pages = {True: "yes", False: "no", None: "-"}[row["fits_16k_pages"]]
    return [version, row["platform"], row["library"] or "-", size, row["soname"] or "-", pages, row["source"]]
