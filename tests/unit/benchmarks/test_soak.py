"""The soak: what counts as right, refused, wrong and lost; and that a whole round works."""

from __future__ import annotations

import json
import random
import socket
import threading

import pytest

from benchmarks import serve_soak
from benchmarks.serve_soak import Request, Shot

SHOT = Shot(b"a picture" * 100, ["SALE"])


def make_answer(*texts: str) -> bytes:
    result = {"texts": [{"text": text} for text in texts], "image": ""}
    return json.dumps({"errorCode": 0, "errorMsg": "Success", "result": result}).encode()


def make_failure(status: int) -> bytes:
    return json.dumps({"errorCode": status, "errorMsg": "no"}).encode()


@pytest.mark.parametrize(
    ("wanted", "status", "body", "result"),
    [
        (200, 200, make_answer("SALE"), "right"),
        (200, 200, make_answer("SALE", "20"), "wrong"),
        (200, 200, make_answer(), "wrong"),
        (200, 200, b"no JSON", "wrong"),
        (200, 500, make_failure(500), "wrong"),
        (200, 422, make_failure(422), "wrong"),
        (200, 503, make_failure(503), "503"),
        (422, 422, make_failure(422), "refused as expected"),
        (422, 422, b"{}", "wrong"),
        (422, 422, make_failure(400), "wrong"),
        (422, 200, make_answer("SALE"), "wrong"),
        (422, 400, make_failure(400), "wrong"),
    ],
)
def test_answers_are_judged(wanted, status, body, result):
    assert serve_soak.judge(Request("x", b"", status=wanted, texts=["SALE"]), status, body)[0] == result


class FakeService:
    """A server that says one thing and closes."""

    def __init__(self, said: bytes) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.killed: dict[int, float] = {}
        self._said = said
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        client, _ = self.listener.accept()
        with client:
            client.recv(65536)
            client.sendall(self._said)
            client.shutdown(socket.SHUT_WR)
            # To its end: closing before the request is complete would discard the answer.
            while client.recv(65536):
                pass

    def find_worker(self, port: int) -> int:
        return 7


@pytest.mark.parametrize(
    ("said", "killed", "result"),
    [
        (b"", {}, "lost"),
        (b"", {7: 0.0}, "worker was killed"),
        (b"", {8: 0.0}, "lost"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n" + make_answer("SALE"), {}, "lost"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" + make_answer("SALE"), {7: 0.0}, "right"),
        (b"HTTP/1.1 503 x\r\nRetry-After: 3\r\ncontent-length: 0\r\n\r\n", {}, "503"),
    ],
)
def test_requests_count_as_lost_unless_their_worker_was_killed(said, killed, result):
    service = FakeService(said)
    service.killed = killed
    with service.listener:
        outcome, wait_s = serve_soak.exchange(service, Request("x", b"{}", texts=["SALE"]))
    assert outcome.result == result
    assert wait_s == (3 if result == "503" else 0)


def test_slope_is_that_of_the_second_half():
    seconds = [float(s) for s in range(0, 121, 10)]
    # It grows by 100 MB in the first minute, by 6 in the second.
    memory = [100 + (s / 60 * 100 if s < 60 else 100 + (s - 60) / 10) for s in seconds]
    assert serve_soak.measure_slope(seconds, memory) == pytest.approx(6)
    assert serve_soak.measure_slope([0.0, 1.0], [5.0, 5.0]) is None


def test_mixture_has_everything():
    requests = serve_soak.plan([SHOT], "http://127.0.0.1:1", random.Random(0))
    found = [next(requests) for _ in range(1000)]
    kinds = {request.kind for request in found}
    assert kinds >= {f"picture, {body}" for body in ("JSON", "form", "bytes", "URL")}
    assert kinds >= {"slow sender", "slow reader", "client that hangs up", "broken JSON", "oversize", "other type"}
    assert {request.status for request in found} == {200, 400, 404, 405, 413, 422}


@pytest.mark.slow
@pytest.mark.usefixtures("default_models")
def test_a_short_round(tmp_path, capsys, monkeypatch, examples):
    pages = [Shot((examples / name).read_bytes(), []) for name in ("sign.png", "label.png")]
    pipeline = serve_soak.create_pipeline(threads=1)
    for page in pages:
        (result,) = pipeline.predict(page.content)
        page.texts = result["rec_text"]
    monkeypatch.setattr(serve_soak, "make_shots", lambda threads: pages)
    monkeypatch.setenv("no_proxy", "*")
    out = tmp_path / "soak.json"
    options = ["--load", "1", "--load-connections", "4", "--soak", "8", "--kill-every", "3", "--sample-every", "0.5"]
    with pytest.raises(SystemExit) as ended:
        serve_soak.main([*options, "--out", str(out), "--", "--threads", "1"])
    said = capsys.readouterr().out
    assert ended.value.code == 0, said
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert {outcome["result"] for outcome in figures["load"]["outcomes"]} == {"right"}
    assert {"right", "client hung up"} <= {outcome["result"] for outcome in figures["soak"]["outcomes"]}
    assert len(figures["soak"]["killed"]) == 2
    assert figures["errors"] == []
    assert {process["role"] for process in figures["processes"].values()} == {"parent", "worker"}
    assert "| **all** |" in said
