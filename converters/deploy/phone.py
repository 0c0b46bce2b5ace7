"""A phone that adb reaches: its properties, installing the app, and the result of the app's self-test."""

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
"""Slow phones spend most of it copying and loading the models for the first time."""

# How to fix each state in which adb cannot use a device.
_STATES: Mapping[str, str] = {
    "unauthorized": "confirm `Allow USB debugging` on its screen",
    "offline": "unplug it and plug it in again, or run adb reconnect offline",
    "authorizing": "confirm `Allow USB debugging` on its screen",
    "no permissions": "run apt-get install android-sdk-platform-tools-common (udev rules), then plug it in again",
}
# How to fix each reason for which Android refuses an installation.
_REMOVE = f"remove it and its settings with adb uninstall {PACKAGE}"
_INSTALL_HINTS: Mapping[str, str] = {
    "INSTALL_FAILED_UPDATE_INCOMPATIBLE": f"the phone has the app signed with another key; {_REMOVE}",
    "INSTALL_FAILED_VERSION_DOWNGRADE": f"the phone has a newer version; {_REMOVE}",
    "INSTALL_FAILED_INSUFFICIENT_STORAGE": "free some space on the phone",
    "INSTALL_FAILED_USER_RESTRICTED": "allow `Install via USB` in its developer options, and confirm on its screen",
    "INSTALL_FAILED_NO_MATCHING_ABIS": "export again with the phone's ABI (--abi)",
    "INSTALL_FAILED_OLDER_SDK": "use a phone with a newer Android",
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
    """The ABIs that it runs, the best first."""
    page_size_bytes: int | None
    """None if unknown."""


@dataclass(frozen=True)
class SelfTest:
    """The result that the app's self-test wrote to the log."""

    problems: tuple[str, ...]
    passed: bool
    manifest_sha256: str | None
    load_ms: float
    timings_ms: Mapping[str, float]
    engine: str
    """What ran the networks, and its version."""
    threads: int
    power_mode: str
    lines: tuple[TextLine, ...]
    lines_omitted: int


class Adb:
    """adb, used with one device."""

    def __init__(self, program: str) -> None:
        self._program = program
        self.serial = ""

    def choose(self, serial: str | None) -> None:
        """Choose the device with the serial number `serial`, or the only device.

        Raises ToolchainError if it is missing or cannot be used, UsageError if there are several.
        """
        status, out, said = run_tool([self._program, "devices"], ASK_TIMEOUT_S)
        if status != 0:
            raise ToolchainError(
                f"adb devices: {name_end(status)}{quote_last_line(said)}", "check that this works: adb devices"
            )
        states = dict(line.rstrip().split("\t", 1) for line in out.splitlines() if "\t" in line)
        wanted = serial or os.environ.get("ANDROID_SERIAL") or None
        if wanted is not None and wanted not in states:
            raise ToolchainError(
                f"adb sees no device {wanted}",
                f"choose one of {', '.join(states)}" if states else "connect it, and check adb devices",
            )
        if not states:
            raise ToolchainError(
                "adb sees no device",
                "connect a phone by USB with USB debugging on (in its developer options), or run adb connect HOST:PORT",
            )
        usable = [name for name, state in states.items() if state == "device"]
        if wanted is None and len(usable) > 1:
            raise UsageError(f"adb sees several devices: {', '.join(usable)}", f"choose one: --serial {usable[0]}")
        self.serial = wanted or (usable or list(states))[0]
        state = states[self.serial]
        if state != "device":
            hint = next((text for name, text in _STATES.items() if state.startswith(name)), "start Android on it")
            raise ToolchainError(f"{self.serial}: adb cannot use it: {clean_text(state)}", hint)

    def describe(self) -> Device:
        """Ask the device for its properties.

        Raises ToolchainError if it does not answer.
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
                f"{self.serial}: unexpected properties: {clean_text(' / '.join(lines))!r}",
                "check that Android has started on it",
            ) from None

    def install(self, apk: Path) -> None:
        """Install an app, replacing an installed version.

        Raises ToolchainError, with Android's reason, if that fails.
        """
        status, out, said = self._ask(["install", "-r", "-t", str(apk)], INSTALL_TIMEOUT_S)
        # Older versions of adb exit with 0 even if they fail.
        if status == 0 and re.search(r"^Success", out, re.MULTILINE):
            return
        reason = re.search(r"Failure \[(.*?)\]?$", out + said.decode(errors="replace"), re.MULTILINE)
        found = clean_text(reason[1]) if reason else name_end(status) + quote_last_line(said or out.encode())
        hint = next((text for code, text in _INSTALL_HINTS.items() if found.startswith(code)), None)
        raise ToolchainError(f"{self.serial}: the app was not installed: {found}", hint)

    def test(self) -> SelfTest:
        """Run the app's self-test and return the result that it wrote to the log.

        Raises NotVerifiedError if it crashes, or writes no readable result.
        """
        token = secrets.token_hex(8)
        # The phone's own clock decides which lines of its log are new.
        began = self._shell("date '+%m-%d %H:%M:%S.000'").strip()
        tags = ("EdgeOcr:I", "AndroidRuntime:E", "DEBUG:F")
        log = [self._program, "-s", self.serial, "logcat", "-v", "raw", "-T", began, "-s", *tags]
        with start_tool(log) as child:
            # -S stops the app first, because Android only brings a running one to the front. No -W, because waiting
            # behind a lock screen may never end.
            start = f"am start -S -n {ACTIVITY} -a {ACTION} --es token {token}"
            out = self._shell(f"{start} 2>&1")
            refused = re.search(r"^(?:Error|Exception|Security exception|java\.|cmd: ).*", out, re.MULTILINE)
            if refused:
                raise NotVerifiedError(
                    f"{self.serial}: the self-test did not start: {clean_text(refused[0])}",
                    f"check that the app's id is {PACKAGE} and that its manifest has {ACTIVITY}",
                )
            try:
                return _read_result(_await_line(child, token, time.monotonic() + SELF_TEST_TIMEOUT_S))
            except LateError:
                raise self._explain_silence() from None
            except EndedError:
                said = quote_last_line(child.tail)
                raise NotVerifiedError(
                    f"{self.serial}: its log ended before the self-test{said}", "check its connection: adb devices"
                ) from None

    def _explain_silence(self) -> NotVerifiedError:
        runs = ""
        with suppress(ToolchainError):
            runs = self._shell(f"pidof {PACKAGE} || true").strip()
        found = "is still running" if runs else "ended silently, perhaps for lack of memory"
        return NotVerifiedError(
            f"{self.serial}: no result of the self-test within {SELF_TEST_TIMEOUT_S:g} s; the app {found}",
            "unlock the phone, leave its screen on and try again, or start the self-test in the app by hand",
        )

    def _ask(self, arguments: Sequence[str], timeout_s: float) -> tuple[int, str, bytes]:
        return run_tool([self._program, "-s", self.serial, *arguments], timeout_s)

    def _shell(self, script: str) -> str:
        status, out, said = self._ask(["shell", script], ASK_TIMEOUT_S)
        # `am` reports errors in its output, and only some of them by its exit code.
        if status != 0 and not out:
            raise ToolchainError(
                f"{self.serial}: adb shell: {name_end(status)}{quote_last_line(said)}",
                "check that it is connected: adb devices",
            )
        return out


def _await_line(child: Child, token: str, deadline: float) -> dict[str, Any]:
    """Return the line of the log that has our token.

    Raises NotVerifiedError if the app crashes, EndedError if the log ends, LateError.
    """
    while True:
        line = child.receive_line(deadline)
        # A crash in Java: `FATAL EXCEPTION: main`, `Process: NAME, PID: 1`, the exception. In native code:
        # `pid: 1, … >>> NAME <<<`, `signal 11 (SIGSEGV), …`, then the registers.
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
    return NotVerifiedError(f"the app crashed: {clean_text(reason, 500)}", "run adb logcat -d -b crash for details")


def _read_result(content: Mapping[str, Any]) -> SelfTest:
    """Return the result in a line of the log.

    Raises NotVerifiedError if the app could not test itself, or if the line is not a result.
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
            f"{content['engine']} {content['engine_version']}",
            int(content["threads"]),
            str(content["power_mode"]),
            tuple(_read_line(line) for line in content["lines"]),
            int(content.get("lines_omitted", 0)),
        )
    # OverflowError: a number such as 1e999.
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise NotVerifiedError(
            f"the app's self-test wrote an invalid result: {error!r}",
            "build the project with the edge-ocr that made it",
        ) from None


def _read_line(line: Mapping[str, Any]) -> TextLine:
    polygon = np.array(line["polygon"], dtype=np.float32)
    if polygon.shape != (4, 2):
        raise ValueError(f"a polygon of shape {polygon.shape}")
    return TextLine(polygon, float(line["det_score"]), str(line["text"]), float(line["rec_score"]))
