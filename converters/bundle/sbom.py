"""bom.cdx.json: the parts of a bundle with their origins and licences, as CycloneDX 1.6."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType, Pedigree
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from converters.bundle.android.project import find_sources_folder
from converters.bundle.board.files import RUNTIME, SCRIPTS, SERVICE
from converters.bundle.contents import BundleContents
from converters.bundle.golden import GOLDEN_FILE
from converters.bundle.manifest import SBOM, name_source
from converters.lite.libraries.elf import CXX_RUNTIME
from converters.lite.libraries.library import RuntimeLibrary
from converters.lite.libraries.platforms import asset_url
from converters.lite.toolchain import OptToolchain
from converters.plan import ExportedModel, FileEntry, SourceModel
from converters.sources.program import Port
from edge_ocr import __version__
from edge_ocr.core.bundle import SHIM
from edge_ocr.models.store import find_official_url, official_url
from edge_ocr.models.types import Archive, Kind, Published, SourceFile, Wheel

_APACHE = (DisjunctiveLicense(id="Apache-2.0"),)

_TASKS: Mapping[Kind, str] = MappingProxyType(
    {"det": "text detection", "rec": "text recognition", "cls": "text line orientation", "page": "page orientation"}
)

# What install.sh looks for, by pip's names; the board chooses their versions.
_BOARD_PACKAGES = ("numpy", "opencv-python-headless", "pyclipper")

# `name = "1.0"`, `id = "plugin", version.ref = "name"` and `module = "group:name", version.ref = "name"`.
_CATALOG_VERSION = re.compile(r'(?m)^(\w+) = "([^"]+)"$')
_CATALOG_ENTRY = re.compile(r'\b(id|module) = "([^"]+)", version\.ref = "([^"]+)"')


def build_sbom(contents: BundleContents, files: Mapping[str, FileEntry], around: Mapping[str, FileEntry]) -> bytes:
    """Return the SBOM of a bundle as JSON in UTF-8.

    `files` are those of the bundle, without SBOM and manifest. `around` are those of the project around it; the SBOM
    names only its Paddle-Lite libraries. The bom-ref of a file's component is its path, its hash that of the manifest.
    The user's own models and dictionaries have no licence here. The SBOM holds no time, and its serial number
    depends on its content only, so two exports give the same bytes.
    """
    exported = contents.models
    parts = _Parts({**around, **files})
    used = [_add_model(parts, model) for model in exported]
    used += [_add_graph(parts, model) for model in exported if _name_graph(model) in files]
    recogniser = next(model.source for model in exported if model.source.model.kind == "rec")
    licenses = () if contents.config.dictionary_path is not None else _find_origin(recogniser).licenses
    used.append(parts.add_file("dict.txt", type=ComponentType.DATA, licenses=licenses))
    used.append(parts.add_file(GOLDEN_FILE, type=ComponentType.DATA, description="the picture of the self-test"))
    if contents.target.name == "arm":
        runtime, needed = _add_board_runtime(parts, files)
    else:
        runtime, needed = _add_android_library(parts, contents.engines)
    for abi, library in contents.libraries.items():
        needed += _add_library(parts, contents, abi, library)
    for name in sorted(files.keys() - parts.named):
        # Headers for the shim are Paddle-Lite's; all else is settings and texts.
        licenses = _APACHE if name.startswith("include/") else ()
        used.append(parts.add_file(name, type=ComponentType.FILE, licenses=licenses))
    root = Component(
        name=f"edge-ocr bundle for {contents.target.summary}",
        type=ComponentType.APPLICATION,
        version=__version__,
        bom_ref="bundle",
    )
    parts.bom.metadata = BomMetaData(component=root, tools=ToolRepository(components=_list_tools(contents.toolchain)))
    parts.bom.register_dependency(root, [*used, runtime])
    parts.bom.register_dependency(runtime, needed)
    return _serialise(parts.bom, {f"models/{model.source.model.kind}.nb": _describe_card(model) for model in exported})


@dataclass
class _Parts:
    """The components added so far."""

    entries: Mapping[str, FileEntry]
    """Hash and size of each file, by path."""
    bom: Bom = field(default_factory=Bom)
    named: set[str] = field(default_factory=lambda: {SBOM})
    """Files that have a component."""

    def make_file(self, path: str, **facts: Any) -> Component:
        """Return the component of a file without adding it; its name is the path unless `facts` has one."""
        self.named.add(path)
        return Component(**{"name": path, **facts}, bom_ref=path, hashes=[_hash(self.entries[path])])

    def add_file(self, path: str, **facts: Any) -> Component:
        return self.add(self.make_file(path, **facts))

    def add(self, component: Component) -> Component:
        self.bom.components.add(component)
        return component

    def require(self, purl: PackageURL, scope: ComponentScope = ComponentScope.REQUIRED) -> Component:
        """Add a package that the bundle needs but does not contain."""
        facts: dict[str, Any] = {"name": purl.name, "group": purl.namespace, "version": purl.version}
        return self.add(Component(**facts, purl=purl, scope=scope, bom_ref=str(purl)))


@dataclass(frozen=True)
class _Origin:
    """The origin of a model; empty for the user's own models."""

    licenses: tuple[DisjunctiveLicense, ...] = ()
    purls: Mapping[str, PackageURL] = field(default_factory=dict)
    """By file, the place in a package that it was copied from."""
    urls: tuple[str, ...] = ()


def _find_origin(source: SourceModel) -> _Origin:
    spec = source.model.spec
    if spec is None:
        return _Origin()
    licenses = (DisjunctiveLicense(id=spec.licence),)
    hashes = {name: entry.sha256 for name, entry in source.files.items()}
    for given in spec.sources:
        files = {file.name: file for file in given.files}
        if isinstance(given, Archive):
            url = find_official_url(source.model.program.parent, given, hashes)
            if url is not None:
                return _Origin(licenses, urls=(url,))
        elif all(name in files and files[name].sha256 == sha256 for name, sha256 in hashes.items()):
            return _describe_origin(given, {name: files[name] for name in hashes}, licenses)
    return _Origin()


def _describe_origin(
    source: Wheel | Published, files: Mapping[str, SourceFile], licenses: tuple[DisjunctiveLicense, ...]
) -> _Origin:
    if isinstance(source, Published):
        return _Origin(licenses, urls=tuple(official_url(source, file) for file in files.values()))
    carrier = source.carrier
    purls = {
        name: PackageURL("pypi", name=carrier.name, version=carrier.version, subpath=f"{carrier.module}/{file.path}")
        for name, file in files.items()
    }
    return _Origin(licenses, purls)


def _add_model(parts: _Parts, model: ExportedModel) -> Component:
    source, kind = model.source, model.source.model.kind
    origin = _find_origin(source)
    sources = [
        Component(
            name=name,
            type=ComponentType.FILE,
            hashes=[_hash(entry)],
            purl=origin.purls.get(name),
            bom_ref=name_source(kind, name),
        )
        for name, entry in source.files.items()
    ]
    references = [ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(url)) for url in origin.urls]
    ancestor = Component(
        name=source.model.name,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        licenses=origin.licenses,
        external_references=references,
        components=sources,
        bom_ref=f"source/{kind}",
    )
    widths = {op.quantisation.bits for block in model.nb.blocks for op in block.ops if op.quantisation is not None}
    weights = ", ".join(f"int{bits}" for bits in sorted(widths)) or "fp32"
    return parts.add_file(
        f"models/{kind}.nb",
        name=source.model.name,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        description=f"{_TASKS[kind]}, for Paddle-Lite {model.nb.header.opt_version}",
        licenses=origin.licenses,
        pedigree=Pedigree(ancestors=[ancestor]),
        properties=[Property(name="edge-ocr:weights", value=weights)],
    )


def _name_graph(model: ExportedModel) -> str:
    return f"onnx/{model.source.model.kind}.onnx"


def _add_graph(parts: _Parts, model: ExportedModel) -> Component:
    kind = model.source.model.kind
    return parts.add_file(
        _name_graph(model),
        name=model.source.model.name,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        description=f"{_TASKS[kind]}: models/{kind}.nb as ONNX",
        licenses=_find_origin(model.source).licenses,
        properties=[Property(name="edge-ocr:weights", value="fp32")],
    )


def _describe_card(model: ExportedModel) -> dict[str, Any]:
    def describe(port: Port) -> str:
        return f"{port.dtype} {list(port.shape)}"

    (given, *_), (made, *_) = model.signature.inputs, model.signature.outputs
    return {
        "modelParameters": {
            "task": _TASKS[model.source.model.kind],
            "inputs": [{"format": f"{describe(given)}, NCHW, BGR"}],
            "outputs": [{"format": describe(made)}],
        }
    }


def _add_board_runtime(parts: _Parts, files: Mapping[str, FileEntry]) -> tuple[Component, list[Component]]:
    """Return the runtime, and what it needs in addition to a Paddle-Lite library."""
    own = [name for name in files if name.startswith(f"{RUNTIME}/") or name in (*SCRIPTS, SERVICE)]
    runtime = Component(
        name="edge-ocr-lite",
        version=__version__,
        description="the runtime for boards, in Python",
        licenses=_APACHE,
        components=[parts.make_file(name, type=ComponentType.FILE) for name in own],
        bom_ref="runtime",
    )
    needed = [parts.require(PackageURL("pypi", name=name)) for name in _BOARD_PACKAGES]
    if any(name.startswith("onnx/") for name in files):
        needed.append(parts.require(PackageURL("pypi", name="onnxruntime"), ComponentScope.OPTIONAL))
    return parts.add(runtime), needed


def _add_android_library(parts: _Parts, engines: Collection[str]) -> tuple[Component, list[Component]]:
    """Return module `ocr` and what it needs: plugins to build it, and to run Kotlin's library (added by its plugin) and
    the libraries that Gradle fetches.
    """
    library = Component(
        name="ocr",
        group="io.github.edgeocr",
        version=__version__,
        description="the library for Android, in Kotlin",
        licenses=_APACHE,
        bom_ref="runtime",
    )
    catalog = (find_sources_folder() / "gradle" / "libs.versions.toml").read_text(encoding="utf-8")
    versions = dict(_CATALOG_VERSION.findall(catalog))
    needed = [parts.require(PackageURL("maven", "org.jetbrains.kotlin", "kotlin-stdlib", versions["kotlin"]))]
    for what, name, version in _CATALOG_ENTRY.findall(catalog):
        # Gradle finds a plugin by an artifact of this name.
        if version == "onnxruntime" and "onnxruntime" not in engines:
            continue
        group, artifact = (name, f"{name}.gradle.plugin") if what == "id" else name.split(":")
        scope = ComponentScope.EXCLUDED if what == "id" else ComponentScope.REQUIRED
        needed.append(parts.require(PackageURL("maven", group, artifact, versions[version]), scope))
    return parts.add(library), needed


def _add_library(parts: _Parts, contents: BundleContents, abi: str, library: RuntimeLibrary | None) -> list[Component]:
    """Add the files of Paddle-Lite for an ABI; if the bundle lacks it, the URL to get it from."""
    target, opt_version = contents.target, contents.toolchain.opt_version
    version = opt_version if library is None else library.actual_version
    lite: dict[str, Any] = {
        "version": version,
        "licenses": _APACHE,
        "purl": PackageURL("github", "PaddlePaddle", "Paddle-Lite", version),
    }
    facts = {"name": "Paddle-Lite", "scope": ComponentScope.REQUIRED, **lite}
    if library is None:
        url = asset_url(target.platforms[abi], opt_version, official=True)
        reference = ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(url))
        text = f"for {abi}; not in the bundle"
        lacking = Component(**facts, description=text, external_references=[reference], bom_ref=f"Paddle-Lite/{abi}")
        return [parts.add(lacking)]
    file, *companions = target.place_library(abi, library)
    added = [parts.add_file(file, **facts, description=f"for {abi}")]
    for name in companions:
        # All ABIs share one .jar. The C++ runtime's licence depends on the NDK that it came from, so none is given.
        if name not in parts.named:
            added.append(parts.add_file(name, **({} if name.endswith(CXX_RUNTIME) else lite)))
    shim = contents.shims.get(abi)
    if shim is not None and shim.file is not None:
        between = parts.add_file(shim.file, name=SHIM, version=__version__, licenses=_APACHE)
        parts.bom.register_dependency(between, added[:1])
        added.append(between)
    return added


def _list_tools(toolchain: OptToolchain) -> list[Component]:
    purl = PackageURL("pypi", name="paddlelite", version=toolchain.wheel_version)
    facts: dict[str, Any] = {"type": ComponentType.APPLICATION, "licenses": _APACHE}
    return [
        Component(name="edge-ocr", version=__version__, bom_ref="tool/edge-ocr", **facts),
        Component(name="paddlelite", version=toolchain.wheel_version, purl=purl, bom_ref="tool/paddlelite", **facts),
    ]


def _hash(entry: FileEntry) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=entry.sha256)


def _serialise(bom: Bom, cards: Mapping[str, Any]) -> bytes:
    """Return the SBOM as JSON, adding the model cards (by bom-ref), for which the library has no class."""
    content = json.loads(JsonV1Dot6(bom).output_as_string())
    del content["metadata"]["timestamp"], content["serialNumber"]
    for component in content["components"]:
        if component["bom-ref"] in cards:
            component["modelCard"] = cards[component["bom-ref"]]
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(content, sort_keys=True))
    content["serialNumber"] = serial.urn
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
