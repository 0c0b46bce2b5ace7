"""Models on ARM libraries: a stand-in for Paddle-Lite that obeys the model file, and the real one where it is."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from converters.lite.compiler import find_compiler
from converters.lite.libraries.elf import inspect_library
from converters.lite.nb.to_onnx import build_graph
from converters.processes.ssh import SshAddress, parse_ssh
from converters.verify import lite_process
from converters.verify.lite_process import LiteProcess, build_program, open_lite_engines
from edge_ocr.errors import ModelError, NotVerifiedError, UsageError

pytestmark = pytest.mark.board

VERSION = "v2.13-rc"
COMPILERS = {"armv8": "aarch64-linux-gnu-g++", "armv7hf": "arm-linux-gnueabihf-g++"}
EMULATORS = {"armv8": "qemu-aarch64-static", "armv7hf": "qemu-arm-static"}
PROGRAM = "edge-ocr-lite-serve"

X = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)


@pytest.fixture(scope="session")
def build_library(compile_stand_in) -> Callable[..., Path]:
    def build(arch: str = "armv8", **options: str) -> Path:
        if shutil.which(EMULATORS[arch]) is None:
            pytest.skip(f"{EMULATORS[arch]} is not installed")
        return compile_stand_in(COMPILERS[arch], **options)

    return build


@pytest.fixture(scope="session")
def library(build_library) -> Path:
    return build_library()


@pytest.fixture(scope="session")
def program(library, headers, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    shutil.copy(library, folder)
    return build_program("armv8", library, headers, folder)


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


def is_running(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def wait_until(check: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not check() and time.monotonic() < deadline:
        time.sleep(0.05)
    return check()


def list_programs(folder: Path) -> list[str]:
    """Return the command line of each process that runs in `folder`, which may be gone."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(folder) in str((process / "cwd").readlink()):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


INTERRUPTED = """
import sys
import numpy as np
from pathlib import Path
from converters.verify.lite_process import open_lite_engines
runner, model, library, headers = sys.argv[1:]
with open_lite_engines(
    runner, {"det": Path(model)}, library=Path(library), include_dir=Path(headers), arch="armv8",
    expected_version="v2.13-rc",
) as engines:
    engines["det"].run(np.ones((1, 3, 4, 4), np.float32))
"""


def start_interrupted(
    runner: str, model: Path, library: Path, headers: Path, repository: Path, scratch: Path
) -> subprocess.Popen[bytes]:
    """Start a process that runs a model, to be interrupted."""
    return subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, runner, model, library, headers],
        env={**os.environ, "PYTHONPATH": str(repository), "TMPDIR": str(scratch)},
        stderr=subprocess.DEVNULL,
    )


# --- the C interface and the program


def test_the_c_interface_compiles_without_warnings_and_exports_nothing_else(headers, library, tmp_path):
    out = tmp_path / "libedge_ocr_lite.so"
    command = [COMPILERS["armv8"], "-std=c++11", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
    source = lite_process.SOURCES / "edge_ocr_lite.cpp"
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
    header = lite_process.SOURCES / "edge_ocr_lite.h"
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
    sources, user, model = lite_process.SOURCES, tmp_path / "user", tmp_path / "double.nb"
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
BAD_DIMS = refuse(1, "dims: expected positive ones and at most 2^28 elements")
THIRTEEN = refuse(2, "Paddle-Lite does not take the shape: 13 is too many")


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
def test_the_program_keeps_its_bounds(make_command, sent, answered, code):
    command, _ = make_command("double")
    ended = subprocess.run(command, input=sent, capture_output=True, check=False)
    assert ended.stdout == HELLO + answered
    assert ended.returncode == code


def test_the_program_wants_its_arguments(make_command):
    command, _ = make_command("double")
    ended = subprocess.run(command[:-1], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert b"usage" in ended.stderr
    for threads in ("0", "many", "257"):
        ended = subprocess.run([*command[:-1], threads], capture_output=True, check=False)
        assert ended.returncode == 2
        assert b"threads: expected 1 to 256" in ended.stdout


# --- building


def leave_on_path(monkeypatch, folder: Path, *names: str) -> None:
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(shutil.which(name) or pytest.skip(f"{name} is not installed"))
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize(
    ("arch", "package"), [("armv8", "g++-aarch64-linux-gnu"), ("armv7hf", "g++-arm-linux-gnueabihf")]
)
def test_a_missing_compiler_is_named_with_its_package(monkeypatch, tmp_path, arch, package):
    leave_on_path(monkeypatch, tmp_path / "bin")
    with pytest.raises(NotVerifiedError, match=f"{COMPILERS[arch].replace('+', '.')} is missing") as caught:
        find_compiler(arch)
    assert package in caught.value.hint


def test_a_missing_emulator_is_named_with_its_package(monkeypatch, library, headers, tmp_path):
    leave_on_path(monkeypatch, tmp_path / "bin", COMPILERS["armv8"])
    with (
        pytest.raises(NotVerifiedError, match="qemu-aarch64-static is missing") as caught,
        open_lite_engines("qemu", {}, library=library, include_dir=headers, arch="armv8", expected_version=VERSION),
    ):
        pass
    assert "qemu-user-static" in caught.value.hint


def test_a_missing_ssh_is_named_with_its_package(monkeypatch, library, headers, tmp_path):
    leave_on_path(monkeypatch, tmp_path / "bin", COMPILERS["armv8"])
    with pytest.raises(NotVerifiedError, match="ssh is missing") as caught, open_over("ssh://a/b", library, headers):
        pass
    assert "openssh-client" in caught.value.hint


def test_a_program_that_does_not_build_gives_the_compilers_last_lines(library, tmp_path):
    (tmp_path / "paddle_api.h").write_text("#error of another release", encoding="utf-8")
    with pytest.raises(NotVerifiedError, match=r"does not build: ended with exit code 1; it printed last:\n") as caught:
        build_program("armv8", library, tmp_path, tmp_path)
    assert "of another release" in caught.value.message
    assert len(caught.value.message.splitlines()) <= 16


def test_a_library_that_lacks_functions_does_not_link(headers, tmp_path):
    library = tmp_path / "libempty.so"
    compiler = find_compiler("armv8") if shutil.which(COMPILERS["armv8"]) else pytest.skip("no cross compiler")
    subprocess.run([compiler, "-shared", "-x", "c++", os.devnull, "-o", library], check=True)
    with pytest.raises(NotVerifiedError, match="undefined reference to"):
        build_program("armv8", library, headers, tmp_path)


# --- one process


@pytest.mark.parametrize("shape", [(1,), (2, 3, 4, 5), (1, 3, 160, 160), (1, 3, 700, 700), (1,) * 8])
def test_runs_give_what_the_library_gives(serve, shape):
    process = serve("double")
    assert process.name == "paddle-lite"
    assert process.pid is None, "nothing starts before the first run"
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    y = process.run(x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, x * 2)
    pid = process.pid
    np.testing.assert_array_equal(process.run(-x), x * -2)
    np.testing.assert_array_equal(y, x * 2, "a result stays as it is")
    assert process.pid == pid
    process.close()
    assert not is_running(pid)
    assert process.pid is None


def test_inputs_of_other_layouts_and_types_are_converted(serve):
    process = serve("double")
    np.testing.assert_array_equal(process.run(X.transpose(3, 1, 0, 2)), X.transpose(3, 1, 0, 2) * 2)
    np.testing.assert_array_equal(process.run(X[::2, ::-1].astype(np.float64)), X[::2, ::-1] * 2)


def test_what_the_library_prints_is_not_taken_for_an_answer(serve):
    process = serve("print")
    np.testing.assert_array_equal(process.run(X), X * 2)


@pytest.mark.parametrize("shape", [(0, 3), (1,) * 9])
def test_inputs_that_make_no_sense_are_refused(serve, shape):
    process = serve("double")
    with pytest.raises(NotVerifiedError, match="cannot run an input of"):
        process.run(np.ones(shape, np.float32))
    assert process.pid is None


def test_another_version_is_refused_before_the_first_run(serve):
    process = serve("abort-run", expected_version="v2.14-rc")
    with pytest.raises(NotVerifiedError, match=r"under qemu is of version v2\.13-rc, expected v2\.14-rc") as caught:
        process.run(X)
    assert "edge-ocr libs" in caught.value.hint
    assert process.pid is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("abort-load", r"did not load: killed by SIGABRT; it printed last:\n  model_parser\.cc:7 Load: Check failed"),
        ("throw-load", r"does not load the model: program\.cc:316 RuntimeProgram: .*no operator 'comv2d'$"),
        ("two", "the model has 2 inputs and 1 outputs, expected one of each"),
        ("abort-run", r"did not run: killed by SIGABRT; it printed last:\n  conv_op\.cc:35 InferShape: .*3!=4"),
        ("throw-run", "does not run the model: no such broadcast$"),
        ("throw-memory", "does not run the model: out of memory$"),
        ("throw-int", "does not run the model: an exception without a text$"),
        ("int-output", "the output is not float32$"),
        ("nine-dims", "the output has no shape of 1 to 8 positive dims"),
        ("negative", "the output has no shape of 1 to 8 positive dims"),
    ],
)
def test_each_way_to_fail_is_told(serve, word, message, tmp_path):
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
    with pytest.raises(NotVerifiedError, match="does not take the shape: 13 is too many"):
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


def test_a_process_that_is_killed_in_the_middle_of_a_run_is_told(serve):
    process = serve("sleep-run")

    def kill() -> None:
        while process.pid is None:
            time.sleep(0.01)
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(NotVerifiedError, match=r"did not run: killed by SIGKILL; it printed last:\n  thinking"):
        process.run(X)
    killer.join()


@pytest.mark.parametrize(
    ("word", "message"),
    [("sleep-load", "did not load within 1 s"), ("sleep-run", "did not run within 1 s; .*\n  thinking")],
)
def test_a_process_that_takes_too_long_is_ended(serve, word, message, tmp_path):
    process = serve(word, start_timeout_s=1.0 if word == "sleep-load" else 60.0, run_timeout_s=1.0)
    with pytest.raises(NotVerifiedError, match=message):
        process.run(X)
    assert process.pid is None
    assert list_programs(tmp_path) == []


def test_an_interrupted_run_leaves_no_process(library, headers, repository, tmp_path):
    model = tmp_path / "model.nb"
    model.write_text("sleep-run", encoding="utf-8")
    # In a process of its own: this one may hold engines with handlers of signals.
    process = start_interrupted("qemu", model, library, headers, repository, tmp_path)
    try:
        assert wait_until(lambda: any(PROGRAM in command for command in list_programs(tmp_path)))
        time.sleep(0.5)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) != 0
    assert wait_until(lambda: list_programs(tmp_path) == [])


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("printf 'Welcome aboard!'", "expected the greeting of edge-ocr-lite-serve, actual b'Welcome '"),
        (r"printf 'EOCRLITE\2\0\0\0\0\0\0\0'", "protocol 2, expected 1"),
        ("echo no library >&2; exit 127", r"did not load: ended with exit code 127; .*\n  no library"),
        ("exit 134", "did not load: killed by SIGABRT"),
    ],
)
def test_other_programs_are_told_from_ours(tmp_path, script, message):
    process = LiteProcess(["sh", "-c", script], tmp_path / "a.nb", place="here", expected_version=VERSION)
    with pytest.raises(NotVerifiedError, match=message):
        process.run(X)


def test_a_program_that_is_not_there_is_told(tmp_path):
    process = LiteProcess([str(tmp_path / "none")], tmp_path / "a.nb", place="here", expected_version=VERSION)
    with pytest.raises(NotVerifiedError, match="none does not start: No such file"):
        process.run(X)


# --- under qemu


@contextmanager
def open_over(
    runner: str, library: Path, headers: Path, words: str = "double", **options: object
) -> Iterator[dict[str, LiteProcess]]:
    models = {}
    for word in words.split():
        models[word] = headers.parent / f"{word}.nb"
        models[word].write_text(word, encoding="utf-8")
    options = {"arch": "armv8", "expected_version": VERSION, **options}
    with open_lite_engines(runner, models, library=library, include_dir=headers, **options) as engines:
        yield engines


@pytest.mark.parametrize(("arch", "soname"), [("armv8", "libx.so.1"), ("armv7hf", "")])
def test_models_run_under_qemu(build_library, headers, arch, soname):
    steps: list[str] = []
    library = build_library(arch, soname=soname)
    with open_over("qemu", library, headers, "double threads", arch=arch, threads=3, report=steps.append) as engines:
        assert list(engines) == ["double", "threads"]
        np.testing.assert_array_equal(engines["double"].run(X), X * 2)
        assert engines["threads"].pid is None
        assert engines["threads"].run(X).flat[0] == 3
        pids = [engine.pid for engine in engines.values()]
    assert not any(map(is_running, pids))
    assert steps == [f"building {PROGRAM} for {arch}"]


def test_a_failure_outside_leaves_no_process(library, headers):
    pids = []

    def fail() -> None:
        with open_over("qemu", library, headers) as engines:
            engines["double"].run(X)
            pids.append(engines["double"].pid)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not is_running(pids[0])


def test_a_library_of_another_version_is_refused_at_once(build_library, headers):
    library = build_library(version="v2.12")
    message = r"shared\.so is of version v2\.12, expected v2\.13-rc"
    with pytest.raises(NotVerifiedError, match=message), open_over("qemu", library, headers):
        pass


def test_a_library_for_another_machine_is_refused(library, headers):
    message = "is a cxx library for armlinux on armv8, expected a cxx library for armlinux on armv7hf"
    with pytest.raises(NotVerifiedError, match=message), open_over("qemu", library, headers, arch="armv7hf"):
        pass


def test_options_that_make_no_sense_are_refused(library, headers, tmp_path):
    for threads in (0, 257):
        with pytest.raises(UsageError, match="threads"), open_over("qemu", library, headers, threads=threads):
            pass
    options = {"library": library, "include_dir": headers, "arch": "armv8", "expected_version": VERSION}
    with (
        pytest.raises(ModelError, match=r"det\.nb: there is no such file"),
        open_lite_engines("qemu", {"det": tmp_path / "det.nb"}, **options),
    ):
        pass
    with pytest.raises(UsageError, match="runner 'docker'"), open_lite_engines("docker", {}, **options):
        pass


# --- over ssh


@pytest.mark.parametrize(
    ("runner", "address"),
    [
        ("ssh://board/tmp", SshAddress(None, "board", None, "/tmp")),
        ("ssh://pi@board.local:2222/home/pi", SshAddress("pi", "board.local", 2222, "/home/pi")),
        ("ssh://a@[fe80::1]:22/x", SshAddress("a", "fe80::1", 22, "/x")),
        ("ssh://192.168.0.7/a%20b/%E5%AD%97;'", SshAddress(None, "192.168.0.7", None, "/a b/字;'")),
    ],
)
def test_addresses_are_read(runner, address):
    assert parse_ssh(runner) == address


@pytest.mark.parametrize(
    ("runner", "message"),
    [
        ("board:/tmp", "expected qemu or ssh://"),
        ("SSH://board/tmp", "expected qemu or ssh://"),
        ("ssh://-oProxyCommand=x/tmp", "is no host"),
        ("ssh:///tmp", "is no host"),
        ("ssh://a b/tmp", "is no host"),
        ("ssh://$(id)/tmp", "is no host"),
        ("ssh://[::g]/tmp", "expected qemu or ssh://"),
        ("ssh://-l@board/tmp", "is no user"),
        ("ssh://@board/tmp", "is no user"),
        ("ssh://pi:secret@board/tmp", "expected qemu or ssh://|is no user"),
        ("ssh://board:0/tmp", "expected 1 to 65535"),
        ("ssh://board:65536/tmp", "expected 1 to 65535"),
        ("ssh://board:/tmp", "expected 1 to 65535"),
        ("ssh://board:+22/tmp", "expected 1 to 65535"),
        ("ssh://board", "expected the path of a folder"),
        ("ssh://board/", "expected the path of a folder"),
        ("ssh://board/a%0Ab", "expected the path of a folder"),
        ("ssh://board/a%00b", "expected the path of a folder"),
        ("ssh://board/a\nb", "expected the path of a folder"),
        ("ssh://board/a%2", "are written"),
        ("ssh://board/a?b", "are written"),
        ("ssh://board/%ff", "not UTF-8"),
    ],
)
def test_addresses_that_make_no_sense_are_refused(runner, message):
    with pytest.raises(UsageError, match=message):
        parse_ssh(runner)


PROGRAMS = ("sh", "uname", "mkdir", "tar", "head", "cat", "rm", "qemu-aarch64-static")


@pytest.fixture
def server(library, start_ssh_server):
    return start_ssh_server(PROGRAMS)


def test_models_run_over_ssh_and_nothing_is_left(server, library, headers):
    steps: list[str] = []
    with open_over(server.runner, library, headers, "double threads", threads=2, report=steps.append) as engines:
        (folder,) = server.root.iterdir()
        assert folder.name.startswith("edge-ocr-verify-")
        assert folder.stat().st_mode & 0o777 == 0o700
        np.testing.assert_array_equal(engines["double"].run(X), X * 2)
        big = np.ones((1, 3, 700, 700), np.float32)
        np.testing.assert_array_equal(engines["double"].run(big), big * 2)
        assert engines["threads"].run(X).flat[0] == 2
        names = {path.name for path in folder.iterdir()}
        assert names == {PROGRAM, "libpaddle_light_api_shared.so", "0.nb", "1.nb", "0.nb.pid", "1.nb.pid"}
    assert list(server.root.iterdir()) == []
    assert list_programs(server.root) == []
    assert [step.split()[0] for step in steps] == ["connecting", "building", "copying"]


def test_what_fails_on_the_board_is_told_with_its_signal(server, library, headers):
    with open_over(server.runner, library, headers, "abort-run throw-load double") as engines:
        with pytest.raises(NotVerifiedError, match=r"killed by SIGABRT; it printed last:\n") as caught:
            engines["abort-run"].run(X)
        assert "abort-run.nb on 127.0.0.1 under qemu-aarch64: did not run" in caught.value.message
        assert "conv_op.cc:35" in caught.value.message
        with pytest.raises(NotVerifiedError, match="no operator 'comv2d'"):
            engines["throw-load"].run(X)
        np.testing.assert_array_equal(engines["double"].run(X), X * 2)
    assert list(server.root.iterdir()) == []


def test_a_failure_or_a_hanging_program_leaves_nothing_on_the_board(server, library, headers):
    with (
        pytest.raises(NotVerifiedError, match="did not run within 1 s"),
        open_over(server.runner, library, headers, "sleep-run", run_timeout_s=1.0) as engines,
    ):
        engines["sleep-run"].run(X)
    assert list(server.root.iterdir()) == []
    assert wait_until(lambda: list_programs(server.root) == [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_verification_leaves_nothing_on_the_board(server, library, headers, repository, number):
    model = server.folder / "model.nb"
    model.write_text("sleep-run", encoding="utf-8")
    # Nobody can tidy up behind SIGKILL on this side: what it leaves must lie in a folder of this test.
    process = start_interrupted(server.runner, model, library, headers, repository, server.folder)
    try:
        assert wait_until(lambda: any(PROGRAM in command for command in list_programs(server.root)))
        time.sleep(0.5)
    finally:
        process.send_signal(number)
        process.wait(timeout=60)
    assert wait_until(lambda: list(server.root.iterdir()) == [])
    assert wait_until(lambda: list_programs(server.root) == [])


def test_a_folder_that_cannot_be_removed_is_told(server, library, headers):
    steps: list[str] = []
    server.put("rm", "echo rm: Device or resource busy >&2; exit 1")
    with open_over(server.runner, library, headers, report=steps.append) as engines:
        engines["double"].run(X)
    assert "could not make sure that" in steps[-1]
    assert "Device or resource busy" in steps[-1]


def expect_refusal(runner: str, library: Path, headers: Path, message: str) -> NotVerifiedError:
    with pytest.raises(NotVerifiedError, match=message) as caught, open_over(runner, library, headers) as engines:
        engines["double"].run(X)
    return caught.value


def test_a_key_that_is_refused_is_told(server, library, headers):
    server.use_key("other")
    error = expect_refusal(server.runner, library, headers, r"127\.0\.0\.1: refuses our key; .*\n.*Permission denied")
    assert f"ssh-copy-id -p {server.port}" in error.hint


def test_a_host_key_that_is_not_known_or_another_is_told(server, library, headers):
    (server.folder / "known_hosts").write_bytes(b"")
    error = expect_refusal(server.runner, library, headers, "ssh does not know its host key")
    assert f"ssh -p {server.port}" in error.hint
    server.know(server.folder / "other.pub")
    expect_refusal(server.runner, library, headers, "its host key is not the one that ssh knows")


def test_a_host_that_cannot_be_reached_is_told(server, library, headers):
    server.close()
    expect_refusal(server.runner, library, headers, r"127\.0\.0\.1: cannot be reached; .*\n.*refused")
    expect_refusal("ssh://no-such-host.invalid/tmp", library, headers, "no-such-host.invalid: cannot be reached")


def test_a_folder_that_is_not_there_or_not_ours_is_told(server, library, headers):
    error = expect_refusal(f"{server.runner}/none", library, headers, r"(?s)could not make a folder.*No such file")
    assert "where you may write" in error.hint
    user_at_host = server.runner[len("ssh://") :].partition("/")[0]
    expect_refusal(f"ssh://{user_at_host}/proc", library, headers, r"(?s)could not make a folder in /proc; .*mkdir")


def test_a_board_without_room_is_told(server, library, headers):
    server.put("tar", "head -c 1000 >/dev/null; echo 'tar: 0.nb: Cannot write: No space left on device' >&2; exit 2")
    expect_refusal(server.runner, library, headers, r"(?s)could not copy the files.*No space left on device")
    assert list(server.root.iterdir()) == []


def test_a_machine_that_cannot_run_the_programs_is_told(server, library, headers):
    (server.path / "qemu-aarch64-static").unlink()
    server.put("uname", "echo riscv64")
    error = expect_refusal(server.runner, library, headers, "is riscv64, expected aarch64 for armv8, or a machine with")
    assert "qemu-user-static" in error.hint
    server.put("uname", "echo aarch64")
    error = expect_refusal(server.runner, library, headers, "is aarch64 without /lib/ld-linux-aarch64")
    assert "another ABI" in error.hint
    assert list(server.root.iterdir()) == []


def test_a_board_runs_the_program_itself(server, library, headers, monkeypatch):
    board = replace(lite_process.MACHINES["armv8"], kernels=("riscv64",), loader="/bin/sh")
    monkeypatch.setattr(lite_process, "MACHINES", {"armv8": board})
    server.put("uname", "echo riscv64")
    # It cannot, being this machine; where the kernel knows ARM programs, it misses the loader.
    expect_refusal(server.runner, library, headers, r"double\.nb on 127\.0\.0\.1: did not load: .*exit code")


def test_what_a_login_shell_says_is_told(server, library, headers):
    server.put("sh", "echo This account is currently not available.; exit 1")
    expect_refusal(server.runner, library, headers, r"(?s)could not make a folder.*currently not available")


def test_a_library_that_the_board_cannot_load_is_told_with_the_loaders_line(server, library, headers):
    line = f"./{PROGRAM}: /lib/libc.so.6: version `GLIBC_2.34' not found (required by ./{PROGRAM})"
    server.put("qemu-aarch64-static", f'echo "{line.replace("`", chr(92) + "`")}" >&2; exit 1')
    error = expect_refusal(server.runner, library, headers, r"GLIBC_2\.34' not found")
    assert "older than the compiler" in error.hint
    line = f"./{PROGRAM}: error while loading shared libraries: libgomp.so.1: cannot open shared object file"
    server.put("qemu-aarch64-static", f'echo "{line}" >&2; exit 127')
    error = expect_refusal(server.runner, library, headers, r"libgomp\.so\.1: cannot open")
    assert "install the package" in error.hint


# --- the real library


@pytest.fixture(scope="module")
def real_library() -> tuple[Path, Path]:
    chosen = os.environ.get("EDGE_OCR_LITE_LIB")
    if not chosen:
        pytest.skip("no Paddle-Lite library: EDGE_OCR_LITE_LIB names none")
    library = Path(chosen)
    headers = library.parent.parent / "include"
    if not (headers / "paddle_api.h").is_file():
        pytest.skip(f"no Paddle-Lite headers: {headers} has no paddle_api.h")
    for tool in (*COMPILERS.values(), *EMULATORS.values()):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    return library, headers


def test_the_c_interface_compiles_with_the_real_headers_without_warnings(real_library, tmp_path):
    _, headers = real_library
    command = ["-std=c++11", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", "-c", "-I", headers]
    for compiler in COMPILERS.values():
        for source in lite_process.SOURCES.glob("*.cpp"):
            subprocess.run([compiler, *command, source, "-o", tmp_path / "out.o"], check=True)


def run_openvino(model: Path | bytes, array: np.ndarray) -> np.ndarray:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled([array])[0])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_exported_models_run_on_the_real_library(real_library, export, precision):
    library, headers = real_library
    report = export("arm", precision=precision)
    models = {exported.source.model.kind: exported for exported in report.models}
    files = {kind: report.out_dir / "models" / f"{kind}.nb" for kind in models}
    rng = np.random.default_rng(4)
    inputs = {
        "det": rng.standard_normal((1, 3, 160, 160)).astype(np.float32),
        "rec": rng.uniform(-1, 1, (1, 3, 48, 320)).astype(np.float32),
    }
    with open_lite_engines(
        "qemu",
        files,
        library=library,
        include_dir=headers,
        arch=inspect_library(library).arch,
        expected_version=report.opt_version,
    ) as engines:
        for kind, x in inputs.items():
            actual = engines[kind].run(x)
            graph = build_graph(models[kind].nb, f"{kind}.nb").model.SerializeToString()
            np.testing.assert_allclose(actual, run_openvino(graph, x), rtol=0, atol=1e-3)
            if precision == "fp32":
                source = run_openvino(models[kind].source.model.program, x)
                np.testing.assert_allclose(actual, source, rtol=0, atol=1e-3)


def test_what_the_real_library_says_of_a_damaged_model_is_told(real_library, export, tmp_path):
    library, headers = real_library
    report = export("arm")
    model = tmp_path / "det.nb"
    model.write_bytes((report.out_dir / "models" / "det.nb").read_bytes().replace(b"conv2d\0", b"comv2d\0"))
    with (
        open_lite_engines(
            "qemu",
            {"det": model},
            library=library,
            include_dir=headers,
            arch=inspect_library(library).arch,
            expected_version=report.opt_version,
        ) as engines,
        pytest.raises(NotVerifiedError, match="comv2d"),
    ):
        engines["det"].run(X)
