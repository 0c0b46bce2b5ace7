"""From models to a bundle; the only place that orders the steps."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from converters.bundle.android.project import add_project
from converters.bundle.board.files import add_runtime, add_shims
from converters.bundle.contents import BundleContents
from converters.bundle.golden import GOLDEN_FILE, read_golden_lines, read_golden_picture
from converters.bundle.manifest import SBOM, build_manifest
from converters.bundle.ownership import list_written
from converters.bundle.readme import LICENSES, write_readme
from converters.bundle.sbom import build_sbom
from converters.bundle.targets import Target, find_target
from converters.bundle.writer import check_out_dir, check_zip, open_bundle, put_back, write_zip
from converters.graph.charsets import list_lacking, select_classes
from converters.graph.passes import PassReport, run_passes
from converters.lite.libraries.library import RuntimeLibrary
from converters.lite.libraries.store import add_library, find_library
from converters.lite.nb.read import normalise, parse_nb
from converters.lite.nb.to_onnx import serialise_graph
from converters.lite.opt import check_support, run_opt
from converters.lite.toolchain import OptToolchain, find_opt_interpreter, find_wheel
from converters.plan import ExportedModel, ExportOptions, ExportReport, FileEntry, SourceModel
from converters.sources import list_source_files, read_model_program
from converters.sources.program import read_signature
from converters.text import Report
from edge_ocr.core.charset import Charset
from edge_ocr.errors import ConversionError, ModelError, NotVerifiedError, ParityError, UsageError
from edge_ocr.models.kinds import check_output
from edge_ocr.models.resolve import apply_model, check_width, resolve_model
from edge_ocr.models.types import Kind, Model, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converters.bundle.writer import BundleWriter
    from converters.report import ParityReport
    from edge_ocr.config import PipelineConfig


def export_bundle(
    target: str,
    out_dir: Path,
    config: PipelineConfig,
    options: ExportOptions = ExportOptions(),
    *,
    report: Report = lambda step: None,
    progress: Progress | None = None,
) -> ExportReport:
    """Convert the models of `config` for `target` and write them as a bundle to `out_dir`.

    The classifier goes along where `config.use_orientation` is set. `report` is told each step, `progress` of
    downloads. Two exports of the same files with the same opt give the same bytes.

    Raises UsageError for an unknown target or option and an `out_dir` that is taken, ModelError for models,
    dictionaries and libraries that are missing, damaged or do not fit, ToolchainError where opt cannot be had,
    ConversionError where opt does not take a model, ParityError where the bundle does not read as its models do (it is
    then kept as `<out_dir>.failed`), NotVerifiedError where that could not be found out.
    """
    chosen = find_target(target)
    abis = chosen.choose_abis(options.abis)
    find_wheel(options.lite_version)
    if options.with_onnx and chosen.bundle_folder:
        raise UsageError("--with-onnx: is for boards; an app reads the .nb files only", "leave it out")
    put_back(out_dir, report=report)
    check_out_dir(out_dir, force=options.force, is_project=bool(chosen.bundle_folder))
    zip_file = check_zip(out_dir, force=options.force) if options.zip else None

    sources = _read_sources(config, report, progress)
    config = _settle_config(config, sources)
    recogniser = next(source for source in sources if source.model.kind == "rec")
    check_width(recogniser.model)
    charset = _fit_charset(recogniser)
    kept = select_classes(options.charset, charset, recogniser.model.name)
    lacking = list_lacking(options.charset, charset)
    if lacking:
        report(f"WARNING: {recogniser.model.name} cannot read {' '.join(lacking)}")
    if kept is not None:
        charset = Charset(tuple(charset.classes[i] for i in kept))
        report(f"charset: {len(kept) - 1} characters of {options.charset}")

    report("looking for an interpreter that runs opt")
    toolchain = find_opt_interpreter(options.lite_version, report=report)
    report(f"opt {toolchain.opt_version} on Python {toolchain.python_version} ({toolchain.origin})")
    with (
        tempfile.TemporaryDirectory(prefix="edge-ocr-") as scratch,
        open_bundle(out_dir, force=options.force, inside=chosen.bundle_folder, report=report) as bundle,
    ):
        stop = threading.Event()
        jobs = [_Job(source, chosen, toolchain, options, kept, Path(scratch), report, stop) for source in sources]
        # opt works in a process of its own; a thread each waits for it.
        with ThreadPoolExecutor() as pool:
            try:
                list(pool.map(_Job.prepare, jobs))
                # Behind the check of the models: a library that is given goes into the store.
                libraries = _find_libraries(chosen, abis, toolchain, options, report)
                exported = tuple(pool.map(_Job.convert, jobs))
            except BaseException:
                stop.set()  # the pool waits for all its threads: they end their opt, and start no other
                raise
        report("writing the bundle")
        shims = add_shims(bundle, chosen.library_folder, libraries, report) if chosen.name == "arm" else {}
        golden = _read_golden(bundle, config, options, exported, charset, report)
        contents = BundleContents(
            target=chosen,
            toolchain=toolchain,
            options=options,
            config=config,
            models=exported,
            charset=charset,
            libraries=libraries,
            shims=shims,
            golden=golden,
        )
        _write_files(bundle, contents)
        bundle.add(SBOM, build_sbom(contents, bundle.files, bundle.around))
        signer = options.signer

        def write_manifest(parity: ParityReport | None) -> None:
            manifest = build_manifest(contents, {**bundle.around, **bundle.files}, parity)
            bundle.add_manifest(manifest, None if signer is None else signer.key.sign)

        write_manifest(None)
        parity = None
        if options.verify:
            report("verifying: does it read as its models do?")
            parity = _verify(bundle, sources)
            write_manifest(parity)
            _refuse_failed(bundle, parity)
        if signer is not None:
            report(
                f"signed with key {signer.key_name}: release {signer.release.name}, counter {signer.release.counter}"
            )
        if zip_file is not None:
            # Before the bundle is in its place: when this fails, nothing was exported. Minutes have passed since the
            # first look.
            check_out_dir(
                out_dir,
                force=options.force,
                is_project=bool(chosen.bundle_folder),
                written=list_written(bundle.root),
            )
            check_zip(out_dir, force=options.force)
            write_zip(bundle.root, zip_file)
    return ExportReport(
        out_dir=out_dir,
        zip_file=zip_file,
        target=chosen.name,
        opt_version=toolchain.opt_version,
        precision=options.precision,
        models=exported,
        libraries=libraries,
        shims=shims,
        with_onnx=options.with_onnx,
        parity=parity,
    )


def _verify(bundle: BundleWriter, sources: tuple[SourceModel, ...]) -> ParityReport:
    from converters.verify.verify import verify_bundle

    try:
        return verify_bundle(bundle.root, sources={source.model.kind: source.model for source in sources})
    except NotVerifiedError as error:
        # It is gone by the time anybody reads this.
        raise _explain_unverified(error.message.replace(str(bundle.root), str(bundle.place))) from None


def _explain_unverified(reason: str) -> NotVerifiedError:
    return NotVerifiedError(
        f"the bundle could not be verified: {reason}",
        "--no-verify exports without a comparison; `edge-ocr verify` then makes it, on your own pictures",
    )


def _refuse_failed(bundle: BundleWriter, parity: ParityReport) -> None:
    """Raise ParityError, the bundle set aside, where it does not read as its models do."""
    if parity.passed:
        return
    found = "; ".join(f"{check.name}: {check.detail}" for check in parity.failures[:5])
    try:
        kept = bundle.keep_failed()
        hint = f"it is kept in {kept}; `edge-ocr verify {kept} --trace --report out.html` shows where it differs"
    except UsageError as error:
        hint = error.message
    raise ParityError(f"the bundle does not read as its models do: {found}", hint)


def _read_sources(config: PipelineConfig, report: Report, progress: Progress | None) -> tuple[SourceModel, ...]:
    wanted: list[tuple[Kind, str]] = [("det", config.det_model), ("rec", config.rec_model)]
    if config.use_orientation:
        wanted.append(("cls", config.cls_model))
    sources = []
    for kind, name in wanted:
        dictionary_path = config.dictionary_path if kind == "rec" else None
        model = resolve_model(name, kind, dictionary_path=dictionary_path, progress=progress)
        report(f"{kind}: {model.name} ({model.source})")
        sources.append(_read_source(model, report))
    return tuple(sources)


def _read_source(model: Model, report: Report) -> SourceModel:
    program = read_model_program(model, report=report)
    signature = program.signature
    check_output(model, signature.outputs[0].shape)
    files = {name: _hash(path) for name, path in list_source_files(model).items()}
    return SourceModel(model, signature, files, program)


def _hash(path: Path) -> FileEntry:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    return FileEntry(hashlib.sha256(data).hexdigest(), len(data))


def _fit_charset(source: SourceModel) -> Charset:
    model = source.model
    if model.dictionary is None:
        raise ModelError(f"{model.name} has no dictionary", "set Recognition.character_dict_path")
    class_count = source.signature.outputs[0].shape[-1]
    if class_count < 0:
        raise ModelError(
            f"{model.program}: the number of classes is left open, so the dictionary cannot be checked",
            "export the model again with a fixed number of classes",
        )
    charset = Charset.fit(model.dictionary, class_count, model.name)
    broken = [text for text in charset.classes if "\n" in text or "\r" in text]
    if broken:
        raise ModelError(
            f"the dictionary of {model.name} has {broken[0]!r}, but dict.txt holds one character a line",
            "give the dictionary that the model was trained with (Recognition.character_dict_path)",
        )
    return charset


def _find_libraries(
    target: Target, abis: tuple[str, ...], toolchain: OptToolchain, options: ExportOptions, report: Report
) -> dict[str, RuntimeLibrary | None]:
    version = toolchain.opt_version
    if options.lite_lib is not None:
        added = add_library(
            options.lite_lib,
            among=[target.platforms[abi] for abi in abis],
            version=version,
            allow_version_mismatch=options.allow_version_mismatch,
            force=True,
        )
        report(f"library for {added.platform}: {options.lite_lib}, now in the store")
    libraries = {abi: find_library(target.platforms[abi], version) for abi in abis}
    for abi, library in libraries.items():
        fetch = f"edge-ocr libs fetch --platform {target.platforms[abi]} --version {version}"
        if library is None:
            report(f"no Paddle-Lite {version} library for {abi}: {fetch}")
            continue
        if not library.version_matches and not options.allow_version_mismatch:
            raise ModelError(
                f"the library for {abi} is {library.actual_version or 'of unknown version'}, the bundle {version}: "
                "a runtime of another version reads models wrong without saying so",
                f"{fetch} --force gets the right one; --allow-version-mismatch takes this one all the same",
            )
        for concern in library.concerns:
            report(f"WARNING: {abi}: {concern}")
        if target.name == "android" and library.jni_library is None:
            libraries[abi] = None
    return libraries


@dataclass
class _Job:
    """One model on its way into the bundle."""

    source: SourceModel
    target: Target
    toolchain: OptToolchain
    options: ExportOptions
    kept: tuple[int, ...] | None
    scratch: Path
    report: Report
    stop: threading.Event
    """Set when the export has failed or was interrupted."""
    passes: tuple[PassReport, ...] = ()
    seconds: float = 0.0

    @property
    def _program(self) -> Path:
        return self.scratch / f"{self.source.model.kind}.pdmodel"

    @property
    def _params(self) -> Path:
        return self.scratch / f"{self.source.model.kind}.pdiparams"

    def prepare(self) -> None:
        """Run the passes and ask opt whether it supports what they leave; nothing is converted yet."""
        with self._timed():
            model, program = self.source.model, self.source.program
            kept = self.kept if model.kind == "rec" else None
            self.passes = tuple(run_passes(program, kept_classes=kept, optimize=self.options.optimize))
            try:
                program.write(self._program, self._params)
            except OSError as error:
                raise UsageError(
                    f"cannot write the edited {model.name} to {self.scratch}: {error.strerror}",
                    "make room there, or set TMPDIR to another folder",
                ) from None
            if self.passes:
                before, after = self.passes[0].ops_before, self.passes[-1].ops_after
                self.report(f"{model.kind}: passes, {before} ops → {after}")
            with self._name_source():
                check_support(
                    self.toolchain.python,
                    self._program,
                    self._params,
                    valid_places=self.target.valid_places,
                    stop=self.stop,
                )

    def convert(self) -> ExportedModel:
        """Run opt and read what it wrote."""
        with self._timed():
            model = self.source.model
            with self._name_source():
                written = run_opt(
                    self.toolchain.python,
                    self._program,
                    self._params,
                    self.scratch / model.kind,
                    valid_places=self.target.valid_places,
                    precision=self.options.precision,
                    stop=self.stop,
                )
            where = f"the .nb of {model.name}"
            try:
                data = normalise(written.read_bytes(), where)
                nb = parse_nb(data, where)
            except ModelError as error:
                raise ConversionError(f"opt wrote a bad file: {error.message}") from None
            if nb.header.opt_version != self.toolchain.opt_version:
                raise ConversionError(
                    f"opt calls itself {self.toolchain.opt_version}, but wrote {nb.header.opt_version} into {where}"
                )
        ops = sum(nb.op_histogram().values())
        self.report(f"{model.kind}: opt, {ops} ops, {len(data) / 1e6:.2f} MB")
        return ExportedModel(self.source, read_signature(self._program), self.passes, nb, data, self.seconds)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started

    @contextmanager
    def _name_source(self) -> Iterator[None]:
        # opt saw files in a scratch folder, which is gone by the time anybody reads this.
        if self.stop.is_set():
            raise CancelledError
        try:
            yield
        except ConversionError as error:
            message = error.message.replace(str(self._program), str(self.source.model.program))
            message = message.replace(str(self._params), str(self.source.model.params))
            raise ConversionError(message, error.hint) from None


def _write_files(bundle: BundleWriter, contents: BundleContents) -> None:
    target = contents.target
    for model in contents.models:
        bundle.add(f"models/{model.source.model.kind}.nb", model.data)
    # The space that a model may have behind its dictionary gets its line: a device needs no rule for it.
    bundle.add("dict.txt", "".join(f"{text}\n" for text in contents.charset.classes[1:]).encode())
    if contents.options.with_onnx:
        for model in contents.models:
            kind = model.source.model.kind
            bundle.add(f"onnx/{kind}.onnx", serialise_graph(model.nb, f"{kind}.nb"))
    settings = _describe_pipeline(contents.config, contents.models)
    bundle.add("pipeline.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).encode())
    # In a project, what is no asset lies around the bundle.
    add = bundle.add_around if target.bundle_folder else bundle.add
    for abi, library in contents.libraries.items():
        if library is not None:
            for name, path in target.place_library(abi, library).items():
                add(name, path.read_bytes())
    if target.name == "arm":
        add_runtime(bundle)
    else:
        add_project(bundle, tuple(contents.libraries))
    bundle.add("LICENSES", LICENSES.encode())
    add("README.md", write_readme(contents).encode())


def _read_golden(
    bundle: BundleWriter,
    config: PipelineConfig,
    options: ExportOptions,
    exported: tuple[ExportedModel, ...],
    charset: Charset,
    report: Report,
) -> list[dict[str, object]] | None:
    """Add the golden picture, and return what the bundle reads in it; None where that cannot be found out."""
    bundle.add(GOLDEN_FILE, read_golden_picture())
    try:
        return read_golden_lines({model.source.model.kind: model.nb for model in exported}, config, charset)
    except NotVerifiedError as error:
        if options.verify:
            raise _explain_unverified(error.message) from None
        report(f"WARNING: no golden result, so a device's self-test has nothing to compare: {error.message}")
        return None


def _settle_config(config: PipelineConfig, sources: tuple[SourceModel, ...]) -> PipelineConfig:
    """Return the settings in force for these models."""
    for source in sources:
        config = apply_model(config, source.model)
    if config.origins["Pipeline.text_rec_batch_size"] == "default":
        # One line at a time takes the least memory.
        config = config.with_values({"Pipeline.text_rec_batch_size": 1}, "export")
    return config


def _describe_pipeline(config: PipelineConfig, exported: tuple[ExportedModel, ...]) -> dict[str, dict[str, object]]:
    """Return the settings with names where the user's file has folders of this machine."""
    nested = config.dump()
    names = {model.source.model.kind: model.source.model.name for model in exported}
    nested["Pipeline"]["text_det_model"] = names["det"]
    nested["Pipeline"]["text_rec_model"] = names["rec"]
    # Without the classifier the key still stands there, and may still hold a folder.
    unused = Path(nested["Pipeline"]["text_line_orientation_model"]).name
    nested["Pipeline"]["text_line_orientation_model"] = names.get("cls", unused)
    # The bundle's own dict.txt holds it.
    nested["Recognition"]["character_dict_path"] = None
    # Where and with what the host runs is nothing to the device.
    for section in ("Runtime", "Input"):
        del nested[section]
    del nested["Pipeline"]["device"]
    return nested
