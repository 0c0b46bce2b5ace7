"""What det, rec, cls and page networks return, and the checks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from edge_ocr.core.charset import Charset
from edge_ocr.errors import ModelError
from edge_ocr.models.types import Kind, Model

OUTPUTS: Mapping[Kind, tuple[int | str, ...]] = MappingProxyType(
    {"det": ("N", 1, "H", "W"), "rec": ("N", "T", "classes"), "cls": ("N", 2), "page": ("N", 4)}
)
"""Shape of the output for an input of N × 3 × H × W; T: time steps."""

TENSOR_NAMES: Mapping[Kind, str] = MappingProxyType(
    {"det": "prob_map", "rec": "probs", "cls": "turned_probs", "page": "turn_probs"}
)
"""Name of the output in reports."""


def fits_output(kind: Kind, shape: Sequence[int], **sizes: int) -> bool:
    """Tell whether `shape`, -1 for any size, is that of a network's output.

    `sizes` fixes dimensions of `OUTPUTS` by name, such as N=1; the others may have any size.
    """
    expected = OUTPUTS[kind]
    return len(shape) == len(expected) and all(
        size == -1 or size == (sizes.get(name, size) if isinstance(name, str) else name)
        for name, size in zip(expected, shape, strict=True)
    )


def check_output(model: Model, shape: Sequence[int], **sizes: int) -> None:
    """Raise ModelError if `shape` is not that of the output of the model's kind; arguments as in `fits_output`."""
    if not fits_output(model.kind, shape, **sizes):
        expected = " × ".join(str(sizes.get(str(name), name)) for name in OUTPUTS[model.kind])
        raise ModelError(
            f"{model.name} is not a {model.kind} model: its output is {' × '.join(map(str, shape))}, "
            f"expected {expected}",
            "check whether the detection and recognition models are swapped",
        )


def fit_charset(model: Model, class_count: int) -> Charset:
    """Return the charset of a recogniser.

    Raises ModelError if it has no dictionary or one that does not fit its number of classes.
    """
    if model.dictionary is None:
        raise ModelError(f"{model.name} has no dictionary", "set Recognition.character_dict_path")
    return Charset.fit(model.dictionary, class_count, model.name)
