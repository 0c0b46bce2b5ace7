"""What the service answers, and what it refuses."""

from __future__ import annotations

import base64
import contextlib
import html
import http.server
import json
import logging
import re
import shlex
import shutil
import socket
import struct
import subprocess
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from edge_ocr.serving import app as serving_app
from edge_ocr.serving import metrics
from edge_ocr.serving.docs import render_docs
from edge_ocr.serving.frame import JsonFormatter
from edge_ocr.serving.settings import METRICS_VARIABLE


@pytest.fixture(scope="module")
def sign(examples) -> bytes:
    return (examples / "sign.png").read_bytes()


# Of a request that is written by hand.
HEAD = b"POST /ocr HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def assert_failed(answer, status: int, *words: str) -> None:
    assert answer.status == status, answer.content[:300]
    assert set(answer.json) == {"errorCode", "errorMsg"}
    assert answer.json["errorCode"] == status
    message = answer.json["errorMsg"]
    assert len(message) < 300
    assert "\n" not in message
    for word in words:
        assert word in message


# --- Answers


def test_answer_is_what_the_pipeline_reads(service, sign, read_example):
    answer = service.read(sign)
    assert answer.status == 200
    assert {key: answer.json[key] for key in ("errorCode", "errorMsg")} == {"errorCode": 0, "errorMsg": "Success"}
    expected = read_example("sign.png")
    texts = answer.json["result"]["texts"]
    assert [text["text"] for text in texts] == expected["rec_text"]
    assert [text["poly"] for text in texts] == expected["dt_polys"]
    assert [text["score"] for text in texts] == pytest.approx(expected["rec_score"])


def test_picture_of_the_answer_has_the_boxes(service, sign):
    result = service.read(sign).json["result"]
    before = cv2.imdecode(np.frombuffer(sign, np.uint8), cv2.IMREAD_COLOR)
    after = cv2.imdecode(np.frombuffer(base64.b64decode(result["image"]), np.uint8), cv2.IMREAD_COLOR)
    assert after.shape == before.shape
    changed = np.abs(after.astype(int) - before).max(axis=2) > 60
    for text in result["texts"]:
        outline = np.zeros(changed.shape, np.uint8)
        cv2.polylines(outline, [np.array(text["poly"])], True, 255, 1)
        assert changed[outline > 0].mean() > 0.9
    # Nothing else is touched.
    assert changed.mean() < 0.1


@pytest.mark.parametrize("wrap", ["data", "lines"])
def test_usual_ways_of_base64_are_read(service, sign, wrap):
    text = base64.encodebytes(sign).decode() if wrap == "lines" else base64.b64encode(sign).decode()
    image = f"data:image/png;base64,{text}" if wrap == "data" else text
    assert len(service.ask("/ocr", {"image": image}).json["result"]["texts"]) == 4


def test_picture_without_text_gives_none(service):
    _, blank = cv2.imencode(".png", np.full((64, 64, 3), 255, np.uint8))
    answer = service.read(blank.tobytes())
    assert (answer.status, answer.json["result"]["texts"]) == (200, [])


def test_max_long_side_is_that_of_the_pipeline(service, sign, open_pipeline, examples):
    reduced = service.read(sign, inferenceParams={"maxLongSide": 96})
    (expected,) = open_pipeline(Detection__limit_side_len=96).predict(examples / "sign.png")
    assert [text["poly"] for text in reduced.json["result"]["texts"]] == expected["dt_polys"]
    # And it changed nothing for those behind it.
    full = service.read(sign, inferenceParams={})
    assert full.json["result"]["texts"] != reduced.json["result"]["texts"]
    assert full.json["result"]["texts"] == service.read(sign, inferenceParams=None).json["result"]["texts"]


def test_turned_photo_is_drawn_upright(service, sign):
    from io import BytesIO

    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    turned = BytesIO()
    Image.open(BytesIO(sign)).convert("RGB").rotate(90, expand=True).save(turned, "JPEG", quality=95, exif=exif)
    result = service.read(turned.getvalue()).json["result"]
    after = cv2.imdecode(np.frombuffer(base64.b64decode(result["image"]), np.uint8), cv2.IMREAD_COLOR)
    assert after.shape[:2] == (430, 640)
    assert len(result["texts"]) == 4


def test_requests_at_once_get_their_own_answers(service, examples, read_example):
    names = ["sign.png", "label.png"] * 4
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda name: service.read((examples / name).read_bytes()), names))
    for name, answer in zip(names, answers, strict=True):
        assert [text["text"] for text in answer.json["result"]["texts"]] == read_example(name)["rec_text"]


def test_health_tells_models_and_engines(service):
    answer = service.ask("/health")
    assert answer.status == 200
    assert answer.json["status"] == "ok"
    assert answer.json["models"] == {"det": "PP-OCRv4_mobile_det", "rec": "PP-OCRv4_mobile_rec"}
    assert set(answer.json["engines"].values()) == {"openvino"}


def test_metrics_count_requests(service, sign):

    def count(line: str) -> float:
        text = service.ask("/metrics").content.decode()
        return next((float(row.rpartition(" ")[2]) for row in text.splitlines() if row.startswith(line + " ")), 0.0)

    good, bad = (f'edge_ocr_requests_total{{path="/ocr",status="{status}"}}' for status in (200, 400))
    stage = 'edge_ocr_stage_seconds_count{stage="recognition"}'
    before = [count(line) for line in (good, bad, stage, "edge_ocr_lines_total")]
    service.read(sign)
    service.ask("/ocr", b"{")
    after = [count(line) for line in (good, bad, stage, "edge_ocr_lines_total")]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, 1, 4]
    assert count("edge_ocr_pictures_in_work") == 0


def test_unknown_paths_share_a_metric(service):
    for path in ("/a", "/b"):
        service.ask(path)
    text = service.ask("/metrics").content.decode()
    assert 'path="other",status="404"' in text
    assert 'path="/a"' not in text


def test_openapi_tells_the_contract(service):
    document = service.ask("/openapi.json").json
    operation = document["paths"]["/ocr"]["post"]
    assert set(operation["responses"]) == {"200", "400", "413", "422", "500", "503", "504"}
    request = document["components"]["schemas"]["OcrRequest"]
    assert request["required"] == ["image"]
    assert request["examples"]


def test_example_of_the_document_works(service):
    document = service.ask("/openapi.json").json
    (example,) = document["components"]["schemas"]["OcrRequest"]["examples"]
    assert service.ask("/ocr", example).status == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/health"])
def test_head_is_get_without_its_body(service, path):
    whole, head = service.ask(path), service.ask(path, method="HEAD")
    assert (head.status, head.content) == (200, b"")
    same = ("content-type", "content-length")
    assert [head.headers[name] for name in same] == [whole.headers[name] for name in same]
    assert len(whole.content) == int(head.headers["content-length"])


def test_page_loads_nothing_from_elsewhere(service):
    answer = service.ask("/")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert b"http://www.w3.org/2000/svg" in answer.content
    assert answer.content.count(b"://") == 1


def test_docs_tell_what_the_document_does_and_load_nothing(service):
    answer = service.ask("/docs")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; ")
    assert "script" not in answer.headers["content-security-policy"]
    page = html.unescape(answer.content.decode())
    assert "<script" not in page
    # All that stands there of other places is text.
    assert not re.search(r"(src|href|url\()\s*=?[\"']?(https?:)?//", page)
    document = service.ask("/openapi.json").json
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert f"<b>{method.upper()}</b><code>{path}</code>" in page
            for kind in operation.get("requestBody", {}).get("content", {}):
                assert f"<code>{kind}</code>" in page
            for status, response in operation["responses"].items():
                assert status == "200" or f">{status}</th><td>{response['description']}<" in page
    for name in ("image", "inferenceParams.maxLongSide", "result.texts[].poly", "result.texts[].score", "models"):
        assert f"<code>{name}</code>" in page
    assert "integer, 32 to 4000, optional" in page
    assert b'href="docs"' in service.ask("/").content


def test_every_call_of_the_docs_works(service, sign, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    for name in ("photo.jpg", "page.pdf"):
        (tmp_path / name).write_bytes(sign)
    document = service.ask("/openapi.json").json
    (example,) = document["components"]["schemas"]["OcrRequest"]["examples"]
    page = html.unescape(service.ask("/docs").content.decode())
    calls = [call.replace("URL or Base64", example["image"]) for call in re.findall("curl [^<]+", page)]
    assert len(calls) == 7
    for call in calls:
        command = shlex.split(call)
        options = ["-s", "-f", "--noproxy", "*"]
        done = subprocess.run([command[0], *options, *command[1:]], cwd=tmp_path, capture_output=True, timeout=60)
        assert done.returncode == 0, call[:200]
        if call.endswith("/ocr"):
            # The example is an empty picture.
            assert len(json.loads(done.stdout)["result"]["texts"]) == (0 if "application/json" in call else 4)


def test_docs_do_not_take_an_address_for_markup(service):
    page = render_docs(service.ask("/openapi.json").json, "http://<script>alert(1)</script>/")
    assert "<script" not in page
    assert "curl http://&lt;script&gt;alert(1)&lt;/script&gt;/health" in page


# --- Refusals


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"", 422, "required"),
        (b"{", 400, "not JSON"),
        (b"\xff\xfe", 400, ""),
        (b"[" * 100_000, 400, ""),
        ([], 422, "object"),
        ("text", 422, "object"),
        (None, 405, ""),
        ({}, 422, "image"),
        ({"image": 5}, 422, "image"),
        ({"image": None}, 422, "image"),
        ({"image": ""}, 422, "image"),
        ({"image": ["x"]}, 422, "image"),
        ({"image": "x", "other": 1}, 422, "other"),
        ({"image": "x", "inferenceParams": 5}, 422, "inferenceParams"),
        ({"image": "x", "inferenceParams": {"maxLongSide": 0}}, 422, "maxLongSide"),
        ({"image": "x", "inferenceParams": {"maxLongSide": 10**9}}, 422, "maxLongSide"),
        ({"image": "x", "inferenceParams": {"maxLongSide": 96.5}}, 422, "maxLongSide"),
        ({"image": "x", "inferenceParams": {"maxLongSide": True}}, 422, "maxLongSide"),
        ({"image": "x", "inferenceParams": {"maxlongside": 96}}, 422, "maxlongside"),
        ({"image": "no Base64 (at all)"}, 422, "Base64"),
        ({"image": "abc"}, 422, "Base64"),
        ({"image": "\u5c71\u8336"}, 422, "Base64: it is not ASCII"),
        ({"image": "aGVsbG8="}, 422, "not a picture"),
        ({"image": "file:///etc/passwd"}, 422, "http"),
        ({"image": "ftp://example.org/a.png"}, 422, "http"),
        ({"image": "/etc/passwd"}, 422, "Base64"),
    ],
)
def test_bad_bodies_are_refused(service, body, status, word):
    answer = service.ask("/ocr", body)
    if status == 405:
        assert_failed(answer, 405, "Method Not Allowed")
    else:
        assert_failed(answer, status, word)
    assert service.ask("/health").status == 200


def test_base64_in_small_pieces_takes_little_memory():
    tracemalloc.start()
    try:
        assert len(serving_app._decode_base64("aaaa " * 500_000)) == 1_500_000
        assert tracemalloc.get_traced_memory()[1] < 15_000_000
    finally:
        tracemalloc.stop()


def test_body_that_is_not_called_json_is_told_so(service):
    body = json.dumps({"image": "x"}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = service.ask("/ocr", body, headers={"content-type": kind})
        assert_failed(answer, 422, "Content-Type: application/json")


@pytest.mark.parametrize("body", [{"image": f"http://x:y/{'a' * 100_000}"}, {"image": "x", "k" * 100_000: 1}])
def test_long_requests_are_not_repeated(service, body):
    answer = service.ask("/ocr", body)
    assert answer.status == 422
    assert len(answer.json["errorMsg"]) <= 1000
    assert re.search("Port|not permitted", answer.json["errorMsg"])


def test_longest_line_of_pixels_is_drawn(start, open_pipeline):
    # Reduced to the longest side of a JPEG, its height would be nothing.
    content = make_png(200_000, 1)
    image = start(open_pipeline()).read(content).json["result"]["image"]
    assert cv2.imdecode(np.frombuffer(base64.b64decode(image), np.uint8), cv2.IMREAD_COLOR).shape[:2] == (1, 65_500)


def test_log_is_ascii():
    record = logging.LogRecord("x", logging.INFO, "", 0, "request", None, None)
    record.facts = {"path": "/\n\u2028\x9b\x1b\u5c71"}
    line = JsonFormatter().format(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["path"] == record.facts["path"]


def test_worker_whose_figures_another_takes_away_is_no_fault(tmp_path, monkeypatch):
    monkeypatch.setenv(METRICS_VARIABLE, str(tmp_path))
    (tmp_path / "gauge_livesum_1.db").touch()

    def take_away(worker: int, folder: str) -> None:
        (tmp_path / "gauge_livesum_1.db").unlink()
        raise FileNotFoundError

    monkeypatch.setattr(metrics, "is_alive", lambda worker: False)
    monkeypatch.setattr(metrics, "mark_process_dead", take_away)
    assert metrics.collect() == b""


def test_unknown_path_is_refused_in_the_same_form(service):
    assert_failed(service.ask("/other"), 404)


def test_damaged_picture_is_refused(service, sign):
    assert_failed(service.read(sign[: len(sign) // 2]), 422, "truncated")


def test_several_pages_are_refused(service):
    from io import BytesIO

    from PIL import Image

    pages = [Image.new("RGB", (40, 40), colour) for colour in ("white", "black")]
    content = BytesIO()
    pages[0].save(content, "TIFF", save_all=True, append_images=pages[1:])
    assert_failed(service.read(content.getvalue()), 422, "several pages")


def test_pages_of_a_pdf_are_refused_whichever_is_bad(service, examples, make_mixed_pdf, tmp_path):
    mixed = make_mixed_pdf(tmp_path / "mixed.pdf", examples / "sign.png")
    assert_failed(service.read(mixed.read_bytes()), 422, "several pages")


def make_bomb(side: int) -> bytes:
    """A PNG of a few KB that is side × side."""
    return make_png(side, side)


def make_png(width: int, height: int) -> bytes:
    """A black PNG, packed as far as can be."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    row = b"\0" + b"\0" * -(-width // 8)
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_png_bomb_is_refused(start, open_pipeline):
    service = start(open_pipeline(Input__max_pixels=1_000_000))
    bomb = make_bomb(20_000)
    assert len(bomb) < 200_000
    assert_failed(service.read(bomb), 422, "1,000,000 pixels")
    assert service.ask("/health").status == 200


def test_announced_body_is_refused_before_it_comes(start):
    service = start(max_body_bytes=1000)
    with socket.create_connection(("127.0.0.1", service.port), 10) as client:
        client.sendall(HEAD + b"Content-Length: 200000000\r\n\r\n")
        said = b""
        while piece := client.recv(65536):
            said += piece
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"larger than" in said


def test_body_that_keeps_coming_is_refused(start):
    service = start(max_body_bytes=100_000)
    with socket.create_connection(("127.0.0.1", service.port), 10) as client:
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 2**24:
                client.sendall(piece)
                sent += len(piece)
        with contextlib.suppress(OSError):
            assert client.recv(65536).startswith(b"HTTP/1.1 413 ")
    assert sent < 2**24
    assert service.ask("/health").status == 200


def test_body_that_never_ends_is_given_up(start):
    service = start(timeout_s=0.3)
    with socket.create_connection(("127.0.0.1", service.port), 10) as client:
        client.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert client.recv(65536).startswith(b"HTTP/1.1 504 ")


def read_to_end(client: socket.socket) -> bytes:
    """What the service says until it closes the connection; TimeoutError where it does not."""
    return b"".join(iter(lambda: client.recv(65536), b""))


ASK_HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (b"", 0),
        (b"GE", 0),
        (HEAD, 0),
        (ASK_HEALTH, 1),
        (ASK_HEALTH + HEAD, 1),
        (ASK_HEALTH + ASK_HEALTH + HEAD, 2),
    ],
    ids=["nothing", "begun", "half", "no second", "half of the second", "half of the third"],
)
def test_connection_without_whole_headers_is_closed(start, sent, answers):
    service = start(header_timeout_s=0.2)
    with socket.create_connection(("127.0.0.1", service.port), 10) as client:
        client.sendall(sent)
        assert read_to_end(client).count(b"HTTP/1.1 200 ") == answers


@pytest.mark.parametrize("before", [b"", ASK_HEALTH], ids=["first", "second"])
def test_headers_that_trickle_do_not_keep_a_connection(start, before):
    service = start(header_timeout_s=0.2)
    with socket.create_connection(("127.0.0.1", service.port), 10) as client:
        client.sendall(before + HEAD)
        # One header after the other, for far longer than it may take; in the end nobody listens.
        with pytest.raises(OSError):  # noqa: PT012  # which of the lines it is, is open
            for _ in range(200):
                client.sendall(b"X: y\r\n")
                time.sleep(0.05)


@pytest.mark.parametrize("path", ["/nothing", "/health"])
def test_an_answered_request_whose_body_trickles_does_not_keep_a_connection(start, path):
    service = start(header_timeout_s=0.2)
    with socket.create_connection(("127.0.0.1", service.port), 10) as client:
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 40")
        client.sendall(b"x")
        read_to_end(client)


def test_headers_in_time_may_be_followed_by_a_body_that_takes_longer(start, sign, gate):
    service = start(header_timeout_s=0.2)
    body = json.dumps({"image": base64.b64encode(sign).decode()}).encode()
    with socket.create_connection(("127.0.0.1", service.port), 10) as client:
        client.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:100])
        time.sleep(0.5)
        client.sendall(body[100:])
        # As may the answer.
        time.sleep(0.5)
        gate.set()
        assert read_to_end(client).startswith(b"HTTP/1.1 200 ")


def count_bytes(service) -> float:
    text = service.ask("/metrics").content.decode()
    return next(float(row.split()[1]) for row in text.splitlines() if row.startswith("edge_ocr_body_bytes "))


def test_bodies_on_their_way_are_refused_where_memory_has_no_room(start):
    # Two are worked on and none waits: twice the largest body.
    service = start(queue=0, max_body_bytes=100_000, allow_urls=False)

    def send(count: int) -> socket.socket:
        client = running.enter_context(socket.create_connection(("127.0.0.1", service.port), 10))
        client.sendall(HEAD + b"Content-Length: 90000\r\n\r\n" + b" " * count)
        return client

    with contextlib.ExitStack() as running:
        first, second = send(80_000), send(80_000)
        wait_for(lambda: count_bytes(service) == 160_000)
        said = read_to_end(send(60_000))
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in said
        assert b"busy" in said
        # Those that were there go on, and then there is room again.
        for client in (first, second):
            client.sendall(b" " * 10_000)
            assert client.recv(65536).startswith(b"HTTP/1.1 400 ")
        assert count_bytes(service) == 0
        third = send(90_000)
        assert third.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_client_that_goes_in_the_middle_of_its_body_is_told_in_the_log(start, caplog):
    service = start()
    with caplog.at_level(logging.INFO, "edge_ocr.serving"):
        with socket.create_connection(("127.0.0.1", service.port), 10) as client:
            client.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
            time.sleep(0.2)
        deadline = time.monotonic() + 10
        while not (found := [record.facts for record in caplog.records if record.message == "request"]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert [(facts["status"], facts["body_bytes"]) for facts in found] == [(499, 1)]


def test_request_id_comes_back(start, caplog):
    service = start()

    def told():
        return [record.facts["request_id"] for record in caplog.records if hasattr(record, "facts")]

    with caplog.at_level(logging.INFO, "edge_ocr.serving"):
        given = service.ask("/health", headers={"X-Request-ID": "abc-1.2_X"}).headers["x-request-id"]
        made = service.ask("/health").headers["x-request-id"]
        forged = service.ask("/health", headers={"X-Request-ID": 'a" b'}).headers["x-request-id"]
        # The line is written behind the answer, and only kept at this level.
        wait_for(lambda: len(told()) == 3)
    assert given == "abc-1.2_X"
    assert len(made) == len(forged) == 32
    assert told() == [given, made, forged]


def test_a_fault_of_ours_is_500_and_logged(start, sign, monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(serving_app, "_answer", fail)
    service = start()
    answer = service.read(sign)
    assert_failed(answer, 500, "internal error")
    assert b"secret" not in answer.content
    assert any(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records)
    assert service.ask("/health").status == 200


# --- Limits


@pytest.fixture
def gate(monkeypatch) -> Iterator[threading.Event]:
    """Holds every reading until it is set."""
    opened = threading.Event()
    answer = serving_app._answer

    def wait(*arguments: object) -> object:
        assert opened.wait(30)
        return answer(*arguments)

    monkeypatch.setattr(serving_app, "_answer", wait)
    yield opened
    opened.set()


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def count_in_work(service) -> float:
    text = service.ask("/metrics").content.decode()
    return next(float(row.split()[1]) for row in text.splitlines() if row.startswith("edge_ocr_pictures_in_work "))


def test_full_queue_refuses_at_once_and_recovers(start, sign, gate):
    service = start(queue=1)
    with ThreadPoolExecutor(3) as pool:
        # Two are worked on, one waits.
        first = [pool.submit(service.read, sign) for _ in range(3)]
        wait_for(lambda: count_in_work(service) == 3)
        refused = service.read(sign)
        assert_failed(refused, 503, "busy")
        assert int(refused.headers["retry-after"]) >= 1
        assert service.ask("/health").status == 200
        gate.set()
        assert [future.result().status for future in first] == [200] * 3
    assert service.read(sign).status == 200


def test_reading_that_takes_too_long_is_given_up(start, sign, gate):
    service = start(timeout_s=0.3)
    assert_failed(service.read(sign), 504, "0.3 s")
    gate.set()
    wait_for(lambda: count_in_work(service) == 0)


def test_request_that_waits_is_dropped_when_the_client_goes(start, sign, gate, monkeypatch):
    service = start(queue=4)
    with ThreadPoolExecutor(2) as pool:
        first = [pool.submit(service.read, sign) for _ in range(2)]
        wait_for(lambda: count_in_work(service) == 2)
        body = json.dumps({"image": base64.b64encode(sign).decode()}).encode()
        with socket.create_connection(("127.0.0.1", service.port), 10) as client:
            client.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            wait_for(lambda: count_in_work(service) == 3)
        wait_for(lambda: count_in_work(service) == 2)
        gate.set()
        assert [future.result().status for future in first] == [200] * 2


# --- URLs


@pytest.fixture
def site(sign) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            targets = {"/round": "/round", "/file": "file:///etc/passwd", "/there": "/sign.png"}
            if self.path in targets:
                self.send_response(302)
                self.send_header("Location", targets[self.path])
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            if self.path == "/sign.png":
                self.wfile.write(sign)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def no_proxy(monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.usefixtures("no_proxy")
def test_url_is_read_where_private_ones_may_be(start, site):
    service = start(allow_private_urls=True)
    for path in ("/sign.png", "/there"):
        answer = service.ask("/ocr", {"image": site + path})
        assert len(answer.json["result"]["texts"]) == 4


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize("path", ["/round", "/file", "/empty"])
def test_url_that_leads_to_no_picture_is_refused(start, site, path):
    service = start(allow_private_urls=True)
    assert_failed(service.ask("/ocr", {"image": site + path}), 422)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/sign.png",
        "http://localhost:{port}/sign.png",
        "http://[::1]:{port}/sign.png",
        "http://[::ffff:127.0.0.1]:{port}/sign.png",
        "http://0.0.0.0:{port}/sign.png",
        "http://0x7f000001:{port}/sign.png",
        "http://2130706433:{port}/sign.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/a.png",
        "https://192.168.0.1/a.png",
    ],
)
def test_private_urls_are_refused(start, site, url):
    port = site.rpartition(":")[2]
    answer = start(allow_ports=[int(port)]).ask("/ocr", {"image": url.format(port=port)})
    assert_failed(answer, 422, "not public")


def test_other_ports_are_refused(service, site):
    assert_failed(service.ask("/ocr", {"image": site + "/sign.png"}), 422, "port ", "expected one of 80, 443")


def test_urls_can_be_turned_off(start, site):
    answer = start(allow_urls=False, allow_private_urls=True).ask("/ocr", {"image": site + "/sign.png"})
    assert_failed(answer, 422, "no URLs")


class Slow:
    """A server that sends the start of a file, and the rest when `go` is set."""

    def __init__(self, start: bytes) -> None:
        self.go = threading.Event()
        self._start = start
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = [threading.Thread(target=self._listen)]
        self._threads[0].start()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._threads.append(threading.Thread(target=self._talk, args=(self._listener.accept()[0],)))
                self._threads[-1].start()

    def _talk(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.recv(1000)
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + self._start)
            self.go.wait(20)

    def close(self) -> None:
        self.go.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(20)


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize("stays", [True, False])
def test_files_behind_urls_are_refused_where_memory_has_no_room(start, open_pipeline, stays):
    # Room for the largest file, 1 MB, and a body.
    service = start(
        open_pipeline(Input__max_download_mb=1), queue=0, max_body_bytes=100_000, timeout_s=20, allow_private_urls=True
    )
    with contextlib.closing(Slow(b"x" * 800_000)) as slow:
        body = json.dumps({"image": slow.url}).encode()
        with socket.create_connection(("127.0.0.1", service.port), 20) as client:
            client.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            wait_for(lambda: count_bytes(service) == 800_000 + len(body))
            if not stays:
                client.close()
                time.sleep(0.3)
            # Also where nobody waits for it any more: it is still there.
            refused = service.ask("/ocr", {"image": slow.url})
            assert_failed(refused, 503, "busy")
            assert refused.headers["retry-after"] == "1"
            assert_failed(service.ask("/ocr", {"image": "aGVsbG8="}), 422, "not a picture")
            slow.go.set()
            if stays:
                assert client.recv(65536).startswith(b"HTTP/1.1 422 ")
        wait_for(lambda: count_bytes(service) == 0)
        assert_failed(service.ask("/ocr", {"image": slow.url}), 422, "not a picture")


@pytest.mark.usefixtures("no_proxy")
def test_slow_urls_that_are_taken_are_answered_in_time(start, open_pipeline):
    service = start(open_pipeline(Input__download_timeout_s=1), queue=16, timeout_s=3, allow_private_urls=True)
    with contextlib.closing(Slow(b"")) as slow, ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: service.ask("/ocr", {"image": slow.url}), range(24)))
    # Two rounds of eight; the third would end when the time of the request does.
    assert sorted(answer.status for answer in answers) == [422] * 16 + [503] * 8
