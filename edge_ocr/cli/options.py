"""Options that set up a pipeline, shared by every command that builds one."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_ocr.config import PipelineConfig


class LimitType(str, Enum):
    """What the side limit applies to."""

    max = "max"
    min = "min"
    long = "long"


class EngineName(str, Enum):
    """What runs the networks."""

    auto = "auto"
    openvino = "openvino"
    onnxruntime = "onnxruntime"
    paddle = "paddle"


Pipeline = Annotated[str, typer.Option(help="Shipped pipeline name, or a YAML file.")]
Device = Annotated[str | None, typer.Option(help="cpu, gpu:0, gpu:0,1, npu:0, xpu:0 or mlu:0.")]
Engine = Annotated[EngineName | None, typer.Option(help="What runs the networks.")]
DetModel = Annotated[str | None, typer.Option(metavar="NAME|DIR", help="Detection model.")]
RecModel = Annotated[str | None, typer.Option(metavar="NAME|DIR", help="Recognition model.")]
Orientation = Annotated[
    bool | None,
    typer.Option("--orientation/--no-orientation", help="Turn lines that stand upside down.", show_default=False),
]
LimitSideLen = Annotated[int | None, typer.Option(metavar="PIXELS", help="Side length that detection works at.")]
LimitTypeOption = Annotated[LimitType | None, typer.Option("--limit-type", help="Which side the limit is for.")]
TextScore = Annotated[float | None, typer.Option(help="Leave out lines below this score (0 to 1).")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all cores by default.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any key of the pipeline file, such as Detection.thresh=0.2."),
]


def load_pipeline_config(
    pipeline: str,
    *,
    device: str | None,
    engine: EngineName | None,
    det_model: str | None,
    rec_model: str | None,
    orientation: bool | None,
    limit_side_len: int | None,
    limit_type: LimitType | None,
    text_score: float | None,
    threads: int | None,
    settings: list[str] | None,
) -> PipelineConfig:
    """Read the pipeline file and lay the options over it; a named option wins over `--set`."""
    named = {
        "Pipeline.device": ("--device", device),
        "Runtime.engine": ("--engine", engine and engine.value),
        "Pipeline.text_det_model": ("--det-model", det_model),
        "Pipeline.text_rec_model": ("--rec-model", rec_model),
        "Pipeline.use_text_line_orientation": ("--orientation", orientation),
        "Detection.limit_side_len": ("--limit-side-len", limit_side_len),
        "Detection.limit_type": ("--limit-type", limit_type and limit_type.value),
        "Recognition.text_score": ("--text-score", text_score),
        "Runtime.threads": ("--threads", threads),
    }
    return load_with_options(pipeline, named, settings)


def load_with_options(
    pipeline: str, named: Mapping[str, tuple[str, Any]], settings: list[str] | None
) -> PipelineConfig:
    """Read the pipeline file, lay `settings` (`KEY=VALUE` each) over it, then `named`: key path to option and value.

    A value of None stands for an option that was not given.
    """
    from edge_ocr.config import load_config, parse_setting

    values: dict[str, Any] = dict(parse_setting(setting, "--set") for setting in settings or ())
    origins = dict.fromkeys(values, "--set")
    for key, (option, value) in named.items():
        if value is not None:
            values[key], origins[key] = value, option
    return load_config(pipeline, values, origins)
