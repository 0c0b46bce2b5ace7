"""`edge-ocr bench --emulate`: options, tables and JSON; the counts themselves are tested in tests/unit."""

from __future__ import annotations

import json
import math
import os
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from converters.emulate.counts import Counts
from converters.emulate.meter import NetworkCounts, OpCounts
from edge_ocr.errors import NotVerifiedError

OPS = (OpCounts(0, "conv2d", Counts(3_000_000, 400_000, 50_000, 640_000, 64_000)),)
OPS += (OpCounts(1, "relu", Counts(500_000, 60_000, 60_000)), OpCounts(2, "conv2d", Counts(1_000_000, 9, 9)))
OUTSIDE = Counts(1000, 10, 10, 64, 0)


@pytest.fixture
def opened(monkeypatch) -> list[dict]:
    """Let a meter return fixed counts; return the options that it was opened with, and what it counted."""
    calls: list[dict] = []

    @contextmanager
    def open_meter(bundle, **options):
        calls.append(options)

        def count(kind, shape):
            calls.append({"kind": kind, "shape": shape})
            total = sum((op.counts for op in OPS), OUTSIDE)
            return NetworkCounts(kind, shape, total, OUTSIDE, OPS, {"sgemm": 4_000_000, "relu": 501_000}, 1.24e-5)

        yield SimpleNamespace(library=Path("libx.so"), version="v2.13-rc", count=count)

    monkeypatch.setattr("converters.emulate.meter.open_meter", open_meter)
    return calls


def test_tables(cli, board_bundle, opened):
    done = cli("bench", board_bundle, "--emulate", "--shape", "cls=48x192", "--shape", "det=480x320")
    assert (done.code, done.err) == (0, "")
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert rows[1:3] == [
        ["cls", "48×192", "4.50", "0.46", "0.11", "0.64", "0.06", "1.2e-05"],
        ["det", "480×320", "4.50", "0.46", "0.11", "0.64", "0.06", "1.2e-05"],
    ]
    assert ["2", "conv2d", "4.00", "0.40", "0.05", "0.64", "0.06", "88.9%"] in rows
    assert ["1", "relu", "0.50", "0.06", "0.06", "0.00", "0.00", "11.1%"] in rows
    assert ["sgemm", "4.00", "88.9%"] in rows
    assert "32 KB and 512 KB, lines of 64 bytes, 8 ways" in done.out
    assert "not device time" in done.out.splitlines()[-1]
    assert opened[1:] == [{"kind": "cls", "shape": (48, 192)}, {"kind": "det", "shape": (480, 320)}]


def test_every_op(cli, board_bundle, opened):
    done = cli("bench", board_bundle, "--emulate", "--shape", "cls=48x192", "--ops", "--no-cache", "--top", "1")
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [row[:5] for row in rows if row[1:2] == ["conv2d"]] == [
        ["0", "conv2d", "3.00", "0.40", "0.05"],
        ["2", "conv2d", "1.00", "0.00", "0.00"],
    ]
    assert rows[1][5:7] == ["-", "-"]
    assert "cache" not in done.out
    assert not any(row[0] == "relu" for row in rows)
    assert opened[0]["is_modelled"] is False


def test_json(cli, board_bundle, opened):
    options = ("--l1", "64K", "--l2", "1M", "--line", "32", "--cpu", "cortex-a72")
    done = cli("bench", board_bundle, "--emulate", "--json", *options)
    content = json.loads(done.out)
    assert [(one["kind"], one["shape"]) for one in content["networks"]] == [
        ("det", [1, 3, 480, 320]),
        ("det", [1, 3, 960, 704]),
        ("rec", [1, 3, 48, 320]),
        ("rec", [1, 3, 48, 640]),
        ("cls", [1, 3, 48, 192]),
    ]
    assert content["cache"] == {"l1_bytes": 65536, "l2_bytes": 2**20, "line_bytes": 32}
    assert "not device time" in content["note"]
    assert (content["cpu"], content["threads"], content["arch"]) == ("cortex-a72", 1, "armv8")
    one = content["networks"][0]
    assert one["instructions"] == 4_501_000
    assert one["instructions"] == one["outside"]["instructions"] + sum(op["instructions"] for op in one["ops"])
    assert [entry["ops"] for entry in one["types"]] == [2, 1]
    assert math.isclose(one["max_abs_diff"], 1.24e-5)
    assert one["kernels"] == {"sgemm": 4_000_000, "relu": 501_000}


def test_json_without_a_cache_has_no_bytes(cli, board_bundle, opened):
    content = json.loads(cli("bench", board_bundle, "--emulate", "--json", "--no-cache", "--shape", "cls=48x192").out)
    assert content["cache"] is None
    assert content["networks"][0]["read_bytes"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--emulate"),
        (("--emulate", "--shape", "det"), "--shape det:"),
        (("--emulate", "--shape", "seg=32x32"), "--shape seg=32x32"),
        (("--emulate", "--shape", "det=480x321"), "det=480x321"),
        (("--emulate", "--shape", "page=224x224"), "page: the bundle has det, rec, cls"),
        (("--emulate", "--l1", "32KB"), "--l1 32KB"),
        (("--emulate", "--l1", "48K"), "l1 of 49152 bytes"),
        (("--emulate", "--line", "48"), "line of 48 bytes"),
    ],
)
def test_invalid_options(cli, board_bundle, options, message):
    done = cli("bench", board_bundle, *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_no_bundle(cli, tmp_path):
    done = cli("bench", tmp_path, "--emulate")
    assert done.code == 5
    assert "manifest.json" in done.err


def test_a_missing_library_exits_with_9(cli, board_bundle, monkeypatch, make_home):
    monkeypatch.delenv("EDGE_OCR_LITE_LIB", raising=False)
    monkeypatch.setenv("EDGE_OCR_HOME", str(make_home()))
    done = cli("bench", board_bundle, "--emulate")
    assert (done.code, done.out) == (9, "")
    assert "edge-ocr libs fetch --platform armlinux.armv8" in done.err


@pytest.mark.board
def test_the_real_library(cli, board_bundle):
    from converters.emulate.plugin import find_emulator

    if not os.environ.get("EDGE_OCR_LITE_LIB"):
        pytest.skip("no Paddle-Lite library: EDGE_OCR_LITE_LIB names none")
    try:
        find_emulator()
    except NotVerifiedError as error:
        pytest.skip(error.message)
    done = cli("bench", board_bundle, "--emulate", "--shape", "cls=48x192")
    assert done.code == 0
    assert "counting cls at 48×192" in done.err
    assert "depthwise_conv2d" in done.out
