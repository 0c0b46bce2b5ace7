"""Models on ARM libraries, under qemu and over ssh: a stand-in for Paddle-Lite, and the real one if available."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.processes import is_running, list_programs, wait_until

from converters.lite.compiler import SOURCES, build_program, find_compiler
from converters.lite.libraries.elf import inspect_library
from converters.lite.nb.to_onnx import build_graph
from converters.verify import lite_runner
from converters.verify.lite_process import LiteProcess
from converters.verify.lite_runner import open_lite_engines
from edge_ocr.errors import ModelError, NotVerifiedError, UsageError

pytestmark = pytest.mark.board

VERSION = "v2.13-rc"
COMPILERS = {"armv8": "aarch64-linux-gnu-g++", "armv7hf": "arm-linux-gnueabihf-g++"}
EMULATORS = {"armv8": "qemu-aarch64-static", "armv7hf": "qemu-arm-static"}
PROGRAM = "edge-ocr-lite-serve"

X = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)


INTERRUPTED = """
import sys
import numpy as np
from pathlib import Path
from converters.verify.lite_runner import open_lite_engines
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
    """Start a process that runs a model and will be interrupted."""
    return subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, runner, model, library, headers],
        env={**os.environ, "PYTHONPATH": str(repository), "TMPDIR": str(scratch)},
        stderr=subprocess.DEVNULL,
    )


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
    with pytest.raises(NotVerifiedError, match=re.escape(COMPILERS[arch])) as caught:
        find_compiler(arch)
    assert package in caught.value.hint


def test_a_program_that_does_not_build_gives_the_compilers_last_lines(library, tmp_path):
    (tmp_path / "paddle_api.h").write_text("#error of another release", encoding="utf-8")
    with pytest.raises(NotVerifiedError, match=r"exit code 1.*:\n") as caught:
        build_program("armv8", library, tmp_path, tmp_path / PROGRAM, SOURCES / "lite_serve.cpp")
    assert "of another release" in caught.value.message
    assert len(caught.value.message.splitlines()) <= 16


def test_a_library_that_lacks_functions_does_not_link(headers, tmp_path):
    library = tmp_path / "libempty.so"
    compiler = find_compiler("armv8") if shutil.which(COMPILERS["armv8"]) else pytest.skip("no cross compiler")
    subprocess.run([compiler, "-shared", "-x", "c++", os.devnull, "-o", library], check=True)
    with pytest.raises(NotVerifiedError, match="undefined reference to"):
        build_program("armv8", library, headers, tmp_path / PROGRAM, SOURCES / "lite_serve.cpp")


def test_a_missing_emulator_is_named_with_its_package(monkeypatch, library, headers, tmp_path):
    leave_on_path(monkeypatch, tmp_path / "bin", COMPILERS["armv8"])
    with (
        pytest.raises(NotVerifiedError, match="qemu-aarch64-static") as caught,
        open_lite_engines("qemu", {}, library=library, include_dir=headers, arch="armv8", expected_version=VERSION),
    ):
        pass
    assert "qemu-user-static" in caught.value.hint


def test_a_missing_ssh_is_named_with_its_package(monkeypatch, library, headers, tmp_path):
    leave_on_path(monkeypatch, tmp_path / "bin", COMPILERS["armv8"])
    with pytest.raises(NotVerifiedError, match="ssh") as caught, open_over("ssh://a/b", library, headers):
        pass
    assert "openssh-client" in caught.value.hint


# --- under qemu


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
    message = r"shared\.so .*v2\.12, expected v2\.13-rc"
    with pytest.raises(NotVerifiedError, match=message), open_over("qemu", library, headers):
        pass


def test_a_library_for_another_machine_is_refused(library, headers):
    message = "armlinux on armv8, expected .*armlinux on armv7hf"
    with pytest.raises(NotVerifiedError, match=message), open_over("qemu", library, headers, arch="armv7hf"):
        pass


def test_invalid_options_are_refused(library, headers, tmp_path):
    for count in (0, 257):
        with pytest.raises(UsageError, match=f"{count} threads"), open_over("qemu", library, headers, threads=count):
            pass
    options = {"library": library, "include_dir": headers, "arch": "armv8", "expected_version": VERSION}
    with (
        pytest.raises(ModelError, match=r"det\.nb: no such file"),
        open_lite_engines("qemu", {"det": tmp_path / "det.nb"}, **options),
    ):
        pass
    with pytest.raises(UsageError, match="runner 'docker'"), open_lite_engines("docker", {}, **options):
        pass


def test_an_interrupted_run_leaves_no_process(library, headers, repository, tmp_path):
    model = tmp_path / "model.nb"
    model.write_text("sleep-run", encoding="utf-8")
    # In a separate process: engines in this one may have signal handlers.
    process = start_interrupted("qemu", model, library, headers, repository, tmp_path)
    try:
        assert wait_until(lambda: any(PROGRAM in command for command in list_programs(tmp_path)))
        time.sleep(0.5)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) != 0
    assert wait_until(lambda: list_programs(tmp_path) == [])


# --- over ssh


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


def test_a_failure_on_the_board_is_reported_with_its_signal(server, library, headers):
    with open_over(server.runner, library, headers, "abort-run throw-load double") as engines:
        with pytest.raises(NotVerifiedError, match=r"SIGABRT.*:\n") as caught:
            engines["abort-run"].run(X)
        assert "abort-run.nb on 127.0.0.1 under qemu-aarch64: " in caught.value.message
        assert "conv_op.cc:35" in caught.value.message
        with pytest.raises(NotVerifiedError, match="no operator 'comv2d'"):
            engines["throw-load"].run(X)
        np.testing.assert_array_equal(engines["double"].run(X), X * 2)
    assert list(server.root.iterdir()) == []


def test_a_failure_or_a_hanging_program_leaves_nothing_on_the_board(server, library, headers):
    with (
        pytest.raises(NotVerifiedError, match="run within 1 s"),
        open_over(server.runner, library, headers, "sleep-run", run_timeout_s=1.0) as engines,
    ):
        engines["sleep-run"].run(X)
    assert list(server.root.iterdir()) == []
    assert wait_until(lambda: list_programs(server.root) == [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_verification_leaves_nothing_on_the_board(server, library, headers, repository, number):
    model = server.folder / "model.nb"
    model.write_text("sleep-run", encoding="utf-8")
    # Nothing can clean up here after SIGKILL, so leftovers must be in a folder of this test.
    process = start_interrupted(server.runner, model, library, headers, repository, server.folder)
    try:
        assert wait_until(lambda: any(PROGRAM in command for command in list_programs(server.root)))
        time.sleep(0.5)
    finally:
        process.send_signal(number)
        process.wait(timeout=60)
    assert wait_until(lambda: list(server.root.iterdir()) == [])
    assert wait_until(lambda: list_programs(server.root) == [])


def test_a_folder_that_cannot_be_removed_is_reported(server, library, headers):
    steps: list[str] = []
    server.put("rm", "echo rm: Device or resource busy >&2; exit 1")
    with open_over(server.runner, library, headers, report=steps.append) as engines:
        engines["double"].run(X)
    assert str(server.root) in steps[-1]
    assert "Device or resource busy" in steps[-1]


def expect_refusal(runner: str, library: Path, headers: Path, message: str) -> NotVerifiedError:
    with pytest.raises(NotVerifiedError, match=message) as caught, open_over(runner, library, headers) as engines:
        engines["double"].run(X)
    return caught.value


def test_a_key_that_is_refused_is_reported(server, library, headers):
    server.use_key("other")
    error = expect_refusal(server.runner, library, headers, r"127\.0\.0\.1: .*key.*\n.*Permission denied")
    assert f"ssh-copy-id -p {server.port}" in error.hint


def test_an_unknown_or_changed_host_key_is_reported(server, library, headers):
    (server.folder / "known_hosts").write_bytes(b"")
    error = expect_refusal(server.runner, library, headers, "host key")
    assert f"ssh -p {server.port}" in error.hint
    server.know(server.folder / "other.pub")
    expect_refusal(server.runner, library, headers, "host key")


def test_a_host_that_cannot_be_reached_is_reported(server, library, headers):
    server.close()
    expect_refusal(server.runner, library, headers, r"127\.0\.0\.1: .*\n.*refused")
    expect_refusal("ssh://no-such-host.invalid/tmp", library, headers, "no-such-host.invalid: ")


def test_a_missing_or_unwritable_folder_is_reported(server, library, headers):
    error = expect_refusal(f"{server.runner}/none", library, headers, r"(?s)make a folder.*No such file")
    assert "writable" in error.hint
    user_at_host = server.runner[len("ssh://") :].partition("/")[0]
    expect_refusal(f"ssh://{user_at_host}/proc", library, headers, r"(?s)make a folder in /proc.*mkdir")


def test_a_board_without_room_is_reported(server, library, headers):
    server.put("tar", "head -c 1000 >/dev/null; echo 'tar: 0.nb: Cannot write: No space left on device' >&2; exit 2")
    expect_refusal(server.runner, library, headers, r"(?s)copy the files.*No space left on device")
    assert list(server.root.iterdir()) == []


def test_a_machine_that_cannot_run_the_programs_is_reported(server, library, headers):
    (server.path / "qemu-aarch64-static").unlink()
    server.put("uname", "echo riscv64")
    error = expect_refusal(server.runner, library, headers, "riscv64, expected aarch64 for armv8")
    assert "qemu-user-static" in error.hint
    server.put("uname", "echo aarch64")
    error = expect_refusal(server.runner, library, headers, "aarch64 without /lib/ld-linux-aarch64")
    assert "another ABI" in error.hint
    assert list(server.root.iterdir()) == []


def test_a_board_runs_the_program_itself(server, library, headers, monkeypatch):
    board = replace(lite_runner.MACHINES["armv8"], kernels=("riscv64",), loader="/bin/sh")
    monkeypatch.setattr(lite_runner, "MACHINES", {"armv8": board})
    server.put("uname", "echo riscv64")
    # It cannot, as it is this machine; if the kernel can run ARM programs, the loader is missing.
    expect_refusal(server.runner, library, headers, r"double\.nb on 127\.0\.0\.1: .*exit code")


def test_output_of_a_login_shell_is_reported(server, library, headers):
    server.put("sh", "echo This account is currently not available.; exit 1")
    expect_refusal(server.runner, library, headers, r"(?s)make a folder.*currently not available")


def test_a_library_that_the_board_cannot_load_is_reported_with_the_loaders_line(server, library, headers):
    line = f"./{PROGRAM}: /lib/libc.so.6: version `GLIBC_2.34' not found (required by ./{PROGRAM})"
    server.put("qemu-aarch64-static", f'echo "{line.replace("`", chr(92) + "`")}" >&2; exit 1')
    error = expect_refusal(server.runner, library, headers, r"GLIBC_2\.34' not found")
    assert "cross compiler" in error.hint
    line = f"./{PROGRAM}: error while loading shared libraries: libgomp.so.1: cannot open shared object file"
    server.put("qemu-aarch64-static", f'echo "{line}" >&2; exit 127')
    error = expect_refusal(server.runner, library, headers, r"libgomp\.so\.1")
    assert "package" in error.hint


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
        for source in SOURCES.glob("*.cpp"):
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


def test_the_real_librarys_message_about_a_damaged_model_is_reported(real_library, export, tmp_path):
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
