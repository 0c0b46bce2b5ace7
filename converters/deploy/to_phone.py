"""Deploys an Android project to a phone over adb: builds and installs it, runs its self-test, and compares."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from converters.bundle.reader import Bundle, inspect_bundle
from converters.bundle.targets import find_target
from converters.deploy.android_tools import APK, TASK, build_app, find_adb, find_gradle, find_sdk, list_missing_tools
from converters.deploy.phone import ACTIVITY, Adb, Device, SelfTest
from converters.lite.libraries.elf import CXX_RUNTIME, inspect_library
from converters.text import Report, clean_text
from edge_ocr.core.bundle import MANIFEST
from edge_ocr.core.selftest import compare_golden
from edge_ocr.core.types import Reading
from edge_ocr.errors import ModelError, NotVerifiedError, ParityError, ToolchainError, UsageError
from edge_ocr.models.store import hash_file


@dataclass(frozen=True)
class AppPlan:
    """The steps of a deployment."""

    project: Path
    abis: tuple[str, ...]
    manifest_sha256: str
    missing: tuple[tuple[str, str], ...]
    """Missing tools, each with how to get it."""
    steps: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the plan in plain values."""
        return {
            "project": str(self.project),
            "abis": list(self.abis),
            "manifest_sha256": self.manifest_sha256,
            "missing": [{"what": what, "remedy": remedy} for what, remedy in self.missing],
            "steps": list(self.steps),
        }


@dataclass(frozen=True)
class AppReport:
    """The result of a deployment."""

    plan: AppPlan
    device: Device
    abi: str
    apk_bytes: int
    build_s: float
    install_s: float
    load_ms: float
    timings_ms: Mapping[str, float]
    """Time of reading the golden picture once, by stage."""
    engine: str
    """What ran the networks, and its version."""
    threads: int
    power_mode: str
    lines: int
    verdict: str
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report in plain values."""
        return {
            "project": str(self.plan.project),
            "manifest_sha256": self.plan.manifest_sha256,
            "device": {
                "serial": self.device.serial,
                "name": self.device.name,
                "sdk": self.device.sdk,
                "abi": self.abi,
                "page_size_bytes": self.device.page_size_bytes,
            },
            "apk_bytes": self.apk_bytes,
            "build_s": round(self.build_s, 3),
            "install_s": round(self.install_s, 3),
            "load_ms": self.load_ms,
            "timings_ms": dict(self.timings_ms),
            "engine": self.engine,
            "threads": self.threads,
            "power_mode": self.power_mode,
            "lines": self.lines,
            "verdict": self.verdict,
            "notes": list(self.notes),
        }


def plan_app(folder: Path, serial: str | None = None, *, trusted: Path | None = None) -> AppPlan:
    """Check the project in `folder`, look for the tools, and return the steps of its deployment.

    `trusted` is the file of a public key that must have signed the bundle in its assets.

    Raises ModelError if there is no project, or if it lacks libraries; ParityError if it is damaged; UsageError if its
    bundle is not for Android; NotVerifiedError for a manifest newer than this edge-ocr.
    """
    return _plan(_open_project(folder, trusted), folder, serial)


def deploy_app(
    folder: Path,
    serial: str | None = None,
    *,
    trusted: Path | None = None,
    report: Report = lambda step: None,
) -> AppReport:
    """Build the project in `folder`, install it on a phone, read the golden picture there, and compare the result.

    `serial` chooses the phone if adb sees several. The phone's log is read, never cleared. `report` receives each step.

    Raises as `plan_app`; ToolchainError if tools or devices are missing, or if building or installing fails; UsageError
    if there are several phones; ModelError if the project does not fit the phone; ParityError if the phone reads
    something else; NotVerifiedError if the comparison could not run.
    """
    bundle = _open_project(folder, trusted)
    plan = _plan(bundle, folder, serial)
    if plan.missing:
        raise ToolchainError(
            f"building the app needs {'; '.join(what for what, _ in plan.missing)}",
            "; ".join(remedy for _, remedy in plan.missing),
        )
    adb = Adb(str(find_adb(find_sdk(folder)[0])))
    adb.choose(serial)
    device = adb.describe()
    report(f"{device.name}: Android API {device.sdk}, {', '.join(device.abis)}, {adb.serial}")
    abi = _choose_abi(bundle, folder, device)
    report("building; the first build downloads what Gradle needs")
    started = time.monotonic()
    apk = build_app(folder)
    build_s = time.monotonic() - started
    report(f"installing {apk.stat().st_size / 1e6:.1f} MB")
    started = time.monotonic()
    adb.install(apk)
    install_s = time.monotonic() - started
    report("reading the golden picture on the phone")
    result = adb.test()
    notes = list(bundle.notes)
    verdict = _compare(result, bundle, plan.manifest_sha256, notes)
    return AppReport(
        plan,
        device,
        abi,
        apk.stat().st_size,
        build_s,
        install_s,
        result.load_ms,
        result.timings_ms,
        result.engine,
        result.threads,
        result.power_mode,
        len(result.lines) + result.lines_omitted,
        verdict,
        tuple(notes),
    )


# --- the project


def _open_project(folder: Path, trusted: Path | None) -> Bundle:
    inspection = inspect_bundle(folder, trusted)
    bundle = inspection.bundle
    if bundle is None:
        found = "; ".join(f"{check.name}: {check.detail}" for check in inspection.checks if not check.passed)
        if any(check.layer == "signature" and not check.passed for check in inspection.checks):
            hint = f"check that {trusted} is its signer's key, or export it again with --sign KEY --release NAME"
            raise ParityError(f"{folder}: is not trusted: {found}", hint)
        raise ParityError(f"{folder}: is not as it was exported: {found}", "export it again")
    target = find_target("android")
    if bundle.manifest["target"] != target.name:
        raise UsageError(
            f"{folder}: is for {bundle.manifest['target']}, expected an Android project",
            "run edge-ocr export --target android, or deploy a bundle for boards with --ssh",
        )
    if bundle.project is None:
        raise UsageError(f"{folder}: is only a bundle, expected an Android project", "give the project's folder")
    libraries = bundle.manifest["lite"]["libraries"]
    lacking = [abi for abi, library in libraries.items() if library["file"] is None]
    if lacking:
        fetch = " and ".join(f"edge-ocr libs fetch --platform {target.platforms[abi]}" for abi in lacking)
        precision = bundle.manifest["precision"]
        quantize = "" if precision == "fp32" else f" --quantize {precision}"
        engine = "both" if "onnxruntime" in _list_engines(bundle) else "paddle_lite"
        raise ModelError(
            f"{folder}: lacks Paddle-Lite's library for {' and '.join(lacking)}",
            f"run {fetch}, then, with the same models, pipeline and charset, edge-ocr export --target android "
            f"--engine {engine} --abi {','.join(_list_abis(bundle))}{quantize} --force "
            f"--out {shlex.quote(str(folder))}",
        )
    for abi, library in libraries.items():
        if not any(name.endswith(".jar") for name in library.get("companions", ())):
            raise ModelError(
                f"{folder}: lacks PaddlePredictor.jar for {abi}, so it cannot be built",
                f"run edge-ocr libs fetch --platform {target.platforms[abi]} --force, then export again",
            )
        names = [PurePosixPath(name).name for name in library["companions"]]
        if CXX_RUNTIME in inspect_library(folder / library["file"]).needed and CXX_RUNTIME not in names:
            raise ModelError(
                f"{folder}: the library for {abi} needs {CXX_RUNTIME}, which is missing, so the app could not load it",
                "see `The Paddle-Lite library` in the project's README for where to get it, then export again",
            )
    return bundle


def _list_engines(bundle: Bundle) -> tuple[str, ...]:
    app = bundle.manifest.get("app")
    return ("paddle_lite",) if app is None else tuple(app["engines"])


def _list_abis(bundle: Bundle) -> tuple[str, ...]:
    app = bundle.manifest.get("app")
    return tuple(bundle.manifest["lite"]["libraries"] if app is None else app["abis"])


def _plan(bundle: Bundle, folder: Path, serial: str | None) -> AppPlan:
    abis = _list_abis(bundle)
    device = "the phone" if serial is None else serial
    steps = (
        f"run in {folder}: {Path(find_gradle(folder) or 'gradle').name} {TASK}",
        f"check that {device} has an Android version and a processor that the project supports ({', '.join(abis)})",
        f"install {APK} there, keeping the settings of an installed version",
        f"start {ACTIVITY} and read its result from the log",
        "compare its texts with those that this machine read",
    )
    sha256 = hash_file(bundle.folder / MANIFEST)
    return AppPlan(folder, abis, sha256, tuple(list_missing_tools(folder)), steps)


def _choose_abi(bundle: Bundle, folder: Path, device: Device) -> str:
    """Return the ABI that the app will use on a device.

    Raises ToolchainError if the device is too old, ModelError if the project has no library that it can load.
    """
    catalog = folder / "gradle" / "libs.versions.toml"
    text = catalog.read_text(encoding="utf-8", errors="replace") if catalog.is_file() else ""
    found = re.search(r'(?m)^minSdk\s*=\s*"(\d+)"', text)
    if found is not None and device.sdk < int(found[1]):
        raise ToolchainError(
            f"{device.name} has Android API {device.sdk}, expected {found[1]} or newer", "use a newer phone"
        )
    abis, engines, target = _list_abis(bundle), _list_engines(bundle), find_target("android")
    abi = next((abi for abi in device.abis if abi in abis), None)
    if abi is None:
        offered = [abi for abi in device.abis if abi in (*target.platforms, *target.emulator_abis)]
        raise ModelError(
            f"{device.name} runs {', '.join(device.abis)}, the project is for {', '.join(abis)}",
            f"run edge-ocr export --target android --abi {offered[0]}" if offered else "use another device",
        )
    libraries = bundle.manifest["lite"]["libraries"]
    if "onnxruntime" in engines:
        return abi  # the app prefers it, and its libraries are aligned to 16 KB
    if not libraries[abi]["fits_16k_pages"] and (device.page_size_bytes or 0) > 4096 and abi == "arm64-v8a":
        raise ModelError(
            f"{device.name} has pages of {device.page_size_bytes} bytes, but the project's library for {abi} is not "
            "aligned to them, so the app could not load it",
            "use a library linked with -Wl,-z,max-page-size=16384 (edge-ocr libs add), or another phone",
        )
    return abi


def _compare(result: SelfTest, bundle: Bundle, manifest_sha256: str, notes: list[str]) -> str:
    """Return, as text, how close the phone's result is to the host's.

    Raises ParityError if they differ, NotVerifiedError if there is nothing to compare with.
    """
    if result.manifest_sha256 != manifest_sha256:
        raise NotVerifiedError(
            f"the app that ran has another bundle: the sha256 of its manifest is {result.manifest_sha256}, expected "
            f"{manifest_sha256}",
            "in the app, choose Settings > Models > Use the app's models; or check that the app still uses module ocr",
        )
    golden = bundle.manifest["golden"]
    if golden is None:
        raise NotVerifiedError(
            "the bundle has no golden result to compare with", "run pip install openvino, then export it again"
        )
    count, wanted = len(result.lines) + result.lines_omitted, len(golden["lines"])
    if result.lines_omitted and count == wanted:
        notes.append(f"the last {result.lines_omitted} lines did not fit into the log; the app itself compared them")
        golden = {**golden, "lines": golden["lines"][: len(result.lines)]}
    verdict = compare_golden(Reading(list(result.lines), {}), golden)
    if not result.passed:
        found = "; ".join(clean_text(problem) for problem in result.problems) or "no reason given"
        raise ParityError(f"the app's own self-test failed: {found}", "see each line on its screen")
    return verdict
