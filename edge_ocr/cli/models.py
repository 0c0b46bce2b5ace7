"""`edge-ocr models`: list, download and locate models."""

from __future__ import annotations

from typing import Annotated, TypedDict

import typer

from edge_ocr.cli import options
from edge_ocr.cli.help import App
from edge_ocr.cli.output import print_json, print_line, print_rows
from edge_ocr.models.types import ModelSpec

app = App()


class _Row(TypedDict):
    name: str
    kind: str
    where: str
    size_bytes: int | None
    source: str | None
    tested: str
    origins: list[str]
    licence: str


@app.command("list")
def list_models(
    as_json: options.Json = False,
) -> None:
    """List the models and whether they are on this machine.

    Prints a table on a terminal, else tab-separated lines. Column `tested` says whether we ran the network with real
    weights, or only checked addresses and sha256. Uses no network.
    """
    from edge_ocr.models.registry import REGISTRY

    rows = [_describe(spec) for spec in REGISTRY.values()]
    if as_json:
        print_json(rows)
    else:
        print_rows(_COLUMNS, list(map(_format, rows)))


@app.command("languages")
def list_languages(as_json: options.Json = False) -> None:
    """List the languages for --lang and the recogniser that reads each.

    A recogniser may lack some letters of a language; the last column says which. Uses no network.
    """
    from edge_ocr.models.languages import LANGUAGES

    rows = [
        {
            "code": language.code,
            "name": language.name,
            "recognizer": language.recognizer,
            "direction": "rtl" if language.is_right_to_left else "ltr",
            "lacks": language.lacks or None,
        }
        for language in LANGUAGES.values()
    ]
    if as_json:
        print_json(rows)
    else:
        print_rows(tuple(rows[0]), [[value or "-" for value in row.values()] for row in rows])


@app.command("pull")
def pull_models(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Names from edge-ocr models list.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Download every model.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Download stored models again.")] = False,
) -> None:
    """Download models into the store.

    Prints name and folder of each, tab-separated, and stops at the first that cannot be downloaded. The store is in
    EDGE_OCR_HOME, by default the user's cache folder; EDGE_OCR_MODEL_URL names a mirror.
    """
    from edge_ocr.cli.progress import show_download
    from edge_ocr.errors import UsageError
    from edge_ocr.models.registry import REGISTRY
    from edge_ocr.models.resolve import locate_model, pull_model

    if bool(names) == every:
        raise UsageError("expected either names or --all", "run edge-ocr models list to see the names")
    wanted = list(REGISTRY) if every else list(dict.fromkeys(names or []))
    for name in wanted:
        # Refuse unknown names before downloading anything.
        if name not in REGISTRY:
            locate_model(name)
    for name in wanted:
        with show_download() as progress:
            model = pull_model(name, progress=progress, force=force)
        print_line(f"{name}\t{model.program.parent}")


@app.command("path")
def print_path(name: Annotated[str, typer.Argument(metavar="NAME", help="Name from edge-ocr models list.")]) -> None:
    """Print the folder of a model that is on this machine."""
    from edge_ocr.errors import ModelError
    from edge_ocr.models.resolve import locate_model

    model = locate_model(name)
    if model is None:
        raise ModelError(f"{name} is not on this machine", f"run edge-ocr models pull {name}")
    print_line(str(model.program.parent))


_COLUMNS = ["name", "kind", "where", "size MB", "tested", "licence/source"]


def _describe(spec: ModelSpec) -> _Row:
    from edge_ocr.errors import ModelError
    from edge_ocr.models.resolve import locate_model

    where, size_bytes, source = "not here", None, None
    try:
        model = locate_model(spec.name)
    except ModelError:
        # A damaged model must not hide the others; `path` reports what is wrong with it.
        model, where = None, "damaged"
    if model is not None:
        where = "store" if model.source.startswith("store ") else "package"
        files = [model.program] if model.params is None else [model.program, model.params]
        size_bytes, source = sum(path.stat().st_size for path in files), model.source
    return {
        "name": spec.name,
        "kind": spec.kind,
        "where": where,
        "size_bytes": size_bytes,
        "source": source,
        "tested": spec.tested,
        "origins": [source.label for source in spec.sources],
        "licence": spec.licence,
    }


def _format(row: _Row) -> list[str]:
    size_bytes = row["size_bytes"]
    size = "-" if size_bytes is None else f"{size_bytes / 1e6:.1f}"
    origin = row["licence"] if row["source"] is None else f"{row['licence']}, {row['source']}"
    return [row["name"], row["kind"], row["where"], size, row["tested"], origin]
