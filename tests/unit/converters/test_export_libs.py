"""Bundles with Paddle-Lite libraries: made by cross compilers from a few lines of C++."""

import json
import os
import tarfile

import pytest

from converters.bundle.android.record import locate_bundle
from converters.export import export_bundle
from converters.lite.libraries.store import add_library, list_stored
from converters.lite.toolchain import PYTHON_VARIABLE
from converters.plan import ExportOptions
from edge_ocr.config import load_config
from edge_ocr.errors import ModelError

CXX_NAME = "libpaddle_light_api_shared.so"
JNI_NAME = "libpaddle_lite_jni.so"


@pytest.fixture
def home(opt, make_home, monkeypatch):
    home = make_home()
    monkeypatch.setenv("EDGE_OCR_HOME", str(home))
    monkeypatch.setenv(PYTHON_VARIABLE, str(opt.python))
    monkeypatch.delenv("EDGE_OCR_LITE_LIB", raising=False)
    return home


def export_to(out, target="arm", **options):
    steps = []
    report = export_bundle(target, out, load_config("OCR"), ExportOptions(**options), report=steps.append)
    manifest = json.loads((locate_bundle(out) / "manifest.json").read_bytes())
    return report, manifest["lite"]["libraries"], steps


def list_libraries(out):
    found = [path for path in out.rglob("*") if path.suffix in (".so", ".jar")]
    return sorted(path.relative_to(out).as_posix() for path in found)


def test_a_given_library_goes_into_the_bundle_and_the_store(home, lite_library, tmp_path):
    library = lite_library("armv8")
    report, libraries, steps = export_to(tmp_path / "bundle", lite_lib=library)
    assert list_libraries(report.out_dir) == [f"lib/armv8/{CXX_NAME}"]
    assert (report.out_dir / "lib" / "armv8" / CXX_NAME).read_bytes() == library.read_bytes()
    assert libraries["armv8"].items() >= {"version": "v2.13-rc", "version_matches": True}.items()
    assert list_stored() == [("v2.13-rc", "armlinux.armv8")]
    text = (report.out_dir / "README.md").read_text(encoding="utf-8")
    assert f"`lib/armv8/{CXX_NAME}`, v2.13-rc." in text
    assert "libs fetch" not in text
    assert not any("libs fetch" in step for step in steps)
    # The store has it from now on.
    report, again, _ = export_to(tmp_path / "again")
    assert again == libraries


def test_a_given_archive_serves_one_of_two_abis(home, lite_library, tmp_path):
    archive = tmp_path / "inference_lite_lib.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(lite_library("armv7hf"), f"inference_lite_lib/cxx/lib/{CXX_NAME}")
    report, libraries, steps = export_to(tmp_path / "bundle", lite_lib=archive, abis=("armv8", "armv7hf"))
    assert list_libraries(report.out_dir) == [f"lib/armv7hf/{CXX_NAME}"]
    assert libraries["armv7hf"]["file"] == f"lib/armv7hf/{CXX_NAME}"
    assert libraries["armv8"]["file"] is None
    assert any("no Paddle-Lite v2.13-rc library for armv8: edge-ocr libs fetch" in step for step in steps)


def test_libraries_are_where_gradle_expects_them(home, android_folder, tmp_path):
    add_library(android_folder("armv7"))
    report, libraries, steps = export_to(
        tmp_path / "bundle",
        "android",
        abis=("arm64-v8a", "armeabi-v7a"),
        lite_lib=android_folder("armv8", page=4096),
    )
    assert list_libraries(report.out_dir) == [
        "ocr/libs/PaddlePredictor.jar",
        f"ocr/src/main/jniLibs/arm64-v8a/{JNI_NAME}",
        f"ocr/src/main/jniLibs/armeabi-v7a/{JNI_NAME}",
    ]
    assert (libraries["arm64-v8a"]["fits_16k_pages"], libraries["armeabi-v7a"]["fits_16k_pages"]) == (False, True)
    text = (report.out_dir / "README.md").read_text(encoding="utf-8")
    assert "`ocr/libs/PaddlePredictor.jar`" in text
    assert "edge-ocr libs fetch" not in text
    concern = "aligned to 4096 bytes: devices with Android 15 or newer and pages of 16 KB cannot load it"
    assert concern in text
    assert any(step.startswith("WARNING: arm64-v8a: ") and concern in step for step in steps)


def test_a_project_with_an_incomplete_library_does_not_run(home, android_folder, tmp_path):
    folder = android_folder("armv8", needs=("libc.so", "libc++_shared.so"))
    report, _, steps = export_to(tmp_path / "bundle", "android", lite_lib=folder)
    text = (report.out_dir / "README.md").read_text(encoding="utf-8")
    assert "1. Paddle-Lite's library for arm64-v8a cannot be loaded" in text
    assert "c++_static" in text
    assert any(step.startswith("WARNING: arm64-v8a: ") and "libc++_shared.so" in step for step in steps)


@pytest.mark.parametrize(
    ("arch", "options", "words", "expected"),
    [
        ("armv7hf", {}, "armlinux.armv7hf", "armlinux.armv8"),
        ("armv8", {"abis": ("armv7hf",)}, "armlinux.armv8", "armlinux.armv7hf"),
        ("armv8", {"target": "android"}, "armlinux.armv8", "android.armv8"),
    ],
)
def test_a_library_of_the_wrong_machine_is_refused(home, lite_library, tmp_path, arch, options, words, expected):
    out = tmp_path / "out" / "bundle"
    with pytest.raises(ModelError, match=f"{words}, expected .*{expected}"):
        export_to(out, lite_lib=lite_library(arch), **options)
    assert list_stored() == [], "what does not fit the bundle must not replace what is stored"
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\x3e\0\1\0\0\0" + bytes(40), "machine X86_64, expected AARCH64 or ARM"),
        (b"\x7fELF", "ELF"),
        (b"PK\3\4", "50 4b 03 04"),
        (None, CXX_NAME),
    ],
)
def test_an_invalid_library_is_refused(home, tmp_path, content, words):
    path = tmp_path / CXX_NAME
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=words):
        export_to(tmp_path / "bundle", lite_lib=path)
    assert not (tmp_path / "bundle").exists()


def test_a_library_of_another_version_is_refused_unless_allowed(home, lite_library, tmp_path):
    old = lite_library("armv8", version="v2.12")
    with pytest.raises(ModelError, match=r"v2\.12, expected v2\.13-rc") as caught:
        export_to(tmp_path / "bundle", lite_lib=old)
    assert "--allow-version-mismatch" in caught.value.hint
    assert list_stored() == []

    report, libraries, steps = export_to(tmp_path / "bundle", lite_lib=old, allow_version_mismatch=True)
    assert (libraries["armv8"]["version"], libraries["armv8"]["version_matches"]) == ("v2.12", False)
    (loud,) = [step.removeprefix("WARNING: armv8: ") for step in steps if "VERSION MISMATCH" in step]
    assert "v2.12" in loud
    assert f"**{loud}**" in (report.out_dir / "README.md").read_text(encoding="utf-8")

    # Allowing it once does not allow it for the next bundle.
    with pytest.raises(ModelError, match=r"armv8 .*v2\.12, .* v2\.13-rc") as caught:
        export_to(tmp_path / "next")
    fetch = "edge-ocr libs fetch --platform armlinux.armv8 --version v2.13-rc --force"
    assert fetch in caught.value.hint
    assert not (tmp_path / "next").exists()


def test_the_library_of_the_environment_is_used(home, lite_library, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_LITE_LIB", str(lite_library("armv8")))
    report, libraries, _ = export_to(tmp_path / "bundle")
    assert libraries["armv8"]["file"] == f"lib/armv8/{CXX_NAME}"
    monkeypatch.setenv("EDGE_OCR_LITE_LIB", str(lite_library("armv8", version="v2.12")))
    with pytest.raises(ModelError, match="EDGE_OCR_LITE_LIB="):
        export_to(tmp_path / "other", allow_version_mismatch=True)
    assert list_libraries(report.out_dir) == [f"lib/armv8/{CXX_NAME}"]


def test_a_bundle_with_libraries_is_the_same_twice(home, android_folder, tmp_path):
    add_library(android_folder("armv8"))
    zips = [export_to(tmp_path / name / "bundle", "android", engine="both", zip=True)[0].zip_file for name in "ab"]
    # The .jar was written with a fixed time; a library's own time and permissions must not matter.
    assert zips[0].read_bytes() == zips[1].read_bytes()
    folder = tmp_path / "a" / "bundle" / "ocr" / "src" / "main" / "jniLibs" / "arm64-v8a"
    assert not os.access(folder / JNI_NAME, os.X_OK)


def test_the_cxx_library_alone_is_not_enough_for_an_app(home, lite_library, tmp_path):
    library = lite_library("armv8", android=True)
    report, libraries, steps = export_to(tmp_path / "bundle", "android", lite_lib=library)
    assert list_libraries(report.out_dir) == []
    assert libraries["arm64-v8a"]["file"] is None
    assert "WARNING: arm64-v8a: java/so/libpaddle_lite_jni.so" in " ".join(steps)
