"""The Gradle files of android_demo: compiled against Gradle's, AGP's and Kotlin's types, and evaluated in Gradle.

Gradle's own build has not run: its Kotlin DSL and Android's tools are in no repository that tests can reach.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from support.apk import BuildError, find_missing_tools
from support.gradle import SOURCES, Gradle, read_catalog, read_texts, write_sources

pytestmark = [pytest.mark.android, pytest.mark.slow]

FOLDER = Path(__file__).parent
DEMO = FOLDER.parents[1] / "android_demo"
APP, LIBRARY, CATALOG = "app/build.gradle.kts", "ocr/build.gradle.kts", "gradle/libs.versions.toml"
# The newest AGP; it compiles Kotlin itself and refuses the plugin for it.
NEXT_AGP = "9.5.1"
KOTLIN_PLUGIN = re.compile(r"^ *alias\(libs\.plugins\.kotlin\.android\).*\n", re.MULTILINE)
NO_NETWORK = re.compile(r"Unknown host|No route to host|is unreachable|Connection (refused|timed out)")

Compile = Callable[[Mapping[str, str]], Path]


def fetch(agp: str) -> Gradle:
    missing = find_missing_tools("mvn")
    if missing:
        pytest.skip(f"no {', '.join(missing)}")
    try:
        return Gradle.fetch(agp)
    except BuildError as error:
        if NO_NETWORK.search(str(error)):
            pytest.skip("no Maven repository that can be reached")
        raise


@pytest.fixture(scope="module")
def gradle() -> Gradle:
    return fetch(read_catalog((DEMO / CATALOG).read_text(encoding="utf-8"))["versions"]["agp"])


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    found = read_texts(DEMO)
    assert len(found) == 5
    return found


@pytest.fixture(scope="module")
def compiled(gradle, texts, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    gradle.compile([*write_sources(texts, folder), SOURCES], folder / "scripts.jar")
    return folder / "scripts.jar"


@pytest.fixture
def evaluate(gradle, compiled, tmp_path) -> Callable[[str], dict[str, str]]:
    """Evaluate the scripts with these engines."""

    def run(engines: str) -> dict[str, str]:
        project = tmp_path / "project"
        shutil.copytree(DEMO, project, ignore=shutil.ignore_patterns("src", "build", ".gradle"))
        properties = (project / "gradle.properties").read_text(encoding="utf-8")
        changed = re.sub(r"^edgeocr\.engines=.*$", f"edgeocr.engines={engines}", properties, flags=re.MULTILINE)
        (project / "gradle.properties").write_text(changed, encoding="utf-8")
        return gradle.evaluate(compiled, project, tmp_path / "home")

    return run


def test_agp_understands_the_files(evaluate, texts, record_property):
    found = evaluate("onnxruntime")
    versions = read_catalog(texts[CATALOG])["versions"]
    sdk, least, java = versions["compileSdk"], versions["minSdk"], versions["java"]
    assert found == {
        "ocr.namespace": "io.github.edgeocr",
        "ocr.compileSdk": sdk,
        "ocr.minSdk": least,
        "ocr.abis": "arm64-v8a, x86_64",
        "ocr.rules": "consumer-rules.pro",
        "ocr.ignored": "!*.nb",
        "app.id": "io.github.edgeocr.demo",
        "app.compileSdk": sdk,
        "app.minSdk": least,
        "app.targetSdk": sdk,
        "app.abis": "arm64-v8a, x86_64",
        "app.uncompressed": "nb, onnx",
        "app.minified": "true",
        "app.shrunk": "true",
        "app.rules": "proguard-android-optimize",
        "ocr.explicitApi": "Strict",
        "ocr.warningsAreErrors": "true",
        "ocr.jvmTarget": java,
        "ocr.needs": f"com.microsoft.onnxruntime:onnxruntime-android:{versions['onnxruntime']}",
        "ocr.gives": f"org.jetbrains.kotlinx:kotlinx-coroutines-core:{versions['coroutines']}",
        "app.explicitApi": "null",
        "app.warningsAreErrors": "true",
        "app.jvmTarget": java,
        "app.needs": "edge-ocr:ocr:unspecified",
        "ocr.check": "true",
    }
    record_property("figures", f"Gradle files, evaluated with AGP {versions['agp']}, not built: {len(found)} settings")


def test_engines_choose_the_dependencies(evaluate):
    found = evaluate("onnxruntime,paddle_lite")
    assert found["ocr.ignored"] == ""
    assert found["ocr.needs"].count("onnxruntime-android") == 1
    assert len(found["ocr.needs"].split(", ")) == 2


def test_they_also_compile_with_the_next_agp(texts, tmp_path):
    # What the project's README tells users of AGP 9 to do.
    without = {name: KOTLIN_PLUGIN.sub("", text) for name, text in texts.items()}
    assert sum(text != texts[name] for name, text in without.items()) == 3
    sources = [*write_sources(without, tmp_path), SOURCES / "Dsl.kt"]
    fetch(NEXT_AGP).compile(sources, tmp_path / "scripts.jar")


MISTAKES = [
    (APP, "isMinifyEnabled = true", "isMinifyEnable = true", "unresolved reference 'isMinifyEnable'"),
    (APP, "targetSdk = libs", 'targetSdk = "36" // libs', "assignment type mismatch: actual type is 'String'"),
    (APP, "libs.plugins.kotlin.android", "libs.plugins.kotlin.andriod", "unresolved reference 'andriod'"),
    (LIBRARY, "explicitApi()", "explicitAPI()", "unresolved reference 'explicitAPI'"),
    (LIBRARY, "consumerProguardFiles(", "consumerProguardRules(", "unresolved reference 'consumerProguardRules'"),
    # Only apps have it.
    (LIBRARY, "compileSdk = libs", "defaultConfig { versionCode = 1 }; compileSdk = libs", "reference 'versionCode'"),
    (CATALOG, "minSdk = ", "leastSdk = ", "unresolved reference 'minSdk'"),
    ("settings.gradle.kts", "FAIL_ON_PROJECT_REPOS", "FAIL_ON_PROJECTS", "unresolved reference 'FAIL_ON_PROJECTS'"),
    ("build.gradle.kts", "apply false", "apply no", "unresolved reference 'no'"),
]


def test_mistakes_are_errors(gradle, texts, tmp_path):
    changed = dict(texts)
    for name, old, new, _ in MISTAKES:
        assert old in changed[name]
        changed[name] = changed[name].replace(old, new, 1)
    with pytest.raises(BuildError) as raised:
        gradle.compile([*write_sources(changed, tmp_path), SOURCES / "Dsl.kt"], tmp_path / "scripts.jar")
    missed = [told for *_, told in MISTAKES if told not in str(raised.value)]
    assert missed == [], str(raised.value)


def test_what_agp_refuses_is_an_error(gradle, texts, tmp_path):
    # Both compile, but a project is either an app or a library.
    old = "alias(libs.plugins.android.library)\n"
    changed = texts[LIBRARY].replace(old, f"{old}    alias(libs.plugins.android.application)\n", 1)
    sources = write_sources({**texts, LIBRARY: changed}, tmp_path / "sources")
    gradle.compile([*sources, SOURCES], tmp_path / "scripts.jar")
    project = shutil.copytree(DEMO, tmp_path / "project", ignore=shutil.ignore_patterns("src"))
    with pytest.raises(BuildError, match="cannot be applied in the same project"):
        gradle.evaluate(tmp_path / "scripts.jar", project, tmp_path / "home")


def test_the_jars_have_the_versions_that_the_project_uses(texts):
    versions = read_catalog(texts[CATALOG])["versions"]
    pom = (FOLDER / "gradle" / "pom.xml").read_text(encoding="utf-8")
    assert f"<kotlin.version>{versions['kotlin']}</kotlin.version>" in pom
    assert f"<agp.version>{versions['agp']}</agp.version>" in pom
