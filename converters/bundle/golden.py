"""The golden picture of a bundle, and the lines that a device must read in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converters.bundle.pictures import find_pictures_folder
from converters.lite.graph_engines import open_graph_engines
from converters.lite.nb.read import NbModel
from edge_ocr.config import PipelineConfig
from edge_ocr.core.charset import Charset
from edge_ocr.core.engines.base import count_cores
from edge_ocr.core.pictures import decode_picture
from edge_ocr.core.pipeline import TextReader
from edge_ocr.models.types import Kind

GOLDEN_FILE = "golden.png"

# Latin and Chinese text in few lines, because devices may be slow.
_PICTURE = "sign.png"

# Beyond these, engines differ in rounding.
_SCORE_DIGITS = 4


def read_golden_picture() -> bytes:
    """Return the picture as PNG, which all decoders turn into the same pixels."""
    return (find_pictures_folder() / _PICTURE).read_bytes()


def read_golden_lines(models: Mapping[Kind, NbModel], config: PipelineConfig, charset: Charset) -> list[dict[str, Any]]:
    """Return the lines that a bundle's models read in the golden picture, in the form of the manifest.

    Raises NotVerifiedError if the models cannot run here.
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
