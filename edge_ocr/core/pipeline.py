"""Runs detection, cropping, orientation and recognition on one image."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from .charset import Charset
from .detection import TextDetector
from .engines.base import Engine
from .errors import InputError
from .geometry import crop_polygon, is_vertical, measure_line, measure_sides, sort_reading_order
from .imaging import add_border, plan_border
from .orientation import OrientationClassifier, turn
from .page import PageClassifier, turn_back, turn_upright
from .recognition import TextRecognizer
from .settings import StageSettings
from .types import BgrImage, Polygon, Reading, TextBox, TextLine
from .words import place_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

# If the classifier is uncertain, a line is read both ways, and the turned reading must score this much better: some
# characters (W and M, 0, H) read well either way, and most lines are upright.
TURNED_SCORE_MARGIN = 0.1

# A turned line that scores below this is read the other way round, too: vertical lines may read upwards, and of 186
# long, thin lines, which the classifier sees squeezed, it turned 7 wrongly. Measured: lines that are read upside down
# score up to 0.83, most others 0.87 or more.
UNSURE_SCORE = 0.85

# If the page classifier is uncertain or finds a turned page, this many lines, the longest, are read both ways.
PROBE_LINES = 6


class TextReader:
    """Reads every text line of an image."""

    def __init__(
        self,
        detector: TextDetector,
        recognizer: TextRecognizer,
        classifier: OrientationClassifier | None = None,
        page_classifier: PageClassifier | None = None,
    ) -> None:
        self.detector = detector
        self.recognizer = recognizer
        self.classifier = classifier
        self.page_classifier = page_classifier

    @classmethod
    def build(cls, engines: Mapping[Any, Engine], charset: Charset, settings: StageSettings) -> TextReader:
        """Return a reader on the engines for `det`, `rec` and optionally `cls` and `page`."""
        return cls(
            TextDetector(engines["det"], settings.detection),
            TextRecognizer(engines["rec"], charset, settings.recognition),
            OrientationClassifier(engines["cls"], settings.orientation) if "cls" in engines else None,
            PageClassifier(engines["page"], settings.page_orientation) if "page" in engines else None,
        )

    def read(self, image: BgrImage, label: str = "picture", words: str | None = None) -> Reading:
        """Detect and read lines, without those that score below `text_score`. No text gives no lines.

        `words`: `none`, `words`, or `chars` for words and characters; by default the settings decide.

        Raises InputError, naming `label`, if the image does not fit into memory.
        """
        timings: dict[str, float] = {}
        settings = self.recognizer.settings
        least = settings.text_score
        words = settings.return_words if words is None else words
        try:
            turns, lines = self._read(image, timings, words)
        except (MemoryError, cv2.error) as error:
            # OpenCV raises cv2.error if memory is short or it does not support the size.
            reason = " ".join(str(error).split()) or "out of memory"
            raise InputError(f"{label} ({image.shape[1]}×{image.shape[0]}) cannot be processed: {reason}") from None
        read = [line for line in lines if line.text]
        angle = None if self.page_classifier is None else 90 * turns
        left_out = tuple(line.rec_score for line in read if line.rec_score < least)
        return Reading([line for line in read if line.rec_score >= least], timings, left_out, angle, words)

    def read_all(self, image: BgrImage, timings: dict[str, float]) -> list[TextLine]:
        """Return a line for each box, whatever its score; its text is "" if nothing was read.

        Puts the time of each stage in milliseconds into `timings`.
        """
        return self._read(image, timings, "none")[1]

    def _read(self, image: BgrImage, timings: dict[str, float], return_words: str) -> tuple[int, list[TextLine]]:
        """Return how many quarter turns clockwise the page is turned, and a line for each box."""
        locate = return_words != "none"
        turns, page, boxes = self._find_page(image, timings)
        with _timed(timings, "crop"):
            crops = [crop_polygon(page, box.polygon) for box in boxes]
        turned: list[int] = []
        unsure: list[int] = []
        if self.classifier is not None:
            with _timed(timings, "orientation"):
                turned, unsure = self.classifier.find_turned(crops)
                for i in turned:
                    crops[i] = turn(crops[i])
        is_turned = [i in turned for i in range(len(crops))]
        with _timed(timings, "recognition"):
            readings = self.recognizer.recognize(crops, locate=locate)
            if self.classifier is None:
                turned = [i for i, box in enumerate(boxes) if is_vertical(*measure_sides(box.polygon))]
            unsure += [i for i in turned if readings[i].score < UNSURE_SCORE]
            others = self.recognizer.recognize([turn(crops[i]) for i in unsure], locate=locate)
            for i, other in zip(unsure, others):
                if other.score > readings[i].score + TURNED_SCORE_MARGIN:
                    readings[i] = other
                    is_turned[i] = not is_turned[i]
        height, width = image.shape[:2]
        upright = [width, height] if turns % 2 == 0 else [height, width]
        border = plan_border(height, width)

        def move(polygons: NDArray[np.float32]) -> NDArray[np.float32]:
            """Map polygons, N × 4 × 2, from the page with its border to the picture."""
            return turn_back(np.clip(polygons - border, 0, upright), turns, height, width)

        settings = self.recognizer.settings
        polygons = move(np.array([box.polygon for box in boxes], dtype=np.float32).reshape(-1, 4, 2))
        lines = []
        for i, (box, reading) in enumerate(zip(boxes, readings)):
            words = None
            if locate:
                words = place_words(
                    reading,
                    settings.cjk_words,
                    settings.direction == "rtl",
                    box.polygon,
                    is_turned[i],
                    move,
                    with_characters=return_words == "chars",
                )
            lines.append(TextLine(polygons[i], box.det_score, reading.text, reading.score, words))
        return turns, lines

    def _find_page(self, image: BgrImage, timings: dict[str, float]) -> tuple[int, BgrImage, list[TextBox]]:
        """Return the quarter turns of the page, the picture with the page upright and with a border, and its boxes."""
        turns, is_certain = 0, True
        if self.page_classifier is not None:
            with _timed(timings, "page_orientation"):
                turns, is_certain = self.page_classifier.find_turns(image)
        page, boxes = self._detect(image, turns, timings)
        if turns == 0 and is_certain:
            return turns, page, boxes
        with _timed(timings, "page_orientation"):
            more = self._probe_turns(page, boxes)
        # Without a legible line, the picture stays as it is.
        found = 0 if more is None else (turns + more) % 4
        if found != turns:
            page, boxes = self._detect(image, found, timings)
        return found, page, boxes

    def _detect(self, image: BgrImage, turns: int, timings: dict[str, float]) -> tuple[BgrImage, list[TextBox]]:
        with _timed(timings, "detection"):
            page = turn_upright(image, turns)
            page = add_border(page, plan_border(*page.shape[:2]))
            boxes = self.detector.detect(page)
            if self.recognizer.settings.direction == "rtl":
                boxes = sort_reading_order(boxes, right_to_left=True)
            return page, boxes

    def _probe_turns(self, page: BgrImage, boxes: list[TextBox]) -> int | None:
        """Return by how many more quarters clockwise the page is turned, according to its longest lines."""
        longest = sorted(boxes, key=lambda box: -measure_line(box.polygon).length)[:PROBE_LINES]
        crops = [crop_polygon(page, box.polygon) for box in longest]
        readings = self.recognizer.recognize(crops + [turn(crop) for crop in crops])
        scores = [(reading.score, other.score) for reading, other in zip(readings, readings[len(crops) :])]
        return choose_turns([box.polygon for box in longest], scores, self.recognizer.settings.text_score)


def choose_turns(polygons: list[Polygon], scores: list[tuple[float, float]], least: float) -> int | None:
    """Return by how many quarters clockwise a page is turned, 0 to 3; None if its lines do not tell.

    `scores`: how well each line reads as it was cut out, and turned by 180°. A line votes for the way in which it reads
    clearly better and scores at least `least`, by its length times the difference.
    """
    votes = [0.0] * 4
    for polygon, (score, other) in zip(polygons, scores):
        if max(score, other) >= least and abs(score - other) > TURNED_SCORE_MARGIN:
            # The crop of a vertical line was laid by a quarter turn.
            way = int(is_vertical(*measure_sides(polygon))) + 2 * (other > score)
            votes[way] += measure_line(polygon).length * abs(score - other)
    return votes.index(max(votes)) if any(votes) else None


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[stage] = timings.get(stage, 0.0) + (time.perf_counter() - start) * 1000
