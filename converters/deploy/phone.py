"""A phone that adb reaches: what it is, installing the app there, and what the app's self-test says."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters.deploy.android_tools import ASK_TIMEOUT_S, run_tool, start_tool
from converters.processes.child import Child, EndedError, LateError, name_end
from converters.text import clean_text, quote_last_line
from edge_ocr.core.types import TextLine
from edge_ocr.errors import NotVerifiedError, ToolchainError, UsageError

PACKAGE = "io.github.edgeocr.demo"
ACTIVITY, ACTION = f"{PACKAGE}/.SelfTestActivity", f"{PACKAGE}.SELF_TEST"

INSTALL_TIMEOUT_S = 600.0
SELF_TEST_TIMEOUT_S = 180.0
"""Of which slow phones need most to copy and load the models for the first time."""

# What keeps adb from using a device, by how it names its state.
_STATES: Mapping[str, str] = {
    "unauthorized": "confirm `Allow USB debugging` on its screen",
    "offline": "unplug it and plug it in again, or: adb reconnect offline",
    "authorizing": "confirm `Allow USB debugging` on its screen",
    "no permissions": "apt-get install android-sdk-platform-tools-common (rules for udev), then plug it in again",
}
# What Android answers where it does not install.
_REMOVE = f"this removes it and its settings: adb uninstall {PACKAGE}"
_INSTALL_HINTS: Mapping[str, str] = {
    "INSTALL_FAILED_UPDATE_INCOMPATIBLE": f"an app signed with another key is there; {_REMOVE}",
    "INSTALL_FAILED_VERSION_DOWNGRADE": f"a newer one is there; {_REMOVE}",
    "INSTALL_FAILED_INSUFFICIENT_STORAGE": "make room on the phone",
    "INSTALL_FAILED_USER_RESTRICTED": "allow `Install via USB` in its developer options, and confirm on its screen",
    "INSTALL_FAILED_NO_MATCHING_ABIS": "export again with the phone's ABI (--abi)",
    "INSTALL_FAILED_OLDER_SDK": "take a phone with a newer Android",
}


@dataclass(frozen=True)
class Device:
    """A phone as adb knows it."""

    serial: str
    name: str
    """Manufacturer and model."""
    sdk: int
    """Android's API level."""
    abis: tuple[str, ...]
    """That it runs, the best first."""
    page_size_bytes: int | None
    """None where it does not tell."""


@dataclass(frozen=True)
class SelfTest:
    """What the app's self-test wrote into the log."""

    problems: tuple[str, ...]
    passed: bool
    manifest_sha256: str | None
    load_ms: float
    timings_ms: Mapping[str, float]
    threads: int
    power_mode: str
    lines: tuple[TextLine, ...]
    lines_omitted: int


class Adb:
    """adb, and the one device that it is used with."""

    def __init__(self, program: str) -> None:
        self._program = program
        self.serial = ""

    def choose(self, serial: str | None) -> None:
        """Find the device called `serial`, or the only one.

        Raises ToolchainError where it is not there or cannot be used, UsageError where there are several.
        """
        status, out, said = run_tool([self._program, "devices"], ASK_TIMEOUT_S)
        if status != 0:
            raise ToolchainError(
                f"adb devices: {name_end(status)}{quote_last_line(said)}", "does this work? adb devices"
            )
        states = dict(line.rstrip().split("\t", 1) for line in out.splitlines() if "\t" in line)
        wanted = serial or os.environ.get("ANDROID_SERIAL") or None
        if wanted is not None and wanted not in states:
            raise ToolchainError(
                f"adb sees no device {wanted}",
                f"it sees {', '.join(states)}" if states else "it sees none: adb devices",
            )
        if not states:
            raise ToolchainError(
                "adb sees no device",
                "connect a phone by USB with USB debugging on (its developer options), or: adb connect HOST:PORT",
            )
        usable = [name for name, state in states.items() if state == "device"]
        if wanted is None and len(usable) > 1:
            raise UsageError(f"adb sees several devices: {', '.join(usable)}", f"--serial {usable[0]} takes one")
        self.serial = wanted or (usable or list(states))[0]
        state = states[self.serial]
        if state != "device":
            hint = next((text for name, text in _STATES.items() if state.startswith(name)), "start Android on it")
            raise ToolchainError(f"{self.serial}: adb cannot use it: {clean_text(state)}", hint)

    def describe(self) -> Device:
        """Ask the device what it is.

        Raises ToolchainError where it does not answer.
        """
        names = ("build.version.sdk", "product.cpu.abilist", "product.manufacturer", "product.model")
        script = "; ".join(f"getprop ro.{name}" for name in names)
        lines = self._shell(f"{script}; getconf PAGE_SIZE 2>/dev/null || echo").splitlines()
        try:
            sdk, abis, manufacturer, model, page = (line.strip() for line in lines)
            return Device(
                self.serial,
                clean_text(f"{manufacturer} {model}"),
                int(sdk),
                tuple(abis.split(",")),
                int(page) if page.isdigit() else None,
            )
        except ValueError:
            raise ToolchainError(
                f"{self.serial}: does not say what it is: {clean_text(' / '.join(lines))!r}",
                "is Android started on it?",
            ) from None

    def install(self, apk: Path) -> None:
        """Install an app over the one that is there.

        Raises ToolchainError, with Android's reason.
        """
        status, out, said = self._ask(["install", "-r", "-t", str(apk)], INSTALL_TIMEOUT_S)
        # Older ones end with 0 all the same.
        if status == 0 and re.search(r"^Success", out, re.MULTILINE):
            return
        reason = re.search(r"Failure \[(.*?)\]?$", out + said.decode(errors="replace"), re.MULTILINE)
        found = clean_text(reason[1]) if reason else name_end(status) + quote_last_line(said or out.encode())
        hint = next((text for code, text in _INSTALL_HINTS.items() if found.startswith(code)), None)
        raise ToolchainError(f"{self.serial}: did not install the app: {found}", hint)

    def test(self) -> SelfTest:
        """Let the app test itself, and return what it wrote into the log.

        Raises NotVerifiedError where it crashes, or writes nothing that can be read.
        """
        token = secrets.token_hex(8)
        # The phone's own clock decides what is new in its log.
        began = self._shell("date '+%m-%d %H:%M:%S.000'").strip()
        tags = ("EdgeOcr:I", "AndroidRuntime:E", "DEBUG:F")
        log = [self._program, "-s", self.serial, "logcat", "-v", "raw", "-T", began, "-s", *tags]
        with start_tool(log) as child:
            # Stopped first: Android would else only bring one that runs to the front. Not waited for (-W): behind a
            # lock screen, that may never end.
            start = f"am start -S -n {ACTIVITY} -a {ACTION} --es token {token}"
            out = self._shell(f"{start} 2>&1")
            refused = re.search(r"^(?:Error|Exception|Security exception|java\.|cmd: ).*", out, re.MULTILINE)
            if refused:
                raise NotVerifiedError(
                    f"{self.serial}: the self-test did not start: {clean_text(refused[0])}",
                    f"is {PACKAGE} still the app's id, and {ACTIVITY} in its manifest?",
                )
            try:
                return _read_result(_await_line(child, token, time.monotonic() + SELF_TEST_TIMEOUT_S))
            except LateError:
                raise self._explain_silence() from None
            except EndedError:
                said = quote_last_line(child.tail)
                raise NotVerifiedError(
                    f"{self.serial}: its log ended before the self-test did{said}", "is it still connected? adb devices"
                ) from None

    def _explain_silence(self) -> NotVerifiedError:
        runs = ""
        with suppress(ToolchainError):
            runs = self._shell(f"pidof {PACKAGE} || true").strip()
        found = "still runs" if runs else "has ended without a word: was there too little memory?"
        return NotVerifiedError(
            f"{self.serial}: no result of the self-test within {SELF_TEST_TIMEOUT_S:g} s; the app {found}",
            "unlock the phone and leave its screen on, then again; the app's self-test can also be started by hand",
        )

    def _ask(self, arguments: Sequence[str], timeout_s: float) -> tuple[int, str, bytes]:
        return run_tool([self._program, "-s", self.serial, *arguments], timeout_s)

    def _shell(self, script: str) -> str:
        status, out, said = self._ask(["shell", script], ASK_TIMEOUT_S)
        # `am` tells of errors in its output, and of some by its exit code, too.
        if status != 0 and not out:
            raise ToolchainError(
                f"{self.serial}: adb shell: {name_end(status)}{quote_last_line(said)}",
                "is it still connected? adb devices",
            )
        return out


def _await_line(child: Child, token: str, deadline: float) -> dict[str, Any]:
    """Return the line of the log that has our token.

    Raises NotVerifiedError where the app crashes, EndedError where the log ends, LateError.
    """
    while True:
        line = child.receive_line(deadline)
        # Of Java: `FATAL EXCEPTION: main`, `Process: NAME, PID: 1`, the exception. Of native code: `pid: 1, … >>> NAME
        # <<<`, then its registers behind `signal 11 (SIGSEGV), …`.
        if line.startswith(f"Process: {PACKAGE},"):
            raise _report_crash(child.receive_line(deadline))
        if f">>> {PACKAGE} <<<" in line:
            while not line.startswith("signal "):
                line = child.receive_line(deadline)
            said = child.receive_line(deadline)
            raise _report_crash(f"{line}; {said}" if said.startswith("Abort message") else line)
        if token in line and line.startswith("{"):
            with suppress(ValueError, RecursionError):
                content = json.loads(line)
                if content.get("token") == token:
                    return dict(content)


def _report_crash(reason: str) -> NotVerifiedError:
    return NotVerifiedError(f"the app crashed: {clean_text(reason, 500)}", "adb logcat -d -b crash shows all of it")


def _read_result(content: Mapping[str, Any]) -> SelfTest:
    """Return what a line of the log says.

    Raises NotVerifiedError where the app could not test itself, or says what is no result.
    """
    try:
        error = content["error"]
        if error is not None:
            raise NotVerifiedError(f"the app could not test itself: {clean_text(str(error), 1000)}")
        return SelfTest(
            tuple(map(str, content["problems"])),
            content["passed"] is True,
            content["manifest_sha256"],
            float(content["load_ms"]),
            {str(stage): float(ms) for stage, ms in content["timings_ms"].items()},
            int(content["threads"]),
            str(content["power_mode"]),
            tuple(_read_line(line) for line in content["lines"]),
            int(content.get("lines_omitted", 0)),
        )
    # OverflowError: of a number beyond all range, such as 1e999.
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise NotVerifiedError(
            f"the app's self-test wrote what is no result: {error!r}",
            "build the project with the edge-ocr that made it",
        ) from None


def _read_line(line: Mapping[str, Any]) -> TextLine:
    polygon = np.array(line["polygon"], dtype=np.float32)
    if polygon.shape != (4, 2):
        raise ValueError(f"a polygon of shape {polygon.shape}")
    return TextLine(polygon, float(line["det_score"]), str(line["text"]), float(line["rec_score"]))
