"""The contents of a bundle, from which its manifest, SBOM and README are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.bundle.targets import Target
from converters.lite.libraries.library import RuntimeLibrary
from converters.lite.toolchain import OptToolchain
from converters.plan import ExportedModel, ExportOptions, Shim
from edge_ocr.config import PipelineConfig
from edge_ocr.core.charset import Charset
from edge_ocr.models.types import Kind


@dataclass(frozen=True)
class BundleContents:
    """The contents of a bundle, which `converters.export` fills once."""

    target: Target
    toolchain: OptToolchain
    options: ExportOptions
    config: PipelineConfig
    models: tuple[ExportedModel, ...]
    charset: Charset
    abis: tuple[str, ...]
    """The ABIs that it is for."""
    engines: tuple[str, ...]
    """What runs the networks in an app, the preferred one first: onnxruntime, paddle_lite. Empty for boards."""
    libraries: Mapping[str, RuntimeLibrary | None]
    """Of Paddle-Lite, by ABI; None if this machine has no library for it. Empty if an app does without Paddle-Lite."""
    shims: Mapping[str, Shim]
    """By ABI; empty for Android."""
    quantisation: Mapping[str, Any] | None
    """How integers were chosen, in the form of the manifest; None if all weights are float32."""
    golden: Sequence[Mapping[str, Any]] | None
    """The lines that the models read in the golden picture; None if unknown."""

    @property
    def needs_lite(self) -> bool:
        """Return whether Paddle-Lite runs the networks, or may."""
        return not self.engines or "paddle_lite" in self.engines

    def find_model(self, kind: Kind) -> ExportedModel | None:
        """Return the model of a kind; None if the bundle has none."""
        return next((model for model in self.models if model.source.model.kind == kind), None)
