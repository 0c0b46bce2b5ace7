"""Each pass on hundreds of random graphs with its pattern, or nearly so: Paddle computes the same before and after.

A graph is drawn from a seed. About half have the exact pattern; the others differ from it: an
optional input is set, an attribute has another value, a result is read by others or is an output, a name is written
twice, a parameter is changed before it is read. A pass must change some of the graphs and leave some, so that one that
does too much and one that does nothing are both found.
"""

from __future__ import annotations

import random
import warnings
import zlib

import numpy as np
import pytest
from support.random_programs import CASES, Graph, check_pass, draw_graph

from converters.graph.passes import restore_attributes, run_passes
from converters.graph.passes.cancel_layouts import cancel_layouts
from converters.graph.passes.drop_identities import drop_identities
from converters.graph.passes.fold_activations import fold_activations
from converters.graph.passes.fold_affine import fold_affine
from converters.graph.passes.fold_batch_norm import fold_batch_norm
from converters.graph.passes.fold_gates import fold_gates
from converters.graph.passes.fold_layer_norm import fold_layer_norm
from converters.graph.passes.fold_slices import fold_slices
from converters.graph.passes.merge_convs import merge_convs
from converters.graph.passes.prune_charset import prune_charset
from converters.graph.passes.settle_shapes import settle_shapes


@pytest.fixture(scope="module")
def run():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import paddle.inference as inference

    def run(program, array):
        desc, params = program.to_bytes()
        config = inference.Config()
        config.set_model_buffer(desc, len(desc), params, len(params))
        config.disable_glog_info()
        config.switch_ir_optim(False)
        config.disable_mkldnn()
        predictor = inference.create_predictor(config)
        predictor.get_input_handle("x").copy_from_cpu(array)
        predictor.run()
        return {name: predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()}

    return run


# --- graphs for each pass


def draw_identities(g):
    # Also 0-D, to which a number of shape [1] adds a dimension.
    value = g.put("reduce_mean", (), X="x", reduce_all=True, keep_dim=False, dim=[0]) if g.maybe(0.15) else "x"
    for _ in range(g.rng.randint(2, 5)):
        shape = g.shape(value)
        kind = g.rng.choice(["assign", "scale", "dropout", "one", "relu", "none", "tensor", "many", "divide", "zero"])
        if kind == "assign":
            value = g.act(value, "assign")
        elif kind == "scale":
            scale, bias = g.rng.choice([(1.0, 0.0), (1.0, 0.0), (1.0, 0.5), (2.0, 0.0), (1.001, 0.0)])
            value = g.act(value, "scale", scale=scale, bias=bias, bias_after_scale=g.maybe(0.5))
        elif kind == "tensor":
            value = g.put("scale", shape, X=value, ScaleTensor=g.param([g.rng.choice([1.0, 2.0])]), scale=1.0, bias=0.0)
        elif kind == "dropout" and len(shape) > 1:
            how = g.rng.choice(["upscale_in_train", "upscale_in_train", "downgrade_in_infer"])
            attrs = {"dropout_prob": 0.25, "is_test": True, "dropout_implementation": how}
            value = g.put("dropout", shape, X=value, extra=["Mask"] if g.maybe(0.5) else (), **attrs)
        elif kind in ("one", "none", "divide"):
            one = g.param(np.full(g.rng.choice([(1,), ()]), g.rng.choice([1.0, 1.0, 1.001, -1.0])))
            value = g.pair("div" if kind == "divide" else "mul", value, one, swap=kind == "none" and len(shape) > 0)
            if not shape:
                g.program.set_shape(value, g.program.params[one].shape)
        elif kind == "zero":
            zero = g.param(np.full(g.rng.choice([(1,), ()]), g.rng.choice([0.0, 0.0, 0.001])))
            value = g.pair("add", value, zero, swap=g.maybe(0.3) and len(shape) > 0)
            if not shape:
                g.program.set_shape(value, g.program.params[zero].shape)
        elif kind == "many" and len(shape) == 4:
            value = g.pair("mul", value, g.param(np.ones(g.rng.choice([(1, 4, 1, 1), (1, 1, 1, 1)]))))
        else:
            value = g.act(value)
    return g.finish(g.act(value, "tanh") if g.maybe(0.5) else value)


def multiply(g, factors):
    """Multiply tensors and numbers, in any order and grouping."""
    factors = list(factors)
    g.rng.shuffle(factors)
    while len(factors) > 1:
        x, y = factors.pop(), factors.pop(g.rng.randrange(len(factors)))
        x, y = (y, x) if isinstance(x, float) else (x, y)
        if isinstance(x, float):
            factors += [x * y]
        elif isinstance(y, float):
            is_division = g.maybe(0.4)
            number = g.number(1 / y if is_division else y)
            factors.append(g.pair("div" if is_division else "mul", x, number, swap=not is_division and g.maybe(0.3)))
        else:
            factors.append(g.pair("mul", x, y))
    return factors[0]


def draw_activations(g):
    x = g.act("x", g.rng.choice(["assign", "tanh"]))
    other = g.act("x", "relu") if g.maybe(0.1) else x
    off = lambda value, by: value * (by if g.maybe(0.12) else 1.0)  # noqa: E731
    kind = g.rng.choice(["swish", "hard_sigmoid", "clip", "gelu"])
    if kind == "swish":
        result = multiply(g, [x, g.act(other, "sigmoid"), *([off(1.0, 1.01)] if g.maybe(0.3) else [])])
    elif kind == "hard_sigmoid":
        gate = g.act(other, kind, slope=off(1 / 6, 1.02), offset=off(0.5, 1.02))
        result = multiply(g, [x, gate])
    elif kind == "clip":
        raised = g.pair("add", other, g.number(off(3.0, 1.01)), swap=g.maybe(0.3))
        bounds = {}
        if g.maybe(0.3):
            # They override the attributes.
            slot, usual = g.rng.choice([("Min", 0.0), ("Max", 6.0)])
            bounds[slot] = g.param([g.rng.choice([usual, 2.5])])
        gate = g.act(raised, "clip", min=g.rng.choice([0.0] * 5 + [0.5]), max=off(6.0, 0.5), **bounds)
        result = multiply(g, [x, gate, off(1 / 6, 1.01)])
    else:
        inner = multiply(g, [other, off(2**-0.5, 1.02)])
        raised = g.pair("add", g.act(inner, "erf"), g.number(off(1.0, 1.02)))
        result = multiply(g, [x, raised, off(0.5, 1.02)])
    return g.finish(g.act(result, "tanh") if g.maybe(0.3) else result)


def draw_layer_norms(g):
    shape = g.shape("x")
    rank, last = len(shape), shape[-1]
    x = g.act("x", "assign")
    over = [g.rng.choice([-1, rank - 1])] if g.maybe(0.85) else g.rng.choice([[1], [1, 2], [rank - 2]])
    means = {"keep_dim": True, "reduce_all": g.maybe(0.08)}
    centre = g.put("reduce_mean", (*shape[:-1], 1), X=x, dim=over, **means)
    centred = g.pair("sub", x, centre)
    squared = centred if g.maybe(0.9) else x
    if g.maybe(0.5):
        square = g.pair("mul", squared, squared)
    else:
        tensors = {"FactorTensor": g.param([g.rng.choice([2.0, 4.0])])} if g.maybe(0.2) else {}
        square = g.put("pow", shape, X=squared, factor=g.rng.choice([2.0] * 5 + [4.0]), **tensors)
    variance = g.put("reduce_mean", (*shape[:-1], 1), X=square, dim=over, **means)
    epsilon = 10 ** g.rng.uniform(-6, -1.5)
    root = g.act(g.pair("add", variance, g.param([epsilon])), "sqrt")
    value = g.pair("div", centred if g.maybe(0.93) else g.act(centred, "tanh"), root)
    for kind in ("mul", "add"):
        form = g.rng.choice(["vector"] * 8 + ["number", "axis", "whole"])
        size, axis = {"number": (1,), "whole": (1,) * (rank - 1) + (last,)}.get(form, (last,)), -1
        if form == "axis" and last == shape[1]:
            axis = 1
        value = g.pair(kind, value, g.param(g.draw(*size)), axis if size == (last,) else -1)
    return g.finish(value, trouble=0.3)


CONVS = [
    {"size": 1},
    {"size": 3},
    {"size": 3, "pad": 1},
    {"size": 3, "stride": 2, "algorithm": "SAME"},
    {"size": 3, "pad": 1, "algorithm": "VALID"},
    {"size": 3, "pad": 2, "dilations": [2, 2]},
    {"size": 1, "groups": 2},
    {"size": 3, "pad": 1, "groups": 4, "kind": "depthwise_conv2d"},
    {"size": 2, "stride": 2, "kind": "conv2d_transpose"},
    {"size": 3, "groups": 2, "kind": "conv2d_transpose"},
]


def draw_conv(g, source, outputs=4, **options):
    forms = CONVS if g.room > 6 else [form for form in CONVS if form["size"] == 1]
    return g.conv(source, outputs, **{**g.rng.choice(forms), **options})


def put_batch_norm(g, value, names, attrs):
    extra = ("SavedMean", "SavedVariance", "ReserveSpace")
    result = g.put("batch_norm", (-1, 4, -1, -1), slot="Y", extra=extra, X=value, **names, **attrs)
    for slot in ("Mean", "Variance"):
        g.program.set_output(g.program.ops[-1], f"{slot}Out", names[slot])
    return result


def draw_batch_norms(g):
    value = draw_conv(g, "x")
    if g.maybe(0.5):
        vector, axis = g.vector(4)
        value = g.pair("add", value, vector, axis)
    names = {"Scale": g.draw(4), "Bias": g.draw(4), "Mean": g.draw(4), "Variance": np.abs(g.draw(4)) + 0.1}
    names = {slot: g.param(number) for slot, number in names.items()}
    attrs = {"is_test": True, "data_layout": "NCHW", "momentum": 0.9}
    if g.maybe(0.8):
        attrs["epsilon"] = g.rng.choice([1e-5, 1e-3])
    is_square = g.array.shape[1:] == (4, 4, 4)
    odd = g.rng.random()
    if odd < 0.1:
        # It computes with the mean of the batch then, is_test or not.
        attrs |= {"trainable_statistics": True, "use_global_stats": g.maybe(0.3)}
    elif odd < 0.2:
        attrs |= {"is_test": False, "use_global_stats": g.maybe(0.5)}
    elif odd < 0.3 and is_square and g.program.ops[1].type == "conv2d":
        attrs["data_layout"] = "NHWC"
    result = put_batch_norm(g, value, names, attrs)
    return g.finish(result if g.maybe(0.5) else g.act(result), trouble=0.3)


def draw_layouts(g):
    value = g.act("x")

    def move(kind, sizes, **attrs):
        return g.put(kind, sizes, X=value, extra=["XShape"] if g.maybe(0.8) else (), **attrs)

    def find_single():
        return [axis for axis, size in enumerate(g.shape(value)) if axis and size == 1]

    def transpose(order):
        return move("transpose2", [g.shape(value)[i] for i in order], axis=order)

    def squeeze(axis):
        sizes = g.shape(value)
        sizes, axes = sizes[:axis] + sizes[axis + 1 :], [axis - len(sizes) if g.maybe(0.3) else axis]
        return move("squeeze2", sizes, axes=axes)

    def unsqueeze(axis):
        sizes = g.shape(value)
        axes = [axis - len(sizes) - 1 if g.maybe(0.3) else axis]
        return move("unsqueeze2", (*sizes[:axis], 1, *sizes[axis:]), axes=axes)

    g.program.set_shape(value, g.array.shape)
    for _ in range(g.rng.randint(1, 3)):
        rank = len(g.shape(value))
        kind, single = g.rng.choice(["transposes", "lines", "lines", "grown"]), find_single()
        if kind == "transposes":
            order = g.rng.sample(range(rank), rank)
            value = transpose(order)
            value = transpose([order.index(i) for i in range(rank)] if g.maybe(0.7) else order)
        elif kind == "grown" and rank < 5:
            axis = g.rng.randint(1, rank)
            value = unsqueeze(axis)
            value = squeeze(axis if g.maybe(0.7) else g.rng.choice(find_single()))
        elif single and rank > 3:
            axis = g.rng.choice(single)
            value = squeeze(axis)
            for _ in range(g.rng.randint(0, 2)):
                sizes = g.shape(value)
                if g.maybe(0.5):
                    slots = ("Scale", "Bias", "Mean", "Variance")
                    names = {slot: g.param(np.abs(g.draw(sizes[1])) + 0.1) for slot in slots}
                    value = put_batch_norm(g, value, names, {"is_test": True, "data_layout": "NCHW", "epsilon": 1e-3})
                    g.program.set_shape(value, sizes)
                else:
                    value = g.act(value, g.rng.choice(["tanh", "hard_swish", "softmax"]))
            value = unsqueeze(axis if g.maybe(0.7) else g.rng.randint(1, rank - 1))
    return g.finish(g.act(value, "tanh") if g.maybe(0.5) else value, trouble=0.3)


def draw_affines(g):
    value, last = g.act("x", g.rng.choice(["relu", "assign"])), ""
    for _ in range(g.rng.randint(3, 7)):
        kind = g.rng.choice(["mul", "mul", "mul", "add", "add", "conv", "conv", "pool", "gate", "act"])
        if kind == "pool" and (last == "pool" or g.room < 6):
            continue
        last = kind
        if kind in ("mul", "add"):
            vector, axis = g.vector(4, low=0.2 if g.maybe(0.6) else None)
            value = g.pair(kind, value, vector, axis, swap=g.maybe(0.15) and g.program.params[vector].ndim == 4)
        elif kind == "conv":
            value = draw_conv(g, value)
        elif kind == "pool":
            value = draw_pool(g, value)
        elif kind == "gate":
            gate = g.put("pool2d", (-1, 4, 1, 1), X=value, ksize=[1, 1], pooling_type="avg", adaptive=True)
            value = g.pair("mul", value, g.act(g.act(gate, "scale", scale=0.5, bias=0.2), "sigmoid"))
        else:
            value = g.act(value, g.rng.choice(["tanh", "hard_swish"]))
    if g.maybe(0.7):
        value = draw_conv(g, value)
    return g.finish(value, trouble=0.3)


def draw_pool(g, value):
    attrs = {"ksize": [2, 2], "strides": [1, 1], "paddings": [0, 0], "pooling_type": g.rng.choice(["avg", "max"])}
    attrs |= {"padding_algorithm": "EXPLICIT", "exclusive": True, "adaptive": False, "global_pooling": False}
    attrs |= {"ceil_mode": False, "data_format": "NCHW"}
    g.room //= 2
    odd = g.rng.random()
    if odd < 0.1:
        attrs |= {"paddings": [1, 1], "exclusive": g.maybe(0.5)}
    elif odd < 0.2:
        attrs |= {"ksize": [4, 4], "strides": [4, 4], "ceil_mode": True, "exclusive": g.maybe(0.5)}
    elif odd < 0.3:
        attrs |= {"padding_algorithm": "SAME", "exclusive": g.maybe(0.5)}
    elif odd < 0.4:
        attrs |= {"ksize": [3, 3], "strides": [2, 2], "ceil_mode": True, "exclusive": g.maybe(0.5), "paddings": [1, 1]}
    elif odd < 0.5:
        attrs |= {"adaptive": True, "ksize": [2, 2]}
    elif odd < 0.6:
        # Over channels and rows; all channels are kept by padding.
        attrs |= {"data_format": "NHWC", "ksize": [3, 3], "paddings": [1, 1]}
    return g.put("pool2d", (-1, 4, -1, -1), X=value, **attrs)


FIRST = [{}] * 12 + [{"pad": 1}, {"stride": 2}, {"size": 3}, {"groups": 2}, {"algorithm": "SAME"}]
SECOND = [
    {},
    {},
    {"size": 3},
    {"size": 3, "pad": 1},
    {"stride": 2},
    {"size": 3, "stride": 2},
    {"size": 3, "dilations": [2, 2], "pad": 2},
    {"groups": 2},
    {"size": 3, "algorithm": "SAME"},
    {"size": 2, "kind": "conv2d_transpose"},
]


def draw_conv_pairs(g):
    value = "x" if g.maybe(0.7) else g.act("x")
    middle = g.rng.choice([4, 6, 8])
    first = g.rng.choice(FIRST)
    value = g.conv(value, middle, **first)
    between = g.rng.choice(["", "", "", "bias", "bias", "bias", "act", "row"])
    if between == "bias":
        vector, axis = g.vector(middle)
        value = g.pair("add", value, vector, axis)
    elif between == "act":
        value = g.act(value)
    elif between == "row" and first == {}:
        value = g.pair("add", value, g.param(g.draw(g.array.shape[3])))
    options = g.rng.choice(SECOND)
    value = g.conv(value, g.rng.choice([2, 4]), **options)
    if g.maybe(0.5):
        vector, axis = g.vector(g.shape(value)[1])
        value = g.pair("add", value, vector, axis)
    return g.finish(g.act(value) if g.maybe(0.5) else value, trouble=0.25)


def draw_gates(g):
    x = g.act("x", "tanh")
    channels = g.shape(x)[1]
    size = g.rng.choice([[1, 1]] * 5 + [[4, 4]])
    flat = g.put("pool2d", (-1, channels, *size), X=x, ksize=size, pooling_type="avg", adaptive=True)
    gate = g.act(flat, "sigmoid")
    if g.maybe(0.2):
        # One number for all channels, or a batch of one.
        gate = g.put("reduce_mean", (-1, 1, 1, 1), X=gate, dim=[1, 2, 3], keep_dim=True, reduce_all=False)
    if size == [4, 4] and g.array.shape[2:] != (4, 4):
        x = flat
    product = g.pair("mul", x, gate, swap=g.maybe(0.2))
    other = x if g.maybe(0.85) else g.act(x)
    operands = (other, product) if g.maybe(0.5) else (product, other)
    return g.finish(g.put("elementwise_add", g.shape(x), X=operands[0], Y=operands[1], axis=-1), trouble=0.3)


def fill(g, value):
    attrs = {"shape": [1], "dtype": 2, "value": float(value), "str_value": g.rng.choice([str(value), ""])}
    if g.maybe(0.1):
        # It overrides the attributes.
        tensors = {"ValueTensor": g.param([value], np.int32)}
        return g.put("fill_constant", (1,), force_cpu=True, **tensors, **attrs | {"value": 2.0, "str_value": "2"})
    return g.put("fill_constant", (1,), force_cpu=True, **attrs)


def draw_reshapes(g):
    value = g.act("x", "assign")
    shape = g.array.shape
    if g.maybe(0.4):
        # A reshaped parameter, which is added.
        channels = shape[1]
        tensors, to = {}, g.rng.choice([[1, channels, 1, 1], [1, -1, 1, 1], [-1, channels, 1, 1], [1, 0, 1, 1]])
        source = g.draw(1, channels) if 0 in to else g.draw(channels)
        if g.maybe(0.2):
            tensors["Shape"] = g.param([1, channels, 1, 1], np.int32)
            to = [1, 1, 1, channels]
        bias = g.put("reshape2", (1, channels, 1, 1), X=g.param(source), extra=["XShape"], shape=to, **tensors)
        return g.finish(g.put("elementwise_add", g.shape(value), X=value, Y=bias, axis=-1))
    measured = value
    if g.maybe(0.3):
        measured = g.put("transpose2", (-1, -1, -1, -1), X=value, axis=[0, 1, 3, 2], extra=["XShape"])
    sides = g.put("shape", (4,), Input=measured)

    def pick(at):
        ends = {"starts": [at], "ends": [at + 1], "infer_flags": [1]}
        return g.put("slice", (1,), Input=sides, axes=[0], decrease_axis=[0], **ends)

    batch, channels, rows, columns = shape
    names = g.rng.choice(
        [
            lambda: [pick(0), fill(g, channels * rows), fill(g, g.rng.choice([-1, columns]))],
            lambda: [pick(0), pick(1), g.put("elementwise_mul", (1,), X=pick(2), Y=pick(3), axis=-1)],
            lambda: [pick(0), fill(g, channels), fill(g, -1)],
            lambda: [pick(0), pick(1), pick(2), fill(g, -1)],
            lambda: [pick(0), pick(1), fill(g, -1), pick(3)],
            lambda: [pick(1), pick(0), fill(g, rows * columns)],
            lambda: [pick(1), fill(g, batch * rows), fill(g, columns)],
            lambda: [fill(g, batch * rows), pick(1), fill(g, columns)],
        ]
    )()
    result = g.put("reshape2", (-1, -1, -1), X=value, ShapeTensor=names, extra=["XShape"], shape=[-1] * len(names))
    return g.finish(result, trouble=0.2)


def draw_slices(g):
    value = g.act("x", "assign")
    shape = list(g.array.shape)
    axes = g.rng.choice([[2], [2], [3], [1, 2], [-1]])
    starts = [g.rng.choice([0] * 4 + [-1]) for _ in axes]
    ends = [start + (1 if g.maybe(0.9) else 2) if start >= 0 else 2**31 - 1 for start in starts]
    tensors = {}
    if g.maybe(0.2) and starts == [0]:
        # It overrides the attribute.
        starts = [1]
        tensors["StartsTensor"] = g.param([0], np.int32)
        ends = [g.rng.choice([1, 2])]
    cut = [-1, *shape[1:]]
    for axis, start, end in zip(axes, starts, ends, strict=True):
        cut[axis] = 1 if start < 0 else min(end, shape[axis]) - (0 if tensors else start)
    rest = [place for place, side in enumerate(cut) if place and side == 1]
    dropped = axes if tensors else rest if g.maybe(0.75) else g.rng.choice([[axes[0]], [1], [2, 3], [-1]])
    part = g.put("slice", cut, Input=value, axes=axes, starts=starts, ends=ends, infer_flags=[1] * len(axes), **tensors)
    squeeze = {"AxesTensor": g.param([g.rng.choice(rest)], np.int32)} if g.maybe(0.2) and rest else {}
    gone = {axis % 4 for axis in dropped} & set(rest)
    left = [side for place, side in enumerate(cut) if place not in gone]
    extra = ["XShape"] if g.maybe(0.7) else ()
    return g.finish(g.put("squeeze2", left, X=part, extra=extra, axes=dropped, **squeeze))


def draw_old_ops(g):
    value = "x"
    for _ in range(3):
        kind = g.rng.choice(["swish", "beta", "transpose2", "unsqueeze2", "dropout"])
        shape = g.shape(value)
        extra = ["XShape"] if g.maybe(0.4) else ()
        if kind == "swish":
            value = g.act(value, "swish")
        elif kind == "beta":
            value = g.act(value, "swish", beta=g.rng.choice([1.0, 2.0]))
        elif kind == "transpose2":
            value = g.put(kind, shape, X=value, axis=list(range(len(shape))), extra=extra)
        elif kind == "unsqueeze2":
            value = g.put(kind, (*shape, 1), X=value, axes=[len(shape)], extra=extra)
        else:
            attrs = {"dropout_prob": 0.5, "is_test": True, "dropout_implementation": "downgrade_in_infer"}
            value = g.put(kind, shape, X=value, extra=["Mask"] if extra else (), **attrs)
    return g.finish(value)


def draw_networks(g):
    """Draw one of each, one after the other."""
    value = "x"
    for _ in range(2):
        value = draw_conv(g, value)
        if g.maybe(0.6):
            bias = g.put("reshape2", (1, 4, 1, 1), X=g.param(g.draw(4)), extra=["XShape"], shape=[1, 4, 1, 1])
            value = g.put("elementwise_add", (-1, 4, -1, -1), X=value, Y=bias, axis=-1)
        if g.maybe(0.5):
            names = {"Scale": g.draw(4), "Bias": g.draw(4), "Mean": g.draw(4), "Variance": np.abs(g.draw(4)) + 0.1}
            names = {slot: g.param(number) for slot, number in names.items()}
            attrs = {"is_test": True, "data_layout": "NCHW", "epsilon": 1e-3}
            value = put_batch_norm(g, value, names, attrs)
        if g.maybe(0.5):
            value = multiply(g, [value, g.act(value, "sigmoid")])
        vector, axis = g.vector(4)
        value = g.pair(g.rng.choice(["mul", "add"]), value, vector, axis)
        if g.maybe(0.4):
            value = g.act(draw_pool(g, value), "assign")
    value = draw_conv(g, value, size=1, pad=0, stride=1, groups=1, kind="conv2d")
    return g.finish(g.conv(value, 2), trouble=0.3)


def run_all(program):
    reports = run_passes(program)
    return max(reports, key=lambda report: report.changed)


PICTURES = [(2, 4, 8, 8), (1, 4, 4, 4), (2, 4, 5, 6), (1, 4, 7, 4)]
LARGE = [(2, 4, 16, 13), (1, 4, 12, 12)]
ROWS = [(2, 4, 4), (1, 3, 6), (2, 5, 1), (1, 4, 4, 4), (2, 1, 5, 5)]
# By pass: the function that draws its graphs, the shapes, and the range of the share that it changes.
PASSES = {
    drop_identities: (draw_identities, [*PICTURES, (1, 4, 1, 1)], 0.3, 0.9),
    fold_activations: (draw_activations, [*PICTURES, (3, 7), (1, 1)], 0.2, 0.8),
    fold_layer_norm: (draw_layer_norms, ROWS, 0.1, 0.8),
    cancel_layouts: (draw_layouts, [(2, 4, 1, 5), (1, 4, 1, 1), (2, 1, 3, 1), (1, 3, 1, 3)], 0.3, 0.9),
    fold_batch_norm: (draw_batch_norms, [(1, 4, 4, 4), *LARGE], 0.3, 0.9),
    fold_affine: (draw_affines, LARGE, 0.3, 0.95),
    merge_convs: (draw_conv_pairs, [(2, 4, 8, 9), (1, 4, 7, 7)], 0.15, 0.8),
    fold_gates: (draw_gates, [*PICTURES, (2, 1, 4, 4), (2, 4, 1, 1)], 0.15, 0.8),
    settle_shapes: (draw_reshapes, [(2, 3, 4, 5), (1, 4, 4, 4), (3, 1, 1, 6), (4, 4, 4, 4)], 0.2, 0.9),
    fold_slices: (draw_slices, [(2, 3, 4, 5), (2, 1, 4, 1), (1, 2, 2, 3), (1, 1, 1, 3)], 0.1, 0.8),
    restore_attributes: (draw_old_ops, PICTURES, 0.3, 0.98),
    run_all: (draw_networks, LARGE, 0.5, 1.0),
}


@pytest.mark.parametrize("apply", PASSES, ids=lambda apply: apply.__name__)
def test_a_pass_keeps_what_a_graph_computes(run, apply):
    check_pass(run, apply, *PASSES[apply])


def draw_classifier(rng):
    g = Graph(rng, rng.choice([(2, 7, 4), (1, 1, 4), (3, 5, 1)]))
    inputs, classes = g.array.shape[-1], g.rng.choice([3, 6])
    kind = g.rng.choice(["matmul_v2", "matmul", "mul"])
    is_transposed = kind != "mul" and g.maybe(0.4)
    weight = g.param(g.draw(*((classes, inputs) if is_transposed else (inputs, classes))))
    attrs = {
        "matmul_v2": {"trans_x": False, "trans_y": is_transposed},
        "matmul": {"transpose_X": False, "transpose_Y": is_transposed, "alpha": g.rng.choice([1.0, 0.5])},
        "mul": {"x_num_col_dims": 2, "y_num_col_dims": 1},
    }[kind]
    shape = (-1, -1, classes)
    value = g.put(kind, shape, X=g.act("x", "assign"), Y=weight, **attrs)
    if g.maybe(0.7):
        value = g.pair("add", value, g.param(g.draw(classes)), g.rng.choice([-1, 2]))
    has_softmax = g.maybe(0.7)
    if has_softmax:
        value = g.put("softmax", shape, X=value, axis=g.rng.choice([-1, 2]))
    kept = [0, *sorted(g.rng.sample(range(1, classes), g.rng.randint(1, classes - 1)))]
    g.rng.shuffle(kept[1:])
    return g.finish(value, trouble=0), kept, has_softmax


def test_pruning_keeps_the_kept_classes(run):
    for number in range(CASES):
        graph, kept, has_softmax = draw_classifier(random.Random(number))
        (whole,) = run(graph.program, graph.array).values()
        prune_charset(graph.program, kept)
        (pruned,) = run(graph.program, graph.array).values()
        chosen = whole[..., kept]
        expected = chosen / chosen.sum(-1, keepdims=True) if has_softmax else chosen
        np.testing.assert_allclose(pruned, expected, rtol=1e-5, atol=1e-5, err_msg=f"graph {number}")


def test_graphs_are_the_same_each_time():
    def sum_up():
        graphs = [draw_graph(apply.__name__, *PASSES[apply][:2], 7) for apply in PASSES]
        return [zlib.crc32(b"".join(graph.program.to_bytes())) for graph in graphs]

    first = sum_up()
    assert first == sum_up()
    assert len(set(first)) == len(first)
