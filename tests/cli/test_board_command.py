"""The command of boards, run as on one: `python -m edge_ocr_lite` from a bundle, in a separate process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edge_ocr.core
from edge_ocr.core.commands import main

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

START = [sys.executable, "-m", "edge_ocr_lite"]
KEYS = ["input_path", "dt_polys", "dt_scores", "rec_text", "rec_score"]


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def board_env(board_bundle) -> dict[str, str]:
    env = {**os.environ, "PYTHONPATH": str(board_bundle / "runtime"), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "100"}
    env.pop("PYTHONUNBUFFERED", None)
    return env


@pytest.fixture
def board(board_env, tmp_path) -> Callable[..., Outcome]:
    """Run a command to its end."""

    def run(*arguments: object, stdin: bytes | None = None, start: list[str] = START, **env: str) -> Outcome:
        done = subprocess.run(
            [*start, *map(str, arguments)],
            env={**board_env, **env},
            cwd=tmp_path,
            # Not that of this process, which may be a terminal.
            input=stdin or b"",
            capture_output=True,
            timeout=120,
        )
        err = done.stderr.decode(errors="surrogateescape")
        assert "Traceback" not in err
        return Outcome(done.returncode, done.stdout.decode(errors="surrogateescape"), err)

    return run


@pytest.fixture(scope="session")
def sign(examples, tmp_path_factory) -> Path:
    """A picture with four lines, in its own folder."""
    path = tmp_path_factory.mktemp("pictures") / "sign.png"
    path.write_bytes((examples / "sign.png").read_bytes())
    return path


@pytest.fixture(scope="session")
def sign_texts(board_bundle) -> list[str]:
    """The host's reading of it; it is the bundle's golden picture."""
    golden = json.loads((board_bundle / "manifest.json").read_bytes())["golden"]
    texts = [line["text"] for line in golden["lines"]]
    assert join(texts) == "山茶书店CAMELLIABOOKS&CAFE营业时间OPEN10:00-22:00"
    return texts


def join(texts: list[str]) -> str:
    return "".join(texts).replace(" ", "")


@pytest.fixture
def blank(tmp_path) -> Path:
    """A picture without text, which is read quickly."""
    path = tmp_path / "blank.png"
    cv2.imwrite(str(path), np.full((32, 32, 3), 255, np.uint8))
    return path


def note(label: object) -> str:
    """The note about a picture like `blank`."""
    advice = "try a bundle exported with --set Detection.limit_type=long (enlarges the picture, 32×32, to 960)"
    return f"No text found in {label}; {advice}\n"


def make_folder(folder: Path, sign: Path) -> Path:
    """Two pictures, a damaged one between them, and a file that is not a picture."""
    folder.mkdir()
    data = sign.read_bytes()
    (folder / "a.png").write_bytes(data)
    (folder / "b.png").write_bytes(data[: len(data) // 2])
    cv2.imwrite(str(folder / "c.jpg"), np.full((32, 32, 3), 255, np.uint8))
    (folder / "notes.txt").write_text("no picture", encoding="utf-8")
    return folder


# --- predict


def test_a_picture_alone_is_read(board, sign, sign_texts):
    for arguments in ((sign,), ("predict", "--threads", 1, "--engine", "onnxruntime", sign)):
        assert board(*arguments) == Outcome(0, "".join(f"{text}\n" for text in sign_texts), "")


def test_json_is_one_object_for_one_picture(board, board_bundle, sign, sign_texts):
    done = board("--format", "json", sign)
    result = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert list(result) == KEYS
    assert (result["input_path"], result["rec_text"]) == (str(sign), sign_texts)
    assert [np.array(polygon).shape for polygon in result["dt_polys"]] == [(4, 2)] * 4
    lines = [line.strip().rstrip(",") for line in done.out.splitlines()]
    assert all(json.dumps(polygon) in lines for polygon in result["dt_polys"])
    # As in the golden result, which the host found.
    golden = json.loads((board_bundle / "manifest.json").read_bytes())["golden"]["lines"]
    assert np.abs(np.array(result["dt_polys"]) - [line["polygon"] for line in golden]).max() <= 1
    for key, name in {"dt_scores": "det_score", "rec_score": "rec_score"}.items():
        np.testing.assert_allclose(result[key], [line[name] for line in golden], atol=1e-3)


@pytest.mark.parametrize(
    ("options", "chars"), [(["--words"], False), (["--chars"], True), (["--chars", "--words"], True)]
)
def test_words_are_in_json_and_drawn(board, sign, sign_texts, tmp_path, options, chars):
    done = board(sign, "--format", "json", *options, "--save-path", tmp_path / "words")
    assert (done.code, done.err) == (0, "")
    result = json.loads(done.out)
    assert ["".join(line) for line in result["text_word"]] == [text.replace(" ", "") for text in sign_texts]
    assert ("text_char" in result) == chars
    assert board(sign, "--save-path", tmp_path / "plain").code == 0
    drawn, plain = (cv2.imread(str(tmp_path / name / "sign_res.jpg")).astype(int) for name in ("words", "plain"))
    changed = np.abs(drawn - plain).max(axis=2) > 30
    words, lines = np.zeros((2, *changed.shape), np.uint8)
    cv2.polylines(words, [np.array(region) for line in result["text_word_region"] for region in line], True, 255)
    cv2.fillPoly(lines, [np.array(polygon) for polygon in result["dt_polys"]], 255)
    assert changed[words > 0].mean() > 0.6
    assert changed[cv2.dilate(lines, np.ones((9, 9))) == 0].mean() < 1e-3


@pytest.mark.parametrize("form", ["text", "json", "jsonl"])
def test_a_folder_with_a_damaged_picture_is_read_to_the_end(board, sign, sign_texts, tmp_path, form):
    folder = make_folder(tmp_path / "folder", sign)
    done = board("predict", folder, "--format", form)
    assert done.code == 4
    assert done.err == f"{note(folder / 'c.jpg')}Error: {folder}/b.png is truncated\n1 not read or not saved.\n"
    if form == "text":
        assert done.out.splitlines() == [f"{folder}/a.png:", *sign_texts, f"{folder}/c.jpg:"]
        return
    results = json.loads(done.out) if form == "json" else [json.loads(line) for line in done.out.splitlines()]
    assert [list(result) for result in results] == [KEYS] * 2
    assert [result["rec_text"] for result in results] == [sign_texts, []]
    assert [result["input_path"] for result in results] == [f"{folder}/a.png", f"{folder}/c.jpg"]


def test_several_pictures_and_invalid_ones(board, blank, tmp_path):
    missing, empty = tmp_path / "none.png", tmp_path / "empty"
    empty.mkdir()
    done = board(blank, missing, blank, empty, "", "--format", "json")
    assert [result["input_path"] for result in json.loads(done.out)] == [str(blank)] * 2
    # That of the first failure, in the order given.
    assert done.code == 4
    for words in (
        f"Error: no such file: {missing}\n",
        f"Error: no pictures in folder {empty}\n",
        "Error: the path is empty\n",
    ):
        assert words in done.err
    assert done.err.endswith("3 not read or not saved.\n")


@pytest.mark.parametrize("name", ["none.png", "a" * 300, "folder"])
def test_nothing_to_read_prints_nothing(board, tmp_path, name):
    (tmp_path / "folder").mkdir()
    done = board(name, "--format", "json")
    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("Error: ")


def test_an_empty_reading_is_reported_with_advice(board, blank, edit_bundle):
    cv2.imwrite(str(blank), np.full((40, 1000), 255, np.uint8))
    hint = "--set Detection.limit_side_len=1000 (the picture, 1000×40, was scaled down to 960)"
    said = f"No text found in {blank}; try a bundle exported with "
    assert board(blank) == Outcome(0, "", f"{said}{hint}\n")
    # Without the classifier, lines may be upside down.
    without = edit_bundle(lambda manifest: manifest["models"].pop("cls"))
    assert board(blank, "--bundle", without).err == f"{said}--orientation line (for lines upside down), {hint}\n"


def test_a_folder_of_one_picture_gives_an_array(board, blank):
    (result,) = json.loads(board(blank.parent, "--format", "json").out)
    assert result["input_path"] == str(blank)


def test_standard_input_is_read(board, blank):
    data = blank.read_bytes()
    done = board("-", "--format", "jsonl", "--save-path", "out", stdin=data)
    assert (done.code, done.err) == (0, note("standard input"))
    assert json.loads(done.out) == {"input_path": "-", "dt_polys": [], "dt_scores": [], "rec_text": [], "rec_score": []}
    assert sorted(path.name for path in (blank.parent / "out").iterdir()) == ["stdin_res.jpg", "stdin_res.json"]
    # For one picture: no heading, and one object.
    assert board("-", stdin=data).out == ""
    assert json.loads(board("-", "--format", "json", stdin=data).out)["input_path"] == "-"
    for stdin, words in {b"": "is empty (0 bytes)", data[:-9]: "is truncated"}.items():
        assert board("-", stdin=stdin) == Outcome(4, "", f"Error: standard input {words}\n")


def test_names_and_texts_in_any_encoding(board, blank):
    odd = blank.with_name(os.fsdecode(b"\xff\xfe.png"))
    blank.rename(odd)
    done = board(odd, odd, "--format", "jsonl", "--save-path", "out", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert (done.code, done.err.count("\n"), done.err.count("No text found in ")) == (0, 2, 2)
    assert [json.loads(line)["input_path"] for line in done.out.splitlines()] == [str(odd)] * 2
    saved = json.loads((odd.parent / "out" / f"{odd.stem}_2_res.json").read_bytes())
    assert saved["input_path"] == str(odd)


# --- saving


def test_a_file_named_like_standard_input_is_read(board, blank):
    blank.rename(blank.with_name("-"))
    assert board("./-") == Outcome(0, "", note("-"))


def test_a_picture_too_wide_for_jpeg_is_reported_and_the_next_is_read(board, blank, tmp_path):
    wide = tmp_path / "a.png"
    cv2.imwrite(str(wide), np.full((32, 70_000, 3), 255, np.uint8))
    done = board("--save-path", tmp_path / "out", wide, blank)
    assert (done.code, [path.name for path in sorted((tmp_path / "out").iterdir())]) == (
        2,
        ["blank_res.jpg", "blank_res.json"],
    )
    assert "a picture of 70000×32 cannot be saved as JPEG" in done.err


def test_more_pixels_than_the_host_allows_are_refused(board, tmp_path):
    cv2.imwrite(str(tmp_path / "bomb.png"), np.zeros((14_000, 14_000), np.uint8))
    done = board("bomb.png")
    assert (done.code, done.out) == (4, "")
    assert "bomb.png" in done.err


def test_results_are_saved_under_unique_names(board, sign, tmp_path):
    folder, out = make_folder(tmp_path / "folder", sign), tmp_path / "new" / "out"
    done = board(sign, folder / "c.jpg", folder, "--save-path", out, "--format", "jsonl")
    assert done.code == 4
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{name}_res.{suffix}" for name in ("sign", "c", "a", "c_2") for suffix in ("json", "jpg")
    )
    printed = [json.loads(line) for line in done.out.splitlines()]
    saved = [json.loads((out / f"{name}_res.json").read_bytes()) for name in ("sign", "c", "a", "c_2")]
    assert saved == printed
    drawn, plain = cv2.imread(str(out / "sign_res.jpg")), cv2.imread(str(sign))
    assert drawn.shape == plain.shape
    # The corner of a box is green in only one of them.
    x, y = saved[0]["dt_polys"][0][0]
    assert drawn[y, x, 1] > 100 > max(drawn[y, x, 0], drawn[y, x, 2])
    assert not (plain[y, x, 1] > 100 > max(plain[y, x, 0], plain[y, x, 2]))


def test_a_save_path_that_is_a_file_is_refused_at_once(board, blank):
    done = board(blank, "--save-path", blank)
    assert done == Outcome(2, "", f"Error: --save-path {blank} is a file\nHint: give a folder\n")


def test_a_full_disk_leaves_the_older_pair_and_is_reported(board, blank, sign, mount_small_disk):
    disk = mount_small_disk("60k")
    assert board(blank, "--save-path", disk).code == 0
    before = {path.name: path.read_bytes() for path in disk.iterdir()}
    assert sorted(before) == ["blank_res.jpg", "blank_res.json"]
    blank.write_bytes(sign.read_bytes())
    done = board(blank, sign, "--save-path", disk)
    assert {path.name: path.read_bytes() for path in disk.iterdir()} == before
    assert done.code == 2
    assert (
        done.err
        == "".join(
            f"Error: cannot write {disk}/{name}_res.jpg: disk full\n"
            "Hint: free some space, or give another --save-path\n"
            for name in ("blank", "sign")
        )
        + "2 not read or not saved.\n"
    )


@pytest.mark.parametrize("place", ["/proc/none", "blank.png/below"])
def test_a_place_that_cannot_be_written_is_reported(board, blank, place):
    done = board(blank, blank, "--save-path", place)
    assert done.code == 2
    assert done.err.startswith(f"Error: cannot write {place}/blank_res.json: ")
    assert done.err.endswith("2 not read or not saved.\n")
    assert sorted(path.name for path in blank.parent.iterdir()) == ["blank.png"]


# --- options


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("bnech",),
            "Error: bnech ",
        ),
        (("predict",), "required: IMAGE\nHint: edge-ocr-lite predict --help\n"),
        (("a.png", "--fast"), "Error: unrecognized arguments: --fast\n"),
        (("a.png", "--engine", "tensorrt"), "argument --engine: invalid choice: 'tensorrt'"),
        (("a.png", "--power-mode", "turbo"), "argument --power-mode: invalid choice: 'turbo'"),
        (("a.png", "--threads", "0"), "argument --threads: '0', expected a whole number from 1\n"),
        (("a.png", "--threads", "two"), "argument --threads: 'two', expected a whole number from 1\n"),
        (("bench", "--warmup", "-1"), "argument --warmup"),
        (("bench", "--runs", "9" * 99), "expected a whole number from 1\n"),
        (("camera", "--frames", "0"), "argument --frames: '0', expected a whole number from 1\n"),
        (("info", "--threads", "1"), "Error: unrecognized arguments: --threads 1\n"),
    ],
)
def test_invalid_arguments_are_usage_errors(capsys, arguments, words):
    # In this process: one process each would take longer than all other tests.
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main(arguments) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert "edge-ocr-lite" in printed.err.partition("Hint: ")[2]


def test_unknown_options_end_the_process_so(board):
    done = board("photo.jpg", "--no-such-option")
    assert (done.code, done.out) == (2, "")
    assert done.err == "Error: unrecognized arguments: --no-such-option\nHint: edge-ocr-lite --help\n"


def test_more_threads_than_paddle_lite_allows_are_refused(board, blank):
    assert board(blank, "--threads", 257) == Outcome(2, "", "Error: 257 threads, expected 1 to 256\n")


# --- missing and mismatched parts

WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({modules!r}))
from edge_ocr_lite.commands import main
sys.exit(main())
"""


def hide(*modules: str) -> list[str]:
    return [sys.executable, "-c", WITHOUT.format(modules=modules)]


def test_missing_modules_are_reported(board, blank):
    for command in (("predict", blank), ("selftest",), ("bench",)):
        done = board(*command, start=hide("onnxruntime"))
        assert (done.code, done.err.count("\n")) == (6, 2)
        assert f"onnxruntime: onnxruntime is not installed for {sys.executable}\nHint: " in done.err
    # Only Python itself.
    done = board(blank, start=[sys.executable, "-S", "-m", "edge_ocr_lite"])
    assert (done.code, done.out) == (6, "")
    assert done.err.startswith(f"Error: the Python module cv2 is missing for {sys.executable}\nHint: ")
    assert "./install.sh" in done.err


def test_a_module_that_lacks_a_library_is_reported(board, blank, board_env):
    reason = "libGL.so.1: cannot open shared object file"
    (blank.parent / "cv2.py").write_text(f"raise ImportError({reason!r})", encoding="utf-8")
    path = f"{blank.parent}{os.pathsep}{board_env['PYTHONPATH']}"
    done = board(blank, PYTHONPATH=path)
    assert (done.code, done.out) == (6, "")
    assert done.err.startswith(f"Error: a Python module cannot be loaded by {sys.executable}: {reason}\nHint: ")


def test_info_needs_nothing_but_python(board, board_bundle):
    bare = json.loads(board("info", start=[sys.executable, "-S", "-m", "edge_ocr_lite"]).out)
    assert bare["modules"] == dict.fromkeys(("numpy", "cv2", "pyclipper", "onnxruntime"), False)
    assert bare["engines"]["onnxruntime"] == f"onnxruntime is not installed for {sys.executable}"
    full = json.loads(board("info").out)
    assert full["modules"] == dict.fromkeys(("numpy", "cv2", "pyclipper", "onnxruntime"), True)
    assert full["engines"]["onnxruntime"] is None
    assert full["engines"]["paddle_lite"].startswith("the bundle ")
    for one in (bare, full):
        assert (one["bundle"], one["precision"]) == (str(board_bundle), "fp32")


def test_a_bundle_for_other_code_is_refused(board, blank, edit_bundle):
    def edit(manifest: Any) -> None:
        manifest["constants"]["recognition"]["max_width"] += 1

    done = board(blank, "--bundle", edit_bundle(edit))
    assert (done.code, done.out) == (5, "")
    assert "constants" in done.err


def test_a_folder_that_is_not_a_bundle_is_refused(board, blank):
    for command in ("predict", "bench", "selftest", "info"):
        done = board(command, *([blank] if command == "predict" else []), "--bundle", blank.parent)
        assert done == Outcome(
            5, "", f"Error: {blank.parent} is not a bundle: manifest.json: No such file or directory\n"
        )


# --- selftest


def test_selftest_passes(board, board_bundle):
    done = board("selftest")
    files, engine, golden = done.out.splitlines()
    count = sum(path.is_file() for path in board_bundle.rglob("*")) - 1
    assert files == f"files   ok  {count} files match the manifest"
    assert engine.startswith("engine  ok  onnxruntime, ")
    assert golden.startswith("golden  ok  4 lines read as expected, corners within 0.")
    assert (done.code, done.err) == (0, "")


def damage(folder: Path) -> None:
    path = folder / "README.md"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + b"x")


def edit_golden(manifest: Any) -> None:
    manifest["golden"]["lines"][1]["text"] = "CAMELLIA BOOKS"


@pytest.mark.parametrize(
    ("edit", "spoil", "code", "passed", "words"),
    [
        (lambda manifest: None, damage, 5, 0, "README.md"),
        (
            lambda manifest: None,
            lambda folder: (folder / "LICENSES").unlink(),
            5,
            0,
            "LICENSES cannot be read: No such",
        ),
        (edit_golden, None, 8, 2, "line 2 of 4 reads 'CAMELLIABOOKS&CAFE', expected 'CAMELLIA BOOKS'"),
        (
            lambda manifest: manifest.update(golden=None),
            None,
            9,
            2,
            "no golden result",
        ),
        (lambda manifest: manifest.update(onnx=None), None, 6, 1, "onnxruntime: the bundle has no ONNX graphs"),
    ],
    ids=["changed", "missing", "another text", "no golden", "no engine"],
)
def test_selftest_fails(board, edit_bundle, edit, spoil, code, passed, words):
    folder = edit_bundle(edit)
    if spoil is not None:
        spoil(folder)
    done = board("selftest", "--bundle", folder)
    assert done.code == code
    assert [line[:10] for line in done.out.splitlines()] == ["files   ok", "engine  ok"][:passed]
    assert words in done.err


# --- bench


def test_bench_gives_figures_as_json(board):
    done = board("bench", "--json", "--runs", 2, "--warmup", 1, "--threads", 1)
    figures = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert list(figures) == [
        *("edge_ocr_version", "machine", "engine", "threads", "power_mode", "precision", "load_ms"),
        *("images", "lines", "runs", "warmup", "stages_ms", "rss_mb", "temperature_c", "governor"),
        "processor",
    ]
    wanted = {"engine": "onnxruntime", "threads": 1, "images": 1, "lines": 4, "runs": 2, "warmup": 1}
    assert {name: figures[name] for name in wanted} == wanted
    stages = figures["stages_ms"]
    assert list(stages) == ["decode", "detection", "crop", "orientation", "recognition", "total"]
    assert all(0 < stage["p50"] <= stage["p95"] for stage in stages.values())
    assert stages["total"]["p50"] >= stages["recognition"]["p50"]
    memory = figures["rss_mb"]
    assert 50 < memory["first"] <= memory["peak"]
    assert memory["last"] <= memory["peak"]


def test_bench_reads_pictures_and_prints_a_table(board, blank):
    done = board("bench", blank, blank.parent, "--runs", 3, "--warmup", 0)
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()[:3]] == ["p50", "decode", "detection"]
    assert "pictures: 2, lines: 0, rounds: 3, " in done.out
    assert "onnxruntime, fp32, " in done.out


def test_bench_has_nothing_to_measure(board, blank, edit_bundle):
    damaged = blank.with_name("damaged.png")
    damaged.write_bytes(blank.read_bytes()[:40])
    assert board("bench", damaged) == Outcome(4, "", f"Error: {damaged} is truncated\n")
    done = board("bench", "--bundle", edit_bundle(lambda manifest: manifest.pop("golden")))
    assert (done.code, done.out) == (9, "")
    assert done.err.startswith("Error: the bundle has no golden picture\nHint: ")


# --- camera


@pytest.fixture(scope="session")
def video(sign, tmp_path_factory) -> Path:
    """The sign twice, nothing twice, and the sign again."""
    path = tmp_path_factory.mktemp("video") / "sign.avi"
    picture = cv2.imread(str(sign))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, picture.shape[1::-1])
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no videos")
    for frame in (picture, picture, 0 * picture, 0 * picture, picture):
        writer.write(frame)
    writer.release()
    return path


def test_camera_prints_lines_as_they_change(board, video, sign_texts):
    done = board("camera", "--device", video)
    assert (done.code, done.err) == (0, "")
    # The video is less sharp than the picture.
    assert join(done.out.splitlines()) == join(sign_texts) * 2


def test_camera_as_json_prints_all_lines_at_a_change(board, video, sign_texts):
    done = board("camera", "--device", video, "--format", "jsonl", "--frames", 3)
    results = [json.loads(line) for line in done.out.splitlines()]
    assert (done.code, [join(result["rec_text"]) for result in results]) == (0, [join(sign_texts), ""])
    assert [list(result) for result in results] == [["time", *KEYS]] * 2
    assert results[0]["time"] <= results[1]["time"]


def test_camera_prints_words_as_json(board, video, sign_texts):
    done = board("camera", "--device", video, "--format", "jsonl", "--frames", 1, "--words")
    (result,) = [json.loads(line) for line in done.out.splitlines()]
    assert join([word for line in result["text_word"] for word in line]) == join(sign_texts)


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("97", "/dev/video97"),
        ("/dev/none", "/dev/none"),
        ("/dev/null", "Error: /dev/null "),
        ("notes.txt", "Error: notes.txt "),
    ],
)
def test_a_missing_camera_is_reported(board, tmp_path, device, words):
    (tmp_path / "notes.txt").write_text("no video", encoding="utf-8")
    done = board("camera", "--device", device)
    assert (done.code, done.out) == (4, "")
    assert words in done.err


# --- how it ends


def start(board_env: dict[str, str], *arguments: object) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([*START, *map(str, arguments)], env=board_env, stdin=pipe, stdout=pipe, stderr=pipe)


def end(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    # A process that does not end fails the test and is killed.
    timer = threading.Timer(60, process.kill)
    timer.start()
    try:
        _, err = process.communicate()
    finally:
        timer.cancel()
    return process.returncode, err


@pytest.mark.parametrize(
    ("number", "code", "words"), [(signal.SIGINT, 130, b"\nInterrupted.\n"), (signal.SIGTERM, 143, b"")]
)
def test_a_signal_ends_it(board_env, blank, number, code, words):
    words = note(blank).encode() + words
    process = start(board_env, blank, "-")
    # The first picture is read; it now waits for standard input.
    assert process.stdout.readline() == f"{blank}:\n".encode()
    process.send_signal(number)
    assert end(process) == (code, words)


def test_a_closed_pipe_is_not_an_error(board_env, blank):
    process = start(board_env, blank, *[blank] * 20, "-")
    assert process.stdout.readline() == f"{blank}:\n".encode()
    process.stdout.close()
    process.stdin.write(blank.read_bytes())
    process.stdin.close()
    process.stdout = process.stdin = None
    code, err = end(process)
    assert (code, err.decode().replace(note(blank), "")) == (0, "")


def test_a_full_disk_at_stdout_is_reported(board_env, blank):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*START, blank, blank], env=board_env, stdout=full, stderr=subprocess.PIPE, timeout=120)
    assert (done.returncode, done.stderr.decode()) == (2, f"{note(blank)}Error: No space left on device\n")


def test_the_code_in_the_bundle_is_the_hosts(board_bundle):
    # The code tested here is the code tested elsewhere.
    core = Path(edge_ocr.core.__file__).parent
    runtime = board_bundle / "runtime" / "edge_ocr_lite"
    for path in runtime.rglob("*.*"):
        assert path.read_bytes() == (core / path.relative_to(runtime)).read_bytes()
