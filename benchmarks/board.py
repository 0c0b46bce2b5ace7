"""Measure a bundle's own runtime on this machine: time of each stage, and memory over many pictures.

    python -m benchmarks.board BUNDLE [--engine onnxruntime] [--pictures 300]

BUNDLE is made by `edge-ocr export --target arm --with-onnx`. The pictures are those of benchmarks.memory. On a real or
emulated board, `./edge-ocr-lite bench` measures the same.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks.memory import RECEIPT, make_picture


def run_bench(bundle: Path, *arguments: str) -> dict:
    env = {**os.environ, "PYTHONPATH": str(bundle / "runtime")}
    command = [sys.executable, "-m", "edge_ocr_lite", "bench", "--json", *arguments]
    return json.loads(subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--threads", default="2")
    options = parser.parse_args()
    common = ("--engine", options.engine, "--threads", options.threads)
    golden = run_bench(options.bundle, *common)
    print(f"golden picture, {golden['lines']} lines, {golden['engine']}, {golden['precision']}, {golden['machine']}")
    print("| stage | p50 ms | p95 ms |\n|---|---:|---:|")
    for stage, spent in golden["stages_ms"].items():
        print(f"| {stage} | {spent['p50']} | {spent['p95']} |")
    print(f"\nmodels loaded in {golden['load_ms']} ms, {golden['rss_mb']['peak']} MB at most\n")
    receipt, random = cv2.imread(str(RECEIPT)), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for index in range(options.pictures):
            cv2.imwrite(f"{folder}/{index:04d}.png", make_picture(receipt, random))
        many = run_bench(options.bundle, *common, "--warmup", "50", "--runs", "1", folder)
    memory = many["rss_mb"]
    print(f"{many['images']} pictures, {many['lines']} lines, resident MB after 50 of them")
    print(f"first {memory['first']}, half-way {memory['half']}, last {memory['last']}, most {memory['peak']}")


if __name__ == "__main__":
    main()
