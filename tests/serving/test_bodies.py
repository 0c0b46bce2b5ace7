"""The three kinds of bodies: JSON, forms, and the bytes of a picture."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from support.service import FORM, assert_failed, make_form

from edge_ocr.serving import bodies
from edge_ocr.serving.frame import answer_failure


@pytest.fixture(scope="module")
def large(examples, tmp_path_factory) -> Path:
    """A picture of 3 MB: sign.png on noise."""
    picture = cv2.imread(str(examples / "sign.png"))
    noise = np.random.default_rng(0).integers(0, 255, (1200, picture.shape[1], 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("large") / "photo.png"
    cv2.imwrite(str(path), np.vstack([picture, noise]))
    assert path.stat().st_size > 2_000_000
    return path


# --- What is read


@pytest.mark.parametrize(
    "kind", ["image/png", "image/jpeg", "IMAGE/PNG", "application/octet-stream", "image/png; a=b", "application/pdf"]
)
def test_bytes_are_read_as_in_json(service, sign, kind):
    answer = service.ask("/ocr", sign, headers={"content-type": kind})
    assert answer.json == service.read(sign).json
    assert len(answer.json["result"]["texts"]) == 4


@pytest.mark.parametrize("way", ["file", "Base64", "data URL"])
def test_form_is_read_as_json(service, sign, way):
    text = base64.b64encode(sign).decode()
    part = {
        "file": ("image", sign, "x.png"),
        "Base64": ("image", text, None),
        "data URL": ("image", f"data:image/png;base64,{text}", None),
    }[way]
    assert service.ask("/ocr", make_form(part), headers=FORM).json == service.read(sign).json


def test_url_in_a_form_is_one(service):
    answer = service.ask("/ocr", make_form(("image", "http://127.0.0.1/a.png", None)), headers=FORM)
    assert_failed(answer, 422, "not public")


def test_side_is_given_in_any_way(service, sign):
    expected = service.read(sign, inferenceParams={"maxLongSide": 96}).json
    assert expected != service.read(sign).json
    file = ("image", sign, "x.png")
    raw = {"content-type": "image/png"}
    for answer in (
        service.ask("/ocr?maxLongSide=96", sign, headers=raw),
        service.ask("/ocr?maxLongSide=96", make_form(file), headers=FORM),
        service.ask("/ocr", make_form(file, ("maxLongSide", "96", None)), headers=FORM),
        service.ask("/ocr", make_form(("inferenceParams", '{"maxLongSide": 96}', None), file), headers=FORM),
        service.ask("/ocr", make_form(("inferenceParams", '{"maxLongSide": 96}', "a.json"), file), headers=FORM),
        service.ask("/ocr?maxLongSide=96", {"image": base64.b64encode(sign).decode()}),
    ):
        assert answer.json == expected


@pytest.mark.parametrize(
    "options",
    [
        ["-F", "image=@{path}"],
        ["--data-binary", "@{path}", "-H", "Content-Type: image/png"],
        ["-F", "image=@{path};type=image/png", "-F", 'inferenceParams={{"maxLongSide": 960}};type=application/json'],
    ],
    ids=["form", "bytes", "params"],
)
def test_curl_sends_pictures_of_any_size(service, large, read_example, options):
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    command = ["curl", "-s", "--noproxy", "*", *(option.format(path=large) for option in options), f"{service.url}/ocr"]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0
    texts = [text["text"] for text in json.loads(done.stdout)["result"]["texts"]]
    assert texts[0] == read_example("sign.png")["rec_text"][0]


def test_nothing_is_written_to_disk(service, large, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    answer = service.ask("/ocr", make_form(("image", large.read_bytes(), "photo.png")), headers=FORM)
    assert answer.status == 200


# --- What is refused


def json_form(params: str) -> tuple[tuple[str, str, None], tuple[str, bytes, str]]:
    return ("inferenceParams", params, None), ("image", b"x", "x")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "incomplete"),
        (b"--other\r\n", 400, "form cannot be read"),
        (make_form(), 422, "field image of the form: Field required"),
        (make_form(("image", b"", "x.png")), 422, "empty"),
        (make_form(("image", b"hello", "x.png")), 422, "picture"),
        (make_form(("image", "", None)), 422, "empty"),
        (make_form(("image", "no Base64 at all", None)), 422, "Base64"),
        (make_form(("image", b"x" * 1000, "x.png"), end=False), 400, "incomplete"),
        (make_form(("picture", b"x", "x.png")), 422, "field picture "),
        (make_form(("image", b"x", "x"), ("image", b"x", "x")), 422, "field image of the form: given twice"),
        (make_form(*[("image", b"x", "x")] * 6), 400, "Too many files. Maximum number of files is 5"),
        (make_form(*[("maxLongSide", "96", None)] * 100), 400, "Too many fields"),
        (make_form(("maxLongSide", "96.5", None), ("image", b"x", "x")), 422, "maxLongSide"),
        (make_form(("maxLongSide", "", None), ("image", b"x", "x")), 422, "maxLongSide"),
        (make_form(("maxLongSide", "1" * 5000, None), ("image", b"x", "x")), 422, "maxLongSide"),
        (make_form(("maxLongSide", b"\xff\xfe", "x"), ("image", b"x", "x")), 422, "maxLongSide"),
        (make_form(("maxLongSide", "5", None), ("image", b"x", "x")), 422, "greater than or equal to 32"),
        (make_form(*json_form("{")), 422, "inferenceParams"),
        (make_form(*json_form('{"maxLongSide": "96"}')), 422, "inferenceParams.maxLongSide"),
        (make_form(*json_form('{"longSide": 96}')), 422, "inferenceParams.longSide"),
        (make_form(*json_form('{"maxLongSide": 96}'), ("maxLongSide", "96", None)), 422, "maxLongSide: given twice"),
        (b"--xXx\r\nContent-Disposition: form-data\r\n\r\nx\r\n--xXx--\r\n", 400, "name"),
    ],
)
def test_bad_forms_are_refused(service, body, status, words):
    assert_failed(service.ask("/ocr", body, headers=FORM), status, words)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("multipart/form-data", "boundary"),
        ("multipart/form-data; boundary=", "form cannot be read"),
        ("multipart/form-data; boundary=xXx; charset=idna", "expected charset=utf-8"),
        ("multipart/form-data; boundary=xXx; charset=nonsense", "expected charset=utf-8"),
        ("multipart/form-data; boundary=xXx; charset=", "expected charset=utf-8"),
        ("multipart/form-data; boundary=xXx; charset=UTF-8", "maxLongSide"),
    ],
)
def test_odd_kinds_of_forms_are_refused(service, kind, words):
    body = make_form(("image", b"\xff" * 100, None), ("maxLongSide", b"\xff.\xff", None))
    answer = service.ask("/ocr", body, headers={"content-type": kind})
    assert answer.status in (400, 422)
    assert words in answer.json["errorMsg"]


def test_slow_charset_does_not_block_the_service(service):
    body = make_form(("image", "x" * 100_000 + "-" + "a" * 100_000, None))
    start = time.monotonic()
    answer = service.ask("/ocr", body, headers={"content-type": f"{FORM['content-type']}; charset=punycode"})
    assert_failed(answer, 400, "expected charset=utf-8")
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("charset", ["utf-7", "raw_unicode_escape"])
def test_form_with_an_unpaired_surrogate_is_not_a_fault(service, charset):
    name = {"utf-7": "+2AA-", "raw_unicode_escape": "\\ud800"}[charset]
    kind = f"{FORM['content-type']}; charset={charset}"
    assert_failed(service.ask("/ocr", make_form((name, "x", None)), headers={"content-type": kind}), 400, "utf-8")


@pytest.mark.parametrize(
    "body",
    [
        b'{"image": "\\ud800"}',
        b'{"image": "http://127.0.0.1/\\ud800"}',
        b'{"image": "x", "\\ud800": 1}',
        b'{"image": "x", "inferenceParams": {"\\ud800": 1}}',
    ],
)
def test_json_with_an_unpaired_surrogate_is_not_a_fault(service, body):
    assert_failed(service.ask("/ocr", body), 422)


def test_message_with_an_unpaired_surrogate_is_sent():
    assert json.loads(answer_failure(422, "key \ud800").body)["errorMsg"] == "key \\ud800"


@pytest.mark.parametrize("unit", ["[],", "{},", "1,", '"",'])
def test_json_of_many_parts_is_refused_before_it_is_parsed(service, unit, monkeypatch):
    def parse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(bodies, "json", SimpleNamespace(loads=parse, JSONDecodeError=json.JSONDecodeError))
    monkeypatch.setattr(bodies.InferenceParams, "model_validate_json", parse)
    many = f'{{"image": [{unit * 1001}1]}}'
    assert_failed(service.ask("/ocr", many.encode()), 400, "more than 1000")
    assert_failed(service.ask("/ocr", make_form(*json_form(many)), headers=FORM), 400, "more than 1000")


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "video/mp4", "image/", "nonsense"])
def test_other_kinds_are_refused(service, sign, kind):
    answer = service.ask("/ocr", sign, headers={"content-type": kind})
    assert_failed(answer, 422, f"the body's type is {kind}:", "Content-Type: application/json", "curl -F image=@FILE")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("maxLongSide=31", "maxLongSide: Input should be greater"),
        ("maxLongSide=x", "maxLongSide: Input should be a valid integer"),
        ("maxLongSide=", "maxLongSide"),
        ("maxLongSide=96&maxLongSide=97", "maxLongSide: given twice"),
        ("maxlongside=96", "maxlongside in the URL"),
    ],
)
def test_bad_queries_are_refused(service, sign, query, words):
    assert_failed(service.ask(f"/ocr?{query}", sign, headers={"content-type": "image/png"}), 422, words)


def test_side_that_is_given_twice_is_refused(service):
    body = {"image": "x", "inferenceParams": {"maxLongSide": 96}}
    assert_failed(service.ask("/ocr?maxLongSide=96", body), 422, "maxLongSide: given twice")


@pytest.mark.parametrize("kind", [FORM["content-type"], "image/png"])
def test_bodies_of_every_kind_are_limited(start, kind):
    service = start(max_body_bytes=100_000)
    part = make_form(("image", b"x" * 200_000, "x.png"))
    assert_failed(service.ask("/ocr", part, headers={"content-type": kind}), 413, "larger than")
    # Even if its length is not announced.
    with socket.create_connection(("127.0.0.1", service.port), 10) as client:
        head = f"POST /ocr HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(head.encode())
        with contextlib.suppress(OSError):
            client.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("kind", "path", "start_of_body"),
    [
        ("video/mp4", "/ocr", b""),
        ("image/png", "/ocr?side=5", b""),
        ("image/png", "/ocr?maxLongSide=5", b""),
        (FORM["content-type"], "/ocr", b"no form"),
        (FORM["content-type"] + "; charset=idna", "/ocr", b""),
        (FORM["content-type"], "/ocr", make_form(*[("image", b"x", "x")] * 4)),
    ],
)
def test_refusal_waits_for_the_body(service, kind, path, start_of_body):
    """Otherwise the connection would be reset while the client still sends, and the answer lost."""
    body = start_of_body + b"x" * 8_000_000
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", service.port), 20) as client:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n"
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
            for place in range(0, len(body), 1_000_000):
                time.sleep(0.02)
                client.sendall(body[place : place + 1_000_000])
            assert client.recv(65536).startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("kind", [FORM["content-type"], "image/png"])
def test_client_that_disconnects_is_not_a_fault(start, caplog, kind):
    service = start()
    with caplog.at_level(logging.INFO, "edge_ocr.serving"):
        with socket.create_connection(("127.0.0.1", service.port), 10) as client:
            head = f"POST /ocr HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: 1000\r\n\r\n"
            client.sendall(head.encode() + make_form(("image", b"x", "x"), end=False))
            time.sleep(0.2)
        deadline = time.monotonic() + 10
        while not (found := [record.facts for record in caplog.records if record.message == "request"]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert [facts["status"] for facts in found] == [499]
    assert not any(record.exc_info for record in caplog.records)


def test_document_lists_all_kinds(service):
    document = service.ask("/openapi.json").json
    operation = document["paths"]["/ocr"]["post"]
    assert operation["requestBody"]["required"]
    content = operation["requestBody"]["content"]
    pictures = ["image/*", "application/pdf", "application/octet-stream"]
    assert list(content) == ["application/json", "multipart/form-data", *pictures]
    form = content["multipart/form-data"]["schema"]
    params = ["maxLongSide", "returnWordBox", "returnCharBox"]
    assert list(form["properties"]) == ["image", *params, "inferenceParams"]
    assert form["properties"]["maxLongSide"]["minimum"] == 32
    described = [(one["name"], one["in"], one["required"]) for one in operation["parameters"]]
    assert described == [(name, "query", False) for name in params]
    assert [one["schema"]["type"] for one in operation["parameters"]] == ["integer", "boolean", "boolean"]
    # Every reference has a target.
    for name in ("OcrRequest", "InferenceParams"):
        assert document["components"]["schemas"][name]["properties"]
        assert f'"#/components/schemas/{name}"' in json.dumps(document)
