"""Ways to start the command other than its script."""

import json
import subprocess
import sys

import edge_ocr


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
