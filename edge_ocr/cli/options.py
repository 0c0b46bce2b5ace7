"""Options that set up a pipeline, shared by every command that builds one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import wraps
from inspect import Parameter
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


PANEL = "Pipeline"

DetModel = Annotated[str | None, typer.Option(metavar="NAME|DIR", help="Detection model.", rich_help_panel=PANEL)]
RecModel = Annotated[str | None, typer.Option(metavar="NAME|DIR", help="Recognition model.", rich_help_panel=PANEL)]
Pipeline = Annotated[
    str, typer.Option(metavar="NAME|FILE", help="Shipped pipeline, or a YAML file.", rich_help_panel=PANEL)
]
Engine = Annotated[
    EngineName | None,
    typer.Option(metavar="NAME", help="openvino, onnxruntime, paddle, or auto to choose.", rich_help_panel=PANEL),
]
Threads = Annotated[
    int | None, typer.Option(metavar="N", help="CPU threads [default: all cores].", rich_help_panel=PANEL)
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any key of the pipeline file: Detection.thresh=0.2.",
        rich_help_panel=PANEL,
    ),
]
UseHpip = Annotated[
    bool | None,
    typer.Option("--use-hpip/--no-hpip", help="Require a fast engine, or use Paddle's own.", rich_help_panel=PANEL),
]


@dataclass(frozen=True)
class PipelineOptions:
    """The options of a command that builds a pipeline; None if an option was not given."""

    pipeline: Pipeline = "OCR"
    device: Annotated[
        str | None,
        typer.Option(metavar="DEVICE", help="cpu, gpu:0, gpu:0,1, npu:0, xpu:0 or mlu:0.", rich_help_panel=PANEL),
    ] = None
    engine: Engine = None
    det_model: DetModel = None
    rec_model: RecModel = None
    orientation: Annotated[
        bool | None,
        typer.Option("--orientation/--no-orientation", help="Read upside-down lines, too.", rich_help_panel=PANEL),
    ] = None
    limit_side_len: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Side length at which detection runs.", rich_help_panel=PANEL),
    ] = None
    limit_type: Annotated[
        LimitType | None,
        typer.Option(metavar="WHICH", help="Side it applies to: max, min or long.", rich_help_panel=PANEL),
    ] = None
    text_score: Annotated[
        float | None,
        typer.Option(metavar="SCORE", help="Drop lines that score lower (0 to 1).", rich_help_panel=PANEL),
    ] = None
    threads: Threads = None
    settings: Settings = None

    def load(self) -> PipelineConfig:
        """Read the pipeline file and apply the options to it; a named option wins over `--set`."""
        named = {
            "Pipeline.device": ("--device", self.device),
            "Runtime.engine": ("--engine", self.engine and self.engine.value),
            "Pipeline.text_det_model": ("--det-model", self.det_model),
            "Pipeline.text_rec_model": ("--rec-model", self.rec_model),
            "Pipeline.use_text_line_orientation": ("--orientation", self.orientation),
            "Detection.limit_side_len": ("--limit-side-len", self.limit_side_len),
            "Detection.limit_type": ("--limit-type", self.limit_type and self.limit_type.value),
            "Recognition.text_score": ("--text-score", self.text_score),
            "Runtime.threads": ("--threads", self.threads),
        }
        return load_with_options(self.pipeline, named, self.settings)


def takes_pipeline(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `PipelineOptions`, in place of its parameter `chosen`."""
    own = inspect.signature(command, eval_str=True)
    shared = inspect.signature(PipelineOptions, eval_str=True).parameters

    @wraps(command)
    def run(**values: Any) -> None:
        command(chosen=PipelineOptions(**{name: values.pop(name) for name in shared}), **values)

    parameters = [parameter for name, parameter in own.parameters.items() if name != "chosen"]
    every = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in (*parameters, *shared.values())]
    run.__signature__ = own.replace(parameters=every)  # type: ignore[attr-defined]
    return run


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
