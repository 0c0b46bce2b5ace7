"""Options that set up a pipeline, shared by every command that builds one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial, wraps
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_ocr.config import PipelineConfig


class LimitType(str, Enum):
    """The side that the limit applies to."""

    max = "max"
    min = "min"
    long = "long"


class EngineName(str, Enum):
    """What runs the networks."""

    auto = "auto"
    openvino = "openvino"
    onnxruntime = "onnxruntime"
    paddle = "paddle"


_option = partial(typer.Option, rich_help_panel="Pipeline")

Pipeline = Annotated[str, _option(metavar="NAME|FILE", help="Shipped pipeline, or a YAML file.")]
Lang = Annotated[str | None, _option(metavar="CODE", help="Choose models for a language, such as de.")]
Device = Annotated[str | None, _option(metavar="DEVICE", help="cpu, gpu:0, gpu:0,1, npu:0, xpu:0 or mlu:0.")]
Engine = Annotated[
    EngineName | None, _option(metavar="NAME", help="auto, openvino, onnxruntime or paddle.", show_default=False)
]
UseHpip = Annotated[bool | None, _option("--use-hpip/--no-hpip", help="Require a fast engine, or use Paddle's own.")]
DetModel = Annotated[str | None, _option(metavar="NAME|DIR", help="Detection model.")]
RecModel = Annotated[str | None, _option(metavar="NAME|DIR", help="Recognition model.")]
Orientation = Annotated[
    str | None, _option(metavar="WHAT", help="Also read turned text: page, line, both or none.", show_default=False)
]
LimitSideLen = Annotated[int | None, _option(metavar="PIXELS", help="Side length at which detection runs.")]
LimitTypeOption = Annotated[
    LimitType | None, _option("--limit-type", metavar="SIDE", help="Side that the limit is for: max, min or long.")
]
TextScore = Annotated[float | None, _option(metavar="SCORE", help="Drop lines that score lower (0 to 1).")]
Threads = Annotated[int | None, _option(metavar="N", help="CPU threads; all cores by default.")]
Settings = Annotated[
    list[str] | None, _option("--set", metavar="KEY=VALUE", help="Any setting, such as Detection.thresh=0.2.")
]
Words = Annotated[bool, typer.Option("--words", help="Add words and their boxes to JSON and pictures.")]
Chars = Annotated[bool, typer.Option("--chars", help="Add words and characters, too.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True)
class PipelineOptions:
    """The options of a command that builds a pipeline; None for one that was not given."""

    pipeline: Pipeline = "OCR"
    lang: Lang = None
    device: Device = None
    engine: Engine = None
    det_model: DetModel = None
    rec_model: RecModel = None
    orientation: Orientation = None
    limit_side_len: LimitSideLen = None
    limit_type: LimitTypeOption = None
    text_score: TextScore = None
    threads: Threads = None
    settings: Settings = None

    def load(self, words: bool = False, chars: bool = False) -> PipelineConfig:
        """Read the pipeline file and apply the options to it; a named option wins over `--set`."""
        named = {
            "Pipeline.lang": ("--lang", self.lang),
            "Pipeline.device": ("--device", self.device),
            "Runtime.engine": ("--engine", self.engine and self.engine.value),
            "Pipeline.text_det_model": ("--det-model", self.det_model),
            "Pipeline.text_rec_model": ("--rec-model", self.rec_model),
            **choose_orientation(self.orientation),
            "Detection.limit_side_len": ("--limit-side-len", self.limit_side_len),
            "Detection.limit_type": ("--limit-type", self.limit_type and self.limit_type.value),
            "Recognition.text_score": ("--text-score", self.text_score),
            "Recognition.return_words": ("--chars", "chars") if chars else ("--words", "words" if words else None),
            "Runtime.threads": ("--threads", self.threads),
        }
        return load_with_options(self.pipeline, named, self.settings)


# Whether pages and lines are turned upright.
_ORIENTATIONS = {"page": (True, False), "line": (False, True), "both": (True, True), "none": (False, False)}


def choose_orientation(chosen: str | None) -> dict[str, tuple[str, Any]]:
    """Return the settings for `--orientation`, as `load_with_options` takes them.

    Raises UsageError for any other value: it used to be a flag without a value.
    """
    from edge_ocr.errors import UsageError

    if chosen not in (None, *_ORIENTATIONS):
        raise UsageError(
            f"--orientation {chosen}: expected page, line, both or none",
            "write --orientation line for what the flag --orientation did",
        )
    page, line = (None, None) if chosen is None else _ORIENTATIONS[chosen]
    return {
        "Pipeline.use_page_orientation": ("--orientation", page),
        "Pipeline.use_text_line_orientation": ("--orientation", line),
    }


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
    """Read the pipeline file and override it with `settings` (each `KEY=VALUE`), then with `named`.

    `named` maps key paths to option and value; the value is None if the option was not given.
    """
    from edge_ocr.config import load_config, parse_setting

    values: dict[str, Any] = dict(parse_setting(setting, "--set") for setting in settings or ())
    origins = dict.fromkeys(values, "--set")
    for key, (option, value) in named.items():
        if value is not None:
            values[key], origins[key] = value, option
    config = load_config(pipeline, values, origins)
    if config.language is not None and config.language.lacks:
        typer.echo(f"WARNING: {config.language.name}: no recogniser has {config.language.lacks}", err=True)
    return config
