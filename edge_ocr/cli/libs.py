"""`edge-ocr libs`: Paddle-Lite's runtime libraries on this machine, and how to get them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from edge_ocr.cli.help import App
from edge_ocr.cli.output import paint, print_json, print_line, print_rows, report

if TYPE_CHECKING:
    from converters.lite.libraries.store import RuntimeLibrary

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
    str | None, typer.Option("--version", metavar="VERSION", help="Paddle-Lite version; opt's by default.")
]


@app.command("list")
def list_libraries(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the libraries on this machine: a table on a terminal, tab-separated lines in a pipe. Uses no network."""
    rows = _collect_rows()
    if as_json:
        print_json(rows)
    else:
        print_rows(_COLUMNS, list(map(_format, rows)))


@app.command("add")
def add_library(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="Archive of Paddle-Lite's releases, its unpacked folder, or a .so."),
    ],
    platform: Annotated[
        str | None, typer.Option(metavar="PLATFORM", help="Expected platform; the library tells it by default.")
    ] = None,
    version: _Version = None,
    include: Annotated[
        Path | None, typer.Option("--include", metavar="DIR", help="Headers that belong to a .so.")
    ] = None,
    allow_version_mismatch: Annotated[
        bool,
        typer.Option(
            "--allow-version-mismatch",
            help="Take a library of another version, which may read models wrong without saying so.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the one that is there.")] = False,
) -> None:
    """Check a library and put it into the store; print platform and folder, tab-separated.

    The store is EDGE_OCR_HOME or else the user's cache folder.
    """
    from converters.lite.libraries import store as runtime_libs

    library = runtime_libs.add_library(
        path,
        platform=platform,
        version=version or runtime_libs.RUNTIME_VERSION,
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
        typer.Option("--platform", metavar="PLATFORM", help="May be repeated; every platform by default."),
    ] = None,
    version: _Version = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch anew what is there already.")] = False,
) -> None:
    """Download official libraries into the store; print platform and folder of each, tab-separated.

    Stops at the first that cannot be fetched. EDGE_OCR_LITE_URL names a mirror of the releases.
    """
    from converters.lite.libraries import store as runtime_libs
    from edge_ocr.cli.progress import show_download

    wanted = list(dict.fromkeys(platforms or runtime_libs.PLATFORMS))
    version = version or runtime_libs.RUNTIME_VERSION
    # An unknown name is found before anything is fetched.
    urls = {platform: runtime_libs.asset_url(platform, version) for platform in wanted}
    for platform, url in urls.items():
        report(f"{platform}: {url}")
        with show_download() as progress:
            library = runtime_libs.fetch_library(platform, version=version, force=force, progress=progress)
        _warn(library)
        print_line(f"{platform}\t{library.folder}")


@app.command("path")
def print_path(
    platform: Annotated[str, typer.Argument(metavar="PLATFORM", help="Such as armlinux.armv8.")],
    version: _Version = None,
) -> None:
    """Print the folder of a library that is on this machine, and nothing else.

    EDGE_OCR_LITE_LIB, a library file, comes before the store for the platform that it fits.
    """
    from converters.lite.libraries import store as runtime_libs
    from edge_ocr.errors import ModelError

    wanted = runtime_libs.normalise_version(version or runtime_libs.RUNTIME_VERSION)
    library = runtime_libs.find_library(platform, wanted)
    if library is None:
        raise ModelError(
            f"the library for {platform} {wanted} is not on this machine",
            f"edge-ocr libs fetch --platform {platform} --version {wanted}",
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
        except ModelError as error:
            # One damaged library must not hide the others.
            rows.append(_describe_damaged(version, platform, error.message))
            continue
        if library is not None:
            rows.append(_describe(library))
    return rows


def _describe(library: RuntimeLibrary) -> _Row:
    return {
        "version": library.version,
        "platform": library.platform,
        "library": library.library.name,
        "size_bytes": library.info.size_bytes,
        "soname": library.info.soname,
        "fits_16k_pages": library.info.fits_16k_pages,
        "actual_version": library.actual_version,
        "source": library.source,
        "concerns": list(library.concerns),
    }


def _describe_damaged(version: str, platform: str, message: str) -> _Row:
    return {
        "version": version,
        "platform": platform,
        "library": None,
        "size_bytes": None,
        "soname": None,
        "fits_16k_pages": None,
        "actual_version": None,
        "source": "damaged",
        "concerns": [message],
    }


def _format(row: _Row) -> list[str]:
    version = row["version"]
    if row["library"] is not None and row["actual_version"] != version:
        version += f" (is {row['actual_version'] or 'unknown'})"
    size = "-" if row["size_bytes"] is None else f"{row['size_bytes'] / 1e6:.1f}"
    pages = {True: "yes", False: "no", None: "-"}[row["fits_16k_pages"]]
    return [version, row["platform"], row["library"] or "-", size, row["soname"] or "-", pages, row["source"]]
