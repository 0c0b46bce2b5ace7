"""The READMEs stay short, and `.ci/run` finds its test command."""

from __future__ import annotations

import re

import pytest


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_it_is_short(repository, name):
    text = (repository / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100
    assert len(text.split()) <= 900


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_links_lead_to_files(repository, name):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", (repository / name).read_text(encoding="utf-8"))
    assert [target for target in targets if "://" not in target and not (repository / target).exists()] == []
    assert any(target.endswith(("index.md", "index.zh.md")) for target in targets)


def test_the_test_command_is_one_line_that_installs_and_tests(repository):
    section = (repository / "README.md").read_text(encoding="utf-8").split("\n## Tests\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert block.strip().count("\n") == 0
    assert "pip install -e '.[dev]' && " in block
    assert block.strip().endswith("-m pytest")
