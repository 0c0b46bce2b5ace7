"""Measure a service on loopback under load: python -m benchmarks.service [PICTURE] [--seconds N]

Rounds of the pipeline alone and of the service alternate, with one picture, the same engine and the same threads. Then
twice as many connections as may wait show the behaviour beyond saturation.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_ocr import create_pipeline

PICTURE = Path(__file__).parent.parent / "examples/images/receipt.jpg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", nargs="?", type=Path, default=PICTURE)
    parser.add_argument("--seconds", type=float, default=60, help="seconds of load, half on the pipeline alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("options", nargs="*", help="options of edge-ocr serve, after --")
    args = parser.parse_args()
    content = args.picture.read_bytes()
    body = json.dumps({"image": base64.b64encode(content).decode()}).encode()
    pipeline = create_pipeline()
    each_s = args.seconds / args.rounds / 2

    child, port = start(args.options)
    try:
        pid = child.pid
        run_pipeline(pipeline, content, 1)
        run_load(port, body, args.connections, 1)
        alone, served = [], []
        for _ in range(args.rounds):
            alone.append(run_pipeline(pipeline, content, each_s))
            served.append(run_load(port, body, args.connections, each_s))
            print(f"pipeline alone {alone[-1]:.2f}/s; {served[-1]}; {read_rss_mb(pid):.0f} MB")
        ratio = np.mean([load.throughput for load in served]) / np.mean(alone)
        print(f"throughput, service / pipeline alone: {ratio:.2f}")
        print(f"{4 * args.connections} connections: {run_load(port, body, 4 * args.connections, each_s)}")
        print(f"one connection: {run_load(port, body, 1, each_s)}; {read_rss_mb(pid):.0f} MB")
    finally:
        child.terminate()
        child.wait()


def start(options: list[str]) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-m", "edge_ocr", "serve", "--port", "0", *options]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    found = re.search(r":(\d+)/", child.stderr.readline())
    threading.Thread(target=lambda: [None for _ in child.stderr], daemon=True).start()
    return child, int(found[1])


def run_pipeline(pipeline, content: bytes, seconds: float) -> float:
    """Return pictures per second."""
    count, started = 0, time.monotonic()
    while time.monotonic() - started < seconds:
        list(pipeline.predict(content))
        count += 1
    return count / (time.monotonic() - started)


@dataclass
class Load:
    """The answers to a round of requests."""

    answers: list[tuple[int, float]]
    """Status and seconds of each answer."""
    seconds: float
    """From the first request to the last answer."""

    @property
    def throughput(self) -> float:
        return sum(status == 200 for status, _ in self.answers) / self.seconds

    def __str__(self) -> str:
        times = [duration for status, duration in self.answers if status == 200] or [float("nan")]
        p50, p95 = np.percentile(times, [50, 95]) * 1000
        statuses = ", ".join(f"{count} × {status}" for status, count in Counter(s for s, _ in self.answers).items())
        return f"service {self.throughput:.2f}/s, p50 {p50:.0f} ms, p95 {p95:.0f} ms ({statuses})"


def run_load(port: int, body: bytes, connections: int, seconds: float) -> Load:
    found: list[tuple[int, float]] = []
    began = time.monotonic()
    deadline = began + seconds

    def ask() -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.monotonic() < deadline:
            started = time.monotonic()
            client.request("POST", "/ocr", body, {"Content-Type": "application/json"})
            answer = client.getresponse()
            answer.read()
            found.append((answer.status, time.monotonic() - started))
            if answer.status == 503:
                time.sleep(min(1.0, float(answer.headers["Retry-After"])))
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(found, time.monotonic() - began)


def read_rss_mb(pid: int) -> float:
    """Return the resident memory of a process and its children."""
    total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        total += read_rss_mb(int(child))
    return total


if __name__ == "__main__":
    main()
