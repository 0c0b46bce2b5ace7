"""`edge-ocr deploy`: install a bundle on a board or a phone, and test it."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from edge_ocr.cli import options
from edge_ocr.cli.output import print_json, print_line, report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from converters.deploy.to_board import DeployPlan, DeployReport, Figures
    from converters.deploy.to_phone import AppPlan, AppReport

_Result = TypeVar("_Result", "AppPlan", "AppReport", "DeployPlan", "DeployReport")


class BoardEngine(str, Enum):
    """What runs the networks on a board."""

    auto = "auto"
    paddle_lite = "paddle_lite"
    onnxruntime = "onnxruntime"


def deploy(
    bundle: Annotated[Path, typer.Argument(metavar="FOLDER", help="Bundle or Android project from edge-ocr export.")],
    ssh: Annotated[str | None, typer.Option(metavar="[USER@]HOST[:DIR]", help="Board to deploy to.")] = None,
    adb: Annotated[bool, typer.Option("--adb", help="Deploy to a phone: build and install the app.")] = False,
    serial: Annotated[str | None, typer.Option(metavar="SERIAL", help="Phone, if adb devices lists several.")] = None,
    port: Annotated[int | None, typer.Option(metavar="N", help="Port of the ssh server.")] = None,
    python: Annotated[str | None, typer.Option(metavar="PATH", help="Python of the board, 3.9 or newer.")] = None,
    pip: Annotated[bool, typer.Option("--pip", help="Let the board install missing modules by pip.")] = False,
    engine: Annotated[
        BoardEngine | None, typer.Option(metavar="NAME", help="auto, paddle_lite or onnxruntime.")
    ] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="CPU threads; all cores by default.")] = None,
    runs: Annotated[int | None, typer.Option(metavar="N", help="Readings to measure; default 10.")] = None,
    trusted: Annotated[
        Path | None, typer.Option(metavar="KEY.pub", help="Public key that must have signed it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Deploy even if you changed the bundle there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the steps; connect to nothing.")] = False,
    as_json: options.Json = False,
) -> None:
    """Install a bundle on a board or an app on a phone, and test it.

    Give --ssh or --adb. The device reads the golden picture, and its times are printed. HOST is any name that the
    system's ssh knows; DIR is edge-ocr in the home folder by default. --pip installs into the bundle.

    On a board, a new bundle replaces the old one only after it has passed its selftest. Files that you added to the old
    one stay. If you changed one of its files, the deployment stops; with --force, the old bundle is kept next to the
    new one. On a phone, the app replaces the old one.

    A board that trusts no key yet trusts --trusted from then on, and refuses other bundles.
    """
    from edge_ocr.errors import UsageError

    if (ssh is None) != adb:
        raise UsageError("expected either --ssh or --adb", "give --ssh pi@board for a board, --adb for a phone")
    if ssh is None:
        board_only = {"port": port, "python": python, "engine": engine, "threads": threads, "runs": runs}
        given = [f"--{name}" for name, value in board_only.items() if value is not None] + ["--pip"] * pip
        given += ["--force"] * force
        if given:
            raise UsageError(f"{given[0]}: needs --ssh, not --adb", "leave it out")
        _deploy_app(bundle, serial, trusted, dry_run=dry_run, as_json=as_json)
        return
    if serial is not None:
        raise UsageError(f"--serial {serial}: needs --adb, not --ssh", "leave it out")

    from converters.deploy.to_board import DEFAULT_PATH, RUNS, DeployOptions, deploy_bundle, plan_deployment
    from converters.processes.ssh import parse_place

    address = parse_place(ssh, port=port, default_path=DEFAULT_PATH)
    chosen = DeployOptions(
        python=python,
        pip=pip,
        engine=engine.value if engine else "auto",
        threads=threads,
        runs=RUNS if runs is None else runs,
        force=force,
        trusted=trusted,
    )
    if dry_run:
        _show(plan_deployment(bundle, address, chosen), as_json, _print_plan)
    else:
        _show(deploy_bundle(bundle, address, chosen, report=report), as_json, _print_report)


def _deploy_app(project: Path, serial: str | None, trusted: Path | None, *, dry_run: bool, as_json: bool) -> None:
    from converters.deploy.to_phone import deploy_app, plan_app

    if dry_run:
        _show(plan_app(project, serial, trusted=trusted), as_json, _print_app_plan)
    else:
        _show(deploy_app(project, serial, trusted=trusted, report=report), as_json, _print_app_report)


def _show(result: _Result, as_json: bool, show: Callable[[_Result], None]) -> None:
    if as_json:
        print_json(result.to_json())
    else:
        show(result)


def _print_steps(steps: Iterable[str]) -> None:
    print_line("Dry run; nothing was done. The steps are:")
    for number, step in enumerate(steps, 1):
        print_line(f"{number}. {step}")


def _print_app_plan(plan: AppPlan) -> None:
    for what, remedy in plan.missing:
        print_line(f"missing: {what}: {remedy}")
    _print_steps(plan.steps)


def _print_app_report(done: AppReport) -> None:
    stages = ", ".join(f"{stage} {ms:.1f}" for stage, ms in done.timings_ms.items())
    threads = "1 thread" if done.threads == 1 else f"{done.threads} threads"
    page = done.device.page_size_bytes
    lines = [
        f"golden picture: {done.verdict}",
        f"phone: {done.device.name}, Android API {done.device.sdk}, {done.abi}, "
        f"{f'pages of {page} bytes' if page else 'page size unknown'}; {done.engine}, {threads}, "
        f"power mode {done.power_mode}",
        f"models loaded in {done.load_ms:.0f} ms; read once, in ms: {stages}",
        *(f"note: {note}" for note in done.notes),
        f"installed: {done.apk_bytes / 1e6:.1f} MB, built in {done.build_s:.1f} s, copied in {done.install_s:.1f} s",
    ]
    for line in lines:
        print_line(line)


def _print_plan(plan: DeployPlan) -> None:
    sizes: dict[str, list[int]] = {}
    for name, size_bytes in plan.files.items():
        # One line for a folder: the runtime has dozens of files.
        top, slash, _ = name.partition("/")
        sizes.setdefault(top + slash, []).append(size_bytes)
    width = max(map(len, sizes))
    for name, found in sizes.items():
        count = f"{len(found)} files" if name.endswith("/") else ""
        print_line(f"{name:{width}}  {sum(found) / 1e6:7.3f} MB  {count}".rstrip())
    _print_steps(plan.steps)


def _print_report(done: DeployReport) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    board, host = done.board, done.host
    table = Table()
    table.add_column("ms")
    for name in ("board p50", "board p95", *(() if host is None else ("host p50", "host p95", "board / host"))):
        table.add_column(name, justify="right")
    for stage, there in board.stages_ms.items():
        row = [stage, f"{there.p50:.1f}", f"{there.p95:.1f}"]
        here = None if host is None else host.stages_ms.get(stage)
        if here is not None:
            row += [f"{here.p50:.1f}", f"{here.p95:.1f}", f"{there.p50 / here.p50:.1f}×" if here.p50 else ""]
        if stage == "total":
            table.add_section()
        table.add_row(*row)
    console.print(table)
    temperature = "temperature unknown" if board.temperature_c is None else f"{board.temperature_c:.1f} °C"
    lines = [
        f"golden picture, {board.lines} lines, read {board.runs} times",
        f"board: {_describe(board)}, Python {done.python_version}; models loaded in {board.load_ms:.0f} ms, "
        f"at most {board.peak_rss_mb:.0f} MB of memory; {temperature}, governor {board.governor or 'unknown'}",
    ]
    if board.processor is not None:
        lines += board.processor.describe()
    if host is not None:
        lines.append(f"host:  {_describe(host)}; models loaded in {host.load_ms:.0f} ms")
    lines += [f"note: {note}" for note in done.notes]
    lines.append(
        f"{'replaced' if done.replaced else 'deployed'}: {done.plan.login}:{done.place}, "
        f"{done.plan.size_bytes / 1e6:.1f} MB copied in {done.copy_s:.1f} s, installed in {done.install_s:.1f} s"
    )
    for line in lines:
        print_line(line)


def _describe(figures: Figures) -> str:
    threads = "1 thread" if figures.threads == 1 else f"{figures.threads} threads"
    return f"{figures.machine}, {figures.engine}, {threads}"
