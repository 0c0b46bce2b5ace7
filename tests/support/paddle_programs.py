"""Small Paddle programs."""

from __future__ import annotations

import numpy as np

from converters.sources.program import Program, load_framework_pb2, set_attr

FEED, FETCH = 9, 10


def build(ops, params, outputs=("out",), shape=(-1, 4, -1, -1), shapes=()):
    """Make a program from `type inputs -> outputs attrs` tuples; inputs and outputs are SLOT=name words."""
    pb = load_framework_pb2()
    desc = pb.ProgramDesc()
    desc.version.version = 2004002
    block = desc.blocks.add(idx=0, parent_idx=-1)
    for name, kind in (("feed", FEED), ("fetch", FETCH)):
        block.vars.add(name=name, persistable=True).type.type = kind
    tensors = {"x": shape, **dict(shapes)}
    feed = ("feed", "X=feed", "Out=x", {"col": 0})
    fetches = [("fetch", f"X={name}", "Out=fetch", {"col": column}) for column, name in enumerate(outputs)]
    for op_type, inputs, results, attrs in [feed, *ops, *fetches]:
        op = block.ops.add(type=op_type)
        for slots, words in ((op.inputs, inputs), (op.outputs, results)):
            for slot, names in (word.split("=") for word in words.split()):
                slots.add(parameter=slot, arguments=names.split(","))
        for name, value in attrs.items():
            set_attr(op, name, value)
        for word in results.split():
            tensors.setdefault(word.split("=")[1], (-1, 4, -1, -1))
    for name in tensors.keys() - {"fetch"}:
        var = block.vars.add(name=name)
        var.type.type = 7
        var.type.dense_tensor.tensor.data_type = 5
        var.type.dense_tensor.tensor.dims.extend(tensors[name])
    program = Program(desc, {}, "synthetic")
    for name, value in params.items():
        program.set_param(name, np.asarray(value, np.float32))
    return program


def conv(source, result, weight, *, kind="conv2d", pad=0, groups=1, stride=1, **attrs):
    attrs = {"strides": [stride] * 2, "paddings": [pad] * 2, "dilations": [1, 1], "groups": groups, **attrs}
    attrs.setdefault("padding_algorithm", "EXPLICIT")
    return (kind, f"Input={source} Filter={weight}", f"Output={result}", {"data_format": "NCHW", **attrs})


def mul(x, y, result, axis=-1):
    return ("elementwise_mul", f"X={x} Y={y}", f"Out={result}", {"axis": axis})


def add(x, y, result, axis=-1):
    return ("elementwise_add", f"X={x} Y={y}", f"Out={result}", {"axis": axis})


def act(kind, source, result, **attrs):
    defaults = {"hard_swish": {"threshold": 6.0, "scale": 6.0, "offset": 3.0}}
    return (kind, f"X={source}", f"Out={result}", {**defaults.get(kind, {}), **attrs})


def pool(source, result, kind="avg", **attrs):
    attrs = {"ksize": [2, 2], "strides": [2, 2], "paddings": [0, 0], "pooling_type": kind, **attrs}
    defaults = {"exclusive": True, "adaptive": False, "global_pooling": False, "ceil_mode": False}
    return ("pool2d", f"X={source}", f"Out={result}", {"padding_algorithm": "EXPLICIT", **defaults, **attrs})


def draw(*shape, seed=1):
    return np.random.default_rng([seed, *shape]).normal(0, 1, shape).astype(np.float32)


X = draw(2, 4, 8, 8, seed=7)


def list_types(program):
    return [op.type for op in program.ops]


def check_same(run, apply, program, *, changed, array=X):
    """Apply a pass and compare; return the program's op types without feed and fetch."""
    before = run(program, array)
    report = apply(program)
    after = run(program, array)
    assert report.changed == changed
    assert report.ops_after == len(program.ops)
    assert before.keys() == after.keys()
    for name in before:
        assert before[name].shape == after[name].shape
        np.testing.assert_allclose(after[name], before[name], rtol=0, atol=2e-5)
    return [kind for kind in list_types(program) if kind not in ("feed", "fetch")]


def add_sub_block(program, op_type, source):
    desc = load_framework_pb2().ProgramDesc()
    desc.ParseFromString(program.to_bytes()[0])
    op = desc.blocks.add(idx=1, parent_idx=0).ops.add(type=op_type)
    op.inputs.add(parameter="X", arguments=[source])
    op.outputs.add(parameter="Out", arguments=["inner"])
    return Program(desc, dict(program.params), "synthetic")
