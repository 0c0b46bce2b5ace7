"""`edge-ocr export`: convert models into a bundle for a device."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_ocr.cli import options
from edge_ocr.cli.output import print_line, report

if TYPE_CHECKING:
    from converters.plan import ExportReport
    from converters.signing import Signer


class Quantize(str, Enum):
    """How weights are stored."""

    none = "none"
    int16 = "int16"
    int8 = "int8"
    auto = "auto"


class Compute(str, Enum):
    """What convolutions compute in."""

    fp32 = "fp32"
    int8 = "int8"


class Prefer(str, Enum):
    """What --quantize auto makes small."""

    size = "size"
    speed = "speed"


class AppEngine(str, Enum):
    """What runs the networks in an app."""

    onnxruntime = "onnxruntime"
    paddle_lite = "paddle_lite"
    both = "both"


def export(
    target: Annotated[str, typer.Option(metavar="TARGET", help="Device to export for: arm or android.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to create.")],
    pipeline: options.Pipeline = "OCR",
    lang: options.Lang = None,
    det_model: options.DetModel = None,
    rec_model: options.RecModel = None,
    cls_model: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="Classifier for --orientation line and both.")
    ] = None,
    page_model: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="Classifier for --orientation page and both.")
    ] = None,
    orientation: options.Orientation = None,
    arch: Annotated[
        str | None, typer.Option(metavar="NAMES", help="For arm: armv8 (default), armv7hf, or both.")
    ] = None,
    abi: Annotated[
        str | None, typer.Option(metavar="NAMES", help="For android: arm64-v8a, armeabi-v7a, x86_64, x86.")
    ] = None,
    engine: Annotated[
        AppEngine | None,
        typer.Option(metavar="TYPE", help="For android: onnxruntime, paddle_lite or both."),
    ] = None,
    quantize: Annotated[
        Quantize, typer.Option(metavar="TYPE", help="none, int16, int8 or auto weights.")
    ] = Quantize.none,
    compute: Annotated[
        Compute | None, typer.Option(metavar="TYPE", help="fp32 (default) or int8, within --max-drop.")
    ] = None,
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Pictures, folder or gt.jsonl to choose by."),
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Share of lines to lose at most; default 0.002.")
    ] = None,
    prefer: Annotated[Prefer | None, typer.Option(metavar="GOAL", help="For auto: size (default) or speed.")] = None,
    charset: Annotated[str, typer.Option(metavar="SET", help="full, ascii, digits, or a FILE.")] = "full",
    optimize: Annotated[
        bool, typer.Option("--optimize/--no-optimize", help="Run exact graph passes before opt.")
    ] = True,
    lite_version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Paddle-Lite on the device; default 2.13-rc.")
    ] = None,
    lite_lib: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Library to include and store: .so or archive.")
    ] = None,
    allow_version_mismatch: Annotated[
        bool, typer.Option("--allow-version-mismatch", help="Accept a library that may return wrong text.")
    ] = False,
    with_onnx: Annotated[bool, typer.Option("--with-onnx", help="Add ONNX graphs, which need no Paddle-Lite.")] = False,
    zip_: Annotated[bool, typer.Option("--zip", help="Also write DIR.zip.")] = False,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Compare the bundle with its models.")] = True,
    sign: Annotated[Path | None, typer.Option(metavar="KEY", help="Sign with this key (edge-ocr keys new).")] = None,
    release: Annotated[str | None, typer.Option(metavar="NAME", help="With --sign: name of the release.")] = None,
    counter: Annotated[
        int | None, typer.Option(metavar="N", help="With --sign: must rise; default: the current time.")
    ] = None,
    settings: options.Settings = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in DIR.")] = False,
) -> None:
    """Convert models into a bundle for ARM boards or an Android project.

    Prints the folder. --arch and --abi take several names with commas between. --quantize shrinks the weights to a half
    (int16) or a quarter (int8). auto takes int8 where no more text is lost than --max-drop allows, read on the pictures
    of --calibrate or else on those of edge-ocr. --compute int8 is for int8 and auto. --charset names the characters to
    keep; a FILE has one per line.

    --engine is what runs the networks in an app. ONNX Runtime is the default, because Gradle fetches it; with
    --lite-lib, Paddle-Lite is. Without --abi, an app is for arm64-v8a and, with ONNX Runtime, for emulators on x86_64.

    --force keeps files that you added to DIR, and stops if you changed one of its own. --counter is in seconds since
    1970 by default; devices refuse a bundle whose counter is lower than that of one they had under the same release.
    """
    from converters.bundle.targets import find_target
    from converters.export import export_bundle
    from converters.lite.toolchain import LITE_VERSION
    from converters.plan import ExportOptions
    from edge_ocr.cli.progress import show_download
    from edge_ocr.errors import UsageError

    abi_options = {"--arch": arch, "--abi": abi}
    wanted = find_target(target).abi_option
    for option, value in abi_options.items():
        if value is not None and option != wanted:
            raise UsageError(f"{option} {value}: not for --target {target}", f"use {wanted} instead")
    names = abi_options[wanted]
    named = {
        "Pipeline.lang": ("--lang", lang),
        "Pipeline.text_det_model": ("--det-model", det_model),
        "Pipeline.text_rec_model": ("--rec-model", rec_model),
        "Pipeline.text_line_orientation_model": ("--cls-model", cls_model),
        "Pipeline.page_orientation_model": ("--page-model", page_model),
        # Without the option, --set or the pipeline file decides.
        **options.choose_orientation(orientation),
    }
    if orientation is None:
        # A classifier is named to be used.
        named["Pipeline.use_text_line_orientation"] = ("--cls-model", True if cls_model else None)
        named["Pipeline.use_page_orientation"] = ("--page-model", True if page_model else None)
    for option, model, key in (
        ("--cls-model", cls_model, "Pipeline.use_text_line_orientation"),
        ("--page-model", page_model, "Pipeline.use_page_orientation"),
    ):
        if model is not None and named[key][1] is False:
            what = "line" if option == "--cls-model" else "page"
            raise UsageError(
                f"{option} {model}: not used with --orientation {orientation}",
                f"use --orientation {what} or both, or omit {option}",
            )
    config = options.load_with_options(pipeline, named, settings)
    if quantize is not Quantize.auto:
        if prefer is not None:
            raise UsageError(f"--prefer {prefer.value}: for --quantize auto only", "add --quantize auto")
        if max_drop is not None and compute is not Compute.int8:
            raise UsageError(
                f"--max-drop {max_drop:g}: for --quantize auto and --compute int8 only", "add --quantize auto"
            )
    chosen = ExportOptions(
        precision="fp32" if quantize is Quantize.none else quantize.value,
        compute=None if compute is None else compute.value,
        calibrate=tuple(calibrate or ()),
        max_drop=ExportOptions.max_drop if max_drop is None else max_drop,
        prefer="size" if prefer is None else prefer.value,
        charset=charset,
        optimize=optimize,
        lite_version=lite_version or LITE_VERSION,
        abis=() if names is None else tuple(name.strip() for name in names.split(",")),
        lite_lib=lite_lib,
        engine=None if engine is None else engine.value,
        allow_version_mismatch=allow_version_mismatch,
        with_onnx=with_onnx,
        zip=zip_,
        force=force,
        verify=verify,
        signer=_make_signer(sign, release, counter),
    )
    with show_download() as progress:
        done = export_bundle(target, out, config, chosen, report=report, progress=progress)
    _print_summary(done)
    _warn_of_missing_library(done)
    print_line(str(done.out_dir))
    if done.zip_file is not None:
        print_line(str(done.zip_file))


def _make_signer(key: Path | None, release: str | None, counter: int | None) -> Signer | None:
    from edge_ocr.errors import UsageError

    if key is None:
        if not (release is None and counter is None):
            option = "--counter" if release is None else "--release"
            raise UsageError(f"{option}: needs --sign KEY", "run edge-ocr keys new to make a key")
        return None
    if release is None:
        # Under one shared name, unrelated bundles would make devices refuse each other.
        raise UsageError(
            "--sign: needs --release NAME: devices refuse a bundle that is older than the last of that release",
            "name it, as in --release receipts",
        )
    from converters.signing import make_signer

    return make_signer(key, release, counter)


def _warn_of_missing_library(done: ExportReport) -> None:
    """Warn last, so that it is seen: without a library the bundle cannot run."""
    lacking = [abi for abi, library in done.libraries.items() if library is None]
    if lacking and not (done.with_onnx and done.target == "arm"):
        from converters.bundle.targets import find_target

        platforms = find_target(done.target).platforms
        fetch = " and ".join(f"`edge-ocr libs fetch --platform {platforms[abi]}`" for abi in lacking)
        if done.target == "arm":
            what, also = f"the bundle cannot run on {' and '.join(lacking)} yet", "or add --with-onnx"
        else:
            what, also = "the app cannot be built yet", "or use --engine onnxruntime"
        report(
            f"WARNING: {what}, as it has no Paddle-Lite library for {' and '.join(lacking)}: "
            f"run {fetch}, then export again with --force, {also}"
        )


def _print_summary(done: ExportReport) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    runtimes = [f"Paddle-Lite {done.opt_version}"] if done.engines != ("onnxruntime",) else []
    runtimes += ["ONNX Runtime"] * done.with_onnx
    table = Table(caption=f"target {done.target}, weights {done.precision}, for {' and '.join(runtimes)}")
    table.add_column("Model", overflow="fold")
    for name in ("Ops", "MB", "Seconds"):
        table.add_column(name, justify="right")
    for model in done.models:
        # There is always at least one pass, and the first sees the source.
        before, after = model.passes[0].ops_before, sum(model.nb.op_histogram().values())
        table.add_row(
            Text(f"{model.source.model.kind}: {model.source.model.name}"),
            f"{before} → {after}",
            f"{model.source.size_bytes / 1e6:.2f} → {len(model.data) / 1e6:.2f}",
            f"{model.seconds:.2f}",
        )
    before_mb = sum(model.source.size_bytes for model in done.models) / 1e6
    after_mb = sum(len(model.data) for model in done.models) / 1e6
    table.add_section()
    table.add_row("total", "", f"{before_mb:.2f} → {after_mb:.2f}", f"{sum(m.seconds for m in done.models):.2f}")
    Console(stderr=True).print(table)
    if done.parity is None:
        report("not verified: run edge-ocr verify to compare it with its models")
    else:
        pairs = [pair for image in done.parity.images for pair in image.text_pairs]
        equal = sum(pair.is_equal for pair in pairs)
        text = f"verified: {equal} of {len(pairs)} lines of {len(done.parity.images)} pictures read the same"
        if equal < len(pairs):
            limit = next(check.limit for check in done.parity.checks if check.name == "texts.equal_share")
            text += f" (at least {limit:.0%} must); edge-ocr verify lists the others"
        report(text)
