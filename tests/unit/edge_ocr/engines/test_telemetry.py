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


IMPORT = """
import os, sys
from importlib.abc import MetaPathFinder

class Watch(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "onnxruntime":
            print("silent" if os.environ.get("ORT_DISABLE_TELEMETRY") == "1" else "reports")

sys.meta_path.insert(0, Watch())
from edge_ocr.core.lite_ocr import LiteOCR
LiteOCR(sys.argv[1], engine="onnxruntime")
"""


def test_onnx_runtime_does_not_report(board_bundle, monkeypatch):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    done = subprocess.run([sys.executable, "-c", IMPORT, board_bundle], check=True, capture_output=True, text=True)
    # The first search asks whether there is one; the last is that of the import.
    assert done.stdout.splitlines()[-1] == "silent"


CONVERT = """
import sys
from edge_ocr.engines.silent_openvino import ov
assert "openvino.tools.ovc" not in sys.modules
assert not hasattr(ov, "no_such_name")
from openvino import convert_model
print(convert_model.__name__)
"""


def test_others_may_use_openvinos_converter():
    done = subprocess.run([sys.executable, "-c", CONVERT], check=True, capture_output=True, text=True)
    assert done.stdout == "convert_model\n"
