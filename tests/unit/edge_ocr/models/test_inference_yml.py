"""An unreadable or malicious inference.yml is refused by name."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from edge_ocr.config import load_config
from edge_ocr.errors import ConfigError, ModelError
from edge_ocr.models.inference_yml import Description, read_inference_yml


@pytest.fixture
def yml(tmp_path) -> Path:
    return tmp_path / "inference.yml"


def refuse(yml: Path, kind: str = "det") -> str:
    with pytest.raises(ModelError) as caught:
        read_inference_yml(yml, kind)
    assert caught.value.exit_code == 5
    assert caught.value.hint
    assert caught.value.message.startswith(f"{yml}")
    assert len(caught.value.message) < 1000
    return caught.value.message.removeprefix(str(yml))


def test_missing_file_changes_nothing(yml):
    assert read_inference_yml(yml, "det") == Description(None, {}, None)


def test_folder_and_pipe_are_refused(yml):
    yml.mkdir()
    assert refuse(yml).endswith("Is a directory")
    yml.rmdir()
    os.mkfifo(yml)
    assert "regular file" in refuse(yml)


def test_circular_links_are_refused(yml):
    yml.symlink_to(yml)
    assert os.strerror(errno.ELOOP) in refuse(yml)


def test_file_that_may_not_be_read_is_refused(yml, monkeypatch):
    yml.write_text("Global: {}")
    if os.geteuid() == 0:
        # Root may read everything, so the system's error is simulated.
        def deny(*arguments: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", deny)
    yml.chmod(0)
    assert refuse(yml).endswith("Permission denied")


def test_huge_file_is_refused_unread(yml):
    with yml.open("wb") as file:
        file.truncate(2**33)
    started = time.monotonic()
    assert "4 MB" in refuse(yml)
    assert time.monotonic() - started < 2


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghijkl")
)
MERGES = BOMB.replace("[x, x, x, x, x, x, x, x, x]", "{x: 1}").replace(" [", " {<<: [").replace("]", "]}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe\xfa", "YAML"),
        ("Global: {model_name: caf\xe9}".encode("latin-1"), "YAML"),
        (b"a: \0", "YAML"),
        ("[" * 100_000, "YAML"),
        ("a: {" * 100_000, "YAML"),
        ("".join(" " * depth + "a:\n" for depth in range(1500)), "YAML"),
        ("&a [*a]", "a mapping"),
        ("PostProcess: &a {name: *a}", "PostProcess.name: "),
        ("? &a [*a]\n: b", "YAML"),
        (f"{BOMB}PostProcess: {{name: *l}}", "PostProcess.name: "),
        (MERGES, "(<<)"),
        ("a: &a {b: 1}\nPostProcess: {<<: *a}", "(<<)"),
        ("PostProcess: {thresh: !!int ''}", "YAML: IndexError"),
        ("PostProcess: {thresh: !!float ''}", "YAML: IndexError"),
        ("PostProcess: {thresh: !!bool x}", "YAML: KeyError"),
        ("PostProcess: {thresh: !!timestamp x}", "YAML: AttributeError"),
        ("PostProcess: {thresh: " + "9" * 5000 + "}", "YAML: ValueError"),
        ("PostProcess: {thresh: !!python/name:os.system ''}", "YAML"),
    ],
    ids=range(18),
)
def test_odd_content_is_refused(yml, content, words):
    yml.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert words in refuse(yml)


@pytest.mark.parametrize("key", ["max_candidates", "thresh"])
def test_base_60_is_fast_and_not_a_number(yml, tmp_path, key):
    value = "1:" + "59:" * 60_000 + ("1" if key == "max_candidates" else "1.0")
    yml.write_text(f"Unread: 1:30\nPostProcess: {{name: DBPostProcess, {key}: {value}}}\n")
    start = time.perf_counter()
    assert f"PostProcess.{key}: " in refuse(yml)
    (tmp_path / "mine.yaml").write_text(f"Detection: {{{key}: {value}}}\n")
    with pytest.raises(ConfigError, match=rf"Detection\.{key}: "):
        load_config(tmp_path / "mine.yaml")
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize("value", [".nan", "nan", ".inf", "0.5"])
def test_scale_other_than_1_255_is_refused(yml, value):
    yml.write_text(f"PreProcess: {{transform_ops: [{{NormalizeImage: {{scale: {value}}}}}]}}\n")
    assert "NormalizeImage.scale: expected 1/255" in refuse(yml)


@pytest.mark.parametrize("name", ["BOMB", "MERGES", "DEEP"])
def test_little_memory_is_enough_also_without_libyaml(yml, repository, name):
    text = {"BOMB": f"{BOMB}PostProcess: {{name: *l}}", "MERGES": MERGES, "DEEP": "[" * 100_000}[name]
    yml.write_text(text)
    program = """
import resource, sys, yaml
yaml.__with_libyaml__ = False
from pathlib import Path
from edge_ocr.errors import ModelError
from edge_ocr.models.inference_yml import read_inference_yml
limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + 2**26
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    read_inference_yml(Path(sys.argv[1]), "det")
except ModelError:
    sys.exit(5)
"""
    env = {**os.environ, "PYTHONPATH": str(repository)}
    ended = subprocess.run([sys.executable, "-c", program, yml], env=env, timeout=60, check=False)
    assert ended.returncode == 5


@pytest.mark.parametrize("value", ["!!int ''", "!!bool x", "!!timestamp x"])
def test_pipeline_file_with_such_values_is_refused(tmp_path, value):
    path = tmp_path / "mine.yaml"
    path.write_text(f"Detection: {{thresh: {value}}}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: "):
        load_config(path)
