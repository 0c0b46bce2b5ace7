"""Thousands of damaged `.pdmodel` and `.pdiparams` through all that reads them: only our own errors may be raised.

In each case, no declared size is trusted beyond the bytes that the file has. The readers are those of the
converter, with the passes behind it, and those of the host: the sizes of a model's input, and the check that stands in
front of Paddle, which crashes on damaged files. Cases are numbered and run by `run_cases.py` in a process of their own.
"""

from __future__ import annotations

import os
import random
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from converters.graph.passes import run_passes
from converters.sources.program import load_framework_pb2, make_program, read_program, read_signature
from edge_ocr.engines.paddle import _check_files
from edge_ocr.errors import EdgeOcrError, ModelError
from edge_ocr.models.input_size import read_input_size

pytestmark = pytest.mark.fuzz

FIRST = int(os.environ.get("EDGE_OCR_FUZZ_FIRST", "0"))
CASES = int(os.environ.get("EDGE_OCR_FUZZ_CASES", "1500"))


# --- valid programs


def start(shape):
    program = make_program("seed")
    for kind in ("feed", "fetch"):
        program.declare_list(kind)
    program.set_shape("x", shape)
    program.insert_op(None, "feed", {"X": "feed"}, {"Out": "x"}, {"col": 0})
    return program


def put(program, op_type, inputs, outputs, shape=(-1, 4, -1, -1), /, **attrs):
    for name in outputs.values():
        if name not in program.params:
            program.set_shape(name, shape)
    program.insert_op(None, op_type, inputs, outputs, attrs)


def finish(program, name):
    program.insert_op(None, "fetch", {"X": name}, {"Out": "fetch"}, {"col": 0})
    return program


CONV = {"strides": [1, 1], "dilations": [1, 1], "groups": 1, "padding_algorithm": "EXPLICIT", "data_format": "NCHW"}
DECONV = {**CONV, "strides": [2, 2]}
POOL = {"ksize": [2, 2], "strides": [2, 2], "paddings": [0, 0], "pooling_type": "avg", "exclusive": True}


def make_pictures():
    program, numbers = start((-1, 3, -1, -1)), np.random.default_rng(1)
    shapes = {
        "w": (4, 3, 1, 1),
        "v": (4, 4, 3, 3),
        "d": (4, 1, 3, 3),
        "t": (4, 4, 2, 2),
        "t2": (4, 4, 2, 2),
        "f": (4,),
        "r": (4,),
    }
    shapes |= dict.fromkeys(("b", "s", "bs", "bb", "m", "var"), (4,))
    for name, shape in shapes.items():
        program.set_param(name, numbers.uniform(0.1, 1, shape).astype(np.float32))
    for name, value in {"three": 3, "sixth": 1 / 6, "one": 1}.items():
        program.set_param(name, np.array([value], np.float32))
    put(program, "conv2d", {"Input": "x", "Filter": "w"}, {"Output": "c0"}, paddings=[0, 0], **CONV)
    put(program, "elementwise_add", {"X": "c0", "Y": "b"}, {"Out": "a0"}, axis=1)
    put(program, "conv2d", {"Input": "a0", "Filter": "v"}, {"Output": "c1"}, paddings=[0, 0], **CONV)
    norm = {"Scale": "bs", "Bias": "bb", "Mean": "m", "Variance": "var"}
    outputs = {"Y": "n0", "MeanOut": "m", "VarianceOut": "var"}
    put(program, "batch_norm", {"X": "c1", **norm}, outputs, is_test=True, epsilon=1e-3, data_layout="NCHW")
    put(program, "elementwise_add", {"X": "n0", "Y": "three"}, {"Out": "h0"}, axis=-1)
    put(program, "clip", {"X": "h0"}, {"Out": "h1"}, min=0.0, max=6.0)
    put(program, "elementwise_mul", {"X": "n0", "Y": "h1"}, {"Out": "h2"}, axis=-1)
    put(program, "elementwise_mul", {"X": "h2", "Y": "sixth"}, {"Out": "h3"}, axis=-1)
    put(program, "elementwise_mul", {"X": "h3", "Y": "s"}, {"Out": "k"}, axis=1)
    put(program, "pool2d", {"X": "k"}, {"Out": "p"}, **POOL)
    depthwise = {**CONV, "groups": 4}
    put(program, "depthwise_conv2d", {"Input": "p", "Filter": "d"}, {"Output": "c2"}, paddings=[1, 1], **depthwise)
    put(program, "reshape2", {"X": "r"}, {"Out": "rr", "XShape": "rx"}, (1, 4, 1, 1), shape=[1, -1, 1, 1])
    put(program, "elementwise_add", {"X": "c2", "Y": "rr"}, {"Out": "a2"}, axis=-1)
    put(program, "conv2d_transpose", {"Input": "a2", "Filter": "t"}, {"Output": "u"}, paddings=[0, 0], **CONV)
    gate = {**POOL, "ksize": [1, 1], "adaptive": True}
    put(program, "pool2d", {"X": "u"}, {"Out": "g"}, (-1, 4, 1, 1), **gate)
    put(program, "sigmoid", {"X": "g"}, {"Out": "gs"}, (-1, 4, 1, 1))
    put(program, "elementwise_mul", {"X": "u", "Y": "gs"}, {"Out": "ug"}, axis=-1)
    put(program, "elementwise_add", {"X": "u", "Y": "ug"}, {"Out": "e"}, axis=-1)
    put(program, "elementwise_mul", {"X": "e", "Y": "one"}, {"Out": "e1"}, axis=-1)
    put(program, "conv2d_transpose", {"Input": "e1", "Filter": "t2"}, {"Output": "u2"}, paddings=[0, 0], **DECONV)
    resize = {"scale": [2.0, 2.0], "out_h": -1, "out_w": -1, "align_corners": False, "interp_method": "nearest"}
    put(program, "nearest_interp_v2", {"X": "u2"}, {"Out": "u4"}, **resize)
    put(program, "dropout", {"X": "u4"}, {"Out": "y"}, is_test=True, dropout_implementation="upscale_in_train")
    program.drop_unused()
    return finish(program, "y")


def make_windows():
    sides = (-1, 4, 12, -1)
    program, numbers = start(sides), np.random.default_rng(3)
    for name, shape in {"wide": (4, 1, 1, 5), "d": (4, 1, 3, 3), "e": (4, 1, 3, 3), "big": (4, 1, 7, 7)}.items():
        program.set_param(name, numbers.uniform(0.1, 1, shape).astype(np.float32))
    put(program, "relu", {"X": "x"}, {"Out": "r"}, sides)
    largest = {**POOL, "pooling_type": "max", "strides": [1, 1], "paddings": [0, 1, 0, 1]}
    put(program, "pool2d", {"X": "r"}, {"Out": "m"}, sides, **largest)
    depthwise = {**CONV, "groups": 4}
    put(
        program,
        "depthwise_conv2d",
        {"Input": "m", "Filter": "wide"},
        {"Output": "a"},
        sides,
        paddings=[0, 2],
        **depthwise,
    )
    put(
        program,
        "depthwise_conv2d",
        {"Input": "a", "Filter": "big"},
        {"Output": "b"},
        sides,
        paddings=[3, 3],
        **depthwise,
    )
    for source, result, name, strides in (("b", "c", "d", [1, 2]), ("c", "f", "e", [2, 1])):
        attrs = {**depthwise, "strides": strides, "paddings": [1, 1]}
        put(program, "depthwise_conv2d", {"Input": source, "Filter": name}, {"Output": result}, sides, **attrs)
    put(program, "pool2d", {"X": "f"}, {"Out": "p"}, **{**POOL, "ksize": [3, 2], "strides": [3, 2]})
    put(program, "reduce_mean", {"X": "p"}, {"Out": "y"}, (-1, 4, 1, 1), dim=[2, 3], keep_dim=True, reduce_all=False)
    return finish(program, "y")


def make_sequences():
    program, numbers = start((-1, 6, 2, -1)), np.random.default_rng(2)
    for name, shape in {"w": (6, 5), "b": (5,), "s": (6,), "z": (6,), "qk": (6, 12), "qb": (12,)}.items():
        program.set_param(name, numbers.uniform(0.1, 1, shape).astype(np.float32))
    program.set_param("eps", np.array([1e-5], np.float32))
    program.set_param("ints", np.array([3], np.int32))
    rows, single = (-1, -1, 6), (-1, -1, 1)
    cut = {"axes": [2], "starts": [0], "ends": [1], "infer_flags": [1]}
    put(program, "slice", {"Input": "x"}, {"Out": "s0"}, (-1, 6, 1, -1), **cut)
    put(program, "squeeze2", {"X": "s0"}, {"Out": "s1", "XShape": "s1x"}, (-1, 6, -1), axes=[2])
    put(program, "transpose2", {"X": "s1"}, {"Out": "t0"}, rows, axis=[0, 2, 1])
    means = {"dim": [-1], "keep_dim": True, "reduce_all": False}
    put(program, "reduce_mean", {"X": "t0"}, {"Out": "m"}, single, **means)
    put(program, "elementwise_sub", {"X": "t0", "Y": "m"}, {"Out": "d"}, rows, axis=-1)
    put(program, "pow", {"X": "d"}, {"Out": "q"}, rows, factor=2.0)
    put(program, "reduce_mean", {"X": "q"}, {"Out": "v"}, single, **means)
    put(program, "elementwise_add", {"X": "v", "Y": "eps"}, {"Out": "ve"}, single, axis=-1)
    put(program, "sqrt", {"X": "ve"}, {"Out": "sd"}, single)
    put(program, "elementwise_div", {"X": "d", "Y": "sd"}, {"Out": "n"}, rows, axis=-1)
    put(program, "elementwise_mul", {"X": "n", "Y": "s"}, {"Out": "ns"}, rows, axis=-1)
    put(program, "elementwise_add", {"X": "ns", "Y": "z"}, {"Out": "ln"}, rows, axis=-1)
    put(program, "swish", {"X": "ln"}, {"Out": "sw"}, rows)
    put(program, "shape", {"Input": "sw"}, {"Out": "sides"}, (3,))
    part = {"axes": [0], "starts": [0], "ends": [1], "decrease_axis": [0]}
    put(program, "slice", {"Input": "sides"}, {"Out": "n0"}, (1,), **part)
    put(program, "fill_constant", {}, {"Out": "six"}, (1,), shape=[1], dtype=2, value=6.0, str_value="6")
    put(program, "fill_constant", {}, {"Out": "rest"}, (1,), shape=[1], dtype=2, value=-1.0, str_value="-1")
    put(program, "reshape2", {"X": "sw", "ShapeTensor": ["n0", "rest", "six"]}, {"Out": "re"}, rows, shape=[-1, -1, -1])
    put(program, "matmul_v2", {"X": "re", "Y": "qk"}, {"Out": "j0"}, (-1, -1, 12), trans_x=False, trans_y=False)
    put(program, "elementwise_add", {"X": "j0", "Y": "qb"}, {"Out": "j1"}, (-1, -1, 12), axis=2)
    heads = {"shape": [0, -1, 2, 2, 3]}
    put(program, "reshape2", {"X": "j1"}, {"Out": "j2", "XShape": "j2x"}, (-1, -1, 2, 2, 3), **heads)
    put(program, "transpose2", {"X": "j2"}, {"Out": "j3", "XShape": "j3x"}, (2, -1, 2, -1, 3), axis=[2, 0, 3, 1, 4])
    for name, place in (("qs", 0), ("ks", 1)):
        ends = {"starts": [place], "ends": [place + 1]}
        put(program, "slice", {"Input": "j3"}, {"Out": name}, (-1, 2, -1, 3), **{**part, **ends})
    put(program, "elementwise_mul", {"X": "qs", "Y": "ks"}, {"Out": "qm"}, (-1, 2, -1, 3), axis=-1)
    put(program, "transpose2", {"X": "qm"}, {"Out": "at0", "XShape": "at0x"}, (-1, -1, 2, 3), axis=[0, 2, 1, 3])
    put(program, "reshape2", {"X": "at0"}, {"Out": "at", "XShape": "atx"}, rows, shape=[0, -1, 6])
    put(program, "matmul_v2", {"X": "at", "Y": "w"}, {"Out": "l0"}, (-1, -1, 5), trans_x=False, trans_y=False)
    put(program, "elementwise_add", {"X": "l0", "Y": "b"}, {"Out": "l1"}, (-1, -1, 5), axis=-1)
    put(program, "softmax", {"X": "l1"}, {"Out": "y"}, (-1, -1, 5), axis=-1)
    put(program, "cast", {"X": "ints"}, {"Out": "unused"}, (1,), in_dtype=2, out_dtype=5)
    return finish(program, "y")


MAKERS = (make_pictures, make_windows, make_sequences)


def make_seeds():
    seeds = {}
    for maker in MAKERS:
        seeds[f"{maker.__name__}.pdmodel"], seeds[f"{maker.__name__}.pdiparams"] = maker().to_bytes()
    return seeds


# --- changes to their content

INTS = (0, 1, -1, 2, 3, 4, 5, 7, 65536, 2**31 - 1, -(2**31))
LONGS = (*INTS, 2**31, 2**40, 2**62, -(2**63))
FLOATS = (0.0, -0.0, 1.0, -1.0, 6.0, 1e-45, 0.01, 3.4e38, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", "SAME", "VALID", "NHWC", "avg", "max", "upscale_in_train", "inf", "nan", "1e400", "x" * 300, "\n\0é")
FIELDS = {0: "i", 1: "f", 2: "s", 3: "ints", 4: "floats", 5: "strings", 6: "b", 7: "bools", 9: "l", 11: "longs"}


def draw_value(rng, kind):
    values = {"i": INTS, "f": FLOATS, "s": TEXTS, "b": (True, False), "l": LONGS}
    if FIELDS[kind] in values:
        return rng.choice(values[FIELDS[kind]])
    lists = {"ints": INTS, "floats": FLOATS, "strings": TEXTS, "bools": (True, False), "longs": LONGS}
    return rng.choices(lists[FIELDS[kind]], k=rng.choice((0, 1, 1, 2, 3, 4, 9)))


def change_attr(rng, op):
    if not op.attrs:
        return
    attr = rng.choice(op.attrs)
    how = rng.random()
    if how < 0.15:
        op.attrs.remove(attr)
        return
    kind = rng.choice(list(FIELDS)) if how < 0.4 or attr.type not in FIELDS else attr.type
    name = rng.choice(("axis", "groups", "epsilon", "shape", "dim", attr.name)) if how < 0.2 else attr.name
    attr.Clear()
    attr.name, attr.type = name, kind
    value = draw_value(rng, kind)
    if isinstance(value, list):
        getattr(attr, FIELDS[kind]).extend(value)
    else:
        setattr(attr, FIELDS[kind], value)
    if how > 0.97:
        attr.type = rng.choice((8, 10, 12, 13, 14, 15))


def list_names(block):
    return [name for op in block.ops for slot in (*op.inputs, *op.outputs) for name in slot.arguments]


def change_op(rng, block):
    ops = block.ops
    op, other = rng.choice(ops), rng.choice(ops)
    names = [*list_names(block), "nowhere", ""]
    slots = rng.choice((op.inputs, op.inputs, op.outputs))
    how = rng.random()
    if how < 0.3 and slots:
        slot = rng.choice(slots)
        if slot.arguments:
            slot.arguments[rng.randrange(len(slot.arguments))] = rng.choice(names)
    elif how < 0.4 and slots:
        rng.choice(slots).arguments[:] = rng.choices(names, k=rng.choice((0, 2, 3)))
    elif how < 0.5:
        slots.add(
            parameter=rng.choice(("X", "Y", "Bias", "Max", "AxesTensor", "Shape", "Out")), arguments=[rng.choice(names)]
        )
    elif how < 0.6 and slots:
        slots.remove(rng.choice(slots))
    elif how < 0.75:
        op.type = rng.choice((other.type, other.type, "scale", "assign", "fetch", "feed", ""))
    elif how < 0.85:
        ops.remove(op)
    elif how < 0.95:
        ops.insert(rng.randrange(len(ops)), other)
    else:
        ops.add(type=rng.choice(("relu", "fetch", "feed")))


def change_var(rng, block):
    var = rng.choice(block.vars)
    tensor = var.type.dense_tensor.tensor
    how = rng.random()
    if how < 0.4 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(LONGS)
    elif how < 0.5:
        tensor.dims.append(rng.choice(LONGS))
    elif how < 0.6:
        del tensor.dims[:]
    elif how < 0.7:
        tensor.data_type = rng.choice((0, 1, 2, 3, 4, 5, 6, 20, 21, 22, 7))
    elif how < 0.8:
        var.persistable = not var.persistable
    elif how < 0.9:
        var.name = rng.choice((*list_names(block), "", "feed", "\n"))
    else:
        block.vars.remove(var)


def pack(tensor, data, head=(0, 0, 0)):
    desc = tensor.SerializePartialToString()
    return struct.pack("<IQIi", *head, len(desc)) + desc + data


def change_pair(rng, desc, params):
    """Change the shape of a parameter in both files, so that it gets past the reader and into the passes."""
    pb = load_framework_pb2()
    block = desc.blocks[0]
    stored = sorted(var.name for var in block.vars if var.persistable and var.type.type == 7)
    records, position = {}, 0
    for name in stored:
        (size,) = struct.unpack_from("<i", params, position + 16)
        tensor = pb.VarType.TensorDesc.FromString(params[position + 20 : position + 20 + size])
        start = position + 20 + size
        width = {1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8}.get(tensor.data_type, 1)
        end = start + int(np.prod(list(tensor.dims), dtype=object)) * width
        records[name], position = (tensor, params[start:end]), end
    name = rng.choice(stored)
    tensor, data = records[name]
    numbers = np.frombuffer(data, np.float32).copy()
    how = rng.random()
    if how < 0.4:
        dims = rng.choice(
            ((len(numbers),), (1, len(numbers)), (len(numbers), 1, 1, 1), (0,), (1,), (2, 3), (1,) * 9, (3, 3, 3, 3))
        )
        numbers = np.resize(numbers, dims)
        tensor.dims[:] = dims
    elif how < 0.8:
        numbers[...] = rng.choice(FLOATS)
    else:
        tensor.dims[:] = rng.choice(((0, 2**62, 2**62), (1,) * 70, (2**40,), (-1, -1), ()))
    var = next(var for var in block.vars if var.name == name)
    var.type.dense_tensor.tensor.CopyFrom(tensor)
    records[name] = tensor, numbers.tobytes()
    return b"".join(pack(*records[name]) for name in stored)


def change_record(rng, params):
    """Change the head of a record, or its description of the tensor."""
    params = bytearray(params)
    # The first one begins at 0; others are found by what follows a head: a data type.
    starts = [0, *(place for place in range(20, len(params) - 24) if params[place - 20 : place - 4] == bytes(16))]
    place = rng.choice(starts[: 1 + len(starts) // 2])
    offset, code = rng.choice(((0, "<I"), (4, "<Q"), (12, "<I"), (16, "<i"), (16, "<i"), (16, "<i")))
    if place + offset + 8 <= len(params):
        value = rng.choice((0, 1, 2**31 - 1)) if code != "<i" else rng.choice((0, 1, -1, -20, -25, 2**31 - 1, -(2**31)))
        struct.pack_into(code, params, place + offset, value)
    if rng.random() < 0.4:
        # Dimensions are numbers in base 128 after the byte 0x10.
        at = params.find(b"\x10", rng.randrange(len(params)))
        if at > 0:
            params[at + 1 : at + 2] = rng.choice((b"\x00", b"\x7f", b"\xff" * 9 + b"\x01", b"\x80" * 8 + b"\x40"))
    return bytes(params)


def change_said(rng, program, params):
    desc = load_framework_pb2().ProgramDesc.FromString(program)
    block = desc.blocks[0]
    if rng.random() < 0.25:
        params = change_pair(rng, desc, params)
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        how = rng.random()
        if how < 0.45:
            change_attr(rng, rng.choice(block.ops))
        elif how < 0.85:
            change_op(rng, block)
        else:
            change_var(rng, block)
    if rng.random() < 0.05:
        inner = desc.blocks.add(idx=1, parent_idx=0)
        inner.ops.add().CopyFrom(rng.choice(block.ops))
    return desc.SerializePartialToString(), params


def change_bytes(rng, data, other):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not data:
            break
        place, length = rng.randrange(len(data)), rng.choice((1, 2, 4, 16, 100))
        how = rng.randrange(7)
        if how == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif how == 2:
            data[place : place + 1] = rng.choice(
                (b"\xff" * 9 + b"\x01", b"\x80" * 9 + b"\x01", b"\xff\xff\xff\xff\x07")
            )
        elif how == 3:
            start = rng.randrange(len(other))
            data[place : place + length] = other[start : start + length]
        elif how == 4:
            del data[place : place + length]
        elif how == 5:
            data[place:place] = data[place : place + length]
        else:
            del data[place:]
    return bytes(data)


def make_case(number, seeds):
    """Return a damaged pair of files; the same one for the same number and seeds."""
    rng = random.Random(number)
    name = rng.choice(sorted({name.split(".")[0] for name in seeds}))
    program, params = seeds[f"{name}.pdmodel"], seeds[f"{name}.pdiparams"]
    how = rng.random()
    if how < 0.6:
        program, params = change_said(rng, program, params)
    elif how < 0.75:
        program = change_bytes(rng, program, params)
    elif how < 0.85:
        params = change_bytes(rng, params, program)
    else:
        params = change_record(rng, params)
    return {"case.pdmodel": program, "case.pdiparams": params}


# --- what runs


def read_all(folder):
    """Pass the files to each reader; return how far the converter got."""
    files = folder / "case.pdmodel", folder / "case.pdiparams"
    height, width = read_input_size(files[0], "pdmodel")
    assert all(side is None or side > 0 for side in (height, width))
    ends = []
    for read in (check_for_paddle, read_ports, read_and_pass):
        try:
            ends.append(read(*files))
        except EdgeOcrError as error:
            check_message(error)
            ends.append("refused")
    # Paddle may be given whatever the converter reads, and vice versa.
    return ends[-1]


def check_for_paddle(program, params):
    _check_files(SimpleNamespace(program=program, params=params))
    return "taken"


def read_ports(program, params):
    return f"{len(read_signature(program).inputs)} inputs"


def read_and_pass(program, params):
    read = read_program(program, params)
    size = sum(value.nbytes for value in read.params.values())
    assert size <= params.stat().st_size, "more than the file has"
    run_passes(read)
    try:
        run_passes(read, kept_classes=[0, 2])
    except EdgeOcrError as error:
        check_message(error)
    read.to_bytes()
    return "read"


def warm_up(folder, seeds):
    folder.mkdir()
    for name in {name.split(".")[0] for name in seeds}:
        for suffix in ("pdmodel", "pdiparams"):
            (folder / f"case.{suffix}").write_bytes(seeds[f"{name}.{suffix}"])
        assert read_all(folder) == "read"


def check_message(error):
    is_bare = not isinstance(error, ModelError)
    if "\n" in error.message or len(error.message) > 3000 or not (is_bare or "case.pd" in error.message):
        raise AssertionError(f"not one line that names the file: {error.message[:2000]!r}")


TARGETS = {"read_all": read_all}


def write(folder, seeds, maker):
    for suffix in ("pdmodel", "pdiparams"):
        (folder / f"case.{suffix}").write_bytes(seeds[f"{maker.__name__}.{suffix}"])


@pytest.mark.parametrize("maker", MAKERS)
def test_the_original_files_are_valid(maker, tmp_path):
    write(tmp_path, make_seeds(), maker)
    files = tmp_path / "case.pdmodel", tmp_path / "case.pdiparams"
    assert check_for_paddle(*files) == "taken"
    assert read_and_pass(*files) == "read"
    changed = {report.name for report in run_passes(read_program(*files)) if report.changed}
    pictures = {"fold_activations", "fold_batch_norm", "fold_affine", "fold_gates", "drop_identities", "settle_shapes"}
    pictures |= {"lower_deconvs", "lower_upsampling"}
    sequences = {"fold_layer_norm", "fold_slices", "restore_attributes", "settle_shapes", "split_projections"}
    windows = {"lower_pools", "fit_kernels"}
    expected = {make_pictures: pictures, make_windows: windows, make_sequences: sequences}
    assert expected[maker] <= changed, "each pass has something to do"


def test_a_case_is_the_same_each_time():
    seeds = make_seeds()
    cases = [make_case(number, seeds) for number in range(100)]
    assert cases == [make_case(number, seeds) for number in range(100)]
    assert len({tuple(case.values()) for case in cases}) > 80


def test_a_record_that_leads_back_to_itself_ends_the_check_for_paddle(tmp_path):
    """It looped forever: 20 bytes of a head and 13 of this, minus 33."""
    write(tmp_path, make_seeds(), make_pictures)
    tensor = load_framework_pb2().VarType.TensorDesc(data_type=20, dims=[-33])
    assert tensor.ByteSize() == 13
    (tmp_path / "case.pdiparams").write_bytes(pack(tensor, b""))
    with pytest.raises(ModelError, match=r"is damaged at byte 0: a negative size: 13, \[-33\]"):
        check_for_paddle(tmp_path / "case.pdmodel", tmp_path / "case.pdiparams")


def test_damaged_files_are_read_or_refused(run_cases):
    ends = run_cases(make_seeds(), FIRST, CASES, "read_all")
    assert ends["slowest_seconds"] < 5, ends
    if CASES < 1000:
        return
    # A share of each; otherwise all cases might fail at the same check.
    shares = {end: ends[end] / CASES for end in ("refused", "read")}
    assert all(share > 0.1 for share in shares.values()), shares
