import ast
import platform
import re
import sys
from pathlib import Path

import pytest

from converters.lite.nb.read import read_header
from converters.lite.opt import WORKER, check_support, describe_opt, run_opt
from converters.processes.child import clean_environment
from converters.processes.interpreters import describe_interpreter
from converters.text import list_last_lines, sum_up
from edge_ocr.errors import ConversionError, ToolchainError
from edge_ocr.models.resolve import resolve_model


@pytest.fixture(scope="session")
def opt_python(opt):
    return opt.python


@pytest.fixture(scope="module")
def det():
    return resolve_model("PP-OCRv4_mobile_det", "det")


def write_script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_worker_is_python_37_without_our_modules():
    tree = ast.parse(WORKER.read_text(encoding="utf-8"), feature_version=(3, 7))
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module.split(".")[0])
    assert modules <= {*sys.stdlib_module_names, "paddlelite"}


def test_describe_returns_this_interpreter():
    found = describe_interpreter(Path(sys.executable))
    assert found.python_version == platform.python_version()
    assert found.implementation == platform.python_implementation()


def test_describe_sees_paddlelite(opt_python):
    found = describe_opt(opt_python)
    assert (found.wheel_version, found.opt_version, found.import_error) == ("2.13rc0", "v2.13-rc", None)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo pyenv: python3.10: command not found >&2; exit 127", "exit code 127: pyenv: python3.10"),
        ("echo hello", "is not a Python"),
        ("echo '{\"python_version\": 3}'", "is not a Python"),
        ("kill -SEGV $$", "killed by SIGSEGV"),
    ],
)
def test_an_invalid_interpreter_is_refused(tmp_path, script, words):
    with pytest.raises(ToolchainError, match=words):
        describe_interpreter(write_script(tmp_path / "python3.10", script))


def test_a_missing_interpreter_is_refused(tmp_path):
    with pytest.raises(ToolchainError, match="No such file"):
        describe_interpreter(tmp_path / "python3.10")


def test_the_child_gets_no_python_settings(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("VIRTUAL_ENV", "/elsewhere")
    monkeypatch.setenv("UV_OFFLINE", "1")
    environment = clean_environment()
    assert not {"PYTHONPATH", "VIRTUAL_ENV"} & environment.keys()
    assert environment["UV_OFFLINE"] == "1"


def test_opt_converts_a_shipped_model(opt_python, det, tmp_path):
    written = run_opt(opt_python, det.program, det.params, tmp_path / "det", valid_places="arm")
    assert written == tmp_path / "det.nb"
    assert read_header(written).opt_version == "v2.13-rc"


def test_a_model_is_supported_or_not_before_anything_is_written(opt_python, det, bad_program):
    check_support(opt_python, det.program, det.params, valid_places="arm")
    with pytest.raises(ConversionError, match="hard_swosh") as caught:
        check_support(opt_python, bad_program, det.params, valid_places="arm")
    assert str(bad_program) in caught.value.message
    assert re.search(r"\n  hard_sigmoid +Y", caught.value.message), "opt's table"
    assert list(bad_program.parent.iterdir()) == [bad_program]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 0", "exit code 0$"),
        ("echo Paddle-Lite is not sure >&2; exit 1", r"exit code 1; it printed last:\n  Paddle-Lite is not sure"),
        ("kill -SEGV $$", "killed by SIGSEGV"),
    ],
)
def test_a_check_without_opts_yes_fails(det, tmp_path, script, words):
    python = write_script(tmp_path / "python", script)
    with pytest.raises(ConversionError, match=words):
        check_support(python, det.program, det.params, valid_places="arm")


@pytest.fixture
def bad_program(det, tmp_path):
    data = det.program.read_bytes()
    assert b"hard_swish" in data
    program = tmp_path / "bad" / "inference.pdmodel"
    program.parent.mkdir()
    program.write_bytes(data.replace(b"hard_swish", b"hard_swosh"))
    return program


def test_a_model_that_opt_does_not_know_gives_its_last_lines(opt_python, det, bad_program, tmp_path):
    with pytest.raises(ConversionError, match="SIG") as caught:
        run_opt(opt_python, bad_program, det.params, tmp_path / "det", valid_places="arm")
    message = caught.value.message
    assert str(bad_program) in message
    assert "hard_swosh" in message
    assert len(message.splitlines()) <= 16
    assert caught.value.hint
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left == [bad_program], "no core dump, no half-written file"


def test_parameters_of_another_model_are_refused(opt_python, det, tmp_path):
    params = tmp_path / "inference.pdiparams"
    params.write_bytes(det.params.read_bytes()[:-1])
    with pytest.raises(ConversionError, match="SIG"):
        run_opt(opt_python, det.program, params, tmp_path / "det", valid_places="arm")


def test_an_unknown_place_is_refused_with_opts_message(opt_python, det, tmp_path):
    with pytest.raises(ConversionError, match="armx"):
        run_opt(opt_python, det.program, det.params, tmp_path / "det", valid_places="armx")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo thinking >&2; exec sleep 60", r"did not end within 0\.5 s; it printed last:\n  thinking"),
        ("echo bye >&2", r"wrote no file; it printed last:\n  bye"),
        ("exit 3", "exit code 3$"),
        ("exit 134", "killed by SIGABRT"),
    ],
)
def test_each_failure_is_reported(det, tmp_path, script, words):
    python = write_script(tmp_path / "python", script)
    with pytest.raises(ConversionError, match=words):
        run_opt(python, det.program, det.params, tmp_path / "det", valid_places="arm", timeout_s=0.5)


def test_last_lines_drop_log_prefixes_blanks_and_repeats():
    warning = "[W 11/22  9:19: 6.9{} ...mir/fusion/conv_elementwise_fuser.cc:115 InsertNewNode] fusion failed\n"
    output = "Loading\n\n" + "".join(warning.format(i) for i in range(30)) + "[F 1/2  9:1: 2.3 ...a/io.h:152 Open] no\n"
    assert list_last_lines(output.encode()) == [
        "Loading",
        "conv_elementwise_fuser.cc:115 InsertNewNode: fusion failed",
        "io.h:152 Open: no",
    ]
    assert list_last_lines(b"a\nb\n\xff\n", 2) == ["b", "�"]
    assert list_last_lines(b"") == []


def test_sum_up_keeps_the_first_and_the_last_line():
    assert sum_up(b"error: no\n  cause: a\n\n  cause: b\n") == "error: no … cause: b"
    assert sum_up(b"\nonly\n") == "only"
    assert sum_up(b"") == ""
