import argparse
import itertools
import json

import cv2
import numpy as np
import pytest

from benchmarks import host, host_worker, peers
from benchmarks.host_chart import (
    COLOURS,
    SYSTEM_COLOURS,
    draw_chart,
    draw_pareto,
    find_front,
    list_boxes,
    list_shares,
    list_times,
    meet,
    place_labels,
)
from benchmarks.render_receipts import render_page
from edge_ocr.errors import InputError, ToolchainError, UsageError

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


def test_second_readings_have_a_median_of_their_own():
    runs = [{**make_run([100, 400]), "again_ms": [50, 70]}, {**make_run([300, 200]), "again_ms": [60, 90]}]
    figures = host.summarise(runs, runs, {})
    assert (figures["median_ms"], figures["again_ms"]) == (250, 65)
    assert "again_ms" not in host.summarise([make_run([100])], [make_run([100])], {})


def test_stages_add_up_to_the_mean():
    runs = [make_run([100, 200], stages={"decode": 10, "det infer": 40, "rec": 50})]
    figures = host.summarise(runs, runs, {})
    assert figures["stages_ms"] == {"decode": 10, "det infer": 40, "rec": 50, "other": 50}


def test_lines_that_differ_from_ours_are_counted():
    other = [WORDS[0], {**WORDS[1], "text": "山茶书屋"}, *WORDS[2:]]
    figures = host.summarise([make_run([1], other)], [make_run([1])], {})
    assert figures["equal_share"] == 0.75
    assert host.summarise([make_run([1], WORDS[:2])], [make_run([1])], {})["equal_share"] == 0.5


def test_every_stage_of_ours_is_timed(repository):
    picture = repository / "examples/images/sign.png"
    run = host.run_system("edge-ocr", host.find_interpreter("edge-ocr"), [picture], 1, again=True)
    (image,) = run["images"]
    (again,) = run["again_ms"]
    assert again > 0
    assert set(image["stages_ms"]) == set(host.STAGES) - {"det"}
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


@pytest.mark.parametrize(
    ("text", "models", "overrides"),
    [
        ("edge-ocr", None, {}),
        ("edge-ocr:tiny", "tiny", {}),
        ("edge-ocr:tiny:int8", "tiny", {"Runtime.precision": "int8"}),
        ("edge-ocr:auto:v6", "v6", {"Runtime.precision": "auto"}),
        ("edge-ocr:paddle", None, {"Runtime.engine": "paddle"}),
        (
            "edge-ocr:onnxruntime:v5:f32:1600",
            "v5",
            {
                "Runtime.engine": "onnxruntime",
                "Runtime.precision": "f32",
                "Detection.limit_side_len": 1600,
                "Detection.limit_type": "max",
            },
        ),
        ("edge-ocr:pad320", None, {"Recognition.image_shape": [3, 48, 320]}),
        ("rapidocrlite:lite", "lite", {}),
        ("faster-paddle:v6", "v6", {}),
    ],
)
def test_variants_are_combined(text, models, overrides, monkeypatch):
    checked = []
    monkeypatch.setattr(host, "load_config", lambda *given: checked.append(given))
    system = host.parse_system(text)
    assert (system.name, system.models, system.overrides) == (text.partition(":")[0], models, overrides)
    assert system.pipeline == (f"OCR-{models}" if models and models != "lite" else "OCR")
    own = text.startswith("edge-ocr")
    assert [given[:2] for given in checked] == ([(system.pipeline, overrides)] if own else [])


def test_a_number_limits_the_side_of_peers_too():
    assert host.parse_system("rapidocr:960").side == host.parse_system("rapidocr3:960:tiny").side == 960
    assert host.parse_system("rapidocr").side is None


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("tesseract:tiny", "unknown system tesseract", "one of edge-ocr, rapidocr"),
        ("edge-ocr:huge", "edge-ocr has no variant 'huge'", "one of tiny, v5, v6, openvino"),
        ("edge-ocr:lite", "edge-ocr has no variant 'lite'", "a number"),
        ("edge-ocr:side", "edge-ocr has no variant 'side'", "a number"),
        ("edge-ocr:", "edge-ocr has no variant ''", "a number"),
        ("edge-ocr:tiny:v6", "tiny and v6 exclude each other", "remove one"),
        ("edge-ocr:960:1280", "960 and 1280 exclude each other", "remove one"),
        ("edge-ocr:tiny:20", "edge-ocr:tiny:20: Detection.limit_side_len: expected a whole number", ""),
        ("rapidocr:tiny", "rapidocr has no variant 'tiny'", "one of a number"),
        ("rapidocr3:int8", "rapidocr3 has no variant 'int8'", "one of tiny, v6, a number"),
        ("paddleocr:v6", "paddleocr has no variant 'v6'", "use paddleocr alone"),
        ("rapidocrlite", "rapidocrlite does not run PP-OCRv4 mobile", "add :tiny or :v6 or :lite"),
        ("faster-paddle:lite", "faster-paddle has no variant 'lite'", "one of tiny, v6"),
    ],
)
def test_unknown_variants_are_refused(text, message, hint):
    with pytest.raises(UsageError) as raised:
        host.parse_system(text)
    assert message in raised.value.message
    assert hint in (raised.value.hint or "")


def test_every_system_can_be_run():
    assert host.SYSTEMS.keys() == host_worker.SYSTEMS.keys() == {host.OWN, *peers.PEERS}
    known = {variant for members in host.VARIANTS.values() for variant in members} | {"side"}
    assert known.issuperset(itertools.chain(*host.SYSTEMS.values()))


def test_variants_reach_the_pipeline(repository):
    picture = repository / "examples/images/sign.png"
    (image,) = host.run_system("edge-ocr:openvino:32", host.find_interpreter("edge-ocr:openvino:32"), [picture], 1)[
        "images"
    ]
    assert "山茶书店" not in [line["text"] for line in image["lines"]]


def test_every_second_round_is_in_reverse_order(monkeypatch, tmp_path):
    read = []
    asked = []
    monkeypatch.setattr(
        host, "run_system", lambda system, *_, again: asked.append(again) or read.append(system) or make_run([1])
    )
    options = argparse.Namespace(rounds=3, threads=1, throughput=False)
    monkeypatch.setattr(host, "find_interpreter", lambda system: tmp_path)
    runs, _ = host.measure(["a", "b", "c"], {"pages": []}, options)
    assert "".join(read) == "abccbaabc"
    assert all(asked)
    assert [len(each) for each in runs["pages"].values()] == [3, 3, 3]


def test_labels_that_count_are_counted(tmp_path):
    words = [*WORDS, {**WORDS[0], "ignore": True}, {"poly": None, "text": "SALE"}]
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    assert host.count_labels(pictures, {"a.png": words, "c.png": words}) == {"pictures": 2, "lines": 4, "texts": 1}


FIGURES = {
    "edge-ocr": {"median_ms": 100.0, "peak_mb": 500.0, "exact_share": 0.99, "stages_ms": {"other": 100.0}},
    "rapidocr": {"median_ms": 400.0, "peak_mb": 2000.0, "exact_share": 0.9, "stages_ms": {"other": 400.0}},
}
CONTENT = {
    "date": "2026-11-30",
    "machine": {"processor": "a processor", "cores": 2},
    "load_before": 0.1,
    "threads": 2,
    "rounds": 1,
    "counts": {"pages": {"pictures": 3, "lines": 100, "texts": 0}},
    "versions": {"edge-ocr": {"numpy": "2.4.6"}, "rapidocr": {"numpy": "2.4.6"}},
    "pictures_per_second": {"pages": {}},
    "figures": {
        "pages": {
            name: {**figures, "fastest_ms": figures["median_ms"], "cpu_ms": 2 * figures["median_ms"]}
            for name, figures in FIGURES.items()
        }
    },
}


def test_an_earlier_run_is_drawn_again(tmp_path, monkeypatch, capsys):
    file, out = tmp_path / "host.json", tmp_path / "charts"
    file.write_text(json.dumps(CONTENT))
    monkeypatch.setattr(host, "compare", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr("sys.argv", ["host", "--from", str(file), "--out", str(out)])
    host.main()
    assert sorted(path.name for path in out.iterdir()) == ["host.png", "pareto.png"]
    assert "pages: rapidocr takes 4.00 times as long as edge-ocr" in capsys.readouterr().out


def test_an_earlier_run_is_drawn_in_part(tmp_path):
    file = tmp_path / "host.json"
    file.write_text(json.dumps(CONTENT))
    assert list(host.read_content(file)["figures"]["pages"]) == ["edge-ocr", "rapidocr"]
    part = host.read_content(file, ["edge-ocr"])
    assert list(part["figures"]["pages"]) == list(part["versions"]) == ["edge-ocr"]
    with pytest.raises(UsageError, match=r"host\.json has no figures of paddleocr"):
        host.read_content(file, ["edge-ocr", "paddleocr"])


@pytest.mark.parametrize("text", ["", "[]", '{"figures": {}}'])
def test_only_a_host_json_is_drawn_again(text, tmp_path):
    file = tmp_path / "host.json"
    with pytest.raises(InputError, match="cannot read"):
        host.read_content(file)
    file.write_text(text)
    with pytest.raises(InputError, match=r"host\.json"):
        host.read_content(file)


def test_dominated_systems_are_not_on_the_front():
    points = {
        "slow and right": (900, 0.99),
        "fast": (100, 0.9),
        "slower and wrong": (950, 0.98),
        "middle": (300, 0.95),
        "as right as the middle": (301, 0.95),
        "as fast as the middle": (300, 0.94),
        "same as the middle": (300, 0.95),
    }
    assert find_front(points) == ["fast", "middle", "same as the middle", "slow and right"]
    assert find_front({"alone": (1, 0.5)}) == ["alone"]


def test_discs_are_where_and_as_large_as_the_figures_say(tmp_path):
    assert draw_pareto({"pages": FIGURES}, CONTENT["counts"], "", tmp_path / "pareto.png")
    pixels = cv2.cvtColor(cv2.imread(str(tmp_path / "pareto.png")), cv2.COLOR_BGR2RGB).astype(int)

    def find_disc(system):
        colour = [int(SYSTEM_COLOURS[system][i : i + 2], 16) for i in (1, 3, 5)]
        # The palette may change a colour slightly.
        rows, columns = np.nonzero(np.abs(pixels - colour).max(axis=2) < 8)
        return columns.mean(), rows.mean(), len(rows)

    (own_x, own_y, own_area), (x, y, area) = find_disc("edge-ocr"), find_disc("rapidocr")
    assert own_x < x
    assert own_y < y
    assert area == pytest.approx(4 * own_area, rel=0.1)


def test_a_folder_without_labels_has_no_panel(tmp_path):
    unknown = {name: {**figures, "exact_share": None} for name, figures in FIGURES.items()}
    assert not draw_pareto({"pages": unknown}, CONTENT["counts"], "", tmp_path / "pareto.png")
    assert not list(tmp_path.iterdir())


def count_overlaps(boxes, discs):
    marks = [(x - r, y - r, x + r, y + r) for x, y, r in discs.values()]
    pairs = itertools.combinations(boxes.values(), 2)
    return sum(meet(*pair) for pair in pairs) + sum(meet(box, mark) for box in boxes.values() for mark in marks)


def test_labels_overlap_neither_each_other_nor_discs():
    chance = np.random.default_rng(1)
    discs = {f"apart {i}": (*chance.uniform((100, 100), (900, 400)), 8.0) for i in range(4)}
    discs |= {f"together {i}": (500.0 + i, 60.0, 10.0) for i in range(4)}
    sizes = dict.fromkeys(discs, (150.0, 17.0))
    frame = (70.0, 40.0, 950.0, 450.0)
    nearest = {name: next(list_boxes(disc, sizes[name]))[0] for name, disc in discs.items()}
    assert count_overlaps(nearest, discs) > 0
    boxes = place_labels(discs, sizes, frame)
    assert boxes.keys() == discs.keys()
    assert count_overlaps(boxes, discs) == 0
    for left, top, right, bottom in boxes.values():
        assert frame[0] <= left < right <= frame[2]
        assert frame[1] <= top < bottom <= frame[3]


def test_labels_avoid_lines_if_they_can():
    discs, sizes, frame = {"a": (300.0, 200.0, 8.0)}, {"a": (100.0, 17.0)}, (0.0, 0.0, 600.0, 400.0)
    (free,) = place_labels(discs, sizes, frame).values()
    y = (free[1] + free[3]) / 2
    (box,) = place_labels(discs, sizes, frame, [((0.0, y), (600.0, y))]).values()
    assert not box[1] < y < box[3]


@pytest.mark.parametrize(("least", "most"), [(40, 2000), (80, 130), (110, 165), (95, 1050), (0.5, 20)])
def test_ticks_of_time_are_within_the_axis_and_enough(least, most):
    ticks = list_times(least, most)
    assert 3 <= len(ticks) <= 12
    assert least <= ticks[0] < ticks[-1] <= most
    assert ticks == sorted(ticks)


@pytest.mark.parametrize(("least", "most"), [(0.6, 1.08), (0.997, 1.002), (0.2, 0.9), (0.93, 0.96)])
def test_ticks_of_shares_are_never_above_1(least, most):
    ticks = list_shares(least, most)
    assert 3 <= len(ticks) <= 9
    assert least <= ticks[0] < ticks[-1] <= min(most, 1)


def test_bars_are_as_long_as_the_medians(tmp_path):
    panel = {
        "edge-ocr": {"median_ms": 100.0, "stages_ms": {"det infer": 30.0, "rec": 60.0}},
        "rapidocr": {"median_ms": 400.0, "stages_ms": {"crop": 900.0}},
    }
    draw_chart({"pages": panel}, "", tmp_path / "chart.png")
    pixels = cv2.cvtColor(cv2.imread(str(tmp_path / "chart.png")), cv2.COLOR_BGR2RGB)

    def measure_width(stage):
        colour = [int(COLOURS[stage][i : i + 2], 16) for i in (1, 3, 5)]
        return int((pixels == colour).all(axis=2).sum(axis=1).max())

    assert measure_width("crop") == pytest.approx(4 * (measure_width("det infer") + measure_width("rec")), abs=8)
    assert measure_width("rec") == pytest.approx(2 * measure_width("det infer"), abs=4)


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
