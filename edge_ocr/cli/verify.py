"""`edge-ocr verify`: does a bundle read the same text as the models it was made from?"""

from __future__ import annotations

import contextlib
import json
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_ocr.cli import options

if TYPE_CHECKING:
    from rich.console import Console

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
    from rich.console import Console

    from converters.verify.verify import VerifyOptions, verify_bundle
    from edge_ocr.cli.progress import show_download
    from edge_ocr.errors import ParityError, UsageError

    if report is not None and (report.is_dir() or not report.parent.is_dir()):
        raise UsageError(f"--report {report}: not a file in a folder that is there")
    console = Console(stderr=True)

    def show(step: str) -> None:
        console.print(step, markup=False, highlight=False, soft_wrap=True)

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
        done = verify_bundle(bundle, chosen, report=show, progress=progress)
    if as_json:
        json.dump(done.to_json(), sys.stdout, ensure_ascii=False, indent=2)
        sys.stdout.write("\n")
    else:
        _print_result(done, trace=trace)
    if report is not None:
        try:
            _write_page(report, done)
            show(f"report: {report}")
        except UsageError as error:
            # The verdict is worth more than its page.
            if done.passed:
                raise
            show(f"WARNING: {error.message}")
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
    from rich.console import Console
    from rich.text import Text

    console = Console()
    width = max(len(check.name) for check in done.checks)
    for check in done.checks:
        mark = Text("ok    ", style="green") if check.passed else Text("FAILED", style="bold red")
        line = Text(f"{check.layer:10}  {check.name:{width}}  ") + mark + Text(f"  {check.detail}")
        console.print(line, highlight=False, soft_wrap=True)
    for side in ("reference", "exported"):
        exact = done.figures.get(f"accuracy.{side}.exact_share")
        if exact is not None:
            found = done.figures[f"accuracy.{side}.found_share"]
            lines = done.figures["accuracy.lines"]
            console.print(f"{side}: {found:.2%} of {lines:g} lines found, {exact:.2%} exact", highlight=False)
    _print_differences(done, console)
    if trace:
        from converters.verify.trace import describe_trace

        for kind, one in done.traces.items():
            console.print(describe_trace(kind, one), markup=False, highlight=False, soft_wrap=True)
    for note in done.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    verdict = "passed" if done.passed else "FAILED"
    text = f"{verdict}: {done.bundle} ({done.target}, {done.precision}), "
    if done.images:
        pictures = "1 picture" if len(done.images) == 1 else f"{len(done.images)} pictures"
        text += f"{done.runner}, against {done.reference} on {pictures}"
    else:
        text += "networks not run"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_differences(done: ParityReport, console: Console) -> None:
    """Print the first lines that read differently."""
    most = 10
    differing = [(image.name, pair) for image in done.images for pair in image.text_pairs if not pair.is_equal]
    for name, pair in differing[:most]:
        before, after = pair.texts
        console.print(f"{name}: {before!r} became {after!r}", markup=False, highlight=False, soft_wrap=True)
    if len(differing) > most:
        console.print(f"and {len(differing) - most} more (--json or --report has all)", highlight=False)
