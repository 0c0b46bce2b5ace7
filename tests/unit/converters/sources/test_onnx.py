"""Which ONNX models are imported, and how errors name what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_models import FREE, X, make, one, refuse, run_onnx, run_paddle, weights

from converters.sources.onnx import import_onnx
from edge_ocr.errors import ConversionError, ModelError


def test_unknown_op_is_named(tmp_path):
    message = refuse(tmp_path, one("Einsum", equation="nchw->nchw"))
    assert "Einsum (node Einsum_y, opset 13)" in message


def test_op_that_onnx_does_not_know_is_named(tmp_path):
    assert "Foo (node Foo_y, opset 13)" in refuse(tmp_path, one("Foo"))


def test_op_of_another_domain_is_named(tmp_path):
    node = helper.make_node("Conv", ["x"], ["y"], name="n", domain="com.example")
    model = onnx.load(make(one("Relu"), path=tmp_path / "m.onnx"))
    model.graph.node[0].CopyFrom(node)
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match=r"com\.example\.Conv \(node n"):
        import_onnx(tmp_path / "m.onnx")


def test_old_opset_is_refused(tmp_path):
    assert "opset 7, " in refuse(tmp_path, one("Relu"), opset=7)


def test_newer_opset_than_onnx_knows_is_refused(tmp_path):
    model = onnx.load(make(one("Relu"), path=tmp_path / "m.onnx"))
    model.opset_import[0].version = 23
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match=r"opset 23, .*11 .*22"):
        import_onnx(tmp_path / "m.onnx")


def test_dynamic_rank_is_refused(tmp_path):
    message = refuse(tmp_path, one("Relu"), shape=None)
    assert "the input x " in message


@pytest.mark.parametrize("content", [b"", b"\x00\xff\x13garbage", b"not an onnx file at all"])
def test_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx"):
        import_onnx(tmp_path / "m.onnx")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"m\.onnx"):
        import_onnx(tmp_path / "m.onnx")


def test_two_outputs_are_refused(tmp_path):
    model = onnx.load(make(one("Relu"), path=tmp_path / "m.onnx"))
    model.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, FREE))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match=r"m\.onnx: 1 .*2 "):
        import_onnx(tmp_path / "m.onnx")


def test_half_precision_is_refused(tmp_path):
    model = onnx.load(make(one("Relu"), path=tmp_path / "m.onnx"))
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match=r"FLOAT16, .*FLOAT"):
        import_onnx(tmp_path / "m.onnx")


def test_tensors_called_feed_and_fetch(tmp_path):
    nodes = [("Relu", ("x",), "feed", {}), ("Sigmoid", ("feed",), "fetch", {}), ("Relu", ("fetch",), "y", {})]
    source = make(nodes, path=tmp_path / "m.onnx")
    np.testing.assert_allclose(run_paddle(import_onnx(source), tmp_path / "p", X), run_onnx(source, X), atol=5e-6)


def change_model(path, nodes, constants, change, **options):
    source = make(nodes, constants, path=path, **options)
    model = onnx.load(source)
    change(model)
    source.write_bytes(model.SerializeToString())
    return source


def test_an_attribute_too_large_for_paddle(tmp_path):
    source = make(one("Conv", "w", pads=[1 << 40] * 4), {"w": weights(6, 4, 3, 3)}, path=tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match=r"Conv \(node Conv_y, opset 13\): "):
        import_onnx(source)


def test_names_with_line_breaks_stay_on_one_line(tmp_path):
    def rename(model):
        model.graph.node[0].op_type = "A\n\x1b[2JB"

    source = change_model(tmp_path / "m.onnx", one("Relu"), {}, rename)
    with pytest.raises(ConversionError, match=r"m\.onnx: A\\n\\x1b\[2JB \(node") as caught:
        import_onnx(source)
    assert caught.value.message.isprintable()


def test_an_input_of_no_known_type(tmp_path):
    def change(model):
        model.graph.input[0].type.tensor_type.elem_type = 29

    source = change_model(tmp_path / "m.onnx", one("Relu"), {}, change)
    with pytest.raises((ConversionError, ModelError), match=r"m\.onnx: "):
        import_onnx(source)


def test_a_failed_computation_is_reported_in_one_line(tmp_path):
    nodes = [("ConstantOfShape", ("s",), "c", {}), ("Mul", ("x", "c"), "y", {})]
    with pytest.raises((ConversionError, ModelError)) as caught:
        import_onnx(make(nodes, {"s": np.zeros((4, 6), np.int64)}, path=tmp_path / "m.onnx"))
    assert caught.value.message.isprintable()


def test_messages_are_limited(tmp_path):
    scales = np.linspace(-2, 2, 5000).astype(np.float32)
    source = make(one("Resize", "", "s"), {"s": scales}, path=tmp_path / "m.onnx")
    with pytest.raises((ConversionError, ModelError)) as caught:
        import_onnx(source)
    assert len(caught.value.message) < 1500
