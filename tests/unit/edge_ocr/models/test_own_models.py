"""A user's own models: PIR programs, as Paddle 3 exports them, through the whole pipeline."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_ocr import create_pipeline
from edge_ocr.engines.paddle import PaddleEngine
from edge_ocr.errors import ModelError, ToolchainError
from edge_ocr.models.resolve import resolve_model

# A detector that calls dark pixels text: sigmoid(2 − 8·mean over channels of the normalised pixel).
EXPORT = """
import sys, paddle
class DarkDetector(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv = paddle.nn.Conv2D(3, 1, 1)
        self.conv.weight.set_value(paddle.full([1, 3, 1, 1], -8 / 3))
        self.conv.bias.set_value(paddle.full([1], 2.0))
    def forward(self, x):
        return paddle.nn.functional.sigmoid(self.conv(x))
spec = paddle.static.InputSpec([None, 3, None, None], "float32", name="x")
paddle.jit.save(DarkDetector(), sys.argv[1], input_spec=[spec])
"""


@pytest.fixture(scope="module")
def pir_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dark_detector")
    # In a separate process: exporting leaves Paddle in another mode.
    # From a file: Paddle reads the source of `forward`.
    script = tmp_path_factory.mktemp("export") / "export.py"
    script.write_text(EXPORT)
    command = [sys.executable, "-W", "ignore", str(script), str(folder / "inference")]
    subprocess.run(command, check=True, capture_output=True)
    assert (folder / "inference.json").is_file()
    return folder


def test_pir_program_runs_on_paddle(pir_folder: Path) -> None:
    engine = PaddleEngine(resolve_model(pir_folder, "det"), "cpu", 0, 2)
    x = np.random.default_rng(0).normal(size=(1, 3, 32, 64)).astype(np.float32)
    expected = 1 / (1 + np.exp(8 * x.mean(axis=1, keepdims=True) - 2))
    np.testing.assert_allclose(engine.run(x), expected, rtol=0, atol=1e-5)


def test_pir_detector_in_the_pipeline(pir_folder: Path) -> None:
    (pir_folder / "inference.yml").write_text("PostProcess: {name: DBPostProcess, thresh: 0.4, unclip_ratio: 1.1}\n")
    pipeline = create_pipeline(overrides={"Pipeline.text_det_model": str(pir_folder), "Recognition.text_score": 0})
    assert pipeline.engines["det"] == "paddle"
    assert pipeline.config.detection.bin_threshold == 0.4
    assert pipeline.config.origins["Detection.thresh"] == "inference.yml of " + pir_folder.name
    image = np.full((96, 160, 3), 255, np.uint8)
    image[30:60, 40:120] = 0
    boxes = pipeline._readers[0].detector.detect(image)
    assert len(boxes) == 1
    corners = boxes[0].polygon
    # The black block, grown by area × 1.1 / perimeter = 12 px on each side.
    assert np.abs(corners - [[28, 18], [131, 18], [131, 71], [28, 71]]).max() <= 2


def test_fast_engine_demanded_of_a_pir_program(pir_folder: Path) -> None:
    with pytest.raises(ToolchainError, match=r"openvino .*\.json"):
        create_pipeline(overrides={"Pipeline.text_det_model": str(pir_folder)}, use_hpip=True)


def test_damaged_pir_program(pir_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "inference.json").write_text('{"base_code": ')
    (tmp_path / "inference.pdiparams").write_bytes((pir_folder / "inference.pdiparams").read_bytes())
    with pytest.raises(ModelError, match=r"inference\.json: .*parse_error"):
        PaddleEngine(resolve_model(tmp_path, "det"), "cpu", 0, 2)
