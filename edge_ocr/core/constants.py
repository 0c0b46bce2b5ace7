"""The constants of the stages, which no setting changes, for the manifest."""

from __future__ import annotations

from typing import Any

from . import detection, geometry, imaging, page, pipeline, recognition, windows, words
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
        "border": {
            "small_side": imaging.SMALL_SIDE,
            "strip_side": imaging.STRIP_SIDE,
            "strip_ratio": imaging.STRIP_RATIO,
            "pixels": imaging.BORDER_PX,
        },
        "windows": {
            "side": windows.WINDOW_SIDE,
            "overlap": windows.WINDOW_OVERLAP,
            "whole_pixels": windows.MAX_WHOLE_PIXELS,
            "large_side": windows.LARGE_WINDOW_SIDE,
            "large_overlap": windows.LARGE_WINDOW_OVERLAP,
            "blank_range": windows.BLANK_RANGE,
            "small_box": windows.SMALL_BOX_PX,
            "legible_box": windows.LEGIBLE_BOX_PX,
            "visible_scale": windows.VISIBLE_SCALE,
            "blind_scale": windows.BLIND_SCALE,
            "print_scale": windows.PRINT_SCALE,
            "enough_scale": windows.ENOUGH_SCALE,
            "whole_scale": windows.WHOLE_SCALE,
            "margin": windows.WINDOW_MARGIN,
            "covered_share": windows.COVERED_SHARE,
            "clear_box": windows.CLEAR_BOX_PX,
            "same_line": windows.SAME_LINE,
            "stroke_contrast": windows.STROKE_CONTRAST,
            "stroke_share": windows.STROKE_SHARE,
            "tile_side": windows.TILE_SIDE,
            "tile_share": windows.TILE_SHARE,
            "fine_box": windows.FINE_BOX_PX,
        },
        "geometry": {
            "row_tolerance": geometry.ROW_TOLERANCE,
            "vertical_ratio": geometry.VERTICAL_RATIO,
            "slanted_ratio": geometry.SLANTED_RATIO,
            "slant": _describe_slopes(geometry.SLANT),
            "breaking_slant": _describe_slopes(geometry.BREAKING_SLANT),
            "least_fill": geometry.LEAST_FILL,
            "piece_gap": geometry.PIECE_GAP,
            "piece_height": geometry.PIECE_HEIGHT,
            "tilt_ratio": geometry.TILT_RATIO,
            "least_tilt": geometry.LEAST_TILT,
            "max_tilt": geometry.MAX_TILT,
            "tilt_spread": geometry.TILT_SPREAD,
        },
        "recognition": {
            "mean": half,
            "std": half,
            "pad_value": 0.0,
            "width_multiple": recognition.WIDTH_STEP,
            "max_width": recognition.MAX_WIDTH,
            "part_width": recognition.PART_WIDTH,
            "cut_reach": recognition.CUT_REACH,
            "cut_range": recognition.CUT_RANGE,
            "space_ratio": recognition.SPACE_RATIO,
        },
        "words": {
            "ink_share": words.INK_SHARE,
            "least_ink": words.LEAST_INK,
            "cut_pull": words.CUT_PULL,
            "reach": words.REACH,
        },
        "orientation": {
            "mean": half,
            "std": half,
            "pad_value": 0.0,
            "turned_class": 1,
            "turned_score_margin": pipeline.TURNED_SCORE_MARGIN,
            "unsure_score": pipeline.UNSURE_SCORE,
        },
        "page_orientation": {
            "max_view_ratio": page.MAX_VIEW_RATIO,
            "probe_lines": pipeline.PROBE_LINES,
        },
    }


def _describe_slopes(slopes: tuple[float, float]) -> dict[str, float]:
    return dict(zip(("least", "most"), slopes))
