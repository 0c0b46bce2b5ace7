"""Thousands of damaged `.nb` files through the reader and on into a graph: only our own errors may be raised.

Half of the cases damage bytes, of files that opt made and of our own; the other half change what a file says and write
it whole, which gets past the reader and into the rules of the graph. Cases are numbered, and a case is the same one
wherever it is made. They run in a process of their own, short of memory and watched for the time that each takes, so
that a crash is seen, too. A case that fails is written to a file, and the message tells how to run it alone:

EDGE_OCR_FUZZ_FIRST=<number> EDGE_OCR_FUZZ_CASES=1 python -m pytest tests/fuzz
"""

from __future__ import annotations

import faulthandler
import functools
import json
import os
import random
import re
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import pytest
from support.nb_files import op, program, round_nb, round_weights, unary, write_nb

from converters.lite.nb.read import normalise, parse_nb
from converters.lite.nb.schema import ATTR_FIELDS, DTYPE_SIZES, DTYPES
from converters.lite.nb.write import edit_nb
from converters.lite.opt import run_opt
from converters.sources.program import read_program
from edge_ocr.errors import EdgeOcrError, ModelError
from edge_ocr.models.resolve import resolve_model

pytestmark = pytest.mark.fuzz

FIRST = int(os.environ.get("EDGE_OCR_FUZZ_FIRST", "0"))
CASES = int(os.environ.get("EDGE_OCR_FUZZ_CASES", "20000"))

# The limit for one case, which has some ten kilobytes.
MEMORY_BYTES = 256 * 2**20
SECONDS = 10


# --- valid programs with each op that the graph knows


def quantise(bits, **scales):
    method = {"quantization_type": "post_weight_channel_wise_abs_max", "quantize_weight_bits": bits}
    return {**method, **{f"{name}_quant_scale": value for name, value in scales.items()}}


CONV = {"strides": (1, 1), "paddings": (1, 1), "dilations": (1, 1), "groups": 1, "padding_algorithm": "EXPLICIT"}
DECONV = {**CONV, "strides": (2, 2), "paddings": (0, 0), "output_padding": (1, 1), "output_size": ()}
POOL = {"ksize": (2, 2), "strides": (2, 2), "paddings": (0, 0), "ceil_mode": True, "exclusive": True}
PICK = {"axes": (0,), "decrease_axis": (0,), "infer_flags": (1,)}
HARD_SWISH = {"hard_swish_offset": 3.0, "hard_swish_threshold": 6.0, "hard_swish_scale": 5.0}


def make_pictures():
    ops = [
        op("conv2d", {"Input": "x", "Filter": "w", "Bias": "b"}, {"Output": "t"}, **CONV, **quantise(8, w=(0.5, 2.0)),
           with_act=True, act_type="hard_swish", **HARD_SWISH),
        op("depthwise_conv2d", {"Input": "t", "Filter": "d"}, {"Output": "t"}, **{**CONV, "groups": 2}, with_act=True,
           act_type="relu6", fuse_brelu_threshold=4.0),
        unary("pool2d", "t", "u", pooling_type="max", **POOL),
        unary("hard_swish", "u", "u", offset=3.0, threshold=6.0, scale=6.0),
        op("elementwise_mul", {"X": "u", "Y": "s"}, {"Out": "u"}, axis=-1),
        op("elementwise_add", {"X": "u", "Y": "b"}, {"Out": "u"}, axis=1),
        op("conv2d_transpose", {"Input": "u", "Filter": "w2", "Bias": "b"}, {"Output": "t"}, **DECONV),
        unary("nearest_interp_v2", "t", "t", scale=(2.0, 2.0), align_corners=False),
        unary("pool2d", "t", "v", pooling_type="avg", ksize=(1, 1), strides=(1, 1), adaptive=True),
        unary("hard_sigmoid", "v", "v", slope=0.2, offset=0.5),
        op("elementwise_sub", {"X": "t", "Y": "v"}, {"Out": "t"}, axis=-1),
        op("elementwise_div", {"X": "t", "Y": "s"}, {"Out": "t"}, axis=-1),
        op("concat", {"X": ["t", "t"], "AxisTensor": []}, {"Out": "t"}, axis=1),
        unary("relu", "t", "t"),
        unary("sigmoid", "t", "y"),
    ]  # fmt: skip
    params = [
        ("w", (2, 3, 3, 3), 21), ("d", (2, 1, 3, 3)), ("w2", (2, 2, 2, 2)), ("b", (2,)), ("s", (1,)),
    ]  # fmt: skip
    return program(ops, (-1, 3, -1, -1), params)


def make_sequences():
    ops = [
        unary("squeeze2", "x", "t", axes=(2,)),
        unary("transpose2", "t", "t", axis=(0, 2, 1)),
        op("layer_norm", {"X": "t", "Scale": "n", "Bias": "n"}, {"Y": "t", "Mean": "m", "Variance": "q"},
           begin_norm_axis=2, epsilon=1e-5),
        op("fc", {"Input": "t", "W": "w", "Bias": "b"}, {"Out": "t"}, in_num_col_dims=1, op_type="matmul_v2",
           activation_type="relu", **quantise(16, w=(0.5,) * 6)),
        unary("swish", "t", "t", beta=1.5),
        unary("shape", "t", "sides", slot="Input"),
        unary("slice", "sides", "batch", slot="Input", starts=(0,), ends=(1,), **PICK),
        op("fill_constant", {}, {"Out": "two"}, shape=(1,), dtype=2, value=2.0, str_value="2"),
        unary("scale", "two", "three", scale=1.0, bias=1.0, bias_after_scale=True),
        unary("assign", "three", "three"),
        op("fill_constant", {}, {"Out": "rest"}, shape=(1,), dtype=3, value=-1.0),
        op("reshape2", {"X": "t", "ShapeTensor": ["batch", "rest", "three", "two"]}, {"Out": "u"}, shape=(0, -1, 3, 2)),
        unary("slice", "u", "v", slot="Input", axes=(2,), starts=(0,), ends=(1,), decrease_axis=(2,)),
        unary("transpose2", "v", "k", axis=(0, 2, 1)),
        op("matmul_v2", {"X": "v", "Y": "k"}, {"Out": "v"}, trans_x=False, trans_y=False, alpha=0.5),
        unary("scale", "v", "v", scale=0.25, bias=0.5, bias_after_scale=False),
        unary("flatten_contiguous_range", "v", "v", start_axis=1, stop_axis=2),
        unary("reshape2", "v", "v", shape=(0, -1, 1)),
        unary("softmax", "v", "y", axis=1),
    ]  # fmt: skip
    return program(ops, (-1, 6, 1, -1), [("n", (6,)), ("w", (6, 6), 1), ("b", (6,))])


MAKERS = (make_pictures, make_sequences)


# --- changes to a file's content

NUMBERS = (0, 1, -1, 2, 3, 4, 7, 16, 17, 255, 65536, 2**24 + 1, 2**30, 2**31 - 1, -(2**31), 2**31, 2**62, -(2**63))
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 6.0, 1e-45, 1e30, 3.4e38, -3.4e38, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "",
    "relu",
    "relu6",
    "hard_swish",
    "tanh",
    "SAME",
    "VALID",
    "avg",
    "max",
    "matmul",
    "1e400",
    "x" * 300,
    "\n\0é",
)
NAMES = ("x", "y", "t", "u", "v", "w", "b", "s", "n", "sides", "two", "rest", "", "nowhere", "feed", "ints_1", "x__2")


def draw_value(rng, kind):
    """Draw a value for an attribute of a type."""
    ints = [n for n in NUMBERS if -(2**31) <= n < 2**31]
    draw_list = functools.partial(rng.choices, k=rng.choice((0, 1, 1, 2, 2, 3, 4, 5, 17)))
    doubles = (*FLOATS, 1e300, -1e300)
    choices = {
        "i": lambda: rng.choice(ints),
        "f": lambda: rng.choice(FLOATS),
        "s": lambda: rng.choice(TEXTS),
        "ints": lambda: draw_list(ints[:8] if rng.random() < 0.7 else ints),
        "floats": lambda: draw_list(FLOATS),
        "strings": lambda: draw_list(TEXTS),
        "b": lambda: rng.random() < 0.5,
        "bools": lambda: draw_list((True, False)),
        "block_idx": lambda: rng.choice(ints),
        "l": lambda: rng.choice(NUMBERS),
        "blocks_idx": lambda: draw_list(ints),
        "longs": lambda: draw_list(NUMBERS),
        "float64s": lambda: draw_list(doubles),
        "float64": lambda: rng.choice(doubles),
    }
    return choices[ATTR_FIELDS[kind]]()


def change_attr(rng, one):
    if not one["attrs"]:
        return
    attr = rng.choice(one["attrs"])
    how = rng.random()
    kind = attr["type"]
    if how < 0.1:
        one["attrs"].remove(attr)
    elif how < 0.15:
        attr["name"] = rng.choice(("axis", "axes", "shape", "enable_int8", "fuse_scale", "w_quant_scale", attr["name"]))
    elif how < 0.3:
        kind = rng.choice(list(ATTR_FIELDS))
        field = ATTR_FIELDS[kind]
        one["attrs"][one["attrs"].index(attr)] = {"name": attr["name"], "type": kind, field: draw_value(rng, kind)}
    elif how < 0.6 and isinstance(attr[ATTR_FIELDS[kind]], tuple | list) and attr[ATTR_FIELDS[kind]]:
        values = list(attr[ATTR_FIELDS[kind]])
        values[rng.randrange(len(values))] = (draw_value(rng, kind) or values)[0]
        attr[ATTR_FIELDS[kind]] = values
    else:
        attr[ATTR_FIELDS[kind]] = draw_value(rng, kind)


def change_slots(rng, one):
    slots = one[rng.choice(("inputs", "inputs", "outputs"))]
    if not slots:
        return
    slot = rng.choice(slots)
    names = slot["arguments"]
    how = rng.random()
    if how < 0.5 and names:
        names[rng.randrange(len(names))] = rng.choice(NAMES)
    elif how < 0.6:
        slot["arguments"] = []
    elif how < 0.7:
        names += rng.choices(NAMES, k=rng.choice((1, 2, 20)))
    elif how < 0.8:
        slots.remove(slot)
    elif how < 0.9:
        slot["parameter"] = rng.choice(("X", "Y", "Input", "Filter", "Bias", "ShapeTensor", "Shape", "Out", "W"))
    else:
        slots.append(
            {"parameter": rng.choice(("Y", "Bias", "Scale", "OutSize", "Z")), "arguments": [rng.choice(NAMES)]}
        )


def change_ops(rng, block):
    ops = block["ops"]
    place, other = rng.randrange(len(ops)), rng.randrange(len(ops))
    how = rng.random()
    if how < 0.2:
        del ops[place]
    elif how < 0.4:
        ops.insert(other, ops[place])
    elif how < 0.6:
        ops[place], ops[other] = ops[other], ops[place]
    elif how < 0.9:
        ops[place]["type"] = ops[other]["type"]
    else:
        ops[place]["type"] = rng.choice(TEXTS)


def change_param(rng, params):
    if not params:
        return
    one = rng.choice(params)
    tensor = one["variable"]
    how = rng.random()
    if how < 0.2:
        one["name"] = rng.choice(NAMES)
        return
    if how < 0.5:
        tensor["data_type"] = rng.choice(list(DTYPES))
    if how > 0.4:
        sides = list(tensor["dim"])
        if how < 0.6 and sides:
            sides[rng.randrange(len(sides))] = rng.choice((0, 1, 2, 3, 5, 2**31, 2**62, -1))
        elif how < 0.8:
            sides.append(1)
        else:
            sides = sides[1:]
        tensor["dim"] = sides
    size = DTYPE_SIZES[DTYPES[tensor["data_type"]]]
    for side in tensor["dim"]:
        size *= side
    # Mostly as many bytes as the shape needs; otherwise the reader would refuse it.
    if 0 <= size < 10_000 and rng.random() < 0.9:
        tensor["data"] = rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size)))


def change_vars(rng, block):
    one = rng.choice(block["vars"])
    tensor = one["type"].get("lod_tensor", {}).get("tensor")
    if tensor is None or rng.random() < 0.2:
        one["name"] = rng.choice(NAMES)
    elif rng.random() < 0.3:
        tensor["data_type"] = rng.choice(list(DTYPES))
    else:
        tensor["dims"] = rng.choices(
            (-1, 1, 2, 3, 48, 0, 2**31 - 1, 2**62, -2), k=rng.choice((0, 1, 2, 3, 4, 4, 5, 17))
        )


def change_said(rng):
    """Write a program with a change, and the unchanged program."""
    desc, params = rng.choice(MAKERS)()
    block = desc["blocks"][0]
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        how = rng.random()
        if how < 0.5:
            change_attr(rng, rng.choice(block["ops"]))
        elif how < 0.7:
            change_slots(rng, rng.choice(block["ops"]))
        elif how < 0.8:
            change_ops(rng, block)
        elif how < 0.9:
            change_param(rng, params)
        else:
            change_vars(rng, block)
        if not block["ops"]:
            break
    return write_nb(desc, params)


# --- changes to bytes

EXTREMES = (0, 1, 2, 4, 5, 6, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1)
EXTREMES_64 = (0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 26, 2**64 - 1)


def change_bytes(rng, data, seeds):
    """Damage a file in one or several places."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if len(data) < 30:
            break
        (size,) = struct.unpack_from("<Q", data, 18)
        # The program, its neighbours, or any place.
        end = rng.choice((min(26 + size, len(data)), min(26 + size + 200, len(data)), len(data)))
        place = rng.randrange(26 if rng.random() < 0.9 and end > 30 else 0, end)
        # Aligned like the program's numbers, and like half of those after it.
        aligned = min(max(place - (place - 26) % 4, 0), len(data) - 8)
        length = min(rng.choice((1, 2, 4, 8, 16, 32, 100, 1000)), len(data) - place)
        how = rng.randrange(13)
        if how == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[place] = rng.choice((0, 1, 255, rng.randrange(256)))
        elif how == 2:
            struct.pack_into("<H", data, min(place & ~1, len(data) - 2), rng.choice(EXTREMES) & 0xFFFF)
        elif how == 3:
            struct.pack_into("<I", data, aligned, rng.choice((*EXTREMES, len(data), len(data) - aligned)))
        elif how == 4:
            value = rng.choice((*EXTREMES_64, size - 1, size + 4)) % 2**64
            struct.pack_into("<Q", data, rng.choice((aligned, 18)), value)
        elif how == 5:
            (value,) = struct.unpack_from("<I", data, aligned)
            struct.pack_into("<I", data, aligned, (value + rng.choice((-8, -4, -2, -1, 1, 2, 4, 8))) % 2**32)
        elif how == 6:
            # An offset with the target of another one, or to itself.
            other = min(rng.randrange(26, len(data)) & ~3, len(data) - 4)
            (value,) = struct.unpack_from("<I", data, other)
            struct.pack_into("<I", data, aligned, (other + value - aligned) % 2**32)
        elif how == 7:
            source = rng.choice(seeds)
            start = rng.randrange(len(source))
            piece = source[start : start + length]
            data[place : place + len(piece)] = piece
        elif how == 8:
            start = rng.randrange(len(data))
            data[place:place] = data[start : start + length]
            resize(rng, data, place, length)
        elif how == 9:
            del data[place : place + length]
            resize(rng, data, place, -length)
        elif how == 10:
            del data[place:]
        elif how == 11:
            data[place : place + length] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
        else:
            start = 26 + size
            if start + 16 < len(data):
                struct.pack_into("<H", data, start + rng.choice((0, 2, 4, 6, 12, 14)), rng.choice(EXTREMES) & 0xFFFF)
    return bytes(data)


def resize(rng, data, place, length):
    """Mostly update the program's size in the header; otherwise nothing after it would be read."""
    if len(data) > 26 and rng.random() < 0.8:
        (size,) = struct.unpack_from("<Q", data, 18)
        if place < 26 + size:
            struct.pack_into("<Q", data, 18, (size + length) % 2**64)


def make_case(number, seeds):
    """Return a damaged file; the same one for the same number and seeds."""
    rng = random.Random(number)
    how = rng.random()
    if how < 0.45:
        return change_said(rng)
    if how < 0.5:
        return change_bytes(rng, change_said(rng), seeds)
    return change_bytes(rng, rng.choice(seeds), seeds)


# --- the process that runs the cases


def read_and_build(data):
    """Read a file and build its graph; return how far it got."""
    from converters.lite.nb.to_onnx import build_graph

    model = parse_nb(data, "case.nb")
    # Takes as long as all else.
    if zlib.crc32(data) % 8 == 0:
        write_again(data, model)
    try:
        build_graph(model, "case.nb")
    except ModelError as error:
        check_message(error)
        return "read"
    return "built"


def write_again(data, model):
    edited = edit_nb(data, {}, where="case.nb")
    if edit_nb(edited, {}, where="case.nb") != edited:
        raise AssertionError("edited with nothing, it changes again")
    try:
        edit_nb(data, round_weights(model, 8), where="case.nb")
    except ModelError as error:
        check_message(error)


def check_message(error):
    if "\n" in error.message or not error.message.startswith("case.nb: ") or len(error.message) > 1000:
        raise AssertionError(f"not one line that names the file: {error.message[:2000]!r}")


def raise_another_error(data):
    return data["place"]


def take_memory(data):
    return len(bytearray(2 * MEMORY_BYTES))


def take_time(data):
    time.sleep(60)


def crash(data):
    faulthandler._sigsegv()


# These misbehave on purpose, to show that it is detected.
TARGETS = {
    "read_and_build": read_and_build,
    "raise_another_error": raise_another_error,
    "take_memory": take_memory,
    "take_time": take_time,
    "crash": crash,
}


def run_cases(folder, first, count, target, seconds):
    """Run cases; write the number of the current one, and at the end a summary, into `folder`."""
    faulthandler.enable()
    seeds = [path.read_bytes() for path in sorted(folder.glob("*.nb"))]
    # Libraries load parts on first use; that must happen before memory is limited.
    for seed in seeds:
        read_and_build(seed)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ends, slowest = Counter(), 0.0
    with (folder / "number").open("wb", buffering=0) as under_way:
        for number in range(first, first + count):
            os.pwrite(under_way.fileno(), str(number).encode(), 0)
            data = make_case(number, seeds)
            faulthandler.dump_traceback_later(seconds, exit=True)
            started = time.perf_counter()
            try:
                ends[TARGETS[target](data)] += 1
            except EdgeOcrError as error:
                check_message(error)
                # Numbers and names would make one reason look like many.
                ends["refused"] += 1
            slowest = max(slowest, time.perf_counter() - started)
    faulthandler.cancel_dump_traceback_later()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    summary = {**ends, "slowest_seconds": slowest, "grown_bytes": grown}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def start_cases(folder, first, count, target="read_and_build", seconds=SECONDS):
    """Run cases in a separate process and return the summary; fails if a case ends it."""
    command = [sys.executable, "-W", "error", __file__, folder, str(first), str(count), target, str(seconds)]
    root = Path(__file__).parent.parent.parent
    # Each thread of a library would take a share of the limited memory.
    env = {
        **os.environ,
        "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60 + count / 50, check=False)
    if ended.returncode == 0:
        return json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    path = folder / "number"
    if not path.exists():
        pytest.fail(f"no case was run: {ended.stderr[-3000:]}")
    number = int(path.read_text())
    kept = folder / f"case-{number}.bin"
    kept.write_bytes(make_case(number, [seed.read_bytes() for seed in sorted(folder.glob("*.nb"))]))
    pytest.fail(
        f"case {number} ended with {ended.returncode}; its bytes are in {kept}; alone:\n"
        f"EDGE_OCR_FUZZ_FIRST={number} EDGE_OCR_FUZZ_CASES=1 python -m pytest tests/fuzz\n{ended.stderr[-3000:]}"
    )


# --- the tests


def write_made(folder):
    for maker in MAKERS:
        (folder / f"{maker.__name__}.nb").write_bytes(write_nb(*maker()))


@pytest.fixture(scope="module")
def made_seeds(tmp_path_factory):
    """A folder of files of our own."""
    folder = tmp_path_factory.mktemp("made")
    write_made(folder)
    return folder


@pytest.fixture(scope="module")
def real_seeds(opt, default_models, tmp_path_factory):
    """A folder with our own files, and two made from the first ops of the classifier."""
    folder = tmp_path_factory.mktemp("real")
    write_made(folder)
    model = resolve_model("ch_ppocr_mobile_v2_cls", "cls")
    for last, bits in ((4, 32), (12, 8)):
        whole = read_program(model.program, model.params)
        (result,) = (
            name for slot in whole.ops[last].outputs if slot.parameter in ("Out", "Output") for name in slot.arguments
        )
        for one in whole.ops[last + 1 : -1]:
            whole.remove_op(one)
        whole.set_input(whole.ops[-1], "X", result)
        whole.drop_unused()
        files = folder / "cut.pdmodel", folder / "cut.pdiparams"
        whole.write(*files)
        path = run_opt(opt.python, *files, folder / f"cut_{bits}", valid_places="arm")
        # The bytes that opt leaves after the version differ each time.
        data = normalise(path.read_bytes())
        path.write_bytes(data if bits == 32 else round_nb(data, bits))
    return folder


@pytest.mark.parametrize("maker", MAKERS)
def test_the_original_files_are_valid(maker):
    data = write_nb(*maker())
    assert parse_nb(data).params
    assert read_and_build(data) == "built"


def test_a_case_is_the_same_each_time():
    seeds = [write_nb(*maker()) for maker in MAKERS]
    cases = [make_case(number, seeds) for number in range(200)]
    assert cases == [make_case(number, seeds) for number in range(200)]
    assert len(set(cases)) > 150


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("raise_another_error", "TypeError: byte indices must be integers"),
        ("take_memory", "MemoryError"),
        ("take_time", r"Timeout \(0:00:01\)!"),
        ("crash", "Segmentation fault"),
    ],
)
def test_forbidden_outcomes_are_detected(made_seeds, target, words):
    with pytest.raises(pytest.fail.Exception) as caught:
        start_cases(made_seeds, 7, 3, target, 1)
    message = str(caught.value)
    assert re.search(words, message)
    assert "EDGE_OCR_FUZZ_FIRST=7 EDGE_OCR_FUZZ_CASES=1" in message
    seeds = [path.read_bytes() for path in sorted(made_seeds.glob("*.nb"))]
    assert (made_seeds / "case-7.bin").read_bytes() == make_case(7, seeds)


def test_damaged_files_are_read_or_refused(real_seeds):
    ends = start_cases(real_seeds, FIRST, CASES)
    assert ends["slowest_seconds"] < 2
    assert ends["grown_bytes"] < MEMORY_BYTES
    if CASES < 1000:
        return
    # A share of each; otherwise all cases might fail at the same check.
    shares = {end: ends[end] / CASES for end in ("refused", "read", "built")}
    assert all(share > 0.1 for share in shares.values()), shares


if __name__ == "__main__":
    run_cases(Path(sys.argv[1]), *map(int, sys.argv[2:4]), sys.argv[4], float(sys.argv[5]))
