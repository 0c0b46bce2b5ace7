"""The files that only bundles for boards have: the runtime, its scripts, and the shim."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import edge_ocr.core
from converters.bundle.writer import BundleWriter
from converters.lite.compiler import COMPILE_TIMEOUT_S, SOURCES, Arch, find_compiler
from converters.lite.libraries.elf import find_min_glibc
from converters.lite.libraries.library import RuntimeLibrary
from converters.plan import Shim
from converters.processes.child import make_environment, run_child
from converters.text import Report
from edge_ocr.core.bundle import SHIM, iterate_files, order_version
from edge_ocr.errors import NotVerifiedError, ToolchainError

RUNTIME = "runtime/edge_ocr_lite"
"""Folder in the bundle."""

SCRIPTS = ("edge-ocr-lite", "install.sh", "uninstall.sh")

SERVICE = "edge-ocr-lite.service"

# A header in the same folder; a path that leads elsewhere does not match.
_INCLUDE = re.compile(rb'^\s*#\s*include\s*"(\w[\w-]*\.h)"', re.MULTILINE)


def add_runtime(bundle: BundleWriter) -> None:
    """Copy the code that boards run, and its scripts."""
    core = Path(edge_ocr.core.__file__).parent
    for path in iterate_files(core):
        bundle.add(f"{RUNTIME}/{path.relative_to(core).as_posix()}", path.read_bytes())
    scripts = Path(__file__).parent
    for name in SCRIPTS:
        bundle.add(name, (scripts / name).read_bytes(), executable=True)
    bundle.add(SERVICE, (scripts / SERVICE).read_bytes())


def add_shims(
    bundle: BundleWriter, folder: str, libraries: Mapping[str, RuntimeLibrary | None], report: Report
) -> dict[str, Shim]:
    """Build the shim for each library in the bundle, or add the headers so that the board can build it.

    `folder` is the bundle's folder for libraries. Returns the shims by ABI.
    """
    shims: dict[str, Shim] = {}
    for abi, library in libraries.items():
        if library is None or library.cxx_library is None:
            continue
        file, glibc = None, [find_min_glibc(library.cxx_library)]
        if library.include_dir is None:
            report(
                f"WARNING: {SHIM} for {abi} can be built neither here nor on the board, because {library.source} has "
                "no paddle_api.h; give --lite-lib the whole archive"
            )
        else:
            try:
                arch: Arch = "armv8" if abi == "armv8" else "armv7hf"
                data, of_shim = build_shim(arch, library.cxx_library, library.include_dir)
            except NotVerifiedError as error:
                report(f"cannot build {SHIM} for {abi}: {error.message}; install.sh builds it on the board with g++")
                for header in _list_headers(library.include_dir, "paddle_api.h"):
                    bundle.add(f"include/{header}", (library.include_dir / header).read_bytes())
            else:
                file = f"{folder}/{abi}/{SHIM}"
                bundle.add(file, data)
                glibc.append(of_shim)
        shims[abi] = Shim(file, max(filter(None, glibc), key=order_version, default=None))
    return shims


def build_shim(arch: Arch, library: Path, include_dir: Path) -> tuple[bytes, str | None]:
    """Return libedge_ocr_lite.so for a Paddle-Lite library, and the oldest glibc that loads it.

    It finds the library by its soname in its own folder.

    Raises NotVerifiedError if there is no compiler or the shim does not build.
    """
    compiler = find_compiler(arch)
    with tempfile.TemporaryDirectory(prefix="edge-ocr-") as scratch:
        out = Path(scratch) / SHIM
        command = [compiler, "-std=c++11", "-O2", "-fPIC", "-shared", "-s", "-fvisibility=hidden", "-Wfatal-errors"]
        command += ["-I", str(SOURCES), "-I", str(include_dir), str(SOURCES / "edge_ocr_lite.cpp"), "-o", str(out)]
        command += [f"-L{library.parent}", f"-l:{library.name}", f"-Wl,-soname,{SHIM}", "-Wl,-rpath,$ORIGIN"]
        try:
            ended = run_child(command, COMPILE_TIMEOUT_S, env=make_environment())
        except (ToolchainError, subprocess.TimeoutExpired) as error:
            raise NotVerifiedError(str(error)) from None
        if ended.returncode != 0:
            reason = " ".join(ended.stderr.decode(errors="replace").split())[:500]
            raise NotVerifiedError(f"{SHIM} does not build against {library}: {reason}")
        return out.read_bytes(), find_min_glibc(out)


def _list_headers(include_dir: Path, name: str) -> Iterator[str]:
    """Yield a header and the headers in its folder that it includes, directly or not."""
    pending, seen = [name], set[str]()
    while pending:
        header = pending.pop()
        if header not in seen and (include_dir / header).is_file():
            seen.add(header)
            yield header
            pending += [found.decode() for found in _INCLUDE.findall((include_dir / header).read_bytes())]
