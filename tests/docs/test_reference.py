"""The pages' lists are complete, and generated parts are generated."""

from __future__ import annotations

import functools
import importlib.util
import re
import shutil
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.main import get_command

from converters.graph.passes import PASSES
from converters.verify.parity import TOLERANCES
from edge_ocr import errors
from edge_ocr.cli.app import make_app
from edge_ocr.config import load_config
from edge_ocr.models.registry import REGISTRY

ROOT = Path(__file__).parents[2]
BOTH = pytest.mark.parametrize("ending", [".md", ".zh.md"])


def read(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def load():
    def load_script(name: str):
        spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_script


@pytest.fixture(scope="module")
def generate(load):
    return load("generate")


@BOTH
def test_every_exit_code_is_explained(ending):
    text = read(f"howto/troubleshooting{ending}")
    classes = [getattr(errors, name) for name in dir(errors) if name.endswith("Error")]
    codes = {0, 130, *(one.exit_code for one in classes if isinstance(one, type) and hasattr(one, "exit_code"))}
    assert codes == {int(code) for code in re.findall(r"^\| ([0-9]+) \|", text, re.MULTILINE)}


@BOTH
def test_every_pass_is_explained_in_its_order(ending):
    named = re.findall(r"^\| `(\w+)` \| [^0-9|]", read(f"how/passes{ending}"), re.MULTILINE)
    assert named == [*(one.__name__ for one in PASSES), "prune_charset", "mark_int8"]


@BOTH
def test_every_variable_is_explained(ending):
    files = [file for place in ("edge_ocr", "converters") for file in (ROOT / place).rglob("*.py")]
    used = {name for file in files for name in re.findall(r"\bEDGE_OCR_[A-Z0-9_]+", file.read_text(encoding="utf-8"))}
    # Between the service and its own workers.
    used -= {"EDGE_OCR_WORKER"}
    assert used <= set(re.findall(r"^\| `(\w+)` \|", read(f"reference/environment{ending}"), re.MULTILINE))


def test_commands_have_all_their_options(generate):
    page = generate.fill(read("reference/commands.md"))
    for name, command in generate.list_commands(get_command(make_app()), "edge-ocr"):
        section = page.split(f"## {name}\n")[1].split("\n## ")[0]
        for option in (name for parameter in command.params for name in parameter.opts if name.startswith("--")):
            assert re.search(rf"`[^`]*{option}\b", section), (name, option)


def test_tables_are_complete(generate):
    assert all(f"`{key}`" in generate.fill(read("reference/settings.md")) for key in load_config("OCR").values)
    assert all(f"`{one.figure}`" in generate.fill(read("how/verify.md")) for one in TOLERANCES)
    assert "`settings.detection.box_threshold`" in generate.fill(read("reference/manifest.md"))
    assert all(f"`{name}`" in generate.fill(read("howto/models.md")) for name in REGISTRY)
    assert "| 1.8 | archive paddle3.0.0 (ONNX), RapidOCR" in generate.fill(read("howto/models.md"))
    assert "| 仅地址 |" in generate.fill(read("howto/models.zh.md"), chinese=True)
    ops = generate.fill(read("reference/ops.md"))
    assert "`ConvTranspose`" in ops
    assert re.search(r"^\| `conv2d` \| .*`hard_swish`.* \| yes \|$", ops, re.MULTILINE)
    assert "| `conv2d` |" in (chinese := generate.fill(read("reference/ops.zh.md"), chinese=True))
    assert "| 整数权重 |" in chinese


@pytest.fixture
def site(generate, tmp_path, monkeypatch) -> Path:
    """Dokka's pages, and an empty site."""
    pages = tmp_path / "kdoc"
    (pages / "images").mkdir(parents=True)
    (pages / "index.html").write_text("all of it", encoding="utf-8")
    monkeypatch.setattr(generate, "_KDOC", pages)
    return tmp_path / "site"


def test_the_site_has_the_kdoc_if_there_is_any(generate, site):
    generate.on_post_build(config=SimpleNamespace(site_dir=str(site)))
    for page, place in (("android.md", "reference"), ("android.zh.md", "zh/reference")):
        (link,) = re.findall(r'href="(.+)"', generate.fill(read(f"reference/{page}"), chinese=".zh." in page))
        # Browsers resolve the link like this.
        (site / place).mkdir(parents=True, exist_ok=True)
        assert (site / place / link).read_text(encoding="utf-8") == "all of it"


def test_without_kdoc_the_page_says_how_to_make_it(generate, site, monkeypatch, tmp_path):
    monkeypatch.setattr(generate, "_KDOC", tmp_path / "none")
    generate.on_post_build(config=SimpleNamespace(site_dir=str(site)))
    assert not site.exists()
    for page in ("reference/android.md", "reference/android.zh.md"):
        text = generate.fill(read(page), chinese=".zh." in page)
        assert "href" not in text
        assert "nox -s docs" in text


def test_gaps_in_the_kdoc_are_found(load):
    log = """[INFO] building
[WARNING] Undocumented: io.github.edgeocr/EdgeOcr.Companion/ (Android)
[WARNING] Undocumented: io.github.edgeocr/PowerMode/entries/#/ (Android)
[WARNING] Undocumented: io.github.edgeocr/PowerMode/valueOf/#kotlin.String/ (Android)
[WARNING] Undocumented: io.github.edgeocr/EdgeOcr.Companion/open/#java.io.File/ (Android)
[WARNING] Couldn't resolve link for Nowhere in file EdgeOcr.kt
"""
    assert list(load("kdoc").find_gaps(log)) == [
        "Undocumented: io.github.edgeocr/EdgeOcr.Companion/open/#java.io.File/",
        "Couldn't resolve link for Nowhere in file EdgeOcr.kt",
    ]


@pytest.mark.parametrize(
    ("script", "code", "told"),
    [
        ("", 6, "no mvn"),
        ("echo Unknown host repo.example; exit 1", 6, "no Maven repository"),
        ("echo '[WARNING] Undocumented: io.github.edgeocr/EdgeOcr/read/#/ (Android)'", 1, "EdgeOcr/read"),
        ("echo '[ERROR] broken pom'; exit 1", 1, "broken pom"),
        ("exit 0", 1, ""),
        ("mkdir $PAGES; echo > $PAGES/index.html", 0, ""),
    ],
)
def test_what_is_missing_for_kdoc_is_no_gap(load, tmp_path, monkeypatch, capsys, script, code, told):
    kdoc = load("kdoc")
    (tmp_path / "bin").mkdir()
    if script:
        (maven := tmp_path / "bin" / "mvn").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        maven.chmod(0o755)
    monkeypatch.setattr(kdoc, "PAGES", tmp_path / "kdoc")
    monkeypatch.setenv("PAGES", str(tmp_path / "kdoc"))
    monkeypatch.setattr(kdoc.shutil, "which", functools.partial(shutil.which, path=str(tmp_path / "bin")))
    assert kdoc.main() == code
    assert told in capsys.readouterr().out


SAMPLES = ("kotlin/io/github/edgeocr/KotlinSample.kt", "java/io/github/edgeocr/JavaSample.java")


@BOTH
@pytest.mark.parametrize("sample", SAMPLES)
def test_samples_of_the_android_library_are_those_that_tests_compile(sample, ending):
    text = (ROOT / "tests/android/src/test" / sample).read_text(encoding="utf-8")
    shown = re.findall(r"^ *// shown: \w+\n(.*?)^ *// end$", text, re.MULTILINE | re.DOTALL)
    assert len(shown) == 2
    for part in shown:
        assert f"```{sample.partition('/')[0]}\n{textwrap.dedent(part).rstrip()}\n```" in read(f"howto/phone{ending}")


def test_an_unknown_table_is_an_error(generate):
    with pytest.raises(KeyError, match="nothing"):
        generate.fill("<!-- generate nothing -->")
