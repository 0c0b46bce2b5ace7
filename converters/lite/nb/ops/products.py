"""Matrix products, normalisations and reductions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from converters.lite.nb.builder import OpRule, OpShapes, Shape, Step
from converters.lite.nb.ops import integers
from converters.lite.nb.ops.elementwise import activate


def _fc(step: Step) -> None:
    is_int8 = integers.is_computed(step)
    if is_int8:
        value = step.read_int8("Input")
        weights_name, shape = integers.read_integers(step, "W")
    else:
        value = step.read_floats("Input")
        weights_name, shape = step.read_param("W")
    if len(shape) != 2 or step.op.attrs.get("padding_weights"):
        step.fail(f"weights of shape {list(shape)}, expected 2-D without padding")
    # As in Lite's fc, a former matmul keeps all dimensions but the last.
    split = value.rank - 1
    if step.op.attrs.get("op_type") not in ("matmul", "matmul_v2"):
        split = step.read_axis("in_num_col_dims", value.rank, 1)
    if split < 1:
        step.fail(f"a {value.rank}-D input with {split} dimensions for rows, expected at least 1")
    if is_int8 and split == 1:
        # Measured: the runtime packs the weights for one row or for several, whichever comes first, and is wrong for
        # the other.
        step.fail("computes in 8-bit integers on one row per picture, expected several: batches may have one row")
    name = value.name
    if split < value.rank - 1:
        name = step.add("Reshape", [name, step.graph.add_ints([0] * split + [-1])])
    names = [name, weights_name]
    out = integers.add_sums(step, "MatMul", names) if is_int8 else step.add("MatMul", names)
    kind = step.op.attrs.get("activation_type", "")
    if is_int8:
        out = integers.scale_sums(step, out, "W", 2)
    elif step.has("Bias"):
        out = step.add("Add", [out, step.read_bias(shape[1])])
    elif kind:
        step.fail(f"the fused activation {kind!r} without Bias, which the runtime skips for several rows")
    scale = integers.read_output_scale(step, "Out") if is_int8 else None
    activate(step, out, split + 1, "Out", kind, "alpha", scale)


def _matmul(step: Step) -> None:
    names, ranks = [], []
    for slot, attr in (("X", "trans_x"), ("Y", "trans_y")):
        value = step.read_floats(slot)
        if value.rank < 2:
            step.fail(f"{slot} is {value.rank}-D, expected at least 2-D")
        name = value.name
        if step.op.attrs.get(attr) is True:
            order = [*range(value.rank - 2), value.rank - 1, value.rank - 2]
            name = step.add("Transpose", [name], perm=order)
        names.append(name)
        ranks.append(value.rank)
    alpha = step.read_number("alpha", 1.0)
    if alpha != 1:
        step.give("Mul", [step.add("MatMul", names), step.graph.add_float(alpha)], max(ranks))
    else:
        step.give("MatMul", names, max(ranks))


def _batch_norm(step: Step) -> None:
    value = step.read_floats("X")
    # The runtime's kernel multiplies all dimensions behind the channels (kernels/arm/batch_norm_compute.cc); 3-D was
    # measured on the ARM library with PP-OCRv6 tiny, other ranks were not.
    if value.rank not in (3, 4):
        step.fail(f"X is {value.rank}-D, expected 3-D or 4-D")
    if step.op.attrs.get("is_test") not in (True, 1) or step.op.attrs.get("data_layout", "NCHW") != "NCHW":
        step.fail("expected inference with channels in the second dimension")
    names = [step.read_floats(slot, 1).name for slot in ("Scale", "Bias", "Mean", "Variance")]
    epsilon = step.read_number("epsilon", 1e-5)
    step.give("BatchNormalization", [value.name, *names], value.rank, "Y", epsilon=epsilon)


def _layer_norm(step: Step) -> None:
    value = step.read_floats("X")
    axis = step.read_axis("begin_norm_axis", value.rank, 1)
    if axis != value.rank - 1 or not step.has("Scale"):
        step.fail(f"over axes {axis} to {value.rank - 1}, expected over the last axis with a scale")
    inputs = [value.name, step.read_floats("Scale", 1).name]
    if step.has("Bias"):
        inputs.append(step.read_floats("Bias", 1).name)
    step.give("LayerNormalization", inputs, value.rank, "Y", axis=-1, epsilon=step.read_number("epsilon", 1e-5))


def _softmax(step: Step) -> None:
    value = step.read_floats("X")
    if step.op.attrs.get("eleminate_success") is True:
        step.fail("eleminate_success is set, expected no fused softmax")
    step.give("Softmax", [value.name], value.rank, axis=step.read_axis("axis", value.rank, -1))


def _reduce_mean(step: Step) -> None:
    # The runtime's kernel supports 4-D inputs only; it invents missing dimensions.
    value = step.read_floats("X", 4)
    axes = [step.check_axis("dim", axis, value.rank) for axis in step.read_ints("dim")]
    if step.op.attrs.get("reduce_all") is True or axes not in ([0], [1], [2], [3], [0, 1], [1, 2], [2, 3]):
        step.fail(f"over axes {axes}, which the runtime does not support")
    is_kept = step.op.attrs.get("keep_dim") is True
    step.give("ReduceMean", [value.name], 4 if is_kept else 4 - len(axes), axes=axes, keepdims=int(is_kept))


def _count_fc(shapes: OpShapes) -> int:
    return math.prod(shapes.output) * shapes.inputs["W"][0][0]


def _count_matmul(shapes: OpShapes) -> int:
    return math.prod(shapes.output) * shapes.inputs["X"][0][-2 if shapes.op.attrs.get("trans_x") is True else -1]


def _list_rows(shapes: OpShapes) -> Mapping[str, Shape]:
    rows = (math.prod(shapes.output[:-1]),)
    return {"Mean": rows, "Variance": rows}


RULES: Mapping[str, OpRule] = MappingProxyType(
    {
        "batch_norm": OpRule(_batch_norm),
        "fc": OpRule(_fc, _count_fc, activations=("relu", "relu6"), scaled_axis=(1, 2), has_int8=True),
        "layer_norm": OpRule(_layer_norm, list_statistics=_list_rows),
        "matmul_v2": OpRule(_matmul, _count_matmul),
        "reduce_mean": OpRule(_reduce_mean),
        "softmax": OpRule(_softmax),
    }
)
