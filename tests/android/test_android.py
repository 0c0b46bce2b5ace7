"""The Kotlin of android_demo, compiled and tested on this machine's JVM by Maven; Robolectric replaces Android."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.android import run_kotlin, write_cases
from converters.export import export_bundle
from converters.plan import ExportOptions
from edge_ocr.config import load_config

pytestmark = pytest.mark.android

FOLDER = Path(__file__).parent
APP = FOLDER.parents[1] / "android_demo" / "app" / "src" / "main"
DATA = Path(os.environ.get("EDGE_OCR_TEST_DATA") or FOLDER.parents[2] / "shared" / "data")
PHOTOS = ("general_ocr", "paddleocr_imgs", "rapidocr_tests", "reports")
LEAST_JAVA = 17
# The suites that run real networks, and how many tests each has.
RUN = {"PicturesTest": 2, "demo.NetworksTest": 6}
SUITES = {
    *("Charset", "Detection", "Geometry", "Golden", "Imaging", "Manifest", "Orientation", "Recognition", "Speed"),
    *("Page", "TextReader", "Windows", "GoldenComparison", "Assets", "Bitmaps", "EdgeOcr", "JavaCaller"),
    *("Trust", "TrustedBundle", "BundleArchive", "Words", "LineTracker", "Coroutines", "AsyncOcr", "FrameReader"),
    *("KotlinSample", "JavaSample", "Api"),
    # The app's.
    *("MainActivity", "SettingsActivity", "LiveActivity", "Benchmark", "SelfTest", "OcrWorker", "PictureFile"),
    *("PhotoProvider", "OverlayView", "LineNodes", "ReadingText", "ErrorText", "CameraFrames", "Models"),
}

# Maven's messages if it reaches no repository.
NO_NETWORK = re.compile(r"Unknown host|No route to host|Network is unreachable|Connection (refused|timed out)")


@pytest.fixture(scope="module")
def maven() -> str:
    """Maven on a Java that is new enough; skips if there is none."""
    program = shutil.which("mvn")
    if program is None:
        pytest.skip("no mvn (Debian: maven)")
    # The Java that Maven uses, which JAVA_HOME may choose.
    told = subprocess.run([program, "-v"], capture_output=True, text=True, timeout=60).stdout
    found = re.search(r"^Java version: (\d+)", told, re.MULTILINE)
    if found is None or int(found[1]) < LEAST_JAVA:
        pytest.skip(f"no Java {LEAST_JAVA} or newer for mvn")
    if shutil.which("aapt2") is None:
        pytest.skip("no aapt2 (Debian: aapt)")
    return program


@pytest.fixture(scope="module")
def built(maven) -> str:
    """Compile and test; return what Maven printed."""
    # Maven keeps the classes, and so the tests, of deleted sources.
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


def test_kotlin(built, record_property):
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    suites = set()
    for report in (FOLDER / "target" / "surefire-reports").glob("TEST-*.xml"):
        suite = ElementTree.parse(report).getroot()
        suites.add(suite.attrib["name"].split(".")[-1].removesuffix("Test"))
        for name in counts:
            counts[name] += int(suite.attrib[name])
    told = [f"JUnit: {counts}", *(line for line in built.splitlines() if line.startswith("speed: "))]
    record_property("figures", "\n".join(told))
    assert suites == SUITES
    assert counts["tests"] >= 300
    assert counts["failures"] == counts["errors"] == counts["skipped"] == 0


def assert_reads_alike(
    projects: dict[str, Path], pictures: list[Path], folder: Path, record_property: Callable[[str, object], None]
) -> None:
    write_cases(projects, pictures, folder)
    done = run_kotlin(folder, "surefire:test@default-test")
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-6000:]
    totals = re.findall(r"\| ([^|]+) \| (\d+) pictures \|.*\|$", told, re.MULTILINE)
    assert {name: int(count) for name, count in totals} == dict.fromkeys(projects, len(pictures))
    reports = [FOLDER / "target" / "surefire-reports" / f"TEST-io.github.edgeocr.{name}.xml" for name in RUN]
    counts = [ElementTree.parse(report).getroot().attrib for report in reports]
    assert [int(count["tests"]) for count in counts] == list(RUN.values())
    assert all(count["skipped"] == "0" for count in counts)
    record_property("figures", "\n".join(re.findall(r"\| [^|]+ \| \d+ pictures \|.*\|$", told, re.MULTILINE)))


@pytest.fixture(scope="module")
def projects(export, make_home, tmp_path_factory) -> Callable[..., dict[str, Path]]:
    """Export projects for ONNX Runtime, by name: PP-OCRv4 mobile with its classifier, and PP-OCRv6 tiny."""

    def make(*precisions: str) -> dict[str, Path]:
        made = {f"v4 {kind}": export("android", with_cls=True, precision=kind).out_dir for kind in precisions}
        for kind in precisions:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("EDGE_OCR_HOME", str(make_home()))
                options = ExportOptions(precision=kind, verify=False)
                out = tmp_path_factory.mktemp("tiny") / "project"
                made[f"v6 tiny {kind}"] = export_bundle("android", out, load_config("OCR-tiny"), options).out_dir
        return made

    return make


@pytest.mark.slow
def test_pictures_read_as_in_python(built, projects, examples, tmp_path, record_property):
    pictures = sorted([*examples.glob("*.png"), *examples.glob("*.jpg")])
    assert len(pictures) >= 4
    assert_reads_alike(projects("fp32", "int8"), pictures, tmp_path, record_property)


@pytest.mark.skipif(not (DATA / "README.md").is_file(), reason="no shared test data (EDGE_OCR_TEST_DATA)")
@pytest.mark.slow
def test_photos_read_as_in_python(built, projects, tmp_path, record_property):
    pictures = sorted(
        path for folder in PHOTOS for path in (DATA / folder).iterdir() if path.suffix in (".jpg", ".png")
    )
    assert len(pictures) >= 40
    assert_reads_alike(projects("fp32"), pictures, tmp_path, record_property)


@pytest.fixture
def link(built, tmp_path) -> Callable[[Path], str]:
    """Compile and link resources with the app's manifest; return aapt2's messages: none if all is well."""
    app = FOLDER / "target" / "app"
    framework = (app / "framework.txt").read_text(encoding="utf-8")

    def run(res: Path) -> str:
        packed = tmp_path / "resources.zip"
        commands = (
            ["compile", "--dir", res, "-o", packed],
            ["link", packed, "--manifest", app / "AndroidManifest.xml", "-I", framework, "-o", tmp_path / "app.apk"],
        )
        for command in commands:
            done = subprocess.run(["aapt2", *command], capture_output=True, text=True, timeout=60)
            lines = (done.stdout + done.stderr).splitlines()
            # About the framework, which is newer than this aapt2.
            told = "\n".join(line for line in lines if "Unknown chunk type '200'" not in line)
            if told or done.returncode:
                return told or f"exit code {done.returncode}"
        return ""

    return run


@pytest.fixture
def main(tmp_path) -> Path:
    """A copy of the app that a test may damage."""
    return Path(shutil.copytree(APP, tmp_path / "main"))


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_resources_link_without_a_warning(link):
    assert link(APP / "res") == ""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("</resources>", "", "error"),
        ("</resources>", '<string name="app_name">twice</string></resources>', "app_name"),
        ("</resources>", '<string name="lost">@string/nowhere</string></resources>', "nowhere"),
        ("</resources>", '<string name="loose">%d of %d</string></resources>', "positional"),
    ],
)
def test_damaged_resources_are_refused(link, main, old, new, told):
    replace(main / "res" / "values" / "strings.xml", old, new)
    assert told in link(main / "res")


def read_texts(main: Path, folder: str) -> dict[str, set[str]]:
    """Return the arguments that each text in a folder of values takes, such as `%1$d`."""
    texts = {}
    for file in (main / "res" / folder).glob("*.xml"):
        for entry in ElementTree.parse(file).getroot():
            if entry.tag in ("string", "string-array", "plurals") and entry.get("translatable") != "false":
                found = re.findall(r"%(?:\d+\$)?[-#+ 0,(]*\d*(?:\.\d+)?[a-zA-Z%]", "".join(entry.itertext()))
                texts[f"{entry.tag} {entry.attrib['name']}"] = set(found)
    return texts


def find_untranslated(main: Path) -> set[str]:
    """Return the names of texts that one language lacks, or that have other arguments in it."""
    english, chinese = read_texts(main, "values"), read_texts(main, "values-zh")
    assert english
    return {name for name in english | chinese if english.get(name) != chinese.get(name)}


def test_every_text_is_translated(main):
    assert find_untranslated(main) == set()
    replace(main / "res" / "values" / "strings.xml", "</resources>", '<string name="new">%1$s</string></resources>')
    assert find_untranslated(main) == {"string new"}
    replace(main / "res" / "values-zh" / "strings.xml", "</resources>", '<string name="new">%1$d</string></resources>')
    assert find_untranslated(main) == {"string new"}


def list_resources(main: Path) -> Iterator[tuple[str, str]]:
    """Yield kind and name, as in R, of the app's resources."""
    for file in (main / "res").rglob("*.xml"):
        kind = file.parent.name.split("-")[0]
        if kind != "values":
            yield kind, file.stem
            continue
        for entry in ElementTree.parse(file).getroot():
            name = entry.attrib["name"].replace(".", "_")
            yield {"string-array": "array", "item": entry.get("type", "")}.get(entry.tag, entry.tag), name


def find_unused(main: Path) -> set[str]:
    """Return the resources that neither the Kotlin nor any XML names."""
    used = {match for file in main.rglob("*.kt") for match in re.findall(r"\bR\.(\w+)\.(\w+)", file.read_text("utf-8"))}
    for file in main.rglob("*.xml"):
        text = file.read_text(encoding="utf-8")
        named = re.findall(r'"@(\w+)/([\w.]+)"|>@(\w+)/([\w.]+)<', text)
        used |= {(kind or other, (name or last).replace(".", "_")) for kind, name, other, last in named}
        used |= {("style", parent.replace(".", "_")) for parent in re.findall(r'parent="([\w.]+)"', text)}
    return {f"{kind}/{name}" for kind, name in set(list_resources(main)) - {(kind, name) for kind, name in used}}


def test_no_resource_is_unused(main):
    assert find_unused(main) == set()
    replace(main / "res" / "values" / "strings.xml", "</resources>", '<string name="new">a</string></resources>')
    (main / "res" / "layout" / "empty.xml").write_text("<View />", encoding="utf-8")
    assert find_unused(main) == {"string/new", "layout/empty"}


def find_literals(main: Path) -> list[str]:
    """Return the texts that layouts, menus and the manifest hard-code instead of using the translations."""
    shown = ("text", "hint", "contentDescription", "title", "label", "summary", "prompt")
    return [
        value
        for file in main.rglob("*.xml")
        for element in ElementTree.parse(file).iter()
        for name, value in element.attrib.items()
        if name.split("}")[-1] in shown and "}" in name and not value.startswith(("@", "?"))
    ]


def test_no_layout_has_hard_coded_text(main):
    assert find_literals(main) == []
    layout = next(file for file in (main / "res" / "layout").glob("*.xml") if '"@string/' in file.read_text("utf-8"))
    layout.write_text(re.sub(r'"@string/\w+"', '"Words"', layout.read_text("utf-8"), count=1), encoding="utf-8")
    assert find_literals(main) == ["Words"]


def test_xml_of_the_library_parses():
    files = [file for file in FOLDER.parents[1].glob("android_demo/ocr/src/**/*.xml") if "assets" not in file.parts]
    assert files
    for file in files:
        ElementTree.parse(file)


def test_core_imports_no_android():
    core = FOLDER.parents[1] / "android_demo/ocr/src/main/kotlin/io/github/edgeocr/core"
    sources = {path.name: path.read_text(encoding="utf-8") for path in core.glob("*.kt")}
    assert len(sources) > 10
    imports = {name for text in sources.values() for name in re.findall(r"^import (\S+)", text, re.MULTILINE)}
    assert {name for name in imports if not name.startswith(("java.", "kotlin.", "org.json."))} == set()


def test_library_needs_nothing_but_android_and_kotlin():
    folder = FOLDER.parents[1] / "android_demo/ocr/src"
    texts = [path.read_text(encoding="utf-8") for path in folder.rglob("*.kt")]
    imports = {name for text in texts for name in re.findall(r"^import (\S+)", text, re.MULTILINE)}
    added = ("ai.onnxruntime.", "com.baidu.paddle.lite.", "kotlinx.coroutines.")
    known = (*added, "android.", "io.github.edgeocr.", "java.", "kotlin.", "org.json.")
    assert imports >= {"com.baidu.paddle.lite.PaddlePredictor", "ai.onnxruntime.OrtSession"}
    assert {name for name in imports if not name.startswith(known)} == set()


def test_maven_uses_the_versions_that_gradle_uses():
    catalog = (FOLDER.parents[1] / "android_demo/gradle/libs.versions.toml").read_text(encoding="utf-8")
    versions = dict(re.findall(r'^(\w+) = "(.+)"$', catalog, re.MULTILINE))
    pom = (FOLDER / "pom.xml").read_text(encoding="utf-8")
    for tool in ("kotlin", "onnxruntime", "coroutines"):
        assert f"<{tool}.version>{versions[tool]}</{tool}.version>" in pom
    assert f'android:minSdkVersion="{versions["minSdk"]}" android:targetSdkVersion="{versions["compileSdk"]}"' in pom
