"""The golden picture of a bundle, and what a device must read in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from converters.bundle.pictures import find_pictures_folder
from converters.lite.graph_engines import open_graph_engines
from edge_ocr.core.engines.base import count_cores
from edge_ocr.core.pictures import decode_picture
from edge_ocr.core.pipeline import TextReader

if TYPE_CHECKING:
    from converters.lite.nb.read import NbModel
    from edge_ocr.config import PipelineConfig
    from edge_ocr.core.charset import Charset
    from edge_ocr.models.types import Kind

GOLDEN_FILE = "golden.png"

# Few lines, for the sake of slow devices, in Latin and Chinese.
_PICTURE = "sign.png"

# Scores of engines that round in another way differ behind it.
_SCORE_DIGITS = 4


def read_golden_picture() -> bytes:
    """Return the picture as a PNG file, which every decoder makes the same pixels of."""
    return (find_pictures_folder() / _PICTURE).read_bytes()


def read_golden_lines(models: Mapping[Kind, NbModel], config: PipelineConfig, charset: Charset) -> list[dict[str, Any]]:
    """Return, as the manifest holds them, the lines that the models of a bundle read in the golden picture.

    Raises NotVerifiedError where the models cannot be run here.
    """
    image = decode_picture(read_golden_picture(), GOLDEN_FILE)
    with open_graph_engines(models, count_cores()) as opened:
        reading = TextReader.build(opened.engines, charset, config).read(image)
    return [
        {
            "polygon": line.polygon.astype(int).tolist(),
            "det_score": round(line.det_score, _SCORE_DIGITS),
            "text": line.text,
            "rec_score": round(line.rec_score, _SCORE_DIGITS),
        }
        for line in reading.lines
    ]
