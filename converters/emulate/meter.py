"""Counts what the networks of a bundle execute on the real Paddle-Lite library for armv8, emulated, with one thread."""

from __future__ import annotations

import math
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from converters.bundle.golden import GOLDEN_FILE, read_golden_picture
from converters.bundle.reader import Bundle, inspect_bundle
from converters.emulate.counts import Counts, RunCounts, parse_report, parse_symbols
from converters.emulate.device import make_device
from converters.emulate.plugin import ARCH, SOURCES, Cache, build_plugin, find_emulator, make_command
from converters.lite.compiler import MACHINES, build_program, name_packages
from converters.lite.graph_engines import GraphEngines, open_graph_engines
from converters.lite.nb.read import NbModel, NbOp
from converters.processes.child import make_environment, name_end, run_child
from converters.text import Report
from converters.verify.lite_process import quote_last, refuse_version
from converters.verify.lite_runner import check_library
from converters.verify.parity import compare_arrays
from converters.verify.verify import find_bundle_library
from edge_ocr.core.pictures import decode_picture
from edge_ocr.errors import ModelError, NotVerifiedError, ToolchainError, UsageError
from edge_ocr.models.types import Kind

PROGRAM = "edge-ocr-lite-count"
NOTE = "instructions executed under an emulator with one thread, not device time"

COUNT_TIMEOUT_S = 3600.0
"""For one network and shape, three runs; the largest take minutes on an idle machine."""

_REPORT, _DEVICE = "report", "device"
_TOPICS = ("version ", "library ", "output ")
_ENVIRONMENT = {"LC_ALL": "C"}

# feed and fetch are not executed: the program holds input and output.
_NOT_RUN = ("feed", "fetch")
_MAX_SIDE = 4096

Shape = tuple[int, int]
"""Height and width of a network's input in pixels."""


@dataclass(frozen=True)
class OpCounts:
    """One op of a network, in the order of execution."""

    index: int
    type: str
    counts: Counts


@dataclass(frozen=True)
class NetworkCounts:
    """One network at one input shape."""

    kind: Kind
    shape: Shape
    total: Counts
    outside: Counts
    """Before the first op."""
    ops: tuple[OpCounts, ...]
    kernels: Mapping[str, int] | None
    """Instructions by function, most first; None if the library has no symbols."""
    max_abs_diff: float
    """To the same graph on this machine's engine."""
    mean_abs_diff: float = 0.0

    def sum_types(self) -> dict[str, tuple[int, Counts]]:
        """Return number of ops and counts by type, most instructions first."""
        found: dict[str, tuple[int, Counts]] = {}
        for op in self.ops:
            count, counts = found.get(op.type, (0, Counts()))
            found[op.type] = count + 1, counts + op.counts
        return dict(sorted(found.items(), key=lambda item: (-item[1][1].instructions, item[0])))


def list_shapes(bundle: Bundle) -> list[tuple[Kind, Shape]]:
    """Return the usual input shapes of the networks of a bundle: small and large pages, short and long lines."""
    line, page = bundle.config.orientation, bundle.config.page_orientation
    usual: dict[Kind, list[Shape]] = {
        "det": [(480, 320), (960, 704)],
        "rec": [(48, 320), (48, 640)],
        "cls": [(line.image_height, line.image_width)],
        "page": [(page.image_height, page.image_width)],
    }
    return [(kind, shape) for kind in bundle.models for shape in usual[kind]]


def open_bundle(folder: Path) -> Bundle:
    """Read the bundle in `folder`.

    Raises ModelError if it is damaged, and as `inspect_bundle`.
    """
    inspection = inspect_bundle(folder)
    if inspection.bundle is None:
        failed = next(check for check in inspection.checks if not check.passed)
        raise ModelError(f"{folder}: {failed.name}: {failed.detail}", f"run edge-ocr verify {folder}")
    return inspection.bundle


@contextmanager
def open_meter(
    bundle: Bundle,
    *,
    cache: Cache,
    is_modelled: bool = True,
    cpu: str = "max",
    cpuinfo: Path | None = None,
    report: Report = lambda step: None,
) -> Iterator[Meter]:
    """Yield what counts the networks of a bundle.

    `cpu` is qemu's name of the processor, `cpuinfo` a copy of the board's /proc/cpuinfo, by default one that names
    `cpu`. The library sees the sizes of `cache`; without `is_modelled`, bytes from memory are not counted. `report`
    receives each step as text. Temporary files are removed at the end.

    Raises NotVerifiedError if nothing can be counted here, UsageError or InputError for an invalid `cpu` or `cpuinfo`.
    """
    library, include_dir = find_bundle_library(bundle, ARCH)
    version = bundle.manifest["lite"]["runtime_version"]
    needed_name = check_library(library, ARCH, version)
    emulator = find_emulator()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-ocr-")))
        plugin = build_plugin(folder)
        command = make_command(emulator, plugin.name, _REPORT, _DEVICE, cpu=cpu, cache=cache if is_modelled else None)
        (folder / _DEVICE).mkdir()
        make_device(folder / _DEVICE, cpu, cpuinfo, cache)
        report(f"library: {library}")
        report(f"building {PROGRAM} for {ARCH}")
        build_program(ARCH, library.resolve(), include_dir, folder / PROGRAM, SOURCES / "lite_count.cpp")
        (folder / needed_name).symlink_to(library.resolve())
        graphs = stack.enter_context(open_graph_engines(bundle.models, 1))
        yield Meter(bundle, graphs, library, [*command, f"./{PROGRAM}"], needed_name, folder, report)


class Meter:
    """Counts the networks of a bundle."""

    def __init__(
        self,
        bundle: Bundle,
        graphs: GraphEngines,
        library: Path,
        command: list[str],
        needed_name: str,
        folder: Path,
        report: Report,
    ) -> None:
        self.library = library
        self.version: str = bundle.manifest["lite"]["runtime_version"]
        self._bundle = bundle
        self._graphs = graphs
        self._command = command
        self._needed_name = needed_name
        self._folder = folder
        self._report = report
        self._symbols = _list_symbols(library)

    def count(self, kind: Kind, shape: Shape) -> NetworkCounts:
        """Count one run of a network at an input shape.

        Raises UsageError for a network that the bundle does not have or a shape that it does not take,
        NotVerifiedError if the run fails.
        """
        check_shape(self._bundle, kind, shape)
        height, width = shape
        self._report(f"counting {kind} at {height}×{width}")
        array = make_input(height, width)
        model = self._bundle.models[kind]
        run = self.run(self._bundle.find_model(kind), model, array)
        diff = compare_arrays(self._graphs.engines[kind].run(array), run.output)
        return NetworkCounts(
            kind,
            shape,
            run.counts.total,
            run.counts.outside,
            tuple(
                OpCounts(index, op.type, counts)
                for index, (op, counts) in enumerate(zip(_list_executed(model), run.counts.ops, strict=True))
            ),
            run.counts.sum_kernels(self._symbols, *run.code) if self._symbols else None,
            diff.max_abs,
            diff.mean_abs,
        )

    def run(self, path: Path, model: NbModel, array: NDArray[np.float32]) -> Run:
        """Count one run of the .nb file at `path`, whose content is `model`, on one NCHW batch.

        Raises NotVerifiedError if it fails, quoting what it printed last.
        """
        op_count = len(_list_executed(model))
        names = {name: self._folder / name for name in ("model.nb", "input", "output", _REPORT)}
        try:
            for file in names.values():
                file.unlink(missing_ok=True)
            names["model.nb"].symlink_to(path.resolve())
            names["input"].write_bytes(np.ascontiguousarray(array, "<f4").tobytes())
            # Names, not paths: their lengths would move the stack. For the same reason, no variables.
            command = [*self._command, "model.nb", str(op_count), self._needed_name, "input", "output"]
            ended = run_child([*command, *map(str, array.shape)], COUNT_TIMEOUT_S, env=_ENVIRONMENT, cwd=self._folder)
        except OSError as error:
            raise NotVerifiedError(f"{self._folder}: cannot be written: {error.strerror}") from None
        except ToolchainError as error:
            raise NotVerifiedError(error.message, error.hint) from None
        except subprocess.TimeoutExpired:
            raise NotVerifiedError(f"{path}: the emulator did not finish within {COUNT_TIMEOUT_S:g} s") from None
        if ended.returncode != 0:
            hint = f"run edge-ocr inspect {path} to see its version and operators"
            if b"plugin requires API version" in ended.stderr:
                hint = "use another version of qemu: 7.2, as in Debian 12, is known to work"
            elif b"unable to find CPU model" in ended.stderr:
                hint = f"choose a processor that {Path(self._command[0]).name} -cpu help lists"
            raise NotVerifiedError(
                f"{path} under {Path(self._command[0]).name}: {name_end(ended.returncode)}{quote_last(ended.stderr)}",
                hint,
            )
        said = _parse_output(ended.stdout.decode(errors="replace"), path)
        if said.version != self.version:
            raise refuse_version(str(self.library), said.version, self.version)
        content, text = names["output"].read_bytes(), names[_REPORT].read_text(encoding="ascii", errors="replace")
        if len(content) != 4 * math.prod(said.shape):
            raise NotVerifiedError(f"{path}: the output has {len(content)} bytes, expected {said.shape} float32")
        output = np.frombuffer(content, "<f4").reshape(said.shape)
        return Run(parse_report(text, op_count, str(path)), output, said.code)


@dataclass(frozen=True)
class Run:
    """One counted run."""

    counts: RunCounts
    output: NDArray[np.float32]
    code: tuple[int, int]
    """Where the library was loaded, and the end of its code."""


@dataclass(frozen=True)
class _Said:
    """What the program prints."""

    version: str
    code: tuple[int, int]
    shape: tuple[int, ...]


_SAID = re.compile(r"version (\S+)\nlibrary ([0-9a-f]{1,16}) ([0-9a-f]{1,16})\noutput((?: [1-9]\d{0,9}){1,8})\n")


def _parse_output(text: str, path: Path) -> _Said:
    found = _SAID.findall("".join(line for line in text.splitlines(True) if line.startswith(_TOPICS)))
    if len(found) != 1:
        raise NotVerifiedError(f"{path}: {PROGRAM} did not print its result{quote_last(text.encode())}")
    version, start, end, dims = found[0]
    return _Said(version, (int(start, 16), int(end, 16)), tuple(map(int, dims.split())))


def check_shape(bundle: Bundle, kind: Kind, shape: Shape) -> None:
    """Raise UsageError unless the bundle has that network, and it takes pictures of that height and width."""
    if kind not in bundle.models:
        raise UsageError(f"{kind}: the bundle has {', '.join(bundle.models)}")
    wanted = bundle.models[kind].inputs[0].shape or ()
    given = (1, 3, *shape)
    fits = len(wanted) == 4 and all(want in (-1, size) for want, size in zip(wanted, given, strict=True))
    multiple = 32 if kind == "det" else 1
    if not fits or any(not 0 < size <= _MAX_SIDE or size % multiple for size in shape):
        wants = "×".join("?" if size == -1 else str(size) for size in wanted[2:])
        if multiple > 1:
            wants += f", multiples of {multiple}"
        raise UsageError(f"{kind}={'x'.join(map(str, shape))}: expected {wants}, at most {_MAX_SIDE}")


def make_input(height: int, width: int) -> NDArray[np.float32]:
    """Return the golden picture as 1 × 3 × `height` × `width`, channels blue, green, red, in [-1, 1]."""
    picture = cv2.resize(decode_picture(read_golden_picture(), GOLDEN_FILE), (width, height))
    return np.ascontiguousarray((picture.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None])


def _list_executed(model: NbModel) -> list[NbOp]:
    return [op for op in model.blocks[0].ops if op.type not in _NOT_RUN]


def _list_symbols(library: Path) -> list[tuple[int, str]]:
    """Return the functions of a library; none if it is stripped: names of exported ones alone would mislead."""
    name = f"{MACHINES[ARCH].triplet}-nm"
    try:
        ended = run_child([name, "-C", "--defined-only", str(library.resolve())], 300, env=make_environment())
    except (ToolchainError, subprocess.TimeoutExpired) as error:
        raise NotVerifiedError(f"{name} does not run: {error}", name_packages(MACHINES[ARCH])) from None
    return parse_symbols(ended.stdout.decode(errors="replace"))
