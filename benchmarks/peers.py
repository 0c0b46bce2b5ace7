"""Make environments for the systems that edge-ocr is compared with, once, in its cache folder, with uv.

python -m benchmarks.peers [NAME ...]
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from converters.processes.child import clean_environment
from converters.processes.interpreters import READY_MARKER, UV_TIMEOUT_S
from edge_ocr.errors import ToolchainError, UsageError
from edge_ocr.models.store import find_uv, store_root

PYTHON = "3.11"

# Packages that affect speed are pinned. The results name the versions that ran.
PEERS = {
    "rapidocr": (
        "rapidocr-onnxruntime==1.4.4",
        "onnxruntime==1.32.0",
        "opencv-python==5.0.0.93",
        "numpy==2.4.6",
    ),
    # Also for benchmarks.words; the package has the models of PP-OCRv6 small.
    "rapidocr3": (
        "rapidocr==3.10.0",
        "onnxruntime==1.32.0",
        "opencv-python-headless==5.0.0.93",
        "numpy==2.4.6",
    ),
    "paddleocr": (
        "paddleocr==2.10.0",
        "paddlepaddle==3.3.1",
        "opencv-python==5.0.0.93",
        "opencv-contrib-python==5.0.0.93",
        "opencv-python-headless==5.0.0.93",
        "numpy==2.4.6",
        # Imported by Paddle, which does not declare it.
        "setuptools==84.2.1",
    ),
    # PaddleX, which it uses, pins OpenCV and with it NumPy. PP-OCRv6 is only available as ONNX here.
    "paddleocr3": (
        "paddleocr==3.7.0",
        "paddlex==3.7.2",
        "paddlepaddle==3.3.1",
        "onnxruntime==1.32.0",
        "opencv-contrib-python==4.10.0.84",
        "numpy==2.3.5",
        "setuptools==84.2.1",
    ),
    # PP-OCRv6 on engines of their own: C++, and ONNX Runtime in Rust. The worker imports OpenCV.
    "rapidocrlite": ("rapidocrlite==5.0.0a15", "opencv-python==5.0.0.93", "numpy==2.4.6"),
    "faster-paddle": ("faster-paddle==1.0.4", "opencv-python==5.0.0.93", "numpy==2.4.6"),
}


def find_peer(name: str) -> Path:
    """Return the interpreter of a peer's environment; make the environment if it does not exist.

    Raises UsageError if the name is unknown, ModelError if uv is missing, ToolchainError if uv fails.
    """
    if name not in PEERS:
        raise UsageError(f"unknown system {name}", f"one of {', '.join(PEERS)}")
    digest = hashlib.sha256(repr((PYTHON, PEERS[name])).encode()).hexdigest()[:8]
    # Absolute, as uv runs inside the folder above it.
    folder = (store_root() / "peers" / f"{name}-{digest}").absolute()
    python = folder / "bin" / "python"
    if (folder / READY_MARKER).is_file():
        return python
    print(f"{name}: making {folder}", file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    # uv's own search stops at the first broken pyenv shim.
    base = sys.executable if sys.version.startswith(f"{PYTHON}.") else PYTHON
    run_uv("venv", "--no-project", "--python", base, str(folder))
    run_uv("pip", "install", "--only-binary", ":all:", "--python", str(python), *PEERS[name])
    (folder / READY_MARKER).touch()
    return python


def run_uv(*arguments: str) -> None:
    done = subprocess.run(
        [find_uv(), *arguments, "--quiet"],
        cwd=store_root() / "peers",  # ignore the settings of a project in the current folder
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=UV_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise ToolchainError(
            f"uv {' '.join(arguments)} ended with exit code {done.returncode}: {' '.join(done.stderr.split())}",
            "check the network and uv's index settings, then try again",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)}; default: all")
    for name in parser.parse_args().names or PEERS:
        print(f"{name}: {find_peer(name)}")


if __name__ == "__main__":
    main()
