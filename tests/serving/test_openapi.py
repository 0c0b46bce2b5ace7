"""The service against its own OpenAPI document: with thousands of requests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.fuzz
def test_service_keeps_to_its_document(start, tmp_path):
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        pytest.skip("no schemathesis")
    service = start()
    options = ["--checks", f"{CHECKS},unsupported_method", "--max-examples", "100", "--seed", "1", "--no-color"]
    command = [program, "run", f"{service.url}/openapi.json", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:]
    assert service.ask("/health").status == 200
    metrics = service.ask("/metrics").content.decode()
    # It also sent requests that succeed.
    assert 'edge_ocr_requests_total{path="/ocr",status="200"}' in metrics
