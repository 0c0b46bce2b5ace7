"""The Dockerfile without Docker: it copies enough, its command serves, and its health check works."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

PORT = "8080"
START = "from edge_ocr.cli import main; main()"


@pytest.fixture(scope="module")
def steps(repository) -> list[tuple[str, str]]:
    """Each instruction and its arguments, in order."""
    lines = (repository / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line and not line.startswith("#")]


def find(steps: list[tuple[str, str]], kind: str) -> str:
    """Return the arguments of the last instruction of this kind, which is the one that counts."""
    return [arguments for name, arguments in steps if name == kind][-1]


@pytest.fixture(scope="module")
def context(steps, repository, tmp_path_factory) -> Path:
    """A folder with the files that the first stage copies from the repository."""
    folder = tmp_path_factory.mktemp("context")
    ignored = shutil.ignore_patterns("__pycache__")
    copied = set()
    for arguments in [arguments for kind, arguments in steps if kind == "COPY" and "--from" not in arguments]:
        *sources, target = arguments.split()
        copied |= set(sources)
        for source in sources:
            if (repository / source).is_dir():
                shutil.copytree(repository / source, folder / target, ignore=ignored)
            else:
                shutil.copy(repository / source, folder / target)
    kept = re.findall(r"^!(.+)$", (repository / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert copied == set(kept)
    return folder


def list_wheel(folder: Path, out: Path) -> list[str]:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


def test_what_it_copies_makes_the_same_wheel(context, repository, tmp_path):
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    assert list_wheel(context, tmp_path / "image") == list_wheel(repository, tmp_path / "checkout")


def test_it_runs_as_a_user_who_owns_the_store(steps):
    user, volume = find(steps, "USER"), find(steps, "VOLUME")
    assert user not in ("root", "0")
    assert f"EDGE_OCR_HOME={volume}" in find(steps, "ENV")
    assert f"install -d -o {user} -g {user} {volume}" in find(steps, "RUN")


def test_it_installs_what_ci_installs(steps, repository):
    (packages,) = re.findall(r"--no-install-recommends ([^&]+)", find(steps, "RUN"))
    script = (repository / ".ci" / "run").read_text(encoding="utf-8")
    assert len(packages.split()) >= 3
    assert set(packages.split()) <= set(script.split())


def test_the_extras_that_it_installs_exist(steps, repository):
    (extras,) = re.findall(r"pip install .*\.\[(.+?)\]", [a for k, a in steps if k == "RUN" and "pip install" in a][-1])
    project = (repository / "pyproject.toml").read_text(encoding="utf-8")
    assert [name for name in extras.split(",") if not re.search(rf"^{name} = \[", project, re.MULTILINE)] == []


@pytest.mark.usefixtures("default_models")
def test_it_serves_and_its_health_check_notices(steps, repository, make_home):
    program, *arguments = [*json.loads(find(steps, "ENTRYPOINT")), *json.loads(find(steps, "CMD"))]
    assert program == "edge-ocr"
    assert find(steps, "EXPOSE") == PORT
    check = json.loads(find(steps, "HEALTHCHECK").partition(" CMD ")[2])
    assert check[:2] == ["python", "-c"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    assert PORT in check[2]
    check = [sys.executable, "-c", check[2].replace(PORT, port)]
    env = {**os.environ, "PYTHONPATH": str(repository), "EDGE_OCR_HOME": str(make_home())}
    assert subprocess.run(check, capture_output=True).returncode != 0
    command = [sys.executable, "-c", START, *arguments, "--port", port, "--threads", "1"]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as service:
        try:
            deadline = time.monotonic() + 60
            while (code := subprocess.run(check, capture_output=True).returncode) and time.monotonic() < deadline:
                assert service.poll() is None
            assert code == 0
        finally:
            service.terminate()
    assert subprocess.run(check, capture_output=True).returncode != 0
