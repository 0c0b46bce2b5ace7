"""`edge-ocr libs`: list, add, fetch, path."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from rich.console import Console
from support.libraries import CXX
from support.servers import serve_folder
from typer.testing import CliRunner

from edge_ocr.cli.libs import app
from edge_ocr.cli.output import print_table
from edge_ocr.errors import ModelError, UsageError
from edge_ocr.models import store as model_store

COMPILER = "aarch64-linux-gnu-g++"
PLATFORM = "armlinux.armv8"
SOURCE = f"""{CXX}
extern "C" const char text_0[] = "\\0VERSION";
extern "C" const char text_1[] = "Error: This model is not supported, because operator '";
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """A library for PLATFORM, of v2.13-rc."""
    return compile_library(tmp_path_factory.mktemp("library"), "v2.13-rc")


@pytest.fixture(scope="session")
def old_library(tmp_path_factory):
    """A library for PLATFORM, of v2.12."""
    return compile_library(tmp_path_factory.mktemp("old-library"), "v2.12")


def compile_library(folder: Path, version: str) -> Path:
    if shutil.which(COMPILER) is None:
        pytest.skip(f"{COMPILER} is not installed")
    out = folder / "libpaddle_light_api_shared.so"
    command = [COMPILER, "-Os", "-fPIC", "-shared", "-w", f"-Wl,-soname,{out.name}", "-Wl,--no-as-needed"]
    command += ["-o", out, "-x", "c++", "-"]
    subprocess.run(command, input=SOURCE.replace("VERSION", version).encode(), check=True)
    return out


@pytest.fixture
def headers(tmp_path):
    (tmp_path / "include").mkdir()
    (tmp_path / "include/paddle_api.h").write_text("// api")
    return tmp_path / "include"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EDGE_OCR_LITE_LIB", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "home"


@pytest.fixture
def mirror(tmp_path, monkeypatch, library):
    """A loopback server with the release's archive for PLATFORM."""
    place = tmp_path / "served/v2.13-rc"
    place.mkdir(parents=True)
    with tarfile.open(place / f"inference_lite_lib.{PLATFORM}.gcc.with_extra.with_cv.tar.gz", "w:gz") as tar:
        tar.add(library, "lite/cxx/lib/libpaddle_light_api_shared.so")
        member = tarfile.TarInfo("lite/cxx/include/paddle_api.h")
        tar.addfile(member, io.BytesIO())

    with serve_folder(tmp_path / "served") as url:
        monkeypatch.setenv("EDGE_OCR_LITE_URL", url)
        yield url


def run(*arguments: object, warnings: str = "") -> str:
    """Run a command that must succeed with these warnings on stderr; its stdout."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    if not warnings:
        assert "Warning" not in result.stderr
    assert warnings in result.stderr
    return result.stdout


def fail(*arguments: object) -> BaseException:
    """Run a command that must fail and print no result."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.stdout == ""
    assert result.exception is not None
    return result.exception


def test_add_prints_platform_and_folder(library, headers, home):
    folder = home / "libs/v2.13-rc" / PLATFORM
    assert run("add", library, "--include", headers) == f"{PLATFORM}\t{folder}\n"
    assert run("path", PLATFORM) == f"{folder}\n"
    assert run("path", PLATFORM, "--version", "2.13-rc") == f"{folder}\n"


def test_warnings_go_to_stderr(library):
    assert "headers" not in run("add", library, warnings="Warning: the headers")


def test_add_needs_force_to_replace(library, headers):
    run("add", library, "--include", headers)
    error = fail("add", library)
    assert isinstance(error, UsageError)
    assert "--force" in error.hint
    run("add", library, "--force", "--include", headers)


def test_add_for_another_platform(library):
    error = fail("add", library, "--platform", "armlinux.armv7hf")
    assert isinstance(error, ModelError)
    assert error.message.endswith("is for armlinux.armv8, expected armlinux.armv7hf")


def test_version_mismatch_is_loud(old_library, headers):
    error = fail("add", old_library)
    assert isinstance(error, ModelError)
    assert error.message.endswith("v2.12, expected v2.13-rc")
    assert "--allow-version-mismatch" in str(error.hint)
    run("add", old_library, "--allow-version-mismatch", "--include", headers, warnings="Warning: VERSION MISMATCH")
    run("path", PLATFORM, warnings="Warning: VERSION MISMATCH")
    assert run("list").splitlines()[1].startswith(f"v2.13-rc (is v2.12)\t{PLATFORM}\t")


def test_its_own_version(old_library, headers, home):
    run("add", old_library, "--version", "2.12", "--include", headers)
    assert run("path", PLATFORM, "--version", "v2.12") == f"{home / 'libs/v2.12' / PLATFORM}\n"


def test_list_without_libraries():
    assert run("list").splitlines() == ["version\tplatform\tlibrary\tsize MB\tSONAME\t16 KB pages\tsource"]
    assert json.loads(run("list", "--json")) == []


def test_list(library, headers):
    run("add", library, "--include", headers)
    name = "libpaddle_light_api_shared.so"
    size = library.stat().st_size
    cells = run("list").splitlines()[1].split("\t")
    assert cells == ["v2.13-rc", PLATFORM, name, f"{size / 1e6:.1f}", name, "yes", str(library)]
    assert json.loads(run("list", "--json")) == [
        {
            "version": "v2.13-rc",
            "platform": PLATFORM,
            "library": name,
            "size_bytes": size,
            "soname": name,
            "fits_16k_pages": True,
            "actual_version": "v2.13-rc",
            "source": str(library),
            "concerns": [],
        }
    ]


def test_list_survives_a_damaged_library(library, headers, home, old_library):
    run("add", library, "--include", headers)
    run("add", old_library, "--version", "v2.12", "--include", headers)
    (home / "libs/v2.12" / PLATFORM / "cxx/lib/libpaddle_light_api_shared.so").write_bytes(b"x")
    rows = run("list").splitlines()[1:]
    assert rows[0] == f"v2.12\t{PLATFORM}\t-\t-\t-\t-\tdamaged"
    assert rows[1].startswith("v2.13-rc\t")
    assert "is damaged: sha256 expected" in json.loads(run("list", "--json"))[0]["concerns"][0]


def test_table(library, headers):
    run("add", library, "--include", headers)
    out = io.StringIO()
    columns, *rows = [line.split("\t") for line in run("list").splitlines()]
    print_table(columns, rows, Console(file=out, width=250))
    text = out.getvalue()
    assert all(word in text for word in ("16 KB pages", PLATFORM, "v2.13-rc", str(library)))


def test_fetch(mirror, home):
    folder = home / "libs/v2.13-rc" / PLATFORM
    assert run("fetch", "--platform", PLATFORM, "--platform", PLATFORM) == f"{PLATFORM}\t{folder}\n"
    assert run("list").splitlines()[1].endswith(f"{PLATFORM}.gcc.with_extra.with_cv.tar.gz")


def test_fetch_gets_every_platform(mirror, home):
    """The first one is stored; the second one is not."""
    result = CliRunner().invoke(app, ["fetch"])
    assert result.stdout.startswith(f"{PLATFORM}\t")
    assert isinstance(result.exception, ModelError)
    assert "armlinux.armv7hf" in result.exception.message
    assert "404" in result.exception.message


def test_fetch_unknown_platform_fetches_nothing(mirror, home):
    assert isinstance(fail("fetch", "--platform", PLATFORM, "--platform", "unknown"), UsageError)
    assert not home.exists()


def test_path_of_a_missing_one():
    error = fail("path", PLATFORM)
    assert isinstance(error, ModelError)
    assert error.message == f"the library for {PLATFORM} v2.13-rc is not on this machine"
    assert f"edge-ocr libs fetch --platform {PLATFORM} --version v2.13-rc" in error.hint


def test_path_of_the_environments_library(library, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_LITE_LIB", str(library))
    assert run("path", PLATFORM, warnings="headers") == f"{library.parent}\n"


def test_module_loads_nothing_heavy():
    code = (
        "import sys; import edge_ocr.cli.libs;"
        "heavy = {'converters.lite.libraries.store', 'elftools', 'rich', 'yaml', 'numpy'} & set(sys.modules);"
        "heavy -= {'rich'} if 'typer.rich_utils' in sys.modules else set(); assert not heavy, heavy"
    )
    root = Path(model_store.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
