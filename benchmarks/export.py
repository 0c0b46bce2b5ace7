"""Compare `edge-ocr export` with Paddle-Lite's opt alone, as Markdown tables.

    python -m benchmarks.export [--runs 3]

Sizes, ops and bytes are those of the .nb files. Differences are between the edited and the original program, both run
by Paddle on this machine. It takes about half a minute, plus the time to make opt's environment if there is none.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

from converters.bundle.targets import find_target
from converters.export import export_bundle
from converters.graph.passes import PASSES, run_passes
from converters.lite.nb.cost import compute_cost
from converters.lite.nb.read import NbModel, read_nb
from converters.lite.opt import run_opt
from converters.lite.toolchain import OptToolchain, find_opt_interpreter
from converters.plan import ExportOptions, ExportReport
from converters.sources.program import read_program
from edge_ocr.config import load_config
from edge_ocr.core.geometry import crop_polygon
from edge_ocr.core.imaging import prepare_detection, prepare_lines, resize_line
from edge_ocr.core.recognition import MAX_WIDTH, plan_width
from edge_ocr.engines.paddle import PaddleEngine
from edge_ocr.models.resolve import resolve_model
from edge_ocr.models.types import Model

RECEIPT = Path(__file__).parent.parent / "examples" / "images" / "receipt.jpg"
# "CAMELLIA BOOKS & CAFE", from gt.jsonl.
LINE = np.array([[216.6, 127.7], [518.9, 120.6], [519.1, 141.9], [215.9, 148.9]], dtype=np.float32)

SHAPES = {"det": (1, 3, 960, 960), "rec": (1, 3, 48, 320), "cls": (1, 3, 48, 192)}
CONFIG = load_config("OCR")
NAMES = {"det": CONFIG.det_model, "rec": CONFIG.rec_model, "cls": CONFIG.cls_model}
COMMAND = [sys.executable, "-m", "edge_ocr", "export", "--target", "arm", "--out"]


@dataclass(frozen=True)
class Cost:
    ops: int
    activation_bytes: int


def count(kind: str, nb: NbModel) -> Cost:
    cost = compute_cost(nb, {nb.inputs[0].name: SHAPES[kind]})
    return Cost(len(cost.ops), cost.activation_bytes)


def make_bundles(folder: Path) -> dict[str, ExportReport]:
    variants = {
        "opt alone": ExportOptions(optimize=False, verify=False),
        "fp32": ExportOptions(verify=False),
        "int16": ExportOptions(precision="int16", verify=False),
        "int8": ExportOptions(precision="int8", verify=False),
        "int8 ascii": ExportOptions(precision="int8", charset="ascii", verify=False),
    }
    return {name: export_bundle("arm", folder / name, CONFIG, options) for name, options in variants.items()}


def sum_sizes_mb(report: ExportReport) -> float:
    return sum(len(model.data) for model in report.models) / 1e6


def measure_differences(models: dict[str, Model], folder: Path) -> dict[str, float]:
    """Return the largest difference of prob map and probs between the original programs and the edited ones."""
    image = cv2.imread(str(RECEIPT))
    line = resize_line(crop_polygon(image, LINE), CONFIG.recognition.image_height, MAX_WIDTH)
    inputs = {
        "det": prepare_detection(image, CONFIG.detection),
        "rec": prepare_lines([line], plan_width(line.shape[1], CONFIG.recognition.min_width)),
    }
    differences = {}
    for kind, array in inputs.items():
        program = read_program(models[kind].program, models[kind].params)
        run_passes(program)
        edited = replace(models[kind], program=folder / f"{kind}.pdmodel", params=folder / f"{kind}.pdiparams")
        program.write(edited.program, edited.params)
        before, after = (PaddleEngine(model, "cpu", 0, 2).run(array) for model in (models[kind], edited))
        assert before.shape == after.shape
        assert np.isfinite(after).all()
        differences[f"{kind} {' × '.join(map(str, array.shape))}"] = float(np.abs(before - after).max())
    return differences


def measure_command_s(runs: int, folder: Path) -> dict[str, list[float]]:
    """Return the times of the command, by the option that is added."""
    times: dict[str, list[float]] = {" --no-verify": [], "": []}
    for run in range(runs):
        for option, measured in times.items():
            start = time.perf_counter()
            out = folder / f"run-{run}{option.strip()}"
            subprocess.run([*COMMAND, str(out), *option.split()], check=True, capture_output=True)
            measured.append(time.perf_counter() - start)
    return times


def follow_passes(models: dict[str, Model], toolchain: OptToolchain, folder: Path) -> dict[str, list[Cost]]:
    """Return each network's cost after opt: without passes, with the first pass, with the first two, …"""
    valid_places = find_target("arm").valid_places
    costs: dict[str, list[Cost]] = {}
    for kind, model in models.items():
        program = read_program(model.program, model.params)
        files = folder / "step.pdmodel", folder / "step.pdiparams"
        costs[kind] = []
        for step in (None, *PASSES):
            changed = step is None or step(program).changed
            if changed:
                program.write(*files)
                written = run_opt(toolchain.python, *files, folder / "step", valid_places=valid_places)
            costs[kind].append(count(kind, read_nb(written)))
    return costs


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    print(f"| {' | '.join(header)} |")
    print(f"|---|{'---:|' * (len(header) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()


def print_evidence(
    bundles: dict[str, ExportReport], differences: dict[str, float], times: dict[str, list[float]]
) -> None:
    alone, ours = (
        {model.source.model.kind: count(model.source.model.kind, model.nb) for model in bundles[name].models}
        for name in ("opt alone", "fp32")
    )
    saved = 1 - ours["det"].activation_bytes / alone["det"].activation_bytes
    before, after = (costs["det"].activation_bytes / 1e6 for costs in (alone, ours))
    sizes = " / ".join(f"{sum_sizes_mb(bundles[name]):.2f}" for name in ("fp32", "int16", "int8"))
    rows = [
        ("ops, det / rec", *(f"{costs['det'].ops} / {costs['rec'].ops}" for costs in (alone, ours)), ""),
        (
            "activations read + written, det at 960 × 960, MB",
            f"{before:.0f}",
            f"{after:.0f} ({saved * 100:.1f} % less)",
            "≥ 35 % less",
        ),
        (
            "size fp32 / int16 / int8, det + rec, MB",
            f"{sum_sizes_mb(bundles['opt alone']):.2f} (fp32)",
            sizes,
            "≤ 15.7 / 8.7 / 5.0",
        ),
        ("size int8 with `--charset ascii`, MB", "–", f"{sum_sizes_mb(bundles['int8 ascii']):.2f}", "≤ 4.3"),
    ]
    for what, difference in differences.items():
        rows.append((f"max abs diff to the original, Paddle, {what}", "–", f"{difference:.1e}", "≤ 1e-4"))
    for option, measured in times.items():
        each = ", ".join(f"{seconds:.2f}" for seconds in measured)
        median = f"{statistics.median(measured):.2f} (of {each})"
        rows.append((f"`edge-ocr export --target arm{option}`, s", "–", median, "≤ 6" if option else ""))
    print_table(("", "opt alone", "edge-ocr", "target"), rows)


def print_passes(costs: dict[str, list[Cost]]) -> None:
    shapes = {kind: " × ".join(map(str, SHAPES[kind][2:])) for kind in costs}
    header = ["after opt, with"]
    for kind in costs:
        header += [f"{kind} ops", f"{kind} MB at {shapes[kind]}"]
    rows = []
    for index, name in enumerate(("no pass", *(step.__name__ for step in PASSES))):
        row = [name if index == 0 else f"+ `{name}`"]
        for steps in costs.values():
            now, last = steps[index], steps[max(index - 1, 0)]
            gained = (now.activation_bytes - last.activation_bytes) / 1e6
            row.append(f"{now.ops}" + (f" ({now.ops - last.ops:+d})" if now.ops != last.ops else ""))
            row.append(f"{now.activation_bytes / 1e6:.2f}" + (f" ({gained:+.2f})" if abs(gained) >= 0.005 else ""))
        rows.append(tuple(row))
    print_table(tuple(header), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="runs of the command for the median time")
    options = parser.parse_args()
    toolchain = find_opt_interpreter()
    models = {kind: resolve_model(name, kind) for kind, name in NAMES.items()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        times = measure_command_s(options.runs, folder)
        bundles = make_bundles(folder)
        differences = measure_differences(models, folder)
        costs = follow_passes(models, toolchain, folder)
    print(
        f"Python {platform.python_version()}, paddlepaddle {version('paddlepaddle')}, paddlelite "
        f"{toolchain.wheel_version} on Python {toolchain.python_version}; {', '.join(NAMES.values())}.\n"
    )
    print_evidence(bundles, differences, times)
    print_passes(costs)


if __name__ == "__main__":
    main()
