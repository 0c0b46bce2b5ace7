"""Simulates Gradle: prints the version, and builds or fails, as FAKE_GRADLE and FAKE_BUILD say."""

import os
import sys
from pathlib import Path

FAILURE = """
FAILURE: Build failed with an exception.

* What went wrong:
Execution failed for task ':ocr:checkPaddleLite'.
> ocr lacks libs/PaddlePredictor.jar; this puts them there: edge-ocr export

* Try:
> Run with --stacktrace option to get the stack trace.

BUILD FAILED in 2s
"""

if sys.argv[1:] == ["--version"]:
    line = "-" * 60
    sys.stdout.write(
        f"\n{line}\nGradle {os.environ['FAKE_GRADLE']}\n{line}\n\nBuild time:    2025-07-04 13:15:44 UTC\n"
    )
    sys.exit()
if sys.argv[1:] != ["--no-daemon", "--console=plain", "--quiet", ":app:assembleDebug"]:
    sys.exit(f"unknown arguments {sys.argv[1:]}")
if os.environ["FAKE_BUILD"] == "fails":
    sys.stderr.write(FAILURE)
    sys.exit(1)
if os.environ["FAKE_BUILD"] == "builds":
    apk = Path("app/build/outputs/apk/debug/app-debug.apk")
    apk.parent.mkdir(parents=True, exist_ok=True)
    apk.write_bytes(b"apk")
