"""What a converted model costs at given input shapes: every tensor's shape, multiply-adds, and bytes moved.

Counted for each op: multiply-adds of convolutions, `fc` and matrix products; the other ops have few and are
told apart by their bytes. Bytes of parameters as they are stored. Bytes of activations at 4 an element, each
input read once and each output written once; an activation function that is fused into an op adds nothing.
What moves no data counts none: `feed`, `fetch`, and ops that only give a tensor another shape in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NoReturn

from converters.lite.nb.read import MAX_RANK, NbModel, NbOp, NbParam
from edge_ocr.errors import ModelError

Shape = tuple[int, ...]

ELEMENT_BYTES = 4

# Values are followed through the program where they may become shapes; those are short.
_MAX_VALUES = 64


@dataclass(frozen=True)
class OpCost:
    """What one op costs."""

    index: int
    """Its place in the program."""
    type: str
    madds: int
    param_bytes: int
    read_bytes: int
    """Of activations."""
    written_bytes: int
    """Of activations."""
    input_shapes: tuple[Shape, ...]
    """Of its activations."""
    output_shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class CostTable:
    """What a program costs, op by op."""

    input_shapes: Mapping[str, Shape]
    output_shapes: Mapping[str, Shape]
    ops: tuple[OpCost, ...]

    @property
    def madds(self) -> int:
        """Return the multiply-adds of one run."""
        return sum(op.madds for op in self.ops)

    @property
    def param_bytes(self) -> int:
        """Return the bytes of parameters that one run reads."""
        return sum(op.param_bytes for op in self.ops)

    @property
    def read_bytes(self) -> int:
        """Return the bytes of activations that one run reads."""
        return sum(op.read_bytes for op in self.ops)

    @property
    def written_bytes(self) -> int:
        """Return the bytes of activations that one run writes."""
        return sum(op.written_bytes for op in self.ops)

    @property
    def activation_bytes(self) -> int:
        """Return the bytes of activations that one run reads and writes."""
        return self.read_bytes + self.written_bytes


@dataclass(frozen=True)
class _Tensor:
    shape: Shape
    values: tuple[int, ...] | None = None
    """Known for small tensors of integers."""
    param: NbParam | None = None


def compute_cost(model: NbModel, input_shapes: Mapping[str, Sequence[int]]) -> CostTable:
    """Follow the shapes of the inputs, by name, through `model` and count what each op costs.

    Raises ModelError, naming the op, where one is not known here or the shapes do not fit it.
    """
    names = [port.name for port in model.inputs]
    if sorted(input_shapes) != sorted(names):
        raise ModelError(f"shapes for the inputs {sorted(input_shapes)}, expected {sorted(names)}")
    if len(model.blocks) != 1:
        raise ModelError(f"a program of {len(model.blocks)} blocks, expected 1: branches and loops are not followed")
    tensors = {param.name: _Tensor(param.shape, param=param) for param in model.params.values()}
    costs = []
    outputs: dict[str, Shape] = {}
    for index, op in enumerate(model.blocks[0].ops):
        step = _Step(index, op, tensors, input_shapes)
        costs.append(step.run())
        if op.type == "fetch":
            outputs[op.inputs["X"][0]] = step.read("X").shape
    given = {name: tuple(input_shapes[name]) for name in names}
    return CostTable(MappingProxyType(given), MappingProxyType(outputs), tuple(costs))


@dataclass
class _Step:
    """One op at work on the tensors so far; opt's names are reused, so later ops see other shapes under them."""

    index: int
    op: NbOp
    tensors: dict[str, _Tensor]
    feeds: Mapping[str, Sequence[int]]
    madds: int = 0
    read_bytes: int | None = None
    """Where it is not the size of all inputs."""
    is_view: bool = False
    written: dict[str, _Tensor] = field(default_factory=dict)

    def run(self) -> OpCost:
        infer = _RULES.get(self.op.type)
        if infer is None:
            raise ModelError(
                f"op {self.index}: the cost of {self.op.type!r} is not known",
                "report it, or give the op a rule in converters/lite/nb/cost.py",
            )
        infer(self)
        inputs = [tensor for slot in self.op.inputs if self.op.type != "feed" for tensor in self.list_inputs(slot)]
        params = [tensor.param for tensor in inputs if tensor.param is not None]
        activations = [tensor for tensor in inputs if tensor.param is None]
        read_bytes = self.read_bytes
        if read_bytes is None:
            read_bytes = sum(map(_count_bytes, activations))
        written_bytes = sum(map(_count_bytes, self.written.values()))
        if self.is_view:
            read_bytes = written_bytes = 0
        self.tensors.update(self.written)
        return OpCost(
            index=self.index,
            type=self.op.type,
            madds=self.madds,
            param_bytes=sum(len(param.data) for param in params),
            read_bytes=read_bytes,
            written_bytes=written_bytes,
            input_shapes=tuple(tensor.shape for tensor in activations),
            output_shapes=tuple(tensor.shape for tensor in self.written.values()),
        )

    def fail(self, message: str) -> NoReturn:
        raise ModelError(f"op {self.index} ({self.op.type}): {message}")

    def list_inputs(self, slot: str) -> list[_Tensor]:
        names = self.op.inputs.get(slot, ())
        for name in names:
            if name not in self.tensors:
                self.fail(f"{slot} {name!r} was not computed before")
        return [self.tensors[name] for name in names]

    def find(self, slot: str) -> _Tensor | None:
        tensors = self.list_inputs(slot)
        if len(tensors) > 1:
            self.fail(f"{len(tensors)} tensors for {slot}, expected at most 1")
        return tensors[0] if tensors else None

    def read(self, slot: str, rank: int | None = None) -> _Tensor:
        tensor = self.find(slot)
        if tensor is None:
            self.fail(f"no {slot}, expected a tensor")
        if rank is not None and len(tensor.shape) != rank:
            self.fail(f"{slot} of shape {list(tensor.shape)}, expected {rank} sides")
        return tensor

    def read_values(self, slot: str) -> tuple[int, ...] | None:
        """Return the integers of a tensor, or of a list of tensors with one each; None where there is none."""
        tensors = self.list_inputs(slot)
        values: list[int] = []
        for tensor in tensors:
            if tensor.values is None or (len(tensors) > 1 and len(tensor.values) != 1):
                self.fail(f"the values of {slot} depend on the data, so shapes cannot be followed")
            values += tensor.values
            if len(values) > MAX_RANK:
                self.fail(f"more than {MAX_RANK} numbers for {slot}")
        return tuple(values) if tensors else None

    def write(self, slot: str, shape: Sequence[int], values: Sequence[int] | None = None) -> None:
        if len(shape) > MAX_RANK or any(not 0 < side < 2**31 for side in shape):
            self.fail(f"{slot} would have the shape {list(shape)[:MAX_RANK]}, expected sides from 1 to {2**31 - 1}")
        if values is not None and len(values) > _MAX_VALUES:
            values = None
        for name in self.op.outputs.get(slot, ())[:1]:
            self.written[name] = _Tensor(tuple(shape), None if values is None else tuple(values))

    def read_int(self, name: str, default: int) -> int:
        value = self.op.attrs.get(name, default)
        if not isinstance(value, int):
            self.fail(f"{name} is {value!r}, expected an integer")
        return value

    def read_ints(self, name: str, count: int | None = None, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        value = self.op.attrs.get(name, default)
        # A vector of one number may be written as the number.
        numbers = value if isinstance(value, tuple) else (value,)
        expected = f"at most {MAX_RANK}" if count is None else str(count)
        if len(numbers) > MAX_RANK or count not in (None, len(numbers)):
            self.fail(f"{name} has {len(numbers)} numbers, expected {expected}")
        if any(not isinstance(number, int) for number in numbers):
            self.fail(f"{name} is {value!r}, expected integers")
        return numbers

    def read_axis(self, name: str, rank: int, default: int) -> int:
        return self.check_axis(name, self.read_int(name, default), rank)

    def check_axis(self, name: str, axis: int, rank: int) -> int:
        if not -rank <= axis < rank:
            self.fail(f"{name} is {axis}, expected {-rank} to {rank - 1}")
        return axis % rank


def _count_bytes(tensor: _Tensor) -> int:
    return math.prod(tensor.shape) * ELEMENT_BYTES


def _feed(step: _Step) -> None:
    name = step.op.outputs["Out"][0]
    step.is_view = True
    step.write("Out", step.feeds[name])


def _fetch(step: _Step) -> None:
    step.is_view = True
    step.read("X")


def _keep_shape(step: _Step) -> None:
    tensor = step.read("X")
    step.write("Out", tensor.shape)


def _assign(step: _Step) -> None:
    tensor = step.read("X")
    step.write("Out", tensor.shape, tensor.values)


def _scale(step: _Step) -> None:
    tensor = step.read("X")
    scale, bias = step.op.attrs.get("scale", 1.0), step.op.attrs.get("bias", 0.0)
    is_plain = scale == 1 and isinstance(bias, float) and bias.is_integer() and step.find("ScaleTensor") is None
    values = [value + int(bias) for value in tensor.values] if tensor.values is not None and is_plain else None
    step.write("Out", tensor.shape, values)


def _elementwise(step: _Step) -> None:
    x, y = step.read("X").shape, step.read("Y").shape
    big, small = (x, y) if len(x) >= len(y) else (y, x)
    axis = step.read_int("axis", -1)
    if axis == -1:
        axis = len(big) - len(small)
    after = len(big) - len(small) - axis
    # A small tensor may end in sides of 1 that stand beyond the big one's last.
    while after < 0 and small and small[-1] == 1:
        small, after = small[:-1], after + 1
    if axis < 0 or after < 0:
        step.fail(f"axis {axis} does not fit the shapes {list(x)} and {list(y)}")
    padded = (1,) * axis + small + (1,) * after
    step.write("Out", _broadcast(step, big, padded))


def _broadcast(step: _Step, x: Shape, y: Shape) -> Shape:
    """Return the common shape of two that are equally long."""
    if any(a != b and 1 not in (a, b) for a, b in zip(x, y, strict=True)):
        step.fail(f"the shapes {list(x)} and {list(y)} do not fit together")
    return tuple(b if a == 1 else a for a, b in zip(x, y, strict=True))


def _list_windows(step: _Step, sides: Shape, kernel: Shape) -> Iterator[tuple[int, int, int]]:
    """Yield padding of both ends together, stride, and reach of the kernel for each of two sides."""
    strides = step.read_ints("strides", 2, (1, 1))
    dilations = step.read_ints("dilations", 2, (1, 1))
    paddings = step.read_ints("paddings", None, (0, 0))
    if len(paddings) == 2:
        paddings = (paddings[0], paddings[0], paddings[1], paddings[1])
    if len(paddings) != 4 or min(strides) < 1 or min(dilations) < 1 or min(kernel) < 1:
        step.fail(
            f"kernel {list(kernel)}, strides {list(strides)}, dilations {list(dilations)}, paddings {list(paddings)}; "
            "expected 2, 2, 2 and 2 or 4 numbers, all but paddings from 1"
        )
    algorithm = step.op.attrs.get("padding_algorithm", "EXPLICIT")
    for index, side in enumerate(sides):
        padding, stride = paddings[2 * index] + paddings[2 * index + 1], strides[index]
        reach = dilations[index] * (kernel[index] - 1) + 1
        if algorithm == "VALID":
            padding = 0
        elif algorithm == "SAME":
            # Paddle drops the dilation along with the paddings.
            reach = kernel[index]
            padding = max((-(-side // stride) - 1) * stride + reach - side, 0)
        yield padding, stride, reach


def _conv2d(step: _Step) -> None:
    batch, channels, *sides = step.read("Input", 4).shape
    out_channels, group_channels, *kernel = step.read("Filter", 4).shape
    groups = step.read_int("groups", 1)
    if groups < 1 or group_channels * groups != channels or out_channels % groups:
        step.fail(f"{channels} channels in {groups} groups for a filter of {[out_channels, group_channels, *kernel]}")
    out = [
        (side + padding - reach) // stride + 1
        for side, (padding, stride, reach) in zip(sides, _list_windows(step, tuple(sides), tuple(kernel)), strict=True)
    ]
    step.write("Output", (batch, out_channels, *out))
    step.madds = batch * out_channels * math.prod(out) * group_channels * math.prod(kernel)


def _conv2d_transpose(step: _Step) -> None:
    batch, channels, *sides = step.read("Input", 4).shape
    filter_channels, group_channels, *kernel = step.read("Filter", 4).shape
    groups = step.read_int("groups", 1)
    if groups < 1 or filter_channels != channels or channels % groups:
        step.fail(
            f"{channels} channels in {groups} groups for a filter of {[filter_channels, group_channels, *kernel]}"
        )
    extra = step.read_ints("output_padding") or (0, 0)
    out = [
        (side - 1) * stride - padding + reach + more
        for side, (padding, stride, reach), more in zip(
            sides, _list_windows(step, tuple(sides), tuple(kernel)), extra, strict=True
        )
    ]
    out = list(step.read_ints("output_size") or out)
    step.write("Output", (batch, group_channels * groups, *out))
    step.madds = batch * channels * math.prod(sides) * group_channels * math.prod(kernel)


def _pool2d(step: _Step) -> None:
    batch, channels, *sides = step.read("X", 4).shape
    kernel = step.read_ints("ksize", 2)
    if step.op.attrs.get("global_pooling"):
        out = [1, 1]
    elif step.op.attrs.get("adaptive"):
        out = list(kernel)
    else:
        round_up = bool(step.op.attrs.get("ceil_mode"))
        out = [
            (side + padding - reach + (stride - 1 if round_up else 0)) // stride + 1
            for side, (padding, stride, reach) in zip(sides, _list_windows(step, tuple(sides), kernel), strict=True)
        ]
    step.write("Out", (batch, channels, *out))


def _interpolate(step: _Step) -> None:
    batch, channels, *sides = step.read("X", 4).shape
    if step.find("Scale") is not None:
        step.fail("the scale depends on the data, so shapes cannot be followed")
    given = step.read_values("SizeTensor") or step.read_values("OutSize")
    scales = step.op.attrs.get("scale") or ()
    scales = scales if isinstance(scales, tuple) else (scales,)
    if given:
        out = list(given)
    elif scales:
        if len(scales) > 2 or any(not isinstance(scale, float) or not 0 < scale < 2**31 for scale in scales):
            step.fail(f"scale is {scales!r}, expected 1 or 2 numbers above 0")
        out = [int(sides[0] * scales[0]), int(sides[1] * scales[-1])]
    else:
        out = [step.read_int("out_h", -1), step.read_int("out_w", -1)]
    if len(out) != 2:
        step.fail(f"the size is {out}, expected 2 numbers")
    step.write("Out", (batch, channels, *out))


def _batch_norm(step: _Step) -> None:
    tensor = step.read("X")
    step.write("Y", tensor.shape)


def _reduce_mean(step: _Step) -> None:
    shape = step.read("X").shape
    axes = {step.check_axis("dim", axis, len(shape)) for axis in step.read_ints("dim", None)}
    if step.op.attrs.get("reduce_all") or len(axes) == len(shape):
        step.fail("over all sides, expected some that are left")
    is_kept = bool(step.op.attrs.get("keep_dim"))
    step.write("Out", [1 if axis in axes else side for axis, side in enumerate(shape) if is_kept or axis not in axes])


def _concat(step: _Step) -> None:
    tensors = step.list_inputs("X")
    if not tensors:
        step.fail("no X, expected tensors")
    first = tensors[0].shape
    given = step.read_values("AxisTensor")
    axis = step.check_axis("axis", given[0] if given else step.read_int("axis", 0), len(first))
    for tensor in tensors:
        if len(tensor.shape) != len(first) or any(
            a != b for place, (a, b) in enumerate(zip(first, tensor.shape, strict=True)) if place != axis
        ):
            step.fail(f"the shapes {list(first)} and {list(tensor.shape)} differ in other sides than {axis}")
    values: list[int] | None = []
    for tensor in tensors:
        if values is None or tensor.values is None or len(first) != 1 or len(values) > _MAX_VALUES:
            values = None
        else:
            values += tensor.values
    total = sum(tensor.shape[axis] for tensor in tensors)
    step.write("Out", (*first[:axis], total, *first[axis + 1 :]), values)


def _layer_norm(step: _Step) -> None:
    shape = step.read("X").shape
    rows = math.prod(shape[: step.read_axis("begin_norm_axis", len(shape), 1)])
    step.write("Y", shape)
    step.write("Mean", (rows,))
    step.write("Variance", (rows,))


def _fc(step: _Step) -> None:
    shape = step.read("Input").shape
    depth, columns = step.read("W", 2).shape
    # As Lite's fc does: what was a matmul keeps all sides but the last.
    split = len(shape) - 1 if step.op.attrs.get("op_type") in ("matmul", "matmul_v2") else None
    if split is None:
        split = step.read_axis("in_num_col_dims", len(shape), 1)
    if math.prod(shape[split:]) != depth:
        step.fail(f"an input of shape {list(shape)} for weights of {[depth, columns]}")
    step.write("Out", (*shape[:split], columns))
    step.madds = math.prod(shape[:split]) * depth * columns


def _matmul(step: _Step) -> None:
    x, y = step.read("X").shape, step.read("Y").shape
    if min(len(x), len(y)) < 2:
        step.fail(f"the shapes {list(x)} and {list(y)}, expected at least 2 sides each")
    rows, depth = (x[-1], x[-2]) if step.op.attrs.get("trans_x") else (x[-2], x[-1])
    y_depth, columns = (y[-1], y[-2]) if step.op.attrs.get("trans_y") else (y[-2], y[-1])
    if depth != y_depth:
        step.fail(f"the shapes {list(x)} and {list(y)} do not fit together")
    rank = max(len(x), len(y)) - 2
    batch = _broadcast(step, *((1,) * (rank - len(shape[:-2])) + shape[:-2] for shape in (x, y)))
    step.write("Out", (*batch, rows, columns))
    step.madds = math.prod(batch) * rows * depth * columns


def _transpose(step: _Step) -> None:
    shape = step.read("X").shape
    order = step.read_ints("axis", len(shape))
    if sorted(order) != list(range(len(shape))):
        step.fail(f"axis is {list(order)}, expected each of 0 to {len(shape) - 1} once")
    step.write("Out", [shape[axis] for axis in order])


def _give_shape(step: _Step, shape: Sequence[int]) -> None:
    tensor = step.read("X")
    # A tensor of as many elements; XShape, which some of these ops also name, is never written to.
    if math.prod(shape) != math.prod(tensor.shape):
        step.fail(f"an input of shape {list(tensor.shape)} cannot get the shape {list(shape)}")
    step.is_view = step.op.attrs.get("inplace") is True
    step.read_bytes = _count_bytes(tensor)
    step.write("Out", shape, tensor.values)


def _reshape(step: _Step) -> None:
    old = step.read("X").shape
    wanted = step.read_values("ShapeTensor") or step.read_values("Shape") or step.read_ints("shape")
    if wanted.count(-1) > 1 or any(side == 0 and place >= len(old) for place, side in enumerate(wanted)):
        step.fail(f"an input of shape {list(old)} cannot get the shape {list(wanted)}")
    new = [old[place] if side == 0 else side for place, side in enumerate(wanted)]
    if -1 in new:
        rest = -math.prod(new)
        new[new.index(-1)] = math.prod(old) // rest if rest > 0 else 0
    _give_shape(step, new)


def _flatten(step: _Step) -> None:
    shape = step.read("X").shape
    start = step.read_axis("start_axis", len(shape), 1)
    stop = step.read_axis("stop_axis", len(shape), -1)
    if start > stop:
        step.fail(f"start_axis is {start}, expected at most stop_axis, which is {stop}")
    _give_shape(step, (*shape[:start], math.prod(shape[start : stop + 1]), *shape[stop + 1 :]))


def _squeeze(step: _Step) -> None:
    shape = step.read("X").shape
    axes = {step.check_axis("axes", axis, len(shape)) for axis in step.read_ints("axes")}
    _give_shape(step, [side for place, side in enumerate(shape) if side != 1 or (axes and place not in axes)] or [1])


def _unsqueeze(step: _Step) -> None:
    shape = list(step.read("X").shape)
    for axis in step.read_values("AxesTensorList") or step.read_values("AxesTensor") or step.read_ints("axes"):
        shape.insert(step.check_axis("axes", axis, len(shape) + 1), 1)
    _give_shape(step, shape)


def _shape(step: _Step) -> None:
    shape = step.read("Input").shape
    step.read_bytes = 0
    step.write("Out", (len(shape),), shape)


def _slice(step: _Step) -> None:
    tensor = step.read("Input")
    shape = list(tensor.shape)
    axes = step.read_ints("axes")
    starts, ends = (
        step.read_values(f"{side}TensorList") or step.read_values(f"{side}Tensor") or step.read_ints(side.lower())
        for side in ("Starts", "Ends")
    )
    if not len(axes) == len(starts) == len(ends):
        step.fail(f"axes {list(axes)}, starts {list(starts)}, ends {list(ends)}, expected as many of each")
    values = tensor.values
    for axis, start, end in zip(axes, starts, ends, strict=True):
        place = step.check_axis("axes", axis, len(shape))
        picked = range(shape[place])[start:end]
        shape[place] = len(picked)
        if values is not None and len(shape) == 1:
            values = tuple(values[index] for index in picked)
    dropped = {step.check_axis("decrease_axis", axis, len(shape)) for axis in step.read_ints("decrease_axis")}
    step.read_bytes = math.prod(shape) * ELEMENT_BYTES
    # Lite has no tensor without sides.
    step.write("Out", [side for place, side in enumerate(shape) if place not in dropped] or [1], values)


def _fill_constant(step: _Step) -> None:
    given = step.read_values("ShapeTensorList") or step.read_values("ShapeTensor")
    shape = given or step.read_ints("shape") or (1,)
    text, number = step.op.attrs.get("str_value", ""), step.op.attrs.get("value", 0.0)
    value = None
    if step.find("ValueTensor") is None:
        try:
            value = float(text) if text else float(number)
        except (TypeError, ValueError):
            step.fail(f"value is {text or number!r}, expected a number")
    size = math.prod(shape) if len(shape) <= MAX_RANK else _MAX_VALUES + 1
    is_known = value is not None and value.is_integer() and 0 < size <= _MAX_VALUES
    step.write("Out", shape, [int(value)] * size if is_known and value is not None else None)


_RULES: Mapping[str, Callable[[_Step], None]] = MappingProxyType(
    {
        "feed": _feed,
        "fetch": _fetch,
        **dict.fromkeys(
            ("clip", "erf", "gelu", "hard_sigmoid", "hard_swish", "leaky_relu", "pow", "relu", "relu6", "sigmoid"),
            _keep_shape,
        ),
        **dict.fromkeys(("softmax", "sqrt", "swish", "tanh"), _keep_shape),
        **dict.fromkeys(
            ("elementwise_add", "elementwise_div", "elementwise_mul", "elementwise_pow", "elementwise_sub"),
            _elementwise,
        ),
        "assign": _assign,
        "batch_norm": _batch_norm,
        "bilinear_interp_v2": _interpolate,
        "concat": _concat,
        "conv2d": _conv2d,
        "conv2d_transpose": _conv2d_transpose,
        "depthwise_conv2d": _conv2d,
        "fc": _fc,
        "fill_constant": _fill_constant,
        "flatten_contiguous_range": _flatten,
        "layer_norm": _layer_norm,
        "matmul_v2": _matmul,
        "nearest_interp_v2": _interpolate,
        "pool2d": _pool2d,
        "reduce_mean": _reduce_mean,
        "reshape2": _reshape,
        "scale": _scale,
        "shape": _shape,
        "slice": _slice,
        "squeeze2": _squeeze,
        "transpose2": _transpose,
        "unsqueeze2": _unsqueeze,
    }
)
