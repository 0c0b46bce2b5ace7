"""Verifies on this machine that a bundle reads the same text as the models it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from converters.bundle.pictures import find_pictures_folder
from converters.bundle.reader import Bundle, inspect_bundle
from converters.bundle.targets import find_target
from converters.lite.compiler import Arch
from converters.lite.graph_engines import open_graph_engines
from converters.lite.libraries.store import find_library
from converters.lite.nb.to_onnx import NbGraph
from converters.processes.ssh import parse_ssh
from converters.report import Check, ImageParity, ParityReport, Trace
from converters.sources import list_source_files
from converters.sources.folders import find_folder
from converters.text import Report
from converters.verify.comparison import Comparison, KeptClasses, WorstInput
from converters.verify.lite_runner import open_lite_engines
from converters.verify.parity import check_figures, collect_figures
from converters.verify.pictures import LABELS, list_pictures
from edge_ocr.core.charset import Charset
from edge_ocr.core.engines.base import Engine, count_cores
from edge_ocr.devices import parse_device
from edge_ocr.engines import choose_engine, create_engine
from edge_ocr.errors import EdgeOcrError, ModelError, NotVerifiedError, UsageError
from edge_ocr.models.resolve import resolve_model
from edge_ocr.models.store import hash_file
from edge_ocr.models.types import Kind, Model, Progress


@dataclass(frozen=True)
class VerifyOptions:
    """A user's options for a verification."""

    images: tuple[str | Path, ...] = ()
    """Pictures, folders or URLs; if empty, the labelled pictures of `truth`, or else those that ship with edge-ocr."""
    truth: Path | None = None
    """A gt.jsonl; one line per picture: `{"image", "words": [{"poly": [[x, y] * 4] | null, "text", "ignore"?}]}`."""
    runner: str = "graph"
    """What runs the bundle: `graph`, `qemu` or `ssh://[user@]host[:port]/path`."""
    engine: str = "auto"
    """What runs the reference."""
    threads: int | None = None
    models: Mapping[Kind, str] = field(default_factory=dict)
    """Name or folder of the reference models that are not named as in the manifest."""
    dictionary: Path | None = None
    """Dictionary of the reference's recogniser, if its model does not include it."""
    arch: Arch | None = None
    """For `qemu` and `ssh`: one of the bundle's architectures; by default its first."""
    trusted: Path | None = None
    """File with the public key that must have signed the bundle."""
    trace: bool = False
    """Also compare every tensor within the networks, on the worst picture."""


def verify_bundle(
    folder: Path,
    options: VerifyOptions = VerifyOptions(),
    *,
    sources: Mapping[Kind, Model] = MappingProxyType({}),
    report: Report = lambda step: None,
    progress: Progress | None = None,
) -> ParityReport:
    """Compare the bundle in `folder` with the models it was made from, layer by layer.

    The layers are files and manifest, dictionary and classes, outputs of each network on the same inputs, boxes, texts
    and, with `options.truth`, accuracy. The report holds what failed; if files, dictionary or models fail, no network
    runs. `sources` are reference models that the caller has already resolved.

    Raises ModelError if `folder` is not a bundle, InputError if pictures or labels cannot be read, UsageError for
    invalid options, NotVerifiedError if verification could not run for any other reason.
    """
    _check_options(options)
    inspection = inspect_bundle(folder, options.trusted)
    bundle = inspection.bundle
    if bundle is None:
        return _write_up(folder, inspection.manifest, inspection.checks, options.runner, "not run")
    models = {kind: _find_reference(bundle, kind, options, sources, progress) for kind in bundle.models}
    kept, check = _compare_dictionaries(bundle, models["rec"])
    checks = [*inspection.checks, check]
    if not check.passed:
        return _write_up(folder, bundle.manifest, checks, options.runner, "not run", notes=bundle.notes)
    chosen = bundle.manifest.get("quantisation") or {}
    promise, notes = chosen.get("promise"), bundle.notes
    if promise is not None and chosen["pictures"] != "shipped" and not options.images and options.truth is None:
        promise, notes = (
            None,
            (*notes, "the manifest's promise is about other pictures: name some with --images or --gt"),
        )
    if promise is not None and promise["measure"] == "exact_lines" and options.truth is None:
        # The promise is about known texts.
        if options.images or options.runner != "graph":
            notes = (*notes, "the promise of the manifest is about known texts: name them with --gt to check it")
        else:
            options = replace(options, truth=find_pictures_folder() / LABELS)
    pictures = list_pictures(
        options.images, options.truth, is_slow=options.runner != "graph", settings=bundle.config.input
    )
    threads = options.threads or count_cores()
    with ExitStack() as stack:
        runner, engines, graphs = stack.enter_context(_open_runner(bundle, options, threads, report))
        names, loaded = {}, {}
        with _explain_reference():
            for kind, model in models.items():
                names[kind] = choose_engine(options.engine, model, parse_device("cpu"), None)
                report(f"{kind}: reference {model.name} on {names[kind]}")
                loaded[kind] = create_engine(names[kind], model, "cpu", 0, threads)
        if len(kept) < bundle.manifest["charset"]["source_classes"]:
            loaded["rec"] = KeptClasses(loaded["rec"], kept)
        comparison = Comparison(bundle, loaded, engines)
        images = []
        worst: dict[Kind, WorstInput] | None = {} if options.trace else None
        for picture in pictures:
            image = comparison.compare(picture, worst)
            images.append(image)
            report(_describe_progress(image))
        traces = {} if worst is None else _trace(bundle, models, graphs, kept, worst, report)
    figures = collect_figures(images)
    if not figures.get("texts.count"):
        raise NotVerifiedError(
            f"{folder}: neither side found text in {len(images)} pictures, so nothing was compared",
            "give pictures with text (--images)",
        )
    if options.truth is not None and "accuracy.lines" not in figures:
        raise NotVerifiedError(
            f"{options.truth}: no label that counts for any of the {len(images)} pictures",
            "label at least one line without `ignore`",
        )
    idle = [kind for kind in models if not any(kind in image.tensors for image in images)]
    if idle:
        raise NotVerifiedError(
            f"{folder}: {', '.join(idle)} did not run on any picture", "give pictures with text (--images)"
        )
    checks += _check_finite(images)
    checks += check_figures(figures, bundle.precision, promise, computing=bundle.computing)
    on = ", ".join(f"{kind} {model.name} on {names[kind]}" for kind, model in models.items())
    return _write_up(folder, bundle.manifest, checks, runner, on, images, figures, notes, traces)


def _write_up(
    folder: Path,
    manifest: Mapping[str, Any],
    checks: Sequence[Check],
    runner: str,
    reference: str,
    images: Sequence[ImageParity] = (),
    figures: Mapping[str, float] = MappingProxyType({}),
    notes: Sequence[str] = (),
    traces: Mapping[Kind, Trace] = MappingProxyType({}),
) -> ParityReport:
    lite = manifest.get("lite")
    return ParityReport(
        bundle=folder.resolve().name,
        # A damaged manifest may hold any type here.
        target=str(manifest.get("target", "unknown")),
        precision=str(manifest.get("precision", "unknown")),
        lite_version=str(lite.get("runtime_version", "unknown")) if isinstance(lite, dict) else "unknown",
        edge_ocr_version=str(manifest.get("edge_ocr_version", "unknown")),
        runner=runner,
        reference=reference,
        checks=tuple(checks),
        images=tuple(images),
        figures=figures,
        notes=tuple(notes),
        traces=traces,
    )


def _check_options(options: VerifyOptions) -> None:
    if options.runner not in ("graph", "qemu"):
        if not options.runner.startswith("ssh://"):
            raise UsageError(
                f"--runner {options.runner}: unknown runner", "use graph, qemu or ssh://[user@]host[:port]/path"
            )
        parse_ssh(options.runner)
    if options.runner == "graph" and options.arch is not None:
        raise UsageError(f"--arch {options.arch}: --runner graph runs on this machine", "add --runner qemu")
    if options.trace and options.runner != "graph":
        raise UsageError(f"--trace: --runner {options.runner} returns final outputs only", "use --runner graph")


# --- the reference


def _find_reference(
    bundle: Bundle, kind: Kind, options: VerifyOptions, sources: Mapping[Kind, Model], progress: Progress | None
) -> Model:
    """Return the model that the bundle's model was made from.

    Raises NotVerifiedError if it is not available, or its files are not those that the manifest lists.
    """
    if kind in sources:
        return sources[kind]
    source = bundle.manifest["models"][kind]["source"]
    names = ", ".join(f"--{each}-model" for each in bundle.models)
    hint = f"give the models that the bundle was made from ({names})"
    given = options.models.get(kind)
    if given is None and source.get("origin") == "folder":
        # Its name may be that of an official model, which is another one.
        folder = find_folder({name: entry["sha256"] for name, entry in source["files"].items()})
        if folder is None:
            listed = " and ".join(f"{name} ({entry['sha256'][:12]}…)" for name, entry in source["files"].items())
            raise NotVerifiedError(
                f"{bundle.folder}: {kind} was made from a folder that is not known on this machine: {source['name']}, "
                f"with {listed}",
                f"give that folder: --{kind}-model DIR",
            )
        given = str(folder)
    try:
        model = resolve_model(
            source["name"] if given is None else given,
            kind,
            dictionary_path=options.dictionary if kind == "rec" else None,
            progress=progress,
        )
        files = {name: hash_file(path) for name, path in list_source_files(model).items()}
    except ModelError as error:
        raise NotVerifiedError(f"the reference is not available: {error.message}", hint) from None
    except OSError as error:
        raise NotVerifiedError(f"{error.filename}: cannot be read: {error.strerror}") from None
    for file, entry in source["files"].items():
        if files.get(file) != entry["sha256"]:
            raise NotVerifiedError(
                f"{model.name} ({model.source}) is not the model that the bundle was made from: its {file} differs",
                hint,
            )
    return model


@contextmanager
def _explain_reference() -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except EdgeOcrError as error:
        raise NotVerifiedError(f"the reference cannot run here: {error.message}", error.hint) from None


def _compare_dictionaries(bundle: Bundle, model: Model) -> tuple[list[int], Check]:
    """Return the classes of the reference that the bundle keeps, and the check of its dictionary."""
    count = bundle.manifest["charset"]["source_classes"]
    own = bundle.charset.classes[1:]
    try:
        characters = Charset.fit(model.dictionary or (), count, model.name).classes
    except ModelError as error:
        return [], Check("dictionary", "reference", False, error.message)
    # The selection keeps the order and all classes of a character, so the next class with this text is the match.
    kept, place = [0], 1
    for line, text in enumerate(own, 1):
        try:
            place = characters.index(text, place) + 1
        except ValueError:
            found = "has elsewhere" if text in characters[1:] else "lacks"
            detail = f"line {line} of dict.txt is {text!r}, which the dictionary of {model.name} {found}"
            return [], Check("dictionary", "reference", False, detail)
        kept.append(place - 1)
    detail = f"{len(own)} of the {count - 1} characters of {model.name}, in the same order"
    return kept, Check("dictionary", "reference", True, detail)


# --- what runs the bundle


@contextmanager
def _open_runner(
    bundle: Bundle, options: VerifyOptions, threads: int, report: Report
) -> Iterator[tuple[str, Mapping[Kind, Engine], Mapping[Kind, NbGraph]]]:
    """Yield the runner's name, its engines, and for `graph` the graphs."""
    if options.runner == "graph":
        with open_graph_engines(bundle.models, threads) as opened:
            yield f"graph on {opened.name}", opened.engines, opened.graphs
        return
    arch = _choose_arch(bundle, options)
    library, include_dir = find_bundle_library(bundle, arch)
    report(f"library: {library}")
    files: dict[Kind, Path] = {kind: bundle.find_model(kind) for kind in bundle.models}
    version = bundle.manifest["lite"]["runtime_version"]
    with open_lite_engines(
        options.runner,
        files,
        library=library,
        include_dir=include_dir,
        arch=arch,
        expected_version=version,
        threads=threads,
        report=report,
    ) as processes:
        yield f"Paddle-Lite {version} for {arch}, {options.runner}", {kind: processes[kind] for kind in files}, {}


def _choose_arch(bundle: Bundle, options: VerifyOptions) -> Arch:
    target = find_target(bundle.manifest["target"])
    if target.name != "arm":
        raise NotVerifiedError(
            f"a bundle for {target.name} has libraries for phones, which --runner {options.runner} cannot run",
            "use --runner graph: the models are the same as in a bundle for arm",
        )
    had: list[Arch] = [abi for abi in get_args(Arch) if abi in bundle.manifest["lite"]["libraries"]]
    if not had:
        raise NotVerifiedError("the manifest names no board architecture", "export the bundle again")
    if options.arch is not None and options.arch not in had:
        raise UsageError(f"--arch {options.arch}: the bundle is for {', '.join(had)}")
    return options.arch or had[0]


def find_bundle_library(bundle: Bundle, arch: Arch) -> tuple[Path, Path]:
    """Return the bundle's library for boards, or else the one on this machine, and its headers.

    Raises NotVerifiedError if there is none, or it cannot be used.
    """
    lite = bundle.manifest["lite"]
    platform = find_target("arm").platforms[arch]
    try:
        library = find_library(platform, lite["runtime_version"])
    except ModelError as error:
        raise NotVerifiedError(f"the library cannot be used: {error.message}", error.hint) from None
    # Those of bundles for phones need another C library.
    shipped = lite["libraries"].get(arch, {}).get("file") if bundle.manifest["target"] == "arm" else None
    if library is None or library.cxx_library is None or library.include_dir is None:
        what = "headers" if shipped or library is not None else "library"
        raise NotVerifiedError(
            f"no Paddle-Lite {what} for {platform} {lite['runtime_version']} on this machine",
            f"run edge-ocr libs fetch --platform {platform} --version {lite['runtime_version']}, or add a local one "
            "with edge-ocr libs add",
        )
    return (bundle.folder / shipped if shipped else library.cxx_library), library.include_dir


def _trace(
    bundle: Bundle,
    models: Mapping[Kind, Model],
    graphs: Mapping[Kind, NbGraph],
    kept: Sequence[int],
    worst: Mapping[Kind, WorstInput],
    report: Report,
) -> dict[Kind, Trace]:
    from converters.verify.trace import trace_model

    traces: dict[Kind, Trace] = {}
    for kind, found in worst.items():
        report(f"{kind}: comparing every tensor on {found.picture}")
        traces[kind] = trace_model(
            models[kind].program,
            graphs[kind],
            found.array,
            bundle.precision,
            bundle.models[kind],
            kept_classes=kept if kind == "rec" and len(kept) < bundle.manifest["charset"]["source_classes"] else None,
        )
    return traces


def _check_finite(images: Sequence[ImageParity]) -> list[Check]:
    bad = [(image.name, kind) for image in images for kind, diff in image.tensors.items() if not diff.is_finite]
    detail = "; ".join(f"{kind} returns infinity or NaN on {name}" for name, kind in bad[:5])
    detail = detail or "all outputs are finite"
    return [Check("tensors", "finite", not bad, detail)]


def _describe_progress(image: ImageParity) -> str:
    if not image.text_pairs:
        return f"{image.name}: no text found"
    equal = sum(pair.is_equal for pair in image.text_pairs)
    return f"{image.name}: {equal} of {len(image.text_pairs)} lines identical"
