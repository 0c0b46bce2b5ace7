"""The Android project that an export writes around a bundle: its content, and that no file of the user is lost."""

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from converters.bundle.android import project as android_project
from converters.bundle.android.record import RECORD, list_tools_folders, locate_bundle, read_record
from converters.bundle.manifest import read_schema
from converters.bundle.ownership import Contents, sort_out
from converters.bundle.reader import inspect_bundle
from converters.bundle.writer import check_out_dir, open_bundle
from converters.verify.verify import VerifyOptions, verify_bundle
from edge_ocr.errors import ModelError, ParityError, UsageError

ASSETS = "ocr/src/main/assets/edge-ocr"
APP_KOTLIN = "app/src/main/kotlin/build/A.kt"


def list_files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def replace(path, content):
    """Change the content of a file, but not of those that are linked with it."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def list_failed(folder):
    return {check.name: check.detail for check in inspect_bundle(folder).checks if not check.passed}


# --- its content


def test_the_project_is_the_sources_with_bundle_and_libraries(android_export, repository):
    out = android_export.out_dir
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "android_demo"], cwd=repository, capture_output=True, text=True
    )
    names = {name.removeprefix("android_demo/") for name in tracked.stdout.split("\n") if name}
    if tracked.returncode or not names:
        pytest.skip("this is no git checkout")
    jni = [f"ocr/src/main/jniLibs/{abi}/libpaddle_lite_jni.so" for abi in ("arm64-v8a", "armeabi-v7a")]
    models = ["models/det.nb", "models/rec.nb"]
    assets = ["LICENSES", "bom.cdx.json", "dict.txt", "golden.png", "manifest.json", *models, "pipeline.yaml"]
    added = ["README.md", RECORD, "ocr/libs/PaddlePredictor.jar", *jni, *(f"{ASSETS}/{name}" for name in assets)]
    assert list_files(out) == sorted({*names, *added})
    changed = {name for name in names if (out / name).read_bytes() != (repository / "android_demo" / name).read_bytes()}
    assert changed <= {".gitignore", "gradle.properties"}
    assert "\nedgeocr.abis=arm64-v8a,armeabi-v7a\n" in (out / "gradle.properties").read_text()
    # Exported files belong in the user's repository.
    ignored = (out / ".gitignore").read_text().split("\n")
    assert "local.properties" in ignored
    assert not [line for line in ignored if "ocr" in line]


def test_the_record_has_every_file(android_export):
    out = android_export.out_dir
    record = read_record(out)
    assert sorted([*record, RECORD]) == list_files(out)
    assert all(hashlib.sha256((out / name).read_bytes()).hexdigest() == sha256 for name, sha256 in record.items())
    assert sort_out(out, record, (RECORD,), list_tools_folders(record)) == Contents()


def test_nothing_in_it_is_of_this_machine(android_export):
    out = android_export.out_dir
    for name in list_files(out):
        content = (out / name).read_bytes()
        for place in (str(out), str(Path.home()), "/tmp/"):
            assert place.encode() not in content, name


def test_the_archive_holds_the_same(android_export):
    with zipfile.ZipFile(android_export.zip_file) as archive:
        assert sorted(archive.namelist()) == [f"project/{name}" for name in list_files(android_export.out_dir)]


def test_the_readme_leads_to_a_running_app(export, android_export):
    text = (export("android", precision="int8", engine="paddle_lite").out_dir / "README.md").read_text()
    for words in (
        "1. Paddle-Lite's library is missing",
        "   edge-ocr libs fetch --platform android.armv8 --version v2.13-rc\n",
        "   edge-ocr export --target android --engine paddle_lite --abi arm64-v8a --det-model PP-OCRv4_mobile_det"
        " --rec-model PP-OCRv4_mobile_rec --quantize int8 --force --out THIS_FOLDER\n",
        "2. Open this folder in Android Studio.",
        "3. Run `app`",
        "edge-ocr deploy THIS_FOLDER --adb",
        "`plugins` of the root `build.gradle.kts`",
        "`ocr/src/main/assets/edge-ocr`, `ocr/libs` and",
        "EdgeOcr.open(context).use { ocr ->",
        "try (EdgeOcr ocr = EdgeOcr.open(context)) {",
        "emulators on x86 cannot run the app",
        f"In `{ASSETS}/`:",
    ):
        assert words in text, words
    whole = (android_export.out_dir / "README.md").read_text()
    # Where the library looks for keys.
    sources = android_export.out_dir / "ocr/src/main/kotlin/io/github/edgeocr"
    (keys,) = re.findall(r'ASSETS_FOLDER: String = "(.+)"', (sources / "Trust.kt").read_text())
    assert f"app/src/main/assets/{keys}/KEY.pem" in whole
    assert "libs fetch" not in whole
    assert "aligned to 4096 bytes: devices with Android 15 or newer and pages of 16 KB cannot load it" in whole


@pytest.fixture
def plain(export):
    """The project that an export without options makes."""
    return export("android").out_dir


def test_nothing_is_fetched_by_hand_for_onnx_runtime(plain):
    properties = (plain / "gradle.properties").read_text()
    assert "\nedgeocr.abis=arm64-v8a,x86_64\n" in properties
    assert "\nedgeocr.engines=onnxruntime\n" in properties
    manifest = json.loads((plain / ASSETS / "manifest.json").read_bytes())
    catalog = (plain / "gradle" / "libs.versions.toml").read_text()
    version = manifest["app"].pop("onnxruntime_version")
    assert f'onnxruntime = "{version}"' in catalog
    assert manifest["app"] == {"engines": ["onnxruntime"], "abis": ["arm64-v8a", "x86_64"]}
    assert manifest["lite"]["libraries"] == {}
    assert {"onnx/det.onnx", "onnx/rec.onnx", "models/det.nb", "models/rec.nb"} <= set(manifest["files"])
    text = (plain / "README.md").read_text()
    assert "1. There is nothing to fetch by hand" in text
    assert "libs fetch" not in text
    assert "## The Paddle-Lite library" not in text
    assert not list(plain.rglob("*.so"))


def test_both_engines_need_the_library_of_one(export):
    folder = export("android", engine="both", abis=("arm64-v8a", "x86_64")).out_dir
    assert "\nedgeocr.engines=onnxruntime,paddle_lite\n" in (folder / "gradle.properties").read_text()
    manifest = json.loads((folder / ASSETS / "manifest.json").read_bytes())
    assert manifest["app"]["engines"] == ["onnxruntime", "paddle_lite"]
    assert list(manifest["lite"]["libraries"]) == ["arm64-v8a"]
    text = (folder / "README.md").read_text()
    assert "edge-ocr export --target android --engine both --abi arm64-v8a,x86_64 " in text
    assert "EngineKind.PADDLE_LITE" in text


def test_every_engine_of_the_manifest_has_a_source_folder(plain):
    schema = read_schema()["properties"]["app"]["oneOf"][1]["properties"]["engines"]["items"]["enum"]
    source = plain / "ocr/src/main/kotlin/io/github/edgeocr/EngineKind.kt"
    kinds = re.findall(r"(?m)^    (\w+)\(\"", source.read_text())
    assert [kind.lower() for kind in kinds] == schema
    for engine in schema:
        assert list((plain / "ocr/src" / engine / "kotlin").rglob("*.kt")), engine


def test_an_onnx_file_of_a_project_is_compared_with_its_graph(plain, tmp_path):
    folder = Path(shutil.copytree(plain, tmp_path / "project"))
    assert inspect_bundle(folder).bundle is not None
    assert all(check.passed for check in inspect_bundle(folder).checks)
    path = folder / ASSETS / "onnx" / "rec.onnx"
    path.write_bytes((folder / ASSETS / "onnx" / "det.onnx").read_bytes())
    assert [check.name for check in inspect_bundle(folder).checks if not check.passed] == ["onnx/rec.onnx"]


def make_sources(folder, monkeypatch):
    monkeypatch.setattr(android_project, "find_sources_folder", lambda: folder)
    for name in ("app/build.gradle.kts", "app/src/main/kotlin/build/A.kt", "ocr/build.gradle.kts", ".gitignore"):
        replace(folder / name, name.encode())
    replace(folder / "gradle.properties", b"a=b\nedgeocr.abis=x\nedgeocr.engines=y\nc=d\n")


def write_project(out, abis=("arm64-v8a",), **options):
    with open_bundle(out, inside=ASSETS, **options) as bundle:
        android_project.add_project(bundle, abis, ("onnxruntime",))
        bundle.add("models/det.nb", b"model")
        bundle.add_manifest({"edge_ocr_version": "0"})


def test_files_that_tools_left_among_the_sources_are_not_exported(tmp_path, monkeypatch):
    make_sources(tmp_path / "sources", monkeypatch)
    for name in (
        *(
            "gradlew",
            "gradlew.bat",
            "gradle/wrapper/gradle-wrapper.jar",
            "build/a",
            "app/build/outputs/app.apk",
            ".gradle/a",
            ".kotlin/a",
            ".idea/workspace.xml",
            "local.properties",
        ),
        *("ocr/ocr.iml", "ocr/libs/PaddlePredictor.jar", "ocr/src/main/jniLibs/arm64-v8a/a.so", f"{ASSETS}/old.nb"),
        *("README.md", RECORD),
    ):
        replace(tmp_path / "sources" / name, b"left")
    write_project(tmp_path / "out", ("arm64-v8a", "armeabi-v7a"))
    sources = [".gitignore", "app/build.gradle.kts", "app/src/main/kotlin/build/A.kt", "gradle.properties"]
    bundle = [f"{ASSETS}/manifest.json", f"{ASSETS}/models/det.nb"]
    assert list_files(tmp_path / "out") == sorted([*sources, "ocr/build.gradle.kts", *bundle, RECORD])
    properties = (tmp_path / "out" / "gradle.properties").read_text()
    assert properties == "a=b\nedgeocr.abis=arm64-v8a,armeabi-v7a\nedgeocr.engines=onnxruntime\nc=d\n"
    manifest = json.loads((tmp_path / "out" / ASSETS / "manifest.json").read_bytes())
    assert list(manifest["files"]) == ["models/det.nb"]


def test_an_installation_without_sources_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(android_project, "find_sources_folder", lambda: tmp_path / "none")
    with pytest.raises(ModelError, match="sources"):
        write_project(tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- the user's work


@pytest.fixture
def written(tmp_path, monkeypatch):
    make_sources(tmp_path / "sources", monkeypatch)
    write_project(tmp_path / "out")
    return tmp_path / "out"


def test_the_folder_one_is_in_is_not_replaced(written, monkeypatch):
    for place in (written, written / "app"):
        monkeypatch.chdir(place)
        with pytest.raises(UsageError, match="--out"):
            check_out_dir(written, force=True, is_project=True)
    monkeypatch.chdir(written.parent)
    check_out_dir(written, force=True, is_project=True)


def test_a_project_is_kept_without_force(written):
    before = list_files(written)
    with pytest.raises(UsageError, match="an Android project") as caught:
        write_project(written)
    assert "--force" in caught.value.hint
    assert list_files(written) == before


def test_force_replaces_a_project_in_which_nothing_is_the_users(written):
    for name in ("build/a", "app/build/outputs/app.apk", ".gradle/a", ".kotlin/a"):
        replace(written / name, b"made")
    replace(written / ".idea" / "workspace.xml", b"windows")
    replace(written / "local.properties", b"sdk.dir=/sdk")
    # `gradle wrapper` made these.
    for name in ("gradlew", "gradle/wrapper/gradle-wrapper.jar"):
        replace(written / name, b"wrapper")
    (written / "app" / "build.gradle.kts").unlink()
    write_project(written, ("armeabi-v7a",), force=True)
    names = list_files(written)
    assert "app/build.gradle.kts" in names
    assert not [name for name in names if "outputs" in name or name.startswith((".gradle/", ".kotlin/", "build/"))]
    assert "armeabi-v7a" in (written / "gradle.properties").read_text()
    # Specific to this machine, so neither in the record nor lost.
    assert (written / "local.properties").read_bytes() == b"sdk.dir=/sdk"
    assert (written / ".idea" / "workspace.xml").read_bytes() == b"windows"
    assert "local.properties" not in read_record(written)
    for name in ("gradlew", "gradle/wrapper/gradle-wrapper.jar"):
        assert (written / name).read_bytes() == b"wrapper"
    assert [path.name for path in written.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    "name",
    [
        "app/src/main/kotlin/Mine.kt",
        "app/src/main/kotlin/build/B.kt",
        f"{ASSETS}/models/mine.nb",
        "app/src/main/build/B.kt",
        "docs/build/index.html",
        "keys/release.jks",
        ".git/HEAD",
        "app/local.properties",
    ],
)
def test_what_the_user_added_is_kept(written, name):
    replace(written / name, b"mine")
    inode = (written / name).stat().st_ino
    write_project(written, force=True)
    assert (written / name).read_bytes() == b"mine"
    assert (written / name).stat().st_ino == inode
    assert name not in read_record(written)


@pytest.mark.parametrize("name", ["gradle.properties", f"{ASSETS}/models/det.nb", f"{ASSETS}/manifest.json"])
def test_what_the_user_changed_is_never_lost(written, name):
    replace(written / name, b"mine")
    before = list_files(written)
    with pytest.raises(UsageError, match="--force") as caught:
        write_project(written, force=True)
    assert caught.value.message.endswith(f": {name}")
    for part in (ASSETS, "ocr/libs", "ocr/src/main/jniLibs"):
        assert part in caught.value.hint
    assert list_files(written) == before
    assert (written / name).read_bytes() == b"mine"


def test_links_of_the_user_are_not_copied(written, tmp_path):
    (written / "linked").symlink_to(tmp_path / "sources")
    write_project(written, force=True)
    assert (written / "linked").readlink() == tmp_path / "sources"
    # It shows the right content.
    path = written / "ocr" / "build.gradle.kts"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"ocr/build\.gradle\.kts"):
        check_out_dir(written, force=True, is_project=True)


@pytest.mark.parametrize("name", ["build", ".gradle", "app/build"])
def test_a_file_with_the_name_of_a_tools_folder_is_the_users(written, tmp_path, name):
    replace(written / name, b"#!/bin/sh\nmine\n")
    write_project(written, force=True)
    assert (written / name).read_bytes() == b"#!/bin/sh\nmine\n"
    (written / name).unlink()
    (written / name).symlink_to(tmp_path)
    write_project(written, force=True)
    assert (written / name).readlink() == tmp_path


def test_links_to_files_of_this_machine_stay_links(written, tmp_path):
    replace(tmp_path / "shared" / "workspace.xml", b"windows")
    (written / ".idea").symlink_to("../shared")
    (written / "local.properties").symlink_to(tmp_path / "gone")
    write_project(written, force=True)
    assert (written / ".idea").readlink() == Path("../shared")
    assert (written / "local.properties").readlink() == tmp_path / "gone"


def test_files_that_cannot_be_kept_stop_it_and_are_named(written, monkeypatch):
    (written / ".idea").mkdir()
    os.mkfifo(written / ".idea" / "pipe")
    write_project(written, force=True)
    assert (written / ".idea" / "pipe").is_fifo()

    def refuse(source, target, **options):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(source))

    # As on a file system of Windows.
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(UsageError, match=r"\.idea/pipe: Operation not permitted"):
        write_project(written, force=True)
    assert (written / ".idea" / "pipe").is_fifo()


def test_a_large_file_of_the_user_is_not_read(written):
    with (written / "film.mp4").open("wb") as film:
        film.truncate(2**40)
    write_project(written, force=True)
    assert (written / "film.mp4").stat().st_size == 2**40


def test_the_first_few_changes_are_named(written):
    names = [name for name in sorted(read_record(written)) if not name.startswith(ASSETS)]
    assert names == [".gitignore", "app/build.gradle.kts", APP_KOTLIN, "gradle.properties", "ocr/build.gradle.kts"]
    for name in (*names, f"{ASSETS}/manifest.json", f"{ASSETS}/models/det.nb"):
        replace(written / name, b"mine")
    with pytest.raises(UsageError, match=rf": {', '.join(names[:4])}, ocr/build\.gradle\.kts and 2 more$"):
        check_out_dir(written, force=True, is_project=True)


@pytest.mark.parametrize("name", ["gradle.properties", "app/New.kt"])
def test_a_change_while_an_export_runs_is_seen(written, name):
    def export():
        with open_bundle(written, force=True, inside=ASSETS) as bundle:
            bundle.add_around("app/New.kt", b"new")
            bundle.add_manifest({"edge_ocr_version": "0"})
            replace(written / name, b"mine")

    with pytest.raises(UsageError, match=rf": {name}$"):
        export()
    assert (written / name).read_bytes() == b"mine"


@pytest.mark.parametrize("record", [None, b"", b"[]", b'{"files": []}', b"[" * 100_000])
def test_without_a_readable_record_it_is_any_folder(written, record):
    (written / RECORD).unlink()
    if record is not None:
        replace(written / RECORD, record)
    with pytest.raises(UsageError, match=r"--out .*bundle"):
        write_project(written, force=True)


def test_a_bundle_for_boards_does_not_replace_a_project(written):
    with pytest.raises(UsageError, match="an Android project, expected a bundle") as caught:
        check_out_dir(written, force=True)
    assert caught.value.hint == "give another --out"


def test_a_project_does_not_replace_the_assets_of_one(written):
    before = list_files(written)
    with pytest.raises(UsageError, match="a bundle, expected a project"):
        write_project(written / ASSETS, force=True)
    assert list_files(written) == before


def test_a_failed_project_is_kept_next_to_it_and_changed_ones_stay(written, tmp_path):
    def fail():
        with open_bundle(tmp_path / "new", inside=ASSETS) as bundle:
            android_project.add_project(bundle, ("arm64-v8a",), ("onnxruntime",))
            bundle.add_manifest({"edge_ocr_version": "0"})
            bundle.keep_failed()
            raise ParityError("it reads otherwise")

    kept = tmp_path / "new.failed"
    for _ in range(2):
        with pytest.raises(ParityError):
            fail()
        assert read_record(kept) is not None
    assert [path.name for path in tmp_path.glob("new*")] == ["new.failed"]
    replace(kept / "Mine.kt", b"mine")
    with pytest.raises(ParityError):
        fail()
    assert (kept / "Mine.kt").read_bytes() == b"mine"
    assert len(list(tmp_path.glob("new*"))) == 2


# --- projects in place of bundles


def test_a_project_is_verified_with_its_libraries(project):
    report = verify_bundle(project, VerifyOptions(images=(project / ASSETS / "golden.png",)))
    assert report.passed
    assert report.bundle == "project"
    checked = {check.name for check in report.checks}
    assert "ocr/src/main/jniLibs/armeabi-v7a/libpaddle_lite_jni.so" in checked
    assert "ocr/libs/PaddlePredictor.jar" in checked
    assert report.notes == ()


def test_the_assets_alone_are_a_bundle_without_libraries(project):
    bundle = inspect_bundle(project / ASSETS).bundle
    assert bundle.project is None
    (note,) = bundle.notes
    assert "libraries" in note
    assert locate_bundle(project) == project / ASSETS
    assert locate_bundle(project / ASSETS) == project / ASSETS


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"other", "sha256 "), (None, "cannot be read: No such file"), ("pipe", "not a file")],
)
@pytest.mark.parametrize(
    "name", ["ocr/libs/PaddlePredictor.jar", "ocr/src/main/jniLibs/arm64-v8a/libpaddle_lite_jni.so"]
)
def test_a_library_that_is_not_the_manifests_fails(project, name, content, words):
    (project / name).unlink()
    if content == "pipe":
        os.mkfifo(project / name)
    elif content is not None:
        replace(project / name, content)
    failed = list_failed(project)
    assert list(failed) == [name]
    assert words in failed[name]


def test_a_library_outside_the_project_fails(project, tmp_path):
    name = "ocr/libs/PaddlePredictor.jar"
    shutil.copy(project / name, tmp_path / "a.jar")
    (project / name).unlink()
    (project / name).symlink_to(tmp_path / "a.jar")
    assert list_failed(project) == {name: "points outside the project"}


def test_a_folder_without_a_bundle_is_not_a_project(project):
    (project / ASSETS / "manifest.json").unlink()
    with pytest.raises(ModelError, match=r"edge-ocr .*manifest\.json"):
        inspect_bundle(project)


def test_an_impossible_name_is_not_a_bundle():
    with pytest.raises(ModelError, match="File name too long"):
        inspect_bundle(Path("a" * 300))


def test_a_damaged_asset_fails(project):
    replace(project / ASSETS / "dict.txt", b"a\n")
    assert "dict.txt" in list_failed(project)


# --- the wheel


@pytest.fixture(scope="module")
def installed(repository, tmp_path_factory) -> Path:
    """The packages as a wheel installs them."""
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "site")
    return out / "site"


def test_an_installed_wheel_exports_the_same_project(installed, opt, make_home, tmp_path, repository):
    outs = []
    for name, root in (("wheel", installed), ("checkout", repository)):
        out = tmp_path / name / "project"
        command = [sys.executable, "-W", "error", "-m", "edge_ocr", "export", "--target", "android", "--out", out]
        path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
        env = {**os.environ, "PYTHONPATH": path, "EDGE_OCR_HOME": str(make_home()), "EDGE_OCR_LITE_LIB": ""}
        subprocess.run([*command, "--no-verify"], cwd=tmp_path, env=env, check=True, capture_output=True)
        outs.append({path: (out / path).read_bytes() for path in list_files(out)})
    assert outs[0] == outs[1]
    assert "app/src/main/AndroidManifest.xml" in outs[0]
