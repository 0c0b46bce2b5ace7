"""OpenVINO on several lines at the same time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import numpy as np
import pytest

import edge_ocr.pipeline as pipeline_module
from edge_ocr import create_pipeline
from edge_ocr.core.engines.base import StreamingEngine
from edge_ocr.engines import create_engine
from edge_ocr.engines.openvino import count_streams
from edge_ocr.errors import ModelError


def make_lines(*widths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.uniform(-1, 1, (1, 3, 48, width)).astype(np.float32) for width in widths]


@pytest.fixture(params=["f32", "bf16"])
def engine(default_models, request) -> StreamingEngine:
    """On a processor without bf16, both are f32."""
    created = create_engine("openvino", default_models["PP-OCRv4_mobile_rec"], "cpu", 0, 2, request.param, True)
    assert isinstance(created, StreamingEngine)
    return created


def test_outputs_are_in_the_order_of_the_inputs(engine):
    lines = make_lines(640, 64, 192, 640, 320, 64, 1280, 128, 64)
    wanted = [engine.run(line).copy() for line in lines]
    for _ in range(3):
        found = [output.copy() for output in engine.run_each(iter(lines))]
        for output, expected in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(output, expected)
    assert list(engine.run_each([])) == []


def test_a_run_may_end_early_or_fail(engine):
    lines = make_lines(*[640] * 9)
    wanted = engine.run(lines[-1]).copy()
    outputs = engine.run_each(lines)
    next(outputs)
    outputs.close()

    def fail() -> Iterator[np.ndarray]:
        yield from lines[:4]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(engine.run_each(fail()))
    with pytest.raises(ModelError, match="PP-OCRv4_mobile_rec"):
        list(engine.run_each([lines[0], lines[0][:, :1], *lines]))
    *_, last = engine.run_each(lines)
    np.testing.assert_array_equal(last, wanted)


@pytest.mark.parametrize(
    ("threads", "streams"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 4), (6, 3), (7, 3), (8, 4), (9, 3), (12, 4), (64, 4)]
)
def test_streams_share_the_threads(threads, streams):
    assert count_streams(threads) == streams
    assert threads - streams * (threads // streams) <= 1


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_only_recognisers_on_openvino_stream(default_models, examples, threads):
    pipeline = create_pipeline(threads=threads)
    (reader,) = pipeline._readers
    assert isinstance(reader.recognizer.engine, StreamingEngine)
    assert not isinstance(reader.detector.engine, StreamingEngine)
    paddle = create_pipeline(engine="paddle", threads=2)
    assert not isinstance(paddle._readers[0].recognizer.engine, StreamingEngine)
    (found,), (wanted,) = (each.predict(examples / "receipt.jpg") for each in (pipeline, paddle))
    assert found["rec_text"] == wanted["rec_text"]


_built: list[pipeline_module.OcrPipeline] = []


def _read(path: str) -> list[str]:
    (result,) = _built[0].predict(path)
    return list(result["rec_text"])


@pytest.mark.parametrize("used", [True, False])
def test_a_process_that_was_forked_reads_with_the_pipeline_of_its_parent(examples, read_example, used):
    """OpenVINO's threads do not exist there."""
    path = str(examples / "sign.png")
    _built[:] = [create_pipeline(threads=2)]
    if used:
        _read(path)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        for _ in range(2):
            assert pool.apply_async(_read, (path,)).get(120) == read_example("sign.png")["rec_text"]
    assert _read(path) == read_example("sign.png")["rec_text"]
