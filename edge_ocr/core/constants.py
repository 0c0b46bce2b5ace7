"""What the stages do that no setting changes, for the manifest."""

from __future__ import annotations

from typing import Any

from . import detection, geometry, imaging, pipeline, recognition
from .settings import MAX_DETECTION_SIDE


def list_constants() -> dict[str, Any]:
    """Return the constants of the stages, as the manifest holds them."""
    half = [0.5, 0.5, 0.5]
    return {
        "detection": {
            "side_multiple": imaging.DETECTION_STRIDE,
            "max_side": MAX_DETECTION_SIDE,
            "min_box_side": detection.MIN_SIDE_PX,
            "min_grown_box_side": detection.MIN_UNCLIPPED_SIDE_PX,
        },
        "geometry": {"row_tolerance": geometry.ROW_TOLERANCE, "vertical_ratio": geometry.VERTICAL_RATIO},
        "recognition": {
            "mean": half,
            "std": half,
            "pad_value": 0.0,
            "width_multiple": recognition.WIDTH_STEP,
            "max_width": recognition.MAX_WIDTH,
        },
        "orientation": {
            "mean": half,
            "std": half,
            "pad_value": 0.0,
            "turned_class": 1,
            "turned_score_margin": pipeline.TURNED_SCORE_MARGIN,
        },
    }
