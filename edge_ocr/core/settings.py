"""Settings of each stage, without defaults: `edge_ocr.config` on the host, the bundle on a device fills them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

# Longest side of a detection input, whatever the picture's shape; PaddleX's max_side_limit.
MAX_DETECTION_SIDE = 4000

# What a line may have besides its text: nothing, words, or words and characters.
RETURN_WORDS = ("none", "words", "chars")


@dataclass(frozen=True)
class DetectionSettings:
    """Resize, normalisation and DB post-processing of text detection."""

    limit_side_len: int
    """Side length in pixels that `limit_type` applies to."""
    limit_type: str
    """`max`: longest side at most the limit; `min`: shortest side at least; `long`: longest side exactly."""
    bin_threshold: float
    """Probability in [0, 1] above which a pixel of the prob map counts as text."""
    box_threshold: float
    """Mean probability in [0, 1] that a box must reach."""
    unclip_ratio: float
    """How far a box grows: offset in pixels = area × ratio / perimeter."""
    max_candidates: int
    """How many contours are examined at most."""
    mean: tuple[float, float, float]
    """Per channel (BGR), for values in [0, 1]."""
    std: tuple[float, float, float]
    """Per channel (BGR), for values in [0, 1]."""
    windows: bool
    """Whether pictures whose text is too small at that side length are searched again in windows at a larger scale."""


@dataclass(frozen=True)
class RecognitionSettings:
    """Input shape, batching and score limit of text recognition."""

    image_height: int
    """Height of the network's input in pixels."""
    min_width: int
    """Narrowest input in pixels; narrower crops are padded to it."""
    batch_size: int
    """Largest number of crops per batch."""
    text_score: float
    """Lines with a lower `rec_score` are left out of the result."""
    direction: str
    """`ltr` or `rtl`: the direction of the text. The network's order is always that of the picture, left to right."""
    space_weight: float
    """How many times more probable a space counts against the blank: networks miss narrow ones."""
    return_words: str
    """What each line has besides its text: `none`, `words`, or `chars`, words and characters."""
    cjk_words: str
    """Words of Chinese and Japanese, which have no spaces: each `character`, or a whole `run` of them."""


@dataclass(frozen=True)
class OrientationSettings:
    """Input shape and threshold of the text-line orientation classifier."""

    image_height: int
    image_width: int
    threshold: float
    """A line is turned if the probability of 180° exceeds this."""


@dataclass(frozen=True)
class PageOrientationSettings:
    """Input shape and threshold of the page orientation classifier."""

    resize_short: int
    """Length in pixels to which the shorter side of a picture is scaled; the input's longer side if that is longer."""
    image_height: int
    image_width: int
    mean: tuple[float, float, float]
    """Per channel (RGB), for values in [0, 1]."""
    std: tuple[float, float, float]
    """Per channel (RGB), for values in [0, 1]."""
    threshold: float
    """A class with a lower probability is uncertain: lines are then read to find out how the page is turned."""


class StageSettings(Protocol):
    """An object with the settings of all stages, such as a pipeline's config or a bundle."""

    @property
    def detection(self) -> DetectionSettings: ...

    @property
    def recognition(self) -> RecognitionSettings: ...

    @property
    def orientation(self) -> OrientationSettings: ...

    @property
    def page_orientation(self) -> PageOrientationSettings: ...
