"""`edge-ocr-lite selftest`: check every file and compare the golden picture with the host's result."""

from __future__ import annotations

import argparse
import sys
import time

from ..bundle import find_own_bundle, open_bundle
from ..errors import NotVerifiedError


def run(options: argparse.Namespace) -> int:
    """Check each layer and print a line for it."""
    bundle = open_bundle(find_own_bundle() if options.bundle is None else options.bundle)
    _write("files", f"{bundle.check_files()} files match the manifest")
    trust = bundle.describe_trust()
    if trust is not None:
        _write("trusted", trust)
    # Imported after the check: a damaged file of this package may not be Python at all.
    from ..lite_ocr import LiteOCR
    from ..selftest import compare_golden

    # The installer may still restore the previous bundle.
    reader = LiteOCR(
        options.bundle,
        engine=options.engine,
        threads=options.threads,
        power_mode=options.power_mode,
        note_release=False,
    )
    _write("engine", f"{reader.engine}, {reader.threads} threads, models loaded in {reader.load_ms:.0f} ms")
    golden = bundle.manifest.get("golden")
    if golden is None:
        raise NotVerifiedError(
            "the bundle has no golden result to compare with",
            "run pip install openvino on the host and export the bundle again",
        )
    started = time.perf_counter()
    reading = reader.predict(bundle.check_file(golden["image"]))
    spent_ms = (time.perf_counter() - started) * 1000
    _write("golden", f"{compare_golden(reading, golden)}, in {spent_ms:.0f} ms")
    return 0


def _write(layer: str, text: str) -> None:
    sys.stdout.write(f"{layer:8}ok  {text}\n")
    sys.stdout.flush()
