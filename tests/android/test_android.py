"""The Kotlin of android_demo, compiled and tested on this machine's JVM by Maven; Robolectric stands for Android."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.android

FOLDER = Path(__file__).parent
LEAST_JAVA = 17
SUITES = {
    *("Charset", "Detection", "Geometry", "Golden", "Imaging", "Manifest", "Orientation", "Speed", "TextReader"),
    *("Assets", "Bitmaps", "EdgeOcr", "JavaCaller"),
}

# Maven's own words where it reaches no repository.
NO_NETWORK = re.compile(r"Unknown host|No route to host|Network is unreachable|Connection (refused|timed out)")


@pytest.fixture(scope="module")
def maven() -> str:
    """Maven on a Java that is new enough; skips where there is none."""
    program = shutil.which("mvn")
    if program is None:
        pytest.skip("no mvn (Debian: maven)")
    # The Java that Maven takes, which JAVA_HOME may choose.
    told = subprocess.run([program, "-v"], capture_output=True, text=True, timeout=60).stdout
    found = re.search(r"^Java version: (\d+)", told, re.MULTILINE)
    if found is None or int(found[1]) < LEAST_JAVA:
        pytest.skip(f"no Java {LEAST_JAVA} or newer for mvn")
    return program


@pytest.fixture(scope="module")
def built(maven) -> str:
    """Compile and test; return what Maven printed."""
    # Maven keeps the classes, and so the tests, of sources that are gone.
    shutil.rmtree(FOLDER / "target", ignore_errors=True)
    done = subprocess.run(
        [maven, "-q", "-B", "-f", str(FOLDER / "pom.xml"), "verify"],
        capture_output=True,
        text=True,
        timeout=1800,
        env={"MAVEN_OPTS": "-Xmx1g", **os.environ},
    )
    if done.returncode and NO_NETWORK.search(done.stdout):
        pytest.skip("no Maven repository that can be reached")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def test_kotlin(built, capfd):
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    suites = set()
    for report in (FOLDER / "target" / "surefire-reports").glob("TEST-*.xml"):
        suite = ElementTree.parse(report).getroot()
        suites.add(suite.attrib["name"].split(".")[-1].removesuffix("Test"))
        for name in counts:
            counts[name] += int(suite.attrib[name])
    told = [f"JUnit: {counts}", *(line for line in built.splitlines() if line.startswith("speed: "))]
    with capfd.disabled():
        sys.stdout.write("\n" + "\n".join(told) + "\n")
    assert suites == SUITES
    assert counts["tests"] >= 100
    assert counts["failures"] == counts["errors"] == counts["skipped"] == 0


def test_core_imports_no_android():
    core = FOLDER.parents[1] / "android_demo/ocr/src/main/kotlin/io/github/edgeocr/core"
    sources = {path.name: path.read_text(encoding="utf-8") for path in core.glob("*.kt")}
    assert len(sources) > 10
    imports = {name for text in sources.values() for name in re.findall(r"^import (\S+)", text, re.MULTILINE)}
    assert {name for name in imports if not name.startswith(("java.", "kotlin.", "org.json."))} == set()


def test_library_needs_nothing_but_android_and_kotlin():
    folder = FOLDER.parents[1] / "android_demo/ocr/src/main/kotlin"
    texts = [path.read_text(encoding="utf-8") for path in folder.rglob("*.kt")]
    imports = {name for text in texts for name in re.findall(r"^import (\S+)", text, re.MULTILINE)}
    known = ("android.", "com.baidu.paddle.lite.", "io.github.edgeocr.", "java.", "kotlin.", "org.json.")
    assert "com.baidu.paddle.lite.PaddlePredictor" in imports
    assert {name for name in imports if not name.startswith(known)} == set()


def test_maven_takes_the_kotlin_that_gradle_takes():
    catalog = (FOLDER.parents[1] / "android_demo/gradle/libs.versions.toml").read_text(encoding="utf-8")
    kotlin = re.search(r'^kotlin = "(.+)"$', catalog, re.MULTILINE)
    assert kotlin is not None
    assert f"<kotlin.version>{kotlin[1]}</kotlin.version>" in (FOLDER / "pom.xml").read_text(encoding="utf-8")
