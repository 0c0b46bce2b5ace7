"""Brings an Android project onto a phone over adb: builds it, installs it, lets it test itself there, and compares."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from converters.bundle.reader import Bundle, inspect_bundle
from converters.bundle.targets import find_target
from converters.deploy.android_tools import APK, TASK, build_app, find_adb, find_gradle, find_sdk, list_missing_tools
from converters.deploy.phone import ACTIVITY, Adb, Device, SelfTest
from converters.lite.libraries.elf import CXX_RUNTIME, inspect_library
from converters.text import clean_text
from edge_ocr.core.bundle import MANIFEST
from edge_ocr.core.selftest import compare_golden
from edge_ocr.core.types import Reading
from edge_ocr.errors import ModelError, NotVerifiedError, ParityError, ToolchainError, UsageError
from edge_ocr.models.store import hash_file

if TYPE_CHECKING:
    from converters.text import Report


@dataclass(frozen=True)
class AppPlan:
    """What a deployment does."""

    project: Path
    abis: tuple[str, ...]
    manifest_sha256: str
    missing: tuple[tuple[str, str], ...]
    """Tools that are not there, each with where to get it."""
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
    """What a deployment did."""

    plan: AppPlan
    device: Device
    abi: str
    apk_bytes: int
    build_s: float
    install_s: float
    load_ms: float
    timings_ms: Mapping[str, float]
    """Of reading the golden picture once, by stage."""
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
            "threads": self.threads,
            "power_mode": self.power_mode,
            "lines": self.lines,
            "verdict": self.verdict,
            "notes": list(self.notes),
        }


def plan_app(folder: Path, serial: str | None = None, *, trusted: Path | None = None) -> AppPlan:
    """Check the project in `folder` and look for the tools; return what deploying it would do.

    With `trusted`, the file of a public key, that must have signed the bundle in its assets.

    Raises ModelError where there is no project, or one without its libraries, ParityError for one that is damaged,
    UsageError for a bundle that is not for Android, NotVerifiedError for a manifest newer than this edge-ocr.
    """
    return _plan(_open_project(folder, trusted), folder, serial)


def deploy_app(
    folder: Path,
    serial: str | None = None,
    *,
    trusted: Path | None = None,
    report: Report = lambda step: None,
) -> AppReport:
    """Build the project in `folder`, install it on a phone, let it read the golden picture there, and compare.

    `serial` names the phone where adb sees several. The phone's log is read, never cleared. `report` is told each step.

    Raises as `plan_app`; ToolchainError for tools and devices that are missing and for a build or an installation that
    fails, UsageError where several phones are there, ModelError where the project does not fit the phone, ParityError
    where it reads something else there, NotVerifiedError where that could not be found out.
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
    report("building; the first time, Gradle fetches what it needs")
    started = time.monotonic()
    apk = build_app(folder)
    build_s = time.monotonic() - started
    report(f"installing {apk.stat().st_size / 1e6:.1f} MB")
    started = time.monotonic()
    adb.install(apk)
    install_s = time.monotonic() - started
    report("reading the golden picture there")
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
        raise ParityError(f"{folder}: not what it should be: {found}", "export it again")
    target = find_target("android")
    if bundle.manifest["target"] != target.name:
        raise UsageError(
            f"{folder}: is for {bundle.manifest['target']}, expected an Android project",
            "edge-ocr export --target android; bundles for boards go with --ssh",
        )
    if bundle.project is None:
        raise UsageError(f"{folder}: is a bundle alone, expected the project around it", "give the project's folder")
    libraries = bundle.manifest["lite"]["libraries"]
    lacking = [abi for abi, library in libraries.items() if library["file"] is None]
    if lacking:
        fetch = f"edge-ocr libs fetch --platform {target.platforms[lacking[0]]}"
        precision = bundle.manifest["precision"]
        quantize = "" if precision == "fp32" else f" --quantize {precision}"
        raise ModelError(
            f"{folder}: has no Paddle-Lite library for {' and '.join(lacking)}",
            f"{fetch}, then, with models, pipeline and charset as before: edge-ocr export --target android "
            f"--abi {','.join(libraries)}{quantize} --force --out {shlex.quote(str(folder))}",
        )
    for abi, library in libraries.items():
        if not any(name.endswith(".jar") for name in library.get("companions", ())):
            raise ModelError(
                f"{folder}: has no PaddlePredictor.jar for {abi}, so it cannot be built",
                f"edge-ocr libs fetch --platform {target.platforms[abi]} --force, then export again",
            )
        names = [PurePosixPath(name).name for name in library["companions"]]
        if CXX_RUNTIME in inspect_library(folder / library["file"]).needed and CXX_RUNTIME not in names:
            raise ModelError(
                f"{folder}: the library for {abi} needs {CXX_RUNTIME}, which is not there: the app could not load it",
                "the project's README says under `The Paddle-Lite library` where to get it; then export again",
            )
    return bundle


def _plan(bundle: Bundle, folder: Path, serial: str | None) -> AppPlan:
    abis = tuple(bundle.manifest["lite"]["libraries"])
    device = "the phone" if serial is None else serial
    steps = (
        f"in {folder}: {Path(find_gradle(folder) or 'gradle').name} {TASK}",
        f"check that {device} has Android and a processor that the project is for ({', '.join(abis)})",
        f"install {APK} there, over one that is there; its settings stay",
        f"start {ACTIVITY} and read its result from the log",
        "compare what was read with what this machine read",
    )
    sha256 = hash_file(bundle.folder / MANIFEST)
    return AppPlan(folder, abis, sha256, tuple(list_missing_tools(folder)), steps)


def _choose_abi(bundle: Bundle, folder: Path, device: Device) -> str:
    """Return the ABI that the app will run with on a device.

    Raises ToolchainError for a device that is too old, ModelError for one that the project's libraries are not for.
    """
    catalog = folder / "gradle" / "libs.versions.toml"
    text = catalog.read_text(encoding="utf-8", errors="replace") if catalog.is_file() else ""
    found = re.search(r'(?m)^minSdk\s*=\s*"(\d+)"', text)
    if found is not None and device.sdk < int(found[1]):
        raise ToolchainError(
            f"{device.name} has Android API {device.sdk}, expected {found[1]} or newer", "take a newer phone"
        )
    libraries = bundle.manifest["lite"]["libraries"]
    abi = next((abi for abi in device.abis if abi in libraries), None)
    if abi is None:
        offered = [abi for abi in device.abis if abi in find_target("android").platforms]
        raise ModelError(
            f"{device.name} runs {', '.join(device.abis)}, the project is for {', '.join(libraries)}",
            f"edge-ocr export --target android --abi {offered[0]}" if offered else "Paddle-Lite is for ARM only",
        )
    if not libraries[abi]["fits_16k_pages"] and (device.page_size_bytes or 0) > 4096 and abi == "arm64-v8a":
        raise ModelError(
            f"{device.name} has pages of {device.page_size_bytes} bytes, and the project's library for {abi} is not "
            "aligned to them: the app could not load it",
            "take a library that was linked with -Wl,-z,max-page-size=16384 (edge-ocr libs add), or another phone",
        )
    return abi


def _compare(result: SelfTest, bundle: Bundle, manifest_sha256: str, notes: list[str]) -> str:
    """Return in words how near the phone's reading is to the host's.

    Raises ParityError where it differs, NotVerifiedError where there is nothing to compare with.
    """
    if result.manifest_sha256 != manifest_sha256:
        raise NotVerifiedError(
            f"the app that ran has another bundle: its manifest's sha256 is {result.manifest_sha256}, expected "
            f"{manifest_sha256}",
            "does app/build.gradle.kts still take module ocr, and its assets?",
        )
    golden = bundle.manifest["golden"]
    if golden is None:
        raise NotVerifiedError(
            "the bundle has no golden result to compare with", "pip install openvino; export it again"
        )
    count, wanted = len(result.lines) + result.lines_omitted, len(golden["lines"])
    if result.lines_omitted and count == wanted:
        notes.append(f"the last {result.lines_omitted} lines did not fit into the log: the app itself compared them")
        golden = {**golden, "lines": golden["lines"][: len(result.lines)]}
    verdict = compare_golden(Reading(list(result.lines), {}), golden)
    if not result.passed:
        found = "; ".join(clean_text(problem) for problem in result.problems) or "it does not say why"
        raise ParityError(f"the app's own self-test failed: {found}", "its screen shows each line")
    return verdict
