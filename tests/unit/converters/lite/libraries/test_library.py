"""Which libraries fit a platform and a version, and what is reported about them."""

from __future__ import annotations

import json
import shutil
import tarfile

import pytest

from converters.lite.libraries.platforms import asset_url
from converters.lite.libraries.store import add_library, find_library
from edge_ocr.errors import ModelError, UsageError

EXTRA = "\\nError: This model is not supported, because operator '"


BASIC = "ops, which is marked with `with_extra`. Current lib"


def test_the_cxx_runtime_is_found_at_each_place(write_archive, android_files, jni, cxx_runtime, tmp_path):
    # Next to the C++ library, as in some archives, and next to a library without headers.
    android_files["cxx/lib/libc++_shared.so"] = android_files.pop("java/so/libc++_shared.so")
    archive = write_archive(tmp_path, android_files)
    assert add_library(archive).cxx_runtime is not None
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    assert add_library(tmp_path / "unpacked", force=True).cxx_runtime is not None
    alone = tmp_path / "libpaddle_lite_jni.so"
    shutil.copy(jni(), alone)
    shutil.copy(cxx_runtime(), tmp_path / "libc++_shared.so")
    assert add_library(alone, force=True).cxx_runtime is not None


def test_the_cxx_runtime_of_the_environment(jni, cxx_runtime, tmp_path, monkeypatch):
    alone = tmp_path / "libpaddle_lite_jni.so"
    shutil.copy(jni(), alone)
    monkeypatch.setenv("EDGE_OCR_LITE_LIB", str(alone))
    assert any("needs libc++_shared.so" in concern for concern in find_library("android.armv8").concerns)
    shutil.copy(cxx_runtime(), tmp_path / "libc++_shared.so")
    library = find_library("android.armv8")
    assert library.cxx_runtime == tmp_path / "libc++_shared.so"
    assert not any("libc++_shared.so" in concern for concern in library.concerns)


def test_a_cxx_runtime_that_is_not_needed_stays_out(write_archive, android_files, build, jni, tmp_path):
    bionic = build(system=None, source="", soname="libc.so", texts=())
    alone = jni(system=None, flags=("-Wl,--no-as-needed", str(bionic)))
    android_files["java/so/libpaddle_lite_jni.so"] = alone.read_bytes()
    library = add_library(write_archive(tmp_path, android_files))
    assert library.info.needed == ("libc.so",)
    assert (library.cxx_runtime, library.concerns) == (None, ())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda build, runtime: runtime("armv7"), r"libc\+\+_shared\.so: .*armv7, expected armv8"),
        (lambda build, runtime: build(system="android"), "NDK"),
        (lambda build, runtime: build(soname="libc++_shared.so"), "NDK"),
        (lambda build, runtime: None, r"libc\+\+_shared\.so: .*ELF"),
    ],
)
def test_an_invalid_cxx_runtime_is_refused(
    write_archive, assert_store_empty, android_files, build, cxx_runtime, tmp_path, home, make, message
):
    made = make(build, cxx_runtime)
    android_files["java/so/libc++_shared.so"] = b"text" if made is None else made.read_bytes()
    with pytest.raises(ModelError, match=message):
        add_library(write_archive(tmp_path, android_files))
    assert_store_empty(home)


def test_a_cxx_runtime_of_small_pages_is_named(write_archive, android_files, cxx_runtime, tmp_path):
    android_files["java/so/libc++_shared.so"] = cxx_runtime(page=4096).read_bytes()
    (concern,) = add_library(write_archive(tmp_path, android_files)).concerns
    assert all(words in concern for words in ("libc++_shared.so", "16384", "Android 15"))


WANTS = {
    "of the C library": 'extern "C" int* __errno_location(); extern "C" int* use() { return __errno_location(); }',
    "of libstdc++": 'extern "C" void _ZNSt7__cxx116stringE(); extern "C" void use() { _ZNSt7__cxx116stringE(); }',
}


@pytest.mark.parametrize("what", WANTS)
def test_a_library_with_symbols_that_android_lacks_is_refused(assert_store_empty, jni, home, what):
    with pytest.raises(ModelError, match=r"__errno_location|_ZNSt7__cxx11\w+"):
        add_library(jni(more=WANTS[what]))
    assert_store_empty(home)


def test_a_library_that_the_app_must_contain_is_named(build, jni):
    other = build(system=None, source="", soname="libopencv_java4.so", texts=())
    concerns = add_library(jni(flags=("-Wl,--no-as-needed", str(other)))).concerns
    (concern,) = [concern for concern in concerns if "libopencv" in concern]
    assert concern.startswith("libpaddle_lite_jni.so needs libopencv_java4.so, ")


def test_jni_library_for_linux_is_refused(jni):
    with pytest.raises(ModelError, match=r"armlinux\.armv8 \(JNI\)"):
        add_library(jni(system="armlinux"))


def test_soft_float_linux_is_refused(build):
    # There is no soft-float C library to link here: the requested platform decides.
    path = build("armv7", system=None)
    assert add_library(path).platform == "android.armv7"
    with pytest.raises(ModelError, match=r"armv7, expected armlinux\.armv7hf"):
        add_library(path, platform="armlinux.armv7hf")


@pytest.mark.parametrize(
    ("arch", "system", "platform"),
    [
        ("armv8", "armlinux", "armlinux.armv7hf"),
        ("armv7hf", "armlinux", "armlinux.armv8"),
        ("armv8", "armlinux", "android.armv8"),
        ("armv8", "android", "armlinux.armv8"),
        ("armv7", "android", "armlinux.armv7hf"),
    ],
)
def test_wrong_platform(assert_store_empty, build, home, arch, system, platform):
    with pytest.raises(ModelError, match=rf"{system}\.{arch}, expected {platform}$") as caught:
        add_library(build(arch, system=system), platform=platform)
    assert asset_url(platform) in caught.value.hint
    assert_store_empty(home)


def test_library_that_does_not_name_its_system(build):
    path = build(system=None)
    with pytest.raises(UsageError, match=str(path)) as caught:
        add_library(path)
    assert "--platform armlinux.armv8 or android.armv8" in caught.value.hint
    assert add_library(path, platform="android.armv8").platform == "android.armv8"


def test_archive_of_two_machines(write_archive, assert_store_empty, android_files, jni, tmp_path, home):
    android_files["java/so/libpaddle_lite_jni.so"] = jni("armv7").read_bytes()
    with pytest.raises(ModelError, match=r"android\.armv7 \(JNI\) and android\.armv8"):
        add_library(write_archive(tmp_path, android_files))
    assert_store_empty(home)


def test_wrong_library_at_a_place(write_archive, android_files, build, tmp_path):
    android_files["java/so/libpaddle_lite_jni.so"] = build(system="android").read_bytes()
    with pytest.raises(ModelError, match=r"java/so/libpaddle_lite_jni\.so: .*cxx .*expected .*jni"):
        add_library(write_archive(tmp_path, android_files))


@pytest.mark.parametrize(
    ("jar", "message"),
    [(b"no zip", r"java/jar/PaddlePredictor\.jar: .*zip"), (("Other.class",), "com/baidu/paddle/lite/PaddlePredictor")],
)
def test_broken_jar(make_jar, write_archive, assert_store_empty, android_files, tmp_path, home, jar, message):
    android_files["java/jar/PaddlePredictor.jar"] = jar if isinstance(jar, bytes) else make_jar(jar)
    with pytest.raises(ModelError, match=message):
        add_library(write_archive(tmp_path, android_files))
    assert_store_empty(home)


@pytest.mark.parametrize(
    ("texts", "told", "actual"),
    [
        (("\\0v2.12",), "Paddle-Lite v2.12", "v2.12"),
        (("\\0v2.12", "\\0v2.13-rc"), "v2.12, v2.13-rc", None),
        ((), "version", None),
    ],
)
def test_another_version(assert_store_empty, build, home, texts, told, actual):
    path = build(texts=(*texts, EXTRA))
    with pytest.raises(ModelError, match=rf"{told}, expected v2\.13-rc$") as caught:
        add_library(path)
    assert "--allow-version-mismatch" in caught.value.hint
    assert asset_url("armlinux.armv8") in caught.value.hint
    assert_store_empty(home)
    library = add_library(path, allow_version_mismatch=True)
    assert (library.version, library.actual_version, library.version_matches) == ("v2.13-rc", actual, False)
    assert library.concerns[0].startswith("VERSION MISMATCH: ")
    assert (actual or "unknown version") in library.concerns[0]
    assert json.loads((library.folder / "source.json").read_text())["version_mismatch_allowed"] is True
    # It was allowed once, for this one, and always reports it.
    assert find_library("armlinux.armv8") == library


def test_its_own_version(build):
    library = add_library(build(texts=("\\0v2.12", EXTRA)), version="2.12")
    assert library.folder.parent.name == "v2.12"
    assert library.version_matches
    assert find_library("armlinux.armv8") is None
    assert find_library("armlinux.armv8", "2.12") == library


def test_libraries_of_two_versions_in_one_archive(write_archive, android_files, jni, tmp_path):
    android_files["java/so/libpaddle_lite_jni.so"] = jni(texts=("\\0v2.12", EXTRA)).read_bytes()
    with pytest.raises(ModelError, match=r"v2\.12, v2\.13-rc"):
        add_library(write_archive(tmp_path, android_files))


def test_one_known_version_counts_for_both(write_archive, android_files, jni, tmp_path):
    android_files["java/so/libpaddle_lite_jni.so"] = jni(texts=(EXTRA,)).read_bytes()
    assert add_library(write_archive(tmp_path, android_files)).version_evidence == "library"


def test_concerns(build, jni):
    library = add_library(build(texts=("\\0v2.13-rc", BASIC), page=4096, soname="libother.so", system="android"))
    expected = ("without `with_extra`", "libother.so", "4096", "java/so/libpaddle_lite_jni.so")
    for words, concern in zip(expected, library.concerns, strict=True):
        assert words in concern
    assert "Android 15" in library.concerns[2]
    # No 32-bit device has such pages.
    assert not any("aligned" in concern for concern in add_library(jni("armv7", page=4096)).concerns)
    concerns = add_library(build(texts=("\\0v2.13-rc",), page=4096), force=True).concerns
    assert "`with_extra`" in concerns[0]
    assert "Raspberry Pi 5" in concerns[1]
