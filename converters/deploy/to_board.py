"""Deploys a bundle to a board over ssh: copies and installs it, puts it in place, and measures it there and here."""

from __future__ import annotations

import json
import platform
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from converters.bundle.reader import Bundle, inspect_bundle
from converters.deploy.board import Board, open_board
from converters.deploy.trust import check_board_trust, describe_reach, settle_trust
from converters.lite.graph_engines import open_graph_engines
from converters.processes.ssh import SshAddress
from converters.text import Report, clean_text
from edge_ocr.core.bench import measure
from edge_ocr.core.bundle import MANIFEST, SIGNATURE, explain_engines
from edge_ocr.core.engines.base import count_cores
from edge_ocr.core.lite_ocr import MAX_THREADS
from edge_ocr.core.pictures import read_picture
from edge_ocr.core.pipeline import TextReader
from edge_ocr.core.processor import Processor
from edge_ocr.core.types import Reading
from edge_ocr.errors import EdgeOcrError, ModelError, NotVerifiedError, ParityError, ToolchainError, UsageError

DEFAULT_PATH = "edge-ocr"
"""Default folder of bundles, relative to the user's home there."""

WARMUP = 2
RUNS = 10

# Files occupy whole blocks, and the shim may have to be built.
_ROOM = 1.2
_NEEDED_FILES = ("edge-ocr-lite", "install.sh")


@dataclass(frozen=True)
class DeployOptions:
    """What a user decides about a deployment."""

    python: str | None = None
    """The board's Python, an absolute path or a name; None for python3."""
    pip: bool = False
    """Whether pip may install missing modules there."""
    engine: Literal["auto", "paddle_lite", "onnxruntime"] = "auto"
    """The engine to test and measure there."""
    threads: int | None = None
    """Threads to measure with, there and here; None for all cores of each."""
    runs: int = RUNS
    """Runs to measure."""
    force: bool = False
    """Whether to keep the old bundle next to the new one if the user's files would be lost otherwise."""
    trusted: Path | None = None
    """File of the public key that must have signed the bundle; a board without trusted keys trusts it from then on."""


@dataclass(frozen=True)
class DeployPlan:
    """The steps of a deployment."""

    bundle: Path
    login: str
    """`user@host`, or the host alone."""
    path: str
    """Absolute, or relative to the home there."""
    files: Mapping[str, int]
    """Size in bytes by name."""
    steps: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """Return the size of all files."""
        return sum(self.files.values())

    @property
    def needed_bytes(self) -> int:
        """Return the space that must be free on the board."""
        return round(self.size_bytes * _ROOM)

    def to_json(self) -> dict[str, Any]:
        """Return the plan in plain values."""
        return {
            "bundle": str(self.bundle),
            "login": self.login,
            "path": self.path,
            "files": dict(self.files),
            "size_bytes": self.size_bytes,
            "needed_bytes": self.needed_bytes,
            "steps": list(self.steps),
        }


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of the time of one stage, in milliseconds."""

    p50: float
    p95: float


@dataclass(frozen=True)
class Figures:
    """What it costs to read the golden picture on a machine."""

    machine: str
    """Output of `uname -m`."""
    engine: str
    threads: int
    load_ms: float
    lines: int
    runs: int
    stages_ms: Mapping[str, Percentiles]
    """By stage; `total` is the time from file to text."""
    peak_rss_mb: float
    temperature_c: float | None
    governor: str | None
    processor: Processor | None
    """None if it is not ARM's, or if the bundle is older than this field."""


@dataclass(frozen=True)
class DeployReport:
    """The result of a deployment."""

    plan: DeployPlan
    place: str
    """Absolute."""
    machine: str
    python_version: str
    """Version of the chosen Python, by default python3."""
    replaced: bool
    """Whether a bundle was replaced."""
    copy_s: float
    install_s: float
    board: Figures
    host: Figures | None
    """None if nothing here runs the graphs."""
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report in plain values."""
        return {
            "bundle": str(self.plan.bundle),
            "login": self.plan.login,
            "place": self.place,
            "machine": self.machine,
            "python_version": self.python_version,
            "replaced": self.replaced,
            "size_bytes": self.plan.size_bytes,
            "copy_s": round(self.copy_s, 3),
            "install_s": round(self.install_s, 3),
            "board": asdict(self.board),
            "host": None if self.host is None else asdict(self.host),
            "notes": list(self.notes),
        }


def plan_deployment(folder: Path, address: SshAddress, options: DeployOptions = DeployOptions()) -> DeployPlan:
    """Check the bundle in `folder` and return the steps of its deployment; opens no connection.

    Raises ModelError if there is no bundle, or if it lacks the installer or an engine; ParityError if it is damaged;
    UsageError if it is not for boards, and for invalid options; NotVerifiedError for a manifest newer than this
    edge-ocr.
    """
    return _plan(_open_bundle(folder, options.trusted), address, options)


def deploy_bundle(
    folder: Path,
    address: SshAddress,
    options: DeployOptions = DeployOptions(),
    *,
    report: Report = lambda step: None,
) -> DeployReport:
    """Copy the bundle in `folder` to a board, install and test it there, put it in place and measure it.

    Once the new bundle has passed its self-test, it replaces the one at `address.path` by a rename. Any failure before
    that leaves the board unchanged. Files that the user added are kept (`bundle.ownership`). `report` receives each
    step and the installer's output.

    Raises as `plan_deployment`; ToolchainError if the board cannot be reached, lacks something or has no engine for the
    bundle; UsageError if the folder there is not a bundle, cannot be written, is too small, or contains files that its
    user changed. If installer, self-test or bench fail there, raises the class of their exit code.
    """
    bundle = _open_bundle(folder, options.trusted)
    plan = _plan(bundle, address, options)
    report(f"connecting to {address.login}")
    with open_board(address, options.python or "python3", plan.needed_bytes, report) as board:
        _check_engines(bundle, options, board)
        trusts = check_board_trust(board, bundle.folder, options.trusted)
        board.check_old(plan.files, force=options.force)
        report(f"copying {len(plan.files)} files, {plan.size_bytes / 1e6:.1f} MB")
        copy_s = _time(lambda: board.copy({name: folder / name for name in plan.files}))
        report("installing")
        install_s = _time(lambda: board.install(_list_install_options(options)))
        notes = [*bundle.notes, *board.switch(force=options.force)]
        if trusts or options.trusted is not None:
            place = settle_trust(board, options.trusted)
            if not trusts:
                report(f"from now on, {describe_reach(place, address.login)} accepts only bundles signed with that key")
        report(f"in place: {board.place}; measuring there")
        figures = _measure_board(board, address, options)
    report("measuring here")
    host = None
    try:
        host = _measure_host(bundle, options)
    except EdgeOcrError as error:
        notes.append(f"no figures of this machine: {error.message}")
    return DeployReport(
        plan,
        board.place,
        board.machine,
        board.python_version,
        board.replaces,
        copy_s,
        install_s,
        figures,
        host,
        tuple(notes),
    )


def _time(work: Callable[[], None]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _open_bundle(folder: Path, trusted: Path | None) -> Bundle:
    # Only files that the manifest lists are copied, so others are harmless.
    inspection = inspect_bundle(folder, trusted, is_fresh=False)
    bundle = inspection.bundle
    if bundle is None:
        failed = [check for check in inspection.checks if not check.passed]
        found = "; ".join(f"{check.name}: {check.detail}" for check in failed)
        hint = "export it again"
        if any(check.layer == "signature" for check in failed):
            hint = f"check that {trusted} is its signer's public key (export --sign); otherwise, do not use the bundle"
        raise ParityError(f"{folder}: is not as it was exported: {found}", hint)
    target = bundle.manifest["target"]
    if target != "arm":
        raise UsageError(
            f"{folder}: is for {target}, expected a bundle for arm",
            "run edge-ocr export --target arm, or deploy an Android project to a phone with --adb",
        )
    missing = [name for name in _NEEDED_FILES if name not in bundle.manifest["files"]]
    if missing:
        raise ModelError(
            f"{folder}: lacks {' and '.join(missing)}, so boards cannot run it",
            "export it again; an older edge-ocr made it",
        )
    return bundle


def _plan(bundle: Bundle, address: SshAddress, options: DeployOptions) -> DeployPlan:
    if options.python is not None and (not options.python or ("/" in options.python and options.python[0] != "/")):
        raise UsageError(
            f"--python {options.python}: expected an absolute path on the board or a name", "give a path or a name"
        )
    # Checked before anything is copied; the board would refuse them only at the end.
    for name, count, most in (("--runs", options.runs, 10**6 - 1), ("--threads", options.threads, MAX_THREADS)):
        if count is not None and not 1 <= count <= most:
            raise UsageError(f"{name} {count}: expected 1 to {most}")
    engines = _check_engines(bundle, options)
    sizes = {name: entry["size_bytes"] for name, entry in bundle.manifest["files"].items()}
    for name in (MANIFEST, SIGNATURE):
        if (bundle.folder / name).is_file():
            sizes[name] = (bundle.folder / name).stat().st_size
    on_board = " ".join(["./install.sh", *_list_install_options(options)])
    place = address.path if address.path.startswith("/") else f"~/{address.path}"
    new = f"{place}.new-TOKEN"
    steps = (
        f"connect: {address.by_hand}",
        f"check that it runs there ({engines}), that {place} is a bundle, empty or missing, and that "
        f"{sum(sizes.values()) * _ROOM / 1e6:.1f} MB are free",
        f"copy {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB, to {new}",
        f"run there: {on_board}",
        f"rename {new} to {place}; files that you added to an existing bundle are kept, and files that you changed "
        f"{'keep it next to the new one' if options.force else 'stop the deployment'}",
        *([] if options.trusted is None else [f"trust {options.trusted} there, if the board trusts no key yet"]),
        f"run there: {' '.join(_list_bench_command(options))}",
        "measure the same here",
    )
    return DeployPlan(bundle.folder, address.login, address.path, MappingProxyType(sizes), steps)


def _check_engines(bundle: Bundle, options: DeployOptions, board: Board | None = None) -> str:
    """Return, as text, what the bundle runs on.

    Raises ModelError if it cannot run on any board, ToolchainError if it cannot run on `board`.
    """
    libraries, has_graphs = bundle.manifest["lite"]["libraries"], bundle.manifest["onnx"] is not None
    with_library = [abi for abi, library in libraries.items() if library["file"] is not None]
    named = ", ".join(libraries)
    fetch = " or ".join(f"edge-ocr libs fetch --platform armlinux.{abi}" for abi in libraries)
    hint = f"run {fetch}, then export again; or export --with-onnx and deploy --pip to use ONNX Runtime"
    if board is None:
        reasons: dict[str, str | None] = {
            "paddle_lite": None if with_library else f"the bundle has no Paddle-Lite library for {named}",
            "onnxruntime": None if has_graphs else "the bundle has no ONNX graphs",
        }
    elif board.facts is None:
        return ""  # the installer will find out
    else:
        reasons = explain_engines(bundle.manifest, board.facts)
        if options.pip and has_graphs:
            reasons["onnxruntime"] = None
        elif has_graphs and options.engine != "paddle_lite":
            hint = f"install onnxruntime there with deploy --pip; or run {fetch}, then export again"
    wanted = {name: why for name, why in reasons.items() if options.engine in ("auto", name)}
    if all(wanted.values()):
        found = "; ".join(f"{engine}: {reason}" for engine, reason in wanted.items())
        if board is None:
            raise ModelError(f"{bundle.folder}: cannot run on any board: {found}", hint)
        raise ToolchainError(f"{board.host}: cannot run {bundle.folder}: {found}", hint)
    places = {"paddle_lite": ", ".join(with_library), "onnxruntime": "if installed, or with --pip"}
    return "; ".join(f"{engine}: {places[engine]}" for engine, reason in wanted.items() if reason is None)


def _list_install_options(options: DeployOptions) -> list[str]:
    python = [] if options.python is None else ["--python", options.python]
    engine = [] if options.engine == "auto" else ["--engine", options.engine]
    return [*python, *(["--pip"] if options.pip else []), *engine]


def _list_bench_command(options: DeployOptions) -> list[str]:
    command = ["./edge-ocr-lite", "bench", "--json", "--warmup", str(WARMUP), "--runs", str(options.runs)]
    command += ["--engine", options.engine]
    return command if options.threads is None else [*command, "--threads", str(options.threads)]


def _measure_board(board: Board, address: SshAddress, options: DeployOptions) -> Figures:
    command = _list_bench_command(options)
    try:
        return _read_figures(json.loads(board.run("bench", command)))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ToolchainError(
            f"{address.host}: the bundle is in place, but its bench printed an invalid result",
            f"run there: cd {shlex.quote(board.place)} && {' '.join(command)}",
        ) from None
    except EdgeOcrError as error:
        said = error.message.removeprefix(f"{address.host}: ")
        raise type(error)(f"{address.host}: the bundle is in place, but not measured: {said}", error.hint) from None


def _measure_host(bundle: Bundle, options: DeployOptions) -> Figures:
    golden = bundle.manifest.get("golden")
    if golden is None:
        raise NotVerifiedError("the bundle has no golden picture")
    threads = options.threads or count_cores()
    started = time.perf_counter()
    with open_graph_engines(bundle.models, threads) as opened:
        load_ms = (time.perf_counter() - started) * 1000
        reader = TextReader.build(opened.engines, bundle.charset, bundle.config)
        figures = measure(
            lambda path: _read_timed(reader, path),
            [bundle.folder / golden["image"]],
            warmup=WARMUP,
            runs=options.runs,
        )
    return _read_figures(
        {
            "machine": platform.machine(),
            "engine": opened.name,
            "threads": threads,
            "load_ms": round(load_ms, 2),
            **figures,
            "temperature_c": None,
            "governor": None,
            "processor": None,
        }
    )


def _read_timed(reader: TextReader, path: Path) -> Reading:
    """Read a picture as the board's `LiteOCR.predict` does."""
    started = time.perf_counter()
    picture = read_picture(path)
    decode_ms = (time.perf_counter() - started) * 1000
    reading = reader.read(picture)
    return replace(reading, timings_ms={"decode": decode_ms, **reading.timings_ms})


def _read_figures(content: Mapping[str, Any]) -> Figures:
    """Return the figures in the output of `edge-ocr-lite bench --json`.

    Raises KeyError, TypeError or ValueError for any other content.
    """
    temperature, governor = content["temperature_c"], content["governor"]
    return Figures(
        machine=str(content["machine"]),
        engine=str(content["engine"]),
        threads=int(content["threads"]),
        load_ms=float(content["load_ms"]),
        lines=int(content["lines"]),
        runs=int(content["runs"]),
        stages_ms={
            str(stage): Percentiles(float(one["p50"]), float(one["p95"])) for stage, one in content["stages_ms"].items()
        },
        peak_rss_mb=float(content["rss_mb"]["peak"]),
        temperature_c=None if temperature is None else float(temperature),
        governor=None if governor is None else str(governor),
        processor=_read_processor(content.get("processor")),
    )


def _read_processor(content: Mapping[str, Any] | None) -> Processor | None:
    if content is None:
        return None
    has_dot = content["has_dot"]
    return Processor(
        cores={clean_text(name): int(count) for name, count in content["cores"].items()},
        features=list(map(str, content["features"])),
        has_dot=None if has_dot is None else bool(has_dot),
        lite_dot=bool(content["lite_dot"]),
        lite_fp16=bool(content["lite_fp16"]),
        unlisted=list(map(clean_text, content["unlisted"])),
    )
