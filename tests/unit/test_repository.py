"""The files around the code agree with each other and with CI."""

from __future__ import annotations

import importlib.util
import re
import sys
from typing import Any

import pytest
import yaml

import edge_ocr

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture(scope="module")
def project(repository) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sessions(repository) -> dict[str, list[str]]:
    """The commands of each session of the noxfile."""
    pytest.importorskip("nox", reason="nox is not installed")
    spec = importlib.util.spec_from_file_location("noxfile", repository / "noxfile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    class Recorder:
        posargs: tuple[str, ...] = ()

        def __init__(self) -> None:
            self.commands: list[str] = []

        def run(self, *command: str, external: bool) -> None:
            assert external
            self.commands.append(" ".join(command))

    recorded = {name: Recorder() for name in ("setup", "lint", "types", "test")}
    for name, recorder in recorded.items():
        getattr(module, name).func(recorder)
    return {name: recorder.commands for name, recorder in recorded.items()}


def test_pre_commit_runs_what_ci_runs(sessions, repository):
    config = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert [hook["entry"] for hook in hooks] == sessions["lint"] + sessions["types"]
    assert {(hook["language"], hook["pass_filenames"]) for hook in hooks} == {("system", False)}
    script = (repository / ".ci" / "run").read_text(encoding="utf-8")
    assert ".venv/bin/nox -s lint types docs\n" in script


def test_sessions_install_and_run_the_tests_as_the_readme_says(sessions, repository):
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert ".venv/bin/python -m pytest" in readme
    assert sessions["test"] == [".venv/bin/python -m pytest"]
    (install,) = [command for command in sessions["setup"] if "pip install" in command]
    assert install.startswith(".venv/bin/pip install -e .[dev")


def test_the_changelog_describes_this_version(project, repository):
    version = project["project"]["version"]
    assert version == edge_ocr.__version__
    text = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", text, re.MULTILINE)
    latest = next(section for section in sections if section[0] != "Unreleased")
    assert latest[0] == version
    assert re.fullmatch(r"unreleased|\d{4}-\d\d-\d\d", latest[1])


def test_the_lock_belongs_to_this_project_and_to_the_public_registry(project, repository):
    text = (repository / "uv.lock").read_text(encoding="utf-8")
    hosts = set(re.findall(r"\w+://[^/\"]+", text))
    assert len(hosts) == 2
    assert all(re.fullmatch(r"https://[a-z.]+\.org", host) for host in hosts)  # no mirror, no port
    (locked,) = [package for package in tomllib.loads(text)["package"] if package["name"] == "edge-ocr"]
    assert locked["version"] == project["project"]["version"]
    extras = project["project"]["optional-dependencies"]
    wanted = [("", entry) for entry in project["project"]["dependencies"]]
    wanted += [(name, entry) for name, entries in extras.items() for entry in entries]

    def split(entry: str) -> tuple[str, str]:
        """Return name and versions of a requirement."""
        name, versions = re.fullmatch(r"([\w.-]+)(?:\[.*\])?\s*([^;]*?)\s*(?:;.*)?", entry).groups()
        return re.sub(r"[-_.]+", "-", name).lower(), ",".join(sorted(versions.split(",")))

    def read(row: dict[str, str]) -> tuple[str, str, str]:
        extra = re.search(r"extra == '(\w+)'", row.get("marker", ""))
        return extra[1] if extra else "", row["name"], ",".join(sorted(row.get("specifier", "").split(",")))

    rows = locked["metadata"]["requires-dist"]
    assert {read(row) for row in rows} == {(extra, *split(entry)) for extra, entry in wanted}


@pytest.mark.parametrize("name", ["bug", "conversion", "feature"])
def test_issue_forms_can_be_filled_in(repository, name):
    form = yaml.safe_load((repository / f".github/ISSUE_TEMPLATE/{name}.yml").read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    ids = [field["id"] for field in fields]
    assert len(ids) == len(set(ids)) >= 2
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_and_paths_lead_somewhere(repository, name):
    text = (repository / name).read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (repository / link).exists()] == []
    # Paths in code font, which renames easily miss.
    paths = re.findall(r"`((?:tests|converters|edge_ocr|examples|benchmarks|android_demo)/[\w./]+)`", text)
    assert [path for path in paths if "NAME" not in path and not (repository / path).exists()] == []
