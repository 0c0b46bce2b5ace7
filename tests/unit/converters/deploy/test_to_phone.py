"""Deployments to a simulated phone: programs called adb, gradle and java answer like the real ones."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from converters.deploy import to_phone as deploy_android
from converters.deploy.to_phone import deploy_app, plan_app
from edge_ocr.errors import ModelError, NotVerifiedError, ParityError, ToolchainError, UsageError

STAND_IN = Path(__file__).parents[2] / "stand_in"
ASSETS = Path("ocr/src/main/assets/edge-ocr")
PHONE = "1A2B3C4D\tdevice"
PROPERTIES = "35\narm64-v8a,armeabi-v7a,armeabi\nGoogle\nPixel 8\n4096\n"
STARTED = """\
Stopping: io.github.edgeocr.demo
Starting: Intent { act=io.github.edgeocr.demo.SELF_TEST cmp=io.github.edgeocr.demo/.SelfTestActivity (has extras) }
"""
DONE = "Performing Streamed Install\nSuccess\n"


class Phone:
    """The scenario that the programs follow."""

    def __init__(self, project: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.project = project
        self.bin = folder / "bin"
        self.place = folder / "adb.json"
        self.bin.mkdir()
        for name in ("env", "uname"):
            (self.bin / name).symlink_to(shutil.which(name))
        for name in ("adb", "gradle"):
            self.put(name, f"#!{sys.executable}\n" + (STAND_IN / f"{name}.py").read_text(encoding="utf-8"))
        self.put_java("17.0.15")
        (folder / "sdk").mkdir()
        monkeypatch.setenv("PATH", str(self.bin))
        monkeypatch.setenv("ANDROID_HOME", str(folder / "sdk"))
        monkeypatch.setenv("FAKE_ADB", str(self.place))
        monkeypatch.setenv("FAKE_GRADLE", "8.14.3")
        monkeypatch.setenv("FAKE_BUILD", "builds")
        monkeypatch.setenv("GRADLE_USER_HOME", str(folder / "gradle"))
        for name in ("ANDROID_SDK_ROOT", "ANDROID_SERIAL", "JAVA_HOME"):
            monkeypatch.delenv(name, raising=False)
        self.manifest = json.loads((project / ASSETS / "manifest.json").read_bytes())
        self.result = {
            "edge_ocr": "selftest",
            "token": "TOKEN",
            "passed": True,
            "error": None,
            "engine": "paddle_lite",
            "engine_version": "v2.13-rc",
            "manifest_sha256": hashlib.sha256((project / ASSETS / "manifest.json").read_bytes()).hexdigest(),
            "device": {"manufacturer": "Google", "model": "Pixel 8", "sdk": 35, "abi": "arm64-v8a"},
            "threads": 4,
            "power_mode": "NO_BIND",
            "load_ms": 120.5,
            "timings_ms": {"bitmap": 1.5, "detection": 80.25, "recognition": 60.0},
            "problems": [],
            "lines": json.loads(json.dumps(self.manifest["golden"]["lines"])),
        }
        self.play()

    def put(self, name: str, script: str) -> None:
        (self.bin / name).write_text(script, encoding="utf-8")
        (self.bin / name).chmod(0o755)

    def put_java(self, version: str) -> None:
        self.put("java", f'#!/bin/sh\n[ "$1" = -version ] && echo \'openjdk version "{version}" 2025-04-15\' >&2\n')

    def play(self, **changes: object) -> None:
        """Set its answers; without changes, those of a phone on which all goes well."""
        usual = {
            "devices": [PHONE],
            "properties": PROPERTIES,
            "install": DONE,
            "start": STARTED,
            "pidof": "4242\n",
            "log": [
                '{"token":"another"}',
                "{TOKEN",
                json.dumps(self.result, separators=(",", ":"), ensure_ascii=False),
            ],
            "log_ends": False,
        }
        self.place.write_text(json.dumps({**usual, **changes}), encoding="utf-8")

    @property
    def calls(self) -> list[list[str]]:
        path = self.place.with_suffix(".calls")
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


@pytest.fixture
def phone(project, tmp_path, monkeypatch) -> Phone:
    return Phone(project, tmp_path, monkeypatch)


@pytest.fixture
def onnx_phone(export, tmp_path, monkeypatch) -> Phone:
    """The same with a project for ONNX Runtime."""
    project = shutil.copytree(export("android").out_dir, tmp_path / "project", copy_function=os.link)
    return Phone(project, tmp_path, monkeypatch)


def refuse(phone, kind, words, **options):
    with pytest.raises(kind, match=words) as caught:
        deploy_app(phone.project, **options)
    assert type(caught.value) is kind
    return caught.value.hint or ""


def test_an_app_is_built_installed_and_compared(phone):
    steps = []
    done = deploy_app(phone.project, report=steps.append)
    assert done.verdict == "4 lines read as expected, corners within 0.0 px, scores within 0.0000"
    assert steps == [
        "Google Pixel 8: Android API 35, arm64-v8a, armeabi-v7a, armeabi, 1A2B3C4D",
        "building; the first build downloads what Gradle needs",
        "installing 0.0 MB",
        "reading the golden picture on the phone",
    ]
    content = json.loads(json.dumps(done.to_json()))
    assert content["device"] == {
        "serial": "1A2B3C4D",
        "name": "Google Pixel 8",
        "sdk": 35,
        "abi": "arm64-v8a",
        "page_size_bytes": 4096,
    }
    assert (content["lines"], content["load_ms"], content["threads"], content["notes"]) == (4, 120.5, 4, [])
    assert content["timings_ms"]["detection"] == 80.25
    assert content["manifest_sha256"] == phone.result["manifest_sha256"]
    # The log is the user's.
    assert not [call for call in phone.calls if "-c" in call]
    # What follows the log has ended.
    with pytest.raises(ProcessLookupError):
        os.kill(int(phone.place.with_suffix(".pid").read_text()), 0)


@pytest.mark.parametrize(
    ("properties", "abi"),
    [
        ("36\narm64-v8a\nGoogle\nPixel 9\n16384\n", "arm64-v8a"),
        ("36\nx86_64,arm64-v8a\nGoogle\nsdk_gphone64_x86_64\n16384\n", "x86_64"),
    ],
)
def test_an_app_with_onnx_runtime_needs_no_library(onnx_phone, properties, abi):
    onnx_phone.result |= {"engine": "onnxruntime", "engine_version": "1.28.0"}
    onnx_phone.play(properties=properties)
    done = deploy_app(onnx_phone.project)
    assert (done.abi, done.engine) == (abi, "onnxruntime 1.28.0")
    assert plan_app(onnx_phone.project).abis == ("arm64-v8a", "x86_64")


def test_an_abi_that_only_onnx_runtime_has_is_offered(onnx_phone):
    onnx_phone.play(properties="35\nx86\nA\nB\n4096\n")
    assert "--abi x86" in refuse(onnx_phone, ModelError, "x86, the project is for arm64-v8a, x86_64")


# --- the project


def test_a_bundle_alone_and_one_for_boards_are_refused(phone, export):
    with pytest.raises(UsageError, match="expected an Android project"):
        plan_app(phone.project / ASSETS)
    with pytest.raises(UsageError, match="arm, expected an Android project") as caught:
        plan_app(export().out_dir)
    assert "--ssh" in caught.value.hint


def test_a_project_without_libraries_is_refused(export):
    with pytest.raises(ModelError, match="arm64-v8a") as caught:
        plan_app(export("android", engine="paddle_lite").out_dir)
    assert "edge-ocr libs fetch --platform android.armv8" in caught.value.hint
    assert "edge-ocr export --target android --engine paddle_lite --abi arm64-v8a --force --out" in caught.value.hint
    with pytest.raises(ModelError) as caught:
        plan_app(export("android", engine="both").out_dir)
    assert "--engine both --abi arm64-v8a,x86_64 --force" in caught.value.hint


def test_the_way_to_a_library_keeps_the_precision(export, tmp_path):
    folder = tmp_path / "my app"
    shutil.copytree(export("android", precision="int8", engine="paddle_lite").out_dir, folder)
    with pytest.raises(ModelError) as caught:
        plan_app(folder)
    assert caught.value.hint.endswith(f"--abi arm64-v8a --quantize int8 --force --out '{folder}'")


def edit_manifest(phone, edit):
    path = phone.project / ASSETS / "manifest.json"
    edit(phone.manifest)
    # It would show that a hash was changed (test_sbom.py).
    phone.manifest["files"].pop("bom.cdx.json", None)
    path.unlink()
    path.write_text(json.dumps(phone.manifest), encoding="utf-8")
    phone.result["manifest_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    phone.play()


def test_a_project_without_java_classes_is_refused(phone):
    edit_manifest(phone, lambda manifest: manifest["lite"]["libraries"]["armeabi-v7a"].pop("companions"))
    refuse(phone, ModelError, r"PaddlePredictor\.jar for armeabi-v7a")


@pytest.fixture
def needy_library(lite_library) -> Path:
    return lite_library("armv8", jni=True, needs=("libc.so", "libc++_shared.so"))


# The library first: with the simulated phone, PATH has no compiler.
def test_a_library_that_needs_another_is_refused(needy_library, phone):
    name = "ocr/src/main/jniLibs/arm64-v8a/libpaddle_lite_jni.so"
    (phone.project / name).unlink()
    shutil.copy(needy_library, phone.project / name)
    sha256 = hashlib.sha256(needy_library.read_bytes()).hexdigest()
    edit_manifest(phone, lambda manifest: manifest["lite"]["libraries"]["arm64-v8a"].update(sha256=sha256))
    hint = refuse(phone, ModelError, r"arm64-v8a needs libc\+\+_shared\.so")
    assert "README" in hint


def test_a_damaged_project_is_refused_before_anything_starts(phone):
    library = phone.project / "ocr/src/main/jniLibs/arm64-v8a/libpaddle_lite_jni.so"
    library.unlink()
    refuse(phone, ParityError, r"libpaddle_lite_jni\.so: .*No such file")
    assert phone.calls == []


# --- tools


def test_every_missing_tool_is_named_at_once(phone, monkeypatch):
    for name in ("adb", "gradle", "java"):
        (phone.bin / name).unlink()
    monkeypatch.delenv("ANDROID_HOME")
    hint = refuse(phone, ToolchainError, "building the app needs the Android SDK .*; adb; Java 17 .*; Gradle 8.13 or")
    for words in ("ANDROID_HOME", "apt-get install adb", "openjdk-17-jdk", "gradle.org/releases"):
        assert words in hint


def test_an_sdk_in_a_folder_with_an_umlaut(phone, tmp_path):
    (tmp_path / "jürgen").mkdir()
    # As Java's Properties write it.
    (phone.project / "local.properties").write_text(f"sdk.dir={tmp_path}/j\\u00fcrgen\n", encoding="utf-8")
    assert plan_app(phone.project).missing == ()


def test_adb_of_the_sdk_is_used_too(phone, tmp_path):
    tools = tmp_path / "sdk" / "platform-tools"
    tools.mkdir()
    (phone.bin / "adb").rename(tools / "adb")
    assert deploy_app(phone.project).lines == 4


@pytest.mark.parametrize(
    ("properties", "found"),
    [
        ("# by Android Studio\nsdk.dir=SDK\n", True),
        ("sdk.dir = /C\\:/no sdk\n", False),
        ("sdk.dir=\n", True),
    ],
)
def test_the_sdk_is_where_gradle_looks(phone, tmp_path, monkeypatch, properties, found):
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path / ("gone" if "SDK" in properties else "sdk")))
    text = properties.replace("SDK", str(tmp_path / "sdk").replace("/", "\\/"))
    (phone.project / "local.properties").write_text(text, encoding="utf-8")
    missing = plan_app(phone.project).missing
    assert not missing if found else "sdk.dir is /C:/no sdk: no such folder" in missing[0][0]


@pytest.mark.parametrize(
    ("version", "words"),
    [
        *(("1.8.0_401", "java is 8"), ("11.0.2", "java is 11"), ("25", "java is 25")),
        ("x", "java is of unknown version"),
    ],
)
def test_an_unfit_java_is_refused(phone, version, words):
    phone.put_java(version)
    hint = refuse(phone, ToolchainError, rf"needs Java 17 to 24 \(.*{words}\)$")
    assert "JAVA_HOME" in hint


def test_a_newer_java_works_too(phone):
    phone.put_java("24.0.1")
    assert plan_app(phone.project).missing == ()


@pytest.mark.parametrize("version", ["8.12.1", "9.0.0", "7.6", "x"])
def test_another_gradle_is_refused(phone, monkeypatch, version):
    monkeypatch.setenv("FAKE_GRADLE", version)
    refuse(phone, ToolchainError, r"needs Gradle 8\.13 or a later 8\.x \(.*gradle ")


@pytest.mark.parametrize("version", ["8.13", "8.14.3"])
def test_a_gradle_of_the_project_comes_first(phone, monkeypatch, version):
    monkeypatch.setenv("FAKE_GRADLE", version)
    (phone.bin / "gradle").rename(phone.project / "gradlew")
    assert deploy_app(phone.project).lines == 4


def test_a_gradle_that_android_studio_fetched_comes_before_that_of_the_path(phone, tmp_path, monkeypatch):
    properties = phone.project / "gradle" / "wrapper" / "gradle-wrapper.properties"
    properties.unlink(missing_ok=True)
    properties.parent.mkdir(parents=True, exist_ok=True)
    properties.write_text("distributionUrl=https\\://x.example/distributions/gradle-8.14.3-bin.zip\n", encoding="utf-8")
    fetched = tmp_path / "gradle" / "wrapper" / "dists" / "gradle-8.14.3-bin" / "0a1b" / "gradle-8.14.3" / "bin"
    fetched.mkdir(parents=True)
    shutil.copy2(phone.bin / "gradle", fetched)
    # Such as Debian's.
    phone.put("gradle", "#!/bin/sh\necho Gradle 4.4.1\n")
    assert deploy_app(phone.project).lines == 4
    (fetched / "gradle").chmod(0o644)
    refuse(phone, ToolchainError, r"needs Gradle 8\.13 .*is 4\.4\)")


def test_gradle_always_runs_in_a_utf8_locale(phone):
    phone.put("gradle", '#!/bin/sh\n[ "$LC_ALL" = C.UTF-8 ] || exit 9\n[ "$1" != --version ] || echo Gradle 8.14\n')
    refuse(phone, ToolchainError, r"Gradle made no app/build")


def test_folders_with_blanks_and_umlauts(phone, tmp_path):
    phone.project = phone.project.rename(tmp_path / "mein Léser ü")
    assert deploy_app(phone.project).lines == 4


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("fails", r": Execution failed for task ':ocr:checkPaddleLite'\. > ocr lacks libs/\S+; this"),
        ("does nothing", r"Gradle made no app/build/outputs/apk/debug/app-debug\.apk"),
    ],
)
def test_a_build_that_fails_says_why(phone, monkeypatch, outcome, words):
    monkeypatch.setenv("FAKE_BUILD", outcome)
    hint = refuse(phone, ToolchainError, words)
    assert hint.endswith("gradle :app:assembleDebug")


def test_a_build_that_never_ends_is_ended(phone, monkeypatch):
    monkeypatch.setattr("converters.deploy.android_tools.BUILD_TIMEOUT_S", 0.2)
    phone.put("gradle", '#!/bin/sh\n[ "$1" != --version ] || { echo "Gradle 8.14"; exit; }\nexec /bin/sleep 30\n')
    refuse(phone, ToolchainError, r"did not end within 0\.2 s")


# --- the device


@pytest.mark.parametrize(
    ("devices", "kind", "words", "hint"),
    [
        ([], ToolchainError, "adb sees no device", "USB debugging"),
        (["A\tunauthorized"], ToolchainError, "A: adb cannot use it: unauthorized", "Allow USB debugging"),
        (["A\toffline"], ToolchainError, "A: adb cannot use it: offline", "adb reconnect"),
        (["A\tno permissions (user in plugdev group)"], ToolchainError, "no permissions", "udev"),
        (["A\trecovery"], ToolchainError, "A: adb cannot use it: recovery", "start Android"),
        ([PHONE, "emulator-5554\tdevice"], UsageError, "several devices: 1A2B3C4D, emulator-5554", "--serial 1A2B3C4D"),
    ],
)
def test_devices_that_cannot_be_used(phone, devices, kind, words, hint):
    phone.play(devices=devices)
    assert hint in refuse(phone, kind, words)


def test_a_device_is_chosen(phone, monkeypatch):
    phone.play(devices=["A\toffline", PHONE])
    assert deploy_app(phone.project).device.serial == "1A2B3C4D"
    phone.play(devices=["emulator-5554\tdevice", PHONE])
    assert deploy_app(phone.project, "emulator-5554").device.serial == "emulator-5554"
    assert "emulator-5554, 1A2B3C4D" in refuse(phone, ToolchainError, "no device other", serial="other")
    # adb's own variable.
    monkeypatch.setenv("ANDROID_SERIAL", "1A2B3C4D")
    assert deploy_app(phone.project).device.serial == "1A2B3C4D"
    monkeypatch.setenv("ANDROID_SERIAL", "")
    phone.play()
    assert deploy_app(phone.project).device.serial == "1A2B3C4D"


@pytest.mark.parametrize(
    ("properties", "kind", "words", "hint"),
    [
        ("23\narm64-v8a\nA\nB\n4096\n", ToolchainError, "A B has Android API 23, expected 24 or newer", "newer phone"),
        ("35\nx86_64,x86\nA\nB\n4096\n", ModelError, "x86_64, x86, .*arm64-v8a, arm", "--abi x86_64"),
        ("35\nriscv64\nA\nB\n4096\n", ModelError, "riscv64, .*arm64-v8a, arm", "another device"),
        ("35\narm64-v8a\nA\nB\n16384\n", ModelError, "16384 .*arm64-v8a", "16384"),
        ("", ToolchainError, "^1A2B3C4D: ", "Android"),
        ("many\narm64-v8a\nA\nB\n4096\n", ToolchainError, "^1A2B3C4D: ", "Android"),
    ],
)
def test_devices_that_the_project_is_not_for(phone, properties, kind, words, hint):
    phone.play(properties=properties)
    assert hint in refuse(phone, kind, words)


def test_a_missing_abi_is_named(phone):
    edit_manifest(phone, lambda manifest: manifest["app"].update(abis=["arm64-v8a"]))
    phone.play(properties="28\narmeabi-v7a,armeabi\nA\nB\n\n")
    hint = refuse(phone, ModelError, "A B .*armeabi-v7a, armeabi, .*arm64-v8a$")
    assert "edge-ocr export --target android --abi armeabi-v7a" in hint


def test_an_app_of_an_older_edge_ocr_has_paddle_lite(phone):
    edit_manifest(phone, lambda manifest: manifest.pop("app"))
    assert plan_app(phone.project).abis == ("arm64-v8a", "armeabi-v7a")
    phone.play(properties="28\nx86_64\nA\nB\n\n")
    refuse(phone, ModelError, "A B runs x86_64, the project is for arm64-v8a, armeabi-v7a$")


def test_an_old_phone_that_does_not_report_its_page_size(phone):
    phone.play(properties="24\r\narmeabi-v7a,armeabi\r\nA\r\nB\r\n\r\n")
    done = deploy_app(phone.project)
    assert (done.abi, done.device.page_size_bytes) == ("armeabi-v7a", None)


def test_large_pages_and_an_aligned_library(phone):
    edit_manifest(phone, lambda manifest: manifest["lite"]["libraries"]["arm64-v8a"].update(fits_16k_pages=True))
    phone.play(properties=PROPERTIES.replace("4096", "16384"))
    assert deploy_app(phone.project).device.page_size_bytes == 16384


@pytest.mark.parametrize(
    ("said", "words", "hint"),
    [
        (
            "adb: failed to install app-debug.apk: Failure [INSTALL_FAILED_UPDATE_INCOMPATIBLE: Existing package "
            "io.github.edgeocr.demo signatures do not match newer version; ignoring!]\n",
            "INSTALL_FAILED_UPDATE_INCOMPATIBLE: Existing package",
            "adb uninstall io.github.edgeocr.demo",
        ),
        ("Failure [INSTALL_FAILED_INSUFFICIENT_STORAGE]\n", "INSTALL_FAILED_INSUFFICIENT_STORAGE$", "space"),
        ("adb: device went away\n", "ended with exit code 1: adb: device went away", ""),
    ],
)
def test_an_app_that_is_not_installed(phone, said, words, hint):
    phone.play(install=said)
    assert hint in refuse(phone, ToolchainError, words)


# --- the self-test


def test_another_text_is_a_difference(phone):
    phone.result["lines"][1]["text"] = "CAMELLIA"
    phone.play()
    refuse(phone, ParityError, r"golden\.png: line 2 of 4 reads 'CAMELLIA', expected 'CAMELLIABOOKS&CAFE'")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines.pop(), "line 4 of 4 reads 'nothing'"),
        (lambda lines: lines[0]["polygon"][0].__setitem__(0, 200), r"corners .* \d+\.\d px, expected at most"),
        (lambda lines: lines[0].update(rec_score=0.5), r"scores .* 0\.4"),
    ],
)
def test_other_lines_corners_and_scores_are_differences(phone, change, words):
    change(phone.result["lines"])
    phone.play()
    refuse(phone, ParityError, words)


def test_a_failure_that_only_the_app_sees_is_one(phone):
    phone.result.update(passed=False, problems=["golden.png: line 9 of 9 reads nothing"])
    phone.play()
    refuse(phone, ParityError, "own self-test failed: golden.png: line 9 of 9 reads nothing")


def test_lines_that_did_not_fit_are_counted(phone):
    phone.result["lines"] = phone.result["lines"][:2]
    phone.result["lines_omitted"] = 2
    phone.play()
    done = deploy_app(phone.project)
    assert done.lines == 4
    (note,) = done.notes
    assert "last 2 lines" in note
    phone.result["lines_omitted"] = 1
    phone.play()
    refuse(phone, ParityError, "line 3 of 4 reads 'nothing'")


def test_without_a_golden_result_nothing_is_verified(phone):
    edit_manifest(phone, lambda manifest: manifest.update(golden=None))
    refuse(phone, NotVerifiedError, "the bundle has no golden result to compare with")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"error": "the library is of v2.12; export again"}, "the app could not test itself: the library is of v2.12"),
        ({"manifest_sha256": "0" * 64}, "sha256 .* 0000"),
        ({"manifest_sha256": None}, "sha256 .* None"),
        ({"load_ms": None}, "TypeError"),
        ({"load_ms": 10**400}, "OverflowError"),
        ({"timings_ms": []}, "AttributeError"),
        ({"lines": [{"text": "a"}]}, "KeyError"),
        ({"lines": [{"text": "a", "polygon": [[0, 0]]}]}, "ValueError"),
    ],
)
def test_an_invalid_result(phone, changes, words):
    phone.result.update(changes)
    phone.play()
    refuse(phone, NotVerifiedError, words)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            [
                *(
                    "FATAL EXCEPTION: main",
                    "Process: com.example.other, PID: 1",
                    "java.lang.IllegalStateException: not ours",
                ),
                *("FATAL EXCEPTION: ocr", "Process: io.github.edgeocr.demo, PID: 4242"),
                'java.lang.UnsatisfiedLinkError: dlopen failed: library "libc++_shared.so" not found',
                "\tat java.lang.Runtime.loadLibrary0(Runtime.java:1087)",
            ],
            'the app crashed: java.lang.UnsatisfiedLinkError: dlopen failed: library "libc',
        ),
        (
            [
                "*** *** ***",
                "pid: 4242, tid: 4250, name: ocr  >>> io.github.edgeocr.demo <<<",
                "uid: 10123",
                "signal 6 (SIGABRT), code -1 (SI_QUEUE), fault addr --------",
                "Abort message: 'Check failed'",
            ],
            r"the app crashed: signal 6 \(SIGABRT\), code -1 \(SI_QUEUE\), fault addr --------; Abort message: 'Check",
        ),
    ],
)
def test_a_crash_is_reported_with_its_reason(phone, lines, words):
    phone.play(log=lines)
    refuse(phone, NotVerifiedError, words)


@pytest.mark.parametrize(("pidof", "words"), [("4242\n", "running"), ("", "ended")])
def test_silence_ends_the_wait(phone, monkeypatch, pidof, words):
    monkeypatch.setattr("converters.deploy.phone.SELF_TEST_TIMEOUT_S", 0.5)
    phone.play(log=['{"token":"another"}'], pidof=pidof)
    assert "unlock" in refuse(phone, NotVerifiedError, rf"0\.5 s; .*{words}")


def test_a_connection_that_is_lost(phone):
    phone.play(log=["something"], log_ends=True)
    refuse(phone, NotVerifiedError, "log ended")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Starting: Intent { }\nError type 3\nError: Activity class {a/b} does not exist.\n", "Error type 3"),
        ("\nException occurred while executing 'start':\njava.lang.SecurityException: a\n", "Exception occurred"),
        ("Security exception: Permission Denial: starting Intent\n", "Security exception: Permission"),
        ("cmd: Can't find service: activity\n", "cmd: Can't find service"),
    ],
)
def test_an_activity_that_does_not_start(phone, said, words):
    phone.play(start=said, log=[])
    refuse(phone, NotVerifiedError, f"the self-test did not start: {words}")


def test_other_lines_of_the_log_are_ignored(phone):
    result = json.dumps(phone.result, separators=(",", ":"))
    long = "x" * 200_000
    phone.play(log=[long, '{"token":"TOKEN"', f"\udcff\udcfe{long}", result[:900], result])
    assert deploy_app(phone.project).lines == 4


# --- the command line


def run_cli(*arguments, **options):
    command = [sys.executable, "-W", "error", "-c", "from edge_ocr.cli import main; main()", "deploy", *arguments]
    env = {**os.environ, "PYTHONPATH": str(Path(deploy_android.__file__).parents[2])}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_the_command_prints_report_json_and_plan(phone):
    def read(*arguments):
        process = run_cli(str(phone.project), "--adb", *arguments)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        return out

    out = read()
    assert "golden picture: 4 lines read as expected" in out
    assert "phone: Google Pixel 8, Android API 35, arm64-v8a, pages of 4096 bytes; paddle_lite v2.13-rc" in out
    assert json.loads(read("--json"))["device"]["serial"] == "1A2B3C4D"
    phone.place.with_suffix(".calls").unlink()
    assert "4. start io.github.edgeocr.demo/.SelfTestActivity and read its result from the log" in read("--dry-run")
    (phone.bin / "gradle").unlink()
    assert "missing: Gradle 8.13 or a later 8.x (missing): " in read("--dry-run")
    (missing,) = json.loads(read("--dry-run", "--json"))["missing"]
    assert missing["what"].startswith("Gradle")
    assert phone.calls == []


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_all_it_started(phone, number, code):
    phone.play(log=["nothing of ours"])
    process = run_cli(str(phone.project), "--adb", start_new_session=True)
    pid = phone.place.with_suffix(".pid")
    deadline = time.monotonic() + 60
    while not pid.exists() or not pid.read_text():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
