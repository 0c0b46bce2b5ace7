"""Lanes share out work, and the pipeline reads lines in them."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

import edge_ocr.pipeline as pipeline_module
from edge_ocr import create_pipeline
from edge_ocr.engines.lanes import Lanes
from edge_ocr.errors import ModelError


def test_lanes_work_at_the_same_time_from_both_ends():
    lanes = Lanes(2)
    meeting = threading.Barrier(2, timeout=60)
    done: dict[int, list[int]] = {}

    def work(item: list[int]) -> None:
        meeting.wait()
        done.setdefault(threading.get_ident(), []).append(item[0])

    lanes.share([[i] for i in range(6)], work)
    assert sorted(done.values()) == [[0, 1, 2], [5, 4, 3]]


def test_no_lane_goes_on_after_an_error():
    lanes = Lanes(2)
    failed = threading.Event()
    done: list[int] = []

    def work(item: list[int]) -> None:
        if item == [0]:
            failed.set()
            raise ModelError("broken")
        assert failed.wait(60)
        time.sleep(0.002)
        done.append(item[0])

    with pytest.raises(ModelError, match="broken"):
        lanes.share([[i] for i in range(1000)], work)
    lanes.share([[1]] * 2, lambda item: None)
    assert len(done) < 999


@pytest.mark.parametrize(("threads", "lanes"), [(1, 1), (2, 2), (3, 3), (8, 4)])
def test_openvino_reads_lines_in_lanes_and_others_in_batches(monkeypatch, default_models, examples, threads, lanes):
    create_engine = pipeline_module.create_engine
    sizes: dict[str, Counter[int]] = {"openvino": Counter(), "paddle": Counter()}
    names: set[str] = set()

    def create(name, model, *rest):
        engine = create_engine(name, model, *rest)
        run = engine.run

        def count(array):
            if model.kind == "rec":
                sizes[name][len(array)] += 1
                names.add(threading.current_thread().name)
            return run(array)

        engine.run = count
        return engine

    monkeypatch.setattr(pipeline_module, "create_engine", create)
    texts = {}
    for name in sizes:
        pipeline = create_pipeline(engine=name, threads=threads)
        # A pipeline probes its recogniser with two lines.
        sizes[name].clear()
        names.clear()
        texts[name] = [next(pipeline.predict(examples / "receipt.jpg"))["rec_text"] for _ in range(2)]
        if name == "openvino":
            assert names == {f"edge-ocr-lane-{i}_0" for i in range(lanes)}
    assert set(sizes["openvino"]) == {1}
    assert sizes["openvino"][1] == 2 * len(texts["openvino"][0])
    assert max(sizes["paddle"]) > 1
    assert texts["openvino"] == texts["paddle"]
