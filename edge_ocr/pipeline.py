"""The host's pipeline: builds models and engines from a config, reads any input and returns results."""

from __future__ import annotations

import copy
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from types import MappingProxyType
from typing import Any

import numpy as np

from edge_ocr.config import PipelineConfig, load_config, restore_config
from edge_ocr.core.charset import Charset
from edge_ocr.core.engines.base import Engine, StreamingEngine, count_cores
from edge_ocr.core.files import choose_name
from edge_ocr.core.pipeline import TextReader
from edge_ocr.core.types import BgrImage, Reading
from edge_ocr.devices import parse_device
from edge_ocr.engines import choose_engine, create_engine
from edge_ocr.errors import InputError, ModelError, UsageError
from edge_ocr.inputs import Source, join_failures, list_sources, name_page, name_source
from edge_ocr.models.kinds import check_output, fit_charset
from edge_ocr.models.resolve import apply_model, check_width, resolve_model
from edge_ocr.models.types import Kind, Model, Progress
from edge_ocr.paddlex import translate_arguments
from edge_ocr.results import OcrResult

# Sections of the config with settings of the stages, and the keys in them that belong to a model.
_STAGES = ("Detection", "Recognition", "Orientation", "PageOrientation")
_LOADED = ("Recognition.character_dict_path",)
# Kinds of models that a pipeline may have and leave unused.
_SWITCHES: Mapping[str, Kind] = MappingProxyType(
    {"Pipeline.use_text_line_orientation": "cls", "Pipeline.use_page_orientation": "page"}
)


class OcrPipeline:
    """Reads the text of pictures. Thread-safe; each device reads one picture at a time."""

    def __init__(self, config: PipelineConfig, use_hpip: bool | None = None, progress: Progress | None = None) -> None:
        """Load the models of `config`.

        `use_hpip`: True requires a fast engine, False uses Paddle, None decides by `config.engine`. `progress` receives
        the state of downloads.

        Raises ModelError, ToolchainError or UsageError.
        """
        device = parse_device(config.device)
        models = find_models(config, progress)
        for model in models.values():
            config = apply_model(config, model)
        self.engines = {kind: choose_engine(config.engine, model, device, use_hpip) for kind, model in models.items()}
        """Name of the engine that runs each kind of model."""
        if self.engines["rec"] != "paddle":
            # Other engines enforce the width that a model declares.
            check_width(models["rec"], "" if models["rec"].format == "onnx" else "; or give --engine paddle")
        threads = config.threads or count_cores()
        self._loaded: list[tuple[dict[Kind, Engine], Charset]] = []
        """Engines and the recogniser's charset, by device."""
        for device_id in device.ids:
            loaded = {
                kind: create_engine(self.engines[kind], model, device.kind, device_id, threads, config.precision, True)
                for kind, model in models.items()
            }
            _probe(loaded["det"], models["det"], 32, 32)
            config, classes = _settle_batch(config, loaded["rec"], models["rec"])
            if "cls" in loaded:
                orientation = config.orientation
                _probe(loaded["cls"], models["cls"], orientation.image_height, orientation.image_width)
            if "page" in loaded:
                page = config.page_orientation
                _probe(loaded["page"], models["page"], page.image_height, page.image_width)
            self._loaded.append((loaded, fit_charset(models["rec"], classes)))
        self.config = config
        self._readers = self._build_readers()
        self._models = models
        # Idle readers, as indexes in `_readers`.
        self._idle = SimpleQueue[int]()
        for place in range(len(self._readers)):
            self._idle.put(place)
        self._arrays = itertools.count(1)

    @property
    def models(self) -> dict[str, str]:
        """Name of each model, by kind."""
        return {kind: model.name for kind, model in self._models.items()}

    def derive(self, overrides: Mapping[str, Any]) -> OcrPipeline:
        """Return a pipeline with changed settings of the stages that shares this one's models and devices.

        `overrides`: values by key path in the sections Detection, Recognition, Orientation and PageOrientation, such
        as {"Detection.limit_side_len": 1280}; also Pipeline.use_text_line_orientation and
        Pipeline.use_page_orientation, if the model is loaded. This pipeline does not change.

        Raises UsageError for other keys and for values out of range.
        """
        return self._derive(overrides, "derive")

    def _derive(self, overrides: Mapping[str, Any], origin: str) -> OcrPipeline:
        for key in overrides:
            if key in _SWITCHES:
                if overrides[key] is True and _SWITCHES[key] not in self._models:
                    raise UsageError(
                        f"{origin}: {key} cannot be true: the pipeline was built without the model",
                        f"build it with {key}: true; it may then be false",
                    )
            elif key.partition(".")[0] not in _STAGES or key in _LOADED:
                raise UsageError(f"{key} cannot be changed on a loaded pipeline", "build a new pipeline with it")
        derived = copy.copy(self)
        derived.config = self.config.with_values(overrides, origin)
        derived._readers = derived._build_readers()
        return derived

    def _build_readers(self) -> list[TextReader]:
        unused = {kind for key, kind in _SWITCHES.items() if not self.config.values[key]}
        return [
            TextReader.build({kind: engines[kind] for kind in engines if kind not in unused}, charset, self.config)
            for engines, charset in self._loaded
        ]

    def predict(self, input: Any, **arguments: Any) -> Iterator[OcrResult]:
        """Read pictures one by one, as the caller requests results.

        `input`: an array (H × W × 3 BGR, H × W grey, H × W × 4 BGRA; uint8 or uint16), a Pillow image (its current
        frame), a path, an http(s) URL, a folder, bytes of a file, a file open in binary mode (read from its position
        and left open), {"img": …}, or an iterable of these. Each page of a TIFF or PDF is a separate result. Results of
        one call have different names.

        `arguments`: PaddleX 3's, for this call only: use_doc_orientation_classify and use_textline_orientation (if the
        model is loaded), text_det_limit_side_len, text_det_limit_type, text_det_thresh, text_det_box_thresh,
        text_det_unclip_ratio, text_rec_score_thresh, return_word_box. None is the pipeline's own value.

        Raises InputError if an input cannot be read. If only some pages of a file fail, its other pages are returned
        first; the error then names the missing ones. UsageError, at once, for other arguments and values out of range.
        """
        overrides = translate_arguments(arguments, "predict")
        return (self._derive(overrides, "predict") if overrides else self)._predict(input)

    def _predict(self, input: Any) -> Iterator[OcrResult]:
        taken: set[str] = set()
        for source in list_sources(input):
            yield from self.predict_source(source, taken)

    def predict_source(
        self, source: Source, taken: set[str], failures: dict[int, InputError] | None = None
    ) -> Iterator[OcrResult]:
        """Read every page of one source.

        Results are named after the input, pages `<name>_p1` and so on, with a number appended if the name is in
        `taken`, to which it is added.

        `failures`: if given, receives the error of each unreadable page, by index, in files with several pages.

        Raises InputError if the source cannot be read; without `failures`, also for such pages, after the last page.
        """
        stem = name_source(source.input_path) if source.input_path else f"image_{next(self._arrays)}"
        bad: dict[int, InputError] = {} if failures is None else failures
        pages = source.pages(self.config.input, bad)
        while True:
            start = time.perf_counter()
            page = next(pages, None)
            if page is None:
                break
            decode_ms = (time.perf_counter() - start) * 1000
            label = source.input_path or stem
            try:
                reading = self._read(
                    page.image, label if page.page_index is None else name_page(label, page.page_index)
                )
            except InputError as error:
                if page.page_index is None:
                    raise
                bad[page.page_index] = error
                continue
            reading = replace(reading, timings_ms={"decode": decode_ms, **reading.timings_ms})
            name = choose_name(stem if page.page_index is None else f"{stem}_p{page.page_index + 1}", taken)
            yield OcrResult(reading, page.image, source.input_path, page.page_index, name, self.config)
        if failures is None and bad:
            raise join_failures(bad, source.input_path)

    def _read(self, image: BgrImage, label: str) -> Reading:
        # Wait for an idle device; if there are several, use the one that has been idle longest.
        place = self._idle.get()
        try:
            return self._readers[place].read(image, label)
        finally:
            self._idle.put(place)


@dataclass(frozen=True)
class PipelineSpec:
    """The arguments of a pipeline. Sent to other processes as JSON, so that each builds the same pipeline."""

    config: PipelineConfig
    use_hpip: bool | None = None

    def build(self, progress: Progress | None = None) -> OcrPipeline:
        """Load the models. Raises the errors of `OcrPipeline`."""
        return OcrPipeline(self.config, self.use_hpip, progress)

    def share_cores(self, processes: int, origin: str) -> PipelineSpec:
        """Return the spec for each of several processes, which share the cores unless the config sets `threads`."""
        if processes == 1 or self.config.threads is not None:
            return self
        threads = max(1, count_cores() // processes)
        return replace(self, config=self.config.with_values({"Runtime.threads": threads}, origin))

    def to_json(self) -> str:
        """Return everything as JSON, including the origin of each value: a model's settings replace defaults only."""
        config = {"values": dict(self.config.values), "origins": dict(self.config.origins)}
        return json.dumps({"config": config, "use_hpip": self.use_hpip})

    @staticmethod
    def from_json(text: str) -> PipelineSpec:
        """Read the output of `to_json`."""
        content = json.loads(text)
        return PipelineSpec(restore_config(**content["config"]), content["use_hpip"])


def find_models(config: PipelineConfig, progress: Progress | None = None) -> dict[Kind, Model]:
    """Return the models that `config` names, after downloading those that are missing on this machine.

    Raises ModelError.
    """
    models: dict[Kind, Model] = {
        "det": resolve_model(config.det_model, "det", progress=progress),
        "rec": resolve_model(config.rec_model, "rec", dictionary_path=config.dictionary_path, progress=progress),
    }
    if config.use_orientation:
        models["cls"] = resolve_model(config.cls_model, "cls", progress=progress)
    if config.use_page_orientation:
        models["page"] = resolve_model(config.page_model, "page", progress=progress)
    return models


def create_pipeline(
    pipeline: str | Path = "OCR",
    device: str | None = None,
    use_hpip: bool | None = None,
    *,
    lang: str | None = None,
    engine: str | None = None,
    threads: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> OcrPipeline:
    """Build a pipeline from a shipped name or a YAML file.

    `lang` is a language such as de, which chooses the models unless the pipeline does (`edge-ocr models languages`).
    `device` (cpu, gpu:0, gpu:0,1, npu:0, xpu:0, mlu:0), `engine` (auto, openvino, onnxruntime, paddle) and `threads`
    (default: all cores) replace what the file says; `overrides` does so for any key, such as
    {"Detection.limit_side_len": 1280, "Pipeline.text_rec_model": "my_model/"}. `use_hpip`: True requires a fast engine,
    False uses Paddle, None decides by `engine`.

    Raises ConfigError, ModelError, ToolchainError or UsageError.
    """
    named = {
        "Pipeline.lang": ("lang", lang),
        "Pipeline.device": ("device", device),
        "Runtime.engine": ("engine", engine),
        "Runtime.threads": ("threads", threads),
    }
    values = {path: value for path, (_, value) in named.items() if value is not None}
    origins = {path: f"argument {argument}" for path, (argument, _) in named.items()}
    extra = dict(overrides or {})
    config = load_config(pipeline, {**extra, **values}, {**dict.fromkeys(extra, "argument overrides"), **origins})
    return OcrPipeline(config, use_hpip, progress)


def _settle_batch(config: PipelineConfig, engine: Engine, model: Model) -> tuple[PipelineConfig, int]:
    """Probe the recogniser; return `config` and the number of its classes.

    A StreamingEngine gets no batches. If another accepts only one line at a time and the batch size is not set,
    `config` is changed to that.
    """
    key = "Pipeline.text_rec_batch_size"
    height, width = config.recognition.image_height, config.recognition.min_width
    if isinstance(engine, StreamingEngine):
        return config, _probe(engine, model, height, width)
    if config.origins[key] == "default":
        try:
            return config, _probe(engine, model, height, width, 2)
        except ModelError:
            config = config.with_values({key: 1}, f"{model.name}, which takes one line at a time")
    return config, _probe(engine, model, height, width, min(2, config.recognition.batch_size))


def _probe(engine: Engine, model: Model, height: int, width: int, count: int = 1) -> int:
    """Run `count` blank images; return the size of the output's last axis.

    Raises ModelError if the model does not run, or its output does not fit its kind.
    """
    shape = engine.run(np.zeros((count, 3, height, width), dtype=np.float32)).shape
    check_output(model, shape, N=count, H=height, W=width)
    return int(shape[-1])
