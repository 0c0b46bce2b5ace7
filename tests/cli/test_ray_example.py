"""examples/ray_batch.py on one machine."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="no ray (pip install 'edge-ocr[ray]')")
def test_folder_is_read(repository, examples, make_home, read_example, tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    for name in ("sign.png", "deep/label.png"):
        shutil.copy(examples / name.rpartition("/")[2], folder / name)
    (folder / "bad.png").write_bytes(b"no picture")
    done = subprocess.run(
        [sys.executable, repository / "examples/ray_batch.py", folder, output, "--readers", "1"],
        capture_output=True,
        text=True,
        timeout=300,
        # Its sockets have long names, and so does the folder of tests.
        env={**os.environ, "EDGE_OCR_HOME": str(make_home()), "RAY_TMPDIR": "/tmp", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = {}
    for file in output.iterdir():
        for line in file.read_text().splitlines():
            row = json.loads(line)
            rows[os.path.relpath(row["path"], folder)] = row
    assert set(rows) == {"sign.png", "deep/label.png", "bad.png"}
    assert "picture" in rows["bad.png"]["error"]
    for name in ("sign.png", "deep/label.png"):
        expected = read_example(name.rpartition("/")[2])
        assert rows[name]["text"].splitlines() == expected["rec_text"]
        assert json.loads(rows[name]["pages"])[0]["dt_polys"] == expected["dt_polys"]
