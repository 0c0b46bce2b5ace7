"""All tasks of a checkout. They run in its `.venv`, with the versions that CI and pre-commit use."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "test", "docs"]

BIN = Path(".venv/bin")

# The exit code of docs/kdoc.py, which then says what is missing; the site is built without those pages.
TOOLCHAIN_MISSING = 6


@nox.session
def setup(session: nox.Session) -> None:
    """Create or update `.venv` and install the pre-commit hooks."""
    if not (BIN / "python").exists():
        session.run(sys.executable, "-m", "venv", ".venv", external=True)
    session.run(f"{BIN}/pip", "install", "-e", ".[dev,docs]", external=True)
    session.run(f"{BIN}/pre-commit", "install", external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.run(f"{BIN}/ruff", "check", ".", external=True)
    session.run(f"{BIN}/ruff", "format", "--check", ".", external=True)


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    session.run(f"{BIN}/mypy", external=True)


@nox.session
def test(session: nox.Session) -> None:
    """Run all tests, or those of the arguments after `--`."""
    session.run(f"{BIN}/python", "-m", "pytest", *session.posargs, external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation. Broken links fail, and pages that load something from other servers."""
    session.run(f"{BIN}/python", "docs/kdoc.py", external=True, success_codes=[0, TOOLCHAIN_MISSING])
    with tempfile.TemporaryDirectory() as site:
        options = ("--strict", "--quiet", "--site-dir", site)
        session.run(f"{BIN}/mkdocs", "build", *options, env={"NO_MKDOCS_2_WARNING": "1"}, external=True)
        remote = re.compile(r'<(?:script|img|iframe)[^>]* src="(?:https?:)?//|<link[^>]* href="(?:https?:)?//')
        if pages := [path for path in Path(site).rglob("*.html") if remote.search(path.read_text(encoding="utf-8"))]:
            session.error(f"loads from another server: {', '.join(map(str, pages))}")


@nox.session(name="all")
def run_all(session: nox.Session) -> None:
    """Run everything that CI runs."""
    for name in nox.options.sessions or ():
        session.notify(name)
