"""`edge-ocr config`: list and copy the shipped pipeline files, show the settings in force."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_ocr.cli import options
from edge_ocr.cli.help import App
from edge_ocr.cli.output import print_json, print_line, print_rows

if TYPE_CHECKING:
    from edge_ocr.config import PipelineConfig
    from edge_ocr.models.types import Kind

app = App()


@app.command("list")
def list_pipelines(as_json: options.Json = False) -> None:
    """List the shipped pipelines and the models that they use."""
    from edge_ocr.config import find_config_folder, load_config

    rows: list[dict[str, str | None]] = []
    for name in sorted(file.stem for file in find_config_folder().glob("*.yaml")):
        config = load_config(name)
        rows.append(
            {
                "name": name,
                "det_model": config.det_model,
                "rec_model": config.rec_model,
                "cls_model": config.cls_model if config.use_orientation else None,
                "page_model": config.page_model if config.use_page_orientation else None,
            }
        )
    if as_json:
        print_json(rows)
    else:
        columns = ("pipeline", "detection", "recognition", "line orientation", "page orientation")
        print_rows(columns, [[value or "-" for value in row.values()] for row in rows], heading=False)


@app.command()
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Shipped pipeline, such as OCR.")],
    save_path: Annotated[Path | None, typer.Option(metavar="DIR", help="Write NAME.yaml into this folder.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite NAME.yaml.")] = False,
) -> None:
    """Print a shipped pipeline file or write it into a folder."""
    from edge_ocr.config import find_config
    from edge_ocr.core.files import write_file
    from edge_ocr.errors import UsageError

    shipped = find_config(name)
    content = shipped.read_text(encoding="utf-8")
    if save_path is None:
        sys.stdout.write(content)
        return
    target = save_path / shipped.name
    if target.exists() and not force:
        raise UsageError(f"{target} exists", "add --force to overwrite it")
    write_file(target, content.encode())
    print_line(str(target))


@app.command()
@options.takes_pipeline
def show(
    chosen: options.PipelineOptions,
    as_json: options.Json = False,
) -> None:
    """Show every setting in force and where it came from."""
    config = chosen.load()
    models: dict[Kind, str] = {
        "det": config.det_model,
        "rec": config.rec_model,
        "cls": config.cls_model,
        "page": config.page_model,
    }
    for kind, name in models.items():
        config = _apply_model(config, name, kind)
    if as_json:
        print_json({path: {"value": value, "from": config.origins[path]} for path, value in config.values.items()})
        return
    rows = [
        (path, json.dumps(value, ensure_ascii=False), config.origins[path]) for path, value in config.values.items()
    ]
    print_rows(("Key", "Value", "From"), rows, heading=False)


def _apply_model(config: PipelineConfig, name: str, kind: Kind) -> PipelineConfig:
    """Return `config` with the model's own constants as defaults; never downloads a model."""
    from edge_ocr.models.registry import REGISTRY
    from edge_ocr.models.resolve import apply_model, locate_model, resolve_model

    model = locate_model(name) if name in REGISTRY else resolve_model(name, kind)
    if model is None:
        return config.with_model_settings(REGISTRY[name].settings, f"registry of {name}")
    return apply_model(config, model)
