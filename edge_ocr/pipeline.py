"""The host's pipeline: models and engines from a config, any input in, results out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_ocr.config import PipelineConfig, load_config
from edge_ocr.core.charset import Charset
from edge_ocr.core.detection import TextDetector
from edge_ocr.core.engines.base import Engine
from edge_ocr.core.orientation import OrientationClassifier
from edge_ocr.core.pipeline import TextReader
from edge_ocr.core.recognition import TextRecognizer
from edge_ocr.engines import choose_engine, create_engine
from edge_ocr.engines.devices import parse_device
from edge_ocr.errors import ModelError
from edge_ocr.inputs import Source, list_sources, name_source
from edge_ocr.models import Kind, Model, Progress, resolve_model
from edge_ocr.results import OcrResult

# What each kind of network gives for one small image: a smoke test at start that catches exchanged and unfit models.
_PROBES: Mapping[Kind, tuple[str, int]] = {
    "det": ("1 × 1 × H × W", 4),
    "rec": ("1 × T × classes", 3),
    "cls": ("1 × 2", 2),
}
_EXCHANGED = "are detection and recognition models exchanged?"


class OcrPipeline:
    """Reads the text of pictures. Safe to use from several threads; each device reads one picture at a time."""

    def __init__(self, config: PipelineConfig, use_hpip: bool | None = None, progress: Progress | None = None) -> None:
        """Load the models of `config`.

        `use_hpip`: True demands a fast engine, False takes Paddle, None decides by `config.engine`. `progress` is told
        of downloads.

        Raises ModelError, ToolchainError or UsageError.
        """
        device = parse_device(config.device)
        det = resolve_model(config.det_model, "det", progress=progress)
        rec = resolve_model(config.rec_model, "rec", dictionary_path=config.dictionary_path, progress=progress)
        cls = resolve_model(config.cls_model, "cls", progress=progress) if config.use_orientation else None
        models = [model for model in (det, rec, cls) if model is not None]
        for model in models:
            config = config.with_model_settings(model.settings, f"inference.yml of {model.name}")
        self.config = config
        self.engines = {model.kind: choose_engine(config.engine, model, device, use_hpip) for model in models}
        threads = config.threads or _count_cores()
        self._readers = []
        self._locks = []
        for device_id in device.ids:

            def load(model: Model, device_id: int = device_id) -> Engine:
                return create_engine(self.engines[model.kind], model, device.kind, device_id, threads)

            self._readers.append(_create_reader(config, det, rec, cls, load))
            self._locks.append(threading.Lock())
        self._turn = 0

    def predict(self, input: Any) -> Iterator[OcrResult]:
        """Read pictures one after the other, as the caller asks for results.

        `input`: an array (H × W × 3 BGR, H × W grey, H × W × 4 BGRA; uint8 or uint16), a path, an http(s) URL, a
        folder, bytes of a file, {"img": …}, or an iterable of these. Each page of a TIFF or PDF is a result of its own.

        Raises InputError for what cannot be read.
        """
        for index, source in enumerate(list_sources(input)):
            yield from self.predict_source(source, index)

    def predict_source(self, source: Source, index: int = 0) -> Iterator[OcrResult]:
        """Read every page of one source; `index` tells unnamed sources apart in file names."""
        name = name_source(source.input_path)
        if source.input_path is None and index:
            name = f"{name}_{index}"
        pages = source.pages(self.config.input)
        while True:
            start = time.perf_counter()
            page = next(pages, None)
            if page is None:
                return
            decode_ms = (time.perf_counter() - start) * 1000
            turn = self._turn = (self._turn + 1) % len(self._readers)
            with self._locks[turn]:
                reading = self._readers[turn].read(page.image)
            reading.timings.stages_ms = {"decode": decode_ms, **reading.timings.stages_ms}
            page_name = name if page.page_index is None else f"{name}_p{page.page_index + 1}"
            yield OcrResult(reading, page.image, source.input_path, page.page_index, page_name)


def create_pipeline(
    pipeline: str | Path = "OCR",
    device: str | None = None,
    use_hpip: bool | None = None,
    *,
    engine: str | None = None,
    threads: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> OcrPipeline:
    """Build a pipeline from a shipped name or a YAML file.

    `device` (cpu, gpu:0, gpu:0,1, npu:0, xpu:0, mlu:0), `engine` (auto, openvino, onnxruntime, paddle) and `threads`
    (default: all cores) replace what the file says; `overrides` does so for any key, such as
    {"Detection.limit_side_len": 1280, "Pipeline.text_rec_model": "my_model/"}. `use_hpip`: True demands a fast engine,
    False takes Paddle, None decides by `engine`.

    Raises ConfigError, ModelError, ToolchainError or UsageError.
    """
    named = {
        "Pipeline.device": ("device", device),
        "Runtime.engine": ("engine", engine),
        "Runtime.threads": ("threads", threads),
    }
    values = {path: value for path, (_, value) in named.items() if value is not None}
    origins = {path: f"argument {argument}" for path, (argument, _) in named.items()}
    extra = dict(overrides or {})
    config = load_config(pipeline, {**extra, **values}, {**dict.fromkeys(extra, "argument overrides"), **origins})
    return OcrPipeline(config, use_hpip, progress)


def _create_reader(config: PipelineConfig, det: Model, rec: Model, cls: Model | None, load: Any) -> TextReader:
    det_engine, rec_engine = load(det), load(rec)
    _probe(det_engine, det, 32, 32)
    recognition = config.recognition
    classes = _probe(rec_engine, rec, recognition.image_height, recognition.min_width)
    if rec.dictionary is None:
        raise ModelError(f"{rec.name} has no dictionary", "set Recognition.character_dict_path")
    charset = Charset.fit(rec.dictionary, classes, rec.name)
    classifier = None
    if cls is not None:
        cls_engine = load(cls)
        _probe(cls_engine, cls, config.orientation.image_height, config.orientation.image_width)
        classifier = OrientationClassifier(cls_engine, config.orientation)
    return TextReader(
        TextDetector(det_engine, config.detection), TextRecognizer(rec_engine, charset, recognition), classifier
    )


def _probe(engine: Engine, model: Model, height: int, width: int) -> int:
    """Run one black image; return the size of the output's last axis.

    Raises ModelError where the model does not run, or its output is not that of its kind.
    """
    expected, dimensions = _PROBES[model.kind]
    try:
        shape = engine.run(np.zeros((1, 3, height, width), dtype=np.float32)).shape
    except Exception as error:  # engines raise classes of their own
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{model.name} does not run as a {model.kind} model on a {height}×{width} image: {reason}", _EXCHANGED
        ) from None
    fits = (
        len(shape) == dimensions
        and {
            "det": shape[1:] == (1, height, width),
            "rec": True,
            "cls": shape[-1] == 2,
        }[model.kind]
    )
    if not fits:
        raise ModelError(
            f"{model.name} is not a {model.kind} model: its output is {' × '.join(map(str, shape))}, not {expected}",
            _EXCHANGED,
        )
    return int(shape[-1])


def _count_cores() -> int:
    # The cores this process may use, which in containers are fewer than the machine has; not every system can tell.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
