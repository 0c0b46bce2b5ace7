"""manifest.json: what a bundle contains and what it was made from, as documented in `manifest.schema.json`."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from converters.bundle.android.project import read_version
from converters.bundle.contents import BundleContents
from converters.bundle.golden import GOLDEN_FILE
from converters.lite.libraries.library import RuntimeLibrary
from converters.lite.libraries.platforms import asset_url
from converters.plan import ExportedModel, FileEntry
from converters.report import ParityReport
from converters.sources.program import Port
from edge_ocr import __version__
from edge_ocr.config import PipelineConfig
from edge_ocr.core.bundle import SCHEMA_VERSION
from edge_ocr.core.charset import BLANK_INDEX
from edge_ocr.core.constants import list_constants
from edge_ocr.models.types import Kind

SBOM = "bom.cdx.json"
"""File name of the SBOM in a bundle."""


def read_schema() -> dict[str, Any]:
    """Return the JSON Schema of the manifest."""
    content: dict[str, Any] = json.loads(Path(__file__).with_name("manifest.schema.json").read_text(encoding="utf-8"))
    return content


def build_manifest(
    contents: BundleContents, files: Mapping[str, FileEntry], parity: ParityReport | None = None
) -> dict[str, Any]:
    """Return the manifest of a bundle without the list of its files.

    `files` are those already written, in the bundle and in the project around it; `parity` is None if the bundle was
    not verified. The manifest holds no time and no path of this machine, so two exports give the same bytes.
    """
    options, toolchain, charset = contents.options, contents.toolchain, contents.charset
    signer = options.signer
    recogniser = next(model.source for model in contents.models if model.source.model.kind == "rec")
    return {
        "schema_version": SCHEMA_VERSION,
        "edge_ocr_version": __version__,
        "target": contents.target.name,
        "precision": options.precision,
        "quantisation": contents.quantisation,
        "release": None if signer is None else asdict(signer.release),
        "lite": {
            "wheel_version": toolchain.wheel_version,
            "opt_version": toolchain.opt_version,
            "runtime_version": toolchain.opt_version,
            "libraries": {
                abi: _describe_library(contents, abi, library, files) for abi, library in contents.libraries.items()
            },
        },
        "app": _describe_app(contents),
        "charset": {
            "file": "dict.txt",
            "sha256": files["dict.txt"].sha256,
            "characters": len(charset.classes) - 1,
            "classes": len(charset.classes),
            "blank_index": BLANK_INDEX,
            "selection": Path(options.charset).name,
            "source_classes": recogniser.signature.outputs[0].shape[-1],
        },
        "models": {
            model.source.model.kind: _describe_model(model, files[f"models/{model.source.model.kind}.nb"])
            for model in contents.models
        },
        "onnx": _describe_onnx(files) or None,
        "settings": describe_settings(contents.config),
        "constants": list_constants(),
        "golden": None if contents.golden is None else {"image": GOLDEN_FILE, "lines": list(contents.golden)},
        "parity": {"status": "not_run"} if parity is None else _describe_parity(parity),
    }


def list_hashes(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return every sha256 that the SBOM must contain according to a valid manifest, by bom-ref.

    They cover the bundle's files, the libraries in the project around it, and the models' source files.
    """
    hashes = {name: entry["sha256"] for name, entry in manifest["files"].items() if name != SBOM}
    for library in manifest["lite"]["libraries"].values():
        if library["file"] is not None:
            hashes |= {library["file"]: library["sha256"], **library.get("companions", {})}
    for kind, model in manifest["models"].items():
        files = model["source"]["files"].items()
        hashes |= {name_source(kind, name): entry["sha256"] for name, entry in files}
    return hashes


def name_source(kind: Kind, file: str) -> str:
    """Return the bom-ref of a file that a model was converted from."""
    return f"source/{kind}/{file}"


def describe_settings(config: PipelineConfig) -> dict[str, Any]:
    """Return the stages' settings in the form of the manifest, under the names of `edge_ocr.core.settings`."""
    stages: dict[str, Any] = {
        "detection": config.detection,
        "recognition": config.recognition,
        "orientation": config.orientation,
        "page_orientation": config.page_orientation,
    }
    # A JSON round trip turns tuples into lists.
    content: dict[str, Any] = json.loads(json.dumps({stage: asdict(settings) for stage, settings in stages.items()}))
    return content


def _describe_parity(parity: ParityReport) -> dict[str, Any]:
    # Only figures with a limit, and the counts that they refer to. Two digits: differences this small vary with the
    # processor.
    judged = {check.name for check in parity.checks if check.limit is not None}
    judged |= {"images", "boxes.count", "texts.count"}
    figures = {
        name: float(f"{value:.2g}" if "diff" in name else f"{value:.4f}")
        for name, value in parity.figures.items()
        if name in judged
    }
    return {
        "status": "passed" if parity.passed else "failed",
        "runner": parity.runner,
        "reference": parity.reference,
        "figures": {name: value for name, value in figures.items() if math.isfinite(value)},
    }


def _describe_app(contents: BundleContents) -> dict[str, Any] | None:
    if not contents.engines:
        return None
    version = {"onnxruntime_version": read_version("onnxruntime")} if "onnxruntime" in contents.engines else {}
    return {"engines": list(contents.engines), "abis": list(contents.abis), **version}


def _describe_library(
    contents: BundleContents, abi: str, library: RuntimeLibrary | None, files: Mapping[str, FileEntry]
) -> dict[str, Any]:
    target = contents.target
    if library is None:
        # Not this machine's mirror, so that the same export gives the same bytes anywhere.
        return {"file": None, "url": asset_url(target.platforms[abi], contents.toolchain.opt_version, official=True)}
    file, *companions = target.place_library(abi, library)
    shim = contents.shims.get(abi)
    return {
        "file": file,
        "sha256": files[file].sha256,
        "version": library.actual_version,
        "version_matches": library.version_matches,
        "fits_16k_pages": library.info.fits_16k_pages,
        **({"companions": {name: files[name].sha256 for name in companions}} if companions else {}),
        **({} if shim is None else {"shim": shim.file, "min_glibc": shim.min_glibc}),
    }


def _describe_model(model: ExportedModel, entry: FileEntry) -> dict[str, Any]:
    source, nb = model.source, model.nb
    kind = source.model.kind
    kernels = [op.kernel for block in nb.blocks for op in block.ops]
    return {
        "file": f"models/{kind}.nb",
        **asdict(entry),
        "source": {
            "name": source.model.name,
            # The folder of a user's model may have the name of an official one in its inference.yml.
            "origin": "folder" if source.model.spec is None else "registry",
            "files": {name: asdict(of_file) for name, of_file in source.files.items()},
        },
        "passes": [asdict(report) for report in model.passes],
        "input": {
            **_describe_port(model.signature.inputs[0]),
            "layout": "NCHW",
            "channel_order": "BGR",
        },
        "output": _describe_port(model.signature.outputs[0]),
        "ops": dict(sorted(nb.op_histogram().items())),
        "kernels": dict(
            sorted(Counter(f"{k.target}/{k.precision}/{k.layout}" for k in kernels if k is not None).items())
        ),
    }


def _describe_onnx(files: Mapping[str, FileEntry]) -> dict[str, Any]:
    found = {kind: f"onnx/{kind}.onnx" for kind in get_args(Kind)}
    return {kind: {"file": name, **asdict(files[name])} for kind, name in found.items() if name in files}


def _describe_port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "shape": list(port.shape), "dtype": port.dtype}
