"""The types that travel between the stages of an export."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from converters.graph.passes.report import PassReport
from converters.lite.libraries.library import RuntimeLibrary
from converters.lite.nb.read import NbModel
from converters.lite.opt import Precision
from converters.lite.toolchain import LITE_VERSION
from converters.report import ParityReport
from converters.signing import Signer
from converters.sources.program import Program, Signature
from edge_ocr.models.types import Model


@dataclass(frozen=True)
class FileEntry:
    """The manifest's entry of one file."""

    sha256: str
    size_bytes: int

    @classmethod
    def describe(cls, data: bytes) -> FileEntry:
        """Return the entry of a file that holds `data`."""
        return cls(hashlib.sha256(data).hexdigest(), len(data))


@dataclass(frozen=True)
class Shim:
    """The library that connects a board's Python to one Paddle-Lite library."""

    file: str | None
    """Path in the bundle; None if the board must build it."""
    min_glibc: str | None
    """The oldest C library that loads both."""


@dataclass(frozen=True)
class ExportOptions:
    """What a user decides about a bundle, in addition to its target and pipeline."""

    precision: Precision = "fp32"
    """Precision of the weights."""
    charset: str = "full"
    """`full`, a name in `converters.graph.charsets.NAMED_CHARSETS`, or a file with one character per line."""
    optimize: bool = True
    """Whether the exact passes run; the passes that opt needs always run."""
    lite_version: str = LITE_VERSION
    """Version of opt, and therefore of the runtime."""
    abis: tuple[str, ...] = ()
    """ABIs of the device; empty for the target's default."""
    lite_lib: Path | None = None
    """A Paddle-Lite library, its archive or its unpacked folder, which is put into the store first."""
    allow_version_mismatch: bool = False
    zip: bool = False
    """Also write the bundle as `<out_dir>.zip`."""
    force: bool = False
    """Replace an existing bundle or project, keeping files that its user added; files that the user changed stop it."""
    with_onnx: bool = False
    """Also add the graphs as ONNX, for boards without a Paddle-Lite library."""
    verify: bool = True
    """Compare the bundle with its source models, and refuse it if the texts differ."""
    signer: Signer | None = None
    """Signs the bundle; None leaves it unsigned."""


@dataclass(frozen=True)
class SourceModel:
    """A model that was read and checked, and can be converted."""

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
    """One converted model, and how it was converted."""

    source: SourceModel
    signature: Signature
    """Signature after the passes, which may reduce the number of classes."""
    passes: tuple[PassReport, ...]
    nb: NbModel
    data: bytes
    """Content of the .nb, normalised."""
    seconds: float
    """Time that passes and opt took."""


@dataclass(frozen=True)
class ExportReport:
    """What an export made."""

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
    parity: ParityReport | None
    """None if the bundle was not verified."""
