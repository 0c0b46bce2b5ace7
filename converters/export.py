"""From models to a bundle: the order of the steps, and nothing else."""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from converters.bundle.assembly import choose_charset, choose_libraries, settle_config, write_content
from converters.bundle.board.files import add_shims
from converters.bundle.contents import BundleContents
from converters.bundle.golden import GOLDEN_FILE, read_golden_lines, read_golden_picture
from converters.bundle.manifest import SBOM, build_manifest
from converters.bundle.ownership import list_written
from converters.bundle.sbom import build_sbom
from converters.bundle.targets import find_target
from converters.bundle.writer import BundleWriter, check_out_dir, check_zip, open_bundle, put_back, write_zip
from converters.convert import Conversion, read_source
from converters.lite.toolchain import find_opt_interpreter, find_wheel
from converters.plan import ExportOptions, ExportReport
from converters.quantise.choose import choose_integers
from converters.report import ParityReport
from converters.sources.folders import remember_folder
from converters.text import Report
from converters.verify.verify import verify_bundle
from edge_ocr.config import PipelineConfig
from edge_ocr.errors import InputError, NotVerifiedError, ParityError, UsageError
from edge_ocr.models.types import Progress
from edge_ocr.pipeline import find_models

# Their 8-bit kernels are others.
_ARMV7 = ("armv7hf", "armeabi-v7a")


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

    The bundle includes the classifier if `config.use_orientation` is set. `report` receives each step as text,
    `progress` the state of downloads. Two exports of the same files with the same opt give the same bytes;
    for int8, on the same processor with the same engine.

    Raises UsageError if a target or option is unknown or `out_dir` is taken, ModelError if a model, dictionary or
    library is missing, damaged or does not fit, ToolchainError if opt is not available, ConversionError if opt rejects
    a model, ParityError if the bundle and its models read different text (the bundle is kept as `<out_dir>.failed`),
    NotVerifiedError if verification could not run.
    """
    _check_integers(options)
    chosen = find_target(target)
    engines = chosen.choose_engines(options.engine, has_lite_lib=options.lite_lib is not None)
    abis = chosen.choose_abis(options.abis, engines)
    unproved = [abi for abi in abis if options.computes_int8 and abi in _ARMV7]
    if unproved:
        raise UsageError(
            f"{chosen.abi_option} {unproved[0]}: computing in int8 was tested on 64-bit processors only",
            "use --compute fp32 for it",
        )
    find_wheel(options.lite_version)
    if options.with_onnx and chosen.bundle_folder:
        raise UsageError("--with-onnx: for boards; an app has what its engine needs", "use --engine both instead")
    if "onnxruntime" in engines:
        options = replace(options, with_onnx=True)
    put_back(out_dir, report=report)
    is_project = bool(chosen.bundle_folder)
    check_out_dir(out_dir, force=options.force, is_project=is_project)
    zip_file = check_zip(out_dir, force=options.force) if options.zip else None

    sources = tuple(read_source(model, report) for model in find_models(config, progress).values())
    config = settle_config(config, sources)
    charset, kept = choose_charset(sources, options.charset, report)

    report("looking for an interpreter that runs opt")
    toolchain = find_opt_interpreter(options.lite_version, report=report)
    report(f"opt {toolchain.opt_version} on Python {toolchain.python_version} ({toolchain.origin})")
    with (
        tempfile.TemporaryDirectory(prefix="edge-ocr-") as scratch,
        open_bundle(out_dir, force=options.force, inside=chosen.bundle_folder, report=report) as bundle,
    ):
        stop = threading.Event()
        jobs = [
            Conversion(source, chosen.valid_places, toolchain, options, kept, Path(scratch), report, stop)
            for source in sources
        ]
        # Each thread waits for an opt process.
        with ThreadPoolExecutor() as pool:
            try:
                list(pool.map(Conversion.prepare, jobs))
                kinds = [source.model.kind for source in sources]
                # After the models are checked, because this puts the given library into the store.
                libraries = {}
                if not engines or "paddle_lite" in engines:
                    libraries = choose_libraries(chosen, abis, toolchain.opt_version, options, report)
                plain = dict(zip(kinds, pool.map(Conversion.convert, jobs), strict=True))
                choices = None
                if options.precision != "fp32":
                    choices = choose_integers(plain, config, charset, options, report)
                chosen_for = [None if choices is None else choices.models[kind] for kind in kinds]
                exported = tuple(pool.map(Conversion.finish, jobs, chosen_for))
            except BaseException:
                stop.set()  # the pool waits for its threads, which now end opt and start no other
                raise
        report("writing the bundle")
        shims = add_shims(bundle, chosen.library_folder, libraries, report) if chosen.name == "arm" else {}
        bundle.add(GOLDEN_FILE, read_golden_picture())
        golden = None
        try:
            golden = read_golden_lines({model.source.model.kind: model.nb for model in exported}, config, charset)
        except NotVerifiedError as error:
            if options.verify:
                raise _explain_unverified(error, bundle) from None
            report(f"WARNING: no golden result, so the device's self-test has nothing to compare with: {error.message}")
        contents = BundleContents(
            target=chosen,
            toolchain=toolchain,
            options=options,
            config=config,
            models=exported,
            charset=charset,
            abis=abis,
            engines=engines,
            libraries=libraries,
            shims=shims,
            quantisation=None if choices is None else choices.to_json(),
            golden=golden,
        )
        write_content(bundle, contents)
        for source in sources:
            if source.model.spec is None:
                hashes = {name: entry.sha256 for name, entry in source.files.items()}
                remember_folder(hashes, source.model.program.parent)
        bundle.add(SBOM, build_sbom(contents, bundle.files, bundle.around))
        signer = options.signer

        def write_manifest(parity: ParityReport | None) -> None:
            manifest = build_manifest(contents, {**bundle.around, **bundle.files}, parity)
            bundle.add_manifest(manifest, None if signer is None else signer.key.sign)

        write_manifest(None)
        parity = None
        if options.verify:
            report("verifying: comparing the bundle with its models")
            try:
                parity = verify_bundle(bundle.root, sources={source.model.kind: source.model for source in sources})
            except NotVerifiedError as error:
                raise _explain_unverified(error, bundle) from None
            write_manifest(parity)
            _refuse_failed(bundle, parity)
        if signer is not None:
            report(
                f"signed with key {signer.key_name}: release {signer.release.name}, counter {signer.release.counter}"
            )
        if zip_file is not None:
            # Before the bundle is moved into place, so that a failure here leaves nothing exported. Check again:
            # minutes have passed since the first check.
            check_out_dir(out_dir, force=options.force, is_project=is_project, written=list_written(bundle.root))
            check_zip(out_dir, force=options.force)
            write_zip(bundle.root, zip_file)
    return ExportReport(
        out_dir,
        zip_file,
        chosen.name,
        toolchain.opt_version,
        options.precision,
        exported,
        libraries,
        shims,
        options.with_onnx,
        engines,
        parity,
    )


def _check_integers(options: ExportOptions) -> None:
    """Raise UsageError for options about integers that do not fit together."""
    if not 0 <= options.max_drop <= 1:
        raise UsageError(f"--max-drop {options.max_drop:g}: expected a share of lines, from 0 to 1", "try 0.002")
    if options.computes_int8 and not options.optimize:
        raise UsageError(
            "--compute int8: not with --no-optimize: opt would scale the weights of unfolded normalisations twice",
            "omit --no-optimize",
        )
    if options.precision in ("fp32", "int16"):
        for option, is_given in (("--calibrate", options.calibrate), ("--compute int8", options.compute == "int8")):
            if is_given:
                raise UsageError(f"{option}: needs --quantize auto or int8", "add --quantize auto")
    for path in options.calibrate:
        if not path.exists():
            raise InputError(f"--calibrate {path}: no such file or folder", "name pictures, a folder or a gt.jsonl")


def _explain_unverified(error: NotVerifiedError, bundle: BundleWriter) -> NotVerifiedError:
    # The staging folder no longer exists when the user reads this.
    reason = error.message.replace(str(bundle.root), str(bundle.place))
    return NotVerifiedError(
        f"the bundle could not be verified: {reason}",
        "export with --no-verify, then run `edge-ocr verify` on your own pictures",
    )


def _refuse_failed(bundle: BundleWriter, parity: ParityReport) -> None:
    """Set a bundle that failed verification aside and raise ParityError."""
    if parity.passed:
        return
    found = "; ".join(f"{check.name}: {check.detail}" for check in parity.failures[:5])
    try:
        kept = bundle.keep_failed()
        hint = f"run `edge-ocr verify {kept} --trace --report out.html` to see where it differs; the bundle is there"
    except UsageError as error:
        hint = error.message
    raise ParityError(f"the bundle does not read what its models read: {found}", hint)
