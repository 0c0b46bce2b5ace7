"""Compare edge-ocr and its peers on the same pictures: time, memory and accuracy, as tables, JSON and a chart.

    python -m benchmarks.host --images DIR [--images DIR2 ...] [--gt FILE ...] [--against rapidocr,edge-ocr:tiny:bf16]
    python -m benchmarks.host --from results/host.json --out results

In each round, every system reads every folder in its own process, one after the other, with the same number of threads;
every second round goes in reverse order, so that a drift of the machine's speed affects all alike. A process loads
once, reads one picture to warm up, then each picture of the folder, then all of them again: engines that generate code
for each shape are slower at first. The time of a picture is from its path to its texts, including decoding. `--from`
prints and draws an earlier run again, without measuring, all systems or those of `--against`.

Variants follow a system's name, each after a colon, in any order: `edge-ocr:tiny:bf16:1600`.

- `tiny`, `v5`, `v6`: the networks of the pipelines OCR-tiny, OCR-v5 and OCR-v6, from the same files, except that
  faster-paddle has its own copies. Without: PP-OCRv4 mobile, but PP-OCRv6 small for `rapidocr3`. `rapidocrlite:lite`
  has networks of its own.
- an engine, such as `paddle`; a precision, such as `bf16`; `pad320`, PP-OCR's padding: of edge-ocr only.
- a number: limit of the detection input's longest side, of edge-ocr, `rapidocr` and `rapidocr3`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.host_chart import draw_chart, draw_pareto
from benchmarks.peers import find_peer
from converters.processes.child import clean_environment
from converters.report import Truth
from converters.verify.parity import MATCH_IOU, measure_iou, pair_lines, score_truth
from edge_ocr.config import load_config
from edge_ocr.core.pictures import list_pictures
from edge_ocr.core.types import TextLine
from edge_ocr.engines import ENGINES
from edge_ocr.errors import EdgeOcrError, InputError, ToolchainError, UsageError
from edge_ocr.pipeline import find_models

ROOT = Path(__file__).parent.parent
WARMUP = ROOT / "examples/images/receipt.jpg"
OWN = "edge-ocr"
PIPELINES = {"tiny": "OCR-tiny", "v5": "OCR-v5", "v6": "OCR-v6"}
VARIANTS = {
    "models": (*PIPELINES, "lite"),
    "engine": tuple(ENGINES),
    "precision": ("f32", "bf16", "f16", "int8", "auto"),
    "padding": ("pad320",),
}
"""Variants by kind. A system has at most one of each kind, and one number, of the kind `side`."""
SYSTEMS = {
    OWN: (*PIPELINES, *VARIANTS["engine"], *VARIANTS["precision"], *VARIANTS["padding"], "side"),
    "rapidocr": ("side",),
    "rapidocr3": ("tiny", "v6", "side"),
    "rapidocrlite": ("tiny", "v6", "lite"),
    "paddleocr": (),
    "paddleocr3": ("tiny", "v5", "v6"),
    "faster-paddle": ("tiny", "v6"),
}
"""Variants and kinds of them that each system accepts."""
NEED_MODELS = ("rapidocrlite", "faster-paddle")
"""Systems that cannot run PP-OCRv4."""
JOBS = (1, 2)

STAGES = ("decode", "det pre", "det infer", "det post", "det", "crop", "rec")
"""Stages of edge-ocr, without `det`; peers report `det` and `rec`."""

# Name and format of each figure in the tables.
ROWS = {
    "median_ms": ("median, ms", "{:.0f}"),
    "fastest_ms": ("median of each picture's fastest round, ms", "{:.0f}"),
    "again_ms": ("median, ms, when a process reads the pictures again", "{:.0f}"),
    "p95_ms": ("p95, ms", "{:.0f}"),
    "cpu_ms": ("CPU time, median, ms", "{:.0f}"),
    "load_ms": ("import and load, ms", "{:.0f}"),
    "peak_mb": ("peak memory, MB", "{:.0f}"),
    "lines": ("lines", "{:d}"),
    "equal_share": (f"same text as {OWN}", "{:.2%}"),
    "hmean": ("boxes, H-mean", "{:.4f}"),
    "exact_share": ("lines read exactly", "{:.4f}"),
    "one_minus_ned": ("1-NED of lines found", "{:.4f}"),
    "texts_share": ("texts without boxes, found", "{:.4f}"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, action="append", metavar="DIR", help="may be repeated")
    source.add_argument("--from", type=Path, dest="earlier", metavar="FILE", help="host.json of an earlier run")
    parser.add_argument(
        "--gt", type=Path, action="append", default=[], metavar="FILE", help="as for verify; default: DIR/gt.jsonl"
    )
    parser.add_argument(
        "--against", default="", metavar="NAME,...", help="rapidocr, paddleocr, edge-ocr:tiny:bf16, ..."
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--throughput", action="store_true", help="also time edge-ocr predict --jobs on all pictures")
    parser.add_argument("--out", type=Path, help="folder for host.json, host.png and pareto.png")
    options = parser.parse_args()
    if options.gt and len(options.gt) != len(options.images or ()):
        parser.error(f"{len(options.gt)} --gt for {len(options.images or ())} --images, expected one for each")
    try:
        systems = list(dict.fromkeys([OWN, *(name for name in options.against.split(",") if name)]))
        if options.earlier:
            content = read_content(options.earlier, systems if options.against else None)
        else:
            content = compare(systems, options)
        report(content)
        if options.out:
            draw(content, options.out)
    except EdgeOcrError as error:
        raise SystemExit(f"{error.message}\n{error.hint or ''}") from None


def compare(systems: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Measure systems; return what `report` and `draw` need, and write it to host.json in the folder `out`."""
    folders = {folder.absolute().name: list_pictures(folder) for folder in options.images}
    if len(folders) < len(options.images):
        raise InputError("two folders have the same name", "rename one; the tables use it")
    files = options.gt or [folder / "gt.jsonl" for folder in options.images]
    labels = {name: read_labels(file, required=bool(options.gt)) for name, file in zip(folders, files, strict=True)}
    content = {
        "date": str(date.today()),
        "machine": describe_machine(),
        "load_before": os.getloadavg()[0],
        "threads": options.threads,
        "rounds": options.rounds,
        "counts": {name: count_labels(pictures, labels[name]) for name, pictures in folders.items()},
    }
    runs, rates = measure(systems, folders, options)
    content["versions"] = {system: runs[next(iter(folders))][system][0]["versions"] for system in systems}
    content["pictures_per_second"] = rates
    content["figures"] = {
        name: {system: summarise(found, by_system[OWN], labels[name]) for system, found in by_system.items()}
        for name, by_system in runs.items()
    }
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**content, "runs": runs}, ensure_ascii=False)
        (options.out / "host.json").write_text(text + "\n", encoding="utf-8")
    return content


def read_content(path: Path, systems: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the content of a host.json, only of some `systems` unless None.

    Raises InputError if it is not a host.json, UsageError for a system that it does not have.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}", "give a host.json that benchmarks.host wrote") from None
    if not isinstance(content, dict) or not {"figures", "counts", "versions"} <= content.keys():
        raise InputError(f"{path}: no figures, counts and versions", "give a host.json that this benchmarks.host wrote")
    for system in systems or ():
        if system not in content["versions"]:
            raise UsageError(f"{path} has no figures of {system}", f"one of {', '.join(content['versions'])}")
    if systems:
        for panel in (content["versions"], *content["figures"].values()):
            kept = {system: panel[system] for system in systems}
            panel.clear()
            panel.update(kept)
    return content


def draw(content: Mapping[str, Any], folder: Path) -> None:
    """Write host.png, and pareto.png if any folder has labels."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe(content)
    draw_chart(content["figures"], f"{machine}. Stages: shares of the mean.", folder / "host.png")
    if not draw_pareto(content["figures"], content["counts"], machine, folder / "pareto.png"):
        print("no pareto.png: no folder has labels", file=sys.stderr)


def measure(
    systems: Sequence[str], folders: Mapping[str, Sequence[Path]], options: argparse.Namespace
) -> tuple[dict[str, dict[str, list[dict[str, Any]]]], dict[str, dict[str, list[float]]]]:
    """Return, for each folder, the runs of each system and the throughput of each way to read many pictures."""
    interpreters = {system: find_interpreter(system) for system in systems}
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {name: {system: [] for system in systems} for name in folders}
    rates: dict[str, dict[str, list[float]]] = {name: {} for name in folders}
    for number in range(options.rounds):
        for name, pictures in folders.items():
            for system in order_systems(systems, number):
                print(f"round {number + 1}: {system} reads {name}", file=sys.stderr)
                run = run_system(system, interpreters[system], pictures, options.threads, again=True)
                runs[name][system].append(run)
            if options.throughput:
                spent = [image["ms"] for image in runs[name][OWN][-1]["images"]]
                rates[name].setdefault("loaded pipeline", []).append(1000 * len(spent) / sum(spent))
                for jobs in JOBS:
                    rate = measure_command(pictures, jobs, options.threads)
                    rates[name].setdefault(f"edge-ocr predict --jobs {jobs}", []).append(rate)
    return runs, rates


def order_systems(systems: Sequence[str], number: int) -> Sequence[str]:
    """Return the order of round `number`, from 0: reversed every second round."""
    return systems[::-1] if number % 2 else systems


# --- systems


@dataclass(frozen=True)
class System:
    """A system and its variants."""

    name: str
    """Of SYSTEMS."""
    models: str | None = None
    """Variant that selects networks; None for PP-OCRv4 mobile, or for those in the peer's package."""
    side: int | None = None
    """Limit of the detection input's longest side, in pixels; None for the system's own."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings of edge-ocr, by key path."""

    @property
    def pipeline(self) -> str:
        return PIPELINES.get(self.models or "", "OCR")


def parse_system(text: str) -> System:
    """Return the system that a name with variants means, such as `edge-ocr:tiny:bf16`.

    Raises UsageError for an unknown system, a variant that it does not have, two variants of one kind, and a setting
    that edge-ocr refuses.
    """
    name, *variants = text.split(":")
    if name not in SYSTEMS:
        raise UsageError(f"unknown system {name}", f"one of {', '.join(SYSTEMS)}")
    found: dict[str, str] = {}
    for variant in variants:
        kind = next((kind for kind, members in VARIANTS.items() if variant in members), None)
        if kind is None and variant.isdecimal():
            kind = "side"
        if kind is None or (kind if kind == "side" else variant) not in SYSTEMS[name]:
            accepted = ["a number" if each == "side" else each for each in SYSTEMS[name]]
            raise UsageError(
                f"{text}: {name} has no variant {variant!r}",
                f"one of {', '.join(accepted)}" if accepted else f"use {name} alone",
            )
        if kind in found:
            raise UsageError(f"{text}: {found[kind]} and {variant} exclude each other", "remove one of them")
        found[kind] = variant
    if name in NEED_MODELS and "models" not in found:
        raise UsageError(f"{text}: {name} does not run PP-OCRv4 mobile", f"add :{' or :'.join(SYSTEMS[name])}")
    system = System(name, found.get("models"), int(found["side"]) if "side" in found else None)
    if name != OWN:
        return system
    overrides: dict[str, Any] = {}
    if "engine" in found:
        overrides["Runtime.engine"] = found["engine"]
    if "precision" in found:
        overrides["Runtime.precision"] = found["precision"]
    if "padding" in found:
        overrides["Recognition.image_shape"] = [3, 48, 320]
    if system.side is not None:
        overrides |= {"Detection.limit_side_len": system.side, "Detection.limit_type": "max"}
    load_config(system.pipeline, overrides, dict.fromkeys(overrides, text))
    return replace(system, overrides=overrides)


def find_interpreter(text: str) -> Path:
    """Return the interpreter that runs a system; raise as `parse_system` and `find_peer` do."""
    name = parse_system(text).name
    return Path(sys.executable) if name == OWN else find_peer(name)


# --- running


def run_system(
    text: str,
    python: Path,
    pictures: Sequence[Path],
    threads: int,
    *,
    again: bool = False,
    keep_going: bool = False,
) -> dict[str, Any]:
    """Read pictures with a system in a process; return its `load_ms`, `images`, `again_ms`, `peak_mb` and `versions`.

    With `again`, it then reads all pictures once more, and `again_ms` has the time of each.

    Raises UsageError as `parse_system` does, and ToolchainError if the process fails; with `keep_going`, a picture that
    fails has an `error` and nothing else.
    """
    system = parse_system(text)
    config = load_config(system.pipeline, {"Pipeline.use_text_line_orientation": True})
    models = find_models(config)
    job = {
        "system": system.name,
        "models": system.models,
        "side": system.side,
        "overrides": system.overrides,
        "threads": threads,
        "pipeline": system.pipeline,
        "names": {kind: model.name for kind, model in models.items()},
        "programs": {kind: str(model.program) for kind, model in models.items()},
        "dictionary": models["rec"].dictionary,
        "warmup": str(WARMUP),
        "again": again,
        "keep_going": keep_going,
        "pictures": [str(picture.absolute()) for picture in pictures],
    }
    # Otherwise modules of this folder would hide packages with the same names.
    environment = {**clean_environment(), "OMP_NUM_THREADS": str(threads), "PYTHONSAFEPATH": "1"}
    if system.name == OWN:
        environment["PYTHONPATH"] = str(ROOT)
    worker = Path(__file__).with_name("host_worker.py")
    with tempfile.TemporaryDirectory() as scratch:
        said = run_process([python, worker], environment, json.dumps({**job, "scratch": scratch}))
    first, *images, end = map(json.loads, said.splitlines())
    return {**first, **end, "images": images}


def measure_command(pictures: Sequence[Path], jobs: int, threads: int) -> float:
    """Return the pictures per second of a whole `edge-ocr predict`, including its start; the jobs share the threads.

    Raises ToolchainError if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edge_ocr", "predict", *pictures, "--output", Path(folder) / "texts.jsonl"]
        command += ["--jobs", str(jobs), "--threads", str(max(1, threads // jobs))]
        started = time.perf_counter()
        run_process(command, {**clean_environment(), "PYTHONPATH": str(ROOT)})
        return len(pictures) / (time.perf_counter() - started)


def run_process(command: Sequence[str | Path], environment: Mapping[str, str], given: str = "") -> str:
    """Return what a process writes to stdout; raise ToolchainError if it fails."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        name = " ".join(Path(part).name for part in command[:4])
        raise ToolchainError(
            f"{name} ended with exit code {done.returncode}: {last}",
            "if it is a peer, remove its environment (python -m benchmarks.peers names it) and try again",
        )
    return done.stdout


def describe_machine() -> dict[str, Any]:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = found[1] if found else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cores = len(os.sched_getaffinity(0))
    return {"processor": processor, "cores": cores, "memory_gb": round(memory, 1), "system": platform.platform()}


# --- figures


def read_labels(path: Path, *, required: bool) -> dict[str, list[dict[str, Any]]]:
    """Return the words of each picture; none if the file does not exist and is not `required`."""
    if not path.is_file():
        if required:
            raise InputError(f"no such file: {path}", "give a gt.jsonl")
        return {}
    rows = map(json.loads, filter(str.strip, path.read_text(encoding="utf-8").split("\n")))
    return {row["image"]: row["words"] for row in rows}


def count_labels(pictures: Sequence[Path], labels: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, int]:
    """Return the number of `pictures`, and of labels that count: `lines` with a box, `texts` without."""
    words = [word for picture in pictures for word in labels.get(picture.name, ()) if not word.get("ignore")]
    boxed = sum(word.get("poly") is not None for word in words)
    return {"pictures": len(pictures), "lines": boxed, "texts": len(words) - boxed}


def summarise(
    runs: Sequence[Mapping[str, Any]],
    own_runs: Sequence[Mapping[str, Any]],
    labels: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    """Return the known figures of ROWS over all rounds, and the mean of each stage in `stages_ms`.

    Time outside the reported stages is in `other`. Lines are those of the first round.
    """
    rounds = list(zip(*(run["images"] for run in runs), strict=True))
    images = [image for of_one in rounds for image in of_one]
    median, p95 = np.percentile([image["ms"] for image in images], [50, 95])
    mean = float(np.mean([image["ms"] for image in images]))
    stages: dict[str, float] = {}
    for stage in STAGES:
        spent = [image["stages_ms"].get(stage, 0.0) for image in images]
        if any(spent):
            stages[stage] = float(np.mean(spent))
    figures = {
        "median_ms": float(median),
        # Least affected by other programs.
        "fastest_ms": float(np.median([min(image["ms"] for image in of_one) for of_one in rounds])),
        "p95_ms": float(p95),
        "cpu_ms": float(np.median([image["cpu_ms"] for image in images])),
        "load_ms": float(np.median([run["load_ms"] for run in runs])),
        "peak_mb": max(run["peak_mb"] for run in runs),
        "stages_ms": {**stages, "other": mean - sum(stages.values())},
    }
    again = [ms for run in runs for ms in run.get("again_ms", ())]
    if again:
        figures["again_ms"] = float(np.median(again))
    # Texts do not change from round to round.
    read, own = ({row["image"]: make_lines(row["lines"]) for row in each[0]["images"]} for each in (runs, own_runs))
    pairs = [pair for name in own for pair in pair_lines(own[name], read[name]) if pair.reference is not None]
    figures["lines"] = sum(map(len, read.values()))
    if pairs:
        figures["equal_share"] = sum(pair.is_equal for pair in pairs) / len(pairs)
    return figures | measure_accuracy(read, labels)


def make_lines(rows: Sequence[Mapping[str, Any]]) -> list[TextLine]:
    return [TextLine(np.array(row["poly"], dtype=np.float32), 1.0, row["text"], 1.0) for row in rows]


def measure_accuracy(
    read: Mapping[str, Sequence[TextLine]], labels: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, float]:
    """Compare lines with labels. The H-mean covers pictures whose labels have boxes; lines on an ignored label do not
    count.
    """
    boxed = texts = Truth(0, 0, 0, 0.0)
    found = 0
    for name, lines in read.items():
        words = labels.get(name, ())
        with_box = [word for word in words if word.get("poly") is not None]
        texts += score_truth([word for word in words if word.get("poly") is None], lines)
        if with_box:
            boxed += score_truth(with_box, lines)
            ignored = [np.array(word["poly"], dtype=np.float32) for word in with_box if word.get("ignore")]
            found += sum(all(measure_iou(poly, line.polygon) < MATCH_IOU for poly in ignored) for line in lines)
    figures = {}
    if boxed.wanted:
        figures["hmean"] = 2 * boxed.found / (boxed.wanted + found)
        figures["exact_share"] = boxed.exact / boxed.wanted
        figures["one_minus_ned"] = boxed.ned_sum / boxed.found if boxed.found else 0.0
    if texts.wanted:
        figures["texts_share"] = texts.exact / texts.wanted
    return figures


# --- tables


def report(content: Mapping[str, Any]) -> None:
    """Print all figures as Markdown."""
    print(f"{describe(content)}, load before the first round {content['load_before']:.1f}.")
    for system, found in content["versions"].items():
        print(f"{system}: {', '.join(' '.join(each) for each in found.items())}.")
    for name, panel in content["figures"].items():
        counts = content["counts"][name]
        print(f"\n{name}, {counts['pictures']} pictures, {content['rounds']} rounds:\n")
        rows = {
            title: [format_cell(form, each.get(key)) for each in panel.values()] for key, (title, form) in ROWS.items()
        }
        print_table("", list(panel), rows)
        stages = {
            stage: [format_cell("{:.1f}", figures["stages_ms"].get(stage)) for figures in panel.values()]
            for stage in (*STAGES, "other")
        }
        print_table("stage, mean, ms", list(panel), stages)
        rates = content["pictures_per_second"][name]
        rounds = [f"round {number + 1}" for number in range(content["rounds"])]
        print_table("pictures/s", rounds, {way: [f"{rate:.2f}" for rate in each] for way, each in rates.items()})
    for name, panel in content["figures"].items():
        own, *others = panel
        for system in others:
            kinds = {"fastest rounds": "fastest_ms", "read again": "again_ms", "CPU time": "cpu_ms"}
            ratios = ", ".join(
                f"{label}: {panel[system][key] / panel[own][key]:.2f}"
                for label, key in kinds.items()
                if key in panel[system] and key in panel[own]
            )
            median = panel[system]["median_ms"] / panel[own]["median_ms"]
            print(f"{name}: {system} takes {median:.2f} times as long as {own} ({ratios})")


def describe(content: Mapping[str, Any]) -> str:
    machine = content["machine"]
    return f"{machine['processor']}, {machine['cores']} cores, {content['threads']} threads, {content['date']}"


def format_cell(form: str, value: float | None) -> str:
    return "–" if value is None else form.format(value)


def print_table(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> None:
    """Print the rows that have a value; nothing if there are none."""
    rows = {name: cells for name, cells in rows.items() if any(cell != "–" for cell in cells)}
    if rows:
        print(f"| {title} | {' | '.join(columns)} |\n|---|" + "---:|" * len(columns))
        print("".join(f"| {name} | {' | '.join(cells)} |\n" for name, cells in rows.items()))


if __name__ == "__main__":
    main()
