"""Load test and soak test of a real service: python -m benchmarks.serve_soak [--load 65] [--soak 600]

Load: pictures over many connections. Soak: pictures in every kind of body, garbage, slow clients, clients that hang up,
and killed workers. Each answer is compared with the pipeline's result. Memory, open files and threads of each process
are sampled. Prints Markdown; --out also writes JSON.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import http.server
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np

from benchmarks.render_receipts import SEED, render_page
from edge_ocr import create_pipeline
from edge_ocr.core.engines.base import count_cores

ROOT = Path(__file__).parent.parent
SHIPPED = ("examples/images/sign.png", "examples/images/label.png", "tests/golden/pictures/slanted.png")
RECEIPTS = 3

TIMEOUT_S = 120
"""Timeout of a client; the service's is 60 s."""

# Outcomes of a request.
RIGHT, REFUSED, BUSY, WRONG, LOST, KILLED, HUNG_UP = (
    *("right", "refused as expected", "503", "wrong", "lost", "worker was killed", "client hung up"),
)


@dataclass
class Shot:
    """A picture and its expected texts."""

    content: bytes
    texts: list[str]


@dataclass
class Request:
    """A client's request and behaviour."""

    kind: str
    body: bytes
    content_type: str = "application/json"
    path: str = "/ocr"
    method: str = "POST"
    status: int = 200
    texts: list[str] | None = None
    announce: int | None = None
    """Content-Length, if it differs from the body's length."""
    send_s: float = 0
    """Seconds to send the body."""
    read_s: float = 0
    """Seconds to read the answer."""
    hang_up_s: float | None = None
    """Seconds after the body until the client hangs up."""


@dataclass
class Outcome:
    kind: str
    result: str
    seconds: float
    note: str = ""


@dataclass
class Samples:
    """Samples of one process over time."""

    role: str
    seconds: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)


def measure_slope(seconds: list[float], values: list[float]) -> float | None:
    """Return the least-squares slope per minute of the second half; None if there are too few samples."""
    half = [(s, v) for s, v in zip(seconds, values, strict=True) if s >= (seconds[0] + seconds[-1]) / 2]
    if len(half) < 3:
        return None
    return float(np.polyfit(*zip(*half, strict=True), 1)[0]) * 60


class Service:
    """`edge-ocr serve`, from its start to its end."""

    def __init__(self, workers: int, options: list[str]) -> None:
        command = [sys.executable, "-m", "edge_ocr", "serve", "--port", "0", "--workers", str(workers), *options]
        self.child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.workers = workers
        self.errors: list[str] = []
        self.killed: dict[int, float] = {}
        """Killed workers, and when."""
        self._ready = 0
        found = re.search(r":(\d+)/", self.child.stderr.readline())
        self.port = int(found[1])
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        while self._ready < workers and workers > 1:
            if self.child.poll() is not None:
                raise SystemExit("\n".join(self.errors[-5:]) or "the service has ended")
            time.sleep(0.1)

    def _listen(self) -> None:
        for line in self.child.stderr:
            self._ready += "startup complete" in line
            if '"level": "error"' in line or not line.startswith("{"):
                self.errors.append(line.strip()[:1000])

    def list_workers(self) -> list[int]:
        found = []
        with contextlib.suppress(OSError):
            for pid in Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text().split():
                with contextlib.suppress(OSError):
                    command = Path(f"/proc/{pid}/cmdline").read_bytes()
                    if b"spawn_main" in command and b"resource_tracker" not in command:
                        found.append(int(pid))
        return found

    def find_worker(self, client_port: int) -> int | None:
        """Return the worker of a connection; None if none accepts it within a second."""
        deadline = time.monotonic() + 1
        while (worker := self._find_worker(client_port)) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return worker

    def _find_worker(self, client_port: int) -> int | None:
        ends = (f":{self.port:04X}", f":{client_port:04X}")
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            parts = line.split()
            if (parts[1][-5:], parts[2][-5:]) == ends:
                for pid in self.list_workers() if self.workers > 1 else [self.child.pid]:
                    with contextlib.suppress(OSError):
                        for file in Path(f"/proc/{pid}/fd").iterdir():
                            with contextlib.suppress(OSError):
                                if str(file.readlink()) == f"socket:[{parts[9]}]":
                                    return pid
        return None

    def kill_worker(self) -> None:
        workers = self.list_workers()
        if workers:
            worker = random.choice(workers)
            self.killed[worker] = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)

    def close(self) -> int:
        self.child.terminate()
        code = self.child.wait(90)
        self._listening.join(10)
        self.child.stderr.close()
        return code


class Sampler:
    """Watches the processes of a service."""

    def __init__(self, service: Service, every_s: float) -> None:
        self.found: dict[int, Samples] = {}
        self._service = service
        self._every_s = every_s
        self._ended = threading.Event()
        self._start = time.monotonic()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            parent = self._service.child.pid
            for pid in (parent, *self._service.list_workers()):
                with contextlib.suppress(OSError, IndexError):
                    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                    files, threads = (len(list(Path(f"/proc/{pid}/{name}").iterdir())) for name in ("fd", "task"))
                    samples = self.found.setdefault(pid, Samples("parent" if pid == parent else "worker"))
                    samples.seconds.append(time.monotonic() - self._start)
                    samples.rss_mb.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
                    samples.files.append(files)
                    samples.threads.append(threads)

    def close(self) -> dict[int, Samples]:
        self._ended.set()
        self._thread.join()
        return self.found


def make_shots(threads: int) -> list[Shot]:
    """Return rendered pictures with the texts of a pipeline that has as many threads as a worker."""
    rng = np.random.default_rng(SEED)
    contents = [(ROOT / path).read_bytes() for path in SHIPPED]
    for _ in range(RECEIPTS):
        photo, _ = render_page(rng)
        _, content = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 90])
        contents.append(content.tobytes())
    pipeline = create_pipeline(threads=threads)
    return [Shot(content, result["rec_text"]) for content in contents for result in pipeline.predict(content)]


def make_form(content: bytes, end: bool = True) -> tuple[bytes, str]:
    head = b'--edge\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n\r\n'
    return head + content + (b"\r\n--edge--\r\n" if end else b""), "multipart/form-data; boundary=edge"


def make_json(image: str, **more: object) -> bytes:
    return json.dumps({"image": image, **more}).encode()


def plan_picture(shot: Shot, site: str, number: int) -> Request:
    """Return requests with a picture, one for each kind of body."""
    encoded = base64.b64encode(shot.content).decode()
    form, form_type = make_form(shot.content)
    return [
        Request("picture, JSON", make_json(encoded), texts=shot.texts),
        Request("picture, form", form, form_type, texts=shot.texts),
        Request("picture, bytes", shot.content, "image/jpeg", texts=shot.texts),
        Request("picture, URL", make_json(site), texts=shot.texts),
    ][number % 4]


def plan_garbage(shot: Shot) -> list[Request]:
    """Return requests that must be refused, with the expected status."""
    half = shot.content[: len(shot.content) // 2]
    form, form_type = make_form(half, end=False)
    return [
        Request("broken JSON", b'{"image": "', status=400),
        Request("nested JSON", b"[" * 100_000, status=400),
        Request("no picture", b"hello" * 1000, "image/png", status=422),
        Request("picture cut off", half, "application/octet-stream", status=422),
        Request("picture cut off", make_json(base64.b64encode(half).decode()), status=422),
        Request("no Base64", make_json("山茶"), status=422),
        Request("unknown field", make_json("aGk=", nothing=1), status=422),
        Request("form broken off", form, form_type, status=400),
        Request("empty", b"", "image/png", status=422),
        Request("other type", shot.content, "video/mp4", status=422),
        Request("oversize", b"x" * 1000, "image/png", status=413, announce=10**9),
        Request("no such path", b"", path="/nothing", status=404),
        Request("other method", b"", method="DELETE", status=405),
    ]


def plan(shots: list[Shot], site: str, rng: random.Random) -> Iterator[Request]:
    """Yield requests forever: of ten, six pictures, two garbage, one slow client, one client that hangs up."""
    number = 0
    while True:
        number += 1
        index = rng.randrange(len(shots))
        picture = plan_picture(shots[index], f"{site}/{index}", number)
        chance = rng.random()
        if chance < 0.6:
            yield picture
        elif chance < 0.8:
            yield rng.choice(plan_garbage(shots[index]))
        elif chance < 0.85:
            picture.kind, picture.send_s = "slow sender", rng.uniform(1, 8)
            yield picture
        elif chance < 0.9:
            picture.kind, picture.read_s = "slow reader", rng.uniform(1, 8)
            yield picture
        else:
            picture.kind, picture.hang_up_s = "client that hangs up", rng.uniform(0, 0.5)
            if rng.random() < 0.5:
                picture.announce, picture.body = len(picture.body), picture.body[: len(picture.body) // 2]
            yield picture


def judge(request: Request, status: int, body: bytes) -> tuple[str, str]:
    """Return the outcome of an answered request, and a note if it is wrong."""
    if status == 503:
        return BUSY, ""
    try:
        content = json.loads(body)
    except ValueError:
        return WRONG, f"{status}: no JSON"
    if status != request.status:
        return WRONG, f"{status}, not {request.status}: {str(content)[:300]}"
    if status != 200:
        if set(content) == {"errorCode", "errorMsg"} and content["errorCode"] == status:
            return REFUSED, ""
        return WRONG, f"{status}: {str(content)[:300]}"
    texts = [line["text"] for line in content["result"]["texts"]]
    if texts == request.texts:
        return RIGHT, ""
    return WRONG, f"other texts: {texts[:5]}, not {(request.texts or [])[:5]}"


def exchange(service: Service, request: Request) -> tuple[Outcome, float]:
    """Send `request` on its own connection; return the outcome and how long to wait before the next one."""
    start = time.monotonic()
    worker: int | None = None

    def end(result: str, note: str = "", wait_s: float = 0) -> tuple[Outcome, float]:
        return Outcome(request.kind, result, time.monotonic() - start, note), wait_s

    length = len(request.body) if request.announce is None else request.announce
    head = (
        f"{request.method} {request.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {request.content_type}\r\n"
        f"Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )
    said = b""
    try:
        with socket.create_connection(("127.0.0.1", service.port), TIMEOUT_S) as client:
            if request.read_s:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(head.encode())
            worker = service.find_worker(client.getsockname()[1])
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # A refusal may arrive while the client still sends.
                send(client, request.body, request.send_s)
            if request.hang_up_s is not None:
                time.sleep(request.hang_up_s)
                return end(HUNG_UP)
            said = receive(client, request.read_s)
    except OSError as error:
        failure = f"{type(error).__name__}: {error}"
    else:
        failure = "closed without an answer"
    if b"\r\n\r\n" in said:
        top, _, body = said.partition(b"\r\n\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in top.split(b"\r\n")[1:])
        if len(body) >= int(headers.get(b"content-length", b"0")):
            result, note = judge(request, int(top.split()[1]), body)
            return end(result, note, float(headers.get(b"retry-after", b"0")))
        failure = "answer cut off"
    # A worker that is killed right after accepting is never seen with the connection.
    killed = worker in service.killed or (worker is None and any(at >= start for at in service.killed.values()))
    return end(KILLED if killed else LOST, f"{failure} (worker {worker})")


def send(client: socket.socket, body: bytes, seconds: float) -> None:
    if not seconds:
        client.sendall(body)
        return
    step = -(-len(body) // 20)
    for place in range(0, len(body), step):
        client.sendall(body[place : place + step])
        time.sleep(seconds / 20)


def receive(client: socket.socket, seconds: float) -> bytes:
    said = bytearray()
    deadline = time.monotonic() + seconds
    while piece := client.recv(4096 if seconds else 65536):
        said += piece
        if time.monotonic() < deadline:
            time.sleep(seconds / 20)
    return bytes(said)


def run_load(service: Service, shots: list[Shot], connections: int, seconds: float) -> list[Outcome]:
    """Send pictures as JSON, one after the other on persistent connections; obey Retry-After."""
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + seconds
    requests = [Request("load", make_json(base64.b64encode(shot.content).decode()), texts=shot.texts) for shot in shots]

    def ask(first: int) -> None:
        client = http.client.HTTPConnection("127.0.0.1", service.port, timeout=TIMEOUT_S)
        number = first
        while time.monotonic() < deadline:
            request, start = requests[number % len(requests)], time.monotonic()
            number += 1
            try:
                client.request("POST", "/ocr", request.body, {"Content-Type": "application/json"})
                answer = client.getresponse()
                result, note = judge(request, answer.status, answer.read())
            except (OSError, http.client.HTTPException) as error:
                outcomes.append(Outcome("load", LOST, time.monotonic() - start, repr(error)))
                client.close()
                continue
            outcomes.append(Outcome("load", result, time.monotonic() - start, note))
            if result == BUSY:
                time.sleep(float(answer.headers["Retry-After"]))
        client.close()

    run_threads([lambda first=first: ask(first) for first in range(connections)])
    return outcomes


def run_soak(
    service: Service, shots: list[Shot], site: str, connections: int, seconds: float, kill_every_s: float
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + seconds

    def ask(seed: int) -> None:
        for request in plan(shots, site, random.Random(seed)):
            if time.monotonic() >= deadline:
                return
            while True:
                outcome, wait_s = exchange(service, request)
                outcomes.append(outcome)
                if outcome.result != BUSY:
                    break
                time.sleep(wait_s)

    def kill() -> None:
        while time.monotonic() + kill_every_s < deadline:
            time.sleep(kill_every_s)
            service.kill_worker()

    killers = [kill] if kill_every_s and service.workers > 1 else []
    run_threads([*(lambda seed=seed: ask(seed) for seed in range(connections)), *killers])
    return outcomes


def run_threads(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def serve_pictures(shots: list[Shot]) -> Iterator[str]:
    """A web server with the pictures at /0, /1 and so on."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = shots[int(self.path[1:])].content
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def format_load(outcomes: list[Outcome], seconds: float) -> str:
    counts = Counter(outcome.result for outcome in outcomes)
    times = [outcome.seconds for outcome in outcomes if outcome.result == RIGHT] or [float("nan")]
    p50, p95, p99 = np.percentile(times, [50, 95, 99]) * 1000
    return (
        "| pictures/s | p50 ms | p95 ms | p99 ms | right | 503 | wrong | lost |\n"
        f"|{'---:|' * 8}\n"
        f"| {counts[RIGHT] / seconds:.2f} | {p50:.0f} | {p95:.0f} | {p99:.0f} | {counts[RIGHT]} | {counts[BUSY]} "
        f"| {counts[WRONG]} | {counts[LOST]} |"
    )


def format_soak(outcomes: list[Outcome]) -> str:
    columns = (RIGHT, REFUSED, BUSY, WRONG, LOST, KILLED, HUNG_UP)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        counts[outcome.kind][outcome.result] += 1
        counts["**all**"][outcome.result] += 1
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for kind in sorted(counts, key=lambda kind: (kind == "**all**", kind)):
        lines.append(f"| {kind} | {' | '.join(str(counts[kind][column] or '') for column in columns)} |")
    return "\n".join(lines)


def format_memory(found: dict[int, Samples]) -> str:
    lines = [
        "| process | lifetime, s | MB first | MB last | MB peak | MB/min, second half | open files | threads |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for pid, samples in found.items():
        slope = measure_slope(samples.seconds, samples.rss_mb)
        files, threads = (f"{min(values)} to {max(values)}" for values in (samples.files, samples.threads))
        lines.append(
            f"| {samples.role} {pid} | {samples.seconds[-1] - samples.seconds[0]:.0f} | {samples.rss_mb[0]:.0f} "
            f"| {samples.rss_mb[-1]:.0f} | {max(samples.rss_mb):.0f} | {'–' if slope is None else f'{slope:.2f}'} "
            f"| {files} | {threads} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--load", type=float, default=65, metavar="SECONDS")
    parser.add_argument("--load-connections", type=int, default=16)
    parser.add_argument("--soak", type=float, default=600, metavar="SECONDS")
    parser.add_argument("--soak-connections", type=int, default=4)
    parser.add_argument("--kill-every", type=float, default=60, metavar="SECONDS", help="0 kills no worker")
    parser.add_argument("--sample-every", type=float, default=2, metavar="SECONDS")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    parser.add_argument("options", nargs="*", help="options of edge-ocr serve, after --")
    args = parser.parse_args(arguments)
    shots = make_shots(max(1, count_cores() // args.workers))
    figures: dict[str, object] = {"options": {**vars(args), "out": str(args.out)}}
    with serve_pictures(shots) as site:
        os.environ["no_proxy"] = "*"
        service = Service(args.workers, ["--allow-private-urls", *args.options])
        sampler = Sampler(service, args.sample_every)
        try:
            started = time.monotonic()
            load = run_load(service, shots, args.load_connections, args.load)
            load_s = time.monotonic() - started
            soak = run_soak(service, shots, site, args.soak_connections, args.soak, args.kill_every)
        finally:
            found = sampler.close()
            code = service.close()
    print(f"Load: {args.load_connections} connections, {load_s:.0f} s, {len(shots)} pictures, {args.workers} workers\n")
    print(format_load(load, load_s))
    print(f"\nSoak: {args.soak_connections} connections, {args.soak:g} s, {len(service.killed)} workers killed\n")
    print(format_soak(soak))
    print(f"\nBoth: errors in the log: {len(service.errors)}; exit code {code}\n")
    print(format_memory(found))
    bad = [outcome for outcome in (*load, *soak) if outcome.result in (WRONG, LOST)]
    for outcome in bad[:10]:
        print(f"\n{outcome.kind}, {outcome.result}: {outcome.note}")
    if args.out is not None:
        figures |= {
            "load": {"seconds": load_s, "outcomes": [asdict(outcome) for outcome in load]},
            "soak": {"killed": sorted(service.killed), "outcomes": [asdict(outcome) for outcome in soak]},
            "processes": {pid: asdict(samples) for pid, samples in found.items()},
            "errors": service.errors[:100],
            "exit_code": code,
        }
        args.out.write_text(json.dumps(figures, ensure_ascii=False), encoding="utf-8")
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
