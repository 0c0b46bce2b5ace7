"""Thousands of damaged ONNX models through the importer and the passes: only our own errors may be raised.

In each case, no declared size is trusted beyond the bytes that the file has, so that memory and time stay
within those of the whole model. Half of the cases damage bytes, the other half change what a model says and write it
whole. Cases are numbered and run by `run_cases.py` in a process of their own, so that a crash of onnx is seen, too.
"""

from __future__ import annotations

import os
import random
import re
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from converters.graph.passes import run_passes
from converters.sources.onnx import import_onnx

pytestmark = pytest.mark.fuzz

FIRST = int(os.environ.get("EDGE_OCR_FUZZ_FIRST", "0"))
CASES = int(os.environ.get("EDGE_OCR_FUZZ_CASES", "2500"))


# --- valid models


def make_model(nodes, constants, shape=("N", 3, "H", "W"), opset=13, rank=4):
    graph = helper.make_graph(
        [
            helper.make_node(op, list(inputs), list(outputs), name=f"n{i}", **attrs)
            for i, (op, inputs, outputs, attrs) in enumerate(nodes)
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def make_pictures():
    numbers = np.random.default_rng(1)

    def weight(*shape):
        return numbers.uniform(-1, 1, shape).astype(np.float32)

    nodes = [
        ("Conv", ("x", "w", "b"), ("a",), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ("BatchNormalization", ("a", "s", "b", "b", "s"), ("n",), {}),
        ("Relu", ("n",), ("r",), {}),
        ("Conv", ("r", "d"), ("e",), {"group": 4, "auto_pad": "SAME_UPPER"}),
        ("HardSigmoid", ("e",), ("h",), {"alpha": 0.2}),
        ("Mul", ("e", "h"), ("m",), {}),
        ("MaxPool", ("m",), ("p",), {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Resize", ("p", "", "z"), ("u",), {"mode": "nearest"}),
        ("Concat", ("u", "m"), ("c",), {"axis": 1}),
        ("ConvTranspose", ("c", "t", "b"), ("o",), {"strides": [2, 2]}),
        ("GlobalAveragePool", ("o",), ("g",), {}),
        ("Clip", ("g", "low", "high"), ("k",), {}),
        ("Add", ("o", "k"), ("f",), {}),
        ("Sigmoid", ("f",), ("y",), {}),
    ]
    constants = {"w": weight(4, 3, 3, 3), "b": weight(4), "s": weight(4) + 2, "d": weight(4, 1, 3, 3)}
    constants |= {"t": weight(8, 4, 2, 2), "z": np.array([1, 1, 2, 2], np.float32)}
    return make_model(nodes, constants | {"low": np.float32(0), "high": np.float32(6)})


def make_sequences():
    numbers = np.random.default_rng(2)
    values = {
        name: numbers.uniform(-1, 1, shape).astype(np.float32) for name, shape in {"w": (6, 6), "v": (6,)}.items()
    }
    values |= {name: np.array(value, np.int64) for name, value in
               {"two": [2], "zero": [0], "one": [1], "rest": [-1], "six": [6], "first": 0}.items()}  # fmt: skip
    values |= {"e": np.float32(1e-5), "half": np.float32(0.5), "q": np.float32(2)}
    nodes = [
        ("Squeeze", ("x", "two"), ("s",), {}),
        ("Transpose", ("s",), ("t",), {"perm": [0, 2, 1]}),
        ("MatMul", ("t", "w"), ("m",), {}),
        ("Add", ("m", "v"), ("a",), {}),
        ("ReduceMean", ("a",), ("mean",), {"axes": [-1]}),
        ("Sub", ("a", "mean"), ("d",), {}),
        ("Pow", ("d", "q"), ("p",), {}),
        ("ReduceMean", ("p",), ("var",), {"axes": [-1]}),
        ("Add", ("var", "e"), ("ve",), {}),
        ("Sqrt", ("ve",), ("root",), {}),
        ("Div", ("d", "root"), ("n",), {}),
        ("Mul", ("n", "v"), ("nv",), {}),
        ("Add", ("nv", "v"), ("ln",), {}),
        ("Shape", ("ln",), ("shape",), {}),
        ("Gather", ("shape", "first"), ("batch",), {"axis": 0}),
        ("Unsqueeze", ("batch", "zero"), ("bs",), {}),
        ("Constant", (), ("c",), {"value": numpy_helper.from_array(np.array([2, 3], np.int64))}),
        ("Concat", ("bs", "rest", "c"), ("to",), {"axis": 0}),
        ("Reshape", ("ln", "to"), ("r",), {}),
        ("Slice", ("r", "zero", "one", "two"), ("sl",), {}),
        ("Squeeze", ("sl", "two"), ("sq",), {}),
        ("ConstantOfShape", ("six",), ("ones",), {"value": numpy_helper.from_array(np.array([1], np.float32))}),
        ("Cast", ("sq",), ("cast",), {"to": 1}),
        ("Flatten", ("cast",), ("fl",), {}),
        ("Erf", ("fl",), ("er",), {}),
        ("Mul", ("er", "half"), ("eh",), {}),
        ("Softmax", ("eh",), ("y",), {"axis": -1}),
    ]
    return make_model(nodes, values, ("N", 6, 1, "W"), rank=2)


def make_newer():
    """With ops that only newer opsets have."""
    constants = {"s": np.ones(6, np.float32), "a": np.array([2, 3], np.int64)}
    nodes = [
        ("HardSwish", ("x",), ("h",), {}),
        ("LayerNormalization", ("h", "s", "s"), ("l",), {"axis": -1}),
        ("Gelu", ("l",), ("g",), {}),
        ("ReduceMean", ("g", "a"), ("r",), {}),
        ("AveragePool", ("g",), ("p",), {"kernel_shape": [2, 2]}),
        ("Mul", ("p", "r"), ("y",), {}),
    ]
    return make_model(nodes, constants, ("N", 3, "H", 6), opset=20)


MAKERS = (make_pictures, make_sequences, make_newer)


def make_seeds():
    return {f"{maker.__name__}.onnx": maker().SerializeToString() for maker in MAKERS}


# --- changes to a model's content

INTS = (0, 1, -1, 2, 3, 4, 7, 255, 65536, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**63), 2**63 - 1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 6.0, 1e-45, 1e-5, 0.01, 3.4e38, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", "SAME_UPPER", "SAME_LOWER", "VALID", "nearest", "linear", "cubic", "x" * 300, "\n\0é", "tanh")
ATTRS = (
    *(
        "axis",
        "axes",
        "pads",
        "strides",
        "dilations",
        "group",
        "perm",
        "kernel_shape",
        "to",
        "value",
        "mode",
        "epsilon",
    ),
    *("auto_pad", "ceil_mode", "keepdims", "alpha", "start", "end", "allowzero", "output_padding", "no_such"),
)


def draw_tensor(rng, name="c"):
    dims = rng.choices(
        (0, 1, 2, 3, 4, 6, -1, 2**31, 2**40, 2**62), (1, 6, 6, 6, 6, 6, 1, 1, 1, 1), k=rng.choice((0, 1, 1, 2, 4, 9))
    )
    tensor = TensorProto(
        name=name, dims=dims, data_type=rng.choice((1, 1, 1, 7, 7, 6, 10, 11, 2, 3, 8, 9, 0, 16, 17, 22, 99))
    )
    count = np.prod(np.array(dims, float)) if dims else 1
    if 0 <= count < 1000 and rng.random() < 0.8:
        size = {1: 4, 7: 8, 6: 4, 10: 2, 11: 8, 16: 2}.get(tensor.data_type, 1)
        tensor.raw_data = rng.choice((bytes, rng.randbytes))(int(count) * size)
    elif rng.random() < 0.5:
        tensor.float_data.extend(rng.choices(FLOATS, k=rng.randrange(5)))
    else:
        tensor.raw_data = rng.randbytes(rng.randrange(40))
    if rng.random() < 0.1:
        tensor.data_location = TensorProto.EXTERNAL
        for key in ("location", "offset", "length"):
            value = rng.choice(("case.onnx", "../case.onnx", "/etc/passwd", "0", "-1", str(2**62), "x"))
            tensor.external_data.add(key=key, value=value)
    return tensor


def change_attribute(rng, graph):
    node = rng.choice(graph.node)
    known = list(node.attribute)
    if known and rng.random() < 0.3:
        node.attribute.remove(rng.choice(known))
        return
    if known and rng.random() < 0.5:
        # Of the same type.
        attr = rng.choice(known)
        if attr.ints and rng.random() < 0.8:
            attr.ints[rng.randrange(len(attr.ints))] = rng.choice(INTS)
        elif attr.type == AttributeProto.INTS:
            attr.ints.append(rng.choice(INTS))
        elif attr.type == AttributeProto.INT:
            attr.i = rng.choice(INTS)
        elif attr.type == AttributeProto.FLOAT:
            attr.f = rng.choice(FLOATS)
        elif attr.type == AttributeProto.STRING:
            attr.s = rng.choice(TEXTS).encode()
        elif attr.type == AttributeProto.TENSOR:
            attr.t.CopyFrom(draw_tensor(rng))
        return
    name = rng.choice((*ATTRS, *(attr.name for attr in known)))
    values = [
        lambda: rng.choice(INTS),
        lambda: rng.choices(INTS[:6], k=rng.choice((1, 2, 4))),
        lambda: rng.choice(FLOATS),
        lambda: rng.choice(TEXTS),
        lambda: draw_tensor(rng),
        lambda: helper.make_graph([helper.make_node("Relu", ["x"], ["i"])], "inner", [], []),
    ]
    attr = helper.make_attribute(name, rng.choice(values)())
    if rng.random() < 0.1:
        attr.type = rng.randrange(16)
    node.attribute.append(attr)


def change_nodes(rng, graph):
    nodes = graph.node
    node, other = rng.choice(nodes), rng.choice(nodes)
    names = [name for one in nodes for name in (*one.input, *one.output)] + [item.name for item in graph.initializer]
    how = rng.random()
    if how < 0.35 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice((*names, "", "nowhere", "feed"))
    elif how < 0.42:
        node.input.extend(rng.choices(names, k=rng.choice((1, 3))))
    elif how < 0.5 and node.input:
        del node.input[rng.randrange(len(node.input)) :]
    elif how < 0.6 and node.output:
        # A cycle, or the same name twice.
        node.output[rng.randrange(len(node.output))] = rng.choice((*names, "", "fetch"))
    elif how < 0.75:
        node.op_type = rng.choice(
            (other.op_type, other.op_type, "Range", "ConstantOfShape", "Identity", "Dropout", "Loop", "")
        )
    elif how < 0.82:
        nodes.remove(node)
    elif how < 0.88:
        nodes.insert(rng.randrange(len(nodes)), other)
    elif how < 0.95:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        nodes.remove(node)
        nodes.insert(rng.randrange(len(nodes) + 1), copy)
    elif how < 0.98:
        node.output.append(rng.choice(("", "extra", *names)))
    else:
        node.domain = rng.choice(("ai.onnx", "com.example", "\0"))


def change_constants(rng, graph):
    if not graph.initializer:
        return
    one = rng.choice(graph.initializer)
    how = rng.random()
    if how < 0.3:
        one.CopyFrom(draw_tensor(rng, one.name))
    elif how < 0.5 and one.dims:
        one.dims[rng.randrange(len(one.dims))] = rng.choice(INTS)
    elif how < 0.6:
        one.data_type = rng.randrange(30)
    elif how < 0.75:
        value = numpy_helper.to_array(one)
        shape = rng.choice(((1, *value.shape), (*value.shape, 1), (value.size,), value.shape[::-1]))
        one.CopyFrom(numpy_helper.from_array(value.reshape(shape), one.name))
    elif how < 0.9:
        value = numpy_helper.to_array(one)
        if value.dtype.kind == "f":
            value = np.full_like(value, rng.choice(FLOATS))
        else:
            value = np.full_like(value, rng.choice(INTS))
        one.CopyFrom(numpy_helper.from_array(value, one.name))
    elif how < 0.95:
        one.name = rng.choice(("x", "y", "a", "w", "", "feed"))
    else:
        graph.initializer.remove(one)


def change_ports(rng, model):
    graph = model.graph
    how = rng.random()
    port = rng.choice((*graph.input, *graph.output))
    tensor = port.type.tensor_type
    if how < 0.4 and tensor.shape.dim:
        dim = rng.choice(tensor.shape.dim)
        if rng.random() < 0.7:
            dim.dim_value = rng.choice(INTS)
        else:
            dim.dim_param = rng.choice(("N", "?", "", "\n"))
    elif how < 0.55:
        tensor.shape.dim.add(dim_value=rng.choice(INTS))
    elif how < 0.65:
        tensor.elem_type = rng.randrange(30)
    elif how < 0.7:
        tensor.ClearField("shape")
    elif how < 0.8:
        port.name = rng.choice(("x", "y", "a", "w", "", "feed", "fetch"))
    elif how < 0.85:
        rng.choice((graph.input, graph.output)).append(port)
    elif how < 0.95:
        model.opset_import[0].version = rng.choice((11, 12, 14, 17, 18, 20, 22, 0, -1, 2**62))
    else:
        model.ir_version = rng.choice((0, 3, 4, 10, 2**40, -1))


def change_said(rng, seeds):
    model = ModelProto.FromString(seeds[rng.choice(sorted(seeds))])
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not model.graph.node:
            break
        how = rng.random()
        try:
            if how < 0.35:
                change_attribute(rng, model.graph)
            elif how < 0.65:
                change_nodes(rng, model.graph)
            elif how < 0.85:
                change_constants(rng, model.graph)
            else:
                change_ports(rng, model)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            # numpy_helper on a constant that was damaged before.
            break
    return model.SerializeToString()


# --- changes to bytes


def change_bytes(rng, data, seeds):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not data:
            break
        place, length = rng.randrange(len(data)), rng.choice((1, 2, 4, 16, 100))
        how = rng.randrange(7)
        if how == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif how == 2:
            data[place : place + 1] = rng.choice(
                (b"\xff" * 9 + b"\x01", b"\x80" * 9 + b"\x01", b"\xff\xff\xff\xff\x07")
            )
        elif how == 3:
            source = seeds[rng.choice(sorted(seeds))]
            start = rng.randrange(len(source))
            data[place : place + length] = source[start : start + length]
        elif how == 4:
            del data[place : place + length]
        elif how == 5:
            data[place:place] = data[place : place + length]
        else:
            del data[place:]
    return bytes(data)


def make_case(number, seeds):
    """Return a damaged file; the same one for the same number and seeds."""
    rng = random.Random(number)
    how = rng.random()
    if how < 0.6:
        data = change_said(rng, seeds)
    elif how < 0.65:
        data = change_bytes(rng, change_said(rng, seeds), seeds)
    else:
        data = change_bytes(rng, seeds[rng.choice(sorted(seeds))], seeds)
    return {"case.onnx": data}


# --- what runs


def import_and_pass(folder):
    # NumPy's warnings are about numbers in the model's constants.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        program = import_onnx(folder / "case.onnx")
        run_passes(program)
    program.to_bytes()
    return "imported"


def warm_up(folder, seeds):
    folder.mkdir()
    for data in seeds.values():
        (folder / "case.onnx").write_bytes(data)
        import_and_pass(folder)


def check_message(error):
    if "\n" in error.message or "case.onnx: " not in error.message or len(error.message) > 3000:
        raise AssertionError(f"not one line that names the file: {error.message[:2000]!r}")


TARGETS = {"import_and_pass": import_and_pass}


@pytest.mark.parametrize("maker", MAKERS)
def test_the_original_models_are_valid(maker, tmp_path):
    (tmp_path / "case.onnx").write_bytes(maker().SerializeToString())
    assert import_and_pass(tmp_path) == "imported"


def test_a_case_is_the_same_each_time():
    seeds = make_seeds()
    cases = [make_case(number, seeds)["case.onnx"] for number in range(100)]
    assert cases == [make_case(number, seeds)["case.onnx"] for number in range(100)]
    assert len(set(cases)) > 80


@pytest.mark.parametrize("name", ["raise_another_error", "take_memory", "take_time", "crash"])
def test_forbidden_outcomes_are_detected(run_cases, runner, name):
    with pytest.raises(pytest.fail.Exception) as caught:
        run_cases(make_seeds(), 7, 3, name, 1)
    message = str(caught.value)
    assert re.search(runner.MISBEHAVING[name][1], message)
    assert "EDGE_OCR_FUZZ_FIRST=7 EDGE_OCR_FUZZ_CASES=1" in message
    (kept,) = re.findall(r"its files are in (\S+);", message)
    assert (Path(kept) / "case.onnx").read_bytes() == make_case(7, make_seeds())["case.onnx"]


def test_damaged_models_are_imported_or_refused(run_cases):
    ends = run_cases(make_seeds(), FIRST, CASES, "import_and_pass")
    assert ends["slowest_seconds"] < 5, ends
    if CASES < 1000:
        return
    # A share of each; otherwise all cases might fail at the same check.
    shares = {end: ends[end] / CASES for end in ("refused", "imported")}
    assert all(share > 0.05 for share in shares.values()), shares
