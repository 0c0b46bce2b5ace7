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
    """What the manifest says of one file."""

    sha256: str
    size_bytes: int

    @classmethod
    def describe(cls, data: bytes) -> FileEntry:
        """Return the entry of a file that holds `data`."""
        return cls(hashlib.sha256(data).hexdigest(), len(data))


@dataclass(frozen=True)
class Shim:
    """What stands between a board's Python and one Paddle-Lite library."""

    file: str | None
    """In the bundle; None where the board is to build it."""
    min_glibc: str | None
    """The oldest C library that loads both."""


@dataclass(frozen=True)
class ExportOptions:
    """What a user decides about a bundle, beside its target and its pipeline."""

    precision: Precision = "fp32"
    """Of the weights."""
    charset: str = "full"
    """`full`, a name of `converters.graph.charsets.NAMED_CHARSETS`, or a file with one character a line."""
    optimize: bool = True
    """Whether the exact passes run; those that opt cannot do without always do."""
    lite_version: str = LITE_VERSION
    """Of opt, and so of the runtime."""
    abis: tuple[str, ...] = ()
    """Of the device; empty for the target's first."""
    lite_lib: Path | None = None
    """A Paddle-Lite library, its archive or its unpacked folder; it is put into the store first."""
    allow_version_mismatch: bool = False
    zip: bool = False
    """Also write the bundle as `<out_dir>.zip`."""
    force: bool = False
    """Replace a bundle or project that is there; what its user added is kept, what was changed stops it."""
    with_onnx: bool = False
    """Also put the graphs into the bundle as ONNX, for boards without a Paddle-Lite library."""
    verify: bool = True
    """Compare the bundle with the models it is made from, and refuse it where it does not read the same."""
    signer: Signer | None = None
    """Signs the bundle; None leaves it unsigned."""


@dataclass(frozen=True)
class SourceModel:
    """A model that was looked at and can be converted."""

    model: Model
    signature: Signature
    files: Mapping[str, FileEntry]
    program: Program

    @property
    def size_bytes(self) -> int:
        """Return the size of program and parameters together."""
        return sum(file.size_bytes for file in self.files.values())


@dataclass(frozen=True)
class ExportedModel:
    """How one model came into the bundle."""

    source: SourceModel
    signature: Signature
    """Behind the passes, which may leave fewer classes."""
    passes: tuple[PassReport, ...]
    nb: NbModel
    data: bytes
    """Of the .nb, normalised."""
    seconds: float
    """For passes and opt."""


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
    """By ABI; None where there is no library for it on this machine."""
    shims: Mapping[str, Shim]
    """By ABI, for boards."""
    with_onnx: bool
    parity: ParityReport | None
    """None where the bundle was not verified."""
