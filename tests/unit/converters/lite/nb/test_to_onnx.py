"""The graph of a `.nb` against the model it was made from, and each rule against what Paddle-Lite computes."""

import dataclasses
import itertools
import math
import time
from functools import cache

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from converters.lite.nb.read import NbBlock, NbHeader, NbModel, NbOp, NbParam, NbVar, read_nb
from converters.lite.nb.to_onnx import OPSET, build_graph
from edge_ocr.engines import create_engine
from edge_ocr.errors import ModelError
from edge_ocr.models.resolve import resolve_model
from edge_ocr.models.types import Model

# --- programs in memory


def make_op(op_type, inputs, outputs, /, **attrs):
    def to_slots(named):
        return {slot: (names,) if isinstance(names, str) else tuple(names) for slot, names in named.items()}

    return NbOp(op_type, to_slots(inputs), to_slots(outputs), attrs)


def to_param(name, array):
    array = np.asarray(array)
    return NbParam(name, array.dtype.name, array.shape, memoryview(array.tobytes()))


def feed(name, column=0):
    return make_op("feed", {"X": "feed"}, {"Out": name}, col=column)


def fetch(name, column=0):
    return make_op("fetch", {"X": name}, {"Out": "fetch"}, col=column)


def build_model(ops, inputs, params=()):
    """Make a program of `ops`, feed and fetch included; `inputs` are their shapes by name."""
    variables = {name: NbVar(name, "tensor", False, "float32", tuple(shape)) for name, shape in dict(inputs).items()}
    return NbModel(
        size_bytes=0,
        header=NbHeader(2, "v2.13-rc", 0, len(params), 0),
        program_version=0,
        blocks=(NbBlock(0, -1, variables, tuple(ops)),),
        params={name: to_param(name, array) for name, array in dict(params).items()},
        inputs=tuple(variables.values()),
        outputs=(),
    )


def build(*ops, x=(-1, 3, -1, -1), params=(), output="y"):
    """Build the graph of `ops` between the input x and an output."""
    return build_graph(build_model([feed("x"), *ops, fetch(output)], {"x": x}, params), "test.nb")


def open_session(graph):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(array, *ops, params=(), output="y"):
    """Run `ops` on `array`, with an input of which no side is known."""
    graph = build(*ops, x=(-1,) * array.ndim, params=params, output=output)
    (result,) = open_session(graph).run(None, {"x": array})
    return result


def apply(array, op_type, /, *, slot="X", out="Out", params=(), inputs=(), **attrs):
    """Run one op, which reads `array` in `slot`."""
    op = make_op(op_type, {slot: "x", **dict(inputs)}, {out: "y"}, **attrs)
    return run(array, op, params=params)


def draw(*shape, seed=0, low=-3.0, high=3.0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def check(found, wanted, atol=1e-5):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


# --- real files

MODELS = {"det": "PP-OCRv4_mobile_det", "rec": "PP-OCRv4_mobile_rec", "cls": "ch_ppocr_mobile_v2_cls"}

SHAPES = {
    "det": [(1, 3, 64, 96), (2, 3, 160, 32), (1, 3, 32, 256)],
    "rec": [(1, 3, 48, 320), (3, 3, 48, 64), (2, 3, 48, 500)],
    "cls": [(6, 3, 48, 192), (1, 3, 48, 192)],
}


@pytest.fixture(scope="session")
def read_exported(export):
    """Read a network's .nb out of a bundle."""

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
    """Make a batch of pictures, or of lines out of one; of noise det answers nothing but zeros."""
    pictures = [cv2.imread(str(examples / name)) for name in ("receipt.jpg", "label.png")]
    lines = []
    for word in example_labels["receipt.jpg"]["words"]:
        left, top, width, height = cv2.boundingRect(np.array(word["poly"], np.float32))
        lines.append(pictures[0][top : top + height, left : left + width])

    def cut(kind, shape):
        chosen = itertools.islice(itertools.cycle(lines if kind == "rec" else pictures), shape[0])
        batch = np.stack([cv2.resize(one, (shape[3], shape[2])) for one in chosen]).astype(np.float32) / 255
        # Of one line after the other cls is as sure as can be.
        batch = batch if kind != "cls" else batch * np.linspace(0.1, 1, shape[0], dtype=np.float32)[:, None, None, None]
        return np.ascontiguousarray(((batch - 0.5) / 0.5).transpose(0, 3, 1, 2))

    return cut


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("kind", list(MODELS))
def test_the_graph_gives_what_the_source_gives(open_graph, open_source, cut_images, kind, optimize, engine):
    network = open_graph(engine, kind, optimize=optimize)
    # One compiled graph for all shapes: what is fixed in it would show.
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
    # Blank first; the space stands behind the dictionary, in which the bundle's may name it or not.
    classes = {character: place for place, character in enumerate(("", *source.dictionary, " "))}
    network = open_graph(engine, "rec", charset="ascii")
    for shape in SHAPES["rec"]:
        images = cut_images("rec", shape)
        found = network.run(images)
        kept = [0, *(classes[character] for character in characters)]
        kept += [classes[" "]] * (found.shape[2] - len(kept))
        wanted = open_source("rec").run(images)[:, :, kept].astype(np.float64)
        check(found, wanted / wanted.sum(2, keepdims=True), 1e-4)


# How far a probability may move; on a device it does so, too.
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
def test_the_graph_holds_together(read_exported, kind, options):
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

    # A tensor of floats for each op that gives one, in the program's order, under a name of its own.
    ops = model.blocks[0].ops
    places = [tensor.index for tensor in made.tensors]
    assert places == sorted(set(places))
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


# --- each rule, against a statement of its own of what Paddle-Lite computes


def pad(array, paddings, value=0.0):
    top, bottom, left, right = paddings
    return np.pad(array, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def list_windows(array, kernel, strides, dilations=(1, 1)):
    """Return the windows, of shape N, C, rows, columns, kernel rows, kernel columns."""
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(array, reach, axis=(2, 3))
    return windows[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]


def find_same_paddings(sizes, kernel, strides):
    """Return what padding_algorithm SAME comes to in Lite: the odd one behind."""
    paddings = []
    for size, k, s in zip(sizes, kernel, strides, strict=True):
        missing = max((-(-size // s) - 1) * s + k - size, 0)
        paddings += [missing // 2, missing - missing // 2]
    return paddings


def convolve(array, weights, bias, strides=(1, 1), paddings=(0, 0, 0, 0), dilations=(1, 1), groups=1):
    windows = list_windows(pad(array, paddings), weights.shape[2:], strides, dilations)
    outputs = []
    for part, kernels in zip(np.split(windows, groups, 1), np.split(weights, groups), strict=True):
        outputs.append(np.einsum("nchwij,ocij->nohw", part, kernels))
    return np.concatenate(outputs, 1) + bias[:, None, None]


def make_conv(op_type="conv2d", **attrs):
    return make_op(op_type, {"Input": "x", "Filter": "w", "Bias": "b"}, {"Output": "y"}, **attrs)


@pytest.mark.parametrize(
    ("attrs", "paddings"),
    [
        ({"paddings": (1, 2)}, (1, 1, 2, 2)),
        ({"paddings": (0, 1, 2, 3)}, (0, 1, 2, 3)),
        ({"paddings": (3, 0, 1, 0), "strides": (2, 1), "dilations": (1, 2)}, (3, 0, 1, 0)),
        ({"paddings": (4, 4), "padding_algorithm": "VALID"}, (0, 0, 0, 0)),
        ({"paddings": (1, 1), "padding_algorithm": "EXPLICIT", "groups": 2}, (1, 1, 1, 1)),
        ({}, (0, 0, 0, 0)),
    ],
)
def test_convolution(attrs, paddings):
    groups = attrs.get("groups", 1)
    x, w, b = draw(2, 4, 9, 12), draw(6, 4 // groups, 3, 2, seed=1), draw(6, seed=2)
    wanted = convolve(
        x, w, b, attrs.get("strides", (1, 1)), paddings, attrs.get("dilations", (1, 1)), attrs.get("groups", 1)
    )
    check(run(x, make_conv(**attrs), params={"w": w, "b": b}), wanted)


@pytest.mark.parametrize("size", [(7, 8), (8, 7), (5, 5)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 2), (4, 4)])
def test_convolution_with_the_size_kept(size, strides):
    x, w, b = draw(1, 2, *size), draw(3, 2, 3, 2, seed=1), draw(3, seed=2)
    op = make_conv(padding_algorithm="SAME", strides=strides, paddings=(7, 7), dilations=(2, 2))
    paddings = find_same_paddings(size, (3, 2), strides)
    # The dilation goes along with the paddings.
    check(run(x, op, params={"w": w, "b": b}), convolve(x, w, b, strides, paddings))


def test_depthwise_convolution_without_a_bias():
    x, w = draw(1, 4, 6, 6), draw(4, 1, 3, 3, seed=1)
    op = make_op("depthwise_conv2d", {"Input": "x", "Filter": "w"}, {"Output": "y"}, groups=4, paddings=(1, 1))
    wanted = convolve(x, w, np.zeros(4, np.float32), paddings=(1, 1, 1, 1), groups=4)
    check(run(x, op, params={"w": w}), wanted)


def test_a_bias_of_two_sides_is_a_vector_all_the_same():
    x, w, b = draw(1, 2, 4, 4), draw(3, 2, 1, 1, seed=1), draw(1, 3, seed=2)
    check(run(x, make_conv(), params={"w": w, "b": b}), convolve(x, w, b[0]))


def transpose_convolve(array, weights, bias, strides, paddings, dilations=(1, 1), groups=1, extra=(0, 0)):
    """Add each input, times the kernel, to the output at its place; then cut the paddings off."""
    batch, channels, *sizes = array.shape
    outs = weights.shape[1]
    full = [
        (n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(sizes, strides, dilations, weights.shape[2:], strict=True)
    ]
    top, bottom, left, right = paddings
    # The extra sides lie behind what the kernels reach, and are cut off with nothing in them.
    canvas = np.zeros((batch, outs * groups, full[0] + extra[0], full[1] + extra[1]))
    for c, row, column in itertools.product(range(channels), *map(range, sizes)):
        first = c // (channels // groups) * outs
        for i, j in itertools.product(*map(range, weights.shape[2:])):
            place = (slice(None), slice(first, first + outs), row * strides[0] + i * dilations[0])
            canvas[(*place, column * strides[1] + j * dilations[1])] += (
                array[:, c, row, column, None] * weights[None, c, :, i, j]
            )
    cut = canvas[:, :, top : canvas.shape[2] - bottom, left : canvas.shape[3] - right]
    return (cut + bias[:, None, None]).astype(np.float32)


@pytest.mark.parametrize(
    ("attrs", "paddings"),
    [
        ({"strides": (2, 2)}, (0, 0, 0, 0)),
        ({"strides": (2, 3), "paddings": (1, 0)}, (1, 1, 0, 0)),
        ({"strides": (2, 2), "paddings": (0, 1, 1, 0)}, (0, 1, 1, 0)),
        ({"strides": (2, 2), "paddings": (1, 1), "output_padding": (1, 0)}, (1, 1, 1, 1)),
        ({"strides": (3, 3), "output_padding": (2, 1), "output_size": ()}, (0, 0, 0, 0)),
        ({"strides": (2, 1), "dilations": (1, 2), "paddings": (1, 1)}, (1, 1, 1, 1)),
        ({"strides": (2, 2), "groups": 2, "paddings": (5, 5), "padding_algorithm": "VALID"}, (0, 0, 0, 0)),
    ],
)
def test_transposed_convolution(attrs, paddings):
    groups, extra = attrs.get("groups", 1), attrs.get("output_padding", (0, 0))
    x, w, b = draw(2, 4, 4, 5), draw(4, 3, 3, 3, seed=1), draw(3 * groups, seed=2)
    wanted = transpose_convolve(x, w, b, attrs["strides"], paddings, attrs.get("dilations", (1, 1)), groups, extra)
    check(run(x, make_conv("conv2d_transpose", **attrs), params={"w": w, "b": b}), wanted)


# 1 × 1 with a weight of 1: what comes out is the activation.
UNIT = {"w": np.ones((1, 1, 1, 1), np.float32), "b": np.zeros(1, np.float32)}


@pytest.mark.parametrize(
    ("attrs", "function"),
    [
        ({"with_act": True, "act_type": "relu"}, lambda x: np.maximum(x, 0)),
        ({"with_act": True, "act_type": "relu6", "fuse_brelu_threshold": 2.5}, lambda x: np.clip(x, 0, 2.5)),
        ({"with_act": True, "act_type": "relu6"}, lambda x: np.clip(x, 0, 6)),
        ({"with_act": True, "act_type": "hard_swish"}, lambda x: x * np.clip(x + 3, 0, 6) / 6),
        (
            {
                "with_act": True,
                "act_type": "hard_swish",
                "hard_swish_offset": 2.0,
                "hard_swish_threshold": 5.0,
                "hard_swish_scale": 4.0,
                # Those of an op of its own do not count here.
                "offset": 9.0,
            },
            lambda x: x * np.clip(x + 2, 0, 5) / 4,
        ),
        ({"with_act": False, "act_type": "relu"}, lambda x: x),
        ({"fuse_relu": True, "act_type": "relu"}, lambda x: x),
    ],
)
@pytest.mark.parametrize("op_type", ["conv2d", "depthwise_conv2d", "conv2d_transpose"])
def test_fused_activations(op_type, attrs, function):
    if op_type == "conv2d_transpose" and attrs["act_type"] == "hard_swish":
        with pytest.raises(ModelError, match=r"fused activation is 'hard_swish', expected one of \['relu', 'relu6'\]"):
            run(draw(1, 1, 2, 2), make_conv(op_type, **attrs), params=UNIT)
        return
    x = draw(1, 1, 8, 8, low=-9, high=9)
    check(run(x, make_conv(op_type, **attrs), params=UNIT), function(x))


def pool(array, kind, ksize, strides, paddings, *, ceil=False, exclusive=True):
    """As Lite's `pooling_basic`: the window is cut at the image's edges, the end behind it by the kernel's size."""
    sizes = array.shape[2:]
    counts = [
        (size - k + before + after + (s - 1 if ceil else 0)) // s + 1
        for size, k, s, before, after in zip(sizes, ksize, strides, paddings[::2], paddings[1::2], strict=True)
    ]
    out = np.empty((*array.shape[:2], *counts), np.float32)
    for row, column in itertools.product(*map(range, counts)):
        starts = [place * s - before for place, s, before in zip((row, column), strides, paddings[::2], strict=True)]
        cut = [slice(max(start, 0), min(start + k, n)) for start, k, n in zip(starts, ksize, sizes, strict=True)]
        window = array[:, :, cut[0], cut[1]].reshape(*array.shape[:2], -1)
        if kind == "max":
            out[:, :, row, column] = window.max(2)
        else:
            out[:, :, row, column] = window.sum(2) / (window.shape[2] if exclusive else math.prod(ksize))
    return out


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize(
    ("attrs", "paddings"),
    [
        ({"ksize": (2, 2), "strides": (2, 2)}, (0, 0, 0, 0)),
        ({"ksize": (3, 2), "strides": (3, 2), "paddings": (0, 0)}, (0, 0, 0, 0)),
        ({"ksize": (3, 3), "strides": (2, 1), "paddings": (1, 1)}, (1, 1, 1, 1)),
        ({"ksize": (3, 3), "strides": (2, 2), "paddings": (1, 0, 0, 2)}, (1, 0, 0, 2)),
        ({"ksize": (3, 3), "strides": (1, 1), "paddings": (2, 2), "padding_algorithm": "VALID"}, (0, 0, 0, 0)),
        ({"ksize": (2, 2), "strides": (2, 2), "ceil_mode": True}, (0, 0, 0, 0)),
        ({"ksize": (3, 3), "strides": (2, 2), "paddings": (1, 1), "ceil_mode": True}, (1, 1, 1, 1)),
        ({"ksize": (3, 3), "strides": (2, 2), "paddings": (1, 1), "ceil_mode": False, "dilations": (2, 2)}, (1,) * 4),
    ],
)
@pytest.mark.parametrize("size", [(8, 9), (7, 6)])
def test_pooling(kind, attrs, paddings, size):
    x = draw(2, 2, *size)
    found = apply(x, "pool2d", pooling_type=kind, **attrs)
    wanted = pool(x, kind, attrs["ksize"], attrs["strides"], paddings, ceil=attrs.get("ceil_mode", False))
    check(found, wanted)


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize("size", [(8, 9), (7, 6)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 1)])
def test_pooling_with_the_size_kept(kind, size, strides):
    x = draw(1, 2, *size)
    found = apply(x, "pool2d", pooling_type=kind, ksize=(3, 2), strides=strides, padding_algorithm="SAME")
    check(found, pool(x, kind, (3, 2), strides, find_same_paddings(size, (3, 2), strides)))


def test_pooling_that_counts_the_padding():
    x = draw(1, 2, 7, 8)
    attrs = {"pooling_type": "avg", "ksize": (3, 3), "strides": (2, 2), "paddings": (1, 1)}
    wanted = pool(x, "avg", (3, 3), (2, 2), (1, 1, 1, 1), exclusive=False)
    check(apply(x, "pool2d", exclusive=False, **attrs), wanted)
    assert np.abs(apply(x, "pool2d", exclusive=True, **attrs) - wanted).max() > 0.1


@pytest.mark.parametrize("attrs", [{"global_pooling": True, "paddings": (1, 1)}, {"adaptive": True}])
def test_pooling_of_everything(attrs):
    x = draw(2, 3, 5, 6)
    for kind, function in (("avg", np.mean), ("max", np.max)):
        found = apply(x, "pool2d", pooling_type=kind, ksize=(1, 1), strides=(1, 1), **attrs)
        check(found, function(x, axis=(2, 3), keepdims=True))


FUNCTIONS = {
    "elementwise_add": np.add,
    "elementwise_sub": np.subtract,
    "elementwise_mul": np.multiply,
    "elementwise_div": np.divide,
}


@pytest.mark.parametrize("op_type", list(FUNCTIONS))
@pytest.mark.parametrize(
    ("x_shape", "y_shape", "axis", "seen"),
    [
        ((2, 3, 4, 5), (2, 3, 4, 5), -1, (2, 3, 4, 5)),
        ((2, 3, 4, 5), (4, 5), -1, (1, 1, 4, 5)),
        ((2, 3, 4, 5), (3, 4), 1, (1, 3, 4, 1)),
        ((2, 3, 4, 5), (3,), 1, (1, 3, 1, 1)),
        ((2, 3, 4, 5), (2,), 0, (2, 1, 1, 1)),
        ((2, 3, 4, 5), (3, 1, 1), 1, (1, 3, 1, 1)),
        ((2, 3, 4, 5), (1,), -1, (1, 1, 1, 1)),
        ((2, 3, 1, 1), (2, 3, 4, 5), -1, (2, 3, 4, 5)),
        ((4, 5), (2, 3, 4, 5), -1, (2, 3, 4, 5)),
        ((3, 4), (2, 3, 4, 5), 1, (2, 3, 4, 5)),
        ((2, 3, 4, 5), (), -1, (1, 1, 1, 1)),
    ],
)
def test_elementwise(op_type, x_shape, y_shape, axis, seen):
    x, y = draw(*x_shape), draw(*y_shape, seed=1, low=1, high=2)
    found = apply(x, op_type, inputs={"Y": "p"}, params={"p": y}, axis=axis)
    x_seen = x.reshape(1, 3, 4, 1) if axis == 1 and len(x_shape) == 2 else x
    check(found, FUNCTIONS[op_type](x_seen, y.reshape(seen)))


@pytest.mark.parametrize(
    ("op_type", "attrs", "function"),
    [
        ("relu", {}, lambda x: np.maximum(x, 0)),
        ("sigmoid", {}, lambda x: 1 / (1 + np.exp(-x))),
        ("hard_sigmoid", {"slope": 0.3, "offset": 0.4}, lambda x: np.clip(0.3 * x + 0.4, 0, 1)),
        ("hard_sigmoid", {}, lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
        ("hard_swish", {}, lambda x: x * np.clip(x + 3, 0, 6) / 6),
        ("hard_swish", {"offset": 1.0, "threshold": 4.0, "scale": 5.0}, lambda x: x * np.clip(x + 1, 0, 4) / 5),
        ("swish", {"beta": 1.0}, lambda x: x / (1 + np.exp(-x))),
        ("swish", {"beta": 1.7}, lambda x: x / (1 + np.exp(-1.7 * x))),
        ("swish", {"beta": -0.5}, lambda x: x / (1 + np.exp(0.5 * x))),
        ("assign", {}, lambda x: x),
    ],
)
def test_functions_of_one_tensor(op_type, attrs, function):
    x = draw(2, 50, low=-9, high=9)
    check(apply(x, op_type, **attrs), function(x))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, None])
def test_softmax(axis):
    x = draw(2, 3, 4)
    found = apply(x, "softmax", **({} if axis is None else {"axis": axis}))
    shares = np.exp(x)
    check(found, shares / shares.sum(-1 if axis is None else axis, keepdims=True))


@pytest.mark.parametrize("scale", [(2.0, 2.0), (3.0, 1.0), (8.0, 4.0)])
def test_nearest_interpolation(scale):
    x = draw(1, 2, 6, 8)
    found = apply(x, "nearest_interp_v2", scale=scale, align_corners=False, interp_method="nearest")
    rows, columns = (
        # As floats of 32 bits, which is how Lite finds the place.
        (np.arange(int(size * np.float32(s)), dtype=np.float32) * np.float32(1 / s)).astype(int)
        for size, s in zip(x.shape[2:], scale, strict=True)
    )
    check(found, x[:, :, rows][:, :, :, columns])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concatenation(axis):
    x, p = draw(2, 3), draw(2, 3, seed=1)
    op = make_op("concat", {"X": ("x", "p", "x"), "AxisTensor": ()}, {"Out": "y"}, axis=axis)
    check(run(x, op, params={"p": p}), np.concatenate([x, p, x], axis))


@pytest.mark.parametrize("has_bias", [True, False])
def test_layer_norm(has_bias):
    x, scale, bias = draw(2, 3, 8), draw(8, seed=1), draw(8, seed=2)
    op = make_op(
        "layer_norm",
        {"X": "x", "Scale": "scale", "Bias": ("bias",) if has_bias else ()},
        {"Y": "y", "Mean": "mean", "Variance": "variance"},
        begin_norm_axis=2,
        epsilon=0.01,
    )
    wanted = (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 0.01) * scale + has_bias * bias
    check(run(x, op, params={"scale": scale, "bias": bias}), wanted)


@pytest.mark.parametrize(
    ("shape", "attrs", "rows"),
    [
        ((4, 6), {"in_num_col_dims": 1}, (4,)),
        ((4, 2, 3), {"in_num_col_dims": 1, "op_type": "mul"}, (4,)),
        ((4, 2, 3), {}, (4,)),
        ((2, 4, 3, 2), {"in_num_col_dims": 2}, (2, 4)),
        # What was a matmul has the first one there always, and does not mean it.
        ((2, 4, 6), {"in_num_col_dims": 1, "op_type": "matmul_v2"}, (2, 4)),
        ((2, 4, 6), {"in_num_col_dims": 1, "op_type": "matmul"}, (2, 4)),
    ],
)
def test_fully_connected(shape, attrs, rows):
    x, w, b = draw(*shape), draw(6, 5, seed=1), draw(5, seed=2)
    op = make_op("fc", {"Input": "x", "W": "w", "Bias": "b"}, {"Out": "y"}, **attrs)
    check(run(x, op, params={"w": w, "b": b}), x.reshape(*rows, 6) @ w + b)


def test_fully_connected_without_a_bias():
    x, w = draw(3, 6), draw(6, 5, seed=1)
    check(apply(x, "fc", slot="Input", inputs={"W": "w", "Bias": ()}, params={"w": w}), x @ w)


@pytest.mark.parametrize(
    ("attrs", "function"),
    [
        ({"activation_type": "relu"}, lambda x: np.maximum(x, 0)),
        ({"activation_type": "relu6", "alpha": 1.5, "fuse_brelu_threshold": 9.0}, lambda x: np.clip(x, 0, 1.5)),
        ({"activation_type": ""}, lambda x: x),
    ],
)
def test_activations_of_fully_connected(attrs, function):
    x, w, b = draw(3, 6), draw(6, 5, seed=1), draw(1, 5, seed=2)
    found = apply(x, "fc", slot="Input", inputs={"W": "w", "Bias": "b"}, params={"w": w, "b": b}, **attrs)
    check(found, function(x @ w + b))


@pytest.mark.parametrize(
    ("x_shape", "y_shape", "attrs"),
    [
        ((3, 4), (4, 5), {}),
        ((2, 3, 4), (2, 4, 5), {"trans_x": False, "trans_y": False, "alpha": 1.0}),
        ((2, 4, 3), (2, 4, 5), {"trans_x": True}),
        ((2, 6, 3, 4), (2, 6, 5, 4), {"trans_y": True, "alpha": 0.25}),
        ((4, 3), (5, 4), {"trans_x": True, "trans_y": True, "alpha": -2.0}),
        ((2, 3, 4), (4, 5), {}),
        ((3, 4), (2, 4, 5), {}),
    ],
)
def test_matrix_product(x_shape, y_shape, attrs):
    x, y = draw(*x_shape), draw(*y_shape, seed=1)
    found = apply(x, "matmul_v2", inputs={"Y": "p"}, params={"p": y}, **attrs)
    left = np.swapaxes(x, -1, -2) if attrs.get("trans_x") else x
    right = np.swapaxes(y, -1, -2) if attrs.get("trans_y") else y
    check(found, attrs.get("alpha", 1.0) * (left @ right))


def test_transposition():
    x = draw(2, 3, 4)
    check(apply(x, "transpose2", axis=(2, 0, 1)), x.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((0, -1), (2, 12)), ((-1,), (24,)), ((4, 0, 2), (4, 3, 2)), ((0, 0, 2, 2), (2, 3, 2, 2)), (-1, (24,))],
)
def test_reshape(shape, wanted):
    x = draw(2, 3, 4)
    check(apply(x, "reshape2", inputs={"ShapeTensor": (), "Shape": ()}, shape=shape), x.reshape(wanted))


def fill(name, value, dtype=2, shape=(1,), **attrs):
    return make_op("fill_constant", {}, {"Out": name}, shape=shape, value=float(value), dtype=dtype, **attrs)


def pick(source, name, place):
    """Pick one number of a vector, as it is done with shapes."""
    attrs = {"axes": (0,), "starts": (place,), "ends": (place + 1,), "decrease_axis": (0,), "infer_flags": (1,)}
    return make_op("slice", {"Input": source}, {"Out": name}, **attrs)


def test_reshape_to_what_is_computed():
    x = draw(2, 6, 5)
    ops = [
        make_op("shape", {"Input": "x"}, {"Out": "sides"}),
        pick("sides", "batch", 0),
        pick("sides", "width", 2),
        make_op("assign", {"X": "width"}, {"Out": "kept"}),
        make_op("scale", {"X": "kept"}, {"Out": "double"}, scale=2.0, bias=0.0, bias_after_scale=True),
        fill("three", 3),
        make_op("reshape2", {"X": "x", "ShapeTensor": ("batch", "three", "double")}, {"Out": "y"}, shape=(7, 7)),
    ]
    graph = build(*ops, x=(-1, 6, -1))
    # Each is known to be one number: nothing is cut off for nothing.
    assert [node.op_type for node in graph.model.graph.node].count("Slice") == 2
    session = open_session(graph)
    for batch, width in ((2, 5), (3, 4)):
        x = draw(batch, 6, width)
        (found,) = session.run(None, {"x": x})
        check(found, x.reshape(batch, 3, 2 * width))


def test_of_a_vector_in_a_shape_the_first_number_counts():
    x = draw(2, 6)
    shape = {"ShapeTensor": ("sides", "six")}
    ops = [make_op("shape", {"Input": "x"}, {"Out": "sides"}), make_op("reshape2", {"X": "x", **shape}, {"Out": "y"})]
    check(run(x, *ops, params={"six": np.array([6, 9, 9], np.int32)}), x)
    (one,) = open_session(
        build(
            *ops[:1],
            make_op("reshape2", {"X": "x", "ShapeTensor": "n"}, {"Out": "y"}),
            x=(-1, 6),
            params={"n": np.array([12], np.int64)},
        )
    ).run(None, {"x": x})
    check(one, x.reshape(12))


@pytest.mark.parametrize(
    ("axes", "wanted"),
    [((0, -1), (120,)), ((1, 2), (2, 12, 5)), ((0, 1), (6, 4, 5)), ((2, 3), (2, 3, 20)), ((-3, -2), (2, 12, 5))],
)
def test_flattening(axes, wanted):
    x = draw(2, 3, 4, 5)
    found = apply(x, "flatten_contiguous_range", start_axis=axes[0], stop_axis=axes[1])
    check(found, x.reshape(wanted))


@pytest.mark.parametrize("axes", [(2,), (-2, 0), (0, 2, 2)])
def test_squeezing(axes):
    x = draw(1, 3, 1, 5)
    check(apply(x, "squeeze2", axes=axes), x.squeeze(tuple(set(axes))))


@pytest.mark.parametrize(
    ("attrs", "key"),
    [
        ({"axes": (0,), "starts": (1,), "ends": (3,)}, np.s_[1:3]),
        ({"axes": (0, 2), "starts": (-2, 0), "ends": (2**31 - 1, -1)}, np.s_[-2:, :, :-1]),
        ({"axes": (1,), "starts": (1,), "ends": (2,), "decrease_axis": (1,)}, np.s_[:, 1]),
        ({"axes": (0, 1), "starts": (2, 0), "ends": (3, 1), "decrease_axis": (0, 1)}, np.s_[2, 0]),
        ({"axes": (1,), "starts": (-1,), "ends": (0,), "decrease_axis": (1,), "infer_flags": (-1,)}, np.s_[:, -1]),
        ({"axes": (1,), "starts": (-2,), "ends": (-1,), "decrease_axis": (1,), "infer_flags": (-1,)}, np.s_[:, -2]),
    ],
)
def test_slicing(attrs, key):
    x = draw(4, 3, 5)
    check(apply(x, "slice", slot="Input", **attrs), x[key])


def test_what_is_sliced_out_of_everything_stays_a_vector():
    x = draw(4)
    attrs = {"axes": (0,), "starts": (2,), "ends": (3,)}
    check(apply(x, "slice", slot="Input", decrease_axis=(0,), **attrs), x[2:3])
    check(apply(x, "slice", slot="Input", **attrs), x[2:3])
    x = draw(4, 3)
    attrs = {"axes": (0, 1), "starts": (2, 1), "ends": (3, 2), "decrease_axis": (0, 1)}
    check(apply(x, "slice", slot="Input", **attrs), x[2, 1:2])


@pytest.mark.parametrize(
    ("attrs", "function"),
    [
        ({"scale": 2.0, "bias": 0.5}, lambda x: 2 * x + 0.5),
        ({"scale": 2.0, "bias": 0.5, "bias_after_scale": True}, lambda x: 2 * x + 0.5),
        ({"scale": 2.0, "bias": 0.5, "bias_after_scale": False}, lambda x: 2 * (x + 0.5)),
        ({"scale": 3.0}, lambda x: 3 * x),
        ({"bias": 1.0, "bias_after_scale": False}, lambda x: x + 1),
        ({"scale": 0.0, "bias": 2.0}, lambda x: 0 * x + 2),
        ({"activation_type": ""}, lambda x: x),
    ],
)
def test_scaling(attrs, function):
    x = draw(3, 4)
    check(apply(x, "scale", inputs={"ScaleTensor": ()}, **attrs), function(x))


@pytest.mark.parametrize(
    ("attrs", "wanted"),
    [
        ({"scale": 2.0, "bias": -1.0}, (3, 3)),
        ({"scale": 2.0, "bias": -1.0, "bias_after_scale": False}, (2, 4)),
        ({"scale": 1.0, "bias": 0.0}, (2, 3)),
    ],
)
def test_scaling_of_integers(attrs, wanted):
    x = draw(2, 3, 5)
    ops = [
        make_op("shape", {"Input": "x"}, {"Out": "sides"}),
        pick("sides", "two", 0) if wanted != (2, 4) else pick("sides", "two", 1),
        make_op("scale", {"X": "two"}, {"Out": "side"}, **attrs),
        fill("rest", -1),
        make_op("reshape2", {"X": "x", "ShapeTensor": ("side", "rest")}, {"Out": "y"}),
    ]
    number = {(3, 3): 3, (2, 4): 4, (2, 3): 2}[wanted]
    if number == 4:
        x = draw(2, 3, 10)
    check(run(x, *ops), x.reshape(number, -1))


def test_filling():
    x = draw(2, 3)
    # The runtime looks at the number, not at its text.
    ops = [
        fill("c", 0.25, dtype=5, shape=(2, 1), str_value="9"),
        make_op("elementwise_mul", {"X": "x", "Y": "c"}, {"Out": "y"}),
    ]
    check(run(x, *ops), x * 0.25)
    for shape in ((3,), 3):
        ops[0] = fill("c", 0.25, dtype=5, shape=shape)
        check(run(x, *ops), x * 0.25)


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


def test_names_of_the_file_do_not_meet_ours():
    x = draw(2, 3)
    # What the graph would call its own constants and nodes, and an empty name, which in ONNX is none.
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


def test_inputs_and_outputs_stand_in_the_order_of_their_columns():
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


# --- dequantisation

SCALES = (0.5, 0.25, 2.0)


def quantise(method="post_weight_channel_wise_abs_max", bits=8, **scales):
    attrs = {f"{name}_quant_scale": value for name, value in scales.items()}
    return {**attrs, "quantize_weight_bits": bits, **({} if method is None else {"quantization_type": method})}


@pytest.mark.parametrize(("dtype", "bits"), [(np.int8, 8), (np.int16, 16)])
@pytest.mark.parametrize("method", ["post_weight_channel_wise_abs_max", "post_weight_abs_max", None])
def test_scales_of_a_convolution_are_for_the_first_axis(dtype, bits, method):
    rng = np.random.default_rng(0)
    # Three by three: the axis shows.
    w, b = (rng.integers(-100, 100, shape).astype(dtype) for shape in ((3, 3, 1, 1), (3,)))
    x = draw(1, 3, 4, 4)
    op = make_conv(**quantise(method, bits, w=SCALES, b=SCALES[::-1]))
    factors = np.array(SCALES, np.float32)
    weights, bias = w * factors[:, None, None, None], b * factors[::-1]
    check(run(x, op, params={"w": w, "b": b}), convolve(x, weights, bias), 1e-3)


def test_scales_of_fc_are_for_the_last_axis():
    w = np.random.default_rng(0).integers(-100, 100, (3, 3)).astype(np.int8)
    b = np.array([1, -2, 3], np.int8)
    x = draw(4, 3)
    op = make_op("fc", {"Input": "x", "W": "w", "Bias": "b"}, {"Out": "y"}, **quantise(w=SCALES, b=SCALES))
    factors = np.array(SCALES, np.float32)
    check(run(x, op, params={"w": w, "b": b}), x @ (w * factors[None, :]) + b * factors, 1e-3)


@pytest.mark.parametrize("quantised_first", [True, False])
def test_a_parameter_of_two_ops_is_dequantised_for_both(quantised_first):
    # opt leaves the scales at the op that it came to first.
    w = np.random.default_rng(0).integers(-100, 100, (3, 3, 1, 1)).astype(np.int8)
    attrs = [quantise(w=SCALES), {}]
    if not quantised_first:
        attrs.reverse()
    ops = [
        make_op("conv2d", {"Input": "x", "Filter": "w"}, {"Output": "t"}, **attrs[0]),
        make_op("conv2d", {"Input": "t", "Filter": "w"}, {"Output": "y"}, **attrs[1]),
    ]
    weights, zeros = w * np.array(SCALES, np.float32)[:, None, None, None], np.zeros(3, np.float32)
    x = draw(1, 3, 2, 2, low=-0.01, high=0.01)
    check(run(x, *ops, params={"w": w}), convolve(convolve(x, weights, zeros), weights, zeros), 1e-3)
    assert len(build(*ops, params={"w": w}).model.graph.initializer) == 1


QUANTISED_WEIGHTS = {"w": np.ones((3, 3, 1, 1), np.int8), "b": np.zeros(3, np.float32)}


@pytest.mark.parametrize(
    ("op_type", "attrs", "params", "words"),
    [
        ("conv2d", {}, {}, "'w' holds int8, and no op has scales for it"),
        ("conv2d", quantise(w=()), {}, r"0 scales for 'w' of shape \[3, 3, 1, 1\], expected 3"),
        ("conv2d", quantise(w=SCALES[:2]), {}, "2 scales for 'w'"),
        ("conv2d", quantise(w=(1.0, 2, 3.0)), {}, "the scales for 'w' are not all numbers"),
        ("conv2d", quantise(w=("a", "b", "c")), {}, "the scales for 'w' are not all numbers"),
        ("conv2d", quantise(w=(1.0, math.nan, 1.0)), {}, "are not all numbers"),
        ("conv2d", quantise(w=(1.0, 1e300, 1.0)), {}, "are not all numbers"),
        ("conv2d", quantise(bits=16, w=SCALES), {}, "'w' holds int8, expected integers of 16 bits"),
        ("conv2d", quantise(bits=32, w=SCALES), {"w": np.ones((3, 3, 1, 1), np.int32)}, "expected integers of 32 bits"),
        ("conv2d", quantise(w=SCALES), {"w": np.ones((3, 3, 1, 1), np.float32)}, "holds float32, expected integers"),
        ("conv2d", quantise("abs_max", w=SCALES), {}, "'w' holds int8, and no op has scales"),
        ("conv2d", quantise(other=SCALES), {}, "'w' holds int8, and no op has scales"),
        ("conv2d", {**quantise(w=SCALES), "quantize_weight_bits": 8.0}, {}, "'w' holds int8, and no op has scales"),
        ("conv2d", {"enable_int8": True, **quantise(w=SCALES)}, {}, "enable_int8 is set"),
        ("conv2d_transpose", quantise(w=SCALES), {}, "'w' is quantised, but the runtime dequantises it for conv2d"),
        ("conv2d", quantise(w=SCALES), {"b": np.ones(3, np.float16)}, "'b' holds float16, and no op has scales"),
        ("conv2d", quantise(w=SCALES), {"b": np.ones(3, np.float64)}, "'b' holds float64"),
        ("conv2d", quantise(w=SCALES), {"b": np.ones(3, np.uint8)}, "'b' holds uint8"),
        ("conv2d", quantise(w=SCALES), {"b": np.ones(3, np.bool_)}, "'b' holds bool"),
        ("conv2d", quantise(w=SCALES), {"b": np.ones(3, np.int64)}, "Bias holds integers, expected floats"),
        ("conv2d", {}, {"w": np.ones((3, 3, 1, 0), np.float32)}, "'w' of shape .* holds nothing"),
    ],
)
def test_what_cannot_be_dequantised_is_refused(op_type, attrs, params, words):
    with pytest.raises(ModelError, match=rf"^test.nb: op 1 \({op_type}\): .*{words}"):
        build(make_conv(op_type, **attrs), params={**QUANTISED_WEIGHTS, **params})


def test_scales_that_two_ops_have_are_refused():
    ops = [make_conv(**quantise(w=SCALES)), make_conv(**quantise(w=SCALES))]
    with pytest.raises(ModelError, match=r"op 2 \(conv2d\): scales for 'w', which op 1 has, too"):
        build(*ops, params=QUANTISED_WEIGHTS)


def test_matmul_with_quantised_weights_is_refused():
    # opt quantises them all the same, and the runtime then takes the integers for floats.
    op = make_op("matmul_v2", {"X": "x", "Y": "w"}, {"Out": "y"}, **quantise(w=SCALES))
    with pytest.raises(ModelError, match="the runtime dequantises it for conv2d and fc only"):
        build(op, x=(-1, 3), params={"w": np.ones((3, 3), np.int8)})


def test_a_product_past_the_floats_is_infinite():
    op = make_op("conv2d", {"Input": "x", "Filter": "w"}, {"Output": "y"}, **quantise(w=(3e38, 1.0, 1.0)))
    graph = build(op, params={"w": np.full((3, 3, 1, 1), 100, np.int8)}).model.graph
    assert np.isinf(numpy_helper.to_array(graph.initializer[0])[0]).all()


# --- what is refused

TWO = {"w": np.ones((2, 2, 3, 3), np.float32), "b": np.ones(2, np.float32)}
FC = {"w": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32)}
POOL = {"pooling_type": "avg", "ksize": (2, 2), "strides": (2, 2)}
IN_4 = {"x": (-1, 2, -1, -1)}
IN_2 = {"x": (-1, 3)}
NEAREST = {"scale": (2.0, 2.0), "align_corners": False}


def make_fc(**attrs):
    return make_op("fc", {"Input": "x", "W": "w", "Bias": "b"}, {"Out": "y"}, **attrs)


def unary(op_type, slot="X", **attrs):
    return make_op(op_type, {slot: "x"}, {"Out": "y"}, **attrs)


def reshape(*sides):
    return unary("reshape2", shape=sides)


def cut(axes, starts, ends, **attrs):
    return unary("slice", "Input", axes=axes, starts=starts, ends=ends, **attrs)


SHAPE_OF_X = make_op("shape", {"Input": "x"}, {"Out": "sides"})


@pytest.mark.parametrize(
    ("ops", "x", "params", "words"),
    [
        # names and slots
        ([make_op("relu", {"X": "z"}, {"Out": "y"})], IN_2, {}, "X 'z' was not computed before"),
        ([make_op("relu", {}, {"Out": "y"})], IN_2, {}, "0 tensors for X, expected 1"),
        ([make_op("relu", {"X": ("x", "x")}, {"Out": "y"})], IN_2, {}, "2 tensors for X, expected 1"),
        ([make_op("relu", {"X": "x"}, {})], IN_2, {}, "0 tensors for Out, expected 1"),
        ([make_op("relu", {"X": "x"}, {"Out": ("y", "z")})], IN_2, {}, "2 tensors for Out"),
        ([make_op("relu", {"X": "x"}, {"Out": "b"})], IN_2, FC, "Out 'b' is a parameter"),
        ([SHAPE_OF_X, make_op("relu", {"X": "sides"}, {"Out": "y"})], IN_2, {}, "X holds integers, expected floats"),
        ([make_op("relu", {"X": "q"}, {"Out": "y"})], IN_2, {"q": np.ones(2, np.int8)}, "'q' holds int8"),
        # convolutions
        ([make_conv()], IN_2, TWO, "Input 'x' has 2 sides, expected 4"),
        ([unary("conv2d", "Input")], IN_4, TWO, r"Filter is \[\], expected one parameter"),
        ([make_op("conv2d", {"Input": "x", "Filter": "x"}, {"Output": "y"})], IN_4, {}, r"Filter is \['x'\]"),
        ([make_op("conv2d", {"Input": "x", "Filter": "w", "Bias": "x"}, {"Output": "y"})], IN_4, TWO, "Bias is"),
        (
            [make_op("conv2d", {"Input": "x", "Filter": "w", "ResidualData": "x"}, {"Output": "y"})],
            IN_4,
            TWO,
            "ResidualData is computed at run time",
        ),
        ([make_conv()], IN_4, {**TWO, "w": np.ones((2, 2, 3), np.float32)}, r"a filter of shape \[2, 2, 3\]"),
        ([make_conv()], IN_4, {**TWO, "w": np.ones((2, 2, 3, 3), np.int64)}, "Filter holds integers"),
        ([make_conv()], IN_4, {**TWO, "b": np.ones(3, np.float32)}, r"Bias has the shape \[3\], expected 2 numbers"),
        ([make_conv("conv2d_transpose", groups=2)], IN_4, TWO, r"Bias has the shape \[2\], expected 4 numbers"),
        ([make_conv(groups=0)], IN_4, TWO, "in 0 groups"),
        ([make_conv(groups=-1)], IN_4, TWO, "in -1 groups"),
        ([make_conv(groups=3)], IN_4, TWO, "in 3 groups"),
        ([make_conv(groups=1.0)], IN_4, TWO, "groups is 1.0, expected an integer"),
        ([make_conv(groups=True)], IN_4, TWO, "groups is True, expected an integer"),
        ([make_conv(groups=2**40)], IN_4, TWO, "groups is 1099511627776"),
        ([make_conv(strides=(1,))], IN_4, TWO, "strides has 1 numbers, expected 2"),
        ([make_conv(strides=(0, 1))], IN_4, TWO, r"strides \[0, 1\], .* do not fit"),
        ([make_conv(dilations=(1, -1))], IN_4, TWO, r"dilations \[1, -1\]"),
        ([make_conv(paddings=(1, 1, 1))], IN_4, TWO, r"paddings \[1, 1, 1\]"),
        ([make_conv(paddings=(0, -1))], IN_4, TWO, r"paddings \[0, 0, -1, -1\]"),
        ([make_conv(paddings=("a", 1))], IN_4, TWO, r"paddings is \('a', 1\), expected integers"),
        ([make_conv(paddings=(False, True))], IN_4, TWO, r"paddings is \(False, True\), expected integers"),
        ([make_conv(paddings=(1,) * 17)], IN_4, TWO, "paddings has 17 numbers, expected at most 16"),
        ([make_conv(with_act=True)], IN_4, TWO, "with_act is set without act_type"),
        ([make_conv(with_act=True, act_type="tanh")], IN_4, TWO, "the fused activation is 'tanh', expected one of"),
        ([make_conv(with_act=True, act_type=(1, 2))], IN_4, TWO, r"the fused activation is \(1, 2\)"),
        ([make_conv(with_act=True, act_type="relu6", fuse_brelu_threshold=math.inf)], IN_4, TWO, "threshold is inf"),
        (
            [make_conv(with_act=True, act_type="hard_swish", hard_swish_scale=0.0)],
            IN_4,
            TWO,
            "scale is 0, expected another number",
        ),
        ([make_conv("conv2d_transpose", padding_algorithm="SAME")], IN_4, TWO, "padding_algorithm is SAME"),
        ([make_conv("conv2d_transpose", output_size=(9, 9))], IN_4, TWO, "output_size is given"),
        ([make_conv("conv2d_transpose", output_padding=(1,))], IN_4, TWO, "output_padding has 1 numbers"),
        (
            [make_conv("conv2d_transpose", output_padding=(0, 1), dilations=(1, 2))],
            IN_4,
            TWO,
            r"output_padding is \[0, 1\], expected less than the strides, which are \[1, 1\]",
        ),
        ([make_conv("conv2d_transpose", output_padding=(-1, 0))], IN_4, TWO, r"output_padding is \[-1, 0\]"),
        # pooling
        ([unary("pool2d", **{**POOL, "pooling_type": "sum"})], IN_4, {}, "pooling_type is 'sum'"),
        ([unary("pool2d", **{**POOL, "ksize": (2,)})], IN_4, {}, "ksize has 1 numbers"),
        ([unary("pool2d", **{**POOL, "ksize": (0, 2)})], IN_4, {}, r"kernel \[0, 2\]"),
        ([unary("pool2d", **POOL, adaptive=True)], IN_4, {}, r"adaptive pooling to \[2, 2\], expected 1 × 1"),
        ([unary("pool2d", **POOL, paddings=(2, 0))], IN_4, {}, r"paddings \[2, 2, 0, 0\] for a kernel of \[2, 2\]"),
        ([unary("pool2d", **POOL, ceil_mode=True, paddings=(0, 1))], IN_4, {}, "ceil_mode with windows"),
        ([unary("pool2d", **POOL, ceil_mode=True, padding_algorithm="SAME")], IN_4, {}, "ceil_mode with windows"),
        ([unary("pool2d", **{**POOL, "strides": (3, 2)}, ceil_mode=True)], IN_4, {}, "ceil_mode with windows"),
        (
            [unary("pool2d", **{**POOL, "strides": (2, 3)}, padding_algorithm="SAME")],
            IN_4,
            {},
            r"SAME with strides \[2, 3\], expected at most the kernel's \[2, 2\]",
        ),
        ([unary("pool2d", **POOL, exclusive=False, ceil_mode=True)], IN_4, {}, "exclusive is not set"),
        ([unary("pool2d", **POOL, exclusive=False, paddings=(0, 1, 0, 0))], IN_4, {}, "exclusive is not set"),
        ([unary("pool2d", **POOL, exclusive=False, padding_algorithm="SAME")], IN_4, {}, "exclusive is not set"),
        # two tensors
        ([make_op("elementwise_add", {"X": "x", "Y": "b"}, {"Out": "y"}, axis=2)], IN_2, FC, "axis 2 does not fit"),
        ([make_op("elementwise_add", {"X": "x", "Y": "b"}, {"Out": "y"}, axis=-2)], IN_2, FC, "axis -2 does not fit"),
        ([make_op("elementwise_add", {"X": "x", "Y": "x"}, {"Out": "y"}, fuse_scale=True)], IN_2, {}, "fuse_scale is"),
        ([make_op("matmul_v2", {"X": "x", "Y": "b"}, {"Out": "y"})], IN_2, FC, "Y has 1 sides, expected at least 2"),
        ([make_op("matmul_v2", {"X": "x", "Y": "w"}, {"Out": "y"}, alpha="1")], IN_2, FC, "alpha is '1', expected"),
        ([SHAPE_OF_X, make_op("concat", {"X": ("x", "sides")}, {"Out": "y"})], IN_2, {}, r"tensors of \[2, 1\] sides"),
        ([make_op("concat", {"X": ()}, {"Out": "y"})], IN_2, {}, r"tensors of \[\] sides"),
        ([make_op("concat", {"X": ("x", "x"), "AxisTensor": "x"}, {"Out": "y"})], IN_2, {}, "AxisTensor is computed"),
        ([make_op("concat", {"X": ("x", "x")}, {"Out": "y"}, axis=2)], IN_2, {}, "axis is 2, expected -2 to 1"),
        # one tensor
        ([unary("swish", beta=math.nan)], IN_2, {}, "beta is nan, expected a number"),
        ([unary("swish", beta=1e39)], IN_2, {}, r"beta is 1e\+39, expected a number"),
        ([unary("swish", beta=True)], IN_2, {}, "beta is True, expected a number"),
        ([unary("hard_swish", scale=0.0)], IN_2, {}, "scale is 0"),
        ([unary("softmax", axis=2)], IN_2, {}, "axis is 2, expected -2 to 1"),
        ([unary("softmax", eleminate_success=True)], IN_2, {}, "eleminate_success is set"),
        ([unary("nearest_interp_v2", **NEAREST)], IN_2, {}, "X 'x' has 2 sides, expected 4"),
        ([unary("nearest_interp_v2", **{**NEAREST, "align_corners": True})], IN_4, {}, "align_corners is set"),
        (
            [unary("nearest_interp_v2", **{**NEAREST, "scale": ()})],
            IN_4,
            {},
            r"scale is \(\), expected 2 whole numbers",
        ),
        ([unary("nearest_interp_v2", **{**NEAREST, "scale": (2.0,)})], IN_4, {}, "expected 2 whole numbers above 0"),
        ([unary("nearest_interp_v2", **{**NEAREST, "scale": 2.0})], IN_4, {}, "scale is 2.0, expected 2 whole numbers"),
        (
            [unary("nearest_interp_v2", **{**NEAREST, "scale": (2.0, 0.0)})],
            IN_4,
            {},
            "expected 2 whole numbers above 0",
        ),
        (
            [unary("nearest_interp_v2", **{**NEAREST, "scale": (2.0, 1.5)})],
            IN_4,
            {},
            "expected 2 whole numbers above 0",
        ),
        (
            [unary("nearest_interp_v2", **{**NEAREST, "scale": (2.0, math.nan)})],
            IN_4,
            {},
            "expected 2 whole numbers above 0",
        ),
        (
            [make_op("nearest_interp_v2", {"X": "x", "OutSize": "x"}, {"Out": "y"}, **NEAREST)],
            IN_4,
            {},
            "OutSize is computed at run time",
        ),
        (
            [make_op("layer_norm", {"X": "x", "Scale": "b"}, {"Y": "y"}, begin_norm_axis=0)],
            IN_2,
            FC,
            "over the axes from 0 of 2, expected over the last one, with a scale",
        ),
        ([make_op("layer_norm", {"X": "x"}, {"Y": "y"}, begin_norm_axis=1)], IN_2, {}, "with a scale"),
        (
            [make_op("layer_norm", {"X": "x", "Scale": "w"}, {"Y": "y"}, begin_norm_axis=1)],
            IN_2,
            FC,
            "Scale 'w' has 2 sides, expected 1",
        ),
        ([unary("scale", scale=1.0, activation_type="relu")], IN_2, {}, "the fused activation 'relu' is not known"),
        ([make_op("scale", {"X": "x", "ScaleTensor": "x"}, {"Out": "y"})], IN_2, {}, "ScaleTensor is computed"),
        ([SHAPE_OF_X, make_op("scale", {"X": "sides"}, {"Out": "y"}, scale=0.5)], IN_2, {}, "integers with a scale of"),
        ([SHAPE_OF_X, make_op("scale", {"X": "sides"}, {"Out": "y"}, bias=1e30)], IN_2, {}, "integers with a scale"),
        # fc
        ([make_fc()], IN_2, {**FC, "w": np.ones(3, np.float32)}, r"weights of shape \[3\], expected 2 sides"),
        ([make_fc(padding_weights=True)], IN_2, FC, "without padding"),
        ([make_fc(in_num_col_dims=0)], IN_2, FC, "an input of 2 sides, 0 of them for rows"),
        ([make_fc(in_num_col_dims=2)], IN_2, FC, "in_num_col_dims is 2, expected -2 to 1"),
        ([make_fc(op_type="matmul")], {"x": (3,)}, FC, "an input of 1 sides, 0 of them"),
        ([make_fc(activation_type="hard_swish")], IN_2, FC, "the fused activation is 'hard_swish', expected one of"),
        (
            [make_op("fc", {"Input": "x", "W": "w"}, {"Out": "y"}, activation_type="relu")],
            IN_2,
            FC,
            "the fused activation 'relu' without Bias",
        ),
        ([make_fc()], IN_2, {**FC, "b": np.ones(3, np.float32)}, r"Bias has the shape \[3\], expected 2 numbers"),
        # shapes
        ([unary("transpose2", axis=(0,))], IN_2, {}, "axis has 1 numbers, expected 2"),
        ([unary("transpose2", axis=(0, 0))], IN_2, {}, r"axis is \[0, 0\], expected each of 0 to 1 once"),
        (
            [make_op("transpose2", {"X": "n"}, {"Out": "y"}, axis=())],
            IN_2,
            {"n": np.array(1.0, np.float32)},
            r"axis is \[\]",
        ),
        ([reshape()], IN_2, {}, r"shape is \[\], which a tensor of 2 sides cannot get"),
        ([reshape(-1, -1)], IN_2, {}, r"shape is \[-1, -1\]"),
        ([reshape(-2, 3)], IN_2, {}, r"shape is \[-2, 3\]"),
        ([reshape(1, 1, 0)], IN_2, {}, r"shape is \[1, 1, 0\]"),
        ([reshape(2**20, 2**20, -1)], IN_2, {}, r"shape is \[1048576, 1048576, -1\]"),
        ([reshape(*[1] * 17)], IN_2, {}, "shape has 17 numbers, expected at most 16"),
        ([make_op("reshape2", {"X": "x", "Shape": "x"}, {"Out": "y"})], IN_2, {}, "Shape is computed at run time"),
        ([make_op("reshape2", {"X": "x", "ShapeTensor": "x"}, {"Out": "y"})], IN_2, {}, "ShapeTensor 'x' has 2 sides"),
        ([make_op("reshape2", {"X": "x", "ShapeTensor": "b"}, {"Out": "y"})], IN_2, FC, "ShapeTensor 'b' holds floats"),
        (
            [SHAPE_OF_X, make_op("reshape2", {"X": "x", "ShapeTensor": ["sides"] * 17}, {"Out": "y"})],
            IN_2,
            {},
            "Out would have 17 sides, expected at most 16",
        ),
        ([unary("flatten_contiguous_range", start_axis=1, stop_axis=0)], IN_2, {}, "start_axis is 1, expected at most"),
        ([unary("flatten_contiguous_range", start_axis=2)], IN_2, {}, "start_axis is 2, expected -2 to 1"),
        ([unary("squeeze2")], IN_2, {}, r"axes is \[\] for 2 sides, expected one at least, and not all"),
        ([unary("squeeze2", axes=(0, 1))], IN_2, {}, r"axes is \[0, 1\] for 2 sides"),
        ([unary("squeeze2", axes=(2,))], IN_2, {}, "axes is 2, expected -2 to 1"),
        ([cut((), (), ())], IN_2, {}, "expected as many of each"),
        ([cut((0,), (0, 1), (1,))], IN_2, {}, "expected as many of each"),
        ([cut((0, 0), (0, 0), (1, 1))], IN_2, {}, "leave nothing, or name an axis twice"),
        ([cut((0,), (1,), (1,))], IN_2, {}, "leave nothing"),
        ([cut((0,), (-1,), (-2,))], IN_2, {}, "leave nothing"),
        ([cut((0,), (-1,), (0,), decrease_axis=(0,))], IN_2, {}, "leave nothing"),
        ([cut((3,), (0,), (1,))], IN_2, {}, "axes is 3, expected -2 to 1"),
        ([cut((0,), (0,), (1,), decrease_axis=(5,))], IN_2, {}, "decrease_axis is 5"),
        (
            [make_op("slice", {"Input": "x", "StartsTensorList": ("x", "x")}, {"Out": "y"})],
            IN_2,
            {},
            "StartsTensorList is computed at run time",
        ),
        ([make_op("fill_constant", {"ShapeTensor": "x"}, {"Out": "y"})], IN_2, {}, "ShapeTensor is computed"),
        ([fill("y", 1, dtype=21)], IN_2, {}, "dtype 21 and shape"),
        ([fill("y", 1, shape=())], IN_2, {}, r"shape \[\]"),
        ([fill("y", 1, shape=(2, 0))], IN_2, {}, r"shape \[2, 0\], expected numbers, and sides above 0"),
        ([fill("y", 1, shape=(2**16, 2**16))], IN_2, {}, "makes 4294967296 filled numbers, expected at most 65536"),
        ([fill("y", 1, shape=(2**62,))], IN_2, {}, "sides above 0"),
        ([fill("y", 0.5)], IN_2, {}, "value is 0.5, expected an integer of 32 bits"),
        ([fill("y", 1e30, dtype=3)], IN_2, {}, r"value is 1e\+30, expected an integer"),
        ([fill("y", math.nan, dtype=5)], IN_2, {}, "value is nan, expected a number"),
        ([fill("y", 1, dtype="5")], IN_2, {}, "dtype is '5', expected an integer"),
    ],
)
def test_what_does_not_fit_is_refused(ops, x, params, words):
    with pytest.raises(ModelError, match=words) as caught:
        build(*ops, **x, params=params)
    message = caught.value.message
    # The op at fault is named, with its place in the program; feed is the first.
    assert message.startswith(f"test.nb: op {len(ops)} ({ops[-1].type}): ")
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        (None, "the input 'x' is no tensor of float32"),
        (NbVar("x", "feed", False, None, None), "the input 'x' is no tensor of float32"),
        (NbVar("x", "tensor", False, "int64", (1, 2)), "the input 'x' is no tensor of float32"),
        (NbVar("x", "tensor", False, "float32", ()), r"the input 'x' has the shape \[\]"),
        (NbVar("x", "tensor", False, "float32", (1, 0)), r"the input 'x' has the shape \[1, 0\]"),
        (NbVar("x", "tensor", False, "float32", (-2, 3)), r"the input 'x' has the shape \[-2, 3\]"),
        (NbVar("x", "tensor", False, "float32", (2**20, 2**20)), "the input 'x' has the shape"),
        (NbVar("x", "tensor", False, "float32", (2**40,)), "the input 'x' has the shape"),
    ],
)
def test_inputs_that_are_no_pictures_are_refused(variable, words):
    model = build_model([feed("x"), fetch("x")], {})
    block = dataclasses.replace(model.blocks[0], vars={} if variable is None else {"x": variable})
    with pytest.raises(ModelError, match=rf"test.nb: op 0 \(feed\): {words}"):
        build_graph(dataclasses.replace(model, blocks=(block,)), "test.nb")


def test_an_input_under_the_name_of_a_parameter_is_refused():
    with pytest.raises(ModelError, match=r"op 0 \(feed\): Out 'x' is a parameter"):
        build(params={"x": np.ones(2, np.float32)}, output="x")


def test_an_output_of_integers_is_refused():
    with pytest.raises(ModelError, match=r"op 2 \(fetch\): X holds integers, expected floats"):
        build(SHAPE_OF_X, output="sides")


def test_an_unknown_op_is_named_whatever_comes_before_it():
    with pytest.raises(ModelError, match=r"^test.nb: op 2: 'while\\n' is not known") as caught:
        build(make_op("relu", {"X": "z"}, {"Out": "y"}), make_op("while\n", {}, {}))
    assert "report it" in caught.value.hint
    with pytest.raises(ModelError) as caught:
        build(make_op("a" * 10**6, {}, {}))
    assert len(caught.value.message) < 600


def test_programs_of_several_blocks_or_without_ends_are_refused():
    model = build_model([feed("x"), fetch("x")], {"x": (1, 2)})
    with pytest.raises(ModelError, match=r"test\.nb: 2 blocks, expected 1: branches and loops"):
        build_graph(dataclasses.replace(model, blocks=model.blocks * 2), "test.nb")
    with pytest.raises(ModelError, match="0 blocks, expected 1"):
        build_graph(dataclasses.replace(model, blocks=()))
    for ops, words in (([feed("x")], "1 inputs and 0 outputs"), ([fill("c", 1, 5), fetch("c")], "0 inputs and 1")):
        with pytest.raises(ModelError, match=words):
            build_graph(build_model(ops, {"x": (1, 2)}))


def test_shapes_that_do_not_meet_are_refused_by_the_checker():
    op = make_op("matmul_v2", {"X": "x", "Y": "w"}, {"Out": "y"})
    with pytest.raises(ModelError, match=r"test\.nb: the graph does not hold together: .*[Ii]ncompatible") as caught:
        build(op, x=(-1, 5), params=FC)
    assert len(caught.value.message) < 500
    # What the rule says of the sides is wrong, which only the checker sees.
    with pytest.raises(ModelError, match="does not hold together"):
        build(unary("squeeze2", axes=(1,)), x=(-1, 5))


# --- what a small file must not cost


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
    with pytest.raises(ModelError, match="makes 70000 filled numbers, expected at most 65536 in a model"):
        build(*ops, output="x")


def test_more_parameters_than_onnx_holds_are_refused(monkeypatch):
    monkeypatch.setattr("converters.lite.nb.to_onnx._MAX_PARAM_BYTES", 31)
    for dtype in (np.float32, np.int8):
        build(output="x", params={"p": np.ones(7, dtype)})
        with pytest.raises(ModelError, match=r"test\.nb: 32 bytes of parameters in ONNX, expected at most 31"):
            build(output="x", params={"p": np.ones(8, dtype)})
    with pytest.raises(ModelError, match="32 bytes of parameters"):
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
    # One variable for all tensors: names must not be looked for from the start each time.
    ops = [make_op("relu", {"X": "x"}, {"Out": "x"})] * 19_998
    started = time.monotonic()
    graph = build(*ops, output="x").model.graph
    assert time.monotonic() - started < 10
    assert graph.node[-2].output[0] == "x__19999"
    with pytest.raises(ModelError, match=r"test\.nb: 20001 ops, expected at most 20000"):
        build(*ops, *ops[:1], output="x")
