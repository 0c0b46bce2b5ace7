"""Models on ARM libraries: a stand-in for Paddle-Lite that obeys the model file, and the real one if available."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from support.processes import is_running, list_programs

from converters.lite.compiler import SOURCES, build_program
from converters.verify.lite_process import LiteProcess
from edge_ocr.errors import NotVerifiedError

pytestmark = pytest.mark.board

VERSION = "v2.13-rc"
COMPILERS = {"armv8": "aarch64-linux-gnu-g++", "armv7hf": "arm-linux-gnueabihf-g++"}
EMULATORS = {"armv8": "qemu-aarch64-static", "armv7hf": "qemu-arm-static"}
PROGRAM = "edge-ocr-lite-serve"

X = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)


@pytest.fixture(scope="session")
def program(library, headers, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    shutil.copy(library, folder)
    build_program("armv8", library, headers, folder / PROGRAM, SOURCES / "lite_serve.cpp")
    return folder / PROGRAM


@pytest.fixture
def make_command(program, tmp_path) -> Callable[[str], tuple[list[str], Path]]:
    def make(word: str) -> tuple[list[str], Path]:
        model = tmp_path / f"{word}.nb"
        model.write_text(word, encoding="utf-8")
        return [EMULATORS["armv8"], "-L", "/usr/aarch64-linux-gnu", str(program), str(model), "1"], model

    return make


@pytest.fixture
def serve(make_command, tmp_path) -> Iterator[Callable[..., LiteProcess]]:
    opened: list[LiteProcess] = []

    def open_process(word: str, expected_version: str = VERSION, **options: object) -> LiteProcess:
        command, model = make_command(word)
        process = LiteProcess(
            command, model, place="under qemu", expected_version=expected_version, cwd=tmp_path, **options
        )
        opened.append(process)
        return process

    yield open_process
    for process in opened:
        process.close()


# --- the C interface and the program


def test_the_c_interface_compiles_without_warnings_and_exports_nothing_else(headers, library, tmp_path):
    out = tmp_path / "libedge_ocr_lite.so"
    command = [COMPILERS["armv8"], "-std=c++11", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
    source = SOURCES / "edge_ocr_lite.cpp"
    subprocess.run([*command, "-shared", "-I", headers, source, library, "-o", out], check=True)
    with out.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".dynsym").iter_symbols()
        exported = {
            symbol.name
            for symbol in symbols
            if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] == "STB_GLOBAL"
        }
    assert {"edge_ocr_lite_create", "edge_ocr_lite_run", "edge_ocr_lite_get_error"} <= exported
    assert all(name.startswith("edge_ocr_lite_") for name in exported)


def test_the_header_is_c(tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed")
    header = SOURCES / "edge_ocr_lite.h"
    subprocess.run(["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c", header], check=True)


USES = r"""
#include <cstdio>
#include <cstring>
#include "edge_ocr_lite.h"
#define EXPECT(what) \
  if (!(what)) { std::printf("line %d: " #what ": %s\n", __LINE__, edge_ocr_lite_get_error()); return 1; }
int main(int, char** argv) {
  edge_ocr_lite* model = nullptr;
  EXPECT(std::strcmp(edge_ocr_lite_get_error(), "") == 0);
  EXPECT(edge_ocr_lite_create(argv[1], 0, EDGE_OCR_LITE_POWER_NO_BIND, &model) == EDGE_OCR_LITE_BAD_ARGUMENT);
  EXPECT(edge_ocr_lite_create(argv[1], 1, 6, &model) == EDGE_OCR_LITE_BAD_ARGUMENT);
  EXPECT(edge_ocr_lite_create(nullptr, 1, 3, &model) == EDGE_OCR_LITE_BAD_ARGUMENT);
  EXPECT(edge_ocr_lite_create("/no/such.nb", 1, 3, &model) == EDGE_OCR_LITE_BAD_ARGUMENT);
  EXPECT(std::strcmp(edge_ocr_lite_get_error(), "/no/such.nb: No such file or directory") == 0);
  EXPECT(edge_ocr_lite_create("/", 1, 3, &model) == EDGE_OCR_LITE_BAD_ARGUMENT);
  EXPECT(edge_ocr_lite_create("/dev/null", 1, 3, &model) == EDGE_OCR_LITE_BAD_ARGUMENT);
  EXPECT(std::strcmp(edge_ocr_lite_get_error(), "/dev/null: is empty") == 0);
  EXPECT(model == nullptr);
  EXPECT(edge_ocr_lite_create(argv[1], 1, EDGE_OCR_LITE_POWER_NO_BIND, &model) == EDGE_OCR_LITE_OK);
  EXPECT(std::strcmp(edge_ocr_lite_get_version(model), "v2.13-rc") == 0);
  EXPECT(edge_ocr_lite_count_inputs(model) == 1 && edge_ocr_lite_count_outputs(model) == 1);
  EXPECT(std::strcmp(edge_ocr_lite_get_input_name(model, 0), "x") == 0);
  EXPECT(std::strcmp(edge_ocr_lite_get_output_name(model, 0), "y") == 0);
  EXPECT(edge_ocr_lite_get_input_name(model, 1) == nullptr && edge_ocr_lite_get_output_name(model, 1) == nullptr);
  const int64_t dims[2] = {2, 3}, negative[1] = {-1}, large[2] = {INT64_C(1) << 60, INT64_C(1) << 60};
  float* input = nullptr;
  const float* output = nullptr;
  const int64_t* shape = nullptr;
  size_t rank = 0;
  EXPECT(edge_ocr_lite_borrow_output(model, 0, &output, &shape, &rank) == EDGE_OCR_LITE_BAD_ARGUMENT);
  EXPECT(edge_ocr_lite_borrow_input(model, 1, dims, 2, &input) == EDGE_OCR_LITE_BAD_ARGUMENT);
  EXPECT(edge_ocr_lite_borrow_input(model, 0, dims, 0, &input) == EDGE_OCR_LITE_BAD_ARGUMENT);
  EXPECT(edge_ocr_lite_borrow_input(model, 0, dims, 9, &input) == EDGE_OCR_LITE_BAD_ARGUMENT);
  EXPECT(edge_ocr_lite_borrow_input(model, 0, negative, 1, &input) == EDGE_OCR_LITE_BAD_ARGUMENT);
  EXPECT(edge_ocr_lite_borrow_input(model, 0, large, 2, &input) == EDGE_OCR_LITE_BAD_ARGUMENT);
  EXPECT(edge_ocr_lite_borrow_input(model, 0, dims, 2, &input) == EDGE_OCR_LITE_OK);
  for (int i = 0; i < 6; ++i) input[i] = i;
  EXPECT(edge_ocr_lite_run(model) == EDGE_OCR_LITE_OK);
  EXPECT(edge_ocr_lite_borrow_output(model, 1, &output, &shape, &rank) == EDGE_OCR_LITE_BAD_ARGUMENT);
  EXPECT(edge_ocr_lite_borrow_output(model, 0, &output, &shape, &rank) == EDGE_OCR_LITE_OK);
  EXPECT(rank == 2 && shape[0] == 2 && shape[1] == 3 && output[5] == 10);
  edge_ocr_lite_destroy(model);
  edge_ocr_lite_destroy(nullptr);
  return 0;
}
"""


def test_the_c_interface_checks_its_arguments(headers, library, tmp_path):
    sources, user, model = SOURCES, tmp_path / "user", tmp_path / "double.nb"
    model.write_text("double", encoding="utf-8")
    command = [COMPILERS["armv8"], "-Wall", "-I", sources, "-I", headers, sources / "edge_ocr_lite.cpp"]
    command += ["-x", "c++", "-", "-x", "none", library, f"-Wl,-rpath,{library.parent}", "-o", user]
    subprocess.run(command, input=USES.encode(), check=True)
    emulate = [EMULATORS["armv8"], "-L", "/usr/aarch64-linux-gnu"]
    ended = subprocess.run([*emulate, user, model], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


def request(*dims: int, rank: int | None = None, data: bytes | None = None) -> bytes:
    head = struct.pack(f"<I{len(dims)}q", len(dims) if rank is None else rank, *dims)
    return head + (b"\0" * 4 * int(np.prod(dims)) if data is None else data)


HELLO = b"EOCRLITE" + struct.pack("<III", 1, 0, len(VERSION)) + VERSION.encode()


def refuse(status: int, text: str) -> bytes:
    return struct.pack("<II", status, len(text)) + text.encode()


RAN = struct.pack("<IIqf", 0, 1, 1, 0)
BAD_RANK = refuse(1, "rank: expected 1 to 8")
BAD_DIMS = refuse(1, "dims: expected positive numbers and at most 2^28 elements")
THIRTEEN = refuse(2, "Paddle-Lite refuses the shape: 13 is too many")


@pytest.mark.parametrize(
    ("sent", "answered", "code"),
    [
        (b"", b"", 0),
        (request(1), RAN, 0),
        (request(13, 1) + request(1), THIRTEEN + RAN, 0),
        (request(1)[:3], b"", 2),
        (request(2)[:-1], b"", 2),
        (request(1, 2)[:12], b"", 2),
        (request(rank=0, data=b""), BAD_RANK, 2),
        (request(*[1] * 9), BAD_RANK, 2),
        (request(rank=2**32 - 1), BAD_RANK, 2),
        (request(-1, data=b""), BAD_DIMS, 2),
        (request(0, data=b""), BAD_DIMS, 2),
        (request(2**62, 2**62, data=b""), BAD_DIMS, 2),
        (request(2**14, 2**14 + 1, data=b""), BAD_DIMS, 2),
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else str(value),
)
def test_the_program_checks_bounds(make_command, sent, answered, code):
    command, _ = make_command("double")
    ended = subprocess.run(command, input=sent, capture_output=True, check=False)
    assert ended.stdout == HELLO + answered
    assert ended.returncode == code


def test_the_program_needs_its_arguments(make_command):
    command, _ = make_command("double")
    ended = subprocess.run(command[:-1], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert b"usage" in ended.stderr
    for threads in ("0", "many", "257"):
        ended = subprocess.run([*command[:-1], threads], capture_output=True, check=False)
        assert ended.returncode == 2
        assert b"threads: expected 1 to 256" in ended.stdout


# --- one process


@pytest.mark.parametrize("shape", [(1,), (2, 3, 4, 5), (1, 3, 160, 160), (1, 3, 700, 700), (1,) * 8])
def test_runs_return_the_librarys_output(serve, shape):
    process = serve("double")
    assert process.name == "paddle-lite"
    assert process.pid is None, "nothing starts before the first run"
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    y = process.run(x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, x * 2)
    pid = process.pid
    np.testing.assert_array_equal(process.run(-x), x * -2)
    np.testing.assert_array_equal(y, x * 2, "a result stays unchanged")
    assert process.pid == pid
    process.close()
    assert not is_running(pid)
    assert process.pid is None


def test_inputs_of_other_layouts_and_types_are_converted(serve):
    process = serve("double")
    np.testing.assert_array_equal(process.run(X.transpose(3, 1, 0, 2)), X.transpose(3, 1, 0, 2) * 2)
    np.testing.assert_array_equal(process.run(X[::2, ::-1].astype(np.float64)), X[::2, ::-1] * 2)


def test_output_that_the_library_prints_is_not_mistaken_for_an_answer(serve):
    process = serve("print")
    np.testing.assert_array_equal(process.run(X), X * 2)


@pytest.mark.parametrize("shape", [(0, 3), (1,) * 9])
def test_invalid_inputs_are_refused(serve, shape):
    process = serve("double")
    with pytest.raises(NotVerifiedError, match=r"input of .*1 to 2"):
        process.run(np.ones(shape, np.float32))
    assert process.pid is None


def test_another_version_is_refused_before_the_first_run(serve):
    process = serve("abort-run", expected_version="v2.14-rc")
    with pytest.raises(NotVerifiedError, match=r"under qemu .*v2\.13-rc, expected v2\.14-rc") as caught:
        process.run(X)
    assert "edge-ocr libs" in caught.value.hint
    assert process.pid is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("abort-load", r"load: .*SIGABRT.*:\n  model_parser\.cc:7 Load: Check failed"),
        ("throw-load", r"load the model: program\.cc:316 RuntimeProgram: .*no operator 'comv2d'$"),
        ("two", "the model has 2 inputs and 1 outputs, expected one of each"),
        ("abort-run", r"run: .*SIGABRT.*:\n  conv_op\.cc:35 InferShape: .*3!=4"),
        ("throw-run", "run the model: no such broadcast$"),
        ("throw-memory", "run the model: out of memory$"),
        ("throw-int", "run the model: an exception without a message$"),
        ("int-output", "the output is not float32$"),
        ("nine-dims", "output shape: expected 1 to 8 "),
        ("negative", "output shape: expected 1 to 8 "),
    ],
)
def test_each_failure_is_reported(serve, word, message, tmp_path):
    process = serve(word)
    with pytest.raises(NotVerifiedError, match=message) as caught:
        process.run(X)
    assert caught.value.message.startswith(f"{tmp_path / word}.nb under qemu: ")
    assert "device_info" not in caught.value.message
    assert caught.value.hint
    assert process.pid is None
    assert [path.name for path in tmp_path.iterdir()] == [f"{word}.nb"], "no core file"


def test_a_shape_that_the_library_refuses_ends_one_run_only(serve):
    process = serve("double")
    with pytest.raises(NotVerifiedError, match="shape: 13 is too many"):
        process.run(np.ones((13, 2), np.float32))
    np.testing.assert_array_equal(process.run(X), X * 2)


def test_an_empty_model_is_refused(serve, tmp_path):
    process = serve("double")
    (tmp_path / "double.nb").write_bytes(b"")
    with pytest.raises(NotVerifiedError, match="is empty"):
        process.run(X)


def test_only_the_end_of_a_long_log_is_kept(serve):
    process = serve("log")
    with pytest.raises(NotVerifiedError, match="line 2999") as caught:
        process.run(X)
    assert "conv_op.cc:35" in caught.value.message
    assert "line 2900" not in caught.value.message


def test_a_process_that_is_killed_in_the_middle_of_a_run_is_reported(serve):
    process = serve("sleep-run")

    def kill() -> None:
        while process.pid is None:
            time.sleep(0.01)
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(NotVerifiedError, match=r"SIGKILL.*:\n  thinking"):
        process.run(X)
    killer.join()


@pytest.mark.parametrize(
    ("word", "message"),
    [("sleep-load", "load within 1 s"), ("sleep-run", "run within 1 s.*\n  thinking")],
)
def test_a_process_that_takes_too_long_is_ended(serve, word, message, tmp_path):
    process = serve(word, start_timeout_s=1.0 if word == "sleep-load" else 60.0, run_timeout_s=1.0)
    with pytest.raises(NotVerifiedError, match=message):
        process.run(X)
    assert process.pid is None
    assert list_programs(tmp_path) == []


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("printf 'Welcome aboard!'", "edge-ocr-lite-serve, actual b'Welcome '"),
        (r"printf 'EOCRLITE\2\0\0\0\0\0\0\0'", "protocol 2, expected 1"),
        ("echo no library >&2; exit 127", r"load: .* 127.*\n  no library"),
        ("exit 134", "load: .*SIGABRT"),
    ],
)
def test_other_programs_are_recognised(tmp_path, script, message):
    process = LiteProcess(["sh", "-c", script], tmp_path / "a.nb", place="here", expected_version=VERSION)
    with pytest.raises(NotVerifiedError, match=message):
        process.run(X)


def test_a_missing_program_is_reported(tmp_path):
    process = LiteProcess([str(tmp_path / "none")], tmp_path / "a.nb", place="here", expected_version=VERSION)
    with pytest.raises(NotVerifiedError, match=r"none .*: No such file"):
        process.run(X)
