"""`edge-ocr predict` on many pictures: --output, --resume, --jobs, --recursive, --from-file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("default_models")


@pytest.fixture(scope="module")
def tree(examples, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("a.png", "b/c.png", "b/d/e.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(examples / "sign.png", folder / name)
    return folder


def list_paths(output: Path, root: Path) -> list[str]:
    return [str(Path(json.loads(line)["input_path"]).relative_to(root)) for line in output.read_text().splitlines()]


def test_tree_is_written_to_a_file(cli, tree, tmp_path):
    output = tmp_path / "out.jsonl"
    done = cli("predict", tree, "--recursive", "--output", output)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert list_paths(output, tree) == ["a.png", "b/c.png", "b/d/e.png"]
    assert all(len(json.loads(line)["rec_text"]) == 4 for line in output.read_text().splitlines())


def test_folder_stays_flat_without_recursive(cli, tree):
    done = cli("predict", tree, "--format", "jsonl")
    assert [json.loads(line)["input_path"] for line in done.out.splitlines()] == [str(tree / "a.png")]


def test_tree_is_printed_too(cli, tree):
    done = cli("predict", tree, "-r", "--format", "json")
    assert len(json.loads(done.out)) == 3


def test_resume_reads_what_is_left(cli, tree, tmp_path):
    output = tmp_path / "out.jsonl"
    assert cli("predict", tree / "b", "-r", "--output", output).code == 0
    before = output.read_bytes()
    refused = cli("predict", tree, "-r", "--output", output)
    assert refused.code == 2
    assert "--resume" in refused.err
    assert output.read_bytes() == before
    done = cli("predict", tree, "-r", "--output", output, "--resume")
    assert (done.code, done.err) == (0, f"{output}: 2 done before\n")
    assert output.read_bytes().startswith(before)
    assert list_paths(output, tree) == ["b/c.png", "b/d/e.png", "a.png"]


@pytest.mark.parametrize("stdin", [False, True], ids=["file", "stdin"])
def test_list_of_names_is_read(cli, tree, tmp_path, stdin):
    # A blank line, Windows line ends, and a name that is not UTF-8.
    odd = os.fsdecode(b"caf\xe9.png")
    shutil.copy(tree / "a.png", tmp_path / odd)
    names = f"{tree / 'b/c.png'}\r\n\n{tree / 'none.png'}\n".encode() + os.fsencode(tmp_path / odd)
    (tmp_path / "list.txt").write_bytes(names)
    given = "-" if stdin else tmp_path / "list.txt"
    output = tmp_path / "out.jsonl"
    done = cli("predict", "--from-file", given, "--output", output, stdin=names if stdin else None)
    assert done.code == 4
    assert "no such file" in done.err
    assert "1 not read" in done.err
    paths = [json.loads(line)["input_path"] for line in output.read_text().splitlines()]
    assert paths == [str(tree / "b/c.png"), str(tmp_path / odd)]


def test_bad_picture_is_reported_and_tried_again(cli, tree, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(tree, folder)
    (folder / "bad.png").write_bytes(b"")
    output = tmp_path / "out.jsonl"
    first = cli("predict", folder, "--output", output)
    assert first.code == 4
    assert "bad.png is empty" in first.err
    shutil.copy(tree / "a.png", folder / "bad.png")
    assert cli("predict", folder, "--output", output, "--resume").code == 0
    assert list_paths(output, folder) == ["a.png", "bad.png"]


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_bad_page_is_reported_and_tried_again(cli, tree, make_mixed_pdf, tmp_path, jobs):
    mixed, output = tmp_path / "in" / "mixed.pdf", tmp_path / "out.jsonl"
    mixed.parent.mkdir()
    shutil.copy(tree / "a.png", mixed.parent / "z.png")
    make_mixed_pdf(mixed, tree / "a.png")
    options = ("predict", mixed.parent, "--output", output, "--jobs", jobs)
    message = f"Error: page 2 of {mixed} has more than 178,956,970 pixels at 200 dpi\n"
    for more in ((), ("--resume",), ("--resume",)):
        done = cli(*options, *more)
        assert (done.code, done.out) == (4, "")
        assert done.err.count(message) == 1
        assert done.err.endswith("1 not read or not saved.\n")
        results = [json.loads(line) for line in output.read_text().splitlines()]
        assert [(Path(result["input_path"]).name, result.get("page_index")) for result in results] == [
            ("mixed.pdf", 0),
            ("mixed.pdf", 2),
            ("z.png", None),
        ]
        assert all(len(result["rec_text"]) == 4 for result in results)
    # Once it is repaired, its second page is added, and it is done.
    mixed.write_bytes(mixed.read_bytes().replace(b"0 0 14400 14400", b"0 0 100.0 100.0"))
    assert cli(*options, "--resume").code == 0
    results = [json.loads(line) for line in output.read_text().splitlines()]
    assert [result.get("page_index") for result in results] == [0, 2, None, 1]
    shutil.copy(tree / "a.png", mixed.parent / "zz.png")
    assert cli(*options, "--resume").code == 0
    assert [json.loads(line).get("page_index") for line in output.read_text().splitlines()] == [0, 2, None, 1, None]


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_picture_without_text_is_reported(cli, examples, tree, tmp_path, jobs):
    upside_down, output = examples / "upside_down.png", tmp_path / "out.jsonl"
    done = cli("predict", tree / "a.png", upside_down, "--output", output, "--jobs", jobs)
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith(f"No text found in {upside_down}; ")
    assert "--orientation" in done.err
    assert done.err.count("\n") == 1
    assert [len(json.loads(line)["rec_text"]) for line in output.read_text().splitlines()] == [4, 0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "no INPUT"),
        (["a.png", "--resume"], "--output"),
        (["a.png", "--jobs", "2"], "--output"),
        (["a.png", "--output", "o", "--save-path", "p"], "--save-path"),
        (["a.png", "--output", "o", "--format", "table"], "table"),
        (["-", "--output", "o", "--jobs", "2"], "standard input"),
        (["-", "--output", "o", "--from-file", "-"], "--from-file -"),
        (["--from-file", "none.txt"], "none.txt"),
        (["a.png", "--output", "."], "--output"),
    ],
)
def test_invalid_options_are_refused(cli, options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = cli("predict", *options)
    assert done.code == 2, done.err
    assert words in done.err
    assert list(tmp_path.iterdir()) == []


def test_empty_tree_is_reported(cli, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    done = cli("predict", tmp_path / "in", "-r", "--output", tmp_path / "out.jsonl")
    assert done.code == 4
    assert "no pictures" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_interrupted_run_is_continued(tree, tmp_path, cli_env, cli_process, name):
    names = tmp_path / "list.txt"
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(40):
        (folder / f"{index:02d}.png").symlink_to(tree / "a.png")
    names.write_text("".join(f"{path}\n" for path in sorted(folder.iterdir())))
    output = tmp_path / "out.jsonl"
    options = ["predict", "--from-file", str(names), "--output", str(output), "--jobs", "2"]
    child = subprocess.Popen(
        [sys.executable, "-m", "edge_ocr", *options],
        env=cli_env,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 90
    while not (output.exists() and output.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.02)
    # Ctrl-C at a terminal reaches every process of the command.
    os.killpg(child.pid, getattr(signal, name))
    _, err = child.communicate(timeout=60)
    assert child.returncode == {"SIGINT": 130, "SIGKILL": -9}[name]
    count = output.read_bytes().count(b"\n")
    assert count < 40
    if name == "SIGINT":
        assert err.startswith(f"\nInterrupted: {count} inputs are done in {output}; --resume ")
    assert err.count("\n") == (2 if name == "SIGINT" else 0)
    done = cli_process(*options, "--resume")
    assert done.code == 0, done.err
    assert f"{count} done before" in done.err
    assert list_paths(output, folder) == [f"{index:02d}.png" for index in range(40)]


def test_ctrl_c_counts_what_was_done_before_and_not_what_failed(tree, start_cli, cli, tmp_path):
    output = tmp_path / "out.jsonl"
    names = [tmp_path / f"{index:03d}.png" for index in range(300)]
    for path in names:
        path.symlink_to(tree / "a.png")
    names[2].unlink()
    names[2].write_bytes(b"")
    assert cli("predict", names[0], "--output", output).code == 0
    process = start_cli("predict", tmp_path, "--output", output, "--resume", stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while output.read_bytes().count(b"\n") < 4:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    count = output.read_bytes().count(b"\n")
    assert err.decode().startswith(f"{output}: 1 done before\n\nInterrupted: {count} inputs are done in {output}; ")


def test_one_odd_name_does_not_end_the_list(cli, tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(tree / "a.png", "-")
    names = ["x" * 5000, "a\0b", "-", str(tree / "b/c.png")]
    (tmp_path / "list.txt").write_text("\n".join(names))
    output = tmp_path / "out.jsonl"
    done = cli("predict", "-r", "--from-file", tmp_path / "list.txt", "--output", output)
    assert done.code == 4
    assert "File name too long" in done.err
    assert "2 not read" in done.err
    paths = [json.loads(line)["input_path"] for line in output.read_text().splitlines()]
    assert paths == ["./-", names[3]]
