"""The types that the stages of an export pass on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from converters.graph.passes.report import PassReport
from converters.lite.libraries.library import RuntimeLibrary
from converters.lite.nb.read import NbModel
from converters.lite.nb.rounded import Precision
from converters.lite.toolchain import LITE_VERSION
from converters.report import ParityReport
from converters.signing import Signer
from converters.sources.program import Program, Signature
from edge_ocr.models.types import Model


@dataclass(frozen=True)
class FileEntry:
    """The manifest's entry for one file."""

    sha256: str
    size_bytes: int

    @classmethod
    def describe(cls, data: bytes) -> FileEntry:
        """Return the entry of a file that holds `data`."""
        return cls(hashlib.sha256(data).hexdigest(), len(data))


@dataclass(frozen=True)
class Shim:
    """The library between a board's Python and one Paddle-Lite library."""

    file: str | None
    """Path in the bundle; None if the board builds it."""
    min_glibc: str | None
    """The oldest glibc that loads both."""


@dataclass(frozen=True)
class ExportOptions:
    """A user's options for a bundle, besides its target and pipeline."""

    precision: Precision = "fp32"
    """Precision of the weights; `auto` chooses one for each layer."""
    compute: Literal["fp32", "int8"] | None = None
    """`int8`: as many layers as the limit allows compute in int8. For precisions int8 and auto. None: as `prefer`."""
    calibrate: tuple[Path, ...] = ()
    """Pictures, folders and gt.jsonl files that integers are chosen on; empty for the shipped pictures."""
    max_drop: float = 0.002
    """For a search: the highest share of lines, in [0, 1], that may be lost."""
    prefer: Literal["size", "speed"] = "size"
    """For `auto`: `speed` also lets layers compute in int8."""
    charset: str = "full"
    """`full`, a key of `converters.graph.charsets.NAMED_CHARSETS`, or a file with one character per line."""
    optimize: bool = True
    """Whether to run the optional exact passes; the ones that opt requires always run."""
    lite_version: str = LITE_VERSION
    """Version of opt, and so of the runtime."""
    abis: tuple[str, ...] = ()
    """ABIs of the device; empty for the target's default."""
    lite_lib: Path | None = None
    """A Paddle-Lite library, its archive or its unpacked folder; added to the store first."""
    allow_version_mismatch: bool = False
    zip: bool = False
    """Also write the bundle as `<out_dir>.zip`."""
    force: bool = False
    """Replace an existing bundle or project. Files that the user added are kept; changed files stop the export."""
    engine: Literal["onnxruntime", "paddle_lite", "both"] | None = None
    """What runs the networks in an app. None: Paddle-Lite if `lite_lib` is given, else ONNX Runtime."""
    with_onnx: bool = False
    """Also include the graphs as ONNX, for boards without a Paddle-Lite library."""
    verify: bool = True
    """Compare the bundle with its source models, and fail if it does not read the same text."""
    signer: Signer | None = None
    """Signs the bundle; None leaves it unsigned."""

    @property
    def computes_int8(self) -> bool:
        """Return whether layers may compute in int8."""
        return self.compute == "int8" or (self.compute is None and self.precision == "auto" and self.prefer == "speed")


@dataclass(frozen=True)
class SourceModel:
    """A model that was checked and can be converted."""

    model: Model
    signature: Signature
    files: Mapping[str, FileEntry]
    program: Program

    @property
    def size_bytes(self) -> int:
        """Return the total size of program and parameters."""
        return sum(file.size_bytes for file in self.files.values())


@dataclass(frozen=True)
class ExportedModel:
    """A converted model."""

    source: SourceModel
    signature: Signature
    """After the passes, which may leave fewer classes."""
    passes: tuple[PassReport, ...]
    nb: NbModel
    data: bytes
    """The normalised .nb."""
    seconds: float
    """Time for passes and opt."""


@dataclass(frozen=True)
class ExportReport:
    """The result of an export."""

    out_dir: Path
    zip_file: Path | None
    target: str
    opt_version: str
    precision: Precision
    models: tuple[ExportedModel, ...]
    libraries: Mapping[str, RuntimeLibrary | None]
    """By ABI; None if this machine has no library for it."""
    shims: Mapping[str, Shim]
    """By ABI, for boards."""
    with_onnx: bool
    engines: tuple[str, ...]
    """Those of an app, as `BundleContents.engines`."""
    parity: ParityReport | None
    """None if the bundle was not verified."""
