"""Reads pictures with the reference and the bundle, and compares the outputs of their networks and pipelines."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from converters.bundle.reader import Bundle
from converters.report import ClassDiff, ImageParity, TensorDiff
from converters.verify.parity import compare_arrays, compare_classes, merge_diffs, pair_lines, score_truth
from converters.verify.pictures import Picture
from edge_ocr.core.engines.base import Engine
from edge_ocr.core.imaging import prepare_detection
from edge_ocr.core.pipeline import TextReader
from edge_ocr.core.settings import DetectionSettings
from edge_ocr.core.types import BgrImage, TextLine
from edge_ocr.errors import EdgeOcrError, NotVerifiedError
from edge_ocr.models.kinds import fits_output
from edge_ocr.models.types import Kind

# A trace holds every tensor at once: tens of megabytes at this side, gigabytes at 960. Lines are cut to this width.
_TRACE_SIDE = 320
_TRACE_WIDTH = 640

# Outputs kept per network and picture. A page with many lines has more; the rest run twice.
_MAX_KEPT_BYTES = 256 * 2**20


class _CheckedEngine:
    """An engine that raises NotVerifiedError if it fails or returns an unexpected shape."""

    def __init__(self, engine: Engine, kind: Kind, classes: int, label: str) -> None:
        self._engine = engine
        self._kind = kind
        self._classes = classes
        self._label = label
        self.name = engine.name

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            output = np.array(self._engine.run(array), dtype=np.float32)
        except NotVerifiedError:
            raise
        except EdgeOcrError as error:
            raise NotVerifiedError(f"{self._label} failed to run: {error.message}", error.hint) from None
        self._check_shape(array.shape, output.shape)
        return output

    def _check_shape(self, given: tuple[int, ...], found: tuple[int, ...]) -> None:
        # Post-processing would fail in unclear ways on any other shape.
        batch, _, height, width = given
        if not fits_output(self._kind, found, N=batch, H=height, W=width, classes=self._classes):
            raise NotVerifiedError(f"{self._label}: {self._kind} returns shape {list(found)} for input {list(given)}")


class Recorder(_CheckedEngine):
    """Runs each input once and keeps the output until the picture is done."""

    def __init__(self, engine: Engine, kind: Kind, classes: int, label: str) -> None:
        super().__init__(engine, kind, classes, label)
        self._outputs: dict[bytes, NDArray[np.float32]] = {}

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        key = hashlib.sha256(repr(array.shape).encode() + array.tobytes()).digest()
        output = self._outputs.get(key)
        if output is None:
            output = super().run(array)
            if output.nbytes + sum(one.nbytes for one in self._outputs.values()) <= _MAX_KEPT_BYTES:
                self._outputs[key] = output
        return output

    def forget(self) -> None:
        self._outputs.clear()


class _Comparer(_CheckedEngine):
    """An engine of the reference that also runs each input on the bundle's engine and compares the outputs."""

    def __init__(self, engine: Engine, kind: Kind, classes: int, exported: Engine) -> None:
        super().__init__(engine, kind, classes, "the reference")
        self._exported = exported
        self.diffs: list[TensorDiff] = []
        self.worst: NDArray[np.float32] | None = None
        """The input with the largest difference."""
        self.classes: ClassDiff | None = None

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        output = super().run(array)
        other = self._exported.run(array)
        diff = compare_arrays(output, other)
        if not self.diffs or diff.max_abs > max(one.max_abs for one in self.diffs):
            self.worst = array
        self.diffs.append(diff)
        if self._kind == "rec" and diff.is_finite:
            classes = compare_classes(output, other)
            self.classes = classes if self.classes is None else self.classes + classes
        return output

    def forget(self) -> None:
        self.diffs = []
        self.worst = None
        self.classes = None


class KeptClasses:
    """The reference's recogniser restricted to the bundle's classes: probabilities are renormalised over them."""

    def __init__(self, engine: Engine, kept: Sequence[int]) -> None:
        self._engine = engine
        self._kept = np.array(kept)
        self.name = engine.name

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        probs = np.asarray(self._engine.run(array))[..., self._kept].astype(np.float64)
        total = np.maximum(probs.sum(axis=-1, keepdims=True), np.finfo(np.float64).tiny)
        return np.asarray(probs / total, dtype=np.float32)


class _Side:
    """Reference or bundle: the pipeline of a device on the engines of one side."""

    def __init__(self, bundle: Bundle, engines: Mapping[Kind, Engine]) -> None:
        # One line per run, so that both sides run the same inputs.
        config = bundle.config.with_values({"Pipeline.text_rec_batch_size": 1}, "verify")
        self._text_score = config.recognition.text_score
        self._reader = TextReader.build(engines, bundle.charset, config)

    def read(self, image: BgrImage) -> list[TextLine]:
        """Return a line for each box; a line that scores below `text_score` has the text ""."""
        lines = self._reader.read_all(image, {})
        return [line if line.rec_score >= self._text_score else replace(line, text="") for line in lines]


@dataclass(frozen=True)
class WorstInput:
    """The input on which a network differs most, and its picture."""

    difference: float
    array: NDArray[np.float32]
    picture: str


class Comparison:
    """Both sides, ready to compare on one picture after another."""

    def __init__(self, bundle: Bundle, reference: Mapping[Kind, Engine], exported: Mapping[Kind, Engine]) -> None:
        classes = len(bundle.charset.classes)
        self._detection = bundle.config.detection
        self._recorders = {kind: Recorder(one, kind, classes, "the bundle") for kind, one in exported.items()}
        self._comparers = {
            kind: _Comparer(one, kind, classes, self._recorders[kind]) for kind, one in reference.items()
        }
        self._reference = _Side(bundle, self._comparers)
        self._exported = _Side(bundle, self._recorders)

    def compare(self, picture: Picture, worst: dict[Kind, WorstInput] | None) -> ImageParity:
        image = picture.image
        try:
            # The networks are compared while the reference reads, on the inputs from its own boxes.
            lines = self._reference.read(image), self._exported.read(image)
            tensors: dict[Kind, TensorDiff] = {}
            for kind, comparer in self._comparers.items():
                merged = merge_diffs(comparer.diffs)
                if merged is None or comparer.worst is None:
                    continue
                tensors[kind] = merged
                if worst is not None and (kind not in worst or merged.max_abs > worst[kind].difference):
                    array = _prepare_trace(kind, comparer.worst, image, self._detection)
                    worst[kind] = WorstInput(merged.max_abs, array, picture.name)
            classes = self._comparers["rec"].classes
        finally:
            for kind, comparer in self._comparers.items():
                comparer.forget()
                self._recorders[kind].forget()
        pairs = pair_lines(*lines)
        truth = None
        if picture.words is not None:
            shown = [[line for line in side if line.text] for side in lines]
            truth = (score_truth(picture.words, shown[0]), score_truth(picture.words, shown[1]))
        shown_pairs = tuple(pair for pair in pairs if any(pair.texts))
        return ImageParity(picture.name, image, MappingProxyType(tensors), pairs, shown_pairs, truth, classes)


def _prepare_trace(
    kind: Kind, array: NDArray[np.float32], image: BgrImage, detection: DetectionSettings
) -> NDArray[np.float32]:
    """Return the input for a trace: the given one, or the picture at a size that fits into memory."""
    if kind == "det" and max(array.shape[2:]) > _TRACE_SIDE:
        return prepare_detection(image, replace(detection, limit_side_len=_TRACE_SIDE, limit_type="max"))
    return np.ascontiguousarray(array[:1, :, :, :_TRACE_WIDTH])
