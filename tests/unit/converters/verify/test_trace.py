from dataclasses import replace
from functools import cache
from types import MappingProxyType

import cv2
import numpy as np
import pytest

from converters.graph.passes import run_passes
from converters.graph.passes.mark_int8 import mark_int8
from converters.lite.nb.read import read_nb
from converters.lite.nb.to_onnx import build_graph
from converters.lite.opt import run_opt
from converters.report import Trace, TracedTensor
from converters.sources.program import read_program
from converters.verify.trace import LIMIT_BYTES, THRESHOLDS, describe_trace, trace_model
from edge_ocr.errors import ModelError, NotVerifiedError, UsageError

# Height and width: small, because every tensor is compared with all of its shape.
SIZES = {"det": (64, 96), "rec": (48, 96), "cls": (48, 192)}


@pytest.fixture(scope="session")
def arrays(examples):
    """A picture of text as input of each network."""
    image = cv2.imread(str(examples / "sign.png"))
    return {
        kind: ((cv2.resize(image, (width, height)) / 255 - 0.5) / 0.5).astype(np.float32).transpose(2, 0, 1)[None]
        for kind, (height, width) in SIZES.items()
    }


@pytest.fixture(scope="session")
def find_model(export):
    """Return the exported model of a kind; the bundle is made once."""

    def find(kind, **options):
        report = export(with_cls=True, **options)
        return next(model for model in report.models if model.source.model.kind == kind)

    return find


@pytest.fixture(scope="session")
def trace(find_model, arrays):
    """Trace a model on the picture after applying `change` to the .nb."""

    @cache
    def run(kind, change=None, *, kept_classes=None, **options):
        model = find_model(kind, **options)
        nb = model.nb if change is None else change(model.nb)
        program, precision = model.source.model.program, options.get("precision", "fp32")
        return trace_model(program, build_graph(nb, kind), arrays[kind], precision, nb, kept_classes=kept_classes)

    return run


def list_readers(nb, types, ending=".w_0"):
    """The ops of these types that read a parameter with a matching name, by that name."""
    return {
        name: op
        for op in nb.blocks[0].ops
        if op.type in types
        for names in op.inputs.values()
        for name in names
        if name in nb.params and name.endswith(ending)
    }


def find_index(nb, op):
    return next(index for index, other in enumerate(nb.blocks[0].ops) if other is op)


def replace_op(nb, op, **attrs):
    ops = tuple(
        replace(one, attrs=MappingProxyType({**one.attrs, **attrs})) if one is op else one for one in nb.blocks[0].ops
    )
    return replace(nb, blocks=(replace(nb.blocks[0], ops=ops),))


def scale_param(nb, name, factor):
    param = nb.params[name]
    data = memoryview((param.to_array() * np.float32(factor)).astype(param.dtype).tobytes())
    return replace(nb, params=MappingProxyType({**nb.params, name: replace(param, data=data)}))


def get_parted(found):
    return found.tensors[found.first_parted]


# --- healthy bundles


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("det", {}),
        pytest.param("rec", {}, marks=pytest.mark.slow),
        ("cls", {}),
        pytest.param("det", {"optimize": False}, marks=pytest.mark.slow),
        ("rec", {"optimize": False}),
        pytest.param("det", {"precision": "int8"}, marks=pytest.mark.slow),
        ("rec", {"precision": "int8"}),
        pytest.param("cls", {"precision": "int8"}, marks=pytest.mark.slow),
        pytest.param("rec", {"precision": "int16"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_no_op_of_a_healthy_bundle_differs(trace, find_model, kind, options):
    found = trace(kind, **options)
    assert (found.first_parted, found.last_agreed, found.between) == (None, None, ())
    # Every tensor has its counterpart, including those that passes made, other than single rows.
    known = [tensor for tensor in found.tensors if tensor.agrees]
    assert all(tensor.reference for tensor in known)
    assert {tensor.op_type for tensor in found.tensors if not tensor.agrees} <= WITHOUT_COUNTERPART
    assert found.threshold == THRESHOLDS[options.get("precision", "fp32")]
    assert max(tensor.relative_diff for tensor in known) < found.threshold / 1.5
    ops = find_model(kind, **options).nb.blocks[0].ops
    for tensor in found.tensors:
        op = ops[tensor.index]
        assert tensor.op_type == op.type
        assert tensor.variable in {name for names in op.outputs.values() for name in names}
        assert set(tensor.params) <= {name for names in op.inputs.values() for name in names}
    assert describe_trace(kind, found).startswith(f"{kind}: no op differs: {len(known)} of {len(found.tensors)}")


def test_tensors_made_by_passes_are_matched(trace):
    references = [tensor.reference for tensor in trace("det").tensors]
    assert sum(" / " in reference for reference in references) > 10
    assert sum(reference.startswith("1 + ") for reference in references) == 8
    assert not any(" / " in tensor.reference for tensor in trace("det", optimize=False).tensors)


# The rows that `fit_kernels` computes, splits off and puts together.
WITHOUT_COUNTERPART = {"depthwise_conv2d", "reshape2", "split", "concat"}


def test_rounding_is_judged_op_by_op(trace):
    found = trace("rec", precision="int8")
    known = [tensor for tensor in found.tensors if tensor.agrees]
    assert {tensor.op_type for tensor in found.tensors if not tensor.agrees} <= WITHOUT_COUNTERPART
    # The rounding of all ops together hides an error in one.
    assert max(tensor.accumulated_diff for tensor in known) > 2 * max(tensor.relative_diff for tensor in known)
    exact = [tensor for tensor in known if not tensor.params]
    assert max(tensor.relative_diff for tensor in exact) < THRESHOLDS["fp32"]


def test_fewer_classes(trace, find_model):
    options = {"precision": "int8", "charset": "ascii"}
    model = find_model("rec", **options)
    # The blank first, then the dictionary's own order, the space last.
    characters = [*(model.source.model.dictionary or ()), " "]
    kept = (0, *(place + 1 for place, text in enumerate(characters) if len(text) == 1 and " " <= text <= "~"))
    found = trace("rec", kept_classes=kept, **options)
    assert found.first_parted is None
    assert {tensor.op_type for tensor in found.tensors if not tensor.agrees} <= WITHOUT_COUNTERPART
    # All characters swapped with their neighbours.
    assert get_parted(trace("rec", kept_classes=(0, *kept[2:], kept[1]), **options)).op_type == "fc"
    with pytest.raises(NotVerifiedError, match=rf"\[1, 12, {len(kept)}\].*\[1, 12, 6625\]") as caught:
        trace("rec", **options)
    assert "classes" in caught.value.hint
    with pytest.raises(UsageError, match=r"0 .*6624"):
        trace("rec", kept_classes=(0, 6625), **options)


# --- bundles with one fault


@pytest.mark.parametrize(
    ("kind", "types", "place"),
    [
        ("det", ("conv2d",), 0),
        pytest.param("det", ("depthwise_conv2d",), 6, marks=pytest.mark.slow),
        ("det", ("conv2d",), -1),
        pytest.param("rec", ("depthwise_conv2d",), 2, marks=pytest.mark.slow),
        ("rec", ("fc",), 3),
        pytest.param("rec", ("fc",), -1, marks=pytest.mark.slow),
        ("cls", ("conv2d",), 20),
    ],
)
def test_changed_weights_are_found(trace, find_model, kind, types, place):
    nb = find_model(kind).nb
    name, op = list(list_readers(nb, types).items())[place]
    found = trace(kind, lambda nb: scale_param(nb, name, 1.5))
    parted = get_parted(found)
    assert (parted.index, parted.agrees) == (find_index(nb, op), False)
    assert name in parted.params
    assert found.between == ()
    assert parted.relative_diff > 0.05
    text = describe_trace(kind, found)
    assert text.startswith(f"{kind}: op {parted.index} {op.type} (reads ")
    assert "is the first that differs from " in text
    if found.last_agreed is None:
        assert parted.index == 1
        assert text.endswith("; it reads the input")
    else:
        agreed = found.tensors[found.last_agreed]
        assert agreed.agrees
        assert agreed.index < parted.index
        assert f"its input, op {agreed.index} {agreed.op_type}" in text
    # The tensors are compared with the right ones of the source.
    program = read_program(*(find_model(kind).source.model.program.with_suffix(s) for s in (".pdmodel", ".pdiparams")))
    base = parted.reference.split(" / ")[0].split(", ")[0]
    assert base in {n for op in program.ops for slot in op.outputs for n in slot.arguments}


def test_a_changed_convolution_of_rows_is_found(trace, find_model):
    nb = find_model("rec").nb
    name, op = list(list_readers(nb, ("depthwise_conv2d",)).items())[3]
    found = trace("rec", lambda nb: scale_param(nb, name, 1.5))
    # Every other row of it is split off behind it.
    assert found.first_parted is not None
    doubtful = [found.tensors[place].index for place in (*found.between, found.first_parted)]
    assert find_index(nb, op) in doubtful
    assert max(doubtful) - min(doubtful) <= 5


@pytest.mark.parametrize("part", [0, 2])
def test_a_changed_part_of_a_product_is_found(trace, find_model, part):
    nb = find_model("rec").nb
    name, op = list(list_readers(nb, ("fc",), f".part{part}").items())[-1]
    found = trace("rec", lambda nb: scale_param(nb, name, 1.5))
    assert get_parted(found).index == find_index(nb, op)
    assert found.between == ()


@pytest.mark.parametrize(
    ("kind", "type_", "ending"), [("det", "elementwise_add", ".w_1"), ("rec", "layer_norm", ".w_0")]
)
def test_changed_vectors_are_found(trace, find_model, kind, type_, ending):
    nb = find_model(kind).nb
    name, op = list(list_readers(nb, (type_,), ending).items())[2]
    assert get_parted(trace(kind, lambda nb: scale_param(nb, name, 1.5))).index == find_index(nb, op)


@pytest.mark.parametrize(
    ("kind", "types", "place"), [("det", ("conv2d",), 9), ("rec", ("fc",), 3), ("cls", ("fc",), 0)]
)
def test_changed_scales_are_found(trace, find_model, kind, types, place):
    nb = find_model(kind, precision="int8").nb
    name, op = list(list_readers(nb, types).items())[place]
    scales = op.quantisation.scales[name]
    more = tuple(1.5 * scale for scale in scales)
    found = trace(kind, lambda nb: replace_op(nb, op, **{f"{name}_quant_scale": more}), precision="int8")
    assert get_parted(found).index == find_index(nb, op)
    assert found.between == ()


@pytest.mark.parametrize("kind", ["det", "cls"])
def test_changed_attributes_are_found(trace, find_model, kind):
    nb = find_model(kind).nb
    op = next(op for op in nb.blocks[0].ops if op.type == "hard_swish")
    found = trace(kind, lambda nb: replace_op(nb, op, offset=2.5))
    assert get_parted(found).index == find_index(nb, op)
    assert get_parted(found).params == ()


def test_a_gate_that_a_pass_made(trace, find_model):
    nb = find_model("det").nb
    op = [op for op in nb.blocks[0].ops if op.type == "scale"][3]
    found = trace("det", lambda nb: replace_op(nb, op, bias=0.5))
    assert get_parted(found).index == find_index(nb, op)
    assert get_parted(found).reference.startswith("1 + ")


def test_a_range_is_given_if_no_counterpart_is_known(trace, find_model):
    nb = find_model("rec").nb
    op = next(iter(list_readers(nb, ("fc",)).values()))
    names = (*op.inputs["W"], *op.inputs["Bias"])

    def change(nb):
        # Under other names, in an op of another type: matmul and addition, in the source.
        nb = scale_param(nb, names[0], 1.5)
        params = {f"other_{name}" if name in names else name: param for name, param in nb.params.items()}
        inputs = {slot: tuple(f"other_{n}" if n in names else n for n in read) for slot, read in op.inputs.items()}
        ops = tuple(replace(one, inputs=inputs) if one is op else one for one in nb.blocks[0].ops)
        return replace(nb, params=params, blocks=(replace(nb.blocks[0], ops=ops),))

    found = trace("rec", change)
    doubtful = [found.tensors[place] for place in (*found.between, found.first_parted)]
    assert [tensor.op_type for tensor in doubtful] == ["fc", "elementwise_add", "layer_norm"]
    assert doubtful[0].index == find_index(nb, op)
    assert found.last_agreed < found.between[0]
    assert f"rec: one of op {doubtful[0].index} fc (reads other_" in describe_trace("rec", found)


def test_the_first_of_two_is_named(trace, find_model):
    nb = find_model("rec").nb
    first, second = (list(list_readers(nb, ("fc",)).items())[place] for place in (0, 5))
    found = trace("rec", lambda nb: scale_param(scale_param(nb, second[0], 1.5), first[0], 0.5))
    assert get_parted(found).index == find_index(nb, first[1])


def test_values_that_are_not_finite_differ(trace, find_model):
    name, op = list(list_readers(find_model("cls").nb, ("conv2d",)).items())[5]
    found = trace("cls", lambda nb: scale_param(nb, name, np.inf))
    parted = get_parted(found)
    assert parted.index == find_index(find_model("cls").nb, op)
    assert (parted.max_abs_diff, parted.relative_diff, parted.agrees) == (np.inf, np.inf, False)


def test_another_model(trace, find_model, arrays):
    # The graph of one recogniser, the weights of another: nothing fits from the first op on.
    def shuffle(nb):
        for name in list_readers(nb, ("conv2d", "depthwise_conv2d")):
            nb = scale_param(nb, name, -2)
        return nb

    found = trace("rec", shuffle)
    assert get_parted(found).index == 1
    assert found.last_agreed is None


# --- what computes in 8-bit integers

# The last two share 8 bits between them. Ranges of these inputs on pictures of text.
RANGES = {"conv2d_407.w_0": 14.0, "conv2d_409.w_0": 16.0, "conv2d_421.w_0": 17.0, "conv2d_153.w_0": 6.0}


@pytest.fixture(scope="module")
def computing(find_model, opt, tmp_path_factory):
    """The detector with four convolutions in 8 bits."""
    model = find_model("det").source.model
    program = read_program(model.program, model.params)
    run_passes(program)
    mark_int8(program, RANGES)
    folder = tmp_path_factory.mktemp("int8")
    files = (folder / "det.pdmodel", folder / "det.pdiparams")
    program.write(*files)
    return read_nb(run_opt(opt.python, *files, folder / "det", valid_places="arm"))


@pytest.fixture
def trace_computing(find_model, arrays):
    def trace_computing(nb):
        program = find_model("det").source.model.program
        return trace_model(program, build_graph(nb, "det"), arrays["det"], "fp32", nb)

    return trace_computing


def test_tensors_of_8_bits_are_compared_by_their_values(computing, trace_computing):
    found = trace_computing(computing)
    assert found.first_parted is None
    assert found.threshold == THRESHOLDS["int8"]
    by_params = {name: tensor for tensor in found.tensors for name in tensor.params}
    for name in RANGES:
        assert 1e-3 < by_params[name].relative_diff < THRESHOLDS["int8"]
    assert {tensor.op_type for tensor in found.tensors if tensor.agrees} >= {"calib", "conv2d"}


@pytest.mark.parametrize(("name", "attr"), [("conv2d_409.w_0", "Filter0_scale"), ("conv2d_421.w_0", "Output0_scale")])
def test_a_wrong_scale_is_found(computing, trace_computing, name, attr):
    (block,) = computing.blocks
    place = next(place for place, op in enumerate(block.ops) if name in op.inputs.get("Filter", ()))
    op = block.ops[place]
    wrong = replace(op, attrs={**op.attrs, attr: tuple(value * 1.5 for value in op.attrs[attr])})
    ops = (*block.ops[:place], wrong, *block.ops[place + 1 :])
    parted = get_parted(trace_computing(replace(computing, blocks=(replace(block, ops=ops),))))
    # The reader of 8 bits shows what is wrong with the scale that they were written with.
    assert parted.index in (place, place + 1)


# --- what cannot be traced


def test_models_of_another_kind_are_refused(find_model, arrays):
    det, cls = find_model("det"), find_model("cls")
    with pytest.raises(NotVerifiedError, match=r"\[1, 2\].*\[1, 1, 64, 96\]"):
        trace_model(det.source.model.program, build_graph(cls.nb, "cls"), arrays["det"], "fp32", cls.nb)


def test_inputs_that_do_not_fit_are_refused(find_model, arrays):
    model = find_model("rec")
    graph = build_graph(model.nb, "rec")
    for array in (arrays["rec"][0], arrays["rec"][:, :1], arrays["rec"][..., :2]):
        with pytest.raises(NotVerifiedError, match="×".join(map(str, array.shape))):
            trace_model(model.source.model.program, graph, array, "fp32", model.nb)
    with pytest.raises(UsageError, match="'fp16'"):
        trace_model(model.source.model.program, graph, arrays["rec"], "fp16", model.nb)


def test_memory_is_bounded(find_model):
    model = find_model("det")
    array = np.zeros((1, 3, 2048, 2048), np.float32)
    with pytest.raises(NotVerifiedError, match=rf"1×3×2048×2048.* {LIMIT_BYTES}") as caught:
        trace_model(model.source.model.program, build_graph(model.nb), array, "fp32", model.nb)
    assert "smaller" in caught.value.hint


@pytest.mark.parametrize(("name", "error"), [("inference.json", NotVerifiedError), ("inference.pdmodel", ModelError)])
def test_sources_that_cannot_be_read_are_refused(find_model, arrays, tmp_path, name, error):
    model = find_model("cls")
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(error):
        trace_model(tmp_path / name, build_graph(model.nb), arrays["cls"], "fp32", model.nb)


# --- texts


def make_tensor(index, *, agrees=True, reference="r", diff=1e-6):
    return TracedTensor(index, "relu", "x", (), reference, diff, diff, agrees, diff)


def test_a_range_is_named():
    tensors = (make_tensor(3), *(make_tensor(index, agrees=False, diff=0.5) for index in range(4, 9)))
    text = describe_trace("det", Trace(tensors, 2, 0, 1e-4, (1,)))
    assert text == (
        "det: one of op 4 relu, op 5 relu is the first that differs from 'r': max |Δ| 0.5, relative 0.5, "
        "expected at most 0.0001; its input, op 3 relu, agrees with 'r' (1e-06)"
    )
    assert "one of op 4 relu to op 8 relu is the first" in describe_trace(
        "det", Trace(tensors, 5, 0, 1e-4, (1, 2, 3, 4))
    )


def test_a_tensor_without_reference_is_described():
    lone = make_tensor(1, agrees=False, reference=None, diff=np.inf)
    assert describe_trace("rec", Trace((lone,), 0, None, 1e-4)) == (
        "rec: op 1 relu is the first that differs: max |Δ| inf, relative inf, expected at most 0.0001; "
        "it reads the input"
    )
    assert describe_trace("rec", Trace((lone,), None, None, 1e-4)) == "rec: no op differs"
