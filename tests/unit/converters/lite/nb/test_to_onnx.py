"""The graph of a `.nb` against the model it was made from."""

import dataclasses
import itertools
import time
from functools import cache

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.nb_programs import (
    FC,
    SHAPE_OF_X,
    build,
    build_model,
    check,
    draw,
    feed,
    fetch,
    fill,
    make_op,
    quantise,
    run,
    unary,
)

from converters.lite.nb.read import read_nb
from converters.lite.nb.to_onnx import OPSET, build_graph
from edge_ocr.engines import create_engine
from edge_ocr.errors import ModelError
from edge_ocr.models.resolve import resolve_model
from edge_ocr.models.types import Model

MODELS = {"det": "PP-OCRv4_mobile_det", "rec": "PP-OCRv4_mobile_rec", "cls": "ch_ppocr_mobile_v2_cls"}
SHAPES = {
    "det": [(1, 3, 64, 96), (2, 3, 160, 32), (1, 3, 32, 256)],
    "rec": [(1, 3, 48, 320), (3, 3, 48, 64), (2, 3, 48, 500)],
    "cls": [(6, 3, 48, 192), (1, 3, 48, 192)],
}


@pytest.fixture(scope="session")
def read_exported(export):
    """Read a network's .nb from a bundle."""

    @cache
    def read(kind, **options):
        return read_nb(export(with_cls=True, **options).out_dir / "models" / f"{kind}.nb")

    return read


@pytest.fixture(scope="session")
def open_graph(read_exported, tmp_path_factory):
    """Open the graph of a network of a bundle in an engine; the same one for the same arguments."""
    folder = tmp_path_factory.mktemp("graphs")

    @cache
    def open_network(engine, kind, **options):
        path = folder / f"{len(list(folder.iterdir()))}.onnx"
        path.write_bytes(build_graph(read_exported(kind, **options)).model.SerializeToString())
        return create_engine(engine, Model(kind, kind, "onnx", path, None, None, {}, "test"), "cpu", 0, 2)

    return open_network


@pytest.fixture(scope="session")
def open_source():
    @cache
    def open_network(kind):
        return create_engine("openvino", resolve_model(MODELS[kind], kind), "cpu", 0, 2)

    return open_network


@pytest.fixture(scope="session")
def cut_images(examples, example_labels):
    """Make a batch of pictures, or of lines from one; for noise, det returns only zeros."""
    pictures = [cv2.imread(str(examples / name)) for name in ("receipt.jpg", "label.png")]
    lines = []
    for word in example_labels["receipt.jpg"]["words"]:
        left, top, width, height = cv2.boundingRect(np.array(word["poly"], np.float32))
        lines.append(pictures[0][top : top + height, left : left + width])

    def cut(kind, shape):
        chosen = itertools.islice(itertools.cycle(lines if kind == "rec" else pictures), shape[0])
        batch = np.stack([cv2.resize(one, (shape[3], shape[2])) for one in chosen]).astype(np.float32) / 255
        # For single lines, cls is almost certain.
        batch = batch if kind != "cls" else batch * np.linspace(0.1, 1, shape[0], dtype=np.float32)[:, None, None, None]
        return np.ascontiguousarray(((batch - 0.5) / 0.5).transpose(0, 3, 1, 2))

    return cut


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("kind", list(MODELS))
def test_the_graph_computes_what_the_source_computes(open_graph, open_source, cut_images, kind, optimize, engine):
    network = open_graph(engine, kind, optimize=optimize)
    # One compiled graph for all shapes: a fixed dimension would fail.
    for shape in SHAPES[kind]:
        images = cut_images(kind, shape)
        wanted = open_source(kind).run(images).copy()
        found = network.run(images)
        assert np.isfinite(found).all()
        assert np.ptp(wanted) > 0.01
        check(found, wanted, 1e-4)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_pruned_charset_leaves_the_other_classes_as_they_were(export, open_graph, open_source, cut_images, engine):
    source = resolve_model(MODELS["rec"], "rec")
    characters = (export(with_cls=True, charset="ascii").out_dir / "dict.txt").read_text("utf-8").splitlines()
    # Blank first; the space is after the dictionary, unless the dictionary contains it.
    classes = {character: place for place, character in enumerate(("", *source.dictionary, " "))}
    network = open_graph(engine, "rec", charset="ascii")
    for shape in SHAPES["rec"]:
        images = cut_images("rec", shape)
        found = network.run(images)
        kept = [0, *(classes[character] for character in characters)]
        kept += [classes[" "]] * (found.shape[2] - len(kept))
        wanted = open_source("rec").run(images)[:, :, kept].astype(np.float64)
        check(found, wanted / wanted.sum(2, keepdims=True), 1e-4)


# How far a probability may move; it does so on a device, too.
QUANTISED = {"int16": 0.05, "int8": 0.9}


@pytest.mark.parametrize("precision", list(QUANTISED))
@pytest.mark.parametrize("kind", list(MODELS))
def test_quantised_weights_are_near_the_source_and_not_the_same(open_graph, open_source, cut_images, kind, precision):
    images = cut_images(kind, SHAPES[kind][0])
    wanted = open_source(kind).run(images).copy()
    found = [open_graph(engine, kind, precision=precision).run(images).copy() for engine in ("openvino", "onnxruntime")]
    check(found[0], found[1], 1e-4)
    assert 0 < np.abs(found[0] - wanted).max() < QUANTISED[precision]


@pytest.mark.parametrize("precision", ["fp32", "int16", "int8"])
@pytest.mark.parametrize("kind", list(MODELS))
def test_constants_are_the_numbers_of_the_file(read_exported, kind, precision):
    model = read_exported(kind, precision=precision)
    graph = build_graph(model).model.graph
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    scaled = {}
    for op in model.blocks[0].ops:
        for name, value in op.attrs.items():
            if name.endswith("_quant_scale"):
                array = model.params[name.removesuffix("_quant_scale")].to_array()
                # A filter's output channels come first, those of fc's weights last; a bias is a vector.
                first = op.type != "fc" or array.ndim == 1
                factors = np.array(value, np.float32)
                factors = factors.reshape(-1, *[1] * (array.ndim - 1)) if first else factors[None, :]
                scaled[name.removesuffix("_quant_scale")] = array.astype(np.float32) * factors
    assert (len(scaled) > 20) == (precision != "fp32")
    used = {name for op in model.blocks[0].ops for names in op.inputs.values() for name in names}
    assert set(model.params) <= used
    for name, param in model.params.items():
        wanted = scaled.get(name)
        if wanted is None:
            assert param.dtype in ("float32", "int32", "int64")
            wanted = param.to_array()
        assert constants[name].dtype == (np.float32 if wanted.dtype == np.float32 else np.int64)
        assert np.array_equal(constants[name], wanted)


@pytest.mark.parametrize("options", [{}, {"optimize": False}, {"precision": "int8"}, {"charset": "ascii"}])
@pytest.mark.parametrize("kind", list(MODELS))
def test_the_graph_is_valid(read_exported, kind, options):
    model = read_exported(kind, **options)
    made = build_graph(model, kind)
    onnx.checker.check_model(made.model, full_check=True)
    graph = made.model.graph
    assert (graph.name, made.model.opset_import[0].version) == (kind, OPSET)
    names = [one.name for one in (*graph.input, *graph.initializer)]
    for node in graph.node:
        assert set(node.input) <= {*names, ""}
        names += node.output
    assert len(names) == len(set(names))
    assert len({node.name for node in graph.node}) == len(graph.node)

    (port,), (result,) = graph.input, graph.output
    assert port.name == "x"
    sides = [side.dim_value or side.dim_param for side in port.type.tensor_type.shape.dim]
    assert sides == ["batch", 3, 48 if kind == "rec" else "height", "width"]
    assert len(result.type.tensor_type.shape.dim) == {"det": 4, "rec": 3, "cls": 2}[kind]

    # A uniquely named float tensor for each output of an op, in program order.
    ops = model.blocks[0].ops
    places = [tensor.index for tensor in made.tensors]
    assert places == sorted(places)
    assert {ops[index].type for index in places if places.count(index) > 1} <= {"split"}
    integers = {"feed", "fetch", "fill_constant", "shape", "slice"}
    skipped = [op.type for index, op in enumerate(ops) if index not in places]
    assert {"feed", "fetch"} <= set(skipped) <= integers | {"scale"}
    outputs = {name for node in graph.node for name in node.output}
    for tensor in made.tensors:
        assert tensor.name in outputs
        assert tensor.op_type == ops[tensor.index].type
        assert tensor.variable in {name for names in ops[tensor.index].outputs.values() for name in names}


def test_the_same_file_gives_the_same_graph(read_exported):
    first, second = (build_graph(read_exported("rec")).model.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_a_variable_that_is_written_again_is_another_tensor():
    x = draw(2, 3)
    ops = [
        make_op("relu", {"X": "x"}, {"Out": "t"}),
        make_op("scale", {"X": "t"}, {"Out": "t"}, scale=2.0),
        make_op("elementwise_add", {"X": "t", "Y": "x"}, {"Out": "x"}),
        make_op("elementwise_add", {"X": "t", "Y": "x"}, {"Out": "t"}),
    ]
    relu = np.maximum(x, 0)
    check(run(x, *ops, output="t"), 2 * relu + (2 * relu + x))
    tensors = build(*ops, x=(-1, 3), output="t").tensors
    assert [tensor.variable for tensor in tensors] == ["t", "t", "x", "t"]
    assert [tensor.name for tensor in tensors] == ["t", "t__2", "x__2", "t__3"]


def test_names_of_the_file_do_not_clash_with_ours():
    x = draw(2, 3)
    # Names that the graph uses for its own constants and nodes, and an empty name, which means none in ONNX.
    names = ["float_2.0", "ints_-1", "scale_3", "y_fetched", "y__2", ""]
    ops = [
        make_op("elementwise_add", {"X": "x", "Y": "float_2.0"}, {"Out": ""}),
        make_op("scale", {"X": ""}, {"Out": "scale_3"}, scale=2.0),
        make_op("scale", {"X": "scale_3"}, {"Out": "y"}, scale=2.0, bias=1.0),
        make_op("elementwise_add", {"X": "y", "Y": "y__2"}, {"Out": "y"}),
        make_op("reshape2", {"X": "y"}, {"Out": "y"}, shape=(-1,)),
        make_op("elementwise_add", {"X": "y", "Y": "ints_-1"}, {"Out": "y"}),
        make_op("elementwise_mul", {"X": "y", "Y": "y_fetched"}, {"Out": "y"}),
    ]
    params = {
        name: np.full(1, 3 + place, np.float32) for place, name in enumerate(names) if name not in ("", "scale_3")
    }
    wanted = ((x + 3) * 2 * 2 + 1 + params["y__2"] + params["ints_-1"]) * params["y_fetched"]
    check(run(x, *ops, params=params), wanted.reshape(-1))


def test_inputs_and_outputs_are_in_the_order_of_their_columns():
    ops = [
        feed("b", 1),
        feed("a", 0),
        make_op("relu", {"X": "b"}, {"Out": "r"}),
        fetch("r", 2),
        fetch("a", 0),
        fetch("r", 1),
    ]
    graph = build_graph(build_model(ops, {"a": (2, -1), "b": (-1, 5)})).model.graph
    assert [port.name for port in graph.input] == ["a", "b"]
    assert [port.name for port in graph.output] == ["a_fetched", "r_fetched__2", "r_fetched"]
    dims = [[side.dim_value or side.dim_param for side in port.type.tensor_type.shape.dim] for port in graph.input]
    assert dims == [[2, "side_1"], ["batch", 5]]


def test_an_input_with_the_name_of_a_parameter_is_refused():
    with pytest.raises(ModelError, match=r"op 0 \(feed\): Out 'x'"):
        build(params={"x": np.ones(2, np.float32)}, output="x")


def test_an_output_of_integers_is_refused():
    with pytest.raises(ModelError, match=r"op 2 \(fetch\): X "):
        build(SHAPE_OF_X, output="sides")


def test_an_unknown_op_is_named_whatever_comes_before_it():
    with pytest.raises(ModelError, match=r"^test.nb: op 2: 'while\\n'") as caught:
        build(make_op("relu", {"X": "z"}, {"Out": "y"}), make_op("while\n", {}, {}))
    assert "report it" in caught.value.hint
    with pytest.raises(ModelError) as caught:
        build(make_op("a" * 10**6, {}, {}))
    assert len(caught.value.message) < 600


def test_programs_of_several_blocks_or_without_ends_are_refused():
    model = build_model([feed("x"), fetch("x")], {"x": (1, 2)})
    with pytest.raises(ModelError, match=r"test\.nb: 2 .*1"):
        build_graph(dataclasses.replace(model, blocks=model.blocks * 2), "test.nb")
    with pytest.raises(ModelError, match=r"nb: 0 .*1"):
        build_graph(dataclasses.replace(model, blocks=()))
    for ops, words in (([feed("x")], "nb: 1 .*0 "), ([fill("c", 1, 5), fetch("c")], "nb: 0 .*1 ")):
        with pytest.raises(ModelError, match=words):
            build_graph(build_model(ops, {"x": (1, 2)}))


def test_mismatched_shapes_are_refused_by_the_checker():
    op = make_op("matmul_v2", {"X": "x", "Y": "w"}, {"Out": "y"})
    with pytest.raises(ModelError, match=r"test\.nb: .*[Ii]ncompatible") as caught:
        build(op, x=(-1, 5), params=FC)
    assert len(caught.value.message) < 500
    # The rule returns a wrong shape, which only the checker detects.
    with pytest.raises(ModelError, match=r"test\.nb: .*squeeze2|y"):
        build(unary("squeeze2", axes=(1,)), x=(-1, 5))


def test_a_parameter_of_many_ops_is_held_once():
    params = {
        "w": np.ones((50_000, 1, 1, 1), np.int8),
        "b": np.ones(50_000, np.float32),
        "row": np.ones((1, 50_000), np.float32),
    }
    attrs = {"groups": 50_000}
    ops = [
        make_op("conv2d", {"Input": "x", "Filter": "w", "Bias": bias}, {"Output": "x"}, **attrs)
        for bias in ("b", "row") * 50
    ]
    ops[0] = dataclasses.replace(ops[0], attrs={**attrs, **quantise(w=(0.5,) * 50_000)})
    graph = build(*ops, x=(1, 50_000, 1, 1), params=params, output="x").model.graph
    assert sorted(one.name for one in graph.initializer) == ["b", "ints_-1", "row", "w"]
    assert graph.ByteSize() < 700_000


def test_filled_numbers_are_counted_over_the_whole_program():
    ops = [fill(f"c{place}", 1, dtype=5, shape=(10_000,)) for place in range(100)]
    with pytest.raises(ModelError, match=r"70000 .*65536"):
        build(*ops, output="x")


def test_more_parameters_than_onnx_holds_are_refused(monkeypatch):
    monkeypatch.setattr("converters.lite.nb.to_onnx._MAX_PARAM_BYTES", 31)
    for dtype in (np.float32, np.int8):
        build(output="x", params={"p": np.ones(7, dtype)})
        with pytest.raises(ModelError, match=r"test\.nb: 32 .*31"):
            build(output="x", params={"p": np.ones(8, dtype)})
    with pytest.raises(ModelError, match=r"32 .*31"):
        build(output="x", params={"p": np.ones(4, np.int32)})


def test_long_names_do_not_make_long_messages():
    name = "n" * 10**6
    for op in (
        make_op("relu", {"X": name}, {"Out": "y"}),
        make_op("conv2d", {"Input": "x", "Filter": (name, name)}, {"Output": "y"}),
        unary("swish", beta=name),
        unary("pool2d", pooling_type=name),
    ):
        with pytest.raises(ModelError) as caught:
            build(op)
        assert len(caught.value.message) < 500


def test_a_long_program_takes_time_in_proportion():
    # One variable for all tensors: unused names must not be searched from the start each time.
    ops = [make_op("relu", {"X": "x"}, {"Out": "x"})] * 19_998
    started = time.monotonic()
    graph = build(*ops, output="x").model.graph
    assert time.monotonic() - started < 10
    assert graph.node[-2].output[0] == "x__19999"
    with pytest.raises(ModelError, match=r"test\.nb: 20001 .*20000"):
        build(*ops, *ops[:1], output="x")
