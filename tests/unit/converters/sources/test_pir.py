"""PIR programs, exported by the installed Paddle, through paddle2onnx in its own environment."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from packaging.version import Version

from converters.graph.passes import run_passes
from converters.lite.nb.read import parse_nb
from converters.lite.nb.to_onnx import serialise_graph
from converters.lite.opt import run_opt
from converters.sources import pir as pir_import
from converters.sources import read_model_program
from converters.sources.pir import (
    OPSET,
    REEXPORT_HINT,
    TOOL,
    convert_pir,
    describe_paddle2onnx,
    find_paddle2onnx,
)
from edge_ocr.engines.paddle import PaddleEngine
from edge_ocr.errors import ConversionError, ModelError, ToolchainError
from edge_ocr.models.resolve import resolve_model

needs_paddle2onnx = pytest.mark.usefixtures("paddle2onnx")

# The layers of a detector and a recogniser, optionally with an upsampling.
EXPORT = """
import sys, paddle
from paddle import nn
from paddle.nn import functional as F
class Net(nn.Layer):
    def __init__(self, upsample):
        super().__init__()
        self.upsample = upsample
        self.conv, self.bn = nn.Conv2D(3, 8, 3, 2, 1, bias_attr=False), nn.BatchNorm2D(8)
        self.up, self.norm, self.fc = nn.Conv2DTranspose(8, 8, 2, 2), nn.LayerNorm(8), nn.Linear(8, 5)
    def forward(self, x):
        x = F.hardswish(self.bn(self.conv(x)))
        if self.upsample:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = F.avg_pool2d(F.relu(self.up(x)), 2)
        x = self.norm(x.flatten(2).transpose((0, 2, 1)))
        return F.softmax(self.fc(x), axis=2)
paddle.seed(3)
for name in ("plain", "upsample"):
    net = Net(name == "upsample")
    net.eval()
    spec = paddle.static.InputSpec([None, 3, None, None], "float32", name="x")
    paddle.jit.save(net, f"{sys.argv[1]}/{name}/inference", input_spec=[spec])
"""


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports")
    # From a file: Paddle reads the source of `forward`.
    script = folder / "export.py"
    script.write_text(EXPORT)
    subprocess.run([sys.executable, "-W", "ignore", str(script), str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture
def plain(exports: Path) -> tuple[Path, Path]:
    return exports / "plain" / "inference.json", exports / "plain" / "inference.pdiparams"


def run_onnx(path: Path, x: np.ndarray) -> np.ndarray:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def change(program: Path, to: Path, old: str, new: str) -> Path:
    text = program.read_text()
    assert old in text
    to.write_text(text.replace(old, new))
    return to


@needs_paddle2onnx
@pytest.mark.parametrize("shape", [(1, 3, 32, 64), (2, 3, 48, 32)])
def test_the_model_computes_what_paddle_computes(plain, tmp_path, shape):
    out = convert_pir(*plain, tmp_path / "model.onnx")
    assert out == tmp_path / "model.onnx"
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    engine = PaddleEngine(resolve_model(plain[0].parent, "det"), "cpu", 0, 2)
    expected = engine.run(x)
    np.testing.assert_allclose(run_onnx(out, x), expected, rtol=0, atol=1e-5)
    assert np.abs(run_onnx(out, -x) - expected).max() > 1e-3, "another input, another output"


@needs_paddle2onnx
def test_ops_are_complete_and_dimensions_free(plain, tmp_path):
    model = onnx.load(convert_pir(*plain, tmp_path / "model.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import] == [OPSET]
    assert {"HardSwish", "LayerNormalization", "ConvTranspose"} <= {node.op_type for node in model.graph.node}
    sides = model.graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_value for side in sides] == [0, 3, 0, 0]


@needs_paddle2onnx
def test_double_precision_factors_are_accepted(exports, tmp_path):
    program, params = (exports / "upsample" / name for name in ("inference.json", "inference.pdiparams"))
    wide = tmp_path / "inference.json"
    # As Paddle 3.3 writes them; older ones write a_f32.
    content = json.loads(program.read_text(), object_hook=widen)
    wide.write_text(json.dumps(content))
    assert '"0.a_f64"' in wide.read_text()
    model = onnx.load(convert_pir(wide, params, tmp_path / "model.onnx"))
    assert "Resize" in {node.op_type for node in model.graph.node}
    x = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    assert run_onnx(tmp_path / "model.onnx", x).shape == (1, 32 * 32, 5)


def widen(item):
    if item.get("N") == "scale" and item["AT"]["#"] == "0.a_array":
        for value in item["AT"]["D"]:
            value["#"] = "0.a_f64"
    return item


@needs_paddle2onnx
def test_unconverted_doubles_are_refused(exports, tmp_path, monkeypatch):
    """The negative of the test above: without the change, paddle2onnx refuses them."""
    program, params = (exports / "upsample" / name for name in ("inference.json", "inference.pdiparams"))
    monkeypatch.setattr(pir_import, "_narrow_scales", widen)
    with pytest.raises(ConversionError, match="MUST be ir::FloatAttribute"):
        convert_pir(program, params, tmp_path / "model.onnx")


@pytest.mark.parametrize("scale", [None, [], "x", {"D": "x"}, {"D": {}}, {"D": [1.0]}, {"D": [None]}, {"D": [[]]}])
def test_factors_in_another_form_are_refused(tmp_path, scale):
    op = {"#": "1.nearest_interp", "A": [{"N": "scale", "AT": scale}]}
    program = tmp_path / "inference.json"
    program.write_text(json.dumps({"base_code": {"magic": "pir", "version": 1}, "program": [op]}))
    with pytest.raises(
        ModelError, match=r"json: not a readable PIR program: 1\.nearest_interp: its scale is "
    ) as caught:
        convert_pir(program, tmp_path / "inference.pdiparams", tmp_path / "model.onnx")
    assert caught.value.exit_code == 5
    assert not (tmp_path / "model.onnx").exists()


@needs_paddle2onnx
def test_an_unsupported_op(plain, tmp_path):
    program = change(plain[0], tmp_path / "inference.json", '"1.hardswish"', '"1.digamma"')
    with pytest.raises(ConversionError, match="killed by SIGABRT") as caught:
        convert_pir(program, plain[1], tmp_path / "model.onnx")
    assert "unsupported operators" in caught.value.message
    assert re.search(r"\n  the program's ops: .*\bconv2d, .*\bdigamma, ", caught.value.message)
    assert caught.value.hint == REEXPORT_HINT
    assert list(tmp_path.iterdir()) == [program], "nothing half-written, no core file"


@needs_paddle2onnx
@pytest.mark.parametrize("kept", [0, 400])
def test_incomplete_parameters(plain, tmp_path, kept):
    params = tmp_path / "inference.pdiparams"
    params.write_bytes(plain[1].read_bytes()[:kept])
    with pytest.raises(ConversionError, match="the result is ") as caught:
        convert_pir(plain[0], params, tmp_path / "model.onnx")
    assert str(plain[0]) in caught.value.message
    assert "\x1b" not in caught.value.message
    assert list(tmp_path.iterdir()) == [params]


@needs_paddle2onnx
def test_a_program_that_paddle_refuses(plain, tmp_path):
    program = tmp_path / "inference.json"
    program.write_text('{"base_code": {"magic": "pir", "trainable": false, "version": 1}}')
    with pytest.raises(ConversionError, match=r"Failed to convert PaddlePaddle model: \[json.exception"):
        convert_pir(program, plain[1], tmp_path / "model.onnx")


@needs_paddle2onnx
def test_flags_of_the_user_are_not_passed_on(plain, tmp_path, monkeypatch):
    first = convert_pir(*plain, tmp_path / "first.onnx").read_bytes()
    monkeypatch.setenv("FLAGS_enable_pir_api", "0")
    assert convert_pir(*plain, tmp_path / "second.onnx").read_bytes() == first


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"base_code": ', "not a readable PIR program: Expecting value"),
        (b"\xff\xfe\x00", "not a readable PIR program"),
        (b"[" * 100_000, "not a readable PIR program"),
        (b"[]", "not a PIR program"),
        (b'{"base_code": {"magic": "onnx"}}', "not a PIR program"),
    ],
)
def test_an_invalid_pir_program(plain, tmp_path, content, words):
    program = tmp_path / "inference.json"
    program.write_bytes(content)
    with pytest.raises(ModelError, match=words):
        convert_pir(program, plain[1], tmp_path / "model.onnx")


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_file(plain, tmp_path, missing):
    files = list(plain)
    files[missing] = tmp_path / "gone"
    with pytest.raises(ModelError, match="gone: cannot be read"):
        convert_pir(*files, tmp_path / "model.onnx")


ANSWER = {"python_version": "3.12.1", "versions": {"paddle2onnx": TOOL.version, "paddlepaddle": "3.3.1"}}


def take_for_python(monkeypatch, folder: Path, text: str, answer: object = ANSWER) -> Path:
    """Write a program that answers like an interpreter with paddle2onnx, and runs `text` to convert."""
    script = folder / "python"
    describe = f"case \"$*\" in *describe*) echo '{json.dumps(answer)}'; exit;; esac"
    script.write_text(
        f'#!/bin/sh\n{describe}\nfor out in "$@"; do last=$before; before=$out; done; out=$last\n{text}\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv(TOOL.variable, str(script))
    return script


def test_an_interpreter_whose_paddle2onnx_does_not_start(plain, tmp_path, monkeypatch):
    # -S: no packages.
    python = take_for_python(monkeypatch, tmp_path, f'exec {Path(sys.executable).resolve()} -S "$@"')
    with pytest.raises(ToolchainError, match="ModuleNotFoundError: No module named 'paddle'") as caught:
        convert_pir(*plain, tmp_path / "model.onnx")
    assert f"does not start in {python}" in caught.value.message
    assert TOOL.variable in caught.value.hint
    assert REEXPORT_HINT in caught.value.hint


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({"paddle2onnx": None, "paddlepaddle": "3.3.1"}, r"Python 3\.12\.1\) has no paddle2onnx, expected 2\.1\.0"),
        ({"paddle2onnx": "1.3.1", "paddlepaddle": "3.3.1"}, r"has paddle2onnx 1\.3\.1, expected 2\.1\.0"),
        ({"paddle2onnx": "2.1.0", "paddlepaddle": None}, "has no paddlepaddle"),
        (None, "Python.*answered"),
    ],
)
def test_a_named_interpreter_that_does_not_fit_is_refused_not_passed_over(
    plain, tmp_path, monkeypatch, versions, words
):
    take_for_python(monkeypatch, tmp_path, "exit 0", {**ANSWER, "versions": versions})
    with pytest.raises(ToolchainError, match=rf"^{TOOL.variable}: .*{words}") as caught:
        convert_pir(*plain, tmp_path / "model.onnx")
    assert "CPython 3.10 to 3.12" in caught.value.hint
    assert "`pip install paddle2onnx==2.1.0 paddlepaddle==" in caught.value.hint
    assert "'numpy<3'" in caught.value.hint


def test_the_named_interpreter_is_used(paddle2onnx, plain, tmp_path, monkeypatch):
    monkeypatch.setenv(TOOL.variable, str(paddle2onnx.python))
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path / "home"))
    assert find_paddle2onnx().origin == TOOL.variable
    assert convert_pir(*plain, tmp_path / "model.onnx").stat().st_size
    assert not (tmp_path / "home").exists()


def test_describing_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv(TOOL.variable, raising=False)
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path / "home"))
    remedy = "edge-ocr export makes it (once, about 230 MB to fetch, 900 MB on disk); only PIR models need it"
    assert describe_paddle2onnx() == (None, remedy)
    assert not (tmp_path / "home").exists()
    monkeypatch.setenv(TOOL.variable, str(tmp_path / "none"))
    found, remedy = describe_paddle2onnx()
    assert found is None
    assert f"{TOOL.variable}: no such program" in remedy
    python = take_for_python(monkeypatch, tmp_path, "exit 0")
    assert describe_paddle2onnx() == (f"2.1.0 with paddle 3.3.1 on Python 3.12.1 ({TOOL.variable}: {python})", "")


def test_its_onnx_version_is_not_ours(paddle2onnx):
    code = "import importlib.metadata as m; print(m.version('onnx'))"
    inner = subprocess.run([paddle2onnx.python, "-I", "-c", code], check=True, capture_output=True, text=True)
    assert inner.stdout.strip() == "1.17.0"
    assert Version(onnx.__version__) >= Version("1.21")


def test_without_python_and_network_everything_tried_is_listed(plain, tmp_path, monkeypatch):
    monkeypatch.delenv(TOOL.variable, raising=False)
    for name, folder in {"PATH": "bin", "PYENV_ROOT": "pyenv", "EDGE_OCR_HOME": "home"}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    for name, value in {"CACHE_DIR": "cache", "PYTHON_INSTALL_DIR": "pythons"}.items():
        monkeypatch.setenv(f"UV_{name}", str(tmp_path / value))
    monkeypatch.setenv("UV_OFFLINE", "1")
    steps: list[str] = []
    with pytest.raises(
        ToolchainError, match=r"no interpreter for paddle2onnx \(2\.1\.0, CPython 3\.10 to 3\.12\)"
    ) as caught:
        convert_pir(*plain, tmp_path / "model.onnx", report=steps.append)
    assert "uv venv --python 3.12: " in caught.value.message
    assert TOOL.variable in caught.value.hint
    assert steps == ["no usable CPython 3.10 to 3.12 found: letting uv fetch Python 3.12"]
    assert [path.name for path in (tmp_path / "home" / "paddle2onnx").iterdir()] == ["2.1.0-paddle3.3.1.lock"]


def test_an_environment_is_made_once_and_then_found(paddle2onnx, tmp_path, monkeypatch):
    """From uv's cache or the registry."""
    monkeypatch.delenv(TOOL.variable, raising=False)
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path))
    # Leftovers of a killed process.
    (tmp_path / "paddle2onnx" / "2.1.0-paddle3.3.1-py312" / "bin").mkdir(parents=True)
    steps: list[str] = []
    made = find_paddle2onnx(report=steps.append)
    assert made.python.is_relative_to(tmp_path / "paddle2onnx")
    assert [step.split(" for ")[0] for step in steps if step.startswith("installing")] == [
        "installing paddle2onnx 2.1.0"
    ]
    steps.clear()
    assert find_paddle2onnx(report=steps.append) == made
    assert steps == []


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 0", "inference.json: [^;]*$"),
        (': > "$out"', "inference.json: [^;]*$"),
        (
            'echo x > "$out"; echo "[ERROR] invalid"',
            r":\n  \[ERROR\] invalid$",
        ),
        ("echo out of memory >&2; kill -KILL $$", r"killed by SIGKILL; it says:\n  out of memory"),
        ("echo waiting; exec sleep 60", r"did not end within 0\.5 s"),
    ],
)
def test_each_failed_run_is_refused(plain, tmp_path, monkeypatch, script, words):
    take_for_python(monkeypatch, tmp_path, script)
    with pytest.raises(ConversionError, match=words):
        convert_pir(*plain, tmp_path / "model.onnx", timeout_s=0.5)
    assert not (tmp_path / "model.onnx").exists()


def test_a_successful_run_is_accepted(plain, tmp_path, monkeypatch):
    take_for_python(monkeypatch, tmp_path, 'echo model > "$out"')
    assert convert_pir(*plain, tmp_path / "model.onnx").read_bytes() == b"model\n"


def test_an_interpreter_that_does_not_start(plain, tmp_path, monkeypatch):
    python = take_for_python(monkeypatch, tmp_path, "exit 0")
    python.write_text("#!/no/such/program\n")
    with pytest.raises(ToolchainError, match="does not start: No such file"):
        convert_pir(*plain, tmp_path / "model.onnx")
    python.write_text("#!/bin/sh\necho cannot >&2; exit 9\n")
    with pytest.raises(ToolchainError, match="does not run: ended with exit code 9: cannot"):
        convert_pir(*plain, tmp_path / "model.onnx")


# --- end to end


@needs_paddle2onnx
@pytest.mark.parametrize("name", ["plain", "upsample"])
def test_pir_becomes_an_nb_that_computes_the_same(exports, tmp_path, opt, name):
    model = resolve_model(exports / name, "rec")
    program = read_model_program(model)
    run_passes(program)
    files = tmp_path / "m.pdmodel", tmp_path / "m.pdiparams"
    program.write(*files)
    written = run_opt(opt.python, *files, tmp_path / "m", valid_places="arm")
    graph = serialise_graph(parse_nb(written.read_bytes(), "m.nb"), "m")
    array = np.random.default_rng(1).uniform(-1, 1, (2, 3, 32, 48)).astype(np.float32)
    session = pytest.importorskip("onnxruntime").InferenceSession(graph, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: array})
    # Paddle itself, on the original program, including upsampling in PIR form.
    np.testing.assert_allclose(found, PaddleEngine(model, "cpu", 0, 1).run(array), rtol=0, atol=1e-5)
