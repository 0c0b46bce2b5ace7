"""The result of a verification: checks, figures, pairs of lines, and the first op that differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_ocr.core.types import BgrImage, TextLine
from edge_ocr.models.kinds import TENSOR_NAMES
from edge_ocr.models.types import Kind

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TracedTensor:
    """The output of one op of the `.nb`, compared with its counterpart in the source."""

    index: int
    """Position of the op in the program."""
    op_type: str
    variable: str
    """Its name in the file; not unique."""
    params: tuple[str, ...]
    """Parameters of the op."""
    reference: str | None
    """Its counterpart: a tensor of the source, `x / s` if a pass moved its factor s to a later op, `1 + x` for a gate;
    None if no tensor of the source has this shape."""
    max_abs_diff: float
    """For the op alone, run on the reference's values for its inputs as far as they are known; inf without a reference
    or if a value is not finite."""
    relative_diff: float
    """‖a - b‖ / ‖b‖, for the same values."""
    agrees: bool
    """Whether `relative_diff` is below the threshold."""
    accumulated_diff: float
    """As `relative_diff`, but for the whole `.nb` run from its input: includes the error of all earlier ops."""


@dataclass(frozen=True)
class Trace:
    """Where a `.nb` first differs from its source, if it does."""

    tensors: tuple[TracedTensor, ...]
    """Float tensors in program order, without constants."""
    first_parted: int | None
    """Index in `tensors` (not the op's own index) of the first op that certainly has a counterpart and differs from it
    although its inputs agree; None if there is no such op."""
    last_agreed: int | None
    """Index in `tensors` of the last agreeing tensor that `first_parted`, or an op `between`, reads; None if that is
    the input itself."""
    threshold: float
    between: tuple[int, ...] = ()
    """Indexes of ops between `last_agreed` and `first_parted` without a known counterpart: one of them may be the
    cause."""


Layer = Literal["signature", "files", "dictionary", "models", "tensors", "boxes", "texts", "accuracy"]


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    layer: Layer
    name: str
    passed: bool
    detail: str
    """Actual and expected values, as text."""
    value: float | None = None
    limit: float | None = None
    """The tolerance; None if the check does not compare numbers."""


@dataclass(frozen=True)
class TensorDiff:
    """Difference between the output of one network and the reference's, over one or more runs on the same inputs."""

    max_abs: float
    mean_abs: float
    count: int
    """How many numbers were compared."""
    is_finite: bool
    """Whether all outputs of the exported network are finite; if not, the differences are infinite."""
    run_maxima: tuple[float, ...]
    """The largest difference of each run."""
    row_size: int
    """Size of the last axis: for the recogniser, the number of classes."""


@dataclass(frozen=True)
class ClassDiff:
    """Difference of each class of the recogniser, whether or not a picture shows its character."""

    log_sums: NDArray[np.float64]
    """For each class: the sum over time steps of the difference between the logarithms of both probabilities."""
    steps: int

    def __add__(self, other: ClassDiff) -> ClassDiff:
        return ClassDiff(self.log_sums + other.log_sums, self.steps + other.steps)


@dataclass(frozen=True)
class LinePair:
    """A line of the reference and the matching exported line; one of them is None if there is no match."""

    reference: TextLine | None
    exported: TextLine | None
    iou: float
    """In [0, 1]; 0 without a match."""

    @property
    def texts(self) -> tuple[str, str]:
        """Return both texts; "" for a missing line."""
        return (self.reference.text if self.reference else "", self.exported.text if self.exported else "")

    @property
    def is_equal(self) -> bool:
        """Whether both texts are identical."""
        return self.texts[0] == self.texts[1]


@dataclass(frozen=True)
class Truth:
    """Accuracy of one side on one picture, measured against its labels."""

    wanted: int
    """Labelled lines that count."""
    found: int
    exact: int
    """Lines read exactly, compared as NFKC, lower case, without spaces."""
    ned_sum: float
    """Sum of 1 - NED over the lines found."""

    def __add__(self, other: Truth) -> Truth:
        return Truth(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class ImageParity:
    """The comparison on one picture."""

    name: str
    image: BgrImage
    """H × W × 3 BGR."""
    tensors: Mapping[Kind, TensorDiff]
    """For the networks that ran: rec and cls do not run if the reference finds no line."""
    box_pairs: tuple[LinePair, ...]
    """All boxes, with or without text."""
    text_pairs: tuple[LinePair, ...]
    """Pairs with a text on either side; a text that scores below `text_score` counts as ""."""
    truth: tuple[Truth, Truth] | None = None
    """Reference and exported; None without labels."""
    classes: ClassDiff | None = None
    """Differences by class of the recogniser; None if it did not run."""

    @property
    def badness(self) -> tuple[float, float]:
        """Return the sort key from good to bad: number of lines that differ, then the largest difference."""
        differing = sum(not pair.is_equal for pair in self.text_pairs) + sum(pair.iou == 0 for pair in self.box_pairs)
        return differing, max((diff.max_abs for diff in self.tensors.values()), default=0.0)


@dataclass(frozen=True)
class ParityReport:
    """The result of a comparison."""

    bundle: str
    target: str
    precision: str
    lite_version: str
    edge_ocr_version: str
    """Version of edge-ocr that made the bundle."""
    runner: str
    """What ran the bundle, such as `graph on openvino`, or Paddle-Lite under qemu or at an ssh address."""
    reference: str
    """Models and engines of the reference."""
    checks: tuple[Check, ...]
    images: tuple[ImageParity, ...]
    figures: Mapping[str, float]
    """By name as in TOLERANCES, plus counts."""
    notes: tuple[str, ...] = ()
    """Remarks, such as files that the manifest does not list."""
    traces: Mapping[Kind, Trace] = field(default_factory=dict)
    """With `VerifyOptions.trace`: every tensor of the graph compared with the reference, on the worst picture."""

    @property
    def passed(self) -> bool:
        """Whether every check passed and the networks ran; without a comparison, nothing has passed."""
        return bool(self.images) and all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """Return the checks that failed."""
        return tuple(check for check in self.checks if not check.passed)

    def to_json(self) -> dict[str, Any]:
        """Return everything except the pictures as JSON values; numbers that are not finite become None."""
        return {
            "status": "passed" if self.passed else "failed",
            **{name: getattr(self, name) for name in _FACTS},
            "checks": [{**asdict(check), "value": _keep_finite(check.value)} for check in self.checks],
            "figures": {name: _keep_finite(value) for name, value in self.figures.items()},
            "images": [_describe_image(image) for image in self.images],
            "notes": list(self.notes),
            "trace": {kind: _describe_trace(trace) for kind, trace in self.traces.items()},
        }


_FACTS = ("bundle", "target", "precision", "lite_version", "edge_ocr_version", "runner", "reference")


def _keep_finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _describe_trace(trace: Trace) -> dict[str, Any]:
    content = asdict(trace)
    for tensor in content["tensors"]:
        tensor |= {name: _keep_finite(value) for name, value in tensor.items() if isinstance(value, float)}
    return content


def _describe_image(image: ImageParity) -> dict[str, Any]:
    return {
        "name": image.name,
        "tensors": {
            f"{kind}.{TENSOR_NAMES[kind]}": {
                "max_abs_diff": _keep_finite(diff.max_abs),
                "mean_abs_diff": _keep_finite(diff.mean_abs),
                "count": diff.count,
                "finite": diff.is_finite,
            }
            for kind, diff in image.tensors.items()
        },
        "boxes": {"reference": _count(image.box_pairs, 0), "exported": _count(image.box_pairs, 1)},
        "differing": [
            {"reference": pair.texts[0], "exported": pair.texts[1], "iou": round(pair.iou, 4)}
            for pair in image.text_pairs
            if not pair.is_equal
        ],
        "lines": len(image.text_pairs),
    }


def _count(pairs: Sequence[LinePair], side: int) -> int:
    return sum((pair.reference, pair.exported)[side] is not None for pair in pairs)
