"""What a verification finds: checks, figures, pairs of lines, and where tensors part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edge_ocr.core.types import BgrImage, TextLine
from edge_ocr.models.kinds import TENSOR_NAMES
from edge_ocr.models.types import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TracedTensor:
    """What one op of the `.nb` gives, against its counterpart in the source."""

    index: int
    """Of the op in the program."""
    op_type: str
    variable: str
    """Its name in the file, which other tensors may have, too."""
    params: tuple[str, ...]
    """Parameters that the op reads."""
    reference: str | None
    """Its counterpart: a tensor of the source, `x / s` for one whose factor s was moved on, `1 + x` for a gate; None
    where no tensor of the source has this shape."""
    max_abs_diff: float
    """Of the op alone, run on what its inputs should be as far as that is known; inf where there is no reference or
    something is not finite."""
    relative_diff: float
    """‖a - b‖ / ‖b‖, likewise."""
    agrees: bool
    """Whether `relative_diff` is below the threshold."""
    accumulated_diff: float
    """As `relative_diff`, of the whole `.nb` run from its input on: with what all ops before have added."""


@dataclass(frozen=True)
class Trace:
    """Where a `.nb` parts from its source, if it does."""

    tensors: tuple[TracedTensor, ...]
    """Of floats, in the order of the program, constants left out."""
    first_parted: int | None
    """Place in `tensors`, not the op's number: the first op that certainly has a counterpart and differs from it, on
    inputs that do not; None where no op parts."""
    last_agreed: int | None
    """Place in `tensors` of what is read by `first_parted`, or by those `between`, and agrees; the last where they are
    several, None where that is the input alone."""
    threshold: float
    between: tuple[int, ...] = ()
    """Places of ops on the way from `last_agreed` to `first_parted` for which no counterpart was found: it may be
    theirs that the graphs part."""


Layer = Literal["signature", "files", "dictionary", "models", "tensors", "boxes", "texts", "accuracy"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    layer: Layer
    name: str
    passed: bool
    detail: str
    """For people: what was found, and what was expected."""
    value: float | None = None
    limit: float | None = None
    """The tolerance; None where the check is no comparison of numbers."""


@dataclass(frozen=True)
class TensorDiff:
    """How far the output of one network is from the reference's, over one or more runs on the same inputs."""

    max_abs: float
    mean_abs: float
    count: int
    """Of the numbers compared."""
    is_finite: bool
    """Whether the exported network gave neither infinity nor NaN; where it did, the differences are infinite."""
    run_maxima: tuple[float, ...]
    """Of each run the largest difference."""
    row_size: int
    """Of the last axis: for the recogniser, the classes."""


@dataclass(frozen=True)
class ClassDiff:
    """How far each class of the recogniser is off, whether or not any picture shows its character."""

    log_sums: NDArray[np.float64]
    """For each class: sum over steps of the difference of the logarithms of both probabilities."""
    steps: int

    def __add__(self, other: ClassDiff) -> ClassDiff:
        return ClassDiff(self.log_sums + other.log_sums, self.steps + other.steps)


@dataclass(frozen=True)
class LinePair:
    """A line of the reference and the exported line in its place; one of them is None where it has no partner."""

    reference: TextLine | None
    exported: TextLine | None
    iou: float
    """In [0, 1]; 0 without a partner."""

    @property
    def texts(self) -> tuple[str, str]:
        """Return both texts; "" for a line that is not there."""
        return (self.reference.text if self.reference else "", self.exported.text if self.exported else "")

    @property
    def is_equal(self) -> bool:
        """Whether both read the same to the letter."""
        return self.texts[0] == self.texts[1]


@dataclass(frozen=True)
class Truth:
    """How one side does on one picture against its labels."""

    wanted: int
    """Lines that count."""
    found: int
    exact: int
    """Read without a mistake: NFKC, lower case, without spaces."""
    ned_sum: float
    """Sum of 1 - NED over the lines found."""

    def __add__(self, other: Truth) -> Truth:
        return Truth(
            self.wanted + other.wanted,
            self.found + other.found,
            self.exact + other.exact,
            self.ned_sum + other.ned_sum,
        )


@dataclass(frozen=True)
class ImageParity:
    """What was compared on one picture."""

    name: str
    image: BgrImage
    """H × W × 3 BGR."""
    tensors: Mapping[Kind, TensorDiff]
    """Of the networks that ran: rec and cls did not where the reference found no line."""
    box_pairs: tuple[LinePair, ...]
    """All boxes, whatever was read in them."""
    text_pairs: tuple[LinePair, ...]
    """Those of which either side shows a text; a text below `text_score` is not shown and reads as ""."""
    truth: tuple[Truth, Truth] | None = None
    """Reference and exported; None without labels."""
    classes: ClassDiff | None = None
    """Of the recogniser; None where it did not run."""

    @property
    def badness(self) -> tuple[float, float]:
        """Return what sorts pictures from good to bad: lines that differ, then the largest difference."""
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
    """Of the edge-ocr that made the bundle."""
    runner: str
    """What ran the bundle: `graph (openvino)`, `qemu`, or an ssh address."""
    reference: str
    """What it was compared with: models and engine."""
    checks: tuple[Check, ...]
    images: tuple[ImageParity, ...]
    figures: Mapping[str, float]
    """By name as in TOLERANCES, and counts."""
    notes: tuple[str, ...] = ()
    """What a reader should know, such as files that the manifest does not list."""
    traces: Mapping[Kind, Trace] = field(default_factory=dict)
    """Where it was asked for: every tensor of the graph against the reference's, on the worst picture."""

    @property
    def passed(self) -> bool:
        """Whether every check passed and the networks ran: what was not compared has not passed."""
        return bool(self.images) and all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """Return the checks that failed."""
        return tuple(check for check in self.checks if not check.passed)

    def to_json(self) -> dict[str, Any]:
        """Return all but the pictures as JSON knows it; numbers that are not finite become None."""
        return {
            "status": "passed" if self.passed else "failed",
            "bundle": self.bundle,
            "target": self.target,
            "precision": self.precision,
            "lite_version": self.lite_version,
            "edge_ocr_version": self.edge_ocr_version,
            "runner": self.runner,
            "reference": self.reference,
            "checks": [
                {
                    "layer": check.layer,
                    "name": check.name,
                    "passed": check.passed,
                    "detail": check.detail,
                    "value": _keep_finite(check.value),
                    "limit": check.limit,
                }
                for check in self.checks
            ],
            "figures": {name: _keep_finite(value) for name, value in self.figures.items()},
            "images": [_describe_image(image) for image in self.images],
            "notes": list(self.notes),
            "trace": {kind: _describe_trace(trace) for kind, trace in self.traces.items()},
        }


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
