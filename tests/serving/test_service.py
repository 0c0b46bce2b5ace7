"""Responses of the service, and its refusals."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import re
import socket
import struct
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
from support.service import HEAD, assert_failed, count_bytes, read_to_end, wait_for

from edge_ocr.serving import app as serving_app
from edge_ocr.serving import metrics
from edge_ocr.serving.frame import JsonFormatter
from edge_ocr.serving.messages import OcrResultBody
from edge_ocr.serving.settings import METRICS_VARIABLE

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
    # Nothing else changes.
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
    # And it changed nothing for later requests.
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


@pytest.mark.parametrize("angle", [None, 0, 270])
def test_angle_of_the_page_is_there_only_if_it_was_examined(start, open_pipeline, sign, monkeypatch, angle):
    pipeline = open_pipeline().derive({})
    read = pipeline._read
    monkeypatch.setattr(pipeline, "_read", lambda image, label: replace(read(image, label), page_angle=angle))
    service = start(pipeline)
    result = service.read(sign).json["result"]
    assert ("page_angle" in result, result.get("page_angle")) == (angle is not None, angle)
    schema = service.ask("/openapi.json").json["components"]["schemas"]["OcrResultBody"]
    assert set(result) <= set(schema["properties"])
    assert set(schema["required"]) == set(result) - {"page_angle"}
    assert schema["properties"]["page_angle"]["enum"] == [0, 90, 180, 270]
    OcrResultBody.model_validate(result)


def test_requests_at_once_get_their_own_answers(service, examples, read_example):
    names = ["sign.png", "label.png"] * 4
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda name: service.read((examples / name).read_bytes()), names))
    for name, answer in zip(names, answers, strict=True):
        assert [text["text"] for text in answer.json["result"]["texts"]] == read_example(name)["rec_text"]


def test_health_shows_models_and_engines(service):
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
        ({"image": "\u5c71\u8336"}, 422, "ASCII"),
        ({"image": "aGVsbG8="}, 422, "picture"),
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


def test_body_without_a_json_content_type_is_reported(service):
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
    # Reduced to the longest side of a JPEG, its height would be 0.
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


def test_removed_metrics_of_another_worker_are_not_a_fault(tmp_path, monkeypatch):
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
    """A black PNG with the best compression."""

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


def test_announced_body_is_refused_before_it_arrives(start):
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


def test_arriving_bodies_are_refused_if_memory_is_full(start):
    # Two are in work and none waits: twice the largest body.
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
        # Accepted ones continue, and then there is room again.
        for client in (first, second):
            client.sendall(b" " * 10_000)
            assert client.recv(65536).startswith(b"HTTP/1.1 400 ")
        assert count_bytes(service) == 0
        third = send(90_000)
        assert third.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_client_that_disconnects_during_its_body_is_logged(start, caplog):
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


def test_request_id_is_returned(start, caplog):
    service = start()

    def told():
        return [record.facts["request_id"] for record in caplog.records if hasattr(record, "facts")]

    with caplog.at_level(logging.INFO, "edge_ocr.serving"):
        given = service.ask("/health", headers={"X-Request-ID": "abc-1.2_X"}).headers["x-request-id"]
        made = service.ask("/health").headers["x-request-id"]
        forged = service.ask("/health", headers={"X-Request-ID": 'a" b'}).headers["x-request-id"]
        # The line is written after the answer, and only kept at this level.
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


def count_in_work(service) -> float:
    text = service.ask("/metrics").content.decode()
    return next(float(row.split()[1]) for row in text.splitlines() if row.startswith("edge_ocr_pictures_in_work "))


def test_full_queue_refuses_at_once_and_recovers(start, sign, gate):
    service = start(queue=1)
    with ThreadPoolExecutor(3) as pool:
        # Two are in work, one waits.
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
