"""`edge-ocr-lite bench`: measure the time of each stage, and memory."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..bench import measure, read_governor, read_temperature
from ..errors import NotVerifiedError
from ..lite_ocr import LiteOCR
from ..pictures import list_pictures
from ..processor import Processor, read_processor


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    images = [path for given in options.images for path in list_pictures(Path(given))]
    reader = LiteOCR(options.bundle, engine=options.engine, threads=options.threads, power_mode=options.power_mode)
    if not images:
        golden = reader.bundle.manifest.get("golden")
        if golden is None:
            raise NotVerifiedError("the bundle has no golden picture", "name pictures to measure with")
        images = [reader.bundle.check_file(golden["image"])]
    processor = read_processor()
    figures = {
        "edge_ocr_version": reader.bundle.manifest["edge_ocr_version"],
        "machine": platform.machine(),
        "engine": reader.engine,
        "threads": reader.threads,
        "power_mode": reader.power_mode,
        "precision": reader.bundle.manifest["precision"],
        "load_ms": round(reader.load_ms, 2),
        **measure(reader.predict, images, warmup=options.warmup, runs=options.runs),
        # Read after the work: a board throttles when it is hot.
        "temperature_c": read_temperature(),
        "governor": read_governor(),
        "processor": None if processor is None else asdict(processor),
    }
    if options.json:
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    else:
        _print(figures, processor)
    return 0


def _print(figures: dict[str, Any], processor: Processor | None) -> None:
    memory = figures["rss_mb"]
    temperature = figures["temperature_c"]
    rows = [("", "p50 ms", "p95 ms")]
    rows += [(stage, f"{one['p50']:.1f}", f"{one['p95']:.1f}") for stage, one in figures["stages_ms"].items()]
    text = "".join(f"{stage:12}{p50:>10}{p95:>10}\n" for stage, p50, p95 in rows)
    text += (
        f"\npictures: {figures['images']}, lines: {figures['lines']}, rounds: {figures['runs']}, warm-up rounds: "
        f"{figures['warmup']}\n{figures['engine']}, {figures['precision']}, {figures['threads']} threads, "
        f"power mode {figures['power_mode']}, {figures['machine']}\n"
        f"models loaded in {figures['load_ms']:.0f} ms\n"
        f"memory {memory['first']:.0f} MB first, {memory['half']:.0f} MB half-way, {memory['last']:.0f} MB last, "
        f"{memory['peak']:.0f} MB at most\n"
        f"{'temperature unknown' if temperature is None else f'{temperature:.1f} °C'}, "
        f"governor {figures['governor'] or 'unknown'}\n"
    )
    if processor is not None:
        text += "\n".join(processor.describe()) + "\n"
    sys.stdout.write(text)
