import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from converters.lite.toolchain import (
    LITE_VERSION,
    PYTHON_VARIABLE,
    WHEELS,
    describe_toolchain,
    find_opt_interpreter,
    find_wheel,
)
from converters.processes.interpreters import READY_MARKER, check_platform, list_interpreters
from edge_ocr.errors import ToolchainError, UsageError

WHEEL = WHEELS[LITE_VERSION].version

# A separate process that finds the toolchain and reports its steps.
FIND = """
import json
from converters.lite.toolchain import find_opt_interpreter
steps = []
found = find_opt_interpreter(report=lambda step: (steps.append(step), print("#", step, flush=True)))
print(json.dumps([str(found.python), found.origin, steps]))
"""


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """An empty cache folder; skips if this interpreter has paddlelite and so makes nothing."""
    if sys.version_info < (3, 11):
        pytest.skip("this interpreter takes the paddlelite wheel itself")
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "opt"


@pytest.fixture
def no_python(tmp_path, monkeypatch):
    """A machine without old Pythons and without network."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    cut_network(tmp_path, monkeypatch)


def cut_network(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "uv-python"))


def add_program(path, text="exit 0"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def start_find():
    return subprocess.Popen([sys.executable, "-c", FIND], stdout=subprocess.PIPE, text=True)


def list_environments(folder):
    return sorted(path.name for path in folder.glob("*-py3*"))


@pytest.mark.parametrize(
    ("system", "machine"), [("Linux", "aarch64"), ("Darwin", "arm64"), ("Windows", "AMD64"), ("Linux", "i686")]
)
def test_machines_without_wheels_are_refused(system, machine):
    with pytest.raises(ToolchainError, match=f"{system} on {machine}") as caught:
        check_platform(find_wheel(LITE_VERSION), system, machine)
    assert PYTHON_VARIABLE in caught.value.hint


def test_machines_with_wheels_pass():
    check_platform(find_wheel(LITE_VERSION), "Linux", "x86_64")
    check_platform(find_wheel(LITE_VERSION), "Darwin", "x86_64")


def test_interpreters_come_from_every_folder_of_path_then_pyenv_newest_first(tmp_path, monkeypatch):
    shim = add_program(tmp_path / "shims" / "python3.10")
    real = add_program(tmp_path / "bin" / "python3.10")
    older = add_program(tmp_path / "bin" / "python3.8")
    (tmp_path / "bin" / "python3.9").write_text("not executable")
    for version in ("3.10.2", "3.10.13", "3.9.18", "3.11.7", "3.10-dev"):
        add_program(tmp_path / "pyenv" / "versions" / version / "bin" / "python")
    monkeypatch.setenv("PATH", f"{tmp_path}/shims:{tmp_path}/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    versions = tmp_path / "pyenv" / "versions"
    pyenv = [versions / version / "bin" / "python" for version in ("3.10.13", "3.10.2", "3.9.18")]
    assert list(list_interpreters(find_wheel(LITE_VERSION))) == [shim, real, *pyenv, older]
    assert list(list_interpreters(find_wheel("2.12"))) == []
    old = add_program(versions / "3.7.16" / "bin" / "python")
    assert list(list_interpreters(find_wheel("2.12"))) == [old]


def test_versions_are_found_with_and_without_v():
    assert find_wheel("v2.13-rc") is find_wheel("2.13-rc") is WHEELS["2.13-rc"]
    assert (find_wheel("2.14-rc").version, find_wheel("2.14-rc").pythons) == ("2.14rc0", "CPython 3.7")
    assert find_wheel("2.13-rc").pythons == "CPython 3.8 to 3.10"


@pytest.mark.parametrize("version", ["2.10", "2.13", "2.13rc0", "vv2.12", "", "latest"])
def test_unknown_versions_are_refused_with_the_known_ones(version):
    with pytest.raises(UsageError, match=f"{version}$") as caught:
        find_opt_interpreter(version)
    known = "2.13-rc (CPython 3.8 to 3.10), 2.14-rc (CPython 3.7), 2.12 (CPython 3.7), 2.11 (CPython 3.7)"
    assert caught.value.hint.endswith(known)


@pytest.mark.parametrize("version", ["2.14-rc", "2.12", "2.11"])
def test_without_its_python_a_version_names_the_one_it_needs(empty_cache, no_python, version):
    with pytest.raises(ToolchainError, match=r"\(paddlelite [\w.]+, CPython 3\.7\)") as caught:
        find_opt_interpreter(version)
    assert "uv venv --python 3.7: " in caught.value.message
    assert "uv python install 3.7" in caught.value.hint
    assert f"pip install paddlelite=={find_wheel(version).version}" in caught.value.hint
    assert list_environments(empty_cache) == []


def test_the_named_interpreter_is_used(opt, monkeypatch):
    monkeypatch.setenv(PYTHON_VARIABLE, str(opt.python))
    found = find_opt_interpreter()
    assert (found.python, found.origin, found.opt_version) == (opt.python, PYTHON_VARIABLE, "v2.13-rc")


def test_a_named_interpreter_of_another_version_is_refused(opt, monkeypatch):
    monkeypatch.setenv(PYTHON_VARIABLE, str(opt.python))
    with pytest.raises(ToolchainError, match=r"2\.13rc0, expected 2\.12") as caught:
        find_opt_interpreter("2.12")
    assert "`pip install paddlelite==2.12`" in caught.value.hint


def test_a_named_interpreter_without_paddlelite_is_refused(monkeypatch, tmp_path):
    # A ready cache exists, but the interpreter that the user named must not be skipped.
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    monkeypatch.setenv(PYTHON_VARIABLE, str(bare / "bin" / "python"))
    expected = rf"{PYTHON_VARIABLE}: .*Python {platform.python_version()}\) has no paddlelite, expected 2\.13rc0"
    with pytest.raises(ToolchainError, match=expected) as caught:
        find_opt_interpreter()
    assert "pip install paddlelite==2.13rc0" in caught.value.hint


def test_a_named_interpreter_that_is_missing_or_broken_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(ToolchainError, match="EDGE_OCR_OPT_PYTHON"):
        find_opt_interpreter()
    monkeypatch.setenv(PYTHON_VARIABLE, str(add_program(tmp_path / "broken", "exit 9")))
    with pytest.raises(ToolchainError, match="exit code 9"):
        find_opt_interpreter()


def test_without_python_and_network_everything_tried_is_listed(empty_cache, no_python, tmp_path):
    add_program(tmp_path / "python3.10", "echo 'pyenv: python3.10: command not found' >&2; exit 127")
    answer = {"python_version": "3.9.1", "implementation": "PyPy", "machine": "x86_64", "bits": 64}
    add_program(tmp_path / "python3.9", f"echo '{json.dumps(answer)}'")
    with pytest.raises(ToolchainError) as caught:
        find_opt_interpreter()
    message = caught.value.message
    assert f"this interpreter (Python {platform.python_version()}) has no paddlelite" in message
    assert "python3.10 does not run: ended with exit code 127: pyenv: python3.10: command not found" in message
    assert "python3.9 is PyPy 3.9.1" in message
    assert re.search(r"\(paddlelite 2\.13rc0, CPython 3\.8 to 3\.10\): uv venv --python 3\.10: ", message)
    assert "\n" not in message
    assert "error: " in str(caught.value.__cause__)
    assert "uv python install 3.10" in caught.value.hint
    assert list_environments(empty_cache) == []


def test_an_install_that_fails_leaves_nothing(opt, empty_cache, tmp_path, monkeypatch):
    cut_network(tmp_path, monkeypatch)
    # Leftovers of a killed process, and an environment whose interpreter is gone.
    (empty_cache / f"{WHEEL}-py310" / "bin").mkdir(parents=True)
    gone = empty_cache / f"{WHEEL}-py39"
    gone.mkdir()
    (gone / READY_MARKER).touch()
    add_program(tmp_path / "path" / "python3.10", f'exec "{find_base(opt)}" "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    with pytest.raises(ToolchainError, match=r"uv pip install paddlelite==2\.13rc0 for Python 3\.\d+: ") as caught:
        find_opt_interpreter()
    assert f"{gone}/bin/python does not start" in caught.value.message
    assert f"{WHEEL}-py310" not in list_environments(empty_cache)


def find_base(opt):
    code = "import sys; print(sys.base_prefix)"
    prefix = subprocess.run([opt.python, "-I", "-c", code], check=True, capture_output=True, text=True)
    return Path(prefix.stdout.strip(), "bin", "python" + ".".join(opt.python_version.split(".")[:2]))


def test_describing_makes_nothing(opt, empty_cache, monkeypatch):
    assert describe_toolchain() == (None, "edge-ocr export makes it (once, about 170 MB)")
    assert not empty_cache.exists()
    monkeypatch.setenv(PYTHON_VARIABLE, str(opt.python))
    found, remedy = describe_toolchain()
    assert found.startswith("v2.13-rc on Python 3.")
    assert remedy == ""
    monkeypatch.setenv(PYTHON_VARIABLE, str(empty_cache / "none"))
    found, remedy = describe_toolchain()
    assert found is None
    assert "no such program" in remedy


def test_a_cache_that_cannot_be_written_is_reported(empty_cache):
    empty_cache.parent.parent.mkdir(exist_ok=True)
    empty_cache.parent.write_text("a file")
    with pytest.raises(ToolchainError, match="cache folder") as caught:
        find_opt_interpreter()
    assert "EDGE_OCR_HOME" in caught.value.hint


# The tests below install the real wheel, from uv's cache or the registry.


def test_an_environment_is_made_once_and_then_found(opt, empty_cache):
    left = empty_cache / f"{WHEEL}-py310" / "bin" / "python"
    add_program(left, "exit 1")
    steps = []
    made = find_opt_interpreter(report=steps.append)
    assert made.python.is_relative_to(empty_cache)
    assert made.opt_version == "v2.13-rc"
    assert [step.split()[0] for step in steps] == ["installing"]
    steps.clear()
    assert find_opt_interpreter(report=steps.append) == made
    assert steps == []


def test_a_relative_cache_folder_works(opt, empty_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_OCR_HOME", "relative")
    assert find_opt_interpreter().python.is_relative_to(tmp_path / "relative")


def test_two_processes_make_one_environment(opt, empty_cache):
    both = [start_find(), start_find()]
    answers = [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in both]
    assert answers[0][:2] == answers[1][:2]
    steps = [step.split()[0] for _, _, steps in answers for step in steps]
    assert steps.count("installing") == 1
    assert len(list_environments(empty_cache)) == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_environment_is_never_used(opt, empty_cache, how):
    process = start_find()
    assert process.stdout.readline().startswith("# installing")
    os.kill(process.pid, how)
    process.communicate(timeout=60)
    assert process.returncode != 0
    time.sleep(0.1)
    assert list(empty_cache.glob(f"*/{READY_MARKER}")) == []
    if how == signal.SIGINT:
        assert list_environments(empty_cache) == []
    assert find_opt_interpreter().python.is_relative_to(empty_cache)
