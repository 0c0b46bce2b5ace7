"""Counts of networks: on a stand-in for Paddle-Lite, and on the real library if available."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.nb_cuts import cut_nb
from support.nb_programs import build_model, feed, fetch, unary

from converters.emulate.counts import OTHER_CODE
from converters.emulate.meter import Meter, _parse_output, check_shape, list_shapes, make_input, open_bundle, open_meter
from converters.emulate.plugin import Cache
from converters.lite.nb.read import parse_nb
from edge_ocr.errors import ModelError, NotVerifiedError, UsageError

pytestmark = pytest.mark.board

OPS = 7
"""As in the stand-in."""
X = np.ones((1, 3, 4, 5), np.float32)
MODEL = build_model([feed("x"), *[unary("relu")] * OPS, fetch("y")], {"x": (-1, 3, -1, -1)})


@pytest.fixture
def open_stand_in(use_stand_in, board_bundle) -> Callable[..., object]:
    def open_it(**options: object):
        use_stand_in()
        return open_meter(open_bundle(board_bundle), **{"cache": Cache(), **options})

    return open_it


def write_word(folder: Path, word: str) -> Path:
    path = folder / f"{word}.nb"
    path.write_text(word, encoding="utf-8")
    return path


def test_a_run_is_counted_by_op_and_by_function(open_stand_in, tmp_path):
    with open_stand_in() as meter:
        run = meter.run(write_word(tmp_path, "ops"), MODEL, X)
    np.testing.assert_array_equal(run.output, 2 * X)
    # Five instructions a round, 1000 rounds more an op.
    instructions = [op.instructions for op in run.counts.ops]
    assert set(np.diff(instructions[:-1])) == {5000}
    assert 0 < instructions[0] - 5000 < 100
    assert set(np.diff([op.loads for op in run.counts.ops[:-1]])) == {1000}
    kernels = run.counts.sum_kernels(meter._symbols, *run.code)
    assert abs(kernels["paddle::lite_api::work(long)"] - 5000 * sum(range(OPS + 1))) < 100
    assert 0 < kernels[OTHER_CODE] < run.counts.total.instructions
    assert sum(kernels.values()) == run.counts.total.instructions


def test_counts_do_not_depend_on_the_surroundings(open_stand_in, tmp_path, monkeypatch):
    with open_stand_in() as meter:
        first = meter.run(write_word(tmp_path, "ops"), MODEL, X)
    far = tmp_path / ("far" * 30)
    far.mkdir()
    monkeypatch.setenv("TMPDIR", str(far))
    monkeypatch.setenv("LONG", "x" * 5000)
    monkeypatch.setattr("tempfile.tempdir", None)
    with open_meter(open_bundle(meter._bundle.folder), cache=Cache()) as other:
        second = other.run(write_word(far, "ops"), MODEL, X)
    executed = [
        [(op.instructions, op.loads, op.stores) for op in (counts.total, *counts.ops)]
        for counts in (first.counts, second.counts)
    ]
    assert executed[0] == executed[1]
    # The emulator puts the program's path on the stack, so single lines of the cache may move.
    assert abs(first.counts.total.read_bytes - second.counts.total.read_bytes) <= 4 * Cache().line_bytes


def test_without_a_cache_bytes_are_not_counted(open_stand_in, tmp_path):
    with open_stand_in(is_modelled=False) as meter:
        counts = meter.run(write_word(tmp_path, "ops"), MODEL, X).counts.total
    assert counts.instructions > 100_000
    assert (counts.read_bytes, counts.written_bytes) == (0, 0)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("abort-load", r"killed by SIGABRT.*no model"),
        ("throw-run", r"exit code 2.*no such broadcast"),
        ("abort-run", r"killed by SIGABRT.*3!=4"),
        ("double", "once per operator"),
    ],
)
def test_a_run_that_fails_is_quoted(open_stand_in, tmp_path, word, message):
    path = write_word(tmp_path, word)
    with (
        open_stand_in() as meter,
        pytest.raises(NotVerifiedError, match=rf"(?s)^{path} under qemu-aarch64: .*{message}"),
    ):
        meter.run(path, MODEL, X)


SAID = "[I 1/1 a.cc] hello\nversion v2.13-rc\nlibrary 5500000000 5500400000\noutput 1 40 97\n"


def test_what_the_program_prints_is_read():
    said = _parse_output(f"output of something else\n{SAID}".replace("output of", "Output of"), Path("x.nb"))
    assert (said.version, said.code, said.shape) == ("v2.13-rc", (0x5500000000, 0x5500400000), (1, 40, 97))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("output 1 40 97\n", ""),
        ("output 1 40 97\n", "output 1 40 97"),
        ("output 1 40", "output 0 40"),
        ("output 1 40 97", "output"),
        ("output 1", "output -1"),
        ("library 5500000000 ", "library "),
        ("version v2.13-rc\n", ""),
        (SAID, SAID + SAID),
    ],
)
def test_what_the_program_should_not_print_is_refused(before, after):
    assert before in SAID
    with pytest.raises(NotVerifiedError, match=r"x\.nb: edge-ocr-lite-count"):
        _parse_output(SAID.replace(before, after), Path("x.nb"))


def test_a_bundle_for_phones_is_counted_with_the_library_for_boards(use_stand_in, project, tmp_path):
    use_stand_in()
    with open_meter(open_bundle(project), cache=Cache()) as meter:
        assert meter.run(write_word(tmp_path, "ops"), MODEL, X).counts.total.instructions > 100_000


def test_a_library_of_another_version_is_refused(use_stand_in, board_bundle):
    use_stand_in(version="v2.12")
    with (
        pytest.raises(NotVerifiedError, match=r"v2\.12, expected v2\.13-rc"),
        open_meter(open_bundle(board_bundle), cache=Cache()),
    ):
        pass


def test_a_missing_library_is_named_with_its_command(make_home, board_bundle, monkeypatch):
    monkeypatch.delenv("EDGE_OCR_LITE_LIB", raising=False)
    monkeypatch.setenv("EDGE_OCR_HOME", str(make_home()))
    with (
        pytest.raises(NotVerifiedError, match=r"armlinux\.armv8 v2\.13-rc") as caught,
        open_meter(open_bundle(board_bundle), cache=Cache()),
    ):
        pass
    assert "edge-ocr libs fetch --platform armlinux.armv8" in caught.value.hint


def test_a_processor_that_qemu_does_not_know_is_quoted(open_stand_in, tmp_path):
    with open_stand_in(cpu="z80") as meter, pytest.raises(NotVerifiedError, match="z80"):
        meter.run(write_word(tmp_path, "ops"), MODEL, X)


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("page", (224, 224), "page: the bundle has det, rec, cls"),
        ("det", (480, 321), "det=480x321: .*multiples of 32"),
        ("det", (8192, 32), "det=8192x32: .*4096"),
        ("rec", (32, 320), r"rec=32x320: expected 48×\?"),
        ("rec", (48, 0), "rec=48x0"),
    ],
)
def test_shapes_that_a_network_does_not_take_are_refused(board_bundle, kind, shape, message):
    with pytest.raises(UsageError, match=message):
        check_shape(open_bundle(board_bundle), kind, shape)


def test_usual_shapes_fit(board_bundle):
    bundle = open_bundle(board_bundle)
    shapes = list_shapes(bundle)
    assert shapes == [
        ("det", (480, 320)),
        ("det", (960, 704)),
        ("rec", (48, 320)),
        ("rec", (48, 640)),
        ("cls", (48, 192)),
    ]
    for shape in shapes:
        check_shape(bundle, *shape)


def test_a_damaged_bundle_is_refused(edit_bundle):
    folder = edit_bundle(lambda manifest: manifest["files"]["models/det.nb"].update(sha256="0" * 64))
    with pytest.raises(ModelError, match=r"models/det\.nb"):
        open_bundle(folder)


def test_the_input_is_the_golden_picture():
    array = make_input(48, 320)
    assert (array.shape, array.dtype) == ((1, 3, 48, 320), np.float32)
    assert -1 <= array.min() < -0.5 < 0.5 < array.max() <= 1


# --- the real library


@pytest.fixture
def real(emulator, board_bundle) -> Iterator[Meter]:
    if not os.environ.get("EDGE_OCR_LITE_LIB"):
        pytest.skip("no Paddle-Lite library: EDGE_OCR_LITE_LIB names none")
    with open_meter(open_bundle(board_bundle), cache=Cache()) as meter:
        yield meter


def test_the_classifier_on_the_real_library(real):
    first, second = real.count("cls", (48, 192)), real.count("cls", (48, 192))
    assert first == second
    assert first.max_abs_diff < 1e-4
    assert 1e6 < first.total.instructions < 1e8
    assert first.outside.instructions < 3000
    assert first.total.read_bytes > 0


def test_ops_are_what_programs_cut_after_them_differ_by(real, tmp_path):
    """For the costliest ops: malloc's lists move the counts of a whole program by up to 0.3 %."""
    model, path = real._bundle.models["cls"], real._bundle.find_model("cls")
    array = make_input(48, 192)
    ops = real.run(path, model, array).counts.ops
    costliest = sorted(range(len(ops)), key=lambda index: -ops[index].instructions)[:3]
    for index in costliest:
        totals = []
        for count in (index, index + 1):
            content = cut_nb(path.read_bytes(), count)
            (tmp_path / "cut.nb").write_bytes(content)
            totals.append(real.run(tmp_path / "cut.nb", parse_nb(content), array).counts.total)
        for name in ("instructions", "loads", "stores"):
            found, wanted = getattr(totals[1], name) - getattr(totals[0], name), getattr(ops[index], name)
            assert abs(found - wanted) < 0.02 * wanted
