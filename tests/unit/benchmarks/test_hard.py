import cv2
import numpy as np
import pytest

from benchmarks import hard, host, render_hard
from benchmarks.host import make_lines

# Tiny pages; on `flat` paper every pixel outside the ground truth is paper.
PICTURES = {
    "web": (lambda rng: render_hard.render_web(rng, 900, 160), True),
    "article": (lambda rng: render_hard.render_article(rng, 500, 400, (24,)), True),
    "chat": (lambda rng: render_hard.render_chat(rng, 500, 700, (24,)), False),
    "panorama": (lambda rng: render_hard.render_panorama(rng, 700, 330, 2), False),
    "ticker": (lambda rng: render_hard.render_line_of_items(rng, 700, 40, 3, 20), True),
    "strip": (lambda rng: render_hard.render_strip(rng, 16, 0), False),
    "slant": (lambda rng: render_hard.render_slant(rng, -60), True),
    "table": (lambda rng: render_hard.render_table(rng, 4, 9.0, ruled=False), True),
    "ruled table": (lambda rng: render_hard.render_table(rng, 5, -2.5, ruled=True), False),
    "paper": (lambda rng: render_hard.render_document(rng, 90, 9, 2, "zh", newspaper=False), True),
    "newspaper": (lambda rng: render_hard.render_document(rng, 90, 11, 1, "en", newspaper=True), False),
    "desktop": (lambda rng: render_hard.render_desktop(rng, 1100, 320, dark=True), False),
    "photo of a page": (lambda rng: render_hard.render_page_photo(rng, 1320, 990), False),
    "photo of words": (lambda rng: render_hard.render_wall(rng, 800, 600), False),
}


@pytest.mark.parametrize("name", PICTURES)
def test_ground_truth_boxes_are_on_the_print(name):
    render, flat = PICTURES[name]
    (pixels, words), (again, _), (other, _) = (render(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(pixels, again)
    assert pixels.shape != other.shape or not np.array_equal(pixels, other)
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    height, width = grey.shape
    covered = np.zeros_like(grey)
    assert words
    for word in words:
        assert word.text.strip()
        assert (word.poly >= 0).all()
        assert (word.poly <= [width, height]).all()
        mask = np.zeros_like(grey)
        cv2.fillPoly(mask, [np.rint(word.poly).astype(np.int32)], 255)
        assert np.ptp(grey[mask > 0]) > 60
        covered |= mask
    if flat:
        assert np.ptp(grey[cv2.dilate(covered, np.ones((3, 3), np.uint8)) == 0]) == 0


def test_landscapes_have_no_text():
    pixels, words = render_hard.render_scenery(np.random.default_rng(1), 400, 300)
    assert words == []
    assert pixels.std() > 10


@pytest.mark.parametrize("margin", [0, 4, 12])
def test_the_margin_of_a_strip_matches_its_name(margin):
    pixels, (word,) = render_hard.render_strip(np.random.default_rng(1), 24, margin)
    ys, xs = np.nonzero((pixels < 250).any(axis=2))
    distances = (xs.min(), ys.min(), pixels.shape[1] - 1 - xs.max(), pixels.shape[0] - 1 - ys.max())
    assert max(abs(distance - margin) for distance in distances) <= 1
    assert any(char.isascii() and char.isalpha() for char in word.text)
    assert any(char.isdigit() for char in word.text)


def test_the_truth_of_a_table_is_in_reading_order():
    _, words = render_hard.render_table(np.random.default_rng(1), 4, 9.0, ruled=True)
    assert [words[4 * row].text[-1] for row in range(4)] == ["1", "2", "3", "4"]
    for row in range(4):
        left = [float(word.poly[0, 0]) for word in words[4 * row : 4 * row + 4]]
        assert left == sorted(left)
    # Tilted so far that sorting by height alone gives another order.
    assert words[4].poly[0, 1] < words[3].poly[0, 1]


def test_a_kind_is_written_the_same_each_time(tmp_path):
    for name in ("one", "two"):
        render_hard.write_kind("ticker", tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["gt.jsonl", "ticker_09000x40.png", "ticker_17736x60.png"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    labels = host.read_labels(tmp_path / "one/gt.jsonl", required=True)
    assert {name: len(words) for name, words in labels.items()} == {
        "ticker_17736x60.png": 60,
        "ticker_09000x40.png": 36,
    }


# --- scores


def box(top, left=10, width=80, height=10):
    right, bottom = left + width, top + height
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


WORDS = [{"poly": box(10 + 20 * i), "text": text} for i, text in enumerate(["Platform 4", "Platform 5", "山茶书店"])]


def score(rows, words=WORDS):
    return hard.score_picture(words, make_lines(rows))


def test_all_read_is_found_exact_and_in_order():
    assert score([{**word, "text": word["text"].upper().replace(" ", "")} for word in WORDS]) == hard.Score(
        3, 3, 3, 0, in_order=True, whole=True
    )
    assert score([], []) == hard.Score(0, 0, 0, 0, in_order=True, whole=True)


def test_a_line_is_found_by_place_and_text():
    assert hard.match_lines(WORDS, make_lines([{**WORDS[0], "text": "P1atf0rm"}])) == [0, -1, -1]
    assert hard.match_lines(WORDS, make_lines([{**WORDS[0], "text": "Pl"}])) == [-1, -1, -1]
    assert hard.match_lines(WORDS, make_lines([{**WORDS[0], "poly": box(200)}])) == [-1, -1, -1]
    # A detector's box may be twice as high as the outline.
    assert hard.match_lines(WORDS, make_lines([{**WORDS[2], "poly": box(45, height=20)}])) == [-1, -1, 0]
    assert hard.match_lines(WORDS, make_lines([{**WORDS[2], "poly": box(45, height=40)}])) == [-1, -1, -1]


def test_a_box_is_found_once_by_the_line_it_is_most_like():
    both = [{"poly": box(10, height=30), "text": "Platform 5"}]
    assert hard.match_lines(WORDS, make_lines(both)) == [-1, 0, -1]
    result = score([*WORDS, *both])
    assert (result.found, result.exact, result.extra) == (3, 3, 1)


def test_another_order_is_reported():
    assert not score([WORDS[1], WORDS[0], WORDS[2]]).in_order
    assert not score(WORDS[1:]).in_order
    assert score([WORDS[0], {"poly": box(300), "text": "noise"}, *WORDS[1:]]).in_order


def test_a_line_in_two_pieces_counts_if_its_text_is_complete():
    pieces = [{"poly": box(50, width=40), "text": "山茶"}, {"poly": box(50, left=50, width=40), "text": "书店"}]
    result = score(pieces, WORDS[2:])
    assert (result.found, result.exact, result.extra, result.whole) == (1, 0, 1, True)
    assert not score(pieces[::-1], WORDS[2:]).whole


def make_run(**lines_of):
    images = [
        {"image": f"{name}.png", "ms": 100.0, "cpu_ms": 150.0, "lines": lines}
        if isinstance(lines, list)
        else {"image": f"{name}.png", "error": lines}
        for name, lines in lines_of.items()
    ]
    return {"images": images, "peak_mb": 300.0}


def test_figures_are_those_of_the_kind():
    labels = {"a.png": WORDS, "b.png": WORDS}
    run = make_run(a=WORDS, b=[WORDS[1], WORDS[0], WORDS[2]])
    figures, scores = hard.summarise(run, labels, "tilted")
    assert figures == {
        "wanted": 6,
        "found": 6,
        "exact": 6,
        "extra": 0,
        "in_order": 1,
        "median_ms": 100.0,
        "cpu_ms": 150.0,
        "peak_mb": 300.0,
    }
    assert list(scores) == ["a.png", "b.png"]
    assert hard.summarise(run, labels, "strips")[0]["whole"] == 1
    assert 0.5 < hard.summarise(run, labels, "ticker")[0]["similarity"] < 1
    assert not {"whole", "in_order", "similarity"} & set(hard.summarise(run, labels, "wide")[0])


def test_failures_count_as_lost_and_are_reported(tmp_path, capsys):
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for picture in pictures:
        cv2.imwrite(str(picture), np.zeros((100, 5000, 3), np.uint8))
    labels = {"a.png": WORDS, "b.png": WORDS}
    runs = {
        "edge-ocr": make_run(a=WORDS, b=WORDS),
        "rapidocr": make_run(a=WORDS, b="ResizeImgError: too\nlong"),
        "paddleocr": {"error": "host_worker.py ended with exit code 9"},
    }
    hard.report("tall", pictures, labels, runs, by_picture=True)
    said = capsys.readouterr().out
    assert "| edge-ocr | 6 | 6 | 6 | 0 | 100 | 150 | 300 |" in said
    assert "| rapidocr | 6 | 3 | 3 | 0 | 100 | 150 | 300 |" in said
    assert "| paddleocr | 6 | – | – | – | – | – | – |" in said
    assert "| b.png | 200 | – | – |" in said  # 100 ms for half a megapixel
    assert "| b.png | 300 | – | – |" in said
    assert "| b.png | 3 | 3 | – | – |" in said
    assert "rapidocr, b.png: ResizeImgError: too long" in said
    assert "paddleocr, tall: host_worker.py ended with exit code 9" in said


def test_a_system_that_is_not_there_does_not_stop_the_others():
    assert "unknown system tesseract" in hard.attempt("tesseract", [], 1)["error"]


def test_a_picture_that_fails_does_not_stop_the_others(tmp_path, repository):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    run = hard.attempt("edge-ocr:64", [broken, repository / "examples/images/sign.png"], 1)
    first, second = run["images"]
    assert first["error"].startswith("InputError: ")
    assert first["image"] == "broken.png"
    # At a side length of 64 its small print is lost.
    assert len(second["lines"]) < 4
    with pytest.raises(host.ToolchainError, match=r"exit code 1: .*broken\.png"):
        host.run_system("edge-ocr", host.find_interpreter("edge-ocr"), [broken], 1)
