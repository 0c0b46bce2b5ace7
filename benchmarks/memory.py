"""Measure resident memory over many pictures of mixed sizes in one process.

    python -m benchmarks.memory [--engine openvino] [--pictures 500]

The pictures are cropped from examples/images/receipt.jpg and scaled to sides from 64 to 2000 px.
"""

import argparse
import os
from pathlib import Path

import cv2
import numpy as np

from edge_ocr import create_pipeline

RECEIPT = Path(__file__).parent.parent / "examples" / "images" / "receipt.jpg"


def read_resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def make_picture(receipt: np.ndarray, random: np.random.Generator) -> np.ndarray:
    height, width = receipt.shape[:2]
    top, left = random.integers(0, height // 2), random.integers(0, width // 2)
    cut = receipt[top : top + random.integers(height // 4, height), left : left + random.integers(width // 4, width)]
    side = random.integers(64, 2000)
    scale = side / max(cut.shape[:2])
    return cv2.resize(cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    receipt = cv2.imread(str(RECEIPT))
    random = np.random.default_rng(0)
    pipeline = create_pipeline(engine=options.engine, threads=options.threads)
    print("pictures  lines  resident MB")
    lines = 0
    for count in range(1, options.pictures + 1):
        for result in pipeline.predict(make_picture(receipt, random)):
            lines += len(result["rec_text"])
        if count in (1, 10) or count % 50 == 0:
            print(f"{count:8d} {lines:6d} {read_resident_mb():12.0f}", flush=True)


if __name__ == "__main__":
    main()
