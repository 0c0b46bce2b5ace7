"""opt folds `scale` into convolutions wrongly; with `keep_scales` it does not."""

import numpy as np
import onnxruntime
import pytest
from support.paddle_programs import X, act, add, add_sub_block, build, check_same, conv, draw, list_types

from converters.graph.passes import run_passes
from converters.graph.passes.keep_scales import keep_scales
from converters.lite.nb.read import read_nb
from converters.lite.nb.to_onnx import serialise_graph
from converters.lite.opt import run_opt
from converters.sources.program import get_attr

PARAMS = {"w": draw(4, 4, 3, 3), "depthwise": draw(4, 1, 3, 3), "b": draw(4), "b2": draw(4, seed=2)}


def scale(source, result, factor=0.7, term=0.4, is_after=True):
    attrs = {"scale": factor, "bias": term, "bias_after_scale": is_after}
    return ("scale", f"X={source}", f"Out={result}", attrs)


def make(*ops, **options):
    read = {name for _, inputs, _, _ in ops for name in inputs.replace("=", " ").split()}
    return build(ops, {name: value for name, value in PARAMS.items() if name in read}, **options)


def make_biased(source, result, bias="b", kind="conv2d"):
    weights, groups = ("depthwise", 4) if kind == "depthwise_conv2d" else ("w", 1)
    raw = f"{result}_raw"
    return conv(source, raw, weights, kind=kind, pad=1, groups=groups), add(raw, bias, result, 1)


def activate(kind, activation, **attrs):
    return make(*make_biased("x", "c", kind=kind), act(activation, "c", "a", **attrs), scale("a", "out"))


# Programs that opt alone gets wrong, and the ops that it leaves of them with the pass.
WRONG = {
    "relu": (lambda: activate("conv2d", "relu"), "conv2d scale"),
    "relu6": (lambda: activate("conv2d", "relu6", threshold=6.0), "conv2d scale"),
    "hard_swish": (lambda: activate("conv2d", "hard_swish"), "conv2d scale"),
    "depthwise, relu": (lambda: activate("depthwise_conv2d", "relu"), "depthwise_conv2d scale"),
    "copy between": (
        lambda: make(*make_biased("x", "c"), act("relu", "c", "a"), scale("a", "s", 1.0, 0.0), scale("s", "out")),
        "conv2d scale",
    ),
    "two activations": (
        lambda: make(*make_biased("x", "c"), act("relu", "c", "a"), scale("a", "s"), act("relu", "s", "out")),
        "conv2d scale",
    ),
    "bias before scale": (lambda: make(*make_biased("x", "c"), scale("c", "out", is_after=False)), "conv2d scale"),
    "shared filters": (
        lambda: make(*make_biased("x", "c"), scale("c", "s"), *make_biased("x", "d", "b2"), add("s", "d", "out")),
        "conv2d scale conv2d elementwise_add",
    ),
}
RIGHT = {
    "no bias": lambda: make(conv("x", "c", "w", pad=1), act("relu", "c", "a"), scale("a", "out")),
    "depthwise, hard_swish": lambda: activate("depthwise_conv2d", "hard_swish"),
    "hard_sigmoid": lambda: activate("conv2d", "hard_sigmoid", slope=0.2, offset=0.5),
    "no activation": lambda: make(*make_biased("x", "c"), scale("c", "out")),
}


@pytest.fixture
def convert(opt, tmp_path):
    """Return the difference between a program's results in Paddle and after opt, and the types of opt's ops."""

    def convert(run, program):
        (expected,) = run(program, X).values()
        written = run_opt(
            opt.python, tmp_path / "p.pdmodel", tmp_path / "p.pdiparams", tmp_path / "opt", valid_places="arm"
        )
        nb = read_nb(written)
        session = onnxruntime.InferenceSession(serialise_graph(nb, "test"), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"x": X})
        return np.abs(found - expected).max(), " ".join(op.type for op in nb.blocks[0].ops[1:-1])

    return convert


@pytest.mark.parametrize("case", WRONG)
def test_opt_alone_is_wrong_and_with_the_pass_right(run, convert, case):
    make_program, kept = WRONG[case]
    difference, types = convert(run, make_program())
    assert difference > 0.1
    assert "scale" not in types
    program = make_program()
    keep_scales(program)
    difference, types = convert(run, program)
    assert (types, difference < 1e-4) == (kept, True)


@pytest.mark.parametrize("case", RIGHT)
def test_opt_alone_is_right(run, convert, case):
    for apply in (lambda program: None, keep_scales, run_passes, lambda program: run_passes(program, optimize=False)):
        program = RIGHT[case]()
        apply(program)
        assert convert(run, program)[0] < 1e-4


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("case", WRONG)
def test_all_passes_together_are_right(run, convert, case, optimize):
    program = WRONG[case][0]()
    run_passes(program, optimize=optimize)
    assert convert(run, program)[0] < 1e-4


def test_the_program_computes_the_same(run):
    program = WRONG["two activations"][0]()
    types = list_types(program)
    assert check_same(run, keep_scales, program, changed=1) == types[1:-1]
    assert keep_scales(program).changed == 0


def test_scales_of_other_blocks_are_marked():
    program = add_sub_block(make(scale("x", "out")), "scale", "x")
    assert keep_scales(program).changed == 2
    marks = [get_attr(op, "quantization_type") for op in (*program.ops, *program.sub_ops) if op.type == "scale"]
    assert marks == ["none", "none"]


def test_a_mark_of_the_model_stays():
    op_type, inputs, outputs, attrs = scale("x", "out")
    program = make((op_type, inputs, outputs, attrs | {"quantization_type": "other"}))
    assert keep_scales(program).changed == 0
    assert get_attr(program.ops[1], "quantization_type") == "other"
