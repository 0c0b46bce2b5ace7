"""The pages' lists are complete, and generated parts are generated."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from typer.main import get_command

from converters.graph.passes import PASSES
from converters.verify.parity import TOLERANCES
from edge_ocr import errors
from edge_ocr.cli.app import app
from edge_ocr.config import load_config
from edge_ocr.models.registry import REGISTRY

ROOT = Path(__file__).parents[2]
BOTH = pytest.mark.parametrize("ending", [".md", ".zh.md"])


def read(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    for name, command in generate.list_commands(get_command(app), "edge-ocr"):
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


def test_an_unknown_table_is_an_error(generate):
    with pytest.raises(KeyError, match="nothing"):
        generate.fill("<!-- generate nothing -->")
