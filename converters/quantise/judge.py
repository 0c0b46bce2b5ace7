"""Judges variants of a bundle's networks by what they read on the calibration pictures."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
from numpy.typing import NDArray

from converters.lite.nb.read import NbModel
from converters.lite.nb.to_onnx import NbGraph, build_graph
from converters.verify.parity import pair_lines, score_truth
from converters.verify.pictures import Picture
from edge_ocr.config import PipelineConfig
from edge_ocr.core.charset import Charset
from edge_ocr.core.engines.base import Engine, count_cores
from edge_ocr.core.pipeline import TextReader
from edge_ocr.core.types import BgrImage, TextLine
from edge_ocr.engines import FAST_ENGINES, create_engine, is_installed
from edge_ocr.errors import EdgeOcrError, NotVerifiedError
from edge_ocr.models.types import Kind, Model

# Inputs on which the outputs of variants are compared, per network. More cost time and hardly change the order of
# layers.
_SAMPLES: Mapping[Kind, int] = MappingProxyType({"det": 6, "rec": 96, "cls": 64, "page": 8})

# Probabilities of a step that are compared: together they are nearly 1.
_TOP = 16

# Outputs of the float32 networks that are kept; the rest are computed again.
_MAX_REMEMBERED_BYTES = 2**29
_TINY = 1e-12


@dataclass(frozen=True)
class Loss:
    """What a variant reads differently from the float32 networks."""

    lines: int
    """Lines that either reads."""
    changed: int
    """Of these, lines whose text differs."""
    wanted: int = 0
    """Lines with a known text that count; 0 without labels."""
    exact_before: int = 0
    """Of these, lines that the float32 networks read exactly."""
    exact: int = 0
    """Of these, lines that the variant reads exactly."""

    def to_tuple(self) -> tuple[int, int, int, int, int]:
        """Return the counts in the order of the fields."""
        return self.lines, self.changed, self.wanted, self.exact_before, self.exact

    @property
    def changed_share(self) -> float:
        """Return the share of lines whose text differs, in [0, 1]."""
        return self.changed / self.lines if self.lines else 0.0

    @property
    def exact_drop(self) -> float:
        """Return by how much the share of exact lines fell, in [-1, 1]."""
        return (self.exact_before - self.exact) / self.wanted if self.wanted else 0.0


@dataclass(frozen=True)
class _Sample:
    """An input, and the float32 network's output for it."""

    array: NDArray[np.float32]
    places: NDArray[np.intp] | None
    """The likeliest classes of each step; None if `values` is the whole output."""
    values: NDArray[np.float32]
    classes: int

    def to_output(self) -> NDArray[np.float32]:
        """Return the output, with 0 for all but the likeliest classes."""
        if self.places is None:
            return self.values
        output = np.zeros((*self.values.shape[:-1], self.classes), dtype=np.float32)
        np.put_along_axis(output, self.places, self.values, axis=-1)
        return output


class Judge:
    """The float32 networks, what they read, and a way to compare variants with them."""

    def __init__(
        self,
        models: Mapping[Kind, NbModel],
        config: PipelineConfig,
        charset: Charset,
        pictures: Sequence[Picture],
        scratch: Path,
    ) -> None:
        """Read all pictures with the float32 networks. Use `open_judge`."""
        self._scratch = scratch
        self._engine = next((name for name in FAST_ENGINES if is_installed(name)), "")
        if not self._engine:
            raise NotVerifiedError("no engine for ONNX is installed", "pip install openvino, or edge-ocr[onnx]")
        # One line per run, so that a variant of the detector changes only the lines whose boxes it changes.
        self._config = config.with_values({"Pipeline.text_rec_batch_size": 1}, "calibration")
        self._charset = charset
        self.graphs: dict[Kind, NbGraph] = {}
        for kind, nb in models.items():
            try:
                self.graphs[kind] = build_graph(nb, f"{kind}.nb")
            except EdgeOcrError as error:
                raise NotVerifiedError(f"the graph cannot run here: {error.message}", error.hint) from None
        plain = {kind: self.open(kind, graph.model) for kind, graph in self.graphs.items()}
        self._samples: dict[Kind, list[_Sample]] = {kind: [] for kind in plain}
        self._remembered = 0
        # Variants meet the same inputs again.
        self._plain: dict[Kind, Engine] = {kind: _Memo(self, kind, engine) for kind, engine in plain.items()}
        self._pictures = [(picture, self._read(picture.image, self._plain)) for picture in pictures]

    @property
    def lines(self) -> int:
        """Return how many lines with text the float32 networks read."""
        return sum(bool(line.text) for _, lines in self._pictures for line in lines)

    def count_exact(self) -> int:
        """Return how many lines with a known text the float32 networks read exactly."""
        return sum(_compare(picture, lines, lines).exact for picture, lines in self._pictures)

    def open(self, kind: Kind, model: onnx.ModelProto) -> Engine:
        """Return an engine that runs a variant of a graph."""
        path = self._scratch / f"{kind}.onnx"
        path.write_bytes(model.SerializeToString())
        wrapped = Model(f"{kind}.nb", kind, "onnx", path, None, None, MappingProxyType({}), "the bundle")
        return create_engine(self._engine, wrapped, "cpu", 0, count_cores())

    def judge(self, variants: Mapping[Kind, onnx.ModelProto]) -> Loss:
        """Read all pictures with `variants` in place of the float32 networks."""
        opened = {kind: self.open(kind, model) for kind, model in variants.items()}
        loss = Loss(0, 0)
        engines: dict[Kind, Engine] = {**self._plain, **opened}
        for picture, before in self._pictures:
            loss = _add(loss, _compare(picture, before, self._read(picture.image, engines)))
        return loss

    def measure_divergence(self, kind: Kind, model: onnx.ModelProto) -> float:
        """Return how far a variant's outputs are from the float32 network's on the sampled inputs.

        For the recogniser, the Kullback-Leibler divergence per time step, over the likeliest classes; for other
        networks, the mean absolute difference.
        """
        engine, total, count = self.open(kind, model), 0.0, 0
        for sample in self._samples[kind]:
            output = np.asarray(engine.run(sample.array), dtype=np.float32)
            if sample.places is None:
                total += float(np.abs(output - sample.values).sum(dtype=np.float64))
                count += output.size
                continue
            found = np.take_along_axis(output, sample.places, axis=-1).astype(np.float64)
            logs = np.log(np.maximum(sample.values, _TINY)) - np.log(np.maximum(found, _TINY))
            total += float((sample.values * logs - sample.values + found).sum())
            count += output.shape[0] * output.shape[1]
        return total / count if count else 0.0

    def _read(self, image: BgrImage, engines: Mapping[Kind, Engine]) -> list[TextLine]:
        lines = TextReader.build(engines, self._charset, self._config).read_all(image, {})
        least = self._config.recognition.text_score
        return [line if line.rec_score >= least else replace(line, text="") for line in lines]

    def keep_sample(self, kind: Kind, sample: _Sample) -> None:
        """Keep an input and its output for `measure_divergence`, if more are wanted."""
        if len(self._samples[kind]) < _SAMPLES[kind]:
            self._samples[kind].append(sample)

    def claim(self, size_bytes: int) -> bool:
        """Return whether there is room to remember so many bytes, and count them if so."""
        if self._remembered + size_bytes > _MAX_REMEMBERED_BYTES:
            return False
        self._remembered += size_bytes
        return True


class _Memo:
    """The float32 network on one picture; remembers outputs, and hands the judge its samples.

    Of a recogniser's outputs it keeps the likeliest classes of each step, and returns 0 for the others: all classes of
    all lines would take gigabytes.
    """

    def __init__(self, judge: Judge, kind: Kind, engine: Engine) -> None:
        self._judge = judge
        self._kind: Kind = kind
        self._engine = engine
        self._known: dict[bytes, _Sample] = {}
        self.name = engine.name

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        key = hashlib.sha256(repr(array.shape).encode() + array.tobytes()).digest()
        known = self._known.get(key)
        if known is None:
            known = _make_sample(self._kind, array, np.asarray(self._engine.run(array), dtype=np.float32))
            self._judge.keep_sample(self._kind, known)
            if self._judge.claim(known.values.nbytes):
                self._known[key] = replace(known, array=array[:0])
        return known.to_output()


def _make_sample(kind: Kind, array: NDArray[np.float32], output: NDArray[np.float32]) -> _Sample:
    if kind != "rec" or output.shape[-1] <= _TOP:
        return _Sample(np.array(array), None, np.array(output), output.shape[-1])
    places = np.argpartition(output, -_TOP, axis=-1)[..., -_TOP:]
    return _Sample(np.array(array), places, np.take_along_axis(output, places, axis=-1), output.shape[-1])


@contextmanager
def open_judge(
    models: Mapping[Kind, NbModel], config: PipelineConfig, charset: Charset, pictures: Sequence[Picture]
) -> Iterator[Judge]:
    """Yield a judge that has read `pictures` with `models`, whose weights are float32.

    Raises NotVerifiedError if a graph cannot be built or no engine here runs it.
    """
    with tempfile.TemporaryDirectory(prefix="edge-ocr-") as scratch:
        yield Judge(models, config, charset, pictures, Path(scratch))


def _compare(picture: Picture, before: Sequence[TextLine], after: Sequence[TextLine]) -> Loss:
    pairs = [pair for pair in pair_lines(before, after) if any(pair.texts)]
    changed = sum(not pair.is_equal for pair in pairs)
    if picture.words is None:
        return Loss(len(pairs), changed)
    truths = [score_truth(picture.words, [line for line in side if line.text]) for side in (before, after)]
    return Loss(len(pairs), changed, truths[0].wanted, truths[0].exact, truths[1].exact)


def _add(a: Loss, b: Loss) -> Loss:
    return Loss(
        a.lines + b.lines,
        a.changed + b.changed,
        a.wanted + b.wanted,
        a.exact_before + b.exact_before,
        a.exact + b.exact,
    )
