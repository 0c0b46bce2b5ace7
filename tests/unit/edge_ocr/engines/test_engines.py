"""The choice of an engine, device names, and the errors of engines."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.lite.nb.rounded import round_nearest
from edge_ocr import engines
from edge_ocr.config import load_config
from edge_ocr.core.imaging import prepare_detection
from edge_ocr.devices import Device, parse_device
from edge_ocr.engines import ENGINES, choose_engine, create_engine
from edge_ocr.errors import ModelError, ToolchainError, UsageError
from edge_ocr.models.types import Model

CPU, GPU = Device("cpu", (0,)), Device("gpu", (0,))


def make_model(model_format: str = "pdmodel", program: Path = Path("inference.pdmodel")) -> Model:
    params = None if model_format == "onnx" else program.with_suffix(".pdiparams")
    return Model("m", "det", model_format, program, params, None, MappingProxyType({}), "test")


@pytest.fixture
def installed(monkeypatch):
    """Set which engines are installed; all by default."""
    names = set(ENGINES)
    monkeypatch.setattr(engines, "is_installed", lambda name: name in names)
    return names


@pytest.mark.parametrize(
    ("engine", "model_format", "use_hpip", "expected"),
    [
        ("auto", "pdmodel", None, "openvino"),
        ("auto", "onnx", None, "openvino"),
        ("auto", "json", None, "paddle"),
        ("auto", "pdmodel", True, "openvino"),
        ("auto", "pdmodel", False, "paddle"),
        ("openvino", "pdmodel", None, "openvino"),
        ("openvino", "pdmodel", True, "openvino"),
        ("paddle", "pdmodel", None, "paddle"),
        ("paddle", "pdmodel", False, "paddle"),
        ("onnxruntime", "onnx", None, "onnxruntime"),
        ("onnxruntime", "onnx", True, "onnxruntime"),
    ],
)
def test_choice(installed, engine, model_format, use_hpip, expected):
    assert choose_engine(engine, make_model(model_format), CPU, use_hpip) == expected


@pytest.mark.parametrize(
    ("missing", "model_format", "expected"),
    [({"openvino"}, "pdmodel", "paddle"), ({"openvino"}, "onnx", "onnxruntime"), ({"paddle"}, "pdmodel", "openvino")],
)
def test_auto_selects_an_installed_engine(installed, missing, model_format, expected):
    installed -= missing
    assert choose_engine("auto", make_model(model_format), CPU, None) == expected


def test_auto_selects_paddle_on_other_devices(installed):
    assert choose_engine("auto", make_model(), GPU, None) == "paddle"


@pytest.mark.parametrize(
    ("engine", "model_format", "device", "use_hpip", "reasons"),
    [
        ("auto", "json", CPU, True, ["openvino does not read .json", "onnxruntime does not read .json"]),
        ("auto", "onnx", CPU, False, ["paddle does not read .onnx"]),
        ("auto", "onnx", GPU, None, [", not on gpu:0", "paddle does not read .onnx"]),
        ("auto", "pdmodel", GPU, True, [", not on gpu:0"]),
        ("paddle", "onnx", CPU, None, ["paddle does not read .onnx models"]),
        ("onnxruntime", "pdmodel", CPU, None, ["onnxruntime does not read .pdmodel models"]),
        ("openvino", "pdmodel", GPU, None, [", not on gpu:0"]),
    ],
)
def test_no_engine_gives_every_reason(installed, engine, model_format, device, use_hpip, reasons):
    with pytest.raises(ToolchainError) as error:
        choose_engine(engine, make_model(model_format), device, use_hpip)
    for reason in reasons:
        assert reason in error.value.message


@pytest.mark.parametrize("use_hpip", [None, True])
def test_missing_engine_is_named_with_its_package(installed, use_hpip):
    installed -= {"openvino"}
    with pytest.raises(ToolchainError, match=r"openvino is not installed \(pip install 'openvino'\)"):
        choose_engine("openvino", make_model(), CPU, use_hpip)
    installed -= {"onnxruntime"}
    with pytest.raises(ToolchainError, match=r"pip install 'edge-ocr\[onnx\]'"):
        choose_engine("onnxruntime", make_model("onnx"), CPU, use_hpip)


@pytest.mark.parametrize(("engine", "use_hpip"), [("paddle", True), ("openvino", False), ("onnxruntime", False)])
def test_contradictions_are_refused(installed, engine, use_hpip):
    with pytest.raises(UsageError, match=f"use_hpip={use_hpip}.*{engine}"):
        choose_engine(engine, make_model(), CPU, use_hpip)


def test_packages_are_found_without_importing_them():
    assert engines.is_installed("openvino")
    assert engines.is_installed("paddle")


@pytest.mark.parametrize(
    ("text", "kind", "ids"),
    [
        ("cpu", "cpu", (0,)),
        (" CPU ", "cpu", (0,)),
        ("gpu", "gpu", (0,)),
        ("gpu:0", "gpu", (0,)),
        ("GPU:3", "gpu", (3,)),
        ("gpu:0,1", "gpu", (0, 1)),
        ("npu:7,2,10", "npu", (7, 2, 10)),
        ("xpu:1", "xpu", (1,)),
        ("mlu:0", "mlu", (0,)),
    ],
)
def test_device_names(text, kind, ids):
    device = parse_device(text)
    assert (device.kind, device.ids) == (kind, ids)
    assert parse_device(str(device)) == device


@pytest.mark.parametrize(
    "text", ["", "tpu", "cuda:0", "cpu:0", "gpu:", "gpu:a", "gpu:-1", "gpu:0,", "gpu:,0", "gpu:0;1", "gpu 0", "gpu:0:1"]
)
def test_unknown_devices_are_refused(text):
    with pytest.raises(UsageError) as error:
        parse_device(text)
    assert repr(text) in error.value.message
    assert "gpu:0,1" in error.value.hint


def test_device_named_twice_is_refused():
    with pytest.raises(UsageError, match="gpu:1,0,1"):
        parse_device("gpu:1,0,1")


@pytest.mark.parametrize(
    ("kind", "wheel"),
    [
        ("gpu", "paddlepaddle-gpu"),
        ("xpu", "paddlepaddle-xpu"),
        ("npu", "paddle-custom-npu"),
        ("mlu", "paddle-custom-mlu"),
    ],
)
def test_device_that_this_paddle_lacks_names_the_wheel(default_models, kind, wheel):
    from edge_ocr.engines.paddle import _import_paddle

    paddle = _import_paddle()
    if paddle.device.is_compiled_with_cuda() or paddle.device.is_compiled_with_xpu():
        pytest.skip("this Paddle is not a build for CPUs only")
    with pytest.raises(ToolchainError) as error:
        create_engine("paddle", default_models["PP-OCRv4_mobile_det"], kind, 0, 1)
    assert f"not built for {kind}" in error.value.message
    assert wheel in error.value.hint


class FakePaddle:
    """A Paddle built for all devices that sees one of each kind."""

    __version__ = "0"

    class device:  # noqa: N801  as Paddle calls it
        is_compiled_with_cuda = is_compiled_with_xpu = staticmethod(lambda: True)
        is_compiled_with_custom_device = staticmethod(lambda kind: kind == "npu")
        get_available_custom_device = staticmethod(lambda: ["npu:0", "other:0", "other:1"])

        class cuda:  # noqa: N801
            device_count = staticmethod(lambda: 1)

        class xpu:  # noqa: N801
            device_count = staticmethod(lambda: 1)


@pytest.mark.parametrize("kind", ["gpu", "xpu", "npu"])
def test_device_number_that_is_not_there_is_refused(kind):
    from edge_ocr.engines.paddle import check_device

    check_device(FakePaddle, kind, 0)
    with pytest.raises(ToolchainError, match=f"{kind}:1: .* 1 "):
        check_device(FakePaddle, kind, 1)


@pytest.fixture
def copied_model(default_models, tmp_path) -> Model:
    """A copy of the classifier that a test may damage."""
    model = default_models["ch_ppocr_mobile_v2_cls"]
    for path in (model.program, model.params):
        shutil.copy(path, tmp_path / path.name)
    return replace(model, program=tmp_path / model.program.name, params=tmp_path / model.params.name)


def check_refusal(engine: str, model: Model) -> None:
    with pytest.raises(ModelError) as error:
        create_engine(engine, model, "cpu", 0, 1)
    assert str(model.program.parent) in error.value.message
    assert "\n" not in error.value.message


@pytest.mark.parametrize("engine", ["openvino", "paddle"])
@pytest.mark.parametrize("damage", [lambda data: data[:-1000], lambda data: b"garbage" * 999], ids=["cut", "garbage"])
def test_damaged_program_is_refused(copied_model, engine, damage):
    copied_model.program.write_bytes(damage(copied_model.program.read_bytes()))
    check_refusal(engine, copied_model)


@pytest.mark.parametrize("engine", ["openvino", "paddle"])
@pytest.mark.parametrize("keep", [0, 10, -1000], ids=["empty", "ten_bytes", "cut"])
def test_damaged_weights_are_refused(copied_model, engine, keep):
    copied_model.params.write_bytes(copied_model.params.read_bytes()[:keep])
    check_refusal(engine, copied_model)


def test_damaged_onnx_is_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    program = tmp_path / "inference.onnx"
    program.write_bytes(b"no model" * 100)
    check_refusal("onnxruntime", make_model("onnx", program))


@pytest.mark.parametrize("engine", ["openvino", "paddle"])
def test_engines_run_batches_of_any_size(default_models, engine):
    created = create_engine(engine, default_models["ch_ppocr_mobile_v2_cls"], "cpu", 0, 1)
    assert created.name == engine
    generator = np.random.default_rng(0)
    images = generator.uniform(-1, 1, (3, 3, 48, 192)).astype(np.float32)
    together = np.array(created.run(images))
    assert together.shape == (3, 2)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)
    for image, expected in zip(images, together, strict=True):
        np.testing.assert_allclose(created.run(image[None])[0], expected, rtol=0, atol=1e-5)


def test_openvino_computes_as_paddle_does(default_models, examples):
    # On chips with bf16, OpenVINO uses it by default, and the prob map changes by 0.39.
    picture = cv2.resize(cv2.imread(str(examples / "sign.png")), (320, 192))
    image = prepare_detection(picture, load_config().detection)
    model = default_models["PP-OCRv4_mobile_det"]
    a, b = (np.array(create_engine(name, model, "cpu", 0, 1).run(image)) for name in ("openvino", "paddle"))
    assert b.max() > 0.9
    np.testing.assert_allclose(a, b, rtol=0, atol=5e-4)


def test_products_of_integer_weights_are_exact(tmp_path):
    """OpenVINO's default rounds their inputs to 8 bits."""
    weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    rounded = round_nearest(weights, 1, 8)
    nodes = [
        helper.make_node("Cast", ["q"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "s"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, None, 64]) for name in "xy"]
    constants = [numpy_helper.from_array(rounded.values, "q"), numpy_helper.from_array(rounded.scales, "s")]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], constants)
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    x = np.random.default_rng(1).normal(size=(1, 3, 40, 64)).astype(np.float32)
    wanted = x @ rounded.to_float()
    for name in ("onnxruntime", "openvino"):
        model = replace(make_model("onnx", path), kind="rec")
        np.testing.assert_allclose(create_engine(name, model, "cpu", 0, 1).run(x), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "f16", "int8"])
def test_other_engines_compute_in_f32_only(default_models, precision):
    with pytest.raises(UsageError, match=f"paddle computes in f32 only, not in {precision}"):
        create_engine("paddle", default_models["PP-OCRv4_mobile_det"], "cpu", 0, 1, precision)


def test_the_fastest_of_one_precision_is_f32(default_models):
    assert create_engine("paddle", default_models["PP-OCRv4_mobile_det"], "cpu", 0, 1, "auto").name == "paddle"
