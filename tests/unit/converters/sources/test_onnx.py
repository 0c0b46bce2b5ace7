"""ONNX as Paddle programs: each op by Paddle itself against ONNX Runtime, and what is refused."""

from __future__ import annotations

import itertools
import os
import shutil
import stat

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.graph.passes import run_passes
from converters.lite.nb.read import parse_nb
from converters.lite.nb.to_onnx import serialise_graph
from converters.lite.opt import run_opt
from converters.sources import list_source_files
from converters.sources.onnx import import_onnx
from edge_ocr.engines.paddle import PaddleEngine
from edge_ocr.errors import ConversionError, ModelError
from edge_ocr.models.resolve import resolve_model

RANDOM = np.random.default_rng(3)
FREE = ("N", 4, "H", "W")
ROWS = ("N", 4, "H", 12)


def make(nodes, constants=None, *, opset=13, shape=FREE, out_rank=4, path=None):
    """Return the path of a model from `x` to `y`; each node is (op, inputs, output, attributes)."""
    graph = helper.make_graph(
        [helper.make_node(op, list(inputs), [out], name=f"{op}_{out}", **attrs) for op, inputs, out, attrs in nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * out_rank)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path


def weights(*shape):
    return RANDOM.uniform(-0.5, 0.5, shape).astype(np.float32)


def run_onnx(source, array):
    options = onnxruntime.SessionOptions()
    # As it is written: its own fusion takes any power in a layer norm for a square.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: array})[0]


def run_paddle(program, folder, array):
    folder.mkdir(exist_ok=True)
    program.write(folder / "inference.pdmodel", folder / "inference.pdiparams")
    return PaddleEngine(resolve_model(folder, "det"), "cpu", 0, 1).run(array)


X = RANDOM.uniform(-2, 2, (2, 4, 8, 12)).astype(np.float32)
CHANNELS = weights(1, 4, 1, 1)
ROW = weights(12)
BN = {"s": weights(4) + 1, "b": weights(4), "m": weights(4), "v": weights(4) + 1}
PAIR = np.array([1, 1], np.int64)


def f32(*values):
    return np.array(values, np.float32)


def i64(*values):
    return np.array(values, np.int64)


def one(op, *inputs, **attrs):
    return [(op, ("x", *inputs), "y", attrs)]


CASES = {
    "conv": (one("Conv", "w", "b", pads=[1, 1, 1, 1]), {"w": weights(6, 4, 3, 3), "b": weights(6)}),
    "conv_odd_pads": (one("Conv", "w", pads=[1, 0, 2, 1], strides=[2, 1]), {"w": weights(6, 4, 3, 3)}),
    "conv_same": (one("Conv", "w", auto_pad="SAME_UPPER"), {"w": weights(6, 4, 2, 4)}),
    "conv_same_stride": (one("Conv", "w", auto_pad="SAME_UPPER", strides=[2, 2]), {"w": weights(6, 4, 3, 3)}),
    "conv_dilated": (one("Conv", "w", dilations=[2, 2], auto_pad="VALID"), {"w": weights(6, 4, 3, 3)}),
    "conv_depthwise": (one("Conv", "w", group=4, pads=[2, 2, 2, 2]), {"w": weights(4, 1, 5, 5)}),
    "conv_grouped": (one("Conv", "w", group=2), {"w": weights(6, 2, 1, 1)}),
    "conv_transpose": (
        one("ConvTranspose", "w", "b", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
        {"w": weights(4, 3, 3, 3), "b": weights(3)},
    ),
    "add_channels": (one("Add", "c"), {"c": CHANNELS}),
    "add_first": ([("Add", ("c", "x"), "y", {})], {"c": CHANNELS}),
    "add_row": (one("Add", "c"), {"c": ROW}),
    "add_number": (one("Add", "c"), {"c": np.float32(0.3)}),
    "add_itself": (one("Add", "x"), {}),
    "sub": (one("Sub", "c"), {"c": weights(4, 1, 1)}),
    "mul": (one("Mul", "c"), {"c": f32(2)}),
    "mul_gate": ([("GlobalAveragePool", ("x",), "g", {}), ("Mul", ("g", "x"), "y", {})], {}),
    "div": (one("Div", "c"), {"c": CHANNELS + 2}),
    "pow": (one("Pow", "c"), {"c": np.float32(2)}),
    "pow_half": ([("Relu", ("x",), "r", {}), ("Pow", ("r", "h"), "y", {})], {"h": np.float32(0.5)}),
    "clip_above": (one("Clip", "l", "h"), {"l": np.float32(0), "h": np.float32(np.inf)}),
    "unsqueeze_unsorted": (
        [("ReduceMean", ("x",), "r", {"axes": [1, 2], "keepdims": 0}), ("Unsqueeze", ("r", "a"), "y", {})],
        {"a": i64(2, 1)},
    ),
    "sqrt": ([("Relu", ("x",), "r", {}), ("Sqrt", ("r",), "y", {})], {}),
    "erf": (one("Erf"), {}),
    "sigmoid": (one("Sigmoid"), {}),
    "hard_sigmoid": (one("HardSigmoid", alpha=0.3, beta=0.4), {}),
    "clip": (one("Clip", "l", "h"), {"l": np.float32(-0.5), "h": np.float32(1)}),
    "clip_below": (one("Clip", "l"), {"l": np.float32(-0.5)}),
    "softmax": (one("Softmax", axis=-1), {}),
    "softmax_channels": (one("Softmax", axis=1), {}),
    "batch_norm": ([("BatchNormalization", ("x", *BN), "y", {"epsilon": 1e-3})], BN),
    "matmul": (one("MatMul", "w"), {"w": weights(12, 5)}),
    "matmul_both": ([("Transpose", ("x",), "t", {"perm": [0, 1, 3, 2]}), ("MatMul", ("x", "t"), "y", {})], {}),
    "max_pool": (one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), {}),
    "max_pool_same": (one("MaxPool", kernel_shape=[2, 2], auto_pad="SAME_UPPER"), {}),
    "average_pool": (one("AveragePool", kernel_shape=[3, 2], strides=[3, 2], pads=[1, 0, 1, 0]), {}),
    "average_pool_padded": (
        one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
        {},
    ),
    "global_pool": (one("GlobalAveragePool"), {}),
    "reduce_mean": (one("ReduceMean", axes=[2, 3]), {}),
    "reduce_mean_dropped": (
        [("ReduceMean", ("x",), "r", {"axes": [2], "keepdims": 0}), ("Unsqueeze", ("r", "a"), "y", {})],
        {"a": i64(2)},
    ),
    "resize_nearest": (
        one("Resize", "", "s", mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
        {"s": f32(1, 1, 2, 4)},
    ),
    "resize_nearest_middle": (one("Resize", "", "s", mode="nearest"), {"s": f32(1, 1, 3, 2)}),
    "resize_linear": (one("Resize", "", "s", mode="linear"), {"s": f32(1, 1, 2, 2)}),
    "resize_aligned": (
        one("Resize", "", "s", mode="linear", coordinate_transformation_mode="align_corners"),
        {"s": f32(1, 1, 2, 3)},
    ),
    "concat": ([("Relu", ("x",), "r", {}), ("Concat", ("r", "x"), "y", {"axis": -3})], {}),
    "slice": (one("Slice", "s", "e", "a"), {"s": i64(1, -3), "e": i64(2**62, -1), "a": i64(1, 3)}),
    "squeeze": (
        [
            ("ReduceMean", ("x",), "r", {"axes": [2]}),
            ("Squeeze", ("r", "a"), "q", {}),
            ("Unsqueeze", ("q", "a"), "y", {}),
        ],
        {"a": i64(2)},
    ),
    "transpose": (one("Transpose", perm=[0, 2, 3, 1]), {}),
    "transpose_all": (one("Transpose"), {}),
    "reshape": (one("Reshape", "s"), {"s": i64(0, 2, 2, -1)}),
    "identity": ([("Identity", ("x",), "i", {}), ("Relu", ("i",), "y", {})], {}),
    "cast": ([("Cast", ("x",), "i", {"to": 1}), ("Relu", ("i",), "y", {})], {}),
    "constants_are_computed": (
        [
            ("Constant", (), "c", {"value": numpy_helper.from_array(weights(1, 2, 2, 1))}),
            ("Transpose", ("c",), "t", {"perm": [0, 2, 1, 3]}),
            ("Reshape", ("t", "s"), "r", {}),
            ("Mul", ("x", "r"), "y", {}),
        ],
        {"s": i64(1, 4, 1, 1)},
    ),
}
NEWER = {
    "layer_norm": ([("LayerNormalization", ("x", "s", "b"), "y", {"axis": -1})], {"s": ROW + 1, "b": ROW}, 17),
    "hard_swish": (one("HardSwish"), {}, 17),
    "gelu": (one("Gelu"), {}, 20),
    "reduce_mean_18": (one("ReduceMean", "a"), {"a": i64(2, 3)}, 18),
    "softmax_11": (one("Softmax", axis=3), {}, 11),
    "squeeze_11": (
        [
            ("ReduceMean", ("x",), "r", {"axes": [2]}),
            ("Squeeze", ("r",), "q", {"axes": [2]}),
            ("Unsqueeze", ("q",), "y", {"axes": [2]}),
        ],
        {},
        11,
    ),
}
ALL = {name: (*case, 13) for name, case in CASES.items()} | NEWER


@pytest.mark.parametrize("name", ALL)
def test_op_computes_as_onnx_runtime(name, tmp_path):
    nodes, constants, opset = ALL[name]
    source = make(nodes, constants, opset=opset, path=tmp_path / "m.onnx")
    expected = run_onnx(source, X)
    program = import_onnx(source)
    assert program.signature.inputs[0].shape == (-1, 4, -1, -1)
    np.testing.assert_allclose(run_paddle(program, tmp_path / "p", X), expected, rtol=0, atol=5e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_op_computes_the_same_in_the_nb(name, tmp_path, opt):
    """By the real opt, with the passes, and the graph that devices run."""
    nodes, constants, opset = ALL[name]
    source = make(nodes, constants, opset=opset, path=tmp_path / "m.onnx")
    program = import_onnx(source)
    run_passes(program)
    program.write(tmp_path / "m.pdmodel", tmp_path / "m.pdiparams")
    written = run_opt(opt.python, tmp_path / "m.pdmodel", tmp_path / "m.pdiparams", tmp_path / "m", valid_places="arm")
    graph = serialise_graph(parse_nb(written.read_bytes(), "m.nb"), "m")
    np.testing.assert_allclose(run_onnx(graph, X), run_onnx(source, X), rtol=0, atol=5e-6)


# --- shapes that are read when the model runs


def flatten_nodes(*extra):
    """Return nodes that keep batch and channels and join the rest, as exporters write it."""
    return [
        ("Shape", ("x",), "shape", {}),
        ("Cast", ("shape",), "wide", {"to": 7}),
        ("Slice", ("wide", "zero", "two", "zero"), "kept", {}),
        ("Concat", ("kept", "rest"), "wanted", {"axis": 0}),
        ("Reshape", ("x", "wanted"), "flat", {}),
        *extra,
    ]


SIDES = {"zero": i64(0), "one": i64(1), "two": i64(2), "three": i64(3), "rest": i64(-1), "four": i64(4)}


def test_shape_is_settled(tmp_path):
    """Rows, flattened and turned, get their height and width back; the width is read from the input."""
    nodes = flatten_nodes(
        ("Gather", ("shape", "three"), "width", {}),
        ("Squeeze", ("width", "zero"), "number", {}),
        ("Unsqueeze", ("number", "zero"), "again", {}),
        ("Shape", ("flat",), "shape2", {}),
        ("Slice", ("shape2", "zero", "two", "zero"), "kept2", {}),
        ("Concat", ("kept2", "eight", "again"), "back", {"axis": 0}),
        ("Reshape", ("flat", "back"), "y", {}),
    )
    source = make(nodes, SIDES | {"eight": i64(8)}, path=tmp_path / "m.onnx")
    program = import_onnx(source)
    shapes = [list(attr.ints) for op in program.ops for attr in op.attrs if attr.name == "shape"]
    assert shapes == [[0, 4, -1], [0, 4, 8, -1]]
    np.testing.assert_array_equal(run_paddle(program, tmp_path / "p", X), X)


def test_two_free_sides_are_refused(tmp_path):
    nodes = flatten_nodes(
        ("Gather", ("shape", "three"), "width", {}),
        ("Gather", ("shape", "two"), "height", {}),
        ("Concat", ("kept", "height", "width"), "back", {"axis": 0}),
        ("Reshape", ("flat", "back"), "y", {}),
    )
    assert "more than one side is not known" in refuse(tmp_path, nodes, SIDES)


def test_arithmetic_on_sides_is_refused(tmp_path):
    nodes = [
        ("Shape", ("x",), "shape", {}),
        ("Mul", ("shape", "two"), "twice", {}),
        ("Reshape", ("x", "twice"), "y", {}),
    ]
    assert "Mul (node Mul_twice, opset 13): it computes on the shape" in refuse(tmp_path, nodes, SIDES)


def test_flattened_sides_stay_free(tmp_path):
    nodes = flatten_nodes(("Transpose", ("flat",), "y", {"perm": [0, 2, 1]}))
    source = make(nodes, SIDES, out_rank=3, path=tmp_path / "m.onnx")
    program = import_onnx(source)
    (reshape,) = [op for op in program.ops if op.type == "reshape2"]
    assert [list(attr.ints) for attr in reshape.attrs if attr.name == "shape"] == [[0, 4, -1]]
    assert not any(op.type in ("shape", "slice", "cast") for op in program.ops)
    for array in (X, X[:1, :, :4, :6].copy()):
        np.testing.assert_array_equal(run_paddle(program, tmp_path / "p", array), run_onnx(source, array))


def test_free_sides_of_one_name_are_one(tmp_path):
    """The batch is read from the input, and the reshaped tensor lies behind it."""
    nodes = [
        ("Relu", ("x",), "r", {}),
        ("Shape", ("x",), "shape", {}),
        ("Gather", ("shape", "zero"), "batch", {}),
        ("Concat", ("batch", "four", "rest"), "wanted", {"axis": 0}),
        ("Reshape", ("r", "wanted"), "y", {}),
    ]
    source = make(nodes, SIDES, out_rank=3, path=tmp_path / "m.onnx")
    np.testing.assert_array_equal(run_paddle(import_onnx(source), tmp_path / "p", X), run_onnx(source, X))


def test_free_sides_without_names_of_their_own_are_not_one(tmp_path):
    """Height and width are both "?" in what older exporters write, and may differ."""
    nodes = [
        ("Relu", ("x",), "r", {}),
        ("Shape", ("x",), "shape", {}),
        ("Gather", ("shape", "three"), "width", {}),
        ("Concat", ("zero", "four", "width", "rest"), "wanted", {"axis": 0}),
        ("Reshape", ("r", "wanted"), "y", {}),
    ]
    with pytest.raises(ConversionError, match="more than one side is not known"):
        import_onnx(make(nodes, SIDES, shape=("N", 4, "?", "?"), path=tmp_path / "m.onnx"))


# --- what is refused


def refuse(tmp_path, nodes, constants=None, error=ConversionError, **options):
    with pytest.raises(error) as caught:
        import_onnx(make(nodes, constants, path=tmp_path / "m.onnx", **options))
    assert str(tmp_path / "m.onnx") in caught.value.message
    assert caught.value.hint
    return caught.value.message


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
    assert "opset 7, expected 11 to" in refuse(tmp_path, one("Relu"), opset=7)


def test_newer_opset_than_onnx_knows_is_refused(tmp_path):
    model = onnx.load(make(one("Relu"), path=tmp_path / "m.onnx"))
    model.opset_import[0].version = 23
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match="opset 23, expected 11 to 22"):
        import_onnx(tmp_path / "m.onnx")


def test_dynamic_rank_is_refused(tmp_path):
    message = refuse(tmp_path, one("Relu"), shape=None)
    assert "the input x has no fixed number of sides" in message


@pytest.mark.parametrize("missing", [True, False])
def test_external_data_is_read_or_missed(tmp_path, missing):
    source = make(one("Conv", "w"), {"w": weights(64, 4, 3, 3)}, path=tmp_path / "m.onnx")
    model = onnx.load(source)
    onnx.save(model, source, save_as_external_data=True, location="m.data", size_threshold=0)
    if not missing:
        assert import_onnx(source).ops
        found = resolve_model(tmp_path, "det")
        assert list_source_files(found) == {"m.onnx": source, "m.data": tmp_path / "m.data"}
        return
    (tmp_path / "m.data").unlink()
    with pytest.raises(ModelError, match=r"m\.data") as caught:
        import_onnx(source)
    assert "one folder" in (caught.value.hint or "")


def make_external(folder, *, place="initializer", location="m.data", offset="0", length=None, dims=(6, 4, 3, 3)):
    """Write a model whose filters stand, or are said to stand, in another file, and return its path."""
    folder.mkdir(exist_ok=True)
    value = weights(6, 4, 3, 3)
    (folder / "m.data").write_bytes(value.tobytes())
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    said = {"location": location, "offset": offset, "length": str(value.nbytes) if length is None else length}
    for key, text in said.items():
        tensor.external_data.add(key=key, value=text)
    source = make(one("Conv", "w"), {} if place == "attribute" else {"w": value}, path=folder / "m.onnx")
    model = onnx.load(source)
    if place == "initializer":
        model.graph.initializer[0].CopyFrom(tensor)
    elif place == "attribute":
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    elif place == "subgraph":
        inner = helper.make_graph([], "inner", [], [], [tensor])
        model.graph.node[0].attribute.append(helper.make_attribute("body", inner))
    elif place == "function":
        node = helper.make_node("Constant", [], ["w"], value=tensor)
        function = helper.make_function("ours", "F", [], ["w"], [node], [helper.make_opsetid("", 13)])
        model.functions.append(function)
    elif place == "sparse":
        model.graph.sparse_initializer.add(values=tensor, dims=[10])
    source.write_bytes(model.SerializeToString())
    return source


def refuse_external(source, words):
    with pytest.raises(ModelError, match=words) as caught:
        import_onnx(source)
    assert str(source) in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("place", ["initializer", "attribute"])
def test_external_data_is_the_models(tmp_path, place):
    program = import_onnx(make_external(tmp_path, place=place))
    assert program.params["w"].tobytes() == (tmp_path / "m.data").read_bytes()


@pytest.mark.parametrize("location", ["./m.data", "inner/m.data", "inner//m.data"])
def test_external_data_may_lie_in_a_folder_of_the_models(tmp_path, location):
    source = make_external(tmp_path, location=location)
    (tmp_path / "inner").mkdir()
    shutil.copy(tmp_path / "m.data", tmp_path / "inner")
    assert import_onnx(source).ops


@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph", "function"])
@pytest.mark.parametrize(
    "location",
    ["../m.data", "inner/../../m.data", "inner/../m.data", "{}/m.data", "..", ".", "", "..\\m.data", "a\0b", "m\ndata"],
)
def test_external_data_outside_of_its_folder(tmp_path, place, location):
    (tmp_path / "model" / "inner").mkdir(parents=True)
    source = make_external(tmp_path / "model", place=place, location=location.format(tmp_path))
    (tmp_path / "m.data").write_bytes((tmp_path / "model" / "m.data").read_bytes())
    error = refuse_external(source, r"tensor 'w': its file .* is not one inside the model's folder")
    assert "not as links" in error.hint


@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph", "function"])
@pytest.mark.parametrize("trick", ["link", "link inside", "folder", "hard link", "pipe", "device", "directory"])
def test_external_data_that_is_not_a_file_of_the_models_own(tmp_path, place, trick):
    folder = tmp_path / "model"
    source = make_external(folder, place=place, location="inner/m.data" if trick == "folder" else "m.data")
    data, outside = folder / "m.data", tmp_path / "outside" / "m.data"
    outside.parent.mkdir()
    data.rename(outside)
    if trick == "link":
        data.symlink_to(outside)
    elif trick == "link inside":
        shutil.copy(outside, folder / "other.data")
        data.symlink_to("other.data")
    elif trick == "folder":
        (folder / "inner").symlink_to(outside.parent, target_is_directory=True)
    elif trick == "hard link":
        data.hardlink_to(outside)
    elif trick == "pipe":
        os.mkfifo(data)
    elif trick == "directory":
        data.mkdir()
    else:
        source = make_external(folder, place=place, location="zero")
        try:
            os.mknod(folder / "zero", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
            (folder / "zero").open("rb").close()
        except OSError:
            pytest.skip("no devices can be made here")
    words = {"hard link": "several names", "pipe": "regular", "device": "regular", "directory": "regular"}
    refuse_external(source, rf"tensor 'w': .*{words.get(trick, 'is a link')}")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"offset": "4"}, "bytes 4 to 868, but the file ends after 864"),
        ({"offset": "9223372036854775807"}, "but the file ends after 864"),
        ({"offset": "-4"}, "the offset '-4' of its external data is not a size"),
        ({"offset": " 0"}, "the offset ' 0' of"),
        ({"offset": "1_0"}, "the offset '1_0' of"),
        ({"offset": "9" * 5000}, "the offset '9999"),
        ({"length": "-864"}, "the length '-864' of"),
        ({"length": "9223372036854775807"}, r"9223372036854775807 bytes in m\.data, expected 864 for \[6, 4, 3, 3\]"),
        ({"length": "863"}, "863 bytes in m.data, expected 864"),
        ({"length": "0"}, "0 bytes in m.data, expected 864"),
        ({"length": "x"}, "the length 'x' of"),
        ({"dims": (6, 4, 3, 4)}, "864 bytes in m.data, expected 1152"),
        ({"dims": (-1, 4)}, r"a negative dimension in \[-1, 4\]"),
        ({"dims": (1 << 62, 1 << 62), "length": str(1 << 60)}, "expected 8507"),
        ({"dims": (1 << 40,), "length": str(1 << 42)}, "but the file ends after 864"),
    ],
)
def test_sizes_of_external_data(tmp_path, said, words):
    refuse_external(make_external(tmp_path, **said), f"tensor 'w': .*{words}")


def test_external_data_that_is_named_twice(tmp_path):
    source = make_external(tmp_path)
    model = onnx.load(source, load_external_data=False)
    model.graph.initializer[0].external_data.add(key="location", value="/etc/hostname")
    source.write_bytes(model.SerializeToString())
    refuse_external(source, "says something twice")


@pytest.mark.parametrize("spell", [lambda name, number: name, lambda name, number: "./" * number + name])
@pytest.mark.parametrize(("count", "is_refused"), [(3, False), (40, True)])
def test_tensors_may_share_a_file_but_not_make_memory_of_it(tmp_path, count, is_refused, spell):
    source = make_external(tmp_path)
    model = onnx.load(source, load_external_data=False)
    for number in range(1, count):
        other = model.graph.initializer.add()
        other.CopyFrom(model.graph.initializer[0])
        other.name = f"w{number}"
        entry = next(entry for entry in other.external_data if entry.key == "location")
        entry.value = spell(entry.value, number)
    source.write_bytes(model.SerializeToString())
    if is_refused:
        with pytest.raises(ModelError, match="its tensors overlap: 4320 bytes of a file of 864"):
            import_onnx(source)
    else:
        assert import_onnx(source).ops


@pytest.mark.parametrize("place", ["initializer", "values"])
def test_sparse_tensors_are_refused(tmp_path, place):
    """Written out, one of a few bytes may fill the memory."""
    source = make(one("Mul", "c"), {"c": f32(1)}, path=tmp_path / "m.onnx")
    model = onnx.load(source)
    values, indices = numpy_helper.from_array(f32(1), "s"), numpy_helper.from_array(i64(0), "i")
    sparse = helper.make_sparse_tensor(values, indices, [1 << 40])
    if place == "initializer":
        model.graph.sparse_initializer.append(sparse)
    else:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["d"], sparse_value=sparse))
    source.write_bytes(model.SerializeToString())
    refuse_external(source, "sparse tensor 's': these are not read")


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (TensorProto(data_type=1, dims=[1 << 40], raw_data=b"abcd"), "4 bytes, expected 4398046511104 for"),
        (TensorProto(data_type=1, dims=[2], raw_data=b"abcd"), "4 bytes, expected 8 for"),
        (TensorProto(data_type=1, dims=[-1], raw_data=b"abcd"), "a negative dimension"),
        (TensorProto(data_type=1, dims=[1 << 40], float_data=[1]), "1 numbers, expected 1099511627776 for"),
        (TensorProto(data_type=7, dims=[3], int64_data=[1]), "1 numbers, expected 3 for"),
        (TensorProto(data_type=1, dims=[3], int64_data=[1, 2, 3]), "0 numbers, expected 3 for"),
        (TensorProto(data_type=0, dims=[1], raw_data=b"abcd"), "raw data of the type 0, which has none"),
        (TensorProto(data_type=8, dims=[1], raw_data=b"abcd"), "raw data of the type 8, which has none"),
        (TensorProto(data_type=99, dims=[1], raw_data=b"abcd"), "raw data of the type 99, which has none"),
    ],
)
@pytest.mark.parametrize("place", ["initializer", "attribute"])
def test_a_tensor_that_holds_other_than_it_says(tmp_path, tensor, words, place):
    source = make(one("Mul", "c"), {"c": f32(1)}, path=tmp_path / "m.onnx")
    model = onnx.load(source)
    tensor.name = "c"
    if place == "initializer":
        model.graph.initializer[0].CopyFrom(tensor)
    else:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["d"], value=tensor))
    source.write_bytes(model.SerializeToString())
    refuse_external(source, f"tensor 'c': {words}")


@pytest.mark.parametrize("content", [b"", b"\x00\xff\x13garbage", b"not an onnx file at all"])
def test_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx"):
        import_onnx(tmp_path / "m.onnx")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"m\.onnx"):
        import_onnx(tmp_path / "m.onnx")


REFUSED = {
    "computed filters": ([("Conv", ("x", "x"), "y", {})], {}, "computed"),
    "two numbers over": ([("Sub", ("c", "x"), "y", {})], {"c": CHANNELS}, "the larger one first"),
    "power": (one("Pow", "c"), {"c": np.float32(4)}, "the power 4.0, expected 2, 1 or 0.5"),
    "behind the picture": (one("MaxPool", kernel_shape=[1, 1], strides=[3, 3], ceil_mode=1), {}, "ceil_mode"),
    "mean of nothing": (one("ReduceMean", "a", noop_with_empty_axes=1), {"a": i64()}, "over no side"),
    "norm of one number": (
        [("LayerNormalization", ("x", "s", "s"), "y", {})],
        {"s": f32(1)},
        "scale and bias of",
    ),
    "both spread": (
        [
            ("ReduceMean", ("x",), "a", {"axes": [2]}),
            ("ReduceMean", ("x",), "b", {"axes": [3]}),
            ("Add", ("a", "b"), "y", {}),
        ],
        {},
        "neither is the larger one",
    ),
    "lower": (one("Conv", "w", auto_pad="SAME_LOWER"), {"w": weights(4, 4, 3, 3)}, "SAME_LOWER"),
    "steps": (
        one("Slice", "s", "e", "a", "t"),
        {"s": i64(0), "e": i64(8), "a": i64(3), "t": i64(2)},
        "steps",
    ),
    "sizes": (
        [("Resize", ("x", "", "", "s"), "y", {})],
        {"s": i64(1, 4, 16, 16)},
        "sizes are not followed",
    ),
    "cubic": (one("Resize", "", "s", mode="cubic"), {"s": f32(1, 1, 2, 2)}, "cubic"),
    "allowzero": (one("Reshape", "s", allowzero=1), {"s": i64(2, 4, 8, 12)}, "allowzero"),
    "training": (
        [("Dropout", ("x", "r", "t"), "d", {}), ("Relu", ("d",), "y", {})],
        {"r": np.float32(0.5), "t": np.array(True)},
        "training_mode",
    ),
    "integers": ([("Cast", ("x",), "i", {"to": 6}), ("Cast", ("i",), "y", {"to": 1})], {}, "INT32"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_form_that_would_read_wrong_is_refused(name, tmp_path):
    nodes, constants, part = REFUSED[name]
    opset = {"allowzero": 14, "mean of nothing": 18, "norm of one number": 17}.get(name, 13)
    assert part in refuse(tmp_path, nodes, constants, opset=opset)


def test_softmax_of_old_opsets_over_several_sides_is_refused(tmp_path):
    assert "over the sides from 1" in refuse(tmp_path, one("Softmax", axis=1), opset=11)


def test_two_outputs_are_refused(tmp_path):
    model = onnx.load(make(one("Relu"), path=tmp_path / "m.onnx"))
    model.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, FREE))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match="1 inputs and 2 outputs"):
        import_onnx(tmp_path / "m.onnx")


def test_half_precision_is_refused(tmp_path):
    model = onnx.load(make(one("Relu"), path=tmp_path / "m.onnx"))
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match="is FLOAT16, expected FLOAT"):
        import_onnx(tmp_path / "m.onnx")


def test_tensors_called_feed_and_fetch(tmp_path):
    nodes = [("Relu", ("x",), "feed", {}), ("Sigmoid", ("feed",), "fetch", {}), ("Relu", ("fetch",), "y", {})]
    source = make(nodes, path=tmp_path / "m.onnx")
    np.testing.assert_allclose(run_paddle(import_onnx(source), tmp_path / "p", X), run_onnx(source, X), atol=5e-6)


# --- patterns


def gelu_nodes(order, divide):
    """Return x·½·(1 + erf(x / √2)) with factors and terms in another order each."""
    scale = ("Div", ("x", "root"), "q", {}) if divide else ("Mul", ("inverse", "x"), "q", {})
    nodes = [scale, ("Erf", ("q",), "e", {}), ("Add", ("e", "one") if order % 2 else ("one", "e"), "t", {})]
    ends = [
        [("Mul", ("x", "t"), "p", {}), ("Mul", ("p", "half"), "y", {})],
        [("Mul", ("half", "x"), "p", {}), ("Mul", ("p", "t"), "y", {})],
        [("Mul", ("t", "half"), "p", {}), ("Mul", ("x", "p"), "y", {})],
    ]
    return nodes + ends[order]


GELU = {"root": np.float32(np.sqrt(2)), "inverse": np.float32(np.sqrt(0.5)), "one": f32(1), "half": np.float32(0.5)}
SWISH = [("Sigmoid", ("x",), "s", {}), ("Mul", ("x", "s"), "y", {})]
HARD = [("HardSigmoid", ("x",), "s", {"alpha": 1 / 6, "beta": 0.5}), ("Mul", ("s", "x"), "y", {})]
CLIPPED = [
    ("Add", ("x", "three"), "a", {}),
    ("Clip", ("a", "zero", "six"), "c", {}),
    ("Mul", ("x", "c"), "p", {}),
    ("Div", ("p", "six"), "y", {}),
]
CLIPPED_GATE = [*CLIPPED[:2], ("Div", ("c", "six"), "g", {}), ("Mul", ("g", "x"), "y", {})]
NUMBERS = {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)}
NORM = [
    ("ReduceMean", ("x",), "mean", {"axes": [-1]}),
    ("Sub", ("x", "mean"), "d", {}),
    ("Pow", ("d", "two"), "p", {}),
    ("ReduceMean", ("p",), "v", {"axes": [-1]}),
    ("Add", ("v", "eps"), "a", {}),
    ("Sqrt", ("a",), "r", {}),
    ("Div", ("d", "r"), "q", {}),
    ("Mul", ("q", "s"), "m", {}),
    ("Add", ("m", "b"), "y", {}),
]
NORMS = {"two": np.float32(2), "eps": np.float32(1e-6), "s": ROW + 1, "b": ROW}
FOLDED = {
    **{
        f"gelu_{order}_{divide}": (gelu_nodes(order, divide), GELU, ["gelu"])
        for order, divide in itertools.product(range(3), (False, True))
    },
    "swish": (SWISH, {}, ["swish"]),
    "hard_swish": (HARD, {}, ["hard_swish"]),
    "hard_swish_clipped": (CLIPPED, NUMBERS, ["hard_swish"]),
    "hard_swish_gate": (CLIPPED_GATE, NUMBERS, ["hard_swish"]),
    "layer_norm": (NORM, NORMS, ["layer_norm"]),
    "layer_norm_squared": (
        [("Mul", ("d", "d"), "p", {}) if node[2] == "p" else node for node in NORM],
        NORMS,
        ["layer_norm"],
    ),
    "batch_norm": (
        [("Conv", ("x", "w"), "c", {}), ("BatchNormalization", ("c", *BN), "y", {})],
        BN | {"w": weights(4, 4, 3, 3)},
        ["conv2d", "elementwise_add"],
    ),
    "batch_norm_biased": (
        [("Conv", ("x", "w", "o"), "c", {}), ("BatchNormalization", ("c", *BN), "y", {})],
        BN | {"w": weights(4, 4, 3, 3), "o": weights(4)},
        ["conv2d", "elementwise_add"],
    ),
    "batch_norm_transposed": (
        [("ConvTranspose", ("x", "w", "o"), "c", {"strides": [2, 2]}), ("BatchNormalization", ("c", *BN), "y", {})],
        BN | {"w": weights(4, 4, 2, 2), "o": weights(4)},
        ["conv2d_transpose", "elementwise_add"],
    ),
    "slice": (
        [
            ("Slice", ("x", "f", "t", "c"), "q", {}),
            ("Squeeze", ("q", "c"), "z", {}),
            ("Unsqueeze", ("z", "c"), "y", {}),
        ],
        {"f": i64(1), "t": i64(2), "c": i64(1)},
        ["slice", "unsqueeze2"],
    ),
    "times_one": ([("Mul", ("x", "n"), "a", {}), ("Relu", ("a",), "y", {})], {"n": f32(1)}, ["relu"]),
}


@pytest.mark.parametrize("name", FOLDED)
def test_pattern_is_put_together(name, tmp_path):
    nodes, constants, expected = FOLDED[name]
    source = make(nodes, constants, shape=ROWS, path=tmp_path / "m.onnx")
    program = import_onnx(source)
    reports = run_passes(program)
    assert [op.type for op in program.ops if op.type not in ("feed", "fetch")] == expected
    assert (reports[0].ops_before, reports[-1].ops_after) == (len(import_onnx(source).ops), len(expected) + 2)
    np.testing.assert_allclose(run_paddle(program, tmp_path / "p", X), run_onnx(source, X), rtol=1e-5, atol=5e-6)


def replace(nodes, name, changed):
    return [changed if node[2] == name else node for node in nodes]


LEFT = {
    "gelu of another number": (gelu_nodes(0, True), GELU | {"root": np.float32(1.5)}, "gelu"),
    "gelu of a whole": (gelu_nodes(0, True), GELU | {"half": np.float32(0.6)}, "gelu"),
    "gelu of another tensor": (
        [("Relu", ("x",), "z", {}), *replace(gelu_nodes(0, True), "q", ("Div", ("z", "root"), "q", {}))],
        GELU,
        "gelu",
    ),
    "gate of another tensor": (
        [("Relu", ("x",), "z", {}), ("Sigmoid", ("z",), "s", {}), ("Mul", ("x", "s"), "y", {})],
        {},
        "swish",
    ),
    "hard_swish of another slope": (replace(HARD, "s", ("HardSigmoid", ("x",), "s", {})), {}, "hard_swish"),
    "hard_swish to another end": (CLIPPED, NUMBERS | {"three": np.float32(2)}, "hard_swish"),
    "gate that is read elsewhere": (
        [*SWISH[:1], ("Mul", ("x", "s"), "p", {}), ("Add", ("p", "s"), "y", {})],
        {},
        "swish",
    ),
    "norm of another mean": (
        [("Relu", ("x",), "z", {}), *replace(NORM, "mean", ("ReduceMean", ("z",), "mean", {"axes": [-1]}))],
        NORMS,
        "layer_norm",
    ),
    "norm over another side": (
        replace(
            replace(NORM, "mean", ("ReduceMean", ("x",), "mean", {"axes": [2]})),
            "v",
            ("ReduceMean", ("p",), "v", {"axes": [2]}),
        ),
        NORMS,
        "layer_norm",
    ),
    "norm whose parts are read": (
        [*NORM[:-1], ("Add", ("m", "b"), "n", {}), ("Add", ("n", "d"), "y", {})],
        NORMS,
        "layer_norm",
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_only_looks_alike_is_left(name, tmp_path):
    nodes, constants, unwanted = LEFT[name]
    source = make(nodes, constants, shape=ROWS, path=tmp_path / "m.onnx")
    program = import_onnx(source)
    run_passes(program)
    assert unwanted not in [op.type for op in program.ops]
    np.testing.assert_allclose(run_paddle(program, tmp_path / "p", X), run_onnx(source, X), rtol=1e-5, atol=5e-6)


def test_batch_norm_stays_where_its_convolution_is_read_elsewhere(tmp_path):
    nodes = [("Conv", ("x", "w"), "c", {}), ("BatchNormalization", ("c", *BN), "n", {}), ("Add", ("n", "c"), "y", {})]
    source = make(nodes, BN | {"w": weights(4, 4, 3, 3)}, path=tmp_path / "m.onnx")
    program = import_onnx(source)
    run_passes(program)
    assert "batch_norm" in [op.type for op in program.ops]
    np.testing.assert_allclose(run_paddle(program, tmp_path / "p", X), run_onnx(source, X), rtol=1e-5, atol=5e-6)


GROWING = {
    "filled": ([("ConstantOfShape", ("s",), "c", {})], {"s": i64(1 << 20, 1 << 20)}),
    "counted": ([("Range", ("a", "b", "d"), "c", {})], {"a": np.int64(0), "b": np.int64(1 << 50), "d": np.int64(1)}),
    "spread": ([("Mul", ("a", "b"), "c", {})], {"a": np.ones((5000, 1), np.float32), "b": np.ones(5000, np.float32)}),
    "picked": ([("Gather", ("a", "b"), "c", {})], {"a": np.ones((1, 4000), np.float32), "b": np.zeros(4000, np.int64)}),
    "again and again": (
        [("ConstantOfShape", ("s",), f"c{n}", {}) for n in range(9)] + [("Identity", ("c0",), "c", {})],
        {"s": i64(1 << 19)},
    ),
}


@pytest.mark.parametrize("name", GROWING)
def test_a_few_bytes_do_not_become_constants_of_any_size(name, tmp_path):
    nodes, constants = GROWING[name]
    source = make([*nodes, ("Mul", ("x", "c"), "y", {})], constants, path=tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match=r"of constants \d+ numbers would be computed, expected at most"):
        import_onnx(source)


@pytest.mark.parametrize(
    "node",
    [
        ("AveragePool", ("w",), "c", {"kernel_shape": [1, 1], "pads": [1 << 20] * 4}),
        ("Conv", ("w", "w"), "c", {"pads": [1 << 20] * 4}),
        ("Resize", ("w", "", "s"), "c", {}),
    ],
)
def test_windows_over_constants_are_refused(node, tmp_path):
    constants = {"w": weights(4, 4, 1, 1), "s": f32(1, 1, 1e5, 1e5)}
    source = make([node, ("Mul", ("x", "c"), "y", {})], constants, path=tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match="it reads constants alone"):
        import_onnx(source)


# --- found by tests/fuzz/test_onnx_fuzz.py


def change_model(path, nodes, constants, change, **options):
    source = make(nodes, constants, path=path, **options)
    model = onnx.load(source)
    change(model)
    source.write_bytes(model.SerializeToString())
    return source


def test_an_attribute_that_paddle_has_no_room_for(tmp_path):
    source = make(one("Conv", "w", pads=[1 << 40] * 4), {"w": weights(6, 4, 3, 3)}, path=tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match=r"Conv \(node Conv_y, opset 13\): an attribute is too large"):
        import_onnx(source)


def test_names_do_not_leave_their_line(tmp_path):
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


def test_what_cannot_be_computed_is_told_in_one_line(tmp_path):
    nodes = [("ConstantOfShape", ("s",), "c", {}), ("Mul", ("x", "c"), "y", {})]
    with pytest.raises((ConversionError, ModelError)) as caught:
        import_onnx(make(nodes, {"s": np.zeros((4, 6), np.int64)}, path=tmp_path / "m.onnx"))
    assert caught.value.message.isprintable()


def test_messages_have_an_end(tmp_path):
    scales = np.linspace(-2, 2, 5000).astype(np.float32)
    source = make(one("Resize", "", "s"), {"s": scales}, path=tmp_path / "m.onnx")
    with pytest.raises((ConversionError, ModelError)) as caught:
        import_onnx(source)
    assert len(caught.value.message) < 1500


@pytest.mark.parametrize("size", [2**63, 2**64 - 1])
def test_sides_that_are_too_large_for_any_shape(tmp_path, size):
    nodes = [
        ("Shape", ("x",), "s", {}),
        ("Gather", ("s", "zero"), "n", {}),
        ("Cast", ("big",), "c", {"to": TensorProto.UINT64}),
        ("Concat", ("n", "big"), "to", {"axis": 0}),
        ("Reshape", ("x", "to"), "y", {}),
    ]
    constants = {"zero": i64(0), "big": np.array([size], np.uint64)}
    with pytest.raises((ConversionError, ModelError), match=r"m\.onnx: "):
        import_onnx(make(nodes, constants, path=tmp_path / "m.onnx"))
