"""`edge-ocr verify`: does a bundle read the same text as the models it was made from?"""

from __future__ import annotations

import contextlib
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_ocr.cli import options
from edge_ocr.cli.output import paint, print_json, print_line
from edge_ocr.cli.output import report as status

if TYPE_CHECKING:
    from converters.report import ParityReport
    from edge_ocr.models.types import Kind


class Arch(str, Enum):
    """Of the boards that a bundle is for."""

    armv8 = "armv8"
    armv7hf = "armv7hf"


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that edge-ocr export made.")],
    images: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH|URL", help="Picture or folder to compare on; may be given several times."),
    ] = None,
    gt: Annotated[
        Path | None, typer.Option(metavar="FILE", help="gt.jsonl with the true texts: adds accuracy of both sides.")
    ] = None,
    runner: Annotated[
        str,
        typer.Option(
            metavar="graph|qemu|ssh://HOST/DIR",
            help="What runs the bundle: its graph here, its ARM library emulated, or a board.",
        ),
    ] = "graph",
    arch: Annotated[Arch | None, typer.Option(help="Which library, with qemu and ssh; the bundle's first.")] = None,
    engine: options.Engine = None,
    threads: options.Threads = None,
    det_model: Annotated[str | None, typer.Option(metavar="NAME|DIR", help="Reference, if not the manifest's.")] = None,
    rec_model: Annotated[str | None, typer.Option(metavar="NAME|DIR", help="Reference, if not the manifest's.")] = None,
    cls_model: Annotated[str | None, typer.Option(metavar="NAME|DIR", help="Reference, if not the manifest's.")] = None,
    dictionary: Annotated[
        Path | None, typer.Option("--dict", metavar="FILE", help="Dictionary of the reference, if it has none.")
    ] = None,
    trusted: Annotated[
        Path | None, typer.Option(metavar="KEY.pub", help="Public key that must have signed the bundle.")
    ] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Name the first op whose output differs.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page with all that differs.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare a bundle with the models it was made from; exit with 0 only where it reads the same.

    8: it does not. 9: it could not be found out.
    """
    from converters.verify.verify import VerifyOptions, verify_bundle
    from edge_ocr.cli.progress import show_download
    from edge_ocr.errors import ParityError, UsageError

    if report is not None and (report.is_dir() or not report.parent.is_dir()):
        raise UsageError(f"--report {report}: not a file in a folder that is there")
    named: dict[Kind, str | None] = {"det": det_model, "rec": rec_model, "cls": cls_model}
    chosen = VerifyOptions(
        images=tuple(images or ()),
        truth=gt,
        runner=runner,
        engine=engine.value if engine else "auto",
        threads=threads,
        models={kind: name for kind, name in named.items() if name is not None},
        dictionary=dictionary,
        arch=arch.value if arch else None,
        trusted=trusted,
        # The page shows it, and only a graph has it.
        trace=trace or (report is not None and runner == "graph"),
    )
    with show_download() as progress:
        done = verify_bundle(bundle, chosen, report=status, progress=progress)
    if as_json:
        print_json(done.to_json())
    else:
        _print_result(done, trace=trace)
    if report is not None:
        try:
            _write_page(report, done)
            status(f"report: {report}")
        except UsageError as error:
            # The verdict is worth more than its page.
            if done.passed:
                raise
            status(f"WARNING: {error.message}")
    if not done.passed:
        failed = ", ".join(check.name for check in done.failures)
        raise ParityError(
            f"{bundle}: not what it should be: {failed}",
            _advise(done) if report is None or not done.images else None,
        )


def _advise(done: ParityReport) -> str:
    if done.images:
        return "edge-ocr verify --report out.html shows where"
    if any(check.layer == "signature" for check in done.failures):
        return "is this the right key? if so, do not use the bundle: it is not what the key's owner signed"
    hint = "the bundle is not as it was exported: export it again"
    if any(check.name == "pipeline.yaml" for check in done.failures):
        hint += "; edge-ocr export --pipeline FILE.yaml puts other settings into it"
    return hint


def _write_page(path: Path, done: ParityReport) -> None:
    from converters.verify.report.parity import write_report
    from edge_ocr.errors import UsageError

    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(write_report(done), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise UsageError(f"--report {path}: cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _print_result(done: ParityReport, *, trace: bool) -> None:
    width = max(len(check.name) for check in done.checks)
    for check in done.checks:
        mark = paint("ok    ", fg="green") if check.passed else paint("FAILED", fg="red", bold=True)
        print_line(f"{check.layer:10}  {check.name:{width}}  {mark}  {check.detail}")
    for side in ("reference", "exported"):
        exact = done.figures.get(f"accuracy.{side}.exact_share")
        if exact is not None:
            found = done.figures[f"accuracy.{side}.found_share"]
            lines = done.figures["accuracy.lines"]
            print_line(f"{side}: {found:.2%} of {lines:g} lines found, {exact:.2%} exact")
    _print_differences(done)
    if trace:
        from converters.verify.trace import describe_trace

        for kind, one in done.traces.items():
            print_line(describe_trace(kind, one))
    for note in done.notes:
        print_line(f"note: {note}")
    verdict = "passed" if done.passed else "FAILED"
    text = f"{verdict}: {done.bundle} ({done.target}, {done.precision}), "
    if done.images:
        pictures = "1 picture" if len(done.images) == 1 else f"{len(done.images)} pictures"
        text += f"{done.runner}, against {done.reference} on {pictures}"
    else:
        text += "networks not run"
    print_line(text)


def _print_differences(done: ParityReport) -> None:
    """Print the first lines that read differently."""
    most = 10
    differing = [(image.name, pair) for image in done.images for pair in image.text_pairs if not pair.is_equal]
    for name, pair in differing[:most]:
        before, after = pair.texts
        print_line(f"{name}: {before!r} became {after!r}")
    if len(differing) > most:
        print_line(f"and {len(differing) - most} more (--json or --report has all)")
