"""Messages for failed downloads, from real messages of uv and urllib."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest

from edge_ocr.core.commands import report_error
from edge_ocr.errors import InputError, ModelError
from edge_ocr.fetch.reasons import mask_urls, sum_up_uv
from edge_ocr.models import store as model_store
from edge_ocr.models.types import RAPIDOCR_CARRIER

NO_DNS = """\
Using CPython 3.11.7 interpreter at: /opt/python
error: Failed to fetch: https://index.example/simple/six/
  cause: error sending request for url (https://index.example/simple/six/)
  cause: client error (Connect)
  cause: dns error
  cause: error resolving DNS
  cause: failed to lookup address information: Name or service not known
"""
NO_PYTHON = """\
error: Failed to download `https://user:****@mirror.example/x/cpython-3.8.20.tar.gz`
  cause: error sending request for url (https://mirror.example/x/cpython-3.8.20.tar.gz)
  cause: client error (Connect)
  cause: tcp connect error
  cause: Connection refused (os error 111)
"""
NOT_THERE = """\
error: No solution found when resolving dependencies
  cause: Because six was not found in the {place} and you require six==1, we can conclude that your requirements are \
unsatisfiable.
"""
OFFLINE = f"""\
{NOT_THERE.format(place="cache")}
hint: Packages were unavailable because the network was disabled. When the network is disabled, registry packages may
only be read from the cache.
"""
OFFLINE_IN_A_BOX = """\
  × No solution found when resolving dependencies:
  ╰─▶ Because six was not found in the cache and you require six==1, we can
      conclude that your requirements are unsatisfiable.

      hint: Packages were unavailable because the network was
      disabled. When the network is disabled, registry packages may only be
      read from the cache.
"""
NO_ACCESS = f"""\
{NOT_THERE.format(place="package registry")}
hint: An index URL (http://127.0.0.1:8799/401/simple) could not be queried due to a lack of valid authentication \
credentials (401 Unauthorized)
"""
FORBIDDEN = f"""\
{NOT_THERE.format(place="package registry")}
hint: An index (http://[::1]:8799/403/simple) returned a 403 Forbidden error. Check that the index URL is correct and \
the credentials are valid.
"""
FAILED = """\
error: Failed to fetch: http://index.example:8080/simple/six/
  cause: HTTP status server error (503 Service Unavailable) for url (http://index.example:8080/simple/six/)
"""
LATE = """\
error: Failed to fetch: http://index.example/simple/six/
  cause: error sending request for url (http://index.example/simple/six/)
  cause: operation timed out
"""
FULL = """\
error: Failed to inspect Python interpreter from first executable in the search path at `/opt/python`
  cause: Failed to query Python interpreter
  cause: failed to write to file `/cache/_manylinux.py`: No space left on device (os error 28)
"""
NO_VERSION = """\
error: No solution found when resolving dependencies
  cause: Because there is no version of six==99.0 and you require six==99.0, we can conclude that your requirements \
are unsatisfiable.
"""
CAUSED_BY = """\
error: Failed to parse
  Caused by: something new
  Caused by: the root of it
"""


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (NO_DNS, "no network: DNS of index.example failed"),
        (NO_PYTHON, "mirror.example refused the connection"),
        (OFFLINE, "uv is offline (UV_OFFLINE), and its cache does not have it"),
        (OFFLINE_IN_A_BOX, "uv is offline (UV_OFFLINE), and its cache does not have it"),
        (NO_ACCESS, "127.0.0.1 answered 401 Unauthorized: check the credentials"),
        (FORBIDDEN, "[::1] answered 403 Forbidden: check the credentials"),
        (FAILED, "index.example answered 503 Service Unavailable"),
        (LATE, "index.example did not answer in time"),
        (FULL, "disk full"),
        (NOT_THERE.format(place="package registry"), "the package index does not have it"),
        (NO_VERSION, "the package index does not have this version"),
        (CAUSED_BY, "Failed to parse: the root of it"),
        ("warning: old\nerror: no\n", "no"),
        ("one line", "one line"),
        ("", ""),
        ("\n \n", ""),
        ("error: " + "x" * 1000, "x" * 300 + "…"),
    ],
)
def test_uvs_message_becomes_one_line_with_the_root_cause(output, reason):
    assert sum_up_uv(output) == reason


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://user:s3cret@host/a and http://token@host", "https://****@host/a and http://****@host"),
        ("https://user:s3@cret@host/a", "https://****@host/a"),
        ("https://user:s3@cret@host/a@b", "https://****@b"),
        ("https://user:s3/cret@host/a 'https://us/er:s3/cret@host/'", "https://****@host/a 'https://****@host/'"),
        ("https://token@host/a@b", "https://****@host/a@b"),
        ("see https://host/a@b, mail me@host", "see https://host/a@b, mail me@host"),
    ],
)
def test_credentials_are_masked(text, masked):
    assert mask_urls(text) == masked
    assert "cret" not in sum_up_uv(f"error: {text}")


def test_masking_takes_no_time():
    start = time.perf_counter()
    mask_urls("://" * 20_000)
    mask_urls("https://" + ":" * 100_000)
    assert time.perf_counter() - start < 2


def test_control_characters_are_escaped(capsys):
    report_error(InputError("山茶\u3000a: HTTP 404 \x1b[2J\x9b\r\u202ex", "see\nb\x07\udce9"))
    told = "Error: 山茶\u3000a: HTTP 404 \\x1b[2J\\x9b\\r\\u202ex\nHint: see\nb\\x07\\udce9\n"
    assert capsys.readouterr().err == told


def fail_to_fetch(tmp_path, monkeypatch, **settings):
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    settings = {"UV_CACHE_DIR": str(tmp_path / "cache"), "UV_NO_CONFIG": "1", "UV_HTTP_RETRIES": "0", **settings}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ModelError) as caught:
        model_store.fetch_carrier(tmp_path, RAPIDOCR_CARRIER)
    return caught.value


def test_uv_without_network_says_so(tmp_path, monkeypatch):
    error = fail_to_fetch(tmp_path, monkeypatch, UV_OFFLINE="1")
    assert re.search(r"rapidocr==3\.10\.0: .*UV_OFFLINE", error.message)
    assert "uv's index settings" in error.hint


def test_uv_says_which_host_it_cannot_reach_and_no_password(tmp_path, monkeypatch):
    # No server listens on the discard port.
    error = fail_to_fetch(tmp_path, monkeypatch, UV_DEFAULT_INDEX="http://user:s3cret@127.0.0.1:9/simple")
    assert re.search(r"rapidocr==3\.10\.0: 127\.0\.0\.1 refused", error.message)
    assert "127.0.0.1:9/simple" in str(error.__cause__)
    assert "s3cret" not in f"{error.message} {error.hint} {error.__cause__}"


def test_password_in_a_mirrors_url_is_refused_and_not_printed(tmp_path, repository):
    env = {**os.environ, "EDGE_OCR_HOME": str(tmp_path), "EDGE_OCR_MODEL_URL": "http://user:s3cret@127.0.0.1:9"}
    ended = subprocess.run(
        [sys.executable, "-m", "edge_ocr", "--debug", "models", "pull", "PP-OCRv4_server_det"],
        env={**env, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 5
    assert "http://****@127.0.0.1:9/PP-OCRv4_server_det_infer.tar: " in ended.stderr
    assert "s3cret" not in ended.stderr
