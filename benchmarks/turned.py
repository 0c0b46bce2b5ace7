"""Read pictures turned by 90°, 180° and 270°, and compare the lines with those of the upright pictures.

    python -m benchmarks.render_receipts --out RECEIPTS
    python -m benchmarks.turned RECEIPTS ../shared/data/paddleocr_imgs

Prints a Markdown table: for each folder and `--orientation`, the share of the upright pictures' lines that are read
with exactly the same text when the picture is turned, the pages whose angle is wrong, and the processor time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from edge_ocr import create_pipeline
from edge_ocr.cli.options import choose_orientation
from edge_ocr.core.page import turn_upright
from edge_ocr.pipeline import OcrPipeline

SUFFIXES = (".jpg", ".jpeg", ".png")
MODES = ("none", "line", "page", "both")


def read_upright(file: Path, notes: dict[str, str]) -> np.ndarray:
    """Return a picture; one whose label's note says that its page is rotated is turned upright."""
    image = cv2.imread(str(file))
    if image is None:
        raise SystemExit(f"{file} cannot be read")
    note = notes.get(file.name, "")
    turned = int(note.removeprefix("whole page rotated ").rstrip("°")) if note.startswith("whole page") else 0
    return turn_upright(image, turned // 90)


def read_notes(folder: Path) -> dict[str, str]:
    labels = folder / "gt.jsonl"
    lines = labels.read_text(encoding="utf-8").splitlines() if labels.is_file() else []
    return {row["image"]: row.get("note", "") for row in map(json.loads, lines)}


def read(pipeline: OcrPipeline, image: np.ndarray) -> tuple[Counter[str], int | None, float]:
    """Return the texts, the page's angle, and the processor time in milliseconds."""
    start = time.process_time()
    result = next(pipeline.predict(image))
    return Counter(result["rec_text"]), result.get("page_angle"), (time.process_time() - start) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description="Read turned pictures.")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--pipeline", default="OCR")
    parser.add_argument("--page-model", default="PP-LCNet_x1_0_doc_ori")
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    arguments = parser.parse_args()
    pipelines = {}
    for mode in dict.fromkeys(("none", *arguments.modes)):
        values = {key: value for key, (_, value) in choose_orientation(mode).items()}
        overrides = {**values, "Pipeline.page_orientation_model": arguments.page_model}
        pipelines[mode] = create_pipeline(arguments.pipeline, threads=2, overrides=overrides)
    print("| pictures | --orientation | lines | 0° | 90° | 180° | 270° | wrong angles | ms upright | ms turned |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for folder in arguments.folders:
        files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
        notes = read_notes(folder)
        images = [read_upright(file, notes) for file in files]
        upright = [read(pipelines["none"], image) for image in images]
        count = sum(texts.total() for texts, _, _ in upright)
        for mode in arguments.modes:
            same, spent, wrong = [0] * 4, [0.0] * 4, 0
            for image, (texts, _, _) in zip(images, upright, strict=True):
                for turns in range(4):
                    # A picture turned upright by 4 - n quarters is turned by n.
                    found, angle, ms = read(pipelines[mode], turn_upright(image, -turns % 4))
                    same[turns] += (found & texts).total()
                    spent[turns] += ms
                    wrong += angle not in (None, 90 * turns) and texts.total() > 0
            shares = " | ".join(f"{100 * part / count:.1f}" for part in same)
            times = f"{spent[0] / len(images):.0f} | {sum(spent[1:]) / 3 / len(images):.0f}"
            print(f"| {folder.name} ({len(images)}) | {mode} | {count} | {shares} | {wrong} | {times} |", flush=True)


if __name__ == "__main__":
    main()
