"""`edge-ocr verify`: check that a bundle reads the same text as its models."""

from __future__ import annotations

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
    """Architectures of boards."""

    armv8 = "armv8"
    armv7hf = "armv7hf"


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that edge-ocr export made.")],
    images: Annotated[
        list[str] | None, typer.Option(metavar="PATH|URL", help="Picture or folder to compare on; repeatable.")
    ] = None,
    gt: Annotated[
        Path | None, typer.Option(metavar="FILE", help="gt.jsonl with the true texts: adds accuracy.")
    ] = None,
    runner: Annotated[str, typer.Option(metavar="RUNNER", help="graph, qemu or ssh://HOST/DIR.")] = "graph",
    arch: Annotated[Arch | None, typer.Option(metavar="NAME", help="For qemu and ssh: armv8 or armv7hf.")] = None,
    engine: options.Engine = None,
    threads: options.Threads = None,
    det_model: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="Reference for detection, if not the manifest's.")
    ] = None,
    rec_model: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="Reference for recognition, if not the manifest's.")
    ] = None,
    cls_model: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="Reference for lines, if not the manifest's.")
    ] = None,
    page_model: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="Reference for pages, if not the manifest's.")
    ] = None,
    dictionary: Annotated[
        Path | None, typer.Option("--dict", metavar="FILE", help="Dictionary of the reference, if it has none.")
    ] = None,
    trusted: Annotated[
        Path | None, typer.Option(metavar="KEY.pub", help="Public key that must have signed the bundle.")
    ] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Name the first op whose output differs.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page of all differences.")] = None,
    as_json: options.Json = False,
) -> None:
    """Check that a bundle reads the same text as its models.

    --runner graph runs the graph of the bundle on this machine; qemu runs its ARM library in an emulator; ssh runs it
    on a board. --arch chooses the library; the first of the bundle is the default.

    Exit codes: 0: it reads the same. 8: it does not. 9: verification could not run; result unknown.
    """
    from converters.verify.verify import VerifyOptions, verify_bundle
    from edge_ocr.cli.progress import show_download
    from edge_ocr.errors import ParityError, UsageError

    if report is not None and (report.is_dir() or not report.parent.is_dir()):
        raise UsageError(f"--report {report}: expected a file in an existing folder")
    named: dict[Kind, str | None] = {"det": det_model, "rec": rec_model, "cls": cls_model, "page": page_model}
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
        # The page shows the trace, which only the graph runner has.
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
            from converters.verify.report.parity import write_report
            from edge_ocr.core.files import write_file

            write_file(report, write_report(done).encode())
            status(f"report: {report}")
        except UsageError as error:
            # A failed verdict matters more than its page.
            if done.passed:
                raise
            status(f"WARNING: {error.message}")
    if not done.passed:
        failed = ", ".join(check.name for check in done.failures)
        raise ParityError(
            f"{bundle}: failed: {failed}",
            _advise(done, bundle, trusted) if report is None or not done.images else None,
        )


def _advise(done: ParityReport, bundle: Path, trusted: Path | None) -> str:
    from converters.bundle.android.record import locate_bundle

    if done.images:
        return "run edge-ocr verify --report out.html to see the differences"
    names = {check.name for check in done.failures if check.layer == "signature"}
    if "manifest" in names and not (locate_bundle(bundle) / "manifest.sig").exists():
        return "export it again with --sign KEY --release NAME, or leave --trusted out"
    if "manifest" in names:
        return f"check that {trusted} is the public key of its signer; if it is, do not use the bundle: it was changed"
    if names:
        return "do not use the bundle: unsigned files were added; get it again from its signer"
    hint = "export the bundle again: it was changed after the export"
    if any(check.name == "pipeline.yaml" for check in done.failures):
        hint += "; edge-ocr export --pipeline FILE.yaml sets other settings"
    return hint


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
        print_line(f"and {len(differing) - most} more (all are in --json and --report)")
