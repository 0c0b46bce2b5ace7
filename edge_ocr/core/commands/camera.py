"""`edge-ocr-lite camera`: read from a camera and print lines as they change."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from ..errors import InputError
from ..lite_ocr import LiteOCR
from ..types import BgrImage, Reading


def run(options: argparse.Namespace) -> int:
    """Read frames to the end of the stream, or as many as `--frames` says."""
    with _open_camera(options.device) as frames:
        reader = LiteOCR(options.bundle, engine=options.engine, threads=options.threads, power_mode=options.power_mode)
        before: list[str] = []
        for number, frame in enumerate(frames, 1):
            reading = reader.read(frame, options.device, words=options.words)
            texts = [line.text for line in reading.lines]
            if texts != before:
                _write(reading, texts, before, options)
            before = texts
            if number == options.frames:
                break
    return 0


@contextmanager
def _open_camera(device: str) -> Iterator[Iterator[BgrImage]]:
    name = f"/dev/video{device}" if device.isdecimal() else device
    is_stream = "://" in name
    # Check first, as OpenCV only prints warnings.
    if not is_stream and not Path(name).exists():
        raise InputError(f"no camera: {name} does not exist", "run ls /dev/video*, and name a camera with --device")
    is_file = not is_stream and Path(name).is_file()
    capture = cv2.VideoCapture(name, cv2.CAP_ANY if is_stream or is_file else cv2.CAP_V4L2)
    try:
        if not capture.isOpened():
            raise InputError(
                f"{name} gives no pictures: it is not a camera or video, is in use, or this user may not read it",
                "close other programs that use it, and add the user to the group video",
            )
        # Get the newest picture, not one buffered during the last reading. Some cameras ignore this.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        yield _grab(capture, name, is_file)
    finally:
        capture.release()


def _grab(capture: Any, name: str, is_file: bool) -> Iterator[BgrImage]:
    seen = False
    while True:
        success, frame = capture.read()
        if not success:
            # A video ends; a camera does not.
            if not is_file or not seen:
                raise InputError(f"{name} gives no more pictures", "check that the camera is plugged in")
            return
        seen = True
        yield frame


def _write(reading: Reading, texts: list[str], before: list[str], options: argparse.Namespace) -> None:
    if options.format == "jsonl":
        result = {"time": round(time.time(), 3), **reading.describe(options.device)}
        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("".join(f"{text}\n" for text in texts if text not in before))
    sys.stdout.flush()
