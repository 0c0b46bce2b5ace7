"""How the cases of a fuzz test are run."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RUNNER = Path(__file__).with_name("run_cases.py")


@pytest.fixture(scope="session")
def runner() -> Any:
    """The module `run_cases`."""
    spec = importlib.util.spec_from_file_location("run_cases", RUNNER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_cases(request, runner, tmp_path) -> Callable[..., dict[str, float]]:
    """Run cases of the test file in a separate process and return its summary; fails if a case ends it."""
    module = request.module

    def run(seeds: dict[str, bytes], first: int, count: int, target: str, seconds: float = 10) -> dict[str, float]:
        runner.write_case(tmp_path / "seeds", seeds)
        command = [sys.executable, "-W", "error", RUNNER, module.__file__, tmp_path, first, count, target, seconds]
        root = Path(__file__).parent.parent.parent
        # Each thread of a library would take a share of the limited memory.
        env = {**os.environ, "PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        limit_s = 90 + count / 20
        ended = subprocess.run(
            list(map(str, command)), env=env, capture_output=True, text=True, timeout=limit_s, check=False
        )
        if ended.returncode == 0:
            return json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
        if not (tmp_path / "number").exists():
            pytest.fail(f"no case was run: {ended.stderr[-3000:]}")
        number = int((tmp_path / "number").read_text())
        kept = tmp_path / f"case-{number}"
        runner.write_case(kept, module.make_case(number, runner.read_seeds(tmp_path)))
        pytest.fail(
            f"case {number} ended with {ended.returncode}; its files are in {kept}; alone:\n"
            f"EDGE_OCR_FUZZ_FIRST={number} EDGE_OCR_FUZZ_CASES=1 python -m pytest {Path(module.__file__).name}\n"
            f"{ended.stderr[-3000:]}"
        )

    return run
