"""The scripts of a bundle: what they check, what they make, and that they clean up."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from onnx import TensorProto, checker, helper

import converters.bundle.board
import edge_ocr.core
from converters.bundle.board.files import SCRIPTS, SERVICE
from converters.bundle.manifest import describe_settings
from edge_ocr.config import load_config
from edge_ocr.core.bundle import SCHEMA_VERSION, iterate_files
from edge_ocr.core.constants import list_constants

FOLDER = Path(converters.bundle.board.__file__).parent
CORE = Path(edge_ocr.core.__file__).parent

# What the scripts need from a system, in addition to Python and a compiler.
TOOLS = ("cat", "cp", "dirname", "id", "mkdir", "mv", "readlink", "rm", "rmdir", "sed", "sh", "sha256sum")

LIBRARY = "lib/armv8/libpaddle_light_api_shared.so"
SHIM = ".installed/lib/armv8/libedge_ocr_lite.so"

LINE = {"polygon": [[0, 0], [9, 0], [9, 9], [0, 9]], "det_score": 0.9, "text": "OPEN", "rec_score": 0.9}

# A compiler that records its arguments and writes a placeholder.
COMPILER = """
echo "$*" >>"$CALLS"
while [ "$1" != -o ]; do shift; done
echo shim >"$2"
"""


@dataclass(frozen=True)
class Outcome:
    """How a script ended."""

    code: int
    out: str
    errors: tuple[str, ...]
    """Lines of stderr."""

    def refuses(self, code: int, message: str, hint: str) -> None:
        """Assert that it printed one line with the error and one with the hint."""
        assert self.code == code, self
        *_, first, second = self.errors
        assert first.startswith("Error: "), self
        assert message in first, self
        assert second.startswith("Hint: "), self
        assert hint in second, self


class Board:
    """A bundle in a folder, and a system that has only what a test puts into it."""

    def __init__(self, folder: Path, shell: str) -> None:
        self.folder = folder
        self.bundle = folder / 'a "board\'s" $HOME' / "bundle"
        self.programs = folder / "bin"
        self.programs.mkdir()
        for name in TOOLS:
            is_part = shell == "busybox" or (shell == "dash" and name == "sh")
            found = shutil.which(shell if is_part else name)
            if found is None:
                pytest.skip(f"{shell} is not installed")
            (self.programs / name).symlink_to(found)
        self.put("python3", f'exec "{sys.executable}" "$@"')
        self.calls = folder / "calls"
        self.calls.touch()
        self._python: tuple[str, ...] = ()

    def put(self, name: str, script: str) -> Path:
        """Put a program there."""
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!{self.programs / 'sh'}\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    def claim(self, *, abi: str | None, glibc: str | None, reason: str = "no library of it") -> None:
        """Let the system's Python report another machine."""
        info = {"abi": abi, "glibc": glibc, "engines": {"paddle_lite": reason, "onnxruntime": None}}
        told = f"case \"$2 $3\" in 'edge_ocr_lite info') echo '{json.dumps(info)}'; exit ;; esac"
        liar = self.put("liar", f'{told}\nexec "{sys.executable}" "$@"')
        # An installation records the path of the real one, and the next would use that.
        self._python = ("--python", str(liar))

    def start(self, name: str, *arguments: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.programs / "sh"), str(self.bundle / name) if "/" not in name else name, *arguments],
            env={"PATH": str(self.programs), "CALLS": str(self.calls), "HOME": str(self.folder), **env},
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, name: str, *arguments: str, cwd: Path | None = None, **env: str) -> Outcome:
        """Run a script of the bundle, or one given by its path."""
        process = self.start(name, *arguments, cwd=cwd, **env)
        out, errors = process.communicate(timeout=120)
        return Outcome(process.returncode, out, tuple(errors.splitlines()))

    def install(self, *arguments: str, **env: str) -> Outcome:
        return self.run("install.sh", *self._python, *arguments, **env)

    def interrupt(self, number: int, *arguments: str) -> int:
        """Start an installation that at one point makes the file $STARTED and waits; end it there."""
        started = self.folder / "started"
        process = self.start("install.sh", *self._python, *arguments, STARTED=str(started))
        deadline = time.monotonic() + 60
        while not started.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        # As a terminal does: to the whole group.
        os.killpg(process.pid, number)
        process.communicate(timeout=60)
        return process.returncode

    def list_files(self) -> dict[str, tuple[int, int]]:
        """Return everything in the bundle, files with what changes when they are written: inode and time."""
        return {
            str(path.relative_to(self.bundle)): (path.lstat().st_ino, path.is_dir() or path.lstat().st_mtime_ns)
            for path in self.bundle.rglob("*")
        }

    def edit(self, change: Callable[[Any], object]) -> None:
        """Change the manifest."""
        path = self.bundle / "manifest.json"
        manifest = json.loads(path.read_bytes())
        change(manifest)
        path.write_text(json.dumps(manifest), encoding="utf-8")

    def set_library(self, **facts: object) -> None:
        """Change the manifest's entry for the armv8 library, and remove the graphs."""

        def change(manifest: Any) -> None:
            manifest["onnx"] = None
            manifest["lite"]["libraries"]["armv8"].update(facts)

        self.edit(change)

    def add_library(self) -> None:
        """Put a library into the bundle, and the headers to build a shim for it."""
        for name in (LIBRARY, "include/paddle_api.h"):
            (self.bundle / name).parent.mkdir(parents=True)
            (self.bundle / name).write_text(name, encoding="utf-8")
        self.set_library(file=LIBRARY, version_matches=True, version="v2.13-rc", shim=None, min_glibc="2.17")
        self.claim(abi="armv8", glibc="2.36")


def write_model(path: Path, channels: int, rank: int) -> None:
    """Write a network that sees nothing: all outputs are 0."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)
    nodes = [helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=1)]
    nodes += [helper.make_node("Sub", ["mean", "mean"], ["y" if rank == 4 else "zero"])]
    if rank == 3:
        nodes += [helper.make_node("Squeeze", ["zero"], ["y"], axes=[1])]
    graph = helper.make_graph(nodes, "blind", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    checker.check_model(model)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.SerializeToString())


def write_bundle(folder: Path) -> None:
    """Write a bundle whose models see no text, with all the real code."""
    folder.mkdir(parents=True)
    for name in (*SCRIPTS, SERVICE):
        shutil.copy(FOLDER / name, folder)
    for path in iterate_files(CORE):
        target = folder / "runtime" / "edge_ocr_lite" / path.relative_to(CORE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    write_model(folder / "onnx" / "det.onnx", 1, rank=4)
    write_model(folder / "onnx" / "rec.onnx", 2, rank=3)
    cv2.imwrite(str(folder / "golden.png"), np.full((32, 32, 3), 255, np.uint8))
    (folder / "dict.txt").write_text("a\n", encoding="utf-8")
    files = {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size_bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "edge_ocr_version": "0.1.0",
        "target": "arm",
        "precision": "fp32",
        "lite": {"runtime_version": "v2.13-rc", "libraries": {"armv8": {"file": None, "url": "https://localhost/"}}},
        "charset": {"file": "dict.txt", "classes": 2},
        "models": {kind: {"file": f"models/{kind}.nb"} for kind in ("det", "rec")},
        "onnx": {kind: {"file": f"onnx/{kind}.onnx"} for kind in ("det", "rec")},
        "settings": describe_settings(load_config("OCR")),
        "constants": list_constants(),
        "golden": {"image": "golden.png", "lines": []},
        "files": files,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.fixture
def make_board(tmp_path) -> Callable[[str], Board]:
    def make(shell: str) -> Board:
        board = Board(tmp_path, shell)
        write_bundle(board.bundle)
        return board

    return make


@pytest.fixture
def board(make_board) -> Board:
    return make_board("sh")


@pytest.fixture
def runnable(board) -> Board:
    """A board that can run its bundle."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    return board


# --- what works


@pytest.mark.parametrize("shell", ["dash", "busybox", "bash"])
def test_install_run_rename_uninstall(make_board, shell):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    board = make_board(shell)
    before = board.list_files()

    first = board.install()
    assert first.code == 0, first
    assert "golden  ok" in first.out
    assert first.errors[0].startswith("engine: onnxruntime (")
    assert first.errors[1:] == (f"ready: {board.bundle}/edge-ocr-lite photo.jpg",)
    made = board.list_files()
    assert {name: made[name] for name in before} == before
    assert made.keys() - before.keys() == {".installed", ".installed/python", ".installed/state"}
    assert (board.bundle / ".installed" / "python").read_text(encoding="utf-8") == f"{sys.executable}\n"

    second = board.install()
    assert (second.code, board.list_files()) == (0, made)
    assert "golden  ok" in second.out

    board.bundle = board.bundle.rename(board.folder / "it's moved")
    # Not on PATH: the installed one runs.
    (board.programs / "python3").unlink()
    (board.folder / "link").symlink_to("it's moved/edge-ocr-lite")
    (board.folder / "link to link").symlink_to(board.folder / "link")
    assert "golden  ok" in board.run("./link to link", "selftest").out
    assert board.install("--no-selftest").code == 0

    for _ in range(2):
        assert board.run("uninstall.sh").code == 0
        assert not [path for path in board.bundle.iterdir() if path.name.startswith(".installed")]
    assert before.keys() == {name for name in board.list_files() if "__pycache__" not in name}


def test_arguments_and_exit_codes_pass_through_the_launcher(runnable):
    board = runnable
    (board.folder / "what's that?.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    outcome = board.run("edge-ocr-lite", "predict", "--format", "json", "what's that?.png", "a  b.png")
    assert (outcome.code, outcome.out) == (4, "[]\n")
    assert "Error: what's that?.png is truncated" in outcome.errors
    assert "Error: no such file: a  b.png" in outcome.errors


def find_python(name: str) -> str:
    """Return the path of a Python; skips if there is none."""
    found = sys.executable if name == "this" else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    # This name may be a script that searches for one.
    done = subprocess.run(
        [found, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"{name} does not start")
    return done.stdout.strip()


# Before 3.11, -m imports from the current folder whatever the environment says.
EACH_PYTHON = pytest.mark.parametrize("name", ["this", "python3.9", "python3.10"])
TRAPS = ("argparse", "encodings", "importlib", "json", "os", "runpy", "shlex", "site", "edge_ocr_lite")


def set_traps(folder: Path) -> None:
    for module in TRAPS:
        (folder / f"{module}.py").write_text("raise SystemExit(77)", encoding="utf-8")


@EACH_PYTHON
def test_files_next_to_the_pictures_are_not_modules(board, name):
    board.put("python3", f'exec "{find_python(name)}" "$@"')
    set_traps(board.folder)
    for arguments in (("--help",), ("info",)):
        outcome = board.run("edge-ocr-lite", *arguments)
        assert (outcome.code, outcome.errors) == (0, ())
    assert "usage: edge-ocr-lite" in board.run("edge-ocr-lite", "--help").out


@EACH_PYTHON
def test_files_in_the_bundle_are_not_modules(board, name):
    modules = ("numpy", "cv2", "pyclipper", "onnxruntime")
    python = str(make_python(board.folder / "bare", *modules[:-1], base=find_python(name)))
    set_traps(board.bundle)
    (board.bundle / "onnxruntime.py").touch()
    board.install("--python", python, "--no-selftest").refuses(
        6, f"{python} lacks the Python modules onnxruntime", "--pip"
    )
    python = str(make_python(board.folder / "whole", *modules, base=find_python(name)))
    outcome = board.install("--python", python, "--no-selftest")
    assert outcome.code == 0, outcome


def test_modules_of_the_user_are_unchanged(board):
    (board.folder / "mine").mkdir()
    (board.folder / "mine" / "onnxruntime.py").write_text("", encoding="utf-8")
    bare = make_python(board.folder / "bare")
    board.put("python3", f'exec "{bare}" "$@"')
    info = json.loads(board.run("edge-ocr-lite", "info", PYTHONPATH=str(board.folder / "mine")).out)
    assert info["modules"] == {"numpy": False, "cv2": False, "pyclipper": False, "onnxruntime": True}


def test_the_launcher_without_python(board):
    (board.programs / "python3").unlink()
    board.run("edge-ocr-lite", "info").refuses(6, "python3", "apt install python3")


def test_a_given_python_is_kept(runnable):
    board = runnable
    other = board.put("other", f'exec "{sys.executable}" "$@"')
    (board.programs / "python3").unlink()
    assert board.install("--python", "bin/other").code == 0
    other.unlink()
    assert board.install().code == 0
    assert board.run("edge-ocr-lite", "selftest").code == 0


def test_help(board):
    outcome = board.install("--help")
    assert (outcome.code, outcome.errors) == (0, ())
    assert "--no-selftest" in outcome.out


# --- refusals


def test_refusals_leave_nothing_behind(board, tmp_path):
    before = board.list_files()
    (board.programs / "dead").write_text("#!/nowhere\n", encoding="utf-8")
    (board.programs / "dead").chmod(0o755)
    board.install("--frobnicate").refuses(2, "unknown argument --frobnicate", "--help")
    board.install("--python").refuses(2, "--python", "--python /")
    board.install("--engine").refuses(2, "--engine", "onnxruntime")
    board.install("--engine", "openvino").refuses(2, "--engine openvino", "onnxruntime")
    board.install("--python", "nope").refuses(6, "--python nope", "python3")
    board.install("--python", "bin/dead").refuses(6, "bin/dead", "--python PATH")
    (board.programs / "python3").unlink()
    board.install().refuses(6, "python3", "sudo apt install python3")
    assert board.list_files() == before


def test_python_may_be_too_old(board):
    board.put("python3", "case $2 in *print*) echo 3.8.10 ;; *) exit 1 ;; esac")
    board.install().refuses(6, "/bin/python3 is Python 3.8.10, expected 3.9 or newer", "--python PATH")
    assert not (board.bundle / ".installed").exists()


@pytest.mark.parametrize("name", ["manifest.json", "runtime/edge_ocr_lite/__main__.py"])
def test_an_incomplete_bundle(board, name):
    (board.bundle / name).unlink()
    board.install().refuses(5, "manifest.json or runtime/", "again")


def test_a_damaged_manifest(board):
    (board.bundle / "manifest.json").write_text("{", encoding="utf-8")
    board.install().refuses(5, "manifest.json", "again")


def test_a_folder_that_python_cannot_search(board):
    board.bundle = board.bundle.rename(board.folder / "a:b")
    board.install().refuses(2, "colon", "move")


@pytest.mark.parametrize("system", ["other", "32-bit", "no-library", "other-version"])
def test_a_bundle_for_something_else(board, system):
    abi = {"other": None, "32-bit": "armv7hf"}.get(system, "armv8")
    board.claim(abi=abi, glibc="2.36", reason="it fits not")
    board.set_library()
    if system == "other-version":
        board.set_library(file=LIBRARY, version_matches=False)
    hint = f"armlinux.{abi}, then export the bundle again with --arch {abi}, or with --with-onnx"
    board.install().refuses(5, "it fits not", hint if abi else "--with-onnx")
    assert not (board.bundle / ".installed").exists()


@pytest.mark.parametrize(
    ("glibc", "words"),
    [(None, "Paddle-Lite needs glibc"), ("2.9", "Paddle-Lite's library needs glibc 2.17, but this system has 2.9")],
)
def test_another_c_library(board, glibc, words):
    board.add_library()
    board.claim(abi="armv8", glibc=glibc)
    board.install().refuses(6, words, "--with-onnx")
    # The graphs run on it, if there are any.
    board.edit(lambda manifest: manifest.update(onnx=dict(manifest["models"])))
    assert board.install("--no-selftest").errors[0].startswith(f"engine: onnxruntime ({words}")


def make_python(folder: Path, *modules: str, base: str = sys.executable) -> Path:
    """Make an environment that has only empty modules."""
    subprocess.run([base, "-m", "venv", "--without-pip", folder], check=True)
    (place,) = folder.glob("lib/python*/site-packages")
    for name in modules:
        (place / f"{name}.py").touch()
    return folder / "bin" / "python"


def test_missing_modules(board):
    python = str(make_python(board.folder / "bare"))
    board.install("--python", python).refuses(
        6,
        f"{python} lacks the Python modules numpy cv2 pyclipper onnxruntime",
        "sudo apt install python3-numpy python3-opencv python3-pyclipper (for Debian's python3), or run ./install.sh",
    )
    python = str(make_python(board.folder / "more", "numpy", "cv2", "pyclipper"))
    outcome = board.install("--python", python)
    outcome.refuses(6, f"{python} lacks the Python modules onnxruntime", "Hint: run ./install.sh --pip")
    assert not (board.bundle / ".installed").exists()


def test_an_unwritable_folder(board):
    board.put("mkdir", "exit 1")
    board.install("--no-selftest").refuses(2, str(board.bundle), "owner")


# --- the selftest decides


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda manifest: manifest["golden"]["lines"].append(LINE), 8, "expected 'OPEN'"),
        (lambda manifest: manifest["files"]["dict.txt"].update(sha256="0" * 64), 5, "dict.txt is damaged"),
    ],
)
def test_a_failed_selftest_undoes_the_installation(runnable, change, code, words):
    board = runnable
    board.edit(change)
    before = board.list_files()
    outcome = board.install()
    assert (outcome.code, board.list_files()) == (code, before)
    assert any(words in line for line in outcome.errors)
    assert outcome.errors[-1] == f"Error: the self-test failed with exit code {code}; the installation was undone"
    assert board.install("--no-selftest").code == 0
    made = board.list_files()
    # Nothing was made this time, so nothing is removed.
    assert (board.install().code, board.list_files()) == (code, made)


def test_a_bundle_that_has_nothing_to_compare_is_installed_with_a_warning(runnable):
    board = runnable
    board.edit(lambda manifest: manifest.update(golden=None))
    for _ in range(2):
        outcome = board.install()
        assert outcome.code == 0, outcome
        warning, ready = outcome.errors[-2:]
        assert warning.startswith("WARNING: ")
        assert "golden picture" in warning
        assert ready.startswith("ready: ")
        assert (board.bundle / ".installed" / "python").exists()
    assert board.run("edge-ocr-lite", "selftest").code == 9


def test_an_earlier_installation_stays_if_the_new_one_fails(runnable):
    board = runnable
    assert board.install().code == 0
    before = board.list_files()
    other = make_python(board.folder / "other", "numpy", "cv2", "pyclipper", "onnxruntime")
    assert board.install("--python", str(other)).code != 0
    assert board.list_files() == before
    assert board.run("edge-ocr-lite", "selftest").code == 0


# --- interruptions


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
@pytest.mark.parametrize("shell", ["dash", "busybox", "bash"])
def test_interrupted_while_it_builds(make_board, shell, number, code):
    board = make_board(shell)
    board.add_library()
    before = board.list_files()
    board.put("g++", f'{COMPILER}\n: >"$STARTED"\nexec {shutil.which("sleep")} 60')
    assert board.interrupt(number, "--no-selftest") == code
    assert board.list_files() == before


@pytest.fixture
def waiting(board) -> Board:
    """A board whose selftest waits."""
    selftest = board.bundle / "runtime" / "edge_ocr_lite" / "commands" / "selftest.py"
    selftest.write_text(
        "import os, pathlib, time\n"
        "def run(options):\n"
        "    if 'STARTED' in os.environ:\n"
        "        pathlib.Path(os.environ['STARTED']).touch()\n"
        "        time.sleep(60)\n"
        "    return 0\n",
        encoding="utf-8",
    )
    board.add_library()
    board.put("g++", COMPILER)
    return board


def test_interrupted_in_the_selftest(waiting):
    before = waiting.list_files()
    assert waiting.interrupt(signal.SIGINT) == 130
    assert waiting.list_files() == before


@pytest.mark.parametrize("earlier", [False, True])
def test_leftovers_of_a_power_failure_are_removed_by_the_next_run(waiting, earlier):
    if earlier:
        assert waiting.install().code == 0
    before = waiting.list_files()
    (waiting.bundle / LIBRARY).write_text("newer", encoding="utf-8")
    waiting.interrupt(signal.SIGKILL)
    assert (waiting.bundle / ".installed.old").exists()
    (waiting.programs / "g++").unlink()
    waiting.install().refuses(6, "g++", "g++")
    after = waiting.list_files()
    assert after.pop(LIBRARY) != before.pop(LIBRARY)
    assert after == before


# --- the shim


def test_the_shim_is_built_once(board):
    board.add_library()
    board.put("g++", COMPILER)
    for _ in range(2):
        outcome = board.install("--no-selftest")
        assert outcome.code == 0, outcome
        assert outcome.errors[0] == "engine: paddle_lite (armv8)"
        assert (board.bundle / SHIM).read_text(encoding="utf-8") == "shim\n"
        (call,) = board.calls.read_text(encoding="utf-8").splitlines()
        assert call.endswith("-L lib/armv8 -l:libpaddle_light_api_shared.so -Wl,-rpath,$ORIGIN/../../../lib/armv8"), (
            call
        )
    # No longer, if its sources changed.
    (board.bundle / LIBRARY).write_text("newer", encoding="utf-8")
    assert board.install("--no-selftest").code == 0
    assert len(board.calls.read_text(encoding="utf-8").splitlines()) == 2
    # Nor if the bundle has one: the built one would come first.
    board.set_library(shim="lib/armv8/libedge_ocr_lite.so")
    assert board.install("--no-selftest").code == 0
    assert not (board.bundle / SHIM).exists()


def test_the_shim_cannot_be_built(board):
    board.add_library()
    before = board.list_files()
    board.install().refuses(6, "g++", "sudo apt install g++")
    board.put("g++", f"{COMPILER}\necho 'fatal error: iostream' >&2\nexit 1")
    outcome = board.install()
    outcome.refuses(6, "shim", "--with-onnx")
    assert "fatal error: iostream" in outcome.errors
    assert board.list_files() == before
    (board.bundle / "include" / "paddle_api.h").unlink()
    board.install().refuses(5, "include/", "export the bundle again")


def test_a_real_shim_finds_the_library_wherever_the_bundle_goes(board):
    """The real linker: `lib` and `.installed/lib` keep their relative positions."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    board.add_library()
    stand_in = Path(__file__).parent.parent / "unit" / "stand_in"
    shutil.copy(stand_in / "paddle_api.h", board.bundle / "include")
    command = [compiler, "-shared", "-fPIC", "-I", stand_in, '-DVERSION="v2.13-rc"', stand_in / "paddle_lite.cpp"]
    command += ["-Wl,-soname,libpaddle_light_api_shared.so", "-o", board.bundle / LIBRARY]
    subprocess.run(command, check=True)
    board.put("g++", f'PATH={os.environ["PATH"]} exec {compiler} "$@"')
    outcome = board.install("--no-selftest")
    assert outcome.code == 0, outcome
    moved = board.bundle.rename(board.folder / "moved")
    load = f"import ctypes; ctypes.CDLL({str(moved / SHIM)!r}).edge_ocr_lite_run"
    subprocess.run([sys.executable, "-c", load], check=True)


# --- --pip


def write_wheel(folder: Path, package: str, module: str, requires: str = "") -> None:
    """Write a wheel with one empty module."""
    name = f"{package.replace('-', '_')}-1.0"
    metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n{requires}"
    files: Mapping[str, str] = {
        f"{module}.py": "",
        f"{name}.dist-info/METADATA": metadata,
        f"{name}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


def test_missing_modules_by_pip(board):
    pytest.importorskip("ensurepip", reason="Python has no ensurepip")
    # Another environment's modules cannot be seen from a new one.
    python = str(make_python(board.folder / "bare", "numpy"))
    packages = board.folder / "packages"
    packages.mkdir()
    for name in ("numpy", "pyclipper", "onnxruntime"):
        write_wheel(packages, name, name, "Requires-Dist: sympy\n")
    env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(packages)}
    before = board.list_files()

    outcome = board.install("--python", python, "--pip", "--no-selftest", **env)
    outcome.refuses(6, "pip could not install numpy opencv-python-headless pyclipper onnxruntime", "network")
    assert board.list_files() == before

    write_wheel(packages, "opencv-python-headless", "cv2")
    outcome = board.install("--python", python, "--pip", "--no-selftest", **env)
    assert outcome.code == 0, outcome
    assert not (board.bundle / ".installed" / "python").exists()
    made = board.list_files()
    (board.programs / "python3").unlink()
    for arguments in (["--pip"], []):
        assert board.install("--no-selftest", *arguments).code == 0
        assert board.list_files() == made

    board.bundle = board.bundle.rename(board.folder / "moved")
    info = json.loads(board.run("edge-ocr-lite", "info").out)
    assert set(info["modules"].values()) == {True}

    # The environment stays, whatever else must be made again.
    (board.bundle / ".installed" / "state").write_text("python: venv\nof an older bundle\n", encoding="utf-8")
    assert board.install("--no-selftest").code == 0
    assert (board.bundle / ".installed" / "state").read_text(encoding="utf-8") == "python: venv\n"
    assert set(json.loads(board.run("edge-ocr-lite", "info").out)["modules"].values()) == {True}
