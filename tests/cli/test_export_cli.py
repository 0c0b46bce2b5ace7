import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import time

import pytest

from converters.toolchain import PYTHON_VARIABLE, find_opt_interpreter
from edge_ocr.models import resolve_model

COMMAND = [sys.executable, "-W", "error", "-c", "from edge_ocr.cli import main; main()", "export"]


@pytest.fixture(scope="session")
def opt():
    if platform.machine() != "x86_64":
        pytest.skip("paddlelite has no wheel for this machine")
    return find_opt_interpreter()


@pytest.fixture
def bad_det(tmp_path):
    """A detection model that is a Paddle program, but not one that opt takes."""
    det = resolve_model("PP-OCRv4_mobile_det", "det")
    folder = tmp_path / "bad_det"
    folder.mkdir()
    shutil.copy(det.params, folder / "inference.pdiparams")
    data = det.program.read_bytes().replace(b"hard_swish", b"hard_swosh")
    (folder / "inference.pdmodel").write_bytes(data)
    return folder


def run_export(*options):
    return subprocess.run([*COMMAND, *map(str, options)], capture_output=True, text=True, timeout=120, check=False)


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_export_prints_the_bundle_only(opt, tmp_path):
    out = tmp_path / "bundle"
    ended = run_export("--target", "arm", "--out", out, "--with-cls")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{out}\n"
    assert list_names(out / "models") == ["cls.nb", "det.nb", "rec.nb"]
    for words in ("det: converting PP-OCRv4_mobile_det", "writing the bundle", "Before MB", "for Paddle-Lite v2.13-rc"):
        assert words in ended.stderr

    again = run_export("--target", "arm", "--out", out)
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert again.stdout == ""

    forced = run_export("--target", "arm", "--out", out, "--force")
    assert forced.returncode == 0, forced.stderr
    assert list_names(out / "models") == ["det.nb", "rec.nb"]
    assert list_names(tmp_path) == ["bundle"]


def test_naming_a_classifier_includes_it(opt, tmp_path):
    ended = run_export("--target", "arm", "--out", tmp_path / "bundle", "--cls-model", "ch_ppocr_mobile_v2_cls")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "bundle" / "models" / "cls.nb").is_file()


def test_an_unknown_target_exits_2(tmp_path):
    ended = run_export("--target", "toaster", "--out", tmp_path / "bundle")
    assert ended.returncode == 2
    assert "unknown target 'toaster'" in ended.stderr
    assert "arm" in ended.stderr


def test_an_unusable_interpreter_exits_6(tmp_path, monkeypatch):
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "none"))
    ended = run_export("--target", "arm", "--out", tmp_path / "bundle")
    assert ended.returncode == 6
    assert PYTHON_VARIABLE in ended.stderr
    assert list_names(tmp_path) == []


def test_a_model_that_opt_refuses_exits_7_with_its_last_lines(opt, tmp_path, bad_det):
    ended = run_export("--target", "arm", "--out", tmp_path / "out" / "bundle", "--det-model", bad_det)
    assert ended.returncode == 7
    assert "opt could not convert" in ended.stderr
    assert "killed by SIG" in ended.stderr
    assert "hard_swosh" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list_names(tmp_path / "out") == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_export_cut_short_leaves_nothing_at_its_place(opt, tmp_path, monkeypatch, how):
    started = tmp_path / "started"
    slow = tmp_path / "slow-python"
    # Answers the first question like the real interpreter, and hangs in the first conversion.
    slow.write_text(
        f'#!/bin/sh\nif [ -e "{started}.once" ]; then touch "{started}"; exec sleep 20; fi\n'
        f'touch "{started}.once"\nexec "{opt.python}" "$@"\n'
    )
    slow.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(slow))
    out = tmp_path / "out" / "bundle"
    process = subprocess.Popen(
        [*COMMAND, "--target", "arm", "--out", str(out)], stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while not started.exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        partial = list(out.parent.iterdir())
        assert [path.suffix for path in partial] == [".partial"]
        # As Ctrl-C does: to the whole group of the terminal.
        (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
        _, stderr = process.communicate(timeout=30)
        assert not out.exists()
        if how == signal.SIGINT:
            assert process.returncode == 130, stderr
            assert list_names(out.parent) == []
    finally:
        # What a killed export leaves is ours to end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom edge_ocr.cli import export\n"
        "heavy = {'numpy', 'cv2', 'paddle', 'openvino', 'rich.console', 'converters', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
