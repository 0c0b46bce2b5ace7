"""Random Paddle programs, and the check that a pass keeps what they compute."""

from __future__ import annotations

import random

import numpy as np
import pytest

from converters.sources.program import list_inputs, list_outputs, make_program

CASES = 250


class Graph:
    """A program under construction, and its input."""

    def __init__(self, rng, shape):
        self.rng = rng
        self.numbers = np.random.default_rng(rng.randrange(2**32))
        self.array = self.draw(*shape)
        self.program = make_program("drawn")
        for kind in ("feed", "fetch"):
            self.program.declare_list(kind)
        self.program.set_shape("x", (-1, *shape[1:]))
        self.program.insert_op(None, "feed", {"X": "feed"}, {"Out": "x"}, {"col": 0})
        self.outputs = []
        self.room = min(shape[2:], default=0)
        """The fewest rows and columns that remain."""

    def draw(self, *shape):
        return self.numbers.normal(0, 1, shape).astype(np.float32)

    def maybe(self, share):
        return self.rng.random() < share

    def param(self, value, dtype=np.float32):
        name = self.program.make_name("p")
        self.program.set_param(name, np.asarray(value, dtype))
        return name

    def number(self, value):
        """Return a parameter of one number, in one of its forms."""
        return self.param(np.full(self.rng.choice([(1,), (1,), (), (1, 1, 1, 1)]), value))

    def put(self, op_type, sides, /, slot="Out", extra=(), **rest):
        """Add an op and return its result; `rest` are inputs, by their slots with a capital letter, and attributes."""
        inputs = {name: value for name, value in rest.items() if name[0].isupper()}
        attrs = {name: value for name, value in rest.items() if not name[0].isupper()}
        names = {slot: self.program.make_name("t")}
        for other in extra:
            names[other] = self.program.make_name(f"{names[slot]}.{other}")
        for name in names.values():
            self.program.set_shape(name, tuple(sides))
        self.program.insert_op(None, op_type, inputs, names, attrs)
        return names[slot]

    def act(self, source, kind="relu", **attrs):
        return self.put(kind, self.shape(source), X=source, **attrs)

    def pair(self, kind, x, y, axis=-1, *, swap=False):
        shape = self.shape(x)
        if swap:
            x, y = y, x
        return self.put(f"elementwise_{kind}", shape, X=x, Y=y, axis=axis)

    def shape(self, name):
        return self.program.find_shape(name)

    def conv(self, source, outputs, *, size=1, groups=1, kind="conv2d", stride=1, pad=0, algorithm="EXPLICIT", **attrs):
        channels = self.shape(source)[1]
        if "transpose" not in kind:
            self.room = (self.room - 2 * (size - 1)) // stride
        dims = (channels, outputs // groups) if "transpose" in kind else (outputs, channels // groups)
        weight = self.param(self.draw(*dims, size, size))
        attrs = {"dilations": [1, 1], "data_format": "NCHW", "padding_algorithm": algorithm, **attrs}
        attrs |= {"strides": [stride] * 2, "paddings": [pad] * 2, "groups": groups}
        shape = (-1, outputs, -1, -1)
        return self.put(kind, shape, slot="Output", Input=source, Filter=weight, **attrs)

    def vector(self, channels, *, low=None):
        """Return a parameter with one number per channel, and the axis that it is aligned to."""
        value = self.draw(channels) if low is None else np.abs(self.draw(channels)) + low
        form = self.rng.choice(["axis", "axis", "right", "whole", "number"])
        if form == "number":
            return self.number(value[0]), -1
        if form == "axis":
            return self.param(value), 1
        return self.param(value.reshape((1, -1, 1, 1) if form == "whole" else (-1, 1, 1))), -1

    def list_results(self):
        return [
            name for op in self.program.ops[1:] if op.type != "fetch" for name in list_outputs(op) if "." not in name
        ]

    def finish(self, *outputs, trouble=0.4):
        """Declare the outputs, and sometimes add an obstacle for a pass."""
        self.outputs += outputs
        if self.maybe(trouble):
            self.trouble()
        for column, name in enumerate(dict.fromkeys(self.outputs)):
            self.program.insert_op(None, "fetch", {"X": name}, {"Out": "fetch"}, {"col": column})
        return self

    def trouble(self):
        fixed = {name for name in self.list_results() if self.shape(name) in ((4,), (1,))} | self.program.params.keys()
        results = [name for name in self.list_results() if name not in fixed]
        middle = self.rng.choice(results[-6:-1] or results)
        first = self.program.ops[0]
        params = [name for name, value in self.program.params.items() if value.dtype == np.float32]
        kind = self.rng.choice(["output", "reader", "rewritten", "early", "param", "shared"])
        if kind == "output":
            self.outputs.append(middle)
        elif kind == "reader":
            self.outputs.append(self.act(middle, "tanh"))
        elif kind == "rewritten":
            # After all readers, so this is not the value that they read.
            self.program.insert_op(None, "scale", {"X": "x"}, {"Out": middle}, {"scale": 3.0, "bias": 0.0})
        elif kind == "early":
            self.program.insert_op(first, "scale", {"X": "x"}, {"Out": middle}, {"scale": 3.0, "bias": 0.0})
        elif params:
            name = self.rng.choice(params)
            if kind == "param":
                self.program.insert_op(first, "scale", {"X": name}, {"Out": name}, {"scale": 1.5, "bias": 0.1})
            else:
                self.outputs.append(self.put("scale", self.program.params[name].shape, X=name, scale=2.0, bias=0.0))


def draw_graph(name, draw, shapes, number):
    rng = random.Random(f"{name} {number}")
    return draw(Graph(rng, rng.choice(shapes)))


def describe(program):
    return "\n".join(
        f"{op.type} {list_inputs(op)} -> {list_outputs(op)} {[str(a).split() for a in op.attrs]}" for op in program.ops
    )


def check_same(before, after, what):
    assert before.keys() == after.keys(), what
    for name in before:
        assert before[name].shape == after[name].shape, what
        assert np.isfinite(before[name]).all(), what
        largest = max(1.0, *(float(np.abs(value).max(initial=0)) for value in before.values()))
        np.testing.assert_allclose(after[name], before[name], rtol=3e-5, atol=3e-5 * largest, err_msg=what)


def check_pass(run, apply, draw, shapes, least, most):
    """Check that Paddle computes the same before and after, and that the pass changes a share in [least, most]."""
    changed = 0
    for number in range(CASES):
        graph = draw_graph(apply.__name__, draw, shapes, number)
        what = f"graph {number}:\n{describe(graph.program)}"
        try:
            before = run(graph.program, graph.array)
        except Exception as error:
            pytest.fail(f"Paddle does not take {what}\n{error}")
        changed += apply(graph.program).changed > 0
        what += f"\nbecomes:\n{describe(graph.program)}"
        try:
            after = run(graph.program, graph.array)
        except Exception as error:
            pytest.fail(f"Paddle no longer takes {what}\n{error}")
        check_same(before, after, what)
    assert least <= changed / CASES <= most, f"changed {changed} of {CASES}"
