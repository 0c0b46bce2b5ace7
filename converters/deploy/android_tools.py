"""Finds the tools that build an Android project, and builds it."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from converters.processes.child import Child, LateError, name_end
from converters.text import clean_text, quote_last_line
from edge_ocr.errors import ToolchainError

TASK = ":app:assembleDebug"
APK = "app/build/outputs/apk/debug/app-debug.apk"

# The versions that the project's Android Gradle plugin supports.
_GRADLE_FROM, _GRADLE_BEFORE = (8, 13), (9, 0)
# Gradle 8.14 supports Java up to 24.
_JAVA_FROM, _JAVA_BEFORE = 17, 25

ASK_TIMEOUT_S = 60.0
BUILD_TIMEOUT_S = 3600.0
"""The first build downloads Gradle and its plugins."""
_CLOSE_TIMEOUT_S = 5.0
_MAX_OUTPUT_BYTES = 2**20
# In the C locale, Java cannot open folders whose names are not ASCII.
_GRADLE_ENVIRONMENT = ("env", "LC_ALL=C.UTF-8")


def list_missing_tools(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each tool that is missing or has an unsupported version, with how to get it."""
    sdk, problem = find_sdk(folder)
    if problem:
        yield problem, "install Android Studio or its command-line tools, and set ANDROID_HOME to the SDK's folder"
    if find_adb(sdk) is None:
        yield "adb", "run apt-get install adb, or install Android's platform tools"
    java = _find_java()
    version = None if java is None else _read_java_version(java)
    if version is None or not _JAVA_FROM <= version < _JAVA_BEFORE:
        found = f"{java} is {version or 'of unknown version'}" if java else "missing"
        yield (
            f"Java {_JAVA_FROM} to {_JAVA_BEFORE - 1} ({found})",
            f"run apt-get install openjdk-{_JAVA_FROM}-jdk (or openjdk-21-jdk), or set JAVA_HOME",
        )
    gradle = find_gradle(folder)
    wanted = f"Gradle {'.'.join(map(str, _GRADLE_FROM))} or a later {_GRADLE_FROM[0]}.x"
    remedy = "add bin/ of a download from gradle.org/releases to PATH, or open the project once in Android Studio"
    if gradle is None:
        yield f"{wanted} (missing)", remedy
    # Gradle needs Java to report its version.
    elif version is not None:
        status, out, said = run_tool([*_GRADLE_ENVIRONMENT, gradle, "--version"], ASK_TIMEOUT_S * 5, folder)
        match = re.search(r"^Gradle (\d+)\.(\d+)", out, re.MULTILINE) if status == 0 else None
        if match is None:
            yield f"{wanted} ({gradle} --version {name_end(status)}{quote_last_line(said)})", remedy
        elif not _GRADLE_FROM <= (int(match[1]), int(match[2])) < _GRADLE_BEFORE:
            yield f"{wanted} ({gradle} is {match[1]}.{match[2]})", remedy


def find_sdk(folder: Path) -> tuple[Path | None, str]:
    """Return the Android SDK's folder, or None and the problem; looks where Gradle looks, in the same order."""
    places = {f"{folder / 'local.properties'}: sdk.dir": _read_sdk_dir(folder / "local.properties")}
    places.update({name: os.environ.get(name) for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT")})
    for source, place in places.items():
        if place:
            is_there = Path(place).is_dir()
            return (Path(place), "") if is_there else (None, f"the Android SDK ({source} is {place}: no such folder)")
    return None, "the Android SDK (neither ANDROID_HOME nor local.properties names it)"


def _read_sdk_dir(properties: Path) -> str | None:
    try:
        match = re.search(r"(?m)^\s*sdk\.dir\s*[=:]\s*(.*?)\s*$", properties.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    # Android Studio escapes `:` and `\` with a backslash, and writes letters beyond ASCII as \u00fc.
    return None if match is None else re.sub(r"\\(?:u([0-9a-fA-F]{4})|(.))", _unescape, match[1])


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else match[2]


def find_adb(sdk: Path | None) -> str | None:
    """Return adb from the PATH, or else from the Android SDK in `sdk`."""
    found = shutil.which("adb")
    return found or (None if sdk is None else shutil.which(sdk / "platform-tools" / "adb"))


def _find_java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    return shutil.which(Path(home, "bin", "java") if home else "java")


def _read_java_version(java: str) -> int | None:
    _, out, said = run_tool([java, "-version"], ASK_TIMEOUT_S)
    # `17.0.15`, or before Java 9 `1.8.0_401`.
    match = re.search(r'version "(?:1\.)?(\d+)', said.decode(errors="replace") + out)
    return None if match is None else int(match[1])


def find_gradle(folder: Path) -> str | None:
    """Return the Gradle wrapper of the project in `folder`, or the Gradle that Studio fetched for it, or the PATH's."""
    wrapper = folder / "gradlew"
    return str(wrapper.resolve()) if os.access(wrapper, os.X_OK) else _find_fetched(folder) or shutil.which("gradle")


def _find_fetched(folder: Path) -> str | None:
    """Return the Gradle that the wrapper's properties name, if a wrapper or Android Studio has unpacked it."""
    properties = folder / "gradle" / "wrapper" / "gradle-wrapper.properties"
    text = properties.read_text(encoding="utf-8", errors="replace") if properties.is_file() else ""
    match = re.search(r"(?m)^\s*distributionUrl\s*=.*/((gradle-[\w.-]+)-(?:bin|all))\.zip\s*$", text)
    if match is None:
        return None
    home = Path(os.environ.get("GRADLE_USER_HOME") or Path("~/.gradle").expanduser())
    places = (home / "wrapper" / "dists" / match[1]).glob(f"*/{match[2]}/bin/gradle")
    return next((str(place) for place in sorted(places) if os.access(place, os.X_OK)), None)


def build_app(folder: Path) -> Path:
    """Build a project with Gradle and return the APK.

    Raises ToolchainError, with Gradle's reason, if the build fails.
    """
    gradle = str(find_gradle(folder))
    # Without the daemon, no process stays behind.
    command = [*_GRADLE_ENVIRONMENT, gradle, "--no-daemon", "--console=plain", "--quiet", TASK]
    status, out, said = run_tool(command, BUILD_TIMEOUT_S, folder)
    if status != 0:
        text = said.decode(errors="replace")
        reason = re.search(r"^\* What went wrong:\n(.*?)(?=^\* |\Z)", text, re.MULTILINE | re.DOTALL)
        last = quote_last_line(said) or quote_last_line(out.encode())
        found = " ".join((reason[1] if reason else last.removeprefix(": ")).split())
        raise ToolchainError(
            f"{folder}: the build failed: {clean_text(found, 1000) or name_end(status)}",
            f"run in {folder}: {gradle} {TASK}",
        )
    apk = folder / APK
    if not apk.is_file():
        raise ToolchainError(f"{folder}: Gradle made no {APK}", f"run in {folder}: {gradle} {TASK}")
    return apk


@contextmanager
def start_tool(command: Sequence[str], folder: Path | None = None) -> Iterator[Child]:
    """Yield a process, which is ended in any case."""
    child = Child(command, folder)
    try:
        child.close_stdin()
        yield child
    finally:
        child.kill()


def run_tool(command: Sequence[str], timeout_s: float, folder: Path | None = None) -> tuple[int, str, bytes]:
    """Run a command; return its exit code, its stdout and the end of its stderr.

    Raises ToolchainError if it does not start or does not end in time.
    """
    with start_tool(command, folder) as child:
        try:
            out = child.receive_rest(_MAX_OUTPUT_BYTES, time.monotonic() + timeout_s)
        except LateError:
            said = quote_last_line(child.tail)
            raise ToolchainError(f"{' '.join(command)}: did not end within {timeout_s:g} s{said}") from None
        status = child.end(_CLOSE_TIMEOUT_S)
        return status, out.decode(errors="replace"), bytes(child.tail)
