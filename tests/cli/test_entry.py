"""Ways to start the command other than its script."""

import json
import os
import subprocess
import sys

import pytest

import edge_ocr
from edge_ocr.cli import is_plain
from edge_ocr.errors import InputError


def test_module_is_the_command(repository):
    done = subprocess.run(
        [sys.executable, "-m", "edge_ocr", "--version"], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"edge-ocr {edge_ocr.__version__}\n"


def test_benchmark_starts_an_existing_command(repository):
    show = "import json, benchmarks.memory, benchmarks.export as export; print(json.dumps(export.COMMAND))"
    found = subprocess.run([sys.executable, "-c", show], cwd=repository, capture_output=True, text=True, check=True)
    command = json.loads(found.stdout)
    done = subprocess.run([*command, "unused", "--help"], cwd=repository, capture_output=True, text=True, check=True)
    assert "--quantize" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "plain"),
    [
        ("predict a.png", True),
        ("predict a.png folder", True),
        ("predict", False),
        ("predict -", False),
        ("predict a.png --format json", False),
        ("predict -r folder", False),
        ("--debug predict a.png", False),
        ("serve a.png", False),
        ("", False),
    ],
)
def test_only_predict_without_options_is_plain(arguments, plain):
    assert is_plain(arguments.split()) == (plain and os.name != "nt")


@pytest.mark.parametrize(
    ("given", "code"),
    [("sign.png", 0), ("missing.png", InputError.exit_code), ("sign.png missing.png", InputError.exit_code)],
)
def test_plain_and_other_runs_are_alike(examples, default_models, cli, cli_process, given, code):
    inputs = [str(examples / name) for name in given.split()]
    plain = cli_process("predict", *inputs)
    # Without a terminal, text is the default.
    other = cli_process("predict", *inputs, "--format", "text")
    assert (plain.code, plain.out, plain.err) == (other.code, other.out, other.err)
    assert plain.code == code
    assert bool(plain.out) == ("sign" in given)


LOAD = """
import sys
from edge_ocr.cli import main
sys.argv[1:] = sys.argv[1].split()
try:
    main()
except SystemExit:
    print(sorted({"typer", "pydantic", "edge_ocr.cli.predict", "edge_ocr.cli.serve"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [
        ("predict missing.png", []),
        ("predict missing.png --format text", ["edge_ocr.cli.predict", "pydantic", "typer"]),
        ("nothing", ["edge_ocr.cli.predict", "edge_ocr.cli.serve", "pydantic", "typer"]),
    ],
)
def test_only_what_a_command_needs_is_loaded(repository, arguments, loaded):
    done = subprocess.run([sys.executable, "-c", LOAD, arguments], cwd=repository, capture_output=True, text=True)
    assert done.stdout == f"{loaded}\n"
