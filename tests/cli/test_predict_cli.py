"""`edge-ocr predict`: formats, failures among successes, exit codes, signals and pipes."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import IO

import cv2
import numpy as np
import pytest

from edge_ocr import __version__

KEYS = ["input_path", "dt_polys", "dt_scores", "rec_text", "rec_score"]
SIGN = ["山茶书店", "CAMELLIABOOKS&CAFE", "营业时间", "OPEN10:00-22:00"]

pytestmark = pytest.mark.usefixtures("default_models")


@pytest.fixture
def sign(examples) -> Path:
    return examples / "sign.png"


@pytest.fixture
def upside_down(examples) -> Path:
    """Quick to read: without the classifier it has no text."""
    return examples / "upside_down.png"


def squeeze(text: str) -> list[str]:
    return ["".join(line.split()) for line in text.splitlines()]


# Formats


@pytest.mark.parametrize("options", [[], ["--format", "text"]], ids=["in a pipe", "text"])
def test_text_is_one_line_a_text_line(cli, sign, options):
    done = cli("predict", sign, *options)
    assert (done.code, done.err) == (0, "")
    assert squeeze(done.out) == SIGN


def test_json_of_one_result_is_its_mapping(cli, sign):
    done = cli("predict", sign, "--format", "json")
    assert (done.code, done.err) == (0, "")
    result = json.loads(done.out)
    assert list(result) == KEYS
    assert result["input_path"] == str(sign)
    assert squeeze("\n".join(result["rec_text"])) == SIGN
    assert "山茶书店" in done.out


def test_json_of_several_results_is_an_array(cli, sign, upside_down):
    done = cli("predict", sign, upside_down, sign, "--format", "json")
    assert done.code == 0
    assert [len(result["rec_text"]) for result in json.loads(done.out)] == [4, 0, 4]


def test_jsonl_is_one_object_a_line(cli, sign, upside_down):
    done = cli("predict", sign, upside_down, "--format", "jsonl")
    assert done.code == 0
    results = [json.loads(line) for line in done.out.splitlines()]
    assert [result["input_path"] for result in results] == [str(sign), str(upside_down)]
    assert all(list(result) == KEYS for result in results)


def test_table_shows_every_line(cli, sign):
    done = cli("predict", sign, "--format", "table")
    assert done.code == 0
    for text in ("山茶书店", "营业时间", "sign.png", "4 lines", "Score"):
        assert text in done.out


@pytest.mark.parametrize(
    ("options", "chars"), [(["--words"], False), (["--chars"], True), (["--words", "--chars"], True)]
)
def test_words_are_keys_of_json(cli, sign, tmp_path, options, chars):
    done = cli("predict", sign, *options, "--format", "json", "--save-path", tmp_path)
    assert (done.code, done.err) == (0, "")
    result = json.loads(done.out)
    assert [key for key in result if key in KEYS] == KEYS
    assert ("text_word" in result, "text_char" in result) == (True, chars)
    assert ["".join(line) for line in result["text_word"]] == [text.replace(" ", "") for text in result["rec_text"]]
    assert [list(map(len, line)) for line in result["text_word_region"]] == [
        [4] * len(line) for line in result["text_word"]
    ]
    assert json.loads((tmp_path / "sign_res.json").read_bytes()) == result


def test_words_are_counted_in_the_table_and_not_in_text(cli, sign):
    assert re.search(r"4 lines, \d+ words, \d+ ms", cli("predict", sign, "--format", "table", "--words").out)
    assert cli("predict", sign, "--words").out == cli("predict", sign).out


@pytest.mark.parametrize(("output_format", "expected"), [("text", ""), ("json", []), ("jsonl", [])])
def test_picture_without_text_is_not_a_failure(cli, tmp_path, output_format, expected):
    from PIL import Image

    Image.new("RGB", (500, 3), "white").save(tmp_path / "thin.png")
    done = cli("predict", tmp_path / "thin.png", "--format", output_format)
    assert done.code == 0
    assert done.err.startswith(f"No text found in {tmp_path / 'thin.png'}; ")
    assert "--orientation" in done.err
    assert (json.loads(done.out)["rec_text"] if output_format != "text" else done.out) == expected


def test_empty_result_is_reported_with_its_page(cli, sign, tmp_path):
    from PIL import Image

    blank = Image.new("RGB", (1000, 40), "white")
    blank.save(tmp_path / "pages.tif", save_all=True, append_images=[Image.open(sign).convert("RGB"), blank])
    done = cli("predict", tmp_path / "pages.tif", "--orientation", "line", "--format", "jsonl")
    assert (done.code, len(done.out.splitlines())) == (0, 3)
    for number, line in zip((1, 3), done.err.splitlines(), strict=True):
        assert line.startswith(f"No text found in page {number} of {tmp_path / 'pages.tif'}; ")
        assert all(words in line for words in ("--limit-side-len 1000", "1000×40", "960"))


def test_empty_result_of_lines_upside_down_names_the_option_that_reads_them(cli, upside_down):
    done = cli("predict", upside_down)
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith(f"No text found in {upside_down}; ")
    assert "--orientation" in done.err
    assert done.err.count("\n") == 1
    assert cli("predict", upside_down, "--orientation", "line").err == ""
    # By a readable name, not "-".
    assert cli("predict", "-", stdin=upside_down.read_bytes()).err.startswith("No text found in standard input; ")


@pytest.mark.parametrize("value", ["sideways", "True", ""])
def test_orientation_is_one_of_four(cli, sign, value):
    done = cli("predict", sign, "--orientation", value)
    assert (done.code, done.out) == (2, "")
    assert f"--orientation {value}: expected page, line, both or none" in done.err


def test_orientation_without_a_value_is_refused(cli, sign):
    done = cli("predict", "--orientation", sign)
    assert (done.code, done.out) == (2, "")
    # It takes the picture for its value.
    assert "no INPUT given" in done.err


def test_polygons_are_printed_on_one_line_each(cli, sign):
    for inputs in ([sign], [sign, sign]):
        out = cli("predict", *inputs, "--format", "json").out
        lines = [line.strip().rstrip(",") for line in out.splitlines()]
        results = json.loads(out) if len(inputs) > 1 else [json.loads(out)]
        for result in results:
            assert all(lines.count(json.dumps(polygon)) == len(inputs) for polygon in result["dt_polys"])


def test_markup_in_names_and_texts_is_not_interpreted(cli, sign, tmp_path):
    path = tmp_path / "[red]a[_b].png"
    shutil.copy(sign, path)
    assert "[red]a[_b].png" in cli("predict", path, "--format", "table").out
    assert "[red]no.png" in cli("predict", "[red]no.png").err


# Inputs


def test_standard_input(cli, sign):
    done = cli("predict", "-", "--format", "json", stdin=sign.read_bytes())
    assert done.code == 0
    assert len(json.loads(done.out)["rec_text"]) == 4


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"no picture", "picture")])
def test_bad_standard_input(cli, content, reason):
    done = cli("predict", "-", stdin=content)
    assert (done.code, done.out) == (4, "")
    assert reason in done.err


def test_missing_file(cli):
    done = cli("predict", "missing.png")
    assert (done.code, done.out) == (4, "")
    assert done.err == "Error: no such file: missing.png\n"


def test_folder_without_pictures(cli, tmp_path):
    done = cli("predict", tmp_path)
    assert (done.code, done.out) == (4, "")
    assert "no pictures in folder" in done.err
    assert ".avif" in done.err


@pytest.mark.parametrize("output_format", ["text", "json", "jsonl"])
def test_bad_files_next_to_good_ones(cli, sign, tmp_path, output_format):
    empty, cut = tmp_path / "empty.png", tmp_path / "cut.png"
    empty.write_bytes(b"")
    cut.write_bytes(sign.read_bytes()[:5000])
    done = cli("predict", empty, sign, "missing.png", cut, sign, "--format", output_format)
    assert done.code == 4
    if output_format == "text":
        assert squeeze(done.out) == SIGN * 2
    else:
        read = json.loads(done.out) if output_format == "json" else list(map(json.loads, done.out.splitlines()))
        assert [result["input_path"] for result in read] == [str(sign)] * 2
    for reason in ("no such file: missing.png", f"{empty} is empty", f"{cut} is truncated", "3 not read or not saved."):
        assert reason in done.err


def test_folder_with_a_bad_file(cli, sign, tmp_path):
    shutil.copy(sign, tmp_path / "b.png")
    (tmp_path / "a.png").write_bytes(b"no picture")
    done = cli("predict", tmp_path, "--format", "json")
    assert done.code == 4
    assert [result["input_path"] for result in json.loads(done.out)] == [str(tmp_path / "b.png")]
    assert "a.png is not a " in done.err


def test_pages_before_a_damaged_one_are_printed(cli, sign, tmp_path):
    from PIL import Image

    page = Image.open(sign).convert("RGB")
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
    content = (tmp_path / "pages.tif").read_bytes()
    (tmp_path / "pages.tif").write_bytes(content[:-5000])
    done = cli("predict", tmp_path / "pages.tif", "--format", "jsonl")
    assert done.code == 4
    assert len(done.out.splitlines()) == 1
    assert "pages.tif" in done.err


@pytest.fixture
def mixed(make_mixed_pdf, sign, tmp_path) -> Path:
    """A PDF of three pages with the sign, the second far too large."""
    return make_mixed_pdf(tmp_path / "mixed.pdf", sign)


def test_bad_page_of_a_pdf_does_not_cost_the_others(cli, mixed, tmp_path):
    for output_format in ("json", "jsonl"):
        done = cli("predict", mixed, "--format", output_format, "--save-path", tmp_path / "out")
        assert done.code == 4
        read = json.loads(done.out) if output_format == "json" else list(map(json.loads, done.out.splitlines()))
        assert [result["page_index"] for result in read] == [0, 2]
        assert [squeeze("\n".join(result["rec_text"])) for result in read] == [SIGN] * 2
        assert done.err.startswith(f"Error: page 2 of {mixed} has more than 178,956,970 pixels at 200 dpi\n")
        assert "--set Input.max_pixels=N" in done.err.partition("Hint: ")[2]
    saved = sorted(path.name for path in (tmp_path / "out").glob("*.json"))
    assert saved == ["mixed_p1_res.json", "mixed_p3_res.json"]


def test_pdf_after_a_byte_order_mark_is_read(cli, mixed, sign, tmp_path):
    (tmp_path / "junk.pdf").write_bytes(b"\xef\xbb\xbf\r\n" + mixed.read_bytes())
    done = cli("predict", tmp_path / "junk.pdf")
    assert (done.code, squeeze(done.out)) == (4, SIGN * 2)
    assert f"page 2 of {tmp_path / 'junk.pdf'} has more" in done.err


# Saving


def test_results_are_saved_under_the_inputs_names(cli, sign, tmp_path):
    done = cli("predict", sign, "--save-path", tmp_path / "new" / "out")
    assert done.code == 0
    assert squeeze(done.out) == SIGN
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == ["sign_res.jpg", "sign_res.json"]
    saved = json.loads((tmp_path / "new" / "out" / "sign_res.json").read_text(encoding="utf-8"))
    assert squeeze("\n".join(saved["rec_text"])) == SIGN


def test_inputs_of_one_name_do_not_overwrite_each_other(cli, sign, upside_down, tmp_path):
    for folder, picture in (("a", sign), ("b", upside_down)):
        (tmp_path / folder).mkdir()
        shutil.copy(picture, tmp_path / folder / "x.png")
    shutil.copy(upside_down, tmp_path / "x_2.png")
    inputs = [tmp_path / "a", tmp_path / "b", tmp_path / "x_2.png"]
    assert cli("predict", *inputs, "--save-path", tmp_path / "out").code == 0
    saved = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "out").glob("*.json")}
    paths = sorted(result["input_path"] for result in saved.values())
    assert paths == [str(tmp_path / "a" / "x.png"), str(tmp_path / "b" / "x.png"), str(tmp_path / "x_2.png")]
    assert len(saved["x_res.json"]["rec_text"]) == 4
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 3


def test_save_path_that_is_a_file_is_refused_before_any_work(cli, sign, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = cli("predict", sign, "--save-path", tmp_path / "file")
    assert (done.code, done.out) == (2, "")
    assert "File exists" in done.err
    assert (tmp_path / "file").read_text() == "mine"


def test_full_disk_leaves_the_older_pair_and_is_reported(cli, sign, examples, mount_small_disk, tmp_path):
    # Room for the result of a picture without text, not for that of the sign; its JSON alone would fit.
    disk = mount_small_disk("60k")
    picture = tmp_path / "x.png"
    cv2.imwrite(str(picture), np.full((32, 32, 3), 255, np.uint8))
    assert cli("predict", picture, "--save-path", disk).code == 0
    before = {path.name: path.read_bytes() for path in disk.iterdir()}
    assert sorted(before) == ["x_res.jpg", "x_res.json"]
    shutil.copy(sign, picture)
    done = cli("predict", picture, "--save-path", disk)
    assert {path.name: path.read_bytes() for path in disk.iterdir()} == before
    assert done.code == 2
    assert squeeze(done.out) == SIGN
    assert done.err.startswith(f"Error: cannot write {disk}/x_res.jpg: disk full\nHint: ")
    done = cli("predict", sign, "--save-path", disk)
    assert done.code == 2
    assert {path.name: path.read_bytes() for path in disk.iterdir()} == before


def test_save_path_below_a_file_is_refused(cli, sign, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = cli("predict", sign, "--save-path", tmp_path / "file" / "below")
    assert (done.code, done.out) == (2, "")
    assert "Not a directory" in done.err


# Options


def test_options_reach_the_pipeline(cli, upside_down):
    assert cli("predict", upside_down).out == ""
    assert "转过来" in cli("predict", upside_down, "--orientation", "line").out
    assert "转过来" in cli("predict", upside_down, "--set", "Pipeline.use_text_line_orientation=true").out


@pytest.mark.parametrize(
    "options",
    [
        ["--engine", "paddle"],
        ["--no-hpip"],
        ["--use-hpip"],
        ["--threads", "1", "--limit-side-len", "640", "--limit-type", "max"],
        ["--set", "Detection.mean=[0.5,0.5,0.5]", "--set", "Detection.std=[0.5,0.5,0.5]"],
    ],
    ids=" ".join,
)
def test_options_that_change_the_way_but_not_the_text(cli, sign, options):
    done = cli("predict", sign, *options)
    assert (done.code, done.err) == (0, "")
    assert squeeze(done.out) == SIGN


def test_text_score_leaves_lines_out(cli, sign):
    done = cli("predict", sign, "--text-score", "1.0", "--orientation", "line")
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith(f"No text found in {sign}; ")
    assert "--text-score 0.9" in done.err


def test_pipeline_file_is_used_and_named_in_errors(cli, sign, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("Recognition: {text_score: 1.0}\n")
    assert cli("predict", sign, "--pipeline", path).out == ""
    # An option overrides the file.
    assert squeeze(cli("predict", sign, "--pipeline", path, "--text-score", "0.5").out) == SIGN
    path.write_text("Recognition: {text_scores: 1.0}\n")
    done = cli("predict", sign, "--pipeline", path)
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith(f"Error: {path}: unknown key Recognition.text_scores\nHint: ")
    assert "Recognition.text_score?" in done.err


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--format", "xml"], 2, "xml"),
        (["--engine", "nix"], 2, "nix"),
        (["--limit-type", "nix"], 2, "nix"),
        (["--limit-side-len", "many"], 2, "'--limit-side-len'"),
        (["--nix"], 2, "--nix"),
        (["--set", "Detection.thresh"], 2, "expected KEY=VALUE"),
        (["--device", "tpu"], 2, "--device"),
        (["--engine", "paddle", "--use-hpip"], 2, "use_hpip=True"),
        (["--limit-side-len", "5"], 2, "--limit-side-len"),
        (["--text-score", "2"], 2, "from 0 to 1"),
        (["--threads", "0"], 2, "--threads"),
        (["--set", "Detection.tresh=1"], 2, "Detection.thresh?"),
        (["--set", "Detection.thresh=2"], 2, "from 0 to 1"),
        (["--set", "Detection.thresh="], 2, "from 0 to 1"),
        (["--set", "Detection.thresh=2024-99-99"], 2, "from 0 to 1"),
        (["--set", "Detection.thresh=[1"], 2, "from 0 to 1"),
        (["--pipeline", "nix"], 3, "unknown pipeline 'nix'"),
        (["--pipeline", "nix.yaml"], 3, "no such pipeline file"),
        (["--det-model", "nix"], 5, "unknown model nix"),
        (["--rec-model", "PP-OCRv4_mobile_det"], 5, "PP-OCRv4_mobile_det"),
        (["--device", "gpu:0", "--use-hpip"], 6, "gpu:0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_options(cli, sign, options, code, reason):
    done = cli("predict", sign, *options)
    assert (done.code, done.out) == (code, "")
    assert reason in done.err


def test_standard_input_is_not_both_a_picture_and_a_list(cli, sign):
    for inputs in (["-"], [sign, "-"]):
        done = cli("predict", *inputs, "--from-file", "-", stdin=sign.read_bytes())
        assert (done.code, done.out) == (2, "")
        assert "--from-file -" in done.err
        assert "\nHint: " in done.err
    assert cli("predict", sign, "--from-file", "-", stdin=b"").code == 0


def test_own_recogniser_of_another_height_and_an_odd_dictionary(cli, sign, write_recognizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recognizer(tmp_path / "2024", classes=6, dark_class=4, dictionary="a\n\nb\na\n\n\n")
    done = cli("predict", sign, "--set", "Pipeline.text_rec_model=2024", "--set", "Detection.thresh=3e-1")
    assert (done.code, done.err) == (0, "")
    assert set(done.out) == {"a", "\n"}
    done = cli("predict", sign, "--rec-model", "2024", "--set", "Recognition.image_shape=[3, 48, 320]")
    assert (done.code, done.out) == (5, "")
    for words in ("2024: ", " 32, ", "Recognition.image_shape", " 48 ", "--set"):
        assert words in done.err


def test_no_input_is_a_usage_error(cli):
    done = cli("predict")
    assert (done.code, done.out) == (2, "")


def test_version(cli):
    done = cli("--version")
    assert (done.code, done.out, done.err) == (0, f"edge-ocr {__version__}\n", "")


def test_debug_shows_where_an_error_came_from(start_cli):
    process = start_cli("--debug", "predict", "missing.png", "--det-model", "x", stderr=subprocess.PIPE)
    assert process.wait(timeout=60) == 4
    process = start_cli("--debug", "config", "get", "nix", stderr=subprocess.PIPE)
    err = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 3
    assert "Traceback" in err
    assert "Error: unknown pipeline 'nix'" in err


# Processes, pipes and terminals


def test_process_prints_results_and_nothing_else(cli_process, sign):
    done = cli_process("predict", sign, "missing.png", "--format", "json")
    assert done.code == 4
    assert [len(result["rec_text"]) for result in json.loads(done.out)] == [4]
    assert done.err.startswith("Error: no such file: missing.png\n")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_stdout_that_cannot_hold_the_text_gets_escapes(cli_process, sign, encoding):
    done = cli_process("predict", sign, "--format", "json", PYTHONIOENCODING=encoding)
    assert (done.code, done.err) == (0, "")
    assert squeeze("\n".join(json.loads(done.out)["rec_text"])) == SIGN


def test_name_that_is_no_utf8(cli_process, sign, tmp_path):
    name = os.fsdecode(b"\xce\xd2.png")
    shutil.copy(sign, tmp_path / name)
    done = cli_process("predict", tmp_path, "--format", "json", "--save-path", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    assert [result["input_path"] for result in json.loads(done.out)] == [str(tmp_path / name)]


def test_closed_pipe_is_silent(start_cli, sign):
    process = start_cli("predict", *[sign] * 20, "--format", "text", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == b""


@pytest.mark.parametrize("output_format", ["json", "jsonl"])
def test_ctrl_c_keeps_what_is_finished(start_cli, sign, output_format):
    process = start_cli(
        "predict", *[sign] * 300, "--format", output_format, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    # The first byte of a result has arrived: it is in the middle of them, perhaps even of this one.
    first = process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    out = first + out
    read = json.loads(out) if output_format == "json" else list(map(json.loads, out.splitlines()))
    assert 1 <= len(read) < 300
    assert all(squeeze("\n".join(result["rec_text"])) == SIGN for result in read)
    assert "Interrupted." in err.decode()
    assert "Traceback" not in err.decode()


def test_ctrl_c_with_an_unread_pipe_splits_no_result(start_cli, examples):
    # A result of 46 lines is longer than this pipe: once it is full, the process waits in the middle of one.
    process = start_cli(
        "predict",
        *[examples / "receipt.jpg"] * 50,
        "--format",
        "json",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pipesize=4096,
    )
    deadline = time.monotonic() + 60
    while count_unread(process.stdout) < 4096:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    # Time for the signal to arrive before the reader does.
    time.sleep(0.5)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert [len(result["rec_text"]) for result in json.loads(out)] == [46]
    assert "Traceback" not in err.decode()


def count_unread(pipe: IO[bytes]) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def read_terminal(process: subprocess.Popen[bytes], terminal: int) -> str:
    """Read everything a process writes to its terminal."""
    content = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.1)[0]:
            if process.poll() is not None:
                break
            continue
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # what Linux reports for a terminal whose other end is closed
            break
        if not chunk:
            break
        content += chunk
    process.wait(timeout=10)
    return content.decode()


def run_in_terminal(start_cli, *arguments: object) -> str:
    main_end, other_end = pty.openpty()
    try:
        process = start_cli(*arguments, stdin=other_end, stdout=other_end, stderr=other_end)
        os.close(other_end)
        return read_terminal(process, main_end)
    finally:
        os.close(main_end)


def test_terminal_gets_a_table(start_cli, sign):
    shown = run_in_terminal(start_cli, "predict", sign)
    assert "山茶书店" in shown
    assert "4 lines" in shown
    assert "│" in shown
    assert "Reading" not in shown


def test_terminal_gets_a_progress_bar_for_several_pictures(start_cli, sign, upside_down):
    shown = run_in_terminal(start_cli, "predict", sign, upside_down, sign)
    assert "Reading" in shown
    assert "/3" in shown
    assert shown.count("山茶书店") == 2
