"""Reading a picture sends no telemetry."""

from __future__ import annotations

import subprocess
import sys

READ = """
import sys
from edge_ocr import create_pipeline
(result,) = create_pipeline(engine="openvino").predict(sys.argv[1])
assert result["rec_text"]
assert "openvino_telemetry" not in sys.modules
import openvino_telemetry  # for whoever asks for it
"""


def test_openvino_does_not_report(default_models, examples, tmp_path, monkeypatch):
    # These variables would switch its telemetry off.
    for name in ("CI", "TF_BUILD", "JENKINS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path / "store"))
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    subprocess.run([sys.executable, "-c", READ, examples / "sign.png"], check=True)
    # The place of its id.
    assert not (home / "intel").exists()
