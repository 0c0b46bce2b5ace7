"""Finds the first op of a `.nb` that differs from its source model.

Both graphs run on the same input, with every tensor as an output. Names do not identify tensors, because opt lets
several share one variable. So each tensor of the `.nb` is compared with all source tensors of its shape, and with what
`graph.passes` make of these: x / s if a factor s moved on, 1 + s if a residual became part of a gate, x with one more
dimension if a squeeze moved on, the same numbers in another order. The nearest one is its counterpart.

If the counterpart is near enough, later ops run again on its values instead of the `.nb`'s own. In the end each op is
judged alone, on the inputs it should have. Rounding to 8 bits, which accumulates to a relative difference of a third
over a recogniser, and of 20 on a blank picture, stays below a tenth per op. And a wrong op shows even if a residual
outweighs it or a later softmax hides it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from converters.graph.passes.affine import read_affine
from converters.lite.nb.builder import GraphTensor
from converters.lite.nb.read import NbModel
from converters.lite.nb.to_onnx import NbGraph
from converters.report import Trace, TracedTensor
from converters.sources.onnx import import_onnx
from converters.sources.ops import PADDLE_OPS
from converters.sources.program import (
    Op,
    Program,
    get_attr,
    get_input,
    get_output,
    list_inputs,
    list_outputs,
    read_program,
)
from converters.verify.views import View, list_views
from edge_ocr.errors import NotVerifiedError, UsageError

Floats = NDArray[np.float32]

THRESHOLDS: Mapping[str, float] = MappingProxyType({"fp32": 1e-4, "int16": 1e-3, "int8": 0.15})
"""By precision: the highest relative difference, ‖a - b‖ / ‖b‖, of a tensor that agrees with its counterpart.

Measured for single ops of PP-OCRv4 mobile and its classifier, on pictures of 26 words and 8 pages, noise, and blank
pictures. fp32: at most 2e-6 (1e-5 for an average over equal numbers), and 2e-5 including the ops before. int16: 4e-4.
int8: 0.07 on words, 0.03 on pages, 0.1 on blank pictures.
"""

LIMIT_BYTES = 2**30
"""The limit for all tensors of one network, which are in memory at once."""

# Each round is one run. Two or three suffice unless rounding distorts all tensors at first.
_MAX_ROUNDS = 12

# `split_projections` names parts of a parameter so, and makes these ops unnecessary.
_PART = ".part"
_CUTS = frozenset(("reshape2", "slice", "squeeze2", "transpose2"))

# No pass moves a smaller factor.
_SMALLEST_FACTOR = 1e-12


def trace_model(
    source_program: Path,
    graph: NbGraph,
    array: Floats,
    precision: str,
    nb: NbModel,
    *,
    kept_classes: Sequence[int] | None = None,
) -> Trace:
    """Compare every tensor of `graph`, built from `nb`, with those of its source model.

    `source_program` is a .pdmodel, with its .pdiparams next to it, or an .onnx; `array` is the input of both, 1×3×H×W;
    `precision` is a key of THRESHOLDS; a `.nb` that computes in 8-bit integers has at least the limit of int8.
    `kept_classes` are the source's classes that a pruned recogniser has kept.

    All tensors of both networks are in memory at once: 0.4 GB for a detector's input of 320×320 or a recogniser's of
    48×320, half as much again for a `.nb` without passes, in proportion to the pixels.

    Raises UsageError for an unknown precision; NotVerifiedError if the source has another format, one of the networks
    does not run on `array` or needs more than LIMIT_BYTES, or their output shapes differ; ModelError if the source is
    damaged.
    """
    threshold = THRESHOLDS.get(precision)
    if threshold is None:
        raise UsageError(f"precision {precision!r}, expected one of {list(THRESHOLDS)}")
    if source_program.suffix not in (".pdmodel", ".onnx"):
        raise NotVerifiedError(
            f"{source_program}: expected a .pdmodel or .onnx: others cannot be traced",
            "pass the model that the .nb was made from",
        )
    if any(tensor.scale is not None for tensor in graph.tensors):
        threshold = max(threshold, THRESHOLDS["int8"])
    array = np.ascontiguousarray(array, dtype=np.float32)
    source = _Source(source_program, array, kept_classes)
    return _Comparison(source, graph, nb, array, threshold).run()


def describe_trace(kind: str, trace: Trace) -> str:
    """Return one or two sentences for users about the network `kind`."""
    if trace.first_parted is None:
        return f"{kind}: no op differs{_describe_agreement(trace)}"
    parted = trace.tensors[trace.first_parted]
    where = _name_op(parted)
    if trace.between:
        doubtful = [trace.tensors[place] for place in trace.between]
        if len(doubtful) > 3:
            where = f"one of op {doubtful[0].index} {doubtful[0].op_type} to {where}"
        else:
            where = f"one of {', '.join(map(_name_op, doubtful))}, {where}"
    reference = "" if parted.reference is None else f" from {parted.reference!r}"
    text = (
        f"{kind}: {where} is the first that differs{reference}: max |Δ| {parted.max_abs_diff:.2g}, "
        f"relative {parted.relative_diff:.2g}, expected at most {trace.threshold:g}"
    )
    if trace.last_agreed is None:
        return f"{text}; it reads the input"
    agreed = trace.tensors[trace.last_agreed]
    return f"{text}; its input, {_name_op(agreed)}, agrees with {agreed.reference!r} ({agreed.relative_diff:.1g})"


def _describe_agreement(trace: Trace) -> str:
    agreeing = [tensor for tensor in trace.tensors if tensor.agrees]
    if not agreeing:
        return ""
    worst = max(agreeing, key=lambda tensor: tensor.relative_diff)
    return (
        f": {len(agreeing)} of {len(trace.tensors)} tensors agree, each within {worst.relative_diff:.2g} "
        f"(op {worst.index} {worst.op_type}), and {trace.tensors[-1].accumulated_diff:.2g} accumulated at the end"
    )


def _name_op(tensor: TracedTensor) -> str:
    reads = f" (reads {', '.join(tensor.params)})" if tensor.params else ""
    return f"op {tensor.index} {tensor.op_type}{reads}"


@dataclass(frozen=True, eq=False)
class _Reference:
    """A source tensor, or what a pass makes of it: value / divisor + shift, dimensions of 1 at `axes`, or a view."""

    base: str
    order: int
    """The tensor's place in the source."""
    label: str
    divisor: Floats | None = None
    shift: float = 0.0
    axes: tuple[int, ...] = ()
    view: View | None = None


@dataclass(frozen=True)
class _Match:
    """The comparison of a tensor with a reference."""

    reference: _Reference | None = None
    max_abs_diff: float = math.inf
    relative_diff: float = math.inf
    is_certain: bool = False
    """Whether the graphs show that there is a counterpart, so that one must be found."""


class _Network:
    """A graph in OpenVINO whose named float tensors are all outputs, for an input of one shape."""

    def __init__(self, graph: Path | bytes, where: str, array: Floats) -> None:
        from edge_ocr.engines.silent_openvino import ov

        self._core = ov.Core()
        self._where = where
        self._inputs = [array]
        self._places: dict[str, int] = {}
        with self._name_failure():
            self._model = self._core.read_model(graph)
            # Before reshaping, which drops unrequested tensors.
            self._model.add_outputs(
                [
                    port
                    for node in self._model.get_ordered_ops()
                    if node.get_type_name() not in ("Constant", "Parameter", "Result")
                    for port in node.outputs()
                    if port.get_names() and port.get_element_type() == ov.Type.f32
                ]
            )
            # Then all shapes are known before the run.
            self._model.reshape(list(array.shape))
            self.names = {name for port in self._model.outputs for name in port.get_names()}
            shapes = [port.get_partial_shape() for port in self._model.outputs]
        size_bytes = 4 * sum(math.prod(shape.to_shape()) for shape in shapes if shape.is_static)
        if size_bytes > LIMIT_BYTES:
            raise NotVerifiedError(
                f"{where}: its tensors take {size_bytes} bytes for an input of {_show_shape(array)}, "
                f"expected at most {LIMIT_BYTES}",
                "trace a smaller picture",
            )

    def run(self) -> dict[str, Floats]:
        """Return the tensors by name; several names of one tensor share one array."""
        with self._name_failure():
            # The plugin defaults to bf16 on chips that support it.
            compiled = self._core.compile_model(self._model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            # Each run has its own request, so its results need no copy.
            results = compiled.create_infer_request().infer(self._inputs, share_inputs=True, share_outputs=True)
        return {name: value for port, value in results.items() for name in port.get_names()}

    def replace(self, name: str, value: Floats) -> None:
        """Make all readers of the tensor `name` read `value` in the next runs; the tensor is still computed."""
        from edge_ocr.engines.silent_openvino import ov

        if name not in self._places:
            port = self._model.output(name).get_node().input_value(0)
            parameter = ov.opset13.parameter(list(value.shape), ov.Type.f32)
            for reader in port.get_target_inputs():
                if reader.get_node().get_type_name() != "Result":
                    reader.replace_source_output(parameter.output(0))
            self._model.add_parameters([parameter])
            self._places[name] = len(self._inputs)
            self._inputs.append(value)
        self._inputs[self._places[name]] = value

    @contextmanager
    def _name_failure(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            shape = _show_shape(self._inputs[0])
            raise NotVerifiedError(f"{self._where} does not run on an input of {shape}: {reason}") from None


def _show_shape(array: Floats) -> str:
    return "×".join(map(str, array.shape))


class _Source:
    """The source model: its program, and the values of its tensors for one input."""

    def __init__(self, path: Path, array: Floats, kept_classes: Sequence[int] | None) -> None:
        is_onnx = path.suffix == ".onnx"
        self.program = import_onnx(path) if is_onnx else read_program(path, path.with_suffix(".pdiparams"))
        found = _Network(path, str(path), array).run()
        names = dict.fromkeys(name for op in self.program.ops for name in list_outputs(op))
        self.values = {name: found[name] for name in names if name in found}
        self.output = self._find_output(path)
        if kept_classes is not None:
            self._keep_classes(list(kept_classes))
        self._order = {id(op): place for place, op in enumerate(self.program.ops)}
        self._references: dict[str, list[_Reference]] = {}
        self._by_shape: dict[tuple[int, ...], list[_Reference]] = {}
        factors, gates = _list_factors(self.program), set(_list_gates(self.program))
        squeezed = self._list_squeezed()
        plain: dict[int, _Reference] = {}
        for order, (name, value) in enumerate(self.values.items()):
            made = [_Reference(name, order, f"{name} / {label}", by) for label, by in factors.get(name, {}).items()]
            if name in gates:
                made.append(_Reference(name, order, f"1 + {name}", shift=1.0))
            # Several names of one tensor make one reference.
            if id(value) not in plain:
                plain[id(value)] = _Reference(name, order, name)
                made.insert(0, plain[id(value)])
            self._by_shape.setdefault(value.shape, []).extend(made)
            if name in squeezed:
                made.append(_Reference(name, order, f"{name}, unsqueezed", axes=squeezed[name]))
                self._by_shape.setdefault(self.read(made[-1]).shape, []).append(made[-1])
            self._references[name] = made if plain[id(value)] in made else [plain[id(value)], *made]
        for name, label, view in list_views(self.program, self.values):
            moved = _Reference(name, len(self.values), f"{name}, {label}", view=view)
            self._references[name].append(moved)
            self._by_shape.setdefault(self.read(moved).shape, []).append(moved)

    def list_alike(self, shape: tuple[int, ...]) -> list[_Reference]:
        """Return the references of a shape, in the order of the program."""
        return self._by_shape.get(shape, [])

    def read(self, reference: _Reference) -> Floats:
        """Return the values of a reference."""
        value = self.values[reference.base]
        if reference.view is not None:
            return np.ascontiguousarray(reference.view(value))
        if reference.divisor is not None:
            value = value / reference.divisor
        if reference.shift:
            value = value + np.float32(reference.shift)
        return np.expand_dims(value, reference.axes) if reference.axes else value

    def follow_params(self, names: Iterable[str]) -> set[_Reference]:
        """Return the outputs of ops that read these parameters, and of elementwise ops that follow them."""
        stems = {name: name if name in self.program.params else name.rpartition(_PART)[0] for name in names}
        readers = {name: self._read_by(stem) for name, stem in stems.items() if stem in self.program.params}
        # If opt fused several ops, the last one writes the result.
        last = max(filter(None, readers.values()), key=lambda ops: self._order[id(ops[-1])], default=[])
        return self._follow(list(last), also=_CUTS if any(stems[name] != name for name in readers) else ())

    def follow_inputs(self, op_type: str, inputs: Sequence[_Reference]) -> list[_Reference]:
        """Return the outputs of ops of this type that read all of `inputs`."""
        if op_type == "scale" and len(inputs) == 1:
            gates = [made for made in self._references[inputs[0].base] if made.shift]
            if gates:
                return gates
        if any(made.shift for made in inputs):
            return []  # the source has no op that reads a gate made by a pass
        names = [self._list_same(made.base) for made in inputs]
        readers = [op for name in (names[0] if names else ()) for op in self._read_by(name)]
        fitting = [op for op in readers if op.type == op_type and all(n & set(list_inputs(op)) for n in names)]
        return [made for op in fitting for name in list_outputs(op) for made in self._references.get(name, [])]

    def _list_squeezed(self) -> dict[str, tuple[int, ...]]:
        """Return the tensors that `cancel_layouts` may leave unsqueezed, with their lost dimensions."""
        found: dict[str, tuple[int, ...]] = {}
        for op in self.program.ops:
            sources = [name for name in list_inputs(op) if name in self.values]
            if op.type == "squeeze2" and sources:
                axes = [axis % self.values[sources[0]].ndim for axis in get_attr(op, "axes", [])]
                found.update(dict.fromkeys(list_outputs(op), tuple(axes)))
                continue
            lost = {found.get(name) for name in sources}
            # An exporter may have decomposed the activations that the squeeze moves past.
            for name in list_outputs(op):
                if len(lost) == 1 and name in self.values and self.values[name].shape == self.values[sources[0]].shape:
                    found[name] = lost.copy().pop() or ()
        return {name: axes for name, axes in found.items() if axes}

    def _list_same(self, name: str) -> set[str]:
        return {other for other, held in self.values.items() if held is self.values[name]}

    def _read_by(self, name: str) -> list[Op]:
        return self.program.list_readers(name)

    def _follow(self, ops: list[Op], *, also: Collection[str] = ()) -> set[_Reference]:
        found: set[_Reference] = set()
        seen: set[str] = set()
        while ops:
            for name in list_outputs(ops.pop()):
                if name in seen:
                    continue
                seen.add(name)
                found.update(self._references.get(name, ()))
                ops += [op for op in self._read_by(name) if op.type in also or self._may_follow(op)]
        return found

    def _may_follow(self, op: Op) -> bool:
        """Return whether opt or a pass may have fused an op into the one before it; it must read one tensor only."""
        if op.type == "squeeze2":
            return True
        if op.type not in PADDLE_OPS or not PADDLE_OPS[op.type].is_fusable:
            return False
        return sum(name not in self.program.params for name in list_inputs(op)) == 1

    def _find_output(self, path: Path) -> str:
        fetched = [name for op in self.program.ops if op.type == "fetch" for name in list_inputs(op)]
        if not fetched or fetched[0] not in self.values:
            raise NotVerifiedError(f"{path}: no output to trace in {fetched}, expected one of floats")
        return fetched[0]

    def _keep_classes(self, kept: list[int]) -> None:
        """Keep only the classes `kept` in all tensors whose last axis is the classes: those of the last ops."""
        count = self.values[self.output].shape[-1]
        if not kept or not 0 <= min(kept) <= max(kept) < count:
            raise UsageError(f"kept classes {kept[:3]}…, expected some of 0 to {count - 1}")
        probs = {name for op in self.program.ops if op.type == "softmax" for name in list_outputs(op)}
        for name, value in self.values.items():
            if value.shape[-1:] == (count,):
                taken = np.ascontiguousarray(value[..., kept])
                self.values[name] = taken / taken.sum(axis=-1, keepdims=True) if name in probs else taken


def _list_factors(program: Program) -> dict[str, dict[str, Floats]]:
    """Return, by tensor, the factors that `fold_affine` may have moved past it."""
    moving: dict[str, dict[str, Floats]] = {}
    found: dict[str, dict[str, Floats]] = {}
    for op in program.ops:
        affine = read_affine(program, op)
        if affine is not None and affine.is_scale:
            # Its output divided by its factor is its input, so only later tensors are new.
            factor = affine.vector.astype(np.float32).reshape(1, -1, 1, 1)
            if np.abs(factor).min() < _SMALLEST_FACTOR:
                continue
            before = moving.get(affine.source, {})
            moving[affine.result] = {affine.param: factor}
            moving[affine.result] |= {f"{label} / {affine.param}": other * factor for label, other in before.items()}
        elif affine is not None or op.type in ("assign", "pool2d", "elementwise_mul"):
            factors = {label: factor for name in list_inputs(op) for label, factor in moving.get(name, {}).items()}
            result = get_output(op, "Out")
            if factors and result is not None:
                moving[result] = factors
                if op.type != "assign":
                    found[result] = factors
    return found


def _list_gates(program: Program) -> Iterator[str]:
    """Yield each s of an x + x·s, which `fold_gates` rewrites as x·(1 + s)."""
    for op in program.ops:
        if op.type != "elementwise_add":
            continue
        operands = [_find_origin(program, name) for name in list_inputs(op)]
        for name in operands:
            product = program.find_writer(name)
            if product is None or product.type != "elementwise_mul":
                continue
            if _find_origin(program, get_input(product, "X") or "") in operands:
                yield get_input(product, "Y") or ""


def _find_origin(program: Program, name: str) -> str:
    """Return the tensor that `name` is a copy of: exporters to ONNX leave many copies."""
    for _ in program.ops:  # copies in a damaged file may form a circle
        op = program.find_writer(name)
        if op is None or op.type != "assign":
            break
        name = get_input(op, "X") or ""
    return name


class _Comparison:
    """Finds counterparts for the tensors of a `.nb`."""

    def __init__(self, source: _Source, graph: NbGraph, nb: NbModel, array: Floats, threshold: float) -> None:
        self._source = source
        self._threshold = threshold
        self._network = _Network(graph.model.SerializeToString(), graph.model.graph.name, array)
        self._output = graph.model.graph.output[0].name
        # Constants are not outputs of the network; nothing reads the odd rows that `fit_kernels` splits off.
        read = {self._output, *(name for node in graph.model.graph.node for name in node.input)}
        self._tensors = [tensor for tensor in graph.tensors if tensor.name in self._network.names & read]
        self._parents = _list_parents(graph, [tensor.name for tensor in self._tensors])
        self._params = [_list_params(nb, tensor.index) for tensor in self._tensors]
        self._by_params = [source.follow_params(params) for params in self._params]

    def run(self) -> Trace:
        """Match tensors and run again on the matches until no match changes."""
        first = values = self._network.run()
        self._check_output(first[self._output].shape)
        matches = [_Match()] * len(self._tensors)
        known: dict[str, _Reference] = {}
        for _ in range(_MAX_ROUNDS):
            changed = False
            for place, tensor in enumerate(self._tensors):
                match = matches[place] = self._match(place, _read(tensor, values), matches)
                if match.reference is None or not self._agrees(match) or known.get(tensor.name) is match.reference:
                    continue
                wanted = self._source.read(match.reference)
                self._network.replace(tensor.name, wanted if tensor.scale is None else wanted / tensor.scale)
                known[tensor.name] = match.reference
                changed = True
            if not changed:
                break
            values = {}  # free the memory before the run
            values = self._network.run()
        return self._conclude(matches, first)

    def _check_output(self, shape: tuple[int, ...]) -> None:
        expected = self._source.values[self._source.output].shape
        if shape != expected:
            raise NotVerifiedError(
                f"the output of the .nb is {list(shape)}, expected {list(expected)} as its source's",
                "pass the model that the .nb was made from, with all of its classes",
            )

    def _agrees(self, match: _Match) -> bool:
        return match.relative_diff <= self._threshold

    def _match(self, place: int, value: Floats, matches: Sequence[_Match]) -> _Match:
        """Return the nearest reference of the same shape; `matches` holds the matches of earlier tensors."""
        alike = self._source.list_alike(value.shape)
        likely = self._list_likely(place, matches).intersection(alike)
        variable = self._tensors[place].variable
        known = matches[place].reference
        # min takes the first of equal ones.
        order = sorted(
            alike, key=lambda made: (made is not known, made not in likely, made.base != variable, made.order)
        )
        found = [_compare(value, self._source, reference, is_certain=bool(likely)) for reference in order]
        best = min(found, key=_get_diff, default=_Match())
        if likely and not self._agrees(best):
            return min((match for match in found if match.reference in likely), key=_get_diff)
        return best

    def _list_likely(self, place: int, matches: Sequence[_Match]) -> set[_Reference]:
        """Return the references that fit the op's inputs; empty if the source has no such op."""
        likely = set(self._by_params[place])
        parents = [matches[parent] for parent in self._parents[place]]
        inputs = [match.reference for match in parents if match.reference is not None and self._agrees(match)]
        if inputs and len(inputs) == len(parents):
            likely.update(self._source.follow_inputs(self._tensors[place].op_type, inputs))
        return likely

    def _conclude(self, matches: Sequence[_Match], first: Mapping[str, Floats]) -> Trace:
        tensors = tuple(
            TracedTensor(
                index=tensor.index,
                op_type=tensor.op_type,
                variable=tensor.variable,
                params=params,
                reference=None if match.reference is None else match.reference.label,
                max_abs_diff=match.max_abs_diff,
                relative_diff=match.relative_diff,
                agrees=self._agrees(match),
                accumulated_diff=_compare(_read(tensor, first), self._source, match.reference).relative_diff,
            )
            for tensor, params, match in zip(self._tensors, self._params, matches, strict=True)
        )
        parted = self._find_parted(matches)
        if parted is None:
            return Trace(tensors, None, None, self._threshold)
        between = self._list_doubtful(parted, matches)
        read = {parent for place in (parted, *between) for parent in self._parents[place]}
        agreed = max((place for place in read if self._agrees(matches[place])), default=None)
        return Trace(tensors, parted, agreed, self._threshold, between)

    def _find_parted(self, matches: Sequence[_Match]) -> int | None:
        agrees = [self._agrees(match) for match in matches]
        for place, match in enumerate(matches):
            if not agrees[place] and match.is_certain and all(agrees[parent] for parent in self._parents[place]):
                return place
        # Nothing is certain: if a later tensor agrees, the source just lacks this one.
        leads = list(agrees)
        for place in reversed(range(len(matches))):
            for parent in self._parents[place]:
                leads[parent] |= leads[place]
        start = next((place for place, reached in enumerate(leads) if not reached), None)
        if start is None:
            return None
        behind = self._list_behind(start)
        return next((place for place in behind if matches[place].is_certain), behind[-1])

    def _list_behind(self, start: int) -> list[int]:
        """Return `start` and all tensors computed from it."""
        behind = {start}
        for place in range(start, len(self._parents)):
            if behind & set(self._parents[place]):
                behind.add(place)
        return sorted(behind)

    def _list_doubtful(self, parted: int, matches: Sequence[_Match]) -> tuple[int, ...]:
        """Return the tensors that `parted` depends on and that disagree, back to ones that agree."""
        found: set[int] = set()
        left = [parted]
        while left:
            new = [place for place in self._parents[left.pop()] if not self._agrees(matches[place])]
            left += [place for place in new if place not in found]
            found.update(new)
        return tuple(sorted(found))


def _read(tensor: GraphTensor, values: Mapping[str, Floats]) -> Floats:
    """Return the values of a tensor, which the graph may hold as 8-bit integers."""
    value = values[tensor.name]
    return value if tensor.scale is None else value * np.float32(tensor.scale)


def _get_diff(match: _Match) -> float:
    return match.relative_diff


def _compare(value: Floats, source: _Source, reference: _Reference | None, *, is_certain: bool = False) -> _Match:
    if reference is None:
        return _Match(is_certain=is_certain)
    wanted = source.read(reference)
    # Non-finite values show in the figures.
    with np.errstate(all="ignore"):
        difference = value - wanted
        max_abs_diff = float(np.abs(difference).max(initial=0))
        size, expected = float(np.linalg.norm(difference)), float(np.linalg.norm(wanted))
    relative_diff = size / expected if expected else math.inf if size else 0.0
    if not (math.isfinite(max_abs_diff) and math.isfinite(relative_diff)):
        return _Match(reference, is_certain=is_certain)
    return _Match(reference, max_abs_diff, relative_diff, is_certain)


def _list_parents(graph: NbGraph, names: Sequence[str]) -> list[tuple[int, ...]]:
    """Return, for each tensor, the places of the nearest listed tensors that it is computed from."""
    places = {name: place for place, name in enumerate(names)}
    behind: dict[str, set[int]] = {}
    parents: list[tuple[int, ...]] = [()] * len(names)
    for node in graph.model.graph.node:
        read = {origin for name in node.input for origin in behind.get(name, ())}
        for name in node.output:
            if name in places:
                parents[places[name]] = tuple(sorted(read))
                behind[name] = {places[name]}
            else:
                behind[name] = read
    return parents


def _list_params(nb: NbModel, index: int) -> tuple[str, ...]:
    op = nb.blocks[0].ops[index]
    return tuple(dict.fromkeys(name for names in op.inputs.values() for name in names if name in nb.params))
