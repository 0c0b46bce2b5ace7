"""Expected results of `edge_ocr.core` for recorded outputs, drawn maps, boxes and texts: expected.json and arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, replace
from types import MappingProxyType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from golden_cases import LABEL, SIGN, TURNED, WIDE, View
from golden_windows import expect_large_maps, expect_large_spans
from golden_words import describe_words, expect_joined_spans, expect_spans, expect_words

from edge_ocr.config import load_config
from edge_ocr.core.charset import Charset
from edge_ocr.core.detection import find_boxes
from edge_ocr.core.direction import order_logically
from edge_ocr.core.geometry import crop_polygon, fit_quad, order_corners, sort_reading_order, unclip
from edge_ocr.core.imaging import (
    add_border,
    plan_border,
    plan_detection_size,
    prepare_detection,
    prepare_lines,
    resize_line,
)
from edge_ocr.core.orientation import OrientationClassifier
from edge_ocr.core.page import PageClassifier, prepare_page, turn_back, turn_upright
from edge_ocr.core.pipeline import TextReader, choose_turns
from edge_ocr.core.recognition import MAX_WIDTH, Part, TextRecognizer, cut_line, join_readings, plan_batches, plan_width
from edge_ocr.core.settings import DetectionSettings, OrientationSettings, PageOrientationSettings, RecognitionSettings
from edge_ocr.core.trust import UntrustedError, check_manifest
from edge_ocr.core.types import TextBox
from edge_ocr.core.windows import grow_box, has_fine_print, merge_boxes, plan_spans
from edge_ocr.core.words import LineText

# Every n-th row and column of a crop is kept.
CROP_STRIDE = 3

# Machines differ in the last digits.
DIGITS = 5


class ReplayEngine:
    """Replays recorded outputs run by run. Raises ValueError if an input has another shape than recorded."""

    name = "replay"

    def __init__(self, runs: Iterator[tuple[list[int], np.ndarray]]) -> None:
        self.runs = runs

    def run(self, array: np.ndarray) -> np.ndarray:
        shape, output = next(self.runs)
        if list(array.shape) != shape:
            raise ValueError(f"the input is {array.shape}, recorded was {shape}")
        return output


def read_settings(settings: dict[str, Any]) -> SimpleNamespace:
    detection = {key: tuple(v) if isinstance(v, list) else v for key, v in settings["detection"].items()}
    return SimpleNamespace(
        detection=DetectionSettings(**detection),
        recognition=RecognitionSettings(**settings["recognition"]),
        orientation=OrientationSettings(**settings["orientation"]),
        page_orientation=PageOrientationSettings(
            **{key: tuple(v) if isinstance(v, list) else v for key, v in settings["page_orientation"].items()}
        ),
    )


def read_view(case: dict[str, Any]) -> np.ndarray:
    return View(case["picture"], tuple(case["crop"]), case["turns"]).cut()


def open_reader(case: dict[str, Any], classes: Sequence[str], arrays: dict[str, np.ndarray]) -> TextReader:
    """Return a reader whose networks replay the outputs recorded for `case`."""

    def replay(kind: str) -> ReplayEngine:
        flat = arrays[f"{case['name']}.{kind}"]
        flat = flat.astype(np.float32) / np.float32(255) if kind == "det" else flat

        def iterate() -> Iterator[tuple[list[int], np.ndarray]]:
            start = 0
            for run in case["runs"]:
                if run["model"] == kind:
                    size = int(np.prod(run["output"]))
                    yield run["input"], flat.reshape(-1)[start : start + size].reshape(run["output"])
                    start += size

        return ReplayEngine(iterate())

    engines = {kind: replay(kind) for kind in ("det", "rec", "cls")}
    return TextReader.build(engines, Charset(tuple(classes)), read_settings(case["settings"]))


def expect(recorded: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the content of expected.json, and its arrays."""
    made: dict[str, np.ndarray] = {}
    content = {
        "crop_stride": CROP_STRIDE,
        "cases": [_expect_case(case, recorded["classes"], arrays, made) for case in recorded["cases"]],
        "maps": list(_expect_maps(made)),
        "detection_sizes": list(_expect_detection_sizes()),
        "widths": [
            {"line_width": w, "min_width": m, "width": plan_width(w, m)}
            for m in (32, 320)
            for w in (1, 32, 63, 64, 65, 319, 320, 321, 384, 385, 3199, 3200)
        ],
        "batches": [
            {"widths": widths, "batch_size": size, "batches": plan_batches(widths, size)}
            for size in (1, 3, 8)
            for widths in ([], [192], [192] * 7 + [640] * 3 + [1280, 3200, 3200], [384, 192, 320, 192, 192, 384, 192])
        ],
        "line_widths": [
            {"height": h, "width": w, "line_width": resize_line(np.zeros((h, w, 3), np.uint8), 48, MAX_WIDTH).shape[1]}
            for h, w in ((48, 100), (1, 1), (100, 1), (7, 53), (31, 997), (5, 600), (96, 333), (47, 47))
        ],
        "borders": list(_expect_borders(made)),
        "spans": list(_expect_spans()),
        "large_spans": list(expect_large_spans()),
        "large_maps": list(expect_large_maps(made)),
        "fine_prints": list(_expect_fine_prints()),
        "merges": list(_expect_merges()),
        "cuts": list(_expect_cuts()),
        "joins": list(_expect_joins()),
        "directions": list(_expect_directions()),
        "word_spans": list(expect_spans(made)),
        "joined_spans": list(expect_joined_spans()),
        "words": list(expect_words()),
        "quads": list(_expect_quads()),
        "unclipped": list(_expect_unclipped()),
        "corner_orders": list(_expect_corner_orders()),
        "reading_orders": list(_expect_reading_orders()),
        "detection_inputs": list(_expect_detection_inputs(made)),
        "line_inputs": list(_expect_line_inputs(made)),
        "ctc": list(_expect_texts(made)),
        "arabic": list(_expect_arabic(made)),
        "orientations": list(_expect_orientations(made)),
        "page_inputs": list(_expect_page_inputs(made)),
        "page_turns": list(_expect_page_turns()),
        "page_polygons": list(_expect_page_polygons()),
        "page_choices": list(_expect_page_choices()),
        "signatures": list(_expect_signatures()),
    }
    return json.loads(json.dumps(content)), made


def _round(values: Any) -> Any:
    return np.round(np.asarray(values, dtype=np.float64), DIGITS).tolist()


def _describe_boxes(boxes: list[TextBox]) -> list[dict[str, Any]]:
    return [{"polygon": box.polygon.astype(int).tolist(), "det_score": _round(box.det_score)} for box in boxes]


def _expect_case(case: Any, classes: Sequence[str], arrays: Any, made: dict[str, np.ndarray]) -> dict[str, Any]:
    image = read_view(case)
    lines = open_reader(case, classes, arrays).read_all(image, {})
    boxes = [TextBox(line.polygon, line.det_score) for line in lines]
    crops = [crop_polygon(image, box.polygon) for box in boxes]
    thin = [crop[::CROP_STRIDE, ::CROP_STRIDE].reshape(-1) for crop in crops]
    read = open_reader(case, classes, arrays).read(image, words="chars").lines
    made[f"{case['name']}.crops"] = np.concatenate([*thin, np.zeros(0, np.uint8)])
    return {
        "name": case["name"],
        "height": image.shape[0],
        "width": image.shape[1],
        "boxes": _describe_boxes(boxes),
        "crops": [list(crop.shape[:2]) for crop in crops],
        "lines": [{"text": line.text, "rec_score": _round(line.rec_score)} for line in lines],
        "read": [line.text for line in read],
        "words": [describe_words(line.words or ()) for line in read],
    }


def _expect_spans() -> Iterator[dict[str, Any]]:
    for length in (1, 32, 100, 928, 959, 960, 961, 1000, 1700, 1792, 1793, 5000, 12001):
        size, spans = plan_spans(length)
        yield {"length": length, "size": size, "spans": [astuple(span) for span in spans]}


def _make_boxes(*places: tuple[int, int, int, int]) -> list[TextBox]:
    """Return upright boxes: x, y, width, height."""
    corners = [[[x, y], [x + w, y], [x + w, y + h], [x, y + h]] for x, y, w, h in places]
    return [TextBox(np.array(quad, np.float32), 0.5 + 0.01 * i) for i, quad in enumerate(corners)]


def _expect_fine_prints() -> Iterator[dict[str, Any]]:
    rows = [(10, 16 + 40 * i, 740, 24) for i in range(5)]
    for view, places in (
        (View(WIDE, (0, 0, 800, 224)), []),
        (View(WIDE, (0, 0, 800, 224), 1), []),
        (View(WIDE, (800, 0, 900, 224)), []),
        (View(SIGN, (0, 0, 640, 430)), []),
        (View(LABEL, (0, 0, 640, 460)), [(0, 0, 640, 60)]),
        (View(WIDE, (20, 20, 15, 15)), []),
        (View(WIDE, (0, 0, 800, 224)), rows),
        (View(WIDE, (0, 0, 800, 224)), rows[1:]),
        # Too high to be one of its lines.
        (View(WIDE, (0, 0, 800, 224)), [(0, 0, 800, 224)]),
    ):
        boxes = _make_boxes(*places)
        described = [box.polygon.tolist() for box in boxes]
        yield {**asdict(view), "boxes": described, "has_fine_print": has_fine_print(view.cut(), boxes)}


def _expect_borders(made: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    for i, view in enumerate(
        (View(WIDE, (17, 23, 352, 20)), View(SIGN, (30, 20, 63, 51)), View(LABEL, (0, 0, 161, 160)))
    ):
        image = view.cut()
        border = plan_border(*image.shape[:2])
        made[f"border_{i}"] = add_border(image, border)
        yield {**asdict(view), "name": f"border_{i}", "border": border}
    for height, width in ((64, 64), (65, 65), (64, 3000), (160, 640), (160, 639), (161, 9000), (1, 1), (900, 200)):
        yield {"height": height, "width": width, "border": plan_border(height, width)}


def _expect_merges() -> Iterator[dict[str, Any]]:
    """Yield boxes of two passes: covered, side by side, several lines in one, and pieces of large text."""

    slanted = [TextBox(np.array([[400, 300], [520, 360], [507, 386], [387, 326]], np.float32), 0.75)]
    small = _make_boxes((10, 10, 200, 20), (10, 40, 200, 20), (300, 12, 90, 22))
    high = _make_boxes((20, 100, 300, 110), (360, 100, 280, 150), (20, 210, 90, 30))
    for fine, coarse, scale in (
        (small, _make_boxes((8, 8, 204, 60), (296, 6, 100, 30), (700, 10, 80, 40)), 1.0),
        (small, _make_boxes((8, 8, 204, 160), (10, 200, 50, 20)), 1.0),
        (high, _make_boxes((10, 95, 660, 160)), 0.126),
        (high, _make_boxes((10, 95, 660, 160)), 0.124),
        (slanted, _make_boxes((380, 290, 150, 110), (450, 330, 20, 20)), 1.0),
        ([], small, 1.0),
        (small, [], 1.0),
        # Touching, unclear and clear.
        (small, _make_boxes((180, 52, 60, 20), (205, 90, 30, 20)), 0.9),
        (small, _make_boxes((180, 52, 60, 20), (205, 90, 30, 20)), 1.0),
        # Just over and just under half as high; nearly as long.
        (_make_boxes((20, 100, 300, 66)), _make_boxes((10, 95, 660, 160)), 1.0),
        (_make_boxes((20, 100, 300, 63)), _make_boxes((10, 95, 660, 160)), 1.0),
        (_make_boxes((20, 100, 560, 120)), _make_boxes((10, 95, 660, 160)), 1.0),
    ):
        boxes = merge_boxes([grow_box(box, 400, 650) for box in fine], coarse, scale)
        yield {
            "fine": [box.polygon.tolist() for box in fine],
            "coarse": [box.polygon.tolist() for box in coarse],
            "scale": scale,
            "height": 400,
            "width": 650,
            "merged": [box.polygon.tolist() for box in boxes],
        }


def _expect_cuts() -> Iterator[dict[str, Any]]:
    for view in (View(WIDE, (0, 20, 3200, 22)), View(WIDE, (0, 20, 760, 5)), View(WIDE, (0, 20, 700, 22))):
        parts = cut_line(resize_line(view.cut(), 48))
        yield {**asdict(view), "parts": [[part.line.shape[1], part.before_space] for part in parts]}


def _expect_joins() -> Iterator[dict[str, Any]]:
    for pieces in (
        [("one", 0.9, True), ("two", 0.6, False)],
        [("one", 0.9, False), ("two", 0.6, False)],
        [("one ", 0.9, True), ("two", 0.6, True), ("", 0.0, True), ("3", 0.5, False)],
        [("文字", 0.8, True), ("识别", 0.7, True), ("a", 1.0, False)],
        [("", 0.0, True), ("", 0.0, False)],
    ):
        parts = [Part(np.zeros((1, 1, 3), np.uint8), before_space) for _, _, before_space in pieces]
        joined = join_readings(parts, [LineText(text, score) for text, score, _ in pieces])
        yield {"pieces": pieces, "text": joined.text, "score": _round(joined.score)}


def _expect_maps(made: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Yield drawn maps: shapes at the border, with holes, touching corners, too small, faint and slanted."""
    rows, columns = np.mgrid[0:160, 0:192]
    edges = np.zeros((160, 192), np.uint8)
    edges[0:9, 0:40] = 255
    edges[150:, 170:] = 230
    edges[60:70, 188:] = 255
    # Squares that touch at a corner are one shape.
    edges[30:42, 20:50] = edges[42:54, 50:80] = 200
    rings = np.zeros((160, 192), np.uint8)
    for x, y, inner, outer in ((50, 50, 30, 44), (140, 60, 4, 30), (90, 120, 12, 20)):
        distance = np.hypot(columns - x, rows - y)
        rings[(distance >= inner) & (distance < outer)] = 220
    rings[45:56, 40:60] = 255
    rings[112:129, 20:60] = 180
    rings[116:124, 24:56] = 90
    slanted = np.zeros((160, 192), np.uint8)
    for x, y, angle, length, width in (
        (60, 40, 20, 50, 7),
        (130, 60, -35, 40, 5),
        (60, 110, 78, 35, 6),
        (140, 130, 3, 45, 8),
    ):
        cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        along = (columns - x) * cosine + (rows - y) * sine
        across = (rows - y) * cosine - (columns - x) * sine
        slanted[(np.abs(along) < length) & (np.abs(across) < width)] = 240
    # Thin and bent, as networks see slanted lines; broken in two, and the last with a short, uncertain piece.
    bent = np.zeros((160, 192), np.uint8)
    for x, y, angle, rest in ((40, 60, 45, 25), (100, 60, 42, 12), (110, 140, -32, 25)):
        cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        along = (columns - x) * cosine + (rows - y) * sine
        across = (rows - y) * cosine - (columns - x) * sine
        stroke = np.abs(across - 3 * np.sin(along / 9)) < 2.5
        bent[stroke & (along > -50) & (along < 20)] = 250
        bent[stroke & (along > 24) & (along < 24 + rest)] = 200
    specks = np.zeros((160, 192), np.uint8)
    for i in range(12):
        specks[4 + 12 * i : 4 + 13 * i, 10 : 12 + 14 * i] = 255
    specks[20:40, 150:190:2] = 255
    specks[100:120, 180:190] = 100
    settings = load_config("OCR").detection
    for name, array, changes in (
        ("edges", edges, {}),
        ("rings", rings, {}),
        ("rings_faint", rings, {"box_threshold": 0.1, "unclip_ratio": 0.4}),
        ("slanted", slanted, {"unclip_ratio": 1.8}),
        ("bent", bent, {}),
        ("bent_firm", bent, {"box_threshold": 0.7}),
        ("specks", specks, {}),
        ("specks_few", specks, {"max_candidates": 3}),
        ("empty", np.zeros((32, 32), np.uint8), {}),
        ("full", np.full((32, 64), 255, np.uint8), {}),
    ):
        changed = replace(settings, **changes)
        height, width = 2 * array.shape[0] + 13, array.shape[1] - 11
        made[f"map_{name}"] = array
        boxes = find_boxes(array.astype(np.float32) / np.float32(255), height, width, changed)
        yield {
            "name": f"map_{name}",
            "settings": asdict(changed),
            "height": height,
            "width": width,
            "boxes": _describe_boxes(boxes),
        }


def _expect_detection_sizes() -> Iterator[dict[str, Any]]:
    settings = load_config("OCR").detection
    for limit_type, limit in (("max", 960), ("max", 320), ("min", 736), ("long", 960), ("min", 4000)):
        for height, width in (
            (1, 1),
            (48, 48),
            (460, 640),
            (960, 960),
            (1000, 2000),
            (9000, 12000),
            (30, 5000),
            (721, 1),
        ):
            changed = replace(settings, limit_type=limit_type, limit_side_len=limit)
            yield {
                "height": height,
                "width": width,
                "limit_type": limit_type,
                "limit_side_len": limit,
                "size": plan_detection_size(height, width, changed),
            }


def _expect_quads() -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(6)
    clouds = [random.integers(0, 200, (n, 2)) for n in (3, 4, 5, 9, 40, 200)]
    # Points along a slanted stroke, as outlines of text have them.
    for angle in (3, 17, 44, 61, 88, -12, -45):
        cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        stroke = random.uniform(-1, 1, (60, 2)) * (90, 11)
        clouds.append(np.round(stroke @ [[cosine, sine], [-sine, cosine]] + (200, 200)).astype(int))
    clouds += [np.array([[5, 5], [45, 5], [45, 20], [5, 20]]), np.array([[3, 4]]), np.array([[1, 1], [4, 5], [7, 9]])]
    for points in clouds:
        quad, side = fit_quad(points.astype(np.float32))
        yield {"points": points.tolist(), "quad": _round(quad), "side": _round(side)}


def _expect_unclipped() -> Iterator[dict[str, Any]]:
    for x, y, width, height, angle, ratio in (
        (80, 60, 60, 12, 0, 1.5),
        (80.5, 60.5, 61, 11.5, 9, 1.5),
        (90, 90, 70, 9, -31, 1.5),
        (90, 90, 100, 30, 45, 2.0),
        (120, 90, 4, 3, 20, 1.5),
        (120, 90, 40, 5, 77, 0.2),
        (120, 90, 12, 12, 5, 3.0),
        (300, 300, 400, 90, 13, 1.5),
        # Truncated to whole pixels it is a line, and then a point.
        (80.5, 60.5, 60, 0.6, 0, 1.5),
        (80.5, 60.5, 0.5, 0.5, 0, 1.5),
    ):
        quad = order_corners(cv2.boxPoints(((x, y), (width, height), angle)))
        outline = unclip(quad, ratio)
        # The offsetting library's order of corners does not matter.
        grown, side = (None, None) if outline is None else fit_quad(outline)
        yield {
            # Exact in float32, because truncation depends on it.
            "quad": quad.astype(float).tolist(),
            "ratio": ratio,
            "grown": None if grown is None else _round(grown),
            "side": None if side is None else _round(side),
        }


def _expect_corner_orders() -> Iterator[dict[str, Any]]:
    for corners in (
        [[0, 0], [9, 0], [9, 4], [0, 4]],
        [[9, 4], [0, 4], [0, 0], [9, 0]],
        [[4, 0], [8, 4], [4, 8], [0, 4]],
        [[2, 9], [0, 1], [7, 0], [9, 8]],
        [[10, 3], [2, 6], [0, 2], [8, -1]],
        *[
            np.rint(cv2.boxPoints(((90, 90), (120, 18), angle))).tolist()
            for angle in (-75, -60, -45, -30, 30, 45, 60, 75)
        ],
        # Short ones, where the longer side is no longer the upper one.
        *[np.rint(cv2.boxPoints(((90, 90), (40, 20), angle))).tolist() for angle in (-75, -60, -45, 45, 60, 75)],
    ):
        yield {"corners": corners, "ordered": order_corners(np.array(corners, np.float32)).tolist()}


def _expect_reading_orders() -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(7)
    for count, jitter in ((0, 0), (1, 0), (12, 4), (30, 9), (30, 14), (40, 40)):
        polygons = []
        for i in range(count):
            x, y = 90 * (i % 4), 24 * (i // 4) + random.integers(-jitter, jitter + 1)
            polygons.append([[x, y], [x + 70, y], [x + 70, y + 20], [x, y + 20]])
        random.shuffle(polygons)
        yield _describe_order(polygons)
    # Tables on a tilted page, with a vertical note next to them, and pages without a measurable tilt.
    for angle, columns, spread in (
        *((angle, 4, 0) for angle in (-10, -5, -2.5, -0.3, 0.3, 2.5, 5, 10)),
        (3, 4, 1.5),
        (3, 4, 20),
        (6, 1, 0),
        (16, 4, 0),
    ):
        polygons = []
        for i in range(5 * columns):
            left, top = 280 * (i % columns), 70 * (i // columns)
            corners = np.array([[left, top], [left + 150, top], [left + 150, top + 28], [left, top + 28]])
            polygons.append(_turn(corners, angle + random.uniform(-spread, spread)))
        polygons.append(_turn(np.array([[1150, 0], [1180, 0], [1180, 300], [1150, 300]]), angle))
        random.shuffle(polygons)
        yield _describe_order(polygons)


def _turn(corners: np.ndarray, angle: float) -> list[list[int]]:
    """Turn corners clockwise around the origin, by degrees; in whole pixels."""
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.rint(corners @ [[cosine, sine], [-sine, cosine]] + (300, 300)).astype(int).tolist()


def _describe_order(polygons: list[list[list[int]]]) -> dict[str, Any]:
    boxes = [TextBox(np.array(polygon, np.float32), float(i)) for i, polygon in enumerate(polygons)]
    orders = [[int(box.det_score) for box in sort_reading_order(boxes, rtl)] for rtl in (False, True)]
    return {"polygons": np.array(polygons).tolist(), "order": orders[0], "right_to_left": orders[1]}


def _expect_detection_inputs(made: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    settings = load_config("OCR").detection
    for name, view, changes in (
        ("shrunk", View(LABEL, (60, 80, 150, 110)), {"limit_side_len": 96}),
        ("enlarged", View(SIGN, (100, 130, 50, 37)), {"limit_side_len": 64, "limit_type": "min"}),
        ("halved", View(SIGN, (100, 130, 128, 64)), {"limit_side_len": 64}),
        ("as_it_is", View(TURNED, (300, 90, 64, 32)), {}),
        ("strip", View(TURNED, (300, 90, 150, 3), 1), {"limit_side_len": 96}),
    ):
        changed = replace(settings, **changes)
        made[f"input_{name}"] = prepare_detection(view.cut(), changed)
        yield {"name": f"input_{name}", **asdict(view), "settings": asdict(changed)}


def _expect_line_inputs(made: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    for name, height, max_width, width, views in (
        ("lines", 32, 200, 192, (View(LABEL, (60, 90, 130, 24)), View(SIGN, (150, 150, 90, 61)))),
        ("narrow", 24, 64, 64, (View(TURNED, (300, 90, 7, 40)), View(TURNED, (200, 150, 300, 20)))),
        ("lost", 16, 100, 32, (View(TURNED, (300, 90, 1, 1)),)),
    ):
        lines = [resize_line(view.cut(), height, max_width) for view in views]
        made[f"input_{name}"] = prepare_lines(lines, width)
        yield {
            "name": f"input_{name}",
            "image_height": height,
            "max_width": max_width,
            "width": width,
            "views": list(map(asdict, views)),
        }


def _expect_texts(made: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    # One class is two characters of UTF-16, one is two of Unicode, one is a space.
    classes = ("", *"abcde", "é", "文", "𠮷", "e\u0301", " ")
    random = np.random.default_rng(8)
    space = classes.index(" ")
    for name, path in (
        ("repeats", [1, 1, 0, 1, 2, 2, 0, 0, 2, 3]),
        ("blank", [0, 0, 0, 0]),
        ("step", [7]),
        ("wide", [8, 8, 10, 9, 0, 9, 6, 7]),
        ("full", [1, 2, 3, 4, 5]),
        ("noise", None),
        ("tie", None),
    ):
        probs = random.dirichlet(np.full(len(classes), 0.4), len(path) if path else 40).astype(np.float32)
        if path:
            probs[np.arange(len(path)), path] += 1
            probs /= probs.sum(axis=1, keepdims=True)
        if name == "tie":
            # The first of equal ones counts.
            probs = np.round(probs, 1)
        made[f"ctc_{name}"] = probs.astype(np.float32)
    # Steps "-" are blanks that a weight makes spaces; those at the ends and next to other spaces stay blanks.
    for name, steps in (
        ("space_inner", "ab-c--d.-.e"),
        ("space_repeat", "a-a"),
        ("space_leading", "-.a-b"),
        ("space_trailing", "a-b.-"),
        ("space_double", "a -b-. c.- -d"),
        ("space_only", "--.-"),
    ):
        probs = np.full((len(steps), len(classes)), 0.02, np.float32)
        for step, character in enumerate(steps):
            probs[step, classes.index(character) if character not in ".-" else 0] = 0.6 + 0.01 * step
            probs[step, space] += 0.1 * (character == "-")
        made[f"ctc_{name}"] = probs
    for name in [name for name in made if name.startswith("ctc_")]:
        for space_weight in (1, 10):
            decoded = Charset(classes).decode(made[name], space_weight)
            yield {
                "name": name,
                "classes": classes,
                "space_weight": space_weight,
                "text": decoded.text,
                "score": _round(decoded.score),
                "pieces": decoded.pieces,
                "scores": _round(decoded.scores),
                "starts": decoded.starts.tolist(),
                "ends": decoded.ends.tolist(),
            }


# Texts in the order of the picture.
VISUAL_TEXTS = (
    "abc (12)",
    "ملاعلا ابحرم",
    "PP-OCRv6 جمانرب",
    "(ملاع) ابحرم",
    "12:30 ةعاسلا",
    "50% مصخ",
    "%50 مصخ",
    "05/12/2024 خيراتلا",
    "+966 50 123 4567 فتاه",
    ".كلذ دعب ,Hello World",
    "٢٠٢٤ ةنس",
    "٪٥٠ - ٣٫٥",
    "C++ و Java ةغل",
    "ß 3 - 7 é «ملاع»",
    "לארשי 2024 - A4 טמרופ",
    "𠮷]م[",
    "",
)


def _expect_directions() -> Iterator[dict[str, Any]]:
    for text in VISUAL_TEXTS:
        yield {"visual": text, "logical": order_logically(text)}


def _expect_arabic(made: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    settings = replace(load_config("OCR").recognition, direction="rtl")
    classes = ("", *sorted(set("".join(VISUAL_TEXTS[1:9]) + " ")))
    random = np.random.default_rng(9)
    for index, visual in enumerate(VISUAL_TEXTS[1:9]):
        path = [classes.index(character) for character in visual]
        # A blank between all characters, so that repeats are kept.
        steps = np.array([step for character in path for step in (character, character, 0)])
        probs = random.dirichlet(np.full(len(classes), 0.4), len(steps)).astype(np.float32)
        probs[np.arange(len(steps)), steps] += 1
        made[f"arabic_{index}"] = (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)
        reader = TextRecognizer(FixedEngine(made[f"arabic_{index}"][np.newaxis]), Charset(classes), settings)
        (line,) = reader.recognize([np.zeros((48, 300, 3), np.uint8)])
        yield {"name": f"arabic_{index}", "classes": classes, "text": line.text, "score": _round(line.score)}


class FixedEngine:
    """Gives rows of a table, as many as are asked for."""

    name = "fixed"

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self.start = 0

    def run(self, array: np.ndarray) -> np.ndarray:
        self.start += len(array)
        return self.rows[self.start - len(array) : self.start]


def _expect_orientations(made: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    settings = load_config("OCR").orientation
    turned_probs = np.array([0, 0.05, 0.11, 0.3, 0.5, 0.7, 0.89, 0.91, 1, 0.2, 0.95, 0.4, 0.02, 0.99], np.float32)
    for name, threshold in (("default", settings.threshold), ("even", 0.5), ("eager", 0.25)):
        rows = np.stack([1 - turned_probs, turned_probs], axis=1)
        made[f"orientation_{name}"] = rows
        classifier = OrientationClassifier(FixedEngine(rows), replace(settings, threshold=threshold))
        turned, unsure = classifier.find_turned([np.zeros((9, 20, 3), np.uint8)] * len(rows))
        described = asdict(replace(settings, threshold=threshold))
        yield {"name": f"orientation_{name}", "settings": described, "turned": turned, "unsure": unsure}


def _expect_page_inputs(made: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    settings = load_config("OCR").page_orientation
    for name, view, turns, changes in (
        ("across", View(LABEL, (60, 80, 150, 110)), 0, {}),
        ("down", View(SIGN, (100, 130, 75, 130)), 1, {}),
        ("strip", View(TURNED, (300, 90, 150, 31)), 2, {}),
        ("tower", View(TURNED, (300, 90, 150, 13), 1), 3, {"resize_short": 40}),
        ("oblong", View(SIGN, (100, 130, 128, 64)), 0, {"image_height": 48, "image_width": 80}),
    ):
        changed = replace(settings, **{"resize_short": 72, "image_height": 64, "image_width": 64, **changes})
        made[f"page_{name}"] = prepare_page(turn_upright(view.cut(), turns), changed)
        yield {"name": f"page_{name}", **asdict(view), "quarters": turns, "settings": asdict(changed)}


def _expect_page_turns() -> Iterator[dict[str, Any]]:
    settings = load_config("OCR").page_orientation
    for probs, threshold in (
        ([0.93, 0.03, 0.02, 0.02], settings.threshold),
        ([0.03, 0.92, 0.03, 0.02], settings.threshold),
        ([0.02, 0.2, 0.5, 0.28], settings.threshold),
        ([0.02, 0.02, 0.03, 0.93], 0.95),
        # The first of equal ones counts.
        ([0.25, 0.25, 0.25, 0.25], 0.2),
    ):
        engine = FixedEngine(np.array([probs], np.float32))
        changed = replace(settings, threshold=threshold)
        turns, is_certain = PageClassifier(engine, changed).find_turns(np.zeros((30, 20, 3), np.uint8))
        yield {"probs": probs, "settings": asdict(changed), "turns": turns, "is_certain": is_certain}


def _expect_page_polygons() -> Iterator[dict[str, Any]]:
    polygon = np.array([[10, 20], [70, 24], [68, 40], [8, 36]], np.float32)
    for turns in range(4):
        yield {"polygon": polygon.tolist(), "turns": turns, "back": turn_back(polygon, turns, 300, 200).tolist()}


def _expect_page_choices() -> Iterator[dict[str, Any]]:
    across, down = [[0, 0], [90, 0], [90, 20], [0, 20]], [[0, 0], [20, 0], [20, 70], [0, 70]]
    for lines in (
        [],
        [(across, 0.9, 0.3)],
        [(across, 0.3, 0.9)],
        [(down, 0.9, 0.3)],
        [(down, 0.3, 0.9)],
        # Neither reads clearly better, or well.
        [(across, 0.9, 0.85), (down, 0.4, 0.1)],
        [(across, 0.95, 0.6), (down, 0.2, 0.99), (down, 0.8, 0.9)],
        [(across, 0.95, 0.3), (down, 0.2, 0.99), (across, 0.9, 0.5)],
    ):
        found = choose_turns([np.array(line[0], np.float32) for line in lines], [line[1:] for line in lines], 0.5)
        yield {"lines": [{"polygon": p, "score": s, "other": o} for p, s, o in lines], "turns": found}


def _expect_signatures() -> Iterator[dict[str, Any]]:
    """Manifests with and without signatures, and how a device that trusts `keys` judges them."""
    # Seeds, so that the keys and the signatures are always the same.
    ours, another = (
        Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name).digest()) for name in (b"ours", b"other")
    )
    manifest = '{\n  "release": {"name": "demo", "counter": 7},\n  "files": {}\n}\n'
    signature = ours.sign(manifest.encode())
    # S + L: the same signature for a check that does not ask whether S is below the order of the group.
    order = 2**252 + 27742317777372353535851937790883648493
    malleable = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")

    def describe(
        name: str, text: str, made: bytes | None, *, keys: Any = (ours,), seen: Any = MappingProxyType({})
    ) -> dict[str, Any]:
        public = [key.public_key().public_bytes_raw() for key in keys]
        case = {
            "name": name,
            "manifest": text,
            "signature": None if made is None else made.hex(),
            "keys": [key.hex() for key in public],
            "seen": dict(seen),
        }
        try:
            return {**case, "release": asdict(check_manifest(text.encode(), made, public, seen)), "error": None}
        except UntrustedError as error:
            return {**case, "release": None, "error": str(error)}

    def sign(name: str, text: str, **options: Any) -> dict[str, Any]:
        return describe(name, text, ours.sign(text.encode()), **options)

    yield describe("trusted", manifest, signature)
    yield describe("trusted by the second key", manifest, signature, keys=(another, ours))
    yield describe("the same again", manifest, signature, seen={"demo": 7})
    yield describe("newer", manifest, signature, seen={"demo": 6, "other": 100})
    yield describe("older", manifest, signature, seen={"demo": 8})
    yield describe("unsigned", manifest, None)
    yield describe("wrong key", manifest, another.sign(manifest.encode()))
    yield describe("changed", manifest.replace("7", "8"), signature)
    yield describe("swapped", manifest, ours.sign(b"another manifest"))
    yield describe("short", manifest, signature[:63])
    yield describe("long", manifest, signature + b"\n")
    yield describe("empty", manifest, b"")
    yield describe("zeros", manifest, bytes(64))
    yield describe("malleable", manifest, malleable)
    yield sign("no release", '{"release": null}')
    yield sign("not JSON", "release: demo")
    yield sign("a list", "[]")
    yield sign("a counter that is text", '{"release": {"name": "demo", "counter": "7"}}')
    yield sign("a counter that is true", '{"release": {"name": "demo", "counter": true}}')
    yield sign("a counter with a fraction", '{"release": {"name": "demo", "counter": 7.5}}')
    yield sign("a counter below zero", '{"release": {"name": "demo", "counter": -1}}')
    yield sign("the largest counter", '{"release": {"name": "demo", "counter": 9007199254740991}}')
    yield sign("a counter that is too large", '{"release": {"name": "demo", "counter": 9007199254740992}}')
    yield sign("a name with a slash", '{"release": {"name": "../demo", "counter": 7}}')
    yield sign("an empty name", '{"release": {"name": "", "counter": 7}}')
