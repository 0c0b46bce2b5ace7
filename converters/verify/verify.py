"""Proves on this machine that a bundle reads the same text as the models it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from converters.bundle.pictures import find_pictures_folder
from converters.bundle.reader import Bundle, inspect_bundle
from converters.bundle.targets import find_target
from converters.lite.compiler import Arch
from converters.lite.graph_engines import open_graph_engines
from converters.lite.libraries.store import find_library
from converters.lite.nb.to_onnx import NbGraph
from converters.processes.ssh import parse_ssh
from converters.report import Check, ClassDiff, ImageParity, ParityReport, TensorDiff
from converters.sources import list_source_files
from converters.text import Report, clean_text
from converters.verify.lite_process import open_lite_engines
from converters.verify.parity import (
    check_figures,
    collect_figures,
    compare_arrays,
    compare_classes,
    merge_diffs,
    pair_lines,
    score_truth,
)
from edge_ocr.core.charset import Charset
from edge_ocr.core.engines.base import count_cores
from edge_ocr.core.imaging import prepare_detection
from edge_ocr.core.pipeline import TextReader
from edge_ocr.devices import parse_device
from edge_ocr.engines import choose_engine, create_engine
from edge_ocr.errors import EdgeOcrError, InputError, ModelError, NotVerifiedError, UsageError
from edge_ocr.inputs import list_sources
from edge_ocr.models.kinds import fits_output
from edge_ocr.models.resolve import resolve_model
from edge_ocr.models.types import Kind, Model, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from converters.report import Trace
    from edge_ocr.core.engines.base import Engine
    from edge_ocr.core.settings import DetectionSettings
    from edge_ocr.core.types import BgrImage, TextLine

# Under emulation a line takes seconds: one picture of a few lines tells as much as four.
_SLOW_PICTURE = "sign.png"

# Every tensor of a network is held at once: at this size tens of megabytes, at 960 gigabytes.
_TRACE_SIDE = 320
# Of a line; what is beyond is left out.
_TRACE_WIDTH = 640


@dataclass(frozen=True)
class VerifyOptions:
    """What a user decides about a comparison."""

    images: tuple[str | Path, ...] = ()
    """Pictures, folders or URLs; empty for the labelled ones of `truth`, or else those that ship with edge-ocr."""
    truth: Path | None = None
    """A gt.jsonl: a line `{"image", "words": [{"poly": [[x, y] * 4] | null, "text", "ignore"?}]}` a picture."""
    runner: str = "graph"
    """What runs the bundle: `graph`, `qemu` or `ssh://[user@]host[:port]/path`."""
    engine: str = "auto"
    """What runs the reference."""
    threads: int | None = None
    models: Mapping[Kind, str] = field(default_factory=dict)
    """Where the reference is another folder or name than the manifest's."""
    dictionary: Path | None = None
    """Of the reference's recogniser, where its model does not carry it."""
    arch: Arch | None = None
    """For `qemu` and `ssh`: which of the bundle's; its first by default."""
    trusted: Path | None = None
    """File of the public key that must have signed the bundle."""
    trace: bool = False
    """Also compare every tensor inside the networks, on the worst picture."""


@dataclass(frozen=True)
class _Picture:
    name: str
    image: BgrImage
    words: Sequence[Mapping[str, Any]] | None


def verify_bundle(
    folder: Path,
    options: VerifyOptions = VerifyOptions(),
    *,
    sources: Mapping[Kind, Model] = MappingProxyType({}),
    report: Report = lambda step: None,
    progress: Progress | None = None,
) -> ParityReport:
    """Compare the bundle in `folder` with the models it was made from, layer by layer.

    Files and manifest, dictionary against classes, outputs of each network on the same inputs, boxes, texts, and
    with `options.truth` accuracy. What is wrong is in the report; where files, dictionary or models are, no network
    is run. `sources` are the reference's models where the caller has them at hand.

    Raises ModelError where there is no bundle, InputError for pictures and labels that cannot be read, UsageError for
    options that make no sense, NotVerifiedError for all else that keeps the comparison from being made.
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
    pictures = _list_pictures(bundle, options)
    threads = options.threads or count_cores()
    with ExitStack() as stack:
        runner, engines, graphs = stack.enter_context(_open_runner(bundle, options, threads, report))
        names = {}
        for kind, model in models.items():
            names[kind] = _choose_reference_engine(options, model)
            report(f"{kind}: reference {model.name} on {names[kind]}")
        loaded = {kind: _load_reference(names[kind], model, threads) for kind, model in models.items()}
        if len(kept) < bundle.manifest["charset"]["source_classes"]:
            loaded["rec"] = _KeptClasses(loaded["rec"], kept)
        comparison = _Comparison(bundle, loaded, engines)
        images = []
        worst = _Worst() if options.trace else None
        for picture in pictures:
            image = comparison.compare(picture, worst)
            images.append(image)
            report(_describe_progress(image))
        traces = {} if worst is None else _trace(bundle, models, graphs, kept, worst, report)
    figures = collect_figures(images)
    if not figures.get("texts.count"):
        raise NotVerifiedError(
            f"{folder}: neither side found a text in {len(images)} pictures, so nothing was compared",
            "give pictures with text (--images)",
        )
    if options.truth is not None and "accuracy.lines" not in figures:
        raise NotVerifiedError(f"{options.truth} has no label that counts for any of the {len(images)} pictures")
    idle = [kind for kind in models if not any(kind in image.tensors for image in images)]
    if idle:
        raise NotVerifiedError(f"{folder}: {', '.join(idle)} never ran", "give pictures with text (--images)")
    checks += _check_finite(images)
    checks += check_figures(figures, bundle.precision)
    on = ", ".join(f"{kind} {model.name} on {names[kind]}" for kind, model in models.items())
    return _write_up(folder, bundle.manifest, checks, runner, on, images, figures, bundle.notes, traces)


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
        # A damaged manifest may hold anything under these names.
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
            raise UsageError(f"--runner {options.runner}: unknown", "graph, qemu or ssh://[user@]host[:port]/path")
        parse_ssh(options.runner)
    if options.runner == "graph" and options.arch is not None:
        raise UsageError(f"--arch {options.arch}: the graph runs on this machine", "give --runner qemu, too")
    if options.trace and options.runner != "graph":
        raise UsageError(f"--trace: {options.runner} shows outputs only", "trace with --runner graph")


# --- the reference


def _find_reference(
    bundle: Bundle, kind: Kind, options: VerifyOptions, sources: Mapping[Kind, Model], progress: Progress | None
) -> Model:
    """Return the model that the bundle's was made from.

    Raises NotVerifiedError where it cannot be had, or is another one than the manifest names.
    """
    source = bundle.manifest["models"][kind]["source"]
    model = sources.get(kind)
    if model is None:
        name = options.models.get(kind, source["name"])
        options_of_models = ", ".join(f"--{each}-model" for each in bundle.models)
        hint = f"{options_of_models} give the models that the bundle was made from"
        dictionary = options.dictionary if kind == "rec" else None
        try:
            model = resolve_model(name, kind, dictionary_path=dictionary, progress=progress)
        except ModelError as error:
            raise NotVerifiedError(f"the reference cannot be had: {error.message}", hint) from None
        files = list_source_files(model)
        for file, entry in source["files"].items():
            if file not in files or _hash(files[file]) != entry["sha256"]:
                raise NotVerifiedError(
                    f"{model.name} ({model.source}) is not the model that the bundle was made from: its {file} differs",
                    hint,
                )
    return model


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise NotVerifiedError(f"{path}: cannot be read: {error.strerror}") from None


def _choose_reference_engine(options: VerifyOptions, model: Model) -> str:
    try:
        return choose_engine(options.engine, model, parse_device("cpu"), None)
    except UsageError:
        raise
    except EdgeOcrError as error:
        raise NotVerifiedError(f"the reference cannot be run: {error.message}", error.hint) from None


def _load_reference(engine: str, model: Model, threads: int) -> Engine:
    try:
        return create_engine(engine, model, "cpu", 0, threads)
    except EdgeOcrError as error:
        raise NotVerifiedError(f"the reference cannot be run: {error.message}", error.hint) from None


def _compare_dictionaries(bundle: Bundle, model: Model) -> tuple[list[int], Check]:
    """Return which classes of the reference the bundle keeps, and whether its dictionary is theirs."""
    count = bundle.manifest["charset"]["source_classes"]
    own = bundle.charset.classes[1:]
    try:
        characters = Charset.fit(model.dictionary or (), count, model.name).classes
    except ModelError as error:
        return [], Check("dictionary", "reference", False, error.message)
    # The selection keeps the order and all classes of a character, so the next class that reads so is the one.
    kept, place = [0], 1
    for line, text in enumerate(own, 1):
        try:
            place = characters.index(text, place) + 1
        except ValueError:
            where = "in another place" if text in characters[1:] else "nowhere"
            detail = f"line {line} of dict.txt is {text!r}, which the dictionary of {model.name} has {where}"
            return [], Check("dictionary", "reference", False, detail)
        kept.append(place - 1)
    detail = f"{len(own)} of the {count - 1} characters of {model.name}, in its order"
    return kept, Check("dictionary", "reference", True, detail)


# --- what runs the bundle


@contextmanager
def _open_runner(
    bundle: Bundle, options: VerifyOptions, threads: int, report: Report
) -> Iterator[tuple[str, Mapping[Kind, Engine], Mapping[Kind, NbGraph]]]:
    """Yield the runner's name, its engines, and the graphs where they were built."""
    if options.runner == "graph":
        with open_graph_engines(bundle.models, threads) as opened:
            yield f"graph on {opened.name}", opened.engines, opened.graphs
        return
    arch = _choose_arch(bundle, options)
    library, include_dir = _find_library(bundle, arch)
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
            f"a bundle for {target.name} has libraries for phones, which {options.runner} cannot run",
            "--runner graph; the models are the same as in a bundle for arm",
        )
    had: list[Arch] = [abi for abi in get_args(Arch) if abi in bundle.manifest["lite"]["libraries"]]
    if not had:
        raise NotVerifiedError("the manifest names no architecture of boards")
    if options.arch is not None and options.arch not in had:
        raise UsageError(f"--arch {options.arch}: the bundle is for {', '.join(had)}")
    return options.arch or had[0]


def _find_library(bundle: Bundle, arch: Arch) -> tuple[Path, Path]:
    """Return the library that ships, or where none does, the one of this machine, and the headers for it."""
    lite = bundle.manifest["lite"]
    platform = find_target("arm").platforms[arch]
    try:
        library = find_library(platform, lite["runtime_version"])
    except ModelError as error:
        raise NotVerifiedError(f"the library cannot be used: {error.message}", error.hint) from None
    shipped = lite["libraries"][arch]["file"]
    if library is None or library.cxx_library is None or library.include_dir is None:
        what = "headers" if shipped or library is not None else "library"
        raise NotVerifiedError(
            f"there is no Paddle-Lite {what} for {platform} {lite['runtime_version']} on this machine",
            f"edge-ocr libs fetch --platform {platform} --version {lite['runtime_version']} gets one; "
            "edge-ocr libs add takes one that is here",
        )
    return (bundle.folder / shipped if shipped else library.cxx_library), library.include_dir


# --- comparing


# Outputs that are kept until the picture is done, for each network. A page of many lines has more; those run twice.
_MAX_KEPT_BYTES = 256 * 2**20


class _CheckedEngine:
    """An engine whose failures and odd outputs mean that nothing was verified."""

    def __init__(self, engine: Engine, kind: Kind, classes: int, label: str) -> None:
        self._engine = engine
        self._kind = kind
        self._classes = classes
        self._label = label
        self.name = engine.name

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            output = np.array(self._engine.run(array), dtype=np.float32)
        except NotVerifiedError:
            raise
        except EdgeOcrError as error:
            raise NotVerifiedError(f"{self._label} does not run: {error.message}", error.hint) from None
        self._check_shape(array.shape, output.shape)
        return output

    def _check_shape(self, given: tuple[int, ...], found: tuple[int, ...]) -> None:
        # Post-processing would go wrong in its own ways on any other.
        batch, _, height, width = given
        if not fits_output(self._kind, found, N=batch, H=height, W=width, classes=self._classes):
            raise NotVerifiedError(f"{self._label} gives {list(found)} for {self._kind} of {list(given)}")


class _Recorder(_CheckedEngine):
    """Runs an input once, and remembers what came of it until the picture is done."""

    def __init__(self, engine: Engine, kind: Kind, classes: int, label: str) -> None:
        super().__init__(engine, kind, classes, label)
        self._outputs: dict[bytes, NDArray[np.float32]] = {}

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        key = hashlib.sha256(repr(array.shape).encode() + array.tobytes()).digest()
        output = self._outputs.get(key)
        if output is None:
            output = super().run(array)
            if output.nbytes + sum(one.nbytes for one in self._outputs.values()) <= _MAX_KEPT_BYTES:
                self._outputs[key] = output
        return output

    def forget(self) -> None:
        self._outputs.clear()


class _Comparer(_CheckedEngine):
    """An engine of the reference: what it runs, the bundle's runs, too, and the outputs are compared."""

    def __init__(self, engine: Engine, kind: Kind, classes: int, exported: Engine) -> None:
        super().__init__(engine, kind, classes, "the reference")
        self._exported = exported
        self.diffs: list[TensorDiff] = []
        self.worst: NDArray[np.float32] | None = None
        """The input on which they differ most."""
        self.classes: ClassDiff | None = None

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        output = super().run(array)
        other = self._exported.run(array)
        diff = compare_arrays(output, other)
        if not self.diffs or diff.max_abs > max(one.max_abs for one in self.diffs):
            self.worst = array
        self.diffs.append(diff)
        if self._kind == "rec" and diff.is_finite:
            classes = compare_classes(output, other)
            self.classes = classes if self.classes is None else self.classes + classes
        return output

    def forget(self) -> None:
        self.diffs = []
        self.worst = None
        self.classes = None


class _KeptClasses:
    """The reference's recogniser as it would be with the bundle's classes alone: softmax over fewer."""

    def __init__(self, engine: Engine, kept: Sequence[int]) -> None:
        self._engine = engine
        self._kept = np.array(kept)
        self.name = engine.name

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        probs = np.asarray(self._engine.run(array))[..., self._kept].astype(np.float64)
        total = np.maximum(probs.sum(axis=-1, keepdims=True), np.finfo(np.float64).tiny)
        return np.asarray(probs / total, dtype=np.float32)


class _Side:
    """Reference or bundle: the pipeline that a device runs, over its engines."""

    def __init__(self, bundle: Bundle, engines: Mapping[Kind, Engine]) -> None:
        # One line a run: the same input then gives the same run on both sides.
        config = bundle.config.with_values({"Pipeline.text_rec_batch_size": 1}, "verify")
        self._text_score = config.recognition.text_score
        self._reader = TextReader.build(engines, bundle.charset, config)

    def read(self, image: BgrImage) -> list[TextLine]:
        """Return a line for each box; what is below `text_score` has the text ""."""
        lines = self._reader.read_all(image, {})
        return [line if line.rec_score >= self._text_score else replace(line, text="") for line in lines]


@dataclass
class _Worst:
    """The input on which each network differs most, and the picture that it is of."""

    differences: dict[Kind, float] = field(default_factory=dict)
    inputs: dict[Kind, NDArray[np.float32]] = field(default_factory=dict)
    pictures: dict[Kind, str] = field(default_factory=dict)

    def is_worse(self, kind: Kind, difference: float) -> bool:
        return kind not in self.differences or difference > self.differences[kind]

    def keep(self, kind: Kind, difference: float, array: NDArray[np.float32], picture: str) -> None:
        self.differences[kind], self.inputs[kind], self.pictures[kind] = difference, array, picture


class _Comparison:
    """Both sides, ready to be compared on one picture after the other."""

    def __init__(self, bundle: Bundle, reference: Mapping[Kind, Engine], exported: Mapping[Kind, Engine]) -> None:
        classes = len(bundle.charset.classes)
        self._detection = bundle.config.detection
        self._recorders = {kind: _Recorder(one, kind, classes, "the bundle") for kind, one in exported.items()}
        self._comparers = {
            kind: _Comparer(one, kind, classes, self._recorders[kind]) for kind, one in reference.items()
        }
        self._reference = _Side(bundle, self._comparers)
        self._exported = _Side(bundle, self._recorders)

    def compare(self, picture: _Picture, worst: _Worst | None) -> ImageParity:
        image = picture.image
        try:
            # The networks are compared while the reference reads, on the inputs that its own boxes lead to.
            lines = self._reference.read(image), self._exported.read(image)
            tensors: dict[Kind, TensorDiff] = {}
            for kind, comparer in self._comparers.items():
                merged = merge_diffs(comparer.diffs)
                if merged is None or comparer.worst is None:
                    continue
                tensors[kind] = merged
                if worst is not None and worst.is_worse(kind, merged.max_abs):
                    array = _prepare_trace(kind, comparer.worst, image, self._detection)
                    worst.keep(kind, merged.max_abs, array, picture.name)
            classes = self._comparers["rec"].classes
        finally:
            for kind, comparer in self._comparers.items():
                comparer.forget()
                self._recorders[kind].forget()
        pairs = pair_lines(*lines)
        truth = None
        if picture.words is not None:
            shown = [[line for line in side if line.text] for side in lines]
            truth = (score_truth(picture.words, shown[0]), score_truth(picture.words, shown[1]))
        shown_pairs = tuple(pair for pair in pairs if any(pair.texts))
        return ImageParity(picture.name, image, MappingProxyType(tensors), pairs, shown_pairs, truth, classes)


def _prepare_trace(
    kind: Kind, array: NDArray[np.float32], image: BgrImage, detection: DetectionSettings
) -> NDArray[np.float32]:
    """Return the input that a trace is made on: the same one, or the picture at a size that fits into memory."""
    if kind == "det" and max(array.shape[2:]) > _TRACE_SIDE:
        return prepare_detection(image, replace(detection, limit_side_len=_TRACE_SIDE, limit_type="max"))
    return np.ascontiguousarray(array[:1, :, :, :_TRACE_WIDTH])


def _trace(
    bundle: Bundle,
    models: Mapping[Kind, Model],
    graphs: Mapping[Kind, NbGraph],
    kept: Sequence[int],
    worst: _Worst,
    report: Report,
) -> dict[Kind, Trace]:
    from converters.verify.trace import trace_model

    traces: dict[Kind, Trace] = {}
    for kind, array in worst.inputs.items():
        report(f"{kind}: following every tensor on {worst.pictures[kind]}")
        traces[kind] = trace_model(
            models[kind].program,
            graphs[kind],
            array,
            bundle.precision,
            bundle.models[kind],
            kept_classes=kept if kind == "rec" and len(kept) < bundle.manifest["charset"]["source_classes"] else None,
        )
    return traces


def _check_finite(images: Sequence[ImageParity]) -> list[Check]:
    bad = [(image.name, kind) for image in images for kind, diff in image.tensors.items() if not diff.is_finite]
    detail = "; ".join(f"{kind} gives infinity or NaN on {name}" for name, kind in bad[:5]) or "every number is finite"
    return [Check("tensors", "finite", not bad, detail)]


def _describe_progress(image: ImageParity) -> str:
    if not image.text_pairs:
        return f"{image.name}: no text found"
    equal = sum(pair.is_equal for pair in image.text_pairs)
    return f"{image.name}: {equal} of {len(image.text_pairs)} lines equal"


# --- pictures and labels


def _list_pictures(bundle: Bundle, options: VerifyOptions) -> Iterator[_Picture]:
    """Return the pictures to compare on, each decoded when it is its turn.

    Raises InputError for labels that cannot be read or fit no picture, and where there is no picture.
    """
    labels = {} if options.truth is None else _read_labels(options.truth)
    images: Sequence[str | Path] = options.images
    if not images and options.truth is not None:
        images = [options.truth.parent / name for name in labels]
    elif not images and options.runner != "graph":
        images = [find_pictures_folder() / _SLOW_PICTURE]
    elif not images:
        images = sorted(path for path in find_pictures_folder().iterdir() if path.suffix in (".jpg", ".png"))
    # A list: what is not there shows itself before minutes of work.
    sources = [source for image in images for source in list_sources(image)]
    if not sources:
        raise InputError("there is no picture among the images to compare on", "give pictures or folders with pictures")
    # A label names its picture from where the labels are, or by its bare name.
    by_path = {} if options.truth is None else {_resolve(options.truth.parent / name): name for name in labels}

    def find_words(path: Path) -> list[dict[str, Any]] | None:
        return labels.get(by_path.get(_resolve(path), path.name))

    if labels and not any(find_words(Path(str(source.input_path))) is not None for source in sources):
        raise InputError(f"{options.truth}: has labels for none of the {len(sources)} pictures", "do names differ?")

    def decode() -> Iterator[_Picture]:
        for source in sources:
            path = Path(str(source.input_path))
            for page in source.pages(bundle.config.input):
                name = path.name if page.page_index is None else f"{path.name}, page {page.page_index + 1}"
                yield _Picture(name, page.image, find_words(path) if page.page_index is None else None)

    return decode()


def _resolve(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):  # no path at all, as a URL may be
        return path


def _read_labels(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the words of each picture of a gt.jsonl."""
    try:
        # Not splitlines: texts may hold other signs that end lines.
        rows = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"{path}: cannot be read: {reason}", "give a gt.jsonl (--gt)") from None
    labels: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        try:
            content = json.loads(row)
            name = content["image"]
            if not isinstance(name, str):
                raise TypeError("image is no name")
            labels[name] = [_check_word(word) for word in content["words"]]
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            expected = '{"image", "words": [{"poly": [[x, y] * 4] | null, "text", "ignore"?}]}'
            reason = clean_text(repr(error))
            raise InputError(f"{path}: line {number}: {reason}, expected {expected}") from None
    return labels


# Far beyond any picture, and within what floats of 32 bits tell apart.
_MAX_COORDINATE = 1e6


def _check_word(word: Any) -> dict[str, Any]:
    poly = word["poly"]
    if poly is not None:
        points = np.array(poly, dtype=np.float64)
        if points.shape != (4, 2) or not (np.abs(points) < _MAX_COORDINATE).all():
            raise ValueError("poly is not four points")
    if not isinstance(word["text"], str):
        raise TypeError("text is not a text")
    return dict(word)
