"""Runs detection, cropping, orientation and recognition on one image."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np

from .charset import Charset
from .detection import TextDetector
from .engines.base import Engine
from .errors import InputError
from .geometry import crop_polygon, is_vertical, measure_sides, sort_reading_order
from .imaging import add_border, plan_border
from .orientation import OrientationClassifier, turn
from .recognition import TextRecognizer
from .settings import StageSettings
from .types import BgrImage, Reading, TextLine

# If the classifier is uncertain, a line is read both ways, and the turned reading must score this much better: some
# characters (W and M, 0, H) read well either way, and most lines are upright.
TURNED_SCORE_MARGIN = 0.1

# A turned line that scores below this is read the other way round, too: vertical lines may read upwards, and of 186
# long, thin lines, which the classifier sees squeezed, it turned 7 wrongly. Measured: lines that are read upside down
# score up to 0.83, most others 0.87 or more.
UNSURE_SCORE = 0.85


class TextReader:
    """Reads every text line of an image."""

    def __init__(
        self,
        detector: TextDetector,
        recognizer: TextRecognizer,
        classifier: OrientationClassifier | None = None,
    ) -> None:
        self.detector = detector
        self.recognizer = recognizer
        self.classifier = classifier

    @classmethod
    def build(cls, engines: Mapping[Any, Engine], charset: Charset, settings: StageSettings) -> TextReader:
        """Return a reader on the engines for `det`, `rec` and optionally `cls`."""
        return cls(
            TextDetector(engines["det"], settings.detection),
            TextRecognizer(engines["rec"], charset, settings.recognition),
            OrientationClassifier(engines["cls"], settings.orientation) if "cls" in engines else None,
        )

    def read(self, image: BgrImage, label: str = "picture") -> Reading:
        """Detect and read lines, without those that score below `text_score`. No text gives no lines.

        Raises InputError, naming `label`, if the image does not fit into memory.
        """
        timings: dict[str, float] = {}
        least = self.recognizer.settings.text_score
        try:
            read = [line for line in self.read_all(image, timings) if line.text]
        except (MemoryError, cv2.error) as error:
            # OpenCV raises cv2.error if memory is short or it does not support the size.
            reason = " ".join(str(error).split()) or "out of memory"
            raise InputError(f"{label} ({image.shape[1]}×{image.shape[0]}) cannot be processed: {reason}") from None
        left_out = tuple(line.rec_score for line in read if line.rec_score < least)
        return Reading([line for line in read if line.rec_score >= least], timings, left_out)

    def read_all(self, image: BgrImage, timings: dict[str, float]) -> list[TextLine]:
        """Return a line for each box, whatever its score; its text is "" if nothing was read.

        Puts the time of each stage in milliseconds into `timings`.
        """
        height, width = image.shape[:2]
        border = plan_border(height, width)
        with _timed(timings, "detection"):
            image = add_border(image, border)
            boxes = self.detector.detect(image)
            if self.recognizer.settings.direction == "rtl":
                boxes = sort_reading_order(boxes, right_to_left=True)
        with _timed(timings, "crop"):
            crops = [crop_polygon(image, box.polygon) for box in boxes]
            polygons = [np.clip(box.polygon - border, 0, [width, height]).astype(np.float32) for box in boxes]
        turned: list[int] = []
        unsure: list[int] = []
        if self.classifier is not None:
            with _timed(timings, "orientation"):
                turned, unsure = self.classifier.find_turned(crops)
                for i in turned:
                    crops[i] = turn(crops[i])
        with _timed(timings, "recognition"):
            readings = self.recognizer.recognize(crops)
            if self.classifier is None:
                turned = [i for i, box in enumerate(boxes) if is_vertical(*measure_sides(box.polygon))]
            unsure += [i for i in turned if readings[i][1] < UNSURE_SCORE]
            for i, other in zip(unsure, self.recognizer.recognize([turn(crops[i]) for i in unsure])):
                if other[1] > readings[i][1] + TURNED_SCORE_MARGIN:
                    readings[i] = other
        return [
            TextLine(polygon, box.det_score, text, score)
            for polygon, box, (text, score) in zip(polygons, boxes, readings)
        ]


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[stage] = (time.perf_counter() - start) * 1000
