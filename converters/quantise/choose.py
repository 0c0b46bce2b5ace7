"""Chooses, layer by layer, how weights are stored and which layers compute in int8."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from converters.lite.nb.cost import compute_cost
from converters.lite.nb.read import NbModel
from converters.lite.nb.rounded import BITS, Rounded, round_nearest
from converters.plan import ExportOptions
from converters.quantise.cache import Cache, digest, open_cache
from converters.quantise.choice import LayerChoice, Measure, ModelChoice, Promise, Storage
from converters.quantise.judge import Judge, Loss, open_judge
from converters.quantise.layers import Layer, list_layers
from converters.quantise.pictures import Calibration, read_calibration
from converters.quantise.rounding import round_calibrated
from converters.quantise.scales import choose_input_absmax, list_candidates, order_candidates
from converters.quantise.search import drop_needless, find_fewest, rank
from converters.quantise.simulate import simulate
from converters.quantise.statistics import LayerStatistics, measure_statistics
from converters.text import Report
from edge_ocr.config import PipelineConfig
from edge_ocr.core.charset import Charset
from edge_ocr.errors import InputError, NotVerifiedError, ParityError, UsageError
from edge_ocr.models.types import Kind

# The recogniser last: it reads what the others have found and turned.
_ORDER: tuple[Kind, ...] = ("page", "det", "cls", "rec")

MAX_CHANGED = 0.1
"""The highest share of lines that may differ at all, if the limit is about lines that are read exactly."""

# Each try reads all pictures.
_TRIES = 8

# A layer whose error costs so many times more than the median's, for the instructions that it saves, stays float32:
# easy pictures do not show what it does to others. In PP-OCRv4's detector two of 26 layers, which save 2 of 70 M
# instructions; without them, other pictures lost no line instead of three.
_WORTH = 10

# A layer takes up to some seconds.
_REPORT_EVERY = 10

# Float sums differ.
_EPSILON = 1e-9


@dataclass(frozen=True)
class Choices:
    """What was chosen for the networks of a bundle."""

    models: Mapping[Kind, ModelChoice]
    promise: Promise | None
    """None if nothing was searched."""
    pictures: str
    """The pictures that rounding was learnt from, as in a promise; "" if it needed none."""

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's entry."""
        return {
            "pictures": self.pictures or None,
            "promise": None if self.promise is None else self.promise.to_json(),
            "layers": {kind: [one.to_json() for one in model.layers] for kind, model in self.models.items()},
        }


def choose_integers(
    models: Mapping[Kind, NbModel], config: PipelineConfig, charset: Charset, options: ExportOptions, report: Report
) -> Choices:
    """Choose for the networks of a bundle, given as opt wrote them with float32 weights.

    For `int16`, weights are rounded to the nearest. For `int8` and `auto`, rounding is learnt from the calibration
    pictures. For `auto`, and for `compute` int8, layers are then given more bits, or compute in float32, until the
    pictures read as `max_drop` demands.

    Raises InputError if calibration pictures cannot be read or show no text, UsageError if int8 storage alone breaks
    the limit of `compute` int8, NotVerifiedError if no engine here runs the networks, ParityError if the limit cannot
    be kept.
    """
    if options.precision == "int16":
        return _finish({kind: _Network(kind, nb, None, "int16") for kind, nb in models.items()})
    is_searched = options.precision == "auto" or options.computes_int8
    calibration = read_calibration(options.calibrate, config.input)
    report(f"calibrating on {calibration.count}")
    with open_cache(models, config, charset, calibration) as cache:
        inputs = _Inputs(lambda: measure_statistics(models, config, charset, calibration.images), cache)
        try:
            if not cache.get_number("lines", inputs.count_lines):
                raise InputError(
                    f"no text was found in the {calibration.count} for calibration, so nothing can be measured",
                    "give pictures with text (--calibrate)",
                )
        except (InputError, NotVerifiedError) as error:
            if is_searched or options.calibrate:
                raise
            report(f"WARNING: weights are rounded to the nearest integers: {error.message}")
            return _finish({kind: _Network(kind, nb, None, "int8") for kind, nb in models.items()})
        networks = {kind: _Network(kind, models[kind], inputs, "int8") for kind in _ORDER if kind in models}
        promise = None
        if is_searched:
            with open_judge(models, config, charset, calibration.pictures) as judge:
                if not judge.lines:
                    raise InputError(
                        f"no legible line in the {calibration.count} for calibration",
                        "give pictures with text in the language of the recogniser (--calibrate)",
                    )
                promise = _Search(judge, networks, calibration, options, cache, report).run()
        return _finish(networks, promise, calibration.label)


def _finish(networks: Mapping[Kind, _Network], promise: Promise | None = None, pictures: str = "") -> Choices:
    return Choices({kind: network.finish() for kind, network in networks.items()}, promise, pictures)


class _Inputs:
    """What the layers' inputs look like; measured when something is asked that the cache does not know."""

    def __init__(self, measure: Callable[[], Mapping[Kind, Mapping[str, LayerStatistics]]], cache: Cache) -> None:
        self._measure = measure
        self._cache = cache

    @cached_property
    def _statistics(self) -> Mapping[Kind, Mapping[str, LayerStatistics]]:
        return self._measure()

    def count_lines(self) -> float:
        """Return a number above 0 if the recogniser ran."""
        return float(len(self._statistics.get("rec", {})))

    def choose_absmax(self, kind: Kind, name: str) -> float:
        """Return the largest input that int8 is to hold; 0 for a layer that cannot be rounded."""

        def measure() -> float:
            measured = self._statistics.get(kind, {}).get(name)
            # The first bin holds zeros, and what is too small to tell from them.
            if measured is None or not measured.histogram[1:].any():
                return 0.0
            return choose_input_absmax(measured.histogram, measured.span)

        return self._cache.get_number(f"absmax {kind} {name}", measure)

    def round(self, kind: Kind, nb: NbModel, layer: Layer, bits: int) -> tuple[Rounded, NDArray[np.float32] | None]:
        """Return a layer's integers, and its corrected bias if it has one."""
        weights = nb.params[layer.name].to_array()
        key = f"{bits} {kind} {layer.name}"
        made: list[tuple[Rounded, NDArray[np.float32]]] = []

        def make() -> tuple[Rounded, NDArray[np.float32]]:
            if not made:
                measured = self._statistics.get(kind, {}).get(layer.name)
                if measured is None:
                    rounded = round_nearest(weights, layer.axis, bits)
                    made.append((rounded, np.zeros(len(rounded.scales), dtype=np.float32)))
                else:
                    has_bias = layer.bias is not None
                    made.append(round_calibrated(weights, layer.axis, bits, measured, has_bias=has_bias))
            return made[0]

        dtype, channels = np.dtype(f"int{bits}"), (weights.shape[layer.axis],)
        values = self._cache.get(f"values {key}", lambda: make()[0].values, weights.shape, dtype)
        scales = self._cache.get(f"scales {key}", lambda: make()[0].scales, channels, np.float32)
        correction = self._cache.get(f"correction {key}", lambda: make()[1], channels, np.float32)
        rounded = Rounded(values, scales, layer.axis)
        if layer.bias is None:
            return rounded, None
        bias = nb.params[layer.bias].to_array()
        return rounded, (bias + correction.reshape(bias.shape)).astype(np.float32)


class _Network:
    """The state of the choice for one network."""

    def __init__(self, kind: Kind, nb: NbModel, measured: _Inputs | None, storage: Storage) -> None:
        self.kind: Kind = kind
        self.nb = nb
        self.layers = {layer.name: layer for layer in list_layers(nb)}
        self.measured = measured
        self.storage: dict[str, Storage] = dict.fromkeys(self.layers, storage)
        self.inputs: dict[str, float] = {}
        self.divergence: dict[str, float] = {}
        self.reasons: dict[str, str] = {}
        self._rounded: dict[tuple[str, Storage], tuple[Rounded, NDArray[np.float32] | None]] = {}

    def round(self, name: str, storage: Storage) -> tuple[Rounded, NDArray[np.float32] | None]:
        """Return a layer's integers, and its corrected bias if it has one."""
        if (name, storage) not in self._rounded:
            layer, bits = self.layers[name], BITS[storage]
            if self.measured is not None:
                self._rounded[name, storage] = self.measured.round(self.kind, self.nb, layer, bits)
            else:
                self._rounded[name, storage] = round_nearest(self.nb.params[name].to_array(), layer.axis, bits), None
        return self._rounded[name, storage]

    def apply(self, storage: Mapping[str, Storage]) -> tuple[dict[str, Rounded], dict[str, NDArray[np.float32]]]:
        """Return the integers of these layers, and the biases that go with them, by name."""
        rounded, biases = {}, {}
        for name, kept in storage.items():
            if kept == "fp32":
                continue
            rounded[name], bias = self.round(name, kept)
            if bias is not None:
                biases[self.layers[name].bias or ""] = bias
        return rounded, biases

    def simulate(self, judge: Judge, storage: Mapping[str, Storage], inputs: Mapping[str, float]) -> onnx.ModelProto:
        """Return the graph with these layers rounded, and these inputs in int8."""
        rounded, biases = self.apply(storage)
        weights = {name: one.to_float() for name, one in rounded.items()}
        return simulate(judge.graphs[self.kind], self.nb, weights, biases, inputs)

    def finish(self) -> ModelChoice:
        """Return the choice as it stands."""
        layers = tuple(
            LayerChoice(
                name,
                layer.op_type,
                self.storage[name],
                self.inputs.get(name),
                self.divergence.get(name),
                self.reasons.get(name, f"{self.storage[name]} for all"),
            )
            for name, layer in self.layers.items()
        )
        return ModelChoice(layers, *self.apply(self.storage))


class _Search:
    """Searches, one network after another, what the limit allows."""

    def __init__(
        self,
        judge: Judge,
        networks: Mapping[Kind, _Network],
        calibration: Calibration,
        options: ExportOptions,
        cache: Cache,
        report: Report,
    ) -> None:
        self._judge = judge
        self._networks = networks
        self._calibration = calibration
        self._options = options
        self._cache = cache
        self._report = report
        # Known texts count if most lines have one and are legible; without any tolerance no line may change at all.
        knows = 2 * judge.count_exact() >= judge.lines
        self._measure: Measure = "exact_lines" if knows and options.max_drop > 0 else "changed_lines"
        self._chosen: dict[Kind, onnx.ModelProto] = {}
        self._names: dict[Kind, str] = {}

    def run(self) -> Promise:
        """Choose for each network and return the limit that holds."""
        for kind, network in self._networks.items():
            if self._options.precision == "auto":
                self._choose_storage(network)
            elif not self._holds(network, network.storage, {}, f"all {len(network.layers)} layers in int8"):
                raise UsageError(
                    f"--compute int8: storing all weights of {kind} as int8 already loses more than --max-drop "
                    f"{self._options.max_drop:g} allows",
                    "use --quantize auto, or a higher --max-drop",
                )
            if self._options.computes_int8 and kind in ("det", "rec"):
                self._choose_inputs(network)
            self._chosen[kind] = network.simulate(self._judge, network.storage, network.inputs)
            self._names[kind] = _name(network.storage, network.inputs)
            stored = Counter(network.storage.values())
            text = ", ".join(f"{count} layers in {name}" for name, count in stored.most_common())
            self._report(f"{kind}: chosen: {text}" + f"; {len(network.inputs)} compute in int8" * bool(network.inputs))
        loss = self._judge_all(self._chosen, self._names)
        truth = self._measure == "exact_lines"
        if not self._is_kept(loss):
            raise ParityError(
                f"what was chosen changes {loss.changed} of {loss.lines} lines, which breaks the limit",
                "use a higher --max-drop, or other pictures (--calibrate)",
            )
        return Promise(
            measure=self._measure,
            max_drop=self._options.max_drop,
            drop=loss.exact_drop if truth else loss.changed_share,
            lines=loss.wanted if truth else loss.lines,
            changed=loss.changed,
            compared=loss.lines,
            pictures=len(self._calibration.pictures),
            prefer=self._options.prefer,
        )

    # --- measuring

    def _judge_all(self, variants: Mapping[Kind, onnx.ModelProto], names: Mapping[Kind, str]) -> Loss:
        key = "loss " + " ".join(f"{kind}:{names[kind]}" for kind in sorted(names))
        counts = self._cache.get(key, lambda: np.array(self._judge.judge(variants).to_tuple()), (5,), np.int64)
        return Loss(*map(int, counts))

    def _holds(self, network: _Network, storage: Mapping[str, Storage], inputs: Mapping[str, float], what: str) -> bool:
        """Return whether the limit holds with this for one network, and what was chosen for those before it."""
        kind = network.kind
        variants = {**self._chosen, kind: network.simulate(self._judge, storage, inputs)}
        loss = self._judge_all(variants, {**self._names, kind: _name(storage, inputs)})
        found = f"{loss.changed} of {loss.lines} lines differ"
        if self._measure == "exact_lines":
            found += f", {loss.exact} of {loss.wanted} with a known text are exact (before {loss.exact_before})"
        is_kept = self._is_kept(loss)
        self._report(f"{kind}: {what}: {found}: {'within the limit' if is_kept else 'too many'}")
        return is_kept

    def _is_kept(self, loss: Loss) -> bool:
        """Return whether a loss is within the limit."""
        most = self._options.max_drop
        if self._measure == "changed_lines":
            return loss.changed_share <= most + _EPSILON
        # Pictures that are easy to read must not hide that other lines change.
        return loss.exact_drop <= most + _EPSILON and loss.changed_share <= max(MAX_CHANGED, most) + _EPSILON

    def _measure_divergence(
        self, network: _Network, storage: Mapping[str, Storage], inputs: Mapping[str, float]
    ) -> float:
        key = f"divergence {network.kind}:{_name(storage, inputs)}"

        def measure() -> float:
            model = network.simulate(self._judge, storage, inputs)
            return self._judge.measure_divergence(network.kind, model)

        return self._cache.get_number(key, measure)

    def _measure_each(
        self, network: _Network, variants: Mapping[str, tuple[Mapping[str, Storage], Mapping[str, float]]]
    ) -> dict[str, float]:
        """Return the divergence of each variant, by the name of its layer."""
        found: dict[str, float] = {}
        for name, (storage, inputs) in variants.items():
            found[name] = self._measure_divergence(network, storage, inputs)
            if len(found) % _REPORT_EVERY == 0:
                self._report(f"{network.kind}: {len(found)} of {len(variants)} layers measured")
        return found

    # --- choosing

    def _choose_storage(self, network: _Network) -> None:
        kind, layers = network.kind, network.layers
        network.reasons = dict.fromkeys(layers, "int8 for all keeps the limit")
        if self._holds(network, network.storage, {}, f"all {len(layers)} layers in int8"):
            return
        self._report(f"{kind}: measuring each of {len(layers)} layers in int8 alone")
        network.divergence = self._measure_each(network, {name: ({name: "int8"}, {}) for name in layers})
        order = rank(list(layers), network.divergence, {name: float(layers[name].count) for name in layers})

        def promote(names: Iterable[str], low: Storage, high: Storage) -> dict[str, Storage]:
            return {**dict.fromkeys(layers, low), **dict.fromkeys(names, high)}

        pairs: tuple[tuple[Storage, Storage], ...] = (("int8", "int16"), ("int16", "fp32"))
        for low, high in pairs:

            def holds(names: Iterable[str], low: Storage = low, high: Storage = high) -> bool:
                chosen = promote(names, low, high)
                what = f"{list(chosen.values()).count(high)} of {len(layers)} layers in {high}, the others in {low}"
                return self._holds(network, chosen, {}, what)

            count = find_fewest(len(order), lambda count: holds(order[:count]))
            if count is None:
                continue
            # The largest first: they cost most.
            large = sorted(order[:count], key=lambda name: -layers[name].count)
            kept = drop_needless(large, holds, _TRIES)
            network.storage = promote(kept, low, high)
            break
        else:
            network.storage = promote((), "fp32", "fp32")
            network.reasons = dict.fromkeys(layers, "integers break the limit")
            return
        for name, kept_in in network.storage.items():
            place = order.index(name) + 1
            least = "int8" if "int8" in network.storage.values() else "int16"
            network.reasons[name] = (
                f"{least} keeps the limit here"
                if kept_in == least
                else f"{least} here would break the limit; rank {place} of {len(order)}, 1 costs most text"
            )

    def _choose_inputs(self, network: _Network) -> None:
        kind, measured = network.kind, network.measured
        port = network.nb.inputs[0]
        sides = zip(port.shape or _SHAPES[kind], _SHAPES[kind], strict=True)
        cost = compute_cost(network.nb, {port.name: [own if own > 0 else usual for own, usual in sides]})
        wanted: dict[str, float] = {}
        candidates = []
        for one in list_candidates(network.nb, cost):
            absmax = 0.0 if measured is None else measured.choose_absmax(kind, one.weights)
            if absmax > 0 and network.storage.get(one.weights) == "int8":
                wanted[one.weights] = absmax
                candidates.append(one)
        for name in network.layers.keys() - wanted.keys():
            network.reasons.setdefault(name, "computing in int8 would not be faster")
        if not wanted:
            return
        self._report(f"{kind}: measuring each of {len(wanted)} layers in int8 alone that it would make faster")
        plain: dict[str, Storage] = dict.fromkeys(network.layers, "fp32")
        harm = self._measure_each(network, {name: (plain, {name: absmax}) for name, absmax in wanted.items()})
        costs = {one.weights: harm[one.weights] ** 2 / one.gain for one in candidates}
        worth = [one for one in candidates if costs[one.weights] <= _WORTH * float(np.median(list(costs.values())))]
        for name in wanted.keys() - {one.weights for one in worth}:
            network.divergence[name] = harm[name]
            network.reasons[name] = f"computing in int8 costs over {_WORTH} times the text of most layers"
            del wanted[name]
        # The worst first.
        order = [one.weights for one in order_candidates(worth, harm)][::-1]

        def holds(left_out: Iterable[str]) -> bool:
            chosen = {name: absmax for name, absmax in wanted.items() if name not in set(left_out)}
            return self._holds(
                network, network.storage, chosen, f"{len(chosen)} of {len(wanted)} layers compute in int8"
            )

        count = find_fewest(len(order), lambda count: holds(order[:count]))
        kept = order if count is None else drop_needless(order[:count][::-1], holds, _TRIES)
        network.inputs = {name: absmax for name, absmax in wanted.items() if name not in kept}
        for place, name in enumerate(order, 1):
            network.divergence[name] = harm[name]
            text = "computes within the limit" if name in network.inputs else "computing in int8 would break the limit"
            network.reasons[name] = f"{text}; rank {place} of {len(order)}, 1 costs most text"


def _name(storage: Mapping[str, Storage], inputs: Mapping[str, float]) -> str:
    """Return a key for what `_Network.simulate` makes of this."""
    return digest(repr((sorted(one for one in storage.items() if one[1] != "fp32"), sorted(inputs.items()))).encode())


# A page and a line of usual sizes; the ratio between layers hardly depends on them.
_SHAPES: Mapping[Kind, tuple[int, ...]] = MappingProxyType({"det": (1, 3, 640, 640), "rec": (1, 3, 48, 320)})
