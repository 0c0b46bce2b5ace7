"""A board without a board: Debian for arm64 in a folder, whose programs qemu runs, and bundles for it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from platformdirs import user_cache_dir

from converters.export import export_bundle
from converters.plan import ExportOptions, ExportReport
from edge_ocr.config import load_config
from edge_ocr.errors import ModelError
from edge_ocr.models.store import find_uv

ROOT_VARIABLE = "EDGE_OCR_BOARD_ROOT"
"""Names an existing root; it is only read."""

SUITE = "bookworm"
PACKAGES = ("python3", "python3-venv", "python3-numpy", "python3-opencv", "python3-pyclipper", "g++")
DEBOOTSTRAP_TIMEOUT_S = 1800

ONNXRUNTIME = "onnxruntime==1.23.2"
"""For the Python of SUITE."""
WHEEL_TIMEOUT_S = 300

BINFMT = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")

# Its mounts and processes vanish with it, however it ends, and there is no network.
ISOLATE = ("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child")

# ROOT FOLDER COMMAND...: runs the command with FOLDER as /mnt; it can write nowhere else.
ENTER = """
set -e
root=$1
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind "$2" "$root/mnt"
shift 2
exec chroot "$root" sh -c 'cd /mnt && exec "$@"' sh "$@"
"""


@dataclass(frozen=True)
class EmulatedBoard:
    """A Debian for arm64 in a folder."""

    root: Path

    def run(
        self, folder: Path, *command: str, timeout_s: float = 600, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there; its current folder, /mnt, is `folder`."""
        settings = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", **(env or {})}
        return subprocess.run(
            [*ISOLATE, "sh", "-c", ENTER, "sh", str(self.root), str(folder), *command],
            env=settings,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


@pytest.fixture(scope="session")
def board() -> EmulatedBoard:
    """The board; skips, naming what is missing, if this machine cannot have it. The first time takes minutes."""
    if os.geteuid() != 0:
        pytest.skip("no emulated board: that takes root")
    given = os.environ.get(ROOT_VARIABLE)
    for tool in ("unshare", "chroot", *([] if given else ["debootstrap"])):
        if shutil.which(tool) is None:
            pytest.skip(f"no emulated board: {tool} is not installed")
    if not BINFMT.exists():
        pytest.skip(f"no emulated board: there is no {BINFMT} (qemu-user-static, binfmt-support; binfmt_misc mounted)")
    if (isolated := subprocess.run([*ISOLATE, "true"], capture_output=True, text=True, check=False)).returncode != 0:
        pytest.skip(f"no emulated board: {isolated.stderr.strip()}")
    return EmulatedBoard(Path(given) if given else _make_root())


@contextmanager
def _keep(name: str) -> Iterator[tuple[Path, Path | None]]:
    """Yield the place of a folder in the cache, and a folder to make it in unless it exists.

    If the block succeeds, the new folder is moved to the place. One process at a time.
    """
    cache = Path(user_cache_dir("edge-ocr")) / "board"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place, partial = cache / name, cache / f"{name}.partial"
        # Left by a killed process.
        shutil.rmtree(partial, ignore_errors=True)
        if place.is_dir():
            yield place, None
            return
        partial.mkdir()
        try:
            yield place, partial
            partial.rename(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _make_root() -> Path:
    content = hashlib.sha256(" ".join((SUITE, *PACKAGES)).encode()).hexdigest()
    with _keep(f"{SUITE}-arm64-{content[:8]}") as (root, partial):
        if partial is not None:
            command = ["unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "debootstrap"]
            command += ["--arch=arm64", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(partial)]
            _run_or_skip(command, "debootstrap", DEBOOTSTRAP_TIMEOUT_S)
    return root


def _run_or_skip(command: list[str], what: str, timeout_s: float) -> None:
    # A developer's machine may lack things, such as a network; CI must have them.
    stop = pytest.fail if os.environ.get("CI") else pytest.skip
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        stop(f"no emulated board: {what} did not end in {timeout_s:g} s")
    if done.returncode != 0:
        last = (done.stdout.strip().splitlines() or ["no message"])[-1]
        stop(f"no emulated board: {what} failed: {last}")


@pytest.fixture(scope="session")
def wheels(board) -> Path:
    """A folder with ONNX Runtime's wheel for the board."""
    with _keep(ONNXRUNTIME.replace("==", "-")) as (place, partial):
        if partial is not None:
            try:
                pip = [find_uv(), "tool", "run", "pip"]
            except ModelError as error:
                pytest.skip(f"no wheel for the board: {error.message}")
            command = [*pip, "download", "--no-deps", "--only-binary=:all:", "--platform=manylinux_2_28_aarch64"]
            command += ["--python-version=3.11", f"--dest={partial}", ONNXRUNTIME]
            _run_or_skip(command, f"pip download {ONNXRUNTIME}", WHEEL_TIMEOUT_S)
    return place


@pytest.fixture(scope="session")
def onnx_bundle(export) -> ExportReport:
    """A small bundle without a Paddle-Lite library, with graphs for ONNX Runtime; also zipped. Do not change it."""
    return export(precision="int8", with_onnx=True, zip=True)


@pytest.fixture
def export_with_library(opt, make_home, tmp_path, monkeypatch) -> Callable[[Path], ExportReport]:
    """Export a small bundle with a Paddle-Lite library, given by its archive's folder; also zipped."""

    def export(library: Path) -> ExportReport:
        monkeypatch.setenv("EDGE_OCR_HOME", str(make_home()))
        options = ExportOptions(precision="int8", lite_lib=library, verify=False, zip=True)
        return export_bundle("arm", tmp_path / "bundle", load_config("OCR"), options)

    return export
