"""edge-ocr: reads text on the host, and takes the same models to phones and ARM boards.

>>> from edge_ocr import create_pipeline
>>> for result in create_pipeline("OCR").predict("photo.jpg"):
...     result.print()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_ocr.config import PipelineConfig, load_config
    from edge_ocr.errors import EdgeOcrError
    from edge_ocr.pipeline import OcrPipeline, create_pipeline
    from edge_ocr.results import OcrResult

__version__ = "0.1.0"

__all__ = [
    "EdgeOcrError",
    "OcrPipeline",
    "OcrResult",
    "PipelineConfig",
    "__version__",
    "create_pipeline",
    "load_config",
]

# Public names and their modules, imported on first use: the command line must start without loading OpenCV.
_HOMES = {
    "EdgeOcrError": "edge_ocr.errors",
    "OcrPipeline": "edge_ocr.pipeline",
    "OcrResult": "edge_ocr.results",
    "PipelineConfig": "edge_ocr.config",
    "create_pipeline": "edge_ocr.pipeline",
    "load_config": "edge_ocr.config",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
