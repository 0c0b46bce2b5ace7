"""The OpenAPI document, and the pages at / and /docs."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import subprocess

import pytest

from edge_ocr.serving.docs import render_docs


def test_openapi_describes_the_contract(service):
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


def test_docs_show_the_openapi_document_and_load_nothing(service):
    answer = service.ask("/docs")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; ")
    assert "script" not in answer.headers["content-security-policy"]
    page = html.unescape(answer.content.decode())
    assert "<script" not in page
    # Other addresses occur there as text only.
    assert not re.search(r"(src|href|url\()\s*=?[\"']?(https?:)?//", page)
    document = service.ask("/openapi.json").json
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert f"<b>{method.upper()}</b><code>{path}</code>" in page
            for kind in operation.get("requestBody", {}).get("content", {}):
                assert f"<code>{kind}</code>" in page
            for status, response in operation["responses"].items():
                assert status == "200" or f">{status}</th><td>{response['description']}<" in page
    fields = ("poly", "score", "words[].poly", "words[].chars[].text")
    for name in ("image", "inferenceParams.maxLongSide", "models", *(f"result.texts[].{field}" for field in fields)):
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
