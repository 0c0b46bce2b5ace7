"""Many pictures: several processes, their order, and resumed files."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.processes import is_running

from edge_ocr.batch import JsonLinesFile, Outcome, list_tree, read_many
from edge_ocr.config import load_config
from edge_ocr.errors import EdgeOcrError, InputError, ModelError, UsageError
from edge_ocr.inputs import Source

NAMES = ("sign", "label", "upside_down", "receipt")


@pytest.fixture(scope="module")
def tree(examples, tmp_path_factory) -> Path:
    """Pictures in folders, one of them bad."""
    folder = tmp_path_factory.mktemp("tree")
    for place in ("b", "a/deep", "a", "."):
        (folder / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(examples / "sign.png", folder / place / "sign.png")
    (folder / "b" / "note.txt").write_text("no picture")
    (folder / "a" / "bad.png").write_bytes(b"no picture")
    (folder / "link").symlink_to(folder, target_is_directory=True)
    return folder


def test_tree_is_listed_in_order(tree):
    found = [str(Path(source.input_path).relative_to(tree)) for source in list_tree(tree, [])]
    assert found == ["sign.png", "a/bad.png", "a/sign.png", "a/deep/sign.png", "b/sign.png"]


def test_unreadable_folder_is_reported_and_the_next_is_read(examples, tmp_path):
    for place in ("a", "b", "c"):
        (tmp_path / place).mkdir()
        shutil.copy(examples / "sign.png", tmp_path / place)
    failures: list[EdgeOcrError] = []
    listing = list_tree(tmp_path, failures)
    found = [next(listing)]
    shutil.rmtree(tmp_path / "b")
    found += listing
    assert [source.input_path for source in found] == [str(tmp_path / place / "sign.png") for place in "ac"]
    assert [error.message for error in failures] == [f"{tmp_path}/b cannot be read: No such file or directory"]
    assert failures[0].exit_code == InputError.exit_code


def test_names_that_cannot_be_followed_are_reported_on_reading(tmp_path, monkeypatch):
    (tmp_path / "a.png").touch()

    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    assert [source.input_path for source in list_tree(tmp_path, [])] == [str(tmp_path / "a.png")]


class Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (9,)


def describe(outcomes: list[Outcome]) -> list[tuple[str | None, list[str] | str]]:
    return [
        (
            o.source.input_path,
            o.error.message if o.error else [text for line in o.lines for text in json.loads(line)["rec_text"]],
        )
        for o in outcomes
    ]


@pytest.mark.usefixtures("default_models")
def test_one_process_reads_as_the_pipeline(tree, read_example):
    outcomes = list(read_many(list_tree(tree, []), load_config("OCR")))
    texts = read_example("sign.png")["rec_text"]
    found = [found for _, found in describe(outcomes)]
    assert found == [texts, f"{tree}/a/bad.png is not a supported picture", texts, texts, texts]


@pytest.mark.usefixtures("default_models")
@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_bad_page_does_not_cost_the_others_and_empty_ones_are_reported(examples, make_mixed_pdf, tmp_path, jobs):
    mixed = make_mixed_pdf(tmp_path / "mixed.pdf", examples / "sign.png")
    paths = (mixed, examples / "upside_down.png", examples / "sign.png")
    sources = [Source(path, str(path)) for path in paths]
    first, second, third = read_many(sources, load_config("OCR"), jobs=jobs)
    pages = [json.loads(line) for line in first.lines]
    assert [
        (page["page_index"], page["page_count"], page["missing_pages"], len(page["rec_text"])) for page in pages
    ] == [(0, 3, [1], 4), (2, 3, [1], 4)]
    assert first.error.message.startswith(f"page 2 of {mixed} ")
    assert "178,956,970 pixels" in first.error.message
    assert "Input.max_pixels" in first.error.hint
    assert (first.notes, third.notes) == ((), ())
    (note,) = second.notes
    assert str(examples / "upside_down.png") in note
    assert "--orientation" in note
    assert (second.error, third.error) == (None, None)
    assert not {"missing_pages", "page_count"} & json.loads(third.lines[0]).keys()


@pytest.mark.slow
@pytest.mark.usefixtures("default_models")
def test_several_processes_keep_the_order(tree):
    config = load_config("OCR")
    alone = describe(list(read_many(list_tree(tree, []), config)))
    assert describe(list(read_many(list_tree(tree, []), config, jobs=2))) == alone


@pytest.mark.slow
def test_several_processes_read_with_the_models_own_settings(default_models, examples, tmp_path):
    model = default_models["PP-OCRv4_mobile_det"]
    for path in (model.program, model.params):
        shutil.copy(path, tmp_path)
    (tmp_path / "inference.yml").write_text("PostProcess: {name: DBPostProcess, box_thresh: 0.9}\n")
    config = load_config("OCR", {"Pipeline.text_det_model": str(tmp_path)})
    source = Source(examples / "receipt.jpg", "receipt")
    (alone,), (pooled,) = (list(read_many([source], config, jobs=jobs)) for jobs in (1, 2))
    (expected,), (found,) = (list(map(json.loads, outcome.lines)) for outcome in (alone, pooled))
    # With another number of threads, sums are rounded in another order.
    for score in ("rec_score", "dt_scores"):
        assert found.pop(score) == pytest.approx(expected.pop(score), abs=1e-5)
    assert found == expected
    assert len(expected["rec_text"]) < 40


@pytest.mark.slow
@pytest.mark.usefixtures("default_models")
def test_process_that_dies_fails_one_picture(tree, examples, read_example):
    good = [Source(examples / "sign.png", str(index)) for index in range(6)]
    sources = [*good[:3], Source(Deadly(), "deadly"), *good[3:]]
    outcomes = describe(list(read_many(sources, load_config("OCR"), jobs=2)))
    texts = read_example("sign.png")["rec_text"]
    assert outcomes == [
        *((str(index), texts) for index in range(3)),
        ("deadly", "deadly: the process that read it died"),
        *((str(index), texts) for index in range(3, 6)),
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("default_models")
def test_process_may_die_while_idle(examples):
    names = [str(index) for index in range(12)]
    sources = [Source(Deadly() if name == "3" else examples / "sign.png", name) for name in names]
    outcomes = []
    for outcome in read_many(sources, load_config("OCR"), jobs=2):
        if not outcomes:
            # The next inputs are given to processes one of which is dead.
            time.sleep(5)
        outcomes.append(outcome)
    assert [outcome.source.input_path for outcome in outcomes] == names
    assert [outcome.source.input_path for outcome in outcomes if outcome.error is not None] == ["3"]


@pytest.mark.slow
@pytest.mark.usefixtures("default_models")
def test_processes_end_with_one_that_is_killed(examples):
    program = """
import multiprocessing, sys, time
from pathlib import Path
from edge_ocr.batch import read_many
from edge_ocr.config import load_config
from edge_ocr.inputs import Source

reading = read_many([Source(Path(sys.argv[1]), str(turn)) for turn in range(2)], load_config("OCR"), jobs=2)
[next(reading), next(reading)]
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
time.sleep(100)
"""
    command = [sys.executable, "-c", program, str(examples / "sign.png")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        children = parent.stdout.readline().split()
        parent.kill()
    assert 1 <= len(children) <= 2
    deadline = time.monotonic() + 20
    while any(is_running(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.usefixtures("default_models")
def test_only_a_few_are_under_way(examples):
    asked = 0

    def give():
        nonlocal asked
        for index in range(1000):
            asked += 1
            yield Source(examples / "sign.png", str(index))

    reading = read_many(give(), load_config("OCR"), jobs=2)
    assert next(reading).source.input_path == "0"
    assert asked <= 10
    reading.close()


def test_bad_models_are_reported_before_anything_is_read():
    config = load_config("OCR", {"Pipeline.text_rec_model": "no-such-model"})
    with pytest.raises(ModelError):
        next(read_many([], config, jobs=2))


# --- The file


def make_line(path: str, text: str = "a", **more: object) -> str:
    return json.dumps({"input_path": path, "dt_polys": [], "rec_text": [text], **more}, ensure_ascii=False)


def test_lines_are_written_as_they_arrive(tmp_path):
    path = tmp_path / "out.jsonl"
    with JsonLinesFile(path) as file:
        file.write([make_line("a")])
        assert path.read_text() == make_line("a") + "\n"
        file.write([make_line("b", "1"), make_line("b", "2")])
        file.write([])
    assert path.read_text().splitlines() == [make_line("a"), make_line("b", "1"), make_line("b", "2")]


def test_existing_file_is_unchanged(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("days of work\n")
    with pytest.raises(UsageError, match=r"out\.jsonl"):
        JsonLinesFile(path)
    assert path.read_text() == "days of work\n"


ODD = 'c"\\é'
"""In the file: a quote and a backslash, both escaped, and a letter of two bytes."""


def make_page(path: str, page: int, count: int | None = None, *missing: int) -> str:
    more = {"page_count": count} if count else {}
    return make_line(path, page_index=page, **more, **({"missing_pages": list(missing)} if missing else {}))


@pytest.mark.parametrize("cut", range(1, len(make_page(ODD, 1, 2).encode()) + 1))
def test_resume_removes_a_partial_line(tmp_path, cut):
    path = tmp_path / "out.jsonl"
    # The third input has one complete page and a partial one.
    whole = "".join(f"{line}\n" for line in (make_line("a"), make_line("b"), make_page(ODD, 0, 2)))
    path.write_bytes(whole.encode() + make_page(ODD, 1, 2).encode()[:cut])
    with JsonLinesFile(path, resume=True) as file:
        assert file.done == {"a", "b"}
        assert path.read_text() == whole
        file.write([make_page(ODD, page, 2) for page in range(2)], ODD)
    assert path.read_text() == whole + make_page(ODD, 1, 2) + "\n"


@pytest.mark.parametrize("count", [2, 3, None], ids=["whole", "lacking", "unknown"])
def test_resume_keeps_pages_of_an_incomplete_input(tmp_path, count):
    path = tmp_path / "out.jsonl"
    whole = [make_line("a"), *(make_page("doc", page, count) for page in range(2))]
    path.write_text("".join(f"{line}\n" for line in whole))
    done = {"a", "doc"} if count == 2 else {"a"}
    with JsonLinesFile(path, resume=True) as file:
        assert file.done == done
        # Existing lines stay whatever is read next.
        file.write([make_line("other")], "other")
    assert path.read_text().splitlines() == [*whole, make_line("other")]
    # Later lines do not complete it.
    with JsonLinesFile(path, resume=True) as file:
        assert file.done == {*done, "other"}
        if count != 2:
            file.write([make_page("doc", page, 3) for page in range(3)], "doc")
    added = [] if count == 2 else [make_page("doc", 2, 3)]
    assert path.read_text().splitlines() == [*whole, make_line("other"), *added]
    with JsonLinesFile(path, resume=True) as file:
        assert file.done == {"a", "doc", "other"}


def test_standard_input_is_never_done(tmp_path):
    path = tmp_path / "out.jsonl"
    before = [make_line("-"), make_page("-", 0, 2), make_page("-", 1, 2), make_line("a")]
    path.write_text("".join(f"{line}\n" for line in before))
    with JsonLinesFile(path, resume=True) as file:
        assert file.done == {"a"}
        file.write([make_page("-", 0, 2), make_page("-", 1, 2)], "-")
    assert path.read_text().splitlines() == [*before, *before[1:3]]


def test_resume_retries_missing_pages_and_duplicates_none(tmp_path):
    path = tmp_path / "out.jsonl"
    before = [make_page("a", 0, 4, 1, 3), make_page("a", 2, 4, 1, 3), make_line("b")]
    path.write_text("".join(f"{line}\n" for line in before))
    # Page 4 is still missing.
    with JsonLinesFile(path, resume=True) as file:
        assert file.done == {"b"}
        file.write([make_page("a", page, 4, 3) for page in range(3)], "a")
        file.write([make_line("c")], "c")
    assert path.read_text().splitlines() == [*before, make_page("a", 1, 4, 3), make_line("c")]
    with JsonLinesFile(path, resume=True) as file:
        assert file.done == {"b", "c"}
        file.write([make_page("a", page, 4) for page in range(4)], "a")
        file.write([make_line("d")], "d")
    lines = path.read_text().splitlines()
    assert lines == [*before, make_page("a", 1, 4, 3), make_line("c"), make_page("a", 3, 4), make_line("d")]
    with JsonLinesFile(path, resume=True) as file:
        assert file.done == {"a", "b", "c", "d"}
    assert path.read_text().splitlines() == lines


def test_input_that_now_has_one_page_is_done(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("".join(f"{line}\n" for line in (make_page("a", 0, 2, 1), make_line("b"), make_line("a"))))
    with JsonLinesFile(path, resume=True) as file:
        assert file.done == {"a", "b"}


def test_resume_of_a_complete_or_new_file_changes_nothing(tmp_path):
    path = tmp_path / "out.jsonl"
    for content in ("", "".join(make_line(name) + "\n" for name in "aab")):
        path.write_text(content)
        with JsonLinesFile(path, resume=True) as file:
            assert file.done == set("ab" if content else "")
        assert path.read_text() == content
    with JsonLinesFile(tmp_path / "new.jsonl", resume=True) as file:
        assert file.done == set()


@pytest.mark.parametrize(
    "content",
    [
        "text\nmore\n",
        '{"a": 1}\n{"a": 2}\n',
        "[]\n[]\n",
        "[" * 100_000 + "\n\n",
        '{"input_path":"x.png","label":"precious"}\n',
        '{"input_path":"x.png","label":"precious","page_index":3}\n',
        '{"input_path": "x.png", "label": "precious", "dt_polys": [], "rec_text": []}\n',
        '{"input_path": "x.png", "dt_polys": []}\n',
        '{"input_path": "x.png", "dt_polys": [], "rec_text": "a"}\n',
        '{"input_path": "x.png", "dt_polys": [], "rec_text": [], "page_index": 0, "page_count": "2"}\n',
        '{"input_path": "a", "page_index": [0]}\n',
        # One line, with and without a line break.
        "ssh-ed25519 AAAAC3Nz a-key",
        "a note\n",
        "\n",
        "\n\n\n",
        "{}",
        '{"a": 1}',
        '{"input_path": null, "dt_polys": []}',
        '{"input_path": "a.png", "res": [1, 2]}',
        '{"input_path": "a.png", "res": [1',
        '{"input_path":"a.png"',
        '{"input_path": "a\tb',
        "\0" * 20,
    ],
)
@pytest.mark.parametrize(
    "before", ["", make_line("a") + "\n", make_line("a", page_index=0) + "\n"], ids=["alone", "line", "page"]
)
def test_resume_of_another_file_is_refused_and_leaves_it_unchanged(tmp_path, before, content):
    path = tmp_path / "out.jsonl"
    path.write_text(before + content)
    number = before.count("\n") + 1
    with pytest.raises(UsageError, match=rf"out\.jsonl: line {number} ") as caught:
        JsonLinesFile(path, resume=True)
    assert "another --output" in caught.value.hint
    assert path.read_text() == before + content


@pytest.mark.parametrize("content", ["{", '{"', '{"input_path"', '{"input_path": '])
def test_file_that_may_not_be_ours_is_left_unchanged(tmp_path, content):
    path = tmp_path / "out.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError, match="line 1 "):
        JsonLinesFile(path, resume=True)
    assert path.read_text() == content


def test_odd_names_are_found_again(tmp_path):
    path = tmp_path / "out.jsonl"
    names = ["caf\udce9.png", "山茶.png", 'a"b\\c.png', "a\u2028b"]
    with JsonLinesFile(path) as file:
        for name in names:
            file.write([make_line(name)])
    with JsonLinesFile(path, resume=True) as file:
        assert file.done == set(names)


def test_two_processes_do_not_write_one_file(tmp_path):
    path = tmp_path / "out.jsonl"
    with JsonLinesFile(path), pytest.raises(UsageError, match=r"out\.jsonl"):
        JsonLinesFile(path, resume=True)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_place_without_locks_is_reported(tmp_path, monkeypatch, number):
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "out.jsonl"
    path.write_text(make_line("a") + "\n")
    with pytest.raises(UsageError, match=rf"--output .*: {os.strerror(number)}$"):
        JsonLinesFile(path, resume=True)
    assert path.read_text() == make_line("a") + "\n"


def test_place_that_cannot_be_written_is_reported(tmp_path):
    for path in (tmp_path, tmp_path / "none" / "out.jsonl"):
        with pytest.raises(UsageError):
            JsonLinesFile(path)


def test_an_output_that_is_not_a_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(UsageError, match=f"--output {path}: "):
            JsonLinesFile(path, resume=True)


def test_full_disk_is_reported_with_a_hint(mount_small_disk):
    path = mount_small_disk("4k") / "out.jsonl"
    with JsonLinesFile(path) as file:
        file.write([make_line("a")])
        with pytest.raises(UsageError, match=r"--output .*out\.jsonl: disk full") as caught:
            file.write([make_line("b", "b" * 5000)])
        assert "--resume" in caught.value.hint
        assert path.read_text() == make_line("a") + "\n"


def test_file_that_is_too_large_for_the_limits_leaves_whole_lines(tmp_path):
    path = tmp_path / "out.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with JsonLinesFile(path) as file:
        file.write([make_line("a")])
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
        try:
            with pytest.raises(UsageError, match=r"out\.jsonl: File too large"):
                file.write([make_line("b"), make_line("b")])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
        assert path.read_text() == make_line("a") + "\n"
        file.write([make_line("c")])
    assert path.read_text() == make_line("a") + "\n" + make_line("c") + "\n"
