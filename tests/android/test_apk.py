"""The app of an exported project as a release APK, built without Gradle: a build check, not a run.

It has no native library: those of the engines are not on this machine.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.apk import Build, BuildError, Tools, find_missing_tools, run

pytestmark = [pytest.mark.android, pytest.mark.slow]

FOLDER = Path(__file__).parent
PACKAGE = "io.github.edgeocr.demo"
CORE = "io.github.edgeocr.core."
# What Maven and npm say if they reach no registry.
NO_NETWORK = re.compile(
    r"Unknown host|No route to host|Network is unreachable|Connection (refused|timed out)"
    r"|EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ETIMEDOUT"
)
# Without models; what the code and the resources took, plus room.
LARGEST_APP = 400_000


@pytest.fixture(scope="module")
def tools(tmp_path_factory) -> Tools:
    """Skips if a tool is missing."""
    missing = find_missing_tools()
    if missing:
        pytest.skip(f"no {', '.join(missing)}")
    try:
        return Tools.fetch(tmp_path_factory.mktemp("tools"))
    except BuildError as error:
        if NO_NETWORK.search(str(error)):
            pytest.skip("no registry that can be reached")
        raise


@pytest.fixture(scope="module")
def build(tools, export, tmp_path_factory) -> Build:
    """The finished build of the project that `edge-ocr export` writes; do not change its files."""
    project = export("android", precision="int8", engine="both").out_dir
    build = Build(project, tools, tmp_path_factory.mktemp("apk"))
    build.build()
    return build


@pytest.fixture(scope="module")
def apk(build) -> Path:
    return build.folder / "app.apk"


# --- the checks: each returns what is wrong, so that tests of damaged files can read it


def check_signature(apk: Path) -> list[str]:
    done = subprocess.run(["apksigner", "verify", "--verbose", apk], capture_output=True, text=True, timeout=60)
    if done.returncode:
        return [f"signature: {(done.stdout + done.stderr).strip()}"]
    return [] if "v2 scheme (APK Signature Scheme v2): true" in done.stdout else ["signature: no v2"]


def check_alignment(apk: Path) -> list[str]:
    """Stored files begin at multiples of 4 bytes."""
    done = subprocess.run(["zipalign", "-c", "-p", "4", apk], capture_output=True, text=True, timeout=60)
    return [] if done.returncode == 0 else ["alignment"]


def check_badging(apk: Path, build: Build) -> list[str]:
    """What Android reads from the manifest."""
    settings = build.settings
    lines = run(build.tools.aapt2, "dump", "badging", apk).splitlines()
    wanted = [
        f"package: name='{PACKAGE}' versionCode='{settings.version_code}' versionName='{settings.version_name}' .*"
        f" compileSdkVersion='{settings.compile_sdk}'.*",
        f"minSdkVersion:'{settings.min_sdk}'",
        f"targetSdkVersion:'{settings.compile_sdk}'",
        "uses-permission: name='android.permission.CAMERA'",
        rf"launchable-activity: name='{PACKAGE}\.MainActivity'.*",
        "application-label-zh:'.+'",
    ]
    problems = [f"missing: {pattern}" for pattern in wanted if not any(re.fullmatch(pattern, line) for line in lines)]
    permissions = [line for line in lines if line.startswith("uses-permission") and "CAMERA" not in line]
    debug = [line for line in lines if "debuggable" in line or "testOnly" in line]
    return problems + permissions + debug


def check_content(apk: Path, files: Mapping[str, Path]) -> list[str]:
    """The project's assets are in it; models and the table of resources are not compressed."""
    problems = []
    with zipfile.ZipFile(apk) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        stored = [name for name in infos if name.endswith((".nb", ".onnx", ".so")) or name == "resources.arsc"]
        problems += [f"compressed: {name}" for name in stored if infos[name].compress_type != zipfile.ZIP_STORED]
        for name, path in files.items():
            if name not in infos or archive.read(name) != path.read_bytes():
                problems.append(f"missing or changed: {name}")
    return problems


def read_members(dex: Path) -> dict[str, set[str]]:
    """Return the names of fields and methods by class, from an archive with dex files."""
    members: dict[str, set[str]] = defaultdict(set)
    name = ""
    for line in run("dexdump", dex).splitlines():
        if found := re.match(r"  Class descriptor  : 'L(.+);'", line):
            name = found[1].replace("/", ".")
            members[name] = set()
        elif found := re.match(r"      name          : '(.+)'", line):
            members[name].add(found[1])
    return members


def read_jar(jar: Path) -> dict[str, set[str]]:
    """Return the same of a jar with Java classes, without what the compiler added."""
    with zipfile.ZipFile(jar) as archive:
        names = [
            name.removesuffix(".class").replace("/", ".") for name in archive.namelist() if name.endswith(".class")
        ]
    members: dict[str, set[str]] = {}
    for line in run("javap", "-p", "-cp", jar, *names).splitlines():
        if found := re.match(r"(?! )(?:.* )?(?:class|interface) ([\w.$]+)", line):
            name = found[1]
            members[name] = set()
        elif found := re.fullmatch(r"  .*?([\w.$]+)(?:\(.*\).*)?;", line):
            member = "<init>" if found[1] == name else found[1]
            members[name] |= {member} if "$" not in member else set()
    return members


def check_names(dex: Path, jars: Mapping[str, Path]) -> list[str]:
    """Native code finds the engines' Java classes, their fields and methods by name."""
    present = read_members(dex)
    problems = []
    for jar in jars.values():
        for name, members in read_jar(jar).items():
            if name not in present:
                problems.append(f"no class {name}")
            else:
                problems += [f"no {name}.{member}" for member in members - present[name]]
    return problems


def read_mapping(path: Path) -> dict[str, str]:
    """Return R8's new names of classes by their old ones."""
    return dict(re.findall(r"^(\S+) -> (\S+):$", path.read_text(encoding="utf-8"), re.MULTILINE))


def check_components(apk: Path, build: Build) -> list[str]:
    """The classes that the manifest, layouts and the library name are there."""
    rules = (build.folder / "aapt-rules.pro").read_text("utf-8") + build.consumer_rules.read_text("utf-8")
    named = {
        name.strip(",") for names in re.findall("^-keep class ([^{]+)", rules, re.MULTILINE) for name in names.split()
    }
    named = {name for name in named if "*" not in name}
    assert len(named) >= 9
    return [f"no class {name}" for name in named - set(read_members(apk))]


# --- the APK


def test_the_apk_is_as_android_wants_it(build, apk, record_property):
    files = build.list_files()
    for kind in (".nb", ".onnx"):
        assert len([name for name in files if name.endswith(kind)]) >= 2
    assert check_signature(apk) == []
    assert check_alignment(apk) == []
    assert check_badging(apk, build) == []
    assert check_content(apk, files) == []
    with zipfile.ZipFile(apk) as archive:
        sizes = {info.filename: info.compress_size for info in archive.infolist()}
    code = sizes["classes.dex"]
    app = sum(size for name, size in sizes.items() if name not in files)
    assert app < LARGEST_APP
    seconds = ", ".join(f"{step} {taken:.0f} s" for step, taken in build.seconds.items())
    record_property(
        "figures",
        f"APK, built without Gradle, not run: {apk.stat().st_size:,} bytes, {app:,} without the bundle ({code:,} code);"
        f" {sum(build.seconds.values()):.0f} s ({build.cpu_seconds:.0f} s of CPU): {seconds}",
    )


def test_names_that_native_code_needs_are_kept(build, apk):
    assert set(build.engines) == {"ai.onnxruntime", "com.baidu.paddle.lite"}
    assert check_names(apk, build.engines) == []
    assert check_components(apk, build) == []
    present = read_members(apk)
    assert "createSession" in present["ai.onnxruntime.OrtEnvironment"]
    assert "createPaddlePredictor" in present["com.baidu.paddle.lite.PaddlePredictor"]


def test_names_of_the_library_are_not(build, apk):
    mapping = read_mapping(build.mapping)
    core = {old: new for old, new in mapping.items() if old.startswith(CORE) and "REMOVED" not in new}
    assert len(core) >= 20
    assert [old for old, new in core.items() if old == new] == []
    assert set(core.values()) <= set(read_members(apk))


def test_no_resource_is_lost(build, apk):
    with zipfile.ZipFile(build.folder / "linked.ap_") as before, zipfile.ZipFile(apk) as after:
        linked = {name for name in before.namelist() if name.startswith("res/")}
        assert linked
        assert linked <= set(after.namelist())


# --- what the checks notice


def test_without_the_librarys_rules_names_are_lost(build):
    dex, mapping = build.shrink(build.classes, [build.folder / "aapt-rules.pro"], build.folder / "linked.ap_", "lost")
    problems = check_names(dex, build.engines)
    assert "no class com.baidu.paddle.lite.PaddlePredictor" in problems
    assert "no class ai.onnxruntime.OrtEnvironment" in problems
    assert read_mapping(mapping).get("com.baidu.paddle.lite.PaddlePredictor") != "com.baidu.paddle.lite.PaddlePredictor"


def rewrite(apk: Path, out: Path, compression: Mapping[str, int]) -> Path:
    with zipfile.ZipFile(apk) as source, zipfile.ZipFile(out, "w") as target:
        for info in source.infolist():
            target.writestr(info.filename, source.read(info), compression.get(info.filename, info.compress_type))
    return out


def test_a_compressed_model_is_noticed(build, apk, tmp_path):
    files = build.list_files()
    model = next(name for name in files if name.endswith("det.nb"))
    packed = rewrite(apk, tmp_path / "packed.apk", {model: zipfile.ZIP_DEFLATED})
    assert check_content(packed, files) == [f"compressed: {model}"]


def test_a_lost_asset_is_noticed(build, apk):
    assert check_content(apk, {**build.list_files(), "assets/new": FOLDER / "pom.xml"}) == [
        "missing or changed: assets/new"
    ]


def test_an_unsigned_apk_is_refused(build):
    assert check_signature(build.unsigned)[0].startswith("signature: DOES NOT VERIFY")


def test_a_damaged_apk_is_refused(apk, tmp_path):
    damaged = Path(shutil.copy(apk, tmp_path))
    content = bytearray(damaged.read_bytes())
    with zipfile.ZipFile(apk) as archive:
        content[archive.getinfo("classes.dex").header_offset + 1000] ^= 1
    damaged.write_bytes(content)
    assert check_signature(damaged)[0].startswith("signature: DOES NOT VERIFY")


def test_a_misaligned_apk_is_noticed(apk, tmp_path):
    moved = tmp_path / "moved.apk"
    with zipfile.ZipFile(apk) as source, zipfile.ZipFile(moved, "w") as target:
        for index, info in enumerate(source.infolist()):
            # Of every four of these names, three move the next file by less than 4 bytes.
            target.writestr(str(index).rjust(2 + index % 4, "x"), b"")
            target.writestr(info.filename, source.read(info), info.compress_type)
    assert check_alignment(moved) == ["alignment"]


@pytest.mark.parametrize(
    ("old", "new", "flags", "told"),
    [
        (
            "<application",
            '<uses-permission android:name="android.permission.INTERNET" /><application',
            (),
            ["uses-permission: name='android.permission.INTERNET'"],
        ),
        ("android.intent.category.LAUNCHER", "android.intent.category.HOME", (), ["missing: launchable-activity"]),
        ("<application", "<application", ("--debug-mode",), ["application-debuggable"]),
        ('"android.permission.CAMERA"', '"android.permission.FLASHLIGHT"', (), ["missing: uses-perm", "uses-perm"]),
    ],
)
def test_another_manifest_is_noticed(build, tmp_path, old, new, flags, told):
    text = (build.source("app") / "AndroidManifest.xml").read_text(encoding="utf-8")
    assert old in text
    main = tmp_path / "main.xml"
    main.write_text(text.replace(old, new, 1), encoding="utf-8")
    merged = build.merge_manifests(tmp_path / "AndroidManifest.xml", main)
    resources = build.convert(build.link(merged, tmp_path / "linked.ap_", *flags), tmp_path / "app.ap_")
    problems = check_badging(resources, build)
    assert len(problems) == len(told)
    assert all(problem.startswith(start) for problem, start in zip(problems, told, strict=True)), problems


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("package io.github.edgeocr\nfun leak() = 1\n", "visibility must be specified"),
        ("package io.github.edgeocr\ninternal fun cast(a: Int) = a as Int\n", "warnings found and -Werror specified"),
    ],
)
def test_kotlin_is_compiled_as_gradle_does(build, tmp_path, source, told):
    (tmp_path / "New.kt").write_text(source, encoding="utf-8")
    tools = build.tools
    libraries = [tools.jar("org/jetbrains/kotlin/kotlin-stdlib"), tools.framework]
    with pytest.raises(BuildError, match=told):
        tools.kotlinc("ocr", [tmp_path / "New.kt"], libraries, tmp_path / "out.jar", "-Xexplicit-api=strict")


def test_the_tools_have_the_versions_that_gradle_uses():
    catalog = (FOLDER.parents[1] / "android_demo/gradle/libs.versions.toml").read_text(encoding="utf-8")
    versions = dict(re.findall(r'^(\w+) = "(.+)"$', catalog, re.MULTILINE))
    pom = (FOLDER / "tools" / "pom.xml").read_text(encoding="utf-8")
    assert f"<kotlin.version>{versions['kotlin']}</kotlin.version>" in pom
    assert f"<onnxruntime.version>{versions['onnxruntime']}</onnxruntime.version>" in pom
    assert f"<coroutines.version>{versions['coroutines']}</coroutines.version>" in pom
    assert f"<agp.version>{versions['agp']}</agp.version>" in pom
    first, rest = versions["agp"].split(".", 1)
    assert f"<agp.libraries.version>{int(first) + 23}.{rest}</agp.libraries.version>" in pom
    # R8 is released with AGP.
    assert f"<version>{'.'.join(versions['agp'].split('.')[:2])}.19</version>" in pom


def test_the_default_app_has_no_networks_of_another_engine(tools, export, tmp_path):
    for engine, kept in (("onnxruntime", ".onnx"), ("paddle_lite", ".nb")):
        build = Build(export("android", engine=engine).out_dir, tools, tmp_path)
        assert {Path(name).suffix for name in build.list_files()} & {".nb", ".onnx"} == {kept}
