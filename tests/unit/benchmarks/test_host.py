import json

import cv2
import numpy as np
import pytest

from benchmarks import host, peers
from benchmarks.host_chart import COLOURS, draw_chart
from benchmarks.render_receipts import render_page
from edge_ocr.errors import ToolchainError, UsageError

BOXES = [[[10, y], [90, y], [90, y + 10], [10, y + 10]] for y in (10, 30, 50, 70)]
TEXTS = ["SALE 20%", "山茶书店", "Total", "9.90"]
WORDS = [{"poly": poly, "text": text} for poly, text in zip(BOXES, TEXTS, strict=True)]


def measure(rows, words=WORDS):
    return host.measure_accuracy({"a.png": host.make_lines(rows)}, {"a.png": words})


def test_a_perfect_reading_scores_1_and_spaces_do_not_count():
    rows = [{**word, "text": word["text"].replace(" ", "")} for word in WORDS]
    assert measure(rows) == {"hmean": 1.0, "exact_share": 1.0, "one_minus_ned": 1.0}


def test_lines_missed_made_up_and_misread_lower_accuracy():
    made_up = {"poly": [[200, 10], [290, 10], [290, 20], [200, 20]], "text": "SALE 20%"}
    figures = measure([WORDS[0], WORDS[1], {**WORDS[2], "text": "Tota1"}, made_up])
    assert figures["hmean"] == pytest.approx(2 * 3 / (4 + 4))
    assert figures["exact_share"] == pytest.approx(2 / 4)
    assert figures["one_minus_ned"] == pytest.approx((1 + 1 + 0.8) / 3)


def test_ignored_lines_are_neither_right_nor_wrong():
    words = [*WORDS[:3], {**WORDS[3], "ignore": True}]
    assert measure(WORDS, words)["hmean"] == measure(WORDS[:3], words)["hmean"] == 1.0
    assert measure(WORDS, WORDS[:3])["hmean"] < 1.0


def test_labels_without_boxes_are_found_anywhere():
    words = [{"poly": None, "text": "SALE"}, {"poly": None, "text": "sold"}]
    assert measure(WORDS, words) == {"texts_share": 0.5}


def make_run(spent, lines=WORDS, stages=None, peak_mb=100.0):
    images = [
        {"image": f"{i}.png", "ms": ms, "cpu_ms": 2 * ms, "stages_ms": stages or {}, "lines": lines}
        for i, ms in enumerate(spent)
    ]
    return {"load_ms": 500.0, "peak_mb": peak_mb, "versions": {}, "images": images}


def test_figures_are_over_all_rounds():
    runs = [make_run([100, 400]), make_run([300, 200], peak_mb=120.0)]
    figures = host.summarise(runs, runs, {})
    assert (figures["median_ms"], figures["cpu_ms"], figures["peak_mb"]) == (250, 500, 120)
    assert (figures["p95_ms"], figures["fastest_ms"]) == (pytest.approx(385), 150)
    assert (figures["lines"], figures["equal_share"]) == (8, 1.0)
    assert "outside_share" not in figures


def test_stages_add_up_to_the_mean():
    runs = [make_run([100, 200], stages={"decode": 10, "det infer": 40, "rec infer": 50})]
    figures = host.summarise(runs, runs, {})
    assert figures["stages_ms"] == {"decode": 10, "det infer": 40, "rec infer": 50, "other": 50}
    assert figures["outside_share"] == pytest.approx(1 - 90 / 150)


def test_lines_that_differ_from_ours_are_counted():
    other = [WORDS[0], {**WORDS[1], "text": "山茶书屋"}, *WORDS[2:]]
    figures = host.summarise([make_run([1], other)], [make_run([1])], {})
    assert figures["equal_share"] == 0.75
    assert host.summarise([make_run([1], WORDS[:2])], [make_run([1])], {})["equal_share"] == 0.5


def test_every_stage_of_ours_is_timed(repository):
    picture = repository / "examples/images/sign.png"
    run = host.run_system("edge-ocr", host.find_interpreter("edge-ocr"), [picture], 1)
    (image,) = run["images"]
    assert set(image["stages_ms"]) == set(host.STAGES)
    assert all(spent > 0 for spent in image["stages_ms"].values())
    assert sum(image["stages_ms"].values()) <= image["ms"]
    assert "山茶书店" in [line["text"] for line in image["lines"]]
    assert run["peak_mb"] > 50


def test_a_system_that_fails_is_reported(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ImportError: no such engine' >&2\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(ToolchainError, match=r"host_worker.py ended with exit code 3: ImportError: no such engine"):
        host.run_system("rapidocr", python, [], 1)


def test_an_environment_is_made_once_and_only_complete_ones_count(tmp_path, monkeypatch):
    log = tmp_path / "log"
    uv = tmp_path / "uv"
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(peers, "find_uv", lambda: str(uv))
    script = '#!/bin/sh\necho "$1" >> {log}\nif [ "$1" = venv ]; then mkdir -p "$5"; else exit {code}; fi\n'
    uv.write_text(script.format(log=log, code=2))
    uv.chmod(0o755)
    with pytest.raises(ToolchainError, match=r"rapidocr-onnxruntime==.* ended with exit code 2"):
        peers.find_peer("rapidocr")
    uv.write_text(script.format(log=log, code=0))
    python = peers.find_peer("rapidocr")
    assert python == peers.find_peer("rapidocr")
    assert python.is_relative_to(tmp_path / "home")
    assert log.read_text().split() == ["venv", "pip", "venv", "pip"]


def test_an_unknown_system_is_refused():
    with pytest.raises(UsageError, match="unknown system tesseract"):
        host.find_interpreter("tesseract")


def test_bars_are_as_long_as_the_medians(tmp_path):
    panel = {
        "edge-ocr": {"median_ms": 100.0, "stages_ms": {"det infer": 30.0, "rec infer": 60.0}},
        "rapidocr": {"median_ms": 400.0, "stages_ms": {"crop": 900.0}},
    }
    draw_chart({"pages": panel}, "", tmp_path / "chart.png")
    pixels = cv2.cvtColor(cv2.imread(str(tmp_path / "chart.png")), cv2.COLOR_BGR2RGB)

    def measure_width(stage):
        colour = [int(COLOURS[stage][i : i + 2], 16) for i in (1, 3, 5)]
        return int((pixels == colour).all(axis=2).sum(axis=1).max())

    assert measure_width("crop") == pytest.approx(4 * (measure_width("det infer") + measure_width("rec infer")), abs=8)
    assert measure_width("rec infer") == pytest.approx(2 * measure_width("det infer"), abs=4)


def test_pages_are_reproducible_and_their_ground_truth_is_on_the_print():
    (photo, words), (again, _), (other, _) = (render_page(np.random.default_rng([1, page])) for page in (0, 0, 1))
    assert np.array_equal(photo, again)
    assert photo.shape != other.shape or not np.array_equal(photo, other)
    assert 40 <= len(words) <= 60
    assert 600 <= photo.shape[1] <= 1000
    grey = cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)
    for word in words:
        (left, top), (right, bottom) = word.poly.min(axis=0).astype(int), word.poly.max(axis=0).astype(int)
        inside = grey[top:bottom, left:right]
        assert inside.shape == (bottom - top, right - left)
        assert inside.min() < 0.7 * np.median(inside)


def test_requested_labels_must_exist(tmp_path):
    file = tmp_path / "gt.jsonl"
    assert host.read_labels(file, required=False) == {}
    with pytest.raises(host.InputError, match="no such file"):
        host.read_labels(file, required=True)
    file.write_text(json.dumps({"image": "a.png", "words": WORDS}) + "\n")
    assert host.read_labels(file, required=True)["a.png"] == WORDS
