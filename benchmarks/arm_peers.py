r"""Count the instructions that other engines execute on ARM for one run of a network, under qemu.

    python -m benchmarks.arm_peers ROOT --plugin FILE.so --model NAME=DIR [--model NAME2=DIR2 ...]

DIR holds ONNX files, one a kind, with `det`, `rec` or `cls` as a word of the file name: the `onnx` folder of a bundle
made with --with-onnx, or the models of a wheel. Each network runs on a picture at each of --shapes, with one thread, in
float32 except for ncnn-fp16. The second run counts, as the first packs weights. The largest difference is that to ONNX
Runtime on the host. Memory traffic is that of a modelled cache (--l1, --l2), which is empty at the start of a run. None
of this is device time.

ROOT is a folder of programs for arm64; it needs no root rights, chroot or binfmt. With arm64 among apt's architectures
(dpkg --add-architecture arm64, then apt-get update):

    apt-get download python3.11-minimal:arm64 libpython3.11-minimal:arm64 libpython3.11-stdlib:arm64 libc6:arm64 \
        libstdc++6:arm64 libgcc-s1:arm64 libgomp1:arm64 zlib1g:arm64 libexpat1:arm64 libssl3:arm64 libffi8:arm64
    for package in *.deb; do dpkg-deb -x "$package" ROOT; done
    pip install --no-deps --only-binary :all: --python-version 3.11 --target ROOT/wheels \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_24_aarch64 \
        numpy==2.3.5 onnxruntime==1.27.0 ncnn==1.0.20261020

qemu 7.2 crashes when it imports onnxruntime 1.28.0 to 1.32.0. qemu-aarch64 is in Debian's `qemu-user`; the static one
takes no plugins. Networks for ncnn are converted for each shape by `pnnx`, a program in the wheel of that name (pip
download --no-deps pnnx, then unpack it), which is on PATH or given with --pnnx.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from converters.processes.child import make_environment, name_end
from edge_ocr.errors import EdgeOcrError, InputError, ToolchainError, UsageError

PICTURE = Path(__file__).parent.parent / "examples/images/sign.png"
WORKER = Path(__file__).with_name("arm_peer_worker.py")
PEERS = {"onnxruntime": "onnxruntime", "ncnn": "ncnn", "ncnn-fp16": "ncnn"}
"""Engines, with their packages. `ncnn-fp16` is ncnn as it runs by default; the others compute in float32."""
DEFAULT_PEERS = "onnxruntime,ncnn"
# Of current boards. `max` has SME, which they do not, and for which ONNX Runtime 1.27 has kernels.
CPU = "cortex-a76"
SHAPES = "det=480x320,det=960x704,rec=48x320,rec=48x640,cls=48x192"
# Of the plugin: the system call, and its first argument where the run that counts starts and ends.
MARK, START, END = 0xED0C, 4, 5
TAIL_CHARACTERS = 2000
INSTALL = (
    "run pip install --no-deps --only-binary :all: --platform manylinux_2_28_aarch64 --python-version 3.11 --target"
)


@dataclass(frozen=True)
class Counts:
    """What one run executed: instructions, loads and stores; bytes between the modelled cache and memory."""

    instructions: int
    loads: int
    stores: int
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True)
class Emulator:
    """Programs for arm64 in `root`, and what runs and counts them."""

    root: Path
    qemu: str
    python: Path
    plugin: str
    """The plugin and its cache sizes, as qemu takes them, without the report's name."""
    cpu: str

    def count(self, arguments: Sequence[str], report: Path) -> Counts:
        """Count what the worker executes with `arguments`.

        Raises ToolchainError if it fails.
        """
        environment = make_environment()
        environment.pop("LD_LIBRARY_PATH", None)
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        environment["PYTHONPATH"] = str(self.root / "wheels")
        marks = map(str, (MARK, START, END))
        program = [str(self.python), str(WORKER), *arguments, *marks]
        run_tool(
            [self.qemu, "-cpu", self.cpu, "-L", str(self.root), "-plugin", f"{self.plugin},out={report}", *program],
            environment,
        )
        return parse_counts(report.read_text(encoding="ascii"), report.name)


def run_tool(command: Sequence[str], environment: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Return what a program prints.

    Raises ToolchainError if it fails.
    """
    done = subprocess.run(
        command, env=environment or make_environment(), cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        # The last error is the one that ended it.
        said = " ".join(f"{done.stdout}\n{done.stderr}"[-TAIL_CHARACTERS:].split())
        raise ToolchainError(f"{Path(command[0]).name} {name_end(done.returncode)}: {said}")
    return done.stdout


def parse_counts(report: str, name: str) -> Counts:
    """Read the line `total OPERATORS INSTRUCTIONS LOADS STORES BYTES_READ BYTES_WRITTEN` of the plugin's report.

    Raises ToolchainError if there is not exactly one.
    """
    totals = re.findall(r"^total \d+ (\d+) (\d+) (\d+) (\d+) (\d+)$", report, re.MULTILINE)
    if len(totals) != 1:
        raise ToolchainError(
            f"{name}: expected one line of totals, found {len(totals)}",
            "check that the plugin is of this version of the project",
        )
    return Counts(*map(int, totals[0]))


def parse_shapes(text: str) -> dict[str, list[tuple[int, int]]]:
    """Read `det=480x320,rec=48x320`: height and width of a kind's input, in the order given.

    Raises UsageError if a part is something else.
    """
    shapes: dict[str, list[tuple[int, int]]] = {}
    for part in text.split(","):
        found = re.fullmatch(r"(det|rec|cls)=([1-9]\d*)x([1-9]\d*)", part)
        if found is None:
            raise UsageError(f"--shapes {part}: expected KIND=HEIGHTxWIDTH", "write one like det=480x320")
        shapes.setdefault(found[1], []).append((int(found[2]), int(found[3])))
    return shapes


def find_networks(folder: Path) -> dict[str, Path]:
    """Return the ONNX file of each kind in a folder and its folders.

    Raises InputError if a kind has two, or none has any.
    """
    networks: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.onnx")):
        kinds = set(re.split(r"[^a-z]+", path.stem.lower())) & {"det", "rec", "cls"}
        if len(kinds) != 1:
            continue
        (kind,) = kinds
        if kind in networks:
            raise InputError(f"{folder}: {networks[kind].name} and {path.name} are both {kind}", "give a folder of one")
        networks[kind] = path
    if not networks:
        raise InputError(
            f"{folder}: no .onnx with det, rec or cls in its name", "export with --with-onnx and give DIR/onnx"
        )
    return networks


def find_emulator(root: Path, plugin: Path, peers: Sequence[str], cpu: str, l1: int, l2: int) -> Emulator:
    """Raises ToolchainError if a piece is missing, UsageError if qemu could not take the plugin's path."""
    qemu = shutil.which("qemu-aarch64")
    if qemu is None:
        raise ToolchainError("qemu-aarch64 is missing", "run apt-get install qemu-user")
    if not plugin.is_file():
        raise ToolchainError(f"{plugin}: the plugin is missing", "give --plugin the path of its .so")
    if "," in str(plugin.absolute()):
        raise UsageError(f"{plugin}: qemu splits the path at its comma", "move the plugin")
    if not (root / "lib/ld-linux-aarch64.so.1").exists():
        raise ToolchainError(f"{root}: no arm64 libc", f"run dpkg-deb -x on libc6 and the other packages, to {root}")
    # The wheels are of one Python.
    pythons = sorted((root / "usr/bin").glob("python3.*"))
    if not pythons:
        raise ToolchainError(f"{root}: no python3 in usr/bin", f"run dpkg-deb -x python3.11-minimal_*_arm64.deb {root}")
    for package in ("numpy", *(PEERS[peer] for peer in peers)):
        if not (root / "wheels" / package).is_dir():
            raise ToolchainError(f"{root}/wheels: {package} is missing", f"{INSTALL} {root}/wheels {package}")
    cache = f",l1={l1},l2={l2}" if l1 else ""
    return Emulator(root, qemu, pythons[0].absolute(), f"{plugin.absolute()}{cache}", cpu)


def find_pnnx(path: Path | None) -> str:
    found = shutil.which(path or "pnnx")
    if found is None:
        raise ToolchainError(
            f"{path or 'pnnx'}: no such program; it converts networks for ncnn",
            "run pip download --no-deps pnnx, unpack the wheel, and give --pnnx its file pnnx/pnnx",
        )
    return str(Path(found).absolute())


def convert_to_ncnn(pnnx: str, network: Path, shape: Sequence[int], folder: Path) -> Path:
    """Convert for one shape, with weights in float32; return the path of `.param` and `.bin`, without its ending.

    Raises ToolchainError if pnnx fails.
    """
    copy = folder / "network.onnx"
    shutil.copyfile(network, copy)
    said = run_tool([pnnx, copy.name, f"inputshape=[{','.join(map(str, shape))}]", "fp16=0"], cwd=folder)
    converted = folder / "network.ncnn"
    if not (folder / f"{converted.name}.param").is_file():
        raise ToolchainError(f"{network}: pnnx wrote no network: {' '.join(said[-TAIL_CHARACTERS:].split())}")
    return converted


def make_input(shape: tuple[int, int]) -> np.ndarray:
    """Return the picture at this height and width: 1×3×H×W, BGR, float32 in [-1, 1].

    Raises InputError if the picture cannot be read.
    """
    height, width = shape
    picture = cv2.imread(str(PICTURE))
    if picture is None:
        raise InputError(f"{PICTURE}: cannot be read", "restore it from the repository")
    pixels = cv2.resize(picture, (width, height)).astype(np.float32)
    return np.ascontiguousarray((pixels / 127.5 - 1).transpose(2, 0, 1)[None])


def format_row(network: str, shape: Sequence[int], peer: str, counts: Counts, difference: float) -> str:
    """Return a row of the table: millions of instructions, loads and stores, and 10^6 bytes if a cache was modelled."""
    executed = [f"{value / 1e6:.1f}" for value in (counts.instructions, counts.loads, counts.stores)]
    # An empty cache reads at least a line.
    traffic = [
        f"{value / 1e6:.1f}" if counts.bytes_read else "–" for value in (counts.bytes_read, counts.bytes_written)
    ]
    size = " × ".join(map(str, shape))
    return f"| {network} | {size} | {peer} | {' | '.join((*executed, *traffic))} | {difference:.1e} |"


def measure(emulator: Emulator, peer: str, network: Path, shape: tuple[int, int], pnnx: str) -> tuple[Counts, float]:
    """Return what one run executes, and the largest difference between its output and host ONNX Runtime's.

    The difference is NaN if the output has one, as that of PP-OCRv4's detection does on ncnn in half precision.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, expected, actual = (folder / f"{each}.npy" for each in ("input", "expected", "actual"))
        values = make_input(shape)
        np.save(source, values)
        run_tool([sys.executable, str(WORKER), "onnxruntime", str(network), str(source), str(expected)])
        model = convert_to_ncnn(pnnx, network, values.shape, folder) if PEERS[peer] == "ncnn" else network
        counts = emulator.count([peer, str(model), str(source), str(actual)], folder / "report")
        wanted, found = np.load(expected), np.load(actual)
        if found.size != wanted.size:
            raise ToolchainError(f"{network}: {peer} returned {found.shape}, the host {wanted.shape}")
        return counts, float(np.abs(found.reshape(wanted.shape) - wanted).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--plugin", type=Path, required=True, metavar="FILE")
    parser.add_argument("--model", action="append", required=True, metavar="NAME=DIR", help="may be given many times")
    parser.add_argument(
        "--peers", default=DEFAULT_PEERS, metavar="NAMES", help=f"of {', '.join(PEERS)}; default: {DEFAULT_PEERS}"
    )
    parser.add_argument("--shapes", default=SHAPES, help=f"default: {SHAPES}")
    parser.add_argument("--pnnx", type=Path, metavar="FILE")
    parser.add_argument("--cpu", default=CPU, help=f"as qemu names it; default: {CPU}")
    parser.add_argument("--l1", type=int, default=32 * 1024, metavar="BYTES", help="0: no cache model, which is faster")
    parser.add_argument("--l2", type=int, default=512 * 1024, metavar="BYTES")
    options = parser.parse_args()
    try:
        run(options)
    except EdgeOcrError as error:
        raise SystemExit(f"{error.message}\n{error.hint or ''}") from None


def run(options: argparse.Namespace) -> None:
    peers = options.peers.split(",")
    for peer in peers:
        if peer not in PEERS:
            raise UsageError(f"--peers {peer}: unknown engine", f"one of {', '.join(PEERS)}")
    shapes = parse_shapes(options.shapes)
    models: dict[str, dict[str, Path]] = {}
    for text in options.model:
        name, _, folder = text.partition("=")
        if not folder:
            raise UsageError(f"--model {text}: expected NAME=DIR", "write one like v4=bundle/onnx")
        models[name] = find_networks(Path(folder))
    if find_spec("onnxruntime") is None:
        raise ToolchainError(
            "onnxruntime is missing; it gives the outputs to compare with", "run pip install onnxruntime"
        )
    emulator = find_emulator(options.root.absolute(), options.plugin, peers, options.cpu, options.l1, options.l2)
    pnnx = find_pnnx(options.pnnx) if "ncnn" in {PEERS[peer] for peer in peers} else ""
    print("| network | input | engine | instructions | loads | stores | read, MB | written, MB | max \\|Δ\\| |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|", flush=True)
    for (name, networks), (kind, sizes) in itertools.product(models.items(), shapes.items()):
        if kind not in networks:
            continue
        for shape, peer in itertools.product(sizes, peers):
            counts, difference = measure(emulator, peer, networks[kind].absolute(), shape, pnnx)
            print(format_row(f"{name} {kind}", shape, peer, counts, difference), flush=True)


if __name__ == "__main__":
    main()
