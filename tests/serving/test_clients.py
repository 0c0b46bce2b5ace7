"""The clients of examples/clients against the real service; those whose tools are missing are skipped by name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

pytestmark = pytest.mark.slow

Make = Callable[[Path], list[str]]
"""Builds a client in a folder with its sources; returns the command that runs it."""


def find(*programs: str) -> None:
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}")


# Maven's messages if it reaches no repository.
NO_NETWORK = re.compile(r"Unknown host|No route to host|Network is unreachable|Connection (refused|timed out)")


def build(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    if command[0] == "mvn" and done.returncode and NO_NETWORK.search(done.stdout):
        pytest.skip("no Maven repository that can be reached")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def make_python(folder: Path) -> list[str]:
    return [sys.executable, str(folder / "client.py")]


def make_node(folder: Path) -> list[str]:
    find("node")
    return ["node", str(folder / "client.mjs")]


def make_go(folder: Path) -> list[str]:
    find("go")
    build(folder, "go", "vet", ".")
    build(folder, "go", "build", "-o", "client", ".")
    return [str(folder / "client")]


def make_php(folder: Path) -> list[str]:
    find("php")
    return ["php", "-d", "display_errors=stderr", str(folder / "client.php")]


def make_csharp(folder: Path) -> list[str]:
    find("mcs", "mono")
    libraries = [f"-r:{name}.dll" for name in ("System.Net.Http", "System.Runtime.Serialization")]
    # Fields that only the serialiser sets.
    build(folder, "mcs", "-warnaserror", "-nowarn:649", *libraries, "Client.cs")
    return ["mono", str(folder / "Client.exe")]


def make_java(folder: Path) -> list[str]:
    find("mvn", "java")
    build(folder, "mvn", "-q", "-B", "package", "dependency:build-classpath", "-Dmdep.outputFile=classpath")
    classes = f"{folder / 'target/classes'}{os.pathsep}{(folder / 'classpath').read_text()}"
    return ["java", "-Dstdout.encoding=UTF-8", "-cp", classes, "Client"]


def make_cpp(folder: Path) -> list[str]:
    find("g++")
    probe = subprocess.run(
        ["g++", "-E", "-x", "c++", "-", "-o", os.devnull],
        input="#include <curl/curl.h>\n#include <nlohmann/json.hpp>\n",
        capture_output=True,
        text=True,
    )
    if probe.returncode:
        pytest.skip("no headers of libcurl and nlohmann/json (Debian: libcurl4-openssl-dev, nlohmann-json3-dev)")
    build(folder, "g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "client.cpp", "-o", "client", "-lcurl")
    return [str(folder / "client")]


CLIENTS: dict[str, Make] = {
    "python": make_python,
    "node": make_node,
    "go": make_go,
    "php": make_php,
    "csharp": make_csharp,
    "java": make_java,
    "cpp": make_cpp,
}


def test_every_client_is_tested(repository):
    assert {path.name for path in (repository / "examples/clients").iterdir()} == set(CLIENTS)


@pytest.mark.parametrize("name", CLIENTS)
def test_client(name, repository, examples, read_example, start, tmp_path, monkeypatch):
    folder, place = tmp_path / "client", tmp_path / "place with blanks"
    place.mkdir()
    shutil.copytree(repository / "examples/clients" / name, folder)
    command = CLIENTS[name](folder)
    service = start()
    picture = place / "sign é.v2.png"
    shutil.copy(examples / "sign.png", picture)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments],
            cwd=place,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            env={**os.environ, "LC_ALL": "C.UTF-8", "no_proxy": "*"},
        )

    done = run(str(picture), f"{service.url}/ocr")
    assert done.returncode == 0, done.stderr
    expected = read_example("sign.png")
    lines = zip(expected["rec_score"], expected["rec_text"], strict=True)
    assert done.stdout.splitlines() == [f"{score:.3f}\t{text}" for score, text in lines]
    drawn = cv2.imread(str(place / "sign é.v2_ocr.jpg"))
    assert drawn.shape == (430, 640, 3)

    with_words = run("--words", str(picture), f"{service.url}/ocr")
    assert with_words.returncode == 0, with_words.stderr
    rows = []
    for line in service.read(picture.read_bytes(), inferenceParams={"returnWordBox": True}).json["result"]["texts"]:
        rows.append(f"{line['score']:.3f}\t{line['text']}")
        for word in line["words"]:
            corners = " ".join(f"{x},{y}" for x, y in word["poly"])
            rows.append(f"\t{word['score']:.3f}\t{word['text']}\t{corners}")
    assert with_words.stdout.splitlines() == rows
    assert len(rows) > len(done.stdout.splitlines())

    for option in ("-h", "--help"):
        told = run(option)
        assert (told.returncode, told.stderr) == (0, "")
        assert "[--words] IMAGE [URL]" in told.stdout

    # A refused picture, a missing service, a missing picture, no arguments.
    bad = place / "bad.png"
    bad.write_bytes(b"no picture")
    refused = run(str(bad), f"{service.url}/ocr")
    assert refused.returncode == 1
    assert "422" in refused.stderr
    assert "picture" in refused.stderr
    for arguments in ([str(picture), "http://127.0.0.1:9/ocr"], [str(place / "none.png")], []):
        failed = run(*arguments)
        assert failed.returncode == 1
        assert failed.stderr.strip()
        assert failed.stdout == ""
    assert not (place / "bad_ocr.jpg").exists()
