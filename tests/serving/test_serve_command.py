"""`edge-ocr serve` as a process."""

from __future__ import annotations

import base64
import errno
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_ocr import create_pipeline
from edge_ocr.serving import worker as worker_module


@dataclass
class Process:
    child: subprocess.Popen[str]
    url: str
    said: list[str]
    """Lines of stderr so far."""

    def post(self, content: bytes) -> tuple[int, dict[str, object]]:
        body = json.dumps({"image": base64.b64encode(content).decode()}).encode()
        request = urllib.request.Request(f"{self.url}ocr", body, {"content-type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return answer.status, json.load(answer)

    def list_requests(self) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.said[1:]]
        return [line for line in lines if line["message"] == "request"]


@pytest.fixture
def serve(make_home) -> Iterator[Callable[..., Process]]:
    running: list[subprocess.Popen[str]] = []
    home = str(make_home())

    def start(*options: str) -> Process:
        child = subprocess.Popen(
            [sys.executable, "-m", "edge_ocr", "serve", "--port", "0", *options],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "EDGE_OCR_HOME": home},
            start_new_session=True,
        )
        running.append(child)
        said: list[str] = []

        def listen() -> None:
            assert child.stderr is not None
            said.extend(iter(lambda: child.stderr.readline().rstrip("\n"), ""))

        threading.Thread(target=listen, daemon=True).start()
        wait_for(lambda: said or child.poll() is not None, 60)
        found = re.fullmatch(r"serving on (http://127\.0\.0\.1:\d+/)", said[0])
        assert found is not None, said
        return Process(child, found[1], said)

    yield start
    for child in running:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_it_finishes_started_requests_and_stops(serve, sign, name):
    process = serve("--threads", "1")
    status, answer = process.post(sign)
    assert (status, len(answer["result"]["texts"])) == (200, 4)
    found: list[int] = []
    asking = threading.Thread(target=lambda: found.append(process.post(sign)[0]))
    asking.start()
    metric = "edge_ocr_pictures_in_work 1.0"
    wait_for(lambda: metric in urllib.request.urlopen(f"{process.url}metrics").read().decode() or found)
    process.child.send_signal(getattr(signal, name))
    asking.join(30)
    assert found == [200]
    # As a shell and systemd know it; Ctrl-C is how a service is stopped at a terminal.
    assert process.child.wait(30) == {"SIGTERM": 128 + signal.SIGTERM, "SIGINT": 0}[name]
    assert process.child.stdout.read() == ""
    # Every line but the first is JSON, and each request has its own.
    assert [line["status"] for line in process.list_requests() if line["path"] == "/ocr"] == [200, 200]
    with pytest.raises(urllib.error.URLError):
        process.post(sign)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(serve, sign):
    process = serve("--workers", "2")
    wait_for(lambda: sum("startup complete" in line for line in process.said) == 2, 60)
    workers = [int(re.search(r"\[(\d+)\]", line)[1]) for line in process.said if "Started server process" in line]
    assert len(workers) == 2
    outcomes: list[object] = []

    def ask() -> None:
        try:
            outcomes.append(process.post(sign)[0])
        except OSError as error:
            outcomes.append(error)

    asking = [threading.Thread(target=ask) for _ in range(6)]
    for thread in asking:
        thread.start()
    time.sleep(0.1)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    for thread in asking:
        thread.join(60)
    assert len(outcomes) == 6
    # Requests in the killed workers got an error, not silence.
    assert any(isinstance(outcome, OSError) for outcome in outcomes)
    assert process.post(sign)[0] == 200
    # Metrics of dead workers still count, but none of their pictures is in work.
    metrics = urllib.request.urlopen(f"{process.url}metrics").read().decode()
    assert "edge_ocr_pictures_in_work 0.0" in metrics


@pytest.fixture
def det_folder(default_models, tmp_path) -> Path:
    model = default_models["PP-OCRv4_mobile_det"]
    folder = tmp_path / "det"
    folder.mkdir()
    for path in (model.program, model.params):
        shutil.copy(path, folder)
    return folder


@pytest.mark.slow
@pytest.mark.slow
def test_a_worker_that_a_busy_machine_holds_up_is_not_killed(serve, sign):
    process = serve("--workers", "2")
    wait_for(lambda: sum("startup complete" in line for line in process.said) == 2, 60)
    workers = [int(re.search(r"\[(\d+)\]", line)[1]) for line in process.said if "Started server process" in line]
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    # The parent asks each in turn; its default limit is 5 s.
    time.sleep(12)
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    assert process.post(sign)[0] == 200
    assert sum("Started server process" in line for line in process.said) == 2


def test_workers_read_with_the_models_own_settings(serve, det_folder, examples):
    (det_folder / "inference.yml").write_text("PostProcess: {name: DBPostProcess, box_thresh: 0.9}\n")
    overrides = {"Pipeline.text_det_model": str(det_folder)}
    (expected,) = create_pipeline(overrides=overrides).predict(examples / "receipt.jpg")
    # With the default, 0.6, it would be all 46.
    assert len(expected["rec_text"]) < 40
    process = serve("--workers", "2", "--det-model", str(det_folder))
    _, answer = process.post((examples / "receipt.jpg").read_bytes())
    assert [text["text"] for text in answer["result"]["texts"]] == expected["rec_text"]


@pytest.mark.slow
def test_workers_obey_every_option(serve):
    process = serve("--workers", "2", "--allow-ports", "8080, 8443", "--threads", "1")
    body = json.dumps({"image": "http://a.example:81/"}).encode()
    request = urllib.request.Request(f"{process.url}ocr", body, {"content-type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as caught, urllib.request.urlopen(request):
        pass
    with caught.value as answer:
        assert "expected one of 80, 443, 8080, 8443" in answer.read().decode()


@pytest.mark.slow
def test_workers_that_cannot_start_are_given_up(serve, det_folder):
    process = serve("--workers", "2", "--det-model", str(det_folder))
    wait_for(lambda: sum("startup complete" in line for line in process.said) == 2, 60)
    shutil.rmtree(det_folder)
    (worker, _) = (int(re.search(r"\[(\d+)\]", line)[1]) for line in process.said if "Started server" in line)
    os.kill(worker, signal.SIGKILL)
    # As if it started without the model.
    assert process.child.wait(120) == 5
    wait_for(lambda: process.said[-1].startswith("Hint: "))
    _, *log, error, _ = process.said
    assert re.fullmatch(f"Error: .*{re.escape(str(det_folder))}.*", error)
    failures = [line for line in map(json.loads, log) if line["message"] == "worker cannot start"]
    assert len(failures) == 3
    assert all(str(det_folder) in line["reason"] and line["level"] == "error" for line in failures)
    assert not any("traceback" in line for line in map(json.loads, log))


@pytest.mark.slow
def test_worker_that_starts_resets_the_count_of_failures(serve, det_folder):
    process = serve("--workers", "2", "--det-model", str(det_folder))

    def list_workers() -> list[int]:
        return [int(re.search(r"\[(\d+)\]", line)[1]) for line in process.said if "Started server" in line]

    def count_failures() -> int:
        return sum("worker cannot start" in line for line in process.said)

    wait_for(lambda: len(list_workers()) == 2, 60)
    aside = det_folder.with_name("aside")
    for round_ in (1, 2):
        det_folder.rename(aside)
        os.kill(list_workers()[-1], signal.SIGKILL)
        wait_for(lambda wanted=2 * round_: count_failures() >= wanted, 60)
        aside.rename(det_folder)
        wait_for(lambda wanted=2 + round_: len(list_workers()) == wanted, 60)
    # Two failures twice, and it serves.
    assert count_failures() == 4
    assert process.child.poll() is None


def test_connection_with_half_a_request_is_closed(serve):
    process = serve("--threads", "1")
    port = int(process.url.rstrip("/").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(b"GET /health HTTP/1.1\r\n")
        assert client.recv(100) == b""


def test_unread_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(worker_module, "UNREAD_MS", 300)
    with worker_module._listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            with pytest.raises(OSError) as raised:  # noqa: PT012  # which of the lines it is, is open
                while True:
                    connection.sendall(bytes(2**20))
            assert raised.value.errno == errno.ETIMEDOUT


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_workers_stop_with_their_parent(serve, sign, name):
    process = serve("--workers", "2")
    wait_for(lambda: sum("startup complete" in line for line in process.said) == 2, 60)
    assert process.post(sign)[0] == 200
    process.child.send_signal(getattr(signal, name))
    # It was a segmentation fault, which left the workers with the port.
    assert process.child.wait(30) == 0
    assert sum("Finished server process" in line for line in process.said) == 2


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed(serve):
    process = serve("--workers", "2")
    wait_for(lambda: sum("startup complete" in line for line in process.said) == 2, 60)
    process.child.kill()
    process.child.wait(10)
    # Otherwise they would keep the port from the next service.
    port = int(process.url.rstrip("/").rpartition(":")[2])

    def is_free() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return True
        return False

    wait_for(is_free, 30)


def test_answers_do_not_wait_for_acknowledgements(serve):
    process = serve("--threads", "1")
    connection = http.client.HTTPConnection(process.url.split("/")[2], timeout=10)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        seconds.append(time.perf_counter() - start)
    connection.close()
    # 40 ms and more if the answer's second packet waits for the acknowledgement of the first.
    assert sorted(seconds)[10] < 0.03


def test_other_metrics_are_not_requested(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "gone"))
    process = serve("--threads", "1")
    assert urllib.request.urlopen(f"{process.url}metrics").status == 200


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_ocr", "serve", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_port_in_use_is_reported():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        done = run("--port", port)
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--host", "256.1.1.1"], 2, "256.1.1.1"),
        (["--host", ""], 2, "--host is empty"),
        (["--workers", "0"], 2, "--workers"),
        (["--max-pixels", "0"], 2, "--max-pixels"),
        (["--allow-ports", "8080,http"], 2, "--allow-ports 8080,http: expected ports"),
        (["--allow-ports", "65536"], 2, "--allow-ports"),
        (["--set", "Detection.thres=1"], 2, "Detection.thresh"),
        (["--port", "0", "--rec-model", "no-such-model"], 5, "no-such-model"),
        (["--port", "0", "--workers", "2", "--rec-model", "no-such-model"], 5, "no-such-model"),
    ],
)
def test_bad_options_are_reported_before_anything_is_served(options, code, words):
    done = run(*options)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "serving on" not in done.stderr
    assert "Traceback" not in done.stderr
